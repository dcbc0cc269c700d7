//! A hub with the promises of the real one, and with lies. It is a small machine over the record room alone, so that a
//! seed takes milliseconds; the real one is run in the simulated world of whole nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use record::log::is_sealed;
use record::tree::leaf_hash;
use record::{
    Checkpoint, Cosignature, Digest, Entry, HubInfo, Log, SecretKey, SignedCheckpoint, SignedStatement,
    Standing,
};

use super::charter::{hub_info, key, secret_of};
use super::network::{Message, Party, Show};
use super::shelf::{Down, Trouble};

/// How long a checkpoint collects cosignatures before a larger one replaces it, milliseconds.
pub const PACE: i64 = 40;
/// Most entries in an answer.
const MOST: usize = 48;
/// Checkpoints that still take cosignatures.
const COLLECTING: usize = 64;

/// What a hub does against the federation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lies {
    /// Shows two histories: members whose bit is set see the second.
    pub forks: Option<u8>,
    /// Records nothing of this member, whoever hands it in.
    pub withholds: Option<usize>,
    /// Shows this member nothing new.
    pub stale: Option<usize>,
    /// How far off its stamps are, milliseconds.
    pub off: i64,
    /// Enters old statements again.
    pub replays: bool,
    /// Changes entries on the way to this member.
    pub tampers: Option<usize>,
}

impl Lies {
    pub fn any(&self) -> bool {
        *self != Lies::default()
    }
}

/// What the hub does wrong by design, in tests that want to see it found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flaws {
    /// Gives receipts for what is not on its disk yet.
    pub receipt_first: bool,
    /// Stamps with its clock, whatever was before.
    pub stamps_back: bool,
    /// Takes a statement as often as it comes.
    pub enters_twice: bool,
}

/// One history that it shows.
#[derive(Clone, Default)]
struct Face {
    log: Log,
    leaves: Vec<Vec<u8>>,
    ids: BTreeMap<Digest, u64>,
    notes: BTreeMap<u64, SignedCheckpoint>,
    published: u64,
    published_at: i64,
    sealed: Option<SignedCheckpoint>,
    seals: BTreeMap<u64, String>,
}

/// What is on its disk; cosignatures are kept lazily.
#[derive(Clone, Default)]
struct Books {
    leaves: Vec<Vec<u8>>,
    sealed: Option<SignedCheckpoint>,
    seals: BTreeMap<u64, String>,
}

/// A hub.
pub struct Hub {
    pub index: usize,
    pub up: bool,
    pub lies: Lies,
    /// Members whose keys it has.
    pub liars: BTreeSet<usize>,
    pub flaws: Flaws,
    /// Whether it has begun its term.
    pub serves: bool,
    key: Rc<SecretKey>,
    books: Books,
    faces: Vec<Face>,
    waiting: BTreeMap<usize, (u64, Digest, u64, bool)>,
    witnessed: BTreeMap<usize, u64>,
    /// What its disk does at the next write but this many.
    pub fuse: Option<(u32, Trouble)>,
    /// When it is to be woken for a checkpoint that waits.
    pub due: Option<i64>,
    /// Checkpoints that it signed since this was last asked.
    pub signed: Vec<SignedCheckpoint>,
}

impl Face {
    fn of(leaves: Vec<Vec<u8>>) -> Face {
        let mut face = Face::default();
        for leaf in leaves {
            face.take(leaf);
        }
        face
    }

    fn take(&mut self, leaf: Vec<u8>) -> Option<u64> {
        let index = self.log.append(&leaf, None).ok()?;
        let id = self.log.entries().last()?.id();
        self.ids.entry(id).or_insert(index);
        self.leaves.push(leaf);
        Some(index)
    }

    fn sealed_size(&self) -> u64 {
        self.sealed.as_ref().map_or(0, |n| n.checkpoint().size())
    }

    fn note(&mut self, key: &SecretKey) -> Option<SignedCheckpoint> {
        let size = self.log.size();
        let origin = &self.log.roster().origin;
        if size == 0 || origin.is_empty() {
            return None;
        }
        if let Some(note) = self.notes.get(&size) {
            return Some(note.clone());
        }
        let note = Checkpoint::new(origin, size, self.log.tree().root()).unwrap().sign(key);
        self.notes.insert(size, note.clone());
        while self.notes.len() > COLLECTING {
            self.notes.pop_first();
        }
        Some(note)
    }

    /// Takes what was in force before its term, without which it could not tell what is in force after a change of
    /// members.
    fn believe(&mut self, notes: &[String]) {
        let mut notes: Vec<SignedCheckpoint> =
            notes.iter().filter_map(|n| SignedCheckpoint::parse(n).ok()).collect();
        notes.sort_by_key(|n| n.checkpoint().size());
        for note in notes {
            let (above, size) = (self.sealed_size(), note.checkpoint().size());
            if size > above && matches!(self.log.standing_above(&note, above), Ok(Standing::InForce(_))) {
                if self.log.roster().electorates(above, size).len() > 1 {
                    self.seals.insert(size, note.to_note());
                }
                self.sealed = Some(note);
            }
        }
        // What waited for that may be in force now.
        let sizes: Vec<u64> = self.notes.range(self.sealed_size() + 1..).map(|(size, _)| *size).collect();
        for size in sizes {
            self.seal(size);
        }
    }

    /// Sees whether the checkpoint of this size is in force by now.
    fn seal(&mut self, size: u64) -> bool {
        let (sealed, roster) = (self.sealed_size(), self.log.roster());
        let Some(note) = self.notes.get(&size) else { return false };
        if size < sealed || size > sealed && !is_sealed(note, roster, sealed) {
            return false;
        }
        if roster.electorates(sealed, size).len() > 1 {
            self.seals.insert(size, note.to_note());
        }
        self.sealed = Some(note.clone());
        size > sealed
    }

    fn waits(&self, now: i64) -> Option<i64> {
        if self.log.size() == self.published {
            return None;
        }
        let collecting = self.sealed_size() < self.published && now >= self.published_at;
        Some(if collecting { (PACE - (now - self.published_at)).max(0) } else { 0 })
    }

    /// Takes in a cosignature; gives whether it completed a quorum.
    fn count(&mut self, size: u64, line: &str) -> bool {
        let (Some(note), Ok(line)) = (self.notes.get_mut(&size), Cosignature::from_line(line)) else {
            return false;
        };
        note.add(line, self.log.roster()).unwrap_or(false) && self.seal(size)
    }
}

impl Hub {
    pub fn new(index: usize) -> Hub {
        Hub {
            index,
            up: true,
            lies: Lies::default(),
            liars: BTreeSet::new(),
            flaws: Flaws::default(),
            serves: false,
            key: key(&format!("hub{index}"), "key", 0),
            books: Books::default(),
            faces: vec![Face::default()],
            waiting: BTreeMap::new(),
            witnessed: BTreeMap::new(),
            fuse: None,
            due: None,
            signed: Vec::new(),
        }
    }

    pub fn info(&self) -> HubInfo {
        hub_info(self.index)
    }

    pub fn fall(&mut self) {
        self.up = false;
        self.faces.clear();
        self.waiting.clear();
        self.fuse = None;
        self.due = None;
    }

    pub fn wake(&mut self, now: i64) {
        self.up = true;
        self.serves = !self.books.leaves.is_empty();
        let mut face = Face::of(self.books.leaves.clone());
        face.sealed.clone_from(&self.books.sealed);
        face.seals.clone_from(&self.books.seals);
        if let Some(note) = face.sealed.clone() {
            face.notes.insert(note.checkpoint().size(), note);
        }
        self.faces = vec![face];
        self.publish(now, &mut Vec::new());
    }

    /// The log as it is on its disk.
    pub fn leaves(&self) -> &[Vec<u8>] {
        &self.books.leaves
    }

    /// Whether a statement is on its disk.
    pub fn holds(&self, index: u64, id: &Digest) -> bool {
        let leaf = usize::try_from(index).ok().and_then(|i| self.books.leaves.get(i));
        leaf.and_then(|l| Entry::from_bytes(l).ok()).is_some_and(|e| e.signed.id() == *id)
    }

    /// Begins its first term with these entries.
    pub fn begin(&mut self, entries: &[SignedStatement], now: i64) {
        self.books.leaves = entries.iter().map(|s| Entry::new(now, s.clone()).to_bytes()).collect();
        self.serves = true;
        self.wake(now);
    }

    /// From now on there are two histories.
    pub fn fork(&mut self) {
        if let [face] = self.faces.as_slice() {
            self.faces.push(face.clone());
        }
    }

    fn face_of(&self, member: usize) -> usize {
        let second = self.lies.forks.is_some_and(|bits| bits & (1 << (member % 8)) != 0);
        if second && self.faces.len() > 1 { 1 } else { 0 }
    }

    /// Writes a group to its disk.
    fn write(&mut self, change: impl FnOnce(&mut Books)) -> Result<(), Down> {
        let trouble = match &mut self.fuse {
            Some((0, trouble)) => Some(*trouble),
            Some((points, _)) => {
                *points -= 1;
                None
            }
            None => None,
        };
        let Some(trouble) = trouble else {
            change(&mut self.books);
            return Ok(());
        };
        self.fuse = None;
        if trouble == Trouble::FailedButWritten {
            change(&mut self.books);
        }
        Err(Down(trouble))
    }

    /// Takes a statement.
    ///
    /// # Errors
    /// When its disk fails: nothing is answered then.
    pub fn submit(
        &mut self,
        from: usize,
        id: Digest,
        bytes: &[u8],
        now: i64,
        out: &mut Vec<(Party, Message)>,
    ) -> Result<(), Down> {
        let Ok(signed) = SignedStatement::from_bytes(bytes) else { return Ok(()) };
        let now = now + self.lies.off;
        let mine = self.face_of(from);
        if self.lies.withholds.is_some_and(|m| signed.statement().issuer == super::charter::member_id(m)) {
            return Ok(());
        }
        if let Some(index) = self.faces[mine].ids.get(&id).filter(|_| !self.flaws.enters_twice) {
            out.push((Party::Member(from), Message::Receipt(id, *index)));
            return Ok(());
        }
        // A forking hub tells a statement to one side first and to the other when it pleases.
        let last = self.faces[mine].log.last_time().unwrap_or(0);
        let time = if self.flaws.stamps_back { now } else { now.max(last) };
        let entry = Entry::new(time, signed);
        let size = self.faces[mine].log.size();
        if self.faces[mine].log.roster().after(size, &entry).is_err() {
            out.push((Party::Member(from), Message::Refused(id)));
            return Ok(());
        }
        let leaf = entry.to_bytes();
        if self.flaws.receipt_first {
            out.push((Party::Member(from), Message::Receipt(id, size)));
        }
        if mine == 0 {
            let kept = leaf.clone();
            self.write(|books| books.leaves.push(kept))?;
        }
        let taken = self.faces[mine].take(leaf.clone());
        if self.lies.replays
            && let Some(old) = self.faces[mine].leaves.get(size as usize / 2).cloned()
            && let Ok(old) = Entry::from_bytes(&old)
        {
            let again = Entry::new(time, old.signed).to_bytes();
            self.books.leaves.push(again.clone());
            self.faces[mine].take(again);
        }
        if let Some(index) = taken.filter(|_| !self.flaws.receipt_first) {
            out.push((Party::Member(from), Message::Receipt(id, index)));
        }
        self.publish(now, out);
        Ok(())
    }

    /// Publishes what it is time for, and answers those who wait.
    pub fn publish(&mut self, now: i64, out: &mut Vec<(Party, Message)>) {
        self.due = None;
        for face in 0..self.faces.len() {
            match self.faces[face].waits(now) {
                Some(0) => {
                    let Some(note) = self.faces[face].note(&self.key) else { continue };
                    self.faces[face].published = note.checkpoint().size();
                    self.faces[face].published_at = now;
                    self.collude(face, &note, now);
                    self.signed.push(note);
                }
                Some(wait) => self.due = Some(self.due.map_or(now + wait, |d| d.min(now + wait))),
                None => {}
            }
        }
        self.answer(out);
    }

    /// Members whose keys it has cosign whatever it shows.
    fn collude(&mut self, face: usize, note: &SignedCheckpoint, now: i64) {
        let size = note.checkpoint().size();
        let Some(electorate) = self.faces[face].log.roster().electorate_at(size).cloned() else { return };
        for liar in &self.liars {
            let id = super::charter::member_id(*liar);
            let Some(secret) = electorate.members.get(&id).and_then(|c| secret_of(&c.key)) else { continue };
            let seconds = u64::try_from(now / 1000).unwrap_or(0);
            let line = Cosignature::sign(note.checkpoint(), &id, seconds, &secret).unwrap();
            self.faces[face].count(size, &line.to_line());
        }
    }

    /// Takes what a member has; answers now or when there is more.
    pub fn sync(&mut self, from: usize, have: (u64, Digest, u64, bool), out: &mut Vec<(Party, Message)>) {
        self.waiting.insert(from, have);
        self.answer(out);
    }

    fn answer(&mut self, out: &mut Vec<(Party, Message)>) {
        let waiting: Vec<_> = self.waiting.iter().map(|(m, have)| (*m, *have)).collect();
        for (member, have) in waiting {
            if let Some(show) = self.show(member, have) {
                self.waiting.remove(&member);
                out.push((Party::Member(member), Message::Show(Rc::new(show))));
            }
        }
        let Some(face) = self.faces.first() else { return };
        let Some(note) = face.notes.get(&face.published) else { return };
        let witnesses = face.log.roster().witnesses.len();
        for index in 0..witnesses {
            let old = self.witnessed.get(&index).copied().unwrap_or(0);
            let name = super::charter::witness_name(index);
            if old > face.published || note.lines().any(|line| line.name() == name) {
                continue;
            }
            let proof = face.log.tree().prove_consistency(old, face.published).unwrap_or_default();
            let note = Rc::from(note.without_cosignatures().to_note());
            out.push((Party::Witness(index), Message::Seek { note, old, proof: proof.into() }));
        }
    }

    /// What there is beyond what a member has.
    fn show(&self, member: usize, (size, root, sealed, waits): (u64, Digest, u64, bool)) -> Option<Show> {
        if self.lies.stale == Some(member) {
            return None;
        }
        let face = &self.faces[self.face_of(member)];
        let published = face.published;
        let same = face.log.tree().root_at(size).is_ok_and(|r| r == root);
        let news = waits || published > size || !same || face.sealed_size() > sealed;
        if !news || !face.notes.contains_key(&published) || self.index == 0 && !same {
            return None;
        }
        // Another history than this: from where it is in force there.
        let first = if same { size.min(published) } else { sealed.min(published) };
        let to = published.min(first + MOST as u64);
        let note = if to == published {
            face.notes.get(&published)?.without_cosignatures()
        } else {
            Checkpoint::new(&face.log.roster().origin, to, face.log.tree().root_at(to).ok()?)
                .ok()?
                .sign(&self.key)
        };
        let mut leaves = face.leaves.get(first as usize..to as usize)?.to_vec();
        if self.lies.tampers == Some(member) {
            tamper(&mut leaves);
        }
        let mut notes: Vec<String> = face.seals.range(sealed + 1..).map(|(_, n)| n.clone()).collect();
        notes.extend(
            face.sealed.as_ref().filter(|n| n.checkpoint().size() > sealed).map(SignedCheckpoint::to_note),
        );
        Some(Show { first, leaves, note: note.to_note(), sealed: notes })
    }

    /// Takes cosignatures.
    pub fn cosign(&mut self, size: u64, lines: &[String], now: i64, out: &mut Vec<(Party, Message)>) {
        let mut sealed = false;
        for face in &mut self.faces {
            for line in lines {
                sealed = face.count(size, line) || sealed;
            }
        }
        if sealed {
            // What sealed is kept before it is shown: after a change nobody may be left to cosign it again.
            self.keep();
            self.publish(now, out);
        }
    }

    /// Takes what members know to be in force.
    pub fn learn(&mut self, notes: &[String], now: i64, out: &mut Vec<(Party, Message)>) {
        for face in &mut self.faces {
            face.believe(notes);
        }
        self.publish(now, out);
    }

    /// A witness has seen this size, or says so.
    pub fn witnessed(&mut self, index: usize, size: u64) {
        self.witnessed.insert(index, size);
    }

    /// Where it stands, for people who read a trace.
    pub fn shown(&self) -> String {
        let face = |f: &Face| {
            let latest = f
                .notes
                .last_key_value()
                .map(|(s, n)| (*s, n.lines().map(|l| l.name().to_owned()).collect::<Vec<_>>()));
            format!(
                "size {} published {} sealed {} latest {latest:?}",
                f.log.size(),
                f.published,
                f.sealed_size()
            )
        };
        let faces: Vec<String> = self.faces.iter().map(face).collect();
        format!("hub{} up {} serves {}: {}", self.index, self.up, self.serves, faces.join("; "))
    }

    /// What is kept lazily.
    pub fn keep(&mut self) {
        if let Some(face) = self.faces.first() {
            self.books.sealed.clone_from(&face.sealed);
            self.books.seals.clone_from(&face.seals);
        }
    }

    /// Another hub's entries and the statement that begins this one's term. It takes the first that holds.
    ///
    /// # Errors
    /// When its disk fails.
    pub fn open(
        &mut self,
        leaves: &[Vec<u8>],
        opening: &[u8],
        sealed: &[String],
        now: i64,
    ) -> Result<bool, Down> {
        if self.serves {
            return Ok(false);
        }
        let mut face = Face::of(leaves.to_vec());
        let Ok(signed) = SignedStatement::from_bytes(opening) else { return Ok(false) };
        let before = face.log.roster().term;
        let time = now.max(face.log.last_time().unwrap_or(0));
        face.take(Entry::new(time, signed).to_bytes());
        let roster = face.log.roster();
        if roster.term != before + 1 || roster.hub.as_ref() != Some(&self.info()) {
            return Ok(false);
        }
        face.believe(sealed);
        let books =
            Books { leaves: face.leaves.clone(), sealed: face.sealed.clone(), seals: face.seals.clone() };
        self.write(|kept| *kept = books)?;
        self.serves = true;
        self.faces = vec![face];
        self.publish(now, &mut Vec::new());
        Ok(true)
    }
}

/// Changes the last entry.
fn tamper(leaves: &mut [Vec<u8>]) {
    if let Some(leaf) = leaves.last_mut()
        && let Some(byte) = leaf.iter_mut().rev().find(|b| b.is_ascii_digit())
    {
        let before = leaf_hash(&[*byte]);
        *byte = if *byte == b'7' { b'3' } else { b'7' };
        debug_assert_ne!(before, leaf_hash(&[*byte]));
    }
}
