//! Checkpoints: the size and root of the log, signed by the hub and cosigned by those who checked it.
//!
//! A checkpoint is a C2SP tlog-checkpoint in a C2SP signed note; its first signature line is the hub's, named as the
//! origin. The other lines are cosignatures (C2SP tlog-cosignature): Ed25519 (type 0x04) and ML-DSA-44 (type 0x06), named
//! by party id or by the name of an outside witness. Extension lines are refused: ML-DSA cosignatures do not cover them,
//! so nothing may hang on them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::digest::{Digest, excerpt};
use crate::electorate::{Cosigner, Electorate, Scheme};
use crate::keys::{KeyError, PublicKey, SecretKey, Signature};
use crate::postquantum::{MlPublicKey, MlSecretKey, SIGNATURE_BYTES};
use crate::roster::Roster;

/// Longest note that is read, bytes: 99 lines, each long enough for a post-quantum signature.
pub const MAX_NOTE_BYTES: usize = 384 * 1024;
/// Most cosignatures on a checkpoint (the note format stops at 100 lines).
pub const MAX_COSIGNATURES: usize = 99;
/// Key type of a log's own Ed25519 signature on a note (C2SP signed-note).
const TYPE_ED25519: u8 = 0x01;
/// Key type of a timestamped Ed25519 cosignature (C2SP tlog-cosignature).
const TYPE_COSIGNATURE: u8 = 0x04;
/// Key type of an ML-DSA-44 cosignature (C2SP tlog-cosignature).
const TYPE_ML_DSA_44: u8 = 0x06;

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
        let hub_id = note_key_id(&self.origin, TYPE_ED25519, hub.public().as_bytes());
        let hub_sig = hub.sign(self.body().as_bytes());
        SignedCheckpoint { checkpoint: self.clone(), hub_id, hub_sig, cosignatures: BTreeMap::new() }
    }
}

/// SHA-256(name ‖ "\n" ‖ type ‖ key), its first four bytes (C2SP signed-note, tlog-cosignature).
fn note_key_id(name: &str, key_type: u8, key: &[u8]) -> u32 {
    let mut typed = vec![key_type];
    typed.extend_from_slice(key);
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
    sig: CosignatureBytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum CosignatureBytes {
    Ed25519(Signature),
    MlDsa44(Box<[u8]>),
}

/// A cosigner's secret keys.
pub struct CosignKeys<'a> {
    /// Ed25519.
    pub key: &'a SecretKey,
    /// ML-DSA-44, if it has one.
    pub ml: Option<&'a MlSecretKey>,
}

impl<'a> From<&'a SecretKey> for CosignKeys<'a> {
    fn from(key: &'a SecretKey) -> Self {
        CosignKeys { key, ml: None }
    }
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
        signable(name, time)?;
        let sig = CosignatureBytes::Ed25519(key.sign(&cosigned_message(checkpoint, time)));
        let id = note_key_id(name, TYPE_COSIGNATURE, key.public().as_bytes());
        Ok(Cosignature { name: name.to_owned(), id, time, sig })
    }

    /// Cosigns a checkpoint as `name` at `time`, seconds since the epoch, with ML-DSA-44 (C2SP tlog-cosignature).
    ///
    /// # Errors
    /// When `name` cannot name a key of a signed note, or the time is out of range.
    pub fn sign_ml(
        checkpoint: &Checkpoint,
        name: &str,
        time: u64,
        key: &MlSecretKey,
    ) -> Result<Self, CheckpointError> {
        signable(name, time)?;
        let sig = key
            .sign(&subtree_message(checkpoint, name, time))
            .map_err(|e| malformed(&e.to_string(), "an ML-DSA-44 signature"))?;
        let id = note_key_id(name, TYPE_ML_DSA_44, key.public().as_bytes());
        Ok(Cosignature { name: name.to_owned(), id, time, sig: CosignatureBytes::MlDsa44(sig) })
    }

    /// Cosigns with every key of a cosigner, at one time.
    ///
    /// # Errors
    /// As [`sign`](Self::sign).
    pub fn sign_all(
        checkpoint: &Checkpoint,
        name: &str,
        time: u64,
        keys: &CosignKeys<'_>,
    ) -> Result<Vec<Self>, CheckpointError> {
        let mut all = vec![Self::sign(checkpoint, name, time, keys.key)?];
        if let Some(ml) = keys.ml {
            all.push(Self::sign_ml(checkpoint, name, time, ml)?);
        }
        Ok(all)
    }

    /// Whether it is an ML-DSA-44 cosignature.
    pub fn is_post_quantum(&self) -> bool {
        matches!(self.sig, CosignatureBytes::MlDsa44(_))
    }

    /// The cosigner's name: a party id.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When it was made, seconds since the epoch by the cosigner's clock.
    pub fn time(&self) -> u64 {
        self.time
    }

    /// Checks that it is an Ed25519 cosignature by `key`, on `checkpoint`.
    ///
    /// # Errors
    /// When it is not.
    pub fn verify(&self, checkpoint: &Checkpoint, key: &PublicKey) -> Result<(), CheckpointError> {
        let CosignatureBytes::Ed25519(sig) = &self.sig else { return Err(self.unknown()) };
        if self.id != note_key_id(&self.name, TYPE_COSIGNATURE, key.as_bytes()) {
            return Err(self.unknown());
        }
        key.verify_strict(&cosigned_message(checkpoint, self.time), sig)
            .map_err(|_| CheckpointError::Cosignature { name: self.name.clone(), size: checkpoint.size })
    }

    /// Checks that it is an ML-DSA-44 cosignature by `key`, on `checkpoint`.
    ///
    /// # Errors
    /// When it is not.
    pub fn verify_ml(&self, checkpoint: &Checkpoint, key: &MlPublicKey) -> Result<(), CheckpointError> {
        let CosignatureBytes::MlDsa44(sig) = &self.sig else { return Err(self.unknown()) };
        if self.id != note_key_id(&self.name, TYPE_ML_DSA_44, key.as_bytes()) {
            return Err(self.unknown());
        }
        if key.verifies(&subtree_message(checkpoint, &self.name, self.time), sig) {
            return Ok(());
        }
        Err(CheckpointError::Cosignature { name: self.name.clone(), size: checkpoint.size })
    }

    /// Checks that it is by one of the keys of this cosigner.
    ///
    /// # Errors
    /// When it is not.
    pub fn verify_by(&self, checkpoint: &Checkpoint, cosigner: &Cosigner) -> Result<(), CheckpointError> {
        match (&self.sig, &cosigner.ml) {
            (CosignatureBytes::Ed25519(_), _) => self.verify(checkpoint, &cosigner.key),
            (CosignatureBytes::MlDsa44(_), Some(key)) => self.verify_ml(checkpoint, key),
            (CosignatureBytes::MlDsa44(_), None) => Err(self.unknown()),
        }
    }

    fn unknown(&self) -> CheckpointError {
        CheckpointError::UnknownCosigner { name: self.name.clone() }
    }

    /// The note's signature line, with its newline.
    pub fn to_line(&self) -> String {
        let sig: &[u8] = match &self.sig {
            CosignatureBytes::Ed25519(sig) => sig.as_bytes(),
            CosignatureBytes::MlDsa44(sig) => sig,
        };
        let payload = [self.time.to_be_bytes().as_slice(), sig].concat();
        note_line(&self.name, self.id, &payload)
    }

    /// What it is kept under: its name and the beginning of its key's id, since a cosigner may have a line of each of
    /// several keys.
    pub fn slot(&self) -> String {
        let line = self.to_line();
        format!("{} {}", self.name, line.rsplit(' ').next().and_then(|l| l.get(..6)).unwrap_or_default())
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
        let wrong = || malformed(read.name(), "a time of 8 bytes and a signature of Ed25519 or ML-DSA-44");
        let (time, sig) = read.signature().split_first_chunk::<8>().ok_or_else(wrong)?;
        let time = u64::from_be_bytes(*time);
        let sig = match sig.len() {
            SIGNATURE_BYTES => CosignatureBytes::MlDsa44(sig.into()),
            _ => CosignatureBytes::Ed25519(Signature::from_bytes(sig.try_into().map_err(|_| wrong())?)),
        };
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

fn signable(name: &str, time: u64) -> Result<(), CheckpointError> {
    if !signed_note::is_key_name_valid(name) || name.chars().any(char::is_control) || name.len() > 255 {
        return Err(malformed(name, "a name without spaces, pluses and control characters"));
    }
    if i64::try_from(time).is_err() {
        return Err(malformed(&time.to_string(), "seconds below 2^63"));
    }
    Ok(())
}

/// What a cosigner signs with ML-DSA-44 (C2SP tlog-cosignature, `cosigned_message` in the presentation language of
/// RFC 8446): label, name, time, origin, start, end, root of the whole tree.
fn subtree_message(checkpoint: &Checkpoint, name: &str, time: u64) -> Vec<u8> {
    let mut message = b"subtree/v1\n\0".to_vec();
    let opaque = |text: &str| {
        // INVARIANT: names are at most 255 bytes and origins 128, checked where they come in.
        let mut framed = vec![u8::try_from(text.len()).unwrap_or(u8::MAX)];
        framed.extend_from_slice(text.as_bytes());
        framed
    };
    let (name, origin) = (opaque(name), opaque(&checkpoint.origin));
    message.extend_from_slice(&name);
    message.extend_from_slice(&time.to_be_bytes());
    message.extend_from_slice(&origin);
    message.extend_from_slice(&0_u64.to_be_bytes());
    message.extend_from_slice(&checkpoint.size.to_be_bytes());
    message.extend_from_slice(checkpoint.root.as_bytes());
    message
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
        if self.hub_id != note_key_id(&self.checkpoint.origin, TYPE_ED25519, key.as_bytes()) {
            return Err(wrong(KeyError::Invalid { key: *key }));
        }
        key.verify_strict(self.checkpoint.body().as_bytes(), &self.hub_sig).map_err(wrong)
    }

    /// The note without cosignatures: size and root as the hub signed them.
    pub fn without_cosignatures(&self) -> SignedCheckpoint {
        SignedCheckpoint { cosignatures: BTreeMap::new(), ..self.clone() }
    }

    /// The note with the cosignatures of these names alone.
    pub fn of(&self, names: &BTreeSet<String>) -> SignedCheckpoint {
        let kept = self.cosignatures.iter().filter(|((name, _), _)| names.contains(name));
        SignedCheckpoint {
            cosignatures: kept.map(|(key, line)| (key.clone(), line.clone())).collect(),
            ..self.without_cosignatures()
        }
    }

    /// The cosignature lines, unverified.
    pub fn lines(&self) -> impl Iterator<Item = &Cosignature> {
        self.cosignatures.values()
    }

    /// By the keys of any era: which of them count is for [`cosigned_in`](Self::cosigned_in).
    fn check(&self, cosignature: &Cosignature, roster: &Roster) -> Result<(), CheckpointError> {
        let mut fault = cosignature.unknown();
        let mut tried: Option<&Cosigner> = None;
        for era in roster.eras.iter().rev() {
            let Some(cosigner) = era.electorate.cosigner(&cosignature.name) else { continue };
            if tried.replace(cosigner).is_some_and(|before| before == cosigner) {
                continue;
            }
            match cosignature.verify_by(&self.checkpoint, cosigner) {
                Ok(()) => return Ok(()),
                Err(CheckpointError::UnknownCosigner { .. }) => {}
                Err(e) => fault = e,
            }
        }
        Err(fault)
    }

    /// Whose cosignatures count in an electorate, with their times in seconds since the epoch. One name counts once,
    /// whatever the number of its lines; in a hybrid scheme only with a line of both kinds, at the earlier time.
    pub fn cosigned_in(&self, electorate: &Electorate) -> BTreeMap<String, u64> {
        self.reading().cosigned_in(electorate)
    }

    /// The note as somebody reads it who counts in several electorates.
    pub(crate) fn reading(&self) -> Reading<'_> {
        Reading { note: self, tried: Vec::new() }
    }

    /// [`cosigned_in`](Self::cosigned_in) the electorate of this checkpoint's size.
    pub fn cosignatures(&self, roster: &Roster) -> BTreeMap<String, u64> {
        roster.electorate_at(self.checkpoint.size).map_or_else(BTreeMap::new, |e| self.cosigned_in(e))
    }

    /// Those of [`cosignatures`](Self::cosignatures) by name alone.
    pub fn cosigners(&self, roster: &Roster) -> BTreeSet<String> {
        self.cosignatures(roster).into_keys().collect()
    }

    /// What is wrong with the cosignatures that are nobody's.
    pub fn faults(&self, roster: &Roster) -> Vec<CheckpointError> {
        self.cosignatures.values().filter_map(|c| self.check(c, roster).err()).collect()
    }
}

/// A note under the eyes of a reader: each line is verified under each cosigner once.
pub(crate) struct Reading<'a> {
    note: &'a SignedCheckpoint,
    tried: Vec<(&'a Cosignature, &'a Cosigner, bool)>,
}

impl<'a> Reading<'a> {
    fn holds(&mut self, line: &'a Cosignature, cosigner: &'a Cosigner) -> bool {
        let before = self.tried.iter().find(|(l, c, _)| std::ptr::eq(*l, line) && *c == cosigner);
        if let Some((_, _, held)) = before {
            return *held;
        }
        let held = line.verify_by(&self.note.checkpoint, cosigner).is_ok();
        self.tried.push((line, cosigner, held));
        held
    }

    /// [`SignedCheckpoint::cosigned_in`].
    pub(crate) fn cosigned_in(&mut self, electorate: &'a Electorate) -> BTreeMap<String, u64> {
        let mut kinds: BTreeMap<&str, (Option<u64>, Option<u64>)> = BTreeMap::new();
        for line in self.note.cosignatures.values() {
            let Some(cosigner) = electorate.cosigner(&line.name) else { continue };
            if self.holds(line, cosigner) {
                let (classic, quantum) = kinds.entry(&line.name).or_default();
                *(if line.is_post_quantum() { quantum } else { classic }) = Some(line.time);
            }
        }
        let both = |name: &str| electorate.scheme == Scheme::Hybrid && electorate.members.contains_key(name);
        let counted = kinds.into_iter().filter_map(|(name, times)| {
            let time = match times {
                (Some(classic), Some(quantum)) => Some(classic.min(quantum)),
                (Some(classic), None) if !both(name) => Some(classic),
                _ => None,
            };
            time.map(|t| (name.to_owned(), t))
        });
        counted.collect()
    }

    /// The first cosignature that is nobody's.
    pub(crate) fn fault(&self, roster: &Roster) -> Option<CheckpointError> {
        let held = |line: &Cosignature| self.tried.iter().any(|(l, _, held)| *held && std::ptr::eq(*l, line));
        let others = self.note.cosignatures.values().filter(|line| !held(line));
        others.map(|line| self.note.check(line, roster)).find_map(Result::err)
    }
}

impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_note())
    }
}
