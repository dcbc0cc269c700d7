//! Small proofs and snapshots of a federation that is not what its charter began: members, keys and the hub have changed,
//! and a liar who leaves a change out, adds, alters or moves one, or makes a seal up, is refused in words.

use crate::federation::*;
use crate::living::{Living, generation};
use charter::body::StateAttest;
use charter::proof::{STUDY, STUDY_CHANGED, verify_study};
use charter::{Phase, snapshot};
use record::canon::{self, Value};
use record::checkpoint::{Checkpoint, Cosignature, SignedCheckpoint};
use record::roster::LEAVE;
use record::{Change, Digest, Log, Proof};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

fn expel(id: &str) -> Change {
    Change::Expel { member: id.into() }
}

/// One of each change, the state attested after it.
fn each() -> Vec<(&'static str, Living)> {
    type Step = (&'static str, fn(&mut Living));
    let steps: [Step; 8] = [
        ("join", |l| l.join("fr")),
        ("leave", |l| l.leave("ar")),
        ("suspend", |l| l.decide(&Change::Suspend { member: "ar".into() })),
        ("expel", |l| l.decide(&expel("ar"))),
        ("rotate", |l| l.rotate("it")),
        ("rekey", |l| l.rekey("it")),
        ("hub", |l| l.hand_over()),
        ("waiting", |l| l.propose(&expel("ar"), 2)),
    ];
    let base = Living::released();
    let lived = steps.into_iter().map(|(name, step)| {
        let mut living = base.clone();
        step(&mut living);
        living.attest(&[]);
        (name, living)
    });
    lived.collect()
}

/// All of them, one after another, some twice, and one that waits.
fn long() -> Living {
    let mut l = Living::released();
    l.join("fr");
    l.rotate("it");
    l.leave("ar");
    l.attest(&[]);
    l.decide(&Change::Suspend { member: "au".into() });
    l.decide(&Change::Reinstate { member: "au".into() });
    l.rekey("nl");
    l.hand_over();
    l.rotate("it");
    l.rotate("fr");
    l.decide(&expel("pl"));
    let since = l.f.state.size - 2;
    l.rotate_since("gb", Some(since));
    l.seal();
    l.propose(&expel("no"), 2);
    // Those whose keys changed speak last, so that a liar's file can do without them.
    l.attest(&["au", "ch", "no", "se"]);
    l
}

static LONG: LazyLock<Living> = LazyLock::new(long);
static PROOF: LazyLock<Vec<u8>> = LazyLock::new(|| LONG.source().prove_study("seen").unwrap());

#[test]
fn after_each_kind_of_change_a_study_is_proved_under_the_charter_and_a_snapshot_is_folded_on() {
    for (name, mut living) in each() {
        let pin = living.pin();
        let proof = living.source().prove_study("seen").unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(proof.starts_with(b"comity-proof/2\n"), "{name}");
        assert!(proof.len() <= 16 * 1024, "{name}: {} bytes", proof.len());
        let shown = verify_study(&proof, pin).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(shown.phase, Some(Phase::Released { run: 1 }), "{name}");
        let quorum = living.f.state.roster.quorum();
        assert_eq!((shown.attested.size, shown.attested.quorum), (72, quorum), "{name}");
        assert!(verify_study(&proof, Some(Digest::of(b"another"))).is_err(), "{name}");
        let bytes = living.source().snapshot().unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(bytes.starts_with(b"comity-snapshot/2\n"), "{name}");
        let (mut state, attested) = snapshot::verify(&bytes, pin).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(attested.root, shown.attested.root, "{name}");
        living.fill(living.f.state.size + 3);
        living.f.entries[72..].iter().for_each(|e| drop(state.apply(e).clone()));
        assert_eq!(state.digest().unwrap(), living.f.state.digest().unwrap(), "{name}");
    }
}

#[test]
fn after_many_changes_the_chain_leads_from_the_charter_to_the_members_of_today() {
    let shown = verify_study(&PROOF, LONG.pin()).unwrap();
    let members: BTreeSet<&str> = shown.attested.cosigned.keys().map(String::as_str).collect();
    assert_eq!(members, BTreeSet::from(["au", "ch", "fr", "gb", "it", "nl", "no", "se"]));
    assert_eq!((shown.attested.size, shown.attested.needed), (144, 6));
    let whole = fold(&LONG.f.entries[..144]);
    assert_eq!(shown.study.votes, whole.studies["seen"].votes);
    let bytes = LONG.source().snapshot().unwrap();
    let (state, _) = snapshot::verify(&bytes, LONG.pin()).unwrap();
    assert_eq!(state.digest().unwrap(), whole.digest().unwrap());
    assert!(state.roster.suspended.is_empty() && state.roster.term == 2);
    // Without the seals there is no way there.
    let lost = Living { seals: BTreeMap::new(), ..LONG.clone() };
    let fault = lost.source().prove_study("seen").err().unwrap().to_string();
    assert!(fault.contains("does not seal the change before it"), "{fault}");
}

#[test]
fn where_nothing_has_changed_the_file_is_the_first_form_as_it_was() {
    let mut living = Living::released();
    living.attest(&[]);
    let proof = living.source().prove_study("seen").unwrap();
    assert!(proof.starts_with(b"comity-proof/1\n"));
    let content = record::proof::unpack(STUDY, &proof, 1 << 22).unwrap();
    let content = String::from_utf8(content).unwrap();
    assert!(!content.contains("\"seals\"") && !content.contains("\"changes\""));
}

/// As in `small`: what was proved over changes stays proved.
#[test]
fn a_proof_and_a_snapshot_over_changes_of_an_earlier_version_stay_valid() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/proofs");
    let made = [
        ("changed.proof", PROOF.clone()),
        ("changed.snapshot", LONG.source().snapshot().unwrap()),
        ("changed.digest", format!("{}\n", LONG.pin().unwrap()).into_bytes()),
    ];
    if std::env::var_os("COMITY_GOLDEN").is_some_and(|v| v == "write") {
        for (name, bytes) in made.iter().filter(|(name, _)| !folder.join(name).exists()) {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    }
    let [proof, kept, pin] = made.map(|(name, _)| std::fs::read(folder.join(name)).unwrap());
    let pin: Digest = String::from_utf8(pin).unwrap().trim().parse().unwrap();
    let shown = verify_study(&proof, Some(pin)).unwrap();
    assert_eq!((shown.attested.size, shown.phase), (144, Some(Phase::Released { run: 1 })));
    let (state, attested) = snapshot::verify(&kept, Some(pin)).unwrap();
    assert_eq!((state.map().unwrap().root(), attested.size), (shown.attested.root, 144));
}

type File = BTreeMap<String, Value>;

/// A proof with its content changed and packed again, as a liar would.
fn forged(proof: &[u8], change: impl FnOnce(&mut File)) -> Vec<u8> {
    let content = record::proof::unpack(STUDY_CHANGED, proof, 1 << 22).unwrap();
    let Value::Map(mut file) = canon::parse_document(&content, 1 << 22).unwrap() else { panic!("a map") };
    change(&mut file);
    record::proof::pack(STUDY_CHANGED, &Value::Map(file).to_bytes().unwrap()).unwrap()
}

fn record_of(file: &mut File) -> Proof {
    canon::from_value(file["record"].clone()).unwrap()
}

fn put_record(file: &mut File, proof: &Proof) {
    file.insert("record".into(), canon::to_value(proof).unwrap());
}

/// A proof with another record in it.
fn with(proof: &[u8], change: impl FnOnce(&mut Proof)) -> Vec<u8> {
    forged(proof, |file| {
        let mut record = record_of(file);
        change(&mut record);
        put_record(file, &record);
    })
}

#[track_caller]
fn refused(living: &Living, bytes: &[u8], words: &str) {
    let Err(fault) = verify_study(bytes, living.pin()) else { panic!("it was believed") };
    let fault = fault.to_string();
    assert!(fault.contains(words), "{fault}");
}

/// Drops the lines of a note that do not hold under this roster: what a liar shows as if a key had not changed.
fn strip(note: &str, names: &[&str]) -> String {
    let note = SignedCheckpoint::parse(note).unwrap();
    let kept = note.lines().map(|l| l.name().to_owned()).filter(|n| !names.contains(&n.as_str())).collect();
    note.of(&kept).to_note()
}

#[test]
fn each_change_that_is_left_out_alone_is_missed() {
    let record = forged_record();
    let all: usize = record.seals.iter().map(|s| s.changes.len()).sum::<usize>() + record.changes.len();
    assert!(all > 30, "{all}");
    for left_out in 0..all {
        let bytes = with(&PROOF, |record| drop_change(record, left_out));
        assert!(verify_study(&bytes, LONG.pin()).is_err(), "change {left_out} of {all}");
    }
}

fn forged_record() -> Proof {
    let mut found = None;
    forged(&PROOF, |file| found = Some(record_of(file)));
    found.unwrap()
}

fn drop_change(record: &mut Proof, mut at: usize) {
    for seal in &mut record.seals {
        if at < seal.changes.len() {
            seal.changes.remove(at);
            record.seals.retain(|s| !s.changes.is_empty());
            return;
        }
        at -= seal.changes.len();
    }
    record.changes.remove(at);
}

#[test]
fn a_file_that_passes_old_keys_off_as_those_of_today_is_refused_naming_whose() {
    // One of nine changed its keys; eight are enough for cosignatures and attests without it.
    let mut living = Living::released();
    living.rotate("it");
    let rotation = living.f.state.size - 1;
    living.attest(&["ar", "au", "ch", "gb", "nl", "no"]);
    let proof = living.source().prove_study("seen").unwrap();
    let bytes = forged(&proof, |file| {
        let mut record = record_of(file);
        assert!(record.seals.is_empty() && record.changes.len() == 1 && record.changes[0].index == rotation);
        record.changes.clear();
        record.checkpoint = strip(&record.checkpoint, &["it"]);
        // A thief of the old key adds its line.
        let mut note = SignedCheckpoint::parse(&record.checkpoint).unwrap();
        let old = Cosignature::sign(note.checkpoint(), "it", 1, &key("it", "cosign")).unwrap();
        note.add(old, living.log.roster()).unwrap();
        record.checkpoint = note.to_note();
        put_record(file, &record);
        file.remove("roster");
    });
    let content = record::proof::unpack(STUDY_CHANGED, &bytes, 1 << 22).unwrap();
    let bytes = record::proof::pack(STUDY, &content).unwrap();
    refused(&living, &bytes, "(other keys of `it`)");
}

#[test]
fn a_left_out_join_leave_expulsion_or_hub_is_named() {
    for (name, words) in [
        ("join", "(a member `fr`)"),
        ("leave", "(no member `ar`)"),
        ("suspend", "(no member `ar`)"),
        ("expel", "(no member `ar`)"),
        ("rekey", "(other keys of `it`)"),
        ("waiting", "(changes that the file does not give)"),
    ] {
        let mut living = Living::released();
        match name {
            "join" => living.join("fr"),
            "leave" => living.leave("ar"),
            "suspend" => living.decide(&Change::Suspend { member: "ar".into() }),
            "expel" => living.decide(&expel("ar")),
            "rekey" => living.rekey("it"),
            _ => living.propose(&expel("ar"), 2),
        }
        living.attest(&["au", "ch", "gb", "nl", "no", "pl"]);
        let proof = living.source().prove_study("seen").unwrap();
        let bytes = forged(&proof, |file| {
            let mut record = record_of(file);
            record.seals.clear();
            record.changes.clear();
            record.checkpoint = strip(&record.checkpoint, &["fr", "it"]);
            put_record(file, &record);
            if name != "waiting" {
                file.remove("roster");
            }
        });
        let content = record::proof::unpack(STUDY_CHANGED, &bytes, 1 << 22).unwrap();
        refused(&living, &record::proof::pack(STUDY, &content).unwrap(), words);
    }
    // The old hub signs nothing above its term, and where it does, the state names the other.
    let mut living = Living::released();
    living.hand_over();
    living.attest(&[]);
    let proof = living.source().prove_study("seen").unwrap();
    let bytes = forged(&proof, |file| {
        let mut record = record_of(file);
        record.changes.clear();
        let claimed = SignedCheckpoint::parse(&record.checkpoint).unwrap();
        let mut note = claimed.checkpoint().sign(&key("hub", "key"));
        claimed.lines().for_each(|l| assert!(note.add(l.clone(), living.log.roster()).unwrap()));
        record.checkpoint = note.to_note();
        put_record(file, &record);
        file.remove("roster");
    });
    let content = record::proof::unpack(STUDY_CHANGED, &bytes, 1 << 22).unwrap();
    refused(&living, &record::proof::pack(STUDY, &content).unwrap(), "(another hub)");
}

#[test]
fn what_was_proposed_or_accepted_cannot_be_left_out_though_it_changed_nobody() {
    // `no` was proposed to be expelled by two: left out, members and keys are the same.
    let record = forged_record();
    let waiting = LONG.f.state.roster.proposals.values().find(|p| p.done.is_none()).unwrap().index;
    assert!(
        record.changes.iter().chain(record.seals.iter().flat_map(|s| &s.changes)).any(|c| c.index == waiting)
    );
    for index in [waiting + 1, waiting] {
        let bytes = with(&PROOF, |record| {
            record.changes.retain(|c| c.index < index);
            record
                .seals
                .iter_mut()
                .for_each(|s| s.changes.retain(|c| c.index < index || c.index > waiting + 1));
        });
        refused(&LONG, &bytes, "(what was proposed, accepted, contested or sealed, or where)");
    }
}

#[test]
fn a_change_that_is_altered_moved_added_or_said_twice_is_named() {
    let first = |record: &mut Proof| record.seals[0].changes[0].clone();
    let altered = with(&PROOF, |record| {
        let entry = &mut record.seals[0].changes[0].entry;
        *entry = entry.replace("A member that came later", "A member that came sooner");
    });
    refused(&LONG, &altered, "is not included under the checkpoint's root");
    let moved = with(&PROOF, |record| record.seals[0].changes[0].index += 1);
    assert!(verify_study(&moved, LONG.pin()).is_err());
    let swapped = with(&PROOF, |record| record.seals[0].changes.swap(0, 1));
    refused(&LONG, &swapped, "not in the order of their indices");
    let twice = with(&PROOF, |record| {
        let again = first(record);
        record.seals[0].changes.insert(1, again);
    });
    refused(&LONG, &twice, "not in the order of their indices");
    // Below what the seal before covers, those who counted before would not be asked.
    let below = with(&PROOF, |record| {
        let last = record.seals.len() - 1;
        let moved = record.seals[last].changes.remove(0);
        record.changes.insert(0, moved);
        record.seals.retain(|s| !s.changes.is_empty());
    });
    assert!(verify_study(&below, LONG.pin()).is_err());
    // Something else of the record among the changes; the charter's own signatures are no changes.
    for index in [1, 15] {
        let added = with(&PROOF, |record| {
            let seal = SignedCheckpoint::parse(&record.seals[0].checkpoint).unwrap();
            let size = seal.checkpoint().size();
            let entry = String::from_utf8(LONG.f.entries[index].to_bytes()).unwrap();
            let path = LONG.log.tree().prove_inclusion(index as u64, size).unwrap();
            record.seals[0].changes.insert(0, record::Included { index: index as u64, entry, path });
        });
        refused(&LONG, &added, "stands among the changes of members, keys and hub and is none");
    }
}

#[test]
fn a_change_that_was_void_in_the_record_cannot_be_made_to_count() {
    // Said a second time: void in the record, and a liar leaves the first one out.
    let mut living = Living::released();
    living.propose(&expel("ar"), 6);
    let accept = living.f.entries.last().unwrap().signed.clone();
    let first = living.f.state.size - 1;
    living.seal();
    let again = record::Entry::new(living.f.time, accept);
    assert_ne!(living.f.enter(again), charter::Status::Valid);
    living.seal();
    living.attest(&[]);
    let proof = living.source().prove_study("seen").unwrap();
    assert!(verify_study(&proof, living.pin()).is_ok());
    let bytes = with(&proof, |record| {
        let size = SignedCheckpoint::parse(&record.checkpoint).unwrap().checkpoint().size();
        record.changes.retain(|c| c.index != first);
        let (index, at) = (first + 1, usize::try_from(first + 1).unwrap());
        let entry = String::from_utf8(living.f.entries[at].to_bytes()).unwrap();
        let path = living.log.tree().prove_inclusion(index, size).unwrap();
        record.changes.push(record::Included { index, entry, path });
    });
    refused(&living, &bytes, "(what was proposed, accepted, contested or sealed, or where)");
}

#[test]
fn a_seal_that_is_made_up_or_short_of_those_who_counted_before_is_refused() {
    let record = forged_record();
    let claimed = SignedCheckpoint::parse(&record.seals[0].checkpoint).unwrap();
    let put = |note: SignedCheckpoint| with(&PROOF, |record| record.seals[0].checkpoint = note.to_note());
    let lines: Vec<&Cosignature> = claimed.lines().collect();
    let of = |hub: u32| claimed.verify_hub(&generation("hub", hub, "key").public()).is_ok();
    let hub = (0..2).find(|hub| of(*hub)).unwrap();
    let by = |hub: u32, lines: &[&Cosignature]| {
        let mut note = claimed.checkpoint().sign(&generation("hub", hub, "key"));
        lines.iter().for_each(|line| assert!(note.add((*line).clone(), LONG.log.roster()).unwrap()));
        note
    };
    assert!(verify_study(&put(by(hub, &lines)), LONG.pin()).is_ok());
    for missing in lines.iter().map(|line| line.name()) {
        let fewer: Vec<&Cosignature> = lines.iter().copied().filter(|line| line.name() != missing).collect();
        refused(&LONG, &put(by(hub, &fewer)), "does not seal the change before it");
    }
    refused(&LONG, &put(by(1 - hub, &lines)), "is not signed by the hub's key");
    // Made up: another root, with all that liars have.
    let (origin, size) = (claimed.checkpoint().origin().to_owned(), claimed.checkpoint().size());
    let other = Checkpoint::new(&origin, size, Digest::of(b"made up")).unwrap();
    let other = other.sign(&generation("hub", hub, "key"));
    refused(&LONG, &put(other), "is not included under the checkpoint's root");
    let no_seal = with(&PROOF, |record| {
        let last = SignedCheckpoint::parse(&record.checkpoint).unwrap().checkpoint().size();
        let seals = std::mem::take(&mut record.seals);
        let later = std::mem::take(&mut record.changes);
        record.changes = seals.into_iter().flat_map(|s| s.changes).chain(later).collect();
        for change in &mut record.changes {
            change.path = LONG.log.tree().prove_inclusion(change.index, last).unwrap();
        }
    });
    refused(&LONG, &no_seal, "does not seal the change before it");
}

#[test]
fn words_of_members_that_left_said_again_elsewhere_make_no_electorate_small() {
    // Eight of nine leave in time, each replaced. Their words, in a record that the hub and `gb` make up, leave `gb` alone.
    let mut f = Living::released().f;
    let size = f.entries.len();
    for member in MEMBERS.into_iter().filter(|m| *m != "gb") {
        let statement = f.statement(member, "node", LEAVE, &BTreeMap::<String, String>::new());
        valid(f.put(statement, &key(member, "sign")));
    }
    f.time += 1000;
    let left: Vec<u64> = (size as u64..f.state.size).collect();
    let at = (f.state.size / u64::from(EVERY) + 1) * u64::from(EVERY);
    while f.state.size < at {
        let drill = charter::body::NodeResume { reason: "drill".into() };
        valid(f.node("gb", charter::body::NodeResume::TYPE, &drill));
    }
    let root = Digest::of(b"what gb likes");
    valid(f.node("gb", StateAttest::TYPE, &StateAttest { size: at, root, version: 1 }));
    let mut log = Log::new();
    for entry in &f.entries {
        log.append(&entry.to_bytes(), None).unwrap();
    }
    let claimed = Checkpoint::new(&log.roster().origin, log.size(), log.tree().root()).unwrap();
    let mut note = claimed.sign(&key("hub", "key"));
    note.add(Cosignature::sign(note.checkpoint(), "gb", 1, &key("gb", "cosign")).unwrap(), log.roster())
        .unwrap();
    assert!(record::log::is_sealed(&note, log.roster(), size as u64 + 8), "under gb alone it counts");
    let include = |index: u64| {
        let entry = String::from_utf8(f.entries[index as usize].to_bytes()).unwrap();
        record::Included { index, entry, path: log.tree().prove_inclusion(index, log.size()).unwrap() }
    };
    let mut proof = Proof::new(log.entries(), log.tree(), &note, 0, &[f.state.size - 1]).unwrap();
    proof.changes = left.iter().map(|index| include(*index)).collect();
    let fault = charter::proof::attested(&proof, f.state.charter_digest).err().unwrap().to_string();
    assert!(
        fault.contains("1 valid cosignatures of those who count from size 0 on, expected at least 6"),
        "{fault}"
    );
}

#[test]
fn a_change_after_the_attested_size_can_be_left_out_and_shows_no_other_state_by_it() {
    let mut living = Living::released();
    living.rotate("nl");
    let size = living.attest(&[]);
    living.rotate("it");
    living.fill(living.f.state.size + 2);
    living.seal();
    let proof = living.source().prove_study("seen").unwrap();
    let honest = verify_study(&proof, living.pin()).unwrap();
    let shorter = with(&proof, |record| {
        record.changes.retain(|c| c.index < size);
        record.checkpoint = strip(&record.checkpoint, &["it"]);
    });
    let shown = verify_study(&shorter, living.pin()).unwrap();
    assert_eq!((shown.attested.size, shown.attested.root), (honest.attested.size, honest.attested.root));
    assert_eq!(shown.phase, honest.phase);
}

#[test]
fn an_attest_counts_under_the_keys_of_its_time_and_though_its_member_has_left_since() {
    let mut living = Living::released();
    let size = living.attest(&[]);
    for id in ["ar", "au", "ch"] {
        living.leave(id);
    }
    living.rotate("gb");
    living.rotate("it");
    let proof = living.source().prove_study("seen").unwrap();
    let shown = verify_study(&proof, living.pin()).unwrap();
    assert_eq!((shown.attested.size, shown.attested.by.len(), shown.attested.needed), (size, 6, 6));
    assert!(shown.attested.by.contains("gb"), "said with the key that it had");
    assert_eq!(shown.attested.quorum, 4, "six are left");
}

#[test]
fn attests_of_the_suspended_or_of_a_new_keys_old_holder_are_refused() {
    let mut living = Living::released();
    living.decide(&Change::Suspend { member: "ar".into() });
    let size = 72;
    living.fill(size);
    living.seal();
    let root = living.f.root_at(size);
    let body = StateAttest { size, root, version: 1 };
    let statement = living.f.statement("ar", "node", StateAttest::TYPE, &body);
    void(living.f.put(statement, &key("ar", "sign")), "issuer is suspended");
    let at = living.f.state.size - 1;
    living.rotate("it");
    let statement = living.f.statement("it", "node", StateAttest::TYPE, &body);
    void(living.f.put(statement, &key("it", "sign")), "not_signed");
    let old = living.f.state.size - 1;
    for member in ["au", "ch", "gb", "nl", "no", "pl", "se"] {
        let statement = living.f.statement(member, "node", StateAttest::TYPE, &body);
        valid(living.f.put(statement, &key(member, "sign")));
    }
    living.seal();
    let proof = living.source().prove_study("seen").unwrap();
    let add = |index: u64| {
        with(&proof, |record| {
            let entry = String::from_utf8(living.f.entries[index as usize].to_bytes()).unwrap();
            let path = living.log.tree().prove_inclusion(index, living.log.size()).unwrap();
            record.entries.insert(0, record::Included { index, entry, path });
        })
    };
    refused(&living, &add(at), "`ar` was suspended");
    refused(&living, &add(old), "is not signed with its `sign` key");
}

#[test]
fn two_seats_of_one_operator_attest_once() {
    let mut charter = charter::Charter { snapshot_every: Some(EVERY), ..charter() };
    for member in &mut charter.members {
        if ["pl", "nl"].contains(&member.id.as_str()) {
            member.control = "unit-it".into();
        }
    }
    let mut living = Living::over(Federation::released_under(charter, named("seen")));
    // Seven organisations, f = 2: five must attest, and of seats alone five are three organisations.
    living.attest(&["it", "nl", "pl", "ar", "au"]);
    assert!(living.f.state.attested().is_some());
    let shown = verify_study(&living.source().prove_study("seen").unwrap(), living.pin()).unwrap();
    let by: Vec<&String> =
        shown.attested.by.iter().filter(|m| ["it", "nl", "pl"].contains(&m.as_str())).collect();
    assert_eq!((shown.attested.by.len(), by.len()), (5, 1), "{:?}", shown.attested.by);
    // The five seats that the record itself counts are too few for a reader.
    let held =
        (0_u64..).zip(&living.f.entries).filter(|(_, e)| e.signed.statement().r#type == StateAttest::TYPE);
    let first: Vec<u64> = held.map(|(index, _)| index).take(5).collect();
    let proof = Proof::new(living.log.entries(), living.log.tree(), living.note.as_ref().unwrap(), 0, &first)
        .unwrap();
    let fault = charter::proof::attested(&proof, living.pin()).err().unwrap().to_string();
    assert!(
        fault.contains("3 members of as many organisations attest the state, expected at least 5"),
        "{fault}"
    );
}

#[test]
fn each_form_of_the_file_has_one_spelling_and_its_own_first_line() {
    let content = record::proof::unpack(STUDY_CHANGED, &PROOF, 1 << 22).unwrap();
    refused(&LONG, &record::proof::pack(STUDY, &content).unwrap(), "changes that belong to the other form");
    let mut plain = Living::released();
    plain.attest(&[]);
    let proof = plain.source().prove_study("seen").unwrap();
    let content = record::proof::unpack(STUDY, &proof, 1 << 22).unwrap();
    refused(&plain, &record::proof::pack(STUDY_CHANGED, &content).unwrap(), "belong to the other form");
    for (key, value) in
        [("seals", Value::List(Vec::new())), ("changes", Value::List(Vec::new())), ("seals", Value::Null)]
    {
        let Value::Map(mut file) = canon::parse_document(&content, 1 << 22).unwrap() else { panic!() };
        let Some(Value::Map(record)) = file.get_mut("record") else { panic!() };
        record.insert(key.into(), value);
        let bytes = record::proof::pack(STUDY, &Value::Map(file).to_bytes().unwrap()).unwrap();
        refused(&plain, &bytes, "the file cannot be read");
    }
    let null = forged(&PROOF, |file| drop(file.insert("roster".into(), Value::Null)));
    refused(&LONG, &null, "the file cannot be read");
    let gone = forged(&PROOF, |file| drop(file.remove("roster")));
    refused(&LONG, &gone, "it is not shown which changes it has");
}

#[test]
fn more_changes_than_a_proof_takes_are_refused_before_one_is_read() {
    let many = with(&PROOF, |record| {
        let one = record.seals[0].changes[0].clone();
        record.seals[0].changes = (0..=512).map(|n| record::Included { index: n, ..one.clone() }).collect();
    });
    refused(&LONG, &many, "at most 512");
    let empty = with(&PROOF, |record| record.seals[0].changes.clear());
    assert!(verify_study(&empty, LONG.pin()).is_err());
}

#[test]
fn no_bit_of_a_proof_over_changes_can_be_changed_though_it_is_packed_anew() {
    for at in (0..PROOF.len()).step_by(PROOF.len() / 600 + 1) {
        let mut changed = PROOF.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(verify_study(&changed, LONG.pin()).is_err(), "byte {at}");
    }
    let content = record::proof::unpack(STUDY_CHANGED, &PROOF, 1 << 22).unwrap();
    for at in (0..content.len()).step_by(content.len() / 400 + 1) {
        let mut changed = content.clone();
        changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
        let bytes = record::proof::pack(STUDY_CHANGED, &changed).unwrap();
        let around = String::from_utf8_lossy(&content[at.saturating_sub(60)..at + 20]).into_owned();
        assert!(verify_study(&bytes, LONG.pin()).is_err(), "byte {at}: {around}");
    }
}

#[test]
fn a_snapshot_over_changes_is_another_records_or_none_where_its_chain_is_cut() {
    let bytes = LONG.source().snapshot().unwrap();
    let content = record::proof::unpack(snapshot::FILE_CHANGED, &bytes, 1 << 28).unwrap();
    let length = u32::from_be_bytes(content[..4].try_into().unwrap()) as usize;
    let (proof, state) = (&content[4..4 + length], &content[4 + length..]);
    let again = |proof: &Proof| {
        let proof = canon::to_bytes(proof).unwrap();
        let length = u32::try_from(proof.len()).unwrap().to_be_bytes();
        let content = [length.as_slice(), &proof, state].concat();
        record::proof::pack(snapshot::FILE_CHANGED, &content).unwrap()
    };
    let record: Proof = canon::from_bytes_limit(proof, 1 << 22).unwrap();
    assert_eq!(again(&record), bytes);
    let all: usize = record.seals.iter().map(|s| s.changes.len()).sum::<usize>() + record.changes.len();
    for left_out in (0..all).step_by(3) {
        let mut cut = record.clone();
        drop_change(&mut cut, left_out);
        assert!(snapshot::verify(&again(&cut), LONG.pin()).is_err(), "change {left_out}");
    }
}
