//! A hub and its members over real TLS on loopback, honest and otherwise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod desk;
mod handed_over;
mod life;
mod members;
mod outside;
mod plain;
mod relay;
mod sequencer;
mod storage;
mod torn;
mod witnesses;
