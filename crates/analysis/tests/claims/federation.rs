//! A federation without its cryptography: site vectors are checked, encoded, summed and decoded as the rounds
//! do it, and the plan's step is taken at the collector and replayed by a contributor.

use analysis::{AnalysisResult, Data, Failure, Frame, Question, Step, Sums, combine_once, site, step};
use privacy::{Contribution, LocalRules, decode};
use record::Digest;
use std::collections::BTreeMap;
use study::{
    Analysis, Column, Dictionary, Kind, Level, Method, Plan, Population, Protection, Recipient, Role,
    StageKind, Study,
};

/// Sites by party.
pub type Sites = BTreeMap<String, Frame>;

/// What a run opens and what follows from it.
pub struct Outcome {
    pub guard: Vec<f64>,
    pub results: Vec<AnalysisResult>,
}

/// One round over all sites.
pub fn round(
    study: &Study,
    dict: &Dictionary,
    plan: &Plan,
    stage: usize,
    question: &Question,
    sites: &Sites,
) -> Sums {
    let layout = &plan.stages[stage].layout;
    let mut sums = vec![0u128; layout.cells.len()];
    for (party, frame) in sites {
        let vector = site(party, study, dict, plan, stage, question, frame).unwrap();
        let rules = LocalRules {
            rows_read: vector.rows_read,
            max_rows: dict.max_rows,
            effective_units: vector.effective_units,
            ..LocalRules::default()
        };
        let checked = Contribution::check(layout, &vector.values, Digest::of(b"plan"), &rules).unwrap();
        for (sum, k) in sums.iter_mut().zip(checked.encoded()) {
            *sum += u128::from(*k);
        }
    }
    let contributors = sites.len() as u32;
    Sums { contributors, values: decode(layout, &sums, contributors).unwrap() }
}

/// All stages of a plan.
pub fn run(study: &Study, dict: &Dictionary, plan: &Plan, sites: &Sites) -> Result<Outcome, Failure> {
    let mut guard = Vec::new();
    let mut results = Vec::new();
    for (i, stage) in plan.stages.iter().enumerate() {
        let mut question = Question::start(study, dict, plan, i).unwrap();
        match stage.kind {
            StageKind::Guard => guard = round(study, dict, plan, i, &question, sites).values,
            StageKind::Once => {
                let sums = round(study, dict, plan, i, &question, sites);
                results.extend(combine_once(study, dict, plan, &sums)?);
            }
            StageKind::Iterate { .. } => loop {
                let sums = round(study, dict, plan, i, &question, sites);
                let at_collector = step(study, dict, plan, i, &question, &sums);
                assert_eq!(at_collector, step(study, dict, plan, i, &question.clone(), &sums.clone()));
                match at_collector {
                    Step::Ask(next) => question = next,
                    Step::Done(result) => {
                        results.push(*result);
                        break;
                    }
                    Step::Failed(failure) => return Err(failure),
                }
            },
        }
    }
    results.sort_by_key(|r| r.index);
    Ok(Outcome { guard, results })
}

pub fn integer(name: &str, unit: &str, min: i64, max: i64) -> Column {
    Column {
        name: name.into(),
        label: name.into(),
        unit: Some(unit.into()),
        role: Role::QuasiIdentifier,
        kind: Kind::Integer { min, max },
    }
}

pub fn factor(name: &str, levels: &[&str]) -> Column {
    let levels = levels.iter().map(|l| Level { code: (*l).into(), label: (*l).into() }).collect();
    Column {
        name: name.into(),
        label: name.into(),
        unit: None,
        role: Role::Sensitive,
        kind: Kind::Factor { levels, reference: None },
    }
}

/// The columns of the trial that the claims use, and one that names persons.
pub fn dictionary(max_rows: u32) -> Dictionary {
    let mut name = integer("number", "", 0, 99_999);
    name.role = Role::Identifier;
    Dictionary {
        id: "claims/1".into(),
        title: "Claims".into(),
        max_rows,
        unit: "patient".into(),
        columns: vec![
            integer("age", "years", 0, 120),
            factor("sex", &["female", "male"]),
            integer("sbp", "mm Hg", 50, 300),
            integer("delay", "h", 0, 72),
            factor("consciousness", &["alert", "drowsy", "unconscious"]),
            factor("aspirin", &["no", "yes"]),
            factor("death14", &["no", "yes"]),
            factor("recurrence14", &["no", "yes"]),
            factor("dead_dep_6m", &["no", "yes"]),
            name,
        ],
    }
}

pub fn analysis(id: &str, method: Method) -> Analysis {
    Analysis { id: id.into(), title: None, method }
}

pub fn mantel_haenszel(id: &str, exposure: &str, outcome: &str) -> Analysis {
    analysis(id, Method::MantelHaenszel { exposure: exposure.into(), outcome: outcome.into() })
}

pub fn logistic(id: &str, formula: &str, max_rounds: u32) -> Analysis {
    analysis(id, Method::Logistic { formula: formula.into(), event: "yes".into(), max_rounds, grid: 40 })
}

pub fn describe(id: &str, columns: &[&str]) -> Analysis {
    analysis(id, Method::Describe { columns: columns.iter().map(|c| (*c).into()).collect() })
}

pub fn crosstab(id: &str, by: &[&str], by_site: bool) -> Analysis {
    analysis(id, Method::Crosstab { by: by.iter().map(|c| (*c).into()).collect(), by_site })
}

/// A study over these sites; complete on the columns named.
pub fn study(id: &str, sites: &[String], complete: &[&str], analyses: Vec<Analysis>) -> Study {
    Study {
        id: id.into(),
        title: "Claims".into(),
        purpose: "stroke-research".into(),
        domain: "health".into(),
        requester: "requester".into(),
        collector: "collector".into(),
        aggregators: vec!["left".into(), "right".into()],
        recipients: vec![Recipient::Member("requester".into())],
        dataset: "ist".into(),
        contributors: sites.to_vec(),
        minimum_contributors: 1,
        dictionary: "claims/1".into(),
        until: "2099-12-31".into(),
        protection: Protection { min_cell: 11, min_hidden_sites: 3 },
        population: Population {
            complete: complete.iter().map(|c| (*c).into()).collect(),
            conditions: vec![],
        },
        analyses,
    }
}

/// One row of generated or real data.
#[derive(Clone, Debug)]
pub struct Row {
    pub age: Option<i64>,
    pub sex: Option<u16>,
    pub sbp: Option<i64>,
    pub delay: Option<i64>,
    pub consciousness: Option<u16>,
    pub aspirin: Option<u16>,
    pub death14: Option<u16>,
    pub recurrence14: Option<u16>,
    pub dead_dep_6m: Option<u16>,
}

pub fn frame(rows: &[Row]) -> Frame {
    let integers = |f: fn(&Row) -> Option<i64>| Data::Integer(rows.iter().map(f).collect());
    let factors = |f: fn(&Row) -> Option<u16>| Data::Factor(rows.iter().map(f).collect());
    let columns = [
        ("age", integers(|r| r.age)),
        ("sex", factors(|r| r.sex)),
        ("sbp", integers(|r| r.sbp)),
        ("delay", integers(|r| r.delay)),
        ("consciousness", factors(|r| r.consciousness)),
        ("aspirin", factors(|r| r.aspirin)),
        ("death14", factors(|r| r.death14)),
        ("recurrence14", factors(|r| r.recurrence14)),
        ("dead_dep_6m", factors(|r| r.dead_dep_6m)),
    ];
    Frame { rows: rows.len(), columns: columns.into_iter().map(|(n, d)| (n.to_owned(), d)).collect() }
}

pub fn close(found: f64, expected: f64, relative: f64, what: &str) {
    let error = (found / expected - 1.0).abs();
    assert!(error <= relative, "{what}: found {found:e}, expected {expected:e}, relative error {error:.1e}");
}
