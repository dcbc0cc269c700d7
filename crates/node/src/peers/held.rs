//! Statements held for the record: this node's own, and those of others that the hub may withhold.
//!
//! A statement may be handed to any member, and members tell each other what they hold; each hands all of it to the
//! hub. A statement is known by its digest, so it stands once. What more than f organisations have held for longer
//! than the hub's promise is *withheld*: no checkpoint without it is cosigned, so that refusing to record somebody's
//! word stops the record for everyone to see.
//!
//! Held is only what the roster here would not make void, and of one author so much; a stop, a pause or a yes taken
//! back, or evidence, has room of its own, since flooding must not keep it out.

use crate::NodeError;
use crate::core::Node;
use crate::store::HeldRow;
use charter::body::{DatasetPause, DecisionRevoke, EvidenceReport, NodeStop};
use record::term::SIGN_OFF;
use record::{Digest, Entry, SignedStatement};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use wire::SignedFrame;
use wire::api::{self, PROMISE};
use wire::peer::{Held, Kept, Listed, MAX_LISTED};

/// Statements held of one author, and again as many protective ones.
pub const MAX_HELD: u64 = 16;
/// Bytes held of one author, and again as many of protective ones.
pub const MAX_HELD_BYTES: u64 = 256 << 10;
/// After this long in vain a statement of this node is handed to other members, milliseconds.
const PATIENCE: i64 = 10_000;
/// Stops of one member that are heard before the record has them.
const MAX_STOPS: usize = 16;

/// A statement that more than f organisations have held for longer than the hub's promise.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Withheld {
    /// Its id.
    pub id: String,
    /// Who said it.
    pub author: String,
    /// Its type.
    pub kind: String,
    /// Since when this node has held it, milliseconds.
    pub since: i64,
    /// Who else has.
    pub with: BTreeSet<String>,
}

/// Whether it stops something or tells of a broken word: it is never refused for want of room that others took.
fn protects(signed: &SignedStatement) -> bool {
    let kind = signed.statement().r#type.as_str();
    [NodeStop::TYPE, DatasetPause::TYPE, DecisionRevoke::TYPE, EvidenceReport::TYPE].contains(&kind)
}

impl Node {
    /// Whether a statement is in the record here, in force or not.
    fn is_recorded(&self, id: &Digest) -> bool {
        let above = usize::try_from(self.state.size).unwrap_or(usize::MAX);
        self.state.seen.contains(id)
            || self.member.log.entries().get(above..).is_some_and(|new| new.iter().any(|e| e.id() == *id))
    }

    /// Whether the roster here would take it as the next entry.
    pub(crate) fn would_stand(&self, signed: &SignedStatement, now: i64) -> bool {
        // Sign-offs travel beside the log.
        signed.statement().r#type != SIGN_OFF
            && self
                .member
                .log
                .roster()
                .after(self.member.log.size(), &Entry::new(now, signed.clone()))
                .is_ok()
    }

    /// Holds a member's statement until it is in the record.
    ///
    /// # Errors
    /// Why it is not held, for who brought it; or the store failed.
    pub fn hold(&mut self, bytes: &[u8], now: i64) -> Result<Result<Kept, String>, NodeError> {
        let signed = match SignedStatement::from_bytes(bytes) {
            Ok(signed) => signed,
            Err(e) => return Ok(Err(e.to_string())),
        };
        let id = signed.id();
        if self.is_recorded(&id) {
            return Ok(Ok(Kept { id, recorded: true }));
        }
        let name = id.to_string();
        if self.store.held(&name)?.is_some() || self.store.keeps(&name)? {
            return Ok(Ok(Kept { id, recorded: false }));
        }
        if !self.would_stand(&signed, now) {
            return Ok(Err("it would be void: not signed with a member's key, or against the roster".into()));
        }
        let (author, protects) = (signed.statement().issuer.clone(), protects(&signed));
        let (count, size) = self.store.held_of(&author, protects)?;
        if count >= MAX_HELD || size.saturating_add(bytes.len() as u64) > MAX_HELD_BYTES {
            return Ok(Err(format!("{count} statements of `{author}` are held already, no more are")));
        }
        self.store.hold(&name, &author, protects, bytes, now)?;
        self.hear(&signed);
        self.hear_report(&signed, now)?;
        Ok(Ok(Kept { id, recorded: false }))
    }

    /// A stop acts when it is heard, before the record has it, whichever way it came.
    fn hear(&mut self, signed: &SignedStatement) {
        let statement = signed.statement();
        let stops = [NodeStop::TYPE, DatasetPause::TYPE].contains(&statement.r#type.as_str());
        if !stops || statement.issuer == self.config.id || self.state.seen.contains(&signed.id()) {
            return;
        }
        let heard = self.heard_stops.entry(statement.issuer.clone()).or_default();
        if heard.len() < MAX_STOPS && heard.insert(signed.id()) {
            tracing::warn!(from = statement.issuer, "a signed stop was heard from a member");
        }
    }

    /// This node's own statements that the hub has had time to record, for another member to hand in.
    ///
    /// # Errors
    /// When the store fails.
    pub fn unrecorded(&self, now: i64) -> Result<Vec<Vec<u8>>, NodeError> {
        self.store.flush()?;
        let before = now.saturating_sub(PATIENCE);
        self.store.waiting_since(before)
    }

    /// The hub refuses a statement: whether it is held all the same. The hub has no say in whether something that
    /// would stand is said.
    pub(crate) fn is_still_held(&self, id: &str, now: i64) -> Result<bool, NodeError> {
        let bytes = match self.store.held(id)? {
            Some(bytes) => Some(bytes),
            None => self.store.waiting(id)?.filter(|_| self.state.in_force()),
        };
        let signed = bytes.and_then(|bytes| SignedStatement::from_bytes(&bytes).ok());
        Ok(signed.is_some_and(|signed| self.would_stand(&signed, now)))
    }

    /// Hears again what was held when the process ended.
    pub(crate) fn hear_held(&mut self) -> Result<(), NodeError> {
        for row in self.store.all_held()? {
            if let Ok(signed) = SignedStatement::from_bytes(&row.bytes) {
                self.hear(&signed);
            }
        }
        Ok(())
    }

    /// A stop that a member tells of itself, or passes on to whom it is for. Nothing else comes this way.
    ///
    /// # Errors
    /// Why it is not taken, for who brought it; or the store failed.
    pub fn peer_stop(&mut self, bytes: &[u8], now: i64) -> Result<Result<Digest, String>, NodeError> {
        let signed = match SignedFrame::decode(bytes) {
            Ok(signed) => signed,
            Err(e) => return Ok(Err(e.to_string())),
        };
        if signed.frame().kind != "stop" {
            return Ok(Err(format!("a frame `{}`, expected a stop", signed.frame().kind)));
        }
        let key = self.member.log.roster().keys(&signed.frame().from).map(|m| m.sign);
        let verified = key.map(|key| signed.verify(&key));
        if !matches!(verified, Some(Ok(()))) {
            return Ok(Err("a stop that is not signed by the member that it names".into()));
        }
        if let Err(e) = signed.frame().directed_to(self.me(), &self.charter_digest) {
            return Ok(Err(e.to_string()));
        }
        self.take_frame(bytes, now)?;
        Ok(Ok(signed.id()))
    }

    /// Stops of this node that other members were not told of yet: receiver, statement, frame. Those that the record
    /// has are told by it.
    pub fn stops_to_tell(&self) -> Result<Vec<(String, String, Vec<u8>)>, NodeError> {
        self.store.flush()?;
        let mut open = Vec::new();
        for (to, id, frame) in self.store.stops()? {
            let seen = id.parse().is_ok_and(|id: Digest| self.state.seen.contains(&id));
            if seen {
                self.store.drop_stop(&to, &id)?;
            } else {
                open.push((to, id, frame));
            }
        }
        Ok(open)
    }

    /// The member was told of the stop.
    pub fn stop_told(&mut self, to: &str, id: &str) -> Result<(), NodeError> {
        self.store.drop_stop(to, id)
    }

    /// Everything that is held here, for another member: the list, and as many statements as fit, of each author one
    /// before a second of anyone.
    pub fn peer_pending(&self) -> Result<(Listed, Vec<Vec<u8>>), NodeError> {
        self.store.flush()?;
        let mut held = Vec::new();
        let mut by_author: BTreeMap<String, VecDeque<Vec<u8>>> = BTreeMap::new();
        for row in self.store.all_held()?.into_iter().take(MAX_LISTED) {
            let (Ok(id), Ok(signed)) = (row.id.parse(), SignedStatement::from_bytes(&row.bytes)) else {
                continue;
            };
            if self.would_stand(&signed, row.since) {
                held.push(Held { id, since: row.since });
                by_author.entry(signed.statement().issuer.clone()).or_default().push_back(row.bytes);
            }
        }
        let (mut statements, mut room) = (Vec::new(), api::MAX_BATCH);
        while !by_author.is_empty() {
            for queue in by_author.values_mut() {
                match queue.pop_front() {
                    Some(bytes) if bytes.len() <= room => {
                        room -= bytes.len();
                        statements.push(bytes);
                    }
                    _ => queue.clear(),
                }
            }
            by_author.retain(|_, queue| !queue.is_empty());
        }
        Ok((Listed { held }, statements))
    }

    /// What another member holds: its statements are held here too, and its word on since when is noted.
    ///
    /// # Errors
    /// When the store fails.
    pub fn take_pending(
        &mut self,
        peer: &str,
        listed: &Listed,
        statements: &[Vec<u8>],
        now: i64,
    ) -> Result<(), NodeError> {
        for bytes in statements {
            if let Err(why) = self.hold(bytes, now)? {
                tracing::debug!(peer, why, "a statement is not held");
            }
        }
        for of in self.peers.holders.values_mut() {
            of.remove(peer);
        }
        self.peers.holders.retain(|_, of| !of.is_empty());
        // Only what is held here as well: the list of others' words stays as short as the list of held statements.
        let here: BTreeSet<String> = self.store.all_held()?.into_iter().map(|row| row.id).collect();
        for held in listed.held.iter().take(MAX_LISTED).filter(|h| here.contains(&h.id.to_string())) {
            let of = self.peers.holders.entry(held.id).or_default();
            of.insert(peer.to_string(), held.since.min(now));
        }
        Ok(())
    }

    /// Statements that more than f organisations, this one among them, have held for longer than the hub promises.
    pub(crate) fn withheld(&self, now: i64) -> Result<Vec<Withheld>, NodeError> {
        let before = now.saturating_sub(PROMISE);
        let mut all = Vec::new();
        for HeldRow { id, bytes, since } in self.store.all_held()? {
            let (Ok(digest), Ok(signed)) = (id.parse::<Digest>(), SignedStatement::from_bytes(&bytes)) else {
                continue;
            };
            let with: BTreeSet<String> = self.peers.holders.get(&digest).map_or_else(BTreeSet::new, |of| {
                of.iter().filter(|(_, since)| **since < before).map(|(who, _)| who.clone()).collect()
            });
            // Organisations, not seats; this one counts.
            let mut who: BTreeSet<String> = with.iter().map(|id| self.operator(id)).collect();
            who.insert(self.operator(self.me()));
            let enough = who.len() > self.member.log.roster().f as usize;
            if since < before && enough && !self.is_recorded(&digest) && self.would_stand(&signed, now) {
                let statement = signed.statement();
                let (author, kind) = (statement.issuer.clone(), statement.r#type.clone());
                all.push(Withheld { id, author, kind, since, with });
            }
        }
        Ok(all)
    }

    /// Forgets who holds what is in the record or held no more.
    pub(crate) fn forget_holders(&mut self) -> Result<(), NodeError> {
        if self.peers.holders.is_empty() {
            return Ok(());
        }
        let here: BTreeSet<String> = self.store.all_held()?.into_iter().map(|row| row.id).collect();
        self.peers.holders.retain(|id, _| here.contains(&id.to_string()));
        Ok(())
    }
}
