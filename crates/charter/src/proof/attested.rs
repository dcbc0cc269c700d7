//! What a quorum attested, and whether the rest of a file goes with it.

use super::{ProofFault, form};
use crate::Charter;
use crate::body::StateAttest;
use crate::map::{self, Map, MapError, RecordValue, RosterValue};
use record::proof::{Proof, Proved};
use record::{Digest, Entry, Pin, Roster, canon};
use std::collections::{BTreeMap, BTreeSet};

/// What differs where members, keys and hub do not.
pub(super) const UNSEEN: &str = "what was proposed, accepted, contested or sealed, or where";

/// What a quorum attested, as a proof was found to show it.
#[derive(Clone, Debug)]
pub struct Attested {
    /// Whether the charter was pinned from outside.
    pub pin: Pin,
    /// The charter, as it was signed.
    pub charter: Charter,
    /// Its digest.
    pub charter_digest: Digest,
    /// The size at which the state was attested: the proof speaks of entries `0..size`.
    pub size: u64,
    /// The root of its map.
    pub root: Digest,
    /// Version of the protocol then.
    pub version: u32,
    /// Who attested it.
    pub by: BTreeSet<String>,
    /// How many organisations had to when the last of them did.
    pub needed: u32,
    /// Entries covered by the checkpoint that includes the attests.
    pub covered: u64,
    /// Who cosigned it, and when, seconds since the epoch.
    pub cosigned: BTreeMap<String, u64>,
    /// How many organisations must cosign there.
    pub quorum: u32,
    /// Members and keys at the attested size, as charter and changes give them.
    roster: Roster,
    /// Index of the first change of members, keys or hub in the file.
    changed: Option<u64>,
}

/// What an attest says; nothing if it is none.
fn said(entry: &str) -> Option<StateAttest> {
    Entry::from_bytes(entry.as_bytes()).ok()?.signed.statement().body_as().ok()
}

/// Checks that a quorum of the members attested one state in entries that the checkpoint covers, with the charter's
/// members and keys as the changes in the proof leave them.
///
/// # Errors
/// The first thing that is broken.
pub fn attested(proof: &Proof, pin: Option<Digest>) -> Result<Attested, ProofFault> {
    let size = proof.entries.first().and_then(|one| said(&one.entry)).map_or(0, |attest| attest.size);
    let last = proof.entries.last().map_or(0, |one| one.index);
    let proved: Proved = proof.verify_at(pin, &[size, last])?;
    let charter: Charter = canon::from_value(proved.document).map_err(|e| form(format!("charter: {e}")))?;
    charter.check("charter", "").map_err(form)?;
    // Who counts: the members when the last of the attests was said.
    let counting = proved.rosters.get(&last).unwrap_or(&proved.roster);
    let mut said: Option<StateAttest> = None;
    let (mut by, mut organisations) = (BTreeSet::new(), BTreeSet::new());
    for (index, entry) in &proved.entries {
        let wrong = |why: &str| ProofFault::Attest { index: *index, why: why.to_owned() };
        let statement = entry.signed.statement();
        if statement.r#type != StateAttest::TYPE {
            return Err(wrong(&format!("it is `{}`", statement.r#type)));
        }
        let attest: StateAttest = statement.body_as().map_err(|e| wrong(&e.to_string()))?;
        if attest.size == 0 || !attest.size.is_multiple_of(charter.snapshot_every()) || attest.size > *index {
            return Err(wrong("no state is attested at its size"));
        }
        if said.get_or_insert_with(|| attest.clone()) != &attest {
            return Err(wrong("another size, root or version"));
        }
        let issuer = &statement.issuer;
        if proved.suspended.contains(index) {
            return Err(wrong(&format!("`{issuer}` was suspended")));
        }
        let member = counting.members.get(issuer);
        let member =
            member.ok_or_else(|| wrong(&format!("`{issuer}` was no member when the last one was said")))?;
        if !by.insert(issuer.clone()) {
            return Err(wrong(&format!("`{issuer}` counts once")));
        }
        organisations.insert(member.operator.clone());
    }
    let (have, need) = (organisations.len() as u32, deciding(counting));
    let Some(said) = said.filter(|_| need > 0 && have >= need) else {
        return Err(ProofFault::Quorum { have, need });
    };
    Ok(Attested {
        pin: proved.pin,
        charter,
        charter_digest: proved.charter,
        size: said.size,
        root: said.root,
        version: said.version,
        by,
        needed: need,
        covered: proved.size,
        cosigned: proved.cosigned,
        quorum: proved.roster.quorum(),
        roster: proved.rosters.get(&size).unwrap_or(&proved.roster).clone(),
        changed: proved.changed,
    })
}

/// Organisations of members that must have attested: witnesses fold nothing, so they are not waited for.
pub(super) fn deciding(roster: &Roster) -> u32 {
    roster.electorate().map_or(0, |electorate| electorate.deciding())
}

impl Attested {
    /// Checks what the state says of the record itself: the size attested, the charter, and that members and keys are
    /// those that the changes in the file give. Gives the value that must stand under `roster-changes`, if one must.
    pub(super) fn check_values(
        &self,
        record: &RecordValue,
        roster: &RosterValue,
    ) -> Result<Option<Vec<u8>>, ProofFault> {
        let wrong = |why: &str| ProofFault::Value { key: "record".to_owned(), why: why.to_owned() };
        if record.size != self.size {
            return Err(wrong("another size than was attested"));
        }
        if record.charter != Some(self.charter_digest) {
            return Err(wrong("another charter"));
        }
        if record.protocol != self.version {
            return Err(wrong("another version of the protocol than was attested"));
        }
        if record.protocol > crate::body::KNOWN_VERSION {
            let known = crate::body::KNOWN_VERSION;
            return Err(wrong(&format!(
                "protocol version {}, this build knows up to {known}: upgrade",
                record.protocol
            )));
        }
        // Who signed the charter is what the attested state says.
        let mut whole = self.roster.clone();
        whole.signed_by.clone_from(&roster.signed_by);
        whole.in_force_at = roster.in_force_at;
        if let Some(what) = RosterValue::from(&whole).difference(roster) {
            return Err(ProofFault::Roster { what });
        }
        let Some(at) = roster.in_force_at.filter(|at| *at < self.size) else {
            return Err(ProofFault::NotInForce { size: self.size });
        };
        if self.changed.is_some_and(|first| first <= at) {
            return Err(ProofFault::Roster {
                what: "changes from before the charter was in force".to_owned(),
            });
        }
        whole.has_changed().then(|| canon::to_bytes(&whole).map_err(form)).transpose()
    }

    /// Checks that a whole map is the attested one.
    ///
    /// # Errors
    /// When its root is another, or it is of another record.
    pub fn check(&self, map: &Map) -> Result<(), ProofFault> {
        if map.root() != self.root {
            return Err(ProofFault::Differs { size: self.size, own: map.root(), attested: self.root });
        }
        let value = |key: &str| map.value(key).ok_or_else(|| MapError::Absent { key: key.to_owned() });
        let record = map::read("record", value("record")?).map_err(form)?;
        let roster = map::read("roster", value("roster")?).map_err(form)?;
        let whole = self.check_values(&record, &roster)?;
        // A file of the first form shows no changes, and holds where they left members, keys and hub as they were.
        if self.changed.is_some() && whole.as_deref() != map.value(map::ROSTER_CHANGES) {
            return Err(ProofFault::Roster { what: UNSEEN.to_owned() });
        }
        Ok(())
    }
}
