use proptest::prelude::*;
use record::log::{Cosigned, LogError, equivocation, highest, validate_next, watermark};
use record::tree::Tree;
use record::{
    Checkpoint, CheckpointError, Cosignature, Digest, Entry, EntryBytes, Log, Roster, SignedCheckpoint,
    Standing,
};

use crate::federation::{HUB, World, key, vote};

const FOUR: [&str; 4] = ["ch", "gb", "it", "se"];

#[test]
fn nothing_is_in_force_below_the_quorum() {
    let world = World::new(&FOUR);
    assert_eq!(world.log.roster().quorum(), 3);
    for n in 0..=4 {
        match world.log.standing(&world.cosigned(n)).unwrap() {
            Standing::Pending(pending) => {
                assert!(n < 3);
                assert_eq!((pending.have().len(), pending.quorum(), pending.size()), (n, 3, 5));
            }
            Standing::InForce(evidence) => {
                assert!(n >= 3);
                assert_eq!((evidence.size(), evidence.cosigned().len()), (5, n));
                assert_eq!(evidence.root(), world.log.tree().root());
                assert!(evidence.covers(4) && !evidence.covers(5));
            }
        }
    }
}

#[test]
fn entries_above_the_watermark_are_pending() {
    let mut world = World::new(&FOUR);
    let checkpoint = world.cosigned(3);
    world.say(vote("gb", "aspirin"));
    let evidence = world.log.standing(&checkpoint).unwrap().in_force().unwrap();
    assert_eq!(world.log.in_force(&evidence).len(), 5);
    assert_eq!(world.log.entries().len(), 6);
    // Evidence of another history puts nothing of this one in force.
    let mut other = World::new(&["gb"]);
    other.say(vote("gb", "aspirin"));
    let foreign = other.log.standing(&other.cosigned(1)).unwrap().in_force().unwrap();
    assert!(world.log.in_force(&foreign).is_empty());
    let later = world.cosigned(4);
    let pending = world.cosigned(2);
    let best = highest(world.log.tree(), [&pending, &checkpoint, &later], world.log.roster()).unwrap();
    assert_eq!(best.size(), 6);
    assert!(highest(world.log.tree(), [&pending], world.log.roster()).is_none());
}

#[test]
fn one_organisation_counts_once_and_strangers_not_at_all() {
    let world = World::new(&FOUR);
    let mut checkpoint = world.cosigned(2);
    let body = checkpoint.checkpoint().clone();
    // Again, later, by the same member: replaces, does not add.
    let again = Cosignature::sign(&body, "gb", 1_700_000_900, &key("gb", "cosign")).unwrap();
    assert!(checkpoint.add(again.clone(), world.log.roster()).unwrap());
    assert!(!checkpoint.add(again, world.log.roster()).unwrap());
    assert_eq!(checkpoint.cosignatures(world.log.roster())["gb"], 1_700_000_900);
    // Under another member's name, by a stranger, and with a key for something else.
    let lies = [
        ("se", key("gb", "cosign")),
        ("fr", key("fr", "cosign")),
        ("se", key("se", "sign")),
        ("comity/stroke", key(HUB, "key")),
    ];
    for (name, by) in lies {
        let lie = Cosignature::sign(&body, name, 1_700_000_000, &by).unwrap();
        assert!(matches!(
            checkpoint.add(lie.clone(), world.log.roster()),
            Err(CheckpointError::UnknownCosigner { .. })
        ));
        // Put into the note behind the hub's back, they change nothing but the list of faults.
        let mut lines: Vec<String> = checkpoint
            .to_note()
            .split_inclusive('\n')
            .skip(5)
            .map(str::to_owned)
            .chain([lie.to_line()])
            .collect();
        lines.sort();
        let head: String = checkpoint.to_note().split_inclusive('\n').take(5).collect();
        if let Ok(stuffed) = SignedCheckpoint::parse(&(head + &lines.concat())) {
            assert_eq!(stuffed.cosigners(world.log.roster()).len(), 2, "{name}");
            assert_eq!(stuffed.faults(world.log.roster()).len(), 1, "{name}");
            assert!(matches!(world.log.standing(&stuffed).unwrap(), Standing::Pending(_)));
        }
    }
}

#[test]
fn a_cosignature_is_of_one_checkpoint_at_one_time() {
    let world = World::new(&FOUR);
    let checkpoint = world.checkpoint();
    let body = checkpoint.checkpoint();
    let genuine = Cosignature::sign(body, "gb", 1_679_315_147, &key("gb", "cosign")).unwrap();
    assert!(genuine.verify(body, &key("gb", "cosign").public()).is_ok());
    let other = Checkpoint::new(body.origin(), body.size() + 1, body.root()).unwrap();
    assert!(genuine.verify(&other, &key("gb", "cosign").public()).is_err());
    // The signed message, by the letter of C2SP tlog-cosignature.
    let message = format!("cosignature/v1\ntime 1679315147\n{}", body.body());
    let sig = key("gb", "cosign").sign(message.as_bytes());
    let payload = [&1_679_315_147_u64.to_be_bytes()[..], sig.as_bytes()].concat();
    use sha2::Digest as _;
    let mut id = sha2::Sha256::new();
    id.update(b"gb\n\x04");
    id.update(key("gb", "cosign").public().as_bytes());
    let id: [u8; 32] = id.finalize().into();
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let line = format!("— gb {}\n", BASE64_STANDARD.encode([&id[..4], &payload].concat()));
    assert_eq!(genuine.to_line(), line);
    assert_eq!(Cosignature::from_line(&line).unwrap(), genuine);
    // Time is signed too: shifting it breaks the signature.
    let shifted = [&1_679_315_148_u64.to_be_bytes()[..], sig.as_bytes()].concat();
    let line = format!("— gb {}\n", BASE64_STANDARD.encode([&id[..4], &shifted].concat()));
    let shifted = Cosignature::from_line(&line).unwrap();
    assert!(matches!(
        shifted.verify(body, &key("gb", "cosign").public()),
        Err(CheckpointError::Cosignature { .. })
    ));
    assert!(Cosignature::sign(body, "gb", u64::MAX, &key("gb", "cosign")).is_err());
    assert!(Cosignature::sign(body, "g b", 0, &key("gb", "cosign")).is_err());
}

#[test]
fn the_note_verifies_with_the_reference_implementation() {
    let world = World::new(&FOUR);
    let note = signed_note::Note::from_bytes(world.cosigned(3).to_note().as_bytes()).unwrap();
    let hub = ed25519_dalek::VerifyingKey::from_bytes(key(HUB, "key").public().as_bytes()).unwrap();
    let vkey = signed_note::new_ed25519_verifier_key("comity/stroke", &hub);
    let known =
        signed_note::VerifierList::new(vec![Box::new(signed_note::StandardVerifier::new(&vkey).unwrap())]);
    let (verified, others) = note.verify(&known).unwrap();
    assert_eq!((verified.len(), others.len()), (1, 3));
    let read = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!((read.origin(), read.size(), read.extension()), ("comity/stroke", 5, ""));
}

#[test]
fn a_lying_hub_is_named() {
    let world = World::new(&FOUR);
    let (tree, roster) = (world.log.tree(), world.log.roster());
    let by = |origin: &str, size, root, holder| {
        Checkpoint::new(origin, size, root).unwrap().sign(&key(holder, "key"))
    };
    let root = tree.root();
    let error = |c: &SignedCheckpoint| watermark(tree, c, roster, 0).unwrap_err();
    assert!(matches!(
        error(&by("comity/stroke", 5, root, "imp")),
        LogError::Checkpoint(CheckpointError::Hub { .. })
    ));
    assert!(matches!(error(&by("comity/other", 5, root, HUB)), LogError::Origin { .. }));
    assert!(matches!(error(&by("comity/stroke", 6, root, HUB)), LogError::Ahead { size: 6, have: 5 }));
    assert!(matches!(error(&by("comity/stroke", 4, root, HUB)), LogError::Fork { size: 4, .. }));
    let fork = by("comity/stroke", 5, Digest::of(b"another history"), HUB);
    assert!(matches!(error(&fork), LogError::Fork { size: 5, .. }));
    assert!(matches!(
        watermark(&Tree::new(), &world.checkpoint(), &Roster::new(), 0),
        Err(LogError::NoCharter)
    ));
    // What it signed twice convicts it before anyone.
    assert!(equivocation(&world.checkpoint(), &fork, &key(HUB, "key").public()));
    assert!(!equivocation(&world.checkpoint(), &world.checkpoint(), &key(HUB, "key").public()));
    let forged = by("comity/stroke", 5, Digest::of(b"another history"), "imp");
    assert!(!equivocation(&world.checkpoint(), &forged, &key(HUB, "key").public()));
}

#[test]
fn a_member_never_cosigns_below_or_beside_what_it_cosigned() {
    let mut world = World::new(&FOUR);
    let early = world.checkpoint();
    let cosign = |log: &Log, checkpoint: &SignedCheckpoint, before| {
        log.cosign(checkpoint, "gb", &key("gb", "cosign"), 1_700_000_000_000, before).map(|(_, next)| next)
    };
    let first = cosign(&world.log, &early, None).unwrap();
    assert_eq!(first, Cosigned { size: 5, root: world.log.tree().root(), term: 1 });
    assert_eq!(cosign(&world.log, &early, Some(first)).unwrap(), first, "again, to stay fresh");
    let restored = world.log.clone();
    world.say(vote("gb", "aspirin"));
    let second = cosign(&world.log, &world.checkpoint(), Some(first)).unwrap();
    assert_eq!(second.size, 6);
    assert!(matches!(
        cosign(&world.log, &early, Some(second)),
        Err(LogError::BelowCosigned { size: 5, cosigned: 6 })
    ));
    // Restored from an old copy and fed another history of the same length: the hub signs both, the member one.
    let mut fork = World {
        log: restored,
        leaves: world.leaves[..5].to_vec(),
        members: world.members.clone(),
        clock: world.clock,
    };
    fork.say(vote("it", "aspirin"));
    fork.say(vote("se", "aspirin"));
    assert!(matches!(
        cosign(&fork.log, &fork.checkpoint(), Some(second)),
        Err(LogError::BelowCosigned { .. })
    ));
}

#[test]
fn time_does_not_go_backwards_and_stays_near_the_clock() {
    assert!(validate_next(0, None, 5, None).is_ok());
    assert!(validate_next(1, Some(5), 5, Some(5)).is_ok());
    assert!(matches!(
        validate_next(1, Some(5), 4, None),
        Err(LogError::Backwards { index: 1, time: 4, previous: 5 })
    ));
    for (time, fits) in [(40_000, true), (160_000, true), (39_999, false), (160_001, false)] {
        assert_eq!(validate_next(1, None, time, Some(100_000)).is_ok(), fits, "{time}");
    }
    assert!(validate_next(0, None, i64::MIN, Some(i64::MAX)).is_err());
    let world = World::new(&FOUR);
    let mut log = world.log.clone();
    let stale = Entry::new(world.clock - 1, vote("gb", "aspirin")).to_bytes();
    assert!(log.append(&stale, None).is_err());
    let early = Entry::new(world.clock + 60_001, vote("gb", "aspirin")).to_bytes();
    assert!(log.append(&early, Some(world.clock)).is_err());
    assert_eq!((log.size(), log.entries().len(), log.tree().root()), (5, 5, world.log.tree().root()));
}

#[test]
fn a_void_statement_stays_in_the_log_and_stops_nobody() {
    let mut world = World::new(&FOUR);
    world.say(vote("fr", "aspirin"));
    world.say(vote("gb", "aspirin"));
    assert_eq!(world.log.voids().keys().copied().collect::<Vec<_>>(), [5]);
    assert!(world.log.standing(&world.cosigned(3)).unwrap().in_force().is_some());
    assert_eq!(world.log.voids()[&5].code(), "not_a_member");
}

#[test]
fn what_a_log_keeps_of_an_entry_says_what_the_entry_says() {
    let mut world = World::new(&FOUR);
    let mut twice = vote("gb", "aspirin\u{7f}\\n");
    twice.add_signature(&key("it", "sign")).unwrap();
    world.say(twice);
    for (kept, leaf) in world.log.entries().iter().zip(&world.leaves) {
        let entry = Entry::from_bytes(leaf).unwrap();
        assert_eq!((kept.bytes(), kept.to_bytes()), (leaf.as_slice(), leaf.clone()));
        assert_eq!((kept.time(), kept.id(), kept.entry()), (entry.time, entry.signed.id(), entry.clone()));
        assert_eq!(*kept, EntryBytes::from(&entry));
        assert!(EntryBytes::read(&leaf[..leaf.len() - 1]).is_err());
    }
    // Stamps on either side of nothing, as long and as short as they come.
    for time in [i64::MIN, -1, 0, 1, i64::MAX] {
        let entry = Entry::new(time, vote("gb", "aspirin"));
        assert_eq!(EntryBytes::from(&entry).time(), time);
    }
}

#[test]
fn a_log_cut_back_and_one_rolled_back_go_on_as_if_never_longer() {
    let mut world = World::new(&FOUR);
    let short = world.log.clone();
    let (mark, last) = (world.log.mark(), world.log.last_time());
    world.say(vote("gb", "aspirin"));
    world.say(vote("it", "aspirin"));
    assert!(world.log.last_time() > last);
    let mut cut = world.log.clone();
    let gone: Vec<_> = cut.truncate(5).iter().map(EntryBytes::to_bytes).collect();
    assert_eq!(gone, world.leaves[5..]);
    world.log.roll_back(mark);
    for log in [&cut, &world.log] {
        assert_eq!((log.entries(), log.last_time()), (short.entries(), last));
        assert_eq!((log.tree().root(), log.roster()), (short.tree().root(), short.roster()));
    }
    assert_eq!(cut.append(&gone[0], None), Ok(5));
}

#[test]
fn two_mirrors_of_one_log_agree() {
    let world = World::new(&FOUR);
    let mut again = Log::new();
    for leaf in &world.leaves {
        again.append(leaf, None).unwrap();
    }
    assert_eq!(again.tree().root(), world.log.tree().root());
    assert_eq!(again.roster(), world.log.roster());
    assert_eq!(again.entries(), world.log.entries());
}

#[test]
fn one_fast_clock_does_not_make_a_watermark_young() {
    let world = World::new(&FOUR);
    let mut checkpoint = world.checkpoint();
    for (party, time) in [("ch", 100), ("gb", 200), ("it", 300), ("se", 9_999_999)] {
        let cosignature =
            Cosignature::sign(checkpoint.checkpoint(), party, time, &key(party, "cosign")).unwrap();
        checkpoint.add(cosignature, world.log.roster()).unwrap();
    }
    let evidence = world.log.standing(&checkpoint).unwrap().in_force().unwrap();
    assert_eq!(evidence.attested_at(), 200, "three of four had cosigned at 200 or later");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    // A member is honest if it cosigns only what it mirrored, and never beside what it cosigned before.
    #[test]
    fn f_colluding_members_and_the_hub_cannot_put_two_histories_in_force(n in 1..9_usize, liars in 0..9_usize, split in 0..9_usize) {
        let names = ["ar", "au", "ch", "gb", "it", "nl", "no", "pl", "se"];
        let members = &names[..n];
        let base = World::new(members);
        let f = base.log.roster().f as usize;
        let liars = liars.min(f);
        let (mut left, mut right) = (base.clone(), base.clone());
        left.say(vote(members[0], "left"));
        right.say(vote(members[0], "right"));
        let mut histories = [left.checkpoint(), right.checkpoint()];
        for (i, party) in members.iter().enumerate() {
            for (side, world) in [&left, &right].into_iter().enumerate() {
                let honest_side = usize::from(i % (split + 1) == 0);
                if i < liars || side == honest_side {
                    let (mut c, _) = world.log.cosign(&histories[side], party, &key(party, "cosign"), world.clock, None).unwrap();
                    histories[side].add(c.remove(0), world.log.roster()).unwrap();
                }
            }
        }
        let in_force = |world: &World, c: &SignedCheckpoint| world.log.standing(c).unwrap().in_force().is_some();
        prop_assert!(!(in_force(&left, &histories[0]) && in_force(&right, &histories[1])));
    }
}
