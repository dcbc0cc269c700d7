//! From the record to the gate: the input of every gate decision, and the collector's checks.

use crate::NodeError;
use crate::core::Node;
use crate::runner::RunLocal;
use analysis::Sums;
use charter::body::GateReceipt;
use charter::{Run, Stage, StudyState, VoteChoice};
use policy::input::{self, GateInput};
use policy::{PolicySet, Verdict};
use record::Digest;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use study::{GuardCell, Plan, Study};

/// A study as the gate is asked about it: submitted, or still a draft for a dry check.
pub(crate) struct Asked<'a> {
    pub(crate) study: &'a Study,
    pub(crate) digest: Digest,
    pub(crate) state: Option<&'a StudyState>,
    pub(crate) plan: &'a Plan,
    pub(crate) plan_digest: Digest,
}

fn ms(date: &str) -> i64 {
    charter::document::end_of_day(date).unwrap_or(0)
}

fn gate_stage(stage: Stage) -> input::Stage {
    match stage {
        Stage::Propose => input::Stage::Propose,
        Stage::Contribute => input::Stage::Contribute,
        Stage::Release => input::Stage::Release,
    }
}

/// What one node knows beyond the record: asserted in its receipts, recomputed by nobody.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asserted {
    /// The form of gate inputs that it makes; an older one is made again as it was.
    pub(crate) version: u32,
    /// The member whose node it is.
    pub(crate) me: String,
    /// Its own switch.
    pub(crate) stopped: bool,
    /// Datasets that it has paused.
    pub(crate) paused: BTreeSet<String>,
    /// Age of its watermark, milliseconds.
    pub(crate) watermark_age_ms: Option<i64>,
    /// At a collector: whether the release check passed.
    pub(crate) check_passed: bool,
}

/// A plan and its digest, shared.
type Planned = Arc<(Plan, Digest)>;

/// Policies read once in a process: testing a schedule takes longer than many decisions, and what two texts mean
/// follows from their digests, whoever reads them.
static POLICIES: Mutex<BTreeMap<(Digest, Option<Digest>), PolicySet>> = Mutex::new(BTreeMap::new());
/// So many are kept; a federation has one floor and a few schedules.
const MAX_POLICIES: usize = 256;

/// What is computed once: a plan is a function of study, dictionary and the earlier studies that it is measured
/// against.
#[derive(Default)]
pub(crate) struct Memo {
    plans: RefCell<BTreeMap<(Digest, Vec<String>), Planned>>,
}

/// The record as a gate sees it.
pub(crate) struct View<'a> {
    pub(crate) charter: &'a charter::Charter,
    pub(crate) charter_digest: Digest,
    pub(crate) state: &'a charter::State,
    pub(crate) library: &'a policy::Library,
    pub(crate) memo: &'a Memo,
    pub(crate) asserted: Asserted,
}

impl View<'_> {
    /// The policies of a member: the floor on the record and that member's own schedule.
    pub(crate) fn policies(&self, member: &str) -> Result<PolicySet, String> {
        let floor =
            self.state.floor.as_ref().ok_or("no policy floor is on the record, so nothing is allowed")?;
        let adopted = self.state.schedules.get(member);
        let key = (Digest::of(floor.as_bytes()), adopted.map(|s| s.digest));
        if let Some(set) = POLICIES.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(set.clone());
        }
        let schedule = match adopted {
            None => None,
            Some(s) => Some(policy::Schedule::adopt("schedule", &s.text).map_err(|e| e.to_string())?),
        };
        let set = PolicySet::load(floor, schedule.as_ref()).map_err(|e| e.to_string())?;
        let mut policies = POLICIES.lock().unwrap_or_else(PoisonError::into_inner);
        if policies.len() >= MAX_POLICIES {
            policies.clear();
        }
        policies.insert(key, set.clone());
        Ok(set)
    }

    /// Every fact that a gate of `member` reads, from the record, the plan and the library.
    pub(crate) fn gate_input(
        &self,
        member: &str,
        asked: &Asked<'_>,
        number: u32,
        stage: Stage,
        start: Option<input::Start>,
        now: i64,
    ) -> GateInput {
        let study = asked.study;
        let c = self.charter;
        let me = member == self.asserted.me;
        let dictionary = self.state.dictionaries.get(&study.dictionary).map(|(d, _)| d);
        let used = study.columns();
        let plan = match dictionary {
            Some(dictionary) => input::PlanFacts::of(study, dictionary, asked.plan, asked.plan_digest),
            // A study whose dictionary is not registered has no plan; nothing is known of its columns.
            None => input::PlanFacts {
                digest: asked.plan_digest,
                max_rows: 0,
                columns: BTreeMap::new(),
                tables: Vec::new(),
                methods: BTreeSet::new(),
                numbers_opened: u64::from(u32::MAX),
                replayed: true,
                guards: BTreeSet::new(),
            },
        };
        let index = asked.state.and_then(|s| s.runs.get(&number)).map_or(self.state.size, |r| r.first);
        let earlier = self.earlier_runs(study, number, &used, index);
        // A guard that measures the difference from one population does so for every study over it.
        let mut plan = plan;
        let same = |id: &String| {
            let earlier = &self.state.studies.get(id)?.study;
            let here = earlier.dataset == study.dataset;
            let measured =
                |e: &study::EarlierPopulation| study::guard::same_rows(&e.population, &earlier.population);
            (here && asked.plan.earlier.iter().any(measured)).then(|| id.clone())
        };
        if self.asserted.version > 1 {
            plan.guards.extend(earlier.iter().filter_map(|r| same(&r.study)));
        }
        let schedule = self.state.schedules.get(member);
        let dataset = self.state.dataset(&study.dataset, member).map(|d| {
            let r = &d.registration;
            input::DatasetFacts {
                name: r.name.clone(),
                legal_basis: r.legal_basis.clone(),
                purposes: r.purposes.iter().cloned().collect(),
                retention: ms(&r.retention),
                paused: d.paused || (me && self.asserted.paused.contains(&study.dataset)),
                mapping_tested: r.mapping_tested,
                mapped: r.columns.iter().cloned().collect(),
                by_site: r.by_site,
                special_category: r.special_category,
                impact_assessment: r.impact_assessment.clone(),
            }
        });
        let valid = i64::from(c.data_access.valid_days) * 86_400_000;
        let votes = asked.state.map(|s| &s.votes).into_iter().flatten();
        let votes = votes
            .map(|(m, v)| {
                let vote = match (v.choice, v.revoked) {
                    (_, Some(_)) => input::Vote::Revoked,
                    (VoteChoice::Yes, None) => input::Vote::Yes { until: v.time.saturating_add(valid) },
                    (VoteChoice::No, None) => input::Vote::No,
                };
                (m.clone(), vote)
            })
            .collect();
        let run = asked.state.and_then(|s| s.runs.get(&number)).map(|r| input::RunFacts {
            run: number,
            contributors: r.contributors.iter().cloned().collect(),
            signed_by: r.sets.keys().cloned().collect(),
            watermark_age_ms: self.asserted.watermark_age_ms,
            start: start.unwrap_or(input::Start::Permit),
        });
        let release = (stage == Stage::Release).then(|| {
            let run = asked.state.and_then(|s| s.runs.get(&number));
            input::ReleaseFacts {
                receipts: run
                    .map(|r| r.receipts.iter().filter(|(_, x)| x.allow).map(|(m, _)| m.clone()).collect())
                    .unwrap_or_default(),
                guard_passed: run.is_some_and(|r| r.verdict.is_some_and(|(pass, _)| pass)),
                check_passed: self.asserted.check_passed,
            }
        });
        let mut gate = GateInput {
            version: self.asserted.version,
            stage: gate_stage(stage),
            node: member.to_string(),
            now,
            stopped: self.state.stopped.contains(member) || (me && self.asserted.stopped),
            charter: input::CharterFacts {
                digest: self.charter_digest,
                floor: c.floor,
                in_force: self.state.in_force(),
                unsigned: self.state.roster.unsigned(),
                sunset: ms(&c.sunset),
                purposes: c.purposes.iter().cloned().collect(),
                aggregator_pool: c.aggregator_pool.iter().cloned().collect(),
                hub: input::HubFacts {
                    operator: c.hub.operator.clone(),
                    jurisdiction: c.hub.jurisdiction.clone(),
                    regime: String::new(),
                },
                watermark_limit_ms: i64::from(c.limits.watermark_minutes) * 60_000,
                min_hidden_sites: c.limits.min_hidden_sites,
                instruments: c
                    .instruments
                    .iter()
                    .map(|i| input::Instrument {
                        id: i.id.clone(),
                        mechanism: i.mechanism.clone(),
                        exporters: i.exporters.clone(),
                        importers: i.importers.clone(),
                        reference: i.reference.clone(),
                    })
                    .collect(),
            },
            schedule: input::ScheduleFacts {
                regime: schedule.map(|s| s.regime.clone()).unwrap_or_default(),
                digest: schedule.map(|s| s.digest),
                as_of: schedule.map(|s| s.as_of.clone()).unwrap_or_default(),
                confirmed_by: schedule.and_then(|s| s.confirmed.as_ref()).map(|(seat, _)| seat.clone()),
            },
            parties: c
                .members
                .iter()
                .map(|m| {
                    let facts = input::PartyFacts {
                        jurisdiction: m.jurisdiction.clone(),
                        control: m.control.clone(),
                        regime: String::new(),
                        legal_order: String::new(),
                    };
                    (m.id.clone(), facts)
                })
                .collect(),
            study: input::StudyFacts::of(study, asked.digest, ms(&study.until)),
            plan,
            dataset,
            decision: input::DecisionFacts { votes, quorum: c.data_access.quorum },
            transfers: Vec::new(),
            earlier,
            run,
            release,
        };
        gate.consult(self.library);
        gate
    }

    fn earlier_runs(
        &self,
        study: &Study,
        number: u32,
        used: &BTreeSet<String>,
        index: u64,
    ) -> Vec<input::EarlierRun> {
        self.state
            .run_order
            .iter()
            .filter(|(id, run)| !(*id == study.id && *run == number))
            .filter_map(|(id, run)| {
                let other = self.state.studies.get(id)?;
                let earlier = other.runs.get(run)?;
                let same = other.study.dataset == study.dataset;
                let again = self.asserted.version > 1 && again(study, &other.study, earlier);
                if !(same || again) || !earlier.counts_before(index) {
                    return None;
                }
                Some(input::EarlierRun {
                    study: id.clone(),
                    run: *run,
                    contributors: earlier.contributors.iter().cloned().collect(),
                    shared_columns: !other.study.columns().is_disjoint(used),
                    same_population: same
                        && study::guard::same_rows(&other.study.population, &study.population),
                })
            })
            .collect()
    }

    /// A gate's verdict; a policy that cannot be read is a denial.
    pub(crate) fn verdict(&self, member: &str, gate: &GateInput) -> Result<Verdict, String> {
        Ok(policy::decide(&self.policies(member)?, gate))
    }

    /// The plan of a study as of an index, and its digest.
    pub(crate) fn plan_at(&self, study: &Study, index: u64) -> Result<(Plan, Digest), NodeError> {
        let plan = self.shared_plan(study, index)?;
        Ok((plan.0.clone(), plan.1))
    }

    /// As [`View::plan_at`], shared.
    pub(crate) fn shared_plan(&self, study: &Study, index: u64) -> Result<Planned, NodeError> {
        let (dictionary, _) = self.state.dictionaries.get(&study.dictionary).ok_or_else(|| {
            NodeError::Input(format!("dictionary `{}` is not registered", study.dictionary))
        })?;
        let mut earlier = self.state.earlier_populations(&study.id, &study.dataset, index);
        // The same population differs by nobody. The state knows that of a study it holds, not of a draft.
        earlier.retain(|e| e.population != study.population);
        let names = earlier.iter().map(|e| e.study.clone()).collect();
        // A dictionary's id is registered once, and names it for ever.
        let key = (Digest::of(&record::canon::to_bytes(study)?), names);
        if let Some(plan) = self.memo.plans.borrow().get(&key) {
            return Ok(plan.clone());
        }
        let plan = analysis::plan(study, dictionary, earlier).map_err(|e| NodeError::Input(e.to_string()))?;
        let digest = Digest::of(&record::canon::to_bytes(&plan)?);
        let plan = Arc::new((plan, digest));
        self.memo.plans.borrow_mut().insert(key, plan.clone());
        Ok(plan)
    }
}

/// Whether an earlier run may have summed the same people under another dataset's name: rows of one of the
/// contributors, registered again for the same dictionary or another version of it. The difference between the two
/// cannot be measured by either, so it may be one person who withdrew (A6).
fn again(study: &Study, other: &Study, run: &charter::Run) -> bool {
    fn family(id: &str) -> &str {
        id.split('/').next().unwrap_or(id)
    }
    study.dataset != other.dataset
        && family(&study.dictionary) == family(&other.dictionary)
        && run.contributors.iter().any(|m| study.contributors.contains(m))
}

impl Node {
    /// The record as this node's gate sees it now.
    pub(crate) fn view(&self, now: i64) -> View<'_> {
        View {
            charter: self.agreed(),
            charter_digest: self.charter_digest,
            state: &self.state,
            library: &self.library,
            memo: &self.memo,
            asserted: Asserted {
                version: input::VERSION,
                me: self.me().to_string(),
                stopped: self.stopped,
                paused: self.paused.clone(),
                watermark_age_ms: self
                    .member
                    .in_force
                    .as_ref()
                    .map(|_| now.saturating_sub(self.watermark_time()).max(0)),
                check_passed: false,
            },
        }
    }

    /// The plan of a study as of an index, and its digest.
    pub(crate) fn plan_at(&self, study: &Study, index: u64) -> Result<(Plan, Digest), NodeError> {
        self.view(0).plan_at(study, index)
    }
}

/// A gate's answer with everything that a receipt keeps of it.
pub(crate) struct Judged {
    pub(crate) input: record::Value,
    pub(crate) allow: bool,
    pub(crate) rules: Vec<String>,
    pub(crate) policy: Digest,
    pub(crate) engine: String,
}

/// Decides a gate of `member` on the record as `view` shows it. The node and whoever checks it later run this very
/// function. What cannot be planned or read is denied.
pub(crate) fn judge(
    view: &View<'_>,
    member: &str,
    s: &StudyState,
    number: u32,
    stage: Stage,
    now: i64,
) -> Result<Judged, NodeError> {
    let denied = |rule: &str, input| Judged {
        input,
        allow: false,
        rules: vec![format!("fault/{rule}")],
        policy: Digest::of(b""),
        engine: "none".to_string(),
    };
    let index = s.runs.get(&number).map_or(s.index, |r| r.first);
    let Ok(plan) = view.shared_plan(&s.study, index) else {
        return Ok(denied("the study has no plan", record::Value::Null));
    };
    let asked =
        Asked { study: &s.study, digest: s.digest, state: Some(s), plan: &plan.0, plan_digest: plan.1 };
    let gate = view.gate_input(member, &asked, number, stage, None, now);
    let input = record::canon::to_value(&gate)?;
    let Ok(v) = view.verdict(member, &gate) else {
        return Ok(denied("the policies in force cannot be read", input));
    };
    let mut rules: Vec<String> = v.determining.iter().map(|d| format!("{}/{}", d.level, d.id)).collect();
    rules.extend(v.faults.iter().map(|f| format!("fault/{f}")));
    let mut allow = v.allow;
    // What the stewards look at, and what the aggregators signed, must be what the record gives.
    let signed = match stage {
        Stage::Propose => s.plan,
        _ => s.runs.get(&number).map_or(plan.1, |r| r.plan),
    };
    if signed != plan.1 {
        allow = false;
        rules.push("fault/the plan is not the one that the record gives".to_string());
    }
    Ok(Judged { input, allow, rules, policy: v.policy, engine: v.engine })
}

/// Evaluates this node's gate and makes the receipt. A node that cannot evaluate it leaves a denial.
pub(crate) fn receipt(
    node: &Node,
    s: &StudyState,
    number: u32,
    stage: Stage,
    kem: Option<String>,
    check_passed: bool,
    now: i64,
) -> Result<GateReceipt, NodeError> {
    let mut view = node.view(now);
    view.asserted.check_passed = check_passed;
    let judged = judge(&view, node.me(), s, number, stage, now)?;
    let lease = i64::from(node.charter.limits.lease_hours) * 3_600_000;
    Ok(GateReceipt {
        study: s.study.id.clone(),
        run: number,
        stage,
        allow: judged.allow,
        rules: judged.rules,
        policy: judged.policy,
        as_of: node.state.size,
        input_digest: Digest::of(&record::canon::to_bytes(&judged.input)?),
        input: judged.input,
        engine: judged.engine,
        lease_until: if judged.allow && stage == Stage::Contribute { now.saturating_add(lease) } else { 0 },
        kem: if judged.allow { kem } else { None },
    })
}

fn guard_cells(node: &Node, study: &Study, plan: &Plan) -> Vec<GuardCell> {
    node.state
        .dictionaries
        .get(&study.dictionary)
        .map(|(d, _)| study::guard::guard_cells(study, d, &plan.earlier))
        .unwrap_or_default()
}

/// What is demanded of the guard's sums: the study's protection, the charter's, and what earlier studies opened.
/// Nothing if an earlier plan cannot be made again: then nothing is released.
fn release_rules(node: &Node, s: &StudyState, first: u64) -> Option<privacy::ReleaseRules> {
    let mut rules = privacy::ReleaseRules::of(&s.study);
    rules.min_hidden_sites = rules.min_hidden_sites.max(node.charter.limits.min_hidden_sites);
    for (id, number) in &node.state.run_order {
        let Some(other) = node.state.studies.get(id) else { continue };
        let before = other.runs.get(number).filter(|r| r.counts_before(first));
        let Some(run) = before else { continue };
        if id == &s.study.id || other.study.dataset != s.study.dataset {
            continue;
        }
        let plan = node.view(0).shared_plan(&other.study, run.first).ok()?;
        rules.opened_before = rules.opened_before.saturating_add(plan.0.numbers_opened());
    }
    Some(rules)
}

/// The guard round's verdict.
pub(crate) fn guard_passes(node: &Node, s: &StudyState, run: &Run, local: &RunLocal, guard: &Sums) -> bool {
    let cells = guard_cells(node, &local.study, &local.plan);
    let Some(rules) = release_rules(node, s, run.first) else { return false };
    let verdict =
        privacy::guard_verdict(&local.study, &local.plan, &cells, &run.contributors, &guard.values, &rules);
    verdict == privacy::Verdict::Pass
}

/// The release check at the collector; nothing when the output is withheld.
pub(crate) fn checked_release(
    node: &Node,
    s: &StudyState,
    run: &Run,
    local: &RunLocal,
    number: u32,
) -> Result<Option<privacy::Release>, NodeError> {
    let Some(guard) = Node::sum_of(local, 0) else { return Ok(None) };
    let Some(results) = node.results(local) else { return Ok(None) };
    let cells = guard_cells(node, &local.study, &local.plan);
    let Some(rules) = release_rules(node, s, run.first) else { return Ok(None) };
    let mut salt = [0u8; 16];
    getrandom::fill(&mut salt).map_err(|_| NodeError::Randomness)?;
    let about = privacy::Run { number, plan: run.plan, contributors: run.contributors.clone(), salt };
    Ok(privacy::Release::check(&local.study, &local.plan, &about, &cells, &guard.values, results, &rules)
        .ok())
}
