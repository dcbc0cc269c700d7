//! The roster: who the members are, with which keys, and whether they all signed. A small fold of the log that knows
//! nothing of what the members do together.
//!
//! It reads two types of statement. `charter.propose@1` with the body `{"charter": <the charter, a map>}`: the first
//! valid one is the charter, later ones are void. `charter.sign@1` with the body `{"charter": "<digest>"}`: one from
//! each member puts the charter in force; proposing is not signing. Of the charter it reads `federation`, `hub`,
//! `members` (their `id` and keys) and `faults`, and ignores the rest.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::canon::{self, Value};
use crate::digest::{Digest, excerpt};
use crate::entry::Entry;
use crate::keys::{PublicKey, pae};
use crate::names::{is_federation_name, is_line, is_party_id};
use crate::statement::{PAYLOAD_TYPE, SignedStatement};

/// Statement type that proposes the charter.
pub const PROPOSE: &str = "charter.propose@1";
/// Statement type that signs it.
pub const SIGN: &str = "charter.sign@1";
/// Most members: each has a line on every checkpoint.
pub const MAX_MEMBERS: usize = 128;

/// The sequencer and relay, as the charter names it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct HubInfo {
    /// The organisation that runs it.
    pub operator: String,
    /// The jurisdiction that it runs under.
    pub jurisdiction: String,
    /// The key that signs checkpoints.
    pub key: PublicKey,
    /// The key of its TLS certificate.
    pub tls: PublicKey,
}

/// A member's keys, one for each use, so that none can be made to sign for another.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct MemberKeys {
    /// Signs statements.
    pub sign: PublicKey,
    /// Cosigns checkpoints.
    pub cosign: PublicKey,
    /// Is pinned in its TLS certificate.
    pub tls: PublicKey,
}

/// Why a statement is void, as far as signatures and the roster decide. Every node computes the same one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum Why {
    /// Nobody has proposed a charter yet.
    #[error("no charter is proposed yet, so nobody's signature can be checked")]
    NoCharter,
    /// The issuer is no member.
    #[error("issuer `{0}` is no member of the charter")]
    NotAMember(String),
    /// The issuer did not sign.
    #[error("statement of `{0}` is not signed with its `sign` key from the charter")]
    NotSigned(String),
    /// One of the signatures does not verify.
    #[error("a signature under the statement does not verify under key `{0}`")]
    BadSignature(PublicKey),
    /// A charter was proposed before.
    #[error("charter `{0}` was proposed before, and only the first counts")]
    SecondCharter(Digest),
    /// The charter lacks what the roster needs, or contradicts itself.
    #[error("charter cannot be used: {0}")]
    Charter(String),
    /// The body has not the form of its type.
    #[error("body does not fit its type: {0}")]
    Body(String),
    /// A signature for another charter than the proposed one.
    #[error("signs charter `{signed}`, but `{proposed}` is the one proposed")]
    OtherCharter {
        /// Digest in the statement.
        signed: Digest,
        /// Digest of the charter proposed.
        proposed: Digest,
    },
    /// Signed a second time.
    #[error("`{0}` has signed the charter before")]
    SignedBefore(String),
}

impl Why {
    /// A stable word for the reason, for state that is hashed.
    pub fn code(&self) -> &'static str {
        match self {
            Why::NoCharter => "no_charter",
            Why::NotAMember(_) => "not_a_member",
            Why::NotSigned(_) => "not_signed",
            Why::BadSignature(_) => "bad_signature",
            Why::SecondCharter(_) => "second_charter",
            Why::Charter(_) => "charter",
            Why::Body(_) => "body",
            Why::OtherCharter { .. } => "other_charter",
            Why::SignedBefore(_) => "signed_before",
        }
    }
}

/// Members, keys and quorum, as the log so far says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// Digest of the canonical bytes of the charter that was proposed first.
    pub charter_digest: Option<Digest>,
    /// The log's name, `comity/<federation>`; empty before a charter is proposed.
    pub origin: String,
    /// The hub; nothing before a charter is proposed.
    pub hub: Option<HubInfo>,
    /// Members by party id, from the proposed charter.
    pub members: BTreeMap<String, MemberKeys>,
    /// Those who signed it.
    pub signed_by: BTreeSet<String>,
    /// Index of the entry with which the last member signed.
    pub in_force_at: Option<u64>,
    /// How many members may sign anything at all without two conflicting checkpoints reaching quorum.
    pub f: u32,
}

impl Roster {
    /// The roster before the first entry.
    pub fn new() -> Self {
        Roster::default()
    }

    /// The roster after these entries, and why each void one is void.
    pub fn fold<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> (Roster, BTreeMap<u64, Why>) {
        let mut roster = Roster::new();
        let mut voids = BTreeMap::new();
        for (index, entry) in (0_u64..).zip(entries) {
            if let Err(why) = roster.apply(index, entry) {
                voids.insert(index, why);
            }
        }
        (roster, voids)
    }

    /// Takes in the entry at `index`. Types that it does not read only have their signatures checked.
    ///
    /// # Errors
    /// Why the entry is void; the roster is then unchanged.
    pub fn apply(&mut self, index: u64, entry: &Entry) -> Result<(), Why> {
        match entry.signed.statement().r#type.as_str() {
            PROPOSE => self.propose(&entry.signed),
            SIGN => self.sign(index, &entry.signed),
            _ => self.authenticate(&entry.signed),
        }
    }

    fn propose(&mut self, signed: &SignedStatement) -> Result<(), Why> {
        if let Some(first) = self.charter_digest {
            return Err(Why::SecondCharter(first));
        }
        let body: ProposeBody = signed.statement().body_as().map_err(|e| Why::Body(e.to_string()))?;
        let proposed = Roster::of_charter(&body.charter)?;
        proposed.authenticate(signed)?;
        *self = proposed;
        Ok(())
    }

    fn sign(&mut self, index: u64, signed: &SignedStatement) -> Result<(), Why> {
        self.authenticate(signed)?;
        let proposed = self.charter_digest.ok_or(Why::NoCharter)?;
        let body: SignBody = signed.statement().body_as().map_err(|e| Why::Body(e.to_string()))?;
        if body.charter != proposed {
            return Err(Why::OtherCharter { signed: body.charter, proposed });
        }
        let issuer = &signed.statement().issuer;
        if !self.signed_by.insert(issuer.clone()) {
            return Err(Why::SignedBefore(issuer.clone()));
        }
        if self.members.keys().all(|m| self.signed_by.contains(m)) {
            self.in_force_at = Some(index);
        }
        Ok(())
    }

    /// The roster that a charter would begin: its members and keys, signed by nobody yet. Also what `join` shows
    /// before anyone signs.
    ///
    /// # Errors
    /// [`Why::Charter`] with what is missing or contradicts itself.
    pub fn of_charter(charter: &Value) -> Result<Self, Why> {
        let wrong = |e: String| Why::Charter(e);
        let digest = Digest::of(&charter.to_bytes().map_err(|e| wrong(e.to_string()))?);
        let doc: CharterDoc = canon::from_value(charter.clone()).map_err(|e| wrong(e.to_string()))?;
        if !is_federation_name(&doc.federation) {
            return Err(wrong(format!(
                "found federation `{}`, expected lower-case letters, digits, dots and dashes, at most 63",
                excerpt(&doc.federation)
            )));
        }
        if !is_line(&doc.hub.operator, 256) || !is_line(&doc.hub.jurisdiction, 64) {
            return Err(wrong("the hub's `operator` and `jurisdiction` must each be one line".to_owned()));
        }
        if doc.members.is_empty() || doc.members.len() > MAX_MEMBERS {
            return Err(wrong(format!("found {} members, expected 1 to {MAX_MEMBERS}", doc.members.len())));
        }
        // Each key has one holder and one use; the message of an Ed25519 cosignature does not even name the
        // cosigner (C2SP tlog-cosignature), so a shared key would let one member count as two.
        let mut keys = BTreeSet::from([doc.hub.key]);
        let mut fresh = |key: PublicKey, whose: &str| {
            if keys.insert(key) {
                Ok(())
            } else {
                Err(wrong(format!("key `{key}` of {whose} is used twice")))
            }
        };
        fresh(doc.hub.tls, "the hub")?;
        let mut members = BTreeMap::new();
        for member in doc.members {
            if !is_party_id(&member.id) {
                return Err(wrong(format!(
                    "found member id `{}`, expected one as `gb`",
                    excerpt(&member.id)
                )));
            }
            for key in [member.sign, member.cosign, member.tls] {
                fresh(key, &format!("member `{}`", member.id))?;
            }
            let keys = MemberKeys { sign: member.sign, cosign: member.cosign, tls: member.tls };
            if members.insert(member.id.clone(), keys).is_some() {
                return Err(wrong(format!("member `{}` stands twice", member.id)));
            }
        }
        let n = members.len() as u32;
        let f = doc.faults.unwrap_or((n - 1) / 3);
        if f >= n {
            return Err(wrong(format!("found `faults` {f}, expected fewer than the {n} members")));
        }
        Ok(Roster {
            charter_digest: Some(digest),
            origin: format!("comity/{}", doc.federation),
            hub: Some(doc.hub),
            members,
            signed_by: BTreeSet::new(),
            in_force_at: None,
            f,
        })
    }

    /// Organisations whose cosignatures put a checkpoint in force: floor((n + f) / 2) + 1, so that two conflicting
    /// checkpoints would need more than f members to sign both. Never more than n, since f is below n. Zero before a
    /// charter is proposed, when [`Roster::watermark_ready`] is false.
    pub fn quorum(&self) -> u32 {
        if self.members.is_empty() { 0 } else { (self.members.len() as u32 + self.f) / 2 + 1 }
    }

    /// Whether there is anyone whose cosignatures could be counted.
    pub fn watermark_ready(&self) -> bool {
        !self.members.is_empty()
    }

    /// Whether every member signed the charter.
    pub fn in_force(&self) -> bool {
        self.in_force_at.is_some()
    }

    /// Members whose signature is missing.
    pub fn unsigned(&self) -> BTreeSet<String> {
        self.members.keys().filter(|m| !self.signed_by.contains(*m)).cloned().collect()
    }

    /// The party whose TLS key this is.
    pub fn party_of_tls(&self, key: &PublicKey) -> Option<&str> {
        self.members.iter().find(|(_, m)| m.tls == *key).map(|(id, _)| id.as_str())
    }

    /// Checks that the issuer is a member of the (proposed) charter, that it signed with its `sign` key, and that no
    /// signature under the statement is bad.
    ///
    /// # Errors
    /// Why the statement is void.
    pub fn authenticate(&self, signed: &SignedStatement) -> Result<(), Why> {
        if self.members.is_empty() {
            return Err(Why::NoCharter);
        }
        let issuer = &signed.statement().issuer;
        let member = self.members.get(issuer).ok_or_else(|| Why::NotAMember(issuer.clone()))?;
        if !signed.signatures().iter().any(|s| s.key == member.sign) {
            return Err(Why::NotSigned(issuer.clone()));
        }
        let message = pae(PAYLOAD_TYPE, signed.bytes());
        for signature in signed.signatures() {
            signature
                .key
                .verify_strict(&message, &signature.sig)
                .map_err(|_| Why::BadSignature(signature.key))?;
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProposeBody {
    charter: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignBody {
    charter: Digest,
}

/// What the roster reads of a charter.
#[derive(Deserialize)]
struct CharterDoc {
    federation: String,
    hub: HubInfo,
    members: Vec<MemberDoc>,
    faults: Option<u32>,
}

#[derive(Deserialize)]
struct MemberDoc {
    id: String,
    sign: PublicKey,
    cosign: PublicKey,
    tls: PublicKey,
}
