//! Fail closed: whatever is missing, nothing leaves. What a policy room alone answers (a rule that errs, a default
//! deny, each floor rule on its own) is tested there; here it is whether a node acts on it.

use crate::house::{House, MINUTE, SIX, Setup, count};
use charter::Phase;
use charter::body::{DecisionRevoke, PolicyFloor, ScheduleAdopt};
use node::control::Command;
use record::Digest;

/// That no byte derived from rows left anyone.
fn nothing_left(house: &House) {
    for kind in ["contribution", "aggregate", "opening", "output"] {
        assert!(house.frames(kind).is_empty(), "{kind} left");
    }
}

fn refused_by(house: &House, study: &str) -> Vec<String> {
    match house.phase(study) {
        Some(Phase::Refused { by }) => by,
        other => panic!("not refused but {other:?}"),
    }
}

fn rules(house: &House, study: &str, member: &str) -> Vec<String> {
    house.node("gb").state().studies[study].proposed[member].rules.clone()
}

/// Every node's own copy, and a bundle of it, verify.
fn provable(house: &mut House, study: &str) {
    for id in house.ids() {
        let reply = house.cmd(&id, Command::RecordVerify);
        assert_eq!(reply.exit, 0, "{id}: {}", reply.text);
    }
    let file = house.folder("no").join("it.bundle");
    house.must("no", Command::BundleExport { study: study.into(), out: file.display().to_string() });
    let verified = node::verify::verify_bundle(&std::fs::read(&file).unwrap(), Some(house.pin()));
    assert_eq!(verified.exit, 0, "{}", verified.text);
}

#[test]
fn without_a_floor_no_gate_allows_and_no_vote_counts() {
    let mut house = Setup { floor: Digest::of(b"a floor that nobody published"), ..Setup::eight() }.build();
    house.ask(&count("deaths"));
    assert!(
        matches!(house.phase("deaths"), Some(Phase::AwaitingGates { .. })),
        "{:?}",
        house.phase("deaths")
    );
    let check = house.cmd("gb", Command::StudyCheck { file: "s".into(), text: count("deaths") });
    assert_eq!(check.exit, 1);
    assert!(check.text.contains("no policy floor"), "{}", check.text);
    for id in SIX {
        house.must(id, Command::DecideApprove { study: "deaths".into() });
    }
    house.settle();
    assert!(house.node("gb").state().studies["deaths"].votes.is_empty());
    nothing_left(&house);
}

#[test]
fn a_floor_that_cannot_be_read_denies_everything_and_the_denial_can_be_proved() {
    let text = "permit(principal, action, resource) when { this is no cedar };";
    let mut house = Setup { floor: Digest::of(text.as_bytes()), ..Setup::eight() }.build();
    let id = house.say_as("gb", PolicyFloor::TYPE, "floor", "node", &PolicyFloor { text: text.into() });
    house.settle();
    assert_eq!(house.void(id), None);
    house.ask(&count("deaths"));
    assert_eq!(refused_by(&house, "deaths").len(), 6);
    nothing_left(&house);
    provable(&mut house, "deaths");
}

#[test]
fn a_node_without_schedule_or_with_an_unconfirmed_one_allows_nothing() {
    let mut house = Setup::eight().without_schedule(&["pl"]).without_confirmation(&["nl"]).build();
    house.ask(&count("deaths"));
    let by = refused_by(&house, "deaths");
    assert!(by.len() == 2 && by.iter().all(|id| id == "nl" || id == "pl"), "{by:?}");
    for id in ["nl", "pl"] {
        assert_eq!(rules(&house, "deaths", id), ["floor/floor.schedule-confirmed"], "{id}");
    }
    // A vote cannot override a gate.
    house.must("pl", Command::DecideApprove { study: "deaths".into() });
    house.settle();
    assert!(!house.node("gb").state().studies["deaths"].votes.contains_key("pl"));
    nothing_left(&house);
    provable(&mut house, "deaths");
}

#[test]
fn a_schedule_that_cannot_be_read_denies_at_its_own_node_alone() {
    let mut house = Setup::eight().without_schedule(&["pl"]).build();
    let body = ScheduleAdopt { regime: "EU".into(), as_of: "2026-01-01".into(), text: "no [schedule".into() };
    house.say_as("pl", ScheduleAdopt::TYPE, "EU", "pl-counsel", &body);
    house.settle();
    house.ask(&count("deaths"));
    assert_eq!(refused_by(&house, "deaths"), ["pl"]);
    assert!(rules(&house, "deaths", "pl")[0].starts_with("fault/"));
    nothing_left(&house);
    provable(&mut house, "deaths");
}

/// Steps until every contributor has said its permit and no relay has it yet.
fn permits_on_their_way(house: &mut House) {
    house.until("the contributors fixed", |h| {
        SIX.iter().all(|id| {
            let runs = h.node(id).state().studies["deaths"].runs.get(&1);
            runs.is_some_and(|r| r.sealed.is_some())
        })
    });
    assert!(house.node("gb").state().studies["deaths"].runs[&1].receipts.is_empty());
}

#[test]
fn without_every_receipt_in_the_record_nobody_contributes() {
    let mut house = House::eight();
    house.ask(&count("deaths"));
    house.keep_out = Box::new(|id, s| id == "it" && s.statement().r#type == "gate.receipt@1");
    house.approve("deaths", &SIX);
    house.steps(60);
    let run = &house.node("gb").state().studies["deaths"].runs[&1];
    assert_eq!(run.receipts.len(), 5, "all others have theirs in force");
    nothing_left(&house);
    house.keep_out = Box::new(|_, _| false);
    house.settle();
    assert!(house.released("deaths"), "with the receipt it runs");
}

#[test]
fn a_receipt_that_no_quorum_has_cosigned_starts_nothing() {
    let mut house = House::eight();
    house.ask(&count("deaths"));
    house.approve("deaths", &SIX);
    permits_on_their_way(&mut house);
    // From here on three of eight are not reached: five cosign, six would have to.
    for id in ["ch", "no", "se"] {
        house.cut.insert(id.into());
    }
    house.keep_out = Box::new(|_, _| false);
    house.steps(40);
    let run = &house.node("gb").state().studies["deaths"].runs[&1];
    assert!(
        house.node("gb").size() > house.node("gb").watermark(),
        "there are entries that are not in force"
    );
    assert!(run.receipts.len() < 6);
    nothing_left(&house);
}

#[test]
fn with_one_approval_missing_nothing_runs() {
    let mut house = House::eight();
    house.ask(&count("deaths"));
    house.approve("deaths", &["gb", "it", "pl", "nl", "be"]);
    house.settle();
    assert!(matches!(house.phase("deaths"), Some(Phase::AwaitingVotes { yes: 5, needed: 6, .. })));
    assert!(house.said("run.set@1").is_empty());
    nothing_left(&house);
    house.approve("deaths", &["se"]);
    house.settle();
    assert!(house.released("deaths"), "with the sixth it runs");
}

/// A run in which `it` has everything it needs and has not yet answered: its clock has stood still since its permit.
fn about_to_contribute(mut house: House) -> House {
    house.ask_and_approve("deaths", &count("deaths"));
    permits_on_their_way(&mut house);
    house.asleep.insert("it".into());
    house.settle();
    assert_eq!(house.contributions_of("it"), 0);
    assert_eq!(house.contributions_of("gb"), 2, "the others have answered");
    assert!(house.frames("opening").is_empty());
    house.asleep = house.ids().into_iter().collect();
    house
}

/// Wakes `it` alone and says how many shares leave it.
fn wake(house: &mut House) -> usize {
    house.asleep.remove("it");
    house.settle();
    house.contributions_of("it")
}

#[test]
fn a_run_in_which_nothing_is_missing_goes_on() {
    let mut house = about_to_contribute(House::eight());
    house.now += 61 * MINUTE;
    house.refresh();
    assert_eq!(wake(&mut house), 2, "the control of the tests below: an hour later, with a longer lease");
}

#[test]
fn after_its_lease_a_node_contributes_nothing() {
    let mut house = about_to_contribute(Setup { lease_hours: 1, ..Setup::eight() }.build());
    house.now += 61 * MINUTE;
    house.refresh();
    assert_eq!(wake(&mut house), 0);
}

#[test]
fn on_a_stale_watermark_a_node_contributes_nothing() {
    let mut house = about_to_contribute(House::eight());
    house.now += 11 * MINUTE;
    house.cut = house.ids().into_iter().collect();
    house.asleep.remove("it");
    house.steps(5);
    let waiting = house.node("it").undelivered().unwrap();
    assert!(waiting.is_empty(), "eleven minutes without a checkpoint, and it answers");
    house.cut.clear();
    house.refresh();
    house.settle();
    assert_eq!(house.contributions_of("it"), 2, "with a young watermark it answers");
}

#[test]
fn after_the_sunset_of_the_charter_nothing_leaves_and_nothing_new_holds() {
    let mut house = about_to_contribute(Setup { sunset: "2026-03-02".into(), ..Setup::eight() }.build());
    house.now += 61 * MINUTE;
    house.refresh();
    assert_eq!(wake(&mut house), 0);
    let id = house.cmd("gb", Command::StudySubmit { file: "s".into(), text: count("late") }).statements;
    house.settle();
    assert_eq!(house.void(id[0].parse().unwrap()).as_deref(), Some("after the charter's sunset"));
}

#[test]
fn a_yes_taken_back_in_the_middle_of_a_run_ends_it() {
    let mut house = about_to_contribute(House::eight());
    let body = DecisionRevoke { study: "deaths".into() };
    house.say_as("gb", DecisionRevoke::TYPE, "deaths", "gb-steward", &body);
    house.settle();
    assert_eq!(wake(&mut house), 0);
    house.asleep.clear();
    house.settle();
    assert!(house.frames("opening").is_empty(), "opened without the yes of gb");
}

#[test]
fn before_every_member_has_signed_the_charter_nothing_holds() {
    let mut house = Setup::eight().without_signature(&["be"]).build();
    assert_eq!(house.node("gb").state().roster.unsigned().into_iter().collect::<Vec<_>>(), ["be"]);
    assert!(!house.node("gb").state().in_force());
    assert_eq!(house.cmd("gb", Command::DatasetAdd { file: "d".into(), text: String::new() }).exit, 2);
    let text = policy::schedule("GB").unwrap().to_string();
    let id = house.must("gb", Command::PolicyAdopt { file: "s".into(), text }).statements;
    house.settle();
    assert_eq!(house.void(id[0].parse().unwrap()).as_deref(), Some("charter not in force"));
    assert!(house.node("gb").state().floor.is_none() && house.relayed.is_empty());
}

#[test]
fn a_statement_of_unknown_type_is_void_and_stops_nobody() {
    let mut house = House::eight();
    let body = std::collections::BTreeMap::from([("everything", "halts")]);
    let id = house.say_as("pl", "future.thing@9", "all", "node", &body);
    house.ask_and_approve("deaths", &count("deaths"));
    house.settle();
    assert_eq!(house.void(id).as_deref(), Some("unknown type"));
    house.no_errors();
    assert!(house.released("deaths"));
}
