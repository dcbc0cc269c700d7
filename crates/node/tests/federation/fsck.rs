//! A mirror in which a bit fell, in a federation whose keys have changed: what proves the record to whoever begins at
//! the charter are the seals of those changes, and a rebuild uses and keeps them.

use crate::changes::rotation;
use crate::house::House;
use node::control::Command;
use node::fsck::{Folder, check, rebuild};
use record::fsck::{Copy, Fault, Place};
use rusqlite::{Connection, params};
use std::path::Path;

/// Three of eight have changed all their keys since, so the last note has the quorum of the first eight no more.
fn house() -> House {
    let mut house = House::eight();
    for id in ["it", "pl", "nl"] {
        let keys = rotation(&house, id, true, None);
        house.must(id, Command::KeyRotate(keys));
        house.settle();
    }
    house.must("gb", Command::DatasetPause { name: "ist".into() });
    house.settle();
    for id in ["gb", "se"] {
        house.node(id).flush().unwrap();
    }
    house.nodes.remove("gb");
    house
}

fn db(folder: &Path) -> Connection {
    Connection::open(folder.join("store.db")).unwrap()
}

fn flip(folder: &Path, index: i64) {
    let db = db(folder);
    let read = db.query_row("select bytes from entries where idx = ?1", [index], |row| row.get(0));
    let mut bytes: Vec<u8> = read.unwrap();
    bytes[300] ^= 1;
    db.execute("update entries set bytes = ?1 where idx = ?2", params![bytes, index]).unwrap();
}

fn seals(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let db = db(folder);
    let mut query = db.prepare("select key, value from meta where key like 'seal/%' order by key").unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// Another member's copy without the notes that sealed changes.
struct Bare(Folder);

impl Copy for Bare {
    fn size(&mut self) -> Result<u64, String> {
        self.0.size()
    }

    fn entry(&mut self, index: u64) -> Result<Option<Vec<u8>>, String> {
        self.0.entry(index)
    }

    fn notes(&mut self) -> Result<Vec<String>, String> {
        let notes = self.0.notes()?;
        let last = notes
            .into_iter()
            .max_by_key(|n| record::SignedCheckpoint::parse(n).map_or(0, |n| n.checkpoint().size()));
        Ok(last.into_iter().collect())
    }
}

#[test]
fn a_mirror_is_rebuilt_over_changes_of_keys_by_its_own_seals() {
    let house = house();
    let (gb, se) = (house.folder("gb"), house.folder("se"));
    let (size, before) = (house.hub.size(), seals(&gb));
    assert_eq!(before.len(), 3);
    flip(&gb, 5);
    let rebuilt = rebuild(&gb, &mut Bare(Folder::open(&se).unwrap())).unwrap().unwrap();
    assert!(rebuilt.after.is_clean(), "{:?}", rebuilt.after.damages);
    assert_eq!(rebuilt.refilled.in_force.map(|f| f.size()), Some(size));
    assert_eq!(seals(&gb), before);
    // Without them it takes a source that has them, and has them then.
    db(&gb).execute("delete from meta where key like 'seal/%'", []).unwrap();
    flip(&gb, 5);
    let rebuilt = rebuild(&gb, &mut Bare(Folder::open(&se).unwrap())).unwrap().unwrap();
    assert!(rebuilt.refilled.in_force.is_none(), "nothing leads from the charter to the last note");
    flip(&gb, 5);
    let rebuilt = rebuild(&gb, &mut Folder::open(&se).unwrap()).unwrap().unwrap();
    assert!(rebuilt.after.is_clean());
    assert_eq!(rebuilt.refilled.in_force.map(|f| f.size()), Some(size));
    assert_eq!(seals(&gb).len(), 3);
}

#[test]
fn a_bit_that_fell_in_a_seal_is_named_and_the_seal_is_put_back() {
    let mut house = house();
    let (gb, se) = (house.folder("gb"), house.folder("se"));
    assert!(check(&gb, None).unwrap().is_clean());
    for (name, mut note) in seals(&gb) {
        // A digit of the size, a character of the root, one of a cosignature.
        for at in [note.iter().position(|b| *b == b'\n').unwrap() + 1, 30, note.len() - 8] {
            note[at] ^= 1;
            let put = "update meta set value = ?1 where key = ?2";
            db(&gb).execute(put, params![note, name]).unwrap();
            let report = check(&gb, None).unwrap();
            let named =
                |d: &record::fsck::Damage| matches!(&d.place, Place::Note { name: n, .. } if *n == name);
            assert!(report.damages.iter().any(named), "{name}, byte {at}: {:?}", report.damages);
            assert!(!report.damages.iter().any(|d| d.fault == Fault::Missing), "{:?}", report.damages);
            let rebuilt = rebuild(&gb, &mut Folder::open(&se).unwrap()).unwrap().unwrap();
            assert!(rebuilt.after.is_clean(), "{name}, byte {at}: {:?}", rebuilt.after.damages);
            assert_eq!(seals(&gb).len(), 3);
            note[at] ^= 1;
        }
    }
    // And the node goes on from there.
    house.crash_and_open("gb");
    house.settle();
    assert_eq!(house.node("gb").watermark(), house.hub.size());
}
