//! The plan: every round with its layout, fixed before a row is read.

use crate::{Layout, Population};
use serde::{Deserialize, Serialize};

/// What will be computed, round by round. Made by `analysis::plan`; its digest binds every contribution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The study's id.
    pub study: String,
    /// Digest of the study document in hexadecimal.
    pub study_digest: String,
    /// Digest of the data dictionary in hexadecimal.
    pub dictionary_digest: String,
    /// Earlier populations over the same dataset, from which this one must differ by nobody or by many (A6).
    pub earlier: Vec<EarlierPopulation>,
    /// The stages, in order; the first is the guard.
    pub stages: Vec<Stage>,
}

/// An earlier released study whose population may not differ from this one's by a few people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlierPopulation {
    /// That study's id.
    pub study: String,
    /// Its population.
    pub population: Population,
}

/// A stage: one round, or an iteration of at most `max_rounds` rounds of one layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// What it is for.
    pub kind: StageKind,
    /// What leaves a site in each round of it.
    pub layout: Layout,
    /// Most rounds: 1 unless iterative.
    pub max_rounds: u32,
}

/// What a stage is for, and who reads its sums.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "kebab-case")]
pub enum StageKind {
    /// Sizes that the release check needs; read by the collector alone, whose only output is a verdict.
    Guard,
    /// All analyses that need one sum; read by the collector alone.
    Once,
    /// One iterative analysis; sums are read by the collector and by every contributor, who replay the step (A1).
    Iterate {
        /// Index of the analysis in the study.
        analysis: usize,
    },
}

impl Plan {
    /// Numbers opened if every iteration runs to its cap; all of them count against rows (A1).
    pub fn numbers_opened(&self) -> u64 {
        self.stages.iter().map(|s| s.layout.cells.len() as u64 * u64::from(s.max_rounds)).sum()
    }
}
