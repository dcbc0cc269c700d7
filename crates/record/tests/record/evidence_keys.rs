//! Evidence over a change of keys: who signed is convicted under the key that was theirs then, whoever has which since.

use std::collections::BTreeMap;

use record::canon::{self, Value};
use record::evidence::{Attested, Changed};
use record::roster::{OPEN, PROPOSE};
use record::term::{Opening, SIGN_OFF, SignOff};
use record::tree::leaf_hash;
use record::{
    Checkpoint, Claim, Cosignature, Digest, Entry, EntryBytes, Evidence, Guilt, HubInfo, Receipt, Roster,
    SecretKey, SignedCheckpoint, Tree,
};

use crate::changes::{FOUR, decide, join, rotate, world};
use crate::federation::{HUB, World, key, public, signed, vote};

/// The charter as it stands in the first entry.
fn charter(world: &World) -> Value {
    let body: BTreeMap<String, Value> = world.log.entries()[0].entry().signed.statement().body_as().unwrap();
    body["charter"].clone()
}

/// What changed members, keys or hub in the first `size` entries.
fn changes(world: &World, size: u64) -> Vec<Changed> {
    let all = (0u64..size).zip(world.log.entries());
    let reads = |e: &EntryBytes| {
        let entry = e.entry();
        let kind = entry.signed.statement().r#type.as_str();
        Roster::reads(kind) && kind != PROPOSE
    };
    let text = |e: &EntryBytes| String::from_utf8(e.to_bytes()).unwrap();
    all.filter(|(_, e)| reads(e)).map(|(index, e)| Changed { entry: text(e), index }).collect()
}

fn judged(world: &World, claim: &Claim, upto: u64) -> Option<Guilt> {
    let evidence = Evidence::new(charter(world), claim.clone()).with(changes(world, upto));
    let read = Evidence::read(&evidence.write().unwrap()).unwrap();
    read.verify(Some(world.charter_digest())).ok()
}

/// The same without anything that changed since the charter.
fn judged_alone(world: &World, claim: &Claim) -> Option<Guilt> {
    Evidence::new(charter(world), claim.clone()).verify(Some(world.charter_digest())).ok()
}

fn note(size: u64, mark: &str, by: &SecretKey) -> SignedCheckpoint {
    Checkpoint::new("comity/stroke", size, Digest::of(mark.as_bytes())).unwrap().sign(by)
}

fn two_roots(size: u64, by: &SecretKey) -> Claim {
    Claim::TwoRoots { one: note(size, "one", by).to_note(), other: note(size, "other", by).to_note() }
}

fn second() -> HubInfo {
    HubInfo {
        operator: "Second Trust".to_owned(),
        jurisdiction: "NL".to_owned(),
        key: public("second", "key"),
        tls: public("second", "tls"),
    }
}

/// Another hub takes over.
fn hand_over(world: &mut World) {
    let body = SignOff { term: 1, next: second(), address: "hub.example:1".to_owned(), claim: None };
    let body = canon::to_value(&body).unwrap();
    let signoffs: Vec<Vec<u8>> =
        FOUR.iter().map(|m| signed(SIGN_OFF, "stroke", m, body.clone()).to_bytes()).collect();
    let none = Opening::make(&signoffs, &Tree::new(), world.log.roster());
    assert!(none.is_ok_and(|o| o.base == 0), "nobody has cosigned anything");
    let claim = world.checkpoint().to_note();
    let said = SignOff { term: 1, next: second(), address: "hub.example:1".to_owned(), claim: Some(claim) };
    let said = canon::to_value(&said).unwrap();
    let signoffs: Vec<Vec<u8>> =
        FOUR.iter().map(|m| signed(SIGN_OFF, "stroke", m, said.clone()).to_bytes()).collect();
    let opening = Opening::make(&signoffs, world.log.tree(), world.log.roster()).unwrap();
    world.say(signed(OPEN, "stroke", "gb", canon::to_value(&opening).unwrap()));
    assert_eq!(world.log.roster().term, 2);
}

#[test]
fn each_hub_is_convicted_for_its_own_term_whichever_serves_since() {
    let mut world = world();
    let before = world.log.roster().clone();
    hand_over(&mut world);
    let size = world.log.size();
    let (first, next) = (key(HUB, "key"), key("second", "key"));
    for (by, term) in [(&first, 1), (&next, 2)] {
        let claim = two_roots(40, by);
        let guilt = judged(&world, &claim, size).unwrap();
        assert_eq!((guilt.who.as_str(), guilt.term, guilt.key), ("hub", term, by.public()));
        assert!(guilt.stands_in(world.log.roster()));
        assert_eq!(guilt.stands_in(&before), term == 1, "the second is no hub of the record before");
    }
    // What proves that the second is a hub belongs to the file; the first is in the charter.
    assert_eq!(judged_alone(&world, &two_roots(40, &next)), None);
    assert_eq!(judged_alone(&world, &two_roots(40, &first)).unwrap().term, 1);
    // What one said does not bind the other.
    let claim =
        Claim::TwoRoots { one: note(40, "one", &first).to_note(), other: note(40, "other", &next).to_note() };
    assert_eq!(judged(&world, &claim, size), None);
}

fn with_line(mut note: SignedCheckpoint, who: &str, by: &SecretKey, seconds: u64, roster: &Roster) -> String {
    let line = Cosignature::sign(note.checkpoint(), who, seconds, by).unwrap();
    note.add(line, roster).unwrap();
    note.to_note()
}

/// `gb` changes its cosign key; gives the size up to which the old one counts, and the new one.
fn cosign_rotated(world: &mut World) -> (u64, SecretKey) {
    let old_era = world.log.size();
    let (new, cosign) = (key("gb", "next"), key("gb", "cosign2"));
    world.say(rotate("gb", &new, Digest::of(b"after"), None, Some(&cosign)));
    world.say(vote("it", "after"));
    assert_eq!(world.log.roster().keys("gb").unwrap().cosign, cosign.public());
    (old_era, cosign)
}

#[test]
fn a_cosigner_of_both_histories_is_named_under_the_key_it_had_at_that_size() {
    let mut world = world();
    let (old_era, new) = cosign_rotated(&mut world);
    let (size, hub, old) = (world.log.size(), key(HUB, "key"), key("gb", "cosign"));
    let roster = world.log.roster().clone();
    for (at, right, wrong) in [(old_era, &old, &new), (size, &new, &old)] {
        let both = |by: &SecretKey| {
            let line = |mark: &str| {
                let mut text = note(at, mark, &hub).to_note();
                let line = Cosignature::sign(note(at, mark, &hub).checkpoint(), "gb", 5, by).unwrap();
                text.push_str(&line.to_line());
                text
            };
            Claim::TwoRoots { one: line("one"), other: line("other") }
        };
        let guilt = judged(&world, &both(right), size).unwrap();
        assert_eq!(guilt.accomplices.into_iter().collect::<Vec<_>>(), ["gb"], "at {at}");
        let guilt = judged(&world, &both(wrong), size).unwrap();
        assert!(guilt.accomplices.is_empty(), "at {at}: a key that counted then no more, or not yet");
    }
    // The file's own changes decide, so one without the rotation convicts for what was before it alone.
    let line = |at, mark: &str, by| with_line(note(at, mark, &hub), "gb", by, 5, &roster);
    for (at, by, named) in [(old_era, &old, 1), (size, &new, 0)] {
        let claim = Claim::TwoRoots { one: line(at, "one", by), other: line(at, "other", by) };
        // A line under a key that the file does not know makes it no evidence.
        let alone = judged_alone(&world, &claim).map_or(0, |guilt| guilt.accomplices.len());
        assert_eq!(alone, named, "at {at}");
        assert_eq!(judged(&world, &claim, size).unwrap().accomplices.len(), 1, "at {at}");
    }
}

#[test]
fn a_promise_is_overdue_by_clocks_of_cosigners_whose_keys_have_changed_since() {
    let mut world = world();
    let receipt =
        Receipt::sign(Digest::of(b"promised"), 40, "comity/stroke", world.clock, &key(HUB, "key")).unwrap();
    let late = (receipt.promised_by / 1000) as u64 + 61;
    let (old_era, new) = cosign_rotated(&mut world);
    let size = world.log.size();
    let roster = world.log.roster().clone();
    for (at, gb) in [(old_era, key("gb", "cosign")), (size, new)] {
        let mut note = note(at, "the log", &key(HUB, "key"));
        for (who, by) in [("gb", &gb), ("it", &key("it", "cosign"))] {
            let line = Cosignature::sign(note.checkpoint(), who, late, by).unwrap();
            assert!(note.add(line, &roster).unwrap());
        }
        let claim = Claim::Overdue { checkpoint: note.to_note(), receipt: receipt.clone() };
        assert_eq!(judged(&world, &claim, size).unwrap().who, "hub", "at {at}");
        // As short as it convicts it keeps the cosignatures, since they convict.
        let short = Evidence::new(charter(&world), claim).with(changes(&world, size)).short();
        assert!(short.verify(Some(world.charter_digest())).is_ok());
    }
}

#[test]
fn a_member_is_convicted_under_the_key_it_signed_with_and_not_under_the_one_after() {
    let mut world = world();
    let before = world.log.size();
    let (old, new) = (key("gb", "sign"), key("gb", "next"));
    world.say(rotate("gb", &new, Digest::of(b"after"), None, None));
    let size = world.log.size();
    let leaves = [leaf_hash(b"right"), leaf_hash(b"other")];
    let tree = Tree::from_leaf_hashes(leaves);
    let wrong = |by: &SecretKey| {
        let answer = Attested {
            from: 0,
            leaves: vec![leaf_hash(b"wrong")],
            member: "gb".to_owned(),
            origin: "comity/stroke".to_owned(),
            root: tree.root(),
            size: 2,
            signature: None,
        };
        let proof = tree.prove_inclusion(0, 2).unwrap();
        Claim::WrongEntry { answer: answer.sign(by).unwrap(), index: 0, leaf: leaves[0], proof }
    };
    for (by, upto, other) in [(&old, before, size), (&new, size, before)] {
        let guilt = judged(&world, &wrong(by), upto).unwrap();
        assert_eq!((guilt.who.as_str(), guilt.term, guilt.key), ("gb", 0, by.public()));
        assert!(guilt.stands_in(world.log.roster()), "the record knows the key that was and the one that is");
        assert_eq!(judged(&world, &wrong(by), other), None);
    }
    // A rotation that is on no record: the file is whole in itself, and the key nobody's that the record knows.
    let stray = key("it", "next");
    let said = rotate("it", &stray, Digest::of(b"after"), None, None);
    let entry = String::from_utf8(Entry::new(world.clock, said).to_bytes()).unwrap();
    let mut all = changes(&world, size);
    all.push(Changed { entry, index: size });
    let Claim::WrongEntry { answer, index, leaf, proof } = wrong(&stray) else { unreachable!() };
    let answer = Attested { member: "it".to_owned(), ..answer }.sign(&stray).unwrap();
    let evidence = Evidence::new(charter(&world), Claim::WrongEntry { answer, index, leaf, proof }).with(all);
    let guilt = evidence.verify(Some(world.charter_digest())).unwrap();
    assert!(!guilt.stands_in(world.log.roster()));
}

#[test]
fn as_short_as_it_convicts_a_file_has_no_cosignature_that_convicts_nobody() {
    let world = world();
    let (hub, roster) = (key(HUB, "key"), world.log.roster());
    let claim = Claim::TwoRoots {
        one: with_line(note(40, "one", &hub), "gb", &key("gb", "cosign"), 5, roster),
        other: with_line(note(40, "other", &hub), "gb", &key("gb", "cosign"), 5, roster),
    };
    let whole = Evidence::new(charter(&world), claim);
    let short = whole.clone().short();
    assert!(short.write().unwrap().len() < whole.write().unwrap().len());
    let (long, guilt) = (whole.verify(None).unwrap(), short.verify(None).unwrap());
    assert_eq!((&guilt.who, guilt.term, &guilt.what), (&long.who, long.term, &long.what));
    assert_eq!((long.accomplices.len(), guilt.accomplices.len()), (1, 0));
}

/// Four began, seven there are; of these two may lie, and two do. By their clocks alone an honest hub's log had not grown.
#[test]
fn a_file_that_leaves_out_who_joined_convicts_no_honest_hub_by_the_record() {
    let mut world = world();
    for (id, by) in [("no", &FOUR[..3]), ("pl", &FOUR[..]), ("nl", &FOUR[..])] {
        let change = join(&world, id);
        decide(&mut world, &change, by);
    }
    let roster = world.log.roster().clone();
    assert_eq!((roster.members.len(), roster.f), (7, 2));
    let mut old = world.checkpoint();
    let said = vote("it", "aspirin");
    let (size, by) = (world.log.size(), world.clock + 1000);
    let receipt = Receipt::sign(said.id(), size, "comity/stroke", by, &key(HUB, "key")).unwrap();
    world.say(said);
    let late = (receipt.promised_by / 1000) as u64 + 62;
    for (number, liar) in ["gb", "se", "ch"].into_iter().enumerate() {
        let line = Cosignature::sign(old.checkpoint(), liar, late, &key(liar, "cosign")).unwrap();
        old.add(line, &roster).unwrap();
        let claim = Claim::Overdue { checkpoint: old.to_note(), receipt: receipt.clone() };
        let file = Evidence::new(charter(&world), claim);
        // By the count of the charter one may lie, by that of the record two.
        let guilt = file.verify(Some(world.charter_digest()));
        assert_eq!(guilt.is_ok(), number > 0);
        assert_eq!(guilt.is_ok_and(|guilt| file.stands_in(&guilt, &roster)), number > 1);
    }
}
