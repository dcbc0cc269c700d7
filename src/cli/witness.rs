//! `comity witness`: an outside witness.

use super::runtime;
use crate::outside;
use clap::Subcommand;
use node::NodeError;
use node::control::Reply;
use std::path::PathBuf;

#[derive(Subcommand)]
pub(super) enum WitnessVerb {
    /// Makes a witness's folder and key; prints what logs are told of it.
    Init {
        /// The folder.
        dir: PathBuf,
        /// The name on its cosignatures, for example `regulator.example/w1`.
        #[arg(long)]
        name: String,
    },
    /// Makes a log known; with `--base`, the key of the hub that took over.
    AddLog {
        /// The folder.
        dir: PathBuf,
        /// The log's origin, for example `comity/stroke`.
        #[arg(long)]
        origin: String,
        /// The log's key: 64 hexadecimal characters, or a verifier key.
        #[arg(long)]
        key: String,
        /// Another hub has taken over with this key, and its term begins at this entry; members say which.
        #[arg(long)]
        base: Option<u64>,
    },
    /// Serves it until interrupted.
    Serve {
        /// The folder.
        dir: PathBuf,
        /// Where to listen, plain HTTP.
        #[arg(long, default_value = "127.0.0.1:7500")]
        listen: String,
    },
}

/// Runs a verb; one that serves has nothing to show at its end.
pub(super) fn run(verb: WitnessVerb) -> Result<Option<Reply>, NodeError> {
    let reply = match verb {
        WitnessVerb::Init { dir, name } => outside::witness_init(&dir, &name)?,
        WitnessVerb::AddLog { dir, origin, key, base } => {
            outside::witness_add_log(&dir, &origin, &key, base)?
        }
        WitnessVerb::Serve { dir, listen } => {
            runtime()?.block_on(outside::witness_serve(&dir, &listen))?;
            return Ok(None);
        }
    };
    Ok(Some(reply))
}
