//! What is written: orders in, answers out, all of a group in one durable transaction.
//!
//! Knows no thread, socket or clock: time is handed in. Whoever owns a ledger hands it groups of orders
//! ([`Ledger::commit`]) and shows what came of them once they are on disk ([`Group::show`]). A commit that fails is
//! fatal, because whether it reached the disk is then unknown; the ledger must be made again from the store.

use std::collections::{BTreeMap, HashMap};

use axum::body::Bytes;
use record::roster::{OPEN, PROPOSE, Why};
use record::tree::leaf_hash;
use record::{Digest, Entry, PublicKey, Roster, SecretKey, SignedStatement};
use rusqlite::{Connection, TransactionBehavior};
use wire::api::{Receipt, Refusal};
use wire::point::point;

use crate::limits::{BLOB_BYTES, Mailbox};
use crate::state::State;
use crate::store;

/// What is to be written.
pub(crate) enum Order {
    Statement {
        signed: Box<SignedStatement>,
        caller: PublicKey,
    },
    Mail {
        to: String,
        from: String,
        id: Digest,
        bytes: Bytes,
    },
    Blob {
        digest: Digest,
        owner: String,
        bytes: Bytes,
    },
    /// Written without an answer: a lost cosignature is handed in again.
    Cosignature {
        size: u64,
        name: String,
        line: String,
    },
    /// Written without an answer: a lost one is sealed again by the same cosignatures.
    Seal {
        size: u64,
        note: String,
    },
    /// Written without an answer: a member shows it again.
    Behind {
        size: u64,
    },
    /// Written without an answer: what is deleted late is deleted by the next call.
    DropMail {
        party: String,
        up_to: u64,
    },
}

impl Order {
    /// What is being done, for the points at which a hub under test dies.
    pub(crate) fn name(&self) -> String {
        match self {
            Order::Statement { signed, .. } => signed.statement().r#type.clone(),
            Order::Mail { bytes, .. } => {
                let frame = wire::SignedFrame::decode(bytes).ok();
                frame.map_or_else(|| "mail".to_string(), |f| format!("mail {}", f.frame().kind))
            }
            Order::Blob { .. } => "blob".to_string(),
            Order::Cosignature { .. } => "cosignature".to_string(),
            Order::Seal { .. } => "seal".to_string(),
            Order::Behind { .. } => "behind".to_string(),
            Order::DropMail { .. } => "forgotten mail".to_string(),
        }
    }

    pub(crate) fn awaited(&self) -> bool {
        matches!(self, Self::Statement { .. } | Self::Mail { .. } | Self::Blob { .. })
    }
}

/// What became of an order.
pub(crate) type Answer = Result<Done, Refusal>;

/// What an order was answered with.
pub(crate) enum Done {
    Entered(Entered),
    Written,
}

/// Where a statement stands. Whoever answers signs the receipt, so that the writer need not.
pub(crate) struct Entered {
    id: Digest,
    index: u64,
    time: i64,
}

impl Entered {
    /// The hub's word for it.
    pub(crate) fn receipt(&self, origin: &str, key: &SecretKey) -> Result<Receipt, Refusal> {
        Receipt::sign(self.id, self.index, origin, self.time, key)
            .map_err(|e| Refusal::new(500, "no receipt could be written", e.to_string(), "a receipt"))
    }
}

/// What a ledger asks of those who show its entries to callers.
pub(crate) trait Shown {
    /// Where a statement stands, and its stamp.
    fn place_of(&self, id: &Digest) -> Option<(u64, i64)>;
    /// Size of the largest checkpoint with a quorum.
    fn sealed(&self) -> u64;
}

impl Shown for State {
    fn place_of(&self, id: &Digest) -> Option<(u64, i64)> {
        self.ids.get(id).copied()
    }

    fn sealed(&self) -> u64 {
        State::sealed(self)
    }
}

/// The writer's own copies; they run ahead of what is shown by the group under way.
pub(crate) struct Ledger {
    pub(crate) origin: String,
    pub(crate) key: SecretKey,
    pub(crate) tls: PublicKey,
    pub(crate) roster: Roster,
    pub(crate) size: u64,
    pub(crate) last_time: i64,
    pub(crate) boxes: BTreeMap<String, Mailbox>,
    pub(crate) blob_bytes: BTreeMap<String, u64>,
}

/// What one group adds to the shown state once it is on disk.
#[derive(Default)]
pub(crate) struct Group {
    /// id, stamp and leaf hash, hashed before anyone waits for the shown state
    entries: Vec<(Digest, i64, Digest)>,
    /// which of them is which statement
    places: HashMap<Digest, usize>,
    mail: BTreeMap<String, u64>,
    /// the roster after them, if they changed it
    roster: Option<Roster>,
}

impl Group {
    /// Whether there is mail to tell of.
    pub(crate) fn has_mail(&self) -> bool {
        !self.mail.is_empty()
    }

    /// Shows a group that is on disk.
    pub(crate) fn show(self, state: &mut State) {
        for (id, time, leaf) in self.entries {
            let index = state.tree.append_hash(leaf);
            state.ids.insert(id, (index, time));
        }
        if let Some(roster) = self.roster {
            state.roster = roster;
        }
        state.mail.extend(self.mail);
    }
}

impl Ledger {
    /// Writes the orders in one transaction; an answer for each, in their order.
    pub(crate) fn commit(
        &mut self,
        connection: &mut Connection,
        orders: Vec<Order>,
        shown: &dyn Shown,
        now: i64,
    ) -> rusqlite::Result<(Group, Vec<Answer>)> {
        let mut group = Group::default();
        let mut answers = Vec::with_capacity(orders.len());
        let names: Vec<String> = orders.iter().filter(|_| wire::point::armed()).map(Order::name).collect();
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for order in orders {
            answers.push(self.write(&tx, order, shown, now, &mut group)?);
        }
        names.iter().for_each(|name| point("taken, not written", name));
        tx.commit()?;
        names.iter().for_each(|name| point("written, not shown", name));
        Ok((group, answers))
    }

    fn write(
        &mut self,
        tx: &Connection,
        order: Order,
        shown: &dyn Shown,
        now: i64,
        group: &mut Group,
    ) -> rusqlite::Result<Answer> {
        match order {
            Order::Statement { signed, caller } => {
                let entered = self.statement(tx, *signed, caller, shown, now, group)?;
                return Ok(entered.map(Done::Entered));
            }
            Order::Mail { to, from, id, bytes } => {
                if let Err(refusal) = self.mail(tx, (to, from, id), &bytes, now, group)? {
                    return Ok(Err(refusal));
                }
            }
            Order::Blob { digest, owner, bytes } => {
                if let Err(refusal) = self.blob(tx, &digest, &owner, &bytes)? {
                    return Ok(Err(refusal));
                }
            }
            Order::Cosignature { size, name, line } => {
                store::put_cosignature(tx, size, &name, &line)?;
                store::drop_cosignatures_below(tx, shown.sealed())?;
            }
            Order::Seal { size, note } => store::put_seal(tx, size, &note)?,
            Order::Behind { size } => store::put_note(tx, "behind", &size.to_string())?,
            Order::DropMail { party, up_to } => {
                if self.boxes.get_mut(&party).is_some_and(|b| b.remove_up_to(up_to)) {
                    store::drop_mail(tx, &party, up_to)?;
                }
            }
        }
        Ok(Ok(Done::Written))
    }

    fn statement(
        &mut self,
        tx: &Connection,
        signed: SignedStatement,
        caller: PublicKey,
        shown: &dyn Shown,
        now: i64,
        group: &mut Group,
    ) -> rusqlite::Result<Result<Entered, Refusal>> {
        let id = signed.id();
        let before = shown.place_of(&id).or_else(|| {
            let queued = *group.places.get(&id)?;
            let (_, time, _) = group.entries.get(queued)?;
            Some((self.size - (group.entries.len() - queued) as u64, *time))
        });
        if let Some((index, time)) = before {
            return Ok(Ok(Entered { id, index, time }));
        }
        // INVARIANT: stamps never go backwards, whatever the clock does.
        let time = now.max(self.last_time);
        let entry = Entry::new(time, signed);
        match self.admissible(&entry, &caller) {
            Ok(None) => {}
            // INVARIANT: what is shown once the group is on disk is the last of them.
            Ok(Some(next)) => {
                group.roster = Some(next.clone());
                self.roster = next;
            }
            Err(refusal) => return Ok(Err(refusal)),
        }
        let bytes = entry.to_bytes();
        let index = self.size;
        store::put_entry(tx, index, &id, &bytes)?;
        self.size += 1;
        self.last_time = time;
        group.places.insert(id, group.entries.len());
        group.entries.push((id, time, leaf_hash(&bytes)));
        Ok(Ok(Entered { id, index, time }))
    }

    /// A courtesy to the members, who check all of it again: void statements stay out of the log. Gives the roster after
    /// this one, if it changes it.
    fn admissible(&self, entry: &Entry, caller: &PublicKey) -> Result<Option<Roster>, Refusal> {
        if entry.signed.statement().r#type == OPEN {
            return Err(Refusal::new(
                422,
                "a term is not begun by handing in a statement",
                OPEN,
                "`comity hub handover open` in the folder of the hub that takes over",
            ));
        }
        let void = |why: Why| {
            Refusal::new(
                422,
                "this statement would be void",
                why.to_string(),
                "a statement of a member, signed with its key",
            )
        };
        let next = self.roster.after(self.size, entry).map_err(void)?;
        if entry.signed.statement().r#type == PROPOSE
            && let Some(next) = &next
        {
            let hub = next.hub.as_ref().is_some_and(|h| h.key == self.key.public() && h.tls == self.tls);
            if !hub || next.origin != self.origin {
                return Err(Refusal::new(
                    422,
                    "this charter names another hub or federation",
                    format!("origin {}", next.origin),
                    format!("origin {} and this hub's two keys", self.origin),
                ));
            }
            if next.party_of_tls(caller).is_none() {
                return Err(Refusal::new(
                    403,
                    "only a member of a charter may propose it",
                    format!("TLS key {caller}"),
                    "a TLS key that the charter gives to a member",
                ));
            }
        }
        Ok(next)
    }

    fn mail(
        &mut self,
        tx: &Connection,
        (to, from, id): (String, String, Digest),
        bytes: &[u8],
        now: i64,
        group: &mut Group,
    ) -> rusqlite::Result<Result<(), Refusal>> {
        if store::was_posted(tx, &id)? {
            return Ok(Ok(()));
        }
        let mailbox = self.boxes.entry(to.clone()).or_default();
        if let Err((found, limit)) = mailbox.room(&from, bytes.len() as u64) {
            return Ok(Err(Refusal::new(
                507,
                format!("the mailbox of `{to}` is full, it must read first"),
                format!("{found} bytes waiting and {} more", bytes.len()),
                format!("at most {limit} bytes"),
            )));
        }
        let seq = mailbox.top + 1;
        store::put_mail(tx, (&to, seq), &from, &id, bytes, now)?;
        mailbox.add(seq, &from, bytes.len() as u64);
        group.mail.insert(to, seq);
        Ok(Ok(()))
    }

    fn blob(
        &mut self,
        tx: &Connection,
        digest: &Digest,
        owner: &str,
        bytes: &[u8],
    ) -> rusqlite::Result<Result<(), Refusal>> {
        if store::has_blob(tx, digest)? {
            return Ok(Ok(()));
        }
        let used = self.blob_bytes.entry(owner.to_owned()).or_default();
        if used.saturating_add(bytes.len() as u64) > BLOB_BYTES {
            return Ok(Err(Refusal::new(
                507,
                format!("`{owner}` has no room left for blobs"),
                format!("{used} bytes and {} more", bytes.len()),
                format!("at most {BLOB_BYTES} bytes"),
            )));
        }
        store::put_blob(tx, digest, owner, bytes)?;
        *used += bytes.len() as u64;
        Ok(Ok(()))
    }
}
