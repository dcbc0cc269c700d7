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
use std::collections::{BTreeMap, BTreeSet};
use study::{GuardCell, Kind, Method, Plan, Recipient, StageKind, Study};

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

fn columns_of(study: &Study) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = study.population.columns().into_iter().map(|c| c.to_string()).collect();
    for analysis in &study.analyses {
        match &analysis.method {
            Method::MantelHaenszel { exposure, outcome } => {
                all.extend(
                    [exposure, outcome]
                        .iter()
                        .filter_map(|t| t.split('=').next())
                        .map(|t| t.trim().to_string()),
                );
            }
            Method::Logistic { formula, .. } => {
                if let Ok(f) = study::formula::Formula::parse(formula) {
                    all.insert(f.outcome);
                    all.extend(f.terms);
                }
            }
            Method::Describe { columns } => all.extend(columns.iter().cloned()),
            Method::Crosstab { by, .. } => all.extend(by.iter().cloned()),
        }
    }
    all
}

/// What one node knows beyond the record: asserted in its receipts, recomputed by nobody.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asserted {
    /// The member whose node it is.
    pub(crate) me: String,
    /// Its own switch.
    pub(crate) stopped: bool,
    /// Datasets that it has paused.
    pub(crate) paused: BTreeSet<String>,
    /// Age of its watermark, milliseconds.
    pub(crate) watermark_age_ms: Option<i64>,
}

/// The record as a gate sees it.
pub(crate) struct View<'a> {
    pub(crate) charter: &'a charter::Charter,
    pub(crate) charter_digest: Digest,
    pub(crate) state: &'a charter::State,
    pub(crate) library: &'a policy::Library,
    pub(crate) asserted: Asserted,
}

impl View<'_> {
    /// The policies of a member: the floor on the record and that member's own schedule.
    pub(crate) fn policies(&self, member: &str) -> Result<PolicySet, String> {
        let floor =
            self.state.floor.as_ref().ok_or("no policy floor is on the record, so nothing is allowed")?;
        let schedule = match self.state.schedules.get(member) {
            None => None,
            Some(s) => Some(policy::Schedule::adopt("schedule", &s.text).map_err(|e| e.to_string())?),
        };
        PolicySet::load(floor, schedule.as_ref()).map_err(|e| e.to_string())
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
        let used = columns_of(study);
        let columns: BTreeMap<String, input::ColumnFacts> = used
            .iter()
            .filter_map(|name| {
                let column = dictionary?.columns.iter().find(|c| c.name == *name)?;
                Some((name.clone(), input::ColumnFacts { role: column.role }))
            })
            .collect();
        let kind =
            |name: &str| dictionary.and_then(|d| d.columns.iter().find(|c| c.name == name)).map(|c| &c.kind);
        let tables = study
            .analyses
            .iter()
            .filter_map(|a| {
                let Method::Crosstab { by, by_site } = &a.method else { return None };
                let size = |name: &String| match kind(name) {
                    Some(Kind::Factor { levels, .. }) => levels.len() as u64,
                    Some(Kind::Integer { min, max }) => max.abs_diff(*min).saturating_add(1),
                    None => 1,
                };
                Some(input::TableFacts {
                    analysis: a.id.clone(),
                    columns: by.clone(),
                    single_values: by
                        .iter()
                        .filter(|n| matches!(kind(n), Some(Kind::Integer { .. })))
                        .cloned()
                        .collect(),
                    cells: by.iter().map(size).fold(1u64, u64::saturating_mul).min(1 << 40),
                    by_site: *by_site,
                })
            })
            .collect();
        let methods = study.analyses.iter().map(|a| method_word(&a.method).to_string()).collect();
        let index = asked.state.and_then(|s| s.runs.get(&number)).map_or(self.state.size, |r| r.first);
        let earlier = self.earlier_runs(study, number, &used, index);
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
                check_passed: true,
            }
        });
        let mut gate = GateInput {
            version: input::VERSION,
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
            study: input::StudyFacts {
                id: study.id.clone(),
                digest: asked.digest,
                purpose: study.purpose.clone(),
                domain: study.domain.clone(),
                requester: study.requester.clone(),
                collector: study.collector.clone(),
                aggregators: study.aggregators.clone(),
                recipients: study
                    .recipients
                    .iter()
                    .map(|r| match r {
                        Recipient::Member(m) => {
                            input::RecipientFacts { name: m.clone(), outside: None, regime: String::new() }
                        }
                        Recipient::Outside(o) => input::RecipientFacts {
                            name: o.name.clone(),
                            outside: Some(o.jurisdiction.clone()),
                            regime: String::new(),
                        },
                    })
                    .collect(),
                contributors: study.contributors.iter().cloned().collect(),
                minimum_contributors: study.minimum_contributors,
                until: ms(&study.until),
                min_cell: study.protection.min_cell,
                min_hidden_sites: study.protection.min_hidden_sites,
            },
            plan: input::PlanFacts {
                digest: asked.plan_digest,
                max_rows: dictionary.map_or(0, |d| d.max_rows),
                columns,
                tables,
                methods,
                numbers_opened: asked.plan.numbers_opened(),
                replayed: asked.plan.stages.iter().any(|s| matches!(s.kind, StageKind::Iterate { .. })),
                guards: asked.plan.earlier.iter().map(|e| e.study.clone()).collect(),
            },
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
                if other.study.dataset != study.dataset || earlier.first >= index {
                    return None;
                }
                Some(input::EarlierRun {
                    study: id.clone(),
                    run: *run,
                    contributors: earlier.contributors.iter().cloned().collect(),
                    shared_columns: !columns_of(&other.study).is_disjoint(used),
                    same_population: other.study.population == study.population,
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
        let (dictionary, _) = self.state.dictionaries.get(&study.dictionary).ok_or_else(|| {
            NodeError::Input(format!("dictionary `{}` is not registered", study.dictionary))
        })?;
        let earlier = self.state.earlier_populations(&study.id, &study.dataset, index);
        let plan = analysis::plan(study, dictionary, earlier).map_err(|e| NodeError::Input(e.to_string()))?;
        let digest = Digest::of(&record::canon::to_bytes(&plan)?);
        Ok((plan, digest))
    }
}

impl Node {
    /// The record as this node's gate sees it now.
    pub(crate) fn view(&self, now: i64) -> View<'_> {
        View {
            charter: &self.charter,
            charter_digest: self.charter_digest,
            state: &self.state,
            library: &self.library,
            asserted: Asserted {
                me: self.me().to_string(),
                stopped: self.stopped,
                paused: self.paused.clone(),
                watermark_age_ms: self
                    .in_force
                    .as_ref()
                    .map(|_| now.saturating_sub(self.watermark_time()).max(0)),
            },
        }
    }

    /// The plan of a study as of an index, and its digest.
    pub(crate) fn plan_at(&self, study: &Study, index: u64) -> Result<(Plan, Digest), NodeError> {
        self.view(0).plan_at(study, index)
    }
}

/// The word for a method.
pub(crate) fn method_word(method: &Method) -> &'static str {
    match method {
        Method::MantelHaenszel { .. } => "mantel-haenszel",
        Method::Logistic { .. } => "logistic",
        Method::Describe { .. } => "describe",
        Method::Crosstab { .. } => "crosstab",
    }
}

/// Evaluates this node's gate and makes the receipt. A node that cannot evaluate it leaves a denial.
pub(crate) fn receipt(
    node: &Node,
    s: &StudyState,
    number: u32,
    stage: Stage,
    kem: Option<String>,
    now: i64,
) -> Result<GateReceipt, NodeError> {
    let index = s.runs.get(&number).map_or(s.index, |r| r.first);
    let (plan, plan_digest) = node.plan_at(&s.study, index)?;
    let asked = Asked { study: &s.study, digest: s.digest, state: Some(s), plan: &plan, plan_digest };
    let view = node.view(now);
    let gate = view.gate_input(node.me(), &asked, number, stage, None, now);
    let input_bytes = record::canon::to_bytes(&gate)?;
    let input_value = record::canon::to_value(&gate)?;
    let (mut allow, rules, policy, engine) = match view.verdict(node.me(), &gate) {
        Ok(v) => {
            let mut rules: Vec<String> =
                v.determining.iter().map(|d| format!("{}/{}", d.level, d.id)).collect();
            rules.extend(v.faults.iter().map(|f| format!("fault/{f}")));
            (v.allow, rules, v.policy, v.engine)
        }
        Err(why) => (false, vec![format!("fault/{why}")], Digest::of(b""), "none".to_string()),
    };
    if let (Some(run), Stage::Contribute) = (s.runs.get(&number), stage)
        && run.plan != plan_digest
    {
        // The set was signed over another plan than the record gives: no node answers it.
        allow = false;
    }
    let lease = i64::from(node.charter.limits.lease_hours) * 3_600_000;
    Ok(GateReceipt {
        study: s.study.id.clone(),
        run: number,
        stage,
        allow,
        rules,
        policy,
        input: input_value,
        input_digest: Digest::of(&input_bytes),
        engine,
        lease_until: if allow && stage == Stage::Contribute { now.saturating_add(lease) } else { 0 },
        kem: if allow { kem } else { None },
    })
}

fn guard_cells(node: &Node, study: &Study, plan: &Plan) -> Vec<GuardCell> {
    node.state
        .dictionaries
        .get(&study.dictionary)
        .map(|(d, _)| study::guard::guard_cells(study, d, &plan.earlier))
        .unwrap_or_default()
}

/// What the collector demands: the study's protection, the charter's, and what earlier studies opened.
fn release_rules(node: &Node, s: &StudyState, first: u64) -> privacy::ReleaseRules {
    let mut rules = privacy::ReleaseRules::of(&s.study);
    rules.min_hidden_sites = rules.min_hidden_sites.max(node.charter.limits.min_hidden_sites);
    for (id, number) in &node.state.run_order {
        let Some(other) = node.state.studies.get(id) else { continue };
        let before = other.runs.get(number).is_some_and(|r| r.first < first);
        if id == &s.study.id || other.study.dataset != s.study.dataset || !before {
            continue;
        }
        if let Ok((plan, _)) = node.plan_at(&other.study, first) {
            rules.opened_before = rules.opened_before.saturating_add(plan.numbers_opened());
        }
    }
    rules
}

/// The guard round's verdict.
pub(crate) fn guard_passes(node: &Node, s: &StudyState, run: &Run, local: &RunLocal, guard: &Sums) -> bool {
    let cells = guard_cells(node, &local.study, &local.plan);
    let rules = release_rules(node, s, run.first);
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
    let rules = release_rules(node, s, run.first);
    let about = privacy::Run { number, plan: run.plan, contributors: run.contributors.clone() };
    Ok(privacy::Release::check(&local.study, &local.plan, &about, &cells, &guard.values, results, &rules)
        .ok())
}
