//! `comity policy`: country schedules and the floor.

use super::{At, call, text_of};
use crate::join;
use clap::Subcommand;
use node::NodeError;
use node::control::{Command, Reply};
use std::path::PathBuf;

#[derive(Subcommand)]
pub(super) enum PolicyVerb {
    /// Checks a country schedule: only forbids, words and basis for each, tests pass.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Adopts a schedule for this member's own data; without a file the shipped one of its regime.
    Adopt {
        #[command(flatten)]
        at: At,
        /// The file.
        file: Option<PathBuf>,
    },
    /// Confirms the adopted schedule as counsel.
    Confirm {
        #[command(flatten)]
        at: At,
        /// The counsel's seat, for example `gb-counsel`.
        #[arg(long)]
        seat: String,
    },
    /// Shows the floor and this member's schedule.
    Show {
        #[command(flatten)]
        at: At,
    },
}

/// Runs a verb.
pub(super) fn run(verb: PolicyVerb) -> Result<Reply, NodeError> {
    Ok(match verb {
        PolicyVerb::Check { file } => {
            let (file, text) = text_of(&file)?;
            node::views::policy_check(&file, &text)?
        }
        PolicyVerb::Adopt { at, file } => {
            let (file, text) = match file {
                Some(file) => text_of(&file)?,
                None => join::shipped_schedule(&at.node)?,
            };
            call(&at.node, Command::PolicyAdopt { file, text })?
        }
        PolicyVerb::Confirm { at, seat } => call(&at.node, Command::PolicyConfirm { seat })?,
        PolicyVerb::Show { at } => call(&at.node, Command::PolicyShow)?,
    })
}
