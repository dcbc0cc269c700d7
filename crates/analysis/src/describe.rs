//! n, mean and standard deviation of whole-number columns, exact.
//!
//! The sums are of whole numbers about the middle of the column's domain, so that they are exact, small, and
//! the variance loses nothing to cancellation.

use crate::number::count;
use crate::plan::{place, whole};
use crate::result::{Description, Table};
use crate::select::{column_of, integers, missing};
use crate::{AnalysisError, Failure, Frame, Number, PlanError, Selection};
use study::{Cell, Dictionary, Kind};

/// The analysis as planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Describe {
    columns: Vec<Described>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Described {
    column: String,
    label: String,
    unit: Option<String>,
    /// Middle of the domain.
    centre: i64,
    /// Greatest distance from it.
    reach: i64,
}

/// The middle of a domain and the greatest distance of a value from it.
pub(crate) fn centre_and_reach(min: i64, max: i64) -> Option<(i64, i64)> {
    let (min, max) = (i128::from(min), i128::from(max));
    let centre = (min + max).div_euclid(2);
    let reach = (max - centre).max(centre - min);
    (max >= min).then_some(())?;
    Some((i64::try_from(centre).ok()?, i64::try_from(reach).ok()?))
}

impl Describe {
    /// Reads the study's settings.
    pub fn new(id: &str, columns: &[String], dict: &Dictionary) -> Result<Describe, PlanError> {
        let place = place(id);
        if columns.is_empty() {
            return Err(PlanError::Empty { place });
        }
        let mut out: Vec<Described> = Vec::with_capacity(columns.len());
        for name in columns {
            if out.iter().any(|d| d.column == *name) {
                return Err(PlanError::Twice { place, name: name.clone() });
            }
            let Some(column) = column_of(dict, name) else {
                return Err(PlanError::UnknownColumn { place, column: name.clone() });
            };
            let Kind::Integer { min, max } = column.kind else {
                return Err(PlanError::WrongKind { place, column: name.clone(), expected: "a whole number" });
            };
            let Some((centre, reach)) = centre_and_reach(min, max) else {
                return Err(PlanError::TooWide { place, column: name.clone() });
            };
            out.push(Described {
                column: name.clone(),
                label: column.label.clone(),
                unit: column.unit.clone(),
                centre,
                reach,
            });
        }
        Ok(Describe { columns: out })
    }

    /// What leaves a site: n, then for each column the sum and the sum of squares about the middle `c` of its
    /// domain, all whole numbers.
    pub fn layout(&self, id: &str, max_rows: u32) -> Result<Vec<Cell>, PlanError> {
        let mut cells = vec![Cell::count(format!("{id}: rows"), max_rows)];
        let rows = i64::from(max_rows);
        for Described { column, centre, reach, .. } in &self.columns {
            let sum = reach.checked_mul(rows);
            let squares = sum.and_then(|s| s.checked_mul(*reach));
            let (Some(sum), Some(squares)) = (sum, squares) else {
                return Err(PlanError::TooWide { place: place(id), column: column.clone() });
            };
            let about = |what: &str| format!("{id}: {what} of {column} - {centre}");
            for cell in [whole(about("sum"), -sum, sum), whole(about("sum of squares"), 0, squares)] {
                let cell =
                    cell.ok_or_else(|| PlanError::TooWide { place: place(id), column: column.clone() })?;
                cells.push(cell);
            }
        }
        Ok(cells)
    }

    /// One site's sums.
    pub fn site(
        &self,
        dict: &Dictionary,
        frame: &Frame,
        rows: &Selection,
    ) -> Result<Vec<f64>, AnalysisError> {
        let mut out = vec![rows.analysed as f64];
        for Described { column, centre, .. } in &self.columns {
            let values = integers(dict, frame, column)?;
            let (mut sum, mut squares) = (0i64, 0i64);
            for i in rows.indices() {
                let value = values.get(i).copied().flatten().ok_or_else(|| missing(column))?;
                // Within bounds, so within what the layout was checked to hold.
                let u = value.saturating_sub(*centre);
                sum = sum.saturating_add(u);
                squares = squares.saturating_add(u.saturating_mul(u));
            }
            out.extend([sum as f64, squares as f64]);
        }
        Ok(out)
    }

    /// The sums' result: mean `c + U/n` and variance `(n V - U^2) / (n (n - 1))`, `U` and `V` the sums of
    /// `x - c` and of its square; the numerator is a whole number and exact.
    pub fn combine(&self, sums: &[f64]) -> Result<Table, Failure> {
        let Some((n, rest)) = sums.split_first() else {
            return Err(Failure::Malformed);
        };
        let n = count(*n)?;
        if rest.len() != 2 * self.columns.len() {
            return Err(Failure::Malformed);
        }
        if n < 2 {
            return Err(Failure::Empty);
        }
        let mut columns = Vec::with_capacity(self.columns.len());
        for (of, pair) in self.columns.iter().zip(rest.chunks_exact(2)) {
            let &[sum, squares] = pair else {
                return Err(Failure::Malformed);
            };
            let (u, v) = (count(sum.abs())? as i128, count(squares)? as i128);
            let numerator = i128::from(n).checked_mul(v).and_then(|nv| nv.checked_sub(u.checked_mul(u)?));
            let numerator = numerator.filter(|x| *x >= 0).ok_or(Failure::Malformed)?;
            let n_f = n as f64;
            columns.push(Description {
                column: of.column.clone(),
                label: of.label.clone(),
                unit: of.unit.clone(),
                n,
                mean: Number::new((of.centre as f64 * n_f + sum.round()) / n_f)?,
                sd: Number::new((numerator as f64 / (n_f * (n_f - 1.0))).sqrt())?,
            });
        }
        Ok(Table::Describe { columns })
    }
}
