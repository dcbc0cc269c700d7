//! Bad days, and that they would be noticed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod days;
mod parsers;
mod sabotage;
mod seeds;
