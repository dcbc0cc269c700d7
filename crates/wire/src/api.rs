//! The hub's paths, limits and messages.
//!
//! | call | body | answer |
//! | --- | --- | --- |
//! | `POST /v1/submit` | signed statement, verbatim | [`Receipt`] |
//! | `GET /v1/sync?size=&sealed=&mail=&wait=` | | [`Sync`]; held until there is news or `wait` is over |
//! | `GET /v1/entries?from=&to=` | | entries, [`pack`]ed |
//! | `POST /v1/cosign` | [`Cosign`] | `{}` |
//! | `PUT /v1/blob` | bytes | [`Stored`] |
//! | `GET /v1/blob/<digest>` | | bytes |
//! | `POST /v1/mail` | a frame, verbatim | [`Posted`] |
//! | `GET /v1/mail?after=` | | frames for the caller, [`pack_mail`]ed; those up to `after` are deleted |
//! | `GET /v1/seals?after=` | | notes that sealed a change of members, keys or hub, above a size, [`pack`]ed |
//! | `POST /v1/ahead` | a checkpoint as this hub signed it | `{}`; a hub whose store went back stops |
//! | `GET /checkpoint` | | latest signed note |
//! | `GET /tile/...` | | C2SP tlog-tiles |
//!
//! Messages are canonical JSON. Whatever is refused is answered with a 4xx or 5xx status and a [`Refusal`].

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use record::{Digest, canon};
use serde::{Deserialize, Serialize};

/// Path of [`Receipt`]-giving submission.
pub const SUBMIT: &str = "/v1/submit";
/// Path of the long poll.
pub const SYNC: &str = "/v1/sync";
/// Path of entries.
pub const ENTRIES: &str = "/v1/entries";
/// Path of cosignatures.
pub const COSIGN: &str = "/v1/cosign";
/// Path of blobs.
pub const BLOB: &str = "/v1/blob";
/// Path of the mailbox.
pub const MAIL: &str = "/v1/mail";
/// Path of the checkpoints that sealed a change of members, keys or hub.
pub const SEALS: &str = "/v1/seals";
/// Path of the proof that this hub has signed more than it has.
pub const AHEAD: &str = "/v1/ahead";
/// Path of the latest checkpoint, C2SP tlog-tiles.
pub const CHECKPOINT: &str = "/checkpoint";

/// Largest signed statement in bytes; with its stamp it fits an entry of 65,535 bytes.
pub const MAX_STATEMENT: usize = record::statement::MAX_SIGNED_BYTES;
/// Largest blob in bytes.
pub const MAX_BLOB: usize = 4 << 20;
/// Largest cosign message in bytes.
pub const MAX_COSIGN: usize = 4096;
/// Largest canonical JSON answer in bytes; a note with the cosignatures of a large federation fits.
pub const MAX_ANSWER: usize = 256 << 10;
/// Most entries in one answer.
pub const MAX_ENTRIES: u64 = 1024;
/// About how many bytes of entries or mail one answer holds; the first one is always given.
pub const MAX_BATCH: usize = 4 << 20;
/// Longest wait of one long poll in milliseconds.
pub const MAX_WAIT: u64 = 25_000;
pub use record::receipt::{PROMISE, Receipt};

/// What the caller of a sync already has. The answer comes at once if the hub has more of any of the three.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Have {
    /// entries
    pub size: u64,
    /// largest size for which it holds a quorum of cosignatures
    pub sealed: u64,
    /// sequence number of the last frame that it has stored
    pub mail: u64,
    /// the term that its copy of the record is in; 0 if it does not say
    pub term: u32,
}

impl Have {
    /// The query of a sync that waits at most `wait` ms.
    pub fn query(&self, wait: u64) -> String {
        let Have { size, sealed, mail, term } = self;
        format!("size={size}&sealed={sealed}&mail={mail}&term={term}&wait={wait}")
    }
}

/// What the hub has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sync {
    /// size of the latest checkpoint; 0 before the first entry
    pub size: u64,
    /// the latest checkpoint as signed note, with the cosignatures that the hub has
    pub checkpoint: Option<String>,
    /// largest size with a quorum of cosignatures, as the hub counts; 0 if none
    pub sealed: u64,
    /// that checkpoint, when it is not the latest
    pub sealed_checkpoint: Option<String>,
    /// sequence number of the latest frame for the caller; 0 if none
    pub mail: u64,
    /// the term that this hub serves, if another hub served before it; else 0
    #[serde(default, skip_serializing_if = "is_zero")]
    pub term: u64,
    /// index of the entry that began that term; what a caller has from there on and was not in force is void
    #[serde(default, skip_serializing_if = "is_zero")]
    pub base: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A member's cosignature of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cosign {
    /// size of the checkpoint
    pub size: u64,
    /// the signature line, C2SP tlog-cosignature v1
    pub line: String,
}

/// Where a blob was put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// its address
    pub digest: Digest,
}

/// That a frame is in its recipient's mailbox, or has been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Posted {
    /// the frame
    pub id: Digest,
}

/// One frame from the mailbox.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail {
    /// its number in the caller's mailbox; grows by one
    pub seq: u64,
    /// the frame, as sent; nothing about it has been checked
    pub frame: Vec<u8>,
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mail {{ seq: {}, bytes: {} }}", self.seq, self.frame.len())
    }
}

/// A no, with what was found and what would have been taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// what is wrong
    pub error: String,
    /// what was expected
    pub expected: String,
    /// what was found
    pub found: String,
    /// HTTP status; not part of the message
    #[serde(skip)]
    pub status: u16,
}

impl Refusal {
    /// A refusal. The texts must hold nothing that is not the caller's own or public to members.
    pub fn new(
        status: u16,
        error: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self { error: error.into(), expected: expected.into(), found: found.into(), status }
    }

    /// The refusal in an answer that is not a success; an answer in another form is described.
    pub fn from_answer(status: u16, body: &[u8]) -> Self {
        match canon::from_bytes::<Self>(body) {
            Ok(refusal) => Self { status, ..refusal },
            Err(_) => Self::new(
                status,
                format!("the peer answered with status {status}"),
                format!("{} bytes in an unknown form", body.len()),
                "an answer of this protocol",
            ),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = axum::http::StatusCode::from_u16(self.status)
            .unwrap_or(axum::http::StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = Response::new(Body::from(canon::to_bytes(&self).unwrap_or_default()));
        *response.status_mut() = status;
        response
    }
}

/// Byte strings, each after its length as u32, big-endian.
pub fn pack<'a>(items: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for item in items {
        // INVARIANT: nothing packed is near 4 GiB; entries and frames have limits far below.
        bytes.extend_from_slice(&u32::try_from(item.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(item);
    }
    bytes
}

/// The inverse of [`pack`]; `None` unless it is exact.
pub fn unpack(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut items = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (item, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        items.push(item.to_vec());
        bytes = rest;
    }
    Some(items)
}

/// Frames, each after its number as u64 and its length as u32, big-endian.
pub fn pack_mail(items: &[Mail]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for mail in items {
        bytes.extend_from_slice(&mail.seq.to_be_bytes());
        bytes.extend_from_slice(&pack([mail.frame.as_slice()]));
    }
    bytes
}

/// The inverse of [`pack_mail`]; `None` unless it is exact and the numbers grow.
pub fn unpack_mail(mut bytes: &[u8]) -> Option<Vec<Mail>> {
    let mut items: Vec<Mail> = Vec::new();
    while !bytes.is_empty() {
        let (seq, rest) = bytes.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (frame, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        let seq = u64::from_be_bytes(*seq);
        if items.last().is_some_and(|last| last.seq >= seq) {
            return None;
        }
        items.push(Mail { seq, frame: frame.to_vec() });
        bytes = rest;
    }
    Some(items)
}

/// A whole-number parameter of a query such as `from=3&to=9`.
pub fn parameter(query: &str, name: &str) -> Option<u64> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.parse().ok())
}
