//! The model matrix of a formula: an intercept, whole numbers, and one 0/1 column for each level of a factor
//! but its reference.
//!
//! Inside the rounds a whole-number column `x` enters as `u = (x - c) / s`, `c` the middle of its domain in the
//! data dictionary and `s` the power of two that brings `u` into `[-1, 1]`. So every entry of a contribution has
//! a public bound, one resolution suits all of them, and the information matrix is well conditioned whatever the
//! units. The result is turned back to the dictionary's units at the end; `c` and `s` are public, and `u` is
//! exact in floating point.

use crate::describe::centre_and_reach;
use crate::mantel_haenszel::YesNo;
use crate::plan::place;
use crate::result::Reference;
use crate::select::{column_of, integers, levels, missing};
use crate::{AnalysisError, Frame, PlanError, Selection};
use study::formula::Formula;
use study::{Dictionary, Kind};

/// Most columns of a model matrix.
pub const MAX_COLUMNS: usize = 64;

/// Outcome and model matrix as planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Design {
    /// The outcome with its event.
    pub outcome: YesNo,
    /// The level that is the event.
    pub event: String,
    /// The columns, intercept first.
    pub terms: Vec<Term>,
    /// What each factor's levels are compared with.
    pub references: Vec<Reference>,
}

/// One column of the model matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// `(intercept)`, a column, or `column=level`.
    pub name: String,
    /// Unit of the dictionary's column.
    pub unit: Option<String>,
    /// Where its values come from.
    pub source: Source,
}

/// Where a column of the model matrix comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Ones.
    Intercept,
    /// `(x - centre) / 2^log2_scale` of a whole-number column.
    Scaled {
        /// The column.
        column: String,
        /// Middle of its domain.
        centre: i64,
        /// Binary logarithm of the scale, at most 52.
        log2_scale: u8,
    },
    /// 1 where a factor has this level, else 0.
    Level {
        /// The column.
        column: String,
        /// Index of the level.
        level: u16,
    },
}

impl Term {
    /// `s` and `c` of `u = (x - c) / s`.
    pub fn scale_and_centre(&self) -> (f64, f64) {
        match &self.source {
            Source::Scaled { centre, log2_scale, .. } => ((1u64 << log2_scale) as f64, *centre as f64),
            Source::Intercept | Source::Level { .. } => (1.0, 0.0),
        }
    }

    /// Whether no value is below zero.
    pub fn is_indicator(&self) -> bool {
        !matches!(self.source, Source::Scaled { .. })
    }

    /// The name with its scale, for the layout.
    pub fn scaled_name(&self) -> String {
        match &self.source {
            Source::Scaled { column, centre, log2_scale } => {
                format!("({column} - {centre})/{}", 1u64 << log2_scale)
            }
            Source::Intercept | Source::Level { .. } => self.name.clone(),
        }
    }
}

/// One site's rows as outcome and model matrix, row after row.
pub(crate) struct Rows {
    /// Whether the row has the event.
    pub y: Vec<bool>,
    /// `terms.len()` entries a row, each within `[-1, 1]`.
    pub u: Vec<f64>,
}

impl Design {
    /// Reads a formula and its event.
    pub fn new(id: &str, formula: &str, event: &str, dict: &Dictionary) -> Result<Design, PlanError> {
        let place = place(id);
        let parsed = Formula::parse(formula)
            .map_err(|why| PlanError::Formula { place: place.clone(), why: why.to_string() })?;
        let outcome = YesNo::new(&parsed.outcome, event, dict, &place)?;
        let mut terms = vec![Term { name: "(intercept)".into(), unit: None, source: Source::Intercept }];
        let mut references = Vec::new();
        for (i, name) in parsed.terms.iter().enumerate() {
            if *name == parsed.outcome || parsed.terms.iter().take(i).any(|t| t == name) {
                return Err(PlanError::Twice { place, name: name.clone() });
            }
            let Some(column) = column_of(dict, name) else {
                return Err(PlanError::UnknownColumn { place, column: name.clone() });
            };
            match &column.kind {
                Kind::Integer { min, max } => {
                    let scaled = centre_and_reach(*min, *max).filter(|(_, reach)| *reach <= 1 << 52);
                    let Some((centre, reach)) = scaled else {
                        return Err(PlanError::TooWide { place, column: name.clone() });
                    };
                    let log2_scale = reach.max(1).unsigned_abs().next_power_of_two().trailing_zeros() as u8;
                    terms.push(Term {
                        name: name.clone(),
                        unit: column.unit.clone(),
                        source: Source::Scaled { column: name.clone(), centre, log2_scale },
                    });
                }
                Kind::Factor { levels, reference } => {
                    let reference = reference.as_ref().or(levels.first().map(|l| &l.code));
                    let Some(base) = reference.and_then(|r| levels.iter().position(|l| l.code == *r)) else {
                        let level = reference.cloned().unwrap_or_default();
                        return Err(PlanError::UnknownLevel { place, column: name.clone(), level });
                    };
                    for (i, level) in levels.iter().enumerate() {
                        let Ok(index) = u16::try_from(i) else {
                            return Err(PlanError::TooWide { place, column: name.clone() });
                        };
                        if i == base {
                            references.push(Reference { column: name.clone(), level: level.code.clone() });
                        } else {
                            terms.push(Term {
                                name: format!("{name}={}", level.code),
                                unit: None,
                                source: Source::Level { column: name.clone(), level: index },
                            });
                        }
                    }
                }
            }
        }
        if terms.len() > MAX_COLUMNS {
            let (cells, most) = (terms.len() as u64, MAX_COLUMNS as u64);
            return Err(PlanError::TooManyCells { place, cells, most });
        }
        Ok(Design { outcome, event: event.to_owned(), terms, references })
    }

    /// The dictionary's columns among the terms, in order.
    pub fn columns(&self) -> Vec<String> {
        let mut columns: Vec<String> = Vec::new();
        for term in &self.terms {
            if let Source::Scaled { column, .. } | Source::Level { column, .. } = &term.source
                && columns.last() != Some(column)
            {
                columns.push(column.clone());
            }
        }
        columns
    }

    /// Columns of the model matrix.
    pub fn width(&self) -> usize {
        self.terms.len()
    }

    /// One site's outcome and model matrix.
    pub(crate) fn rows(
        &self,
        dict: &Dictionary,
        frame: &Frame,
        selection: &Selection,
    ) -> Result<Rows, AnalysisError> {
        let outcome = levels(dict, frame, &self.outcome.column)?;
        let mut y = Vec::with_capacity(frame.rows);
        for i in selection.indices() {
            let level = outcome.get(i).copied().flatten().ok_or_else(|| missing(&self.outcome.column))?;
            y.push(level == self.outcome.yes);
        }
        let p = self.width();
        let mut u = vec![1.0; y.len() * p];
        for (j, term) in self.terms.iter().enumerate() {
            let cells = u.iter_mut().skip(j).step_by(p.max(1));
            match &term.source {
                Source::Intercept => {}
                Source::Scaled { column, centre, .. } => {
                    let values = integers(dict, frame, column)?;
                    let (scale, _) = term.scale_and_centre();
                    for (i, cell) in selection.indices().zip(cells) {
                        let x = values.get(i).copied().flatten().ok_or_else(|| missing(column))?;
                        *cell = x.saturating_sub(*centre) as f64 / scale;
                    }
                }
                Source::Level { column, level } => {
                    let values = levels(dict, frame, column)?;
                    for (i, cell) in selection.indices().zip(cells) {
                        let x = values.get(i).copied().flatten().ok_or_else(|| missing(column))?;
                        *cell = f64::from(u8::from(x == *level));
                    }
                }
            }
        }
        Ok(Rows { y, u })
    }
}
