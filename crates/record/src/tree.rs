//! The Merkle tree of RFC 6962, its proofs, and its tiles.
//!
//! The arithmetic of proofs is `tlog_tiles`'. Hashes are kept by level, since this room keeps them in memory: a
//! record of a million entries is 64 MB, and what is stored for good is the entries, from which all follows.

use std::fmt;
use std::str::FromStr;

use tlog_tiles::{EMPTY_HASH, Hash, HashReader};

use crate::digest::{Digest, excerpt};

/// Hashes in a full tile, and entries in a full bundle (C2SP tlog-tiles).
pub const TILE_WIDTH: u64 = 256;
/// No proof in a tree of at most 2^64 leaves is longer; a longer one is refused unread.
const MAX_PROOF: usize = 65;

/// A proof or a tile that cannot be had, or a proof that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// A leaf or size outside the tree.
    #[error("index or size {asked} is outside a tree of {size} entries")]
    Outside {
        /// What was asked for.
        asked: u64,
        /// Leaves in the tree.
        size: u64,
    },
    /// The proof does not lead to the root.
    #[error("proof does not lead to the root of the tree of {size} entries")]
    Proof {
        /// Leaves in the tree that the proof was to be about.
        size: u64,
    },
    /// A path that names no tile.
    #[error("found `{0}`, expected a tile path, as `tile/0/x001/234.p/5`")]
    TilePath(String),
    /// A tile that the tree does not have yet.
    #[error("tile `{0}` is beyond the tree")]
    NoTile(TilePath),
}

fn digest(hash: Hash) -> Digest {
    Digest::from_bytes(hash.0)
}

fn hash(digest: &Digest) -> Hash {
    Hash(*digest.as_bytes())
}

/// The hash of a leaf: SHA-256(0x00 ‖ leaf), RFC 6962 section 2.1.
pub fn leaf_hash(leaf: &[u8]) -> Digest {
    digest(tlog_tiles::record_hash(leaf))
}

/// An append-only Merkle tree, all its hashes in memory.
#[derive(Clone, Default)]
pub struct Tree {
    /// `levels[l][i]` is the hash of the full subtree over leaves `i * 2^l .. (i + 1) * 2^l`.
    // INVARIANT: levels[l].len() == size >> l, and no level beyond the last non-empty one.
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// The empty tree.
    pub fn new() -> Self {
        Tree::default()
    }

    /// The tree of these leaf hashes, as [`leaf_hash`] gives them.
    pub fn from_leaf_hashes(leaves: impl IntoIterator<Item = Digest>) -> Self {
        let mut tree = Tree::new();
        for leaf in leaves {
            tree.append_hash(leaf);
        }
        tree
    }

    /// Appends a leaf; gives its index.
    pub fn append(&mut self, leaf: &[u8]) -> u64 {
        self.append_hash(leaf_hash(leaf))
    }

    /// Appends a leaf by its hash; gives its index.
    pub fn append_hash(&mut self, leaf: Digest) -> u64 {
        let index = self.size();
        let mut carry = Some(hash(&leaf));
        let mut level = 0;
        while let Some(node) = carry.take() {
            if self.levels.len() <= level {
                self.levels.push(Vec::new());
            }
            let Some(row) = self.levels.get_mut(level) else {
                break;
            };
            row.push(node);
            if row.len().is_multiple_of(2)
                && let [.., left, right] = row.as_slice()
            {
                carry = Some(tlog_tiles::node_hash(*left, *right));
            }
            level += 1;
        }
        index
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |row| row.len() as u64)
    }

    /// Cuts the tree back to its first `size` leaves; nothing if it has no more.
    pub fn truncate(&mut self, size: u64) {
        for (level, row) in self.levels.iter_mut().enumerate() {
            // INVARIANT: row `level` holds the roots of the full subtrees of 2^level leaves.
            let full = u32::try_from(level).ok().and_then(|l| size.checked_shr(l)).unwrap_or(0);
            row.truncate(usize::try_from(full).unwrap_or(usize::MAX));
        }
        while self.levels.last().is_some_and(Vec::is_empty) {
            self.levels.pop();
        }
    }

    /// The hash of leaf `index`.
    pub fn leaf(&self, index: u64) -> Option<Digest> {
        self.node(0, index).map(digest)
    }

    /// The root over all leaves.
    pub fn root(&self) -> Digest {
        self.fold(self.size())
    }

    /// The root over the first `size` leaves.
    ///
    /// # Errors
    /// When there are fewer leaves.
    pub fn root_at(&self, size: u64) -> Result<Digest, TreeError> {
        self.within(size)?;
        Ok(self.fold(size))
    }

    /// RFC 6962's root of the first `size` leaves: the full subtrees that make up `size`, hashed from the right.
    /// Needs `size` to be within the tree.
    fn fold(&self, size: u64) -> Digest {
        let mut root: Option<Hash> = None;
        for level in 0..64_u32 {
            let nodes = size >> level;
            if nodes & 1 == 1
                && let Some(left) = self.node(level as usize, nodes - 1)
            {
                root = Some(root.map_or(left, |right| tlog_tiles::node_hash(left, right)));
            }
        }
        digest(root.unwrap_or(EMPTY_HASH))
    }

    fn node(&self, level: usize, index: u64) -> Option<Hash> {
        self.levels.get(level)?.get(usize::try_from(index).ok()?).copied()
    }

    fn within(&self, asked: u64) -> Result<(), TreeError> {
        let size = self.size();
        if asked <= size { Ok(()) } else { Err(TreeError::Outside { asked, size }) }
    }

    /// The proof that leaf `index` is in the tree of the first `size` leaves (RFC 6962, 2.1.1).
    ///
    /// # Errors
    /// When `index < size <= self.size()` does not hold.
    pub fn prove_inclusion(&self, index: u64, size: u64) -> Result<Vec<Digest>, TreeError> {
        self.within(size)?;
        let outside = |_| TreeError::Outside { asked: index, size };
        let proof = tlog_tiles::prove_record(size, index, self).map_err(outside)?;
        Ok(proof.into_iter().map(digest).collect())
    }

    /// The proof that the first `old` leaves begin the first `new` leaves (RFC 6962, 2.1.2). Empty for `old` 0, since
    /// everything begins with nothing.
    ///
    /// # Errors
    /// When `old <= new <= self.size()` does not hold.
    pub fn prove_consistency(&self, old: u64, new: u64) -> Result<Vec<Digest>, TreeError> {
        self.within(new)?;
        if old == 0 {
            return Ok(Vec::new());
        }
        let outside = |_| TreeError::Outside { asked: old, size: new };
        let proof = tlog_tiles::prove_tree(new, old, self).map_err(outside)?;
        Ok(proof.into_iter().map(digest).collect())
    }

    /// The bytes of a hash tile, for readers that speak C2SP tlog-tiles.
    ///
    /// # Errors
    /// When the tile is not complete to the width that was asked for, or names entries, which this tree has not.
    pub fn tile(&self, path: &TilePath) -> Result<Vec<u8>, TreeError> {
        let missing = || TreeError::NoTile(*path);
        let TileKind::Hashes(level) = path.kind else {
            return Err(missing());
        };
        let row = self.levels.get(usize::from(level) * 8).ok_or_else(missing)?;
        let start =
            path.index.checked_mul(TILE_WIDTH).and_then(|s| usize::try_from(s).ok()).ok_or_else(missing)?;
        let end = start.checked_add(usize::from(path.width)).ok_or_else(missing)?;
        let hashes = row.get(start..end).ok_or_else(missing)?;
        Ok(hashes.iter().flat_map(|h| h.0).collect())
    }
}

impl HashReader for Tree {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        indexes
            .iter()
            .map(|&i| {
                let (level, n) = tlog_tiles::split_stored_hash_index(i);
                self.node(usize::from(level), n).ok_or(tlog_tiles::Error::IndexesNotInTree)
            })
            .collect()
    }
}

/// Checks that the leaf with this hash is number `index` of the tree of `size` leaves with root `root`.
///
/// # Errors
/// When the proof does not show it.
pub fn verify_inclusion(
    leaf: &Digest,
    index: u64,
    size: u64,
    root: &Digest,
    proof: &[Digest],
) -> Result<(), TreeError> {
    if index >= size {
        return Err(TreeError::Outside { asked: index, size });
    }
    if proof.len() > MAX_PROOF {
        return Err(TreeError::Proof { size });
    }
    let proof = proof.iter().map(hash).collect();
    tlog_tiles::check_record(&proof, size, hash(root), index, hash(leaf))
        .map_err(|_| TreeError::Proof { size })
}

/// Checks that the tree of `old` leaves with root `old_root` begins the tree of `new` leaves with root `new_root`.
///
/// # Errors
/// When the proof does not show it.
pub fn verify_consistency(
    old: u64,
    old_root: &Digest,
    new: u64,
    new_root: &Digest,
    proof: &[Digest],
) -> Result<(), TreeError> {
    let wrong = TreeError::Proof { size: new };
    if old > new {
        return Err(TreeError::Outside { asked: old, size: new });
    }
    if old == 0 {
        let empty = digest(EMPTY_HASH);
        let holds = proof.is_empty() && *old_root == empty && (new > 0 || *new_root == empty);
        return if holds { Ok(()) } else { Err(wrong) };
    }
    if proof.len() > MAX_PROOF {
        return Err(wrong);
    }
    let proof = proof.iter().map(hash).collect();
    tlog_tiles::check_tree(&proof, new, hash(new_root), old, hash(old_root)).map_err(|_| wrong)
}

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TileKind {
    /// Hashes of the tree at eight times this level, 0 to 63.
    Hashes(u8),
    /// Entries: an entry bundle.
    Entries,
}

/// The name of a tile, `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]` (C2SP tlog-tiles; that form has no height,
/// unlike the paths of the `tlog_tiles` crate).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TilePath {
    /// What it holds.
    pub kind: TileKind,
    /// Its number on its level.
    pub index: u64,
    /// How many hashes or entries: 256 when full.
    pub width: u16,
}

impl TilePath {
    /// The tiles of hashes that a tree of `size` leaves has, the partial ones last on each level.
    pub fn of_tree(size: u64) -> Vec<TilePath> {
        let mut paths = Vec::new();
        for level in 0..8_u8 {
            let nodes = size >> (8 * u32::from(level));
            for index in 0..nodes.div_ceil(TILE_WIDTH) {
                let width = (nodes - index * TILE_WIDTH).min(TILE_WIDTH) as u16;
                paths.push(TilePath { kind: TileKind::Hashes(level), index, width });
            }
        }
        paths
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes(level) => write!(f, "tile/{level}/")?,
            TileKind::Entries => f.write_str("tile/entries/")?,
        }
        let mut groups = vec![format!("{:03}", self.index % 1000)];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(format!("x{:03}", rest % 1000));
            rest /= 1000;
        }
        groups.reverse();
        f.write_str(&groups.join("/"))?;
        if u64::from(self.width) < TILE_WIDTH { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

impl FromStr for TilePath {
    type Err = TreeError;

    fn from_str(text: &str) -> Result<Self, TreeError> {
        let read = || {
            let (kind, rest) = text.strip_prefix("tile/")?.split_once('/')?;
            let kind = match kind {
                "entries" => TileKind::Entries,
                level => TileKind::Hashes(level.parse().ok().filter(|l| *l < 64)?),
            };
            let (index, width) = match rest.split_once(".p/") {
                Some((index, width)) => (index, width.parse().ok().filter(|w| (1..256).contains(w))?),
                None => (rest, TILE_WIDTH as u16),
            };
            let mut n: u64 = 0;
            for group in index.split('/') {
                let digits = group.strip_prefix('x').unwrap_or(group);
                let group: u64 = digits.parse().ok().filter(|_| digits.len() == 3)?;
                n = n.checked_mul(1000)?.checked_add(group)?;
            }
            Some(TilePath { kind, index: n, width })
        };
        // INVARIANT: one path, one tile: accepted if and only if it is how the tile is written.
        read().filter(|path| path.to_string() == text).ok_or_else(|| TreeError::TilePath(excerpt(text)))
    }
}

/// Entries as C2SP tlog-tiles bundles them: each with its length as 16 bits, big-endian.
///
/// # Errors
/// When an entry is longer than 65,535 bytes.
pub fn entry_bundle<'a>(
    entries: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, crate::entry::EntryError> {
    let mut out = Vec::new();
    for entry in entries {
        let length = u16::try_from(entry.len()).map_err(|_| crate::entry::EntryError::Framing {
            found: format!("{} bytes", entry.len()),
            expected: "at most 65535 bytes",
        })?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(entry);
    }
    Ok(out)
}
