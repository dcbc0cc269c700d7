//! Checkpoints: the size and root of the log, signed by the hub and cosigned by those who checked it.
//!
//! A checkpoint is a C2SP tlog-checkpoint in a C2SP signed note; its first signature line is the hub's, named as the
//! origin. The other lines are cosignatures (C2SP tlog-cosignature, Ed25519, type 0x04) named by party id. Extension
//! lines are refused: newer cosignatures do not cover them, so nothing may hang on them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::digest::{Digest, excerpt};
use crate::keys::{KeyError, PublicKey, SecretKey, Signature};
use crate::roster::Roster;

/// Longest note that is read, bytes.
pub const MAX_NOTE_BYTES: usize = 64 * 1024;
/// Most cosignatures on a checkpoint (the note format stops at 100 lines).
pub const MAX_COSIGNATURES: usize = 99;
/// Key type of a log's own Ed25519 signature on a note (C2SP signed-note).
const TYPE_ED25519: u8 = 0x01;
/// Key type of a timestamped Ed25519 cosignature (C2SP tlog-cosignature).
const TYPE_COSIGNATURE: u8 = 0x04;

/// A checkpoint that cannot be read, or a signature on it that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The text is no checkpoint of this form.
    #[error("malformed checkpoint: found `{found}`, expected {expected}")]
    Malformed {
        /// What was found.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The hub's signature does not verify.
    #[error("checkpoint of size {size} is not signed by the hub's key `{key}`")]
    Hub {
        /// Size of the checkpoint.
        size: u64,
        /// The key that should have signed.
        key: PublicKey,
    },
    /// A cosignature does not verify.
    #[error("cosignature of `{name}` on the checkpoint of size {size} does not verify")]
    Cosignature {
        /// The name on the line.
        name: String,
        /// Size of the checkpoint.
        size: u64,
    },
    /// A cosignature by nobody known.
    #[error("cosignature of `{name}` is by no key of a member: expected the member's `cosign` key")]
    UnknownCosigner {
        /// The name on the line.
        name: String,
    },
}

fn malformed(found: &str, expected: &'static str) -> CheckpointError {
    CheckpointError::Malformed { found: excerpt(found), expected }
}

/// The size and root of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    size: u64,
    root: Digest,
}

impl Checkpoint {
    /// The checkpoint of a log named `origin`, as `comity/stroke`.
    ///
    /// # Errors
    /// When `origin` cannot name a key of a signed note.
    pub fn new(origin: &str, size: u64, root: Digest) -> Result<Self, CheckpointError> {
        let plain = !origin.chars().any(char::is_control) && origin.len() <= 128;
        if !plain || !signed_note::is_key_name_valid(origin) {
            return Err(malformed(origin, "an origin without spaces, pluses and control characters"));
        }
        Ok(Checkpoint { origin: origin.to_owned(), size, root })
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Number of entries.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root of the tree of the first [`size`](Self::size) entries.
    pub fn root(&self) -> Digest {
        self.root
    }

    /// The note's text: origin, size, root in base64, a line each (C2SP tlog-checkpoint).
    pub fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, tlog_tiles::Hash(*self.root.as_bytes()))
    }

    fn parse(body: &str) -> Result<Self, CheckpointError> {
        let expected = "three lines: origin, size, root in base64";
        let read =
            tlog_tiles::Checkpoint::from_bytes(body.as_bytes()).map_err(|_| malformed(body, expected))?;
        let checkpoint = Checkpoint::new(read.origin(), read.size(), Digest::from_bytes(read.hash().0))?;
        if checkpoint.body() != body {
            return Err(malformed(body, expected));
        }
        Ok(checkpoint)
    }

    /// Signs the checkpoint as the hub.
    pub fn sign(&self, hub: &SecretKey) -> SignedCheckpoint {
        let hub_id = note_key_id(&self.origin, TYPE_ED25519, &hub.public());
        let hub_sig = hub.sign(self.body().as_bytes());
        SignedCheckpoint { checkpoint: self.clone(), hub_id, hub_sig, cosignatures: BTreeMap::new() }
    }
}

/// SHA-256(name ‖ "\n" ‖ type ‖ key), its first four bytes (C2SP signed-note, tlog-cosignature).
fn note_key_id(name: &str, key_type: u8, key: &PublicKey) -> u32 {
    let mut typed = vec![key_type];
    typed.extend_from_slice(key.as_bytes());
    signed_note::key_id(name, &typed)
}

fn note_line(name: &str, id: u32, payload: &[u8]) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let bytes = [id.to_be_bytes().as_slice(), payload].concat();
    format!("— {name} {}\n", BASE64_STANDARD.encode(bytes))
}

/// Reads a signature line (without its newline) that [`note_line`] would have written just so.
fn parse_note_line(line: &str) -> Result<signed_note::Signature, CheckpointError> {
    let expected = "a line `— <name> <base64>`";
    let read = signed_note::Signature::from_bytes(line.as_bytes()).map_err(|_| malformed(line, expected))?;
    if note_line(read.name(), read.id(), read.signature()).strip_suffix('\n') != Some(line) {
        return Err(malformed(line, expected));
    }
    Ok(read)
}

/// One cosignature: at `time`, this was the largest tree of this log that the cosigner had seen, it had checked every
/// entry in it, and it keeps a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosignature {
    name: String,
    id: u32,
    time: u64,
    sig: Signature,
}

impl Cosignature {
    /// Cosigns a checkpoint as `name` at `time`, seconds since the epoch (C2SP tlog-cosignature).
    ///
    /// # Errors
    /// When `name` cannot name a key of a signed note, or the time is out of range.
    pub fn sign(
        checkpoint: &Checkpoint,
        name: &str,
        time: u64,
        key: &SecretKey,
    ) -> Result<Self, CheckpointError> {
        if !signed_note::is_key_name_valid(name) || name.chars().any(char::is_control) {
            return Err(malformed(name, "a name without spaces, pluses and control characters"));
        }
        if i64::try_from(time).is_err() {
            return Err(malformed(&time.to_string(), "seconds below 2^63"));
        }
        let sig = key.sign(&cosigned_message(checkpoint, time));
        let id = note_key_id(name, TYPE_COSIGNATURE, &key.public());
        Ok(Cosignature { name: name.to_owned(), id, time, sig })
    }

    /// The cosigner's name: a party id.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When it was made, seconds since the epoch by the cosigner's clock.
    pub fn time(&self) -> u64 {
        self.time
    }

    /// Checks that it is by `key`, on `checkpoint`.
    ///
    /// # Errors
    /// When it is not.
    pub fn verify(&self, checkpoint: &Checkpoint, key: &PublicKey) -> Result<(), CheckpointError> {
        if self.id != note_key_id(&self.name, TYPE_COSIGNATURE, key) {
            return Err(CheckpointError::UnknownCosigner { name: self.name.clone() });
        }
        key.verify_strict(&cosigned_message(checkpoint, self.time), &self.sig)
            .map_err(|_| CheckpointError::Cosignature { name: self.name.clone(), size: checkpoint.size })
    }

    /// The note's signature line, with its newline.
    pub fn to_line(&self) -> String {
        let payload = [self.time.to_be_bytes().as_slice(), self.sig.as_bytes()].concat();
        note_line(&self.name, self.id, &payload)
    }

    /// Reads a signature line, with its newline.
    ///
    /// # Errors
    /// Unless it is exactly what [`to_line`](Self::to_line) writes.
    pub fn from_line(line: &str) -> Result<Self, CheckpointError> {
        let without = line.strip_suffix('\n').ok_or_else(|| malformed(line, "a line that ends"))?;
        Self::from_note(&parse_note_line(without)?)
    }

    fn from_note(read: &signed_note::Signature) -> Result<Self, CheckpointError> {
        let wrong = || malformed(read.name(), "a cosignature of 72 bytes: time and Ed25519 signature");
        let (time, sig) = read.signature().split_first_chunk::<8>().ok_or_else(wrong)?;
        let time = u64::from_be_bytes(*time);
        let sig = Signature::from_bytes(sig.try_into().map_err(|_| wrong())?);
        if i64::try_from(time).is_err() {
            return Err(wrong());
        }
        Ok(Cosignature { name: read.name().to_owned(), id: read.id(), time, sig })
    }
}

/// What a cosigner signs (C2SP tlog-cosignature, Ed25519 signed message).
fn cosigned_message(checkpoint: &Checkpoint, time: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{}", checkpoint.body()).into_bytes()
}

/// A checkpoint as a signed note: the hub's signature and the cosignatures that have come in, in the order of names.
///
/// Reading verifies nothing; see [`verify_hub`](Self::verify_hub) and [`cosignatures`](Self::cosignatures).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    hub_id: u32,
    hub_sig: Signature,
    /// By name and key id, which is the order of lines in the note.
    cosignatures: BTreeMap<(String, u32), Cosignature>,
}

impl SignedCheckpoint {
    /// Reads a note.
    ///
    /// # Errors
    /// Unless `note` is exactly what [`to_note`](Self::to_note) writes for what was read.
    pub fn parse(note: &str) -> Result<Self, CheckpointError> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(malformed(&format!("{} bytes", note.len()), "at most 65536 bytes"));
        }
        let (text, lines) =
            note.split_once("\n\n").ok_or_else(|| malformed(note, "an empty line before the signatures"))?;
        let checkpoint = Checkpoint::parse(&format!("{text}\n"))?;
        let lines = lines.strip_suffix('\n').ok_or_else(|| malformed(lines, "a last line that ends"))?;
        let mut lines = lines.split('\n');
        let hub = parse_note_line(lines.next().unwrap_or(""))?;
        if hub.name() != checkpoint.origin {
            return Err(malformed(hub.name(), "the hub's signature first, named as the origin"));
        }
        let sig = hub
            .signature()
            .try_into()
            .map_err(|_| malformed(hub.name(), "an Ed25519 signature of 64 bytes"))?;
        let mut signed = SignedCheckpoint {
            checkpoint,
            hub_id: hub.id(),
            hub_sig: Signature::from_bytes(sig),
            cosignatures: BTreeMap::new(),
        };
        for line in lines {
            signed.insert(Cosignature::from_note(&parse_note_line(line)?)?)?;
        }
        // INVARIANT: one set of signatures has one text.
        if signed.to_note() != note {
            return Err(malformed(note, "cosignatures once each, in the order of names"));
        }
        Ok(signed)
    }

    fn insert(&mut self, cosignature: Cosignature) -> Result<(), CheckpointError> {
        let key = (cosignature.name.clone(), cosignature.id);
        if self.cosignatures.len() >= MAX_COSIGNATURES && !self.cosignatures.contains_key(&key) {
            return Err(malformed(&cosignature.name, "at most 99 cosignatures"));
        }
        self.cosignatures.insert(key, cosignature);
        Ok(())
    }

    /// The note's text.
    pub fn to_note(&self) -> String {
        let mut note = self.checkpoint.body();
        note.push('\n');
        note.push_str(&note_line(&self.checkpoint.origin, self.hub_id, self.hub_sig.as_bytes()));
        for cosignature in self.cosignatures.values() {
            note.push_str(&cosignature.to_line());
        }
        note
    }

    /// What was signed.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Adds a cosignature after checking it against the roster; gives whether it is new. A later one by the same key
    /// replaces the earlier.
    ///
    /// # Errors
    /// When its name is no member's or it does not verify under the member's `cosign` key.
    pub fn add(&mut self, cosignature: Cosignature, roster: &Roster) -> Result<bool, CheckpointError> {
        self.check(&cosignature, roster)?;
        let key = (cosignature.name.clone(), cosignature.id);
        let newer = self.cosignatures.get(&key).is_none_or(|have| have.time < cosignature.time);
        if newer {
            self.insert(cosignature)?;
        }
        Ok(newer)
    }

    /// Checks that the hub signed.
    ///
    /// # Errors
    /// When it did not, or with another key.
    pub fn verify_hub(&self, key: &PublicKey) -> Result<(), CheckpointError> {
        let wrong = |_: KeyError| CheckpointError::Hub { size: self.checkpoint.size, key: *key };
        if self.hub_id != note_key_id(&self.checkpoint.origin, TYPE_ED25519, key) {
            return Err(wrong(KeyError::Invalid { key: *key }));
        }
        key.verify_strict(self.checkpoint.body().as_bytes(), &self.hub_sig).map_err(wrong)
    }

    fn check(&self, cosignature: &Cosignature, roster: &Roster) -> Result<(), CheckpointError> {
        match roster.members.get(&cosignature.name) {
            Some(member) => cosignature.verify(&self.checkpoint, &member.cosign),
            None => Err(CheckpointError::UnknownCosigner { name: cosignature.name.clone() }),
        }
    }

    /// The members whose cosignature verifies, with its time in seconds since the epoch. One organisation counts
    /// once, whatever the number of its lines.
    pub fn cosignatures(&self, roster: &Roster) -> BTreeMap<String, u64> {
        let valid = self.cosignatures.values().filter(|c| self.check(c, roster).is_ok());
        valid.map(|c| (c.name.clone(), c.time)).collect()
    }

    /// Those of [`cosignatures`](Self::cosignatures) by name alone.
    pub fn cosigners(&self, roster: &Roster) -> BTreeSet<String> {
        self.cosignatures(roster).into_keys().collect()
    }

    /// What is wrong with the cosignatures that do not count.
    pub fn faults(&self, roster: &Roster) -> Vec<CheckpointError> {
        self.cosignatures.values().filter_map(|c| self.check(c, roster).err()).collect()
    }
}

impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_note())
    }
}
