//! After the demo: its folder goes on being used, with no process running.

use crate::command::{at, comity};
use crate::demo::{MEMBERS, demo};
use serde_json::Value;

#[test]
fn the_record_is_listed_shown_and_verified_offline() {
    let au = demo().node("au");
    let list = at(&au, "record list", &["--json"]).exits(0).json();
    let entries = list.as_array().unwrap();
    assert!(entries.len() > 100);
    assert_eq!(entries[0]["type"], "charter.propose@1");
    let signed =
        entries.iter().filter(|e| e["type"] == "charter.sign@1" && e["status"] == "in force").count();
    assert_eq!(signed, 9);
    let void: Vec<&Value> =
        entries.iter().filter(|e| e["status"].as_str().unwrap().starts_with("void")).collect();
    assert_eq!(void.len(), 1, "the schedule adopted before the charter was in force: {void:?}");
    assert_eq!(void[0]["type"], "schedule.adopt@1");
    let from = at(&au, "record list", &["--from", "100", "--json"]).exits(0).json();
    assert_eq!(from.as_array().unwrap().len(), entries.len() - 100);

    let text = at(&au, "record list", &[]).exits(0);
    assert_eq!(text.out.lines().count(), entries.len());
    let shown = at(&au, "record show", &["0", "--json"]).exits(0).json();
    assert_eq!(shown["index"], 0);
    assert!(at(&au, "record show", &["0"]).exits(0).out.contains("stroke-nine"));
    at(&au, "record show", &["999999"]).exits(2).says("found no entry 999999");

    for id in MEMBERS {
        let verified = at(&demo().node(id), "record verify", &["--json"]).exits(0).json();
        assert_eq!(verified["valid"], true);
        assert!(verified["cosigned_by"].as_object().unwrap().len() >= 6);
        assert_eq!(verified["quorum"], 6);
    }
    assert!(at(&au, "record verify", &[]).exits(0).out.contains("VALID"));
}

#[test]
fn all_nine_nodes_hold_one_state() {
    let states: Vec<(Value, Value)> = MEMBERS
        .iter()
        .map(|id| {
            let status = at(&demo().node(id), "node status", &["--json"]).exits(0).json();
            assert_eq!(status["member"], *id);
            assert_eq!(status["in_force"], true);
            assert_eq!(status["charter"], demo().pin());
            assert_eq!(status["evidence"], serde_json::json!([]), "nobody sent anything wrong");
            (status["state"].clone(), status["watermark"].clone())
        })
        .collect();
    let newest = states.iter().map(|(_, mark)| mark.as_u64().unwrap()).max().unwrap();
    let newest: Vec<_> = states.iter().filter(|(_, mark)| mark.as_u64() == Some(newest)).collect();
    assert!(newest.iter().all(|s| *s == newest[0]), "{states:?}");
    at(&demo().node("gb"), "node status", &[]).exits(0).says("in force").says("quorum 6 of 9");
}

#[test]
fn studies_are_listed_shown_checked_and_their_output_read_by_the_recipient_alone() {
    let gb = demo().node("gb");
    let list = at(&gb, "study list", &["--json"]).exits(0).json();
    let phase = |id: &str| {
        let of = list.as_array().unwrap().iter().find(|s| s["study"] == id).unwrap();
        of["phase"]["phase"].as_str().unwrap().to_string()
    };
    assert_eq!(
        ["aspirin", "too-fine", "near-miss", "near-miss-mended"].map(phase),
        ["released", "refused", "refused", "released"]
    );
    at(&gb, "study list", &[]).exits(0).says("REFUSED by the gates of");

    let show = at(&gb, "study show", &["aspirin", "--json"]).exits(0).json();
    assert_eq!(show["phase"]["phase"], "released");
    assert_eq!(show["study"]["votes"].as_object().unwrap().len(), 9);
    let show = at(&gb, "study show", &["aspirin"]).exits(0);
    for id in MEMBERS {
        assert!(show.out.contains(&format!("gate       {id:<6} allow")));
        assert!(show.out.contains(&format!("vote       {id:<6} Yes by {id}-steward")));
    }
    at(&gb, "study show", &["nothing"]).exits(2).says("found no study `nothing` on the record");

    let output = at(&gb, "study result", &["aspirin", "--json"]).exits(0).json()["output"].clone();
    assert_eq!(output["contributors"].as_array().unwrap().len(), 9);
    let text = at(&gb, "study result", &["aspirin"]).exits(0);
    for word in ["Odds ratio", "95 %", "analysed"] {
        assert!(text.out.to_lowercase().contains(&word.to_lowercase()), "{word}\n{}", text.out);
    }
    at(&gb, "study result", &["too-fine"]).exits(1).says("REFUSED");
    at(&gb, "study result", &["nothing"]).exits(2).says("found no study `nothing`");
    for id in MEMBERS.iter().filter(|id| **id != "gb") {
        let said = at(&demo().node(id), "study result", &["aspirin"]).exits(1);
        let said = said.says(&format!("released, but not to `{id}`"));
        assert!(!said.out.contains("Odds"), "no number is shown to {id}");
    }
}

#[test]
fn a_dry_check_says_what_each_gate_decides_on_which_basis_and_what_would_leave() {
    let gb = demo().node("gb");
    let fine = at(&gb, "study check", &[&demo().study("too-fine"), "--json"]).exits(1).json();
    assert_eq!(fine["allow"], false);
    let verdicts = fine["verdicts"].as_array().unwrap();
    assert_eq!(verdicts.len(), 9);
    for verdict in verdicts {
        assert_eq!(verdict["allow"], false);
        for rule in verdict["determining"].as_array().unwrap() {
            for part in ["id", "level", "basis", "says", "fix", "who", "source"] {
                let words = rule[part].as_str().unwrap_or("");
                assert!(!words.is_empty(), "rule {} lacks {part}", rule["id"]);
            }
        }
        assert!(verdict["determining"].as_array().unwrap().len() >= 4, "several rules: {}", verdict["node"]);
    }
    let near = at(&gb, "study check", &[&demo().study("near-miss"), "--json"]).exits(1).json();
    let no: Vec<&Value> =
        near["verdicts"].as_array().unwrap().iter().filter(|v| v["allow"] == false).collect();
    assert_eq!(no.len(), 1);
    assert_eq!(no[0]["node"], "au");
    assert_eq!(no[0]["determining"][0]["level"], "schedule:AU");

    let text = at(&gb, "study check", &[&demo().study("near-miss")]).exits(1);
    for words in ["au     DENY", "country schedule of AU", "basis:", "source:", "mend:", "who:"] {
        assert!(text.out.contains(words), "{words}");
    }
    for words in ["transfer basis, every pair", "what would leave each site", "still needed"] {
        assert!(text.out.contains(words), "{words}");
    }
    // Every pair, with its source and date: nine exporters, each to aggregators, collector, hub and recipient.
    let pairs = near["transfers"].as_array().unwrap();
    for role in ["aggregator", "collector", "hub", "recipient"] {
        assert!(pairs.iter().any(|p| p["role"] == role), "{role}");
    }
    assert!(pairs.iter().all(|p| !p["source"].as_str().unwrap().is_empty()));
    assert!(pairs.iter().all(|p| p["as_of"].as_str().unwrap().len() == 10), "each with its day");
}

#[test]
fn datasets_policies_and_egress_are_read_offline() {
    let it = demo().node("it");
    let list = at(&it, "dataset list", &["--json"]).exits(0).json();
    assert_eq!(list.as_array().unwrap().len(), 9);
    assert!(list.as_array().unwrap().iter().all(|d| d["paused"] == false));
    assert_eq!(at(&it, "dataset list", &[]).exits(0).out.lines().count(), 10);
    let own = at(&it, "dataset show", &["ist", "--json"]).exits(0).json();
    assert_eq!(own["dataset"], "ist@it");
    at(&it, "dataset show", &["ist@ar"]).exits(0).says("legal basis").says("ist@ar");
    at(&it, "dataset show", &["other"]).exits(2).says("found no dataset `other@it` on the record");

    let policy = at(&it, "policy show", &["--json"]).exits(0).json();
    assert_eq!(policy["published"], true);
    assert_eq!(policy["schedule"]["regime"], "EU");
    assert_eq!(policy["schedule"]["confirmed_by"], "it-counsel");
    at(&it, "policy show", &[]).exits(0).says("confirmed by it-counsel").says("floor.min-cell");

    let egress = at(&it, "node egress", &["--json"]).exits(0).json();
    let bytes = |study: &str| egress["totals"][study]["contribution"].as_u64().unwrap();
    assert!(bytes("aspirin") > 0 && bytes("near-miss-mended") > 0);
    assert_eq!((bytes("too-fine"), bytes("near-miss")), (0, 0));
    for row in egress["rows"].as_array().unwrap() {
        assert_eq!(row["kind"], "contribution", "it only contributes: {row}");
        assert!(row["to"] == "ch" || row["to"] == "se", "to an aggregator: {row}");
        assert!(row["cells"].as_u64().unwrap() > 0 && row["bytes"].as_u64().unwrap() > 0);
        assert!(row["approval"].as_i64().unwrap() > 0, "under the steward's vote: {row}");
        assert_eq!(row["layout"].as_str().unwrap().len(), 64);
        let index = row["approval"].to_string();
        let vote = at(&it, "record show", &[&index, "--json"]).exits(0).json();
        assert_eq!(vote["statement"]["type"], "decision.vote@1");
        assert_eq!(vote["statement"]["issuer"], "it");
        if row["round"].as_u64().unwrap() > 2 {
            break;
        }
    }
    let text = at(&it, "node egress", &["--since", "2026-01-01"]).exits(0);
    assert!(text.out.contains("too-fine: 0 bytes of contribution left this site"));
    let later = at(&it, "node egress", &["--since", "2999-01-01", "--json"]).exits(0).json();
    assert_eq!(later["rows"], serde_json::json!([]));
    at(&it, "node egress", &["--since", "yesterday"]).exits(2).says("found `yesterday`, expected YYYY-MM-DD");
}

#[test]
fn a_bundle_is_verified_offline_with_the_digest_as_text_or_as_file() {
    let demo = demo();
    for name in ["aspirin", "too-fine"] {
        let file = demo.dir.join(format!("{name}.bundle")).display().to_string();
        let pin_file = demo.dir.join("charter.digest").display().to_string();
        comity(["bundle", "verify", &file, "--charter", &pin_file])
            .exits(0)
            .says("VALID")
            .says("as you gave it");
        let said = comity(["bundle", "verify", &file, "--charter", &demo.pin(), "--json"]).exits(0).json();
        assert_eq!(said["valid"], true);
        assert_eq!(said["pinned"], true);
        assert_eq!(said["study"], name);
        assert!(said["gates"]["again"].as_u64().unwrap() >= 9);
    }
    let out = crate::command::scratch();
    let out = out.path().join("again.bundle").display().to_string();
    at(&demo.node("it"), "bundle export", &["near-miss", "--out", &out]).exits(0);
    comity(["bundle", "verify", &out, "--charter", &demo.pin()]).exits(0).says("REFUSED by the gates of au");
}
