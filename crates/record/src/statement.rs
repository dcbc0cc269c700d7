//! Statements: who says what about what, signed over the very bytes that are kept.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::canon::{self, CanonError, Value};
use crate::digest::{Digest, excerpt};
use crate::keys::{KeyError, PublicKey, SecretKey, Signature, pae};
use crate::names::{is_line, is_party_id, is_statement_type};

/// The DSSE payload type that a statement is signed under.
pub const PAYLOAD_TYPE: &str = "application/vnd.comity.statement+json";
/// First line of a signed statement.
const HEADER: &str = "comity-statement/1\n";
/// Most signatures under one statement.
pub const MAX_SIGNATURES: usize = 16;
/// Longest signed statement with its framing, bytes: an entry of the log is at most 65,535 (tlog-tiles) and adds its
/// own two lines.
pub const MAX_SIGNED_BYTES: usize = 65_400;

/// A statement or signed statement that cannot be read or made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// The body or the whole is not restricted JSON in canonical form.
    #[error("statement is not canonical: {0}")]
    Canon(#[from] CanonError),
    /// A field holds what it may not.
    #[error("field `{field}` of the statement holds `{found}`, expected {expected}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What it holds.
        found: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// The framing around the JSON is broken.
    #[error("malformed signed statement: found `{found}`, expected {expected}")]
    Framing {
        /// What was found.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A signature line names an algorithm that this version does not know.
    #[error("signature algorithm `{0}` is unknown to this version: update the software")]
    Algorithm(String),
    /// Too long for the log.
    #[error(
        "signed statement of {found} bytes, expected at most {MAX_SIGNED_BYTES}: put long content in a blob and name its digest"
    )]
    TooLong {
        /// Length found, bytes.
        found: usize,
    },
    /// A key or signature is malformed, or a signature does not verify.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// One assertion of one party. Everything that the record knows is made of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// What kind of statement, with its major version, as `dataset.register@1`.
    pub r#type: String,
    /// What it is about: the id of a study, dataset, charter, decision.
    pub subject: String,
    /// The party that says it.
    pub issuer: String,
    /// The seat that said it for the party, or `node` when its software did.
    pub actor: String,
    /// On what basis: a legal basis or the charter's clause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<String>,
    /// From when it holds, milliseconds since the epoch; absent: from its entry on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<i64>,
    /// Until when it holds, milliseconds since the epoch; absent: until superseded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<i64>,
    /// The id of the statement that this one replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersedes: Option<Digest>,
    /// The audience that may read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// What it says, in the form that its type fixes.
    pub body: Value,
}

impl Statement {
    /// A statement with the required fields; the optional ones are set on the result.
    ///
    /// # Errors
    /// When the body has no canonical form.
    pub fn new<T: Serialize + ?Sized>(
        r#type: &str,
        subject: &str,
        issuer: &str,
        actor: &str,
        body: &T,
    ) -> Result<Self, StatementError> {
        Ok(Statement {
            r#type: r#type.to_owned(),
            subject: subject.to_owned(),
            issuer: issuer.to_owned(),
            actor: actor.to_owned(),
            basis: None,
            valid_from: None,
            valid_until: None,
            supersedes: None,
            tier: None,
            body: canon::to_value(body)?,
        })
    }

    /// The body as the shape that its type fixes.
    ///
    /// # Errors
    /// When it has another shape.
    pub fn body_as<T: DeserializeOwned>(&self) -> Result<T, CanonError> {
        canon::from_value(self.body.clone())
    }

    /// The statement of a map that has its fields and no other, absent ones left out; nothing for anything else, for
    /// which the bridge to `serde` then has the word.
    fn plain(value: Value) -> Option<Self> {
        let Value::Map(map) = value else { return None };
        let (mut r#type, mut subject, mut issuer, mut actor, mut body) = (None, None, None, None, None);
        let (mut basis, mut tier, mut supersedes) = (None, None, None);
        let (mut valid_from, mut valid_until) = (None, None);
        for (key, value) in map {
            match (key.as_str(), value) {
                ("type", Value::Str(text)) => r#type = Some(text),
                ("subject", Value::Str(text)) => subject = Some(text),
                ("issuer", Value::Str(text)) => issuer = Some(text),
                ("actor", Value::Str(text)) => actor = Some(text),
                ("basis", Value::Str(text)) => basis = Some(text),
                ("tier", Value::Str(text)) => tier = Some(text),
                ("supersedes", Value::Str(text)) => supersedes = Some(text.parse().ok()?),
                ("valid_from", Value::Int(n)) => valid_from = Some(n),
                ("valid_until", Value::Int(n)) => valid_until = Some(n),
                ("body", value) => body = Some(value),
                _ => return None,
            }
        }
        Some(Statement {
            r#type: r#type?,
            subject: subject?,
            issuer: issuer?,
            actor: actor?,
            basis,
            valid_from,
            valid_until,
            supersedes,
            tier,
            body: body?,
        })
    }

    /// Checks the fields that every statement has.
    ///
    /// # Errors
    /// Names the first field that is not as it should be.
    pub fn check(&self) -> Result<(), StatementError> {
        let field = |ok: bool, field, found: &str, expected| {
            if ok { Ok(()) } else { Err(StatementError::Field { field, found: excerpt(found), expected }) }
        };
        field(
            is_statement_type(&self.r#type),
            "type",
            &self.r#type,
            "dotted words and a version, as `study.submit@1`",
        )?;
        field(is_line(&self.subject, 256), "subject", &self.subject, "one line of 1 to 256 characters")?;
        field(is_party_id(&self.issuer), "issuer", &self.issuer, "a party id, as `gb`")?;
        field(is_line(&self.actor, 64), "actor", &self.actor, "one line of 1 to 64 characters")?;
        if let Some(basis) = &self.basis {
            field(is_line(basis, 512), "basis", basis, "one line of 1 to 512 characters")?;
        }
        if let Some(tier) = &self.tier {
            field(is_line(tier, 64), "tier", tier, "one line of 1 to 64 characters")?;
        }
        Ok(())
    }
}

/// One signature under a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementSignature {
    /// The algorithm; `ed25519` is the one that this version knows. A second, post-quantum one takes another line.
    pub alg: &'static str,
    /// The key that it claims to be by.
    pub key: PublicKey,
    /// The signature over [`pae`]`(`[`PAYLOAD_TYPE`]`, bytes)`.
    pub sig: Signature,
}

/// A statement with its verbatim bytes and signatures.
///
/// The bytes are what was signed, are what is stored, and are never encoded again; the parsed statement beside them
/// is a view. As text:
///
/// ```text
/// comity-statement/1
/// sig ed25519 <key, hex> <signature, base64>
///
/// <canonical JSON>
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedStatement {
    // INVARIANT: canon::from_bytes(bytes) is statement, statement.check() holds, 1..=MAX_SIGNATURES signatures with
    // distinct keys, and to_bytes() is at most MAX_SIGNED_BYTES.
    bytes: Vec<u8>,
    statement: Statement,
    signatures: Vec<StatementSignature>,
}

impl SignedStatement {
    /// Signs a statement.
    ///
    /// # Errors
    /// When a field is malformed or the whole is too long for the log.
    pub fn sign(statement: Statement, key: &SecretKey) -> Result<Self, StatementError> {
        statement.check()?;
        let bytes = canon::to_bytes(&statement)?;
        let mut signed = SignedStatement { bytes, statement, signatures: Vec::new() };
        signed.add_signature(key)?;
        Ok(signed)
    }

    /// Adds a signature, for statements that more than one must sign. Nothing happens if this key has signed.
    ///
    /// # Errors
    /// When there is no room for another.
    pub fn add_signature(&mut self, key: &SecretKey) -> Result<(), StatementError> {
        let public = key.public();
        if self.signatures.iter().any(|s| s.key == public) {
            return Ok(());
        }
        if self.signatures.len() >= MAX_SIGNATURES {
            return Err(framing("one more signature", "at most 16 signatures"));
        }
        let sig = key.sign(&pae(PAYLOAD_TYPE, &self.bytes));
        self.signatures.push(StatementSignature { alg: "ed25519", key: public, sig });
        let found = self.to_bytes().len();
        if found > MAX_SIGNED_BYTES {
            self.signatures.pop();
            return Err(StatementError::TooLong { found });
        }
        Ok(())
    }

    /// Its verbatim canonical JSON.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Its signatures, in the order in which they were added; not verified by reading.
    pub fn signatures(&self) -> &[StatementSignature] {
        &self.signatures
    }

    /// The statement's id: the digest of its bytes, whoever signed them.
    pub fn id(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// Verifies every signature, strictly. That the keys are anyone's in particular is for the roster to say.
    ///
    /// # Errors
    /// When any signature does not verify.
    pub fn verify(&self) -> Result<(), KeyError> {
        let message = pae(PAYLOAD_TYPE, &self.bytes);
        self.signatures.iter().try_for_each(|s| s.key.verify_strict(&message, &s.sig))
    }

    /// The framed text.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// Writes the framed text behind what is there.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.reserve(HEADER.len() + 192 * self.signatures.len() + self.bytes.len() + 1);
        out.extend_from_slice(HEADER.as_bytes());
        for s in &self.signatures {
            for word in ["sig ", s.alg, " ", &s.key.to_string(), " ", &s.sig.to_string(), "\n"] {
                out.extend_from_slice(word.as_bytes());
            }
        }
        out.push(b'\n');
        out.extend_from_slice(&self.bytes);
    }

    /// Reads the framed text. Signatures are read, not verified.
    ///
    /// # Errors
    /// Unless `bytes` are exactly what [`to_bytes`](Self::to_bytes) writes for what was read.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StatementError> {
        if bytes.len() > MAX_SIGNED_BYTES {
            return Err(StatementError::TooLong { found: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|e| CanonError::NotUtf8 { at: e.valid_up_to() })?;
        let Some(rest) = text.strip_prefix(HEADER) else {
            return Err(framing(text.lines().next().unwrap_or(""), "the line `comity-statement/1`"));
        };
        let (lines, json) = rest
            .split_once("\n\n")
            .ok_or_else(|| framing("no empty line", "an empty line before the JSON"))?;
        let mut signatures: Vec<StatementSignature> = Vec::new();
        for line in lines.split('\n') {
            let signature = signature_line(line)?;
            if signatures.len() >= MAX_SIGNATURES {
                return Err(framing(line, "at most 16 signatures"));
            }
            if signatures.iter().any(|s| s.key == signature.key) {
                return Err(framing(line, "one signature for each key"));
            }
            signatures.push(signature);
        }
        let (statement, written) = match Statement::plain(canon::parse(json.as_bytes())?) {
            // What was read is canonical, and nothing in it would be left out: it is how the statement is written.
            Some(statement) => (statement, json.as_bytes().to_vec()),
            None => {
                let statement: Statement = canon::from_bytes(json.as_bytes())?;
                let written = canon::to_bytes(&statement)?;
                (statement, written)
            }
        };
        statement.check()?;
        let signed = SignedStatement { bytes: written, statement, signatures };
        // INVARIANT: from_bytes accepts if and only if to_bytes gives the same bytes back. Catches, among others, a
        // `null` for an absent field, which is canonical JSON but not how a statement is written.
        if signed.to_bytes() != bytes {
            return Err(framing(
                "another spelling",
                "signature lines and fields in their one spelling, absent fields left out",
            ));
        }
        Ok(signed)
    }
}

fn framing(found: &str, expected: &'static str) -> StatementError {
    StatementError::Framing { found: excerpt(found), expected }
}

fn signature_line(line: &str) -> Result<StatementSignature, StatementError> {
    let malformed = || framing(line, "a line `sig <algorithm> <key> <signature>`");
    let mut words = line.split(' ');
    match (words.next(), words.next(), words.next(), words.next(), words.next()) {
        (Some("sig"), Some("ed25519"), Some(key), Some(sig), None) => {
            Ok(StatementSignature { alg: "ed25519", key: key.parse()?, sig: sig.parse()? })
        }
        (Some("sig"), Some(alg), Some(_), Some(_), None) => Err(StatementError::Algorithm(excerpt(alg))),
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const FIELDS: [&str; 11] = [
        "type",
        "subject",
        "issuer",
        "actor",
        "basis",
        "valid_from",
        "valid_until",
        "supersedes",
        "tier",
        "body",
        "more",
    ];

    /// The rule itself: read through `serde`, written again, compared.
    fn by_the_rule(json: &[u8]) -> Option<Statement> {
        let statement: Statement = canon::from_bytes(json).ok()?;
        (canon::to_bytes(&statement).ok()? == json).then_some(statement)
    }

    fn value() -> impl Strategy<Value = Value> {
        let text = |t: &str| Just(Value::Str(t.to_owned()));
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (-3_i64..=canon::MAX_INTEGER).prop_map(Value::Int),
            text("gb"),
            text("it@1"),
            Just(Value::Str(Digest::of(b"x").to_string())),
            Just(Value::Str(Digest::of(b"x").to_string().to_uppercase())),
            Just(Value::List(vec![Value::Null])),
            Just(Value::Map(BTreeMap::from([("type".to_owned(), Value::Null)]))),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

        #[test]
        fn a_statement_taken_straight_from_its_map_is_the_one_that_serde_reads_and_writes_back(
            values in prop::collection::vec(value(), FIELDS.len()),
            sound in any::<[bool; 11]>(),
            there in any::<[u8; 11]>(),
        ) {
            let good = |field: &str| match field {
                "valid_from" | "valid_until" => Value::Int(7),
                "supersedes" => Value::Str(Digest::of(b"y").to_string()),
                _ => Value::Str("gb".to_owned()),
            };
            let mut map = BTreeMap::new();
            for (at, field) in FIELDS.iter().enumerate() {
                // Mostly right, so that what is wrong is mostly one thing.
                let odd = there[at] > 230;
                let here = (there[at] % 16 > 0) && (*field != "more" || odd);
                if here {
                    map.insert((*field).to_owned(), if sound[at] || !odd { good(field) } else { values[at].clone() });
                }
            }
            let json = Value::Map(map).to_bytes().unwrap();
            prop_assert_eq!(Statement::plain(canon::parse(&json).unwrap()), by_the_rule(&json));
        }
    }

    #[test]
    fn a_list_in_the_order_of_the_fields_is_no_statement() {
        // `serde` reads a list as a struct; writing it again gives a map.
        let list = br#"["a.b@1","s","gb","node",null,null,null,null,null,{}]"#;
        assert!(canon::from_bytes::<Statement>(list).is_ok());
        assert_eq!(Statement::plain(canon::parse(list).unwrap()), None);
        let signed = [HEADER.as_bytes(), signature_of(list).as_bytes(), b"\n", list].concat();
        assert!(SignedStatement::from_bytes(&signed).is_err());
    }

    #[test]
    fn an_absent_field_spelled_out_as_null_is_refused() {
        let json = br#"{"actor":"node","basis":null,"body":{},"issuer":"gb","subject":"s","type":"a.b@1"}"#;
        let signed = [HEADER.as_bytes(), signature_of(json).as_bytes(), b"\n", json].concat();
        assert!(matches!(SignedStatement::from_bytes(&signed), Err(StatementError::Framing { .. })));
        let json = br#"{"actor":"node","body":null,"issuer":"gb","subject":"s","type":"a.b@1"}"#;
        let signed = [HEADER.as_bytes(), signature_of(json).as_bytes(), b"\n", json].concat();
        assert_eq!(SignedStatement::from_bytes(&signed).unwrap().to_bytes(), signed, "a body may be null");
    }

    fn signature_of(json: &[u8]) -> String {
        let key = SecretKey::from_seed([7; 32]);
        format!("sig ed25519 {} {}\n", key.public(), key.sign(&pae(PAYLOAD_TYPE, json)))
    }
}
