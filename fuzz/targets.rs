//! What is done with foreign bytes, one function a parser: read them, and if they are accepted, hold them to it.
//!
//! Each gives whether it accepted. None may panic but by its own assertion: *accepted bytes are written again as the
//! very same bytes* where a format has one spelling, and *read again with the same meaning* where people write it.
//! The same functions run under libFuzzer (`fuzz_targets/`) and, on changed seeds, in a test of the workspace.

#[path = "handed.rs"]
pub mod handed;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use record::canon::{self, Value};
use record::fsck::{Kept, Scan};
use record::tree::{TileKind, TilePath};
use record::{
    Bundle, Cosignature, Digest, Entry, Log, PublicKey, Roster, SecretKey, Signature, SignedCheckpoint,
    SignedStatement, Tree,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::api::{self, Cosign, Posted, Receipt, Refusal, Stored, Sync};
use wire::{Peer, SignedFrame};

/// A target by its name, with how many changed seeds a test of seconds can afford.
pub type Target = (&'static str, fn(&[u8]) -> bool, usize);

/// All of them; each has a file in `fuzz_targets/` and a folder in `seeds/`.
pub const ALL: [Target; 35] = [
    ("canon", canonical, 20_000),
    ("statement", statement, 20_000),
    ("entry", entry, 20_000),
    ("checkpoint", checkpoint, 20_000),
    ("cosignature", cosignature, 20_000),
    ("tile_path", tile_path, 20_000),
    ("tile", tile, 20_000),
    ("bundle", bundle, 4_000),
    ("frame", frame, 20_000),
    ("pack", pack, 20_000),
    ("mail", mail, 20_000),
    ("receipt", receipt, 20_000),
    ("messages", messages, 20_000),
    ("keys", keys, 20_000),
    ("hub", hub_bodies, 4_000),
    ("charter", charter_text, 2_000),
    ("dictionary", dictionary, 4_000),
    ("mapping", mapping, 2_000),
    ("study", study_text, 4_000),
    ("schedule", schedule, 300),
    ("csv", csv_rows, 2_000),
    ("rounds", rounds_messages, 1_000),
    ("evidence", handed::evidence, 4_000),
    ("proof", handed::proof, 1_000),
    ("snapshot", handed::snapshot, 500),
    ("cose", handed::cose, 20_000),
    ("witness", handed::witness, 20_000),
    ("answer", handed::answer, 20_000),
    ("sign_off", handed::sign_off, 4_000),
    ("opening", handed::opening, 4_000),
    ("next_hub", handed::next_hub, 4_000),
    ("member", handed::member, 4_000),
    ("peers", handed::peers, 20_000),
    ("roster", handed::roster, 4_000),
    ("fold", handed::fold, 1_000),
];

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Canonical JSON of no particular shape.
pub fn canonical(data: &[u8]) -> bool {
    let Ok(value) = canon::parse(data) else { return false };
    assert_eq!(value.to_bytes().expect("what was read can be written"), data);
    true
}

/// A signed statement.
pub fn statement(data: &[u8]) -> bool {
    let Ok(signed) = SignedStatement::from_bytes(data) else { return false };
    assert_eq!(signed.to_bytes(), data);
    assert_eq!(signed.id(), Digest::of(signed.bytes()));
    assert_eq!(canon::to_bytes(signed.statement()).expect("canonical"), signed.bytes());
    let held = signed.verify().is_ok();
    let member = roster().authenticate(&signed).is_ok();
    assert!(held || !member, "the roster takes what does not verify");
    true
}

/// An entry, and what a member makes of it as the next of its log.
pub fn entry(data: &[u8]) -> bool {
    let mut log = Log::new();
    let taken = log.append(data, None).is_ok();
    let Ok(entry) = Entry::from_bytes(data) else {
        assert!(!taken && log.size() == 0);
        return false;
    };
    assert_eq!(entry.to_bytes(), data);
    assert!(data.len() <= record::entry::MAX_ENTRY_BYTES);
    assert!(taken && log.size() == 1);
    let kept = log.entries().first().expect("the one taken");
    assert_eq!((kept.bytes(), kept.time(), kept.id()), (data, entry.time, entry.signed.id()));
    assert_eq!(kept.entry(), entry);
    true
}

/// A signed note.
pub fn checkpoint(data: &[u8]) -> bool {
    let Some(Ok(signed)) = text(data).map(SignedCheckpoint::parse) else { return false };
    assert_eq!(signed.to_note().as_bytes(), data);
    let roster = roster();
    let counted = signed.cosigners(&roster);
    assert!(counted.iter().all(|name| roster.members.contains_key(name)));
    static HYBRID: LazyLock<Roster> =
        LazyLock::new(|| Roster::of_charter(&handed::hybrid_charter()).expect("the charter has a roster"));
    let counted = signed.cosigners(&HYBRID);
    assert!(counted.iter().all(|name| HYBRID.keys(name).is_some() || HYBRID.witnesses.contains_key(name)));
    let _ = record::log::watermark(&tree(), &signed, &roster, 0);
    true
}

/// A line of a cosignature, of either kind.
pub fn cosignature(data: &[u8]) -> bool {
    static NOTE: LazyLock<SignedCheckpoint> = LazyLock::new(handed::hybrid_note);
    let Some(Ok(line)) = text(data).map(Cosignature::from_line) else { return false };
    assert_eq!(line.to_line().as_bytes(), data);
    let ours = NOTE.lines().any(|known| *known == line);
    let held = line.verify(NOTE.checkpoint(), &key(11).public()).is_ok()
        || line.verify_ml(NOTE.checkpoint(), &handed::ml(14).public()).is_ok();
    assert!(!held || ours, "a line that `gb` never signed");
    true
}

/// A path of a tile.
pub fn tile_path(data: &[u8]) -> bool {
    let Some(Ok(path)) = text(data).map(str::parse::<TilePath>) else { return false };
    assert_eq!(path.to_string().as_bytes(), data);
    if let Ok(bytes) = tree().tile(&path) {
        assert_eq!(bytes.len(), 32 * usize::from(path.width));
    }
    true
}

/// Bytes of a tile: the first says of which kind. Sound if and only if they are the tile's own.
pub fn tile(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else { return false };
    let leaves = leaves();
    let width = leaves.len() as u16;
    let kind = if kind & 1 == 0 { TileKind::Hashes(0) } else { TileKind::Entries };
    let path = TilePath { kind, index: 0, width };
    let ours = match kind {
        TileKind::Hashes(_) => tree().tile(&path).expect("the tile is there"),
        TileKind::Entries => {
            record::tree::entry_bundle(leaves.iter().map(Vec::as_slice)).expect("entries are short")
        }
    };
    let mut scan = Scan::new(Kept::default()).effort(0);
    (0..).zip(&leaves).for_each(|(index, leaf)| scan.entry(index, leaf));
    let mut read = |index: u64| leaves.get(index as usize).cloned();
    let report = scan.finish([(path.to_string(), bytes)], &mut read);
    assert_eq!(report.is_clean(), ours == bytes, "{:?}", report.damages);
    report.is_clean()
}

/// A bundle, and its verification.
pub fn bundle(data: &[u8]) -> bool {
    let Ok(bundle) = Bundle::read(data) else { return false };
    assert_eq!(bundle.write().expect("what was read can be written"), data);
    if let Ok(report) = bundle.verify_container(None) {
        assert_eq!(report.in_force.size(), bundle.entries.len() as u64);
    }
    true
}

/// A frame of the wire.
pub fn frame(data: &[u8]) -> bool {
    let Ok(signed) = SignedFrame::decode(data) else { return false };
    assert_eq!(signed.bytes(), data);
    // Signed again by another key it is the same frame: nothing of it is outside of what was read.
    let again = signed.frame().clone().sign(&key(9)).expect("what was read can be signed");
    assert_eq!(again.id(), signed.id());
    let body = signed.frame().body.len();
    assert_eq!(again.bytes()[again.bytes().len() - body..], data[data.len() - body..]);
    true
}

/// Packed entries.
pub fn pack(data: &[u8]) -> bool {
    let Some(items) = api::unpack(data) else { return false };
    assert_eq!(api::pack(items.iter().map(Vec::as_slice)), data);
    true
}

/// Packed frames of a mailbox.
pub fn mail(data: &[u8]) -> bool {
    let Some(items) = api::unpack_mail(data) else { return false };
    assert_eq!(api::pack_mail(&items), data);
    assert!(items.windows(2).all(|two| two[0].seq < two[1].seq));
    true
}

fn same<T: DeserializeOwned + Serialize>(data: &[u8]) -> Option<T> {
    let read: T = canon::from_bytes_limit(data, api::MAX_ANSWER).ok()?;
    let written = canon::to_bytes(&read).expect("what was read can be written");
    assert_eq!(written, data, "{}", String::from_utf8_lossy(data));
    Some(read)
}

/// A hub's receipt.
pub fn receipt(data: &[u8]) -> bool {
    let Some(receipt) = same::<Receipt>(data) else { return false };
    let _ = receipt.verify(&key(1).public());
    true
}

/// The other messages of the hub: the first byte says which.
pub fn messages(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else { return false };
    match kind {
        b'c' => same::<Cosign>(bytes).is_some_and(|c| cosignature(c.line.as_bytes()) || !c.line.is_empty()),
        b's' => same::<Sync>(bytes).is_some(),
        b'p' => same::<Posted>(bytes).is_some(),
        b'b' => same::<Stored>(bytes).is_some(),
        b'r' => same::<Refusal>(bytes).is_some(),
        b'e' => same::<wire::peer::Proofs>(bytes).is_some(),
        _ => false,
    }
}

/// Keys, signatures, digests and addresses as text.
pub fn keys(data: &[u8]) -> bool {
    let bytes: Result<[u8; 32], _> = data.try_into();
    if let Some(Ok(key)) = bytes.ok().map(PublicKey::from_bytes) {
        assert_eq!(key.as_bytes(), data);
        return true;
    }
    let Some(text) = text(data) else { return false };
    let key = text.parse::<PublicKey>().map(|key| assert_eq!(key.to_string(), text));
    let signature = text.parse::<Signature>().map(|signature| assert_eq!(signature.to_string(), text));
    let digest = text.parse::<Digest>().map(|digest| assert_eq!(digest.to_string(), text));
    let proxy = wire::Proxy::parse(text).map(|proxy| {
        let again = wire::Proxy::parse(&proxy.written()).expect("what was written can be read");
        assert_eq!(again.written(), proxy.written());
    });
    key.is_ok() || signature.is_ok() || digest.is_ok() || proxy.is_ok()
}

/// Bodies that a member hands to the hub: the first byte says to which call. What is refused changes nothing.
pub fn hub_bodies(data: &[u8]) -> bool {
    let Some((call, body)) = data.split_first() else { return false };
    HUB.with_borrow_mut(|world| {
        let world = world.get_or_insert_with(World::new);
        let desk = &mut world.desk;
        world.up += 1;
        let at = hub::At { now: NOW + 60_000, up: Duration::from_secs(world.up) };
        let peer = Peer { key: key(12).public(), party: Some("gb".to_owned()) };
        let size = desk.size();
        let (taken, status) = match call {
            b's' => match desk.submit(&peer, body, at) {
                Ok(receipt) => {
                    receipt.verify(&key(1).public()).expect("the hub signs its receipts");
                    let id = SignedStatement::from_bytes(body).expect("it was taken").id();
                    assert_eq!((receipt.id, desk.place_of(&id)), (id, Some(receipt.index)));
                    let later = hub::At { up: at.up + Duration::from_secs(1), ..at };
                    desk.tick(later);
                    let leaf = desk.entries(&peer, receipt.index, receipt.index + 1, later).expect("shown");
                    assert!(leaf.iter().all(|leaf| leaf.ends_with(body)), "it is kept verbatim");
                    (true, 200)
                }
                Err(refusal) => (false, refusal.status),
            },
            b'c' => match canon::from_bytes::<Cosign>(body).map(|message| desk.cosign(&peer, &message, at)) {
                Ok(Ok(())) => (true, 200),
                Ok(Err(refusal)) => (false, refusal.status),
                Err(_) => (false, 400),
            },
            _ => match desk.post(&peer, body.to_vec(), at) {
                Ok(posted) => {
                    assert_eq!(posted.id, SignedFrame::decode(body).expect("it was taken").id());
                    (true, 200)
                }
                Err(refusal) => (false, refusal.status),
            },
        };
        assert!(taken || (400..500).contains(&status) || status == 507, "status {status}");
        assert!(taken || desk.size() == size, "what was refused was written");
        if taken {
            // The next bytes meet the same hub.
            *world = World::new();
        }
        taken
    })
}

thread_local! {
    static HUB: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// A hub with a charter in force.
struct World {
    desk: hub::Desk,
    up: u64,
}

impl World {
    fn new() -> World {
        let config = hub::HubConfig {
            federation: "stroke".into(),
            operator: "Example Trust".into(),
            jurisdiction: "CH".into(),
        };
        let books = hub::Books::in_memory(&config, [1; 32], [2; 32]).expect("books in memory");
        let mut desk = books.wake(hub::At { now: NOW, up: Duration::ZERO }).expect("an empty hub opens");
        let peer = Peer { key: key(12).public(), party: None };
        for (second, leaf) in (1..).zip(leaves().iter().take(3)) {
            let signed = Entry::from_bytes(leaf).expect("an entry").signed.to_bytes();
            let at = hub::At { now: NOW + 1000 * second, up: Duration::from_secs(second as u64) };
            desk.submit(&peer, &signed, at).expect("the charter is entered");
        }
        World { desk, up: 10 }
    }
}

/// A charter as people write it.
pub fn charter_text(data: &[u8]) -> bool {
    let Some(Ok(charter)) = text(data).map(|text| charter::Charter::parse("charter.toml", text)) else {
        return false;
    };
    let bytes = canon::to_bytes(&charter).expect("a charter has a canonical form");
    let again: charter::Charter = canon::from_bytes(&bytes).expect("and is read from it");
    assert_eq!(canon::to_bytes(&again).expect("canonical"), bytes);
    assert_eq!(charter.digest().expect("a digest"), Digest::of(&bytes));
    Roster::of_charter(&canon::to_value(&charter).expect("a value")).expect("its members have a roster");
    true
}

/// A data dictionary.
pub fn dictionary(data: &[u8]) -> bool {
    let Some(Ok(read)) = text(data).map(|text| study::Dictionary::parse("dictionary.toml", text)) else {
        return false;
    };
    let bytes = read.to_canonical().expect("a dictionary has a canonical form");
    assert_eq!(study::Dictionary::from_canonical(&bytes).expect("and is read from it"), read);
    true
}

const DICTIONARY: &str = include_str!("../studies/ist/dictionary.toml");
const MAPPING: &str = include_str!("../studies/ist/mapping.toml");

fn ist() -> study::Dictionary {
    study::Dictionary::parse("dictionary.toml", DICTIONARY).expect("the shipped dictionary")
}

/// A mapping, its check against a dictionary, and its own examples.
pub fn mapping(data: &[u8]) -> bool {
    let Some(Ok(read)) = text(data).map(|text| study::Mapping::parse("mapping.toml", text)) else {
        return false;
    };
    let bytes = read.to_canonical().expect("a mapping has a canonical form");
    assert_eq!(study::Mapping::from_canonical(&bytes).expect("and is read from it"), read);
    let dictionary = ist();
    if read.check(&dictionary).is_ok() {
        let _ = engine::run_examples(&read, &dictionary);
    }
    true
}

/// A study, and its plan.
pub fn study_text(data: &[u8]) -> bool {
    let Some(Ok(read)) = text(data).map(|text| study::Study::parse("study.toml", text)) else { return false };
    let bytes = read.to_canonical().expect("a study has a canonical form");
    assert_eq!(study::Study::from_canonical(&bytes).expect("and is read from it"), read);
    let _ = read.check(&ist());
    true
}

/// A country schedule: rules, words and tests.
pub fn schedule(data: &[u8]) -> bool {
    let Some(Ok(read)) = text(data).map(|text| policy::Schedule::adopt("schedule.toml", text)) else {
        return false;
    };
    let again = policy::Schedule::adopt("again.toml", text(data).unwrap_or_default()).expect("twice alike");
    assert_eq!(again.digest(), read.digest());
    policy::PolicySet::load(policy::FLOOR, Some(&read)).expect("it stands beside the floor");
    true
}

/// A site's own table, through its mapping.
pub fn csv_rows(data: &[u8]) -> bool {
    thread_local! {
        static FOLDER: tempfile::TempDir = tempfile::tempdir().expect("a folder");
    }
    FOLDER.with(|folder| {
        let path = folder.path().join("rows.csv");
        std::fs::write(&path, data).expect("the table is written");
        let source = engine::Source::csv(&path);
        let names: Option<Vec<String>> = source.as_ref().ok().map(|s| s.header().to_vec());
        if let Some(names) = &names {
            let unique: std::collections::BTreeSet<_> = names.iter().collect();
            assert!(!names.is_empty() && unique.len() == names.len(), "{names:?}");
        }
        let dictionary = ist();
        let mapping =
            study::Mapping::parse_with("mapping.toml", MAPPING, &dictionary).expect("the shipped one");
        let Ok(rows) = engine::Governed::open(&path, &mapping, &dictionary) else { return false };
        assert!(names.is_some(), "rows without a header");
        let frame = rows.frame();
        assert_eq!(frame.columns.len(), dictionary.columns.len().min(frame.columns.len()));
        let again = engine::Governed::open(&path, &mapping, &dictionary).expect("twice alike");
        assert_eq!(format!("{:?}", again.frame()), format!("{frame:?}"));
        true
    })
}

/// Messages of a round: the first byte says of which kind, and the rest is what the sender sealed; or, with another
/// first byte, the bytes as they came.
pub fn rounds_messages(data: &[u8]) -> bool {
    use rounds::{Aggregator, KemPublic, Kind, Opening, RoundSeed};
    let Some((code, plain)) = data.split_first() else { return false };
    if let Ok(public) = KemPublic::from_bytes(data) {
        assert_eq!(public.to_bytes(), data);
    }
    let ctx = rounds_context();
    let kinds = [Kind::Share, Kind::KeyPart, Kind::Verifier, Kind::Commitment, Kind::Opening];
    let kind = kinds.into_iter().find(|kind| kind.code() == *code);
    let (from, to) = match kind {
        Some(Kind::Share) => ("it", "ch"),
        Some(Kind::Opening) => ("se", "no"),
        _ => ("se", "ch"),
    };
    let bytes = match kind {
        Some(kind) => seal(&ctx, kind, from, to, plain),
        None => data.to_vec(),
    };
    assert!(kind.is_none() || rounds::kind_of(&bytes) == kind);
    if kind == Some(Kind::Opening) {
        let mut opening = Opening::new(ctx, "no", kem("no")).expect("the collector reads");
        let taken = opening.on_message(from, &bytes).is_ok();
        if taken {
            opening.on_message(from, &bytes).expect("a verbatim repeat is ignored");
            assert_eq!(opening.missing(), ["ch"]);
        }
        return taken;
    }
    let seed = RoundSeed::from_bytes(&[7; 32]).expect("32 bytes");
    let peers = [("se".to_owned(), kem("se").public())];
    let mut machine = Aggregator::new(ctx, "ch", kem("ch"), &peers, &seed).expect("an aggregator");
    let mut take = |bytes: &[u8]| match kind {
        Some(Kind::Share) | None => machine.on_contribution("it", bytes),
        _ => machine.on_message(from, bytes),
    };
    let Ok(first) = take(&bytes) else { return false };
    assert!(first.len() <= 1);
    assert!(take(&bytes).expect("a verbatim repeat is ignored").is_empty());
    true
}

/// The round of [`rounds_messages`].
pub fn rounds_context() -> rounds::RoundContext {
    let name = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    rounds::RoundContext {
        federation: Digest::of(b"charter"),
        study: "aspirin".into(),
        run: 1,
        stage: 0,
        round: 0,
        contributors: name(&["it", "nl", "pl"]),
        aggregators: name(&["ch", "se"]),
        collector: "no".into(),
        replayed: false,
        plan: Digest::of(b"plan"),
        question: Digest::of(b"question"),
        layout: study::Layout { cells: vec![study::Cell::count("patients", 255)] },
    }
}

/// A party's fixed key of the run.
pub fn kem(party: &str) -> rounds::KemSecret {
    rounds::KemSecret::from_bytes(Digest::of(party.as_bytes()).as_bytes()).expect("32 bytes")
}

/// What a message of that kind binds: its header, `info` and associated data, as `rounds` describes them.
pub fn bound(ctx: &rounds::RoundContext, kind: rounds::Kind, from: &str, to: &str) -> [Vec<u8>; 3] {
    let mut header = b"comity\x01\x12".to_vec();
    header.push(kind.code());
    header.extend_from_slice(ctx.slot().expect("a slot").as_bytes());
    let info = [b"comity/1 round ".as_slice(), ctx.digest().expect("a digest").as_bytes()].concat();
    let mut aad = header.clone();
    for name in [from, to] {
        aad.extend_from_slice(&(name.len() as u64).to_be_bytes());
        aad.extend_from_slice(name.as_bytes());
    }
    [header, info, aad]
}

fn seal(ctx: &rounds::RoundContext, kind: rounds::Kind, from: &str, to: &str, plain: &[u8]) -> Vec<u8> {
    use hpke::kem::XWing;
    use hpke::{Deserializable, Kem, OpModeS, Serializable};
    let [header, info, aad] = bound(ctx, kind, from, to);
    let key = <XWing as Kem>::PublicKey::from_bytes(&kem(to).public().to_bytes()).expect("a key");
    let (encapsulated, cipher) = hpke::single_shot_seal::<
        hpke::aead::ChaCha20Poly1305,
        hpke::kdf::HkdfSha256,
        XWing,
    >(&OpModeS::Base, &key, &info, plain, &aad)
    .expect("sealing works");
    [header, encapsulated.to_bytes().to_vec(), cipher].concat()
}

/// The stamp of the first entry.
pub const NOW: i64 = 1_700_000_000_000;

/// A fixed key: 1 and 2 are the hub's, 10 to 12 `gb`'s, 20 to 22 `it`'s (sign, cosign, TLS).
pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn map(pairs: &[(&str, Value)]) -> Value {
    Value::Map(pairs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect())
}

fn word(text: &str) -> Value {
    Value::Str(text.to_owned())
}

/// A charter of two members, as much of it as a roster reads.
pub fn small_charter() -> Value {
    let public = |seed| word(&key(seed).public().to_string());
    let member = |id: &str, seed| {
        map(&[
            ("id", word(id)),
            ("sign", public(seed)),
            ("cosign", public(seed + 1)),
            ("tls", public(seed + 2)),
        ])
    };
    let hub = map(&[
        ("operator", word("Example Trust")),
        ("jurisdiction", word("CH")),
        ("key", public(1)),
        ("tls", public(2)),
    ]);
    let members = Value::List(vec![member("gb", 10), member("it", 20)]);
    map(&[("federation", word("stroke")), ("hub", hub), ("members", members)])
}

/// Statements of a small federation: the charter, two signatures, a note.
pub fn statements() -> Vec<SignedStatement> {
    let charter = small_charter();
    let digest = word(&Digest::of(&charter.to_bytes().expect("canonical")).to_string());
    let said = |kind: &str, issuer: &str, seed, body: Value| {
        let statement =
            record::Statement::new(kind, "stroke", issuer, "director", &body).expect("a statement");
        SignedStatement::sign(statement, &key(seed)).expect("signed")
    };
    vec![
        said("charter.propose@1", "gb", 10, map(&[("charter", charter)])),
        said("charter.sign@1", "gb", 10, map(&[("charter", digest.clone())])),
        said("charter.sign@1", "it", 20, map(&[("charter", digest)])),
        said(
            "note.add@1",
            "it",
            20,
            map(&[("text", word("été \"quoted\" \u{1f4a7}")), ("n", Value::Int(-7))]),
        ),
    ]
}

/// Their entries.
pub fn leaves() -> Vec<Vec<u8>> {
    let stamped = (1..).zip(statements());
    stamped.map(|(second, signed)| Entry::new(NOW + 1000 * second, signed).to_bytes()).collect()
}

fn roster() -> Roster {
    Roster::of_charter(&small_charter()).expect("the charter has a roster")
}

fn tree() -> Tree {
    let mut tree = Tree::new();
    leaves().iter().for_each(|leaf| {
        tree.append(leaf);
    });
    tree
}

/// The checkpoint of all entries, cosigned by both.
pub fn note() -> SignedCheckpoint {
    let mut log = Log::new();
    for leaf in leaves() {
        log.append(&leaf, None).expect("an entry");
    }
    let checkpoint =
        record::Checkpoint::new("comity/stroke", log.size(), log.tree().root()).expect("a checkpoint");
    let mut signed = checkpoint.sign(&key(1));
    for (party, seed) in [("gb", 11), ("it", 21)] {
        let (line, _) = log.cosign(&signed, party, &key(seed), NOW + 9000, None).expect("cosigned");
        for line in line {
            signed.add(line, log.roster()).expect("a member's");
        }
    }
    signed
}

/// A bundle of it.
pub fn small_bundle() -> Bundle {
    let blob = b"a plan".to_vec();
    let blobs = BTreeMap::from([(Digest::of(&blob), blob)]);
    Bundle::export("stroke", leaves(), &note(), blobs, "it", NOW + 10_000, &key(20)).expect("a bundle")
}
