//! Checks a hub's folder and makes a damaged log good again from a member's copy.
//!
//! Tiles are looked for where a hub publishes them if it is told no other place, the folder [`TILES`] in its own, or in
//! the folder that is named; those in a bucket are for [`crate::tiles`], which compares before it writes.
//!
//! What is checked is in [`record::fsck`]; here is what reads it out of the store. A rebuild touches the entries and the
//! checkpoints that sealed changes of members, keys or hub, and adds the cosignatures that the member's checkpoint has.
//! A hub signs one root for a size for good, so it must have as many entries after a rebuild as before, the same ones:
//! what no member has yet stays as it is, if it is sound.

use std::path::{Path, PathBuf};
use std::time::Duration;

use record::fsck::{Copy, Damage, Fault, Kept, Place, Refill, RefillError, Refilled, Report, Scan, compare};
use record::{Digest, Entry, SecretKey, SignedCheckpoint};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};

use crate::files::{self, Seeds};
use crate::{HubError, store};

/// Findings of SQLite's own that are listed.
const LISTED: usize = 16;
/// Deepest folder of tiles.
const DEEPEST: usize = 12;

/// Where a hub publishes tiles if it is told no other place, in its folder.
pub const TILES: &str = "tiles";

/// Checks the folder of a hub that is not running. `tiles` is where they are published, if not in the folder [`TILES`]
/// of `dir`; `against` is another copy to compare with.
///
/// # Errors
/// When it cannot be looked at: it holds no hub, a process has it, or there is no such folder of tiles.
pub fn check(dir: &Path, tiles: Option<&Path>, against: Option<&mut dyn Copy>) -> Result<Report, HubError> {
    let path = database(dir)?;
    let _lock = files::lock(dir)?;
    let tiles = published(dir, tiles)?;
    examine(dir, &path, &tiles, against)
}

/// The folder of the tiles. One that was named must be there.
fn published(dir: &Path, tiles: Option<&Path>) -> Result<PathBuf, HubError> {
    let Some(named) = tiles else { return Ok(dir.join(TILES)) };
    match std::fs::read_dir(named) {
        Ok(_) => Ok(named.to_owned()),
        Err(source) => Err(HubError::File { what: "list", path: named.to_owned(), source }),
    }
}

fn database(dir: &Path) -> Result<PathBuf, HubError> {
    let path = files::database(dir);
    if path.exists() { Ok(path) } else { Err(HubError::Absent(dir.to_owned())) }
}

fn kept_fault(name: String, what: String) -> Damage {
    Damage::at(Place::Kept(name), Fault::Store(what))
}

fn examine(
    dir: &Path,
    path: &Path,
    published: &Path,
    against: Option<&mut dyn Copy>,
) -> Result<Report, HubError> {
    // To look changes nothing, not even the log beside the file.
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut damages = integrity(&db);
    let mut kept = Kept::default();
    match store::cosignatures(&db) {
        Ok(lines) => {
            let name = |line: &str| line.split(' ').nth(1).unwrap_or("").to_owned();
            kept.cosignatures = lines.into_iter().map(|(size, line)| (size, name(&line), line)).collect();
            named(&db, &mut kept);
        }
        Err(e) => damages.push(Damage::at(Place::Store, Fault::Store(e.to_string()))),
    }
    match store::all_seals(&db) {
        Ok(seals) => kept.notes.extend(seals.into_iter().map(|(size, note)| (seal(size), note.into_bytes()))),
        Err(e) => damages.push(Damage::at(Place::Store, Fault::Store(e.to_string()))),
    }
    if let Ok(note) = std::fs::read(published.join("checkpoint")) {
        kept.notes.push(("checkpoint".to_owned(), note));
    }
    let mut scan = Scan::new(kept);
    let mut ids = Vec::new();
    let taken = each_entry(&db, |index, id, bytes| {
        scan.entry(index, bytes);
        // An entry that cannot be read is found by the scan.
        let other = Entry::from_bytes(bytes).is_ok_and(|entry| entry.signed.id().as_bytes().as_slice() != id);
        if other && ids.len() < LISTED {
            ids.push(index);
        }
    });
    if let Err(e) = taken {
        damages.push(Damage::at(Place::Store, Fault::Store(e.to_string())));
    }
    let tiles = tiles(published);
    let mut report = scan.finish(tiles, &mut |index| entry(&db, index).ok().flatten());
    // The id follows from the statement: where the entry is sound, it is the id that fell.
    let entries: Vec<u64> = report.damages.iter().filter_map(Damage::entry).collect();
    for index in ids.into_iter().filter(|index| !entries.contains(index)) {
        damages.push(kept_fault(format!("id of entry {index}"), "it is another statement's".to_owned()));
    }
    if let Err(e) = blobs(&db, &mut damages) {
        damages.push(Damage::at(Place::Store, Fault::Store(e.to_string())));
    }
    keys(dir, &mut damages);
    report.damages.extend(damages);
    if let Some(other) = against {
        let mut read = |index| entry(&db, index).ok().flatten();
        compare(&mut report, &mut read, other).map_err(|reason| HubError::Copy { reason })?;
    }
    Ok(report)
}

/// What a note that sealed a change is called.
fn seal(size: u64) -> String {
    format!("seal/{size}")
}

/// The names under which cosignatures are kept, in the place of those in their lines.
fn named(db: &Connection, kept: &mut Kept) {
    let names = || -> rusqlite::Result<Vec<String>> {
        let mut query = db.prepare("select name from cosignature order by size, name")?;
        query.query_map([], |row| row.get(0))?.collect()
    };
    if let Ok(names) = names() {
        for (kept, name) in kept.cosignatures.iter_mut().zip(names) {
            kept.1 = name;
        }
    }
}

fn integrity(db: &Connection) -> Vec<Damage> {
    let listed = || -> rusqlite::Result<Vec<String>> {
        let mut query = db.prepare(&format!("pragma integrity_check({LISTED})"))?;
        query.query_map([], |row| row.get(0))?.collect()
    };
    let found = listed().unwrap_or_else(|e| vec![e.to_string()]);
    let wrong = found.into_iter().filter(|line| line != "ok");
    wrong.map(|line| Damage::at(Place::Store, Fault::Store(line))).collect()
}

fn keys(dir: &Path, damages: &mut Vec<Damage>) {
    if let Err(e) = Seeds::read(dir) {
        damages.push(kept_fault("hub.key".to_owned(), e.to_string()));
    }
}

fn each_entry(db: &Connection, mut take: impl FnMut(u64, &[u8], &[u8])) -> rusqlite::Result<()> {
    let mut query = db.prepare("select idx, id, bytes from entry order by idx")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let index = u64::try_from(row.get::<_, i64>(0)?).unwrap_or(u64::MAX);
        let id = row.get_ref(1)?.as_blob().unwrap_or_default();
        take(index, id, row.get_ref(2)?.as_blob().unwrap_or_default());
    }
    Ok(())
}

fn entry(db: &Connection, index: u64) -> rusqlite::Result<Option<Vec<u8>>> {
    let index = i64::try_from(index).unwrap_or(i64::MAX);
    db.prepare_cached("select bytes from entry where idx = ?1")?
        .query_row([index], |row| row.get(0))
        .optional()
}

fn count(db: &Connection) -> rusqlite::Result<u64> {
    let size: i64 = db.query_row("select coalesce(max(idx) + 1, 0) from entry", [], |row| row.get(0))?;
    Ok(u64::try_from(size).unwrap_or(0))
}

fn blobs(db: &Connection, damages: &mut Vec<Damage>) -> rusqlite::Result<()> {
    let mut query = db.prepare("select digest, bytes from blob")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let bytes = row.get_ref(1)?.as_blob().unwrap_or_default();
        let named = row.get_ref(0)?.as_blob().unwrap_or_default();
        if Digest::of(bytes).as_bytes() != named {
            let name = named.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>();
            damages
                .push(kept_fault(format!("blob {name}"), "it has other content than its digest".to_owned()));
        }
    }
    Ok(())
}

/// Tiles that are kept as files, by their paths.
fn tiles(dir: &Path) -> impl Iterator<Item = (String, Vec<u8>)> {
    let mut found = Vec::new();
    walk(&dir.join("tile"), DEEPEST, &mut found);
    found.sort();
    let dir = dir.to_owned();
    found.into_iter().filter_map(move |path| {
        let name = path.strip_prefix(&dir).ok()?.to_str()?.to_owned();
        Some((name, std::fs::read(&path).unwrap_or_default()))
    })
}

fn walk(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => walk(&entry.path(), depth - 1, found),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

/// What a rebuild did.
#[derive(Debug)]
pub struct Rebuilt {
    /// What was damaged.
    pub before: Report,
    /// Where the damaged store is kept.
    pub damaged: PathBuf,
    /// The new log.
    pub refilled: Refilled,
    /// What a check finds now.
    pub after: Report,
}

/// Makes a damaged log good again from a member's copy; nothing if it is sound. The damaged store is kept beside.
///
/// # Errors
/// When it cannot be done; then the store is as it was.
pub fn rebuild(dir: &Path, tiles: Option<&Path>, from: &mut dyn Copy) -> Result<Option<Rebuilt>, HubError> {
    let path = database(dir)?;
    let _lock = files::lock(dir)?;
    let tiles = published(dir, tiles)?;
    let before = examine(dir, &path, &tiles, None)?;
    if before.is_clean() {
        return Ok(None);
    }
    let beyond = |d: &&Damage| match &d.place {
        Place::Store => true,
        Place::Kept(name) => !name.starts_with("id of entry"),
        _ => false,
    };
    if let Some(damage) = before.damages.iter().find(beyond) {
        let reason = format!("{damage}; no member's copy has that: restore this folder from its backup");
        return Err(HubError::Damaged { path, reason });
    }
    let damaged = set_aside(&path)?;
    let first = before.first_bad_entry().unwrap_or(before.size);
    let refilled = match refill(dir, &before, first, from) {
        // The damage may begin below what could be seen.
        Err(HubError::Refill(RefillError::Fork { .. } | RefillError::Unproved)) if first > 0 => {
            refill(dir, &before, 0, from)?
        }
        other => other?,
    };
    drop_tiles(&tiles, &before)?;
    let after = examine(dir, &path, &tiles, None)?;
    Ok(Some(Rebuilt { before, damaged, refilled, after }))
}

fn set_aside(path: &Path) -> Result<PathBuf, HubError> {
    let name = |number: u32, end: &str| PathBuf::from(format!("{}.damaged-{number}{end}", path.display()));
    let free = (1..u32::MAX).find(|n| !name(*n, "").exists()).unwrap_or(u32::MAX);
    for end in ["", "-wal"] {
        let from = PathBuf::from(format!("{}{end}", path.display()));
        if from.exists() {
            let to = name(free, end);
            let copied = std::fs::copy(&from, &to).and_then(|_| std::fs::File::open(&to)?.sync_all());
            copied.map_err(|source| HubError::File { what: "copy the store to", path: to, source })?;
        }
    }
    Ok(name(free, ""))
}

/// Damaged tiles follow from the entries and are written again.
fn drop_tiles(tiles: &Path, before: &Report) -> Result<(), HubError> {
    for damage in &before.damages {
        if let Place::Tile(name) = &damage.place {
            let path = tiles.join(name);
            std::fs::remove_file(&path).map_err(|source| HubError::File { what: "remove", path, source })?;
        }
    }
    Ok(())
}

fn refill(dir: &Path, before: &Report, cut: u64, from: &mut dyn Copy) -> Result<Refilled, HubError> {
    let mut db = store::open(&files::database(dir))?;
    let hub = SecretKey::from_seed(*Seeds::read(dir)?.sign).public();
    let notes = store::all_seals(&db)?.into_iter().map(|(_, note)| note).collect();
    let plan = Refill { cut, size: count(&db)?, notes, uncovered: true, ..Refill::default() };
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut own = |index| entry(&tx, index).ok().flatten();
    let mut keep = |index: u64, entry: &Entry, bytes: &[u8]| {
        let index = i64::try_from(index).map_err(|e| e.to_string())?;
        let id = entry.signed.id();
        // An id may have stood at a damaged entry.
        let written = tx
            .prepare_cached("delete from entry where id = ?1 or idx = ?2")
            .and_then(|mut delete| delete.execute(params![id.as_bytes(), index]))
            .and_then(|_| tx.prepare_cached("insert into entry values (?1, ?2, ?3)"))
            .and_then(|mut insert| insert.execute(params![index, id.as_bytes(), bytes]));
        written.map(drop).map_err(|e| e.to_string())
    };
    let refilled = plan.run(&mut own, from, &mut keep)?;
    let size = i64::try_from(refilled.size).unwrap_or(i64::MAX);
    tx.execute("delete from entry where idx >= ?1", [size])?;
    refilled.checkpoint.verify_hub(&hub).map_err(RefillError::from)?;
    if let Some(evidence) = &refilled.in_force {
        cosignatures(&tx, evidence.checkpoint())?;
    }
    for (size, _) in store::all_seals(&tx)? {
        let name = seal(size);
        // What does not hold says nothing; where it is known, it is put back.
        if before.damages.iter().any(|d| matches!(&d.place, Place::Note { name: n, .. } if *n == name)) {
            tx.execute("delete from seal where size = ?1", [i64::try_from(size).unwrap_or(i64::MAX)])?;
        }
    }
    for (size, note) in &refilled.seals {
        store::replace_seal(&tx, *size, &note.to_note())?;
    }
    for damage in &before.damages {
        if let Place::Cosignature { size, name } = &damage.place {
            let size = i64::try_from(*size).unwrap_or(i64::MAX);
            // What does not hold says nothing; the same line may just have been put back, and then holds.
            let line: Option<String> = tx
                .query_row(
                    "select line from cosignature where size = ?1 and name = ?2",
                    params![size, name],
                    |r| r.get(0),
                )
                .optional()?;
            let put = refilled
                .in_force
                .as_ref()
                .is_some_and(|e| line.is_some_and(|line| e.checkpoint().to_note().contains(&line)));
            if !put {
                tx.execute("delete from cosignature where size = ?1 and name = ?2", params![size, name])?;
            }
        }
    }
    tx.commit()?;
    Ok(refilled)
}

/// Keeps the cosignatures of a checkpoint in force, in the place of damaged ones.
fn cosignatures(tx: &Connection, checkpoint: &SignedCheckpoint) -> Result<(), HubError> {
    let size = checkpoint.checkpoint().size();
    for line in checkpoint.lines() {
        store::put_cosignature(tx, size, &line.slot(), &line.to_line())?;
    }
    Ok(())
}

/// A hub's folder as a copy to compare with.
pub struct Folder {
    db: Connection,
}

impl Folder {
    /// Opens the store in a hub's folder to read it.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(dir: &Path) -> Result<Folder, HubError> {
        let db = Connection::open_with_flags(database(dir)?, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        db.busy_timeout(Duration::from_secs(5))?;
        Ok(Folder { db })
    }
}

impl Copy for Folder {
    fn size(&mut self) -> Result<u64, String> {
        count(&self.db).map_err(|e| e.to_string())
    }

    fn entry(&mut self, index: u64) -> Result<Option<Vec<u8>>, String> {
        entry(&self.db, index).map_err(|e| e.to_string())
    }

    /// Those that sealed changes: a hub keeps no others, it signs them again from its entries.
    fn notes(&mut self) -> Result<Vec<String>, String> {
        let seals = store::all_seals(&self.db).map_err(|e| e.to_string())?;
        Ok(seals.into_iter().map(|(_, note)| note).collect())
    }
}

#[cfg(test)]
mod tests;
