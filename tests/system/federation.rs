//! A federation made with commands alone, under a test's control.

use crate::command::{Process, Said, address, at, comity, until};
use crate::demo::{copy, demo};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The fewest members that may compute: gb asks and receives, no collects, ch and se aggregate, and four more, of
/// whom three stay hidden even from the fourth.
pub const EIGHT: [(&str, &str); 8] = [
    ("gb", "GB"),
    ("no", "NO"),
    ("ch", "CH"),
    ("se", "SE"),
    ("it", "IT"),
    ("nl", "NL"),
    ("pl", "PL"),
    ("ar", "AR"),
];

pub struct Federation {
    /// Ends before the folder goes.
    pub nodes: BTreeMap<String, Process>,
    pub hub: Option<Process>,
    pub address: String,
    /// Where members reach this one without the hub.
    reached: BTreeMap<String, String>,
    members: Vec<(&'static str, &'static str)>,
    dir: tempfile::TempDir,
    /// Logs and outputs of all processes; outside of every member's folder.
    logs: tempfile::TempDir,
}

impl Federation {
    /// Keys, charter, all served, the charter and the floor in force.
    pub fn agree(members: &[(&'static str, &'static str)]) -> Federation {
        Federation::agree_reached(members, &[])
    }

    /// As `agree`; the others reach some members without the hub.
    pub fn agree_reached(members: &[(&'static str, &'static str)], reached: &[&str]) -> Federation {
        let (dir, logs) = (crate::command::scratch(), crate::command::scratch());
        let mut it = Federation {
            nodes: BTreeMap::new(),
            hub: None,
            address: String::new(),
            reached: reached.iter().map(|id| (id.to_string(), address())).collect(),
            members: members.to_vec(),
            dir,
            logs,
        };
        let hub = it.path("hub").display().to_string();
        let args =
            ["hub", "init", "--dir", &hub, "--federation", "tested", "--operator", "A relay (fictitious)"];
        comity(args.iter().chain(&["--jurisdiction", "NL"])).exits(0);
        for (id, jurisdiction) in members {
            let name = format!("Stroke Unit {id} (tested)");
            let mut rest = vec!["--id", id, "--name", &name, "--jurisdiction", jurisdiction];
            rest.extend(it.reached.get(*id).into_iter().flat_map(|address| ["--endpoint", address]));
            at(&it.path(id), "node init", &rest).exits(0);
        }
        std::fs::write(it.path("charter.toml"), it.charter()).unwrap();
        let listen = "127.0.0.1:0".to_string();
        it.start_hub(&listen);
        let charter = it.path("charter.toml").display().to_string();
        for (id, _) in members {
            at(&it.path(id), "node join", &["--charter", &charter, "--hub", &it.address]).exits(0);
            it.start_node(id);
        }
        for (id, _) in members {
            until("the floor", || (it.ask(id, "policy show", &[])["published"] == true).then_some(()));
        }
        it
    }

    /// As `agree`; also schedules confirmed and the demo's generated rows of each member registered.
    pub fn ready(members: &[(&'static str, &'static str)]) -> Federation {
        Federation::ready_with(members, |_| ())
    }

    /// As `ready`; the others reach some members without the hub.
    pub fn ready_reached(members: &[(&'static str, &'static str)], reached: &[&str]) -> Federation {
        Federation::agree_reached(members, reached).registered(|_| ())
    }

    /// As `ready`, with something done to the members' folders before their data are registered.
    pub fn ready_with(
        members: &[(&'static str, &'static str)],
        prepare: impl FnOnce(&Federation),
    ) -> Federation {
        Federation::agree(members).registered(prepare)
    }

    fn registered(self, prepare: impl FnOnce(&Federation)) -> Federation {
        let it = self;
        for (id, _) in &it.members {
            copy(&demo().node(id).join("data"), &it.path(id).join("data"));
        }
        prepare(&it);
        for (id, _) in &it.members {
            let node = it.path(id);
            at(&node, "policy adopt", &[]).exits(0);
            at(&node, "policy confirm", &["--seat", &format!("{id}-counsel")]).exits(0);
            at(&node, "dataset add", &[&node.join("data/dataset.toml").display().to_string()]).exits(0);
        }
        it
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn logs(&self) -> &Path {
        self.logs.path()
    }

    pub fn ids(&self) -> Vec<&'static str> {
        self.members.iter().map(|(id, _)| *id).collect()
    }

    fn charter(&self) -> String {
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
        let floor = read(demo().dir.join("charter.toml"));
        let floor = floor.lines().find(|l| l.starts_with("floor = ")).unwrap();
        let mut text = format!(
            "federation = \"tested\"\ntitle = \"Tested\"\nsunset = \"2031-12-31\"\n{floor}\n\
             purposes = [\"stroke-research\"]\naggregator_pool = [\"ch\", \"se\"]\n\n\
             [data_access]\nquorum = {}\ndeadline_hours = 72\nvalid_days = 90\n\n\
             [limits]\nlease_hours = 24\nwatermark_minutes = 10\nmin_hidden_sites = 3\n\n{}",
            self.members.len(),
            read(self.path("hub").join("hub.toml")),
        );
        for (id, _) in &self.members {
            text.push_str(&read(self.path(id).join("member.toml")));
        }
        text
    }

    /// Starts the hub, on `127.0.0.1:0` or where it was before.
    pub fn start_hub(&mut self, listen: &str) {
        let out = self.logs().join("hub.out");
        let _ = std::fs::remove_file(&out);
        let dir = self.path("hub").display().to_string();
        let args = ["hub", "serve", "--dir", &dir, "--listen", listen];
        self.hub = Some(Process::start(&args, &out, &self.logs().join("hub.log")));
        self.address = until("the hub to listen", || {
            let said = std::fs::read_to_string(&out).unwrap_or_default();
            said.strip_suffix('\n')?.split("listens on ").nth(1).map(str::to_string)
        });
    }

    pub fn start_node(&mut self, id: &str) {
        let dir = self.path(id).display().to_string();
        let (out, log) = (self.logs().join(format!("{id}.out")), self.logs().join(format!("{id}.log")));
        let mut args = vec!["node", "serve", "--node", &dir];
        args.extend(self.reached.get(id).into_iter().flat_map(|address| ["--peer-listen", address]));
        let process = Process::start(&args, &out, &log);
        self.nodes.insert(id.to_string(), process);
        let socket = self.path(id).join("control.sock");
        until("the node to answer", || std::os::unix::net::UnixStream::connect(&socket).ok());
    }

    pub fn kill_node(&mut self, id: &str) {
        self.nodes.remove(id).unwrap().kill();
    }

    pub fn kill_hub(&mut self) {
        self.hub.take().unwrap().kill();
    }

    /// The JSON of a command that may say no.
    pub fn ask(&self, id: &str, verb: &str, rest: &[&str]) -> Value {
        let rest: Vec<&str> = rest.iter().copied().chain(["--json"]).collect();
        at(&self.path(id), verb, &rest).json()
    }

    pub fn at(&self, id: &str, verb: &str, rest: &[&str]) -> Said {
        at(&self.path(id), verb, rest)
    }

    pub fn phase(&self, id: &str, study: &str) -> String {
        let show = self.at(id, "study show", &[study, "--json"]);
        if show.code != 0 {
            return String::new();
        }
        show.json()["phase"]["phase"].as_str().unwrap_or("").to_string()
    }

    pub fn until_phase(&self, id: &str, study: &str, phase: &str) {
        until(&format!("{study} to be {phase} at {id}"), || {
            let now = self.phase(id, study);
            assert!(now == phase || !matches!(now.as_str(), "withheld" | "refused" | "declined"), "{now}");
            (now == phase).then_some(())
        });
    }

    /// Writes a study of all members; `analysis` is the last part of it.
    pub fn study(&self, id: &str, analysis: &str) -> String {
        self.study_of(id, &self.ids(), analysis)
    }

    /// Writes a study of some members.
    pub fn study_of(&self, id: &str, contributors: &[&str], analysis: &str) -> String {
        let names: Vec<String> = contributors.iter().map(|id| format!("\"{id}\"")).collect();
        let text = format!(
            "id = \"{id}\"\ntitle = \"Tested\"\npurpose = \"stroke-research\"\ndomain = \"health\"\nrequester = \"gb\"\n\
             collector = \"no\"\naggregators = [\"ch\", \"se\"]\nrecipients = [\"gb\"]\ndataset = \"ist\"\n\
             contributors = [{}]\nminimum_contributors = {}\ndictionary = \"ist-core/1\"\nuntil = \"2030-12-31\"\n\n\
             [protection]\nmin_cell = 10\nmin_hidden_sites = 3\n\n\
             [population]\ncomplete = [\"age\", \"sex\", \"sbp\", \"aspirin\", \"recurrence14\", \"dead_dep_6m\"]\n\n{analysis}",
            names.join(", "),
            names.len(),
        );
        let path = self.path(&format!("{id}.toml"));
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Asks a study; every gate has spoken and allowed when this returns.
    pub fn submit(&self, id: &str, analysis: &str) {
        let file = self.study(id, analysis);
        until("everything that the study needs", || {
            (self.at("gb", "study check", &[&file]).code == 0).then_some(())
        });
        self.at("gb", "study submit", &[&file]).exits(0);
        for member in self.ids() {
            self.until_phase(member, id, "awaiting-votes");
        }
    }

    pub fn approve<'i>(&self, study: &str, ids: impl IntoIterator<Item = &'i str>) {
        for id in ids {
            self.at(id, "decide approve", &[study]).exits(0);
        }
    }

    /// The output at gb.
    pub fn result(&self, study: &str) -> Value {
        until(&format!("the output of {study}"), || {
            let said = self.at("gb", "study result", &[study, "--json"]);
            let phase = said.json()["phase"]["phase"].as_str().unwrap_or("").to_string();
            assert!(!matches!(phase.as_str(), "withheld" | "refused" | "declined"), "{study}: {phase}");
            (said.code == 0).then(|| said.json()["output"].clone())
        })
    }

    /// What left a site for a study, without the notices of a stop: time, kind, receiver, bytes.
    pub fn left(&self, id: &str, study: &str) -> Vec<Value> {
        let report = self.ask(id, "node egress", &[]);
        report["rows"].as_array().unwrap().iter().filter(|r| r["study"] == study).cloned().collect()
    }
}

pub const CROSSTAB: &str = "[[analysis]]\nid = \"recurrence\"\nmethod = \"crosstab\"\nby = [\"recurrence14\", \"aspirin\"]\n\n\
     [[analysis]]\nid = \"baseline\"\nmethod = \"describe\"\ncolumns = [\"age\", \"sbp\"]\n";

pub const LOGISTIC: &str = "[[analysis]]\nid = \"dependency\"\nmethod = \"logistic\"\n\
     formula = \"dead_dep_6m ~ age + sex + sbp + aspirin\"\nevent = \"yes\"\nmax_rounds = 12\ngrid = 40\n";
