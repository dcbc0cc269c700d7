//! Stops act at once, alone, in the middle of a round, and whether or not the relay helps.

use crate::house::{House, SIX, count, honest, regression};
use node::control::Command;
use wire::SignedFrame;

/// A run in which `it` has its shares ready, has handed them to nobody and does not reach the relay.
fn with_shares_waiting() -> House {
    let mut house = House::eight();
    house.ask_and_approve("deaths", &count("deaths"));
    house.until("all permits", |h| {
        h.node("it").state().studies["deaths"]
            .runs
            .get(&1)
            .is_some_and(|r| r.receipts.len() == 6 && r.joined.len() == 2)
    });
    house.cut.insert("it".into());
    for _ in 0..10 {
        let now = house.now;
        house.nodes.get_mut("it").unwrap().tick(now).unwrap();
    }
    house
}

fn waiting(house: &House, id: &str) -> Vec<String> {
    let frames = house.node(id).undelivered().unwrap();
    frames.iter().map(|(_, bytes)| SignedFrame::decode(bytes).unwrap().frame().kind.clone()).collect()
}

fn ends(mut house: House) {
    house.steps(30);
    assert!(waiting(&house, "it").iter().all(|kind| kind == "stop"), "{:?}", waiting(&house, "it"));
    house.cut.clear();
    house.settle();
    assert_eq!(house.contributions_of("it"), 0);
    assert!(house.frames("opening").is_empty() && house.frames("output").is_empty());
    assert_eq!(house.frames("stop").len(), 7, "all others were told");
    let report = house.must("it", Command::Egress { since: 0 });
    assert_eq!(report.data["totals"]["deaths"]["contribution"], 0);
    // Long after, the run is over for everyone and still nothing was opened.
    house.now += 120_000;
    house.refresh();
    house.settle();
    assert!(house.frames("opening").is_empty());
    assert_eq!(house.contributions_of("it"), 0);
}

#[test]
fn without_a_stop_two_shares_wait_for_the_relay() {
    let house = with_shares_waiting();
    assert_eq!(waiting(&house, "it"), ["contribution", "contribution"], "the control of the tests below");
}

#[test]
fn a_stop_withdraws_what_has_not_left_and_nothing_more_leaves() {
    let mut house = with_shares_waiting();
    house.must("it", Command::Stop);
    assert!(waiting(&house, "it").iter().all(|kind| kind == "stop"));
    ends(house);
}

#[test]
fn a_pause_of_the_dataset_does_the_same() {
    let mut house = with_shares_waiting();
    house.must("it", Command::DatasetPause { name: "ist".into() });
    assert!(waiting(&house, "it").iter().all(|kind| kind == "stop"));
    ends(house);
}

#[test]
fn a_stop_holds_although_the_process_dies_at_once() {
    let mut house = with_shares_waiting();
    house.must("it", Command::Stop);
    house.crash_and_open("it");
    let status = house.must("it", Command::Status);
    assert_eq!(status.data["stopped"], true, "{}", status.text);
    ends(house);
}

#[test]
fn a_pause_holds_although_the_process_dies_at_once() {
    let mut house = with_shares_waiting();
    house.must("it", Command::DatasetPause { name: "ist".into() });
    house.crash_and_open("it");
    let status = house.must("it", Command::Status);
    assert_eq!(status.data["paused"][0], "ist", "{}", status.text);
    ends(house);
}

/// A run in which the aggregators have all shares and the relay holds back what they say to each other, so that
/// nothing is opened yet. The relay keeps stops out of the log: only the signed frame tells of them.
fn before_opening() -> (House, Vec<(String, Vec<u8>)>) {
    let mut house = House::eight();
    let held = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let keep = held.clone();
    house.relay = Box::new(move |frame| {
        let on = (frame.frame().to.clone(), frame.bytes().to_vec());
        if frame.frame().kind.starts_with("aggregate") {
            keep.borrow_mut().push(on);
            return Vec::new();
        }
        vec![on]
    });
    house.keep_out = Box::new(|_, s| s.statement().r#type == "node.stop@1");
    house.ask_and_approve("deaths", &count("deaths"));
    house.settle();
    assert_eq!(house.frames("contribution").len(), 12);
    assert!(house.frames("opening").is_empty());
    house.relay = honest();
    let frames = held.borrow().clone();
    (house, frames)
}

fn let_go(house: &mut House, held: &[(String, Vec<u8>)]) {
    for (to, frame) in held {
        house.hub.post(to, frame.clone());
    }
    house.settle();
}

#[test]
fn without_a_stop_the_aggregators_open() {
    let (mut house, held) = before_opening();
    let_go(&mut house, &held);
    assert!(!house.frames("opening").is_empty(), "the control of the tests below");
    assert!(house.released("deaths"));
}

#[test]
fn a_signed_stop_keeps_an_aggregator_from_opening_before_the_record_tells_of_it() {
    let (mut house, held) = before_opening();
    house.must("gb", Command::Stop);
    house.settle();
    assert!(house.said("node.stop@1").is_empty(), "the record does not tell");
    let_go(&mut house, &held);
    assert!(house.frames("opening").is_empty());
}

#[test]
fn a_stop_hidden_by_the_relay_is_not_forgotten_for_a_later_pause() {
    let (mut house, held) = before_opening();
    house.must("gb", Command::Stop);
    house.settle();
    // Another signed stop, which the relay does record, and which is then taken back.
    house.now += 2_000;
    house.must("gb", Command::DatasetPause { name: "ist".into() });
    house.settle();
    house.must("gb", Command::DatasetResume { name: "ist".into() });
    house.settle();
    assert!(house.said("node.stop@1").is_empty() && house.said("dataset.resume@1").len() == 1);
    let_go(&mut house, &held);
    assert!(house.frames("opening").is_empty());
}

#[test]
fn two_stops_within_one_second_are_both_heard() {
    let (mut house, held) = before_opening();
    house.must("gb", Command::DatasetPause { name: "ist".into() });
    house.must("gb", Command::DatasetResume { name: "ist".into() });
    house.must("gb", Command::Stop);
    house.settle();
    assert!(house.said("node.stop@1").is_empty());
    for id in ["ch", "se"] {
        assert!(house.evidence(id).is_empty(), "{:?}", house.evidence(id));
    }
    let_go(&mut house, &held);
    assert!(house.frames("opening").is_empty());
}

#[test]
fn a_stopped_node_that_starts_again_takes_part_again() {
    let mut house = House::eight();
    house.must("it", Command::Stop);
    house.settle();
    house.ask(&count("first"));
    assert!(!house.node("gb").state().studies["first"].proposed.contains_key("it"), "its gate is silent");
    house.must("it", Command::Resume);
    house.settle();
    house.approve("first", &SIX);
    house.settle();
    assert!(house.released("first"), "{:?}", house.phase("first"));
}

#[test]
fn a_relay_that_swallows_a_stop_altogether_gets_what_had_left_before_it_and_no_more() {
    let mut house = House::eight();
    house.keep_out = Box::new(|_, s| s.statement().r#type == "node.stop@1");
    house.relay = Box::new(|frame| {
        let f = frame.frame();
        if f.kind == "stop" { Vec::new() } else { vec![(f.to.clone(), frame.bytes().to_vec())] }
    });
    house.ask_and_approve("fit", &regression("fit"));
    house.until("a second round under way", |h| h.frames("contribution").iter().any(|f| f.place.round == 1));
    house.must("it", Command::Stop);
    let answered = |h: &House| {
        let own = h.frames("contribution").into_iter().filter(|f| f.from == "it");
        own.map(|f| (f.place.stage, f.place.round)).max().unwrap()
    };
    let (sent, last) = (house.contributions_of("it"), answered(&house));
    house.settle_or(200);
    house.now += 120_000;
    house.refresh();
    house.settle_or(200);
    assert!(house.said("node.stop@1").is_empty() && !house.node("gb").state().stopped.contains("it"));
    assert_eq!(house.contributions_of("it"), sent, "its own switch needs nobody");
    // What is gained: the round that it had answered may still open. What is not: any after it, or an output.
    assert!(house.frames("opening").iter().all(|f| (f.place.stage, f.place.round) <= last));
    assert!(!house.released("fit") && house.frames("output").is_empty());
}

#[test]
fn a_yes_taken_back_and_refused_by_the_relay_is_said_again_also_after_a_restart() {
    let mut house = House::eight();
    house.ask_and_approve("deaths", &count("deaths"));
    house.until("the votes", |h| h.said("decision.vote@1").len() == 6);
    house.cut.insert("it".into());
    house.must("it", Command::DecideRefuse { study: "deaths".into() });
    house.restart("it");
    let now = house.now;
    let node = house.nodes.get_mut("it").unwrap();
    let queued = node.queued(now).unwrap();
    let kind = |bytes: &[u8]| record::SignedStatement::from_bytes(bytes).unwrap().statement().r#type.clone();
    let (id, _) =
        queued.iter().find(|(_, bytes)| kind(bytes) == "decision.revoke@1").expect("it waits").clone();
    node.answered(&id, Some("422: would be void"), now).unwrap();
    assert!(
        node.queued(now + 20_000).unwrap().iter().any(|(other, _)| *other == id),
        "refused, and said again"
    );
    house.cut.clear();
    house.now += 20_000;
    house.settle();
    assert!(house.said("decision.revoke@1").iter().any(|s| s.issuer == "it"));
}

/// A stop as a node says it, with another body.
fn stop_with(house: &House, id: record::Digest, body: Vec<u8>) -> Vec<u8> {
    let place = wire::Place { study: String::new(), run: 0, stage: 0, round: 0 };
    let frame = wire::Frame::new("pl", "ch", "stop", house.pin(), place, id, body);
    frame.sign(&house.node("pl").keys().sign()).unwrap().bytes().to_vec()
}

#[test]
fn stops_by_the_hundred_or_of_another_form_are_not_kept() {
    let mut house = House::eight();
    let now = house.now;
    let size =
        |house: &House| std::fs::metadata(house.folder("ch").join("store.db-wal")).map_or(0, |m| m.len());
    let large = stop_with(&house, record::Digest::of(b"x"), vec![b'x'; 1 << 20]);
    house.nodes.get_mut("ch").unwrap().mail(1, &large, now).unwrap();
    assert!(house.holds_against("ch", "pl", "a stop that is none"));
    let before = size(&house);
    for i in 0..400u32 {
        let id = record::Digest::of(&i.to_be_bytes());
        let body = format!("comity-stop/1 {id} {now}").into_bytes();
        let frame = stop_with(&house, id, body);
        house.nodes.get_mut("ch").unwrap().mail(u64::from(i) + 2, &frame, now).unwrap();
    }
    house.node("ch").flush().unwrap();
    assert!(size(&house) - before < 200_000, "{} bytes", size(&house) - before);
    // The first ones hold.
    let status = house.cmd("ch", Command::Status);
    assert_eq!(status.exit, 0);
}
