//! Studies, the gates' verdicts on them and the stewards' votes.

use crate::federation::*;
use charter::body::*;
use charter::{Stage, VoteChoice};
use record::Digest;
use study::{Outsider, Recipient};

#[test]
fn a_study_is_asked_by_a_scientist_of_the_requester_in_its_own_name() {
    let f = Federation::ready();
    let body = StudySubmit { study: aspirin(), plan: plan_of("aspirin") };
    let scientist = "actor holds no scientist seat of the issuer";
    void(f.would(|f| f.seat("gb", "steward", StudySubmit::TYPE, &body)), scientist);
    void(f.would(|f| f.node("gb", StudySubmit::TYPE, &body)), scientist);
    void(f.would(|f| f.say("gb", "it-scientist", StudySubmit::TYPE, &body)), scientist);
    let other = "asked in another member's name";
    void(f.would(|f| f.seat("it", "scientist", StudySubmit::TYPE, &body)), other);
    valid(f.would(|f| f.seat("gb", "scientist", StudySubmit::TYPE, &body)));
}

#[test]
fn a_study_names_members_registered_datasets_and_a_registered_dictionary() {
    let f = Federation::ready();
    let ask = |edit: fn(&mut study::Study)| {
        let mut study = named("asked");
        edit(&mut study);
        f.would(|f| f.submit(study))
    };
    let stranger = "names somebody who is not a member";
    void(ask(|s| s.collector = "fr".into()), stranger);
    void(ask(|s| s.aggregators[1] = "fr".into()), stranger);
    void(ask(|s| s.contributors[8] = "fr".into()), stranger);
    void(ask(|s| s.recipients.push(Recipient::Member("fr".into()))), stranger);
    // Somebody outside is for the gates to judge.
    valid(ask(|s| {
        let (name, jurisdiction) = ("An insurer".into(), "US".into());
        s.recipients = vec![Recipient::Outside(Outsider { name, jurisdiction })];
    }));
    void(ask(|s| s.dataset = "other".into()), "names a dataset that is not registered");
    void(ask(|s| s.dictionary = "ist-core/2".into()), "dictionary not registered");
    let broken = "study breaks its own rules";
    void(ask(|s| s.minimum_contributors = 10), broken);
    void(ask(|s| s.minimum_contributors = 0), broken);
    void(ask(|s| s.contributors[8] = "gb".into()), broken);
    void(ask(|s| s.aggregators.truncate(1)), broken);
    void(ask(|s| s.until = "2026-02-30".into()), broken);
    void(ask(|s| s.population.complete.clear()), broken);
    void(ask(|s| s.analyses.clear()), broken);
    let mut f = Federation::ready();
    let next = study::Dictionary { id: "ist-core/2".into(), ..dictionary() };
    valid(f.register(next));
    let moved = study::Study { dictionary: "ist-core/2".into(), ..aspirin() };
    void(f.submit(moved), "names a dataset of another dictionary");
}

#[test]
fn a_study_id_is_used_once_and_the_first_stays() {
    let mut f = Federation::asked(aspirin());
    let other = study::Study { requester: "it".into(), ..named("aspirin") };
    let body = StudySubmit { study: other, plan: plan_of("other") };
    void(f.seat("it", "scientist", StudySubmit::TYPE, &body), "study id used before");
    assert_eq!(f.state.studies["aspirin"].study, aspirin());
    assert_eq!(f.state.studies["aspirin"].digest, digest_of(&aspirin()));
    assert_eq!(f.state.studies["aspirin"].closes, f.state.studies["aspirin"].time + 72 * HOUR);
}

#[test]
fn a_receipt_must_carry_the_input_that_its_digest_names() {
    let f = Federation::asked(aspirin());
    let mut receipt = f.receipt("it", "aspirin", Stage::Propose, true);
    receipt.input_digest = Digest::of(b"another input");
    void(f.would(|f| f.node("it", GateReceipt::TYPE, &receipt)), "input does not match its digest");
}

#[test]
fn a_gate_decides_on_a_state_that_was_there() {
    let f = Federation::asked(aspirin());
    let as_of = |as_of: u64| {
        let receipt = GateReceipt { as_of, ..f.receipt("it", "aspirin", Stage::Propose, true) };
        f.would(|f| f.node("it", GateReceipt::TYPE, &receipt))
    };
    valid(as_of(f.state.size));
    void(as_of(f.state.size + 1), "decided on a state that was not there yet");
}

#[test]
fn a_run_key_has_the_length_and_letters_of_one() {
    let f = Federation::sealed(aspirin());
    let keyed = |kem: String| {
        let receipt = GateReceipt { kem: Some(kem), ..f.receipt("it", "aspirin", Stage::Contribute, true) };
        f.would(|f| f.node("it", GateReceipt::TYPE, &receipt))
    };
    valid(keyed(kem("it")));
    for wrong in ["".into(), "k".into(), kem("it").to_uppercase(), kem("it")[1..].into(), kem("it") + "0"] {
        void(keyed(wrong), "malformed key");
    }
    let join = RunJoin { study: "aspirin".into(), run: 1, kem: "k".into() };
    void(f.would(|f| f.node("no", RunJoin::TYPE, &join)), "malformed key");
}

#[test]
fn a_lease_is_no_longer_than_the_charter_allows() {
    let mut f = Federation::sealed(aspirin());
    let leased = |f: &Federation, until: i64| {
        let receipt =
            GateReceipt { lease_until: until, ..f.receipt("it", "aspirin", Stage::Contribute, true) };
        f.would(|f| f.node("it", GateReceipt::TYPE, &receipt))
    };
    f.time += 5000;
    // The statement is stamped a second after `time`; a minute is for clocks that differ.
    let most = f.time + 1000 + 24 * HOUR + 60_000;
    valid(leased(&f, most));
    void(leased(&f, most + 1), "lease longer than the charter allows");
    void(leased(&f, f.time + 1000), "an allow needs a key and a lease");
    valid(leased(&f, f.time + 1001));
    let keyless = GateReceipt { kem: None, ..f.receipt("it", "aspirin", Stage::Contribute, true) };
    void(f.would(|f| f.node("it", GateReceipt::TYPE, &keyless)), "an allow needs a key and a lease");
    // A denial needs neither.
    valid(f.would(|f| f.gate("it", "aspirin", Stage::Contribute, false)));
}

#[test]
fn a_gate_speaks_once_about_a_study_and_only_if_named_by_it() {
    let mut asked = aspirin();
    asked.contributors.retain(|m| m != "ar");
    asked.minimum_contributors = 8;
    let mut f = Federation::asked(asked);
    void(f.gate("it", "other", Stage::Propose, true), "no such study");
    void(f.gate("ar", "aspirin", Stage::Propose, true), "issuer is not named by the study");
    valid(f.gate("it", "aspirin", Stage::Propose, false));
    void(f.gate("it", "aspirin", Stage::Propose, true), "verdict given before");
    assert!(!f.state.studies["aspirin"].proposed["it"].allow);
}

#[test]
fn a_gate_speaks_in_a_run_once_after_its_contributors_are_fixed() {
    let mut f = Federation::approved(aspirin());
    void(f.gate("it", "aspirin", Stage::Contribute, true), "no such run");
    valid(f.set("ch", "aspirin", 1, everyone()));
    void(f.gate("it", "aspirin", Stage::Contribute, true), "contributors not fixed");
    valid(f.set("se", "aspirin", 1, everyone()));
    valid(f.gate("it", "aspirin", Stage::Contribute, true));
    void(f.gate("it", "aspirin", Stage::Contribute, false), "verdict given before");
    let run = &f.state.studies["aspirin"].runs[&1];
    assert_eq!(run.receipts.keys().collect::<Vec<_>>(), ["it"]);
    assert_eq!(run.receipts["it"].kem.as_deref(), Some(kem("it").as_str()));
}

#[test]
fn a_gate_of_a_member_left_out_of_a_run_has_no_say_in_it() {
    let mut f = Federation::gated(named("asked"));
    MEMBERS.iter().filter(|m| **m != "ar").for_each(|m| valid(f.vote(m, "asked", VoteChoice::Yes)));
    valid(f.vote("ar", "asked", VoteChoice::No));
    valid(f.set("ch", "asked", 1, without("ar")));
    valid(f.set("se", "asked", 1, without("ar")));
    void(f.gate("ar", "asked", Stage::Contribute, false), "issuer does not contribute to the run");
    void(f.gate("ar", "asked", Stage::Contribute, true), "issuer does not contribute to the run");
}

#[test]
fn only_the_collector_has_a_release_gate_and_it_speaks_once() {
    let mut f = Federation::approved(aspirin());
    void(f.release_gate("it", "aspirin", true), "issuer is not the collector");
    void(f.release_gate("no", "aspirin", true), "no such run");
    valid(f.set("ch", "aspirin", 1, everyone()));
    valid(f.release_gate("no", "aspirin", false));
    void(f.release_gate("no", "aspirin", true), "verdict given before");
}

#[test]
fn a_vote_is_of_a_steward_of_a_named_member_on_the_very_document() {
    let mut asked = named("asked");
    asked.contributors.retain(|m| m != "ar");
    let mut f = Federation::asked(asked);
    let ballot = f.ballot("asked", VoteChoice::Yes);
    void(f.would(|f| f.vote("it", "asked", VoteChoice::Yes)), "the issuer's own gate has not spoken");
    valid(f.gate("it", "asked", Stage::Propose, true));
    let steward = "actor holds no steward seat of the issuer";
    void(f.would(|f| f.node("it", DecisionVote::TYPE, &ballot)), steward);
    void(f.would(|f| f.seat("it", "scientist", DecisionVote::TYPE, &ballot)), steward);
    void(f.would(|f| f.say("it", "gb-steward", DecisionVote::TYPE, &ballot)), steward);
    void(f.would(|f| f.vote("ar", "asked", VoteChoice::Yes)), "issuer is not in the electorate");
    let other = DecisionVote { study: "other".into(), ..ballot.clone() };
    void(f.would(|f| f.seat("it", "steward", DecisionVote::TYPE, &other)), "no such study");
    let other = DecisionVote { study_digest: Digest::of(b"another text"), ..ballot };
    void(f.would(|f| f.seat("it", "steward", DecisionVote::TYPE, &other)), "votes on another document");
    valid(f.vote("it", "asked", VoteChoice::Yes));
    assert_eq!(f.state.studies["asked"].votes["it"].seat, "it-steward");
}

#[test]
fn nobody_votes_twice_or_for_another_member() {
    let mut f = Federation::gated(aspirin());
    valid(f.vote("it", "aspirin", VoteChoice::Yes));
    void(f.vote("it", "aspirin", VoteChoice::No), "voted before");
    void(f.vote("it", "aspirin", VoteChoice::Yes), "voted before");
    let ballot = f.ballot("aspirin", VoteChoice::Yes);
    let forged = f.statement("pl", "pl-steward", DecisionVote::TYPE, &ballot);
    void(f.put(forged, &key("it", "sign")), "not_signed");
    assert_eq!(f.state.studies["aspirin"].votes.len(), 1);
}

#[test]
fn no_vote_overrides_the_members_own_gate() {
    let mut f = Federation::asked(aspirin());
    valid(f.gate("it", "aspirin", Stage::Propose, false));
    let refused = "the issuer's own gate refuses; no vote can override it";
    void(f.would(|f| f.vote("it", "aspirin", VoteChoice::Yes)), refused);
    valid(f.vote("it", "aspirin", VoteChoice::No));
}

#[test]
fn votes_count_until_the_deadline_and_not_at_it() {
    let mut f = Federation::gated(aspirin());
    let closes = f.state.studies["aspirin"].closes;
    f.time = closes - 1001;
    valid(f.would(|f| f.vote("it", "aspirin", VoteChoice::Yes)));
    f.time = closes - 1000;
    void(f.would(|f| f.vote("it", "aspirin", VoteChoice::Yes)), "after the deadline");
}

#[test]
fn a_stamp_that_goes_back_reopens_nothing() {
    let mut f = Federation::gated(aspirin());
    let closes = f.state.studies["aspirin"].closes;
    f.time = closes + HOUR;
    valid(f.pause("pl"));
    // A hub that stamps a late vote early; members refuse such a log, and the fold does not follow it either.
    f.time = closes - HOUR;
    void(f.vote("it", "aspirin", VoteChoice::Yes), "after the deadline");
}

#[test]
fn a_yes_is_taken_back_once_and_for_good() {
    let mut f = Federation::gated(aspirin());
    void(f.revoke("it", "aspirin"), "no vote to take back");
    void(f.revoke("it", "other"), "no vote to take back");
    valid(f.vote("it", "aspirin", VoteChoice::Yes));
    void(f.revoke("pl", "aspirin"), "no vote to take back");
    valid(f.revoke("it", "aspirin"));
    assert_eq!(f.state.studies["aspirin"].votes["it"].revoked, Some(f.state.size - 1));
    void(f.revoke("it", "aspirin"), "taken back before");
    void(f.vote("it", "aspirin", VoteChoice::Yes), "voted before");
}

#[test]
fn statements_hold_within_their_own_validity() {
    let mut f = Federation::ready();
    let study = StudySubmit { study: aspirin(), plan: plan_of("aspirin") };
    let mut said = |from: Option<i64>, until: Option<i64>| {
        let mut statement = f.statement("gb", "gb-scientist", StudySubmit::TYPE, &study);
        let now = f.time;
        statement.valid_from = from.map(|d| now + d);
        statement.valid_until = until.map(|d| now + d);
        f.would(|f| f.put(statement, &key("gb", "sign")))
    };
    valid(said(None, None));
    valid(said(Some(60_000), None));
    void(said(Some(60_001), None), "before its own validity");
    valid(said(None, Some(1)));
    void(said(None, Some(0)), "past its own validity");
}
