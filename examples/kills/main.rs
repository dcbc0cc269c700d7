//! Kills the processes of a small federation at named points (`wire::point`), again and again, and looks each time
//! whether anything that was acknowledged is lost: the real command, real TLS, real files.
//!
//! ```sh
//! cargo run --release --example kills -- --trials 10000 --seed 1
//! cargo run --release --example kills -- --trials 200 --seed 1 --threads 2
//! cargo run --release --example kills -- --trials 50 --seed 1 --from 1200 --trace
//! cargo run --release --example kills -- --trials 200 --seed 1 --sabotage
//! ```
//!
//! `--trace` tells each trial; `--sabotage` cuts the hub's log after every death of it, acknowledged or not, and must be
//! found out. `COMITY` names another binary than the one of this source.
//!
//! A hub and four members run. In each trial one of them, or a command, is told to die the so-manieth time that it passes
//! a point, while statements are submitted and the receipts kept; then it is started again. Some hubs that died between
//! commit and answer lose a part of the last record of their write-ahead log first, as in a power cut. Now and then the
//! hub stays dead and another takes over, with deaths at each step. What must hold is in [`watch`]. Which process dies,
//! where, and what is done meanwhile follow from the seed and the number of the trial; when exactly does not, since these
//! are processes. Every [`house::TRIALS`] trials begin a new federation, so that restarts stay short.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, dead_code)]

mod aims;
mod client;
#[path = "../../tests/system/command.rs"]
mod command;
mod house;
#[path = "../../tests/system/log.rs"]
mod log;
mod succession;
mod wal;
mod watch;

use house::{House, Sum, TRIALS};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

fn number(name: &str, otherwise: u64) -> u64 {
    let text = std::env::args().skip_while(|a| a != name).nth(1);
    text.map_or(otherwise, |t| t.parse().unwrap_or_else(|_| panic!("{name}: found `{t}`, expected a number")))
}

fn main() -> ExitCode {
    // The command that is killed is the one of this source, unless another is named.
    if std::env::var_os("COMITY").is_none() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo).args(["build", "--release", "--quiet", "--bin", "comity"]).status();
        assert!(built.is_ok_and(|s| s.success()), "the command could not be built");
    }
    let (seed, from, trials) = (number("--seed", 1), number("--from", 0), number("--trials", 200));
    let (begun, next, all) = (Instant::now(), AtomicU64::new(from), Mutex::new(Sum::default()));
    let broken = Mutex::new(Vec::<String>::new());
    let work = || {
        loop {
            let first = next.fetch_add(TRIALS, Ordering::Relaxed);
            if first >= from + trials || !broken.lock().unwrap().is_empty() {
                return;
            }
            match House::run(seed, first, TRIALS.min(from + trials - first)) {
                Ok(sum) => {
                    let mut all = all.lock().unwrap();
                    all.add(sum);
                    let spent = begun.elapsed().as_secs();
                    eprintln!("{} trials, {} acknowledged, {spent} s", all.trials, all.acknowledged);
                }
                Err(told) => broken.lock().unwrap().push(told),
            }
        }
    };
    std::thread::scope(|scope| (0..number("--threads", 1).max(1)).for_each(|_| drop(scope.spawn(work))));
    let all = all.into_inner().unwrap();
    print!("{}", all.table());
    println!("{:.1} s, seed {seed}", begun.elapsed().as_secs_f64());
    let broken = broken.into_inner().unwrap();
    for told in &broken {
        println!("BROKEN {told}");
    }
    if !broken.is_empty() {
        return ExitCode::FAILURE;
    }
    println!("no acknowledged statement lost, one history everywhere, every copy clean");
    ExitCode::SUCCESS
}
