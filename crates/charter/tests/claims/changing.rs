//! A record in which nearly everything about the members changes: who they are, with which keys, under which hub.

use crate::federation::*;
use charter::body::*;
use charter::{Charter, Member, Seat, SeatRole, Status, VoteChoice};
use record::canon::{self, Value};
use record::electorate::{Group, Part, Scheme};
use record::roster::{ACCEPT, CHANGE, Cosigning, LEAVE, OPEN, REAFFIRM, ROTATE, consent};
use record::term::{SIGN_OFF, SignOff, bare};
use record::{
    Change, Checkpoint, Digest, HubInfo, Log, MlPublicKey, MlSecretKey, Opening, Rotate, SignedStatement,
    Statement, WitnessInfo,
};
use std::collections::BTreeMap;

const WITNESS: &str = "witness.example/w1";

fn ml(holder: &str, usage: &str) -> MlPublicKey {
    MlSecretKey::from_seed(*Digest::of(format!("{holder}/{usage}/ml").as_bytes()).as_bytes()).public()
}

fn next(holder: &str, usage: &str) -> Option<Digest> {
    Some(Digest::of(key(holder, usage).public().as_bytes()))
}

/// The nine with keys of both kinds and the next ones committed to, a witness outside, and groups beside the quorum.
fn wide() -> Charter {
    let mut charter = charter();
    for member in &mut charter.members {
        member.cosign_ml = Some(ml(&member.id, "cosign"));
        member.next = next(&member.id, "next");
        member.endpoint = Some(format!("{}.example:7443", member.id));
    }
    let one = |name: &str| Part::One(name.to_owned());
    let outside = Group { need: 1, of: vec![one("no"), one(WITNESS)] };
    let groups = Group { need: 2, of: vec![one("gb"), one("it"), Part::Group(outside)] };
    charter.cosigning = Some(Cosigning { scheme: Scheme::Hybrid, groups: Some(groups) });
    charter.faults = Some(2);
    charter.witnesses = vec![WitnessInfo {
        name: WITNESS.into(),
        operator: "Witness".into(),
        key: key("witness", "cosign").public(),
        url: "https://witness.example".into(),
    }];
    charter
}

/// A member as a charter names it, with keys of these uses.
fn document(id: &str, [sign, cosign, tls, later]: [&str; 4], both: bool) -> Value {
    let seat = |role, word: &str| Seat { id: format!("{id}-{word}"), role };
    let seats =
        [(SeatRole::Steward, "steward"), (SeatRole::Counsel, "counsel"), (SeatRole::Signatory, "signatory")];
    let member = Member {
        id: id.into(),
        name: format!("Stroke unit {id}"),
        jurisdiction: id.to_uppercase(),
        control: format!("unit-{id}"),
        sign: key(id, sign).public(),
        cosign: key(id, cosign).public(),
        cosign_ml: both.then(|| ml(id, cosign)),
        tls: key(id, tls).public(),
        next: next(id, later),
        endpoint: None,
        seats: seats.map(|(role, word)| seat(role, word)).to_vec(),
    };
    canon::to_value(&member).unwrap()
}

/// The federation, and which of its keys each member signs with now.
struct Changing {
    f: Federation,
    charter: Digest,
    signs: BTreeMap<&'static str, &'static str>,
}

impl Changing {
    fn say<T: serde::Serialize>(&mut self, member: &'static str, kind: &str, body: &T) -> Status {
        let usage = self.signs.get(member).copied().unwrap_or("sign");
        let actor = format!("{member}-signatory");
        let statement = self.f.statement(member, &actor, kind, body);
        self.f.put(statement, &key(member, usage))
    }

    fn steward<T: serde::Serialize>(&mut self, member: &'static str, kind: &str, body: &T) -> Status {
        let usage = self.signs.get(member).copied().unwrap_or("sign");
        let statement = self.f.statement(member, &format!("{member}-steward"), kind, body);
        self.f.put(statement, &key(member, usage))
    }

    fn last(&self) -> Digest {
        self.f.entries.last().unwrap().signed.id()
    }

    fn propose(&mut self, by: &'static str, change: &Change) -> Status {
        self.say(by, CHANGE, &BTreeMap::from([("change", change)]))
    }

    fn accept(&mut self, by: &'static str, proposal: Digest) -> Status {
        self.say(by, ACCEPT, &BTreeMap::from([("proposal", proposal)]))
    }

    /// Proposed by the first and accepted by the others.
    fn decide(&mut self, change: &Change, by: &[&'static str]) -> Digest {
        valid(self.propose(by[0], change));
        let id = self.last();
        by[1..].iter().for_each(|member| valid(self.accept(member, id)));
        id
    }

    fn counts(&self, member: &str) -> bool {
        self.f.state.roster.members.contains_key(member)
    }

    fn wants(&self, id: &str, member: Value, sign: &str) -> (Value, record::Signature) {
        let by = key(id, sign).sign(&consent(&self.charter, &member).unwrap());
        (member, by)
    }

    fn rotate(&mut self, since: u64) {
        let body = Rotate {
            sign: key("pl", "next").public(),
            next: next("pl", "later").unwrap(),
            cosign: Some(key("pl", "cosign again").public()),
            cosign_ml: Some(ml("pl", "cosign again")),
            tls: Some(key("pl", "tls again").public()),
            compromised_since: Some(since),
        };
        let thief = Rotate { sign: key("pl", "thief").public(), ..body.clone() };
        void(self.say("pl", ROTATE, &thief), "keys");
        void(self.say("pl", ROTATE, &body), "keys");
        self.signs.insert("pl", "next");
        valid(self.say("pl", ROTATE, &body));
        void(self.say("pl", ROTATE, &body), "keys");
    }

    /// Another hub, with the sign-offs of these.
    fn hand_over(&mut self, by: &[&'static str]) -> Opening {
        let mut log = Log::new();
        for entry in &self.f.entries {
            log.append(&entry.to_bytes(), None).unwrap();
        }
        let checkpoint = Checkpoint::new("comity/stroke-nine", log.size(), log.tree().root()).unwrap();
        let said = SignOff {
            term: 1,
            next: HubInfo {
                operator: "Second Trust".into(),
                jurisdiction: "NO".into(),
                key: key("hub-2", "key").public(),
                tls: key("hub-2", "tls").public(),
            },
            address: "hub-2.example:7443".into(),
            claim: Some(bare(&checkpoint.sign(&key("hub", "key")))),
        };
        let sign = |member: &&'static str| {
            let usage = self.signs.get(member).copied().unwrap_or("sign");
            let said = Statement::new(SIGN_OFF, "term", member, "director", &said).unwrap();
            SignedStatement::sign(said, &key(member, usage)).unwrap().to_bytes()
        };
        let signoffs: Vec<Vec<u8>> = by.iter().map(sign).collect();
        Opening::make(&signoffs, log.tree(), log.roster()).unwrap()
    }
}

/// Everything that can happen to members, keys and the hub, and what is void of it.
pub fn members() -> Federation {
    let charter = wide();
    let digest = charter.digest().unwrap();
    let mut f = Federation::under(charter).prepared();
    valid(f.submit(named("kept")));
    f.all_gates("kept");
    f.all_yes("kept");
    let vote = f.state.studies["kept"].votes["pl"].index;
    let mut c = Changing { f, charter: digest, signs: BTreeMap::new() };

    // A key that may have been another's: its yes is contested until the member stands by it.
    c.rotate(vote);
    assert!(c.f.state.studies["kept"].votes["pl"].revoked.is_some());
    assert!(c.f.state.roster.contested("pl", vote));
    void(c.f.pause("pl"), "not_signed");
    let stand_by = |index: u64| BTreeMap::from([("entries", vec![index])]);
    void(c.say("pl", REAFFIRM, &stand_by(vote - 1)), "keys");
    valid(c.say("pl", REAFFIRM, &stand_by(vote)));
    assert!(c.f.state.studies["kept"].votes["pl"].revoked.is_none());
    assert!(!c.f.state.roster.contested("pl", vote));

    // One joins; with a key of one kind alone it could not, since both count here.
    let (alone, by) = c.wants("fr", document("fr", ["sign", "cosign", "tls", "next"], false), "sign");
    void(c.propose("gb", &Change::Join { member: alone, consent: by }), "change");
    let (member, by) = c.wants("fr", document("fr", ["sign", "cosign", "tls", "next"], true), "sign");
    void(c.propose("fr", &Change::Join { member: member.clone(), consent: by }), "not_a_member");
    let join = Change::Join { member, consent: by };
    valid(c.propose("gb", &join));
    let id = c.last();
    void(c.accept("gb", id), "signed_before");
    void(c.accept("it", Digest::of(b"no proposal")), "no_proposal");
    ["it", "nl", "se", "no"].into_iter().for_each(|m| valid(c.accept(m, id)));
    assert!(!c.counts("fr"));
    valid(c.accept("pl", id));
    assert!(c.counts("fr"));
    void(c.accept("ch", id), "no_proposal");
    void(c.propose("gb", &join), "change");
    valid(c.steward("fr", DatasetRegister::TYPE, &dataset("ist")));

    // One is suspended, heard only where it protects, and counts again.
    let suspend = Change::Suspend { member: "se".into() };
    c.decide(&suspend, &["gb", "it", "nl", "no", "pl", "ch", "fr"]);
    assert!(!c.counts("se"));
    void(c.f.node("se", NodeResume::TYPE, &NodeResume { reason: "drill".into() }), "issuer is suspended");
    valid(c.f.pause("se"));
    void(c.accept("se", id), "not_a_member");
    c.decide(&Change::Reinstate { member: "se".into() }, &["gb", "it", "nl", "no", "pl", "fr"]);
    assert!(c.counts("se"));
    valid(c.f.node("se", NodeResume::TYPE, &NodeResume { reason: "drill".into() }));

    // One leaves and one is expelled; what only some want waits.
    valid(c.say("au", LEAVE, &BTreeMap::<&str, u8>::new()));
    void(c.f.pause("au"), "not_a_member");
    valid(c.propose("gb", &Change::Expel { member: "ar".into() }));
    let id = c.last();
    void(c.accept("ar", id), "change");
    ["it", "nl", "no", "pl", "fr"].into_iter().for_each(|m| valid(c.accept(m, id)));
    assert!(!c.counts("ar"));
    void(c.f.vote("ar", "kept", VoteChoice::No), "not_a_member");
    valid(c.propose("it", &Change::Expel { member: "ch".into() }));

    // One has lost all of its keys.
    let since = c.f.state.studies["kept"].votes["nl"].index;
    let (member, by) =
        c.wants("nl", document("nl", ["found", "cosign found", "tls found", "later"], true), "found");
    let rekey = Change::Rekey { member, consent: by, compromised_since: Some(since) };
    c.decide(&rekey, &["gb", "it", "no", "pl", "fr", "ch"]);
    void(c.say("nl", REAFFIRM, &stand_by(since)), "not_signed");
    c.signs.insert("nl", "found");
    assert!(c.f.state.roster.contested("nl", since), "contested, and it stays so");

    // Another hub.
    let opening = c.hand_over(&["gb", "it", "no", "pl", "fr", "nl", "se"]);
    let early = Opening { base: opening.base - 1, ..opening.clone() };
    void(c.f.would(|f| f.node("gb", OPEN, &early)), "term");
    valid(c.say("gb", OPEN, &opening));
    void(c.say("it", OPEN, &opening), "term");
    assert_eq!((c.f.state.roster.term, opening.base + 2), (2, c.f.state.size));
    valid(c.f.node("it", NodeStop::TYPE, &NodeStop { reason: "drill".into() }));
    c.f
}

#[test]
fn a_record_in_which_members_keys_and_hub_change_ends_with_those_that_are_left() {
    let f = members();
    let roster = &f.state.roster;
    let left: Vec<&String> = roster.members.keys().collect();
    assert_eq!(left, ["ch", "fr", "gb", "it", "nl", "no", "pl", "se"]);
    assert_eq!(roster.members["pl"].sign, key("pl", "next").public());
    assert_eq!(roster.members["nl"].sign, key("nl", "found").public());
    assert_eq!(roster.hub.as_ref().unwrap().key, key("hub-2", "key").public());
    assert_eq!(roster.quorum(), 6, "eight and a witness, of whom two may lie");
    let named: Vec<&str> = f.state.charter.as_ref().unwrap().members.iter().map(|m| m.id.as_str()).collect();
    assert!(named.contains(&"fr") && !named.contains(&"au") && !named.contains(&"ar"));
    assert_eq!(roster.compromises.len(), 2);
}
