//! The harness: members in temporary folders, driven step by step.

use crate::hub::Hub;
use charter::{Charter, Phase};
use node::control::{Command, Reply};
use node::peers::Next as Ask;
use node::term::Next;
use node::{Config, Node};
use record::{Digest, Entry, SignedStatement, Statement};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;
use wire::{Frame, SignedFrame};

pub const DICTIONARY: &str = include_str!("../../../../studies/ist/dictionary.toml");
pub const MAPPING: &str = include_str!("../../../../studies/ist/mapping.toml");
/// 2 March 2026, 23:00 UTC: an hour before midnight, for the tests that cross it.
pub const START: i64 = 1_772_492_400_000;
pub const MINUTE: i64 = 60_000;

/// The eight: id, jurisdiction, the country of the generated trial whose rows it holds. `gb` asks and receives, `ch`
/// and `se` aggregate, `no` collects; `it`, `pl`, `nl` and `be` have no other part, so three stay hidden from each.
pub const EIGHT: [(&str, &str, Option<&str>); 8] = [
    ("gb", "GB", Some("POLA")),
    ("it", "IT", Some("NETH")),
    ("pl", "PL", Some("SWED")),
    ("nl", "NL", Some("AUSL")),
    ("be", "BE", Some("ARGE")),
    ("se", "SE", Some("NORW")),
    ("ch", "CH", None),
    ("no", "NO", None),
];
/// Those of the eight that hold rows.
pub const SIX: [&str; 6] = ["gb", "it", "pl", "nl", "be", "se"];

/// A federation to be built.
pub struct Setup {
    /// Id, jurisdiction, rows as CSV.
    pub members: Vec<(String, String, Option<String>)>,
    pub sunset: String,
    pub floor: Digest,
    pub pool: Vec<String>,
    pub lease_hours: u32,
    pub quorum: u32,
    pub instruments: String,
    /// After how many entries members attest the state, where the charter says so.
    pub attested_every: Option<u32>,
    /// Members that do not sign.
    pub absent: BTreeSet<String>,
    /// Members that adopt no schedule.
    pub unscheduled: BTreeSet<String>,
    /// Members whose counsel does not confirm.
    pub unconfirmed: BTreeSet<String>,
    /// Folder of each member's data.
    pub folder: String,
    /// Members that answer others without the hub.
    pub answering: BTreeSet<String>,
}

pub fn names(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|s| s.to_string()).collect()
}

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|s| s.to_string()).collect()
}

impl Setup {
    pub fn eight() -> Setup {
        static ROWS: OnceLock<BTreeMap<&'static str, String>> = OnceLock::new();
        let rows = ROWS.get_or_init(|| {
            let countries = EIGHT.iter().filter_map(|(_, _, country)| *country);
            countries.map(|c| (c, engine::generate::ist(&[c], 1991))).collect()
        });
        let member = |(id, jurisdiction, country): &(&str, &str, Option<&'static str>)| {
            (id.to_string(), jurisdiction.to_string(), country.and_then(|c| rows.get(c).cloned()))
        };
        Setup {
            members: EIGHT.iter().map(member).collect(),
            sunset: "2031-12-31".into(),
            floor: Digest::of(policy::FLOOR.as_bytes()),
            pool: names(&["ch", "se"]),
            lease_hours: 24,
            quorum: 6,
            instruments: String::new(),
            attested_every: None,
            absent: BTreeSet::new(),
            unscheduled: BTreeSet::new(),
            unconfirmed: BTreeSet::new(),
            folder: "data".into(),
            answering: set(&["gb", "it", "pl", "nl"]),
        }
    }

    pub fn without_schedule(mut self, ids: &[&str]) -> Setup {
        self.unscheduled = set(ids);
        self
    }

    pub fn without_confirmation(mut self, ids: &[&str]) -> Setup {
        self.unconfirmed = set(ids);
        self
    }

    pub fn answering(mut self, ids: &[&str]) -> Setup {
        self.answering = set(ids);
        self
    }

    pub fn without_signature(mut self, ids: &[&str]) -> Setup {
        self.absent = set(ids);
        self
    }

    pub fn attested_every(mut self, entries: u32) -> Setup {
        self.attested_every = Some(entries);
        self
    }

    fn head(&self) -> String {
        let every = self.attested_every.map_or(String::new(), |n| format!("snapshot_every = {n}\n"));
        let pool: Vec<String> = self.pool.iter().map(|p| format!("\"{p}\"")).collect();
        every
            + &format!(
                "federation = \"house\"\ntitle = \"The house of tests\"\nsunset = \"{}\"\nfloor = \"{}\"\n\
             purposes = [\"stroke-research\"]\naggregator_pool = [{}]\n\n[hub]\noperator = \"Relay (fictitious)\"\n\
             jurisdiction = \"NL\"\nkey = \"{}\"\ntls = \"{}\"\n\n[data_access]\nquorum = {}\ndeadline_hours = 72\n\
             valid_days = 90\n\n[limits]\nlease_hours = {}\nwatermark_minutes = 10\nmin_hidden_sites = 3\n\n",
                self.sunset,
                self.floor,
                pool.join(", "),
                Hub::key().public(),
                Hub::tls(),
                self.quorum,
                self.lease_hours,
            )
    }

    /// Members with keys and charter, none of whom has said anything yet.
    fn found(self) -> House {
        let dir = TempDir::new().unwrap();
        let mut text = self.head();
        for (id, jurisdiction, _) in &self.members {
            let config = Config {
                id: id.clone(),
                name: format!("Member {id} (fictitious)"),
                jurisdiction: jurisdiction.clone(),
                control: format!("{id}, own premises"),
                hub: None,
                peer_listen: None,
                proxy: None,
            };
            let next_key = Some(dir.path().join(format!("{id}.next")));
            let endpoint = self.answering.contains(id).then(|| "127.0.0.1:9".to_owned());
            let extras = node::config::Extras { next_key, endpoint, ..Default::default() };
            text.push_str(&node::config::init_with(&dir.path().join(id), &config, &extras).unwrap());
            std::fs::rename(dir.path().join(format!("{id}.next")), dir.path().join(id).join("next.key"))
                .unwrap();
            text.push('\n');
        }
        text.push_str(&self.instruments);
        let charter = Charter::parse("charter.toml", &text).unwrap();
        let mut nodes = BTreeMap::new();
        for (id, _, _) in self.members.iter().filter(|(id, ..)| !self.absent.contains(id)) {
            let folder = dir.path().join(id);
            std::fs::write(folder.join("charter.toml"), &text).unwrap();
            let mut config = Config::read(&folder).unwrap();
            config.hub = Some("127.0.0.1:1".into());
            config.write(&folder).unwrap();
            nodes.insert(id.clone(), Node::open(&folder).unwrap());
        }
        House::new(dir, nodes, Hub::default(), charter, START)
    }

    /// The federation with charter, schedules and datasets as far as the setup lets it come.
    pub fn build(self) -> House {
        let (members, folder) = (self.members.clone(), self.folder.clone());
        let (unscheduled, unconfirmed) = (self.unscheduled.clone(), self.unconfirmed.clone());
        let complete = self.absent.is_empty();
        let mut house = self.found();
        house.settle();
        if !complete {
            return house;
        }
        let library = policy::Library::embedded().unwrap();
        for (id, jurisdiction, _) in members.iter().filter(|(id, ..)| !unscheduled.contains(id)) {
            let text = policy::schedule(library.regime(jurisdiction).unwrap()).unwrap().to_string();
            house.must(id, Command::PolicyAdopt { file: "schedule.toml".into(), text });
        }
        // One owner registers the dictionary, the others find it.
        let mut first = true;
        for (id, _, rows) in &members {
            let Some(rows) = rows else { continue };
            let data = house.folder(id).join(&folder);
            std::fs::create_dir_all(&data).unwrap();
            for (name, text) in
                [("ist.csv", rows.as_str()), ("mapping.toml", MAPPING), ("dictionary.toml", DICTIONARY)]
            {
                std::fs::write(data.join(name), text).unwrap();
            }
            let file = data.join("dataset.toml").display().to_string();
            house.must(id, Command::DatasetAdd { file, text: DATASET.into() });
            if first {
                house.settle();
                first = false;
            }
        }
        house.settle();
        for (id, ..) in
            members.iter().filter(|(id, ..)| !unscheduled.contains(id) && !unconfirmed.contains(id))
        {
            house.must(id, Command::PolicyConfirm { seat: format!("{id}-counsel") });
        }
        house.settle();
        house
    }
}

const DATASET: &str = "name = \"ist\"\ntitle = \"Rows of one country\"\nsource = \"ist.csv\"\nmapping = \"mapping.toml\"\n\
    dictionary = \"dictionary.toml\"\nlegal_basis = \"research (fictitious opinion)\"\npurposes = [\"stroke-research\"]\n\
    retention = \"2031-12-31\"\nprovenance = \"International Stroke Trial, doi 10.7488/ds/104\"\nspecial_category = true\n\
    impact_assessment = \"fictitious\"\noverlap = []\nby_site = false\n";

type KeepOut = Box<dyn Fn(&str, &SignedStatement) -> bool>;
type Relay = Box<dyn FnMut(&SignedFrame) -> Vec<(String, Vec<u8>)>>;

/// A running federation.
pub struct House {
    dir: TempDir,
    pub nodes: BTreeMap<String, Node>,
    pub hub: Hub,
    pub charter: Charter,
    pub now: i64,
    /// Members that the relay does not reach and that do not reach it.
    pub cut: BTreeSet<String>,
    /// Members whose clock does not tick.
    pub asleep: BTreeSet<String>,
    /// Statements that the relay keeps out of the log.
    pub keep_out: KeepOut,
    /// What the relay does with a frame.
    pub relay: Relay,
    /// Every frame that left a member, as it left.
    pub relayed: Vec<Vec<u8>>,
    /// What nodes answered with an error: who, and the words for a log.
    pub errors: Vec<(String, String)>,
    read: BTreeMap<String, usize>,
    told: BTreeMap<String, String>,
}

/// A hub that may take over, with keys drawn from this number; 9 is the second one's.
pub fn next(n: u8) -> Next {
    let public = |n: u8| record::SecretKey::from_seed([n; 32]).public();
    let (operator, jurisdiction) = (format!("Relay {n} (fictitious)"), "NL".to_string());
    let hub = record::HubInfo { operator, jurisdiction, key: public(n), tls: public(n + 1) };
    Next { federation: "house".into(), hub, address: format!("127.0.0.1:{n}") }
}

/// Passes every frame on to whom it is addressed.
pub fn honest() -> Relay {
    Box::new(|frame| vec![(frame.frame().to.clone(), frame.bytes().to_vec())])
}

impl House {
    fn new(dir: TempDir, nodes: BTreeMap<String, Node>, hub: Hub, charter: Charter, now: i64) -> House {
        House {
            dir,
            nodes,
            hub,
            charter,
            now,
            cut: BTreeSet::new(),
            asleep: BTreeSet::new(),
            keep_out: Box::new(|_, _| false),
            relay: honest(),
            relayed: Vec::new(),
            errors: Vec::new(),
            read: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// Eight members with charter, confirmed schedules and datasets; built once, copied for each test.
    pub fn eight() -> House {
        struct Built {
            dir: PathBuf,
            hub: Hub,
            charter: Charter,
            now: i64,
        }
        static BUILT: OnceLock<Built> = OnceLock::new();
        let built = BUILT.get_or_init(|| {
            let House { dir, nodes, hub, charter, now, errors, .. } = Setup::eight().build();
            assert!(errors.is_empty(), "{errors:?}");
            for node in nodes.values() {
                node.flush().unwrap();
            }
            drop(nodes);
            // Datasets stay where they were registered, so the folder outlives the test that built it.
            Built { dir: dir.keep(), hub, charter, now }
        });
        let dir = TempDir::new().unwrap();
        let mut nodes = BTreeMap::new();
        for (id, ..) in EIGHT {
            copy(&built.dir.join(id), &dir.path().join(id));
            nodes.insert(id.to_string(), Node::open(&dir.path().join(id)).unwrap());
        }
        let mut house = House::new(dir, nodes, built.hub.clone(), built.charter.clone(), built.now);
        house.hub.mail.clear();
        house
    }

    pub fn folder(&self, id: &str) -> PathBuf {
        self.dir.path().join(id)
    }

    pub fn ids(&self) -> Vec<String> {
        self.nodes.keys().cloned().collect()
    }

    pub fn node(&self, id: &str) -> &Node {
        &self.nodes[id]
    }

    pub fn pin(&self) -> Digest {
        self.charter.digest().unwrap()
    }

    pub fn cmd(&mut self, id: &str, command: Command) -> Reply {
        let now = self.now;
        self.nodes.get_mut(id).unwrap().handle(command, now)
    }

    pub fn must(&mut self, id: &str, command: Command) -> Reply {
        let reply = self.cmd(id, command);
        assert_eq!(reply.exit, 0, "{id}: {}", reply.text);
        reply
    }

    /// Stops a node's process and opens its folder again, as `serve` does.
    pub fn restart(&mut self, id: &str) {
        let old = self.nodes.remove(id).unwrap();
        old.flush().unwrap();
        drop(old);
        self.crash_and_open(id);
    }

    /// Opens a folder whose process died; what was not durable is gone.
    pub fn crash_and_open(&mut self, id: &str) {
        self.nodes.remove(id);
        let mut node = Node::open(&self.folder(id)).unwrap();
        node.reread_mail(self.now).unwrap();
        let cursor = node.have().unwrap().mail;
        self.read.insert(id.to_string(), usize::try_from(cursor).unwrap());
        self.told.remove(id);
        self.nodes.insert(id.to_string(), node);
    }

    fn note_error<T>(&mut self, id: &str, result: Result<T, node::NodeError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(e) => {
                self.errors.push((id.to_string(), e.public()));
                None
            }
        }
    }

    fn reachable(&self) -> Vec<String> {
        self.nodes.keys().filter(|id| !self.cut.contains(*id)).cloned().collect()
    }

    /// One exchange: what members have goes out, what the relay has comes in, every clock ticks. Whether anything
    /// moved.
    pub fn step(&mut self) -> bool {
        self.now += 20;
        let mut moved = self.send();
        moved |= self.fetch();
        let now = self.now;
        for id in self.ids() {
            if !self.asleep.contains(&id) {
                let result = self.nodes.get_mut(&id).unwrap().tick(now);
                self.note_error(&id, result);
            }
        }
        moved
    }

    fn send(&mut self) -> bool {
        let mut moved = false;
        let now = self.now;
        for id in self.reachable() {
            let node = self.nodes.get_mut(&id).unwrap();
            for (size, line) in node.take_cosignatures().unwrap() {
                self.hub.cosign(size, &line);
            }
            for (name, bytes) in node.queued(now).unwrap() {
                let signed = SignedStatement::from_bytes(&bytes).unwrap();
                if (self.keep_out)(&id, &signed) {
                    continue;
                }
                self.hub.take(&bytes, now);
                node.answered(&name, None, now).unwrap();
                moved = true;
            }
            for (row, bytes) in node.undelivered().unwrap() {
                let signed = SignedFrame::decode(&bytes).unwrap();
                for (to, frame) in (self.relay)(&signed) {
                    self.hub.post(&to, frame);
                }
                self.relayed.push(bytes);
                node.delivered(row).unwrap();
                moved = true;
            }
        }
        moved
    }

    fn fetch(&mut self) -> bool {
        let mut moved = false;
        let now = self.now;
        let note = (self.hub.size() > 0).then(|| self.hub.note());
        for id in self.reachable() {
            let have = self.node(&id).size();
            if have < self.hub.size() {
                let entries = self.hub.entries[have as usize..].to_vec();
                let result = self.nodes.get_mut(&id).unwrap().extend(note.as_ref().unwrap(), &entries, now);
                moved |= self.note_error(&id, result).is_some();
            }
        }
        moved |= self.seal();
        for id in self.reachable() {
            let from = self.read.get(&id).copied().unwrap_or(0);
            let frames: Vec<Vec<u8>> = self.hub.mail.get(&id).map_or(Vec::new(), |m| m[from..].to_vec());
            for (i, frame) in frames.iter().enumerate() {
                let result = self.nodes.get_mut(&id).unwrap().mail((from + i + 1) as u64, frame, now);
                self.note_error(&id, result);
                moved = true;
            }
            self.read.insert(id, from + frames.len());
        }
        moved
    }

    /// One round in which a member looks at another, as their lines do it: compares, fetches, exchanges what is held,
    /// evidence and sign-offs.
    pub fn watch(&mut self, id: &str, with: &str) {
        let now = self.now;
        let mut other = self.nodes.remove(with).unwrap();
        let node = self.nodes.get_mut(id).unwrap();
        let shown = other.peer_checkpoints().unwrap();
        let mut next = node.watch(with, &shown, now).unwrap();
        if let Ask::Consistency(from, to) = next {
            let answer = other.peer_consistency(from, to).unwrap();
            next = node.watch_consistency(with, &answer, now).unwrap();
        }
        let range = match next {
            Ask::Entries(from, to) => Some((from, to)),
            Ask::Audit(index) => Some((index, index + 1)),
            _ => None,
        };
        let mut result = Ok(());
        if let Some((from, to)) = range {
            let (answer, entries) = other.peer_entries(from, to).unwrap().unwrap();
            result = node.watch_entries(with, from, &[answer], &entries, now);
        }
        let (listed, statements) = other.peer_pending().unwrap();
        node.take_pending(with, &listed, &statements, now).unwrap();
        let proofs = other.peer_proofs().unwrap();
        for file in node.wanted_proofs(with, &proofs).unwrap() {
            let body = other.peer_proof(&file).unwrap().unwrap();
            let _ = node.take_proof(with, &body, now).unwrap();
        }
        for body in node.proofs_for(with, &proofs).unwrap() {
            let _ = other.take_proof(id, &body, now).unwrap();
            node.proof_told(with, Digest::of(&body));
        }
        let shown = other.peer_signoffs().unwrap();
        for bytes in &shown {
            let _ = node.take_signoff(bytes).unwrap();
        }
        for bytes in node.signoffs_for(with, &shown).unwrap() {
            let _ = other.take_signoff(&bytes).unwrap();
            node.signoff_told(with, Digest::of(&bytes));
        }
        self.nodes.insert(with.to_string(), other);
        self.note_error(id, result);
    }

    /// Collects cosignatures and shows everyone the checkpoint that a quorum has cosigned.
    fn seal(&mut self) -> bool {
        let mut moved = false;
        let now = self.now;
        for id in self.reachable() {
            for (size, line) in self.nodes.get_mut(&id).unwrap().take_cosignatures().unwrap() {
                self.hub.cosign(size, &line);
            }
        }
        let Some(note) = self.hub.sealed() else { return false };
        for id in self.reachable() {
            if self.told.get(&id) == Some(&note) {
                continue;
            }
            self.show_seals(&id, &note);
            let result = self.nodes.get_mut(&id).unwrap().sealed(&note, now);
            self.note_error(&id, result);
            self.told.insert(id, note.clone());
            moved = true;
        }
        moved
    }

    /// Shows a member what sealed changes that it does not know to be sealed.
    fn show_seals(&mut self, id: &str, note: &str) {
        let size = record::SignedCheckpoint::parse(note).unwrap().checkpoint().size();
        let now = self.now;
        if let Some(after) = self.node(id).wants_seals(size) {
            let seals: Vec<String> = self.hub.seals.range(after + 1..).map(|(_, n)| n.clone()).collect();
            for seal in seals {
                let result = self.nodes.get_mut(id).unwrap().sealed(&seal, now);
                self.note_error(id, result);
            }
        }
    }

    /// The hub is gone with all of its mailboxes, and a second one takes over from `gb`'s mirror with these sign-offs.
    /// Gives the base.
    pub fn pass_on(&mut self, signing: &[String]) -> u64 {
        let mut signoffs = Vec::new();
        for id in signing {
            signoffs.push(self.sign_off(id, &next(9), false));
        }
        self.pass_on_with(&signoffs)
    }

    /// A member signs off for the next hub.
    pub fn sign_off(&mut self, id: &str, next: &Next, instead: bool) -> Vec<u8> {
        let reply = self.must(id, Command::SignOff { next: next.clone(), instead });
        reply.data["statement"].as_str().unwrap().as_bytes().to_vec()
    }

    /// The same with these sign-offs for the second hub.
    pub fn pass_on_with(&mut self, signoffs: &[Vec<u8>]) -> u64 {
        self.node("gb").flush().unwrap();
        let folder = node::term::Folder::open(&self.folder("gb")).unwrap();
        let begun = folder.begin(signoffs).unwrap();
        let base = begun.opening.base;
        let mut second = Hub::default();
        second.second = true;
        folder.entries[..base as usize].iter().for_each(|entry| second.enter(entry));
        second.enter(&Entry::new(self.now, begun.statement).to_bytes());
        self.hub = second;
        self.read.clear();
        self.told.clear();
        let (note, entries, now) = (self.hub.note(), self.hub.entries[base as usize..].to_vec(), self.now);
        for id in self.reachable() {
            let result = self.nodes.get_mut(&id).unwrap().turn(base, &note, &entries, now);
            self.note_error(&id, result);
        }
        base
    }

    /// Opens the node in a folder, of somebody who comes later.
    pub fn comes(&mut self, id: &str) {
        let text = std::fs::read_to_string(self.folder("gb").join("charter.toml")).unwrap();
        std::fs::write(self.folder(id).join("charter.toml"), text).unwrap();
        let mut config = Config::read(&self.folder(id)).unwrap();
        config.hub = Some("127.0.0.1:1".into());
        config.write(&self.folder(id)).unwrap();
        self.nodes.insert(id.to_string(), Node::open(&self.folder(id)).unwrap());
    }

    /// Has everyone cosign the present size again, so that the watermark is young; no clock ticks.
    pub fn refresh(&mut self) {
        let now = self.now;
        let note = self.hub.sealed().unwrap();
        for id in self.reachable() {
            let result = self.nodes.get_mut(&id).unwrap().sealed(&note, now);
            self.note_error(&id, result);
        }
        self.seal();
    }

    /// Steps until nothing moves any more. Errors are the test's to expect.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..600 {
            quiet = if self.step() { 0 } else { quiet + 1 };
            if quiet == 3 {
                return;
            }
        }
        panic!("the federation does not come to rest; errors: {:?}", self.errors);
    }

    /// Steps until nothing moves any more, or that many times: for runs that are tried again and again.
    pub fn settle_or(&mut self, most: usize) {
        let mut quiet = 0;
        for _ in 0..most {
            quiet = if self.step() { 0 } else { quiet + 1 };
            if quiet == 3 {
                return;
            }
        }
    }

    /// Steps until it is so.
    pub fn until(&mut self, what: &str, so: impl Fn(&House) -> bool) {
        for _ in 0..600 {
            if so(self) {
                return;
            }
            self.step();
        }
        panic!("never came: {what}; errors: {:?}", self.errors);
    }

    /// Steps for a while whatever happens.
    pub fn steps(&mut self, number: usize) {
        for _ in 0..number {
            self.step();
        }
    }

    pub fn no_errors(&self) {
        assert!(self.errors.is_empty(), "{:?}", self.errors);
    }

    pub fn phase_at(&self, id: &str, study: &str) -> Option<Phase> {
        self.node(id).state().phase(study, self.now)
    }

    pub fn phase(&self, study: &str) -> Option<Phase> {
        self.phase_at("gb", study)
    }

    pub fn released(&self, study: &str) -> bool {
        matches!(self.phase(study), Some(Phase::Released { .. }))
    }

    /// `gb` asks the study and all gates speak.
    pub fn ask(&mut self, text: &str) {
        self.must("gb", Command::StudySubmit { file: "study.toml".into(), text: text.into() });
        self.settle();
    }

    pub fn approve(&mut self, study: &str, ids: &[&str]) {
        for id in ids {
            self.must(id, Command::DecideApprove { study: study.into() });
        }
    }

    /// Asks a study and lets all six stewards say yes; the run begins with the next steps.
    pub fn ask_and_approve(&mut self, study: &str, text: &str) {
        self.ask(text);
        self.approve(study, &SIX);
    }

    /// The output as its recipient reads it.
    pub fn output(&mut self, study: &str) -> Value {
        self.must("gb", Command::StudyResult { id: study.into() }).data["output"].clone()
    }

    /// A statement in a member's name and under its key, which its node knows nothing of; straight into the log.
    pub fn say_as<T: Serialize>(
        &mut self,
        id: &str,
        kind: &str,
        subject: &str,
        actor: &str,
        body: &T,
    ) -> Digest {
        let mut statement = Statement::new(kind, subject, id, actor, body).unwrap();
        statement.valid_from = Some(self.now);
        let signed = SignedStatement::sign(statement, &self.node(id).keys().sign()).unwrap();
        self.hub.take(&signed.to_bytes(), self.now)
    }

    /// A frame under a member's key, which its node knows nothing of.
    pub fn frame_as(
        &self,
        from: &str,
        key_of: &str,
        to: &str,
        kind: &str,
        like: &Frame,
        body: Vec<u8>,
    ) -> Vec<u8> {
        let place = like.place.clone();
        let frame = Frame::new(from, to, kind, like.federation, place, like.context, body);
        frame.sign(&self.node(key_of).keys().sign()).unwrap().bytes().to_vec()
    }

    /// What became of a statement: `None` if it holds, else why it is void. Panics if it is not in force.
    pub fn void(&self, id: Digest) -> Option<String> {
        let at =
            self.hub.entries.iter().position(|e| Entry::from_bytes(e).unwrap().signed.id() == id).unwrap();
        match &self.node("gb").state().statuses[at] {
            charter::Status::Valid => None,
            charter::Status::Void(why) => Some(why.clone()),
        }
    }

    /// Statements of a type in the log.
    pub fn said(&self, kind: &str) -> Vec<Statement> {
        let entries = self.hub.entries.iter().map(|e| Entry::from_bytes(e).unwrap());
        entries.map(|e| e.signed.statement().clone()).filter(|s| s.r#type == kind).collect()
    }

    /// Frames of a kind that left members; `aggregate` stands for all messages between aggregators.
    pub fn frames(&self, kind: &str) -> Vec<Frame> {
        let frames = self.relayed.iter().map(|b| SignedFrame::decode(b).unwrap().into_frame());
        frames.filter(|f| f.kind == kind || f.kind.starts_with(&format!("{kind}-"))).collect()
    }

    /// Contributions of one member that left it.
    pub fn contributions_of(&self, id: &str) -> usize {
        self.frames("contribution").iter().filter(|f| f.from == id).count()
    }

    /// What a node holds against others, as `from: what`.
    pub fn evidence(&mut self, id: &str) -> Vec<String> {
        let status = self.cmd(id, Command::Status);
        let list = status.data["evidence"].as_array().unwrap().clone();
        list.iter()
            .map(|e| format!("{}: {}", e["from"].as_str().unwrap(), e["what"].as_str().unwrap()))
            .collect()
    }

    /// Whether some evidence at `id` begins with `from` and contains `what`.
    pub fn holds_against(&mut self, id: &str, from: &str, what: &str) -> bool {
        self.evidence(id).iter().any(|e| e.starts_with(&format!("{from}: ")) && e.contains(what))
    }

    pub fn state_digest(&self, id: &str) -> Digest {
        self.node(id).state().digest().unwrap()
    }

    /// One exchange in which the clock of one member is off by so many milliseconds, and the others' are right.
    pub fn step_off(&mut self, id: &str, off: i64) {
        self.cut.insert(id.into());
        self.asleep.insert(id.into());
        self.step();
        self.cut.remove(id);
        self.asleep.remove(id);
        let (now, theirs) = (self.now, self.now + off);
        let mut node = self.nodes.remove(id).unwrap();
        for (size, line) in node.take_cosignatures().unwrap() {
            self.hub.cosign(size, &line);
        }
        for (name, bytes) in node.queued(theirs).unwrap() {
            self.hub.take(&bytes, now);
            node.answered(&name, None, theirs).unwrap();
        }
        for (row, bytes) in node.undelivered().unwrap() {
            let signed = SignedFrame::decode(&bytes).unwrap();
            for (to, frame) in (self.relay)(&signed) {
                self.hub.post(&to, frame);
            }
            self.relayed.push(bytes);
            node.delivered(row).unwrap();
        }
        let entries = self.hub.entries[node.size() as usize..].to_vec();
        let result =
            if entries.is_empty() { Ok(()) } else { node.extend(&self.hub.note(), &entries, theirs) };
        self.note_error(id, result);
        if let Some(note) = self.hub.sealed() {
            let result = node.sealed(&note, theirs);
            self.note_error(id, result);
        }
        let from = self.read.get(id).copied().unwrap_or(0);
        let frames: Vec<Vec<u8>> = self.hub.mail.get(id).map_or(Vec::new(), |m| m[from..].to_vec());
        for (i, frame) in frames.iter().enumerate() {
            let result = node.mail((from + i + 1) as u64, frame, theirs);
            self.note_error(id, result);
        }
        self.read.insert(id.to_string(), from + frames.len());
        let result = node.tick(theirs);
        self.note_error(id, result);
        self.nodes.insert(id.to_string(), node);
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn quoted(ids: &[&str]) -> String {
    ids.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", ")
}

/// A study of the eight's `gb` over one population, with the analyses given as TOML.
pub fn study(id: &str, complete: &[&str], analyses: &str) -> String {
    format!(
        "id = \"{id}\"\ntitle = \"A question\"\npurpose = \"stroke-research\"\ndomain = \"health\"\nrequester = \"gb\"\n\
         collector = \"no\"\naggregators = [\"ch\", \"se\"]\nrecipients = [\"gb\"]\ndataset = \"ist\"\n\
         contributors = [{}]\nminimum_contributors = 6\ndictionary = \"ist-core/1\"\nuntil = \"2030-12-31\"\n\n\
         [protection]\nmin_cell = 11\nmin_hidden_sites = 3\n\n[population]\ncomplete = [{}]\n\n{analyses}",
        quoted(&SIX),
        quoted(complete)
    )
}

/// A study of one count: a guard round and one more.
pub fn count(id: &str) -> String {
    study(
        id,
        &["death14", "aspirin"],
        "[[analysis]]\nid = \"deaths\"\nmethod = \"crosstab\"\nby = [\"death14\", \"aspirin\"]\n",
    )
}

/// A study with a regression: a guard round and one round for each of its steps.
pub fn regression(id: &str) -> String {
    study(
        id,
        &["dead_dep_6m", "age", "sex"],
        "[[analysis]]\nid = \"fit\"\nmethod = \"logistic\"\nformula = \"dead_dep_6m ~ age + sex\"\nevent = \"yes\"\n\
         max_rounds = 12\ngrid = 40\n",
    )
}

/// A file of the shared data folder: in `COMITY_SHARED` if that is set, else beside the repository.
pub fn shared(file: &str, test: &str) -> Option<PathBuf> {
    let found = match std::env::var_os("COMITY_SHARED").map(PathBuf::from) {
        Some(dir) => Some(dir.join("data").join(file)).filter(|path| path.exists()),
        None => Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .map(|dir| dir.join("shared/data").join(file))
            .find(|path| path.exists()),
    };
    if found.is_none() {
        println!("skipped for lack of the real data: {test}");
    }
    found
}
