//! Bytes that may not change without a new format number, and sealed releases.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::envelope::{Binding, Kind};
use crate::tests::names;
use crate::{KemSecret, RoundContext, RoundError, open_release, seal_release};
use privacy::{Release, ReleaseRules, Run};
use record::Digest;
use study::{Cell, GuardCell, Layout, Plan, Population, Protection, Recipient, Study};

fn context() -> RoundContext {
    RoundContext {
        federation: Digest::of(b"charter"),
        study: "aspirin".into(),
        run: 1,
        stage: 2,
        round: 3,
        contributors: names("ar ch it pl"),
        aggregators: names("ch se"),
        collector: "no".into(),
        replayed: true,
        plan: Digest::of(b"plan"),
        question: Digest::of(b"question"),
        layout: Layout { cells: vec![Cell::count("patients", 8191), Cell::spanning("score", -4, 4, 20)] },
    }
}

/// A format that changes on purpose gets a new number and a new file; the failing tests print its lines.
fn golden() -> Vec<(String, String)> {
    let lines = include_str!("../testdata/format-1.txt").lines();
    lines.filter_map(|l| l.split_once(' ')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn computed() -> Vec<(String, String)> {
    let ctx = context();
    let commitment = crate::opening::commitment(&ctx.digest().unwrap(), "ch", &[7; 32], b"share");
    let secret = KemSecret::from_bytes(&[9; 32]).unwrap();
    let egress: Vec<String> = ctx.egress().unwrap().iter().map(|(to, n)| format!("{to}:{n}")).collect();
    vec![
        ("slot".into(), ctx.slot().unwrap().to_string()),
        ("context".into(), ctx.digest().unwrap().to_string()),
        ("commitment".into(), commitment.to_string()),
        ("public-key".into(), Digest::of(&secret.public().to_bytes()).to_string()),
        ("egress".into(), egress.join(",")),
    ]
}

#[test]
fn digests_keys_and_lengths_of_format_one_stand() {
    let golden = golden();
    for (name, value) in computed() {
        assert!(golden.contains(&(name.clone(), value.clone())), "{name} is now {value}");
    }
}

#[test]
fn a_message_of_format_one_still_opens() {
    let sealed = golden().into_iter().find(|(k, _)| k == "key-part").unwrap().1;
    let bytes = hex::decode(sealed).unwrap();
    let secret = KemSecret::from_bytes(&[9; 32]).unwrap();
    let binding = Binding::new(&context()).unwrap();
    let opened = binding.open(Kind::KeyPart, "ch", "se", &secret, &bytes, 32);
    let Ok(plain) = opened else {
        let now = binding.seal(Kind::KeyPart, "ch", "se", &secret.public(), &[5; 32]).unwrap();
        panic!("key-part is now {}", hex::encode(now));
    };
    assert_eq!(*plain, [5; 32]);
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 0x40;
        assert!(binding.open(Kind::KeyPart, "ch", "se", &secret, &altered, 32).is_err(), "byte {at}");
    }
}

fn release() -> Release {
    let study = Study {
        id: "aspirin".into(),
        title: "t".into(),
        purpose: "p".into(),
        domain: "health".into(),
        requester: "gb".into(),
        collector: "no".into(),
        aggregators: names("ch se"),
        recipients: vec![Recipient::Member("gb".into())],
        dataset: "ist".into(),
        contributors: names("ar au it nl"),
        minimum_contributors: 4,
        dictionary: "d/1".into(),
        until: "2030-01-01".into(),
        protection: Protection { min_cell: 11, min_hidden_sites: 3 },
        population: Population::default(),
        analyses: Vec::new(),
    };
    let plan = Plan {
        study: "aspirin".into(),
        study_digest: String::new(),
        dictionary_digest: String::new(),
        earlier: Vec::new(),
        stages: Vec::new(),
    };
    let run =
        Run { number: 1, plan: Digest::of(b"plan"), contributors: study.contributors.clone(), salt: [7; 16] };
    let cells = [GuardCell::RowsRead, GuardCell::Analysed];
    Release::check(&study, &plan, &run, &cells, &[100.0, 100.0], Vec::new(), &ReleaseRules::of(&study))
        .unwrap()
}

#[test]
fn a_release_reaches_its_recipient_and_nobody_else() {
    let (gb, other) = (KemSecret::generate(), KemSecret::generate());
    let release = release();
    let sealed = seal_release(&release, "no", "gb", &gb.public()).unwrap();
    let (document, bytes) = open_release(&gb, "aspirin", 1, "no", "gb", &sealed).unwrap();
    assert_eq!(&document, release.document());
    assert_eq!(bytes.as_slice(), release.bytes());
    let refused = Err(RoundError::Release { from: "no".into() });
    let open =
        |secret, study, run, to, bytes: &[u8]| open_release(secret, study, run, "no", to, bytes).map(|_| ());
    assert_eq!(open(&other, "aspirin", 1, "gb", &sealed), refused);
    assert_eq!(open(&gb, "near-miss", 1, "gb", &sealed), refused);
    assert_eq!(open(&gb, "aspirin", 2, "gb", &sealed), refused);
    assert_eq!(open(&gb, "aspirin", 1, "it", &sealed), refused);
    assert_eq!(open(&gb, "aspirin", 1, "gb", &sealed[1..]), refused);
    assert_eq!(open(&gb, "aspirin", 1, "gb", &[]), refused);
    let mut altered = sealed.clone();
    *altered.last_mut().unwrap() ^= 1;
    assert_eq!(open(&gb, "aspirin", 1, "gb", &altered), refused);
}
