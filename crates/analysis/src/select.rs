//! The one analysis population: which rows of a site are in it, and why the others are not.

use crate::{AnalysisError, Data, Frame};
use study::{Column, Condition, Dictionary, Kind, Population};

/// Which rows of a site are analysed, with the counts of those that are not.
///
/// It says something about every row, so it stays at the site: no `Debug`, no serialisation.
#[derive(Clone, PartialEq, Eq)]
pub struct Selection {
    /// For each row whether it is in the population.
    pub rows: Vec<bool>,
    /// Rows that fail a condition.
    pub excluded_conditions: u64,
    /// Rows that meet the conditions, by the first column of `complete` that they lack; in that order.
    pub excluded_missing: Vec<u64>,
    /// Rows in the population.
    pub analysed: u64,
}

impl Selection {
    /// The indices of the rows in the population, in order.
    pub fn indices(&self) -> impl Iterator<Item = usize> + '_ {
        self.rows.iter().enumerate().filter_map(|(i, keep)| keep.then_some(i))
    }
}

/// Selects a population. Conditions are checked first, then `complete` in order; a row counts under the first
/// reason that applies to it, so that read = excluded + analysed.
pub fn select(population: &Population, dict: &Dictionary, frame: &Frame) -> Result<Selection, AnalysisError> {
    if frame.rows as u64 > u64::from(dict.max_rows) {
        return Err(AnalysisError::TooManyRows);
    }
    let mut tests = Vec::with_capacity(population.conditions.len());
    for condition in &population.conditions {
        tests.push(Test::new(condition, dict, frame)?);
    }
    let mut needed = Vec::with_capacity(population.complete.len());
    for column in &population.complete {
        needed.push(checked(dict, frame, column)?);
    }
    let mut selection = Selection {
        rows: Vec::with_capacity(frame.rows),
        excluded_conditions: 0,
        excluded_missing: vec![0; needed.len()],
        analysed: 0,
    };
    for row in 0..frame.rows {
        let mut keep = false;
        if !tests.iter().all(|t| t.holds(row)) {
            selection.excluded_conditions += 1;
        } else if let Some(first) = needed.iter().position(|data| !known(data, row)) {
            if let Some(n) = selection.excluded_missing.get_mut(first) {
                *n += 1;
            }
        } else {
            keep = true;
            selection.analysed += 1;
        }
        selection.rows.push(keep);
    }
    Ok(selection)
}

/// The dictionary's column of that name.
pub(crate) fn column_of<'a>(dict: &'a Dictionary, name: &str) -> Option<&'a Column> {
    dict.columns.iter().find(|c| c.name == name)
}

/// A whole-number column of the rows, checked against the dictionary.
pub(crate) fn integers<'a>(
    dict: &Dictionary,
    frame: &'a Frame,
    column: &str,
) -> Result<&'a [Option<i64>], AnalysisError> {
    match checked(dict, frame, column)? {
        Data::Integer(values) => Ok(values),
        Data::Factor(_) => Err(bad(column, "it is not whole numbers")),
    }
}

/// A factor column of the rows, checked against the dictionary.
pub(crate) fn levels<'a>(
    dict: &Dictionary,
    frame: &'a Frame,
    column: &str,
) -> Result<&'a [Option<u16>], AnalysisError> {
    match checked(dict, frame, column)? {
        Data::Factor(values) => Ok(values),
        Data::Integer(_) => Err(bad(column, "it is not a factor")),
    }
}

/// A row that the population promised to be complete and is not.
pub(crate) fn missing(column: &str) -> AnalysisError {
    bad(column, "a row of the population lacks it")
}

fn bad(column: &str, why: &'static str) -> AnalysisError {
    AnalysisError::BadColumn { column: column.to_owned(), why }
}

fn checked<'a>(dict: &Dictionary, frame: &'a Frame, name: &str) -> Result<&'a Data, AnalysisError> {
    let column = column_of(dict, name).ok_or_else(|| AnalysisError::NoColumn { column: name.to_owned() })?;
    let data = frame.columns.get(name).ok_or_else(|| AnalysisError::NoColumn { column: name.to_owned() })?;
    if data.len() != frame.rows {
        return Err(bad(name, "it is not as long as the others"));
    }
    let within = match (data, &column.kind) {
        (Data::Integer(values), Kind::Integer { min, max }) => {
            values.iter().flatten().all(|v| (*min..=*max).contains(v))
        }
        (Data::Factor(values), Kind::Factor { levels, .. }) => {
            values.iter().flatten().all(|v| usize::from(*v) < levels.len())
        }
        _ => return Err(bad(name, "it has another type")),
    };
    if within { Ok(data) } else { Err(bad(name, "a value is outside its domain")) }
}

fn known(data: &Data, row: usize) -> bool {
    match data {
        Data::Integer(values) => values.get(row).is_some_and(Option::is_some),
        Data::Factor(values) => values.get(row).is_some_and(Option::is_some),
    }
}

/// A condition bound to its column. A missing value does not meet it.
enum Test<'a> {
    Integer { values: &'a [Option<i64>], min: i64, max: i64 },
    Factor { values: &'a [Option<u16>], allowed: Vec<bool> },
}

impl<'a> Test<'a> {
    fn new(condition: &Condition, dict: &Dictionary, frame: &'a Frame) -> Result<Self, AnalysisError> {
        let column = &condition.column;
        match column_of(dict, column).map(|c| &c.kind) {
            None => Err(AnalysisError::NoColumn { column: column.clone() }),
            Some(Kind::Integer { .. }) => Ok(Test::Integer {
                values: integers(dict, frame, column)?,
                min: condition.min.unwrap_or(i64::MIN),
                max: condition.max.unwrap_or(i64::MAX),
            }),
            Some(Kind::Factor { levels: of, .. }) => Ok(Test::Factor {
                values: levels(dict, frame, column)?,
                allowed: of.iter().map(|l| condition.levels.contains(&l.code)).collect(),
            }),
        }
    }

    fn holds(&self, row: usize) -> bool {
        match self {
            Test::Integer { values, min, max } => {
                values.get(row).copied().flatten().is_some_and(|v| (*min..=*max).contains(&v))
            }
            Test::Factor { values, allowed } => values
                .get(row)
                .copied()
                .flatten()
                .is_some_and(|v| allowed.get(usize::from(v)).copied().unwrap_or(false)),
        }
    }
}
