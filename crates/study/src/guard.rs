//! The guard: the counts that the release check reads before anything else is opened (A6, A7).
//!
//! One typed list tells the analysis room what to count and the privacy room what the counts mean, so that
//! neither reads the other's words. Order of the list is order of the guard stage's cells.

use crate::formula::Formula;
use crate::{Analysis, Dictionary, EarlierPopulation, Kind, Method, Population, Study};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One count of rows in the guard stage, pooled over the contributing sites.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "guard", rename_all = "kebab-case", deny_unknown_fields)]
pub enum GuardCell {
    /// Rows of the dataset.
    RowsRead,
    /// Rows that do not meet the population's conditions.
    ExcludedConditions,
    /// Rows that meet the conditions and lack this column, and no column before it in `complete`.
    ExcludedMissing {
        /// The column.
        column: String,
    },
    /// Rows analysed: the population.
    Analysed,
    /// A cell of a table that an analysis gives away: a Mantel-Haenszel two by two table, or outcome by level
    /// in a model of factors alone.
    Table {
        /// Index of the analysis in the study.
        analysis: usize,
        /// The cell in words.
        label: String,
    },
    /// A class of a regression: event, non-event, or a level of a factor among its terms.
    Class {
        /// Index of the analysis in the study.
        analysis: usize,
        /// The class in words.
        label: String,
    },
    /// Rows that are in exactly one of this population and an earlier one.
    Difference {
        /// The earlier study.
        study: String,
    },
    /// Rows that do not cancel when two populations' sums are taken from a third's: those for which
    /// `[in whole] - [in part 1] - [in part 2]` is not zero. One of the three is this study's own. Together
    /// with the pairs of `Difference` these are all combinations of three sums that can cancel all but a few
    /// rows: coefficients `(a, b, c)`, none zero, make two of the sums `a+b`, `a+c`, `b+c` zero only as
    /// `(1, -1, -1)` in some order, and where only `a+b+c` is zero a pair differs by as few rows.
    Combination {
        /// The study whose sum is reduced.
        whole: String,
        /// The two studies whose sums are subtracted.
        parts: [String; 2],
    },
}

/// What the release check asks of a guard count, `k` being the study's `min_cell`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardRule {
    /// Shown as it is: rows read.
    Shown,
    /// Shown if zero or at least `k`, else hidden together with a complement; never withholds the output.
    Suppressible,
    /// At least `k`, or the whole output is withheld.
    Enough,
    /// Zero or at least `k`, or the whole output is withheld.
    NoneOrEnough,
}

impl GuardCell {
    /// What the release check asks of it.
    pub fn rule(&self) -> GuardRule {
        match self {
            GuardCell::RowsRead => GuardRule::Shown,
            GuardCell::ExcludedConditions | GuardCell::ExcludedMissing { .. } => GuardRule::Suppressible,
            GuardCell::Analysed => GuardRule::Enough,
            GuardCell::Table { .. }
            | GuardCell::Class { .. }
            | GuardCell::Difference { .. }
            | GuardCell::Combination { .. } => GuardRule::NoneOrEnough,
        }
    }

    /// The name of its cell in the layout, in words that a steward reads.
    pub fn name(&self, study: &Study) -> String {
        let id = |i: &usize| study.analyses.get(*i).map_or("?", |a| a.id.as_str()).to_owned();
        match self {
            GuardCell::RowsRead => "rows read".into(),
            GuardCell::ExcludedConditions => "excluded: conditions not met".into(),
            GuardCell::ExcludedMissing { column } => format!("excluded: {column} missing"),
            GuardCell::Analysed => "rows analysed".into(),
            GuardCell::Table { analysis, label } | GuardCell::Class { analysis, label } => {
                format!("{}: {label}: rows", id(analysis))
            }
            GuardCell::Difference { study } => {
                format!("rows in this population or that of {study}, not both")
            }
            GuardCell::Combination { whole, parts: [a, b] } => {
                format!("rows left in {whole} less {a} less {b}")
            }
        }
    }
}

/// The guard cells of a study, in the order of the guard stage. Names that the dictionary lacks yield no cell:
/// such a study has no plan.
pub fn guard_cells(study: &Study, dict: &Dictionary, earlier: &[EarlierPopulation]) -> Vec<GuardCell> {
    let mut cells = vec![GuardCell::RowsRead];
    if !study.population.conditions.is_empty() {
        cells.push(GuardCell::ExcludedConditions);
    }
    for column in &study.population.complete {
        cells.push(GuardCell::ExcludedMissing { column: column.clone() });
    }
    cells.push(GuardCell::Analysed);
    for (i, analysis) in study.analyses.iter().enumerate() {
        cells.extend(of_analysis(i, analysis, dict));
    }
    cells.extend(earlier.iter().map(|e| GuardCell::Difference { study: e.study.clone() }));
    for (i, a) in earlier.iter().enumerate() {
        for b in earlier.iter().skip(i + 1) {
            let own = (&study.id, &study.population);
            let (a, b) = ((&a.study, &a.population), (&b.study, &b.population));
            if same_rows(own.1, a.1) || same_rows(own.1, b.1) || same_rows(a.1, b.1) {
                continue; // a triple with two equal populations is a pair
            }
            for (whole, x, y) in [(own, a, b), (a, own, b), (b, own, a)] {
                cells.push(GuardCell::Combination {
                    whole: whole.0.clone(),
                    parts: [x.0.clone(), y.0.clone()],
                });
            }
        }
    }
    cells
}

/// Whether two populations are the same by their words: order and repetition do not matter.
pub fn same_rows(a: &Population, b: &Population) -> bool {
    let complete = |p: &Population| p.complete.iter().cloned().collect::<BTreeSet<_>>();
    let conditions = |p: &Population| {
        p.conditions
            .iter()
            .map(|c| (c.column.clone(), c.levels.iter().cloned().collect::<BTreeSet<_>>(), c.min, c.max))
            .collect::<BTreeSet<_>>()
    };
    complete(a) == complete(b) && conditions(a) == conditions(b)
}

/// `column=level` as its two names.
pub fn column_level(text: &str) -> Option<(&str, &str)> {
    let (column, level) = text.split_once('=')?;
    let (column, level) = (column.trim(), level.trim());
    (!column.is_empty() && !level.is_empty()).then_some((column, level))
}

/// The words for `column=level` holding and for it not holding: the other level where there are two.
pub fn yes_no_labels(dict: &Dictionary, column: &str, level: &str) -> Option<[String; 2]> {
    let levels = factor_levels(dict, column)?;
    if !levels.contains(&level) {
        return None;
    }
    let others: Vec<&&str> = levels.iter().filter(|l| **l != level).collect();
    let no = match others.as_slice() {
        [one] => format!("{column}={one}"),
        _ => format!("{column} not {level}"),
    };
    Some([format!("{column}={level}"), no])
}

fn factor_levels<'a>(dict: &'a Dictionary, column: &str) -> Option<Vec<&'a str>> {
    match &dict.columns.iter().find(|c| c.name == column)?.kind {
        Kind::Factor { levels, .. } => Some(levels.iter().map(|l| l.code.as_str()).collect()),
        Kind::Integer { .. } => None,
    }
}

fn of_analysis(analysis: usize, of: &Analysis, dict: &Dictionary) -> Vec<GuardCell> {
    let mut cells = Vec::new();
    match &of.method {
        Method::MantelHaenszel { exposure, outcome } => {
            let words = |text: &str| column_level(text).and_then(|(c, l)| yes_no_labels(dict, c, l));
            if let (Some(rows), Some(columns)) = (words(exposure), words(outcome)) {
                for row in &rows {
                    for column in &columns {
                        cells.push(GuardCell::Table { analysis, label: format!("{row}, {column}") });
                    }
                }
            }
        }
        Method::Logistic { formula, event, .. } => {
            // A faulty formula has no plan, so it needs no guard either.
            let Ok(Formula { outcome, terms }) = Formula::parse(formula) else {
                return cells;
            };
            let Some(classes) = yes_no_labels(dict, &outcome, event) else {
                return cells;
            };
            cells.extend(classes.iter().map(|label| GuardCell::Class { analysis, label: label.clone() }));
            let factors: Vec<(&str, Vec<&str>)> =
                terms.iter().filter_map(|t| Some((t.as_str(), factor_levels(dict, t)?))).collect();
            for (column, levels) in &factors {
                for level in levels {
                    cells.push(GuardCell::Class { analysis, label: format!("{column}={level}") });
                }
            }
            if factors.len() == terms.len() {
                // Factors alone: outcome by level can be computed from the coefficients.
                for (column, levels) in &factors {
                    for level in levels {
                        for class in &classes {
                            let label = format!("{column}={level}, {class}");
                            cells.push(GuardCell::Table { analysis, label });
                        }
                    }
                }
            }
        }
        Method::Describe { .. } | Method::Crosstab { .. } => {
            // Describe gives n, which is `Analysed`; a crosstab's small cells are suppressed in its own table.
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const DICTIONARY: &str = include_str!("../../../studies/ist/dictionary.toml");
    const ASPIRIN: &str = include_str!("../../../studies/ist/aspirin.toml");

    #[test]
    fn every_guard_cell_has_a_name_of_its_own() {
        let dict = Dictionary::parse("dictionary.toml", DICTIONARY).unwrap();
        let study = Study::parse("aspirin.toml", ASPIRIN).unwrap();
        let population = |complete: &str| Population { complete: vec![complete.into()], conditions: vec![] };
        let earlier = [("first", "age"), ("second", "sex")].map(|(study, complete)| EarlierPopulation {
            study: study.into(),
            population: population(complete),
        });
        let cells = guard_cells(&study, &dict, &earlier);
        let names: BTreeSet<String> = cells.iter().map(|c| c.name(&study)).collect();
        assert_eq!(names.len(), cells.len());
        assert_eq!(cells.first().unwrap().rule(), GuardRule::Shown);
        let count = |rule| cells.iter().filter(|c| c.rule() == rule).count();
        assert_eq!(count(GuardRule::Suppressible), study.population.complete.len());
        assert_eq!(count(GuardRule::Enough), 1);
        // Four cells of the table; two classes and seven levels of the regression; two pairs, three triples.
        assert_eq!(count(GuardRule::NoneOrEnough), 4 + 2 + 7 + 2 + 3);
    }

    #[test]
    fn populations_are_compared_as_sets() {
        let words = |complete: &[&str]| Population {
            complete: complete.iter().map(|c| (*c).into()).collect(),
            conditions: vec![],
        };
        assert!(same_rows(&words(&["a", "b"]), &words(&["b", "a", "a"])));
        assert!(!same_rows(&words(&["a"]), &words(&["a", "b"])));
    }
}
