//! A site's table on its way into a frame: the real trial, the generated one, and tables that are refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use analysis::{Data, Frame};
use engine::{EngineError, Governed, generate, split};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use study::{Dictionary, Kind, Mapping, Role};

const DICTIONARY: &str = include_str!("../../../studies/ist/dictionary.toml");
const MAPPING: &str = include_str!("../../../studies/ist/mapping.toml");

fn trial() -> (Dictionary, Mapping) {
    let dictionary = Dictionary::parse("dictionary.toml", DICTIONARY).unwrap();
    let mapping = Mapping::parse_with("mapping.toml", MAPPING, &dictionary).unwrap();
    (dictionary, mapping)
}

/// A file of the shared data folder: in `COMITY_SHARED` if that is set, else beside the repository.
fn shared(file: &str, test: &str) -> Option<PathBuf> {
    let found = match std::env::var_os("COMITY_SHARED").map(PathBuf::from) {
        Some(dir) => Some(dir.join("data").join(file)).filter(|path| path.exists()),
        None => Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .map(|dir| dir.join("shared/data").join(file))
            .find(|path| path.exists()),
    };
    if found.is_none() {
        println!("skipped for lack of the real data: {test}");
    }
    found
}

fn open(text: &str, mapping: &Mapping, dictionary: &Dictionary) -> Result<Governed, EngineError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("site.csv");
    std::fs::write(&path, text).unwrap();
    Governed::open(&path, mapping, dictionary)
}

/// Each country of a table, opened as a site of its own.
fn sites(path: &Path) -> BTreeMap<String, Frame> {
    let (dictionary, mapping) = trial();
    let parts = split::by_column(path, "COUNTRY").unwrap();
    let open = |text: &str| open(text, &mapping, &dictionary).unwrap_or_else(|e| panic!("{e}")).into_frame();
    parts.iter().map(|(country, text)| (country.clone(), open(text))).collect()
}

fn factor<'f>(frame: &'f Frame, name: &str) -> &'f [Option<u16>] {
    match frame.columns.get(name) {
        Some(Data::Factor(values)) => values,
        _ => panic!("{name} is a factor"),
    }
}

fn integer<'f>(frame: &'f Frame, name: &str) -> &'f [Option<i64>] {
    match frame.columns.get(name) {
        Some(Data::Integer(values)) => values,
        _ => panic!("{name} is a number"),
    }
}

/// Counts of two yes/no factors over all sites where both are known: no-no, no-yes, yes-no, yes-yes.
fn two_by_two(sites: &BTreeMap<String, Frame>, row: &str, column: &str) -> [u64; 4] {
    let mut counts = [0; 4];
    for frame in sites.values() {
        for pair in factor(frame, row).iter().zip(factor(frame, column)) {
            if let (Some(r), Some(c)) = pair {
                counts[usize::from(r * 2 + c)] += 1;
            }
        }
    }
    counts
}

/// Mean and standard deviation over all sites, missing left out.
fn moments(sites: &BTreeMap<String, Frame>, name: &str) -> (u64, i64, i64) {
    let values = || sites.values().flat_map(|frame| integer(frame, name).iter().flatten());
    (values().count() as u64, values().sum(), values().map(|v| v * v).sum())
}

fn counts(reference: &serde_json::Value, table: &str) -> Vec<u64> {
    let rows = reference[table]["counts"].as_array().unwrap().iter();
    rows.flat_map(|row| row.as_array().unwrap().iter().map(|count| count.as_u64().unwrap())).collect()
}

#[test]
fn all_36_countries_of_the_trial_map_to_the_reference_counts() {
    let name = "all_36_countries_of_the_trial_map_to_the_reference_counts";
    let (Some(path), Some(reference)) =
        (shared("ist/ist_core.csv", name), shared("ist/reference.json", name))
    else {
        return;
    };
    let reference: serde_json::Value = serde_json::from_slice(&std::fs::read(reference).unwrap()).unwrap();
    let sites = sites(&path);

    let rows: BTreeMap<String, u64> = serde_json::from_value(reference["rows_per_country"].clone()).unwrap();
    assert_eq!(rows.len(), 36);
    assert_eq!(
        sites.iter().map(|(country, f)| (country.clone(), f.rows as u64)).collect::<BTreeMap<_, _>>(),
        rows
    );

    let deaths = two_by_two(&sites, "aspirin", "death14");
    assert_eq!(deaths, [8805, 909, 8847, 872]);
    assert_eq!(deaths.to_vec(), counts(&reference, "aspirin_x_death14_known"));
    let outcomes = two_by_two(&sites, "aspirin", "dead_dep_6m");
    assert_eq!(outcomes, [3521, 6125, 3639, 6000]);
    assert_eq!(outcomes.to_vec(), counts(&reference, "aspirin_x_dead_dep_6m_known"));
    let recurrences = two_by_two(&sites, "aspirin", "recurrence14");
    assert_eq!(recurrences.to_vec(), counts(&reference, "aspirin_x_isch_recurrence14"));

    for (column, source) in [("age", "AGE"), ("sbp", "RSBP"), ("delay", "RDELAY")] {
        let expected = &reference["describe"]["pooled"][source];
        let number = |key: &str| expected[key].as_f64().unwrap() as i64;
        assert_eq!(moments(&sites, column), (19435, number("sum"), number("sum_sq")), "{column}");
    }

    // Tables of each country: exposed with event, exposed without, unexposed with, unexposed without.
    for (country, table) in
        reference["mh_aspirin_dead_dep_6m_by_country"]["tables_a_b_c_d"].as_object().unwrap()
    {
        let site = BTreeMap::from([(country.clone(), sites[country].clone())]);
        let [no_no, no_yes, yes_no, yes_yes] = two_by_two(&site, "aspirin", "dead_dep_6m");
        assert_eq!(serde_json::json!([yes_yes, yes_no, no_yes, no_no]), *table, "{country}");
    }
}

#[test]
fn the_trials_quirks_become_what_they_mean() {
    let Some(path) = shared("ist/ist_core.csv", "the_trials_quirks_become_what_they_mean") else {
        return;
    };
    let sites = sites(&path);
    let (dictionary, _) = trial();
    let count = |name: &str, level: &str| {
        let level = dictionary.column(name).unwrap().level(level);
        sites.values().flat_map(|frame| factor(frame, name)).filter(|value| **value == level).count()
    };
    let missing =
        |name: &str| sites.values().flat_map(|frame| factor(frame, name)).filter(|v| v.is_none()).count();
    assert_eq!(count("heparin", "medium"), 4611 + 245, "H means M");
    assert_eq!(count("aspirin_given", "yes"), 9071 + 1, "y means Y");
    assert_eq!(missing("final_ischaemic"), 23 + 16 + 3, "u means U");
    assert_eq!(missing("atrial_fibrillation"), 984, "not asked in the pilot");
    assert_eq!(missing("dead_dep_6m"), 150, "0 and 9 mean missing");
    assert_eq!(missing("death14"), 2, "status at 14 days not known");
    let october = std::fs::read_to_string(&path).unwrap().matches(",pa?-").count();
    assert!(october > 1000);
    assert_eq!(count("month", "oct"), october, "October's broken label");
}

#[test]
fn a_split_keeps_every_row_of_the_trial() {
    let Some(path) = shared("ist/ist_core.csv", "a_split_keeps_every_row_of_the_trial") else {
        return;
    };
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<&str> = text.lines().skip(1).collect();
    let parts = split::by_column(&path, "COUNTRY").unwrap();
    let mut split: Vec<&str> = parts.values().flat_map(|part| part.lines().skip(1)).collect();
    lines.sort_unstable();
    split.sort_unstable();
    assert!(lines == split, "the parts together are the whole");
    assert!(parts.values().all(|part| part.lines().next() == text.lines().next()));
}

#[test]
fn the_generated_trial_has_the_trials_shape_and_margins() {
    let codes: Vec<&str> = generate::COUNTRIES.iter().map(|country| country.code).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("generated.csv");
    std::fs::write(&path, generate::ist(&codes, 1)).unwrap();
    let sites = sites(&path);
    assert_eq!(sites.values().map(|frame| frame.rows).sum::<usize>(), 19435);
    for country in generate::COUNTRIES {
        assert_eq!(sites[country.code].rows as u32, country.rows, "{}", country.code);
    }

    let near = |what: &str, found: f64, published: f64, within: f64| {
        println!("{what}: {found:.4}, published {published}");
        assert!((found - published).abs() <= within, "{what}: {found} is not near {published}");
    };
    for (column, mean, sd) in [("age", 71.7, 11.6), ("sbp", 160.2, 27.6), ("delay", 20.1, 12.5)] {
        let (n, sum, squares) = moments(&sites, column);
        let average = sum as f64 / n as f64;
        near(column, average, mean, 0.6);
        near(&format!("{column} sd"), (squares as f64 / n as f64 - average * average).sqrt(), sd, 0.6);
    }
    let share = |name: &str, level: u16| {
        let known = || sites.values().flat_map(|frame| factor(frame, name).iter().flatten());
        known().filter(|value| **value == level).count() as f64 / known().count() as f64
    };
    near("male", share("sex", 1), 0.535, 0.015);
    near("drowsy", share("consciousness", 1), 0.219, 0.015);
    near("unconscious", share("consciousness", 2), 0.0134, 0.004);
    near("atrial fibrillation", share("atrial_fibrillation", 1), 0.172, 0.015);
    near("total anterior", share("stroke_type", 0), 0.239, 0.015);
    near("dead at 14 days", share("death14", 1), 0.0916, 0.006);
    near("dead or dependent", share("dead_dep_6m", 1), 0.6287, 0.012);
    near("dead at six months", share("outcome_6m", 0), 0.2199, 0.012);
    near("recurrence", share("recurrence14", 1), 0.0203, 0.003);
    near("heparin low", share("heparin", 1), 0.25, 0.012);
    near("aspirin", share("aspirin", 1), 0.5, 0.012);

    // Aspirin helps a little, so that the demonstration has something to find: odds ratio of recurrence about 0.63.
    let [a, b, c, d] = two_by_two(&sites, "aspirin", "recurrence14").map(|count| count as f64);
    near("recurrence odds ratio", (d * a) / (b * c), 0.626, 0.15);
}

#[test]
fn the_generated_trial_has_the_trials_quirks() {
    let text = generate::ist(&["UK", "ITAL", "POLA", "NETH", "SWED", "NORW", "SWIT", "AUSL", "ARGE"], 1);
    assert_eq!(generate::HEADER.split(',').count(), 57);
    let column = |name: &str| {
        let at = generate::HEADER.split(',').position(|h| h == name).unwrap();
        text.lines().skip(1).map(move |line| line.split(',').nth(at).unwrap())
    };
    for (name, code) in
        [("RDATE", "pa?-95"), ("RXHEP", "H"), ("DASP14", "y"), ("DDIAGISC", "u"), ("OCCODE", "9")]
    {
        assert!(column(name).any(|text| text == code), "{name} somewhere has {code}");
    }
    assert!(column("RATRIAL").any(str::is_empty));
    assert!(column("RDATE").all(|text| text.len() == 6));
    let header = shared("ist/ist_core.csv", "the_generated_trial_has_the_trials_quirks (first line)");
    if let Some(path) = header {
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().next(), Some(generate::HEADER));
    }
}

#[test]
fn a_country_is_generated_alike_whoever_else_is_asked_for() {
    let alone = generate::ist(&["NETH"], 7);
    let together = generate::ist(&["UK", "NETH"], 7);
    assert!(together.ends_with(alone.split_once('\n').unwrap().1));
    assert_ne!(generate::ist(&["NETH"], 8), alone);
    assert_eq!(generate::ist(&["XX"], 7).lines().count(), 1);
    // The same on every machine.
    let digest = record::Digest::of(alone.as_bytes()).to_string();
    assert_eq!(digest, "60027917a5acdfd3165e553a58e39a6095a543152dc682097d157f9fbf6bac36");
}

#[test]
fn every_value_is_within_the_public_domain_and_identifiers_stay_out() {
    let (dictionary, mapping) = trial();
    let site = open(&generate::ist(&["SWIT", "FINL"], 3), &mapping, &dictionary).unwrap();
    for column in &dictionary.columns {
        let data = site.frame().columns.get(&column.name);
        if column.role == Role::Identifier {
            assert!(data.is_none(), "{}", column.name);
            continue;
        }
        assert_eq!(data.unwrap().len(), site.frame().rows, "{}", column.name);
        match (&column.kind, data.unwrap()) {
            (Kind::Integer { min, max }, Data::Integer(values)) => {
                assert!(values.iter().flatten().all(|value| (min..=max).contains(&value)), "{}", column.name);
            }
            (Kind::Factor { levels, .. }, Data::Factor(values)) => {
                assert!(
                    values.iter().flatten().all(|value| usize::from(*value) < levels.len()),
                    "{}",
                    column.name
                );
            }
            _ => panic!("{} has the type that the dictionary says", column.name),
        }
    }
}

#[test]
fn an_unexpected_text_stops_the_site_with_its_place() {
    let (dictionary, mapping) = trial();
    let good = generate::ist(&["DENM"], 1);
    let damage = |line: usize, column: &str, to: &str| {
        let at = generate::HEADER.split(',').position(|h| h == column).unwrap();
        let mut lines: Vec<String> = good.lines().map(String::from).collect();
        let mut fields: Vec<&str> = lines[line - 1].split(',').collect();
        fields[at] = to;
        lines[line - 1] = fields.join(",");
        open(&lines.join("\n"), &mapping, &dictionary).unwrap_err()
    };
    let cases = [
        (damage(4, "SEX", "K"), ":4: field 6 (SEX) for `sex`: found `K`, expected one of `F`, `M`"),
        (damage(2, "SEX", "m"), ":2: field 6 (SEX) for `sex`: found `m`"),
        (
            damage(9, "AGE", ""),
            ":9: field 7 (AGE) for `age`: found ``, expected a number that becomes 0 to 120",
        ),
        (damage(9, "AGE", "200"), ":9: field 7 (AGE) for `age`: found `200`"),
        (damage(9, "AGE", "7e1"), ":9: field 7 (AGE) for `age`: found `7e1`"),
        (
            damage(3, "RDATE", "paz-95"),
            ":3: field 24 (RDATE) for `month`: found `paz`, expected one of `cze`, `gru`",
        ),
        (
            damage(3, "RDATE", "sty"),
            ":3: field 24 (RDATE) for `year`: found `sty`, expected at least 2 parts at `-`",
        ),
        (damage(5, "SET14D", "2"), ":5: field 45 (SET14D, ID14) for `death14`: found `2`, `"),
    ];
    for (error, expected) in cases {
        assert!(error.to_string().contains(expected), "{error}\ndoes not contain\n{expected}");
    }
}

#[test]
fn what_a_fault_quotes_stays_at_the_site() {
    let (dictionary, mapping) = trial();
    let text = generate::ist(&["DENM"], 1).replacen(",M,", ",CANARY,", 1);
    let error = open(&text, &mapping, &dictionary).unwrap_err();
    assert!(error.to_string().contains("CANARY"), "the steward at the site sees it");
    assert!(!format!("{error:?}").contains("CANARY") && !error.public().contains("CANARY"));
    let site = open(&generate::ist(&["DENM"], 1), &mapping, &dictionary).unwrap();
    let shown = format!("{site:?}");
    assert!(!shown.contains("35") && !shown.contains("Some"), "{shown}");
}

#[test]
fn tables_that_are_no_tables_are_refused() {
    let (dictionary, mapping) = trial();
    let good = generate::ist(&["DENM"], 1);
    let says = |text: &str| open(text, &mapping, &dictionary).unwrap_err().to_string();
    assert!(says("").contains("found an empty file"));
    assert!(says(&good.replacen("RSBP", "SBP", 1)).contains(":1: found no column `RSBP`"));
    assert!(says(&good.replacen("RSBP", "AGE", 1)).contains(":1: found the column `AGE` twice"));
    let (first, rest) = good.split_once('\n').unwrap();
    assert!(says(&format!("{first}\n1,DENM\n{rest}")).contains(":2: found 2 fields, expected 57"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("latin1.csv");
    let mut bytes = good.clone().into_bytes();
    let at = good.find(",M,").unwrap() + 1;
    bytes[at] = 0xe9;
    std::fs::write(&path, bytes).unwrap();
    let error = Governed::open(&path, &mapping, &dictionary).unwrap_err();
    assert!(error.to_string().contains("field 6 that is not UTF-8"), "{error}");
    let error = Governed::open(&dir.path().join("none.csv"), &mapping, &dictionary).unwrap_err();
    assert!(matches!(error, EngineError::Unreadable { .. }), "{error}");
}

#[test]
fn a_byte_order_mark_and_quotes_and_windows_lines_change_nothing() {
    let (dictionary, mapping) = trial();
    let good = generate::ist(&["DENM"], 1);
    let plain = open(&good, &mapping, &dictionary).unwrap();
    let quoted = good.replace(",DENM,", ",\"DENM\",").replace('\n', "\r\n");
    let other = open(&format!("\u{feff}{quoted}"), &mapping, &dictionary).unwrap();
    assert!(plain.frame() == other.frame());
}

#[test]
fn more_rows_than_the_dictionary_allows_are_refused() {
    let (mut dictionary, mapping) = trial();
    let good = generate::ist(&["DENM"], 1);
    dictionary.max_rows = 32;
    let error = open(&good, &mapping, &dictionary).unwrap_err();
    assert!(matches!(error, EngineError::TooManyRows { max_rows: 32, .. }), "{error}");
    dictionary.max_rows = 64;
    assert!(open(&good, &mapping, &dictionary).is_ok());
}

#[test]
fn a_mapping_that_fails_its_own_example_reads_no_row() {
    let (dictionary, mapping) = trial();
    let wrong = MAPPING.replacen("H = \"medium\"", "H = \"low\"", 1);
    let wrong = Mapping::parse_with("mapping.toml", &wrong, &dictionary).unwrap();
    let nowhere = Path::new("/nonexistent/site.csv");
    let error = Governed::open(nowhere, &wrong, &dictionary).unwrap_err();
    let expected = "example 1 of the mapping: `heparin`: found `low`, expected `medium`";
    assert!(error.to_string().starts_with(expected), "{error}");
    assert!(matches!(Governed::open(nowhere, &mapping, &dictionary), Err(EngineError::Unreadable { .. })));

    let mut other = mapping.clone();
    other.column.remove("age");
    assert!(matches!(Governed::open(nowhere, &other, &dictionary), Err(EngineError::Document(_))));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn a_damaged_table_is_refused_without_a_word_in_the_log(at in 0usize..3000, with in "[ -~\\n]{0,4}") {
        let (dictionary, mapping) = trial();
        let mut text = generate::ist(&["DENM"], 1);
        text.replace_range(at..=at, &with);
        if let Err(error) = open(&text, &mapping, &dictionary) {
            proptest::prop_assert_eq!(format!("{error:?}"), format!("EngineError({})", error.public()));
        }
    }
}

/// A dictionary and mapping for one column `x`, rule as written.
fn one_column(kind: &str, rule: &str, example: &str) -> (Dictionary, Mapping) {
    let column = format!("{{ name = \"x\", label = \"X\", role = \"plain\", {kind} }}");
    let dictionary =
        format!("id = \"toy/1\"\ntitle = \"t\"\nmax_rows = 8\nunit = \"row\"\ncolumn = [{column}]\n");
    let dictionary = Dictionary::parse("d", &dictionary).unwrap();
    let mapping = format!("dictionary = \"toy/1\"\n[column]\nx = {{ {rule} }}\n[[test]]\n{example}\n");
    let mapping = Mapping::parse_with("m", &mapping, &dictionary).unwrap_or_else(|e| panic!("{e}"));
    (dictionary, mapping)
}

#[test]
fn units_are_converted_and_codes_may_stand_beside_numbers() {
    let kind = "type = \"integer\", min = 0, max = 1000";
    let rule = "from = \"T\", decimal = \",\", multiply = 10, missing = [\"-\"], recode = { high = \"420\" }";
    let (dictionary, mapping) = one_column(kind, rule, "row = { T = \"37,45\" }\nexpect = { x = \"374\" }");
    let site = open("T\n\"36,6\"\nhigh\n-\n41\n", &mapping, &dictionary).unwrap();
    assert_eq!(integer(site.frame(), "x"), [Some(366), Some(420), None, Some(410)]);
    assert!(open("T\n101\n", &mapping, &dictionary).is_err(), "1010 is out of bounds");
    assert!(open("T\n36.6\n", &mapping, &dictionary).is_err(), "the decimal sign is a comma");
}

#[test]
fn cases_are_tried_in_order_and_otherwise_catches_the_rest() {
    let kind = "type = \"factor\", levels = [{ code = \"no\", label = \"No\" }, { code = \"yes\", label = \"Yes\" }]";
    let cases = "cases = [{ when = { A = \"1\" }, value = \"yes\" }, { when = { A = [\"1\", \"0\"], B = \"0\" }, value = \"no\" }]";
    let example = "row = { A = \"1\", B = \"0\" }\nexpect = { x = \"yes\" }";
    let (dictionary, mapping) = one_column(kind, cases, example);
    let site = open("A,B\n1,0\n0,0\n", &mapping, &dictionary).unwrap();
    assert_eq!(factor(site.frame(), "x"), [Some(1), Some(0)]);
    assert!(open("A,B\n0,9\n", &mapping, &dictionary).is_err(), "no case and no otherwise");
    let (dictionary, mapping) = one_column(kind, &format!("{cases}, otherwise = \"missing\""), example);
    let site = open("A,B\n0,9\n", &mapping, &dictionary).unwrap();
    assert_eq!(factor(site.frame(), "x"), [None]);
}

#[test]
fn a_column_that_the_site_lacks_is_missing_throughout() {
    let kind = "type = \"integer\", min = 0, max = 9";
    let (dictionary, mapping) =
        one_column(kind, "otherwise = \"missing\"", "row = {}\nexpect = { x = \"missing\" }");
    let site = open("Y\n1\n2\n", &mapping, &dictionary).unwrap();
    assert_eq!(integer(site.frame(), "x"), [None, None]);
}
