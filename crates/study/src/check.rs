//! What a study must satisfy before anybody is asked: by itself, and against its dictionary.
//!
//! Only what makes a study meaningful is checked here. Whether it is allowed (who collects, how small a cell, which
//! columns) is policy, and is decided at the gate, with the rule named.

use crate::dictionary::{Column, Dictionary, Kind};
use crate::document::{Fault, quoted};
use crate::formula::Formula;
use crate::guard::column_level;
use crate::identifier::{DICTIONARY, NAME, is_dictionary, is_name, require};
use crate::question::{
    Condition, MAX_GRID, MAX_ITERATIONS, MIN_GRID, MIN_ITERATIONS, Method, Recipient, Study,
};
use std::collections::BTreeSet;

/// Most analyses of a study.
pub const MAX_ANALYSES: usize = 64;

/// Most cells of one table, sites apart.
pub const MAX_TABLE_CELLS: u64 = 1 << 16;

/// Most terms of a formula.
pub const MAX_TERMS: usize = 64;

const MAX_LIST: usize = 512;

impl Study {
    /// Faults that need no dictionary, with paths as in the TOML form.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let names = [
            ("id", &self.id),
            ("purpose", &self.purpose),
            ("domain", &self.domain),
            ("requester", &self.requester),
            ("collector", &self.collector),
            ("dataset", &self.dataset),
        ];
        for (key, name) in names {
            require(&mut faults, is_name, &[key], name, NAME);
        }
        require(&mut faults, is_dictionary, &["dictionary"], &self.dictionary, DICTIONARY);
        let date = self.until.parse::<jiff::civil::Date>().ok();
        if date.is_none_or(|date| date.to_string() != self.until) {
            faults.push(Fault::at(&["until"], quoted(&self.until), "a day such as `2027-12-31`"));
        }
        list(&mut faults, &["aggregators"], &self.aggregators, 2, Some(is_name));
        list(&mut faults, &["contributors"], &self.contributors, 1, Some(is_name));
        if self.minimum_contributors == 0 || self.minimum_contributors as usize > self.contributors.len() {
            let expected = format!("1 to {}, the number of contributors", self.contributors.len());
            faults.push(Fault::at(
                &["minimum_contributors"],
                format!("`{}`", self.minimum_contributors),
                expected,
            ));
        }
        for (key, number) in
            [("min_cell", self.protection.min_cell), ("min_hidden_sites", self.protection.min_hidden_sites)]
        {
            if number == 0 {
                faults.push(Fault::at(&["protection", key], "`0`", "at least 1"));
            }
        }
        if self.recipients.is_empty() || self.recipients.len() > MAX_LIST {
            let found = format!("{} recipients", self.recipients.len());
            faults.push(Fault::at(&["recipients"], found, format!("1 to {MAX_LIST}")));
        }
        for (at, recipient) in self.recipients.iter().enumerate() {
            let at = at.to_string();
            if self
                .recipients
                .iter()
                .take_while(|other| !std::ptr::eq(*other, recipient))
                .any(|r| r == recipient)
            {
                faults.push(Fault::at(&["recipients", &at], "the same recipient again", "each once"));
            }
            if let Recipient::Member(name) = recipient {
                require(&mut faults, is_name, &["recipients", &at], name, NAME);
            }
        }
        list(&mut faults, &["population", "complete"], &self.population.complete, 0, None);
        if self.population.conditions.len() > MAX_LIST {
            faults.push(Fault::at(
                &["population", "where"],
                "a longer list",
                format!("at most {MAX_LIST} conditions"),
            ));
        }
        if self.analyses.is_empty() || self.analyses.len() > MAX_ANALYSES {
            let found = format!("{} analyses", self.analyses.len());
            faults.push(Fault::at(&["analysis"], found, format!("1 to {MAX_ANALYSES} `[[analysis]]`")));
        }
        let mut seen = BTreeSet::new();
        for (at, analysis) in self.analyses.iter().enumerate() {
            let at = at.to_string();
            require(&mut faults, is_name, &["analysis", &at, "id"], &analysis.id, NAME);
            if !seen.insert(&analysis.id) {
                let found = format!("a second analysis {}", quoted(&analysis.id));
                faults.push(Fault::at(&["analysis", &at, "id"], found, "each name once"));
            }
            method_faults(&at, &analysis.method, &mut faults);
        }
        faults
    }

    /// Faults against the dictionary, with paths as in the TOML form.
    pub fn faults_against(&self, dictionary: &Dictionary) -> Vec<Fault> {
        let mut check = Check { dictionary, known: self.population.columns(), faults: Vec::new() };
        if self.dictionary != dictionary.id {
            let expected = format!("{}, the dictionary at hand", quoted(&dictionary.id));
            check.faults.push(Fault::at(&["dictionary"], quoted(&self.dictionary), expected));
            return check.faults;
        }
        for (at, name) in self.population.complete.iter().enumerate() {
            check.column(&["population", "complete", &at.to_string()], 0, name);
        }
        for (at, condition) in self.population.conditions.iter().enumerate() {
            check.condition(&at.to_string(), condition);
        }
        for (at, analysis) in self.analyses.iter().enumerate() {
            check.method(&at.to_string(), &analysis.method);
        }
        check.faults
    }
}

/// Faults of a list of names: too short, too long, a name that is none, a name twice.
fn list(
    faults: &mut Vec<Fault>,
    path: &[&str],
    names: &[String],
    least: usize,
    holds: Option<fn(&str) -> bool>,
) {
    if names.len() < least || names.len() > MAX_LIST {
        faults.push(Fault::at(
            path,
            format!("{} names", names.len()),
            format!("{least} to {MAX_LIST}, each once"),
        ));
    }
    let mut seen = BTreeSet::new();
    for (at, name) in names.iter().enumerate() {
        let at = at.to_string();
        let path: Vec<&str> = path.iter().copied().chain([at.as_str()]).collect();
        if let Some(holds) = holds {
            require(faults, holds, &path, name, NAME);
        }
        if !seen.insert(name) {
            faults.push(Fault::at(&path, format!("{} again", quoted(name)), "each name once"));
        }
    }
}

fn method_faults(at: &str, method: &Method, faults: &mut Vec<Fault>) {
    match method {
        Method::MantelHaenszel { exposure, outcome } => {
            for (key, text) in [("exposure", exposure), ("outcome", outcome)] {
                if column_level(text).is_none() {
                    let expected = "a column and its level such as `aspirin=yes`";
                    faults.push(Fault::at(&["analysis", at, key], quoted(text), expected));
                }
            }
        }
        Method::Logistic { formula, max_rounds, grid, .. } => {
            match Formula::parse(formula) {
                Ok(formula) if formula.terms.len() > MAX_TERMS => {
                    let found = format!("{} terms", formula.terms.len());
                    faults.push(Fault::at(
                        &["analysis", at, "formula"],
                        found,
                        format!("at most {MAX_TERMS}"),
                    ));
                }
                Ok(_) => {}
                Err(error) => {
                    let fault = Fault::at(&["analysis", at, "formula"], error.found, error.expected);
                    faults.push(Fault { within: error.at, ..fault });
                }
            }
            if !(MIN_ITERATIONS..=MAX_ITERATIONS).contains(max_rounds) {
                let expected = format!("{MIN_ITERATIONS} to {MAX_ITERATIONS}");
                faults.push(Fault::at(&["analysis", at, "max_rounds"], format!("`{max_rounds}`"), expected));
            }
            if !(MIN_GRID..=MAX_GRID).contains(grid) {
                let expected = format!("{MIN_GRID} to {MAX_GRID} binary places");
                faults.push(Fault::at(&["analysis", at, "grid"], format!("`{grid}`"), expected));
            }
        }
        Method::Describe { columns } => list(faults, &["analysis", at, "columns"], columns, 1, None),
        Method::Crosstab { by, .. } => list(faults, &["analysis", at, "by"], by, 1, None),
    }
}

struct Check<'d> {
    dictionary: &'d Dictionary,
    /// Columns that are never missing in the population.
    known: BTreeSet<&'d str>,
    faults: Vec<Fault>,
}

impl<'d> Check<'d> {
    fn fault(&mut self, path: &[&str], within: usize, found: String, expected: impl Into<String>) {
        self.faults.push(Fault { within, ..Fault::at(path, found, expected) });
    }

    fn column(&mut self, path: &[&str], within: usize, name: &str) -> Option<&'d Column> {
        let column = self.dictionary.column(name);
        if column.is_none() {
            let expected = format!("a column of {}", quoted(&self.dictionary.id));
            self.fault(path, within, quoted(name), expected);
        }
        column
    }

    /// A column of an analysis: it must be known for the whole population, which all analyses share (A6).
    fn analysed(&mut self, path: &[&str], within: usize, name: &str) -> Option<&'d Column> {
        let column = self.column(path, within, name)?;
        if !self.known.contains(name) {
            let found = format!("{}, which may be missing in the population", quoted(name));
            self.fault(path, within, found, "it in `population.complete`: all analyses share one population");
        }
        Some(column)
    }

    fn condition(&mut self, at: &str, condition: &Condition) {
        let path = ["population", "where", at];
        let Some(column) = self.column(&["population", "where", at, "column"], 0, &condition.column) else {
            return;
        };
        match &column.kind {
            Kind::Factor { .. } => {
                if condition.levels.is_empty() || condition.min.is_some() || condition.max.is_some() {
                    let found = format!("a condition on the factor {}", quoted(&column.name));
                    self.fault(&path, 0, found, "`in` with its levels, and no `min` or `max`");
                }
                for (index, code) in condition.levels.iter().enumerate() {
                    let path = ["population", "where", at, "in", &index.to_string()];
                    if column.level(code).is_none() {
                        self.fault(&path, 0, quoted(code), format!("one of {}", column.codes()));
                    } else if condition.levels.iter().take(index).any(|earlier| earlier == code) {
                        self.fault(&path, 0, format!("{} again", quoted(code)), "each level once");
                    }
                }
            }
            Kind::Integer { min, max } => {
                if !condition.levels.is_empty() || (condition.min.is_none() && condition.max.is_none()) {
                    let found = format!("a condition on the number {}", quoted(&column.name));
                    self.fault(&path, 0, found, "`min`, `max` or both, and no `in`");
                }
                for (key, bound) in [("min", condition.min), ("max", condition.max)] {
                    if bound.is_some_and(|bound| !(*min..=*max).contains(&bound)) {
                        let found = format!("`{}`", bound.unwrap_or_default());
                        let expected = format!("a number within the dictionary's bounds {min} to {max}");
                        self.fault(&["population", "where", at, key], 0, found, expected);
                    }
                }
                if condition.min.zip(condition.max).is_some_and(|(min, max)| min > max) {
                    self.fault(&path, 0, "`min` above `max`".into(), "`min` of at most `max`");
                }
            }
        }
    }

    fn method(&mut self, at: &str, method: &Method) {
        match method {
            Method::MantelHaenszel { exposure, outcome } => {
                let exposure = self.level(&["analysis", at, "exposure"], exposure);
                let path = ["analysis", at, "outcome"];
                let outcome = self.level(&path, outcome);
                if exposure.is_some() && exposure == outcome {
                    self.fault(&path, 0, "the exposure again".into(), "another column");
                }
            }
            Method::Logistic { formula, event, .. } => self.model(at, formula, event),
            Method::Describe { columns } => {
                for (index, name) in columns.iter().enumerate() {
                    let path = ["analysis", at, "columns", &index.to_string()];
                    if self
                        .analysed(&path, 0, name)
                        .is_some_and(|column| !matches!(column.kind, Kind::Integer { .. }))
                    {
                        self.fault(
                            &path,
                            0,
                            format!("the factor {}", quoted(name)),
                            "a whole number; `crosstab` counts factors",
                        );
                    }
                }
            }
            Method::Crosstab { by, .. } => {
                let mut cells: u64 = 1;
                for (index, name) in by.iter().enumerate() {
                    let path = ["analysis", at, "by", &index.to_string()];
                    cells =
                        cells.saturating_mul(self.analysed(&path, 0, name).map_or(1, Column::domain_size));
                }
                if cells > MAX_TABLE_CELLS {
                    let found = format!("a table of {cells} cells");
                    self.fault(&["analysis", at, "by"], 0, found, format!("at most {MAX_TABLE_CELLS} cells"));
                }
            }
        }
    }

    fn level(&mut self, path: &[&str], text: &str) -> Option<&'d str> {
        let (name, level) = column_level(text)?;
        let column = self.analysed(path, 0, name)?;
        let within = text.chars().count() - level.chars().count();
        if column.levels().is_empty() {
            self.fault(path, 0, format!("the number {}", quoted(name)), "a factor");
        } else if column.level(level).is_none() {
            self.fault(path, within, quoted(level), format!("one of {}", column.codes()));
        }
        Some(column.name.as_str())
    }

    fn model(&mut self, at: &str, text: &str, event: &str) {
        let path = ["analysis", at, "formula"];
        let Ok(formula) = Formula::parse(text) else {
            return;
        };
        for name in formula.columns() {
            let within = position_of_word(text, name);
            let Some(column) = self.analysed(&path, within, name) else {
                continue;
            };
            if name != formula.outcome {
                continue;
            }
            if column.levels().is_empty() {
                self.fault(&path, within, format!("the number {}", quoted(name)), "a factor as outcome");
            } else if column.level(event).is_none() {
                self.fault(
                    &["analysis", at, "event"],
                    0,
                    quoted(event),
                    format!("one of {}", column.codes()),
                );
            }
        }
    }
}

/// Characters before the word in a formula that was read.
fn position_of_word(text: &str, word: &str) -> usize {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(word)
        .find(|(at, _)| {
            let before = text.get(..*at).and_then(|t| t.chars().next_back());
            let after = text.get(at + word.len()..).and_then(|t| t.chars().next());
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
        .map_or(0, |(at, _)| text.get(..at).map_or(0, |t| t.chars().count()))
}

#[cfg(test)]
mod tests;
