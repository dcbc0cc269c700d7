//! `comity charter`: the agreement.

use crate::join;
use clap::Subcommand;
use node::NodeError;
use node::control::Reply;
use std::path::PathBuf;

#[derive(Subcommand)]
pub(super) enum CharterVerb {
    /// Checks a charter and prints its digest.
    Check {
        /// The file.
        file: PathBuf,
    },
}

/// Runs a verb.
pub(super) fn run(verb: CharterVerb) -> Result<Reply, NodeError> {
    match verb {
        CharterVerb::Check { file } => join::charter_check(&file),
    }
}
