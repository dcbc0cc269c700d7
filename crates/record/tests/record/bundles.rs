use std::collections::BTreeMap;

use record::canon::Value;
use record::{Bundle, BundleError, Digest, Entry, Finding, Pin, SecretKey};

use crate::federation::{World, key, signed, text, vote};

fn world() -> World {
    let mut world = World::new(&["gb", "it"]);
    world.say(vote("it", "aspirin"));
    world
}

fn findings(bundle: &Bundle, pin: Option<Digest>) -> Vec<Finding> {
    bundle.verify_container(pin).expect_err("a broken bundle was accepted")
}

#[test]
fn a_bundle_verifies_from_its_file_and_the_digest_of_the_charter() {
    let world = world();
    let file = world.bundle("aspirin", "it").write().unwrap();
    let bundle = Bundle::read(&file).unwrap();
    assert_eq!(bundle.write().unwrap(), file);
    let report = bundle.verify_container(Some(world.charter_digest())).unwrap();
    assert_eq!(report.pin, Pin::Pinned);
    assert_eq!((report.in_force.size(), report.signatures), (4, 4));
    assert_eq!(report.study_entries, [3]);
    assert_eq!(report.charter, world.charter_digest());
    assert_eq!(report.last_time, world.clock);
    assert_eq!(report.in_force.cosigned().keys().collect::<Vec<_>>(), ["gb", "it"]);
    assert_eq!(report.entries.len(), 4);
}

#[test]
fn without_the_charters_digest_a_bundle_is_unpinned_and_with_another_it_is_refused() {
    let world = world();
    let bundle = world.bundle("aspirin", "it");
    assert_eq!(bundle.verify_container(None).unwrap().pin, Pin::Unpinned);
    let pinned = Digest::of(b"another charter");
    let found = world.charter_digest();
    assert_eq!(findings(&bundle, Some(pinned)), [Finding::OtherCharter { pinned, found }]);
}

#[test]
fn any_changed_byte_of_the_file_is_found() {
    let world = world();
    let file = world.bundle("aspirin", "it").write().unwrap();
    assert!(file.len() < 20_000, "{} bytes: small enough to change each", file.len());
    let pin = Some(world.charter_digest());
    for at in 0..file.len() {
        let mut changed = file.clone();
        changed[at] ^= 1 << (at % 8);
        let accepted = Bundle::read(&changed).is_ok_and(|b| b.verify_container(pin).is_ok());
        assert!(!accepted, "byte {at} changed, nothing found");
        if at % 16 == 0 {
            // And with the byte gone, or one more.
            let (mut less, mut more) = (file.clone(), file.clone());
            less.remove(at);
            more.insert(at, file[at]);
            for other in [less, more] {
                assert!(!Bundle::read(&other).is_ok_and(|b| b.verify_container(pin).is_ok()), "byte {at}");
            }
        }
    }
}

/// What the exporter itself changes, and signs again.
fn resigned(change: impl FnOnce(&mut Bundle)) -> Bundle {
    let mut bundle = world().bundle("aspirin", "it");
    change(&mut bundle);
    bundle.sign(&key("it", "sign")).unwrap();
    Bundle::read(&bundle.write().unwrap()).unwrap()
}

#[test]
fn a_lying_exporter_cannot_change_a_byte_of_an_entry() {
    let length = world().leaves[3].len();
    for at in (0..length).step_by(3) {
        let bundle = resigned(|b| b.entries[3][at] ^= 1 << (at % 7));
        let found = findings(&bundle, None);
        assert!(found.iter().any(|f| matches!(f, Finding::Altered { index: 3, .. })), "byte {at}: {found:?}");
        // Not even if it mends the leaf hash.
        let bundle = resigned(|b| {
            b.entries[3][at] ^= 1 << (at % 7);
            b.leaves[3] = record::tree::leaf_hash(&b.entries[3]);
        });
        assert!(findings(&bundle, None).iter().any(|f| matches!(f, Finding::Root { .. })), "byte {at}");
    }
}

#[test]
fn a_lying_exporter_cannot_change_a_character_of_the_checkpoint() {
    let length = world().bundle("aspirin", "it").checkpoint.len();
    for at in 0..length {
        let mut changed = false;
        let bundle = resigned(|b| {
            let mut bytes = b.checkpoint.clone().into_bytes();
            bytes[at] ^= 1 << (at % 5);
            if let Ok(text) = String::from_utf8(bytes) {
                b.checkpoint = text;
                changed = true;
            }
        });
        assert!(!changed || bundle.verify_container(None).is_err(), "byte {at}");
    }
}

#[test]
fn what_is_left_out_or_added_is_named() {
    let short = resigned(|b| {
        b.entries.pop();
        b.leaves.pop();
    });
    assert!(findings(&short, None).contains(&Finding::Size { size: 4, entries: 3 }));

    let hidden = resigned(|b| {
        b.entries.remove(2);
        b.leaves.remove(2);
    });
    assert!(findings(&hidden, None).contains(&Finding::CharterNotInForce { missing: vec!["it".to_owned()] }));

    let long = resigned(|b| {
        let entry = Entry::new(1_800_000_000_000, vote("gb", "aspirin")).to_bytes();
        b.leaves.push(record::tree::leaf_hash(&entry));
        b.entries.push(entry);
    });
    let found = findings(&long, None);
    assert!(found.contains(&Finding::Size { size: 4, entries: 5 }));
    assert!(found.contains(&Finding::Inclusion { index: 4 }));

    let swapped = resigned(|b| {
        b.entries.swap(1, 2);
        b.leaves.swap(1, 2);
    });
    assert!(findings(&swapped, None).iter().any(|f| f.to_string().contains("time went backwards")));

    let unequal = resigned(|b| b.leaves.truncate(3));
    assert!(findings(&unequal, None).contains(&Finding::Leaves { leaves: 3, entries: 4 }));

    let empty = resigned(|b| {
        b.entries.clear();
        b.leaves.clear();
    });
    assert!(findings(&empty, None).contains(&Finding::NoCharter));
}

#[test]
fn a_false_blob_a_missing_study_and_a_stranger_are_named() {
    let digest = Digest::of(b"a plan");
    let false_blob = resigned(|b| drop(b.blobs.insert(digest, b"another plan".to_vec())));
    assert_eq!(findings(&false_blob, None), [Finding::Blob { digest }]);

    let elsewhere = resigned(|b| b.study = "insulin".to_owned());
    assert_eq!(findings(&elsewhere, None), [Finding::NoStudy { study: "insulin".to_owned() }]);

    let stranger = resigned(|b| b.exported_by = "fr".to_owned());
    assert_eq!(findings(&stranger, None), [Finding::Exporter { exporter: "fr".to_owned() }]);

    let other_member = resigned(|b| b.exported_by = "gb".to_owned());
    assert_eq!(findings(&other_member, None), [Finding::Exporter { exporter: "gb".to_owned() }]);
}

#[test]
fn a_checkpoint_short_of_its_quorum_or_with_a_false_cosigner_is_named() {
    let world = world();
    let with = |checkpoint: String| resigned(move |b| b.checkpoint = checkpoint);
    let short = with(world.cosigned(1).to_note());
    assert_eq!(findings(&short, None), [Finding::Quorum { have: 1, need: 2 }]);
    let unsigned = with(world.checkpoint().to_note().replace("comity/stroke\n4", "comity/stroke\n5"));
    assert!(findings(&unsigned, None).iter().any(|f| f.to_string().contains("not signed by the hub")));
    // A cosigner's genuine line from another checkpoint.
    let mut later = world.clone();
    later.say(vote("gb", "aspirin"));
    let line = |w: &World, who: &str| {
        let note = w.cosigned(2).to_note();
        note.lines().find(|l| l.starts_with(&format!("— {who} "))).unwrap().to_owned()
    };
    let moved = with(world.cosigned(2).to_note().replace(&line(&world, "it"), &line(&later, "it")));
    let found = findings(&moved, None);
    assert!(found.iter().any(|f| f.to_string().contains("cosignature of `it`")), "{found:?}");
    assert!(found.contains(&Finding::Quorum { have: 1, need: 2 }));
}

#[test]
fn a_made_up_federation_of_the_same_names_is_caught_by_the_pin_alone() {
    // A whole record with other keys is consistent in itself: only the digest from elsewhere tells them apart.
    let world = world();
    let mut other = World::new(&["gb", "it", "se"]);
    other.say(vote("it", "aspirin"));
    let bundle = other.bundle("aspirin", "gb");
    assert_eq!(bundle.verify_container(None).unwrap().pin, Pin::Unpinned);
    assert!(
        findings(&bundle, Some(world.charter_digest()))
            .iter()
            .any(|f| matches!(f, Finding::OtherCharter { .. }))
    );
}

#[test]
fn void_statements_are_part_of_a_sound_record() {
    let mut world = world();
    world.say(signed("decision.vote@1", "decision-1", "fr", text(&[("study", "aspirin".to_owned())])));
    let report = world.bundle("aspirin", "it").verify_container(None).unwrap();
    assert_eq!(report.voids[&4].to_string(), "issuer `fr` is no member of the charter");
    assert_eq!(report.study_entries, [3, 4]);
}

#[test]
fn only_what_the_checkpoint_covers_is_exported() {
    let world = world();
    let checkpoint = world.cosigned(2);
    let key: SecretKey = key("it", "sign");
    let error =
        Bundle::export("aspirin", world.leaves[..3].to_vec(), &checkpoint, BTreeMap::new(), "it", 0, &key);
    assert_eq!(error, Err(BundleError::Size { entries: 3, size: 4 }));
}

#[test]
fn a_statement_concerns_its_subject_and_the_study_in_its_body() {
    let about = |subject: &str, study: &str| {
        signed("a.b@1", subject, "gb", text(&[("study", study.to_owned())])).statement().concerns("aspirin")
    };
    assert!(about("aspirin", "") && about("aspirin/round-1", "") && about("x", "aspirin"));
    assert!(!about("aspirin-2", "") && !about("x", "aspirin-2") && !about("an/aspirin", ""));
    assert!(!signed("a.b@1", "x", "gb", Value::Null).statement().concerns("aspirin"));
}

#[test]
fn a_file_of_another_form_is_refused() {
    let file = String::from_utf8(world().bundle("aspirin", "it").write().unwrap()).unwrap();
    let error = |text: String| Bundle::read(text.as_bytes()).unwrap_err().to_string();
    assert!(error(file.replace("comity-bundle/1", "comity-bundle/2")).contains("comity-bundle/2"));
    assert!(error(file.replace("\"study\":", "\"studies\":")).contains("cannot be read"));
    assert!(error(format!("{file}\n")).contains("end of the text"));
    assert!(error(file.replacen("\"entries\":[\"Y2", "\"entries\":[\"Y*", 1)).contains("entry 0"));
    assert!(error(String::new()).contains("cannot be read"));
}
