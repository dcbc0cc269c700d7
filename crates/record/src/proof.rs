//! Proofs: a few entries of the record with what shows that they are in it, for a reader who has nothing else.
//!
//! A [`Bundle`](crate::Bundle) holds the whole record, because a selection could leave out a veto (A11). A proof is a
//! selection and shows *presence* alone: these entries are in the record that a quorum cosigned. What the absence of
//! others means is for whoever proves against a root of the state that a quorum has attested in those entries.
//!
//! Threat model: whoever made the file is a liar, and so may be the hub and at most `f` members. The charter's digest
//! comes from elsewhere. What then holds: the entries were said by who they name, and are in a record of which a
//! quorum of that charter's members cosigned the root. A record that is made up has another charter, and a proof that
//! is read without its digest says so ([`Pin::Unpinned`]).
//!
//! # Changes of members, keys and hub
//!
//! Where these have changed since the charter, the proof carries the way from the charter to today: every change, with
//! its index and its inclusion, and for as many of them as one checkpoint seals, that checkpoint ([`Seal`]). The reader
//! folds charter and changes by the roster's own rules, and holds each checkpoint to the quorum of every era from the
//! last one sealed to its own, as a member does ([`crate::electorate`]). So nobody who counts today counts without the
//! quorum of those who counted before: a member that leaves does so under the cosignatures of those who stay *and* of
//! those who were there, and its word, said again in a made up record, makes no electorate small. An opening of another
//! hub's term is vouched for in the same way: no member takes in one that stands over other entries.
//!
//! What the chain alone does not show is that *no change was left out*. Who reads it must compare the roster that it
//! gives ([`Proof::verify_at`]) with one that a quorum attested. A liar who leaves changes out so that old keys count,
//! and has fewer than a quorum of these keys, needs the word of an honest member for every state that it shows, and that
//! word names the roster as it is.
//!
//! What this does not stop: whoever holds old keys of a whole quorum. Since changes can be left out, these need not have
//! been in force at one time: keys that were lost in different years add up. Nor does it show what came after the
//! checkpoint.

mod chain;
mod pack;

use std::collections::{BTreeMap, BTreeSet};

pub use chain::{MAX_CHANGES, Seal};
pub use pack::{is_packed, pack, unpack};

use serde::{Deserialize, Serialize};

use crate::bundle::Pin;
use crate::canon::Value;
use crate::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::digest::Digest;
use crate::entry::{Entry, EntryBytes, EntryError};
use crate::roster::{PROPOSE, Roster, Why};
use crate::tree::{Tree, TreeError, leaf_hash, verify_inclusion};

/// Most entries in a proof beside the charter's.
pub const MAX_ENTRIES: usize = 256;

/// Why a proof cannot be made or read, or does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// Another kind of file.
    #[error("found a file that begins with `{found}`, expected `{expected}`")]
    Magic {
        /// Its first line.
        found: String,
        /// The line expected.
        expected: String,
    },
    /// The file's bytes are not those that were written.
    #[error("the file was changed or cut off: its content does not have the digest that it begins with")]
    Changed,
    /// The content is longer than its reader allows, or not what its length says.
    #[error("the file's content cannot be unpacked: expected one stream of at most {limit} bytes")]
    Packed {
        /// Longest content allowed, bytes.
        limit: usize,
    },
    /// An entry cannot be read.
    #[error("entry {index} is broken: {source}")]
    Entry {
        /// Its index.
        index: u64,
        /// What is wrong with it.
        source: EntryError,
    },
    /// An entry is not where the proof says.
    #[error("entry {index} (`{kind}`) is not included under the checkpoint's root")]
    Inclusion {
        /// Its index.
        index: u64,
        /// Its type.
        kind: String,
    },
    /// Something else among the changes of members, keys and hub.
    #[error("entry {index} (`{kind}`) stands among the changes of members, keys and hub and is none")]
    NoChange {
        /// Its index.
        index: u64,
        /// Its type.
        kind: String,
    },
    /// Changes that are not in order, too many, or not above the checkpoint before.
    #[error(
        "changes of members, keys and hub are not in the order of their indices, each under the first checkpoint above it, at most {MAX_CHANGES}"
    )]
    Changes,
    /// Too few of those who counted cosigned a change.
    #[error(
        "the checkpoint of size {size} does not seal the change before it: {have} valid cosignatures of those who count from size {from} on, expected at least {need}"
    )]
    Unsealed {
        /// Size of the checkpoint.
        size: u64,
        /// The smallest size for which those count.
        from: u64,
        /// Valid cosignatures of theirs.
        have: u32,
        /// Quorum.
        need: u32,
    },
    /// Entries that are not in the order of their indices, or too many.
    #[error("entries of the proof are not in the order of their indices, each once, at most {MAX_ENTRIES}")]
    Order,
    /// The entry that should be the charter is none.
    #[error("entry {index} is `{kind}`, expected the proposal of the charter")]
    NoCharter {
        /// Its index.
        index: u64,
        /// Its type.
        kind: String,
    },
    /// The charter cannot be used, or a statement is not its issuer's.
    #[error("entry {index} (`{kind}`): {why}")]
    Statement {
        /// Its index.
        index: u64,
        /// Its type.
        kind: String,
        /// What is wrong.
        why: Why,
    },
    /// The proof is of another federation, or made up.
    #[error("charter of the proof is {found}, but the pinned digest is {pinned}")]
    OtherCharter {
        /// Digest handed in.
        pinned: Digest,
        /// Digest of the charter in the proof.
        found: Digest,
    },
    /// The checkpoint or a signature on it is broken.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint is another log's.
    #[error("checkpoint is of `{found}`, expected the log `{expected}`")]
    Origin {
        /// Its origin.
        found: String,
        /// The charter's.
        expected: String,
    },
    /// Too few members cosigned.
    #[error("checkpoint has {have} valid cosignatures, expected at least {need}")]
    Quorum {
        /// Valid cosignatures.
        have: u32,
        /// Quorum.
        need: u32,
    },
    /// A proof of what is not in the record.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// An entry with its place and the proof of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Included {
    /// Its index.
    pub index: u64,
    /// Its bytes, which are text.
    pub entry: String,
    /// The inclusion proof (RFC 6962, 2.1.1) in the checkpoint's tree.
    pub path: Vec<Digest>,
}

impl Included {
    fn of(entries: &[EntryBytes], tree: &Tree, index: u64, size: u64) -> Result<Included, ProofError> {
        let outside = TreeError::Outside { asked: index, size };
        let entry = usize::try_from(index).ok().and_then(|i| entries.get(i)).ok_or(outside)?;
        let text = String::from_utf8_lossy(entry.bytes()).into_owned();
        Ok(Included { index, entry: text, path: tree.prove_inclusion(index, size)? })
    }
}

/// The charter and some entries, with a checkpoint that includes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// The entry that proposed the charter: members, keys and quorum.
    pub charter: Included,
    /// The signed note with its cosignatures.
    pub checkpoint: String,
    /// The entries proved, in the order of their indices.
    pub entries: Vec<Included>,
    /// Changes of members, keys and hub that were sealed by earlier checkpoints, in their order. Absent if there are
    /// none.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "chain::some")]
    pub seals: Vec<Seal>,
    /// Those that the checkpoint itself seals. Absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "chain::some")]
    pub changes: Vec<Included>,
}

/// What a proof was found to show.
#[derive(Clone, Debug)]
pub struct Proved {
    /// Whether the charter was pinned from outside. Only a pinned proof proves anything to its reader.
    pub pin: Pin,
    /// Digest of the charter.
    pub charter: Digest,
    /// The charter itself.
    pub document: Value,
    /// Members and keys at the checkpoint, as charter and changes give them; who signed the charter is not known here.
    pub roster: Roster,
    /// The roster after so many entries, for each size that was asked for.
    pub rosters: BTreeMap<u64, Roster>,
    /// Index of the first change of members, keys or hub.
    pub changed: Option<u64>,
    /// Entries that the checkpoint covers.
    pub size: u64,
    /// Who cosigned it, and when, seconds since the epoch.
    pub cosigned: BTreeMap<String, u64>,
    /// The entries by index, each said by whom it names, under the key of that index.
    pub entries: Vec<(u64, Entry)>,
    /// Indices of those that a suspended member said.
    pub suspended: BTreeSet<u64>,
}

impl Proof {
    /// The proof that these entries are in the record: `charter` and `indices` are places in `entries`, which are all
    /// that the checkpoint covers.
    ///
    /// # Errors
    /// When one of them is not covered.
    pub fn new(
        entries: &[EntryBytes],
        tree: &Tree,
        checkpoint: &SignedCheckpoint,
        charter: u64,
        indices: &[u64],
    ) -> Result<Proof, ProofError> {
        let size = checkpoint.checkpoint().size();
        let include = |index: u64| Included::of(entries, tree, index, size);
        Ok(Proof {
            charter: include(charter)?,
            checkpoint: checkpoint.to_note(),
            entries: indices.iter().map(|i| include(*i)).collect::<Result<_, _>>()?,
            seals: Vec::new(),
            changes: Vec::new(),
        })
    }

    /// Whether it shows changes of members, keys or hub.
    pub fn has_changes(&self) -> bool {
        !self.seals.is_empty() || !self.changes.is_empty()
    }

    /// Checks everything that can be checked without knowing what the entries mean: the charter against `pin`, the
    /// changes of members, keys and hub with the quorums that sealed them, the checkpoint's signatures and quorum, each
    /// entry's inclusion and its issuer's signature.
    ///
    /// # Errors
    /// The first thing that is broken.
    pub fn verify(&self, pin: Option<Digest>) -> Result<Proved, ProofError> {
        self.verify_at(pin, &[])
    }

    /// [`verify`](Self::verify), and gives the roster after so many entries, for each of these sizes.
    ///
    /// # Errors
    /// The first thing that is broken.
    pub fn verify_at(&self, pin: Option<Digest>, sizes: &[u64]) -> Result<Proved, ProofError> {
        let (document, roster) = self.roster()?;
        let found = Digest::of(&document.to_bytes().map_err(|e| self.charter_fault(&e.to_string()))?);
        if let Some(pinned) = pin.filter(|p| *p != found) {
            return Err(ProofError::OtherCharter { pinned, found });
        }
        if self.entries.len() > MAX_ENTRIES || !self.entries.is_sorted_by(|a, b| a.index < b.index) {
            return Err(ProofError::Order);
        }
        let checkpoint = SignedCheckpoint::parse(&self.checkpoint)?;
        let (size, root) = (checkpoint.checkpoint().size(), checkpoint.checkpoint().root());
        let mut chain = chain::Chain::new(self, roster, sizes);
        let cosigned = chain.follow(&checkpoint)?;
        included(&self.charter, size, &root)?;
        let chain::Chain { roster, rosters, changed, entries, suspended, .. } = chain;
        Ok(Proved {
            pin: if pin.is_some() { Pin::Pinned } else { Pin::Unpinned },
            charter: found,
            document,
            roster,
            rosters,
            changed,
            size,
            cosigned,
            entries,
            suspended,
        })
    }

    /// The charter and the roster that it begins.
    fn roster(&self) -> Result<(Value, Roster), ProofError> {
        let index = self.charter.index;
        let entry = read(&self.charter)?;
        let statement = entry.signed.statement();
        let kind = statement.r#type.clone();
        if kind != PROPOSE {
            return Err(ProofError::NoCharter { index, kind });
        }
        let document = statement.body.get("charter").cloned().ok_or(ProofError::NoCharter { index, kind })?;
        let roster = Roster::of_charter(&document).map_err(|why| statement_fault(index, &entry, why))?;
        roster.authenticate(&entry.signed).map_err(|why| statement_fault(index, &entry, why))?;
        Ok((document, roster))
    }

    fn charter_fault(&self, what: &str) -> ProofError {
        let why = Why::Charter(what.to_owned());
        ProofError::Statement { index: self.charter.index, kind: PROPOSE.to_owned(), why }
    }
}

fn statement_fault(index: u64, entry: &Entry, why: Why) -> ProofError {
    ProofError::Statement { index, kind: entry.signed.statement().r#type.clone(), why }
}

fn read(one: &Included) -> Result<Entry, ProofError> {
    Entry::from_bytes(one.entry.as_bytes()).map_err(|source| ProofError::Entry { index: one.index, source })
}

fn included(one: &Included, size: u64, root: &Digest) -> Result<Entry, ProofError> {
    let entry = read(one)?;
    let leaf = leaf_hash(one.entry.as_bytes());
    verify_inclusion(&leaf, one.index, size, root, &one.path).map_err(|_| ProofError::Inclusion {
        index: one.index,
        kind: entry.signed.statement().r#type.clone(),
    })?;
    Ok(entry)
}
