//! Rounds as the methods see them: a question, a site's vector, the sum, the next step.

use crate::logistic::Next;
use crate::plan::{Planned, stages};
use crate::{AnalysisError, AnalysisResult, Failure, Frame, guard, result::Table, select};
use record::canon::CanonError;
use record::{Digest, canon};
use serde::{Deserialize, Serialize};
use std::fmt;
use study::{Dictionary, Plan, Stage, StageKind, Study};

/// What is asked in one round. Only coefficients are ever asked, as whole numbers on the plan's grid; a guard
/// round and a single sum have none. Coefficients beyond the start are computed from rows: they go sealed to the
/// runners, `Debug` hides them, and the digest goes on no record unless salted (A4).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The study's id.
    pub study: String,
    /// The stage of the plan, from 0.
    pub stage: u32,
    /// The round of the stage, from 0.
    pub round: u32,
    /// Coefficients of the scaled model matrix times `2^grid`.
    pub beta: Vec<i64>,
}

impl Question {
    /// The first question of a stage: the method's own start.
    pub fn start(
        study: &Study,
        dict: &Dictionary,
        plan: &Plan,
        stage: usize,
    ) -> Result<Question, AnalysisError> {
        let beta = match planned_stage(study, dict, plan, stage)?.kind {
            StageKind::Guard | StageKind::Once => Vec::new(),
            StageKind::Iterate { analysis } => match iterated(study, dict, stage, analysis)? {
                (_, Planned::Logistic(m)) => m.start(),
                _ => return Err(AnalysisError::NotThePlan { stage }),
            },
        };
        let stage = u32::try_from(stage).map_err(|_| AnalysisError::NotThePlan { stage })?;
        Ok(Question { study: study.id.clone(), stage, round: 0, beta })
    }

    /// Digest of the canonical form.
    pub fn digest(&self) -> Result<Digest, CanonError> {
        Ok(Digest::of(&canon::to_bytes(self)?))
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Question({}, stage {}, round {})", self.study, self.stage, self.round)
    }
}

/// What a site half yields: the vector of one round with what the site's own rules need to know. It holds sums
/// over persons and becomes a contribution only through the privacy room's check: no `Debug`, no serialisation.
#[derive(Clone, PartialEq)]
pub struct SiteVector {
    /// One value for each cell of the stage's layout.
    pub values: Vec<f64>,
    /// Effective units behind it, `(sum w)^2 / sum w^2`; rows analysed where all weigh the same (A1).
    pub effective_units: f64,
    /// Rows of the dataset.
    pub rows_read: u64,
    /// Rows analysed.
    pub analysed: u64,
    /// Indices of the values that would be published for this site alone: an output by site.
    pub by_site: Vec<usize>,
}

/// The opened sum of one round, decoded. Sums of intermediate rounds are for the runners alone (A1): no `Debug`.
#[derive(Clone, PartialEq)]
pub struct Sums {
    /// How many sites are summed.
    pub contributors: u32,
    /// One value for each cell of the stage's layout.
    pub values: Vec<f64>,
}

/// What follows from a sum. `Debug` says which, and no number.
#[derive(Clone, PartialEq, Eq)]
pub enum Step {
    /// Another round with this question.
    Ask(Question),
    /// The stage is done, with this result for the release check.
    Done(Box<AnalysisResult>),
    /// The stage failed: the whole output is withheld.
    Failed(Failure),
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Ask(question) => write!(f, "Ask({question:?})"),
            Step::Done(result) => write!(f, "Done({})", result.analysis),
            Step::Failed(failure) => write!(f, "Failed({failure})"),
        }
    }
}

/// One site's vector for a round, exactly as long as the stage's layout. `party` is the site, and matters only
/// for an output by site.
pub fn site(
    party: &str,
    study: &Study,
    dict: &Dictionary,
    plan: &Plan,
    stage: usize,
    question: &Question,
    frame: &Frame,
) -> Result<SiteVector, AnalysisError> {
    let of = planned_stage(study, dict, plan, stage)?;
    let wrong = |why| AnalysisError::Question { stage, why };
    if question.study != study.id || usize::try_from(question.stage) != Ok(stage) {
        return Err(wrong("it names another study or stage"));
    }
    if question.round >= of.max_rounds {
        return Err(wrong("its round is beyond the cap"));
    }
    if !matches!(of.kind, StageKind::Iterate { .. }) && !question.beta.is_empty() {
        return Err(wrong("it carries coefficients"));
    }
    let selection = select(&study.population, dict, frame)?;
    let mut effective_units = selection.analysed as f64;
    let mut by_site = Vec::new();
    let values = match of.kind {
        StageKind::Guard => guard::site(study, dict, &plan.earlier, frame, &selection)?,
        StageKind::Once => {
            let mut values = Vec::with_capacity(of.layout.cells.len());
            for analysis in &study.analyses {
                match Planned::new(analysis, study, dict)? {
                    Planned::MantelHaenszel(m) => values.extend(m.site(dict, frame, &selection)?),
                    Planned::Describe(m) => values.extend(m.site(dict, frame, &selection)?),
                    Planned::Crosstab(m) => {
                        by_site.extend(m.own_cells(party).map(|i| values.len() + i));
                        values.extend(m.site(party, dict, frame, &selection)?);
                    }
                    Planned::Logistic(_) => {}
                }
            }
            values
        }
        StageKind::Iterate { analysis } => {
            let (_, Planned::Logistic(m)) = iterated(study, dict, stage, analysis)? else {
                return Err(AnalysisError::NotThePlan { stage });
            };
            if question.round == 0 && question.beta != m.start() {
                return Err(wrong("the first one is not the method's start"));
            }
            let b =
                m.coefficients(&question.beta).ok_or_else(|| wrong("its coefficients are out of range"))?;
            let (values, effective) = m.site(&b, dict, frame, &selection)?;
            effective_units = effective;
            values
        }
    };
    if values.len() != of.layout.cells.len() {
        return Err(AnalysisError::NotThePlan { stage });
    }
    Ok(SiteVector {
        values,
        effective_units,
        rows_read: frame.rows as u64,
        analysed: selection.analysed,
        by_site,
    })
}

/// The plan's step of an iterative stage: from the question and the sums it got to the next question, the result
/// or a failure. Deterministic up to the result, so that the collector and every contributor agree (A1).
pub fn step(
    study: &Study,
    dict: &Dictionary,
    plan: &Plan,
    stage: usize,
    question: &Question,
    sums: &Sums,
) -> Step {
    match try_step(study, dict, plan, stage, question, sums) {
        Ok(step) => step,
        Err(failure) => Step::Failed(failure),
    }
}

fn try_step(
    study: &Study,
    dict: &Dictionary,
    plan: &Plan,
    stage: usize,
    question: &Question,
    sums: &Sums,
) -> Result<Step, Failure> {
    let of = planned_stage(study, dict, plan, stage).map_err(|_| Failure::NotThePlan)?;
    let StageKind::Iterate { analysis } = of.kind else {
        return Err(Failure::NotThePlan);
    };
    let belongs = question.study == study.id && usize::try_from(question.stage) == Ok(stage);
    let Ok((of, Planned::Logistic(m))) = iterated(study, dict, stage, analysis) else {
        return Err(Failure::NotThePlan);
    };
    if !belongs || question.round >= m.max_rounds {
        return Err(Failure::NotThePlan);
    }
    let b = m.coefficients(&question.beta).ok_or(Failure::NotThePlan)?;
    Ok(match m.step(&b, question.round, &sums.values)? {
        Next::Ask(beta) => Step::Ask(Question { round: question.round + 1, beta, ..question.clone() }),
        Next::Done(table) => Step::Done(Box::new(result(dict, analysis, of, sums, *table))),
    })
}

/// The results of all analyses of the single-sum stage, in the study's order; one failure fails all.
pub fn combine_once(
    study: &Study,
    dict: &Dictionary,
    plan: &Plan,
    sums: &Sums,
) -> Result<Vec<AnalysisResult>, Failure> {
    let mut rest = sums.values.as_slice();
    let planned = plan.stages.iter().find(|s| s.kind == StageKind::Once).map_or(0, |s| s.layout.cells.len());
    if planned != rest.len() {
        return Err(Failure::Malformed);
    }
    let mut results = Vec::new();
    for (index, analysis) in study.analyses.iter().enumerate() {
        let m = Planned::new(analysis, study, dict).map_err(|_| Failure::NotThePlan)?;
        if matches!(m, Planned::Logistic(_)) {
            continue;
        }
        let cells = m.layout(&analysis.id, dict.max_rows).map_err(|_| Failure::NotThePlan)?.len();
        let (own, others) = rest.split_at_checked(cells).ok_or(Failure::Malformed)?;
        rest = others;
        let table = match m {
            Planned::MantelHaenszel(m) => m.combine(own)?,
            Planned::Describe(m) => m.combine(own)?,
            Planned::Crosstab(m) => m.combine(own)?,
            Planned::Logistic(_) => continue,
        };
        results.push(result(dict, index, analysis, sums, table));
    }
    if rest.is_empty() { Ok(results) } else { Err(Failure::Malformed) }
}

fn result(
    dict: &Dictionary,
    index: usize,
    of: &study::Analysis,
    sums: &Sums,
    table: Table,
) -> AnalysisResult {
    AnalysisResult {
        analysis: of.id.clone(),
        index,
        title: of.title.clone(),
        unit: dict.unit.clone(),
        contributors: sums.contributors,
        table,
    }
}

/// The stage, if the plan's is the one that study and dictionary give.
fn planned_stage(
    study: &Study,
    dict: &Dictionary,
    plan: &Plan,
    stage: usize,
) -> Result<Stage, AnalysisError> {
    let own = stages(study, dict, &plan.earlier)?;
    let same = plan.study == study.id && plan.stages == own;
    own.into_iter().nth(stage).filter(|_| same).ok_or(AnalysisError::NotThePlan { stage })
}

fn iterated<'a>(
    study: &'a Study,
    dict: &Dictionary,
    stage: usize,
    analysis: usize,
) -> Result<(&'a study::Analysis, Planned), AnalysisError> {
    let of = study.analyses.get(analysis).ok_or(AnalysisError::NotThePlan { stage })?;
    Ok((of, Planned::new(of, study, dict)?))
}
