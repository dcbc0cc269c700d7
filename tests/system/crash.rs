//! Processes that die, and people who stop: what was said is kept, what was forbidden does not happen.

use crate::command::{at, until};
use crate::federation::{CROSSTAB, EIGHT, Federation, LOGISTIC};

fn all_but(it: &Federation, one: &str) -> Vec<&'static str> {
    it.ids().into_iter().filter(|id| *id != one).collect()
}

fn sound(it: &Federation) {
    for id in it.ids() {
        assert_eq!(it.at(id, "record verify", &["--json"]).exits(0).json()["valid"], true, "{id}");
    }
}

#[test]
fn a_node_and_the_hub_that_were_killed_come_back_and_the_study_is_answered() {
    let mut it = Federation::ready(&EIGHT);

    // One site fewer hides too few: the gates say so before anybody is asked.
    let seven: Vec<&str> = all_but(&it, "ar");
    let file = it.study_of("seven", &seven, CROSSTAB);
    until("everything else that the study needs", || {
        let check = it.at("gb", "study check", &[&file]).exits(1);
        (check.out.matches("rule:   ").count() == 1).then(|| check.says("rule: floor.hidden-sites"))
    });

    // A node, before its steward votes.
    it.submit("one", CROSSTAB);
    it.approve("one", all_but(&it, "it"));
    it.kill_node("it");
    it.start_node("it");
    let status = it.ask("it", "node status", &[]);
    assert_eq!(status["halted"], serde_json::Value::Null);
    // One process a folder: a second one is refused and the first goes on.
    at(&it.path("it"), "node serve", &[]).exits(2).says("is in use by another process of this node");
    assert_eq!(it.ask("it", "node status", &[])["member"], "it");
    it.approve("one", ["it"]);
    let one = it.result("one");
    assert_eq!(one["contributors"].as_array().unwrap().len(), 8);

    // The hub, in the same place; and a second one on its folder is refused.
    it.submit("two", CROSSTAB);
    it.approve("two", all_but(&it, "it"));
    let address = it.address.clone();
    let hub = it.path("hub").display().to_string();
    let second = crate::command::comity(["hub", "serve", "--dir", &hub, "--listen", "127.0.0.1:0"]);
    assert_eq!(second.exits(2).out, "");
    it.kill_hub();
    it.start_hub(&address);
    assert_eq!(it.address, address);
    it.approve("two", ["it"]);
    let two = it.result("two");

    // The same question over the same rows has the same answer, whatever died in between.
    assert_eq!(one["results"], two["results"]);
    sound(&it);
}

#[test]
fn a_stopped_node_sends_nothing_more_and_the_running_study_releases_nothing() {
    let mut it = Federation::ready(&EIGHT);
    // Stop in the midst of a run: pl has contributed, and an aggregator is held so that the run cannot end
    // before pl's operator acts. Should the run have ended sooner, another one is asked.
    let mut study = String::new();
    for number in 1..=5 {
        study = format!("study-{number}");
        it.submit(&study, LOGISTIC);
        it.approve(&study, it.ids());
        until("a contribution of pl", || (!it.left("pl", &study).is_empty()).then_some(()));
        it.nodes["ch"].signal("STOP");
        if it.phase("gb", &study) == "running" {
            break;
        }
        it.nodes["ch"].signal("CONT");
        it.result(&study);
    }
    assert_eq!(it.phase("gb", &study), "running");
    let mut before = it.left("pl", &study);
    for _ in 0..3 {
        std::thread::sleep(std::time::Duration::from_millis(200));
        before = it.left("pl", &study);
    }
    it.at("pl", "node stop", &[]).exits(0).says("stopped: nothing leaves this node from now on");
    assert_eq!(it.ask("pl", "node status", &[])["stopped"], true);
    // A stop holds even if the process dies right after.
    it.kill_node("pl");
    it.start_node("pl");
    assert_eq!(it.ask("pl", "node status", &[])["stopped"], true);
    it.nodes["ch"].signal("CONT");

    // The others have all heard it, and the record has gone on since.
    let stopped = |id: &str| {
        let list = it.ask(id, "record list", &[]);
        list.as_array()
            .unwrap()
            .iter()
            .any(|e| e["type"] == "node.stop@1" && e["issuer"] == "pl" && e["status"] == "in force")
    };
    for id in all_but(&it, "pl") {
        until("the stop on the record", || stopped(id).then_some(()));
    }
    it.at("it", "dataset pause", &["ist"]).exits(0);
    it.at("it", "dataset resume", &["ist"]).exits(0);
    for id in all_but(&it, "pl") {
        until("what came after", || {
            let list = it.ask(id, "record list", &[]);
            let resumed =
                |e: &serde_json::Value| e["type"] == "dataset.resume@1" && e["status"] == "in force";
            list.as_array().unwrap().iter().any(resumed).then_some(())
        });
    }
    assert_eq!(it.left("pl", &study), before, "nothing of the study left after the stop");
    for id in it.ids() {
        assert_ne!(it.phase(id, &study), "released", "at {id}");
    }
    it.at("gb", "study result", &[&study]).exits(1).says("no output yet");
    sound(&it);

    // Started again by its own operator alone, it works again; and both work while the node is not served.
    let stopped = || it.ask("pl", "node status", &[])["stopped"].clone();
    it.at("pl", "node resume", &[]).exits(0);
    assert_eq!(stopped(), false);
    it.nodes["pl"].signal("KILL");
    until("the node to be gone", || {
        let said = it.at("pl", "node stop", &[]);
        (said.code == 0 && said.out.contains("the node is not being served")).then_some(())
    });
    assert_eq!(stopped(), true);
    it.at("pl", "node resume", &[]).exits(0).says("what it said is kept");
    assert_eq!(stopped(), false);
}
