//! Each floor rule says no alone; nothing else than the rules decides; whatever goes wrong is a no.

use super::{at, policies, refused_by, sound};
use crate::{ColumnFacts, Verdict};
use crate::{
    EarlierRun, FLOOR, GateInput, PolicySet, RecipientFacts, Stage, Start, TableFacts, Vote, decide, explain,
    still_needed,
};
use record::Digest;
use std::collections::BTreeSet;

type Change = fn(&mut GateInput);

fn round(input: &mut GateInput, set: impl FnOnce(&mut i64, &mut bool, &mut bool)) {
    if let Start::Round { lease_until, receipt_logged, question_replayed, .. } =
        &mut input.run.as_mut().unwrap().start
    {
        set(lease_until, receipt_logged, question_replayed);
    }
}

/// For each floor rule a change to the sound case that it, and no other rule, refuses.
const CASES: [(&str, Change); 46] = [
    ("floor.charter-in-force", |i| i.charter.in_force = false),
    ("floor.charter-not-sunset", |i| i.charter.sunset = i.now),
    ("floor.schedule-confirmed", |i| i.schedule.confirmed_by = None),
    ("floor.purpose-in-charter", |i| {
        i.charter.purposes = BTreeSet::from(["service-planning".into()]);
    }),
    ("floor.study-not-expired", |i| i.study.until = i.now),
    ("floor.minimum-contributors", |i| i.study.minimum_contributors = 10),
    ("floor.two-aggregators", |i| {
        // One aggregator is in one legal order too: this rule is told apart by its own facts below.
        i.study.aggregators = vec!["ch".into()];
    }),
    ("floor.aggregators-from-pool", |i| i.study.aggregators = vec!["ch".into(), "it".into()]),
    ("floor.aggregators-disinterested", |i| i.charter.hub.operator = "ch".into()),
    ("floor.aggregators-separate-control", |i| {
        i.parties.get_mut("ch").unwrap().control = "se-stroke-centre".into();
    }),
    ("floor.aggregators-two-legal-orders", |i| i.study.aggregators = vec!["nl".into(), "se".into()]),
    ("floor.collector-disinterested", |i| i.study.requester = "no".into()),
    ("floor.hidden-sites-declared", |i| i.study.min_hidden_sites = 2),
    ("floor.hidden-sites", |i| i.study.min_hidden_sites = 5),
    ("floor.no-identifiers", |i| {
        i.plan.columns.insert("hospital".into(), ColumnFacts { role: study::Role::Identifier });
        i.dataset.as_mut().unwrap().mapped.insert("hospital".into());
    }),
    ("floor.min-cell", |i| i.study.min_cell = 4),
    ("floor.no-single-value-table", |i| i.plan.tables[0].single_values = vec!["age".into()]),
    ("floor.numbers-opened", |i| i.plan.numbers_opened = 7_373),
    ("floor.contributor-sets", |i| {
        let mut earlier = earlier(i);
        earlier.contributors.remove("it");
        earlier.contributors.remove("pl");
        i.earlier = vec![earlier];
    }),
    ("floor.differences-guarded", |i| {
        let mut earlier = earlier(i);
        earlier.same_population = false;
        i.earlier = vec![earlier];
    }),
    ("floor.output-cap", |i| i.earlier = vec![earlier(i); 64]),
    ("floor.transfer-aggregator", |i| i.study.aggregators = vec!["ch".into(), "au".into()]),
    ("floor.transfer-collector", |i| i.study.collector = "au".into()),
    ("floor.transfer-hub", |i| i.charter.hub.jurisdiction = "IN".into()),
    ("floor.transfer-recipient", |i| i.study.recipients = vec![outsider("US")]),
    ("floor.transfer-contributor", |i| i.charter.instruments.clear()),
    ("floor.dataset-registered", |i| i.dataset = None),
    ("floor.dataset-legal-basis", |i| i.dataset.as_mut().unwrap().legal_basis = " ".into()),
    ("floor.dataset-purpose", |i| i.study.purpose = "service-planning".into()),
    ("floor.dataset-not-paused", |i| i.dataset.as_mut().unwrap().paused = true),
    ("floor.dataset-retention", |i| i.dataset.as_mut().unwrap().retention = i.now),
    ("floor.mapping-tested", |i| i.dataset.as_mut().unwrap().mapping_tested = false),
    ("floor.columns-mapped", |i| {
        i.dataset.as_mut().unwrap().mapped.remove("sbp");
    }),
    ("floor.by-site-own-yes", |i| i.plan.tables[0].by_site = true),
    ("floor.not-stopped", |i| i.stopped = true),
    ("floor.steward-yes", |i| {
        i.decision.votes.insert("it".into(), Vote::No);
    }),
    ("floor.decision-quorum", |i| i.decision.quorum = 10),
    ("floor.contributors-yes", |i| {
        i.decision.votes.insert("pl".into(), Vote::Revoked);
    }),
    ("floor.run-set-signed", |i| {
        i.run.as_mut().unwrap().signed_by.remove("se");
    }),
    ("floor.run-names-node", |i| {
        i.run.as_mut().unwrap().contributors.remove("it");
    }),
    ("floor.watermark-young", |i| i.run.as_mut().unwrap().watermark_age_ms = Some(300_001)),
    ("floor.lease-live", |i| round_lease(i)),
    ("floor.receipt-logged", |i| round(i, |_, logged, _| *logged = false)),
    ("floor.question-replayed", |i| round(i, |_, _, replayed| *replayed = false)),
    ("floor.release-receipts", |i| {
        i.release.as_mut().unwrap().receipts.remove("pl");
    }),
    ("floor.release-guard", |i| i.release.as_mut().unwrap().guard_passed = false),
];

/// The change, with the run's set signed by whoever aggregates after it.
fn signed(id: &str, change: Change) -> impl FnOnce(&mut GateInput) {
    let as_is = id == "floor.run-set-signed";
    move |i| {
        change(i);
        if !as_is && let Some(run) = &mut i.run {
            run.signed_by = i.study.aggregators.iter().cloned().collect();
        }
    }
}

fn round_lease(input: &mut GateInput) {
    let now = input.now;
    round(input, |until, _, _| *until = now);
}

fn earlier(input: &GateInput) -> EarlierRun {
    EarlierRun {
        study: "before".into(),
        run: 1,
        contributors: input.study.contributors.clone(),
        shared_columns: true,
        same_population: true,
    }
}

fn outsider(jurisdiction: &str) -> RecipientFacts {
    RecipientFacts { name: "Elsewhere".into(), outside: Some(jurisdiction.into()), regime: String::new() }
}

/// Rules that a case brings along by its nature.
fn besides(id: &str) -> &'static [&'static str] {
    match id {
        "floor.two-aggregators" => &["floor.aggregators-two-legal-orders"],
        // The country schedule is stricter than the floor's 5.
        "floor.min-cell" => &["eu.min-cell-8"],
        // Without clauses neither the replayed sums nor anything else may go to Australia.
        "floor.transfer-aggregator" | "floor.transfer-collector" => &["floor.transfer-contributor"],
        // The country schedule asks for an impact assessment of a registered dataset.
        "floor.dataset-registered" => &[
            "floor.dataset-legal-basis",
            "floor.dataset-purpose",
            "floor.dataset-not-paused",
            "floor.dataset-retention",
            "floor.mapping-tested",
            "floor.columns-mapped",
            "eu.impact-assessed",
        ],
        "floor.steward-yes" => &["floor.contributors-yes"],
        _ => &[],
    }
}

#[test]
fn the_sound_case_is_allowed_at_every_step_in_every_regime() {
    for (regime, _) in crate::SCHEDULES {
        let set = policies(regime);
        let input = GateInput::sound(&set).unwrap();
        for stage in [Stage::Propose, Stage::Contribute, Stage::Release] {
            let verdict = decide(&set, &at(stage, &input));
            assert!(verdict.allow, "{regime}: {}", explain(&verdict));
        }
    }
}

#[test]
fn each_floor_rule_has_a_case_that_it_refuses_and_no_other_rule_does() {
    let (set, input) = sound();
    let mut covered = BTreeSet::new();
    for (id, change) in CASES {
        let mut case = input.clone();
        if id.starts_with("floor.release") {
            case.stage = Stage::Release;
        }
        if matches!(id, "floor.transfer-aggregator" | "floor.transfer-collector") {
            case.charter.instruments.clear();
        }
        let refused = refused_by(&set, &case, signed(id, change));
        let expected: BTreeSet<String> =
            std::iter::once(id).chain(besides(id).iter().copied()).map(str::to_string).collect();
        assert_eq!(refused.iter().cloned().collect::<BTreeSet<_>>(), expected, "{id}");
        covered.insert(id);
    }
    let mut release = at(Stage::Release, &input);
    release.release.as_mut().unwrap().check_passed = false;
    assert_eq!(refused_by(&set, &release, |_| ()), ["floor.release-check"]);
    covered.insert("floor.release-check");
    for (level, id) in set.rule_ids() {
        let needs = level == "floor" && !id.starts_with("floor.may-");
        assert!(!needs || covered.contains(id.as_str()), "no case for {id}");
    }
}

#[test]
fn rules_that_come_in_company_also_refuse_alone() {
    // Take the companions away and the rule still says no by itself.
    let (_, input) = sound();
    for (id, change) in CASES.iter().filter(|(id, _)| !besides(id).is_empty()) {
        let mut set = policies("EU");
        for other in besides(id) {
            set = set.without(other);
        }
        let mut case = input.clone();
        if matches!(*id, "floor.transfer-aggregator" | "floor.transfer-collector") {
            case.charter.instruments.clear();
        }
        assert_eq!(refused_by(&set, &case, signed(id, *change)), [*id]);
    }
}

#[test]
fn without_any_rule_everything_that_is_refused_would_be_allowed() {
    // The cases fail for their rule and not for something else.
    let (_, input) = sound();
    for (id, change) in CASES.iter().filter(|(id, _)| besides(id).is_empty()) {
        let set = policies("EU").without(id);
        let mut case = input.clone();
        if id.starts_with("floor.release") {
            case.stage = Stage::Release;
        }
        assert!(refused_by(&set, &case, signed(id, *change)).is_empty(), "{id}");
    }
}

#[test]
fn a_rule_that_errs_denies_and_is_a_fault() {
    let (set, input) = sound();
    assert!(decide(&set, &input).allow);
    let erring =
        "forbid (principal, action, resource) when { context.study.min_cell + 9223372036854775807 < 0 };";
    let verdict = decide(&set.with_unchecked(erring), &input);
    assert!(!verdict.allow);
    assert!(verdict.determining.is_empty());
    assert!(verdict.faults[0].contains("erred"), "{:?}", verdict.faults);
}

#[test]
fn a_default_deny_is_a_fault() {
    let (set, input) = sound();
    let verdict = decide(&set.without("floor.may-contribute"), &input);
    assert!(!verdict.allow);
    assert!(verdict.determining.is_empty());
    assert!(verdict.faults[0].contains("no rule decided"), "{:?}", verdict.faults);
}

#[test]
fn policies_other_than_those_on_the_record_decide_nothing() {
    let (set, input) = sound();
    let deny = |change: fn(&mut GateInput)| -> Verdict {
        let mut input = input.clone();
        change(&mut input);
        let verdict = decide(&set, &input);
        assert!(!verdict.allow);
        verdict
    };
    assert!(deny(|i| i.charter.floor = Digest::of(b"another floor")).faults[0].contains("floor"));
    assert!(deny(|i| i.schedule.digest = Some(Digest::of(b"another"))).faults[0].contains("schedule"));
    assert!(deny(|i| i.schedule.digest = None).faults[0].contains("schedule"));
    assert!(deny(|i| i.version = crate::input::VERSION + 1).faults[0].contains("version"));
    assert!(deny(|i| i.version = 0).faults[0].contains("version"));
    assert!(deny(|i| i.parties.get_mut("it").unwrap().regime = "US".into()).faults[0].contains("EU"));
}

#[test]
fn without_a_schedule_nothing_is_allowed() {
    let set = PolicySet::load(FLOOR, None).unwrap();
    let input = GateInput::sound(&set).unwrap();
    let verdict = decide(&set, &input);
    assert!(!verdict.allow);
    assert_eq!(verdict.rules(), ["floor/floor.schedule-confirmed"]);
}

#[test]
fn what_nobody_asserted_denies() {
    let (set, input) = sound();
    let refused = refused_by(&set, &input, |i| i.run = None);
    for id in [
        "run-set-signed",
        "run-names-node",
        "watermark-young",
        "lease-live",
        "receipt-logged",
        "question-replayed",
    ] {
        assert!(refused.contains(&format!("floor.{id}")), "{id} in {refused:?}");
    }
    let refused = refused_by(&set, &at(Stage::Release, &input), |i| i.release = None);
    assert_eq!(refused, ["floor.release-receipts", "floor.release-guard", "floor.release-check"]);
    assert_eq!(
        refused_by(&set, &input, |i| i.run.as_mut().unwrap().watermark_age_ms = None),
        ["floor.watermark-young"]
    );
    assert_eq!(
        refused_by(&set, &input, |i| i.run.as_mut().unwrap().watermark_age_ms = Some(-1)),
        ["floor.watermark-young"]
    );
    // A pair that was never looked up, and one that only says of itself that it is fine.
    let mut case = input.clone();
    case.transfers.retain(|t| t.to_party != "no");
    let verdict = decide(&set, &case);
    assert_eq!(verdict.rules(), ["floor/floor.transfer-collector", "floor/floor.transfer-contributor"]);
    let mut case = input.clone();
    for t in case.transfers.iter_mut().filter(|t| t.to_party == "au") {
        t.instrument = None;
        t.ok = true;
    }
    assert_eq!(decide(&set, &case).rules(), ["floor/floor.transfer-contributor"]);
    // An aggregator whose place nobody knows.
    let refused = refused_by(&set, &input, |i| {
        i.parties.remove("ch");
    });
    assert!(refused.contains(&"floor.aggregators-two-legal-orders".to_string()), "{refused:?}");
}

#[test]
fn hidden_sites_leave_out_whoever_sees_and_the_viewer_where_sums_are_replayed() {
    let (_, input) = sound();
    // Nine sites; no collects, ch and se aggregate, gb receives: it, pl, nl, au, ar are hidden, and each of
    // these sees the replayed sums and knows its own part.
    assert_eq!(input.hidden_sites(), 4);
    let mut once = input.clone();
    once.plan.replayed = false;
    assert_eq!(once.hidden_sites(), 5);
    let mut eight = input;
    eight.run.as_mut().unwrap().contributors.remove("ar");
    assert_eq!(eight.hidden_sites(), 3);
}

#[test]
fn shrinking_the_contributors_by_one_hidden_site_is_refused_and_by_many_is_not() {
    let (set, input) = sound();
    let with = |gone: &'static [&'static str]| {
        refused_by(&set, &input, move |i| {
            let mut run = earlier(i);
            for id in gone {
                run.contributors.remove(*id);
            }
            i.earlier = vec![run];
        })
    };
    assert!(with(&[]).is_empty());
    assert_eq!(with(&["it"]), ["floor.contributor-sets"]);
    assert_eq!(with(&["it", "pl"]), ["floor.contributor-sets"]);
    // Whoever sees sums takes its own out of the difference, so that it hides nobody.
    assert_eq!(with(&["it", "pl", "gb"]), ["floor.contributor-sets"]);
    assert!(with(&["it", "pl", "nl"]).is_empty());
}

#[test]
fn a_dry_check_says_what_is_still_needed_and_from_whom() {
    let (set, input) = sound();
    let mut dry = at(Stage::Propose, &input);
    dry.run = None;
    dry.release = None;
    dry.decision.votes.clear();
    assert!(decide(&set, &dry).allow, "a proposal needs no vote");
    let ids: Vec<String> = still_needed(&set, &dry).into_iter().map(|d| d.id).collect();
    assert_eq!(ids, ["floor.steward-yes", "floor.decision-quorum", "floor.contributors-yes"]);
    let who = &still_needed(&set, &dry)[0].who;
    assert!(who.contains("steward"), "{who}");
}

#[test]
fn a_blocked_study_names_the_steward_who_is_missing() {
    let (set, mut input) = sound();
    input.decision.votes.remove("ar");
    let verdict = decide(&set, &input);
    assert_eq!(verdict.rules(), ["floor/floor.decision-quorum", "floor/floor.contributors-yes"]);
    assert!(verdict.determining[1].facts.contains(&"ar has not voted".to_string()), "{verdict:?}");
    // Left out of the run, as the study's minimum of eight allows, the quorum being eight.
    input.decision.quorum = 8;
    input.run.as_mut().unwrap().contributors.remove("ar");
    assert!(decide(&set, &input).allow);
}

#[test]
fn a_withheld_release_says_no_more_than_withheld() {
    let (set, input) = sound();
    let mut case = at(Stage::Release, &input);
    case.release.as_mut().unwrap().guard_passed = false;
    case.release.as_mut().unwrap().check_passed = false;
    for rule in decide(&set, &case).determining {
        assert_eq!(rule.facts, ["withheld by disclosure control"]);
    }
}

#[test]
fn a_verdict_is_taken_again_from_the_canonical_bytes_of_its_input() {
    let (set, mut input) = sound();
    input.study.recipients = vec![outsider("US")];
    input.consult(&crate::Library::embedded().unwrap());
    let verdict = decide(&set, &input);
    let bytes = record::canon::to_bytes(&input).unwrap();
    assert_eq!(verdict.input, Digest::of(&bytes));
    let read: GateInput = record::canon::from_bytes(&bytes).unwrap();
    assert_eq!(read, input);
    let again = decide(&super::load("EU"), &read);
    assert_eq!(again, verdict);
    assert_eq!(record::canon::to_bytes(&again).unwrap(), record::canon::to_bytes(&verdict).unwrap());
    assert!(read.agrees_with(&crate::Library::embedded().unwrap()));
}

#[test]
fn an_explanation_holds_rule_level_basis_mend_and_who() {
    let (set, mut input) = sound();
    input.study.min_cell = 7;
    let text = explain(&decide(&set, &input));
    for part in
        ["country schedule of EU", "eu.min-cell-8", "own choice", "Set protection.min_cell", "the requester"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn every_fact_of_the_schema_names_who_asserts_it() {
    let facts = crate::SCHEMA.lines().map(str::trim).filter(|l| {
        l.contains(": Bool") || l.contains(": Long") || l.contains(": String") || l.contains(": Set<")
    });
    let mut n = 0;
    for line in facts {
        assert!(
            ["record", "plan", "library", "runner"]
                .iter()
                .any(|by| line.starts_with(&format!("@by(\"{by}\")"))),
            "{line}"
        );
        n += 1;
    }
    assert!(n > 50);
}

#[test]
fn a_table_by_site_needs_each_sites_own_yes() {
    let (set, input) = sound();
    let change = |yes: bool| {
        move |i: &mut GateInput| {
            i.plan.tables.push(TableFacts {
                analysis: "by-site".into(),
                columns: vec!["aspirin".into()],
                single_values: vec![],
                cells: 2,
                by_site: true,
            });
            i.dataset.as_mut().unwrap().by_site = yes;
        }
    };
    assert_eq!(refused_by(&set, &input, change(false)), ["floor.by-site-own-yes"]);
    assert!(refused_by(&set, &input, change(true)).is_empty());
}
