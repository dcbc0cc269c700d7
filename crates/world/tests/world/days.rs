//! Days of many seeds; and one seed is one day.

use std::sync::atomic::{AtomicU64, Ordering};
use world::{Federation, Question, run};

/// Days of the normal run; `cargo run --release -p comity-world --example days` does more.
const DAYS: u64 = 24;

#[test]
fn whatever_fails_on_a_bad_day_the_invariants_hold() {
    Federation::eight().unwrap();
    let next = AtomicU64::new(0);
    let failed: Vec<String> = std::thread::scope(|scope| {
        let worker = || {
            let mut failed = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::SeqCst);
                if seed >= DAYS {
                    return failed;
                }
                let report = run(seed).unwrap();
                if let Some(broken) = report.broken {
                    let last = report.trace.last(20).join("\n");
                    failed.push(format!(
                        "seed {seed}: {} did not hold: {}\n{last}",
                        broken.invariant, broken.found
                    ));
                }
            }
        };
        let workers = [scope.spawn(worker), scope.spawn(worker)];
        workers.into_iter().flat_map(|w| w.join().unwrap()).collect()
    });
    println!("{DAYS} days, {} of them failed", failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn one_seed_is_one_day_though_keys_and_shares_draw_their_own_randomness() {
    for seed in [2, 3, 11] {
        let (one, other) = (run(seed).unwrap(), run(seed).unwrap());
        let differs = one.trace.lines().iter().zip(other.trace.lines()).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(one.trace.digest(), other.trace.digest(), "seed {seed}");
        assert_eq!(one.counts, other.counts, "seed {seed}");
    }
}

#[test]
fn days_differ_by_their_seed() {
    assert_ne!(run(2).unwrap().trace.digest(), run(3).unwrap().trace.digest());
}

#[test]
fn on_a_day_on_which_nothing_fails_every_question_is_answered_with_the_pooled_truth() {
    for question in [Question::Count, Question::Single, Question::Regression] {
        let report = world::run_calm(question).unwrap();
        assert_eq!(report.broken, None, "{question:?}");
        assert_eq!(report.fates, ["released"], "{question:?}");
        assert_eq!((report.lost_runs, report.counts.kills), (0, 0), "{question:?}");
    }
}
