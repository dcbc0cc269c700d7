//! A lying aggregator in a whole federation: zeros in others' names, two sets, and its half given away.

use crate::house::{House, SIX, count};
use crate::pooled;
use analysis::Question;
use charter::body::RunSet;
use record::Digest;
use rounds::{KemPublic, KemSecret, Opening, RoundContext};
use std::collections::BTreeSet;
use study::{Layout, Study};
use wire::Frame;

/// The plan's own round of a stage of `deaths`, as anyone can make it from the record.
fn round(house: &House, stage: u32) -> (RoundContext, Digest) {
    let s = &house.node("gb").state().studies["deaths"];
    let study = Study::parse("study.toml", &count("deaths")).unwrap();
    let dictionary = pooled::dictionary();
    let plan = analysis::plan(&study, &dictionary, Vec::new()).unwrap();
    let start = Question::start(&study, &dictionary, &plan, stage as usize).unwrap();
    let question =
        Digest::of(&[b"comity-question/1\n".as_slice(), &record::canon::to_bytes(&start).unwrap()].concat());
    let run = &s.runs[&1];
    let ctx = RoundContext {
        federation: house.pin(),
        study: "deaths".into(),
        run: 1,
        stage,
        round: 0,
        contributors: run.contributors.clone(),
        aggregators: study.aggregators.clone(),
        collector: study.collector.clone(),
        replayed: stage == 0,
        plan: run.plan,
        question,
        layout: plan.stages[stage as usize].layout.clone(),
    };
    (ctx, question)
}

fn public(text: &str) -> KemPublic {
    KemPublic::from_bytes(&hex::decode(text).unwrap()).unwrap()
}

/// Zeros for the guard's round in somebody's name, well sealed to both aggregators, in a layout bent as asked.
pub fn sealed_for(house: &House, id: &str, bend: impl FnOnce(&mut Layout)) -> Vec<(String, Vec<u8>)> {
    let (mut ctx, question) = round(house, 0);
    bend(&mut ctx.layout);
    let run = &house.node("gb").state().studies["deaths"].runs[&1];
    let keys: Vec<(String, KemPublic)> =
        ctx.aggregators.iter().map(|a| (a.clone(), public(&run.sets[a]))).collect();
    let rules = privacy::LocalRules { max_rows: 8192, ..privacy::LocalRules::default() };
    let zeros = vec![0.0; ctx.layout.cells.len()];
    let vector = privacy::Contribution::check(&ctx.layout, &zeros, ctx.plan, &rules).unwrap();
    let sealed = rounds::contribute(&ctx, id, vector, &keys).unwrap();
    let body = |bytes: &[u8]| [question.as_bytes().as_slice(), bytes].concat();
    sealed.iter().map(|s| (s.to().to_string(), body(s.bytes()))).collect()
}

fn as_if(house: &House) -> Frame {
    house.frames("contribution").into_iter().find(|f| f.place.stage == 0).unwrap()
}

#[test]
fn an_aggregator_cannot_contribute_zeros_for_others_nor_for_itself() {
    let mut house = House::eight();
    // The true shares of five sites wait while the aggregator tries.
    let held = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let keep = held.clone();
    house.relay = Box::new(move |frame| {
        let f = frame.frame();
        let on = (f.to.clone(), frame.bytes().to_vec());
        if f.kind == "contribution" && f.from != "gb" {
            keep.borrow_mut().push(on);
            return Vec::new();
        }
        vec![on]
    });
    house.ask_and_approve("deaths", &count("deaths"));
    house.until("all shares on their way", |h| h.frames("contribution").len() == 12);
    let like = as_if(&house);
    for site in ["it", "pl", "nl", "be"] {
        for (to, body) in sealed_for(&house, site, |_| {}).into_iter().filter(|(to, _)| to == "se") {
            let forged = house.frame_as(site, "ch", &to, "contribution", &like, body.clone());
            let own = house.frame_as("ch", "ch", &to, "contribution", &like, body);
            house.hub.post(&to, forged);
            house.hub.post(&to, own);
        }
    }
    house.settle();
    assert!(house.frames("aggregate").is_empty(), "none of it was summed");
    for site in ["it", "pl", "nl", "be"] {
        assert!(house.holds_against("se", site, "it is forged"), "{:?}", house.evidence("se"));
    }
    assert!(house.holds_against("se", "ch", "a frame `contribution`"), "{:?}", house.evidence("se"));
    house.relay = crate::house::honest();
    for (to, frame) in held.borrow_mut().drain(..) {
        house.hub.post(&to, frame);
    }
    house.settle();
    assert!(house.released("deaths"), "the true ones still count");
    let mut plain = House::eight();
    plain.ask_and_approve("deaths", &count("deaths"));
    plain.settle();
    assert_eq!(house.output("deaths")["results"], plain.output("deaths")["results"]);
}

#[test]
fn zeros_under_the_sites_own_name_would_be_summed() {
    // The control: what the aggregator lacks is the site's signature, not a share that fits.
    let mut house = House::eight();
    house.relay = Box::new(|frame| {
        let f = frame.frame();
        let held = f.kind == "contribution" && f.from == "it" && f.place.stage == 0;
        if held { Vec::new() } else { vec![(f.to.clone(), frame.bytes().to_vec())] }
    });
    house.ask_and_approve("deaths", &count("deaths"));
    house.until("all shares on their way", |h| h.frames("contribution").len() == 12);
    let like = as_if(&house);
    for (to, body) in sealed_for(&house, "it", |_| {}) {
        let bytes = house.frame_as("it", "it", &to, "contribution", &like, body);
        house.hub.post(&to, bytes);
    }
    house.settle();
    assert!(!house.frames("opening").is_empty());
}

#[test]
fn an_aggregator_cannot_open_for_two_sets_of_contributors() {
    let mut house = House::eight();
    house.ask_and_approve("deaths", &count("deaths"));
    house.until("the guard opened", |h| !h.frames("opening").is_empty());
    let s = &house.node("gb").state().studies["deaths"];
    let plan = s.runs[&1].plan;
    let mut cases = Vec::new();
    for (run, who, why) in [
        (1, &SIX[..5], "differs from the set that was signed first"),
        (1, &SIX[..], "signed before"),
        (2, &SIX[..5], "the study is not approved"),
        (2, &SIX[..], "the study is not approved"),
    ] {
        let mut contributors: Vec<String> = who.iter().map(|s| s.to_string()).collect();
        contributors.sort();
        let kem = KemSecret::generate().public().to_string();
        let body = RunSet { study: "deaths".into(), run, contributors, plan, kem };
        cases.push((house.say_as("ch", RunSet::TYPE, "deaths", "node", &body), why));
    }
    // And its messages of a run that nobody else signed.
    let mut like = house.frames("aggregate").into_iter().find(|f| f.from == "ch").unwrap();
    like.place.run = 2;
    let frame = house.frame_as("ch", "ch", "se", "aggregate-1", &like, like.body.clone());
    house.hub.post("se", frame);
    house.settle();
    for (id, why) in cases {
        assert_eq!(house.void(id).as_deref(), Some(why));
    }
    assert!(house.holds_against("se", "ch", "expects of nobody now"), "{:?}", house.evidence("se"));
    assert!(house.released("deaths"));
    let opened: BTreeSet<_> = house.frames("opening").into_iter().map(|f| (f.from, f.to, f.place)).collect();
    assert_eq!(opened.len(), house.frames("opening").len(), "one opening to each reader, of one set");
}

/// A member's key of the run, as long as it has it.
fn key_of_run(house: &House, id: &str, public: &str) -> KemSecret {
    house.node(id).flush().unwrap();
    let store = node::store::Store::open(&house.folder(id).join("store.db")).unwrap();
    let sealed = store.kem(public).unwrap().unwrap();
    KemSecret::from_bytes(&house.node(id).keys().unseal(public, &sealed).unwrap()).unwrap()
}

#[test]
fn one_aggregators_key_with_everything_that_was_relayed_opens_no_sum() {
    let mut house = House::eight();
    house.ask_and_approve("deaths", &count("deaths"));
    house.until("the table opened", |h| {
        h.frames("opening").iter().filter(|f| f.place.stage == 1).count() == 2
    });
    let run = house.node("gb").state().studies["deaths"].runs[&1].clone();
    // `ch` gives its key of the run to `gb`, who asks, contributes and receives, and has all that the relay had.
    let leaked = key_of_run(&house, "ch", &run.sets["ch"]);
    let own = key_of_run(&house, "gb", run.receipts["gb"].kem.as_ref().unwrap());
    let as_recipient = key_of_run(&house, "gb", &run.joined["gb"]);
    let (ctx, _) = round(&house, 1);
    let opened = |secret: KemSecret, skip: &str| -> Option<Vec<u128>> {
        let mut machine = Opening::new(ctx.clone(), "no", secret).unwrap();
        for f in house.frames("opening").iter().filter(|f| f.place.stage == 1 && f.from != skip) {
            let _ = machine.on_message(&f.from, &f.body);
        }
        machine.sum().map(<[u128]>::to_vec)
    };
    for secret in [leaked, own, as_recipient] {
        assert_eq!(opened(secret, ""), None);
    }
    assert!(Opening::new(ctx.clone(), "gb", KemSecret::generate()).is_err(), "of this sum it is no reader");
    // The collector's key opens it, and needs both halves.
    assert!(opened(key_of_run(&house, "no", &run.joined["no"]), "").is_some(), "the control");
    for missing in ["ch", "se"] {
        assert_eq!(opened(key_of_run(&house, "no", &run.joined["no"]), missing), None);
    }
}
