//! Flips random bits of a stored record and checks that none gets past a member or a check of the copy.
//!
//! `cargo run --release -p comity-record --example flips -- --flips 10000 --entries 20000`
//!
//! Each flip is of another entry. A member that takes the entry in computes another root than the one that the hub
//! signed, or cannot read it; a check of the copy names the entry and the byte. Copies have fifty flips each, so that
//! thousands take minutes; one copy in ten has a single flip and no tiles, and the byte is found by the root alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;
use std::time::Instant;

use record::canon::{self, Value};
use record::fsck::{Kept, Scan};
use record::tree::{TilePath, leaf_hash, verify_inclusion};
use record::{Checkpoint, Digest, Entry, Log, SecretKey, SignedStatement, Statement};

const MEMBERS: [&str; 3] = ["gb", "it", "no"];

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn map(pairs: &[(&str, String)]) -> Value {
    Value::Map(pairs.iter().map(|(k, v)| ((*k).to_owned(), Value::Str(v.clone()))).collect())
}

fn charter() -> Value {
    let public = |seed| key(seed).public().to_string();
    let member = |(id, seed): (&&str, u8)| {
        let keys = [public(seed), public(seed + 1), public(seed + 2)];
        let [sign, cosign, tls] = keys;
        map(&[("id", (*id).to_owned()), ("sign", sign), ("cosign", cosign), ("tls", tls)])
    };
    let hub = [("operator", "x".to_owned()), ("jurisdiction", "CH".to_owned()), ("key", public(1))];
    let members = MEMBERS.iter().zip([10, 20, 30]).map(member).collect();
    Value::Map(BTreeMap::from([
        ("federation".to_owned(), Value::Str("stroke".to_owned())),
        ("hub".to_owned(), map(&[hub.as_slice(), &[("tls", public(2))]].concat())),
        ("members".to_owned(), Value::List(members)),
    ]))
}

fn signed(kind: &str, number: usize, body: &Value) -> SignedStatement {
    let issuer = MEMBERS[number % 3];
    let statement = Statement::new(kind, &format!("s{number}"), issuer, "director", body).unwrap();
    SignedStatement::sign(statement, &key(10 + 10 * (number % 3) as u8)).unwrap()
}

fn option(name: &str, default: usize) -> usize {
    let mut words = std::env::args().skip_while(|word| word != name);
    words.nth(1).map_or(default, |value| value.parse().expect("a number"))
}

fn main() {
    let (flips, entries) = (option("--flips", 200), option("--entries", 2_000).max(100));
    let begun = Instant::now();
    record::keys::verify_once();
    let charter = charter();
    let digest = Digest::of(&charter.to_bytes().unwrap()).to_string();
    let propose = canon::to_value(&BTreeMap::from([("charter", charter)])).unwrap();
    let mut leaves = Vec::new();
    let mut log = Log::new();
    for number in 0..entries {
        let statement = match number {
            0 => signed("charter.propose@1", 0, &propose),
            1..=3 => signed("charter.sign@1", number, &map(&[("charter", digest.clone())])),
            _ => signed("decision.vote@1", number, &map(&[("vote", "yes".to_owned())])),
        };
        let leaf = Entry::new(1_700_000_000_000 + number as i64 * 1000, statement).to_bytes();
        log.append(&leaf, None).unwrap();
        leaves.push(leaf);
    }
    let (size, root) = (log.size(), log.tree().root());
    let note = Checkpoint::new("comity/stroke", size, root).unwrap().sign(&key(1)).to_note();
    let tiles: Vec<(String, Vec<u8>)> = TilePath::of_tree(size)
        .into_iter()
        .map(|path| (path.to_string(), log.tree().tile(&path).unwrap()))
        .filter(|(path, _)| path.starts_with("tile/0/"))
        .collect();
    println!("{size} entries made in {:.1} s", begun.elapsed().as_secs_f64());

    let mut draw = option("--seed", 1) as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut next = |below: usize| {
        draw ^= draw << 13;
        draw ^= draw >> 7;
        draw ^= draw << 17;
        (draw >> 11) as usize % below
    };
    let begun = Instant::now();
    let (mut refused, mut found, mut alone, mut copies) = (0, 0, 0, 0_u32);
    while refused < flips {
        let single = copies.is_multiple_of(10);
        let count = if single { 1 } else { 50.min(flips - refused) };
        copies += 1;
        let mut copy = leaves.clone();
        let mut bits = BTreeMap::new();
        while bits.len() < count {
            let index = next(copy.len());
            bits.entry(index).or_insert_with(|| next(leaves[index].len() * 8));
        }
        for (&index, &bit) in &bits {
            copy[index][bit / 8] ^= 1 << (bit % 8);
            let proof = log.tree().prove_inclusion(index as u64, size).unwrap();
            let taken = verify_inclusion(&leaf_hash(&copy[index]), index as u64, size, &root, &proof);
            assert!(taken.is_err(), "entry {index}, bit {bit}: the root is the same");
            refused += 1;
        }
        let kept = Kept { notes: vec![("checkpoint".to_owned(), note.clone().into())], ..Kept::default() };
        let mut scan = Scan::new(kept).effort(u64::MAX);
        for (index, leaf) in (0..).zip(&copy) {
            scan.entry(index, leaf);
        }
        let tiles = if single { &[] } else { tiles.as_slice() };
        let tiles = tiles.iter().map(|(path, bytes)| (path.clone(), bytes));
        let report = scan.finish(tiles, &mut |index| copy.get(index as usize).cloned());
        let named: Vec<_> = report.damages.iter().map(|d| (d.entry(), d.byte.map(|b| b.0))).collect();
        let expected: Vec<_> = bits.iter().map(|(i, bit)| (Some(*i as u64), Some(*bit as u64 / 8))).collect();
        assert_eq!(named, expected, "{:?}", report.damages);
        found += count;
        alone += usize::from(single);
    }
    println!(
        "{refused} flips: {refused} refused by a member, {found} found at their byte, {alone} of them without tiles"
    );
    println!("{copies} copies checked in {:.1} s", begun.elapsed().as_secs_f64());
}
