//! A member's process: the real node, and the two carriers of its shell as state machines: one takes what the node
//! has queued to the hub (cosignatures, statements in order, frames together), one fetches what is new.

use crate::world::{Event, World};
use node::{Node, NodeError, Parts};
use record::PublicKey;
use std::collections::{BTreeMap, VecDeque};
use wire::api::{Cosign, Have, Mail, Sync};

/// Longest pause of a carrier whose hub is out of reach, milliseconds.
const LONGEST: i64 = 5_000;
/// A carrier's shortest pause, milliseconds.
const SHORTEST: i64 = 50;
/// How often a carrier sets out with nothing to carry, milliseconds; the served one does twice as often.
const ROUND: i64 = 1_000;
/// A checkpoint shown this short a while ago is not shown again; a node cosigns anew only after twice as long.
const FRESH: i64 = 15_000;
/// A carrier that was roused and found nothing rests this long. The served one does not; the world would be slow.
const IN_VAIN: i64 = 25;

/// A call.
#[derive(Clone)]
pub(crate) enum Request {
    Cosign(Cosign),
    Submit(Vec<u8>),
    Post(Vec<u8>),
    Sync(Have),
    Entries(u64, u64),
    Mail(u64),
}

/// What became of it.
#[derive(Clone)]
pub(crate) enum Answered {
    /// Done.
    Done,
    Sync(Sync),
    Entries(Vec<Vec<u8>>),
    Mail(Vec<Mail>),
    /// Refused for good.
    Refused(String),
    /// No answer, or one that says to come later.
    Lost,
}

impl Request {
    /// Bytes of its body.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = match self {
            Request::Cosign(message) => message.line.len() + 32,
            Request::Submit(body) | Request::Post(body) => body.len(),
            Request::Sync(_) | Request::Entries(..) | Request::Mail(_) => 0,
        };
        bytes as u64
    }
}

impl Answered {
    /// Bytes of its body.
    pub(crate) fn bytes(&self) -> u64 {
        let note = |note: &Option<String>| note.as_ref().map_or(0, String::len);
        let bytes = match self {
            Answered::Sync(news) => note(&news.checkpoint) + note(&news.sealed_checkpoint) + 96,
            Answered::Entries(entries) => entries.iter().map(|e| e.len() + 4).sum(),
            Answered::Mail(mail) => mail.iter().map(|one| one.frame.len() + 12).sum(),
            Answered::Done | Answered::Refused(_) | Answered::Lost => 0,
        };
        bytes as u64
    }
}

enum Out {
    Waiting,
    Lines(VecDeque<(u64, String)>),
    Statements(VecDeque<(String, Vec<u8>)>),
    Frames { under_way: BTreeMap<u64, i64>, failed: bool },
}

enum In {
    Waiting,
    Syncing(Have),
    Entries { have: Have, news: Sync, got: Vec<Vec<u8>> },
    Mail,
}

/// A member and its process.
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) key: PublicKey,
    pub(crate) node: Option<Node>,
    pub(crate) parts: Option<Parts>,
    /// Counts its processes.
    pub(crate) life: u32,
    /// Its clock less the world's, milliseconds.
    pub(crate) skew: i64,
    /// Out of the hub's reach.
    pub(crate) cut: bool,
    /// The next job ends the process before it has flushed.
    pub(crate) dies_early: bool,
    pub(crate) withdrawals: u64,
    /// Bytes to the hub and from it, in bodies.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Pages that its disk still has.
    pub(crate) disk: Option<u32>,
    /// What a machine that lies about flushing comes back with.
    pub(crate) first: Option<node::Store>,
    /// Checkpoints that its process was shown last, and when.
    shown: [(String, i64); 2],
    out: Out,
    out_turn: u64,
    out_pause: i64,
    out_before: i64,
    out_call: u64,
    some: bool,
    roused: bool,
    inn: In,
    in_turn: u64,
    in_pause: i64,
    in_call: u64,
}

impl Member {
    pub(crate) fn new(id: String, key: PublicKey, node: Node) -> Member {
        Member {
            id,
            key,
            node: Some(node),
            parts: None,
            life: 0,
            skew: 0,
            cut: false,
            dies_early: false,
            withdrawals: 0,
            sent: 0,
            received: 0,
            disk: None,
            first: None,
            shown: Default::default(),
            out: Out::Waiting,
            out_turn: 0,
            out_pause: SHORTEST,
            out_before: 0,
            out_call: 0,
            some: false,
            roused: false,
            inn: In::Waiting,
            in_turn: 0,
            in_pause: SHORTEST,
            in_call: 0,
        }
    }

    /// The process is gone, and its carriers with it.
    pub(crate) fn ended(&mut self) {
        self.life += 1;
        (self.out, self.inn) = (Out::Waiting, In::Waiting);
        self.shown = Default::default();
        (self.out_pause, self.in_pause) = (SHORTEST, SHORTEST);
        (self.some, self.roused, self.dies_early) = (false, false, false);
    }

    /// Sabotage: the disk has kept nothing since the start.
    pub(crate) fn forget(&mut self) {
        if let (Some(parts), Some(first)) = (&mut self.parts, &self.first)
            && let Ok(store) = first.copy()
        {
            parts.store = store;
        }
    }

    pub(crate) fn turns(&mut self) -> (u64, u64) {
        self.out_turn += 1;
        self.in_turn += 1;
        (self.out_turn, self.in_turn)
    }

    /// Whether it carries nothing and only waits for news.
    pub(crate) fn is_quiet(&self) -> bool {
        self.node.is_some() && matches!(self.out, Out::Waiting) && matches!(self.inn, In::Syncing(_))
    }

    /// Starts the process from what it kept; false if its full disk does not let it start.
    pub(crate) fn wake(&mut self, now: i64) -> Result<bool, NodeError> {
        let Some(parts) = self.parts.take() else { return Ok(false) };
        // A node that cannot start takes its store with it, so one with a full disk starts on a copy.
        let kept = match self.disk {
            Some(_) => Some(Parts {
                dir: parts.dir.clone(),
                config: parts.config.clone(),
                keys: node::keys::NodeKeys::open(&parts.dir.join("node.key"))?,
                charter: parts.charter.clone(),
                store: parts.store.copy()?,
            }),
            None => None,
        };
        parts.store.limit(self.disk)?;
        let woken = Node::wake(parts).and_then(|mut node| {
            node.reread_mail(now)?;
            node.flush()?;
            Ok(node)
        });
        match (woken, kept) {
            (Ok(node), _) => self.node = Some(node),
            (Err(e), Some(parts)) if e.is_fatal() => {
                self.parts = Some(parts);
                return Ok(false);
            }
            (Err(e), _) => return Err(e),
        }
        Ok(true)
    }
}

impl World {
    // ---- outbound ------------------------------------------------------------------------------------------

    pub(crate) fn outbound(&mut self, m: usize, life: u32, turn: u64) {
        let member = &self.members[m];
        if member.life != life || member.out_turn != turn || member.node.is_none() {
            return;
        }
        self.members[m].roused = false;
        self.pass(m);
    }

    /// Something new is to be sent.
    pub(crate) fn rouse(&mut self, m: usize) {
        self.members[m].roused = true;
        let waits = matches!(self.members[m].out, Out::Waiting) && self.members[m].out_pause == SHORTEST;
        if waits && self.t >= self.members[m].out_before {
            self.set_out(m, 1);
        }
    }

    fn set_out(&mut self, m: usize, after: i64) {
        self.members[m].out = Out::Waiting;
        self.members[m].out_turn += 1;
        let (life, turn) = (self.members[m].life, self.members[m].out_turn);
        self.later(after, Event::Outbound(m, life, turn));
    }

    fn out_failed(&mut self, m: usize) {
        let pause = self.members[m].out_pause;
        self.members[m].out_pause = (pause * 2).min(LONGEST);
        self.set_out(m, pause);
    }

    /// Takes the cosignatures and sets out.
    fn pass(&mut self, m: usize) {
        self.members[m].some = false;
        match self.ask(m, |node, _| node.take_cosignatures()) {
            Some(Ok(lines)) => {
                self.members[m].some = !lines.is_empty();
                self.members[m].out = Out::Lines(lines.into());
                self.go_on(m);
            }
            Some(Err(_)) => self.out_failed(m),
            None => {}
        }
    }

    /// The next call of the pass.
    fn go_on(&mut self, m: usize) {
        match &mut self.members[m].out {
            Out::Lines(lines) => match lines.front().cloned() {
                Some((size, line)) => self.out_request(m, Request::Cosign(Cosign { size, line })),
                None => match self.ask(m, |node, now| node.queued(now)) {
                    Some(Ok(statements)) => {
                        self.members[m].some |= !statements.is_empty();
                        self.members[m].out = Out::Statements(statements.into());
                        self.go_on(m);
                    }
                    Some(Err(_)) => self.out_failed(m),
                    None => {}
                },
            },
            Out::Statements(statements) => match statements.front().cloned() {
                Some((_, bytes)) => self.out_request(m, Request::Submit(bytes)),
                None => self.send_frames(m),
            },
            Out::Frames { .. } | Out::Waiting => {}
        }
    }

    fn out_request(&mut self, m: usize, request: Request) {
        let call = self.send(m, request);
        self.members[m].out_call = call;
    }

    fn send_frames(&mut self, m: usize) {
        match self.ask(m, |node, _| node.undelivered()) {
            Some(Ok(frames)) => {
                self.members[m].some |= !frames.is_empty();
                let mut under_way = BTreeMap::new();
                for (row, bytes) in frames {
                    self.watch.leaves(self.t, m, &bytes, &self.model);
                    self.counts.frames += 1;
                    under_way.insert(self.send(m, Request::Post(bytes)), row);
                }
                self.members[m].out = Out::Frames { under_way, failed: false };
                self.frames_done(m);
            }
            Some(Err(_)) => self.out_failed(m),
            None => {}
        }
    }

    fn frames_done(&mut self, m: usize) {
        let Out::Frames { under_way, failed } = &self.members[m].out else { return };
        if !under_way.is_empty() {
            return;
        }
        if *failed {
            return self.out_failed(m);
        }
        if self.members[m].some {
            return self.pass(m);
        }
        self.members[m].out_pause = SHORTEST;
        self.members[m].out_before = self.t + IN_VAIN;
        let after = if self.members[m].roused { IN_VAIN } else { ROUND };
        self.set_out(m, after);
    }

    /// A stop lets go of what is on its way. The hub may have it already, so it counts as handed over.
    pub(crate) fn withdraw(&mut self, m: usize) {
        let Out::Frames { under_way, .. } = &mut self.members[m].out else { return };
        for row in std::mem::take(under_way).into_values() {
            self.ask(m, |node, _| node.delivered(row));
        }
        self.frames_done(m);
    }

    // ---- inbound -------------------------------------------------------------------------------------------

    pub(crate) fn inbound(&mut self, m: usize, life: u32, turn: u64) {
        let member = &self.members[m];
        if member.life != life || member.in_turn != turn || member.node.is_none() {
            return;
        }
        match self.ask(m, |node, _| node.have()) {
            Some(Ok(have)) => {
                self.members[m].inn = In::Syncing(have);
                self.in_request(m, Request::Sync(have));
            }
            Some(Err(_)) => self.in_failed(m),
            None => {}
        }
    }

    fn in_request(&mut self, m: usize, request: Request) {
        let call = self.send(m, request);
        self.members[m].in_call = call;
    }

    fn set_in(&mut self, m: usize, after: i64) {
        self.members[m].inn = In::Waiting;
        self.members[m].in_turn += 1;
        let (life, turn) = (self.members[m].life, self.members[m].in_turn);
        self.later(after, Event::Inbound(m, life, turn));
    }

    fn in_failed(&mut self, m: usize) {
        let pause = self.members[m].in_pause;
        self.members[m].in_pause = (pause * 2).min(LONGEST);
        self.set_in(m, pause);
    }

    fn synced(&mut self, m: usize, have: Have, news: Sync) {
        match &news.checkpoint {
            Some(_) if news.size > have.size => {
                let request = Request::Entries(have.size, news.size);
                self.members[m].inn = In::Entries { have, news, got: Vec::new() };
                self.in_request(m, request);
            }
            Some(note) => {
                let note = note.clone();
                match self.show(m, 0, &note) {
                    Some(Ok(())) => self.after_entries(m, have, news),
                    Some(Err(_)) => self.in_failed(m),
                    None => {}
                }
            }
            None => self.after_entries(m, have, news),
        }
    }

    fn fetched(&mut self, m: usize, have: Have, news: Sync, got: Vec<Vec<u8>>) {
        let upto = have.size + got.len() as u64;
        if upto < news.size {
            self.members[m].inn = In::Entries { have, news: news.clone(), got };
            return self.in_request(m, Request::Entries(upto, news.size));
        }
        let Some(note) = news.checkpoint.clone() else { return };
        self.note(m, "takes entries", have.size, news.size);
        match self.act(m, |node, now| node.extend(&note, &got, now)) {
            Some(Ok(())) => self.after_entries(m, have, news),
            Some(Err(_)) => {
                self.note(m, "refuses entries", have.size, news.size);
                self.in_failed(m);
            }
            None => {}
        }
    }

    /// Shows the node a checkpoint, unless it was shown the very same a moment ago: nothing new would follow.
    fn show(&mut self, m: usize, which: usize, note: &str) -> Option<Result<(), NodeError>> {
        let (shown, at) = &self.members[m].shown[which];
        if shown == note && self.t - at < FRESH {
            return Some(Ok(()));
        }
        let done = self.act(m, |node, now| node.sealed(note, now));
        if matches!(done, Some(Ok(()))) {
            self.members[m].shown[which] = (note.to_string(), self.t);
        }
        done
    }

    fn after_entries(&mut self, m: usize, have: Have, news: Sync) {
        if let Some(note) = &news.sealed_checkpoint {
            match self.show(m, 1, note) {
                Some(Ok(())) => {}
                Some(Err(_)) => return self.in_failed(m),
                None => return,
            }
        }
        if news.mail > have.mail {
            self.members[m].inn = In::Mail;
            return self.in_request(m, Request::Mail(have.mail));
        }
        self.fetched_all(m);
    }

    fn fetched_all(&mut self, m: usize) {
        self.members[m].in_pause = SHORTEST;
        self.set_in(m, 0);
    }

    // ---- answers -------------------------------------------------------------------------------------------

    pub(crate) fn at_node(&mut self, m: usize, call: u64, answer: Answered) {
        if let Out::Frames { under_way, failed } = &mut self.members[m].out
            && let Some(row) = under_way.remove(&call)
        {
            match answer {
                Answered::Done => {
                    self.ask(m, |node, _| node.delivered(row));
                }
                _ => *failed = true,
            }
            return self.frames_done(m);
        }
        if call == self.members[m].out_call {
            self.members[m].out_call = 0;
            return self.out_answered(m, answer);
        }
        if call == self.members[m].in_call {
            self.members[m].in_call = 0;
            self.in_answered(m, answer);
        }
    }

    fn out_answered(&mut self, m: usize, answer: Answered) {
        if matches!(answer, Answered::Lost) {
            return self.out_failed(m);
        }
        match &mut self.members[m].out {
            Out::Lines(lines) => {
                lines.pop_front();
            }
            Out::Statements(statements) => {
                let Some((id, _)) = statements.pop_front() else { return };
                let refusal = match answer {
                    Answered::Refused(why) => Some(why),
                    _ => None,
                };
                if refusal.is_some() {
                    self.note(m, "has a statement refused", 0, 0);
                    self.watch.refused(&id);
                }
                if !matches!(
                    self.ask(m, |node, now| node.answered(&id, refusal.as_deref(), now)),
                    Some(Ok(()))
                ) {
                    if self.members[m].node.is_some() {
                        self.out_failed(m);
                    }
                    return;
                }
            }
            Out::Frames { .. } | Out::Waiting => return,
        }
        self.go_on(m);
    }

    fn in_answered(&mut self, m: usize, answer: Answered) {
        match (std::mem::replace(&mut self.members[m].inn, In::Waiting), answer) {
            (In::Syncing(have), Answered::Sync(news)) => self.synced(m, have, news),
            (In::Entries { have, news, mut got }, Answered::Entries(more)) if !more.is_empty() => {
                got.extend(more);
                self.fetched(m, have, news, got);
            }
            (In::Mail, Answered::Mail(mail)) => {
                for one in mail {
                    self.note(m, "takes mail", one.seq, one.frame.len() as u64);
                    match self.act(m, |node, now| node.mail(one.seq, &one.frame, now)) {
                        Some(Ok(())) => {}
                        Some(Err(_)) => return self.in_failed(m),
                        None => return,
                    }
                }
                self.fetched_all(m);
            }
            _ => self.in_failed(m),
        }
    }
}
