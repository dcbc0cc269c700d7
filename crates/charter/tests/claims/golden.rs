//! Frozen records: the fold of old entries never changes. If this fails, records that are already signed would mean
//! something else; give the changed rule a new statement type or protocol version instead. To write the file of a
//! *new* one: `COMITY_GOLDEN=write cargo test`.

use crate::changing::members;
use crate::federation::{Federation, fold};
use crate::scenario::{attested, left_out, notes, reports, whole};
use charter::body::VERSIONS;
use charter::{State, Status};
use record::Entry;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

/// A frozen record's name, and what made it.
type Made = (&'static str, fn() -> Federation);
/// The corpus: a new version adds a record, and changes none.
const CORPUS: [Made; 6] = [
    ("first", whole),
    ("left-out", left_out),
    ("attested", attested),
    ("notes", notes),
    ("reports", reports),
    ("members", members),
];

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.record"))
}

/// The entries of every frozen record, with its name.
pub fn corpus() -> Vec<(&'static str, Vec<Entry>)> {
    let text = |name| std::fs::read_to_string(path(name)).unwrap();
    CORPUS.iter().map(|(name, _)| (*name, replay(name, &text(name)).entries)).collect()
}

/// A frozen record as it was read and folded.
struct Replayed {
    entries: Vec<Entry>,
    state: State,
    /// Types that were valid once.
    held: BTreeSet<String>,
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

/// Replays a frozen record.
fn replay(name: &str, text: &str) -> Replayed {
    let mut rest = text;
    let mut state = State::new();
    let (mut held, mut entries) = (BTreeSet::new(), Vec::new());
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
        entries.push(entry);
    }
    let digest = rest.strip_prefix("state ").unwrap().trim_end();
    assert_eq!(
        state.digest().unwrap().to_string(),
        digest,
        "{name}: the statuses are the same, the state is not"
    );
    Replayed { entries, state, held }
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
        let replayed = replay(name, &std::fs::read_to_string(path(name)).unwrap());
        // The root of the state's map stands beside the record, so that what members attest never changes either.
        let root = format!("map {}\n", replayed.state.map().unwrap().root());
        let beside = path(name).with_extension("root");
        if writing && !beside.exists() {
            std::fs::write(&beside, &root).unwrap();
        }
        let frozen = std::fs::read_to_string(&beside).unwrap();
        assert_eq!(root, frozen, "{name}: the state is the same, its map is not");
        held.extend(replayed.held);
        void += replayed.state.statuses.iter().filter(|s| **s != Status::Valid).count();
    }
    // The fold's own lists: what it takes in, and what of it changes members, keys and the hub.
    let known = VERSIONS.iter().map(|(kind, _)| *kind).chain(record::roster::TYPES);
    let all: BTreeSet<String> = known.map(str::to_owned).collect();
    assert_eq!(held, all, "every type once valid");
    assert!(void >= 10);
    let files = std::fs::read_dir(path("first").parent().unwrap()).unwrap().count();
    assert_eq!(files, 2 * CORPUS.len(), "every frozen record is replayed, and each has its root beside it");
}
