//! A federation of any size on fixed keys, with a hub that does what it is told. The other modules tell it to lie.

use std::collections::BTreeMap;

use record::canon::{self, Value};
use record::{
    Bundle, Checkpoint, Digest, Entry, Log, PublicKey, SecretKey, SignedCheckpoint, SignedStatement,
    Statement,
};

pub const HUB: &str = "hub";

/// A fixed key for a holder and a use.
pub fn key(holder: &str, usage: &str) -> SecretKey {
    SecretKey::from_seed(*Digest::of(format!("test key\n{holder}\n{usage}").as_bytes()).as_bytes())
}

pub fn public(holder: &str, usage: &str) -> PublicKey {
    key(holder, usage).public()
}

pub fn text(pairs: &[(&str, String)]) -> Value {
    Value::Map(pairs.iter().map(|(k, v)| ((*k).to_owned(), Value::Str(v.clone()))).collect())
}

pub fn member(id: &str) -> Value {
    text(&[
        ("id", id.to_owned()),
        ("sign", public(id, "sign").to_string()),
        ("cosign", public(id, "cosign").to_string()),
        ("tls", public(id, "tls").to_string()),
        ("name", format!("Institute of {id}")),
    ])
}

pub fn charter(members: &[&str]) -> BTreeMap<String, Value> {
    let hub = text(&[
        ("operator", "Example Trust".to_owned()),
        ("jurisdiction", "CH".to_owned()),
        ("key", public(HUB, "key").to_string()),
        ("tls", public(HUB, "tls").to_string()),
    ]);
    BTreeMap::from([
        ("federation".to_owned(), Value::Str("stroke".to_owned())),
        ("hub".to_owned(), hub),
        ("members".to_owned(), Value::List(members.iter().map(|m| member(m)).collect())),
        ("purpose".to_owned(), Value::Str("ignored here".to_owned())),
    ])
}

pub fn digest_of(charter: &BTreeMap<String, Value>) -> Digest {
    Digest::of(&canon::to_bytes(charter).unwrap())
}

pub fn statement(r#type: &str, subject: &str, issuer: &str, body: Value) -> Statement {
    Statement::new(r#type, subject, issuer, "director", &body).unwrap()
}

pub fn signed(r#type: &str, subject: &str, issuer: &str, body: Value) -> SignedStatement {
    SignedStatement::sign(statement(r#type, subject, issuer, body), &key(issuer, "sign")).unwrap()
}

pub fn propose(issuer: &str, charter: &BTreeMap<String, Value>) -> SignedStatement {
    let body = Value::Map(BTreeMap::from([("charter".to_owned(), Value::Map(charter.clone()))]));
    signed("charter.propose@1", "stroke", issuer, body)
}

pub fn sign(issuer: &str, charter: Digest) -> SignedStatement {
    signed("charter.sign@1", "stroke", issuer, text(&[("charter", charter.to_string())]))
}

pub fn vote(issuer: &str, study: &str) -> SignedStatement {
    signed(
        "decision.vote@1",
        "decision-1",
        issuer,
        text(&[("study", study.to_owned()), ("vote", "yes".to_owned())]),
    )
}

/// A log with its leaves, as a member that has mirrored it holds them.
#[derive(Clone, Default)]
pub struct World {
    pub members: Vec<String>,
    pub log: Log,
    pub leaves: Vec<Vec<u8>>,
    pub clock: i64,
}

impl World {
    /// Members whose charter is proposed and signed by all.
    pub fn new(members: &[&str]) -> World {
        let mut world = World {
            members: members.iter().map(|m| (*m).to_owned()).collect(),
            clock: 1_700_000_000_000,
            ..World::default()
        };
        let charter = charter(members);
        world.say(propose(members[0], &charter));
        for member in members {
            world.say(sign(member, digest_of(&charter)));
        }
        world
    }

    pub fn say(&mut self, signed: SignedStatement) {
        self.clock += 1000;
        let leaf = Entry::new(self.clock, signed).to_bytes();
        self.log.append(&leaf, Some(self.clock)).unwrap();
        self.leaves.push(leaf);
    }

    pub fn charter_digest(&self) -> Digest {
        self.log.roster().charter_digest.unwrap()
    }

    pub fn checkpoint(&self) -> SignedCheckpoint {
        Checkpoint::new("comity/stroke", self.log.size(), self.log.tree().root())
            .unwrap()
            .sign(&key(HUB, "key"))
    }

    /// The checkpoint of all entries, cosigned by the first `n` members.
    pub fn cosigned(&self, n: usize) -> SignedCheckpoint {
        let mut checkpoint = self.checkpoint();
        for party in self.members.iter().take(n) {
            let (mut cosignatures, _) =
                self.log.cosign(&checkpoint, party, &key(party, "cosign"), self.clock, None).unwrap();
            assert!(checkpoint.add(cosignatures.remove(0), self.log.roster()).unwrap());
        }
        checkpoint
    }

    pub fn bundle(&self, study: &str, exporter: &str) -> Bundle {
        let plan = b"a plan".to_vec();
        let blobs = BTreeMap::from([(Digest::of(&plan), plan)]);
        let checkpoint = self.cosigned(self.members.len());
        Bundle::export(
            study,
            self.leaves.clone(),
            &checkpoint,
            blobs,
            exporter,
            self.clock + 5000,
            &key(exporter, "sign"),
        )
        .unwrap()
    }
}
