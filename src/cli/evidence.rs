//! `comity evidence`: proofs that the hub or a member broke its word.

use super::{At, call, pin};
use crate::outside;
use clap::Subcommand;
use node::NodeError;
use node::control::{Command, Reply};
use std::path::PathBuf;

#[derive(Subcommand)]
pub(super) enum EvidenceVerb {
    /// Lists what this node holds.
    List {
        #[command(flatten)]
        at: At,
    },
    /// Writes one as a file that convicts before anyone.
    Export {
        #[command(flatten)]
        at: At,
        /// The beginning of its id.
        id: String,
        /// The file; `ID.evidence` by default.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Verifies a file, offline.
    Verify {
        /// The file.
        file: PathBuf,
        /// The charter's digest, from a source that you trust.
        #[arg(long)]
        charter: Option<String>,
    },
}

/// Runs a verb.
pub(super) fn run(verb: EvidenceVerb) -> Result<Reply, NodeError> {
    Ok(match verb {
        EvidenceVerb::List { at } => call(&at.node, Command::EvidenceList)?,
        EvidenceVerb::Export { at, id, out } => {
            let out = out.unwrap_or_else(|| PathBuf::from(format!("{id}.evidence")));
            let out = std::path::absolute(&out).map_err(|e| NodeError::io(&out, e))?.display().to_string();
            call(&at.node, Command::EvidenceExport { id, out })?
        }
        EvidenceVerb::Verify { file, charter } => outside::evidence_verify(&file, pin(charter.as_deref())?)?,
    })
}
