//! A member's service: store, mirror, gate, runner and control socket.
//!
//! The key decision: one synchronous [`Node`] owns everything that a site knows (keys, store, mirror of the record,
//! running rounds) and is driven by events: entries and mail from the hub, commands from its own people, ticks of
//! the clock. It returns nothing but what it wrote to its store, from where a thin asynchronous shell
//! ([`service`]) carries statements and frames to the hub. So a stop acts between two events, at once and alone, and
//! what leaves was persisted before.
//!
//! Trust: the node believes the record only up to the largest size for which it holds a quorum of cosignatures,
//! and after it has folded every entry itself. It believes nothing that the hub says beyond that.

pub mod attest;
pub mod config;
pub mod control;
pub mod core;
pub mod drive;
pub mod egress;
pub mod facts;
pub mod fsck;
pub mod gather;
pub mod keys;
pub mod members;
pub mod mirror;
pub mod notes;
pub mod peers;
pub mod restore;
pub mod runner;
pub mod service;
pub mod store;
pub mod term;
pub mod verify;
pub mod views;

pub use config::Config;
pub use control::{Command, Reply};
pub use core::{Node, Parts};
pub use store::Store;
pub use term::hub_of;

use std::path::Path;

/// Why a node could not do something.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness; nothing was done")]
    Randomness,
    /// A file could not be read or written.
    #[error("`{path}`: {error}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The key file may be read by others.
    #[error(
        "`{path}` may be read by others; run `chmod 600` on it, and rotate the keys if anyone else had access"
    )]
    KeyFileOpen {
        /// The file.
        path: String,
    },
    /// The key file is not one.
    #[error("`{path}` is not a node's key file; restore it from your backup")]
    KeyFile {
        /// The file.
        path: String,
    },
    /// A sealed secret does not open.
    #[error("a sealed secret of this node does not open; its store or its key file was changed")]
    Sealed,
    /// The store failed.
    #[error("the store failed: {0}; see that the disk has room")]
    Store(#[from] rusqlite::Error),
    /// The store failed before.
    #[error(
        "the store failed: this process writes and sends nothing more; see that the disk has room and start it again"
    )]
    StoreFailed,
    /// A document was refused.
    #[error(transparent)]
    Document(#[from] study::DocumentError),
    /// Bytes were not in canonical form.
    #[error("not in canonical form: {0}")]
    Canon(#[from] record::canon::CanonError),
    /// A source or mapping was refused.
    #[error("{0}")]
    Engine(#[from] engine::EngineError),
    /// The record and this node's copy part.
    #[error("the record is not as it should be: {0}")]
    Record(String),
    /// A damaged mirror cannot be made good.
    #[error("the mirror was not rebuilt: {0}")]
    Refill(#[from] record::fsck::RefillError),
    /// Wrong input, with what to do.
    #[error("{0}")]
    Input(String),
    /// A round was refused.
    #[error("round refused: {0}")]
    Round(String),
    /// The wire failed.
    #[error("{0}")]
    Wire(#[from] wire::WireError),
}

impl NodeError {
    /// The error without anything that quotes a value of a row, for logs.
    pub fn public(&self) -> String {
        match self {
            NodeError::Engine(e) => e.public().to_string(),
            other => other.to_string(),
        }
    }

    /// Whether the store failed, so that memory may be ahead of it: the process must end and begin again from
    /// what is kept.
    pub fn is_fatal(&self) -> bool {
        matches!(self, NodeError::Store(_) | NodeError::StoreFailed)
    }

    /// An input or output error with its path.
    pub fn io(path: &Path, error: std::io::Error) -> NodeError {
        NodeError::Io { path: path.display().to_string(), error }
    }
}

/// Makes a file readable by its user alone.
pub fn private(path: &Path) -> Result<(), NodeError> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(|e| NodeError::io(path, e))
}

/// Milliseconds since the epoch, from the system's clock.
pub fn now_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
