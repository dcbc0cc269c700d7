//! The small proof of a released study in a federation of seven: its size, and the time to verify it against 100 bare
//! Ed25519 verifications in the same process.
//!
//! `cargo run --release -p comity-charter --example bench_proof`
//!
//! The record has 1,100 entries and the default distance between attests; all seven cosign the checkpoint. Prints
//! medians of processor time on one thread, and what the root of the state and a snapshot cost at that size.

use charter::body::*;
use charter::proof::{Source, verify_study};
use charter::{Charter, Stage, State, VoteChoice};
use record::canon::Value;
use record::checkpoint::{Checkpoint, Cosignature};
use record::{Digest, Entry, Log, SecretKey, SignedStatement, Statement};
use serde::Serialize;
use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

const MEMBERS: [&str; 7] = ["gb", "it", "pl", "nl", "se", "no", "ch"];
const DICTIONARY: &str = include_str!("../../../studies/ist/dictionary.toml");
const STUDY: &str = include_str!("../../../studies/ist/aspirin.toml");
/// 2026-01-01, midnight, UTC.
const START: i64 = 1_767_225_600_000;
const RUNS: usize = 15;
/// Calls in one run: the clock of a thread is not fine.
const CALLS: u32 = 20;
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Processor time of this thread where the system tells it, so that a busy machine does not blur the ratio.
fn clock() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = stat.and_then(|s| s.split_whitespace().next()?.parse().ok());
    nanoseconds
        .map(Duration::from_nanos)
        .unwrap_or_else(|| STARTED.get_or_init(std::time::Instant::now).elapsed())
}

static STARTED: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();

fn median(mut run: impl FnMut() -> Result<()>) -> Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let start = clock();
        (0..CALLS).try_for_each(|_| run())?;
        times.push(clock().saturating_sub(start) / CALLS);
    }
    times.sort_unstable();
    Ok(times.get(RUNS / 2).copied().unwrap_or_default())
}

fn key(holder: &str, purpose: &str) -> SecretKey {
    SecretKey::from_seed(*Digest::of(format!("{holder}/{purpose}").as_bytes()).as_bytes())
}

fn charter() -> Result<Charter> {
    let public = |holder: &str, purpose: &str| key(holder, purpose).public();
    let mut text = format!(
        "federation = \"stroke-seven\"\ntitle = \"Aspirin after acute stroke: seven national stroke registries\"\n\
         sunset = \"2028-12-31\"\nfloor = \"{}\"\npurposes = [\"stroke-research\"]\naggregator_pool = [\"ch\", \"se\"]\n\n\
         [hub]\noperator = \"Example Trust for Health Data\"\njurisdiction = \"NL\"\nkey = \"{}\"\ntls = \"{}\"\n\n\
         [data_access]\nquorum = 5\ndeadline_hours = 72\nvalid_days = 90\n\n\
         [limits]\nlease_hours = 24\nwatermark_minutes = 10\nmin_hidden_sites = 3\n",
        Digest::of(b"the floor"),
        public("hub", "key"),
        public("hub", "tls"),
    );
    for id in MEMBERS {
        text += &format!(
            "\n[[members]]\nid = \"{id}\"\nname = \"National Stroke Registry, University Hospital ({id})\"\n\
             jurisdiction = \"{}\"\ncontrol = \"University Hospital ({id}), own premises\"\n\
             sign = \"{}\"\ncosign = \"{}\"\ntls = \"{}\"\n",
            id.to_uppercase(),
            public(id, "sign"),
            public(id, "cosign"),
            public(id, "tls"),
        );
        for role in ["steward", "counsel", "scientist", "signatory"] {
            text += &format!("[[members.seats]]\nid = \"{id}-{role}\"\nrole = \"{role}\"\n");
        }
    }
    Ok(Charter::parse("charter.toml", &text)?)
}

/// A key of a run: as long and as random as a real one.
fn kem(holder: &str) -> String {
    (0..38).map(|n| Digest::of(format!("{holder}/{n}").as_bytes()).to_string()).collect()
}

#[derive(Default)]
struct Federation {
    entries: Vec<Entry>,
    log: Log,
    state: State,
    time: i64,
}

impl Federation {
    fn say<T: Serialize>(
        &mut self,
        member: &str,
        actor: &str,
        kind: &str,
        about: &str,
        body: &T,
    ) -> Result<()> {
        self.time += 1000;
        let mut statement = Statement::new(kind, about, member, actor, body)?;
        statement.valid_from = Some(self.time);
        let entry = Entry::new(self.time, SignedStatement::sign(statement, &key(member, "sign"))?);
        self.log.append(&entry.to_bytes(), None)?;
        match self.state.apply(&entry) {
            charter::Status::Valid => {}
            charter::Status::Void(why) => return Err(format!("{kind} of {member} is void: {why}").into()),
        }
        self.entries.push(entry);
        Ok(())
    }

    fn node<T: Serialize>(&mut self, member: &str, kind: &str, about: &str, body: &T) -> Result<()> {
        self.say(member, "node", kind, about, body)
    }

    fn seat<T: Serialize>(
        &mut self,
        member: &str,
        role: &str,
        kind: &str,
        about: &str,
        body: &T,
    ) -> Result<()> {
        self.say(member, &format!("{member}-{role}"), kind, about, body)
    }

    fn gate(&mut self, member: &str, study: &str, stage: Stage) -> Result<()> {
        let input = Value::Map(BTreeMap::from([("node".into(), Value::Str(member.into()))]));
        let contribute = stage == Stage::Contribute;
        let receipt = GateReceipt {
            study: study.into(),
            run: u32::from(stage != Stage::Propose),
            stage,
            allow: true,
            rules: Vec::new(),
            policy: Digest::of(format!("policies of {member}").as_bytes()),
            as_of: self.state.size,
            input_digest: Digest::of(&input.to_bytes()?),
            input,
            engine: "4.14".into(),
            lease_until: if contribute { self.time + 3_600_000 } else { 0 },
            kem: contribute.then(|| kem(member)),
        };
        self.node(member, GateReceipt::TYPE, study, &receipt)
    }
}

/// A federation of seven in which five contribute to one released study, attested at 1,024 entries by all.
fn released() -> Result<(Federation, String)> {
    let mut f = Federation { time: START, ..Federation::default() };
    let charter = charter()?;
    let digest = charter.digest()?;
    f.seat("gb", "signatory", CharterPropose::TYPE, "stroke-seven", &CharterPropose { charter })?;
    for member in MEMBERS {
        f.seat(member, "signatory", CharterSign::TYPE, "stroke-seven", &CharterSign { charter: digest })?;
    }
    let dictionary = study::Dictionary::parse("dictionary.toml", DICTIONARY)?;
    let mut study = study::Study::parse_with("aspirin.toml", STUDY, &dictionary)?;
    let contributors = ["gb", "it", "nl", "pl", "se"].map(str::to_string).to_vec();
    study.contributors = contributors.clone();
    study.minimum_contributors = 5;
    (study.collector, study.aggregators) = ("no".into(), vec!["ch".into(), "se".into()]);
    let id = study.id.clone();
    let dictionary_digest = dictionary.digest()?;
    let body = DictionaryRegister { dictionary };
    f.seat("gb", "steward", DictionaryRegister::TYPE, "ist-core/1", &body)?;
    for member in &contributors {
        let dataset = DatasetRegister {
            name: "ist".into(),
            title: "International Stroke Trial".into(),
            dictionary: "ist-core/1".into(),
            dictionary_digest,
            mapping: Digest::of(member.as_bytes()),
            mapping_tested: true,
            legal_basis: "scientific research".into(),
            purposes: vec!["stroke-research".into()],
            retention: "2030-12-31".into(),
            provenance: "doi 10.7488/ds/104".into(),
            special_category: true,
            impact_assessment: None,
            columns: vec!["age".into()],
            overlap: Vec::new(),
            by_site: false,
        };
        f.seat(member, "steward", DatasetRegister::TYPE, "ist", &dataset)?;
    }
    let plan = Digest::of(b"plan");
    let recipients = study.recipients.iter().filter_map(|r| match r {
        study::Recipient::Member(member) => Some(member.clone()),
        study::Recipient::Outside(_) => None,
    });
    let recipients: Vec<String> = recipients.collect();
    f.seat("gb", "scientist", StudySubmit::TYPE, &id, &StudySubmit { study, plan })?;
    let study_digest = f.state.studies.get(&id).ok_or("no study")?.digest;
    for member in &contributors {
        f.gate(member, &id, Stage::Propose)?;
    }
    for member in &contributors {
        let vote = DecisionVote { study: id.clone(), study_digest, choice: VoteChoice::Yes };
        f.seat(member, "steward", DecisionVote::TYPE, &id, &vote)?;
    }
    for aggregator in ["ch", "se"] {
        let (contributors, kem) = (contributors.clone(), kem(aggregator));
        let set = RunSet { study: id.clone(), run: 1, contributors, plan, kem };
        f.node(aggregator, RunSet::TYPE, &id, &set)?;
    }
    for reader in ["no", "gb"] {
        f.node(reader, RunJoin::TYPE, &id, &RunJoin { study: id.clone(), run: 1, kem: kem(reader) })?;
    }
    for member in &contributors {
        f.gate(member, &id, Stage::Contribute)?;
    }
    for stage in 0..3 {
        let commitment = Digest::of(format!("sum {stage}").as_bytes());
        let commit = RoundCommit { study: id.clone(), run: 1, stage, round: 0, commitment };
        f.node("no", RoundCommit::TYPE, &id, &commit)?;
    }
    f.node("no", RunVerdict::TYPE, &id, &RunVerdict { study: id.clone(), run: 1, pass: true })?;
    f.gate("no", &id, Stage::Release)?;
    let release = ReleasePublish {
        study: id.clone(),
        run: 1,
        output: Digest::of(b"output"),
        plan,
        contributors: contributors.clone(),
        sealed: recipients.iter().map(|r| Digest::of(r.as_bytes())).collect(),
        recipients,
    };
    f.node("no", ReleasePublish::TYPE, &id, &release)?;
    let mut root = None;
    while f.state.size < 1_100 {
        if f.state.size == 1024 {
            root = Some(f.state.map()?.root());
        }
        if let (Some(root), 1030) = (root, f.state.size) {
            for member in MEMBERS {
                let attest = StateAttest { size: 1024, root, version: 1 };
                f.node(member, StateAttest::TYPE, "state", &attest)?;
            }
        }
        f.node("it", NodeResume::TYPE, "node", &NodeResume { reason: "drill".into() })?;
    }
    Ok((f, id))
}

fn main() -> Result<()> {
    let (f, id) = released()?;
    let claimed = Checkpoint::new(&f.log.roster().origin, f.log.size(), f.log.tree().root())?;
    let mut checkpoint = claimed.sign(&key("hub", "key"));
    for member in MEMBERS {
        let line = Cosignature::sign(checkpoint.checkpoint(), member, 1_767_300_000, &key(member, "cosign"))?;
        checkpoint.add(line, f.log.roster())?;
    }
    let source = Source { state: &f.state, entries: &f.entries, tree: f.log.tree(), checkpoint: &checkpoint };
    let proof = source.prove_study(&id)?;
    let pin = f.state.charter_digest;
    let content = record::proof::unpack(charter::proof::STUDY, &proof, charter::proof::MAX_STUDY_BYTES)?;
    let whole: usize = f.entries.iter().map(|e| e.to_bytes().len() * 4 / 3).sum();

    let verify = median(|| verify_study(&proof, pin).map(drop).map_err(Into::into))?;
    let message = b"one bare verification";
    let (public, signature) = (key("it", "sign").public(), key("it", "sign").sign(message));
    let bare =
        median(|| (0..100).try_for_each(|_| public.verify_strict(message, &signature)).map_err(Into::into))?;
    let root = median(|| f.state.map().map(drop).map_err(Into::into))?;
    let snapshot = source.snapshot()?;
    let charter_bytes =
        f.state.charter.as_ref().map_or(0, |c| record::canon::to_bytes(c).map_or(0, |b| b.len()));

    println!("small proof      {} bytes ({} unpacked), goal 16384", proof.len(), content.len());
    println!("  of it charter  {charter_bytes} bytes unpacked, {} packed alone", packed_alone(&f)?);
    println!("whole record     about {whole} bytes for {} entries", f.entries.len());
    println!("verify           {verify:?}, goal 10 ms");
    println!("100 bare Ed25519 {bare:?}");
    println!("ratio            {:.2}", verify.as_secs_f64() / bare.as_secs_f64());
    println!("root of state    {root:?} at {} entries", f.state.size);
    println!("snapshot         {} bytes", snapshot.len());
    Ok(())
}

/// The charter's entry, packed alone.
fn packed_alone(f: &Federation) -> Result<usize> {
    let first = f.entries.first().ok_or("no entry")?;
    Ok(record::proof::pack("", &first.to_bytes())?.len())
}
