//! What sealed remarks say: value and salt, sealed at rest, and to whom they may be given.

use super::Store;
use crate::NodeError;
use rusqlite::{OptionalExtension, params};

/// Tables of this part.
pub(super) const SCHEMA: &str = "
create table if not exists sealed(statement text primary key, body blob not null) strict;
create table if not exists entitled(statement text not null, member text not null, given integer not null default 0,
  primary key(statement, member)) strict;
";

impl Store {
    /// Keeps what a statement's commitments hide, sealed.
    pub fn add_sealed(&self, statement: &str, body: &[u8]) -> Result<(), NodeError> {
        self.run("insert or ignore into sealed values(?1, ?2)", params![statement, body])?;
        Ok(())
    }

    /// What a statement's commitments hide, sealed, if it is here.
    pub fn sealed(&self, statement: &str) -> Result<Option<Vec<u8>>, NodeError> {
        let mut query = self.db.prepare_cached("select body from sealed where statement = ?1")?;
        Ok(query.query_row([statement], |r| r.get(0)).optional()?)
    }

    /// Statements of which something is here, or somebody may ask.
    pub fn sealed_statements(&self) -> Result<Vec<String>, NodeError> {
        let mut query =
            self.db.prepare_cached("select statement from sealed union select statement from entitled")?;
        let rows = query.query_map([], |r| r.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Lets a member ask for it.
    pub fn entitle(&self, statement: &str, member: &str) -> Result<(), NodeError> {
        self.run("insert or ignore into entitled(statement, member) values(?1, ?2)", [statement, member])?;
        Ok(())
    }

    /// Who may ask for it, and when it was first given to them, milliseconds; 0 for not yet.
    pub fn entitled(&self, statement: &str) -> Result<Vec<(String, i64)>, NodeError> {
        let mut query = self
            .db
            .prepare_cached("select member, given from entitled where statement = ?1 order by member")?;
        let rows = query.query_map([statement], |r| Ok((r.get(0)?, r.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes that it was given to a member.
    pub fn note_given(&self, statement: &str, member: &str, now: i64) -> Result<(), NodeError> {
        self.run(
            "update entitled set given = ?3 where statement = ?1 and member = ?2 and given = 0",
            params![statement, member, now],
        )?;
        Ok(())
    }

    /// Lets nobody ask for it any more.
    pub fn disentitle(&self, statement: &str) -> Result<(), NodeError> {
        self.run("delete from entitled where statement = ?1", [statement])?;
        Ok(())
    }

    /// Destroys value and salt.
    pub fn erase_sealed(&self, statement: &str) -> Result<(), NodeError> {
        // Overwrite before delete: the page may stay in the file otherwise.
        self.run("update sealed set body = zeroblob(length(body)) where statement = ?1", [statement])?;
        self.run("delete from sealed where statement = ?1", [statement])?;
        self.disentitle(statement)?;
        self.truncate.set(true);
        Ok(())
    }

    /// Whether something that was erased may still be in the log beside the file; [`Store::flush`] tries again.
    pub fn is_erasing(&self) -> bool {
        self.truncate.get()
    }
}
