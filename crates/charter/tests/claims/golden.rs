//! A frozen record: the fold of old entries never changes. If this fails, records that are already signed would mean
//! something else; give the changed rule a new statement type or protocol version instead. To write the file for a
//! *new* version: `COMITY_GOLDEN=write cargo test`.

use crate::federation::fold;
use crate::scenario::{TYPES, whole};
use charter::{State, Status};
use record::Entry;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/first.record")
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

#[test]
fn the_first_record_still_means_what_it_meant() {
    if std::env::var_os("COMITY_GOLDEN").is_some_and(|v| v == "write") {
        std::fs::create_dir_all(path().parent().unwrap()).unwrap();
        std::fs::write(path(), write(&whole().entries)).unwrap();
    }
    let text = std::fs::read_to_string(path()).unwrap();
    let mut rest = text.as_str();
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
        assert_eq!(found, expected, "entry {index}, {}", entry.signed.statement().r#type);
        if expected == "valid" {
            held.insert(entry.signed.statement().r#type.clone());
        }
    }
    let digest = rest.strip_prefix("state ").unwrap().trim_end();
    assert_eq!(state.digest().unwrap().to_string(), digest, "the statuses are the same, the state is not");
    let all: BTreeSet<String> = TYPES.iter().map(|t| t.to_string()).collect();
    assert_eq!(held, all, "every type once valid");
    assert!(state.statuses.iter().filter(|s| **s != Status::Valid).count() >= 6);
}
