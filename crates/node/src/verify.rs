//! Checking the record again, alone: this node's own copy, and a bundle from anyone.
//!
//! A bundle brings its own keys, so it proves nothing by itself (A11): the charter's digest must come from outside.
//! With it every signature, proof, tally and gate verdict follows from the file. What a node measured at its own
//! place (its clock, its switches, the age of its watermark) cannot be recomputed and is shown as asserted.

use crate::NodeError;
use crate::control::Reply;
use crate::core::Node;
use crate::facts::{Asserted, Memo, View, judge};
use charter::body::{GateReceipt, StudySubmit};
use charter::{Stage, State, Status, VoteChoice};
use policy::GateInput;
use record::{Bundle, Digest, Entry, EntryBytes, Evidence, Guilt, Pin};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// A gate decides on what is in force, and its receipt is recorded a little later: at most so much, milliseconds.
const MAX_LAG: i64 = 600_000;

/// What was found when gates were decided again.
#[derive(Default)]
struct Gates {
    again: u64,
    allow: u64,
    deny: u64,
    /// Receipts that do not follow from the record, with their study: their signer lied or its node is broken.
    wrong: Vec<(String, String)>,
}

/// Folds entries and decides every gate again: on the state that its receipt names, by the node's own function.
fn refold(entries: &[EntryBytes]) -> Result<(State, Gates), NodeError> {
    let library = policy::Library::embedded()?;
    let memo = Memo::default();
    let mut state = State::new();
    let mut gates = Gates::default();
    // States that receipts further on name, each kept until the last of them.
    let mut needed: BTreeMap<u64, u64> = BTreeMap::new();
    let receipts: Vec<Option<GateReceipt>> = entries.iter().map(|e| receipt_of(&e.entry())).collect();
    for receipt in receipts.iter().flatten() {
        *needed.entry(receipt.as_of).or_default() += 1;
    }
    let mut kept: BTreeMap<u64, State> = BTreeMap::new();
    for (index, (leaf, receipt)) in entries.iter().zip(&receipts).enumerate() {
        let entry = &leaf.entry();
        if needed.contains_key(&state.size) {
            kept.insert(state.size, state.clone());
        }
        state.apply(entry);
        let Some(receipt) = receipt else { continue };
        if matches!(state.statuses.last(), Some(Status::Valid)) {
            gates.again += 1;
            if receipt.allow {
                gates.allow += 1;
            } else {
                gates.deny += 1;
            }
            let member = &entry.signed.statement().issuer;
            let then = kept.get(&receipt.as_of);
            let unseen =
                usize::try_from(receipt.as_of).ok().and_then(|i| entries.get(i)).map(EntryBytes::time);
            if let Err(why) = decide_again(then, &library, &memo, member, receipt, entry.time, unseen) {
                gates
                    .wrong
                    .push((receipt.study.clone(), format!("entry {index}: the gate of `{member}`: {why}")));
            }
        }
        if let Some(left) = needed.get_mut(&receipt.as_of) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                needed.remove(&receipt.as_of);
                kept.remove(&receipt.as_of);
            }
        }
    }
    if let Some(why) = state.stopped_because() {
        return Err(NodeError::Record(why));
    }
    Ok((state, gates))
}

fn receipt_of(entry: &Entry) -> Option<GateReceipt> {
    let statement = entry.signed.statement();
    (statement.r#type == GateReceipt::TYPE).then(|| statement.body_as().ok()).flatten()
}

/// Decides one gate again: input and verdict from the record as it stood, but for what only the node can know.
fn decide_again(
    then: Option<&State>,
    library: &policy::Library,
    memo: &Memo,
    member: &str,
    receipt: &GateReceipt,
    recorded: i64,
    unseen: Option<i64>,
) -> Result<(), String> {
    let state = then.ok_or("it names no state before it")?;
    let charter = state.charter_in_force().ok_or("no charter was in force")?;
    let s = state.studies.get(&receipt.study).ok_or("its study was not in force")?;
    // The first entry that it left out must be recent: an older state would hide a stop or a revocation.
    if unseen.is_some_and(|time| recorded.saturating_sub(time) > MAX_LAG) {
        return Err("it was decided on a state that is too old".into());
    }
    let input: Option<GateInput> = record::canon::from_value(receipt.input.clone()).ok();
    let (now, asserted) = match &input {
        Some(input) => (input.now, asserted(input)),
        None => {
            let version = policy::input::VERSION;
            (recorded, Asserted { version, me: member.to_string(), ..Asserted::default() })
        }
    };
    let lag = recorded.saturating_sub(now);
    if !(-60_000..=MAX_LAG).contains(&lag) {
        return Err(format!("its clock was {} s off the time of its entry", lag / 1000));
    }
    let lease = i64::from(charter.limits.lease_hours) * 3_600_000;
    let leased =
        if receipt.allow && receipt.stage == Stage::Contribute { now.saturating_add(lease) } else { 0 };
    if receipt.lease_until != leased {
        return Err("its lease is not the charter's".into());
    }
    let view = View {
        charter,
        charter_digest: state.charter_digest.unwrap_or_else(|| Digest::of(b"")),
        state,
        library,
        memo,
        asserted,
    };
    let again = judge(&view, member, s, receipt.run, receipt.stage, now).map_err(|e| e.public())?;
    if again.input != receipt.input {
        return Err("its input states what the record does not".into());
    }
    if again.allow != receipt.allow || again.rules != receipt.rules || again.policy != receipt.policy {
        let word = |allow| if allow { "allow" } else { "deny" };
        return Err(format!("recorded {}, decided again {}", word(receipt.allow), word(again.allow)));
    }
    Ok(())
}

/// What the input says of the node itself: asserted, not recomputed.
fn asserted(input: &GateInput) -> Asserted {
    let mut paused = std::collections::BTreeSet::new();
    if let Some(d) = &input.dataset
        && d.paused
    {
        paused.insert(d.name.clone());
    }
    Asserted {
        version: input.version,
        me: input.node.clone(),
        stopped: input.stopped,
        paused,
        watermark_age_ms: input.run.as_ref().and_then(|r| r.watermark_age_ms),
        check_passed: input.release.as_ref().is_some_and(|r| r.check_passed),
    }
}

/// Verifies a bundle. Exit 0 only if everything holds and the charter was pinned from outside.
pub fn verify_bundle(bytes: &[u8], pin: Option<Digest>) -> Reply {
    match try_verify(bytes, pin) {
        Ok(reply) => reply,
        Err(broken) => {
            let mut text = String::from("BROKEN\n");
            for what in &broken {
                let _ = writeln!(text, "  {what}");
            }
            Reply::no(text, json!({ "valid": false, "broken": broken }))
        }
    }
}

fn try_verify(bytes: &[u8], pin: Option<Digest>) -> Result<Reply, Vec<String>> {
    let bundle = Bundle::read(bytes).map_err(|e| vec![e.to_string()])?;
    let report = bundle
        .verify_container(pin)
        .map_err(|findings| findings.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let (state, gates) = refold(&report.entries).map_err(|e| vec![e.to_string()])?;
    let own: Vec<String> =
        gates.wrong.iter().filter(|(s, _)| *s == bundle.study).map(|(_, what)| what.clone()).collect();
    if !own.is_empty() {
        return Err(own);
    }
    let elsewhere: Vec<&String> = gates.wrong.iter().map(|(_, w)| w).collect();
    let Some(s) = state.studies.get(&bundle.study) else {
        return Err(vec![format!("study `{}` is not in the record", bundle.study)]);
    };
    let mut broken = Vec::new();
    check_plans(&report.entries, &state, &bundle.study, &mut broken);
    if !broken.is_empty() {
        return Err(broken);
    }
    let pinned = report.pin == Pin::Pinned;
    let size = report.in_force.size();
    let void = state.statuses.iter().filter(|s| matches!(s, Status::Void(_))).count();
    let phase = state.phase(&bundle.study, report.last_time);
    let yes = s.votes.values().filter(|v| v.choice == VoteChoice::Yes && v.revoked.is_none()).count();
    let mut text = String::new();
    let _ = writeln!(text, "study {}: {}", bundle.study, crate::views::phase_words(phase.as_ref()));
    let _ = writeln!(
        text,
        "  agreement    {}{}",
        report.charter,
        if pinned { ", as you gave it" } else { ", UNPINNED: give --charter DIGEST from a source you trust" }
    );
    let _ =
        writeln!(text, "  record       {size} entries, all included under root {}", report.in_force.root());
    let _ = writeln!(
        text,
        "  cosigned by  {} (quorum {})",
        report.in_force.cosigned().keys().cloned().collect::<Vec<_>>().join(", "),
        report.in_force.quorum()
    );
    let _ = writeln!(text, "  signatures   {} verified; {void} statements void by rule", report.signatures);
    let _ = writeln!(
        text,
        "  gates        {} decided again from the record: {} allow, {} deny, {}",
        gates.again,
        gates.allow,
        gates.deny,
        if elsewhere.is_empty() {
            "all as recorded".to_string()
        } else {
            format!("all of this study's as recorded; {} of other studies are disputed", elsewhere.len())
        }
    );
    for what in &elsewhere {
        let _ = writeln!(text, "               disputed: {what}");
    }
    let _ = writeln!(
        text,
        "               asserted, not recomputed: each node's clock, its own stop and pause, the age of its watermark, the release check"
    );
    let _ = writeln!(
        text,
        "  tally        {yes} yes of {} named, {} needed",
        s.study.contributors.len(),
        s.study.minimum_contributors
    );
    for (number, run) in &s.runs {
        let _ = writeln!(
            text,
            "  run {number}        contributors {} fixed by {}; {} receipts; guard {}; {}",
            run.contributors.join(", "),
            run.sets.keys().cloned().collect::<Vec<_>>().join(" and "),
            run.receipts.len(),
            match run.verdict {
                Some((true, _)) => "passed (the collector says, and every contributor judged for itself)",
                Some((false, _)) => "withheld (the collector says)",
                None => "open",
            },
            match &run.release {
                Some((r, i)) => format!(
                    "output {} released at entry {i} to {}",
                    r.output.short(),
                    r.recipients.join(", ")
                ),
                None => "nothing released".into(),
            }
        );
    }
    let _ = writeln!(
        text,
        "  speaks       up to entry {} and {} ms since the epoch; of nothing later",
        size.saturating_sub(1),
        report.last_time
    );
    let proved: Vec<Guilt> = bundle
        .blobs
        .values()
        .filter_map(|blob| Evidence::read(blob).and_then(|e| e.verify(Some(report.charter))).ok())
        .collect();
    let convicted = crate::peers::proofs::recorded(&report.entries, &state);
    for report in &convicted {
        let _ = writeln!(text, "  convicted    {}", report.words);
    }
    let convicted: Vec<_> = convicted.into_iter().map(|report| report.data).collect();
    for guilt in &proved {
        let _ =
            writeln!(text, "  matter       {} {}, proved by evidence in this file", guilt.who, guilt.what);
    }
    let matters: Vec<_> = proved.iter().map(|g| json!({ "who": g.who, "what": g.what })).collect();
    let data = json!({
        "matters": matters, "convicted": convicted,
        "valid": true, "pinned": pinned, "charter": report.charter.to_string(), "size": size,
        "root": report.in_force.root().to_string(), "cosigned_by": report.in_force.cosigned(),
        "quorum": report.in_force.quorum(), "signatures": report.signatures, "void": void,
        "gates": { "again": gates.again, "allow": gates.allow, "deny": gates.deny, "disputed": elsewhere },
        "asserted": ["now", "stopped", "paused", "watermark_age_ms", "guard verdict", "check_passed"],
        "study": bundle.study, "phase": phase, "votes_yes": yes, "last_time": report.last_time,
    });
    if pinned {
        let _ = writeln!(text, "VALID");
        Ok(Reply::yes(text, data))
    } else {
        let _ = writeln!(text, "consistent, but unpinned: it may be consistently made up");
        Ok(Reply::no(text, data))
    }
}

/// Plans are functions of study, dictionary and history: computed again, as submitted and as run.
fn check_plans(entries: &[EntryBytes], state: &State, study: &str, broken: &mut Vec<String>) {
    let (Some(s), Some(charter)) = (state.studies.get(study), state.charter.as_ref()) else { return };
    let Ok(library) = policy::Library::embedded() else {
        broken.push("the jurisdiction library cannot be read".into());
        return;
    };
    let view = View {
        charter,
        charter_digest: state.charter_digest.unwrap_or_else(|| Digest::of(b"")),
        state,
        library: &library,
        memo: &Memo::default(),
        asserted: Asserted::default(),
    };
    match view.plan_at(&s.study, s.index) {
        Ok((_, digest)) if digest == s.plan => {}
        // Without a plan, or with another than it says, every gate has refused it.
        _ if s.proposed.values().all(|r| !r.allow) => {}
        _ => broken.push("the plan that the stewards looked at is not the one that the record gives".into()),
    }
    for (number, run) in &s.runs {
        match view.plan_at(&s.study, run.first) {
            Ok((_, digest)) if digest == run.plan => {}
            Ok((_, digest)) => {
                broken.push(format!("run {number} used plan {}, the record gives {digest}", run.plan))
            }
            Err(e) => broken.push(e.to_string()),
        }
    }
    let submitted = usize::try_from(s.index).ok().and_then(|i| entries.get(i));
    if submitted.is_none_or(|e| e.entry().signed.statement().r#type != StudySubmit::TYPE) {
        broken.push(format!("entry {} is not the study's submission", s.index));
    }
}

impl Node {
    /// Recomputes what this node holds: entries, root, cosignatures, state, every gate.
    pub(crate) fn record_verify(&self) -> Result<Reply, NodeError> {
        let size = usize::try_from(self.watermark()).unwrap_or(usize::MAX);
        let entries = self.member.log.entries().get(..size).unwrap_or(&[]);
        let (state, gates) = refold(entries)?;
        let again = state.digest()?;
        let here = self.state.digest()?;
        // A receipt that does not follow from the record speaks against its signer, not against the record.
        let disputed: Vec<String> = gates.wrong.into_iter().map(|(_, what)| what).collect();
        let mut broken: Vec<String> = Vec::new();
        if again != here {
            broken.push(format!("state folded again is {again}, in use is {here}"));
        }
        let kept = self.store.entries()?;
        let same = kept.len() == self.member.log.entries().len()
            && kept.iter().zip(self.member.log.entries()).all(|(bytes, e)| bytes == e.bytes());
        if !same {
            broken.push("the entries kept differ from those in use".into());
        }
        let Some(evidence) = &self.member.in_force else {
            return Ok(Reply::no("nothing is in force yet", json!({ "valid": false, "size": self.size() })));
        };
        let convicted = crate::peers::proofs::recorded(entries, &state);
        let data = json!({
            "valid": broken.is_empty(), "watermark": self.watermark(), "size": self.size(), "root": evidence.root().to_string(),
            "cosigned_by": evidence.cosigned(), "quorum": evidence.quorum(), "state": again.to_string(),
            "gates": gates.again, "disputed": disputed, "broken": broken,
            "unwatched": self.unwatched(), "matters": self.matters()?,
            "convicted": convicted.iter().map(|report| &report.data).collect::<Vec<_>>(),
        });
        if !broken.is_empty() {
            return Ok(Reply::no(format!("BROKEN\n  {}\n", broken.join("\n  ")), data));
        }
        let text = format!(
            "{} entries in force under root {}\n  cosigned by {} (quorum {})\n  state {again}\n  {} gate verdicts decided again, {} disputed\nVALID\n",
            self.watermark(),
            evidence.root(),
            evidence.cosigned().keys().cloned().collect::<Vec<_>>().join(", "),
            evidence.quorum(),
            gates.again,
            disputed.len()
        );
        let mut text = text;
        if self.unwatched() {
            text.push_str(
                "unwatched: too few members answer outside the hub to see that it shows all the same\n",
            );
        }
        for report in &convicted {
            let _ = writeln!(text, "convicted: {}", report.words);
        }
        for proof in self.matters()? {
            let _ = writeln!(text, "open matter: {} {}", proof.who, proof.what);
        }
        Ok(Reply::yes(text, data))
    }

    /// Writes the study's bundle: the whole record up to the watermark.
    pub(crate) fn bundle_export(&self, study: &str, out: &Path, now: i64) -> Result<Reply, NodeError> {
        if !self.state.studies.contains_key(study) {
            return Err(NodeError::Input(format!(
                "found no study `{study}` on the record; `comity study list` shows them"
            )));
        }
        let Some(evidence) = &self.member.in_force else {
            return Err(NodeError::Input("nothing is in force yet".into()));
        };
        let entries: Vec<Vec<u8>> =
            self.member.log.in_force(evidence).iter().map(EntryBytes::to_bytes).collect();
        let mut bundle = Bundle::export(
            study,
            entries,
            evidence.checkpoint(),
            self.evidence_blobs()?,
            self.me(),
            now,
            &self.my_sign(),
        )
        .map_err(|e| NodeError::Record(e.to_string()))?;
        // Whoever checks it needs the quorums that sealed each change of members, keys or hub.
        let seals = self.member.seals.range(..evidence.size()).map(|(_, note)| note.clone());
        bundle.seals = seals.collect();
        if !bundle.seals.is_empty() {
            bundle.sign(&self.my_sign()).map_err(|e| NodeError::Record(e.to_string()))?;
        }
        let bytes = bundle.write().map_err(|e| NodeError::Record(e.to_string()))?;
        std::fs::write(out, &bytes).map_err(|e| NodeError::io(out, e))?;
        let text = format!("{}: {} bytes, {} entries", out.display(), bytes.len(), evidence.size());
        Ok(Reply::yes(
            text,
            json!({ "file": out.display().to_string(), "bytes": bytes.len(), "entries": evidence.size() }),
        ))
    }
}

/// The output as a statistician reads it.
pub fn render_output(released: &privacy::Released) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} (run {}), {} contributing sites of which {} stay hidden from every viewer; counts below {} are not shown",
        released.study,
        released.run,
        released.contributors.len(),
        released.hidden_sites,
        released.min_cell
    );
    let shown = |n: Option<u64>| n.map_or("not shown".to_string(), |n| n.to_string());
    let _ = writeln!(
        text,
        "read {}, analysed {}",
        shown(released.population.rows_read),
        released.population.analysed
    );
    // Reasons without rows say nothing; a hidden one is named.
    for reason in released.population.excluded.iter().filter(|r| r.rows != Some(0)) {
        let _ = writeln!(text, "  {}: {}", reason.reason, shown(reason.rows));
    }
    for value in &released.results {
        match record::canon::from_value::<analysis::AnalysisResult>(value.clone()) {
            Ok(result) => {
                let _ = writeln!(text, "\n{}", analysis::render(&result));
            }
            Err(e) => {
                let _ = writeln!(text, "\na result that this version cannot read: {e}");
            }
        }
    }
    text
}
