//! Answers to a member's own people: words for them, data for machines.

use crate::NodeError;
use crate::control::{Command, Reply};
use crate::core::Node;
use crate::facts::Asked;
use crate::store::LocalDataset;
use charter::body::{
    DatasetRegister, DecisionVote, DictionaryRegister, NoteAttach, ScheduleAdopt, ScheduleConfirm,
    StudySubmit,
};
use charter::{Phase, SeatRole, Stage, Status, VoteChoice};
use record::Digest;
use serde::Deserialize;
use serde_json::json;
use std::fmt::Write;
use std::path::Path;
use study::{Dictionary, Mapping, Recipient, StageKind, Study};

/// The description of a dataset, `dataset.toml`: what its owner declares. Paths are relative to the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    name: String,
    title: String,
    source: String,
    mapping: String,
    dictionary: String,
    legal_basis: String,
    purposes: Vec<String>,
    retention: String,
    provenance: String,
    special_category: bool,
    #[serde(default)]
    impact_assessment: Option<String>,
    #[serde(default)]
    overlap: Vec<String>,
    #[serde(default)]
    by_site: bool,
}

/// Cells of a stage that are listed for people.
const SHOWN_CELLS: usize = 64;
/// Facts of a refusal that are listed for people.
const SHOWN_FACTS: usize = 3;

fn read(path: &Path) -> Result<String, NodeError> {
    std::fs::read_to_string(path).map_err(|e| NodeError::io(path, e))
}

impl Node {
    /// Answers a command. Wrong input changes nothing.
    pub fn handle(&mut self, command: Command, now: i64) -> Reply {
        match self.answer(command, now).and_then(|reply| self.store.flush().map(|()| reply)) {
            Ok(reply) => reply,
            Err(e) => Reply::could_not(&e),
        }
    }

    fn answer(&mut self, command: Command, now: i64) -> Result<Reply, NodeError> {
        self.may_say(&command)?;
        match command {
            Command::Status => self.status(now),
            Command::Statement { id } => self.statement(&id),
            Command::PolicyAdopt { file, text } => self.policy_adopt(&file, &text, now),
            Command::PolicyConfirm { seat } => self.policy_confirm(&seat, now),
            Command::PolicyCheck { file, text } => policy_check(&file, &text),
            Command::PolicyShow => self.policy_show(),
            Command::DatasetAdd { file, text } => self.dataset_add(&file, &text, now),
            Command::DatasetList => self.dataset_list(),
            Command::DatasetShow { name } => self.dataset_show(&name),
            Command::DatasetPause { name } => {
                self.own_dataset(&name)?;
                let id = self.pause(&name, now)?;
                let text =
                    format!("`{name}` is paused: nothing leaves it from now on, in running rounds too");
                Ok(Reply::yes(text, json!({ "paused": name })).waiting_for(id.to_string()))
            }
            Command::DatasetResume { name } => {
                self.own_dataset(&name)?;
                let id = self.unpause(&name, now)?;
                let reply = Reply::yes(format!("`{name}` is back in use"), json!({ "resumed": name }));
                Ok(reply.waiting_for(id.to_string()))
            }
            Command::StudyCheck { file, text } => self.study_check(&file, &text, now),
            Command::StudySubmit { file, text } => self.study_submit(&file, &text, now),
            Command::StudyList => self.study_list(now),
            Command::StudyShow { id } => self.study_show(&id, now),
            Command::StudyResult { id } => self.study_result(&id, now),
            Command::DecideList => self.decide_list(now),
            Command::DecideApprove { study } => self.decide(&study, VoteChoice::Yes, now),
            Command::DecideRefuse { study } => self.decide(&study, VoteChoice::No, now),
            Command::RecordList { from } => self.record_list(from),
            Command::RecordShow { index } => self.record_show(index),
            Command::RecordNote { about, text, to } => self.note(&about, &text, &to, now),
            Command::RecordErase { statement, sure } => self.erase(&statement, sure, now),
            Command::RecordVerify => self.record_verify(),
            Command::RecordProve { study, out } => self.record_prove(&study, Path::new(&out)),
            Command::RecordSnapshot { out } => self.record_snapshot(Path::new(&out)),
            Command::BundleExport { study, out } => self.bundle_export(&study, Path::new(&out), now),
            Command::EvidenceList => self.evidence_list(),
            Command::EvidenceExport { id, out } => self.evidence_export(&id, Path::new(&out)),
            Command::SignOff { next, instead } => self.sign_off(&next, instead),
            Command::Follow { next } => self.follow(&next),
            Command::MemberList => self.member_list(),
            Command::MemberPropose { change } => self.member_propose(&change, now),
            Command::MemberAccept { id } => self.member_accept(&id, now),
            Command::MemberLeave => self.member_leave(now),
            Command::KeyRotate(rotation) => self.key_rotate(&rotation, now),
            Command::KeyReaffirm { entries } => self.key_reaffirm(entries, now),
            Command::Egress { since } => self.egress_report(since),
            Command::Stop => {
                let id = self.stop(now)?;
                let text = "stopped: nothing leaves this node from now on, in running rounds too; the others are being told";
                Ok(Reply::yes(text, json!({ "stopped": true })).waiting_for(id.to_string()))
            }
            Command::Resume => {
                let id = self.resume(now)?;
                Ok(Reply::yes("started again", json!({ "stopped": false })).waiting_for(id.to_string()))
            }
        }
    }

    fn status(&self, now: i64) -> Result<Reply, NodeError> {
        let age = now.saturating_sub(self.watermark_time()).max(0);
        let digest = self.state_digest()?;
        let unsigned = self.state.roster.unsigned();
        let evidence = self.store.evidence()?;
        let (watch, peers) = self.peer_status(now)?;
        let cosigned = self
            .member
            .cosigned
            .map(|c| json!({ "term": c.term, "size": c.size, "root": c.root.to_string() }));
        let members = self.agreed().members.len();
        // Organisations count: two seats of one operator once, and witnesses beside the members.
        let organisations =
            self.member.log.roster().electorate().map_or(members, |e| e.organisations() as usize);
        let mut data = json!({
            "member": self.me(), "federation": self.charter.federation, "charter": self.charter_digest.to_string(),
            "in_force": self.state.in_force(), "unsigned": unsigned, "size": self.size(), "watermark": self.watermark(),
            "root": self.member.log.tree().root().to_string(), "cosigned": cosigned,
            "watermark_age_ms": age, "state": digest.to_string(), "stopped": self.stopped, "halted": self.member.halted,
            "paused": self.paused, "evidence": evidence,
            "quorum": self.member.log.roster().quorum(), "members": members, "organisations": organisations,
            "attested": self.state.attested().map(|(size, root)| json!({ "size": size, "root": root.to_string() })),
            "unverified_below": self.attesting.unverified_below(),
            "hub": self.hub().ok().map(|(address, _)| address), "standing": self.standing(), "proxy": self.config.proxy.as_ref().map(ToString::to_string),
        });
        if let (Some(data), serde_json::Value::Object(peers)) = (data.as_object_mut(), peers) {
            data.extend(peers);
        }
        let mut text = format!(
            "{} of federation {}\n  agreement    {} ({})\n  record       {} entries, in force up to {} ({} s old), quorum {} of {}\n  state        {}\n",
            self.me(),
            self.charter.federation,
            self.charter_digest,
            if self.state.in_force() {
                "in force".to_string()
            } else {
                format!("not in force, signatures missing: {}", join(&unsigned))
            },
            self.size(),
            self.watermark(),
            age / 1000,
            self.member.log.roster().quorum(),
            organisations,
            digest,
        );
        if let (Some(hub), Some(proxy)) = (&self.config.hub, &self.config.proxy) {
            let _ = writeln!(text, "  hub          {hub}, through the proxy {proxy}");
        }
        if let Some((size, root)) = self.state.attested() {
            let _ = writeln!(text, "  attested     state root {root} after {size} entries");
        }
        if let Some(size) = self.attesting.unverified_below() {
            let _ = writeln!(text, "  FROM A SNAPSHOT, record not yet verified below {size}: nothing runs");
        }
        text.push_str(&watch);
        text.push_str(&self.standing_words());
        if self.stopped {
            let _ = writeln!(text, "  STOPPED by its operator");
        }
        if let Some(why) = &self.member.halted {
            let _ = writeln!(text, "  HALTED: {why}");
        }
        for e in &evidence {
            let _ = writeln!(text, "  evidence     from {}: {}", e.from, e.what);
        }
        Ok(if self.member.halted.is_some() { Reply::no(text, data) } else { Reply::yes(text, data) })
    }

    fn statement(&self, id: &str) -> Result<Reply, NodeError> {
        let found = self.member.log.entries().iter().position(|e| e.id().to_string() == id);
        let Some(index) = found else {
            let waiting = self.store.keeps(id)?;
            let text = if waiting { "waiting for the hub" } else { "not in the record" };
            return Ok(Reply::no(text, json!({ "index": null, "in_force": false, "waiting": waiting })));
        };
        let in_force = (index as u64) < self.watermark();
        let void = match self.state.statuses.get(index) {
            Some(Status::Void(why)) => Some(why.clone()),
            _ => None,
        };
        let text = match (&void, in_force) {
            (Some(why), _) => format!("entry {index} is void: {why}"),
            (None, true) => format!("entry {index} is in force"),
            (None, false) => format!("entry {index} is pending"),
        };
        Ok(Reply::yes(text, json!({ "index": index, "in_force": in_force, "void": void })))
    }

    fn policy_adopt(&mut self, file: &str, text: &str, now: i64) -> Result<Reply, NodeError> {
        let schedule = policy::Schedule::adopt(file, text)?;
        let regime = schedule.jurisdiction().to_string();
        let as_of = schedule.as_of().to_string();
        let own = self.library.regime(&self.config.jurisdiction).unwrap_or_default().to_string();
        if regime != own {
            return Err(NodeError::Input(format!(
                "{file}: found a schedule for `{regime}`, expected one for `{own}`, the regime of this member"
            )));
        }
        let body = ScheduleAdopt { regime: regime.clone(), as_of: as_of.clone(), text: text.to_string() };
        let actor = self.seat(SeatRole::Counsel)?;
        let id = self.say(ScheduleAdopt::TYPE, &regime, &actor, &body, now)?;
        let text = format!(
            "country schedule {regime} (as of {as_of}) adopted for this member's data; it allows nothing before counsel confirms it"
        );
        Ok(Reply::yes(text, json!({ "regime": regime, "as_of": as_of })).waiting_for(id.to_string()))
    }

    fn policy_confirm(&mut self, seat: &str, now: i64) -> Result<Reply, NodeError> {
        let me = self.me().to_string();
        if !self.agreed().has_seat(&me, seat, SeatRole::Counsel) {
            return Err(NodeError::Input(format!(
                "found seat `{seat}`, expected a counsel seat of `{me}` in the charter"
            )));
        }
        let Some(schedule) = self.state.schedules.get(&me) else {
            return Err(NodeError::Input(
                "no schedule is adopted yet; run `comity policy adopt FILE`".into(),
            ));
        };
        let (regime, digest) = (schedule.regime.clone(), schedule.digest);
        let id =
            self.say(ScheduleConfirm::TYPE, &regime, seat, &ScheduleConfirm { schedule: digest }, now)?;
        let text = format!("country schedule {regime} confirmed by seat {seat}");
        Ok(Reply::yes(text, json!({ "regime": regime, "schedule": digest.to_string() }))
            .waiting_for(id.to_string()))
    }

    fn policy_show(&self) -> Result<Reply, NodeError> {
        let schedule = self.state.schedules.get(self.me());
        let data = json!({
            "floor": self.charter.floor.to_string(), "published": self.state.floor.is_some(),
            "schedule": schedule.map(|s| json!({ "regime": s.regime, "as_of": s.as_of, "digest": s.digest.to_string(),
                "confirmed_by": s.confirmed.as_ref().map(|(seat, _)| seat) })),
        });
        let mut text = format!("floor of the agreement: {}\n", self.charter.floor);
        match schedule {
            None => text.push_str("country schedule: none adopted, so this node allows nothing\n"),
            Some(s) => {
                let by =
                    s.confirmed.as_ref().map_or("nobody yet: it allows nothing", |(seat, _)| seat.as_str());
                let _ = writeln!(
                    text,
                    "country schedule {} as of {}, confirmed by {by}\n\n{}",
                    s.regime, s.as_of, s.text
                );
            }
        }
        if let Some(floor) = &self.state.floor {
            let _ = writeln!(text, "{floor}");
        }
        Ok(Reply::yes(text, data))
    }

    fn dataset_add(&mut self, file: &str, text: &str, now: i64) -> Result<Reply, NodeError> {
        if !self.state.in_force() {
            return Err(NodeError::Input(
                "the charter is not in force; `comity node status` shows who has not signed".into(),
            ));
        }
        let d: Description = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(0, |s| text.get(..s.start).unwrap_or("").matches('\n').count() + 1);
            NodeError::Input(format!(
                "{file}:{line}: found {}, expected a dataset's description",
                e.message()
            ))
        })?;
        let base = Path::new(file).parent().unwrap_or(Path::new("."));
        let source = base.join(&d.source);
        let mapping_path = base.join(&d.mapping);
        let dictionary_path = base.join(&d.dictionary);
        let mapping_text = read(&mapping_path)?;
        let dictionary = Dictionary::parse(&dictionary_path.display().to_string(), &read(&dictionary_path)?)?;
        let mapping = Mapping::parse_with(&mapping_path.display().to_string(), &mapping_text, &dictionary)?;
        if self.state.dataset(&d.name, self.me()).is_some() {
            return Err(NodeError::Input(format!("{file}: dataset `{}` is registered already", d.name)));
        }
        if charter::document::end_of_day(&d.retention).is_none() {
            return Err(NodeError::Input(format!(
                "{file}: found retention `{}`, expected a date YYYY-MM-DD",
                d.retention
            )));
        }
        if let Some((known, _)) = self.state.dictionaries.get(&dictionary.id)
            && *known != dictionary
        {
            return Err(NodeError::Input(format!(
                "{}: differs from the dictionary `{}` on the record; take the registered one or give yours another version",
                dictionary_path.display(),
                dictionary.id
            )));
        }
        // The mapping's own examples run first, then every row of the source.
        let rows = engine::Governed::open(&source, &mapping, &dictionary).map_err(|e| match e {
            e @ engine::EngineError::Example { .. } => {
                NodeError::Input(format!("{}: {e}", mapping_path.display()))
            }
            e => e.into(),
        })?;
        let count = rows.frame().rows;
        let seat = self.seat(SeatRole::Steward)?;
        if !self.state.dictionaries.contains_key(&dictionary.id) {
            let body = DictionaryRegister { dictionary: dictionary.clone() };
            self.say(DictionaryRegister::TYPE, &dictionary.id, &seat, &body, now)?;
        }
        let mut salt = [0u8; 16];
        getrandom::fill(&mut salt).map_err(|_| NodeError::Randomness)?;
        let path = std::fs::canonicalize(&source).map_err(|e| NodeError::io(&source, e))?;
        self.store.add_dataset(&LocalDataset {
            name: d.name.clone(),
            path: path.display().to_string(),
            mapping: mapping_text.clone(),
            salt,
            rows: crate::runner::rows_digest(&salt, rows.frame()).to_string(),
        })?;
        let body = DatasetRegister {
            name: d.name.clone(),
            title: d.title,
            dictionary: dictionary.id.clone(),
            dictionary_digest: dictionary.digest()?,
            mapping: record::salted("comity-mapping/1", &salt, mapping_text.as_bytes()),
            mapping_tested: true,
            legal_basis: d.legal_basis,
            purposes: d.purposes,
            retention: d.retention,
            provenance: d.provenance,
            special_category: d.special_category,
            impact_assessment: d.impact_assessment,
            columns: mapping.column.keys().cloned().collect(),
            overlap: d.overlap,
            by_site: d.by_site,
        };
        let id = self.say(DatasetRegister::TYPE, &d.name, &seat, &body, now)?;
        let text = format!(
            "`{}` mapped and tested here on {count} rows (the count stays here); registered under dictionary {}",
            d.name, dictionary.id
        );
        Ok(Reply::yes(text, json!({ "dataset": d.name, "rows_here": count })).waiting_for(id.to_string()))
    }

    fn own_dataset(&self, name: &str) -> Result<(), NodeError> {
        match self.store.dataset(name)? {
            Some(_) => Ok(()),
            None => Err(NodeError::Input(format!(
                "found no dataset `{name}` at this node; `comity dataset list` shows them"
            ))),
        }
    }

    fn dataset_list(&self) -> Result<Reply, NodeError> {
        let mut text = String::from("dataset              dictionary      retention   purposes\n");
        let mut rows = Vec::new();
        for (key, d) in &self.state.datasets {
            let r = &d.registration;
            let paused = d.paused || (d.owner == self.me() && self.paused.contains(&r.name));
            let _ = writeln!(
                text,
                "{key:<20} {:<15} {}  {}{}",
                r.dictionary,
                r.retention,
                r.purposes.join(", "),
                if paused { "  PAUSED" } else { "" }
            );
            rows.push(json!({ "dataset": key, "owner": d.owner, "paused": paused, "registration": r, "index": d.index }));
        }
        Ok(Reply::yes(text, json!(rows)))
    }

    fn dataset_show(&self, name: &str) -> Result<Reply, NodeError> {
        let key = if name.contains('@') { name.to_string() } else { format!("{name}@{}", self.me()) };
        let Some(d) = self.state.datasets.get(&key) else {
            return Err(NodeError::Input(format!("found no dataset `{key}` on the record")));
        };
        let r = &d.registration;
        let text = format!(
            "{key}: {}\n  dictionary      {}\n  legal basis     {}\n  purposes        {}\n  kept until      {}\n  comes from      {}\n  \
             special cat.    {}\n  assessment      {}\n  columns         {}\n  overlap with    {}\n  output by site  {}\n  in use          {}\n  registered at   entry {}\n",
            r.title,
            r.dictionary,
            r.legal_basis,
            r.purposes.join(", "),
            r.retention,
            r.provenance,
            if r.special_category { "yes" } else { "no" },
            r.impact_assessment.as_deref().unwrap_or("none"),
            r.columns.join(", "),
            if r.overlap.is_empty() { "none declared".into() } else { r.overlap.join(", ") },
            if r.by_site { "allowed" } else { "not allowed" },
            if d.paused { "no, paused" } else { "yes" },
            d.index,
        );
        Ok(Reply::yes(
            text,
            json!({ "dataset": key, "registration": r, "paused": d.paused, "index": d.index }),
        ))
    }

    fn study_submit(&mut self, file: &str, text: &str, now: i64) -> Result<Reply, NodeError> {
        let study = self.parse_study(file, text)?;
        if study.requester != self.me() {
            return Err(NodeError::Input(format!(
                "{file}: found requester `{}`, expected `{}`: a study is asked at its requester's own node",
                study.requester,
                self.me()
            )));
        }
        if self.state.studies.contains_key(&study.id) {
            return Err(NodeError::Input(format!(
                "{file}: study id `{}` is used already; give it a new one",
                study.id
            )));
        }
        let (_, plan) = self.plan_at(&study, self.state.size)?;
        let seat = self.seat(SeatRole::Scientist)?;
        let body = StudySubmit { study: study.clone(), plan };
        let id = self.say(StudySubmit::TYPE, &study.id, &seat, &body, now)?;
        let text =
            format!("study `{}` asked; every named node's gate speaks next, then the stewards", study.id);
        Ok(Reply::yes(text, json!({ "study": study.id, "plan": plan.to_string() }))
            .waiting_for(id.to_string()))
    }

    fn parse_study(&self, file: &str, text: &str) -> Result<Study, NodeError> {
        let study = Study::parse(file, text)?;
        let Some((dictionary, _)) = self.state.dictionaries.get(&study.dictionary) else {
            return Err(NodeError::Input(format!(
                "{file}: found dictionary `{}`, expected one that is registered",
                study.dictionary
            )));
        };
        // Again, so that a fault against the dictionary has its line.
        Ok(Study::parse_with(file, text, dictionary)?)
    }

    fn study_check(&self, file: &str, text: &str, now: i64) -> Result<Reply, NodeError> {
        let study = self.parse_study(file, text)?;
        let (plan, plan_digest) = self.plan_at(&study, self.state.size)?;
        let digest = Digest::of(&record::canon::to_bytes(&study)?);
        let state = self.state.studies.get(&study.id).filter(|s| s.digest == digest);
        let asked =
            Asked { study: &study, digest, state: state.map(AsRef::as_ref), plan: &plan, plan_digest };
        let view = self.view(now);
        let mut out = format!("study {} (dry: policies and plan only, no row is read)\n", study.id);
        let mut all = true;
        let mut verdicts = Vec::new();
        let mut transfers = Vec::new();
        let mut refusals: Vec<Refusal> = Vec::new();
        for member in &study.contributors {
            let gate = view.gate_input(member, &asked, 0, Stage::Propose, None, now);
            transfers.extend(gate.transfers.clone());
            match view.verdict(member, &gate) {
                Ok(v) => {
                    all &= v.allow;
                    let _ = writeln!(out, "  {member:<6} {}", if v.allow { "allow" } else { "DENY" });
                    for d in &v.determining {
                        Refusal::add(&mut refusals, member, d);
                    }
                    verdicts.push(json!({ "node": member, "allow": v.allow, "determining": v.determining, "faults": v.faults }));
                }
                Err(why) => {
                    all = false;
                    let _ = writeln!(out, "  {member:<6} DENY  {why}");
                    verdicts.push(json!({ "node": member, "allow": false, "faults": [why] }));
                }
            }
        }
        for (i, refusal) in refusals.iter().enumerate() {
            refusal.write(&mut out, i + 1, study.contributors.len());
        }
        let _ = writeln!(
            out,
            "\ntransfer basis, every pair (exporter side; * needs and has a signed instrument)"
        );
        let mut grouped: std::collections::BTreeMap<(String, String, String, String, bool), Vec<String>> =
            Default::default();
        for t in &transfers {
            let basis = match (&t.instrument, t.ok) {
                (Some(i), true) => format!("{} *{i}", t.mechanism),
                (None, true) => t.mechanism.clone(),
                _ => format!("NONE (needs {})", t.mechanism),
            };
            let to = format!("{} {} ({})", t.role.as_str(), t.to_party, t.to);
            let key =
                (t.from.clone(), to, basis, format!("{}, {}, as of {}", t.source, t.verified, t.as_of), t.ok);
            grouped.entry(key).or_default().push(t.from_party.clone());
        }
        for ((from, to, basis, source, _), who) in &grouped {
            let _ = writeln!(out, "  {from:<3} {:<14} -> {to:<28} {basis}; {source}", who.join(","));
        }
        let _ = writeln!(out, "\nwhat would leave each site, in {} numbers at most:", plan.numbers_opened());
        for (i, stage) in plan.stages.iter().enumerate() {
            let (what, who) = match stage.kind {
                StageKind::Guard => (
                    "sizes for the release check",
                    "collector and contributors, who each judge it; only a verdict comes out",
                ),
                StageKind::Once => ("sums", "collector alone"),
                StageKind::Iterate { .. } => {
                    ("sums of one iteration", "collector and contributors, who replay the step")
                }
            };
            let _ =
                writeln!(out, "  stage {i}: {what}, at most {} round(s), read by {who}", stage.max_rounds);
            let hidden = stage.layout.cells.len().saturating_sub(SHOWN_CELLS);
            for cell in stage.layout.cells.iter().take(SHOWN_CELLS) {
                let _ = writeln!(
                    out,
                    "    {:<64} from {}, {} bits, resolution 2^-{}",
                    cell.name, cell.lo, cell.bits, cell.shift
                );
            }
            if hidden > 0 {
                let _ = writeln!(out, "    ... and {hidden} more; `--json` lists all");
            }
        }
        let _ = writeln!(out, "\nstill needed:");
        let yes = |m: &String| {
            state.is_some_and(|s| {
                s.votes.get(m).is_some_and(|v| v.choice == VoteChoice::Yes && v.revoked.is_none())
            })
        };
        let missing: Vec<&String> = study.contributors.iter().filter(|m| !yes(m)).collect();
        if state.is_none() {
            let _ = writeln!(out, "  submission by {}", study.requester);
        }
        for m in &missing {
            let _ = writeln!(out, "  a yes of the steward of {}@{m} ({m}-steward)", study.dataset);
        }
        for a in &study.aggregators {
            let _ = writeln!(out, "  the signature of aggregator {a} under the contributor set");
        }
        let data = json!({
            "study": study.id, "allow": all, "verdicts": verdicts, "transfers": transfers, "plan": plan,
            "plan_digest": plan_digest.to_string(), "votes_missing": missing,
        });
        Ok(if all { Reply::yes(out, data) } else { Reply::no(out, data) })
    }

    fn study_list(&self, now: i64) -> Result<Reply, NodeError> {
        let mut text = String::new();
        let mut rows = Vec::new();
        for (id, s) in &self.state.studies {
            let phase = self.state.phase(id, now);
            let _ = writeln!(text, "{id:<20} {:<10} {}", s.study.requester, phase_words(phase.as_ref()));
            rows.push(json!({ "study": id, "requester": s.study.requester, "phase": phase, "title": s.study.title }));
        }
        Ok(Reply::yes(text, json!(rows)))
    }

    fn known_study(&self, id: &str) -> Result<&charter::StudyState, NodeError> {
        self.state.studies.get(id).map(AsRef::as_ref).ok_or_else(|| {
            NodeError::Input(format!("found no study `{id}` on the record; `comity study list` shows them"))
        })
    }

    fn study_show(&self, id: &str, now: i64) -> Result<Reply, NodeError> {
        let s = self.known_study(id)?;
        let phase = self.state.phase(id, now);
        let mut text = format!("{id}: {}\n  stands     {}\n", s.study.title, phase_words(phase.as_ref()));
        let missing = match &phase {
            Some(Phase::Approved { contributors }) => {
                let ready = |m: &&String| !s.is_ready(m, s.next_run());
                contributors.iter().filter(ready).cloned().collect()
            }
            _ => Vec::new(),
        };
        if !missing.is_empty() {
            let _ = writeln!(text, "  waits for  the nodes of {}", missing.join(", "));
        }
        for (member, r) in &s.proposed {
            let verdict =
                if r.allow { "allow".to_string() } else { format!("DENY by {}", r.rules.join(", ")) };
            let _ = writeln!(text, "  gate       {member:<6} {verdict} (entry {})", r.index);
        }
        for (member, v) in &s.votes {
            let revoked = v.revoked.map_or(String::new(), |i| format!(", taken back at entry {i}"));
            let _ = writeln!(
                text,
                "  vote       {member:<6} {:?} by {} (entry {}){revoked}",
                v.choice, v.seat, v.index
            );
        }
        for (number, run) in &s.runs {
            let _ = writeln!(
                text,
                "  run {number}      contributors {}; {} receipts, {} opened sums committed{}",
                run.contributors.join(", "),
                run.receipts.len(),
                run.commits.len(),
                run.lost.as_ref().map_or(String::new(), |why| format!("; given up: {why}"))
            );
        }
        Ok(Reply::yes(text, json!({ "study": s, "phase": phase })))
    }

    fn study_result(&self, id: &str, now: i64) -> Result<Reply, NodeError> {
        let s = self.known_study(id)?;
        let phase = self.state.phase(id, now);
        match phase {
            Some(Phase::Withheld) => {
                return Ok(Reply::no("withheld by disclosure control", json!({ "phase": phase })));
            }
            Some(Phase::Released { .. }) => {}
            _ => {
                let text = format!("no output yet: {}", phase_words(phase.as_ref()));
                return Ok(Reply::no(text, json!({ "phase": phase })));
            }
        }
        let me = self.me();
        if !s.study.recipients.iter().any(|r| matches!(r, Recipient::Member(m) if m == me)) {
            return Ok(Reply::no(format!("released, but not to `{me}`"), json!({ "phase": phase })));
        }
        let Some(content) = self.store.output(id, "recipient")? else {
            return Ok(Reply::no(
                "released; the sealed output has not arrived yet",
                json!({ "phase": phase }),
            ));
        };
        let released: privacy::Released = record::canon::from_bytes_limit(&content, 1 << 20)?;
        let text = crate::verify::render_output(&released);
        Ok(Reply::yes(text, json!({ "phase": phase, "output": released })))
    }

    fn decide_list(&self, now: i64) -> Result<Reply, NodeError> {
        let me = self.me().to_string();
        let mut text = String::new();
        let mut rows = Vec::new();
        for (id, s) in &self.state.studies {
            let open = s.study.contributors.contains(&me) && !s.votes.contains_key(&me) && now < s.closes;
            let allowed = s.proposed.get(&me).is_some_and(|r| r.allow);
            if !open || !allowed {
                continue;
            }
            let hours = (s.closes - now) / 3_600_000;
            let _ = writeln!(
                text,
                "{id:<20} asked by {}, for {}; {hours} h left: {}",
                s.study.requester, s.study.purpose, s.study.title
            );
            rows.push(json!({ "study": id, "requester": s.study.requester, "closes": s.closes, "title": s.study.title }));
        }
        if rows.is_empty() {
            text.push_str("nothing waits for this member's steward\n");
        }
        Ok(Reply::yes(text, json!(rows)))
    }

    fn decide(&mut self, id: &str, choice: VoteChoice, now: i64) -> Result<Reply, NodeError> {
        let me = self.me().to_string();
        let s = self.known_study(id)?;
        let digest = s.digest;
        if !s.study.contributors.contains(&me) {
            return Err(NodeError::Input(format!("study `{id}` does not ask for data of `{me}`")));
        }
        let voted = s.votes.get(&me).cloned();
        let seat = self.seat(SeatRole::Steward)?;
        if let (Some(v), VoteChoice::No) = (&voted, choice)
            && v.choice == VoteChoice::Yes
            && v.revoked.is_none()
        {
            let said = self.revoke(id, now)?;
            let reply = Reply::yes(
                format!("the yes to `{id}` is taken back"),
                json!({ "study": id, "revoked": true, "statement": said.to_string() }),
            );
            return Ok(reply.waiting_for(said.to_string()));
        }
        if voted.is_some() {
            return Err(NodeError::Input(format!("the steward of `{me}` has voted on `{id}` already")));
        }
        let body = DecisionVote { study: id.to_string(), study_digest: digest, choice };
        let said = self.say(DecisionVote::TYPE, id, &seat, &body, now)?;
        let word = if choice == VoteChoice::Yes { "yes" } else { "no" };
        let reply = Reply::yes(
            format!("{seat} votes {word} on `{id}`"),
            json!({ "study": id, "choice": word, "statement": said.to_string() }),
        );
        Ok(reply.waiting_for(said.to_string()))
    }

    fn record_list(&self, from: u64) -> Result<Reply, NodeError> {
        let mut text = String::new();
        let mut rows = Vec::new();
        let skip = usize::try_from(from).unwrap_or(usize::MAX);
        for (index, leaf) in self.member.log.entries().iter().enumerate().skip(skip) {
            let entry = leaf.entry();
            let s = entry.signed.statement();
            let status = match self.state.statuses.get(index) {
                None => "pending".to_string(),
                Some(Status::Valid) if self.is_contested(&s.issuer, index as u64) => {
                    "in force, contested".to_string()
                }
                Some(Status::Valid) => "in force".to_string(),
                Some(Status::Void(why)) => format!("void: {why}"),
            };
            let _ = writeln!(
                text,
                "{index:>5} {} {:<24} {:<12} {:<6} {status}",
                entry.time, s.r#type, s.subject, s.issuer
            );
            let mut row = json!({ "index": index, "time": entry.time, "type": s.r#type, "subject": s.subject,
                "issuer": s.issuer, "actor": s.actor, "status": status });
            if s.r#type == NoteAttach::TYPE
                && let Some((words, data)) = self.note_words(&entry.signed.id())?
            {
                let _ = writeln!(text, "      note: {words}");
                row["note"] = data;
            }
            rows.push(row);
        }
        Ok(Reply::yes(text, json!(rows)))
    }

    fn record_show(&mut self, index: u64) -> Result<Reply, NodeError> {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        let Some(entry) = self.member.log.entries().get(at) else {
            return Err(NodeError::Input(format!(
                "found no entry {index}, expected one below {}",
                self.size()
            )));
        };
        let entry = entry.entry();
        let value: serde_json::Value = serde_json::from_slice(entry.signed.bytes()).unwrap_or_default();
        let pretty = serde_json::to_string_pretty(&value).unwrap_or_default();
        let (id, time) = (entry.signed.id(), entry.time);
        let mut text = format!("entry {index}, stamped {time}, statement {id}\n{pretty}\n");
        let contested = self.is_contested(&entry.signed.statement().issuer, index);
        if contested {
            text.push_str(
                "CONTESTED: said with a key that may have been another's; its issuer has not stood by it\n",
            );
        }
        let mut notes = Vec::new();
        for (note, words, data) in self.notes_about(&id)? {
            let by = data["by"].as_str().unwrap_or_default();
            let _ = writeln!(text, "note of {by} ({note}): {words}");
            notes.push(data);
        }
        Ok(Reply::yes(
            text,
            json!({ "contested": contested, "index": index, "time": time, "id": id.to_string(), "statement": value, "notes": notes }),
        ))
    }
}

/// A rule that refuses, with every node at which it does.
struct Refusal {
    rule: policy::Determining,
    nodes: Vec<String>,
    facts: Vec<String>,
}

impl Refusal {
    fn add(all: &mut Vec<Refusal>, node: &str, rule: &policy::Determining) {
        let at = all.iter().position(|r| r.rule.id == rule.id && r.rule.level == rule.level);
        let mut refusal = match at {
            Some(at) => all.remove(at),
            None => Refusal { rule: rule.clone(), nodes: Vec::new(), facts: Vec::new() },
        };
        refusal.nodes.push(node.to_string());
        for fact in &rule.facts {
            if !refusal.facts.contains(fact) {
                refusal.facts.push(fact.clone());
            }
        }
        all.insert(at.unwrap_or(all.len()), refusal);
    }

    fn write(&self, out: &mut String, number: usize, named: usize) {
        let r = &self.rule;
        let level = match r.level.strip_prefix("schedule:") {
            Some(regime) => format!("country schedule of {regime}"),
            None => "floor of the agreement".to_string(),
        };
        let at = if self.nodes.len() == named { "every node".to_string() } else { self.nodes.join(", ") };
        let _ = writeln!(out, "\n  {number}. {} ({level}; at {at})", r.says);
        for fact in self.facts.iter().take(SHOWN_FACTS) {
            let _ = writeln!(out, "     here:   {fact}");
        }
        if let Some(more) = self.facts.len().checked_sub(SHOWN_FACTS).filter(|n| *n > 0) {
            let _ = writeln!(out, "     here:   ... and {more} more; `--json` lists all");
        }
        let _ = writeln!(out, "     basis:  {}", r.basis);
        let _ = writeln!(out, "     source: {}", r.source);
        let _ = writeln!(out, "     mend:   {}", r.fix);
        let _ = writeln!(out, "     who:    {}", r.who);
        let _ = writeln!(out, "     rule:   {}", r.id);
    }
}

/// Checks a country schedule without a node.
pub fn policy_check(file: &str, text: &str) -> Result<Reply, NodeError> {
    let schedule = policy::Schedule::adopt(file, text)?;
    let text = format!(
        "{file}: a country schedule for {} as of {}: only forbids, every rule with basis and words, its tests pass\n",
        schedule.jurisdiction(),
        schedule.as_of()
    );
    Ok(Reply::yes(text, json!({ "regime": schedule.jurisdiction(), "as_of": schedule.as_of() })))
}

fn join<'a>(items: impl IntoIterator<Item = &'a String>) -> String {
    items.into_iter().cloned().collect::<Vec<_>>().join(", ")
}

/// Where a study stands, in words.
pub fn phase_words(phase: Option<&Phase>) -> String {
    match phase {
        None => "unknown".into(),
        Some(Phase::AwaitingGates { missing }) => format!("waits for the gates of {}", missing.join(", ")),
        Some(Phase::Refused { by }) => format!("REFUSED by the gates of {}", by.join(", ")),
        Some(Phase::AwaitingVotes { missing, yes, needed }) => {
            format!("waits for the stewards of {} ({yes} yes of {needed} needed)", missing.join(", "))
        }
        Some(Phase::Declined { by }) => format!("declined by the stewards of {}", by.join(", ")),
        Some(Phase::Lapsed) => "lapsed: the decision closed without enough votes".into(),
        Some(Phase::Approved { contributors }) => format!("approved; {} contribute", contributors.join(", ")),
        Some(Phase::Running { run }) => format!("run {run} is going on"),
        Some(Phase::GivenUp) => "given up: every run broke; ask again under a new id".into(),
        Some(Phase::Withheld) => "withheld by disclosure control".into(),
        Some(Phase::Released { run }) => format!("released (run {run})"),
    }
}
