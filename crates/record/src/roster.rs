//! The roster: who the members are, with which keys, whether they all signed, who runs the hub. A small fold of the
//! log that knows nothing of what the members do.
//!
//! It reads these types of statement; all others only have their signatures checked.
//!
//! | type | body | means |
//! | --- | --- | --- |
//! | `charter.propose@1` | the charter, a map | the first valid one is the charter; later ones are void |
//! | `charter.sign@1` | its digest | one from each member puts it in force; proposing is not signing |
//! | `member.propose@1` | [`Change`] | proposes that a member joins, is suspended, reinstated, expelled, or gets new keys |
//! | `member.accept@1` | id of the proposal | in effect once a quorum of member organisations has accepted; whoever is decided about has no say |
//! | `member.leave@1` | | the issuer leaves, at once |
//! | `key.rotate@1` | [`Rotate`] | new keys of the issuer, signed by the key that was committed to in advance |
//! | `key.reaffirm@1` | indices | contested statements of the issuer that it stands by |
//! | `term.open@1` | [`Opening`] | another hub takes over, with the sign-offs of a quorum in it |
//!
//! Of the charter it reads `federation`, `hub`, `members` (their `id`, keys and `control`), `faults`, `witnesses` and
//! `cosigning`, and ignores the rest.
//!
//! Keys are state: a statement is judged by the keys in force at its own index. Every change of who counts for
//! checkpoints begins an [`Era`]; see [`crate::electorate`] for how a checkpoint over a change is sealed.
//!
//! **Threat model.** Up to f organisations sign anything, alone or with the hub. They cannot change members or keys of
//! others, since that takes a quorum; whoever steals a member's `sign` key can speak for it but not rotate, since the
//! next key was committed to before and is kept elsewhere; a hub that repeats an old statement changes nothing, since
//! each counts once; and no key, once used by anybody, can come back as another's.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::canon::{self, Value};
use crate::digest::{Digest, excerpt};
use crate::electorate::{Cosigner, Electorate, Group, Scheme, default_faults};
use crate::entry::Entry;
use crate::keys::{PublicKey, Signature, pae};
use crate::names::{is_federation_name, is_line, is_party_id};
use crate::postquantum::MlPublicKey;
use crate::statement::{PAYLOAD_TYPE, SignedStatement};
use crate::term::{Opening, TermError};

/// Statement type that proposes the charter.
pub const PROPOSE: &str = "charter.propose@1";
/// Statement type that signs it.
pub const SIGN: &str = "charter.sign@1";
/// Statement type that proposes a change of members or keys.
pub const CHANGE: &str = "member.propose@1";
/// Statement type that accepts one.
pub const ACCEPT: &str = "member.accept@1";
/// Statement type with which a member leaves.
pub const LEAVE: &str = "member.leave@1";
/// Statement type with which a member changes its own keys.
pub const ROTATE: &str = "key.rotate@1";
/// Statement type with which a member stands by what was said with a key that was lost.
pub const REAFFIRM: &str = "key.reaffirm@1";
/// Statement type that begins a term of another hub.
pub const OPEN: &str = "term.open@1";
/// All types that this fold reads.
pub const TYPES: [&str; 8] = [PROPOSE, SIGN, CHANGE, ACCEPT, LEAVE, ROTATE, REAFFIRM, OPEN];
/// Most members: each has a line on every checkpoint.
pub const MAX_MEMBERS: usize = 128;
/// Most outside witnesses.
pub const MAX_WITNESSES: usize = 16;
/// Proposals of one member that wait at a time.
const MAX_OPEN: usize = 8;
/// Payload type under which whoever joins signs what is proposed of it.
pub const CONSENT_TYPE: &str = "application/vnd.comity.consent+json";

/// The sequencer and relay, as the charter names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberKeys {
    /// Signs statements.
    pub sign: PublicKey,
    /// Cosigns checkpoints.
    pub cosign: PublicKey,
    /// Cosigns them with ML-DSA-44 too, if the member has such a key.
    pub cosign_ml: Option<MlPublicKey>,
    /// Is pinned in its TLS certificate.
    pub tls: PublicKey,
    /// Digest of the `sign` key that comes next, committed to in advance.
    pub next: Option<Digest>,
    /// Where other members reach it without the hub, `host:port`.
    pub endpoint: Option<String>,
    /// Who runs it: seats of one operator count once.
    pub operator: String,
    /// Index of the entry that put these keys in force; 0 for the charter's.
    pub since: u64,
}

/// An organisation outside that cosigns checkpoints and sees nothing else (C2SP tlog-witness).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessInfo {
    /// Name on its cosignatures, as `witness.example/w1`.
    pub name: String,
    /// Who runs it.
    pub operator: String,
    /// Key of its cosignatures.
    pub key: PublicKey,
    /// Where it takes checkpoints, `https://witness.example`.
    pub url: String,
}

/// Which cosignatures count, as the charter says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cosigning {
    /// Which kinds.
    #[serde(default)]
    pub scheme: Scheme,
    /// A condition beside the quorum: nested k-of-n groups of members and witnesses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Group>,
}

/// A change of members or keys that needs the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Change {
    /// Somebody joins, as this document says; `consent` is its `sign` key's over [`consent`].
    Join {
        /// The member as a charter would name it.
        member: Value,
        /// That it wants to.
        consent: Signature,
    },
    /// A member no longer counts, and only its protective statements do.
    Suspend {
        /// Who.
        member: String,
    },
    /// A suspended member counts again.
    Reinstate {
        /// Who.
        member: String,
    },
    /// A member is no member any more.
    Expel {
        /// Who.
        member: String,
    },
    /// A member that lost all of its keys gets those in this document; the way out of last-key loss.
    Rekey {
        /// The member as a charter would name it, under its old id.
        member: Value,
        /// The new `sign` key over [`consent`].
        consent: Signature,
        /// Index from which the old `sign` key may have been another's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        compromised_since: Option<u64>,
    },
}

impl Change {
    /// The member that is decided about.
    pub fn about(&self) -> Option<String> {
        match self {
            Change::Suspend { member } | Change::Reinstate { member } | Change::Expel { member } => {
                Some(member.clone())
            }
            Change::Join { member, .. } | Change::Rekey { member, .. } => {
                member.get("id").and_then(Value::as_str).map(str::to_owned)
            }
        }
    }
}

/// What whoever joins signs: that it is this member of this federation.
///
/// # Errors
/// When the document has no canonical form.
pub fn consent(charter: &Digest, member: &Value) -> Result<Vec<u8>, canon::CanonError> {
    let said = BTreeMap::from([("charter", canon::to_value(charter)?), ("member", member.clone())]);
    Ok(pae(CONSENT_TYPE, &canon::to_bytes(&said)?))
}

/// New keys of the issuer. Whatever is absent stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// The new `sign` key: the one that was committed to. It signs this statement; the old one need not.
    pub sign: PublicKey,
    /// Digest of the one after it.
    pub next: Digest,
    /// New `cosign` key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosign: Option<PublicKey>,
    /// New `cosign_ml` key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosign_ml: Option<MlPublicKey>,
    /// New `tls` key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<PublicKey>,
    /// Index from which the old `sign` key may have been another's: what was said with it since is contested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compromised_since: Option<u64>,
}

/// A key that may have been another's over a range of the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compromise {
    /// Whose.
    pub member: String,
    /// First index that is contested.
    pub since: u64,
    /// First index that is not any more.
    pub until: u64,
    /// Indices that the member stands by.
    pub reaffirmed: BTreeSet<u64>,
}

/// Who counts for checkpoints of at least `from` entries, until the next era.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Era {
    /// Smallest size.
    pub from: u64,
    /// Who counts.
    #[serde(serialize_with = "shared", deserialize_with = "unshared")]
    pub electorate: Arc<Electorate>,
}

fn shared<S: serde::Serializer>(electorate: &Arc<Electorate>, to: S) -> Result<S::Ok, S::Error> {
    electorate.as_ref().serialize(to)
}

fn unshared<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Arc<Electorate>, D::Error> {
    Electorate::deserialize(from).map(Arc::new)
}

/// A proposed change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// What would change.
    pub change: Change,
    /// Who proposed it.
    pub by: String,
    /// Index of the entry.
    pub index: u64,
    /// Who accepted; the proposer does by proposing.
    pub accepted: BTreeSet<String>,
    /// Index of the entry that put it in effect.
    pub done: Option<u64>,
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
    /// The charter is not in force yet.
    #[error("the charter is not in force, so neither members nor keys can change")]
    NotInForce,
    /// The statement has counted before.
    #[error("this statement has counted before")]
    Repeated,
    /// A change of members or keys that cannot be.
    #[error("change cannot be made: {0}")]
    Change(String),
    /// No such proposal waits.
    #[error("no proposal `{0}` waits")]
    NoProposal(Digest),
    /// Too many proposals of one member.
    #[error("`{0}` has 8 proposals that wait")]
    TooManyProposals(String),
    /// Keys that cannot be taken.
    #[error("keys cannot be changed: {0}")]
    Keys(String),
    /// Another hub cannot take over like this.
    #[error("term cannot begin: {0}")]
    Term(TermError),
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
            Why::NotInForce => "not_in_force",
            Why::Repeated => "repeated",
            Why::Change(_) => "change",
            Why::NoProposal(_) => "no_proposal",
            Why::TooManyProposals(_) => "too_many_proposals",
            Why::Keys(_) => "keys",
            Why::Term(_) => "term",
        }
    }
}

/// Members, keys and quorum, as the log so far says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roster {
    /// Digest of the canonical bytes of the charter that was proposed first.
    pub charter_digest: Option<Digest>,
    /// The log's name, `comity/<federation>`; empty before a charter is proposed.
    pub origin: String,
    /// The hub of the present term; nothing before a charter is proposed.
    pub hub: Option<HubInfo>,
    /// The present term, from 1; 0 before a charter is proposed.
    pub term: u32,
    /// Members by party id.
    pub members: BTreeMap<String, MemberKeys>,
    /// Members that are suspended: they count for nothing, and only their protective statements are heard.
    pub suspended: BTreeMap<String, MemberKeys>,
    /// Outside witnesses by name.
    pub witnesses: BTreeMap<String, WitnessInfo>,
    /// Which cosignatures count.
    pub cosigning: Cosigning,
    /// Those who signed the charter.
    pub signed_by: BTreeSet<String>,
    /// Index of the entry with which the last member signed.
    pub in_force_at: Option<u64>,
    /// How many organisations may sign anything at all without two conflicting checkpoints reaching quorum.
    pub f: u32,
    /// Who counts for checkpoints, by size.
    pub eras: Vec<Era>,
    /// Proposed changes by the id of their statement.
    pub proposals: BTreeMap<Digest, Proposal>,
    /// Keys that may have been another's.
    pub compromises: Vec<Compromise>,
    /// What the charter says of `faults`.
    faults: Option<u32>,
    /// Every key that was ever anybody's.
    used: BTreeSet<PublicKey>,
    /// Statements that changed the roster.
    acted: BTreeSet<Digest>,
}

impl Roster {
    /// The roster before the first entry.
    pub fn new() -> Self {
        Roster::default()
    }

    /// The roster after these entries, and why each void one is void.
    pub fn fold<E: Borrow<Entry>>(entries: impl IntoIterator<Item = E>) -> (Roster, BTreeMap<u64, Why>) {
        let mut roster = Roster::new();
        let mut voids = BTreeMap::new();
        for (index, entry) in (0_u64..).zip(entries) {
            if let Err(why) = roster.apply(index, entry.borrow()) {
                voids.insert(index, why);
            }
        }
        (roster, voids)
    }

    /// Whether this fold reads statements of this type.
    pub fn reads(r#type: &str) -> bool {
        TYPES.contains(&r#type)
    }

    /// Takes in the entry at `index`. Types that it does not read only have their signatures checked.
    ///
    /// # Errors
    /// Why the entry is void; the roster is then unchanged.
    pub fn apply(&mut self, index: u64, entry: &Entry) -> Result<(), Why> {
        if let Some(next) = self.after(index, entry)? {
            *self = next;
        }
        Ok(())
    }

    /// The roster after the entry at `index`, if the entry changes it.
    ///
    /// # Errors
    /// Why the entry is void.
    pub fn after(&self, index: u64, entry: &Entry) -> Result<Option<Roster>, Why> {
        let signed = &entry.signed;
        let kind = signed.statement().r#type.as_str();
        match kind {
            PROPOSE => return self.propose(signed).map(Some),
            SIGN => return self.sign(index, signed).map(Some),
            ROTATE => self.verify_signatures(signed)?,
            _ => self.authenticate(signed)?,
        }
        if !Roster::reads(kind) {
            return Ok(None);
        }
        if !self.in_force() {
            return Err(Why::NotInForce);
        }
        if self.acted.contains(&signed.id()) {
            return Err(Why::Repeated);
        }
        let issuer = &signed.statement().issuer;
        if !self.members.contains_key(issuer) && kind != LEAVE && kind != ROTATE && kind != REAFFIRM {
            return Err(Why::NotAMember(issuer.clone()));
        }
        let mut next = self.clone();
        next.acted.insert(signed.id());
        match kind {
            CHANGE => next.change(index, signed)?,
            ACCEPT => next.accept(index, signed)?,
            LEAVE => next.leave(index, signed)?,
            ROTATE => next.rotate(index, signed)?,
            REAFFIRM => next.reaffirm(signed)?,
            _ => next.open(index, signed)?,
        }
        Ok(Some(next))
    }

    fn propose(&self, signed: &SignedStatement) -> Result<Roster, Why> {
        if let Some(first) = self.charter_digest {
            return Err(Why::SecondCharter(first));
        }
        let body: ProposeBody = body(signed)?;
        let proposed = Roster::of_charter(&body.charter)?;
        proposed.authenticate(signed)?;
        Ok(proposed)
    }

    fn sign(&self, index: u64, signed: &SignedStatement) -> Result<Roster, Why> {
        self.authenticate(signed)?;
        let proposed = self.charter_digest.ok_or(Why::NoCharter)?;
        let body: SignBody = body(signed)?;
        if body.charter != proposed {
            return Err(Why::OtherCharter { signed: body.charter, proposed });
        }
        let issuer = &signed.statement().issuer;
        let mut next = self.clone();
        if !next.signed_by.insert(issuer.clone()) {
            return Err(Why::SignedBefore(issuer.clone()));
        }
        if next.in_force_at.is_none() && next.members.keys().all(|m| next.signed_by.contains(m)) {
            next.in_force_at = Some(index);
        }
        Ok(next)
    }

    fn change(&mut self, index: u64, signed: &SignedStatement) -> Result<(), Why> {
        let change: Change = body::<ChangeBody>(signed)?.change;
        let by = signed.statement().issuer.clone();
        let waiting = self.proposals.values().filter(|p| p.done.is_none() && p.by == by).count();
        if waiting >= MAX_OPEN {
            return Err(Why::TooManyProposals(by));
        }
        // What cannot be made now is void at once, so that nobody is asked to accept it.
        self.clone().make(index, &change)?;
        let proposal = Proposal { change, accepted: BTreeSet::from([by.clone()]), by, index, done: None };
        self.proposals.insert(signed.id(), proposal);
        self.settle(index, signed.id())
    }

    fn accept(&mut self, index: u64, signed: &SignedStatement) -> Result<(), Why> {
        let id = body::<AcceptBody>(signed)?.proposal;
        let issuer = signed.statement().issuer.clone();
        let proposal = self.proposals.get_mut(&id).filter(|p| p.done.is_none()).ok_or(Why::NoProposal(id))?;
        if proposal.change.about().as_ref() == Some(&issuer) {
            return Err(Why::Change(format!("`{issuer}` has no say about itself")));
        }
        if !proposal.accepted.insert(issuer.clone()) {
            return Err(Why::SignedBefore(issuer));
        }
        self.settle(index, id)
    }

    /// Makes the change if enough have accepted it.
    fn settle(&mut self, index: u64, id: Digest) -> Result<(), Why> {
        let Some(proposal) = self.proposals.get(&id) else { return Ok(()) };
        let (change, accepted) = (proposal.change.clone(), proposal.accepted.clone());
        if !self.electorate().is_some_and(|e| e.decides(&accepted, change.about().as_deref())) {
            return Ok(());
        }
        self.make(index, &change)?;
        if let Some(proposal) = self.proposals.get_mut(&id) {
            proposal.done = Some(index);
        }
        Ok(())
    }

    fn make(&mut self, index: u64, change: &Change) -> Result<(), Why> {
        let wrong = |e: String| Err(Why::Change(e));
        match change {
            Change::Join { member, consent } => {
                let (id, keys) = self.document(member, consent, index)?;
                if self.members.contains_key(&id) || self.suspended.contains_key(&id) {
                    return wrong(format!("`{id}` is a member"));
                }
                if self.members.len() + self.suspended.len() >= MAX_MEMBERS {
                    return wrong(format!("there are {MAX_MEMBERS} members"));
                }
                self.members.insert(id, keys);
            }
            Change::Suspend { member } => {
                let Some(keys) = self.members.remove(member) else {
                    return wrong(format!("`{member}` is no member that counts"));
                };
                self.suspended.insert(member.clone(), keys);
            }
            Change::Reinstate { member } => {
                let Some(keys) = self.suspended.remove(member) else {
                    return wrong(format!("`{member}` is not suspended"));
                };
                self.members.insert(member.clone(), keys);
            }
            Change::Expel { member } => {
                if self.members.remove(member).or_else(|| self.suspended.remove(member)).is_none() {
                    return wrong(format!("`{member}` is no member"));
                }
            }
            Change::Rekey { member, consent, compromised_since } => {
                let (id, keys) = self.document(member, consent, index)?;
                let seat = match self.members.get_mut(&id) {
                    Some(seat) => seat,
                    None => self
                        .suspended
                        .get_mut(&id)
                        .ok_or_else(|| Why::Change(format!("`{id}` is no member")))?,
                };
                if keys.operator != seat.operator {
                    return wrong(format!("`{id}` is run by `{}`", excerpt(&seat.operator)));
                }
                let from = seat.since;
                *seat = keys;
                self.contest(&id, *compromised_since, from, index);
            }
        }
        self.begin(index)
    }

    /// The member that a document describes, with keys that nobody has used, and its consent checked.
    fn document(&mut self, member: &Value, by: &Signature, index: u64) -> Result<(String, MemberKeys), Why> {
        let wrong = |e: String| Why::Change(e);
        let charter = self.charter_digest.ok_or(Why::NoCharter)?;
        let doc: MemberDoc = canon::from_value(member.clone()).map_err(|e| wrong(e.to_string()))?;
        let (id, mut keys) = doc.check().map_err(wrong)?;
        let bytes = consent(&charter, member).map_err(|e| wrong(e.to_string()))?;
        keys.sign
            .verify_strict(&bytes, by)
            .map_err(|_| wrong(format!("`{id}` has not signed that it joins")))?;
        for key in [keys.sign, keys.cosign, keys.tls] {
            if !self.used.insert(key) {
                return Err(wrong(format!("key `{key}` was used before")));
            }
        }
        keys.since = index;
        Ok((id, keys))
    }

    fn leave(&mut self, index: u64, signed: &SignedStatement) -> Result<(), Why> {
        let _: LeaveBody = body(signed)?;
        let issuer = &signed.statement().issuer;
        if self.members.remove(issuer).or_else(|| self.suspended.remove(issuer)).is_none() {
            return Err(Why::NotAMember(issuer.clone()));
        }
        self.begin(index)
    }

    fn rotate(&mut self, index: u64, signed: &SignedStatement) -> Result<(), Why> {
        let wrong = |e: &str| Err(Why::Keys(e.to_owned()));
        let rotate: Rotate = body(signed)?;
        let issuer = signed.statement().issuer.clone();
        let fresh = [Some(rotate.sign), rotate.cosign, rotate.tls];
        for key in fresh.into_iter().flatten() {
            if !self.used.insert(key) {
                return wrong("a key that was used before");
            }
        }
        let Some(seat) = self.members.get_mut(&issuer).or_else(|| self.suspended.get_mut(&issuer)) else {
            return Err(Why::NotAMember(issuer));
        };
        match seat.next {
            None => return wrong("no next key was committed to: the others must accept new keys"),
            Some(next) if next != Digest::of(rotate.sign.as_bytes()) => {
                return wrong("not the key that was committed to");
            }
            Some(_) => {}
        }
        if !signed.signatures().iter().any(|s| s.key == rotate.sign) {
            return wrong("not signed with the new `sign` key");
        }
        let from = seat.since;
        seat.sign = rotate.sign;
        seat.next = Some(rotate.next);
        seat.cosign = rotate.cosign.unwrap_or(seat.cosign);
        seat.tls = rotate.tls.unwrap_or(seat.tls);
        if rotate.cosign_ml.is_some() {
            seat.cosign_ml = rotate.cosign_ml;
        }
        seat.since = index;
        self.contest(&issuer, rotate.compromised_since, from, index);
        self.begin(index)
    }

    fn contest(&mut self, member: &str, since: Option<u64>, from: u64, until: u64) {
        let Some(since) = since else { return };
        let member = member.to_owned();
        // Before these keys were in force nothing was said with them.
        let since = since.max(from).min(until);
        self.compromises.push(Compromise { member, since, until, reaffirmed: BTreeSet::new() });
    }

    fn reaffirm(&mut self, signed: &SignedStatement) -> Result<(), Why> {
        let reaffirm: ReaffirmBody = body(signed)?;
        let issuer = &signed.statement().issuer;
        for index in reaffirm.entries {
            let mut contested = false;
            for c in &mut self.compromises {
                if c.member == *issuer && (c.since..c.until).contains(&index) {
                    contested = c.reaffirmed.insert(index) || contested;
                }
            }
            if !contested {
                return Err(Why::Keys(format!("entry {index} is not contested")));
            }
        }
        Ok(())
    }

    fn open(&mut self, index: u64, signed: &SignedStatement) -> Result<(), Why> {
        let opening: Opening = body(signed)?;
        opening.check(index, self).map_err(Why::Term)?;
        for key in [opening.hub.key, opening.hub.tls] {
            if !self.used.insert(key) {
                return Err(Why::Keys(format!("key `{key}` was used before")));
            }
        }
        self.term = opening.term;
        self.hub = Some(opening.hub);
        self.begin(index)
    }

    /// Begins an era after the entry at `index`.
    fn begin(&mut self, index: u64) -> Result<(), Why> {
        self.enter(index + 1).map_err(Why::Change)
    }

    fn enter(&mut self, from: u64) -> Result<(), String> {
        let hub = self.hub.clone().ok_or("no hub")?;
        let members = self.members.iter().map(|(id, keys)| (id.clone(), keys.cosigner())).collect();
        let witnesses = self.witnesses.iter().map(|(name, w)| (name.clone(), w.cosigner())).collect();
        let Cosigning { scheme, groups } = self.cosigning.clone();
        let mut electorate = Electorate { members, witnesses, f: 0, scheme, groups, hub, term: self.term };
        let n = electorate.organisations();
        if electorate.members.is_empty() {
            return Err("no member would be left".to_owned());
        }
        electorate.f = self.faults.unwrap_or(default_faults(n));
        if electorate.f >= n {
            return Err(format!(
                "found `faults` {}, expected fewer than the {n} organisations",
                electorate.f
            ));
        }
        let everyone: BTreeSet<String> =
            electorate.members.keys().chain(electorate.witnesses.keys()).cloned().collect();
        if !electorate.suffices(&everyone) {
            return Err("the charter's groups could not be fulfilled any more".to_owned());
        }
        if scheme == Scheme::Hybrid
            && let Some((id, _)) = electorate.members.iter().find(|(_, m)| m.ml.is_none())
        {
            return Err(format!("`{id}` has no `cosign_ml` key, and hybrid cosignatures need one"));
        }
        self.f = electorate.f;
        // INVARIANT: eras are in order of size, one for each.
        self.eras.retain(|era| era.from < from || from == 0);
        self.eras.push(Era { from, electorate: Arc::new(electorate) });
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
        let mut used = BTreeSet::from([doc.hub.key]);
        let mut fresh = |key: PublicKey, whose: &str| {
            if used.insert(key) {
                Ok(())
            } else {
                Err(wrong(format!("key `{key}` of {whose} is used twice")))
            }
        };
        fresh(doc.hub.tls, "the hub")?;
        let mut members = BTreeMap::new();
        for member in doc.members {
            let (id, keys) = member.check().map_err(wrong)?;
            for key in [keys.sign, keys.cosign, keys.tls] {
                fresh(key, &format!("member `{id}`"))?;
            }
            if members.insert(id.clone(), keys).is_some() {
                return Err(wrong(format!("member `{id}` stands twice")));
            }
        }
        if doc.witnesses.len() > MAX_WITNESSES {
            return Err(wrong(format!(
                "found {} witnesses, expected at most {MAX_WITNESSES}",
                doc.witnesses.len()
            )));
        }
        let mut witnesses = BTreeMap::new();
        for witness in doc.witnesses {
            witness.fault().map_or(Ok(()), |fault| Err(wrong(fault)))?;
            fresh(witness.key, &format!("witness `{}`", witness.name))?;
            let name = witness.name.clone();
            if witnesses.insert(name.clone(), witness).is_some() {
                return Err(wrong(format!("witness `{name}` stands twice")));
            }
        }
        let cosigning = doc.cosigning.unwrap_or_default();
        let known = |name: &str| members.contains_key(name) || witnesses.contains_key(name);
        if let Some(fault) = cosigning.groups.as_ref().and_then(|g| g.fault(&known)) {
            return Err(wrong(format!("`cosigning.groups` has {fault}")));
        }
        let mut roster = Roster {
            charter_digest: Some(digest),
            origin: format!("comity/{}", doc.federation),
            hub: Some(doc.hub),
            term: 1,
            members,
            witnesses,
            cosigning,
            faults: doc.faults,
            used,
            ..Roster::default()
        };
        roster.enter(0).map_err(wrong)?;
        Ok(roster)
    }

    /// Who counts now; nobody before a charter is proposed.
    pub fn electorate(&self) -> Option<&Arc<Electorate>> {
        self.eras.last().map(|era| &era.electorate)
    }

    /// Who counts for a checkpoint of `size` entries.
    pub fn electorate_at(&self, size: u64) -> Option<&Arc<Electorate>> {
        self.eras.iter().rev().find(|era| era.from <= size).map(|era| &era.electorate)
    }

    /// Whose quorums a checkpoint of `size` entries needs when the first `above` are in force: of every era from that
    /// one on. So a change is sealed by those before it and those after it.
    pub fn electorates(&self, above: u64, size: u64) -> Vec<&Arc<Electorate>> {
        let first = self.eras.iter().rposition(|era| era.from <= above).unwrap_or(0);
        let within = self.eras.iter().skip(first).filter(|era| era.from <= size);
        let all: Vec<_> = within.map(|era| &era.electorate).collect();
        // A checkpoint that is not above anything is judged by its own era.
        if all.is_empty() { self.electorate_at(size).into_iter().collect() } else { all }
    }

    /// Organisations whose cosignatures put a checkpoint in force now: see [`Electorate::quorum`]. Zero before a
    /// charter is proposed, when [`Roster::watermark_ready`] is false.
    pub fn quorum(&self) -> u32 {
        self.electorate().map_or(0, |e| e.quorum())
    }

    /// Whether the statement of `member` at `index` was said with a key that may have been another's, and the member
    /// has not stood by it since.
    pub fn contested(&self, member: &str, index: u64) -> bool {
        self.compromises.iter().any(|c| {
            c.member == member && (c.since..c.until).contains(&index) && !c.reaffirmed.contains(&index)
        })
    }

    /// Whether there is more to it than the charter and who signed it: changes, or proposals of any.
    pub fn has_changed(&self) -> bool {
        !self.acted.is_empty()
    }

    /// Whether the record has ever named this key as anybody's.
    pub fn has_used(&self, key: &PublicKey) -> bool {
        self.used.contains(key)
    }

    /// The keys of a member, suspended or not.
    pub fn keys(&self, id: &str) -> Option<&MemberKeys> {
        self.members.get(id).or_else(|| self.suspended.get(id))
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

    /// The party whose TLS key this is; suspended members may still read.
    pub fn party_of_tls(&self, key: &PublicKey) -> Option<&str> {
        let mut all = self.members.iter().chain(&self.suspended);
        all.find(|(_, m)| m.tls == *key).map(|(id, _)| id.as_str())
    }

    /// Checks that the issuer is a member of the (proposed) charter, that it signed with its `sign` key, and that no
    /// signature under the statement is bad.
    ///
    /// # Errors
    /// Why the statement is void.
    pub fn authenticate(&self, signed: &SignedStatement) -> Result<(), Why> {
        if self.charter_digest.is_none() {
            return Err(Why::NoCharter);
        }
        let issuer = &signed.statement().issuer;
        let member = self.keys(issuer).ok_or_else(|| Why::NotAMember(issuer.clone()))?;
        if !signed.signatures().iter().any(|s| s.key == member.sign) {
            return Err(Why::NotSigned(issuer.clone()));
        }
        self.verify_signatures(signed)
    }

    fn verify_signatures(&self, signed: &SignedStatement) -> Result<(), Why> {
        if self.charter_digest.is_none() {
            return Err(Why::NoCharter);
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

impl MemberKeys {
    fn cosigner(&self) -> Cosigner {
        Cosigner { key: self.cosign, ml: self.cosign_ml.clone(), operator: self.operator.clone() }
    }
}

impl WitnessInfo {
    fn cosigner(&self) -> Cosigner {
        Cosigner { key: self.key, ml: None, operator: self.operator.clone() }
    }

    fn fault(&self) -> Option<String> {
        // A party id has neither, so no witness can be taken for a member.
        let named = self.name.contains(['.', '/'])
            && signed_note::is_key_name_valid(&self.name)
            && is_line(&self.name, 128)
            && !is_party_id(&self.name);
        if !named {
            return Some(format!(
                "found witness `{}`, expected a name as `witness.example/w1`",
                excerpt(&self.name)
            ));
        }
        if !is_line(&self.operator, 256) || !is_line(&self.url, 512) || !self.url.starts_with("http") {
            return Some(format!("witness `{}` needs an operator and a URL, a line each", self.name));
        }
        None
    }
}

fn body<T: serde::de::DeserializeOwned>(signed: &SignedStatement) -> Result<T, Why> {
    signed.statement().body_as().map_err(|e| Why::Body(e.to_string()))
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeBody {
    change: Change,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptBody {
    proposal: Digest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaveBody {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReaffirmBody {
    entries: Vec<u64>,
}

/// What the roster reads of a charter.
#[derive(Deserialize)]
struct CharterDoc {
    federation: String,
    hub: HubInfo,
    members: Vec<MemberDoc>,
    faults: Option<u32>,
    #[serde(default)]
    witnesses: Vec<WitnessInfo>,
    cosigning: Option<Cosigning>,
}

#[derive(Deserialize)]
struct MemberDoc {
    id: String,
    control: Option<String>,
    sign: PublicKey,
    cosign: PublicKey,
    cosign_ml: Option<MlPublicKey>,
    tls: PublicKey,
    next: Option<Digest>,
    endpoint: Option<String>,
}

impl MemberDoc {
    fn check(self) -> Result<(String, MemberKeys), String> {
        let MemberDoc { id, control, sign, cosign, cosign_ml, tls, next, endpoint } = self;
        if !is_party_id(&id) {
            return Err(format!("found member id `{}`, expected one as `gb`", excerpt(&id)));
        }
        if let Some(endpoint) = endpoint.as_ref().filter(|e| !is_endpoint(e)) {
            return Err(format!("found endpoint `{}` of `{id}`, expected `host:port`", excerpt(endpoint)));
        }
        let operator = control.unwrap_or_else(|| id.clone());
        Ok((id, MemberKeys { sign, cosign, cosign_ml, tls, next, endpoint, operator, since: 0 }))
    }
}

/// Whether text has the form `host:port`.
pub fn is_endpoint(text: &str) -> bool {
    let port = |p: &str| p.parse::<u16>().is_ok_and(|n| n > 0 && n.to_string() == p);
    text.rsplit_once(':').is_some_and(|(host, p)| {
        port(p) && is_line(host, 253) && !host.contains(|c: char| c.is_whitespace() || c == '/' || c == '@')
    })
}
