//! Time of a gate decision, against the digest of the same input in the same run.
//!
//! `cargo run --release -p comity-policy --example bench_gate`

use policy::{FLOOR, GateInput, Library, PolicySet, Schedule, decide};
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

fn median(mut run: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..2_000)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn main() -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let library = Library::embedded()?;
    println!("library read            {:>10.3?}", start.elapsed());
    let start = Instant::now();
    let schedule = Schedule::adopt("AU.toml", policy::schedule("AU").ok_or("no schedule")?)?;
    println!("schedule adopted        {:>10.3?}  ({} tests)", start.elapsed(), schedule.tests());
    let start = Instant::now();
    let set = PolicySet::load(FLOOR, Some(&schedule))?;
    println!("policies loaded         {:>10.3?}  ({} rules)", start.elapsed(), set.rule_ids().len());
    let allowed = GateInput::sound(&set)?;
    let mut refused = allowed.clone();
    refused.study.min_cell = 8;
    let mut again = allowed.clone();
    let bytes = record::canon::to_bytes(&allowed)?.len();
    println!("input, {bytes} bytes, {} pairs", allowed.transfers.len());
    println!("library consulted       {:>10.3?}", median(|| again.consult(&library)));
    let digest = median(|| {
        let bytes = record::canon::to_bytes(black_box(&allowed)).unwrap_or_default();
        black_box(record::Digest::of(&bytes));
    });
    println!("digest of the input     {digest:>10.3?}");
    for (name, input) in [("allowed", &allowed), ("refused", &refused)] {
        let time = median(|| {
            black_box(decide(&set, black_box(input)));
        });
        let ratio = time.as_secs_f64() / digest.as_secs_f64();
        println!("decision, {name:<13} {time:>10.3?}  ({ratio:.1} times the digest)");
    }
    Ok(())
}
