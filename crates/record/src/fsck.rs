//! Checks a stored copy of the record from its bytes alone, and says where it is damaged.
//!
//! Everything that a store keeps of the record follows from the entries: leaf hashes, tiles, roots, checkpoints. A
//! [`Scan`] takes the entries once, in order, and derives all of it again. What does not fit is a [`Damage`] with its
//! place: the entry, the line of a note, the hash of a tile, and the byte as far as it can be known.
//!
//! Most bytes of an entry stand under a signature and all of it under the root, but a signature that fails does not
//! say which byte fell, and the stamp is under the root alone. So where the root of a kept checkpoint fails, the scan
//! *tries*: an entry with one bit (or one byte) changed back either leads to the root or does not, and what leads to
//! it is what stood there, since nothing else can. Effort is bounded ([`Scan::effort`]).
//!
//! Threat model: a disk, a file system, a restored backup, or someone with access to the files. Whoever can also sign
//! as the hub and as a quorum of members can make another record, which no reader of one copy notices; whoever owns the
//! folder can make all of its notes agree. A copy is compared with a second one for that ([`Copy`]).

mod note;
mod refill;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

pub use refill::{Keep, Refill, RefillError, Refilled};

use crate::canon::CanonError;
use crate::checkpoint::{CheckpointError, Cosignature};
use crate::digest::Digest;
use crate::entry::{Entry, EntryError};
use crate::log::{Cosigned, LogError, validate_next};
use crate::roster::{PROPOSE, Roster, Why};
use crate::statement::StatementError;
use crate::tree::{TILE_WIDTH, TileKind, TilePath, Tree, leaf_hash};

/// The name of the one thing of which there is no second copy.
pub const COSIGNED: &str = "the note of what was cosigned";
/// Hash computations that a scan spends on finding one byte, unless told otherwise.
pub const EFFORT: u64 = 20_000_000;
/// Entries that are doubted one by one; more than so many are one finding.
const MAX_DOUBTS: usize = 256;

/// Where something is damaged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// SQLite's own structures.
    Store,
    /// An entry.
    Entry(u64),
    /// One or more of the entries `from..to`.
    Entries {
        /// The first that may be meant.
        from: u64,
        /// One after the last.
        to: u64,
    },
    /// A stored tile, by its path.
    Tile(String),
    /// A line of a stored note, counted from 1.
    Note {
        /// The name under which it is kept.
        name: String,
        /// Its line.
        line: u64,
    },
    /// A stored cosignature.
    Cosignature {
        /// Size of the checkpoint that it is on.
        size: u64,
        /// The name that it is kept under.
        name: String,
    },
    /// Anything else that is kept, by its name.
    Kept(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Store => f.write_str("store"),
            Place::Entry(index) => write!(f, "entry {index}"),
            Place::Entries { from, to } if from + 1 == *to => write!(f, "entry {from}"),
            Place::Entries { from, to } => write!(f, "entries {from} to {}", to.saturating_sub(1)),
            Place::Tile(path) => write!(f, "{path}"),
            Place::Note { name, line } => write!(f, "note `{name}`, line {line}"),
            Place::Cosignature { size, name } => write!(f, "cosignature of `{name}` on size {size}"),
            Place::Kept(name) => f.write_str(name),
        }
    }
}

/// What is wrong there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// No entry of the log has this form.
    #[error(transparent)]
    Form(#[from] EntryError),
    /// Its stamp or its checkpoint does not fit.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Its signature fails, in a record whose root fails or that nobody has cosigned yet.
    #[error("{0}")]
    Void(Why),
    /// It is not the entry that was recorded.
    #[error("it is not what was recorded: the checkpoint of size {size} has another root")]
    Root {
        /// Size of the checkpoint that shows it.
        size: u64,
    },
    /// It is not there.
    #[error("missing")]
    Missing,
    /// It differs from what the entries give.
    #[error("it differs from what the entries give")]
    Hash,
    /// The bytes do not have the form.
    #[error("malformed: expected {0}")]
    Malformed(&'static str),
    /// A note or a signature line.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The other copy has other bytes.
    #[error("the other copy has other bytes here")]
    Differs,
    /// What the store itself says.
    #[error("{0}")]
    Store(String),
}

/// One damaged thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where.
    pub place: Place,
    /// The first wrong byte and the number of bytes there, as far as it can be known.
    pub byte: Option<(u64, u64)>,
    /// What is wrong.
    pub fault: Fault,
}

impl Damage {
    /// Damage at a place.
    pub fn at(place: Place, fault: impl Into<Fault>) -> Self {
        Damage { place, byte: None, fault: fault.into() }
    }

    fn byte(mut self, byte: Option<usize>, of: usize) -> Self {
        self.byte = byte.map(|at| (at as u64, of as u64));
        self
    }

    /// The first entry that may be meant, if entries are.
    pub fn entry(&self) -> Option<u64> {
        match self.place {
            Place::Entry(index) | Place::Entries { from: index, .. } => Some(index),
            _ => None,
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        if let Some((at, of)) = self.byte {
            write!(f, ", byte {at} of {of}")?;
        }
        write!(f, ": {}", self.fault)
    }
}

/// What was found in a copy.
#[derive(Clone, Debug)]
pub struct Report {
    /// Entries that are there.
    pub size: u64,
    /// Root over them.
    pub root: Digest,
    /// Digest of the charter.
    pub charter: Option<Digest>,
    /// Size up to which a kept checkpoint or cosignature confirms the entries.
    pub confirmed: u64,
    /// Entries that signatures or the roster make void; they are part of a sound record.
    pub voids: u64,
    /// Signatures, notes, tiles and cosignatures that were checked.
    pub checked: u64,
    /// Digest of the state that the entries fold to, where whoever checks knows what they mean.
    pub state: Option<Digest>,
    /// Everything that is damaged, entries first, in order.
    pub damages: Vec<Damage>,
}

impl Report {
    /// The first entry that is or may be damaged: what is below it is good.
    pub fn first_bad_entry(&self) -> Option<u64> {
        self.damages.iter().filter_map(Damage::entry).min()
    }

    /// Whether nothing is damaged.
    pub fn is_clean(&self) -> bool {
        self.damages.is_empty()
    }
}

/// Another copy of the record: to compare with, or to fill up from. What it gives is believed by nobody.
pub trait Copy {
    /// How many entries it has.
    fn size(&mut self) -> Result<u64, String>;
    /// An entry; nothing if it has it not.
    fn entry(&mut self, index: u64) -> Result<Option<Vec<u8>>, String>;
    /// The checkpoints that it keeps, those among them that sealed changes of members, keys or hub.
    fn notes(&mut self) -> Result<Vec<String>, String>;
}

impl Copy for crate::Bundle {
    fn size(&mut self) -> Result<u64, String> {
        Ok(self.entries.len() as u64)
    }

    fn entry(&mut self, index: u64) -> Result<Option<Vec<u8>>, String> {
        Ok(usize::try_from(index).ok().and_then(|i| self.entries.get(i)).cloned())
    }

    fn notes(&mut self) -> Result<Vec<String>, String> {
        Ok(self.seals.iter().chain([&self.checkpoint]).cloned().collect())
    }
}

/// What a store keeps beside the entries.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// Signed notes, by the name under which they are kept.
    pub notes: Vec<(String, Vec<u8>)>,
    /// Cosignature lines with the size that they are for and the name that they are kept under.
    pub cosignatures: Vec<(u64, String, String)>,
    /// What this member cosigned last.
    pub cosigned: Option<Cosigned>,
    /// The roster that the charter begins, where the charter is known from elsewhere.
    pub pinned: Option<Roster>,
}

/// Takes in a copy and finds what is wrong with it.
#[derive(Clone)]
pub struct Scan {
    kept: Kept,
    tree: Tree,
    roster: Roster,
    /// The roster at each size that something is kept about.
    rosters: BTreeMap<u64, Roster>,
    last: Option<i64>,
    broken: BTreeMap<u64, Damage>,
    doubts: BTreeMap<u64, Fault>,
    voids: u64,
    checked: u64,
    effort: u64,
}

/// A root that some entries should have.
struct Witness {
    size: u64,
    root: Option<Digest>,
    lines: Vec<Cosignature>,
}

impl Scan {
    /// A scan of a store that keeps this beside its entries.
    pub fn new(kept: Kept) -> Self {
        let sizes = kept.notes.iter().filter_map(|(_, note)| size_of_note(note));
        let sizes = sizes.chain(kept.cosignatures.iter().map(|(size, ..)| *size));
        let rosters = sizes.map(|size| (size, Roster::new())).collect();
        Scan {
            kept,
            tree: Tree::new(),
            roster: Roster::new(),
            rosters,
            last: None,
            broken: BTreeMap::new(),
            doubts: BTreeMap::new(),
            voids: 0,
            checked: 0,
            effort: EFFORT,
        }
    }

    /// Spends at most so many hash computations on finding single bytes.
    pub fn effort(mut self, hashes: u64) -> Self {
        self.effort = hashes;
        self
    }

    /// Entries taken so far.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Takes the next entry that the store has; those between the last and this one are missing.
    pub fn entry(&mut self, index: u64, bytes: &[u8]) {
        while self.tree.size() < index && self.broken.len() < MAX_DOUBTS {
            let missing = self.tree.append(b"");
            self.broken.insert(missing, Damage::at(Place::Entry(missing), Fault::Missing));
        }
        let index = self.tree.append(bytes);
        match Entry::from_bytes(bytes) {
            Err(fault) => {
                let at = form_byte(bytes, &fault);
                self.broken.insert(index, Damage::at(Place::Entry(index), fault).byte(at, bytes.len()));
                self.fall_back();
            }
            Ok(entry) => self.fold(index, &entry),
        }
        if let Some(slot) = self.rosters.get_mut(&self.tree.size()) {
            *slot = self.roster.clone();
        }
    }

    fn fold(&mut self, index: u64, entry: &Entry) {
        self.checked += entry.signed.signatures().len() as u64;
        if let Err(fault) = validate_next(index, self.last, entry.time, None) {
            self.doubt(index.saturating_sub(1), fault.clone().into());
            self.doubt(index, fault.into());
        }
        self.last = Some(entry.time);
        if let Err(why) = self.roster.apply(index, entry) {
            self.voids += 1;
            // Where the charter's own entry fell, none after it can be checked, and they are not to blame.
            if why != Why::NoCharter || (self.broken.is_empty() && self.doubts.is_empty()) {
                self.doubt(index, Fault::Void(why));
            }
            if entry.signed.statement().r#type == PROPOSE {
                self.fall_back();
            }
        }
    }

    fn doubt(&mut self, index: u64, fault: Fault) {
        if self.doubts.len() < MAX_DOUBTS {
            self.doubts.entry(index).or_insert(fault);
        }
    }

    /// Where the charter's own entry is damaged, the keys come from the charter as it was joined.
    fn fall_back(&mut self) {
        if self.roster.charter_digest.is_none()
            && let Some(pinned) = &self.kept.pinned
        {
            self.roster = pinned.clone();
        }
    }

    fn roster_at(&self, size: u64) -> &Roster {
        self.rosters.get(&size).filter(|r| r.watermark_ready()).unwrap_or(&self.roster)
    }

    /// Checks all that is kept beside the entries, finds the damaged ones, and reports. `tiles` are stored tiles by
    /// their paths; `read` gives an entry of this store again.
    pub fn finish<T: AsRef<[u8]>>(
        mut self,
        tiles: impl IntoIterator<Item = (String, T)>,
        read: &mut dyn FnMut(u64) -> Option<Vec<u8>>,
    ) -> Report {
        self.fall_back();
        let mut damages = Vec::new();
        let mut witnesses = self.notes(&mut damages);
        let lines = self.lines(&mut witnesses);
        if let Some(cosigned) = self.kept.cosigned {
            witnesses.push(Witness { size: cosigned.size, root: Some(cosigned.root), lines: Vec::new() });
        }
        let have = self.tree.size();
        let most = witnesses.iter().map(|w| w.size).max().unwrap_or(0);
        if most > have {
            damages.push(Damage::at(Place::Entries { from: have, to: most }, Fault::Missing));
        }
        let holds = |w: &Witness, tree: &Tree| tree.root_at(w.size).is_ok_and(|root| w.accepts(&root));
        let confirmed = witnesses.iter().filter(|w| holds(w, &self.tree)).map(|w| w.size).max().unwrap_or(0);
        let failing =
            witnesses.iter().filter(|w| w.size <= have && w.size > confirmed && !holds(w, &self.tree));
        let failing: Option<&Witness> = failing.min_by_key(|w| (w.root.is_none(), w.size));

        let tiles = self.tiles(tiles, read);
        let mut entries = self.entries(confirmed, failing, &tiles, read);
        // A line alone that fails, where nothing is wrong with any entry, has failed itself.
        let only_lines =
            failing.is_some_and(|w| w.root.is_none()) && !entries.iter().any(|d| d.byte.is_some());
        if only_lines && self.broken.is_empty() && self.doubts.keys().all(|i| *i < confirmed) {
            entries.retain(|d| !matches!(d.place, Place::Entries { .. }));
        }
        let first = entries.iter().filter_map(Damage::entry).min().unwrap_or(u64::MAX);
        for (size, name, fault) in lines {
            let sound = self.tree.root_at(size).is_err() || size > first;
            if !sound || matches!(fault, Fault::Malformed(_)) || only_lines {
                damages.push(Damage::at(Place::Cosignature { size, name }, fault));
            }
        }
        if let Some(cosigned) = self.kept.cosigned
            && cosigned.size <= have
            && cosigned.size <= first
            && self
                .roster_at(cosigned.size)
                .electorate_at(cosigned.size)
                .is_none_or(|e| e.term == cosigned.term)
            && self.tree.root_at(cosigned.size) != Ok(cosigned.root)
        {
            let fault = Fault::Root { size: cosigned.size };
            damages.push(Damage::at(Place::Kept(COSIGNED.to_owned()), fault));
        }
        damages.extend(tiles.into_iter().filter(|t| !t.follows_from(&entries)).map(|t| t.damage));
        entries.extend(damages);
        entries.sort_by(|a, b| a.place.cmp(&b.place));
        Report {
            size: have,
            root: self.tree.root(),
            charter: self.roster.charter_digest,
            confirmed,
            voids: self.voids,
            checked: self.checked,
            state: None,
            damages: entries,
        }
    }

    /// Reads the notes; those that are sound are witnesses.
    fn notes(&mut self, damages: &mut Vec<Damage>) -> Vec<Witness> {
        let mut witnesses = Vec::new();
        for (name, note) in std::mem::take(&mut self.kept.notes) {
            self.checked += 1;
            let size = size_of_note(&note).unwrap_or(u64::MAX);
            let roster = self.roster_at(size);
            let (genuine, faults) = note::note_faults(&note, roster, &self.tree);
            if let Some(signed) = genuine {
                let (size, root) = (signed.checkpoint().size(), Some(signed.checkpoint().root()));
                witnesses.push(Witness { size, root, lines: Vec::new() });
            }
            damages.extend(faults.into_iter().map(|(line, byte, fault)| {
                let place = Place::Note { name: name.clone(), line };
                Damage::at(place, fault).byte(byte, note.len())
            }));
        }
        witnesses
    }

    /// Reads the single cosignatures; gives those that do not hold. Each size with any is a witness.
    fn lines(&mut self, witnesses: &mut Vec<Witness>) -> Vec<(u64, String, Fault)> {
        let mut failing = Vec::new();
        let mut by_size: BTreeMap<u64, Vec<Cosignature>> = BTreeMap::new();
        for (size, name, line) in std::mem::take(&mut self.kept.cosignatures) {
            self.checked += 1;
            let cosignature = match Cosignature::from_line(&line) {
                Ok(cosignature) if cosignature.name() == name || cosignature.slot() == name => cosignature,
                _ => {
                    failing.push((size, name, Fault::Malformed("the line of a cosignature by that name")));
                    continue;
                }
            };
            let roster = self.roster_at(size);
            let held = self.tree.root_at(size).is_ok_and(|root| holds(&cosignature, roster, size, root));
            if !held {
                let fault = CheckpointError::Cosignature { name: name.clone(), size };
                failing.push((size, name, fault.into()));
            }
            by_size.entry(size).or_default().push(cosignature);
        }
        for (size, lines) in by_size {
            let lines = lines.into_iter().collect();
            witnesses.push(Witness { size, root: None, lines });
        }
        // INVARIANT: a witness of lines has its keys beside it, see `Witness::accepts`.
        let roster = self.roster.clone();
        for witness in witnesses.iter_mut().filter(|w| w.root.is_none()) {
            let roster = self.rosters.get(&witness.size).filter(|r| r.watermark_ready()).unwrap_or(&roster);
            let root = self.tree.root_at(witness.size).ok();
            if let Some(root) = root
                && witness.lines.iter().any(|line| holds(line, roster, witness.size, root))
            {
                witness.root = Some(root);
            }
        }
        failing
    }

    /// Compares tiles with the tree; what differs.
    fn tiles<T: AsRef<[u8]>>(
        &mut self,
        tiles: impl IntoIterator<Item = (String, T)>,
        read: &mut dyn FnMut(u64) -> Option<Vec<u8>>,
    ) -> Vec<BadTile> {
        let mut bad = Vec::new();
        for (name, bytes) in tiles {
            self.checked += 1;
            if bad.len() >= MAX_DOUBTS {
                break;
            }
            let bytes = bytes.as_ref();
            let Ok(path) = name.parse::<TilePath>() else {
                let fault = Fault::Malformed("a tile path, as `tile/0/x001/234.p/5`");
                bad.push(BadTile {
                    damage: Damage::at(Place::Tile(name), fault),
                    covers: None,
                    leaves: Vec::new(),
                });
                continue;
            };
            bad.extend(match path.kind {
                TileKind::Hashes(level) => self.hash_tile(name, path, level, bytes),
                TileKind::Entries => self.entry_tile(name, path, bytes, read),
            });
        }
        bad
    }

    fn hash_tile(&self, name: String, path: TilePath, level: u8, bytes: &[u8]) -> Option<BadTile> {
        let Ok(ours) = self.tree.tile(&path) else {
            let damage = Damage::at(Place::Tile(name), Fault::Missing);
            return Some(BadTile { damage, covers: None, leaves: Vec::new() });
        };
        let at = first_difference(&ours, bytes)?;
        let damage = Damage::at(Place::Tile(name), Fault::Hash).byte(Some(at), bytes.len());
        let start = path.index.saturating_mul(TILE_WIDTH);
        let span = 1_u64.checked_shl(8 * u32::from(level)).unwrap_or(0);
        let node = start.saturating_add(at as u64 / 32);
        let covers = Some((node.saturating_mul(span), node.saturating_add(1).saturating_mul(span)));
        let mut leaves = Vec::new();
        if level == 0 {
            let pairs = (start..).zip(ours.chunks_exact(32).zip(bytes.chunks_exact(32)));
            for (index, (_, theirs)) in pairs.filter(|(_, (ours, theirs))| ours != theirs) {
                leaves.extend(theirs.first_chunk().map(|hash| (index, Digest::from_bytes(*hash))));
            }
        }
        Some(BadTile { damage, covers, leaves })
    }

    fn entry_tile(
        &self,
        name: String,
        path: TilePath,
        bytes: &[u8],
        read: &mut dyn FnMut(u64) -> Option<Vec<u8>>,
    ) -> Option<BadTile> {
        let first = path.index.saturating_mul(TILE_WIDTH);
        let (mut rest, mut at) = (bytes, 0);
        let bad = |byte, covers, leaf: Option<(u64, Digest)>, fault| {
            let damage = Damage::at(Place::Tile(name.clone()), fault).byte(Some(byte), bytes.len());
            Some(BadTile { damage, covers, leaves: leaf.into_iter().collect() })
        };
        for index in first..first.saturating_add(u64::from(path.width)) {
            let framed = rest
                .split_first_chunk::<2>()
                .and_then(|(length, after)| after.split_at_checked(usize::from(u16::from_be_bytes(*length))));
            let ours = self.tree.leaf(index);
            match framed {
                Some((entry, after)) if ours == Some(leaf_hash(entry)) => {
                    at += 2 + entry.len();
                    rest = after;
                }
                _ => {
                    let stored = read(index).unwrap_or_default();
                    let length = u16::try_from(stored.len()).unwrap_or(u16::MAX).to_be_bytes();
                    let ours = [length.as_slice(), &stored].concat();
                    let theirs = rest.get(..ours.len()).unwrap_or(rest);
                    let byte = at + first_difference(&ours, theirs).unwrap_or(0);
                    let leaf = framed.map(|(entry, _)| (index, leaf_hash(entry)));
                    return bad(byte, Some((index, index.saturating_add(1))), leaf, Fault::Hash);
                }
            }
        }
        if rest.is_empty() { None } else { bad(at, None, None, Fault::Malformed("the end of the tile")) }
    }

    /// The damaged entries.
    fn entries(
        &mut self,
        confirmed: u64,
        failing: Option<&Witness>,
        tiles: &[BadTile],
        read: &mut dyn FnMut(u64) -> Option<Vec<u8>>,
    ) -> Vec<Damage> {
        let mut found: BTreeMap<u64, Damage> = std::mem::take(&mut self.broken);
        let marks: BTreeMap<u64, Digest> = tiles.iter().flat_map(|t| t.leaves.iter().copied()).collect();
        if let Some(witness) = failing
            && !marks.is_empty()
            && self.lead_to(&marks, witness)
        {
            // The tiles have the root, so each entry that is not as they say is damaged, and no other.
            let mut broken = std::mem::take(&mut found);
            let mut effort = self.effort;
            for (&index, leaf) in marks.range(..witness.size) {
                let bytes = read(index).unwrap_or_default();
                let byte = mend(&bytes, (0..bytes.len(), BYTES), 0, &mut effort, |changed| changed == *leaf);
                let fault = broken.remove(&index).map(|d| d.fault).or_else(|| self.doubts.remove(&index));
                let fault = fault.unwrap_or(Fault::Root { size: witness.size });
                found.insert(index, Damage::at(Place::Entry(index), fault).byte(byte, bytes.len()));
            }
            found.extend(broken.split_off(&witness.size));
            self.doubts.retain(|i, _| *i >= witness.size);
        } else if let Some(witness) = failing {
            let doubts = self.doubts.range(confirmed..witness.size).map(|(i, _)| *i);
            let doubted: Vec<u64> =
                found.keys().copied().filter(|i| *i < witness.size).chain(doubts).collect();
            let single = self.search(confirmed, witness, &doubted, read);
            if let Some((index, byte, of)) = single {
                let fault = found.remove(&index).map(|d| d.fault);
                let fault = fault.or_else(|| self.doubts.get(&index).cloned());
                let fault = fault.unwrap_or(Fault::Root { size: witness.size });
                let damage = Damage::at(Place::Entry(index), fault).byte(byte, of);
                // With this one as it was the root holds, so nothing else below it is damaged.
                found.retain(|i, _| *i >= witness.size);
                found.insert(index, damage);
                self.doubts.retain(|i, _| *i >= witness.size);
            }
        }
        // A void statement is part of a sound record; where nothing confirms it, it is where a change may be.
        let whole = failing.map_or(confirmed, |w| w.size);
        for (index, fault) in self.doubts.range(confirmed..) {
            if failing.is_some() || *index >= whole {
                found.entry(*index).or_insert_with(|| Damage::at(Place::Entry(*index), fault.clone()));
            }
        }
        let mut damages: Vec<Damage> = found.into_values().collect();
        if let Some(witness) = failing
            && !damages.iter().any(|d| d.entry().is_some_and(|i| i < witness.size))
        {
            let place = Place::Entries { from: confirmed, to: witness.size };
            damages.push(Damage::at(place, Fault::Root { size: witness.size }));
        }
        damages
    }

    /// The one entry that, changed back in one bit or byte, leads to the root.
    fn search(
        &self,
        from: u64,
        witness: &Witness,
        doubted: &[u64],
        read: &mut dyn FnMut(u64) -> Option<Vec<u8>>,
    ) -> Option<(u64, Option<usize>, usize)> {
        let mut effort = self.effort;
        for masks in [BITS, BYTES] {
            for &index in doubted {
                let Some(bytes) = read(index) else { continue };
                let whole = 0..bytes.len();
                if let Some(byte) = self.mend(witness, index, &bytes, &mut effort, (whole, masks)) {
                    return Some((index, Some(byte), bytes.len()));
                }
            }
        }
        if !doubted.is_empty() {
            return None;
        }
        // Every signature holds, so it is a stamp: the one part of an entry that no signature covers.
        for masks in [BITS, BYTES] {
            for index in from..witness.size {
                let Some(bytes) = read(index) else { continue };
                let stamp = stamp_of(&bytes);
                if let Some(byte) = self.mend(witness, index, &bytes, &mut effort, (stamp, masks)) {
                    return Some((index, Some(byte), bytes.len()));
                }
                if effort == 0 {
                    return None;
                }
            }
        }
        None
    }

    fn fits(&self, witness: &Witness, leaf: &Digest, index: u64, path: &[Digest]) -> bool {
        let Some(root) = root_from(leaf, index, witness.size, path) else { return false };
        match witness.root {
            Some(_) => witness.accepts(&root),
            None => {
                let roster = self.roster_at(witness.size);
                witness.lines.iter().any(|line| holds(line, roster, witness.size, root))
            }
        }
    }

    /// The byte in `part` of an entry that, changed, leads to the witness's root.
    fn mend(
        &self,
        witness: &Witness,
        index: u64,
        bytes: &[u8],
        effort: &mut u64,
        within: (Range<usize>, Masks),
    ) -> Option<usize> {
        let path = self.tree.prove_inclusion(index, witness.size).ok()?;
        let fits = |leaf: Digest| self.fits(witness, &leaf, index, &path);
        // Verifying a signature takes as long as some two hundred hashes.
        let verify = if witness.root.is_none() { 100 } else { 0 };
        mend(bytes, within, path.len() + verify, effort, fits)
    }

    /// Whether the leaves of the tree, with these instead of ours, have the witness's root.
    fn lead_to(&self, marks: &BTreeMap<u64, Digest>, witness: &Witness) -> bool {
        let leaf = |index| marks.get(&index).copied().or_else(|| self.tree.leaf(index));
        let tree = Tree::from_leaf_hashes((0..witness.size).filter_map(leaf));
        let roster = self.roster_at(witness.size);
        match witness.root {
            Some(_) => witness.accepts(&tree.root()),
            None => witness.lines.iter().any(|line| holds(line, roster, witness.size, tree.root())),
        }
    }
}

/// Changes of a byte that are tried.
type Masks = fn() -> Vec<u8>;
const BITS: Masks = || (0..8).map(|bit| 1 << bit).collect();
const BYTES: Masks = || {
    let others = (1..=255_u8).filter(|mask| !mask.is_power_of_two());
    BITS().into_iter().chain(others).collect()
};

/// The byte in `part` that, with a bit or more of it changed, gives a leaf that `fits`; `cost` are the hashes that each
/// trial takes beside that of the leaf.
fn mend(
    bytes: &[u8],
    (part, masks): (Range<usize>, Masks),
    cost: usize,
    effort: &mut u64,
    fits: impl Fn(Digest) -> bool,
) -> Option<usize> {
    let mut changed = bytes.to_vec();
    let cost = (bytes.len() / 64 + 2 + 2 * cost) as u64;
    for mask in masks() {
        for at in part.clone() {
            let Some(left) = effort.checked_sub(cost) else {
                *effort = 0;
                return None;
            };
            *effort = left;
            let flip = |changed: &mut Vec<u8>| changed.get_mut(at).map(|byte| *byte ^= mask);
            flip(&mut changed);
            if fits(leaf_hash(&changed)) {
                return Some(at);
            }
            flip(&mut changed);
        }
    }
    None
}

impl Witness {
    fn accepts(&self, root: &Digest) -> bool {
        self.root.as_ref() == Some(root)
    }
}

/// A tile that differs, the entries that the first difference covers, and what it says of one of them.
struct BadTile {
    damage: Damage,
    covers: Option<(u64, u64)>,
    leaves: Vec<(u64, Digest)>,
}

impl BadTile {
    /// Whether a damaged entry is why it differs.
    fn follows_from(&self, entries: &[Damage]) -> bool {
        let within = |entry| self.covers.is_some_and(|(from, to)| (from..to).contains(&entry));
        entries.iter().filter_map(Damage::entry).any(within)
    }
}

/// Whether a cosignature is by a member of the roster, on this size and root.
fn holds(line: &Cosignature, roster: &Roster, size: u64, root: Digest) -> bool {
    let checkpoint = crate::Checkpoint::new(&roster.origin, size, root);
    let mut cosigners = roster.eras.iter().rev().filter_map(|era| era.electorate.cosigner(line.name()));
    checkpoint.is_ok_and(|c| cosigners.any(|cosigner| line.verify_by(&c, cosigner).is_ok()))
}

fn size_of_note(note: &[u8]) -> Option<u64> {
    std::str::from_utf8(note).ok()?.lines().nth(1)?.parse().ok()
}

/// Where two byte strings first differ; where the shorter ends, if it begins the longer.
pub fn first_difference(ours: &[u8], theirs: &[u8]) -> Option<usize> {
    let same = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    (same < ours.len() || same < theirs.len()).then_some(same)
}

/// The bytes of an entry's stamp.
fn stamp_of(bytes: &[u8]) -> Range<usize> {
    let start = bytes.iter().position(|b| *b == b'\n').map_or(0, |line| line + 1) + 5;
    let end = bytes.iter().skip(start).position(|b| *b == b'\n').map_or(start, |length| start + length);
    start..end
}

/// Where the form of an entry breaks, as far as its reader can tell.
fn form_byte(bytes: &[u8], fault: &EntryError) -> Option<usize> {
    let head: &[u8] = b"comity-entry/1\ntime ";
    if let Some(at) = first_difference(head, bytes.get(..head.len()).unwrap_or(bytes)) {
        return Some(at);
    }
    let statement = stamp_of(bytes).end + 1;
    let json = bytes.windows(2).position(|two| two == b"\n\n").map(|at| at + 2);
    match fault {
        EntryError::Framing { .. } => {
            let stamp = stamp_of(bytes);
            let digits = bytes.get(stamp.clone())?;
            Some(stamp.start + digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(0))
        }
        EntryError::Statement(StatementError::Canon(CanonError::NotUtf8 { at })) => Some(statement + at),
        EntryError::Statement(StatementError::Canon(
            CanonError::Unexpected { at, .. } | CanonError::NotCanonical { at },
        )) => Some(json? + at),
        EntryError::Statement(StatementError::Framing { .. }) => {
            let line: &[u8] = b"comity-statement/1\nsig ed25519 ";
            let rest = bytes.get(statement..)?;
            let same = rest.iter().zip(line).take_while(|(a, b)| a == b).count();
            (same < line.len()).then_some(statement + same)
        }
        _ => None,
    }
}

/// The root that an inclusion proof leads to (RFC 9162, 2.1.3.2).
fn root_from(leaf: &Digest, index: u64, size: u64, path: &[Digest]) -> Option<Digest> {
    if index >= size {
        return None;
    }
    let node = |left: &Digest, right: &Digest| {
        let (left, right) = (tlog_tiles::Hash(*left.as_bytes()), tlog_tiles::Hash(*right.as_bytes()));
        Digest::from_bytes(tlog_tiles::node_hash(left, right).0)
    };
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            hash = node(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

/// Names the exact entry and byte of what a scan could not, by another copy of the record.
///
/// # Errors
/// When the other copy cannot be read.
pub fn compare(
    report: &mut Report,
    read: &mut dyn FnMut(u64) -> Option<Vec<u8>>,
    other: &mut dyn Copy,
) -> Result<(), String> {
    let mut named = Vec::with_capacity(report.damages.len());
    for damage in std::mem::take(&mut report.damages) {
        let range = match damage.place {
            Place::Entry(index) if damage.byte.is_none() => index..index.saturating_add(1),
            Place::Entries { from, to } if damage.fault != Fault::Missing => from..to,
            _ => 0..0,
        };
        let before = named.len();
        for index in range {
            let (Some(ours), Some(theirs)) = (read(index), other.entry(index)?) else { continue };
            if let Some(at) = first_difference(&ours, &theirs) {
                let fault = match damage.place {
                    Place::Entry(_) => damage.fault.clone(),
                    _ => Fault::Differs,
                };
                named.push(Damage::at(Place::Entry(index), fault).byte(Some(at), ours.len()));
            }
        }
        if named.len() == before {
            named.push(damage);
        }
    }
    report.damages = named;
    Ok(())
}
