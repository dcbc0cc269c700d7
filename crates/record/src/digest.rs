//! SHA-256 digests: the addresses of statements, documents and blobs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest (FIPS 180-4). As text: 64 lower-case hexadecimal characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// A text that is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found `{found}`, expected a SHA-256 digest of 64 lower-case hexadecimal characters")]
pub struct DigestError {
    found: String,
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(Sha256::digest(bytes).into())
    }

    /// The digest that these 32 bytes are.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Digest(bytes)
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its first eight hexadecimal characters, for people to tell digests apart. Never to be compared by machines.
    pub fn short(&self) -> String {
        self.to_string().chars().take(8).collect()
    }
}

/// The digest of something that was derived from data or is sealed: without the salt, a reader of the record could
/// try out the few values that a small result can have. Holds `domain`, so that one value in two places is not
/// seen to be the same even under one salt.
///
/// SHA-256("comity-salted/1\n" ‖ len(domain) as 8 bytes big-endian ‖ domain ‖ salt ‖ bytes).
pub fn salted(domain: &str, salt: &[u8; 16], bytes: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(b"comity-salted/1\n");
    hasher.update((domain.len() as u64).to_be_bytes());
    hasher.update(domain.as_bytes());
    hasher.update(salt);
    hasher.update(bytes);
    Digest(hasher.finalize().into())
}

/// Thirty-two bytes from their only hexadecimal spelling.
pub(crate) fn hex32(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let lower = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

/// What was found, short enough for an error message.
pub(crate) fn excerpt(text: &str) -> String {
    if text.chars().count() <= 80 {
        return text.escape_debug().to_string();
    }
    let head: String = text.chars().take(77).collect();
    format!("{}...", head.escape_debug())
}

impl FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        hex32(text).map(Digest).ok_or_else(|| DigestError { found: excerpt(text) })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_digest_of_abc_is_the_one_of_fips_180() {
        let digest = Digest::of(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse::<Digest>().unwrap(), digest);
    }

    #[test]
    fn a_digest_has_one_spelling() {
        let text = Digest::of(b"abc").to_string();
        assert!(text.to_uppercase().parse::<Digest>().is_err());
        assert!(text[1..].parse::<Digest>().is_err());
        assert!(format!("{text}00").parse::<Digest>().is_err());
        assert!(text.replace('b', "g").parse::<Digest>().is_err());
        assert!("é".repeat(32).parse::<Digest>().is_err());
    }

    #[test]
    fn a_salted_digest_depends_on_domain_salt_and_bytes() {
        let digest = salted("release", &[1; 16], b"42");
        assert_ne!(digest, salted("release", &[2; 16], b"42"));
        assert_ne!(digest, salted("sum", &[1; 16], b"42"));
        assert_ne!(digest, salted("release", &[1; 16], b"43"));
        // Without the length, domain and salt could trade bytes.
        assert_ne!(salted("ab", b"cdefghijklmnopqr", b"s"), salted("a", b"bcdefghijklmnopq", b"rs"));
    }
}
