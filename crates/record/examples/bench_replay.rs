//! Verified replay of a log: form, signature, roster and tree of every entry, on one thread.
//!
//! `cargo run --release -p comity-record --example bench_replay -- [--entries N] [--large]`
//!
//! Each size is replayed once by [`record::Log`], which keeps every entry, and once as a stream that keeps tree and
//! roster alone. The yardstick is bare `verify_strict` of as many signatures in the same run. Entries are made as they
//! are read; what making them takes is not counted. `--large` adds a million and, streamed, ten million entries; their
//! statements repeat after 4096 with another stamp, which is another leaf, and no signature is remembered.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;
use std::time::Instant;

use record::canon::{self, Value};
use record::keys::pae;
use record::log::validate_next;
use record::{Digest, Entry, Log, Roster, SecretKey, SignedStatement, Statement, Tree};

const POOL: usize = 4096;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn map(pairs: &[(&str, String)]) -> Value {
    Value::Map(pairs.iter().map(|(k, v)| ((*k).to_owned(), Value::Str(v.clone()))).collect())
}

fn said(kind: &str, number: usize, body: &Value) -> SignedStatement {
    let issuer = 10 + 3 * (number % 8) as u8;
    let statement = Statement::new(kind, "aspirin", &format!("m{issuer}"), "director", body).unwrap();
    SignedStatement::sign(statement, &key(issuer)).unwrap()
}

/// The charter of eight members, then votes.
fn pool() -> Vec<Vec<u8>> {
    let public = |seed| key(seed).public().to_string();
    let member = |n: u8| {
        let seed = 10 + 3 * n;
        let keys = [("sign", public(seed)), ("cosign", public(seed + 1)), ("tls", public(seed + 2))];
        map(&[[("id", format!("m{seed}"))].as_slice(), &keys].concat())
    };
    let hub = map(&[
        ("operator", "x".to_owned()),
        ("jurisdiction", "CH".to_owned()),
        ("key", public(1)),
        ("tls", public(2)),
    ]);
    let charter = Value::Map(BTreeMap::from([
        ("federation".to_owned(), Value::Str("stroke".to_owned())),
        ("hub".to_owned(), hub),
        ("members".to_owned(), Value::List((0..8).map(member).collect())),
    ]));
    let propose = canon::to_value(&BTreeMap::from([("charter", charter)])).unwrap();
    let mut pool = vec![said("charter.propose@1", 0, &propose).to_bytes()];
    for number in 1..POOL {
        let body = map(&[
            ("study", format!("study-{number}")),
            ("dataset", "ist".to_owned()),
            ("vote", "yes".to_owned()),
            ("document", Digest::of(&number.to_be_bytes()).to_string()),
        ]);
        pool.push(said("decision.vote@1", number, &body).to_bytes());
    }
    pool
}

fn leaf(pool: &[Vec<u8>], index: u64) -> Vec<u8> {
    let at = if index == 0 { 0 } else { 1 + (index as usize - 1) % (POOL - 1) };
    let mut leaf = format!("comity-entry/1\ntime {}\n", 1_700_000_000_000 + index).into_bytes();
    leaf.extend_from_slice(&pool[at]);
    leaf
}

/// Bytes of memory that this process holds, as Linux counts them.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    status.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// Seconds of processor time that this process has had.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = |n: usize| after.split(' ').nth(n).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn bare(pool: &[Vec<u8>]) -> f64 {
    let parsed: Vec<SignedStatement> = pool.iter().map(|s| SignedStatement::from_bytes(s).unwrap()).collect();
    let (begun, mut count) = (processor(), 0_u32);
    while processor() - begun < 0.5 {
        for signed in parsed.iter().take(512) {
            let signature = &signed.signatures()[0];
            let message = pae(record::statement::PAYLOAD_TYPE, signed.bytes());
            signature.key.verify_strict(&message, &signature.sig).unwrap();
            count += 1;
        }
    }
    f64::from(count) / (processor() - begun)
}

struct Row {
    way: &'static str,
    entries: u64,
    seconds: f64,
    wall: f64,
    memory: u64,
}

fn replay(pool: &[Vec<u8>], entries: u64, keep: bool) -> Row {
    let before = resident();
    let (mut log, mut tree, mut roster, mut last) = (Log::new(), Tree::new(), Roster::new(), None);
    let (mut seconds, begun, mut next) = (0.0, Instant::now(), 0);
    while next < entries {
        let end = entries.min(next + 16_384);
        let leaves: Vec<Vec<u8>> = (next..end).map(|index| leaf(pool, index)).collect();
        let start = processor();
        for (index, leaf) in (next..end).zip(&leaves) {
            if keep {
                log.append(leaf, None).unwrap();
            } else {
                let entry = Entry::from_bytes(leaf).unwrap();
                validate_next(index, last, entry.time, None).unwrap();
                roster.apply(index, &entry).unwrap();
                tree.append(leaf);
                last = Some(entry.time);
            }
        }
        seconds += processor() - start;
        next = end;
    }
    assert!(log.voids().is_empty());
    let memory = resident().saturating_sub(before);
    assert_eq!(if keep { log.size() } else { tree.size() }, entries);
    let way = if keep { "Log" } else { "stream" };
    Row { way, entries, seconds, wall: begun.elapsed().as_secs_f64(), memory }
}

/// Where the time of one entry goes, microseconds.
fn parts(pool: &[Vec<u8>]) {
    let leaves: Vec<Vec<u8>> = (0..POOL as u64).map(|index| leaf(pool, index)).collect();
    let timed = |f: &mut dyn FnMut()| {
        let begun = processor();
        (0..4).for_each(|_| f());
        (processor() - begun) * 1e6 / (4.0 * POOL as f64)
    };
    let read = timed(&mut || leaves.iter().for_each(|leaf| drop(Entry::from_bytes(leaf).unwrap())));
    let json = timed(&mut || {
        for statement in pool {
            let at = statement.windows(2).position(|two| two == b"\n\n").unwrap() + 2;
            canon::parse(&statement[at..]).unwrap();
        }
    });
    let keys: Vec<String> = (0..64).map(|n| key(n).public().to_string()).collect();
    let parsed = timed(&mut || {
        (0..POOL).for_each(|n| {
            let key: record::PublicKey = keys[n % 64].parse().unwrap();
            assert!(key.as_bytes().len() == 32);
        });
    });
    let hashed = timed(&mut || {
        leaves.iter().for_each(|leaf| assert!(record::tree::leaf_hash(leaf) != Digest::from_bytes([0; 32])))
    });
    println!(
        "of one entry, microseconds: read {read:.1} (of it JSON twice or more {json:.1} each, key {parsed:.1}), leaf hash {hashed:.1}"
    );
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let option = words.iter().position(|word| word == "--entries").and_then(|at| words.get(at + 1));
    let entries = option.map_or(10_000, |n| n.parse().expect("a number"));
    let large = words.iter().any(|word| word == "--large");
    let pool = pool();
    let yardstick = bare(&pool);
    println!("bare verify_strict: {yardstick:.0}/s of one processor");
    parts(&pool);
    println!(
        "{:<8}{:>12}{:>14}{:>10}{:>12}{:>14}{:>10}",
        "way", "entries", "entries/s/core", "of bare", "us/entry", "bytes/entry", "wall s"
    );
    let mut runs = vec![(entries, true), (entries, false)];
    if large {
        runs.extend([(1_000_000, true), (1_000_000, false), (10_000_000, false)]);
    }
    for (entries, keep) in runs {
        let row = replay(&pool, entries, keep);
        let rate = row.entries as f64 / row.seconds;
        println!(
            "{:<8}{:>12}{:>14.0}{:>10.2}{:>12.1}{:>14}{:>10.1}",
            row.way,
            row.entries,
            rate,
            rate / yardstick,
            1e6 / rate,
            row.memory / row.entries,
            row.wall
        );
    }
}
