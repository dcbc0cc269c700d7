//! The state as a Merkle map: every part of it that anything is decided on, under a key of its own, so that one part
//! can be shown without the others.
//!
//! A leaf is `length of the key as 4 bytes big-endian ‖ key ‖ SHA-256(value)`, the leaves stand in the order of their
//! keys' bytes, and the tree over them is that of RFC 6962. The root is `SHA-256("comity-map/1\n" ‖ number of leaves as
//! 8 bytes big-endian ‖ root of the tree)`: RFC 6962 has the number of leaves signed beside the root, since a proof says
//! at which index a leaf stands only to who knows how many there are. Absence is shown by the two leaves between which
//! the key would stand, or by the first or last one.
//!
//! Threat model: the proof comes from a liar. A key that is in the map cannot be shown absent, one that is not cannot
//! be shown present, and no value but its own can be shown for it, as far as SHA-256 holds and the root is the one that
//! a quorum attested.
//!
//! | key | value |
//! | --- | --- |
//! | `asked/<version>` | members that ask for a version of the protocol |
//! | `attest/<size>` | what members attested |
//! | `charter` | the charter; the value's digest is the charter's |
//! | `dataset/<name>@<member>` | a dataset |
//! | `dictionary/<id>` | a dictionary and the index of its registration |
//! | `evidence/<file>` | a report that somebody broke a signed word, and whom it convicts |
//! | `floor` | the policy floor's text |
//! | `note/<statement>` | a sealed remark: by whom, about what, its erasure |
//! | `record` | active version, size, time |
//! | `roster` | members, keys, who signed |
//! | `roster-changes` | the whole roster, once anything of it has changed since the charter |
//! | `run-order` | runs in the order of their first sets |
//! | `schedule/<member>` | a country schedule |
//! | `seen/<first byte>` | ids of statements seen |
//! | `status/<number>` | the status of 1024 entries |
//! | `stopped/<member>` | a node that is stopped |
//! | `study/<id>` | study, gates' verdicts on it, votes, the numbers of its runs |
//! | `study/<id>/run/<number>` | a run without its keys |
//! | `study/<id>/run/<number>/keys` | its keys |

use crate::Charter;
use crate::state::{
    Attests, Dataset, Note, Receipt, Report, Run, ScheduleState, State, Status, StudyState, Vote,
};
use record::canon::{self, CanonError};
use record::keys::PublicKey;
use record::roster::{HubInfo, MemberKeys, Roster};
use record::tree::{leaf_hash, verify_inclusion};
use record::{Digest, Tree};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Where the whole roster stands, once anything of it has changed.
pub(crate) const ROSTER_CHANGES: &str = "roster-changes";
/// Statuses under one key.
const STATUSES: usize = 1024;
/// Longest value that is read, bytes.
pub(crate) const MAX_VALUE: usize = 64 * 1024 * 1024;
/// Longest key, bytes.
pub(crate) const MAX_KEY: usize = 256;

/// A proof that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The proof does not lead to the root.
    #[error("the proof of `{key}` does not lead to the attested root of the state")]
    Root {
        /// The key.
        key: String,
    },
    /// The leaves do not show whether the key is there.
    #[error("the leaves given for `{key}` are neither it nor its two neighbours")]
    Neighbours {
        /// The key.
        key: String,
    },
    /// The value is not the one in the map.
    #[error("the value given for `{key}` is not the one in the state")]
    Value {
        /// The key.
        key: String,
    },
    /// The key is not in the map.
    #[error("`{key}` is not in the state")]
    Absent {
        /// The key.
        key: String,
    },
}

/// The state as sorted keys with canonical values, and the tree over them.
#[derive(Clone)]
pub struct Map {
    leaves: BTreeMap<String, Vec<u8>>,
    tree: Tree,
}

/// A leaf as a proof shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leaf {
    /// Its key.
    pub key: String,
    /// SHA-256 of its value.
    pub value: Digest,
    /// Where it stands.
    pub index: u64,
    /// The inclusion proof.
    pub path: Vec<Digest>,
}

/// Shows what is under a key, or that nothing is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapProof {
    /// Leaves in the map.
    pub leaves: u64,
    /// Root of the tree over them.
    pub tree: Digest,
    /// The leaf with the key; or those next to where it would stand, in order.
    pub found: Vec<Leaf>,
}

fn leaf_bytes(key: &str, value: &Digest) -> Vec<u8> {
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    [length.to_be_bytes().as_slice(), key.as_bytes(), value.as_bytes()].concat()
}

fn root_of(leaves: u64, tree: &Digest) -> Digest {
    Digest::of(&[b"comity-map/1\n".as_slice(), &leaves.to_be_bytes(), tree.as_bytes()].concat())
}

impl Map {
    /// The map of these values.
    pub fn new(leaves: BTreeMap<String, Vec<u8>>) -> Map {
        let mut tree = Tree::new();
        for (key, value) in &leaves {
            tree.append(&leaf_bytes(key, &Digest::of(value)));
        }
        Map { leaves, tree }
    }

    /// The root over all leaves and their number.
    pub fn root(&self) -> Digest {
        root_of(self.tree.size(), &self.tree.root())
    }

    /// The value under a key.
    pub fn value(&self, key: &str) -> Option<&[u8]> {
        self.leaves.get(key).map(Vec::as_slice)
    }

    /// Keys and values in the order of the keys.
    pub fn leaves(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.leaves
    }

    /// The proof of what is under a key, or that nothing is.
    pub fn prove(&self, key: &str) -> MapProof {
        let size = self.tree.size();
        let at = self.leaves.keys().take_while(|k| k.as_str() < key).count() as u64;
        let indices = if self.leaves.contains_key(key) {
            at..at + 1
        } else {
            at.saturating_sub(1)..at.saturating_add(1).min(size)
        };
        let skip = usize::try_from(indices.start).unwrap_or(usize::MAX);
        let found = indices.zip(self.leaves.iter().skip(skip)).filter_map(|(index, (key, value))| {
            let path = self.tree.prove_inclusion(index, size).ok()?;
            Some(Leaf { key: key.clone(), value: Digest::of(value), index, path })
        });
        MapProof { leaves: size, tree: self.tree.root(), found: found.collect() }
    }
}

impl MapProof {
    /// The digest of the value under `key` in the map with this root; nothing if the map has no such key.
    ///
    /// # Errors
    /// When the proof shows neither.
    pub fn verify(&self, key: &str, root: &Digest) -> Result<Option<Digest>, MapError> {
        let wrong = || MapError::Root { key: key.to_owned() };
        if root_of(self.leaves, &self.tree) != *root {
            return Err(wrong());
        }
        for leaf in &self.found {
            let hash = leaf_hash(&leaf_bytes(&leaf.key, &leaf.value));
            verify_inclusion(&hash, leaf.index, self.leaves, &self.tree, &leaf.path).map_err(|_| wrong())?;
        }
        let last = self.leaves.checked_sub(1);
        match self.found.as_slice() {
            [leaf] if leaf.key == key => Ok(Some(leaf.value)),
            [] if self.leaves == 0 => Ok(None),
            [first] if first.index == 0 && key < first.key.as_str() => Ok(None),
            [end] if Some(end.index) == last && end.key.as_str() < key => Ok(None),
            [left, right]
                if Some(right.index) == left.index.checked_add(1)
                    && left.key.as_str() < key
                    && key < right.key.as_str() =>
            {
                Ok(None)
            }
            _ => Err(MapError::Neighbours { key: key.to_owned() }),
        }
    }

    /// Checks that the map with this root has this value under the key.
    ///
    /// # Errors
    /// When it has not.
    pub fn verify_value(&self, key: &str, value: &[u8], root: &Digest) -> Result<(), MapError> {
        match self.verify(key, root)? {
            Some(digest) if digest == Digest::of(value) => Ok(()),
            Some(_) => Err(MapError::Value { key: key.to_owned() }),
            None => Err(MapError::Absent { key: key.to_owned() }),
        }
    }
}

/// What stands under `record`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordValue {
    /// Digest of the charter.
    pub charter: Option<Digest>,
    /// Active version of the protocol.
    pub protocol: u32,
    /// Entries folded.
    pub size: u64,
    /// Stamp of the last one, milliseconds.
    pub time: i64,
}

/// What stands under `roster`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterValue {
    /// Digest of the charter.
    pub charter: Option<Digest>,
    /// The log's name.
    pub origin: String,
    /// How many members may lie.
    pub faults: u32,
    /// The hub.
    pub hub: Option<HubValue>,
    /// Members with their keys.
    pub members: BTreeMap<String, KeysValue>,
    /// Those who signed the charter.
    pub signed_by: BTreeSet<String>,
    /// Index of the entry with which the last one did.
    pub in_force_at: Option<u64>,
}

/// The hub in a [`RosterValue`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubValue {
    /// The organisation that runs it.
    pub operator: String,
    /// The jurisdiction that it runs under.
    pub jurisdiction: String,
    /// The key that signs checkpoints.
    pub key: PublicKey,
    /// The key of its TLS certificate.
    pub tls: PublicKey,
}

/// A member's keys in a [`RosterValue`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysValue {
    /// Signs statements.
    pub sign: PublicKey,
    /// Cosigns checkpoints.
    pub cosign: PublicKey,
    /// Is pinned in its TLS certificate.
    pub tls: PublicKey,
}

// INVARIANT: here and below, fields are named one by one, so that a new one does not compile before it has its place.
impl From<&Roster> for RosterValue {
    fn from(roster: &Roster) -> RosterValue {
        let keys = |keys: &MemberKeys| KeysValue { sign: keys.sign, cosign: keys.cosign, tls: keys.tls };
        RosterValue {
            charter: roster.charter_digest,
            origin: roster.origin.clone(),
            faults: roster.f,
            hub: roster.hub.as_ref().map(|hub| {
                let HubInfo { operator, jurisdiction, key, tls } = hub;
                HubValue {
                    operator: operator.clone(),
                    jurisdiction: jurisdiction.clone(),
                    key: *key,
                    tls: *tls,
                }
            }),
            members: roster.members.iter().map(|(id, k)| (id.clone(), keys(k))).collect(),
            signed_by: roster.signed_by.clone(),
            in_force_at: roster.in_force_at,
        }
    }
}

impl RosterValue {
    /// The first thing in which another one differs, in words; nothing if none does.
    pub(crate) fn difference(&self, other: &RosterValue) -> Option<String> {
        if self == other {
            return None;
        }
        if self.hub != other.hub {
            return Some("another hub".to_owned());
        }
        let ids: BTreeSet<&String> = self.members.keys().chain(other.members.keys()).collect();
        let member = ids.into_iter().find_map(|id| match (self.members.get(id), other.members.get(id)) {
            (Some(here), Some(there)) if here != there => Some(format!("other keys of `{id}`")),
            (Some(_), None) => Some(format!("no member `{id}`")),
            (None, Some(_)) => Some(format!("a member `{id}`")),
            _ => None,
        });
        Some(member.unwrap_or_else(|| "another charter, log or number of liars".to_owned()))
    }

    /// The roster that these facts and the charter give, where nothing has changed since; else the whole of it stands
    /// under `roster-changes`.
    fn roster(self, charter: Option<&Charter>) -> Result<Roster, String> {
        let Some(charter) = charter else {
            return if self.members.is_empty() {
                Ok(Roster::new())
            } else {
                Err("`roster` without a charter".into())
            };
        };
        let document = canon::to_value(charter).map_err(|e| e.to_string())?;
        let mut roster = Roster::of_charter(&document).map_err(|e| e.to_string())?;
        (roster.signed_by, roster.in_force_at) = (self.signed_by.clone(), self.in_force_at);
        if RosterValue::from(&roster) != self {
            return Err("`roster` differs from the charter".into());
        }
        Ok(roster)
    }
}

/// What stands under `study/<id>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyValue {
    /// The study.
    pub study: study::Study,
    /// Digest of its document.
    pub digest: Digest,
    /// Digest of the plan shown to the stewards.
    pub plan: Digest,
    /// Index of its submission.
    pub index: u64,
    /// Stamp of its submission.
    pub time: i64,
    /// Votes count until then.
    pub closes: i64,
    /// Verdicts at stage `propose`, by member.
    pub proposed: BTreeMap<String, Receipt>,
    /// Votes by member.
    pub votes: BTreeMap<String, Vote>,
    /// The run for which a member's node last said that it is ready.
    pub ready: BTreeMap<String, u32>,
    /// The numbers of its runs: all that there are.
    pub runs: Vec<u32>,
}

/// What stands under `study/<id>/run/<number>`; its keys stand apart, being long and of no use to a reader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunValue {
    /// Contributors.
    pub contributors: Vec<String>,
    /// Digest of the plan that runs.
    pub plan: Digest,
    /// Index of the first `run.set`.
    pub first: u64,
    /// Its stamp.
    pub since: i64,
    /// Aggregators that have signed.
    pub sets: Vec<String>,
    /// Index at which the last one did.
    pub sealed: Option<u64>,
    /// Readers that have given a key.
    pub joined: Vec<String>,
    /// Verdicts at stage `contribute`, by member.
    pub receipts: BTreeMap<String, Receipt>,
    /// The guard round's verdict and its index.
    pub verdict: Option<(bool, u64)>,
    /// Commitments to opened sums.
    pub commits: BTreeMap<String, Digest>,
    /// The collector's verdict at stage `release`.
    pub release_gate: Option<Receipt>,
    /// The release and its index.
    pub release: Option<(crate::body::ReleasePublish, u64)>,
    /// Why the run was given up.
    pub lost: Option<String>,
    /// Index at which it was.
    pub lost_at: Option<u64>,
    /// Parties that have erased their keys.
    pub closed: BTreeSet<String>,
}

/// What stands under `study/<id>/run/<number>/keys`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunKeys {
    /// Aggregators'.
    pub sets: BTreeMap<String, String>,
    /// Readers'.
    pub joined: BTreeMap<String, String>,
    /// Contributors'.
    pub receipts: BTreeMap<String, String>,
    /// The collector's at release.
    pub release_gate: Option<String>,
}

impl StudyValue {
    fn of(study: &StudyState) -> StudyValue {
        let StudyState { study, digest, plan, index, time, closes, proposed, votes, ready, runs } = study;
        StudyValue {
            study: study.clone(),
            digest: *digest,
            plan: *plan,
            index: *index,
            time: *time,
            closes: *closes,
            proposed: proposed.clone(),
            votes: votes.clone(),
            ready: ready.clone(),
            runs: runs.keys().copied().collect(),
        }
    }

    /// The study with these runs.
    pub fn with(self, runs: BTreeMap<u32, Run>) -> StudyState {
        let StudyValue { study, digest, plan, index, time, closes, proposed, votes, ready, runs: _ } = self;
        StudyState { study, digest, plan, index, time, closes, proposed, votes, ready, runs }
    }
}

impl RunValue {
    fn of(run: &Run) -> (RunValue, RunKeys) {
        let Run {
            contributors,
            plan,
            first,
            since,
            sets,
            sealed,
            joined,
            receipts,
            verdict,
            commits,
            release_gate,
            release,
            lost,
            lost_at,
            closed,
        } = run;
        let keys = RunKeys {
            sets: sets.clone(),
            joined: joined.clone(),
            receipts: receipts.iter().filter_map(|(m, r)| Some((m.clone(), r.kem.clone()?))).collect(),
            release_gate: release_gate.as_ref().and_then(|r| r.kem.clone()),
        };
        let bare = |r: &Receipt| Receipt { kem: None, ..r.clone() };
        let value = RunValue {
            contributors: contributors.clone(),
            plan: *plan,
            first: *first,
            since: *since,
            sets: sets.keys().cloned().collect(),
            sealed: *sealed,
            joined: joined.keys().cloned().collect(),
            receipts: receipts.iter().map(|(m, r)| (m.clone(), bare(r))).collect(),
            verdict: *verdict,
            commits: commits.clone(),
            release_gate: release_gate.as_ref().map(bare),
            release: release.clone(),
            lost: lost.clone(),
            lost_at: *lost_at,
            closed: closed.clone(),
        };
        (value, keys)
    }

    /// The run with these keys; without them, as far as one can read who has none.
    pub fn with(self, mut keys: RunKeys) -> Run {
        let RunValue {
            contributors,
            plan,
            first,
            since,
            sets,
            sealed,
            joined,
            mut receipts,
            verdict,
            commits,
            mut release_gate,
            release,
            lost,
            lost_at,
            closed,
        } = self;
        for (member, receipt) in &mut receipts {
            receipt.kem = keys.receipts.remove(member);
        }
        if let Some(receipt) = &mut release_gate {
            receipt.kem = keys.release_gate;
        }
        let named = |names: Vec<String>, keys: &mut BTreeMap<String, String>| {
            names.into_iter().map(|m| (m.clone(), keys.remove(&m).unwrap_or_default())).collect()
        };
        Run {
            contributors,
            plan,
            first,
            since,
            sets: named(sets, &mut keys.sets),
            sealed,
            joined: named(joined, &mut keys.joined),
            receipts,
            verdict,
            commits,
            release_gate,
            release,
            lost,
            lost_at,
            closed,
        }
    }
}

impl State {
    /// The state as a map: every part of it under a key.
    ///
    /// # Errors
    /// When a number in it has no canonical form.
    pub fn map(&self) -> Result<Map, CanonError> {
        let State {
            protocol,
            size,
            time,
            roster,
            charter,
            charter_digest,
            floor,
            schedules,
            dictionaries,
            datasets,
            stopped,
            studies,
            run_order,
            statuses,
            seen,
            attests,
            asked,
            notes,
            reports,
        } = self;
        let mut leaves = BTreeMap::new();
        let record = RecordValue { charter: *charter_digest, protocol: *protocol, size: *size, time: *time };
        put(&mut leaves, "record".into(), &record)?;
        put(&mut leaves, "roster".into(), &RosterValue::from(roster))?;
        if roster.has_changed() {
            put(&mut leaves, ROSTER_CHANGES.into(), roster)?;
        }
        if let Some(charter) = charter {
            put(&mut leaves, "charter".into(), charter)?;
        }
        if let Some(floor) = floor {
            leaves.insert("floor".into(), floor.as_bytes().to_vec());
        }
        put_all(&mut leaves, "schedule", schedules)?;
        put_all(&mut leaves, "dictionary", dictionaries)?;
        put_all(&mut leaves, "dataset", datasets)?;
        for member in stopped {
            put(&mut leaves, format!("stopped/{member}"), &true)?;
        }
        for (id, study) in studies {
            put(&mut leaves, format!("study/{id}"), &StudyValue::of(study))?;
            for (number, run) in &study.runs {
                let (value, keys) = RunValue::of(run);
                put(&mut leaves, format!("study/{id}/run/{number}"), &value)?;
                put(&mut leaves, format!("study/{id}/run/{number}/keys"), &keys)?;
            }
        }
        put(&mut leaves, "run-order".into(), run_order)?;
        for (number, chunk) in statuses.chunks(STATUSES).enumerate() {
            put(&mut leaves, format!("status/{number:010}"), chunk)?;
        }
        let mut by_byte: BTreeMap<u8, Vec<&Digest>> = BTreeMap::new();
        for id in seen {
            let [first, ..] = id.as_bytes();
            by_byte.entry(*first).or_default().push(id);
        }
        for (first, ids) in &by_byte {
            put(&mut leaves, format!("seen/{first:02x}"), ids)?;
        }
        for (size, attests) in attests {
            put(&mut leaves, format!("attest/{size:016}"), attests)?;
        }
        for (version, members) in asked {
            put(&mut leaves, format!("asked/{version:010}"), members)?;
        }
        for (statement, note) in notes {
            put(&mut leaves, format!("note/{statement}"), note)?;
        }
        for (file, report) in reports {
            put(&mut leaves, format!("evidence/{file}"), report)?;
        }
        Ok(Map::new(leaves))
    }

    /// The state that a map is of. Parts that go together are compared, not believed.
    pub(crate) fn of_map(map: &Map) -> Result<State, String> {
        let leaves = &map.leaves;
        let record: RecordValue = take(leaves, "record")?;
        let roster: RosterValue = take(leaves, "roster")?;
        let mut state = State::new();
        state.protocol = record.protocol;
        state.size = record.size;
        state.time = record.time;
        state.charter_digest = record.charter;
        let mut runs: BTreeMap<String, BTreeMap<u32, Run>> = BTreeMap::new();
        let mut studies: Vec<(String, StudyValue)> = Vec::new();
        for (key, value) in leaves {
            let (kind, rest) = key.split_once('/').unwrap_or((key, ""));
            match kind {
                "record" | "roster" | ROSTER_CHANGES => {}
                "charter" => state.charter = Some(read(key, value)?),
                "floor" => {
                    let text = String::from_utf8(value.clone()).map_err(|_| format!("`{key}` is no text"))?;
                    state.floor = Some(text);
                }
                "schedule" => {
                    state.schedules.insert(rest.into(), read::<ScheduleState>(key, value)?);
                }
                "dictionary" => {
                    state.dictionaries.insert(rest.into(), read(key, value)?);
                }
                "dataset" => {
                    state.datasets.insert(rest.into(), read::<Dataset>(key, value)?);
                }
                "stopped" => {
                    state.stopped.insert(rest.into());
                }
                "study" => match rest.split_once("/run/") {
                    None => studies.push((rest.into(), read(key, value)?)),
                    Some((_, number)) if number.ends_with("/keys") => {}
                    Some((id, number)) => {
                        let keys: RunKeys = take(leaves, &format!("{key}/keys"))?;
                        let number = number.parse().map_err(|_| format!("`{key}` names no run"))?;
                        let run = read::<RunValue>(key, value)?.with(keys);
                        runs.entry(id.into()).or_default().insert(number, run);
                    }
                },
                "run-order" => state.run_order = read(key, value)?,
                "status" => state.statuses.extend(read::<Vec<Status>>(key, value)?),
                "seen" => state.seen.extend(read::<Vec<Digest>>(key, value)?),
                "attest" => {
                    let size = rest.parse().map_err(|_| format!("`{key}` names no size"))?;
                    state.attests.insert(size, read::<Attests>(key, value)?);
                }
                "asked" => {
                    let version = rest.parse().map_err(|_| format!("`{key}` names no version"))?;
                    state.asked.insert(version, read(key, value)?);
                }
                "note" => {
                    let statement = rest.parse().map_err(|_| format!("`{key}` names no statement"))?;
                    state.notes.insert(statement, read::<Note>(key, value)?);
                }
                "evidence" => {
                    let file = rest.parse().map_err(|_| format!("`{key}` names no file"))?;
                    state.reports.insert(file, read::<Report>(key, value)?);
                }
                _ => return Err(format!("`{key}` is no part of a state that this build knows")),
            }
        }
        state.roster = match leaves.get(ROSTER_CHANGES) {
            Some(value) => read(ROSTER_CHANGES, value)?,
            None => roster.roster(state.charter.as_ref())?,
        };
        for (id, study) in studies {
            let runs = runs.remove(&id).unwrap_or_default();
            state.studies.insert(id, std::sync::Arc::new(study.with(runs)));
        }
        // INVARIANT: a state is read if and only if its map is the one that was read.
        let again = state.map().map_err(|e| e.to_string())?;
        if again.leaves != *leaves {
            let other = leaves.iter().find(|(key, value)| again.leaves.get(*key) != Some(value));
            let key = other.map_or("a key that is missing", |(key, _)| key.as_str());
            return Err(format!("`{key}` is not as a state of this record would have it"));
        }
        Ok(state)
    }
}

fn put<T: Serialize + ?Sized>(
    leaves: &mut BTreeMap<String, Vec<u8>>,
    key: String,
    value: &T,
) -> Result<(), CanonError> {
    leaves.insert(key, canon::to_bytes(value)?);
    Ok(())
}

fn put_all<T: Serialize>(
    leaves: &mut BTreeMap<String, Vec<u8>>,
    kind: &str,
    values: &BTreeMap<String, T>,
) -> Result<(), CanonError> {
    values.iter().try_for_each(|(id, value)| put(leaves, format!("{kind}/{id}"), value))
}

/// Reads the value of a key.
pub(crate) fn read<T: serde::de::DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, String> {
    canon::from_bytes_limit(value, MAX_VALUE).map_err(|e| format!("`{key}` cannot be read: {e}"))
}

fn take<T: serde::de::DeserializeOwned>(leaves: &BTreeMap<String, Vec<u8>>, key: &str) -> Result<T, String> {
    read(key, leaves.get(key).ok_or_else(|| format!("`{key}` is missing"))?)
}
