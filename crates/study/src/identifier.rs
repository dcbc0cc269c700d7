//! The names that documents use.

use crate::document::Fault;

/// Whether `text` names a party, a dataset, a study or an analysis: `[a-z][a-z0-9-]{0,31}`.
pub fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    text.len() <= 32
        && chars.next().is_some_and(|c| c.is_ascii_lowercase())
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// Whether `text` names a column: `[a-z][a-z0-9_]{0,47}`.
pub fn is_column(text: &str) -> bool {
    let mut chars = text.chars();
    text.len() <= 48
        && chars.next().is_some_and(|c| c.is_ascii_lowercase())
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Whether `text` is a level's code: `[a-z0-9][a-z0-9_-]{0,47}`, and not `missing`, which means that there is none.
pub fn is_level(text: &str) -> bool {
    let mut chars = text.chars();
    text.len() <= 48
        && text != "missing"
        && chars.next().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
}

/// Whether `text` names a dictionary with its version: a name, `/`, a whole number from 1, for example `ist-core/1`.
pub fn is_dictionary(text: &str) -> bool {
    text.split_once('/').is_some_and(|(name, version)| {
        is_name(name)
            && version.len() <= 6
            && !version.starts_with('0')
            && !version.is_empty()
            && version.chars().all(|c| c.is_ascii_digit())
    })
}

/// In words, for errors.
pub(crate) const NAME: &str = "a name of lower-case letters, digits and `-`, at most 32, a letter first";
pub(crate) const COLUMN: &str = "a name of lower-case letters, digits and `_`, at most 48, a letter first";
pub(crate) const LEVEL: &str =
    "a code of lower-case letters, digits, `_` and `-`, at most 48, other than `missing`";
pub(crate) const DICTIONARY: &str = "a dictionary's name and version such as `ist-core/1`";

/// A fault unless `holds(text)`.
pub(crate) fn require(
    faults: &mut Vec<Fault>,
    holds: fn(&str) -> bool,
    path: &[&str],
    text: &str,
    expected: &str,
) {
    if !holds(text) {
        faults.push(Fault::at(path, crate::document::quoted(text), expected));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_letters() {
        assert!(is_name("gb") && is_name("near-miss-2"));
        assert!(
            !is_name("") && !is_name("Gb") && !is_name("2x") && !is_name("a_b") && !is_name(&"a".repeat(33))
        );
        assert!(is_column("dead_dep_6m") && !is_column("a-b") && !is_column("_a"));
        assert!(is_level("6m") && is_level("not-recovered") && !is_level("missing") && !is_level(""));
        assert!(is_dictionary("ist-core/1") && !is_dictionary("ist-core") && !is_dictionary("ist-core/01"));
    }
}
