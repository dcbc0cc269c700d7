//! Ten processes that die at every named point on their way (`wire::point`), by SIGKILL, over real TLS and files, and
//! are started again each time: through agree, register, ask, decide, compute and release.

use crate::command::{Said, address, at, binary, comity, scratch, until};
use crate::demo::{MEMBERS, copy, demo};
use crate::log::Log;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Deaths of each process that the claim is about.
const FEWEST: usize = 30;

/// One process, as its supervisor sees it.
pub struct Mortal {
    pub name: String,
    args: Vec<String>,
    dir: PathBuf,
    child: Option<Child>,
    pub killed: usize,
    /// How it ended otherwise.
    pub odd: Vec<String>,
}

impl Mortal {
    pub fn new(name: &str, args: &[&str], logs: &Path) -> Mortal {
        let args = args.iter().map(|a| a.to_string()).collect();
        Mortal {
            name: name.to_string(),
            args,
            dir: logs.to_path_buf(),
            child: None,
            killed: 0,
            odd: Vec::new(),
        }
    }

    pub fn points(dir: &Path, name: &str) -> PathBuf {
        dir.join(format!("{name}.points"))
    }

    fn start(&mut self) {
        let log = |suffix: &str| {
            let path = self.dir.join(format!("{}.{suffix}", self.name));
            std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap()
        };
        let child = Command::new(binary())
            .args(&self.args)
            .env("COMITY_LOG", "warn")
            .env("COMITY_DIE_ONCE", Mortal::points(&self.dir, &self.name))
            .stdin(Stdio::null())
            .stdout(log("out"))
            .stderr(log("log"))
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Starts it again if it is dead.
    fn tend(&mut self) {
        let Some(child) = &mut self.child else { return };
        let Some(status) = child.try_wait().unwrap() else { return };
        match status.signal() {
            Some(9) => self.killed += 1,
            _ => self.odd.push(status.to_string()),
        }
        self.start();
    }
}

/// All ten, tended by a thread until it is dropped.
pub struct Supervisor {
    pub mortals: Arc<Mutex<Vec<Mortal>>>,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Supervisor {
    pub fn start(mut mortals: Vec<Mortal>) -> Supervisor {
        mortals.iter_mut().for_each(Mortal::start);
        let mortals = Arc::new(Mutex::new(mortals));
        let over = Arc::new(AtomicBool::new(false));
        let (shared, end) = (mortals.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                shared.lock().unwrap().iter_mut().for_each(Mortal::tend);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Supervisor { mortals, over, thread: Some(thread) }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
        let mut mortals = match self.mortals.lock() {
            Ok(mortals) => mortals,
            Err(poisoned) => poisoned.into_inner(),
        };
        for child in mortals.iter_mut().filter_map(|m| m.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A person who tries again when the node is gone, until it is done or was done already.
fn done(node: &Path, verb: &str, rest: &[&str]) {
    until(&format!("{verb} at {}", node.display()), || {
        let said = at(node, verb, rest);
        let already = ["has voted", "recorded and void", "is registered already", "is used already"];
        match said.code {
            0 => Some(()),
            _ if already.iter().any(|words| said.text().contains(words)) => Some(()),
            _ => None,
        }
    });
}

/// What a node says as soon as it can; nothing while it is gone.
fn ask(node: &Path, verb: &str, rest: &[&str]) -> Option<Value> {
    let rest: Vec<&str> = rest.iter().copied().chain(["--json"]).collect();
    let said: Said = at(node, verb, &rest);
    (said.code != 2).then(|| said.json())
}

fn everywhere(nodes: &[PathBuf], act: impl Fn(&Path) + Sync) {
    std::thread::scope(|scope| {
        for node in nodes {
            scope.spawn(|| act(node));
        }
    });
}

fn charter(dir: &Path) -> String {
    let made = std::fs::read_to_string(demo().dir.join("charter.toml")).unwrap();
    let floor = made.lines().find(|l| l.starts_with("floor = ")).unwrap();
    let instruments = &made[made.find("[[instruments]]").unwrap()..];
    let mut text = format!(
        "federation = \"mortal\"\ntitle = \"Ten that die\"\nsunset = \"2031-12-31\"\n{floor}\n\
         purposes = [\"stroke-research\"]\naggregator_pool = [\"ch\", \"se\"]\n\n\
         [data_access]\nquorum = 9\ndeadline_hours = 72\nvalid_days = 90\n\n\
         [limits]\nlease_hours = 24\nwatermark_minutes = 10\nmin_hidden_sites = 3\n\n{}",
        std::fs::read_to_string(dir.join("hub/hub.toml")).unwrap()
    );
    for id in MEMBERS {
        text.push_str(&std::fs::read_to_string(dir.join(id).join("member.toml")).unwrap());
    }
    text + instruments
}

/// Keys, charter and data of nine members and a hub; the processes to be started.
fn prepare(dir: &Path, logs: &Path) -> Vec<Mortal> {
    let path = |name: &str| dir.join(name).display().to_string();
    let hub = path("hub");
    let relay = ["--federation", "mortal", "--operator", "A relay (fictitious)", "--jurisdiction", "NL"];
    comity(["hub", "init", "--dir", &hub].iter().chain(&relay)).exits(0);
    for id in MEMBERS {
        let name = format!("Stroke Unit {id} (tested)");
        let rest = ["--id", id, "--name", &name, "--jurisdiction", &id.to_uppercase()];
        at(&dir.join(id), "node init", &rest).exits(0);
        copy(&demo().node(id).join("data"), &dir.join(id).join("data"));
    }
    std::fs::write(dir.join("charter.toml"), charter(dir)).unwrap();
    let listen = address();
    for id in MEMBERS {
        at(&dir.join(id), "node join", &["--charter", &path("charter.toml"), "--hub", &listen]).exits(0);
    }
    let mortal = |name: &str, args: &[&str]| Mortal::new(name, args, logs);
    let mut all = vec![mortal("hub", &["hub", "serve", "--dir", &hub, "--listen", &listen])];
    all.extend(MEMBERS.iter().map(|id| mortal(id, &["node", "serve", "--node", &path(id)])));
    all
}

/// Entries in force of a type, by issuer.
fn in_force(record: &Value, kind: &str) -> BTreeSet<String> {
    let entries = record.as_array().unwrap().iter();
    let of = entries.filter(|e| e["type"] == kind && e["status"] == "in force");
    of.map(|e| e["issuer"].as_str().unwrap().to_string()).collect()
}

#[test]
fn each_of_ten_processes_is_killed_at_every_point_that_it_passes_and_the_question_is_answered_once() {
    let (dir, logs) = (scratch(), scratch());
    let mortals = prepare(dir.path(), logs.path());
    let nodes: Vec<PathBuf> = MEMBERS.iter().map(|id| dir.path().join(id)).collect();
    let gb = dir.path().join("gb");
    let supervisor = Supervisor::start(mortals);

    // Agree.
    everywhere(&nodes, |node| {
        until("the floor", || (ask(node, "policy show", &[])?["published"] == true).then_some(()));
    });
    // Register.
    everywhere(&nodes, |node| {
        let counsel = format!("{}-counsel", node.file_name().unwrap().to_str().unwrap());
        done(node, "policy adopt", &[]);
        done(node, "policy confirm", &["--seat", &counsel]);
        done(node, "dataset add", &[&node.join("data/dataset.toml").display().to_string()]);
    });
    // Ask.
    let study = demo().study("aspirin");
    until("all that the study needs", || (at(&gb, "study check", &[&study]).code == 0).then_some(()));
    done(&gb, "study submit", &[&study]);
    let phase = |node: &Path| -> Option<String> {
        let shown = ask(node, "study show", &["aspirin"])?;
        Some(shown["phase"]["phase"].as_str()?.to_string())
    };
    // Decide.
    everywhere(&nodes, |node| {
        until("the gates", || (phase(node)? != "awaiting-gates").then_some(()));
        done(node, "decide approve", &["aspirin"]);
    });
    // Compute, release.
    let output = until("the output", || {
        let found = phase(&gb)?;
        assert!(matches!(found.as_str(), "awaiting-votes" | "approved" | "running" | "released"), "{found}");
        let said = at(&gb, "study result", &["aspirin", "--json"]);
        (said.code == 0).then(|| said.json()["output"].clone())
    });
    until("everybody's keys to be erased", || {
        let record = ask(&gb, "record list", &[])?;
        (in_force(&record, "run.close@1").len() == MEMBERS.len()).then_some(())
    });

    // The answer is the undisturbed one.
    let expected = at(&demo().node("gb"), "study result", &["aspirin", "--json"]).exits(0).json();
    assert_eq!(output["results"], expected["output"]["results"]);

    // Nothing that somebody was told is done is lost, and all see the same.
    let record = until("the record", || ask(&gb, "record list", &[]));
    for kind in
        ["charter.sign@1", "schedule.adopt@1", "schedule.confirm@1", "dataset.register@1", "decision.vote@1"]
    {
        assert_eq!(in_force(&record, kind).len(), MEMBERS.len(), "{kind}");
    }
    assert_eq!(in_force(&record, "run.lost@1"), BTreeSet::new(), "no run was lost");
    let mut stands = BTreeMap::new();
    for node in &nodes {
        let status = until("the end of the record", || {
            let status = ask(node, "node status", &[])?;
            (status["watermark"].as_u64()? >= record.as_array()?.len() as u64).then_some(status)
        });
        // Whatever was sent again was sent verbatim, or somebody would hold it against its sender.
        assert_eq!(status["evidence"], serde_json::json!([]), "{}", node.display());
        stands.insert(status["state"].as_str().unwrap().to_string(), node);
        assert_eq!(until("a proof", || ask(node, "record verify", &[]))["valid"], true, "{}", node.display());
    }
    assert_eq!(stands.len(), 1, "one state: {stands:?}");

    let mortals = supervisor.mortals.clone();
    drop(supervisor);
    let mut all = 0;
    for mortal in mortals.lock().unwrap().iter() {
        let noted = std::fs::read_to_string(Mortal::points(logs.path(), &mortal.name)).unwrap_or_default();
        let points: BTreeSet<&str> = noted.lines().collect();
        println!("{} died at {} points", mortal.name, points.len());
        // What a kill finds is never left so that the next start fails.
        let busy = |end: &&String| end.as_str() != "exit status: 2";
        assert_eq!(mortal.odd.iter().filter(busy).count(), 0, "{}: {:?}", mortal.name, mortal.odd);
        assert_eq!(mortal.killed, points.len(), "{}: each point once", mortal.name);
        assert!(points.len() >= FEWEST, "{}: {points:?}", mortal.name);
        all += points.len();
    }
    println!("{all} deaths");
}

#[test]
fn a_process_that_is_aimed_at_a_point_dies_there_at_that_passing_and_lives_when_started_again() {
    let mut it = Log::agree_in(&["gb", "se", "ch"], true);
    it.aim("hub", 2, "written, not shown node.stop@1");
    at(&it.path("gb"), "node stop", &[]).exits(0);
    until("the first stop", || {
        let (size, watermark) = it.sizes("gb");
        let stops = it.record("gb").iter().filter(|(kind, ..)| kind == "node.stop@1").count();
        (size == watermark && stops == 1).then_some(())
    });
    assert!(it.hubs.get_mut("hub").unwrap().ended().is_none(), "it passes the first time");
    at(&it.path("se"), "node stop", &[]).exits(0);
    let status = until("the death", || it.hubs.get_mut("hub").unwrap().ended());
    assert_eq!(status.signal(), Some(9));
    let noted = std::fs::read_to_string(it.aim_of("hub")).unwrap();
    assert_eq!(noted, "died written, not shown node.stop@1\n");
    it.serve_hub("hub");
    at(&it.path("ch"), "node stop", &[]).exits(0);
    for id in ["gb", "se", "ch"] {
        until("all three stops", || {
            let record = it.record(id);
            let of =
                |(kind, _, status): &&(String, String, String)| kind == "node.stop@1" && status == "in force";
            (record.iter().filter(of).count() == 3).then_some(())
        });
    }
}
