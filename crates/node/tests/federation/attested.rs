//! Attested state: nodes say it by themselves, the one that differs halts, and files made from it hold.

use crate::changes::{decide, init, rotation};
use crate::house::{House, Setup, count};
use charter::body::{NodeResume, ProtocolActivate, StateAttest};
use node::attest::{SNAPSHOT, check_snapshot, verify_proof};
use node::control::Command;
use node::members::Document;
use record::{Change, Digest};
use std::collections::BTreeSet;
use std::path::Path;

const EVERY: u32 = 32;

fn attesting() -> House {
    Setup::eight().attested_every(EVERY).build()
}

/// Drills of a node that none of its people asked for, until the record has so many entries.
fn fill(house: &mut House, size: u64) {
    while house.hub.size() < size {
        house.now += 1;
        house.say_as("be", NodeResume::TYPE, "node", "node", &NodeResume { reason: "drill".into() });
    }
    house.settle();
}

/// The next size at which members attest the state.
fn next(house: &House) -> u64 {
    let every = u64::from(EVERY);
    (house.hub.size() / every + 1) * every
}

fn halted(house: &mut House, id: &str) -> Option<String> {
    house.cmd(id, Command::Status).data["halted"].as_str().map(str::to_string)
}

fn file(house: &House, name: &str) -> String {
    house.folder("gb").join(name).display().to_string()
}

#[test]
fn nodes_attest_the_state_by_themselves_and_rest_after_it() {
    let mut house = attesting();
    let size = next(&house);
    fill(&mut house, size);
    house.no_errors();
    let (attested, root) = house.node("gb").state().attested().unwrap();
    assert_eq!(attested, size);
    let by = &house.node("gb").state().attests[&size].by;
    assert_eq!(by.len(), 8, "each member once");
    assert!(by.values().all(|said| *said == (root, 1)));
    let rest = house.hub.size();
    house.now += 10 * 60_000;
    house.settle();
    assert_eq!(house.hub.size(), rest, "attests do not go on by themselves");
    for id in house.ids() {
        assert_eq!(halted(&mut house, &id), None);
        house.restart(&id);
    }
    house.settle();
    house.no_errors();
    assert_eq!(house.hub.size(), rest, "a node that starts again attests nothing twice");
}

#[test]
fn a_node_whose_state_is_not_the_one_that_a_quorum_attested_halts_naming_both_roots() {
    let mut house = attesting();
    // Six lie alike; what the honest say of themselves does not come through before.
    house.keep_out = Box::new(|_, signed| signed.statement().r#type == StateAttest::TYPE);
    let size = next(&house);
    fill(&mut house, size);
    let root = Digest::of(b"another state");
    for (said, liar) in ["it", "pl", "nl", "be", "ch", "no"].into_iter().enumerate() {
        assert_eq!(halted(&mut house, "gb"), None, "{said} is no quorum");
        let body = StateAttest { size, root, version: 1 };
        house.say_as(liar, StateAttest::TYPE, "state", "node", &body);
        house.settle();
    }
    let why = halted(&mut house, "gb").unwrap();
    let mut state = charter::State::new();
    for bytes in &house.hub.entries[..usize::try_from(size).unwrap()] {
        state.apply(&record::Entry::from_bytes(bytes).unwrap());
    }
    let own = state.map().unwrap().root().to_string();
    for words in [size.to_string(), own, root.to_string()] {
        assert!(why.contains(&words), "{why}");
    }
    assert_eq!(house.cmd("gb", Command::Status).exit, 1);
    // Nothing runs any more, after a new start neither.
    let said = house.hub.size();
    house.restart("gb");
    assert!(halted(&mut house, "gb").is_some());
    house.now += 60_000;
    house.steps(10);
    assert_eq!(house.hub.size(), said);
}

#[test]
fn a_record_with_a_protocol_version_that_this_build_does_not_know_halts_it_and_says_what_to_do() {
    let mut house = attesting();
    let version = charter::body::KNOWN_VERSION + 1;
    for member in ["gb", "it", "pl", "nl", "be", "ch"] {
        assert_eq!(halted(&mut house, "se"), None);
        let body = ProtocolActivate { version };
        house.say_as(member, ProtocolActivate::TYPE, "protocol", "operator", &body);
        house.settle();
    }
    let why = halted(&mut house, "se").unwrap();
    assert!(why.contains(&format!("protocol version {version}")) && why.contains("upgrade"), "{why}");
    let reply = house.cmd("se", Command::RecordVerify);
    assert!(reply.exit != 0 && reply.text.contains("upgrade"), "{}", reply.text);
    house.restart("se");
    assert_eq!(halted(&mut house, "se"), Some(why));
}

/// A federation with a released study in an attested state.
fn released() -> House {
    let mut house = attesting();
    house.ask_and_approve("deaths", &count("deaths"));
    house.settle();
    assert!(house.released("deaths"));
    let size = next(&house);
    fill(&mut house, size);
    house.no_errors();
    house
}

#[test]
fn a_node_writes_a_small_proof_that_verifies_offline_under_the_charter_alone() {
    let mut house = released();
    let out = file(&house, "deaths.proof");
    let reply = house.must("gb", Command::RecordProve { study: "deaths".into(), out: out.clone() });
    let bytes = std::fs::read(&out).unwrap();
    assert!(bytes.len() <= 16 * 1024, "{} bytes", bytes.len());
    let shown = verify_proof(&bytes, Some(house.pin()));
    assert_eq!(shown.exit, 0, "{}", shown.text);
    assert_eq!(shown.data["size"], reply.data["size"]);
    assert_eq!(shown.data["votes_yes"], 6);
    let released = house.node("gb").state().studies["deaths"].runs[&1].release.clone().unwrap().0;
    assert_eq!(shown.data["output"], released.output.to_string());
    assert!(
        shown.text.contains("speaks       up to entry") && shown.text.contains("VALID"),
        "{}",
        shown.text
    );
    let unpinned = verify_proof(&bytes, None);
    assert_eq!(unpinned.exit, 1);
    assert!(unpinned.text.contains("UNPINNED"));
    assert_eq!(verify_proof(&bytes, Some(Digest::of(b"another"))).exit, 1);
    // Five hundred bits all over.
    for n in 0..500 {
        let mut changed = bytes.clone();
        changed[n * 7919 % bytes.len()] ^= 1 << (n % 8);
        let reply = verify_proof(&changed, Some(house.pin()));
        assert!(reply.exit == 1 && reply.text.contains("BROKEN"), "{n}");
    }
}

#[test]
fn a_study_that_no_attested_state_has_is_refused_with_what_to_wait_for() {
    let mut house = attesting();
    let prove = |house: &mut House| {
        let out = file(house, "deaths.proof");
        house.cmd("gb", Command::RecordProve { study: "deaths".into(), out })
    };
    assert!(prove(&mut house).text.contains("found no study `deaths`"));
    house.ask(&count("deaths"));
    let reply = prove(&mut house);
    assert_eq!(reply.exit, 2);
    assert!(reply.text.contains("is not in the state attested") || reply.text.contains("is attested at"));
    assert!(!Path::new(&file(&house, "deaths.proof")).exists());
}

/// `gb` begins anew with nothing but its keys, its charter and this snapshot.
fn begin_anew(house: &mut House, snapshot: &[u8]) {
    let folder = house.folder("gb");
    house.nodes.get("gb").unwrap().flush().unwrap();
    house.nodes.remove("gb");
    for part in ["store.db", "store.db-wal", "store.db-shm"] {
        let _ = std::fs::remove_file(folder.join(part));
    }
    std::fs::write(folder.join(SNAPSHOT), snapshot).unwrap();
    house.crash_and_open("gb");
}

#[test]
fn a_node_begins_from_a_snapshot_reads_at_once_and_runs_nothing_before_it_has_verified_the_record() {
    let mut house = released();
    let digest = house.state_digest("it");
    let out = file(&house, "out.snapshot");
    house.must("it", Command::RecordSnapshot { out: out.clone() });
    let bytes = std::fs::read(&out).unwrap();
    assert_eq!(check_snapshot(&bytes, Some(house.pin())).exit, 0);
    assert_eq!(check_snapshot(&bytes, None).exit, 1);
    begin_anew(&mut house, &bytes);

    let (size, _) = house.node("it").state().attested().unwrap();
    let status = house.cmd("gb", Command::Status);
    assert_eq!(status.data["unverified_below"], size);
    assert!(status.text.contains(&format!("record not yet verified below {size}")), "{}", status.text);
    let shown = house.must("gb", Command::StudyShow { id: "deaths".into() });
    assert!(shown.text.contains("released"), "{}", shown.text);
    let reply = house.cmd("gb", Command::RecordProve { study: "deaths".into(), out });
    assert!(reply.exit == 2 && reply.text.contains("has not verified the record"), "{}", reply.text);
    let reply = house.cmd("gb", Command::DatasetResume { name: "ist".into() });
    assert!(reply.exit == 2 && reply.text.contains("has not verified the record"), "{}", reply.text);
    let now = house.now;
    house.nodes.get_mut("gb").unwrap().tick(now).unwrap();
    assert!(house.node("gb").queued(now).unwrap().is_empty(), "nothing is said from a snapshot alone");

    house.settle();
    house.no_errors();
    let status = house.must("gb", Command::Status);
    assert!(status.data["unverified_below"].is_null());
    assert_eq!(house.state_digest("gb"), digest, "and it is where the others are");
    house.restart("gb");
    assert_eq!(house.state_digest("gb"), digest);
}

/// The same, and then a member changes its keys, one is suspended, one joins, one leaves, and another hub takes over.
fn changed() -> House {
    let mut house = released();
    let keys = rotation(&house, "it", true, None);
    house.must("it", Command::KeyRotate(keys));
    house.settle();
    decide(&mut house, &Change::Suspend { member: "be".into() }, &["it", "pl", "nl", "se", "ch"]);
    decide(&mut house, &Change::Reinstate { member: "be".into() }, &["it", "pl", "nl", "se", "ch"]);
    init(&house, "fr");
    let Document { member, consent } = Document::of(&house.folder("fr"), &house.pin()).unwrap();
    decide(&mut house, &Change::Join { member, consent }, &["it", "pl", "nl", "be", "se"]);
    house.must("no", Command::MemberLeave);
    house.settle();
    let all = house.ids();
    let signing: Vec<String> = all.into_iter().filter(|id| id != "no").collect();
    house.pass_on(&signing);
    house.settle();
    let size = next(&house);
    fill(&mut house, size);
    house
}

#[test]
fn after_members_keys_and_hub_have_changed_a_proof_and_a_snapshot_still_hold_under_the_charter_alone() {
    let mut house = changed();
    let (size, _) = house.node("it").state().attested().unwrap();
    let out = file(&house, "deaths.proof");
    house.must("gb", Command::RecordProve { study: "deaths".into(), out: out.clone() });
    let bytes = std::fs::read(&out).unwrap();
    let shown = verify_proof(&bytes, Some(house.pin()));
    assert_eq!(shown.exit, 0, "{}", shown.text);
    assert_eq!((shown.data["size"].as_u64(), shown.data["votes_yes"].as_u64()), (Some(size), Some(6)));
    assert_eq!(verify_proof(&bytes, Some(Digest::of(b"another"))).exit, 1);

    // `gb` begins anew from the snapshot of another, by the charter that it was joined with, and verifies the rest.
    let digest = house.state_digest("it");
    let out = file(&house, "out.snapshot");
    house.must("it", Command::RecordSnapshot { out: out.clone() });
    let bytes = std::fs::read(&out).unwrap();
    let shown = check_snapshot(&bytes, Some(house.pin()));
    assert_eq!(shown.exit, 0, "{}", shown.text);
    begin_anew(&mut house, &bytes);
    let status = house.cmd("gb", Command::Status);
    assert_eq!(status.data["unverified_below"], size);
    let state = house.node("gb").state();
    assert!(state.roster.keys("no").is_none() && state.roster.term == 2);
    house.settle();
    let status = house.must("gb", Command::Status);
    assert!(status.data["unverified_below"].is_null(), "{}", status.text);
    assert_eq!(house.state_digest("gb"), digest);
    // What it writes now is as good: it has fetched the seals.
    let out = file(&house, "again.proof");
    house.must("gb", Command::RecordProve { study: "deaths".into(), out: out.clone() });
    assert_eq!(verify_proof(&std::fs::read(&out).unwrap(), Some(house.pin())).exit, 0);
}

#[test]
fn a_record_that_does_not_fold_to_the_snapshot_halts_the_node() {
    let mut house = released();
    // A quorum that lies together: it attests a state in which `it` has stopped. Its own nodes halt at it, too.
    let (size, _) = house.node("it").state().attested().unwrap();
    let next = size + u64::from(EVERY);
    house.keep_out = Box::new(|_, signed| signed.statement().r#type == StateAttest::TYPE);
    fill(&mut house, next);
    let mut state = charter::State::new();
    for bytes in &house.hub.entries[..usize::try_from(next).unwrap()] {
        state.apply(&record::Entry::from_bytes(bytes).unwrap());
    }
    state.stopped.insert("it".into());
    let map = state.map().unwrap();
    for liar in ["it", "pl", "nl", "be", "ch", "no"] {
        let body = StateAttest { size: next, root: map.root(), version: 1 };
        house.say_as(liar, StateAttest::TYPE, "state", "node", &body);
    }
    // The relay passes on what the liars said while they still cosign.
    house.settle();
    let forged = forged_snapshot(&house, &map, next);
    assert_eq!(check_snapshot(&forged, Some(house.pin())).exit, 0, "a quorum that lies is believed at first");
    begin_anew(&mut house, &forged);
    assert!(house.node("gb").state().stopped.contains("it"));
    house.settle();
    let why = halted(&mut house, "gb").unwrap();
    assert!(why.contains(&map.root().to_string()), "{why}");
}

/// The snapshot that lying members make of a map that they attested, with everyone's cosignatures.
fn forged_snapshot(house: &House, map: &charter::map::Map, size: u64) -> Vec<u8> {
    use record::checkpoint::Cosignature;
    let entries: Vec<record::Entry> =
        house.hub.entries.iter().map(|e| record::Entry::from_bytes(e).unwrap()).collect();
    let mut log = record::Log::new();
    for bytes in &house.hub.entries {
        log.append(bytes, None).unwrap();
    }
    let mut checkpoint = house.hub.signed(log.size(), log.tree().root());
    for id in house.ids() {
        let key = house.node(&id).keys().cosign();
        let line = Cosignature::sign(checkpoint.checkpoint(), &id, 1_772_492_400, &key).unwrap();
        checkpoint.add(line, log.roster()).unwrap();
    }
    let attests = (0_u64..).zip(&entries).filter(|(_, e)| {
        let body: Option<StateAttest> = e.signed.statement().body_as().ok();
        body.is_some_and(|b| b.size == size && b.root == map.root())
    });
    let indices: Vec<u64> = attests.map(|(index, _)| index).collect();
    let members: BTreeSet<u64> = indices.iter().copied().collect();
    assert_eq!(members.len(), 6);
    let proof = record::Proof::new(log.entries(), log.tree(), &checkpoint, 0, &indices).unwrap();
    let proof = record::canon::to_bytes(&proof).unwrap();
    let mut content = u32::try_from(proof.len()).unwrap().to_be_bytes().to_vec();
    content.extend(proof);
    content.extend(b"comity-state/1\n");
    content.extend((map.leaves().len() as u64).to_be_bytes());
    for part in map.leaves().iter().flat_map(|(k, v)| [k.as_bytes(), v]) {
        content.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
        content.extend(part);
    }
    record::proof::pack(charter::snapshot::FILE, &content).unwrap()
}
