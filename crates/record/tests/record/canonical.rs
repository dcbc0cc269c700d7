use std::collections::BTreeMap;

use proptest::prelude::*;
use record::canon::{self, CanonError, MAX_BYTES, MAX_DEPTH, MAX_INTEGER, Value};
use serde::{Deserialize, Serialize};

fn refused(text: &str) -> CanonError {
    match canon::parse(text.as_bytes()) {
        Ok(value) => panic!("accepted `{text}` as {value:?}"),
        Err(error) => error,
    }
}

#[test]
fn keys_are_ordered_by_utf_16_code_units_as_rfc_8785_3_2_3_shows() {
    let keys = ["\u{20ac}", "\r", "\u{fb33}", "1", "\u{1f600}", "\u{80}", "\u{f6}"];
    let map: BTreeMap<String, Value> = keys.iter().map(|k| ((*k).to_owned(), Value::Null)).collect();
    let text = String::from_utf8(Value::Map(map).to_bytes().unwrap()).unwrap();
    let want = "{\"\\r\":null,\"1\":null,\"\u{80}\":null,\"\u{f6}\":null,\"\u{20ac}\":null,\"\u{1f600}\":null,\"\u{fb33}\":null}";
    assert_eq!(text, want);
    // By code points, U+FB33 would come before U+1F600.
    assert!(canon::parse("{\"\u{fb33}\":1,\"\u{1f600}\":2}".as_bytes()).is_err());
}

#[test]
fn strings_are_escaped_as_rfc_8785_3_2_2_2_says() {
    let value = Value::Str("\u{20ac}$\u{f}\nA'B\"\\\\\"/\u{7f}\u{8}\t\u{c}\r\u{0}".to_owned());
    let text = "\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\u{7f}\\b\\t\\f\\r\\u0000\"";
    assert_eq!(String::from_utf8(value.to_bytes().unwrap()).unwrap(), text);
    assert_eq!(canon::parse(text.as_bytes()).unwrap(), value);
}

#[test]
fn one_meaning_has_one_spelling() {
    for text in [
        " 1",
        "1 ",
        "[1, 2]",
        "{\"a\": 1}",
        "\"\\/\"",
        "\"\\u0041\"",
        "\"\\u000A\"",
        "\"\\u000a\"",
        "\"\\ud83d\\ude00\"",
        "-0",
        "01",
        "-01",
        "{\"b\":1,\"a\":2}",
        "1\n",
    ] {
        refused(text);
    }
    assert!(matches!(refused("\"\\u0041\""), CanonError::NotCanonical { at: 1 }));
}

#[test]
fn floats_and_large_integers_are_refused_not_rounded() {
    for text in ["1.0", "1e3", "0.1", "-1.5", "1E0", "[1.0]"] {
        assert_eq!(refused(text), CanonError::Float, "{text}");
    }
    for text in ["9007199254740992", "-9007199254740992", "9007199254740993", "99999999999999999999999999"] {
        assert!(matches!(refused(text), CanonError::IntegerRange { .. }), "{text}");
    }
    for n in [MAX_INTEGER, -MAX_INTEGER, 0, -1] {
        assert_eq!(canon::parse(n.to_string().as_bytes()).unwrap(), Value::Int(n));
    }
    assert_eq!(canon::to_bytes(&f64::NAN), Err(CanonError::Float));
    assert_eq!(canon::to_bytes(&1.0_f32), Err(CanonError::Float));
    assert!(canon::to_bytes(&u64::MAX).is_err());
    assert!(canon::to_bytes(&(MAX_INTEGER + 1)).is_err());
    assert!(Value::Int(i64::MIN).to_bytes().is_err());
}

#[test]
fn a_key_stands_once() {
    assert_eq!(refused("{\"a\":1,\"a\":1}"), CanonError::DuplicateKey { key: "a".to_owned() });
    assert_eq!(refused("{\"a\":1,\"\\u0061\":1}"), CanonError::DuplicateKey { key: "a".to_owned() });
    #[derive(Serialize)]
    struct Twice {
        a: u8,
        #[serde(flatten)]
        more: BTreeMap<String, u8>,
    }
    let twice = Twice { a: 1, more: BTreeMap::from([("a".to_owned(), 2)]) };
    assert_eq!(canon::to_bytes(&twice), Err(CanonError::DuplicateKey { key: "a".to_owned() }));
}

#[test]
fn broken_text_is_refused_with_its_place() {
    for text in [
        "",
        "{",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "{a:1}",
        "nul",
        "tru",
        "truee",
        "\"",
        "\"\\",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\\x\"",
        "-",
        "+1",
        ".5",
        "]",
        "1 2",
        "NaN",
        "Infinity",
        "\u{feff}1",
        "\"\n\"",
        "\"\u{0}\"",
    ] {
        refused(text);
    }
    assert_eq!(canon::parse(b"\"\xff\""), Err(CanonError::NotUtf8 { at: 1 }));
    let error = refused("{\"a\":1,}");
    assert_eq!(error.to_string(), "found `}` at byte 7, expected a key in double quotes");
}

#[test]
fn depth_and_length_have_limits() {
    let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(canon::parse(nested(MAX_DEPTH).as_bytes()).is_ok());
    assert_eq!(refused(&nested(MAX_DEPTH + 1)), CanonError::TooDeep);
    assert_eq!(refused(&"[".repeat(MAX_BYTES)), CanonError::TooDeep);
    let long = format!("\"{}\"", "a".repeat(MAX_BYTES - 1));
    assert!(matches!(refused(&long), CanonError::TooLong { .. }));
    assert!(canon::parse_document(long.as_bytes(), MAX_BYTES + 1).is_ok());
    let mut value = Value::Null;
    for _ in 0..=MAX_DEPTH {
        value = Value::List(vec![value]);
    }
    assert_eq!(value.to_bytes(), Err(CanonError::TooDeep));
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone, Copy, PartialOrd, Ord, Eq)]
#[serde(rename_all = "lowercase")]
enum Level {
    Low,
    High,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
enum Shape {
    Unit,
    One(u8),
    Two(u8, String),
    Named { x: i64, y: Option<bool> },
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Tagged {
    Count { n: u64 },
    Label { text: String },
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Newtype(u32);

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Everything {
    small: (i8, u8, i16, u16, i32, u32),
    big: (i64, u64),
    c: char,
    text: String,
    unit: (),
    some: Option<String>,
    none: Option<String>,
    list: Vec<Newtype>,
    by_number: BTreeMap<i32, Level>,
    by_level: BTreeMap<Level, u8>,
    shapes: Vec<Shape>,
    tagged: Vec<Tagged>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<u8>,
    free: Value,
}

#[test]
fn serde_shapes_survive_the_round_trip() {
    let all = Everything {
        small: (-8, 8, -16, 16, -32, 32),
        big: (-MAX_INTEGER, MAX_INTEGER as u64),
        c: 'é',
        text: "line\nline".to_owned(),
        unit: (),
        some: Some("x".to_owned()),
        none: None,
        list: vec![Newtype(1), Newtype(2)],
        by_number: BTreeMap::from([(-1, Level::Low), (10, Level::High), (9, Level::Low)]),
        by_level: BTreeMap::from([(Level::Low, 1), (Level::High, 2)]),
        shapes: vec![
            Shape::Unit,
            Shape::One(1),
            Shape::Two(2, "b".to_owned()),
            Shape::Named { x: -3, y: None },
        ],
        tagged: vec![Tagged::Count { n: 3 }, Tagged::Label { text: "t".to_owned() }],
        skipped: None,
        free: Value::List(vec![Value::Bool(false), Value::Map(BTreeMap::new())]),
    };
    let bytes = canon::to_bytes(&all).unwrap();
    assert_eq!(canon::from_bytes::<Everything>(&bytes).unwrap(), all);
    assert!(canon::from_bytes::<Everything>(b"{}").is_err());
    assert!(canon::from_bytes::<u8>(b"256").is_err());
    assert!(canon::from_bytes::<u8>(b"-1").is_err());
    assert!(canon::from_bytes::<BTreeMap<u8, u8>>(b"{\"01\":1}").is_err());
    assert!(canon::from_bytes::<BTreeMap<u8, u8>>(b"{\"1\":1}").is_ok());
    assert!(canon::from_bytes::<(u8, u8)>(b"[1,2,3]").is_err());
    assert!(canon::from_bytes::<Level>(b"\"medium\"").is_err());
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-MAX_INTEGER..=MAX_INTEGER).prop_map(Value::Int),
        any::<String>().prop_map(Value::Str),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::List),
            prop::collection::btree_map(any::<String>(), inner, 0..8).prop_map(Value::Map),
        ]
    })
}

/// JSON-like noise, likelier to get deep into the reader than random bytes.
fn noise() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just(":"),
        Just("\""),
        Just("\\"),
        Just("\\u"),
        Just("d83d"),
        Just("\\ud83d"),
        Just("\\ude00"),
        Just("0"),
        Just("-"),
        Just("17"),
        Just("."),
        Just("e"),
        Just("null"),
        Just("true"),
        Just("\"a\""),
        Just("\"b\":"),
        Just(" "),
        Just("\n"),
        Just("é"),
        Just("\u{1f600}"),
    ];
    prop::collection::vec(token, 0..24).prop_map(|t| t.concat())
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_same(value in values()) {
        let bytes = value.to_bytes().unwrap();
        prop_assert_eq!(canon::parse_document(&bytes, usize::MAX).unwrap(), value.clone());
        prop_assert_eq!(canon::to_bytes(&value).unwrap(), bytes.clone());
        // A JSON reader of another house agrees on the meaning.
        let theirs: Value = serde_json::from_slice(&bytes).unwrap();
        prop_assert_eq!(theirs, value);
    }

    #[test]
    fn bytes_are_accepted_if_and_only_if_canonical(text in noise()) {
        if let Ok(value) = canon::parse(text.as_bytes()) {
            prop_assert_eq!(value.to_bytes().unwrap(), text.as_bytes());
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = canon::parse(&bytes);
    }

    #[test]
    fn a_changed_byte_never_keeps_the_meaning(value in values(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let bytes = value.to_bytes().unwrap();
        let mut changed = bytes.clone();
        changed[at.index(bytes.len())] ^= 1 << bit;
        prop_assert_ne!(canon::parse_document(&changed, usize::MAX).ok(), Some(value));
    }
}
