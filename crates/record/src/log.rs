//! A member's own copy of the log, and how far it is in force.
//!
//! A member takes in every entry, checks it, and only then cosigns. What a quorum has cosigned is *in force*
//! ([`InForce`]); what is only in the log is *pending* ([`Pending`]). They are different types, neither can be made
//! but by [`watermark`], and nothing that has an effect should accept the second.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::{CheckpointError, CosignKeys, Cosignature, SignedCheckpoint};
use crate::digest::Digest;
use crate::electorate::Electorate;
use crate::entry::{Entry, EntryBytes, EntryError};
use crate::keys::PublicKey;
use crate::roster::{OPEN, Roster, Why};
use crate::term::Opening;
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
    /// A term that begins over another history than this log's.
    #[error(
        "entry {index} begins a term over other entries than those here: do not cosign, compare with another member"
    )]
    Opening {
        /// Its index.
        index: u64,
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
///     record::InForce { checkpoint: waiting.checkpoint().clone(), cosigned: Default::default(), quorum: 0, attested_at: 0 }
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
    attested_at: u64,
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
        self.attested_at
    }
}

/// When those who cosigned became enough, counted from the latest; nothing if they are not.
fn attested(electorate: &Electorate, cosigned: &BTreeMap<String, u64>) -> Option<u64> {
    let mut latest: Vec<(u64, &String)> = cosigned.iter().map(|(name, time)| (*time, name)).collect();
    latest.sort_unstable_by(|a, b| b.cmp(a));
    let mut names = BTreeSet::new();
    latest.into_iter().find_map(|(time, name)| {
        names.insert(name.clone());
        electorate.suffices(&names).then_some(time)
    })
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
/// `above` is how many entries are in force already, for whoever asks; 0 for nobody. Where members or keys changed
/// since, the checkpoint needs the quorum of every era from there to its own: so the change is sealed by the old set.
/// The roster may be any from the entries of the checkpoint on. Which charter a hub shows first is for the member to
/// compare with the digest that it was given elsewhere, before it cosigns anything.
///
/// # Errors
/// When the checkpoint is not one of these entries, signed by the hub of its term.
pub fn watermark(
    tree: &Tree,
    checkpoint: &SignedCheckpoint,
    roster: &Roster,
    above: u64,
) -> Result<Standing, LogError> {
    check_genuine(tree, checkpoint, roster)?;
    Ok(sealed(checkpoint, roster, above))
}

/// Counts cosignatures alone, for a hub, which made the checkpoint itself.
pub fn is_sealed(checkpoint: &SignedCheckpoint, roster: &Roster, above: u64) -> bool {
    matches!(sealed(checkpoint, roster, above), Standing::InForce(_))
}

fn sealed(checkpoint: &SignedCheckpoint, roster: &Roster, above: u64) -> Standing {
    let size = checkpoint.checkpoint().size();
    let mut attested_at: Option<u64> = None;
    let mut enough = true;
    let mut cosigned = BTreeMap::new();
    let mut quorum = 0;
    for electorate in roster.electorates(above, size) {
        cosigned = checkpoint.cosigned_in(electorate);
        quorum = electorate.quorum();
        match attested(electorate, &cosigned) {
            Some(time) => attested_at = Some(attested_at.map_or(time, |before| before.min(time))),
            None => enough = false,
        }
    }
    // INVARIANT: only here is an InForce made: entries recomputed, hub signature, quorums of organisations.
    match attested_at {
        Some(attested_at) if enough => {
            Standing::InForce(InForce { checkpoint: checkpoint.clone(), cosigned, quorum, attested_at })
        }
        _ => Standing::Pending(Pending {
            checkpoint: checkpoint.clone(),
            have: cosigned.into_keys().collect(),
            quorum,
        }),
    }
}

/// The highest that is in force after these checkpoints, taken one after another in the order of their sizes, so that
/// each may seal the change of members that the next one needs. Those that are not genuine do not count.
pub fn highest<'a>(
    tree: &Tree,
    checkpoints: impl IntoIterator<Item = &'a SignedCheckpoint>,
    roster: &Roster,
) -> Option<InForce> {
    let mut sorted: Vec<&SignedCheckpoint> = checkpoints.into_iter().collect();
    sorted.sort_by_key(|c| c.checkpoint().size());
    sorted.into_iter().fold(None, |best: Option<InForce>, next| {
        let above = best.as_ref().map_or(0, InForce::size);
        watermark(tree, next, roster, above).ok().and_then(Standing::in_force).or(best)
    })
}

fn check_genuine(tree: &Tree, checkpoint: &SignedCheckpoint, roster: &Roster) -> Result<(), LogError> {
    let claimed = checkpoint.checkpoint();
    let electorate = roster.electorate_at(claimed.size()).ok_or(LogError::NoCharter)?;
    if claimed.origin() != roster.origin {
        return Err(LogError::Origin { found: claimed.origin().to_owned(), expected: roster.origin.clone() });
    }
    checkpoint.verify_hub(&electorate.hub.key)?;
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
    /// The term of the hub that signed it.
    pub term: u32,
}

/// A place in a log, made by [`Log::mark`].
pub struct Mark {
    size: u64,
    roster: Roster,
}

/// A member's mirror of the log: entries, tree and roster, which never disagree. In memory an entry takes its own bytes
/// and about a hundred more, most of them hashes of the tree; see [`EntryBytes`] for how to look into one.
#[derive(Clone, Default)]
pub struct Log {
    entries: Vec<EntryBytes>,
    last_time: Option<i64>,
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
        let (kept, entry) = EntryBytes::read(leaf).map_err(|source| LogError::Entry { index, source })?;
        validate_next(index, self.last_time, entry.time, now)?;
        match self.roster.after(index, &entry) {
            Ok(Some(next)) => {
                if opens_elsewhere(&entry, &self.tree) {
                    return Err(LogError::Opening { index });
                }
                self.roster = next;
            }
            Ok(None) => {}
            Err(why) => {
                self.voids.insert(index, why);
            }
        }
        self.tree.append(leaf);
        self.entries.push(kept);
        self.last_time = Some(entry.time);
        Ok(index)
    }

    /// Where the log is now, to go back to.
    pub fn mark(&self) -> Mark {
        Mark { size: self.size(), roster: self.roster.clone() }
    }

    /// Goes back to where the log was.
    pub fn roll_back(&mut self, mark: Mark) {
        self.entries.truncate(usize::try_from(mark.size).unwrap_or(usize::MAX));
        self.tree.truncate(mark.size);
        self.voids.split_off(&mark.size);
        self.roster = mark.roster;
        self.last_time = self.entries.last().map(EntryBytes::time);
    }

    /// Cuts the log back to its first `size` entries; gives those that were cut off.
    pub fn truncate(&mut self, size: u64) -> Vec<EntryBytes> {
        let at = usize::try_from(size).unwrap_or(usize::MAX).min(self.entries.len());
        let cut = self.entries.split_off(at);
        if !cut.is_empty() {
            self.tree.truncate(size);
            (self.roster, self.voids) = Roster::fold(self.entries.iter().map(EntryBytes::entry));
            self.last_time = self.entries.last().map(EntryBytes::time);
        }
        cut
    }

    /// All entries, pending ones with them.
    pub fn entries(&self) -> &[EntryBytes] {
        &self.entries
    }

    /// The entries in force. None, if the evidence is of another history than this log's.
    pub fn in_force(&self, evidence: &InForce) -> &[EntryBytes] {
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
        self.last_time
    }

    /// Where a checkpoint of this log stands for whoever has nothing in force: [`watermark`] with this log's tree and
    /// roster.
    ///
    /// # Errors
    /// When it is not genuine.
    pub fn standing(&self, checkpoint: &SignedCheckpoint) -> Result<Standing, LogError> {
        watermark(&self.tree, checkpoint, &self.roster, 0)
    }

    /// Where it stands for whoever has the first `above` entries in force.
    ///
    /// # Errors
    /// When it is not genuine.
    pub fn standing_above(&self, checkpoint: &SignedCheckpoint, above: u64) -> Result<Standing, LogError> {
        watermark(&self.tree, checkpoint, &self.roster, above)
    }

    /// Cosigns a checkpoint whose every entry this log has taken in, at `now` milliseconds. Gives also what the caller
    /// must have written to its own store before the cosignatures leave.
    ///
    /// # Errors
    /// When the checkpoint is not genuine or does not extend what was cosigned before in its term.
    pub fn cosign<'k>(
        &self,
        checkpoint: &SignedCheckpoint,
        party: &str,
        keys: impl Into<CosignKeys<'k>>,
        now: i64,
        before: Option<Cosigned>,
    ) -> Result<(Vec<Cosignature>, Cosigned), LogError> {
        check_genuine(&self.tree, checkpoint, &self.roster)?;
        let (size, root) = (checkpoint.checkpoint().size(), checkpoint.checkpoint().root());
        let term = self.roster.electorate_at(size).map_or(0, |e| e.term);
        let next = Cosigned { size, root, term };
        if let Some(before) = before {
            // The entries here may have been restored from an old copy, so what was cosigned is compared on its own.
            // A later term may begin below what was cosigned in an earlier one, never below what is in force.
            let extends = before.term < term
                || before.term == term
                    && before.size <= size
                    && self.tree.root_at(before.size)? == before.root;
            if !extends {
                return Err(LogError::BelowCosigned { size, cosigned: before.size });
            }
        }
        let seconds = u64::try_from(now.div_euclid(1000)).unwrap_or(0);
        let cosignatures = Cosignature::sign_all(checkpoint.checkpoint(), party, seconds, &keys.into())?;
        Ok((cosignatures, next))
    }
}

/// Whether an entry begins a term over another history than this tree's.
pub(crate) fn opens_elsewhere(entry: &Entry, before: &Tree) -> bool {
    let statement = entry.signed.statement();
    statement.r#type == OPEN && statement.body_as::<Opening>().is_ok_and(|o| o.root != before.root())
}
