//! What may happen: the floor, country schedules, gate verdicts and their words, the jurisdiction library.
//!
//! A gate asks [`decide`] with a [`PolicySet`] (the floor, and the country schedule of this node) and a
//! [`GateInput`] (every fact that a rule may read, each from the record, the plan, the library or the node's
//! own measurement). The answer is a [`Verdict`]: yes, or no with each rule that says no, whose rule it is, on
//! which basis, what would change it and who can grant it.
//!
//! The key decision: **all permits are in the floor, and everything else can only forbid**. Policies are Cedar
//! text, in which a forbid beats every permit and order does not matter, so what a country schedule says can
//! only tighten; that an adopted schedule holds no permit is checked by looking, not by proof. Three traps of
//! the language are closed here: a forbid that errs would be skipped, so any error is a denial; a default deny
//! has no reason, so conditions are forbids of their own and a default deny is reported as a fault; the language
//! cannot count, so [`facts`] counts, the same way at every node and in an auditor's hands.
//!
//! ```
//! use policy::{GateInput, PolicySet, Schedule, decide};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let schedule = Schedule::adopt("AU.toml", policy::schedule("AU").ok_or("no such schedule")?)?;
//! let set = PolicySet::load(policy::FLOOR, Some(&schedule))?;
//! let mut input = GateInput::sound(&set)?;
//! assert!(decide(&set, &input).allow);
//! input.study.min_cell = 8;
//! assert_eq!(decide(&set, &input).determining[0].id, "au.min-cell-10");
//! # Ok(())
//! # }
//! ```
//!
//! Pure: no clock, no files, no randomness. Policies and library are compiled in; what binds is their digest in
//! the record.

mod asked;
pub mod change;
pub mod count;
pub mod facts;
pub mod input;
pub mod library;
mod lint;
pub mod schedule;
pub mod set;
pub mod transfer;
pub mod verdict;

pub use change::{Flip, flips, loosenings};
pub use input::{
    CharterFacts, ColumnFacts, DatasetFacts, DecisionFacts, EarlierRun, GateInput, HubFacts, Instrument,
    PartyFacts, PlanFacts, RecipientFacts, ReleaseFacts, RunFacts, ScheduleFacts, Stage, Start, StudyFacts,
    TableFacts, Vote,
};
pub use library::{Library, Transfer};
pub use schedule::Schedule;
pub use set::{PolicyError, PolicySet, decide, still_needed};
pub use transfer::{Location, TransferFact, TransferRole, transfer_pairs};
pub use verdict::{Determining, Verdict, explain};

/// The floor as shipped: what holds for everyone. A federation's charter names the digest of this text.
pub const FLOOR: &str = include_str!("../../../policies/floor.cedar");

/// The types of the facts that rules read. Part of this crate's version: neither charter nor schedule can bring
/// its own.
pub const SCHEMA: &str = include_str!("../../../policies/schema.cedarschema");

/// The country schedules as shipped, by regime of the jurisdiction library. None binds before a member's counsel
/// has confirmed it.
pub const SCHEDULES: [(&str, &str); 5] = [
    ("AR", include_str!("../../../policies/schedules/AR.toml")),
    ("AU", include_str!("../../../policies/schedules/AU.toml")),
    ("CH", include_str!("../../../policies/schedules/CH.toml")),
    ("EU", include_str!("../../../policies/schedules/EU.toml")),
    ("GB", include_str!("../../../policies/schedules/GB.toml")),
];

/// The shipped country schedule of a regime, for example `EU`.
pub fn schedule(regime: &str) -> Option<&'static str> {
    SCHEDULES.iter().find(|(id, _)| *id == regime).map(|(_, text)| *text)
}

/// Version of the engine that takes the decisions; part of every verdict, so that an auditor can use the same.
pub const ENGINE: &str = concat!("comity-policy/", env!("CARGO_PKG_VERSION"), " cedar/4.14.1");

#[cfg(test)]
mod tests;
