//! Runs: contributors fixed by all aggregators, keys, verdict, release, loss, close.

use crate::federation::*;
use charter::body::*;
use charter::{Phase, Stage};
use record::Digest;

#[test]
fn both_aggregators_seal_the_contributors_by_signing_alike() {
    let mut f = Federation::approved(aspirin());
    valid(f.set("ch", "aspirin", 1, everyone()));
    assert_eq!(f.state.studies["aspirin"].runs[&1].sealed, None);
    void(f.would(|f| f.set("ch", "aspirin", 1, everyone())), "signed before");
    let differs = "differs from the set that was signed first";
    void(f.would(|f| f.set("se", "aspirin", 1, without("gb"))), differs);
    let body = RunSet {
        study: "aspirin".into(),
        run: 1,
        contributors: everyone(),
        plan: Digest::of(b"another plan"),
        kem: kem("se"),
    };
    void(f.would(|f| f.node("se", RunSet::TYPE, &body)), differs);
    valid(f.set("se", "aspirin", 1, everyone()));
    let run = &f.state.studies["aspirin"].runs[&1];
    assert_eq!(run.sealed, Some(f.state.size - 1));
    assert_eq!(run.first, f.state.size - 2);
    assert_eq!(run.sets.keys().collect::<Vec<_>>(), ["ch", "se"]);
    void(f.set("se", "aspirin", 1, everyone()), "signed before");
}

#[test]
fn only_an_aggregator_of_the_study_signs_a_set() {
    let f = Federation::approved(aspirin());
    let stranger = "issuer is not an aggregator of the study";
    // `ar` is in the charter's pool, but not in this study.
    for member in ["ar", "gb", "no", "it"] {
        void(f.would(|f| f.set(member, "aspirin", 1, everyone())), stranger);
    }
    void(f.would(|f| f.set("ch", "other", 1, everyone())), "no such study");
}

#[test]
fn a_set_is_exactly_the_members_whose_stewards_said_yes_in_order() {
    let f = Federation::approved(aspirin());
    let wrong = "not the members whose stewards said yes";
    void(f.would(|f| f.set("ch", "aspirin", 1, without("gb"))), wrong);
    void(f.would(|f| f.set("ch", "aspirin", 1, Vec::new())), wrong);
    let unsorted: Vec<String> = MEMBERS.iter().map(|m| m.to_string()).collect();
    void(f.would(|f| f.set("ch", "aspirin", 1, unsorted)), wrong);
    let mut twice = everyone();
    twice.push("se".into());
    void(f.would(|f| f.set("ch", "aspirin", 1, twice)), wrong);
    let mut more = everyone();
    more.push("zz".into());
    void(f.would(|f| f.set("ch", "aspirin", 1, more)), wrong);
}

#[test]
fn runs_are_counted_from_one_without_gaps() {
    let mut f = Federation::approved(aspirin());
    for run in [0, 2, 3] {
        void(f.would(|f| f.set("ch", "aspirin", run, everyone())), "not the next run");
    }
    valid(f.set("ch", "aspirin", 1, everyone()));
    void(f.would(|f| f.set("ch", "aspirin", 2, everyone())), "the study is not approved");
    valid(f.lose("it", "aspirin", 1));
    assert!(matches!(f.phase("aspirin"), Phase::Approved { .. }));
    void(f.would(|f| f.set("se", "aspirin", 1, everyone())), "the run was given up");
    void(f.would(|f| f.set("ch", "aspirin", 3, everyone())), "not the next run");
    valid(f.set("se", "aspirin", 2, everyone()));
    assert_eq!(f.phase("aspirin"), Phase::Running { run: 2 });
    assert_eq!(f.state.run_order, [("aspirin".to_string(), 1), ("aspirin".to_string(), 2)]);
}

#[test]
fn a_study_is_run_at_most_three_times() {
    let mut f = Federation::approved(aspirin());
    for run in 1..=charter::fold::MAX_RUNS {
        valid(f.set("ch", "aspirin", run, everyone()));
        valid(f.lose("it", "aspirin", run));
    }
    void(f.set("ch", "aspirin", charter::fold::MAX_RUNS + 1, everyone()), "too many runs");
}

#[test]
fn a_run_that_was_given_up_takes_no_more_receipts() {
    let mut f = Federation::sealed(aspirin());
    valid(f.lose("it", "aspirin", 1));
    void(f.gate("it", "aspirin", Stage::Contribute, true), "the run was given up");
    assert!(!f.state.studies["aspirin"].runs[&1].may_open());
}

#[test]
fn no_run_begins_after_the_studys_last_day() {
    let study = study::Study { until: "2026-01-20".into(), ..aspirin() };
    let mut f = Federation::approved(study);
    let end = charter::document::end_of_day("2026-01-20").unwrap();
    assert_eq!(end, START + 20 * DAY);
    f.time = end - 1001;
    valid(f.would(|f| f.set("ch", "aspirin", 1, everyone())));
    f.time = end - 1000;
    void(f.would(|f| f.set("ch", "aspirin", 1, everyone())), "after the study's last day");
}

#[test]
fn only_collector_and_recipients_join_each_once() {
    let mut f = Federation::sealed(aspirin());
    let join = |run: u32| RunJoin { study: "aspirin".into(), run, kem: kem("se") };
    void(f.node("it", RunJoin::TYPE, &join(1)), "issuer neither collects nor receives");
    void(f.node("ch", RunJoin::TYPE, &join(1)), "issuer neither collects nor receives");
    void(f.node("no", RunJoin::TYPE, &join(2)), "no such run");
    valid(f.node("no", RunJoin::TYPE, &join(1)));
    valid(f.node("gb", RunJoin::TYPE, &join(1)));
    void(f.node("no", RunJoin::TYPE, &join(1)), "joined before");
    let elsewhere = RunJoin { study: "other".into(), ..join(1) };
    void(f.node("no", RunJoin::TYPE, &elsewhere), "no such study");
}

#[test]
fn only_the_collector_commits_once_to_each_sum_of_a_sealed_run() {
    let mut f = Federation::approved(aspirin());
    void(f.commit("no", "aspirin", 0, 0), "no such run");
    valid(f.set("ch", "aspirin", 1, everyone()));
    void(f.commit("no", "aspirin", 0, 0), "contributors not fixed");
    valid(f.set("se", "aspirin", 1, everyone()));
    void(f.commit("ch", "aspirin", 0, 0), "issuer is not the collector");
    valid(f.commit("no", "aspirin", 0, 0));
    void(f.commit("no", "aspirin", 0, 0), "committed before");
    valid(f.commit("no", "aspirin", 0, 1));
    valid(f.commit("no", "aspirin", 1, 0));
    let keys: Vec<&String> = f.state.studies["aspirin"].runs[&1].commits.keys().collect();
    assert_eq!(keys, ["0/0", "0/1", "1/0"]);
}

#[test]
fn no_verdict_before_every_contributors_receipt() {
    let mut f = Federation::sealed(aspirin());
    void(f.verdict("no", "aspirin", true), "contributors have no receipts");
    MEMBERS.iter().skip(1).for_each(|m| valid(f.gate(m, "aspirin", Stage::Contribute, true)));
    void(f.verdict("no", "aspirin", true), "contributors have no receipts");
    valid(f.gate("gb", "aspirin", Stage::Contribute, true));
    void(f.verdict("no", "aspirin", true), "no sum of the guard was committed to");
    void(f.verdict("no", "aspirin", false), "no sum of the guard was committed to");
    valid(f.commit("no", "aspirin", 0, 0));
    void(f.verdict("ch", "aspirin", true), "issuer is not the collector");
    valid(f.verdict("no", "aspirin", true));
    assert_eq!(f.state.studies["aspirin"].runs[&1].verdict, Some((true, f.state.size - 1)));
}

#[test]
fn a_pass_may_turn_into_withheld_and_never_back() {
    let mut f = Federation::running(aspirin());
    valid(f.verdict("no", "aspirin", true));
    void(f.verdict("no", "aspirin", true), "verdict given before");
    valid(f.verdict("no", "aspirin", false));
    void(f.verdict("no", "aspirin", true), "verdict given before");
    void(f.verdict("no", "aspirin", false), "verdict given before");
    assert_eq!(f.phase("aspirin"), Phase::Withheld);
    let mut f = Federation::released(aspirin());
    void(f.verdict("no", "aspirin", false), "verdict given before");
    assert_eq!(f.phase("aspirin"), Phase::Released { run: 1 });
}

#[test]
fn no_release_without_the_guard_and_the_collectors_own_gate() {
    let mut f = Federation::running(aspirin());
    void(f.publish("no", "aspirin"), "the guard has not passed");
    valid(f.verdict("no", "aspirin", true));
    void(f.publish("no", "aspirin"), "no receipt of the release gate");
    let mut refused = f.clone();
    valid(refused.release_gate("no", "aspirin", false));
    void(refused.publish("no", "aspirin"), "no receipt of the release gate");
    valid(f.release_gate("no", "aspirin", true));
    void(f.would(|f| f.publish("gb", "aspirin")), "issuer is not the collector");
    let mut withheld = f.clone();
    valid(withheld.verdict("no", "aspirin", false));
    void(withheld.publish("no", "aspirin"), "the guard has not passed");
    let mut lost = f.clone();
    valid(lost.lose("it", "aspirin", 1));
    void(lost.publish("no", "aspirin"), "the run was given up");
    valid(f.publish("no", "aspirin"));
    void(f.publish("no", "aspirin"), "released before");
    assert_eq!(f.state.studies["aspirin"].runs[&1].release, Some((f.output("aspirin"), f.state.size - 2)));
}

#[test]
fn a_release_has_the_lineage_of_its_run() {
    let mut f = Federation::running(aspirin());
    valid(f.verdict("no", "aspirin", true));
    valid(f.release_gate("no", "aspirin", true));
    let publish = |edit: fn(&mut ReleasePublish)| {
        let mut output = f.output("aspirin");
        edit(&mut output);
        f.would(|f| f.node("no", ReleasePublish::TYPE, &output))
    };
    void(publish(|r| r.plan = Digest::of(b"another plan")), "lineage differs from the run");
    void(publish(|r| r.contributors = without("gb")), "lineage differs from the run");
    void(publish(|r| r.contributors.reverse()), "lineage differs from the run");
    let readers = "recipients differ from the study's";
    void(publish(|r| r.recipients = vec!["it".into()]), readers);
    void(publish(|r| r.recipients.clear()), readers);
    void(publish(|r| r.sealed.clear()), readers);
    // To nobody at all, or twice to one.
    void(publish(|r| (r.recipients, r.sealed) = Default::default()), readers);
    let twice = |r: &mut ReleasePublish| {
        r.recipients = vec!["gb".into(); 2];
        r.sealed = vec![Digest::of(b"sealed output"); 2];
    };
    void(publish(twice), readers);
    void(publish(|r| r.run = 2), "no such run");
    void(publish(|r| r.study = "other".into()), "no such study");
    valid(publish(|_| ()));
}

#[test]
fn anyone_with_a_part_in_a_run_may_give_it_up_and_nobody_else() {
    let mut study = named("asked");
    study.contributors.retain(|m| !["ar", "no", "ch", "se"].contains(&m.as_str()));
    study.minimum_contributors = 5;
    study.recipients = vec![study::Recipient::Member("ar".into())];
    let mut f = Federation::asked(study);
    let named = ["gb", "it", "pl", "nl", "au"];
    named.iter().for_each(|m| valid(f.gate(m, "asked", Stage::Propose, true)));
    named.iter().for_each(|m| valid(f.vote(m, "asked", charter::VoteChoice::Yes)));
    valid(f.set("ch", "asked", 1, sorted(&named)));
    for member in ["no", "ch", "se", "gb", "au"] {
        valid(f.would(|f| f.lose(member, "asked", 1)));
    }
    // A recipient has no part in the computation.
    void(f.would(|f| f.lose("ar", "asked", 1)), "issuer has no part in the run");
    let long = RunLost { study: "asked".into(), run: 1, reason: "x".repeat(65) };
    void(f.would(|f| f.node("gb", RunLost::TYPE, &long)), "reason longer than 64 bytes");
    void(f.would(|f| f.lose("gb", "asked", 2)), "no such run");
    void(f.would(|f| f.lose("gb", "other", 1)), "no such study");
    valid(f.lose("gb", "asked", 1));
    let mut again = f.clone();
    let other = RunLost { study: "asked".into(), run: 1, reason: "another".into() };
    valid(again.node("no", RunLost::TYPE, &other));
    assert_eq!(bare(&f.state), bare(&again.state), "the first reason stays");
    let run = &f.state.studies["asked"].runs[&1];
    assert_eq!((run.lost.as_deref(), run.lost_at), (Some("no-progress"), Some(f.state.size - 1)));
}

#[test]
fn a_released_run_cannot_be_lost() {
    let mut f = Federation::released(aspirin());
    void(f.lose("it", "aspirin", 1), "released before");
    assert_eq!(f.phase("aspirin"), Phase::Released { run: 1 });
}

#[test]
fn everyone_with_a_key_closes_a_run_once_for_itself() {
    let mut study = named("asked");
    study.contributors.retain(|m| m != "ar");
    let mut f = Federation::asked(study);
    let named = without("ar");
    named.iter().for_each(|m| valid(f.gate(m, "asked", Stage::Propose, true)));
    named.iter().for_each(|m| valid(f.vote(m, "asked", charter::VoteChoice::Yes)));
    valid(f.set("ch", "asked", 1, named));
    void(f.close("ar", "asked"), "issuer has no part in the run");
    for member in ["gb", "it", "no", "ch", "se"] {
        valid(f.close(member, "asked"));
        void(f.close(member, "asked"), "closed before");
    }
    assert_eq!(f.state.studies["asked"].runs[&1].closed.len(), 5);
    void(f.would(|f| f.close("gb", "other")), "no such study");
}

#[test]
fn after_sunset_only_what_protects_still_counts() {
    let mut f = Federation::running(aspirin());
    f.time = charter::document::end_of_day("2026-12-31").unwrap() - 1001;
    valid(f.would(|f| f.verdict("no", "aspirin", true)));
    f.time += 1;
    let sunset = "after the charter's sunset";
    let resume = DatasetResume { name: "ist".into() };
    void(f.would(|f| f.verdict("no", "aspirin", true)), sunset);
    void(f.would(|f| f.submit(named("late"))), sunset);
    void(f.would(|f| f.node("gb", PolicyFloor::TYPE, &PolicyFloor { text: FLOOR.into() })), sunset);
    void(f.would(|f| f.seat("gb", "steward", DatasetResume::TYPE, &resume)), sunset);
    void(f.would(|f| f.node("gb", NodeResume::TYPE, &NodeResume { reason: "".into() })), sunset);
    void(f.would(|f| f.commit("no", "aspirin", 0, 0)), sunset);
    void(f.would(|f| f.release_gate("no", "aspirin", true)), sunset);
    void(f.would(|f| f.publish("no", "aspirin")), sunset);
    void(f.would(|f| f.set("ch", "aspirin", 1, everyone())), sunset);
    valid(f.pause("it"));
    valid(f.node("it", NodeStop::TYPE, &NodeStop { reason: "".into() }));
    valid(f.revoke("it", "aspirin"));
    valid(f.lose("it", "aspirin", 1));
    valid(f.close("it", "aspirin"));
}

#[test]
fn a_stop_by_a_node_whose_clock_is_ahead_is_still_a_stop() {
    let mut f = Federation::agreed();
    let mut stop = f.statement("it", "node", NodeStop::TYPE, &NodeStop { reason: "".into() });
    stop.valid_from = Some(f.time + HOUR);
    valid(f.put(stop, &key("it", "sign")));
    let mut start = f.statement("it", "node", NodeResume::TYPE, &NodeResume { reason: "".into() });
    start.valid_from = Some(f.time + HOUR);
    void(f.put(start, &key("it", "sign")), "before its own validity");
    assert!(f.state.stopped.contains("it"));
}

#[test]
fn a_contributor_is_left_out_only_while_it_is_not_ready_and_the_minimum_holds() {
    let mut f = Federation::approved(named("lossy"));
    let refused = "not the members whose stewards said yes";
    for member in without("pl") {
        // Until all others have said that they are ready, nobody is left out.
        void(f.would(|f| f.set("ch", "lossy", 1, without("pl"))), refused);
        valid(f.ready_for(&member, "lossy", 1));
    }
    // Who is ready is not left out, whoever is put in its place.
    void(f.would(|f| f.set("ch", "lossy", 1, without("it"))), refused);
    let seven: Vec<String> = without("pl").into_iter().filter(|m| m != "it").collect();
    void(f.would(|f| f.set("ch", "lossy", 1, seven)), refused);
    // With all of them, or with all that are ready.
    valid(f.would(|f| f.set("ch", "lossy", 1, everyone())));
    valid(f.would(|f| f.set("ch", "lossy", 1, without("pl"))));
    valid(f.ready_for("pl", "lossy", 1));
    void(f.would(|f| f.set("ch", "lossy", 1, without("pl"))), refused);
    valid(f.set("ch", "lossy", 1, everyone()));

    // A word for one run is none for the next.
    valid(f.lose("se", "lossy", 1));
    void(f.would(|f| f.set("ch", "lossy", 2, without("pl"))), refused);

    // All nine are needed here.
    let mut f = Federation::approved(aspirin());
    for member in without("pl") {
        valid(f.ready_for(&member, "aspirin", 1));
    }
    void(f.would(|f| f.set("ch", "aspirin", 1, without("pl"))), refused);
}

#[test]
fn only_a_contributor_of_an_approved_study_is_ready_and_for_the_next_run_alone() {
    let mut f = Federation::gated(named("lossy"));
    void(f.would(|f| f.ready_for("it", "lossy", 1)), "the study is not approved");
    void(f.would(|f| f.ready_for("it", "other", 1)), "no such study");
    valid(f.vote("pl", "lossy", charter::VoteChoice::No));
    for member in without("pl") {
        valid(f.vote(&member, "lossy", charter::VoteChoice::Yes));
    }
    void(f.would(|f| f.ready_for("pl", "lossy", 1)), "issuer's steward has not said yes");
    void(f.would(|f| f.ready_for("it", "lossy", 0)), "not the next run");
    void(f.would(|f| f.ready_for("it", "lossy", 2)), "not the next run");
    valid(f.ready_for("it", "lossy", 1));
}

#[test]
fn one_aggregator_alone_leaves_nobody_out_who_is_ready_before_the_other_signs() {
    let mut f = Federation::approved(named("hasty"));
    for member in without("pl") {
        valid(f.ready_for(&member, "hasty", 1));
    }
    valid(f.set("ch", "hasty", 1, without("pl")));
    void(f.would(|f| f.ready_for("pl", "hasty", 2)), "the study is not approved");
    // It was there after all: the other's signature does not seal what leaves it out.
    valid(f.would(|f| f.set("se", "hasty", 1, without("pl"))));
    valid(f.ready_for("pl", "hasty", 1));
    void(f.set("se", "hasty", 1, without("pl")), "leaves out a member that is ready");
    assert_eq!(f.state.studies["hasty"].runs[&1].sealed, None);
    valid(f.lose("se", "hasty", 1));
    assert!(!f.state.studies["hasty"].runs[&1].may_open());
    valid(f.set("se", "hasty", 2, everyone()));
    valid(f.set("ch", "hasty", 2, everyone()));
    void(f.ready_for("it", "hasty", 2), "the study is not approved");
}
