//! The whole system from outside: real processes of the one binary, real folders, mutual TLS on loopback.
//!
//! Everything is done with commands that a person can type. One demo on generated data is shared; every other
//! federation belongs to its test and ends with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bad_input;
mod bundle;
mod by_hand;
mod canary;
mod command;
mod crash;
mod deaths;
mod demo;
mod federation;
mod forked;
mod fsck;
mod handover;
mod left_behind;
mod line;
mod log;
mod notes;
mod witness;
