//! What must hold, looked at after each step: at a node's watermark when it has flushed, at every frame that leaves.

use crate::day::Person;
use crate::founding::Question;
use crate::model::Model;
use node::Node;
use record::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use wire::SignedFrame;

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What should have held.
    pub invariant: &'static str,
    /// What was found.
    pub found: String,
    /// When, simulated milliseconds.
    pub at: i64,
}

/// Something that a release needs of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Its answer to a question beyond the guard.
    Contribution,
    /// Its half of that sum.
    Opening,
    /// The output.
    Output,
}

/// One way that a frame can take: sender, receiver, kind, place; stops also by the statement that they are of.
type Way = (usize, String, String, String, u32, u32, u32, Option<Digest>);

/// The watch.
pub(crate) struct Watch {
    names: Vec<String>,
    pub(crate) broken: Option<Broken>,
    /// Watermark that each member has flushed.
    durable: Vec<u64>,
    /// What the state is at a size.
    states: BTreeMap<u64, (u64, usize)>,
    /// Digest of the frame that went each way.
    sent: BTreeMap<Way, Digest>,
    played: BTreeSet<(usize, usize, Part)>,
    stopped: BTreeSet<usize>,
    paused: BTreeSet<usize>,
    pub(crate) told: Vec<(usize, String)>,
    pub(crate) refused: BTreeSet<String>,
    pub(crate) questions: Vec<Question>,
    /// Bytes of each member's contributions.
    pub(crate) contributed: Vec<u64>,
}

impl Watch {
    pub(crate) fn new(names: Vec<String>) -> Watch {
        Watch {
            durable: vec![0; names.len()],
            contributed: vec![0; names.len()],
            names,
            broken: None,
            states: BTreeMap::new(),
            sent: BTreeMap::new(),
            played: BTreeSet::new(),
            stopped: BTreeSet::new(),
            paused: BTreeSet::new(),
            told: Vec::new(),
            refused: BTreeSet::new(),
            questions: Vec::new(),
        }
    }

    /// The first one found is kept.
    pub(crate) fn broke(&mut self, at: i64, invariant: &'static str, found: impl Into<String>) {
        if self.broken.is_none() {
            self.broken = Some(Broken { invariant, found: found.into(), at });
        }
    }

    pub(crate) fn text(&self, study: usize) -> String {
        self.questions.get(study).map(|q| q.text(study)).unwrap_or_default()
    }

    /// A process has started.
    pub(crate) fn woke(&mut self, at: i64, m: usize, node: &Node) {
        if node.watermark() < self.durable[m] {
            let found =
                format!("{} was at {}, wakes at {}", self.names[m], self.durable[m], node.watermark());
            self.broke(at, "what is in force at a node is never undone", found);
        }
    }

    /// A node has flushed.
    pub(crate) fn flushed(&mut self, m: usize, node: &Node) {
        let size = node.watermark();
        if size == self.durable[m] {
            return;
        }
        if size < self.durable[m] {
            let found = format!("{} went from {} to {size}", self.names[m], self.durable[m]);
            self.broke(0, "what is in force at a node is never undone", found);
        }
        self.durable[m] = size;
        let digest = brief(node.state());
        match self.states.get(&size) {
            None => {
                self.states.insert(size, (digest, m));
            }
            Some((other, who)) if *other != digest => {
                let found = format!("{} and {} differ at {size}", self.names[*who], self.names[m]);
                self.broke(0, "one size in force is one state everywhere", found);
            }
            Some(_) => {}
        }
    }

    /// A frame sets out for the hub.
    pub(crate) fn leaves(&mut self, at: i64, m: usize, bytes: &[u8], model: &Model) {
        let Ok(signed) = SignedFrame::decode(bytes) else {
            return self.broke(at, "what leaves a node is a frame", self.names[m].clone());
        };
        let f = signed.frame();
        let stop = (f.kind == "stop").then_some(f.context);
        let p = &f.place;
        let way = (m, f.to.clone(), f.kind.clone(), p.study.clone(), p.run, p.stage, p.round, stop);
        let digest = Digest::of(bytes);
        if *self.sent.entry(way).or_insert(digest) != digest {
            let found =
                format!("{} to {}: {} of run {}, {}/{}", f.from, f.to, f.kind, p.run, p.stage, p.round);
            self.broke(at, "a frame is only resent verbatim", found);
        }
        if stop.is_some() {
            return;
        }
        if f.kind == "contribution" {
            self.contributed[m] += bytes.len() as u64;
        }
        let Some(study) = Question::number(&p.study) else { return };
        let words = |what| format!("{} sends {} of {} {what}", f.from, f.kind, p.study);
        if self.stopped.contains(&m) {
            self.broke(at, "nothing leaves a stopped node", words("though it is stopped"));
        }
        let part = match f.kind.as_str() {
            "contribution" => Part::Contribution,
            "opening" => Part::Opening,
            "output" => Part::Output,
            _ => return,
        };
        if part == Part::Contribution {
            if self.paused.contains(&m) {
                self.broke(at, "nothing is answered from a paused dataset", words("though it is paused"));
            }
            if model.against.contains(&(study, m)) {
                self.broke(
                    at,
                    "nothing is answered without a yes",
                    words("though its steward is against it"),
                );
            }
        }
        if p.stage > 0 || part == Part::Output {
            self.played.insert((study, m, part));
        }
    }

    pub(crate) fn has_played(&self, study: usize, m: usize, part: Part) -> bool {
        self.played.contains(&(study, m, part))
    }

    /// A command that may let things leave again is about to be given.
    pub(crate) fn may_leave(&mut self, m: usize, want: Person) {
        match want {
            Person::Resume => drop(self.stopped.remove(&m)),
            Person::Unpause => drop(self.paused.remove(&m)),
            _ => {}
        }
    }

    /// A command was answered with yes.
    pub(crate) fn told(&mut self, m: usize, want: Person, statements: &[String]) {
        match want {
            Person::Stop => drop(self.stopped.insert(m)),
            Person::Pause => drop(self.paused.insert(m)),
            _ => {}
        }
        self.told.extend(statements.iter().map(|id| (m, id.clone())));
    }

    pub(crate) fn refused(&mut self, id: &str) {
        self.refused.insert(id.to_string());
    }
}

/// Little of a state, but enough to tell two apart at each size cheaply; whole states are compared at the day's end.
fn brief(state: &charter::State) -> u64 {
    let mut hasher = DefaultHasher::new();
    let last = state.statuses.last().map(|s| format!("{s:?}"));
    let studies = state.studies.values().map(|s| (s.votes.len(), s.proposed.len(), s.runs.len()));
    (state.size, state.time, last, &state.stopped, &state.run_order, state.seen.last()).hash(&mut hasher);
    studies.for_each(|s| s.hash(&mut hasher));
    hasher.finish()
}
