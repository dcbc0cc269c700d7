//! Keys that messages are sealed to: RFC 9180 with the hybrid X-Wing KEM, HKDF-SHA256 and ChaCha20-Poly1305.
//!
//! X-Wing (draft-connolly-cfrg-xwing-kem, ML-KEM-768 with X25519) because the relay may keep what it carries
//! for twenty years: a share opens only if both the lattice and the curve are broken.

use crate::error::RoundError;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use zeroize::Zeroizing;

/// Bytes of a public key.
pub const PUBLIC_KEY_BYTES: usize = 1216;
/// Bytes of an encapsulated key.
pub(crate) const ENCAPSULATED_BYTES: usize = 1120;
/// Bytes that sealing adds: encapsulated key and authentication tag.
pub const SEAL_BYTES: usize = ENCAPSULATED_BYTES + 16;

/// A key that opens what was sealed to it. Made per run and erased at its close (A8). Wiped when dropped; it
/// has no `Debug`, so it cannot stray into a log.
///
/// ```compile_fail,E0277
/// println!("{:?}", rounds::KemSecret::generate());
/// ```
#[derive(Clone)]
pub struct KemSecret(<XWing as Kem>::PrivateKey);

/// The key that others seal to. As text: 2432 hexadecimal characters.
#[derive(Clone, PartialEq, Eq)]
pub struct KemPublic(<XWing as Kem>::PublicKey);

impl KemSecret {
    /// A fresh key from the operating system's randomness.
    pub fn generate() -> KemSecret {
        KemSecret(XWing::gen_keypair().0)
    }

    /// Its public half.
    pub fn public(&self) -> KemPublic {
        KemPublic(XWing::sk_to_pk(&self.0))
    }

    /// Its 32 bytes, for the node's own sealed store and nothing else.
    pub fn expose(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.to_bytes().to_vec())
    }

    /// The key of these 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<KemSecret, RoundError> {
        let key = <XWing as Kem>::PrivateKey::from_bytes(bytes);
        key.map(KemSecret).map_err(|_| RoundError::Key { found: bytes.len(), expected: 32 })
    }
}

impl KemPublic {
    /// Its 1216 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes().to_vec()
    }

    /// The key of these 1216 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<KemPublic, RoundError> {
        let key = <XWing as Kem>::PublicKey::from_bytes(bytes);
        key.map(KemPublic).map_err(|_| RoundError::Key { found: bytes.len(), expected: PUBLIC_KEY_BYTES })
    }
}

impl fmt::Display for KemPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.to_bytes()))
    }
}

impl fmt::Debug for KemPublic {
    /// The first eight bytes, for telling keys apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KemPublic({}..)", hex::encode(self.to_bytes().get(..8).unwrap_or_default()))
    }
}

impl Serialize for KemPublic {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KemPublic {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<KemPublic, D::Error> {
        let text = String::deserialize(d)?;
        let wrong =
            || de::Error::custom("expected an X-Wing public key of 2432 lower-case hexadecimal characters");
        if text.len() != 2 * PUBLIC_KEY_BYTES || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(wrong());
        }
        let bytes = hex::decode(&text).map_err(|_| wrong())?;
        KemPublic::from_bytes(&bytes).map_err(|_| wrong())
    }
}

/// Seals bytes: encapsulated key, then ciphertext with its tag.
pub(crate) fn seal(to: &KemPublic, info: &[u8], aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, RoundError> {
    let sealed = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, XWing>(
        &OpModeS::Base,
        &to.0,
        info,
        plain,
        aad,
    );
    let (key, cipher) = sealed.map_err(|_| RoundError::Crypto { what: "sealing" })?;
    let mut bytes = Vec::with_capacity(SEAL_BYTES + plain.len());
    bytes.extend_from_slice(&key.to_bytes());
    bytes.extend_from_slice(&cipher);
    Ok(bytes)
}

/// Opens what [`seal`] made; `None` whatever the reason.
pub(crate) fn open(secret: &KemSecret, info: &[u8], aad: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (key, cipher) = sealed.split_at_checked(ENCAPSULATED_BYTES)?;
    let key = <XWing as Kem>::EncappedKey::from_bytes(key).ok()?;
    let opened = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWing>(
        &OpModeR::Base,
        &secret.0,
        &key,
        info,
        cipher,
        aad,
    );
    opened.ok().map(Zeroizing::new)
}
