//! A federation of nine with keys from seeds, which signs statements, stamps them and folds them.

use charter::body::*;
use charter::{Charter, Phase, Stage, State, Status, VoteChoice};
use record::canon::{self, Value};
use record::{Digest, Entry, SecretKey, SignedStatement, Statement};
use serde::Serialize;
use std::collections::BTreeMap;

pub const MEMBERS: [&str; 9] = ["gb", "it", "pl", "nl", "se", "no", "ch", "au", "ar"];
/// 2026-01-01, midnight, UTC.
pub const START: i64 = 1_767_225_600_000;
pub const HOUR: i64 = 3_600_000;
pub const DAY: i64 = 24 * HOUR;
/// After how many entries the state is attested where a test asks for it.
pub const EVERY: u32 = 36;
pub const FLOOR: &str = "permit (principal, action, resource);";

pub const DICTIONARY: &str = include_str!("../../../../studies/ist/dictionary.toml");
pub const ASPIRIN: &str = include_str!("../../../../studies/ist/aspirin.toml");

pub fn key(holder: &str, purpose: &str) -> SecretKey {
    SecretKey::from_seed(*Digest::of(format!("{holder}/{purpose}").as_bytes()).as_bytes())
}

/// The charter as people write it, one thing in each line.
pub fn charter_toml() -> String {
    let public = |holder: &str, purpose: &str| key(holder, purpose).public();
    let mut text = format!(
        "federation = \"stroke-nine\"\ntitle = \"Nine stroke units\"\nsunset = \"2026-12-31\"\nfloor = \"{}\"\n\
         purposes = [\"stroke-research\"]\naggregator_pool = [\"ch\", \"se\", \"ar\"]\n\n\
         [hub]\noperator = \"Example Trust\"\njurisdiction = \"NL\"\nkey = \"{}\"\ntls = \"{}\"\n\n\
         [data_access]\nquorum = 8\ndeadline_hours = 72\nvalid_days = 90\n\n\
         [limits]\nlease_hours = 24\nwatermark_minutes = 10\nmin_hidden_sites = 3\n",
        Digest::of(FLOOR.as_bytes()),
        public("hub", "key"),
        public("hub", "tls"),
    );
    for id in MEMBERS {
        text += &format!(
            "\n[[members]]\nid = \"{id}\"\nname = \"Stroke unit {id}\"\njurisdiction = \"{}\"\ncontrol = \"unit-{id}\"\n\
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
    text
}

pub fn charter() -> Charter {
    Charter::parse("charter.toml", &charter_toml()).unwrap()
}

pub fn dictionary() -> study::Dictionary {
    study::Dictionary::parse("dictionary.toml", DICTIONARY).unwrap()
}

pub fn aspirin() -> study::Study {
    study::Study::parse_with("aspirin.toml", ASPIRIN, &dictionary()).unwrap()
}

/// The same question under another name, content with eight of the nine.
pub fn named(id: &str) -> study::Study {
    study::Study { id: id.into(), minimum_contributors: 8, ..aspirin() }
}

/// The same question over another population.
pub fn aged(id: &str, max: i64) -> study::Study {
    let mut study = named(id);
    study.population.conditions.push(study::Condition {
        column: "age".into(),
        levels: Vec::new(),
        min: None,
        max: Some(max),
    });
    study
}

pub fn digest_of<T: Serialize>(value: &T) -> Digest {
    Digest::of(&canon::to_bytes(value).unwrap())
}

/// A key of a run, as far as the record can tell.
pub fn kem(holder: &str) -> String {
    Digest::of(holder.as_bytes()).to_string().repeat(38)
}

/// The plan named by every honest set of a study's run.
pub fn plan_of(study: &str) -> Digest {
    Digest::of(format!("plan of {study}").as_bytes())
}

pub fn sorted(names: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
    names.sort();
    names
}

pub fn everyone() -> Vec<String> {
    sorted(&MEMBERS)
}

pub fn without(absent: &str) -> Vec<String> {
    everyone().into_iter().filter(|m| m != absent).collect()
}

/// The state without what every entry changes: size, time, statuses and what was seen.
pub fn bare(state: &State) -> Digest {
    let mut state = state.clone();
    state.size = 0;
    state.time = 0;
    state.statuses.clear();
    state.seen.clear();
    state.digest().unwrap()
}

#[track_caller]
pub fn valid(status: Status) {
    assert_eq!(status, Status::Valid);
}

#[track_caller]
pub fn void(status: Status, reason: &str) {
    assert_eq!(status, Status::Void(reason.to_string()));
}

/// The entries said so far and their fold.
#[derive(Clone)]
pub struct Federation {
    pub entries: Vec<Entry>,
    pub state: State,
    pub time: i64,
}

impl Federation {
    /// Before the first entry.
    pub fn empty() -> Federation {
        Federation { entries: Vec::new(), state: State::new(), time: START }
    }

    /// The charter proposed and signed by all nine.
    pub fn agreed() -> Federation {
        Federation::under(charter())
    }

    /// This charter proposed and signed by all nine.
    pub fn under(charter: Charter) -> Federation {
        let mut f = Federation::empty();
        let digest = charter.digest().unwrap();
        valid(f.propose("gb", charter));
        for member in MEMBERS {
            valid(f.seat(member, "signatory", CharterSign::TYPE, &CharterSign { charter: digest }));
        }
        f
    }

    /// With the dictionary and nine datasets.
    pub fn ready() -> Federation {
        Federation::agreed().prepared()
    }

    /// With the dictionary and nine datasets.
    pub fn prepared(self) -> Federation {
        let mut f = self;
        valid(f.register(dictionary()));
        for member in MEMBERS {
            valid(f.seat(member, "steward", DatasetRegister::TYPE, &dataset("ist")));
        }
        f
    }

    /// With a study that nobody has decided on.
    pub fn asked(study: study::Study) -> Federation {
        let mut f = Federation::ready();
        valid(f.submit(study));
        f
    }

    /// With every gate's allow.
    pub fn gated(study: study::Study) -> Federation {
        let id = study.id.clone();
        let mut f = Federation::asked(study);
        f.all_gates(&id);
        f
    }

    /// With every steward's yes.
    pub fn approved(study: study::Study) -> Federation {
        let id = study.id.clone();
        let mut f = Federation::gated(study);
        f.all_yes(&id);
        f
    }

    /// With contributors fixed by both aggregators.
    pub fn sealed(study: study::Study) -> Federation {
        let id = study.id.clone();
        let mut f = Federation::approved(study);
        valid(f.set("ch", &id, 1, everyone()));
        valid(f.set("se", &id, 1, everyone()));
        f
    }

    /// With keys of the readers, receipts of all contributors and the guard's sum committed to.
    pub fn running(study: study::Study) -> Federation {
        let id = study.id.clone();
        let mut f = Federation::sealed(study);
        valid(f.node("no", RunJoin::TYPE, &RunJoin { study: id.clone(), run: 1, kem: kem("no") }));
        valid(f.node("gb", RunJoin::TYPE, &RunJoin { study: id.clone(), run: 1, kem: kem("gb") }));
        f.all_contribute(&id);
        valid(f.commit("no", &id, 0, 0));
        f
    }

    /// With the output released, under a charter that has the state attested often.
    pub fn released_and_attesting(study: study::Study) -> Federation {
        Federation::released_under(Charter { snapshot_every: Some(EVERY), ..charter() }, study)
    }

    /// With the output released, under this charter.
    pub fn released_under(charter: Charter, study: study::Study) -> Federation {
        let mut f = Federation::under(charter).prepared();
        let id = study.id.clone();
        valid(f.submit(study));
        f.all_gates(&id);
        f.all_yes(&id);
        valid(f.set("ch", &id, 1, everyone()));
        valid(f.set("se", &id, 1, everyone()));
        for reader in ["no", "gb"] {
            valid(f.node(reader, RunJoin::TYPE, &RunJoin { study: id.clone(), run: 1, kem: kem(reader) }));
        }
        f.all_contribute(&id);
        valid(f.commit("no", &id, 0, 0));
        valid(f.verdict("no", &id, true));
        valid(f.release_gate("no", &id, true));
        valid(f.publish("no", &id));
        f
    }

    /// Drills until the record has so many entries.
    pub fn fill(&mut self, size: u64) {
        while self.state.size < size {
            valid(self.node("se", NodeResume::TYPE, &NodeResume { reason: "drill".into() }));
        }
    }

    /// The root of the state after so many entries.
    pub fn root_at(&self, size: u64) -> Digest {
        fold(&self.entries[..usize::try_from(size).unwrap()]).map().unwrap().root()
    }

    pub fn attest(&mut self, member: &str, size: u64, root: Digest) -> Status {
        self.node(member, StateAttest::TYPE, &StateAttest { size, root, version: 1 })
    }

    pub fn ask_version(&mut self, member: &str, version: u32) -> Status {
        self.node(member, ProtocolActivate::TYPE, &ProtocolActivate { version })
    }

    /// With the output released.
    pub fn released(study: study::Study) -> Federation {
        let id = study.id.clone();
        let mut f = Federation::running(study);
        valid(f.verdict("no", &id, true));
        valid(f.release_gate("no", &id, true));
        valid(f.publish("no", &id));
        f
    }

    /// Folds a statement signed with this key; checks that a void one changed nothing.
    pub fn put(&mut self, statement: Statement, by: &SecretKey) -> Status {
        let entry = Entry::new(self.time, SignedStatement::sign(statement, by).unwrap());
        self.enter(entry)
    }

    /// Folds an entry; checks that a void one changed nothing but size, time, status and what was seen.
    #[track_caller]
    pub fn enter(&mut self, entry: Entry) -> Status {
        let before = bare(&self.state);
        let size = self.state.size;
        let status = self.state.apply(&entry).clone();
        self.entries.push(entry);
        assert_eq!(self.state.size, size + 1);
        assert_eq!(self.state.statuses.len() as u64, self.state.size);
        if matches!(status, Status::Void(_)) {
            assert_eq!(before, bare(&self.state), "a void statement changed the state: {status:?}");
        }
        status
    }

    pub fn statement<T: Serialize>(
        &mut self,
        issuer: &str,
        actor: &str,
        r#type: &str,
        body: &T,
    ) -> Statement {
        self.time += 1000;
        let mut statement = Statement::new(r#type, "subject", issuer, actor, body).unwrap();
        statement.valid_from = Some(self.time);
        statement
    }

    /// Said by `actor` of `issuer`, signed with the issuer's key.
    pub fn say<T: Serialize>(&mut self, issuer: &str, actor: &str, r#type: &str, body: &T) -> Status {
        let statement = self.statement(issuer, actor, r#type, body);
        self.put(statement, &key(issuer, "sign"))
    }

    /// Said by a member's software.
    pub fn node<T: Serialize>(&mut self, member: &str, r#type: &str, body: &T) -> Status {
        self.say(member, "node", r#type, body)
    }

    /// Said by a seat of a member.
    pub fn seat<T: Serialize>(&mut self, member: &str, role: &str, r#type: &str, body: &T) -> Status {
        self.say(member, &format!("{member}-{role}"), r#type, body)
    }

    /// What would become of a statement; nothing is entered.
    pub fn would(&self, say: impl FnOnce(&mut Federation) -> Status) -> Status {
        say(&mut self.clone())
    }

    pub fn propose(&mut self, member: &str, charter: Charter) -> Status {
        self.seat(member, "signatory", CharterPropose::TYPE, &CharterPropose { charter })
    }

    pub fn sign(&mut self, member: &str) -> Status {
        let charter = charter().digest().unwrap();
        self.seat(member, "signatory", CharterSign::TYPE, &CharterSign { charter })
    }

    pub fn register(&mut self, dictionary: study::Dictionary) -> Status {
        self.seat("gb", "steward", DictionaryRegister::TYPE, &DictionaryRegister { dictionary })
    }

    pub fn submit(&mut self, study: study::Study) -> Status {
        let plan = plan_of(&study.id);
        self.seat("gb", "scientist", StudySubmit::TYPE, &StudySubmit { study, plan })
    }

    /// An allow or denial at a stage, as an honest node writes it.
    pub fn receipt(&self, member: &str, study: &str, stage: Stage, allow: bool) -> GateReceipt {
        let input = Value::Map(BTreeMap::from([("node".into(), Value::Str(member.into()))]));
        let leased = stage != Stage::Propose && allow;
        GateReceipt {
            study: study.into(),
            run: u32::from(stage != Stage::Propose),
            stage,
            allow,
            rules: vec!["floor/example".into()],
            policy: Digest::of(FLOOR.as_bytes()),
            as_of: self.state.size,
            input_digest: digest_of(&input),
            input,
            engine: "4".into(),
            lease_until: if leased { self.time + 23 * HOUR } else { 0 },
            kem: (stage == Stage::Contribute && allow).then(|| kem(member)),
        }
    }

    pub fn gate(&mut self, member: &str, study: &str, stage: Stage, allow: bool) -> Status {
        let receipt = self.receipt(member, study, stage, allow);
        self.node(member, GateReceipt::TYPE, &receipt)
    }

    pub fn all_gates(&mut self, study: &str) {
        MEMBERS.iter().for_each(|m| valid(self.gate(m, study, Stage::Propose, true)));
    }

    pub fn all_yes(&mut self, study: &str) {
        MEMBERS.iter().for_each(|m| valid(self.vote(m, study, VoteChoice::Yes)));
    }

    pub fn all_contribute(&mut self, study: &str) {
        MEMBERS.iter().for_each(|m| valid(self.gate(m, study, Stage::Contribute, true)));
    }

    pub fn ballot(&self, study: &str, choice: VoteChoice) -> DecisionVote {
        let study_digest = self.state.studies[study].digest;
        DecisionVote { study: study.into(), study_digest, choice }
    }

    pub fn vote(&mut self, member: &str, study: &str, choice: VoteChoice) -> Status {
        let ballot = self.ballot(study, choice);
        self.seat(member, "steward", DecisionVote::TYPE, &ballot)
    }

    pub fn revoke(&mut self, member: &str, study: &str) -> Status {
        self.seat(member, "steward", DecisionRevoke::TYPE, &DecisionRevoke { study: study.into() })
    }

    pub fn set(&mut self, aggregator: &str, study: &str, run: u32, contributors: Vec<String>) -> Status {
        let (plan, kem) = (plan_of(study), kem(aggregator));
        let body = RunSet { study: study.into(), run, contributors, plan, kem };
        self.node(aggregator, RunSet::TYPE, &body)
    }

    pub fn ready_for(&mut self, member: &str, study: &str, run: u32) -> Status {
        self.node(member, RunReady::TYPE, &RunReady { study: study.into(), run })
    }

    pub fn commit(&mut self, member: &str, study: &str, stage: u32, round: u32) -> Status {
        let commitment = Digest::of(b"sum");
        let body = RoundCommit { study: study.into(), run: 1, stage, round, commitment };
        self.node(member, RoundCommit::TYPE, &body)
    }

    pub fn verdict(&mut self, member: &str, study: &str, pass: bool) -> Status {
        self.node(member, RunVerdict::TYPE, &RunVerdict { study: study.into(), run: 1, pass })
    }

    pub fn release_gate(&mut self, member: &str, study: &str, allow: bool) -> Status {
        self.gate(member, study, Stage::Release, allow)
    }

    pub fn output(&self, study: &str) -> ReleasePublish {
        ReleasePublish {
            study: study.into(),
            run: 1,
            output: Digest::of(b"salted output"),
            plan: plan_of(study),
            contributors: everyone(),
            recipients: vec!["gb".into()],
            sealed: vec![Digest::of(b"sealed output")],
        }
    }

    pub fn publish(&mut self, member: &str, study: &str) -> Status {
        let output = self.output(study);
        self.node(member, ReleasePublish::TYPE, &output)
    }

    pub fn lose(&mut self, member: &str, study: &str, run: u32) -> Status {
        let body = RunLost { study: study.into(), run, reason: "no-progress".into() };
        self.node(member, RunLost::TYPE, &body)
    }

    pub fn close(&mut self, member: &str, study: &str) -> Status {
        self.node(member, RunClose::TYPE, &RunClose { study: study.into(), run: 1 })
    }

    pub fn pause(&mut self, member: &str) -> Status {
        let body = DatasetPause { name: "ist".into(), reason: String::new() };
        self.node(member, DatasetPause::TYPE, &body)
    }

    pub fn phase(&self, study: &str) -> Phase {
        self.state.phase(study, self.time).unwrap()
    }
}

pub fn dataset(name: &str) -> DatasetRegister {
    DatasetRegister {
        name: name.into(),
        title: "International Stroke Trial".into(),
        dictionary: "ist-core/1".into(),
        dictionary_digest: dictionary().digest().unwrap(),
        mapping: Digest::of(b"salted mapping"),
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
    }
}

/// The fold of these entries from the start.
pub fn fold(entries: &[Entry]) -> State {
    let mut state = State::new();
    for entry in entries {
        state.apply(entry);
    }
    state
}

/// A sealed remark: what its text and padding are drawn from is the text alone, so that records are the same each time.
pub fn note(about: Digest, text: &str) -> NoteAttach {
    let drawn = |n: u8| *Digest::of(format!("{n} {text}").as_bytes()).as_bytes();
    let salt = drawn(0)[..16].try_into().unwrap();
    let said = record::Disclosure::new("note/text", salt, Value::Str(text.into()));
    let sealed = record::sealed::pad(vec![said.commitment().unwrap()], (1..64).map(drawn));
    NoteAttach { about, sealed }
}

impl Federation {
    /// Says something that holds, and gives its id.
    #[track_caller]
    pub fn seat_id<T: Serialize>(&mut self, member: &str, actor: &str, r#type: &str, body: &T) -> Digest {
        valid(self.say(member, actor, r#type, body));
        self.entries.last().unwrap().signed.id()
    }

    /// Attaches a remark.
    #[track_caller]
    pub fn attach(&mut self, member: &str, about: Digest, text: &str) -> Digest {
        self.seat_id(member, "node", NoteAttach::TYPE, &note(about, text))
    }

    pub fn erase(&mut self, member: &str, statement: Digest) -> Status {
        self.node(member, RecordErase::TYPE, &RecordErase { statement })
    }

    pub fn erased(&mut self, member: &str, statement: Digest) -> Status {
        self.node(member, RecordErased::TYPE, &RecordErased { statement })
    }
}
