//! A lying collector: it wants more rounds than there are, or other numbers in its table than the sums give.

use crate::house::{House, MINUTE, count, regression, study};
use crate::pooled;
use analysis::{AnalysisResult, Question, Sums, Table};
use charter::Phase;
use charter::body::{ReleasePublish, RoundCommit, RunJoin, RunVerdict};
use node::Command;
use record::Digest;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use study::Study;
use wire::SignedFrame;

#[test]
fn a_collector_that_repeats_a_round_is_given_nothing_again() {
    let mut house = House::eight();
    house.ask_and_approve("fit", &regression("fit"));
    house.until("a round of the regression opened", |h| {
        h.frames("opening").iter().any(|f| f.place.stage == 1 && f.place.round == 1)
    });
    // Another key of the run, a second commitment and a second verdict: each void. And its frames all over again.
    let kem = rounds::KemSecret::generate().public().to_string();
    let join = RunJoin { study: "fit".into(), run: 1, kem };
    let again = RoundCommit {
        study: "fit".into(),
        run: 1,
        stage: 1,
        round: 0,
        commitment: Digest::of(b"another sum"),
    };
    let verdict = RunVerdict { study: "fit".into(), run: 1, pass: true };
    let joined = house.say_as("no", RunJoin::TYPE, "fit", "node", &join);
    let committed = house.say_as("no", RoundCommit::TYPE, "fit", "node", &again);
    let passed = house.say_as("no", RunVerdict::TYPE, "fit", "node", &verdict);
    for bytes in house.relayed.clone() {
        let to = SignedFrame::decode(&bytes).unwrap().frame().to.clone();
        house.hub.post(&to, bytes);
    }
    house.settle();
    assert_eq!(house.void(joined).as_deref(), Some("joined before"));
    assert_eq!(house.void(committed).as_deref(), Some("committed before"));
    assert_eq!(house.void(passed).as_deref(), Some("verdict given before"));
    assert!(house.released("fit"));
    let mut times: BTreeMap<_, u32> = BTreeMap::new();
    for f in house.frames("contribution").into_iter().chain(house.frames("opening")) {
        *times.entry((f.kind, f.from, f.to, f.place)).or_default() += 1;
    }
    assert!(times.len() > 40 && times.values().all(|n| *n == 1));
}

/// The questions that sites answered in a run, by stage and round.
fn questions(house: &House, study: &str, run: u32) -> BTreeMap<(u32, u32), BTreeSet<Vec<u8>>> {
    let mut all: BTreeMap<(u32, u32), BTreeSet<Vec<u8>>> = BTreeMap::new();
    for f in house.frames("contribution").into_iter().filter(|f| f.place.study == study && f.place.run == run)
    {
        all.entry((f.place.stage, f.place.round)).or_default().insert(f.body[..32].to_vec());
    }
    all
}

#[test]
fn a_collector_that_opens_nothing_and_asks_again_gets_the_same_sums_and_three_tries() {
    let mut house = House::eight();
    // It reads the guard's sums, and says neither a commitment nor a verdict.
    house.keep_out = Box::new(|id, s| {
        id == "no" && matches!(s.statement().r#type.as_str(), "round.commit@1" | "run.verdict@1")
    });
    house.ask_and_approve("deaths", &count("deaths"));
    for _ in 0..5 {
        house.settle_or(200);
        house.now += 2 * MINUTE;
        house.refresh();
    }
    house.settle_or(200);
    let runs = &house.node("gb").state().studies["deaths"].runs;
    assert_eq!(runs.len(), 3);
    assert!(runs.values().all(|r| r.lost.is_some() && r.contributors == runs[&1].contributors));
    assert!(runs.values().all(|r| r.plan == runs[&1].plan), "the plan of the same study does not change");
    assert_eq!(house.phase("deaths"), Some(Phase::GivenUp));
    let asked: Vec<_> = [1, 2, 3].map(|run| questions(&house, "deaths", run)).into();
    assert!(asked.iter().all(|q| *q == asked[0] && q.len() == 1 && q.contains_key(&(0, 0))), "{asked:?}");
    assert!(house.frames("opening").iter().all(|f| f.place.stage == 0), "sizes alone, the same three times");
    // It asks for the same under another name: what may have been opened is history, answered or not.
    house.keep_out = Box::new(|_, _| false);
    let fewer = study(
        "fewer",
        &["death14", "aspirin", "dead_dep_6m"],
        "[[analysis]]\nid = \"deaths\"\nmethod = \"crosstab\"\nby = [\"death14\", \"aspirin\"]\n",
    );
    house.ask(&fewer);
    let view =
        house.cmd("gb", Command::StudyCheck { file: "s".into(), text: fewer.replace("fewer", "fewest") });
    let earlier = view.data["plan"]["earlier"].as_array().unwrap();
    assert_eq!((earlier.len(), earlier[0]["study"].as_str()), (1, Some("deaths")), "{}", view.text);
}

/// The collector's sum of a round and its salt, as it keeps them sealed at its own place: what an audit asks for.
fn audited(house: &House, study: &str, stage: u32) -> (Digest, Vec<f64>) {
    let name = format!("sum/{study}/1/{stage}/0");
    house.node("no").flush().unwrap();
    let store = node::store::Store::open(&house.folder("no").join("store.db")).unwrap();
    let clear = house.node("no").keys().unseal(&name, &store.meta(&name).unwrap().unwrap()).unwrap();
    let (salt, bytes) = clear.split_at(16);
    let values = bytes.chunks_exact(8).map(|b| f64::from_bits(u64::from_be_bytes(b.try_into().unwrap())));
    (record::salted("comity-sum/1", salt.try_into().unwrap(), bytes), values.collect())
}

fn planned(text: &str) -> (Study, study::Plan) {
    let study = Study::parse("study.toml", text).unwrap();
    let plan = analysis::plan(&study, &pooled::dictionary(), Vec::new()).unwrap();
    (study, plan)
}

/// What the table of a count says according to the sums that the collector committed to.
fn replayed(house: &House, text: &str) -> Vec<Option<u64>> {
    let (study, plan) = planned(text);
    let (digest, values) = audited(house, "deaths", 1);
    let run = &house.node("gb").state().studies["deaths"].runs[&1];
    assert_eq!(run.commits["1/0"], digest, "the sum shown is the one committed to");
    let sums = Sums { contributors: 6, values };
    let results = analysis::combine_once(&study, &pooled::dictionary(), &plan, &sums).unwrap();
    counts(&results[0])
}

fn counts(result: &AnalysisResult) -> Vec<Option<u64>> {
    let Table::Crosstab { counts, .. } = &result.table else { panic!("not a table") };
    counts.clone()
}

fn released(output: &Value) -> Vec<Option<u64>> {
    let results: Vec<AnalysisResult> = serde_json::from_value(output["results"].clone()).unwrap();
    counts(&results[0])
}

/// The collector swaps two counts of its table before it publishes.
fn with_another_table() -> House {
    let mut house = House::eight();
    house.keep_out = Box::new(|id, s| id == "no" && s.statement().r#type == "release.publish@1");
    house.relay = Box::new(|frame| {
        let f = frame.frame();
        if f.kind == "output" { Vec::new() } else { vec![(f.to.clone(), frame.bytes().to_vec())] }
    });
    house.ask_and_approve("deaths", &count("deaths"));
    house.settle();
    let honest = house.frames("output").pop().expect("its honest half has made the output");
    let (study, plan) = planned(&count("deaths"));
    let dictionary = pooled::dictionary();
    let mut values = audited(&house, "deaths", 1).1;
    values.swap(0, 3);
    let sums = Sums { contributors: 6, values };
    let results = analysis::combine_once(&study, &dictionary, &plan, &sums).unwrap();
    let results = results.iter().map(|r| record::canon::to_value(r).unwrap()).collect();
    let run = house.node("gb").state().studies["deaths"].runs[&1].clone();
    let about =
        privacy::Run { number: 1, plan: run.plan, contributors: run.contributors.clone(), salt: [5; 16] };
    let cells = study::guard_cells(&study, &dictionary, &[]);
    let guard = audited(&house, "deaths", 0).1;
    let rules = privacy::ReleaseRules::of(&study);
    let release = privacy::Release::check(&study, &plan, &about, &cells, &guard, results, &rules).unwrap();
    let key = rounds::KemPublic::from_bytes(&hex::decode(&run.joined["gb"]).unwrap()).unwrap();
    let sealed = rounds::seal_release(&release, "no", "gb", &key).unwrap();
    let body = ReleasePublish {
        study: "deaths".into(),
        run: 1,
        output: Digest::of(release.bytes()),
        plan: run.plan,
        contributors: run.contributors,
        recipients: vec!["gb".into()],
        sealed: vec![Digest::of(&sealed)],
    };
    let frame = house.frame_as("no", "no", "gb", "output", &honest, sealed);
    house.hub.post("gb", frame);
    let said = house.say_as("no", ReleasePublish::TYPE, "deaths", "node", &body);
    house.settle();
    assert_eq!(house.void(said), None, "nobody else reads this sum, so nobody can object");
    house
}

#[test]
fn another_table_than_the_sums_give_is_believed_and_its_commitment_is_kept_against_it() {
    let mut house = with_another_table();
    assert!(house.released("deaths"));
    let shown = released(&house.output("deaths"));
    let true_table = replayed(&house, &count("deaths"));
    assert_ne!(shown, true_table, "whoever audits the commitment sees it");
    assert_eq!((shown[0], shown[3]), (true_table[3], true_table[0]));
    // The table of the commitment is that of the rows.
    let dir = tempfile::tempdir().unwrap();
    let (study, plan) = planned(&count("deaths"));
    let dictionary = pooled::dictionary();
    let question = Question::start(&study, &dictionary, &plan, 1).unwrap();
    let mut values = vec![0.0; true_table.len()];
    for (id, _, country) in crate::house::EIGHT.iter().filter(|(_, _, c)| c.is_some()) {
        let path = dir.path().join(id);
        std::fs::write(&path, engine::generate::ist(&[country.unwrap()], 1991)).unwrap();
        let vector =
            analysis::site(id, &study, &dictionary, &plan, 1, &question, &pooled::rows(&path)).unwrap();
        values.iter_mut().zip(&vector.values).for_each(|(sum, v)| *sum += v);
    }
    assert_eq!(values, true_table.iter().map(|n| n.unwrap() as f64).collect::<Vec<_>>());
}

#[test]
fn the_commitment_of_an_honest_collector_gives_the_table_that_it_published() {
    let mut house = House::eight();
    house.ask_and_approve("deaths", &count("deaths"));
    house.settle();
    assert_eq!(
        released(&house.output("deaths")),
        replayed(&house, &count("deaths")),
        "the control of the above"
    );
}
