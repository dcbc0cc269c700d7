//! Identifiers: what a party, a type, a seat may be called.

/// Whether `text` is a party id: `[a-z][a-z0-9-]{0,31}`.
pub fn is_party_id(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && text.len() <= 32
        && bytes.all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Whether `text` is a statement type: dotted words and a major version, as `dataset.register@1`.
pub fn is_statement_type(text: &str) -> bool {
    let Some((name, major)) = text.split_once('@') else {
        return false;
    };
    let word = |w: &str| {
        w.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
            && w.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    text.len() <= 64
        && name.split('.').all(word)
        && major.bytes().next().is_some_and(|b| b != b'0')
        && major.bytes().all(|b| b.is_ascii_digit())
}

/// Whether `text` can name a federation: `[a-z0-9][a-z0-9.-]{0,62}`. It becomes the origin `comity/<name>` of the
/// log, which a signed note wants free of spaces and pluses.
pub fn is_federation_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && text.len() <= 63
        && bytes.all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
}

/// Whether `text` is one non-empty line of at most `limit` characters without control characters.
pub(crate) fn is_line(text: &str, limit: usize) -> bool {
    !text.is_empty() && text.chars().count() <= limit && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn party_ids_are_short_lower_case_words() {
        for good in ["gb", "a", "it-2", "x123456789012345678901234567890z"] {
            assert!(is_party_id(good), "{good}");
        }
        for bad in ["", "GB", "2it", "-a", "a b", "a_b", "é", "x1234567890123456789012345678901z", "gb\n"] {
            assert!(!is_party_id(bad), "{bad}");
        }
    }

    #[test]
    fn statement_types_carry_their_major_version() {
        for good in ["charter.sign@1", "a@12", "round.key-erased@1"] {
            assert!(is_statement_type(good), "{good}");
        }
        for bad in [
            "",
            "charter.sign",
            "charter@0",
            "charter@01",
            "charter@1x",
            ".a@1",
            "a.@1",
            "a..b@1",
            "A@1",
            "a@1@2",
        ] {
            assert!(!is_statement_type(bad), "{bad}");
        }
    }
}
