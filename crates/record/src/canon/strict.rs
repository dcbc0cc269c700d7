//! Bytes to value in one pass, for bytes that are spelled as the writer would: then there is nothing to write again.
//!
//! INVARIANT: what this reader gives is what [`read`](super::read) gives for the same bytes, and
//! [`write`](super::write) gives those bytes back. It need not take all that is canonical, and says nothing on what is
//! wrong: bytes that it does not take are read and written again, and that decides.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::{MAX_DEPTH, MAX_INTEGER, Value};

/// The value of canonical bytes; nothing if they are not spelled as the writer would.
pub(super) fn read(bytes: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(0)?;
    (reader.at == text.len()).then_some(value)
}

struct Reader<'a> {
    text: &'a str,
    /// Offset of the next byte; always on a character boundary.
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn take(&mut self, literal: &str) -> Option<()> {
        self.text.get(self.at..)?.starts_with(literal).then(|| self.at += literal.len())
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        match self.peek()? {
            b'n' => self.take("null").map(|()| Value::Null),
            b't' => self.take("true").map(|()| Value::Bool(true)),
            b'f' => self.take("false").map(|()| Value::Bool(false)),
            b'-' | b'0'..=b'9' => self.integer().map(Value::Int),
            b'"' => self.string().map(Value::Str),
            b'[' if depth < MAX_DEPTH => self.list(depth + 1),
            b'{' if depth < MAX_DEPTH => self.map(depth + 1),
            _ => None,
        }
    }

    fn list(&mut self, depth: usize) -> Option<Value> {
        self.take("[")?;
        let mut items = Vec::new();
        if self.peek()? == b']' {
            self.at += 1;
            return Some(Value::List(items));
        }
        loop {
            items.push(self.value(depth)?);
            match self.next()? {
                b',' => {}
                b']' => return Some(Value::List(items)),
                _ => return None,
            }
        }
    }

    fn map(&mut self, depth: usize) -> Option<Value> {
        self.take("{")?;
        let mut members: Vec<(String, Value)> = Vec::new();
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(Value::Map(BTreeMap::new()));
        }
        loop {
            let key = self.string()?;
            // Section 3.2.3: in the order of UTF-16 code units; strictly, so no key stands twice.
            if members.last().is_some_and(|(before, _)| utf16(before, &key) != Ordering::Less) {
                return None;
            }
            self.take(":")?;
            members.push((key, self.value(depth)?));
            match self.next()? {
                b',' => {}
                b'}' => return Some(Value::Map(members.into_iter().collect())),
                _ => return None,
            }
        }
    }

    fn integer(&mut self) -> Option<i64> {
        let negative = self.peek()? == b'-';
        self.at += usize::from(negative);
        let first = self.peek()?;
        let (start, mut n) = (self.at, 0_i64);
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            n = n.checked_mul(10)?.checked_add(i64::from(digit - b'0'))?;
            self.at += 1;
        }
        let digits = self.at - start;
        // One spelling: no leading zero, and no minus sign before zero.
        let zero = first == b'0' && (digits > 1 || negative);
        // A fraction or an exponent is left standing, and nothing takes it.
        (digits > 0 && !zero && n <= MAX_INTEGER).then_some(if negative { -n } else { n })
    }

    fn string(&mut self) -> Option<String> {
        self.take("\"")?;
        let mut out = String::new();
        loop {
            let rest = self.text.as_bytes().get(self.at..)?;
            let plain = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f))?;
            // The bytes before and after are ASCII, so this is on character boundaries.
            let text = self.text.get(self.at..self.at + plain)?;
            self.at += plain;
            match self.next()? {
                b'"' if out.is_empty() => return Some(text.to_owned()),
                b'"' => {
                    out.push_str(text);
                    return Some(out);
                }
                b'\\' => {
                    out.push_str(text);
                    out.push(self.escape()?);
                }
                _ => return None,
            }
        }
    }

    /// Section 3.2.2.2: only the escapes that the writer writes.
    fn escape(&mut self) -> Option<char> {
        Some(match self.next()? {
            b'"' => '"',
            b'\\' => '\\',
            b'b' => '\u{8}',
            b't' => '\t',
            b'n' => '\n',
            b'f' => '\u{c}',
            b'r' => '\r',
            b'u' => {
                self.take("00")?;
                let high = self.next().filter(|b| matches!(b, b'0' | b'1'))? - b'0';
                let low = match self.next()? {
                    digit @ b'0'..=b'9' => digit - b'0',
                    letter @ b'a'..=b'f' => letter - b'a' + 10,
                    _ => return None,
                };
                let control = high << 4 | low;
                // These five have an escape of two characters.
                if matches!(control, 0x08 | 0x09 | 0x0a | 0x0c | 0x0d) {
                    return None;
                }
                char::from(control)
            }
            _ => return None,
        })
    }
}

fn utf16(a: &str, b: &str) -> Ordering {
    if a.is_ascii() && b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{CanonError, read as twice, write};
    use super::*;
    use proptest::prelude::*;

    /// The rule itself: read, written again, compared.
    fn by_the_rule(bytes: &[u8]) -> Result<Value, CanonError> {
        let value = twice::read(bytes)?;
        let written = write::write(&value)?;
        if written == bytes { Ok(value) } else { Err(CanonError::NotCanonical { at: 0 }) }
    }

    fn same(bytes: &[u8]) {
        assert_eq!(read(bytes), by_the_rule(bytes).ok(), "{:?}", String::from_utf8_lossy(bytes));
    }

    fn values() -> impl Strategy<Value = Value> {
        // Few and short texts, so that equal keys, prefixes and both sides of U+FFFF meet.
        let text = prop_oneof![
            prop::collection::vec(
                prop::sample::select(vec![
                    'a',
                    'b',
                    '"',
                    '\\',
                    '/',
                    '\u{0}',
                    '\u{8}',
                    '\n',
                    '\u{f}',
                    '\u{1f}',
                    '\u{7f}',
                    '\u{e9}',
                    '\u{d7ff}',
                    '\u{e000}',
                    '\u{fb33}',
                    '\u{ffff}',
                    '\u{10000}',
                    '\u{1f600}',
                ]),
                0..4
            )
            .prop_map(|chars| chars.into_iter().collect::<String>()),
            any::<String>(),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (-MAX_INTEGER..=MAX_INTEGER).prop_map(Value::Int),
            (-12_i64..=12).prop_map(Value::Int),
            text.clone().prop_map(Value::Str),
        ];
        leaf.prop_recursive(6, 64, 8, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::List),
                prop::collection::btree_map(text.clone(), inner, 0..8).prop_map(Value::Map),
            ]
        })
    }

    /// Pieces of JSON in any order, right and almost right.
    fn noise() -> impl Strategy<Value = String> {
        let pieces = vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\\",
            "\\u",
            "\\u00",
            "\\u000",
            "\\u001f",
            "\\u001F",
            "\\u0009",
            "\\n",
            "\\/",
            "\\\"",
            "\\ud83d",
            "\\ude00",
            "0",
            "-",
            "-0",
            "00",
            "17",
            ".",
            "e",
            "9007199254740991",
            "9007199254740992",
            "99999999999999999999",
            "null",
            "true",
            "false",
            "nul",
            " ",
            "\n",
            "\u{0}",
            "\u{1f}",
            "\u{e9}",
            "\u{1f600}",
            "\u{fb33}",
            "\"a\":",
            "\"b\":",
            "\"a\"",
            "{\"a\":1,",
            "[1,",
            "]]",
        ];
        prop::collection::vec(prop::sample::select(pieces), 0..12).prop_map(|pieces| pieces.concat())
    }

    /// One change somewhere: a byte set, taken out or put in.
    fn damaged(bytes: &[u8], (kind, at, byte): (u8, usize, u8)) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let at = at % (bytes.len() + 1);
        match kind % 3 {
            0 => bytes.insert(at, byte),
            1 if at < bytes.len() => bytes[at] = byte,
            _ if at < bytes.len() => drop(bytes.remove(at)),
            _ => {}
        }
        bytes
    }

    fn changes() -> impl Strategy<Value = (u8, usize, u8)> {
        let byte = prop_oneof![any::<u8>(), prop::sample::select(b"{}[],:\"\\u0-19eat \n".to_vec())];
        (any::<u8>(), any::<usize>(), byte)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn what_was_written_is_read_in_one_pass(value in values()) {
            let bytes = value.to_bytes().unwrap();
            prop_assert_eq!(read(&bytes), Some(value));
        }

        #[test]
        fn one_pass_takes_what_is_written_back_and_nothing_else(value in values(), change in changes()) {
            same(&damaged(&value.to_bytes().unwrap(), change));
        }

        #[test]
        fn one_pass_takes_of_noise_what_is_written_back_and_nothing_else(text in noise()) {
            same(text.as_bytes());
        }
    }

    #[test]
    fn one_pass_and_the_rule_agree_at_every_edge() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        let maps = |n: usize| format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n));
        for n in [MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1] {
            same(deep(n).as_bytes());
            same(maps(n).as_bytes());
        }
        assert!(read(deep(MAX_DEPTH).as_bytes()).is_some() && read(deep(MAX_DEPTH + 1).as_bytes()).is_none());
        for text in [
            "0",
            "-0",
            "-1",
            "00",
            "01",
            "-01",
            "-",
            "--1",
            "+1",
            "1.0",
            "1e3",
            "1E3",
            "10",
            "9007199254740991",
            "-9007199254740991",
            "9007199254740992",
            "-9007199254740992",
            "9223372036854775807",
            "9223372036854775808",
            "-9223372036854775808",
            "",
            "\"",
            "\"\\",
            "\"\\\"",
            "nullx",
            "null ",
        ] {
            same(text.as_bytes());
            same(format!("[{text}]").as_bytes());
            same(format!("{{\"a\":{text}}}").as_bytes());
        }
        // Every escape of four digits below U+0100, in either case, and every one of a single character.
        for n in 0..0x100 {
            same(format!("\"\\u{n:04x}\"").as_bytes());
            same(format!("\"\\u{n:04X}\"").as_bytes());
            same(&[b"\"\\".as_slice(), &[n as u8], b"\""].concat());
            same(&[b"\"".as_slice(), &[n as u8], b"\""].concat());
        }
        // Every pair of keys out of each part of Unicode, in either order and twice.
        let keys = [
            "",
            "a",
            "aa",
            "b",
            "\u{7f}",
            "\u{80}",
            "\u{d7ff}",
            "\u{e000}",
            "\u{fb33}",
            "\u{ffff}",
            "\u{10000}",
        ];
        for a in keys {
            for b in keys {
                same(format!("{{\"{a}\":1,\"{b}\":2}}").as_bytes());
                same(format!("{{\"{a}x\":1,\"{b}y\":2}}").as_bytes());
            }
        }
    }
}
