//! A federation in one process: real nodes, a relay that the test controls and that can lie, and time that the
//! test hands in. Each test is a claim of the house.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod aggregator;
mod attested;
mod canaries;
mod changes;
mod closed;
mod collector;
mod fsck;
mod handover;
mod house;
mod hub;
mod liars;
mod lines;
mod lost;
mod members;
mod notes;
mod peers;
mod pooled;
mod record_and_state;
mod relay;
mod requester;
mod restored;
mod right;
mod stops;
