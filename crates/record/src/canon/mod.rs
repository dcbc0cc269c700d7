//! Restricted JSON in one and only one spelling.
//!
//! The form is RFC 8785 (JSON Canonicalization Scheme) with less in it: no floats, integers within
//! ±(2^53 − 1), no duplicate keys, nesting of at most [`MAX_DEPTH`]. Bytes are accepted if and only if writing
//! what was read gives the same bytes back, so that a digest of a text is a digest of its meaning and two
//! readers cannot disagree.
//!
//! The reader, the writer and the bridge to `serde` are written here and not taken from a JSON crate: such
//! crates keep the last of two equal keys, write NaN as `null`, or round large integers without a word.
//!
//! ```
//! use record::canon;
//! # #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
//! # struct Vote { seat: String, yes: bool, at: i64 }
//! let vote = Vote { seat: "steward".into(), yes: true, at: 1_700_000_000_000 };
//! let bytes = canon::to_bytes(&vote)?;
//! assert_eq!(bytes, br#"{"at":1700000000000,"seat":"steward","yes":true}"#);
//! assert_eq!(canon::from_bytes::<Vote>(&bytes)?, vote);
//! // The same meaning in another spelling is refused.
//! assert!(canon::from_bytes::<Vote>(br#"{"seat":"steward","at":1700000000000,"yes":true}"#).is_err());
//! # Ok::<(), canon::CanonError>(())
//! ```

mod de;
mod read;
mod ser;
mod strict;
mod write;

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest magnitude of an integer: 2^53 − 1, the range that every JSON reader holds exactly (RFC 8785, 3.2.2.3).
pub const MAX_INTEGER: i64 = (1 << 53) - 1;
/// Deepest nesting of lists and maps.
pub const MAX_DEPTH: usize = 32;
/// Longest text that [`parse`] and [`from_bytes`] read, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;

/// A value of restricted JSON.
///
/// A map is held in the order of Rust strings (code points) and written in the order of UTF-16 code units, as
/// RFC 8785 asks; the two differ only above U+FFFF.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Value {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer, within ±[`MAX_INTEGER`] wherever it is read or written.
    Int(i64),
    /// A string of Unicode scalar values.
    Str(String),
    /// An ordered list.
    List(Vec<Value>),
    /// A map with unique keys.
    Map(BTreeMap<String, Value>),
}

impl Value {
    /// The member of a map; nothing when this is no map or has no such key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Map(map) => map.get(key),
            _ => None,
        }
    }

    /// The text of a string value.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The integer of an integer value.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// The truth value of a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// The items of a list.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// The members of a map.
    pub fn as_map(&self) -> Option<&BTreeMap<String, Value>> {
        match self {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The canonical bytes of this value.
    ///
    /// # Errors
    /// When an integer is out of range or the nesting too deep.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CanonError> {
        write::write(self)
    }
}

/// Why a text or a value has no canonical form here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CanonError {
    /// The text is longer than its reader allows.
    #[error(
        "text of {found} bytes, expected at most {limit}: put long content in a blob and name its digest"
    )]
    TooLong {
        /// Length found, bytes.
        found: usize,
        /// Longest allowed, bytes.
        limit: usize,
    },
    /// Lists and maps are nested too deeply.
    #[error("nesting deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// The bytes are not UTF-8.
    #[error("not UTF-8 at byte {at}")]
    NotUtf8 {
        /// Offset of the first wrong byte.
        at: usize,
    },
    /// Something else stood where the grammar wants another thing.
    #[error("found {found} at byte {at}, expected {expected}")]
    Unexpected {
        /// Offset in bytes.
        at: usize,
        /// What stood there.
        found: String,
        /// What the grammar allows there.
        expected: &'static str,
    },
    /// A map has one key twice.
    #[error("key `{key}` stands twice in one map")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A number with a fraction or an exponent.
    #[error("floating-point numbers have no canonical form: write an integer in a smaller unit, or a string")]
    Float,
    /// An integer outside ±(2^53 − 1).
    #[error("integer `{found}` is outside plus or minus 9007199254740991: write it as a string")]
    IntegerRange {
        /// The digits found.
        found: String,
    },
    /// Readable, but spelled otherwise than the canonical form.
    #[error("not in canonical form (RFC 8785): the spelling differs at byte {at}")]
    NotCanonical {
        /// Offset of the first byte that differs.
        at: usize,
    },
    /// A map key that is neither text nor an integer.
    #[error("a map key must be text or an integer")]
    KeyNotText,
    /// Raw bytes, which JSON does not have.
    #[error("raw bytes have no canonical form: write them as hex or base64 text")]
    RawBytes,
    /// The value is well-formed but not of the expected shape.
    #[error("{0}")]
    Shape(String),
}

/// Reads canonical bytes of at most [`MAX_BYTES`].
///
/// # Errors
/// Unless writing the value read gives exactly `bytes`.
pub fn parse(bytes: &[u8]) -> Result<Value, CanonError> {
    parse_document(bytes, MAX_BYTES)
}

/// Reads canonical bytes of at most `limit`, for documents longer than a statement.
///
/// # Errors
/// Unless writing the value read gives exactly `bytes`.
pub fn parse_document(bytes: &[u8], limit: usize) -> Result<Value, CanonError> {
    if bytes.len() > limit {
        return Err(CanonError::TooLong { found: bytes.len(), limit });
    }
    // Most bytes that come are canonical. What this takes is what the rule below takes.
    if let Some(value) = strict::read(bytes) {
        return Ok(value);
    }
    let value = read::read(bytes)?;
    // INVARIANT: accepted if and only if canon(parse(bytes)) == bytes. The reader need not know every rule of
    // spelling, since this comparison is the rule.
    let written = write::write(&value)?;
    if written != bytes {
        let at = written.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        return Err(CanonError::NotCanonical { at });
    }
    Ok(value)
}

/// The canonical bytes of anything serialisable. `None` becomes `null`: skip it in the type if it should be absent.
///
/// # Errors
/// On floats, raw bytes, integers out of range, keys that are not text, or nesting that is too deep.
pub fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CanonError> {
    write::write(&to_value(value)?)
}

/// The value of anything serialisable.
///
/// # Errors
/// As [`to_bytes`].
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, CanonError> {
    value.serialize(ser::ToValue)
}

/// Reads canonical bytes of at most [`MAX_BYTES`] into a type.
///
/// # Errors
/// When the bytes are not canonical or do not have the type's shape.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CanonError> {
    from_bytes_limit(bytes, MAX_BYTES)
}

/// Reads canonical bytes of at most `limit` into a type.
///
/// # Errors
/// When the bytes are not canonical or do not have the type's shape.
pub fn from_bytes_limit<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, CanonError> {
    from_value(parse_document(bytes, limit)?)
}

/// Reads a value into a type.
///
/// # Errors
/// When the value does not have the type's shape.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, CanonError> {
    T::deserialize(value)
}
