//! An aggregator's part: it waits for every contributor's answer to one question, verifies with the others, and
//! opens the round once.

use super::*;

impl Node {
    pub(super) fn take_contribution(
        &mut self,
        run: &Run,
        local: &mut RunLocal,
        slot: Slot,
        frame: &WireFrame,
        now: i64,
    ) -> Result<(), NodeError> {
        if !run.contributors.contains(&frame.from) {
            return self.keep_evidence(
                &frame.from,
                "a contribution from outside the contributor set",
                &frame.body,
                now,
            );
        }
        let Some((question, share)) = frame.body.split_at_checked(32) else {
            return self.keep_evidence(&frame.from, "a contribution that is cut short", &frame.body, now);
        };
        let Ok(question) = <[u8; 32]>::try_from(question) else { return Ok(()) };
        let entry = (Digest::from_bytes(question), share.to_vec());
        let from = local.contributions.entry(slot).or_default();
        if let Some(before) = from.get(&frame.from) {
            if before != &entry {
                return self.keep_evidence(&frame.from, "a second, different contribution", &frame.body, now);
            }
            return Ok(());
        }
        from.insert(frame.from.clone(), entry);
        Ok(())
    }

    pub(super) fn aggregate(
        &mut self,
        s: &StudyState,
        run: &Run,
        key: &(String, u32),
        local: &mut RunLocal,
        passed: bool,
        now: i64,
    ) -> Result<(), NodeError> {
        let slots: Vec<Slot> = local.contributions.keys().copied().collect();
        for slot in slots {
            if slot.0 > 0 && !passed {
                continue;
            }
            if !local.aggregators.contains_key(&slot) {
                if self.store.has_opened(&key.0, key.1, slot.0, slot.1)? {
                    continue;
                }
                self.begin_aggregation(run, key, local, slot, now)?;
            }
            let Some(mut machine) = local.aggregators.remove(&slot) else { continue };
            let mail = local.inbox.remove(&slot).unwrap_or_default();
            let mut rest = Vec::new();
            let mut out = Vec::new();
            for (kind, from, body) in mail {
                if kind == "opening" {
                    rest.push((kind, from, body));
                    continue;
                }
                match machine.on_message(&from, &body) {
                    Ok(messages) => out.extend(messages),
                    Err(e) => self.keep_evidence(&from, &e.to_string(), &body, now)?,
                }
            }
            if !rest.is_empty() {
                local.inbox.insert(slot, rest);
            }
            self.send_aggregate(key, local, slot, out, now)?;
            if machine.ready_to_open().is_some() {
                self.open_round(s, run, key, local, slot, &mut machine, now)?;
            }
            local.aggregators.insert(slot, machine);
        }
        Ok(())
    }

    /// Starts aggregating once every contributor has answered the same question.
    pub(super) fn begin_aggregation(
        &mut self,
        run: &Run,
        key: &(String, u32),
        local: &mut RunLocal,
        slot: Slot,
        now: i64,
    ) -> Result<(), NodeError> {
        let Some(from) = local.contributions.get(&slot) else { return Ok(()) };
        if from.len() < run.contributors.len() {
            return Ok(());
        }
        let questions: BTreeSet<Digest> = from.values().map(|(q, _)| *q).collect();
        // A constant question is known to everyone, and one that was replayed here too; an aggregator does not take
        // the contributors' word for it.
        let known = local.questions.get(&slot).map(|(_, digest)| *digest);
        let others = from.iter().filter(|(_, (q, _))| known.is_some_and(|known| known != *q));
        let others: Vec<String> = others.map(|(member, _)| member.clone()).collect();
        for member in &others {
            self.keep_evidence(member, "an answer to another question than the plan's", &[], now)?;
        }
        if !others.is_empty() {
            return self.give_up(key, "contributors answered another question than the plan's", now);
        }
        let (Some(question), 1) = (questions.first().copied(), questions.len()) else {
            return self.give_up(key, "contributors answered different questions", now);
        };
        let Some(ctx) = self.context(run, key, local, slot, question) else { return Ok(()) };
        let seed = self.round_seed(key, slot)?;
        let secret = self.kem_secret(run.sets.get(self.me()))?;
        let me = self.me().to_string();
        let peers: Vec<(String, KemPublic)> =
            self.aggregator_keys(run, local)?.into_iter().filter(|(m, _)| *m != me).collect();
        let mut machine =
            Aggregator::new(ctx, &me, secret, &peers, &seed).map_err(|e| NodeError::Round(e.to_string()))?;
        let mut broken = None;
        let mut messages = machine.begin().map_err(|e| NodeError::Round(e.to_string()))?;
        for (member, (_, share)) in local.contributions.get(&slot).into_iter().flatten() {
            match machine.on_contribution(member, share) {
                Ok(due) => messages.extend(due),
                Err(e) => broken = Some((member.clone(), e.to_string())),
            }
        }
        if let Some((member, why)) = broken {
            self.keep_evidence(&member, &why, &[], now)?;
            return self.give_up(key, "a contribution was refused", now);
        }
        local.aggregators.insert(slot, machine);
        local.progress = now;
        self.send_aggregate(key, local, slot, messages, now)
    }

    /// What this aggregator draws for a round: drawn once and kept before anything that follows from it leaves.
    ///
    /// INVARIANT: shares are verified under one key. A node that was killed within the round makes its machine
    /// again from the same seed and the frames that it kept, in the order in which it kept them, and of what the
    /// machine says sends only the bytes kept first (`Store::note_sent`).
    fn round_seed(&mut self, key: &(String, u32), slot: Slot) -> Result<RoundSeed, NodeError> {
        let label = format!("seed/{}/{}/{}/{}", key.0, key.1, slot.0, slot.1);
        if let Some(sealed) = self.store.seed(&key.0, key.1, slot.0, slot.1)? {
            return RoundSeed::from_bytes(&self.keys.unseal(&label, &sealed)?).ok_or(NodeError::Sealed);
        }
        let seed = RoundSeed::generate().map_err(|e| NodeError::Round(e.to_string()))?;
        let sealed = self.keys.seal(&label, seed.expose().as_slice())?;
        self.store.add_seed(&key.0, key.1, slot.0, slot.1, &sealed)?;
        point("round begun, not kept", "");
        Ok(seed)
    }

    pub(super) fn send_aggregate(
        &mut self,
        key: &(String, u32),
        local: &RunLocal,
        slot: Slot,
        messages: Vec<rounds::Message>,
        now: i64,
    ) -> Result<(), NodeError> {
        let mut frames = Vec::new();
        for message in messages {
            // Each kind at most once a round, so a machine made again finds its own words already kept.
            let step = u32::from(message.kind.code());
            let kind = format!("aggregate-{step}");
            let (mut egress, bytes) =
                self.outgoing(key, slot, &kind, &message.to, local.plan_digest, message.bytes, now)?;
            egress.kind = "aggregate".into();
            frames.push((egress, step, bytes));
        }
        self.store.note_sent(&frames, None)?;
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn open_round(
        &mut self,
        s: &StudyState,
        run: &Run,
        key: &(String, u32),
        local: &mut RunLocal,
        slot: Slot,
        machine: &mut Aggregator,
        now: i64,
    ) -> Result<(), NodeError> {
        if self.may_start(&key.0, key.1, now).is_err() {
            return Ok(());
        }
        // INVARIANT: the one right to open is taken, durably, before anything is sent.
        if !self.store.take_opening(&key.0, key.1, slot.0, slot.1, &run.contributors.join(" "), now)? {
            return Ok(());
        }
        point("right to open taken, not kept", "");
        let mut to = Vec::new();
        for reader in local.readers(slot.0, run) {
            let key_text = if reader == s.study.collector {
                run.joined.get(&reader)
            } else {
                run.receipts.get(&reader).and_then(|r| r.kem.as_ref())
            };
            let text = key_text.ok_or_else(|| NodeError::Round(format!("no key of `{reader}`")))?;
            to.push((reader, kem_public(text).map_err(|e| NodeError::Round(e.to_string()))?));
        }
        let messages = machine.open(&to).map_err(|e| NodeError::Round(e.to_string()))?;
        let mut frames = Vec::new();
        for message in messages {
            let (egress, bytes) =
                self.outgoing(key, slot, "opening", &message.to, local.plan_digest, message.bytes, now)?;
            frames.push((egress, 0, bytes));
        }
        self.store.note_sent(&frames, None)?;
        local.progress = now;
        Ok(())
    }
}
