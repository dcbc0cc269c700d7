//! The world of one seed: it hands out events in the order of time, lets things go wrong and asks the watch.

use std::collections::BTreeSet;
use std::fmt::{Arguments, Write as _};

use record::roster::OPEN;
use record::term::{SIGN_OFF, SignOff, TermError, bare};
use record::{Entry, SignedCheckpoint};

use super::Sabotage;
use super::charter::{address, beginning, hub_info, key, member_id, statement};
use super::hub::Hub;
use super::member::{Actor, OVERDUE, Out};
use super::network::{Event, Message, Network, Party, Queue, Word};
use super::shelf::{Down, Kept, Trouble};
use super::storm::{Fault, START, Storm};
use super::watch::Watch;
use super::witness::Witness;

/// How often a member looks around, milliseconds.
const TICK: i64 = 2500;
/// How long after a storm everything that was said must be in force, milliseconds.
const SETTLED: i64 = 180_000;

/// What came of a seed.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub seed: u64,
    pub faults: Vec<String>,
    /// Digest of everything that happened, in order.
    pub trace: u64,
    pub events: u64,
    pub crashes: u64,
    pub restores: u64,
    pub in_force: u64,
    pub handovers: u64,
    /// Whether the hub showed two histories.
    pub forked: bool,
    pub lied: bool,
    pub liars: u64,
    pub forks_seen: u64,
    /// A hand-over that waits for people or for members who do not answer.
    pub for_people: bool,
    /// How long after the storm all was settled, milliseconds.
    pub settled: i64,
    /// Groups of writes that were found torn.
    pub torn: u64,
    /// Statements that a hub left out to the end, of which each honest member must see that.
    pub withheld: u64,
    /// How often a member did not cosign because something was withheld.
    pub held_back: u64,
    /// Steps at which a member knew that something is withheld for longer than the bound.
    pub overdue: u64,
}

struct World {
    storm: Storm,
    rng: fastrand::Rng,
    now: i64,
    queue: Queue,
    network: Network,
    hubs: Vec<Hub>,
    actors: Vec<Actor>,
    witnesses: Vec<Witness>,
    watch: Watch,
    clocks: Vec<(Party, i64)>,
    copies: Vec<Option<Kept>>,
    /// What hubs signed, for liars to claim.
    signed: Vec<SignedCheckpoint>,
    /// How many messages a hub still sends before it falls.
    last_words: Vec<Option<u32>>,
    decided: usize,
    calm_at: Option<i64>,
    sabotage: Option<Sabotage>,
    outcome: Outcome,
    loud: bool,
    line: String,
}

/// Runs a seed.
pub fn run(seed: u64, sabotage: Option<Sabotage>, loud: bool) -> Outcome {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut storm = Storm::of(&mut rng);
    storm.withhold_more(seed);
    let mut world = World::new(storm, rng, sabotage, loud);
    world.outcome.seed = seed;
    world.run();
    world.outcome
}

impl World {
    fn new(storm: Storm, rng: fastrand::Rng, sabotage: Option<Sabotage>, loud: bool) -> World {
        let first = beginning(storm.members, storm.witnesses);
        let mut hubs: Vec<Hub> = (0..storm.hubs).map(Hub::new).collect();
        for hub in &mut hubs {
            hub.flaws.receipt_first = sabotage == Some(Sabotage::ReceiptFirst);
            hub.flaws.stamps_back = sabotage == Some(Sabotage::StampsBack);
        }
        hubs[0].lies = super::hub::Lies { forks: None, ..storm.lies };
        hubs[0].liars.clone_from(&storm.liars);
        hubs[0].begin(&first.statements, START);
        let network = Network {
            drops: storm.drops,
            repeats: storm.repeats,
            delays: storm.delays,
            parted: Vec::new(),
            calm: false,
        };
        let mut world = World {
            network,
            now: START,
            queue: Queue::default(),
            actors: (0..storm.members).map(|i| Actor::new(i, first.charter, sabotage)).collect(),
            witnesses: (0..storm.witnesses).map(Witness::new).collect(),
            watch: Watch::default(),
            clocks: Vec::new(),
            copies: Vec::new(),
            signed: Vec::new(),
            last_words: vec![None; storm.hubs],
            decided: 0,
            calm_at: None,
            sabotage,
            outcome: Outcome { trace: 0xcbf2_9ce4_8422_2325, ..Outcome::default() },
            loud,
            line: String::new(),
            hubs,
            storm,
            rng,
        };
        for actor in &mut world.actors {
            actor.loud = loud;
        }
        world.begin();
        world
    }

    fn begin(&mut self) {
        let storm = format!("{:?}", self.storm);
        self.trace(format_args!("{storm}"));
        for (index, (time, _)) in self.storm.faults.iter().enumerate() {
            self.queue.at(START + time, Event::Fault(index));
        }
        for index in 0..self.actors.len() {
            let time = self.rng.i64(0..TICK / 4);
            self.queue.at(START + time, Event::Tick(Party::Member(index)));
        }
        for index in 0..self.hubs.len() {
            self.queue.at(START + 1, Event::Tick(Party::Hub(index)));
        }
    }

    fn trace(&mut self, what: Arguments<'_>) {
        self.line.clear();
        let _ = write!(self.line, "{} {what}", self.now - START);
        for byte in self.line.bytes() {
            self.outcome.trace = (self.outcome.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.loud {
            println!("{}", self.line);
        }
    }

    fn run(&mut self) {
        while let Some((time, event)) = self.queue.pop() {
            self.now = time;
            self.outcome.events += 1;
            self.step(event);
            if !self.watch.faults.is_empty() || self.over() {
                break;
            }
        }
        self.end();
    }

    fn clock(&self, party: Party) -> i64 {
        self.now + self.clocks.iter().rev().find(|(p, _)| *p == party).map_or(0, |(_, off)| *off)
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Fault(index) => {
                let fault = self.storm.faults[index].1.clone();
                self.trace(format_args!("{fault:?}"));
                self.fault(fault);
            }
            Event::Wake(party) => self.wake(party),
            Event::Tick(party) => self.tick(party),
            Event::Deliver(from, to, message) => {
                let id = match &message {
                    Message::Submit(id, _) | Message::Receipt(id, _) | Message::Refused(id) => id.short(),
                    _ => String::new(),
                };
                self.trace(format_args!("{from:?} {to:?} {}{id}", message.name()));
                self.deliver(from, to, &message);
            }
        }
    }

    fn tick(&mut self, party: Party) {
        match party {
            Party::Hub(index) => {
                let (now, mut out) = (self.clock(party), Out::new());
                let hub = &mut self.hubs[index];
                if hub.up && hub.serves {
                    hub.keep();
                    hub.publish(now + hub.lies.off, &mut out);
                }
                self.hub_done(index, Ok(()), out);
                self.queue.at(self.now + TICK, Event::Tick(party));
            }
            Party::Member(index) => {
                let later = self.rng.i64(TICK / 2..TICK * 3 / 2);
                self.queue.at(self.now + later, Event::Tick(party));
                if self.storm.liars.contains(&index) {
                    return self.liar_tick(index);
                }
                let peers = [0; 2].map(|_| self.rng.usize(0..self.actors.len()));
                let peers: BTreeSet<usize> = peers.into_iter().filter(|p| *p != index).collect();
                let peers: Vec<usize> = peers.into_iter().collect();
                let decided = self.decided;
                self.act(index, |actor, now, out| actor.tick(now, &peers, decided, out));
            }
            Party::Witness(_) => {}
        }
    }

    /// A step of an honest member: what it did is durable before anything of it leaves.
    fn act(&mut self, index: usize, step: impl FnOnce(&mut Actor, i64, &mut Out) -> Result<(), Down>) {
        let now = self.clock(Party::Member(index));
        let actor = &mut self.actors[index];
        if actor.machine.is_none() {
            return;
        }
        let mut out = Out::new();
        let mut done = step(actor, now, &mut out);
        let early = self.sabotage == Some(Sabotage::SendsBeforeFlush);
        if done.is_ok() && !early {
            done = self.actors[index].disk.flush();
        }
        if done.is_ok() {
            let facts = std::mem::take(&mut self.actors[index].facts);
            self.watch.step(&self.actors[index], &facts, &self.storm.liars, self.now);
            for (to, message) in out {
                done = self.actors[index].disk.point();
                if done.is_err() {
                    break;
                }
                self.send(Party::Member(index), to, message);
            }
        }
        if done.is_ok() && early {
            done = self.actors[index].disk.flush();
        }
        if let Err(Down(trouble)) = done {
            self.trace(format_args!("m{index} falls: {trouble:?}"));
            self.outcome.crashes += 1;
            self.watch.given_up(&self.actors[index].facts);
            self.watch.withheld.anew(index, self.now);
            self.actors[index].fall();
            self.wake_later(Party::Member(index), trouble);
        }
    }

    fn wake_later(&mut self, party: Party, trouble: Trouble) {
        let long = if trouble == Trouble::Full { 8000 } else { 4000 };
        let time = self.now + self.rng.i64(50..long);
        self.queue.at(time, Event::Wake(party));
    }

    fn wake(&mut self, party: Party) {
        let now = self.clock(party);
        match party {
            Party::Hub(index) if !self.hubs[index].up => {
                self.hubs[index].wake(now);
                if !self.hubs[index].lies.any() {
                    self.watch.check_receipts(&self.hubs[index]);
                }
                self.hub_done(index, Ok(()), Out::new());
            }
            Party::Member(index) if self.actors[index].machine.is_none() => {
                self.actors[index].disk.full = false;
                self.watch.withheld.anew(index, self.now);
                if let Err(why) = self.actors[index].wake(now) {
                    self.watch.faults.push(format!("m{index} cannot wake: {why}"));
                }
                self.act(index, |_, _, _| Ok(()));
            }
            _ => {}
        }
        self.trace(format_args!("{party:?} wakes"));
    }

    fn send(&mut self, from: Party, to: Party, message: Message) {
        for arrival in self.network.arrivals(from, to, self.now, &mut self.rng).into_iter().flatten() {
            self.queue.at(self.now + arrival, Event::Deliver(from, to, message.clone()));
        }
    }

    fn deliver(&mut self, from: Party, to: Party, message: &Message) {
        match to {
            Party::Member(index) if self.storm.liars.contains(&index) => {}
            Party::Member(index) => {
                self.tell_watch(index, from, message);
                self.act(index, |actor, now, out| actor.take(from, message, now, out));
            }
            Party::Hub(index) => self.deliver_hub(index, from, message),
            Party::Witness(index) => {
                let (now, Party::Hub(hub)) = (self.clock(to), from) else { return };
                let Message::Seek { note, old, proof } = message else { return };
                if let Some(answer) = self.witnesses[index].seek(hub, note, *old, proof, now) {
                    self.send(to, from, answer);
                }
            }
        }
    }

    /// A word that reaches a member is one that it knows from then on.
    fn tell_watch(&mut self, index: usize, from: Party, message: &Message) {
        let (Message::Word(word), Party::Member(peer)) = (message, from) else { return };
        let actor = &self.actors[index];
        let Some(machine) = &actor.machine else { return };
        for (id, bytes) in word.held.iter().filter(|(id, _)| !actor.has_recorded(id)) {
            self.watch.withheld.told(index, machine, &member_id(peer), (*id, bytes), self.now);
        }
    }

    fn deliver_hub(&mut self, index: usize, from: Party, message: &Message) {
        let now = self.clock(Party::Hub(index));
        let hub = &mut self.hubs[index];
        if !hub.up {
            return;
        }
        let mut out = Out::new();
        let done = match (message, from) {
            (Message::Opened { leaves, opening, sealed }, _) => {
                hub.open(leaves, opening, sealed, now).map(|begun| {
                    self.outcome.handovers += u64::from(begun);
                })
            }
            _ if !hub.serves => Ok(()),
            (Message::Submit(id, bytes), Party::Member(m)) => hub.submit(m, *id, bytes, now, &mut out),
            (Message::Sync { size, root, sealed, waits }, Party::Member(m)) => {
                hub.sync(m, (*size, *root, *sealed, *waits), &mut out);
                Ok(())
            }
            (Message::Cosign(size, lines), _) => {
                if let Party::Witness(w) = from {
                    hub.witnessed(w, *size);
                }
                hub.cosign(*size, lines, now, &mut out);
                Ok(())
            }
            (Message::InForce(notes), _) => {
                hub.learn(notes, now, &mut out);
                Ok(())
            }
            (Message::Seen(size), Party::Witness(w)) => {
                hub.witnessed(w, *size);
                Ok(())
            }
            _ => Ok(()),
        };
        self.hub_done(index, done, out);
    }

    /// A hub's step is done: what it signed is looked at, and what it says is sent.
    fn hub_done(&mut self, index: usize, done: Result<(), Down>, out: Out) {
        let honest = !self.hubs[index].lies.any() && self.hubs[index].lies.forks.is_none();
        for note in std::mem::take(&mut self.hubs[index].signed) {
            if honest {
                self.watch.hub_signed(index, &note);
            }
            self.signed.push(note);
        }
        for (to, message) in out {
            if let Some(left) = &mut self.last_words[index] {
                if *left == 0 {
                    self.last_words[index] = None;
                    return self.hub_falls(index, Trouble::Crash);
                }
                *left -= 1;
            }
            if let (Message::Receipt(id, place), true) = (&message, honest) {
                self.watch.receipt(index, *place, *id);
            }
            self.send(Party::Hub(index), to, message);
        }
        if let Err(Down(trouble)) = done {
            return self.hub_falls(index, trouble);
        }
        if let Some(due) = self.hubs[index].due.take() {
            let wait = (due - self.clock(Party::Hub(index)) - self.hubs[index].lies.off).max(1);
            self.queue
                .at(self.now + wait, Event::Deliver(Party::Hub(index), Party::Hub(index), Message::Seen(0)));
            self.hubs[index].due = None;
        }
    }

    fn hub_falls(&mut self, index: usize, trouble: Trouble) {
        self.trace(format_args!("hub{index} falls: {trouble:?}"));
        self.outcome.crashes += 1;
        self.hubs[index].fall();
        self.wake_later(Party::Hub(index), trouble);
    }

    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Trouble(Party::Hub(i), points, Trouble::Crash) if points % 2 == 0 => {
                self.last_words[i] = Some(points);
            }
            Fault::Trouble(Party::Hub(i), points, trouble) => self.hubs[i].fuse = Some((points / 3, trouble)),
            Fault::Trouble(Party::Member(i), points, trouble) => self.actors[i].disk.arm(points, trouble),
            Fault::Trouble(Party::Witness(_), ..) => {}
            Fault::Clock(party, off) => {
                self.clocks.push((party, off));
                self.clock_was_set(party);
            }
            Fault::Parted(side, length) => {
                let parties =
                    (0..self.actors.len()).map(Party::Member).chain((0..self.hubs.len()).map(Party::Hub));
                let sides = parties.map(|p| (p, side.contains(&p))).collect();
                self.network.parted.push((sides, self.now + length));
            }
            Fault::Copy(i) => {
                self.copies.resize(self.actors.len().max(i + 1), None);
                self.copies[i] = Some(self.actors[i].disk.kept.clone());
            }
            Fault::Restore(i) => self.restore(i),
            Fault::Fork(i) => {
                self.hubs[i].fork();
                self.hubs[i].lies = self.storm.lies;
                self.outcome.forked = true;
            }
            Fault::Wish(i, wish) if !self.storm.liars.contains(&i) => self.wish(i, &wish),
            Fault::Wish(..) => {}
            Fault::Loss(lost, by) => {
                self.actors[lost].lose_keys();
                self.watch.excuse(lost);
                self.wish(by, &super::member::Wish::Rekey(lost));
            }
            Fault::Decide(hub) => self.decided = hub,
            Fault::Calm => self.calm(),
        }
    }

    fn clock_was_set(&mut self, party: Party) {
        if let Party::Member(index) = party {
            self.watch.withheld.anew(index, self.now);
        }
    }

    fn wish(&mut self, by: usize, wish: &super::member::Wish) {
        use super::member::Wish;
        use record::Change;
        let member = |i: &usize| member_id(*i);
        let charter = beginning(self.storm.members, self.storm.witnesses).charter;
        let change = match wish {
            Wish::Suspend(i) => Some(Change::Suspend { member: member(i) }),
            Wish::Reinstate(i) => Some(Change::Reinstate { member: member(i) }),
            Wish::Expel(i) => Some(Change::Expel { member: member(i) }),
            Wish::Join(i) => Some(super::charter::with_consent(&charter, *i, 0, false)),
            Wish::Rekey(i) => Some(super::charter::with_consent(&charter, *i, 20, true)),
            Wish::Say(_) | Wish::Leave | Wish::Rotate => None,
        };
        if let Wish::Join(_) = wish {
            let index = self.actors.len();
            self.actors.push(Actor::new(index, charter, self.sabotage));
            self.queue.at(self.now + 100, Event::Tick(Party::Member(index)));
        }
        for actor in &mut self.actors {
            actor.agenda.extend(change.clone());
        }
        self.act(by, |actor, now, out| actor.wish(wish, now, out));
    }

    fn restore(&mut self, index: usize) {
        let Some(copy) = self.copies.get_mut(index).and_then(Option::take) else { return };
        if self.storm.liars.contains(&index) {
            return;
        }
        self.outcome.restores += 1;
        self.watch.restored(&self.actors[index]);
        self.watch.withheld.anew(index, self.now);
        let now = self.clock(Party::Member(index));
        self.actors[index].disk.full = false;
        self.actors[index].restore(copy, now);
        self.act(index, |_, _, _| Ok(()));
    }

    /// The storm is over: lines, disks and clocks are whole, and everyone is up.
    fn calm(&mut self) {
        self.calm_at = Some(self.now);
        self.network.calm = true;
        self.clocks.clear();
        (0..self.actors.len()).for_each(|index| self.clock_was_set(Party::Member(index)));
        for index in 0..self.actors.len() {
            self.actors[index].disk.arm(u32::MAX, Trouble::Crash);
            self.actors[index].disk.full = false;
            self.wake(Party::Member(index));
        }
        for index in 0..self.hubs.len() {
            self.hubs[index].fuse = None;
            self.last_words[index] = None;
            self.wake(Party::Hub(index));
        }
    }

    /// A member that lies says what serves the hub.
    fn liar_tick(&mut self, index: usize) {
        let id = member_id(index);
        let all = self.actors.len();
        let mut word = Word::default();
        if !self.signed.is_empty() {
            let any = self.signed[self.rng.usize(0..self.signed.len())].clone();
            word.claim = Some(self.rng.bool().then(|| bare(&any)));
        }
        let first = self.actors.iter().find_map(|a| a.machine.as_ref()).map_or(0, |m| m.log.roster().term);
        if first > 0 && self.decided >= first as usize && self.rng.bool() {
            let any =
                (!self.signed.is_empty()).then(|| bare(&self.signed[self.rng.usize(0..self.signed.len())]));
            let claim = any.filter(|_| self.rng.u32(0..4) > 0);
            let next = first as usize;
            let body = SignOff { term: first, next: hub_info(next), address: address(next), claim };
            let said = statement(&id, SIGN_OFF, &body, &key(&id, "sign", 0));
            word.signoffs.push(said.to_bytes().into());
        }
        let word = std::rc::Rc::new(word);
        let to = self.rng.usize(0..all);
        if to != index {
            self.send(Party::Member(index), Party::Member(to), Message::Word(word));
        }
    }

    fn honest(&self) -> impl Iterator<Item = &Actor> {
        self.actors.iter().filter(|a| !self.storm.liars.contains(&a.index))
    }

    /// Whether nothing more is to be awaited.
    fn over(&self) -> bool {
        let Some(calm_at) = self.calm_at else { return false };
        if self.now > calm_at + SETTLED {
            return true;
        }
        if self.decided + 1 < self.storm.hubs || !self.hubs[self.decided].serves {
            return false;
        }
        if self.withheld() {
            return self.now > calm_at + 2 * OVERDUE + 15_000;
        }
        let height = self.watch.height();
        let whole =
            |a: &Actor| a.machine.as_ref().is_some_and(|m| m.watermark() == height && m.log.size() == height);
        self.now > calm_at + 2000 && self.watch.waiting(i64::MAX).next().is_none() && self.honest().all(whole)
    }

    /// Whether a hub lies to the end.
    fn withheld(&self) -> bool {
        self.storm.hubs == 1 && self.storm.lies.any()
    }

    /// Why a hand-over did not come to its end, if that is in order.
    fn for_people(&self) -> bool {
        let last = self.storm.hubs - 1;
        if self.hubs[last].serves {
            return false;
        }
        let whys: Vec<&TermError> = self.honest().filter_map(|a| a.no_opening.as_ref()).collect();
        let fork = whys.iter().any(|w| matches!(w, TermError::Fork { .. }));
        // Witnesses count for checkpoints and do not sign off, so members alone may be too few; so may those that have
        // their keys. When the hub has shown two histories, one that was restored may not say what it has cosigned.
        let silent = |a: &Actor| self.outcome.forked && a.is_on_the_other_side();
        let able = self.honest().filter(|a| a.speaks() && !silent(a)).count();
        let few = whys.iter().any(|w| matches!(w, TermError::TooFew { need, .. } if *need as usize > able));
        fork && self.outcome.forked || few || self.honest().any(|a| a.no_base)
    }

    fn end(&mut self) {
        self.outcome.for_people = self.for_people();
        let complete = !self.withheld() && !self.outcome.for_people && self.watch.faults.is_empty();
        if self.withheld() && self.watch.faults.is_empty() {
            self.look_for_withheld();
        }
        let honest: Vec<&Actor> =
            self.actors.iter().filter(|a| !self.storm.liars.contains(&a.index)).collect();
        self.watch.end(&honest, complete);
        for hub in self.hubs.iter().filter(|h| !h.lies.any()) {
            self.watch.check_receipts(hub);
        }
        let opened =
            |leaf: &Vec<u8>| Entry::from_bytes(leaf).is_ok_and(|e| e.signed.statement().r#type == OPEN);
        assert!(self.hubs.iter().skip(1).all(|h| !h.serves || h.leaves().iter().any(opened)));
        self.outcome.faults.clone_from(&self.watch.faults);
        if self.loud {
            self.watch.waiting(i64::MAX).for_each(|(id, by)| println!("waits: {} of m{by}", id.short()));
            self.actors.iter().for_each(|a| println!("{}", a.shown()));
            self.hubs.iter().for_each(|h| println!("{}", h.shown()));
        }
        self.outcome.in_force = self.watch.height();
        self.outcome.lied = self.storm.lies.any();
        self.outcome.liars = self.storm.liars.len() as u64;
        self.outcome.forks_seen = self.actors.iter().map(|a| a.forks_seen).sum();
        self.outcome.torn = self.actors.iter().map(|a| a.disk.torn).sum();
        self.outcome.held_back = self.actors.iter().map(|a| a.held_back).sum();
        self.outcome.overdue = self.watch.withheld.looked;
        self.outcome.settled = self.calm_at.map_or(0, |t| self.now - t);
    }

    /// A statement that the hub leaves out is seen to be left out by everyone.
    fn look_for_withheld(&mut self) {
        let since = self.calm_at.unwrap_or(0);
        let waiting = self.watch.waiting(since).filter(|(id, by)| !self.actors[*by].is_void(id));
        let waiting: Vec<_> = waiting.map(|(id, by)| (*id, by)).collect();
        self.outcome.withheld = waiting.len() as u64;
        let mut blind = Vec::new();
        for actor in self.honest() {
            for (id, by) in &waiting {
                if !actor.sees(id) {
                    blind.push(format!("{} does not see that a statement of m{by} is withheld", actor.id));
                }
            }
        }
        self.watch.faults.extend(blind.into_iter().take(4));
    }
}
