//! From a study and its data dictionary to the plan: every round's exact vector, before a row is read.

use crate::PlanError;
use crate::crosstab::Crosstab;
use crate::describe::Describe;
use crate::logistic::Logistic;
use crate::mantel_haenszel::MantelHaenszel;
use crate::select::column_of;
use record::{CanonError, Digest};
use std::collections::BTreeSet;
use study::guard::guard_cells;
use study::{
    Analysis, Cell, Dictionary, EarlierPopulation, Kind, Layout, Method, Plan, Population, Role, Stage,
    StageKind, Study,
};

/// Most entries of one round, all analyses together; more is a plan nobody could read. What a round can carry
/// is for the rounds room to say.
pub const MAX_CELLS: u64 = 65_536;

/// Width of every entry that is not a count, so that few widths and so few proofs are needed.
pub const WIDTH: u8 = 56;

/// Most rows a site for which [`WIDTH`] leaves at least 23 binary places to every entry.
pub const MAX_ROWS: u32 = 1 << 24;

/// The plan: stage 0 the guard, then one round for all analyses that need one sum, then one iteration for each
/// regression. The same study, dictionary and earlier populations give the same plan everywhere.
pub fn plan(study: &Study, dict: &Dictionary, earlier: Vec<EarlierPopulation>) -> Result<Plan, PlanError> {
    check(study, dict, &earlier)?;
    let stages = stages(study, dict, &earlier)?;
    Ok(Plan {
        study: study.id.clone(),
        study_digest: digest("study", study.digest())?,
        dictionary_digest: digest("data dictionary", dict.digest())?,
        earlier,
        stages,
    })
}

/// Most that quantisation can change the sum of a cell over `sites` sites: half a step of `2^-shift` for each.
pub fn stated_error(cell: &Cell, sites: u32) -> f64 {
    f64::from(sites) * 2f64.powi(-i32::from(cell.shift) - 1)
}

/// An analysis as planned.
pub(crate) enum Planned {
    MantelHaenszel(MantelHaenszel),
    Describe(Describe),
    Crosstab(Crosstab),
    Logistic(Logistic),
}

impl Planned {
    pub(crate) fn new(of: &Analysis, study: &Study, dict: &Dictionary) -> Result<Planned, PlanError> {
        let id = &of.id;
        Ok(match &of.method {
            Method::MantelHaenszel { exposure, outcome } => {
                Planned::MantelHaenszel(MantelHaenszel::new(id, exposure, outcome, dict)?)
            }
            Method::Describe { columns } => Planned::Describe(Describe::new(id, columns, dict)?),
            Method::Crosstab { by, by_site } => {
                Planned::Crosstab(Crosstab::new(id, by, *by_site, &study.contributors, dict)?)
            }
            Method::Logistic { formula, event, max_rounds, grid } => {
                Planned::Logistic(Logistic::new(id, formula, event, *max_rounds, *grid, dict)?)
            }
        })
    }

    pub(crate) fn layout(&self, id: &str, max_rows: u32) -> Result<Vec<Cell>, PlanError> {
        match self {
            Planned::MantelHaenszel(m) => Ok(m.layout(id, max_rows)),
            Planned::Describe(m) => m.layout(id, max_rows),
            Planned::Crosstab(m) => Ok(m.layout(id, max_rows)),
            Planned::Logistic(m) => Ok(m.layout(id, max_rows)),
        }
    }
}

/// The stages, in order.
pub(crate) fn stages(
    study: &Study,
    dict: &Dictionary,
    earlier: &[EarlierPopulation],
) -> Result<Vec<Stage>, PlanError> {
    let rows = dict.max_rows;
    let guard = guard_cells(study, dict, earlier);
    let guard = guard.iter().map(|g| Cell::count(g.name(study), rows)).collect();
    let mut stages = vec![Stage { kind: StageKind::Guard, layout: Layout { cells: guard }, max_rounds: 1 }];
    let mut once = Vec::new();
    let mut iterations = Vec::new();
    for (analysis, of) in study.analyses.iter().enumerate() {
        let planned = Planned::new(of, study, dict)?;
        let cells = planned.layout(&of.id, rows)?;
        match planned {
            Planned::Logistic(m) => iterations.push(Stage {
                kind: StageKind::Iterate { analysis },
                layout: Layout { cells },
                max_rounds: m.max_rounds,
            }),
            _ => once.extend(cells),
        }
    }
    if !once.is_empty() {
        stages.push(Stage { kind: StageKind::Once, layout: Layout { cells: once }, max_rounds: 1 });
    }
    stages.extend(iterations);
    for stage in &stages {
        let cells = stage.layout.cells.len() as u64;
        if cells > MAX_CELLS {
            return Err(PlanError::TooManyCells { place: "study".into(), cells, most: MAX_CELLS });
        }
    }
    Ok(stages)
}

/// A cell of width [`WIDTH`] for a real number within `[lo, hi]`, at the finest resolution that the width holds
/// and that a double of that size has.
pub(crate) fn real(name: String, lo: i64, hi: i64) -> Cell {
    let range = hi.abs_diff(lo);
    let whole = u64::BITS - range.leading_zeros();
    let shift = u32::from(WIDTH).saturating_sub(whole).min(48);
    Cell { name, lo, shift: shift as u8, bits: WIDTH }
}

/// A cell for a whole number within `[lo, hi]`, of 32 bits or of [`WIDTH`]; `None` if sums over sites would not
/// stay exact as doubles.
pub(crate) fn whole(name: String, lo: i64, hi: i64) -> Option<Cell> {
    let range = hi.abs_diff(lo);
    let bits = if range < 1 << 32 { 32 } else { WIDTH };
    (range < 1 << 44).then_some(Cell { name, lo, shift: 0, bits })
}

/// How errors name an analysis.
pub(crate) fn place(id: &str) -> String {
    format!("analysis `{id}`")
}

fn digest(what: &'static str, of: Result<Digest, CanonError>) -> Result<String, PlanError> {
    of.map(|d| d.to_string()).map_err(|e| PlanError::Digest { what, why: e.to_string() })
}

/// The columns that an analysis reads.
fn columns_of(of: &Analysis, dict: &Dictionary) -> Result<Vec<String>, PlanError> {
    let place = place(&of.id);
    Ok(match &of.method {
        Method::MantelHaenszel { exposure, outcome } => {
            let m = MantelHaenszel::new(&of.id, exposure, outcome, dict)?;
            vec![m.exposure.column, m.outcome.column]
        }
        Method::Describe { columns } => columns.clone(),
        Method::Crosstab { by, .. } => by.clone(),
        Method::Logistic { formula, .. } => {
            let f = study::formula::Formula::parse(formula)
                .map_err(|why| PlanError::Formula { place, why: why.to_string() })?;
            std::iter::once(f.outcome).chain(f.terms).collect()
        }
    })
}

/// What no layout shows: bounds of the whole, names, and that all analyses share the population (A6).
fn check(study: &Study, dict: &Dictionary, earlier: &[EarlierPopulation]) -> Result<(), PlanError> {
    if dict.max_rows == 0 || dict.max_rows > MAX_ROWS {
        return Err(PlanError::Setting {
            place: format!("data dictionary `{}`", dict.id),
            setting: "max_rows",
            found: u64::from(dict.max_rows),
            expected: "1 to 16777216",
        });
    }
    if study.analyses.is_empty() {
        return Err(PlanError::Empty { place: "analyses".into() });
    }
    check_population("population", &study.population, dict)?;
    let mut studies = BTreeSet::from([study.id.as_str()]);
    for e in earlier {
        let place = format!("earlier study `{}`", e.study);
        check_population(&place, &e.population, dict)?;
        if !studies.insert(&e.study) {
            return Err(PlanError::Twice { place, name: e.study.clone() });
        }
    }
    let mut ids = BTreeSet::new();
    for analysis in &study.analyses {
        let place = place(&analysis.id);
        if !ids.insert(&analysis.id) {
            return Err(PlanError::Twice { place, name: analysis.id.clone() });
        }
        for column in columns_of(analysis, dict)? {
            known(&place, &column, dict)?;
            if !study.population.complete.contains(&column) {
                return Err(PlanError::NotComplete { place, column });
            }
        }
    }
    Ok(())
}

/// The column's type, unless it is unknown or names persons.
fn known<'a>(place: &str, column: &str, dict: &'a Dictionary) -> Result<&'a Kind, PlanError> {
    match column_of(dict, column) {
        None => Err(PlanError::UnknownColumn { place: place.to_owned(), column: column.to_owned() }),
        Some(c) if c.role == Role::Identifier => {
            Err(PlanError::Identifier { place: place.to_owned(), column: column.to_owned() })
        }
        Some(c) => Ok(&c.kind),
    }
}

fn check_population(place: &str, population: &Population, dict: &Dictionary) -> Result<(), PlanError> {
    let mut seen = BTreeSet::new();
    for column in &population.complete {
        known(place, column, dict)?;
        if !seen.insert(column) {
            return Err(PlanError::Twice { place: place.to_owned(), name: column.clone() });
        }
    }
    for condition in &population.conditions {
        let column = &condition.column;
        let wrong =
            |expected| PlanError::WrongKind { place: place.to_owned(), column: column.clone(), expected };
        match known(place, column, dict)? {
            Kind::Integer { .. } if !condition.levels.is_empty() => return Err(wrong("a factor")),
            Kind::Integer { .. } => {}
            Kind::Factor { .. } if condition.min.is_some() || condition.max.is_some() => {
                return Err(wrong("a whole number"));
            }
            Kind::Factor { levels, .. } => {
                for level in &condition.levels {
                    if !levels.iter().any(|l| l.code == *level) {
                        return Err(PlanError::UnknownLevel {
                            place: place.to_owned(),
                            column: column.clone(),
                            level: level.clone(),
                        });
                    }
                }
            }
        }
    }
    Ok(())
}
