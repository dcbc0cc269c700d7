//! Durable appends of the hub against bare SQLite, in one run.
//!
//! `cargo run --release -p comity-hub --example bench_append -- [--statements N] [--callers N] [--dir DIR]`
//!
//! The hub: statements are read, their form and signatures checked, stamped, written by the one writer in groups of at
//! most 256, and answered with a signed receipt, each caller handing in its next when it has its answer. Bare SQLite: the
//! same entries, inserted in groups of 256 with WAL and synchronous=FULL, into a table without an index of ids. With
//! signatures: the same, but two threads check one bare signature and sign one answer of a receipt's length for each
//! statement before a third inserts it; no hub that checks what it takes and signs what it promises can be faster on
//! these processors. All on files in DIR. Processor time is of the whole process; what signing the statements takes is not counted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use hub::{Hub, HubConfig};
use record::canon::{self, Value};
use record::keys::pae;
use record::{Digest, HubInfo, SecretKey, SignedStatement, Statement};
use wire::Peer;

const GROUP: usize = 256;
/// Threads that check and sign.
const THREADS: usize = 2;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn map(pairs: &[(&str, String)]) -> Value {
    Value::Map(pairs.iter().map(|(k, v)| ((*k).to_owned(), Value::Str(v.clone()))).collect())
}

fn said(kind: &str, number: usize, body: &Value) -> Vec<u8> {
    let member = number % 8;
    let statement = Statement::new(kind, "aspirin", &format!("m{member}"), "director", body).unwrap();
    SignedStatement::sign(statement, &key(10 + 3 * member as u8)).unwrap().to_bytes()
}

fn charter(hub: &HubInfo) -> Value {
    let public = |seed| key(seed).public().to_string();
    let member = |n: u8| {
        let seed = 10 + 3 * n;
        map(&[
            ("id", format!("m{n}")),
            ("sign", public(seed)),
            ("cosign", public(seed + 1)),
            ("tls", public(seed + 2)),
        ])
    };
    let part = map(&[
        ("operator", hub.operator.clone()),
        ("jurisdiction", hub.jurisdiction.clone()),
        ("key", hub.key.to_string()),
        ("tls", hub.tls.to_string()),
    ]);
    Value::Map(BTreeMap::from([
        ("federation".to_owned(), Value::Str("bench".to_owned())),
        ("hub".to_owned(), part),
        ("members".to_owned(), Value::List((0..8).map(member).collect())),
    ]))
}

fn statements(count: usize) -> Vec<Vec<u8>> {
    let made = (0..count).map(|number| {
        let body = map(&[
            ("study", format!("study-{number}")),
            ("dataset", "ist".to_owned()),
            ("vote", "yes".to_owned()),
            ("document", Digest::of(&number.to_be_bytes()).to_string()),
        ]);
        said("decision.vote@1", number, &body)
    });
    made.collect()
}

/// Seconds of processor time that this process has had.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = |n: usize| after.split(' ').nth(n).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

struct Row {
    wall: f64,
    processor: f64,
    latencies: Vec<Duration>,
}

fn through_hub(dir: &Path, statements: Vec<Vec<u8>>, callers: usize) -> Row {
    let config =
        HubConfig { federation: "bench".into(), operator: "Example Trust".into(), jurisdiction: "CH".into() };
    let hub = Hub::create(dir, &config).unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build().unwrap();
    let peer = Peer { key: key(12).public(), party: Some("m0".to_owned()) };
    let propose = canon::to_value(&BTreeMap::from([("charter", charter(&hub.info()))])).unwrap();
    runtime.block_on(hub.enter(&peer, &said("charter.propose@1", 0, &propose))).unwrap();
    let statements = Arc::new(statements);
    let next = Arc::new(AtomicUsize::new(0));
    let (begun, before) = (Instant::now(), processor());
    let latencies = runtime.block_on(async {
        let tasks: Vec<_> = (0..callers)
            .map(|_| {
                let (hub, peer, statements, next) =
                    (hub.clone(), peer.clone(), Arc::clone(&statements), Arc::clone(&next));
                tokio::spawn(async move {
                    let mut latencies = Vec::new();
                    while let Some(statement) = statements.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let begun = Instant::now();
                        hub.enter(&peer, statement).await.unwrap();
                        latencies.push(begun.elapsed());
                    }
                    latencies
                })
            })
            .collect();
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await.unwrap());
        }
        all
    });
    let row = Row { wall: begun.elapsed().as_secs_f64(), processor: processor() - before, latencies };
    assert_eq!(hub.size(), statements.len() as u64 + 1);
    row
}

fn store(path: &Path) -> rusqlite::Connection {
    let db = rusqlite::Connection::open(path).unwrap();
    db.execute_batch(
        "pragma journal_mode = wal; pragma synchronous = full; create table entry (idx integer primary key, bytes blob not null) strict;",
    )
    .unwrap();
    db
}

fn insert(db: &rusqlite::Connection, index: i64, entry: &[u8]) {
    db.prepare_cached("insert into entry values (?1, ?2)")
        .unwrap()
        .execute(rusqlite::params![index, entry])
        .unwrap();
}

fn entries(statements: &[Vec<u8>]) -> Vec<Vec<u8>> {
    statements.iter().map(|s| [b"comity-entry/1\ntime 1700000000000\n".as_slice(), s].concat()).collect()
}

/// To be run before the first hub is opened: from then on this process checks no signature twice.
fn with_signatures(path: &Path, statements: &[Vec<u8>]) -> Row {
    let mut db = store(path);
    let read: Vec<SignedStatement> =
        statements.iter().map(|bytes| SignedStatement::from_bytes(bytes).unwrap()).collect();
    let messages: Vec<Vec<u8>> =
        read.iter().map(|s| pae(record::statement::PAYLOAD_TYPE, s.bytes())).collect();
    let (entries, next) = (entries(statements), AtomicUsize::new(0));
    let (begun, before) = (Instant::now(), processor());
    std::thread::scope(|scope| {
        let (done, queue) = sync_channel(4 * GROUP);
        for _ in 0..THREADS {
            let (read, messages, next, done) = (&read, &messages, &next, done.clone());
            scope.spawn(move || {
                let hub = key(1);
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(signed) = read.get(at) else { return };
                    let signature = &signed.signatures()[0];
                    signature.key.verify_strict(&messages[at], &signature.sig).unwrap();
                    std::hint::black_box(hub.sign(&messages[at][..messages[at].len().min(240)]));
                    done.send(at).unwrap();
                }
            });
        }
        drop(done);
        while let Ok(first) = queue.recv() {
            let tx = db.transaction().unwrap();
            for at in std::iter::once(first).chain(queue.try_iter()).take(GROUP) {
                insert(&tx, at as i64, &entries[at]);
            }
            tx.commit().unwrap();
        }
    });
    Row { wall: begun.elapsed().as_secs_f64(), processor: processor() - before, latencies: Vec::new() }
}

fn bare(path: &Path, statements: &[Vec<u8>]) -> Row {
    let mut db = store(path);
    let entries = entries(statements);
    let (begun, before, mut latencies, mut index) = (Instant::now(), processor(), Vec::new(), 0_i64);
    for group in entries.chunks(GROUP) {
        let start = Instant::now();
        let tx = db.transaction().unwrap();
        for entry in group {
            insert(&tx, index, entry);
            index += 1;
        }
        tx.commit().unwrap();
        latencies.extend(group.iter().map(|_| start.elapsed()));
    }
    Row { wall: begun.elapsed().as_secs_f64(), processor: processor() - before, latencies }
}

fn show(name: &str, count: usize, row: &mut Row) {
    row.latencies.sort_unstable();
    let at = |part: f64| {
        let index = (row.latencies.len() as f64 * part) as usize;
        let latency = row.latencies.get(index).or(row.latencies.last());
        latency.map_or(String::new(), |l| format!("{:.1}", l.as_secs_f64() * 1e3))
    };
    println!(
        "{name:<18}{:>12.0}{:>16.1}{:>12}{:>12}",
        count as f64 / row.wall,
        row.processor * 1e6 / count as f64,
        at(0.5),
        at(0.99)
    );
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let option = |name: &str| words.iter().position(|w| w == name).and_then(|at| words.get(at + 1));
    let number = |name, default| option(name).map_or(default, |n| n.parse().expect("a number"));
    let (count, callers): (usize, usize) = (number("--statements", 10_000), number("--callers", GROUP));
    let dir = match option("--dir") {
        Some(dir) => tempfile::tempdir_in(dir).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let made = statements(count);
    let (half, rest) = made.split_at(count / 2);
    // Either way before and after the other, so that a disk that gets busy is not held against one of them.
    let mut bare_rows = vec![bare(&dir.path().join("bare-1.db"), half)];
    let mut ceiling = with_signatures(&dir.path().join("signed.db"), &made);
    let mut hub = through_hub(&dir.path().join("hub"), made.clone(), callers);
    bare_rows.push(bare(&dir.path().join("bare-2.db"), rest));
    let mut bare = bare_rows.pop().unwrap();
    for row in bare_rows {
        bare.wall += row.wall;
        bare.processor += row.processor;
        bare.latencies.extend(row.latencies);
    }
    println!("{count} statements, {callers} callers, groups of at most {GROUP}");
    println!("{:<18}{:>12}{:>16}{:>12}{:>12}", "", "appends/s", "processor us", "p50 ms", "p99 ms");
    show("hub", count, &mut hub);
    show("bare SQLite", count, &mut bare);
    show("  with signatures", count, &mut ceiling);
    println!(
        "hub / bare SQLite: {:.2} of its appends a second; hub / the same with one check and one signature each: {:.2}",
        bare.wall / hub.wall,
        ceiling.wall / hub.wall
    );
    println!(
        "with signatures / bare SQLite: {:.2}, so that much at best on these processors; processor time of the hub beyond that of the signatures: {:.1} us",
        bare.wall / ceiling.wall,
        (hub.processor - ceiling.processor) * 1e6 / count as f64
    );
}
