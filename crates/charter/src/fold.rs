//! The fold: one entry after another, each either valid or void with a reason.

use crate::body::*;
use crate::document::SeatRole;
use crate::state::{
    Convicted, Dataset, Note, Phase, Receipt, Report, Run, ScheduleState, Stage, State, Status, StudyState,
    Vote, VoteChoice,
};
use record::{Digest, Entry, Evidence, Roster, Statement};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

/// What an entry is after the fold has stopped.
static BEYOND: LazyLock<Status> =
    LazyLock::new(|| Status::Void("of a protocol version that this build does not know".into()));

/// How far clocks may be apart, milliseconds: the stamp of an entry may lie that much before its own validity.
const SKEW: i64 = 60_000;

/// A study is run at most so often: what breaks again is for people to look at.
pub const MAX_RUNS: u32 = 3;

/// Convictions of one hub in one term, or of one member, that are recorded: the first ones tell the story.
pub const MAX_CONVICTIONS: usize = 16;

/// Reports of one member without their evidence.
pub const MAX_REPORTS: usize = 16;

/// Why a statement is void. The text is part of the state, so it never changes for a released version.
type Fold = Result<(), String>;

fn void<T>(reason: impl Into<String>) -> Result<T, String> {
    Err(reason.into())
}

fn body<T: DeserializeOwned>(statement: &Statement) -> Result<T, String> {
    statement.body_as::<T>().map_err(|_| format!("malformed body of {}", statement.r#type))
}

impl State {
    /// Folds the next entry. Entries come in order; the caller has checked signatures of the log, not of the
    /// statement: that is checked here, so that every node voids the same statements. A void statement changes the
    /// size, the time, its status and, if its issuer signed it, `seen`; nothing else. After the fold has stopped
    /// ([`State::stopped_at`]) nothing changes any more, the size neither.
    pub fn apply(&mut self, entry: &Entry) -> &Status {
        if self.stopped_at().is_some() {
            return &BEYOND;
        }
        let index = self.size;
        self.size += 1;
        self.time = self.time.max(entry.time);
        let id = entry.signed.id();
        // INVARIANT: `seen` holds only what its issuer signed. An id is of the bytes, whoever signed them: if a copy
        // under another key counted, anyone could enter one first and make the issuer's own a repeat.
        let result = match self.charter {
            None => self.fold(index, entry),
            // The roster judges for itself what changes it: new keys are not signed with the old ones.
            Some(_) if changes_roster(&entry.signed.statement().r#type) => self.fold(index, entry),
            Some(_) => match self.roster.authenticate(&entry.signed) {
                Err(why) => void(why.code()),
                Ok(()) if self.seen.contains(&id) => void("repeated statement"),
                Ok(()) => {
                    self.seen.insert(id);
                    self.fold(index, entry)
                }
            },
        };
        if result.is_ok() {
            self.seen.insert(id);
        }
        self.statuses.push(match result {
            Ok(()) => Status::Valid,
            Err(reason) => Status::Void(reason),
        });
        self.statuses.last().unwrap_or(&Status::Valid)
    }

    fn fold(&mut self, index: u64, entry: &Entry) -> Fold {
        let (id, statement) = (entry.signed.id(), entry.signed.statement());
        // Never the stamp alone: one that goes back opens nothing that was closed.
        let time = self.time;
        match statement.r#type.as_str() {
            CharterPropose::TYPE => return self.charter_propose(index, entry),
            CharterSign::TYPE => return self.charter_sign(index, entry),
            kind if changes_roster(kind) => return self.roster_change(index, entry),
            _ => {}
        }
        if !self.in_force() {
            return void("charter not in force");
        }
        let protective = matches!(
            statement.r#type.as_str(),
            DatasetPause::TYPE
                | NodeStop::TYPE
                | DecisionRevoke::TYPE
                | RunLost::TYPE
                | RunClose::TYPE
                | RecordErase::TYPE
                | RecordErased::TYPE
                | EvidenceReport::TYPE
        );
        if self.roster.suspended.contains_key(&statement.issuer) && !protective {
            return void("issuer is suspended");
        }
        if let Some(until) = statement.valid_until
            && until <= time
        {
            return void("past its own validity");
        }
        // A stop by a node whose clock is ahead is still a stop.
        if let Some(from) = statement.valid_from
            && from > time.saturating_add(SKEW)
            && !protective
        {
            return void("before its own validity");
        }
        let charter = self.charter.as_ref().ok_or("charter not in force")?;
        let sunset = crate::document::end_of_day(&charter.sunset).unwrap_or(0);
        if time >= sunset && !protective {
            return void("after the charter's sunset");
        }
        if version_of(&statement.r#type) > self.protocol {
            return void("unknown type");
        }
        match statement.r#type.as_str() {
            PolicyFloor::TYPE => self.policy_floor(statement),
            ScheduleAdopt::TYPE => self.schedule_adopt(index, statement),
            ScheduleConfirm::TYPE => self.schedule_confirm(index, statement),
            DictionaryRegister::TYPE => self.dictionary_register(index, statement),
            DatasetRegister::TYPE => self.dataset_register(index, statement),
            DatasetPause::TYPE => self.dataset_pause(statement, true),
            DatasetResume::TYPE => self.dataset_pause(statement, false),
            NodeStop::TYPE => {
                body::<NodeStop>(statement)?;
                self.stopped.insert(statement.issuer.clone());
                Ok(())
            }
            NodeResume::TYPE => {
                body::<NodeResume>(statement)?;
                self.stopped.remove(&statement.issuer);
                Ok(())
            }
            StudySubmit::TYPE => self.study_submit(index, time, statement),
            GateReceipt::TYPE => self.gate_receipt(index, time, statement),
            DecisionVote::TYPE => self.decision_vote(index, time, statement),
            DecisionRevoke::TYPE => self.decision_revoke(index, statement),
            RunSet::TYPE => self.run_set(index, time, statement),
            RunReady::TYPE => self.run_ready(time, statement),
            RunJoin::TYPE => self.run_join(statement),
            RoundCommit::TYPE => self.round_commit(statement),
            RunVerdict::TYPE => self.run_verdict(index, statement),
            ReleasePublish::TYPE => self.release_publish(index, statement),
            RunLost::TYPE => self.run_lost(index, statement),
            RunClose::TYPE => self.run_close(statement),
            StateAttest::TYPE => self.state_attest(index, statement),
            ProtocolActivate::TYPE => self.protocol_activate(statement),
            NoteAttach::TYPE => self.note_attach(index, id, statement),
            RecordErase::TYPE => self.record_erase(index, statement),
            RecordErased::TYPE => self.record_erased(index, statement),
            EvidenceReport::TYPE => self.evidence_report(index, statement),
            _ => void("unknown type"),
        }
    }

    fn charter_propose(&mut self, index: u64, entry: &Entry) -> Fold {
        if self.charter.is_some() {
            return void("a charter was proposed before");
        }
        let proposed: CharterPropose = body(entry.signed.statement())?;
        let charter = proposed.charter;
        charter.check("charter", "").map_err(|e| e.to_string())?;
        let digest = charter.digest().map_err(|_| "malformed body of charter.propose@1")?;
        self.roster.apply(index, entry).map_err(|why| why.code().to_string())?;
        if self.roster.charter_digest != Some(digest) {
            self.roster = record::roster::Roster::default();
            return void("charter not in canonical form");
        }
        self.charter = Some(charter);
        self.charter_digest = Some(digest);
        Ok(())
    }

    fn charter_sign(&mut self, index: u64, entry: &Entry) -> Fold {
        let signed: CharterSign = body(entry.signed.statement())?;
        if self.charter_digest.is_none() {
            return void("no charter proposed");
        }
        if Some(signed.charter) != self.charter_digest {
            return void("signs another charter");
        }
        if self.roster.signed_by.contains(&entry.signed.statement().issuer) {
            return void("signed before");
        }
        self.roster.apply(index, entry).map_err(|why| why.code().to_string())
    }

    /// A change of members, keys or hub. Whether it holds is for the roster alone, so that the mirror, which knows no
    /// other rule, and this state never disagree on who is a member.
    fn roster_change(&mut self, index: u64, entry: &Entry) -> Fold {
        let contested = self.roster.compromises.len();
        self.roster.apply(index, entry).map_err(|why| why.code().to_string())?;
        self.follow_roster();
        let new = self.roster.compromises.get(contested..).unwrap_or(&[]).to_vec();
        for compromise in &new {
            self.contest(compromise);
        }
        if entry.signed.statement().r#type == record::roster::REAFFIRM {
            self.stand_by(&entry.signed.statement().issuer);
        }
        Ok(())
    }

    /// The charter's members and hub as the roster has them now.
    fn follow_roster(&mut self) {
        let Some(charter) = &mut self.charter else { return };
        charter.members.retain(|m| self.roster.keys(&m.id).is_some());
        for (id, keys) in self.roster.members.iter().chain(&self.roster.suspended) {
            if let Some(member) = charter.members.iter_mut().find(|m| m.id == *id) {
                (member.sign, member.cosign, member.tls) = (keys.sign, keys.cosign, keys.tls);
                member.cosign_ml.clone_from(&keys.cosign_ml);
                member.endpoint.clone_from(&keys.endpoint);
                member.next = keys.next;
                continue;
            }
            // The document under which it joined. One that this room cannot read makes a member without seats: it
            // counts for checkpoints and can do nothing.
            let joined =
                self.roster.proposals.values().filter(|p| p.done == Some(keys.since)).find_map(|p| match &p
                    .change
                {
                    record::Change::Join { member, .. } if p.change.about().as_ref() == Some(id) => {
                        record::canon::from_value::<crate::document::Member>(member.clone()).ok()
                    }
                    _ => None,
                });
            let Some(joined) = joined else { continue };
            charter.members.push(joined);
            if charter.check("charter", "").is_err() {
                charter.members.pop();
            }
        }
        if let Some(hub) = &self.roster.hub {
            charter.hub.operator.clone_from(&hub.operator);
            charter.hub.jurisdiction.clone_from(&hub.jurisdiction);
            (charter.hub.key, charter.hub.tls) = (hub.key, hub.tls);
        }
    }

    /// What was said with a key that may have been another's starts nothing: a yes counts as taken back until it is
    /// reaffirmed, and a run in which such a statement has a part is given up.
    fn contest(&mut self, compromise: &record::roster::Compromise) {
        let within = |index: u64| (compromise.since..compromise.until).contains(&index);
        let member = &compromise.member;
        for study in self.studies.values_mut() {
            let voted = study.votes.get(member).is_some_and(|v| within(v.index) && v.revoked.is_none());
            let part = |run: &Run| {
                let receipt = run.receipts.get(member).is_some_and(|r| within(r.index));
                let set = run.sets.contains_key(member) && run.sealed.is_none_or(|at| at >= compromise.since);
                run.release.is_none() && run.lost.is_none() && (receipt || set)
            };
            if !voted && !study.runs.values().any(part) {
                continue;
            }
            let study = Arc::make_mut(study);
            if let Some(vote) = study.votes.get_mut(member).filter(|_| voted) {
                vote.revoked = Some(compromise.until);
            }
            for run in study.runs.values_mut().filter(|run| part(run)) {
                run.lost = Some("contested".to_owned());
                run.lost_at = Some(compromise.until);
            }
        }
    }

    /// A reaffirmed yes counts again.
    fn stand_by(&mut self, member: &str) {
        for study in self.studies.values_mut() {
            let again = study.votes.get(member).is_some_and(|v| {
                let contested =
                    |c: &&record::roster::Compromise| c.member == member && v.revoked == Some(c.until);
                self.roster
                    .compromises
                    .iter()
                    .find(contested)
                    .is_some_and(|c| c.reaffirmed.contains(&v.index))
                    && !self.roster.contested(member, v.index)
            });
            if again && let Some(vote) = Arc::make_mut(study).votes.get_mut(member) {
                vote.revoked = None;
            }
        }
    }

    fn seat(&self, statement: &Statement, role: SeatRole) -> Fold {
        let charter = self.charter.as_ref().ok_or("charter not in force")?;
        if charter.has_seat(&statement.issuer, &statement.actor, role) {
            Ok(())
        } else {
            void(format!("actor holds no {} seat of the issuer", role_word(role)))
        }
    }

    fn policy_floor(&mut self, statement: &Statement) -> Fold {
        let floor: PolicyFloor = body(statement)?;
        let charter = self.charter.as_ref().ok_or("charter not in force")?;
        if Digest::of(floor.text.as_bytes()) != charter.floor {
            return void("not the floor that the charter names");
        }
        if self.floor.is_some() {
            return void("floor published before");
        }
        self.floor = Some(floor.text);
        Ok(())
    }

    fn schedule_adopt(&mut self, index: u64, statement: &Statement) -> Fold {
        let adopt: ScheduleAdopt = body(statement)?;
        if self.schedules.contains_key(&statement.issuer) {
            return void("replacing a schedule needs a decision");
        }
        let digest = Digest::of(adopt.text.as_bytes());
        let schedule = ScheduleState {
            regime: adopt.regime,
            as_of: adopt.as_of,
            digest,
            text: adopt.text,
            adopted: index,
            confirmed: None,
        };
        self.schedules.insert(statement.issuer.clone(), schedule);
        Ok(())
    }

    fn schedule_confirm(&mut self, index: u64, statement: &Statement) -> Fold {
        let confirm: ScheduleConfirm = body(statement)?;
        self.seat(statement, SeatRole::Counsel)?;
        let Some(schedule) = self.schedules.get_mut(&statement.issuer) else {
            return void("no schedule adopted");
        };
        if schedule.digest != confirm.schedule {
            return void("confirms another schedule");
        }
        if schedule.confirmed.is_some() {
            return void("confirmed before");
        }
        schedule.confirmed = Some((statement.actor.clone(), index));
        Ok(())
    }

    fn dictionary_register(&mut self, index: u64, statement: &Statement) -> Fold {
        let register: DictionaryRegister = body(statement)?;
        self.seat(statement, SeatRole::Steward)?;
        let dictionary = register.dictionary;
        if dictionary.check().is_err() {
            return void("dictionary breaks its own rules");
        }
        if self.dictionaries.contains_key(&dictionary.id) {
            return void("dictionary registered before");
        }
        self.dictionaries.insert(dictionary.id.clone(), (dictionary, index));
        Ok(())
    }

    fn dataset_register(&mut self, index: u64, statement: &Statement) -> Fold {
        let registration: DatasetRegister = body(statement)?;
        self.seat(statement, SeatRole::Steward)?;
        if !crate::document::is_id(&registration.name) {
            return void("malformed dataset name");
        }
        let Some((dictionary, _)) = self.dictionaries.get(&registration.dictionary) else {
            return void("dictionary not registered");
        };
        if dictionary.digest().ok() != Some(registration.dictionary_digest) {
            return void("another dictionary than the owner named");
        }
        if crate::document::end_of_day(&registration.retention).is_none() {
            return void("malformed retention date");
        }
        if registration.legal_basis.trim().is_empty() || registration.purposes.is_empty() {
            return void("legal basis or purposes missing");
        }
        let key = format!("{}@{}", registration.name, statement.issuer);
        if self.datasets.contains_key(&key) {
            return void("dataset registered before");
        }
        let owner = statement.issuer.clone();
        self.datasets.insert(key, Dataset { owner, registration, index, paused: false });
        Ok(())
    }

    fn dataset_pause(&mut self, statement: &Statement, paused: bool) -> Fold {
        let name = if paused {
            body::<DatasetPause>(statement)?.name
        } else {
            self.seat(statement, SeatRole::Steward)?;
            body::<DatasetResume>(statement)?.name
        };
        let key = format!("{name}@{}", statement.issuer);
        let Some(dataset) = self.datasets.get_mut(&key) else {
            return void("no such dataset of the issuer");
        };
        dataset.paused = paused;
        Ok(())
    }

    fn study_submit(&mut self, index: u64, time: i64, statement: &Statement) -> Fold {
        let submit: StudySubmit = body(statement)?;
        let study = submit.study;
        self.seat(statement, SeatRole::Scientist)?;
        if study.requester != statement.issuer {
            return void("asked in another member's name");
        }
        if self.studies.contains_key(&study.id) {
            return void("study id used before");
        }
        let Some((dictionary, _)) = self.dictionaries.get(&study.dictionary) else {
            return void("dictionary not registered");
        };
        if study.check(dictionary).is_err() {
            return void("study breaks its own rules");
        }
        let charter = self.charter.as_ref().ok_or("charter not in force")?;
        let named = study.contributors.iter().chain(&study.aggregators).chain([&study.collector]);
        let parties = named.chain(members(&study));
        for party in parties {
            if charter.member(party).is_none() {
                return void("names somebody who is not a member");
            }
        }
        for owner in &study.contributors {
            let Some(dataset) = self.dataset(&study.dataset, owner) else {
                return void("names a dataset that is not registered");
            };
            if dataset.registration.dictionary != study.dictionary {
                return void("names a dataset of another dictionary");
            }
        }
        let digest = record::canon::to_bytes(&study).map(|b| Digest::of(&b)).map_err(|e| e.to_string())?;
        let closes = time.saturating_add(i64::from(charter.data_access.deadline_hours) * 3_600_000);
        let state = StudyState {
            digest,
            plan: submit.plan,
            index,
            time,
            closes,
            proposed: BTreeMap::new(),
            votes: BTreeMap::new(),
            ready: BTreeMap::new(),
            runs: BTreeMap::new(),
            study: study.clone(),
        };
        self.studies.insert(study.id, Arc::new(state));
        Ok(())
    }

    fn gate_receipt(&mut self, index: u64, time: i64, statement: &Statement) -> Fold {
        let receipt: GateReceipt = body(statement)?;
        let input = record::canon::to_bytes(&receipt.input).map_err(|e| e.to_string())?;
        if Digest::of(&input) != receipt.input_digest {
            return void("input does not match its digest");
        }
        if receipt.as_of > index {
            return void("decided on a state that was not there yet");
        }
        if receipt.kem.as_deref().is_some_and(|k| !is_kem(k)) {
            return void("malformed key");
        }
        let longest = self.charter.as_ref().map_or(0, |c| i64::from(c.limits.lease_hours) * 3_600_000);
        if receipt.lease_until > time.saturating_add(longest).saturating_add(60_000) {
            return void("lease longer than the charter allows");
        }
        let member = statement.issuer.clone();
        let Some(study) = self.studies.get_mut(&receipt.study).map(Arc::make_mut) else {
            return void("no such study");
        };
        let folded = Receipt {
            allow: receipt.allow,
            rules: receipt.rules,
            lease_until: receipt.lease_until,
            kem: receipt.kem,
            policy: receipt.policy,
            input_digest: receipt.input_digest,
            index,
        };
        match receipt.stage {
            Stage::Propose => {
                if !study.study.contributors.contains(&member) {
                    return void("issuer is not named by the study");
                }
                if study.proposed.contains_key(&member) {
                    return void("verdict given before");
                }
                study.proposed.insert(member, folded);
            }
            Stage::Contribute => {
                let Some(run) = study.runs.get_mut(&receipt.run) else {
                    return void("no such run");
                };
                if !run.contributors.contains(&member) {
                    return void("issuer does not contribute to the run");
                }
                if run.sealed.is_none() {
                    return void("contributors not fixed");
                }
                if run.lost.is_some() {
                    return void("the run was given up");
                }
                if run.receipts.contains_key(&member) {
                    return void("verdict given before");
                }
                if folded.allow && (folded.kem.is_none() || folded.lease_until <= time) {
                    return void("an allow needs a key and a lease");
                }
                run.receipts.insert(member, folded);
            }
            Stage::Release => {
                if study.study.collector != member {
                    return void("issuer is not the collector");
                }
                let Some(run) = study.runs.get_mut(&receipt.run) else {
                    return void("no such run");
                };
                if run.release_gate.is_some() {
                    return void("verdict given before");
                }
                run.release_gate = Some(folded);
            }
        }
        Ok(())
    }

    fn decision_vote(&mut self, index: u64, time: i64, statement: &Statement) -> Fold {
        let vote: DecisionVote = body(statement)?;
        self.seat(statement, SeatRole::Steward)?;
        let member = statement.issuer.clone();
        let Some(study) = self.studies.get_mut(&vote.study).map(Arc::make_mut) else {
            return void("no such study");
        };
        if study.digest != vote.study_digest {
            return void("votes on another document");
        }
        if !study.study.contributors.contains(&member) {
            return void("issuer is not in the electorate");
        }
        if time >= study.closes {
            return void("after the deadline");
        }
        if study.votes.contains_key(&member) {
            return void("voted before");
        }
        match study.proposed.get(&member) {
            None => return void("the issuer's own gate has not spoken"),
            Some(r) if !r.allow && vote.choice == VoteChoice::Yes => {
                return void("the issuer's own gate refuses; no vote can override it");
            }
            Some(_) => {}
        }
        let counted = Vote { choice: vote.choice, seat: statement.actor.clone(), index, time, revoked: None };
        study.votes.insert(member, counted);
        Ok(())
    }

    fn decision_revoke(&mut self, index: u64, statement: &Statement) -> Fold {
        let revoke: DecisionRevoke = body(statement)?;
        let vote = self
            .studies
            .get_mut(&revoke.study)
            .and_then(|s| Arc::make_mut(s).votes.get_mut(&statement.issuer));
        let Some(vote) = vote else {
            return void("no vote to take back");
        };
        if vote.revoked.is_some() {
            return void("taken back before");
        }
        vote.revoked = Some(index);
        Ok(())
    }

    fn run_set(&mut self, index: u64, time: i64, statement: &Statement) -> Fold {
        let set: RunSet = body(statement)?;
        let phase = self.phase(&set.study, time);
        let Some(study) = self.studies.get_mut(&set.study).map(Arc::make_mut) else {
            return void("no such study");
        };
        if !study.study.aggregators.contains(&statement.issuer) {
            return void("issuer is not an aggregator of the study");
        }
        if !is_kem(&set.kem) {
            return void("malformed key");
        }
        if set.run > MAX_RUNS {
            return void("too many runs");
        }
        if crate::document::end_of_day(&study.study.until).is_none_or(|end| time >= end) {
            return void("after the study's last day");
        }
        let left_out = study.left_out(set.run);
        if let Some(run) = study.runs.get_mut(&set.run) {
            if run.contributors != set.contributors || run.plan != set.plan {
                return void("differs from the set that was signed first");
            }
            if run.sealed.is_some() || run.sets.contains_key(&statement.issuer) {
                return void("signed before");
            }
            if run.lost.is_some() {
                return void("the run was given up");
            }
            if !left_out.is_empty() {
                return void("leaves out a member that is ready");
            }
            run.sets.insert(statement.issuer.clone(), set.kem);
            if study.study.aggregators.iter().all(|a| run.sets.contains_key(a)) {
                run.sealed = Some(index);
            }
            return Ok(());
        }
        if set.run != study.next_run() {
            return void("not the next run");
        }
        let Some(Phase::Approved { contributors }) = phase else {
            return void("the study is not approved");
        };
        let all = sorted(&contributors);
        if set.contributors != all {
            // Fewer only for members that are lost: those in it have said that they are ready, those left out have
            // not, and the study's minimum holds (A2).
            let ready: Vec<String> = all.into_iter().filter(|m| study.is_ready(m, set.run)).collect();
            if set.contributors != ready || (ready.len() as u64) < u64::from(study.study.minimum_contributors)
            {
                return void("not the members whose stewards said yes");
            }
        }
        let mut run = Run::new(set.contributors, set.plan, index, time);
        run.sets.insert(statement.issuer.clone(), set.kem);
        study.runs.insert(set.run, run);
        self.run_order.push((set.study, set.run));
        Ok(())
    }

    fn run_ready(&mut self, time: i64, statement: &Statement) -> Fold {
        let ready: RunReady = body(statement)?;
        let phase = self.phase(&ready.study, time);
        let Some(study) = self.studies.get_mut(&ready.study).map(Arc::make_mut) else {
            return void("no such study");
        };
        let member = &statement.issuer;
        // Until the last aggregator has signed, a word for the run that is being set counts too: who left its author
        // out has to begin again.
        let being_set = study.runs.get(&ready.run).is_some_and(|r| r.sealed.is_none() && r.lost.is_none());
        match phase {
            Some(Phase::Approved { contributors }) if contributors.contains(member) => {
                if ready.run != study.next_run() {
                    return void("not the next run");
                }
            }
            Some(Phase::Approved { .. }) => return void("issuer's steward has not said yes"),
            Some(Phase::Running { run }) if run == ready.run && being_set => {
                if !study.has_live_yes(member) {
                    return void("issuer's steward has not said yes");
                }
            }
            _ => return void("the study is not approved"),
        }
        if study.is_ready(member, ready.run) {
            return void("ready before");
        }
        study.ready.insert(member.clone(), ready.run);
        Ok(())
    }

    fn run_mut(&mut self, study: &str, run: u32) -> Result<(&study::Study, &mut Run), String> {
        let s = self.studies.get_mut(study).map(Arc::make_mut).ok_or("no such study")?;
        let r = s.runs.get_mut(&run).ok_or("no such run")?;
        Ok((&s.study, r))
    }

    fn run_join(&mut self, statement: &Statement) -> Fold {
        let join: RunJoin = body(statement)?;
        if !is_kem(&join.kem) {
            return void("malformed key");
        }
        let (study, run) = self.run_mut(&join.study, join.run)?;
        let member = &statement.issuer;
        if !members(study).any(|m| m == member) && &study.collector != member {
            return void("issuer neither collects nor receives");
        }
        if run.joined.contains_key(member) {
            return void("joined before");
        }
        run.joined.insert(member.clone(), join.kem);
        Ok(())
    }

    fn collector_only(statement: &Statement, study: &study::Study) -> Fold {
        if study.collector == statement.issuer { Ok(()) } else { void("issuer is not the collector") }
    }

    fn round_commit(&mut self, statement: &Statement) -> Fold {
        let commit: RoundCommit = body(statement)?;
        let (study, run) = self.run_mut(&commit.study, commit.run)?;
        Self::collector_only(statement, study)?;
        if run.sealed.is_none() {
            return void("contributors not fixed");
        }
        let key = format!("{}/{}", commit.stage, commit.round);
        if run.commits.contains_key(&key) {
            return void("committed before");
        }
        run.commits.insert(key, commit.commitment);
        Ok(())
    }

    fn run_verdict(&mut self, index: u64, statement: &Statement) -> Fold {
        let verdict: RunVerdict = body(statement)?;
        let (study, run) = self.run_mut(&verdict.study, verdict.run)?;
        Self::collector_only(statement, study)?;
        if !run.may_open() {
            return void("contributors have no receipts");
        }
        if !run.commits.contains_key("0/0") {
            return void("no sum of the guard was committed to");
        }
        match run.verdict {
            // A pass may turn into a withholding later in the run, never the other way.
            Some((true, _)) if !verdict.pass && run.release.is_none() => {}
            Some(_) => return void("verdict given before"),
            None => {}
        }
        run.verdict = Some((verdict.pass, index));
        Ok(())
    }

    fn release_publish(&mut self, index: u64, statement: &Statement) -> Fold {
        let release: ReleasePublish = body(statement)?;
        let (study, run) = self.run_mut(&release.study, release.run)?;
        Self::collector_only(statement, study)?;
        if run.release.is_some() {
            return void("released before");
        }
        if run.verdict.is_none_or(|(pass, _)| !pass) {
            return void("the guard has not passed");
        }
        if run.release_gate.as_ref().is_none_or(|g| !g.allow) {
            return void("no receipt of the release gate");
        }
        if run.lost.is_some() {
            return void("the run was given up");
        }
        if release.plan != run.plan || release.contributors != run.contributors {
            return void("lineage differs from the run");
        }
        // All of them and nobody twice: an output that reached nobody is not released.
        if release.sealed.len() != release.recipients.len() || !release.recipients.iter().eq(members(study)) {
            return void("recipients differ from the study's");
        }
        run.release = Some((release, index));
        Ok(())
    }

    fn run_lost(&mut self, index: u64, statement: &Statement) -> Fold {
        let lost: RunLost = body(statement)?;
        if lost.reason.len() > 64 {
            return void("reason longer than 64 bytes");
        }
        let (study, run) = self.run_mut(&lost.study, lost.run)?;
        if !has_part(study, run, &statement.issuer) {
            return void("issuer has no part in the run");
        }
        if run.release.is_some() {
            return void("released before");
        }
        if run.lost.is_none() {
            run.lost = Some(lost.reason);
            run.lost_at = Some(index);
        }
        Ok(())
    }

    fn run_close(&mut self, statement: &Statement) -> Fold {
        let close: RunClose = body(statement)?;
        let (study, run) = self.run_mut(&close.study, close.run)?;
        let member = &statement.issuer;
        if !members(study).any(|m| m == member) && !has_part(study, run, member) {
            return void("issuer has no part in the run");
        }
        if !run.closed.insert(statement.issuer.clone()) {
            return void("closed before");
        }
        Ok(())
    }

    fn state_attest(&mut self, index: u64, statement: &Statement) -> Fold {
        let attest: StateAttest = body(statement)?;
        let every = self.charter.as_ref().ok_or("charter not in force")?.snapshot_every();
        if attest.size == 0 || !attest.size.is_multiple_of(every) {
            return void("not a size at which the state is attested");
        }
        if attest.size > index {
            return void("attests a state that was not there yet");
        }
        if attest.version == 0 || attest.version > self.protocol {
            return void("of a protocol version that was not active");
        }
        let said = (attest.root, attest.version);
        let attests = self.attests.entry(attest.size).or_default();
        if attests.by.contains_key(&statement.issuer) {
            return void("attested before");
        }
        attests.by.insert(statement.issuer.clone(), said);
        // Those who are members now: of who was one at that size, the record up to here says nothing any more.
        let alike = attests.by.iter().filter(|(_, s)| **s == said).map(|(m, _)| m.clone()).collect();
        if attests.agreed.is_none() && decide(&self.roster, &alike) {
            attests.agreed = Some((attest.root, index));
        }
        Ok(())
    }

    fn note_attach(&mut self, index: u64, id: Digest, statement: &Statement) -> Fold {
        let attach: NoteAttach = body(statement)?;
        if !record::sealed::is_padded(&attach.sealed) {
            return void("commitments that are not padded");
        }
        // `seen` holds the note itself already.
        if attach.about == id || !self.seen.contains(&attach.about) {
            return void("no such statement");
        }
        let (by, about, sealed) = (statement.issuer.clone(), attach.about, attach.sealed);
        self.notes.insert(id, Note { by, about, sealed, index, erase: None, erased: BTreeMap::new() });
        Ok(())
    }

    fn record_erase(&mut self, index: u64, statement: &Statement) -> Fold {
        let erase: RecordErase = body(statement)?;
        let Some(note) = self.notes.get_mut(&erase.statement) else {
            return void("no such note");
        };
        if note.by != statement.issuer {
            return void("issuer did not attach the note");
        }
        if note.erase.is_some() {
            return void("asked before");
        }
        note.erase = Some(index);
        Ok(())
    }

    fn record_erased(&mut self, index: u64, statement: &Statement) -> Fold {
        let erased: RecordErased = body(statement)?;
        let Some(note) = self.notes.get_mut(&erased.statement) else {
            return void("no such note");
        };
        if note.erase.is_none() {
            return void("nobody asked to erase it");
        }
        if note.erased.contains_key(&statement.issuer) {
            return void("said before");
        }
        note.erased.insert(statement.issuer.clone(), index);
        Ok(())
    }

    fn evidence_report(&mut self, index: u64, statement: &Statement) -> Fold {
        let report: EvidenceReport = body(statement)?;
        let by = statement.issuer.clone();
        let known = self.reports.get(&report.file);
        if known.is_some_and(|known| known.convicts.is_some() || report.evidence.is_none()) {
            return void("reported before");
        }
        let Some(evidence) = report.evidence else {
            let bare = self.reports.values().filter(|r| r.by == by && r.convicts.is_none());
            if bare.count() >= MAX_REPORTS {
                return void("too many reports without their evidence");
            }
            self.reports.insert(report.file, Report { by, index, convicts: None });
            return Ok(());
        };
        let bytes = evidence.to_bytes().map_err(|_| "evidence is not in canonical form")?;
        if Digest::of(&bytes) != report.file {
            return void("evidence does not match its digest");
        }
        // Judged by the charter and the changes in the file itself; whose key it is and how many may lie, by the record.
        let judged =
            Evidence::read(&bytes).and_then(|e| e.verify(self.charter_digest).map(|guilt| (e, guilt)));
        let (evidence, guilt) = judged.map_err(|_| "the evidence convicts nobody")?;
        if !evidence.stands_in(&guilt, &self.roster) {
            return void("the evidence does not hold by this record's keys and members");
        }
        let (who, term) = (guilt.who, guilt.term);
        let same = |r: &&Report| r.convicts.as_ref().is_some_and(|c| (&c.who, c.term) == (&who, term));
        if self.reports.values().filter(same).count() >= MAX_CONVICTIONS {
            return void("convicted often enough");
        }
        let kind = evidence.claim.kind().to_owned();
        let convicts = Some(Convicted { who, term, key: guilt.key, kind });
        self.reports.insert(report.file, Report { by, index, convicts });
        Ok(())
    }

    fn protocol_activate(&mut self, statement: &Statement) -> Fold {
        let activate: ProtocolActivate = body(statement)?;
        if Some(activate.version) != self.protocol.checked_add(1) {
            return void("not the next protocol version");
        }
        let asked = self.asked.entry(activate.version).or_default();
        if !asked.insert(statement.issuer.clone()) {
            return void("asked before");
        }
        if decide(&self.roster, asked) {
            // Active from the next index: whoever does not know it folds no further.
            self.asked.remove(&activate.version);
            self.protocol = activate.version;
        }
        Ok(())
    }
}

/// Whether these are a quorum of the members: organisations, not seats, and none of the outside witnesses, who fold
/// nothing.
fn decide(roster: &Roster, names: &BTreeSet<String>) -> bool {
    roster.electorate().is_some_and(|e| e.decides(names, None))
}

/// Whether a statement of this type changes the roster of a charter that was proposed.
fn changes_roster(kind: &str) -> bool {
    Roster::reads(kind) && kind != CharterPropose::TYPE && kind != CharterSign::TYPE
}

/// The members among a study's recipients, in its order.
fn members(study: &study::Study) -> impl Iterator<Item = &String> {
    study.recipients.iter().filter_map(|r| match r {
        study::Recipient::Member(member) => Some(member),
        study::Recipient::Outside(_) => None,
    })
}

fn has_part(study: &study::Study, run: &Run, member: &String) -> bool {
    &study.collector == member || study.aggregators.contains(member) || run.contributors.contains(member)
}

fn sorted(names: &[String]) -> Vec<String> {
    let set: BTreeSet<String> = names.iter().cloned().collect();
    set.into_iter().collect()
}

fn role_word(role: SeatRole) -> &'static str {
    match role {
        SeatRole::Steward => "steward",
        SeatRole::Counsel => "counsel",
        SeatRole::Scientist => "scientist",
        SeatRole::Signatory => "signatory",
    }
}

/// Whether `text` can be a key of a run: 1216 bytes in lower-case hexadecimal (X-Wing, RFC 9180 serialisation).
fn is_kem(text: &str) -> bool {
    text.len() == 2432 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
