//! The one writer: a thread that turns whatever has queued up into one durable transaction.
//!
//! No group waits for company: while one commit waits for the disk, the next group gathers. An idle hub answers after one
//! disk write, a busy one writes larger groups. A commit that fails is fatal, because whether it reached the disk is
//! then unknown; the hub answers nothing more until it is opened again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use record::roster::PROPOSE;
use record::{Digest, Entry, PublicKey, Roster, SignedStatement};
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;
use wire::api::{Receipt, Refusal};

use crate::limits::{BLOB_BYTES, Mailbox};
use crate::{Shared, store};

/// Jobs in one transaction.
const GROUP: usize = 256;
/// How long a job that nobody waits for may wait for company.
const LATER: Duration = Duration::from_millis(250);
const IDLE: Duration = Duration::from_secs(3600);

pub(crate) type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// What is to be written.
pub(crate) enum Job {
    Statement {
        signed: Box<SignedStatement>,
        caller: PublicKey,
        reply: Reply<Receipt>,
    },
    Mail {
        to: String,
        from: String,
        id: Digest,
        bytes: Bytes,
        reply: Reply<()>,
    },
    Blob {
        digest: Digest,
        owner: String,
        bytes: Bytes,
        reply: Reply<()>,
    },
    /// Written without an answer: a lost cosignature is handed in again.
    Cosignature {
        size: u64,
        name: String,
        line: String,
    },
    /// Written without an answer: what is deleted late is deleted by the next call.
    DropMail {
        party: String,
        up_to: u64,
    },
}

impl Job {
    fn awaited(&self) -> bool {
        !matches!(self, Self::Cosignature { .. } | Self::DropMail { .. })
    }
}

/// Jobs that nobody waits for: they ride with the next group, or go alone after a while.
#[derive(Default)]
struct Later {
    jobs: Vec<Job>,
    since: Option<Instant>,
}

impl Later {
    fn due_in(&self, now: Instant) -> Option<Duration> {
        Some(LATER.saturating_sub(now.saturating_duration_since(self.since?)))
    }

    /// What is to be committed now.
    fn add(&mut self, jobs: Vec<Job>, all: bool, now: Instant) -> Vec<Job> {
        let awaited = jobs.iter().any(Job::awaited);
        self.jobs.extend(jobs);
        if all || awaited || self.jobs.len() >= GROUP || self.due_in(now) == Some(Duration::ZERO) {
            self.since = None;
            return std::mem::take(&mut self.jobs);
        }
        if !self.jobs.is_empty() && self.since.is_none() {
            self.since = Some(now);
        }
        Vec::new()
    }
}

/// The writer's own copies run ahead of [`Shared`]'s state by the group under way.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) roster: Roster,
    pub(crate) size: u64,
    pub(crate) last_time: i64,
    pub(crate) boxes: BTreeMap<String, Mailbox>,
    pub(crate) blob_bytes: BTreeMap<String, u64>,
}

/// What one group adds to the shared state once it is on disk, and whom to tell.
#[derive(Default)]
struct Group {
    entries: Vec<(Digest, i64, Vec<u8>)>,
    receipts: Vec<(Reply<Receipt>, Result<Receipt, Refusal>)>,
    done: Vec<(Reply<()>, Result<(), Refusal>)>,
    mail: BTreeMap<String, u64>,
}

impl Writer {
    /// Runs until every sender is gone or the store fails.
    pub(crate) fn run(mut self, mut connection: Connection, jobs: &Receiver<Job>) {
        let mut later = Later::default();
        loop {
            let now = Instant::now();
            let publish = self.shared.read().due_in(now);
            let wait = [publish, later.due_in(now)].into_iter().flatten().min().unwrap_or(IDLE);
            let (first, open) = match jobs.recv_timeout(wait) {
                Ok(job) => (Some(job), true),
                Err(RecvTimeoutError::Timeout) => (None, true),
                Err(RecvTimeoutError::Disconnected) => (None, false),
            };
            let group: Vec<Job> = first.into_iter().chain(jobs.try_iter()).take(GROUP).collect();
            let group = later.add(group, !open, Instant::now());
            if !group.is_empty()
                && let Err(e) = self.commit(&mut connection, group)
            {
                tracing::error!(error = %e, "the store failed; this hub must be stopped and opened again");
                self.shared.stop();
                return;
            }
            if !open {
                return;
            }
            self.shared.publish();
        }
    }

    fn commit(&mut self, connection: &mut Connection, jobs: Vec<Job>) -> rusqlite::Result<()> {
        let mut group = Group::default();
        let now = (self.shared.clock)();
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for job in jobs {
            self.write(&tx, job, now, &mut group)?;
        }
        tx.commit()?;
        self.share(group);
        Ok(())
    }

    fn write(&mut self, tx: &Connection, job: Job, now: i64, group: &mut Group) -> rusqlite::Result<()> {
        match job {
            Job::Statement { signed, caller, reply } => {
                let outcome = self.statement(tx, *signed, caller, now, group)?;
                group.receipts.push((reply, outcome));
            }
            Job::Mail { to, from, id, bytes, reply } => {
                let outcome = self.mail(tx, (to, from, id), &bytes, now, group)?;
                group.done.push((reply, outcome));
            }
            Job::Blob { digest, owner, bytes, reply } => {
                let outcome = self.blob(tx, &digest, &owner, &bytes)?;
                group.done.push((reply, outcome));
            }
            Job::Cosignature { size, name, line } => {
                store::put_cosignature(tx, size, &name, &line)?;
                store::drop_cosignatures_below(tx, self.shared.read().sealed())?;
            }
            Job::DropMail { party, up_to } => {
                if self.boxes.get_mut(&party).is_some_and(|b| b.remove_up_to(up_to)) {
                    store::drop_mail(tx, &party, up_to)?;
                }
            }
        }
        Ok(())
    }

    fn statement(
        &mut self,
        tx: &Connection,
        signed: SignedStatement,
        caller: PublicKey,
        now: i64,
        group: &mut Group,
    ) -> rusqlite::Result<Result<Receipt, Refusal>> {
        let id = signed.id();
        let before = self.shared.read().ids.get(&id).copied().or_else(|| {
            let queued = group.entries.iter().position(|(other, ..)| *other == id)?;
            let (_, time, _) = group.entries.get(queued)?;
            Some((self.size - (group.entries.len() - queued) as u64, *time))
        });
        if let Some((index, time)) = before {
            return Ok(self.receipt(id, index, time));
        }
        // INVARIANT: stamps never go backwards, whatever the clock does.
        let time = now.max(self.last_time);
        let entry = Entry::new(time, signed);
        if let Err(refusal) = self.admissible(&entry, &caller) {
            return Ok(Err(refusal));
        }
        let bytes = entry.to_bytes();
        let index = self.size;
        store::put_entry(tx, index, &id, &bytes)?;
        self.size += 1;
        self.last_time = time;
        group.entries.push((id, time, bytes));
        Ok(self.receipt(id, index, time))
    }

    fn receipt(&self, id: Digest, index: u64, time: i64) -> Result<Receipt, Refusal> {
        Receipt::sign(id, index, &self.shared.origin, time, &self.shared.key)
            .map_err(|e| Refusal::new(500, "no receipt could be written", e.to_string(), "a receipt"))
    }

    /// A courtesy to the members, who check all of it again: void statements stay out of the log.
    fn admissible(&mut self, entry: &Entry, caller: &PublicKey) -> Result<(), Refusal> {
        let mut next = self.roster.clone();
        next.apply(self.size, entry).map_err(|why| {
            Refusal::new(
                422,
                "this statement would be void",
                why.to_string(),
                "a statement of a member, signed with its key",
            )
        })?;
        if entry.signed.statement().r#type == PROPOSE {
            let hub = next
                .hub
                .as_ref()
                .is_some_and(|h| h.key == self.shared.key.public() && h.tls == self.shared.tls.public_key());
            if !hub || next.origin != self.shared.origin {
                return Err(Refusal::new(
                    422,
                    "this charter names another hub or federation",
                    format!("origin {}", next.origin),
                    format!("origin {} and this hub's two keys", self.shared.origin),
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
        self.roster = next;
        Ok(())
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

    /// Shows a group that is on disk, then tells those who wait.
    fn share(&mut self, group: Group) {
        {
            let mut state = self.shared.write();
            for (id, time, bytes) in &group.entries {
                let index = state.tree.append(bytes);
                state.ids.insert(*id, (index, *time));
            }
            if !group.entries.is_empty() {
                state.roster = self.roster.clone();
            }
            state.mail.extend(group.mail.iter().map(|(party, seq)| (party.clone(), *seq)));
        }
        self.shared.publish();
        if !group.mail.is_empty() {
            self.shared.tell();
        }
        // A caller that is gone has its statement in the log all the same, and gets the same receipt when it asks again.
        for (reply, outcome) in group.receipts {
            let _ = reply.send(outcome);
        }
        for (reply, outcome) in group.done {
            let _ = reply.send(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unawaited() -> Job {
        Job::DropMail { party: "a".to_owned(), up_to: 1 }
    }

    fn awaited() -> Job {
        let (reply, _) = oneshot::channel();
        Job::Blob { digest: Digest::of(b"x"), owner: "a".to_owned(), bytes: Bytes::new(), reply }
    }

    #[test]
    fn jobs_that_nobody_waits_for_ride_along_or_go_alone_after_a_while() {
        let mut later = Later::default();
        let start = Instant::now();
        assert!(later.add(vec![unawaited()], false, start).is_empty());
        assert!(later.add(vec![], false, start + LATER / 2).is_empty());
        assert_eq!(later.due_in(start + LATER / 2), Some(LATER / 2));
        assert_eq!(later.add(vec![], false, start + LATER).len(), 1);
        assert_eq!(later.due_in(start + LATER), None);

        assert!(later.add(vec![unawaited()], false, start).is_empty());
        assert_eq!(later.add(vec![awaited()], false, start).len(), 2);

        assert!(later.add(vec![unawaited()], false, start).is_empty());
        assert_eq!(later.add(vec![], true, start).len(), 1, "written before the hub closes");
    }
}
