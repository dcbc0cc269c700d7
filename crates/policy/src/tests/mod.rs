#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
//! What this room promises, as tests.

mod adoption;
mod asked;
mod floor;
mod law;
mod trial;

use crate::{FLOOR, GateInput, PolicySet, Schedule, Stage, decide, schedule};

/// The policies of a regime as shipped, loaded once.
fn policies(regime: &str) -> PolicySet {
    use std::collections::BTreeMap;
    use std::sync::{Mutex, PoisonError};
    static LOADED: Mutex<BTreeMap<String, PolicySet>> = Mutex::new(BTreeMap::new());
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    loaded.entry(regime.to_string()).or_insert_with(|| load(regime)).clone()
}

fn load(regime: &str) -> PolicySet {
    let adopted = Schedule::adopt(&format!("{regime}.toml"), schedule(regime).unwrap()).unwrap();
    PolicySet::load(FLOOR, Some(&adopted)).unwrap()
}

/// A sound contribution in Italy with its policies.
fn sound() -> (PolicySet, GateInput) {
    let set = policies("EU");
    let input = GateInput::sound(&set).unwrap();
    (set, input)
}

/// Ids of the rules that say no, after a change to the sound case and a new look at the library.
fn refused_by(set: &PolicySet, input: &GateInput, change: impl FnOnce(&mut GateInput)) -> Vec<String> {
    let mut input = input.clone();
    change(&mut input);
    input.consult(&crate::Library::embedded().unwrap());
    let verdict = decide(set, &input);
    assert!(verdict.faults.is_empty(), "{:?}", verdict.faults);
    assert_eq!(verdict.allow, verdict.determining.is_empty());
    verdict.determining.into_iter().map(|d| d.id).collect()
}

fn at(stage: Stage, input: &GateInput) -> GateInput {
    let mut input = input.clone();
    input.stage = stage;
    input.consult(&crate::Library::embedded().unwrap());
    input
}
