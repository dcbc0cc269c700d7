//! The mirror: every entry is taken in, checked and kept before this node cosigns; only what a quorum has cosigned
//! is folded into the state on which anything is done. The rules are [`record::Member`]'s; here is its shelf, and what
//! a node does besides.

use crate::NodeError;
use crate::core::Node;
use crate::store::Store;
use record::checkpoint::{CosignKeys, SignedCheckpoint};
use record::member::{Member, MemberError, Refused};
use record::{Entry, Shelf};
use std::collections::BTreeMap;
use wire::api::Have;
use wire::point::point;

/// How long after its promise a statement may be missing, milliseconds.
const OVERDUE: i64 = 60_000;

/// A member's shelf on the node's store. Everything in one group of writes is durable together, and nothing leaves the
/// node before it is.
struct OnStore<'a>(&'a Store);

impl Shelf for OnStore<'_> {
    type Error = NodeError;

    fn keep_entries(&mut self, first: u64, leaves: &[Vec<u8>], note: &str) -> Result<(), NodeError> {
        point("entries checked, not kept", "");
        self.0.append(first, leaves, note)
    }

    fn cut_entries(&mut self, size: u64) -> Result<(), NodeError> {
        point("term followed, not kept", "");
        self.0.cut_entries(size)
    }

    fn keep_note(&mut self, name: &str, text: &str) -> Result<(), NodeError> {
        self.0.set_meta(name, text.as_bytes())
    }
}

impl From<MemberError<NodeError>> for NodeError {
    fn from(error: MemberError<NodeError>) -> Self {
        match error {
            MemberError::Refused(refused) => NodeError::Record(refused.to_string()),
            MemberError::Shelf(error) => error,
        }
    }
}

impl Node {
    /// Rebuilds mirror and state from the store.
    pub(crate) fn load(&mut self) -> Result<(), NodeError> {
        let broken = |e: Refused| NodeError::Record(format!("this node's own copy is damaged: {e}"));
        let mut notes = BTreeMap::new();
        for name in [
            record::member::COSIGNED,
            record::member::IN_FORCE,
            record::member::SIGNED_OFF,
            record::member::RESTORED,
        ] {
            if let Some(text) = self.store.meta_text(name)? {
                notes.insert(name.to_owned(), text);
            }
        }
        notes.extend(self.store.meta_texts(record::member::SEAL)?);
        let me = self.me().to_owned();
        self.member =
            Member::wake(&me, self.charter_digest, self.store.entries()?, &notes).map_err(broken)?;
        self.fold()
    }

    /// What this node has, for the hub's long poll.
    pub fn have(&self) -> Result<Have, NodeError> {
        // The hub forgets mail up to this number, so it must be kept for good.
        self.store.flush()?;
        Ok(Have { size: self.member.log.size(), sealed: self.watermark(), mail: self.store.mail_cursor()? })
    }

    /// Takes in entries that follow those mirrored, with the checkpoint that proves them, and cosigns it.
    pub fn extend(&mut self, note: &str, entries: &[Vec<u8>], now: i64) -> Result<(), NodeError> {
        if self.member.halted.is_some() {
            return Ok(());
        }
        let first = self.member.extend(note, entries, now, &mut OnStore(&self.store))?;
        self.recorded(first)?;
        self.cosign_and_raise(note, now)
    }

    /// Follows the log of a hub whose term has begun at `base`: `entries` are its entries from there on.
    pub fn turn(&mut self, base: u64, note: &str, entries: &[Vec<u8>], now: i64) -> Result<(), NodeError> {
        if self.member.halted.is_some() {
            return Ok(());
        }
        let cut = self.member.turn(base, note, entries, now, &mut OnStore(&self.store))?;
        // What was above the base is pending again: whoever has it hands it in, and it is entered once.
        for entry in cut {
            self.store.queue(&entry.signed.id().to_string(), &entry.signed.to_bytes(), now)?;
        }
        self.recorded(base)?;
        self.cosign_and_raise(note, now)
    }

    /// What is in the record is not handed in any more.
    fn recorded(&mut self, first: u64) -> Result<(), NodeError> {
        let new =
            self.member.log.entries().get(usize::try_from(first).unwrap_or(usize::MAX)..).unwrap_or(&[]);
        let ids: Vec<String> = new.iter().map(|e: &Entry| e.signed.id().to_string()).collect();
        for id in ids {
            self.point_of(&id, "recorded, not noted");
            self.store.dequeue(&id)?;
        }
        Ok(())
    }

    fn cosign_and_raise(&mut self, note: &str, now: i64) -> Result<(), NodeError> {
        let checkpoint = SignedCheckpoint::parse(note).map_err(|e| NodeError::Record(e.to_string()))?;
        self.cosign(&checkpoint, now)?;
        self.raise(&checkpoint)
    }

    fn cosign(&mut self, checkpoint: &SignedCheckpoint, now: i64) -> Result<(), NodeError> {
        if let Err(why) = Node::may_cosign(self, checkpoint.checkpoint().size(), now) {
            tracing::warn!(why, "not cosigned");
            return Ok(());
        }
        // A hub that promised a statement and leaves it out gets no more cosignatures from its author.
        let overdue = self.store.overdue(now.saturating_sub(OVERDUE))?;
        if let Some(id) = overdue.first() {
            let what = format!("statement {id} was promised and is not in the record");
            return self.keep_evidence("hub", &what, &[], now);
        }
        if self.member.may_cosign().is_err() {
            return Ok(());
        }
        let (key, ml) = (self.keys.cosign(), self.keys.cosign_ml());
        // A post-quantum cosignature only where the charter gives this member such a key.
        let has = self.member.log.roster().keys(self.me()).and_then(|k| k.cosign_ml.clone());
        let keys = CosignKeys { key: &key, ml: has.map(|_| &ml) };
        let lines = self.member.cosign(checkpoint, keys, now, &mut OnStore(&self.store))?;
        let size = checkpoint.checkpoint().size();
        self.cosign_out.extend(lines.iter().map(|line| (size, line.to_line())));
        Ok(())
    }

    /// A checkpoint with more cosignatures than before.
    pub fn sealed(&mut self, note: &str, now: i64) -> Result<(), NodeError> {
        if self.member.halted.is_some() {
            return Ok(());
        }
        let checkpoint = SignedCheckpoint::parse(note).map_err(|e| NodeError::Record(e.to_string()))?;
        if checkpoint.checkpoint().size() > self.member.log.size() {
            return Ok(());
        }
        self.raise(&checkpoint)?;
        if checkpoint.checkpoint().size() == self.member.log.size() {
            self.member.head_at = now;
            self.cosign(&checkpoint, now)?;
        }
        Ok(())
    }

    /// Raises the watermark if the checkpoint proves more, or the same more recently, and folds up to it.
    fn raise(&mut self, checkpoint: &SignedCheckpoint) -> Result<(), NodeError> {
        if self.member.raise(checkpoint, &mut OnStore(&self.store))? {
            point("watermark raised, not kept", "");
            self.fold()?;
        }
        Ok(())
    }

    /// Folds what is in force.
    fn fold(&mut self) -> Result<(), NodeError> {
        let Some(evidence) = &self.member.in_force else { return Ok(()) };
        let from = usize::try_from(self.state.size).unwrap_or(usize::MAX);
        for entry in self.member.log.in_force(evidence).iter().skip(from) {
            let index = self.state.size;
            if let charter::Status::Void(why) = self.state.apply(entry) {
                tracing::warn!(index, why, "void statement");
                if entry.signed.statement().r#type == charter::body::NoteAttach::TYPE {
                    crate::notes::drop_void(&self.store, &self.state, &entry.signed.id())?;
                }
            }
            self.attesting.passed(&self.store, &self.state, entry)?;
        }
        self.heed_attests()
    }
}
