//! The hub stays dead, and another takes over: with a death at each step of it.

use crate::aims::{FOLLOW, HAND_OUT, LAST, NEXT, OPEN, SIGN_OFF, TURN};
use crate::command::{Said, binary, comity, finished, soon};
use crate::house::{House, MEMBERS, info};
use crate::watch::must;
use record::{Digest, Entry};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long those who turn to the next hub may take to come to where they die.
const PATIENCE: Duration = Duration::from_secs(15);
/// The command's name among those that die.
const COMMAND: &str = "command";

impl House {
    /// From the death of this hub to the service of the next.
    pub fn succession(&mut self) -> Result<(), String> {
        let mut rng = self.rng();
        rng.u64(..);
        let (old, next) = (self.hub.clone(), format!("hub-{}", self.before.len() + 2));
        let mut order = MEMBERS;
        rng.shuffle(&mut order);
        let [first, second, third, away] = order;

        self.log.aim(&old, 1 + rng.u64(..4), LAST[rng.usize(..LAST.len())]);
        self.client.steady();
        self.dies(&old)?;
        self.client.halt();
        let mirrored = self.mirrored()?;
        self.log.prepare(&next);

        match rng.usize(..SIGN_OFF.len() + 1) {
            at if at < SIGN_OFF.len() => {
                self.log.aim(first, 1, SIGN_OFF[at]);
                comity(self.log.sign_off_args(first, &next)).exits(2);
                self.dies(first)?;
                self.rise(first);
            }
            _ => self.command_dies(self.log.sign_off_args(first, &next), HAND_OUT)?,
        }
        for id in [first, second, third] {
            comity(self.log.sign_off_args(id, &next)).exits(0);
        }
        let base = self.opens(&next, &[first, second, third], OPEN[rng.usize(..OPEN.len())])?;

        // One of those who turn dies, and so does the hub that they turn to.
        self.log.aim(second, 1, TURN[rng.usize(..TURN.len())]);
        self.log.aim(&next, 1, NEXT[rng.usize(..NEXT.len())]);
        self.log.begin_hub(&next);
        let begun = Instant::now();
        let mut alive = vec![second.to_string(), next.clone()];
        while !alive.is_empty() {
            for name in std::mem::take(&mut alive) {
                match self.died(&name)? {
                    Some(_) => self.rise(&name),
                    None => alive.push(name),
                }
            }
            if begun.elapsed() > PATIENCE {
                for name in alive.drain(..) {
                    self.dies(&name)?;
                    self.rise(&name);
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }

        let dir = self.log.text(away);
        let follow = ["hub", "handover", "follow", &dir, "--next", &self.log.text(&format!("{next}.json"))];
        self.log.aim(away, 1, FOLLOW);
        comity(follow).exits(2);
        self.dies(away)?;
        self.rise(away);
        comity(follow).exits(0);

        self.before.push(std::mem::replace(&mut self.hub, next.clone()));
        self.passed_on();
        self.turned(&next, base, &mirrored)?;
        self.settle()
    }

    /// Every statement that is in some member's copy.
    fn mirrored(&self) -> Result<BTreeSet<Digest>, String> {
        let mut found = BTreeSet::new();
        for id in MEMBERS {
            let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
            let path = self.log.path(id).join("store.db");
            let db = rusqlite::Connection::open_with_flags(path, flags).map_err(|e| format!("{id}: {e}"))?;
            let mut query = db.prepare("select bytes from entries").map_err(|e| format!("{id}: {e}"))?;
            let rows =
                query.query_map([], |row| row.get::<_, Vec<u8>>(0)).map_err(|e| format!("{id}: {e}"))?;
            for leaf in rows {
                let entry = leaf
                    .map_err(|e| e.to_string())
                    .and_then(|leaf| Entry::from_bytes(&leaf).map_err(|e| e.to_string()));
                found.insert(entry.map_err(|e| format!("{id}: {e}"))?.signed.id());
            }
        }
        Ok(found)
    }

    /// Runs a command that is to die at a point.
    fn aimed(&mut self, args: &[String], point: &str) -> Said {
        self.log.aim(COMMAND, 1, point);
        let mut command = std::process::Command::new(binary());
        command.args(args).env(wire::point::AIM, self.log.aim_of(COMMAND)).env("NO_COLOR", "1");
        finished(command)
    }

    fn command_dies(&mut self, args: Vec<String>, point: &str) -> Result<(), String> {
        let said = self.aimed(&args, point);
        must!(said.code == -1, "a command that was to die at `{point}` said {}", said.text());
        self.noted(COMMAND);
        Ok(())
    }

    /// Opens the next hub from the first copy that is long enough; the command dies once. Gives where its term begins.
    fn opens(&mut self, next: &str, signed: &[&str], point: &str) -> Result<u64, String> {
        for from in signed {
            let mut args = self.log.open_args(next, from, signed);
            args.push("--json".to_string());
            let said = self.aimed(&args, point);
            if said.code == 2 && said.text().contains("too short") {
                continue;
            }
            must!(said.code == -1, "a command that was to die at `{point}` said {}", said.text());
            self.noted(COMMAND);
            let opened = comity(&args).exits(0).json();
            return opened["base"].as_u64().ok_or_else(|| format!("no base in {opened}"));
        }
        Err("no copy is long enough to open the next hub from".to_string())
    }

    /// What was acknowledged is at the next hub: below the base where it was, above it once. What some member had comes
    /// back by itself; what only its author had, its author hands in again.
    fn turned(&mut self, next: &str, base: u64, mirrored: &BTreeSet<Digest>) -> Result<(), String> {
        let hub = info(&std::fs::read_to_string(self.log.path(&format!("{next}.json"))).unwrap());
        let address = self.log.addresses[next].clone();
        let kept = self.client.kept(0);
        self.watch.turn(&address, &hub, base, mirrored)?;
        for kept in kept.iter().filter(|kept| !mirrored.contains(&kept.receipt.id)) {
            must!(kept.receipt.index >= base, "nobody has statement {}, below the base", kept.receipt.id);
            self.watch.hand_in(&kept.bytes)?;
        }
        let mut told = Ok(());
        soon("what members had to come back", || {
            told = self.watch.grow();
            let missing = self.watch.old_receipts(&kept, base);
            match (&told, missing) {
                (Err(_), _) => Some(()),
                (_, Err(e)) => {
                    told = Err(e);
                    Some(())
                }
                (_, Ok(missing)) => (missing == 0 && self.watch.open() == 0).then_some(()),
            }
        });
        told?;
        self.client.turn(&address, &hub);
        Ok(())
    }
}
