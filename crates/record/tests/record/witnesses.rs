//! An outside witness as a log meets it. The requests and the answers are also written and read here by hand from the
//! words of C2SP tlog-witness, tlog-checkpoint, signed-note and tlog-cosignature, with ed25519-dalek and ct-merkle.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use record::witness::{
    AddCheckpoint, MAX_PROOF_LINES, MAX_REQUEST, Seen, Witness, WitnessError, add_checkpoint, cosignature_in,
    log_key, log_verifier_key,
};
use record::{Checkpoint, PublicKey, SecretKey, Tree};
use sha2::{Digest as _, Sha256};

const ORIGIN: &str = "comity/stroke";

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn witness() -> Witness {
    Witness::new("regulator.example/w1", key(7)).unwrap()
}

fn tree(leaves: u64) -> Tree {
    let mut tree = Tree::new();
    (0..leaves).for_each(|n| {
        tree.append(format!("leaf {n}").as_bytes());
    });
    tree
}

fn request(old: u64, size: u64) -> Vec<u8> {
    let tree = tree(size);
    let signed = Checkpoint::new(ORIGIN, size, tree.root()).unwrap().sign(&key(1));
    add_checkpoint(old, &signed, &tree).unwrap().into_bytes()
}

fn seen(size: u64) -> Option<Seen> {
    (size > 0).then(|| Seen { size, root: tree(size).root() })
}

fn consider(body: &[u8], seen: Option<Seen>) -> Result<(Seen, String), WitnessError> {
    let advance =
        witness().consider(&AddCheckpoint::parse(body)?, Some(&key(1).public()), seen, 1_700_000_000)?;
    Ok((advance.next(), advance.kept()))
}

fn status(body: &[u8], seen: Option<Seen>) -> u16 {
    consider(body, seen).unwrap_err().status()
}

/// Key id of signed-note and tlog-cosignature, from their text.
fn id(name: &str, kind: u8, key: &[u8; 32]) -> [u8; 4] {
    let hash =
        Sha256::new().chain_update(name).chain_update("\n").chain_update([kind]).chain_update(key).finalize();
    hash[..4].try_into().unwrap()
}

#[test]
fn a_witness_cosigns_what_only_grew_and_the_line_verifies_by_the_words_of_the_specification() {
    for (old, size) in [(0, 1), (0, 9), (1, 9), (7, 9), (8, 9), (9, 9), (255, 700)] {
        let (next, line) = consider(&request(old, size), seen(old)).unwrap();
        assert_eq!(next, seen(size).unwrap());
        let line = line
            .strip_suffix('\n')
            .unwrap()
            .strip_prefix("\u{2014} regulator.example/w1 ")
            .unwrap()
            .to_owned();
        let bytes = BASE64_STANDARD.decode(line).unwrap();
        let public = SigningKey::from_bytes(&[7; 32]).verifying_key();
        assert_eq!(bytes[..4], id("regulator.example/w1", 0x04, &public.to_bytes()));
        assert_eq!(u64::from_be_bytes(bytes[4..12].try_into().unwrap()), 1_700_000_000);
        let root = BASE64_STANDARD.encode(tree(size).root().as_bytes());
        let message = format!("cosignature/v1\ntime 1700000000\n{ORIGIN}\n{size}\n{root}\n");
        let signature = ed25519_dalek::Signature::from_slice(&bytes[12..]).unwrap();
        public.verify_strict(message.as_bytes(), &signature).unwrap();
    }
}

#[test]
fn what_a_log_sends_is_a_request_by_the_words_of_the_specification() {
    let mut oracle = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    (0..300u64).for_each(|n| oracle.push(format!("leaf {n}").into_bytes()));
    for old in [0u64, 1, 2, 100, 256, 299, 300] {
        let body = String::from_utf8(request(old, 300)).unwrap();
        let (head, note) = body.split_once("\n\n").unwrap();
        let mut head = head.split('\n');
        assert_eq!(head.next().unwrap(), format!("old {old}"));
        let proof: Vec<[u8; 32]> =
            head.map(|line| BASE64_STANDARD.decode(line).unwrap().try_into().unwrap()).collect();
        assert!(proof.len() <= 63);
        if old == 0 || old == 300 {
            assert!(proof.is_empty());
        } else {
            let expected = oracle.prove_consistency((300 - old) as usize);
            assert_eq!(proof.concat(), expected.as_bytes());
        }
        let (text, lines) = note.split_once("\n\n").unwrap();
        let expected = format!("{ORIGIN}\n300\n{}", BASE64_STANDARD.encode(oracle.root().as_bytes()));
        assert_eq!(text, expected);
        let line = lines.strip_suffix('\n').unwrap();
        let signature =
            BASE64_STANDARD.decode(line.strip_prefix("\u{2014} comity/stroke ").unwrap()).unwrap();
        let public: VerifyingKey = SigningKey::from_bytes(&[1; 32]).verifying_key();
        assert_eq!(signature[..4], id(ORIGIN, 0x01, &public.to_bytes()));
        let signature = ed25519_dalek::Signature::from_slice(&signature[4..]).unwrap();
        public.verify_strict(format!("{text}\n").as_bytes(), &signature).unwrap();
    }
}

#[test]
fn a_witness_never_cosigns_a_smaller_tree_or_one_beside_what_it_cosigned() {
    // Smaller, and honest about it or not.
    assert_eq!(consider(&request(0, 5), seen(9)).unwrap_err(), WitnessError::Conflict { known: 9, asked: 0 });
    assert_eq!(consider(&request(4, 5), seen(9)).unwrap_err(), WitnessError::Conflict { known: 9, asked: 4 });
    // Another tree of the same size, and a larger one that begins otherwise.
    let other = Some(Seen { size: 9, root: tree(8).root() });
    assert_eq!(consider(&request(9, 9), other).unwrap_err(), WitnessError::TwoRoots { size: 9 });
    assert_eq!(status(&request(9, 12), other), 422);
    // A first time needs an empty proof.
    let padded = String::from_utf8(request(0, 5)).unwrap();
    let padded = padded.replacen("old 0\n", &format!("old 0\n{}\n", BASE64_STANDARD.encode([0; 32])), 1);
    assert_eq!(status(padded.as_bytes(), None), 422);
    // A signed empty tree has one root.
    let empty = Checkpoint::new(ORIGIN, 0, tree(3).root()).unwrap().sign(&key(1));
    let body = add_checkpoint(0, &empty, &tree(0)).unwrap();
    assert_eq!(status(body.as_bytes(), None), 409);
}

#[test]
fn each_fault_has_the_status_of_the_specification() {
    let good = request(3, 9);
    let text = String::from_utf8(good.clone()).unwrap();
    assert!(consider(&good, seen(3)).is_ok());
    let parsed = AddCheckpoint::parse(&good).unwrap();
    let unknown = witness().consider(&parsed, None, seen(3), 1).map(|_| ()).unwrap_err();
    assert_eq!(unknown.status(), 404);
    let stranger = key(2).public();
    let unsigned = witness().consider(&parsed, Some(&stranger), seen(3), 1).map(|_| ()).unwrap_err();
    assert_eq!(unsigned.status(), 403);
    assert_eq!(consider(&good, seen(4)).unwrap_err().known_size(), Some(4));
    assert_eq!(status(&good, None), 409);

    let hash = BASE64_STANDARD.encode([1; 32]);
    let malformed = [
        String::new(),
        "\n\n".to_owned(),
        text.replacen("old 3", "old 03", 1),
        text.replacen("old 3", "old +3", 1),
        text.replacen("old 3", "old 3 ", 1),
        text.replacen("old 3", "Old 3", 1),
        text.replacen("old 3", "old 99999999999999999999", 1),
        text.replacen("old 3", "old 10", 1),
        text.replacen("old 3\n", "old 3\nAAAA\n", 1),
        text.replacen("old 3\n", &format!("old 3\n{}\n", hash.trim_end_matches('=')), 1),
        text.replacen("old 3\n", &format!("old 3\n{}", format!("{hash}\n").repeat(MAX_PROOF_LINES + 1)), 1),
        text.strip_suffix('\n').unwrap().to_owned(),
        text.replacen("\n9\n", "\n09\n", 1),
        text.replacen("\n\n", "\n", 1),
        "x".repeat(MAX_REQUEST + 1),
    ];
    for body in malformed {
        let shown: String = body.chars().take(60).collect();
        assert_eq!(status(body.as_bytes(), seen(3)), 400, "{shown}");
    }
    assert_eq!(status(b"old 3\n\n\xff\n", seen(3)), 400);
    let wrong_proof = text.lines().nth(1).unwrap();
    assert_eq!(status(text.replacen(wrong_proof, &hash, 1).as_bytes(), seen(3)), 422);
    assert_eq!(status(text.replacen(&format!("{wrong_proof}\n"), "", 1).as_bytes(), seen(3)), 422);
}

#[test]
fn no_bytes_make_a_witness_panic_and_few_changes_of_a_request_pass() {
    let good = request(3, 9);
    let mut passed = 0;
    for at in 0..good.len() {
        for flip in [1u8, 0x20, 0x80] {
            let mut body = good.clone();
            body[at] ^= flip;
            if body != good && consider(&body, seen(3)).is_ok() {
                passed += 1;
            }
        }
    }
    assert_eq!(passed, 0, "every byte of a request is checked");
    for cut in 0..good.len() {
        assert!(consider(&good[..cut], seen(3)).is_err());
    }
}

#[test]
fn another_logs_note_with_extension_lines_and_foreign_signatures_is_cosigned_whole() {
    let tree = tree(4);
    let root = BASE64_STANDARD.encode(tree.root().as_bytes());
    let text = format!("example.org/log\n4\n{root}\nextension one\n");
    let signing = SigningKey::from_bytes(&[1; 32]);
    let line = |name: &str, id: [u8; 4], signature: &[u8]| {
        format!("\u{2014} {name} {}\n", BASE64_STANDARD.encode([&id, signature].concat()))
    };
    let own_id = id("example.org/log", 1, &signing.verifying_key().to_bytes());
    let own = line("example.org/log", own_id, &signing.sign(text.as_bytes()).to_bytes());
    let foreign = line("example.org/log", [9; 4], &[5; 2420]);
    let body = format!("old 0\n\n{text}\n{foreign}{own}");
    let (_, cosignature) = consider(body.as_bytes(), None).unwrap();
    let bytes = BASE64_STANDARD.decode(cosignature.trim_end().rsplit_once(' ').unwrap().1).unwrap();
    let message = format!("cosignature/v1\ntime 1700000000\n{text}");
    let signature = ed25519_dalek::Signature::from_slice(&bytes[12..]).unwrap();
    SigningKey::from_bytes(&[7; 32]).verifying_key().verify_strict(message.as_bytes(), &signature).unwrap();
    let forged = body.replace("extension one", "extension two");
    assert_eq!(status(forged.as_bytes(), None), 403);
}

#[test]
fn of_an_answer_only_the_line_of_the_named_witness_under_its_key_is_taken() {
    let tree = tree(9);
    let checkpoint = Checkpoint::new(ORIGIN, 9, tree.root()).unwrap().sign(&key(1));
    let (_, line) = consider(&request(0, 9), None).unwrap();
    let key_of = |seed| key(seed).public();
    let noise = "\u{2014} other.example AAAAAAAA\nnonsense\n";
    let answer = format!("{noise}{line}");
    let name = "regulator.example/w1";
    assert_eq!(cosignature_in(&answer, &checkpoint, name, &key_of(7)).unwrap().to_line(), line);
    assert!(cosignature_in(&answer, &checkpoint, name, &key_of(8)).is_err());
    assert!(cosignature_in(&answer, &checkpoint, "other.example", &key_of(7)).is_err());
    assert!(cosignature_in("", &checkpoint, name, &key_of(7)).is_err());
    let other = Checkpoint::new(ORIGIN, 8, tree.root_at(8).unwrap()).unwrap().sign(&key(1));
    assert!(cosignature_in(&answer, &other, name, &key_of(7)).is_err());
}

#[test]
fn a_logs_key_is_read_as_hexadecimal_or_as_a_verifier_key_of_that_very_origin() {
    let public: PublicKey = key(1).public();
    let text = log_verifier_key(ORIGIN, &public);
    assert!(text.starts_with("comity/stroke+"));
    assert_eq!(log_key(ORIGIN, &text).unwrap(), public);
    assert_eq!(log_key(ORIGIN, &public.to_string()).unwrap(), public);
    for wrong in
        ["", "a+b+c", &witness().verifier_key(), &text.replace("stroke", "other"), &text[..text.len() - 1]]
    {
        assert!(log_key(ORIGIN, wrong).is_err(), "{wrong}");
    }
    signed_note::StandardVerifier::new(&text).unwrap();
}
