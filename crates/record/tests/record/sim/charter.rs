//! Keys, the charter and the statements of a simulated federation. Every key is fixed by its holder, use and number.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use record::canon::{self, Value};
use record::roster;
use record::{Change, Digest, HubInfo, PublicKey, SecretKey, SignedStatement, Statement};

/// Name of the federation, and the subject of all that is said.
const NAME: &str = "storm";

/// What a seed's statements are signed and checked with, made once in each thread.
#[derive(Default)]
struct Keys {
    named: HashMap<String, Rc<SecretKey>>,
    of_public: HashMap<PublicKey, Rc<SecretKey>>,
}

thread_local! {
    static KEYS: RefCell<Keys> = RefCell::default();
    static BEGINNINGS: RefCell<HashMap<(usize, usize), Rc<Beginning>>> = RefCell::default();
}

/// The key of a holder for a use.
pub fn key(holder: &str, usage: &str, number: u32) -> Rc<SecretKey> {
    KEYS.with_borrow_mut(|keys| {
        let name = format!("{holder}/{usage}/{number}");
        if let Some(key) = keys.named.get(&name) {
            return key.clone();
        }
        let key = Rc::new(SecretKey::from_seed(*Digest::of(name.as_bytes()).as_bytes()));
        keys.of_public.insert(key.public(), key.clone());
        keys.named.insert(name, key.clone());
        key
    })
}

/// The key with this public half, if anybody has it.
pub fn secret_of(public: &PublicKey) -> Option<Rc<SecretKey>> {
    KEYS.with_borrow(|keys| keys.of_public.get(public).cloned())
}

pub fn member_id(index: usize) -> String {
    format!("m{index}")
}

pub fn witness_name(index: usize) -> String {
    format!("w{index}.example/w")
}

pub fn hub_info(index: usize) -> HubInfo {
    let name = format!("hub{index}");
    HubInfo {
        operator: name.clone(),
        jurisdiction: "CH".to_owned(),
        key: key(&name, "key", 0).public(),
        tls: key(&name, "tls", 0).public(),
    }
}

pub fn address(hub: usize) -> String {
    format!("hub{hub}.example:443")
}

fn text(text: &str) -> Value {
    Value::Str(text.to_owned())
}

/// Digest of the `sign` key of this number, as it is committed to.
fn committed(id: &str, number: u32) -> Digest {
    Digest::of(key(id, "sign", number).public().as_bytes())
}

/// A member as a charter names it, with the keys of one number.
pub fn document(index: usize, number: u32) -> Value {
    let id = member_id(index);
    Value::Map(BTreeMap::from([
        ("id".to_owned(), text(&id)),
        ("sign".to_owned(), text(&key(&id, "sign", number).public().to_string())),
        ("cosign".to_owned(), text(&key(&id, "cosign", number).public().to_string())),
        ("tls".to_owned(), text(&key(&id, "tls", number).public().to_string())),
        ("next".to_owned(), text(&committed(&id, number + 1).to_string())),
    ]))
}

/// A charter with its first statements, the same for all seeds of a size.
pub struct Beginning {
    pub charter: Digest,
    pub statements: Vec<SignedStatement>,
}

/// The statements with which members and witnesses of a number begin.
pub fn beginning(members: usize, witnesses: usize) -> Rc<Beginning> {
    if let Some(made) = BEGINNINGS.with_borrow(|b| b.get(&(members, witnesses)).cloned()) {
        return made;
    }
    let witness = |index: usize| {
        let name = witness_name(index);
        Value::Map(BTreeMap::from([
            ("name".to_owned(), text(&name)),
            ("operator".to_owned(), text(&format!("University {index}"))),
            ("key".to_owned(), text(&key(&name, "cosign", 0).public().to_string())),
            ("url".to_owned(), text("https://witness.example")),
        ]))
    };
    let charter = Value::Map(BTreeMap::from([
        ("federation".to_owned(), text(NAME)),
        ("hub".to_owned(), canon::to_value(&hub_info(0)).unwrap()),
        ("members".to_owned(), Value::List((0..members).map(|i| document(i, 0)).collect())),
        ("witnesses".to_owned(), Value::List((0..witnesses).map(witness).collect())),
    ]));
    let digest = Digest::of(&charter.to_bytes().unwrap());
    let sign = |i: usize, kind: &str, field: &str, value: Value| {
        let body = BTreeMap::from([(field.to_owned(), value)]);
        let id = member_id(i);
        statement(&id, kind, &body, &key(&id, "sign", 0))
    };
    let mut statements = vec![sign(0, roster::PROPOSE, "charter", charter)];
    statements.extend((0..members).map(|i| sign(i, roster::SIGN, "charter", text(&digest.to_string()))));
    let made = Rc::new(Beginning { charter: digest, statements });
    BEGINNINGS.with_borrow_mut(|b| b.insert((members, witnesses), made.clone()));
    made
}

pub fn statement<T: serde::Serialize>(
    issuer: &str,
    kind: &str,
    body: &T,
    key: &SecretKey,
) -> SignedStatement {
    SignedStatement::sign(Statement::new(kind, NAME, issuer, "director", body).unwrap(), key).unwrap()
}

/// That a member joins, or gets new keys after it lost all, with its consent.
pub fn with_consent(charter: &Digest, index: usize, number: u32, rekey: bool) -> Change {
    let member = document(index, number);
    let consent = key(&member_id(index), "sign", number).sign(&roster::consent(charter, &member).unwrap());
    if rekey {
        Change::Rekey { member, consent, compromised_since: None }
    } else {
        Change::Join { member, consent }
    }
}

/// The keys of the next number, as the member rotates to them itself.
pub fn rotation(index: usize, number: u32) -> record::Rotate {
    let id = member_id(index);
    record::Rotate {
        sign: key(&id, "sign", number).public(),
        next: committed(&id, number + 1),
        cosign: Some(key(&id, "cosign", number).public()),
        cosign_ml: None,
        tls: None,
        compromised_since: None,
    }
}
