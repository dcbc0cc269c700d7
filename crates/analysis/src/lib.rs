//! What can be asked: each method with its layout, its site half and its combine half.
//!
//! A method here is never a program that runs over everybody's rows. It is three small functions: the *layout*,
//! the exact vector of bounded numbers that will leave a site, known before a row is read; the *site half*, from
//! a site's columns to that vector; and the *combine half*, from the sum of all sites' vectors to a result, or
//! to the next question. What is computed equals the pooled computation, because each method here is one whose
//! sufficient statistics add up; nothing is averaged over sites.
//!
//! The key decision: **nobody chooses a question.** [`step`] is deterministic and uses only the four
//! operations and the square root of IEEE 754, in a fixed order, so that the collector and every contributor
//! reach the same next coefficients, bit for bit, and those are asked for as whole numbers on a grid that the
//! plan sets. A contributor answers what it has computed itself from the last sum and nothing else (A1).
//!
//! A fit that fails (separation, a singular matrix, the cap of rounds) is [`Failure`], which shows as the same
//! words as any other withheld output, because *why* it failed is itself an answer about rows (A3).
//!
//! # Example
//!
//! Two sites, each with a table `[a, b, c, d]` that nobody else sees. Their terms add up, and the sum is all that
//! the common odds ratio needs:
//!
//! ```
//! use analysis::mantel_haenszel::terms;
//!
//! let sum: Vec<f64> =
//!     terms([26, 246, 38, 234]).iter().zip(terms([17, 281, 21, 278])).map(|(x, y)| x + y).collect();
//! let odds_ratio = sum[4] / sum[5]; // sum of ad/n by sum of bc/n, Mantel & Haenszel 1959
//! assert!((odds_ratio - 0.705_6).abs() < 1e-4);
//! ```
//!
//! Reading order: [`plan()`], [`select()`], one method ([`describe`] is the shortest, [`logistic`] the longest),
//! then [`round`], which joins them.

pub mod crosstab;
pub mod describe;
pub mod design;
pub mod error;
pub mod frame;
pub mod guard;
mod linear;
pub mod logistic;
pub mod mantel_haenszel;
pub mod number;
pub mod plan;
pub mod render;
pub mod result;
pub mod round;
pub mod select;

pub use error::{AnalysisError, Failure, PlanError};
pub use frame::{Data, Frame};
pub use number::Number;
pub use plan::{plan, stated_error};
pub use render::{render, render_failure, render_population};
pub use result::{AnalysisResult, Coefficient, Description, Interval, Reference, Table, Test};
pub use round::{Question, SiteVector, Step, Sums, combine_once, site, step};
pub use select::{Selection, select};
