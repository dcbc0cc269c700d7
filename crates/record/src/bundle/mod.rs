//! Bundles: one file from which anyone can check the record of a study alone, offline.
//!
//! A bundle holds the *whole* record up to a checkpoint and not a selection, since a selection could leave out a veto
//! or a revocation; and it cannot vouch for itself, since whoever makes up a record makes up its keys. So the digest
//! of the charter comes from elsewhere, and a verification without it says *unpinned*.
//!
//! The file is canonical JSON (of any length), signed by the member that exported it. What is checked here is the
//! container: who said what, that nothing is missing or changed, that a quorum saw it. What the statements *mean* is
//! for the rooms that know their types.

mod check;

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::{Deserialize, Serialize};

pub use check::{BundleReport, Finding, Pin};

use crate::canon::{self, CanonError};
use crate::checkpoint::SignedCheckpoint;
use crate::digest::Digest;
use crate::keys::{SecretKey, Signature, pae};
use crate::statement::Statement;
use crate::tree::leaf_hash;

/// The DSSE payload type that an exporter signs under.
pub const PAYLOAD_TYPE: &str = "application/vnd.comity.bundle+json";
/// Longest bundle that is read, bytes.
pub const MAX_BUNDLE_BYTES: usize = 256 * 1024 * 1024;
const FORMAT: &str = "comity-bundle/1";

/// A bundle that cannot be made or read at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Not canonical JSON of the expected shape.
    #[error("bundle cannot be read: {0}")]
    Canon(#[from] CanonError),
    /// Another format or version.
    #[error(
        "found bundle format `{0}`, expected `comity-bundle/1`: use the version of the software that wrote it"
    )]
    Format(String),
    /// A part that is not strict base64.
    #[error("{part} of the bundle is not base64 in its one spelling")]
    Base64 {
        /// Which part: an entry by index or a blob by digest.
        part: String,
    },
    /// More or fewer entries than the checkpoint covers.
    #[error("bundle would hold {entries} entries, but its checkpoint covers {size}: export exactly those")]
    Size {
        /// Entries handed in.
        entries: u64,
        /// Size of the checkpoint.
        size: u64,
    },
}

/// The record of a study in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Every entry of the record up to the checkpoint, verbatim.
    pub entries: Vec<Vec<u8>>,
    /// The hash of each entry, so that a changed one can be named and not only noticed.
    pub leaves: Vec<Digest>,
    /// The signed note with its cosignatures.
    pub checkpoint: String,
    /// Earlier notes, each with the quorum that sealed a change of members, keys or hub; in the order of their sizes.
    pub seals: Vec<String>,
    /// Documents that statements name by digest.
    pub blobs: BTreeMap<Digest, Vec<u8>>,
    /// The study that it was exported for.
    pub study: String,
    /// The member that exported it.
    pub exported_by: String,
    /// When, milliseconds since the epoch by that member's clock.
    pub exported_at: i64,
    /// The exporter's `sign` key over everything above.
    pub signature: Signature,
}

/// The file's members, in the spelling of the file. `signature` is absent in what is signed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    study: String,
    exported_by: String,
    exported_at: i64,
    entries: Vec<String>,
    leaves: Vec<Digest>,
    checkpoint: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    seals: Vec<String>,
    blobs: BTreeMap<Digest, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signature: Option<Signature>,
}

impl Bundle {
    /// Makes and signs a bundle: all entries that `checkpoint` covers, and the blobs that the study's statements name.
    ///
    /// # Errors
    /// When the entries are not exactly those, by number.
    pub fn export(
        study: &str,
        entries: Vec<Vec<u8>>,
        checkpoint: &SignedCheckpoint,
        blobs: BTreeMap<Digest, Vec<u8>>,
        exported_by: &str,
        exported_at: i64,
        key: &SecretKey,
    ) -> Result<Self, BundleError> {
        let size = checkpoint.checkpoint().size();
        if entries.len() as u64 != size {
            return Err(BundleError::Size { entries: entries.len() as u64, size });
        }
        let mut bundle = Bundle {
            leaves: entries.iter().map(|e| leaf_hash(e)).collect(),
            entries,
            checkpoint: checkpoint.to_note(),
            seals: Vec::new(),
            blobs,
            study: study.to_owned(),
            exported_by: exported_by.to_owned(),
            exported_at,
            signature: Signature::from_bytes([0; 64]),
        };
        bundle.sign(key)?;
        Ok(bundle)
    }

    /// Signs the bundle again, as whoever holds `key`.
    ///
    /// # Errors
    /// When a number in it has no canonical form.
    pub fn sign(&mut self, key: &SecretKey) -> Result<(), BundleError> {
        self.signature = key.sign(&pae(PAYLOAD_TYPE, &canon::to_bytes(&self.file(None))?));
        Ok(())
    }

    fn file(&self, signature: Option<Signature>) -> File {
        File {
            format: FORMAT.to_owned(),
            study: self.study.clone(),
            exported_by: self.exported_by.clone(),
            exported_at: self.exported_at,
            entries: self.entries.iter().map(|e| BASE64_STANDARD.encode(e)).collect(),
            leaves: self.leaves.clone(),
            checkpoint: self.checkpoint.clone(),
            seals: self.seals.clone(),
            blobs: self.blobs.iter().map(|(d, b)| (*d, BASE64_STANDARD.encode(b))).collect(),
            signature,
        }
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// When a number in it has no canonical form.
    pub fn write(&self) -> Result<Vec<u8>, BundleError> {
        Ok(canon::to_bytes(&self.file(Some(self.signature)))?)
    }

    /// Reads a file's bytes; verifies nothing but the form.
    ///
    /// # Errors
    /// Unless `bytes` are exactly what [`write`](Self::write) gives for what was read.
    pub fn read(bytes: &[u8]) -> Result<Self, BundleError> {
        let file: File = canon::from_bytes_limit(bytes, MAX_BUNDLE_BYTES)?;
        if file.format != FORMAT {
            return Err(BundleError::Format(crate::digest::excerpt(&file.format)));
        }
        let decode = |text: &str, part: &dyn Fn() -> String| {
            BASE64_STANDARD.decode(text).map_err(|_| BundleError::Base64 { part: part() })
        };
        let mut entries = Vec::with_capacity(file.entries.len());
        for (index, text) in file.entries.iter().enumerate() {
            entries.push(decode(text, &|| format!("entry {index}"))?);
        }
        let mut blobs = BTreeMap::new();
        for (digest, text) in &file.blobs {
            blobs.insert(*digest, decode(text, &|| format!("blob {digest}"))?);
        }
        let signature =
            file.signature.ok_or_else(|| CanonError::Shape("missing field `signature`".to_owned()))?;
        Ok(Bundle {
            entries,
            leaves: file.leaves,
            checkpoint: file.checkpoint,
            seals: file.seals,
            blobs,
            study: file.study,
            exported_by: file.exported_by,
            exported_at: file.exported_at,
            signature,
        })
    }
}

impl Statement {
    /// Whether the statement is about this study: it is its subject (alone, or before a `/`), or its body has it as
    /// `study`.
    pub fn concerns(&self, study: &str) -> bool {
        let subject =
            self.subject.strip_prefix(study).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        subject || self.body.get("study").and_then(crate::Value::as_str) == Some(study)
    }
}
