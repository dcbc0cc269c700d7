//! The hub's tables. One connection writes (the [`writer`](crate::writer)'s), one reads.
//!
//! Promise: what a committed transaction holds survives a crash of process or machine (WAL, synchronous=FULL).
//! Nothing derived is stored: tree, roster and checkpoints follow from the entries.

use std::path::{Path, PathBuf};

use record::{Digest, Entry};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use wire::api::{MAX_BATCH, MAX_ENTRIES, Mail};

use crate::error::HubError;

const SCHEMA: &str = "
create table meta (name text primary key, value text not null) strict, without rowid;
create table entry (idx integer primary key, id blob not null unique, bytes blob not null) strict;
create table cosignature (size integer not null, name text not null, line text not null,
    primary key (size, name)) strict, without rowid;
create table blob (digest blob primary key, owner text not null, bytes blob not null) strict;
create table mailbox (party text primary key, top integer not null) strict, without rowid;
create table mail (party text not null, seq integer not null, sender text not null, bytes blob not null,
    primary key (party, seq)) strict;
create table posted (id blob primary key, at integer not null) strict, without rowid;
pragma user_version = 1;
";

/// Tables of a later version; a store without them is given them.
const SEALS: &str = "create table if not exists seal (size integer primary key, note text not null) strict;";

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, HubError> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    // Deleted frames are overwritten: what a hub keeps today may be opened in twenty years.
    connection.execute_batch(
        "pragma journal_mode = wal; pragma synchronous = full; pragma secure_delete = on; pragma foreign_keys = on;",
    )?;
    Ok(connection)
}

/// Makes the tables in an empty file.
pub(crate) fn create(path: &Path, meta: &[(&str, &str)]) -> Result<(), HubError> {
    fill(&mut connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?, meta)
}

/// Makes the tables in an empty store.
pub(crate) fn fill(connection: &mut Connection, meta: &[(&str, &str)]) -> Result<(), HubError> {
    let tx = connection.transaction()?;
    tx.execute_batch(SCHEMA)?;
    tx.execute_batch(SEALS)?;
    for (name, value) in meta {
        tx.execute("insert into meta values (?1, ?2)", params![name, value])?;
    }
    tx.commit()?;
    Ok(())
}

/// A connection for the writer or a reader of an existing store.
pub(crate) fn open(path: &Path) -> Result<Connection, HubError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let version: i64 = connection.query_row("pragma user_version", [], |row| row.get(0))?;
    if version != 1 {
        return Err(HubError::Damaged {
            path: path.to_owned(),
            reason: format!("its tables are of version {version}, expected 1"),
        });
    }
    connection.execute_batch(SEALS)?;
    Ok(connection)
}

/// A value that need not be there.
pub(crate) fn note(connection: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    connection.query_row("select value from meta where name = ?1", [name], |row| row.get(0)).optional()
}

pub(crate) fn put_note(connection: &Connection, name: &str, value: &str) -> rusqlite::Result<()> {
    connection.execute("insert or replace into meta values (?1, ?2)", [name, value]).map(drop)
}

/// Keeps a checkpoint that sealed a change of members, keys or hub.
pub(crate) fn put_seal(connection: &Connection, size: u64, note: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("insert or ignore into seal values (?1, ?2)")?
        .execute(params![integer(size), note])
        .map(drop)
}

/// Keeps one in the place of what stands there.
pub(crate) fn replace_seal(connection: &Connection, size: u64, note: &str) -> rusqlite::Result<()> {
    connection.execute("insert or replace into seal values (?1, ?2)", params![integer(size), note]).map(drop)
}

/// All such checkpoints, with the sizes that they are kept under; none in a store of before there were any.
pub(crate) fn all_seals(connection: &Connection) -> rusqlite::Result<Vec<(u64, String)>> {
    let there = "select exists (select 1 from sqlite_schema where name = 'seal')";
    if !connection.query_row(there, [], |row| row.get(0))? {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare("select size, note from seal order by size")?;
    let read =
        |row: &rusqlite::Row<'_>| Ok((u64::try_from(row.get::<_, i64>(0)?).unwrap_or(u64::MAX), row.get(1)?));
    statement.query_map([], read)?.collect()
}

/// Such checkpoints of more than `after` entries in order, as many as one answer holds.
pub(crate) fn seals(connection: &Connection, after: u64) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare_cached("select note from seal where size > ?1 order by size")?;
    let mut rows = statement.query([integer(after)])?;
    let (mut found, mut bytes) = (Vec::new(), 0usize);
    while let Some(row) = rows.next()? {
        let note: String = row.get(0)?;
        bytes += note.len();
        found.push(note);
        if bytes >= MAX_BATCH {
            break;
        }
    }
    Ok(found)
}

pub(crate) fn meta(connection: &Connection, path: &Path, name: &str) -> Result<String, HubError> {
    connection
        .query_row("select value from meta where name = ?1", [name], |row| row.get(0))
        .optional()?
        .ok_or_else(|| HubError::Damaged { path: path.to_owned(), reason: format!("`{name}` is missing") })
}

/// Goes through all entries in order.
pub(crate) fn each_entry(
    connection: &Connection,
    path: &Path,
    mut take: impl FnMut(u64, Digest, &[u8], Entry) -> Result<(), String>,
) -> Result<(), HubError> {
    let damaged = |path: &Path, reason: String| HubError::Damaged { path: PathBuf::from(path), reason };
    let mut statement = connection.prepare("select idx, id, bytes from entry order by idx")?;
    let mut rows = statement.query([])?;
    let mut next = 0u64;
    while let Some(row) = rows.next()? {
        let (index, id): (i64, [u8; 32]) = (row.get(0)?, row.get(1)?);
        let bytes = row.get_ref(2)?.as_blob().map_err(|e| damaged(path, e.to_string()))?;
        if u64::try_from(index) != Ok(next) {
            return Err(damaged(path, format!("entry {next} is missing")));
        }
        let entry = Entry::from_bytes(bytes).map_err(|e| damaged(path, format!("entry {next}: {e}")))?;
        let id = Digest::from_bytes(id);
        if entry.signed.id() != id {
            return Err(damaged(path, format!("entry {next} is not the statement `{id}`")));
        }
        take(next, id, bytes, entry).map_err(|reason| damaged(path, reason))?;
        next += 1;
    }
    Ok(())
}

/// Entries `from..to`, as many as one answer holds.
pub(crate) fn entries(connection: &Connection, from: u64, to: u64) -> Result<Vec<Vec<u8>>, rusqlite::Error> {
    let to = to.min(from.saturating_add(MAX_ENTRIES));
    let mut statement =
        connection.prepare_cached("select bytes from entry where idx >= ?1 and idx < ?2 order by idx")?;
    let mut rows = statement.query(params![integer(from), integer(to)])?;
    let (mut found, mut bytes) = (Vec::new(), 0usize);
    while let Some(row) = rows.next()? {
        let entry: Vec<u8> = row.get(0)?;
        bytes += entry.len();
        found.push(entry);
        if bytes >= MAX_BATCH {
            break;
        }
    }
    Ok(found)
}

pub(crate) fn put_entry(
    connection: &Connection,
    index: u64,
    id: &Digest,
    bytes: &[u8],
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("insert into entry values (?1, ?2, ?3)")?
        .execute(params![integer(index), id.as_bytes(), bytes])
        .map(drop)
}

pub(crate) fn cosignatures(connection: &Connection) -> Result<Vec<(u64, String)>, HubError> {
    let mut statement = connection.prepare("select size, line from cosignature order by size, name")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))?;
    let mut found = Vec::new();
    for row in rows {
        let (size, line) = row?;
        found.push((u64::try_from(size).unwrap_or(0), line));
    }
    Ok(found)
}

pub(crate) fn put_cosignature(
    connection: &Connection,
    size: u64,
    name: &str,
    line: &str,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("insert or replace into cosignature values (?1, ?2, ?3)")?
        .execute(params![integer(size), name, line])
        .map(drop)
}

pub(crate) fn drop_cosignatures_below(connection: &Connection, size: u64) -> rusqlite::Result<()> {
    connection.prepare_cached("delete from cosignature where size < ?1")?.execute([integer(size)]).map(drop)
}

pub(crate) fn put_blob(
    connection: &Connection,
    digest: &Digest,
    owner: &str,
    bytes: &[u8],
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("insert into blob values (?1, ?2, ?3)")?
        .execute(params![digest.as_bytes(), owner, bytes])
        .map(drop)
}

pub(crate) fn has_blob(connection: &Connection, digest: &Digest) -> rusqlite::Result<bool> {
    connection.prepare_cached("select 1 from blob where digest = ?1")?.exists([digest.as_bytes()])
}

pub(crate) fn blob(connection: &Connection, digest: &Digest) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached("select bytes from blob where digest = ?1")?
        .query_row([digest.as_bytes()], |row| row.get(0))
        .optional()
}

/// Bytes of blobs by owner.
pub(crate) fn blob_bytes(connection: &Connection) -> Result<Vec<(String, u64)>, HubError> {
    let mut statement = connection.prepare("select owner, sum(length(bytes)) from blob group by owner")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, count(row.get(1)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The highest number ever given in each mailbox.
pub(crate) fn mailbox_tops(connection: &Connection) -> Result<Vec<(String, u64)>, HubError> {
    let mut statement = connection.prepare("select party, top from mailbox")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, count(row.get(1)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Number, sender and size of every waiting frame, by recipient.
pub(crate) fn waiting(connection: &Connection) -> Result<Vec<(String, u64, String, u64)>, HubError> {
    let mut statement =
        connection.prepare("select party, seq, sender, length(bytes) from mail order by party, seq")?;
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, count(row.get(1)?), row.get(2)?, count(row.get(3)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(crate) fn was_posted(connection: &Connection, id: &Digest) -> rusqlite::Result<bool> {
    connection.prepare_cached("select 1 from posted where id = ?1")?.exists([id.as_bytes()])
}

pub(crate) fn put_mail(
    connection: &Connection,
    (party, seq): (&str, u64),
    sender: &str,
    id: &Digest,
    bytes: &[u8],
    at: i64,
) -> rusqlite::Result<()> {
    connection.prepare_cached("insert into mail values (?1, ?2, ?3, ?4)")?.execute(params![
        party,
        integer(seq),
        sender,
        bytes
    ])?;
    connection
        .prepare_cached("insert or replace into mailbox values (?1, ?2)")?
        .execute(params![party, integer(seq)])?;
    connection
        .prepare_cached("insert into posted values (?1, ?2)")?
        .execute(params![id.as_bytes(), at])
        .map(drop)
}

/// Frames of `party` numbered above `after`, as many as one answer holds.
pub(crate) fn mail(connection: &Connection, party: &str, after: u64) -> rusqlite::Result<Vec<Mail>> {
    let mut statement = connection
        .prepare_cached("select seq, bytes from mail where party = ?1 and seq > ?2 order by seq")?;
    let mut rows = statement.query(params![party, integer(after)])?;
    let (mut found, mut bytes) = (Vec::new(), 0usize);
    while let Some(row) = rows.next()? {
        let mail = Mail { seq: count(row.get(0)?), frame: row.get(1)? };
        bytes += mail.frame.len();
        if bytes > MAX_BATCH && !found.is_empty() {
            break;
        }
        found.push(mail);
    }
    Ok(found)
}

pub(crate) fn drop_mail(connection: &Connection, party: &str, up_to: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("delete from mail where party = ?1 and seq <= ?2")?
        .execute(params![party, integer(up_to)])
        .map(drop)
}

/// Forgets which frames were posted before `time`; a repeat of one so old is the recipient's to refuse.
pub(crate) fn forget_posted(connection: &Connection, time: i64) -> rusqlite::Result<()> {
    connection.execute("delete from posted where at < ?1", [time]).map(drop)
}

/// SQLite's integers are signed; sizes and numbers here stay far below 2^63, and a query beyond finds nothing.
fn integer(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn count(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}
