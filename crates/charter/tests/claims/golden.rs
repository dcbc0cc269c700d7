//! Frozen records: the fold of old entries never changes. If this fails, records that are already signed would mean
//! something else; give the changed rule a new statement type or protocol version instead. To write the file of a
//! *new* one: `COMITY_GOLDEN=write cargo test`.

use crate::federation::{Federation, fold};
use crate::scenario::{TYPES, left_out, whole};
use charter::{State, Status};
use record::Entry;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

/// A frozen record's name, and what made it.
type Made = (&'static str, fn() -> Federation);
/// The corpus: a new version adds a record, and changes none.
const CORPUS: [Made; 2] = [("first", whole), ("left-out", left_out)];

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.record"))
}

fn status(status: &Status) -> String {
    match status {
        Status::Valid => "valid".into(),
        Status::Void(reason) => format!("void {reason}"),
    }
}

/// `entry <bytes> <status>`, the bytes, an empty line; at the end `state <digest>`.
fn write(entries: &[Entry]) -> String {
    let state = fold(entries);
    let mut text = String::new();
    for (entry, s) in entries.iter().zip(&state.statuses) {
        let bytes = String::from_utf8(entry.to_bytes()).unwrap();
        write!(text, "entry {} {}\n{bytes}\n\n", bytes.len(), status(s)).unwrap();
    }
    writeln!(text, "state {}", state.digest().unwrap()).unwrap();
    text
}

/// Replays a frozen record; gives the types that were valid once, and how many entries were void.
fn replay(name: &str, text: &str) -> (BTreeSet<String>, usize) {
    let mut rest = text;
    let mut state = State::new();
    let mut held = BTreeSet::new();
    while let Some(after) = rest.strip_prefix("entry ") {
        let (head, after) = after.split_once('\n').unwrap();
        let (length, expected) = head.split_once(' ').unwrap();
        let (bytes, after) = after.split_at(length.parse().unwrap());
        rest = after.strip_prefix("\n\n").unwrap();
        let entry = Entry::from_bytes(bytes.as_bytes()).unwrap();
        let index = state.size;
        let found = status(state.apply(&entry));
        assert_eq!(found, expected, "{name}: entry {index}, {}", entry.signed.statement().r#type);
        if expected == "valid" {
            held.insert(entry.signed.statement().r#type.clone());
        }
    }
    let digest = rest.strip_prefix("state ").unwrap().trim_end();
    assert_eq!(
        state.digest().unwrap().to_string(),
        digest,
        "{name}: the statuses are the same, the state is not"
    );
    (held, state.statuses.iter().filter(|s| **s != Status::Valid).count())
}

#[test]
fn the_records_of_every_version_still_mean_what_they_meant() {
    let writing = std::env::var_os("COMITY_GOLDEN").is_some_and(|v| v == "write");
    let (mut held, mut void) = (BTreeSet::new(), 0);
    for (name, make) in CORPUS {
        // What is frozen is never written again; to give one up, delete the file by hand and say why.
        if writing && !path(name).exists() {
            std::fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            std::fs::write(path(name), write(&make().entries)).unwrap();
        }
        let (types, voids) = replay(name, &std::fs::read_to_string(path(name)).unwrap());
        held.extend(types);
        void += voids;
    }
    let all: BTreeSet<String> = TYPES.iter().map(|t| t.to_string()).collect();
    assert_eq!(held, all, "every type once valid");
    assert!(void >= 10);
    let files = std::fs::read_dir(path("first").parent().unwrap()).unwrap().count();
    assert_eq!(files, CORPUS.len(), "every frozen record is replayed");
}
