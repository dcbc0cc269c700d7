#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;

use record::canon::{self, Value};
use record::roster::ROTATE;
use record::{Checkpoint, Cosignature, Digest, Entry, Log, Rotate, SecretKey, SignedStatement, Statement};

use super::*;
use crate::{Hub, HubConfig};

const MEMBERS: [&str; 4] = ["ch", "gb", "it", "se"];

fn key(holder: &str, usage: &str) -> SecretKey {
    SecretKey::from_seed(*Digest::of(format!("{holder} {usage}").as_bytes()).as_bytes())
}

/// A hub's folder whose record has two changes of keys, what a member keeps of it, and the notes that sealed them.
struct Kept {
    dir: tempfile::TempDir,
    copy: Member,
    seals: Vec<(u64, String)>,
}

struct Member {
    entries: Vec<Vec<u8>>,
    notes: Vec<String>,
}

impl Copy for Member {
    fn size(&mut self) -> Result<u64, String> {
        Ok(self.entries.len() as u64)
    }

    fn entry(&mut self, index: u64) -> Result<Option<Vec<u8>>, String> {
        Ok(self.entries.get(index as usize).cloned())
    }

    fn notes(&mut self) -> Result<Vec<String>, String> {
        Ok(self.notes.clone())
    }
}

fn kept() -> Kept {
    let dir = tempfile::tempdir().unwrap();
    let config = HubConfig {
        federation: "stroke".into(),
        operator: "Alpine Trust (fictitious)".into(),
        jurisdiction: "CH".into(),
    };
    let hub = Hub::create(dir.path(), &config).unwrap();
    let info = hub.info();
    hub.stop();
    drop(hub);
    let sign = SecretKey::from_seed(*Seeds::read(dir.path()).unwrap().sign);
    let text = |text: String| Value::Str(text);
    let member = |id: &str| {
        let next = Digest::of(key(id, "sign-1").public().as_bytes());
        let public = |usage: &str| text(key(id, usage).public().to_string());
        Value::Map(BTreeMap::from([
            ("id".into(), text(id.into())),
            ("sign".into(), public("sign")),
            ("cosign".into(), public("cosign")),
            ("tls".into(), public("tls")),
            ("next".into(), text(next.to_string())),
        ]))
    };
    let charter = Value::Map(BTreeMap::from([
        ("federation".into(), text("stroke".into())),
        ("hub".into(), canon::to_value(&info).unwrap()),
        ("members".into(), Value::List(MEMBERS.iter().map(|id| member(id)).collect())),
    ]));
    let digest = Digest::of(&charter.to_bytes().unwrap());
    let mut log = Log::new();
    let mut copy = Member { entries: Vec::new(), notes: Vec::new() };
    let mut say = |log: &mut Log, id: &str, kind: &str, body: Value, by: &SecretKey| {
        let statement = Statement::new(kind, "stroke", id, "node", &body).unwrap();
        let entry = Entry::new(1_700_000_000_000, SignedStatement::sign(statement, by).unwrap());
        log.append(&entry.to_bytes(), None).unwrap();
        assert!(log.voids().is_empty(), "{:?}", log.voids());
        copy.entries.push(entry.to_bytes());
    };
    let note = |log: &Log, above: u64| {
        let roster = log.roster();
        let claimed = Checkpoint::new(&roster.origin, log.size(), log.tree().root()).unwrap();
        let mut note = claimed.sign(&sign);
        for electorate in roster.electorates(above, log.size()) {
            for (id, cosigner) in &electorate.members {
                let mut keys = ["cosign", "cosign-1"].map(|usage| key(id, usage)).into_iter();
                let by = keys.find(|k| k.public() == cosigner.key).unwrap();
                let line = Cosignature::sign(note.checkpoint(), id, 1_700_000_000, &by).unwrap();
                note.add(line, roster).unwrap();
            }
        }
        note.to_note()
    };
    let one = |name: &str, value: Value| Value::Map(BTreeMap::from([(name.to_owned(), value)]));
    say(&mut log, "ch", "charter.propose@1", one("charter", charter), &key("ch", "sign"));
    for id in MEMBERS {
        say(&mut log, id, "charter.sign@1", one("charter", text(digest.to_string())), &key(id, "sign"));
    }
    let mut seals = Vec::new();
    for id in ["gb", "it"] {
        let above = log.size();
        let body = Rotate {
            sign: key(id, "sign-1").public(),
            next: Digest::of(b"later"),
            cosign: Some(key(id, "cosign-1").public()),
            cosign_ml: None,
            tls: None,
            compromised_since: None,
        };
        say(&mut log, id, ROTATE, canon::to_value(&body).unwrap(), &key(id, "sign-1"));
        seals.push((log.size(), note(&log, above)));
    }
    say(&mut log, "se", "note.add@1", one("text", text("a word".into())), &key("se", "sign"));
    let last = note(&log, log.size());
    copy.notes.push(last);
    let db = store::open(&files::database(dir.path())).unwrap();
    for (index, leaf) in (0..).zip(&copy.entries) {
        let id = Entry::from_bytes(leaf).unwrap().signed.id();
        store::put_entry(&db, index, &id, leaf).unwrap();
    }
    for (size, note) in &seals {
        store::put_seal(&db, *size, note).unwrap();
    }
    Kept { dir, copy, seals }
}

fn fell(dir: &Path) {
    let db = store::open(&files::database(dir)).unwrap();
    let mut bytes = entry(&db, 3).unwrap().unwrap();
    bytes[200] ^= 1;
    db.execute("update entry set bytes = ?1 where idx = 3", [bytes]).unwrap();
}

#[test]
fn a_hubs_log_is_rebuilt_over_changes_of_keys_by_its_own_seals() {
    let mut kept = kept();
    let (dir, size) = (kept.dir.path().to_owned(), kept.copy.entries.len() as u64);
    assert!(check(&dir, None, None).unwrap().is_clean());
    fell(&dir);
    let rebuilt = rebuild(&dir, None, &mut kept.copy).unwrap().unwrap();
    assert!(rebuilt.after.is_clean(), "{:?}", rebuilt.after.damages);
    assert_eq!(rebuilt.refilled.in_force.map(|f| f.size()), Some(size));
    let db = store::open(&files::database(&dir)).unwrap();
    assert_eq!(store::all_seals(&db).unwrap(), kept.seals);
    assert_eq!(store::cosignatures(&db).unwrap().len(), 4, "and has the cosignatures of the last note");
    // Without them the last note is in force for nobody who begins at the charter.
    db.execute("delete from seal", []).unwrap();
    fell(&dir);
    assert!(rebuild(&dir, None, &mut kept.copy).unwrap().unwrap().refilled.in_force.is_none());
    kept.copy.notes.extend(kept.seals.iter().map(|(_, note)| note.clone()));
    fell(&dir);
    let rebuilt = rebuild(&dir, None, &mut kept.copy).unwrap().unwrap();
    assert_eq!(rebuilt.refilled.in_force.map(|f| f.size()), Some(size));
    assert_eq!(store::all_seals(&db).unwrap(), kept.seals);
}

#[test]
fn a_bit_that_fell_in_a_hubs_seal_is_named_and_the_seal_is_put_back() {
    let mut kept = kept();
    let dir = kept.dir.path().to_owned();
    kept.copy.notes.extend(kept.seals.iter().map(|(_, note)| note.clone()));
    let (size, note) = kept.seals[1].clone();
    let mut bytes = note.into_bytes();
    let last = bytes.len() - 8;
    bytes[last] ^= 1;
    let db = store::open(&files::database(&dir)).unwrap();
    store::replace_seal(&db, size, &String::from_utf8(bytes).unwrap()).unwrap();
    let report = check(&dir, None, None).unwrap();
    let name = seal(size);
    let named = |d: &Damage| matches!(&d.place, Place::Note { name: n, .. } if *n == name);
    assert!(report.damages.iter().all(named) && !report.is_clean(), "{:?}", report.damages);
    let rebuilt = rebuild(&dir, None, &mut kept.copy).unwrap().unwrap();
    assert!(rebuilt.after.is_clean(), "{:?}", rebuilt.after.damages);
    assert_eq!(store::all_seals(&db).unwrap(), kept.seals);
}
