//! `comity hub`: the sequencer and relay, and its hand-over.

use super::runtime;
use crate::{handover, join};
use clap::Subcommand;
use node::NodeError;
use node::control::Reply;
use std::path::PathBuf;

#[derive(Subcommand)]
pub(super) enum HubVerb {
    /// Makes a hub's folder and keys; prints its part of the charter.
    Init {
        /// The folder.
        #[arg(long)]
        dir: PathBuf,
        /// Short name of the federation.
        #[arg(long)]
        federation: String,
        /// Who runs it: a member's id, or the name of somebody outside.
        #[arg(long)]
        operator: String,
        /// Where it is hosted, for example `NL`.
        #[arg(long)]
        jurisdiction: String,
    },
    /// Serves it until interrupted.
    Serve {
        /// The folder.
        #[arg(long)]
        dir: PathBuf,
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:7400")]
        listen: String,
        /// Where anybody may read checkpoints and hash tiles, plain HTTP; nowhere by default.
        #[arg(long, value_name = "ADDR")]
        public: Option<String>,
        /// Where tiles are published too: a folder, by default `tiles` in the hub's, or `s3://BUCKET/PREFIX`.
        #[arg(long, value_name = "DIR|s3://BUCKET/PREFIX", num_args = 0..=1, default_missing_value = "")]
        tiles: Option<String>,
        /// The certificates of the authorities that a bucket is known by, in PEM; by default the system's.
        #[arg(long, value_name = "FILE", requires = "tiles")]
        roots: Option<PathBuf>,
    },
    /// Another hub takes over.
    #[command(subcommand)]
    Handover(HandoverVerb),
}

/// Another hub takes over, whether the old one is alive or not.
#[derive(Subcommand)]
pub(super) enum HandoverVerb {
    /// Writes who comes next, for the members.
    Prepare {
        /// The next hub's folder, made by `comity hub init`.
        dir: PathBuf,
        /// Where it will answer, `host:port`.
        #[arg(long)]
        address: String,
        /// The file.
        #[arg(long, default_value = "next.json")]
        out: PathBuf,
    },
    /// Ends the present hub's term at one member; its node may be served or not.
    Signoff {
        /// The node's folder.
        node: PathBuf,
        /// Who comes next.
        #[arg(long)]
        next: PathBuf,
        /// The sign-off, for whoever opens the next hub.
        #[arg(long)]
        out: PathBuf,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        /// Though this member has signed off for another hub before.
        #[arg(long)]
        instead: bool,
    },
    /// Fills the next hub from a member's copy of the record and begins its term.
    Open {
        /// The next hub's folder.
        dir: PathBuf,
        /// A member's folder.
        #[arg(long)]
        from: PathBuf,
        /// The sign-offs.
        #[arg(long, num_args = 1.., required = true)]
        signoffs: Vec<PathBuf>,
    },
    /// Points a node that did not sign off to the next hub.
    Follow {
        /// The node's folder.
        node: PathBuf,
        /// Who comes next.
        #[arg(long)]
        next: PathBuf,
    },
}

/// Runs a verb; one that serves has nothing to show at its end.
pub(super) fn run(verb: HubVerb) -> Result<Option<Reply>, NodeError> {
    match verb {
        HubVerb::Init { dir, federation, operator, jurisdiction } => {
            join::hub_init(&dir, &federation, &operator, &jurisdiction).map(Some)
        }
        HubVerb::Serve { dir, listen, public, tiles, roots } => {
            let outside = join::Outside { public, tiles, roots };
            runtime()?.block_on(join::hub_serve(&dir, &listen, &outside))?;
            Ok(None)
        }
        HubVerb::Handover(verb) => match verb {
            HandoverVerb::Prepare { dir, address, out } => handover::prepare(&dir, &address, &out),
            HandoverVerb::Signoff { node, next, out, yes, instead } => {
                handover::sign_off(&node, &next, &out, yes, instead)
            }
            HandoverVerb::Open { dir, from, signoffs } => handover::open(&dir, &from, &signoffs),
            HandoverVerb::Follow { node, next } => handover::follow(&node, &next),
        }
        .map(Some),
    }
}
