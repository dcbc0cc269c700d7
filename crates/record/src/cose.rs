//! COSE receipts (RFC 9942; architecture: RFC 9943): one statement's inclusion in the log, for readers that speak COSE
//! and not ours.
//!
//! A receipt is a COSE_Sign1 (RFC 9052) by the log's key over the root of the Merkle tree, with the inclusion proof of
//! one leaf in its unprotected header; the root itself is left out, so that a reader must compute it from the leaf.
//! The leaf is the entry, verbatim: stamp and signed statement.
//!
//! | header | label | value |
//! | --- | --- | --- |
//! | protected: algorithm | 1 | -8, EdDSA, with an Ed25519 key |
//! | protected: key id | 4 | the 32 bytes of the log's public key |
//! | protected: CWT claims (RFC 9597) | 15 | 1 (issuer): the log's origin; 2 (subject): the statement's id, hexadecimal |
//! | protected: verifiable data structure | 395 | 1, RFC9162_SHA256 |
//! | protected | `tree-size`, `leaf-index` | as in the proof |
//! | unprotected: proofs | 396 | -1: one inclusion proof, a byte string of CBOR `[tree-size, leaf-index, [hashes]]` |
//!
//! Size and index are protected as well, since a path alone does not fix them: the second leaf of two and the third of
//! three have paths of one form (RFC 9162, 2.1.3.2). In a tree of one leaf the path is empty, as RFC 9162 has it,
//! where the grammar of RFC 9942 expects at least one hash.
//!
//! **Threats.** Who shows a receipt may have made it: everything in it is checked against the leaf and a key from
//! elsewhere, never against the key that it names. The log's key can sign a second history, and a receipt has no
//! cosignatures; it is as good as the log's operator, where a [`Bundle`](crate::Bundle) is as good as a quorum. A
//! signature of a receipt is over a CBOR array that begins with `Signature1`, which no checkpoint (text) and no
//! statement (`DSSEv1`) can begin with, so none is ever taken for another.

use coset::cbor::value::Value;
use coset::{CoseSign1, CoseSign1Builder, HeaderBuilder, Label, TaggedCborSerializable, iana};

use crate::digest::{Digest, excerpt};
use crate::entry::Entry;
use crate::keys::{PublicKey, SecretKey, Signature};
use crate::tree::{Tree, TreeError, leaf_hash};

/// Longest receipt that is read, bytes.
pub const MAX_RECEIPT: usize = 8 * 1024;
/// Content type of a receipt (RFC 9052, 11.2).
pub const CONTENT_TYPE: &str = "application/cose";
/// Longest path in a tree of at most 2^63 leaves.
const MAX_PATH: usize = 63;
const CWT_CLAIMS: i64 = 15;
const STRUCTURE: i64 = 395;
const PROOFS: i64 = 396;
const RFC9162_SHA256: i64 = 1;
const INCLUSION: i64 = -1;
const TREE_SIZE: &str = "tree-size";
const LEAF_INDEX: &str = "leaf-index";

/// A receipt that cannot be made, cannot be read, or does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// The bytes are no receipt of this form.
    #[error("malformed receipt: found {found}, expected {expected}")]
    Malformed {
        /// What was found.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The leaf cannot be proved.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The leaf is no entry with the receipt's statement.
    #[error("the receipt is of statement `{expected}`, found {found}")]
    Statement {
        /// What the leaf is.
        found: String,
        /// The statement that the receipt names.
        expected: Digest,
    },
    /// Path, leaf and signature do not fit together under this key.
    #[error("the receipt does not hold for this entry under key `{key}`")]
    Invalid {
        /// The key that should have signed.
        key: PublicKey,
    },
}

fn malformed(found: impl Into<String>, expected: &'static str) -> ReceiptError {
    ReceiptError::Malformed { found: found.into(), expected }
}

/// A receipt that was read. Nothing in it is proved before [`verify`](Self::verify).
#[derive(Clone, Debug)]
pub struct CoseReceipt {
    sign1: CoseSign1,
    origin: String,
    statement: Digest,
    size: u64,
    index: u64,
    path: Vec<Digest>,
}

impl CoseReceipt {
    /// The receipt that entry `index`, which holds `statement`, is in the tree of the first `size` entries of the log
    /// `origin`. The tree must be one whose root this key signed or would sign.
    ///
    /// # Errors
    /// When the tree has no such entry.
    pub fn issue(
        origin: &str,
        tree: &Tree,
        size: u64,
        (index, statement): (u64, Digest),
        key: &SecretKey,
    ) -> Result<Vec<u8>, ReceiptError> {
        let (root, path) = (tree.root_at(size)?, tree.prove_inclusion(index, size)?);
        let hashes = path.iter().map(|hash| Value::Bytes(hash.as_bytes().to_vec())).collect();
        let proof = Value::Array(vec![size.into(), index.into(), Value::Array(hashes)]);
        let proofs = Value::Array(vec![Value::Bytes(encoded(&proof)?)]);
        let claims = Value::Map(vec![
            (1.into(), Value::Text(origin.to_owned())),
            (2.into(), Value::Text(statement.to_string())),
        ]);
        let protected = HeaderBuilder::new()
            .algorithm(iana::Algorithm::EdDSA)
            .key_id(key.public().as_bytes().to_vec())
            .value(CWT_CLAIMS, claims)
            .value(STRUCTURE, RFC9162_SHA256.into())
            .text_value(TREE_SIZE.to_owned(), size.into())
            .text_value(LEAF_INDEX.to_owned(), index.into())
            .build();
        let unprotected =
            HeaderBuilder::new().value(PROOFS, Value::Map(vec![(INCLUSION.into(), proofs)])).build();
        let sign1 = CoseSign1Builder::new()
            .protected(protected)
            .unprotected(unprotected)
            .create_detached_signature(root.as_bytes(), b"", |bytes| key.sign(bytes).as_bytes().to_vec())
            .build();
        sign1.to_tagged_vec().map_err(|e| malformed(e.to_string(), "a receipt that can be written"))
    }

    /// Reads a receipt.
    ///
    /// # Errors
    /// Unless the bytes are exactly what [`issue`](Self::issue) writes for what was read.
    pub fn read(bytes: &[u8]) -> Result<Self, ReceiptError> {
        if bytes.len() > MAX_RECEIPT {
            return Err(malformed(format!("{} bytes", bytes.len()), "at most 8192 bytes"));
        }
        let sign1 = CoseSign1::from_tagged_slice(bytes)
            .map_err(|e| malformed(excerpt(&e.to_string()), "a tagged COSE_Sign1"))?;
        if sign1.payload.is_some() {
            return Err(malformed("a payload", "none, since the root is to be computed"));
        }
        let head = &sign1.protected.header;
        let value = |label: Label| head.rest.iter().find(|(l, _)| *l == label).map(|(_, v)| v);
        let number =
            |label: Label| value(label).and_then(Value::as_integer).and_then(|n| u64::try_from(n).ok());
        if head.alg != Some(coset::RegisteredLabelWithPrivate::Assigned(iana::Algorithm::EdDSA)) {
            return Err(malformed("another algorithm", "-8 (EdDSA) under label 1"));
        }
        if value(Label::Int(STRUCTURE)) != Some(&Value::from(RFC9162_SHA256)) {
            return Err(malformed("another structure", "1 (RFC9162_SHA256) under label 395"));
        }
        let claims = value(Label::Int(CWT_CLAIMS)).and_then(Value::as_map);
        let claims = claims.map(Vec::as_slice);
        let Some([(_, Value::Text(origin)), (_, Value::Text(statement))]) = claims else {
            return Err(malformed("no such claims", "issuer and subject under label 15"));
        };
        let statement: Digest =
            statement.parse().map_err(|_| malformed(excerpt(statement), "a statement's id as subject"))?;
        let (size, index, path) = proof_in(&sign1)
            .ok_or_else(|| malformed("no such proof", "one inclusion proof under label 396, -1"))?;
        let protected =
            (number(Label::Text(TREE_SIZE.to_owned())), number(Label::Text(LEAF_INDEX.to_owned())));
        if protected != (Some(size), Some(index)) {
            return Err(malformed("another size or index", "those of the proof in the protected header"));
        }
        let read = Self { origin: origin.clone(), statement, size, index, path, sign1 };
        // INVARIANT: one receipt, one spelling. The protected header is signed as it came, so it is compared apart.
        let mut again = read.sign1.clone();
        again.protected.original_data = None;
        if again.to_tagged_vec().ok().as_deref() != Some(bytes) {
            return Err(malformed("another spelling", "the deterministic one"));
        }
        Ok(read)
    }

    /// The log that it says it is from.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The statement that it is of.
    pub fn statement(&self) -> Digest {
        self.statement
    }

    /// Index of the entry in the log.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Size of the tree that the proof leads to.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Checks that `leaf` is the entry with the receipt's statement, that the path leads from it to a root, and that
    /// `key`, known from elsewhere, signed that root. Gives the root.
    ///
    /// # Errors
    /// When one of these does not hold.
    pub fn verify(&self, leaf: &[u8], key: &PublicKey) -> Result<Digest, ReceiptError> {
        let expected = self.statement;
        let entry = Entry::from_bytes(leaf)
            .map_err(|e| ReceiptError::Statement { found: excerpt(&e.to_string()), expected })?;
        let found = entry.signed.id();
        if found != expected {
            return Err(ReceiptError::Statement { found: format!("`{found}`"), expected });
        }
        let invalid = || ReceiptError::Invalid { key: *key };
        if self.sign1.protected.header.key_id != key.as_bytes() {
            return Err(invalid());
        }
        let root = root_of(&leaf_hash(leaf), self.index, self.size, &self.path).ok_or_else(invalid)?;
        self.sign1.verify_detached_signature(root.as_bytes(), b"", |signature, bytes| {
            let signature = <[u8; 64]>::try_from(signature).map_err(|_| invalid())?;
            key.verify_strict(bytes, &Signature::from_bytes(signature)).map_err(|_| invalid())
        })?;
        Ok(root)
    }
}

/// The root that a path leads to from a leaf (RFC 9162, 2.1.3.2), if the path has the length for this index and size.
fn root_of(leaf: &Digest, index: u64, size: u64, path: &[Digest]) -> Option<Digest> {
    let hash = |d: &Digest| tlog_tiles::Hash(*d.as_bytes());
    if index >= size {
        return None;
    }
    let (mut node, mut last, mut root) = (index, size - 1, hash(leaf));
    for step in path {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            root = tlog_tiles::node_hash(hash(step), root);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            root = tlog_tiles::node_hash(root, hash(step));
        }
        node >>= 1;
        last >>= 1;
    }
    (last == 0).then(|| Digest::from_bytes(root.0))
}

fn proof_in(sign1: &CoseSign1) -> Option<(u64, u64, Vec<Digest>)> {
    let [(Label::Int(PROOFS), Value::Map(kinds))] = sign1.unprotected.rest.as_slice() else { return None };
    let [(kind, Value::Array(proofs))] = kinds.as_slice() else { return None };
    let [Value::Bytes(proof)] = proofs.as_slice() else { return None };
    if *kind != Value::from(INCLUSION) {
        return None;
    }
    let read: Value = coset::cbor::de::from_reader(proof.as_slice()).ok()?;
    if encoded(&read).ok()? != *proof {
        return None;
    }
    let [Value::Integer(size), Value::Integer(index), Value::Array(path)] = read.as_array()?.as_slice()
    else {
        return None;
    };
    if path.len() > MAX_PATH {
        return None;
    }
    let hashes =
        path.iter().map(|hash| Some(Digest::from_bytes(hash.as_bytes()?.as_slice().try_into().ok()?)));
    Some((u64::try_from(*size).ok()?, u64::try_from(*index).ok()?, hashes.collect::<Option<_>>()?))
}

fn encoded(value: &Value) -> Result<Vec<u8>, ReceiptError> {
    let mut bytes = Vec::new();
    coset::cbor::ser::into_writer(value, &mut bytes)
        .map_err(|e| malformed(e.to_string(), "a proof that can be written"))?;
    Ok(bytes)
}
