//! Claims of the analysis room, on generated rows and on the International Stroke Trial.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod failing;
mod federation;
mod guards;
mod pooled;
mod splits;
mod trial;
