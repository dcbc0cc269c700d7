//! Who counts for a checkpoint: organisations once each, witnesses for checkpoints alone, groups, two kinds of key.

use std::collections::BTreeMap;

use record::canon::{self, Value};
use record::checkpoint::{CosignKeys, Cosignature};
use record::{Log, MlSecretKey, Roster, SignedCheckpoint, Why};

use crate::federation::*;

/// A member's document with more in it.
fn with(id: &str, more: &[(&str, String)]) -> Value {
    let Value::Map(mut map) = member(id) else { unreachable!() };
    map.extend(more.iter().map(|(k, v)| ((*k).to_owned(), Value::Str(v.clone()))));
    Value::Map(map)
}

fn of(members: Vec<Value>, more: &[(&str, Value)]) -> BTreeMap<String, Value> {
    let mut charter = charter(&[]);
    charter.insert("members".to_owned(), Value::List(members));
    charter.extend(more.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
    charter
}

fn witness(name: &str) -> Value {
    text(&[
        ("name", name.to_owned()),
        ("operator", format!("who runs {name}")),
        ("key", public(name, "cosign").to_string()),
        ("url", "https://witness.example".to_owned()),
    ])
}

fn log_of(charter: &BTreeMap<String, Value>, members: &[&str]) -> World {
    let mut world = World {
        members: members.iter().map(|m| (*m).to_owned()).collect(),
        clock: 1_700_000_000_000,
        ..World::default()
    };
    world.say(propose(members[0], charter));
    for member in members {
        world.say(sign(member, digest_of(charter)));
    }
    world
}

fn cosigned_by(world: &World, names: &[&str]) -> SignedCheckpoint {
    let mut checkpoint = world.checkpoint();
    for name in names {
        let line =
            Cosignature::sign(checkpoint.checkpoint(), name, 1_700_000_900, &key(name, "cosign")).unwrap();
        checkpoint.add(line, world.log.roster()).unwrap();
    }
    checkpoint
}

fn in_force(log: &Log, checkpoint: &SignedCheckpoint) -> bool {
    log.standing(checkpoint).unwrap().in_force().is_some()
}

#[test]
fn two_seats_of_one_operator_count_once() {
    let same = |id: &str| with(id, &[("control", "One Trust".to_owned())]);
    let charter = of(vec![same("a"), same("b"), member("c"), member("d")], &[]);
    let world = log_of(&charter, &["a", "b", "c", "d"]);
    let roster = world.log.roster();
    assert_eq!((roster.electorate().unwrap().organisations(), roster.f, roster.quorum()), (3, 0, 2));
    assert!(!in_force(&world.log, &cosigned_by(&world, &["a", "b"])), "one organisation, twice");
    assert!(in_force(&world.log, &cosigned_by(&world, &["a", "c"])));
}

#[test]
fn witnesses_count_for_a_small_federation_and_never_without_most_members() {
    let witnesses = Value::List(vec![witness("regulator.example/w"), witness("university.example/w")]);
    let charter = of(vec![member("a"), member("b"), member("c")], &[("witnesses", witnesses)]);
    let world = log_of(&charter, &["a", "b", "c"]);
    // Five organisations, one liar: any four, so that one member or one witness may be away.
    assert_eq!((world.log.roster().f, world.log.roster().quorum()), (1, 4));
    let (w, u) = ("regulator.example/w", "university.example/w");
    assert!(in_force(&world.log, &cosigned_by(&world, &["a", "b", "c", w])));
    assert!(in_force(&world.log, &cosigned_by(&world, &["a", "b", w, u])));
    assert!(!in_force(&world.log, &cosigned_by(&world, &["a", "b", "c"])));
    assert!(!in_force(&world.log, &cosigned_by(&world, &["a", w, u])));
    // A witness speaks for nobody: no statement of it counts, and it decides on no member.
    let electorate = world.log.roster().electorate().unwrap();
    let names = ["a".to_owned(), w.to_owned(), u.to_owned()].into();
    assert!(!electorate.decides(&names, None));
}

#[test]
fn nested_groups_are_a_condition_beside_the_quorum() {
    let group = |need: i64, of: Vec<Value>| {
        Value::Map(BTreeMap::from([
            ("need".to_owned(), Value::Int(need)),
            ("of".to_owned(), Value::List(of)),
        ]))
    };
    let name = |n: &str| Value::Str(n.to_owned());
    let (w, u) = ("regulator.example/w", "university.example/w");
    let groups =
        group(2, vec![group(2, vec![name("a"), name("b"), name("c")]), group(1, vec![name(w), name(u)])]);
    let cosigning = Value::Map(BTreeMap::from([("groups".to_owned(), groups)]));
    let witnesses = Value::List(vec![witness(w), witness(u)]);
    let more = [("witnesses", witnesses.clone()), ("cosigning", cosigning), ("faults", Value::Int(0))];
    let charter = of(vec![member("a"), member("b"), member("c")], &more);
    let world = log_of(&charter, &["a", "b", "c"]);
    assert_eq!(world.log.roster().quorum(), 3);
    assert!(!in_force(&world.log, &cosigned_by(&world, &["a", "b", "c"])), "no witness");
    assert!(in_force(&world.log, &cosigned_by(&world, &["a", "c", u])));
    // A name that nobody has, a number that cannot be reached, a name twice: no charter.
    for bad in [
        group(1, vec![name("nobody")]),
        group(3, vec![name("a"), name("b")]),
        group(0, vec![name("a")]),
        group(2, vec![name("a"), name("a")]),
    ] {
        let cosigning = Value::Map(BTreeMap::from([("groups".to_owned(), bad)]));
        let charter = of(vec![member("a"), member("b"), member("c")], &[("cosigning", cosigning)]);
        assert!(matches!(Roster::of_charter(&Value::Map(charter)), Err(Why::Charter(_))));
    }
}

#[test]
fn a_witness_cannot_pass_for_a_member_nor_share_a_key() {
    let named_as_member = text(&[
        ("name", "a".to_owned()),
        ("operator", "X".to_owned()),
        ("key", public("x", "cosign").to_string()),
        ("url", "https://x".to_owned()),
    ]);
    let shares = text(&[
        ("name", "x.example/w".to_owned()),
        ("operator", "X".to_owned()),
        ("key", public("a", "cosign").to_string()),
        ("url", "https://x".to_owned()),
    ]);
    for bad in [named_as_member, shares] {
        let charter = of(vec![member("a"), member("b")], &[("witnesses", Value::List(vec![bad]))]);
        assert!(matches!(Roster::of_charter(&Value::Map(charter)), Err(Why::Charter(_))));
    }
}

fn ml(id: &str) -> MlSecretKey {
    MlSecretKey::from_seed(*record::Digest::of(format!("ml\n{id}").as_bytes()).as_bytes())
}

fn hybrid() -> World {
    let post = |id: &str| with(id, &[("cosign_ml", ml(id).public().to_string())]);
    let cosigning = text(&[("scheme", "hybrid".to_owned())]);
    let charter = of(vec![post("a"), post("b"), post("c"), post("d")], &[("cosigning", cosigning)]);
    log_of(&charter, &["a", "b", "c", "d"])
}

#[test]
fn in_a_hybrid_scheme_only_both_kinds_of_cosignature_count() {
    let world = hybrid();
    let roster = world.log.roster();
    assert!(!in_force(&world.log, &cosigned_by(&world, &["a", "b", "c", "d"])), "Ed25519 alone");
    let mut checkpoint = world.checkpoint();
    for (at, id) in ["a", "b", "c"].into_iter().enumerate() {
        assert!(!in_force(&world.log, &checkpoint), "{at} of three");
        let (sign, post) = (key(id, "cosign"), ml(id));
        let keys = CosignKeys { key: &sign, ml: Some(&post) };
        let (lines, _) = world.log.cosign(&checkpoint, id, keys, world.clock, None).unwrap();
        assert_eq!(lines.len(), 2);
        for line in lines {
            assert!(checkpoint.add(line, roster).unwrap());
        }
    }
    assert!(in_force(&world.log, &checkpoint));
    let note = checkpoint.to_note();
    assert_eq!(SignedCheckpoint::parse(&note).unwrap(), checkpoint);
    // Post-quantum lines alone do not count either, and neither does one under a name that it was not made for.
    let mut alone = world.checkpoint();
    for id in ["a", "b", "c"] {
        alone.add(Cosignature::sign_ml(alone.checkpoint(), id, 7, &ml(id)).unwrap(), roster).unwrap();
    }
    assert!(!in_force(&world.log, &alone));
    let stolen = Cosignature::sign_ml(alone.checkpoint(), "d", 7, &ml("a")).unwrap();
    alone.add(stolen, roster).unwrap_err();
}

#[test]
fn a_hybrid_charter_whose_member_has_no_post_quantum_key_is_refused() {
    let cosigning = text(&[("scheme", "hybrid".to_owned())]);
    let charter = of(vec![member("a"), member("b")], &[("cosigning", cosigning)]);
    assert!(matches!(Roster::of_charter(&Value::Map(charter)), Err(Why::Charter(_))));
}

/// What an ML-DSA-44 cosigner signs, put together by hand from C2SP tlog-cosignature.
#[test]
fn a_post_quantum_cosignature_is_what_the_specification_says() {
    let world = hybrid();
    let checkpoint = world.checkpoint();
    let line = Cosignature::sign_ml(checkpoint.checkpoint(), "a", 0x0102_0304, &ml("a")).unwrap().to_line();
    let encoded = line.strip_prefix("— a ").and_then(|l| l.strip_suffix('\n')).unwrap();
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let bytes = BASE64_STANDARD.decode(encoded).unwrap();
    assert_eq!(bytes.len(), 4 + 8 + 2420);
    let public = ml("a").public();
    use sha2::Digest as _;
    let id = sha2::Sha256::digest([b"a\n\x06".as_slice(), public.as_bytes()].concat());
    assert_eq!(bytes[..4], id[..4], "key id");
    assert_eq!(bytes[4..12], 0x0102_0304_u64.to_be_bytes(), "time");
    let mut message = b"subtree/v1\n\0\x01a".to_vec();
    message.extend(0x0102_0304_u64.to_be_bytes());
    message.push(13);
    message.extend(b"comity/stroke");
    message.extend(0_u64.to_be_bytes());
    message.extend(world.log.size().to_be_bytes());
    message.extend(world.log.tree().root().as_bytes());
    let key = ml_dsa::EncodedVerifyingKey::<ml_dsa::MlDsa44>::try_from(public.as_bytes()).unwrap();
    let key = ml_dsa::VerifyingKey::<ml_dsa::MlDsa44>::decode(&key);
    let signature = ml_dsa::Signature::<ml_dsa::MlDsa44>::try_from(&bytes[12..]).unwrap();
    assert!(key.verify_with_context(&message, b"", &signature));
    *message.last_mut().unwrap() ^= 1;
    assert!(!key.verify_with_context(&message, b"", &signature));
}

#[test]
fn every_changed_byte_of_a_post_quantum_line_is_refused() {
    let world = hybrid();
    let checkpoint = world.checkpoint();
    let good = Cosignature::sign_ml(checkpoint.checkpoint(), "a", 7, &ml("a")).unwrap().to_line();
    for at in (0..good.len()).step_by(7) {
        let mut bytes = good.clone().into_bytes();
        bytes[at] ^= 1;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        let Ok(line) = Cosignature::from_line(&text) else { continue };
        checkpoint.clone().add(line, world.log.roster()).unwrap_err();
    }
    assert!(checkpoint.clone().add(Cosignature::from_line(&good).unwrap(), world.log.roster()).unwrap());
}

#[test]
fn charters_with_the_new_fields_read_as_what_they_are() {
    let bytes =
        canon::to_bytes(&of(vec![with("a", &[("endpoint", "not an endpoint".to_owned())])], &[])).unwrap();
    let value: Value = canon::from_bytes(&bytes).unwrap();
    assert!(matches!(Roster::of_charter(&value), Err(Why::Charter(_))));
    let good = of(vec![with("a", &[("endpoint", "a.example:7443".to_owned())])], &[]);
    let roster = Roster::of_charter(&Value::Map(good)).unwrap();
    assert_eq!(roster.members["a"].endpoint.as_deref(), Some("a.example:7443"));
}
