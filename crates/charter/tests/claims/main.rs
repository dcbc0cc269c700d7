//! What the fold promises, claim by claim: who may say what, when it counts, and that what does not count changes
//! nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod agreement;
mod attest;
mod changed;
mod changing;
mod documents;
mod federation;
mod golden;
mod history;
mod hostile;
mod living;
mod map;
mod notes;
mod phases;
mod registers;
mod reports;
mod runs;
mod scenario;
mod small;
mod snapshots;
mod studies;
