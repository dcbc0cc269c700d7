//! The studies of the demonstration, as each of the five regimes sees them.

use super::{at, policies, refused_by};
use crate::{GateInput, PlanFacts, RecipientFacts, Stage, StudyFacts};
use record::Digest;
use std::path::PathBuf;
use study::{Cell, Dictionary, Layout, Method, Plan, StageKind, Study};

const REGIMES: [&str; 5] = ["AR", "AU", "CH", "EU", "GB"];

/// A proposal of one of `studies/ist` at a member of the regime, with a plan of its size.
fn proposal(regime: &str, file: &str) -> (crate::PolicySet, GateInput) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../studies/ist");
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let dictionary = Dictionary::parse("dictionary.toml", &text("dictionary.toml")).unwrap();
    let study = Study::parse(file, &text(file)).unwrap();
    let stage = |kind, cells: usize, max_rounds| study::Stage {
        kind,
        layout: Layout { cells: vec![Cell::count("n", dictionary.max_rows); cells] },
        max_rounds,
    };
    let mut stages = vec![stage(StageKind::Guard, 30, 1), stage(StageKind::Once, 40, 1)];
    for (analysis, a) in study.analyses.iter().enumerate() {
        if let Method::Logistic { max_rounds, .. } = a.method {
            stages.push(stage(StageKind::Iterate { analysis }, 48, max_rounds));
        }
    }
    let plan = Plan {
        study: study.id.clone(),
        study_digest: String::new(),
        dictionary_digest: String::new(),
        earlier: vec![],
        stages,
    };
    let set = policies(regime);
    let mut input = at(Stage::Propose, &GateInput::sound(&set).unwrap());
    input.run = None;
    input.release = None;
    input.study = StudyFacts::of(&study, Digest::of(b"study"), 1_925_000_000_000);
    input.plan = PlanFacts::of(&study, &dictionary, &plan, Digest::of(b"plan"));
    input.dataset.as_mut().unwrap().mapped = dictionary.columns.iter().map(|c| c.name.clone()).collect();
    (set, input)
}

#[test]
fn the_sensible_study_is_allowed_everywhere() {
    for regime in REGIMES {
        for file in ["aspirin.toml", "near-miss-mended.toml"] {
            let (set, input) = proposal(regime, file);
            assert!(refused_by(&set, &input, |_| ()).is_empty(), "{regime} {file}");
        }
    }
}

#[test]
fn the_near_miss_is_refused_by_the_australian_schedule_alone_and_allowed_when_mended() {
    for regime in REGIMES {
        let (set, input) = proposal(regime, "near-miss.toml");
        let expected: &[&str] = if regime == "AU" { &["au.min-cell-10"] } else { &[] };
        assert_eq!(refused_by(&set, &input, |_| ()), expected, "{regime}");
        assert!(
            refused_by(&set, &input, |i| i.study.min_cell = 10).is_empty(),
            "{regime}: as the refusal says"
        );
    }
}

#[test]
fn the_study_that_is_too_fine_is_refused_everywhere_by_floor_and_by_each_schedule() {
    for regime in REGIMES {
        let (set, input) = proposal(regime, "too-fine.toml");
        let refused = refused_by(&set, &input, |_| ());
        for id in [
            "purpose-in-charter",
            "dataset-purpose",
            "min-cell",
            "hidden-sites-declared",
            "no-single-value-table",
            "numbers-opened",
            "transfer-recipient",
            "by-site-own-yes",
        ] {
            assert!(refused.contains(&format!("floor.{id}")), "{regime}: {id} in {refused:?}");
        }
        let own = format!("{}.", regime.to_lowercase());
        assert!(refused.iter().any(|id| id.starts_with(&own)), "{regime}: its own schedule too, {refused:?}");
    }
}

#[test]
fn the_refused_pair_is_named_with_mechanism_and_source() {
    let (set, mut input) = proposal("GB", "aspirin.toml");
    input.study.recipients = vec![RecipientFacts {
        name: "Meridian Life Insurance (fictitious)".into(),
        outside: Some("US".into()),
        regime: String::new(),
    }];
    input.consult(&crate::Library::embedded().unwrap());
    let verdict = crate::decide(&set, &input);
    let facts = &verdict.determining[0].facts;
    assert_eq!(verdict.determining[0].id, "floor.transfer-recipient");
    assert_eq!(facts.len(), 1);
    for part in
        ["gb (GB)", "Meridian", "US", "adequacy_partial, or else clauses", "SI 2023/1028", "as of 2026-04-07"]
    {
        assert!(facts[0].contains(part), "{part} in {}", facts[0]);
    }
}
