//! A hub and four members, of whom one dies in each trial and is started again.

use crate::aims::{self, Stir, Who};
use crate::client::{Client, Identity};
use crate::command::{comity, soon};
use crate::log::Log;
use crate::wal;
use crate::watch::{Watch, must};
use fastrand::Rng;
use node::control::{Command, Reply};
use record::{Digest, HubInfo};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::{Read, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// Trials in one federation.
pub const TRIALS: u64 = 50;
pub const MEMBERS: [&str; 4] = ["gb", "se", "ch", "no"];
/// One trial in so many begins a hand-over, with a few more.
const HAND_OVER: u64 = 50;
/// One death in so many is followed by fsck of what it left.
const LOOK: u64 = 8;
/// How long a process may take to come to where it dies; then it is killed where it is.
const PATIENCE: Duration = Duration::from_secs(3);
/// The name of a death at no point.
const ANYWHERE: &str = "(at no point in time, killed from outside)";

/// Figures.
#[derive(Default)]
pub struct Sum {
    pub trials: u64,
    pub acknowledged: u64,
    handovers: u64,
    cuts: u64,
    /// Logs in which less than the last record was left.
    torn_bytes: u64,
    looks: u64,
    deaths: BTreeMap<String, u64>,
}

impl Sum {
    pub fn add(&mut self, other: Sum) {
        self.trials += other.trials;
        self.acknowledged += other.acknowledged;
        self.handovers += other.handovers;
        self.cuts += other.cuts;
        self.torn_bytes += other.torn_bytes;
        self.looks += other.looks;
        for (point, count) in other.deaths {
            *self.deaths.entry(point).or_default() += count;
        }
    }

    /// Points, each with how many died there, and what was done in all.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (point, count) in &self.deaths {
            let _ = writeln!(text, "{count:>6}  {point}");
        }
        let named = self.deaths.keys().filter(|p| *p != ANYWHERE);
        let places = aims::places(named.map(String::as_str));
        let _ = writeln!(
            text,
            "{} trials at {} named points ({places} places in the code), {} statements acknowledged, {} hand-overs, \
             {} write-ahead logs cut in the last record ({} bytes of them left), {} copies checked by fsck",
            self.trials,
            self.deaths.keys().filter(|p| *p != ANYWHERE).count(),
            self.acknowledged,
            self.handovers,
            self.cuts,
            self.torn_bytes,
            self.looks
        );
        text
    }
}

pub struct House {
    pub log: Log,
    /// The folder's name of the hub that serves, and of those before it.
    pub hub: String,
    pub before: Vec<String>,
    pub client: Client,
    pub watch: Watch,
    pub sum: Sum,
    begun: Instant,
    seed: u64,
    pub trial: u64,
    end: u64,
    /// A statement that is in force everywhere.
    settled: Option<Digest>,
}

/// Whether the command was given this word.
fn flag(name: &str) -> bool {
    std::env::args().any(|a| a == name)
}

/// Says something to a node that is there to hear it.
pub fn call(dir: &Path, command: &Command) -> Option<Reply> {
    let mut line = std::os::unix::net::UnixStream::connect(node::service::socket(dir)).ok()?;
    line.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    line.write_all(&serde_json::to_vec(command).unwrap()).ok()?;
    line.shutdown(std::net::Shutdown::Write).ok()?;
    let mut answer = Vec::new();
    line.read_to_end(&mut answer).ok()?;
    serde_json::from_slice(&answer).ok()
}

/// What the charter, or `next.json`, says of a hub.
pub fn info(text: &str) -> HubInfo {
    if let Ok(next) = serde_json::from_str::<node::term::Next>(text) {
        return next.hub;
    }
    let charter::Hub { operator, jurisdiction, key, tls } =
        charter::Charter::parse("charter.toml", text).unwrap().hub;
    HubInfo { operator, jurisdiction, key, tls }
}

impl House {
    /// So many trials from this one on, in a federation of their own; what was broken, if anything was.
    pub fn run(seed: u64, first: u64, trials: u64) -> Result<Sum, String> {
        let mut house = House::open(seed, first, first + trials);
        let done = catch_unwind(AssertUnwindSafe(|| house.all()));
        let why = match done {
            Ok(Ok(())) => {
                house.log.dir.disable_cleanup(false);
                house.log.logs.disable_cleanup(false);
                return Ok(house.sum);
            }
            Ok(Err(why)) => why,
            Err(panic) => {
                let said = panic.downcast_ref::<String>().cloned();
                said.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default()
            }
        };
        let (files, logs) = (house.log.dir.path().display(), house.log.logs.path().display());
        Err(format!(
            "seed {seed}, trial {}: {why}\n  files in {files}, logs in {logs}\n  again: --seed {seed} --from {first} --trials {trials}",
            house.trial
        ))
    }

    fn open(seed: u64, first: u64, end: u64) -> House {
        let begun = Instant::now();
        let mut log = Log::agree_in(&MEMBERS, true);
        log.dir.disable_cleanup(true);
        log.logs.disable_cleanup(true);
        let hub = info(&std::fs::read_to_string(log.path("charter.toml")).unwrap());
        let address = log.addresses["hub"].clone();
        let identities: Vec<Identity> = MEMBERS.iter().map(|id| Identity::of(id, log.path(id))).collect();
        let watch = Watch::new(identities[0].clone(), &address, &hub);
        let client = Client::start(identities, &address, &hub);
        House {
            log,
            hub: "hub".to_string(),
            before: Vec::new(),
            client,
            watch,
            sum: Sum::default(),
            begun,
            seed,
            trial: first,
            end,
            settled: None,
        }
    }

    fn all(&mut self) -> Result<(), String> {
        self.settle()?;
        self.tell("agreed");
        while self.trial < self.end {
            let rest = self.end - self.trial;
            // Its deaths follow from its own number, so the same is drawn when a run begins at another trial.
            if self.rng().u64(..HAND_OVER) == 0 && rest >= 6 {
                self.succession()?;
            } else {
                self.one()?;
            }
        }
        self.sum.acknowledged += self.client.count() as u64;
        self.close()
    }

    /// What is drawn in this trial.
    pub fn rng(&self) -> Rng {
        Rng::with_seed(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.trial)
    }

    fn one(&mut self) -> Result<(), String> {
        let mut rng = self.rng();
        rng.u64(..);
        let (aim, passing) = aims::draw(&mut rng);
        let at = rng.usize(..MEMBERS.len());
        let (member, other) = (MEMBERS[at], MEMBERS[(at + 1 + rng.usize(..3)) % MEMBERS.len()]);
        let victim = if aim.who == Who::Hub { self.hub.clone() } else { member.to_string() };
        self.tell(&format!("{aim:?}, passing {passing}, {victim}, {member} and {other}"));
        self.client.steady();
        let note = if aim.stir == Stir::Erase { Some(self.note(member)?) } else { None };
        if matches!(aim.stir, Stir::Stop | Stir::Hear) {
            self.resumed(if aim.stir == Stir::Hear { other } else { member })?;
        }
        if aim.stir == Stir::Start {
            self.log.kill(&[member]);
        }
        self.log.aim(&victim, passing, aim.point);
        match aim.stir {
            Stir::Nothing => {}
            Stir::Start => self.log.begin(member),
            Stir::Stop => self.stops(member),
            Stir::Hear => self.stops(other),
            Stir::Note => drop(self.attach(member)),
            Stir::Erase => {
                let statement = note.unwrap_or_default();
                self.say(member, &Command::RecordErase { statement, sure: true });
            }
        }
        let point = self.dies(&victim)?;
        self.client.halt();
        // Only what nobody was told of may be lost in a power cut: that is so between commit and answer.
        let spared = point.starts_with("written, not shown") && rng.bool();
        let torn = victim == self.hub && (spared || flag("--sabotage")) && self.cut(&mut rng);
        if rng.u64(..LOOK) == 0 || torn && rng.bool() {
            self.fsck(&victim)?;
        }
        self.rise(&victim);
        self.tell("up");
        self.settle()?;
        self.tell("settled");
        Ok(())
    }

    /// Says something to a member; what it tells that it has said is remembered.
    pub fn say(&mut self, member: &str, command: &Command) -> Option<Reply> {
        let reply = call(&self.log.path(member), command)?;
        self.watch.told(&reply.statements);
        Some(reply)
    }

    fn stops(&mut self, member: &str) {
        self.say(member, &Command::Stop);
        self.say(member, &Command::Resume);
    }

    /// Sees that a member is not stopped anywhere: who is stopped already is not heard to stop.
    fn resumed(&mut self, member: &str) -> Result<(), String> {
        let reply = self.say(member, &Command::Resume).ok_or_else(|| format!("{member} did not resume"))?;
        for id in reply.statements {
            MEMBERS.iter().for_each(|at| self.waits(at, &id));
        }
        Ok(())
    }

    /// Waits until a statement is in force at a member.
    fn waits(&self, member: &str, id: &str) {
        soon("a statement in force", || {
            let seen = call(&self.log.path(member), &Command::Statement { id: id.to_string() })?;
            (seen.data["in_force"] == true).then_some(())
        });
    }

    fn attach(&mut self, member: &str) -> Option<String> {
        let about = self.settled.map(|id| id.to_string()).unwrap_or_default();
        let text = format!("a remark in trial {}", self.trial);
        let reply = self.say(member, &Command::RecordNote { about, text, to: Vec::new() })?;
        reply.statements.first().cloned()
    }

    /// A note of this member that is in force.
    fn note(&mut self, member: &str) -> Result<String, String> {
        let note = self.attach(member).ok_or_else(|| format!("{member} attached no note"))?;
        self.waits(member, &note);
        Ok(note)
    }

    /// Waits until a process has died where it was told to; else it is killed. Gives the point.
    pub fn dies(&mut self, name: &str) -> Result<String, String> {
        let begun = Instant::now();
        loop {
            if let Some(point) = self.died(name)? {
                return Ok(point);
            }
            if begun.elapsed() > PATIENCE {
                self.process(name).kill();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn process(&mut self, name: &str) -> &mut crate::command::Process {
        let found = self.log.nodes.get_mut(name).or(self.log.hubs.get_mut(name));
        found.unwrap_or_else(|| panic!("{name} was never started"))
    }

    /// Whether a process has died, and where: a trial.
    pub fn died(&mut self, name: &str) -> Result<Option<String>, String> {
        let Some(status) = self.process(name).ended() else { return Ok(None) };
        must!(status.signal() == Some(9), "{name} was not killed, it ended with {status}");
        Ok(Some(self.noted(name)))
    }

    /// Reads where a process died, and takes the aim away.
    pub fn noted(&mut self, name: &str) -> String {
        let noted = std::fs::read_to_string(self.log.aim_of(name)).unwrap_or_default();
        let _ = std::fs::remove_file(self.log.aim_of(name));
        let point = noted.trim_end().strip_prefix(wire::point::DIED).unwrap_or(ANYWHERE).to_string();
        self.tell(&format!("{name} died: {point}"));
        *self.sum.deaths.entry(point.clone()).or_default() += 1;
        self.sum.trials += 1;
        self.trial += 1;
        point
    }

    /// For whoever follows the trials.
    pub fn tell(&self, what: &str) {
        if flag("--trace") {
            eprintln!("{:>9.3} trial {}: {what}", self.begun.elapsed().as_secs_f64(), self.trial);
        }
    }

    /// Starts a process again.
    pub fn rise(&mut self, name: &str) {
        match MEMBERS.iter().find(|id| **id == name) {
            Some(id) => self.log.serve(id),
            None => self.log.serve_hub(name),
        }
    }

    fn cut(&mut self, rng: &mut Rng) -> bool {
        let left = wal::cut(&self.log.path(&self.hub).join("hub.db"), rng);
        self.sum.cuts += u64::from(left.is_some());
        self.sum.torn_bytes += left.map_or(0, |(kept, _)| kept as u64);
        left.is_some()
    }

    fn status(&self, member: &str) -> Option<serde_json::Value> {
        call(&self.log.path(member), &Command::Status).map(|reply| reply.data)
    }

    /// One more statement comes into force everywhere, and everything that must hold does.
    pub fn settle(&mut self) -> Result<(), String> {
        let receipt = self.client.one();
        for id in MEMBERS {
            soon(&format!("{id} to have {} in force", receipt.index), || {
                let status = self.status(id)?;
                (status["watermark"].as_u64()? > receipt.index).then_some(())
            });
        }
        self.settled = Some(receipt.id);
        self.watch.grow()?;
        let kept = self.client.kept(0);
        self.watch.receipts(&kept)?;
        let begun = Instant::now();
        while self.watch.open() > 0 {
            must!(
                begun.elapsed() < Duration::from_secs(100),
                "a statement that a member said is not recorded"
            );
            std::thread::sleep(Duration::from_millis(3));
            self.watch.grow()?;
        }
        for id in MEMBERS {
            let status = soon("a status", || self.status(id));
            self.watch.member(id, &status)?;
        }
        Ok(())
    }

    /// What a process left is clean, and of the one history.
    fn fsck(&mut self, name: &str) -> Result<(), String> {
        let said = comity(["record", "fsck", &self.log.text(name), "--json"]);
        must!(said.code == 0, "fsck of {name}: {} {}", said.out, said.err);
        let found = said.json();
        let size = found["size"].as_u64().unwrap_or(u64::MAX);
        if size <= self.watch.size() && !self.before.iter().any(|old| old == name) {
            let expected = self.watch.root_at(size)?;
            must!(found["root"] == expected.as_str(), "fsck of {name}: {found}, expected root {expected}");
        }
        self.sum.looks += 1;
        Ok(())
    }

    /// Everything is killed, and every copy looked at: hubs that others took over from too.
    fn close(&mut self) -> Result<(), String> {
        self.log.kill(&MEMBERS);
        self.log.hubs.values_mut().for_each(crate::command::Process::kill);
        let all: Vec<String> = self.before.iter().chain([&self.hub]).cloned().collect();
        for name in all.iter().map(String::as_str).chain(MEMBERS) {
            self.fsck(name)?;
        }
        Ok(())
    }

    pub fn passed_on(&mut self) {
        self.sum.handovers += 1;
    }
}
