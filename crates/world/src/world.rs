//! The world's state and its loop: one queue of events in simulated time, one generator of chance.

use crate::day::{Lie, Op, Person, Plan, Weather};
use crate::hubside::{HubProcess, Poll};
use crate::model::Model;
use crate::process::{Answered, Member, Request};
use crate::trace::{HUB, Trace};
use crate::watch::Watch;
use crate::{Federation, Question, Report, WorldError};
use node::{Node, NodeError};
use std::collections::{BTreeMap, VecDeque};

/// 2 March 2026, 23:00 UTC: an hour before midnight.
pub(crate) const EPOCH: i64 = 1_772_492_400_000;
/// Clock ticks of a quiet node, milliseconds; its shell ticks four times as often, which changes nothing but the cost.
pub(crate) const TICK: i64 = 1_000;
/// How soon a process that died by itself is started again, milliseconds.
const AGAIN: i64 = 700;

/// What can happen.
pub(crate) enum Event {
    /// A quiet node's clock ticks. The second number is its incarnation.
    Tick(usize, u32),
    /// A node's outbound carrier sets out: incarnation, turn.
    Outbound(usize, u32, u64),
    /// A node's inbound carrier sets out: incarnation, turn.
    Inbound(usize, u32, u64),
    /// A request reaches the hub.
    AtHub(usize, u32, u64, Request),
    /// An answer, or the news that there will be none, reaches a node.
    AtNode(usize, u32, u64, Answered),
    /// A long poll has waited long enough.
    PollOver(u64),
    /// The hub has something to do without a call.
    HubTick(u64),
    /// A process is started again.
    Wake(usize),
    /// The hub is.
    WakeHub,
    /// An operation of the day.
    Op(usize),
    /// A member's people look at their list.
    People(usize),
}

/// Everything there is.
pub struct World {
    pub(crate) t: i64,
    pub(crate) rng: fastrand::Rng,
    queue: BTreeMap<(i64, u64), Event>,
    seq: u64,
    pub(crate) members: Vec<Member>,
    pub(crate) hub: HubProcess,
    pub(crate) polls: BTreeMap<u64, Poll>,
    pub(crate) weather: Weather,
    pub(crate) lie: Option<Lie>,
    pub(crate) lied: bool,
    /// Somebody was shown a second history.
    pub(crate) forked: bool,
    pub(crate) ops: Vec<Op>,
    pub(crate) people: Vec<VecDeque<Person>>,
    pub(crate) model: Model,
    pub(crate) watch: Watch,
    /// What happened.
    pub trace: Trace,
    pub(crate) counts: Counts,
    pub(crate) sabotage: Option<Sabotage>,
    /// How far clocks jump, milliseconds.
    pub(crate) widest: i64,
}

/// How far clocks jump: two that are off against each other stay within what a stamp may be off.
const WIDEST: i64 = 25_000;
/// How far they jump on a wild day.
const WILD: i64 = 150_000;

/// A fault put in by hand, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A store whose machine says that it has flushed and has not: every kill loses everything since the start.
    ForgetsFlushed,
    /// Frames are altered on their way, by a relay that counts as honest.
    AltersFrames,
    /// The model is told of a stop that no member said.
    HearsAStop,
    /// Clocks jump by minutes. No fault of anybody's; what comes of it is known, and waits to be mended.
    WildClocks,
}

/// How much happened in a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events taken from the queue.
    pub events: u64,
    /// Processes that died, the hub's among them.
    pub kills: u64,
    /// Calls that got no answer.
    pub lost_calls: u64,
    /// Entries in the record at the end.
    pub entries: u64,
    /// Frames that left members.
    pub frames: u64,
    /// Simulated milliseconds.
    pub simulated: i64,
}

impl World {
    pub(crate) fn new(seed: u64, t: i64, members: Vec<Member>, hub: HubProcess, names: Vec<String>) -> World {
        let people = members.iter().map(|_| VecDeque::new()).collect();
        let mut world = World {
            t,
            rng: fastrand::Rng::with_seed(seed),
            queue: BTreeMap::new(),
            seq: 0,
            watch: Watch::new(names.clone()),
            members,
            hub,
            polls: BTreeMap::new(),
            weather: Weather::CALM,
            lie: None,
            lied: false,
            forked: false,
            ops: Vec::new(),
            people,
            model: Model::default(),
            trace: Trace::new(names),
            counts: Counts::default(),
            sabotage: None,
            widest: WIDEST,
        };
        for m in 0..world.members.len() {
            world.start(m);
        }
        world
    }

    /// Runs until what the hub has is in force at every node; whether it came to that within a simulated minute.
    pub fn until_in_force(&mut self) -> bool {
        self.until(60_000, |world| {
            let size = world.hub.desk.as_ref().map_or(0, hub::Desk::size);
            world.members.iter().all(|m| m.node.as_ref().is_some_and(|n| n.watermark() == size))
        })
    }

    /// Runs until the hub has one entry more than now.
    pub fn until_entered(&mut self) -> bool {
        let size = |world: &World| world.hub.desk.as_ref().map_or(0, hub::Desk::size);
        let before = size(self);
        self.until(60_000, |world| size(world) > before)
    }

    /// Runs until it is so; whether it came to that within so many simulated milliseconds.
    fn until(&mut self, most: i64, so: impl Fn(&World) -> bool) -> bool {
        let end = self.t + most;
        while self.watch.broken.is_none() && self.step(end) {
            if so(self) {
                return true;
            }
        }
        so(self)
    }

    /// Asks a study whose contributors are `holders`, has all of them say yes, and runs until it is released and the
    /// record of it is in force everywhere; whether it came to that.
    pub fn answer_study(&mut self, text: &str, study: &str, holders: &[usize]) -> Result<bool, WorldError> {
        self.must(0, node::Command::StudySubmit { file: "study.toml".into(), text: text.into() })?;
        let waits = |world: &World| {
            let spoken = |m: &usize| {
                let member = &world.members[*m];
                let node = member.node.as_ref();
                let s = node.and_then(|n| n.state().studies.get(study));
                s.is_some_and(|s| s.proposed.contains_key(&member.id))
            };
            holders.iter().all(spoken)
        };
        if !self.until(600_000, waits) {
            return Ok(false);
        }
        for m in holders {
            self.must(*m, node::Command::DecideApprove { study: study.into() })?;
        }
        let released = |world: &World| {
            let has = |n: &Node| {
                n.state().studies.get(study).is_some_and(|s| s.runs.values().any(|r| r.release.is_some()))
            };
            world.members.iter().all(|m| m.node.as_ref().is_some_and(has))
        };
        Ok(self.until(3_600_000, released))
    }

    /// Bytes that each member sent to the hub, bytes that it got from it, and bytes of its contributions.
    pub fn traffic(&self) -> Vec<(u64, u64, u64)> {
        let all = self.members.iter().zip(&self.watch.contributed);
        all.map(|(m, contributed)| (m.sent, m.received, *contributed)).collect()
    }

    /// Something will happen `after` milliseconds from now.
    pub(crate) fn later(&mut self, after: i64, event: Event) {
        self.seq += 1;
        self.queue.insert((self.t + after.max(0), self.seq), event);
    }

    /// Takes the next event unless it is later than `until`; whether there was one.
    pub(crate) fn step(&mut self, until: i64) -> bool {
        let Some((&(at, seq), _)) = self.queue.first_key_value() else { return false };
        if at > until {
            self.t = self.t.max(until);
            return false;
        }
        let Some(event) = self.queue.remove(&(at, seq)) else { return false };
        self.t = self.t.max(at);
        self.counts.events += 1;
        match event {
            Event::Tick(m, life) => {
                if self.members[m].life == life && self.members[m].node.is_some() {
                    self.act(m, |_, _| Ok(()));
                    self.later(TICK, Event::Tick(m, life));
                }
            }
            Event::Outbound(m, life, turn) => self.outbound(m, life, turn),
            Event::Inbound(m, life, turn) => self.inbound(m, life, turn),
            Event::AtHub(m, life, call, request) => self.at_hub(m, life, call, request),
            Event::AtNode(m, life, call, answer) => {
                if self.members[m].life == life && self.members[m].node.is_some() {
                    self.at_node(m, call, answer);
                }
            }
            Event::PollOver(id) => self.poll_over(id),
            Event::HubTick(turn) => self.hub_tick(turn),
            Event::Wake(m) => self.wake(m),
            Event::WakeHub => self.wake_hub(),
            Event::Op(index) => self.op(index),
            Event::People(m) => self.people(m),
        }
        true
    }

    /// Runs for that long, or until an invariant breaks.
    pub(crate) fn run_for(&mut self, milliseconds: i64) {
        let until = self.t + milliseconds;
        while self.watch.broken.is_none() && self.step(until) {}
    }

    /// A member's clock.
    pub(crate) fn now(&self, m: usize) -> i64 {
        EPOCH + self.t + self.members[m].skew
    }

    /// Gives the node a job as its thread does: the job, then a tick, then everything durable together. Nothing, if
    /// the process is down or dies of it.
    pub(crate) fn act<T>(
        &mut self,
        m: usize,
        job: impl FnOnce(&mut Node, i64) -> Result<T, NodeError>,
    ) -> Option<Result<T, NodeError>> {
        self.job(m, true, job)
    }

    /// A carrier's own question, which comes together with others: no tick follows from it.
    pub(crate) fn ask<T>(
        &mut self,
        m: usize,
        job: impl FnOnce(&mut Node, i64) -> Result<T, NodeError>,
    ) -> Option<Result<T, NodeError>> {
        self.job(m, false, job)
    }

    fn job<T>(
        &mut self,
        m: usize,
        ticks: bool,
        job: impl FnOnce(&mut Node, i64) -> Result<T, NodeError>,
    ) -> Option<Result<T, NodeError>> {
        let now = self.now(m);
        let node = self.members[m].node.as_mut()?;
        let result = job(node, now);
        if std::mem::take(&mut self.members[m].dies_early) {
            self.trace.add(self.t, m, "dies before it has flushed", 0, 0);
            self.kill(m, AGAIN);
            return None;
        }
        let node = self.members[m].node.as_mut()?;
        let fatal = |e: &NodeError| e.is_fatal();
        let ended = result.as_ref().err().is_some_and(fatal)
            || (ticks && node.tick(now).as_ref().err().is_some_and(fatal))
            || node.flush().is_err();
        if ended {
            self.trace.add(self.t, m, "its store fails", 0, 0);
            self.kill(m, AGAIN);
            return None;
        }
        self.watch.flushed(m, node);
        let (withdrawals, outgoing) = (node.withdrawals(), ticks && node.take_outgoing());
        if withdrawals > self.members[m].withdrawals {
            self.members[m].withdrawals = withdrawals;
            self.withdraw(m);
        }
        if outgoing {
            self.rouse(m);
        }
        Some(result)
    }

    /// Ends a process; it starts again after a while.
    pub(crate) fn kill(&mut self, m: usize, down: i64) {
        let Some(node) = self.members[m].node.take() else { return };
        self.counts.kills += 1;
        self.members[m].ended();
        self.polls.retain(|_, poll| poll.m != m);
        match node.fall() {
            Ok(parts) => self.members[m].parts = Some(parts),
            Err(e) => self.watch.broke(self.t, "a store survives its process", e.public()),
        }
        if self.sabotage == Some(Sabotage::ForgetsFlushed) {
            self.members[m].forget();
        }
        self.trace.add(self.t, m, "falls", 0, 0);
        self.later(down, Event::Wake(m));
    }

    /// Starts a process.
    fn wake(&mut self, m: usize) {
        if self.members[m].node.is_some() {
            return;
        }
        let now = self.now(m);
        match self.members[m].wake(now) {
            Ok(true) => {}
            Ok(false) => return self.later(AGAIN, Event::Wake(m)),
            Err(e) => return self.watch.broke(self.t, "a node wakes from what it kept", e.public()),
        }
        self.start(m);
    }

    /// What a process does first.
    fn start(&mut self, m: usize) {
        let Some(node) = &self.members[m].node else { return };
        self.watch.woke(self.t, m, node);
        let (size, watermark) = (node.size(), node.watermark());
        self.members[m].withdrawals = node.withdrawals();
        self.trace.add(self.t, m, "wakes", size, watermark);
        let life = self.members[m].life;
        let (out, inn) = self.members[m].turns();
        // Processes that start together do not tick together.
        self.later(1 + m as i64 * 7, Event::Outbound(m, life, out));
        self.later(2 + m as i64 * 7, Event::Inbound(m, life, inn));
        self.later(TICK + m as i64 * 11, Event::Tick(m, life));
    }

    pub(crate) fn note(&mut self, m: usize, what: &'static str, a: u64, b: u64) {
        self.trace.add(self.t, m, what, a, b);
    }

    pub(crate) fn note_hub(&mut self, what: &'static str, a: u64, b: u64) {
        self.trace.add(self.t, usize::from(HUB), what, a, b);
    }
}

impl World {
    /// Puts a fault in.
    pub(crate) fn sabotage(
        &mut self,
        federation: &Federation,
        sabotage: Option<Sabotage>,
    ) -> Result<(), WorldError> {
        self.sabotage = sabotage;
        if sabotage == Some(Sabotage::WildClocks) {
            self.widest = WILD;
        }
        if sabotage == Some(Sabotage::HearsAStop) {
            self.model.stopped.insert(self.members.len() - 1);
        }
        if sabotage == Some(Sabotage::ForgetsFlushed) {
            for (member, store) in self.members.iter_mut().zip(federation.first_stores()?) {
                member.first = Some(store);
            }
        }
        Ok(())
    }

    /// A day on which only what is asked happens, and the stewards say yes.
    pub(crate) fn calm(self, question: Question, federation: &Federation) -> Result<Report, WorldError> {
        let plan = crate::day::calm(question, &federation.holders);
        self.live(0, plan, federation)
    }

    /// The day of the world's seed.
    pub(crate) fn day(mut self, federation: &Federation) -> Result<Report, WorldError> {
        let seed = self.rng.get_seed();
        let (members, holders) = (self.members.len(), &federation.holders);
        let plan = crate::day::draw(&mut self.rng, members, 0, holders, self.widest);
        self.live(seed, plan, federation)
    }

    /// The operations, the faults' end, the rest, the audit.
    fn live(mut self, seed: u64, plan: Plan, federation: &Federation) -> Result<Report, WorldError> {
        let began = self.t;
        let operations = plan.ops.len();
        let last = plan.ops.last().map_or(0, |(at, _)| *at);
        self.watch.questions.clone_from(&plan.questions);
        self.schedule(plan);
        self.run_for(last + 500);
        self.come_to_rest();
        let mut fates = Vec::new();
        let mut lost_runs = 0;
        if self.watch.broken.is_none() {
            let runs = |n: &Node| {
                let all = n.state().studies.values().flat_map(|s| s.runs.values());
                all.filter(|run| run.lost.is_some()).count()
            };
            lost_runs = self.members.iter().filter_map(|m| m.node.as_ref().map(runs)).max().unwrap_or(0);
            fates = self.audit(federation)?;
        }
        self.counts.simulated = self.t - began;
        self.counts.entries = self.hub.desk.as_ref().map_or(0, hub::Desk::size);
        Ok(Report {
            seed,
            broken: self.watch.broken,
            trace: self.trace,
            counts: self.counts,
            operations,
            fates,
            lost_runs,
            lied: self.lied,
        })
    }
}
