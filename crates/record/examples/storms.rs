//! Runs the record in as many storms as there is time for, and prints figures and the seeds that break a claim.
//!
//! ```sh
//! cargo run --release -p comity-record --example storms -- --seeds 1000000 --from 0 --threads 2
//! cargo run --release -p comity-record --example storms -- --seeds 1 --from 17 --trace
//! cargo run --release -p comity-record --example storms -- --seeds 500 --sabotage NoFence
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]

#[path = "../tests/record/sim/mod.rs"]
mod sim;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sim::{Outcome, Sabotage, run};

fn text(name: &str) -> Option<String> {
    std::env::args().skip_while(|a| a != name).nth(1)
}

fn number(name: &str, otherwise: u64) -> u64 {
    text(name).map_or(otherwise, |t| t.parse().expect("a number behind the option"))
}

/// Figures over many seeds.
#[derive(Default)]
struct Sum {
    seeds: u64,
    events: u64,
    crashes: u64,
    restores: u64,
    in_force: u64,
    handovers: u64,
    forked: u64,
    lied: u64,
    with_liars: u64,
    forks_seen: u64,
    for_people: u64,
    torn: u64,
    withheld: u64,
    held_back: u64,
    overdue: u64,
    longest: i64,
    broken: Vec<Outcome>,
}

impl Sum {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.events += outcome.events;
        self.crashes += outcome.crashes;
        self.restores += outcome.restores;
        self.in_force += outcome.in_force;
        self.handovers += outcome.handovers;
        self.forked += u64::from(outcome.forked);
        self.lied += u64::from(outcome.lied);
        self.with_liars += u64::from(outcome.liars > 0);
        self.forks_seen += outcome.forks_seen;
        self.for_people += u64::from(outcome.for_people);
        self.torn += outcome.torn;
        self.withheld += u64::from(outcome.withheld > 0);
        self.held_back += u64::from(outcome.held_back > 0);
        self.overdue += u64::from(outcome.overdue > 0);
        self.longest = self.longest.max(outcome.settled);
        if !outcome.faults.is_empty() {
            self.broken.push(outcome);
        }
    }

    fn join(mut self, mut other: Sum) -> Sum {
        self.seeds += other.seeds;
        self.events += other.events;
        self.crashes += other.crashes;
        self.restores += other.restores;
        self.in_force += other.in_force;
        self.handovers += other.handovers;
        self.forked += other.forked;
        self.lied += other.lied;
        self.with_liars += other.with_liars;
        self.forks_seen += other.forks_seen;
        self.for_people += other.for_people;
        self.torn += other.torn;
        self.withheld += other.withheld;
        self.held_back += other.held_back;
        self.overdue += other.overdue;
        self.longest = self.longest.max(other.longest);
        self.broken.append(&mut other.broken);
        self
    }
}

fn main() {
    let (seeds, from, threads) = (number("--seeds", 10_000), number("--from", 0), number("--threads", 2));
    let sabotage = text("--sabotage").map(|n| Sabotage::named(&n).expect("a sabotage of this name"));
    let loud = std::env::args().any(|a| a == "--trace");
    record::keys::verify_once();
    let next = AtomicU64::new(from);
    let begun = Instant::now();
    let work = || {
        let mut sum = Sum::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + seeds {
                return sum;
            }
            sum.add(run(seed, sabotage, loud));
        }
    };
    let sum = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter().map(|t| t.join().unwrap()).reduce(Sum::join).unwrap()
    });
    let mut broken = sum.broken;
    broken.sort_by_key(|o| o.seed);
    for outcome in broken.iter().take(40) {
        println!("seed {}: {}", outcome.seed, outcome.faults.join("; "));
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{} seeds in {seconds:.1} s ({:.0} a second), {} events, {} in force, {} crashes, {} restores",
        sum.seeds,
        sum.seeds as f64 / seconds,
        sum.events,
        sum.in_force,
        sum.crashes,
        sum.restores
    );
    println!(
        "{} hand-overs ({} wait for people), {} hubs lied, {} forked, {} with members that lie, {} forks seen, settled within {} s",
        sum.handovers,
        sum.for_people,
        sum.lied,
        sum.forked,
        sum.with_liars,
        sum.forks_seen,
        sum.longest / 1000
    );
    println!(
        "{} groups of writes torn; in {} seeds a statement is withheld to the end, in {} members stop cosigning for one, in {} that was looked at beyond the bound",
        sum.torn, sum.withheld, sum.held_back, sum.overdue
    );
    println!("{} seeds broke a claim", broken.len());
    std::process::exit(i32::from(!broken.is_empty()));
}
