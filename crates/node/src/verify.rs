//! Checking the record again, alone: this node's own copy, and a bundle from anyone.
//!
//! A bundle brings its own keys, so it proves nothing by itself (A11): the charter's digest must come from outside.
//! With it every signature, proof, tally and gate verdict follows from the file. What a node measured at its own
//! place (its clock, its switches, the age of its watermark) cannot be recomputed and is shown as asserted.

use crate::NodeError;
use crate::control::Reply;
use crate::core::Node;
use crate::facts::{Asked, Asserted, Memo, View};
use charter::body::{GateReceipt, StudySubmit};
use charter::{State, Status, VoteChoice};
use policy::GateInput;
use record::{Bundle, Digest, Entry, Pin};
use serde_json::json;
use std::collections::VecDeque;
use std::fmt::Write;
use std::path::Path;

/// How many entries back the state may lie on which a gate decided: a node decides on what is in force, and its
/// receipt is recorded some entries later.
const WINDOW: usize = 96;

/// What was found when gates were decided again.
#[derive(Default)]
struct Gates {
    again: u64,
    allow: u64,
    deny: u64,
    wrong: Vec<String>,
}

/// Folds entries and decides every gate again from its recorded input.
fn refold(entries: &[Entry]) -> Result<(State, Gates), NodeError> {
    let library = policy::Library::embedded()?;
    let memo = Memo::default();
    let mut state = State::new();
    let mut gates = Gates::default();
    let mut past: VecDeque<State> = VecDeque::new();
    for (index, entry) in entries.iter().enumerate() {
        past.push_back(state.clone());
        if past.len() > WINDOW {
            past.pop_front();
        }
        state.apply(entry);
        let statement = entry.signed.statement();
        let valid = matches!(state.statuses.last(), Some(Status::Valid));
        if statement.r#type != GateReceipt::TYPE || !valid {
            continue;
        }
        let receipt: GateReceipt = statement
            .body_as()
            .map_err(|_| NodeError::Record(format!("entry {index}: a receipt that cannot be read")))?;
        gates.again += 1;
        if receipt.allow {
            gates.allow += 1;
        } else {
            gates.deny += 1;
        }
        if let Err(why) = decide_again(&past, &library, &memo, &statement.issuer, &receipt) {
            gates.wrong.push(format!("entry {index}: the gate of `{}`: {why}", statement.issuer));
        }
    }
    Ok((state, gates))
}

/// Decides one gate again: the verdict from the input, and the input from the record.
fn decide_again(
    past: &VecDeque<State>,
    library: &policy::Library,
    memo: &Memo,
    member: &str,
    receipt: &GateReceipt,
) -> Result<(), String> {
    let bytes = record::canon::to_bytes(&receipt.input).map_err(|e| e.to_string())?;
    if Digest::of(&bytes) != receipt.input_digest {
        return Err("its input has another digest".into());
    }
    let input: GateInput =
        record::canon::from_value(receipt.input.clone()).map_err(|_| "its input cannot be read")?;
    if input.node != member || input.study.id != receipt.study || input.stage.as_str() != receipt.stage.word()
    {
        return Err("its input is of another node, study or stage".into());
    }
    let newest = past.back().ok_or("nothing came before it")?;
    let charter = newest.charter_in_force().ok_or("no charter was in force")?;
    let view = |state| View {
        charter,
        charter_digest: newest.charter_digest.unwrap_or_else(|| Digest::of(b"")),
        state,
        library,
        memo,
        asserted: asserted(&input),
    };
    // The verdict follows from the policies in force and the recorded input.
    let verdict = view(newest).verdict(member, &input)?;
    let mut rules: Vec<String> =
        verdict.determining.iter().map(|d| format!("{}/{}", d.level, d.id)).collect();
    rules.extend(verdict.faults.iter().map(|f| format!("fault/{f}")));
    if verdict.allow != receipt.allow || rules != receipt.rules || verdict.policy != receipt.policy {
        return Err(format!(
            "recorded {}, decided again {}",
            if receipt.allow { "allow" } else { "deny" },
            if verdict.allow { "allow" } else { "deny" }
        ));
    }
    // The input follows from the record, as of one of the states that the node may have had in force.
    let follows = past.iter().rev().any(|state| {
        let Some(s) = state.studies.get(&receipt.study) else { return false };
        let view = view(state);
        let index = s.runs.get(&receipt.run).map_or(s.index, |r| r.first);
        let Ok(plan) = view.shared_plan(&s.study, index) else { return false };
        let asked =
            Asked { study: &s.study, digest: s.digest, state: Some(s), plan: &plan.0, plan_digest: plan.1 };
        view.gate_input(member, &asked, receipt.run, receipt.stage, None, input.now) == input
    });
    if follows { Ok(()) } else { Err("its input states what the record does not".into()) }
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
    if !gates.wrong.is_empty() {
        return Err(gates.wrong);
    }
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
        "  gates        {} decided again from their recorded inputs: {} allow, {} deny, all as recorded",
        gates.again, gates.allow, gates.deny
    );
    let _ = writeln!(
        text,
        "               asserted, not recomputed: each node's clock, its own stop and pause, the age of its watermark"
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
                Some((true, _)) => "passed (asserted by the collector)",
                Some((false, _)) => "withheld (asserted by the collector)",
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
    let data = json!({
        "valid": true, "pinned": pinned, "charter": report.charter.to_string(), "size": size,
        "root": report.in_force.root().to_string(), "cosigned_by": report.in_force.cosigned(),
        "quorum": report.in_force.quorum(), "signatures": report.signatures, "void": void,
        "gates": { "again": gates.again, "allow": gates.allow, "deny": gates.deny },
        "asserted": ["now", "stopped", "paused", "watermark_age_ms", "guard verdict"],
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
fn check_plans(entries: &[Entry], state: &State, study: &str, broken: &mut Vec<String>) {
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
    if submitted.is_none_or(|e| e.signed.statement().r#type != StudySubmit::TYPE) {
        broken.push(format!("entry {} is not the study's submission", s.index));
    }
}

impl Node {
    /// Recomputes what this node holds: entries, root, cosignatures, state, every gate.
    pub(crate) fn record_verify(&self) -> Result<Reply, NodeError> {
        let size = usize::try_from(self.watermark()).unwrap_or(usize::MAX);
        let entries = self.log.entries().get(..size).unwrap_or(&[]);
        let (state, gates) = refold(entries)?;
        let again = state.digest()?;
        let here = self.state.digest()?;
        let mut broken = gates.wrong;
        if again != here {
            broken.push(format!("state folded again is {again}, in use is {here}"));
        }
        let kept = self.store.entries()?;
        let same = kept.len() == self.log.entries().len()
            && kept.iter().zip(self.log.entries()).all(|(bytes, e)| *bytes == e.to_bytes());
        if !same {
            broken.push("the entries kept differ from those in use".into());
        }
        let Some(evidence) = &self.in_force else {
            return Ok(Reply::no("nothing is in force yet", json!({ "valid": false, "size": self.size() })));
        };
        let data = json!({
            "valid": broken.is_empty(), "watermark": self.watermark(), "size": self.size(), "root": evidence.root().to_string(),
            "cosigned_by": evidence.cosigned(), "quorum": evidence.quorum(), "state": again.to_string(),
            "gates": gates.again, "broken": broken,
        });
        if !broken.is_empty() {
            return Ok(Reply::no(format!("BROKEN\n  {}\n", broken.join("\n  ")), data));
        }
        let text = format!(
            "{} entries in force under root {}\n  cosigned by {} (quorum {})\n  state {again}\n  {} gate verdicts decided again, all as recorded\nVALID\n",
            self.watermark(),
            evidence.root(),
            evidence.cosigned().keys().cloned().collect::<Vec<_>>().join(", "),
            evidence.quorum(),
            gates.again
        );
        Ok(Reply::yes(text, data))
    }

    /// Writes the study's bundle: the whole record up to the watermark.
    pub(crate) fn bundle_export(&self, study: &str, out: &Path, now: i64) -> Result<Reply, NodeError> {
        if !self.state.studies.contains_key(study) {
            return Err(NodeError::Input(format!(
                "found no study `{study}` on the record; `comity study list` shows them"
            )));
        }
        let Some(evidence) = &self.in_force else {
            return Err(NodeError::Input("nothing is in force yet".into()));
        };
        let entries: Vec<Vec<u8>> = self.log.in_force(evidence).iter().map(Entry::to_bytes).collect();
        let bundle = Bundle::export(
            study,
            entries,
            evidence.checkpoint(),
            Default::default(),
            self.me(),
            now,
            &self.keys.sign(),
        )
        .map_err(|e| NodeError::Record(e.to_string()))?;
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
