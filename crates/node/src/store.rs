//! The node's own store: SQLite in WAL mode with `synchronous=FULL`. One actor owns it.
//!
//! Promise: when a method returns, what it wrote survives a crash. What is sent to others (cosignatures,
//! contributions, openings) is written here before it leaves, and is only ever resent verbatim (A9).

mod peers;
mod sealed;

pub use peers::{HeldRow, Proof};

use crate::NodeError;
use rusqlite::{Connection, OptionalExtension, params};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The store. Writes are grouped: they join one open transaction, and [`Store::flush`] makes them durable together.
///
/// INVARIANT: nothing leaves the node between a write and the flush after it. Everything that leaves is taken from
/// the node by a method that flushes first.
pub struct Store {
    db: Connection,
    open: std::cell::Cell<bool>,
    /// Something to send was written since anyone looked.
    outgoing: std::cell::Cell<bool>,
    /// A key was erased since the last flush.
    truncate: std::cell::Cell<bool>,
    /// A write failed.
    failed: std::cell::Cell<bool>,
}

/// One thing that left this site, as the egress report shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Egress {
    /// When, milliseconds.
    pub time: i64,
    /// The study.
    pub study: String,
    /// The run.
    pub run: u32,
    /// Index of the stage in the plan.
    pub stage: u32,
    /// The round in the stage.
    pub round: u32,
    /// `contribution`, `aggregate`, `opening`, `output` or `stop`.
    pub kind: String,
    /// To whom.
    pub to: String,
    /// Bytes of the frame.
    pub bytes: u64,
    /// Entries in the vector; 0 where the frame carries none of this site's own.
    pub cells: u64,
    /// The approval under which it left: the index of the steward's vote, or -1.
    pub approval: i64,
    /// Digest of the layout.
    pub layout: String,
}

/// Something wrong that another party sent, kept.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Evidence {
    /// When, milliseconds.
    pub time: i64,
    /// Who sent it, as far as that is known.
    pub from: String,
    /// What is wrong with it.
    pub what: String,
}

/// A dataset that this node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalDataset {
    /// Its name.
    pub name: String,
    /// The source file.
    pub path: String,
    /// The mapping's text.
    pub mapping: String,
    /// Salt of the mapping's digest on the record, and of the next.
    pub salt: [u8; 16],
    /// Salted digest of the rows as mapped at registration; it stays here. Rows that changed are another dataset.
    pub rows: String,
}

/// Pieces of evidence kept for each sender.
const MAX_EVIDENCE: i64 = 64;
/// Bytes of a bad frame that are kept.
const EVIDENCE_BYTES: usize = 2048;

const SCHEMA: &str = "
create table if not exists meta(key text primary key, value blob not null) strict;
create table if not exists entries(idx integer primary key, bytes blob not null) strict;
create table if not exists datasets(name text primary key, path text not null, mapping text not null, salt blob not null, rows text not null) strict;
create table if not exists kem(public text primary key, study text not null, run integer not null, secret blob not null) strict;
create table if not exists sent(
  study text not null, run integer not null, stage integer not null, round integer not null, kind text not null,
  receiver text not null, step integer not null, time integer not null, cells integer not null, approval integer not null,
  layout text not null, frame blob not null, delivered integer not null default 0, handed integer not null default 0,
  primary key(study, run, stage, round, kind, receiver, step)) strict;
create table if not exists contributed(study text not null, run integer not null, stage integer not null, round integer not null,
  question text not null, primary key(study, run, stage, round)) strict;
create table if not exists seeds(study text not null, run integer not null, stage integer not null, round integer not null,
  seed blob not null, primary key(study, run, stage, round)) strict;
create table if not exists opened(study text not null, run integer not null, stage integer not null, round integer not null,
  contributors text not null, time integer not null, primary key(study, run, stage, round)) strict;
create table if not exists heard(id integer primary key, study text not null, run integer not null, frame blob not null) strict;
create table if not exists said(name text primary key, id text not null, time integer not null) strict;
create table if not exists outbox(id text primary key, bytes blob not null, time integer not null, promised integer not null default 0, tried integer not null default 0) strict;
create table if not exists evidence(id integer primary key, time integer not null, sender text not null, what text not null, frame blob not null) strict;
create table if not exists outputs(study text not null, run integer not null, role text not null, body blob not null, primary key(study, run, role)) strict;
";

/// A kept value, read without opening the store for writing; nothing if it is not there or cannot be read.
pub(crate) fn glance(dir: &Path, key: &str) -> Option<Vec<u8>> {
    let db =
        Connection::open_with_flags(dir.join("store.db"), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    db.query_row("select value from meta where key = ?1", [key], |row| row.get(0)).ok()
}

impl Store {
    /// Opens or creates the store.
    pub fn open(path: &Path) -> Result<Store, NodeError> {
        // Made for its user alone before anything is in it; the WAL beside it takes the same mode.
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(|e| NodeError::io(path, e))?;
        let db = Connection::open(path)?;
        db.pragma_update(None, "secure_delete", "ON")?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.execute_batch(SCHEMA)?;
        db.execute_batch(peers::SCHEMA)?;
        db.execute_batch(sealed::SCHEMA)?;
        crate::private(path)?;
        let store = Store::over(db);
        // A process that died after it erased keys may have left them in the log.
        store.truncate.set(true);
        store.flush()?;
        Ok(store)
    }

    fn over(db: Connection) -> Store {
        Store {
            db,
            open: std::cell::Cell::new(false),
            outgoing: std::cell::Cell::new(true),
            truncate: std::cell::Cell::new(false),
            failed: std::cell::Cell::new(false),
        }
    }

    /// A store in memory, for simulated worlds: what was flushed outlives [`Store::fall`], nothing outlives the
    /// process.
    pub fn in_memory() -> Result<Store, NodeError> {
        let db = Connection::open_in_memory()?;
        db.execute_batch(SCHEMA)?;
        db.execute_batch(peers::SCHEMA)?;
        db.execute_batch(sealed::SCHEMA)?;
        Ok(Store::over(db))
    }

    /// A copy in memory of what was flushed.
    pub fn copy(&self) -> Result<Store, NodeError> {
        let mut db = Connection::open_in_memory()?;
        let backup = rusqlite::backup::Backup::new(&self.db, &mut db)?;
        backup.step(-1)?;
        drop(backup);
        Ok(Store::over(db))
    }

    /// The store as its process dies: what was not flushed is gone.
    pub fn fall(self) -> Result<Store, NodeError> {
        if !self.db.is_autocommit() {
            self.db.execute_batch("rollback")?;
        }
        Ok(Store::over(self.db))
    }

    /// Lets the file grow by no more than `pages` pages of 4 KiB from now on; `None` for no limit. A full disk,
    /// simulated.
    pub fn limit(&self, pages: Option<u32>) -> Result<(), NodeError> {
        let now: u32 = self.db.query_row("pragma page_count", [], |r| r.get(0))?;
        let limit = pages.map_or(u32::MAX - 1, |more| now.saturating_add(more));
        self.db.query_row(&format!("pragma max_page_count = {limit}"), [], |_| Ok(()))?;
        Ok(())
    }

    /// Joins the open transaction, or begins one.
    fn write(&self) -> Result<&Connection, NodeError> {
        if self.failed.get() {
            return Err(NodeError::StoreFailed);
        }
        if !self.open.get() {
            self.noted(self.db.execute_batch("begin immediate"))?;
            self.open.set(true);
        }
        Ok(&self.db)
    }

    fn noted<T>(&self, result: rusqlite::Result<T>) -> Result<T, NodeError> {
        if let Err(e) = &result {
            tracing::error!("the store failed: {e}");
            self.failed.set(true);
        }
        Ok(result?)
    }

    /// One write.
    fn run(&self, sql: &str, values: impl rusqlite::Params) -> Result<usize, NodeError> {
        let db = self.write()?;
        self.noted(db.prepare_cached(sql).and_then(|mut statement| statement.execute(values)))
    }

    /// Whether a write has failed: memory may then be ahead of the file, so nothing more is written or sent, and
    /// the process must end and begin again from what was kept.
    pub fn failed(&self) -> bool {
        self.failed.get()
    }

    /// Whether something to send was written since the last call.
    pub fn take_outgoing(&self) -> bool {
        self.outgoing.replace(false)
    }

    /// Makes everything written so far durable.
    pub fn flush(&self) -> Result<(), NodeError> {
        // INVARIANT: after a failed write nothing of the same group is kept: all or none.
        if self.failed.get() {
            return Err(NodeError::StoreFailed);
        }
        if self.open.get() {
            self.noted(self.db.execute_batch("commit"))?;
            self.open.set(false);
        }
        // Erased keys must not live on in the log beside the file; what another reader holds up is tried again.
        if self.truncate.get() {
            let busy: i64 =
                self.noted(self.db.query_row("pragma wal_checkpoint(truncate)", [], |r| r.get(0)))?;
            self.truncate.set(busy != 0);
        }
        Ok(())
    }

    /// Runs writes that hold together: all or none.
    fn together<T>(&self, f: impl FnOnce(&Connection) -> Result<T, NodeError>) -> Result<T, NodeError> {
        let db = self.write()?;
        self.noted(db.execute_batch("savepoint together"))?;
        let result = f(db);
        let end = if result.is_ok() { "release together" } else { "rollback to together; release together" };
        self.noted(db.execute_batch(end))?;
        if matches!(result, Err(NodeError::Store(_))) {
            self.failed.set(true);
        }
        result
    }

    /// Reads a value.
    pub fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, NodeError> {
        let mut query = self.db.prepare_cached("select value from meta where key = ?1")?;
        Ok(query.query_row([key], |r| r.get(0)).optional()?)
    }

    /// Reads a value as text.
    pub fn meta_text(&self, key: &str) -> Result<Option<String>, NodeError> {
        Ok(self.meta(key)?.and_then(|v| String::from_utf8(v).ok()))
    }

    /// All values as text whose names begin so.
    pub fn meta_texts(&self, prefix: &str) -> Result<Vec<(String, String)>, NodeError> {
        let mut query = self
            .db
            .prepare("select key, cast(value as text) from meta where substr(key, 1, length(?1)) = ?1")?;
        let rows = query.query_map([prefix], |r| Ok((r.get(0)?, r.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Writes a value.
    pub fn set_meta(&self, key: &str, value: &[u8]) -> Result<(), NodeError> {
        self.run("insert or replace into meta values(?1, ?2)", params![key, value])?;
        Ok(())
    }

    /// Appends entries that follow the last one kept, all or none, together with the checkpoint that proves them.
    pub fn append(&self, first: u64, entries: &[Vec<u8>], checkpoint: &str) -> Result<(), NodeError> {
        self.together(|db| {
            for (offset, bytes) in entries.iter().enumerate() {
                db.prepare_cached("insert into entries values(?1, ?2)")?
                    .execute(params![(first + offset as u64) as i64, bytes])?;
            }
            db.prepare_cached("insert or replace into meta values('checkpoint', ?1)")?
                .execute([checkpoint.as_bytes()])?;
            Ok(())
        })
    }

    /// Lets go of the entries from index `size` on.
    pub fn cut_entries(&self, size: u64) -> Result<(), NodeError> {
        self.run("delete from entries where idx >= ?1", params![i64::try_from(size).unwrap_or(i64::MAX)])?;
        Ok(())
    }

    /// A store that another process may be writing, to be read alone.
    pub fn read(path: &Path) -> Result<Store, NodeError> {
        let db = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        db.busy_timeout(std::time::Duration::from_secs(5))?;
        Ok(Store::over(db))
    }

    /// What another hub has promised and relayed counts for nothing at the next: statements are handed in again, and
    /// frames of these runs sent again, verbatim.
    pub fn hand_in_again(&self, runs: &[(String, u32)]) -> Result<(), NodeError> {
        self.outgoing.set(true);
        self.run("update outbox set promised = 0, tried = 0", [])?;
        for (study, run) in runs {
            self.run(
                "update sent set delivered = 0 where delivered = 1 and study = ?1 and run = ?2",
                params![study, run],
            )?;
        }
        self.set_mail_cursor(0)
    }

    /// All entries in order.
    pub fn entries(&self) -> Result<Vec<Vec<u8>>, NodeError> {
        let mut query = self.db.prepare("select bytes from entries order by idx")?;
        let rows = query.query_map([], |r| r.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Keeps a dataset's place and mapping.
    pub fn add_dataset(&self, d: &LocalDataset) -> Result<(), NodeError> {
        self.run(
            "insert or replace into datasets values(?1, ?2, ?3, ?4, ?5)",
            params![d.name, d.path, d.mapping, d.salt.as_slice(), d.rows],
        )?;
        Ok(())
    }

    /// A dataset by name.
    pub fn dataset(&self, name: &str) -> Result<Option<LocalDataset>, NodeError> {
        let mut query =
            self.db.prepare_cached("select name, path, mapping, salt, rows from datasets where name = ?1")?;
        Ok(query
            .query_row([name], |r| {
                let salt: Vec<u8> = r.get(3)?;
                let salt = salt.try_into().unwrap_or([0u8; 16]);
                Ok(LocalDataset {
                    name: r.get(0)?,
                    path: r.get(1)?,
                    mapping: r.get(2)?,
                    salt,
                    rows: r.get(4)?,
                })
            })
            .optional()?)
    }

    /// Keeps a run key, sealed.
    pub fn add_kem(&self, public: &str, study: &str, run: u32, sealed: &[u8]) -> Result<(), NodeError> {
        self.run("insert or replace into kem values(?1, ?2, ?3, ?4)", params![public, study, run, sealed])?;
        Ok(())
    }

    /// A run key, sealed.
    pub fn kem(&self, public: &str) -> Result<Option<Vec<u8>>, NodeError> {
        let mut query = self.db.prepare_cached("select secret from kem where public = ?1")?;
        Ok(query.query_row([public], |r| r.get(0)).optional()?)
    }

    /// Erases all secrets of a run: its keys, and what an aggregator drew for its rounds.
    pub fn erase_secrets(&self, study: &str, run: u32) -> Result<(), NodeError> {
        // Overwrite before delete: the page may stay in the file otherwise.
        for sql in [
            "update kem set secret = zeroblob(length(secret)) where study = ?1 and run = ?2",
            "delete from kem where study = ?1 and run = ?2",
            "update seeds set seed = zeroblob(length(seed)) where study = ?1 and run = ?2",
            "delete from seeds where study = ?1 and run = ?2",
        ] {
            self.run(sql, params![study, run])?;
        }
        self.truncate.set(true);
        Ok(())
    }

    /// Notes frames about to be sent, all or none. A frame already noted under the same key is left as it is, and
    /// the one noted first is what will be sent: shares are only ever resent verbatim.
    pub fn note_sent(
        &self,
        frames: &[(Egress, u32, Vec<u8>)],
        contribution: Option<&str>,
    ) -> Result<bool, NodeError> {
        if frames.is_empty() {
            return Ok(false);
        }
        self.outgoing.set(true);
        self.together(|db| {
            if let (Some(question), Some((e, _, _))) = (contribution, frames.first()) {
                let fresh = db
                    .prepare_cached("insert or ignore into contributed values(?1, ?2, ?3, ?4, ?5)")?
                    .execute(params![e.study, e.run, e.stage, e.round, question])?;
                if fresh == 0 {
                    return Ok(false);
                }
            }
            for (e, step, bytes) in frames {
                db.prepare_cached(
                    "insert or ignore into sent values(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, 0, 0)",
                )?
                .execute(params![
                    e.study,
                    e.run,
                    e.stage,
                    e.round,
                    e.kind,
                    e.to,
                    step,
                    e.time,
                    e.cells as i64,
                    e.approval,
                    e.layout,
                    bytes
                ])?;
            }
            Ok(true)
        })
    }

    /// Frames noted and not yet handed to the hub, oldest first.
    pub fn undelivered(&self) -> Result<Vec<(i64, Vec<u8>)>, NodeError> {
        let mut query = self
            .db
            .prepare_cached("select rowid, frame from sent where delivered = 0 order by rowid limit 64")?;
        let rows = query.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?;
        let rows: Vec<(i64, Vec<u8>)> = rows.collect::<Result<_, _>>()?;
        // INVARIANT: noted as handed over before the hub can have it, so that egress never says less than left.
        for (row, _) in &rows {
            self.run("update sent set handed = 1 where rowid = ?1 and handed = 0", [row])?;
        }
        self.flush()?;
        Ok(rows)
    }

    /// Marks a frame as handed over.
    pub fn delivered(&self, rowid: i64) -> Result<(), NodeError> {
        self.run("update sent set delivered = 1 where rowid = ?1", [rowid])?;
        Ok(())
    }

    /// Withdraws frames that were not handed over yet: a stop outruns them.
    pub fn withdraw_undelivered(&self) -> Result<usize, NodeError> {
        // Marked, not deleted: one that the hub was already being handed is noted as delivered after all, and shows.
        self.run("update sent set delivered = 2 where delivered = 0 and kind <> 'stop'", [])
    }

    /// Whether this node has answered that round.
    pub fn has_contributed(&self, study: &str, run: u32, stage: u32, round: u32) -> Result<bool, NodeError> {
        let mut query = self.db.prepare_cached(
            "select 1 from contributed where study = ?1 and run = ?2 and stage = ?3 and round = ?4",
        )?;
        Ok(query.exists(params![study, run, stage, round])?)
    }

    /// Keeps what an aggregator drew for a round, sealed, before anything that follows from it leaves.
    pub fn add_seed(
        &self,
        study: &str,
        run: u32,
        stage: u32,
        round: u32,
        sealed: &[u8],
    ) -> Result<(), NodeError> {
        self.run("insert into seeds values(?1, ?2, ?3, ?4, ?5)", params![study, run, stage, round, sealed])?;
        Ok(())
    }

    /// What an aggregator drew for a round, sealed.
    pub fn seed(&self, study: &str, run: u32, stage: u32, round: u32) -> Result<Option<Vec<u8>>, NodeError> {
        let mut query = self.db.prepare_cached(
            "select seed from seeds where study = ?1 and run = ?2 and stage = ?3 and round = ?4",
        )?;
        Ok(query.query_row(params![study, run, stage, round], |r| r.get(0)).optional()?)
    }

    /// Takes the one right to open a round, for one set of contributors; `false` when it was taken before.
    pub fn take_opening(
        &self,
        study: &str,
        run: u32,
        stage: u32,
        round: u32,
        contributors: &str,
        time: i64,
    ) -> Result<bool, NodeError> {
        let taken = self.run(
            "insert or ignore into opened values(?1, ?2, ?3, ?4, ?5, ?6)",
            params![study, run, stage, round, contributors, time],
        )?;
        Ok(taken == 1)
    }

    /// Whether the round was opened by this node.
    pub fn has_opened(&self, study: &str, run: u32, stage: u32, round: u32) -> Result<bool, NodeError> {
        let mut query = self.db.prepare_cached(
            "select 1 from opened where study = ?1 and run = ?2 and stage = ?3 and round = ?4",
        )?;
        Ok(query.exists(params![study, run, stage, round])?)
    }

    /// Keeps a frame from the mailbox, after those kept before; the hub may forget it from then on. The order is
    /// this node's own: what came first stands, whatever numbers the hub gives.
    pub fn add_mail(&self, study: &str, run: u32, frame: &[u8]) -> Result<(), NodeError> {
        self.run("insert into heard(study, run, frame) values(?1, ?2, ?3)", params![study, run, frame])?;
        Ok(())
    }

    /// Notes the number of the last frame taken.
    pub fn set_mail_cursor(&self, seq: u64) -> Result<(), NodeError> {
        self.set_meta("mail", seq.to_string().as_bytes())
    }

    /// Forgets the collector's sums of a run.
    pub fn drop_sums(&self, study: &str, run: u32) -> Result<(), NodeError> {
        let prefix = format!("sum/{study}/{run}/");
        self.run("delete from meta where substr(key, 1, length(?1)) = ?1", [prefix])?;
        Ok(())
    }

    /// Number of the last frame taken.
    pub fn mail_cursor(&self) -> Result<u64, NodeError> {
        Ok(self.meta_text("mail")?.and_then(|t| t.parse().ok()).unwrap_or(0))
    }

    /// Frames kept, in order, for a node that starts again.
    pub fn mail(&self) -> Result<Vec<Vec<u8>>, NodeError> {
        let mut query = self.db.prepare("select frame from heard order by id")?;
        let rows = query.query_map([], |r| r.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Forgets the frames of a run that is over.
    pub fn drop_mail(&self, study: &str, run: u32) -> Result<(), NodeError> {
        self.run("delete from heard where study = ?1 and run = ?2", params![study, run])?;
        Ok(())
    }

    /// Notes under which name a statement was said, so that a node that starts again does not say it again while it
    /// is on its way.
    pub fn note_said(&self, name: &str, id: &str, time: i64) -> Result<(), NodeError> {
        self.run("insert or replace into said values(?1, ?2, ?3)", params![name, id, time])?;
        Ok(())
    }

    /// What was said under names, with the statement and the time; forgets what is a day older than the newest.
    pub fn said(&self) -> Result<Vec<(String, String, i64)>, NodeError> {
        self.run(
            "delete from said where time < (select max(time) from said) - 86400000
             and id not in (select id from outbox)",
            [],
        )?;
        let mut query = self.db.prepare("select name, id, time from said")?;
        let rows = query.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Keeps a signed statement until it is in the record.
    pub fn queue(&self, id: &str, bytes: &[u8], time: i64) -> Result<(), NodeError> {
        self.outgoing.set(true);
        self.run(
            "insert or ignore into outbox(id, bytes, time) values(?1, ?2, ?3)",
            params![id, bytes, time],
        )?;
        Ok(())
    }

    /// Statements to hand to the hub, oldest first: new ones, and those not recorded since they were last tried
    /// before `again` (milliseconds). Handing one in twice gives the same receipt.
    pub fn queued(&self, again: i64, now: i64) -> Result<Vec<(String, Vec<u8>)>, NodeError> {
        let mut query = self.db.prepare_cached(
            "select id, bytes from outbox where tried < ?1 or tried > ?2 order by rowid limit 64",
        )?;
        let rows = query.query_map([again.max(1), now], |r| Ok((r.get(0)?, r.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes that a statement was handed in, and whether the hub promised it.
    pub fn tried(&self, id: &str, promised: bool, time: i64) -> Result<(), NodeError> {
        self.run(
            "update outbox set tried = ?2, promised = case when promised = 0 and ?3 then ?2 else promised end where id = ?1",
            params![id, time, promised],
        )?;
        Ok(())
    }

    /// Statements that the hub promised before `time` and that are in the record to this day not.
    pub fn overdue(&self, time: i64) -> Result<Vec<String>, NodeError> {
        let mut query = self
            .db
            .prepare_cached("select id from outbox where promised > 1 and promised < ?1 and time < ?1")?;
        let rows = query.query_map([time], |r| r.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A statement that waits for the record.
    pub fn waiting(&self, id: &str) -> Result<Option<Vec<u8>>, NodeError> {
        let mut query = self.db.prepare_cached("select bytes from outbox where id = ?1")?;
        Ok(query.query_row([id], |r| r.get(0)).optional()?)
    }

    /// Whether a statement is kept.
    pub fn keeps(&self, id: &str) -> Result<bool, NodeError> {
        Ok(self.db.prepare_cached("select 1 from outbox where id = ?1")?.exists([id])?)
    }

    /// Forgets a statement that is in the record, or was refused for good.
    pub fn dequeue(&self, id: &str) -> Result<(), NodeError> {
        self.run("delete from outbox where id = ?1", [id])?;
        self.let_go(id)
    }

    /// What left this site since `since` (milliseconds).
    pub fn egress(&self, since: i64) -> Result<Vec<Egress>, NodeError> {
        let mut query = self.db.prepare(
            "select time, study, run, stage, round, kind, receiver, length(frame), cells, approval, layout from sent
             where time >= ?1 and (delivered = 1 or handed = 1) order by rowid",
        )?;
        let rows = query.query_map([since], |r| {
            Ok(Egress {
                time: r.get(0)?,
                study: r.get(1)?,
                run: r.get(2)?,
                stage: r.get(3)?,
                round: r.get(4)?,
                kind: r.get(5)?,
                to: r.get(6)?,
                bytes: r.get::<_, i64>(7)? as u64,
                cells: r.get::<_, i64>(8)? as u64,
                approval: r.get(9)?,
                layout: r.get(10)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Keeps something wrong that another party sent.
    pub fn add_evidence(&self, e: &Evidence, frame: &[u8]) -> Result<(), NodeError> {
        let of_sender: i64 = self
            .db
            .prepare_cached("select count(*) from evidence where sender = ?1")?
            .query_row([&e.from], |r| r.get(0))?;
        // The first ones tell the story; a flood of more must not fill the disk.
        if of_sender >= MAX_EVIDENCE {
            return Ok(());
        }
        let start = frame.get(..EVIDENCE_BYTES).unwrap_or(frame);
        self.run(
            "insert into evidence(time, sender, what, frame) values(?1, ?2, ?3, ?4)",
            params![e.time, e.from, e.what, start],
        )?;
        Ok(())
    }

    /// Everything wrong that others sent.
    pub fn evidence(&self) -> Result<Vec<Evidence>, NodeError> {
        let mut query = self.db.prepare("select time, sender, what from evidence order by id")?;
        let rows =
            query.query_map([], |r| Ok(Evidence { time: r.get(0)?, from: r.get(1)?, what: r.get(2)? }))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Keeps an output (`role` is `collector` or `recipient`).
    pub fn add_output(&self, study: &str, run: u32, role: &str, body: &[u8]) -> Result<(), NodeError> {
        self.run("insert or replace into outputs values(?1, ?2, ?3, ?4)", params![study, run, role, body])?;
        Ok(())
    }

    /// An output of the newest run.
    pub fn output(&self, study: &str, role: &str) -> Result<Option<Vec<u8>>, NodeError> {
        let mut query = self.db.prepare_cached(
            "select body from outputs where study = ?1 and role = ?2 order by run desc limit 1",
        )?;
        Ok(query.query_row([study, role], |r| r.get(0)).optional()?)
    }

    /// An output of a run.
    pub fn output_of(&self, study: &str, run: u32, role: &str) -> Result<Option<Vec<u8>>, NodeError> {
        let mut query =
            self.db.prepare_cached("select body from outputs where study = ?1 and run = ?2 and role = ?3")?;
        Ok(query.query_row(params![study, run, role], |r| r.get(0)).optional()?)
    }

    /// Destroys an output.
    pub fn drop_output(&self, study: &str, run: u32, role: &str) -> Result<(), NodeError> {
        self.run(
            "delete from outputs where study = ?1 and run = ?2 and role = ?3",
            params![study, run, role],
        )?;
        Ok(())
    }
}
