//! Writes `fuzz/seeds`: small real objects, one folder for each target.
//!
//! `cargo run --release -p comity-world --example seeds`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::path::Path;

use hpke::kem::XWing;
use hpke::{Deserializable, OpModeR};
use privacy::{Contribution, LocalRules};
use record::canon;
use record::{Claim, Digest, Entry, Evidence, SignedStatement};
use rounds::{Aggregator, Kind, RoundSeed, contribute};
use targets::handed;
use targets::{bound, kem, key, leaves, note, rounds_context, small_bundle, statements};
use wire::api::{self, Cosign, Mail, Posted, Receipt, Refusal, Stored, Sync};
use wire::{Frame, Place, peer};

#[path = "../../../fuzz/targets.rs"]
#[allow(dead_code)]
mod targets;

const ASPIRIN: &str = include_str!("../../../studies/ist/aspirin.toml");
const TOO_FINE: &str = include_str!("../../../studies/ist/too-fine.toml");
const SCHEDULE: &str = include_str!("../../../policies/schedules/CH.toml");

fn put(target: &str, name: &str, bytes: impl AsRef<[u8]>) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(name), bytes).unwrap();
    let (_, accepts, _) = targets::ALL.iter().find(|(name, ..)| *name == target).unwrap();
    assert!(accepts(&std::fs::read(dir.join(name)).unwrap()), "{target}/{name} is not accepted");
}

fn after(first: u8, bytes: &[u8]) -> Vec<u8> {
    [&[first], bytes].concat()
}

fn frame() -> Vec<u8> {
    let charter = Digest::of(&targets::small_charter().to_bytes().unwrap());
    let place = Place { study: "aspirin".into(), run: 1, stage: 0, round: 2 };
    let frame =
        Frame::new("gb", "it", "share", charter, place, Digest::of(b"context"), b"sealed\0\xff".to_vec());
    frame.sign(&key(10)).unwrap().bytes().to_vec()
}

fn record_seeds() {
    put(
        "canon",
        "all",
        br#"{"":null,"a":[true,false,-9007199254740991,0],"b":{"x":"\u0000\n\"\\"},"c":[],"d":{}}"#,
    );
    for (number, signed) in statements().iter().enumerate() {
        put("statement", &number.to_string(), signed.to_bytes());
        put("entry", &number.to_string(), &leaves()[number]);
        put("canon", &number.to_string(), signed.bytes());
    }
    let mut two: SignedStatement = statements()[3].clone();
    two.add_signature(&key(10)).unwrap();
    put("statement", "two-signatures", two.to_bytes());
    let note = note().to_note();
    put("checkpoint", "cosigned", &note);
    put("checkpoint", "alone", note.split_inclusive('\n').take(5).collect::<String>());
    put("cosignature", "gb", note.split_inclusive('\n').nth(5).unwrap());
    let hybrid = handed::hybrid_note();
    put("checkpoint", "hybrid", hybrid.to_note());
    for line in hybrid.lines().filter(|line| ["gb", "witness.example/w1"].contains(&line.name())) {
        let kind = if line.is_post_quantum() { "ml" } else { "ed" };
        put("cosignature", &format!("hybrid-{}-{kind}", line.name().replace('/', "-")), line.to_line());
    }
    for path in ["tile/0/000", "tile/2/x001/x234/067.p/5", "tile/entries/x012/345", "tile/0/000.p/4"] {
        put("tile_path", &path.replace('/', "_"), path);
    }
    let tree = record::Tree::from_leaf_hashes(leaves().iter().map(|leaf| record::tree::leaf_hash(leaf)));
    put("tile", "hashes", after(0, &tree.tile(&"tile/0/000.p/4".parse().unwrap()).unwrap()));
    let entries = leaves();
    put("tile", "entries", after(1, &record::tree::entry_bundle(entries.iter().map(Vec::as_slice)).unwrap()));
    put("bundle", "small", small_bundle().write().unwrap());
    put("keys", "key", key(1).public().to_string());
    put("keys", "key-bytes", key(1).public().as_bytes());
    put("keys", "signature", key(1).sign(b"x").to_string());
    put("keys", "digest", Digest::of(b"x").to_string());
    put("keys", "proxy", "http://node:p%40ss@proxy.example:3128");
}

fn wire_seeds() {
    put("frame", "share", frame());
    put("pack", "entries", api::pack(leaves().iter().map(Vec::as_slice)));
    put(
        "mail",
        "two",
        api::pack_mail(&[Mail { seq: 3, frame: frame() }, Mail { seq: 9, frame: Vec::new() }]),
    );
    let id = statements()[3].id();
    let receipt = Receipt::sign(id, 3, "comity/stroke", targets::NOW, &key(1)).unwrap();
    put("receipt", "third", canon::to_bytes(&receipt).unwrap());
    let note = note();
    let line = note.to_note().split_inclusive('\n').nth(5).unwrap().to_owned();
    let cosign = canon::to_bytes(&Cosign { size: 4, line }).unwrap();
    put("messages", "cosign", after(b'c', &cosign));
    let sync = Sync {
        size: 4,
        checkpoint: Some(note.to_note()),
        sealed: 3,
        sealed_checkpoint: None,
        mail: 2,
        term: 0,
        base: 0,
    };
    put("messages", "sync", after(b's', &canon::to_bytes(&sync).unwrap()));
    let proofs = wire::peer::Proofs { files: vec![id] };
    put("messages", "proofs", after(b'e', &canon::to_bytes(&proofs).unwrap()));
    put("messages", "posted", after(b'p', &canon::to_bytes(&Posted { id }).unwrap()));
    put("messages", "stored", after(b'b', &canon::to_bytes(&Stored { digest: id }).unwrap()));
    let refusal = Refusal::new(422, "this statement would be void", "x", "y");
    put("messages", "refusal", after(b'r', &canon::to_bytes(&refusal).unwrap()));

    put("hub", "submit", after(b's', &statements()[3].to_bytes()));
    let three =
        record::Tree::from_leaf_hashes(leaves().iter().take(3).map(|leaf| record::tree::leaf_hash(leaf)));
    let checkpoint = record::Checkpoint::new("comity/stroke", 3, three.root()).unwrap();
    let line = record::Cosignature::sign(&checkpoint, "gb", 1_700_000_000, &key(11)).unwrap().to_line();
    put("hub", "cosign", after(b'c', &canon::to_bytes(&Cosign { size: 3, line }).unwrap()));
    put("hub", "mail", after(b'm', &frame()));
}

fn document_seeds() {
    let public = |seed: u8| key(seed).public();
    let mut charter = format!(
        "federation = \"stroke\"\ntitle = \"Three\"\nsunset = \"2031-12-31\"\nfloor = \"{}\"\npurposes = \
         [\"stroke-research\"]\naggregator_pool = [\"it\", \"no\"]\n\n[hub]\noperator = \"Example Trust\"\njurisdiction \
         = \"NL\"\nkey = \"{}\"\ntls = \"{}\"\n\n[data_access]\nquorum = 2\ndeadline_hours = 72\nvalid_days = \
         90\n\n[limits]\nlease_hours = 24\nwatermark_minutes = 10\nmin_hidden_sites = 3\n",
        Digest::of(policy::FLOOR.as_bytes()),
        public(1),
        public(2)
    );
    for (id, seed) in [("gb", 10), ("it", 20), ("no", 30)] {
        charter += &format!(
            "\n[[members]]\nid = \"{id}\"\nname = \"Unit {id}\"\njurisdiction = \"{}\"\ncontrol = \"unit-{id}\"\nsign = \
             \"{}\"\ncosign = \"{}\"\ntls = \"{}\"\n",
            id.to_uppercase(),
            public(seed),
            public(seed + 1),
            public(seed + 2)
        );
        for role in ["steward", "counsel", "scientist", "signatory"] {
            charter += &format!("[[members.seats]]\nid = \"{id}-{role}\"\nrole = \"{role}\"\n");
        }
    }
    put("charter", "three", &charter);
    put("charter", "hybrid", hybrid_text(&charter));
    put("dictionary", "ist", include_str!("../../../studies/ist/dictionary.toml"));
    put("mapping", "ist", include_str!("../../../studies/ist/mapping.toml"));
    put("study", "aspirin", ASPIRIN);
    put("study", "too-fine", TOO_FINE);
    put("schedule", "ch", SCHEDULE);
    let rows = engine::generate::ist(&["NORW"], 1991);
    put("csv", "norway", rows.split_inclusive('\n').take(6).collect::<String>());
}

/// The same with keys of both kinds, a witness and groups.
fn hybrid_text(charter: &str) -> String {
    let mut text = String::new();
    let mut seed = 0;
    for line in charter.lines() {
        text += &format!("{line}\n");
        if line.starts_with("cosign = ") {
            seed += 10;
            let next = Digest::of(key(seed + 3).public().as_bytes());
            text += &format!("cosign_ml = \"{}\"\nnext = \"{next}\"\n", handed::ml(seed + 4).public());
            text += "endpoint = \"node.example:7443\"\n";
        }
    }
    text + &format!(
        "\n[[witnesses]]\nname = \"witness.example/w1\"\noperator = \"Witness\"\nkey = \"{}\"\nurl = \
         \"https://witness.example\"\n\n[cosigning]\nscheme = \"hybrid\"\n[cosigning.groups]\nneed = 2\nof = \
         [\"gb\", \"it\", {{ need = 1, of = [\"no\", \"witness.example/w1\"] }}]\n",
        key(40).public()
    )
}

/// What a party reads of a message to it.
fn opened(kind: Kind, from: &str, to: &str, bytes: &[u8]) -> Vec<u8> {
    let [header, info, aad] = bound(&rounds_context(), kind, from, to);
    let (encapsulated, cipher) = bytes[header.len()..].split_at(1120);
    let secret = <XWing as hpke::Kem>::PrivateKey::from_bytes(&kem(to).expose()).unwrap();
    let encapsulated = <XWing as hpke::Kem>::EncappedKey::from_bytes(encapsulated).unwrap();
    hpke::single_shot_open::<hpke::aead::ChaCha20Poly1305, hpke::kdf::HkdfSha256, XWing>(
        &OpModeR::Base,
        &secret,
        &encapsulated,
        &info,
        cipher,
        &aad,
    )
    .unwrap()
}

fn round_seeds() {
    let ctx = rounds_context();
    let keys = |names: &[&str]| names.iter().map(|n| ((*n).to_owned(), kem(n).public())).collect::<Vec<_>>();
    let seed = |byte| RoundSeed::from_bytes(&[byte; 32]).unwrap();
    let mut ch = Aggregator::new(ctx.clone(), "ch", kem("ch"), &keys(&["se"]), &seed(7)).unwrap();
    let mut se = Aggregator::new(ctx.clone(), "se", kem("se"), &keys(&["ch"]), &seed(8)).unwrap();
    let mut mail: Vec<(&str, rounds::Message)> = Vec::new();
    mail.extend(ch.begin().unwrap().into_iter().map(|m| ("ch", m)));
    mail.extend(se.begin().unwrap().into_iter().map(|m| ("se", m)));
    for site in ["it", "nl", "pl"] {
        let rules = LocalRules { rows_read: 1, max_rows: 8192, ..LocalRules::default() };
        let vector = Contribution::check(&ctx.layout, &[17.0], ctx.plan, &rules).unwrap();
        let sealed = contribute(&ctx, site, vector, &keys(&["ch", "se"])).unwrap();
        if site == "it" {
            put("rounds", "share", after(1, &opened(Kind::Share, "it", "ch", sealed[0].bytes())));
        }
        mail.extend(ch.on_contribution(site, sealed[0].bytes()).unwrap().into_iter().map(|m| ("ch", m)));
        mail.extend(se.on_contribution(site, sealed[1].bytes()).unwrap().into_iter().map(|m| ("se", m)));
    }
    while let Some((from, message)) = mail.pop() {
        let kind = rounds::kind_of(&message.bytes).unwrap();
        if from == "se" {
            let name = kind.to_string().replace(' ', "-");
            put("rounds", &name, after(kind.code(), &opened(kind, "se", "ch", &message.bytes)));
        }
        let (machine, name) = if message.to == "ch" { (&mut ch, "ch") } else { (&mut se, "se") };
        mail.extend(machine.on_message(from, &message.bytes).unwrap().into_iter().map(|m| (name, m)));
    }
    se.ready_to_open().unwrap();
    let opening = se.open(&keys(&["no"])).unwrap().remove(0);
    put("rounds", "opening", after(5, &opened(Kind::Opening, "se", "no", &opening.bytes)));
}

fn tree_of(leaves: &[Vec<u8>]) -> record::Tree {
    record::Tree::from_leaf_hashes(leaves.iter().map(|leaf| record::tree::leaf_hash(leaf)))
}

/// A file of evidence of each kind.
fn evidence_seeds() {
    let sound = leaves();
    let tree = tree_of(&sound);
    let hub_note = |leaves: &[Vec<u8>]| {
        let checkpoint =
            record::Checkpoint::new("comity/stroke", leaves.len() as u64, tree_of(leaves).root()).unwrap();
        checkpoint.sign(&key(1))
    };
    let last = |time: i64| {
        let mut other = sound.clone();
        other[3] = Entry::new(time, statements()[3].clone()).to_bytes();
        other
    };
    let (other, back) = (last(targets::NOW + 60_000), last(targets::NOW));
    let note = note();
    let (shown, text) = (hub_note(&other), |leaf: &[u8]| String::from_utf8(leaf.to_vec()).unwrap());
    let promise = |index, what: &[u8]| {
        Receipt::sign(Digest::of(what), index, "comity/stroke", targets::NOW, &key(1)).unwrap()
    };
    let roster = record::Roster::of_charter(&targets::small_charter()).unwrap();
    let mut late = note.without_cosignatures();
    let seconds = (targets::NOW / 1000 + 600).unsigned_abs();
    late.add(record::Cosignature::sign(late.checkpoint(), "gb", seconds, &key(11)).unwrap(), &roster)
        .unwrap();
    let mut given: Vec<Digest> = sound.iter().map(|leaf| record::tree::leaf_hash(leaf)).collect();
    given[1] = Digest::of(b"something else");
    let answer = record::evidence::Attested {
        from: 0,
        leaves: given,
        member: "gb".into(),
        origin: "comity/stroke".into(),
        root: tree.root(),
        size: 4,
        signature: None,
    };
    let claims = [
        ("two-roots", Claim::TwoRoots { one: note.to_note(), other: shown.to_note() }),
        (
            "two-histories",
            Claim::TwoHistories {
                larger: note.to_note(),
                proof: tree.prove_consistency(3, 4).unwrap(),
                root: tree.root_at(3).unwrap(),
                smaller: hub_note(&other[1..]).to_note(),
            },
        ),
        (
            "backwards",
            Claim::Backwards {
                after: text(&back[3]),
                before: text(&back[2]),
                checkpoint: hub_note(&back).to_note(),
                index: 2,
                proof_after: tree_of(&back).prove_inclusion(3, 4).unwrap(),
                proof_before: tree_of(&back).prove_inclusion(2, 4).unwrap(),
            },
        ),
        (
            "broken-promise",
            Claim::BrokenPromise {
                checkpoint: note.to_note(),
                found: text(&sound[3]),
                proof: tree.prove_inclusion(3, 4).unwrap(),
                receipt: promise(3, b"promised"),
            },
        ),
        ("overdue", Claim::Overdue { checkpoint: late.to_note(), receipt: promise(4, b"promised") }),
        (
            "wrong-entry",
            Claim::WrongEntry {
                answer: answer.sign(&key(10)).unwrap(),
                index: 1,
                leaf: record::tree::leaf_hash(&sound[1]),
                proof: tree.prove_inclusion(1, 4).unwrap(),
            },
        ),
    ];
    for (name, claim) in claims {
        put("evidence", name, Evidence::new(targets::small_charter(), claim).write().unwrap());
    }
}

fn handed_seeds() {
    let golden = |name: &str| {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charter/tests/proofs");
        std::fs::read(dir.join(name)).unwrap()
    };
    let (proof, snapshot) = (golden("attested.proof"), golden("attested.snapshot"));
    let unpack = |magic, file: &[u8]| record::proof::unpack(magic, file, 1 << 20).unwrap();
    put("proof", "content", after(b'c', &unpack(charter::proof::STUDY, &proof)));
    put("proof", "file", after(b'f', &proof));
    put("snapshot", "content", after(b'c', &unpack(charter::snapshot::FILE, &snapshot)));
    put("snapshot", "file", after(b'f', &snapshot));
    let (state, _) = charter::snapshot::verify(&snapshot, None).unwrap();
    put("snapshot", "state", charter::snapshot::write(&state).unwrap());

    let (leaves, note) = (leaves(), note());
    let tree = tree_of(&leaves);
    let id = statements()[3].id();
    let receipt = record::CoseReceipt::issue("comity/stroke", &tree, 4, (3, id), &key(1)).unwrap();
    put("cose", "third", receipt);
    for old in [0, 2, 4] {
        let body = record::witness::add_checkpoint(old, &note, &tree).unwrap();
        put("witness", &format!("from-{old}"), body);
    }
    let lines: String = note.lines().map(record::Cosignature::to_line).collect();
    put("answer", "lines", after(b'a', lines.as_bytes()));
    let log_key = record::witness::log_verifier_key("comity/stroke", &key(1).public());
    put("answer", "key", after(b'k', log_key.as_bytes()));
    put("answer", "key-hex", after(b'k', key(1).public().to_string().as_bytes()));

    let sign_offs = handed::sign_offs();
    put("sign_off", "whole", after(b'b', &sign_offs[0].to_bytes()));
    put("sign_off", "said", after(b's', sign_offs[1].bytes()));
    let roster = record::Roster::of_charter(&targets::small_charter()).unwrap();
    let all: Vec<Vec<u8>> = sign_offs.iter().map(SignedStatement::to_bytes).collect();
    let opening = record::Opening::make(&all, &tree, &roster).unwrap();
    put("opening", "second-term", canon::to_bytes(&opening).unwrap());
    let next = node::term::Next {
        federation: "stroke".into(),
        hub: opening.hub.clone(),
        address: opening.address.clone(),
    };
    put("next_hub", "second", serde_json::to_string_pretty(&next).unwrap());
    member_seeds();

    let hash = |leaf: &Vec<u8>| record::tree::leaf_hash(leaf);
    let answer = record::evidence::Attested {
        from: 1,
        leaves: leaves[1..3].iter().map(hash).collect(),
        member: "gb".into(),
        origin: "comity/stroke".into(),
        root: tree.root(),
        size: 4,
        signature: None,
    };
    let answer = answer.sign(&key(10)).unwrap();
    put("peers", "entries", after(b'e', &peer::pack_entries(&answer, &leaves[1..3]).unwrap()));
    let listed = peer::Listed { held: vec![peer::Held { id, since: targets::NOW }] };
    let pending = peer::pack_pending(&listed, &[statements()[3].to_bytes()]).unwrap();
    put("peers", "pending", after(b'p', &pending));
    let checkpoints = peer::Checkpoints { cosigned: Some(note.to_note()), in_force: Some(note.to_note()) };
    put("peers", "checkpoints", after(b'c', &canon::to_bytes(&checkpoints).unwrap()));
    let proof = tree.prove_consistency(2, 4).unwrap();
    let consistency = peer::Consistency { from: 2, proof, root: tree.root_at(2).unwrap(), to: 4 };
    put("peers", "consistency", after(b'q', &canon::to_bytes(&consistency).unwrap()));
    put("peers", "kept", after(b'k', &canon::to_bytes(&peer::Kept { id, recorded: false }).unwrap()));
    let said = record::Disclosure::new("note/text", [5; 16], canon::Value::Str("a remark".into()));
    put(
        "peers",
        "disclosed",
        after(b'd', &canon::to_bytes(&peer::Disclosed { fields: vec![said] }).unwrap()),
    );
    let highest = peer::Highest {
        member: "gb".into(),
        nonce: Digest::of(b"asked now"),
        origin: "comity/stroke".into(),
        root: tree.root(),
        signature: None,
        size: 4,
        term: 1,
    };
    put("peers", "highest", after(b'h', &canon::to_bytes(&highest.sign(&key(10)).unwrap()).unwrap()));

    put("roster", "two", canon::to_bytes(&targets::small_charter()).unwrap());
    put("roster", "hybrid", canon::to_bytes(&handed::hybrid_charter()).unwrap());
}

/// A member's part of the charter for the node key of the target, and the document made of it.
fn member_seeds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.key");
    std::fs::write(&path, format!("comity-node-key/1 {}\n", "07".repeat(32))).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let keys = node::keys::NodeKeys::open(&path).unwrap();
    let (sign, cosign, tls) = keys.public().unwrap();
    let part = format!(
        "[[members]]\nid = \"fr\"\nname = \"Unit fr\"\njurisdiction = \"FR\"\ncontrol = \"unit-fr\"\nsign = \
         \"{sign}\"\ncosign = \"{cosign}\"\ncosign_ml = \"{}\"\ntls = \"{tls}\"\nnext = \"{}\"\nendpoint = \
         \"node.example:7443\"\n[[members.seats]]\nid = \"fr-steward\"\nrole = \"steward\"\n",
        keys.cosign_ml().public(),
        Digest::of(key(3).public().as_bytes())
    );
    put("member", "part", after(b't', part.as_bytes()));
    std::fs::write(dir.path().join("member.toml"), part).unwrap();
    let document = node::members::Document::of(dir.path(), &Digest::of(b"the charter")).unwrap();
    put("member", "document", after(b'd', &canon::to_bytes(&document).unwrap()));
}

/// Of each type the first statement that is valid in one of the frozen records.
fn fold_seeds() {
    let mut known = std::collections::BTreeSet::new();
    for (record, text) in handed::RECORDS.iter().enumerate() {
        for (at, (entry, valid)) in handed::frozen(text).into_iter().enumerate() {
            let kind = entry.signed.statement().r#type.clone();
            let Ok(at) = u8::try_from(at) else { break };
            if valid && known.insert(kind.clone()) {
                put("fold", &kind, [&[record as u8, at], entry.signed.bytes()].concat());
            }
        }
    }
}

fn main() {
    record_seeds();
    evidence_seeds();
    handed_seeds();
    fold_seeds();
    wire_seeds();
    document_seeds();
    round_seeds();
    let last = Entry::from_bytes(&leaves()[3]).unwrap();
    println!("seeds of {} targets written; the last entry is of {}", targets::ALL.len(), last.time);
}
