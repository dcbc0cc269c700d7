//! Canonical form and digest of the documents, so that all members name the same bytes.

use crate::{Dictionary, Layout, Mapping, Plan, Study};
use record::{CanonError, Digest, canon};

/// Longest canonical form that is read back, in bytes. A plan lists every cell of every round.
pub const MAX_CANONICAL: usize = 16 << 20;

macro_rules! canonical {
    ($($document:ty),*) => {$(
        impl $document {
            /// The canonical JSON bytes (RFC 8785) that members log the digest of.
            pub fn to_canonical(&self) -> Result<Vec<u8>, CanonError> {
                canon::to_bytes(self)
            }

            /// SHA-256 of the canonical form.
            pub fn digest(&self) -> Result<Digest, CanonError> {
                Ok(Digest::of(&self.to_canonical()?))
            }

            /// Reads the canonical form of at most 16 MiB: shape and spelling only, so check it before use.
            ///
            /// INVARIANT: accepted if and only if writing it again gives the same bytes; a default that is
            /// spelled out would otherwise give one document two digests.
            pub fn from_canonical(bytes: &[u8]) -> Result<Self, CanonError> {
                let document: Self = canon::from_bytes_limit(bytes, MAX_CANONICAL)?;
                let again = document.to_canonical()?;
                if again == bytes {
                    return Ok(document);
                }
                let at = again.iter().zip(bytes).take_while(|(a, b)| a == b).count();
                Err(CanonError::NotCanonical { at })
            }
        }
    )*};
}

canonical!(Dictionary, Mapping, Study, Plan, Layout);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const DICTIONARY: &str = include_str!("../../../studies/ist/dictionary.toml");
    const MAPPING: &str = include_str!("../../../studies/ist/mapping.toml");
    const STUDIES: [&str; 4] = [
        include_str!("../../../studies/ist/aspirin.toml"),
        include_str!("../../../studies/ist/too-fine.toml"),
        include_str!("../../../studies/ist/near-miss.toml"),
        include_str!("../../../studies/ist/near-miss-mended.toml"),
    ];

    #[test]
    fn documents_come_back_from_their_canonical_form() {
        let dictionary = Dictionary::parse("d", DICTIONARY).unwrap();
        assert_eq!(Dictionary::from_canonical(&dictionary.to_canonical().unwrap()).unwrap(), dictionary);
        let mapping = Mapping::parse("m", MAPPING).unwrap();
        assert_eq!(Mapping::from_canonical(&mapping.to_canonical().unwrap()).unwrap(), mapping);
        for text in STUDIES {
            let study = Study::parse("s", text).unwrap();
            assert_eq!(Study::from_canonical(&study.to_canonical().unwrap()).unwrap(), study);
        }
    }

    #[test]
    fn comments_and_order_do_not_change_a_digest_and_meaning_does() {
        let digest = |text: &str| Study::parse("s", text).unwrap().digest().unwrap();
        let [aspirin, ..] = STUDIES;
        let stirred = aspirin
            .replace("domain = \"health\"\n", "")
            .replace("id = \"aspirin\"", "domain = \"health\" # x\nid = \"aspirin\"");
        assert_ne!(stirred, aspirin);
        assert_eq!(digest(&stirred), digest(aspirin));
        assert_ne!(digest(&aspirin.replace("min_cell = 11", "min_cell = 12")), digest(aspirin));
    }

    #[test]
    fn a_default_that_is_spelled_out_is_refused() {
        let study = Study::parse("s", STUDIES[0]).unwrap();
        let text = String::from_utf8(study.to_canonical().unwrap()).unwrap();
        let spelled = text
            .replace("\"recurrence14\",\"dead_dep_6m\"]}", "\"recurrence14\",\"dead_dep_6m\"],\"where\":[]}");
        assert_ne!(spelled, text);
        assert!(matches!(Study::from_canonical(spelled.as_bytes()), Err(CanonError::NotCanonical { .. })));
    }
}
