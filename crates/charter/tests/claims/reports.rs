//! Reports of broken words: what convicts stands on the record, whoever reports it; what does not is void.

use crate::federation::*;
use crate::scenario::reports;
use charter::body::{EvidenceReport, NodeStop};
use charter::fold::{MAX_CONVICTIONS, MAX_REPORTS};
use charter::{Convicted, State, Status, snapshot};
use record::canon::{self, Value};
use record::evidence::{Attested, Changed};
use record::roster::OPEN;
use record::term::{Opening, SIGN_OFF, SignOff};
use record::tree::leaf_hash;
use record::{Checkpoint, Claim, Digest, Entry, Evidence, HubInfo, SignedStatement, Statement, Tree};

fn file(claim: Claim) -> Evidence {
    Evidence::new(canon::to_value(&charter()).unwrap(), claim)
}

/// Two roots for one size, both signed with the `key` of this holder.
pub fn fork(mark: &str, by: &str) -> Evidence {
    fork_by(mark, &key(by, "key"))
}

fn fork_by(mark: &str, by: &record::SecretKey) -> Evidence {
    let root = |which: &str| Digest::of(format!("{mark} {which}").as_bytes());
    let note = |which| Checkpoint::new("comity/stroke-nine", 30, root(which)).unwrap().sign(by).to_note();
    file(Claim::TwoRoots { one: note("one"), other: note("other") })
}

/// A signed answer about entries that are not those of the tree.
pub fn wrong_entry(by: &str) -> Evidence {
    let leaves = [leaf_hash(b"right"), leaf_hash(b"other")];
    let tree = Tree::from_leaf_hashes(leaves);
    let answer = Attested {
        from: 0,
        leaves: vec![leaf_hash(b"wrong")],
        member: by.into(),
        origin: "comity/stroke-nine".into(),
        root: tree.root(),
        size: 2,
        signature: None,
    };
    let answer = answer.sign(&key(by, "sign")).unwrap();
    file(Claim::WrongEntry { answer, index: 0, leaf: leaves[0], proof: tree.prove_inclusion(0, 2).unwrap() })
}

/// A report with its evidence.
pub fn report(evidence: &Evidence) -> EvidenceReport {
    let bytes = evidence.write().unwrap();
    EvidenceReport { file: Digest::of(&bytes), evidence: Some(canon::to_value(evidence).unwrap()) }
}

/// A report by the digest of its evidence alone.
pub fn bare(evidence: &Evidence) -> EvidenceReport {
    EvidenceReport { evidence: None, ..report(evidence) }
}

fn say(f: &mut Federation, member: &str, report: &EvidenceReport) -> Status {
    f.node(member, EvidenceReport::TYPE, report)
}

#[test]
fn evidence_that_convicts_the_hub_stands_on_the_record_with_its_key_and_term() {
    let mut f = Federation::ready();
    let evidence = fork("one", "hub");
    valid(say(&mut f, "it", &report(&evidence)));
    let stands = &f.state.reports[&report(&evidence).file];
    assert_eq!((stands.by.as_str(), stands.index), ("it", f.state.size - 1));
    let convicted =
        Convicted { who: "hub".into(), term: 1, key: key("hub", "key").public(), kind: "two-roots".into() };
    assert_eq!(stands.convicts.as_ref(), Some(&convicted));
    // It is the same file that members hand to each other.
    let entry = f.entries.last().unwrap().signed.statement();
    let body: EvidenceReport = entry.body_as().unwrap();
    assert_eq!(Evidence::read(&body.evidence.unwrap().to_bytes().unwrap()).unwrap(), evidence);
}

#[test]
fn evidence_that_convicts_a_member_names_it_and_no_term() {
    let mut f = Federation::ready();
    valid(say(&mut f, "it", &report(&wrong_entry("ch"))));
    let convicted = f.state.reports.values().next().unwrap().convicts.clone().unwrap();
    assert_eq!((convicted.who.as_str(), convicted.term, convicted.kind.as_str()), ("ch", 0, "wrong-entry"));
    assert_eq!(convicted.key, key("ch", "sign").public());
    // The member itself may report what it likes, and be reported by itself.
    valid(say(&mut f, "no", &report(&wrong_entry("no"))));
}

#[test]
fn what_convicts_nobody_is_void_whoever_reports_it() {
    let mut f = Federation::ready();
    let nobody = "the evidence convicts nobody";
    for member in ["it", "gb"] {
        void(say(&mut f, member, &report(&fork("forged", "it"))), nobody);
        // Of another federation, whatever it holds together by itself.
        let mut elsewhere = fork("one", "hub");
        let Value::Map(charter) = &mut elsewhere.charter else { panic!("a map") };
        charter.insert("title".into(), Value::Str("Another".into()));
        elsewhere.verify(None).unwrap();
        void(say(&mut f, member, &report(&elsewhere)), nobody);
        let mut same = fork("one", "hub");
        if let Claim::TwoRoots { one, other } = &mut same.claim {
            other.clone_from(one);
        }
        void(say(&mut f, member, &report(&same)), nobody);
        let text = Value::Str("no evidence".into());
        let shapeless = EvidenceReport { file: Digest::of(&text.to_bytes().unwrap()), evidence: Some(text) };
        void(say(&mut f, member, &shapeless), nobody);
    }
    assert!(f.state.reports.is_empty());
}

#[test]
fn a_hub_that_took_over_in_the_file_alone_is_not_the_records() {
    let mut f = Federation::ready();
    let roster = f.state.roster.clone();
    let tree = Tree::from_leaf_hashes(f.entries.iter().map(|e| leaf_hash(&e.to_bytes())));
    let public = |purpose: &str| key("elsewhere", purpose).public();
    let hub = HubInfo {
        operator: "Elsewhere".into(),
        jurisdiction: "NL".into(),
        key: public("key"),
        tls: public("tls"),
    };
    let at = Checkpoint::new("comity/stroke-nine", tree.size(), tree.root()).unwrap();
    let claim = at.sign(&key("hub", "key")).to_note();
    let body = SignOff { term: 1, next: hub, address: "hub.example:1".into(), claim: Some(claim) };
    let signed = |kind: &str, by: &str, body: &Value| {
        let statement = Statement::new(kind, "stroke-nine", by, "operator", body).unwrap();
        SignedStatement::sign(statement, &key(by, "sign")).unwrap()
    };
    let body = canon::to_value(&body).unwrap();
    let signoffs: Vec<Vec<u8>> = MEMBERS.iter().map(|m| signed(SIGN_OFF, m, &body).to_bytes()).collect();
    // Members have signed off for it, and then it never began.
    let opening = Opening::make(&signoffs, &tree, &roster).unwrap();
    let opening = signed(OPEN, "gb", &canon::to_value(&opening).unwrap());
    let text = |entry: &Entry| String::from_utf8(entry.to_bytes()).unwrap();
    let signed_by_all = (1..).zip(&f.entries[1..=MEMBERS.len()]);
    let mut changes: Vec<Changed> =
        signed_by_all.map(|(index, entry)| Changed { entry: text(entry), index }).collect();
    changes.push(Changed { entry: text(&Entry::new(f.time, opening)), index: f.state.size });
    let evidence = fork_by("one", &key("elsewhere", "key")).with(changes);
    assert_eq!(evidence.verify(Some(charter().digest().unwrap())).unwrap().term, 2);
    let why = "the evidence does not hold by this record's keys and members";
    void(say(&mut f, "it", &report(&evidence)), why);
}

#[test]
fn a_report_without_its_evidence_convicts_nobody_until_the_file_comes() {
    let mut f = Federation::ready();
    let evidence = fork("one", "hub");
    valid(say(&mut f, "it", &bare(&evidence)));
    let file = bare(&evidence).file;
    assert_eq!(f.state.reports[&file].convicts, None);
    void(say(&mut f, "gb", &bare(&evidence)), "reported before");
    valid(say(&mut f, "gb", &report(&evidence)));
    assert_eq!(f.state.reports[&file].by, "gb");
    assert!(f.state.reports[&file].convicts.is_some());
}

#[test]
fn nobody_fills_the_record_with_reports() {
    let mut f = Federation::ready();
    for n in 0..MAX_CONVICTIONS {
        valid(say(&mut f, "it", &report(&fork(&n.to_string(), "hub"))));
    }
    void(say(&mut f, "gb", &report(&fork("more", "hub"))), "convicted often enough");
    for n in 0..MAX_REPORTS {
        let file = Digest::of(format!("file {n}").as_bytes());
        valid(say(&mut f, "it", &EvidenceReport { file, evidence: None }));
    }
    void(say(&mut f, "it", &bare(&fork("more", "hub"))), "too many reports without their evidence");
    // Others have room of their own, and so have those who are convicted.
    valid(say(&mut f, "gb", &bare(&fork("more", "hub"))));
    valid(say(&mut f, "it", &report(&wrong_entry("ch"))));
}

#[test]
fn a_report_protects_it_counts_after_the_sunset_and_from_who_is_suspended() {
    let mut f = Federation::ready();
    let suspend = record::Change::Suspend { member: "it".into() };
    let suspend = std::collections::BTreeMap::from([("change", suspend)]);
    let proposal = f.seat_id("gb", "gb-signatory", record::roster::CHANGE, &suspend);
    let accept = std::collections::BTreeMap::from([("proposal", proposal)]);
    for member in ["pl", "nl", "se", "no", "ch"] {
        valid(f.seat(member, "signatory", record::roster::ACCEPT, &accept));
    }
    assert!(f.state.roster.suspended.contains_key("it"));
    valid(say(&mut f, "it", &report(&fork("one", "hub"))));
    f.time = charter::document::end_of_day("2026-12-31").unwrap();
    valid(say(&mut f, "it", &report(&fork("other", "hub"))));
    valid(f.node("gb", NodeStop::TYPE, &NodeStop { reason: "".into() }));
}

#[test]
fn the_state_holds_a_report_under_its_own_key_and_a_snapshot_gives_it_back() {
    let f = reports();
    assert_eq!(f.state.reports.len(), 3);
    let map = f.state.map().unwrap();
    for file in f.state.reports.keys() {
        assert!(map.value(&format!("evidence/{file}")).is_some());
    }
    let read: State = snapshot::read(&crate::snapshots::bytes_of(map.leaves())).unwrap();
    assert_eq!(read.reports, f.state.reports);
    let mut other = f.state.clone();
    other.reports.values_mut().for_each(|r| r.convicts = None);
    assert_ne!(other.map().unwrap().root(), map.root());
    assert_ne!(other.digest().unwrap(), f.state.digest().unwrap());
}
