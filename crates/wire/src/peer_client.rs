//! The calls to another member's endpoint. What comes back is parsed, not believed.

use axum::body::Bytes;
use record::evidence::Attested;
use record::keys::PublicKey;
use record::{Digest, canon};
use serde::de::DeserializeOwned;

use crate::api::{self, Posted};
use crate::client::Client;
use crate::error::WireError;
use crate::peer::{self, Checkpoints, Consistency, Disclosed, Highest, Kept, Listed, Proofs};
use crate::proxy::Proxy;
use crate::tls::TlsIdentity;

/// A member's line to another member. Cheap to clone.
#[derive(Clone)]
pub struct PeerClient {
    client: Client,
}

impl PeerClient {
    /// A line to the member at `addr` (host:port) that must hold the TLS key `peer`, as the charter says, through a
    /// proxy if there is one. Opens nothing yet.
    pub fn through(
        identity: &TlsIdentity,
        addr: &str,
        peer: PublicKey,
        proxy: Option<&Proxy>,
    ) -> Result<Self, WireError> {
        Ok(Self { client: Client::through(identity, addr, peer, proxy)? })
    }

    /// Its latest checkpoints.
    pub async fn checkpoints(&self) -> Result<Checkpoints, WireError> {
        let answer = self.client.get(peer::CHECKPOINT, peer::MAX_NOTES).await?;
        self.parse(peer::CHECKPOINT, &answer)
    }

    /// The proof that its tree of `to` entries begins with `from` of them.
    pub async fn consistency(&self, from: u64, to: u64) -> Result<Consistency, WireError> {
        let path = format!("{}?from={from}&to={to}", peer::CONSISTENCY);
        let answer = self.client.get(&path, api::MAX_ANSWER).await?;
        self.parse(peer::CONSISTENCY, &answer)
    }

    /// Some entries from `from` on, with its signed word on them.
    pub async fn entries(&self, from: u64, to: u64) -> Result<(Attested, Vec<Vec<u8>>), WireError> {
        let path = format!("{}?from={from}&to={to}", peer::ENTRIES);
        let answer = self.client.get(&path, peer::MAX_PACKED).await?;
        peer::unpack_entries(&answer).ok_or_else(|| self.malformed(peer::ENTRIES, "not packed entries"))
    }

    /// Its signed word on the highest checkpoint that it cosigned; check [`Highest::verify`].
    pub async fn highest(&self, nonce: &Digest) -> Result<Highest, WireError> {
        let answer = self.client.get(&format!("{}?nonce={nonce}", peer::HIGHEST), api::MAX_ANSWER).await?;
        self.parse(peer::HIGHEST, &answer)
    }

    /// Hands it a signed statement, by its verbatim bytes, to be kept and handed to the hub.
    pub async fn submit(&self, statement: Vec<u8>) -> Result<Kept, WireError> {
        let answer = self.client.post(peer::SUBMIT, statement, api::MAX_ANSWER).await?;
        self.parse(peer::SUBMIT, &answer)
    }

    /// What it holds that is not in its record, and some of the statements.
    pub async fn pending(&self) -> Result<(Listed, Vec<Vec<u8>>), WireError> {
        let answer = self.client.get(peer::PENDING, peer::MAX_PACKED).await?;
        peer::unpack_pending(&answer).ok_or_else(|| self.malformed(peer::PENDING, "not packed statements"))
    }

    /// What a sealed remark of it says, if it named the caller; to be compared with the record.
    pub async fn sealed(&self, statement: &Digest) -> Result<Disclosed, WireError> {
        let path = format!("{}?statement={statement}", peer::SEALED);
        let answer = self.client.get(&path, api::MAX_ANSWER).await?;
        self.parse(peer::SEALED, &answer)
    }

    /// What evidence it holds.
    pub async fn proofs(&self) -> Result<Proofs, WireError> {
        let answer = self.client.get(peer::EVIDENCE, api::MAX_ANSWER).await?;
        let proofs: Proofs = self.parse(peer::EVIDENCE, &answer)?;
        if proofs.files.len() > peer::MAX_PROOFS {
            return Err(self.malformed(peer::EVIDENCE, "more files than one answer lists"));
        }
        Ok(proofs)
    }

    /// A file of evidence that it holds, verbatim; to be verified.
    pub async fn proof(&self, file: &Digest) -> Result<Vec<u8>, WireError> {
        let answer = self.client.get(&format!("{}?file={file}", peer::PROOF), peer::MAX_PROOF).await?;
        Ok(answer.to_vec())
    }

    /// Hands it a file of evidence.
    pub async fn convict(&self, file: Vec<u8>) -> Result<(), WireError> {
        let answer = self.client.post(peer::EVIDENCE, file, api::MAX_ANSWER).await?;
        self.parse::<Posted>(peer::EVIDENCE, &answer).map(drop)
    }

    /// Sign-offs that it has seen, each signed by who said it.
    pub async fn signoffs(&self) -> Result<Vec<Vec<u8>>, WireError> {
        let answer = self.client.get(peer::SIGNOFFS, peer::MAX_PACKED).await?;
        api::unpack(&answer).ok_or_else(|| self.malformed(peer::SIGNOFFS, "not packed statements"))
    }

    /// Hands it a sign-off.
    pub async fn signoff(&self, statement: Vec<u8>) -> Result<(), WireError> {
        let answer = self.client.post(peer::SIGNOFF, statement, api::MAX_ANSWER).await?;
        self.parse::<Posted>(peer::SIGNOFF, &answer).map(drop)
    }

    /// Tells it of a stop.
    pub async fn stop(&self, frame: Vec<u8>) -> Result<(), WireError> {
        let answer = self.client.post(peer::FRAME, frame, api::MAX_ANSWER).await?;
        self.parse::<Posted>(peer::FRAME, &answer).map(drop)
    }

    fn parse<T: DeserializeOwned>(&self, what: &str, bytes: &Bytes) -> Result<T, WireError> {
        canon::from_bytes_limit(bytes, peer::MAX_NOTES).map_err(|e| self.malformed(what, &e.to_string()))
    }

    fn malformed(&self, what: &str, reason: &str) -> WireError {
        WireError::Malformed {
            addr: self.client.addr().to_owned(),
            what: what.to_owned(),
            reason: reason.to_owned(),
        }
    }
}
