//! Floor, schedules, dictionaries, datasets, stops.

use crate::federation::*;
use charter::body::*;
use record::Digest;

fn schedule(text: &str) -> ScheduleAdopt {
    ScheduleAdopt { regime: "EU".into(), as_of: "2025-12-01".into(), text: text.into() }
}

fn confirm(text: &str) -> ScheduleConfirm {
    ScheduleConfirm { schedule: Digest::of(text.as_bytes()) }
}

#[test]
fn the_floor_is_the_text_that_the_charter_names_and_is_published_once() {
    let mut f = Federation::agreed();
    let floor = |text: &str| PolicyFloor { text: text.into() };
    void(f.node("it", PolicyFloor::TYPE, &floor("permit all;")), "not the floor that the charter names");
    assert_eq!(f.state.floor, None);
    valid(f.node("it", PolicyFloor::TYPE, &floor(FLOOR)));
    assert_eq!(f.state.floor.as_deref(), Some(FLOOR));
    void(f.node("gb", PolicyFloor::TYPE, &floor(FLOOR)), "floor published before");
}

#[test]
fn a_schedule_is_confirmed_once_by_the_counsel_of_the_member_that_adopted_it() {
    let mut f = Federation::agreed();
    void(f.seat("it", "counsel", ScheduleConfirm::TYPE, &confirm("forbid")), "no schedule adopted");
    valid(f.node("it", ScheduleAdopt::TYPE, &schedule("forbid")));
    assert_eq!(f.state.schedules["it"].confirmed, None);
    let counsel = "actor holds no counsel seat of the issuer";
    void(f.seat("it", "steward", ScheduleConfirm::TYPE, &confirm("forbid")), counsel);
    void(f.say("it", "gb-counsel", ScheduleConfirm::TYPE, &confirm("forbid")), counsel);
    void(f.seat("it", "counsel", ScheduleConfirm::TYPE, &confirm("another")), "confirms another schedule");
    // Another member's counsel confirms nothing here.
    void(f.seat("gb", "counsel", ScheduleConfirm::TYPE, &confirm("forbid")), "no schedule adopted");
    valid(f.seat("it", "counsel", ScheduleConfirm::TYPE, &confirm("forbid")));
    let confirmed = f.state.schedules["it"].confirmed.clone().unwrap();
    assert_eq!(confirmed, ("it-counsel".to_string(), f.state.size - 1));
    void(f.seat("it", "counsel", ScheduleConfirm::TYPE, &confirm("forbid")), "confirmed before");
}

#[test]
fn a_schedule_cannot_be_replaced_by_its_owner_alone() {
    let mut f = Federation::agreed();
    valid(f.node("it", ScheduleAdopt::TYPE, &schedule("forbid")));
    void(f.node("it", ScheduleAdopt::TYPE, &schedule("weaker")), "replacing a schedule needs a decision");
    assert_eq!(f.state.schedules["it"].text, "forbid");
    valid(f.node("pl", ScheduleAdopt::TYPE, &schedule("weaker")));
}

#[test]
fn a_dictionary_is_registered_once_and_keeps_its_own_rules() {
    let mut f = Federation::agreed();
    let register = |dictionary| DictionaryRegister { dictionary };
    let steward = "actor holds no steward seat of the issuer";
    void(f.node("gb", DictionaryRegister::TYPE, &register(dictionary())), steward);
    void(f.seat("gb", "scientist", DictionaryRegister::TYPE, &register(dictionary())), steward);
    void(f.register(study::Dictionary { max_rows: 1000, ..dictionary() }), "dictionary breaks its own rules");
    valid(f.register(dictionary()));
    let other = study::Dictionary { title: "Another".into(), ..dictionary() };
    void(f.seat("it", "steward", DictionaryRegister::TYPE, &register(other)), "dictionary registered before");
    assert_eq!(f.state.dictionaries["ist-core/1"].0, dictionary());
    let next = study::Dictionary { id: "ist-core/2".into(), ..dictionary() };
    valid(f.seat("it", "steward", DictionaryRegister::TYPE, &register(next)));
}

#[test]
fn a_dataset_is_registered_by_its_own_steward_with_all_that_a_gate_asks_for() {
    let mut f = Federation::agreed();
    let register = |f: &Federation, body: &DatasetRegister| {
        f.would(|f| f.seat("it", "steward", DatasetRegister::TYPE, body))
    };
    void(register(&f, &dataset("ist")), "dictionary not registered");
    valid(f.register(dictionary()));
    let with = |edit: fn(&mut DatasetRegister)| {
        let mut body = dataset("ist");
        edit(&mut body);
        body
    };
    void(register(&f, &dataset("")), "malformed dataset name");
    void(register(&f, &dataset("ist@gb")), "malformed dataset name");
    void(register(&f, &with(|d| d.retention = "2030-02-30".into())), "malformed retention date");
    let other = "another dictionary than the owner named";
    void(register(&f, &with(|d| d.dictionary_digest = Digest::of(b"another dictionary"))), other);
    void(register(&f, &with(|d| d.legal_basis = "  ".into())), "legal basis or purposes missing");
    void(register(&f, &with(|d| d.purposes.clear())), "legal basis or purposes missing");
    let steward = "actor holds no steward seat of the issuer";
    void(f.would(|f| f.node("it", DatasetRegister::TYPE, &dataset("ist"))), steward);
    void(f.would(|f| f.seat("it", "counsel", DatasetRegister::TYPE, &dataset("ist"))), steward);
    void(f.would(|f| f.say("it", "gb-steward", DatasetRegister::TYPE, &dataset("ist"))), steward);
    valid(f.seat("it", "steward", DatasetRegister::TYPE, &dataset("ist")));
    void(register(&f, &with(|d| d.by_site = true)), "dataset registered before");
    assert!(!f.state.dataset("ist", "it").unwrap().registration.by_site);
    // The same name at another member is another dataset.
    valid(f.seat("gb", "steward", DatasetRegister::TYPE, &dataset("ist")));
    assert_eq!(f.state.dataset("ist", "gb").unwrap().owner, "gb");
}

#[test]
fn anyone_at_a_member_pauses_its_dataset_and_only_its_steward_resumes_it() {
    let mut f = Federation::ready();
    let resume = DatasetResume { name: "ist".into() };
    valid(f.pause("it"));
    assert!(f.state.dataset("ist", "it").unwrap().paused);
    assert!(!f.state.dataset("ist", "gb").unwrap().paused, "a pause is of the issuer's own data");
    void(f.node("it", DatasetResume::TYPE, &resume), "actor holds no steward seat of the issuer");
    assert!(f.state.dataset("ist", "it").unwrap().paused);
    valid(f.seat("it", "steward", DatasetResume::TYPE, &resume));
    assert!(!f.state.dataset("ist", "it").unwrap().paused);
    // Pausing again counts again, however often.
    valid(f.pause("it"));
    valid(f.pause("it"));
    assert!(f.state.dataset("ist", "it").unwrap().paused);
    let other = DatasetPause { name: "other".into(), reason: "".into() };
    void(f.node("it", DatasetPause::TYPE, &other), "no such dataset of the issuer");
    let other = DatasetResume { name: "other".into() };
    void(f.seat("it", "steward", DatasetResume::TYPE, &other), "no such dataset of the issuer");
}

#[test]
fn a_replayed_resume_does_not_undo_a_later_pause() {
    let mut f = Federation::ready();
    valid(f.pause("it"));
    valid(f.seat("it", "steward", DatasetResume::TYPE, &DatasetResume { name: "ist".into() }));
    let resume = f.entries.last().unwrap().signed.clone();
    valid(f.pause("it"));
    void(f.enter(record::Entry::new(f.time, resume)), "repeated statement");
    assert!(f.state.dataset("ist", "it").unwrap().paused);
}

#[test]
fn a_node_stops_and_resumes_itself_and_nobody_else() {
    let mut f = Federation::agreed();
    valid(f.node("it", NodeStop::TYPE, &NodeStop { reason: "operator".into() }));
    valid(f.node("gb", NodeResume::TYPE, &NodeResume { reason: "".into() }));
    assert!(f.state.stopped.contains("it"), "another member's resume starts nobody else");
    valid(f.node("it", NodeResume::TYPE, &NodeResume { reason: "".into() }));
    assert!(f.state.stopped.is_empty());
}
