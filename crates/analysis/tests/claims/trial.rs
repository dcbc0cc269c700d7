//! The International Stroke Trial in 36 countries against figures computed by statsmodels on the pooled rows.
//! Read from the shared data folder beside the repository.

use crate::federation::*;
use analysis::{Table, plan};
use privacy::release::Run;
use privacy::{Release, ReleaseRules};
use record::{Digest, canon};
use serde_json::Value;
use std::path::PathBuf;

struct Trial {
    sites: Sites,
    reference: Value,
}

fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("COMITY_SHARED").map(PathBuf::from);
    let above = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let beside = above.ancestors().map(|a| a.join("shared"));
    named.into_iter().chain(beside).flat_map(|p| [p.join("data/ist"), p.join("ist")]).find(|p| p.is_dir())
}

fn trial(test: &str) -> Option<Trial> {
    let Some(folder) = folder() else {
        println!("skipped for lack of the real data: {test}");
        return None;
    };
    let reference = serde_json::from_slice(&std::fs::read(folder.join("reference.json")).unwrap()).unwrap();
    let mut reader = csv::Reader::from_path(folder.join("ist_core.csv")).unwrap();
    let header = reader.headers().unwrap().clone();
    let mut rows: std::collections::BTreeMap<String, Vec<Row>> = Default::default();
    for record in reader.records() {
        let record = record.unwrap();
        let get = |name: &str| record.get(header.iter().position(|h| h == name).unwrap()).unwrap();
        let number = |name: &str| get(name).parse::<i64>().ok();
        let level = |name: &str, codes: &[&str]| {
            codes.iter().position(|c| c.eq_ignore_ascii_case(get(name))).map(|i| i as u16)
        };
        rows.entry(get("COUNTRY").to_lowercase()).or_default().push(Row {
            age: number("AGE"),
            sex: level("SEX", &["F", "M"]),
            sbp: number("RSBP"),
            delay: number("RDELAY"),
            consciousness: level("RCONSC", &["F", "D", "U"]),
            aspirin: level("RXASP", &["N", "Y"]),
            death14: level("ID14", &["0", "1"]).filter(|_| get("SET14D") == "1"),
            recurrence14: level("ISC14", &["0", "1"]),
            dead_dep_6m: match get("OCCODE") {
                "1" | "2" => Some(1),
                "3" | "4" => Some(0),
                _ => None,
            },
        });
    }
    assert_eq!(rows.len(), 36);
    Some(Trial { sites: rows.iter().map(|(c, r)| (c.clone(), frame(r))).collect(), reference })
}

fn parties(sites: &Sites) -> Vec<String> {
    sites.keys().cloned().collect()
}

fn f(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn mantel_haenszel_over_36_countries_equals_the_pooled_computation() {
    let Some(Trial { sites, reference }) =
        trial("mantel_haenszel_over_36_countries_equals_the_pooled_computation")
    else {
        return;
    };
    let dict = dictionary(8192);
    for (outcome, key) in
        [("death14", "mh_aspirin_death14_by_country"), ("dead_dep_6m", "mh_aspirin_dead_dep_6m_by_country")]
    {
        let reference = &reference[key];
        let analyses = vec![mantel_haenszel("mh", "aspirin=yes", &format!("{outcome}=yes"))];
        let study = study("mh", &parties(&sites), &["aspirin", outcome], analyses);
        let plan = plan(&study, &dict, vec![]).unwrap();
        let out = run(&study, &dict, &plan, &sites).unwrap();
        let Table::MantelHaenszel { counts, n, odds_ratio, log_odds_ratio, se, cmh, cmh_corrected, .. } =
            &out.results[0].table
        else {
            panic!()
        };
        let mut expected = [[0u64; 2]; 2];
        for table in reference["tables_a_b_c_d"].as_object().unwrap().values() {
            for i in 0..4 {
                expected[i / 2][i % 2] += table[i].as_u64().unwrap();
            }
        }
        assert_eq!(*counts, expected, "{key}");
        assert_eq!(*n, expected.iter().flatten().sum::<u64>());
        if outcome == "death14" {
            assert_eq!(*n, 19_433);
            assert_eq!(out.guard[..5], [19_435.0, 0.0, 2.0, 19_433.0, counts[0][0] as f64]);
        }
        for (what, found) in [
            ("or_mh", odds_ratio),
            ("log_or_mh", log_odds_ratio),
            ("se_log_or_mh_rbg", se),
            ("cmh_chi2", &cmh.chi2),
            ("cmh_p", &cmh.p),
            ("cmh_chi2_corrected", &cmh_corrected.chi2),
        ] {
            let (found, expected) = (found.to_f64(), f(&reference[what]));
            println!("{key} {what}: relative error {:.1e}", (found / expected - 1.0).abs());
            close(found, expected, 1e-8, what);
        }
    }
}

#[test]
fn logistic_regression_over_36_countries_equals_the_pooled_computation() {
    let Some(Trial { sites, reference }) =
        trial("logistic_regression_over_36_countries_equals_the_pooled_computation")
    else {
        return;
    };
    let reference = &reference["logistic_dead_dep_6m"];
    let dict = dictionary(8192);
    let complete = ["dead_dep_6m", "age", "sex", "sbp", "delay", "consciousness", "aspirin"];
    let formula = "dead_dep_6m ~ age + sex + sbp + delay + consciousness + aspirin";
    let study = study("logistic", &parties(&sites), &complete, vec![logistic("model", formula, 12)]);
    let plan = plan(&study, &dict, vec![]).unwrap();
    let out = run(&study, &dict, &plan, &sites).unwrap();
    let Table::Logistic {
        n, events, rounds, coefficients, deviance, null_deviance, df_residual, aic, ..
    } = &out.results[0].table
    else {
        panic!()
    };
    println!("rounds {rounds}, numbers opened at most {}", plan.numbers_opened());
    assert_eq!((*n, *events, *df_residual), (19_285, 12_125, 19_277));
    let terms: Vec<&str> = coefficients.iter().map(|c| c.term.as_str()).collect();
    let expected = [
        "(intercept)",
        "age",
        "sex=male",
        "sbp",
        "delay",
        "consciousness=drowsy",
        "consciousness=unconscious",
        "aspirin=yes",
    ];
    assert_eq!(terms, expected);
    let mut worst = [0.0f64; 4];
    for (i, c) in coefficients.iter().enumerate() {
        let pairs = [(&c.estimate, "coef"), (&c.se, "se"), (&c.z, "z"), (&c.p, "p")];
        for (k, (found, key)) in pairs.into_iter().enumerate() {
            let (found, expected) = (found.to_f64(), f(&reference[key][i]));
            worst[k] = worst[k].max((found / expected - 1.0).abs());
            close(found, expected, 1e-8, &format!("{key} of {}", c.term));
        }
    }
    println!(
        "greatest relative error of coefficients, SE, z, p: {}",
        worst.map(|w| format!("{w:.1e}")).join(", ")
    );
    for (found, key) in [(deviance, "deviance"), (null_deviance, "null_deviance"), (aic, "aic")] {
        let (found, expected) = (found.to_f64(), f(&reference[key]));
        println!("{key}: relative error {:.1e}", (found / expected - 1.0).abs());
        close(found, expected, 1e-8, key);
    }
}

#[test]
fn one_study_with_all_methods_passes_the_release_check_and_shows_no_country() {
    let Some(Trial { sites, .. }) =
        trial("one_study_with_all_methods_passes_the_release_check_and_shows_no_country")
    else {
        return;
    };
    let dict = dictionary(8192);
    let complete =
        ["dead_dep_6m", "death14", "recurrence14", "age", "sex", "sbp", "delay", "consciousness", "aspirin"];
    let analyses = vec![
        mantel_haenszel("mh", "aspirin=yes", "death14=yes"),
        logistic("model", "dead_dep_6m ~ age + sex + sbp + delay + consciousness + aspirin", 12),
        describe("at-entry", &["age", "sbp"]),
        crosstab("recurrence", &["aspirin", "recurrence14"], false),
    ];
    let study = study("all", &parties(&sites), &complete, analyses);
    let plan = plan(&study, &dict, vec![]).unwrap();
    let out = run(&study, &dict, &plan, &sites).unwrap();
    let values = out.results.iter().map(|r| canon::to_value(r).unwrap()).collect();
    let cells = study::guard_cells(&study, &dict, &plan.earlier);
    let run = Run { number: 1, plan: Digest::of(b"plan"), contributors: parties(&sites), salt: [7; 16] };
    let release =
        Release::check(&study, &plan, &run, &cells, &out.guard, values, &ReleaseRules::of(&study)).unwrap();
    println!("{}", analysis::render_population(&release.document().population));
    for value in &release.document().results {
        let result: analysis::AnalysisResult = canon::from_value(value.clone()).unwrap();
        println!("{}", analysis::render(&result));
    }
    assert_eq!(release.document().results.len(), 4);
    // Both are small enough to be recognised; in the results no country has a line of its own.
    assert_eq!((sites["fran"].rows, sites["japa"].rows), (2, 9));
    let shown = canon::to_bytes(&release.document().results).unwrap();
    let shown = String::from_utf8(shown).unwrap();
    assert!(sites.keys().all(|site| !shown.contains(&format!("\"{site}"))));
    assert_eq!(release.document().hidden_sites, 35);
}

#[test]
fn moments_and_counts_are_exact() {
    let Some(Trial { sites, reference }) = trial("moments_and_counts_are_exact") else {
        return;
    };
    let dict = dictionary(8192);
    let analyses = vec![
        describe("moments", &["age", "sbp", "delay"]),
        crosstab("recurrence", &["aspirin", "recurrence14"], false),
    ];
    let complete = ["age", "sbp", "delay", "aspirin", "recurrence14"];
    let study = study("exact", &parties(&sites), &complete, analyses);
    let plan = plan(&study, &dict, vec![]).unwrap();
    let out = run(&study, &dict, &plan, &sites).unwrap();
    let Table::Describe { columns } = &out.results[0].table else { panic!() };
    for (found, name) in columns.iter().zip(["AGE", "RSBP", "RDELAY"]) {
        let expected = &reference["describe"]["pooled"][name];
        assert_eq!(found.n, 19_435);
        close(found.mean.to_f64(), f(&expected["mean"]), 1e-15, name);
        close(found.sd.to_f64(), f(&expected["sd"]), 1e-14, name);
    }
    let Table::Crosstab { counts, shape, .. } = &out.results[1].table else { panic!() };
    let expected = reference["aspirin_x_isch_recurrence14"]["counts"].as_array().unwrap();
    let expected: Vec<Option<u64>> =
        expected.iter().flat_map(|r| r.as_array().unwrap()).map(Value::as_u64).collect();
    assert_eq!((shape.as_slice(), counts), ([2, 2].as_slice(), &expected));
}
