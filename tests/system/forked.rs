//! A hub that shows two histories to two halves of its federation, with the commands that people type: the halves compare
//! over their own lines, members of both hold the proof, and a stranger verifies the file.

use crate::command::{Process, address, at, comity, scratch, until};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const MEMBERS: [&str; 4] = ["gb", "se", "ch", "no"];

struct Halves {
    processes: BTreeMap<String, Process>,
    at: BTreeMap<&'static str, String>,
    dir: tempfile::TempDir,
    logs: tempfile::TempDir,
}

impl Halves {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn start(&mut self, name: &str, args: &[&str]) {
        let log = |suffix: &str| self.logs.path().join(format!("{name}.{suffix}"));
        let process = Process::start(args, &log("out"), &log("log"));
        self.processes.insert(name.to_string(), process);
    }

    fn serve_hub(&mut self, name: &'static str) {
        let (dir, listen) = (self.text(name), self.at[name].clone());
        self.start(name, &["hub", "serve", "--dir", &dir, "--listen", &listen]);
        until("the hub to listen", || std::net::TcpStream::connect(&listen).ok());
    }

    fn serve(&mut self, id: &'static str) {
        let (dir, listen) = (self.text(id), self.at[id].clone());
        self.start(id, &["node", "serve", "--node", &dir, "--peer-listen", &listen]);
        let socket = self.path(id).join("control.sock");
        until("the node to answer", || std::os::unix::net::UnixStream::connect(&socket).ok());
    }

    fn agree() -> Halves {
        let names = MEMBERS.into_iter().chain(["hub", "copy"]);
        let mut it = Halves {
            processes: BTreeMap::new(),
            at: names.map(|name| (name, address())).collect(),
            dir: scratch(),
            logs: scratch(),
        };
        let rest = ["--federation", "halves", "--operator", "A relay (fictitious)", "--jurisdiction", "NL"];
        comity(["hub", "init", "--dir", &it.text("hub")].iter().chain(&rest)).exits(0);
        let mut charter = format!(
            "federation = \"halves\"\ntitle = \"Halves\"\nsunset = \"2031-12-31\"\nfloor = \"{}\"\n\
             purposes = [\"stroke-research\"]\naggregator_pool = [\"gb\", \"se\"]\n\n\
             [data_access]\nquorum = 2\ndeadline_hours = 72\nvalid_days = 90\n\n\
             [limits]\nlease_hours = 24\nwatermark_minutes = 10\nmin_hidden_sites = 1\n\n{}",
            record::Digest::of(policy::FLOOR.as_bytes()),
            std::fs::read_to_string(it.path("hub").join("hub.toml")).unwrap()
        );
        for id in MEMBERS {
            let name = format!("Unit {id}");
            let rest = ["--id", id, "--name", &name, "--jurisdiction", &id.to_uppercase()];
            let rest = [rest.as_slice(), &["--endpoint", &it.at[id]]].concat();
            at(&it.path(id), "node init", &rest).exits(0);
            charter.push_str(&std::fs::read_to_string(it.path(id).join("member.toml")).unwrap());
        }
        std::fs::write(it.path("charter.toml"), charter).unwrap();
        it.serve_hub("hub");
        let charter = it.text("charter.toml");
        for id in MEMBERS {
            at(&it.path(id), "node join", &["--charter", &charter, "--hub", &it.at["hub"]]).exits(0);
            it.serve(id);
        }
        for id in MEMBERS {
            until("all in force", || {
                let status = at(&it.path(id), "node status", &["--json"]).json();
                let floor = at(&it.path(id), "policy show", &["--json"]).json()["published"] == true;
                (floor && status["size"] == status["watermark"]).then_some(())
            });
        }
        it
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().map(Result::unwrap).filter(|f| f.path().is_file()) {
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[test]
fn two_histories_for_two_halves_are_proved_at_both_by_files_that_convict_the_hub_before_anyone() {
    let mut it = Halves::agree();
    it.processes.clear();
    copy(&it.path("hub"), &it.path("copy"));
    for id in ["ch", "no"] {
        let path = it.path(id).join("node.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let there = text.replace(&it.at["hub"], &it.at["copy"]);
        assert_ne!(text, there);
        std::fs::write(&path, there).unwrap();
    }
    ["hub", "copy"].into_iter().for_each(|name| it.serve_hub(name));
    MEMBERS.into_iter().for_each(|id| it.serve(id));
    // One in each half speaks, so that there are two histories of one size.
    for id in ["gb", "ch"] {
        at(&it.path(id), "node stop", &[]).exits(0);
    }
    let charter = it.text("charter.toml");
    for id in ["gb", "ch"] {
        let found = until(&format!("the proof at {id}"), || {
            let said = at(&it.path(id), "evidence list", &["--json"]);
            let said = (said.code == 0).then(|| said.json())?;
            said["evidence"].as_array()?.iter().find(|e| e["who"] == "hub").cloned()
        });
        at(&it.path(id), "node status", &[]).says("evidence");
        let file = it.text(&format!("{id}.evidence"));
        let beginning = &found["id"].as_str().unwrap()[..8];
        at(&it.path(id), "evidence export", &[beginning, "--out", &file]).exits(0);
        comity(["evidence", "verify", &file, "--charter", &charter]).exits(0).says("the hub").says("PROVED");
        comity(["record", "verify", &file, "--charter", &charter]).exits(0).says("PROVED");
        comity(["evidence", "verify", &file]).exits(1).says("UNPINNED");
        // One byte of a root, a key or a signature, and it proves nothing.
        let mut bytes = std::fs::read(&file).unwrap();
        let at_byte = bytes.len() / 2;
        bytes[at_byte] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        comity(["evidence", "verify", &file, "--charter", &charter]).exits(1).says("PROVES NOTHING");
    }
    comity(["evidence", "verify", &charter])
        .exits(2)
        .says("expected one that `comity evidence export` wrote");
    at(&it.path("gb"), "record verify", &[]).says("open matter: hub");
}
