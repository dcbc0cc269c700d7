//! The hub's process, the network to it, and the relay that may lie: a layer over the real hub, which never lies by
//! itself.

use crate::day::Lie;
use crate::process::{Answered, Request};
use crate::world::{EPOCH, Event, Sabotage, World};
use hub::{At, Books, Desk};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire::Peer;
use wire::api::{Have, Mail, Refusal, Sync};

/// How long a sync waits for news, milliseconds.
const POLL: i64 = 10_000;
/// How soon a hub that died by itself is started again, milliseconds.
const AGAIN: i64 = 900;

/// The hub and its process.
pub(crate) struct HubProcess {
    pub(crate) desk: Option<Desk>,
    pub(crate) books: Option<Books>,
    pub(crate) skew: i64,
    pub(crate) disk: Option<u32>,
    turn: u64,
    calls: u64,
    /// A second history, shown to some.
    fork: Option<(Desk, BTreeSet<usize>)>,
    /// What each member was told last.
    told: BTreeMap<usize, Sync>,
}

/// A sync that waits.
pub(crate) struct Poll {
    pub(crate) m: usize,
    life: u32,
    call: u64,
    have: Have,
}

impl HubProcess {
    pub(crate) fn new(desk: Desk) -> HubProcess {
        HubProcess {
            desk: Some(desk),
            books: None,
            skew: 0,
            disk: None,
            turn: 0,
            calls: 0,
            fork: None,
            told: BTreeMap::new(),
        }
    }
}

impl World {
    fn hub_at(&self) -> At {
        At { now: EPOCH + self.t + self.hub.skew, up: Duration::from_millis(self.t.unsigned_abs()) }
    }

    // ---- the network ---------------------------------------------------------------------------------------

    fn delay(&mut self) -> i64 {
        let (low, high) = self.weather.delay;
        self.rng.i64(low..=high)
    }

    fn chance(&mut self, permille: u32) -> bool {
        permille > 0 && self.rng.u32(0..1000) < permille
    }

    /// How long a caller waits before it knows that nothing comes.
    fn in_vain(&mut self) -> i64 {
        [300, 2_000, 15_000][self.rng.usize(0..3)]
    }

    /// A call sets out; its number.
    pub(crate) fn send(&mut self, m: usize, request: Request) -> u64 {
        self.hub.calls += 1;
        let (call, life) = (self.hub.calls, self.members[m].life);
        self.members[m].sent += request.bytes();
        let go = self.delay();
        if self.members[m].cut {
            self.later(go, Event::AtNode(m, life, call, Answered::Lost));
            return call;
        }
        if self.chance(self.weather.loss) {
            self.counts.lost_calls += 1;
            let vain = self.in_vain();
            self.later(vain, Event::AtNode(m, life, call, Answered::Lost));
            // Lost to the caller, but perhaps only late.
            if self.rng.bool() {
                let late = self.rng.i64(1..20_000);
                self.later(go + late, Event::AtHub(m, life, 0, request));
            }
            return call;
        }
        if self.chance(self.weather.twice) {
            let again = self.delay();
            self.later(go + again, Event::AtHub(m, life, 0, request.clone()));
        }
        self.later(go, Event::AtHub(m, life, call, request));
        call
    }

    /// An answer sets out.
    fn reply(&mut self, m: usize, life: u32, call: u64, answer: Answered) {
        if call == 0 {
            return;
        }
        let back = self.delay();
        if self.members[m].cut || self.chance(self.weather.loss) {
            self.counts.lost_calls += 1;
            let vain = self.in_vain();
            return self.later(back + vain, Event::AtNode(m, life, call, Answered::Lost));
        }
        self.members[m].received += answer.bytes();
        self.later(back, Event::AtNode(m, life, call, answer));
    }

    // ---- the hub -------------------------------------------------------------------------------------------

    /// A request reaches the hub.
    pub(crate) fn at_hub(&mut self, m: usize, life: u32, call: u64, request: Request) {
        let at = self.hub_at();
        let key = self.members[m].key;
        if self.members[m].cut {
            return self.reply(m, life, call, Answered::Lost);
        }
        let lie = self.lie;
        let desk = match &mut self.hub.fork {
            Some((fork, side)) if side.contains(&m) => fork,
            _ => match &mut self.hub.desk {
                Some(desk) => desk,
                None => return self.reply(m, life, call, Answered::Lost),
            },
        };
        let Some(peer) = desk.admit(&key) else {
            return self.reply(m, life, call, Answered::Refused("not let in".into()));
        };
        let answer = match request {
            Request::Sync(have) => {
                if desk.has_news(&peer, &have) && !matches!(lie, Some(Lie::Starve(who)) if who == m) {
                    answered(desk.sync(&peer, at).map(Answered::Sync))
                } else {
                    if call != 0 {
                        self.polls.insert(call, Poll { m, life, call, have });
                        self.later(POLL, Event::PollOver(call));
                    }
                    return;
                }
            }
            Request::Submit(_) if matches!(lie, Some(Lie::FalsePromises)) => Answered::Done,
            Request::Submit(body) => {
                let before = desk.size();
                let answer = desk.submit(&peer, &body, at);
                let entered = desk.size() > before;
                let size = desk.size();
                if entered {
                    self.note(m, "enters a statement", size, 0);
                }
                answered(answer.map(|_| Answered::Done))
            }
            Request::Cosign(_) if matches!(lie, Some(Lie::LosesCosignatures)) => Answered::Done,
            Request::Cosign(message) => answered(desk.cosign(&peer, &message, at).map(|()| Answered::Done)),
            Request::Post(frame) => answered(desk.post(&peer, frame, at).map(|_| Answered::Done)),
            Request::Entries(from, to) => answered(desk.entries(&peer, from, to, at).map(Answered::Entries)),
            Request::Mail(after) => answered(desk.mail(&peer, after, at).map(Answered::Mail)),
        };
        let answer = self.coloured(m, answer);
        self.reply(m, life, call, answer);
        self.after_call();
    }

    /// What every call may have set off: news for those who wait, a checkpoint that is due, the end of a hub whose
    /// store failed.
    fn after_call(&mut self) {
        if self.hub.desk.as_ref().is_some_and(Desk::has_failed) {
            self.note_hub("its store fails", 0, 0);
            self.kill_hub(AGAIN);
        }
        self.tell_those_who_wait();
        let at = self.hub_at();
        let due = self.hub.desk.as_ref().and_then(|desk| desk.due_in(at.up));
        let fork = self.hub.fork.as_ref().and_then(|(desk, _)| desk.due_in(at.up));
        if let Some(due) = [due, fork].into_iter().flatten().min() {
            self.hub.turn += 1;
            let turn = self.hub.turn;
            self.later(i64::try_from(due.as_millis()).unwrap_or(0) + 1, Event::HubTick(turn));
        }
    }

    pub(crate) fn hub_tick(&mut self, turn: u64) {
        if self.hub.turn != turn {
            return;
        }
        let at = self.hub_at();
        if let Some(desk) = &mut self.hub.desk {
            desk.tick(at);
        }
        if let Some((fork, _)) = &mut self.hub.fork {
            fork.tick(at);
        }
        self.after_call();
    }

    fn tell_those_who_wait(&mut self) {
        let ready: Vec<u64> = self.polls.keys().copied().collect();
        for id in ready {
            let Some(poll) = self.polls.get(&id) else { continue };
            let (m, key) = (poll.m, self.members[poll.m].key);
            if matches!(self.lie, Some(Lie::Starve(who)) if who == m) {
                continue;
            }
            let Some((desk, peer)) = self.desk_of(m, key) else { continue };
            if desk.has_news(&peer, &poll.have) {
                self.poll_over(id);
            }
        }
    }

    fn desk_of(&self, m: usize, key: record::PublicKey) -> Option<(&Desk, Peer)> {
        let desk = match &self.hub.fork {
            Some((fork, side)) if side.contains(&m) => fork,
            _ => self.hub.desk.as_ref()?,
        };
        let peer = desk.admit(&key)?;
        Some((desk, peer))
    }

    /// A sync that waited is answered.
    pub(crate) fn poll_over(&mut self, id: u64) {
        let Some(poll) = self.polls.remove(&id) else { return };
        let (at, m, key) = (self.hub_at(), poll.m, self.members[poll.m].key);
        if matches!(self.lie, Some(Lie::Starve(who)) if who == m)
            && let Some(told) = self.hub.told.get(&m).cloned()
        {
            return self.reply(m, poll.life, poll.call, Answered::Sync(told));
        }
        let desk = match &mut self.hub.fork {
            Some((fork, side)) if side.contains(&m) => Some(fork),
            _ => self.hub.desk.as_mut(),
        };
        let answer = desk.and_then(|desk| {
            let peer = desk.admit(&key)?;
            Some(answered(desk.sync(&peer, at).map(Answered::Sync)))
        });
        let answer = self.coloured(m, answer.unwrap_or(Answered::Lost));
        self.reply(m, poll.life, poll.call, answer);
    }

    pub(crate) fn kill_hub(&mut self, down: i64) {
        let Some(desk) = self.hub.desk.take() else { return };
        self.counts.kills += 1;
        self.hub.books = Some(desk.fall());
        self.note_hub("falls", 0, 0);
        for poll in std::mem::take(&mut self.polls).into_values() {
            self.reply(poll.m, poll.life, poll.call, Answered::Lost);
        }
        self.later(down, Event::WakeHub);
    }

    pub(crate) fn wake_hub(&mut self) {
        let Some(books) = self.hub.books.take() else { return };
        let at = self.hub_at();
        let woken = books.limit(self.hub.disk).and_then(|()| {
            let kept = books.copy()?;
            match books.wake(at) {
                Ok(desk) => Ok(Ok(desk)),
                Err(hub::HubError::Store(_)) => Ok(Err(kept)),
                Err(e) => Err(e),
            }
        });
        match woken {
            Ok(Ok(desk)) => {
                let size = desk.size();
                self.hub.desk = Some(desk);
                self.note_hub("wakes", size, 0);
                self.after_call();
            }
            Ok(Err(kept)) => {
                self.hub.books = Some(kept);
                self.later(AGAIN, Event::WakeHub);
            }
            Err(e) => self.watch.broke(self.t, "a hub wakes from what it kept", e.to_string()),
        }
    }

    // ---- lies ----------------------------------------------------------------------------------------------

    /// The relay begins to lie, or stops.
    pub(crate) fn lie(&mut self, lie: Option<Lie>) {
        self.hub.fork = None;
        if let Some(Lie::TwoHistories(side)) = lie {
            let at = self.hub_at();
            let copy = self.hub.desk.as_ref().and_then(|desk| desk.books().copy().ok()?.wake(at).ok());
            let who = (0..self.members.len()).filter(|m| side >> m & 1 == 1).collect();
            self.forked = true;
            self.hub.fork = copy.map(|desk| (desk, who));
        }
        self.lied |= lie.is_some();
        self.lie = lie;
        self.note_hub(lie.map_or("lies no more", |_| "lies"), 0, 0);
        self.after_call();
    }

    /// The answer as it arrives: what the hub said, or what the relay makes of it.
    fn coloured(&mut self, m: usize, answer: Answered) -> Answered {
        match (answer, self.lie) {
            (Answered::Sync(mut news), lie) => {
                self.hub.told.insert(m, news.clone());
                if matches!(lie, Some(Lie::AltersNotes)) && self.rng.bool() {
                    news.checkpoint = news.checkpoint.map(|note| self.misspelt(&note));
                }
                Answered::Sync(news)
            }
            (Answered::Entries(mut entries), Some(Lie::AltersEntries)) => {
                let at = self.rng.usize(0..entries.len().max(1));
                if let Some(entry) = entries.get_mut(at) {
                    self.flip(entry);
                }
                Answered::Entries(entries)
            }
            (Answered::Mail(mail), Some(lie)) => Answered::Mail(self.mislaid(mail, lie)),
            (Answered::Mail(mail), None) if self.sabotage == Some(Sabotage::AltersFrames) => {
                Answered::Mail(self.mislaid(mail, Lie::AltersMail))
            }
            (answer, _) => answer,
        }
    }

    fn flip(&mut self, bytes: &mut [u8]) {
        let at = self.rng.usize(0..bytes.len().max(1));
        let bit = 1u8 << self.rng.u32(0..8);
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= bit;
        }
    }

    /// One letter of the root, or of the hub's signature: which letters a note has is chance, where its lines are is not.
    fn misspelt(&mut self, note: &str) -> String {
        let line = if self.rng.bool() { 2 } else { 4 };
        let turned = |(at, text): (usize, &str)| match at == line {
            true => {
                let (kept, last) = text.split_at(text.len().saturating_sub(12));
                kept.to_string()
                    + &last.replacen(|_: char| true, if last.starts_with('A') { "B" } else { "A" }, 1)
            }
            false => text.to_string(),
        };
        let lines: Vec<String> = note.split('\n').enumerate().map(turned).collect();
        lines.join("\n")
    }

    fn mislaid(&mut self, mut mail: Vec<Mail>, lie: Lie) -> Vec<Mail> {
        match lie {
            Lie::DropsMail => mail.retain(|_| self.rng.bool()),
            Lie::AltersMail => {
                for one in &mut mail {
                    if self.rng.u32(0..4) == 0 {
                        self.flip(&mut one.frame);
                    }
                }
            }
            Lie::ShufflesMail => {
                let mut frames: Vec<Vec<u8>> = mail.iter().map(|one| one.frame.clone()).collect();
                self.rng.shuffle(&mut frames);
                for (one, frame) in mail.iter_mut().zip(frames) {
                    one.frame = frame;
                }
            }
            Lie::RepeatsMail => {
                let first = mail.first().map(|one| one.frame.clone());
                for one in mail.iter_mut().skip(1) {
                    if let Some(frame) = &first
                        && self.rng.u32(0..4) == 0
                    {
                        one.frame.clone_from(frame);
                    }
                }
            }
            _ => {}
        }
        mail
    }
}

fn answered(answer: Result<Answered, Refusal>) -> Answered {
    match answer {
        Ok(answer) => answer,
        Err(refusal) if refusal.status == 429 || refusal.status >= 500 => Answered::Lost,
        Err(refusal) => Answered::Refused(format!(
            "{}: found {}, expected {}",
            refusal.error, refusal.found, refusal.expected
        )),
    }
}
