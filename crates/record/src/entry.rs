//! Entries: a signed statement with the sequencer's stamp, as it is a leaf of the log.

use std::fmt;
use std::sync::Arc;

use crate::digest::{Digest, excerpt};
use crate::statement::{SignedStatement, StatementError};

const HEADER: &str = "comity-entry/1\n";
/// Before the stamp, on the second line.
const TIME: &str = "time ";
/// Longest entry, bytes: entry bundles give each a length of 16 bits (C2SP tlog-tiles).
pub const MAX_ENTRY_BYTES: usize = 65_535;

/// An entry that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// The lines before the statement are broken.
    #[error("malformed entry: found `{found}`, expected {expected}")]
    Framing {
        /// What was found.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The statement in it is broken.
    #[error(transparent)]
    Statement(#[from] StatementError),
}

/// One leaf of the log.
///
/// ```text
/// comity-entry/1
/// time <milliseconds since the epoch>
/// <signed statement>
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The sequencer's stamp, milliseconds since the epoch, UTC. Order is the index alone.
    pub time: i64,
    /// What was said.
    pub signed: SignedStatement,
}

impl Entry {
    /// An entry of this statement at this time.
    pub fn new(time: i64, signed: SignedStatement) -> Self {
        Entry { time, signed }
    }

    /// The leaf's bytes. At most [`MAX_ENTRY_BYTES`], since a signed statement leaves room for the two lines.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = format!("{HEADER}{TIME}{}\n", self.time).into_bytes();
        self.signed.write(&mut out);
        out
    }

    /// Reads a leaf's bytes.
    ///
    /// # Errors
    /// Unless `bytes` are exactly what [`to_bytes`](Self::to_bytes) writes for what was read.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EntryError> {
        let framing = |found: &[u8], expected| EntryError::Framing {
            found: excerpt(&String::from_utf8_lossy(found.get(..found.len().min(80)).unwrap_or(found))),
            expected,
        };
        let rest = bytes
            .strip_prefix(HEADER.as_bytes())
            .ok_or_else(|| framing(bytes, "the line `comity-entry/1`"))?;
        let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
        let (line, statement) = rest.split_at(end);
        let time = std::str::from_utf8(line)
            .ok()
            .and_then(|l| l.strip_prefix(TIME))
            .and_then(|digits| digits.parse::<i64>().ok().filter(|t| t.to_string() == digits))
            .ok_or_else(|| framing(line, "a line `time <milliseconds>`"))?;
        let statement = statement.strip_prefix(b"\n").unwrap_or(statement);
        Ok(Entry { time, signed: SignedStatement::from_bytes(statement)? })
    }
}

/// An entry as a log keeps it: its bytes, once, and nothing beside them. A parsed entry takes several times as much; a
/// [`Log`](crate::Log) holds each for as long as it lives, and few are looked into twice.
#[derive(Clone, PartialEq, Eq)]
// INVARIANT: Entry::from_bytes takes these bytes.
pub struct EntryBytes(Arc<[u8]>);

impl EntryBytes {
    /// Reads a leaf's bytes: what to keep, and what it says.
    ///
    /// # Errors
    /// As [`Entry::from_bytes`].
    pub fn read(bytes: &[u8]) -> Result<(EntryBytes, Entry), EntryError> {
        let entry = Entry::from_bytes(bytes)?;
        Ok((EntryBytes(Arc::from(bytes)), entry))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// A copy of the bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// The entry, read again: a few microseconds, so ask once for what you need of it.
    pub fn entry(&self) -> Entry {
        match Entry::from_bytes(&self.0) {
            Ok(entry) => entry,
            Err(_) => unreachable!("these bytes were read when the leaf was made"),
        }
    }

    /// The sequencer's stamp, milliseconds since the epoch, without reading the rest.
    pub fn time(&self) -> i64 {
        let digits = self.0.get(HEADER.len() + TIME.len()..).unwrap_or(&[]);
        let digits = digits.split(|b| *b == b'\n').next().unwrap_or(&[]);
        std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).unwrap_or(i64::MIN)
    }

    /// The id of its statement, without reading the rest.
    pub fn id(&self) -> Digest {
        // The first empty line is the one before the JSON: no line of the two headers is empty.
        let at = self.0.windows(2).position(|two| two == b"\n\n").map_or(self.0.len(), |at| at + 2);
        Digest::of(self.0.get(at..).unwrap_or(&[]))
    }
}

impl From<&Entry> for EntryBytes {
    fn from(entry: &Entry) -> Self {
        // INVARIANT: an entry is made of a signed statement, and what one writes is read back.
        EntryBytes(Arc::from(entry.to_bytes()))
    }
}

impl fmt::Debug for EntryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryBytes({:?})", String::from_utf8_lossy(&self.0))
    }
}
