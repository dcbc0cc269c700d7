//! The record from outside: its claims, each as a test. One binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bundles;
mod canonical;
mod changes;
mod federation;
mod golden;
mod handover;
mod hostile;
mod logs;
mod rosters;
mod trees;
