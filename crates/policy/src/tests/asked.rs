//! From study, dictionary and plan to facts.

use crate::{PlanFacts, StudyFacts};
use record::Digest;
use study::{Cell, Dictionary, Layout, Plan, Role, StageKind, Study};

const DICTIONARY: &str = r#"
id = "d/1"
title = "d"
max_rows = 1024
unit = "patient"
[[column]]
name = "age"
label = "age"
role = "quasi-identifier"
type = "integer"
min = 16
max = 99
[[column]]
name = "sex"
label = "sex"
role = "quasi-identifier"
type = "factor"
levels = [{ code = "f", label = "f" }, { code = "m", label = "m" }]
[[column]]
name = "dead"
label = "dead"
role = "sensitive"
type = "factor"
levels = [{ code = "no", label = "no" }, { code = "yes", label = "yes" }]
[[column]]
name = "hospital"
label = "hospital"
role = "identifier"
type = "integer"
min = 1
max = 500
"#;

const STUDY: &str = r#"
id = "s"
title = "s"
purpose = "p"
domain = "health"
requester = "a"
collector = "b"
aggregators = ["c", "d"]
recipients = ["a", { name = "Outside", jurisdiction = "US" }]
dataset = "x"
contributors = ["a", "b", "c"]
minimum_contributors = 3
dictionary = "d/1"
until = "2027-01-01"
protection = { min_cell = 10, min_hidden_sites = 3 }
population = { complete = ["hospital"] }
[[analysis]]
id = "m"
method = "logistic"
formula = "dead ~ 1 + age + sex + undocumented"
event = "yes"
max_rounds = 9
grid = 40
[[analysis]]
id = "t"
method = "crosstab"
by = ["sex", "age"]
by_site = true
"#;

#[test]
fn facts_of_a_plan_come_from_dictionary_and_plan() {
    let study: Study = toml::from_str(STUDY).unwrap();
    let dictionary: Dictionary = toml::from_str(DICTIONARY).unwrap();
    let layout = Layout { cells: vec![Cell::count("n", 1024), Cell::count("m", 1024)] };
    let stage = |kind, max_rounds| study::Stage { kind, layout: layout.clone(), max_rounds };
    let plan = Plan {
        study: "s".into(),
        study_digest: String::new(),
        dictionary_digest: String::new(),
        earlier: vec![],
        stages: vec![stage(StageKind::Guard, 1), stage(StageKind::Iterate { analysis: 0 }, 9)],
    };
    let facts = PlanFacts::of(&study, &dictionary, &plan, Digest::of(b"plan"));
    assert!(facts.replayed);
    assert_eq!(facts.columns["hospital"].role, Role::Identifier);
    assert_eq!(facts.columns["dead"].role, Role::Sensitive);
    // A column that the dictionary lacks is taken for the worst.
    assert_eq!(facts.columns["undocumented"].role, Role::Identifier);
    assert_eq!(facts.columns.len(), 5);
    let table = &facts.tables[0];
    assert_eq!((table.cells, table.by_site), (2 * 84, true));
    assert_eq!(table.single_values, ["age"]);
    // 2 cells once and nine times, and the table for the two sites beyond the first.
    assert_eq!(facts.numbers_opened, 20 + 2 * 168);
    let facts = StudyFacts::of(&study, Digest::of(b"study"), 7);
    assert_eq!(facts.recipients[1].outside.as_deref(), Some("US"));
    assert_eq!((facts.until, facts.min_cell), (7, 10));
}
