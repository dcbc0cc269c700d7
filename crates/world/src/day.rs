//! A day: which operations come when, drawn from the seed alone.

use crate::founding::Question;
use crate::world::{Event, World};
use node::Command;

/// Faults come within this time, milliseconds; then everything heals.
pub(crate) const FAULTS: i64 = 30_000;

/// The network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// One way, shortest and longest, milliseconds.
    pub(crate) delay: (i64, i64),
    /// Requests, and answers, that are lost, in a thousand.
    pub(crate) loss: u32,
    /// Requests that arrive twice, in a thousand.
    pub(crate) twice: u32,
}

impl Weather {
    pub(crate) const CALM: Weather = Weather { delay: (5, 30), loss: 0, twice: 0 };
}

/// What a lying relay does for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    DropsMail,
    AltersMail,
    ShufflesMail,
    RepeatsMail,
    AltersEntries,
    AltersNotes,
    LosesCosignatures,
    /// Promises statements and does not enter them.
    FalsePromises,
    /// Tells one member nothing new.
    Starve(usize),
    /// Shows the members of this mask a history of their own.
    TwoHistories(usize),
}

/// What a member's people want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Person {
    Ask(usize),
    Vote { study: usize, yes: bool },
    Revoke(usize),
    Stop,
    Resume,
    Pause,
    Unpause,
}

/// An operation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Kill(usize, i64),
    KillEarly(usize),
    KillHub(i64),
    Cut(usize, bool),
    Weather(Weather),
    Clock(usize, i64),
    HubClock(i64),
    Disk(usize, Option<u32>),
    HubDisk(Option<u32>),
    Lie(Option<Lie>),
    Wants(usize, Person),
    /// Everything heals.
    Heal,
}

/// The operations of a day, with their times, and what is asked in it.
pub(crate) struct Plan {
    pub(crate) ops: Vec<(i64, Op)>,
    pub(crate) questions: Vec<Question>,
}

/// Draws a day. Members are numbered; `holders` hold rows.
/// Clocks jump by up to `widest` milliseconds.
pub(crate) fn draw(
    rng: &mut fastrand::Rng,
    members: usize,
    asks: usize,
    holders: &[usize],
    widest: i64,
) -> Plan {
    let mut ops = Vec::new();
    let first = match rng.u32(0..24) {
        0 => Question::Regression,
        1..=6 => Question::Single,
        _ => Question::Count,
    };
    let mut questions = vec![first];
    ops.push((100, Op::Wants(asks, Person::Ask(0))));
    if rng.u32(0..5) == 0 {
        questions.push(if first == Question::Count { Question::Single } else { Question::Count });
        ops.push((rng.i64(200..8_000), Op::Wants(asks, Person::Ask(1))));
    }
    let naysayer = (rng.u32(0..16) == 0).then(|| holders[rng.usize(0..holders.len())]);
    for study in 0..questions.len() {
        for m in holders {
            let yes = !(study == 0 && naysayer == Some(*m));
            ops.push((rng.i64(150..2_500), Op::Wants(*m, Person::Vote { study, yes })));
        }
    }
    for _ in 0..rng.usize(1..=5) {
        trouble(rng, members, holders, widest, &mut ops);
    }
    if rng.u32(0..4) == 0 {
        let at = rng.i64(0..8_000);
        ops.push((at, Op::Lie(Some(lie(rng, members)))));
        ops.push((at + rng.i64(500..10_000), Op::Lie(None)));
    }
    ops.push((FAULTS, Op::Heal));
    ops.sort_by_key(|(at, _)| *at);
    Plan { ops, questions }
}

/// A day without any fault.
pub(crate) fn calm(question: Question, holders: &[usize]) -> Plan {
    let mut ops = vec![(100, Op::Wants(0, Person::Ask(0)))];
    ops.extend(holders.iter().map(|m| (200, Op::Wants(*m, Person::Vote { study: 0, yes: true }))));
    Plan { ops, questions: vec![question] }
}

/// Most of a study happens within its first seconds, and so does most trouble.
fn moment(rng: &mut fastrand::Rng) -> i64 {
    if rng.u32(0..5) > 0 { rng.i64(0..6_000) } else { rng.i64(0..FAULTS - 5_000) }
}

fn trouble(
    rng: &mut fastrand::Rng,
    members: usize,
    holders: &[usize],
    widest: i64,
    ops: &mut Vec<(i64, Op)>,
) {
    let at = moment(rng);
    let m = rng.usize(0..members);
    let holder = holders[rng.usize(0..holders.len())];
    let span = if rng.u32(0..6) == 0 { rng.i64(10_000..25_000) } else { rng.i64(50..4_000) };
    let until = (at + span).min(FAULTS - 1);
    match rng.u32(0..17) {
        0 | 1 => ops.push((at, Op::Kill(m, span))),
        2 | 3 => ops.push((at, Op::KillEarly(m))),
        4 => ops.push((at, Op::KillHub(span.min(8_000)))),
        5 | 6 => {
            for other in 0..members {
                if other == m || rng.u32(0..4) == 0 {
                    ops.push((at, Op::Cut(other, true)));
                    ops.push((until, Op::Cut(other, false)));
                }
            }
        }
        7 | 8 => {
            let slow = rng.i64(30..1_500);
            let delay = (5, 5 + slow);
            let weather = Weather { delay, loss: rng.u32(0..250), twice: rng.u32(0..150) };
            ops.push((at, Op::Weather(weather)));
            ops.push((until, Op::Weather(Weather::CALM)));
        }
        9 => {
            let by = rng.i64(-widest..widest);
            ops.push((at, Op::Clock(m, by)));
            ops.push((until, Op::Clock(m, 0)));
        }
        10 => {
            let by = rng.i64(-widest..widest);
            ops.push((at, Op::HubClock(by)));
            ops.push((until, Op::HubClock(0)));
        }
        11 => {
            ops.push((at, Op::Disk(m, Some(rng.u32(0..12)))));
            ops.push((until, Op::Disk(m, None)));
        }
        12 => {
            ops.push((at, Op::HubDisk(Some(rng.u32(0..30)))));
            ops.push((until, Op::HubDisk(None)));
        }
        13 | 14 => {
            ops.push((at, Op::Wants(m, Person::Stop)));
            if rng.u32(0..3) > 0 {
                ops.push((at + span, Op::Wants(m, Person::Resume)));
            }
        }
        15 => {
            ops.push((at, Op::Wants(holder, Person::Pause)));
            if rng.u32(0..3) > 0 {
                ops.push((at + span, Op::Wants(holder, Person::Unpause)));
            }
        }
        _ => ops.push((at, Op::Wants(holder, Person::Revoke(0)))),
    }
}

fn lie(rng: &mut fastrand::Rng, members: usize) -> Lie {
    match rng.u32(0..10) {
        0 => Lie::DropsMail,
        1 => Lie::AltersMail,
        2 => Lie::ShufflesMail,
        3 => Lie::RepeatsMail,
        4 => Lie::AltersEntries,
        5 => Lie::AltersNotes,
        6 => Lie::LosesCosignatures,
        7 => Lie::FalsePromises,
        8 => Lie::Starve(rng.usize(0..members)),
        _ => Lie::TwoHistories(rng.usize(1..1 << members) & rng.usize(1..1 << members)),
    }
}

impl World {
    /// Puts the day's operations on the clock.
    pub(crate) fn schedule(&mut self, plan: Plan) {
        for (index, (at, op)) in plan.ops.into_iter().enumerate() {
            self.ops.push(op);
            self.later(at, Event::Op(index));
        }
    }

    /// An operation's time has come.
    pub(crate) fn op(&mut self, index: usize) {
        let Some(op) = self.ops.get(index).copied() else { return };
        match op {
            Op::Kill(m, down) => self.kill(m, down),
            Op::KillEarly(m) => self.members[m].dies_early = true,
            Op::KillHub(down) => self.kill_hub(down),
            Op::Cut(m, cut) => {
                self.note(m, "is cut off, or no more", u64::from(cut), 0);
                self.members[m].cut = cut;
            }
            Op::Weather(weather) => {
                self.note_hub("weather", u64::from(weather.loss), u64::from(weather.twice));
                self.weather = weather;
            }
            Op::Clock(m, by) => {
                self.note(m, "clock off by", by.unsigned_abs(), u64::from(by < 0));
                self.members[m].skew = by;
            }
            Op::HubClock(by) => {
                self.note_hub("clock off by", by.unsigned_abs(), u64::from(by < 0));
                self.hub.skew = by;
            }
            Op::Disk(m, pages) => {
                self.note(m, "disk", u64::from(pages.unwrap_or(u32::MAX)), 0);
                self.members[m].disk = pages;
                // A disk fills or is mended between two lives of the process.
                self.kill(m, 20);
            }
            Op::HubDisk(pages) => {
                self.note_hub("disk", u64::from(pages.unwrap_or(u32::MAX)), 0);
                self.hub.disk = pages;
                self.kill_hub(20);
            }
            Op::Lie(lie) => self.lie(lie),
            Op::Wants(m, person) => {
                self.people[m].push_back(person);
                self.people(m);
            }
            Op::Heal => self.heal(),
        }
    }

    fn heal(&mut self) {
        self.note_hub("everything heals", 0, 0);
        self.weather = Weather::CALM;
        self.hub.skew = 0;
        for m in 0..self.members.len() {
            self.members[m].cut = false;
            self.members[m].skew = 0;
            self.members[m].dies_early = false;
            if self.members[m].disk.take().is_some() {
                self.kill(m, 20);
            }
        }
        if self.hub.disk.take().is_some() {
            self.kill_hub(20);
        }
        if self.lie.is_some() {
            self.lie(None);
        }
    }

    /// A member's people do what they can of what they want, in order; the rest they try again.
    pub(crate) fn people(&mut self, m: usize) {
        let wants: Vec<Person> = self.people[m].drain(..).collect();
        let mut left = Vec::new();
        let mut held = false;
        for want in wants {
            let switch = matches!(want, Person::Stop | Person::Resume | Person::Pause | Person::Unpause);
            // What was switched off first is switched on again only after that.
            if (switch && held) || !self.try_want(m, want) {
                held |= switch;
                left.push(want);
            }
        }
        self.people[m].extend(left);
        if !self.people[m].is_empty() && self.t < 20 * 60_000 + FAULTS {
            self.later(400, Event::People(m));
        }
    }

    /// Whether it is done.
    fn try_want(&mut self, m: usize, want: Person) -> bool {
        let me = self.members[m].id.clone();
        let Some(node) = &self.members[m].node else { return false };
        let study_of = |study: usize| node.state().studies.get(&Question::id(study));
        let command = match want {
            Person::Ask(study) => {
                if node.state().studies.contains_key(&Question::id(study)) {
                    return true;
                }
                Command::StudySubmit { file: "study.toml".into(), text: self.watch.text(study) }
            }
            Person::Vote { study, yes } => {
                let Some(s) = study_of(study) else { return false };
                if s.votes.contains_key(&me) {
                    return true;
                }
                match s.proposed.get(&me) {
                    None => return false,
                    Some(gate) if !gate.allow => return true,
                    Some(_) if yes => Command::DecideApprove { study: Question::id(study) },
                    Some(_) => Command::DecideRefuse { study: Question::id(study) },
                }
            }
            Person::Revoke(study) => {
                let Some(vote) = study_of(study).and_then(|s| s.votes.get(&me)) else { return false };
                if vote.choice == charter::VoteChoice::No || vote.revoked.is_some() {
                    return true;
                }
                Command::DecideRefuse { study: Question::id(study) }
            }
            Person::Stop => Command::Stop,
            Person::Resume => Command::Resume,
            Person::Pause => Command::DatasetPause { name: "ist".into() },
            Person::Unpause => Command::DatasetResume { name: "ist".into() },
        };
        self.watch.may_leave(m, want);
        let Some(Ok(reply)) = self.act(m, |node, now| Ok(node.handle(command, now))) else { return false };
        if reply.exit == 0 {
            self.note(m, "its people are told: done", want.number(), 0);
            self.watch.told(m, want, &reply.statements);
            self.model.done(m, want, &self.watch);
            return true;
        }
        self.note(m, "its people are told: no", want.number(), u64::from(reply.exit));
        if reply.text.contains("the store failed") {
            self.kill(m, 700);
        }
        false
    }
}

impl Person {
    fn number(self) -> u64 {
        match self {
            Person::Ask(study) => 10 + study as u64,
            Person::Vote { study, yes } => 20 + study as u64 * 2 + u64::from(yes),
            Person::Revoke(study) => 40 + study as u64,
            Person::Stop => 1,
            Person::Resume => 2,
            Person::Pause => 3,
            Person::Unpause => 4,
        }
    }
}
