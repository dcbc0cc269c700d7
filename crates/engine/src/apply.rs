//! Mappings made ready for rows: names resolved to positions, codes to values.

use crate::number::scaled;
use std::collections::{BTreeMap, BTreeSet};
use study::dictionary::{Column, Kind};
use study::document::quoted;
use study::mapping::{MISSING, Rule};

/// One value in the dictionary's terms: a number, or the index of a level; `None` is missing.
pub(crate) type Value = Option<i64>;

/// A text that a rule did not expect.
pub(crate) struct Unexpected {
    /// Positions of the source columns that the rule looked at.
    pub(crate) fields: Vec<usize>,
    pub(crate) found: String,
    pub(crate) expected: String,
}

/// One rule, ready for rows with a known header.
pub(crate) struct Maker<'m> {
    column: &'m Column,
    rule: &'m Rule,
    way: Way,
}

enum Way {
    Field { at: usize, recode: BTreeMap<String, Value>, missing: BTreeSet<String> },
    Cases { cases: Vec<(Vec<Test>, Value)>, otherwise: Option<Value>, fields: Vec<usize> },
    Absent,
}

/// A source column by position, and the texts that it may hold.
type Test = (usize, BTreeSet<String>);

/// A dictionary value from its written form: a level's code, a number within bounds, or `missing`.
pub(crate) fn written(column: &Column, text: &str) -> Option<Value> {
    match &column.kind {
        _ if text == MISSING => Some(None),
        Kind::Factor { .. } => column.level(text).map(|index| Some(i64::from(index))),
        Kind::Integer { min, max } => text.parse().ok().filter(|n| (*min..=*max).contains(n)).map(Some),
    }
}

/// The written form of a value.
pub(crate) fn shown(column: &Column, value: Value) -> String {
    let Some(value) = value else {
        return MISSING.into();
    };
    let level = usize::try_from(value).ok().and_then(|index| column.levels().get(index));
    level.map_or_else(|| value.to_string(), |level| level.code.clone())
}

impl<'m> Maker<'m> {
    /// Resolves a rule that [`study::Mapping::check`] has passed; `Err` is a source column that the header lacks.
    pub(crate) fn new(column: &'m Column, rule: &'m Rule, header: &[String]) -> Result<Maker<'m>, String> {
        let position = |name: &str| header.iter().position(|h| h == name).ok_or_else(|| name.to_string());
        let way = if let Some(from) = &rule.from {
            let recode = rule.recode.iter();
            let recode =
                recode.filter_map(|(text, code)| Some((rule.folded(text), written(column, code)?))).collect();
            let missing = rule.missing.iter().map(|text| rule.folded(text)).collect();
            Way::Field { at: position(from)?, recode, missing }
        } else if rule.cases.is_empty() {
            Way::Absent
        } else {
            let mut cases = Vec::new();
            let mut fields = BTreeSet::new();
            for case in &rule.cases {
                let mut conditions = Vec::new();
                for (source, texts) in &case.when {
                    let at = position(source)?;
                    fields.insert(at);
                    conditions.push((at, texts.iter().map(|text| rule.folded(text)).collect()));
                }
                cases.extend(written(column, &case.value).map(|value| (conditions, value)));
            }
            let otherwise = rule.otherwise.as_deref().and_then(|text| written(column, text));
            Way::Cases { cases, otherwise, fields: fields.into_iter().collect() }
        };
        Ok(Maker { column, rule, way })
    }

    /// The dictionary's column that it makes.
    pub(crate) fn column(&self) -> &'m Column {
        self.column
    }

    /// The value of one row, given by position.
    pub(crate) fn value<'r>(&self, row: impl Fn(usize) -> &'r str) -> Result<Value, Unexpected> {
        match &self.way {
            Way::Absent => Ok(None),
            Way::Cases { cases, otherwise, fields } => {
                let holds = |(at, texts): &Test| texts.contains(&self.rule.folded(row(*at)));
                let case = cases.iter().find(|(conditions, _)| conditions.iter().all(holds));
                case.map(|(_, value)| *value).or(*otherwise).ok_or_else(|| Unexpected {
                    fields: fields.clone(),
                    found: fields.iter().map(|at| quoted(row(*at))).collect::<Vec<_>>().join(", "),
                    expected: "a row that one of `cases` describes, or `otherwise`".into(),
                })
            }
            Way::Field { at, recode, missing } => {
                let misfit =
                    |found: String, expected: String| Unexpected { fields: vec![*at], found, expected };
                let text = row(*at);
                if missing.contains(&self.rule.folded(text)) {
                    return Ok(None);
                }
                let part = match (&self.rule.split, self.rule.part) {
                    (Some(sign), Some(part)) => text.split(sign.as_str()).nth(part).ok_or_else(|| {
                        misfit(quoted(text), format!("at least {} parts at {}", part + 1, quoted(sign)))
                    })?,
                    _ => text,
                };
                let folded = self.rule.folded(part);
                if missing.contains(&folded) {
                    return Ok(None);
                }
                if let Some(value) = recode.get(&folded) {
                    return Ok(*value);
                }
                self.plain(&folded).ok_or_else(|| misfit(quoted(part), self.expected()))
            }
        }
    }

    /// Text that `recode` does not know: a number, or, where nothing is recoded, a level's own code.
    fn plain(&self, text: &str) -> Option<Value> {
        match &self.column.kind {
            Kind::Factor { .. } if self.rule.recode.is_empty() => {
                self.column.level(text).map(|index| Some(i64::from(index)))
            }
            Kind::Factor { .. } => None,
            Kind::Integer { min, max } => {
                let sign = self.rule.decimal.as_deref().and_then(|sign| sign.chars().next()).unwrap_or('.');
                let (multiply, divide) = (self.rule.multiply.unwrap_or(1), self.rule.divide.unwrap_or(1));
                scaled(text, sign, multiply, divide, self.rule.add.unwrap_or(0))
                    .filter(|number| (*min..=*max).contains(number))
                    .map(Some)
            }
        }
    }

    /// What the rule takes, in words.
    fn expected(&self) -> String {
        const MOST: usize = 12;
        let codes: Vec<String> = if self.rule.recode.is_empty() {
            self.column.levels().iter().map(|level| quoted(&level.code)).collect()
        } else {
            self.rule.recode.keys().map(|text| quoted(text)).collect()
        };
        let more = if codes.len() > MOST { ", ..." } else { "" };
        let codes = codes.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
        match &self.column.kind {
            Kind::Factor { .. } => format!("one of {codes}{more}"),
            Kind::Integer { min, max } => {
                let or = if codes.is_empty() { String::new() } else { format!(", or one of {codes}{more}") };
                format!("a number that becomes {min} to {max}{or}")
            }
        }
    }
}
