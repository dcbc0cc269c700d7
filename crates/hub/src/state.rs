//! What the hub knows beyond its store, all of it derived: tree, roster, checkpoints, counts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use record::{
    Checkpoint, CheckpointError, Cosignature, Digest, PublicKey, Roster, SecretKey, SignedCheckpoint, Tree,
};
use wire::Peer;
use wire::api::{Have, Sync};

/// How long a checkpoint collects cosignatures before a larger one replaces it, unless it has its quorum sooner.
/// Members that cosign each a different checkpoint never make a quorum.
pub(crate) const PACE: Duration = Duration::from_millis(40);
/// Checkpoints that still take cosignatures.
const COLLECTING: usize = 64;

/// A checkpoint and who cosigned it.
struct Note {
    signed: SignedCheckpoint,
    names: BTreeSet<String>,
}

pub(crate) struct State {
    origin: String,
    /// over every committed entry
    pub(crate) tree: Tree,
    pub(crate) roster: Roster,
    /// where each statement stands, and its stamp
    pub(crate) ids: BTreeMap<Digest, (u64, i64)>,
    // INVARIANT: sealed <= published <= tree.size(); notes has `published` and, unless 0, `sealed`.
    published: u64,
    published_at: Duration,
    sealed: u64,
    notes: BTreeMap<u64, Note>,
    /// highest number in each mailbox
    pub(crate) mail: BTreeMap<String, u64>,
    /// why nothing is published any more
    pub(crate) silent: Option<String>,
}

/// What became of a cosignature.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// kept; `sealed` if it completed a quorum
    Kept {
        sealed: bool,
        /// the checkpoint, if it sealed a change of members, keys or hub
        change: Option<String>,
    },
    /// known, or of a checkpoint that is past
    Old,
    /// of a checkpoint that this hub never published or no longer collects for
    Unknown,
}

impl State {
    /// Times in here are since some moment that the owner has chosen; `up` is now.
    pub(crate) fn new(origin: String, up: Duration) -> Self {
        Self {
            origin,
            tree: Tree::new(),
            roster: Roster::new(),
            ids: BTreeMap::new(),
            published: 0,
            published_at: up,
            sealed: 0,
            notes: BTreeMap::new(),
            mail: BTreeMap::new(),
            silent: None,
        }
    }

    /// Size of the latest checkpoint. Entries beyond it are committed but not shown.
    pub(crate) fn published(&self) -> u64 {
        self.published
    }

    /// Publishes the checkpoint of all entries if it is time; gives whether it did.
    pub(crate) fn publish(&mut self, key: &SecretKey, now: Duration) -> Result<bool, CheckpointError> {
        if self.due_in(now) != Some(Duration::ZERO) {
            return Ok(false);
        }
        let size = self.tree.size();
        self.note(size, key)?;
        self.published = size;
        self.published_at = now;
        self.trim();
        Ok(true)
    }

    /// In how long there is a checkpoint to publish; `None` if there are no new entries.
    pub(crate) fn due_in(&self, now: Duration) -> Option<Duration> {
        if self.tree.size() == self.published || self.silent.is_some() {
            return None;
        }
        let waits = self.roster.watermark_ready() && self.sealed < self.published;
        let waited = now.saturating_sub(self.published_at);
        Some(if waits { PACE.saturating_sub(waited) } else { Duration::ZERO })
    }

    /// After opening: the checkpoints that stored cosignatures are for, then the latest.
    pub(crate) fn restore(
        &mut self,
        cosignatures: Vec<(u64, String)>,
        key: &SecretKey,
    ) -> Result<(), CheckpointError> {
        for (size, line) in cosignatures {
            if size == 0 || size > self.tree.size() || size <= self.sealed || !self.serves(size, key) {
                continue; // a cosignature is stored lazily, never before its entries; ignore what does not fit
            }
            self.note(size, key)?;
            if let Ok(cosignature) = Cosignature::from_line(&line) {
                // One that no longer verifies is dropped: members verify them anyway.
                let _ = self.count(size, cosignature);
            }
        }
        let size = self.tree.size();
        if size > 0 && !self.serves(size, key) {
            self.silent = Some("the record in this store ends in the term of another hub".to_owned());
            return Ok(());
        }
        if size > 0 {
            self.note(size, key)?;
        }
        self.published = size;
        self.trim();
        Ok(())
    }

    /// Takes up what was sealed before this hub was opened: a hub does not count again from the beginning, since those
    /// who counted then may be gone.
    pub(crate) fn resume(&mut self, seal: SignedCheckpoint) {
        let size = seal.checkpoint().size();
        if size > self.sealed && size <= self.tree.size() {
            let names = seal.lines().map(|line| line.name().to_owned()).collect();
            self.notes.insert(size, Note { signed: seal, names });
            self.sealed = size;
        }
    }

    /// Whether a checkpoint of this size is this hub's to sign: what is below the beginning of its term was signed by
    /// the hubs before it.
    pub(crate) fn serves(&self, size: u64, key: &SecretKey) -> bool {
        self.roster.electorate_at(size).is_none_or(|e| e.hub.key == key.public())
    }

    /// Whether a checkpoint that this hub's key signed is not of the entries here: then its store went back in time.
    pub(crate) fn is_behind(&self, note: &SignedCheckpoint, key: &SecretKey) -> bool {
        let said = note.checkpoint();
        let mine = said.origin() == self.origin && note.verify_hub(&key.public()).is_ok();
        mine && self.tree.root_at(said.size()).map_or(true, |root| root != said.root())
    }

    fn note(&mut self, size: u64, key: &SecretKey) -> Result<(), CheckpointError> {
        if self.notes.contains_key(&size) {
            return Ok(());
        }
        // INVARIANT: nothing below the beginning of this hub's term is signed by it.
        if !self.serves(size, key) {
            return Ok(());
        }
        // INVARIANT: entries are on disk before a checkpoint over them is signed, and the tree only grows, so this
        // hub signs one root for a size, whatever crashes between.
        let root = self.tree.root_at(size).unwrap_or_else(|_| self.tree.root());
        let signed = Checkpoint::new(&self.origin, size, root)?.sign(key);
        self.notes.insert(size, Note { signed, names: BTreeSet::new() });
        Ok(())
    }

    /// Takes in a cosignature for the checkpoint of `size`, after checking it.
    pub(crate) fn count(&mut self, size: u64, cosignature: Cosignature) -> Result<Counted, CheckpointError> {
        let Some(note) = self.notes.get_mut(&size) else {
            return Ok(if size < self.sealed { Counted::Old } else { Counted::Unknown });
        };
        let name = cosignature.name().to_owned();
        if !note.signed.add(cosignature, &self.roster)? {
            return Ok(Counted::Old);
        }
        note.names.insert(name);
        // Counted by name first: checking every signature again is for when there may be enough.
        let above = self.sealed;
        let maybe = size > above && note.names.len() >= self.roster.quorum() as usize;
        let sealed = maybe && record::log::is_sealed(&note.signed, &self.roster, above);
        let change = sealed && self.roster.electorates(above, size).len() > 1;
        let change = change.then(|| note.signed.to_note());
        if sealed {
            self.sealed = size;
            self.trim();
        }
        Ok(Counted::Kept { sealed, change })
    }

    fn trim(&mut self) {
        self.notes = self.notes.split_off(&self.sealed);
        while self.notes.len() > COLLECTING {
            let oldest = self.notes.keys().copied().find(|size| *size != self.sealed);
            match oldest {
                Some(size) if size != self.published => self.notes.remove(&size),
                _ => break,
            };
        }
    }

    /// Before a charter is proposed anyone may look at the empty log and propose; from then on its members alone.
    pub(crate) fn admit(&self, key: &PublicKey) -> Option<Peer> {
        match self.roster.party_of_tls(key) {
            Some(party) => Some(Peer { key: *key, party: Some(party.to_owned()) }),
            None if self.roster.charter_digest.is_none() => Some(Peer { key: *key, party: None }),
            None => None,
        }
    }

    /// Size of the largest checkpoint with a quorum.
    pub(crate) fn sealed(&self) -> u64 {
        self.sealed
    }

    /// Whether there is anything beyond what the caller has.
    pub(crate) fn has_news(&self, party: Option<&str>, have: &Have) -> bool {
        let term = have.term > 0 && have.term < self.roster.term;
        term || self.published > have.size || self.sealed > have.sealed || self.mail_of(party) > have.mail
    }

    fn mail_of(&self, party: Option<&str>) -> u64 {
        party.and_then(|p| self.mail.get(p)).copied().unwrap_or(0)
    }

    pub(crate) fn latest(&self) -> Option<String> {
        self.text(self.published)
    }

    /// The log's name.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// The largest checkpoint with a quorum, with all its cosignatures.
    pub(crate) fn sealed_note(&self) -> Option<String> {
        self.text(self.sealed).filter(|_| self.sealed > 0)
    }

    /// The latest checkpoint, to be shown to witnesses.
    pub(crate) fn latest_signed(&self) -> Option<SignedCheckpoint> {
        self.notes.get(&self.published).map(|note| note.signed.clone())
    }

    fn text(&self, size: u64) -> Option<String> {
        self.notes.get(&size).map(|note| note.signed.to_note())
    }

    /// Index of the entry that began the present term; 0 in the first.
    fn base(&self) -> u64 {
        let first = self.roster.eras.iter().find(|era| era.electorate.term == self.roster.term);
        first.map_or(0, |era| era.from.saturating_sub(1))
    }

    pub(crate) fn sync(&self, party: Option<&str>) -> Sync {
        let sealed_apart = self.sealed > 0 && self.sealed != self.published;
        Sync {
            size: self.published,
            checkpoint: self.latest(),
            sealed: self.sealed,
            sealed_checkpoint: if sealed_apart { self.text(self.sealed) } else { None },
            mail: self.mail_of(party),
            term: if self.roster.term > 1 { u64::from(self.roster.term) } else { 0 },
            base: self.base(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::collections::BTreeMap;

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed([seed; 32])
    }

    /// Two members, so both must cosign.
    fn state() -> State {
        let text = |s: &str| record::Value::Str(s.to_owned());
        let map = |pairs: Vec<(&str, record::Value)>| {
            record::Value::Map(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<BTreeMap<_, _>>())
        };
        let public = |seed| text(&key(seed).public().to_string());
        let member = |id, seed: u8| {
            map(vec![
                ("id", text(id)),
                ("sign", public(seed)),
                ("cosign", public(seed + 1)),
                ("tls", public(seed + 2)),
            ])
        };
        let hub = map(vec![
            ("operator", text("x")),
            ("jurisdiction", text("CH")),
            ("key", public(1)),
            ("tls", public(2)),
        ]);
        let members = record::Value::List(vec![member("a", 10), member("b", 20)]);
        let charter = map(vec![("federation", text("t")), ("hub", hub), ("members", members)]);
        let mut state = State::new("comity/t".to_owned(), Duration::from_secs(5));
        state.roster = Roster::of_charter(&charter).unwrap();
        state
    }

    fn cosign(state: &mut State, size: u64, name: &str, seed: u8) -> Counted {
        let note = SignedCheckpoint::parse(&state.text(size).unwrap()).unwrap();
        let cosignature = Cosignature::sign(note.checkpoint(), name, 1, &key(seed)).unwrap();
        state.count(size, cosignature).unwrap()
    }

    #[test]
    fn a_checkpoint_stays_until_its_quorum_or_for_a_while() {
        let mut state = state();
        let start = state.published_at;
        assert_eq!(state.due_in(start), None, "nothing to publish");
        state.tree.append(b"one");
        assert!(state.publish(&key(1), start).unwrap(), "the first at once");
        state.tree.append(b"two");
        assert!(!state.publish(&key(1), start + PACE / 2).unwrap());
        assert_eq!(state.due_in(start + PACE / 2), Some(PACE / 2));
        assert!(state.publish(&key(1), start + PACE).unwrap(), "absent members do not hold up the log");
        state.tree.append(b"three");
        let now = start + PACE;
        assert_eq!(cosign(&mut state, 2, "a", 11), Counted::Kept { sealed: false, change: None });
        assert!(!state.publish(&key(1), now).unwrap());
        assert_eq!(cosign(&mut state, 2, "b", 21), Counted::Kept { sealed: true, change: None });
        assert!(state.publish(&key(1), now).unwrap(), "the next as soon as this one is sealed");
        let sync = state.sync(None);
        assert_eq!((sync.size, sync.sealed), (3, 2));
        assert!(sync.sealed_checkpoint.unwrap().starts_with("comity/t\n2\n"));
    }

    #[test]
    fn a_late_cosignature_can_still_seal_and_an_older_one_changes_nothing() {
        let mut state = state();
        let mut now = state.published_at;
        for leaf in 0..3u8 {
            state.tree.append(&[leaf]);
            state.publish(&key(1), now).unwrap();
            now += PACE;
        }
        let old = SignedCheckpoint::parse(&state.text(1).unwrap()).unwrap();
        assert_eq!(cosign(&mut state, 2, "a", 11), Counted::Kept { sealed: false, change: None });
        assert_eq!(cosign(&mut state, 2, "b", 21), Counted::Kept { sealed: true, change: None });
        let late = Cosignature::sign(old.checkpoint(), "a", 1, &key(11)).unwrap();
        assert_eq!(state.count(1, late.clone()).unwrap(), Counted::Old);
        assert_eq!(state.count(9, late).unwrap(), Counted::Unknown);
        assert_eq!((state.sealed(), state.published()), (2, 3));
    }

    #[test]
    fn one_member_cannot_seal_alone_by_signing_twice() {
        let mut state = state();
        state.tree.append(b"one");
        state.publish(&key(1), state.published_at).unwrap();
        assert_eq!(cosign(&mut state, 1, "a", 11), Counted::Kept { sealed: false, change: None });
        let note = SignedCheckpoint::parse(&state.text(1).unwrap()).unwrap();
        let again = Cosignature::sign(note.checkpoint(), "a", 2, &key(11)).unwrap();
        assert_eq!(state.count(1, again).unwrap(), Counted::Kept { sealed: false, change: None });
        let imposter = Cosignature::sign(note.checkpoint(), "b", 2, &key(11)).unwrap();
        state.count(1, imposter).unwrap_err();
        assert_eq!(state.sealed(), 0);
    }

    #[test]
    fn checkpoints_nobody_cosigns_do_not_pile_up() {
        let mut state = state();
        let mut now = state.published_at;
        for leaf in 0..300u16 {
            state.tree.append(&leaf.to_be_bytes());
            assert!(state.publish(&key(1), now).unwrap());
            now += PACE;
        }
        assert_eq!(state.notes.len(), COLLECTING);
        assert!(state.latest().unwrap().starts_with("comity/t\n300\n"));
    }
}
