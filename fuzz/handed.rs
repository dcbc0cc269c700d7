//! What is handed on beside the record: proofs for outsiders, what witnesses are asked and answer, what ends a term and
//! begins one, documents of members, what members say to each other; and every statement, as the fold takes it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use charter::{State, Status};
use record::canon::{self, Value};
use record::evidence::Attested;
use record::term::{Claim as Ended, Opening};
use record::witness::{AddCheckpoint, Seen, Witness, cosignature_in, log_key, log_verifier_key};
use record::{
    CoseReceipt, Cosignature, Digest, Entry, Evidence, MlSecretKey, Pin, Roster, SecretKey, SignedCheckpoint,
    SignedStatement, Statement,
};
use wire::peer::{self, Checkpoints, Consistency, Disclosed, Highest, Kept};

use super::{NOW, key, leaves, map, note, same, small_charter, text, tree, word};

/// A file of evidence, and whom it convicts.
pub fn evidence(data: &[u8]) -> bool {
    let Ok(read) = Evidence::read(data) else { return false };
    assert_eq!(read.write().expect("what was read can be written"), data);
    let Ok(guilt) = read.verify(None) else { return false };
    assert_eq!(guilt.pin, Pin::Unpinned);
    assert!(read.charter.to_bytes().is_ok_and(|bytes| Digest::of(&bytes) == guilt.charter));
    let pinned = read.verify(Some(guilt.charter)).expect("it holds under its own charter");
    assert_eq!((&pinned.who, pinned.key), (&guilt.who, guilt.key));
    let short = read.clone().short().verify(None).expect("as short as it convicts it convicts");
    assert_eq!((&short.who, short.key, short.term), (&guilt.who, guilt.key, guilt.term));
    assert!(read.verify(Some(Digest::of(b"another charter"))).is_err());
    true
}

/// A packed file: the first byte says whether as it came, or what is in it, so that the digest before the content is
/// none of the bytes that change.
fn packed(data: &[u8], magic: &str) -> Option<Vec<u8>> {
    match data.split_first()? {
        (b'f', file) => Some(file.to_vec()),
        (b'c', content) => record::proof::pack(magic, content).ok(),
        _ => None,
    }
}

/// The small proof of a study.
pub fn proof(data: &[u8]) -> bool {
    let Some(file) = packed(data, charter::proof::STUDY) else { return false };
    let Ok(proved) = charter::proof::verify_study(&file, None) else { return false };
    let digest = proved.attested.charter.digest().expect("a digest");
    let again = charter::proof::verify_study(&file, Some(digest)).expect("it holds under its own charter");
    assert_eq!((again.time, again.attested.root), (proved.time, proved.attested.root));
    assert!(charter::proof::verify_study(&file, Some(Digest::of(b"another charter"))).is_err());
    true
}

/// A snapshot of the state.
pub fn snapshot(data: &[u8]) -> bool {
    if let Ok(state) = charter::snapshot::read(data) {
        assert_eq!(charter::snapshot::write(&state).expect("what was read can be written"), data);
        return true;
    }
    let Some(file) = packed(data, charter::snapshot::FILE) else { return false };
    let Ok((state, attested)) = charter::snapshot::verify(&file, None) else { return false };
    assert_eq!(state.map().expect("a map").root(), attested.root);
    true
}

/// A COSE receipt, and the entry that it is of.
pub fn cose(data: &[u8]) -> bool {
    let Ok(receipt) = CoseReceipt::read(data) else { return false };
    let leaves = leaves();
    for (index, leaf) in (0..).zip(&leaves) {
        if let Ok(root) = receipt.verify(leaf, &key(1).public()) {
            assert_eq!((receipt.index(), root), (index, tree().root_at(receipt.size()).expect("a size")));
        }
    }
    true
}

/// What a log asks of a witness that has cosigned its first two entries.
pub fn witness(data: &[u8]) -> bool {
    let Ok(request) = AddCheckpoint::parse(data) else { return false };
    let witness = Witness::new("witness.example/w1", key(40)).expect("a name");
    let seen = Seen { size: 2, root: tree().root_at(2).expect("a size") };
    if let Ok(advance) = witness.consider(&request, Some(&key(1).public()), Some(seen), 1_700_000_100) {
        assert_eq!(advance.next().size, request.size());
        assert_eq!(
            Ok(advance.next().root),
            tree().root_at(request.size()),
            "a tree that the hub never signed"
        );
        let line = Cosignature::from_line(&advance.kept()).expect("a line of a note");
        assert!(line.verify(note().checkpoint(), &key(40).public()).is_ok() || request.size() != 4);
    }
    assert!(witness.consider(&request, None, Some(seen), 0).is_err(), "a log that it does not know");
    true
}

/// What a witness answers, and the key under which a log is known: the first byte says which.
pub fn answer(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else { return false };
    let Some(text) = text(bytes) else { return false };
    if *kind == b'k' {
        let Ok(key) = log_key("comity/stroke", text) else { return false };
        assert!([log_verifier_key("comity/stroke", &key), key.to_string()].contains(&text.to_owned()));
        return true;
    }
    static NOTE: LazyLock<SignedCheckpoint> = LazyLock::new(note);
    let Ok(line) = cosignature_in(text, &NOTE, "gb", &key(11).public()) else { return false };
    assert!(NOTE.lines().any(|ours| *ours == line), "a line that `gb` never signed");
    assert!(text.contains(&line.to_line()));
    true
}

/// A statement, signed as its issuer would sign it.
fn signed_by_issuer(data: &[u8], keys: &[SecretKey]) -> Option<SignedStatement> {
    let statement: Statement = canon::from_bytes(data).ok()?;
    let (first, others) = keys.split_first()?;
    let mut signed = SignedStatement::sign(statement, first).ok()?;
    for key in others {
        signed.add_signature(key).ok()?;
    }
    Some(signed)
}

fn keys_of(issuer: &str) -> [SecretKey; 1] {
    [key(if issuer == "it" { 20 } else { 10 })]
}

/// A sign-off: the first byte says whether as it came, or what its issuer then signs.
pub fn sign_off(data: &[u8]) -> bool {
    let roster = Roster::of_charter(&small_charter()).expect("a roster");
    let bytes = match data.split_first() {
        Some((b'b', bytes)) => bytes.to_vec(),
        Some((b's', said)) => {
            let issuer = canon::from_bytes::<Statement>(said).map(|s| s.issuer).unwrap_or_default();
            let Some(signed) = signed_by_issuer(said, &keys_of(&issuer)) else { return false };
            signed.to_bytes()
        }
        _ => return false,
    };
    let Ok(claim) = Ended::read(&bytes, &roster) else { return false };
    assert!(roster.members.contains_key(&claim.issuer) && claim.said.term == roster.term);
    if let Some((term, size, root)) = claim.at {
        assert_eq!(term, 1);
        assert_eq!(tree().root_at(size), Ok(root), "a checkpoint that the hub never signed");
    }
    true
}

/// What begins a term, at the end of four entries.
pub fn opening(data: &[u8]) -> bool {
    let Some(opening) = same::<Opening>(data) else { return false };
    let roster = Roster::of_charter(&small_charter()).expect("a roster");
    if opening.check(4, &roster).is_err() {
        return false;
    }
    assert_eq!((opening.term, opening.base), (2, 4));
    let who: BTreeSet<String> = opening
        .signoffs
        .iter()
        .map(|s| Ended::read(s.statement.as_bytes(), &roster).expect("it was checked").issuer)
        .collect();
    assert_eq!(who.len(), opening.signoffs.len());
    assert!(who.len() as u32 >= roster.quorum());
    true
}

/// A folder with a file of this name and a fixed node key.
fn folder(name: &str, data: &[u8], run: impl FnOnce(&Path) -> bool) -> bool {
    use std::os::unix::fs::PermissionsExt;
    thread_local! {
        static FOLDER: tempfile::TempDir = tempfile::tempdir().expect("a folder");
    }
    FOLDER.with(|folder| {
        let key = folder.path().join("node.key");
        if !key.exists() {
            std::fs::write(&key, format!("comity-node-key/1 {}\n", "07".repeat(32))).expect("written");
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("closed");
        }
        std::fs::write(folder.path().join(name), data).expect("the file is written");
        run(folder.path())
    })
}

/// Who comes next: `next.json`.
pub fn next_hub(data: &[u8]) -> bool {
    folder("next.json", data, |dir| {
        let Ok(next) = node::term::Next::read(&dir.join("next.json")) else { return false };
        let written = serde_json::to_vec(&next).expect("what was read can be written");
        folder("again.json", &written, |dir| {
            assert_eq!(node::term::Next::read(&dir.join("again.json")).expect("and is read again"), next);
            true
        })
    })
}

/// A member's part of a charter as people write it, and the document made of it; the first byte says which.
pub fn member(data: &[u8]) -> bool {
    let charter = Digest::of(b"the charter");
    let document = match data.split_first() {
        Some((b't', part)) => {
            let made = folder("member.toml", part, |dir| {
                let Ok(document) = node::members::Document::of(dir, &charter) else { return false };
                let bytes = canon::to_bytes(&document).expect("a document has a canonical form");
                assert!(member(&[b"d", bytes.as_slice()].concat()), "its own document is read");
                true
            });
            return made;
        }
        Some((b'd', document)) => same::<node::members::Document>(document),
        _ => None,
    };
    let Some(document) = document else { return false };
    let said = record::roster::consent(&charter, &document.member).expect("canonical");
    let sign = document.member.get("sign").and_then(Value::as_str).and_then(|key| key.parse().ok());
    sign.is_some_and(|key: record::PublicKey| key.verify_strict(&said, &document.consent).is_ok())
}

/// Read, written and read again it is the same; a field that is not there may be written as `null`.
fn again<T: serde::de::DeserializeOwned + serde::Serialize>(data: &[u8]) -> Option<T> {
    let read: T = canon::from_bytes_limit(data, wire::api::MAX_ANSWER).ok()?;
    let written = canon::to_bytes(&read).expect("what was read can be written");
    same::<T>(&written)
}

/// What members say to each other: the first byte says what.
pub fn peers(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else { return false };
    match kind {
        b'e' => {
            let Some((answer, entries)) = peer::unpack_entries(bytes) else { return false };
            assert_eq!(peer::pack_entries(&answer, &entries).expect("canonical"), bytes);
            let _: Result<(), _> = Attested::verify(&answer, &key(10).public());
            true
        }
        b'p' => {
            let Some((listed, statements)) = peer::unpack_pending(bytes) else { return false };
            assert!(listed.held.len() <= peer::MAX_LISTED);
            assert_eq!(peer::pack_pending(&listed, &statements).expect("canonical"), bytes);
            true
        }
        b'c' => again::<Checkpoints>(bytes).is_some(),
        b'q' => again::<Consistency>(bytes).is_some(),
        b'k' => again::<Kept>(bytes).is_some(),
        b'd' => again::<Disclosed>(bytes).is_some(),
        b'h' => again::<Highest>(bytes).is_some_and(|said| {
            let nonce = Digest::of(b"asked now");
            let held = said.verify(&key(10).public(), &nonce).is_ok();
            assert!(!held || (said.size, said.term) == (4, 1), "a number that `gb` never signed");
            held
        }),
        _ => false,
    }
}

/// A charter as the record has it: members, keys, witnesses and groups.
pub fn roster(data: &[u8]) -> bool {
    let Some(charter) = same::<Value>(data) else { return false };
    let Ok(roster) = Roster::of_charter(&charter) else { return false };
    let electorate = roster.electorate().expect("somebody counts");
    let n = electorate.organisations();
    assert!(electorate.f < n && electorate.quorum() <= n && roster.quorum() == electorate.quorum());
    let everyone = electorate.members.keys().chain(electorate.witnesses.keys()).cloned().collect();
    assert!(electorate.suffices(&everyone), "nothing could ever be in force");
    assert!(!electorate.suffices(&BTreeSet::new()));
    true
}

/// A frozen record: its name in a seed, and what it holds.
pub const RECORDS: [&str; 6] = [
    include_str!("../crates/charter/tests/golden/first.record"),
    include_str!("../crates/charter/tests/golden/left-out.record"),
    include_str!("../crates/charter/tests/golden/attested.record"),
    include_str!("../crates/charter/tests/golden/notes.record"),
    include_str!("../crates/charter/tests/golden/members.record"),
    include_str!("../crates/charter/tests/golden/reports.record"),
];

/// The entries of a frozen record, and whether each is valid.
pub fn frozen(record: &str) -> Vec<(Entry, bool)> {
    let (mut rest, mut all) = (record, Vec::new());
    while let Some(after) = rest.strip_prefix("entry ") {
        let (head, after) = after.split_once('\n').expect("a line");
        let (length, status) = head.split_once(' ').expect("a status");
        let (bytes, after) = after.split_at(length.parse().expect("a length"));
        all.push((Entry::from_bytes(bytes.as_bytes()).expect("an entry"), status == "valid"));
        rest = after.strip_prefix("\n\n").expect("an empty line");
    }
    all
}

/// The state before each entry of a frozen record.
fn states(record: &str) -> Vec<(State, i64)> {
    let (mut state, mut all) = (State::new(), Vec::new());
    for (entry, _) in frozen(record) {
        all.push((state.clone(), entry.time));
        state.apply(&entry);
    }
    all
}

fn bare(state: &State) -> Digest {
    let mut state = state.clone();
    (state.size, state.time) = (0, 0);
    state.statuses.clear();
    state.seen.clear();
    state.digest().expect("a state has a digest")
}

/// A statement in a record: the first byte says in which frozen one, the second before which of its entries, and the
/// rest is what its issuer signs. What is void changes nothing.
pub fn fold(data: &[u8]) -> bool {
    static STATES: LazyLock<Vec<Vec<(State, i64)>>> =
        LazyLock::new(|| RECORDS.iter().map(|record| states(record)).collect());
    let [record, at, said @ ..] = data else { return false };
    let Some((before, time)) = STATES.get(usize::from(*record)).and_then(|s| s.get(usize::from(*at))) else {
        return false;
    };
    let issuer = canon::from_bytes::<Statement>(said).map(|s| s.issuer).unwrap_or_default();
    let held =
        |usage: &str| SecretKey::from_seed(*Digest::of(format!("{issuer}/{usage}").as_bytes()).as_bytes());
    let Some(signed) = signed_by_issuer(said, &[held("sign"), held("next")]) else { return false };
    let entry = Entry::new(*time, signed);
    let mut state = before.clone();
    let valid = *state.apply(&entry) == Status::Valid;
    assert_eq!((state.size, state.statuses.len() as u64), (before.size + 1, before.size + 1));
    if !valid {
        assert_eq!(bare(&state), bare(before), "a void statement changed the state");
        return false;
    }
    let again = charter::snapshot::write(&state).expect("a state can be written");
    let read = charter::snapshot::read(&again).expect("and is read again");
    assert_eq!(read.map().expect("a map").root(), state.map().expect("a map").root());
    true
}

/// A fixed ML-DSA-44 key.
pub fn ml(seed: u8) -> MlSecretKey {
    MlSecretKey::from_seed([seed; 32])
}

/// A charter of three with keys of both kinds, a witness and groups: `gb`, `it` and `no` with keys 10, 20 and 30.
pub fn hybrid_charter() -> Value {
    let Value::Map(mut charter) = small_charter() else { return Value::Null };
    let member = |id: &str, seed: u8| {
        let public = |seed| word(&key(seed).public().to_string());
        map(&[
            ("id", word(id)),
            ("sign", public(seed)),
            ("cosign", public(seed + 1)),
            ("tls", public(seed + 2)),
            ("cosign_ml", word(&ml(seed + 4).public().to_string())),
            ("next", word(&Digest::of(key(seed + 3).public().as_bytes()).to_string())),
            ("endpoint", word("node.example:7443")),
            ("control", word(&format!("unit-{id}"))),
        ])
    };
    charter.insert("members".into(), Value::List(vec![member("gb", 10), member("it", 20), member("no", 30)]));
    let witness = map(&[
        ("name", word("witness.example/w1")),
        ("operator", word("Witness")),
        ("key", word(&key(40).public().to_string())),
        ("url", word("https://witness.example")),
    ]);
    charter.insert("witnesses".into(), Value::List(vec![witness]));
    let inner =
        map(&[("need", Value::Int(1)), ("of", Value::List(vec![word("no"), word("witness.example/w1")]))]);
    let groups = map(&[("need", Value::Int(2)), ("of", Value::List(vec![word("gb"), word("it"), inner]))]);
    charter.insert("cosigning".into(), map(&[("scheme", word("hybrid")), ("groups", groups)]));
    charter.insert("faults".into(), Value::Int(1));
    Value::Map(charter)
}

/// The checkpoint of all entries with lines of both kinds, by the members of [`hybrid_charter`] and its witness.
pub fn hybrid_note() -> SignedCheckpoint {
    let roster = Roster::of_charter(&hybrid_charter()).expect("a roster");
    let mut signed = note().without_cosignatures();
    let seconds = (NOW / 1000 + 9).unsigned_abs();
    for (id, seed) in [("gb", 10), ("it", 20), ("no", 30)] {
        let (key, ml) = (key(seed + 1), ml(seed + 4));
        let keys = record::CosignKeys { key: &key, ml: Some(&ml) };
        for line in Cosignature::sign_all(signed.checkpoint(), id, seconds, &keys).expect("cosigned") {
            signed.add(line, &roster).expect("a member's");
        }
    }
    let line =
        Cosignature::sign(signed.checkpoint(), "witness.example/w1", seconds, &key(40)).expect("cosigned");
    signed.add(line, &roster).expect("a witness's");
    signed
}

/// The sign-offs of both members, ending the term of the hub after all entries.
pub fn sign_offs() -> Vec<SignedStatement> {
    let next = record::HubInfo {
        operator: "Another Trust".into(),
        jurisdiction: "NO".into(),
        key: key(3).public(),
        tls: key(4).public(),
    };
    let said = record::SignOff {
        term: 1,
        next,
        address: "hub.example:7443".into(),
        claim: Some(record::term::bare(&note())),
    };
    ["gb", "it"]
        .map(|issuer| {
            let said = Statement::new(record::term::SIGN_OFF, "stroke", issuer, "director", &said);
            SignedStatement::sign(said.expect("a statement"), &keys_of(issuer)[0]).expect("signed")
        })
        .to_vec()
}
