//! Members come, go and change their keys while the federation works.

use crate::house::{House, SIX, count};
use charter::Phase;
use node::control::Command;
use node::keys::NodeKeys;
use node::members::{Document, Rotation};
use node::{Config, Node};
use record::{Change, Digest};

/// Everybody but those who counted before accepts what `gb` proposes.
fn decide(house: &mut House, change: &Change, accepting: &[&str]) -> String {
    let change = String::from_utf8(record::canon::to_bytes(change).unwrap()).unwrap();
    let reply = house.must("gb", Command::MemberPropose { change });
    let id = reply.data["proposal"].as_str().unwrap().to_string();
    house.settle();
    for member in accepting {
        house.must(member, Command::MemberAccept { id: id.clone() });
    }
    house.settle();
    id
}

fn init(house: &House, id: &str) {
    let config = Config {
        id: id.into(),
        name: format!("Member {id} (fictitious)"),
        jurisdiction: id.to_uppercase(),
        control: format!("{id}, own premises"),
        hub: None,
        peer_listen: None,
        proxy: None,
    };
    node::config::init(&house.folder(id), &config).unwrap();
}

pub fn rotation(house: &House, id: &str, all: bool, since: Option<u64>) -> Rotation {
    Rotation {
        next_key: house.folder(id).join("next.key").display().to_string(),
        new_next: NodeKeys::draw_next(&house.folder(id).join("after.key")).unwrap(),
        compromised_since: since,
        all,
    }
}

fn counts(house: &House, at: &str) -> usize {
    house.node(at).state().roster.members.len()
}

const FIVE: [&str; 5] = ["it", "pl", "nl", "be", "se"];

#[test]
fn a_ninth_member_joins_follows_from_the_beginning_counts_and_leaves() {
    let mut house = House::eight();
    init(&house, "fr");
    let Document { member, consent } = Document::of(&house.folder("fr"), &house.pin()).unwrap();
    let join = Change::Join { member, consent };
    decide(&mut house, &join, &["it", "pl", "nl", "be"]);
    assert_eq!(counts(&house, "gb"), 8, "five of eight are too few");
    let id = house.node("gb").state().roster.proposals.keys().next().unwrap().to_string();
    house.must("se", Command::MemberAccept { id });
    house.settle();
    assert_eq!(counts(&house, "gb"), 9);
    // It comes late, with the charter alone, and more has been said since.
    house.must("gb", Command::DatasetPause { name: "ist".into() });
    house.settle();
    house.comes("fr");
    house.settle();
    assert_eq!(house.node("fr").watermark(), house.hub.size());
    assert_eq!(house.state_digest("fr"), house.state_digest("gb"));
    house.must("fr", Command::Stop);
    house.settle();
    assert!(house.said("node.stop@1").iter().any(|s| s.issuer == "fr"));
    house.must("fr", Command::MemberLeave);
    house.settle();
    assert_eq!(counts(&house, "gb"), 8);
    assert!(house.node("gb").state().charter.as_ref().unwrap().member("fr").is_none());
    house.no_errors();
    // Each of these changes is proved to whoever checks later.
    house.restart("it");
    house.settle();
    assert_eq!(house.node("it").watermark(), house.hub.size());
}

#[test]
fn a_suspended_member_says_nothing_but_what_protects_and_comes_back_and_an_expelled_one_does_not() {
    let mut house = House::eight();
    decide(&mut house, &Change::Suspend { member: "no".into() }, &FIVE);
    assert!(house.node("gb").state().roster.suspended.contains_key("no"));
    let body = charter::body::DatasetResume { name: "ist".into() };
    let id = house.say_as("no", charter::body::DatasetResume::TYPE, "ist", "no-steward", &body);
    house.settle();
    assert_eq!(house.void(id).as_deref(), Some("issuer is suspended"));
    house.must("no", Command::Stop);
    house.settle();
    assert!(house.node("gb").state().stopped.contains("no"), "a stop is heard");
    decide(&mut house, &Change::Reinstate { member: "no".into() }, &FIVE);
    assert_eq!(counts(&house, "gb"), 8);
    decide(&mut house, &Change::Expel { member: "no".into() }, &FIVE);
    assert_eq!(counts(&house, "gb"), 7);
    let id = house.say_as(
        "no",
        charter::body::NodeResume::TYPE,
        "node",
        "operator",
        &charter::body::NodeResume { reason: "x".into() },
    );
    house.settle();
    assert_eq!(house.void(id).as_deref(), Some("not_a_member"));
    assert_eq!(house.state_digest("gb"), house.state_digest("it"));
}

#[test]
fn a_member_changes_all_its_keys_in_the_middle_of_its_work_and_a_study_runs_with_the_new_ones() {
    let mut house = House::eight();
    let before = house.node("it").state().roster.keys("it").unwrap().clone();
    let rotation = rotation(&house, "it", true, None);
    // Six must cosign, and six are there: without both of its lines nothing comes into force.
    house.cut = ["no", "ch"].map(String::from).into();
    house.must("it", Command::KeyRotate(rotation.clone()));
    // Said before the change is recorded, with both keys.
    house.must("it", Command::DatasetPause { name: "ist".into() });
    house.settle();
    let after = house.node("gb").state().roster.keys("it").unwrap().clone();
    assert!(after.sign != before.sign && after.cosign != before.cosign && after.tls != before.tls);
    assert!(house.hub.sealed().unwrap().contains("it"));
    assert_eq!(house.node("gb").watermark(), house.hub.size());
    house.cut.clear();
    house.settle();
    let again = house.must("it", Command::KeyRotate(rotation));
    assert!(again.text.contains("in the record already"));
    house.restart("it");
    house.must("it", Command::DatasetResume { name: "ist".into() });
    house.settle();
    house.ask_and_approve("deaths", &count("deaths"));
    house.until("the release", |h| h.released("deaths"));
    house.no_errors();
    // What proves it to an auditor brings the quorum that sealed the change, and is signed with the new key.
    let out = house.folder("it").join("deaths.bundle");
    house.must("it", Command::BundleExport { study: "deaths".into(), out: out.display().to_string() });
    let bytes = std::fs::read(&out).unwrap();
    let verified = node::verify::verify_bundle(&bytes, Some(house.pin()));
    assert_eq!(verified.exit, 0, "{}", verified.text);
    let mut bundle = record::Bundle::read(&bytes).unwrap();
    assert_eq!(bundle.seals.len(), 1);
    bundle.seals.clear();
    bundle.sign(&house.node("it").keys().sign()).unwrap();
    let verified = node::verify::verify_bundle(&bundle.write().unwrap(), Some(house.pin()));
    assert_eq!(verified.exit, 1, "without the old key's quorum nothing shows that the new one counts");
    for id in house.ids() {
        assert_eq!(house.evidence(&id), Vec::<String>::new(), "{id}");
    }
    // Secrets sealed under the first seed open still, and another's key rotates nothing.
    let gb = house.folder("gb").join("next.key").display().to_string();
    let wrong = Rotation { next_key: gb, new_next: Digest::of(b"x"), compromised_since: None, all: false };
    assert!(
        house.cmd("it", Command::KeyRotate(wrong)).text.contains("not the key that this member committed to")
    );
}

#[test]
fn a_yes_said_with_a_stolen_key_stops_its_study_until_the_member_stands_by_it() {
    let mut house = House::eight();
    house.ask(&count("deaths"));
    house.approve("deaths", &SIX[..5]);
    house.settle();
    let vote = house.node("gb").state().studies["deaths"].votes["it"].index;
    let rotation = rotation(&house, "it", false, Some(vote));
    house.must("it", Command::KeyRotate(rotation));
    house.settle();
    house.approve("deaths", &SIX[5..]);
    house.steps(20);
    assert_eq!(house.phase("deaths"), Some(Phase::Declined { by: vec!["it".into()] }));
    let shown = house.must("gb", Command::RecordShow { index: vote });
    assert_eq!(shown.data["contested"], true);
    assert!(house.must("gb", Command::Status).text.contains("contested    it from entry"));
    house.must("it", Command::KeyReaffirm { entries: vec![vote] });
    house.until("the release", |h| h.released("deaths"));
}

#[test]
fn a_member_that_lost_its_last_key_is_given_new_ones_by_the_others_and_goes_on() {
    let mut house = House::eight();
    house.nodes.remove("it");
    std::fs::remove_dir_all(house.folder("it")).unwrap();
    init(&house, "it");
    let Document { member, consent } = Document::of(&house.folder("it"), &house.pin()).unwrap();
    decide(
        &mut house,
        &Change::Rekey { member, consent, compromised_since: None },
        &["pl", "nl", "be", "se", "ch"],
    );
    house.comes("it");
    house.settle();
    assert_eq!(house.state_digest("it"), house.state_digest("gb"));
    house.must("it", Command::Stop);
    house.settle();
    assert!(house.node("gb").state().stopped.contains("it"));
}

#[test]
fn a_folder_that_the_record_does_not_name_cosigns_nothing() {
    let mut house = House::eight();
    init(&house, "fr");
    house.comes("fr");
    house.settle();
    assert_eq!(house.node("fr").size(), house.hub.size());
    let mut node: Node = house.nodes.remove("fr").unwrap();
    assert!(node.take_cosignatures().unwrap().is_empty());
}
