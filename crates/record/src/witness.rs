//! An outside witness (C2SP tlog-witness v1.0): it cosigns that a log only grew, and reads no entry.
//!
//! Who wants to see two histories of one log must make a witness cosign both, and it cosigns a tree only after a proof
//! that the tree begins with the last one that it cosigned. That is less than what a member says, which has checked
//! every entry, so a witness needs no right to read any.
//!
//! **Threats.** The log may lie: sizes, proofs and notes are checked as hostile input. Whoever reaches a witness may
//! send what it likes: nothing is kept unless the log's own key signed it. A witness that forgets what it cosigned can
//! be made to cosign a second history; so what [`Witness::consider`] gives holds its cosignature back until its owner
//! says that the new tree is kept ([`Advance::kept`]). Reading, deciding and keeping must be one step for a log: two
//! requests that look at the same old tree must not both be kept. A witness that is taken over can sign anything; that
//! is why a quorum asks more than one.
//!
//! It works for any log of that protocol: extension lines are cosigned with the rest, and signatures of other kinds on
//! the note are passed over (C2SP tlog-cosignature, Ed25519 signed message).

use base64::prelude::{BASE64_STANDARD, Engine as _};
use signed_note::Note;

use crate::checkpoint::{CheckpointError, MAX_NOTE_BYTES, SignedCheckpoint};
use crate::digest::{Digest, excerpt};
use crate::keys::{PublicKey, SecretKey, Signature};
use crate::tree::{Tree, TreeError, verify_consistency};

/// Most proof lines in a request.
pub const MAX_PROOF_LINES: usize = 63;
/// Longest request that is read, bytes: size, proof and note.
pub const MAX_REQUEST: usize = MAX_NOTE_BYTES + 64 + MAX_PROOF_LINES * 45;
/// Longest answer that is read, bytes.
pub const MAX_ANSWER: usize = 16 * 1024;
/// Content type of the size in a conflict.
pub const SIZE_TYPE: &str = "text/x.tlog.size";
/// Key type of a log's own Ed25519 signature (C2SP signed-note).
const TYPE_ED25519: u8 = 0x01;
/// Key type of an Ed25519 cosignature (C2SP tlog-cosignature).
const TYPE_COSIGNATURE: u8 = 0x04;

/// Why a witness does not cosign, with the status that the protocol gives it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// 400: this is no request of the protocol.
    #[error("malformed request: found `{found}`, expected {expected}")]
    Malformed {
        /// What was found.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// 404: a log that this witness does not know.
    #[error("log `{0}` is not known here")]
    UnknownLog(String),
    /// 403: no signature by the log's key.
    #[error("the checkpoint of `{0}` has no valid signature by the key that is known of that log")]
    Unsigned(String),
    /// 409: what was cosigned last has another size than the request says.
    #[error("the last tree cosigned here has {known} entries, the request goes on from {asked}")]
    Conflict {
        /// Size of the tree that was cosigned last, 0 if none.
        known: u64,
        /// The request's old size.
        asked: u64,
    },
    /// 409: two roots for one size. The log is lying to somebody.
    #[error("the log signed another root for its tree of {size} entries than the one cosigned here")]
    TwoRoots {
        /// The size of both trees.
        size: u64,
    },
    /// 422: the proof does not show that the log only grew.
    #[error("the consistency proof does not hold: {0}")]
    Proof(TreeError),
}

impl WitnessError {
    /// The status of the answer, C2SP tlog-witness.
    pub const fn status(&self) -> u16 {
        match self {
            WitnessError::Malformed { .. } => 400,
            WitnessError::Unsigned(_) => 403,
            WitnessError::UnknownLog(_) => 404,
            WitnessError::Conflict { .. } | WitnessError::TwoRoots { .. } => 409,
            WitnessError::Proof(_) => 422,
        }
    }

    /// The size of the last cosigned tree, which the answer to a conflict holds.
    pub const fn known_size(&self) -> Option<u64> {
        match self {
            WitnessError::Conflict { known, .. } => Some(*known),
            WitnessError::TwoRoots { size } => Some(*size),
            _ => None,
        }
    }
}

fn malformed(found: &str, expected: &'static str) -> WitnessError {
    WitnessError::Malformed { found: excerpt(found), expected }
}

/// The body of `add-checkpoint` as a log writes it: old size, proof, empty line, note.
///
/// The note goes with the log's own signature alone, the first line; a witness needs no other.
///
/// # Errors
/// When `old` is beyond the checkpoint or the checkpoint beyond the tree.
pub fn add_checkpoint(old: u64, checkpoint: &SignedCheckpoint, tree: &Tree) -> Result<String, TreeError> {
    let proof = tree.prove_consistency(old, checkpoint.checkpoint().size())?;
    let mut body = format!("old {old}\n");
    for hash in &proof {
        body.push_str(&BASE64_STANDARD.encode(hash.as_bytes()));
        body.push('\n');
    }
    body.push('\n');
    let note = checkpoint.to_note();
    let (text, lines) = note.split_once("\n\n").unwrap_or((&note, ""));
    let own = lines.split('\n').next().unwrap_or("");
    body.push_str(&format!("{text}\n\n{own}\n"));
    Ok(body)
}

/// A request that was read and not yet believed.
#[derive(Clone, Debug)]
pub struct AddCheckpoint {
    old: u64,
    proof: Vec<Digest>,
    lines: Vec<signed_note::Signature>,
    text: String,
    origin: String,
    size: u64,
    root: Digest,
}

impl AddCheckpoint {
    /// Reads a body of `add-checkpoint`.
    ///
    /// # Errors
    /// [`WitnessError::Malformed`] unless it is one.
    pub fn parse(body: &[u8]) -> Result<Self, WitnessError> {
        if body.len() > MAX_REQUEST {
            return Err(malformed(&format!("{} bytes", body.len()), "a request of the usual length"));
        }
        let body = std::str::from_utf8(body).map_err(|_| malformed("bytes that are no text", "UTF-8"))?;
        let (head, note) =
            body.split_once("\n\n").ok_or_else(|| malformed(body, "an empty line before the checkpoint"))?;
        let mut lines = head.split('\n');
        let first = lines.next().unwrap_or("");
        let expected = "a first line `old <size>`";
        let digits = first.strip_prefix("old ").ok_or_else(|| malformed(first, expected))?;
        let old: u64 = digits.parse().map_err(|_| malformed(first, expected))?;
        if old.to_string() != digits {
            return Err(malformed(first, expected));
        }
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() == MAX_PROOF_LINES {
                return Err(malformed(line, "at most 63 proof lines"));
            }
            let hash: Option<[u8; 32]> = BASE64_STANDARD.decode(line).ok().and_then(|b| b.try_into().ok());
            let hash = hash.ok_or_else(|| malformed(line, "a hash of 32 bytes in base64"))?;
            proof.push(Digest::from_bytes(hash));
        }
        let expected = "a checkpoint in a signed note";
        Note::from_bytes(note.as_bytes()).map_err(|_| malformed(note, expected))?;
        let (text, lines) = note.rsplit_once("\n\n").ok_or_else(|| malformed(note, expected))?;
        let text = format!("{text}\n");
        let lines =
            lines.lines().filter_map(|l| signed_note::Signature::from_bytes(l.as_bytes()).ok()).collect();
        let checkpoint =
            tlog_tiles::Checkpoint::from_bytes(text.as_bytes()).map_err(|_| malformed(&text, expected))?;
        let (size, root) = (checkpoint.size(), Digest::from_bytes(checkpoint.hash().0));
        if old > size {
            return Err(malformed(first, "an old size that is not above the checkpoint's"));
        }
        Ok(Self { old, proof, origin: checkpoint.origin().to_owned(), size, root, lines, text })
    }

    /// The log that it says it is from.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Size of the tree that is to be cosigned.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn signed_by(&self, key: &PublicKey) -> bool {
        let id = note_key_id(&self.origin, TYPE_ED25519, key);
        self.lines.iter().any(|line| {
            let signature = <[u8; 64]>::try_from(line.signature()).map(Signature::from_bytes);
            line.name() == self.origin
                && line.id() == id
                && signature.is_ok_and(|s| key.verify_strict(self.text.as_bytes(), &s).is_ok())
        })
    }
}

/// The last tree of a log that a witness cosigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Number of entries.
    pub size: u64,
    /// Root over them.
    pub root: Digest,
}

/// A witness: a name, and the key that cosigns under it.
pub struct Witness {
    name: String,
    key: SecretKey,
}

impl Witness {
    /// # Errors
    /// When `name` cannot name a key of a signed note.
    pub fn new(name: &str, key: SecretKey) -> Result<Self, WitnessError> {
        if !is_key_name(name) {
            return Err(malformed(name, "a name without spaces, pluses and control characters"));
        }
        Ok(Self { name: name.to_owned(), key })
    }

    /// The name on its cosignatures.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key that its cosignatures verify under.
    pub fn key(&self) -> PublicKey {
        self.key.public()
    }

    /// The key as logs are told it, `<name>+<id>+<base64>` (C2SP signed-note, verifier keys; type 0x04).
    pub fn verifier_key(&self) -> String {
        verifier_key(&self.name, TYPE_COSIGNATURE, &self.key.public())
    }

    /// Decides on a request about a log whose key is `log` (`None` if it is not known) and whose tree `seen` was
    /// cosigned last, at `time` in seconds since the epoch. The checks are in the order of the specification.
    ///
    /// # Errors
    /// With the status of the answer; nothing is then to be kept.
    pub fn consider(
        &self,
        request: &AddCheckpoint,
        log: Option<&PublicKey>,
        seen: Option<Seen>,
        time: u64,
    ) -> Result<Advance, WitnessError> {
        let log = log.ok_or_else(|| WitnessError::UnknownLog(excerpt(&request.origin)))?;
        if !request.signed_by(log) {
            return Err(WitnessError::Unsigned(excerpt(&request.origin)));
        }
        let empty = Seen { size: 0, root: Tree::new().root() };
        let last = seen.unwrap_or(empty);
        if request.old != last.size {
            return Err(WitnessError::Conflict { known: last.size, asked: request.old });
        }
        if request.size == last.size && request.root != last.root {
            return Err(WitnessError::TwoRoots { size: last.size });
        }
        // INVARIANT: what is cosigned begins with all that this witness cosigned of this log before.
        verify_consistency(last.size, &last.root, request.size, &request.root, &request.proof)
            .map_err(WitnessError::Proof)?;
        let time = time.min(i64::MAX.unsigned_abs());
        let message = format!("cosignature/v1\ntime {time}\n{}", request.text);
        let signature = self.key.sign(message.as_bytes());
        let payload = [time.to_be_bytes().as_slice(), signature.as_bytes()].concat();
        let id = note_key_id(&self.name, TYPE_COSIGNATURE, &self.key.public());
        Ok(Advance {
            next: Seen { size: request.size, root: request.root },
            line: note_line(&self.name, id, &payload),
        })
    }
}

/// A tree that may be cosigned, once it is kept that it was.
#[must_use = "keep `next`, then ask for the line"]
pub struct Advance {
    next: Seen,
    line: String,
}

impl Advance {
    /// What is to be kept as the last tree that was cosigned.
    pub fn next(&self) -> Seen {
        self.next
    }

    /// The cosignature, for an owner that has kept [`next`](Self::next) on disk, in place of the very tree that
    /// [`Witness::consider`] was told.
    pub fn kept(self) -> String {
        self.line
    }
}

/// Reads a log's key: a verifier key `<origin>+<id>+<base64>` of type Ed25519 for this very origin, or 64 hexadecimal
/// characters.
///
/// # Errors
/// [`WitnessError::Malformed`] if it is neither.
pub fn log_key(origin: &str, text: &str) -> Result<PublicKey, WitnessError> {
    let wrong = || malformed(text, "a verifier key of that origin, or 64 hexadecimal characters");
    if !is_key_name(origin) {
        return Err(malformed(origin, "an origin without spaces, pluses and control characters"));
    }
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let bytes = text.rsplit_once('+').and_then(|(_, key)| BASE64_STANDARD.decode(key).ok());
    let bytes = bytes.ok_or_else(wrong)?;
    let (kind, key) = bytes.split_first().ok_or_else(wrong)?;
    let key = <[u8; 32]>::try_from(key).map_err(|_| wrong())?;
    let key = PublicKey::from_bytes(key).map_err(|_| wrong())?;
    if *kind != TYPE_ED25519 || verifier_key(origin, TYPE_ED25519, &key) != text {
        return Err(wrong());
    }
    Ok(key)
}

/// The key of a log as witnesses are told it, `<origin>+<id>+<base64>` (C2SP signed-note, verifier keys).
pub fn log_verifier_key(origin: &str, key: &PublicKey) -> String {
    verifier_key(origin, TYPE_ED25519, key)
}

/// The cosignature by `name` under `key` in a witness's answer, if it holds for this checkpoint; lines by others are
/// passed over.
///
/// # Errors
/// When there is none.
pub fn cosignature_in(
    answer: &str,
    checkpoint: &SignedCheckpoint,
    name: &str,
    key: &PublicKey,
) -> Result<crate::Cosignature, CheckpointError> {
    let mut why = CheckpointError::UnknownCosigner { name: excerpt(name) };
    for line in answer.split_inclusive('\n').take(crate::checkpoint::MAX_COSIGNATURES) {
        let Ok(cosignature) = crate::Cosignature::from_line(line) else { continue };
        if cosignature.name() != name {
            continue;
        }
        match cosignature.verify(checkpoint.checkpoint(), key) {
            Ok(()) => return Ok(cosignature),
            Err(e) => why = e,
        }
    }
    Err(why)
}

fn is_key_name(name: &str) -> bool {
    signed_note::is_key_name_valid(name) && !name.chars().any(char::is_control) && name.len() <= 128
}

fn typed(key_type: u8, key: &PublicKey) -> Vec<u8> {
    [[key_type].as_slice(), key.as_bytes()].concat()
}

fn note_key_id(name: &str, key_type: u8, key: &PublicKey) -> u32 {
    signed_note::key_id(name, &typed(key_type, key))
}

fn note_line(name: &str, id: u32, payload: &[u8]) -> String {
    let bytes = [id.to_be_bytes().as_slice(), payload].concat();
    format!("— {name} {}\n", BASE64_STANDARD.encode(bytes))
}

fn verifier_key(name: &str, key_type: u8, key: &PublicKey) -> String {
    let id = note_key_id(name, key_type, key);
    format!("{name}+{id:08x}+{}", BASE64_STANDARD.encode(typed(key_type, key)))
}
