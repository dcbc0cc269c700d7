//! Lying members and a lying hub: what they enter is void, changes nothing and stops nobody.

use crate::federation::*;
use crate::scenario::{TYPES, whole};
use charter::body::*;
use charter::{Stage, State, Status, VoteChoice};
use proptest::prelude::*;
use record::canon::Value;
use record::{Digest, Entry, SignedStatement, Statement};
use std::sync::LazyLock;

static WHOLE: LazyLock<Federation> = LazyLock::new(whole);

#[test]
fn the_same_entries_give_the_same_digest_in_two_folds() {
    let (one, two) = (fold(&WHOLE.entries), fold(&WHOLE.entries));
    assert_eq!(one.digest().unwrap(), two.digest().unwrap());
    assert_eq!(one.digest().unwrap(), WHOLE.state.digest().unwrap());
    // From bytes as a mirror has them, too.
    let bytes: Vec<Vec<u8>> = WHOLE.entries.iter().map(Entry::to_bytes).collect();
    let read: Vec<Entry> = bytes.iter().map(|b| Entry::from_bytes(b).unwrap()).collect();
    assert_eq!(fold(&read).digest().unwrap(), one.digest().unwrap());
    // And the digest is of everything: one entry less is another state.
    assert_ne!(fold(&WHOLE.entries[1..]).digest().unwrap(), one.digest().unwrap());
    assert_ne!(fold(&WHOLE.entries[..WHOLE.entries.len() - 1]).digest().unwrap(), one.digest().unwrap());
}

#[test]
fn a_statement_of_unknown_type_is_void_and_stops_nobody() {
    let mut f = Federation::approved(aspirin());
    for unknown in ["study.submit@2", "charter.amend@1", "anything.at-all@7", "run.set@11"] {
        void(f.node("it", unknown, &Value::Map(Default::default())), "unknown type");
    }
    valid(f.set("ch", "aspirin", 1, everyone()));
}

#[test]
fn a_body_that_does_not_fit_its_type_is_void() {
    let f = Federation::running(aspirin());
    let empty = Value::Map(Default::default());
    let more = Value::Map([("unasked".to_string(), Value::Bool(true))].into());
    for r#type in TYPES.iter().filter(|t| **t != CharterPropose::TYPE) {
        for body in [&empty, &more, &Value::Null, &Value::Int(1)] {
            // Every seat in turn, so that it is the body that is refused.
            for actor in ["it-steward", "it-counsel", "it-scientist"] {
                let status = f.would(|f| f.say("it", actor, r#type, body));
                let Status::Void(reason) = status else { panic!("{type} took {body:?}") };
                let malformed = format!("malformed body of {type}");
                assert!(reason == malformed || reason.starts_with("actor holds no"), "{type}: {reason}");
            }
        }
    }
}

#[test]
fn a_copy_under_another_key_does_not_make_the_real_vote_a_repeat() {
    // An id is of the statement's bytes alone. A member or a hub that knows them enters a copy signed by itself first.
    let mut f = Federation::gated(aspirin());
    let ballot = f.ballot("aspirin", VoteChoice::Yes);
    let vote = f.statement("it", "it-steward", DecisionVote::TYPE, &ballot);
    void(f.put(vote.clone(), &key("ar", "sign")), "not_signed");
    valid(f.put(vote.clone(), &key("it", "sign")));
    assert!(f.state.studies["aspirin"].votes.contains_key("it"));
    void(f.put(vote, &key("it", "sign")), "repeated statement");
}

#[test]
fn a_copy_under_another_key_does_not_swallow_a_stop() {
    let mut f = Federation::agreed();
    let stop = f.statement("it", "node", NodeStop::TYPE, &NodeStop { reason: "".into() });
    void(f.put(stop.clone(), &key("ar", "sign")), "not_signed");
    let id = SignedStatement::sign(stop.clone(), &key("it", "sign")).unwrap().id();
    assert!(!f.state.seen.contains(&id), "a stop heard from the node holds until the record has it");
    valid(f.put(stop, &key("it", "sign")));
    assert!(f.state.stopped.contains("it") && f.state.seen.contains(&id));
}

#[test]
fn a_void_statement_stays_void_when_it_is_entered_again_later() {
    let mut f = Federation::gated(aspirin());
    let early = {
        let body = RunSet {
            study: "aspirin".into(),
            run: 1,
            contributors: everyone(),
            plan: plan_of("aspirin"),
            kem: kem("ch"),
        };
        f.statement("ch", "node", RunSet::TYPE, &body)
    };
    void(f.put(early.clone(), &key("ch", "sign")), "the study is not approved");
    f.all_yes("aspirin");
    void(f.put(early, &key("ch", "sign")), "repeated statement");
}

#[test]
fn replaying_the_whole_record_changes_nothing() {
    let mut f = WHOLE.clone();
    for entry in WHOLE.entries.clone() {
        let status = f.enter(Entry::new(f.time, entry.signed));
        assert!(matches!(status, Status::Void(_)));
    }
    assert_eq!(bare(&f.state), bare(&WHOLE.state));
}

#[test]
fn no_number_that_a_member_may_say_leaves_the_state_without_a_digest() {
    const MOST: i64 = (1 << 53) - 1;
    let mut f = Federation::sealed(aspirin());
    for lease_until in [MOST, -MOST, i64::from(u32::MAX)] {
        let receipt =
            GateReceipt { lease_until, allow: false, ..f.receipt("it", "aspirin", Stage::Contribute, false) };
        f.would(|f| {
            let status = f.node("it", GateReceipt::TYPE, &receipt);
            f.state.digest().unwrap();
            status
        });
    }
    valid(f.commit("no", "aspirin", u32::MAX, u32::MAX));
    f.state.digest().unwrap();
    // The longest periods that a charter may set.
    let text = charter_toml()
        .replace("deadline_hours = 72", "deadline_hours = 8784")
        .replace("valid_days = 90", "valid_days = 3660");
    let mut f = Federation::empty();
    let charter = charter::Charter::parse("charter.toml", &text).unwrap();
    let digest = charter.digest().unwrap();
    valid(f.propose("gb", charter));
    MEMBERS.iter().for_each(|m| valid(f.node(m, CharterSign::TYPE, &CharterSign { charter: digest })));
    f.state.digest().unwrap();
}

/// Every index that a state holds, moved back by one if it lies beyond `at`.
fn close_gap(state: &mut State, at: u64) {
    let back = |index: &mut u64| {
        if *index > at {
            *index -= 1;
        }
    };
    state.roster.in_force_at.iter_mut().for_each(back);
    state.dictionaries.values_mut().for_each(|d| back(&mut d.1));
    state.datasets.values_mut().for_each(|d| back(&mut d.index));
    for schedule in state.schedules.values_mut() {
        back(&mut schedule.adopted);
        schedule.confirmed.iter_mut().for_each(|c| back(&mut c.1));
    }
    for study in state.studies.values_mut() {
        let study = std::sync::Arc::make_mut(study);
        back(&mut study.index);
        study.proposed.values_mut().for_each(|r| back(&mut r.index));
        for vote in study.votes.values_mut() {
            back(&mut vote.index);
            vote.revoked.iter_mut().for_each(back);
        }
        for run in study.runs.values_mut() {
            back(&mut run.first);
            run.sealed.iter_mut().chain(&mut run.lost_at).for_each(back);
            run.receipts.values_mut().chain(&mut run.release_gate).for_each(|r| back(&mut r.index));
            run.verdict.iter_mut().for_each(|v| back(&mut v.1));
            run.release.iter_mut().for_each(|r| back(&mut r.1));
        }
    }
}

/// A statement made of the parts that this federation's statements have, well put together or not.
#[derive(Clone, Debug)]
struct Said {
    kind: usize,
    issuer: usize,
    /// 0 to 3: the issuer's own seats; 4: software; 5: another member's steward.
    actor: usize,
    /// The key: 0 to 7 the issuer's own, else another member's.
    signer: usize,
    study: usize,
    variant: u32,
    wait: i64,
}

fn said() -> impl Strategy<Value = Said> {
    let wait = prop_oneof![8 => 0..5000_i64, 1 => 0..100 * HOUR, 1 => -HOUR..0, 1 => Just(400 * DAY)];
    let numbers = (0..25_usize, 0..10_usize, 0..6_usize, 0..9_usize, 0..5_usize, 0..8_u32);
    (numbers, wait).prop_map(|((kind, issuer, actor, signer, study, variant), wait)| Said {
        kind,
        issuer,
        actor,
        signer,
        study,
        variant,
        wait,
    })
}

impl Said {
    fn statement(&self, f: &mut Federation) -> Statement {
        let issuer = MEMBERS.get(self.issuer).copied().unwrap_or("fr");
        let actor = match self.actor {
            4 => "node".to_string(),
            5 => "it-steward".to_string(),
            seat => format!("{issuer}-{}", ["steward", "counsel", "scientist", "signatory"][seat]),
        };
        let study = ["aspirin", "old", "young", "other", "new"][self.study].to_string();
        let (odd, run) = (self.variant % 2 == 1, self.variant % 3);
        let text = if odd { FLOOR } else { "another" }.to_string();
        let (name, reason) = (if odd { "ist" } else { "other" }.to_string(), String::new());
        let kem = kem(if odd { issuer } else { "other" });
        let stage = [Stage::Propose, Stage::Contribute, Stage::Release][run as usize];
        let study_digest = f.state.studies.get(&study).map_or(Digest::of(b""), |s| s.digest);
        let contributors = if self.variant < 6 { everyone() } else { without("gb") };
        let plan = plan_of(&study);
        let signs = charter().digest().unwrap();
        let mut make = |r#type: &str, body: Value| f.statement(issuer, &actor, r#type, &body);
        let value = |body: &dyn erased::Body| body.value();
        match self.kind {
            0 => make(CharterPropose::TYPE, value(&CharterPropose { charter: charter() })),
            1 => make(CharterSign::TYPE, value(&CharterSign { charter: signs })),
            2 => make(PolicyFloor::TYPE, value(&PolicyFloor { text })),
            3 => {
                let (regime, as_of) = ("EU".into(), "2025-12-01".into());
                make(ScheduleAdopt::TYPE, value(&ScheduleAdopt { regime, as_of, text }))
            }
            4 => {
                let schedule = Digest::of(text.as_bytes());
                make(ScheduleConfirm::TYPE, value(&ScheduleConfirm { schedule }))
            }
            5 => {
                let id = format!("ist-core/{}", self.variant);
                let dictionary = study::Dictionary { id, ..dictionary() };
                make(DictionaryRegister::TYPE, value(&DictionaryRegister { dictionary }))
            }
            6 => make(DatasetRegister::TYPE, value(&dataset(&name))),
            7 => make(DatasetPause::TYPE, value(&DatasetPause { name, reason })),
            8 => make(DatasetResume::TYPE, value(&DatasetResume { name })),
            9 => make(NodeStop::TYPE, value(&NodeStop { reason })),
            10 => make(NodeResume::TYPE, value(&NodeResume { reason })),
            11 | 22 => {
                let study = study::Study { requester: issuer.to_string(), ..named(&study) };
                make(StudySubmit::TYPE, value(&StudySubmit { study, plan }))
            }
            12 | 23 => {
                let receipt = f.receipt(issuer, &study, stage, self.variant < 6);
                f.statement(issuer, &actor, GateReceipt::TYPE, &receipt)
            }
            13 | 21 => {
                let choice = if self.variant < 6 { VoteChoice::Yes } else { VoteChoice::No };
                make(DecisionVote::TYPE, value(&DecisionVote { study, study_digest, choice }))
            }
            14 => make(DecisionRevoke::TYPE, value(&DecisionRevoke { study })),
            15 => make(RunSet::TYPE, value(&RunSet { study, run, contributors, plan, kem })),
            16 => make(RunJoin::TYPE, value(&RunJoin { study, run, kem })),
            17 => {
                let (stage, round, commitment) = (self.variant, run, Digest::of(b"sum"));
                make(RoundCommit::TYPE, value(&RoundCommit { study, run, stage, round, commitment }))
            }
            18 => make(RunVerdict::TYPE, value(&RunVerdict { study, run, pass: self.variant < 6 })),
            19 => {
                let output = ReleasePublish { run, contributors, ..f.output(&study) };
                f.statement(issuer, &actor, ReleasePublish::TYPE, &output)
            }
            24 => make(RunReady::TYPE, value(&RunReady { study, run })),
            _ => make(RunLost::TYPE, value(&RunLost { study, run, reason })),
        }
    }

    fn entry(&self, f: &mut Federation) -> Entry {
        f.time = f.time.saturating_add(self.wait);
        let statement = self.statement(f);
        let signer = if self.signer < 8 { statement.issuer.clone() } else { "ar".to_string() };
        Entry::new(f.time, SignedStatement::sign(statement, &key(&signer, "sign")).unwrap())
    }
}

/// Bodies as canonical values, whatever their type.
mod erased {
    pub trait Body {
        fn value(&self) -> record::canon::Value;
    }
    impl<T: serde::Serialize> Body for T {
        fn value(&self) -> record::canon::Value {
            record::canon::to_value(self).unwrap()
        }
    }
}

/// What no record whatever may lead to.
fn check(state: &State) {
    for (id, s) in &state.studies {
        for (member, vote) in &s.votes {
            let own = s.proposed.get(member).expect("a vote after the member's own gate");
            assert!(own.allow || vote.choice == VoteChoice::No, "{id}: a yes against the own gate");
            assert!(vote.time < s.closes);
        }
        for run in s.runs.values() {
            assert_eq!(run.sealed.is_some(), s.study.aggregators.iter().all(|a| run.sets.contains_key(a)));
            assert!(run.contributors.len() >= s.study.minimum_contributors as usize);
            let yes = |m: &String| s.votes.get(m).is_some_and(|v| v.choice == VoteChoice::Yes);
            assert!(run.contributors.iter().all(yes), "{id}: a contributor without a yes");
            if run.verdict.is_some() {
                assert!(run.contributors.iter().all(|m| run.receipts.get(m).is_some_and(|r| r.allow)));
            }
            if let Some((release, _)) = &run.release {
                assert!(run.verdict.is_some_and(|(pass, _)| pass) && run.lost.is_none());
                assert!(run.release_gate.as_ref().is_some_and(|g| g.allow));
                assert_eq!((&release.plan, &release.contributors), (&run.plan, &run.contributors));
            }
        }
        for now in [i64::MIN, state.time, i64::MAX] {
            assert!(state.phase(id, now).is_some());
        }
    }
}

static STARTS: LazyLock<Vec<Federation>> = LazyLock::new(|| {
    vec![
        Federation::empty(),
        Federation::ready(),
        Federation::gated(aspirin()),
        Federation::approved(aspirin()),
        Federation::sealed(aspirin()),
        Federation::running(aspirin()),
        WHOLE.clone(),
    ]
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_statements_in_any_order_fold_without_a_panic_to_one_digest(
        start in 0..7_usize,
        all in prop::collection::vec(said(), 1..30),
        again in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let mut f = STARTS[start].clone();
        for said in &all {
            let entry = said.entry(&mut f);
            f.enter(entry);
            check(&f.state);
        }
        for index in again {
            let entry = f.entries[index.index(f.entries.len())].clone();
            f.enter(entry);
        }
        prop_assert_eq!(fold(&f.entries).digest().unwrap(), f.state.digest().unwrap());
    }

    #[test]
    fn a_void_statement_inserted_anywhere_leaves_the_rest_of_the_state_equal(
        at in any::<prop::sample::Index>(),
        said in said(),
        copy in prop::option::weighted(0.4, any::<prop::sample::Index>()),
    ) {
        let entries = &WHOLE.entries;
        let at = at.index(entries.len() + 1);
        let mut f = Federation {
            entries: entries[..at].to_vec(),
            state: fold(&entries[..at]),
            time: at.checked_sub(1).map_or(START, |last| entries[last].time),
        };
        let time = f.time;
        let inserted = match copy {
            // A copy of any statement, earlier or later, under the key of somebody else.
            Some(index) => {
                let statement = entries[index.index(entries.len())].signed.statement().clone();
                let signer = if statement.issuer == "ar" { "au" } else { "ar" };
                SignedStatement::sign(statement, &key(signer, "sign")).unwrap()
            }
            None => said.entry(&mut f).signed,
        };
        if f.enter(Entry::new(time, inserted)) == Status::Valid {
            return Ok(());
        }
        entries[at..].iter().for_each(|entry| { f.enter(entry.clone()); });
        f.state.statuses.remove(at);
        prop_assert_eq!(&f.state.statuses, &WHOLE.state.statuses);
        close_gap(&mut f.state, at as u64);
        prop_assert_eq!(bare(&f.state), bare(&WHOLE.state));
    }
}
