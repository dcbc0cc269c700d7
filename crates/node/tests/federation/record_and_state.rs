//! Same record, same state; and a node that starts again is the node that it was.

use crate::house::{House, count, regression};
use charter::State;
use node::control::Command;
use record::Entry;
use std::collections::BTreeSet;

#[test]
fn all_nodes_and_two_folds_give_one_digest() {
    let mut house = House::eight();
    house.ask_and_approve("deaths", &count("deaths"));
    house.settle();
    house.no_errors();
    assert!(house.released("deaths"));
    let digests: BTreeSet<_> = house.ids().iter().map(|id| house.state_digest(id)).collect();
    assert_eq!(digests.len(), 1);
    for _ in 0..2 {
        let mut state = State::new();
        for bytes in &house.hub.entries {
            state.apply(&Entry::from_bytes(bytes).unwrap());
        }
        assert!(digests.contains(&state.digest().unwrap()));
    }
    // One entry less is another state: the digest tells states apart.
    let mut state = State::new();
    for bytes in &house.hub.entries[..house.hub.entries.len() - 1] {
        state.apply(&Entry::from_bytes(bytes).unwrap());
    }
    assert!(!digests.contains(&state.digest().unwrap()));
}

#[test]
fn a_node_that_starts_again_has_the_same_state_and_says_nothing_twice() {
    let mut house = House::eight();
    house.ask_and_approve("deaths", &count("deaths"));
    house.settle();
    let (digest, size) = (house.state_digest("gb"), house.hub.size());
    let output = house.output("deaths");
    for id in house.ids() {
        house.restart(&id);
        assert_eq!(house.state_digest(&id), digest, "{id}");
        assert_eq!(house.cmd(&id, Command::RecordVerify).exit, 0);
    }
    house.settle();
    house.no_errors();
    assert_eq!(house.hub.size(), size, "something was said again");
    assert_eq!(house.output("deaths"), output);
}

#[test]
fn contributors_collector_and_recipient_may_start_again_within_a_run() {
    let mut house = House::eight();
    house.ask_and_approve("fit", &regression("fit"));
    for round in 1..4 {
        house.until("the next round", |h| {
            h.frames("opening").iter().filter(|f| f.place.stage == 1).map(|f| f.place.round + 1).max()
                >= Some(round)
        });
        for id in ["it", "no", "gb"] {
            house.restart(id);
        }
    }
    house.settle();
    house.no_errors();
    assert!(house.released("fit"), "{:?}", house.phase("fit"));
    assert_eq!(house.node("gb").state().studies["fit"].runs.len(), 1);
    for id in ["it", "gb"] {
        let mut slots: Vec<_> = house
            .frames("contribution")
            .into_iter()
            .filter(|f| f.from == id)
            .map(|f| (f.place, f.to))
            .collect();
        let all = slots.len();
        slots.sort();
        slots.dedup();
        assert_eq!(slots.len(), all, "{id} answered one question twice");
    }
}

#[test]
fn aggregators_killed_at_every_step_of_every_round_go_on_and_send_nothing_twice() {
    let mut house = House::eight();
    house.ask_and_approve("fit", &regression("fit"));
    house.until("the aggregators at work", |h| !h.frames("aggregate").is_empty());
    // What was flushed is kept, what was not is gone: after each exchange one of the two, or both, die.
    for step in 0.. {
        if house.released("fit") {
            break;
        }
        assert!(step < 400, "{:?}", house.phase("fit"));
        house.step();
        for (id, due) in [("ch", step % 2 == 0), ("se", step % 3 == 0)] {
            if due {
                house.crash_and_open(id);
            }
        }
    }
    house.settle();
    house.no_errors();
    assert_eq!(house.node("gb").state().studies["fit"].runs.len(), 1, "no run was lost");
    for kind in ["aggregate", "opening", "contribution"] {
        let mut places: Vec<_> =
            house.frames(kind).into_iter().map(|f| (f.place, f.kind, f.from, f.to)).collect();
        let all = places.len();
        places.sort();
        places.dedup();
        assert_eq!(places.len(), all, "{kind}: one place, two frames");
    }
    for id in house.ids() {
        assert!(house.evidence(&id).is_empty(), "{id}");
    }
}
