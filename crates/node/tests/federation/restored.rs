//! A store that was put back from a backup: its node does not know what it cosigned since.

use crate::house::House;
use node::control::Command;
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
