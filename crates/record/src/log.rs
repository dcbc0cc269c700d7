//! A member's own copy of the log, and how far it is in force.
//!
//! A member takes in every entry, checks it, and only then cosigns. What a quorum has cosigned is *in force*
//! ([`InForce`]); what is only in the log is *pending* ([`Pending`]). They are different types, neither can be made
//! but by [`watermark`], and nothing that has an effect should accept the second.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::{CheckpointError, Cosignature, SignedCheckpoint};
use crate::digest::Digest;
use crate::entry::{Entry, EntryError};
use crate::keys::{PublicKey, SecretKey};
use crate::roster::{Roster, Why};
use crate::tree::{Tree, TreeError};

/// How far a stamp may be from the member's own clock, milliseconds.
pub const MAX_SKEW_MS: i64 = 60_000;

/// Why an entry or a checkpoint is not taken, or not cosigned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The entry is malformed.
    #[error("entry {index}: {source}")]
    Entry {
        /// Its index.
        index: u64,
        /// What is wrong.
        source: EntryError,
    },
    /// The stamp is before that of the entry before.
    #[error(
        "entry {index} is stamped {time}, before the {previous} of the entry before it: time went backwards"
    )]
    Backwards {
        /// Its index.
        index: u64,
        /// Its stamp, milliseconds.
        time: i64,
        /// The stamp before it, milliseconds.
        previous: i64,
    },
    /// The stamp is too far from the member's clock.
    #[error("entry {index} is stamped {time}, more than 60 s from this clock's {now}: check both clocks")]
    Skewed {
        /// Its index.
        index: u64,
        /// Its stamp, milliseconds.
        time: i64,
        /// The member's clock, milliseconds.
        now: i64,
    },
    /// No charter yet, so no keys.
    #[error("no charter is proposed in these entries, so no checkpoint of them can be checked")]
    NoCharter,
    /// A checkpoint of some other log.
    #[error("checkpoint is of `{found}`, expected the log `{expected}`")]
    Origin {
        /// Its origin.
        found: String,
        /// The roster's.
        expected: String,
    },
    /// The checkpoint covers entries that this member does not have.
    #[error("checkpoint covers {size} entries, of which only {have} are here: fetch the rest first")]
    Ahead {
        /// Its size.
        size: u64,
        /// Entries here.
        have: u64,
    },
    /// The checkpoint's root is not that of the entries here: the hub has shown two histories, or this copy is damaged.
    #[error(
        "checkpoint of size {size} has root {claimed}, but the entries here have root {recomputed}: do not cosign, compare with another member"
    )]
    Fork {
        /// Its size.
        size: u64,
        /// Root that it claims.
        claimed: Digest,
        /// Root of the entries here.
        recomputed: Digest,
    },
    /// Smaller than what this member has cosigned, or the same size with another root.
    #[error(
        "already cosigned size {cosigned}: a checkpoint of size {size} that does not extend it is not cosigned"
    )]
    BelowCosigned {
        /// Its size.
        size: u64,
        /// Size cosigned before.
        cosigned: u64,
    },
    /// Signatures on the checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Tree arithmetic.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Checks the stamp of the entry at `index`: not before the one before it, and, when `now` is given, not more than
/// [`MAX_SKEW_MS`] from it. Entries that are being caught up on are old by right: give no `now` for those that a
/// quorum has cosigned already.
///
/// # Errors
/// [`LogError::Backwards`] or [`LogError::Skewed`].
pub fn validate_next(index: u64, previous: Option<i64>, time: i64, now: Option<i64>) -> Result<(), LogError> {
    if let Some(previous) = previous.filter(|p| time < *p) {
        return Err(LogError::Backwards { index, time, previous });
    }
    match now {
        Some(now) if time.abs_diff(now) > MAX_SKEW_MS.unsigned_abs() => {
            Err(LogError::Skewed { index, time, now })
        }
        _ => Ok(()),
    }
}

/// Evidence that the first [`size`](Self::size) entries are in force: the checkpoint, whose root was recomputed from
/// the entries, with the quorum of cosignatures.
///
/// Nothing but [`watermark`] makes one; in particular not whoever holds a checkpoint that still waits:
///
/// ```compile_fail,E0451
/// fn promote(waiting: &record::Pending) -> record::InForce {
///     record::InForce { checkpoint: waiting.checkpoint().clone(), cosigned: Default::default(), quorum: 0 }
/// }
/// ```
///
/// ```compile_fail,E0308
/// fn act(evidence: &record::InForce) {}
/// fn too_early(waiting: &record::Pending) {
///     act(waiting);
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    checkpoint: SignedCheckpoint,
    cosigned: BTreeMap<String, u64>,
    quorum: u32,
}

impl InForce {
    /// The watermark: entries `0..size` are in force.
    pub fn size(&self) -> u64 {
        self.checkpoint.checkpoint().size()
    }

    /// Root over them.
    pub fn root(&self) -> Digest {
        self.checkpoint.checkpoint().root()
    }

    /// The note with the signatures.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        &self.checkpoint
    }

    /// Who cosigned, and when, seconds since the epoch.
    pub fn cosigned(&self) -> &BTreeMap<String, u64> {
        &self.cosigned
    }

    /// How many had to.
    pub fn quorum(&self) -> u32 {
        self.quorum
    }

    /// Whether the entry at `index` is in force.
    pub fn covers(&self, index: u64) -> bool {
        index < self.size()
    }

    /// When the quorum was complete, seconds since the epoch: the latest time such that a quorum of cosigners
    /// had by their own clocks cosigned at or after it. This is what says how old the watermark is; one member
    /// with a fast clock cannot make it young.
    pub fn attested_at(&self) -> u64 {
        let mut times: Vec<u64> = self.cosigned.values().copied().collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        times.get((self.quorum as usize).saturating_sub(1)).copied().unwrap_or(0)
    }
}

/// A checkpoint of these entries that waits for cosignatures. Shown to people, acted upon by nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    checkpoint: SignedCheckpoint,
    have: BTreeSet<String>,
    quorum: u32,
}

impl Pending {
    /// Entries that wait.
    pub fn size(&self) -> u64 {
        self.checkpoint.checkpoint().size()
    }

    /// The note.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        &self.checkpoint
    }

    /// Who has cosigned.
    pub fn have(&self) -> &BTreeSet<String> {
        &self.have
    }

    /// How many must.
    pub fn quorum(&self) -> u32 {
        self.quorum
    }
}

/// Where a genuine checkpoint stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A quorum cosigned it.
    InForce(InForce),
    /// Fewer did.
    Pending(Pending),
}

impl Standing {
    /// The evidence, if it is in force.
    pub fn in_force(self) -> Option<InForce> {
        match self {
            Standing::InForce(evidence) => Some(evidence),
            Standing::Pending(_) => None,
        }
    }
}

/// Checks a checkpoint against the entries themselves (as their tree) and the roster that they fold to: origin, root,
/// hub signature; then counts cosignatures.
///
/// While the charter cannot change, the roster may be any from its proposal on. Which charter a hub shows first is for
/// the member to compare with the digest that it was given elsewhere, before it cosigns anything.
///
/// # Errors
/// When the checkpoint is not one of these entries, signed by this hub.
pub fn watermark(tree: &Tree, checkpoint: &SignedCheckpoint, roster: &Roster) -> Result<Standing, LogError> {
    check_genuine(tree, checkpoint, roster)?;
    let cosigned = checkpoint.cosignatures(roster);
    let quorum = roster.quorum();
    // INVARIANT: only here is an InForce made: entries recomputed, hub signature, quorum of organisations.
    Ok(if roster.watermark_ready() && cosigned.len() >= quorum as usize {
        Standing::InForce(InForce { checkpoint: checkpoint.clone(), cosigned, quorum })
    } else {
        Standing::Pending(Pending {
            checkpoint: checkpoint.clone(),
            have: cosigned.into_keys().collect(),
            quorum,
        })
    })
}

/// The highest of these checkpoints that is in force; those that are not genuine do not count.
pub fn highest<'a>(
    tree: &Tree,
    checkpoints: impl IntoIterator<Item = &'a SignedCheckpoint>,
    roster: &Roster,
) -> Option<InForce> {
    checkpoints
        .into_iter()
        .filter_map(|c| watermark(tree, c, roster).ok().and_then(Standing::in_force))
        .max_by_key(InForce::size)
}

fn check_genuine(tree: &Tree, checkpoint: &SignedCheckpoint, roster: &Roster) -> Result<(), LogError> {
    let hub = roster.hub.as_ref().ok_or(LogError::NoCharter)?;
    let claimed = checkpoint.checkpoint();
    if claimed.origin() != roster.origin {
        return Err(LogError::Origin { found: claimed.origin().to_owned(), expected: roster.origin.clone() });
    }
    checkpoint.verify_hub(&hub.key)?;
    let (size, have) = (claimed.size(), tree.size());
    if size > have {
        return Err(LogError::Ahead { size, have });
    }
    let recomputed = tree.root_at(size)?;
    if recomputed != claimed.root() {
        return Err(LogError::Fork { size, claimed: claimed.root(), recomputed });
    }
    Ok(())
}

/// Two checkpoints of one size with different roots, both signed by the hub: proof for anyone that it equivocated.
pub fn equivocation(a: &SignedCheckpoint, b: &SignedCheckpoint, hub: &PublicKey) -> bool {
    let (x, y) = (a.checkpoint(), b.checkpoint());
    x.origin() == y.origin()
        && x.size() == y.size()
        && x.root() != y.root()
        && a.verify_hub(hub).is_ok()
        && b.verify_hub(hub).is_ok()
}

/// The highest checkpoint that a member has cosigned. Kept in its own store, written before the cosignature leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Cosigned {
    /// Its size.
    pub size: u64,
    /// Its root.
    pub root: Digest,
}

/// A member's mirror of the log: entries, tree and roster, which never disagree.
#[derive(Clone, Default)]
pub struct Log {
    entries: Vec<Entry>,
    tree: Tree,
    roster: Roster,
    voids: BTreeMap<u64, Why>,
}

impl Log {
    /// The empty log.
    pub fn new() -> Self {
        Log::default()
    }

    /// Takes in the next entry from the hub: strict form, stamp ([`validate_next`]), then the roster. A statement that
    /// is void stays in, with its reason in [`voids`](Self::voids): what one member writes cannot stop the others.
    ///
    /// # Errors
    /// When no honest hub would have sequenced it; the log is then unchanged.
    pub fn append(&mut self, leaf: &[u8], now: Option<i64>) -> Result<u64, LogError> {
        let index = self.tree.size();
        let entry = Entry::from_bytes(leaf).map_err(|source| LogError::Entry { index, source })?;
        validate_next(index, self.last_time(), entry.time, now)?;
        if let Err(why) = self.roster.apply(index, &entry) {
            self.voids.insert(index, why);
        }
        self.tree.append(leaf);
        self.entries.push(entry);
        Ok(index)
    }

    /// All entries, pending ones with them.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries in force. None, if the evidence is of another history than this log's.
    pub fn in_force(&self, evidence: &InForce) -> &[Entry] {
        let ours = self.tree.root_at(evidence.size()).is_ok_and(|root| root == evidence.root());
        let size = usize::try_from(evidence.size()).unwrap_or(usize::MAX);
        self.entries.get(..size).filter(|_| ours).unwrap_or(&[])
    }

    /// The tree over the entries.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The roster that the entries fold to.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Entries that signatures or the roster make void, and why.
    pub fn voids(&self) -> &BTreeMap<u64, Why> {
        &self.voids
    }

    /// Number of entries.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Stamp of the last entry, milliseconds.
    pub fn last_time(&self) -> Option<i64> {
        self.entries.last().map(|e| e.time)
    }

    /// Where a checkpoint of this log stands: [`watermark`] with this log's tree and roster.
    ///
    /// # Errors
    /// When it is not genuine.
    pub fn standing(&self, checkpoint: &SignedCheckpoint) -> Result<Standing, LogError> {
        watermark(&self.tree, checkpoint, &self.roster)
    }

    /// Cosigns a checkpoint whose every entry this log has taken in, at `now` milliseconds. Gives also what the caller
    /// must have written to its own store before the cosignature leaves.
    ///
    /// # Errors
    /// When the checkpoint is not genuine or does not extend what was cosigned before.
    pub fn cosign(
        &self,
        checkpoint: &SignedCheckpoint,
        party: &str,
        key: &SecretKey,
        now: i64,
        before: Option<Cosigned>,
    ) -> Result<(Cosignature, Cosigned), LogError> {
        check_genuine(&self.tree, checkpoint, &self.roster)?;
        let next = Cosigned { size: checkpoint.checkpoint().size(), root: checkpoint.checkpoint().root() };
        if let Some(before) = before {
            // The entries here may have been restored from an old copy, so what was cosigned is compared on its own.
            let extends = before.size <= next.size && self.tree.root_at(before.size)? == before.root;
            if !extends {
                return Err(LogError::BelowCosigned { size: next.size, cosigned: before.size });
            }
        }
        let seconds = u64::try_from(now.div_euclid(1000)).unwrap_or(0);
        let cosignature = Cosignature::sign(checkpoint.checkpoint(), party, seconds, key)?;
        Ok((cosignature, next))
    }
}
