//! Entries: a signed statement with the sequencer's stamp, as it is a leaf of the log.

use crate::digest::excerpt;
use crate::statement::{SignedStatement, StatementError};

const HEADER: &str = "comity-entry/1\n";
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
        let mut out = format!("{HEADER}time {}\n", self.time).into_bytes();
        out.extend_from_slice(&self.signed.to_bytes());
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
            .and_then(|l| l.strip_prefix("time "))
            .and_then(|digits| digits.parse::<i64>().ok().filter(|t| t.to_string() == digits))
            .ok_or_else(|| framing(line, "a line `time <milliseconds>`"))?;
        let statement = statement.strip_prefix(b"\n").unwrap_or(statement);
        Ok(Entry { time, signed: SignedStatement::from_bytes(statement)? })
    }
}
