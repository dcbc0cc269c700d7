//! `comity bundle`: a study's file for an auditor.

use super::{At, call, pin};
use clap::Subcommand;
use node::NodeError;
use node::control::{Command, Reply};
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub(super) enum BundleVerb {
    /// Writes a study's file.
    Export {
        #[command(flatten)]
        at: At,
        /// The study.
        study: String,
        /// The file; `STUDY.bundle` by default.
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
pub(super) fn run(verb: BundleVerb) -> Result<Reply, NodeError> {
    Ok(match verb {
        BundleVerb::Export { at, study, out } => {
            let out = out.unwrap_or_else(|| PathBuf::from(format!("{study}.bundle")));
            let out = std::path::absolute(&out).map_err(|e| NodeError::io(&out, e))?.display().to_string();
            call(&at.node, Command::BundleExport { study, out })?
        }
        BundleVerb::Verify { file, charter } => bundle_verify(&file, charter.as_deref())?,
    })
}

/// Verifies a bundle, offline.
pub(super) fn bundle_verify(file: &Path, charter: Option<&str>) -> Result<Reply, NodeError> {
    let pin = pin(charter)?;
    let bytes = std::fs::read(file).map_err(|e| NodeError::io(file, e))?;
    if bytes.first() != Some(&b'{') {
        let start: String = String::from_utf8_lossy(&bytes).chars().take(16).collect();
        return Err(NodeError::Input(format!(
            "{}: byte 0: found `{}`, expected a bundle, a proof or evidence",
            file.display(),
            start.escape_debug()
        )));
    }
    Ok(node::verify::verify_bundle(&bytes, pin))
}
