//! An outside witness: it sees checkpoints alone and cosigns any that extends the one it has seen last.

use std::collections::BTreeMap;
use std::rc::Rc;

use record::tree::verify_consistency;
use record::{Cosignature, Digest, SignedCheckpoint, Tree};

use super::charter::{hub_info, key, witness_name};
use super::network::Message;

/// A witness; what it has seen is on its disk before a cosignature leaves.
pub struct Witness {
    pub index: usize,
    pub up: bool,
    /// What it has seen of each hub: it knows nothing of terms.
    seen: BTreeMap<usize, (u64, Digest)>,
}

impl Witness {
    pub fn new(index: usize) -> Witness {
        Witness { index, up: true, seen: BTreeMap::new() }
    }

    /// What it answers to a checkpoint.
    pub fn seek(&mut self, hub: usize, note: &str, old: u64, proof: &[Digest], now: i64) -> Option<Message> {
        let note = SignedCheckpoint::parse(note).ok()?;
        note.verify_hub(&hub_info(hub).key).ok()?;
        let (size, root) = (note.checkpoint().size(), note.checkpoint().root());
        let seen = self.seen.get(&hub).copied().unwrap_or((0, Tree::new().root()));
        if old != seen.0 {
            return Some(Message::Seen(seen.0));
        }
        let extends = old == 0
            || (old, root) == (size, seen.1)
            || verify_consistency(old, &seen.1, size, &root, proof).is_ok();
        if !extends {
            return None;
        }
        self.seen.insert(hub, (size, root));
        let name = witness_name(self.index);
        let seconds = u64::try_from(now / 1000).unwrap_or(0);
        let line = Cosignature::sign(note.checkpoint(), &name, seconds, &key(&name, "cosign", 0)).ok()?;
        Some(Message::Cosign(size, Rc::from([line.to_line()])))
    }
}
