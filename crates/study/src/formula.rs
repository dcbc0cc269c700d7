//! Formulas: `outcome ~ term + term`, with the place of every fault.

use crate::document::quoted;
use crate::identifier::is_column;
use std::fmt;

/// A model formula: an outcome and its terms, all of them columns. The intercept is always there and not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formula {
    /// The column left of `~`.
    pub outcome: String,
    /// The columns right of `~`, in order, at least one, each once.
    pub terms: Vec<String>,
}

/// A formula that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("character {}: found {found}, expected {expected}", .at + 1)]
pub struct FormulaError {
    /// Characters before the fault.
    pub at: usize,
    /// What was found, user input in backticks.
    pub found: String,
    /// What was expected instead.
    pub expected: String,
}

impl Formula {
    /// Reads `outcome ~ term + term`.
    pub fn parse(text: &str) -> Result<Formula, FormulaError> {
        let fault =
            |at, found: String, expected: &str| FormulaError { at, found, expected: expected.to_string() };
        let mut tokens = tokens(text).into_iter();
        let end = text.chars().count();
        let mut column = |what: &str| match tokens.next() {
            Some((at, word)) if is_column(&word) => Ok((at, word, tokens.next())),
            Some((at, word)) => Err(fault(at, quoted(&word), what)),
            None => Err(fault(end, "the end of the formula".into(), what)),
        };

        let (_, outcome, next) = column("the outcome, a column of the dictionary")?;
        match next {
            Some((_, sign)) if sign == "~" => {}
            Some((at, other)) => return Err(fault(at, quoted(&other), "`~` after the outcome")),
            None => {
                return Err(fault(end, "the end of the formula".into(), "`~` after the outcome"));
            }
        }
        let mut terms: Vec<String> = Vec::new();
        loop {
            let (at, term, next) = column("a term, a column of the dictionary")?;
            if term == outcome || terms.contains(&term) {
                return Err(fault(at, format!("{} again", quoted(&term)), "each column once"));
            }
            terms.push(term);
            match next {
                None => return Ok(Formula { outcome, terms }),
                Some((_, sign)) if sign == "+" => {}
                Some((at, other)) => {
                    return Err(fault(at, quoted(&other), "`+` and another term, or the end"));
                }
            }
        }
    }

    /// Outcome and terms.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.outcome.as_str()).chain(self.terms.iter().map(String::as_str))
    }
}

impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ~ {}", self.outcome, self.terms.join(" + "))
    }
}

/// Words and single signs with the number of characters before each.
fn tokens(text: &str) -> Vec<(usize, String)> {
    let mut tokens: Vec<(usize, String)> = Vec::new();
    let mut joined = false;
    for (at, c) in text.chars().enumerate() {
        let word = c.is_alphanumeric() || c == '_';
        match tokens.last_mut() {
            Some((_, last)) if word && joined => last.push(c),
            _ if c.is_whitespace() => {}
            _ => tokens.push((at, c.to_string())),
        }
        joined = word;
    }
    tokens
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_formula_is_read_with_any_spacing() {
        let formula = Formula::parse("dead_dep_6m~age+ sex  +sbp ").unwrap();
        assert_eq!(formula.outcome, "dead_dep_6m");
        assert_eq!(formula.terms, ["age", "sex", "sbp"]);
        assert_eq!(formula.to_string(), "dead_dep_6m ~ age + sex + sbp");
        assert_eq!(formula.columns().count(), 4);
    }

    #[test]
    fn every_fault_has_its_character() {
        let cases = [
            ("", 0),
            ("~ a", 0),
            ("y", 1),
            ("y a", 2),
            ("y ~", 3),
            ("y ~ a +", 7),
            ("y ~ a b", 6),
            ("y ~ a * b", 6),
            ("y ~ a + log(b)", 11),
            ("y ~ a + 1", 8),
            ("y ~ a ~ b", 6),
            ("y ~ a + a", 8),
            ("y ~ y + a", 4),
            ("Y ~ a", 0),
        ];
        for (text, at) in cases {
            let error = Formula::parse(text).unwrap_err();
            assert_eq!(error.at, at, "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,40}") {
            let _ = Formula::parse(&text);
        }

        #[test]
        fn what_is_written_is_read(terms in proptest::collection::btree_set("[a-x][a-z0-9_]{0,8}", 1..6)) {
            let formula = Formula { outcome: "y_".into(), terms: terms.into_iter().collect() };
            prop_assert_eq!(Formula::parse(&formula.to_string()).unwrap(), formula);
        }
    }
}
