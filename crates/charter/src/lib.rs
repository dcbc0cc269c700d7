//! What the statements mean: the fold from entries to [`State`].
//!
//! The key decision: state is a pure function of the entries. Nothing is typed in twice and nothing about the past
//! can be edited, because every registry, tally and permission is computed from the same signed statements by
//! everyone. A statement that breaks a rule stays in the record and is [`Status::Void`] with a reason that every
//! node computes alike; a statement of unknown type is void too, so that no single member can stop the others.
//!
//! The fold never evaluates a policy: it keeps the verdicts that nodes recorded, with their inputs, so that an
//! upgrade of the policy engine cannot change history and an auditor can re-perform every one of them.
//!
//! It reads no clock: time is the stamp of the entry being folded.

pub mod body;
pub mod document;
pub mod fold;
pub mod map;
pub mod proof;
pub mod snapshot;
pub mod state;

pub use document::{Charter, DataAccess, Hub, Instrument, Limits, Member, Seat, SeatRole};
pub use state::{
    Convicted, Dataset, Note, Phase, Receipt, Report, Run, ScheduleState, Stage, State, Status, StudyState,
    Vote, VoteChoice,
};
