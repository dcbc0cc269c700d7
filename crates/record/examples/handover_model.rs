//! Checks the hand-over in larger worlds than the tests do, and prints figures and the shortest way to break each
//! claim that does not hold. A hub needs two entries or more to equivocate.
//!
//! ```sh
//! cargo run --release -p comity-record --example handover_model -- --liars 1 --old-hub-lies --entries 3 --depth 40
//! cargo run --release -p comity-record --example handover_model -- --liars 1 --rule 2
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]

#[path = "../tests/record/handover/model.rs"]
mod model;

use std::time::Instant;

use model::{Flaw, Handover, Rule};
use stateright::{Checker, Expectation, Model};

fn value(name: &str) -> Option<usize> {
    let mut arguments = std::env::args().skip_while(|a| a != name).skip(1);
    Some(arguments.next()?.parse().expect("a number behind each option"))
}

fn is_set(name: &str) -> bool {
    std::env::args().any(|a| a == name)
}

fn main() {
    let rule = match value("--rule").unwrap_or(0) {
        1 => Rule::LargestNote,
        2 => Rule::FaultsPlusFirst,
        3 => Rule::LargestClaim,
        4 => Rule::LargestClaimOfAnyTerm,
        5 => Rule::EveryoneAnswered,
        _ => Rule::CouldBeInForce,
    };
    let flaw = match value("--flaw").unwrap_or(0) {
        1 => Flaw::CosignsAfterSigningOff,
        2 => Flaw::TakesEntriesTwice,
        3 => Flaw::ActsAfterSigningOff,
        _ => Flaw::None,
    };
    let model = Handover {
        members: value("--members").unwrap_or(4),
        liars: value("--liars").unwrap_or(1),
        faults: value("--faults").unwrap_or(1),
        entries: value("--entries").unwrap_or(2) as u32,
        handovers: value("--handovers").unwrap_or(1),
        old_hub_lies: is_set("--old-hub-lies"),
        new_hubs_lie: is_set("--new-hubs-lie"),
        new_hubs: value("--new-hubs").unwrap_or(1) as u32,
        crashes: value("--crashes").unwrap_or(0),
        restores: value("--restores").unwrap_or(0),
        notes: !is_set("--no-notes"),
        members_guard: !is_set("--no-guard"),
        rule,
        flaw,
        only: None,
    };
    println!("{model:?}");
    let started = Instant::now();
    let mut builder = model.clone().checker().threads(value("--threads").unwrap_or(1));
    if let Some(depth) = value("--depth") {
        builder = builder.target_max_depth(depth);
    }
    let checker = builder.spawn_bfs().join();
    println!(
        "{} states, {} different, depth {}, {:.1} s",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        started.elapsed().as_secs_f64()
    );
    let found = checker.discoveries();
    for property in model.properties() {
        match (property.expectation, found.contains_key(property.name)) {
            (Expectation::Sometimes, true) | (Expectation::Always, false) => {
                println!("holds:  {}", property.name)
            }
            (_, false) => println!("never:  {}", property.name),
            (_, true) => {
                println!("BROKEN: {}", property.name);
                print_shortest(&model, property.name);
            }
        }
    }
}

/// The shortest way to break a claim, step by step.
fn print_shortest(model: &Handover, name: &'static str) {
    let only = Handover { only: Some(name), ..model.clone() };
    if let Some(path) = only.checker().spawn_bfs().join().discovery(name) {
        let last = path.last_state().clone();
        for action in path.into_actions() {
            println!("    {action:?}");
        }
        println!("    in force: {:?}", model.in_force(&last));
    }
}
