//! `comity record`: the record.

use super::{At, absolute, bundle::bundle_verify, call, pin, runtime};
use crate::outside;
use clap::Subcommand;
use node::NodeError;
use node::control::{Command, Reply};
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub(super) enum RecordVerb {
    /// Lists entries.
    List {
        #[command(flatten)]
        at: At,
        /// From this index.
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
    /// Shows one entry.
    Show {
        #[command(flatten)]
        at: At,
        /// Its index.
        index: u64,
    },
    /// Attaches a sealed remark to a statement: the record holds commitments, the text stays at members and can be erased.
    Note {
        #[command(flatten)]
        at: At,
        /// The statement's id, as `comity record show` prints it.
        #[arg(long, value_name = "STATEMENT_ID")]
        about: String,
        /// What it says.
        #[arg(long)]
        text: String,
        /// Members that may read it; without any it stays here.
        #[arg(long, value_name = "MEMBER", num_args = 1..)]
        to: Vec<String>,
    },
    /// Has every member destroy what a note of this member says. Nobody can bring it back.
    Erase {
        #[command(flatten)]
        at: At,
        /// The note's id.
        #[arg(value_name = "STATEMENT_ID")]
        statement: String,
        /// Without it nothing is done.
        #[arg(long)]
        yes: bool,
    },
    /// Recomputes everything that this node holds of it; with a file, verifies that one, offline.
    Verify {
        /// A bundle, a study's small proof or a file of evidence.
        file: Option<PathBuf>,
        /// The charter's digest, from a source that you trust.
        #[arg(long, requires = "file")]
        charter: Option<String>,
        /// The node's folder.
        #[arg(long, env = "COMITY_NODE", value_name = "DIR", required_unless_present = "file")]
        node: Option<PathBuf>,
    },
    /// Writes a study's small file: what a quorum attests of it.
    Prove {
        #[command(flatten)]
        at: At,
        /// The study.
        #[arg(long)]
        study: String,
        /// The file; `STUDY.proof` by default.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Writes a snapshot of the state that a quorum attests.
    Snapshot {
        #[command(flatten)]
        at: At,
        /// The file.
        #[arg(long, default_value = "comity.snapshot")]
        out: PathBuf,
    },
    /// Verifies a snapshot, offline.
    CheckSnapshot {
        /// The file.
        file: PathBuf,
        /// The charter's digest, from a source that you trust.
        #[arg(long)]
        charter: Option<String>,
    },
    /// Writes the receipt of a statement, for readers that speak COSE; the entry goes beside it, in `FILE.entry`.
    #[command(subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
    Receipt {
        #[command(subcommand)]
        verb: Option<ReceiptVerb>,
        /// The node's folder.
        #[arg(long, env = "COMITY_NODE", value_name = "DIR", required = true)]
        node: Option<PathBuf>,
        /// As a COSE receipt (RFC 9942), which is the one form there is.
        #[arg(long)]
        cose: bool,
        /// The statement's id.
        #[arg(long, value_name = "ID", required = true)]
        statement: Option<String>,
        /// The file.
        #[arg(long, value_name = "FILE", required = true)]
        out: Option<PathBuf>,
    },
    /// Checks the stored copy in a folder that no process serves, and names what is damaged: exit 0 clean, 1 damaged,
    /// 2 could not look.
    Fsck {
        /// The folder of a node or a hub.
        dir: PathBuf,
        /// Another copy that names the exact byte: a node's or hub's folder, or a bundle.
        #[arg(long, value_name = "DIR|BUNDLE")]
        against: Option<PathBuf>,
        /// Makes a damaged copy good again; what was cosigned, keys and what waits are never touched.
        #[arg(long, requires = "from")]
        rebuild: bool,
        /// From which copy: a node's folder, a bundle, or `hub` for the hub that this node calls.
        #[arg(long, requires = "rebuild", value_name = "DIR|BUNDLE|hub")]
        from: Option<String>,
        /// Where this hub publishes tiles, if not in `tiles` in its folder.
        #[arg(long, value_name = "DIR")]
        tiles: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
pub(super) enum ReceiptVerb {
    /// Verifies a receipt, offline.
    Verify {
        /// The receipt.
        file: PathBuf,
        /// The entry with the statement.
        #[arg(long, value_name = "FILE")]
        statement: PathBuf,
        /// The log's key, from a source that you trust: 64 hexadecimal characters, or a verifier key.
        #[arg(long)]
        key: String,
    },
}

/// Runs a verb.
pub(super) fn run(verb: RecordVerb) -> Result<Reply, NodeError> {
    Ok(match verb {
        RecordVerb::List { at, from } => call(&at.node, Command::RecordList { from })?,
        RecordVerb::Show { at, index } => call(&at.node, Command::RecordShow { index })?,
        RecordVerb::Note { at, about, text, to } => call(&at.node, Command::RecordNote { about, text, to })?,
        RecordVerb::Erase { at, statement, yes: sure } => {
            call(&at.node, Command::RecordErase { statement, sure })?
        }
        RecordVerb::Receipt { verb: Some(ReceiptVerb::Verify { file, statement, key }), .. } => {
            outside::receipt_verify(&file, &statement, &key)?
        }
        RecordVerb::Receipt { node: Some(node), statement: Some(statement), out: Some(out), .. } => {
            runtime()?.block_on(outside::receipt_export(&node, &statement, &out))?
        }
        RecordVerb::Receipt { .. } => {
            return Err(NodeError::Input("expected --node, --statement and --out".to_string()));
        }
        RecordVerb::Verify { file: Some(file), charter, .. } => file_verify(&file, charter.as_deref())?,
        RecordVerb::Verify { node: Some(node), .. } => call(&node, Command::RecordVerify)?,
        RecordVerb::Verify { .. } => {
            return Err(NodeError::Input("name a file, or a node with --node".into()));
        }
        RecordVerb::Prove { at, study, out } => {
            let out = absolute(&out.unwrap_or_else(|| PathBuf::from(format!("{study}.proof"))))?;
            call(&at.node, Command::RecordProve { study, out })?
        }
        RecordVerb::Snapshot { at, out } => call(&at.node, Command::RecordSnapshot { out: absolute(&out)? })?,
        RecordVerb::CheckSnapshot { file, charter } => {
            outside::snapshot_verify(&file, pin(charter.as_deref())?)?
        }
        RecordVerb::Fsck { dir, against, rebuild: _, from, tiles } => match from {
            Some(from) => crate::fsck::rebuild(&dir, tiles.as_deref(), &from)?,
            None => crate::fsck::check(&dir, tiles.as_deref(), against.as_deref())?,
        },
    })
}

/// Verifies a study's file, whichever of the two it is.
fn file_verify(file: &Path, charter: Option<&str>) -> Result<Reply, NodeError> {
    let bytes = std::fs::read(file).map_err(|e| NodeError::io(file, e))?;
    if charter::proof::is_study_proof(&bytes) {
        return Ok(node::attest::verify_proof(&bytes, pin(charter)?));
    }
    let begins = |format: &str| bytes.windows(format.len()).any(|w| w == format.as_bytes());
    if bytes.first() == Some(&b'{') && bytes.len() < (1 << 24) && begins(record::evidence::FORMAT) {
        return Ok(node::peers::matter::verify_evidence(&bytes, pin(charter)?));
    }
    bundle_verify(file, charter)
}
