//! Bad days, many: `cargo run --release -p comity-world --example days -- --seeds 1000 [--from N] [--threads N]`.
//!
//! Prints days a second, operations, kills, lost runs and releases; on a failure the seed, the invariant and the last
//! events, and ends with 1. `--trace` prints the whole of each day,
//! `--twice` lives each day twice and compares them, `--wild-clocks` lets clocks jump by minutes.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, default: u64| -> Result<u64, Box<dyn std::error::Error>> {
        match args.iter().position(|a| a == name) {
            Some(at) => Ok(args.get(at + 1).ok_or("a number is missing")?.parse()?),
            None => Ok(default),
        }
    };
    let (seeds, from) = (number("--seeds", 100)?, number("--from", 0)?);
    let threads = number("--threads", 2)?;
    let wild = args.iter().any(|a| a == "--wild-clocks");
    let sabotage = wild.then_some(world::Sabotage::WildClocks);
    let twice = args.iter().any(|a| a == "--twice");
    let whole = args.iter().any(|a| a == "--trace");
    let founded = Instant::now();
    world::Federation::eight()?;
    println!("founded in {:.2} s", founded.elapsed().as_secs_f64());
    let began = Instant::now();
    let (next, failed) = (AtomicU64::new(from), AtomicBool::new(false));
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= from + seeds {
                        return;
                    }
                    let started = Instant::now();
                    let day = world::run_with(seed, sabotage);
                    let took = started.elapsed().as_secs_f64();
                    let mut totals = totals.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    match day {
                        Ok(report) => {
                            if twice && let Some(line) = unlike(&report, sabotage) {
                                failed.store(true, Ordering::SeqCst);
                                println!("\nseed {seed}: a second time it went otherwise: {line}");
                            }
                            totals.add(&report, took);
                            if whole {
                                print!("{}", report.trace);
                            }
                            if let Some(broken) = &report.broken {
                                failed.store(true, Ordering::SeqCst);
                                println!("\nseed {seed}: {} did not hold", broken.invariant);
                                println!("  at {} ms: {}", broken.at, broken.found);
                                report
                                    .trace
                                    .last(if whole { 0 } else { 25 })
                                    .iter()
                                    .for_each(|l| println!("  {l}"));
                            }
                        }
                        Err(e) => {
                            failed.store(true, Ordering::SeqCst);
                            println!("\nseed {seed}: {e}");
                        }
                    }
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    totals.lock().unwrap_or_else(std::sync::PoisonError::into_inner).print(seconds);
    if failed.load(Ordering::SeqCst) {
        std::process::exit(1);
    }
    Ok(())
}

/// Where the same day, lived again, is another.
fn unlike(report: &world::Report, sabotage: Option<world::Sabotage>) -> Option<String> {
    let again = world::run_with(report.seed, sabotage).ok()?;
    let mut pairs = report.trace.lines().iter().zip(again.trace.lines());
    let first = pairs.find(|(a, b)| a != b).map(|(a, b)| format!("{a:?} and {b:?}"));
    first.or_else(|| (report.trace.digest() != again.trace.digest()).then(|| "one is longer".into()))
}

#[derive(Default)]
struct Totals {
    days: u64,
    broken: BTreeMap<&'static str, Vec<u64>>,
    operations: usize,
    kills: u64,
    lost_runs: usize,
    lied: u64,
    events: u64,
    simulated: i64,
    fates: BTreeMap<&'static str, u64>,
    took: Vec<(f64, u64)>,
}

impl Totals {
    fn add(&mut self, report: &world::Report, took: f64) {
        self.days += 1;
        self.operations += report.operations;
        self.kills += report.counts.kills;
        self.lost_runs += report.lost_runs;
        self.lied += u64::from(report.lied);
        self.events += report.counts.events;
        self.simulated += report.counts.simulated;
        self.took.push((took, report.seed));
        for fate in &report.fates {
            *self.fates.entry(fate).or_default() += 1;
        }
        if let Some(broken) = &report.broken {
            self.broken.entry(broken.invariant).or_default().push(report.seed);
        }
    }

    fn print(&mut self, seconds: f64) {
        let days = self.days as f64;
        println!("\n{} days in {seconds:.1} s: {:.1} days a second", self.days, days / seconds);
        println!("operations {}, kills {}, lost runs {}", self.operations, self.kills, self.lost_runs);
        println!("days with a lying relay {}, events {}", self.lied, self.events);
        println!("simulated {:.1} hours", self.simulated as f64 / 3.6e6);
        let fates: Vec<String> = self.fates.iter().map(|(fate, n)| format!("{fate} {n}")).collect();
        println!("studies: {}", fates.join(", "));
        self.took.sort_by(|a, b| b.0.total_cmp(&a.0));
        let slow: Vec<String> =
            self.took.iter().take(5).map(|(s, seed)| format!("{seed} ({s:.2} s)")).collect();
        println!("longest: {}", slow.join(", "));
        for (invariant, seeds) in &mut self.broken {
            seeds.sort_unstable();
            println!("BROKEN {invariant}: {} seeds, {:?}", seeds.len(), &seeds[..seeds.len().min(20)]);
        }
    }
}
