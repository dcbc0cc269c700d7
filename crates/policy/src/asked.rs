//! From the documents of a study to the facts of a gate.
//!
//! What a study says of itself enters here and nowhere else: what it asks for and of whom. Everything that it
//! could only claim (who its aggregators are, what its columns give away, how much it opens) is taken from the
//! record, the dictionary and the plan.

use crate::input::{ColumnFacts, PlanFacts, RecipientFacts, StudyFacts, TableFacts};
use record::Digest;
use std::collections::{BTreeMap, BTreeSet};
use study::{Column, Dictionary, Kind, Method, Plan, Recipient, Role, StageKind, Study};

impl StudyFacts {
    /// The facts of a submitted study. `until` is the first instant (milliseconds since the epoch) after its last
    /// day.
    pub fn of(study: &Study, digest: Digest, until: i64) -> StudyFacts {
        let recipient = |r: &Recipient| match r {
            Recipient::Member(id) => {
                RecipientFacts { name: id.clone(), outside: None, regime: String::new() }
            }
            Recipient::Outside(o) => RecipientFacts {
                name: o.name.clone(),
                outside: Some(o.jurisdiction.clone()),
                regime: String::new(),
            },
        };
        StudyFacts {
            id: study.id.clone(),
            digest,
            purpose: study.purpose.clone(),
            domain: study.domain.clone(),
            requester: study.requester.clone(),
            collector: study.collector.clone(),
            aggregators: study.aggregators.clone(),
            recipients: study.recipients.iter().map(recipient).collect(),
            contributors: study.contributors.iter().cloned().collect(),
            minimum_contributors: study.minimum_contributors,
            until,
            min_cell: study.protection.min_cell,
            min_hidden_sites: study.protection.min_hidden_sites,
        }
    }
}

impl PlanFacts {
    /// The facts of a study's plan. A column that the dictionary lacks counts as one that names a person, so that
    /// a plan of another dictionary is refused.
    pub fn of(study: &Study, dictionary: &Dictionary, plan: &Plan, digest: Digest) -> PlanFacts {
        let find = |name: &str| dictionary.columns.iter().find(|c| c.name == name);
        let mut columns = BTreeSet::new();
        columns.extend(study.population.complete.iter().cloned());
        columns.extend(study.population.conditions.iter().map(|c| c.column.clone()));
        let mut tables = Vec::new();
        let mut methods = BTreeSet::new();
        for analysis in &study.analyses {
            let (method, used) = match &analysis.method {
                Method::MantelHaenszel { exposure, outcome } => {
                    let column =
                        |text: &String| text.split('=').next().unwrap_or_default().trim().to_string();
                    ("mantel-haenszel", vec![column(exposure), column(outcome)])
                }
                Method::Logistic { formula, .. } => {
                    let words = formula.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                    // A bare number in a formula is an intercept, not a column.
                    let names = words.filter(|w| w.chars().any(|c| c.is_ascii_alphabetic()));
                    ("logistic", names.map(str::to_string).collect())
                }
                Method::Describe { columns } => ("describe", columns.clone()),
                Method::Crosstab { by, by_site } => {
                    tables.push(table(&analysis.id, by, *by_site, &find));
                    ("crosstab", by.clone())
                }
            };
            methods.insert(method.to_string());
            columns.extend(used);
        }
        let sites = study.contributors.len() as u64;
        let by_site = tables
            .iter()
            .filter(|t| t.by_site)
            .fold(0u64, |sum, t| sum.saturating_add(t.cells.saturating_mul(sites.saturating_sub(1))));
        let role = |name: String| {
            let role = find(&name).map_or(Role::Identifier, |c| c.role);
            (name, ColumnFacts { role })
        };
        PlanFacts {
            digest,
            max_rows: dictionary.max_rows,
            columns: columns.into_iter().map(role).collect::<BTreeMap<_, _>>(),
            tables,
            methods,
            numbers_opened: plan.numbers_opened().saturating_add(by_site).min((1 << 53) - 1),
            // The guard's sums go back to the contributors too, who judge it themselves.
            replayed: plan
                .stages
                .iter()
                .any(|s| matches!(s.kind, StageKind::Guard | StageKind::Iterate { .. })),
            guards: plan.earlier.iter().map(|e| e.study.clone()).collect(),
        }
    }
}

fn table<'a>(
    id: &str,
    by: &[String],
    by_site: bool,
    find: &impl Fn(&str) -> Option<&'a Column>,
) -> TableFacts {
    let mut cells = 1u64;
    let mut single_values = Vec::new();
    for name in by {
        cells = cells.saturating_mul(match find(name).map(|c| &c.kind) {
            Some(Kind::Factor { levels, .. }) => levels.len() as u64,
            Some(Kind::Integer { min, max }) => {
                single_values.push(name.clone());
                max.abs_diff(*min).saturating_add(1)
            }
            None => u64::from(u32::MAX),
        });
    }
    // Canonical form holds whole numbers up to 2^53 - 1.
    TableFacts {
        analysis: id.to_string(),
        columns: by.to_vec(),
        single_values,
        cells: cells.min((1 << 53) - 1),
        by_site,
    }
}
