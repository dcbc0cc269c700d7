//! A small federation that needs an outside witness, with the commands that people type: three members, two witnesses, of
//! five organisations four; the public at the hub; receipts; and another hub that takes over. And one of three members
//! whose cosignatures are post-quantum too.

use crate::command::{Process, address, at, binary, comity, scratch, until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

const MEMBERS: [&str; 3] = ["gb", "se", "ch"];

struct Small {
    nodes: BTreeMap<&'static str, Process>,
    hub: Option<Process>,
    witnesses: BTreeMap<&'static str, Process>,
    at: BTreeMap<&'static str, String>,
    dir: tempfile::TempDir,
    logs: tempfile::TempDir,
}

impl Small {
    /// Keys and charter; the hub is served, with its checkpoints and tiles for all to read. No witness is, and no member.
    fn found(witnesses: &[&'static str], hybrid: bool) -> Small {
        let at_all = ["hub", "next", "public", "w1", "w2"].map(|name| (name, address()));
        let mut it = Small {
            nodes: BTreeMap::new(),
            hub: None,
            witnesses: BTreeMap::new(),
            at: BTreeMap::from(at_all),
            dir: scratch(),
            logs: scratch(),
        };
        it.init_hub("hub");
        let mut charter = format!(
            "federation = \"small\"\ntitle = \"Small\"\nsunset = \"2031-12-31\"\nfloor = \"{}\"\n\
             purposes = [\"stroke-research\"]\naggregator_pool = [\"gb\", \"se\"]\n\n\
             [data_access]\nquorum = 2\ndeadline_hours = 72\nvalid_days = 90\n\n\
             [limits]\nlease_hours = 24\nwatermark_minutes = 10\nmin_hidden_sites = 1\n\n{}{}",
            record::Digest::of(policy::FLOOR.as_bytes()),
            if hybrid { "[cosigning]\nscheme = \"hybrid\"\n\n" } else { "" },
            std::fs::read_to_string(it.path("hub").join("hub.toml")).unwrap()
        );
        for id in MEMBERS {
            let rest = ["--id", id, "--name", &format!("Unit {id}"), "--jurisdiction", &id.to_uppercase()];
            let rest = rest.iter().copied().chain(hybrid.then_some("--post-quantum"));
            at(&it.path(id), "node init", &rest.collect::<Vec<_>>()).exits(0);
            charter.push_str(&std::fs::read_to_string(it.path(id).join("member.toml")).unwrap());
        }
        for id in witnesses {
            let name = format!("{id}.example/w");
            let made = comity(["witness", "init", &it.text(id), "--name", &name, "--json"]).exits(0).json();
            charter.push_str(&format!(
                "\n[[witnesses]]\nname = \"{name}\"\noperator = \"Regulator {id}\"\nkey = {}\nurl = \"http://{}\"\n",
                made["key"], it.at[*id]
            ));
            let known = ["witness", "add-log", &it.text(id), "--origin", "comity/small", "--key"];
            comity(known.iter().copied().chain([it.hub_key("hub").as_str()])).exits(0);
        }
        std::fs::write(it.path("charter.toml"), charter).unwrap();
        it.serve_hub("hub");
        it
    }

    fn init_hub(&self, name: &str) {
        let dir = self.text(name);
        let operator = format!("The relay {name} (fictitious)");
        let rest = ["--federation", "small", "--operator", &operator, "--jurisdiction", "NL"];
        comity(["hub", "init", "--dir", &dir].iter().chain(&rest)).exits(0);
    }

    fn hub_key(&self, name: &str) -> String {
        let part = std::fs::read_to_string(self.path(name).join("hub.toml")).unwrap();
        let line = part.lines().find(|line| line.starts_with("key")).unwrap();
        line.split('"').nth(1).unwrap().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn start(&self, name: &str, args: &[&str]) -> Process {
        let log = |suffix: &str| self.logs.path().join(format!("{name}.{suffix}"));
        let _ = std::fs::remove_file(log("out"));
        let process = Process::start(args, &log("out"), &log("log"));
        let told = || std::fs::read_to_string(log("out")).unwrap_or_default().contains("listens on");
        until("it to listen", || told().then_some(()));
        process
    }

    fn serve_hub(&mut self, name: &'static str) {
        let (dir, tiles) = (self.text(name), self.text("tiles"));
        let mut args = vec!["hub", "serve", "--dir", &dir, "--listen", &self.at[name]];
        if name == "hub" {
            args.extend(["--public", &self.at["public"], "--tiles", &tiles]);
        }
        self.hub = Some(self.start(name, &args));
    }

    fn serve_witness(&mut self, id: &'static str) {
        let args = ["witness", "serve", &self.text(id), "--listen", &self.at[id]];
        let process = self.start(id, &args);
        self.witnesses.insert(id, process);
    }

    fn serve(&mut self, id: &'static str) {
        let log = |suffix: &str| self.logs.path().join(format!("{id}.{suffix}"));
        let args = ["node", "serve", "--node", &self.text(id)];
        self.nodes.insert(id, Process::start(&args, &log("out"), &log("log")));
        let socket = self.path(id).join("control.sock");
        until("the node to answer", || std::os::unix::net::UnixStream::connect(&socket).ok());
    }

    fn status(&self, id: &str) -> Value {
        until("a status", || {
            let said = at(&self.path(id), "node status", &["--json"]);
            (said.code != 2).then(|| said.json())
        })
    }

    /// Entries that a member has, and how many of them are in force.
    fn sizes(&self, id: &str) -> (u64, u64) {
        let status = self.status(id);
        (status["size"].as_u64().unwrap(), status["watermark"].as_u64().unwrap())
    }

    fn all_in_force(&self, at_least: u64) -> u64 {
        let all = |id: &str| {
            let (size, watermark) = self.sizes(id);
            (size == watermark && size >= at_least).then_some(size)
        };
        MEMBERS.map(|id| until(&format!("all in force at {id}"), || all(id)))[0]
    }

    /// What the public gets under a path.
    fn public(&self, path: &str) -> String {
        let mut line = std::net::TcpStream::connect(&self.at["public"]).unwrap();
        write!(line, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        line.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// A witness that dies by SIGKILL at each of its named points once, and is served again each time.
struct Dying {
    args: Vec<String>,
    points: PathBuf,
    child: Child,
    deaths: usize,
}

impl Dying {
    fn serve(it: &Small, id: &str) -> Dying {
        let args = ["witness", "serve", &it.text(id), "--listen", &it.at[id]].map(str::to_string).to_vec();
        let points = it.logs.path().join(format!("{id}.points"));
        let child = Dying::child(&args, &points);
        Dying { args, points, child, deaths: 0 }
    }

    fn child(args: &[String], points: &PathBuf) -> Child {
        let mut command = Command::new(binary());
        command.args(args).env("COMITY_DIE_ONCE", points).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null()).spawn().unwrap()
    }

    fn tend(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            assert_eq!(status.signal(), Some(9), "{status}");
            self.deaths += 1;
            self.child = Dying::child(&self.args, &self.points);
        }
    }
}

impl Drop for Dying {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn three_members_go_on_with_a_witness_that_dies_with_another_in_its_place_and_with_the_next_hub() {
    let mut it = Small::found(&["w1", "w2"], false);
    it.init_hub("other");
    comity(["hub", "serve", "--dir", &it.text("other"), "--listen", "127.0.0.1:0", "--public", "127.0.0.1"])
        .exits(2)
        .says("expected HOST:PORT");
    let mut dying = Dying::serve(&it, "w1");
    let charter = it.text("charter.toml");
    for id in MEMBERS {
        at(&it.path(id), "node join", &["--charter", &charter, "--hub", &it.at["hub"]]).exits(0);
        it.serve(id);
    }
    // Four of five are needed and three are members: nothing is in force without the witness, which dies twice.
    until("the floor in force", || {
        dying.tend();
        let said = at(&it.path("gb"), "policy show", &["--json"]);
        (said.code == 0 && said.json()["published"] == true && dying.deaths == 2).then_some(())
    });
    let points = std::fs::read_to_string(&dying.points).unwrap();
    assert_eq!(
        points.lines().collect::<Vec<_>>(),
        ["witness decided, not kept", "witness kept, not answered"]
    );
    let before = it.all_in_force(4);
    at(&it.path("gb"), "node status", &[]).exits(0).says("quorum 4 of 5");
    drop(dying);

    // Without it nothing more is; with the other it is.
    at(&it.path("gb"), "node stop", &[]).exits(0);
    until("the stop to be cosigned by members alone", || {
        let (size, watermark) = it.sizes("se");
        assert_eq!(watermark, before, "three of four");
        (size > before).then_some(())
    });
    it.serve_witness("w2");
    let stopped = it.all_in_force(before + 1);

    // The public reads checkpoints with the witness's line, and no entry.
    let note = until("the witness's line", || {
        let note = it.public("/checkpoint");
        note.contains("\u{2014} w2.example/w ").then_some(note)
    });
    assert!(note.contains("\r\n\r\ncomity/small\n"), "{note}");
    assert!(it.public("/tile/entries/000").starts_with("HTTP/1.1 404"), "entries are for members");
    until("the tiles", || it.path("tiles").join("checkpoint").exists().then_some(()));

    // A receipt is checked with nothing but the entry and the hub's key.
    let said = at(&it.path("gb"), "record show", &[&(stopped - 1).to_string(), "--json"]).exits(0).json();
    let (id, out) = (said["id"].as_str().unwrap().to_string(), it.text("stop.cose"));
    at(&it.path("gb"), "record receipt", &["--statement", &id, "--out", &out]).exits(0);
    let (entry, key) = (format!("{out}.entry"), it.hub_key("hub"));
    let verify =
        |key: &str| comity(["record", "receipt", "verify", &out, "--statement", &entry, "--key", key]);
    verify(&key).exits(0).says("valid");
    verify(&record::SecretKey::from_seed([9; 32]).public().to_string()).exits(1).says("not valid");

    hands_over(&mut it, stopped);
}

#[test]
fn where_the_charter_asks_for_both_kinds_members_and_hub_count_post_quantum_cosignatures_too() {
    let mut it = Small::found(&[], true);
    let charter = it.text("charter.toml");
    for id in MEMBERS {
        at(&it.path(id), "node join", &["--charter", &charter, "--hub", &it.at["hub"]]).exits(0);
        it.serve(id);
    }
    let before = it.all_in_force(4);
    at(&it.path("gb"), "node stop", &[]).exits(0);
    let size = it.all_in_force(before + 1);
    // What is in force holds two lines of each of a quorum at least, a short one and one of 2,420 bytes more.
    let note = it.public("/checkpoint");
    assert!(note.contains(&format!("comity/small\n{size}\n")), "{note}");
    let lines = |id: &str, long: bool| {
        let begins = format!("\u{2014} {id} ");
        note.lines().any(|line| line.starts_with(&begins) && (line.len() > 3000) == long)
    };
    let both = MEMBERS.iter().filter(|id| lines(id, true) && lines(id, false)).count();
    assert!(both >= 2, "{note}");
    // A node and a hub that were killed read them again.
    it.nodes.clear();
    it.hub.take().unwrap().kill();
    it.serve_hub("hub");
    for id in MEMBERS {
        it.serve(id);
    }
    at(&it.path("gb"), "node resume", &[]).exits(0);
    it.all_in_force(size + 1);
    at(&it.path("se"), "record verify", &[]).exits(0);
}

/// The hub dies with an entry that the witness alone has cosigned, and the next one begins below it.
fn hands_over(it: &mut Small, base: u64) {
    it.nodes.clear();
    let keys = node::keys::NodeKeys::open(&it.path("gb").join("node.key")).unwrap();
    let identity = wire::TlsIdentity::from_seed(&keys.tls_seed()).unwrap();
    let text = std::fs::read_to_string(it.path("charter.toml")).unwrap();
    let hub = charter::Charter::parse("charter.toml", &text).unwrap().hub;
    let client = wire::HubClient::new(&identity, &it.at["hub"], hub.tls).unwrap();
    let body = BTreeMap::from([("text", "seen by no member")]);
    let said = record::Statement::new("note.add@1", "note", "gb", "node", &body).unwrap();
    let said = record::SignedStatement::sign(said, &keys.sign()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(client.submit(&said)).unwrap();
    until("the witness to cosign what no member has", || {
        let store = rusqlite::Connection::open(it.path("w2").join("witness.db")).unwrap();
        let size: i64 = store.query_row("select max(size) from seen", [], |row| row.get(0)).unwrap();
        (size as u64 > base).then_some(())
    });
    it.hub.take().unwrap().kill();

    it.init_hub("next");
    let (next, file) = (it.text("next"), it.text("next.json"));
    comity(["hub", "handover", "prepare", &next, "--address", &it.at["next"], "--out", &file]).exits(0);
    let offs = MEMBERS.map(|id| it.text(&format!("{id}.signoff")));
    for (id, off) in MEMBERS.iter().zip(&offs) {
        let node = it.text(id);
        comity(["hub", "handover", "signoff", &node, "--yes", "--next", &file, "--out", off]).exits(0);
    }
    let open = ["hub", "handover", "open", &next, "--from", &it.text("gb"), "--signoffs"];
    comity(open.iter().copied().chain(offs.iter().map(String::as_str)))
        .exits(0)
        .says(&format!("term 2 begins at entry {base}"));
    it.serve_hub("next");
    for id in MEMBERS {
        it.serve(id);
    }
    until("the opening to be cosigned by members alone", || {
        let (size, watermark) = it.sizes("ch");
        assert_eq!(watermark, base, "the witness knows the old hub alone");
        (size > base).then_some(())
    });

    let (w2, key) = (it.text("w2"), it.hub_key("next"));
    let known = ["witness", "add-log", &w2, "--origin", "comity/small", "--key", &key];
    comity(known).exits(2).says("say it with `--base`");
    let base_text = base.to_string();
    let begun = comity(known.iter().copied().chain(["--base", &base_text])).exits(0);
    begun.says(&format!("up to {} were cosigned under a key before", base + 1));
    it.all_in_force(base + 1);
    assert_eq!(it.status("gb")["standing"]["term"], 2);
    at(&it.path("gb"), "node resume", &[]).exits(0);
    it.all_in_force(base + 2);
    for id in MEMBERS {
        assert_eq!(it.status(id)["evidence"], serde_json::json!([]), "{id}");
    }
    comity([
        "witness",
        "add-log",
        &w2,
        "--origin",
        "comity/small",
        "--key",
        &it.hub_key("hub"),
        "--base",
        "1",
    ])
    .exits(2)
    .says("has followed the one with that key");
}
