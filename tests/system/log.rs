//! A record among members and hubs, one after another: with the commands that an operator types, over TLS and files.

use crate::command::{Process, address, at, comity, scratch, soon, until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Members, a hub, and hubs that come next; nobody has any data.
pub struct Log {
    pub members: Vec<&'static str>,
    pub nodes: BTreeMap<&'static str, Process>,
    pub hubs: BTreeMap<String, Process>,
    /// Where each hub listens, by the name of its folder.
    pub addresses: BTreeMap<String, String>,
    /// Whether processes die where [`Log::aim`] says.
    aimed: bool,
    pub dir: tempfile::TempDir,
    pub logs: tempfile::TempDir,
}

impl Log {
    /// Keys, charter, all served, charter and floor in force everywhere.
    pub fn agree(members: &[&'static str]) -> Log {
        Log::agree_in(members, false)
    }

    /// The same; with `aimed`, every process dies where it is told to.
    pub fn agree_in(members: &[&'static str], aimed: bool) -> Log {
        let mut it = Log {
            members: members.to_vec(),
            nodes: BTreeMap::new(),
            hubs: BTreeMap::new(),
            addresses: BTreeMap::new(),
            aimed,
            dir: scratch(),
            logs: scratch(),
        };
        it.init_hub("hub", "A relay (fictitious)");
        let mut charter = format!(
            "federation = \"passed-on\"\ntitle = \"Passed on\"\nsunset = \"2031-12-31\"\nfloor = \"{}\"\n\
             purposes = [\"stroke-research\"]\naggregator_pool = [\"gb\", \"se\"]\n\n\
             [data_access]\nquorum = 2\ndeadline_hours = 72\nvalid_days = 90\n\n\
             [limits]\nlease_hours = 24\nwatermark_minutes = 10\nmin_hidden_sites = 1\n\n{}",
            record::Digest::of(policy::FLOOR.as_bytes()),
            std::fs::read_to_string(it.path("hub").join("hub.toml")).unwrap()
        );
        for id in members {
            let rest = ["--id", id, "--name", &format!("Unit {id}"), "--jurisdiction", &id.to_uppercase()];
            at(&it.path(id), "node init", &rest).exits(0);
            charter.push_str(&std::fs::read_to_string(it.path(id).join("member.toml")).unwrap());
        }
        std::fs::write(it.path("charter.toml"), charter).unwrap();
        it.serve_hub("hub");
        let (charter, hub) = (it.text("charter.toml"), it.addresses["hub"].clone());
        for id in members {
            at(&it.path(id), "node join", &["--charter", &charter, "--hub", &hub]).exits(0);
            it.serve(id);
        }
        for id in members {
            let floor = || {
                let said = at(&it.path(id), "policy show", &["--json"]);
                (said.code == 0 && said.json()["published"] == true).then_some(())
            };
            until("the floor", floor);
        }
        it
    }

    pub fn init_hub(&mut self, name: &str, operator: &str) {
        self.addresses.insert(name.to_string(), address());
        let dir = self.text(name);
        let rest = ["--federation", "passed-on", "--operator", operator, "--jurisdiction", "NL"];
        comity(["hub", "init", "--dir", &dir].iter().chain(&rest)).exits(0);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub fn serve_hub(&mut self, name: &str) {
        self.begin_hub(name);
        let out = self.logs.path().join(format!("{name}.out"));
        let listens =
            || std::fs::read_to_string(&out).unwrap_or_default().contains("listens on").then_some(());
        soon("the hub to listen", listens);
    }

    /// Starts a hub, which may die before it listens.
    pub fn begin_hub(&mut self, name: &str) {
        let _ = std::fs::remove_file(self.logs.path().join(format!("{name}.out")));
        let (dir, listen) = (self.text(name), self.addresses[name].clone());
        let process = self.start(name, &["hub", "serve", "--dir", &dir, "--listen", &listen]);
        self.hubs.insert(name.to_string(), process);
    }

    pub fn serve(&mut self, id: &'static str) {
        self.begin(id);
        let socket = self.path(id).join("control.sock");
        soon("the node to answer", || std::os::unix::net::UnixStream::connect(&socket).ok());
    }

    /// Starts a node, which may die before it answers.
    pub fn begin(&mut self, id: &'static str) {
        let process = self.start(id, &["node", "serve", "--node", &self.text(id)]);
        self.nodes.insert(id, process);
    }

    fn start(&self, name: &str, args: &[&str]) -> Process {
        let [out, log] = ["out", "log"].map(|end| self.logs.path().join(format!("{name}.{end}")));
        if !self.aimed {
            return Process::start(args, &out, &log);
        }
        let aim = self.aim_of(name);
        let environment = [(wire::point::AIM, aim.as_path()), ("COMITY_LOG", "warn".as_ref())];
        Process::start_in(args, (&out, &log), &environment)
    }

    /// The file that tells a process where to die, and afterwards where it died.
    pub fn aim_of(&self, name: &str) -> PathBuf {
        self.logs.path().join(format!("{name}.aim"))
    }

    /// Tells a process to die the so-manieth time that it passes a point.
    pub fn aim(&self, name: &str, passing: u64, point: &str) {
        let new = self.logs.path().join(format!("{name}.aim.new"));
        std::fs::write(&new, format!("{passing} {point}\n")).unwrap();
        std::fs::rename(&new, self.aim_of(name)).unwrap();
    }

    pub fn kill(&mut self, ids: &[&str]) {
        for id in ids {
            self.nodes.remove(*id).unwrap().kill();
        }
    }

    pub fn status(&self, id: &str) -> Value {
        until("a status", || {
            let said = at(&self.path(id), "node status", &["--json"]);
            (said.code != 2).then(|| said.json())
        })
    }

    pub fn sizes(&self, id: &str) -> (u64, u64) {
        let status = self.status(id);
        (status["size"].as_u64().unwrap(), status["watermark"].as_u64().unwrap())
    }

    /// Every entry of the record at a member: type, issuer, status.
    pub fn record(&self, id: &str) -> Vec<(String, String, String)> {
        let text = |e: &Value, key: &str| e[key].as_str().unwrap().to_string();
        let said = until("the record", || {
            let said = at(&self.path(id), "record list", &["--json"]);
            (said.code == 0).then(|| said.json())
        });
        let all = said.as_array().unwrap().iter();
        all.map(|e| (text(e, "type"), text(e, "issuer"), text(e, "status"))).collect()
    }

    /// Makes the hub that comes next, and the file that tells the members of it.
    pub fn prepare(&mut self, next: &str) -> String {
        self.init_hub(next, "Another relay (fictitious)");
        let out = self.text(&format!("{next}.json"));
        let rest = ["--address", &self.addresses[next], "--out", &out];
        let dir = self.text(next);
        comity(["hub", "handover", "prepare", &dir].iter().chain(&rest)).exits(0);
        out
    }

    pub fn sign_off_args(&self, id: &str, next: &str) -> Vec<String> {
        let (dir, next) = (self.text(id), self.text(&format!("{next}.json")));
        let args = ["hub", "handover", "signoff", &dir, "--yes", "--next", &next, "--out"];
        let out = self.text(&format!("{id}.signoff"));
        args.iter().map(|a| a.to_string()).chain([out]).collect()
    }

    pub fn open_args(&self, next: &str, from: &str, ids: &[&str]) -> Vec<String> {
        let args = ["hub", "handover", "open", &self.text(next), "--from", &self.text(from), "--signoffs"];
        let files = ids.iter().map(|id| self.text(&format!("{id}.signoff")));
        args.iter().map(|a| a.to_string()).chain(files).collect()
    }
}
