//! The nouns of a question: data dictionary, site mapping, study, plan and vector layout.
//!
//! A study is a TOML file that a person can read. Together with the data dictionary that it names it becomes
//! a [`Plan`]: for every round the exact vector that will leave a site (cells, bounds, resolution), so that the
//! shape of everything that leaves is known, priced and approved before a row is read.
//!
//! This room parses, checks and digests. It holds no formula of statistics and reads no row.

pub mod canonical;
pub mod check;
pub mod dictionary;
pub mod document;
pub mod error;
pub mod formula;
pub mod guard;
pub mod identifier;
pub mod layout;
pub mod mapping;
pub mod plan;
pub mod question;

pub use dictionary::{Column, Dictionary, Kind, Level, Role};
pub use error::{DocumentError, Place};
pub use formula::Formula;
pub use guard::{GuardCell, GuardRule, guard_cells};
pub use layout::{Cell, Layout};
pub use mapping::Mapping;
pub use plan::{EarlierPopulation, Plan, Stage, StageKind};
pub use question::{Analysis, Condition, Method, Outsider, Population, Protection, Recipient, Study};
