//! Ed25519 keys and signatures, verified strictly.
//!
//! Ed25519 verifiers in the world disagree on odd encodings (RFC 8032 leaves room, ZIP-215 accepts more). What one
//! member calls valid another must too, so keys are refused here unless they are canonical points of large order,
//! and signatures unless `verify_strict` of ed25519-dalek accepts them.

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::{Zeroize, Zeroizing};

use crate::digest::{excerpt, hex32};

/// A key or a signature that is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not a public key of large order in its canonical encoding.
    #[error("found `{found}`, expected an Ed25519 public key of 64 lower-case hexadecimal characters")]
    PublicKey {
        /// The text or bytes found, as hexadecimal.
        found: String,
    },
    /// Not 1,312 bytes in strict base64.
    #[error("found `{found}`, expected an ML-DSA-44 public key of 1312 bytes in base64")]
    PostQuantum {
        /// The text found.
        found: String,
    },
    /// Not 64 bytes in strict base64.
    #[error("found `{found}`, expected an Ed25519 signature of 64 bytes in base64")]
    Signature {
        /// The text found.
        found: String,
    },
    /// The signature is not by this key over these bytes.
    #[error("signature does not verify under key `{key}`")]
    Invalid {
        /// The key that it was checked under.
        key: PublicKey,
    },
}

/// An Ed25519 secret key. Wiped when dropped; has no `Debug` and no `Clone`, so that it does not spread by accident.
///
/// ```compile_fail,E0277
/// println!("{:?}", record::SecretKey::from_seed([0; 32]));
/// ```
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key of a 32-byte seed (RFC 8032, 5.1.5), which comes from the operating system's randomness or from a
    /// key file. The copy handed in is wiped.
    pub fn from_seed(mut seed: [u8; 32]) -> Self {
        let key = SigningKey::from_bytes(&seed);
        seed.zeroize();
        SecretKey(key)
    }

    /// The seed, for the one place that writes the key file.
    pub fn to_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs exactly `bytes`. What keeps one use of a key apart from another is in the bytes: see [`pae`].
    pub fn sign(&self, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(bytes).to_bytes())
    }
}

/// An Ed25519 public key: a canonical encoding of a point of large order. As text: 64 lower-case hexadecimal
/// characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key that these bytes encode.
    ///
    /// # Errors
    /// When they are no point, a point of small order, or an encoding other than the canonical one.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, KeyError> {
        if known::get(&bytes).is_some() {
            return Ok(PublicKey(bytes));
        }
        let refused = || KeyError::PublicKey { found: hex::encode(bytes) };
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| refused())?;
        if key.is_weak() || !canonical_y(&bytes) {
            return Err(refused());
        }
        known::insert(key);
        Ok(PublicKey(bytes))
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Checks that `signature` is this key's over exactly `bytes`.
    ///
    /// # Errors
    /// [`KeyError::Invalid`] if it is not.
    pub fn verify_strict(&self, bytes: &[u8], signature: &Signature) -> Result<(), KeyError> {
        let once = verified::place(self, bytes, signature);
        if once.is_some_and(|once| verified::contains(&once)) {
            return Ok(());
        }
        let invalid = |_| KeyError::Invalid { key: *self };
        let key = match known::get(&self.0) {
            Some(key) => key,
            None => VerifyingKey::from_bytes(&self.0).map_err(invalid)?,
        };
        key.verify_strict(bytes, &ed25519_dalek::Signature::from_bytes(&signature.0)).map_err(invalid)?;
        if let Some(once) = once {
            verified::insert(once);
        }
        Ok(())
    }
}

/// Public keys that were found acceptable, with the points that they encode: a key is used for many signatures, and to
/// take the root that gives its point costs a fifth of verifying one. Each signature is verified all the same.
mod known {
    use std::collections::HashMap;
    use std::sync::{OnceLock, PoisonError, RwLock};

    use ed25519_dalek::VerifyingKey;

    /// So many are kept since the last turn, and no more from before it: 2 * 1024 keys are half a megabyte.
    pub(super) const MOST: usize = 1024;

    /// Two generations: keys in use pass from the old to the young, so that whoever sends many others drives out
    /// none of them.
    #[derive(Default)]
    struct Known {
        young: HashMap<[u8; 32], VerifyingKey>,
        old: HashMap<[u8; 32], VerifyingKey>,
    }

    static KNOWN: OnceLock<RwLock<Known>> = OnceLock::new();

    fn all() -> &'static RwLock<Known> {
        KNOWN.get_or_init(RwLock::default)
    }

    pub(super) fn get(bytes: &[u8; 32]) -> Option<VerifyingKey> {
        let aged = {
            let known = all().read().unwrap_or_else(PoisonError::into_inner);
            if let Some(key) = known.young.get(bytes) {
                return Some(*key);
            }
            known.old.get(bytes).copied()
        };
        aged.inspect(|key| insert(*key))
    }

    #[cfg(test)]
    pub(super) fn len() -> usize {
        let known = all().read().unwrap_or_else(PoisonError::into_inner);
        known.young.len() + known.old.len()
    }

    /// Remembers a key that [`PublicKey::from_bytes`](super::PublicKey::from_bytes) accepts.
    pub(super) fn insert(key: VerifyingKey) {
        let mut known = all().write().unwrap_or_else(PoisonError::into_inner);
        if known.young.len() >= MOST {
            known.old = std::mem::take(&mut known.young);
        }
        known.young.insert(key.to_bytes(), key);
    }
}

/// From now on this process verifies no signature twice: key, bytes and signature decide alone whether it holds. For
/// simulated worlds, where many members in one process check the same statements; a member's own process gains
/// nothing by it.
pub fn verify_once() {
    verified::begin();
}

/// Signatures that were found to hold, by digest of key, signature and bytes.
mod verified {
    use super::{PublicKey, Signature};
    use crate::digest::Digest;
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

    /// So many are kept before all are forgotten.
    const MOST: usize = 1 << 18;

    static ON: AtomicBool = AtomicBool::new(false);
    static SEEN: OnceLock<Mutex<HashSet<Digest>>> = OnceLock::new();
    fn seen() -> MutexGuard<'static, HashSet<Digest>> {
        SEEN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin() {
        ON.store(true, Ordering::Relaxed);
    }

    pub(super) fn place(key: &PublicKey, bytes: &[u8], signature: &Signature) -> Option<Digest> {
        // Key and signature have fixed lengths, so no two triples share their bytes.
        ON.load(Ordering::Relaxed).then(|| Digest::of(&[&key.0, signature.0.as_slice(), bytes].concat()))
    }

    pub(super) fn contains(place: &Digest) -> bool {
        seen().contains(place)
    }

    pub(super) fn insert(place: Digest) {
        let mut seen = seen();
        if seen.len() >= MOST {
            seen.clear();
        }
        seen.insert(place);
    }
}

/// Whether the y coordinate is below p = 2^255 − 19 (RFC 8032, 5.1.3). The other way to be non-canonical, x = 0 with
/// its sign bit set, is a point of small order.
fn canonical_y(bytes: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = bytes;
    !(high & 0x7f == 0x7f && middle.iter().all(|b| *b == 0xff) && *low >= 0xed)
}

impl FromStr for PublicKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = hex32(text).ok_or_else(|| KeyError::PublicKey { found: excerpt(text) })?;
        PublicKey::from_bytes(bytes)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

/// An Ed25519 signature, 64 bytes. As text: base64 with padding, in its one spelling.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature([u8; 64]);

impl Signature {
    /// The signature that these bytes are; whether it is valid is another question.
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Signature(bytes)
    }

    /// Its 64 bytes.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl FromStr for Signature {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        BASE64_STANDARD
            .decode(text)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Signature)
            .ok_or_else(|| KeyError::Signature { found: excerpt(text) })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

/// DSSE pre-authentication encoding, `PAE(type, body)`: what a signature of this house is over, so that a signature
/// made for one purpose is none for another. (DSSE v1 protocol: `"DSSEv1" SP LEN(type) SP type SP LEN(body) SP body`.)
pub fn pae(payload_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), body.len());
    [head.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn key(n: u32) -> SecretKey {
        let mut seed = [9; 32];
        seed[..4].copy_from_slice(&n.to_be_bytes());
        SecretKey::from_seed(seed)
    }

    #[test]
    fn a_key_is_judged_alike_when_it_is_new_known_and_forgotten_again() {
        let (ours, other) = (key(0), key(1));
        let (good, bad) = (ours.sign(b"said"), other.sign(b"said"));
        let low = |y: u8| [[y].as_slice(), &[0; 31]].concat().try_into().unwrap();
        let high = |y: u8| [[y].as_slice(), &[0xff; 30], &[0x7f]].concat().try_into().unwrap();
        let read = |bytes: &[u8; 32]| VerifyingKey::from_bytes(bytes).ok();
        // Points of order 1, 2 and 4; what is no point; a point of large order in another than its canonical encoding.
        let none: [u8; 32] = (2..).map(low).find(|bytes| read(bytes).is_none()).unwrap();
        let another: [u8; 32] =
            (0xee..0xff).map(high).find(|bytes| read(bytes).is_some_and(|key| !key.is_weak())).unwrap();
        let weak: [[u8; 32]; 5] = [low(1), high(0xec), low(0), none, another];
        let judged = || {
            let ours = PublicKey::from_bytes(*ours.public().as_bytes()).unwrap();
            assert!(ours.verify_strict(b"said", &good).is_ok());
            assert!(ours.verify_strict(b"said", &bad).is_err());
            assert!(ours.verify_strict(b"sald", &good).is_err());
            // A key that was never read, as one that a secret key gives.
            assert!(other.public().verify_strict(b"said", &bad).is_ok());
            for bytes in weak {
                assert!(PublicKey::from_bytes(bytes).is_err(), "{}", hex::encode(bytes));
                // However it came to be: nothing verifies under it.
                assert!(PublicKey(bytes).verify_strict(b"said", &good).is_err());
                assert!(PublicKey(bytes).verify_strict(b"said", &Signature([0; 64])).is_err());
            }
        };
        judged();
        judged();
        for n in 2..2 + 3 * known::MOST as u32 {
            PublicKey::from_bytes(*key(n).public().as_bytes()).unwrap();
        }
        judged();
    }

    #[test]
    fn keys_in_use_are_not_driven_out_by_many_others_and_no_more_than_two_generations_are_kept() {
        let ours = *key(0).public().as_bytes();
        PublicKey::from_bytes(ours).unwrap();
        for n in 10_000..10_000 + 4 * known::MOST as u32 {
            PublicKey::from_bytes(*key(n).public().as_bytes()).unwrap();
            assert!(known::get(&ours).is_some(), "after {n}");
        }
        assert!(known::get(key(10_000).public().as_bytes()).is_none(), "nobody used it again");
        assert!(known::len() <= 2 * known::MOST);
    }
}
