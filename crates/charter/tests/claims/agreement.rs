//! The charter: proposed once, in force when every member has signed.

use crate::federation::*;
use charter::body::*;
use charter::{State, Status};
use record::canon::Value;
use record::{Entry, SecretKey, SignedStatement, Statement};

fn proposed() -> Federation {
    let mut f = Federation::empty();
    valid(f.propose("gb", charter()));
    f
}

#[test]
fn a_charter_is_in_force_only_when_all_nine_have_signed() {
    let mut f = proposed();
    for (signed, member) in MEMBERS.iter().enumerate() {
        assert!(!f.state.in_force(), "in force with {signed} of nine");
        assert!(f.state.charter_in_force().is_none());
        valid(f.sign(member));
    }
    assert!(f.state.in_force());
    assert_eq!(f.state.roster.in_force_at, Some(9));
    assert_eq!(f.state.charter_in_force(), Some(&charter()));
    assert_eq!(f.state.charter_digest, Some(charter().digest().unwrap()));
}

#[test]
fn any_one_missing_signature_keeps_the_charter_out_of_force() {
    for absent in MEMBERS {
        let mut f = proposed();
        MEMBERS.iter().filter(|m| **m != absent).for_each(|m| valid(f.sign(m)));
        assert!(!f.state.in_force(), "in force without {absent}");
        // One member signing in another's name does not help.
        let forged = f.statement(
            absent,
            "node",
            CharterSign::TYPE,
            &CharterSign { charter: charter().digest().unwrap() },
        );
        let other = if absent == "gb" { "it" } else { "gb" };
        void(f.put(forged, &key(other, "sign")), "not_signed");
        assert!(!f.state.in_force(), "in force by a forged signature of {absent}");
        void(
            f.would(|f| f.node("gb", NodeStop::TYPE, &NodeStop { reason: "".into() })),
            "charter not in force",
        );
    }
}

#[test]
fn signatures_count_in_any_order() {
    let fold = |order: &mut dyn Iterator<Item = &&str>| {
        let mut f = proposed();
        order.for_each(|m| valid(f.sign(m)));
        f.state
    };
    let forwards = fold(&mut MEMBERS.iter());
    let backwards = fold(&mut MEMBERS.iter().rev());
    assert_eq!(bare(&forwards), bare(&backwards));
    assert!(backwards.in_force());
}

#[test]
fn a_second_charter_is_void_before_and_after_the_first_is_in_force() {
    let other = charter::Charter { title: "Another".into(), ..charter() };
    let f = proposed();
    void(f.would(|f| f.propose("it", other.clone())), "a charter was proposed before");
    void(f.would(|f| f.propose("gb", charter())), "a charter was proposed before");
    let f = Federation::agreed();
    void(f.would(|f| f.propose("it", other)), "a charter was proposed before");
}

#[test]
fn a_signature_counts_once_and_for_the_proposed_charter_only() {
    let mut f = Federation::empty();
    void(f.sign("gb"), "no charter proposed");
    valid(f.propose("gb", charter()));
    let other = CharterSign { charter: record::Digest::of(b"another charter") };
    void(f.would(|f| f.node("it", CharterSign::TYPE, &other)), "signs another charter");
    valid(f.sign("it"));
    void(f.sign("it"), "signed before");
    let stranger = f.statement("fr", "node", CharterSign::TYPE, &other);
    void(f.put(stranger, &key("fr", "sign")), "not_a_member");
    assert_eq!(f.state.roster.signed_by.len(), 1);
}

#[test]
fn a_proposal_counts_only_if_a_member_of_it_signed_it() {
    let mut f = Federation::empty();
    let body = CharterPropose { charter: charter() };
    let outsider = f.statement("fr", "node", CharterPropose::TYPE, &body);
    void(f.put(outsider, &key("fr", "sign")), "not_a_member");
    let forged = f.statement("gb", "node", CharterPropose::TYPE, &body);
    void(f.put(forged, &key("it", "sign")), "not_signed");
    assert_eq!(f.state.charter_digest, None);
    valid(f.propose("gb", charter()));
}

#[test]
fn a_proposal_that_breaks_the_rules_is_void_and_leaves_room_for_the_next() {
    let mut f = Federation::empty();
    let mut broken = charter();
    broken.aggregator_pool.truncate(1);
    void(f.propose("gb", broken), "charter, aggregator_pool: found 1 aggregators, expected two or more");
    assert!(f.state.charter.is_none() && f.state.roster.members.is_empty());
    valid(f.propose("it", charter()));
}

#[test]
fn a_proposal_whose_map_says_more_than_the_charter_is_void() {
    // `faults` as null reads like an absent one but would be signed under another digest.
    let mut f = Federation::empty();
    let mut map = record::canon::to_value(&charter()).unwrap().as_map().unwrap().clone();
    map.insert("faults".into(), Value::Null);
    let body = Value::Map([("charter".to_string(), Value::Map(map))].into());
    void(f.seat("gb", "signatory", CharterPropose::TYPE, &body), "charter not in canonical form");
    assert!(f.state.roster.members.is_empty());
    valid(f.propose("gb", charter()));
}

#[test]
fn a_charter_that_passes_here_passes_the_roster_too() {
    // The bounds of both folds are one: else a charter could be parsed and signed at home and be void in the record.
    let map = record::canon::to_value(&charter()).unwrap();
    assert!(record::roster::Roster::of_charter(&map).is_ok());
    let edits: [fn(&mut charter::Charter); 4] = [
        |c| c.members[0].id = "x".repeat(33),
        |c| c.hub.operator = "two\nlines".into(),
        |c| c.hub.jurisdiction = String::new(),
        |c| c.federation = "Stroke Nine".into(),
    ];
    for (at, edit) in edits.into_iter().enumerate() {
        let mut edited = charter();
        edit(&mut edited);
        let map = record::canon::to_value(&edited).unwrap();
        assert!(record::roster::Roster::of_charter(&map).is_err(), "roster takes edit {at}");
        assert!(edited.check("charter", "").is_err(), "charter takes edit {at}");
    }
}

#[test]
fn nothing_counts_before_the_charter_is_in_force() {
    let mut f = proposed();
    MEMBERS.iter().skip(1).for_each(|m| valid(f.sign(m)));
    let dictionary = DictionaryRegister { dictionary: dictionary() };
    void(f.would(|f| f.seat("it", "steward", DictionaryRegister::TYPE, &dictionary)), "charter not in force");
    void(
        f.would(|f| f.node("it", PolicyFloor::TYPE, &PolicyFloor { text: FLOOR.into() })),
        "charter not in force",
    );
    valid(f.sign("gb"));
    valid(f.seat("it", "steward", DictionaryRegister::TYPE, &dictionary));
}

#[test]
fn only_the_issuers_own_key_speaks_for_it() {
    let mut f = Federation::agreed();
    let stop = NodeStop { reason: "".into() };
    let forged = f.statement("it", "node", NodeStop::TYPE, &stop);
    void(f.put(forged, &key("gb", "sign")), "not_signed");
    let wrong_use = f.statement("it", "node", NodeStop::TYPE, &stop);
    void(f.put(wrong_use, &key("it", "cosign")), "not_signed");
    let stranger = f.statement("fr", "node", NodeStop::TYPE, &stop);
    void(f.put(stranger, &key("fr", "sign")), "not_a_member");
    assert!(f.state.stopped.is_empty());
    valid(f.node("it", NodeStop::TYPE, &stop));
    assert!(f.state.stopped.contains("it"));
}

#[test]
fn a_bad_second_signature_voids_and_a_good_one_does_not() {
    let mut f = Federation::agreed();
    let stop = |f: &mut Federation| -> Statement {
        f.statement("it", "node", NodeStop::TYPE, &NodeStop { reason: "".into() })
    };
    let statement = stop(&mut f);
    let mut signed = SignedStatement::sign(statement, &key("it", "sign")).unwrap();
    // A signature line of another statement under this one.
    let other = SignedStatement::sign(stop(&mut f), &key("gb", "sign")).unwrap();
    let line = String::from_utf8(other.to_bytes()).unwrap().lines().nth(1).unwrap().to_string();
    let text = String::from_utf8(signed.to_bytes()).unwrap();
    let spoilt = text.replacen("\n\n", &format!("\n{line}\n\n"), 1);
    let spoilt = SignedStatement::from_bytes(spoilt.as_bytes()).unwrap();
    void(f.enter(Entry::new(f.time, spoilt)), "bad_signature");
    signed.add_signature(&key("gb", "sign")).unwrap();
    valid(f.enter(Entry::new(f.time, signed)));
}

#[test]
fn an_empty_state_answers_and_is_in_force_for_nobody() {
    let state = State::new();
    assert!(!state.in_force() && state.charter_in_force().is_none());
    assert_eq!(state.phase("aspirin", START), None);
    assert!(state.earlier_sets("a", 1, "ist", u64::MAX).is_empty());
    assert_eq!(state.digest().unwrap(), State::default().digest().unwrap());
    let mut f = Federation::empty();
    let stranger = SecretKey::from_seed([7; 32]);
    let statement = f.statement("gb", "node", "node.stop@1", &NodeStop { reason: "".into() });
    assert_eq!(f.put(statement, &stranger), Status::Void("charter not in force".into()));
}
