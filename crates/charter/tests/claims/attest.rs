//! Members attest the state, and activate versions of the protocol: who counts, when, and when the fold stops.

use crate::federation::*;
use crate::scenario::TYPES;
use charter::body::{KNOWN_VERSION, NodeStop, StateAttest, VERSIONS, version_of};
use charter::{Charter, State, Status};
use record::Digest;

fn attesting() -> Federation {
    let mut f = Federation::under(Charter { snapshot_every: Some(EVERY), ..charter() });
    f.fill(40);
    f
}

#[test]
fn a_root_is_attested_when_a_quorum_has_said_the_same_and_not_before() {
    let mut f = attesting();
    let root = f.root_at(36);
    let liar = Digest::of(b"another state");
    for member in ["ar", "au", "ch"] {
        valid(f.attest(member, 36, liar));
    }
    for member in ["gb", "it", "pl", "nl", "se"] {
        valid(f.attest(member, 36, root));
        assert_eq!(f.state.attested(), None, "fewer than six of nine");
    }
    valid(f.attest("no", 36, root));
    assert_eq!(f.state.attested(), Some((36, root)));
    assert_eq!(f.state.attests[&36].agreed, Some((root, f.state.size - 1)));
}

/// One organisation has four of the nine seats: six organisations, of whom one may lie, and a quorum of four.
fn four_seats_of_one() -> Federation {
    let mut charter = Charter { snapshot_every: Some(EVERY), ..charter() };
    for member in charter.members.iter_mut().filter(|m| ["ar", "au", "ch", "gb"].contains(&m.id.as_str())) {
        member.control = "one".into();
    }
    let mut f = Federation::under(charter);
    f.fill(40);
    f
}

#[test]
fn seats_of_one_operator_attest_and_activate_as_one() {
    let mut f = four_seats_of_one();
    let (next, lie) = (KNOWN_VERSION + 1, Digest::of(b"another state"));
    for member in ["ar", "au", "ch", "gb"] {
        valid(f.attest(member, 36, lie));
        valid(f.ask_version(member, next));
    }
    assert_eq!(f.state.attested(), None, "one organisation is no quorum, however many seats it has");
    assert_eq!(f.state.stopped_at(), None);
    let mut f = four_seats_of_one();
    let root = f.root_at(36);
    for member in ["gb", "it", "pl", "no"] {
        assert_eq!(f.state.attested(), None);
        valid(f.attest(member, 36, root));
    }
    assert_eq!(f.state.attested(), Some((36, root)));
}

#[test]
fn witnesses_that_fold_nothing_are_not_waited_for_by_those_who_attest_and_activate() {
    let witness = |n: usize| record::WitnessInfo {
        name: format!("witness.example/{n}"),
        operator: format!("university {n}"),
        key: key("witness", &n.to_string()).public(),
        url: "https://witness.example".into(),
    };
    // Of nine members and nine witnesses twelve make a checkpoint's quorum; of the nine members six do.
    let mut charter = Charter { snapshot_every: Some(EVERY), faults: Some(2), ..charter() };
    charter.witnesses = (0..9).map(witness).collect();
    let mut f = Federation::under(charter);
    f.fill(40);
    assert!(f.state.roster.quorum() > 9, "members alone are fewer than a checkpoint needs");
    let root = f.root_at(36);
    for member in ["gb", "it", "pl", "nl", "se", "no"] {
        assert_eq!(f.state.attested(), None);
        valid(f.attest(member, 36, root));
        valid(f.ask_version(member, KNOWN_VERSION + 1));
    }
    assert_eq!(f.state.attested(), Some((36, root)));
    assert!(f.state.stopped_at().is_some());
}

#[test]
fn members_that_name_different_versions_do_not_attest_the_same() {
    let mut f = attesting();
    let root = f.root_at(36);
    void(
        f.node("gb", StateAttest::TYPE, &StateAttest { size: 36, root, version: 0 }),
        "of a protocol version that was not active",
    );
    assert!(f.state.attests.is_empty(), "a void statement leaves nothing");
}

#[test]
fn by_default_the_state_is_attested_every_1024_entries_and_old_charters_keep_their_digest() {
    let old = charter();
    assert_eq!(old.snapshot_every(), 1024);
    let bytes = String::from_utf8(record::canon::to_bytes(&old).unwrap()).unwrap();
    assert!(!bytes.contains("snapshot_every"));
    let often = Charter { snapshot_every: Some(64), ..charter() };
    assert_eq!(often.snapshot_every(), 64);
    assert_ne!(often.digest().unwrap(), old.digest().unwrap());
}

#[test]
fn a_charter_in_which_attesting_would_never_end_is_refused_with_its_place() {
    for (every, fine) in [(35, false), (36, true), (1_048_576, true), (1_048_577, false), (0, false)] {
        let text = format!("snapshot_every = {every}\n{}", charter_toml());
        let read = Charter::parse("charter.toml", &text);
        assert_eq!(read.is_ok(), fine, "{every}");
        if let Err(e) = read {
            assert!(e.to_string().contains("snapshot_every"), "{e}");
        }
    }
}

#[test]
fn a_version_that_a_quorum_asks_for_is_active_from_the_next_entry_and_an_unknown_one_stops_the_fold() {
    let next = KNOWN_VERSION + 1;
    let mut f = attesting();
    for member in ["gb", "it", "pl", "nl", "se"] {
        valid(f.ask_version(member, next));
        assert_eq!(f.state.stopped_at(), None);
    }
    valid(f.ask_version("no", next));
    let (size, digest) = (f.state.size, f.state.digest().unwrap());
    assert_eq!(f.state.stopped_at(), Some(size));
    let why = f.state.stopped_because().unwrap();
    assert!(why.contains(&format!("version {next}")) && why.contains("upgrade"), "{why}");
    // Nothing that is said from there on means anything to this build, a stop neither.
    let stop = f.statement("it", "node", NodeStop::TYPE, &NodeStop { reason: "".into() });
    let entry = record::Entry::new(f.time, record::SignedStatement::sign(stop, &key("it", "sign")).unwrap());
    let status = f.state.apply(&entry).clone();
    void(status, "of a protocol version that this build does not know");
    assert_eq!((f.state.size, f.state.digest().unwrap()), (size, digest));
}

#[test]
fn every_type_is_in_the_table_of_versions_and_an_unknown_one_is_void() {
    let known: Vec<&str> = VERSIONS.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(known, TYPES);
    assert!(TYPES.iter().all(|kind| version_of(kind) == 1), "types of today need no activation");
    assert_eq!(version_of("study.submit@2"), u32::MAX);
    let mut f = attesting();
    f.state.protocol = 0;
    void(f.node("it", NodeStop::TYPE, &NodeStop { reason: "".into() }), "unknown type");
}

#[test]
fn records_without_attests_keep_their_digest() {
    let json = |state: &State| String::from_utf8(record::canon::to_bytes(state).unwrap()).unwrap();
    let f = Federation::agreed();
    assert!(!json(&f.state).contains("\"attests\"") && !json(&f.state).contains("\"asked\""));
    let mut f = attesting();
    let before = f.state.digest().unwrap();
    let root = f.root_at(36);
    assert_eq!(f.attest("gb", 36, root), Status::Valid);
    assert!(json(&f.state).contains("\"attests\""));
    assert_ne!(before, f.state.digest().unwrap());
}
