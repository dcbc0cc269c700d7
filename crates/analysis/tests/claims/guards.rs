//! The guard counts, against counts made the long way.

use crate::federation::*;
use crate::splits::{rows_and_sites, split};
use analysis::{Question, plan};
use proptest::prelude::*;
use study::{Condition, EarlierPopulation, GuardCell, Population};

fn at_least(age: i64) -> Population {
    let condition = Condition { column: "age".into(), levels: vec![], min: Some(age), max: None };
    Population { complete: vec!["dead_dep_6m".into()], conditions: vec![condition] }
}

fn everybody() -> Population {
    Population { complete: vec!["aspirin".into()], conditions: vec![] }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn guard_counts_are_those_of_the_pooled_rows(rows in rows_and_sites(), a in 18i64..100, b in 18i64..100) {
        let sites = split(&rows);
        let parties: Vec<String> = sites.keys().cloned().collect();
        let dict = dictionary(512);
        let complete = ["sex", "dead_dep_6m", "aspirin", "consciousness"];
        let mut study = study("own", &parties, &complete, vec![
            logistic("model", "dead_dep_6m ~ aspirin + consciousness", 12),
            mantel_haenszel("mh", "aspirin=yes", "dead_dep_6m=yes"),
        ]);
        study.population.conditions = at_least(a).conditions;
        let earlier = |study: &str, population| EarlierPopulation { study: study.into(), population };
        let plan = plan(&study, &dict, vec![earlier("first", at_least(b)), earlier("second", everybody())]).unwrap();
        let start = Question::start(&study, &dict, &plan, 0).unwrap();
        let sums = round(&study, &dict, &plan, 0, &start, &sites).values;
        let cells = study::guard_cells(&study, &dict, &plan.earlier);
        prop_assert_eq!(cells.len(), sums.len());

        let own = |r: &Row| r.age >= Some(a) && r.dead_dep_6m.is_some();
        let first = |r: &Row| r.age >= Some(b) && r.dead_dep_6m.is_some();
        let n = |f: &dyn Fn(&Row) -> bool| rows.iter().filter(|(r, _)| f(r)).count() as f64;
        let mut combinations = 0;
        for (cell, sum) in cells.iter().zip(&sums) {
            let yes = |text: &str, r: &Row| match text {
                "aspirin=yes" => r.aspirin == Some(1),
                "aspirin=no" => r.aspirin == Some(0),
                "dead_dep_6m=yes" => r.dead_dep_6m == Some(1),
                "dead_dep_6m=no" => r.dead_dep_6m == Some(0),
                "consciousness=alert" => r.consciousness == Some(0),
                "consciousness=drowsy" => r.consciousness == Some(1),
                "consciousness=unconscious" => r.consciousness == Some(2),
                other => panic!("{other}"),
            };
            let expected = match cell {
                GuardCell::RowsRead => rows.len() as f64,
                GuardCell::ExcludedConditions => n(&|r| r.age < Some(a)),
                GuardCell::ExcludedMissing { column } if column == "dead_dep_6m" => {
                    n(&|r| r.age >= Some(a) && r.dead_dep_6m.is_none())
                }
                GuardCell::ExcludedMissing { .. } => 0.0,
                GuardCell::Analysed => n(&own),
                GuardCell::Table { label, .. } | GuardCell::Class { label, .. } => {
                    n(&|r| own(r) && label.split(", ").all(|l| yes(l, r)))
                }
                GuardCell::Difference { study } if study == "first" => n(&|r| own(r) != first(r)),
                GuardCell::Difference { .. } => n(&|r| !own(r)),
                GuardCell::Combination { whole, .. } => {
                    combinations += 1;
                    let left = |w: bool, x: bool, y: bool| i8::from(w) - i8::from(x) - i8::from(y) != 0;
                    match whole.as_str() {
                        "own" => n(&|r| left(own(r), first(r), true)),
                        "first" => n(&|r| left(first(r), own(r), true)),
                        _ => n(&|r| left(true, own(r), first(r))),
                    }
                }
            };
            prop_assert_eq!(*sum, expected, "{:?}", cell);
        }
        let factors_alone = cells.iter().filter(|c| matches!(c, GuardCell::Table { analysis: 0, .. })).count();
        prop_assert_eq!(factors_alone, 2 * (2 + 3), "a model of factors alone gives its tables away");
        // With `age >= a` and `age >= b` said differently, three populations; else a pair.
        prop_assert_eq!(combinations, 3);
    }
}

#[test]
fn equal_populations_make_no_triples() {
    let dict = dictionary(512);
    let mut study = study("own", &["all".into()], &["age"], vec![describe("d", &["age"])]);
    study.population.complete = vec!["age".into(), "sex".into()];
    let same = Population { complete: vec!["sex".into(), "age".into()], conditions: vec![] };
    let earlier = vec![
        EarlierPopulation { study: "same".into(), population: same },
        EarlierPopulation { study: "other".into(), population: everybody() },
    ];
    let cells = study::guard_cells(&study, &dict, &earlier);
    assert_eq!(cells.iter().filter(|c| matches!(c, GuardCell::Difference { .. })).count(), 2);
    assert!(!cells.iter().any(|c| matches!(c, GuardCell::Combination { .. })));
}

#[test]
fn a_few_rows_between_three_populations_are_counted_where_no_pair_shows_them() {
    // Old and young together are everybody but one: no two of the three populations are close.
    let rows: Vec<(Row, usize)> = (0..101i64)
        .map(|i| {
            let age = if i < 50 {
                30
            } else if i < 100 {
                80
            } else {
                60
            };
            let row = Row {
                age: Some(age),
                sex: Some(0),
                sbp: Some(150),
                delay: Some(1),
                consciousness: Some(0),
                aspirin: Some(0),
                death14: Some(0),
                recurrence14: Some(0),
                dead_dep_6m: Some(0),
            };
            (row, (i % 4) as usize)
        })
        .collect();
    let sites = split(&rows);
    let parties: Vec<String> = sites.keys().cloned().collect();
    let dict = dictionary(512);
    let study = study("everybody", &parties, &["sex"], vec![crosstab("t", &["sex"], false)]);
    let between = |min, max| {
        let condition = Condition { column: "age".into(), levels: vec![], min, max };
        Population { complete: vec![], conditions: vec![condition] }
    };
    let earlier = vec![
        EarlierPopulation { study: "young".into(), population: between(None, Some(50)) },
        EarlierPopulation { study: "old".into(), population: between(Some(70), None) },
    ];
    let plan = plan(&study, &dict, earlier).unwrap();
    let start = Question::start(&study, &dict, &plan, 0).unwrap();
    let sums = round(&study, &dict, &plan, 0, &start, &sites).values;
    let cells = study::guard_cells(&study, &dict, &plan.earlier);
    let count = |wanted: &dyn Fn(&GuardCell) -> bool| {
        cells.iter().zip(&sums).filter(|(c, _)| wanted(c)).map(|(_, n)| *n).collect::<Vec<f64>>()
    };
    assert_eq!(count(&|c| matches!(c, GuardCell::Difference { .. })), [51.0, 51.0]);
    assert_eq!(count(&|c| matches!(c, GuardCell::Combination { whole, .. } if whole == "everybody")), [1.0]);
}
