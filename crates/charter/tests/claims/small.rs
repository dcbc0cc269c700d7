//! Small proofs: what a reader with the charter's digest alone can be shown of a study, and cannot be told.

use crate::federation::*;
use crate::scenario::attested;
use charter::proof::{ProofFault, Source, StudyProved, verify_study};
use charter::{Charter, Phase, snapshot};
use record::canon::{self, Value};
use record::checkpoint::{Checkpoint, Cosignature, SignedCheckpoint};
use record::{Digest, Entry, EntryBytes, Log, Pin, Tree};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// A federation's record as a member holds it, cosigned by these.
pub struct Held {
    pub f: Federation,
    pub entries: Vec<EntryBytes>,
    pub tree: Tree,
    pub checkpoint: SignedCheckpoint,
    pub seals: BTreeMap<u64, String>,
}

impl Held {
    pub fn by(f: Federation, cosigners: &[&str]) -> Held {
        let mut log = Log::new();
        for entry in &f.entries {
            log.append(&entry.to_bytes(), None).unwrap();
        }
        let root = log.tree().root();
        let mut checkpoint =
            Checkpoint::new(&log.roster().origin, log.size(), root).unwrap().sign(&key("hub", "key"));
        for member in cosigners {
            let line =
                Cosignature::sign(checkpoint.checkpoint(), member, 1_767_300_000, &key(member, "cosign"));
            checkpoint.add(line.unwrap(), log.roster()).unwrap();
        }
        Held {
            entries: log.entries().to_vec(),
            tree: log.tree().clone(),
            checkpoint,
            f,
            seals: BTreeMap::new(),
        }
    }

    pub fn source(&self) -> Source<'_> {
        Source {
            state: &self.f.state,
            entries: &self.entries,
            tree: &self.tree,
            checkpoint: &self.checkpoint,
            seals: &self.seals,
        }
    }

    pub fn pin(&self) -> Option<Digest> {
        self.f.state.charter_digest
    }
}

const SEVEN: [&str; 7] = ["ar", "au", "ch", "gb", "it", "nl", "no"];
static HELD: LazyLock<Held> = LazyLock::new(|| Held::by(attested(), &SEVEN));
static PROOF: LazyLock<Vec<u8>> = LazyLock::new(|| HELD.source().prove_study("seen").unwrap());

fn verify(bytes: &[u8]) -> Result<StudyProved, ProofFault> {
    verify_study(bytes, HELD.pin())
}

/// The proof with its content changed and packed again, as a liar would.
fn forged(change: impl FnOnce(&mut BTreeMap<String, Value>)) -> Vec<u8> {
    let content = record::proof::unpack("comity-proof/1", &PROOF, 1 << 22).unwrap();
    let Value::Map(mut file) = canon::parse_document(&content, 1 << 22).unwrap() else { panic!("a map") };
    change(&mut file);
    record::proof::pack("comity-proof/1", &Value::Map(file).to_bytes().unwrap()).unwrap()
}

fn map_of<'a>(file: &'a mut BTreeMap<String, Value>, key: &str) -> &'a mut BTreeMap<String, Value> {
    match file.get_mut(key) {
        Some(Value::Map(map)) => map,
        other => panic!("{key}: {other:?}"),
    }
}

fn list_of<'a>(file: &'a mut BTreeMap<String, Value>, key: &str) -> &'a mut Vec<Value> {
    match file.get_mut(key) {
        Some(Value::List(list)) => list,
        other => panic!("{key}: {other:?}"),
    }
}

#[track_caller]
fn refused(bytes: &[u8], words: &str) {
    let Err(fault) = verify(bytes) else { panic!("it was believed") };
    let fault = fault.to_string();
    assert!(fault.contains(words), "{fault}");
}

#[test]
fn a_study_is_shown_with_its_votes_verdict_and_release_up_to_the_attested_size() {
    let shown = verify(&PROOF).unwrap();
    assert_eq!(shown.attested.pin, Pin::Pinned);
    assert_eq!((shown.attested.size, shown.attested.quorum), (72, 6));
    assert_eq!(shown.attested.by.len(), 6);
    assert_eq!(shown.attested.cosigned.len(), 7);
    assert_eq!(shown.phase, Some(Phase::Released { run: 1 }));
    let whole = fold(&HELD.f.entries[..72]);
    assert_eq!(shown.time, whole.time);
    let (here, there) = (&shown.study, &whole.studies["seen"]);
    assert_eq!((&here.study, &here.votes, &here.proposed), (&there.study, &there.votes, &there.proposed));
    assert_eq!(here.runs[&1].release, there.runs[&1].release);
    assert_eq!(here.runs[&1].verdict, Some((true, there.runs[&1].verdict.unwrap().1)));
    assert_eq!(here.runs[&1].sets.keys().collect::<Vec<_>>(), ["ch", "se"]);
}

/// What was proved stays proved, whatever packs the files of today. To write the files of a new form:
/// `COMITY_GOLDEN=write cargo test`.
#[test]
fn a_small_proof_and_a_snapshot_of_an_earlier_version_stay_valid() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/proofs");
    let made = [
        ("attested.proof", PROOF.clone()),
        ("attested.snapshot", HELD.source().snapshot().unwrap()),
        ("attested.digest", format!("{}\n", HELD.pin().unwrap()).into_bytes()),
    ];
    if std::env::var_os("COMITY_GOLDEN").is_some_and(|v| v == "write") {
        std::fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in made.iter().filter(|(name, _)| !folder.join(name).exists()) {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    }
    let [proof, kept, pin] = made.map(|(name, _)| std::fs::read(folder.join(name)).unwrap());
    let pin: Digest = String::from_utf8(pin).unwrap().trim().parse().unwrap();
    let shown = verify_study(&proof, Some(pin)).unwrap();
    assert_eq!((shown.attested.size, shown.phase), (72, Some(Phase::Released { run: 1 })));
    let (state, attested) = snapshot::verify(&kept, Some(pin)).unwrap();
    assert_eq!((state.map().unwrap().root(), attested.size), (shown.attested.root, 72));
}

#[test]
fn without_the_charters_digest_from_outside_a_proof_is_unpinned_and_with_another_it_is_refused() {
    assert_eq!(verify_study(&PROOF, None).unwrap().attested.pin, Pin::Unpinned);
    let fault = verify_study(&PROOF, Some(Digest::of(b"another"))).err().unwrap();
    assert!(fault.to_string().contains("but the pinned digest is"), "{fault}");
}

#[test]
fn a_small_proof_fits_into_16_kib() {
    assert!(PROOF.len() <= 16 * 1024, "{} bytes", PROOF.len());
}

#[test]
fn one_changed_bit_anywhere_breaks_a_small_proof() {
    for at in 0..PROOF.len() {
        let mut changed = PROOF.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(verify(&changed).is_err(), "byte {at}");
    }
    for cut in (0..PROOF.len()).step_by(97) {
        assert!(verify(&PROOF[..cut]).is_err(), "cut at {cut}");
    }
    assert!(verify(&[PROOF.as_slice(), b"\0"].concat()).is_err());
}

#[test]
fn one_changed_character_of_the_content_breaks_it_though_it_is_packed_anew() {
    let content = record::proof::unpack("comity-proof/1", &PROOF, 1 << 22).unwrap();
    // A few hundred places all over; each is a new deflate stream and a new checksum.
    for at in (0..content.len()).step_by(content.len() / 400 + 1) {
        let mut changed = content.clone();
        changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
        let bytes = record::proof::pack("comity-proof/1", &changed).unwrap();
        assert!(verify(&bytes).is_err(), "byte {at}: {}", String::from_utf8_lossy(&content[at..at + 1]));
    }
}

#[test]
fn a_run_or_a_vote_cannot_be_left_out() {
    refused(&forged(|file| drop(list_of(file, "values").pop())), "its runs and those in the file differ");
    let mended = forged(|file| {
        let Some(Value::Map(shown)) = list_of(file, "values").get_mut(2) else { panic!() };
        let Some(Value::Str(text)) = shown.get_mut("value") else { panic!() };
        *text = text.replace("\"no\"", "\"yes\"").replace("\"runs\":[1]", "\"runs\":[]");
    });
    refused(&mended, "does not lead to the attested root of the state");
}

#[test]
fn fewer_attests_than_a_quorum_or_one_twice_attest_nothing() {
    refused(
        &forged(|file| drop(list_of(map_of(file, "record"), "entries").pop())),
        "5 members of as many organisations attest the state, expected at least 6",
    );
    let twice = forged(|file| {
        let entries = list_of(map_of(file, "record"), "entries");
        let first = entries[0].clone();
        entries.insert(0, first);
    });
    refused(&twice, "not in the order of their indices");
    let other = forged(|file| {
        let charter = map_of(file, "record")["charter"].clone();
        list_of(map_of(file, "record"), "entries").insert(0, charter);
    });
    refused(&other, "it is `charter.propose@1`");
}

#[test]
fn too_few_cosigners_or_another_hubs_checkpoint_prove_nothing() {
    let few = Held::by(attested(), &SEVEN[..5]);
    let fault = few.source().prove_study("seen").err().unwrap().to_string();
    assert!(fault.contains("5 valid cosignatures, expected at least 6"), "{fault}");
    let note = |signed: SignedCheckpoint| {
        forged(|file| {
            map_of(file, "record").insert("checkpoint".into(), Value::Str(signed.to_note()));
        })
    };
    let claimed = HELD.checkpoint.checkpoint();
    refused(&note(claimed.sign(&key("it", "sign"))), "is not signed by the hub's key");
    let root = Digest::of(b"another record");
    let mut other = Checkpoint::new(claimed.origin(), claimed.size(), root).unwrap().sign(&key("hub", "key"));
    let mut log = Log::new();
    HELD.f.entries.iter().for_each(|e| drop(log.append(&e.to_bytes(), None)));
    for member in SEVEN {
        let line = Cosignature::sign(other.checkpoint(), member, 1, &key(member, "cosign")).unwrap();
        other.add(line, log.roster()).unwrap();
    }
    refused(&note(other), "is not included under the checkpoint's root");
}

#[test]
fn attests_that_a_liar_signs_for_others_are_refused() {
    let forgery = forged(|file| {
        for one in list_of(map_of(file, "record"), "entries") {
            let Value::Map(one) = one else { panic!() };
            let Some(Value::Str(text)) = one.get_mut("entry") else { panic!() };
            *text = text.replacen("\"root\":\"", "\"root\":\"0", 1);
        }
    });
    assert!(verify(&forgery).is_err());
}

#[test]
fn before_a_quorum_has_attested_a_state_the_refusal_says_when_it_will() {
    let held = Held::by(Federation::released_and_attesting(named("early")), &SEVEN);
    let fault = held.source().prove_study("early").err().unwrap().to_string();
    assert!(fault.contains("the next one is attested at 72 entries"), "{fault}");
    let fault = HELD.source().prove_study("unheard-of").err().unwrap().to_string();
    assert!(fault.contains("`unheard-of` is not in the state attested at 72 entries"), "{fault}");
}

#[test]
fn a_state_with_other_members_than_the_file_gives_is_refused_in_words() {
    // A state whose roster is not the charter's, attested by everyone.
    let mut f = Federation::under(Charter { snapshot_every: Some(EVERY), ..charter() });
    f.fill(36);
    let mut changed = fold(&f.entries[..36]);
    changed.roster.members.get_mut("it").unwrap().cosign = key("it", "new").public();
    let map = changed.map().unwrap();
    for member in MEMBERS {
        valid(f.attest(member, 36, map.root()));
    }
    let held = Held::by(f, &SEVEN);
    // The honest source has another state; a liar's file is made by hand from the attests and the changed map.
    let honest = held.source().snapshot().err().unwrap();
    assert!(matches!(honest, ProofFault::Differs { size: 36, .. }), "{honest}");
    let indices: Vec<u64> = (36..42).collect();
    let proof = record::Proof::new(&held.entries, &held.tree, &held.checkpoint, 0, &indices).unwrap();
    let attested = charter::proof::attested(&proof, held.pin()).unwrap();
    let fault = attested.check(&map).err().unwrap();
    let words = fault.to_string();
    assert!(words.contains("(other keys of `it`)"), "{words}");
    assert!(words.contains("a change was left out, added or altered"), "{words}");
}

#[test]
fn a_snapshot_is_believed_under_the_charters_own_quorum_alone_and_folded_on() {
    let bytes = HELD.source().snapshot().unwrap();
    let (mut state, attested) = snapshot::verify(&bytes, HELD.pin()).unwrap();
    assert_eq!((attested.size, state.size), (72, 72));
    HELD.f.entries[72..].iter().for_each(|e: &Entry| drop(state.apply(e).clone()));
    assert_eq!(state.digest().unwrap(), HELD.f.state.digest().unwrap());
    assert_eq!(snapshot::verify(&bytes, None).unwrap().1.pin, Pin::Unpinned);
    assert!(snapshot::verify(&bytes, Some(Digest::of(b"another"))).is_err());
    for at in (0..bytes.len()).step_by(bytes.len() / 500 + 1) {
        let mut changed = bytes.clone();
        changed[at] ^= 4;
        assert!(snapshot::verify(&changed, HELD.pin()).is_err(), "byte {at}");
    }
}

#[test]
fn a_snapshot_of_another_state_than_the_attested_is_refused_naming_both_roots() {
    let bytes = HELD.source().snapshot().unwrap();
    let content = record::proof::unpack(snapshot::FILE, &bytes, 1 << 28).unwrap();
    let length = u32::from_be_bytes(content[..4].try_into().unwrap()) as usize;
    let mut state = snapshot::read(&content[4 + length..]).unwrap();
    state.stopped.insert("it".into());
    let own = state.map().unwrap().root();
    let mut forged = content[..4 + length].to_vec();
    forged.extend(snapshot::write(&state).unwrap());
    let fault = snapshot::verify(&record::proof::pack(snapshot::FILE, &forged).unwrap(), HELD.pin());
    let fault = fault.err().unwrap().to_string();
    let attested = fold(&HELD.f.entries[..72]).map().unwrap().root();
    assert!(fault.contains(&own.to_string()) && fault.contains(&attested.to_string()), "{fault}");
}
