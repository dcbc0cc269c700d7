//! Changes of members and keys: who may make them, who seals them, and what a replay does.

use std::collections::BTreeMap;

use proptest::prelude::*;
use record::canon::{self, Value};
use record::roster::{ACCEPT, CHANGE, LEAVE, REAFFIRM, ROTATE, consent};
use record::{
    Change, Checkpoint, Cosignature, Digest, EntryBytes, Roster, Rotate, SecretKey, SignedCheckpoint,
    SignedStatement, Standing,
};

use crate::federation::{
    HUB, World, charter, digest_of, key, member, propose, public, sign, signed, statement, vote,
};

pub const FOUR: [&str; 4] = ["gb", "it", "ch", "se"];

/// A member document with a commitment to its next key.
fn committed(id: &str, generation: &str) -> Value {
    let Value::Map(mut doc) = member(id) else { panic!("a map") };
    let next = Digest::of(public(id, generation).as_bytes());
    doc.insert("next".to_owned(), Value::Str(next.to_string()));
    Value::Map(doc)
}

/// Four members, each committed to its next key.
pub fn world() -> World {
    let mut charter = charter(&FOUR);
    let members = FOUR.iter().map(|id| committed(id, "next")).collect();
    charter.insert("members".to_owned(), Value::List(members));
    let mut world = World {
        members: FOUR.iter().map(|m| (*m).to_owned()).collect(),
        clock: 1_700_000_000_000,
        ..World::default()
    };
    world.say(propose("gb", &charter));
    FOUR.iter().for_each(|id| world.say(sign(id, digest_of(&charter))));
    world
}

fn body_of<T: serde::Serialize>(name: &str, value: &T) -> Value {
    Value::Map(BTreeMap::from([(name.to_owned(), canon::to_value(value).unwrap())]))
}

fn change(by: &str, change: &Change) -> SignedStatement {
    signed(CHANGE, "members", by, body_of("change", change))
}

fn accept(by: &str, proposal: Digest) -> SignedStatement {
    signed(ACCEPT, "members", by, body_of("proposal", &proposal))
}

fn document(world: &World, id: &str, doc: &Value) -> (Value, record::Signature) {
    let by = key(id, "sign").sign(&consent(&world.charter_digest(), doc).unwrap());
    (doc.clone(), by)
}

pub fn join(world: &World, id: &str) -> Change {
    let (member, consent) = document(world, id, &member(id));
    Change::Join { member, consent }
}

pub fn rotate(
    id: &str,
    new: &SecretKey,
    next: Digest,
    since: Option<u64>,
    cosign: Option<&SecretKey>,
) -> SignedStatement {
    let body = Rotate {
        sign: new.public(),
        next,
        cosign: cosign.map(SecretKey::public),
        cosign_ml: None,
        tls: None,
        compromised_since: since,
    };
    SignedStatement::sign(statement(ROTATE, id, id, canon::to_value(&body).unwrap()), new).unwrap()
}

/// The change, proposed by the first and accepted by the others named.
pub fn decide(world: &mut World, change_: &Change, by: &[&str]) -> Digest {
    let proposal = change(by[0], change_);
    let id = proposal.id();
    world.say(proposal);
    by[1..].iter().for_each(|m| world.say(accept(m, id)));
    id
}

pub fn cosigned(world: &World, by: &[(&str, &SecretKey)]) -> SignedCheckpoint {
    let mut note = world.checkpoint();
    for (party, key) in by {
        let line = Cosignature::sign(note.checkpoint(), party, 1_700_000_100, key).unwrap();
        note.add(line, world.log.roster()).unwrap();
    }
    note
}

fn in_force(world: &World, note: &SignedCheckpoint, above: u64) -> bool {
    matches!(world.log.standing_above(note, above).unwrap(), Standing::InForce(_))
}

#[test]
fn a_change_is_sealed_by_those_who_counted_before_it_and_those_who_count_after() {
    let mut world = world();
    let above = world.log.size();
    let joins = join(&world, "fr");
    decide(&mut world, &joins, &["gb", "it", "ch"]);
    assert_eq!(world.log.roster().eras.len(), 2);
    let keys: BTreeMap<&str, SecretKey> =
        ["gb", "it", "ch", "se", "fr"].map(|id| (id, key(id, "cosign"))).into();
    let by =
        |ids: &[&'static str]| -> Vec<(&str, &SecretKey)> { ids.iter().map(|id| (*id, &keys[id])).collect() };
    // Of five with one liar four must; of the four before, three.
    assert!(!in_force(&world, &cosigned(&world, &by(&["gb", "it", "fr"])), above), "too few of the old");
    assert!(!in_force(&world, &cosigned(&world, &by(&["gb", "it", "ch"])), above), "too few of the new");
    assert!(in_force(&world, &cosigned(&world, &by(&["gb", "it", "ch", "fr"])), above));
    // Without the old ones the new set puts nothing in force, however many they are.
    let mut small = self::world();
    let above = small.log.size();
    for id in ["se", "ch"] {
        let expel = Change::Expel { member: id.to_owned() };
        let by: Vec<&str> = FOUR
            .iter()
            .copied()
            .filter(|m| *m != id && small.log.roster().members.contains_key(*m))
            .collect();
        decide(&mut small, &expel, &by);
    }
    assert_eq!(small.log.roster().members.len(), 2);
    assert!(!in_force(&small, &cosigned(&small, &by(&["gb", "it"])), above), "two of the old four");
    assert!(in_force(&small, &cosigned(&small, &by(&["gb", "it", "ch"])), above));
}

#[test]
fn nobody_changes_another_alone_and_whoever_is_decided_about_has_no_say() {
    let mut world = world();
    for change in [Change::Expel { member: "se".to_owned() }, Change::Suspend { member: "se".to_owned() }] {
        let id = decide(&mut world, &change, &["gb"]);
        world.say(accept("se", id));
        assert!(matches!(world.log.voids()[&(world.log.size() - 1)], record::Why::Change(_)));
        world.say(accept("gb", id));
        assert!(world.log.voids().contains_key(&(world.log.size() - 1)), "one voice counts once");
        assert!(world.log.roster().members.contains_key("se"));
    }
    let id = decide(&mut world, &Change::Suspend { member: "se".to_owned() }, &["gb", "it", "ch"]);
    assert!(world.log.roster().proposals[&id].done.is_some());
    assert!(world.log.roster().suspended.contains_key("se"));
    decide(&mut world, &Change::Reinstate { member: "se".to_owned() }, &["gb", "it", "ch"]);
    assert!(world.log.roster().members.contains_key("se") && world.log.roster().suspended.is_empty());
}

#[test]
fn without_its_own_consent_nobody_joins_and_no_key_comes_back_as_anothers() {
    let mut world = world();
    let Change::Join { member: doc, .. } = join(&world, "fr") else { panic!() };
    let forged = key("gb", "sign").sign(&consent(&world.charter_digest(), &doc).unwrap());
    world.say(change("gb", &Change::Join { member: doc, consent: forged }));
    assert!(world.log.voids().contains_key(&(world.log.size() - 1)));
    // Another federation's charter is another consent.
    let elsewhere = key("fr", "sign").sign(&consent(&Digest::of(b"other"), &member("fr")).unwrap());
    world.say(change("gb", &Change::Join { member: member("fr"), consent: elsewhere }));
    assert!(world.log.voids().contains_key(&(world.log.size() - 1)));
    let Value::Map(mut doc) = member("fr") else { panic!() };
    doc.insert("tls".to_owned(), Value::Str(public("se", "cosign").to_string()));
    let (member, consent) = document(&world, "fr", &Value::Map(doc));
    world.say(change("gb", &Change::Join { member, consent }));
    assert!(world.log.voids().contains_key(&(world.log.size() - 1)), "a key of another");
}

#[test]
fn a_stolen_sign_key_cannot_rotate_and_the_committed_one_can() {
    let mut world = world();
    let thief = rotate("gb", &key("thief", "sign"), Digest::of(b"x"), None, None);
    world.say(thief);
    assert!(world.log.voids().contains_key(&(world.log.size() - 1)));
    let (old, new) = (key("gb", "sign"), key("gb", "next"));
    world.say(rotate("gb", &new, Digest::of(public("gb", "third").as_bytes()), None, None));
    assert_eq!(world.log.roster().keys("gb").unwrap().sign, new.public());
    world.say(SignedStatement::sign(vote("gb", "aspirin").statement().clone(), &old).unwrap());
    assert_eq!(world.log.voids()[&(world.log.size() - 1)], record::Why::NotSigned("gb".to_owned()));
    world.say(SignedStatement::sign(vote("gb", "aspirin").statement().clone(), &new).unwrap());
    assert!(!world.log.voids().contains_key(&(world.log.size() - 1)));
}

#[test]
fn while_a_cosign_key_changes_the_checkpoint_over_it_needs_both() {
    let mut world = world();
    let above = world.log.size();
    let cosign = key("gb", "cosign-2");
    world.say(rotate("gb", &key("gb", "next"), Digest::of(b"x"), None, Some(&cosign)));
    let [old, it, ch] = ["gb", "it", "ch"].map(|id| key(id, "cosign"));
    assert!(!in_force(&world, &cosigned(&world, &[("gb", &cosign), ("it", &it), ("ch", &ch)]), above));
    assert!(!in_force(&world, &cosigned(&world, &[("gb", &old), ("it", &it), ("ch", &ch)]), above));
    assert!(in_force(
        &world,
        &cosigned(&world, &[("gb", &old), ("gb", &cosign), ("it", &it), ("ch", &ch)]),
        above
    ));
    // Above the seal the old one counts for nothing.
    let sealed = world.log.size();
    world.say(vote("it", "aspirin"));
    assert!(!in_force(&world, &cosigned(&world, &[("gb", &old), ("it", &it), ("ch", &ch)]), sealed));
    assert!(in_force(&world, &cosigned(&world, &[("gb", &cosign), ("it", &it), ("ch", &ch)]), sealed));
}

#[test]
fn what_a_stolen_key_said_is_contested_until_its_member_stands_by_it_and_nothing_else_is() {
    let mut world = world();
    world.say(vote("gb", "before"));
    let since = world.log.size();
    world.say(vote("gb", "first"));
    world.say(vote("it", "not-theirs"));
    world.say(vote("gb", "second"));
    let new = key("gb", "next");
    world.say(rotate("gb", &new, Digest::of(b"x"), Some(since), None));
    let contested = |world: &World| -> Vec<u64> {
        (0..world.log.size()).filter(|i| world.log.roster().contested("gb", *i)).collect()
    };
    assert_eq!(contested(&world), [since, since + 1, since + 2]);
    assert!(!world.log.roster().contested("it", since + 1));
    let reaffirm = |by: &SecretKey, who: &str, at: u64| {
        let body = body_of("entries", &vec![at]);
        SignedStatement::sign(statement(REAFFIRM, who, who, body), by).unwrap()
    };
    world.say(reaffirm(&key("gb", "sign"), "gb", since));
    world.say(reaffirm(&key("it", "sign"), "it", since));
    assert_eq!(contested(&world).len(), 3, "neither the lost key nor another member can");
    world.say(reaffirm(&new, "gb", since));
    assert_eq!(contested(&world), [since + 1, since + 2]);
}

#[test]
fn a_member_that_lost_its_last_key_gets_new_ones_from_a_quorum_of_the_others() {
    let mut world = world();
    let Value::Map(mut doc) = member("gb") else { panic!() };
    for usage in ["sign", "cosign", "tls"] {
        doc.insert(usage.to_owned(), Value::Str(public("gb-again", usage).to_string()));
    }
    let doc = Value::Map(doc);
    let by = key("gb-again", "sign").sign(&consent(&world.charter_digest(), &doc).unwrap());
    let rekey = Change::Rekey { member: doc, consent: by, compromised_since: None };
    decide(&mut world, &rekey, &["it", "ch"]);
    assert_eq!(world.log.roster().keys("gb").unwrap().sign, public("gb", "sign"), "two are too few");
    let id = *world.log.roster().proposals.keys().next().unwrap();
    world.say(accept("se", id));
    assert_eq!(world.log.roster().keys("gb").unwrap().sign, public("gb-again", "sign"));
}

/// A statement that some member might make about members and keys.
fn step(world: &World, kind: u8, by: &str, about: &str) -> SignedStatement {
    match kind % 6 {
        0 => change(by, &Change::Suspend { member: about.to_owned() }),
        1 => change(by, &Change::Reinstate { member: about.to_owned() }),
        2 => change(by, &Change::Expel { member: about.to_owned() }),
        3 => signed(LEAVE, by, by, Value::Map(BTreeMap::new())),
        4 => rotate(by, &key(by, "next"), Digest::of(b"later"), Some(0), None),
        _ => {
            let waiting = world.log.roster().proposals.iter().filter(|(_, p)| p.done.is_none());
            let id =
                waiting.map(|(id, _)| *id).nth(usize::from(kind) % 3).unwrap_or_else(|| Digest::of(b"none"));
            accept(by, id)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is said by whom: the fold from the start is the fold step by step, no past era changes, one voice alone
    /// changes nobody else, and a statement said again changes nothing.
    #[test]
    fn a_replay_changes_nothing_and_no_one_voice_changes_another(steps in prop::collection::vec((0u8..18, 0usize..4, 0usize..4), 1..24)) {
        let mut world = world();
        for (kind, by, about) in steps {
            let said = step(&world, kind, FOUR[by], FOUR[about]);
            let before = world.log.roster().clone();
            world.say(said.clone());
            let after = world.log.roster().clone();
            prop_assert_eq!(&after.eras[..before.eras.len().min(after.eras.len())], &before.eras[..]);
            for id in FOUR.iter().filter(|id| **id != FOUR[by]) {
                if before.keys(id) != after.keys(id) || before.members.contains_key(*id) != after.members.contains_key(*id) {
                    let done = after.proposals.values().find(|p| p.done == Some(world.log.size() - 1));
                    let voices = done.map_or(0, |p| p.accepted.len());
                    let others = before.members.keys().filter(|m| m != id).count();
                    prop_assert!(voices >= others.min(2), "{voices} of {others}");
                }
            }
            world.say(said);
            let again = world.log.roster();
            prop_assert_eq!((&again.members, &again.suspended, &again.eras), (&after.members, &after.suspended, &after.eras));
        }
        let entries = world.log.entries().iter().map(EntryBytes::entry);
        prop_assert_eq!(&Roster::fold(entries).0, world.log.roster());
    }
}

#[test]
fn a_checkpoint_by_the_hub_is_of_the_era_of_its_size() {
    let mut world = world();
    let size = world.log.size();
    let root = world.log.tree().root();
    let joins = join(&world, "fr");
    decide(&mut world, &joins, &["gb", "it", "ch"]);
    // One of before the change, shown after it, still counts by those who counted then.
    let mut note = Checkpoint::new("comity/stroke", size, root).unwrap().sign(&key(HUB, "key"));
    for id in ["gb", "it", "se"] {
        let line = Cosignature::sign(note.checkpoint(), id, 1, &key(id, "cosign")).unwrap();
        note.add(line, world.log.roster()).unwrap();
    }
    assert!(in_force(&world, &note, 0));
    let line = Cosignature::sign(note.checkpoint(), "fr", 1, &key("fr", "cosign")).unwrap();
    note.add(line, world.log.roster()).unwrap();
    let Standing::InForce(evidence) = world.log.standing_above(&note, 0).unwrap() else { panic!() };
    assert!(!evidence.cosigned().contains_key("fr"), "who joined later does not count for what was before");
}
