//! Contributors whose node is gone: before the set is fixed they are left out where that is allowed, afterwards the run
//! is lost.

use crate::house::{House, MINUTE, Setup, count};
use node::control::Command;

/// Those who hold rows when there are nine.
const SEVEN: [&str; 7] = ["gb", "it", "pl", "nl", "be", "se", "de"];

fn of_seven(study: &str, minimum: usize) -> String {
    count(study)
        .replace("\"se\"]\nminimum", "\"se\", \"de\"]\nminimum")
        .replace("minimum_contributors = 6", &format!("minimum_contributors = {minimum}"))
}

/// Nine members, so that one of the seven with rows may be missed.
fn nine() -> House {
    let mut setup = Setup::eight();
    setup.members.push(("de".into(), "DE".into(), Some(engine::generate::ist(&["ITAL"], 1991))));
    setup.build()
}

/// `gb` asks, all stewards say yes, then the node of one contributor is gone.
fn with_a_lost_contributor(minimum: usize) -> House {
    let mut house = nine();
    house.ask(&of_seven("deaths", minimum));
    house.approve("deaths", &SEVEN);
    // Its steward's yes is on its way; the node says nothing more.
    house.asleep.insert("de".into());
    house.settle();
    house
}

#[test]
fn a_contributor_lost_before_the_set_is_fixed_is_waited_for_and_then_left_out() {
    let mut house = with_a_lost_contributor(6);
    assert!(
        matches!(house.phase("deaths"), Some(charter::Phase::Approved { .. })),
        "{:?}",
        house.phase("deaths")
    );
    assert_eq!(house.said("run.set@1").len(), 0, "nobody is left out at once");
    let shown = house.must("gb", Command::StudyShow { id: "deaths".into() });
    assert!(shown.text.contains("waits for  the nodes of de"), "{}", shown.text);
    house.now += 2 * MINUTE;
    house.refresh();
    house.settle();
    house.no_errors();
    assert!(house.released("deaths"), "{:?}", house.phase("deaths"));
    let run = &house.node("gb").state().studies["deaths"].runs[&1];
    assert_eq!(run.contributors, ["be", "gb", "it", "nl", "pl", "se"]);
    assert_eq!(house.contributions_of("de"), 0);

    // It comes back, and has no part in what is over; the next study has it again, if the sets allow it: here they
    // differ by one site, so nothing is begun.
    house.asleep.clear();
    house.settle();
    assert_eq!(house.contributions_of("de"), 0);
    assert!(house.evidence("de").is_empty());
    house.ask(&of_seven("again", 6));
    house.approve("again", &SEVEN);
    house.settle();
    assert!(house.frames("contribution").iter().all(|f| f.place.study == "deaths"));
}

#[test]
fn where_the_minimum_does_not_allow_it_the_lost_contributor_is_waited_for_and_nothing_is_paid() {
    let mut house = with_a_lost_contributor(7);
    for _ in 0..5 {
        house.now += 2 * MINUTE;
        house.refresh();
        house.settle();
    }
    assert_eq!(house.said("run.set@1").len(), 0, "no run is begun that could not be opened");
    house.asleep.clear();
    house.settle();
    house.no_errors();
    assert!(house.released("deaths"), "{:?}", house.phase("deaths"));
    assert_eq!(house.node("gb").state().studies["deaths"].runs[&1].contributors.len(), 7);
}

#[test]
fn a_contributor_lost_after_the_set_is_fixed_costs_the_run_and_the_record_says_so() {
    let mut house = House::eight();
    house.ask_and_approve("deaths", &count("deaths"));
    house.until("the set", |h| h.said("run.set@1").len() == 2);
    house
        .until("the receipts", |h| h.said("gate.receipt@1").iter().filter(|s| s.issuer == "be").count() == 2);
    house.asleep.insert("be".into());
    house.cut.insert("be".into());
    house.settle();
    assert_eq!(house.contributions_of("be"), 0);
    assert!(house.frames("opening").is_empty());
    for _ in 0..7 {
        house.now += 2 * MINUTE;
        house.refresh();
        house.settle_or(40);
    }
    let runs = &house.node("gb").state().studies["deaths"].runs;
    assert_eq!(runs[&1].lost.as_deref(), Some("no progress"));
    assert!(runs[&1].may_open(), "paid for: it counts among the earlier sets");
    assert!(house.frames("opening").is_empty());
    house.asleep.clear();
    house.cut.clear();
    house.refresh();
    house.settle();
    assert!(house.released("deaths"), "{:?}", house.phase("deaths"));
    let run = house.node("gb").state().studies["deaths"].runs.values().next_back().unwrap();
    assert_eq!(run.contributors.len(), 6, "the same set again, or none");
}

#[test]
fn a_relay_that_swallows_a_contributors_word_leaves_it_out_no_further_than_the_minimum_allows() {
    for (minimum, left_out) in [(6, true), (7, false)] {
        let mut house = nine();
        house.keep_out = Box::new(|id, said| id == "de" && said.statement().r#type == "run.ready@1");
        house.ask(&of_seven("deaths", minimum));
        house.approve("deaths", &SEVEN);
        house.settle();
        for _ in 0..3 {
            house.now += 2 * MINUTE;
            house.refresh();
            house.settle_or(60);
        }
        assert_eq!(house.released("deaths"), left_out, "{:?}", house.phase("deaths"));
        assert_eq!(house.said("run.set@1").is_empty(), !left_out);
        // Two words swallowed would leave too few hidden sites, whatever the minimum.
        if left_out {
            let before = house.said("run.set@1").len();
            house.keep_out =
                Box::new(|id, said| ["de", "be"].contains(&id) && said.statement().r#type == "run.ready@1");
            house.ask(&of_seven("fewer", 5));
            house.approve("fewer", &SEVEN);
            house.settle();
            for _ in 0..3 {
                house.now += 2 * MINUTE;
                house.refresh();
                house.settle_or(60);
            }
            assert_eq!(house.said("run.set@1").len(), before);
        }
    }
}

#[test]
fn a_contributor_that_is_back_before_the_second_aggregator_signs_is_not_left_out() {
    let mut house = with_a_lost_contributor(6);
    house.asleep.insert("se".into());
    house.now += 2 * MINUTE;
    house.refresh();
    house.settle();
    assert_eq!(house.said("run.set@1").iter().map(|s| s.issuer.as_str()).collect::<Vec<_>>(), ["ch"]);
    house.asleep.remove("de");
    house.settle();
    assert!(house.said("run.ready@1").iter().any(|s| s.issuer == "de"));
    house.asleep.remove("se");
    for _ in 0..3 {
        house.now += 2 * MINUTE;
        house.refresh();
        house.settle();
    }
    house.no_errors();
    let runs = &house.node("gb").state().studies["deaths"].runs;
    assert_eq!(runs[&1].lost.as_deref(), Some("contributors left out"));
    assert!(!runs[&1].may_open() && runs[&1].sealed.is_none());
    assert_eq!(runs[&2].contributors.len(), 7);
    assert!(house.released("deaths"), "{:?}", house.phase("deaths"));
}
