//! The jurisdiction library: pairs, recognitions, instruments, sources.

use super::{policies, sound};
use crate::library::{THRESHOLDS, date_of};
use crate::schedule::Verified;
use crate::{Instrument, Library, Location, SCHEDULES, Schedule, TransferRole, transfer_pairs};
use std::path::PathBuf;

fn library() -> Library {
    Library::embedded().unwrap()
}

fn place(name: &str, jurisdiction: &str, outside: bool) -> Location {
    Location { name: name.into(), jurisdiction: jurisdiction.into(), outside }
}

#[test]
fn pairs_of_the_demonstration_have_the_mechanisms_of_their_law() {
    let library = library();
    let mechanism = |from, to| library.transfer(from, to, true).unwrap().mechanism;
    assert_eq!(mechanism("IT", "SE"), "domestic");
    assert_eq!(mechanism("IT", "CH"), "adequacy");
    assert_eq!(mechanism("NO", "AU"), "clauses");
    assert_eq!(mechanism("GB", "AR"), "adequacy");
    assert_eq!(mechanism("GB", "US"), "adequacy_partial");
    assert_eq!(mechanism("AU", "GB"), "accountability");
    assert_eq!(mechanism("AR", "AU"), "clauses");
    assert_eq!(mechanism("AE", "CH"), "prohibited");
    assert_eq!(mechanism("US", "CN"), "restricted");
    assert_eq!(library.transfer("GB", "ZZ", false), None);
    assert_eq!(library.transfer("ZZ", "GB", false), None);
    for regime in ["AR", "AU", "CH", "EU", "GB", "US"] {
        let t = library.transfer(regime, if regime == "EU" { "AU" } else { "EU" }, true).unwrap();
        assert!(
            !t.source.is_empty()
                && !t.as_of.is_empty()
                && ["search", "memory"].contains(&t.verified.as_str())
        );
    }
}

#[test]
fn a_recognition_that_has_ended_counts_no_longer() {
    let library = library();
    assert_eq!(library.transfer_at("IT", "GB", true, "2031-12-27").unwrap().mechanism, "adequacy");
    assert_eq!(library.transfer_at("IT", "GB", true, "2031-12-28").unwrap().mechanism, "clauses");
}

#[test]
fn an_instrument_serves_members_by_regime_and_outsiders_by_name_only() {
    let library = library();
    let instrument = |importers: &[&str], mechanism: &str| Instrument {
        id: "i".into(),
        mechanism: mechanism.into(),
        exporters: vec!["EU".into()],
        importers: importers.iter().map(|i| (*i).to_string()).collect(),
        reference: "r".into(),
    };
    let ok = |to: Location, i: &Instrument| {
        let to = [(TransferRole::Recipient, to)];
        transfer_pairs(&library, &place("it", "IT", false), &to, std::slice::from_ref(i), true, 0)[0]
            .has_basis()
    };
    assert!(ok(place("au", "AU", false), &instrument(&["AU"], "clauses")));
    assert!(ok(place("au", "AU", false), &instrument(&["AU"], "bcr")));
    assert!(!ok(place("au", "AU", false), &instrument(&["AU"], "consent")));
    assert!(!ok(place("au", "AU", false), &instrument(&["US"], "clauses")));
    assert!(!ok(place("Acme", "AU", true), &instrument(&["AU"], "clauses")));
    assert!(ok(place("Acme", "AU", true), &instrument(&["Acme"], "clauses")));
    // Accountability binds members through the agreement, and nobody else.
    let from_au = |to: Location| {
        let to = [(TransferRole::Recipient, to)];
        transfer_pairs(&library, &place("au", "AU", false), &to, &[], true, 0)[0].has_basis()
    };
    assert!(from_au(place("gb", "GB", false)));
    assert!(!from_au(place("Acme", "GB", true)));
}

#[test]
fn every_pair_is_looked_up_with_its_role() {
    let (_, input) = sound();
    let of = |role| {
        input.transfers.iter().filter(|t| t.role == role).map(|t| t.to_party.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(of(TransferRole::Aggregator), ["ch", "se"]);
    assert_eq!(of(TransferRole::Collector), ["no"]);
    assert_eq!(of(TransferRole::Hub), ["Harbour Hosting (fictitious)"]);
    assert_eq!(of(TransferRole::Recipient), ["gb"]);
    assert_eq!(of(TransferRole::Contributor), ["ar", "au", "ch", "gb", "nl", "no", "pl", "se"]);
    let to_au = input.transfers.iter().find(|t| t.to_party == "au").unwrap();
    assert_eq!((to_au.mechanism.as_str(), to_au.needs_instrument), ("clauses", true));
    assert!(to_au.instrument.as_deref().unwrap().starts_with("clauses-2026"));
}

#[test]
fn one_bloc_is_one_legal_order() {
    let library = library();
    assert_eq!(library.legal_order("SE"), library.legal_order("NO"));
    assert_ne!(library.legal_order("SE"), library.legal_order("CH"));
    assert_eq!(library.legal_order("CA-QC"), library.legal_order("CA"));
    assert_eq!(library.legal_order("ZZ"), None);
}

#[test]
fn days_are_civil_days() {
    assert_eq!(date_of(0), "1970-01-01");
    assert_eq!(date_of(-1), "1969-12-31");
    assert_eq!(date_of(951_782_400_000), "2000-02-29");
    assert_eq!(date_of(1_795_392_000_000), "2026-11-23");
    assert_eq!(date_of(4_107_542_399_999), "2100-02-28");
    assert_eq!(date_of(4_107_542_400_000), "2100-03-01");
}

/// A mark that points into the library says what the library says, and is no newer than it.
#[test]
fn marks_say_what_the_library_says() {
    let files = |id: &str| -> toml::Table {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../../jurisdictions/{id}.toml"));
        toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    let thresholds: toml::Table = toml::from_str(THRESHOLDS).unwrap();
    for (regime, text) in SCHEDULES {
        let schedule = Schedule::adopt(regime, text).unwrap();
        let own = files(regime);
        assert_eq!(own["as_of"].as_str(), Some(schedule.as_of()), "{regime}");
        for mark in schedule.marks() {
            let Some(pointer) = &mark.library else {
                assert_eq!(mark.verified, Verified::OwnChoice, "{regime}: {}", mark.basis);
                continue;
            };
            let (file, key) = pointer.split_once(':').unwrap();
            let entries: Vec<toml::Value> = match file {
                "thresholds" => thresholds["threshold"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|t| t["id"].as_str() == Some(key))
                    .cloned()
                    .collect(),
                id => match &files(id)[key] {
                    toml::Value::Array(list) => list.clone(),
                    // The section's own source, and those of its rules.
                    toml::Value::Table(t) => std::iter::once(toml::Value::Table(t.clone()))
                        .chain(t.get("rules").and_then(|r| r.as_array()).into_iter().flatten().cloned())
                        .collect(),
                    _ => vec![],
                },
            };
            assert!(!entries.is_empty(), "{pointer} leads nowhere");
            if mark.verified != Verified::OwnChoice {
                let verified = if mark.verified == Verified::Search { "search" } else { "memory" };
                assert!(
                    entries.iter().any(|e| e.get("source").and_then(|s| s.as_str()) == Some(&mark.source)
                        && e.get("verified").and_then(|s| s.as_str()) == Some(verified)),
                    "{pointer}: {} ({verified})",
                    mark.source
                );
            }
        }
    }
}

#[test]
fn the_library_agrees_with_the_pairs_compiled_by_hand() {
    let name = "the_library_agrees_with_the_pairs_compiled_by_hand";
    let root = std::env::var_os("COMITY_SHARED").map(PathBuf::from).or_else(|| {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).ancestors().map(|a| a.join("shared")).find(|p| p.is_dir())
    });
    let text = root.and_then(|r| {
        ["jurisdictions", "../jurisdictions"]
            .iter()
            .find_map(|d| std::fs::read_to_string(r.join(d).join("matrix.toml")).ok())
    });
    let Some(text) = text else {
        println!("skipped for lack of the real data: {name}");
        return;
    };
    let matrix: toml::Table = toml::from_str(&text).unwrap();
    let library = library();
    let mut pairs = 0;
    for p in matrix["pairs"].as_array().unwrap() {
        let (from, to) = (p["from"].as_str().unwrap(), p["to"].as_str().unwrap());
        if (from, to) == ("CA", "CA-QC") {
            continue; // a hand rule there: one country; here the lighter reading is not taken
        }
        let found = library.transfer(from, to, false).unwrap();
        assert_eq!(Some(found.mechanism.as_str()), p["m"].as_str(), "{from} to {to}");
        assert_eq!(found.otherwise.as_deref(), p.get("else").and_then(|e| e.as_str()), "{from} to {to}");
        pairs += 1;
    }
    assert_eq!(pairs, 869);
}

#[test]
fn every_shipped_schedule_is_adopted_with_its_tests() {
    for (regime, text) in SCHEDULES {
        let schedule = Schedule::adopt(regime, text).unwrap();
        assert_eq!(schedule.jurisdiction(), regime);
        assert!(schedule.tests() >= 3);
        let ids = policies(regime).rule_ids();
        assert!(ids.iter().any(|(level, _)| *level == format!("schedule:{regime}")));
    }
}
