//! Small proofs: what the record says of one study, in a few kilobytes, for a reader who has the charter's digest and
//! nothing else.
//!
//! The whole record shows that no veto was left out (A11). So does the root of the state's map, once a quorum of the
//! members has said it in the record: each of them folded every entry. A file holds the charter, a checkpoint with its
//! cosignatures, the members' statements `state.attest@1`, and of the map what stands under the study with the proof.
//!
//! Threat model: as [`record::proof`]. Beyond it the reader believes that of the members who attested, so many as a
//! quorum has more than liars folded the record rightly: gates are not decided again, and whoever wants to do that
//! needs the whole record. The file speaks of the record up to the attested size and of nothing later: a vote taken
//! back after it is not seen.
//!
//! Keys are the charter's. Where members or keys have changed since, [`ProofFault::MembersChanged`]: a reader with the
//! charter alone cannot tell the keys of today from made up ones.

use crate::body::StateAttest;
use crate::map::{
    self, Leaf, Map, MapError, MapProof, RecordValue, RosterValue, RunKeys, RunValue, StudyValue,
};
use crate::state::{Phase, State, Status, StudyState};
use crate::{Charter, snapshot};
use record::canon;
use record::checkpoint::SignedCheckpoint;
use record::proof::{Proof, ProofError, Proved, is_packed, pack, unpack};
use record::roster::PROPOSE;
use record::{Digest, Entry, Pin, Tree};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// First line of a study's small proof.
pub const STUDY: &str = "comity-proof/1";
/// Longest proof of a study that is read, unpacked, bytes.
pub const MAX_STUDY_BYTES: usize = 4 * 1024 * 1024;

/// Why a proof cannot be made, or does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofFault {
    /// The record's part: container, charter, checkpoint, entries.
    #[error(transparent)]
    Record(#[from] ProofError),
    /// The map's part.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Not canonical, or not of the form expected.
    #[error("the file cannot be read: {0}")]
    Form(String),
    /// No root is attested by a quorum yet.
    #[error(
        "no state of this record is attested by {quorum} members yet; the next one is attested at {next} entries, and the record has {size}"
    )]
    NotAttested {
        /// How many must attest.
        quorum: u32,
        /// The next size at which the state is attested.
        next: u64,
        /// Entries in force.
        size: u64,
    },
    /// The study is not in the attested state.
    #[error(
        "study `{study}` is not in the state attested at {size} entries; wait for the next one, or take the whole record"
    )]
    NoStudy {
        /// The study.
        study: String,
        /// The attested size.
        size: u64,
    },
    /// Other members or keys than the charter names.
    #[error("the members have changed since the charter: use the whole record")]
    MembersChanged,
    /// Not everyone signed.
    #[error("the charter was not in force at {size} entries")]
    NotInForce {
        /// The attested size.
        size: u64,
    },
    /// One of the entries attests nothing, or something else than the others.
    #[error("entry {index} does not attest the same state as the others: {why}")]
    Attest {
        /// Its index.
        index: u64,
        /// What is wrong.
        why: String,
    },
    /// Too few attest it.
    #[error("{have} members attest the state, expected at least {need}")]
    Quorum {
        /// Members that do.
        have: u32,
        /// Quorum.
        need: u32,
    },
    /// The state here is not the one that was attested.
    #[error("state at {size} entries has root {own} here, but {attested} was attested")]
    Differs {
        /// The size.
        size: u64,
        /// Root here.
        own: Digest,
        /// Root attested.
        attested: Digest,
    },
    /// A part of the state contradicts the rest of the file.
    #[error("`{key}` does not go with the rest of the file: {why}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// The record has gone on under rules that this build does not know.
    #[error("{0}")]
    Stopped(String),
}

fn form(what: impl ToString) -> ProofFault {
    ProofFault::Form(what.to_string())
}

/// A member's copy of the record, from which proofs are made.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The state in force.
    pub state: &'a State,
    /// The entries in force.
    pub entries: &'a [Entry],
    /// The tree over at least them.
    pub tree: &'a Tree,
    /// The checkpoint that covers them, with a quorum's cosignatures.
    pub checkpoint: &'a SignedCheckpoint,
}

/// What a quorum attested, as a proof was found to show it.
#[derive(Clone, Debug)]
pub struct Attested {
    /// Whether the charter was pinned from outside.
    pub pin: Pin,
    /// The charter.
    pub charter: Charter,
    /// Its digest.
    pub charter_digest: Digest,
    /// The size at which the state was attested: the proof speaks of entries `0..size`.
    pub size: u64,
    /// The root of its map.
    pub root: Digest,
    /// Version of the protocol then.
    pub version: u32,
    /// Who attested it.
    pub by: BTreeSet<String>,
    /// Entries covered by the checkpoint that includes the attests.
    pub covered: u64,
    /// Who cosigned it, and when, seconds since the epoch.
    pub cosigned: BTreeMap<String, u64>,
    /// How many members must attest and cosign.
    pub quorum: u32,
    roster: record::Roster,
}

impl Source<'_> {
    /// The proof that a quorum attested the state at the largest size at which one did, with that size and root.
    fn attests(&self) -> Result<(Proof, u64, Digest), ProofFault> {
        if let Some(why) = self.state.stopped_because() {
            return Err(ProofFault::Stopped(why));
        }
        let quorum = self.state.roster.quorum();
        let Some((size, root)) = self.state.attested() else {
            let every = self.state.charter.as_ref().map_or(0, Charter::snapshot_every).max(1);
            let size = self.state.size;
            let next = (size / every).saturating_add(1).saturating_mul(every);
            return Err(ProofFault::NotAttested { quorum, next, size });
        };
        let held = |kind: &'static str| {
            let statuses = self.state.statuses.iter();
            (0_u64..).zip(self.entries.iter().zip(statuses)).filter_map(move |(index, (entry, status))| {
                let statement = entry.signed.statement();
                (*status == Status::Valid && statement.r#type == kind).then_some((index, statement))
            })
        };
        let says = |body: Option<StateAttest>| body.is_some_and(|b| b.size == size && b.root == root);
        let indices: Vec<u64> = held(StateAttest::TYPE)
            .filter(|(_, statement)| says(statement.body_as().ok()))
            .map(|(index, _)| index)
            .take(quorum as usize)
            .collect();
        let charter = held(PROPOSE).next().map(|(index, _)| index);
        let charter = charter.ok_or(ProofFault::NotInForce { size })?;
        Ok((Proof::new(self.entries, self.tree, self.checkpoint, charter, &indices)?, size, root))
    }

    /// The state at that size, folded again.
    fn at(&self, size: u64, attested: Digest) -> Result<(State, Map), ProofFault> {
        let mut state = State::new();
        for entry in self.entries.iter().take(usize::try_from(size).unwrap_or(usize::MAX)) {
            state.apply(entry);
        }
        let map = state.map().map_err(form)?;
        if map.root() != attested {
            return Err(ProofFault::Differs { size, own: map.root(), attested });
        }
        Ok((state, map))
    }

    /// The small proof of a study.
    ///
    /// # Errors
    /// When no quorum has attested a state with it, or the members have changed since the charter.
    pub fn prove_study(&self, study: &str) -> Result<Vec<u8>, ProofFault> {
        let (proof, size, root) = self.attests()?;
        let (state, map) = self.at(size, root)?;
        let Some(s) = state.studies.get(study) else {
            return Err(ProofFault::NoStudy { study: study.to_owned(), size });
        };
        let numbers: Vec<u32> = s.runs.keys().copied().collect();
        let mut file = StudyFile {
            study: study.to_owned(),
            record: proof,
            leaves: map.leaves().len() as u64,
            tree: map.prove("record").tree,
            values: Vec::new(),
        };
        for key in keys_of(study, &numbers) {
            let found = map.prove(&key).found.into_iter().next();
            let (Some(leaf), Some(value)) = (found, map.value(&key)) else {
                return Err(MapError::Absent { key }.into());
            };
            let value = String::from_utf8_lossy(value).into_owned();
            file.values.push(Shown { key, value, index: leaf.index, path: leaf.path });
        }
        let bytes = pack(STUDY, &canon::to_bytes(&file).map_err(form)?)?;
        // What would not be believed is not written; above all where the members have changed.
        verify_study(&bytes, self.state.charter_digest)?;
        Ok(bytes)
    }

    /// A snapshot of the state, with the proof that a quorum attested it.
    ///
    /// # Errors
    /// When no quorum has, or the members have changed since the charter.
    pub fn snapshot(&self) -> Result<Vec<u8>, ProofFault> {
        let (proof, size, root) = self.attests()?;
        let (_, map) = self.at(size, root)?;
        let bytes = snapshot::write_file(&proof, &map)?;
        let attested = attested(&proof, self.state.charter_digest)?;
        attested.check(&map)?;
        Ok(bytes)
    }
}

/// The keys that a study's proof shows, in order.
fn keys_of(study: &str, runs: &[u32]) -> Vec<String> {
    let mut keys = vec!["record".to_owned(), "roster".to_owned(), format!("study/{study}")];
    keys.extend(runs.iter().map(|number| format!("study/{study}/run/{number}")));
    keys
}

/// Checks that a quorum of the charter's members attested one state in entries that the checkpoint covers.
///
/// # Errors
/// The first thing that is broken.
pub fn attested(proof: &Proof, pin: Option<Digest>) -> Result<Attested, ProofFault> {
    let proved: Proved = proof.verify(pin)?;
    let charter: Charter = canon::from_value(proved.document).map_err(|e| form(format!("charter: {e}")))?;
    charter.check("charter", "").map_err(form)?;
    let mut said: Option<StateAttest> = None;
    let mut by = BTreeSet::new();
    for (index, entry) in &proved.entries {
        let wrong = |why: &str| ProofFault::Attest { index: *index, why: why.to_owned() };
        let statement = entry.signed.statement();
        if statement.r#type != StateAttest::TYPE {
            return Err(wrong(&format!("it is `{}`", statement.r#type)));
        }
        let attest: StateAttest = statement.body_as().map_err(|e| wrong(&e.to_string()))?;
        if attest.size == 0 || !attest.size.is_multiple_of(charter.snapshot_every()) || attest.size > *index {
            return Err(wrong("no state is attested at its size"));
        }
        if said.get_or_insert_with(|| attest.clone()) != &attest {
            return Err(wrong("another size, root or version"));
        }
        if !by.insert(statement.issuer.clone()) {
            return Err(wrong(&format!("`{}` counts once", statement.issuer)));
        }
    }
    let (have, need) = (by.len() as u32, proved.roster.quorum());
    let Some(said) = said.filter(|_| have >= need) else {
        return Err(ProofFault::Quorum { have, need });
    };
    Ok(Attested {
        pin: proved.pin,
        charter,
        charter_digest: proved.charter,
        size: said.size,
        root: said.root,
        version: said.version,
        by,
        covered: proved.size,
        cosigned: proved.cosigned,
        quorum: need,
        roster: proved.roster,
    })
}

impl Attested {
    /// Checks what the state says of the record itself: the size attested, and the charter's own members and keys.
    fn check_values(&self, record: &RecordValue, roster: &RosterValue) -> Result<(), ProofFault> {
        let wrong = |why: &str| ProofFault::Value { key: "record".to_owned(), why: why.to_owned() };
        if record.size != self.size {
            return Err(wrong("another size than was attested"));
        }
        if record.charter != Some(self.charter_digest) {
            return Err(wrong("another charter"));
        }
        if record.protocol != self.version {
            return Err(wrong("another version of the protocol than was attested"));
        }
        if record.protocol > crate::body::KNOWN_VERSION {
            let known = crate::body::KNOWN_VERSION;
            return Err(wrong(&format!(
                "protocol version {}, this build knows up to {known}: upgrade",
                record.protocol
            )));
        }
        let mut expected = RosterValue::from(&self.roster);
        expected.signed_by = roster.signed_by.clone();
        expected.in_force_at = roster.in_force_at;
        if *roster != expected {
            return Err(ProofFault::MembersChanged);
        }
        if roster.in_force_at.is_none_or(|at| at >= self.size) {
            return Err(ProofFault::NotInForce { size: self.size });
        }
        Ok(())
    }

    /// Checks that a whole map is the attested one.
    ///
    /// # Errors
    /// When its root is another, or it is of another record.
    pub fn check(&self, map: &Map) -> Result<(), ProofFault> {
        if map.root() != self.root {
            return Err(ProofFault::Differs { size: self.size, own: map.root(), attested: self.root });
        }
        let value = |key: &str| map.value(key).ok_or_else(|| MapError::Absent { key: key.to_owned() });
        let record = map::read("record", value("record")?).map_err(form)?;
        let roster = map::read("roster", value("roster")?).map_err(form)?;
        self.check_values(&record, &roster)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StudyFile {
    study: String,
    record: Proof,
    leaves: u64,
    tree: Digest,
    values: Vec<Shown>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shown {
    key: String,
    value: String,
    index: u64,
    path: Vec<Digest>,
}

/// What a study's small proof shows.
#[derive(Clone, Debug)]
pub struct StudyProved {
    /// The attested state that it is part of: up to which index it speaks, and who says so.
    pub attested: Attested,
    /// Stamp of the last entry that it speaks of, milliseconds.
    pub time: i64,
    /// The study with votes, verdicts and all its runs. Keys of runs are left out and read as empty.
    pub study: StudyState,
    /// Where it stood then.
    pub phase: Option<Phase>,
}

/// Whether a file is a study's small proof.
pub fn is_study_proof(bytes: &[u8]) -> bool {
    is_packed(STUDY, bytes)
}

/// Verifies a study's small proof, offline.
///
/// # Errors
/// The first thing that is broken.
pub fn verify_study(bytes: &[u8], pin: Option<Digest>) -> Result<StudyProved, ProofFault> {
    let content = unpack(STUDY, bytes, MAX_STUDY_BYTES)?;
    let file: StudyFile = canon::from_bytes_limit(&content, MAX_STUDY_BYTES).map_err(form)?;
    let attested = attested(&file.record, pin)?;
    for shown in &file.values {
        let leaf = Leaf {
            key: shown.key.clone(),
            value: Digest::of(shown.value.as_bytes()),
            index: shown.index,
            path: shown.path.clone(),
        };
        let proof = MapProof { leaves: file.leaves, tree: file.tree, found: vec![leaf] };
        proof.verify_value(&shown.key, shown.value.as_bytes(), &attested.root)?;
    }
    let value = |at: usize, key: &str| {
        let shown = file.values.get(at).filter(|shown| shown.key == key);
        shown.map(|shown| shown.value.as_bytes()).ok_or_else(|| MapError::Absent { key: key.to_owned() })
    };
    let record: RecordValue = map::read("record", value(0, "record")?).map_err(form)?;
    let roster: RosterValue = map::read("roster", value(1, "roster")?).map_err(form)?;
    attested.check_values(&record, &roster)?;
    let key = format!("study/{}", file.study);
    let study: StudyValue = map::read(&key, value(2, &key)?).map_err(form)?;
    // INVARIANT: the study says which runs it has, so none is left out.
    let keys = keys_of(&file.study, &study.runs);
    if file.values.len() != keys.len() {
        let why = "its runs and those in the file differ".to_owned();
        return Err(ProofFault::Value { key, why });
    }
    let mut runs = BTreeMap::new();
    for (at, (number, key)) in study.runs.iter().zip(keys.iter().skip(3)).enumerate() {
        let run: RunValue = map::read(key, value(at + 3, key)?).map_err(form)?;
        runs.insert(*number, run.with(RunKeys::default()));
    }
    let study = study.with(runs);
    let mut state = State::new();
    state.charter = Some(attested.charter.clone());
    state.studies.insert(file.study.clone(), std::sync::Arc::new(study.clone()));
    let phase = state.phase(&file.study, record.time);
    Ok(StudyProved { attested, time: record.time, study, phase })
}
