//! What fails fails in one way, and nothing that a liar sends does worse than fail.

use crate::federation::*;
use crate::splits::{rows_and_sites, split};
use analysis::{
    AnalysisError, Data, Failure, PlanError, Question, Step, Sums, combine_once, plan, site, step,
};
use proptest::prelude::*;
use study::{Condition, Dictionary, Kind, Method, Plan, Study};

fn model(formula: &str, complete: &[&str], max_rounds: u32) -> (Study, Dictionary, Plan) {
    let dict = dictionary(512);
    let study = study("failing", &["all".into()], complete, vec![logistic("model", formula, max_rounds)]);
    let plan = plan(&study, &dict, vec![]).unwrap();
    (study, dict, plan)
}

fn row(aspirin: u16, event: u16, age: i64) -> Row {
    Row {
        age: Some(age),
        sex: Some(0),
        sbp: Some(150),
        delay: Some(4),
        consciousness: Some(0),
        aspirin: Some(aspirin),
        death14: Some(event),
        recurrence14: Some(0),
        dead_dep_6m: Some(event),
    }
}

fn one(rows: &[Row]) -> Sites {
    [("all".to_owned(), frame(rows))].into()
}

#[test]
fn separation_a_singular_matrix_and_the_cap_fail_with_the_same_words() {
    let mixed: Vec<Row> =
        (0..200).map(|i| row(i % 2, u16::from((i * 7 + i / 3) % 5 < 2), 40 + i64::from(i) % 50)).collect();
    let separated: Vec<Row> = (0..200).map(|i| row(i % 2, i % 2, 40 + i64::from(i) % 50)).collect();
    let no_event: Vec<Row> = (0..200).map(|i| row(i % 2, 0, 40 + i64::from(i) % 50)).collect();
    let (complete, formula) = (["dead_dep_6m", "aspirin", "age"], "dead_dep_6m ~ aspirin + age");
    let fails = |rows: &[Row], formula: &str, complete: &[&str], cap| {
        let (study, dict, plan) = model(formula, complete, cap);
        run(&study, &dict, &plan, &one(rows)).err().unwrap()
    };
    let (study, dict, plan) = model(formula, &complete, 12);
    assert!(run(&study, &dict, &plan, &one(&mixed)).is_ok());
    let all = [
        fails(&separated, formula, &complete, 12),
        fails(&separated, formula, &complete, 50),
        fails(&mixed, "dead_dep_6m ~ aspirin + sex", &["dead_dep_6m", "aspirin", "sex"], 12),
        fails(&mixed, formula, &complete, 2),
        fails(&no_event, formula, &complete, 12),
    ];
    assert_eq!(all[0], Failure::NotConverged);
    assert!(matches!(all[1], Failure::Separation | Failure::Singular));
    assert_eq!(all[2..], [Failure::Singular, Failure::NotConverged, Failure::Empty]);
    assert!(
        all.iter()
            .all(|f| f.to_string() == "withheld by disclosure control" && format!("{f:?}") == f.to_string())
    );
}

#[test]
fn a_site_answers_no_question_but_the_plans() {
    let (study, dict, plan) = model("dead_dep_6m ~ aspirin + age", &["dead_dep_6m", "aspirin", "age"], 12);
    let frame = frame(&(0..50).map(|i| row(i % 2, i % 3 % 2, 60)).collect::<Vec<_>>());
    let start = Question::start(&study, &dict, &plan, 1).unwrap();
    let ask = |q: &Question| site("all", &study, &dict, &plan, 1, q, &frame).map(|_| ());
    assert_eq!(ask(&start), Ok(()));
    let bad = [
        Question { study: "other".into(), ..start.clone() },
        Question { stage: 0, ..start.clone() },
        Question { round: 12, ..start.clone() },
        Question { beta: vec![1, 0, 0], ..start.clone() },
        Question { round: 1, beta: vec![], ..start.clone() },
        Question { round: 1, beta: vec![i64::MIN, 0, 0], ..start.clone() },
        Question { round: 1, beta: vec![40 << 40, 40 << 40, 0], ..start.clone() },
    ];
    for q in &bad {
        assert!(matches!(ask(q), Err(AnalysisError::Question { .. })), "{q:?}");
        let sums = Sums { contributors: 1, values: vec![1.0; plan.stages[1].layout.cells.len()] };
        if q.beta != [1, 0, 0] {
            assert_eq!(step(&study, &dict, &plan, 1, q, &sums), Step::Failed(Failure::NotThePlan), "{q:?}");
        }
    }
    let mut other = plan.clone();
    other.stages[1].layout.cells[0].shift -= 1;
    let asked = site("all", &study, &dict, &other, 1, &start, &frame).err();
    assert_eq!(asked, Some(AnalysisError::NotThePlan { stage: 1 }));
    assert!(site("all", &study, &dict, &plan, 9, &start, &frame).is_err());
}

#[test]
fn rows_unlike_the_dictionary_are_refused_by_column_alone() {
    let (study, dict, plan) = model("dead_dep_6m ~ aspirin + age", &["dead_dep_6m", "aspirin", "age"], 12);
    let good = frame(&(0..50).map(|i| row(i % 2, i % 3 % 2, 60)).collect::<Vec<_>>());
    let question = Question::start(&study, &dict, &plan, 0).unwrap();
    let refused = |change: &dyn Fn(&mut analysis::Frame)| {
        let mut frame = good.clone();
        change(&mut frame);
        site("all", &study, &dict, &plan, 0, &question, &frame).err().unwrap().to_string()
    };
    let all = [
        refused(&|f| drop(f.columns.remove("age"))),
        refused(&|f| drop(f.columns.insert("age".into(), Data::Integer(vec![Some(60); 3])))),
        refused(&|f| drop(f.columns.insert("age".into(), Data::Integer(vec![Some(7_777); 50])))),
        refused(&|f| drop(f.columns.insert("age".into(), Data::Factor(vec![Some(1); 50])))),
    ];
    assert!(all.iter().all(|e| e.contains("`age`") && !e.contains("7777")), "{all:?}");
    assert!(refused(&|f| f.rows = 513).contains("max_rows"));
}

#[test]
fn a_study_that_cannot_be_planned_says_where_and_why() {
    let dict = dictionary(512);
    let base = study(
        "bad",
        &["all".into()],
        &["dead_dep_6m", "aspirin", "age", "death14"],
        vec![logistic("model", "dead_dep_6m ~ aspirin + age", 12)],
    );
    let refused = |change: &dyn Fn(&mut Study)| {
        let mut study = base.clone();
        change(&mut study);
        plan(&study, &dict, vec![]).err()
    };
    assert_eq!(refused(&|_| ()), None);
    let with = |a: study::Analysis| refused(&move |s: &mut Study| s.analyses = vec![a.clone()]);
    assert!(matches!(with(logistic("m", "dead_dep_6m ~ agee", 12)), Some(PlanError::UnknownColumn { .. })));
    assert!(matches!(with(logistic("m", "dead_dep_6m ~ sbp", 12)), Some(PlanError::NotComplete { .. })));
    assert!(matches!(with(logistic("m", "age ~ aspirin", 12)), Some(PlanError::WrongKind { .. })));
    assert!(matches!(with(logistic("m", "dead_dep_6m", 12)), Some(PlanError::Formula { .. })));
    assert!(matches!(with(logistic("m", "dead_dep_6m ~ age", 1)), Some(PlanError::Setting { .. })));
    assert!(matches!(
        with(mantel_haenszel("m", "aspirin", "death14=yes")),
        Some(PlanError::NotColumnLevel { .. })
    ));
    assert!(matches!(
        with(mantel_haenszel("m", "aspirin=maybe", "death14=yes")),
        Some(PlanError::UnknownLevel { .. })
    ));
    assert!(matches!(with(describe("m", &["aspirin"])), Some(PlanError::WrongKind { .. })));
    assert!(matches!(with(crosstab("m", &[], false)), Some(PlanError::Empty { .. })));
    assert!(matches!(with(crosstab("m", &["age", "age"], false)), Some(PlanError::Twice { .. })));
    assert!(matches!(
        with(crosstab("m", &["number"], false)),
        Some(PlanError::Identifier { .. } | PlanError::TooManyCells { .. })
    ));
    assert!(matches!(refused(&|s| s.analyses.clear()), Some(PlanError::Empty { .. })));
    assert!(matches!(refused(&|s| s.analyses.push(s.analyses[0].clone())), Some(PlanError::Twice { .. })));
    let coarse = |s: &mut Study| {
        if let Method::Logistic { grid, .. } = &mut s.analyses[0].method {
            *grid = 20;
        }
    };
    assert!(matches!(refused(&coarse), Some(PlanError::Setting { setting: "grid", .. })));
    let condition = |c: Condition| refused(&move |s: &mut Study| s.population.conditions = vec![c.clone()]);
    let on = |column: &str, levels: &[&str], min| Condition {
        column: column.into(),
        levels: levels.iter().map(|l| (*l).into()).collect(),
        min,
        max: None,
    };
    assert!(matches!(condition(on("aspirin", &["maybe"], None)), Some(PlanError::UnknownLevel { .. })));
    assert!(matches!(condition(on("aspirin", &[], Some(1))), Some(PlanError::WrongKind { .. })));
    assert!(matches!(condition(on("age", &["yes"], None)), Some(PlanError::WrongKind { .. })));
    let message = with(logistic("m", "dead_dep_6m ~ agee", 12)).unwrap().to_string();
    assert_eq!(message, "analysis `m`: the data dictionary has no column `agee`; use one that it has");
}

#[test]
fn bounds_too_wide_to_sum_exactly_are_refused() {
    let mut dict = dictionary(512);
    dict.columns[0].kind = Kind::Integer { min: i64::MIN, max: i64::MAX };
    for analysis in
        [describe("m", &["age"]), logistic("m", "dead_dep_6m ~ age", 9), crosstab("m", &["age"], true)]
    {
        let study = study("wide", &["all".into()], &["age", "dead_dep_6m"], vec![analysis]);
        let refused = plan(&study, &dict, vec![]);
        assert!(
            matches!(refused, Err(PlanError::TooWide { .. } | PlanError::TooManyCells { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn the_studies_that_ship_can_be_planned() {
    let text = include_str!("../../../../studies/ist/dictionary.toml");
    let dict = Dictionary::parse("dictionary.toml", text).unwrap();
    for (name, text) in [
        ("aspirin.toml", include_str!("../../../../studies/ist/aspirin.toml")),
        ("too-fine.toml", include_str!("../../../../studies/ist/too-fine.toml")),
        ("near-miss.toml", include_str!("../../../../studies/ist/near-miss.toml")),
        ("near-miss-mended.toml", include_str!("../../../../studies/ist/near-miss-mended.toml")),
    ] {
        let study = Study::parse(name, text).unwrap();
        let plan = plan(&study, &dict, vec![]).unwrap_or_else(|e| panic!("{name}: {e}"));
        let cells: Vec<usize> = plan.stages.iter().map(|s| s.layout.cells.len()).collect();
        println!("{name}: stages of {cells:?} cells, at most {} numbers opened", plan.numbers_opened());
        assert_eq!(Plan::from_canonical(&plan.to_canonical().unwrap()).unwrap(), plan);
    }
}

#[test]
fn all_rows_weigh_the_same_at_the_start_and_one_row_can_outweigh_the_rest_later() {
    let (study, dict, plan) = model("dead_dep_6m ~ aspirin + age", &["dead_dep_6m", "aspirin", "age"], 12);
    let mut rows: Vec<Row> = (0..50).map(|i| row(i % 2, i % 3 % 2, 20)).collect();
    rows.push(row(0, 1, 60));
    let mut question = Question::start(&study, &dict, &plan, 1).unwrap();
    let units =
        |q: &Question| site("all", &study, &dict, &plan, 1, q, &frame(&rows)).unwrap().effective_units;
    assert!((units(&question) - 51.0).abs() < 1e-9);
    // A chosen question: only age 60 has odds near even (A1).
    question.round = 1;
    question.beta[2] = 30 << 40;
    assert!(units(&question) < 1.01);
}

#[test]
fn every_planned_layout_can_be_shared() {
    let dict = dictionary(8192);
    let complete = ["age", "sex", "sbp", "consciousness", "aspirin", "dead_dep_6m"];
    let study = study(
        "shared",
        &["all".into()],
        &complete,
        vec![
            logistic("model", "dead_dep_6m ~ age + sex + sbp + consciousness + aspirin", 12),
            mantel_haenszel("mh", "aspirin=yes", "dead_dep_6m=yes"),
            describe("moments", &["age", "sbp"]),
        ],
    );
    let plan = plan(&study, &dict, vec![]).unwrap();
    for stage in &plan.stages {
        privacy::check_layout(&stage.layout).unwrap();
        let widths: std::collections::BTreeSet<u8> = stage.layout.cells.iter().map(|c| c.bits).collect();
        assert!(widths.len() <= 3, "each width is a proof of its own: {widths:?}");
        let names: std::collections::BTreeSet<&String> = stage.layout.cells.iter().map(|c| &c.name).collect();
        assert_eq!(names.len(), stage.layout.cells.len(), "each cell has its own name");
    }
    assert_eq!(analysis::plan(&study, &dict, vec![]).unwrap(), plan);
}

/// Any doubles: ordinary ones, huge ones, NaN, infinities.
fn hostile() -> impl Strategy<Value = f64> {
    prop_oneof![
        proptest::num::f64::ANY,
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::MAX),
        Just(-1.0),
        Just(0.0),
        0.0f64..500.0,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn hostile_sums_never_panic_and_never_ask_off_the_grid(
        rows in rows_and_sites(), noise in proptest::collection::vec(hostile(), 60), at in 0usize..60, cut in 0usize..60,
        contributors in any::<u32>(), beta in proptest::collection::vec(any::<i64>(), 0..5),
    ) {
        let complete = ["dead_dep_6m", "aspirin", "age", "sex"];
        let dict = dictionary(512);
        let study = study("hostile", &["all".into()], &complete, vec![
            logistic("model", "dead_dep_6m ~ aspirin + age", 12),
            mantel_haenszel("mh", "aspirin=yes", "dead_dep_6m=yes"),
            describe("moments", &["age"]),
            crosstab("table", &["sex", "aspirin"], false),
        ]);
        let plan = plan(&study, &dict, vec![]).unwrap();
        let start = Question::start(&study, &dict, &plan, 2).unwrap();
        // Honest sums with one entry replaced, and noise of any length.
        let honest = round(&study, &dict, &plan, 2, &start, &split(&rows));
        let mut replaced = honest.values.clone();
        let last = replaced.len() - 1;
        replaced[at.min(last)] = noise[0];
        for values in [replaced, noise[..cut].to_vec(), noise[..honest.values.len()].to_vec(), vec![]] {
            let bad = values.iter().any(|x| !x.is_finite()) || values.len() != honest.values.len();
            let sums = Sums { contributors, values: values.clone() };
            match step(&study, &dict, &plan, 2, &start, &sums) {
                Step::Ask(next) => {
                    prop_assert!(!bad);
                    prop_assert!(next.beta.iter().all(|b| b.unsigned_abs() <= 64 << 40));
                }
                Step::Done(_) => prop_assert!(!bad),
                Step::Failed(_) => {}
            }
            let wild = Question { beta: beta.clone(), ..start.clone() };
            let _ = step(&study, &dict, &plan, 2, &wild, &sums);
            let _ = step(&study, &dict, &plan, 1, &start, &sums);
            let _ = combine_once(&study, &dict, &plan, &sums);
        }
        let once = plan.stages[1].layout.cells.len();
        let sums = Sums { contributors, values: noise[..once].to_vec() };
        if let Ok(results) = combine_once(&study, &dict, &plan, &sums) {
            prop_assert_eq!(results.len(), 3);
            prop_assert!(sums.values.iter().all(|x| x.is_finite()));
        }
    }
}
