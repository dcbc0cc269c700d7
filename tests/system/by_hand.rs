//! `scripts/by-hand.sh`: what the guide shows, typed as the guide shows it.

use crate::command::{Said, binary, comity, finished, scratch};
use crate::demo::demo;
use std::path::Path;
use std::process::Command;

fn by_hand(how: &str, dir: &Path) -> Said {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/by-hand.sh");
    let mut command = Command::new("bash");
    command.arg(script).arg(how).arg(&demo().dir).arg(dir);
    command.env("COMITY", binary()).env("LISTEN", "127.0.0.1:0").env("COLUMNS", "100");
    let said = finished(command);
    // What it started it ended.
    for file in std::fs::read_dir(dir).unwrap() {
        let socket = file.unwrap().path().join("control.sock");
        assert!(
            std::os::unix::net::UnixStream::connect(&socket).is_err(),
            "{} answers still",
            socket.display()
        );
    }
    said
}

#[test]
fn three_members_agree_and_register_by_hand_and_are_told_why_they_are_too_few() {
    let dir = scratch();
    let said = by_hand("three", &dir.path().join("f")).exits(0);
    for id in ["gb", "se", "ch"] {
        assert!(said.out.contains(&format!("ist@{id}")), "dataset of {id} is registered\n{}", said.out);
        assert!(said.out.contains(&format!("{id:<6} DENY")), "{id} says no\n{}", said.out);
    }
    // With one of three collecting and two aggregating nobody stays hidden and nobody is left without interest.
    for rule in ["floor.hidden-sites", "floor.aggregators-disinterested"] {
        assert!(said.out.contains(&format!("rule:   {rule}")), "{rule}\n{}", said.out);
    }
    assert!(said.out.contains("mend:") && said.out.contains("who:"));
    assert!(said.out.contains("\nVALID\n"), "{}", said.out);
}

#[test]
fn eight_members_are_the_fewest_that_answer_a_study_by_hand() {
    let dir = scratch();
    let dir = dir.path().join("f");
    let said = by_hand("eight", &dir).exits(0);
    assert!(said.out.contains("8 contributing sites of which 3 stay hidden"), "{}", said.out);
    for words in [
        "paused: nothing leaves it from now on",
        "is back in use",
        "stopped: nothing leaves",
        "started again",
    ] {
        assert!(said.out.contains(words), "{words}\n{}", said.out);
    }
    assert!(said.out.contains("declined by the stewards of pl"), "{}", said.out);
    assert!(said.out.contains("\nVALID\n"), "{}", said.out);
    // The counts are those of the eight members' rows.
    let analysed = said.out.lines().find(|l| l.starts_with("read ")).unwrap().to_string();
    let rows: usize = ["gb", "se", "ch", "no", "it", "nl", "pl", "ar"]
        .iter()
        .map(|id| std::fs::read_to_string(dir.join(id).join("data/ist.csv")).unwrap().lines().count() - 1)
        .sum();
    assert!(
        analysed.contains(&format!("read {rows}")) || analysed.contains("not shown"),
        "{analysed} of {rows}"
    );
    let bundle = dir.join("recurrence.bundle").display().to_string();
    comity(["bundle", "verify", &bundle, "--charter", &demo().pin()])
        .exits(1)
        .says("but the pinned digest is");
}
