//! Earlier runs over a dataset, in the order of their first set: what a later run must equal or differ from enough.

use crate::federation::*;
use charter::Stage;
use std::collections::BTreeSet;

/// Two approved studies over one dataset; nothing set yet.
fn two(first: study::Study, second: study::Study) -> Federation {
    let id = second.id.clone();
    let mut f = Federation::approved(first);
    valid(f.submit(second));
    f.all_gates(&id);
    f.all_yes(&id);
    f
}

fn earlier(f: &Federation, study: &str) -> Vec<String> {
    let first = f.state.studies[study].runs[&1].first;
    f.state.earlier_populations(study, "ist", first).into_iter().map(|e| e.study).collect()
}

#[test]
fn of_two_concurrent_runs_the_later_one_sees_the_earlier_one_and_not_the_other_way() {
    for (one, other) in [("old", "young"), ("young", "old")] {
        let mut f = two(aged("old", 120), aged("young", 60));
        valid(f.set("ch", one, 1, everyone()));
        valid(f.set("ch", other, 1, everyone()));
        // Who is sealed first does not matter, only whose first signature came first.
        valid(f.set("se", other, 1, everyone()));
        valid(f.set("se", one, 1, everyone()));
        assert_eq!(earlier(&f, other), [one]);
        assert!(earlier(&f, one).is_empty());
        let first = |id: &str| f.state.studies[id].runs[&1].first;
        let whole: BTreeSet<String> = everyone().into_iter().collect();
        assert_eq!(f.state.earlier_sets(other, 1, "ist", first(other)), std::slice::from_ref(&whole));
        assert!(f.state.earlier_sets(one, 1, "ist", first(one)).is_empty());
    }
}

#[test]
fn what_a_run_sees_does_not_change_by_what_comes_later() {
    let mut f = two(aged("old", 120), aged("young", 60));
    valid(f.set("ch", "old", 1, everyone()));
    valid(f.set("ch", "young", 1, everyone()));
    let before = earlier(&f, "young");
    valid(f.submit(aged("third", 80)));
    f.all_gates("third");
    f.all_yes("third");
    valid(f.set("ch", "third", 1, everyone()));
    valid(f.lose("it", "old", 1));
    assert_eq!(earlier(&f, "young"), before);
    assert_eq!(earlier(&f, "third"), ["old", "young"]);
}

#[test]
fn an_equal_population_and_another_dataset_are_no_history() {
    let mut f = two(aged("old", 120), aged("same", 120));
    valid(f.set("ch", "old", 1, everyone()));
    valid(f.set("ch", "same", 1, everyone()));
    assert!(earlier(&f, "same").is_empty());
    let later = f.state.size;
    assert!(f.state.earlier_populations("young", "other", later).is_empty());
    // Two earlier studies over one population count once, as the first.
    let seen = f.state.earlier_populations("young", "ist", later);
    assert_eq!(seen.iter().map(|e| e.study.as_str()).collect::<Vec<_>>(), ["old"]);
    // Their sets both count.
    assert_eq!(f.state.earlier_sets("young", 1, "ist", later).len(), 2);
    assert!(f.state.earlier_sets("young", 1, "other", later).is_empty());
}

#[test]
fn a_lost_run_that_may_have_opened_something_stays_history_and_one_that_could_not_does_not() {
    for opened in [true, false] {
        let mut f = Federation::approved(named("asked"));
        valid(f.set("ch", "asked", 1, everyone()));
        valid(f.set("se", "asked", 1, everyone()));
        if opened {
            f.all_contribute("asked");
        } else {
            MEMBERS[1..].iter().for_each(|m| valid(f.gate(m, "asked", Stage::Contribute, true)));
        }
        valid(f.lose("gb", "asked", 1));
        valid(f.revoke("gb", "asked"));
        valid(f.set("ch", "asked", 2, without("gb")));
        valid(f.submit(aged("young", 60)));
        let sets = f.state.earlier_sets("asked", 2, "ist", f.state.studies["asked"].runs[&2].first);
        let before_second = f.state.earlier_populations("young", "ist", f.state.size - 2);
        if opened {
            // Nine, then eight, would show the ninth (A2).
            assert_eq!(sets, [everyone().into_iter().collect::<BTreeSet<_>>()]);
            assert_eq!(before_second.len(), 1);
        } else {
            assert!(sets.is_empty() && before_second.is_empty());
        }
    }
}

#[test]
fn a_run_lost_after_the_fact_is_history_for_what_was_set_before_its_loss() {
    let mut f = two(aged("old", 120), aged("young", 60));
    valid(f.set("ch", "old", 1, everyone()));
    valid(f.set("ch", "young", 1, everyone()));
    valid(f.lose("it", "old", 1));
    assert_eq!(earlier(&f, "young"), ["old"], "else members that folded further would see another plan");
    assert!(f.state.earlier_populations("young", "ist", f.state.size).iter().all(|e| e.study != "old"));
}
