//! How one site turns its own columns into the dictionary's. Parsed here, applied in the engine.
//!
//! Each dictionary column has one rule, of one of three forms: a source column (`from`), a derivation from several
//! (`cases`), or neither, which says that this site does not have the column (`otherwise = "missing"`). Nothing is
//! guessed: text that no rule expects is a fault, because a silent `missing` is a bias that nobody sees.

use crate::dictionary::{Column, Kind, Role};
use crate::document::{Document, Fault, Table, quoted};
use crate::identifier::{DICTIONARY, is_dictionary, require};
use crate::{Dictionary, DocumentError};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The word for no value, in `value`, `otherwise` and `expect`.
pub const MISSING: &str = "missing";

/// Most entries of any list or table of a mapping.
pub const MAX_ENTRIES: usize = 4096;

/// A site's mapping of a source table to a data dictionary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The dictionary that it maps to, for example `ist-core/1`.
    pub dictionary: String,
    /// One rule per dictionary column other than identifiers, by its name.
    pub column: BTreeMap<String, Rule>,
    /// Examples that must hold before the mapping is used.
    #[serde(default, rename = "test", skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<Example>,
}

/// How one dictionary column is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The source column (not used with `cases`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Take one part of the text: split at this separator ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// ... and keep this part, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<usize>,
    /// Compare codes without regard to case.
    #[serde(default)]
    pub fold_case: bool,
    /// Source text to level code; text that is in neither `recode` nor `missing` is a fault.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub recode: BTreeMap<String, String>,
    /// Source texts that mean missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// For numbers: the decimal sign, `.` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decimal: Option<String>,
    /// For numbers: value = source * multiply / divide + add, rounded half to even once, at the end; the factors
    /// are whole, the source may have decimals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiply: Option<i64>,
    /// See `multiply`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divide: Option<i64>,
    /// See `multiply`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add: Option<i64>,
    /// Derivation from several columns: the first case whose conditions all hold gives the value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cases: Vec<Case>,
    /// With `cases`: what holds when none does; absent means that such a row is a fault, `missing` means missing.
    /// Alone, as `missing`: this site does not have the column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<String>,
}

/// One case of a derivation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Source column to the texts that it may hold.
    pub when: BTreeMap<String, Vec<String>>,
    /// The level code or number, or `missing`.
    pub value: String,
}

/// An example row with what it must become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// Source columns of the example; columns left out are empty.
    pub row: BTreeMap<String, String>,
    /// Dictionary columns with their codes or numbers; `missing` for missing.
    pub expect: BTreeMap<String, String>,
}

impl Mapping {
    /// Reads a mapping; `name` is what errors call it, usually a path.
    pub fn parse(name: &str, text: &str) -> Result<Mapping, DocumentError> {
        let (_, mapping) = Mapping::read(name, text)?;
        Ok(mapping)
    }

    /// Reads a mapping and checks it against its dictionary, so that every fault has its place.
    pub fn parse_with(name: &str, text: &str, dictionary: &Dictionary) -> Result<Mapping, DocumentError> {
        let (document, mapping) = Mapping::read(name, text)?;
        match mapping.faults(dictionary).into_iter().next() {
            None => Ok(mapping),
            Some(fault) => Err(document.place_fault(fault)),
        }
    }

    /// Checks it against its dictionary; first fault, with its path but without line and column.
    pub fn check(&self, dictionary: &Dictionary) -> Result<(), DocumentError> {
        let document = format!("mapping to `{}`", self.dictionary);
        self.faults(dictionary).into_iter().next().map_or(Ok(()), |fault| Err(fault.unplaced(&document)))
    }

    /// The source columns that it reads, examples apart.
    pub fn sources(&self) -> BTreeSet<&str> {
        self.column.values().flat_map(Rule::sources).collect()
    }

    fn read<'t>(name: &'t str, text: &'t str) -> Result<(Document<'t>, Mapping), DocumentError> {
        let document = Document::parse(name, text)?;
        let root = document.root();
        let mut column = BTreeMap::new();
        for (name, item) in root.need("column")?.table()?.entries() {
            column.insert(name, Rule::read(item.table()?)?);
        }
        let tests = root.tables("test")?.into_iter().map(Example::read).collect::<Result<_, _>>()?;
        let mapping = Mapping { dictionary: root.text("dictionary")?, column, tests };
        root.finish()?;
        Ok((document, mapping))
    }

    /// All faults against a dictionary, with paths as in the TOML form.
    pub fn faults(&self, dictionary: &Dictionary) -> Vec<Fault> {
        let mut faults = Vec::new();
        require(&mut faults, is_dictionary, &["dictionary"], &self.dictionary, DICTIONARY);
        if self.dictionary != dictionary.id {
            let expected = format!("{}, the dictionary at hand", quoted(&dictionary.id));
            faults.push(Fault::at(&["dictionary"], quoted(&self.dictionary), expected));
        }
        for column in &dictionary.columns {
            if column.role != Role::Identifier && !self.column.contains_key(&column.name) {
                let found = format!("no rule for the column {}", quoted(&column.name));
                let expected = "one rule per column; `otherwise = \"missing\"` if this site does not have it";
                faults.push(Fault::at(&["column"], found, expected));
            }
        }
        for (name, rule) in &self.column {
            match dictionary.column(name) {
                None => {
                    let expected = format!("a column of {}", quoted(&dictionary.id));
                    faults.push(Fault::at(
                        &["column", name],
                        format!("a rule for {}", quoted(name)),
                        expected,
                    ));
                }
                Some(column) if column.role == Role::Identifier => {
                    let found = format!("a rule for the identifier {}", quoted(name));
                    faults.push(Fault::at(
                        &["column", name],
                        found,
                        "none: identifiers stay out of analyses",
                    ));
                }
                Some(column) => rule.faults(column, &mut faults),
            }
        }
        if self.tests.is_empty() {
            faults.push(Fault::at(
                &["test"],
                "no example",
                "at least one `[[test]]` with `row` and `expect`",
            ));
        }
        for (at, example) in self.tests.iter().enumerate() {
            example.faults(&at.to_string(), self, dictionary, &mut faults);
        }
        faults
    }
}

impl Rule {
    fn read(table: Table<'_, '_>) -> Result<Rule, DocumentError> {
        let part = match table.get("part") {
            None => None,
            Some(_) => Some(table.number("part", 0, 1000)? as usize),
        };
        let mut recode = BTreeMap::new();
        if let Some(item) = table.get("recode") {
            for (text, item) in item.table()?.entries() {
                recode.insert(text, item.text()?);
            }
        }
        let rule = Rule {
            from: table.optional_text("from")?,
            split: table.optional_text("split")?,
            part,
            fold_case: table.flag("fold_case")?,
            recode,
            missing: table.texts("missing")?,
            decimal: table.optional_text("decimal")?,
            multiply: table.optional_integer("multiply")?,
            divide: table.optional_integer("divide")?,
            add: table.optional_integer("add")?,
            cases: table.tables("cases")?.into_iter().map(Case::read).collect::<Result<_, _>>()?,
            otherwise: table.optional_text("otherwise")?,
        };
        table.finish()?;
        Ok(rule)
    }

    /// The source columns that it reads.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        let cases = self.cases.iter().flat_map(|case| case.when.keys());
        self.from.iter().chain(cases).map(String::as_str)
    }

    /// Source text as it is compared: as it stands, or in lower case where the rule folds case.
    pub fn folded(&self, text: &str) -> String {
        if self.fold_case { text.to_lowercase() } else { text.to_string() }
    }

    fn faults(&self, column: &Column, faults: &mut Vec<Fault>) {
        let name = column.name.as_str();
        let at =
            |key: &str, found: String, expected: &str| Fault::at(&["column", name, key], found, expected);
        let integer = matches!(column.kind, Kind::Integer { .. });

        match (&self.from, self.cases.is_empty(), self.otherwise.as_deref()) {
            (Some(_), true, None) | (None, false, _) | (None, true, Some(MISSING)) => {}
            (Some(_), false, _) => faults.push(at("cases", "`from` and `cases`".into(), "one of them")),
            (Some(_), true, Some(_)) => {
                faults.push(at(
                    "otherwise",
                    "`otherwise` with `from`".into(),
                    "`otherwise` with `cases`, or `missing`",
                ));
            }
            (None, true, Some(text)) => {
                faults.push(at("otherwise", quoted(text), "`missing`, where nothing is read"))
            }
            (None, true, None) => {
                faults.push(Fault::at(&["column", name], "a rule that reads nothing", "`from` or `cases`"));
            }
        }
        let alone = [
            ("split", self.split.is_some()),
            ("part", self.part.is_some()),
            ("recode", !self.recode.is_empty()),
            ("missing", !self.missing.is_empty()),
            ("multiply", self.multiply.is_some()),
            ("divide", self.divide.is_some()),
            ("add", self.add.is_some()),
            ("decimal", self.decimal.is_some()),
        ];
        for (key, given) in alone {
            let number = matches!(key, "multiply" | "divide" | "add" | "decimal");
            if given && self.from.is_none() {
                faults.push(at(key, format!("`{key}` without `from`"), "it only with `from`"));
            } else if given && number && !integer {
                faults.push(at(key, format!("`{key}` for a factor"), "it only for whole numbers"));
            }
        }
        if self.split.is_some() != self.part.is_some() {
            let key = if self.split.is_some() { "split" } else { "part" };
            faults.push(at(key, format!("`{key}` alone"), "`split` and `part` together"));
        }
        if self.split.as_deref() == Some("") {
            faults.push(at("split", "an empty separator".into(), "a separator such as `-`"));
        }
        if self.divide == Some(0) {
            faults.push(at("divide", "`0`".into(), "a divisor other than 0"));
        }
        if let Some(sign) = self.decimal.as_deref().filter(|sign| !matches!(*sign, "." | ",")) {
            faults.push(at("decimal", quoted(sign), "`.` or `,`"));
        }
        if self.recode.len() > MAX_ENTRIES
            || self.missing.len() > MAX_ENTRIES
            || self.cases.len() > MAX_ENTRIES
        {
            faults.push(at("from", "a longer list".into(), &format!("at most {MAX_ENTRIES} entries")));
        }

        let mut seen = BTreeSet::new();
        for (text, value) in &self.recode {
            let path = ["column", name, "recode", text.as_str()];
            value_faults(column, value, &path, faults);
            if !seen.insert(self.folded(text)) {
                faults.push(Fault::at(
                    &path,
                    format!("{} twice", quoted(text)),
                    "each text once, case apart",
                ));
            }
        }
        for (index, text) in self.missing.iter().enumerate() {
            if !seen.insert(self.folded(text)) {
                let path = ["column", name, "missing", &index.to_string()];
                faults.push(Fault::at(
                    &path,
                    format!("{} twice", quoted(text)),
                    "it in `recode` or in `missing`, once",
                ));
            }
        }
        for (index, case) in self.cases.iter().enumerate() {
            let index = index.to_string();
            if case.when.is_empty() || case.when.values().any(Vec::is_empty) {
                let path = ["column", name, "cases", &index, "when"];
                faults.push(Fault::at(&path, "nothing to compare", "a source column with at least one text"));
            }
            value_faults(column, &case.value, &["column", name, "cases", &index, "value"], faults);
        }
        if let Some(value) = &self.otherwise {
            value_faults(column, value, &["column", name, "otherwise"], faults);
        }
    }
}

/// A fault unless `value` is a level of the column, a whole number within its bounds, or `missing`.
fn value_faults(column: &Column, value: &str, path: &[&str], faults: &mut Vec<Fault>) {
    let expected = match &column.kind {
        _ if value == MISSING => return,
        Kind::Factor { .. } if column.level(value).is_some() => return,
        Kind::Factor { .. } => format!("one of {}, or `missing`", column.codes()),
        Kind::Integer { min, max } => match value.parse::<i64>() {
            Ok(number) if (*min..=*max).contains(&number) => return,
            _ => format!("a whole number from {min} to {max}, or `missing`"),
        },
    };
    faults.push(Fault::at(path, quoted(value), expected));
}

impl Case {
    fn read(table: Table<'_, '_>) -> Result<Case, DocumentError> {
        let mut when = BTreeMap::new();
        for (source, item) in table.need("when")?.table()?.entries() {
            let texts = if item.is_text() {
                vec![item.text()?]
            } else {
                item.items()?.iter().map(|text| text.text()).collect::<Result<_, _>>()?
            };
            when.insert(source, texts);
        }
        let case = Case { when, value: table.text("value")? };
        table.finish()?;
        Ok(case)
    }
}

impl Example {
    fn read(table: Table<'_, '_>) -> Result<Example, DocumentError> {
        let texts = |key: &str| -> Result<BTreeMap<String, String>, DocumentError> {
            table
                .need(key)?
                .table()?
                .entries()
                .into_iter()
                .map(|(name, item)| Ok((name, item.text()?)))
                .collect()
        };
        let example = Example { row: texts("row")?, expect: texts("expect")? };
        table.finish()?;
        Ok(example)
    }

    fn faults(&self, at: &str, mapping: &Mapping, dictionary: &Dictionary, faults: &mut Vec<Fault>) {
        let sources = mapping.sources();
        for source in self.row.keys().filter(|source| !sources.contains(source.as_str())) {
            let path = ["test", at, "row", source.as_str()];
            faults.push(Fault::at(&path, quoted(source), "a source column that some rule reads"));
        }
        for (name, value) in &self.expect {
            let path = ["test", at, "expect", name.as_str()];
            match dictionary.column(name).filter(|_| mapping.column.contains_key(name)) {
                None => faults.push(Fault::at(&path, quoted(name), "a column with a rule")),
                Some(column) => value_faults(column, value, &path, faults),
            }
        }
        if self.expect.is_empty() {
            faults.push(Fault::at(
                &["test", at, "expect"],
                "an example that expects nothing",
                "at least one column",
            ));
        }
    }
}

#[cfg(test)]
mod tests;
