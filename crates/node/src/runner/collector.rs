//! The collector's and the recipients' part: commitments, the guard's verdict, the release check, and the sealed
//! output on its way.

use super::*;

/// Bytes of salt before a committed sum.
const SALT: usize = 16;

impl Node {
    /// The collector's salted commitment to an opened sum, on the record.
    pub(super) fn commit_sum(
        &mut self,
        key: &(String, u32),
        slot: Slot,
        sums: &Sums,
        now: i64,
    ) -> Result<(), NodeError> {
        let name = format!("sum/{}/{}/{}/{}", key.0, key.1, slot.0, slot.1);
        if self.has_said(&name, now) {
            return Ok(());
        }
        // Salt and sum are kept, so that a commitment said again is the same one.
        let opened = match self.store.meta(&name)? {
            Some(sealed) => self.keys.unseal(&name, &sealed)?,
            None => {
                let mut opened = zeroize::Zeroizing::new(vec![0u8; SALT]);
                getrandom::fill(&mut opened).map_err(|_| NodeError::Randomness)?;
                for value in &sums.values {
                    opened.extend(value.to_bits().to_be_bytes());
                }
                let sealed = self.keys.seal(&name, &opened)?;
                self.store.set_meta(&name, &sealed)?;
                opened
            }
        };
        let (salt, bytes) = opened.split_first_chunk::<SALT>().ok_or(NodeError::Sealed)?;
        let body = charter::body::RoundCommit {
            study: key.0.clone(),
            run: key.1,
            stage: slot.0,
            round: slot.1,
            commitment: record::salted("comity-sum/1", salt, bytes),
        };
        self.say_once(name, charter::body::RoundCommit::TYPE, &key.0, &body, now)
    }

    /// The collector's part: the guard's verdict, and the release when everything is in.
    pub(super) fn collect(
        &mut self,
        s: &StudyState,
        run: &Run,
        key: &(String, u32),
        local: &mut RunLocal,
        now: i64,
    ) -> Result<(), NodeError> {
        for (slot, sums) in &local.sums {
            if !run.commits.contains_key(&format!("{}/{}", slot.0, slot.1)) {
                self.commit_sum(key, *slot, sums, now)?;
            }
        }
        let verdict_key = format!("verdict/{}/{}", key.0, key.1);
        if run.verdict.is_none()
            && let Some(guard) = local.sums.get(&(0, 0))
        {
            let pass = crate::facts::guard_passes(self, s, run, local, guard);
            let body = charter::body::RunVerdict { study: key.0.clone(), run: key.1, pass };
            return self.say_once(verdict_key, charter::body::RunVerdict::TYPE, &key.0, &body, now);
        }
        if run.verdict.is_none() {
            return Ok(());
        }
        if local.failed {
            let body = charter::body::RunVerdict { study: key.0.clone(), run: key.1, pass: false };
            return self.say_once(
                format!("{verdict_key}/late"),
                charter::body::RunVerdict::TYPE,
                &key.0,
                &body,
                now,
            );
        }
        if local.done.len() < local.plan.stages.len() {
            return Ok(());
        }
        self.release(s, run, key, local, now)
    }

    pub(super) fn release(
        &mut self,
        s: &StudyState,
        run: &Run,
        key: &(String, u32),
        local: &mut RunLocal,
        now: i64,
    ) -> Result<(), NodeError> {
        let withheld = charter::body::RunVerdict { study: key.0.clone(), run: key.1, pass: false };
        let late = format!("verdict/{}/{}/late", key.0, key.1);
        let name = format!("release/{}/{}", key.0, key.1);
        if self.has_said(&name, now) || self.has_said(&late, now) {
            return Ok(());
        }
        // What was sealed once is released, and nothing else: a salt drawn again would be another output.
        if let Some(kept) = self.store.meta(&name)? {
            let body: charter::body::ReleasePublish = record::canon::from_bytes(&kept)?;
            return self.say_once(name, charter::body::ReleasePublish::TYPE, &key.0, &body, now);
        }
        let Some(release) = crate::facts::checked_release(self, s, run, local, key.1)? else {
            return self.say_once(late, charter::body::RunVerdict::TYPE, &key.0, &withheld, now);
        };
        let Some(gate) = &run.release_gate else {
            let name = format!("release-gate/{}/{}", key.0, key.1);
            if self.has_said(&name, now) {
                return Ok(());
            }
            let receipt = crate::facts::receipt(self, s, key.1, charter::Stage::Release, None, true, now)?;
            return self.say_once(name, charter::body::GateReceipt::TYPE, &key.0, &receipt, now);
        };
        if !gate.allow {
            return Ok(());
        }
        let output = Digest::of(release.bytes());
        let me = self.me().to_string();
        let names = recipients(&s.study);
        let mut frames = Vec::new();
        let mut sealed_digests = Vec::new();
        for member in &names {
            let text =
                run.joined.get(member).ok_or_else(|| NodeError::Round(format!("no key of `{member}`")))?;
            let public = kem_public(text).map_err(|e| NodeError::Round(e.to_string()))?;
            let sealed = rounds::seal_release(&release, &me, member, &public)
                .map_err(|e| NodeError::Round(e.to_string()))?;
            sealed_digests.push(Digest::of(&sealed));
            let (egress, bytes) =
                self.outgoing(key, (0, 0), "output", member, local.plan_digest, sealed, now)?;
            frames.push((egress, 0, bytes));
        }
        let body = charter::body::ReleasePublish {
            study: key.0.clone(),
            run: key.1,
            output,
            plan: run.plan,
            contributors: run.contributors.clone(),
            recipients: names,
            sealed: sealed_digests,
        };
        self.store.note_sent(&frames, None)?;
        self.store.set_meta(&name, &record::canon::to_bytes(&body)?)?;
        point("output sealed, not kept", "");
        self.say_once(name, charter::body::ReleasePublish::TYPE, &key.0, &body, now)
    }

    /// An output that the collector sent: kept sealed until the release is in force, then opened and checked.
    pub(crate) fn take_output(&mut self, frame: &WireFrame, now: i64) -> Result<(), NodeError> {
        let key = (frame.place.study.clone(), frame.place.run);
        let collector = self.state.studies.get(&key.0).map(|s| s.study.collector.clone());
        if collector.as_deref() != Some(frame.from.as_str()) {
            return self.keep_evidence(
                &frame.from,
                "an output from somebody who does not collect",
                &frame.body,
                now,
            );
        }
        if let Some(before) = self.store.output_of(&key.0, key.1, "sealed")? {
            // A node that starts again reads its kept frames once more.
            if before == frame.body {
                return Ok(());
            }
            return self.keep_evidence(&frame.from, "a second output of one run", &frame.body, now);
        }
        self.store.add_output(&key.0, key.1, "sealed", &frame.body)
    }

    /// Opens outputs whose release is in force.
    pub(crate) fn open_output(
        &mut self,
        s: &StudyState,
        number: u32,
        run: &Run,
        now: i64,
    ) -> Result<(), NodeError> {
        let Some((release, _)) = &run.release else { return Ok(()) };
        if self.store.output_of(&s.study.id, number, "recipient")?.is_some()
            || !recipients(&s.study).iter().any(|m| m == self.me())
        {
            return Ok(());
        }
        let Some(sealed) = self.store.output_of(&s.study.id, number, "sealed")? else { return Ok(()) };
        let key = (s.study.id.clone(), number);
        if !release.sealed.contains(&Digest::of(&sealed)) {
            self.store.drop_output(&key.0, number, "sealed")?;
            return self.keep_evidence(
                &s.study.collector,
                "an output that is not the one released",
                &sealed,
                now,
            );
        }
        let secret = self.kem_secret(run.joined.get(self.me()))?;
        let (_, content) =
            rounds::open_release(&secret, &key.0, key.1, &s.study.collector, self.me(), &sealed)
                .map_err(|e| NodeError::Round(e.to_string()))?;
        // The document carries its own salt, so its digest on the record gives nothing away (A4).
        if Digest::of(&content) != release.output {
            self.store.drop_output(&key.0, number, "sealed")?;
            return self.keep_evidence(
                &s.study.collector,
                "an output that is not the one released",
                &sealed,
                now,
            );
        }
        self.store.add_output(&key.0, number, "recipient", &content)?;
        point("output opened, not kept", "");
        Ok(())
    }

    /// The results in the study's order, unchecked, for the release check alone; nothing if one failed.
    pub(crate) fn results(&self, local: &RunLocal) -> Option<Vec<record::Value>> {
        let mut results: Vec<AnalysisResult> = local.outcomes.values().cloned().collect();
        let once = local.plan.stages.iter().position(|s| s.kind == StageKind::Once);
        if let Some(stage) = once {
            let sums = local.sums.get(&(stage as u32, 0))?;
            results.extend(analysis::combine_once(&local.study, &local.dictionary, &local.plan, sums).ok()?);
        }
        results.sort_by_key(|r| r.index);
        results.iter().map(|r| record::canon::to_value(r).ok()).collect()
    }
}
