//! Members without the hub: they compare what it showed them, hold what it withholds, and tell each other of stops.

use crate::house::{House, MINUTE, SIX, Setup, count};
use crate::hub::Hub;
use node::control::Command;
use node::peers::Next;
use node::peers::held::MAX_HELD;
use record::tree::leaf_hash;
use record::{Digest, Entry, Evidence, Pin, Receipt, SecretKey, SignedStatement, Statement};
use wire::peer::{Checkpoints, Held, Listed};

/// A statement in a member's name and under its key, which its node knows nothing of.
fn said(house: &House, id: &str, subject: &str) -> SignedStatement {
    let body = std::collections::BTreeMap::from([("name", subject)]);
    let mut statement = Statement::new("dataset.note@1", subject, id, "operator", &body).unwrap();
    statement.valid_from = Some(house.now);
    SignedStatement::sign(statement, &house.node(id).keys().sign()).unwrap()
}

fn show(house: &mut House, id: &str, hub: &Hub, from: usize) {
    let now = house.now;
    let node = house.nodes.get_mut(id).unwrap();
    node.extend(&hub.note(), &hub.entries[from..], now).unwrap();
}

/// A hub that shows `it` one history and `pl` another, the second longer by `more` entries.
fn forked(more: usize) -> House {
    let mut house = House::eight();
    let from = house.hub.entries.len();
    let (mut one, mut other) = (house.hub.clone(), house.hub.clone());
    one.take(&said(&house, "gb", "one").to_bytes(), house.now);
    for n in 0..=more {
        other.take(&said(&house, "gb", &format!("other-{n}")).to_bytes(), house.now);
    }
    show(&mut house, "it", &one, from);
    show(&mut house, "pl", &other, from);
    for id in ["it", "pl"] {
        assert!(!house.nodes.get_mut(id).unwrap().take_cosignatures().unwrap().is_empty(), "as yet");
    }
    house
}

fn matters(house: &mut House, id: &str) -> Vec<String> {
    let status = house.cmd(id, Command::Status).data["matters"].as_array().unwrap().clone();
    status.iter().map(|m| format!("{} {}", m["who"].as_str().unwrap(), m["what"].as_str().unwrap())).collect()
}

fn refusal(house: &mut House, id: &str) -> Option<String> {
    house.cmd(id, Command::Status).data["not_cosigning"].as_str().map(str::to_string)
}

/// The file of the one proof that a member holds.
fn exported(house: &mut House, id: &str) -> Vec<u8> {
    let list = house.must(id, Command::EvidenceList).data["evidence"].as_array().unwrap().clone();
    assert_eq!(list.len(), 1, "{list:?}");
    let out = house.folder(id).join("proof.evidence");
    let name = list[0]["id"].as_str().unwrap()[..8].to_string();
    house.must(id, Command::EvidenceExport { id: name, out: out.display().to_string() });
    std::fs::read(out).unwrap()
}

fn convicts_the_hub(house: &House, file: &[u8]) {
    let guilt = Evidence::read(file).unwrap().verify(Some(house.pin())).unwrap();
    assert_eq!((guilt.who.as_str(), guilt.key, guilt.pin), ("hub", Hub::key().public(), Pin::Pinned));
    let reply = node::peers::matter::verify_evidence(file, Some(house.pin()));
    assert_eq!(reply.exit, 0, "{}", reply.text);
    assert_eq!(node::peers::matter::verify_evidence(file, None).exit, 1, "unpinned");
    for at in (0..file.len()).step_by(7) {
        let mut changed = file.to_vec();
        changed[at] ^= 1;
        let reply = node::peers::matter::verify_evidence(&changed, Some(house.pin()));
        assert_eq!(reply.exit, 1, "byte {at}");
    }
}

#[test]
fn members_of_one_history_agree_and_say_with_whom_they_compared() {
    let mut house = House::eight();
    let before = house.cmd("it", Command::Status);
    assert_eq!((&before.data["unwatched"], &before.data["watched"]), (&false.into(), &false.into()));
    house.now += 10 * MINUTE;
    house.watch("it", "pl");
    let status = house.cmd("it", Command::Status);
    assert_eq!(status.data["watched_with"], "pl");
    assert_eq!(status.data["watched_at"], house.now);
    assert!(status.text.contains("compared with pl"), "{}", status.text);
    assert!(house.evidence("it").is_empty() && matters(&mut house, "it").is_empty());
    house.no_errors();
}

#[test]
fn a_federation_in_which_too_few_answer_outside_the_hub_is_unwatched() {
    for (ids, unwatched) in [(vec![], true), (vec!["gb", "it"], true), (vec!["gb", "it", "pl"], false)] {
        let mut house = Setup::eight().answering(&ids).build();
        let status = house.cmd("gb", Command::Status);
        assert_eq!(status.data["unwatched"], unwatched, "{ids:?}");
        assert_eq!(status.text.contains("unwatched"), unwatched, "{}", status.text);
        let verified = house.must("gb", Command::RecordVerify);
        assert_eq!(verified.data["unwatched"], unwatched);
        assert_eq!(verified.text.contains("unwatched"), unwatched);
    }
}

#[test]
fn two_histories_shown_to_two_members_are_proved_by_both_after_one_round() {
    for more in [0, 3] {
        let mut house = forked(more);
        house.watch("it", "pl");
        house.watch("pl", "it");
        for id in ["it", "pl"] {
            let open = matters(&mut house, id);
            assert!(open.len() == 1 && open[0].starts_with("hub signed"), "{id}: {open:?}");
            let status = house.cmd(id, Command::Status);
            assert!(status.text.contains("matter       the hub signed"), "{}", status.text);
            assert!(refusal(&mut house, id).unwrap().starts_with("the hub signed"));
            let file = exported(&mut house, id);
            convicts_the_hub(&house, &file);
            // Looking again finds the same, not more.
            house.watch(id, if id == "it" { "pl" } else { "it" });
            assert_eq!(matters(&mut house, id).len(), 1);
        }
    }
}

#[test]
fn a_member_that_holds_a_proof_cosigns_nothing_more_not_even_after_a_restart() {
    let mut house = forked(0);
    house.watch("it", "pl");
    house.restart("it");
    let mut one = house.hub.clone();
    one.take(&said(&house, "gb", "one").to_bytes(), house.now);
    let from = one.entries.len();
    one.take(&said(&house, "gb", "next").to_bytes(), house.now);
    show(&mut house, "it", &one, from);
    assert!(house.nodes.get_mut("it").unwrap().take_cosignatures().unwrap().is_empty());
    assert!(refusal(&mut house, "it").is_some());
    // The others, who were not shown two histories, go on.
    show(&mut house, "nl", &one, from - 1);
    assert!(!house.nodes.get_mut("nl").unwrap().take_cosignatures().unwrap().is_empty());
}

#[test]
fn a_proof_goes_with_every_bundle_and_shows_when_it_is_verified() {
    let mut house = House::eight();
    house.ask_and_approve("deaths", &count("deaths"));
    house.settle();
    let from = house.hub.entries.len();
    let (mut one, mut other) = (house.hub.clone(), house.hub.clone());
    one.take(&said(&house, "gb", "one").to_bytes(), house.now);
    other.take(&said(&house, "gb", "other").to_bytes(), house.now);
    show(&mut house, "it", &one, from);
    show(&mut house, "pl", &other, from);
    house.nodes.get_mut("pl").unwrap().take_cosignatures().unwrap();
    house.watch("it", "pl");
    let out = house.folder("it").join("deaths.bundle");
    house.must("it", Command::BundleExport { study: "deaths".into(), out: out.display().to_string() });
    let reply = node::verify::verify_bundle(&std::fs::read(out).unwrap(), Some(house.pin()));
    assert_eq!(reply.exit, 0, "{}", reply.text);
    assert!(reply.text.contains("matter       hub signed two roots"), "{}", reply.text);
    assert_eq!(reply.data["matters"][0]["who"], "hub");
}

/// A hub that has shown `it` and `pl` two histories, which `it` alone has seen.
fn proved() -> House {
    let mut house = forked(0);
    house.keep_out = Box::new(|_, _| true);
    house.relay = Box::new(|_| Vec::new());
    house.watch("it", "pl");
    assert_eq!(matters(&mut house, "it").len(), 1);
    house
}

/// Two roots for one size under this key, as a file of evidence.
fn two_roots(house: &House, by: &SecretKey, mark: &str) -> Vec<u8> {
    let note = |which: &str| {
        let root = Digest::of(format!("{mark} {which}").as_bytes());
        record::Checkpoint::new("comity/house", 5, root).unwrap().sign(by).to_note()
    };
    let charter = record::canon::to_value(&house.charter).unwrap();
    let claim = record::Claim::TwoRoots { one: note("one"), other: note("other") };
    Evidence::new(charter, claim).write().unwrap()
}

#[test]
fn a_proof_that_one_member_holds_stops_all_after_one_round_of_comparing_though_the_hub_carries_nothing() {
    let mut house = proved();
    let others = ["be", "ch", "gb", "nl", "no", "se"];
    for id in others {
        assert_eq!(refusal(&mut house, id), None, "before anyone has compared");
    }
    // Each looks at one other, in a row: those without an endpoint too.
    for (id, with) in [("gb", "it"), ("nl", "gb"), ("be", "nl"), ("ch", "nl"), ("no", "gb"), ("se", "it")] {
        house.watch(id, with);
    }
    let mut hub = house.hub.clone();
    let from = hub.entries.len();
    hub.take(&said(&house, "gb", "next").to_bytes(), house.now);
    for id in others {
        assert!(refusal(&mut house, id).unwrap().starts_with("the hub signed two roots"), "{id}");
        show(&mut house, id, &hub, from);
        assert!(house.nodes.get_mut(id).unwrap().take_cosignatures().unwrap().is_empty(), "{id}");
        let file = exported(&mut house, id);
        let guilt = Evidence::read(&file).unwrap().verify(Some(house.pin())).unwrap();
        assert_eq!((guilt.who.as_str(), guilt.key), ("hub", Hub::key().public()));
        assert!(house.evidence(id).is_empty(), "{id} holds nothing against a member");
    }
    // Nor after a restart.
    house.restart("be");
    assert!(refusal(&mut house, "be").is_some());
}

#[test]
fn a_member_without_an_endpoint_hands_on_what_it_has_proved() {
    let mut house = House::eight();
    let (now, file) = (house.now, two_roots(&house, &Hub::key(), "one"));
    house.nodes.get_mut("be").unwrap().take_proof("se", &file, now).unwrap().unwrap();
    house.watch("be", "gb");
    assert!(refusal(&mut house, "gb").is_some());
    // Once told it is not told again.
    let none = wire::peer::Proofs::default();
    assert!(house.node("be").proofs_for("gb", &none).unwrap().is_empty());
    assert_eq!(house.node("be").proofs_for("pl", &none).unwrap().len(), 1);
}

#[test]
fn forged_evidence_convicts_nobody_is_kept_against_who_gave_it_and_floods_nothing() {
    let mut house = House::eight();
    let now = house.now;
    let forged: Vec<Vec<u8>> = (10..210)
        .map(|n| two_roots(&house, &SecretKey::from_seed([n as u8; 32]), &format!("forged {n}")))
        .collect();
    let mut elsewhere = Evidence::read(&two_roots(&house, &Hub::key(), "one")).unwrap();
    if let record::canon::Value::Map(charter) = &mut elsewhere.charter {
        charter.insert("title".into(), record::canon::Value::Str("Another".into()));
    }
    elsewhere.verify(None).unwrap();
    let elsewhere = elsewhere.write().unwrap();
    let true_one = two_roots(&house, &Hub::key(), "one");
    let mut cut = true_one.clone();
    cut.pop();
    let long = vec![b' '; wire::peer::MAX_PROOF + 1];
    let it = house.nodes.get_mut("it").unwrap();
    for bytes in [&elsewhere, &cut, &long].into_iter().chain(&forged) {
        assert!(it.take_proof("pl", bytes, now).unwrap().is_err());
    }
    // After so much it is not listened to, whatever it lists or gives.
    let listed = wire::peer::Proofs { files: vec![Digest::of(&true_one)] };
    assert_eq!(it.wanted_proofs("pl", &listed).unwrap(), []);
    assert!(it.take_proof("pl", &true_one, now).unwrap().is_err());
    assert_eq!(it.wanted_proofs("nl", &listed).unwrap(), listed.files);
    assert!(house.holds_against("it", "pl", "a file of evidence that proves nothing"));
    assert!(house.evidence("it").len() <= 64, "{}", house.evidence("it").len());
    assert!(matters(&mut house, "it").is_empty());
    assert_eq!(refusal(&mut house, "it"), None);
    // Another is.
    let it = house.nodes.get_mut("it").unwrap();
    it.take_proof("nl", &true_one, now).unwrap().unwrap();
    assert!(refusal(&mut house, "it").is_some());
}

#[test]
fn a_would_be_hub_that_never_took_over_stops_nobody_in_the_term_of_the_one_that_did() {
    let mut house = House::eight();
    // Everyone signed off for a hub that never came, so its term could be shown to begin; it signs two roots.
    let never = crate::house::next(20);
    let signoffs: Vec<Vec<u8>> = house.ids().iter().map(|id| house.sign_off(id, &never, false)).collect();
    house.node("gb").flush().unwrap();
    let begun = node::term::Folder::open(&house.folder("gb")).unwrap().begin(&signoffs).unwrap();
    let entries = house.hub.entries[..begun.opening.base as usize].iter();
    let opening = Entry::new(house.now, begun.statement).to_bytes();
    let changes = (0u64..).zip(entries.chain([&opening]).cloned()).filter(|(_, bytes)| {
        let kind = Entry::from_bytes(bytes).unwrap().signed.statement().r#type.clone();
        record::Roster::reads(&kind) && kind != record::roster::PROPOSE
    });
    let changes = changes
        .map(|(index, entry)| record::evidence::Changed { entry: String::from_utf8(entry).unwrap(), index });
    let file = two_roots(&house, &SecretKey::from_seed([20; 32]), "one");
    let evidence = Evidence::read(&file).unwrap().with(changes.collect());
    assert_eq!(evidence.verify(Some(house.pin())).unwrap().term, 2);
    let file = evidence.write().unwrap();
    let second: Vec<Vec<u8>> =
        house.ids().iter().map(|id| house.sign_off(id, &crate::house::next(9), true)).collect();
    for term in [1, 2] {
        let now = house.now;
        let it = house.nodes.get_mut("it").unwrap();
        let why = it.take_proof("pl", &file, now).unwrap().unwrap_err();
        assert!(why.contains("does not hold by") || why.contains("of no use"), "{why}");
        assert!(matters(&mut house, "it").is_empty() && refusal(&mut house, "it").is_none());
        if term == 1 {
            house.pass_on_with(&second);
            house.settle();
            assert_eq!(house.node("it").state().roster.term, 2);
        }
    }
    assert!(house.evidence("it").is_empty(), "it may be of a change that is not here yet");
}

#[test]
fn of_one_party_and_from_one_member_only_so_many_proofs_are_kept() {
    let mut house = House::eight();
    let now = house.now;
    let files: Vec<Vec<u8>> = (0..40).map(|n| two_roots(&house, &Hub::key(), &format!("{n}"))).collect();
    let it = house.nodes.get_mut("it").unwrap();
    for file in &files {
        it.take_proof("pl", file, now).unwrap().unwrap();
    }
    assert_eq!(it.peer_proofs().unwrap().files.len(), 16, "all true, and sixteen tell the story");
    // Those that were of no use are not asked for again.
    let listed = wire::peer::Proofs { files: files.iter().map(|f| Digest::of(f)).collect() };
    assert_eq!(it.wanted_proofs("pl", &listed).unwrap(), []);
}

#[test]
fn a_proof_stands_on_the_record_of_the_next_term_and_every_check_names_the_old_hub() {
    let mut house = House::eight();
    house.ask_and_approve("deaths", &count("deaths"));
    house.settle();
    let (now, file) = (house.now, two_roots(&house, &Hub::key(), "one"));
    house.keep_out = Box::new(|_, _| true);
    house.nodes.get_mut("it").unwrap().take_proof("pl", &file, now).unwrap().unwrap();
    for id in house.ids().into_iter().filter(|id| id != "it") {
        house.watch(&id, "it");
    }
    // Each in its turn: whoever sees that another has said it does not say it too.
    for _ in 0..20 {
        house.now += 1_000;
        house.steps(1);
        house.ids().iter().filter(|id| *id != "be").for_each(|id| house.watch(id, "be"));
    }
    assert!(house.said("evidence.report@1").is_empty(), "the hub leaves it out");
    house.keep_out = Box::new(|_, _| false);
    let all = house.ids();
    house.pass_on(&all);
    house.settle();
    house.no_errors();
    assert_eq!(house.said("evidence.report@1").len(), 1, "once");
    let words = "the hub of term 1 (Relay (fictitious)) signed two roots for size 5";
    for id in house.ids() {
        let verified = house.must(&id, Command::RecordVerify);
        assert!(verified.text.contains(&format!("convicted: {words}")), "{id}: {}", verified.text);
        assert_eq!(verified.data["convicted"][0]["key"], Hub::key().public().to_string());
        assert_eq!(verified.data["convicted"][0]["term"], 1);
        assert!(matters(&mut house, &id).is_empty(), "it is closed with the term");
        assert_eq!(refusal(&mut house, &id), None);
    }
    // One that nobody has told knows it from the record.
    let out = house.folder("se").join("deaths.bundle");
    house.must("se", Command::BundleExport { study: "deaths".into(), out: out.display().to_string() });
    let reply = node::verify::verify_bundle(&std::fs::read(out).unwrap(), Some(house.pin()));
    assert_eq!(reply.exit, 0, "{}", reply.text);
    assert!(reply.text.contains(&format!("convicted    {words}")), "{}", reply.text);
    assert_eq!(reply.data["convicted"][0]["who"], "hub");
}

#[test]
fn a_report_that_waits_for_the_record_convicts_wherever_it_is_met() {
    let mut house = proved();
    let later = |house: &mut House, id: &str| {
        for _ in 0..2 {
            house.now += 30_000;
            let now = house.now;
            house.nodes.get_mut(id).unwrap().tick(now).unwrap();
        }
    };
    later(&mut house, "it");
    let (listed, statements) = house.node("it").peer_pending().unwrap();
    let reports = statements.iter().filter(|bytes| {
        SignedStatement::from_bytes(bytes).unwrap().statement().r#type == "evidence.report@1"
    });
    assert_eq!(reports.count(), 1);
    assert_eq!(refusal(&mut house, "se"), None);
    let now = house.now;
    house.nodes.get_mut("se").unwrap().take_pending("it", &listed, &statements, now).unwrap();
    assert!(refusal(&mut house, "se").unwrap().starts_with("the hub signed"));
    // And it is not said by a second one while the first waits.
    later(&mut house, "se");
    assert_eq!(house.node("se").peer_pending().unwrap().1.len(), statements.len());
}

#[test]
fn a_report_in_force_tells_who_was_told_by_nobody() {
    let mut house = House::eight();
    let file = two_roots(&house, &Hub::key(), "one");
    let evidence = record::canon::to_value(&Evidence::read(&file).unwrap()).unwrap();
    let body = charter::body::EvidenceReport { file: Digest::of(&file), evidence: Some(evidence) };
    house.say_as("it", charter::body::EvidenceReport::TYPE, "hub", "node", &body);
    house.settle();
    for id in house.ids() {
        assert_eq!(matters(&mut house, &id).len(), 1, "{id}");
        assert!(refusal(&mut house, &id).is_some(), "{id}");
    }
    let next = house.say_as(
        "gb",
        "dataset.note@1",
        "x",
        "operator",
        &std::collections::BTreeMap::from([("name", "x")]),
    );
    let before = house.node("gb").watermark();
    house.settle();
    assert_eq!(house.node("gb").watermark(), before, "{next} is cosigned by nobody");
}

#[test]
fn a_peer_that_lies_convicts_nobody_and_is_remembered_for_it() {
    let mut house = forked(3);
    let now = house.now;
    let longer = house.node("pl").peer_checkpoints().unwrap();
    // A checkpoint of its own making.
    let forged = record::Checkpoint::new("comity/house", 5, Digest::of(b"x")).unwrap();
    let forged = forged.sign(&SecretKey::from_seed([1; 32])).to_note();
    let shown = Checkpoints { cosigned: Some(forged), in_force: None };
    let it = house.nodes.get_mut("it").unwrap();
    assert_eq!(it.watch("pl", &shown, now).unwrap(), Next::Done);
    assert_eq!(
        it.watch("pl", &Checkpoints { cosigned: Some("x".into()), in_force: None }, now).unwrap(),
        Next::Done
    );
    // A proof that leads nowhere.
    let Next::Consistency(from, to) = it.watch("pl", &longer, now).unwrap() else { panic!("it is longer") };
    let mut answer = house.node("pl").peer_consistency(from, to).unwrap();
    answer.root = Digest::of(b"made up");
    house.nodes.get_mut("it").unwrap().watch_consistency("pl", &answer, now).unwrap();
    assert!(matters(&mut house, "it").is_empty());
    assert!(house.holds_against("it", "pl", "a checkpoint that is none"), "{:?}", house.evidence("it"));
    assert!(house.holds_against("it", "pl", "a consistency proof that does not hold"));
    assert_eq!(house.cmd("it", Command::Status).data["watched_at"], serde_json::Value::Null);
    assert_eq!(refusal(&mut house, "it"), None);
}

#[test]
fn a_member_whose_signed_answer_is_wrong_is_proved_wrong() {
    let mut house = House::eight();
    let now = house.now;
    let shown = house.node("pl").peer_checkpoints().unwrap();
    let it = house.nodes.get_mut("it").unwrap();
    assert!(matches!(it.watch("pl", &shown, now).unwrap(), Next::Audit(_)));
    let (mut answer, _) = house.node("pl").peer_entries(3, 4).unwrap().unwrap();
    let entry = house.hub.entries[5].clone();
    answer.leaves = vec![leaf_hash(&entry)];
    let answer = answer.sign(&house.node("pl").keys().sign()).unwrap();
    house.nodes.get_mut("it").unwrap().watch_entries("pl", 3, &[answer], &[entry], now).unwrap();
    let open = matters(&mut house, "it");
    assert!(open.len() == 1 && open[0].starts_with("pl signed that entry 3"), "{open:?}");
    assert_eq!(refusal(&mut house, "it"), None, "the hub has done nothing");
    let file = exported(&mut house, "it");
    let guilt = Evidence::read(&file).unwrap().verify(Some(house.pin())).unwrap();
    assert_eq!(guilt.key, house.node("pl").keys().sign().public());
}

#[test]
fn a_member_that_the_hub_starves_gets_the_entries_from_another() {
    let mut house = House::eight();
    house.watch("it", "pl");
    let before = house.node("it").size();
    house.cut.insert("it".into());
    house.must("gb", Command::DatasetPause { name: "ist".into() });
    house.settle();
    assert!(house.node("pl").watermark() > before);
    house.watch("it", "pl");
    assert_eq!(house.node("it").size(), before, "the hub may be a moment behind");
    house.now += 20_000;
    assert_eq!(house.cmd("it", Command::Status).data["starved_of"], "pl");
    house.watch("it", "pl");
    assert_eq!(house.node("it").watermark(), house.node("pl").watermark());
    assert_eq!(house.cmd("it", Command::Status).data["starved_of"], serde_json::Value::Null);
    house.no_errors();
}

/// Cut off from the hub one after the other, they are within reach of each other for ten minutes.
fn cut_off_together() -> House {
    let mut house = House::eight();
    house.watch("it", "pl");
    house.cut.insert("it".into());
    house.must("gb", Command::DatasetPause { name: "ist".into() });
    house.settle();
    house.cut.insert("pl".into());
    house.must("gb", Command::DatasetResume { name: "ist".into() });
    house.settle();
    assert!(house.node("it").size() < house.node("pl").size());
    assert!(house.node("pl").size() < house.hub.size());
    house.now += 300_000;
    house.watch("it", "pl");
    house.now += 300_000;
    let _ = house.nodes.get_mut("it").unwrap().take_cosignatures().unwrap();
    house.watch("it", "pl");
    assert_eq!(house.node("it").size(), house.node("pl").size());
    house
}

#[test]
fn what_another_member_gives_late_is_not_taken_for_all_that_the_hub_has() {
    let mut house = cut_off_together();
    house.cut.clear();
    house.settle();
    for id in ["it", "pl"] {
        assert_eq!(house.node(id).size(), house.hub.size(), "{id} goes on with the hub: {:?}", house.errors);
    }
}

/// Else an honest hub could be shown to have let a promise lapse, by one liar and whoever it kept from the hub.
#[test]
fn what_another_member_gives_is_mirrored_and_not_cosigned_as_the_latest() {
    let mut house = cut_off_together();
    assert_eq!(house.nodes.get_mut("it").unwrap().take_cosignatures().unwrap(), []);
    assert_eq!(house.node("it").peer_checkpoints().unwrap().cosigned, None, "nor told to members");
}

#[test]
fn a_hub_whose_stamps_run_backwards_is_proved_to() {
    let mut house = House::eight();
    let last = Entry::from_bytes(house.hub.entries.last().unwrap()).unwrap().time;
    let mut hub = house.hub.clone();
    let from = hub.entries.len();
    hub.enter(&Entry::new(last + 5, said(&house, "gb", "one")).to_bytes());
    hub.enter(&Entry::new(last + 4, said(&house, "gb", "two")).to_bytes());
    let now = house.now;
    let it = house.nodes.get_mut("it").unwrap();
    assert!(it.extend(&hub.note(), &hub.entries[from..], now).is_err());
    it.examine(&hub.note(), &hub.entries[from..], now).unwrap();
    assert!(matters(&mut house, "it")[0].starts_with("hub stamped entry"));
    let file = exported(&mut house, "it");
    convicts_the_hub(&house, &file);
}

/// The hub's receipt for a statement at an index.
fn receipt(signed: &SignedStatement, index: u64, time: i64) -> Receipt {
    Receipt::sign(signed.id(), index, "comity/house", time, &Hub::key()).unwrap()
}

#[test]
fn a_promise_is_kept_and_checked_and_a_broken_one_convicts_the_hub() {
    for broken in [false, true] {
        let mut house = House::eight();
        let (now, from) = (house.now, house.hub.entries.len());
        let (mine, other) = (said(&house, "it", "mine"), said(&house, "gb", "other"));
        let promise = receipt(&mine, house.hub.size(), now);
        let id = mine.id().to_string();
        house.nodes.get_mut("it").unwrap().promised(&id, &promise, now).unwrap();
        assert_eq!(house.cmd("it", Command::Status).data["promises"]["open"], 1);
        let entered = if broken { other } else { mine };
        house.hub.enter(&Entry::new(now, entered).to_bytes());
        let hub = house.hub.clone();
        show(&mut house, "it", &hub, from);
        assert_eq!(house.nodes.get_mut("it").unwrap().take_cosignatures().unwrap().is_empty(), broken);
        let promises = house.cmd("it", Command::Status).data["promises"].clone();
        assert_eq!(promises["kept"], u64::from(!broken));
        assert_eq!(matters(&mut house, "it").len(), usize::from(broken));
        if broken {
            let file = exported(&mut house, "it");
            convicts_the_hub(&house, &file);
        }
    }
}

#[test]
fn a_receipt_that_does_not_hold_is_no_promise() {
    let mut house = House::eight();
    let now = house.now;
    let mine = said(&house, "it", "mine");
    let id = mine.id().to_string();
    let forged = Receipt::sign(mine.id(), 99, "comity/house", now, &SecretKey::from_seed([1; 32])).unwrap();
    let elsewhere = Receipt::sign(mine.id(), 99, "comity/other", now, &Hub::key()).unwrap();
    let another = receipt(&said(&house, "it", "another"), 99, now);
    let late = receipt(&mine, 99, now + 10 * MINUTE);
    let it = house.nodes.get_mut("it").unwrap();
    for receipt in [forged, elsewhere, another, late] {
        it.promised(&id, &receipt, now).unwrap();
    }
    let status = house.cmd("it", Command::Status);
    assert_eq!(status.data["promises"]["open"], 0);
    assert!(house.holds_against("it", "hub", "that is none"));
}

#[test]
fn a_promise_overdue_by_the_clocks_of_more_than_f_members_convicts_the_hub() {
    let mut house = House::eight();
    let mine = said(&house, "it", "mine");
    let promise = receipt(&mine, house.hub.size() + 3, house.now);
    let (id, now) = (mine.id().to_string(), house.now);
    house.nodes.get_mut("it").unwrap().promised(&id, &promise, now).unwrap();
    house.now += 3 * MINUTE;
    assert!(refusal(&mut house, "it").unwrap().contains("was promised and is not in the record"));
    assert!(matters(&mut house, "it").is_empty(), "its own clock alone convicts nobody");
    // The others still cosign that size, and show it.
    let (note, now) = (house.hub.note(), house.now);
    for (n, id) in ["gb", "pl", "nl"].into_iter().enumerate() {
        let node = house.nodes.get_mut(id).unwrap();
        node.sealed(&note, now).unwrap();
        assert!(!node.take_cosignatures().unwrap().is_empty());
        house.watch("it", id);
        house.cmd("it", Command::Status);
        assert_eq!(matters(&mut house, "it").len(), usize::from(n == 2), "{n}");
    }
    let file = exported(&mut house, "it");
    convicts_the_hub(&house, &file);
}

#[test]
fn what_a_hub_drops_of_one_member_gets_in_through_another() {
    let mut house = House::eight();
    house.keep_out = Box::new(|carrier, _| carrier == "it");
    house.must("it", Command::DatasetPause { name: "ist".into() });
    house.settle();
    assert!(house.said("dataset.pause@1").is_empty());
    house.watch("pl", "it");
    house.settle();
    assert_eq!(house.said("dataset.pause@1").len(), 1, "once");
    house.watch("nl", "it");
    house.settle();
    assert_eq!(house.said("dataset.pause@1").len(), 1, "once");
    assert_eq!(house.cmd("pl", Command::Status).data["held"], 0);
    assert_eq!(house.cmd("it", Command::Status).data["held"], 0);
    house.no_errors();
}

#[test]
fn a_hub_that_refuses_a_statement_from_everyone_gets_no_more_cosignatures() {
    let mut house = House::eight();
    house.keep_out = Box::new(|_, s| s.statement().issuer == "it");
    house.must("it", Command::DatasetPause { name: "ist".into() });
    house.settle();
    let honest = ["gb", "pl", "nl"];
    for id in honest {
        house.watch(id, "it");
    }
    let round = |house: &mut House| {
        for id in ["gb", "it", "pl", "nl"] {
            for with in ["gb", "it", "pl", "nl"] {
                if id != with {
                    house.watch(id, with);
                }
            }
        }
    };
    round(&mut house);
    for id in honest {
        assert_eq!(refusal(&mut house, id), None, "not before the promised time");
    }
    house.now += MINUTE + 1_000;
    round(&mut house);
    let from = house.hub.entries.len();
    let mut hub = house.hub.clone();
    hub.take(&said(&house, "gb", "next").to_bytes(), house.now);
    for id in ["gb", "it", "pl", "nl"] {
        show(&mut house, id, &hub, from);
        assert!(house.nodes.get_mut(id).unwrap().take_cosignatures().unwrap().is_empty(), "{id}");
        let status = house.cmd(id, Command::Status);
        assert!(status.text.contains("NOT COSIGNING: statement"), "{}", status.text);
        assert_eq!(status.data["withheld"][0]["author"], "it");
        assert_eq!(status.data["withheld"][0]["kind"], "dataset.pause@1");
    }
    // Once it is in, everyone goes on.
    let from = hub.entries.len();
    let waiting = house.nodes.get_mut("pl").unwrap().peer_pending().unwrap().1;
    hub.take(&waiting[0], house.now);
    for id in ["gb", "it", "pl", "nl"] {
        show(&mut house, id, &hub, from);
        assert!(!house.nodes.get_mut(id).unwrap().take_cosignatures().unwrap().is_empty(), "{id}");
    }
}

#[test]
fn a_statement_that_f_organisations_hold_stops_nobody() {
    let mut house = House::eight();
    house.keep_out = Box::new(|_, s| s.statement().issuer == "it");
    house.must("it", Command::DatasetPause { name: "ist".into() });
    house.settle();
    house.watch("pl", "it");
    house.now += MINUTE + 1_000;
    house.watch("pl", "it");
    assert_eq!(refusal(&mut house, "pl"), None, "two of eight, of whom two may lie");
}

#[test]
fn a_member_that_says_it_has_held_for_long_stops_nobody_who_has_not() {
    let mut house = House::eight();
    let now = house.now;
    let signed = said(&house, "gb", "new");
    let listed = Listed { held: vec![Held { id: signed.id(), since: now - 10 * MINUTE }] };
    let pl = house.nodes.get_mut("pl").unwrap();
    for liar in ["it", "nl", "be"] {
        pl.take_pending(liar, &listed, &[signed.to_bytes()], now).unwrap();
    }
    assert_eq!(refusal(&mut house, "pl"), None);
    house.now += MINUTE + 1_000;
    assert!(refusal(&mut house, "pl").is_some());
}

#[test]
fn what_would_be_void_is_not_held_and_of_one_author_only_so_much() {
    let mut house = House::eight();
    let now = house.now;
    let forged = {
        let mut statement = Statement::new("dataset.note@1", "x", "gb", "operator", "x").unwrap();
        statement.valid_from = Some(now);
        SignedStatement::sign(statement, &SecretKey::from_seed([3; 32])).unwrap()
    };
    let flood: Vec<SignedStatement> = (0..40).map(|n| said(&house, "be", &format!("flood-{n}"))).collect();
    let other = said(&house, "nl", "other");
    let stop = {
        let body = std::collections::BTreeMap::from([("reason", "operator")]);
        let statement = Statement::new("node.stop@1", "node", "be", "operator", &body).unwrap();
        SignedStatement::sign(statement, &house.node("be").keys().sign()).unwrap()
    };
    let recorded = house.hub.entries[4].clone();
    let recorded = Entry::from_bytes(&recorded).unwrap().signed;
    let pl = house.nodes.get_mut("pl").unwrap();
    let mut hold = |signed: &SignedStatement| pl.hold(&signed.to_bytes(), now).unwrap();
    assert!(hold(&forged).is_err());
    let taken = flood.iter().filter(|s| hold(s).is_ok()).count();
    assert_eq!(taken as u64, MAX_HELD);
    assert!(hold(&flood[0]).is_ok(), "the same again is no more");
    assert!(hold(&other).is_ok() && hold(&stop).is_ok(), "others, and a stop, have room of their own");
    assert!(hold(&recorded).unwrap().recorded);
    assert!(pl.hold(b"no statement", now).unwrap().is_err());
    assert_eq!(house.cmd("pl", Command::Status).data["held"], MAX_HELD + 2);
    // Of each author one comes before a second of anyone.
    let (_, statements) = house.node("pl").peer_pending().unwrap();
    let authors: Vec<String> = statements
        .iter()
        .map(|s| SignedStatement::from_bytes(s).unwrap().statement().issuer.clone())
        .collect();
    assert_eq!(authors[..2], ["be", "nl"]);
}

#[test]
fn a_refused_statement_of_another_is_handed_in_again_while_it_would_stand() {
    let mut house = House::eight();
    let now = house.now;
    let signed = said(&house, "nl", "other");
    let id = signed.id().to_string();
    let pl = house.nodes.get_mut("pl").unwrap();
    pl.hold(&signed.to_bytes(), now).unwrap().unwrap();
    assert!(pl.queued(now).unwrap().iter().any(|(other, _)| *other == id));
    pl.answered(&id, Some("422: would be void"), now).unwrap();
    assert!(!pl.queued(now + 1).unwrap().iter().any(|(other, _)| *other == id), "not at once");
    assert!(pl.queued(now + 20_000).unwrap().iter().any(|(other, _)| *other == id));
}

#[test]
fn a_stop_told_by_a_member_acts_although_the_hub_carries_nothing() {
    let mut house = House::eight();
    house.keep_out = Box::new(|_, s| s.statement().r#type == "node.stop@1");
    house.relay = Box::new(|frame| {
        let f = frame.frame();
        if f.kind == "stop" { Vec::new() } else { vec![(f.to.clone(), frame.bytes().to_vec())] }
    });
    house.ask_and_approve("deaths", &count("deaths"));
    house.until("the votes", |h| h.said("decision.vote@1").len() == SIX.len());
    house.must("gb", Command::Stop);
    let told = house.node("gb").stops_to_tell().unwrap();
    let to: Vec<&str> = told.iter().map(|(to, ..)| to.as_str()).collect();
    assert_eq!(to, ["it", "pl", "nl"], "those that answer");
    let now = house.now;
    for (to, id, frame) in told {
        let other = house.nodes.get_mut(&to).unwrap();
        other.peer_stop(&frame, now).unwrap().unwrap();
        other.peer_stop(&frame, now).unwrap().unwrap();
        house.nodes.get_mut("gb").unwrap().stop_told(&to, &id).unwrap();
    }
    assert!(house.node("gb").stops_to_tell().unwrap().is_empty());
    // The aggregators have no endpoint here: they hear it as a held statement, from whoever has it.
    house.watch("ch", "gb");
    house.watch("se", "gb");
    house.steps(60);
    assert!(house.said("node.stop@1").is_empty() && house.frames("opening").is_empty());
    // A restart does not forget it.
    house.restart("ch");
    house.restart("se");
    house.steps(60);
    assert!(house.frames("opening").is_empty());
}

#[test]
fn an_endpoint_takes_no_frame_but_a_members_stop_for_this_node() {
    let mut house = House::eight();
    let now = house.now;
    house.must("gb", Command::Stop);
    let told = house.node("gb").stops_to_tell().unwrap();
    let (_, _, for_pl) = told.iter().find(|(to, ..)| to == "pl").unwrap().clone();
    let it = house.nodes.get_mut("it").unwrap();
    assert!(it.peer_stop(&for_pl, now).unwrap().is_err(), "for another");
    assert!(it.peer_stop(b"x", now).unwrap().is_err());
    let mut cut = for_pl.clone();
    *cut.last_mut().unwrap() ^= 1;
    let pl = house.nodes.get_mut("pl").unwrap();
    assert!(pl.peer_stop(&cut, now).unwrap().is_err());
    house.ask_and_approve("deaths", &count("deaths"));
    house.steps(40);
    let share = house.relayed.iter().find(|b| !b.windows(12).any(|w| w == b"comity-stop/")).cloned();
    if let Some(share) = share {
        let to = wire::SignedFrame::decode(&share).unwrap().frame().to.clone();
        let node = house.nodes.get_mut(&to).unwrap();
        assert!(node.peer_stop(&share, now).unwrap().is_err(), "no share comes this way");
    }
    for id in ["it", "pl"] {
        assert!(house.evidence(id).is_empty(), "refused, and nothing kept: {:?}", house.evidence(id));
    }
}

#[test]
fn the_highest_cosigned_checkpoint_is_signed_for_the_asker() {
    let house = House::eight();
    let nonce = Digest::of(b"asked now");
    let said = house.node("it").peer_highest(nonce).unwrap();
    said.verify(&house.node("it").keys().sign().public(), &nonce).unwrap();
    assert_eq!((said.size, said.root), (house.hub.size(), house.hub.tree.root()));
    assert!(said.term >= 1);
}
