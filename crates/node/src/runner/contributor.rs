//! A contributor's part: rows to vector, vector to contribution, contribution to sealed shares. The only code that
//! reads rows for a run, and only after the gate has said yes to this very round.

use super::*;

impl Node {
    /// This site's answer to one question: rows to vector, vector to contribution, contribution to sealed shares.
    pub(super) fn contribute(
        &mut self,
        s: &StudyState,
        run: &Run,
        key: &(String, u32),
        local: &mut RunLocal,
        slot: Slot,
        now: i64,
    ) -> Result<(), NodeError> {
        let Some((question, digest)) = local.questions.get(&slot).cloned() else { return Ok(()) };
        if let Err(why) = self.round_gate(s, run, key, local, slot, now) {
            tracing::warn!(study = key.0, stage = slot.0, round = slot.1, why, "the gate refuses the round");
            return Ok(());
        }
        if local.frame.is_none() {
            local.frame = Some(self.rows(&s.study)?);
        }
        let Some(frame) = &local.frame else { return Ok(()) };
        let me = self.me().to_string();
        let vector = analysis::site(
            &me,
            &local.study,
            &local.dictionary,
            &local.plan,
            slot.0 as usize,
            &question,
            frame,
        )
        .map_err(|e| NodeError::Round(e.to_string()))?;
        let Some(ctx) = self.context(run, key, local, slot, digest) else { return Ok(()) };
        let registration = self.state.dataset(&s.study.dataset, self.me());
        let rules = privacy::LocalRules {
            rows_read: vector.rows_read,
            max_rows: local.dictionary.max_rows,
            effective_units: vector.effective_units,
            // A question that follows from sums and weighs few of this site's rows has been bent by somebody (A1).
            min_effective_units: if slot.1 > 0 {
                u32::try_from(vector.analysed / 8).unwrap_or(u32::MAX)
            } else {
                0
            },
            by_site: vector.by_site.clone(),
            own_yes: registration.is_some_and(|d| d.registration.by_site),
            min_cell: s.study.protection.min_cell,
        };
        let contribution =
            privacy::Contribution::check(&ctx.layout, &vector.values, local.plan_digest, &rules)
                .map_err(|e| NodeError::Round(e.to_string()))?;
        let cells = ctx.layout.cells.len() as u64;
        let layout = contribution.layout().to_string();
        let keys = self.aggregator_keys(run, local)?;
        let me = self.me().to_string();
        let sealed = rounds::contribute(&ctx, &me, contribution, &keys)
            .map_err(|e| NodeError::Round(e.to_string()))?;
        let approval = s.votes.get(self.me()).map_or(-1, |v| v.index as i64);
        let mut frames = Vec::new();
        for share in sealed {
            let mut body = digest.as_bytes().to_vec();
            body.extend(share.bytes());
            let (mut egress, bytes) =
                self.outgoing(key, slot, "contribution", share.to(), local.plan_digest, body, now)?;
            egress.cells = cells;
            egress.approval = approval;
            egress.layout = layout.clone();
            frames.push((egress, 0, bytes));
        }
        // INVARIANT: persisted before it leaves, and only ever resent verbatim (A9).
        self.store.note_sent(&frames, Some(&digest.to_string()))?;
        local.progress = now;
        Ok(())
    }

    /// Every round is a start: the gate decides again, with the lease, the receipt and the replayed question.
    pub(super) fn round_gate(
        &self,
        s: &StudyState,
        run: &Run,
        key: &(String, u32),
        local: &RunLocal,
        slot: Slot,
        now: i64,
    ) -> Result<(), String> {
        let receipt = run.receipts.get(self.me());
        let start = policy::Start::Round {
            stage: slot.0,
            round: slot.1,
            lease_until: receipt.map_or(0, |r| r.lease_until),
            receipt_logged: receipt.is_some_and(|r| r.allow),
            // The question in `local` is this node's own replay; no other question is ever answered.
            question_replayed: local.questions.contains_key(&slot),
        };
        let asked = crate::facts::Asked {
            study: &s.study,
            digest: s.digest,
            state: Some(s),
            plan: &local.plan,
            plan_digest: local.plan_digest,
        };
        let view = self.view(now);
        let input = view.gate_input(self.me(), &asked, key.1, charter::Stage::Contribute, Some(start), now);
        let verdict = view.verdict(self.me(), &input)?;
        if verdict.allow { Ok(()) } else { Err([verdict.rules(), verdict.faults].concat().join(", ")) }
    }

    /// Rows of this site's dataset, mapped to the dictionary.
    pub(crate) fn rows(&self, study: &Study) -> Result<Frame, NodeError> {
        let dataset = self
            .store
            .dataset(&study.dataset)?
            .ok_or_else(|| NodeError::Input(format!("no dataset `{}` at this node", study.dataset)))?;
        let (dictionary, _) = self.state.dictionaries.get(&study.dictionary).ok_or_else(|| {
            NodeError::Input(format!("dictionary `{}` is not registered", study.dictionary))
        })?;
        let mapping = study::Mapping::parse("mapping", &dataset.mapping)?;
        let governed = engine::Governed::open(std::path::Path::new(&dataset.path), &mapping, dictionary)?;
        let frame = governed.into_frame();
        // Sums over rows that changed differ by the rows that changed (A6): a changed source is another dataset.
        if rows_digest(&dataset.salt, &frame).to_string() != dataset.rows {
            return Err(NodeError::Input(format!(
                "the rows of `{}` changed since it was registered; register them as a new dataset",
                study.dataset
            )));
        }
        Ok(frame)
    }
}

/// Salted digest of mapped rows; it never leaves the site.
pub(crate) fn rows_digest(salt: &[u8; 16], frame: &Frame) -> Digest {
    let mut bytes = (frame.rows as u64).to_be_bytes().to_vec();
    let mut put = |present: bool, value: i64| {
        bytes.push(u8::from(present));
        bytes.extend(value.to_be_bytes());
    };
    for (name, data) in &frame.columns {
        put(true, name.len() as i64);
        name.bytes().for_each(|b| put(true, i64::from(b)));
        match data {
            analysis::Data::Integer(values) => values.iter().for_each(|v| put(v.is_some(), v.unwrap_or(0))),
            analysis::Data::Factor(values) => {
                values.iter().for_each(|v| put(v.is_some(), v.map_or(0, i64::from)));
            }
        }
    }
    record::salted("comity-rows/1", salt, &bytes)
}
