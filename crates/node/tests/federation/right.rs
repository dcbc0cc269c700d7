//! Right: what a federation gives is what all rows in one place would give.

use crate::house::{EIGHT, House, MAPPING, Setup, count, names, shared, study};
use crate::pooled;
use analysis::{AnalysisResult, Number, Table};
use node::control::Command;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

fn near(what: &str, found: f64, expected: f64) {
    let off = (found - expected).abs() / expected.abs().max(1e-300);
    assert!(off <= 1e-8, "{what}: found {found:e}, expected {expected:e}, off by {off:e}");
}

fn number(what: &str, found: &Number, expected: f64) {
    near(what, found.to_f64(), expected);
}

fn results(output: &Value) -> Vec<AnalysisResult> {
    serde_json::from_value(output["results"].clone()).unwrap()
}

fn every_text(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::String(s) => {
            into.insert(s.clone());
        }
        Value::Array(all) => all.iter().for_each(|v| every_text(v, into)),
        Value::Object(all) => all.iter().for_each(|(k, v)| {
            into.insert(k.clone());
            every_text(v, into);
        }),
        _ => {}
    }
}

/// The country of the trial's abbreviation and where its member sits. The test is about numbers: members of
/// countries for which no schedule ships are said to sit in one for which one does.
const COUNTRIES: [(&str, &str, &str); 36] = [
    ("ARGE", "Argentina", "AR"),
    ("AUSL", "Australia", "AU"),
    ("AUST", "Austria", "AT"),
    ("BELG", "Belgium", "BE"),
    ("BRAS", "Brazil", "CH"),
    ("CANA", "Canada", "CH"),
    ("CHIL", "Chile", "AR"),
    ("CZEC", "Czech", "CZ"),
    ("DENM", "Denmark", "DK"),
    ("EIRE", "Ireland", "IE"),
    ("FINL", "Finland", "FI"),
    ("FRAN", "France", "FR"),
    ("GREE", "Greece", "GR"),
    ("HONG", "Hong Kong", "GB"),
    ("HUNG", "Hungary", "HU"),
    ("INDI", "India", "GB"),
    ("ISRA", "Israel", "CH"),
    ("ITAL", "Italy", "IT"),
    ("JAPA", "Japan", "CH"),
    ("NETH", "Netherlands", "NL"),
    ("NEW", "New Zealand", "AU"),
    ("NORW", "Norway", "NO"),
    ("POLA", "Poland", "PL"),
    ("PORT", "Portugal", "PT"),
    ("ROMA", "Romania", "RO"),
    ("SING", "Singapore", "AU"),
    ("SLOK", "Slovakia", "SK"),
    ("SLOV", "Slovenia", "SI"),
    ("SOUT", "South Africa", "GB"),
    ("SPAI", "Spain", "ES"),
    ("SRI", "Sri Lanka", "GB"),
    ("SWED", "Sweden", "SE"),
    ("SWIT", "Switzerland", "CH"),
    ("TURK", "Turkey", "CH"),
    ("UK", "United Kingdom", "GB"),
    ("USA", "United States", "CH"),
];

const INSTRUMENTS: &str = "[[instruments]]\nid = \"clauses\"\nmechanism = \"clauses\"\n\
    exporters = [\"EU\", \"GB\", \"CH\", \"AR\"]\nimporters = [\"AU\"]\nreference = \"fictitious\"\n\n\
    [[instruments]]\nid = \"accountability\"\nmechanism = \"accountability\"\nexporters = [\"AU\"]\n\
    importers = [\"EU\", \"GB\", \"CH\", \"AR\"]\nreference = \"fictitious\"\n";

fn of_all(id: &str, complete: &str, analysis: &str) -> String {
    let ids: Vec<String> = COUNTRIES.iter().map(|(c, ..)| format!("\"{}\"", c.to_lowercase())).collect();
    format!(
        "id = \"{id}\"\ntitle = \"A question to all\"\npurpose = \"stroke-research\"\ndomain = \"health\"\n\
         requester = \"uk\"\ncollector = \"norw\"\naggregators = [\"swit\", \"swed\"]\nrecipients = [\"uk\"]\n\
         dataset = \"ist\"\ncontributors = [{}]\nminimum_contributors = 36\ndictionary = \"ist-core/1\"\n\
         until = \"2030-12-31\"\n\n[protection]\nmin_cell = 11\nmin_hidden_sites = 3\n\n[population]\n\
         complete = [{complete}]\n\n[[analysis]]\n{analysis}",
        ids.join(", ")
    )
}

fn run(house: &mut House, id: &str, text: &str) -> Value {
    house.must("uk", Command::StudySubmit { file: "study.toml".into(), text: text.into() });
    house.settle();
    for member in house.ids() {
        house.must(&member, Command::DecideApprove { study: id.into() });
    }
    house.settle();
    house.no_errors();
    let reply = house.must("uk", Command::StudyResult { id: id.into() });
    // Those named by their country in the output: as members whose rows were summed, and nowhere else.
    let mut texts = BTreeSet::from([reply.text.clone()]);
    let output = &reply.data["output"];
    every_text(&output["results"], &mut texts);
    every_text(&output["population"], &mut texts);
    for text in &texts {
        let words: BTreeSet<String> =
            text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase).collect();
        for (code, name, _) in COUNTRIES {
            assert!(!words.contains(&code.to_lowercase()), "{id} names {code}: {text}");
            assert!(!text.contains(name), "{id} names {name}: {text}");
        }
    }
    output.clone()
}

#[test]
fn all_36_countries_of_the_real_trial_give_the_reference() {
    let test = "all_36_countries_of_the_real_trial_give_the_reference";
    let (Some(csv), Some(json)) = (shared("ist/ist_core.csv", test), shared("ist/reference.json", test))
    else {
        return;
    };
    let reference: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let mut parts = engine::split::by_column(&csv, "COUNTRY").unwrap();
    let rows = |code: &str| parts[code].lines().count() - 1;
    assert_eq!((parts.len(), rows("FRAN"), rows("JAPA")), (36, 2, 9));
    let members = COUNTRIES
        .iter()
        .map(|(code, _, jurisdiction)| (code.to_lowercase(), jurisdiction.to_string(), parts.remove(*code)))
        .collect();
    let setup = Setup {
        members,
        pool: names(&["swit", "swed", "arge", "ausl"]),
        quorum: 36,
        instruments: INSTRUMENTS.into(),
        ..Setup::eight()
    };
    let mut house = setup.build();

    let text = of_all(
        "death",
        "\"death14\", \"aspirin\"",
        "id = \"mh\"\nmethod = \"mantel-haenszel\"\nexposure = \"aspirin=yes\"\noutcome = \"death14=yes\"\n",
    );
    let output = run(&mut house, "death", &text);
    assert_eq!(output["population"]["analysed"], 19_433);
    let expected = &reference["mh_aspirin_death14_by_country"];
    let tables = expected["tables_a_b_c_d"].as_object().unwrap();
    let sum = |at: usize| tables.values().map(|t| t[at].as_u64().unwrap()).sum::<u64>();
    let Table::MantelHaenszel {
        counts, n, events, odds_ratio, log_odds_ratio, se, cmh, cmh_corrected, ..
    } = &results(&output)[0].table
    else {
        panic!("not a Mantel-Haenszel result");
    };
    assert_eq!(*counts, [[sum(0), sum(1)], [sum(2), sum(3)]]);
    assert_eq!((*n, *events), (19_433, sum(0) + sum(2)));
    let at = |key: &str| expected[key].as_f64().unwrap();
    number("odds ratio", odds_ratio, at("or_mh"));
    number("its logarithm", log_odds_ratio, at("log_or_mh"));
    number("its error", se, at("se_log_or_mh_rbg"));
    number("the test", &cmh.chi2, at("cmh_chi2"));
    number("the corrected test", &cmh_corrected.chi2, at("cmh_chi2_corrected"));

    let text = of_all(
        "dependency",
        "\"dead_dep_6m\", \"age\", \"sex\", \"sbp\", \"delay\", \"consciousness\", \"aspirin\"",
        "id = \"fit\"\nmethod = \"logistic\"\nevent = \"yes\"\nmax_rounds = 12\ngrid = 40\n\
         formula = \"dead_dep_6m ~ age + sex + sbp + delay + consciousness + aspirin\"\n",
    );
    let output = run(&mut house, "dependency", &text);
    assert_eq!(output["population"]["analysed"], 19_285);
    let expected = &reference["logistic_dead_dep_6m"];
    let list = |key: &str| -> Vec<f64> {
        expected[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    };
    let Table::Logistic { n, coefficients, deviance, null_deviance, aic, df_residual, .. } =
        &results(&output)[0].table
    else {
        panic!("not a regression");
    };
    assert_eq!((*n, *df_residual), (19_285, 19_277));
    assert_eq!(coefficients.len(), 8);
    for (((c, coef), se), z) in coefficients.iter().zip(list("coef")).zip(list("se")).zip(list("z")) {
        number(&c.term, &c.estimate, coef);
        number(&format!("error of {}", c.term), &c.se, se);
        number(&format!("z of {}", c.term), &c.z, z);
    }
    let at = |key: &str| expected[key].as_f64().unwrap();
    number("deviance", deviance, at("deviance"));
    number("null deviance", null_deviance, at("null_deviance"));
    number("aic", aic, at("aic"));

    let file = house.folder("ausl").join("dependency.bundle");
    let out = file.display().to_string();
    house.must("ausl", Command::BundleExport { study: "dependency".into(), out });
    let bundle = std::fs::read(&file).unwrap();
    let verified = node::verify::verify_bundle(&bundle, Some(house.pin()));
    assert_eq!(verified.exit, 0, "{}", verified.text);
    assert_ne!(node::verify::verify_bundle(&bundle, None).exit, 0, "unpinned, yet accepted");
}

#[test]
fn generated_rows_give_what_a_second_implementation_gives() {
    let mut house = House::eight();
    let columns = ["dead_dep_6m", "age", "sex", "heparin", "aspirin", "death14", "sbp"];
    let analyses = "[[analysis]]\nid = \"mh\"\nmethod = \"mantel-haenszel\"\nexposure = \"aspirin=yes\"\n\
        outcome = \"death14=yes\"\n\n[[analysis]]\nid = \"fit\"\nmethod = \"logistic\"\nevent = \"yes\"\n\
        formula = \"dead_dep_6m ~ age + sex + heparin + aspirin\"\nmax_rounds = 8\ngrid = 40\n\n\
        [[analysis]]\nid = \"moments\"\nmethod = \"describe\"\ncolumns = [\"age\", \"sbp\"]\n";
    house.ask_and_approve("all", &study("all", &columns, analyses));
    house.settle();
    house.no_errors();
    let output = house.output("all");

    let dir = tempfile::tempdir().unwrap();
    assert!(MAPPING.contains("dictionary"), "the mapping is the shipped one");
    let frames: Vec<_> = EIGHT
        .iter()
        .filter_map(|(id, _, country)| {
            let path = dir.path().join(format!("{id}.csv"));
            std::fs::write(&path, engine::generate::ist(&[(*country)?], 1991)).unwrap();
            Some(pooled::rows(&path))
        })
        .collect();
    let mut rows = Vec::new();
    let (mut ages, mut pressures) = (Vec::new(), Vec::new());
    for frame in &frames {
        for i in pooled::complete(frame, &columns) {
            let level = |column: &str, level: &str| pooled::is(frame, column, level, i).unwrap();
            let integer = |column: &str| match &frame.columns[column] {
                analysis::Data::Integer(v) => v[i].unwrap() as f64,
                analysis::Data::Factor(_) => panic!("{column} is a factor"),
            };
            ages.push(integer("age"));
            pressures.push(integer("sbp"));
            let x = vec![
                1.0,
                integer("age"),
                level("sex", "male"),
                level("heparin", "low"),
                level("heparin", "medium"),
                level("aspirin", "yes"),
            ];
            rows.push((x, level("dead_dep_6m", "yes")));
        }
    }
    let (log_or, se_log_or, counts_pooled) = pooled::mantel_haenszel(&frames, &columns);
    let (beta, errors, pooled_deviance) = pooled::logistic(&rows);
    assert_eq!(output["population"]["analysed"].as_u64().unwrap(), rows.len() as u64);

    let mut seen = BTreeMap::new();
    for result in results(&output) {
        seen.insert(result.analysis.clone(), result.index);
        match &result.table {
            Table::MantelHaenszel { counts, log_odds_ratio, se, .. } => {
                assert_eq!(*counts, counts_pooled);
                number("log odds ratio", log_odds_ratio, log_or);
                number("its error", se, se_log_or);
            }
            Table::Logistic { coefficients, deviance, n, events, .. } => {
                assert_eq!(*n, rows.len() as u64);
                assert_eq!(*events, rows.iter().map(|r| r.1 as u64).sum::<u64>());
                assert_eq!(coefficients.len(), beta.len());
                for ((c, b), e) in coefficients.iter().zip(&beta).zip(&errors) {
                    number(&c.term, &c.estimate, *b);
                    number(&format!("error of {}", c.term), &c.se, *e);
                }
                number("deviance", deviance, pooled_deviance);
            }
            Table::Describe { columns } => {
                for (d, all) in columns.iter().zip([&ages, &pressures]) {
                    let mean = all.iter().sum::<f64>() / all.len() as f64;
                    let ss: f64 = all.iter().map(|x| (x - mean) * (x - mean)).sum();
                    number(&format!("mean of {}", d.column), &d.mean, mean);
                    number(&format!("sd of {}", d.column), &d.sd, (ss / (all.len() as f64 - 1.0)).sqrt());
                }
            }
            Table::Crosstab { .. } => panic!("not asked"),
        }
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn the_people_of_the_requester_read_it_and_nobody_else_does() {
    let mut house = House::eight();
    house.ask_and_approve("deaths", &count("deaths"));
    house.settle();
    house.no_errors();
    assert!(house.released("deaths"));
    for id in house.ids() {
        let reply = house.cmd(&id, Command::StudyResult { id: "deaths".into() });
        assert_eq!((reply.exit == 0, reply.data["output"].is_object()), (id == "gb", id == "gb"), "{id}");
    }
}
