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
//! Where members, keys or the hub have changed since the charter, the file carries the changes with their seals
//! ([`record::proof`]), and what they give is compared with the roster *in the attested state*, whole: members, keys,
//! hub, and everything that was ever proposed, accepted and contested. So a change that was left out, added, altered or
//! put elsewhere shows. Changes after the attested size are outside that comparison: they are in the file because the
//! attests and the checkpoint are read under them, and to leave one out gains nothing. The state that is shown is then
//! still what a quorum of members under the keys of their time said, in entries that a quorum cosigned.
//!
//! Whose word counts as an attest: who was a member and not suspended when it said so, under its key of that index, and
//! still was one when the last of the attests that count was said; of them a quorum of the organisations of that
//! moment. That is the record's own rule (`state.attest@1`), so what the members hold attested can be shown. Who has
//! left or changed its key *since* counts: its word stands in entries that those of today cosigned, where no old key can
//! put anything any more. Only to sign it for them now would take the key, and the checkpoint does not include that.
//!
//! Who signed the charter and when it came into force is taken from the attested state.

mod attested;
mod source;

pub use attested::{Attested, attested};
pub use source::Source;

use crate::map::{self, Leaf, MapError, MapProof, RecordValue, RosterValue, RunKeys, RunValue, StudyValue};
use crate::state::{Phase, State, StudyState};
use record::Digest;
use record::canon;
use record::proof::{Proof, ProofError, is_packed, unpack};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// First line of a study's small proof.
pub const STUDY: &str = "comity-proof/1";
/// First line of one that shows changes of members, keys or hub.
pub const STUDY_CHANGED: &str = "comity-proof/2";
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
    /// Other members, keys or changes than the file gives.
    #[error(
        "the attested state has other members or keys than the file gives from the charter on ({what}): a change was left out, added or altered"
    )]
    Roster {
        /// The first difference.
        what: String,
    },
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
    #[error("{have} members of as many organisations attest the state, expected at least {need}")]
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

/// The keys that a study's proof shows, in order.
fn keys_of(study: &str, runs: &[u32]) -> Vec<String> {
    let mut keys = vec!["record".to_owned(), "roster".to_owned(), format!("study/{study}")];
    keys.extend(runs.iter().map(|number| format!("study/{study}/run/{number}")));
    keys
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StudyFile {
    study: String,
    record: Proof,
    leaves: u64,
    tree: Digest,
    values: Vec<Shown>,
    /// Where `roster-changes` stands, whose value follows from the changes. Absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "there")]
    roster: Option<Place>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    index: u64,
    path: Vec<Digest>,
}

/// Reads what is absent where there is nothing: one meaning has one spelling.
fn there<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Place>, D::Error> {
    Place::deserialize(from).map(Some)
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
    is_packed(STUDY, bytes) || is_packed(STUDY_CHANGED, bytes)
}

/// The first line of a file, by whether it shows changes: old readers know one of them.
pub(crate) fn magic(proof: &Proof, [plain, changed]: [&'static str; 2]) -> &'static str {
    if proof.has_changes() { changed } else { plain }
}

/// Unpacks a file that may show changes; gives its first line.
pub(crate) fn unpack_either(
    [plain, changed]: [&'static str; 2],
    bytes: &[u8],
    limit: usize,
) -> Result<(&'static str, Vec<u8>), ProofError> {
    let magic = if is_packed(changed, bytes) { changed } else { plain };
    Ok((magic, unpack(magic, bytes, limit)?))
}

/// Verifies a study's small proof, offline.
///
/// # Errors
/// The first thing that is broken.
pub fn verify_study(bytes: &[u8], pin: Option<Digest>) -> Result<StudyProved, ProofFault> {
    let (found, content) = unpack_either([STUDY, STUDY_CHANGED], bytes, MAX_STUDY_BYTES)?;
    let file: StudyFile = canon::from_bytes_limit(&content, MAX_STUDY_BYTES).map_err(form)?;
    if found != magic(&file.record, [STUDY, STUDY_CHANGED]) {
        return Err(form(format!("`{found}` with or without changes that belong to the other form")));
    }
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
    let whole = attested.check_values(&record, &roster)?;
    file.check_roster(whole, &attested.root)?;
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

impl StudyFile {
    /// Checks that the roster which the changes give is the one of the state, whole.
    fn check_roster(&self, whole: Option<Vec<u8>>, root: &Digest) -> Result<(), ProofFault> {
        let other = |what: &str| ProofFault::Roster { what: what.to_owned() };
        let (value, place) = match (whole, &self.roster) {
            (None, None) => return Ok(()),
            (Some(value), Some(place)) => (value, place),
            (None, Some(_)) => return Err(other("changes that the file does not give")),
            (Some(_), None) => return Err(other("it is not shown which changes it has")),
        };
        let key = map::ROSTER_CHANGES.to_owned();
        let leaf = Leaf {
            key: key.clone(),
            value: Digest::of(&value),
            index: place.index,
            path: place.path.clone(),
        };
        let proof = MapProof { leaves: self.leaves, tree: self.tree, found: vec![leaf] };
        proof.verify_value(&key, &value, root).map_err(|_| other(attested::UNSEEN))
    }
}
