//! Verified replay of a log: form, signature, roster and tree of every entry, on one thread.
//!
//! `cargo run --release -p comity-record --example bench_replay -- [--entries N] [--large]`
//!
//! Each size is replayed once by [`record::Log`], which keeps every entry, and once as a stream that keeps tree and
//! roster alone. The yardstick is bare `verify_strict`, keys ready and messages made, a little after each stretch of
//! entries, so that a busy machine slows both. Entries are made as they are read; what making them takes is not counted,
//! and time is the processor's. `--large` adds a million and, streamed, ten million entries; their
//! statements repeat after 4096 with another stamp, which is another leaf, and no signature is remembered.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;
use std::time::Instant;

use ed25519_dalek::VerifyingKey;
use record::canon::{self, Value};
use record::keys::pae;
use record::log::validate_next;
use record::{Digest, Entry, Log, Roster, SecretKey, SignedStatement, Statement, Tree};

const POOL: usize = 4096;
/// Entries made and replayed at a time.
const CHUNK: u64 = 4096;

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

/// Seconds of processor time that this process, which is one thread, has had.
fn processor() -> f64 {
    let spent = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    spent.split(' ').next().and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// Bare `verify_strict`, its keys ready and its messages made: the part of a replay that cannot be spared.
struct Bare {
    signed: Vec<(VerifyingKey, Vec<u8>, ed25519_dalek::Signature)>,
    next: usize,
    checked: u64,
    seconds: f64,
}

impl Bare {
    fn new(pool: &[Vec<u8>]) -> Self {
        let one = |bytes: &Vec<u8>| {
            let signed = SignedStatement::from_bytes(bytes).unwrap();
            let signature = &signed.signatures()[0];
            let key = VerifyingKey::from_bytes(signature.key.as_bytes()).unwrap();
            let message = pae(record::statement::PAYLOAD_TYPE, signed.bytes());
            (key, message, ed25519_dalek::Signature::from_bytes(signature.sig.as_bytes()))
        };
        Self { signed: pool.iter().map(one).collect(), next: 0, checked: 0, seconds: 0.0 }
    }

    fn run(&mut self, count: usize) {
        let begun = processor();
        for _ in 0..count {
            let (key, message, signature) = &self.signed[self.next % self.signed.len()];
            key.verify_strict(message, signature).unwrap();
            self.next += 1;
        }
        self.seconds += processor() - begun;
        self.checked += count as u64;
    }

    /// Checks a second since the last time that this was asked.
    fn rate(&mut self) -> f64 {
        let rate = self.checked as f64 / self.seconds;
        (self.checked, self.seconds) = (0, 0.0);
        rate
    }
}

struct Row {
    way: &'static str,
    entries: u64,
    seconds: f64,
    bare: f64,
    wall: f64,
    memory: u64,
}

fn replay(pool: &[Vec<u8>], bare: &mut Bare, entries: u64, keep: bool) -> Row {
    let before = resident();
    let (mut log, mut tree, mut roster, mut last) = (Log::new(), Tree::new(), Roster::new(), None);
    let (mut seconds, begun, mut next) = (0.0, Instant::now(), 0);
    while next < entries {
        let end = entries.min(next + CHUNK);
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
        // Beside it all along, so that a busy machine slows both.
        bare.run(128);
        next = end;
    }
    assert!(log.voids().is_empty());
    let memory = resident().saturating_sub(before);
    assert_eq!(if keep { log.size() } else { tree.size() }, entries);
    let way = if keep { "Log" } else { "stream" };
    Row { way, entries, seconds, bare: bare.rate(), wall: begun.elapsed().as_secs_f64(), memory }
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
        "of one entry, microseconds: read {read:.1} (of it JSON {json:.1}, a known key {parsed:.1}), leaf hash {hashed:.1}"
    );
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let option = words.iter().position(|word| word == "--entries").and_then(|at| words.get(at + 1));
    let entries = option.map_or(10_000, |n| n.parse().expect("a number"));
    let large = words.iter().any(|word| word == "--large");
    let pool = pool();
    let mut bare = Bare::new(&pool);
    let size: usize = pool.iter().map(Vec::len).sum();
    println!("an entry is about {} bytes", size / POOL + leaf(&pool, 1).len() - pool[1].len());
    parts(&pool);
    println!(
        "{:<8}{:>12}{:>16}{:>14}{:>10}{:>12}{:>14}{:>10}",
        "way", "entries", "entries/s/core", "bare checks/s", "of bare", "us/entry", "bytes/entry", "wall s"
    );
    let mut runs = vec![(entries, true), (entries, false)];
    if large {
        runs.extend([(1_000_000, true), (1_000_000, false), (10_000_000, false)]);
    }
    for (entries, keep) in runs {
        let row = replay(&pool, &mut bare, entries, keep);
        let rate = row.entries as f64 / row.seconds;
        println!(
            "{:<8}{:>12}{:>16.0}{:>14.0}{:>10.2}{:>12.1}{:>14}{:>10.1}",
            row.way,
            row.entries,
            rate,
            row.bare,
            rate / row.bare,
            1e6 / rate,
            row.memory / row.entries,
            row.wall
        );
    }
}
