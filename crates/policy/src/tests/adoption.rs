//! A country schedule can only tighten, and one that could do anything else is refused with its line.

use super::sound;
use crate::{FLOOR, PolicySet, Schedule, decide, explain, flips, loosenings, schedule};
use proptest::prelude::*;
use study::DocumentError;

/// The Australian schedule with `rule` put in front of its rules: the new text begins on line 13.
fn with(rule: &str) -> Result<Schedule, DocumentError> {
    let text = schedule("AU").unwrap().replacen("rules = '''\n", &format!("rules = '''\n{rule}\n"), 1);
    Schedule::adopt("AU.toml", &text)
}

const FIRST_LINE: usize = 13;

fn refused(rule: &str) -> DocumentError {
    with(rule).unwrap_err()
}

const WORDS: &str = "@id(\"au.x\") @says(\"s\") @fix(\"f\") @who(\"w\") \
                     @basis(\"Rule of 10, Australian Bureau of Statistics DataLab\")";

#[test]
fn a_permit_is_refused_with_its_line() {
    let e =
        refused(&format!("// a comment with permit in it\n{WORDS}\n\npermit (principal, action, resource);"));
    assert_eq!(e.place.line, FIRST_LINE + 3, "{e}");
    assert!(e.found.contains("`permit`"), "{e}");
    assert!(e.expected.contains("only tighten"), "{e}");
    let e = refused(
        "permit (principal, action == Action::\"release\", resource) when { context.study.expired };",
    );
    assert!(e.found.contains("`permit`"), "{e}");
}

#[test]
fn a_schema_is_refused_with_its_line() {
    let e = refused("entity Party;");
    assert_eq!(e.place.line, FIRST_LINE, "{e}");
    assert!(e.found.contains("schema"), "{e}");
    let text = format!("schema = \"entity Party;\"\n{}", schedule("AU").unwrap());
    let e = Schedule::adopt("AU.toml", &text).unwrap_err();
    assert_eq!(e.place.line, 1, "{e}");
    assert!(e.expected.contains("no schema"), "{e}");
}

#[test]
fn entities_are_refused_with_their_line() {
    let text = format!("{}\n[entities]\nx = 1\n", schedule("AU").unwrap());
    let e = Schedule::adopt("AU.toml", &text).unwrap_err();
    assert!(e.found.contains("entities"), "{e}");
    assert!(e.place.line > 60, "{e}");
    let e = refused(&format!(
        "{WORDS} forbid (principal == Party::\"gb\", action, resource) when {{ context.study.expired }};"
    ));
    assert!(e.expected.contains("no entity") || e.expected.contains("by facts"), "{e}");
    assert_eq!(e.place.line, FIRST_LINE);
}

#[test]
fn protective_actions_cannot_be_named() {
    for action in ["stop", "pause", "erase", "revoke", "report", "dispute", "audit"] {
        let e = refused(&format!(
            "{WORDS} forbid (principal, action == Action::\"{action}\", resource) when {{ context.study.expired }};"
        ));
        assert_eq!(e.place.line, FIRST_LINE);
        assert!(e.found.contains("protective action"), "{e}");
        let e = refused(&format!(
            "{WORDS} forbid (principal, action, resource) when {{ action == Action::\"{action}\" }};"
        ));
        assert!(e.found.contains("protective action"), "{e}");
    }
}

#[test]
fn one_condition_a_rule() {
    for body in [
        "when { context.study.expired || context.plan.by_site }",
        "unless { context.study.expired && context.plan.by_site }",
        "when { !(context.study.expired && context.plan.by_site) }",
        "when { context.study.expired } unless { context.plan.by_site }",
        "when { if context.study.expired then context.plan.by_site else false }",
        "",
    ] {
        let e = refused(&format!("{WORDS} forbid (principal, action, resource) {body};"));
        assert!(e.expected.contains("one condition"), "{body}: {e}");
        assert_eq!(e.place.line, FIRST_LINE);
    }
}

#[test]
fn nothing_that_could_err_is_adopted() {
    for body in [
        "when { context.study.min_cell + 1 > 3 }",
        "when { context.study.min_cell * 2 > 3 }",
        "when { -context.study.min_cell > 3 }",
        "when { principal has x }",
        "when { context.study.nonsense > 3 }",
        "when { context.study.min_cell == \"8\" }",
        "when { context.study has min_cell }",
        "when { resource.owner == principal }",
        "when { context.study.purpose.contains(1) }",
        "when { ip(context.study.purpose).isIpv4() }",
        // A rule that can never apply is a warning, and warnings are errors.
        "when { 1 == 2 }",
    ] {
        let e = refused(&format!("{WORDS} forbid (principal, action, resource) {body};"));
        assert_eq!(e.place.line, FIRST_LINE, "{body}: {e}");
    }
}

#[test]
fn words_basis_and_tests_are_needed() {
    let body = "forbid (principal, action, resource) when { context.study.expired };";
    for gone in ["id", "says", "fix", "who", "basis"] {
        let words = WORDS.replace(&format!("@{gone}("), "@other(");
        let e = refused(&format!("{words} {body}"));
        assert!(e.found.contains(gone) || e.found.contains("@other"), "{e}");
    }
    let e = refused(&format!("{} {body}", WORDS.replace("au.x", "floor.x")));
    assert!(e.expected.contains("`au.`"), "{e}");
    let e = refused(&format!("{} {body}", WORDS.replace("au.x", "au.min-cell-10")));
    assert!(e.expected.contains("once"), "{e}");
    let e = refused(&format!("{} {body}", WORDS.replace("Rule of 10", "Rule of 11")));
    assert!(e.expected.contains("[[mark]]"), "{e}");
    let e = refused(&format!("{WORDS} @shows(\"weather\") {body}"));
    assert!(e.found.contains("weather"), "{e}");
    let e = refused(&format!("{WORDS} {body}"));
    assert!(e.found.contains("no test"), "{e}");
}

#[test]
fn a_schedule_whose_tests_do_not_hold_is_refused_at_the_test() {
    let text = schedule("AU").unwrap();
    let weakened = text.replace("min_cell >= 10", "min_cell >= 8");
    let e = Schedule::adopt("AU.toml", &weakened).unwrap_err();
    let line = weakened.lines().position(|l| l.contains("a least cell of 8 is not")).unwrap() + 1;
    assert!(e.place.line.abs_diff(line) <= 1, "{e}, the test's name is on line {line}");
    assert!(e.found.contains("allowed") && e.expected.contains("au.min-cell-10"), "{e}");
    let vacuous = text.replace("min_cell >= 10", "min_cell >= 1000000");
    assert!(Schedule::adopt("AU.toml", &vacuous).is_err());
    let e = Schedule::adopt("AU.toml", &text.replace("study.min_cell\" = 8", "study.min_sell\" = 8"))
        .unwrap_err();
    assert!(e.found.contains("min_sell"), "{e}");
    let e = Schedule::adopt("AU.toml", &text.replace("refused_by = []", "refused_by = [\"au.min-cell-10\"]"))
        .unwrap_err();
    assert!(e.expected.contains("allowed") || e.expected.contains("au.min-cell-10"), "{e}");
}

#[test]
fn bad_documents_are_refused_with_their_place() {
    let text = schedule("AU").unwrap();
    for (from, to, part) in [
        ("jurisdiction = \"AU\"", "jurisdiction = \"ZZ\"", "regime"),
        ("jurisdiction = \"AU\"", "jurisdiction = \"IT\"", "regime"),
        ("as_of = \"2025-12-31\"", "as_of = \"lately\"", "YYYY-MM-DD"),
        ("title =", "tittle =", "unknown field"),
        ("verified = \"memory\"", "verified = \"certain\"", "unknown variant"),
    ] {
        let e = Schedule::adopt("AU.toml", &text.replace(from, to)).unwrap_err();
        assert!(e.to_string().contains(part), "{e}");
        assert!(e.to_string().starts_with("AU.toml:"), "{e}");
        assert!(e.place.line > 0, "{e}");
    }
    let e = refused("forbid (principal, action, resource) when { context.study.expired }");
    assert_eq!(e.place.line, FIRST_LINE, "{e}");
    let e = refused("forbid (principle, action, resource);");
    assert_eq!(e.place.line, FIRST_LINE, "{e}");
    let e = refused("forbid (principal == ?principal, action, resource) when { context.study.expired };");
    assert_eq!(e.place.line, FIRST_LINE, "{e}");
}

#[test]
fn the_floor_has_one_unconditional_permit_for_each_action() {
    let refuse = |text: String| match PolicySet::load(&text, None) {
        Err(e) => e.to_string(),
        Ok(_) => panic!("adopted"),
    };
    let again = "@id(\"floor.again\") permit (principal, action == Action::\"propose\", resource);";
    assert!(refuse(format!("{FLOOR}\n{again}")).contains("a second permit"));
    let first = "permit (principal, action == Action::\"propose\", resource);";
    assert!(
        refuse(FLOOR.replace(
            first,
            "permit (principal, action == Action::\"propose\", resource) when { context.plan.by_site };"
        ))
        .contains("on no condition")
    );
    assert!(
        refuse(FLOOR.replace(
            first,
            "forbid (principal, action == Action::\"propose\", resource) when { context.plan.by_site };"
        ))
        .contains("without @")
    );
    assert!(
        refuse(FLOOR.replace(
            "action == Action::\"release\", resource);\n\n// ----",
            "action == Action::\"propose\", resource);\n\n// ----"
        ))
        .contains("a second permit")
    );
    assert!(refuse(String::new()).contains("no permit"));
}

#[test]
fn digests_tell_policies_apart() {
    let eu = super::policies("EU");
    assert_eq!(eu.digest(), super::load("EU").digest());
    assert_ne!(eu.digest(), super::policies("GB").digest());
    assert_ne!(eu.digest(), PolicySet::load(FLOOR, None).unwrap().digest());
    let comment = PolicySet::load(&format!("{FLOOR}\n// x\n"), None).unwrap();
    assert_ne!(comment.digest(), PolicySet::load(FLOOR, None).unwrap().digest());
}

#[test]
fn a_change_is_shown_as_a_loosening_unless_it_only_adds() {
    let text = schedule("AU").unwrap();
    let adopt = |text: &str| Schedule::adopt("AU.toml", text).unwrap();
    let old = adopt(text);
    assert!(loosenings(&old, Some(&old)).unwrap().is_empty());
    // New words for the same rule change nothing that is enforced.
    assert!(
        loosenings(&old, Some(&adopt(&text.replace("For Australian data no", "No")))).unwrap().is_empty()
    );
    let lower = text.replace("min_cell >= 10", "min_cell >= 9").replace("min_cell\" = 10", "min_cell\" = 9");
    assert_eq!(loosenings(&old, Some(&adopt(&lower))).unwrap(), ["au.min-cell-10"]);
    assert_eq!(loosenings(&old, None).unwrap(), ["au.min-cell-10", "au.recipients-bound"]);
    let gb = Schedule::adopt("GB.toml", schedule("GB").unwrap()).unwrap();
    assert_eq!(loosenings(&old, Some(&gb)).unwrap().len(), 2);
    // The same change, on past requests.
    let (before, after) =
        (PolicySet::load(FLOOR, Some(&old)).unwrap(), PolicySet::load(FLOOR, Some(&adopt(&lower))).unwrap());
    let mut inputs = vec![crate::GateInput::sound(&before).unwrap(); 2];
    inputs[1].study.min_cell = 9;
    let flipped = flips(&before, &after, &inputs);
    assert_eq!(flipped.len(), 1);
    assert_eq!((flipped[0].was, flipped[0].now), (false, true));
    assert_eq!(flipped[0].input, decide(&after, &inputs[1]).input);
}

#[test]
fn the_guides_examples_are_true() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/README.md");
    let guide = std::fs::read_to_string(path).unwrap();
    let block = |kind: &str| {
        let from = guide.split(&format!("```{kind}\n")).nth(1).unwrap();
        from.split("```").next().unwrap().to_string()
    };
    let schedule = Schedule::adopt("NZ.toml", &block("toml")).unwrap();
    assert_eq!((schedule.jurisdiction(), schedule.tests()), ("NZ", 2));
    assert!(super::schedule("AU").unwrap().contains(&block("cedar")));
    let set = super::policies("AU");
    let mut input = super::at(crate::Stage::Propose, &crate::GateInput::sound(&set).unwrap());
    input.study.id = "near-miss".into();
    input.study.min_cell = 8;
    assert_eq!(explain(&decide(&set, &input)), block("text"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is put in front of the rules: adopted or refused, it never allows what the floor refuses.
    #[test]
    fn whatever_a_schedule_says_it_only_tightens(
        effect in prop::sample::select(vec!["permit", "forbid", "forbid", "forbid"]),
        kind in prop::sample::select(vec!["when", "unless"]),
        fact in prop::sample::select(vec![
            "context.study.expired", "context.plan.by_site", "context.charter.in_force",
            "context.study.min_cell >= 9", "context.study.min_cell < 3", "context.schedule.confirmed",
        ]),
        min_cell in 1u32..14,
        confirmed in any::<bool>(),
    ) {
        let rule = format!("{WORDS} {effect} (principal, action, resource) {kind} {{ {fact} }};");
        let test = "[[test]]\nname = \"x\"\nset = { \"study.min_cell\" = 2 }\nrefused_by = [\"au.x\"]\n";
        let text = schedule("AU").unwrap().replacen("rules = '''\n", &format!("rules = '''\n{rule}\n"), 1);
        let adopted = Schedule::adopt("AU.toml", &format!("{text}\n{test}"));
        prop_assert!(effect == "forbid" || adopted.is_err());
        // The tests of a random schedule seldom hold; the property is about any set that could be loaded.
        let (floor, mut input) = sound();
        input.study.min_cell = min_cell;
        if !confirmed {
            input.schedule.confirmed_by = None;
        }
        let before = decide(&floor, &input).allow;
        let more = format!("{effect} (principal, action, resource) {kind} {{ {fact} }};");
        if effect == "forbid" {
            let after = decide(&super::policies("EU").with_unchecked(&more), &input).allow;
            prop_assert!(before || !after);
        }
    }

    /// No text makes the reader panic.
    #[test]
    fn no_text_makes_adoption_panic(text in ".{0,300}") {
        prop_assert!(with(&text).is_err() || text.trim().is_empty() || text.trim_start().starts_with("//"));
        prop_assert!(Schedule::adopt("x", &text).is_err());
    }
}
