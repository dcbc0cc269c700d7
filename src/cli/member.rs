//! `comity member`: who joins, leaves, is suspended.

use super::{At, call};
use crate::join;
use clap::Subcommand;
use node::NodeError;
use node::control::{Command, Reply};
use std::path::PathBuf;

#[derive(Subcommand)]
pub(super) enum MemberVerb {
    /// Lists members and what is proposed.
    List {
        #[command(flatten)]
        at: At,
    },
    /// Writes this node's member document with its consent, for a member that proposes it.
    Document {
        #[command(flatten)]
        at: At,
        /// The charter of the federation.
        #[arg(long)]
        charter: PathBuf,
        /// The file.
        #[arg(long)]
        out: PathBuf,
    },
    /// Proposes a change; a quorum of the others accepts it.
    Propose {
        #[command(flatten)]
        at: At,
        #[command(subcommand)]
        change: ChangeVerb,
    },
    /// Accepts a proposed change.
    Accept {
        #[command(flatten)]
        at: At,
        /// The proposal.
        id: String,
    },
    /// This member leaves.
    Leave {
        #[command(flatten)]
        at: At,
    },
}

#[derive(Subcommand)]
pub(super) enum ChangeVerb {
    /// Somebody joins.
    Join {
        /// Its document.
        document: PathBuf,
    },
    /// A member counts no more until it is reinstated; only its protective statements are heard.
    Suspend {
        /// Its id.
        member: String,
    },
    /// A suspended member counts again.
    Reinstate {
        /// Its id.
        member: String,
    },
    /// A member is none any more.
    Expel {
        /// Its id.
        member: String,
    },
    /// A member that lost its last key gets those in a new document.
    Rekey {
        /// Its new document, under its old id.
        document: PathBuf,
        /// Index from which its old key may have been another's.
        #[arg(long)]
        compromised_since: Option<u64>,
    },
}

/// Runs a verb.
pub(super) fn run(verb: MemberVerb) -> Result<Reply, NodeError> {
    Ok(match verb {
        MemberVerb::List { at } => call(&at.node, Command::MemberList)?,
        MemberVerb::Document { at, charter, out } => join::member_document(&at.node, &charter, &out)?,
        MemberVerb::Propose { at, change } => {
            let change = join::change_text(&change_of(change)?)?;
            call(&at.node, Command::MemberPropose { change })?
        }
        MemberVerb::Accept { at, id } => call(&at.node, Command::MemberAccept { id })?,
        MemberVerb::Leave { at } => call(&at.node, Command::MemberLeave)?,
    })
}

fn change_of(verb: ChangeVerb) -> Result<record::Change, NodeError> {
    use record::Change;
    Ok(match verb {
        ChangeVerb::Join { document } => {
            let node::members::Document { member, consent } = join::read_document(&document)?;
            Change::Join { member, consent }
        }
        ChangeVerb::Suspend { member } => Change::Suspend { member },
        ChangeVerb::Reinstate { member } => Change::Reinstate { member },
        ChangeVerb::Expel { member } => Change::Expel { member },
        ChangeVerb::Rekey { document, compromised_since } => {
            let node::members::Document { member, consent } = join::read_document(&document)?;
            Change::Rekey { member, consent, compromised_since }
        }
    })
}
