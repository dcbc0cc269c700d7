//! What a node does by itself, from dates and state alone: publishes the floor, lets its gate speak, signs
//! contributor sets, joins runs, takes the steps of rounds, erases keys. Nothing waits for a person to press a button
//! that the charter already pressed.

use crate::NodeError;
use crate::core::Node;
use charter::body::{CharterPropose, CharterSign, GateReceipt, PolicyFloor, RunClose, RunJoin};
use charter::{Phase, Run, Stage, StudyState};
use record::{Digest, EntryBytes};
use study::Recipient;
use wire::point::point;
use wire::{Frame, Place, SignedFrame};

/// A run without progress for this long is given up, milliseconds.
const STALLED: i64 = 90_000;
/// Stops of one member that are kept until the record has them.
const MAX_STOPS: usize = 16;
/// A run whose receipts and keys are not all in after this long is given up, milliseconds.
const INCOMPLETE: i64 = 600_000;

impl Node {
    /// Takes every step that is due now.
    pub fn tick(&mut self, now: i64) -> Result<(), NodeError> {
        if self.member.halted.is_some() {
            // It says nothing any more, and destroys all the same.
            return self.destroy_erased(now);
        }
        // What a snapshot says is for reading until the record has said it too.
        if !self.verify_snapshot()? {
            return Ok(());
        }
        self.ask_highest(now)?;
        if !self.state.in_force() {
            return self.sign_charter(now);
        }
        self.publish_floor(now)?;
        self.attest(now)?;
        self.destroy_erased(now)?;
        self.report_proofs(now)?;
        self.forget_holders()?;
        // Once a stop is on the record, the record says how long it holds.
        let seen = &self.state.seen;
        let waited = !self.heard_stops.is_empty();
        self.heard_stops.retain(|_, heard| {
            heard.retain(|statement| !seen.contains(statement));
            !heard.is_empty()
        });
        if waited && self.heard_stops.is_empty() {
            self.store.drop_mail("", 0)?;
        }
        if self.stopped {
            return Ok(());
        }
        let ids: Vec<String> = self.state.studies.keys().cloned().collect();
        for id in ids {
            // One study that fails here holds up no other, nor the end of a run that has stalled.
            if let Err(e) = self.drive_study(&id, now) {
                if e.is_fatal() {
                    return Err(e);
                }
                tracing::error!(study = id, "a step failed: {}", e.public());
            }
        }
        for key in self.stalled(now, STALLED) {
            self.runs.remove(&key);
            self.give_up(&key, "no progress", now)?;
        }
        Ok(())
    }

    /// The first member named proposes the charter; every member that joined signs it once it is proposed.
    fn sign_charter(&mut self, now: i64) -> Result<(), NodeError> {
        // Whoever joins later has nothing to sign.
        if self.charter.member(self.me()).is_none() {
            return Ok(());
        }
        let first = self.charter.members.first().is_some_and(|m| m.id == self.config.id);
        let subject = self.charter.federation.clone();
        let proposed = self.member.log.roster().charter_digest;
        if proposed.is_none() && first {
            let body = CharterPropose { charter: self.charter.clone() };
            return self.say_once("charter".into(), CharterPropose::TYPE, &subject, &body, now);
        }
        if proposed == Some(self.charter_digest) && !self.member.log.roster().signed_by.contains(self.me()) {
            let body = CharterSign { charter: self.charter_digest };
            return self.say_once("sign".into(), CharterSign::TYPE, &subject, &body, now);
        }
        Ok(())
    }

    fn publish_floor(&mut self, now: i64) -> Result<(), NodeError> {
        let first = self.agreed().members.first().is_some_and(|m| m.id == self.config.id);
        if !first || self.state.floor.is_some() || Digest::of(policy::FLOOR.as_bytes()) != self.charter.floor
        {
            return Ok(());
        }
        let body = PolicyFloor { text: policy::FLOOR.to_string() };
        self.say_once("floor".into(), PolicyFloor::TYPE, "floor", &body, now)
    }

    fn drive_study(&mut self, id: &str, now: i64) -> Result<(), NodeError> {
        let Some(s) = self.state.studies.get(id).cloned() else { return Ok(()) };
        let me = self.me().to_string();
        if s.study.contributors.contains(&me) && !s.proposed.contains_key(&me) && self.state.floor.is_some() {
            let key = format!("propose/{id}");
            if !self.has_said(&key, now) {
                let receipt = crate::facts::receipt(self, &s, 0, Stage::Propose, None, false, now)?;
                self.say_once(key, GateReceipt::TYPE, id, &receipt, now)?;
            }
        }
        if let Some(Phase::Approved { contributors }) = self.state.phase(id, now) {
            self.gather(&s, contributors, now)?;
        }
        for (number, run) in &s.runs {
            self.drive_one(&s, *number, run, now)?;
        }
        Ok(())
    }

    fn drive_one(&mut self, s: &StudyState, number: u32, run: &Run, now: i64) -> Result<(), NodeError> {
        let me = self.me().to_string();
        let id = s.study.id.clone();
        let denied = run.receipts.values().chain(&run.release_gate).any(|r| !r.allow);
        let withheld = run.verdict.is_some_and(|(pass, _)| !pass);
        let over = run.lost.is_some() || run.release.is_some() || withheld || denied;
        if over {
            self.open_output(s, number, run, now)?;
            return self.close_run(s, number, run, now);
        }
        // A run for which somebody's part stays out is given up, so that its keys can be erased.
        let late = now > run.since.saturating_add(INCOMPLETE);
        let aggregates = s.study.aggregators.contains(&me);
        if late && aggregates {
            if !(run.may_open() && run.joined.contains_key(&s.study.collector)) {
                return self.give_up(&(id, number), "incomplete", now);
            }
            // Nothing is held of it here, so nothing stalls: a stop, a pause or a yes taken back before it began.
            if !self.runs.contains_key(&(id.clone(), number)) && self.may_start(&id, number, now).is_err() {
                return self.give_up(&(id, number), "may not start", now);
            }
        }
        if run.sealed.is_none() && !run.contributors.contains(&me) && s.has_live_yes(&me) {
            // Left out of a set that is not sealed yet, and here after all.
            self.be_ready(s, number, now)?;
        }
        if aggregates && run.sealed.is_none() && !run.sets.contains_key(&me) {
            return self.sign_set(s, number, run, now);
        }
        if run.sealed.is_none() {
            return Ok(());
        }
        let receives = s.study.recipients.iter().any(|r| matches!(r, Recipient::Member(m) if *m == me));
        if (receives || s.study.collector == me) && !run.joined.contains_key(&me) {
            let key = format!("join/{id}/{number}");
            if !self.has_said(&key, now) {
                let kem = self.fresh_kem(&id, number)?;
                let body = RunJoin { study: id.clone(), run: number, kem };
                self.say_once(key, RunJoin::TYPE, &id, &body, now)?;
            }
        }
        if run.contributors.contains(&me) && !run.receipts.contains_key(&me) {
            let key = format!("contribute/{id}/{number}");
            if !self.has_said(&key, now) {
                let kem = self.fresh_kem(&id, number)?;
                let receipt =
                    crate::facts::receipt(self, s, number, Stage::Contribute, Some(kem), false, now)?;
                self.say_once(key, GateReceipt::TYPE, &id, &receipt, now)?;
            }
        }
        self.drive_run(&id, number, now)
    }

    /// After a run: keys are erased, with a statement, and intermediate sums are forgotten.
    fn close_run(&mut self, s: &StudyState, number: u32, run: &Run, now: i64) -> Result<(), NodeError> {
        let me = self.me();
        let id = s.study.id.clone();
        let key = (id.clone(), number);
        let receives = s.study.recipients.iter().any(|r| matches!(r, Recipient::Member(m) if m == me));
        // An output may still be on its way: lateness counts from the release.
        let released = run.release.as_ref().and_then(|(_, index)| self.stamp(*index));
        let late = now > released.unwrap_or(run.since).saturating_add(INCOMPLETE);
        let here = self.store.output_of(&id, number, "recipient")?.is_some();
        let waiting = receives && run.release.is_some() && !here && !late;
        let part = run.contributors.iter().any(|m| m == me)
            || s.study.aggregators.iter().any(|m| m == me)
            || s.study.collector == me
            || receives;
        if waiting || !part || run.closed.contains(me) {
            return Ok(());
        }
        self.runs.remove(&key);
        point("run over, keys not erased", "");
        self.store.erase_secrets(&id, number)?;
        point("keys erased, not kept", "");
        self.store.drop_mail(&id, number)?;
        if run.release.is_none() {
            self.store.drop_sums(&id, number)?;
        }
        let body = RunClose { study: id.clone(), run: number };
        self.say_once(format!("close/{id}/{number}"), RunClose::TYPE, &id, &body, now)
    }

    /// The stamp of an entry.
    fn stamp(&self, index: u64) -> Option<i64> {
        self.member.log.entries().get(usize::try_from(index).ok()?).map(EntryBytes::time)
    }

    /// Sends a signed stop to every other member, past the record.
    pub(crate) fn broadcast_stop(&mut self, statement: Digest, now: i64) -> Result<(), NodeError> {
        let others: Vec<String> =
            self.agreed().members.iter().map(|m| m.id.clone()).filter(|m| m != self.me()).collect();
        let mut frames = Vec::new();
        for to in others {
            let place = Place { study: String::new(), run: 0, stage: 0, round: (now / 1000) as u32 };
            let body = format!("comity-stop/1 {statement} {now}").into_bytes();
            let frame = Frame::new(self.me(), &to, "stop", self.charter_digest, place, statement, body);
            let signed = frame.sign(&self.my_sign()).map_err(|e| NodeError::Round(e.to_string()))?;
            let egress = crate::store::Egress {
                time: now,
                study: String::new(),
                run: 0,
                stage: 0,
                round: 0,
                kind: "stop".into(),
                to,
                bytes: signed.bytes().len() as u64,
                cells: 0,
                approval: -1,
                layout: String::new(),
            };
            // Two stops of one instant are two frames.
            let [a, b, c, d, ..] = *statement.as_bytes();
            frames.push((egress, u32::from_be_bytes([a, b, c, d]), signed.bytes().to_vec()));
        }
        self.store.note_sent(&frames, None)?;
        // Also past the hub, to those who have an endpoint of their own.
        let endpoints = self.endpoints();
        for (egress, _, bytes) in frames.iter().filter(|(egress, ..)| endpoints.contains_key(&egress.to)) {
            self.store.add_stop(&egress.to, &statement.to_string(), bytes)?;
        }
        Ok(())
    }

    /// A frame from the mailbox. Whatever is wrong with it is named and kept; nothing of it is used. Only frames
    /// that this node has a use for are kept for a restart.
    pub fn mail(&mut self, seq: u64, bytes: &[u8], now: i64) -> Result<(), NodeError> {
        self.store.set_mail_cursor(seq)?;
        self.take_frame(bytes, now)
    }

    /// A frame, whichever way it came.
    pub(crate) fn take_frame(&mut self, bytes: &[u8], now: i64) -> Result<(), NodeError> {
        let Some(frame) = self.checked(bytes, now)? else { return Ok(()) };
        point("frame heard, not kept", &frame.kind);
        if self.expected(&frame) {
            self.store.add_mail(&frame.place.study, frame.place.run, bytes)?;
        }
        self.read_mail(&frame, now)?;
        point("frame read, not kept", &frame.kind);
        Ok(())
    }

    /// Reads again what a node that was restarted had taken before.
    pub fn reread_mail(&mut self, now: i64) -> Result<(), NodeError> {
        for bytes in self.store.mail()? {
            let read = self.checked(&bytes, now).and_then(|frame| match frame {
                Some(frame) => self.read_mail(&frame, now),
                None => Ok(()),
            });
            if let Err(e) = read {
                tracing::error!("a kept frame could not be read: {}", e.public());
            }
        }
        Ok(())
    }

    /// The frame, if it is a member's, for this node and not a repeat.
    fn checked(&mut self, bytes: &[u8], now: i64) -> Result<Option<Frame>, NodeError> {
        let signed = match SignedFrame::decode(bytes) {
            Ok(signed) => signed,
            Err(e) => return self.keep_evidence("hub", &e.to_string(), bytes, now).map(|()| None),
        };
        let from = signed.frame().from.clone();
        // Its key in force, or the one that the record gives it next: what is pending here may be in force there.
        let rosters = [&self.state.roster, self.member.log.roster()];
        let mut keys: Vec<_> = rosters.iter().filter_map(|r| r.keys(&from)).map(|k| k.sign).collect();
        keys.extend(self.former_key(&from, now));
        let Some(key) = keys.iter().find(|key| signed.verify(key).is_ok()).or(keys.first()).copied() else {
            let what = format!("a frame from `{from}`, who is no member");
            return self.keep_evidence("hub", &what, bytes, now).map(|()| None);
        };
        let checked =
            signed.verify(&key).and_then(|()| signed.frame().directed_to(self.me(), &self.charter_digest));
        if let Err(e) = checked {
            return self.keep_evidence(&from, &e.to_string(), bytes, now).map(|()| None);
        }
        if signed.frame().kind == "stop" {
            if !is_stop(signed.frame()) {
                return self.keep_evidence(&from, "a stop that is none", bytes, now).map(|()| None);
            }
            // A member that stops is stopped; more of the same tells nothing, and must not fill the disk.
            if self.heard_stops.get(&from).is_some_and(|h| h.len() >= MAX_STOPS) {
                return Ok(None);
            }
            // Several may be said within one second, so no place is theirs; each statement counts once.
            let heard = self.heard_stops.get(&from).is_some_and(|h| h.contains(&signed.frame().context));
            let known = heard || self.state.seen.contains(&signed.frame().context);
            return Ok((!known).then(|| signed.into_frame()));
        }
        // Said now and again; each is bound to the question.
        if [crate::restore::ASK, crate::restore::ANSWER].contains(&signed.frame().kind.as_str()) {
            return Ok(Some(signed.into_frame()));
        }
        if self.late(signed.frame()) {
            return Ok(None);
        }
        if !self.expected(signed.frame()) {
            let what = format!("a frame `{}` that this node expects of nobody now", signed.frame().kind);
            return self.keep_evidence(&from, &what, bytes, now).map(|()| None);
        }
        // Before anything of it is kept: a frame for a round that is in no plan is never of use.
        if !self.in_plan(signed.frame()) {
            let what = "a frame for a round that is not in the plan";
            return self.keep_evidence(&from, what, bytes, now).map(|()| None);
        }
        match self.ledger.accept(&signed) {
            Ok(wire::Repeat::Fresh) => Ok(Some(signed.into_frame())),
            Ok(wire::Repeat::Verbatim) => Ok(None),
            Err(e) => self.keep_evidence(&from, &e.to_string(), bytes, now).map(|()| None),
        }
    }

    /// Whether the run is over for which the frame comes: nobody's fault, and of no use.
    fn late(&self, frame: &Frame) -> bool {
        let run = self.state.studies.get(&frame.place.study).and_then(|s| s.runs.get(&frame.place.run));
        run.is_some_and(|run| {
            let denied = run.receipts.values().chain(&run.release_gate).any(|r| !r.allow);
            let withheld = run.verdict.is_some_and(|(pass, _)| !pass);
            run.lost.is_some() || withheld || denied || (run.release.is_some() && frame.kind != "output")
        })
    }

    /// Whether sender and receiver have the parts in a run that the frame's kind needs.
    fn expected(&self, frame: &Frame) -> bool {
        if frame.kind == "stop" {
            return true;
        }
        let Some(s) = self.state.studies.get(&frame.place.study) else { return false };
        let Some(run) = s.runs.get(&frame.place.run) else { return false };
        let aggregates = |m: &str| s.study.aggregators.iter().any(|a| a == m);
        let contributes = |m: &str| run.contributors.iter().any(|c| c == m);
        let receives =
            |m: &str| s.study.recipients.iter().any(|r| matches!(r, Recipient::Member(x) if x == m));
        let (from, me) = (frame.from.as_str(), self.me());
        match frame.kind.as_str() {
            "contribution" => contributes(from) && aggregates(me),
            "opening" => aggregates(from) && (s.study.collector == me || contributes(me)),
            "output" => s.study.collector == from && receives(me),
            kind => {
                rounds::Kind::between_aggregators().any(|k| kind == format!("aggregate-{}", k.code()))
                    && aggregates(from)
                    && aggregates(me)
            }
        }
    }

    /// Whether the plan of the frame's run has such a round; outputs stand for the whole run.
    fn in_plan(&self, frame: &Frame) -> bool {
        let place = &frame.place;
        let Some(s) = self.state.studies.get(&place.study) else { return false };
        let Some(run) = s.runs.get(&place.run) else { return false };
        if frame.kind == "output" {
            return (place.stage, place.round) == (0, 0);
        }
        let Ok(plan) = self.view(0).shared_plan(&s.study, run.first) else { return false };
        plan.1 == frame.context
            && plan.0.stages.get(place.stage as usize).is_some_and(|stage| place.round < stage.max_rounds)
    }

    fn read_mail(&mut self, frame: &Frame, now: i64) -> Result<(), NodeError> {
        let from = frame.from.clone();
        match frame.kind.as_str() {
            "stop" => {
                tracing::warn!(from, "a signed stop was heard");
                self.heard_stops.entry(from).or_default().insert(frame.context);
                Ok(())
            }
            "output" => self.take_output(frame, now),
            crate::restore::ASK | crate::restore::ANSWER => self.highest_mail(frame, now),
            _ => self.run_mail(frame, now),
        }
    }
}

/// Whether a frame says a stop as nodes say it.
fn is_stop(frame: &Frame) -> bool {
    let body = std::str::from_utf8(&frame.body).unwrap_or_default();
    let said = body.strip_prefix("comity-stop/1 ").and_then(|rest| rest.split_once(' '));
    frame.body.len() <= 128
        && said.is_some_and(|(id, time)| id == frame.context.to_string() && time.parse::<i64>().is_ok())
}
