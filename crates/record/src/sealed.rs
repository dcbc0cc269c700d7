//! Free text on the record: only as commitments that cannot be read, and that stand when the text is destroyed.
//!
//! A statement holds a [`Commitment`] for each field that may have to be erased: the salted digest ([`crate::salted`])
//! of the field's canonical bytes under the domain `sealed/<field path>`, with sixteen random bytes of salt. The value
//! and its salt, a [`Disclosure`], live at members and can be destroyed there; who has one checks it against the record.
//! Without the salt nobody can try out values, so what remains on the record after the destruction tells nothing of
//! them, and statement, signatures, log and state verify as before.
//!
//! The form is that of salted digests in a flat list (SD-JWT, RFC 9901), over this record's own bytes.
//!
//! Threat model: the reader of the record is curious for ever and has all of it. It learns that something was said,
//! when, by whom and about what, and of the number of fields only a power of two ([`pad`]). Whoever was shown a
//! disclosure can keep it against every promise; no commitment undoes that. Whoever wrote it cannot show another value
//! later, as far as SHA-256 is free of collisions.
//!
//! A commitment has no way to the value, so that no fold can depend on one:
//!
//! ```compile_fail
//! let commitment: record::Commitment = record::Digest::of(b"any").into();
//! let value = commitment.value();
//! ```
//!
//! ```compile_fail
//! fn read(commitment: &record::Commitment) -> &record::Value {
//!     commitment.as_ref()
//! }
//! ```

use crate::canon::{self, CanonError, Value};
use crate::digest::{Digest, salted};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// Most commitments of one statement.
pub const MAX_SEALED: usize = 64;
/// Fewest commitments that [`pad`] leaves: one field and three look alike.
pub const MIN_SEALED: usize = 4;
/// Longest field path, bytes.
const MAX_FIELD: usize = 64;

/// A value that was committed to and is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Commitment(Digest);

/// Sixteen random bytes, gone from memory when dropped. As text: 32 lower-case hexadecimal characters.
#[derive(Clone, PartialEq, Eq)]
pub struct Salt([u8; 16]);

/// What opens a commitment: the value with its salt. Never to be on the record.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disclosure {
    /// Which field it is, for example `note/text`.
    pub field: String,
    /// Its salt.
    pub salt: Salt,
    /// The value.
    pub value: Value,
}

impl Salt {
    /// The salt of these bytes, drawn by the caller.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Salt(bytes)
    }
}

impl Drop for Salt {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Serialize for Salt {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Salt {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let mut bytes = [0; 16];
        let lower = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !lower || hex::decode_to_slice(&text, &mut bytes).is_err() {
            return Err(de::Error::custom("expected a salt of 32 lower-case hexadecimal characters"));
        }
        Ok(Salt(bytes))
    }
}

/// Shows the field alone: a disclosure must not come into a log by way of `{:?}`.
impl fmt::Debug for Disclosure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disclosure").field("field", &self.field).finish_non_exhaustive()
    }
}

impl Disclosure {
    /// The value of a field under a salt of sixteen fresh random bytes.
    pub fn new(field: &str, salt: [u8; 16], value: Value) -> Self {
        Disclosure { field: field.to_owned(), salt: Salt(salt), value }
    }

    /// The commitment that stands on the record for it.
    ///
    /// # Errors
    /// When the value has no canonical bytes.
    pub fn commitment(&self) -> Result<Commitment, CanonError> {
        let bytes = canon::to_bytes(&self.value)?;
        Ok(Commitment(salted(&format!("sealed/{}", self.field), &self.salt.0, &bytes)))
    }
}

impl From<Digest> for Commitment {
    fn from(digest: Digest) -> Self {
        Commitment(digest)
    }
}

impl Commitment {
    /// Whether this is what was committed to, in time that tells nothing of where they differ.
    pub fn opens(&self, disclosure: &Disclosure) -> bool {
        let fits = disclosure.field.len() <= MAX_FIELD;
        fits && disclosure.commitment().is_ok_and(|other| self.0.as_bytes().ct_eq(other.0.as_bytes()).into())
    }
}

/// How many random digests to draw beside so many commitments, so that there are a power of two.
pub fn padding(fields: usize) -> usize {
    fields.max(MIN_SEALED).next_power_of_two() - fields
}

/// Commitments as they stand in a statement: with the random digests `draw` (as many as [`padding`] says) among them,
/// in the order of their bytes, so that neither number nor place tells much.
pub fn pad(commitments: Vec<Commitment>, draw: impl IntoIterator<Item = [u8; 32]>) -> Vec<Commitment> {
    let more = padding(commitments.len());
    let drawn = draw.into_iter().take(more).map(|bytes| Commitment(Digest::from_bytes(bytes)));
    let mut all: Vec<Commitment> = commitments.into_iter().chain(drawn).collect();
    all.sort();
    all
}

/// Whether a statement may hold these: a power of two, not too many, in order and each once.
pub fn is_padded(commitments: &[Commitment]) -> bool {
    let number = commitments.len();
    let ordered = commitments.iter().zip(commitments.iter().skip(1)).all(|(a, b)| a < b);
    number.is_power_of_two() && (MIN_SEALED..=MAX_SEALED).contains(&number) && ordered
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn remark(salt: u8, text: &str) -> Disclosure {
        Disclosure::new("note/text", [salt; 16], Value::Str(text.into()))
    }

    #[test]
    fn a_commitment_opens_to_its_own_value_alone() {
        let said = remark(1, "the cells are too small");
        let commitment = said.commitment().unwrap();
        assert!(commitment.opens(&said));
        assert!(!commitment.opens(&remark(1, "the cells are too smalL")), "another value");
        assert!(!commitment.opens(&remark(2, "the cells are too small")), "another salt");
        for field in ["note/texts", "note/tex", "", "sealed/note/text"] {
            assert!(!commitment.opens(&Disclosure { field: field.into(), ..said.clone() }), "{field}");
        }
        // A number and the text of it are two values.
        let number = Disclosure { value: Value::Int(7), ..said.clone() };
        assert!(!number.commitment().unwrap().opens(&remark(1, "7")));
        assert!(!Commitment(Digest::of(b"any")).opens(&said));
    }

    #[test]
    fn a_commitment_is_the_salted_digest_of_the_canonical_bytes() {
        let expected = salted("sealed/note/text", &[1; 16], b"\"no\"");
        assert_eq!(remark(1, "no").commitment().unwrap(), Commitment(expected));
    }

    #[test]
    fn a_field_longer_than_any_opens_nothing() {
        let long = Disclosure { field: "f".repeat(MAX_FIELD + 1), ..remark(1, "no") };
        assert!(!long.commitment().unwrap().opens(&long));
    }

    #[test]
    fn the_number_of_commitments_is_a_power_of_two_whatever_was_sealed() {
        for (fields, all) in [(0, 4), (1, 4), (3, 4), (4, 4), (5, 8), (9, 16), (33, 64)] {
            let own: Vec<Commitment> = (0..fields).map(|n| remark(n, "no").commitment().unwrap()).collect();
            let drawn = (0u8..64).map(|n| [n; 32]);
            let padded = pad(own.clone(), drawn);
            assert_eq!(padded.len(), all, "{fields}");
            assert!(is_padded(&padded));
            assert!(own.iter().all(|c| padded.contains(c)));
        }
    }

    #[test]
    fn commitments_that_tell_their_number_or_place_are_not_padded() {
        let padded = pad(vec![remark(1, "no").commitment().unwrap()], (0u8..3).map(|n| [n; 32]));
        assert!(is_padded(&padded));
        assert!(!is_padded(&padded[..3]) && !is_padded(&padded[..2]) && !is_padded(&[]));
        let mut swapped = padded.clone();
        swapped.swap(0, 1);
        assert!(!is_padded(&swapped));
        assert!(!is_padded(&[padded[0]; 4]), "the same one again");
        let many: Vec<Commitment> = (0u8..128).map(|n| Commitment(Digest::from_bytes([n; 32]))).collect();
        assert!(is_padded(&many[..64]) && !is_padded(&many));
    }

    #[test]
    fn a_disclosure_is_read_back_from_its_one_spelling_and_shows_itself_in_no_log() {
        let said = remark(0xab, "the cells are too small");
        let bytes = canon::to_bytes(&said).unwrap();
        assert_eq!(canon::from_bytes::<Disclosure>(&bytes).unwrap(), said);
        let upper = String::from_utf8(bytes).unwrap().replace("abab", "ABAB");
        assert!(canon::from_bytes::<Disclosure>(upper.as_bytes()).is_err());
        let shown = format!("{said:?}");
        assert!(!shown.contains("cells") && !shown.contains("abab"), "{shown}");
    }
}
