//! The rows of one site, already in the dictionary's terms. Made in the engine, read by the methods.

use std::collections::BTreeMap;
use std::fmt;

/// One site's rows, column by column, each column `rows` long and named as in the data dictionary.
///
/// It holds values of persons and never leaves the site: it cannot be serialised, and its `Debug` shows the
/// names of columns but no value and no count.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// Number of rows.
    pub rows: usize,
    /// Columns by their dictionary name, in order of name.
    pub columns: BTreeMap<String, Data>,
}

/// The values of one column; `None` is missing.
#[derive(Clone, PartialEq, Eq)]
pub enum Data {
    /// Whole numbers, within the dictionary's bounds.
    Integer(Vec<Option<i64>>),
    /// Index into the dictionary's levels of the column, from 0.
    Factor(Vec<Option<u16>>),
}

impl Data {
    /// Number of values, missing ones counted.
    pub fn len(&self) -> usize {
        match self {
            Data::Integer(values) => values.len(),
            Data::Factor(values) => values.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Shows no value: a frame in a log line or an error would be a second way out.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("columns", &self.columns).finish_non_exhaustive()
    }
}

/// Shows the type alone.
impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Data::Integer(_) => "Integer(..)",
            Data::Factor(_) => "Factor(..)",
        })
    }
}
