//! What members do with each other without the hub: they compare what it showed them, pass on what it may withhold,
//! and tell each other of stops.
//!
//! Every node looks at one other member after another. It takes that member's checkpoints and asks of each: did the
//! hub sign it, and is it of the same history as this node's own? Where the other is ahead, a consistency proof tells;
//! where the hub hides what another member has, the node fetches it there. What contradicts becomes a file that
//! convicts the hub before anyone ([`record::evidence`]), and this node cosigns nothing more in that term.
//!
//! | to know | see |
//! | --- | --- |
//! | how checkpoints are compared | this file |
//! | what is held for others, and when a node stops cosigning | [`held`] |
//! | promises, proofs and what follows from them | [`matter`] |
//! | how proofs go from member to member and onto the record | [`proofs`] |
//! | how sign-offs are seen, and a forgotten one comes back | [`signoffs`] |
//! | the endpoint, and who calls whom when | [`line`] |
//!
//! # Who can lie
//!
//! The hub can show two histories, to members who never compare: here they compare, and the first pair that does holds
//! the proof. It cannot be in between, since the lines are pinned to members' keys and their addresses are in the
//! charter; one that also runs a member is not asked. It can cut lines where it is the network: whoever is not reached
//! is no evidence, and shows as unwatched.
//!
//! A member can lie at its endpoint. It gains no conviction of anyone, since only what the hub or a member signed
//! convicts it. A proof that does not hold is kept against who gave it, and whoever gives many such is not listened to. It can say that it has held a statement for
//! long, and that counts only for a statement that this node has held as long itself. It can hand over old statements
//! and stops: what is in the record is known, and what never got there is its author's own word. It can flood: calls,
//! bodies and what is kept of one author have limits, and one author's do not push out another's. It can swallow what
//! it is handed; another member is asked next.

pub mod held;
pub mod line;
pub mod matter;
mod places;
pub mod proofs;
pub mod signoffs;

use crate::NodeError;
use crate::core::Node;
use record::checkpoint::{Cosignature, SignedCheckpoint};
use record::electorate::Electorate;
use record::evidence::{Attested, MAX_LEAVES, cleaned, contradiction};
use record::tree::{leaf_hash, verify_consistency};
use record::{Claim, Digest, Entry, EntryBytes, PublicKey};
use std::collections::{BTreeMap, BTreeSet};
use wire::api;
use wire::peer::{Checkpoints, Consistency, Highest};

/// A member that the hub gives less than another member has, for this long, is starved of it, milliseconds.
const STARVED: i64 = 15_000;
/// Name of the value with the lines with which this node cosigned last.
pub(crate) const OWN_LINES: &str = "cosigned-lines";
/// A watch that is older than this is none, milliseconds.
const WATCHED: i64 = 10 * 60_000;

/// What a node knows of other members beside the record. It is found again after a restart, so nothing of it is kept.
#[derive(Default)]
pub(crate) struct PeerState {
    /// What each member showed last.
    seen: BTreeMap<String, Seen>,
    /// Who says since when that it holds a statement.
    holders: BTreeMap<Digest, BTreeMap<String, i64>>,
    /// When a member was last compared with, and which.
    watched: Option<(i64, String)>,
    /// Since when another member has more than the hub gives, which, and how much.
    behind: Option<(i64, String, u64)>,
    /// Evidence that members gave, and that was told to them.
    proofs: proofs::Exchanged,
    /// Sign-offs that members were told of.
    told_off: BTreeMap<String, BTreeSet<Digest>>,
}

/// What a member showed.
struct Seen {
    /// Its largest checkpoint.
    note: SignedCheckpoint,
}

/// Entries, with the signed word of who gives them.
pub type Given = (Attested, Vec<Vec<u8>>);

/// What to ask a member next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing more.
    Done,
    /// A consistency proof between these sizes.
    Consistency(u64, u64),
    /// These entries, which the hub does not give.
    Entries(u64, u64),
    /// This entry, to see whether the member has what it should.
    Audit(u64),
}

impl Node {
    /// Where each member answers, of those that say so in the charter.
    pub fn endpoints(&self) -> BTreeMap<String, String> {
        let roster = self.member.log.roster();
        if roster.charter_digest.is_some() {
            let members = roster.members.iter();
            return members.filter_map(|(id, m)| Some((id.clone(), m.endpoint.clone()?))).collect();
        }
        let members = self.charter.members.iter();
        members.filter_map(|m| Some((m.id.clone(), m.endpoint.clone()?))).collect()
    }

    /// The members that may call this node, by TLS key.
    pub fn admitted(&self) -> BTreeMap<PublicKey, String> {
        let roster = self.member.log.roster();
        let mut all: BTreeMap<PublicKey, String> = if roster.charter_digest.is_some() {
            let members = roster.members.iter().chain(&roster.suspended);
            members.map(|(id, m)| (m.tls, id.clone())).collect()
        } else {
            self.charter.members.iter().map(|m| (m.tls, m.id.clone())).collect()
        };
        all.retain(|_, id| *id != self.config.id);
        all
    }

    /// The other members that have an endpoint: where it is, and the key that it must show.
    pub fn others(&self) -> BTreeMap<String, (String, PublicKey)> {
        let keys: BTreeMap<String, PublicKey> = self.admitted().into_iter().map(|(k, id)| (id, k)).collect();
        let all = self.endpoints().into_iter();
        all.filter_map(|(id, addr)| Some((id.clone(), (addr, *keys.get(&id)?)))).collect()
    }

    /// The other members that this node can watch the hub with: they have an endpoint, and the hub does not run it.
    pub fn watchable(&self) -> BTreeMap<String, (String, PublicKey)> {
        let mut others = self.others();
        others.retain(|id, _| !self.runs_hub(id));
        others
    }

    /// Whether a member runs the hub.
    fn runs_hub(&self, id: &str) -> bool {
        let hub =
            self.member.log.roster().hub.as_ref().map_or(&self.charter.hub.operator, |hub| &hub.operator);
        hub == id || *hub == self.operator(id)
    }

    /// The organisation that runs a member's seat; seats of one count once.
    pub(crate) fn operator(&self, id: &str) -> String {
        self.member.log.roster().keys(id).map_or_else(|| id.to_string(), |m| m.operator.clone())
    }

    /// Whether too few organisations answer outside the hub: no f + 1 of them, of whom one is honest.
    pub(crate) fn unwatched(&self) -> bool {
        let answering = self.endpoints().into_keys().filter(|id| !self.runs_hub(id));
        let answering: BTreeSet<String> = answering.map(|id| self.operator(&id)).collect();
        answering.len() <= self.member.log.roster().f as usize || self.watchable().is_empty()
    }

    /// The line on watching in a status, and whether the hub is watched now.
    pub(crate) fn watch_words(&self, now: i64) -> (String, bool) {
        let answering = self.endpoints().len();
        if answering == 0 {
            return ("unwatched: no member serves checkpoints outside the hub yet".into(), false);
        }
        if self.unwatched() {
            let need = self.member.log.roster().f + 1;
            return (
                format!("unwatched: {answering} members answer outside the hub, at least {need} must"),
                false,
            );
        }
        let recent = self.peers.watched.as_ref().filter(|(at, _)| now.saturating_sub(*at) < WATCHED);
        match recent {
            Some((at, with)) => {
                let age = now.saturating_sub(*at).max(0) / 1000;
                (
                    format!("compared with {with} {age} s ago; {answering} members answer outside the hub"),
                    true,
                )
            }
            None => (format!("no member was reached lately; {answering} answer outside the hub"), false),
        }
    }

    /// When this node last compared with another member, and with which.
    pub fn watched(&self) -> Option<(i64, &str)> {
        self.peers.watched.as_ref().map(|(at, with)| (*at, with.as_str()))
    }

    /// Which member has had more than the hub gives, for so long that the hub must be hiding it.
    pub(crate) fn starved(&self, now: i64) -> Option<&str> {
        let (since, who, size) = self.peers.behind.as_ref()?;
        (now.saturating_sub(*since) >= STARVED && *size > self.member.log.size()).then_some(who.as_str())
    }

    /// The hub's key that signs checkpoints now.
    pub(crate) fn hub_key(&self) -> PublicKey {
        self.member.log.roster().hub.as_ref().map_or(self.charter.hub.key, |hub| hub.key)
    }

    /// The hub's checkpoint over the entries here, and the cosignatures on it that this node knows of.
    pub(crate) fn own_note(&self) -> Result<Option<SignedCheckpoint>, NodeError> {
        let Some(text) = self.store.meta_text("checkpoint")? else { return Ok(None) };
        let note = SignedCheckpoint::parse(&text);
        let mut note =
            note.map_err(|e| NodeError::Record(format!("this node's checkpoint is damaged: {e}")))?;
        let others = self.peers.seen.values().map(|seen| &seen.note);
        let known: Vec<&SignedCheckpoint> =
            others.chain(self.member.in_force.iter().map(|f| f.checkpoint())).collect();
        let same = known.into_iter().filter(|other| other.checkpoint() == note.checkpoint());
        let lines: Vec<Cosignature> = same.flat_map(|other| other.lines().cloned()).collect();
        for line in lines {
            let _ = note.add(line, self.member.log.roster());
        }
        if let Some(lines) = self.store.meta_text(OWN_LINES)?
            && let Some((size, lines)) = lines.split_once('\n')
            && size == note.checkpoint().size().to_string()
        {
            for line in lines.split_inclusive('\n') {
                if let Ok(line) = Cosignature::from_line(line) {
                    let _ = note.add(line, self.member.log.roster());
                }
            }
        }
        Ok(Some(note))
    }

    /// Keeps the lines with which this node cosigned, before they leave.
    pub(crate) fn keep_lines(&self, lines: &[(u64, String)]) -> Result<(), NodeError> {
        let Some((size, _)) = lines.last() else { return Ok(()) };
        let mine: String = lines.iter().filter(|(s, _)| s == size).map(|(_, line)| line.as_str()).collect();
        self.store.set_meta(OWN_LINES, format!("{size}\n{mine}").as_bytes())
    }

    /// The latest checkpoints here, for another member.
    pub fn peer_checkpoints(&self) -> Result<Checkpoints, NodeError> {
        self.store.flush()?;
        let own =
            self.own_note()?.filter(|note| note.cosigners(self.member.log.roster()).contains(self.me()));
        Ok(Checkpoints {
            cosigned: own.map(|note| note.to_note()),
            in_force: self.member.in_force.as_ref().map(|f| f.checkpoint().to_note()),
        })
    }

    /// The proof that the tree here of `to` entries begins with `from` of them; nothing when it is smaller.
    pub fn peer_consistency(&self, from: u64, to: u64) -> Option<Consistency> {
        if from == 0 || from > to {
            return None;
        }
        let tree = self.member.log.tree();
        let proof = tree.prove_consistency(from, to).ok()?;
        Some(Consistency { from, to, root: tree.root_at(from).ok()?, proof })
    }

    /// Some of the entries `from..to` here, with this node's signed word on them; nothing when there are fewer.
    pub fn peer_entries(&self, from: u64, to: u64) -> Result<Option<Given>, NodeError> {
        let Some(note) = self.own_note()? else { return Ok(None) };
        let (size, root) = (note.checkpoint().size(), note.checkpoint().root());
        if from >= to || to > size {
            return Ok(None);
        }
        let (mut entries, mut leaves, mut bytes) = (Vec::new(), Vec::new(), 0);
        let start = usize::try_from(from).unwrap_or(usize::MAX);
        let many = usize::try_from(to - from).unwrap_or(usize::MAX).min(MAX_LEAVES);
        for entry in self.member.log.entries().iter().skip(start).take(many) {
            let entry = entry.to_bytes();
            bytes += entry.len();
            if bytes > api::MAX_BATCH && !entries.is_empty() {
                break;
            }
            leaves.push(leaf_hash(&entry));
            entries.push(entry);
        }
        let (member, origin) = (self.me().to_string(), note.checkpoint().origin().to_owned());
        let answer = Attested { from, leaves, member, origin, root, size, signature: None };
        Ok(Some((answer.sign(&self.keys.sign())?, entries)))
    }

    /// This node's signed word on the highest checkpoint that it ever cosigned, for a member that lost its own.
    pub fn peer_highest(&self, nonce: Digest) -> Result<Highest, NodeError> {
        self.store.flush()?;
        let highest = Highest {
            member: self.me().to_string(),
            nonce,
            origin: format!("comity/{}", self.charter.federation),
            root: self.member.cosigned.map_or_else(|| Digest::of(b""), |c| c.root),
            signature: None,
            size: self.member.cosigned.map_or(0, |c| c.size),
            term: self.member.cosigned.map_or(0, |c| c.term),
        };
        Ok(highest.sign(&self.keys.sign())?)
    }

    /// Compares what a member showed with the record here.
    ///
    /// # Errors
    /// When the store fails; what is wrong with the answer is kept, not returned.
    pub fn watch(&mut self, peer: &str, shown: &Checkpoints, now: i64) -> Result<Next, NodeError> {
        let Some(own) = self.own_note()? else { return Ok(Next::Done) };
        let mut largest: Option<SignedCheckpoint> = None;
        for text in [&shown.in_force, &shown.cosigned].into_iter().flatten() {
            let note = match self.genuine(text) {
                Ok(Some(note)) => note,
                // Of another term: neither side has to be wrong.
                Ok(None) => continue,
                Err(why) => {
                    self.keep_evidence(peer, &format!("a checkpoint that is none: {why}"), &[], now)?;
                    return Ok(Next::Done);
                }
            };
            if note.checkpoint().size() <= self.member.log.size() && self.compare(&note, &own, now)? {
                return Ok(Next::Done);
            }
            if largest.as_ref().is_none_or(|l| l.checkpoint().size() <= note.checkpoint().size()) {
                largest = Some(note);
            }
        }
        let Some(note) = largest else { return Ok(Next::Done) };
        let (here, there) = (own.checkpoint().size(), note.checkpoint().size());
        self.peers.seen.insert(peer.to_string(), Seen { note });
        if there > self.member.log.size() {
            return Ok(Next::Consistency(here, there));
        }
        self.compared(peer, there, now);
        Ok(self.audit(there))
    }

    /// A member's proof that what it has more begins with what is here.
    ///
    /// # Errors
    /// When the store fails.
    pub fn watch_consistency(
        &mut self,
        peer: &str,
        answer: &Consistency,
        now: i64,
    ) -> Result<Next, NodeError> {
        let Some(own) = self.own_note()? else { return Ok(Next::Done) };
        let Some(shown) = self.peers.seen.get(peer).map(|s| s.note.clone()) else { return Ok(Next::Done) };
        let (a, b) = (own.checkpoint().clone(), shown.checkpoint().clone());
        if answer.from != a.size() || answer.to != b.size() {
            // Entries came in between; the next round compares again.
            return Ok(Next::Done);
        }
        if verify_consistency(a.size(), &answer.root, b.size(), &b.root(), &answer.proof).is_err() {
            self.keep_evidence(peer, "a consistency proof that does not hold", &[], now)?;
            return Ok(Next::Done);
        }
        if answer.root != a.root() {
            let roster = self.member.log.roster();
            let claim = Claim::TwoHistories {
                smaller: cleaned(&own, roster).to_note(),
                larger: cleaned(&shown, roster).to_note(),
                root: answer.root,
                proof: answer.proof.clone(),
            };
            self.convict(claim, now)?;
            return Ok(Next::Done);
        }
        self.compared(peer, b.size(), now);
        let starved = self.starved(now).is_some() && self.member.halted.is_none();
        Ok(if starved { Next::Entries(self.member.log.size(), b.size()) } else { Next::Done })
    }

    /// Entries that the hub did not give, from a member; or one that is here, to see whether it has it.
    ///
    /// # Errors
    /// When the store fails, or the record cannot be followed.
    pub fn watch_entries(
        &mut self,
        peer: &str,
        asked: u64,
        answers: &[Attested],
        entries: &[Vec<u8>],
        now: i64,
    ) -> Result<(), NodeError> {
        let mut next = asked;
        let mut given = entries.iter();
        for answer in answers {
            let fits = self.attested(peer, answer)
                && answer.from == next
                && answer.leaves.iter().all(|leaf| given.next().is_some_and(|e| leaf_hash(e) == *leaf));
            if !fits {
                return self.keep_evidence(peer, "an answer about entries that does not hold", &[], now);
            }
            if self.misattested(answer, now)? {
                return Ok(());
            }
            next = next.saturating_add(answer.leaves.len() as u64);
        }
        let Some(note) = self.peers.seen.get(peer).map(|s| s.note.clone()) else { return Ok(()) };
        let fresh = asked == self.member.log.size() && next == note.checkpoint().size() && next > asked;
        if !fresh {
            return Ok(());
        }
        tracing::warn!(
            peer,
            from = asked,
            to = next,
            "taking entries from a member: the hub does not give them"
        );
        let text = note.to_note();
        let taken = self.extend_from_member(&text, entries, now);
        if taken.is_err() {
            self.examine(&text, entries, now)?;
        }
        taken
    }

    /// Whether an answer is signed by the member that gave it, about this log.
    fn attested(&self, peer: &str, answer: &Attested) -> bool {
        let key = self.member.log.roster().keys(peer).map(|m| m.sign);
        answer.member == peer
            && answer.origin == self.member.log.roster().origin
            && answer.leaves.len() <= MAX_LEAVES
            && key.is_some_and(|key| answer.verify(&key).is_ok())
    }

    /// Whether a signed answer is wrong about a tree that is here; it then convicts its signer.
    fn misattested(&mut self, answer: &Attested, now: i64) -> Result<bool, NodeError> {
        let tree = self.member.log.tree();
        if tree.root_at(answer.size).ok() != Some(answer.root) {
            return Ok(false);
        }
        for (index, given) in (answer.from..answer.size).zip(&answer.leaves) {
            let Some(leaf) = tree.leaf(index).filter(|leaf| leaf != given) else { continue };
            let proof =
                tree.prove_inclusion(index, answer.size).map_err(|e| NodeError::Record(e.to_string()))?;
            self.convict(Claim::WrongEntry { answer: answer.clone(), index, leaf, proof }, now)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Looks at a note that the hub gave, with the entries that it gave for it: contradictions become proofs. For
    /// those that were refused, and those that only bring cosignatures.
    ///
    /// # Errors
    /// When the store fails.
    pub fn examine(&mut self, note: &str, entries: &[Vec<u8>], now: i64) -> Result<(), NodeError> {
        let Ok(Some(note)) = self.genuine(note) else { return Ok(()) };
        if note.checkpoint().size() <= self.member.log.size() {
            if let Some(own) = self.own_note()? {
                self.compare(&note, &own, now)?;
            }
            return Ok(());
        }
        // Only what the hub signed convicts it, so the entries must be those of the note.
        let mut tree = self.member.log.tree().clone();
        entries.iter().for_each(|e| {
            tree.append(e);
        });
        let (size, root) = (note.checkpoint().size(), note.checkpoint().root());
        if tree.size() != size || tree.root() != root {
            return Ok(());
        }
        let last = self.member.log.entries().last().map(EntryBytes::to_bytes);
        let first = self.member.log.size().saturating_sub(u64::from(last.is_some()));
        let row: Vec<&Vec<u8>> = last.iter().chain(entries).collect();
        for (index, pair) in (first..).zip(row.windows(2)) {
            let [before, after] = pair else { break };
            let stamp = |bytes: &[u8]| Entry::from_bytes(bytes).ok().map(|e| e.time);
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap_or_default();
            if let (Some(first), Some(second)) = (stamp(before), stamp(after))
                && second < first
            {
                let proof =
                    |i: u64| tree.prove_inclusion(i, size).map_err(|e| NodeError::Record(e.to_string()));
                let claim = Claim::Backwards {
                    checkpoint: note.to_note(),
                    index,
                    before: text(before),
                    after: text(after),
                    proof_before: proof(index)?,
                    proof_after: proof(index + 1)?,
                };
                return self.convict(claim, now);
            }
        }
        Ok(())
    }

    /// A note of this log, signed by the hub of its term, with the cosignatures that hold; nothing if it is of a term
    /// that has ended, of which it may say more than the next one took over.
    fn genuine(&self, text: &str) -> Result<Option<SignedCheckpoint>, String> {
        let note = SignedCheckpoint::parse(text).map_err(|e| e.to_string())?;
        let roster = self.member.log.roster();
        if note.checkpoint().origin() != roster.origin {
            return Err("it is of another log".into());
        }
        let of = |e: &Electorate| note.verify_hub(&e.hub.key).is_ok();
        if roster.electorate_at(note.checkpoint().size()).is_some_and(|e| of(e)) {
            return Ok(Some(cleaned(&note, roster)));
        }
        if roster.eras.iter().any(|era| of(&era.electorate)) {
            return Ok(None);
        }
        Err("no hub of this log has signed it".into())
    }

    /// Whether a checkpoint contradicts those here, which then convicts the hub.
    fn compare(
        &mut self,
        shown: &SignedCheckpoint,
        own: &SignedCheckpoint,
        now: i64,
    ) -> Result<bool, NodeError> {
        let roster = self.member.log.roster();
        let hub = |note: &SignedCheckpoint| roster.electorate_at(note.checkpoint().size()).map(|e| e.hub.key);
        // What one hub said does not bind the next; the base of a term is checked where the term is opened.
        if hub(shown) != hub(own) {
            return Ok(false);
        }
        let claim = contradiction(shown, &cleaned(own, roster), self.member.log.tree())
            .map_err(|e| NodeError::Record(e.to_string()))?;
        match claim {
            Some(claim) => self.convict(claim, now).map(|()| true),
            None => Ok(false),
        }
    }

    /// Notes that a member has the same history as this node, and how much of it.
    fn compared(&mut self, peer: &str, size: u64, now: i64) {
        self.peers.watched = Some((now, peer.to_string()));
        let caught_up = self.peers.behind.as_ref().is_none_or(|(.., size)| *size <= self.member.log.size());
        if caught_up {
            let more = size > self.member.log.size();
            self.peers.behind = more.then(|| (now, peer.to_string(), size));
        }
    }

    /// An entry to ask of a member whose tree covers it, drawn at random.
    fn audit(&self, size: u64) -> Next {
        let mut draw = [0u8; 8];
        let known = size.min(self.member.log.size());
        if known == 0 || getrandom::fill(&mut draw).is_err() {
            return Next::Done;
        }
        Next::Audit(u64::from_be_bytes(draw) % known)
    }
}
