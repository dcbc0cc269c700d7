//! The logs that a witness follows, their keys, and what it cosigned of each, in `witness.db`.
//!
//! # When a log gets another key
//!
//! C2SP tlog-witness knows a log by its origin line, lets a witness trust several keys for it, and has it go on from the
//! latest checkpoint that it cosigned *of that origin*. A log whose hub was replaced keeps its origin and has a new key,
//! and its next hub may begin below what the hub before it showed a witness last: what nobody had in force goes back to
//! pending and is entered again, elsewhere. To a witness that is two histories, and by itself it rightly refuses the
//! second. So its operator says so, once, by hand: the log's key is now this one, and it goes on from so many entries, the
//! *base*. From then on
//!
//! - the key before is cosigned no more, so at any time one key of an origin is. Nothing brings it back, but taking back a
//!   hand-over by which nothing was cosigned yet;
//! - the next key is held to the largest tree of at most `base` entries that was cosigned here: its first checkpoint has to
//!   be proved to begin with that one, and callers are told its size as that of the latest checkpoint;
//! - under one key a log only grows, as ever.
//!
//! **What the two keys together can have cosigned.** Up to the base one history. Above it at most one a key: the end of the
//! old hub's, which was shown before the hand-over was typed, and the new hub's. A cosignature names no log key, so a new
//! hub that lies can hang an old line under a checkpoint of its own over the old hub's end. It gains nothing where it
//! counts: the rule for the base takes every witness to have cosigned anything of the old term (`record::term`), so what
//! could be in force by such lines stays below the base; and at the base stands the statement that begins the term, which
//! the old hub's end has not. A reader who sees checkpoints alone, of both hubs, sees two histories, and has to know where
//! the term began. Who brings the operator to type a wrong key or base can fork the log here from that base on: that is
//! why the base is compared with the members by another way than through the hub, why more than half of the members have
//! to cosign whatever witnesses do, and why a quorum asks more than one of these.

use std::path::Path;
use std::time::Duration;

use record::witness::{Seen, log_key};
use record::{Digest, PublicKey};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::wrong;
use crate::error::HubError;

/// Of the trees cosigned under one key the latest so many are kept, and of the older ones the first in every so many
/// entries: a base may lie that far below what was cosigned last and is still held to what it begins with.
const RECENT: i64 = 1024;

/// `term` has the keys of a log, one after another; `seen` what was cosigned under each.
const TABLES: &str = "
create table term (origin text, number integer, key text not null, base integer not null,
    primary key (origin, number)) strict, without rowid;
create table seen (origin text, number integer, size integer, root blob not null,
    primary key (origin, number, size)) strict, without rowid;
pragma user_version = 2;
";
/// From the first form, which had one key and one tree of a log.
const FROM_1: &str = "
insert into term select origin, 0, key, 0 from log;
insert into seen select origin, 0, size, root from log where size > 0;
drop table log;
";

/// How a log is followed after it was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Followed {
    /// the key whose checkpoints are cosigned
    pub key: PublicKey,
    /// size of the tree that the next checkpoint has to begin with
    pub from: u64,
    /// size of the largest tree that was cosigned under a key before and is not gone on from
    pub left: Option<u64>,
}

/// Opens the store of the witness in `dir`, and brings it to the present form.
pub(super) fn connect(dir: &Path) -> Result<Connection, HubError> {
    let path = dir.join("witness.db");
    if !path.exists() {
        return Err(wrong(dir, "there is no witness here; make one with `comity witness init`"));
    }
    let mut store = Connection::open(&path)?;
    store.busy_timeout(Duration::from_secs(5))?;
    store.execute_batch("pragma journal_mode = wal; pragma synchronous = full;")?;
    let tx = store.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match tx.query_row("pragma user_version", [], |row| row.get::<_, i64>(0))? {
        0 => tx.execute_batch(TABLES)?,
        1 => tx.execute_batch(&format!("{TABLES}{FROM_1}"))?,
        2 => {}
        other => return Err(wrong(&path, format!("found form {other} of its store, expected 2 at most"))),
    }
    tx.commit()?;
    Ok(store)
}

/// Makes the log `origin` known, with its key: hexadecimal, or a verifier key. With `base`, another hub of a log that is
/// known has taken over with that key and begins after so many entries. May be done while the witness is served.
///
/// # Errors
/// When the key is none of that origin; another is known and no base is given; the key was followed by another; or
/// something was cosigned under it after a hand-over with another base.
pub fn add_log(dir: &Path, origin: &str, key: &str, base: Option<u64>) -> Result<Followed, HubError> {
    let key = log_key(origin, key).map_err(|e| wrong(dir, e))?;
    let mut store = connect(dir)?;
    let tx = store.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match (current(&tx, origin)?, base) {
        (None, None) => begin(&tx, origin, 0, &key, 0)?,
        (None, Some(_)) => {
            return Err(wrong(dir, format!("log `{origin}` is not known here: add it without `--base`")));
        }
        (Some(term), None) if term.key == key.to_string() => {}
        (Some(term), None) => {
            return Err(wrong(
                dir,
                format!(
                    "log `{origin}` is known here with the key {}; if another hub has taken over, ask the members \
                     where its term begins and say it with `--base`",
                    term.key
                ),
            ));
        }
        (Some(term), Some(base)) => hand_over(&tx, dir, origin, term, &key, base)?,
    }
    let seen = last(&tx, origin).map_err(|e| wrong(dir, e))?;
    let from = seen.map_or(0, |(_, seen)| seen.map_or(0, |seen| seen.size));
    let left: Option<i64> =
        tx.query_row("select max(size) from seen where origin = ?1", [origin], |row| row.get(0))?;
    let left = left.and_then(|size| u64::try_from(size).ok()).filter(|size| *size > from);
    tx.commit()?;
    Ok(Followed { key, from, left })
}

/// The next key of a log, or another word on a hand-over by which nothing was cosigned yet.
fn hand_over(
    tx: &Transaction<'_>,
    dir: &Path,
    origin: &str,
    mut term: Term,
    key: &PublicKey,
    base: u64,
) -> Result<(), HubError> {
    let text = key.to_string();
    if term.key == text && term.number > 0 && term.base == base {
        return Ok(());
    }
    if term.number > 0 && term.unused {
        tx.execute("delete from term where origin = ?1 and number = ?2", params![origin, term.number])?;
        term = current(tx, origin)?.ok_or_else(|| wrong(dir, "its store has lost a log's first key"))?;
        if term.key == text {
            return Ok(());
        }
    }
    if term.key == text {
        return Err(wrong(
            dir,
            format!(
                "checkpoints of `{origin}` were cosigned under that key already, and its beginning stays"
            ),
        ));
    }
    let ended = "select exists (select 1 from term where origin = ?1 and key = ?2)";
    if tx.query_row(ended, [origin, &text], |row| row.get::<_, bool>(0))? {
        return Err(wrong(dir, format!("another hub of `{origin}` has followed the one with that key")));
    }
    Ok(begin(tx, origin, term.number + 1, key, base)?)
}

fn begin(
    tx: &Transaction<'_>,
    origin: &str,
    number: i64,
    key: &PublicKey,
    base: u64,
) -> rusqlite::Result<()> {
    // A base beyond what SQLite counts is beyond every tree.
    let base = i64::try_from(base).unwrap_or(i64::MAX);
    tx.execute("insert into term values (?1, ?2, ?3, ?4)", params![origin, number, key.to_string(), base])?;
    Ok(())
}

/// The key that is followed now.
struct Term {
    number: i64,
    key: String,
    base: u64,
    /// whether nothing was cosigned under it
    unused: bool,
}

fn current(tx: &Transaction<'_>, origin: &str) -> rusqlite::Result<Option<Term>> {
    let query = "select number, key, base,
        not exists (select 1 from seen where seen.origin = term.origin and seen.number = term.number)
        from term where origin = ?1 order by number desc limit 1";
    tx.query_row(query, [origin], |row| {
        let base = u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0);
        Ok(Term { number: row.get(0)?, key: row.get(1)?, base, unused: row.get(3)? })
    })
    .optional()
}

/// The key that is followed now, and the tree that the next checkpoint has to begin with; nothing for a log that is not
/// known.
pub(super) fn last(
    tx: &Transaction<'_>,
    origin: &str,
) -> Result<Option<(PublicKey, Option<Seen>)>, StoreFault> {
    let Some(Term { number, key, .. }) = current(tx, origin)? else { return Ok(None) };
    let damaged = |what: &'static str| StoreFault::Damaged { what, origin: origin.to_owned() };
    let key: PublicKey = key.parse().map_err(|_| damaged("key"))?;
    let mut most = i64::MAX;
    for number in (0..=number).rev() {
        let query = "select size, root from seen where origin = ?1 and number = ?2 and size <= ?3
            order by size desc limit 1";
        let row = tx
            .query_row(query, params![origin, number, most], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 32]>(1)?))
            })
            .optional()?;
        if let Some((size, root)) = row {
            let size = u64::try_from(size).map_err(|_| damaged("size"))?;
            return Ok(Some((key, Some(Seen { size, root: Digest::from_bytes(root) }))));
        }
        // INVARIANT: of a key before, only what lies below every later beginning is gone on from.
        if number > 0 {
            let query = "select base from term where origin = ?1 and number = ?2";
            most = most.min(tx.query_row(query, params![origin, number], |row| row.get(0))?);
        }
    }
    Ok(Some((key, None)))
}

/// Keeps what is about to be cosigned, under the key that is followed now.
pub(super) fn keep(tx: &Transaction<'_>, origin: &str, next: Seen) -> Result<(), StoreFault> {
    let beyond = |_| StoreFault::Damaged { what: "size", origin: origin.to_owned() };
    let size = i64::try_from(next.size).map_err(beyond)?;
    let number: i64 =
        tx.query_row("select max(number) from term where origin = ?1", [origin], |row| row.get(0))?;
    let put = "insert into seen values (?1, ?2, ?3, ?4)";
    tx.execute(put, params![origin, number, size, next.root.as_bytes()])?;
    let older =
        "select size from seen where origin = ?1 and number = ?2 order by size desc limit 2 offset ?3";
    let older: Vec<i64> = tx
        .prepare_cached(older)?
        .query_map(params![origin, number, RECENT], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    if let [larger, smaller] = older[..]
        && larger / RECENT == smaller / RECENT
    {
        let drop = "delete from seen where origin = ?1 and number = ?2 and size = ?3";
        tx.execute(drop, params![origin, number, larger])?;
    }
    Ok(())
}

/// The witness's store cannot be used; nothing is cosigned.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreFault {
    #[error("{0}")]
    Database(#[from] rusqlite::Error),
    #[error("the {what} of `{origin}`")]
    Damaged { what: &'static str, origin: String },
}
