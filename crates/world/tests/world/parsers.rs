//! Every parser of foreign bytes, on changed seeds: the targets of `fuzz/`, on a stable compiler, in seconds.

use std::path::Path;

#[path = "../../../../fuzz/targets.rs"]
#[allow(dead_code)]
mod targets;

use targets::{ALL, Target};

fn seeds(name: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(name);
    let mut seeds: Vec<_> = std::fs::read_dir(&dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|file| file.unwrap())
        .map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap()))
        .collect();
    seeds.sort();
    seeds
}

/// One change: a bit, a byte, a cut, a repetition, a piece of another seed, a number at its edge.
fn change(random: &mut fastrand::Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = random.usize(..=bytes.len());
    match random.u8(..8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
        1 if at < bytes.len() => bytes[at] = random.u8(..),
        2 => bytes.truncate(at),
        3 => {
            let end = (at + random.usize(..64)).min(bytes.len());
            bytes.drain(at..end);
        }
        4 => {
            let end = (at + random.usize(..64)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        5 if !other.is_empty() => {
            let from = random.usize(..other.len());
            let to = (from + random.usize(..256)).min(other.len());
            bytes.splice(at..at, other[from..to].iter().copied());
        }
        6 => {
            let words: [&[u8]; 10] = [
                b"null",
                b"-1",
                b"9007199254740992",
                b"\"",
                b"{}",
                b"\n",
                b"\\u0000",
                b"=",
                b"\xff\xff\xff\xff",
                b"1e9",
            ];
            bytes.splice(at..at, words[random.usize(..words.len())].iter().copied());
        }
        _ => {
            let count = random.usize(1..8);
            let more: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(count).collect();
            bytes.splice(at..at, more);
        }
    }
}

fn holds((name, target, cases): &Target) {
    record::keys::verify_once();
    let seeds = seeds(name);
    for (file, bytes) in &seeds {
        assert!(
            target(bytes),
            "{name}: seed `{file}` is not accepted any more: cargo run -p comity-world --example seeds"
        );
    }
    let mut random = fastrand::Rng::with_seed(7);
    let mut refused = 0;
    for _ in 0..*cases {
        let mut bytes = seeds[random.usize(..seeds.len())].1.clone();
        let other = &seeds[random.usize(..seeds.len())].1;
        for _ in 0..random.usize(1..4) {
            change(&mut random, &mut bytes, other);
        }
        refused += usize::from(!target(&bytes));
    }
    assert!(refused > 0, "{name}: nothing was refused");
}

/// What is done with the targets, by the test that does it: each is in one of them.
const WIRE: [&str; 14] = [
    "canon",
    "statement",
    "entry",
    "checkpoint",
    "cosignature",
    "tile_path",
    "tile",
    "frame",
    "pack",
    "mail",
    "receipt",
    "messages",
    "keys",
    "peers",
];
const BODIES: [&str; 3] = ["bundle", "hub", "rounds"];
const TEXTS: [&str; 9] =
    ["charter", "dictionary", "mapping", "study", "schedule", "csv", "next_hub", "member", "roster"];
const PROOFS: [&str; 6] = ["evidence", "proof", "snapshot", "cose", "witness", "answer"];
const CHANGES: [&str; 3] = ["sign_off", "opening", "fold"];

fn all_hold(names: &[&str]) {
    ALL.iter().filter(|(name, ..)| names.contains(name)).for_each(holds);
}

#[test]
fn what_the_record_and_the_wire_accept_is_written_again_as_the_same_bytes() {
    all_hold(&WIRE);
}

#[test]
fn bundles_and_bodies_for_the_hub_are_accepted_whole_or_change_nothing() {
    all_hold(&BODIES);
}

#[test]
fn documents_that_are_accepted_mean_the_same_when_they_are_read_again() {
    all_hold(&TEXTS);
}

#[test]
fn what_convinces_an_outsider_is_what_was_signed() {
    all_hold(&PROOFS);
}

#[test]
fn a_statement_that_does_not_count_changes_nothing_and_ends_no_term() {
    all_hold(&CHANGES);
}

#[test]
fn every_target_has_a_file_and_seeds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let count = |name: &str| std::fs::read_dir(folder.join(name)).unwrap().count();
    assert_eq!((count("fuzz_targets"), count("seeds")), (ALL.len(), ALL.len()));
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    let run = [WIRE.as_slice(), &BODIES, &TEXTS, &PROOFS, &CHANGES].concat();
    for (name, ..) in ALL {
        assert!(run.contains(&name), "{name} is run by no test");
        assert!(folder.join(format!("fuzz_targets/{name}.rs")).exists() && !seeds(name).is_empty());
        assert!(manifest.contains(&format!("name = \"{name}\"")));
    }
}
