//! The data dictionary: the one description of the columns that every site maps its own rows to.

use crate::DocumentError;
use crate::document::{Document, Fault, MAX_INTEGER, Table, quoted};
use crate::identifier::{COLUMN, DICTIONARY, LEVEL, is_column, is_dictionary, is_level, require};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most columns of a dictionary.
pub const MAX_COLUMNS: usize = 512;

/// Most levels of a factor.
pub const MAX_LEVELS: usize = 1024;

/// The greatest `max_rows`: 2^30.
pub const MAX_ROWS: u32 = 1 << 30;

/// A study's common columns. Written by people as TOML, logged by digest of its canonical JSON form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dictionary {
    /// Name and version, for example `ist-core/1`.
    pub id: String,
    /// What it describes, for people.
    pub title: String,
    /// The most rows that any site may hold: a power of two, so that it says little about anyone (A5).
    pub max_rows: u32,
    /// What one row stands for, the privacy unit, for example `patient`.
    pub unit: String,
    /// The columns, in order.
    #[serde(rename = "column")]
    pub columns: Vec<Column>,
}

/// One column of the common model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "FlatColumn")]
pub struct Column {
    /// Short name used in studies: lower-case letters, digits and `_`.
    pub name: String,
    /// Words for tables.
    pub label: String,
    /// Unit of measurement, for example `mm Hg`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// What the column may give away.
    pub role: Role,
    /// Type with bounds or levels.
    #[serde(flatten)]
    pub kind: Kind,
}

/// What a column may give away about a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Names a person; never enters an analysis.
    Identifier,
    /// Known to others, singles out in combination.
    QuasiIdentifier,
    /// Special category by law.
    Sensitive,
    /// None of these.
    Plain,
}

/// Type and public domain of a column. Bounds come from the dictionary, never from rows (A5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Kind {
    /// A whole number within `min..=max`.
    Integer {
        /// Least value.
        min: i64,
        /// Greatest value.
        max: i64,
    },
    /// One of a list of levels; the first is the reference in models unless `reference` names another.
    Factor {
        /// The levels in order.
        levels: Vec<Level>,
        /// The level that models compare with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
    },
}

/// A level of a factor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// Short code used in studies.
    pub code: String,
    /// Words for tables.
    pub label: String,
}

/// A column as it stands in a document. Serde can either flatten or refuse unknown keys, so this lists all keys
/// and [`Column`] is made from it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlatColumn {
    name: String,
    label: String,
    unit: Option<String>,
    role: Role,
    r#type: String,
    min: Option<i64>,
    max: Option<i64>,
    levels: Option<Vec<Level>>,
    reference: Option<String>,
}

impl TryFrom<FlatColumn> for Column {
    type Error = String;

    fn try_from(flat: FlatColumn) -> Result<Column, String> {
        let FlatColumn { name, label, unit, role, r#type, min, max, levels, reference } = flat;
        let kind = match (r#type.as_str(), min, max, levels, reference) {
            ("integer", Some(min), Some(max), None, None) => Kind::Integer { min, max },
            ("factor", None, None, Some(levels), reference) => Kind::Factor { levels, reference },
            _ => {
                return Err(format!(
                    "column `{name}` is neither an integer with bounds nor a factor with levels"
                ));
            }
        };
        Ok(Column { name, label, unit, role, kind })
    }
}

impl Dictionary {
    /// Reads and checks a dictionary; `name` is what errors call it, usually a path.
    pub fn parse(name: &str, text: &str) -> Result<Dictionary, DocumentError> {
        let document = Document::parse(name, text)?;
        let root = document.root();
        let dictionary = Dictionary {
            id: root.text("id")?,
            title: root.text("title")?,
            max_rows: root.number("max_rows", 1, MAX_ROWS)?,
            unit: root.text("unit")?,
            columns: root.tables("column")?.into_iter().map(Column::read).collect::<Result<_, _>>()?,
        };
        root.finish()?;
        match dictionary.faults().into_iter().next() {
            None => Ok(dictionary),
            Some(fault) => Err(document.place_fault(fault)),
        }
    }

    /// The check of [`Dictionary::parse`] for a dictionary that came in canonical form; first fault, without a place.
    pub fn check(&self) -> Result<(), DocumentError> {
        let document = format!("dictionary `{}`", self.id);
        self.faults().into_iter().next().map_or(Ok(()), |fault| Err(fault.unplaced(&document)))
    }

    /// The column with this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// All faults, with paths as in the TOML form.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        require(&mut faults, is_dictionary, &["id"], &self.id, DICTIONARY);
        if !self.max_rows.is_power_of_two() || self.max_rows > MAX_ROWS {
            let expected = "a power of two, so that it says little about any site";
            faults.push(Fault::at(&["max_rows"], format!("`{}`", self.max_rows), expected));
        }
        if self.columns.is_empty() || self.columns.len() > MAX_COLUMNS {
            let found = format!("{} columns", self.columns.len());
            faults.push(Fault::at(&["column"], found, format!("1 to {MAX_COLUMNS} columns")));
        }
        let mut seen = BTreeSet::new();
        for (at, column) in self.columns.iter().enumerate() {
            let at = at.to_string();
            let path = ["column", at.as_str(), "name"];
            require(&mut faults, is_column, &path, &column.name, COLUMN);
            if !seen.insert(&column.name) {
                let found = format!("a second column {}", quoted(&column.name));
                faults.push(Fault::at(&path, found, "each name once"));
            }
            column.kind_faults(&at, &mut faults);
        }
        faults
    }
}

impl Column {
    fn read(table: Table<'_, '_>) -> Result<Column, DocumentError> {
        let kind = table.need("type")?;
        let kind = match kind.text()?.as_str() {
            "integer" => {
                Kind::Integer { min: table.need("min")?.integer()?, max: table.need("max")?.integer()? }
            }
            "factor" => Kind::Factor {
                levels: table
                    .need("levels")?
                    .items()?
                    .iter()
                    .map(|l| Level::read(l.table()?))
                    .collect::<Result<_, _>>()?,
                reference: table.optional_text("reference")?,
            },
            other => return Err(kind.fault(quoted(other), "`integer` or `factor`")),
        };
        let role = table.need("role")?;
        let role = match role.text()?.as_str() {
            "identifier" => Role::Identifier,
            "quasi-identifier" => Role::QuasiIdentifier,
            "sensitive" => Role::Sensitive,
            "plain" => Role::Plain,
            other => {
                return Err(
                    role.fault(quoted(other), "`identifier`, `quasi-identifier`, `sensitive` or `plain`")
                );
            }
        };
        let (name, label, unit) = (table.text("name")?, table.text("label")?, table.optional_text("unit")?);
        table.finish()?;
        Ok(Column { name, label, unit, role, kind })
    }

    fn kind_faults(&self, at: &str, faults: &mut Vec<Fault>) {
        match &self.kind {
            Kind::Integer { min, max } => {
                if min > max {
                    let found = format!("`max = {max}` below `min = {min}`");
                    faults.push(Fault::at(&["column", at, "max"], found, "`max` of at least `min`"));
                }
                for (key, value) in [("min", min), ("max", max)] {
                    if !(-MAX_INTEGER..=MAX_INTEGER).contains(value) {
                        let found = format!("`{key} = {value}`");
                        faults.push(Fault::at(&["column", at, key], found, "at most 2^53 - 1 in size"));
                    }
                }
            }
            Kind::Factor { levels, reference } => {
                if levels.len() < 2 || levels.len() > MAX_LEVELS {
                    let found = format!("{} levels", levels.len());
                    faults.push(Fault::at(
                        &["column", at, "levels"],
                        found,
                        format!("2 to {MAX_LEVELS} levels"),
                    ));
                }
                let mut seen = BTreeSet::new();
                for (index, level) in levels.iter().enumerate() {
                    let index = index.to_string();
                    let path = ["column", at, "levels", index.as_str(), "code"];
                    require(faults, is_level, &path, &level.code, LEVEL);
                    if !seen.insert(&level.code) {
                        let found = format!("a second level {}", quoted(&level.code));
                        faults.push(Fault::at(&path, found, "each code once"));
                    }
                }
                if let Some(reference) = reference.as_ref().filter(|code| !seen.contains(code)) {
                    let path = ["column", at, "reference"];
                    faults.push(Fault::at(&path, quoted(reference), format!("one of {}", self.codes())));
                }
            }
        }
    }

    /// The levels in order; none for a number.
    pub fn levels(&self) -> &[Level] {
        match &self.kind {
            Kind::Integer { .. } => &[],
            Kind::Factor { levels, .. } => levels,
        }
    }

    /// Index of the level with this code.
    pub fn level(&self, code: &str) -> Option<u16> {
        self.levels().iter().position(|level| level.code == code).and_then(|index| u16::try_from(index).ok())
    }

    /// Index of the level that models compare with; `None` for a number.
    pub fn reference(&self) -> Option<u16> {
        match &self.kind {
            Kind::Integer { .. } => None,
            Kind::Factor { reference, .. } => reference.as_ref().map_or(Some(0), |code| self.level(code)),
        }
    }

    /// Number of values in the public domain: levels, or whole numbers from `min` to `max`.
    pub fn domain_size(&self) -> u64 {
        match &self.kind {
            Kind::Integer { min, max } => max.abs_diff(*min).saturating_add(1),
            Kind::Factor { levels, .. } => levels.len() as u64,
        }
    }

    /// The level codes in backticks, for errors.
    pub(crate) fn codes(&self) -> String {
        self.levels().iter().map(|level| quoted(&level.code)).collect::<Vec<_>>().join(", ")
    }
}

impl Level {
    fn read(table: Table<'_, '_>) -> Result<Level, DocumentError> {
        let level = Level { code: table.text("code")?, label: table.text("label")? };
        table.finish()?;
        Ok(level)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const GOOD: &str = r#"
id = "toy/1"
title = "A toy"
max_rows = 64
unit = "patient"

[[column]]
name = "age"
label = "Age"
unit = "years"
role = "quasi-identifier"
type = "integer"
min = 0
max = 120

[[column]]
name = "sex"
label = "Sex"
role = "quasi-identifier"
type = "factor"
levels = [{ code = "male", label = "Male" }, { code = "female", label = "Female" }]
reference = "female"
"#;

    fn refusal(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "the test changes something");
        Dictionary::parse("toy.toml", &GOOD.replace(from, to)).unwrap_err().to_string()
    }

    #[test]
    fn a_dictionary_that_people_write_is_read() {
        let dictionary = Dictionary::parse("toy.toml", GOOD).unwrap();
        assert_eq!(dictionary.columns.len(), 2);
        let sex = dictionary.column("sex").unwrap();
        assert_eq!((sex.level("female"), sex.reference(), sex.domain_size()), (Some(1), Some(1), 2));
        assert_eq!(dictionary.column("age").unwrap().domain_size(), 121);
    }

    #[test]
    fn json_and_toml_say_the_same() {
        let dictionary = Dictionary::parse("toy.toml", GOOD).unwrap();
        let json = serde_json::to_string(&dictionary).unwrap();
        assert_eq!(serde_json::from_str::<Dictionary>(&json).unwrap(), dictionary);
    }

    #[test]
    fn json_with_an_unknown_or_foreign_key_is_refused() {
        let json = serde_json::to_string(&Dictionary::parse("toy.toml", GOOD).unwrap()).unwrap();
        assert!(serde_json::from_str::<Dictionary>(&json.replace("\"min\":0", "\"min\":0,\"x\":1")).is_err());
        assert!(
            serde_json::from_str::<Dictionary>(&json.replace("\"min\":0", "\"min\":0,\"reference\":\"a\""))
                .is_err()
        );
    }

    #[test]
    fn every_fault_has_its_place() {
        let cases = [
            ("max_rows = 64", "max_rows = 63", "toy.toml:4:12: found `63`, expected a power of two"),
            ("\"toy/1\"", "\"toy\"", "toy.toml:2:6: found `toy`, expected a dictionary's name"),
            ("\"sex\"", "\"age\"", "toy.toml:17:8: found a second column `age`, expected each name once"),
            ("\"sex\"", "\"Sex\"", "toy.toml:17:8: found `Sex`"),
            ("max = 120", "max = -1", "toy.toml:14:7: found `max = -1` below `min = 0`"),
            ("max = 120\n", "", "toy.toml:7:1: found no `max`"),
            ("max = 120", "max = 120\nmean = 71", "toy.toml:15:1: found the unknown key `mean`"),
            ("\"integer\"", "\"real\"", "toy.toml:12:8: found `real`, expected `integer` or `factor`"),
            (
                "reference = \"female\"",
                "reference = \"none\"",
                "toy.toml:22:13: found `none`, expected one of `male`",
            ),
            ("code = \"female\"", "code = \"male\"", "toy.toml:21:55: found a second level `male`"),
            ("code = \"female\"", "code = \"missing\"", "toy.toml:21:55: found `missing`"),
            ("max_rows = 64", "max_rows = \"64\"", "toy.toml:4:12: found text, expected a whole number"),
        ];
        let mut wrong = Vec::new();
        for (from, to, expected) in cases {
            let error = refusal(from, to);
            if !error.starts_with(expected) {
                wrong.push(format!("{error}\ndoes not start with\n{expected}\n"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
