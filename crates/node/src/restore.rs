//! A node whose store was put back from a backup: it has forgotten what it cosigned since, and cosigning anything else
//! of that would be cosigning two histories. So it says so to itself, cosigns nothing, and asks the others how far they
//! are; [`record::Member::told`] says when it counts as whole again.
//!
//! It is noticed in three ways: somebody says it (`comity node serve --restored`); a file beside the store, written
//! after it, says that the store was further once; or a checkpoint bears a cosignature of this member that it does not
//! remember.
//!
//! They ask by frames, signed like all others and bound to a nonce that was drawn after the store was put back. The hub
//! that carries them can withhold them, then nothing is cosigned here; it cannot make one up or show an old one. What
//! is answered is the highest checkpoint that the other has cosigned, as its hub signed it, and after it the last sign-off
//! of the asker's own that the other has seen: in one frame, so that the first is not carried without the second.

use crate::NodeError;
use crate::core::Node;
use crate::mirror::OnStore;
use crate::store::{Egress, Store};
use record::member::COSIGNED;
use record::{Digest, SignedCheckpoint};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use wire::{Frame, Place};

/// Kind of the frame that asks.
pub const ASK: &str = "highest-asked";
/// Kind of the frame that answers.
pub const ANSWER: &str = "highest";
/// How long until it is asked again, and how often one member is answered, milliseconds.
const AGAIN: i64 = 3_000;
/// Longest claim in an answer, bytes: a checkpoint without cosignatures.
const MAX_CLAIM: usize = 2_048;
/// Longest answer, bytes: a claim, and a sign-off.
const MAX_ANSWER: usize = MAX_CLAIM + record::statement::MAX_SIGNED_BYTES;

/// What is asked and was answered. In memory alone: a process that begins again asks again.
#[derive(Default)]
pub(crate) struct Asking {
    nonce: Option<Digest>,
    asked: Option<i64>,
    answered: BTreeMap<String, i64>,
    /// The file beside the store.
    pulse: Option<PathBuf>,
}

/// What the file beside the store says: starts, and term and size of what was cosigned.
type Pulse = (u64, u32, u64);

fn read_pulse(path: &Path) -> Option<Pulse> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut words = text.split_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

impl Node {
    /// At each start: whether the store is behind the file beside it, and so an old copy.
    pub(crate) fn begin_pulse(&mut self) -> Result<(), NodeError> {
        let path = self.dir.join("store.pulse");
        let (starts, term, size) = read_pulse(&path).unwrap_or_default();
        let here = self.pulse()?;
        if (starts, term, size) > here && (starts > here.0 || (term, size) > (here.1, here.2)) {
            tracing::error!(
                "the store is an old copy: nothing is cosigned until others say how far they are"
            );
            self.restored()?;
        }
        self.store.set_meta("starts", (starts.max(here.0) + 1).to_string().as_bytes())?;
        // INVARIANT: the store is written first, so that the file never is ahead of a store that is whole.
        self.store.flush()?;
        self.asking.pulse = Some(path);
        self.beat()
    }

    fn pulse(&self) -> Result<Pulse, NodeError> {
        let starts = self.store.meta_text("starts")?.and_then(|t| t.parse().ok()).unwrap_or(0);
        let (term, size) = self.member.cosigned.map_or((0, 0), |c| (c.term, c.size));
        Ok((starts, term, size))
    }

    /// Writes the file beside the store.
    pub(crate) fn beat(&self) -> Result<(), NodeError> {
        let Some(path) = &self.asking.pulse else { return Ok(()) };
        let (starts, term, size) = self.pulse()?;
        let new = path.with_extension("pulse.new");
        let write = || {
            std::fs::write(&new, format!("{starts} {term} {size}\n"))?;
            std::fs::rename(&new, path)
        };
        write().map_err(|e| NodeError::io(path, e))
    }

    /// Says that this store is an old copy.
    pub fn restored(&mut self) -> Result<(), NodeError> {
        self.member.restore(&mut OnStore(&self.store))?;
        self.asking.nonce = None;
        self.store.flush()
    }

    /// A cosignature of this member on a checkpoint beyond what it remembers: then it has forgotten.
    pub(crate) fn notice_own(&mut self, note: &SignedCheckpoint) -> Result<(), NodeError> {
        let size = note.checkpoint().size();
        let roster = self.member.log.roster();
        if self.member.restored.is_some() || !note.lines().any(|line| line.name() == self.me()) {
            return Ok(());
        }
        let (Some(term), Some(electorate)) = (roster.term_of(note), roster.electorate_at(size)) else {
            return Ok(());
        };
        let beyond = self.member.cosigned.is_none_or(|c| (c.term, c.size) < (term, size));
        if beyond && note.cosigned_in(electorate).contains_key(self.me()) {
            tracing::error!(
                size,
                "a cosignature of this member that it does not remember: its store is an old copy"
            );
            self.restored()?;
        }
        Ok(())
    }

    /// Asks the others how far they are.
    pub(crate) fn ask_highest(&mut self, now: i64) -> Result<(), NodeError> {
        let Some(restored) = &self.member.restored else { return Ok(()) };
        if self.asking.asked.is_some_and(|at| at <= now && now.saturating_sub(at) < AGAIN) {
            return Ok(());
        }
        let others = self.member.log.roster().members.keys().filter(|m| *m != self.me());
        let others: Vec<String> = others.filter(|m| !restored.told.contains_key(*m)).cloned().collect();
        // Those who have spoken are asked again once all have, since this copy may have been too short then.
        let others: Vec<String> =
            if others.is_empty() { restored.told.keys().cloned().collect() } else { others };
        let nonce = match self.asking.nonce {
            Some(nonce) => nonce,
            None => {
                let mut seed = [0u8; 32];
                getrandom::fill(&mut seed).map_err(|_| NodeError::Randomness)?;
                *self.asking.nonce.insert(Digest::of(&seed))
            }
        };
        self.asking.asked = Some(now);
        for to in others {
            self.send_highest(ASK, &to, nonce, Vec::new(), now)?;
        }
        Ok(())
    }

    fn send_highest(
        &mut self,
        kind: &str,
        to: &str,
        nonce: Digest,
        body: Vec<u8>,
        now: i64,
    ) -> Result<(), NodeError> {
        let round = u32::try_from(now.div_euclid(1000) & 0x7fff_ffff).unwrap_or(0);
        let place = Place { study: String::new(), run: 0, stage: 0, round };
        let frame = Frame::new(self.me(), to, kind, self.charter_digest, place, nonce, body);
        let signed = frame.sign(&self.my_sign()).map_err(|e| NodeError::Round(e.to_string()))?;
        let egress = Egress {
            time: now,
            study: String::new(),
            run: 0,
            stage: 0,
            round,
            kind: kind.into(),
            to: to.into(),
            bytes: signed.bytes().len() as u64,
            cells: 0,
            approval: -1,
            layout: String::new(),
        };
        self.store.note_sent(&[(egress, 0, signed.bytes().to_vec())], None)?;
        Ok(())
    }

    /// Answers, or takes an answer in.
    pub(crate) fn highest_mail(&mut self, frame: &Frame, now: i64) -> Result<(), NodeError> {
        if frame.kind == ASK {
            return self.answer_highest(frame, now);
        }
        if self.asking.nonce != Some(frame.context) {
            return Ok(());
        }
        let wrong = "an answer on how far it is that does not hold";
        if frame.body.len() > MAX_ANSWER {
            return self.keep_evidence(&frame.from, wrong, &frame.body, now);
        }
        let (claim, sign_off) = parts(&frame.body);
        let claim = match std::str::from_utf8(claim).map(SignedCheckpoint::parse) {
            _ if claim.is_empty() => None,
            Ok(Ok(note)) if claim.len() <= MAX_CLAIM => Some(note),
            _ => return self.keep_evidence(&frame.from, wrong, &frame.body, now),
        };
        // First what it ended, then how far it was: whoever knows the second only may count as whole. And so too when it
        // does already, since those who answered first may not have seen it.
        if !sign_off.is_empty()
            && let Err(why) = self.take_signoff(sign_off)?
        {
            // Of a term that is over here, or with a key that has changed since: nobody's fault.
            tracing::debug!(from = frame.from, why, "a sign-off was not taken");
        }
        if self.member.restored.is_none() {
            return Ok(());
        }
        let told = self.member.told(&frame.from, claim.as_ref(), &mut OnStore(&self.store));
        if let Err(e) = told.map_err(NodeError::from) {
            if e.is_fatal() {
                return Err(e);
            }
            return self.keep_evidence(&frame.from, &format!("{wrong}: {}", e.public()), &frame.body, now);
        }
        Ok(())
    }

    fn answer_highest(&mut self, frame: &Frame, now: i64) -> Result<(), NodeError> {
        let lately = self
            .asking
            .answered
            .get(&frame.from)
            .is_some_and(|at| *at <= now && now.saturating_sub(*at) < AGAIN / 2);
        // An old copy does not know.
        if lately || self.member.restored.is_some() {
            return Ok(());
        }
        let Some(claim) = highest(&self.store)? else { return Ok(()) };
        self.asking.answered.insert(frame.from.clone(), now);
        let mut body = claim.into_bytes();
        body.extend(self.store.signoff_of(&frame.from)?.unwrap_or_default());
        self.send_highest(ANSWER, &frame.from, frame.context, body, now)
    }
}

/// How a signed statement begins.
const STATEMENT: &[u8] = b"comity-statement/1\n";

/// A claim, and the sign-off after it: a statement begins with its own line, and has no such line in it.
fn parts(body: &[u8]) -> (&[u8], &[u8]) {
    let begins = |at: &usize| {
        body.get(*at..).is_some_and(|rest| rest.starts_with(STATEMENT))
            && at.checked_sub(1).is_none_or(|before| body.get(before) == Some(&b'\n'))
    };
    let at = (0..body.len()).rev().find(begins).unwrap_or(body.len());
    body.split_at_checked(at).unwrap_or((body, &[]))
}

/// The highest checkpoint that was cosigned, as its hub signed it; empty for none, nothing if that is not known.
fn highest(store: &Store) -> Result<Option<String>, NodeError> {
    let Some(text) = store.meta_text(COSIGNED)? else { return Ok(Some(String::new())) };
    Ok(text.split_once('\n').map(|(_, note)| note.to_owned()))
}
