//! ML-DSA-44 keys (FIPS 204) for cosignatures beside the Ed25519 ones.
//!
//! What a checkpoint's signatures prove has to hold for as long as the record is believed, which may be longer than
//! elliptic curves last. Statements keep Ed25519 alone: a record whose roots are still proved fixes their order and
//! their bytes. Signing is the deterministic variant with an empty context, as C2SP tlog-cosignature asks.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ml_dsa::{EncodedSignature, EncodedVerifyingKey, MlDsa44, Signature, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroize;

use crate::digest::excerpt;
use crate::keys::KeyError;

/// Bytes of a public key.
pub const KEY_BYTES: usize = 1312;
/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 2420;

/// An ML-DSA-44 secret key. Wiped when dropped; has no `Debug` and no `Clone`.
pub struct MlSecretKey(SigningKey<MlDsa44>);

impl MlSecretKey {
    /// The key of a 32-byte seed (FIPS 204, algorithm 6), which comes from the operating system's randomness or from
    /// a key file. The copy handed in is wiped.
    pub fn from_seed(mut seed: [u8; 32]) -> Self {
        let mut array = ml_dsa::Seed::from(seed);
        let key = SigningKey::from_seed(&array);
        array.zeroize();
        seed.zeroize();
        MlSecretKey(key)
    }

    /// The public half.
    pub fn public(&self) -> MlPublicKey {
        let encoded = self.0.expanded_key().verifying_key().encode();
        MlPublicKey(Arc::from(encoded.as_slice()))
    }

    /// Signs exactly `bytes`.
    ///
    /// # Errors
    /// Never with an empty context; the library's type says it could.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Result<Box<[u8]>, KeyError> {
        let signature = self.0.expanded_key().sign_deterministic(bytes, b"").map_err(|_| {
            KeyError::Signature { found: "an ML-DSA-44 signature that could not be made".to_owned() }
        })?;
        Ok(Box::from(signature.encode().as_slice()))
    }
}

/// An ML-DSA-44 public key of 1,312 bytes. As text: base64 with padding, in its one spelling.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MlPublicKey(Arc<[u8]>);

impl MlPublicKey {
    /// The key that these bytes encode: every string of that length is one (FIPS 204, algorithm 23).
    ///
    /// # Errors
    /// When they are not 1,312.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() == KEY_BYTES {
            return Ok(MlPublicKey(Arc::from(bytes)));
        }
        Err(KeyError::PostQuantum { found: format!("{} bytes", bytes.len()) })
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether `signature` is this key's over exactly `bytes`.
    pub(crate) fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let Ok(encoded) = EncodedVerifyingKey::<MlDsa44>::try_from(&*self.0) else { return false };
        let Ok(signature) = EncodedSignature::<MlDsa44>::try_from(signature) else { return false };
        let key = VerifyingKey::<MlDsa44>::decode(&encoded);
        Signature::<MlDsa44>::decode(&signature).is_some_and(|s| key.verify_with_context(bytes, b"", &s))
    }
}

impl FromStr for MlPublicKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let found = || KeyError::PostQuantum { found: excerpt(text) };
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| found())?;
        MlPublicKey::from_bytes(&bytes).map_err(|_| found())
    }
}

impl fmt::Display for MlPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl fmt::Debug for MlPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for MlPublicKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MlPublicKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}
