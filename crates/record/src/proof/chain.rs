//! The way from the charter to today: changes of members, keys and hub, and the checkpoints that sealed them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use super::{Included, Proof, ProofError, included, statement_fault};
use crate::checkpoint::{Reading, SignedCheckpoint};
use crate::digest::Digest;
use crate::electorate::Electorate;
use crate::entry::{Entry, EntryBytes};
use crate::roster::{PROPOSE, Roster, SIGN};
use crate::tree::Tree;

/// Most changes in a proof. Whoever has more takes the whole record.
pub const MAX_CHANGES: usize = 512;

/// Changes of members, keys and hub with the checkpoint that sealed them: above each of them, and cosigned by the
/// quorums of all who counted from the checkpoint before on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// The signed note, with as many cosignatures as it takes.
    pub checkpoint: String,
    /// The changes that it seals, in the order of their indices.
    pub changes: Vec<Included>,
}

/// Reads a list that is absent where it is empty: one meaning has one spelling.
pub(super) fn some<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    let list = Vec::<T>::deserialize(from)?;
    if list.is_empty() {
        return Err(serde::de::Error::custom("a list without members, which is to be left out"));
    }
    Ok(list)
}

/// Whether statements of this type change members, keys or hub of a charter that is in force.
pub(super) fn changes_roster(kind: &str) -> bool {
    Roster::reads(kind) && kind != PROPOSE && kind != SIGN
}

impl Proof {
    /// Adds the changes of members, keys and hub since the charter: `changes` are the places in `entries` of all that
    /// hold, in order; `roster` is what they give; `seals` are the checkpoints that sealed them, as members keep them, in
    /// the order of their sizes. Of these only so many are taken as the reader needs.
    ///
    /// # Errors
    /// When there are more than a proof takes, or these seals do not lead from the charter to the checkpoint.
    pub fn with_changes(
        mut self,
        entries: &[EntryBytes],
        tree: &Tree,
        roster: &Roster,
        changes: &[u64],
        seals: &[SignedCheckpoint],
    ) -> Result<Proof, ProofError> {
        if changes.len() > MAX_CHANGES {
            return Err(ProofError::Changes);
        }
        let checkpoint = SignedCheckpoint::parse(&self.checkpoint)?;
        let size = checkpoint.checkpoint().size();
        let include = |within: std::ops::Range<u64>| -> Result<Vec<Included>, ProofError> {
            let (from, to) = (within.start, within.end);
            let of = changes.iter().filter(|index| (from..to).contains(*index));
            of.map(|index| Included::of(entries, tree, *index, to)).collect()
        };
        let (mut above, mut reading) = (0, checkpoint.reading());
        // INVARIANT: at most one round for each seal, since each goes further than the one before.
        while !counts(&mut reading, roster, above, size) {
            let Some(seal) = furthest(seals, roster, above, size) else {
                return Err(unsealed(&checkpoint, roster, above));
            };
            let to = seal.checkpoint().size();
            self.seals.push(Seal { checkpoint: seal.to_note(), changes: include(above..to)? });
            above = to;
        }
        self.changes = include(above..size)?;
        // What seals no change is not needed, and a reader takes none.
        self.seals.retain(|seal| !seal.changes.is_empty());
        Ok(self)
    }
}

fn counts<'a>(reading: &mut Reading<'a>, roster: &'a Roster, above: u64, size: u64) -> bool {
    let mut enough = |e: &'a Electorate| e.suffices(&reading.cosigned_in(e).into_keys().collect());
    roster.electorates(above, size).into_iter().all(|e| enough(e))
}

/// The furthest of the seals that can follow the first `above` entries, with no more lines than that takes.
fn furthest(seals: &[SignedCheckpoint], roster: &Roster, above: u64, below: u64) -> Option<SignedCheckpoint> {
    let mut found = None;
    for seal in seals.iter().filter(|s| (above + 1..below).contains(&s.checkpoint().size())) {
        match lean(seal, &roster.electorates(above, seal.checkpoint().size())) {
            Some(seal) => found = Some(seal),
            // The more has changed, the fewer of those before have cosigned: none further on will do.
            None if found.is_some() => break,
            None => {}
        }
    }
    found
}

/// The note with the lines of so few that it still counts in each electorate; nothing if it does not.
fn lean(note: &SignedCheckpoint, electorates: &[&Arc<Electorate>]) -> Option<SignedCheckpoint> {
    let mut reading = note.reading();
    let mut named: Vec<BTreeSet<String>> =
        electorates.iter().map(|e| reading.cosigned_in(e).into_keys().collect()).collect();
    let enough = |named: &[BTreeSet<String>]| electorates.iter().zip(named).all(|(e, n)| e.suffices(n));
    if !enough(&named) {
        return None;
    }
    let all: BTreeSet<String> = named.iter().flatten().cloned().collect();
    for name in &all {
        let fewer: Vec<_> =
            named.iter().map(|n| n.iter().filter(|other| *other != name).cloned().collect()).collect();
        if enough(&fewer) {
            named = fewer;
        }
    }
    let needed: BTreeSet<String> = named.into_iter().flatten().collect();
    Some(note.of(&needed))
}

fn unsealed(note: &SignedCheckpoint, roster: &Roster, above: u64) -> ProofError {
    let size = note.checkpoint().size();
    let all = roster.electorates(above, size);
    let short = all.iter().find(|e| !e.suffices(&note.cosigned_in(e).into_keys().collect()));
    let Some(electorate) = short.or(all.last()) else { return ProofError::Quorum { have: 0, need: 0 } };
    let (have, need) = (note.cosigned_in(electorate).len() as u32, electorate.quorum());
    let from = roster.eras.iter().find(|era| era.electorate == **electorate).map_or(0, |era| era.from);
    // Where nothing has changed, there is nothing to seal.
    if all.len() == 1 {
        ProofError::Quorum { have, need }
    } else {
        ProofError::Unsealed { size, from, have, need }
    }
}

/// Follows a proof's changes from the charter on, and hears what its entries say under the keys of their time.
pub(super) struct Chain<'a> {
    proof: &'a Proof,
    /// Members and keys so far.
    pub roster: Roster,
    sizes: BTreeSet<u64>,
    /// The roster after so many entries.
    pub rosters: BTreeMap<u64, Roster>,
    /// Index of the first change.
    pub changed: Option<u64>,
    /// The entries that are proved.
    pub entries: Vec<(u64, Entry)>,
    /// Those of suspended members.
    pub suspended: BTreeSet<u64>,
}

impl<'a> Chain<'a> {
    pub(super) fn new(proof: &'a Proof, mut roster: Roster, sizes: &[u64]) -> Self {
        // Who signed the charter is not known here; that all did is what whoever believes the changes must be told by
        // an attested state, since before that none of them would have held.
        roster.in_force_at = proof.has_changes().then_some(proof.charter.index);
        Chain {
            proof,
            roster,
            sizes: sizes.iter().copied().collect(),
            rosters: BTreeMap::new(),
            changed: None,
            entries: Vec::new(),
            suspended: BTreeSet::new(),
        }
    }

    /// Follows the changes up to the checkpoint, and gives who of those who count there cosigned it.
    pub(super) fn follow(
        &mut self,
        checkpoint: &SignedCheckpoint,
    ) -> Result<BTreeMap<String, u64>, ProofError> {
        let proof = self.proof;
        let all: Vec<u64> =
            proof.seals.iter().flat_map(|s| &s.changes).chain(&proof.changes).map(|c| c.index).collect();
        let after_charter = all.first().is_none_or(|first| *first > proof.charter.index);
        if all.len() > MAX_CHANGES || !all.is_sorted_by(|a, b| a < b) || !after_charter {
            return Err(ProofError::Changes);
        }
        let root = checkpoint.checkpoint().root();
        let mut above = 0;
        for seal in &proof.seals {
            let note = SignedCheckpoint::parse(&seal.checkpoint)?;
            if seal.changes.is_empty() || note.checkpoint().size() >= checkpoint.checkpoint().size() {
                return Err(ProofError::Changes);
            }
            self.changes(&seal.changes, &note, above, checkpoint)?;
            above = note.checkpoint().size();
        }
        let cosigned = self.changes(&proof.changes, checkpoint, above, checkpoint)?;
        self.hear(u64::MAX, checkpoint.checkpoint().size(), &root)?;
        self.keep(u64::MAX);
        // Taken for granted above, and not known.
        self.roster.in_force_at = None;
        self.rosters.values_mut().for_each(|roster| roster.in_force_at = None);
        Ok(cosigned)
    }

    /// Takes the changes under a checkpoint, then checks it.
    fn changes(
        &mut self,
        changes: &[Included],
        note: &SignedCheckpoint,
        above: u64,
        checkpoint: &SignedCheckpoint,
    ) -> Result<BTreeMap<String, u64>, ProofError> {
        let claimed = note.checkpoint();
        let found = claimed.origin();
        if found != self.roster.origin {
            let expected = self.roster.origin.clone();
            return Err(ProofError::Origin { found: found.to_owned(), expected });
        }
        for one in changes {
            // INVARIANT: above what the checkpoint before covers, or those who counted before it would not be asked.
            if one.index < above {
                return Err(ProofError::Changes);
            }
            self.hear(one.index, checkpoint.checkpoint().size(), &checkpoint.checkpoint().root())?;
            self.keep(one.index);
            self.changed.get_or_insert(one.index);
            self.change(one, claimed.size(), &claimed.root())?;
        }
        if let Some(electorate) = self.roster.electorate_at(claimed.size()) {
            note.verify_hub(&electorate.hub.key)?;
        }
        let mut reading = note.reading();
        if !self.roster.watermark_ready() || !counts(&mut reading, &self.roster, above, claimed.size()) {
            return Err(unsealed(note, &self.roster, above));
        }
        let electorate = self.roster.electorate_at(claimed.size());
        let cosigned = electorate.map_or_else(BTreeMap::new, |e| reading.cosigned_in(e));
        match reading.fault(&self.roster) {
            Some(fault) => Err(fault.into()),
            None => Ok(cosigned),
        }
    }

    fn change(&mut self, one: &Included, size: u64, root: &Digest) -> Result<(), ProofError> {
        let entry = included(one, size, root)?;
        let kind = entry.signed.statement().r#type.clone();
        let none = ProofError::NoChange { index: one.index, kind: kind.clone() };
        if !changes_roster(&kind) {
            return Err(none);
        }
        let next =
            self.roster.after(one.index, &entry).map_err(|why| statement_fault(one.index, &entry, why))?;
        self.roster = next.ok_or(none)?;
        Ok(())
    }

    /// Hears the entries before `index`, under the keys so far.
    fn hear(&mut self, index: u64, size: u64, root: &Digest) -> Result<(), ProofError> {
        let proof = self.proof;
        for one in proof.entries.iter().skip(self.entries.len()).take_while(|one| one.index < index) {
            let entry = included(one, size, root)?;
            self.roster.authenticate(&entry.signed).map_err(|why| statement_fault(one.index, &entry, why))?;
            if self.roster.suspended.contains_key(&entry.signed.statement().issuer) {
                self.suspended.insert(one.index);
            }
            self.entries.push((one.index, entry));
        }
        Ok(())
    }

    /// Keeps the roster for the sizes up to `index`.
    fn keep(&mut self, index: u64) {
        for size in std::mem::take(&mut self.sizes) {
            if size <= index {
                self.rosters.insert(size, self.roster.clone());
            } else {
                self.sizes.insert(size);
            }
        }
    }
}
