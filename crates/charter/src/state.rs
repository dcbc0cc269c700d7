//! State: what the statements add up to.

use crate::Charter;
use record::Digest;
use record::roster::Roster;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What became of a statement when it was folded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It holds.
    Valid,
    /// It stays in the record and means nothing, for this reason.
    Void(String),
}

/// Everything that the record says up to an index. A pure function of the entries.
#[derive(Clone, Serialize)]
pub struct State {
    /// Version of these rules that is active.
    pub protocol: u32,
    /// Entries folded.
    pub size: u64,
    /// Stamp of the last entry, milliseconds.
    pub time: i64,
    /// Members and keys. Folded from the charter below; only who signed it, and when the last did, is new.
    #[serde(serialize_with = "roster_facts")]
    pub roster: Roster,
    /// The charter once proposed; in force when `roster.in_force_at` says so.
    pub charter: Option<Charter>,
    /// Its digest.
    pub charter_digest: Option<Digest>,
    /// The policy floor's text, once published and equal to the charter's digest.
    pub floor: Option<String>,
    /// The country schedule of each member.
    pub schedules: BTreeMap<String, ScheduleState>,
    /// Data dictionaries by id, with the index of their registration.
    pub dictionaries: BTreeMap<String, (study::Dictionary, u64)>,
    /// Datasets by `name@member`.
    pub datasets: BTreeMap<String, Dataset>,
    /// Members whose node is stopped.
    pub stopped: BTreeSet<String>,
    /// Studies by id; shared, so that whoever acts on one holds it without a copy.
    #[serde(serialize_with = "shared")]
    pub studies: BTreeMap<String, Arc<StudyState>>,
    /// Runs in the order of their first `run.set`: the order in which histories count (A6).
    pub run_order: Vec<(String, u32)>,
    /// Every entry's status, by index.
    pub statuses: Vec<Status>,
    /// Ids of statements seen; a repeat means nothing.
    pub seen: BTreeSet<Digest>,
    /// What members attested of the state, by size. Left out of the digest while nobody has, so that records from
    /// before keep theirs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attests: BTreeMap<u64, Attests>,
    /// Members that ask for a version of the protocol that is not active yet. Left out of the digest likewise.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub asked: BTreeMap<u32, BTreeSet<String>>,
    /// Sealed remarks by the statement that attached them. Left out of the digest likewise.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<Digest, Note>,
    /// Reports of broken words by the digest of the file that proves it. Left out of the digest likewise.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub reports: BTreeMap<Digest, Report>,
}

/// A report that somebody broke a signed word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Who reported it.
    pub by: String,
    /// Index of the report.
    pub index: u64,
    /// Whom the evidence in it convicts; nobody if the file was too long to be in it.
    pub convicts: Option<Convicted>,
}

/// Who is convicted, of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Convicted {
    /// `hub`, or a member's id.
    pub who: String,
    /// The hub's term; 0 for a member.
    pub term: u32,
    /// The key that broke its word.
    pub key: record::PublicKey,
    /// The kind of claim, for example `two-roots`.
    pub kind: String,
}

/// A sealed remark about a statement: all that the record says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// Who attached it.
    pub by: String,
    /// The statement that it is about.
    pub about: Digest,
    /// Its fields as commitments, and padding.
    pub sealed: Vec<record::Commitment>,
    /// Index at which it was attached.
    pub index: u64,
    /// Index at which its author asked everyone to destroy it.
    pub erase: Option<u64>,
    /// Members that hold nothing of it any more, with the index at which they said so.
    pub erased: BTreeMap<String, u64>,
}

/// What members attested of the state at one size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attests {
    /// Root and version by member.
    pub by: BTreeMap<String, (Digest, u32)>,
    /// The root that a quorum said, and the index of the statement that completed it.
    pub agreed: Option<(Digest, u64)>,
}

/// A country schedule at a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleState {
    /// The regime, for example `EU`.
    pub regime: String,
    /// Newest material seen.
    pub as_of: String,
    /// Digest of the text.
    pub digest: Digest,
    /// The text.
    pub text: String,
    /// Index of its adoption.
    pub adopted: u64,
    /// The seat that confirmed it and the index of that, if anyone has.
    pub confirmed: Option<(String, u64)>,
}

/// A registered dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// Its owner.
    pub owner: String,
    /// What the owner declared.
    pub registration: crate::body::DatasetRegister,
    /// Index of the registration.
    pub index: u64,
    /// Whether it is out of use.
    pub paused: bool,
}

/// A stage of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Policy and plan only, as soon as a study is asked.
    Propose,
    /// Before a node answers in a run.
    Contribute,
    /// At the collector, before anything is shown.
    Release,
}

impl Stage {
    /// The word used in gate inputs.
    pub fn word(self) -> &'static str {
        match self {
            Stage::Propose => "propose",
            Stage::Contribute => "contribute",
            Stage::Release => "release",
        }
    }
}

/// A steward's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VoteChoice {
    /// Yes.
    Yes,
    /// No.
    No,
}

/// A vote as counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    /// The choice.
    pub choice: VoteChoice,
    /// The seat.
    pub seat: String,
    /// Index.
    pub index: u64,
    /// Stamp.
    pub time: i64,
    /// Taken back at this index.
    pub revoked: Option<u64>,
}

/// A gate receipt as folded: the verdict that the node recorded, never evaluated here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The verdict.
    pub allow: bool,
    /// Determining rules.
    pub rules: Vec<String>,
    /// End of the lease.
    pub lease_until: i64,
    /// The node's key of this run.
    pub kem: Option<String>,
    /// Digest of the policies.
    pub policy: Digest,
    /// Digest of the input.
    pub input_digest: Digest,
    /// Index.
    pub index: u64,
}

/// A study and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StudyState {
    /// The study.
    pub study: study::Study,
    /// Digest of its document.
    pub digest: Digest,
    /// Digest of the plan shown to the stewards.
    pub plan: Digest,
    /// Index and stamp of its submission.
    pub index: u64,
    /// Stamp of its submission.
    pub time: i64,
    /// Votes count until then.
    pub closes: i64,
    /// Verdicts at stage `propose`, by member.
    pub proposed: BTreeMap<String, Receipt>,
    /// Votes by member.
    pub votes: BTreeMap<String, Vote>,
    /// The run for which a member's node last said that it is ready. Left out of the digest while nobody has, so
    /// that records from before this statement keep theirs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ready: BTreeMap<String, u32>,
    /// Runs by number.
    pub runs: BTreeMap<u32, Run>,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    /// Contributors, fixed by the first `run.set`.
    pub contributors: Vec<String>,
    /// Digest of the plan that runs.
    pub plan: Digest,
    /// Index of the first `run.set`.
    pub first: u64,
    /// Its stamp.
    pub since: i64,
    /// Aggregators that have signed, with their keys.
    pub sets: BTreeMap<String, String>,
    /// Index at which the last aggregator signed.
    pub sealed: Option<u64>,
    /// Keys of collector and recipients.
    pub joined: BTreeMap<String, String>,
    /// Verdicts at stage `contribute`, by member.
    pub receipts: BTreeMap<String, Receipt>,
    /// The guard round's verdict and its index.
    pub verdict: Option<(bool, u64)>,
    /// Commitments to opened sums by (stage, round).
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

impl StudyState {
    /// The number of the run that may be set next.
    pub fn next_run(&self) -> u32 {
        self.runs.keys().next_back().map_or(1, |n| n.saturating_add(1))
    }

    /// Whether the member's steward said yes and has not taken it back.
    pub fn has_live_yes(&self, member: &str) -> bool {
        self.votes.get(member).is_some_and(|v| v.choice == VoteChoice::Yes && v.revoked.is_none())
    }

    /// Members with a live yes that are ready for a run and not in its set.
    pub fn left_out(&self, run: u32) -> Vec<String> {
        let Some(set) = self.runs.get(&run) else { return Vec::new() };
        let ready = |m: &&String| self.has_live_yes(m) && self.is_ready(m, run);
        let named = self.study.contributors.iter();
        named.filter(|m| !set.contributors.contains(m)).filter(ready).cloned().collect()
    }

    /// Whether the member's node said that it is ready for that run.
    pub fn is_ready(&self, member: &str, run: u32) -> bool {
        self.ready.get(member) == Some(&run)
    }
}

impl Run {
    /// A run of which nothing is known but its set.
    pub fn new(contributors: Vec<String>, plan: Digest, first: u64, since: i64) -> Run {
        Run {
            contributors,
            plan,
            first,
            since,
            sets: BTreeMap::new(),
            sealed: None,
            joined: BTreeMap::new(),
            receipts: BTreeMap::new(),
            verdict: None,
            commits: BTreeMap::new(),
            release_gate: None,
            release: None,
            lost: None,
            lost_at: None,
            closed: BTreeSet::new(),
        }
    }

    /// Whether every party that a sum needs has said yes: from then on something may have been opened.
    pub fn may_open(&self) -> bool {
        self.sealed.is_some()
            && self.contributors.iter().all(|m| self.receipts.get(m).is_some_and(|r| r.allow))
    }

    /// Whether the run belongs to the history of what is set at `index`: set before, and not given up before
    /// without ever having been able to open anything. Judged as of that index, so that everyone judges alike.
    pub fn counts_before(&self, index: u64) -> bool {
        let spent = self.lost_at.is_some_and(|at| at < index) && !self.may_open();
        self.first < index && !spent
    }
}

/// Where a study stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "phase")]
pub enum Phase {
    /// Gates have not all spoken.
    AwaitingGates {
        /// Members whose gate has not.
        missing: Vec<String>,
    },
    /// Gates refused at so many nodes that the minimum cannot be reached.
    Refused {
        /// Members whose gate refused.
        by: Vec<String>,
    },
    /// Stewards have not decided.
    AwaitingVotes {
        /// Members whose steward has not voted.
        missing: Vec<String>,
        /// Yes votes so far.
        yes: u32,
        /// Yes votes needed.
        needed: u32,
    },
    /// Stewards decided against.
    Declined {
        /// Members whose steward said no.
        by: Vec<String>,
    },
    /// The decision closed without enough votes.
    Lapsed,
    /// Stewards said yes; a run may start.
    Approved {
        /// Members that will contribute.
        contributors: Vec<String>,
    },
    /// A run is going on.
    Running {
        /// Its number.
        run: u32,
    },
    /// Every run was given up; whoever asks looks into it and asks again.
    GivenUp,
    /// The output was withheld by disclosure control.
    Withheld,
    /// The output was released.
    Released {
        /// The run.
        run: u32,
    },
}

impl State {
    /// The state before the first entry.
    pub fn new() -> State {
        State {
            protocol: 1,
            size: 0,
            time: 0,
            roster: Roster::default(),
            charter: None,
            charter_digest: None,
            floor: None,
            schedules: BTreeMap::new(),
            dictionaries: BTreeMap::new(),
            datasets: BTreeMap::new(),
            stopped: BTreeSet::new(),
            studies: BTreeMap::new(),
            run_order: Vec::new(),
            statuses: Vec::new(),
            seen: BTreeSet::new(),
            attests: BTreeMap::new(),
            asked: BTreeMap::new(),
            notes: BTreeMap::new(),
            reports: BTreeMap::new(),
        }
    }

    /// The index at which the fold has stopped, because the record has activated a version of the protocol that this
    /// build does not know: what is said from there on has a meaning that only a newer build can tell.
    pub fn stopped_at(&self) -> Option<u64> {
        (self.protocol > crate::body::KNOWN_VERSION).then_some(self.size)
    }

    /// Why the fold has stopped, in words.
    pub fn stopped_because(&self) -> Option<String> {
        self.stopped_at().map(|index| {
            format!(
                "the record has activated protocol version {} before entry {index}, this build knows up to {}: upgrade",
                self.protocol,
                crate::body::KNOWN_VERSION
            )
        })
    }

    /// The largest size at which a quorum attested one root, and that root.
    pub fn attested(&self) -> Option<(u64, Digest)> {
        self.attests.iter().rev().find_map(|(size, a)| a.agreed.map(|(root, _)| (*size, root)))
    }

    /// Whether every member has signed the charter.
    pub fn in_force(&self) -> bool {
        self.charter.is_some() && self.roster.in_force_at.is_some()
    }

    /// The charter, if in force.
    pub fn charter_in_force(&self) -> Option<&Charter> {
        if self.in_force() { self.charter.as_ref() } else { None }
    }

    /// A dataset by name and owner.
    pub fn dataset(&self, name: &str, owner: &str) -> Option<&Dataset> {
        self.datasets.get(&format!("{name}@{owner}"))
    }

    /// Digest of the whole state: two folds of one record give one digest.
    pub fn digest(&self) -> Result<Digest, record::canon::CanonError> {
        Ok(Digest::of(&record::canon::to_bytes(self)?))
    }

    /// Studies with a run that was set before `index` over the same dataset, whose population this study's
    /// may not differ from by a few people; in order of their first set, each population once.
    pub fn earlier_populations(
        &self,
        study: &str,
        dataset: &str,
        index: u64,
    ) -> Vec<study::EarlierPopulation> {
        let own = self.studies.get(study).map(|s| &s.study.population);
        let mut found: Vec<study::EarlierPopulation> = Vec::new();
        for (id, number) in &self.run_order {
            let Some(other) = self.studies.get(id) else { continue };
            let before = other.runs.get(number).is_some_and(|r| r.counts_before(index));
            if id == study || other.study.dataset != dataset || !before {
                continue;
            }
            let population = &other.study.population;
            if Some(population) == own || found.iter().any(|e| &e.population == population) {
                continue;
            }
            found.push(study::EarlierPopulation { study: id.clone(), population: population.clone() });
        }
        found
    }

    /// Contributor sets of runs set before `index` over the same dataset, this study's own run excepted (A2).
    pub fn earlier_sets(&self, study: &str, run: u32, dataset: &str, index: u64) -> Vec<BTreeSet<String>> {
        self.run_order
            .iter()
            .filter(|(id, number)| !(id == study && *number == run))
            .filter_map(|(id, number)| {
                let other = self.studies.get(id)?;
                let earlier = other.runs.get(number)?;
                (other.study.dataset == dataset && earlier.counts_before(index))
                    .then(|| earlier.contributors.iter().cloned().collect())
            })
            .collect()
    }

    /// Where a study stands at time `now` (milliseconds).
    pub fn phase(&self, id: &str, now: i64) -> Option<Phase> {
        let s = self.studies.get(id)?;
        if let Some((number, run)) = s.runs.iter().next_back() {
            if run.release.is_some() {
                return Some(Phase::Released { run: *number });
            }
            if run.verdict.is_some_and(|(pass, _)| !pass)
                || run.release_gate.as_ref().is_some_and(|g| !g.allow)
            {
                return Some(Phase::Withheld);
            }
            if run.lost.is_some() && *number >= crate::fold::MAX_RUNS {
                return Some(Phase::GivenUp);
            }
            if run.lost.is_none() {
                let denied: Vec<String> =
                    run.receipts.iter().filter(|(_, r)| !r.allow).map(|(m, _)| m.clone()).collect();
                if !denied.is_empty() {
                    return Some(Phase::Refused { by: denied });
                }
                return Some(Phase::Running { run: *number });
            }
        }
        Some(self.decision(s, now))
    }

    fn decision(&self, s: &StudyState, now: i64) -> Phase {
        let named = &s.study.contributors;
        let needed = s.study.minimum_contributors;
        let denied: Vec<String> =
            named.iter().filter(|m| s.proposed.get(*m).is_some_and(|r| !r.allow)).cloned().collect();
        let can = |out: usize| (named.len() - out.min(named.len())) as u32 >= needed;
        if !can(denied.len()) {
            return Phase::Refused { by: denied };
        }
        let silent: Vec<String> = named.iter().filter(|m| !s.proposed.contains_key(*m)).cloned().collect();
        let voted = |m: &String| s.votes.get(m).filter(|v| v.revoked.is_none()).map(|v| v.choice);
        let yes: Vec<String> = named
            .iter()
            .filter(|m| voted(m) == Some(VoteChoice::Yes) && s.proposed.get(*m).is_some_and(|r| r.allow))
            .filter(|m| {
                let valid =
                    self.charter.as_ref().map_or(0, |c| i64::from(c.data_access.valid_days) * 86_400_000);
                s.votes.get(*m).is_some_and(|v| now < v.time.saturating_add(valid))
            })
            .cloned()
            .collect();
        let no: Vec<String> = named
            .iter()
            .filter(|m| {
                voted(m) == Some(VoteChoice::No) || s.votes.get(*m).is_some_and(|v| v.revoked.is_some())
            })
            .cloned()
            .collect();
        let mut out: BTreeSet<&String> = denied.iter().collect();
        out.extend(no.iter());
        if !can(out.len()) {
            return Phase::Declined { by: no };
        }
        let open = now < s.closes;
        if open && !silent.is_empty() {
            return Phase::AwaitingGates { missing: silent };
        }
        let missing: Vec<String> =
            named.iter().filter(|m| !out.contains(m) && !yes.contains(m)).cloned().collect();
        let quorum = self.charter.as_ref().map_or(u32::MAX, |c| c.data_access.quorum);
        let count = yes.len() as u32;
        let enough = count >= needed && (yes.len() + no.len()) as u32 >= quorum.min(named.len() as u32);
        if enough && (missing.is_empty() || !open) {
            return Phase::Approved { contributors: yes };
        }
        if !open {
            return Phase::Lapsed;
        }
        Phase::AwaitingVotes { missing, yes: count, needed }
    }
}

fn shared<S: serde::Serializer>(
    studies: &BTreeMap<String, Arc<StudyState>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(studies.iter().map(|(id, study)| (id, study.as_ref())))
}

fn roster_facts<S: serde::Serializer>(roster: &Roster, serializer: S) -> Result<S::Ok, S::Error> {
    (&roster.charter_digest, &roster.signed_by, roster.in_force_at, roster.quorum()).serialize(serializer)
}

impl Default for State {
    fn default() -> Self {
        State::new()
    }
}
