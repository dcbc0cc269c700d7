//! Evidence convicts who signed it, to anyone, from the file alone; whatever else it says convicts nobody.

use std::collections::BTreeMap;

use crate::federation::{HUB, charter, digest_of, key, propose, sign, vote};
use record::canon::Value;
use record::evidence::{Attested, cleaned, contradiction};
use record::tree::leaf_hash;
use record::{
    Checkpoint, Claim, Cosignature, Digest, Entry, Evidence, EvidenceError, Guilt, Pin, Receipt, Roster,
    SecretKey, SignedCheckpoint, SignedStatement, Tree,
};

const MEMBERS: [&str; 4] = ["gb", "it", "no", "pl"];

fn roster() -> Roster {
    Roster::of_charter(&Value::Map(charter(&MEMBERS))).unwrap()
}

fn pin() -> Digest {
    digest_of(&charter(&MEMBERS))
}

fn leaves(stamps: &[i64], mark: &str) -> Vec<Vec<u8>> {
    let said = |n: usize| -> SignedStatement {
        match n {
            0 => propose("gb", &charter(&MEMBERS)),
            n if n <= MEMBERS.len() => sign(MEMBERS[n - 1], pin()),
            n => vote("it", &format!("{mark}-{n}")),
        }
    };
    stamps.iter().enumerate().map(|(n, time)| Entry::new(*time, said(n)).to_bytes()).collect()
}

fn tree(leaves: &[Vec<u8>]) -> Tree {
    Tree::from_leaf_hashes(leaves.iter().map(|l| leaf_hash(l)))
}

fn note(size: u64, root: Digest, by: &SecretKey) -> SignedCheckpoint {
    Checkpoint::new("comity/stroke", size, root).unwrap().sign(by)
}

fn hub_note(size: u64, root: Digest) -> SignedCheckpoint {
    note(size, root, &key(HUB, "key"))
}

fn cosigned(mut note: SignedCheckpoint, by: &[(&str, u64)]) -> SignedCheckpoint {
    for (who, seconds) in by {
        let line = Cosignature::sign(note.checkpoint(), who, *seconds, &key(who, "cosign")).unwrap();
        note.add(line, &roster()).unwrap();
    }
    note
}

fn file(claim: Claim) -> Evidence {
    Evidence::new(Value::Map(charter(&MEMBERS)), claim)
}

/// Convicts as it stands when pinned, is unpinned without, and with any one byte changed convicts nobody.
fn convicts(claim: Claim, who: &str, whose: &SecretKey) -> Guilt {
    let bytes = file(claim).write().unwrap();
    let read = Evidence::read(&bytes).unwrap();
    let guilt = read.verify(Some(pin())).unwrap();
    assert_eq!((guilt.pin, guilt.charter), (Pin::Pinned, pin()));
    assert_eq!((guilt.who.as_str(), guilt.key), (who, whose.public()));
    assert_eq!(read.verify(None).unwrap().pin, Pin::Unpinned);
    assert!(matches!(read.verify(Some(Digest::of(b"x"))), Err(EvidenceError::OtherCharter { .. })));
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 7);
        let verdict = Evidence::read(&changed).and_then(|e| e.verify(Some(pin())));
        assert!(verdict.is_err(), "byte {at} of {}", String::from_utf8_lossy(&bytes));
    }
    for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        assert!(Evidence::read(&bytes[..cut]).is_err());
    }
    assert!(Evidence::read(&[bytes.as_slice(), b" "].concat()).is_err());
    guilt
}

fn proves_nothing(claim: Claim) {
    let verdict = file(claim).verify(Some(pin()));
    assert!(verdict.is_err(), "{verdict:?}");
}

/// Two logs that part after the fifth entry.
fn forked() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let stamps: Vec<i64> = (0..9).map(|n| 1000 + n).collect();
    (leaves(&stamps, "one"), leaves(&stamps, "other"))
}

#[test]
fn two_roots_for_one_size_convict_the_hub_and_who_cosigned_both() {
    let (one, other) = forked();
    let one = cosigned(hub_note(9, tree(&one).root()), &[("gb", 5), ("it", 5)]);
    let other = cosigned(hub_note(9, tree(&other).root()), &[("it", 6), ("no", 6)]);
    let claim = Claim::TwoRoots { one: one.to_note(), other: other.to_note() };
    let guilt = convicts(claim, "hub", &key(HUB, "key"));
    assert_eq!(guilt.accomplices.into_iter().collect::<Vec<_>>(), ["it"]);
}

#[test]
fn a_checkpoint_that_a_larger_one_does_not_begin_with_convicts_the_hub() {
    let (one, other) = forked();
    let (short, long) = (tree(&one[..7]), tree(&other));
    let claim = contradiction(&hub_note(7, short.root()), &hub_note(9, long.root()), &long).unwrap().unwrap();
    assert!(matches!(claim, Claim::TwoHistories { .. }));
    convicts(claim, "hub", &key(HUB, "key"));
    // At every pair of sizes beyond the fork, and at none before it.
    for a in 1..9usize {
        let found =
            contradiction(&hub_note(a as u64, tree(&one[..a]).root()), &hub_note(9, long.root()), &long);
        let claim = found.unwrap();
        assert_eq!(claim.is_some(), a > 5, "{a}");
        if let Some(claim) = claim {
            file(claim).verify(Some(pin())).unwrap();
        }
    }
}

#[test]
fn an_honest_hub_is_convicted_by_nothing_that_others_say() {
    let (one, other) = forked();
    let (honest, lied) = (tree(&one), tree(&other));
    let (small, large) = (hub_note(7, tree(&one[..7]).root()), hub_note(9, honest.root()));
    assert_eq!(contradiction(&small, &large, &honest).unwrap(), None);
    // The proof is right, and the smaller checkpoint is of the same history.
    let right = honest.prove_consistency(7, 9).unwrap();
    let claim =
        |root, proof| Claim::TwoHistories { smaller: small.to_note(), larger: large.to_note(), root, proof };
    proves_nothing(claim(honest.root_at(7).unwrap(), right.clone()));
    // A liar's own tree, or a root of its own making, leads to no root that the hub signed.
    proves_nothing(claim(lied.root_at(7).unwrap(), lied.prove_consistency(7, 9).unwrap()));
    proves_nothing(claim(Digest::of(b"made up"), right));
    proves_nothing(claim(Digest::of(b"made up"), Vec::new()));
    proves_nothing(Claim::TwoRoots { one: large.to_note(), other: large.to_note() });
    // Signed by somebody else, or for another log.
    let forged = note(9, lied.root(), &key("gb", "sign"));
    proves_nothing(Claim::TwoRoots { one: large.to_note(), other: forged.to_note() });
    let elsewhere = Checkpoint::new("comity/other", 9, lied.root()).unwrap().sign(&key(HUB, "key"));
    proves_nothing(Claim::TwoRoots { one: large.to_note(), other: elsewhere.to_note() });
}

#[test]
fn a_cosignature_that_does_not_hold_is_kept_out_of_a_file_and_refused_in_one() {
    let (one, other) = forked();
    let bad = Cosignature::sign(hub_note(9, tree(&one).root()).checkpoint(), "gb", 5, &key("no", "cosign"));
    let text = format!("{}{}", hub_note(9, tree(&one).root()).to_note(), bad.unwrap().to_line());
    let with = SignedCheckpoint::parse(&text).unwrap();
    let other = hub_note(9, tree(&other).root());
    proves_nothing(Claim::TwoRoots { one: with.to_note(), other: other.to_note() });
    let clean = cleaned(&with, &roster());
    assert!(clean.faults(&roster()).is_empty());
    file(Claim::TwoRoots { one: clean.to_note(), other: other.to_note() }).verify(Some(pin())).unwrap();
}

fn backwards(stamps: &[i64], index: u64) -> Claim {
    let leaves = leaves(stamps, "x");
    let tree = tree(&leaves);
    let (size, at) = (tree.size(), index as usize);
    let text = |n: usize| String::from_utf8(leaves[n].clone()).unwrap();
    Claim::Backwards {
        checkpoint: hub_note(size, tree.root()).to_note(),
        index,
        before: text(at),
        after: text(at + 1),
        proof_before: tree.prove_inclusion(index, size).unwrap(),
        proof_after: tree.prove_inclusion(index + 1, size).unwrap(),
    }
}

#[test]
fn stamps_that_run_backwards_convict_the_hub() {
    convicts(backwards(&[1000, 1001, 1002, 1003, 1004, 1005, 1004], 5), "hub", &key(HUB, "key"));
    proves_nothing(backwards(&[1000, 1001, 1002, 1003, 1004, 1005, 1004], 4));
    proves_nothing(backwards(&[1000, 1001, 1002, 1003, 1004, 1005, 1005], 5));
}

fn receipt(leaves: &[Vec<u8>], index: u64) -> Receipt {
    let entry = Entry::from_bytes(&leaves[index as usize]).unwrap();
    Receipt::sign(entry.signed.id(), index, "comity/stroke", entry.time, &key(HUB, "key")).unwrap()
}

fn broken(leaves: &[Vec<u8>], receipt: Receipt) -> Claim {
    let tree = tree(leaves);
    Claim::BrokenPromise {
        checkpoint: hub_note(tree.size(), tree.root()).to_note(),
        found: String::from_utf8(leaves[receipt.index as usize].clone()).unwrap(),
        proof: tree.prove_inclusion(receipt.index, tree.size()).unwrap(),
        receipt,
    }
}

#[test]
fn a_promised_index_that_holds_another_entry_convicts_the_hub() {
    let (one, other) = forked();
    convicts(broken(&other, receipt(&one, 6)), "hub", &key(HUB, "key"));
    proves_nothing(broken(&one, receipt(&one, 6)));
    // A promise that the hub did not make.
    let said = Entry::from_bytes(&one[6]).unwrap();
    let forged = Receipt::sign(said.signed.id(), 6, "comity/stroke", said.time, &key("gb", "sign")).unwrap();
    proves_nothing(broken(&other, forged));
}

#[test]
fn a_promise_that_is_overdue_by_the_clocks_of_more_than_f_members_convicts_the_hub() {
    let (one, _) = forked();
    let receipt = receipt(&one, 7);
    let late = (receipt.promised_by / 1000) as u64 + 61;
    let claim = |by: &[(&str, u64)], size: usize| Claim::Overdue {
        checkpoint: cosigned(hub_note(size as u64, tree(&one[..size]).root()), by).to_note(),
        receipt: receipt.clone(),
    };
    convicts(claim(&[("gb", late), ("it", late)], 7), "hub", &key(HUB, "key"));
    // Of four members one may lie; within the minute for clocks nobody is late; and then it is there.
    proves_nothing(claim(&[("gb", late)], 7));
    proves_nothing(claim(&[("gb", late), ("it", late - 1)], 7));
    proves_nothing(claim(&[("gb", late), ("it", late)], 8));
}

/// A witness cosigns the last checkpoint that it knows again for whoever shows it, and the hub may not have reached it.
#[test]
fn a_witness_that_is_shown_an_old_checkpoint_again_makes_no_promise_overdue() {
    let mut charter = charter(&["gb", "it"]);
    let witness = crate::federation::text(&[
        ("name", "witness.example/w".to_owned()),
        ("operator", "university".to_owned()),
        ("key", key("witness", "cosign").public().to_string()),
        ("url", "https://witness.example".to_owned()),
    ]);
    charter.insert("witnesses".to_owned(), Value::List(vec![witness]));
    let charter = Value::Map(charter);
    let roster = Roster::of_charter(&charter).unwrap();
    assert_eq!(roster.f, 0, "so the word of one is enough");
    let (one, _) = forked();
    let receipt = receipt(&one, 7);
    let late = (receipt.promised_by / 1000) as u64 + 61;
    let convicts = |who: &str, by: &str| {
        let mut note = hub_note(7, tree(&one[..7]).root());
        let line = Cosignature::sign(note.checkpoint(), who, late, &key(by, "cosign")).unwrap();
        note.add(line, &roster).unwrap();
        let claim = Claim::Overdue { checkpoint: note.to_note(), receipt: receipt.clone() };
        Evidence::new(charter.clone(), claim).verify(None).is_ok()
    };
    assert!(convicts("gb", "gb"));
    assert!(!convicts("witness.example/w", "witness"));
}

#[test]
fn a_member_that_signs_a_wrong_entry_is_convicted_and_nobody_else_is() {
    let (one, other) = forked();
    let (tree, wrong) = (tree(&one), leaf_hash(&other[6]));
    let answer = |leaf: Digest, by: &str, signer: &str| {
        let answer = Attested {
            from: 5,
            leaves: vec![leaf_hash(&one[5]), leaf],
            member: by.to_owned(),
            origin: "comity/stroke".to_owned(),
            root: tree.root(),
            size: 9,
            signature: None,
        };
        answer.sign(&key(signer, "sign")).unwrap()
    };
    let claim = |answer: Attested, index: u64| Claim::WrongEntry {
        answer,
        index,
        leaf: leaf_hash(&one[index as usize]),
        proof: tree.prove_inclusion(index, 9).unwrap(),
    };
    convicts(claim(answer(wrong, "it", "it"), 6), "it", &key("it", "sign"));
    proves_nothing(claim(answer(leaf_hash(&one[6]), "it", "it"), 6));
    proves_nothing(claim(answer(wrong, "it", "it"), 5));
    proves_nothing(claim(answer(wrong, "it", "it"), 8));
    proves_nothing(claim(answer(wrong, "it", "no"), 6));
    proves_nothing(claim(answer(wrong, "xx", "no"), 6));
    let unsigned = Attested { signature: None, ..answer(wrong, "it", "it") };
    proves_nothing(claim(unsigned, 6));
}

#[test]
fn a_file_of_another_form_is_no_evidence() {
    let (one, other) = forked();
    let claim = Claim::TwoRoots {
        one: hub_note(9, tree(&one).root()).to_note(),
        other: hub_note(9, tree(&other).root()).to_note(),
    };
    let mut later = file(claim.clone());
    later.format = "comity-evidence/2".to_owned();
    assert!(matches!(
        Evidence::read(&record::canon::to_bytes(&later).unwrap()),
        Err(EvidenceError::Format(_))
    ));
    let Value::Map(mut map) = record::canon::to_value(&file(claim)).unwrap() else { unreachable!() };
    map.insert("more".to_owned(), Value::Bool(true));
    assert!(Evidence::read(&Value::Map(map.clone()).to_bytes().unwrap()).is_err());
    map.remove("more");
    let Some(Value::Map(claim)) = map.get_mut("claim") else { unreachable!() };
    claim.insert("more".to_owned(), Value::Bool(true));
    assert!(Evidence::read(&Value::Map(map).to_bytes().unwrap()).is_err());
    let empty = Evidence::new(Value::Map(BTreeMap::new()), file_claim());
    assert!(matches!(empty.verify(None), Err(EvidenceError::Charter(_))));
    assert!(Evidence::read(&vec![b' '; record::evidence::MAX_EVIDENCE_BYTES + 1]).is_err());
}

fn file_claim() -> Claim {
    Claim::TwoRoots { one: String::new(), other: String::new() }
}
