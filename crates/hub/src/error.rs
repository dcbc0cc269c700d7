//! What keeps a hub from running.

use std::path::PathBuf;

use wire::WireError;

/// A fault of the hub itself. What a caller did wrong is answered to the caller and is not here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// There is a hub in the folder already.
    #[error("`{0}` already holds a hub; serve that one, or choose an empty folder")]
    Exists(PathBuf),
    /// There is no hub in the folder.
    #[error("`{0}` holds no hub; make one with `comity hub init`")]
    Absent(PathBuf),
    /// Another process serves this folder.
    #[error("`{0}` is in use by another hub process; two would sign two histories")]
    InUse(PathBuf),
    /// The store contradicts itself.
    #[error("`{path}` is damaged: {reason}; restore it from a member's mirror, do not go on with it")]
    Damaged {
        /// the file
        path: PathBuf,
        /// what does not fit
        reason: String,
    },
    /// A name or key that cannot be used.
    #[error("hub {field} `{found}` cannot be used; expected {expected}")]
    Config {
        /// which part of the configuration
        field: &'static str,
        /// as given; never a secret
        found: String,
        /// what would do
        expected: &'static str,
    },
    /// Another hub cannot be taken over from like this.
    #[error("this hub cannot take over: {0}")]
    TakeOver(String),
    /// The operating system refused a file.
    #[error("cannot {what} `{path}`: {source}")]
    File {
        /// what was tried
        what: &'static str,
        /// the file
        path: PathBuf,
        /// the operating system's reason
        source: std::io::Error,
    },
    /// The store failed. Fatal: whether the last commit is on disk is unknown until the hub is opened again.
    #[error("the hub's store failed: {0}; stop it, mend the disk, open it again")]
    Store(#[from] rusqlite::Error),
    /// A damaged log cannot be made good.
    #[error("the log was not rebuilt: {0}")]
    Refill(#[from] record::fsck::RefillError),
    /// Another copy of the record cannot be read.
    #[error("the other copy cannot be read: {reason}")]
    Copy {
        /// why
        reason: String,
    },
    /// No randomness for keys.
    #[error("no randomness from the operating system: {0}")]
    Random(getrandom::Error),
    /// The listener or TLS.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The public web cannot be called.
    #[error("no TLS for the public web: {0}")]
    Web(String),
    /// What is published elsewhere is not this log. Fatal for publishing; the hub goes on.
    #[error("publishing to `{place}` has stopped: {reason}; look at what is there before you start it again")]
    Publishing {
        /// where tiles are published
        place: String,
        /// what is wrong there
        reason: String,
    },
    /// A folder of a witness that cannot be used.
    #[error("witness in `{path}`: {reason}")]
    Witness {
        /// the folder
        path: PathBuf,
        /// what is wrong
        reason: String,
    },
}
