//! Errors that name the file, the place, what was found and what was expected.

use std::fmt;

/// A place in a document: line and column count from 1; `0` means that the place is the document as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// A document that was refused: which one, where, what stood there and what should have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct DocumentError {
    /// The document's name as the caller gave it, usually a path.
    pub document: String,
    /// Where in it.
    pub place: Place,
    /// What was found, user input in backticks.
    pub found: String,
    /// What was expected instead, or what to do.
    pub expected: String,
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.line == 0 {
            write!(f, "{}: found {}, expected {}", self.document, self.found, self.expected)
        } else {
            write!(
                f,
                "{}:{}:{}: found {}, expected {}",
                self.document, self.place.line, self.place.column, self.found, self.expected
            )
        }
    }
}
