//! Who takes part in a run: each contributor says that its node is there, and the aggregators fix the set.
//!
//! A contributor that is lost before the set is fixed is left out, where the study's minimum and the minimum of hidden
//! sites allow it and no earlier set comes too close (A2); the fold takes a smaller set only if those in it have said
//! that they are ready and those left out have not. Each aggregator waits for itself before it puts its name to a
//! smaller set. Afterwards nobody is left out any more: the run is lost.

use crate::NodeError;
use crate::core::Node;
use charter::body::{RunReady, RunSet};
use charter::{Run, Stage, StudyState};
use std::collections::BTreeSet;

/// How long an aggregator waits for contributors that have not said that they are ready, milliseconds.
pub const READY_PATIENCE: i64 = 60_000;

impl Node {
    /// An approved study: says that this node is there, and as an aggregator proposes the set.
    pub(crate) fn gather(
        &mut self,
        s: &StudyState,
        mut approved: Vec<String>,
        now: i64,
    ) -> Result<(), NodeError> {
        let (id, number) = (s.study.id.clone(), s.next_run());
        if number > charter::fold::MAX_RUNS {
            return Ok(());
        }
        approved.sort();
        if approved.iter().any(|m| m == self.me()) {
            self.be_ready(s, number, now)?;
        }
        let key = format!("set/{id}/{number}");
        if !s.study.aggregators.iter().any(|m| m == self.me()) || self.has_said(&key, now) {
            return Ok(());
        }
        let ready: Vec<String> = approved.iter().filter(|m| s.is_ready(m, number)).cloned().collect();
        let (_, plan) = self.plan_at(&s.study, self.state.size)?;
        if ready != approved {
            if !self.waited(&id, number, now) {
                return Ok(());
            }
            let mut draft = s.clone();
            draft.runs.insert(number, Run::new(ready.clone(), plan, self.state.size, now));
            if !self.enough(&draft, number, now) {
                return Ok(());
            }
        }
        let kem = self.fresh_kem(&id, number)?;
        let body = RunSet { study: id.clone(), run: number, contributors: ready, plan, kem };
        self.say_once(key, RunSet::TYPE, &id, &body, now)
    }

    /// Says that this node is there for a run that is not sealed yet.
    pub(crate) fn be_ready(&mut self, s: &StudyState, number: u32, now: i64) -> Result<(), NodeError> {
        let id = s.study.id.clone();
        let held = self.paused.contains(&s.study.dataset) || self.revoked.contains(&id);
        if held || s.is_ready(self.me(), number) {
            return Ok(());
        }
        let body = RunReady { study: id.clone(), run: number };
        self.say_once(format!("ready/{id}/{number}"), RunReady::TYPE, &id, &body, now)
    }

    /// Signs the contributor set that the other aggregator signed first, if it is the one that the record gives.
    pub(crate) fn sign_set(
        &mut self,
        s: &StudyState,
        number: u32,
        run: &Run,
        now: i64,
    ) -> Result<(), NodeError> {
        let id = s.study.id.clone();
        let key = format!("set/{id}/{number}");
        if self.has_said(&key, now) {
            return Ok(());
        }
        let (_, plan) = self.plan_at(&s.study, run.first)?;
        if plan != run.plan {
            return self.give_up(&(id, number), "the plan of the set is not the study's", now);
        }
        // The other aggregator's wait is its own word: this one waits too, and does not help to leave out somebody who
        // was there in the meantime, nor so many that nothing could be opened.
        let fewer = s.study.contributors.iter().any(|m| s.has_live_yes(m) && !run.contributors.contains(m));
        if fewer {
            if !self.waited(&id, number, now) {
                return Ok(());
            }
            if !s.left_out(number).is_empty() || !self.enough(s, number, now) {
                return self.give_up(&(id, number), "contributors left out", now);
            }
        }
        let kem = self.fresh_kem(&id, number)?;
        let body =
            RunSet { study: id.clone(), run: number, contributors: run.contributors.clone(), plan, kem };
        self.say_once(key, RunSet::TYPE, &id, &body, now)
    }

    /// Whether this node has waited long enough for those who are not ready for the run.
    fn waited(&mut self, id: &str, number: u32, now: i64) -> bool {
        let since = *self.waiting.entry((id.to_string(), number)).or_insert(now);
        now.saturating_sub(since) >= READY_PATIENCE
    }

    /// Whether the run's set may be summed, by the gate's own counting: a run that every gate would refuse is not
    /// begun.
    fn enough(&self, s: &StudyState, number: u32, now: i64) -> bool {
        let Some(run) = s.runs.get(&number) else { return false };
        let view = self.view(now);
        let Ok(plan) = view.shared_plan(&s.study, run.first) else { return false };
        let asked = crate::facts::Asked {
            study: &s.study,
            digest: s.digest,
            state: Some(s),
            plan: &plan.0,
            plan_digest: plan.1,
        };
        let gate = view.gate_input(self.me(), &asked, number, Stage::Contribute, None, now);
        let hidden = gate.hidden_sites_required().max(s.study.protection.min_hidden_sites);
        let earlier = self.state.earlier_sets(&s.study.id, number, &s.study.dataset, run.first);
        let set: BTreeSet<String> = run.contributors.iter().cloned().collect();
        run.contributors.len() as u64 >= u64::from(s.study.minimum_contributors)
            && gate.hidden_sites() >= hidden
            && gate.close_sets().is_empty()
            && privacy::sets_compatible(&earlier, &set, self.charter.limits.min_hidden_sites)
    }
}
