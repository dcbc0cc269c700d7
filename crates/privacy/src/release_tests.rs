//! Claims about guard verdict and release check, over one small study.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::guard::{ReleaseRules, Verdict, Withheld, guard_verdict};
use crate::release::{Release, Run};
use proptest::prelude::*;
use record::Digest;
use record::canon::{self, Value};
use std::collections::BTreeMap;
use study::{
    Analysis, Cell, GuardCell, Layout, Method, Plan, Population, Protection, Recipient, Stage, StageKind,
    Study,
};

fn names(list: &str) -> Vec<String> {
    list.split_whitespace().map(str::to_owned).collect()
}

fn study() -> Study {
    Study {
        id: "aspirin".into(),
        title: "t".into(),
        purpose: "p".into(),
        domain: "health".into(),
        requester: "gb".into(),
        collector: "no".into(),
        aggregators: names("ch se"),
        recipients: vec![Recipient::Member("gb".into())],
        dataset: "ist".into(),
        contributors: names("ar au ch gb it nl no pl se"),
        minimum_contributors: 8,
        dictionary: "d/1".into(),
        until: "2030-01-01".into(),
        protection: Protection { min_cell: 11, min_hidden_sites: 3 },
        population: Population { complete: names("x y"), conditions: Vec::new() },
        analyses: vec![
            Analysis {
                id: "mh".into(),
                title: None,
                method: Method::MantelHaenszel { exposure: "a=y".into(), outcome: "d=y".into() },
            },
            Analysis {
                id: "tab".into(),
                title: None,
                method: Method::Crosstab { by: names("a d"), by_site: false },
            },
        ],
    }
}

fn plan(numbers: usize) -> Plan {
    Plan {
        study: "aspirin".into(),
        study_digest: String::new(),
        dictionary_digest: String::new(),
        earlier: Vec::new(),
        stages: vec![Stage {
            kind: StageKind::Guard,
            layout: Layout { cells: vec![Cell::count("n", 8192); numbers] },
            max_rounds: 1,
        }],
    }
}

fn cells() -> Vec<GuardCell> {
    let table = |label: &str| GuardCell::Table { analysis: 0, label: label.into() };
    vec![
        GuardCell::RowsRead,
        GuardCell::ExcludedMissing { column: "x".into() },
        GuardCell::ExcludedMissing { column: "y".into() },
        GuardCell::Analysed,
        table("yes, yes"),
        table("yes, no"),
        table("no, yes"),
        table("no, no"),
        GuardCell::Class { analysis: 0, label: "event".into() },
        GuardCell::Difference { study: "earlier".into() },
    ]
}

const GOOD: [f64; 10] = [1150.0, 100.0, 50.0, 1000.0, 100.0, 400.0, 90.0, 410.0, 190.0, 0.0];

fn with(index: usize, value: f64) -> [f64; 10] {
    let mut values = GOOD;
    values[index] = value;
    values
}

fn verdict(values: &[f64]) -> Verdict {
    let study = study();
    guard_verdict(&study, &plan(20), &cells(), &study.contributors, values, &ReleaseRules::of(&study))
}

fn map(pairs: &[(&str, Value)]) -> Value {
    Value::Map(pairs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect::<BTreeMap<_, _>>())
}

fn ints(list: &[i64]) -> Value {
    Value::List(list.iter().map(|n| Value::Int(*n)).collect())
}

fn results(counts: &[i64]) -> Vec<Value> {
    vec![
        map(&[
            ("method", Value::Str("mantel-haenszel".into())),
            ("n", Value::Int(1000)),
            ("df", Value::Int(1)),
        ]),
        map(&[("method", Value::Str("crosstab".into())), ("shape", ints(&[2, 2])), ("counts", ints(counts))]),
    ]
}

fn release(guard: &[f64], results: Vec<Value>) -> Result<Release, Withheld> {
    let study = study();
    let run =
        Run { number: 1, plan: Digest::of(b"plan"), contributors: study.contributors.clone(), salt: [7; 16] };
    Release::check(&study, &plan(20), &run, &cells(), guard, results, &ReleaseRules::of(&study))
}

#[test]
fn counts_that_are_none_or_enough_pass() {
    assert_eq!(verdict(&GOOD), Verdict::Pass);
    assert_eq!(verdict(&with(9, 11.0)), Verdict::Pass);
    assert_eq!(verdict(&with(4, 0.0)), Verdict::Pass);
}

#[test]
fn a_population_that_differs_from_an_earlier_one_by_a_few_people_is_withheld() {
    for few in [1.0, 3.0, 10.0] {
        assert_eq!(verdict(&with(9, few)), Verdict::Withheld, "{few}");
    }
}

#[test]
fn a_small_cell_or_class_is_withheld() {
    for index in 4..9 {
        assert_eq!(verdict(&with(index, 10.0)), Verdict::Withheld, "{index}");
    }
}

#[test]
fn a_small_population_is_withheld() {
    let mut small = [0.0; 10];
    small[0] = 10.0;
    small[3] = 10.0;
    let study = study();
    let rules = ReleaseRules { rows_per_number: 0, ..ReleaseRules::of(&study) };
    let of = |values: &[f64]| guard_verdict(&study, &plan(20), &cells(), &study.contributors, values, &rules);
    assert_eq!(of(&small), Verdict::Withheld);
    small[0] = 11.0;
    small[3] = 11.0;
    assert_eq!(of(&small), Verdict::Pass);
}

#[test]
fn sums_that_are_no_counts_are_withheld() {
    for (index, value) in [(0, f64::NAN), (1, -1.0), (3, 1000.5), (0, 1e17), (0, 1151.0), (4, 1001.0)] {
        assert_eq!(verdict(&with(index, value)), Verdict::Withheld, "{index} {value}");
    }
    assert_eq!(verdict(&GOOD[..9]), Verdict::Withheld);
}

#[test]
fn every_failure_says_the_same() {
    let study = study();
    let few_sites =
        guard_verdict(&study, &plan(20), &cells(), &names("gb it no"), &GOOD, &ReleaseRules::of(&study));
    assert_eq!(few_sites, Verdict::Withheld);
    assert_eq!(Withheld.to_string(), "withheld by disclosure control");
    assert_eq!(std::mem::size_of::<Withheld>(), 0, "the refusal has room for an answer");
}

#[test]
fn numbers_opened_by_this_and_earlier_studies_count_against_rows() {
    let study = study();
    let rules = ReleaseRules::of(&study);
    let of = |n, rules: &ReleaseRules| {
        guard_verdict(&study, &plan(n), &cells(), &study.contributors, &GOOD, rules)
    };
    assert_eq!(of(100, &rules), Verdict::Pass);
    assert_eq!(of(101, &rules), Verdict::Withheld);
    assert_eq!(of(20, &ReleaseRules { opened_before: 80, ..rules.clone() }), Verdict::Pass);
    assert_eq!(of(20, &ReleaseRules { opened_before: 81, ..rules.clone() }), Verdict::Withheld);
    assert_eq!(of(20, &ReleaseRules { opened_before: u64::MAX, ..rules }), Verdict::Withheld);
}

#[test]
fn a_regression_of_eight_coefficients_in_twelve_rounds_fits_the_whole_trial() {
    let stage = |kind, cells: usize, max_rounds| Stage {
        kind,
        layout: Layout { cells: vec![Cell::count("n", 8192); cells] },
        max_rounds,
    };
    let mut plan = plan(30);
    plan.stages.push(stage(StageKind::Once, 12, 1));
    plan.stages.push(stage(StageKind::Iterate { analysis: 1 }, 8 * 9 / 2 + 8 + 3, 12));
    assert!(plan.numbers_opened() * 10 <= 15_000, "{}", plan.numbers_opened());
}

#[test]
fn hidden_sites_count_from_the_viewer_who_sees_most() {
    let mut study = study();
    study.minimum_contributors = 1;
    let rules = ReleaseRules::of(&study);
    let of = |list: &str| guard_verdict(&study, &plan(20), &cells(), &names(list), &GOOD, &rules);
    // Hidden from outside: ar au it nl; from `it`: three.
    assert_eq!(of("ar au gb it nl"), Verdict::Pass);
    assert_eq!(of("ar au gb it"), Verdict::Withheld);
    assert_eq!(of("ar au gb it no ch se"), Verdict::Withheld);
    assert_eq!(of("ar au gb it it it"), Verdict::Withheld);
    assert_eq!(of("ar au gb it zz"), Verdict::Withheld);
}

#[test]
fn rules_tighten_a_study_and_never_loosen_it() {
    let study = study();
    let of = |rules: &ReleaseRules, values: &[f64]| {
        guard_verdict(&study, &plan(20), &cells(), &study.contributors, values, rules)
    };
    let loose = ReleaseRules { min_cell: 0, min_hidden_sites: 0, ..ReleaseRules::of(&study) };
    assert_eq!(of(&loose, &with(8, 10.0)), Verdict::Withheld);
    let strict = ReleaseRules { min_cell: 200, ..ReleaseRules::of(&study) };
    assert_eq!(of(&strict, &GOOD), Verdict::Withheld);
}

#[test]
fn a_release_says_how_its_population_came_about() {
    let release = release(&GOOD, results(&[100, 400, 90, 410])).unwrap();
    let document = release.document();
    assert_eq!((document.population.rows_read, document.population.analysed), (Some(1150), 1000));
    let excluded: Vec<_> = document.population.excluded.iter().map(|r| (r.reason.as_str(), r.rows)).collect();
    assert_eq!(excluded, [("excluded: x missing", Some(100)), ("excluded: y missing", Some(50))]);
    assert_eq!(document.hidden_sites, 4);
    let again: crate::Released = canon::from_bytes_limit(release.bytes(), 1 << 20).unwrap();
    assert_eq!(&again, document);
}

#[test]
fn a_small_excluded_count_takes_its_complement_along() {
    let mut values = with(2, 3.0);
    values[0] = 1103.0;
    let population = release(&values, results(&[100, 400, 90, 410])).unwrap().document().population.clone();
    assert_eq!(population.rows_read, Some(1103));
    assert!(population.excluded.iter().all(|r| r.rows.is_none()));
}

#[test]
fn a_small_excluded_count_without_complement_hides_rows_read() {
    let mut values = with(2, 3.0);
    values[0] = 1003.0;
    values[1] = 0.0;
    let population = release(&values, results(&[100, 400, 90, 410])).unwrap().document().population.clone();
    assert_eq!(population.rows_read, None);
    assert_eq!(population.excluded.iter().map(|r| r.rows).collect::<Vec<_>>(), [Some(0), None]);
}

#[test]
fn small_cells_of_a_crosstab_are_hidden() {
    let mut guard = GOOD;
    guard[0] = 1150.0;
    let released = release(&guard, results(&[5, 495, 90, 410])).unwrap();
    let table = &released.document().results[1];
    assert_eq!(table.get("counts").unwrap(), &Value::List(vec![Value::Null; 4]));
    assert!(!String::from_utf8_lossy(released.bytes()).contains("495"));
}

#[test]
fn a_crosstab_that_is_no_table_of_everybody_is_withheld() {
    for bad in [
        results(&[100, 400, 90, 409]),
        results(&[100, 400, 500]),
        results(&[-100, 600, 90, 410]),
        vec![Value::Null, Value::Null],
        results(&[100, 400, 90, 410])[..1].to_vec(),
        vec![Value::Null, map(&[("shape", ints(&[4])), ("counts", Value::Str("100".into()))])],
    ] {
        assert!(release(&GOOD, bad).is_err());
    }
}

#[test]
fn a_small_count_in_any_other_result_withholds_the_output() {
    for (key, value) in
        [("events", Value::Int(3)), ("counts", Value::List(vec![ints(&[400, 3]), ints(&[1, 1])]))]
    {
        let mut results = results(&[100, 400, 90, 410]);
        results[0] = map(&[("inner", map(&[(key, value)]))]);
        assert!(release(&GOOD, results).is_err(), "{key}");
    }
}

proptest! {
    #[test]
    fn no_count_between_one_and_the_minimum_is_ever_in_a_release(
        excluded in (0u32..30, 0u32..30), table in proptest::collection::vec(0u32..60, 4),
    ) {
        let analysed: u32 = table.iter().sum();
        let study = study();
        let cells = [
            GuardCell::RowsRead,
            GuardCell::ExcludedMissing { column: "x".into() },
            GuardCell::ExcludedMissing { column: "y".into() },
            GuardCell::Analysed,
        ];
        let guard = [analysed + excluded.0 + excluded.1, excluded.0, excluded.1, analysed].map(f64::from);
        let counts: Vec<i64> = table.iter().map(|n| i64::from(*n)).collect();
        let mut answers = results(&counts);
        answers[0] = map(&[("n", Value::Int(i64::from(analysed)))]);
        let run = Run { number: 1, plan: Digest::of(b"plan"), contributors: study.contributors.clone(), salt: [7; 16] };
        let rules = ReleaseRules { rows_per_number: 0, ..ReleaseRules::of(&study) };
        if let Ok(release) = Release::check(&study, &plan(4), &run, &cells, &guard, answers, &rules) {
            let document = release.document();
            let shown = document.population.excluded.iter().filter_map(|r| r.rows);
            for n in shown.chain([document.population.analysed]) {
                prop_assert!(n == 0 || n >= 11);
            }
            // What rows read and rows analysed leave is no small count either.
            if let Some(read) = document.population.rows_read {
                let hidden = read - analysed as u64
                    - document.population.excluded.iter().filter_map(|r| r.rows).sum::<u64>();
                prop_assert!(hidden == 0 || hidden >= 11);
            }
        }
    }
}
