//! COSE receipts, checked a second time by hand from RFC 9942, RFC 9052 and RFC 9162, with ciborium, ed25519-dalek and
//! ct-merkle.

use std::collections::BTreeMap;

use ciborium::value::Value;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{InclusionProof, RootHash};
use ed25519_dalek::SigningKey;
use record::{CoseReceipt, Digest, Entry, ReceiptError, SecretKey, SignedStatement, Statement, Tree};
use sha2::Sha256;

const ORIGIN: &str = "comity/stroke";

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn leaf(n: u64) -> (Vec<u8>, Digest) {
    let body = BTreeMap::from([("text", format!("note {n}"))]);
    let statement = Statement::new("note.add@1", "x", "gb", "node", &body).unwrap();
    let signed = SignedStatement::sign(statement, &key(9)).unwrap();
    let id = signed.id();
    (Entry::new(1000 + i64::try_from(n).unwrap(), signed).to_bytes(), id)
}

struct Log {
    leaves: Vec<(Vec<u8>, Digest)>,
    tree: Tree,
    oracle: MemoryBackedTree<Sha256, Vec<u8>>,
}

fn log(size: u64) -> Log {
    let leaves: Vec<_> = (0..size).map(leaf).collect();
    let mut tree = Tree::new();
    let mut oracle = MemoryBackedTree::new();
    for (bytes, _) in &leaves {
        tree.append(bytes);
        oracle.push(bytes.clone());
    }
    Log { leaves, tree, oracle }
}

impl Log {
    fn receipt(&self, index: u64) -> Vec<u8> {
        let statement = self.leaves[usize::try_from(index).unwrap()].1;
        CoseReceipt::issue(ORIGIN, &self.tree, self.tree.size(), (index, statement), &key(1)).unwrap()
    }
}

fn find<'a>(map: &'a Value, label: &Value) -> &'a Value {
    &map.as_map().unwrap().iter().find(|(l, _)| l == label).unwrap().1
}

fn number(value: &Value) -> u64 {
    value.as_integer().unwrap().try_into().unwrap()
}

/// Everything that RFC 9942 says of a receipt of inclusion, without our code.
fn verify_by_hand(receipt: &[u8], leaf: &Vec<u8>, root: &RootHash<Sha256>) {
    let read: Value = ciborium::from_reader(receipt).unwrap();
    let Value::Tag(18, sign1) = read else { panic!("a receipt is tagged as COSE_Sign1") };
    let [protected, unprotected, payload, signature] = sign1.as_array().unwrap().as_slice() else {
        panic!("four parts")
    };
    assert_eq!(*payload, Value::Null, "the payload is detached");
    let protected = protected.as_bytes().unwrap();
    let head: Value = ciborium::from_reader(protected.as_slice()).unwrap();
    assert_eq!(*find(&head, &1.into()), Value::from(-8));
    assert_eq!(*find(&head, &395.into()), Value::from(1));
    assert_eq!(*find(find(&head, &15.into()), &1.into()), Value::from(ORIGIN));
    let proofs = find(find(unprotected, &396.into()), &(-1).into()).as_array().unwrap();
    let [proof] = proofs.as_slice() else { panic!("one proof") };
    let proof: Value = ciborium::from_reader(proof.as_bytes().unwrap().as_slice()).unwrap();
    let [size, index, path] = proof.as_array().unwrap().as_slice() else { panic!("size, index, path") };
    let path: Vec<u8> = path.as_array().unwrap().iter().flat_map(|h| h.as_bytes().unwrap().clone()).collect();
    assert_eq!(number(size), root.num_leaves());
    root.verify_inclusion(leaf, number(index), &InclusionProof::from_bytes(path)).unwrap();

    // Sig_structure of RFC 9052, 4.4.
    let to_sign = Value::Array(vec![
        Value::from("Signature1"),
        Value::Bytes(protected.clone()),
        Value::Bytes(vec![]),
        Value::Bytes(root.as_bytes().to_vec()),
    ]);
    let mut bytes = Vec::new();
    ciborium::into_writer(&to_sign, &mut bytes).unwrap();
    let signature = ed25519_dalek::Signature::from_slice(signature.as_bytes().unwrap()).unwrap();
    SigningKey::from_bytes(&[1; 32]).verifying_key().verify_strict(&bytes, &signature).unwrap();
}

#[test]
fn a_receipt_holds_by_the_words_of_the_rfc_and_by_our_own_check() {
    for size in [1, 2, 3, 7, 8, 9, 64, 65] {
        let log = log(size);
        for index in 0..size {
            let (bytes, id) = &log.leaves[usize::try_from(index).unwrap()];
            let receipt = log.receipt(index);
            verify_by_hand(&receipt, bytes, &log.oracle.root());
            let read = CoseReceipt::read(&receipt).unwrap();
            assert_eq!((read.origin(), read.index(), read.size()), (ORIGIN, index, size));
            assert_eq!(read.statement(), *id);
            assert_eq!(read.verify(bytes, &key(1).public()).unwrap(), log.tree.root());
        }
    }
}

#[test]
fn a_receipt_says_nothing_of_another_entry_and_nothing_under_another_key() {
    let log = log(9);
    let read = CoseReceipt::read(&log.receipt(4)).unwrap();
    let own = &log.leaves[4].0;
    assert!(matches!(read.verify(&log.leaves[5].0, &key(1).public()), Err(ReceiptError::Statement { .. })));
    assert!(matches!(read.verify(b"no entry", &key(1).public()), Err(ReceiptError::Statement { .. })));
    assert_eq!(
        read.verify(own, &key(2).public()).unwrap_err(),
        ReceiptError::Invalid { key: key(2).public() }
    );
    // The same statement with another stamp is another entry.
    let signed = Entry::from_bytes(own).unwrap().signed;
    let restamped = Entry::new(5, signed).to_bytes();
    assert!(matches!(read.verify(&restamped, &key(1).public()), Err(ReceiptError::Invalid { .. })));
}

#[test]
fn no_byte_of_a_receipt_can_be_changed() {
    let log = log(9);
    let receipt = log.receipt(4);
    let leaf = &log.leaves[4].0;
    for at in 0..receipt.len() {
        for flip in [1u8, 0x10, 0x80] {
            let mut bytes = receipt.clone();
            bytes[at] ^= flip;
            let holds = CoseReceipt::read(&bytes).and_then(|read| read.verify(leaf, &key(1).public()));
            assert!(holds.is_err(), "byte {at}");
        }
    }
    for cut in 0..receipt.len() {
        assert!(CoseReceipt::read(&receipt[..cut]).is_err());
    }
    let longer = [receipt.as_slice(), &[0]].concat();
    assert!(CoseReceipt::read(&longer).is_err());
    assert!(CoseReceipt::read(&vec![0x9f; 9000]).is_err());
    assert!(CoseReceipt::read(&vec![0x81; 8000]).is_err(), "nested without end");
}

#[test]
fn size_and_index_are_bound_although_a_path_fits_others() {
    // The last of three and the second of two have paths of the same form.
    let log = log(3);
    let statement = log.leaves[2].1;
    let two = Tree::from_leaf_hashes([
        Digest::from_bytes(*log.tree.root_at(2).unwrap().as_bytes()),
        record::tree::leaf_hash(&log.leaves[2].0),
    ]);
    assert_eq!(two.root(), log.tree.root());
    let honest = CoseReceipt::issue(ORIGIN, &log.tree, 3, (2, statement), &key(1)).unwrap();
    let mut read: Value = ciborium::from_reader(honest.as_slice()).unwrap();
    let Value::Tag(_, sign1) = &mut read else { panic!() };
    let parts = sign1.as_array_mut().unwrap();
    let path = vec![Value::Bytes(log.tree.root_at(2).unwrap().as_bytes().to_vec())];
    let mut proof = Vec::new();
    let other = Value::Array(vec![2.into(), 1.into(), Value::Array(path)]);
    ciborium::into_writer(&other, &mut proof).unwrap();
    let proofs = Value::Array(vec![Value::Bytes(proof)]);
    parts[1] = Value::Map(vec![(396.into(), Value::Map(vec![((-1).into(), proofs)]))]);
    let mut bytes = Vec::new();
    ciborium::into_writer(&read, &mut bytes).unwrap();
    assert!(CoseReceipt::read(&bytes).is_err());
}

#[test]
fn there_is_no_receipt_of_what_is_beyond_the_tree() {
    let log = log(3);
    let statement = log.leaves[0].1;
    for (size, index) in [(3, 3), (4, 0), (0, 0), (2, 2)] {
        assert!(CoseReceipt::issue(ORIGIN, &log.tree, size, (index, statement), &key(1)).is_err());
    }
}
