//! `comity decide`: data access decisions.

use super::{At, call};
use clap::{Args, Subcommand};
use node::NodeError;
use node::control::{Command, Reply};
use std::path::Path;

#[derive(Subcommand)]
pub(super) enum DecideVerb {
    /// Lists what waits for this member's steward.
    List {
        #[command(flatten)]
        at: At,
    },
    /// Says yes for this member's dataset.
    Approve {
        #[command(flatten)]
        at: At,
        /// The study.
        study: String,
        #[command(flatten)]
        why: Because,
    },
    /// Says no, or takes a yes back.
    Refuse {
        #[command(flatten)]
        at: At,
        /// The study.
        study: String,
        #[command(flatten)]
        why: Because,
    },
}

#[derive(Args)]
pub(super) struct Because {
    /// Why, as a sealed note that can be erased; it stays here unless `--to` names who may read it.
    #[arg(long, value_name = "TEXT")]
    because: Option<String>,
    /// Members that may read why.
    #[arg(long, value_name = "MEMBER", num_args = 1.., requires = "because")]
    to: Vec<String>,
}

/// Runs a verb.
pub(super) fn run(verb: DecideVerb) -> Result<Reply, NodeError> {
    Ok(match verb {
        DecideVerb::List { at } => call(&at.node, Command::DecideList)?,
        DecideVerb::Approve { at, study, why } => {
            because(&at.node, call(&at.node, Command::DecideApprove { study })?, why)?
        }
        DecideVerb::Refuse { at, study, why } => {
            because(&at.node, call(&at.node, Command::DecideRefuse { study })?, why)?
        }
    })
}

/// Attaches the reason to the vote that was just said.
fn because(dir: &Path, mut vote: Reply, why: Because) -> Result<Reply, NodeError> {
    let about = vote.data.get("statement").and_then(|v| v.as_str()).map(str::to_owned);
    let (Some(text), Some(about), 0) = (why.because, about, vote.exit) else { return Ok(vote) };
    let note = call(dir, Command::RecordNote { about, text, to: why.to })?;
    vote.exit = note.exit;
    vote.text = format!("{}\n{}", vote.text, note.text);
    if let Some(data) = vote.data.as_object_mut() {
        data.insert("note".into(), note.data);
    }
    Ok(vote)
}
