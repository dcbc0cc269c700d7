//! Counts by the levels of factors; whole numbers count by single value.
//!
//! Small counts are withheld, with complements, by [`privacy::Release::check`], which reads `shape` and `counts`
//! of the result. This room lays the table out and names its cells.

use crate::number::count;
use crate::plan::{MAX_CELLS, place};
use crate::result::Table;
use crate::select::{column_of, integers, levels, missing};
use crate::{AnalysisError, Data, Failure, Frame, PlanError, Selection};
use study::{Cell, Dictionary, Kind};

/// The analysis as planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crosstab {
    axes: Vec<Axis>,
    /// The contributors in order if the table is split by site.
    sites: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Axis {
    column: String,
    labels: Vec<String>,
    /// For whole numbers, the value of the first label.
    first: i64,
}

impl Crosstab {
    /// Reads the study's settings; `contributors` matter only if the table is split by site.
    pub fn new(
        id: &str,
        by: &[String],
        by_site: bool,
        contributors: &[String],
        dict: &Dictionary,
    ) -> Result<Crosstab, PlanError> {
        let place = place(id);
        if by.is_empty() {
            return Err(PlanError::Empty { place });
        }
        let sites = by_site.then(|| {
            let mut sites = contributors.to_vec();
            sites.sort();
            sites.dedup();
            sites
        });
        let mut axes: Vec<Axis> = Vec::with_capacity(by.len());
        let mut cells = sites.as_ref().map_or(1, |s| s.len() as u64);
        for name in by {
            if axes.iter().any(|a| a.column == *name) {
                return Err(PlanError::Twice { place, name: name.clone() });
            }
            let Some(column) = column_of(dict, name) else {
                return Err(PlanError::UnknownColumn { place, column: name.clone() });
            };
            let size = match &column.kind {
                Kind::Integer { min, max } => {
                    if max < min {
                        0
                    } else {
                        max.abs_diff(*min).saturating_add(1)
                    }
                }
                Kind::Factor { levels, .. } => levels.len() as u64,
            };
            cells = cells.saturating_mul(size);
            if cells > MAX_CELLS {
                return Err(PlanError::TooManyCells { place, cells, most: MAX_CELLS });
            }
            axes.push(match &column.kind {
                Kind::Integer { min, max } => Axis {
                    column: name.clone(),
                    labels: (*min..=*max).map(|v| v.to_string()).collect(),
                    first: *min,
                },
                Kind::Factor { levels, .. } => Axis {
                    column: name.clone(),
                    labels: levels.iter().map(|l| l.code.clone()).collect(),
                    first: 0,
                },
            });
        }
        if cells == 0 {
            return Err(PlanError::Empty { place });
        }
        Ok(Crosstab { axes, sites })
    }

    /// Cells of one site's part of the table.
    fn block(&self) -> usize {
        self.axes.iter().map(|a| a.labels.len()).product()
    }

    /// The labels of a cell of a block, by position.
    fn names(&self, mut cell: usize) -> Vec<String> {
        let mut names = Vec::with_capacity(self.axes.len() + 1);
        for axis in self.axes.iter().rev() {
            let size = axis.labels.len().max(1);
            names.extend(axis.labels.get(cell % size).cloned());
            cell /= size;
        }
        names.reverse();
        names
    }

    /// All cells in order, each with its site if there is one.
    fn all(&self) -> Vec<(Option<&str>, Vec<String>)> {
        let block = self.block();
        match &self.sites {
            None => (0..block).map(|c| (None, self.names(c))).collect(),
            Some(sites) => sites
                .iter()
                .flat_map(|s| (0..block).map(move |c| (Some(s.as_str()), self.names(c))))
                .collect(),
        }
    }

    /// The cells that are published for this site alone: its own block, if the table is split by site.
    pub fn own_cells(&self, party: &str) -> std::ops::Range<usize> {
        let own = self.sites.as_ref().and_then(|sites| sites.iter().position(|s| s == party));
        own.map_or(0..0, |i| i * self.block()..(i + 1) * self.block())
    }

    /// What leaves a site: one count a cell, the last column varying fastest. If the table is split by site,
    /// every site sends all blocks and fills its own.
    pub fn layout(&self, id: &str, max_rows: u32) -> Vec<Cell> {
        let name = |(site, levels): (Option<&str>, Vec<String>)| {
            let words: Vec<String> =
                self.axes.iter().zip(&levels).map(|(a, l)| format!("{}={l}", a.column)).collect();
            let site = site.map(|s| format!("{s}: ")).unwrap_or_default();
            format!("{id}: {site}{}: rows", words.join(", "))
        };
        self.all().into_iter().map(|cell| Cell::count(name(cell), max_rows)).collect()
    }

    /// One site's counts.
    pub fn site(
        &self,
        party: &str,
        dict: &Dictionary,
        frame: &Frame,
        rows: &Selection,
    ) -> Result<Vec<f64>, AnalysisError> {
        let block = self.block();
        let (blocks, own) = match &self.sites {
            None => (1, 0),
            Some(sites) => {
                let own = sites.iter().position(|s| s == party);
                (sites.len(), own.ok_or_else(|| AnalysisError::NotContributor { party: party.to_owned() })?)
            }
        };
        let mut position = vec![0usize; frame.rows];
        for axis in &self.axes {
            let name = &axis.column;
            let at = |row: usize| -> Result<usize, AnalysisError> {
                let index = match frame.columns.get(name) {
                    Some(Data::Integer(v)) => v.get(row).copied().flatten().map(|v| v.abs_diff(axis.first)),
                    Some(Data::Factor(v)) => v.get(row).copied().flatten().map(u64::from),
                    None => None,
                };
                index.and_then(|i| usize::try_from(i).ok()).ok_or_else(|| missing(name))
            };
            // The column against its dictionary entry, once.
            match column_of(dict, name).map(|c| &c.kind) {
                Some(Kind::Integer { .. }) => drop(integers(dict, frame, name)?),
                _ => drop(levels(dict, frame, name)?),
            }
            for i in rows.indices() {
                if let Some(p) = position.get_mut(i) {
                    *p = *p * axis.labels.len() + at(i)?;
                }
            }
        }
        let mut counts = vec![0u64; blocks * block];
        for i in rows.indices() {
            let cell = position.get(i).and_then(|p| counts.get_mut(own * block + p));
            *cell.ok_or_else(|| missing("table"))? += 1;
        }
        Ok(counts.into_iter().map(|n| n as f64).collect())
    }

    /// The sums' result, every count in it: the release check withholds.
    pub fn combine(&self, sums: &[f64]) -> Result<Table, Failure> {
        let sites = self.sites.as_ref();
        if sums.len() != self.block() * sites.map_or(1, Vec::len) {
            return Err(Failure::Malformed);
        }
        let counts = sums.iter().map(|x| count(*x).map(Some)).collect::<Result<_, Failure>>()?;
        let site = sites.map(|s| ("site".to_owned(), s.clone())).into_iter();
        let axes = self.axes.iter().map(|a| (a.column.clone(), a.labels.clone()));
        let (by, levels): (Vec<String>, Vec<Vec<String>>) = site.chain(axes).unzip();
        Ok(Table::Crosstab { by, shape: levels.iter().map(Vec::len).collect(), levels, counts })
    }
}
