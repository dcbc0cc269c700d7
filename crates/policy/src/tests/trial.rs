//! The studies of the demonstration, as each of the five regimes sees them.

use super::{at, policies, refused_by};
use crate::{GateInput, RecipientFacts, Stage, TableFacts};

const REGIMES: [&str; 5] = ["AR", "AU", "CH", "EU", "GB"];

fn proposal(regime: &str) -> (crate::PolicySet, GateInput) {
    let set = policies(regime);
    let input = at(Stage::Propose, &GateInput::sound(&set).unwrap());
    (set, input)
}

fn crosstab(columns: &[&str]) -> TableFacts {
    TableFacts {
        analysis: "table".into(),
        columns: columns.iter().map(|c| (*c).to_string()).collect(),
        single_values: vec![],
        cells: 4,
        by_site: false,
    }
}

#[test]
fn a_least_cell_of_8_is_refused_by_the_australian_schedule_alone() {
    for regime in REGIMES {
        let (set, input) = proposal(regime);
        let refused = refused_by(&set, &input, |i| {
            i.study.min_cell = 8;
            i.plan.tables = vec![crosstab(&["recurrence14", "aspirin"])];
        });
        let expected: &[&str] = if regime == "AU" { &["au.min-cell-10"] } else { &[] };
        assert_eq!(refused, expected, "{regime}");
        assert!(refused_by(&set, &input, |i| i.study.min_cell = 10).is_empty(), "{regime}: mended");
    }
}

#[test]
fn too_fine_a_study_is_refused_everywhere_by_several_rules() {
    for regime in REGIMES {
        let (set, input) = proposal(regime);
        let refused = refused_by(&set, &input, |i| {
            i.study.purpose = "insurance-pricing".into();
            i.study.min_cell = 1;
            i.study.recipients = vec![RecipientFacts {
                name: "Meridian Life Insurance (fictitious)".into(),
                outside: Some("US".into()),
                regime: String::new(),
            }];
            let mut table = crosstab(&["sex", "age", "stroke_type", "death14"]);
            table.single_values = vec!["age".into()];
            table.by_site = true;
            table.cells = 2 * 85 * 5 * 2;
            i.plan.numbers_opened = table.cells * 9;
            i.plan.tables = vec![table];
        });
        for id in [
            "purpose-in-charter", "dataset-purpose", "min-cell", "no-single-value-table", "numbers-opened",
            "transfer-recipient", "by-site-own-yes",
        ] {
            assert!(refused.contains(&format!("floor.{id}")), "{regime}: {id} in {refused:?}");
        }
        let own = format!("{}.", regime.to_lowercase());
        assert!(refused.iter().any(|id| id.starts_with(&own)), "{regime}: its own schedule too, {refused:?}");
    }
}

#[test]
fn the_refused_pair_is_named_with_mechanism_and_source() {
    let (set, mut input) = proposal("GB");
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
    for part in ["gb (GB)", "Meridian", "US", "adequacy_partial, or else clauses", "SI 2023/1028", "as of 2026-04-07"] {
        assert!(facts[0].contains(part), "{part} in {}", facts[0]);
    }
}
