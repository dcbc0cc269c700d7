//! `comity study`: studies.

use super::{At, call, text_of};
use clap::Subcommand;
use node::NodeError;
use node::control::{Command, Reply};
use std::path::PathBuf;

#[derive(Subcommand)]
pub(super) enum StudyVerb {
    /// Says, dry, what every node would decide, what would leave and what is still needed.
    Check {
        #[command(flatten)]
        at: At,
        /// The study.
        file: PathBuf,
    },
    /// Asks a study.
    Submit {
        #[command(flatten)]
        at: At,
        /// The study.
        file: PathBuf,
    },
    /// Lists studies.
    List {
        #[command(flatten)]
        at: At,
    },
    /// Shows one: gates, votes, runs.
    Show {
        #[command(flatten)]
        at: At,
        /// Its id.
        id: String,
    },
    /// The output, if this member received it.
    Result {
        #[command(flatten)]
        at: At,
        /// Its id.
        id: String,
    },
}

/// Runs a verb.
pub(super) fn run(verb: StudyVerb) -> Result<Reply, NodeError> {
    Ok(match verb {
        StudyVerb::Check { at, file } => {
            let (file, text) = text_of(&file)?;
            call(&at.node, Command::StudyCheck { file, text })?
        }
        StudyVerb::Submit { at, file } => {
            let (file, text) = text_of(&file)?;
            call(&at.node, Command::StudySubmit { file, text })?
        }
        StudyVerb::List { at } => call(&at.node, Command::StudyList)?,
        StudyVerb::Show { at, id } => call(&at.node, Command::StudyShow { id })?,
        StudyVerb::Result { at, id } => call(&at.node, Command::StudyResult { id })?,
    })
}
