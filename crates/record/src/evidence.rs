//! Evidence: a file that proves to an outsider, offline and alone, that a key broke its word.
//!
//! A member that is lied to can refuse to go on; whom others should believe is another question. So what it was shown
//! is kept in a form that needs nobody's testimony: everything that convicts is signed by the key that is convicted.
//! An honest hub or member signs nothing from which such a file can be made, whoever else lies.
//!
//! | claim | what convicts | whom |
//! | --- | --- | --- |
//! | [`TwoRoots`](Claim::TwoRoots) | two checkpoints of one size with different roots | hub |
//! | [`TwoHistories`](Claim::TwoHistories) | a checkpoint whose root is not that of the same entries in a larger one | hub |
//! | [`Backwards`](Claim::Backwards) | a checkpoint over an entry that is stamped before the one before it | hub |
//! | [`BrokenPromise`](Claim::BrokenPromise) | a receipt, and a checkpoint with something else at its index | hub |
//! | [`Overdue`](Claim::Overdue) | a receipt, and a checkpoint without its index that f + 1 members cosigned as the latest after its time | hub |
//! | [`WrongEntry`](Claim::WrongEntry) | a signed answer about entries that are not those of the tree which it names | the member |
//!
//! *Two histories* needs no entries of either. A consistency proof (RFC 6962, 2.1.2) under the larger root fixes the
//! root that the larger tree had at the smaller size: every hash in it has its place given by the two sizes, so two
//! proofs for two smaller roots under one larger root would be a collision of the hash. The file holds the proof for
//! the true smaller root, and the hub's checkpoint with another.
//!
//! # Who can lie
//!
//! The file brings its own charter and so its own keys: like a bundle it proves nothing unless the charter's digest
//! comes from elsewhere (A11). *Overdue* alone needs words of others, that the log had not grown by some time: one of
//! f + 1 members is honest, and a minute is allowed for clocks. A witness's word does not count: anybody may show it the
//! last checkpoint that it knows once more. Nor is that claim as good alone as the others: whoever leaves out of the
//! file who joined since makes f smaller, so hold the members that it names against a record. What no file can show is a
//! checkpoint that was never signed, a receipt that was never given, or a call that was not answered.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::bundle::Pin;
use crate::canon::{self, CanonError, Value};
use crate::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::digest::Digest;
use crate::entry::Entry;
use crate::keys::{KeyError, PublicKey, SecretKey, Signature, pae};
use crate::log::MAX_SKEW_MS;
use crate::receipt::Receipt;
use crate::roster::{Era, Roster, Why};
use crate::tree::{TreeError, leaf_hash, verify_consistency, verify_inclusion};

/// The `format` of a file.
pub const FORMAT: &str = "comity-evidence/1";
/// Longest file, bytes: a charter, what changed it since, two notes or two entries, and proofs.
pub const MAX_EVIDENCE_BYTES: usize = 8 << 20;
/// Who is convicted where it is no member.
pub const HUB: &str = "hub";
/// Most leaf hashes in one signed answer.
pub const MAX_LEAVES: usize = 1024;
/// The DSSE payload type of a member's signed answer about entries.
const ANSWER_TYPE: &str = "application/vnd.comity.entries+json";

/// Evidence that cannot be read, or that proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// The file has not the form.
    #[error("not a file of evidence: {0}")]
    Canon(#[from] CanonError),
    /// The file is of another version.
    #[error("found format `{0}`, expected `{FORMAT}`")]
    Format(String),
    /// An entry that is to change members, keys or the hub does not.
    #[error("entry {index} of the evidence changes nothing: {why}")]
    Change {
        /// Its index.
        index: u64,
        /// Why.
        why: String,
    },
    /// The charter in it cannot be used.
    #[error("charter in the evidence: {0}")]
    Charter(Why),
    /// The charter in it is another than the one that is known.
    #[error("charter of the evidence is {found}, but the pinned digest is {pinned}")]
    OtherCharter {
        /// Digest handed in.
        pinned: Digest,
        /// Digest of the charter in the file.
        found: Digest,
    },
    /// A checkpoint or a signature on it does not hold.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A signature does not hold.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A proof does not hold.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Everything holds, and nothing follows from it.
    #[error("it proves nothing: {0}")]
    Nothing(&'static str),
}

/// A member's signed word on which leaves stand in a tree from `from` on. Given with entries, so that who hands out
/// wrong ones signs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attested {
    /// Index of the first leaf.
    pub from: u64,
    /// Leaf hashes in order.
    pub leaves: Vec<Digest>,
    /// The member that answers.
    pub member: String,
    /// The log's name.
    pub origin: String,
    /// Root of the tree that the answer is about.
    pub root: Digest,
    /// Its size.
    pub size: u64,
    /// By the member's `sign` key over all of the above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

impl Attested {
    /// Signs the answer.
    ///
    /// # Errors
    /// When a number is out of range.
    pub fn sign(mut self, key: &SecretKey) -> Result<Self, CanonError> {
        self.signature = None;
        self.signature = Some(key.sign(&pae(ANSWER_TYPE, &canon::to_bytes(&self)?)));
        Ok(self)
    }

    /// That the member with this key gave it.
    ///
    /// # Errors
    /// When it did not.
    pub fn verify(&self, key: &PublicKey) -> Result<(), KeyError> {
        let invalid = || KeyError::Invalid { key: *key };
        let signature = self.signature.ok_or_else(invalid)?;
        let unsigned = Attested { signature: None, ..self.clone() };
        let bytes = canon::to_bytes(&unsigned).map_err(|_| invalid())?;
        key.verify_strict(&pae(ANSWER_TYPE, &bytes), &signature)
    }

    /// The hash that it gives for the leaf at `index`.
    pub fn leaf(&self, index: u64) -> Option<Digest> {
        let at = usize::try_from(index.checked_sub(self.from)?).ok()?;
        self.leaves.get(at).copied()
    }
}

/// What is proved, with what proves it. Notes are C2SP signed notes, entries are verbatim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Claim {
    /// Two checkpoints of one size with different roots.
    TwoRoots {
        /// One note.
        one: String,
        /// The other.
        other: String,
    },
    /// The smaller checkpoint is not of the first entries of the larger one.
    TwoHistories {
        /// The note with the larger size.
        larger: String,
        /// That the larger tree had `root` at the smaller size (RFC 6962, 2.1.2).
        proof: Vec<Digest>,
        /// The root of the larger tree at the smaller size.
        root: Digest,
        /// The note with the smaller size.
        smaller: String,
    },
    /// Of two entries in a row the second is stamped before the first.
    Backwards {
        /// The second entry.
        after: String,
        /// The first.
        before: String,
        /// The note over both.
        checkpoint: String,
        /// Index of the first.
        index: u64,
        /// Inclusion of the second (RFC 6962, 2.1.1).
        proof_after: Vec<Digest>,
        /// Inclusion of the first.
        proof_before: Vec<Digest>,
    },
    /// The index that the hub promised to a statement holds another entry, or the statement with another stamp.
    BrokenPromise {
        /// The note over the index.
        checkpoint: String,
        /// What stands there.
        found: String,
        /// Its inclusion.
        proof: Vec<Digest>,
        /// The promise.
        receipt: Receipt,
    },
    /// The promised time has passed, and by members' clocks the latest log still ended before the promised index.
    Overdue {
        /// The note, with cosignatures made after that time.
        checkpoint: String,
        /// The promise.
        receipt: Receipt,
    },
    /// A member's answer about entries is not what stands in the tree that it names.
    WrongEntry {
        /// The answer.
        answer: Attested,
        /// Index of the entry.
        index: u64,
        /// Hash of the leaf that does stand there.
        leaf: Digest,
        /// Its inclusion.
        proof: Vec<Digest>,
    },
}

/// An entry that changed members, keys or the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changed {
    /// The entry, verbatim.
    pub entry: String,
    /// Its index.
    pub index: u64,
}

/// A claim with the charter whose keys it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// What changed members, keys or the hub since, where the claim is about keys that are not the charter's. Each
    /// entry is signed by those who may change that, so leaving one out appoints nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Changed>,
    /// The whole charter; its digest is what a reader pins.
    pub charter: Value,
    /// What is proved.
    pub claim: Claim,
    /// [`FORMAT`].
    pub format: String,
}

/// What a file of evidence was found to prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guilt {
    /// Whether the charter was pinned from outside. Unpinned evidence may be made up as a whole.
    pub pin: Pin,
    /// Digest of the charter.
    pub charter: Digest,
    /// `hub`, or the member's id.
    pub who: String,
    /// The term of the hub; 0 for a member.
    pub term: u32,
    /// The key that broke its word.
    pub key: PublicKey,
    /// What it did, in words.
    pub what: String,
    /// Members that put their cosignatures under both of two histories.
    pub accomplices: BTreeSet<String>,
}

impl Guilt {
    /// Whether the key is one that this record names: a hub's in that very term, or one that was ever anybody's. A file
    /// brings its own changes of members, keys and hub, and so may follow one that was signed and never recorded.
    pub fn stands_in(&self, roster: &Roster) -> bool {
        if self.who == HUB {
            let of_term = |e: &Era| e.electorate.term == self.term && e.electorate.hub.key == self.key;
            return roster.eras.iter().any(of_term);
        }
        roster.has_used(&self.key)
    }
}

impl Evidence {
    /// Evidence under this charter. Says nothing on whether it proves anything: see [`verify`](Self::verify).
    pub fn new(charter: Value, claim: Claim) -> Self {
        Evidence { changes: Vec::new(), charter, claim, format: FORMAT.to_owned() }
    }

    /// The same with what changed members, keys or the hub since the charter.
    pub fn with(mut self, changes: Vec<Changed>) -> Self {
        self.changes = changes;
        self
    }

    /// Whether what it proved against the charter and the changes that it brings ([`verify`](Self::verify)) also holds by
    /// this record: the key is one that the record names ([`Guilt::stands_in`]), and where members' clocks convict, they
    /// are of more organisations than may lie as the record counts them. A file that leaves out who joined counts fewer.
    pub fn stands_in(&self, guilt: &Guilt, roster: &Roster) -> bool {
        let Claim::Overdue { checkpoint, receipt } = &self.claim else { return guilt.stands_in(roster) };
        let late = |note: SignedCheckpoint| {
            late_cosigners(&note, receipt, roster).len() > faults(roster, note.checkpoint().size())
        };
        guilt.stands_in(roster) && SignedCheckpoint::parse(checkpoint).is_ok_and(late)
    }

    /// The same as short as it still convicts: without cosignatures, but where these are what convicts. It then names no
    /// accomplices.
    pub fn short(mut self) -> Self {
        let bare = |text: &mut String| {
            if let Ok(note) = SignedCheckpoint::parse(text) {
                *text = note.without_cosignatures().to_note();
            }
        };
        match &mut self.claim {
            Claim::TwoRoots { one: a, other: b } | Claim::TwoHistories { larger: a, smaller: b, .. } => {
                bare(a);
                bare(b);
            }
            Claim::Backwards { checkpoint, .. } | Claim::BrokenPromise { checkpoint, .. } => bare(checkpoint),
            Claim::Overdue { .. } | Claim::WrongEntry { .. } => {}
        }
        self
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// When it is too long, or a number out of range.
    pub fn write(&self) -> Result<Vec<u8>, EvidenceError> {
        let bytes = canon::to_bytes(self)?;
        let (found, limit) = (bytes.len(), MAX_EVIDENCE_BYTES);
        if found > limit { Err(CanonError::TooLong { found, limit }.into()) } else { Ok(bytes) }
    }

    /// Reads a file's bytes; verifies nothing but the form.
    ///
    /// # Errors
    /// Unless `bytes` are exactly what [`write`](Self::write) gives for what was read.
    pub fn read(bytes: &[u8]) -> Result<Self, EvidenceError> {
        let read: Evidence = canon::from_bytes_limit(bytes, MAX_EVIDENCE_BYTES)?;
        if read.format != FORMAT {
            return Err(EvidenceError::Format(crate::digest::excerpt(&read.format)));
        }
        // INVARIANT: accepted if and only if this is how it is written.
        if read.write()? != bytes {
            return Err(CanonError::Shape("another spelling of the same evidence".to_owned()).into());
        }
        Ok(read)
    }

    /// Checks that it convicts somebody.
    ///
    /// # Errors
    /// With the first thing that does not hold.
    pub fn verify(&self, pin: Option<Digest>) -> Result<Guilt, EvidenceError> {
        let mut roster = Roster::of_charter(&self.charter).map_err(EvidenceError::Charter)?;
        let found = Digest::of(&self.charter.to_bytes()?);
        if let Some(pinned) = pin.filter(|pinned| *pinned != found) {
            return Err(EvidenceError::OtherCharter { pinned, found });
        }
        for Changed { index, entry } in &self.changes {
            let index = *index;
            let change = |why: String| EvidenceError::Change { index, why };
            let entry = Entry::from_bytes(entry.as_bytes()).map_err(|e| change(e.to_string()))?;
            // One that changes nothing could be altered unseen.
            match roster.after(index, &entry).map_err(|why| change(why.to_string()))? {
                Some(next) => roster = next,
                None => return Err(change("it is about something else".to_owned())),
            }
        }
        let mut verdict = self.claim.judge(&roster)?;
        verdict.pin = if pin.is_some() { Pin::Pinned } else { Pin::Unpinned };
        verdict.charter = found;
        Ok(verdict)
    }
}

/// A note of this log, by this hub, whose cosignatures all hold: a byte that proves nothing could be changed unseen.
fn note(text: &str, roster: &Roster, hub: &PublicKey) -> Result<SignedCheckpoint, EvidenceError> {
    let note = SignedCheckpoint::parse(text)?;
    if note.checkpoint().origin() != roster.origin {
        return Err(EvidenceError::Nothing("a checkpoint is of another log than the charter's"));
    }
    note.verify_hub(hub)?;
    match note.faults(roster).pop() {
        Some(fault) => Err(fault.into()),
        None => Ok(note),
    }
}

/// The note with those of its cosignatures that hold under the roster: what goes into a file.
pub fn cleaned(note: &SignedCheckpoint, roster: &Roster) -> SignedCheckpoint {
    let mut clean = note.without_cosignatures();
    for line in note.lines() {
        // One that does not hold is left out.
        let _ = clean.add(line.clone(), roster);
    }
    clean
}

impl Claim {
    /// What is claimed, in the word that the file has for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Claim::TwoRoots { .. } => "two-roots",
            Claim::TwoHistories { .. } => "two-histories",
            Claim::Backwards { .. } => "backwards",
            Claim::BrokenPromise { .. } => "broken-promise",
            Claim::Overdue { .. } => "overdue",
            Claim::WrongEntry { .. } => "wrong-entry",
        }
    }

    /// The hub that this is about: of all hubs there were, the one that signed the first thing in it. Everything else
    /// must be signed by the same, since what one hub said does not bind the next.
    fn hub(&self, roster: &Roster) -> Result<(PublicKey, u32), EvidenceError> {
        let signed = |key: &PublicKey| match self {
            Claim::TwoRoots { one: text, .. }
            | Claim::TwoHistories { smaller: text, .. }
            | Claim::Backwards { checkpoint: text, .. } => {
                SignedCheckpoint::parse(text).is_ok_and(|note| note.verify_hub(key).is_ok())
            }
            Claim::BrokenPromise { receipt, .. } | Claim::Overdue { receipt, .. } => {
                receipt.verify(key).is_ok()
            }
            Claim::WrongEntry { .. } => true,
        };
        let mut hubs = roster.eras.iter().rev().map(|era| (era.electorate.hub.key, era.electorate.term));
        let found = hubs.find(|(key, _)| signed(key));
        found.ok_or(EvidenceError::Nothing("it is signed by no hub of this federation"))
    }

    fn judge(&self, roster: &Roster) -> Result<Guilt, EvidenceError> {
        let (hub, term) = self.hub(roster)?;
        let of_hub = |what: String| Guilt {
            pin: Pin::Unpinned,
            charter: Digest::of(b""),
            who: HUB.to_owned(),
            term,
            key: hub,
            what,
            accomplices: BTreeSet::new(),
        };
        let both = |a: &SignedCheckpoint, b: &SignedCheckpoint| -> BTreeSet<String> {
            a.cosigners(roster).intersection(&b.cosigners(roster)).cloned().collect()
        };
        match self {
            Claim::TwoRoots { one, other } => {
                let (one, other) = (note(one, roster, &hub)?, note(other, roster, &hub)?);
                let (a, b) = (one.checkpoint(), other.checkpoint());
                if a.size() != b.size() || a.root() == b.root() {
                    return Err(EvidenceError::Nothing("the two checkpoints do not contradict each other"));
                }
                let what = format!("signed two roots for size {}: {} and {}", a.size(), a.root(), b.root());
                Ok(Guilt { accomplices: both(&one, &other), ..of_hub(what) })
            }
            Claim::TwoHistories { smaller, larger, root, proof } => {
                let (smaller, larger) = (note(smaller, roster, &hub)?, note(larger, roster, &hub)?);
                let (a, b) = (smaller.checkpoint(), larger.checkpoint());
                if a.size() == 0 || a.size() >= b.size() {
                    return Err(EvidenceError::Nothing("the first checkpoint is not the smaller one"));
                }
                verify_consistency(a.size(), root, b.size(), &b.root(), proof)?;
                if *root == a.root() {
                    return Err(EvidenceError::Nothing("the larger checkpoint extends the smaller one"));
                }
                let what = format!(
                    "signed root {} for size {}, and a checkpoint of size {} in which it is {root}",
                    a.root(),
                    a.size(),
                    b.size()
                );
                Ok(Guilt { accomplices: both(&smaller, &larger), ..of_hub(what) })
            }
            Claim::Backwards { checkpoint, index, before, after, proof_before, proof_after } => {
                let note = note(checkpoint, roster, &hub)?;
                let (size, root) = (note.checkpoint().size(), note.checkpoint().root());
                let next = index.checked_add(1).ok_or(EvidenceError::Nothing("no such index"))?;
                verify_inclusion(&leaf_hash(before.as_bytes()), *index, size, &root, proof_before)?;
                verify_inclusion(&leaf_hash(after.as_bytes()), next, size, &root, proof_after)?;
                let stamp = |bytes: &str| {
                    Entry::from_bytes(bytes.as_bytes())
                        .map(|e| e.time)
                        .map_err(|_| EvidenceError::Nothing("one of the two is no entry with a stamp"))
                };
                let (first, second) = (stamp(before)?, stamp(after)?);
                if second >= first {
                    return Err(EvidenceError::Nothing("the stamps do not run backwards"));
                }
                Ok(of_hub(format!("stamped entry {next} with {second}, after {first} for entry {index}")))
            }
            Claim::BrokenPromise { receipt, checkpoint, found, proof } => {
                promised(receipt, roster, &hub)?;
                let note = note(checkpoint, roster, &hub)?;
                let (size, root) = (note.checkpoint().size(), note.checkpoint().root());
                verify_inclusion(&leaf_hash(found.as_bytes()), receipt.index, size, &root, proof)?;
                let kept = Entry::from_bytes(found.as_bytes())
                    .is_ok_and(|e| e.signed.id() == receipt.id && e.time == receipt.time);
                if kept {
                    return Err(EvidenceError::Nothing("the promise was kept"));
                }
                Ok(of_hub(format!(
                    "promised index {} to statement {} and recorded something else there",
                    receipt.index, receipt.id
                )))
            }
            Claim::Overdue { receipt, checkpoint } => {
                promised(receipt, roster, &hub)?;
                let note = note(checkpoint, roster, &hub)?;
                let size = note.checkpoint().size();
                if size > receipt.index {
                    return Err(EvidenceError::Nothing("the checkpoint covers the promised index"));
                }
                let late = late_cosigners(&note, receipt, roster);
                if late.len() <= faults(roster, size) {
                    return Err(EvidenceError::Nothing(
                        "too few members say that the log still ended there after the promised time",
                    ));
                }
                Ok(of_hub(format!(
                    "promised index {} to statement {} by {}; later than that the log still ended at {size}, by the clocks of {}",
                    receipt.index,
                    receipt.id,
                    receipt.promised_by,
                    late.into_values().collect::<Vec<_>>().join(", ")
                )))
            }
            Claim::WrongEntry { answer, index, leaf, proof } => {
                let member =
                    roster.keys(&answer.member).ok_or(EvidenceError::Nothing("it is by no member"))?;
                answer.verify(&member.sign)?;
                if answer.origin != roster.origin {
                    return Err(EvidenceError::Nothing("the answer is about another log"));
                }
                verify_inclusion(leaf, *index, answer.size, &answer.root, proof)?;
                let given = answer.leaf(*index).ok_or(EvidenceError::Nothing("no such entry was given"))?;
                if given == *leaf {
                    return Err(EvidenceError::Nothing("the answer was right"));
                }
                Ok(Guilt {
                    who: answer.member.clone(),
                    term: 0,
                    key: member.sign,
                    ..of_hub(format!(
                        "signed that entry {index} under root {} has hash {given}, where {leaf} stands",
                        answer.root
                    ))
                })
            }
        }
    }
}

fn promised(receipt: &Receipt, roster: &Roster, hub: &PublicKey) -> Result<(), EvidenceError> {
    receipt.verify(hub)?;
    if receipt.origin != roster.origin {
        return Err(EvidenceError::Nothing("the receipt is of another log"));
    }
    Ok(())
}

/// How many organisations may lie about a log of this size.
pub fn faults(roster: &Roster, size: u64) -> usize {
    roster.electorate_at(size).map_or(usize::MAX, |e| e.f as usize)
}

/// Organisations of which a member by its own clock cosigned the note as the latest one later than the promised
/// time, with a minute for clocks; each with the cosigner's name.
pub fn late_cosigners(
    note: &SignedCheckpoint,
    receipt: &Receipt,
    roster: &Roster,
) -> BTreeMap<String, String> {
    let after = receipt.promised_by.saturating_add(MAX_SKEW_MS);
    let late = |seconds: u64| i64::try_from(seconds).is_ok_and(|s| s.saturating_mul(1000) > after);
    let Some(electorate) = roster.electorate_at(note.checkpoint().size()) else { return BTreeMap::new() };
    let cosigned = note.cosigned_in(electorate);
    let late = cosigned.into_iter().filter(|(_, seconds)| late(*seconds));
    late.filter_map(|(who, _)| Some((electorate.members.get(&who)?.operator.clone(), who))).collect()
}

/// What two of the hub's checkpoints prove of it, if the second is of a tree that is at hand and the first is not of
/// its beginning. `tree` must have at least the size of both.
///
/// # Errors
/// When the tree is smaller.
pub fn contradiction(
    shown: &SignedCheckpoint,
    own: &SignedCheckpoint,
    tree: &crate::tree::Tree,
) -> Result<Option<Claim>, TreeError> {
    let (a, b) = (shown.checkpoint(), own.checkpoint());
    if a.size() == 0 || tree.root_at(a.size())? == a.root() {
        return Ok(None);
    }
    // The note at hand must itself be of this tree, or it is the one that lies.
    if tree.root_at(b.size())? != b.root() || a.origin() != b.origin() {
        return Ok(None);
    }
    if a.size() == b.size() {
        // Whoever proves it, it reads the same.
        let (one, other) = if b.root() <= a.root() { (own, shown) } else { (shown, own) };
        return Ok(Some(Claim::TwoRoots { one: one.to_note(), other: other.to_note() }));
    }
    if a.size() > b.size() {
        return Ok(None);
    }
    Ok(Some(Claim::TwoHistories {
        smaller: shown.to_note(),
        larger: own.to_note(),
        root: tree.root_at(a.size())?,
        proof: tree.prove_consistency(a.size(), b.size())?,
    }))
}
