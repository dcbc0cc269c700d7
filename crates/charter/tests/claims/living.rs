//! A federation in which members come and go, change their keys and their hub, with the checkpoints that sealed it.

use crate::federation::*;
use charter::body::StateAttest;
use charter::proof::Source;
use charter::{Charter, Status};
use record::canon::{self, Value};
use record::checkpoint::{Checkpoint, Cosignature, SignedCheckpoint};
use record::roster::{ACCEPT, CHANGE, LEAVE, OPEN, ROTATE, consent};
use record::term::{SIGN_OFF, bare};
use record::{Change, Digest, HubInfo, Log, Opening, Rotate, SecretKey, SignOff, SignedStatement, Statement};
use std::collections::BTreeMap;

/// Key of a holder's generation: 0 is the charter's.
pub fn generation(holder: &str, number: u32, purpose: &str) -> SecretKey {
    if number == 0 { key(holder, purpose) } else { key(holder, &format!("{purpose}-{number}")) }
}

#[derive(Clone)]
pub struct Living {
    pub f: Federation,
    pub log: Log,
    pub seals: BTreeMap<u64, String>,
    /// The last checkpoint in force.
    pub note: Option<SignedCheckpoint>,
    /// The generation of keys that a member has.
    pub keys: BTreeMap<String, u32>,
    pub hub: u32,
}

impl Living {
    /// A study released by nine, each committed to its next key; nothing changed yet.
    pub fn released() -> Living {
        let mut charter = Charter { snapshot_every: Some(EVERY), ..charter() };
        for member in &mut charter.members {
            member.next = Some(Digest::of(generation(&member.id, 1, "sign").public().as_bytes()));
        }
        Living::over(Federation::released_under(charter, named("seen")))
    }

    pub fn over(f: Federation) -> Living {
        let keys = MEMBERS.iter().map(|m| (m.to_string(), 0)).collect();
        let mut living = Living { f, log: Log::new(), seals: BTreeMap::new(), note: None, keys, hub: 0 };
        living.seal();
        living
    }

    fn sign_key(&self, member: &str) -> SecretKey {
        generation(member, self.keys[member], "sign")
    }

    /// Takes in what was said, and has everyone cosign it who counts.
    pub fn seal(&mut self) {
        for entry in &self.f.entries[usize::try_from(self.log.size()).unwrap()..] {
            self.log.append(&entry.to_bytes(), None).unwrap();
        }
        let above = self.note.as_ref().map_or(0, |n| n.checkpoint().size());
        let note = self.checkpoint(above);
        let standing = self.log.standing_above(&note, above).unwrap();
        assert!(matches!(standing, record::Standing::InForce(_)), "{standing:?}");
        if self.log.roster().electorates(above, self.log.size()).len() > 1 {
            self.seals.insert(self.log.size(), note.to_note());
        }
        self.note = Some(note);
    }

    /// The hub's checkpoint of all entries, cosigned by everyone who counts from `above` on, with each key that does.
    fn checkpoint(&self, above: u64) -> SignedCheckpoint {
        let roster = self.log.roster();
        let (size, root) = (self.log.size(), self.log.tree().root());
        let hub = generation("hub", self.hub, "key");
        let mut note = Checkpoint::new(&roster.origin, size, root).unwrap().sign(&hub);
        for electorate in roster.electorates(above, size) {
            for (id, cosigner) in &electorate.members {
                let key = (0..9).map(|n| generation(id, n, "cosign")).find(|k| k.public() == cosigner.key);
                let line = Cosignature::sign(note.checkpoint(), id, 1_767_300_000, &key.unwrap()).unwrap();
                note.add(line, roster).unwrap();
            }
        }
        note
    }

    #[track_caller]
    pub fn says(&mut self, member: &str, kind: &str, body: Value) -> Digest {
        let by = self.sign_key(member);
        self.says_with(member, kind, body, &by)
    }

    #[track_caller]
    pub fn says_with(&mut self, member: &str, kind: &str, body: Value, by: &SecretKey) -> Digest {
        let statement = self.f.statement(member, &format!("{member}-signatory"), kind, &body);
        assert_eq!(self.f.put(statement, by), Status::Valid, "{kind} of {member}");
        self.f.entries.last().unwrap().signed.id()
    }

    /// A change that the others decide on, sealed.
    #[track_caller]
    pub fn decide(&mut self, change: &Change) {
        self.propose(change, 6);
        self.seal();
    }

    /// Proposed, and accepted by so many in all.
    #[track_caller]
    pub fn propose(&mut self, change: &Change, voices: usize) {
        let about = change.about().unwrap();
        let members: Vec<String> = self.f.state.roster.members.keys().cloned().collect();
        let others: Vec<String> = members.into_iter().filter(|m| *m != about).take(voices).collect();
        let body = Value::Map(BTreeMap::from([("change".into(), canon::to_value(change).unwrap())]));
        let id = self.says(&others[0], CHANGE, body);
        for member in &others[1..] {
            self.accept(member, id);
        }
    }

    #[track_caller]
    pub fn accept(&mut self, member: &str, id: Digest) {
        let body = Value::Map(BTreeMap::from([("proposal".into(), canon::to_value(&id).unwrap())]));
        self.says(member, ACCEPT, body);
    }

    /// The document of a member with the keys of this generation, and its consent.
    fn document(&self, id: &str, number: u32, operator: &str) -> (Value, record::Signature) {
        let public = |purpose: &str| generation(id, number, purpose).public().to_string();
        let text = |text: &str| Value::Str(text.to_owned());
        let seat = |role: &str| {
            Value::Map(BTreeMap::from([
                ("id".into(), text(&format!("{id}-{role}"))),
                ("role".into(), text(role)),
            ]))
        };
        let next = Digest::of(generation(id, number + 1, "sign").public().as_bytes()).to_string();
        let doc = Value::Map(BTreeMap::from([
            ("id".into(), text(id)),
            ("name".into(), text("A member that came later")),
            ("jurisdiction".into(), text("FR")),
            ("control".into(), text(operator)),
            ("sign".into(), text(&public("sign"))),
            ("cosign".into(), text(&public("cosign"))),
            ("tls".into(), text(&public("tls"))),
            ("next".into(), text(&next)),
            ("seats".into(), Value::List(vec![seat("signatory"), seat("steward")])),
        ]));
        let bytes = consent(&self.f.state.charter_digest.unwrap(), &doc).unwrap();
        let by = generation(id, number, "sign").sign(&bytes);
        (doc, by)
    }

    pub fn joining(&mut self, id: &str) -> Change {
        let (member, consent) = self.document(id, 0, &format!("unit-{id}"));
        self.keys.insert(id.into(), 0);
        Change::Join { member, consent }
    }

    pub fn join(&mut self, id: &str) {
        let change = self.joining(id);
        self.decide(&change);
    }

    pub fn rekey(&mut self, id: &str) {
        let number = self.keys[id] + 1;
        let (member, consent) = self.document(id, number, &format!("unit-{id}"));
        self.decide(&Change::Rekey { member, consent, compromised_since: None });
        self.keys.insert(id.into(), number);
    }

    pub fn leave(&mut self, id: &str) {
        self.says(id, LEAVE, Value::Map(BTreeMap::new()));
        self.seal();
    }

    /// New keys for everything, sealed by the old ones and the new.
    pub fn rotate(&mut self, id: &str) {
        self.rotate_since(id, None);
        self.seal();
    }

    pub fn rotate_since(&mut self, id: &str, compromised_since: Option<u64>) {
        let number = self.keys[id] + 1;
        let public = |purpose: &str| generation(id, number, purpose).public();
        let body = Rotate {
            sign: public("sign"),
            next: Digest::of(generation(id, number + 1, "sign").public().as_bytes()),
            cosign: Some(public("cosign")),
            cosign_ml: None,
            tls: Some(public("tls")),
            compromised_since,
        };
        let by = generation(id, number, "sign");
        self.says_with(id, ROTATE, canon::to_value(&body).unwrap(), &by);
        self.keys.insert(id.into(), number);
    }

    /// Another hub takes over where everything is in force.
    pub fn hand_over(&mut self) {
        let claim = bare(self.note.as_ref().unwrap());
        let number = self.hub + 1;
        let next = HubInfo {
            operator: "Another Trust".into(),
            jurisdiction: "CH".into(),
            key: generation("hub", number, "key").public(),
            tls: generation("hub", number, "tls").public(),
        };
        let roster = self.f.state.roster.clone();
        let said = roster.members.keys().map(|member| {
            let (term, address) = (roster.term, "hub.example:443".to_owned());
            let body = SignOff { term, next: next.clone(), address, claim: Some(claim.clone()) };
            let statement = Statement::new(SIGN_OFF, "stroke-nine", member, "node", &body).unwrap();
            SignedStatement::sign(statement, &self.sign_key(member)).unwrap().to_bytes()
        });
        let said: Vec<Vec<u8>> = said.collect();
        let opening = Opening::make(&said, self.log.tree(), &roster).unwrap();
        let first = roster.members.keys().next().unwrap().clone();
        self.says(&first, OPEN, canon::to_value(&opening).unwrap());
        self.hub = number;
        self.seal();
    }

    /// Drills up to the next size at which the state is attested; everyone says what it is there, in this order.
    pub fn attest(&mut self, first: &[&str]) -> u64 {
        let every = u64::from(EVERY);
        let size = (self.f.state.size / every + 1) * every;
        self.fill(size);
        self.seal();
        let root = self.f.root_at(size);
        let members: Vec<String> = self.f.state.roster.members.keys().cloned().collect();
        let rest = members.iter().map(String::as_str).filter(|m| !first.contains(m));
        for member in first.iter().copied().chain(rest).collect::<Vec<_>>() {
            let body = StateAttest { size, root, version: 1 };
            let statement = self.f.statement(member, "node", StateAttest::TYPE, &body);
            valid(self.f.put(statement, &self.sign_key(member)));
        }
        self.seal();
        size
    }

    pub fn fill(&mut self, size: u64) {
        let member = self.f.state.roster.members.keys().next_back().unwrap().clone();
        while self.f.state.size < size {
            let body = charter::body::NodeResume { reason: "drill".into() };
            let statement = self.f.statement(&member, "node", charter::body::NodeResume::TYPE, &body);
            valid(self.f.put(statement, &self.sign_key(&member)));
        }
    }

    pub fn source(&self) -> Source<'_> {
        Source {
            state: &self.f.state,
            entries: self.log.entries(),
            tree: self.log.tree(),
            checkpoint: self.note.as_ref().unwrap(),
            seals: &self.seals,
        }
    }

    pub fn pin(&self) -> Option<Digest> {
        self.f.state.charter_digest
    }
}
