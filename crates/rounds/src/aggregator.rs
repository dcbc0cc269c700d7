//! An aggregator's part: check every contribution's proof together with the others, add up, commit, open once.
//!
//! ```text
//! begin ──> key part to the others          all key parts ──┐
//! shares of all contributors ───────────────────────────────┴─> verifier shares to the others
//! verifier shares of all ──> every proof holds ──> add up ──> commitment to the others
//! commitments of all ──> ready ──> (mark kept, statement signed) ──> openings to the readers
//! ```
//!
//! One bad proof loses the round: summing the rest would be another set of contributors (A2).

use crate::context::RoundContext;
use crate::contribute::key_of_each;
use crate::envelope::{Binding, Kind, kind_of};
use crate::error::RoundError;
use crate::groups::{Group, Groups, NONCE, Reader, SEED};
use crate::kem::{KemPublic, KemSecret};
use crate::opening::commitment;
use hkdf::Hkdf;
use prio::codec::{Encode, ParameterizedDecode};
use prio::vdaf::prio3::{Prio3PublicShare, Prio3SumVec};
use prio::vdaf::{Aggregatable, Aggregator as _, Vdaf, VerifyTransition};
use record::Digest;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::collections::{BTreeMap, BTreeSet};
use zeroize::Zeroizing;

type InputShare = <Prio3SumVec as Vdaf>::InputShare;
type VerifyState = <Prio3SumVec as prio::vdaf::Aggregator<SEED, NONCE>>::VerifyState;
type VerifierShare = <Prio3SumVec as prio::vdaf::Aggregator<SEED, NONCE>>::VerifierShare;
type AggregateShare = <Prio3SumVec as Vdaf>::AggregateShare;

/// What an aggregator draws for one round: its part of the verify key and the salt of its commitment follow from
/// it. Kept by the node, sealed, before the first message leaves; erased with the keys of the run. No `Debug`.
pub struct RoundSeed(Zeroizing<[u8; 32]>);

impl RoundSeed {
    /// A fresh seed from the operating system.
    pub fn generate() -> Result<RoundSeed, RoundError> {
        random::<32>().map(RoundSeed)
    }

    /// A seed that was kept; `None` if it is not 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<RoundSeed> {
        bytes.try_into().ok().map(|seed| RoundSeed(Zeroizing::new(seed)))
    }

    /// The seed, to be sealed and kept.
    pub fn expose(&self) -> Zeroizing<[u8; 32]> {
        self.0.clone()
    }

    /// 32 bytes for one use in one round, by HKDF-SHA256 (RFC 5869).
    fn derive(&self, usage: &str, round: &Digest) -> Result<Zeroizing<[u8; 32]>, RoundError> {
        let mut out = Zeroizing::new([0; 32]);
        let info = [b"comity/1 ".as_slice(), usage.as_bytes(), b" ", round.as_bytes()].concat();
        Hkdf::<Sha256>::new(None, self.0.as_slice())
            .expand(&info, out.as_mut_slice())
            .map_err(|_| RoundError::Crypto { what: "key derivation" })?;
        Ok(out)
    }
}

/// A protocol message, sealed to one party.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The party that it is for.
    pub to: String,
    /// What it carries. An aggregator sends each kind at most once to each party in a round.
    pub kind: Kind,
    /// The bytes to send; resent verbatim or not at all.
    pub bytes: Vec<u8>,
}

/// What an aggregator keeps in its own store before openings leave it. If the store already holds a mark for
/// the slot, the round was opened and stays so, whoever contributed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpeningMark {
    /// [`RoundContext::slot`]: the key to keep it under.
    pub slot: Digest,
    /// [`RoundContext::digest`]: for which contributors, layout and question.
    pub context: Digest,
    /// The commitment to this aggregator's share of the sum; salted, so it may stand in the record.
    pub commitment: Digest,
}

/// A message's plaintext with the digest of its bytes.
type Received = (Zeroizing<Vec<u8>>, Digest);
/// One group's shares of one contribution: nonce, public share, input share.
type Row = (Box<[u8; NONCE]>, Prio3PublicShare<SEED>, InputShare);

/// One contribution as one aggregator holds it, a row for each group.
enum Report {
    /// Shares that wait for the verify key.
    Waiting(Vec<Row>),
    /// Verification under way, with this aggregator's own verifier share.
    Started(Vec<(VerifyState, VerifierShare)>),
}

/// What this aggregator committed to.
struct Total {
    share: Zeroizing<Vec<u8>>,
    salt: Zeroizing<[u8; 32]>,
    mark: OpeningMark,
}

/// The state of one aggregator in one round, in memory only.
///
/// Two facts must be in the node's store first, since a machine that starts over after a crash would forget
/// them: the [`RoundSeed`], before the messages of [`Aggregator::begin`] leave (verifying the same shares twice
/// under two keys would tell a peer more about them than once); and the [`OpeningMark`], before the messages of
/// [`Aggregator::open`] leave.
///
/// A machine made again from the same seed, given the same messages, says the same: each message has the same
/// content under a fresh encapsulation. So a node that was killed goes on, and of each message sends only the
/// bytes that it kept first.
///
/// Callers authenticate `from`: frames are signed by keys in the record.
pub struct Aggregator {
    ctx: RoundContext,
    binding: Binding,
    me: String,
    index: usize,
    secret: KemSecret,
    salt: Zeroizing<[u8; 32]>,
    peers: BTreeMap<String, KemPublic>,
    groups: Groups,
    parts: BTreeMap<String, Zeroizing<[u8; SEED]>>,
    /// First message of each kind from each party, so that repeats are told from conflicts.
    seen: BTreeMap<(Kind, String), Digest>,
    nonces: BTreeSet<[u8; NONCE]>,
    reports: BTreeMap<String, Report>,
    /// The others' verifier shares, still encoded.
    verifiers: BTreeMap<String, Vec<u8>>,
    verifier_sent: bool,
    total: Option<Total>,
    commitments: BTreeMap<String, Digest>,
    opened: bool,
    lost: bool,
}

impl Aggregator {
    /// A machine for one round. `peers` names every other aggregator once, with its key of this run. `seed` is
    /// fresh for this round and this aggregator, or the one kept when the machine was first made.
    pub fn new(
        ctx: RoundContext,
        me: &str,
        secret: KemSecret,
        peers: &[(String, KemPublic)],
        seed: &RoundSeed,
    ) -> Result<Aggregator, RoundError> {
        let binding = Binding::new(&ctx)?;
        let index = ctx.aggregators.iter().position(|a| a == me);
        let index =
            index.ok_or_else(|| RoundError::Party { party: me.to_owned(), expected: "an aggregator" })?;
        let others: Vec<String> = ctx.aggregators.iter().filter(|a| *a != me).cloned().collect();
        let keys = key_of_each(&others, peers)?;
        let peers = others.iter().cloned().zip(keys.into_iter().cloned()).collect();
        let groups = Groups::new(&ctx.layout, ctx.aggregators.len(), &binding)?;
        let part = seed.derive("part of the verify key", &binding.context)?;
        let salt = seed.derive("salt of the commitment", &binding.context)?;
        Ok(Aggregator {
            salt,
            parts: BTreeMap::from([(me.to_owned(), part)]),
            me: me.to_owned(),
            ctx,
            binding,
            index,
            secret,
            peers,
            groups,
            seen: BTreeMap::new(),
            nonces: BTreeSet::new(),
            reports: BTreeMap::new(),
            verifiers: BTreeMap::new(),
            verifier_sent: false,
            total: None,
            commitments: BTreeMap::new(),
            opened: false,
            lost: false,
        })
    }

    /// This aggregator's part of the verify key, sealed to each of the others; keep the bytes to resend.
    pub fn begin(&self) -> Result<Vec<Message>, RoundError> {
        let part = self.parts.get(&self.me).ok_or(RoundError::Lost)?;
        self.to_peers(Kind::KeyPart, part.as_slice())
    }

    /// A contributor's shares. Answers with what is now due to the other aggregators. A verbatim repeat is
    /// ignored; a second, different contribution is refused and the first one stands.
    pub fn on_contribution(&mut self, from: &str, bytes: &[u8]) -> Result<Vec<Message>, RoundError> {
        self.alive()?;
        if !self.ctx.contributors.iter().any(|c| c == from) {
            return Err(RoundError::Party { party: from.to_owned(), expected: "a contributor" });
        }
        let length = self.groups.share_bytes(self.index);
        let Some((plain, digest)) = self.receive(Kind::Share, from, bytes, length, "a share")? else {
            return Ok(Vec::new());
        };
        let rows = self.parse_shares(&plain).ok_or_else(|| malformed(from, Kind::Share))?;
        let fresh: BTreeSet<[u8; NONCE]> = rows.iter().map(|(nonce, _, _)| **nonce).collect();
        if fresh.len() != rows.len() || !fresh.is_disjoint(&self.nonces) {
            return Err(RoundError::Nonce { from: from.to_owned() });
        }
        self.nonces.extend(fresh);
        self.accept(Kind::Share, from, digest);
        self.reports.insert(from.to_owned(), Report::Waiting(rows));
        self.advance()
    }

    /// Another aggregator's message. Answers with what is now due to the others.
    pub fn on_message(&mut self, from: &str, bytes: &[u8]) -> Result<Vec<Message>, RoundError> {
        self.alive()?;
        if !self.peers.contains_key(from) {
            return Err(RoundError::Party { party: from.to_owned(), expected: "another aggregator" });
        }
        let expected = "a key part, verifier message or commitment";
        match kind_of(bytes) {
            Some(kind @ Kind::KeyPart) => {
                let Some((plain, digest)) = self.receive(kind, from, bytes, SEED, expected)? else {
                    return Ok(Vec::new());
                };
                let part = Reader(&plain).array().ok_or_else(|| malformed(from, kind))?;
                self.accept(kind, from, digest);
                self.parts.insert(from.to_owned(), Zeroizing::new(part));
            }
            Some(kind @ Kind::Verifier) => {
                let length = self.groups.verifier_bytes() * self.ctx.contributors.len();
                let Some((plain, digest)) = self.receive(kind, from, bytes, length, expected)? else {
                    return Ok(Vec::new());
                };
                self.accept(kind, from, digest);
                self.verifiers.insert(from.to_owned(), plain.to_vec());
            }
            Some(kind @ Kind::Commitment) => {
                let Some((plain, digest)) = self.receive(kind, from, bytes, 32, expected)? else {
                    return Ok(Vec::new());
                };
                let commitment = Reader(&plain).array().ok_or_else(|| malformed(from, kind))?;
                self.accept(kind, from, digest);
                self.commitments.insert(from.to_owned(), Digest::from_bytes(commitment));
            }
            Some(found) => {
                return Err(RoundError::Kind { from: from.to_owned(), found, expected });
            }
            None => {
                return Err(RoundError::Format { from: from.to_owned() });
            }
        }
        self.advance()
    }

    /// Contributors whose shares are not here yet.
    pub fn missing(&self) -> Vec<String> {
        let here = |c: &String| self.seen.contains_key(&(Kind::Share, c.clone()));
        self.ctx.contributors.iter().filter(|c| !here(c)).cloned().collect()
    }

    /// The mark to keep before [`Aggregator::open`], once every proof holds and all others have committed.
    pub fn ready_to_open(&self) -> Option<OpeningMark> {
        let all = self.commitments.len() == self.peers.len();
        self.total.as_ref().filter(|_| all && !self.opened && !self.lost).map(|t| t.mark.clone())
    }

    /// The round, as this machine was given it.
    pub fn context(&self) -> &RoundContext {
        &self.ctx
    }

    /// Opens the sum to its readers: this aggregator's share, sealed to each, with all aggregators'
    /// commitments. `readers` names each of [`RoundContext::readers`] once, with its key of this run.
    ///
    /// Once: a second call is an error whatever the readers. Keep the [`OpeningMark`] before sending, check that
    /// the statement of contributors that all aggregators signed is in force, and resend only these bytes.
    pub fn open(&mut self, readers: &[(String, KemPublic)]) -> Result<Vec<Message>, RoundError> {
        self.alive()?;
        if self.opened {
            return Err(RoundError::Opened);
        }
        let parties = self.ctx.readers();
        let keys = key_of_each(&parties, readers)?;
        let Some(total) = self.total.as_ref() else {
            return Err(RoundError::NotReady { waiting_for: self.waiting_for() });
        };
        let mut plain = Zeroizing::new(total.share.to_vec());
        plain.extend_from_slice(total.salt.as_slice());
        for aggregator in &self.ctx.aggregators {
            let own = (*aggregator == self.me).then_some(total.mark.commitment);
            let Some(c) = own.or_else(|| self.commitments.get(aggregator).copied()) else {
                return Err(RoundError::NotReady {
                    waiting_for: format!("the commitment of `{aggregator}`"),
                });
            };
            plain.extend_from_slice(c.as_bytes());
        }
        // INVARIANT: the right to open is spent before the first message exists.
        self.opened = true;
        let seal = |(to, key): (&String, &KemPublic)| {
            let bytes = self.binding.seal(Kind::Opening, &self.me, to, key, &plain)?;
            Ok(Message { to: to.clone(), kind: Kind::Opening, bytes })
        };
        parties.iter().zip(keys).map(seal).collect()
    }

    fn waiting_for(&self) -> String {
        let missing = self.missing();
        let silent = |have: &dyn Fn(&String) -> bool| -> Vec<String> {
            self.peers.keys().filter(|p| !have(p)).cloned().collect()
        };
        if !missing.is_empty() {
            format!("shares of {}", missing.join(", "))
        } else {
            let keys = silent(&|p| self.parts.contains_key(p));
            let verifiers = silent(&|p| self.verifiers.contains_key(p));
            let what = if keys.is_empty() { "verifier messages" } else { "key parts" };
            format!("{what} of {}", if keys.is_empty() { verifiers } else { keys }.join(", "))
        }
    }

    fn alive(&self) -> Result<(), RoundError> {
        if self.lost { Err(RoundError::Lost) } else { Ok(()) }
    }

    /// The plaintext of a message, or `None` for a verbatim repeat. Nothing is kept yet: a message that fails
    /// must not stand in the way of the genuine one.
    fn receive(
        &self,
        kind: Kind,
        from: &str,
        bytes: &[u8],
        length: usize,
        expected: &'static str,
    ) -> Result<Option<Received>, RoundError> {
        match kind_of(bytes) {
            Some(found) if found != kind => {
                return Err(RoundError::Kind { from: from.to_owned(), found, expected });
            }
            _ => {}
        }
        let digest = Digest::of(bytes);
        let first = self.seen.get(&(kind, from.to_owned()));
        if first == Some(&digest) {
            return Ok(None);
        }
        let plain = self.binding.open(kind, from, &self.me, &self.secret, bytes, length)?;
        if first.is_some() {
            return Err(RoundError::Conflict { from: from.to_owned(), kind });
        }
        Ok(Some((plain, digest)))
    }

    fn accept(&mut self, kind: Kind, from: &str, digest: Digest) {
        self.seen.insert((kind, from.to_owned()), digest);
    }

    fn to_peers(&self, kind: Kind, plain: &[u8]) -> Result<Vec<Message>, RoundError> {
        let seal = |(to, key): (&String, &KemPublic)| {
            let bytes = self.binding.seal(kind, &self.me, to, key, plain)?;
            Ok(Message { to: to.clone(), kind, bytes })
        };
        self.peers.iter().map(seal).collect()
    }

    fn parse_shares(&self, plain: &[u8]) -> Option<Vec<Row>> {
        let mut reader = Reader(plain);
        let mut rows = Vec::with_capacity(self.groups.0.len());
        for group in &self.groups.0 {
            let nonce = reader.array()?;
            let public = reader.take(group.public_bytes)?;
            let public = Prio3PublicShare::get_decoded_with_param(&group.vdaf, public).ok()?;
            let input = reader.take(group.input_bytes(self.index))?;
            let input = InputShare::get_decoded_with_param(&(&group.vdaf, self.index), input).ok()?;
            rows.push((Box::new(nonce), public, input));
        }
        reader.0.is_empty().then_some(rows)
    }

    /// The verify key: HKDF-SHA256 over all parts in the aggregators' order, once all are in. No contributor
    /// that is not also an aggregator can know it, and no single aggregator can choose it.
    fn verify_key(&self) -> Result<Option<Zeroizing<[u8; SEED]>>, RoundError> {
        let mut parts = Zeroizing::new(Vec::with_capacity(SEED * self.ctx.aggregators.len()));
        for aggregator in &self.ctx.aggregators {
            let Some(part) = self.parts.get(aggregator) else {
                return Ok(None);
            };
            parts.extend_from_slice(part.as_slice());
        }
        let info = [b"comity/1 verify key ".as_slice(), self.binding.context.as_bytes()].concat();
        let mut key = Zeroizing::new([0; SEED]);
        Hkdf::<Sha256>::new(None, &parts)
            .expand(&info, key.as_mut_slice())
            .map_err(|_| RoundError::Crypto { what: "key derivation" })?;
        Ok(Some(key))
    }

    /// Does whatever has become possible.
    fn advance(&mut self) -> Result<Vec<Message>, RoundError> {
        let mut out = Vec::new();
        if let Some(key) = self.verify_key()? {
            self.start_verifying(&key)?;
        }
        let all_started =
            self.ctx.contributors.iter().all(|c| matches!(self.reports.get(c), Some(Report::Started(_))));
        if all_started && !self.verifier_sent {
            let mut plain = Vec::with_capacity(self.groups.verifier_bytes() * self.ctx.contributors.len());
            for contributor in &self.ctx.contributors {
                let Some(Report::Started(rows)) = self.reports.get(contributor) else {
                    continue;
                };
                for (_, share) in rows {
                    let bytes = share.get_encoded().map_err(|_| RoundError::Crypto { what: "encoding" })?;
                    plain.extend_from_slice(&bytes);
                }
            }
            self.verifier_sent = true;
            out.extend(self.to_peers(Kind::Verifier, &plain)?);
        }
        if self.verifier_sent && self.total.is_none() && self.verifiers.len() == self.peers.len() {
            match self.finish() {
                Ok(total) => {
                    out.extend(self.to_peers(Kind::Commitment, total.mark.commitment.as_bytes())?);
                    self.total = Some(total);
                }
                Err(fault) => {
                    self.lose();
                    return Err(fault);
                }
            }
        }
        Ok(out)
    }

    /// A lost round keeps nothing that could still be opened.
    fn lose(&mut self) {
        self.lost = true;
        self.reports.clear();
        self.verifiers.clear();
        self.parts.clear();
        self.total = None;
    }

    fn start_verifying(&mut self, key: &[u8; SEED]) -> Result<(), RoundError> {
        let mut broken = None;
        for (contributor, report) in &mut self.reports {
            let Report::Waiting(rows) = report else {
                continue;
            };
            let start = |(group, (nonce, public, input)): (&Group, &(Box<[u8; NONCE]>, _, InputShare))| {
                group.vdaf.verify_init(key, &group.ctx, self.index, &(), nonce, public, input)
            };
            let started: Result<Vec<_>, _> = self.groups.0.iter().zip(rows.iter()).map(start).collect();
            match started {
                Ok(rows) => *report = Report::Started(rows),
                Err(_) => broken = Some(contributor.clone()),
            }
        }
        match broken {
            None => Ok(()),
            Some(contributor) => {
                self.lose();
                Err(RoundError::Proof { contributor })
            }
        }
    }

    /// Decides every proof from all aggregators' verifier shares and adds the output shares up.
    fn finish(&mut self) -> Result<Total, RoundError> {
        let mut totals: Vec<AggregateShare> =
            self.groups.0.iter().map(|g| g.vdaf.aggregate_init(&())).collect();
        let own: BTreeMap<String, Report> = std::mem::take(&mut self.reports);
        let mut theirs: BTreeMap<&String, Reader> =
            self.verifiers.iter().map(|(p, b)| (p, Reader(b))).collect();
        let mut reports = own;
        for contributor in &self.ctx.contributors {
            let proof = || RoundError::Proof { contributor: contributor.clone() };
            let Some(Report::Started(rows)) = reports.remove(contributor) else {
                return Err(proof());
            };
            for ((group, total), (state, own)) in self.groups.0.iter().zip(&mut totals).zip(rows) {
                let mut shares = Vec::with_capacity(self.ctx.aggregators.len());
                for aggregator in &self.ctx.aggregators {
                    if *aggregator == self.me {
                        shares.push(own.clone());
                        continue;
                    }
                    let bytes = theirs.get_mut(aggregator).and_then(|r| r.take(group.verifier_bytes));
                    let share = bytes.and_then(|b| VerifierShare::get_decoded_with_param(&state, b).ok());
                    shares.push(share.ok_or_else(|| malformed(aggregator, Kind::Verifier))?);
                }
                let message =
                    group.vdaf.verifier_shares_to_message(&group.ctx, &(), shares).map_err(|_| proof())?;
                match group.vdaf.verify_next(&group.ctx, state, message).map_err(|_| proof())? {
                    VerifyTransition::Finish(output) => total.accumulate(&output).map_err(|_| proof())?,
                    VerifyTransition::Continue(..) => return Err(proof()),
                }
            }
        }
        self.verifiers.clear();
        self.parts.clear();
        let mut share = Zeroizing::new(Vec::with_capacity(self.groups.aggregate_bytes()));
        for total in &totals {
            let bytes = total.get_encoded().map_err(|_| RoundError::Crypto { what: "encoding" })?;
            share.extend_from_slice(&Zeroizing::new(bytes));
        }
        let salt = self.salt.clone();
        let commitment = commitment(&self.binding.context, &self.me, &salt, &share);
        let mark = OpeningMark { slot: self.ctx.slot()?, context: self.binding.context, commitment };
        Ok(Total { share, salt, mark })
    }
}

fn malformed(from: &str, kind: Kind) -> RoundError {
    RoundError::Malformed { from: from.to_owned(), kind }
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, RoundError> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|_| RoundError::Crypto { what: "system randomness" })?;
    Ok(bytes)
}
