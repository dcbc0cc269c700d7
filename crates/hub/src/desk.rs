//! A hub without threads, sockets and clocks: every call is a function, time is handed in, and what it does is done
//! when it returns. The served hub ([`Hub`](crate::Hub)) does the same by the same functions, with a thread that
//! writes and a router that answers; a desk is for worlds in which all of that is simulated.

use std::path::Path;
use std::time::Duration;

use axum::body::Bytes;
use record::{Digest, HubInfo, PublicKey, SecretKey};
use rusqlite::Connection;
use rusqlite::backup::Backup;
use wire::Peer;
use wire::api::{Cosign, Have, Mail, Posted, Receipt, Refusal, Sync};
use zeroize::Zeroizing;

use crate::ledger::{Answer, Done, Ledger, Order};
use crate::limits::Allowance;
use crate::state::State;
use crate::writer::Later;
use crate::{HubConfig, HubError, calls, check, open_books, store};

/// When something happens, by the two clocks that a hub reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// the clock on the wall, milliseconds since the epoch; stamps are made of it
    pub now: i64,
    /// a clock that only goes forwards; pace and allowances are made of it
    pub up: Duration,
}

/// What outlives a hub's process: its keys and its store.
pub struct Books {
    config: HubConfig,
    sign: Zeroizing<[u8; 32]>,
    tls: Zeroizing<[u8; 32]>,
    connection: Connection,
}

impl Books {
    /// A new hub's books, in memory: what was written outlives [`Desk::fall`], nothing outlives the process.
    pub fn in_memory(config: &HubConfig, sign: [u8; 32], tls: [u8; 32]) -> Result<Self, HubError> {
        check(config)?;
        let mut connection = Connection::open_in_memory()?;
        store::fill(&mut connection, &config.meta())?;
        Ok(Self { config: config.clone(), sign: Zeroizing::new(sign), tls: Zeroizing::new(tls), connection })
    }

    /// A copy in memory.
    pub fn copy(&self) -> Result<Self, HubError> {
        let mut connection = Connection::open_in_memory()?;
        Backup::new(&self.connection, &mut connection)?.step(-1)?;
        Ok(Self { config: self.config.clone(), sign: self.sign.clone(), tls: self.tls.clone(), connection })
    }

    /// Lets the store grow by no more than `pages` pages from now on; `None` for no limit. A full disk, simulated.
    pub fn limit(&self, pages: Option<u32>) -> Result<(), HubError> {
        let now: u32 = self.connection.query_row("pragma page_count", [], |row| row.get(0))?;
        let most = pages.map_or(u32::MAX - 1, |more| now.saturating_add(more));
        self.connection.query_row(&format!("pragma max_page_count = {most}"), [], |_| Ok(()))?;
        Ok(())
    }

    /// The hub, opened on its books.
    pub fn wake(self, at: At) -> Result<Desk, HubError> {
        let key = SecretKey::from_seed(*self.sign);
        let tls = SecretKey::from_seed(*self.tls).public();
        let path = Path::new("memory");
        let (state, ledger) = open_books(&self.connection, path, &self.config, (&self.sign, tls), at)?;
        let allowance = Allowance::new();
        Ok(Desk { key, books: self, state, ledger, allowance, later: Later::default(), failed: false })
    }
}

/// A hub as a state machine.
pub struct Desk {
    books: Books,
    key: SecretKey,
    state: State,
    ledger: Ledger,
    allowance: Allowance,
    later: Later<Order>,
    /// the store failed: nothing more is answered until the hub is opened again
    failed: bool,
}

impl Desk {
    /// The hub as its process dies: what nobody was promised may be gone.
    pub fn fall(self) -> Books {
        self.books
    }

    /// What it has kept so far.
    pub fn books(&self) -> &Books {
        &self.books
    }

    /// What a charter must say of this hub.
    pub fn info(&self) -> HubInfo {
        HubInfo {
            operator: self.books.config.operator.clone(),
            jurisdiction: self.books.config.jurisdiction.clone(),
            key: self.key.public(),
            tls: self.ledger.tls,
        }
    }

    /// Who a caller with this TLS key is; `None` if it is not let in.
    pub fn admit(&self, key: &PublicKey) -> Option<Peer> {
        self.state.admit(key)
    }

    /// Entries on disk.
    pub fn size(&self) -> u64 {
        self.state.tree.size()
    }

    /// Where a statement stands.
    pub fn place_of(&self, id: &Digest) -> Option<u64> {
        self.state.ids.get(id).map(|(index, _)| *index)
    }

    /// Whether its store failed, so that it must be opened again.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Takes a signed statement, by its bytes.
    pub fn submit(&mut self, peer: &Peer, body: &[u8], at: At) -> Result<Receipt, Refusal> {
        self.charge(peer, false, at)?;
        self.charge(peer, true, at)?;
        calls::may_enter(&self.state)?;
        let order = calls::statement(peer, body)?;
        match self.commit(order, at)? {
            Done::Entered(entered) => entered.receipt(&self.ledger.origin, &self.key),
            Done::Written => Err(calls::stopping()),
        }
    }

    /// Whether there is anything beyond what the caller has: a sync that waits is answered then.
    pub fn has_news(&self, peer: &Peer, have: &Have) -> bool {
        self.state.has_news(peer.party.as_deref(), have)
    }

    /// What the hub has.
    pub fn sync(&mut self, peer: &Peer, at: At) -> Result<Sync, Refusal> {
        self.charge(peer, false, at)?;
        Ok(self.state.sync(peer.party.as_deref()))
    }

    /// Entries `from..to`, as many as one answer holds.
    pub fn entries(&mut self, peer: &Peer, from: u64, to: u64, at: At) -> Result<Vec<Vec<u8>>, Refusal> {
        self.charge(peer, false, at)?;
        calls::member(peer)?;
        calls::range(&self.state, from, to)?;
        store::entries(&self.books.connection, from, to).map_err(|e| calls::unreadable(&e))
    }

    /// Takes a member's cosignature.
    pub fn cosign(&mut self, peer: &Peer, message: &Cosign, at: At) -> Result<(), Refusal> {
        let party = calls::member(peer)?;
        self.charge(peer, false, at)?;
        let body = record::canon::to_bytes(message).unwrap_or_default();
        let (message, cosignature) = calls::cosignature(party, &body)?;
        let counting = calls::count(&mut self.state, message, cosignature)?;
        if counting.sealed {
            self.publish(at);
        }
        counting.keep.into_iter().try_for_each(|order| self.write_later(order, at))
    }

    /// Checkpoints above `after` entries that sealed a change of members, keys or hub.
    pub fn seals(&mut self, peer: &Peer, after: u64, at: At) -> Result<Vec<String>, Refusal> {
        self.charge(peer, false, at)?;
        calls::member(peer)?;
        store::seals(&self.books.connection, after).map_err(|e| calls::unreadable(&e))
    }

    /// Takes the proof that this hub has signed more than it has.
    pub fn ahead(&mut self, peer: &Peer, note: &str, at: At) -> Result<(), Refusal> {
        self.charge(peer, false, at)?;
        match calls::ahead(&mut self.state, &self.key, peer, note.as_bytes())? {
            Some(order) => self.write_later(order, at),
            None => Ok(()),
        }
    }

    /// Takes a frame for a member's mailbox.
    pub fn post(&mut self, peer: &Peer, body: Vec<u8>, at: At) -> Result<Posted, Refusal> {
        calls::member(peer)?;
        self.charge(peer, false, at)?;
        let frame = calls::decoded(&body)?;
        let (id, order) = calls::frame(&self.state, peer, &frame, Bytes::from(body))?;
        self.commit(order, at)?;
        Ok(Posted { id })
    }

    /// Frames numbered above `after`; those up to it are forgotten.
    pub fn mail(&mut self, peer: &Peer, after: u64, at: At) -> Result<Vec<Mail>, Refusal> {
        self.charge(peer, false, at)?;
        let party = calls::member(peer)?.to_owned();
        if let Some(order) = calls::read_up_to(&party, after) {
            self.write_later(order, at)?;
        }
        store::mail(&self.books.connection, &party, after).map_err(|e| calls::unreadable(&e))
    }

    /// In how long there is something to do without a call: a checkpoint to publish, or orders to write.
    pub fn due_in(&self, up: Duration) -> Option<Duration> {
        [self.state.due_in(up), self.later.due_in(up)].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn tick(&mut self, at: At) {
        if self.failed {
            return;
        }
        let due = self.later.add(Vec::new(), false, at.up);
        if !due.is_empty() && self.write(due, at).is_err() {
            return;
        }
        self.publish(at);
    }

    fn publish(&mut self, at: At) {
        if let Err(e) = self.state.publish(&self.key, at.up) {
            tracing::error!(error = %e, "no checkpoint could be written");
        }
    }

    fn charge(&mut self, peer: &Peer, statement: bool, at: At) -> Result<(), Refusal> {
        if self.failed {
            return Err(calls::stopping());
        }
        self.allowance.charge(peer, statement, at.up)
    }

    fn write_later(&mut self, order: Order, at: At) -> Result<(), Refusal> {
        let due = self.later.add(vec![order], false, at.up);
        if due.is_empty() { Ok(()) } else { self.write(due, at).map(drop) }
    }

    /// Writes the order at once, with those that waited for company.
    fn commit(&mut self, order: Order, at: At) -> Result<Done, Refusal> {
        let due = self.later.add(vec![order], true, at.up);
        // It came last, so its answer is the last.
        self.write(due, at)?.pop().unwrap_or_else(|| Err(calls::stopping()))
    }

    fn write(&mut self, orders: Vec<Order>, at: At) -> Result<Vec<Answer>, Refusal> {
        match self.ledger.commit(&mut self.books.connection, orders, &self.state, at.now) {
            Ok((group, answers)) => {
                group.show(&mut self.state);
                self.publish(at);
                Ok(answers)
            }
            Err(error) => {
                tracing::error!(%error, "the store failed; this hub must be stopped and opened again");
                self.failed = true;
                Err(calls::stopping())
            }
        }
    }
}
