//! A store that was put back from a backup: its node does not know what it cosigned since.

use crate::house::{House, next};
use node::control::Command;
use record::SignedStatement;
use serde_json::Value;

/// The files of a store, as a backup has them.
const STORE: [&str; 3] = ["store.db", "store.db-wal", "store.db-shm"];

pub fn back_up(house: &House, id: &str) -> Vec<Option<Vec<u8>>> {
    house.node(id).flush().unwrap();
    STORE.iter().map(|name| std::fs::read(house.folder(id).join(name)).ok()).collect()
}

/// Ends the node and puts the store back; with `whole`, nothing beside it tells.
pub fn put_back(house: &mut House, id: &str, files: &[Option<Vec<u8>>], whole: bool) {
    house.nodes.remove(id);
    for (name, bytes) in STORE.iter().zip(files) {
        let path = house.folder(id).join(name);
        let _ = std::fs::remove_file(&path);
        if let Some(bytes) = bytes {
            std::fs::write(path, bytes).unwrap();
        }
    }
    if whole {
        std::fs::remove_file(house.folder(id).join("store.pulse")).unwrap();
    }
    house.crash_and_open(id);
}

fn restored(house: &mut House, id: &str) -> Value {
    house.cmd(id, Command::Status).data["standing"]["restored"].clone()
}

fn others(house: &House, but: &[&str]) -> Vec<String> {
    house.ids().into_iter().filter(|id| !but.contains(&id.as_str())).collect()
}

#[test]
fn a_store_put_back_is_noticed_and_cosigns_nothing_until_a_quorum_of_others_has_said_how_far_they_are() {
    let mut house = House::eight();
    let files = back_up(&house, "it");
    house.must("it", Command::Stop);
    house.settle();
    // It and four others are reached, one short of six others.
    house.cut = ["gb", "ch"].map(String::from).into();
    put_back(&mut house, "it", &files, false);
    assert_eq!(restored(&mut house, "it"), serde_json::json!([]));
    house.steps(300);
    assert_eq!(restored(&mut house, "it").as_array().unwrap().len(), 5);
    assert!(
        house
            .must("it", Command::Status)
            .text
            .contains("nothing is cosigned until others say how far they are")
    );
    let before = house.hub.cosigners();
    house.now += 40_000;
    house.must("pl", Command::Stop);
    house.steps(100);
    assert_eq!(house.hub.cosigners(), 5, "before {before}: all that are reached but the one restored");
    // A restart changes nothing of it.
    house.restart("it");
    house.steps(20);
    assert_ne!(restored(&mut house, "it"), Value::Null);
    house.cut.clear();
    house.until("the restored node to be whole", |h| {
        h.node("it").watermark() == h.hub.size() && h.node("gb").watermark() == h.hub.size()
    });
    house.steps(400);
    assert_eq!(restored(&mut house, "it"), Value::Null);
    house.now += 40_000;
    house.must("nl", Command::Stop);
    house.settle();
    assert_eq!(house.hub.cosigners(), 8);
    for id in others(&house, &[]) {
        assert_eq!(house.evidence(&id), Vec::<String>::new(), "{id}");
    }
}

#[test]
fn a_cosignature_of_its_own_that_it_does_not_remember_tells_a_node_that_its_store_is_old() {
    let mut house = House::eight();
    let files = back_up(&house, "it");
    // Five others are cut off or slow, so that its own cosignature is among those that seal.
    house.cut = ["gb", "ch"].map(String::from).into();
    house.must("pl", Command::Stop);
    house.settle();
    assert!(house.hub.sealed().unwrap().contains("— it "));
    put_back(&mut house, "it", &files, true);
    assert_eq!(restored(&mut house, "it"), Value::Null, "nothing here tells");
    let note = house.hub.sealed().unwrap();
    let now = house.now;
    house.nodes.get_mut("it").unwrap().sealed(&note, now).unwrap();
    assert_eq!(restored(&mut house, "it"), serde_json::json!([]));
}

#[test]
fn what_an_operator_says_of_a_store_is_believed() {
    let mut house = House::eight();
    house.nodes.remove("it");
    node::service::mark_restored(&house.folder("it")).unwrap();
    house.crash_and_open("it");
    assert_eq!(restored(&mut house, "it"), serde_json::json!([]));
    house.steps(400);
    assert_eq!(restored(&mut house, "it"), Value::Null, "nothing was lost, and the others say so");
}

#[test]
fn a_store_that_is_whole_is_never_taken_for_an_old_one() {
    let mut house = House::eight();
    for id in ["it", "pl", "it"] {
        house.must(id, Command::Stop);
        house.settle();
        house.restart(id);
        assert_eq!(restored(&mut house, id), Value::Null);
        house.crash_and_open(id);
        assert_eq!(restored(&mut house, id), Value::Null);
        house.must(id, Command::Resume);
        house.settle();
    }
}

/// `it` has signed off for the second hub, others have seen that, and then its store is put back from before.
fn forgotten(whole: bool, seen_by: &[&str]) -> (House, Vec<u8>) {
    let mut house = House::eight();
    let files = back_up(&house, "it");
    let said = house.sign_off("it", &next(9), false);
    seen_by.iter().for_each(|id| house.watch(id, "it"));
    put_back(&mut house, "it", &files, whole);
    (house, said)
}

fn signed_off(house: &mut House, id: &str) -> Value {
    house.cmd(id, Command::Status).data["standing"]["signed_off"].clone()
}

/// Neither cosigns in the term nor signs it off in other words.
fn remembers(house: &mut House, said: &[u8]) {
    assert_eq!(signed_off(house, "it"), 1);
    house.must("pl", Command::Stop);
    house.steps(50);
    assert_eq!(house.hub.cosigners(), 7, "all but the one that signed off");
    let other = house.cmd("it", Command::SignOff { next: next(20), instead: false });
    assert!(other.exit == 2 && other.text.contains("has signed off term 1"), "{}", other.text);
    assert_eq!(house.sign_off("it", &next(9), false), said, "the same, to the byte");
}

#[test]
fn a_restored_member_asks_for_its_own_sign_off_and_is_told_by_whoever_has_seen_it() {
    let (mut house, said) = forgotten(true, &["pl"]);
    house.nodes.remove("it");
    node::service::mark_restored(&house.folder("it")).unwrap();
    house.crash_and_open("it");
    assert_eq!(signed_off(&mut house, "it"), 0, "nothing here tells");
    house.steps(400);
    assert_eq!(restored(&mut house, "it"), Value::Null, "the others have said how far they are");
    remembers(&mut house, &said);
    for id in others(&house, &[]) {
        assert_eq!(house.evidence(&id), Vec::<String>::new(), "{id}");
    }
    // It stays so over a restart.
    house.restart("it");
    assert_eq!(signed_off(&mut house, "it"), 1);
}

#[test]
fn a_sign_off_of_its_own_that_it_does_not_remember_tells_a_node_that_its_store_is_old() {
    let (mut house, said) = forgotten(true, &["pl"]);
    assert_eq!(restored(&mut house, "it"), Value::Null, "nothing here tells");
    assert_eq!(signed_off(&mut house, "it"), 0);
    house.watch("it", "pl");
    assert_eq!(restored(&mut house, "it"), serde_json::json!([]));
    house.steps(400);
    assert_eq!(restored(&mut house, "it"), Value::Null);
    remembers(&mut house, &said);
}

#[test]
fn a_sign_off_goes_from_member_to_member_and_to_who_cannot_be_asked() {
    let (mut house, said) = forgotten(true, &["pl"]);
    // `be` has no endpoint: it is handed what it looks at others with, and hands on what it has.
    house.watch("be", "pl");
    house.watch("be", "nl");
    assert_eq!(house.node("nl").peer_signoffs().unwrap(), std::slice::from_ref(&said));
    // Nobody says it for another, and no other statement comes this way.
    let now = house.now;
    let mut body: record::SignOff =
        SignedStatement::from_bytes(&said).unwrap().statement().body_as().unwrap();
    body.address = "127.0.0.1:7".into();
    let forged = record::Statement::new(record::term::SIGN_OFF, "house", "it", "director", &body).unwrap();
    let forged = SignedStatement::sign(forged, &house.node("pl").keys().sign()).unwrap().to_bytes();
    let mut note = record::Statement::new("dataset.note@1", "x", "it", "operator", "x").unwrap();
    note.valid_from = Some(now);
    let note = SignedStatement::sign(note, &house.node("it").keys().sign()).unwrap().to_bytes();
    for bytes in [forged, note, b"none".to_vec()] {
        for id in ["it", "nl"] {
            assert!(house.nodes.get_mut(id).unwrap().take_signoff(&bytes).unwrap().is_err());
        }
    }
    assert_eq!(signed_off(&mut house, "it"), 0);
    assert_eq!(house.node("nl").peer_signoffs().unwrap().len(), 1);
}
