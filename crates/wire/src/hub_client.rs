//! The hub's messages as calls. What comes back is parsed, not believed: signatures, proofs and quorums are
//! the caller's to check.

use std::time::Duration;

use axum::body::Bytes;
use hyper::Method;
use record::keys::PublicKey;
use record::{Digest, SignedStatement, canon};
use serde::de::DeserializeOwned;

use crate::api::{self, Cosign, Have, Mail, Posted, Receipt, Stored, Sync};
use crate::client::{CALL, Client, Traffic};
use crate::error::WireError;
use crate::frame::{MAX_FRAME, SignedFrame};
use crate::proxy::Proxy;
use crate::tls::TlsIdentity;

/// A member's line to its hub. Cheap to clone; clones share connections and counters.
#[derive(Clone)]
pub struct HubClient {
    client: Client,
}

impl HubClient {
    /// A line to the hub at `addr` (host:port) that must hold the TLS key `hub`, as the charter says.
    pub fn new(identity: &TlsIdentity, addr: &str, hub: PublicKey) -> Result<Self, WireError> {
        Self::through(identity, addr, hub, None)
    }

    /// The same, through a proxy if there is one.
    pub fn through(
        identity: &TlsIdentity,
        addr: &str,
        hub: PublicKey,
        proxy: Option<&Proxy>,
    ) -> Result<Self, WireError> {
        Ok(Self { client: Client::through(identity, addr, hub, proxy)? })
    }

    /// Submits a statement. The same statement again gives the same receipt and no second entry. Returns
    /// once the hub has it on disk; check [`Receipt::verify`].
    pub async fn submit(&self, statement: &SignedStatement) -> Result<Receipt, WireError> {
        self.submit_bytes(statement.to_bytes()).await
    }

    /// Submits a statement by its verbatim bytes.
    pub async fn submit_bytes(&self, statement: Vec<u8>) -> Result<Receipt, WireError> {
        within("statement", statement.len(), api::MAX_STATEMENT)?;
        let answer = self.client.post(api::SUBMIT, statement, api::MAX_ANSWER).await?;
        self.parse(api::SUBMIT, &answer)
    }

    /// What is new beyond `have`, at once if anything is, else when something comes or `wait` is over (the
    /// hub cuts it to 25 s). Cancelling is harmless.
    pub async fn sync(&self, have: Have, wait: Duration) -> Result<Sync, WireError> {
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).min(api::MAX_WAIT);
        let path = format!("{}?{}", api::SYNC, have.query(millis));
        let limit = CALL + Duration::from_millis(millis);
        let answer = self.client.call(Method::GET, &path, Bytes::new(), 2 * api::MAX_ANSWER, limit).await?;
        self.parse(api::SYNC, &answer)
    }

    /// Entries `from..to`, verbatim, fetched in as many calls as needed; all of them or an error.
    pub async fn entries(&self, from: u64, to: u64) -> Result<Vec<Vec<u8>>, WireError> {
        let mut entries = Vec::new();
        let mut next = from;
        while next < to {
            let path = format!("{}?from={next}&to={to}", api::ENTRIES);
            let answer = self.client.get(&path, 2 * api::MAX_BATCH).await?;
            let batch = api::unpack(&answer)
                .filter(|batch| !batch.is_empty())
                .ok_or_else(|| self.malformed(api::ENTRIES, "not packed entries"))?;
            next = next.saturating_add(batch.len() as u64);
            if next > to {
                return Err(self.malformed(api::ENTRIES, "more entries than asked for"));
            }
            entries.extend(batch);
        }
        Ok(entries)
    }

    /// The checkpoints above `after` entries that sealed a change of members, keys or hub, in order; perhaps not all
    /// at once.
    pub async fn seals(&self, after: u64) -> Result<Vec<String>, WireError> {
        let answer = self.client.get(&format!("{}?after={after}", api::SEALS), 2 * api::MAX_BATCH).await?;
        let notes = api::unpack(&answer).ok_or_else(|| self.malformed(api::SEALS, "not packed notes"))?;
        let notes: Result<Vec<String>, _> = notes.into_iter().map(String::from_utf8).collect();
        notes.map_err(|_| self.malformed(api::SEALS, "not UTF-8"))
    }

    /// Shows the hub a checkpoint of its own that it does not have.
    pub async fn ahead(&self, note: &str) -> Result<(), WireError> {
        self.client.post(api::AHEAD, note.as_bytes().to_vec(), api::MAX_ANSWER).await?;
        Ok(())
    }

    /// Hands in this member's cosignature line for the checkpoint of `size`.
    pub async fn cosign(&self, size: u64, line: &str) -> Result<(), WireError> {
        let message = Cosign { size, line: line.to_owned() };
        let body = canon::to_bytes(&message).map_err(|e| self.malformed(api::COSIGN, &e.to_string()))?;
        within("cosignature", body.len(), api::MAX_COSIGN)?;
        self.client.post(api::COSIGN, body, api::MAX_ANSWER).await?;
        Ok(())
    }

    /// Stores a blob; its address comes back, and is checked.
    pub async fn put_blob(&self, bytes: Vec<u8>) -> Result<Digest, WireError> {
        within("blob", bytes.len(), api::MAX_BLOB)?;
        let digest = Digest::of(&bytes);
        let answer = self.client.put(api::BLOB, bytes, api::MAX_ANSWER).await?;
        let stored: Stored = self.parse(api::BLOB, &answer)?;
        if stored.digest == digest {
            Ok(digest)
        } else {
            Err(self.malformed(api::BLOB, "the blob was stored under another digest"))
        }
    }

    /// The blob with this address, checked against it; `None` if the hub has no such blob.
    pub async fn get_blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, WireError> {
        let path = format!("{}/{digest}", api::BLOB);
        match self.client.get(&path, api::MAX_BLOB).await {
            Ok(bytes) if Digest::of(&bytes) == *digest => Ok(Some(bytes.to_vec())),
            Ok(_) => Err(self.malformed(api::BLOB, "the blob does not have the digest asked for")),
            Err(WireError::Refused { status: 404, .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Puts a frame into its recipient's mailbox. Store it before sending; sending it again is harmless.
    pub async fn send_mail(&self, frame: &SignedFrame) -> Result<(), WireError> {
        self.send_mail_bytes(frame.bytes().to_vec()).await
    }

    /// Puts a frame, by its verbatim bytes, into its recipient's mailbox.
    pub async fn send_mail_bytes(&self, frame: Vec<u8>) -> Result<(), WireError> {
        within("frame", frame.len(), MAX_FRAME)?;
        let answer = self.client.post(api::MAIL, frame, api::MAX_ANSWER).await?;
        self.parse::<Posted>(api::MAIL, &answer)?;
        Ok(())
    }

    /// Some of the frames numbered above `after`, in order; none if there are none. The hub deletes those up
    /// to `after`: give the number of the last frame that is safely stored here, and ask until empty.
    pub async fn fetch_mail(&self, after: u64) -> Result<Vec<Mail>, WireError> {
        let path = format!("{}?after={after}", api::MAIL);
        let answer = self.client.get(&path, api::MAX_BATCH + 2 * MAX_FRAME).await?;
        api::unpack_mail(&answer)
            .filter(|mail| mail.first().is_none_or(|first| first.seq > after))
            .ok_or_else(|| self.malformed(api::MAIL, "not packed frames in order"))
    }

    /// The latest checkpoint as signed note; `None` before the first entry.
    pub async fn checkpoint(&self) -> Result<Option<String>, WireError> {
        let answer = match self.client.get(api::CHECKPOINT, api::MAX_ANSWER).await {
            Err(WireError::Refused { status: 404, .. }) => return Ok(None),
            answer => answer?,
        };
        match String::from_utf8(answer.to_vec()) {
            Ok(note) => Ok(Some(note)),
            Err(_) => Err(self.malformed(api::CHECKPOINT, "not UTF-8")),
        }
    }

    /// What crossed this client's sockets so far.
    pub fn traffic(&self) -> Traffic {
        self.client.traffic()
    }

    /// The plain client below, for tiles and whatever else the hub serves.
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn parse<T: DeserializeOwned>(&self, what: &str, bytes: &[u8]) -> Result<T, WireError> {
        canon::from_bytes_limit(bytes, 2 * api::MAX_ANSWER).map_err(|e| self.malformed(what, &e.to_string()))
    }

    fn malformed(&self, what: &str, reason: &str) -> WireError {
        WireError::Malformed {
            addr: self.client.addr().to_owned(),
            what: what.to_owned(),
            reason: reason.to_owned(),
        }
    }
}

fn within(what: &str, found: usize, limit: usize) -> Result<(), WireError> {
    if found <= limit {
        return Ok(());
    }
    Err(WireError::TooLarge { what: what.to_owned(), found: found as u64, limit: limit as u64 })
}
