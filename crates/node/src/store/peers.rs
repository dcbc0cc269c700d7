//! What a node keeps of its dealings with other members: statements held for them, the hub's promises, proofs, sign-offs
//! that it has seen, and stops to be told.

use super::Store;
use crate::NodeError;
use rusqlite::{OptionalExtension, params};

/// Tables of this part.
pub(super) const SCHEMA: &str = "
create table if not exists held(id text primary key, author text not null, protects integer not null, bytes blob not null,
  since integer not null, tried integer not null default 0) strict;
create table if not exists receipts(id text not null, idx integer not null, promised integer not null, body blob not null,
  kept integer not null default 0, primary key(id, idx)) strict;
create table if not exists proofs(id text primary key, time integer not null, term integer not null, who text not null,
  what text not null, body blob not null) strict;
create table if not exists signoffs(id text primary key, term integer not null, issuer text not null, bytes blob not null) strict;
create table if not exists stops(receiver text not null, id text not null, frame blob not null, primary key(receiver, id)) strict;
";

/// Proofs kept against one party in one term: the first ones tell the story.
const MAX_PROOFS: i64 = 16;
/// Sign-offs of one member in one term: it says another when the hub that was to come never did.
const MAX_SIGNOFFS: i64 = 4;
/// Kept promises that are remembered.
const MAX_KEPT: i64 = 1024;
/// Stops that wait for one member.
const MAX_STOPS: i64 = 64;

/// A statement that is kept until it is in the record: another member's, or this node's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRow {
    /// Its id.
    pub id: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Since when it is held, milliseconds.
    pub since: i64,
}

/// Proof that a party broke its word.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Proof {
    /// Digest of the file.
    pub id: String,
    /// When it was made, milliseconds.
    pub time: i64,
    /// The hub's term in which it was made.
    pub term: u64,
    /// `hub`, or a member's id.
    pub who: String,
    /// What it proves.
    pub what: String,
}

impl Store {
    /// Holds another member's statement, unless it is held already.
    pub fn hold(
        &self,
        id: &str,
        author: &str,
        protects: bool,
        bytes: &[u8],
        now: i64,
    ) -> Result<(), NodeError> {
        self.outgoing.set(true);
        self.run(
            "insert or ignore into held(id, author, protects, bytes, since) values(?1, ?2, ?3, ?4, ?5)",
            params![id, author, protects, bytes, now],
        )?;
        Ok(())
    }

    /// How many statements of an author are held, and how many bytes they have.
    pub fn held_of(&self, author: &str, protects: bool) -> Result<(u64, u64), NodeError> {
        let mut query = self.db.prepare_cached(
            "select count(*), coalesce(sum(length(bytes)), 0) from held where author = ?1 and protects = ?2",
        )?;
        let (count, bytes): (i64, i64) =
            query.query_row(params![author, protects], |r| Ok((r.get(0)?, r.get(1)?)))?;
        Ok((count as u64, bytes as u64))
    }

    /// A statement held for another member.
    pub fn held(&self, id: &str) -> Result<Option<Vec<u8>>, NodeError> {
        let mut query = self.db.prepare_cached("select bytes from held where id = ?1")?;
        Ok(query.query_row([id], |r| r.get(0)).optional()?)
    }

    /// Everything that waits for the record, this node's own statements with the others', oldest first.
    pub fn all_held(&self) -> Result<Vec<HeldRow>, NodeError> {
        let mut query = self.db.prepare_cached(
            "select id, bytes, since from held union all select id, bytes, time from outbox order by 3, 1",
        )?;
        let rows =
            query.query_map([], |r| Ok(HeldRow { id: r.get(0)?, bytes: r.get(1)?, since: r.get(2)? }))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Other members' statements to hand to the hub, oldest first: new ones, and those last tried before `again`.
    pub fn held_queued(&self, again: i64, now: i64) -> Result<Vec<(String, Vec<u8>)>, NodeError> {
        let mut query = self.db.prepare_cached(
            "select id, bytes from held where tried < ?1 or tried > ?2 order by rowid limit 64",
        )?;
        let rows = query.query_map([again.max(1), now], |r| Ok((r.get(0)?, r.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// This node's own statements that were said before `time` and wait for the record, oldest first.
    pub fn waiting_since(&self, time: i64) -> Result<Vec<Vec<u8>>, NodeError> {
        let mut query =
            self.db.prepare_cached("select bytes from outbox where time < ?1 order by rowid limit 64")?;
        let rows = query.query_map([time], |r| r.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes that a held statement was handed in.
    pub fn held_tried(&self, id: &str, now: i64) -> Result<(), NodeError> {
        self.run("update held set tried = ?2 where id = ?1", params![id, now])?;
        Ok(())
    }

    /// Holds a statement no more.
    pub fn let_go(&self, id: &str) -> Result<(), NodeError> {
        self.run("delete from held where id = ?1", [id])?;
        Ok(())
    }

    /// Keeps a promise of the hub.
    pub fn keep_receipt(&self, id: &str, index: u64, promised: i64, body: &[u8]) -> Result<(), NodeError> {
        self.run(
            "insert or ignore into receipts(id, idx, promised, body) values(?1, ?2, ?3, ?4)",
            params![id, index as i64, promised, body],
        )?;
        Ok(())
    }

    /// Promises that were not yet seen to be kept.
    pub fn open_receipts(&self) -> Result<Vec<Vec<u8>>, NodeError> {
        let mut query = self.db.prepare_cached("select body from receipts where kept = 0 order by idx")?;
        let rows = query.query_map([], |r| r.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Promises kept and open.
    pub fn receipts(&self) -> Result<(u64, u64), NodeError> {
        let mut query = self.db.prepare_cached(
            "select coalesce(sum(kept), 0), count(*) - coalesce(sum(kept), 0) from receipts",
        )?;
        let (kept, open): (i64, i64) = query.query_row([], |r| Ok((r.get(0)?, r.get(1)?)))?;
        Ok((kept as u64, open as u64))
    }

    /// Notes that a promise was kept.
    pub fn receipt_kept(&self, id: &str, index: u64) -> Result<(), NodeError> {
        self.run("update receipts set kept = 1 where id = ?1 and idx = ?2", params![id, index as i64])?;
        self.run(
            "delete from receipts where kept = 1 and idx < (select max(idx) from receipts) - ?1",
            [MAX_KEPT],
        )?;
        Ok(())
    }

    /// Keeps a proof; gives whether it is new and there was room.
    pub fn add_proof(&self, proof: &Proof, body: &[u8]) -> Result<bool, NodeError> {
        let against: i64 = self
            .db
            .prepare_cached("select count(*) from proofs where who = ?1 and term = ?2")?
            .query_row(params![proof.who, proof.term as i64], |r| r.get(0))?;
        let known = self
            .db
            .prepare_cached("select 1 from proofs where what = ?1 and who = ?2")?
            .exists([&proof.what, &proof.who])?;
        if known || against >= MAX_PROOFS {
            return Ok(false);
        }
        let added = self.run(
            "insert or ignore into proofs values(?1, ?2, ?3, ?4, ?5, ?6)",
            params![proof.id, proof.time, proof.term as i64, proof.who, proof.what, body],
        )?;
        Ok(added == 1)
    }

    /// Forgets a promise.
    pub fn drop_receipt(&self, id: &str, index: u64) -> Result<(), NodeError> {
        self.run("delete from receipts where id = ?1 and idx = ?2", params![id, index as i64])?;
        Ok(())
    }

    /// All proofs, oldest first.
    pub fn proofs(&self) -> Result<Vec<Proof>, NodeError> {
        let mut query =
            self.db.prepare_cached("select id, time, term, who, what from proofs order by rowid")?;
        let rows = query.query_map([], |r| {
            Ok(Proof {
                id: r.get(0)?,
                time: r.get(1)?,
                term: r.get::<_, i64>(2)? as u64,
                who: r.get(3)?,
                what: r.get(4)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The file of a proof.
    pub fn proof(&self, id: &str) -> Result<Option<Vec<u8>>, NodeError> {
        let mut query = self.db.prepare_cached("select body from proofs where id = ?1")?;
        Ok(query.query_row([id], |r| r.get(0)).optional()?)
    }

    /// Keeps a member's sign-off, and lets go of those that are older than the term before it.
    pub fn add_signoff(&self, id: &str, term: u32, issuer: &str, bytes: &[u8]) -> Result<(), NodeError> {
        let of_issuer: i64 = self
            .db
            .prepare_cached("select count(*) from signoffs where term = ?1 and issuer = ?2")?
            .query_row(params![term, issuer], |r| r.get(0))?;
        if of_issuer < MAX_SIGNOFFS {
            self.run(
                "insert or ignore into signoffs values(?1, ?2, ?3, ?4)",
                params![id, term, issuer, bytes],
            )?;
        }
        self.run("delete from signoffs where term < ?1", [i64::from(term) - 1])?;
        Ok(())
    }

    /// Sign-offs that were seen, in the order in which they were.
    pub fn signoffs(&self) -> Result<Vec<Vec<u8>>, NodeError> {
        let mut query = self.db.prepare_cached("select bytes from signoffs order by rowid")?;
        let rows = query.query_map([], |r| r.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The last sign-off of a member that was seen.
    pub fn signoff_of(&self, issuer: &str) -> Result<Option<Vec<u8>>, NodeError> {
        let mut query = self.db.prepare_cached(
            "select bytes from signoffs where issuer = ?1 order by term desc, rowid desc limit 1",
        )?;
        Ok(query.query_row([issuer], |r| r.get(0)).optional()?)
    }

    /// Whether a sign-off was seen.
    pub fn has_signoff(&self, id: &str) -> Result<bool, NodeError> {
        Ok(self.db.prepare_cached("select 1 from signoffs where id = ?1")?.exists([id])?)
    }

    /// Keeps a stop until its receiver was told of it.
    pub fn add_stop(&self, receiver: &str, id: &str, frame: &[u8]) -> Result<(), NodeError> {
        self.outgoing.set(true);
        let waiting: i64 = self
            .db
            .prepare_cached("select count(*) from stops where receiver = ?1")?
            .query_row([receiver], |r| r.get(0))?;
        if waiting < MAX_STOPS {
            self.run("insert or ignore into stops values(?1, ?2, ?3)", params![receiver, id, frame])?;
        }
        Ok(())
    }

    /// Stops to be told: receiver, statement, frame.
    pub fn stops(&self) -> Result<Vec<(String, String, Vec<u8>)>, NodeError> {
        let mut query = self.db.prepare_cached("select receiver, id, frame from stops order by rowid")?;
        let rows = query.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes that a member was told of a stop, or need not be.
    pub fn drop_stop(&self, receiver: &str, id: &str) -> Result<(), NodeError> {
        self.run("delete from stops where receiver = ?1 and id = ?2", [receiver, id])?;
        Ok(())
    }
}
