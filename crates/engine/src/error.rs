//! What can go wrong between a site's table and its frame.

use std::fmt;
use std::path::PathBuf;
use study::DocumentError;

/// A source that was refused. `Display` quotes the source and is for the eyes of the site alone; everything that
/// may be logged, sent or recorded takes [`EngineError::public`], and so does `Debug`.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The file cannot be opened or read.
    #[error("{}: cannot be read ({kind}); check the path and the permissions", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        kind: std::io::ErrorKind,
    },
    /// The file is not the CSV that its first line promises.
    #[error("{}:{line}: found {found}, expected {expected}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1; 0 where it is not known.
        line: u64,
        /// What was found.
        found: String,
        /// What was expected instead.
        expected: String,
    },
    /// The first line does not name the columns that the mapping reads.
    #[error("{}:1: found {found}, expected {expected}", .path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
        /// What was expected instead.
        expected: String,
    },
    /// A text that no rule of the mapping expects, or a number out of bounds.
    #[error("{0}")]
    Value(Box<Misfit>),
    /// More rows than the dictionary lets any site hold.
    #[error("{}: found more than {max_rows} rows, expected at most that many, as the data dictionary says", .path.display())]
    TooManyRows {
        /// The file.
        path: PathBuf,
        /// The dictionary's bound.
        max_rows: u32,
    },
    /// An example of the mapping does not hold, so the mapping is not used.
    #[error(
        "example {number} of the mapping: `{column}`: found {found}, expected {expected}; amend the rule or the example"
    )]
    Example {
        /// Which example, from 1.
        number: usize,
        /// The dictionary's column.
        column: String,
        /// What the rule made of it.
        found: String,
        /// What the example says.
        expected: String,
    },
    /// The mapping does not fit the dictionary.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// A text that no rule of the mapping expects, with its place. It quotes the site's data, so it has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The file.
    pub path: PathBuf,
    /// The line on which the row starts, from 1.
    pub line: u64,
    /// The field of that row, from 1.
    pub field: usize,
    /// The source column, or several, joined by `, `.
    pub source: String,
    /// The dictionary's column.
    pub target: String,
    /// What was found, in backticks.
    pub found: String,
    /// What was expected instead.
    pub expected: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Misfit { path, line, field, source, target, found, expected } = self;
        write!(
            f,
            "{}:{line}: field {field} ({source}) for `{target}`: found {found}, expected {expected}; amend the \
             mapping or the source (this line quotes the site's data: keep it here)",
            path.display()
        )
    }
}

impl EngineError {
    /// What may be said outside the site: the kind of fault, no value, no count, no line (A4, A5).
    pub fn public(&self) -> &'static str {
        match self {
            EngineError::Unreadable { .. } => "the dataset's source cannot be read",
            EngineError::Malformed { .. } | EngineError::Header { .. } | EngineError::Value(_) => {
                "the dataset's source does not fit its registered mapping"
            }
            EngineError::TooManyRows { .. } => "the dataset exceeds the maximum rows of the data dictionary",
            EngineError::Example { .. } => "the registered mapping fails its own examples",
            EngineError::Document(_) => "the registered mapping does not fit the data dictionary",
        }
    }
}

/// As [`EngineError::public`]: `{:?}` finds its way into logs.
impl fmt::Debug for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EngineError({})", self.public())
    }
}
