//! Rates and quotas, so that one member cannot starve the others.

use std::collections::BTreeMap;
use std::time::Duration;

use wire::Peer;
use wire::api::Refusal;

/// Calls a second, and at once, for one member.
const CALLS: Rate = Rate { per_second: 1000.0, burst: 3000.0 };
/// Statements a second, and at once, for one member: each stays in every member's copy for ever.
const STATEMENTS: Rate = Rate { per_second: 100.0, burst: 1000.0 };
/// Bytes waiting in one mailbox.
pub(crate) const MAILBOX_BYTES: u64 = 512 << 20;
/// Bytes waiting in one mailbox from one sender.
pub(crate) const SENDER_BYTES: u64 = 64 << 20;
/// Bytes of blobs that one member put here.
pub(crate) const BLOB_BYTES: u64 = 1 << 30;

/// A token bucket's size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) per_second: f64,
    pub(crate) burst: f64,
}

/// Token buckets by caller.
#[derive(Debug)]
pub(crate) struct Buckets {
    rate: Rate,
    by_caller: BTreeMap<String, (f64, Duration)>,
}

impl Buckets {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, by_caller: BTreeMap::new() }
    }

    /// Takes one token; false if there is none. Callers are members, or the one name for all others, so the map
    /// stays small.
    pub(crate) fn take(&mut self, caller: &str, now: Duration) -> bool {
        if !self.by_caller.contains_key(caller) {
            self.by_caller.insert(caller.to_owned(), (self.rate.burst, now));
        }
        let Some((tokens, at)) = self.by_caller.get_mut(caller) else { return false };
        let earned = now.saturating_sub(*at).as_secs_f64() * self.rate.per_second;
        *tokens = (*tokens + earned).min(self.rate.burst);
        *at = now;
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }
}

/// What callers may still ask for.
#[derive(Debug)]
pub(crate) struct Allowance {
    calls: Buckets,
    statements: Buckets,
}

impl Allowance {
    pub(crate) fn new() -> Self {
        Self { calls: Buckets::new(CALLS), statements: Buckets::new(STATEMENTS) }
    }

    /// Takes one call, or one statement, from the caller's allowance.
    pub(crate) fn charge(&mut self, peer: &Peer, statement: bool, now: Duration) -> Result<(), Refusal> {
        let caller = peer.party.as_deref().unwrap_or("");
        let buckets = if statement { &mut self.statements } else { &mut self.calls };
        if buckets.take(caller, now) {
            return Ok(());
        }
        let what = if statement { "statements" } else { "calls" };
        Err(Refusal::new(
            429,
            format!("too many {what}, wait a little"),
            format!("more than the allowance of `{caller}`"),
            "fewer a second",
        ))
    }
}

/// What waits in one mailbox.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    /// highest number ever given
    pub(crate) top: u64,
    /// number, sender and bytes of what waits, in order
    waiting: BTreeMap<u64, (String, u64)>,
    total: u64,
    by_sender: BTreeMap<String, u64>,
}

impl Mailbox {
    /// Room for `bytes` more from `sender`; else what it has and may have.
    pub(crate) fn room(&self, sender: &str, bytes: u64) -> Result<(), (u64, u64)> {
        let from_sender = self.by_sender.get(sender).copied().unwrap_or(0);
        if from_sender.saturating_add(bytes) > SENDER_BYTES {
            return Err((from_sender, SENDER_BYTES));
        }
        if self.total.saturating_add(bytes) > MAILBOX_BYTES {
            return Err((self.total, MAILBOX_BYTES));
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, seq: u64, sender: &str, bytes: u64) {
        self.top = self.top.max(seq);
        self.total += bytes;
        *self.by_sender.entry(sender.to_owned()).or_default() += bytes;
        self.waiting.insert(seq, (sender.to_owned(), bytes));
    }

    /// Forgets what is numbered up to `seq`; whether there was any.
    pub(crate) fn remove_up_to(&mut self, seq: u64) -> bool {
        let kept = match seq.checked_add(1) {
            Some(next) => self.waiting.split_off(&next),
            None => BTreeMap::new(),
        };
        let gone = std::mem::replace(&mut self.waiting, kept);
        for (sender, bytes) in gone.values() {
            self.total = self.total.saturating_sub(*bytes);
            if let Some(sum) = self.by_sender.get_mut(sender) {
                *sum = sum.saturating_sub(*bytes);
            }
        }
        !gone.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_refills_and_does_not_overflow() {
        let mut buckets = Buckets::new(Rate { per_second: 10.0, burst: 3.0 });
        let start = Duration::from_secs(9);
        let taken = |b: &mut Buckets, at| (0..10).filter(|_| b.take("gb", at)).count();
        assert_eq!(taken(&mut buckets, start), 3);
        assert!(buckets.take("ch", start), "one member's haste does not slow another");
        assert_eq!(taken(&mut buckets, start + Duration::from_millis(210)), 2);
        assert_eq!(taken(&mut buckets, start + Duration::from_secs(60)), 3);
    }

    #[test]
    fn a_full_sender_leaves_room_for_the_others_and_reading_makes_room() {
        let mut mailbox = Mailbox::default();
        mailbox.add(1, "gb", SENDER_BYTES - 10);
        assert_eq!(mailbox.room("gb", 11), Err((SENDER_BYTES - 10, SENDER_BYTES)));
        assert_eq!(mailbox.room("gb", 10), Ok(()));
        assert_eq!(mailbox.room("ch", SENDER_BYTES), Ok(()));
        assert!(mailbox.remove_up_to(1));
        assert_eq!(mailbox.room("gb", SENDER_BYTES), Ok(()));
        assert!(!mailbox.remove_up_to(u64::MAX));
        assert_eq!(mailbox.top, 1);
    }
}
