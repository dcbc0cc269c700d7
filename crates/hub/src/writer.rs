//! The one writer: a thread that turns whatever has queued up into one durable transaction.
//!
//! No group waits for company: while one commit waits for the disk, the next group gathers. An idle hub answers after one
//! disk write, a busy one writes larger groups. A commit that fails is fatal, because whether it reached the disk is
//! then unknown; the hub answers nothing more until it is opened again.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use record::Digest;
use rusqlite::Connection;
use tokio::sync::oneshot;
use wire::point::point;

use crate::Shared;
use crate::ledger::{Answer, Ledger, Order, Shown};

/// Jobs in one transaction.
const GROUP: usize = 256;
/// How long a job that nobody waits for may wait for company.
const LATER: Duration = Duration::from_millis(250);
const IDLE: Duration = Duration::from_secs(3600);

/// An order, and who waits for what becomes of it.
pub(crate) struct Job {
    pub(crate) order: Order,
    pub(crate) reply: Option<oneshot::Sender<Answer>>,
}

/// Orders that nobody waits for: they ride with the next group, or go alone after a while.
pub(crate) struct Later<T> {
    waiting: Vec<T>,
    since: Option<Duration>,
}

impl<T> Default for Later<T> {
    fn default() -> Self {
        Self { waiting: Vec::new(), since: None }
    }
}

impl<T> Later<T> {
    pub(crate) fn due_in(&self, now: Duration) -> Option<Duration> {
        Some(LATER.saturating_sub(now.saturating_sub(self.since?)))
    }

    /// What is to be committed now; `go` if somebody waits, or nothing will come any more.
    pub(crate) fn add(&mut self, more: Vec<T>, go: bool, now: Duration) -> Vec<T> {
        self.waiting.extend(more);
        if go || self.waiting.len() >= GROUP || self.due_in(now) == Some(Duration::ZERO) {
            self.since = None;
            return std::mem::take(&mut self.waiting);
        }
        if !self.waiting.is_empty() && self.since.is_none() {
            self.since = Some(now);
        }
        Vec::new()
    }
}

/// The writer: the ledger, and the state that callers are shown.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ledger: Ledger,
}

impl Shown for Shared {
    fn place_of(&self, id: &Digest) -> Option<(u64, i64)> {
        self.read().ids.get(id).copied()
    }

    fn sealed(&self) -> u64 {
        self.read().sealed()
    }
}

impl Writer {
    /// Runs until every sender is gone or the store fails.
    pub(crate) fn run(mut self, mut connection: Connection, jobs: &Receiver<Job>) {
        let mut later = Later::default();
        loop {
            let now = self.shared.up();
            let publish = self.shared.read().due_in(now);
            let wait = [publish, later.due_in(now)].into_iter().flatten().min().unwrap_or(IDLE);
            let (first, open) = match jobs.recv_timeout(wait) {
                Ok(job) => (Some(job), true),
                Err(RecvTimeoutError::Timeout) => (None, true),
                Err(RecvTimeoutError::Disconnected) => (None, false),
            };
            let group: Vec<Job> = first.into_iter().chain(jobs.try_iter()).take(GROUP).collect();
            let go = !open || group.iter().any(|job| job.order.awaited());
            let group = later.add(group, go, self.shared.up());
            if !group.is_empty()
                && let Err(e) = self.commit(&mut connection, group)
            {
                tracing::error!(error = %e, "the store failed; this hub must be stopped and opened again");
                *self.shared.failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(e);
                self.shared.stop();
                return;
            }
            if !open {
                return;
            }
            self.shared.publish();
        }
    }

    /// Writes a group, shows it, then tells those who wait.
    fn commit(&mut self, connection: &mut Connection, jobs: Vec<Job>) -> rusqlite::Result<()> {
        let now = (self.shared.clock)();
        let (orders, replies): (Vec<_>, Vec<_>) = jobs.into_iter().map(|j| (j.order, j.reply)).unzip();
        let names: Vec<String> = orders.iter().filter(|_| wire::point::armed()).map(Order::name).collect();
        let (group, answers) = self.ledger.commit(connection, orders, self.shared.as_ref(), now)?;
        let mail = group.has_mail();
        group.show(&mut self.shared.write());
        self.shared.publish();
        if mail {
            self.shared.tell();
        }
        names.iter().for_each(|name| point("shown, not answered", name));
        // A caller that is gone has its statement in the log all the same, and gets the same receipt when it asks again.
        for (reply, answer) in replies.into_iter().zip(answers) {
            if let Some(reply) = reply {
                let _ = reply.send(answer);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_nobody_waits_for_ride_along_or_go_alone_after_a_while() {
        let mut later = Later::default();
        let start = Duration::from_secs(7);
        assert!(later.add(vec!["unawaited"], false, start).is_empty());
        assert!(later.add(vec![], false, start + LATER / 2).is_empty());
        assert_eq!(later.due_in(start + LATER / 2), Some(LATER / 2));
        assert_eq!(later.add(vec![], false, start + LATER).len(), 1);
        assert_eq!(later.due_in(start + LATER), None);

        assert!(later.add(vec!["unawaited"], false, start).is_empty());
        assert_eq!(later.add(vec!["awaited"], true, start).len(), 2);

        assert!(later.add(vec!["unawaited"], false, start).is_empty());
        assert_eq!(later.add(vec![], true, start).len(), 1, "written before the hub closes");
    }

    #[test]
    fn only_cosignatures_and_deletions_are_not_waited_for() {
        let drop = Order::DropMail { party: "a".to_owned(), up_to: 1 };
        let cosignature = Order::Cosignature { size: 1, name: "a".to_owned(), line: String::new() };
        let blob = Order::Blob { digest: Digest::of(b"x"), owner: "a".to_owned(), bytes: Default::default() };
        assert_eq!([drop, cosignature, blob].map(|o| o.awaited()), [false, false, true]);
    }
}
