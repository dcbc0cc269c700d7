//! The record from outside: its claims, each as a test. One binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bundles;
mod canonical;
mod changes;
mod cosigners;
mod evidence;
mod evidence_keys;
mod federation;
mod flips;
mod golden;
mod handover;
mod handovers_by_hand;
mod hostile;
mod logs;
mod members;
mod proofs;
mod receipts;
mod rosters;
mod sim;
mod storms;
mod trees;
mod witnesses;
