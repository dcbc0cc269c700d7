//! Same record, same state; and a node that starts again is the node that it was.

use crate::house::{House, MINUTE, count, regression};
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
fn an_aggregator_that_starts_again_within_a_round_loses_the_run_and_not_the_study() {
    let mut house = House::eight();
    house.ask_and_approve("deaths", &count("deaths"));
    house.until("the aggregators at work", |h| !h.frames("aggregate").is_empty());
    assert!(house.frames("opening").is_empty());
    house.restart("ch");
    house.settle();
    house.now += 2 * MINUTE;
    house.refresh();
    house.settle();
    let runs = &house.node("gb").state().studies["deaths"].runs;
    assert_eq!(runs[&1].lost.as_deref(), Some("an aggregator was restarted within a round"));
    assert!(runs[&2].release.is_some());
    assert!(house.frames("opening").iter().all(|f| f.place.run == 2));
}
