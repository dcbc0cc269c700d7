//! However rows are spread over sites, the federated result is the pooled one.

use crate::federation::*;
use crate::pooled;
use analysis::{Failure, Question, Table, plan, stated_error};
use proptest::prelude::*;
use study::StageKind;

/// Rows whose outcome depends on age, consciousness and aspirin, with the site of each.
pub fn rows_and_sites() -> impl Strategy<Value = Vec<(Row, usize)>> {
    let row = (18i64..100, 0u16..2, 70i64..260, 0u16..6, 0u16..2, 0.0f64..1.0, 0u16..8, 0usize..9);
    let row = row.prop_map(|(age, sex, sbp, consciousness, aspirin, chance, rare, site)| {
        let consciousness = consciousness.saturating_sub(3).min(2);
        let eta = (age as f64 - 70.0) / 20.0 + f64::from(consciousness) - 0.3 * f64::from(aspirin);
        let event = u16::from(chance < 1.0 / (1.0 + (-eta).exp()));
        let row = Row {
            age: Some(age),
            sex: Some(sex),
            sbp: Some(sbp),
            delay: Some(age % 48),
            consciousness: Some(consciousness),
            aspirin: Some(aspirin),
            death14: Some(u16::from(rare == 0)),
            recurrence14: Some(u16::from(rare == 1)),
            dead_dep_6m: (rare != 2).then_some(event),
        };
        (row, site)
    });
    proptest::collection::vec(row, 150..400)
}

pub fn split(rows: &[(Row, usize)]) -> Sites {
    let mut sites: std::collections::BTreeMap<String, Vec<Row>> = Default::default();
    for (row, site) in rows {
        sites.entry(format!("site-{site}")).or_default().push(row.clone());
    }
    sites.iter().map(|(s, r)| (s.clone(), frame(r))).collect()
}

fn everything(sites: &Sites) -> study::Study {
    let parties: Vec<String> = sites.keys().cloned().collect();
    let complete =
        ["dead_dep_6m", "death14", "recurrence14", "age", "sex", "sbp", "delay", "consciousness", "aspirin"];
    study(
        "splits",
        &parties,
        &complete,
        vec![
            mantel_haenszel("mh", "aspirin=yes", "death14=yes"),
            logistic("model", "dead_dep_6m ~ age + sex + sbp + consciousness + aspirin", 20),
            describe("moments", &["age", "sbp"]),
            crosstab("table", &["sex", "consciousness", "recurrence14"], false),
            crosstab("by-site", &["sex"], true),
        ],
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_random_split_gives_the_pooled_result(rows in rows_and_sites()) {
        let sites = split(&rows);
        let dict = dictionary(512);
        let study = everything(&sites);
        let plan = plan(&study, &dict, vec![]).unwrap();
        let kept: Vec<&(Row, usize)> = rows.iter().filter(|(r, _)| r.dead_dep_6m.is_some()).collect();
        let pool: Vec<&Row> = kept.iter().map(|(r, _)| r).collect();
        let fit = pooled::logistic(&pool);
        // An output by site is marked as one: each site's own two cells, and no other.
        for (i, (party, frame)) in sites.iter().enumerate() {
            let start = Question::start(&study, &dict, &plan, 1).unwrap();
            let vector = analysis::site(party, &study, &dict, &plan, 1, &start, frame).unwrap();
            let first = vector.values.len() - 2 * sites.len() + 2 * i;
            prop_assert_eq!(&vector.by_site, &[first, first + 1]);
            prop_assert_eq!(vector.values[first] + vector.values[first + 1], vector.analysed as f64);
        }
        let out = match (run(&study, &dict, &plan, &sites), &fit) {
            (Ok(out), Some(_)) => out,
            (Err(_), None) => return Ok(()),
            // An expected count so small that one stratum decides: nothing to compare with.
            (Err(Failure::Empty), _) => return Ok(()),
            (Ok(_), None) => panic!("federated fit without a pooled one"),
            (Err(_), Some(_)) => panic!("pooled fit without a federated one"),
        };
        let fit = fit.unwrap();

        let Table::MantelHaenszel { counts, odds_ratio, se, cmh, .. } = &out.results[0].table else { panic!() };
        let mut tables = [[0.0f64; 4]; 9];
        for (r, s) in &kept {
            tables[*s][usize::from(3 - 2 * r.aspirin.unwrap() - r.death14.unwrap())] += 1.0;
        }
        let odds = pooled::mantel_haenszel(&tables);
        let total = |k: usize| tables.iter().map(|t| t[k]).sum::<f64>() as u64;
        prop_assert_eq!(*counts, [[total(0), total(1)], [total(2), total(3)]]);
        close(odds_ratio.to_f64(), odds.odds_ratio, 1e-10, "odds ratio");
        close(se.to_f64(), odds.se, 1e-10, "SE");
        // Of no excess nothing relative can be said.
        prop_assert!((cmh.chi2.to_f64() - odds.cmh).abs() <= 1e-9 * (1.0 + odds.cmh));

        let Table::Logistic { coefficients, deviance, .. } = &out.results[1].table else { panic!() };
        for (i, c) in coefficients.iter().enumerate() {
            close(c.se.to_f64(), fit.se[i], 1e-8, &format!("SE of {}", c.term));
            let error = (c.estimate.to_f64() - fit.coefficients[i]).abs();
            prop_assert!(error <= 1e-9 * (fit.se[i] + fit.coefficients[i].abs()), "{}: {error:e}", c.term);
        }
        close(deviance.to_f64(), fit.deviance, 1e-9, "deviance");

        let Table::Describe { columns } = &out.results[2].table else { panic!() };
        for (column, read) in columns.iter().zip([|r: &Row| r.age.unwrap(), |r: &Row| r.sbp.unwrap()]) {
            let (mean, sd) = pooled::mean_sd(&pool.iter().map(|r| read(r)).collect::<Vec<_>>());
            close(column.mean.to_f64(), mean, 1e-14, "mean");
            close(column.sd.to_f64(), sd, 1e-12, "SD");
        }

        let Table::Crosstab { counts, .. } = &out.results[3].table else { panic!() };
        for (cell, count) in counts.iter().enumerate() {
            let here = |r: &&&Row| {
                usize::from(r.sex.unwrap() * 6 + r.consciousness.unwrap() * 2 + r.recurrence14.unwrap()) == cell
            };
            prop_assert_eq!(*count, Some(pool.iter().filter(here).count() as u64));
        }
        let Table::Crosstab { counts, levels, .. } = &out.results[4].table else { panic!() };
        for (i, site) in levels[0].iter().enumerate() {
            for sex in 0..2 {
                let n = kept.iter().filter(|(r, s)| format!("site-{s}") == *site && r.sex == Some(sex)).count();
                prop_assert_eq!(counts[2 * i + usize::from(sex)], Some(n as u64));
            }
        }
    }

    #[test]
    fn quantised_sums_are_within_the_stated_error(rows in rows_and_sites(), beta in proptest::collection::vec(-2i64..=2, 7)) {
        let sites = split(&rows);
        let dict = dictionary(512);
        let study = everything(&sites);
        let plan = plan(&study, &dict, vec![]).unwrap();
        let all: Sites = [("all".to_owned(), frame(&rows.iter().map(|(r, _)| r.clone()).collect::<Vec<_>>()))].into();
        let (stage, of) = plan.stages.iter().enumerate()
            .find(|(_, s)| matches!(s.kind, StageKind::Iterate { .. })).unwrap();
        let mut question = Question::start(&study, &dict, &plan, stage).unwrap();
        question.round = 1;
        question.beta = beta.iter().map(|b| b << 40).collect();
        let split = round(&study, &dict, &plan, stage, &question, &sites);
        let exact = analysis::site("all", &study, &dict, &plan, stage, &question, &all["all"]).unwrap();
        for ((cell, a), b) in of.layout.cells.iter().zip(&split.values).zip(&exact.values) {
            // Half a step a site, and the rounding of doubles of this size.
            let most = stated_error(cell, sites.len() as u32) + 1e-13 * (1.0 + b.abs());
            prop_assert!((a - b).abs() <= most, "{}: {a} {b}", cell.name);
        }
    }
}
