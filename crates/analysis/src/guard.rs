//! The guard's site half: one count for each [`study::GuardCell`], in its order.
//!
//! What the counts mean and when they withhold an output is for the privacy room.

use crate::plan::Planned;
use crate::select::{levels, missing};
use crate::{AnalysisError, Frame, Selection, select};
use std::collections::BTreeMap;
use study::guard::guard_cells;
use study::{Dictionary, EarlierPopulation, GuardCell, Kind, Study};

/// One site's guard counts.
pub(crate) fn site(
    study: &Study,
    dict: &Dictionary,
    earlier: &[EarlierPopulation],
    frame: &Frame,
    own: &Selection,
) -> Result<Vec<f64>, AnalysisError> {
    let mut selections = BTreeMap::from([(study.id.as_str(), own.clone())]);
    for e in earlier {
        selections.insert(&e.study, select(&e.population, dict, frame)?);
    }
    let rows_of = |study: &str| selections.get(study).map(|s| s.rows.as_slice()).unwrap_or_default();
    let within = within_analyses(study, dict, frame, own)?;
    let mut counts = Vec::new();
    for cell in guard_cells(study, dict, earlier) {
        let n = match &cell {
            GuardCell::RowsRead => frame.rows as u64,
            GuardCell::ExcludedConditions => own.excluded_conditions,
            GuardCell::ExcludedMissing { column } => study
                .population
                .complete
                .iter()
                .zip(&own.excluded_missing)
                .find_map(|(c, n)| (c == column).then_some(*n))
                .unwrap_or(0),
            GuardCell::Analysed => own.analysed,
            GuardCell::Table { analysis, label } | GuardCell::Class { analysis, label } => {
                *within.get(&(*analysis, label.clone())).ok_or(AnalysisError::NotThePlan { stage: 0 })?
            }
            GuardCell::Difference { study } => {
                own.rows.iter().zip(rows_of(study)).filter(|(a, b)| a != b).count() as u64
            }
            GuardCell::Combination { whole, parts: [a, b] } => {
                let triples = rows_of(whole).iter().zip(rows_of(a)).zip(rows_of(b));
                let left =
                    |((w, a), b): &((&bool, &bool), &bool)| i8::from(**w) != i8::from(**a) + i8::from(**b);
                triples.filter(left).count() as u64
            }
        };
        counts.push(n as f64);
    }
    Ok(counts)
}

/// Counts of the cells and classes of the analyses, by index and label.
fn within_analyses(
    study: &Study,
    dict: &Dictionary,
    frame: &Frame,
    rows: &Selection,
) -> Result<BTreeMap<(usize, String), u64>, AnalysisError> {
    let mut counts = BTreeMap::new();
    for (i, analysis) in study.analyses.iter().enumerate() {
        let mut add = |label: String, n: u64| *counts.entry((i, label)).or_insert(0) += n;
        match Planned::new(analysis, study, dict)? {
            Planned::MantelHaenszel(m) => {
                let table = m.site(dict, frame, rows)?;
                let labels =
                    m.exposure.labels.iter().flat_map(|r| m.outcome.labels.iter().map(move |c| (r, c)));
                for ((row, column), n) in labels.zip(table) {
                    add(format!("{row}, {column}"), n as u64);
                }
            }
            Planned::Logistic(m) => {
                let outcome = &m.design.outcome;
                let y = levels(dict, frame, &outcome.column)?;
                let class = |row: usize| -> Result<&String, AnalysisError> {
                    let level = y.get(row).copied().flatten().ok_or_else(|| missing(&outcome.column))?;
                    let [yes, no] = &outcome.labels;
                    Ok(if level == outcome.yes { yes } else { no })
                };
                outcome.labels.iter().for_each(|l| add(l.clone(), 0));
                for row in rows.indices() {
                    add(class(row)?.clone(), 1);
                }
                for name in m.design.columns() {
                    let Some(Kind::Factor { levels: of, .. }) = dict.column(&name).map(|c| &c.kind) else {
                        continue;
                    };
                    let values = levels(dict, frame, &name)?;
                    for level in of {
                        let label = format!("{name}={}", level.code);
                        outcome.labels.iter().for_each(|l| add(format!("{label}, {l}"), 0));
                        add(label, 0);
                    }
                    for row in rows.indices() {
                        let code = values.get(row).copied().flatten().and_then(|v| of.get(usize::from(v)));
                        let label = format!("{name}={}", code.ok_or_else(|| missing(&name))?.code);
                        add(format!("{label}, {}", class(row)?), 1);
                        add(label, 1);
                    }
                }
            }
            Planned::Describe(_) | Planned::Crosstab(_) => {}
        }
    }
    Ok(counts)
}
