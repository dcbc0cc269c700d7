//! Writes `fuzz/seeds`: small real objects, one folder for each target.
//!
//! `cargo run --release -p comity-world --example seeds`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::path::Path;

use hpke::kem::XWing;
use hpke::{Deserializable, OpModeR};
use privacy::{Contribution, LocalRules};
use record::canon;
use record::{Digest, Entry, SignedStatement};
use rounds::{Aggregator, Kind, RoundSeed, contribute};
use targets::{bound, kem, key, leaves, note, rounds_context, small_bundle, statements};
use wire::api::{self, Cosign, Mail, Posted, Receipt, Refusal, Stored, Sync};
use wire::{Frame, Place};

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
    for path in ["tile/0/000", "tile/2/x001/x234/067.p/5", "tile/entries/x012/345", "tile/0/000.p/4"] {
        put("tile_path", &path.replace('/', "_"), path);
    }
    let tree = record::Tree::from_leaf_hashes(leaves().iter().map(|leaf| record::tree::leaf_hash(leaf)));
    put("tile", "hashes", after(0, &tree.tile(&"tile/0/000.p/4".parse().unwrap()).unwrap()));
    let entries = leaves();
    put("tile", "entries", after(1, &record::tree::entry_bundle(entries.iter().map(Vec::as_slice)).unwrap()));
    put("bundle", "small", small_bundle().write().unwrap());
    let lie =
        record::Checkpoint::new("comity/stroke", targets::note().checkpoint().size(), Digest::of(b"lie"));
    let claim = record::Claim::TwoRoots { one: note.clone(), other: lie.unwrap().sign(&key(1)).to_note() };
    let evidence = record::Evidence::new(targets::small_charter(), claim);
    evidence.verify(None).unwrap();
    put("evidence", "two-roots", evidence.write().unwrap());
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
    put("charter", "three", charter);
    put("dictionary", "ist", include_str!("../../../studies/ist/dictionary.toml"));
    put("mapping", "ist", include_str!("../../../studies/ist/mapping.toml"));
    put("study", "aspirin", ASPIRIN);
    put("study", "too-fine", TOO_FINE);
    put("schedule", "ch", SCHEDULE);
    let rows = engine::generate::ist(&["NORW"], 1991);
    put("csv", "norway", rows.split_inclusive('\n').take(6).collect::<String>());
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

fn main() {
    record_seeds();
    wire_seeds();
    document_seeds();
    round_seeds();
    let last = Entry::from_bytes(&leaves()[3]).unwrap();
    println!("seeds of {} targets written; the last entry is of {}", targets::ALL.len(), last.time);
}
