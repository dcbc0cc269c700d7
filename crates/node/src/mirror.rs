//! The mirror: every entry is taken in, checked and kept before this node cosigns; only what a quorum has cosigned
//! is folded into the state on which anything is done.

use crate::NodeError;
use crate::core::Node;
use record::checkpoint::SignedCheckpoint;
use record::log::{Cosigned, Log, LogError, Standing};
use wire::api::Have;
use wire::point::point;

/// Cosign again when the last cosignature is older than this, so that the watermark stays young, milliseconds.
const REFRESH: i64 = 30_000;
/// How far stamps may be from this node's clock, milliseconds.
const SKEW: i64 = 60_000;
/// How long after its promise a statement may be missing, milliseconds.
const OVERDUE: i64 = 60_000;

impl Node {
    /// Rebuilds mirror and state from the store.
    pub(crate) fn load(&mut self) -> Result<(), NodeError> {
        let broken = |e: LogError| NodeError::Record(format!("this node's own copy is damaged: {e}"));
        let mut log = Log::new();
        for bytes in self.store.entries()? {
            log.append(&bytes, None).map_err(broken)?;
        }
        self.log = log;
        self.cosigned = None;
        if let Some(text) = self.store.meta_text("cosigned")? {
            let mut parts = text.split(' ');
            let size = parts.next().and_then(|s| s.parse().ok());
            let root = parts.next().and_then(|r| r.parse().ok());
            // Before there were terms, none was written.
            let term = parts.next().map_or(Some(1), |t| t.parse().ok());
            let (Some(size), Some(root), Some(term)) = (size, root, term) else {
                return Err(NodeError::Record("the note of what this node cosigned is damaged".into()));
            };
            self.cosigned = Some(Cosigned { size, root, term });
        }
        if let Some(note) = self.store.meta_text("in-force")? {
            let checkpoint = SignedCheckpoint::parse(&note)
                .map_err(|e| NodeError::Record(format!("this node's checkpoint is damaged: {e}")))?;
            self.raise(&checkpoint)?;
        }
        self.check_charter();
        Ok(())
    }

    /// What this node has, for the hub's long poll.
    pub fn have(&self) -> Result<Have, NodeError> {
        // The hub forgets mail up to this number, so it must be kept for good.
        self.store.flush()?;
        Ok(Have { size: self.log.size(), sealed: self.watermark(), mail: self.store.mail_cursor()? })
    }

    /// Takes in entries that follow those mirrored, with the checkpoint that proves them, and cosigns it.
    pub fn extend(&mut self, note: &str, entries: &[Vec<u8>], now: i64) -> Result<(), NodeError> {
        if self.halted.is_some() {
            return Ok(());
        }
        let result = self.try_extend(note, entries, now);
        if result.is_err() {
            // Memory may be ahead of what was proved: go back to what is kept.
            self.load()?;
        }
        result
    }

    fn try_extend(&mut self, note: &str, entries: &[Vec<u8>], now: i64) -> Result<(), NodeError> {
        let wrong = |e: LogError| NodeError::Record(e.to_string());
        let checkpoint = SignedCheckpoint::parse(note).map_err(|e| NodeError::Record(e.to_string()))?;
        let first = self.log.size();
        for bytes in entries {
            self.log.append(bytes, None).map_err(wrong)?;
        }
        // Old entries are being caught up on; but what is new since this node last had all there was cannot have
        // been stamped before that, and nothing is stamped in the future. So a hub cannot hold time back.
        let new = self.log.entries().get(usize::try_from(first).unwrap_or(usize::MAX)..).unwrap_or(&[]);
        // A clock that was ahead and has been set right does not hold its node back.
        let since = self.head_at.min(now).saturating_sub(SKEW);
        let skew =
            |time: i64| NodeError::Record(format!("stamp {time} is more than 60 s off this node's clock"));
        if let Some(e) = new.iter().find(|e| e.time < since || e.time > now.saturating_add(SKEW)) {
            return Err(skew(e.time));
        }
        let ids: Vec<String> = new.iter().map(|e| e.signed.id().to_string()).collect();
        self.check_charter();
        if let Some(why) = &self.halted {
            return Err(NodeError::Record(why.clone()));
        }
        // Checks origin, root over these very entries and the hub's signature.
        self.log.standing(&checkpoint).map_err(wrong)?;
        point("entries checked, not kept", "");
        self.store.append(first, entries, note)?;
        for id in ids {
            self.point_of(&id, "recorded, not noted");
            self.store.dequeue(&id)?;
        }
        self.head_at = now;
        self.cosign(&checkpoint, now)?;
        self.raise(&checkpoint)
    }

    fn cosign(&mut self, checkpoint: &SignedCheckpoint, now: i64) -> Result<(), NodeError> {
        let size = checkpoint.checkpoint().size();
        if let Err(why) = self.may_cosign(size, now) {
            tracing::warn!(why, "not cosigned");
            return Ok(());
        }
        // A hub that promised a statement and leaves it out gets no more cosignatures from its author.
        let overdue = self.store.overdue(now.saturating_sub(OVERDUE))?;
        if let Some(id) = overdue.first() {
            let what = format!("statement {id} was promised and is not in the record");
            return self.keep_evidence("hub", &what, &[], now);
        }
        let again = self.cosigned.is_some_and(|c| c.size == size);
        if again && self.cosigned_at <= now && now.saturating_sub(self.cosigned_at) < REFRESH {
            return Ok(());
        }
        let me = self.me().to_string();
        let (lines, next) = self
            .log
            .cosign(checkpoint, &me, &self.keys.cosign(), now, self.cosigned)
            .map_err(|e| NodeError::Record(e.to_string()))?;
        // INVARIANT: what was cosigned is kept before the cosignature leaves.
        let note = format!("{} {} {}", next.size, next.root, next.term);
        self.store.set_meta("cosigned", note.as_bytes())?;
        self.cosigned = Some(next);
        self.cosigned_at = now;
        self.cosign_out.extend(lines.iter().map(|line| (next.size, line.to_line())));
        Ok(())
    }

    /// A checkpoint with more cosignatures than before.
    pub fn sealed(&mut self, note: &str, now: i64) -> Result<(), NodeError> {
        if self.halted.is_some() {
            return Ok(());
        }
        let checkpoint = SignedCheckpoint::parse(note).map_err(|e| NodeError::Record(e.to_string()))?;
        if checkpoint.checkpoint().size() > self.log.size() {
            return Ok(());
        }
        self.raise(&checkpoint)?;
        if checkpoint.checkpoint().size() == self.log.size() {
            self.head_at = now;
            self.cosign(&checkpoint, now)?;
        }
        Ok(())
    }

    /// Raises the watermark if the checkpoint proves more, or the same more recently, and folds up to it.
    fn raise(&mut self, checkpoint: &SignedCheckpoint) -> Result<(), NodeError> {
        let standing = self.log.standing(checkpoint).map_err(|e| NodeError::Record(e.to_string()))?;
        let Standing::InForce(evidence) = standing else { return Ok(()) };
        let better = self
            .in_force
            .as_ref()
            .is_none_or(|now| (evidence.size(), evidence.attested_at()) > (now.size(), now.attested_at()));
        if !better {
            return Ok(());
        }
        self.store.set_meta("in-force", evidence.checkpoint().to_note().as_bytes())?;
        point("watermark raised, not kept", "");
        let from = usize::try_from(self.state.size).unwrap_or(usize::MAX);
        for entry in self.log.in_force(&evidence).iter().skip(from) {
            let index = self.state.size;
            if let charter::Status::Void(why) = self.state.apply(entry) {
                tracing::warn!(index, why, "void statement");
            }
        }
        self.in_force = Some(evidence);
        Ok(())
    }

    /// A record that began with another charter than the one that this node signed is not followed.
    fn check_charter(&mut self) {
        if let Some(found) = self.log.roster().charter_digest
            && found != self.charter_digest
        {
            self.halted = Some(format!(
                "the record began with charter {found}, this node was joined with charter {}",
                self.charter_digest
            ));
        }
    }
}
