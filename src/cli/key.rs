//! `comity key`: this member's keys.

use super::{At, call};
use crate::join;
use clap::Subcommand;
use node::NodeError;
use node::control::{Command, Reply};
use std::path::PathBuf;

#[derive(Subcommand)]
pub(super) enum KeyVerb {
    /// Draws the `sign` key that comes next into a file to be kept elsewhere; prints its digest.
    Next {
        /// The file.
        #[arg(long)]
        out: PathBuf,
    },
    /// Puts the key that was committed to in place, and commits to another.
    Rotate {
        #[command(flatten)]
        at: At,
        /// The file that `key next` wrote.
        #[arg(long)]
        next_key: PathBuf,
        /// A file for the one after it, kept elsewhere.
        #[arg(long)]
        new_next: PathBuf,
        /// Index from which the old key may have been another's: what it said since is contested.
        #[arg(long)]
        compromised_since: Option<u64>,
        /// Cosign and TLS keys too.
        #[arg(long)]
        all: bool,
    },
    /// Stands by contested statements.
    Reaffirm {
        #[command(flatten)]
        at: At,
        /// Their indices.
        #[arg(required = true)]
        entries: Vec<u64>,
    },
}

/// Runs a verb.
pub(super) fn run(verb: KeyVerb) -> Result<Reply, NodeError> {
    Ok(match verb {
        KeyVerb::Next { out } => join::next_key(&out)?,
        KeyVerb::Rotate { at, next_key, new_next, compromised_since, all } => {
            let next_key = std::path::absolute(&next_key).map_err(|e| NodeError::io(&next_key, e))?;
            // Nothing is drawn for a rotation that cannot be.
            drop(node::keys::NodeKeys::read_next(&next_key)?);
            let new_next = node::keys::NodeKeys::draw_next(&new_next)?;
            let next_key = next_key.display().to_string();
            let rotation = node::members::Rotation { next_key, new_next, compromised_since, all };
            call(&at.node, Command::KeyRotate(rotation))?
        }
        KeyVerb::Reaffirm { at, entries } => call(&at.node, Command::KeyReaffirm { entries })?,
    })
}
