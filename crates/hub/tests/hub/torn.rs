//! The write-ahead log, torn at every byte of the last record: what was acknowledged before is there, and fsck is clean.

use std::fs;
use std::path::Path;

use hub::Hub;

use crate::members::*;

/// Copies a hub's folder while it runs, as a power cut would leave it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in ["hub.key", "hub.db", "hub.db-wal"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_ahead_log_that_is_torn_anywhere_in_its_last_record_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("live");
    let mut members = pair();
    let (served, _) = federation(&live, &mut members).await;
    let client = members[0].client(&served);
    for number in 0..6 {
        client.submit(&members[0].note(&format!("note {number}"))).await.unwrap();
    }
    let acknowledged = served.hub.size();
    let before = fs::metadata(live.join("hub.db-wal")).unwrap().len();
    client.submit(&members[0].note("the last")).await.unwrap();
    let torn = dir.path().join("torn");
    copy(&live, &torn);
    let whole = fs::read(torn.join("hub.db-wal")).unwrap();
    let after = whole.len() as u64;
    assert!(after > before, "the last record is in the log and not in the file yet");
    let (mut with, mut without) = (0, 0);
    // Every byte of the first and the last frame of the record, and of each frame's header; every 17th elsewhere.
    let frame = 24 + 4096;
    let within = |at: u64| (at - before) % frame <= 24;
    let ends = |at: u64| at - before <= frame || after - at <= frame;
    for cut in (before..=after).filter(|at| ends(*at) || within(*at) || at % 17 == 0) {
        copy_back(&torn, &dir.path().join("one"), &whole[..cut as usize]);
        let one = dir.path().join("one");
        let size = rows(&one);
        assert!(size == acknowledged || size == acknowledged + 1, "{size} entries, torn at {cut}");
        if size > acknowledged {
            with += 1
        } else {
            without += 1
        }
        // The rules of the record over what is left, for a sample: it costs more than opening the store.
        if cut % 97 == 0 || cut == before || cut == after {
            assert!(hub::fsck::check(&one, None, None).unwrap().is_clean(), "torn at {cut}");
            assert_eq!(Hub::open(&one).unwrap().size(), size);
        }
    }
    assert!(with > 0 && without > 0, "{with} with the last, {without} without");
    served.hub.stop();
}

fn copy_back(from: &Path, to: &Path, log: &[u8]) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for file in ["hub.key", "hub.db"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
    fs::write(to.join("hub.db-wal"), log).unwrap();
}

/// Entries of the store after SQLite has recovered it, each of which can be read.
fn rows(dir: &Path) -> u64 {
    let db = rusqlite::Connection::open(dir.join("hub.db")).unwrap();
    let sound: String = db.query_row("pragma quick_check", [], |r| r.get(0)).unwrap();
    assert_eq!(sound, "ok");
    let mut query = db.prepare("select bytes from entry order by idx").unwrap();
    let entries: Vec<Vec<u8>> = query.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect();
    entries.iter().for_each(|bytes| drop(record::Entry::from_bytes(bytes).unwrap()));
    entries.len() as u64
}
