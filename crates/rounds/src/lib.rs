//! How a sum is taken without showing its terms: sharing, aggregation, collection.

mod aggregator;
mod context;
mod contribute;
mod delivery;
mod envelope;
mod error;
mod groups;
mod kem;
mod opening;

pub use aggregator::{Aggregator, Message, OpeningMark};
pub use context::{MAX_AGGREGATORS, MAX_CONTRIBUTORS, MIN_CONTRIBUTORS, RoundContext};
pub use contribute::{Sealed, contribute};
pub use delivery::{open_release, seal_release};
pub use envelope::{Kind, kind_of};
pub use error::{ContextFault, RoundError};
pub use kem::{KemPublic, KemSecret, PUBLIC_KEY_BYTES, SEAL_BYTES};
pub use opening::Opening;

#[cfg(test)]
mod tests;
