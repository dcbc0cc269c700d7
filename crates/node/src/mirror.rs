//! The mirror: every entry is taken in, checked and kept before this node cosigns; only what a quorum has cosigned
//! is folded into the state on which anything is done. The rules are [`record::Member`]'s; here is its shelf, and what
//! a node does besides.

use crate::NodeError;
use crate::core::Node;
use crate::store::Store;
use record::checkpoint::{CosignKeys, SignedCheckpoint};
use record::member::{Member, MemberError, Refused};
use record::{Cosignature, Digest, EntryBytes, MlSecretKey, PublicKey, SecretKey, Shelf};
use std::collections::{BTreeMap, BTreeSet};
use wire::api::Have;
use wire::point::point;

/// How long after its promise a statement may be missing, milliseconds.
const OVERDUE: i64 = 60_000;

/// A member's shelf on the node's store. Everything in one group of writes is durable together, and nothing leaves the
/// node before it is.
pub(crate) struct OnStore<'a>(pub(crate) &'a Store);

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

/// What a member has kept beside its entries.
pub(crate) fn notes(store: &Store) -> Result<BTreeMap<String, String>, NodeError> {
    use record::member::{COSIGNED, IN_FORCE, RESTORED, SEAL, SIGNED_OFF};
    let mut notes = BTreeMap::new();
    for name in [COSIGNED, IN_FORCE, SIGNED_OFF, RESTORED] {
        if let Some(text) = store.meta_text(name)? {
            notes.insert(name.to_owned(), text);
        }
    }
    notes.extend(store.meta_texts(SEAL)?);
    Ok(notes)
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
        let notes = notes(&self.store)?;
        let me = self.me().to_owned();
        self.member =
            Member::wake(&me, self.charter_digest, self.store.entries()?, &notes).map_err(broken)?;
        self.fold()
    }

    /// What this node has, for the hub's long poll.
    pub fn have(&self) -> Result<Have, NodeError> {
        // The hub forgets mail up to this number, so it must be kept for good.
        self.store.flush()?;
        let (size, term) = (self.member.log.size(), self.member.log.roster().term);
        Ok(Have { size, sealed: self.watermark(), mail: self.store.mail_cursor()?, term })
    }

    /// Takes in entries that follow those mirrored, with the checkpoint that proves them, and cosigns it.
    pub fn extend(&mut self, note: &str, entries: &[Vec<u8>], now: i64) -> Result<(), NodeError> {
        if self.member.halted.is_some() {
            return Ok(());
        }
        self.mirror(note, entries, now)?;
        self.cosign_and_raise(note, now)
    }

    /// Takes in entries from another member than the hub: they are mirrored, and in force if a quorum says so. They are
    /// not cosigned, since a cosignature says that the log was no longer at this time, and the hub was not asked; and
    /// what the hub has beyond them may be stamped before now.
    pub(crate) fn extend_from_member(
        &mut self,
        note: &str,
        entries: &[Vec<u8>],
        now: i64,
    ) -> Result<(), NodeError> {
        if self.member.halted.is_some() {
            return Ok(());
        }
        let head_at = self.member.head_at;
        self.mirror(note, entries, now)?;
        self.member.head_at = head_at;
        let checkpoint = SignedCheckpoint::parse(note).map_err(|e| NodeError::Record(e.to_string()))?;
        self.notice_own(&checkpoint)?;
        self.raise(&checkpoint)
    }

    fn mirror(&mut self, note: &str, entries: &[Vec<u8>], now: i64) -> Result<(), NodeError> {
        let term = self.member.log.roster().term;
        let first = self.member.extend(note, entries, now, &mut OnStore(&self.store))?;
        self.recorded(first)?;
        self.follow_term(term)
    }

    /// Follows the log of a hub whose term has begun: `entries` are its entries from `base` on, at or above what is in
    /// force here.
    pub fn turn(&mut self, base: u64, note: &str, entries: &[Vec<u8>], now: i64) -> Result<(), NodeError> {
        if self.member.halted.is_some() {
            return Ok(());
        }
        let term = self.member.log.roster().term;
        let cut = self.member.turn(base, note, entries, now, &mut OnStore(&self.store))?;
        point("term followed, cut not queued", "");
        // What was above the base is pending again: whoever has it hands it in, and it is entered once.
        let from = usize::try_from(base).unwrap_or(usize::MAX);
        let stays: BTreeSet<Digest> =
            self.member.log.entries().iter().skip(from).map(EntryBytes::id).collect();
        for leaf in cut.iter().filter(|e| !stays.contains(&e.id())) {
            let entry = leaf.entry();
            self.store.queue(&leaf.id().to_string(), &entry.signed.to_bytes(), now)?;
        }
        self.recorded(base)?;
        self.follow_term(term)?;
        point("term followed and queued, not cosigned", "");
        self.cosign_and_raise(note, now)
    }

    /// What is in the record is not handed in any more.
    fn recorded(&mut self, first: u64) -> Result<(), NodeError> {
        let new =
            self.member.log.entries().get(usize::try_from(first).unwrap_or(usize::MAX)..).unwrap_or(&[]);
        let ids: Vec<String> = new.iter().map(|e| e.id().to_string()).collect();
        for id in ids {
            self.point_of(&id, "recorded, not noted");
            self.store.dequeue(&id)?;
        }
        Ok(())
    }

    fn cosign_and_raise(&mut self, note: &str, now: i64) -> Result<(), NodeError> {
        let checkpoint = SignedCheckpoint::parse(note).map_err(|e| NodeError::Record(e.to_string()))?;
        self.notice_own(&checkpoint)?;
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
        let size = checkpoint.checkpoint().size();
        let mut held = self.cosign_keys(size);
        let Some((key, ml, hybrid)) = held.pop() else { return Ok(()) };
        let keys = CosignKeys { key: &key, ml: hybrid.then_some(&ml) };
        let mut lines = match self.member.cosign(checkpoint, keys, now, &mut OnStore(&self.store)) {
            // What was signed off is mirrored all the same, until the next hub is there.
            Err(MemberError::Refused(Refused::NotCosigned(why))) => {
                tracing::info!("{why}");
                return Ok(());
            }
            lines => lines?,
        };
        // While a key that was changed still counts, the same checkpoint is cosigned with it too.
        let seconds = u64::try_from(now.div_euclid(1000)).unwrap_or(0);
        for (key, ml, hybrid) in held.iter().filter(|_| !lines.is_empty()).collect::<Vec<_>>() {
            let keys = CosignKeys { key, ml: hybrid.then_some(ml) };
            let more = Cosignature::sign_all(checkpoint.checkpoint(), self.me(), seconds, &keys);
            lines.extend(more.map_err(|e| NodeError::Record(e.to_string()))?);
        }
        self.cosign_out.extend(lines.iter().map(|line| (size, line.to_line())));
        Ok(())
    }

    /// The keys of this member that count for a checkpoint of this size, each once, the present one last; whether a
    /// post-quantum one belongs to it.
    fn cosign_keys(&self, size: u64) -> Vec<(SecretKey, MlSecretKey, bool)> {
        let mut named: Vec<(PublicKey, bool)> = Vec::new();
        for electorate in self.member.log.roster().electorates(self.watermark(), size) {
            let Some(cosigner) = electorate.members.get(self.me()) else { continue };
            named.retain(|(key, _)| *key != cosigner.key);
            named.push((cosigner.key, cosigner.ml.is_some()));
        }
        let held = named.into_iter().filter_map(|(key, hybrid)| {
            let (key, ml) = self.keys.cosign_of(&key)?;
            Some((key, ml, hybrid))
        });
        held.collect()
    }

    /// A checkpoint with more cosignatures than before.
    pub fn sealed(&mut self, note: &str, now: i64) -> Result<(), NodeError> {
        if self.member.halted.is_some() {
            return Ok(());
        }
        let checkpoint = SignedCheckpoint::parse(note).map_err(|e| NodeError::Record(e.to_string()))?;
        self.notice_own(&checkpoint)?;
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
        let mut reports = Vec::new();
        for leaf in self.member.log.in_force(evidence).iter().skip(from) {
            let (index, entry) = (self.state.size, leaf.entry());
            if let charter::Status::Void(why) = self.state.apply(&entry) {
                tracing::warn!(index, why, "void statement");
                if entry.signed.statement().r#type == charter::body::NoteAttach::TYPE {
                    crate::notes::drop_void(&self.store, &self.state, &entry.signed.id())?;
                }
            }
            if entry.signed.statement().r#type == charter::body::EvidenceReport::TYPE {
                reports.push((entry.signed.clone(), entry.time));
            }
            self.attesting.passed(&self.store, &self.state, &entry)?;
        }
        // What another proved holds here too.
        for (signed, time) in reports {
            self.hear_report(&signed, time)?;
        }
        self.heed_attests()
    }
}
