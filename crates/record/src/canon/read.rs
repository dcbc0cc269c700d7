//! Bytes to value: the JSON grammar without white space, floats and duplicate keys. Whether the spelling is the
//! canonical one is settled by the caller, which writes the value again and compares.

use std::collections::BTreeMap;

use super::{CanonError, MAX_DEPTH, MAX_INTEGER, Value};

pub(super) fn read(bytes: &[u8]) -> Result<Value, CanonError> {
    let text = std::str::from_utf8(bytes).map_err(|e| CanonError::NotUtf8 { at: e.valid_up_to() })?;
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(0)?;
    if reader.at < text.len() {
        return Err(reader.unexpected("the end of the text"));
    }
    Ok(value)
}

struct Reader<'a> {
    text: &'a str,
    /// Offset of the next byte; always on a character boundary.
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn unexpected(&self, expected: &'static str) -> CanonError {
        let found = match self.rest().chars().next() {
            None => "the end of the text".to_owned(),
            Some(c) => format!("`{}`", c.escape_default()),
        };
        CanonError::Unexpected { at: self.at, found, expected }
    }

    fn take(&mut self, literal: &'static str) -> Result<(), CanonError> {
        if self.rest().starts_with(literal) {
            self.at += literal.len();
            Ok(())
        } else {
            Err(self.unexpected(literal))
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, CanonError> {
        match self.peek() {
            Some(b'n') => self.take("null").map(|()| Value::Null),
            Some(b't') => self.take("true").map(|()| Value::Bool(true)),
            Some(b'f') => self.take("false").map(|()| Value::Bool(false)),
            Some(b'-' | b'0'..=b'9') => self.integer().map(Value::Int),
            Some(b'"') => self.string().map(Value::Str),
            Some(b'[' | b'{') if depth >= MAX_DEPTH => Err(CanonError::TooDeep),
            Some(b'[') => self.list(depth + 1),
            Some(b'{') => self.map(depth + 1),
            _ => Err(self.unexpected("a value")),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, CanonError> {
        self.take("[")?;
        let mut items = Vec::new();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value(depth)?);
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::List(items));
                }
                _ => return Err(self.unexpected("`,` or `]`")),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, CanonError> {
        self.take("{")?;
        let mut members = BTreeMap::new();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Map(members));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("a key in double quotes"));
            }
            let key = self.string()?;
            self.take(":")?;
            let member = self.value(depth)?;
            if members.contains_key(&key) {
                return Err(CanonError::DuplicateKey { key });
            }
            members.insert(key, member);
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::Map(members));
                }
                _ => return Err(self.unexpected("`,` or `}`")),
            }
        }
    }

    fn integer(&mut self) -> Result<i64, CanonError> {
        let rest = self.rest();
        let sign = usize::from(rest.starts_with('-'));
        let digits = rest.bytes().skip(sign).take_while(u8::is_ascii_digit).count();
        let token = rest.get(..sign + digits).unwrap_or("");
        if digits == 0 {
            self.at += sign;
            return Err(self.unexpected("a digit"));
        }
        self.at += token.len();
        if matches!(self.peek(), Some(b'.' | b'e' | b'E')) {
            return Err(CanonError::Float);
        }
        match token.parse::<i64>() {
            Ok(n) if (-MAX_INTEGER..=MAX_INTEGER).contains(&n) => Ok(n),
            _ => Err(CanonError::IntegerRange { found: token.chars().take(40).collect() }),
        }
    }

    fn string(&mut self) -> Result<String, CanonError> {
        self.take("\"")?;
        let mut out = String::new();
        loop {
            let plain = self.rest().bytes().take_while(|b| !matches!(b, b'"' | b'\\' | 0..=0x1f)).count();
            out.push_str(self.text.get(self.at..self.at + plain).unwrap_or(""));
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                _ => return Err(self.unexpected("a character of a string or `\"`")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, CanonError> {
        self.take("\\")?;
        let c = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                let start = self.at;
                let high = self.hex4()?;
                if !(0xd800..0xdc00).contains(&high) {
                    return char::from_u32(high).ok_or(lone(start));
                }
                self.take("\\u")?;
                let low = self.hex4()?;
                if !(0xdc00..0xe000).contains(&low) {
                    return Err(lone(start));
                }
                return char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).ok_or(lone(start));
            }
            _ => return Err(self.unexpected("an escape of JSON")),
        };
        self.at += 1;
        Ok(c)
    }

    fn hex4(&mut self) -> Result<u32, CanonError> {
        let digits = self.rest().get(..4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.and_then(|d| u32::from_str_radix(d, 16).ok()) {
            Some(n) => {
                self.at += 4;
                Ok(n)
            }
            None => Err(self.unexpected("four hexadecimal digits")),
        }
    }
}

fn lone(at: usize) -> CanonError {
    CanonError::Unexpected { at, found: "half of a surrogate pair".to_owned(), expected: "a whole character" }
}
