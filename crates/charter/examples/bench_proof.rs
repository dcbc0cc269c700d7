//! The small proof of a released study in a federation of seven: its size, and the time to verify it against 100 bare
//! Ed25519 verifications in the same process.
//!
//! `cargo run --release -p comity-charter --example bench_proof`
//!
//! The record has 1,100 entries and the default distance between attests; all seven cosign the checkpoint. Prints
//! medians of processor time on one thread, and what the root of the state and a snapshot cost at that size; then size
//! and time of the same proof where members and keys have changed 1, 5 and 20 times, every fifth time because somebody
//! joined.

use charter::body::*;
use charter::proof::{Source, verify_study};
use charter::{Charter, Stage, State, VoteChoice};
use record::canon::Value;
use record::checkpoint::{Checkpoint, Cosignature, SignedCheckpoint};
use record::roster::{ACCEPT, CHANGE, ROTATE, consent};
use record::{Change, Digest, Entry, Log, Rotate, SecretKey, SignedStatement, Statement};
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

/// A holder's key after so many rotations.
fn later(holder: &str, purpose: &str, rotations: u32) -> SecretKey {
    if rotations == 0 { key(holder, purpose) } else { key(holder, &format!("{purpose}-{rotations}")) }
}

/// What a member commits to as its next key.
fn committed(holder: &str, rotations: u32) -> Digest {
    Digest::of(later(holder, "sign", rotations + 1).public().as_bytes())
}

fn charter(committing: bool) -> Result<Charter> {
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
        if committing {
            text += &format!("next = \"{}\"\n", committed(id, 0));
        }
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
    /// How often a member has changed its keys.
    rotations: BTreeMap<String, u32>,
    seals: BTreeMap<u64, String>,
    sealed: Option<SignedCheckpoint>,
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
        let by = later(member, "sign", self.rotations.get(member).copied().unwrap_or(0));
        self.say_with(member, actor, kind, about, body, &by).map(drop)
    }

    fn say_with<T: Serialize>(
        &mut self,
        member: &str,
        actor: &str,
        kind: &str,
        about: &str,
        body: &T,
        by: &SecretKey,
    ) -> Result<Digest> {
        self.time += 1000;
        let mut statement = Statement::new(kind, about, member, actor, body)?;
        statement.valid_from = Some(self.time);
        let entry = Entry::new(self.time, SignedStatement::sign(statement, by)?);
        self.log.append(&entry.to_bytes(), None)?;
        match self.state.apply(&entry) {
            charter::Status::Valid => {}
            charter::Status::Void(why) => return Err(format!("{kind} of {member} is void: {why}").into()),
        }
        let id = entry.signed.id();
        self.entries.push(entry);
        Ok(id)
    }

    /// Everyone who counts cosigns all that there is.
    fn seal(&mut self) -> Result<()> {
        let roster = self.log.roster();
        let (above, size) = (self.sealed.as_ref().map_or(0, |n| n.checkpoint().size()), self.log.size());
        let claimed = Checkpoint::new(&roster.origin, size, self.log.tree().root())?;
        let mut note = claimed.sign(&key("hub", "key"));
        let electorates = roster.electorates(above, size);
        for (id, cosigner) in electorates.iter().flat_map(|e| &e.members) {
            let mut keys = (0..9).map(|n| later(id, "cosign", n));
            let by = keys.find(|k| k.public() == cosigner.key).ok_or("no such key")?;
            note.add(Cosignature::sign(note.checkpoint(), id, 1_767_300_000, &by)?, roster)?;
        }
        if electorates.len() > 1 {
            self.seals.insert(size, note.to_note());
        }
        self.sealed = Some(note);
        Ok(())
    }

    /// The `n`-th change of members or keys, sealed.
    fn change(&mut self, n: u32) -> Result<()> {
        if n % 5 == 4 {
            self.join(&format!("m{n}"))?;
        } else {
            let members: Vec<String> = self.state.roster.members.keys().cloned().collect();
            let member = members.get(n as usize % members.len()).ok_or("nobody")?;
            let number = self.rotations.get(member).copied().unwrap_or(0) + 1;
            let by = later(member, "sign", number);
            let body = Rotate {
                sign: by.public(),
                next: committed(member, number),
                cosign: Some(later(member, "cosign", number).public()),
                cosign_ml: None,
                tls: Some(later(member, "tls", number).public()),
                compromised_since: None,
            };
            self.say_with(member, "operator", ROTATE, member, &body, &by)?;
            self.rotations.insert(member.clone(), number);
        }
        self.seal()
    }

    fn join(&mut self, id: &str) -> Result<()> {
        let public = |purpose: &str| key(id, purpose).public().to_string();
        let text = [
            ("id", id.to_owned()),
            ("name", format!("National Stroke Registry, University Hospital ({id})")),
            ("jurisdiction", "FR".to_owned()),
            ("control", format!("University Hospital ({id}), own premises")),
            ("sign", public("sign")),
            ("cosign", public("cosign")),
            ("tls", public("tls")),
            ("next", committed(id, 0).to_string()),
        ];
        let member: BTreeMap<_, _> = text.into_iter().map(|(k, v)| (k.to_owned(), Value::Str(v))).collect();
        let member = Value::Map(member);
        let charter = self.state.charter_digest.ok_or("no charter")?;
        let consent = key(id, "sign").sign(&consent(&charter, &member)?);
        let members: Vec<String> = self.state.roster.members.keys().cloned().collect();
        let body = BTreeMap::from([("change", Change::Join { member, consent })]);
        let first = members.first().ok_or("nobody")?;
        let by = later(first, "sign", self.rotations.get(first).copied().unwrap_or(0));
        let proposal = self.say_with(first, "operator", CHANGE, id, &body, &by)?;
        for other in members.iter().skip(1) {
            if self.state.roster.members.contains_key(id) {
                break;
            }
            self.say(other, "operator", ACCEPT, id, &BTreeMap::from([("proposal", proposal)]))?;
        }
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

/// A federation of seven in which five contribute to one released study, attested at 1,024 entries by all; before that
/// members and keys change so many times.
fn released(changes: u32) -> Result<(Federation, String)> {
    let mut f = Federation { time: START, ..Federation::default() };
    let charter = charter(changes > 0)?;
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
    for n in 0..changes {
        f.change(n)?;
        for _ in 0..5 {
            f.node("it", NodeResume::TYPE, "node", &NodeResume { reason: "drill".into() })?;
        }
    }
    let mut root = None;
    while f.state.size < 1_100 {
        if f.state.size == 1024 {
            root = Some(f.state.map()?.root());
        }
        if let (Some(root), 1030) = (root, f.state.size) {
            let members: Vec<String> = f.state.roster.members.keys().cloned().collect();
            for member in &members {
                let attest = StateAttest { size: 1024, root, version: 1 };
                f.node(member, StateAttest::TYPE, "state", &attest)?;
            }
        }
        f.node("it", NodeResume::TYPE, "node", &NodeResume { reason: "drill".into() })?;
    }
    f.seal()?;
    Ok((f, id))
}

impl Federation {
    fn source(&self) -> Result<Source<'_>> {
        let checkpoint = self.sealed.as_ref().ok_or("nothing is sealed")?;
        let (state, entries, tree) = (&self.state, self.log.entries(), self.log.tree());
        Ok(Source { state, entries, tree, checkpoint, seals: &self.seals })
    }
}

fn main() -> Result<()> {
    let (f, id) = released(0)?;
    let source = f.source()?;
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
    for changes in [1, 5, 20] {
        let (f, id) = released(changes)?;
        let (proof, pin) = (f.source()?.prove_study(&id)?, f.state.charter_digest);
        let verify = median(|| verify_study(&proof, pin).map(drop).map_err(Into::into))?;
        let ratio = verify.as_secs_f64() / bare.as_secs_f64();
        println!(
            "{changes:>2} changes       {} bytes, {} members, verify {verify:?}, ratio {ratio:.2}",
            proof.len(),
            f.state.roster.members.len()
        );
    }
    Ok(())
}

/// The charter's entry, packed alone.
fn packed_alone(f: &Federation) -> Result<usize> {
    let first = f.entries.first().ok_or("no entry")?;
    Ok(record::proof::pack("", &first.to_bytes())?.len())
}
