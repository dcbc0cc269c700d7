//! Sealed remarks at the command line: read by whom they name, erased everywhere, in no file afterwards.

use crate::command::{files, until};
use crate::federation::{CROSSTAB, EIGHT, Federation};
use serde_json::Value;
use std::path::{Path, PathBuf};

const TEXT: &str = "Canary-In-A-Remark about one patient of ours";

fn files_with(dir: &Path, needle: &[u8]) -> Vec<PathBuf> {
    let holds = |file: &PathBuf| {
        std::fs::read(dir.join(file)).unwrap_or_default().windows(needle.len()).any(|w| w == needle)
    };
    files(dir).into_iter().filter(holds).collect()
}

/// What a member's store keeps for a note, as it lies in the file.
fn at_rest(it: &Federation, id: &str, note: &str) -> Option<Vec<u8>> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let db = rusqlite::Connection::open_with_flags(it.path(id).join("store.db"), flags).unwrap();
    db.query_row("select body from sealed where statement = ?1", [note], |row| row.get(0)).ok()
}

/// Where in the record a statement stands, and what there is about it at a member.
fn about(it: &Federation, id: &str, statement: &str) -> Option<Value> {
    let size = it.ask(id, "node status", &[])["size"].as_u64()?;
    let shown = (0..size).map(|index| it.ask(id, "record show", &[&index.to_string()]));
    shown.into_iter().find(|entry| entry["id"] == statement)
}

fn text_at(it: &Federation, id: &str, index: &Value) -> Value {
    it.ask(id, "record show", &[&index.to_string()])["notes"][0]["text"].clone()
}

/// The note about a statement of `author` reaches `reader` and nobody else; then it is erased, all say so, and no file of
/// anybody holds what was kept of it.
fn reaches_and_is_erased(it: &mut Federation, (author, reader): (&str, &str), statement: &str, note: &str) {
    let index = until("the statement", || about(it, author, statement))["index"].clone();
    for id in [author, reader] {
        until(&format!("the text at {id}"), || (text_at(it, id, &index) == TEXT).then_some(()));
    }
    it.at(reader, "record show", &[&index.to_string()]).exits(0).says(TEXT);
    let others: Vec<&str> = it.ids().into_iter().filter(|id| ![author, reader].contains(id)).collect();
    for id in &others {
        until("the note itself", || {
            let notes = it.ask(id, "record show", &[&index.to_string()])["notes"].clone();
            (notes[0]["id"] == note).then_some(())
        });
        it.at(id, "record show", &[&index.to_string()]).says("sealed, and not held here");
        assert_eq!(at_rest(it, id, note), None, "{id}");
        // Nor can they, or its reader, have it erased.
        it.at(id, "record erase", &[note, "--yes"]).exits(2).says("a note that this member attached");
    }
    it.at(reader, "record erase", &[note, "--yes"]).exits(2);
    // What is sealed differs from copy to copy; the search for it would find it.
    let kept = [author, reader].map(|id| (id, at_rest(it, id, note).unwrap()));
    for (id, body) in &kept {
        let found = files_with(&it.path(id), &body[16..]);
        assert!(!found.is_empty(), "{id}");
    }

    it.at(author, "record erase", &[note]).exits(1).says("say it again with --yes");
    assert_eq!(text_at(it, author, &index), TEXT);
    it.at(author, "record erase", &[note, "--yes"]).exits(0).says("asked to destroy");
    let mut all = it.ids();
    all.sort_unstable();
    until("everybody's acknowledgement", || {
        let notes = it.ask(author, "record show", &[&index.to_string()])["notes"].clone();
        (notes[0]["destroyed_by"] == serde_json::json!(all)).then_some(())
    });
    it.at(author, "record erase", &[note, "--yes"]).exits(1).says("asked before");
    for id in it.ids() {
        until("the erasure", || {
            let shown = it.at(id, "record show", &[&index.to_string()]);
            shown.text().contains("erased (asked at").then_some(())
        });
        let said = it.at(id, "record verify", &["--json"]).exits(0).json();
        assert_eq!(said["valid"], true, "{id}");
    }

    it.ids().into_iter().for_each(|id| it.kill_node(id));
    it.kill_hub();
    for (id, body) in &kept {
        assert_eq!(files_with(it.root(), &body[16..]), Vec::<PathBuf>::new(), "sealed at {id}");
    }
    for place in [it.root(), it.logs()] {
        assert_eq!(files_with(place, TEXT.as_bytes()), Vec::<PathBuf>::new(), "{}", place.display());
    }
    for id in it.ids() {
        let dir = it.path(id).display().to_string();
        crate::command::comity(["record", "fsck", &dir]).exits(0).says("CLEAN");
    }
}

#[test]
fn a_sealed_note_reaches_whom_it_names_and_once_erased_is_in_no_store_of_anybody() {
    let mut it = Federation::agree_reached(&[("gb", "GB"), ("ch", "CH"), ("se", "SE")], &["gb"]);
    let statement = it.ask("ch", "record show", &["1"])["id"].as_str().unwrap().to_string();
    it.at("gb", "record note", &["--about", &statement, "--text", TEXT, "--to", "fr"])
        .exits(2)
        .says("expected another member's id");
    it.at("gb", "record note", &["--about", &"0".repeat(64), "--text", TEXT])
        .exits(2)
        .says("expected the id of a statement on the record");
    let said = it.ask("gb", "record note", &["--about", &statement, "--text", TEXT, "--to", "se"]);
    let note = said["note"].as_str().unwrap().to_string();
    reaches_and_is_erased(&mut it, ("gb", "se"), &statement, &note);
}

#[test]
fn a_no_with_its_reason_is_read_by_the_requester_and_the_reason_can_be_erased() {
    let mut it = Federation::ready_reached(&EIGHT, &["it"]);
    it.submit("recurrence", CROSSTAB);
    it.at("it", "decide refuse", &["recurrence", "--to", "gb"]).exits(2).says("--because");
    let said = it.ask("it", "decide refuse", &["recurrence", "--because", TEXT, "--to", "gb"]);
    let vote = said["statement"].as_str().unwrap().to_string();
    let note = said["note"]["note"].as_str().unwrap().to_string();
    for id in it.ids() {
        until("the no", || (it.phase(id, "recurrence") == "declined").then_some(()));
    }
    reaches_and_is_erased(&mut it, ("it", "gb"), &vote, &note);
}
