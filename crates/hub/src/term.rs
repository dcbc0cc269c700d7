//! Taking over: the entries that stay, then the statement that begins this hub's term, in one durable transaction.
//!
//! A hub that takes over starts from a member's mirror, which holds everything that the hubs before it have sequenced.
//! Who may begin a term is for [`record::Opening`] to say; here it is checked again against the very entries that are
//! filled in, and written with them or not at all. So a process that is killed anywhere leaves an empty hub or one that
//! serves, and doing it again gives the same. What is below the base was signed by other hubs: this one signs nothing
//! of it, which follows from the entries and is nowhere kept apart ([`State::serves`](crate::state::State::serves)).

use std::path::Path;

use record::roster::OPEN;
use record::{Entry, EntryBytes, Log, Opening, SignedCheckpoint, SignedStatement};
use rusqlite::TransactionBehavior;
use wire::point::point;

use crate::{Hub, HubError, files, store, system_clock};

/// What a hub takes over with.
pub struct Takeover {
    /// The entries below the base, verbatim, from a member's mirror.
    pub entries: Vec<Vec<u8>>,
    /// The statement that begins the term: a [`record::Opening`], signed by a member.
    pub opening: SignedStatement,
    /// Checkpoints that sealed changes of members, keys or hub, and the one in force, as that member holds them.
    pub seals: Vec<String>,
}

impl Hub {
    /// Fills the new hub in `dir` with the record up to the base and begins its term. Gives whether that was done now;
    /// a hub that has begun this very term before stays as it is.
    pub fn take_over(dir: &Path, takeover: &Takeover) -> Result<bool, HubError> {
        let refused = |why: String| HubError::TakeOver(why);
        let body: Opening =
            takeover.opening.statement().body_as().map_err(|e| refused(format!("no opening: {e}")))?;
        // Its keys, its name, and that nobody else has the folder.
        let hub = Self::open(dir)?;
        let (info, origin, size) = (hub.info(), hub.origin().to_owned(), hub.size());
        hub.stop();
        drop(hub);
        if body.hub != info {
            return Err(refused(format!(
                "the sign-offs name another hub than the one in `{}`",
                dir.display()
            )));
        }
        let _lock = files::lock(dir)?;
        let path = files::database(dir);
        let mut connection = store::open(&path)?;
        if size > 0 {
            return already(&connection, &body, size);
        }
        let (log, last) = checked(takeover, &body, &origin)?;
        point("term checked, not written", "");
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (index, leaf) in (0..).zip(&takeover.entries) {
            let id = log.entries().get(index).map(EntryBytes::id);
            store::put_entry(&tx, index as u64, &id.unwrap_or_else(|| record::Digest::of(leaf)), leaf)?;
        }
        store::put_entry(&tx, body.base, &takeover.opening.id(), &last)?;
        for note in &takeover.seals {
            let Ok(seal) = SignedCheckpoint::parse(note) else { continue };
            if seal.checkpoint().size() <= body.base && log.standing(&seal).is_ok() {
                store::put_seal(&tx, seal.checkpoint().size(), note)?;
            }
        }
        point("term filled in, not written", "");
        tx.commit()?;
        point("term written, not told", "");
        Ok(true)
    }
}

/// Whether the hub has begun this very term before.
fn already(connection: &rusqlite::Connection, body: &Opening, size: u64) -> Result<bool, HubError> {
    let there =
        if size > body.base { store::entries(connection, body.base, body.base + 1)? } else { Vec::new() };
    let opening = there.first().and_then(|leaf| Entry::from_bytes(leaf).ok());
    let same = opening.and_then(|e| e.signed.statement().body_as::<Opening>().ok());
    match same {
        Some(same) if (same.term, same.base, same.root) == (body.term, body.base, body.root) => Ok(false),
        _ => Err(HubError::TakeOver(format!(
            "it holds {size} entries already and did not begin this term: make a new hub with `comity hub init`"
        ))),
    }
}

/// The log that the hub takes over, and the entry that begins the term.
fn checked(takeover: &Takeover, body: &Opening, origin: &str) -> Result<(Log, Vec<u8>), HubError> {
    let refused = |why: String| HubError::TakeOver(why);
    let mut log = Log::new();
    for leaf in &takeover.entries {
        log.append(leaf, None).map_err(|e| refused(e.to_string()))?;
    }
    if log.roster().origin != origin {
        return Err(refused(format!("it was made for `{origin}`, the record is `{}`", log.roster().origin)));
    }
    if takeover.opening.statement().r#type != OPEN {
        return Err(refused("the statement begins no term".to_owned()));
    }
    let time = system_clock().max(log.last_time().unwrap_or(i64::MIN));
    let leaf = Entry::new(time, takeover.opening.clone()).to_bytes();
    let at = log.append(&leaf, None).map_err(|e| refused(e.to_string()))?;
    match log.voids().get(&at) {
        Some(why) => Err(refused(why.to_string())),
        None if log.roster().term != body.term => Err(refused("the statement begins no term".to_owned())),
        None => Ok((log, leaf)),
    }
}
