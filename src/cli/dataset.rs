//! `comity dataset`: datasets.

use super::{At, call, text_of};
use clap::Subcommand;
use node::NodeError;
use node::control::{Command, Reply};
use std::path::PathBuf;

#[derive(Subcommand)]
pub(super) enum DatasetVerb {
    /// Maps and tests a dataset here, then registers it.
    Add {
        #[command(flatten)]
        at: At,
        /// Its description.
        file: PathBuf,
    },
    /// Lists the datasets of all members.
    List {
        #[command(flatten)]
        at: At,
    },
    /// Shows one.
    Show {
        #[command(flatten)]
        at: At,
        /// `name`, or `name@member`.
        name: String,
    },
    /// Takes one out of use at once, in running rounds too.
    Pause {
        #[command(flatten)]
        at: At,
        /// Its name.
        name: String,
    },
    /// Puts it back into use.
    Resume {
        #[command(flatten)]
        at: At,
        /// Its name.
        name: String,
    },
}

/// Runs a verb.
pub(super) fn run(verb: DatasetVerb) -> Result<Reply, NodeError> {
    Ok(match verb {
        DatasetVerb::Add { at, file } => {
            let (file, text) = text_of(&file)?;
            call(&at.node, Command::DatasetAdd { file, text })?
        }
        DatasetVerb::List { at } => call(&at.node, Command::DatasetList)?,
        DatasetVerb::Show { at, name } => call(&at.node, Command::DatasetShow { name })?,
        DatasetVerb::Pause { at, name } => node::service::call(&at.node, Command::DatasetPause { name })?,
        DatasetVerb::Resume { at, name } => call(&at.node, Command::DatasetResume { name })?,
    })
}
