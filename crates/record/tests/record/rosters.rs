use std::collections::BTreeMap;

use record::canon::Value;
use record::{Entry, Roster, SignedStatement, Why};

use crate::federation::{
    charter, digest_of, key, member, propose, public, sign, signed, statement, text, vote,
};

fn fold(statements: Vec<SignedStatement>) -> (Roster, BTreeMap<u64, Why>) {
    let entries: Vec<Entry> = (0_i64..).zip(statements).map(|(i, s)| Entry::new(i, s)).collect();
    Roster::fold(&entries)
}

#[test]
fn a_charter_is_in_force_when_the_last_member_has_signed_and_not_before() {
    let charter = charter(&["gb", "it", "ch"]);
    let digest = digest_of(&charter);
    let mut all = vec![propose("it", &charter), sign("gb", digest), sign("it", digest)];
    let (roster, voids) = fold(all.clone());
    assert!(voids.is_empty());
    assert!(!roster.in_force(), "proposing is not signing, and one is missing");
    assert_eq!(roster.unsigned().into_iter().collect::<Vec<_>>(), ["ch"]);
    all.push(sign("ch", digest));
    let (roster, voids) = fold(all);
    assert!(voids.is_empty());
    assert_eq!(roster.in_force_at, Some(3));
    assert_eq!(roster.origin, "comity/stroke");
    assert_eq!(roster.charter_digest, Some(digest));
    assert_eq!(roster.party_of_tls(&public("ch", "tls")), Some("ch"));
    assert_eq!(roster.party_of_tls(&public("ch", "sign")), None);
}

#[test]
fn only_the_first_charter_counts_and_only_signatures_of_it() {
    let (first, second) = (charter(&["gb", "it"]), charter(&["gb", "it", "ch"]));
    let (roster, voids) = fold(vec![
        propose("gb", &first),
        propose("it", &second),
        sign("gb", digest_of(&second)),
        sign("gb", digest_of(&first)),
        sign("gb", digest_of(&first)),
    ]);
    assert_eq!(voids[&1], Why::SecondCharter(digest_of(&first)));
    assert_eq!(voids[&2], Why::OtherCharter { signed: digest_of(&second), proposed: digest_of(&first) });
    assert_eq!(voids[&4], Why::SignedBefore("gb".to_owned()));
    assert_eq!(voids.len(), 3);
    assert_eq!(roster.members.len(), 2);
}

#[test]
fn a_void_proposal_leaves_room_for_a_valid_one() {
    let good = charter(&["gb", "it"]);
    let outsider = propose("fr", &good);
    let forged = {
        let body = Value::Map(BTreeMap::from([("charter".to_owned(), Value::Map(good.clone()))]));
        SignedStatement::sign(statement("charter.propose@1", "stroke", "gb", body), &key("it", "sign"))
            .unwrap()
    };
    let (roster, voids) = fold(vec![sign("gb", digest_of(&good)), outsider, forged, propose("gb", &good)]);
    assert_eq!(voids[&0], Why::NoCharter);
    assert_eq!(voids[&1], Why::NotAMember("fr".to_owned()));
    assert_eq!(voids[&2], Why::NotSigned("gb".to_owned()));
    assert_eq!(voids.len(), 3);
    assert_eq!(roster.charter_digest, Some(digest_of(&good)));
}

#[test]
fn only_a_member_speaks_for_itself_with_its_sign_key() {
    let charter = charter(&["gb", "it"]);
    let (roster, _) = fold(vec![propose("gb", &charter)]);
    assert_eq!(roster.authenticate(&vote("gb", "aspirin")), Ok(()));
    assert_eq!(roster.authenticate(&vote("fr", "aspirin")), Err(Why::NotAMember("fr".to_owned())));
    let ballot = || statement("decision.vote@1", "d", "gb", text(&[]));
    for wrong in [key("it", "sign"), key("gb", "cosign"), key("gb", "tls")] {
        let forged = SignedStatement::sign(ballot(), &wrong).unwrap();
        assert_eq!(roster.authenticate(&forged), Err(Why::NotSigned("gb".to_owned())));
    }
    // A genuine signature line of another statement by the same member.
    let text = String::from_utf8(vote("gb", "aspirin").to_bytes()).unwrap();
    let moved = text.replace("aspirin", "insulin");
    let moved = SignedStatement::from_bytes(moved.as_bytes()).unwrap();
    assert_eq!(roster.authenticate(&moved), Err(Why::BadSignature(public("gb", "sign"))));
    // A second signature that fails voids the whole, so that nobody can hang false names on a statement.
    let mut both = SignedStatement::sign(ballot(), &key("gb", "sign")).unwrap();
    both.add_signature(&key("it", "sign")).unwrap();
    assert_eq!(roster.authenticate(&both), Ok(()));
    let text = String::from_utf8(both.to_bytes()).unwrap();
    let other = both.signatures()[0].sig.to_string();
    let swapped = text.replace(&both.signatures()[1].sig.to_string(), &other);
    let swapped = SignedStatement::from_bytes(swapped.as_bytes()).unwrap();
    assert_eq!(roster.authenticate(&swapped), Err(Why::BadSignature(public("it", "sign"))));
}

#[test]
fn a_statement_of_unknown_type_is_nothing_to_the_roster() {
    let charter = charter(&["gb", "it"]);
    let (roster, voids) = fold(vec![
        propose("gb", &charter),
        signed("weather.report@7", "sky", "it", Value::Null),
        sign("gb", digest_of(&charter)),
        sign("it", digest_of(&charter)),
    ]);
    assert!(voids.is_empty());
    assert_eq!(roster.in_force_at, Some(3));
}

#[test]
fn quorums_make_two_conflicting_checkpoints_need_more_than_f_liars() {
    let names: Vec<String> = (0..20).map(|i| format!("m{i}")).collect();
    for n in 1..=20_usize {
        let members: Vec<&str> = names.iter().take(n).map(String::as_str).collect();
        let mut doc = charter(&members);
        for faults in [None, Some(0), Some(1), Some(2)] {
            if let Some(f) = faults {
                doc.insert("faults".to_owned(), Value::Int(f));
            }
            let Ok(roster) = Roster::of_charter(&Value::Map(doc.clone())) else {
                assert!(faults.is_some_and(|f| f as usize >= n), "refused n = {n}, f = {faults:?}");
                continue;
            };
            let (q, f) = (roster.quorum() as usize, roster.f as usize);
            assert!(q <= n);
            assert!(2 * q - n > f, "two quorums share more than f members: n = {n}, q = {q}, f = {f}");
            assert!(q == 1 || 2 * (q - 1) <= n + f, "no larger than needed");
        }
    }
    let q = |n: usize| {
        let members: Vec<&str> = names.iter().take(n).map(String::as_str).collect();
        Roster::of_charter(&Value::Map(charter(&members))).unwrap().quorum()
    };
    assert_eq!((q(4), q(9), q(20)), (3, 6, 14));
    assert_eq!(Roster::new().quorum(), 0);
    assert!(!Roster::new().watermark_ready());
}

#[test]
fn a_charter_that_contradicts_itself_is_void_with_the_reason() {
    let with = |change: &dyn Fn(&mut BTreeMap<String, Value>)| {
        let mut doc = charter(&["gb", "it"]);
        change(&mut doc);
        match Roster::of_charter(&Value::Map(doc)) {
            Err(Why::Charter(reason)) => reason,
            other => panic!("{other:?}"),
        }
    };
    let replace = |key: &'static str, value: Value| {
        move |doc: &mut BTreeMap<String, Value>| {
            doc.insert(key.to_owned(), value.clone());
        }
    };
    assert!(with(&|d| drop(d.remove("federation"))).contains("federation"));
    assert!(with(&|d| drop(d.remove("hub"))).contains("hub"));
    assert!(with(&|d| drop(d.remove("members"))).contains("members"));
    assert!(with(&replace("federation", Value::Str("two words".into()))).contains("two words"));
    assert!(with(&replace("federation", Value::Str("a+b".into()))).contains("a+b"));
    assert!(with(&replace("members", Value::List(vec![]))).contains("0 members"));
    assert!(with(&replace("members", Value::List(vec![member("gb"), member("gb")]))).contains("twice"));
    assert!(with(&replace("members", Value::List(vec![member("GB")]))).contains("GB"));
    assert!(with(&replace("faults", Value::Int(2))).contains("faults"));
    assert!(with(&replace("faults", Value::Int(-1))).contains("-1"));
    // One key for two members would let one organisation count as two.
    let twin = || {
        let Value::Map(mut it) = member("it") else { panic!("a map") };
        it.insert("cosign".to_owned(), Value::Str(public("gb", "cosign").to_string()));
        Value::Map(it)
    };
    assert!(with(&replace("members", Value::List(vec![member("gb"), twin()]))).contains("used twice"));
    let weak = || {
        let Value::Map(mut it) = member("it") else { panic!("a map") };
        it.insert("sign".to_owned(), Value::Str(format!("01{}", "00".repeat(31))));
        Value::Map(it)
    };
    assert!(with(&replace("members", Value::List(vec![weak()]))).contains("public key"));
    assert!(matches!(Roster::of_charter(&Value::Null), Err(Why::Charter(_))));
}
