//! Receipts: the hub's signed word on where a statement stands, or will stand, in its log.

use serde::{Deserialize, Serialize};

use crate::canon::{self, CanonError};
use crate::digest::Digest;
use crate::keys::{KeyError, PublicKey, SecretKey, Signature, pae};

/// Within how many milliseconds the hub promises inclusion.
pub const PROMISE: i64 = 60_000;
/// The DSSE payload type that a receipt is signed under.
const PAYLOAD_TYPE: &str = "application/vnd.comity.receipt+json";

/// The hub's signed word that a statement is, or will be by `promised_by`, at `index` of its log. A receipt
/// without inclusion in time is evidence against the hub: see [`evidence`](crate::evidence).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// the statement
    pub id: Digest,
    /// where it stands in the log
    pub index: u64,
    /// the log's name
    pub origin: String,
    /// latest time of inclusion under a checkpoint, ms since epoch
    pub promised_by: i64,
    /// over all of the above, by the hub's key
    pub signature: Signature,
    /// the stamp of its entry, ms since epoch
    pub time: i64,
}

#[derive(Serialize)]
struct Promise<'a> {
    id: &'a Digest,
    index: u64,
    origin: &'a str,
    promised_by: i64,
    time: i64,
}

impl Receipt {
    /// Signs a receipt.
    ///
    /// # Errors
    /// When a number is out of range.
    pub fn sign(
        id: Digest,
        index: u64,
        origin: &str,
        time: i64,
        hub: &SecretKey,
    ) -> Result<Self, CanonError> {
        let promised_by = time.saturating_add(PROMISE);
        let promise = Promise { id: &id, index, origin, promised_by, time };
        let signature = hub.sign(&pae(PAYLOAD_TYPE, &canon::to_bytes(&promise)?));
        Ok(Self { id, index, origin: origin.to_owned(), promised_by, signature, time })
    }

    /// That the hub with this key gave it.
    ///
    /// # Errors
    /// When it did not.
    pub fn verify(&self, hub: &PublicKey) -> Result<(), KeyError> {
        let promise = Promise {
            id: &self.id,
            index: self.index,
            origin: &self.origin,
            promised_by: self.promised_by,
            time: self.time,
        };
        let bytes = canon::to_bytes(&promise).map_err(|_| KeyError::Invalid { key: *hub })?;
        hub.verify_strict(&pae(PAYLOAD_TYPE, &bytes), &self.signature)
    }
}
