//! Changes of members and keys, from this member's side: it proposes, accepts, leaves, and changes its own keys.
//!
//! Whether a change holds is for the roster ([`record::roster`]) alone. Here is what a member must see to: a statement
//! said while its key changes carries the signatures of both keys, so that it holds on whichever side of the change it
//! is entered; a checkpoint over the change is cosigned with both; and the new keys are kept before anything is signed
//! with them.

use crate::NodeError;
use crate::control::Reply;
use crate::core::Node;
use crate::keys::NodeKeys;
use charter::SeatRole;
use record::canon::{self, Value};
use record::roster::{ACCEPT, CHANGE, LEAVE, REAFFIRM, ROTATE, consent};
use record::{
    Change, Digest, EntryBytes, PublicKey, Rotate, SecretKey, SignedStatement, Statement, StatementError,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use wire::point::point;
use zeroize::Zeroizing;

/// For how long after a change of keys a frame signed with the former one is taken, milliseconds.
const ON_THE_WAY: i64 = 600_000;

/// How this member changes its keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rotation {
    /// File with the `sign` key that was committed to.
    pub next_key: String,
    /// Digest of the one after it.
    pub new_next: Digest,
    /// Index from which the old key may have been another's.
    pub compromised_since: Option<u64>,
    /// All other keys too.
    pub all: bool,
}

/// A member as a charter would name it, and that it wants to be one: what `comity member document` writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The member.
    pub member: Value,
    /// Its `sign` key's over [`consent`].
    pub consent: record::Signature,
}

impl Document {
    /// The document of the node in a folder, for the charter with this digest; its part of the charter is in
    /// `member.toml`.
    pub fn of(dir: &Path, charter: &Digest) -> Result<Document, NodeError> {
        #[derive(Deserialize)]
        struct Part {
            members: Vec<charter::document::Member>,
        }
        let path = dir.join("member.toml");
        let text = std::fs::read_to_string(&path).map_err(|e| NodeError::io(&path, e))?;
        let wrong = |what: String| NodeError::Input(format!("{}: {what}", path.display()));
        let part: Part = toml::from_str(&text).map_err(|e| wrong(e.message().to_owned()))?;
        let member = part.members.first().ok_or_else(|| wrong("found no member".into()))?;
        let key = NodeKeys::open(&dir.join("node.key"))?.sign();
        if member.sign != key.public() {
            return Err(wrong("found another `sign` key than this node's".into()));
        }
        let member = canon::to_value(member)?;
        let consent = key.sign(&consent(charter, &member)?);
        Ok(Document { member, consent })
    }
}

/// A change in words.
pub fn words(change: &Change) -> String {
    let who = change.about().unwrap_or_default();
    match change {
        Change::Join { .. } => format!("`{who}` joins"),
        Change::Suspend { .. } => format!("`{who}` is suspended"),
        Change::Reinstate { .. } => format!("`{who}` counts again"),
        Change::Expel { .. } => format!("`{who}` is expelled"),
        Change::Rekey { .. } => format!("`{who}` gets new keys"),
    }
}

impl Node {
    /// This member's `sign` key as the mirrored record names it.
    pub(crate) fn my_sign(&self) -> SecretKey {
        let named = self.member.log.roster().keys(self.me()).map(|k| k.sign);
        named.and_then(|key| self.keys.sign_of(&key)).unwrap_or_else(|| self.keys.sign())
    }

    /// Signs a statement; with both keys while one takes the place of the other.
    pub(crate) fn signed(&self, statement: Statement) -> Result<SignedStatement, StatementError> {
        let (key, newest) = (self.my_sign(), self.keys.sign());
        let mut signed = SignedStatement::sign(statement, &key)?;
        if newest.public() != key.public() {
            signed.add_signature(&newest)?;
        }
        Ok(signed)
    }

    /// The seed of the TLS key that the mirrored record names; after calls that failed, the others in turn, since the
    /// hub may know of a change before this node does.
    pub fn tls_seed(&self, failures: usize) -> Zeroizing<[u8; 32]> {
        let mut seeds = self.keys.tls_seeds();
        let named = self.member.log.roster().keys(self.me()).map(|k| k.tls);
        seeds.sort_by_key(|seed| Some(SecretKey::from_seed(**seed).public()) != named);
        let at = failures % seeds.len().max(1);
        seeds.into_iter().nth(at).unwrap_or_else(|| self.keys.tls_seed())
    }

    /// The `sign` key that a member had until a moment ago: its frames may have been on their way when it changed. Not
    /// when it says that the key may have been another's, nor when others gave it new ones.
    pub(crate) fn former_key(&self, member: &str, now: i64) -> Option<PublicKey> {
        let log = &self.member.log;
        let since = log.roster().keys(member)?.since;
        let at = usize::try_from(since).ok()?;
        let entry = log.entries().get(at)?.entry();
        let statement = entry.signed.statement();
        let lately = now.saturating_sub(entry.time) < ON_THE_WAY;
        let rotated = statement.r#type == ROTATE && statement.issuer == member;
        let lost = log.roster().compromises.iter().any(|c| c.member == member && c.until == since);
        if !lately || !rotated || lost {
            return None;
        }
        let known = self.former.borrow().get(&(member.to_owned(), since)).copied();
        known.or_else(|| {
            // Folded once for each change of a key.
            let key = record::Roster::fold(log.entries().get(..at)?.iter().map(EntryBytes::entry))
                .0
                .keys(member)?
                .sign;
            self.former.borrow_mut().insert((member.to_owned(), since), key);
            Some(key)
        })
    }

    /// Who speaks for this member on members and keys.
    pub(crate) fn signatory(&self) -> String {
        self.seat(SeatRole::Signatory).unwrap_or_else(|_| "operator".to_owned())
    }

    /// Whether a statement was said with a key that may have been another's, and its issuer has not stood by it.
    pub(crate) fn is_contested(&self, issuer: &str, index: u64) -> bool {
        self.member.log.roster().contested(issuer, index)
    }

    pub(crate) fn member_list(&self) -> Result<Reply, NodeError> {
        let roster = self.member.log.roster();
        let mut text = String::new();
        let mut rows = Vec::new();
        for (id, keys) in roster.members.iter().chain(&roster.suspended) {
            let suspended = roster.suspended.contains_key(id);
            let since =
                if keys.since == 0 { "the charter".to_owned() } else { format!("entry {}", keys.since) };
            let next = if keys.next.is_some() { "" } else { ", no next key committed to" };
            let _ = writeln!(
                text,
                "{id:<6} {} (keys of {since}{next}){}",
                keys.operator,
                if suspended { ", SUSPENDED" } else { "" }
            );
            rows.push(
                json!({ "id": id, "operator": keys.operator, "since": keys.since, "suspended": suspended,
                "sign": keys.sign.to_string(), "next": keys.next.map(|d| d.to_string()) }),
            );
        }
        text.push_str(&self.standing_words());
        Ok(Reply::yes(text, json!({ "members": rows, "standing": self.standing() })))
    }

    pub(crate) fn member_propose(&mut self, change: &str, now: i64) -> Result<Reply, NodeError> {
        let change: Change = canon::from_bytes(change.as_bytes())?;
        let (about, what) = (change.about().unwrap_or_default(), words(&change));
        let body = BTreeMap::from([("change", change)]);
        let actor = self.signatory();
        let id = self.say(CHANGE, &about, &actor, &body, now)?;
        let text = format!("proposed as {id}: {what}; others accept with `comity member accept {id}`");
        Ok(Reply::yes(text, json!({ "proposal": id.to_string() })).waiting_for(id.to_string()))
    }

    pub(crate) fn member_accept(&mut self, id: &str, now: i64) -> Result<Reply, NodeError> {
        let unknown =
            || NodeError::Input(format!("found no proposal `{id}`; `comity member list` shows them"));
        let proposal: Digest = id.parse().map_err(|_| unknown())?;
        let found = self.member.log.roster().proposals.get(&proposal).filter(|p| p.done.is_none());
        let found = found.ok_or_else(unknown)?;
        let (about, what) = (found.change.about().unwrap_or_default(), words(&found.change));
        let actor = self.signatory();
        let said = self.say(ACCEPT, &about, &actor, &BTreeMap::from([("proposal", proposal)]), now)?;
        Ok(Reply::yes(format!("accepted: {what}"), json!({ "accepted": id })).waiting_for(said.to_string()))
    }

    pub(crate) fn member_leave(&mut self, now: i64) -> Result<Reply, NodeError> {
        let (me, actor) = (self.me().to_owned(), self.signatory());
        let said = self.say(LEAVE, &me, &actor, &BTreeMap::<String, Value>::new(), now)?;
        let text = "this member leaves: its yes and its keys count for nothing once that is recorded";
        Ok(Reply::yes(text, json!({ "left": me })).waiting_for(said.to_string()))
    }

    /// New keys: kept first, then said, signed with the one that was committed to.
    pub(crate) fn key_rotate(&mut self, rotation: &Rotation, now: i64) -> Result<Reply, NodeError> {
        let me = self.me().to_owned();
        let path = Path::new(&rotation.next_key);
        let seed = NodeKeys::read_next(path)?;
        let sign = SecretKey::from_seed(*seed);
        let roster = self.member.log.roster();
        let named = roster.keys(&me).ok_or_else(|| NodeError::Input(format!("`{me}` is no member")))?.clone();
        if named.sign == sign.public() {
            return Ok(Reply::yes(
                "these keys are in the record already",
                json!({ "sign": named.sign.to_string() }),
            ));
        }
        if named.next != Some(Digest::of(sign.public().as_bytes())) {
            return Err(NodeError::Input(format!(
                "{}: not the key that this member committed to; without that one the others must accept new keys (`comity member propose rekey`)",
                path.display()
            )));
        }
        if !self.undelivered()?.is_empty() {
            return Err(NodeError::Input(
                "frames wait to leave, signed with the old key; try again in a moment".into(),
            ));
        }
        let in_use: Vec<PublicKey> = vec![named.sign, named.cosign, named.tls];
        let file = self.dir.join("node.key");
        self.keys.take_next(&file, &seed, rotation.all, &|key| in_use.contains(key))?;
        point("next keys kept, not said", "");
        let fresh = |new: PublicKey, old: PublicKey| (rotation.all && new != old).then_some(new);
        let body = Rotate {
            sign: sign.public(),
            next: rotation.new_next,
            cosign: fresh(self.keys.cosign().public(), named.cosign),
            cosign_ml: (rotation.all && named.cosign_ml.is_some()).then(|| self.keys.cosign_ml().public()),
            tls: fresh(SecretKey::from_seed(*self.keys.tls_seed()).public(), named.tls),
            compromised_since: rotation.compromised_since,
        };
        let refused = |e: StatementError| NodeError::Input(format!("statement refused: {e}"));
        let mut statement = Statement::new(ROTATE, &me, &me, &self.signatory(), &body).map_err(refused)?;
        statement.valid_from = Some(now);
        let signed = SignedStatement::sign(statement, &sign).map_err(refused)?;
        let id = signed.id().to_string();
        self.store.queue(&id, &signed.to_bytes(), now)?;
        let text = format!("new keys said; the next after them is committed to as {}", rotation.new_next);
        Ok(Reply::yes(text, json!({ "sign": body.sign.to_string() })).waiting_for(id))
    }

    pub(crate) fn key_reaffirm(&mut self, entries: Vec<u64>, now: i64) -> Result<Reply, NodeError> {
        let (me, actor) = (self.me().to_owned(), self.signatory());
        if let Some(index) = entries.iter().find(|index| !self.is_contested(&me, **index)) {
            return Err(NodeError::Input(format!("entry {index} is no contested statement of `{me}`")));
        }
        let body = BTreeMap::from([("entries", entries.clone())]);
        let said = self.say(REAFFIRM, &me, &actor, &body, now)?;
        let text = format!("stands by {} contested statements", entries.len());
        Ok(Reply::yes(text, json!({ "reaffirmed": entries })).waiting_for(said.to_string()))
    }
}
