//! The input of a gate: every fact that a rule may read, typed, with where it comes from.
//!
//! Facts are filled from the record's state, the plan, the jurisdiction library and what the node measured
//! itself. What the record knows is never taken from the study's own say-so. Times are milliseconds since the
//! epoch in UTC; there are no floats, so that the input has one canonical form and one digest. Nothing in it is
//! derived from rows, save the coarse facts of [`ReleaseFacts`], which their signer asserts.

use crate::transfer::TransferFact;
use record::Digest;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The version of this input's form.
pub const VERSION: u32 = 2;
/// The oldest form that is still decided again. Form 1 knew nothing of rows registered again under another name.
pub const OLDEST: u32 = 1;

/// The step of a study's life that is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// May this study be put to the stewards here? Reads policy and plan only, never rows (A3).
    Propose,
    /// May this node send a contribution?
    Contribute,
    /// May this collector release the output?
    Release,
}

impl Stage {
    /// Its name in rules and receipts.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Propose => "propose",
            Stage::Contribute => "contribute",
            Stage::Release => "release",
        }
    }
}

/// Everything that a gate decides on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateInput {
    /// Form of this input: [`VERSION`].
    pub version: u32,
    /// The step.
    pub stage: Stage,
    /// The member whose gate this is.
    pub node: String,
    /// The time of the decision.
    pub now: i64,
    /// Whether this node is stopped, by its own switch or on the record. From: runner.
    pub stopped: bool,
    /// The agreement. From: record.
    pub charter: CharterFacts,
    /// This member's country schedule. From: record.
    pub schedule: ScheduleFacts,
    /// Every member named by the study, the pool or the hub, by id. From: charter.
    pub parties: BTreeMap<String, PartyFacts>,
    /// The study. From: record (the submitted study).
    pub study: StudyFacts,
    /// The plan. From: the study, the dictionary and the plan.
    pub plan: PlanFacts,
    /// This member's dataset of the study's name; none if it registered none. From: record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<DatasetFacts>,
    /// Stewards' votes. From: record.
    pub decision: DecisionFacts,
    /// Transfer basis of every pair from this member, as [`GateInput::consult`] looks it up.
    #[serde(default)]
    pub transfers: Vec<TransferFact>,
    /// Earlier runs that opened sums over this member's dataset. From: record.
    #[serde(default)]
    pub earlier: Vec<EarlierRun>,
    /// The run, from the moment when its set of sites is proposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunFacts>,
    /// What a release is judged by; at stage `release` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseFacts>,
}

/// What the gate needs to know of the agreement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CharterFacts {
    /// Its digest.
    pub digest: Digest,
    /// Digest of the floor's text that it names.
    pub floor: Digest,
    /// Whether every member has signed and the signatures are in force.
    pub in_force: bool,
    /// Members whose signature is missing.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unsigned: BTreeSet<String>,
    /// First instant at which it no longer holds.
    pub sunset: i64,
    /// Purposes that it allows.
    pub purposes: BTreeSet<String>,
    /// Members that may aggregate.
    pub aggregator_pool: BTreeSet<String>,
    /// Who relays and hosts.
    pub hub: HubFacts,
    /// Most age of the watermark at a start.
    pub watermark_limit_ms: i64,
    /// Fewest hidden sites in any study, and by how many two sets of sites must differ if not equal.
    pub min_hidden_sites: u32,
    /// Transfer instruments that its members have signed.
    #[serde(default)]
    pub instruments: Vec<Instrument>,
}

/// Who runs the hub and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubFacts {
    /// A member's id, or the name of somebody outside.
    pub operator: String,
    /// Where it is hosted, for example `NL`.
    pub jurisdiction: String,
    /// Its regime; filled by [`GateInput::consult`].
    #[serde(default)]
    pub regime: String,
}

/// A signed transfer instrument, for example standard contractual clauses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instrument {
    /// Short id.
    pub id: String,
    /// Mechanism of the jurisdiction library, for example `clauses`.
    pub mechanism: String,
    /// Jurisdictions or regimes of the exporters.
    pub exporters: Vec<String>,
    /// Jurisdictions or regimes of importing members. Somebody outside the federation is bound by name only.
    pub importers: Vec<String>,
    /// Where it can be read.
    pub reference: String,
}

/// This member's country schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleFacts {
    /// Its regime in the library, for example `EU`; empty if none was adopted.
    pub regime: String,
    /// Digest of its text; none if none was adopted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Newest material that its compiler saw, `YYYY-MM-DD`.
    pub as_of: String,
    /// The counsel seat that confirmed this very text; none if nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed_by: Option<String>,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartyFacts {
    /// Its jurisdiction, for example `IT`.
    pub jurisdiction: String,
    /// Who controls and hosts it.
    pub control: String,
    /// Its regime, for example `EU`; filled by [`GateInput::consult`], empty if the library does not know it.
    #[serde(default)]
    pub regime: String,
    /// The legal order of compulsory access that reaches it; filled likewise.
    #[serde(default)]
    pub legal_order: String,
}

/// The study as submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyFacts {
    /// Its id.
    pub id: String,
    /// Its digest.
    pub digest: Digest,
    /// Its purpose.
    pub purpose: String,
    /// Its domain.
    pub domain: String,
    /// Who asks.
    pub requester: String,
    /// Who collects.
    pub collector: String,
    /// Who aggregates.
    pub aggregators: Vec<String>,
    /// Who reads the output.
    pub recipients: Vec<RecipientFacts>,
    /// Whose rows are asked for.
    pub contributors: BTreeSet<String>,
    /// Fewest with which it may run.
    pub minimum_contributors: u32,
    /// First instant at which it may no longer run.
    pub until: i64,
    /// Least count of persons in a released cell.
    pub min_cell: u32,
    /// Fewest sites that it promises to hide.
    pub min_hidden_sites: u32,
}

/// A recipient of the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipientFacts {
    /// A member's id, or the name of somebody outside.
    pub name: String,
    /// For somebody outside: the jurisdiction that the study gives. None means a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<String>,
    /// Its regime; filled by [`GateInput::consult`].
    #[serde(default)]
    pub regime: String,
}

/// What the plan would let out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFacts {
    /// Its digest.
    pub digest: Digest,
    /// Most rows that a site may hold, by the dictionary.
    pub max_rows: u32,
    /// Columns used, by name.
    pub columns: BTreeMap<String, ColumnFacts>,
    /// Tables of counts.
    pub tables: Vec<TableFacts>,
    /// Methods used, for example `logistic`.
    pub methods: BTreeSet<String>,
    /// Numbers opened if every iteration runs to its cap, tables by site counted once for each site.
    pub numbers_opened: u64,
    /// Whether opened sums go back to the contributors for replay.
    pub replayed: bool,
    /// Earlier studies whose population this plan measures its own against.
    pub guards: BTreeSet<String>,
}

/// A column used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnFacts {
    /// What it may give away, by the dictionary.
    pub role: study::Role,
}

/// A table of counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableFacts {
    /// The analysis.
    pub analysis: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// Those that are numbers, counted by single value.
    pub single_values: Vec<String>,
    /// Cells of one such table.
    pub cells: u64,
    /// Whether there is one for each site.
    pub by_site: bool,
}

/// This member's dataset, as registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetFacts {
    /// Its name.
    pub name: String,
    /// Legal basis in the owner's words; empty if none was stated.
    pub legal_basis: String,
    /// Purposes for which it may be used.
    pub purposes: BTreeSet<String>,
    /// First instant at which it may no longer be kept.
    pub retention: i64,
    /// Whether it is paused, by the node's own switch or on the record.
    pub paused: bool,
    /// Whether the registered mapping passed its tests at the site.
    pub mapping_tested: bool,
    /// Dictionary columns that the mapping gives.
    pub mapped: BTreeSet<String>,
    /// Whether output by site may be released.
    pub by_site: bool,
    /// Whether it holds data of a special category (health, for example).
    pub special_category: bool,
    /// Reference of the impact assessment on record; none if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impact_assessment: Option<String>,
}

/// Stewards' votes that count, as the record's rules compute them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionFacts {
    /// The last counted vote of each member's steward.
    pub votes: BTreeMap<String, Vote>,
    /// How many must have voted.
    pub quorum: u32,
}

/// A steward's vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "choice", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Vote {
    /// Yes, until (exclusive).
    Yes {
        /// First instant at which it no longer holds.
        until: i64,
    },
    /// No.
    No,
    /// A yes taken back.
    Revoked,
}

/// An earlier run that opened sums over this member's dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlierRun {
    /// The study.
    pub study: String,
    /// The run.
    pub run: u32,
    /// The sites summed.
    pub contributors: BTreeSet<String>,
    /// Whether it used a column that this study uses.
    pub shared_columns: bool,
    /// Whether its population is this study's, by its words.
    pub same_population: bool,
}

/// The run at hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFacts {
    /// Its number, from 1.
    pub run: u32,
    /// The sites of its set.
    pub contributors: BTreeSet<String>,
    /// Aggregators whose signature under this very set is in force.
    pub signed_by: BTreeSet<String>,
    /// Age of the newest checkpoint with a quorum of cosignatures; none if this node has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark_age_ms: Option<i64>,
    /// What is about to start.
    pub start: Start,
}

/// What is about to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Start {
    /// The node asks for a permit, that is a lease and a receipt. No row may be read and nothing sent on it
    /// alone: each round asks again with [`Start::Round`].
    Permit,
    /// A round under a permit.
    Round {
        /// The stage in the plan.
        stage: u32,
        /// The round in the stage, from 0.
        round: u32,
        /// End of the lease.
        lease_until: i64,
        /// Whether the permit's receipt is on the record.
        receipt_logged: bool,
        /// Whether the node's own replay gives the question asked; true for a constant of the plan.
        question_replayed: bool,
    },
}

/// What a release is judged by. Coarse on purpose: what failed is not said (A3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseFacts {
    /// Members whose permit for this run is on the record.
    pub receipts: BTreeSet<String>,
    /// Whether the guard round passed.
    pub guard_passed: bool,
    /// Whether the release check passed.
    pub check_passed: bool,
}
