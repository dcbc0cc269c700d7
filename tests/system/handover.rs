//! The hub dies for good and another takes over, with the commands that an operator types: real processes, TLS, files.

use crate::command::{Said, at, binary, comity, finished, scratch, until};
use crate::deaths::{Mortal, Supervisor};
use crate::log::Log;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

impl Log {
    /// `gb` stops itself while nobody else is there to cosign that; then the hub dies. Gives what was in force.
    fn dies_with_a_stop_pending(&mut self) -> u64 {
        for id in self.members.clone() {
            until("all in force", || {
                let (size, watermark) = self.sizes(id);
                (size == watermark && size == self.sizes("gb").0).then_some(())
            });
        }
        let others: Vec<&str> = self.members.iter().copied().filter(|id| *id != "gb").collect();
        self.kill(&others);
        let before = self.sizes("gb").1;
        at(&self.path("gb"), "node stop", &[]).exits(0);
        until("the stop to be pending", || {
            let (size, watermark) = self.sizes("gb");
            assert_eq!(watermark, before, "one member puts nothing in force");
            (size > before).then_some(())
        });
        self.hubs.remove("hub").unwrap().kill();
        before
    }

    /// Everywhere one state, everything in force, and the stop of `gb` entered once.
    fn agrees(&self, at_least: u64) {
        for id in &self.members {
            until(&format!("{id} to have all in force"), || {
                let (size, watermark) = self.sizes(id);
                (size == watermark && watermark >= at_least && size == self.sizes("gb").0).then_some(())
            });
            let stops = self.record(id).into_iter().filter(|(kind, ..)| kind == "node.stop@1");
            let stops: Vec<_> = stops.map(|(_, by, status)| (by, status)).collect();
            assert_eq!(stops, [("gb".to_string(), "in force".to_string())], "{id}");
            let status = self.status(id);
            assert_eq!((&status["standing"]["term"], &status["halted"]), (&2.into(), &Value::Null), "{id}");
            assert_eq!(status["evidence"], serde_json::json!([]), "{id}");
        }
        let states: BTreeSet<String> =
            self.members.iter().map(|id| self.status(id)["state"].to_string()).collect();
        assert_eq!(states.len(), 1, "{states:?}");
    }
}

#[test]
fn when_the_hub_dies_four_of_five_members_pass_the_record_on_and_nothing_in_force_is_lost() {
    let mut it = Log::agree(&["gb", "se", "ch", "no", "nl"]);
    let before = it.dies_with_a_stop_pending();
    let kept = it.record("gb");
    let next = it.prepare("next");
    // Three are served again, with no hub to call; one signs off without being served; one stays away.
    for id in ["se", "no"] {
        it.serve(id);
    }
    // Too few say nothing about what may be in force.
    for id in ["gb", "se"] {
        comity(it.sign_off_args(id, "next")).exits(0).says("nothing of term 1 is cosigned here any more");
    }
    comity(it.open_args("next", "gb", &["gb", "se"]))
        .exits(2)
        .says("2 organisations have signed off, expected at least 4");
    for id in ["no", "ch"] {
        comity(it.sign_off_args(id, "next")).exits(0);
    }
    it.serve("ch");
    // Said again it is the same.
    let said = std::fs::read(it.path("gb.signoff")).unwrap();
    comity(it.sign_off_args("gb", "next")).exits(0);
    assert_eq!(std::fs::read(it.path("gb.signoff")).unwrap(), said);

    let four = ["gb", "se", "ch", "no"];
    let opened = comity(it.open_args("next", "gb", &four)).exits(0);
    let words = format!("term 2 begins at entry {before}");
    opened
        .says(&words)
        .says("1 entries above it in the mirror of gb go back to pending")
        .says(&format!("gb has cosigned up to {}", before + 1));
    comity(it.open_args("next", "gb", &four)).exits(0).says("was opened before");
    it.serve_hub("next");
    for id in four {
        until("the stop in force", || {
            let stop =
                |(kind, _, status): &(String, String, String)| kind == "node.stop@1" && status == "in force";
            it.record(id).iter().any(stop).then_some(())
        });
    }

    // The old hub is back, and one member that knows of nothing calls it: nothing comes into force there.
    it.serve_hub("hub");
    it.serve("nl");
    until("the old hub's pending entry", || (it.sizes("nl").0 > before).then_some(()));
    assert_eq!(it.sizes("nl").1, before);
    comity(["hub", "handover", "follow", &it.text("nl"), "--next", &next]).exits(0);
    it.agrees(before + 2);
    // What was in force stands where it stood.
    let now = it.record("nl");
    let at = usize::try_from(before).unwrap();
    assert_eq!(now[..at], kept[..at]);
    assert_eq!(now[at].0, "term.open@1");
    // And the next hub goes on as any hub does, after a restart too.
    it.hubs.remove("next").unwrap().kill();
    it.serve_hub("next");
    at_resumes(&it);
}

fn at_resumes(it: &Log) {
    at(&it.path("gb"), "node resume", &[]).exits(0);
    until("the resumption everywhere", || {
        let all = it
            .members
            .iter()
            .all(|id| it.record(id).iter().any(|(kind, _, s)| kind == "node.resume@1" && s == "in force"));
        all.then_some(())
    });
}

/// Runs a command that dies at every point on its way until it does not any more; gives at how many it died.
fn until_done(args: &[String], points: &Path) -> (usize, Said) {
    let mut deaths = 0;
    loop {
        let mut command = Command::new(binary());
        command.args(args).env("COMITY_DIE_ONCE", points).env("COLUMNS", "100").env("NO_COLOR", "1");
        let said = finished(command);
        if said.code != -1 {
            return (deaths, said.exits(0));
        }
        deaths += 1;
    }
}

#[test]
fn a_hand_over_that_is_killed_at_every_point_of_sign_off_opening_and_turn_comes_out_the_same() {
    let mut it = Log::agree(&["gb", "se", "ch", "no"]);
    let before = it.dies_with_a_stop_pending();
    it.kill(&["gb"]);
    it.prepare("next");
    let logs = scratch();
    let points = |name: &str| logs.path().join(format!("{name}.points"));
    for id in ["gb", "se", "ch"] {
        let (deaths, _) = until_done(&it.sign_off_args(id, "next"), &points(&format!("{id}-signoff")));
        assert!(deaths >= 3, "{id}: {deaths}");
    }
    let open = it.open_args("next", "gb", &["gb", "se", "ch"]);
    let (deaths, said) = until_done(&open, &points("open"));
    assert!(deaths >= 4, "{deaths}");
    // With one of four away, what a single member has cosigned could be in force: it stays.
    said.says(&format!("term 2 begins at entry {}", before + 1));
    let follow = ["hub", "handover", "follow", &it.text("no"), "--next", &it.text("next.json")];
    let follow: Vec<String> = follow.iter().map(|a| a.to_string()).collect();
    until_done(&follow, &points("follow"));

    let (dir, listen) = (it.text("next"), it.addresses["next"].clone());
    let mut mortals =
        vec![Mortal::new("next", &["hub", "serve", "--dir", &dir, "--listen", &listen], logs.path())];
    let folders: Vec<String> = it.members.iter().map(|id| it.text(id)).collect();
    for (id, folder) in it.members.iter().zip(&folders) {
        mortals.push(Mortal::new(id, &["node", "serve", "--node", folder], logs.path()));
    }
    let supervisor = Supervisor::start(mortals);
    it.agrees(before + 2);
    let mortals = supervisor.mortals.clone();
    drop(supervisor);
    let mut all = BTreeSet::new();
    for mortal in mortals.lock().unwrap().iter() {
        let noted = std::fs::read_to_string(Mortal::points(logs.path(), &mortal.name)).unwrap_or_default();
        assert_eq!(mortal.killed, noted.lines().count(), "{}: each point once", mortal.name);
        all.extend(noted.lines().map(str::to_string));
    }
    for step in [
        "next term fetched",
        "term followed, not kept",
        "term followed, cut not queued",
        "term followed and queued",
    ] {
        assert!(all.iter().any(|point| point.starts_with(step)), "{step}: {all:?}");
    }
}

#[test]
fn a_member_joins_by_commands_counts_and_changes_every_key_while_it_is_served() {
    let mut it = Log::agree(&["gb", "se", "ch", "no"]);
    let (charter, hub) = (it.text("charter.toml"), it.addresses["hub"].clone());
    let [next, after, document] = ["fr.next", "fr.after", "fr.document"].map(|name| it.text(name));
    let rest =
        ["--id", "fr", "--name", "Unit fr", "--jurisdiction", "FR", "--next-key", &next, "--post-quantum"];
    at(&it.path("fr"), "node init", &rest).exits(0).says("next = ").says("cosign_ml = ");
    at(&it.path("fr"), "node join", &["--charter", &charter, "--hub", &hub])
        .exits(2)
        .says("names no member `fr`");
    at(&it.path("fr"), "node join", &["--charter", &charter, "--hub", &hub, "--proposed"]).exits(0);
    it.serve("fr");
    at(&it.path("fr"), "member document", &["--charter", &charter, "--out", &document]).exits(0);
    let dir = it.text("gb");
    let propose = ["member", "propose", "--node", &dir, "join", &document, "--json"];
    let said = comity(propose).exits(0).json();
    let proposal = said["proposal"].as_str().unwrap();
    for id in ["se", "ch"] {
        until("the proposal", || {
            at(&it.path(id), "member list", &[]).text().contains(proposal).then_some(())
        });
        at(&it.path(id), "member accept", &[proposal]).exits(0);
    }
    it.members.push("fr");
    let all_in_force = |it: &Log| {
        for id in &it.members {
            until(&format!("{id} to have all in force"), || {
                let (size, watermark) = it.sizes(id);
                (size == watermark && size == it.sizes("gb").0).then_some(())
            });
        }
    };
    all_in_force(&it);
    // Five with one liar: four must cosign. Without one of the old four the new one's is needed.
    it.kill(&["no"]);
    at(&it.path("gb"), "node stop", &[]).exits(0);
    it.members.retain(|id| *id != "no");
    all_in_force(&it);
    let rotate = ["--next-key", &next, "--new-next", &after, "--all"];
    at(&it.path("fr"), "key rotate", &rotate).exits(0).says("new keys said");
    at(&it.path("gb"), "node resume", &[]).exits(0);
    all_in_force(&it);
    it.kill(&["fr"]);
    it.serve("fr");
    at(&it.path("fr"), "node stop", &[]).exits(0);
    until("its stop in force", || {
        it.record("gb")
            .iter()
            .any(|(kind, by, s)| {
                (kind.as_str(), by.as_str(), s.as_str()) == ("node.stop@1", "fr", "in force")
            })
            .then_some(())
    });
    for id in &it.members {
        assert_eq!(it.status(id)["evidence"], serde_json::json!([]), "{id}");
    }
}

/// `point("name", ...)` in the source of the product.
fn named_points() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all = ["src", "crates"].map(|part| (root.join(part), crate::command::files(&root.join(part))));
    for file in all.iter().flat_map(|(dir, files)| files.iter().map(|f| dir.join(f))) {
        let path = file.display().to_string();
        if !path.ends_with(".rs") || path.contains("/tests/") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for call in ["point(\"", "point_of(&id, \"", "point_of(id, \""] {
            found.extend(
                text.split(call).skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_string())),
            );
        }
    }
    found
}

#[test]
fn a_process_can_be_killed_at_more_than_twenty_five_named_points() {
    let points = named_points();
    points.iter().for_each(|point| println!("{point}"));
    assert!(points.len() >= 25, "{}", points.len());
}
