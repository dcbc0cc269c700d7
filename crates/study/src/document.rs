//! Reading TOML that people wrote, with the place of every fault.
//!
//! Derived deserialisers lose the place as soon as a table is flattened or tagged, and cannot say both what was
//! found and what was expected. A [`Document`] keeps each value's span; a [`Table`] hands out typed values and,
//! at [`Table::finish`], refuses keys that nobody asked for.

use crate::{DocumentError, Place};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Most bytes of a document that people write.
pub const MAX_BYTES: usize = 256 * 1024;

/// Greatest whole number that the canonical form carries: 2^53 - 1.
pub const MAX_INTEGER: i64 = (1 << 53) - 1;

/// A parsed document with its name and text.
pub struct Document<'t> {
    name: &'t str,
    text: &'t str,
    root: Spanned<DeTable<'t>>,
}

/// What a check found wrong and where, by path; [`Document::place_fault`] turns the path into line and column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Keys and list positions from the root, for example `analysis`, `1`, `formula`.
    pub path: Vec<String>,
    /// Characters into the text at that path, for faults inside a string.
    pub within: usize,
    /// What was found, user input in backticks.
    pub found: String,
    /// What was expected instead.
    pub expected: String,
}

impl Fault {
    /// A fault at the value with this path.
    pub fn at(path: &[&str], found: impl Into<String>, expected: impl Into<String>) -> Fault {
        let path = path.iter().map(|step| (*step).to_string()).collect();
        Fault { path, within: 0, found: found.into(), expected: expected.into() }
    }

    /// The same fault as an error without line and column, for documents that are no longer text.
    pub fn unplaced(self, document: &str) -> DocumentError {
        let document = if self.path.is_empty() {
            document.to_string()
        } else {
            format!("{document}, {}", self.path.join("."))
        };
        DocumentError { document, place: Place::default(), found: self.found, expected: self.expected }
    }
}

/// User input in backticks, shortened so that an error stays one line.
pub fn quoted(text: &str) -> String {
    const MOST: usize = 60;
    let mut out = String::from("`");
    for (count, c) in text.chars().enumerate() {
        if count == MOST {
            out.push_str("...");
            break;
        }
        if c.is_control() {
            out.extend(c.escape_debug());
        } else {
            out.push(c);
        }
    }
    out.push('`');
    out
}

impl<'t> Document<'t> {
    /// Parses `text`; `name` is what errors call it, usually a path.
    pub fn parse(name: &'t str, text: &'t str) -> Result<Document<'t>, DocumentError> {
        let refuse = |place, found: String, expected: &str| DocumentError {
            document: name.to_string(),
            place,
            found,
            expected: expected.to_string(),
        };
        if text.len() > MAX_BYTES {
            let found = format!("{} bytes", text.len());
            return Err(refuse(Place::default(), found, &format!("at most {MAX_BYTES} bytes")));
        }
        match DeTable::parse(text) {
            Ok(root) => Ok(Document { name, text, root }),
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                let found = text.get(span.clone()).filter(|t| !t.trim().is_empty());
                let found = found.map_or("something else than TOML".to_string(), |t| quoted(t.trim_end()));
                let message = error.message().replace('\n', ", ");
                Err(refuse(place_of(text, span.start), found, &format!("valid TOML: {message}")))
            }
        }
    }

    /// The document's root table.
    pub fn root(&self) -> Table<'_, 't> {
        Table { document: self, table: self.root.get_ref(), span: 0..0, asked: RefCell::default() }
    }

    /// An error at a byte range of the text.
    pub fn error(
        &self,
        span: &Range<usize>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> DocumentError {
        DocumentError {
            document: self.name.to_string(),
            place: place_of(self.text, span.start),
            found: found.into(),
            expected: expected.into(),
        }
    }

    /// The error for a fault: at the value, or else at the nearest part of its path that is in the text.
    pub fn place_fault(&self, fault: Fault) -> DocumentError {
        let mut span = 0..0;
        let mut exact = true;
        let mut steps = fault.path.iter();
        let mut value = match steps.next() {
            None => None,
            Some(key) => match find(self.root.get_ref(), key) {
                Some((_, value)) => {
                    span = value.span();
                    Some(value)
                }
                None => {
                    exact = false;
                    None
                }
            },
        };
        for step in steps {
            let next = value.and_then(|v| match v.get_ref() {
                DeValue::Table(table) => find(table, step).map(|(_, value)| value),
                DeValue::Array(list) => step.parse::<usize>().ok().and_then(|i| list.get(i)),
                _ => None,
            });
            match next {
                Some(next) => span = next.span(),
                None => exact = false,
            }
            value = next;
        }
        let start = span.start + if exact { self.offset_in_string(&span, fault.within) } else { 0 };
        self.error(&(start..span.end.max(start)), fault.found, fault.expected)
    }

    /// Bytes from the opening quote to the character `within` of a plain string; 0 where escapes or several
    /// lines make that a guess.
    fn offset_in_string(&self, span: &Range<usize>, within: usize) -> usize {
        let Some(raw) = self.text.get(span.clone()) else {
            return 0;
        };
        let quote = raw.chars().next();
        if within == 0 || !matches!(quote, Some('"' | '\'')) || raw.contains('\\') || raw.contains('\n') {
            return 0;
        }
        raw.char_indices().nth(within + 1).map_or(0, |(offset, _)| offset)
    }
}

type Entry<'d, 't> = (&'d Spanned<std::borrow::Cow<'t, str>>, &'d Spanned<DeValue<'t>>);

fn find<'d, 't>(table: &'d DeTable<'t>, key: &str) -> Option<Entry<'d, 't>> {
    table.iter().find(|(k, _)| k.get_ref().as_ref() == key)
}

fn place_of(text: &str, offset: usize) -> Place {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    let column = before.get(line_start..).map_or(0, |s| s.chars().count());
    Place { line: before.matches('\n').count() + 1, column: column + 1 }
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// One table of a document.
pub struct Table<'d, 't> {
    document: &'d Document<'t>,
    table: &'d DeTable<'t>,
    span: Range<usize>,
    asked: RefCell<BTreeSet<String>>,
}

/// One value of a document with the key that holds it.
pub struct Item<'d, 't> {
    document: &'d Document<'t>,
    key: String,
    value: &'d Spanned<DeValue<'t>>,
}

impl<'d, 't> Table<'d, 't> {
    /// The value of `key`, if there is one.
    pub fn get(&self, key: &str) -> Option<Item<'d, 't>> {
        self.asked.borrow_mut().insert(key.to_string());
        let (_, value) = find(self.table, key)?;
        Some(Item { document: self.document, key: key.to_string(), value })
    }

    /// The value of `key`.
    pub fn need(&self, key: &str) -> Result<Item<'d, 't>, DocumentError> {
        self.get(key).ok_or_else(|| {
            let mut error =
                self.document.error(&self.span, format!("no `{key}`"), format!("the key `{key}`"));
            if self.span.end == 0 {
                error.place = Place::default();
            }
            error
        })
    }

    /// Text that must be there and not be empty.
    pub fn text(&self, key: &str) -> Result<String, DocumentError> {
        let item = self.need(key)?;
        let text = item.text()?;
        if text.trim().is_empty() { Err(item.fault(format!("empty `{key}`"), "some text")) } else { Ok(text) }
    }

    /// Text that may be left out.
    pub fn optional_text(&self, key: &str) -> Result<Option<String>, DocumentError> {
        self.get(key).map(|item| item.text()).transpose()
    }

    /// A list of texts; left out is empty.
    pub fn texts(&self, key: &str) -> Result<Vec<String>, DocumentError> {
        self.get(key).map_or(Ok(Vec::new()), |item| item.items()?.iter().map(Item::text).collect())
    }

    /// A list of tables; left out is empty.
    pub fn tables(&self, key: &str) -> Result<Vec<Table<'d, 't>>, DocumentError> {
        self.get(key).map_or(Ok(Vec::new()), |item| item.items()?.iter().map(Item::table).collect())
    }

    /// A whole number that may be left out.
    pub fn optional_integer(&self, key: &str) -> Result<Option<i64>, DocumentError> {
        self.get(key).map(|item| item.integer()).transpose()
    }

    /// A whole number within `least..=most`.
    pub fn number(&self, key: &str, least: u32, most: u32) -> Result<u32, DocumentError> {
        let item = self.need(key)?;
        let value = item.integer()?;
        match u32::try_from(value) {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(item.fault(format!("`{value}`"), format!("a whole number from {least} to {most}"))),
        }
    }

    /// True or false; left out is false.
    pub fn flag(&self, key: &str) -> Result<bool, DocumentError> {
        self.get(key).map_or(Ok(false), |item| match item.value.get_ref() {
            DeValue::Boolean(value) => Ok(*value),
            other => Err(item.fault(kind_of(other), "true or false")),
        })
    }

    /// All keys with their values, in order of key; counts as having asked for them.
    pub fn entries(&self) -> Vec<(String, Item<'d, 't>)> {
        self.table
            .iter()
            .filter_map(|(key, _)| Some((key.get_ref().to_string(), self.get(key.get_ref())?)))
            .collect()
    }

    /// Refuses keys that nobody asked for.
    pub fn finish(self) -> Result<(), DocumentError> {
        let asked = self.asked.into_inner();
        let unknown =
            self.table.iter().map(|(key, _)| key).filter(|key| !asked.contains(key.get_ref().as_ref()));
        match unknown.min_by_key(|key| key.span().start) {
            None => Ok(()),
            Some(key) => {
                let known: Vec<String> = asked.iter().map(|key| format!("`{key}`")).collect();
                let found = format!("the unknown key {}", quoted(key.get_ref()));
                Err(self.document.error(&key.span(), found, format!("one of {}", known.join(", "))))
            }
        }
    }
}

impl<'d, 't> Item<'d, 't> {
    /// The value as text.
    pub fn text(&self) -> Result<String, DocumentError> {
        match self.value.get_ref() {
            DeValue::String(text) => Ok(text.to_string()),
            other => Err(self.fault(kind_of(other), format!("text in quotes for `{}`", self.key))),
        }
    }

    /// The value as a whole number within the canonical form's range.
    pub fn integer(&self) -> Result<i64, DocumentError> {
        let expected = || format!("a whole number for `{}`, at most 2^53 - 1 in size", self.key);
        match self.value.get_ref() {
            DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
                .ok()
                .filter(|value| (-MAX_INTEGER..=MAX_INTEGER).contains(value))
                .ok_or_else(|| self.fault(quoted(digits.as_str()), expected())),
            other => Err(self.fault(kind_of(other), expected())),
        }
    }

    /// The value as a list.
    pub fn items(&self) -> Result<Vec<Item<'d, 't>>, DocumentError> {
        match self.value.get_ref() {
            DeValue::Array(list) => Ok(list
                .iter()
                .map(|value| Item { document: self.document, key: self.key.clone(), value })
                .collect()),
            other => Err(self.fault(kind_of(other), format!("a list for `{}`", self.key))),
        }
    }

    /// The value as a table.
    pub fn table(&self) -> Result<Table<'d, 't>, DocumentError> {
        match self.value.get_ref() {
            DeValue::Table(table) => Ok(Table {
                document: self.document,
                table,
                span: self.value.span(),
                asked: RefCell::default(),
            }),
            other => Err(self.fault(kind_of(other), format!("a table for `{}`", self.key))),
        }
    }

    /// Whether the value is text.
    pub fn is_text(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::String(_))
    }

    /// An error at this value.
    pub fn fault(&self, found: impl Into<String>, expected: impl Into<String>) -> DocumentError {
        self.document.error(&self.value.span(), found, expected)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_where_it_stands() {
        let document = Document::parse("a.toml", "id = \"x\"\n\n  tittle = \"y\"\n").unwrap();
        let root = document.root();
        root.text("id").unwrap();
        root.get("title");
        let error = root.finish().unwrap_err();
        assert_eq!(
            error.to_string(),
            "a.toml:3:3: found the unknown key `tittle`, expected one of `id`, `title`"
        );
    }

    #[test]
    fn broken_toml_is_refused_where_it_breaks() {
        let error = Document::parse("a.toml", "id = \"x\"\ntitle = y\n").err().unwrap();
        assert_eq!((error.place.line, error.place.column), (2, 9), "{error}");
        assert!(error.expected.starts_with("valid TOML"), "{error}");
    }

    #[test]
    fn a_fault_inside_a_string_is_placed_at_its_character() {
        let document = Document::parse("a.toml", "x = 1\n[[a]]\nf = \"äb + ?\"\n").unwrap();
        let fault = Fault { within: 5, ..Fault::at(&["a", "0", "f"], "`?`", "a name") };
        let error = document.place_fault(fault);
        assert_eq!((error.place.line, error.place.column), (3, 11));
    }

    #[test]
    fn a_fault_at_a_missing_value_is_placed_at_its_nearest_parent() {
        let document = Document::parse("a.toml", "x = 1\n[b]\nc = 2\n").unwrap();
        let error = document.place_fault(Fault::at(&["b", "d", "e"], "nothing", "`d`"));
        assert_eq!(error.place.line, 2);
    }

    #[test]
    fn numbers_beyond_the_canonical_range_are_refused() {
        let document = Document::parse("a.toml", "x = 9007199254740992\ny = 9007199254740991").unwrap();
        assert!(document.root().optional_integer("x").is_err());
        assert_eq!(document.root().optional_integer("y").unwrap(), Some(MAX_INTEGER));
    }

    #[test]
    fn a_document_that_is_too_long_is_refused() {
        let text = " ".repeat(MAX_BYTES + 1);
        assert!(Document::parse("a.toml", &text).is_err());
    }
}
