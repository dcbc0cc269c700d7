//! Proofs of a few entries, and the files that they travel in.

use crate::changes;
use crate::federation::*;
use record::proof::{pack, unpack};
use record::{Cosignature, Digest, Entry, Pin, Proof, ProofError, SignedCheckpoint};

const FIVE: [&str; 5] = ["ch", "gb", "it", "nl", "se"];
const MAGIC: &str = "comity-test/1";

fn world() -> World {
    let mut world = World::new(&FIVE);
    for member in FIVE {
        world.say(vote(member, "aspirin"));
    }
    world
}

fn proof(world: &World, checkpoint: &SignedCheckpoint, indices: &[u64]) -> Result<Proof, ProofError> {
    Proof::new(world.log.entries(), world.log.tree(), checkpoint, 0, indices)
}

fn sound() -> (World, Proof) {
    let world = world();
    let proof = proof(&world, &world.cosigned(5), &[6, 9]).unwrap();
    (world, proof)
}

#[test]
fn entries_are_proved_under_the_charter_and_a_quorum_without_the_others() {
    let (world, proof) = sound();
    let proved = proof.verify(Some(world.charter_digest())).unwrap();
    assert_eq!((proved.pin, proved.size, proved.cosigned.len()), (Pin::Pinned, 11, 5));
    assert_eq!(proved.entries[1], (9, world.log.entries()[9].entry()));
    assert_eq!(proof.verify(None).unwrap().pin, Pin::Unpinned);
    let other = Digest::of(b"another charter");
    assert!(matches!(proof.verify(Some(other)), Err(ProofError::OtherCharter { .. })));
}

#[test]
fn an_entry_that_is_not_in_the_record_or_stands_elsewhere_is_named() {
    let (world, sound) = sound();
    let pin = Some(world.charter_digest());
    let mut elsewhere = sound.clone();
    elsewhere.entries[0].index = 7;
    assert!(matches!(elsewhere.verify(pin), Err(ProofError::Inclusion { index: 7, .. })));
    let mut other = sound.clone();
    let made_up = Entry::new(world.clock, vote("it", "another")).to_bytes();
    other.entries[0].entry = String::from_utf8(made_up).unwrap();
    assert!(matches!(other.verify(pin), Err(ProofError::Inclusion { index: 6, .. })));
    let mut short = sound.clone();
    short.entries[1].path.pop();
    assert!(matches!(short.verify(pin), Err(ProofError::Inclusion { index: 9, .. })));
    for entries in [vec![1, 0], vec![0, 0]] {
        let mut disordered = sound.clone();
        disordered.entries = entries.into_iter().map(|i: usize| sound.entries[i].clone()).collect();
        assert_eq!(disordered.verify(pin).err(), Some(ProofError::Order));
    }
    let mut no_charter = sound.clone();
    no_charter.charter = sound.entries[0].clone();
    assert!(matches!(no_charter.verify(pin), Err(ProofError::NoCharter { index: 6, .. })));
}

#[test]
fn an_entry_of_the_record_that_its_issuer_did_not_sign_proves_nothing() {
    let mut world = world();
    // In the record, and void there.
    let forged = statement("decision.vote@1", "decision-1", "it", text(&[("vote", "no".to_owned())]));
    world.say(record::SignedStatement::sign(forged, &key("ch", "sign")).unwrap());
    let proof = proof(&world, &world.cosigned(5), &[11]).unwrap();
    let fault = proof.verify(Some(world.charter_digest())).unwrap_err();
    assert!(matches!(fault, ProofError::Statement { index: 11, .. }), "{fault}");
}

#[test]
fn a_checkpoint_short_of_its_quorum_proves_nothing() {
    let world = world();
    // Five members, one liar: four must cosign.
    for (cosigners, enough) in [(3, false), (4, true)] {
        let proof = proof(&world, &world.cosigned(cosigners), &[6]).unwrap();
        assert_eq!(proof.verify(Some(world.charter_digest())).is_ok(), enough, "{cosigners}");
    }
    assert!(proof(&world, &world.cosigned(4), &[11]).is_err(), "no proof of what is not covered");
}

/// Four members; two have changed their keys, and each change was sealed by everyone.
fn changed() -> (World, Vec<SignedCheckpoint>, SignedCheckpoint) {
    let mut world = changes::world();
    let mut seals = Vec::new();
    let [ch, se] = ["ch", "se"].map(|id| key(id, "cosign"));
    for id in ["gb", "it"] {
        let new = key(id, "cosign-2");
        world.say(changes::rotate(id, &key(id, "next"), Digest::of(b"later"), None, Some(&new)));
        let old = key(id, "cosign");
        let other = if id == "gb" { ("it", key("it", "cosign")) } else { ("gb", key("gb", "cosign-2")) };
        let by = [(id, &old), (id, &new), (other.0, &other.1), ("ch", &ch), ("se", &se)];
        seals.push(changes::cosigned(&world, &by));
    }
    world.say(vote("ch", "aspirin"));
    let [gb, it] = ["gb", "it"].map(|id| key(id, "cosign-2"));
    let last = changes::cosigned(&world, &[("gb", &gb), ("it", &it), ("ch", &ch), ("se", &se)]);
    (world, seals, last)
}

fn over_changes(
    world: &World,
    seals: &[SignedCheckpoint],
    last: &SignedCheckpoint,
) -> Result<Proof, ProofError> {
    let (entries, tree) = (world.log.entries(), world.log.tree());
    Proof::new(entries, tree, last, 0, &[7])?.with_changes(entries, tree, world.log.roster(), &[5, 6], seals)
}

#[test]
fn changes_of_keys_are_proved_by_the_quorums_before_and_after_them_with_no_more_seals_than_it_takes() {
    let (world, seals, last) = changed();
    let proof = over_changes(&world, &seals, &last).unwrap();
    // The first rotation takes no seal of its own: the next one's has three of the first four.
    assert_eq!((proof.seals.len(), proof.seals[0].changes.len(), proof.changes.len()), (1, 2, 0));
    let proved = proof.verify_at(Some(world.charter_digest()), &[5, 6, 7]).unwrap();
    let sign = |size: u64, id: &str| proved.rosters[&size].keys(id).unwrap().sign;
    assert_eq!((sign(5, "gb"), sign(6, "gb")), (public("gb", "sign"), public("gb", "next")));
    assert_eq!((sign(6, "it"), sign(7, "it")), (public("it", "sign"), public("it", "next")));
    assert_eq!((proved.changed, proved.cosigned.len()), (Some(5), 4));
    assert_eq!(proved.roster.eras, world.log.roster().eras);
    // Without the seals two of the first four are no quorum, and nobody makes such a proof.
    let fault = over_changes(&world, &[], &last).unwrap_err();
    assert!(matches!(fault, ProofError::Unsealed { from: 0, have: 2, need: 3, .. }), "{fault}");
    let mut bare = proof.clone();
    bare.seals.clear();
    assert!(bare.verify(Some(world.charter_digest())).is_err());
}

#[test]
fn a_change_below_what_the_seal_before_covers_is_refused_since_nobody_of_before_would_be_asked() {
    let (world, seals, last) = changed();
    let proof = over_changes(&world, &seals, &last).unwrap();
    let mut below = proof.clone();
    // A note of both changes that shows the first alone; the second is shown under the last note.
    let mut note = seals[1].checkpoint().sign(&key(HUB, "key"));
    for id in ["ch", "it", "se"] {
        let line = Cosignature::sign(note.checkpoint(), id, 1, &key(id, "cosign")).unwrap();
        note.add(line, world.log.roster()).unwrap();
    }
    below.seals[0].checkpoint = note.to_note();
    let mut second = below.seals[0].changes.remove(1);
    second.path = world.log.tree().prove_inclusion(6, last.checkpoint().size()).unwrap();
    below.changes.push(second);
    assert_eq!(below.verify(Some(world.charter_digest())).err(), Some(ProofError::Changes));
}

#[test]
fn a_packed_file_gives_its_content_back_and_no_byte_of_it_can_be_changed_cut_off_or_added() {
    let content: Vec<u8> = (0..4000_u32).flat_map(|n| (n * n).to_string().into_bytes()).collect();
    let packed = pack(MAGIC, &content).unwrap();
    assert!(packed.len() < content.len());
    assert_eq!(unpack(MAGIC, &packed, content.len()).unwrap(), content);
    for at in 0..packed.len() {
        let mut changed = packed.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(unpack(MAGIC, &changed, content.len()).is_err(), "byte {at}");
    }
    assert_eq!(unpack(MAGIC, &packed[..packed.len() - 1], 1 << 20), Err(ProofError::Changed));
    assert_eq!(unpack(MAGIC, &[packed.as_slice(), b"x"].concat(), 1 << 20), Err(ProofError::Changed));
    assert!(matches!(unpack("comity-other/1", &packed, 1 << 20), Err(ProofError::Magic { .. })));
    assert!(matches!(unpack(MAGIC, b"", 1 << 20), Err(ProofError::Magic { .. })));
    assert_eq!(unpack(MAGIC, b"comity-test/1\n", 1 << 20), Err(ProofError::Changed));
}

/// A file whose digest is right and whose inside is anything.
fn packed_by_a_liar(length: u32, deflated: &[u8]) -> Vec<u8> {
    let rest = [length.to_be_bytes().as_slice(), deflated].concat();
    [MAGIC.as_bytes(), b"\n", Digest::of(&rest).as_bytes(), &rest].concat()
}

#[test]
fn a_file_that_unpacks_to_more_than_it_may_or_says_is_refused() {
    let zeros = pack(MAGIC, &vec![0; 1 << 20]).unwrap();
    assert!(zeros.len() < 4096);
    let limit = (1 << 20) - 1;
    assert_eq!(unpack(MAGIC, &zeros, limit), Err(ProofError::Packed { limit }));
    let deflated = &zeros[MAGIC.len() + 1 + 36..];
    for length in [0, 1, limit as u32, (1 << 20) + 1, u32::MAX] {
        let lie = packed_by_a_liar(length, deflated);
        assert!(matches!(unpack(MAGIC, &lie, 1 << 30), Err(ProofError::Packed { .. })), "{length}");
    }
    let tail = packed_by_a_liar(1 << 20, &[deflated, b"more"].concat());
    assert!(matches!(unpack(MAGIC, &tail, 1 << 30), Err(ProofError::Packed { .. })));
    assert_eq!(unpack(MAGIC, &packed_by_a_liar(1 << 20, deflated), 1 << 30).unwrap().len(), 1 << 20);
}
