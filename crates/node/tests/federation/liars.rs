//! Lying members: void or refused, and named.

use crate::house::{House, MINUTE, SIX, count, honest, regression, study};
use charter::VoteChoice;
use charter::body::{DecisionVote, ReleasePublish, RunSet, RunVerdict, StudySubmit};
use record::Digest;
use std::collections::BTreeMap;
use wire::{Frame, SignedFrame};

fn vote(house: &mut House, id: &str, seat: &str, choice: VoteChoice, digest: Option<Digest>) -> Digest {
    let digest = digest.unwrap_or(house.node("gb").state().studies["deaths"].digest);
    let body = DecisionVote { study: "deaths".into(), study_digest: digest, choice };
    house.say_as(id, DecisionVote::TYPE, "deaths", seat, &body)
}

#[test]
fn votes_count_once_in_time_by_the_steward_of_the_data_on_the_document_itself() {
    let mut house = House::eight();
    house.ask(&count("deaths"));
    let other = Digest::of(b"another document");
    let cases = [
        (
            vote(&mut house, "it", "it-scientist", VoteChoice::Yes, None),
            Some("actor holds no steward seat of the issuer"),
        ),
        (
            vote(&mut house, "it", "gb-steward", VoteChoice::Yes, None),
            Some("actor holds no steward seat of the issuer"),
        ),
        (
            vote(&mut house, "it", "it-steward", VoteChoice::Yes, Some(other)),
            Some("votes on another document"),
        ),
        (
            vote(&mut house, "no", "no-steward", VoteChoice::Yes, None),
            Some("issuer is not in the electorate"),
        ),
        (vote(&mut house, "it", "it-steward", VoteChoice::No, None), None),
        (vote(&mut house, "it", "it-steward", VoteChoice::Yes, None), Some("voted before")),
    ];
    house.settle();
    for (id, why) in cases {
        assert_eq!(house.void(id).as_deref(), why);
    }
    house.now += 73 * 60 * MINUTE;
    house.refresh();
    let late = vote(&mut house, "gb", "gb-steward", VoteChoice::Yes, None);
    house.settle();
    assert_eq!(house.void(late).as_deref(), Some("after the deadline"));
    let state = &house.node("gb").state().studies["deaths"];
    assert_eq!(state.votes.len(), 1);
    assert!(house.said("run.set@1").is_empty() && house.relayed.is_empty());
}

/// Six yes votes, with both aggregators' clocks standing still, so that the test sets the run.
fn approved() -> House {
    let mut house = House::eight();
    house.ask(&count("deaths"));
    house.asleep = ["ch", "se"].iter().map(|s| s.to_string()).collect();
    house.approve("deaths", &SIX);
    house.settle();
    house
}

/// A key that somebody could have.
fn key() -> String {
    rounds::KemSecret::generate().public().to_string()
}

fn run_set(house: &mut House, by: &str, contributors: &[&str], plan: Option<Digest>, kem: &str) -> Digest {
    let plan = plan.unwrap_or(house.node("gb").state().studies["deaths"].plan);
    let mut contributors: Vec<String> = contributors.iter().map(|s| s.to_string()).collect();
    contributors.sort();
    let body = RunSet { study: "deaths".into(), run: 1, contributors, plan, kem: kem.into() };
    house.say_as(by, RunSet::TYPE, "deaths", "node", &body)
}

#[test]
fn a_set_of_other_contributors_or_by_somebody_else_is_void() {
    let mut house = approved();
    let fewer = run_set(&mut house, "ch", &["gb", "it", "pl", "nl", "be"], None, &key());
    let more = run_set(&mut house, "ch", &["gb", "it", "pl", "nl", "be", "se", "no"], None, &key());
    let outside = run_set(&mut house, "it", &SIX, None, &key());
    house.settle();
    for id in [fewer, more] {
        assert_eq!(house.void(id).as_deref(), Some("not the members whose stewards said yes"));
    }
    assert_eq!(house.void(outside).as_deref(), Some("issuer is not an aggregator of the study"));
    house.asleep.clear();
    house.settle();
    assert!(house.released("deaths"), "and the true set still comes");
}

#[test]
fn a_set_over_another_plan_moves_no_row_and_is_given_up_by_the_other_aggregator() {
    let mut house = approved();
    let id = run_set(&mut house, "ch", &SIX, Some(Digest::of(b"another plan")), &key());
    house.settle();
    assert_eq!(house.void(id), None, "the record cannot know plans");
    house.asleep.remove("se");
    house.settle();
    let run = &house.node("gb").state().studies["deaths"].runs[&1];
    assert_eq!(run.lost.as_deref(), Some("the plan of the set is not the study's"));
    assert!(run.receipts.is_empty() && house.relayed.is_empty());
}

#[test]
fn an_aggregator_whose_key_is_none_stops_its_own_run_and_no_other_study() {
    let mut house = approved();
    let none = run_set(&mut house, "ch", &SIX, None, "no key at all");
    // As long as a key, and none: no coefficient of the lattice half is that large.
    let bytes = key().len() / 2;
    let broken = run_set(&mut house, "ch", &SIX, None, &"ff".repeat(bytes));
    house.settle();
    assert_eq!(house.void(none).as_deref(), Some("malformed key"));
    assert_eq!(house.void(broken), None, "the record cannot know");
    house.asleep.remove("se");
    house.settle();
    house.asleep.clear();
    house.steps(20);
    assert!(house.frames("opening").is_empty());
    house.ask(&count("later"));
    house.approve("later", &SIX);
    house.settle();
    assert!(house.released("later"), "{:?}; errors {:?}", house.phase("later"), house.errors.last());
}

#[test]
fn a_study_that_cannot_be_planned_stops_no_other_study() {
    let mut house = House::eight();
    let tables: Vec<String> = (0..3)
        .map(|i| {
            format!(
                "[[analysis]]\nid = \"t{i}\"\nmethod = \"crosstab\"\nby = [\"deficit_face\", \"deficit_arm\", \
                 \"deficit_leg\", \"deficit_speech\", \"deficit_hemianopia\", \"deficit_visuospatial\", \
                 \"deficit_brainstem\", \"deficit_other\", \"month\"]\n"
            )
        })
        .collect();
    let columns = [
        "deficit_face",
        "deficit_arm",
        "deficit_leg",
        "deficit_speech",
        "deficit_hemianopia",
        "deficit_visuospatial",
        "deficit_brainstem",
        "deficit_other",
        "month",
    ];
    let text = study("a-monster", &columns, &tables.join("\n"));
    let parsed = study::Study::parse("study.toml", &text).unwrap();
    assert!(
        analysis::plan(&parsed, &crate::pooled::dictionary(), Vec::new()).is_err(),
        "it cannot be planned"
    );
    let body = StudySubmit { study: parsed, plan: Digest::of(b"") };
    house.say_as("gb", StudySubmit::TYPE, "a-monster", "gb-scientist", &body);
    house.settle();
    house.ask_and_approve("deaths", &count("deaths"));
    house.settle();
    assert!(house.released("deaths"), "{:?}; errors {:?}", house.phase("deaths"), house.errors.last());
}

/// A share of `gb` for `ch`, as it left.
fn a_share(house: &House) -> Frame {
    house.frames("contribution").into_iter().find(|f| f.from == "gb" && f.to == "ch").unwrap()
}

#[test]
fn a_contribution_from_outside_the_set_is_refused_and_named() {
    let mut house = House::eight();
    house.relay = Box::new(|frame| {
        let f = frame.frame();
        let held = f.kind == "contribution" && f.from == "gb";
        if held { Vec::new() } else { vec![(f.to.clone(), frame.bytes().to_vec())] }
    });
    house.ask_and_approve("deaths", &count("deaths"));
    house.settle();
    let share = a_share(&house);
    let outside = house.frame_as("no", "no", "ch", "contribution", &share, share.body.clone());
    house.hub.post("ch", outside);
    house.settle();
    assert!(house.holds_against("ch", "no", "contribution"), "{:?}", house.evidence("ch"));
    house.relay = honest();
    let held: Vec<Frame> = house.frames("contribution").into_iter().filter(|f| f.from == "gb").collect();
    for f in held {
        let bytes = house.frame_as("gb", "gb", &f.to, &f.kind, &f, f.body.clone());
        house.hub.post(&f.to, bytes);
    }
    house.settle();
    assert!(house.released("deaths"), "with the true shares of gb it goes on");
}

#[test]
fn a_second_different_contribution_is_refused_and_named() {
    let mut house = House::eight();
    let key = house.nodes["gb"].keys().sign();
    house.relay = Box::new(move |frame| {
        let mut out = vec![(frame.frame().to.clone(), frame.bytes().to_vec())];
        if frame.frame().kind == "contribution" && frame.frame().from == "gb" {
            let mut f = frame.frame().clone();
            f.body.push(0);
            out.push((f.to.clone(), f.sign(&key).unwrap().bytes().to_vec()));
        }
        out
    });
    house.ask_and_approve("deaths", &count("deaths"));
    house.settle();
    for id in ["ch", "se"] {
        assert!(
            house.holds_against(id, "gb", "repeats its place with other bytes"),
            "{:?}",
            house.evidence(id)
        );
    }
    assert!(house.released("deaths"), "the first counts");
}

/// The relay carries changed shares of `gb`, signed by `gb`.
fn with_lying_gb(change: impl Fn(&Frame) -> Vec<u8> + 'static) -> House {
    let mut house = House::eight();
    let key = house.nodes["gb"].keys().sign();
    house.relay = Box::new(move |frame: &SignedFrame| {
        let mut f = frame.frame().clone();
        if f.kind == "contribution" && f.from == "gb" {
            f.body = change(&f);
            return vec![(f.to.clone(), f.sign(&key).unwrap().bytes().to_vec())];
        }
        vec![(f.to.clone(), frame.bytes().to_vec())]
    });
    house
}

#[test]
fn an_answer_to_another_question_ends_the_run_unopened_and_is_named() {
    let mut house = with_lying_gb(|f| {
        let mut body = f.body.clone();
        body[0] ^= 1;
        body
    });
    house.ask_and_approve("deaths", &count("deaths"));
    house.settle();
    assert!(house.frames("opening").is_empty() && !house.released("deaths"));
    let lost = house.node("no").state().studies["deaths"].runs[&1].lost.clone().unwrap();
    assert!(lost.contains("question"), "{lost}");
    for id in ["ch", "se"] {
        assert!(house.holds_against(id, "gb", "question"), "{id}: {:?}", house.evidence(id));
        assert!(!house.holds_against(id, "it", ""), "{:?}", house.evidence(id));
    }
}

#[test]
fn an_answer_to_another_question_in_a_later_round_opens_nothing_of_that_round() {
    let mut house = with_lying_gb(|f| {
        let mut body = f.body.clone();
        if (f.place.stage, f.place.round) == (1, 1) {
            body[0] ^= 1;
        }
        body
    });
    house.ask_and_approve("fit", &regression("fit"));
    house.settle();
    let opened: Vec<_> = house.frames("opening").iter().map(|f| (f.place.stage, f.place.round)).collect();
    assert!(opened.contains(&(1, 0)) && !opened.contains(&(1, 1)), "{opened:?}");
    let lost = house.node("no").state().studies["fit"].runs[&1].lost.clone().unwrap();
    assert!(lost.contains("question"), "{lost}");
}

#[test]
fn a_broken_share_ends_the_run_unopened_and_is_named() {
    let mut house = with_lying_gb(|f| {
        let mut body = f.body.clone();
        let last = body.len() - 1;
        body[last] ^= 1;
        body
    });
    house.ask_and_approve("deaths", &count("deaths"));
    house.settle();
    assert!(house.frames("opening").is_empty() && !house.released("deaths"));
    let lost = house.node("no").state().studies["deaths"].runs[&1].lost.clone();
    assert_eq!(lost.as_deref(), Some("a contribution was refused"));
    assert!(["ch", "se"].iter().any(|id| !house.evidence(id).is_empty()));
    for id in ["ch", "se"] {
        assert!(house.evidence(id).iter().all(|e| e.starts_with("gb: ")), "{:?}", house.evidence(id));
    }
}

#[test]
fn an_aggregator_opens_a_round_once_whatever_comes_again() {
    let mut house = House::eight();
    house.ask_and_approve("fit", &regression("fit"));
    house.until("a round opened", |h| h.frames("opening").iter().any(|f| f.place.stage == 1));
    // Everything that was ever sent comes again, to aggregators that have started again.
    for id in ["ch", "se"] {
        house.restart(id);
    }
    for bytes in house.relayed.clone() {
        let to = SignedFrame::decode(&bytes).unwrap().frame().to.clone();
        house.hub.post(&to, bytes);
    }
    house.settle();
    house.now += 2 * MINUTE;
    house.refresh();
    house.settle();
    let mut times: BTreeMap<_, u32> = BTreeMap::new();
    for f in house.frames("opening") {
        *times.entry((f.from, f.to, f.place)).or_default() += 1;
    }
    assert!(times.len() > 4 && times.values().all(|n| *n == 1), "{times:?}");
}

#[test]
fn a_late_frame_of_a_finished_run_is_followed_by_nothing() {
    let mut house = House::eight();
    house.ask_and_approve("deaths", &count("deaths"));
    house.settle();
    assert!(house.released("deaths"));
    let (size, frames) = (house.hub.size(), house.relayed.len());
    for id in ["ch", "se", "no", "gb"] {
        house.restart(id);
    }
    for bytes in house.relayed.clone() {
        let to = SignedFrame::decode(&bytes).unwrap().frame().to.clone();
        house.hub.post(&to, bytes);
    }
    house.settle();
    house.now += 2 * MINUTE;
    house.refresh();
    house.settle();
    assert_eq!(house.said("run.lost@1").len(), 0);
    assert_eq!((house.hub.size(), house.relayed.len()), (size, frames));
}

#[test]
fn a_collector_cannot_pass_its_guard_or_release_out_of_turn() {
    let mut house = approved();
    let pass = RunVerdict { study: "deaths".into(), run: 1, pass: true };
    let early = house.say_as("no", RunVerdict::TYPE, "deaths", "node", &pass);
    house.settle();
    assert_eq!(house.void(early).as_deref(), Some("no such run"));
    // With shares on their way and nothing opened, a verdict is the collector's word; a release is more than that.
    house.relay = Box::new(|_| Vec::new());
    house.asleep.clear();
    house.settle();
    let plan = house.node("gb").state().studies["deaths"].runs[&1].plan;
    let release = ReleasePublish {
        study: "deaths".into(),
        run: 1,
        output: Digest::of(b"made up"),
        plan,
        contributors: house.node("gb").state().studies["deaths"].runs[&1].contributors.clone(),
        recipients: vec!["gb".into()],
        sealed: Vec::new(),
    };
    let out_of_turn = house.say_as("no", ReleasePublish::TYPE, "deaths", "node", &release);
    let by_another = house.say_as("it", RunVerdict::TYPE, "deaths", "node", &pass);
    house.settle();
    assert_eq!(house.void(out_of_turn).as_deref(), Some("the guard has not passed"));
    assert_eq!(house.void(by_another).as_deref(), Some("issuer is not the collector"));
}

#[test]
fn an_output_that_is_not_the_one_released_is_refused_and_named() {
    let mut house = House::eight();
    let key = house.nodes["no"].keys().sign();
    house.relay = Box::new(move |frame| {
        let mut f = frame.frame().clone();
        if f.kind == "output" {
            let last = f.body.len() - 1;
            f.body[last] ^= 1;
            return vec![(f.to.clone(), f.sign(&key).unwrap().bytes().to_vec())];
        }
        vec![(f.to.clone(), frame.bytes().to_vec())]
    });
    house.ask_and_approve("deaths", &count("deaths"));
    house.settle();
    assert!(house.released("deaths"));
    assert!(house.holds_against("gb", "no", "not the one released"), "{:?}", house.evidence("gb"));
    let reply = house.cmd("gb", node::Command::StudyResult { id: "deaths".into() });
    assert_eq!(reply.exit, 1, "{}", reply.text);
}
