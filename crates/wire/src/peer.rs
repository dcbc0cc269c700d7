//! What members say to each other without the hub: paths, limits and messages of a member's own endpoint.
//!
//! | call | body | answer |
//! | --- | --- | --- |
//! | `GET /v1/peer/checkpoint` | | [`Checkpoints`] |
//! | `GET /v1/peer/consistency?from=&to=` | | [`Consistency`] (RFC 6962, 2.1.2) |
//! | `GET /v1/peer/entries?from=&to=` | | a signed [`Attested`], then the entries, packed |
//! | `GET /v1/peer/highest?nonce=` | | [`Highest`], signed |
//! | `POST /v1/peer/submit` | signed statement, verbatim | [`Kept`] |
//! | `GET /v1/peer/pending` | | [`Listed`], then statements, packed |
//! | `GET /v1/peer/sealed?statement=` | | [`Disclosed`], to whom its author named |
//! | `GET /v1/peer/evidence` | | [`Proofs`] |
//! | `GET /v1/peer/proof?file=` | | a file of evidence, verbatim |
//! | `POST /v1/peer/evidence` | a file of evidence, verbatim | [`Posted`](crate::api::Posted) |
//! | `GET /v1/peer/signoffs` | | sign-offs of the present term and the one before, packed |
//! | `POST /v1/peer/signoff` | a sign-off, verbatim | [`Posted`](crate::api::Posted) |
//! | `POST /v1/peer/frame` | a frame of kind `stop`, verbatim | [`Posted`](crate::api::Posted) |
//!
//! The line is mutual TLS with the keys of the charter ([`crate::tls`]): only members are admitted, and each knows who
//! the other is. Messages are canonical JSON; packed bytes are those of [`crate::api::pack`].
//!
//! # Who can lie
//!
//! Whoever answers is a member, and a member may lie. What counts is signed by someone else and checked by the asker:
//! checkpoints by the hub, statements and sign-offs by their authors, stops by who stops, evidence by whom it convicts. Entries and the highest cosigned size are
//! signed by who answers, the second with the asker's nonce, so that a lie stays with its author and an old truth is
//! none. What is not signed, since when a statement is held, counts only beside what the asker itself holds. A peer
//! that floods meets limits on calls, bodies and on what is kept of one author; one that repeats old bytes changes
//! nothing, since statements, entries and stops are known by their digests.

use record::evidence::Attested;
use record::keys::{KeyError, PublicKey, SecretKey, Signature, pae};
use record::{Digest, canon};
use serde::{Deserialize, Serialize};

use crate::api::{self, pack, unpack};

/// Path of the latest checkpoints.
pub const CHECKPOINT: &str = "/v1/peer/checkpoint";
/// Path of consistency proofs.
pub const CONSISTENCY: &str = "/v1/peer/consistency";
/// Path of entries.
pub const ENTRIES: &str = "/v1/peer/entries";
/// Path of the highest cosigned size.
pub const HIGHEST: &str = "/v1/peer/highest";
/// Path of submission through another member.
pub const SUBMIT: &str = "/v1/peer/submit";
/// Path of statements that wait for the record.
pub const PENDING: &str = "/v1/peer/pending";
/// Path of what sealed remarks say.
pub const SEALED: &str = "/v1/peer/sealed";
/// Path of what evidence is held, and of evidence handed over.
pub const EVIDENCE: &str = "/v1/peer/evidence";
/// Path of one file of evidence.
pub const PROOF: &str = "/v1/peer/proof";
/// Path of sign-offs that were seen.
pub const SIGNOFFS: &str = "/v1/peer/signoffs";
/// Path of a sign-off handed over.
pub const SIGNOFF: &str = "/v1/peer/signoff";
/// Path of signed stops.
pub const FRAME: &str = "/v1/peer/frame";

/// Largest frame in bytes: a stop is small.
pub const MAX_STOP: usize = 8 << 10;
/// Most statements that one answer lists.
pub const MAX_LISTED: usize = 4096;
/// Most files of evidence that one answer lists.
pub const MAX_PROOFS: usize = 256;
/// Longest file of evidence that goes from member to member, bytes.
pub const MAX_PROOF: usize = 2 << 20;
/// Most fields of one statement that one answer opens.
pub const MAX_DISCLOSED: usize = 64;
/// Largest answer of checkpoints, bytes: two notes with the cosignatures of a large federation.
pub const MAX_NOTES: usize = 1 << 20;
/// Largest answer of entries or pending statements, bytes.
pub const MAX_PACKED: usize = 2 * api::MAX_BATCH;

const HIGHEST_TYPE: &str = "application/vnd.comity.highest+json";

/// A member's latest checkpoints, as signed notes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoints {
    /// the latest that it cosigned, with its own cosignature
    pub cosigned: Option<String>,
    /// the latest that is in force for it, with the quorum
    pub in_force: Option<String>,
}

/// That one tree begins with another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consistency {
    /// the smaller size
    pub from: u64,
    /// RFC 6962, 2.1.2
    pub proof: Vec<Digest>,
    /// root of the answering member's tree at the smaller size
    pub root: Digest,
    /// the larger size
    pub to: u64,
}

/// A member's signed word on the highest checkpoint that it ever cosigned, for one that asks with a fresh nonce.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Highest {
    /// the member that answers
    pub member: String,
    /// as the asker gave it
    pub nonce: Digest,
    /// the log's name
    pub origin: String,
    /// root of that checkpoint; the digest of nothing for size 0
    pub root: Digest,
    /// by the member's `sign` key over all of the others
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// its size; 0 if it never cosigned any
    pub size: u64,
    /// the hub's term in which it did
    pub term: u32,
}

impl Highest {
    /// Signs the answer.
    pub fn sign(mut self, key: &SecretKey) -> Result<Self, canon::CanonError> {
        self.signature = None;
        self.signature = Some(key.sign(&pae(HIGHEST_TYPE, &canon::to_bytes(&self)?)));
        Ok(self)
    }

    /// That the member with this key gave it, in answer to this nonce.
    pub fn verify(&self, key: &PublicKey, nonce: &Digest) -> Result<(), KeyError> {
        let invalid = || KeyError::Invalid { key: *key };
        let signature = self.signature.filter(|_| self.nonce == *nonce).ok_or_else(invalid)?;
        let unsigned = Highest { signature: None, ..self.clone() };
        let bytes = canon::to_bytes(&unsigned).map_err(|_| invalid())?;
        key.verify_strict(&pae(HIGHEST_TYPE, &bytes), &signature)
    }
}

/// A statement that waits for the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// the statement
    pub id: Digest,
    /// since when the answering member has held it, ms since epoch by its clock
    pub since: i64,
}

/// Every statement that a member holds and that is not in its record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// those, in no order that means anything
    pub held: Vec<Held>,
}

/// What evidence a member holds, by the digests of the files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proofs {
    /// those, at most [`MAX_PROOFS`]
    pub files: Vec<Digest>,
}

/// What opens commitments of one statement. Only between members, never by way of the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disclosed {
    /// each with its salt; to be compared with the record
    pub fields: Vec<record::Disclosure>,
}

/// That a statement is kept and will be handed to the hub, or is in the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// the statement
    pub id: Digest,
    /// whether it is in the answering member's copy of the record
    pub recorded: bool,
}

/// Entries with the signed word of who gives them.
pub fn pack_entries(answer: &Attested, entries: &[Vec<u8>]) -> Result<Vec<u8>, canon::CanonError> {
    let head = canon::to_bytes(answer)?;
    Ok(pack(std::iter::once(head.as_slice()).chain(entries.iter().map(Vec::as_slice))))
}

/// The inverse of [`pack_entries`]; `None` unless there is a leaf hash for each entry. Nothing is verified.
pub fn unpack_entries(bytes: &[u8]) -> Option<(Attested, Vec<Vec<u8>>)> {
    let mut items = unpack(bytes)?.into_iter();
    let answer: Attested = canon::from_bytes_limit(&items.next()?, api::MAX_ANSWER).ok()?;
    let entries: Vec<Vec<u8>> = items.collect();
    (entries.len() == answer.leaves.len()).then_some((answer, entries))
}

/// A list of what is held, with as many of the statements as fit.
pub fn pack_pending(listed: &Listed, statements: &[Vec<u8>]) -> Result<Vec<u8>, canon::CanonError> {
    let head = canon::to_bytes(listed)?;
    Ok(pack(std::iter::once(head.as_slice()).chain(statements.iter().map(Vec::as_slice))))
}

/// The inverse of [`pack_pending`]. Nothing is verified.
pub fn unpack_pending(bytes: &[u8]) -> Option<(Listed, Vec<Vec<u8>>)> {
    let mut items = unpack(bytes)?.into_iter();
    let listed: Listed = canon::from_bytes_limit(&items.next()?, 4 * api::MAX_ANSWER).ok()?;
    (listed.held.len() <= MAX_LISTED).then(|| (listed, items.collect()))
}

/// The digest after `nonce=` in a query.
pub fn nonce(query: &str) -> Option<Digest> {
    digest(query, "nonce")
}

/// The digest after `name=` in a query.
pub fn digest(query: &str, name: &str) -> Option<Digest> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .and_then(|(_, v)| v.parse().ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn highest(nonce: &Digest) -> Highest {
        let root = Digest::of(b"root");
        let origin = "comity/t".to_owned();
        Highest { member: "gb".into(), nonce: *nonce, origin, root, signature: None, size: 7, term: 2 }
    }

    #[test]
    fn the_highest_cosigned_size_is_signed_for_one_asker_alone() {
        let (key, nonce) = (SecretKey::from_seed([1; 32]), Digest::of(b"asked now"));
        let said = highest(&nonce).sign(&key).unwrap();
        said.verify(&key.public(), &nonce).unwrap();
        assert!(said.verify(&key.public(), &Digest::of(b"asked later")).is_err(), "an old answer");
        assert!(said.verify(&SecretKey::from_seed([2; 32]).public(), &nonce).is_err());
        assert!(Highest { size: 6, ..said.clone() }.verify(&key.public(), &nonce).is_err());
        assert!(Highest { term: 1, ..said.clone() }.verify(&key.public(), &nonce).is_err());
        assert!(Highest { member: "it".into(), ..said }.verify(&key.public(), &nonce).is_err());
        assert!(highest(&nonce).verify(&key.public(), &nonce).is_err(), "not signed");
    }

    #[test]
    fn packed_answers_come_back_and_broken_ones_do_not() {
        let held = vec![Held { id: Digest::of(b"one"), since: 5 }];
        let bytes = pack_pending(&Listed { held: held.clone() }, &[b"one".to_vec()]).unwrap();
        assert_eq!(unpack_pending(&bytes), Some((Listed { held }, vec![b"one".to_vec()])));
        assert_eq!(unpack_pending(&bytes[..bytes.len() - 1]), None);
        assert_eq!(unpack_pending(b""), None);
        let answer = Attested {
            from: 3,
            leaves: vec![Digest::of(b"leaf")],
            member: "gb".into(),
            origin: "comity/t".into(),
            root: Digest::of(b"root"),
            size: 9,
            signature: None,
        };
        let bytes = pack_entries(&answer, &[b"leaf".to_vec()]).unwrap();
        assert_eq!(unpack_entries(&bytes), Some((answer.clone(), vec![b"leaf".to_vec()])));
        assert_eq!(unpack_entries(&pack_entries(&answer, &[]).unwrap()), None, "a hash without its entry");
    }
}
