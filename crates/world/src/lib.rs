//! One simulated world: real nodes and a real hub as state machines under one seed, with a network, disks and clocks
//! that fail, people who ask, vote and stop, and a relay that may lie; and a watch over what must hold all the while.
//!
//! The key decision: nothing in here is a copy. The nodes are [`node::Node`] over stores in memory, killed by
//! [`node::Node::fall`]; the hub is [`hub::Desk`], the very functions that are served. What is the world's own is only
//! what a computer would do by itself: the carriers between a node and its hub (as `node::service` has them), time,
//! loss, and chance. One generator draws everything, so a seed is a day, and a day can be had again. Keys and shares
//! draw their own randomness, so bytes differ from run to run; the sequence of events does not ([`Trace`]).
//!
//! What it believes: that SQLite in memory keeps what it committed and forgets what it did not; that its carriers do
//! what the served ones do. What it does not reach: TLS, sockets, threads, files, and what two processes on one store
//! do to each other. An invariant that holds here has been looked at on some thousand bad days, and is not proved.
//!
//! Threat model: a day has honest members with failing machines, and sometimes a relay that drops, delays, repeats,
//! shuffles and alters, promises and does not keep, starves one member, or shows two histories. Lying members are in
//! the tests of `node`.
//!
//! ```no_run
//! let report = world::run(7)?;
//! assert!(report.broken.is_none());
//! # Ok::<(), world::WorldError>(())
//! ```

mod day;
mod ending;
mod founding;
mod hubside;
mod model;
mod process;
mod trace;
mod truth;
mod watch;
mod world;

pub use ending::Fate;
pub use founding::{Federation, Question, Setup, Site, rows_of};
pub use trace::{HUB, Line, Trace};
pub use truth::Truth;
pub use watch::Broken;
pub use world::{Counts, Sabotage, World};

/// Why a day could not be simulated; a fault of the world, not of what is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the world failed: {0}")]
pub struct WorldError(pub String);

pub(crate) trait Failed<T> {
    fn failed(self, what: &str) -> Result<T, WorldError>;
}

impl<T, E: std::fmt::Display> Failed<T> for Result<T, E> {
    fn failed(self, what: &str) -> Result<T, WorldError> {
        self.map_err(|e| WorldError(format!("{what}: {e}")))
    }
}

/// How a day went.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// The first invariant that broke, if one did.
    pub broken: Option<Broken>,
    /// What happened.
    pub trace: Trace,
    /// How much.
    pub counts: Counts,
    /// Operations of the day.
    pub operations: usize,
    /// Where each study ended.
    pub fates: Vec<Fate>,
    /// Runs that were given up.
    pub lost_runs: usize,
    /// Whether the relay lied.
    pub lied: bool,
}

/// Simulates the day of a seed.
pub fn run(seed: u64) -> Result<Report, WorldError> {
    run_with(seed, None)
}

/// Simulates the day of a seed, with a fault put in by hand.
pub fn run_with(seed: u64, sabotage: Option<Sabotage>) -> Result<Report, WorldError> {
    let federation = Federation::eight()?;
    let mut world = federation.begin(seed)?;
    world.sabotage(federation, sabotage)?;
    world.day(federation)
}

/// Simulates a day on which nothing fails and one thing is asked.
pub fn run_calm(question: Question) -> Result<Report, WorldError> {
    let federation = Federation::eight()?;
    federation.begin(0)?.calm(question, federation)
}
