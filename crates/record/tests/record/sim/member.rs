//! An honest member: the record room's own machine on a disk that fails, and around it what a node does.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use record::member::{COSIGNED, IN_FORCE, MemberError, Refused};
use record::roster::{ACCEPT, CHANGE, LEAVE, OPEN, ROTATE};
use record::term::{Claim, SIGN_OFF, SignOff, TermError, bare};
use record::tree::leaf_hash;
use record::{
    Change, Cosignature, Digest, Entry, EntryBytes, Member, Opening, Roster, SignedCheckpoint,
    SignedStatement, Standing,
};

use super::Sabotage;
use super::charter::{address, hub_info, member_id, rotation, secret_of, statement, with_consent};
use super::network::{Message, Party, Show, Word};
use super::shelf::{Disk, Down, Kept};

/// How long a statement may be held by f + 1 organisations and not be in the record, milliseconds.
pub const OVERDUE: i64 = 10_000;
/// Most statements in a word, and most that are handed in at once.
const MOST: usize = 12;

/// A statement that is to be in the record.
struct Held {
    bytes: Rc<[u8]>,
    since: i64,
    by: BTreeSet<String>,
    /// Since when f + 1 organisations are known to hold it.
    known: Option<i64>,
}

/// What leaves a member at the end of a step, in order.
pub type Out = Vec<(Party, Message)>;

/// What people want of their member.
#[derive(Clone, Debug)]
pub enum Wish {
    Say(u64),
    Suspend(usize),
    Reinstate(usize),
    Expel(usize),
    Join(usize),
    Rekey(usize),
    Leave,
    Rotate,
}

/// What the watch is to be told of a step, once it has become durable and left.
#[derive(Debug)]
pub enum Fact {
    /// A statement was taken on.
    Said(Digest),
    /// A statement can never count any more, as its author knows.
    GivenUp(Digest),
    Cosigned {
        size: u64,
        term: u32,
    },
    SignedOff(u32),
}

/// An honest member.
pub struct Actor {
    pub index: usize,
    pub id: String,
    pub disk: Disk,
    /// Nothing while its process is down.
    pub machine: Option<Member>,
    /// Changes that the people of all members have agreed on: it accepts these.
    pub agenda: Vec<Change>,
    pub facts: Vec<Fact>,
    /// Statements that are withheld, as it sees.
    pub overdue: BTreeSet<Digest>,
    /// How often it did not cosign because something is withheld.
    pub held_back: u64,
    /// Refusals by what was refused, for the trace.
    pub refusals: u64,
    pub loud: bool,
    /// Two checkpoints of one size that it was shown.
    pub forks_seen: u64,
    /// The last reason why no term could be opened.
    pub no_opening: Option<TermError>,
    /// Whether no base follows: each that there is has members by whose sign-offs it would be another.
    pub no_base: bool,
    charter: Digest,
    sabotage: Option<Sabotage>,
    held: BTreeMap<Digest, Held>,
    /// Statements in its copy of the record.
    recorded: BTreeSet<Digest>,
    accepted: BTreeSet<Digest>,
    /// The checkpoint that proves what it has.
    head: Option<(u64, String)>,
    /// What it cosigned last; handed in until it is in force.
    cosigned: Option<(u64, Rc<[String]>)>,
    signoffs: BTreeMap<(u32, String), Rc<[u8]>>,
    /// The hub that it asks.
    hub: usize,
    /// The last hub that is to take over, as people have decided.
    decided: usize,
    /// Looks at what is in force anew now and then alone, since the same note comes from everyone.
    rereads: u64,
    /// Keys that were lost.
    lost: BTreeSet<record::PublicKey>,
}

type Step = Result<(), Down>;

impl Actor {
    pub fn new(index: usize, charter: Digest, sabotage: Option<Sabotage>) -> Actor {
        let mut disk = Disk::default();
        disk.flaws.forgets_cosigned = sabotage == Some(Sabotage::ForgetsCosigned);
        let id = member_id(index);
        Actor {
            index,
            machine: Some(Member::new(&id, charter)),
            id,
            disk,
            agenda: Vec::new(),
            facts: Vec::new(),
            overdue: BTreeSet::new(),
            held_back: 0,
            refusals: 0,
            loud: false,
            forks_seen: 0,
            no_opening: None,
            no_base: false,
            charter,
            sabotage,
            held: BTreeMap::new(),
            recorded: BTreeSet::new(),
            accepted: BTreeSet::new(),
            head: None,
            cosigned: None,
            signoffs: BTreeMap::new(),
            hub: 0,
            decided: 0,
            rereads: 0,
            lost: BTreeSet::new(),
        }
    }

    fn has(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    fn member(&self) -> &Member {
        self.machine.as_ref().unwrap()
    }

    /// The process ends; what was not flushed is gone.
    pub fn fall(&mut self) {
        self.disk.fall();
        self.machine = None;
        self.held.clear();
        self.overdue.clear();
        self.accepted.clear();
        self.cosigned = None;
        self.head = None;
        self.signoffs.clear();
        self.facts.clear();
        self.hub = 0;
        self.decided = 0;
    }

    /// The process begins on what its disk has.
    ///
    /// # Errors
    /// When that is damaged.
    pub fn wake(&mut self, now: i64) -> Result<(), Refused> {
        self.disk.recover();
        let kept = &self.disk.kept;
        let machine = Member::wake(&self.id, self.charter, &kept.leaves, &kept.notes)?;
        self.hub = machine.log.roster().term.saturating_sub(1) as usize;
        self.head.clone_from(&kept.head);
        self.recorded = machine.log.entries().iter().map(EntryBytes::id).collect();
        for (id, bytes) in kept.outbox.clone() {
            self.hold(id, bytes, now);
        }
        self.machine = Some(machine);
        Ok(())
    }

    /// Puts an older copy in place of the disk's content, and says so to the machine.
    pub fn restore(&mut self, copy: Kept, now: i64) {
        self.fall();
        self.disk.kept = copy;
        if self.wake(now).is_ok() && !self.has(Sabotage::RestoredDoesNotAsk) {
            let mut machine = self.machine.take().unwrap();
            machine.restore(&mut self.disk).unwrap();
            self.disk.flush().unwrap();
            self.machine = Some(machine);
        }
    }

    fn hold(&mut self, id: Digest, bytes: Rc<[u8]>, now: i64) {
        let me = self.id.clone();
        self.held
            .entry(id)
            .or_insert(Held { bytes, since: now, by: BTreeSet::new(), known: None })
            .by
            .insert(me);
    }

    /// Runs the machine on the disk.
    fn with<T>(
        &mut self,
        call: impl FnOnce(&mut Member, &mut Disk) -> Result<T, MemberError<Down>>,
    ) -> Result<Option<T>, Down> {
        let Some(machine) = &mut self.machine else { return Ok(None) };
        match call(machine, &mut self.disk) {
            Ok(done) => Ok(Some(done)),
            Err(MemberError::Shelf(down)) => Err(down),
            Err(MemberError::Refused(why)) => {
                self.refusals += 1;
                if self.loud {
                    println!("{} refuses: {why}", self.id);
                }
                Ok(None)
            }
        }
    }

    /// Signs with the key that the record has for this member, if it still has that key.
    fn sign<T: serde::Serialize>(&self, kind: &str, body: &T) -> Option<SignedStatement> {
        let public = self.member().log.roster().keys(&self.id)?.sign;
        let key = secret_of(&public).filter(|_| !self.lost.contains(&public))?;
        Some(statement(&self.id, kind, body, &key))
    }

    fn take_on(&mut self, signed: &SignedStatement, now: i64) -> Step {
        let (id, bytes): (_, Rc<[u8]>) = (signed.id(), signed.to_bytes().into());
        self.disk.queue(id, bytes.clone())?;
        self.hold(id, bytes, now);
        self.facts.push(Fact::Said(id));
        Ok(())
    }

    /// Does what people want.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn wish(&mut self, wish: &Wish, now: i64, out: &mut Out) -> Step {
        let change = |c: Change| BTreeMap::from([("change".to_owned(), c)]);
        let member = |i: &usize| member_id(*i);
        let signed = match wish {
            Wish::Say(n) => self.sign("note.say@1", &BTreeMap::from([("n".to_owned(), *n as i64)])),
            Wish::Leave => self.sign(LEAVE, &BTreeMap::<String, String>::new()),
            Wish::Rotate => {
                let body = rotation(self.index, 1);
                let key = secret_of(&body.sign).unwrap();
                Some(statement(&self.id, ROTATE, &body, &key))
            }
            Wish::Suspend(i) => self.sign(CHANGE, &change(Change::Suspend { member: member(i) })),
            Wish::Reinstate(i) => self.sign(CHANGE, &change(Change::Reinstate { member: member(i) })),
            Wish::Expel(i) => self.sign(CHANGE, &change(Change::Expel { member: member(i) })),
            Wish::Join(i) => self.sign(CHANGE, &change(with_consent(&self.charter, *i, 0, false))),
            Wish::Rekey(i) => self.sign(CHANGE, &change(with_consent(&self.charter, *i, 20, true))),
        };
        if let Some(signed) = signed {
            self.take_on(&signed, now)?;
            out.push((Party::Hub(self.asks()), Message::Submit(signed.id(), signed.to_bytes().into())));
        }
        Ok(())
    }

    /// It has lost all of its keys.
    pub fn lose_keys(&mut self) {
        let keys = self.machine.as_ref().and_then(|m| m.log.roster().keys(&self.id).cloned());
        self.lost.extend(keys.into_iter().flat_map(|k| [k.sign, k.cosign]));
    }

    /// Whether it has a key to speak with.
    pub fn speaks(&self) -> bool {
        let keys = self.machine.as_ref().and_then(|m| m.log.roster().members.get(&self.id));
        keys.is_some_and(|k| !self.lost.contains(&k.sign))
    }

    /// Whether it was restored from an old copy and enough others have told it how far they are, but of a history that
    /// the hub does not show it: it cannot learn what it has cosigned, so it may not say.
    pub fn is_on_the_other_side(&self) -> bool {
        let Some(machine) = &self.machine else { return false };
        let Some(restored) = &machine.restored else { return false };
        let told: BTreeSet<String> = restored.told.keys().cloned().collect();
        let roster = machine.log.roster();
        let enough = roster.electorate().is_some_and(|e| e.decides(&told, Some(&self.id)));
        let lacks = |(_, size, root): &(u32, u64, Digest)| machine.log.tree().root_at(*size) != Ok(*root);
        enough && restored.told.values().any(lacks)
    }

    /// What it does now and then.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn tick(&mut self, now: i64, peers: &[usize], decided: usize, out: &mut Out) -> Step {
        self.decided = decided;
        self.look(now)?;
        self.ask(true, out);
        if let Some((size, lines)) =
            self.cosigned.clone().filter(|(size, _)| *size > self.member().watermark())
        {
            out.push((Party::Hub(self.asks()), Message::Cosign(size, lines)));
        }
        for (id, held) in self.held.iter().take(MOST) {
            let own = self.disk.kept.outbox.contains_key(id);
            if own || now - held.since > OVERDUE / 4 {
                out.push((Party::Hub(self.asks()), Message::Submit(*id, held.bytes.clone())));
            }
        }
        self.accept(now)?;
        self.hand_over(out)?;
        if self.member().watermark() < self.member().log.size() {
            // A hub that does not know what is in force could not tell what is after a change of members.
            out.push((Party::Hub(self.asks()), Message::InForce(self.word(false).in_force.into())));
        }
        let word = Rc::new(self.word(self.member().restored.is_some()));
        for peer in peers {
            out.push((Party::Member(*peer), Message::Word(word.clone())));
        }
        Ok(())
    }

    /// The hub that it asks: no further than the one after its term, which knows how that term ended.
    fn asks(&self) -> usize {
        let term = self.machine.as_ref().map_or(0, |m| m.log.roster().term) as usize;
        self.hub.min(term)
    }

    fn ask(&self, again: bool, out: &mut Out) {
        let machine = self.member();
        let (size, root) = (machine.log.size(), machine.log.tree().root());
        let sealed = machine.watermark();
        // A poll that ran out is answered with what there is.
        let waits = again && sealed < size;
        out.push((Party::Hub(self.asks()), Message::Sync { size, root, sealed, waits }));
        // With fewer entries than it cosigned, since its copy is an old one, it asks the hub of that term too: that may be
        // the only one to have them, and no other can begin without them.
        let term = machine.log.roster().term;
        let ended = term.saturating_sub(1) as usize;
        if machine.cosigned.is_some_and(|c| c.term == term && c.size > size) && ended != self.asks() {
            out.push((Party::Hub(ended), Message::Sync { size, root, sealed, waits }));
        }
    }

    fn word(&self, asks: bool) -> Word {
        let machine = self.member();
        let notes = &self.disk.kept.notes;
        let claim = match notes.get(COSIGNED) {
            _ if machine.restored.is_some() => None,
            None => Some(None),
            // What it only knows from others it does not claim.
            Some(text) => text.split_once('\n').map(|(_, note)| Some(note.to_owned())),
        };
        let mut in_force: Vec<String> = machine.seals.values().cloned().collect();
        in_force.extend(notes.get(IN_FORCE).cloned());
        let term = machine.log.roster().term;
        Word {
            claim,
            in_force,
            held: if self.has(Sabotage::NoExchange) {
                Vec::new()
            } else {
                self.held.iter().take(MOST).map(|(id, h)| (*id, h.bytes.clone())).collect()
            },
            signoffs: self.signoffs.iter().filter(|((t, _), _)| *t == term).map(|(_, b)| b.clone()).collect(),
            hub: self.hub,
            asks,
        }
    }

    /// Looks which statements are overdue.
    fn look(&mut self, now: i64) -> Step {
        let Some(machine) = &self.machine else { return Ok(()) };
        let roster = machine.log.roster();
        let need = roster.f as usize + 1;
        for held in self.held.values_mut() {
            let operators = held.by.iter().filter_map(|id| roster.members.get(id)).map(|k| &k.operator);
            if operators.collect::<BTreeSet<_>>().len() >= need {
                // A clock that was ahead does not hold this up.
                let known = held.known.get_or_insert(now);
                *known = now.min(*known);
            }
        }
        // What would be void by now is nothing that a hub could still record.
        let late = self.held.iter().filter(|(_, h)| h.known.is_some_and(|t| t + OVERDUE <= now));
        let late: Vec<Digest> = late.map(|(id, _)| *id).collect();
        let (void, late) = late.into_iter().partition(|id| self.is_void(id));
        self.overdue = late;
        for id in void {
            self.given_up(id)?;
        }
        Ok(())
    }

    /// Takes a message.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn take(&mut self, from: Party, message: &Message, now: i64, out: &mut Out) -> Step {
        match message {
            Message::Show(show) => {
                let before = (self.member().log.size(), self.member().watermark());
                self.show(show, now)?;
                if let Some(lines) = self.cosign(&show.note, now)? {
                    out.push((Party::Hub(self.asks()), lines));
                }
                for note in &show.sealed {
                    self.raise(note)?;
                }
                // What is refused is not asked for again at once.
                let after = (self.member().log.size(), self.member().watermark());
                if Party::Hub(self.asks()) == from && before != after {
                    self.ask(false, out);
                }
                Ok(())
            }
            Message::Sync { size, root, .. } => {
                self.show_to(from, *size, *root, out);
                Ok(())
            }
            Message::Refused(id) => self.refused(*id),
            Message::Word(word) => self.hear(from, word, now, out),
            _ => Ok(()),
        }
    }

    /// What the hub calls void is given up if it is.
    fn refused(&mut self, id: Digest) -> Step {
        if self.held.contains_key(&id) && self.is_void(&id) { self.given_up(id) } else { Ok(()) }
    }

    /// Whether a statement that it holds would be void by now.
    pub fn is_void(&self, id: &Digest) -> bool {
        let log = &self.member().log;
        let signed = self.held.get(id).and_then(|h| SignedStatement::from_bytes(&h.bytes).ok());
        signed.is_some_and(|s| log.roster().after(log.size(), &Entry::new(0, s)).is_err())
    }

    fn given_up(&mut self, id: Digest) -> Step {
        self.held.remove(&id);
        self.facts.push(Fact::GivenUp(id));
        self.disk.dequeue(id)
    }

    /// Takes in what a hub shows: more of the same history, or that of a later term.
    fn show(&mut self, show: &Show, now: i64) -> Step {
        let log = &self.member().log;
        let (size, first) = (log.size(), show.first);
        if first > size {
            return Ok(());
        }
        let known = |(index, leaf): &(u64, &Vec<u8>)| log.tree().leaf(*index) == Some(leaf_hash(leaf));
        let same = (first..).zip(&show.leaves).take_while(known).count();
        let rest = &show.leaves[same..];
        let at = first + same as u64;
        if rest.is_empty() {
            if at == size
                && let Some(machine) = &mut self.machine
            {
                machine.head_at = now;
            }
            return Ok(());
        }
        let to = at + rest.len() as u64;
        if at == size {
            self.with(|m, d| m.extend(&show.note, rest, now, d))?;
        } else {
            let cut = self.with(|m, d| m.turn(at, &show.note, rest, now, d))?;
            let keeps = !self.has(Sabotage::DropsCut);
            let log = &self.member().log;
            let stays: BTreeSet<Digest> = log.entries()[..at as usize].iter().map(EntryBytes::id).collect();
            for leaf in cut.into_iter().flatten().filter(|e| keeps && !stays.contains(&e.id())) {
                let entry = leaf.entry();
                let (id, bytes): (_, Rc<[u8]>) = (entry.signed.id(), entry.signed.to_bytes().into());
                self.recorded.remove(&id);
                if entry.signed.statement().r#type != OPEN {
                    self.disk.queue(id, bytes.clone())?;
                    self.hold(id, bytes, now);
                }
            }
        }
        if self.member().log.size() == to {
            self.head = Some((to, show.note.clone()));
        }
        let entries = self.member().log.entries();
        let new: Vec<Digest> = entries.iter().skip(at as usize).map(EntryBytes::id).collect();
        for id in new {
            self.disk.dequeue(id)?;
            self.held.remove(&id);
            self.recorded.insert(id);
        }
        self.hub = self.hub.max(self.member().log.roster().term.saturating_sub(1) as usize);
        Ok(())
    }

    /// Cosigns a checkpoint, if nothing that others hold is missing.
    fn cosign(&mut self, note: &str, now: i64) -> Result<Option<Message>, Down> {
        self.look(now)?;
        let Ok(checkpoint) = SignedCheckpoint::parse(note) else { return Ok(None) };
        let size = checkpoint.checkpoint().size();
        let machine = self.member();
        if size > machine.log.size() {
            return Ok(None);
        }
        if !self.overdue.is_empty() && !self.has(Sabotage::CosignsOverdue) {
            self.held_back += 1;
            return Ok(None);
        }
        let roster = machine.log.roster();
        let mut keys = Vec::new();
        for electorate in roster.electorates(machine.watermark(), size).into_iter().rev() {
            let key = electorate.members.get(&self.id).map(|c| c.key);
            if let Some(key) = key.filter(|k| !keys.contains(k) && !self.lost.contains(k)) {
                keys.push(key);
            }
        }
        let Some(key) = keys.first().and_then(secret_of) else { return Ok(None) };
        let fence = self.member().signed_off;
        if self.has(Sabotage::NoFence)
            && let Some(machine) = &mut self.machine
        {
            machine.signed_off = 0;
        }
        let lines = self.with(|m, d| m.cosign(&checkpoint, &*key, now, d))?;
        if let Some(machine) = &mut self.machine {
            machine.signed_off = fence;
        }
        let Some(mut lines) = lines.filter(|l| !l.is_empty()) else { return Ok(None) };
        // Its old key still counts for the era that ends.
        for old in keys.iter().skip(1).filter_map(secret_of) {
            let seconds = u64::try_from(now / 1000).unwrap_or(0);
            lines.extend(Cosignature::sign(checkpoint.checkpoint(), &self.id, seconds, &old));
        }
        let term = self.member().log.roster().electorate_at(size).map_or(0, |e| e.term);
        self.facts.push(Fact::Cosigned { size, term });
        let lines: Rc<[String]> = lines.iter().map(Cosignature::to_line).collect();
        self.cosigned = Some((size, lines.clone()));
        Ok(Some(Message::Cosign(size, lines)))
    }

    fn raise(&mut self, note: &str) -> Step {
        let size = size_of(note);
        if size > self.member().log.size() || size < self.member().watermark() {
            return Ok(());
        }
        let known = self
            .member()
            .in_force
            .as_ref()
            .is_some_and(|e| e.size() == size && !self.rereads.is_multiple_of(8));
        self.rereads += 1;
        if known {
            return Ok(());
        }
        let Ok(checkpoint) = SignedCheckpoint::parse(note) else { return Ok(()) };
        if self.has(Sabotage::OldEraIgnored)
            && let Some(machine) = &mut self.machine
            && let Ok(Standing::InForce(evidence)) = machine.log.standing_above(&checkpoint, size)
        {
            machine.in_force = Some(evidence);
            return Ok(());
        }
        self.with(|m, d| m.raise(&checkpoint, d)).map(drop)
    }

    /// Accepts what is on the agenda.
    fn accept(&mut self, now: i64) -> Step {
        let roster = self.member().log.roster();
        if !roster.members.contains_key(&self.id) {
            return Ok(());
        }
        let wanted = |c: &Change| self.agenda.contains(c) && c.about().as_ref() != Some(&self.id);
        let mut open = Vec::new();
        for (id, proposal) in &roster.proposals {
            let waits = proposal.done.is_none() && !proposal.accepted.contains(&self.id);
            if waits && wanted(&proposal.change) && !self.accepted.contains(id) {
                open.push(*id);
            }
        }
        for id in open {
            self.accepted.insert(id);
            if let Some(signed) = self.sign(ACCEPT, &BTreeMap::from([("proposal".to_owned(), id)])) {
                self.take_on(&signed, now)?;
            }
        }
        Ok(())
    }

    fn hear(&mut self, from: Party, word: &Word, now: i64, out: &mut Out) -> Step {
        let Party::Member(peer) = from else { return Ok(()) };
        let peer = member_id(peer);
        self.hub = self.hub.max(word.hub);
        for note in &word.in_force {
            self.raise(note)?;
        }
        let mut signoffs = Vec::new();
        for bytes in &word.signoffs {
            let before = self.member().signed_off;
            if self.with(|m, d| m.remember(bytes, d))? == Some(true) && self.member().signed_off > before {
                self.facts.push(Fact::SignedOff(self.member().signed_off));
            }
            let claim = Claim::read(bytes, self.member().log.roster());
            if let Ok(claim) = claim.or_else(|_| Claim::read(bytes, &self.settled())) {
                signoffs.push(((claim.said.term, claim.issuer), bytes.clone()));
            }
        }
        self.signoffs.extend(signoffs);
        let own = self.disk.kept.notes.get(COSIGNED).and_then(|t| t.split_once('\n'));
        let same = |claim: &String| own.is_some_and(|(_, note)| note == claim);
        let asked = self.member().restored.is_some();
        if let Some(claim) = word.claim.as_ref().filter(|c| asked || !c.as_ref().is_some_and(same)) {
            let claim = claim.as_ref().and_then(|n| SignedCheckpoint::parse(n).ok());
            if let Some(claim) = &claim {
                let (size, root) = (claim.checkpoint().size(), claim.checkpoint().root());
                let log = &self.member().log;
                let fork = log.tree().root_at(size).is_ok_and(|ours| ours != root);
                // A hub that does not show it the record is not the only one that has it.
                if size > log.size() && now % 2 == 0 {
                    let (size, root, sealed) = (log.size(), log.tree().root(), self.member().watermark());
                    out.push((from, Message::Sync { size, root, sealed, waits: false }));
                }
                self.forks_seen += u64::from(fork);
            }
            if self.member().restored.is_some() {
                self.with(|m, d| m.told(&peer, claim.as_ref(), d))?;
            }
        }
        for (id, bytes) in &word.held {
            self.hear_of(*id, bytes, &peer, now);
        }
        if word.asks {
            out.push((from, Message::Word(Rc::new(self.word(false)))));
        }
        Ok(())
    }

    /// Another says that it holds a statement.
    fn hear_of(&mut self, id: Digest, bytes: &Rc<[u8]>, peer: &str, now: i64) {
        if let Some(held) = self.held.get_mut(&id) {
            held.by.insert(peer.to_owned());
            return;
        }
        let log = &self.member().log;
        let Ok(signed) = SignedStatement::from_bytes(bytes) else { return };
        if signed.id() != id
            || self.recorded.contains(&id)
            || log.roster().after(log.size(), &Entry::new(0, signed)).is_err()
        {
            return;
        }
        self.hold(id, bytes.clone(), now);
        self.held.entry(id).and_modify(|h| {
            h.by.insert(peer.to_owned());
        });
    }

    /// Signs off the present term, and begins the next if enough have.
    fn hand_over(&mut self, out: &mut Out) -> Step {
        let machine = self.member();
        let term = machine.log.roster().term;
        let hub = term as usize;
        let info = hub_info(hub);
        // Until its end is in force it is a member, and so is it that will be one: the base may be on either side.
        let settled = self.settled();
        let belongs = |roster: &Roster| roster.members.contains_key(&self.id);
        if term == 0 || hub > self.decided || !belongs(&settled) && !belongs(machine.log.roster()) {
            return Ok(());
        }
        // Entries that have come since may have changed its key.
        let own = self.signoffs.get(&(term, self.id.clone()));
        let holds = |bytes: &[u8], roster: &Roster| !belongs(roster) || Claim::read(bytes, roster).is_ok();
        if own.is_none_or(|bytes| !holds(bytes, machine.log.roster()) || !holds(bytes, &settled)) {
            // A new key counts if the base is above its entry, and the old one if it is below: both sign.
            let mut keys = Vec::new();
            for roster in [machine.log.roster(), &settled] {
                let key = roster.keys(&self.id).map(|k| k.sign);
                keys.extend(key.filter(|k| !keys.contains(k) && !self.lost.contains(k)));
            }
            let mut keys = keys.iter().filter_map(secret_of);
            let Some(key) = keys.next() else { return Ok(()) };
            let others: Vec<_> = keys.collect();
            let said = self.with(|m, d| m.sign_off(&info, &address(hub), "director", &key, d))?;
            let Some(mut said) = said else { return Ok(()) };
            if self.has(Sabotage::BaseByNotes) {
                let claim = self.member().in_force.as_ref().map(|e| bare(e.checkpoint()));
                let body = SignOff { term, next: info.clone(), address: address(hub), claim };
                said = statement(&self.id, SIGN_OFF, &body, &key);
            }
            for other in &others {
                said.add_signature(other).unwrap();
            }
            self.signoffs.insert((term, self.id.clone()), said.to_bytes().into());
            self.facts.push(Fact::SignedOff(term));
        }
        self.hub = self.hub.max(hub);
        if let Some(opened) = self.open(term) {
            out.push((Party::Hub(hub), opened));
        }
        Ok(())
    }

    /// Puts an opening together from the sign-offs that are here.
    fn open(&mut self, term: u32) -> Option<Message> {
        let log = self.member().log.clone();
        let all: Vec<Vec<u8>> =
            self.signoffs.iter().filter(|((t, _), _)| *t == term).map(|(_, b)| b.to_vec()).collect();
        // Who may sign off follows from the entries that stay, and these follow from the sign-offs: what is in force
        // stays in any case.
        self.no_base = false;
        let begun = self.open_from(&all, &log, log.size());
        if begun.is_some() || self.member().watermark() == log.size() {
            return begun;
        }
        let (no_opening, no_base) = (self.no_opening.take(), std::mem::take(&mut self.no_base));
        let begun = self.open_from(&all, &log, self.member().watermark());
        if begun.is_none() {
            self.no_base |= no_base;
            // That two histories could be in force is more than that too few have spoken.
            let fork = |why: &TermError| matches!(why, TermError::Fork { .. });
            if !self.no_opening.as_ref().is_some_and(fork) {
                self.no_opening = no_opening;
            }
        }
        begun
    }

    /// Looks for a base from which the same base follows, beginning at this size.
    fn open_from(&mut self, all: &[Vec<u8>], log: &record::Log, from: u64) -> Option<Message> {
        let mut roster = Roster::fold(log.entries()[..from as usize].iter().map(EntryBytes::entry)).0;
        let mut size = from;
        for turns in 0..4 {
            let valid: Vec<Vec<u8>> =
                all.iter().filter(|b| Claim::read(b, &roster).is_ok()).cloned().collect();
            let opening = match Opening::make(&valid, log.tree(), &roster) {
                Ok(opening) => opening,
                Err(why) => {
                    self.no_opening = Some(why);
                    return None;
                }
            };
            if opening.base != size {
                self.no_base = turns == 3;
                size = opening.base;
                roster = Roster::fold(log.entries()[..size as usize].iter().map(EntryBytes::entry)).0;
                continue;
            }
            self.no_opening = None;
            let key = secret_of(&roster.keys(&self.id)?.sign)?;
            let signed = statement(&self.id, OPEN, &opening, &key);
            if self.loud {
                let claims = valid.iter().filter_map(|b| Claim::read(b, &roster).ok());
                let claims: Vec<_> = claims.map(|c| (c.issuer, c.at.map(|(t, size, _)| (t, size)))).collect();
                println!("{} opens at {} with {claims:?}", self.id, opening.base);
            }
            let leaves: Vec<Vec<u8>> =
                log.entries()[..size as usize].iter().map(EntryBytes::to_bytes).collect();
            let sealed = self.word(false).in_force.clone();
            let opening = signed.to_bytes().into();
            return Some(Message::Opened { leaves: leaves.into(), opening, sealed: sealed.into() });
        }
        None
    }

    /// The members and keys that are in force.
    fn settled(&self) -> Roster {
        let machine = self.member();
        Roster::fold(machine.log.entries()[..machine.watermark() as usize].iter().map(EntryBytes::entry)).0
    }

    /// Shows another member what it has beyond a size, as a hub would.
    fn show_to(&self, peer: Party, size: u64, root: Digest, out: &mut Out) {
        let Some((to, note)) = &self.head else { return };
        let log = &self.member().log;
        if *to > log.size() || size >= *to || log.tree().root_at(size).is_ok_and(|r| r != root) {
            return;
        }
        let leaves = log.entries()[size as usize..*to as usize].iter().map(EntryBytes::to_bytes).collect();
        let sealed = self.word(false).in_force;
        out.push((peer, Message::Show(Rc::new(Show { first: size, leaves, note: note.clone(), sealed }))));
    }
}

impl Actor {
    /// Whether a statement is in its copy of the record.
    pub fn has_recorded(&self, id: &Digest) -> bool {
        self.recorded.contains(id)
    }

    /// Whether it sees a statement in its copy of the record, or sees that it is left out.
    pub fn sees(&self, id: &Digest) -> bool {
        self.recorded.contains(id) || self.overdue.contains(id)
    }
}

impl Actor {
    /// Where it stands, for people who read a trace.
    pub fn shown(&self) -> String {
        let Some(m) = &self.machine else { return format!("{} is down", self.id) };
        let at = |c: record::log::Cosigned| (c.size, c.term);
        format!(
            "{}: term {} size {} in force {} cosigned {:?} signed off {} told {:?} asks hub{} decided {} held {} overdue {} outbox {} {:?} {:?} {:?}",
            self.id,
            m.log.roster().term,
            m.log.size(),
            m.watermark(),
            m.cosigned.map(at),
            m.signed_off,
            m.restored.as_ref().map(|r| r.told.keys().collect::<Vec<_>>()),
            self.hub,
            self.decided,
            self.held.len(),
            self.overdue.len(),
            self.disk.kept.outbox.len(),
            self.no_opening,
            m.halted,
            m.log.voids(),
        )
    }
}

/// The size in a note, unread.
fn size_of(note: &str) -> u64 {
    note.lines().nth(1).and_then(|line| line.parse().ok()).unwrap_or(0)
}
