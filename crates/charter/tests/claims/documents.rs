//! The charter as people write it: every fault with file, line, column, what was found and what was expected.

use crate::federation::charter_toml;
use charter::Charter;
use charter::document::end_of_day;

/// Replaces `from` by `to` and expects the fault at `place` in the edited text: message and position.
#[track_caller]
fn refused(from: &str, to: &str, place: &str, words: &str) {
    let text = charter_toml();
    assert!(text.contains(from), "`{from}` is not in the charter");
    let text = text.replacen(from, to, 1);
    expect(&text, place, words);
}

#[track_caller]
fn expect(text: &str, place: &str, words: &str) {
    let before = &text[..text.find(place).expect("the place is in the text")];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    let error = Charter::parse("nine.toml", text).unwrap_err();
    assert_eq!(error.to_string(), format!("nine.toml:{line}:{column}: {words}"));
}

#[test]
fn the_charter_that_the_tests_change_is_sound() {
    let charter = Charter::parse("nine.toml", &charter_toml()).unwrap();
    charter.check("nine.toml", &charter_toml()).unwrap();
    assert_eq!(charter.members.len(), 9);
    // Spacing, order and comments are not part of what is signed.
    let spaced = format!("# a comment\n\n{}", charter_toml());
    assert_eq!(Charter::parse("x", &spaced).unwrap().digest().unwrap(), charter.digest().unwrap());
    let other = charter_toml().replace("valid_days = 90", "valid_days = 91");
    assert_ne!(Charter::parse("x", &other).unwrap().digest().unwrap(), charter.digest().unwrap());
}

#[test]
fn malformed_toml_is_refused_where_it_breaks() {
    let text = charter_toml().replacen("quorum = 8", "quorum = eight", 1);
    let error = Charter::parse("nine.toml", &text).unwrap_err();
    let line = text[..text.find("quorum").unwrap()].matches('\n').count() + 1;
    assert_eq!((error.place.line, error.place.column), (line, 10), "{error}");
    assert!(error.expected.starts_with("valid TOML"), "{error}");
    let error = Charter::parse("nine.toml", "federation = \"x\"\nfederation = \"y\"\n").unwrap_err();
    assert_eq!((error.place.line, error.place.column), (2, 1), "{error}");
    assert!(error.to_string().contains("duplicate key"), "{error}");
}

#[test]
fn missing_unknown_and_mistyped_keys_are_named() {
    let text = charter_toml().replacen("valid_days = 90\n", "", 1);
    let error = Charter::parse("nine.toml", &text).unwrap_err();
    assert!(error.found.contains("missing field `valid_days`"), "{error}");
    let line = text[..text.find("[data_access]").unwrap()].matches('\n').count() + 1;
    assert_eq!(error.place.line, line, "{error}");
    for (from, to, place, found) in [
        ("quorum = 8", "quorums = 8", "quorums", "unknown field `quorums`"),
        ("quorum = 8", "quorum = -8", "-8", "invalid value"),
        ("quorum = 8", "quorum = 8.0", "8.0", "invalid type"),
        ("quorum = 8", "quorum = 4294967296", "4294967296", "invalid value"),
        ("sunset = \"2026-12-31\"", "sunset = 2026-12-31", "2026-12-31", "invalid type"),
        ("role = \"steward\"", "role = \"king\"", "\"king\"", "unknown variant `king`"),
    ] {
        let text = charter_toml().replacen(from, to, 1);
        let before = &text[..text.find(place).unwrap()];
        let error = Charter::parse("nine.toml", &text).unwrap_err();
        assert!(error.found.contains(found), "{to}: {error}");
        assert_eq!(error.place.line, before.matches('\n').count() + 1, "{to}: {error}");
        assert_eq!(error.place.column, before.rsplit('\n').next().unwrap().len() + 1, "{to}: {error}");
        assert!(!error.found.contains('\n'));
    }
}

#[test]
fn a_key_that_is_no_key_is_refused() {
    let text = charter_toml();
    let start = text.find("sign = \"").unwrap() + 8;
    let short = format!("{}{}", &text[..start], &text[start + 2..]);
    let error = Charter::parse("nine.toml", &short).unwrap_err();
    assert!(error.found.contains("expected an Ed25519 public key"), "{error}");
    assert_eq!(error.place.line, text[..start].matches('\n').count() + 1);
}

#[test]
fn dates_are_days_of_the_calendar() {
    for wrong in
        ["2026-02-30", "31.12.2026", "2026-1-1", "2026-12-31T00:00:00Z", "1969-12-31", "", "9999-12-31"]
    {
        let to = format!("sunset = \"{wrong}\"");
        let place = format!("\"{wrong}\"");
        let words = format!("found `{wrong}`, expected a date YYYY-MM-DD");
        refused("sunset = \"2026-12-31\"", &to, &place, &words);
    }
    assert_eq!(end_of_day("1970-01-01"), Some(86_400_000));
    assert_eq!(end_of_day("2024-02-29"), Some(1_709_251_200_000));
    assert_eq!(end_of_day("2023-02-29"), None);
}

#[test]
fn a_pool_of_one_is_no_pool() {
    let pool = "aggregator_pool = [\"ch\", \"se\", \"ar\"]";
    refused(pool, "aggregator_pool = [\"ch\"]", "[\"ch\"]", "found 1 aggregators, expected two or more");
    refused(pool, "aggregator_pool = []", "[]", "found 0 aggregators, expected two or more");
    let each = "expected members of this charter, each once";
    refused(pool, "aggregator_pool = [\"ch\", \"fr\"]", "\"fr\"", &format!("found `fr`, {each}"));
    refused(pool, "aggregator_pool = [ \"ch\",\"ch\"]", "\"ch\"]", &format!("found `ch`, {each}"));
}

#[test]
fn purposes_are_named_each_once() {
    let purposes = "purposes = [\"stroke-research\"]";
    refused(purposes, "purposes = []", "[]", "found no purpose, expected at least one purpose");
    let each = "expected short names of a-z, 0-9 and -, each once";
    refused(purposes, "purposes = [\"Any!\"]", "\"Any!\"", &format!("found `Any!`, {each}"));
    refused(purposes, "purposes = [\"a\", \"a\" ]", "\"a\" ]", &format!("found `a`, {each}"));
}

#[test]
fn members_have_their_own_ids_keys_and_seats() {
    let twice = "id = \"it\"";
    refused(twice, "id = \"gb\" ", "\"gb\" ", "found member `gb` twice, expected each member once");
    let long = "x".repeat(33);
    refused(
        "id = \"it\"",
        &format!("id = \"{long}\""),
        &format!("\"{long}\""),
        &format!("found member id `{long}`, expected a letter, then at most 31 of a-z, 0-9 and -"),
    );
    let seat = "expected a seat id of a-z, 0-9 and - that is used once";
    refused(
        "\"it-steward\"",
        "\"gb-steward\" ",
        "\"gb-steward\" ",
        &format!("found seat `gb-steward`, {seat}"),
    );
    refused("\"it-steward\"", "\"It\"", "\"It\"", &format!("found seat `It`, {seat}"));
    // Two counsels and no steward: at the seats of that member.
    let text = charter_toml().replacen(
        "id = \"it-steward\"\nrole = \"steward\"",
        "id = \"it-s\"\nrole = \"counsel\"",
        1,
    );
    let error = Charter::parse("nine.toml", &text).unwrap_err();
    assert_eq!(error.found, "no steward seat at `it`");
    let line = text[..text.find("\"it-s\"").unwrap()].matches('\n').count() + 1;
    assert!(error.place.line.abs_diff(line) <= 1, "{error}");
}

#[test]
fn one_key_has_one_use() {
    let text = charter_toml();
    let of = |line: &str, nth: usize| {
        let at = text.match_indices(line).nth(nth).unwrap().0 + line.len();
        text[at..at + 66].to_string()
    };
    let words =
        |id: &str| format!("found a key of `{id}` used twice, expected a key of its own for each use");
    // The cosigning key of the second member is the statement key of the first.
    let (used, own) = (of("\nsign = ", 0), of("\ncosign = ", 1));
    refused(&own, &format!("{used} "), &format!("{used} "), &words("it"));
    // The hub's key at a member.
    let (used, own) = (of("\nkey = ", 0), of("\nsign = ", 3));
    refused(&own, &format!("{used} "), &format!("{used} "), &words("nl"));
    let (used, own) = (of("\nkey = ", 0), of("\ntls = ", 0));
    let hub = "found one key used twice, expected a key of its own for each use";
    refused(&own, &format!("{used} "), &format!("{used} "), hub);
}

#[test]
fn a_federation_has_three_to_sixty_four_members() {
    let text = charter_toml().replacen("[\"ch\", \"se\", \"ar\"]", "[\"gb\", \"it\"]", 1);
    let third = text.match_indices("\n[[members]]").nth(2).unwrap().0;
    let error = Charter::parse("nine.toml", &text[..third]).unwrap_err();
    assert_eq!((error.found.as_str(), error.expected.as_str()), ("2 members", "3 to 128 members"));
    assert!(error.place.line > 0);
    let mut many = Charter::parse("nine.toml", &charter_toml()).unwrap();
    many.members = std::iter::repeat_with(|| many.members[0].clone()).take(129).collect();
    many.aggregator_pool = vec!["gb".into(), "gb".into()];
    many.aggregator_pool = vec!["gb".into()];
    assert!(many.check("nine", "").is_err());
}

#[test]
fn numbers_keep_to_their_bounds() {
    for (line, key, wrong, bounds) in [
        ("quorum = 8", "quorum", "0", "1 to 9"),
        ("quorum = 8", "quorum", "10", "1 to 9"),
        ("deadline_hours = 72", "deadline_hours", "0", "1 to 8784"),
        ("deadline_hours = 72", "deadline_hours", "4294967295", "1 to 8784"),
        ("valid_days = 90", "valid_days", "0", "1 to 3660"),
        ("valid_days = 90", "valid_days", "3661", "1 to 3660"),
        ("lease_hours = 24", "lease_hours", "0", "1 to 168"),
        ("lease_hours = 24", "lease_hours", "169", "1 to 168"),
        ("watermark_minutes = 10", "watermark_minutes", "0", "1 to 60"),
        ("watermark_minutes = 10", "watermark_minutes", "61", "1 to 60"),
        ("min_hidden_sites = 3", "min_hidden_sites", "0", "1 to 9"),
        ("min_hidden_sites = 3", "min_hidden_sites", "10", "1 to 9"),
    ] {
        let to = format!("{key} = {wrong} ");
        refused(line, &to, &format!("{wrong} \n"), &format!("found {key} `{wrong}`, expected {bounds}"));
    }
    let words = "found faults `5`, expected fewer than half of the members";
    refused("\n[hub]", "faults = 5\n\n[hub]", "5\n\n[hub]", words);
    let most = charter_toml().replacen("\n[hub]", "faults = 4\n\n[hub]", 1);
    assert_eq!(Charter::parse("nine.toml", &most).unwrap().faults, Some(4));
}

#[test]
fn names_that_become_one_line_are_one_line() {
    refused(
        "federation = \"stroke-nine\"",
        "federation = \"Stroke Nine\"",
        "\"Stroke Nine\"",
        "found `Stroke Nine`, expected a short name of a-z, 0-9 and -",
    );
    refused("\"Example Trust\"", "\" \"", "\" \"", "found ` `, expected one line of text");
    refused("\"NL\"\nkey", "\"N\\nL\"\nkey", "\"N\\nL\"", "found `N\\nL`, expected one line of text");
}

#[test]
fn a_charter_that_is_too_long_is_refused_unread() {
    let text = format!("{}\n# {}", charter_toml(), "x".repeat(65_536));
    let error = Charter::parse("nine.toml", &text).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("nine.toml: found {} bytes, expected at most 65536 bytes", text.len())
    );
}

#[test]
fn a_check_without_the_text_names_the_path_instead_of_the_place() {
    let mut charter = Charter::parse("nine.toml", &charter_toml()).unwrap();
    charter.members[3].sign = charter.members[2].sign;
    let words = "found a key of `nl` used twice, expected a key of its own for each use";
    let error = charter.check("the proposal", "").unwrap_err();
    assert_eq!(error.to_string(), format!("the proposal, members.3.sign: {words}"));
}

#[test]
fn no_cut_of_a_charter_is_a_panic() {
    let text = charter_toml();
    for end in (0..text.len()).step_by(37) {
        assert!(Charter::parse("cut", &text[..end]).is_err() || end + 40 > text.len());
    }
}
