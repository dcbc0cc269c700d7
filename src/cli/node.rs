//! `comity node`: this organisation's node.

use super::{At, call, runtime};
use crate::join;
use clap::Subcommand;
use node::control::{Command, Reply};
use node::{Config, NodeError};
use std::path::PathBuf;

#[derive(Subcommand)]
pub(super) enum NodeVerb {
    /// Makes a node's folder and keys; prints its part of the charter.
    Init {
        #[command(flatten)]
        at: At,
        /// Short id of the member, for example `gb`.
        #[arg(long)]
        id: String,
        /// Name of the organisation.
        #[arg(long)]
        name: String,
        /// Its jurisdiction, for example `GB`.
        #[arg(long)]
        jurisdiction: String,
        /// Who controls and hosts it; the name by default.
        #[arg(long)]
        control: Option<String>,
        /// A file for the `sign` key that comes next, to be kept elsewhere; the charter commits to it.
        #[arg(long, value_name = "FILE")]
        next_key: Option<PathBuf>,
        /// Where other members reach it without the hub, `host:port`.
        #[arg(long)]
        endpoint: Option<String>,
        /// Cosigns with ML-DSA-44 too.
        #[arg(long)]
        post_quantum: bool,
    },
    /// Signs a charter and joins its federation.
    Join {
        #[command(flatten)]
        at: At,
        /// The charter.
        #[arg(long)]
        charter: PathBuf,
        /// Where the hub answers, `host:port`.
        #[arg(long)]
        hub: String,
        /// The HTTP proxy on the way there, `http://[USER:PASSWORD@]HOST:PORT`; without it the node connects directly.
        #[arg(long, value_name = "URL")]
        proxy: Option<String>,
        /// A snapshot to begin from, as `comity record snapshot` writes it: to be read at once, while the record is
        /// fetched and verified.
        #[arg(long, value_name = "FILE")]
        snapshot: Option<PathBuf>,
        /// The charter does not name it, or not with these keys: the members have accepted it, or will.
        #[arg(long)]
        proposed: bool,
    },
    /// Serves the node until interrupted.
    Serve {
        #[command(flatten)]
        at: At,
        /// Where other members reach this node, `host:port` to listen on; as in the node's configuration if not given.
        #[arg(long, value_name = "ADDR")]
        peer_listen: Option<String>,
        /// Its store was put back from a backup: nothing is cosigned until others have said how far they are.
        #[arg(long)]
        restored: bool,
    },
    /// How the node stands.
    Status {
        #[command(flatten)]
        at: At,
    },
    /// Stops everything that leaves the node, at once, in running rounds too.
    Stop {
        #[command(flatten)]
        at: At,
    },
    /// Starts a stopped node again.
    Resume {
        #[command(flatten)]
        at: At,
    },
    /// What exactly left this site.
    Egress {
        #[command(flatten)]
        at: At,
        /// From this day on, `YYYY-MM-DD`.
        #[arg(long, default_value = "1970-01-01")]
        since: String,
    },
}

/// Runs a verb; one that serves has nothing to show at its end.
pub(super) fn run(verb: NodeVerb) -> Result<Option<Reply>, NodeError> {
    let reply = match verb {
        NodeVerb::Init { at, id, name, jurisdiction, control, next_key, endpoint, post_quantum } => {
            let control = control.unwrap_or_else(|| name.clone());
            let config =
                Config { id, name, jurisdiction, control, hub: None, peer_listen: None, proxy: None };
            let extras = node::config::Extras { next_key, endpoint, post_quantum };
            let fragment = node::config::init_with(&at.node, &config, &extras)?;
            Reply::yes(fragment.clone(), serde_json::json!({ "member": config.id, "charter_part": fragment }))
        }
        NodeVerb::Join { at, charter, hub, proxy, snapshot, proposed } => {
            let from = snapshot.map(|file| join::snapshot(&charter, &file)).transpose()?;
            let reply = join::node_join(&at.node, &charter, &hub, proxy.as_deref(), proposed)?;
            join::keep_snapshot(&at.node, from, reply)?
        }
        NodeVerb::Serve { at, peer_listen, restored } => {
            if restored {
                node::service::mark_restored(&at.node)?;
            }
            let serving = node::service::serve_on(&at.node, peer_listen.as_deref(), join::interrupted());
            runtime()?.block_on(serving)?;
            return Ok(None);
        }
        NodeVerb::Status { at } => call(&at.node, Command::Status)?,
        // A stop acts here and now; nobody waits for the record to have it.
        NodeVerb::Stop { at } => node::service::call(&at.node, Command::Stop)?,
        NodeVerb::Resume { at } => call(&at.node, Command::Resume)?,
        NodeVerb::Egress { at, since } => {
            let day = charter::document::end_of_day(&since)
                .ok_or_else(|| NodeError::Input(format!("--since: found `{since}`, expected YYYY-MM-DD")))?;
            call(&at.node, Command::Egress { since: day - 86_400_000 })?
        }
    };
    Ok(Some(reply))
}
