//! That a broken invariant would be noticed: a fault is put in by hand, and found.

use world::{Sabotage, run_with};

/// The first of some days on which the fault is found, and by which invariant.
fn found(sabotage: Sabotage) -> Vec<&'static str> {
    let days = (0..12).filter_map(|seed| run_with(seed, Some(sabotage)).unwrap().broken);
    days.take(1).map(|broken| broken.invariant).collect()
}

#[test]
fn a_store_that_forgets_what_it_flushed_is_found_out() {
    let found = found(Sabotage::ForgetsFlushed);
    assert_eq!(found, ["what is in force at a node is never undone"]);
}

#[test]
fn a_relay_that_alters_frames_and_counts_as_honest_is_found_out() {
    let found = found(Sabotage::AltersFrames);
    assert_eq!(found, ["nobody honest is named in evidence by anybody honest"]);
}

#[test]
fn a_model_that_heard_of_a_stop_that_nobody_said_is_found_out() {
    let found = found(Sabotage::HearsAStop);
    assert_eq!(found, ["the record holds the votes and stops that people were told of"]);
}
