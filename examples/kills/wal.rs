//! A write-ahead log that ends within its last record, as a power cut leaves it.

use fastrand::Rng;
use std::fs;
use std::path::Path;

const HEADER: usize = 32;
const FRAME: usize = 24;
/// Where in the shared index SQLite counts the frames that are in the file already (`nBackfill`).
const BACKFILL: usize = 96;

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_be_bytes(b.try_into().unwrap()))
}

/// Frames up to the commit before the last one and up to the last one, in bytes of the log; nothing without a record.
fn last_record(log: &[u8]) -> Option<(usize, usize)> {
    let page = word(log, 8) as usize;
    let salts = log.get(16..24)?;
    let (mut before, mut last, mut at) = (HEADER, HEADER, HEADER);
    // What an earlier round of the log left behind has other salts.
    while page > 0 && at + FRAME + page <= log.len() && log[at + 8..at + 16] == *salts {
        let commits = word(log, at + 4) > 0;
        at += FRAME + page;
        if commits {
            (before, last) = (last, at);
        }
    }
    (last > before).then_some((before, last))
}

/// Cuts the log of the store at `path` at a byte of its last record, unless a part of that is in the file already: it
/// is synced before, so it cannot be torn then. Gives how many bytes of the record are left, and of how many.
pub fn cut(path: &Path, rng: &mut Rng) -> Option<(usize, usize)> {
    let beside = |end: &str| path.with_extension(format!("db-{end}"));
    let log = fs::read(beside("wal")).ok()?;
    let (before, last) = last_record(&log)?;
    let index = fs::read(beside("shm")).unwrap_or_default();
    let moved = index.get(BACKFILL..BACKFILL + 4).map_or(0, |b| u32::from_ne_bytes(b.try_into().unwrap()));
    if moved as usize > (before - HEADER) / (FRAME + word(&log, 8) as usize) {
        return None;
    }
    let kept = rng.usize(..last - before);
    fs::OpenOptions::new().write(true).open(beside("wal")).unwrap().set_len((before + kept) as u64).unwrap();
    // The index lives in memory that a power cut clears.
    let _ = fs::remove_file(beside("shm"));
    Some((kept, last - before))
}
