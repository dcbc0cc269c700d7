//! Studies that are refused, each with its place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::Mapping;
use proptest::prelude::*;

const DICTIONARY: &str = include_str!("../../../../studies/ist/dictionary.toml");
const MAPPING: &str = include_str!("../../../../studies/ist/mapping.toml");
const ASPIRIN: &str = include_str!("../../../../studies/ist/aspirin.toml");
const TOO_FINE: &str = include_str!("../../../../studies/ist/too-fine.toml");
const NEAR_MISS: &str = include_str!("../../../../studies/ist/near-miss.toml");
const MENDED: &str = include_str!("../../../../studies/ist/near-miss-mended.toml");

fn dictionary() -> Dictionary {
    Dictionary::parse("dictionary.toml", DICTIONARY).unwrap()
}

#[test]
fn the_shipped_studies_are_well_formed() {
    let dictionary = dictionary();
    Mapping::parse_with("mapping.toml", MAPPING, &dictionary).unwrap();
    for (name, text) in [("a", ASPIRIN), ("t", TOO_FINE), ("n", NEAR_MISS), ("m", MENDED)] {
        let study = Study::parse_with(name, text, &dictionary).unwrap();
        study.check(&dictionary).unwrap();
    }
}

#[test]
fn near_miss_and_its_mend_share_the_population_of_aspirin_and_differ_in_one_number() {
    let [aspirin, near_miss, mut mended] =
        [ASPIRIN, NEAR_MISS, MENDED].map(|text| Study::parse("x", text).unwrap());
    assert_eq!(near_miss.population, aspirin.population);
    assert_eq!((near_miss.protection.min_cell, mended.protection.min_cell), (8, 10));
    mended.protection.min_cell = 8;
    mended.id = near_miss.id.clone();
    assert_eq!(mended, near_miss);
}

#[test]
fn json_and_toml_say_the_same() {
    for text in [ASPIRIN, TOO_FINE] {
        let study = Study::parse("x", text).unwrap();
        let json = serde_json::to_string(&study).unwrap();
        assert_eq!(serde_json::from_str::<Study>(&json).unwrap(), study);
    }
    let json = serde_json::to_string(&Study::parse("x", ASPIRIN).unwrap()).unwrap();
    assert!(
        serde_json::from_str::<Study>(&json.replace("\"event\":\"yes\"", "\"event\":\"yes\",\"x\":1"))
            .is_err()
    );
    assert!(serde_json::from_str::<Study>(&json.replace("\"grid\":40", "\"by\":[],\"grid\":40")).is_err());
}

/// Replaces the first `from` and returns the refusal without the name of the file.
fn refusal(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "`{from}` is in the study");
    let error = Study::parse_with("s", &text.replacen(from, to, 1), &dictionary()).unwrap_err();
    assert!(error.place.line > 0 || error.found.starts_with("no `"), "{error} has a place");
    error.to_string()
}

#[test]
fn every_fault_of_a_study_has_its_place() {
    let cases = [
        ("id = \"aspirin\"", "id = \"Aspirin\"", "s:4:6: found `Aspirin`, expected a name"),
        ("title = \"Aspirin", "titel = \"Aspirin", "s: found no `title`"),
        ("collector = \"no\"", "collector = [\"no\"]", "s:9:13: found a list, expected text"),
        ("[\"ch\", \"se\"]", "[\"ch\"]", "s:10:15: found 1 names, expected 2 to"),
        ("[\"ch\", \"se\"]", "[\"ch\", \"ch\"]", "s:10:22: found `ch` again"),
        ("recipients = [\"gb\"]", "recipients = []", "s:11:14: found 0 recipients"),
        (
            "recipients = [\"gb\"]",
            "recipients = [\"gb\", { name = \"x\" }]",
            "s:11:21: found no `jurisdiction`",
        ),
        ("minimum_contributors = 9", "minimum_contributors = 10", "s:14:24: found `10`, expected 1 to 9"),
        ("ist-core/1", "ist-core/2", "s:15:14: found `ist-core/2`, expected `ist-core/1`"),
        ("2030-12-31", "2030-02-30", "s:16:9: found `2030-02-30`, expected a day"),
        ("2030-12-31", "20301231", "s:16:9: found `20301231`, expected a day"),
        ("min_cell = 11", "min_cell = 0", "s:19:12: found `0`, expected a whole number from 1"),
        ("min_cell = 11", "min_cell = 11\nepsilon = 1", "s:20:1: found the unknown key `epsilon`"),
        ("complete = [\n  \"age\"", "complete = [\n  \"aeg\"", "s:24:3: found `aeg`, expected a column"),
        ("\"sbp\", \"delay\"", "\"delay\"", "s:38:38: found `sbp`, which may be missing"),
        ("mantel-haenszel", "mantel", "s:30:10: found `mantel`, expected `mantel-haenszel`"),
        ("aspirin=yes", "aspirin", "s:31:12: found `aspirin`, expected a column and its level"),
        ("aspirin=yes", "aspirin=maybe", "s:31:21: found `maybe`, expected one of `no`, `yes`"),
        ("death14=yes", "aspirin=no", "s:32:11: found the exposure again"),
        ("death14=yes", "sbp=yes", "s:32:11: found the number `sbp`"),
        ("~ age + sex", "~ age * sex", "s:38:30: found `*`, expected `+`"),
        ("~ age + sex", "~ age + sxe", "s:38:32: found `sxe`, expected a column"),
        ("dead_dep_6m ~", "sbp ~", "s:38:30: found `sbp` again"),
        ("event = \"yes\"", "event = \"dead\"", "s:39:9: found `dead`, expected one of `no`, `yes`"),
        ("max_rounds = 12", "max_rounds = 0", "s:40:14: found `0`, expected a whole number from 2 to 50"),
        ("grid = 40", "grid = 60", "s:41:8: found `60`, expected a whole number from 38 to 46"),
        ("[\"age\", \"sbp\"]", "[\"age\", \"sex\"]", "s:47:19: found the factor `sex`"),
        ("id = \"baseline\"", "id = \"death\"", "s:44:6: found a second analysis `death`"),
    ];
    let mut wrong = Vec::new();
    for (from, to, expected) in cases {
        let error = refusal(ASPIRIN, from, to);
        if !error.starts_with(expected) {
            wrong.push(format!("{error}\ndoes not start with\n{expected}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn conditions_fit_their_columns() {
    let cases = [
        ("column = \"sex\"", "found a condition on the factor `sex`"),
        ("column = \"sex\", in = [\"boy\"]", "found `boy`, expected one of"),
        ("column = \"sex\", in = [\"male\", \"male\"]", "found `male` again"),
        ("column = \"age\", in = [\"male\"]", "found a condition on the number `age`"),
        ("column = \"age\", min = -1", "found `-1`, expected a number within"),
        ("column = \"age\", min = 70, max = 60", "found `min` above `max`"),
        ("column = \"x\", min = 70", "found `x`, expected a column"),
    ];
    for (condition, expected) in cases {
        let with = format!("[population]\nwhere = [{{ {condition} }}]\n");
        let error = refusal(ASPIRIN, "[population]\n", &with);
        assert!(error.contains(expected) && error.starts_with("s:23:"), "{error}\ndoes not say\n{expected}");
    }
    let good = ASPIRIN.replacen(
        "[population]\n",
        "[population]\nwhere = [{ column = \"age\", min = 70 }, { column = \"heparin\", in = [\"none\"] }]\n",
        1,
    );
    let study = Study::parse_with("s", &good, &dictionary()).unwrap();
    assert!(study.columns().contains("heparin"));
}

#[test]
fn a_table_that_is_too_large_is_refused() {
    let error = refusal(TOO_FINE, "by = [\"sex\"", "by = [\"sbp\", \"sex\"");
    assert!(error.contains("found `sbp`, which may be missing"), "{error}");
    let text = TOO_FINE.replacen("complete = [\"sex\"", "complete = [\"sbp\", \"delay\", \"sex\"", 1);
    let error = refusal(&text, "by = [\"sex\"", "by = [\"sbp\", \"delay\", \"sex\"");
    assert!(error.contains("found a table of"), "{error}");
}

proptest! {
    #[test]
    fn a_damaged_study_is_refused_or_still_well_formed(
        at in 0usize..ASPIRIN.len(), with in "[ -~]{0,3}",
    ) {
        let mut text = ASPIRIN.to_string();
        if text.is_char_boundary(at) && text.is_char_boundary(at + 1) {
            text.replace_range(at..=at, &with);
        }
        if let Ok(study) = Study::parse_with("s", &text, &dictionary()) {
            study.check(&dictionary()).unwrap();
        }
    }
}
