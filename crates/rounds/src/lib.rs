//! How a sum is taken without showing its terms: sharing, aggregation, collection.
//!
//! A round adds up one vector from each contributor. The roles are those of VDAF (draft-irtf-cfrg-vdaf-18):
//! *contributors* split their vectors into shares, two or more *aggregators* check together that every vector
//! is within its bounds and add up what they hold, and *readers* (the collector; in a replayed stage also every
//! contributor) put the aggregators' sums together. The proof system is Prio3SumVec, one instance for each
//! width of cell, with all messages sealed to their receiver by HPKE with X-Wing.
//!
//! The machines here are synchronous and do no I/O: bytes in, bytes out. They draw randomness from the operating
//! system through `prio`, `hpke` and `getrandom`, and nothing else from outside.
//!
//! The usual way is one helper behind an RPC that two fixed servers run for everyone. Here every member can
//! aggregate, so a machine trusts none of the other parties, keeps what it must not forget as marks that its
//! node stores, and a round that breaks is lost rather than repaired: repairing it would sum another set of
//! contributors.
//!
//! # One round
//!
//! ```text
//! contributor        aggregators                          readers
//!     |                begin: key parts to each other        |
//!     |-- shares ----> all parts and all shares in:          |
//!     |                verifier shares to each other         |
//!     |                every proof holds: add up,            |
//!     |                commitments to each other             |
//!     |                all commitments in, mark kept,        |
//!     |                contributors' statement in force:     |
//!     |                openings ---------------------------> sum
//! ```
//!
//! # Who may do what
//!
//! Assumed: at least one aggregator of the round follows the protocol; `from` is authenticated by the caller
//! (frames are signed by keys in the record); KEM keys come from the record and are fresh for the run; the
//! caller has checked who contributes, who aggregates and what is asked against record and policy.
//!
//! | party that lies | stopped | not stopped |
//! | --- | --- | --- |
//! | relay | reading; altering, swapping, repeating or inventing messages; moving them to another round, receiver, set of contributors, layout or question | dropping and delaying: the round does not open |
//! | contributor | entries out of bounds; shares that do not fit together; two contributions; copying another's share | any vector within bounds: a range proof is no proof of truth, nor of clipping for each person |
//! | aggregator | learning a term, or the sum before it opens; choosing the verify key alone; summing fewer contributors; opening twice; choosing its share after seeing another's; telling readers different sums | shifting the sum by small amounts it fixed before, without learning a term (a shift at random is out of range and seen); letting its own or an accomplice's out-of-bounds vector pass, for an aggregator that also contributes can prove anything to itself; losing the round |
//! | collector, other readers | learning more than the sum | subtracting their own terms and those of accomplices from it: hidden sites count from each viewer's side |
//! | all aggregators together | nothing | everything: they open every contribution. Choose them under separate control and in different compulsory-order regimes |
//!
//! A failed proof names the contributor but cannot tell its lie from an aggregator's. Sums are exact: what they
//! give away by themselves is the privacy room's business.
//!
//! # What a node must keep, and when
//!
//! * A contributor: the bytes of each [`Sealed`] before sending. It resends those bytes and never shares again
//!   for the same round.
//! * An aggregator: its [`RoundSeed`] for the round's [`RoundContext::slot`], before the messages of
//!   [`Aggregator::begin`] leave, since a machine that started over with another would verify the same shares
//!   under a second key; every message taken and every message due, in the order in which they came; and its
//!   [`OpeningMark`] before those of [`Aggregator::open`] leave. A slot that was opened is not given to a second
//!   machine.
//! * Everyone: KEM secrets only until the run closes.
//!
//! The machines wipe what they hold of secrets when dropped, as far as their parts let them: `prio` does not
//! wipe its own intermediate values.
//!
//! # Example
//!
//! ```
//! use privacy::{Contribution, LocalRules, decode};
//! use record::Digest;
//! use rounds::{Aggregator, KemSecret, Opening, RoundContext, RoundSeed, contribute};
//! use study::{Cell, Layout};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ctx = RoundContext {
//!     federation: Digest::of(b"charter"),
//!     study: "aspirin".into(),
//!     run: 1,
//!     stage: 0,
//!     round: 0,
//!     contributors: vec!["it".into(), "nl".into(), "pl".into()],
//!     aggregators: vec!["ch".into(), "se".into()],
//!     collector: "no".into(),
//!     replayed: false,
//!     plan: Digest::of(b"plan"),
//!     question: Digest::of(b"question"),
//!     layout: Layout { cells: vec![Cell::count("patients", 8191)] },
//! };
//! let (ch, se, no) = (KemSecret::generate(), KemSecret::generate(), KemSecret::generate());
//! let keys = [("ch".to_owned(), ch.public()), ("se".to_owned(), se.public())];
//! let mut first = Aggregator::new(ctx.clone(), "ch", ch, &keys[1..], &RoundSeed::generate()?)?;
//! let mut second = Aggregator::new(ctx.clone(), "se", se, &keys[..1], &RoundSeed::generate()?)?;
//!
//! // Contributors share; aggregators exchange what falls due until nothing does.
//! let mut mail: Vec<(&str, rounds::Message)> = Vec::new();
//! mail.extend(first.begin()?.into_iter().map(|m| ("ch", m)));
//! mail.extend(second.begin()?.into_iter().map(|m| ("se", m)));
//! for (me, patients) in [("it", 3437.0), ("nl", 728.0), ("pl", 759.0)] {
//!     let rules = LocalRules { rows_read: 1, max_rows: 8192, ..LocalRules::default() };
//!     let contribution = Contribution::check(&ctx.layout, &[patients], ctx.plan, &rules)?;
//!     let sealed = contribute(&ctx, me, contribution, &keys)?;
//!     mail.extend(first.on_contribution(me, sealed[0].bytes())?.into_iter().map(|m| ("ch", m)));
//!     mail.extend(second.on_contribution(me, sealed[1].bytes())?.into_iter().map(|m| ("se", m)));
//! }
//! while let Some((from, message)) = mail.pop() {
//!     let (machine, name) = if message.to == "ch" { (&mut first, "ch") } else { (&mut second, "se") };
//!     mail.extend(machine.on_message(from, &message.bytes)?.into_iter().map(|m| (name, m)));
//! }
//!
//! // Each keeps its mark, then opens once.
//! let readers = [("no".to_owned(), no.public())];
//! let mut opening = Opening::new(ctx.clone(), "no", no)?;
//! for (from, machine) in [("ch", &mut first), ("se", &mut second)] {
//!     let _mark_to_keep = machine.ready_to_open().ok_or("not ready")?;
//!     for message in machine.open(&readers)? {
//!         opening.on_message(from, &message.bytes)?;
//!     }
//! }
//! let sum = opening.sum().ok_or("no sum")?;
//! assert_eq!(decode(&ctx.layout, sum, 3)?, vec![4924.0]);
//! # Ok(())
//! # }
//! ```

mod aggregator;
mod context;
mod contribute;
mod delivery;
mod envelope;
mod error;
mod groups;
mod kem;
mod opening;

pub use aggregator::{Aggregator, Message, OpeningMark, RoundSeed};
pub use context::{MAX_AGGREGATORS, MAX_CONTRIBUTORS, MIN_CONTRIBUTORS, RoundContext};
pub use contribute::{Sealed, contribute};
pub use delivery::{open_release, seal_release};
pub use envelope::{Kind, kind_of};
pub use error::{ContextFault, RoundError};
pub use kem::{KemPublic, KemSecret, PUBLIC_KEY_BYTES, SEAL_BYTES};
pub use opening::Opening;

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod leak_tests;
#[cfg(test)]
mod lies_tests;
#[cfg(test)]
mod tests;
