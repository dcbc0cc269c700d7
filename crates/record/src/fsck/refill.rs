//! Fills a damaged copy up again from another one, believing neither.

use std::collections::BTreeMap;

use super::Copy;
use crate::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::digest::Digest;
use crate::entry::Entry;
use crate::log::{Cosigned, InForce, LogError, Standing, validate_next, watermark};
use crate::roster::Roster;
use crate::tree::{Tree, TreeError};

/// Why a copy cannot be made good from the other one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefillError {
    /// The other copy cannot be read.
    #[error("the other copy cannot be read: {0}")]
    Source(String),
    /// The result cannot be written.
    #[error("the store cannot be written: {0}")]
    Write(String),
    /// An entry is no entry of a log.
    #[error(transparent)]
    Entry(#[from] LogError),
    /// No checkpoint proves the entries.
    #[error(
        "no checkpoint of either copy, signed by the hub, has the root of these entries: take another copy"
    )]
    Unproved,
    /// The record began with another charter.
    #[error("the other copy is of a record with another charter: found {found:?}, expected {expected}")]
    Charter {
        /// Digest found.
        found: Option<Digest>,
        /// Digest of the charter that this copy was joined with.
        expected: Digest,
    },
    /// What this member cosigned cannot be reached.
    #[error(
        "this member cosigned size {size}, and both copies together reach {reached} entries: take a copy that has more; if no member has one, a fork must be looked at"
    )]
    Unreached {
        /// Size cosigned.
        size: u64,
        /// Entries that both give together.
        reached: u64,
    },
    /// The other copy ends below what this copy had.
    #[error("the two copies reach {reached} entries, but {least} are needed: take a copy that has more")]
    Short {
        /// Entries that both give together.
        reached: u64,
        /// Entries that must be reached.
        least: u64,
    },
    /// Two histories.
    #[error(
        "two histories: size {size} was signed with root {signed}, the entries give {found}; nothing was changed, a fork must be looked at"
    )]
    Fork {
        /// Size of the checkpoint.
        size: u64,
        /// Root that was signed or cosigned.
        signed: Digest,
        /// Root of the entries that were found.
        found: Digest,
    },
    /// Tree arithmetic.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A note.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// Takes an entry by its index, as it was read and as it is written.
pub type Keep<'a> = &'a mut dyn FnMut(u64, &Entry, &[u8]) -> Result<(), String>;

/// What is known of the damaged copy.
#[derive(Clone, Debug, Default)]
pub struct Refill {
    /// Its first entry that is not good.
    pub cut: u64,
    /// One after its last entry, good or not.
    pub size: u64,
    /// Its notes that can be read, those among them that sealed changes of members, keys or hub.
    pub notes: Vec<String>,
    /// What this member cosigned last.
    pub cosigned: Option<Cosigned>,
    /// Digest of the charter, where it is known from elsewhere.
    pub charter: Option<Digest>,
    /// Whether entries of its own that no checkpoint covers yet stay: a hub's do, a member has none.
    pub uncovered: bool,
}

/// A copy that is whole again.
#[derive(Clone, Debug)]
pub struct Refilled {
    /// Its entries; those from here on are to be deleted.
    pub size: u64,
    /// Root over them.
    pub root: Digest,
    /// Entries written.
    pub written: u64,
    /// The note of the largest checkpoint that the hub signed over them.
    pub checkpoint: SignedCheckpoint,
    /// The largest that is in force.
    pub in_force: Option<InForce>,
    /// Those that sealed the changes of members, keys and hub before it, by size: without them it is in force for nobody
    /// who begins at the charter.
    pub seals: BTreeMap<u64, SignedCheckpoint>,
}

impl Refill {
    /// Takes the good entries of the damaged copy, then those of the other, then what the damaged one has beyond it,
    /// and checks all of them as if they were new. `keep` is handed each entry from [`cut`](Self::cut) on; what it has
    /// written is to be taken back when this fails.
    ///
    /// # Errors
    /// When the result is not proved, is too short, or contradicts what was signed before.
    pub fn run(
        &self,
        own: &mut dyn FnMut(u64) -> Option<Vec<u8>>,
        from: &mut dyn Copy,
        keep: Keep<'_>,
    ) -> Result<Refilled, RefillError> {
        let (mut tree, mut roster, mut last) = (Tree::new(), Roster::new(), None);
        let theirs = from.size().map_err(RefillError::Source)?;
        let end = theirs.max(self.size);
        for index in 0..end {
            let bytes = match index {
                _ if index >= self.cut && index < theirs => from.entry(index).map_err(RefillError::Source)?,
                _ => own(index),
            };
            let Some(bytes) = bytes else { break };
            let entry = match Entry::from_bytes(&bytes) {
                Ok(entry) => entry,
                // What is broken beyond the other copy ends this one.
                Err(_) if index >= theirs => break,
                Err(source) => return Err(LogError::Entry { index, source }.into()),
            };
            validate_next(index, last, entry.time, None)?;
            last = Some(entry.time);
            let void = roster.apply(index, &entry).is_err();
            if void && self.uncovered && index >= theirs {
                break;
            }
            tree.append(&bytes);
            if index >= self.cut {
                keep(index, &entry, &bytes).map_err(RefillError::Write)?;
            }
        }
        if let Some(expected) = self.charter.filter(|expected| roster.charter_digest != Some(*expected)) {
            return Err(RefillError::Charter { found: roster.charter_digest, expected });
        }
        let notes = from.notes().map_err(RefillError::Source)?;
        let Evidence { genuine: checkpoint, in_force, seals } = self.prove(&tree, &roster, &notes)?;
        let size = if self.uncovered { tree.size() } else { checkpoint.checkpoint().size() };
        let root = tree.root_at(size)?;
        if let Some(cosigned) = self.cosigned {
            let found = tree.root_at(cosigned.size.min(size))?;
            if cosigned.size > size {
                return Err(RefillError::Unreached { size: cosigned.size, reached: size });
            }
            if found != cosigned.root {
                return Err(RefillError::Fork { size: cosigned.size, signed: cosigned.root, found });
            }
        }
        if self.uncovered && size < self.size {
            return Err(RefillError::Short { reached: size, least: self.size });
        }
        let written = size.saturating_sub(self.cut);
        Ok(Refilled { size, root, written, checkpoint, in_force, seals })
    }

    /// The largest genuine checkpoint of the entries, and the largest in force with what leads to it.
    fn prove(&self, tree: &Tree, roster: &Roster, theirs: &[String]) -> Result<Evidence, RefillError> {
        let mut genuine: Option<SignedCheckpoint> = None;
        let mut in_force: Option<InForce> = None;
        let mut seals = BTreeMap::new();
        // In the order of their sizes: an earlier one may seal a change of members that a later one needs.
        let notes = self.notes.iter().chain(theirs).filter_map(|note| SignedCheckpoint::parse(note).ok());
        let mut notes: Vec<SignedCheckpoint> = notes.collect();
        // Of one size those first in which every line holds: a line that fell is mended by the other copy's note.
        notes.sort_by_cached_key(|n| (n.checkpoint().size(), n.faults(roster).len()));
        for signed in notes {
            let above = in_force.as_ref().map_or(0, InForce::size);
            match watermark(tree, &signed, roster, above) {
                Ok(standing) => {
                    let larger = |size| size < signed.checkpoint().size();
                    if let Standing::InForce(evidence) = standing
                        && in_force.as_ref().is_none_or(|now| now.size() < evidence.size())
                    {
                        if roster.electorates(above, evidence.size()).len() > 1 {
                            seals.insert(evidence.size(), signed.clone());
                        }
                        in_force = Some(evidence);
                    }
                    if genuine.as_ref().is_none_or(|now| larger(now.checkpoint().size())) {
                        genuine = Some(signed);
                    }
                }
                // The hub signed this root, and these entries have another.
                Err(LogError::Fork { size, claimed, recomputed }) => {
                    return Err(RefillError::Fork { size, signed: claimed, found: recomputed });
                }
                Err(LogError::Ahead { size, have }) => {
                    return Err(RefillError::Short { reached: have, least: size });
                }
                Err(_) => {}
            }
        }
        Ok(Evidence { genuine: genuine.ok_or(RefillError::Unproved)?, in_force, seals })
    }
}

/// What the notes of both copies prove.
struct Evidence {
    genuine: SignedCheckpoint,
    in_force: Option<InForce>,
    seals: BTreeMap<u64, SignedCheckpoint>,
}
