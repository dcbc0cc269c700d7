//! What must hold, whoever died:
//!
//! - every statement that the hub gave a receipt for is in the record, at the index promised; after another hub took
//!   over, what was below the base is where it was, and the rest is there once;
//! - every statement that a member told its people it has said is in the record;
//! - the record only grows, under one root at each size, and nothing is in it twice;
//! - every member's copy has that root, so has what it cosigned last, and what it cosigned never goes back;
//! - members at one watermark have one state, none has halted, and none holds anything against anyone.

use crate::client::{Identity, Kept};
use record::{Digest, Entry, HubInfo, SignedCheckpoint, Tree};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use wire::HubClient;

pub struct Watch {
    runtime: tokio::runtime::Runtime,
    identity: Identity,
    line: HubClient,
    hub: HubInfo,
    tree: Tree,
    /// Where each statement stands.
    index: BTreeMap<Digest, u64>,
    order: Vec<Digest>,
    /// Receipts looked at.
    looked: usize,
    /// Statements that members have said and that are not seen in the record yet.
    said: BTreeSet<Digest>,
    /// Term and size that each member has cosigned.
    cosigned: BTreeMap<String, (u64, u64)>,
    /// The largest size that was in force at any member.
    pub in_force: u64,
    states: BTreeMap<u64, String>,
}

macro_rules! must {
    ($holds:expr, $($told:tt)*) => {
        if !$holds {
            return Err(format!($($told)*));
        }
    };
}
pub(crate) use must;

impl Watch {
    pub fn new(identity: Identity, address: &str, hub: &HubInfo) -> Watch {
        Watch {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            line: identity.line(address, hub),
            identity,
            hub: hub.clone(),
            tree: Tree::new(),
            index: BTreeMap::new(),
            order: Vec::new(),
            looked: 0,
            said: BTreeSet::new(),
            cosigned: BTreeMap::new(),
            in_force: 0,
            states: BTreeMap::new(),
        }
    }

    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    pub fn has(&self, id: &Digest) -> bool {
        self.index.contains_key(id)
    }

    /// A statement that is in the record.
    pub fn latest(&self) -> Option<Digest> {
        self.order.last().copied()
    }

    /// A member has told that it said this.
    pub fn told(&mut self, statements: &[String]) {
        self.said.extend(statements.iter().filter_map(|id| id.parse::<Digest>().ok()));
    }

    /// Statements told of that are not in the record yet.
    pub fn open(&mut self) -> usize {
        self.said.retain(|id| !self.index.contains_key(id));
        self.said.len()
    }

    /// Takes in what the hub has published since.
    pub fn grow(&mut self) -> Result<(), String> {
        let note =
            self.runtime.block_on(self.line.checkpoint()).map_err(|e| format!("no checkpoint: {e}"))?;
        let Some(note) = note else { return Ok(()) };
        let signed = SignedCheckpoint::parse(&note).map_err(|e| format!("no checkpoint: {e}"))?;
        signed.verify_hub(&self.hub.key).map_err(|e| format!("not the hub's checkpoint: {e}"))?;
        let (size, have) = (signed.checkpoint().size(), self.tree.size());
        must!(size >= have, "the hub went back from {have} to {size} entries");
        let more =
            self.runtime.block_on(self.line.entries(have, size)).map_err(|e| format!("no entries: {e}"))?;
        for leaf in more {
            let entry = Entry::from_bytes(&leaf).map_err(|e| format!("entry {}: {e}", self.size()))?;
            let (at, id) = (self.tree.append(&leaf), entry.signed.id());
            let before = self.index.insert(id, at);
            must!(before.is_none(), "statement {id} is at {before:?} and again at {at}");
            self.order.push(id);
        }
        let (found, signed) = (self.tree.root(), signed.checkpoint().root());
        must!(found == signed, "the hub signed root {signed} at {size}, its entries give {found}");
        Ok(())
    }

    /// Every receipt since the last look is kept.
    pub fn receipts(&mut self, kept: &[Kept]) -> Result<(), String> {
        for kept in kept.iter().skip(self.looked) {
            let (id, promised) = (kept.receipt.id, kept.receipt.index);
            let found = self.index.get(&id).copied();
            must!(
                found == Some(promised),
                "statement {id} was acknowledged at {promised} and is at {found:?} of {}",
                self.size()
            );
            self.looked += 1;
        }
        Ok(())
    }

    /// What a member says of itself.
    pub fn member(&mut self, id: &str, status: &Value) -> Result<(), String> {
        must!(status["halted"].is_null(), "{id} has halted: {}", status["halted"]);
        must!(status["evidence"] == serde_json::json!([]), "{id} holds evidence: {}", status["evidence"]);
        let number = |value: &Value| value.as_u64().ok_or_else(|| format!("{id}: no number in {status}"));
        let (size, watermark) = (number(&status["size"])?, number(&status["watermark"])?);
        while self.size() < size {
            self.grow()?;
        }
        let (found, expected) = (status["root"].as_str().unwrap_or_default(), self.root_at(size)?);
        must!(found == expected, "{id} has root {found} at {size}, the hub's entries give {expected}");
        let state = status["state"].as_str().unwrap_or_default().to_string();
        let other = self.states.entry(watermark).or_insert_with(|| state.clone());
        must!(*other == state, "{id} has state {state} at {watermark}, another member {other}");
        self.in_force = self.in_force.max(watermark);
        if let Value::Object(cosigned) = &status["cosigned"] {
            let (term, size) = (number(&cosigned["term"])?, number(&cosigned["size"])?);
            let root = cosigned["root"].as_str().unwrap_or_default();
            self.has_cosigned(id, term, size, root)?;
        }
        Ok(())
    }

    fn has_cosigned(&mut self, id: &str, term: u64, size: u64, root: &str) -> Result<(), String> {
        let before = self.cosigned.insert(id.to_string(), (term, size));
        must!(
            before <= Some((term, size)),
            "{id} had cosigned {before:?} (term, size) and now {:?}",
            (term, size)
        );
        let expected = self.root_at(size)?;
        must!(root == expected, "{id} cosigned root {root} at {size}, the hub's entries give {expected}");
        Ok(())
    }

    pub fn root_at(&self, size: u64) -> Result<String, String> {
        let root = self.tree.root_at(size).map_err(|e| format!("no root at {size}: {e}"))?;
        Ok(root.to_string())
    }

    /// Another hub has begun at `base`: what was below stays, the rest is looked for again.
    /// What some member had mirrored must come back.
    pub fn turn(
        &mut self,
        address: &str,
        hub: &HubInfo,
        base: u64,
        mirrored: &BTreeSet<Digest>,
    ) -> Result<(), String> {
        must!(base >= self.in_force, "a term begins at {base}, {} was in force", self.in_force);
        (self.line, self.hub) = (self.identity.line(address, hub), hub.clone());
        self.tree.truncate(base);
        for id in self.order.split_off(usize::try_from(base).unwrap().min(self.order.len())) {
            self.index.remove(&id);
            self.said.extend(mirrored.get(&id));
        }
        self.states.retain(|size, _| *size <= base);
        Ok(())
    }

    /// Hands in what only its author had.
    pub fn hand_in(&self, statement: &[u8]) -> Result<(), String> {
        let done = self.runtime.block_on(self.line.submit_bytes(statement.to_vec()));
        done.map(drop).map_err(|e| format!("the next hub refused a statement: {e}"))
    }

    /// Receipts of the hub before are no promise of this one: each statement is there, once, and where it was if that is
    /// below the base. Gives how many are missing still.
    pub fn old_receipts(&mut self, kept: &[Kept], base: u64) -> Result<usize, String> {
        let mut missing = 0;
        for (number, Kept { receipt, .. }) in kept.iter().enumerate() {
            let found = self.index.get(&receipt.id).copied();
            let (id, promised) = (receipt.id, receipt.index);
            // What was looked at before may have been moved by an earlier hub, and stays by the root.
            must!(
                number < self.looked || promised >= base || found == Some(promised),
                "statement {id}, below the base {base}, was at {promised} and is at {found:?}"
            );
            missing += usize::from(found.is_none());
        }
        if missing == 0 {
            self.looked = self.looked.max(kept.len());
        }
        Ok(missing)
    }
}
