//! The end of a day: the world runs on until it is quiet, then everything is compared.

use crate::WorldError;
use crate::day::Person;
use crate::founding::{Federation, Question};
use crate::watch::Part;
use crate::world::World;
use analysis::{AnalysisResult, Table};
use charter::{Phase, StudyState, VoteChoice};
use hub::Desk;
use node::Command;
use record::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// A day ends at the latest this long after everything has healed, simulated milliseconds.
const LATEST: i64 = 45 * 60_000;
/// With somebody stopped or paused, nothing may come any more; this long without an entry is quiet then.
const STANDSTILL: i64 = 130_000;
/// As [`STANDSTILL`], where some were shown a second history and will not come back by themselves.
const FORKED: i64 = 20_000;
/// Looks at how things stand this often, simulated milliseconds.
const LOOK: i64 = 2_000;

/// Where a study ended, in one word.
pub type Fate = &'static str;

impl World {
    /// Whether every node has all entries, all in force, and only waits.
    pub(crate) fn is_level(&self, size: u64) -> bool {
        self.members.iter().all(|m| {
            m.is_quiet() && m.node.as_ref().is_some_and(|n| n.size() == size && n.watermark() == size)
        })
    }

    /// Members that a second history was shown to: they keep what they cosigned, and need people to come back.
    fn misled(&self) -> BTreeSet<usize> {
        let Some(desk) = &self.hub.desk else { return BTreeSet::new() };
        let stuck = |m: &usize| {
            let node = self.members[*m].node.as_ref();
            self.lied && node.is_none_or(|n| n.watermark() != desk.size() || n.size() != desk.size())
        };
        if self.forked { (0..self.members.len()).filter(stuck).collect() } else { BTreeSet::new() }
    }

    /// Runs on until it is quiet.
    pub(crate) fn come_to_rest(&mut self) {
        let end = self.t + LATEST;
        let (mut size, mut since) = (0, self.t);
        while self.watch.broken.is_none() && self.t < end {
            self.run_for(LOOK);
            let now = self.hub.desk.as_ref().map_or(0, Desk::size);
            // One that was misled and can still write says the same again and again, so the record does not rest.
            let misled = self.misled();
            let others = (0..self.members.len()).filter(|m| !misled.contains(m));
            let level = |m: usize| self.members[m].node.as_ref().is_some_and(|n| n.watermark() == now);
            if !misled.is_empty() && self.t > end - LATEST + STANDSTILL && others.into_iter().all(level) {
                return;
            }
            if now != size {
                (size, since) = (now, self.t);
                continue;
            }
            let still = self.t - since;
            let misled = !misled.is_empty();
            let named = !self.model.stopped.is_empty() || !self.model.paused.is_empty() || misled;
            let settled = self.is_level(size) && self.all_settled();
            let enough = if misled { FORKED } else { STANDSTILL };
            if (settled && still >= LOOK) || (named && still > enough) {
                return;
            }
        }
        if self.watch.broken.is_none() {
            let found = self.unsettled();
            self.watch.broke(self.t, "the world comes to rest when everything has healed", found);
        }
    }

    fn observer(&self) -> Option<&node::Node> {
        self.members.iter().filter_map(|m| m.node.as_ref()).max_by_key(|n| n.watermark())
    }

    fn all_settled(&self) -> bool {
        let waiting = |wants: &std::collections::VecDeque<Person>| !wants.is_empty();
        if self.people.iter().any(waiting) {
            return false;
        }
        let Some(node) = self.observer() else { return false };
        let now = crate::world::EPOCH + self.t;
        self.watch.questions.iter().enumerate().all(|(study, _)| {
            let id = Question::id(study);
            let Some(s) = node.state().studies.get(&id) else { return false };
            let over = matches!(
                node.state().phase(&id, now),
                Some(
                    Phase::Released { .. }
                        | Phase::Withheld
                        | Phase::GivenUp
                        | Phase::Declined { .. }
                        | Phase::Lapsed
                        | Phase::Refused { .. }
                )
            );
            let closed = |run: &charter::Run| self.parties(s, &run.contributors).is_subset(&run.closed);
            over && s.runs.values().all(closed)
        })
    }

    fn unsettled(&self) -> String {
        let Some(node) = self.observer() else { return "nobody is up".into() };
        let now = crate::world::EPOCH + self.t;
        let phases: Vec<String> = (0..self.watch.questions.len())
            .map(|study| format!("{:?}", node.state().phase(&Question::id(study), now)))
            .collect();
        let run = |run: &charter::Run| {
            let votes = run.receipts.values().filter(|r| r.allow).count();
            let (joined, commits, closed) = (run.joined.len(), &run.commits, run.closed.len());
            let (sealed, verdict, lost) = (run.sealed, run.verdict, &run.lost);
            format!(
                "sealed {sealed:?}, allowed {votes}, joined {joined}, commits {:?}, verdict {verdict:?}, lost {lost:?}, closed {closed}",
                commits.keys()
            )
        };
        let runs: Vec<String> =
            node.state().studies.values().flat_map(|s| s.runs.values().map(run)).collect();
        let sizes: Vec<String> = self
            .members
            .iter()
            .map(|m| m.node.as_ref().map_or("down".into(), |n| format!("{}/{}", n.watermark(), n.size())))
            .collect();
        let wants: Vec<_> = self.people.iter().enumerate().filter(|(_, w)| !w.is_empty()).collect();
        format!("phases {phases:?}, runs {runs:?}, sizes {sizes:?}, people want {wants:?}")
    }

    /// Everyone with a key in a run.
    fn parties(&self, s: &StudyState, contributors: &[String]) -> BTreeSet<String> {
        let recipients = s.study.recipients.iter().filter_map(|r| match r {
            study::Recipient::Member(m) => Some(m.clone()),
            study::Recipient::Outside(_) => None,
        });
        let others = s.study.aggregators.iter().chain([&s.study.collector]).chain(contributors).cloned();
        recipients.chain(others).collect()
    }

    /// Compares everything; gives the fate of each study.
    pub(crate) fn audit(&mut self, federation: &Federation) -> Result<Vec<Fate>, WorldError> {
        let misled = self.misled();
        self.level_and_alike(&misled)?;
        self.nothing_told_is_lost(&misled);
        self.model_agrees(&misled);
        let fates = self.fates(federation, &misled);
        self.nobody_honest_is_named();
        self.keys_are_erased(&misled)?;
        Ok(fates)
    }

    fn broke(&mut self, invariant: &'static str, found: String) {
        self.watch.broke(self.t, invariant, found);
    }

    /// One size, one state, and a second fold of the hub's entries gives it too.
    fn level_and_alike(&mut self, misled: &BTreeSet<usize>) -> Result<(), WorldError> {
        let size = self.hub.desk.as_ref().map_or(0, Desk::size);
        let mut digests = BTreeMap::new();
        for m in (0..self.members.len()).filter(|m| !misled.contains(m)) {
            let Some(node) = &self.members[m].node else {
                self.broke("every node is up again", self.members[m].id.clone());
                continue;
            };
            if node.size() != size || node.watermark() != size {
                let found = format!(
                    "{} has {}, in force {}, of {size}",
                    self.members[m].id,
                    node.size(),
                    node.watermark()
                );
                self.broke("all nodes end at one size", found);
                return Ok(());
            }
            let digest = node.state().digest().map_err(|e| WorldError(e.to_string()))?;
            digests.entry(digest).or_insert_with(Vec::new).push(self.members[m].id.clone());
        }
        if misled.len() < self.members.len() {
            let mut state = charter::State::new();
            for bytes in self.entries()? {
                let entry = Entry::from_bytes(&bytes).map_err(|e| WorldError(e.to_string()))?;
                state.apply(&entry);
            }
            let digest = state.digest().map_err(|e| WorldError(e.to_string()))?;
            digests.entry(digest).or_default().push("a second fold".into());
        }
        if digests.len() > 1 {
            let found = format!("{:?}", digests.values().collect::<Vec<_>>());
            self.broke("all nodes end in one state", found);
        }
        Ok(())
    }

    fn entries(&mut self) -> Result<Vec<Vec<u8>>, WorldError> {
        let key = self.members[0].key;
        let at = hub::At {
            now: crate::world::EPOCH + self.t,
            up: std::time::Duration::from_millis(self.t.unsigned_abs()),
        };
        let desk = self.hub.desk.as_mut().ok_or_else(|| WorldError("the hub is down".into()))?;
        let peer = desk.admit(&key).ok_or_else(|| WorldError("a member is not let in".into()))?;
        let size = desk.size();
        let mut entries = Vec::new();
        while (entries.len() as u64) < size {
            let more = desk.entries(&peer, entries.len() as u64, size, at);
            let more = more.map_err(|refusal| WorldError(refusal.error))?;
            if more.is_empty() {
                break;
            }
            entries.extend(more);
        }
        Ok(entries)
    }

    fn nothing_told_is_lost(&mut self, misled: &BTreeSet<usize>) {
        for (m, id) in self.watch.told.clone() {
            let known = id.parse().ok().and_then(|id| self.hub.desk.as_ref()?.place_of(&id));
            if known.is_none() && !self.watch.refused.contains(&id) && !misled.contains(&m) {
                let found = format!("{} was told that {id} is said", self.members[m].id);
                self.broke("what a person was told is done is in the record, or refused", found);
            }
        }
    }

    /// What the model says of votes, stops and releases.
    fn model_agrees(&mut self, misled: &BTreeSet<usize>) {
        let Some(node) = self.observer() else { return };
        let state = node.state().clone();
        let mut wrong = Vec::new();
        for m in (0..self.members.len()).filter(|m| !misled.contains(m)) {
            let id = &self.members[m].id;
            // A relay that holds a statement back can have a later one of the same member recorded before it.
            if !self.lied {
                if state.stopped.contains(id) != self.model.stopped.contains(&m) {
                    wrong.push(format!("{id}: stopped on the record {}", state.stopped.contains(id)));
                }
                let paused = state.dataset("ist", id).is_some_and(|d| d.paused);
                if paused != self.model.paused.contains(&m) {
                    wrong.push(format!("{id}: paused on the record {paused}"));
                }
            }
        }
        for ((study, m), yes) in &self.model.yes {
            if misled.contains(m) {
                continue;
            }
            let vote =
                state.studies.get(&Question::id(*study)).and_then(|s| s.votes.get(&self.members[*m].id));
            let live = vote.is_some_and(|v| v.choice == VoteChoice::Yes && v.revoked.is_none());
            if live != *yes {
                wrong
                    .push(format!("{}: live yes to study {study} on the record {live}", self.members[*m].id));
            }
        }
        if !wrong.is_empty() {
            self.broke("the record holds the votes and stops that people were told of", wrong.join("; "));
        }
    }

    fn fates(&mut self, federation: &Federation, misled: &BTreeSet<usize>) -> Vec<Fate> {
        let now = crate::world::EPOCH + self.t;
        let mut fates = Vec::new();
        for study in 0..self.watch.questions.len() {
            let id = Question::id(study);
            let Some(node) = self.observer() else { return fates };
            let phase = node.state().phase(&id, now);
            let s = node.state().studies.get(&id).cloned();
            let named = !self.model.stopped.is_empty()
                || !self.model.paused.is_empty()
                || !misled.is_empty()
                || self.people.iter().any(|w| !w.is_empty());
            fates.push(match phase {
                Some(Phase::Released { .. }) => {
                    if let Some(s) = &s {
                        self.check_release(study, s, federation, misled);
                    }
                    "released"
                }
                Some(Phase::Withheld) => "withheld",
                Some(Phase::GivenUp) => "given up",
                Some(Phase::Declined { .. }) => "declined",
                Some(Phase::Lapsed) => "lapsed",
                Some(Phase::Refused { .. }) => "refused",
                _ if named => "waiting",
                other => {
                    self.broke(
                        "every study reaches an end, or waits for somebody by name",
                        format!("{other:?}"),
                    );
                    "stuck"
                }
            });
        }
        fates
    }

    /// A release was allowed by what everyone was told, and is the pooled truth.
    fn check_release(
        &mut self,
        study: usize,
        s: &StudyState,
        federation: &Federation,
        misled: &BTreeSet<usize>,
    ) {
        let ids: Vec<String> = self.members.iter().map(|m| m.id.clone()).collect();
        let number = |name: &String| ids.iter().position(|id| id == name);
        let parts = s
            .study
            .contributors
            .iter()
            .map(|m| (m, Part::Contribution))
            .chain(s.study.aggregators.iter().map(|m| (m, Part::Opening)))
            .chain([(&s.study.collector, Part::Output)]);
        let barred: Vec<String> = parts
            .filter(|(name, part)| {
                number(name).is_some_and(|m| self.model.barred.contains(&(study, m, *part)))
            })
            .map(|(name, part)| format!("{name} had ruled out its {part:?}"))
            .collect();
        if !barred.is_empty() {
            self.broke("nothing is released that somebody had ruled out", barred.join("; "));
        }
        let Some(m) = number(&s.study.requester) else { return };
        if misled.contains(&m) {
            return;
        }
        let show = Command::StudyResult { id: Question::id(study) };
        let Some(Ok(reply)) = self.act(m, |node, now| Ok(node.handle(show, now))) else { return };
        let results = reply.data.get("output").and_then(|o| o.get("results")).cloned().unwrap_or_default();
        let Ok(results) = serde_json::from_value::<Vec<AnalysisResult>>(results) else {
            // A relay that dropped the output, or a recipient that is stopped: released, and not read.
            if !self.lied && !self.model.stopped.contains(&m) {
                self.broke("who may read a release can read it", reply.text);
            }
            return;
        };
        let Some(question) = self.watch.questions.get(study).copied() else { return };
        let Some(result) = results.first() else { return };
        if let Some(off) = differs(question, &result.table, federation) {
            self.broke("a release is the pooled truth", off);
        }
    }

    fn nobody_honest_is_named(&mut self) {
        if self.lied {
            return;
        }
        for m in 0..self.members.len() {
            let Some(Ok(reply)) = self.act(m, |node, now| Ok(node.handle(Command::Status, now))) else {
                continue;
            };
            let evidence = reply.data.get("evidence").and_then(|e| e.as_array()).cloned().unwrap_or_default();
            if let Some(first) = evidence.first() {
                let found = format!("{} holds {first}", self.members[m].id);
                self.broke("nobody honest is named in evidence by anybody honest", found);
            }
        }
    }

    /// Ends every process, and looks into the stores.
    fn keys_are_erased(&mut self, misled: &BTreeSet<usize>) -> Result<(), WorldError> {
        let Some(node) = self.observer() else { return Ok(()) };
        let state = node.state().clone();
        let mut left = Vec::new();
        for m in (0..self.members.len()).filter(|m| !misled.contains(m)) {
            let Some(node) = self.members[m].node.take() else { continue };
            let parts = node.fall().map_err(|e| WorldError(e.public()))?;
            let me = self.members[m].id.clone();
            for (id, s) in &state.studies {
                for (number, run) in &s.runs {
                    let public = [
                        run.sets.get(&me),
                        run.joined.get(&me),
                        run.receipts.get(&me).and_then(|r| r.kem.as_ref()),
                    ];
                    let held =
                        public.into_iter().flatten().any(|key| matches!(parts.store.kem(key), Ok(Some(_))));
                    if run.closed.contains(&me) && held {
                        left.push(format!("{me} of {id}/{number}"));
                    }
                }
            }
            self.members[m].parts = Some(parts);
        }
        if !left.is_empty() {
            self.broke("the keys of a closed run are erased", left.join(", "));
        }
        Ok(())
    }
}

/// How a released table differs from the truth, if it does.
fn differs(question: Question, table: &Table, federation: &Federation) -> Option<String> {
    let truth = &federation.truth;
    let complete = ["death14", "aspirin"];
    let by: &[&str] = match question {
        Question::Count => &complete,
        Question::Single => &complete[..1],
        Question::Regression => {
            let Table::Logistic { coefficients, .. } = table else { return Some("no regression".into()) };
            let (beta, se) = truth.logistic("dead_dep_6m", "yes", ["age", "sex"]);
            let found = coefficients.iter().flat_map(|c| [c.estimate.to_f64(), c.se.to_f64()]);
            let wanted = beta.iter().zip(&se).flat_map(|(b, s)| [*b, *s]);
            let off: Vec<(f64, f64)> =
                found.zip(wanted).filter(|(f, w)| (f - w).abs() > 1e-8 * w.abs().max(1e-6)).collect();
            let right = off.is_empty() && coefficients.len() == beta.len() && !beta.is_empty();
            return (!right).then(|| format!("found and expected {off:?}"));
        }
    };
    let Table::Crosstab { counts, .. } = table else { return Some("no table".into()) };
    let expected: Vec<Option<u64>> = truth.counts(by, &complete).into_iter().map(Some).collect();
    (*counts != expected).then(|| format!("found {counts:?}, expected {expected:?}"))
}
