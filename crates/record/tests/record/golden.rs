//! Frozen bytes: a record written today must be readable for ever. If one of these tests fails, the format changed;
//! give it a new version instead. To write the files for a *new* version: `COMITY_GOLDEN=write cargo test`.

use std::path::PathBuf;

use record::{Bundle, Entry, Pin, SignedCheckpoint};

use crate::federation::{World, vote};

fn frozen(name: &str, now: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("COMITY_GOLDEN").is_some_and(|v| v == "write") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, now).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn world() -> World {
    let mut world = World::new(&["gb", "it"]);
    world.say(vote("it", "aspirin"));
    world
}

#[test]
fn the_bytes_of_an_entry_are_frozen() {
    let now = world().leaves[3].clone();
    let then = frozen("vote.entry", &now);
    assert_eq!(String::from_utf8_lossy(&now), String::from_utf8_lossy(&then));
    Entry::from_bytes(&then).unwrap().signed.verify().unwrap();
}

#[test]
fn the_bytes_of_a_checkpoint_are_frozen() {
    let world = world();
    let now = world.cosigned(2).to_note();
    let then = String::from_utf8(frozen("four.checkpoint", now.as_bytes())).unwrap();
    assert_eq!(now, then);
    let read = SignedCheckpoint::parse(&then).unwrap();
    assert!(world.log.standing(&read).unwrap().in_force().is_some());
}

#[test]
fn the_bytes_of_a_bundle_are_frozen() {
    let world = world();
    let now = world.bundle("aspirin", "it").write().unwrap();
    let then = frozen("aspirin.bundle", &now);
    assert_eq!(String::from_utf8_lossy(&now), String::from_utf8_lossy(&then));
    let pin = Some(world.charter_digest());
    assert_eq!(Bundle::read(&then).unwrap().verify_container(pin).unwrap().pin, Pin::Pinned);
}
