//! Checks a node's folder and makes a damaged mirror good again from another copy of the record.
//!
//! What is checked is in [`record::fsck`]; here is what reads it out of the store. A rebuild touches the entries, the
//! two checkpoints and those that sealed changes of members, keys or hub, and drops kept roots of the state, which are
//! computed again. Keys, what was said and waits, sealed secrets, what left and above all
//! the note of what this node cosigned stay as they are: a node that forgot what it cosigned could be made to cosign
//! another history.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use charter::{Charter, State};
use record::fsck::{
    COSIGNED, Copy, Damage, Fault, Kept, Place, Refill, RefillError, Refilled, Report, Scan, compare,
};
use record::log::Cosigned;
use record::member::SEAL;
use record::{Bundle, Cosignature, Digest, Entry, Roster, SignedCheckpoint, SignedStatement};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use wire::api::Have;
use wire::{HubClient, TlsIdentity};

use crate::attest::root_key;
use crate::keys::NodeKeys;
use crate::peers::OWN_LINES;
use crate::service::{in_use, lock};
use crate::store::Store;
use crate::{Config, NodeError};

/// Findings of SQLite's own that are listed.
const LISTED: usize = 16;
/// Entries fetched from a hub at once.
const BATCH: u64 = 512;
/// Notes that sealed changes are fetched from a hub up to about so many.
const MAX_SEALS: usize = 16_384;

/// Checks the folder of a node that is not running. `against` is another copy to compare with.
///
/// # Errors
/// When it cannot be looked at: it is no node's folder, or a process has it.
pub fn check(dir: &Path, against: Option<&mut dyn Copy>) -> Result<Report, NodeError> {
    let _lock = lock(dir)?.ok_or_else(|| in_use(dir))?;
    examine(dir, against)
}

fn examine(dir: &Path, against: Option<&mut dyn Copy>) -> Result<Report, NodeError> {
    let path = database(dir)?;
    let mut damages = Vec::new();
    let pinned = pinned(dir).map_err(|what| damages.push(kept_fault("charter.toml", what))).ok().flatten();
    // To look changes nothing, not even the log beside the file.
    let db = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    damages.extend(integrity(&db));
    let kept = kept(&db, pinned.as_ref().map(|(roster, _)| roster.clone()), &mut damages);
    let notes = kept.notes.len();
    let mut scan = Scan::new(kept);
    if let Err(e) = each_entry(&db, |index, bytes| scan.entry(index, bytes)) {
        damages.push(Damage::at(Place::Store, Fault::Store(e.to_string())));
    }
    let none: [(String, Vec<u8>); 0] = [];
    let mut report = scan.finish(none, &mut |index| entry(&db, index).ok().flatten());
    if let Some((_, digest)) = pinned
        && report.charter.is_some_and(|found| found != digest)
    {
        let what = format!("the record begins with another charter than `{digest}`");
        damages.push(kept_fault("charter.toml", what));
    }
    if report.size > 0 && notes == 0 {
        damages.push(kept_fault("note `checkpoint`", "missing, though there are entries".to_owned()));
    }
    if let Err(e) = statements(&db, &mut damages) {
        damages.push(Damage::at(Place::Store, Fault::Store(e.to_string())));
    }
    if let Err(e) = own_lines(&db, &mut damages) {
        damages.push(Damage::at(Place::Store, Fault::Store(e.to_string())));
    }
    // What the entries mean is asked only where they are sound.
    if report.first_bad_entry().is_none() {
        match states(&db, &mut damages) {
            Ok(state) => report.state = state,
            Err(e) => damages.push(Damage::at(Place::Store, Fault::Store(e.to_string()))),
        }
    }
    report.damages.extend(damages);
    if let Some(other) = against {
        let mut read = |index| entry(&db, index).ok().flatten();
        compare(&mut report, &mut read, other).map_err(NodeError::Input)?;
    }
    Ok(report)
}

fn database(dir: &Path) -> Result<PathBuf, NodeError> {
    let path = dir.join("store.db");
    if path.exists() {
        return Ok(path);
    }
    Err(NodeError::Input(format!(
        "`{}` has no store.db: this node was never served, or its store is gone",
        dir.display()
    )))
}

fn kept_fault(name: &str, what: String) -> Damage {
    Damage::at(Place::Kept(name.to_owned()), Fault::Store(what))
}

/// The roster that the charter of this folder begins, and its digest; nothing before the node has joined.
fn pinned(dir: &Path) -> Result<Option<(Roster, Digest)>, String> {
    let path = dir.join("charter.toml");
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).map_err(|e| e.to_string())?;
    let charter = Charter::parse("charter.toml", &text).map_err(|e| e.to_string())?;
    let value = record::canon::to_value(&charter).map_err(|e| e.to_string())?;
    let roster = Roster::of_charter(&value).map_err(|e| e.to_string())?;
    let digest = charter.digest().map_err(|e| e.to_string())?;
    Ok(Some((roster, digest)))
}

/// What SQLite finds in its own structures.
fn integrity(db: &Connection) -> Vec<Damage> {
    let listed = || -> rusqlite::Result<Vec<String>> {
        let mut query = db.prepare(&format!("pragma integrity_check({LISTED})"))?;
        query.query_map([], |row| row.get(0))?.collect()
    };
    let found = listed().unwrap_or_else(|e| vec![e.to_string()]);
    let wrong = found.into_iter().filter(|line| line != "ok");
    wrong.map(|line| Damage::at(Place::Store, Fault::Store(line))).collect()
}

fn meta(db: &Connection, key: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    db.query_row("select value from meta where key = ?1", [key], |row| row.get(0)).optional()
}

fn kept(db: &Connection, pinned: Option<Roster>, damages: &mut Vec<Damage>) -> Kept {
    let mut kept = Kept { pinned, ..Kept::default() };
    for name in ["checkpoint", "in-force"] {
        match meta(db, name) {
            Ok(Some(note)) => kept.notes.push((name.to_owned(), note)),
            Ok(None) => {}
            Err(e) => damages.push(kept_fault(&format!("note `{name}`"), e.to_string())),
        }
    }
    match seals(db) {
        Ok(seals) => kept.notes.extend(seals),
        Err(e) => damages.push(kept_fault("note `seal`", e.to_string())),
    }
    match cosigned(db) {
        Ok(cosigned) => kept.cosigned = cosigned,
        Err(what) => damages.push(kept_fault(COSIGNED, what)),
    }
    kept
}

/// The notes that sealed changes of members, keys or hub, with their names.
fn seals(db: &Connection) -> rusqlite::Result<Vec<(String, Vec<u8>)>> {
    let mut query = db.prepare("select key, value from meta where key >= ?1 and key < ?2 order by key")?;
    // The character after the last of the prefix ends the range.
    let after = format!("{}0", SEAL.trim_end_matches('/'));
    query.query_map([SEAL, &after], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// The checkpoints that a store keeps, as far as they are text.
fn notes(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut notes: Vec<Vec<u8>> = seals(db)?.into_iter().map(|(_, note)| note).collect();
    for name in ["checkpoint", "in-force"] {
        notes.extend(meta(db, name)?);
    }
    Ok(notes.into_iter().filter_map(|note| String::from_utf8(note).ok()).collect())
}

fn cosigned(db: &Connection) -> Result<Option<Cosigned>, String> {
    let Some(bytes) = meta(db, "cosigned").map_err(|e| e.to_string())? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|e| format!("not UTF-8: {e}"))?;
    let read = record::member::read_cosigned(&text).map(|(cosigned, _)| cosigned);
    read.map(Some).ok_or_else(|| format!("found `{}`, expected size, root and term", text.escape_debug()))
}

fn each_entry(db: &Connection, mut take: impl FnMut(u64, &[u8])) -> rusqlite::Result<()> {
    let mut query = db.prepare("select idx, bytes from entries order by idx")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let index = u64::try_from(row.get::<_, i64>(0)?).unwrap_or(u64::MAX);
        take(index, row.get_ref(1)?.as_blob().unwrap_or_default());
    }
    Ok(())
}

fn entry(db: &Connection, index: u64) -> rusqlite::Result<Option<Vec<u8>>> {
    let index = i64::try_from(index).unwrap_or(i64::MAX);
    db.prepare_cached("select bytes from entries where idx = ?1")?
        .query_row([index], |row| row.get(0))
        .optional()
}

fn count(db: &Connection) -> rusqlite::Result<u64> {
    let size: i64 = db.query_row("select coalesce(max(idx) + 1, 0) from entries", [], |row| row.get(0))?;
    Ok(u64::try_from(size).unwrap_or(0))
}

/// Folds the entries again; compares the roots of the state that this build kept, and gives the digest at the end.
fn states(db: &Connection, damages: &mut Vec<Damage>) -> rusqlite::Result<Option<Digest>> {
    let mut query = db.prepare("select key, value from meta where key >= 'root/' and key < 'root0'")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let kept: BTreeMap<String, Vec<u8>> = rows.collect::<rusqlite::Result<_>>()?;
    let mut state = State::new();
    each_entry(db, |_, bytes| {
        let Ok(entry) = Entry::from_bytes(bytes) else { return };
        state.apply(&entry);
        // Those of another build are its own affair: what it kept is never read by this one.
        let name = root_key(state.size);
        let Some(value) = kept.get(&name) else { return };
        let what = match state.map().map(|map| map.root().to_string()) {
            Ok(root) if root.as_bytes() == value => return,
            Ok(root) => format!("found `{}`, but the entries give {root}", value.escape_ascii()),
            Err(e) => e.to_string(),
        };
        damages.push(kept_fault(&format!("note `{name}`"), what));
    })?;
    Ok(state.digest().ok())
}

/// The lines with which this node cosigned last.
fn own_lines(db: &Connection, damages: &mut Vec<Damage>) -> rusqlite::Result<()> {
    let Some(bytes) = meta(db, OWN_LINES)? else { return Ok(()) };
    let text = String::from_utf8_lossy(&bytes);
    let sound = text.split_once('\n').is_some_and(|(size, lines)| {
        size.parse::<u64>().is_ok_and(|n| n.to_string() == size)
            && lines.split_inclusive('\n').all(|line| Cosignature::from_line(line).is_ok())
    });
    if !sound {
        let what = "expected a size and lines of cosignatures".to_owned();
        damages.push(kept_fault(&format!("note `{OWN_LINES}`"), what));
    }
    Ok(())
}

/// Statements that wait for the record: form, signatures and the id under which they are kept.
fn statements(db: &Connection, damages: &mut Vec<Damage>) -> rusqlite::Result<()> {
    let mut query = db.prepare("select id, bytes from outbox")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (id, bytes): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let sound = match SignedStatement::from_bytes(&bytes) {
            Ok(signed) if signed.id().to_string() != id => Err("it has another digest".to_owned()),
            Ok(signed) => signed.verify().map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        };
        if let Err(what) = sound {
            damages.push(kept_fault(&format!("waiting statement {id}"), what));
        }
    }
    Ok(())
}

/// What a rebuild did.
#[derive(Debug)]
pub struct Rebuilt {
    /// What was damaged.
    pub before: Report,
    /// Where the damaged store is kept.
    pub damaged: PathBuf,
    /// The new mirror.
    pub refilled: Refilled,
    /// What a check finds now.
    pub after: Report,
}

/// Makes a damaged mirror good again from another copy; nothing if it is sound. The damaged store is kept beside.
///
/// # Errors
/// When it cannot be done; then the store is as it was.
pub fn rebuild(dir: &Path, from: &mut dyn Copy) -> Result<Option<Rebuilt>, NodeError> {
    let _lock = lock(dir)?.ok_or_else(|| in_use(dir))?;
    let before = examine(dir, None)?;
    if before.is_clean() {
        return Ok(None);
    }
    let path = database(dir)?;
    let charter = pinned(dir).map_err(NodeError::Input)?.map(|(_, digest)| digest);
    if let Some(damage) = before.damages.iter().find(|d| beyond_repair(d)) {
        return Err(NodeError::Input(format!(
            "{damage}\nno other copy has that: restore this node from its backup, or join with a new key"
        )));
    }
    let damaged = set_aside(&path)?;
    let torn = before.damages.iter().any(|d| d.place == Place::Store);
    let first = if torn {
        salvage(&path)?;
        let left = examine(dir, None)?;
        left.first_bad_entry().unwrap_or(left.size)
    } else {
        before.first_bad_entry().unwrap_or(before.size)
    };
    let refilled = match refill(&path, &before, first, charter, from) {
        // The damage may begin below what could be seen.
        Err(NodeError::Refill(RefillError::Fork { .. } | RefillError::Unproved)) if first > 0 => {
            refill(&path, &before, 0, charter, from)?
        }
        other => other?,
    };
    let after = examine(dir, None)?;
    Ok(Some(Rebuilt { before, damaged, refilled, after }))
}

/// Whether only this node had it.
fn beyond_repair(damage: &Damage) -> bool {
    match &damage.place {
        // A note that can be read and does not fit is a question for the other copy.
        Place::Kept(name) if name == COSIGNED => !matches!(damage.fault, Fault::Root { .. }),
        Place::Kept(name) => !name.starts_with("note "),
        _ => false,
    }
}

/// Copies the store as it is to the next free name.
fn set_aside(path: &Path) -> Result<PathBuf, NodeError> {
    let name = |number: u32, end: &str| PathBuf::from(format!("{}.damaged-{number}{end}", path.display()));
    let free = (1..u32::MAX).find(|n| !name(*n, "").exists()).unwrap_or(u32::MAX);
    for end in ["", "-wal"] {
        let from = PathBuf::from(format!("{}{end}", path.display()));
        if from.exists() {
            let to = name(free, end);
            let copied = std::fs::copy(&from, &to).and_then(|_| std::fs::File::open(&to)?.sync_all());
            copied.map_err(|e| NodeError::io(&to, e))?;
            crate::private(&to)?;
        }
    }
    Ok(name(free, ""))
}

/// Where SQLite's own structures are damaged: a new file with all that can be read. Only entries may be missing.
fn salvage(path: &Path) -> Result<(), NodeError> {
    let new = PathBuf::from(format!("{}.new", path.display()));
    let _ = std::fs::remove_file(&new);
    drop(Store::open(&new)?);
    let db = Connection::open(&new)?;
    db.execute("attach database ?1 as old", [path.display().to_string()])?;
    let tables: Vec<String> = {
        let mut query = db.prepare("select name from main.sqlite_schema where type = 'table'")?;
        query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?
    };
    for table in tables.iter().filter(|t| *t != "entries") {
        db.execute_batch(&format!("insert into main.\"{table}\" select * from old.\"{table}\"")).map_err(|e| {
            NodeError::Input(format!(
                "table `{table}` cannot be read: {e}\nno other copy has it: restore this node from its backup"
            ))
        })?;
    }
    let size: i64 =
        db.query_row("select coalesce(max(idx) + 1, 0) from old.entries", [], |r| r.get(0)).unwrap_or(0);
    for index in 0..size {
        // One that cannot be read is one that is refilled.
        let _ = db.execute("insert into main.entries select * from old.entries where idx = ?1", [index]);
    }
    db.execute_batch("detach database old; pragma wal_checkpoint(truncate)")?;
    drop(db);
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", path.display()));
    }
    std::fs::rename(&new, path).map_err(|e| NodeError::io(path, e))
}

fn refill(
    path: &Path,
    before: &Report,
    cut: u64,
    charter: Option<Digest>,
    from: &mut dyn Copy,
) -> Result<Refilled, NodeError> {
    let mut db = Connection::open(path)?;
    db.pragma_update(None, "secure_delete", "ON")?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    let cosigned = cosigned(&db).map_err(NodeError::Input)?;
    let plan = Refill { cut, size: count(&db)?, notes: notes(&db)?, cosigned, charter, uncovered: false };
    let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let mut own = |index| entry(&tx, index).ok().flatten();
    let mut keep = |index: u64, _: &record::Entry, bytes: &[u8]| {
        let index = i64::try_from(index).map_err(|e| e.to_string())?;
        let written = tx
            .prepare_cached("insert or replace into entries values(?1, ?2)")
            .and_then(|mut insert| insert.execute(params![index, bytes]));
        written.map(drop).map_err(|e| e.to_string())
    };
    let refilled = plan.run(&mut own, from, &mut keep)?;
    let size = i64::try_from(refilled.size).unwrap_or(i64::MAX);
    tx.execute("delete from entries where idx >= ?1", [size])?;
    let put = "insert or replace into meta values(?1, ?2)";
    tx.execute(put, params!["checkpoint", refilled.checkpoint.to_note().into_bytes()])?;
    match &refilled.in_force {
        Some(evidence) => {
            tx.execute(put, params!["in-force", evidence.checkpoint().to_note().into_bytes()])?
        }
        None => tx.execute("delete from meta where key = 'in-force'", [])?,
    };
    for (name, note) in seals(&tx)? {
        let text = String::from_utf8(note).ok();
        let kept = text.and_then(|text| SignedCheckpoint::parse(&text).ok());
        let damaged =
            before.damages.iter().any(|d| matches!(&d.place, Place::Note { name: n, .. } if *n == name));
        // What does not hold says nothing, and one of what was cut off would hold the node up at its next start. Where
        // it is known, it is put back.
        if damaged || kept.is_none_or(|note| note.checkpoint().size() > refilled.size) {
            tx.execute("delete from meta where key = ?1", [name])?;
        }
    }
    // They follow from the entries, and are computed again when they are asked for.
    tx.execute("delete from meta where key >= 'root/' and key < 'root0'", [])?;
    let lines = format!("note `{OWN_LINES}`");
    if before.damages.iter().any(|d| matches!(&d.place, Place::Kept(name) if *name == lines)) {
        tx.execute("delete from meta where key = ?1", [OWN_LINES])?;
    }
    for (size, note) in &refilled.seals {
        tx.execute(put, params![format!("{SEAL}{size}"), note.to_note().into_bytes()])?;
    }
    tx.commit()?;
    Ok(refilled)
}

/// Another member's folder, or this one's, as a copy to compare with or to fill up from.
pub struct Folder {
    db: Connection,
}

impl Folder {
    /// Opens the store in a node's folder to read it. A node that is being served may be read too.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(dir: &Path) -> Result<Folder, NodeError> {
        let path = database(dir)?;
        let db = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
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

    fn notes(&mut self) -> Result<Vec<String>, String> {
        notes(&self.db).map_err(|e| e.to_string())
    }
}

/// The hub that a node was joined with, over the wire, as a copy.
pub struct OverWire {
    client: HubClient,
    runtime: tokio::runtime::Runtime,
    notes: Vec<String>,
    size: u64,
    /// Index of the first entry of the batch in hand, and the batch.
    batch: (u64, Vec<Vec<u8>>),
}

impl OverWire {
    /// Asks the hub of the node in `dir` what it has.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn open(dir: &Path) -> Result<OverWire, NodeError> {
        let config = Config::read(dir)?;
        let keys = NodeKeys::open(&dir.join("node.key"))?;
        let (addr, hub) = crate::term::hub_of(dir)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| NodeError::Input(format!("no runtime: {e}")))?;
        let identity = TlsIdentity::from_seed(&keys.tls_seed())?;
        let client = {
            let _inside = runtime.enter();
            HubClient::through(&identity, &addr, hub.tls, config.proxy.as_ref())?
        };
        let sync = runtime.block_on(client.sync(Have::default(), Duration::ZERO))?;
        let mut notes = runtime.block_on(seals_of(&client))?;
        notes.extend([sync.checkpoint, sync.sealed_checkpoint].into_iter().flatten());
        Ok(OverWire { client, runtime, notes, size: sync.size, batch: (0, Vec::new()) })
    }
}

/// The notes that sealed changes of members, keys or hub, as the hub has them.
async fn seals_of(client: &HubClient) -> Result<Vec<String>, NodeError> {
    let (mut seals, mut after) = (Vec::new(), 0);
    while seals.len() < MAX_SEALS {
        let batch = client.seals(after).await?;
        let sizes = batch.iter().filter_map(|note| SignedCheckpoint::parse(note).ok());
        let last = sizes.map(|note| note.checkpoint().size()).max().unwrap_or(0);
        // A hub that says the same again has said all.
        if last <= after {
            break;
        }
        after = last;
        seals.extend(batch);
    }
    Ok(seals)
}

impl Copy for OverWire {
    fn size(&mut self) -> Result<u64, String> {
        Ok(self.size)
    }

    fn entry(&mut self, index: u64) -> Result<Option<Vec<u8>>, String> {
        if index >= self.size {
            return Ok(None);
        }
        let held = |(first, batch): &(u64, Vec<Vec<u8>>)| {
            let at = usize::try_from(index.checked_sub(*first)?).ok()?;
            batch.get(at).cloned()
        };
        if let Some(entry) = held(&self.batch) {
            return Ok(Some(entry));
        }
        let to = index.saturating_add(BATCH).min(self.size);
        let batch = self.runtime.block_on(self.client.entries(index, to)).map_err(|e| e.to_string())?;
        self.batch = (index, batch);
        Ok(held(&self.batch))
    }

    fn notes(&mut self) -> Result<Vec<String>, String> {
        Ok(self.notes.clone())
    }
}

/// A node's folder or a bundle's file as a copy.
///
/// # Errors
/// When it is neither.
pub fn copy_at(path: &Path) -> Result<Box<dyn Copy>, NodeError> {
    if path.is_dir() {
        return Ok(Box::new(Folder::open(path)?));
    }
    let bytes = std::fs::read(path).map_err(|e| NodeError::io(path, e))?;
    let bundle = Bundle::read(&bytes).map_err(|e| NodeError::Input(format!("{}: {e}", path.display())))?;
    Ok(Box::new(bundle))
}
