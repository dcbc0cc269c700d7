//! The relay that tests control: log, checkpoints, cosignatures, mailboxes. Honest unless a test lies in its name.

use record::checkpoint::{Checkpoint, Cosignature, SignedCheckpoint};
use record::keys::{PublicKey, SecretKey};
use record::{Digest, Entry, Roster, SignedStatement, Tree};
use std::collections::{BTreeMap, BTreeSet};

/// The relay's whole state.
#[derive(Clone, Default)]
pub struct Hub {
    /// The log, entry by entry.
    pub entries: Vec<Vec<u8>>,
    pub tree: Tree,
    roster: Roster,
    ids: BTreeSet<Digest>,
    last: i64,
    lines: BTreeMap<u64, BTreeMap<String, Cosignature>>,
    sealed: Option<SignedCheckpoint>,
    /// Checkpoints that sealed a change of members or keys, by size.
    pub seals: BTreeMap<u64, String>,
    /// Whether it is the second hub, with a key of its own.
    pub second: bool,
    /// Frames for each member, in order.
    pub mail: BTreeMap<String, Vec<Vec<u8>>>,
}

impl Hub {
    /// The key that signs checkpoints; the relay of tests keeps no secret.
    pub fn key() -> SecretKey {
        SecretKey::from_seed([7; 32])
    }

    /// The key of a certificate that no test needs.
    pub fn tls() -> PublicKey {
        SecretKey::from_seed([8; 32]).public()
    }

    pub fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Takes a statement into the log, once.
    pub fn take(&mut self, statement: &[u8], now: i64) -> Digest {
        let signed = SignedStatement::from_bytes(statement).unwrap();
        let id = signed.id();
        if self.ids.insert(id) {
            let time = now.max(self.last);
            self.enter(&Entry::new(time, signed).to_bytes());
        }
        id
    }

    /// Appends an entry whatever it says, as a lying relay may.
    pub fn enter(&mut self, bytes: &[u8]) {
        if let Ok(entry) = Entry::from_bytes(bytes) {
            self.last = entry.time;
            self.ids.insert(entry.signed.id());
            let _ = self.roster.apply(self.size(), &entry);
        }
        self.tree.append(bytes);
        self.entries.push(bytes.to_vec());
    }

    /// The latest checkpoint, without cosignatures.
    pub fn note(&self) -> String {
        self.signed(self.size(), self.tree.root()).to_note()
    }

    /// A checkpoint that says whatever the test wants.
    pub fn signed(&self, size: u64, root: Digest) -> SignedCheckpoint {
        let origin = if self.roster.origin.is_empty() { "comity/house" } else { &self.roster.origin };
        let key = if self.second { SecretKey::from_seed([9; 32]) } else { Hub::key() };
        Checkpoint::new(origin, size, root).unwrap().sign(&key)
    }

    pub fn cosign(&mut self, size: u64, line: &str) {
        let line = Cosignature::from_line(line).unwrap();
        // A member whose key changes cosigns with both.
        let key = line.to_line().rsplit(' ').next().and_then(|l| l.get(..6)).unwrap_or_default().to_string();
        self.lines.entry(size).or_default().insert(format!("{} {key}", line.name()), line);
    }

    /// Cosignatures that came in for the present size.
    pub fn cosigners(&self) -> usize {
        let lines = self.lines.get(&self.size());
        lines.map_or(0, |l| l.values().map(Cosignature::name).collect::<BTreeSet<_>>().len())
    }

    /// The present checkpoint once a quorum has cosigned it, else the last one that had it.
    pub fn sealed(&mut self) -> Option<String> {
        let quorum = self.roster.quorum() as usize;
        if self.roster.watermark_ready() && self.cosigners() >= quorum {
            let mut note = self.signed(self.size(), self.tree.root());
            let mut lines: Vec<Cosignature> = self.lines.get(&self.size())?.values().cloned().collect();
            lines.sort_by_key(|l| std::cmp::Reverse(l.time()));
            // A change of members or keys takes the quorums of those before it and those after it.
            let above = self.sealed.as_ref().map_or(0, |s| s.checkpoint().size());
            let changes = self.roster.electorates(above, self.size()).len() > 1;
            let most = if changes { usize::MAX } else { quorum };
            for line in lines.into_iter().take(most) {
                let _ = note.add(line, &self.roster);
            }
            if !changes || record::log::is_sealed(&note, &self.roster, above) {
                if changes {
                    self.seals.insert(self.size(), note.to_note());
                }
                self.sealed = Some(note);
            }
        }
        self.sealed.as_ref().map(SignedCheckpoint::to_note)
    }

    /// Puts a frame into a mailbox.
    pub fn post(&mut self, to: &str, frame: Vec<u8>) {
        self.mail.entry(to.to_string()).or_default().push(frame);
    }
}
