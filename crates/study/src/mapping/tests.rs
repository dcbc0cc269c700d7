//! Mappings that are refused, each with its place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

const DICTIONARY: &str = r#"
id = "toy/1"
title = "A toy"
max_rows = 64
unit = "patient"
column = [
  { name = "name", label = "Name", role = "identifier", type = "integer", min = 0, max = 9 },
  { name = "age", label = "Age", role = "plain", type = "integer", min = 0, max = 120 },
  { name = "sex", label = "Sex", role = "plain", type = "factor", levels = [
    { code = "female", label = "Female" }, { code = "male", label = "Male" } ] },
]
"#;

const GOOD: &str = r#"dictionary = "toy/1"
[column]
age = { from = "AGE", missing = ["", "?"] }
sex = { from = "SEX", fold_case = true, recode = { M = "male", F = "female" } }
[[test]]
row = { AGE = "7", SEX = "m" }
expect = { age = "7", sex = "male" }
"#;

fn dictionary() -> Dictionary {
    Dictionary::parse("toy.toml", DICTIONARY).unwrap()
}

#[test]
fn a_mapping_that_people_write_is_read() {
    let mapping = Mapping::parse_with("m.toml", GOOD, &dictionary()).unwrap();
    mapping.check(&dictionary()).unwrap();
    assert_eq!(mapping.sources().into_iter().collect::<Vec<_>>(), ["AGE", "SEX"]);
    let json = serde_json::to_string(&mapping).unwrap();
    assert_eq!(serde_json::from_str::<Mapping>(&json).unwrap(), mapping);
}

#[test]
fn every_fault_has_its_place() {
    let cases = [
        ("toy/1", "toy/2", "m.toml:1:14: found `toy/2`, expected `toy/1`"),
        ("age = {", "agee = {", "m.toml:2:1: found no rule for the column `age`"),
        ("sex = {", "name = { from = \"X\" }\nsex = {", "m.toml:4:8: found a rule for the identifier `name`"),
        ("\"?\"]", "\"\"]", "m.toml:3:38: found `` twice"),
        ("[\"\", \"?\"]", "[1]", "m.toml:3:34: found a whole number, expected text in quotes for `missing`"),
        ("from = \"AGE\"", "form = \"AGE\"", "m.toml:3:9: found the unknown key `form`"),
        ("\"male\", F", "\"man\", F", "m.toml:4:56: found `man`, expected one of `female`, `male`"),
        ("F = \"female\"", "m = \"male\"", "m.toml:4:68: found `m` twice"),
        ("fold_case", "multiply = 2, fold_case", "m.toml:4:34: found `multiply` for a factor"),
        ("from = \"AGE\"", "from = \"AGE\", divide = 0", "m.toml:3:32: found `0`"),
        ("from = \"AGE\"", "from = \"AGE\", split = \"-\"", "m.toml:3:31: found `split` alone"),
        ("{ from = \"AGE\", missing = [\"\", \"?\"] }", "{}", "m.toml:3:7: found a rule that reads nothing"),
        ("AGE = \"7\"", "AG = \"7\"", "m.toml:6:14: found `AG`"),
        ("age = \"7\"", "age = \"700\"", "m.toml:7:18: found `700`, expected a whole number from 0 to 120"),
        (
            "[[test]]\nrow = { AGE = \"7\", SEX = \"m\" }\nexpect = { age = \"7\", sex = \"male\" }",
            "",
            "m.toml:1:1: found no example",
        ),
    ];
    let mut wrong = Vec::new();
    for (from, to, expected) in cases {
        assert!(GOOD.contains(from), "{from}");
        let error =
            Mapping::parse_with("m.toml", &GOOD.replace(from, to), &dictionary()).unwrap_err().to_string();
        if !error.starts_with(expected) {
            wrong.push(format!("{error}\ndoes not start with\n{expected}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_site_may_say_that_it_lacks_a_column() {
    let text = GOOD.replace("{ from = \"AGE\", missing = [\"\", \"?\"] }", "{ otherwise = \"missing\" }");
    let text = text.replace("AGE = \"7\", ", "").replace("age = \"7\"", "age = \"missing\"");
    Mapping::parse_with("m.toml", &text, &dictionary()).unwrap();
}
