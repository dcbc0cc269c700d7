//! Snapshots: the whole state in one file, from which a fold goes on as if it had begun at the first entry.
//!
//! A snapshot is the map of the state, leaf by leaf in the order of keys, so that its root follows from its bytes alone.
//! Bytes are read if and only if writing what was read gives them back. A snapshot by itself says nothing: the file
//! that members hand on holds beside it the proof that a quorum attested its root ([`crate::proof`]).

use crate::map::{MAX_KEY, MAX_VALUE, Map};
use crate::proof::{Attested, ProofFault, attested, magic, unpack_either};
use crate::state::State;
use record::proof::{Proof, is_packed, pack};
use record::{Digest, canon};
use std::collections::BTreeMap;

const HEADER: &[u8] = b"comity-state/1\n";
/// First line of a snapshot's file.
pub const FILE: &str = "comity-snapshot/1";
/// First line of one whose proof shows changes of members, keys or hub.
pub const FILE_CHANGED: &str = "comity-snapshot/2";
/// Longest snapshot that is read, unpacked, bytes.
pub const MAX_SNAPSHOT_BYTES: usize = 512 * 1024 * 1024;
/// Longest proof beside it, bytes.
const MAX_PROOF_BYTES: usize = 4 * 1024 * 1024;

/// A snapshot that cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Not the bytes of a snapshot.
    #[error("snapshot is broken at byte {at}: expected {expected}")]
    Framing {
        /// Offset of what is wrong.
        at: usize,
        /// What was expected there.
        expected: &'static str,
    },
    /// Well framed, but no state.
    #[error("snapshot is no state: {0}")]
    State(String),
}

/// The state's bytes.
///
/// # Errors
/// When a number in it has no canonical form.
pub fn write(state: &State) -> Result<Vec<u8>, SnapshotError> {
    write_map(&state.map().map_err(|e| SnapshotError::State(e.to_string()))?)
}

/// `comity-state/1`, the number of leaves as 8 bytes big-endian, then each key and value after its length as 4 bytes.
fn write_map(map: &Map) -> Result<Vec<u8>, SnapshotError> {
    let mut out = HEADER.to_vec();
    out.extend((map.leaves().len() as u64).to_be_bytes());
    for part in map.leaves().iter().flat_map(|(key, value)| [key.as_bytes(), value]) {
        let length = u32::try_from(part.len()).map_err(|e| SnapshotError::State(e.to_string()))?;
        out.extend(length.to_be_bytes());
        out.extend(part);
    }
    Ok(out)
}

/// The state that these bytes are of.
///
/// # Errors
/// Unless they are exactly what [`write`] gives for it.
pub fn read(bytes: &[u8]) -> Result<State, SnapshotError> {
    state_of(&read_map(bytes)?)
}

fn state_of(map: &Map) -> Result<State, SnapshotError> {
    State::of_map(map).map_err(SnapshotError::State)
}

fn read_map(bytes: &[u8]) -> Result<Map, SnapshotError> {
    let wrong = |at: usize, expected| SnapshotError::Framing { at, expected };
    let rest = bytes.strip_prefix(HEADER).ok_or_else(|| wrong(0, "the line `comity-state/1`"))?;
    let at = |rest: &[u8]| bytes.len() - rest.len();
    let (count, mut rest) =
        rest.split_first_chunk::<8>().ok_or_else(|| wrong(HEADER.len(), "the number of leaves"))?;
    let mut leaves: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for _ in 0..u64::from_be_bytes(*count) {
        let here = at(rest);
        let key = part(&mut rest, MAX_KEY).ok_or_else(|| wrong(here, "a key with its length"))?;
        let key = std::str::from_utf8(key).map_err(|_| wrong(here, "a key of text"))?;
        if leaves.last_key_value().is_some_and(|(last, _)| last.as_str() >= key) {
            return Err(wrong(here, "keys in order, each once"));
        }
        let here = at(rest);
        let value = part(&mut rest, MAX_VALUE).ok_or_else(|| wrong(here, "a value with its length"))?;
        leaves.insert(key.to_owned(), value.to_vec());
    }
    if !rest.is_empty() {
        return Err(wrong(at(rest), "the end"));
    }
    Ok(Map::new(leaves))
}

fn part<'a>(rest: &mut &'a [u8], most: usize) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok().filter(|l| *l <= most)?;
    let (part, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(part)
}

/// A snapshot's file: the length of the proof as 4 bytes big-endian, the proof, the state; packed.
pub(crate) fn write_file(proof: &Proof, map: &Map) -> Result<Vec<u8>, ProofFault> {
    let form = |e: String| ProofFault::Form(e);
    let first = magic(proof, [FILE, FILE_CHANGED]);
    let proof = canon::to_bytes(proof).map_err(|e| form(e.to_string()))?;
    let length = u32::try_from(proof.len()).map_err(|e| form(e.to_string()))?;
    let state = write_map(map).map_err(|e| form(e.to_string()))?;
    Ok(pack(first, &[length.to_be_bytes().as_slice(), &proof, &state].concat())?)
}

/// Whether a file is a snapshot's.
pub fn is_snapshot(bytes: &[u8]) -> bool {
    is_packed(FILE, bytes) || is_packed(FILE_CHANGED, bytes)
}

/// Verifies a snapshot's file, offline; gives the state and who attested it.
///
/// # Errors
/// The first thing that is broken: a quorum of the members, as charter and changes give them, did not attest this very
/// state.
pub fn verify(bytes: &[u8], pin: Option<Digest>) -> Result<(State, Attested), ProofFault> {
    let form = |e: String| ProofFault::Form(e);
    let (found, content) = unpack_either([FILE, FILE_CHANGED], bytes, MAX_SNAPSHOT_BYTES)?;
    let mut rest = content.as_slice();
    let proof =
        part(&mut rest, MAX_PROOF_BYTES).ok_or_else(|| form("the proof's length is not its own".into()))?;
    let proof: Proof = canon::from_bytes_limit(proof, MAX_PROOF_BYTES).map_err(|e| form(e.to_string()))?;
    if found != magic(&proof, [FILE, FILE_CHANGED]) {
        return Err(form(format!("`{found}` with or without changes that belong to the other form")));
    }
    let attested = attested(&proof, pin)?;
    let map = read_map(rest).map_err(|e| form(e.to_string()))?;
    attested.check(&map)?;
    Ok((state_of(&map).map_err(|e| form(e.to_string()))?, attested))
}
