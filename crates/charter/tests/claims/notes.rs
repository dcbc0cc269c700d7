//! Sealed remarks and their erasure: who may attach and who may ask, and what members say of it afterwards.

use crate::federation::*;
use crate::scenario::notes;
use charter::body::*;
use charter::{State, Status, snapshot};
use record::Digest;

/// A record with a remark of `it` about an entry of `gb`.
fn attached() -> (Federation, Digest) {
    let mut f = Federation::ready();
    let about = f.entries[3].signed.id();
    let id = f.attach("it", about, "this wants a word");
    (f, id)
}

#[test]
fn any_member_may_remark_on_any_statement_that_is_on_the_record() {
    let mut f = Federation::ready();
    let about = f.entries[0].signed.id();
    for member in MEMBERS {
        let id = f.attach(member, about, member);
        let state = &f.state.notes[&id];
        assert_eq!((state.by.as_str(), state.about, state.index), (member, about, f.state.size - 1));
        assert_eq!((state.erase, state.erased.len()), (None, 0));
        // And on a remark.
        f.attach("gb", id, "seen");
    }
}

#[test]
fn a_remark_on_what_is_not_on_the_record_is_void() {
    let mut f = Federation::ready();
    void(f.node("it", NoteAttach::TYPE, &note(Digest::of(b"elsewhere"), "a word")), "no such statement");
    // Nor on a statement that its issuer did not sign.
    let pause = f.statement(
        "gb",
        "gb-steward",
        DatasetPause::TYPE,
        &DatasetPause { name: "ist".into(), reason: "".into() },
    );
    let forged = record::SignedStatement::sign(pause.clone(), &key("it", "sign")).unwrap().id();
    assert!(matches!(f.put(pause, &key("it", "sign")), Status::Void(_)));
    void(f.node("it", NoteAttach::TYPE, &note(forged, "a word")), "no such statement");
    assert!(f.state.notes.is_empty());
}

#[test]
fn a_note_whose_commitments_tell_their_number_is_void() {
    let mut f = Federation::ready();
    let about = f.entries[0].signed.id();
    let whole = note(about, "a word").sealed;
    let mut swapped = whole.clone();
    swapped.reverse();
    for sealed in [Vec::new(), whole[..1].to_vec(), whole[..3].to_vec(), swapped, vec![whole[0]; 4]] {
        void(
            f.node("it", NoteAttach::TYPE, &NoteAttach { about, sealed }),
            "commitments that are not padded",
        );
    }
}

#[test]
fn only_who_attached_a_note_can_ask_to_erase_it_and_only_once() {
    let (mut f, id) = attached();
    for other in MEMBERS.iter().filter(|m| **m != "it") {
        void(f.erase(other, id), "issuer did not attach the note");
    }
    assert_eq!(f.state.notes[&id].erase, None);
    valid(f.erase("it", id));
    assert_eq!(f.state.notes[&id].erase, Some(f.state.size - 1));
    void(f.erase("it", id), "asked before");
}

#[test]
fn each_member_says_once_that_it_holds_nothing_any_more_and_not_before_it_was_asked() {
    let (mut f, id) = attached();
    void(f.erased("gb", id), "nobody asked to erase it");
    valid(f.erase("it", id));
    for member in MEMBERS {
        valid(f.erased(member, id));
        void(f.erased(member, id), "said before");
    }
    let by: Vec<&str> = f.state.notes[&id].erased.keys().map(String::as_str).collect();
    assert_eq!(by, sorted(&MEMBERS));
}

#[test]
fn an_erasure_of_what_is_no_note_is_void() {
    let (mut f, _) = attached();
    for statement in [Digest::of(b"elsewhere"), f.entries[0].signed.id()] {
        void(f.erase("it", statement), "no such note");
        void(f.erased("it", statement), "no such note");
    }
}

#[test]
fn after_the_sunset_nothing_is_attached_and_everything_can_still_be_erased() {
    let (mut f, id) = attached();
    let about = f.entries[0].signed.id();
    f.time = charter::document::end_of_day("2026-12-31").unwrap();
    void(f.node("it", NoteAttach::TYPE, &note(about, "late")), "after the charter's sunset");
    valid(f.erase("it", id));
    valid(f.erased("gb", id));
}

#[test]
fn the_state_holds_a_note_under_its_own_key_and_a_snapshot_gives_it_back() {
    let f = notes();
    assert_eq!(f.state.notes.len(), 2);
    let map = f.state.map().unwrap();
    for id in f.state.notes.keys() {
        assert!(map.value(&format!("note/{id}")).is_some());
    }
    let bytes = crate::snapshots::bytes_of(map.leaves());
    let read: State = snapshot::read(&bytes).unwrap();
    assert_eq!(read.notes, f.state.notes);
    // Who has acknowledged is part of what is attested.
    let mut other = f.state.clone();
    other.notes.values_mut().for_each(|n| n.erased.clear());
    assert_ne!(other.map().unwrap().root(), map.root());
    assert_ne!(other.digest().unwrap(), f.state.digest().unwrap());
}

#[test]
fn a_suspended_member_attaches_nothing_and_can_still_have_its_note_erased_and_say_that_it_has() {
    let (mut f, id) = attached();
    let about = f.entries[0].signed.id();
    let other = f.attach("gb", about, "another");
    let suspend = record::Change::Suspend { member: "it".into() };
    let suspend = std::collections::BTreeMap::from([("change", suspend)]);
    let proposal = f.seat_id("gb", "gb-signatory", record::roster::CHANGE, &suspend);
    let accept = std::collections::BTreeMap::from([("proposal", proposal)]);
    for member in ["pl", "nl", "se", "no", "ch"] {
        valid(f.seat(member, "signatory", record::roster::ACCEPT, &accept));
    }
    assert!(f.state.roster.suspended.contains_key("it"));
    void(f.node("it", NoteAttach::TYPE, &note(about, "a word")), "issuer is suspended");
    valid(f.erase("it", id));
    valid(f.erase("gb", other));
    for note in [id, other] {
        valid(f.erased("it", note));
    }
}
