//! Attested state: this node says which state it has folded, halts where a quorum has folded another, makes snapshots
//! and small proofs from what is attested, and may begin from a snapshot.
//!
//! Threat model: an error in the fold, a damaged disk or another build makes states part without a word, while everyone
//! goes on cosigning the same entries. Attests make it seen, and the fewer halt. A quorum that lies together about the
//! state is beyond this, as it is beyond everything else here. A snapshot is believed on the word of that quorum, under
//! the charter that this node was joined with and the changes of members and keys in the file, for reading alone: nothing is said and nothing runs from it
//! before this node has folded the same entries itself and come to the same root.

use crate::NodeError;
use crate::control::{Command, Reply};
use crate::core::Node;
use crate::store::Store;
use charter::body::StateAttest;
use charter::proof::{Attested, Source, StudyProved};
use charter::{Charter, State, VoteChoice};
use record::{Digest, Entry, Pin};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// A snapshot in the node's folder, until its record is verified.
pub const SNAPSHOT: &str = "snapshot";

/// What this node knows of attested states.
#[derive(Default)]
pub struct Attesting {
    /// Root of this node's own state and version of the protocol, by size.
    own: BTreeMap<u64, (Digest, u32)>,
    /// Why the record cannot be followed any further.
    parted: Option<String>,
    /// The snapshot that this node began with, while its record is not verified.
    begun: Option<Begun>,
}

/// A snapshot that is read from and not yet believed.
struct Begun {
    /// Its size and root.
    size: u64,
    root: Digest,
    /// The fold of the entries themselves, from the first on.
    fold: State,
}

impl Attesting {
    /// Called with the state after each entry folded: keeps this node's root where members attest one, and notes
    /// when a quorum attested another.
    pub(crate) fn passed(&mut self, store: &Store, state: &State, entry: &Entry) -> Result<(), NodeError> {
        let every = state.charter_in_force().map(Charter::snapshot_every);
        if every.is_some_and(|every| state.size.is_multiple_of(every)) {
            self.own.insert(state.size, own_root(store, state)?);
        }
        let statement = entry.signed.statement();
        let attest: Option<StateAttest> =
            (statement.r#type == StateAttest::TYPE).then(|| statement.body_as().ok()).flatten();
        let agreed = attest.and_then(|a| Some((a.size, state.attests.get(&a.size)?.agreed?.0)));
        if let Some((size, root)) = agreed
            && let Some((own, _)) = self.own.get(&size).filter(|(own, _)| *own != root)
        {
            self.part(format!(
                "state at {size} entries has root {own} here, but {root} was attested by a quorum: this node's copy or build is at fault, or theirs"
            ));
        }
        if let Some(why) = state.stopped_because() {
            self.part(why);
        }
        Ok(())
    }

    fn part(&mut self, why: String) {
        self.parted.get_or_insert(why);
    }

    /// The size below which the record is not verified yet.
    pub(crate) fn unverified_below(&self) -> Option<u64> {
        self.begun.as_ref().map(|b| b.size)
    }
}

/// Name under which this build keeps the root of the state's map at a size.
pub(crate) fn root_key(size: u64) -> String {
    format!("root/{}/{size}", env!("CARGO_PKG_VERSION"))
}

/// This node's root at the state's size; computed once for each build, since a start folds the record again.
fn own_root(store: &Store, state: &State) -> Result<(Digest, u32), NodeError> {
    let key = root_key(state.size);
    if let Some(root) = store.meta_text(&key)?.and_then(|text| text.parse().ok()) {
        return Ok((root, state.protocol));
    }
    let root = state.map()?.root();
    store.set_meta(&key, root.to_string().as_bytes())?;
    Ok((root, state.protocol))
}

impl Node {
    /// Halts if the record has parted from this node's state: nothing leaves any more.
    pub(crate) fn heed_attests(&mut self) -> Result<(), NodeError> {
        match self.attesting.parted.clone() {
            Some(why) if self.member.halted.is_none() => self.halt(why),
            _ => Ok(()),
        }
    }

    /// Attests the state at the last size at which members do, unless this member has.
    pub(crate) fn attest(&mut self, now: i64) -> Result<(), NodeError> {
        let Some((&size, &(root, version))) = self.attesting.own.last_key_value() else { return Ok(()) };
        let sunset = charter::document::end_of_day(&self.charter.sunset).unwrap_or(0);
        let said = self.state.attests.get(&size).is_some_and(|a| a.by.contains_key(self.me()));
        if said || now.max(self.state.time) >= sunset {
            return Ok(());
        }
        let body = StateAttest { size, root, version };
        self.say_once(format!("attest/{size}"), StateAttest::TYPE, "state", &body, now)
    }

    fn source(&self) -> Result<Source<'_>, NodeError> {
        if let Some(size) = self.attesting.unverified_below() {
            return Err(NodeError::Input(format!(
                "this node began from a snapshot and has not verified the record below {size} yet; wait for that"
            )));
        }
        let evidence = self
            .member
            .in_force
            .as_ref()
            .ok_or_else(|| NodeError::Input("nothing is in force yet".into()))?;
        Ok(Source {
            state: &self.state,
            entries: self.member.log.in_force(evidence),
            tree: self.member.log.tree(),
            checkpoint: evidence.checkpoint(),
            seals: &self.member.seals,
        })
    }

    /// Writes a study's small proof.
    pub(crate) fn record_prove(&self, study: &str, out: &Path) -> Result<Reply, NodeError> {
        if !self.state.studies.contains_key(study) {
            return Err(NodeError::Input(format!(
                "found no study `{study}` on the record; `comity study list` shows them"
            )));
        }
        let bytes = self.source()?.prove_study(study).map_err(|e| NodeError::Input(e.to_string()))?;
        std::fs::write(out, &bytes).map_err(|e| NodeError::io(out, e))?;
        let size = self.state.attested().map_or(0, |(size, _)| size);
        let text = format!("{}: {} bytes, speaks up to entry {}", out.display(), bytes.len(), size - 1);
        let data = json!({ "file": out.display().to_string(), "bytes": bytes.len(), "size": size });
        Ok(Reply::yes(text, data))
    }

    /// Writes a snapshot of the attested state.
    pub(crate) fn record_snapshot(&self, out: &Path) -> Result<Reply, NodeError> {
        let bytes = self.source()?.snapshot().map_err(|e| NodeError::Input(e.to_string()))?;
        std::fs::write(out, &bytes).map_err(|e| NodeError::io(out, e))?;
        let size = self.state.attested().map_or(0, |(size, _)| size);
        let text = format!("{}: {} bytes, the state after {size} entries", out.display(), bytes.len());
        let data = json!({ "file": out.display().to_string(), "bytes": bytes.len(), "size": size });
        Ok(Reply::yes(text, data))
    }

    /// Refuses what this member's people may not say on the word of a snapshot; stops and withdrawals always may.
    pub(crate) fn may_say(&self, command: &Command) -> Result<(), NodeError> {
        let begins = matches!(
            command,
            Command::PolicyAdopt { .. }
                | Command::PolicyConfirm { .. }
                | Command::DatasetAdd { .. }
                | Command::DatasetResume { .. }
                | Command::StudySubmit { .. }
                | Command::DecideApprove { .. }
                | Command::RecordNote { .. }
                | Command::RecordErase { .. }
                | Command::Resume
        );
        match self.attesting.unverified_below() {
            Some(size) if begins => Err(NodeError::Input(format!(
                "this node began from a snapshot and has not verified the record below {size} yet; wait for that"
            ))),
            _ => Ok(()),
        }
    }

    /// Begins from the snapshot in this node's folder, if there is one whose record was not verified before.
    pub(crate) fn begin_from_snapshot(&mut self) -> Result<(), NodeError> {
        let path = self.dir.join(SNAPSHOT);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(NodeError::io(&path, e)),
        };
        if self.store.meta(VERIFIED)?.is_some() {
            return Ok(());
        }
        let broken = |e: charter::proof::ProofFault| NodeError::Record(format!("`{}`: {e}", path.display()));
        let (state, attested) =
            charter::snapshot::verify(&bytes, Some(self.charter_digest)).map_err(broken)?;
        self.state = state;
        self.attesting.begun = Some(Begun { size: attested.size, root: attested.root, fold: State::new() });
        Ok(())
    }

    /// Folds what is in force of the record below the snapshot, and compares at its size. Whether that is done.
    pub(crate) fn verify_snapshot(&mut self) -> Result<bool, NodeError> {
        let Some(begun) = &mut self.attesting.begun else { return Ok(true) };
        let Some(evidence) = &self.member.in_force else { return Ok(false) };
        let entries = self.member.log.in_force(evidence);
        let from = usize::try_from(begun.fold.size).unwrap_or(usize::MAX);
        let to = usize::try_from(begun.size).unwrap_or(usize::MAX).min(entries.len());
        for entry in entries.get(from..to).unwrap_or(&[]) {
            begun.fold.apply(&entry.entry());
        }
        if begun.fold.size < begun.size {
            return Ok(false);
        }
        let (size, attested, own) = (begun.size, begun.root, begun.fold.map()?.root());
        if own != attested {
            self.halt(format!(
                "the snapshot of {size} entries has root {attested}, but the record folds to {own}: what was shown from it was not so"
            ))?;
            return Ok(false);
        }
        self.attesting.begun = None;
        self.store.set_meta(VERIFIED, attested.to_string().as_bytes())?;
        tracing::info!(size, "the snapshot's record is verified");
        Ok(true)
    }
}

/// Under this a store notes that the record below its snapshot was verified.
const VERIFIED: &str = "snapshot-verified";

/// Who attested, and up to which index and time the file speaks.
fn attested_words(text: &mut String, attested: &Attested, time: i64) {
    let pinned = attested.pin == Pin::Pinned;
    let names = |all: Vec<&String>| all.into_iter().cloned().collect::<Vec<_>>().join(", ");
    let _ = writeln!(
        text,
        "  agreement    {}{}",
        attested.charter_digest,
        if pinned { ", as you gave it" } else { ", UNPINNED: give --charter DIGEST from a source you trust" }
    );
    let _ = writeln!(
        text,
        "  attested by  {} (quorum {}): state root {} after {} entries",
        names(attested.by.iter().collect()),
        attested.needed,
        attested.root,
        attested.size
    );
    let _ = writeln!(
        text,
        "  cosigned by  {} (quorum {}): {} entries",
        names(attested.cosigned.keys().collect()),
        attested.quorum,
        attested.covered
    );
    let _ = writeln!(
        text,
        "  speaks       up to entry {} and {time} ms since the epoch; of nothing later",
        attested.size.saturating_sub(1)
    );
}

fn attested_data(attested: &Attested, time: i64) -> serde_json::Value {
    json!({
        "valid": true, "pinned": attested.pin == Pin::Pinned, "charter": attested.charter_digest.to_string(),
        "size": attested.size, "root": attested.root.to_string(), "attested_by": attested.by,
        "cosigned_by": attested.cosigned, "needed": attested.needed, "quorum": attested.quorum, "covered": attested.covered, "last_time": time,
    })
}

fn verdict(text: &mut String, data: serde_json::Value, pin: Pin) -> Reply {
    if pin == Pin::Pinned {
        let _ = writeln!(text, "VALID");
        Reply::yes(text.clone(), data)
    } else {
        let _ = writeln!(text, "consistent, but unpinned: it may be consistently made up");
        Reply::no(text.clone(), data)
    }
}

fn broken(what: &dyn std::fmt::Display) -> Reply {
    let what = what.to_string();
    Reply::no(format!("BROKEN\n  {what}\n"), json!({ "valid": false, "broken": [what] }))
}

/// Verifies a study's small proof. Exit 0 only if everything holds and the charter was pinned from outside.
pub fn verify_proof(bytes: &[u8], pin: Option<Digest>) -> Reply {
    let StudyProved { attested, time, study: s, phase } = match charter::proof::verify_study(bytes, pin) {
        Ok(proved) => proved,
        Err(e) => return broken(&e),
    };
    let mut text = String::new();
    let _ = writeln!(text, "study {}: {}", s.study.id, crate::views::phase_words(phase.as_ref()));
    attested_words(&mut text, &attested, time);
    let _ = writeln!(
        text,
        "               members folded the record and decided its gates; here neither is done again: that takes the whole record"
    );
    let votes = |choice| s.votes.values().filter(|v| v.choice == choice && v.revoked.is_none()).count();
    let (yes, no) = (votes(VoteChoice::Yes), votes(VoteChoice::No));
    let revoked = s.votes.values().filter(|v| v.revoked.is_some()).count();
    let denied = s.proposed.values().filter(|r| !r.allow).count();
    let _ = writeln!(text, "  gates        {} spoke, {denied} refused", s.proposed.len());
    let _ = writeln!(
        text,
        "  tally        {yes} yes, {no} no, {revoked} taken back, of {} named; {} needed",
        s.study.contributors.len(),
        s.study.minimum_contributors
    );
    for (number, run) in &s.runs {
        let _ = writeln!(
            text,
            "  run {number}        contributors {} fixed by {}; guard {}; {}",
            run.contributors.join(", "),
            run.sets.keys().cloned().collect::<Vec<_>>().join(" and "),
            match run.verdict {
                Some((true, _)) => "passed",
                Some((false, _)) => "withheld",
                None => "open",
            },
            match (&run.release, &run.lost) {
                (Some((r, i)), _) =>
                    format!("output {} released at entry {i} to {}", r.output, r.recipients.join(", ")),
                (None, Some(why)) => format!("given up: {why}"),
                (None, None) => "nothing released".into(),
            }
        );
    }
    let mut data = attested_data(&attested, time);
    if let Some(map) = data.as_object_mut() {
        let released = s.runs.values().find_map(|r| r.release.as_ref().map(|(r, _)| r.output.to_string()));
        map.insert("form".into(), json!("small"));
        map.insert("study".into(), json!(s.study.id));
        map.insert("phase".into(), json!(phase));
        map.insert("votes_yes".into(), json!(yes));
        map.insert("votes_no".into(), json!(no));
        map.insert("output".into(), json!(released));
    }
    verdict(&mut text, data, attested.pin)
}

/// Verifies a snapshot. Exit 0 only if everything holds and the charter was pinned from outside.
pub fn check_snapshot(bytes: &[u8], pin: Option<Digest>) -> Reply {
    let (state, attested) = match charter::snapshot::verify(bytes, pin) {
        Ok(read) => read,
        Err(e) => return broken(&e),
    };
    let mut text = format!(
        "snapshot of federation {}: {} studies, {} datasets\n",
        attested.charter.federation,
        state.studies.len(),
        state.datasets.len()
    );
    attested_words(&mut text, &attested, state.time);
    let data = attested_data(&attested, state.time);
    verdict(&mut text, data, attested.pin)
}
