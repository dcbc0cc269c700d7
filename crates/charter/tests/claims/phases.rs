//! Where a study stands, seen from the record and the time alone.

use crate::federation::*;
use charter::body::RunJoin;
use charter::{Phase, Stage, VoteChoice};

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| n.to_string()).collect()
}

#[test]
fn a_study_awaits_every_gate_that_has_not_spoken() {
    let mut f = Federation::asked(aspirin());
    assert_eq!(f.phase("aspirin"), Phase::AwaitingGates { missing: owned(&MEMBERS) });
    MEMBERS.iter().skip(2).for_each(|m| valid(f.gate(m, "aspirin", Stage::Propose, true)));
    assert_eq!(f.phase("aspirin"), Phase::AwaitingGates { missing: owned(&["gb", "it"]) });
}

#[test]
fn one_refusing_gate_refuses_a_study_that_needs_all_nine() {
    let mut f = Federation::asked(aspirin());
    valid(f.gate("au", "aspirin", Stage::Propose, false));
    assert_eq!(f.phase("aspirin"), Phase::Refused { by: owned(&["au"]) });
    // No time and no vote changes that.
    MEMBERS.iter().filter(|m| **m != "au").for_each(|m| valid(f.gate(m, "aspirin", Stage::Propose, true)));
    MEMBERS.iter().filter(|m| **m != "au").for_each(|m| valid(f.vote(m, "aspirin", VoteChoice::Yes)));
    assert_eq!(f.phase("aspirin"), Phase::Refused { by: owned(&["au"]) });
    f.time += 30 * DAY;
    assert_eq!(f.phase("aspirin"), Phase::Refused { by: owned(&["au"]) });
    void(f.set("ch", "aspirin", 1, without("au")), "the study is not approved");
}

#[test]
fn a_study_content_with_eight_goes_on_without_the_one_whose_gate_refuses() {
    let mut f = Federation::asked(named("asked"));
    MEMBERS.iter().for_each(|m| valid(f.gate(m, "asked", Stage::Propose, *m != "au")));
    assert!(matches!(f.phase("asked"), Phase::AwaitingVotes { .. }));
    for member in MEMBERS.iter().filter(|m| **m != "au") {
        assert!(matches!(f.phase("asked"), Phase::AwaitingVotes { .. }));
        valid(f.vote(member, "asked", VoteChoice::Yes));
    }
    let yes: Vec<String> = MEMBERS.iter().filter(|m| **m != "au").map(|m| m.to_string()).collect();
    assert_eq!(f.phase("asked"), Phase::Approved { contributors: yes });
}

#[test]
fn eight_yes_of_nine_do_not_approve_a_study_that_needs_nine() {
    let mut f = Federation::gated(aspirin());
    MEMBERS.iter().skip(1).for_each(|m| valid(f.vote(m, "aspirin", VoteChoice::Yes)));
    let waiting = Phase::AwaitingVotes { missing: owned(&["gb"]), yes: 8, needed: 9 };
    assert_eq!(f.phase("aspirin"), waiting);
    void(f.would(|f| f.set("ch", "aspirin", 1, without("gb"))), "the study is not approved");
    void(f.would(|f| f.set("ch", "aspirin", 1, everyone())), "the study is not approved");
    let closes = f.state.studies["aspirin"].closes;
    assert_eq!(f.state.phase("aspirin", closes - 1), Some(waiting));
    assert_eq!(f.state.phase("aspirin", closes), Some(Phase::Lapsed));
    valid(f.vote("gb", "aspirin", VoteChoice::Yes));
    assert_eq!(f.phase("aspirin"), Phase::Approved { contributors: owned(&MEMBERS) });
}

#[test]
fn the_ninth_is_left_out_at_the_deadline_if_the_minimum_allows() {
    let mut f = Federation::gated(named("asked"));
    MEMBERS.iter().skip(1).for_each(|m| valid(f.vote(m, "asked", VoteChoice::Yes)));
    // Before the deadline its steward may still decide.
    assert_eq!(f.phase("asked"), Phase::AwaitingVotes { missing: owned(&["gb"]), yes: 8, needed: 8 });
    f.time = f.state.studies["asked"].closes;
    assert_eq!(f.phase("asked"), Phase::Approved { contributors: owned(&MEMBERS[1..]) });
    void(f.would(|f| f.set("ch", "asked", 1, everyone())), "not the members whose stewards said yes");
    valid(f.set("ch", "asked", 1, without("gb")));
}

#[test]
fn a_silent_gate_delays_until_the_deadline_and_no_longer() {
    let mut f = Federation::asked(named("asked"));
    MEMBERS.iter().skip(1).for_each(|m| valid(f.gate(m, "asked", Stage::Propose, true)));
    MEMBERS.iter().skip(1).for_each(|m| valid(f.vote(m, "asked", VoteChoice::Yes)));
    assert_eq!(f.phase("asked"), Phase::AwaitingGates { missing: owned(&["gb"]) });
    f.time = f.state.studies["asked"].closes;
    assert_eq!(f.phase("asked"), Phase::Approved { contributors: owned(&MEMBERS[1..]) });
    // A verdict that comes too late takes nobody else's yes away.
    valid(f.gate("gb", "asked", Stage::Propose, false));
    assert_eq!(f.phase("asked"), Phase::Approved { contributors: owned(&MEMBERS[1..]) });
}

#[test]
fn a_no_on_ones_own_data_needs_no_majority() {
    let mut f = Federation::gated(aspirin());
    valid(f.vote("pl", "aspirin", VoteChoice::No));
    assert_eq!(f.phase("aspirin"), Phase::Declined { by: owned(&["pl"]) });
    MEMBERS.iter().filter(|m| **m != "pl").for_each(|m| valid(f.vote(m, "aspirin", VoteChoice::Yes)));
    assert_eq!(f.phase("aspirin"), Phase::Declined { by: owned(&["pl"]) });
    f.time += 30 * DAY;
    assert_eq!(f.phase("aspirin"), Phase::Declined { by: owned(&["pl"]) });
    void(f.set("ch", "aspirin", 1, without("pl")), "the study is not approved");
}

#[test]
fn a_no_leaves_one_out_and_two_decline_where_eight_are_needed() {
    let mut f = Federation::gated(named("asked"));
    MEMBERS.iter().skip(2).for_each(|m| valid(f.vote(m, "asked", VoteChoice::Yes)));
    valid(f.vote("gb", "asked", VoteChoice::No));
    let two = f.would_phase(|f| valid(f.vote("it", "asked", VoteChoice::No)), "asked");
    assert_eq!(two, Phase::Declined { by: owned(&["gb", "it"]) });
    valid(f.vote("it", "asked", VoteChoice::Yes));
    assert_eq!(f.phase("asked"), Phase::Approved { contributors: owned(&MEMBERS[1..]) });
}

impl Federation {
    fn would_phase(&self, act: impl FnOnce(&mut Federation), study: &str) -> Phase {
        let mut f = self.clone();
        act(&mut f);
        f.phase(study)
    }
}

#[test]
fn too_few_votes_lapse_at_the_deadline() {
    let mut f = Federation::gated(named("asked"));
    MEMBERS.iter().take(7).for_each(|m| valid(f.vote(m, "asked", VoteChoice::Yes)));
    f.time = f.state.studies["asked"].closes;
    assert_eq!(f.phase("asked"), Phase::Lapsed);
}

#[test]
fn the_charters_quorum_counts_votes_whatever_the_study_is_content_with() {
    let few = study::Study { minimum_contributors: 2, ..named("few") };
    let mut f = Federation::gated(few);
    MEMBERS.iter().take(7).for_each(|m| valid(f.vote(m, "few", VoteChoice::Yes)));
    let closes = f.state.studies["few"].closes;
    assert_eq!(f.state.phase("few", closes), Some(Phase::Lapsed), "seven votes, a quorum of eight");
    // A no is a vote too.
    valid(f.vote("au", "few", VoteChoice::No));
    assert_eq!(f.state.phase("few", closes), Some(Phase::Approved { contributors: owned(&MEMBERS[..7]) }));
}

#[test]
fn a_revoked_yes_takes_the_study_back() {
    let mut f = Federation::approved(aspirin());
    assert!(matches!(f.phase("aspirin"), Phase::Approved { .. }));
    valid(f.revoke("se", "aspirin"));
    assert_eq!(f.phase("aspirin"), Phase::Declined { by: owned(&["se"]) });
    void(f.set("ch", "aspirin", 1, everyone()), "the study is not approved");
    // Where eight are enough it goes on without that member.
    let mut f = Federation::approved(named("asked"));
    valid(f.revoke("gb", "asked"));
    assert_eq!(f.phase("asked"), Phase::Approved { contributors: owned(&MEMBERS[1..]) });
}

#[test]
fn a_yes_holds_for_the_days_of_the_charter() {
    let f = Federation::approved(aspirin());
    let first = f.state.studies["aspirin"].votes["gb"].time;
    let at = |t: i64| f.state.phase("aspirin", t);
    assert!(matches!(at(first + 90 * DAY - 1), Some(Phase::Approved { .. })));
    assert_eq!(at(first + 90 * DAY), Some(Phase::Lapsed));
}

#[test]
fn votes_add_up_in_any_order() {
    let count = |order: Vec<&str>| {
        let mut f = Federation::gated(named("asked"));
        for member in order {
            let choice = if member == "pl" { VoteChoice::No } else { VoteChoice::Yes };
            valid(f.vote(member, "asked", choice));
        }
        f.phase("asked")
    };
    let forwards = count(MEMBERS.to_vec());
    assert_eq!(forwards, count(MEMBERS.iter().rev().copied().collect()));
    assert!(matches!(forwards, Phase::Approved { ref contributors } if contributors.len() == 8));
}

#[test]
fn a_study_runs_from_the_first_set_until_its_release() {
    let mut f = Federation::approved(aspirin());
    valid(f.set("ch", "aspirin", 1, everyone()));
    assert_eq!(f.phase("aspirin"), Phase::Running { run: 1 });
    valid(f.set("se", "aspirin", 1, everyone()));
    valid(f.node("no", RunJoin::TYPE, &RunJoin { study: "aspirin".into(), run: 1, kem: kem("no") }));
    f.all_contribute("aspirin");
    valid(f.commit("no", "aspirin", 0, 0));
    valid(f.verdict("no", "aspirin", true));
    assert_eq!(f.phase("aspirin"), Phase::Running { run: 1 });
    valid(f.release_gate("no", "aspirin", true));
    valid(f.publish("no", "aspirin"));
    assert_eq!(f.phase("aspirin"), Phase::Released { run: 1 });
    // For good: whatever is taken back or lapses later.
    valid(f.revoke("se", "aspirin"));
    assert_eq!(f.state.phase("aspirin", i64::MAX), Some(Phase::Released { run: 1 }));
    void(f.set("ch", "aspirin", 2, everyone()), "the study is not approved");
}

#[test]
fn a_contributor_whose_gate_refuses_in_a_run_stops_it() {
    let mut f = Federation::sealed(aspirin());
    MEMBERS.iter().skip(1).for_each(|m| valid(f.gate(m, "aspirin", Stage::Contribute, true)));
    valid(f.gate("gb", "aspirin", Stage::Contribute, false));
    assert_eq!(f.phase("aspirin"), Phase::Refused { by: owned(&["gb"]) });
    void(f.verdict("no", "aspirin", true), "contributors have no receipts");
}

#[test]
fn a_withheld_output_stays_withheld_and_is_not_asked_again() {
    let mut f = Federation::running(aspirin());
    valid(f.verdict("no", "aspirin", false));
    assert_eq!(f.phase("aspirin"), Phase::Withheld);
    valid(f.lose("it", "aspirin", 1));
    assert_eq!(f.phase("aspirin"), Phase::Withheld, "giving the run up afterwards opens no second try");
    void(f.set("ch", "aspirin", 2, everyone()), "the study is not approved");
    let mut f = Federation::running(aspirin());
    valid(f.verdict("no", "aspirin", true));
    valid(f.release_gate("no", "aspirin", false));
    assert_eq!(f.phase("aspirin"), Phase::Withheld);
}

#[test]
fn a_phase_has_an_answer_at_any_time() {
    for f in [Federation::asked(aspirin()), Federation::approved(aspirin()), Federation::released(aspirin())]
    {
        for now in [i64::MIN, -1, 0, START, i64::MAX] {
            assert!(f.state.phase("aspirin", now).is_some());
        }
        assert_eq!(f.state.phase("other", START), None);
    }
}
