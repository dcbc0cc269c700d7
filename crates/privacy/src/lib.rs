//! What may be revealed: bounds, disclosure rules, release checks.
//!
//! Two things leave a federation's members, and each has a type that only its own check in this room can make:
//!
//! * a [`Contribution`] leaves a site. [`Contribution::check`] holds the site's vector against the layout that
//!   the plan declared (length, bounds, resolution) and against the site's own rules. Nothing else can be
//!   sealed by the rounds room.
//! * a [`Release`] leaves the collector. [`Release::check`] holds the pooled counts of the guard round against
//!   the study's protection, hides small counts together with complements, and hands out the document that
//!   the recipients read. Nothing else can be published.
//!
//! The usual way is a function that answers "allowed" and a caller that remembers to ask. Here a caller that
//! forgets has nothing to send, because neither type has another constructor, a `Default`, or a `Deserialize`.
//!
//! # What a failed check says
//!
//! A check on rows must not become a question that is answered (A3). At the site a [`Refused`] names the cell
//! and never the value, and stays in that site's own log. At the collector every failure is [`Withheld`], one
//! type without content, whichever rule failed.
//!
//! # What is claimed
//!
//! Disclosure control with exact numbers. No pair and no triple of releases singles out fewer people than the
//! study's minimum cell, as far as the guard round counted them; nothing is claimed about longer combinations,
//! and none of this is called private in the sense of differential privacy. Minimum-cell rules bind what is
//! released, not the hidden terms of a sum: a site of two patients contributes like any other.
//!
//! # Example
//!
//! ```
//! use privacy::{Contribution, LocalRules, decode};
//! use record::Digest;
//! use study::{Cell, Layout};
//!
//! let layout = Layout { cells: vec![Cell::count("patients", 8192), Cell::spanning("sum of age", 0, 1 << 20, 4)] };
//! let plan = Digest::of(b"the plan's canonical bytes");
//! let rules = LocalRules { rows_read: 2, max_rows: 8192, ..LocalRules::default() };
//! let contribution = Contribution::check(&layout, &[2.0, 141.5], plan, &rules).unwrap();
//! assert_eq!(contribution.encoded(), &[2, 141 * 16 + 8]);
//! // The sum over one site is that site's own vector.
//! assert_eq!(decode(&layout, &[2, 141 * 16 + 8], 1).unwrap(), vec![2.0, 141.5]);
//! ```

pub mod contribution;
pub mod encoding;
pub mod guard;
pub mod release;
pub mod sites;
pub mod tables;

pub use contribution::{Contribution, LocalRules, Refused};
pub use encoding::{LayoutFault, check_layout, decode, layout_digest};
pub use guard::{ReleaseRules, Verdict, Withheld, guard_verdict};
pub use release::{Population, Reason, Release, Released, Run};
pub use sites::{hidden_sites, hidden_sites_for_all, sets_compatible};
pub use tables::suppress;

#[cfg(test)]
mod release_tests;
