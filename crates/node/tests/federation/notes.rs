//! Sealed remarks: on the record as commitments alone, read at members, and destroyed everywhere when asked.

use crate::house::{EIGHT, House, count};
use node::control::{Command, Reply};
use record::{Digest, Disclosure, Entry, SignedStatement, Value};
use std::path::Path;
use wire::peer::Disclosed;

const TEXT: &str = "canary: the ward of Dr Example is too small to count";

/// The statement of an entry.
fn id_at(house: &House, index: usize) -> Digest {
    Entry::from_bytes(&house.hub.entries[index]).unwrap().signed.id()
}

fn index_of(house: &House, id: Digest) -> u64 {
    (0..house.hub.entries.len()).position(|n| id_at(house, n) == id).unwrap() as u64
}

fn show(house: &mut House, member: &str, id: Digest) -> Reply {
    let index = index_of(house, id);
    house.must(member, Command::RecordShow { index })
}

/// `it` remarks on a statement, for these members.
fn attach(house: &mut House, about: Digest, to: &[&str]) -> Digest {
    let to = to.iter().map(|m| m.to_string()).collect();
    let reply = house.must("it", Command::RecordNote { about: about.to_string(), text: TEXT.into(), to });
    house.settle();
    reply.data["note"].as_str().unwrap().parse().unwrap()
}

/// A member asks another for its notes, as their lines do it; gives how many it was given.
fn fetch(house: &mut House, reader: &str, author: &str) -> usize {
    let now = house.now;
    let wanted = house.nodes.get_mut(reader).unwrap().wanted_notes(author, now).unwrap();
    let mut taken = 0;
    for id in wanted {
        let given = house.nodes.get_mut(author).unwrap().peer_sealed(reader, &id, now).unwrap();
        let Some(given) = given else { continue };
        // What is packed is what is read.
        let bytes = record::canon::to_bytes(&given).unwrap();
        let given: Disclosed = record::canon::from_bytes(&bytes).unwrap();
        taken +=
            usize::from(house.nodes.get_mut(reader).unwrap().take_sealed(author, &id, &given, now).unwrap());
    }
    house.node(reader).flush().unwrap();
    taken
}

fn erase(house: &mut House, id: Digest) {
    house.must("it", Command::RecordErase { statement: id.to_string(), sure: true });
}

fn acknowledged(house: &House, id: Digest) -> Vec<String> {
    house.node("it").state().notes[&id].erased.keys().cloned().collect()
}

/// The files below a folder that hold these bytes.
fn files_with(dir: &Path, needle: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, needle));
        } else if std::fs::read(&path).unwrap_or_default().windows(needle.len()).any(|w| w == needle) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// What a node's store keeps for a note, as it lies in the file.
fn at_rest(house: &House, member: &str, id: Digest) -> Option<Vec<u8>> {
    let db = rusqlite::Connection::open(house.folder(member).join("store.db")).unwrap();
    let row = db.query_row("select body from sealed where statement = ?1", [id.to_string()], |r| r.get(0));
    row.ok()
}

/// A vote of no with its reason: held by `it` and `gb`, in their files too.
fn no_with_a_reason() -> (House, Digest, Vec<(String, Vec<u8>)>) {
    let mut house = House::eight();
    house.ask(&count("deaths"));
    let vote = house.must("it", Command::DecideRefuse { study: "deaths".into() });
    let vote: Digest = vote.data["statement"].as_str().unwrap().parse().unwrap();
    // Said in one breath: the vote is not on the record yet.
    let id = attach(&mut house, vote, &["gb"]);
    assert_eq!(fetch(&mut house, "gb", "it"), 1);
    assert_eq!(house.void(id), None);
    let kept: Vec<_> =
        ["it", "gb"].map(|m| (m.to_string(), at_rest(&house, m, id).unwrap())).into_iter().collect();
    for (member, body) in &kept {
        // From the log into the file itself, so that both are searched later.
        house.restart(member);
        let files = files_with(&house.folder(member), &body[16..]);
        assert!(files.iter().any(|f| f.ends_with("store.db")), "{files:?}");
    }
    (house, id, kept)
}

fn holds(house: &mut House, member: &str, id: Digest) -> bool {
    show(house, member, id).data["notes"][0]["text"] == TEXT
}

#[test]
fn a_note_is_read_by_its_author_and_whom_it_named_and_by_nobody_else() {
    let mut house = House::eight();
    let about = id_at(&house, 0);
    let id = attach(&mut house, about, &["gb"]);
    assert_eq!(house.void(id), None);
    assert!(holds(&mut house, "it", id));
    assert!(!holds(&mut house, "gb", id), "not before it was given");
    assert_eq!(fetch(&mut house, "gb", "it"), 1);
    assert_eq!(fetch(&mut house, "gb", "it"), 0, "once");
    assert!(holds(&mut house, "gb", id));
    // Named at the statement that it is about, too, and in the list.
    let entry = house.must("gb", Command::RecordShow { index: 0 });
    assert!(entry.text.contains("note of it") && entry.text.contains(TEXT), "{}", entry.text);
    assert!(house.must("gb", Command::RecordList { from: 0 }).text.contains(TEXT));
    for other in EIGHT.map(|(id, ..)| id).iter().filter(|m| !["it", "gb"].contains(m)) {
        assert_eq!(fetch(&mut house, other, "it"), 0, "{other} was not named");
        assert!(!holds(&mut house, other, id));
    }
    // A member that holds it passes it on to nobody.
    let now = house.now;
    assert!(house.nodes.get_mut("gb").unwrap().peer_sealed("pl", &id, now).unwrap().is_none());
    let shown = house.must("it", Command::RecordShow { index: index_of(&house, id) });
    assert!(shown.text.contains("given to gb"), "{}", shown.text);
    house.no_errors();
}

#[test]
fn the_hub_and_the_record_have_nothing_of_a_note_but_commitments() {
    let (house, id, _) = no_with_a_reason();
    let holds = |bytes: &[u8]| bytes.windows(6).any(|w| w == b"canary");
    assert!(!house.hub.entries.iter().any(|e| holds(e)) && !house.relayed.iter().any(|f| holds(f)));
    let attached = house.said("note.attach@1");
    assert_eq!(attached.len(), 1);
    assert_eq!(house.node("gb").state().notes[&id].sealed.len(), 4, "one field looks like up to four");
    // At rest it is sealed.
    for member in house.ids() {
        assert_eq!(files_with(&house.folder(&member), b"canary"), Vec::<String>::new());
    }
}

#[test]
fn an_erased_note_is_in_no_file_of_any_member_and_the_record_still_verifies() {
    let (mut house, id, kept) = no_with_a_reason();
    erase(&mut house, id);
    house.settle();
    assert_eq!(acknowledged(&house, id), house.ids(), "every member has said so");
    for (_, body) in &kept {
        for member in house.ids() {
            // Neither the whole nor any part of it, in store, log or elsewhere.
            for part in body.chunks(24).filter(|part| part.len() >= 16) {
                assert_eq!(files_with(&house.folder(&member), part), Vec::<String>::new());
            }
        }
    }
    let asked = house.node("it").state().notes[&id].erase.unwrap();
    for member in house.ids() {
        assert_eq!(at_rest(&house, &member, id), None);
        assert_eq!(house.cmd(&member, Command::RecordVerify).exit, 0);
        let text = show(&mut house, &member, id).text;
        assert!(text.contains(&format!("erased (asked at {asked}, destroyed by be, ch, gb, it,")), "{text}");
        assert!(!text.contains("not yet") && !text.contains("canary"), "{text}");
    }
    let out = house.folder("gb").join("deaths.bundle");
    house.must("gb", Command::BundleExport { study: "deaths".into(), out: out.display().to_string() });
    let verified = node::verify::verify_bundle(&std::fs::read(&out).unwrap(), Some(house.pin()));
    assert_eq!(verified.exit, 0, "{}", verified.text);
    // Nobody is given it any more, and what was given comes back to nobody.
    assert_eq!(fetch(&mut house, "gb", "it"), 0);
    house.no_errors();
}

#[test]
fn a_member_that_was_down_destroys_and_says_so_when_it_is_back() {
    let (mut house, id, _) = no_with_a_reason();
    for gone in ["cut", "asleep"] {
        let set = if gone == "cut" { &mut house.cut } else { &mut house.asleep };
        set.insert("gb".into());
    }
    erase(&mut house, id);
    house.settle();
    assert!(!acknowledged(&house, id).contains(&"gb".to_string()));
    let text = show(&mut house, "it", id).text;
    assert!(text.contains("; not yet gb)"), "{text}");
    assert!(at_rest(&house, "gb", id).is_some(), "it does not know yet");
    house.cut.clear();
    house.asleep.clear();
    house.restart("gb");
    house.settle();
    assert_eq!(at_rest(&house, "gb", id), None);
    assert_eq!(acknowledged(&house, id), house.ids());
}

/// Whether a node has the acknowledgement ready for the record.
fn about_to_say(house: &House, member: &str) -> bool {
    let queued = house.node(member).queued(house.now).unwrap();
    let kind = |bytes: &[u8]| SignedStatement::from_bytes(bytes).unwrap().statement().r#type.clone();
    queued.iter().any(|(_, bytes)| kind(bytes) == "record.erased@1")
}

#[test]
fn a_crash_between_destruction_and_acknowledgement_loses_neither() {
    let (mut house, id, kept) = no_with_a_reason();
    erase(&mut house, id);
    house.until("the erasure is in force", |h| h.node("gb").state().notes[&id].erase.is_some());
    // It has destroyed by now; what it said of that is not durable yet, and its process dies.
    house.crash_and_open("gb");
    assert_eq!(at_rest(&house, "gb", id), None);
    assert!(!about_to_say(&house, "gb"), "the word was lost with the process");
    let body = &kept.iter().find(|(m, _)| m == "gb").unwrap().1;
    assert_eq!(files_with(&house.folder("gb"), &body[16..]), Vec::<String>::new());
    house.settle();
    assert_eq!(acknowledged(&house, id), house.ids());
    assert_eq!(house.said("record.erased@1").len(), 8, "each member once");
}

#[test]
fn a_crash_before_destruction_ends_in_destruction() {
    let (mut house, id, _) = no_with_a_reason();
    house.asleep.insert("gb".into());
    erase(&mut house, id);
    house.until("the erasure is in force", |h| h.node("gb").state().notes[&id].erase.is_some());
    house.node("gb").flush().unwrap();
    assert!(at_rest(&house, "gb", id).is_some());
    house.crash_and_open("gb");
    house.asleep.clear();
    house.settle();
    assert_eq!(at_rest(&house, "gb", id), None);
    assert_eq!(acknowledged(&house, id), house.ids());
}

#[test]
fn what_came_back_with_a_backup_is_destroyed_again() {
    let (mut house, id, _) = no_with_a_reason();
    let path = house.folder("gb").join("store.db");
    let body = at_rest(&house, "gb", id).unwrap();
    erase(&mut house, id);
    house.settle();
    house.node("gb").flush().unwrap();
    house.nodes.remove("gb");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute("insert into sealed values(?1, ?2)", rusqlite::params![id.to_string(), body]).unwrap();
    drop(db);
    house.crash_and_open("gb");
    house.step();
    assert_eq!(at_rest(&house, "gb", id), None);
    house.node("gb").flush().unwrap();
    assert_eq!(files_with(&house.folder("gb"), &body[16..]), Vec::<String>::new());
}

#[test]
fn only_the_author_erases_and_not_without_saying_that_it_is_sure() {
    let mut house = House::eight();
    let about = id_at(&house, 0);
    let id = attach(&mut house, about, &["gb"]);
    let ask = |sure| Command::RecordErase { statement: id.to_string(), sure };
    assert_eq!(house.cmd("gb", ask(true)).exit, 2, "it is not the author's node");
    assert_eq!(house.cmd("it", ask(false)).exit, 1);
    house.settle();
    assert!(house.said("record.erase@1").is_empty());
    // Of the word of a member under its own key, the record takes no notice either.
    let body = charter::body::RecordErase { statement: id };
    let said = house.say_as("gb", "record.erase@1", "note", "operator", &body);
    house.settle();
    assert_eq!(house.void(said).as_deref(), Some("issuer did not attach the note"));
    assert!(holds(&mut house, "it", id));
    // Once asked, nothing is given any more, before the record has it.
    house.must("it", ask(true));
    let now = house.now;
    assert!(house.nodes.get_mut("it").unwrap().peer_sealed("gb", &id, now).unwrap().is_none());
    house.settle();
    assert_eq!(house.cmd("it", ask(true)).exit, 1, "asked before");
}

#[test]
fn a_member_that_gives_another_text_is_not_believed() {
    let mut house = House::eight();
    let about = id_at(&house, 0);
    let id = attach(&mut house, about, &["gb", "pl"]);
    let now = house.now;
    let lie = Disclosure::new("note/text", [7; 16], Value::Str("it was all agreed".into()));
    for fields in [vec![lie.clone()], Vec::new()] {
        let given = Disclosed { fields };
        assert!(!house.nodes.get_mut("gb").unwrap().take_sealed("it", &id, &given, now).unwrap());
    }
    let true_one = house.nodes.get_mut("it").unwrap().peer_sealed("gb", &id, now).unwrap().unwrap();
    let both = Disclosed { fields: [true_one.fields.clone(), vec![lie]].concat() };
    assert!(!house.nodes.get_mut("gb").unwrap().take_sealed("it", &id, &both, now).unwrap());
    // Nor is the truth from somebody else: it is the author's to give.
    assert!(!house.nodes.get_mut("gb").unwrap().take_sealed("pl", &id, &true_one, now).unwrap());
    assert!(house.holds_against("gb", "it", "does not commit to"));
    assert!(!holds(&mut house, "gb", id));
}

#[test]
fn a_note_that_is_wrong_is_not_said() {
    let mut house = House::eight();
    let about = id_at(&house, 0).to_string();
    let note = |about: &str, text: &str, to: &str| Command::RecordNote {
        about: about.into(),
        text: text.into(),
        to: to.split(' ').filter(|m| !m.is_empty()).map(str::to_string).collect(),
    };
    let nowhere = Digest::of(b"elsewhere").to_string();
    for command in [
        note(&nowhere, TEXT, ""),
        note("no id", TEXT, ""),
        note(&about, "", ""),
        note(&about, &"a".repeat(9000), ""),
        note(&about, TEXT, "gb nobody"),
        note(&about, TEXT, "it"),
    ] {
        assert_eq!(house.cmd("it", command).exit, 2);
    }
    house.settle();
    assert!(house.said("note.attach@1").is_empty());
    assert!(files_with(&house.folder("it"), b"canary").is_empty());
}
