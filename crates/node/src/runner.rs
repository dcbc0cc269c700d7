//! Runs: what this node does in a run as contributor, aggregator, collector and recipient.
//!
//! Nobody chooses a question (A1). A question is a constant of the plan or follows from the opened sum of the
//! previous round by the plan's own step, which every contributor takes itself; its digest is bound into every
//! share, so a share for another question does not verify. The sums travel from the aggregators straight to the
//! contributors, so a collector has no say in them.
//!
//! Every round is a start: [`Node::may_start`] asks again for the lease, the watermark's age, stops and pauses.

mod aggregator;
mod collector;
mod contributor;

pub(crate) use contributor::rows_digest;

use crate::NodeError;
use crate::core::Node;
use crate::store::Egress;
use analysis::{AnalysisResult, Frame, Question, Step, Sums};
use charter::{Run, StudyState};
use record::Digest;
use rounds::{Aggregator, KemPublic, KemSecret, Opening, RoundContext, RoundSeed};
use std::collections::{BTreeMap, BTreeSet};
use study::{Dictionary, Plan, Recipient, StageKind, Study};
use wire::point::point;
use wire::{Frame as WireFrame, Place};

/// Frames of one aggregator that may wait for a round: three messages to its peers and an opening, and some more.
const MAX_WAITING: usize = 16;

/// A stage and a round in it.
pub(crate) type Slot = (u32, u32);

/// What this node holds of a run while it goes on; gone with the process.
pub(crate) struct RunLocal {
    pub(crate) study: Study,
    pub(crate) dictionary: Dictionary,
    pub(crate) plan: Plan,
    pub(crate) plan_digest: Digest,
    frame: Option<Frame>,
    questions: BTreeMap<Slot, (Question, Digest)>,
    contributions: BTreeMap<Slot, BTreeMap<String, (Digest, Vec<u8>)>>,
    inbox: BTreeMap<Slot, Vec<(String, String, Vec<u8>)>>,
    aggregators: BTreeMap<Slot, Aggregator>,
    openings: BTreeMap<Slot, Opening>,
    sums: BTreeMap<Slot, Sums>,
    outcomes: BTreeMap<u32, AnalysisResult>,
    done: BTreeSet<u32>,
    failed: bool,
    /// Rounds that this node is known to have answered.
    answered: BTreeSet<Slot>,
    /// This node's own judgement of the guard's sums.
    judged: Option<bool>,
    started: i64,
    progress: i64,
}

/// Digest of a question. One that follows from an opened sum is salted with the secret that the readers of that
/// sum share, since the digest travels past those who may not know it (A4).
fn question_digest(question: &Question, secret: Option<Digest>) -> Result<Digest, NodeError> {
    let mut bytes = b"comity-question/1\n".to_vec();
    if let Some(secret) = secret {
        bytes.extend(secret.as_bytes());
    }
    bytes.extend(record::canon::to_bytes(question)?);
    Ok(Digest::of(&bytes))
}

fn recipients(study: &Study) -> Vec<String> {
    let member = |r: &Recipient| match r {
        Recipient::Member(m) => Some(m.clone()),
        Recipient::Outside(_) => None,
    };
    study.recipients.iter().filter_map(member).collect()
}

impl RunLocal {
    fn kind(&self, stage: u32) -> Option<&StageKind> {
        self.plan.stages.get(stage as usize).map(|s| &s.kind)
    }

    /// Who reads the opened sum of a stage.
    fn readers(&self, stage: u32, run: &Run) -> BTreeSet<String> {
        let mut all: BTreeSet<String> = [self.study.collector.clone()].into();
        if matches!(self.kind(stage), Some(StageKind::Guard | StageKind::Iterate { .. })) {
            all.extend(run.contributors.iter().cloned());
        }
        all
    }
}

impl Node {
    /// Whether this node may take a step in a run now; the reason if not. Fails closed.
    pub(crate) fn may_start(&self, id: &str, number: u32, now: i64) -> Result<(), String> {
        if let Some(why) = &self.member.halted {
            return Err(format!("the node has halted: {why}"));
        }
        if let Some(size) = self.attesting.unverified_below() {
            return Err(format!("from a snapshot, record not yet verified below {size}"));
        }
        if self.stopped {
            return Err("the node is stopped by its operator".into());
        }
        let s = self.state.studies.get(id).ok_or("no such study")?;
        let run = s.runs.get(&number).ok_or("no such run")?;
        if run.lost.is_some() {
            return Err("the run was given up".into());
        }
        let limit = i64::from(self.charter.limits.watermark_minutes) * 60_000;
        let age = now.saturating_sub(self.watermark_time());
        if age > limit {
            return Err(format!("the watermark is {} s old, at most {} s allowed", age / 1000, limit / 1000));
        }
        if charter::document::end_of_day(&self.charter.sunset).is_none_or(|end| now >= end) {
            return Err("the charter's sunset has passed".into());
        }
        if charter::document::end_of_day(&s.study.until).is_none_or(|end| now >= end) {
            return Err("the study's last day has passed".into());
        }
        let earlier = self.state.earlier_sets(id, number, &s.study.dataset, run.first);
        let set: BTreeSet<String> = run.contributors.iter().cloned().collect();
        if !privacy::sets_compatible(&earlier, &set, self.charter.limits.min_hidden_sites) {
            return Err("the contributor set differs from earlier ones by too few sites".into());
        }
        if self.revoked.contains(id) && run.contributors.iter().any(|m| m == self.me()) {
            return Err("this member's yes was taken back".into());
        }
        for member in &run.contributors {
            if self.state.stopped.contains(member) || self.heard_stops.contains_key(member) {
                return Err(format!("`{member}` has stopped"));
            }
            if self.state.dataset(&s.study.dataset, member).is_none_or(|d| d.paused) {
                return Err(format!("the dataset at `{member}` is paused"));
            }
            let vote = s.votes.get(member);
            if vote.is_none_or(|v| v.choice != charter::VoteChoice::Yes || v.revoked.is_some()) {
                return Err(format!("no live yes of the steward at `{member}`"));
            }
            let receipt = run.receipts.get(member);
            if receipt.is_none_or(|r| !r.allow) {
                return Err(format!("no receipt of an allow at `{member}`"));
            }
            if receipt.is_none_or(|r| now >= r.lease_until) {
                return Err(format!("the lease at `{member}` has expired"));
            }
        }
        if run.contributors.iter().any(|m| m == self.me()) && self.paused.contains(&s.study.dataset) {
            return Err("the dataset is paused here".into());
        }
        Ok(())
    }

    /// Takes every step of a run that is due.
    pub(crate) fn drive_run(&mut self, id: &str, number: u32, now: i64) -> Result<(), NodeError> {
        let Some(s) = self.state.studies.get(id).cloned() else { return Ok(()) };
        let Some(run) = s.runs.get(&number) else { return Ok(()) };
        if run.sealed.is_none() || run.release.is_some() || run.verdict.is_some_and(|(p, _)| !p) {
            return Ok(());
        }
        let ready = run.contributors.iter().all(|m| run.receipts.get(m).is_some_and(|r| r.allow))
            && run.joined.contains_key(&s.study.collector)
            && recipients(&s.study).iter().all(|m| run.joined.contains_key(m));
        if !ready || self.may_start(id, number, now).is_err() {
            return Ok(());
        }
        let key = (id.to_string(), number);
        let Some(mut local) = self.take_run(&key, &s, run, now)? else { return Ok(()) };
        let result = self.steps(&s, run, &key, &mut local, now);
        self.runs.insert(key, local);
        result
    }

    fn take_run(
        &mut self,
        key: &(String, u32),
        s: &StudyState,
        run: &Run,
        now: i64,
    ) -> Result<Option<RunLocal>, NodeError> {
        if let Some(local) = self.runs.remove(key) {
            return Ok(Some(local));
        }
        let (plan, digest) = self.plan_at(&s.study, run.first)?;
        if digest != run.plan {
            self.keep_evidence("aggregators", "the run's plan is not the study's", &[], now)?;
            return Ok(None);
        }
        let Some((dictionary, _)) = self.state.dictionaries.get(&s.study.dictionary).cloned() else {
            return Ok(None);
        };
        let mut local = RunLocal {
            study: s.study.clone(),
            dictionary,
            plan_digest: digest,
            frame: None,
            questions: BTreeMap::new(),
            contributions: BTreeMap::new(),
            inbox: BTreeMap::new(),
            aggregators: BTreeMap::new(),
            openings: BTreeMap::new(),
            sums: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            done: BTreeSet::new(),
            failed: false,
            answered: BTreeSet::new(),
            judged: None,
            started: now,
            progress: now,
            plan,
        };
        for stage in 0..local.plan.stages.len() as u32 {
            let question = Question::start(&local.study, &local.dictionary, &local.plan, stage as usize)
                .map_err(|e| NodeError::Round(e.to_string()))?;
            let digest = question_digest(&question, None)?;
            local.questions.insert((stage, 0), (question, digest));
        }
        Ok(Some(local))
    }

    fn steps(
        &mut self,
        s: &StudyState,
        run: &Run,
        key: &(String, u32),
        local: &mut RunLocal,
        now: i64,
    ) -> Result<(), NodeError> {
        let passed = run.verdict.is_some_and(|(pass, _)| pass);
        if run.contributors.iter().any(|m| m == self.me()) {
            // Nobody's word is taken for it: each contributor judges the guard's sums itself (A6).
            if local.judged.is_none()
                && let Some(guard) = local.sums.get(&(0, 0))
            {
                local.judged = Some(crate::facts::guard_passes(self, s, run, local, guard));
            }
            let on = passed && local.judged == Some(true);
            let due = |slot: &&Slot| (slot.0 == 0 || on) && !local.answered.contains(*slot);
            let due: Vec<Slot> = local.questions.keys().filter(due).copied().collect();
            for slot in due {
                if self.store.has_contributed(&key.0, key.1, slot.0, slot.1)? {
                    local.answered.insert(slot);
                } else {
                    self.contribute(s, run, key, local, slot, now)?;
                }
            }
        }
        // Openings may give new questions, and collected contributions new openings; each call drains its inbox.
        if s.study.aggregators.iter().any(|m| m == self.me()) {
            self.aggregate(s, run, key, local, passed, now)?;
        }
        self.open_sums(run, key, local, now)?;
        if s.study.collector == self.me() {
            self.collect(s, run, key, local, now)?;
        }
        Ok(())
    }

    fn context(
        &self,
        run: &Run,
        key: &(String, u32),
        local: &RunLocal,
        slot: Slot,
        question: Digest,
    ) -> Option<RoundContext> {
        let layout = local.plan.stages.get(slot.0 as usize)?.layout.clone();
        Some(RoundContext {
            federation: self.charter_digest,
            study: key.0.clone(),
            run: key.1,
            stage: slot.0,
            round: slot.1,
            contributors: run.contributors.clone(),
            aggregators: local.study.aggregators.clone(),
            collector: local.study.collector.clone(),
            replayed: matches!(local.kind(slot.0), Some(StageKind::Guard | StageKind::Iterate { .. })),
            plan: local.plan_digest,
            question,
            layout,
        })
    }

    fn aggregator_keys(&self, run: &Run, local: &RunLocal) -> Result<Vec<(String, KemPublic)>, NodeError> {
        let mut keys = Vec::new();
        for member in &local.study.aggregators {
            let text =
                run.sets.get(member).ok_or_else(|| NodeError::Round(format!("no key of `{member}`")))?;
            let key = kem_public(text).map_err(|e| NodeError::Round(e.to_string()))?;
            keys.push((member.clone(), key));
        }
        Ok(keys)
    }

    fn kem_secret(&self, public: Option<&String>) -> Result<KemSecret, NodeError> {
        let public = public.ok_or_else(|| NodeError::Round("this node has no key in the run".into()))?;
        let sealed = self
            .store
            .kem(public)?
            .ok_or_else(|| NodeError::Round("this node's key of the run is erased".into()))?;
        let clear = self.keys.unseal(public, &sealed)?;
        KemSecret::from_bytes(&clear).map_err(|e| NodeError::Round(e.to_string()))
    }

    /// A fresh key for a run, sealed in the store; returns its public half as text.
    pub(crate) fn fresh_kem(&mut self, study: &str, run: u32) -> Result<String, NodeError> {
        let secret = KemSecret::generate();
        let public = secret.public().to_string();
        let sealed = self.keys.seal(&public, &secret.expose())?;
        self.store.add_kem(&public, study, run, &sealed)?;
        Ok(public)
    }

    #[allow(clippy::too_many_arguments)]
    fn outgoing(
        &self,
        key: &(String, u32),
        slot: Slot,
        kind: &str,
        to: &str,
        context: Digest,
        body: Vec<u8>,
        now: i64,
    ) -> Result<(Egress, Vec<u8>), NodeError> {
        let place = Place { study: key.0.clone(), run: key.1, stage: slot.0, round: slot.1 };
        let frame = WireFrame::new(self.me(), to, kind, self.charter_digest, place, context, body);
        let signed = frame.sign(&self.my_sign()).map_err(|e| NodeError::Round(e.to_string()))?;
        point("frame made, not kept", kind);
        let egress = Egress {
            time: now,
            study: key.0.clone(),
            run: key.1,
            stage: slot.0,
            round: slot.1,
            kind: kind.to_string(),
            to: to.to_string(),
            bytes: signed.bytes().len() as u64,
            cells: 0,
            approval: -1,
            layout: String::new(),
        };
        Ok((egress, signed.bytes().to_vec()))
    }

    /// A frame for this run from the mailbox; kept until the run can use it.
    pub(crate) fn run_mail(&mut self, frame: &WireFrame, now: i64) -> Result<(), NodeError> {
        let key = (frame.place.study.clone(), frame.place.run);
        let slot = (frame.place.stage, frame.place.round);
        let Some(s) = self.state.studies.get(&key.0).cloned() else {
            return self.keep_evidence(
                &frame.from,
                "a frame for a study that does not exist",
                &frame.body,
                now,
            );
        };
        let Some(run) = s.runs.get(&key.1) else {
            return self.keep_evidence(
                &frame.from,
                "a frame for a run that does not exist",
                &frame.body,
                now,
            );
        };
        let Some(mut local) = self.take_run(&key, &s, run, now)? else { return Ok(()) };
        let known = local.plan.stages.get(slot.0 as usize).is_some_and(|st| slot.1 < st.max_rounds);
        let result = if !known || frame.context != local.plan_digest {
            self.keep_evidence(&frame.from, "a frame for a round that is not in the plan", &frame.body, now)
        } else if frame.kind == "contribution" {
            self.take_contribution(run, &mut local, slot, frame, now)
        } else if s.study.aggregators.contains(&frame.from) {
            let waiting = local.inbox.entry(slot).or_default();
            if waiting.iter().filter(|(_, from, _)| *from == frame.from).count() < MAX_WAITING {
                waiting.push((frame.kind.clone(), frame.from.clone(), frame.body.clone()));
            }
            Ok(())
        } else {
            self.keep_evidence(
                &frame.from,
                "a frame from somebody who is no aggregator of the run",
                &frame.body,
                now,
            )
        };
        self.runs.insert(key, local);
        result
    }

    /// Reads openings that came, and takes the plan's step where one follows.
    fn open_sums(
        &mut self,
        run: &Run,
        key: &(String, u32),
        local: &mut RunLocal,
        now: i64,
    ) -> Result<(), NodeError> {
        loop {
            let next = local.inbox.iter().find_map(|(slot, mail)| {
                let opening = mail.iter().any(|(kind, _, _)| kind == "opening");
                (opening && local.questions.contains_key(slot) && !local.sums.contains_key(slot))
                    .then_some(*slot)
            });
            let Some(slot) = next else { return Ok(()) };
            let mail = local.inbox.remove(&slot).unwrap_or_default();
            let (openings, rest): (Vec<_>, Vec<_>) =
                mail.into_iter().partition(|(kind, _, _)| kind == "opening");
            if !rest.is_empty() {
                local.inbox.insert(slot, rest);
            }
            if !local.readers(slot.0, run).contains(self.me()) {
                self.keep_evidence("aggregators", "an opening that this node may not read", &[], now)?;
                continue;
            }
            if !local.openings.contains_key(&slot) {
                let Some((_, question)) = local.questions.get(&slot).cloned() else { continue };
                let Some(ctx) = self.context(run, key, local, slot, question) else { continue };
                let public = if local.study.collector == self.me() {
                    run.joined.get(self.me())
                } else {
                    run.receipts.get(self.me()).and_then(|r| r.kem.as_ref())
                };
                let secret = self.kem_secret(public)?;
                let me = self.me().to_string();
                let opening = Opening::new(ctx, &me, secret).map_err(|e| NodeError::Round(e.to_string()))?;
                local.openings.insert(slot, opening);
            }
            let mut broken = Vec::new();
            if let Some(opening) = local.openings.get_mut(&slot) {
                for (_, from, body) in openings {
                    if let Err(e) = opening.on_message(&from, &body) {
                        broken.push((from, e.to_string(), body));
                    }
                }
            }
            for (from, why, body) in broken {
                self.keep_evidence(&from, &why, &body, now)?;
            }
            let raw = local.openings.get(&slot).and_then(Opening::sum).map(<[u128]>::to_vec);
            if let Some(raw) = raw {
                let layout =
                    &local.plan.stages.get(slot.0 as usize).map(|s| s.layout.clone()).unwrap_or_default();
                let contributors = run.contributors.len() as u32;
                let values = privacy::decode(layout, &raw, contributors)
                    .map_err(|e| NodeError::Round(e.to_string()))?;
                local.progress = now;
                let secret = local.openings.get(&slot).and_then(Opening::shared_secret);
                Self::summed(local, slot, Sums { contributors, values }, secret)?;
            }
        }
    }

    fn summed(local: &mut RunLocal, slot: Slot, sums: Sums, secret: Option<Digest>) -> Result<(), NodeError> {
        if let Some(StageKind::Iterate { .. }) = local.kind(slot.0) {
            let Some((question, _)) = local.questions.get(&slot).cloned() else { return Ok(()) };
            let step = analysis::step(
                &local.study,
                &local.dictionary,
                &local.plan,
                slot.0 as usize,
                &question,
                &sums,
            );
            match step {
                Step::Ask(next) => {
                    let digest = question_digest(&next, secret)?;
                    local.questions.insert((slot.0, slot.1 + 1), (next, digest));
                }
                Step::Done(outcome) => {
                    local.outcomes.insert(slot.0, *outcome);
                    local.done.insert(slot.0);
                }
                Step::Failed(_) => {
                    local.failed = true;
                }
            }
        } else {
            local.done.insert(slot.0);
        }
        local.sums.insert(slot, sums);
        point("sum opened", if slot.0 == 0 { "guard" } else { "analysis" });
        Ok(())
    }

    /// Gives a run up, on the record.
    pub(crate) fn give_up(&mut self, key: &(String, u32), reason: &str, now: i64) -> Result<(), NodeError> {
        let body = charter::body::RunLost { study: key.0.clone(), run: key.1, reason: reason.to_string() };
        self.say_once(format!("lost/{}/{}", key.0, key.1), charter::body::RunLost::TYPE, &key.0, &body, now)
    }

    /// Runs that have stood still longer than `patience` milliseconds.
    pub(crate) fn stalled(&self, now: i64, patience: i64) -> Vec<(String, u32)> {
        self.runs
            .iter()
            .filter(|(_, l)| now.saturating_sub(l.progress.max(l.started)) > patience)
            .map(|(k, _)| k.clone())
            .collect()
    }

    /// The opened sum of a stage's only round.
    pub(crate) fn sum_of(local: &RunLocal, stage: u32) -> Option<&Sums> {
        local.sums.get(&(stage, 0))
    }
}

/// A key of a run as it stands on the record.
fn kem_public(text: &str) -> Result<KemPublic, rounds::RoundError> {
    KemPublic::from_bytes(&hex::decode(text).unwrap_or_default())
}
