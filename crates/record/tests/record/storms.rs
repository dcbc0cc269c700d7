//! The record in storms: see [`crate::sim`]. The seeds here are few; `examples/storms.rs` runs as many as there is time
//! for.

use crate::sim::run;

#[test]
fn nothing_in_force_is_undone_in_three_hundred_storms() {
    record::keys::verify_once();
    for seed in 0..300 {
        let outcome = run(seed, None, false);
        assert!(outcome.faults.is_empty(), "seed {seed}: {:?}", outcome.faults);
    }
}
