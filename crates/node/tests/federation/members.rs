//! Members that lie about their mapping or their vector's shape, or whose own clock is wrong.

use crate::aggregator::sealed_for;
use crate::house::{House, MAPPING, MINUTE, SIX, Setup, count};
use charter::Phase;
use charter::body::DatasetRegister;
use node::Command;
use node::store::{LocalDataset, Store};
use record::Digest;
use std::cell::RefCell;
use std::rc::Rc;
use study::Cell;

const HOUR: i64 = 60 * MINUTE;

fn registered(house: &House, id: &str) -> DatasetRegister {
    let state = house.node("gb").state();
    state.dataset("ist", id).unwrap().registration.clone()
}

fn local(house: &House, id: &str) -> (Store, LocalDataset) {
    house.node(id).flush().unwrap();
    let store = Store::open(&house.folder(id).join("store.db")).unwrap();
    let dataset = store.dataset("ist").unwrap().unwrap();
    (store, dataset)
}

/// The audit: whether this text and salt are what the registration speaks of.
fn audit(registration: &DatasetRegister, salt: &[u8; 16], text: &str) -> bool {
    record::salted("comity-mapping/1", salt, text.as_bytes()) == registration.mapping
}

/// A mapping in which the other arm had the aspirin.
fn swapped() -> String {
    let text = MAPPING.replace("from = \"RXASP\"\nrecode = { N = \"no\", Y = \"yes\" }", "XX");
    let text = if text.contains("XX") {
        text.replace("XX", "from = \"RXASP\"\nrecode = { N = \"yes\", Y = \"no\" }")
    } else {
        MAPPING
            .replace("recode = { F = \"female\", M = \"male\" }", "recode = { F = \"male\", M = \"female\" }")
    };
    assert_ne!(text, MAPPING);
    text
}

#[test]
fn a_mapping_digest_is_opened_by_its_salt_and_text_and_by_nothing_else() {
    let house = House::eight();
    let own = registered(&house, "it");
    let (_, dataset) = local(&house, "it");
    assert!(audit(&own, &dataset.salt, &dataset.mapping), "what its owner shows fits");
    assert!(!audit(&own, &dataset.salt, &swapped()), "another mapping does not");
    assert!(!audit(&own, &[0; 16], &dataset.mapping), "nor another salt");
    assert!(!audit(&registered(&house, "pl"), &dataset.salt, &dataset.mapping), "nor another member's");
}

#[test]
fn a_forged_mapping_digest_is_taken_and_fits_nothing_that_its_owner_can_show() {
    // The record cannot know: the digest is salted, and only its owner could open it. What it cannot do is open it.
    let mut house = Setup::eight().without_schedule(&["it"]).build();
    let mut forged = registered(&house, "it");
    forged.name = "second".into();
    forged.mapping = Digest::of(b"no mapping at all");
    let id = house.say_as("it", DatasetRegister::TYPE, "second", "it-steward", &forged);
    house.settle();
    assert_eq!(house.void(id), None);
    let (_, dataset) = local(&house, "it");
    for text in [dataset.mapping.as_str(), &swapped(), ""] {
        assert!(!audit(&forged, &dataset.salt, text) && !audit(&forged, &[0; 16], text));
    }
    // And it answers nothing by it: its own node has no such dataset.
    let reply = house.cmd("it", Command::DatasetPause { name: "second".into() });
    assert_eq!(reply.exit, 2, "{}", reply.text);
}

#[test]
fn a_second_registration_of_a_dataset_is_refused_by_its_node_and_void_on_the_record() {
    let mut house = House::eight();
    let before = registered(&house, "it");
    let file = house.folder("it").join("data").join("dataset.toml").display().to_string();
    let text = "name = \"ist\"\ntitle = \"Rows\"\nsource = \"ist.csv\"\nmapping = \"mapping.toml\"\n\
        dictionary = \"dictionary.toml\"\nlegal_basis = \"research\"\npurposes = [\"stroke-research\"]\n\
        retention = \"2031-12-31\"\nprovenance = \"here\"\nspecial_category = true\n";
    let (_, dataset) = local(&house, "it");
    let data = std::path::Path::new(&dataset.path).parent().unwrap();
    std::fs::create_dir_all(house.folder("it").join("data")).unwrap();
    for name in ["ist.csv", "mapping.toml", "dictionary.toml"] {
        let _ = std::fs::copy(data.join(name), house.folder("it").join("data").join(name));
    }
    let reply = house.cmd("it", Command::DatasetAdd { file, text: text.into() });
    assert!(reply.exit == 2 && reply.text.contains("registered already"), "{}", reply.text);
    let mut forged = before.clone();
    forged.mapping = Digest::of(b"another");
    let id = house.say_as("it", DatasetRegister::TYPE, "ist", "it-steward", &forged);
    house.settle();
    assert_eq!(house.void(id).as_deref(), Some("dataset registered before"));
    assert_eq!(registered(&house, "it"), before);
}

/// A run in which `it` has something else on its disk than it registered.
fn with_changed(change: impl FnOnce(&House)) -> House {
    let mut house = Setup::eight().build();
    change(&house);
    house.ask_and_approve("deaths", &count("deaths"));
    house.settle_or(200);
    house
}

fn answers_nothing(house: &House) {
    assert_eq!((house.contributions_of("it"), house.contributions_of("pl")), (0, 2));
    assert!(house.frames("opening").is_empty() && !house.released("deaths"));
}

#[test]
fn a_node_whose_mapping_is_another_than_it_registered_answers_nothing() {
    let house = with_changed(|house| {
        let (store, mut dataset) = local(house, "it");
        dataset.mapping = swapped();
        store.add_dataset(&dataset).unwrap();
        store.flush().unwrap();
    });
    answers_nothing(&house);
}

#[test]
fn a_node_whose_rows_are_others_than_it_registered_answers_nothing() {
    let house = with_changed(|house| {
        let (_, dataset) = local(house, "it");
        let text = std::fs::read_to_string(&dataset.path).unwrap();
        let fewer: Vec<&str> = text.lines().enumerate().filter(|(i, _)| *i != 1).map(|(_, l)| l).collect();
        std::fs::write(&dataset.path, fewer.join("\n") + "\n").unwrap();
    });
    answers_nothing(&house);
}

#[test]
fn a_node_that_has_what_it_registered_answers() {
    let house = with_changed(|_| {});
    assert!(house.released("deaths"), "the control of the two above");
}

#[test]
fn a_share_of_another_layout_ends_the_run_unopened_and_is_named() {
    for wider in [false, true] {
        let mut house = House::eight();
        let held: Rc<RefCell<usize>> = Rc::default();
        let count_held = held.clone();
        house.relay = Box::new(move |frame| {
            let f = frame.frame();
            let lies = f.kind == "contribution" && f.from == "gb" && f.place.stage == 0;
            *count_held.borrow_mut() += usize::from(lies);
            if lies { Vec::new() } else { vec![(f.to.clone(), frame.bytes().to_vec())] }
        });
        house.ask_and_approve("deaths", &count("deaths"));
        house.until("its true shares", |_| *held.borrow() == 2);
        let lie = sealed_for(&house, "gb", |layout| {
            if wider {
                layout.cells.push(Cell::count("more", 8191));
            } else {
                layout.cells[0].name = "something else".into();
            }
        });
        let like = house.frames("contribution").into_iter().find(|f| f.from == "gb").unwrap();
        for (to, body) in lie {
            let bytes = house.frame_as("gb", "gb", &to, "contribution", &like, body);
            house.hub.post(&to, bytes);
        }
        house.settle();
        assert!(house.frames("opening").is_empty() && !house.released("deaths"));
        let lost = house.node("no").state().studies["deaths"].runs[&1].lost.clone();
        assert_eq!(lost.as_deref(), Some("a contribution was refused"));
        for id in ["ch", "se"] {
            let evidence = house.evidence(id);
            assert!(!evidence.is_empty() && evidence.iter().all(|e| e.starts_with("gb: ")), "{evidence:?}");
        }
    }
}

fn off(house: &mut House, off: i64, steps: usize) {
    for _ in 0..steps {
        house.step_off("it", off);
    }
}

#[test]
fn a_node_whose_clock_is_an_hour_off_neither_speaks_nor_contributes_and_stops_nobody_elses_record() {
    for wrong in [-HOUR, HOUR] {
        let mut house = House::eight();
        off(&mut house, wrong, 3);
        let size = house.hub.size();
        house.must("gb", Command::StudySubmit { file: "s".into(), text: count("deaths") });
        off(&mut house, wrong, 30);
        assert!(house.errors.iter().all(|(who, _)| who == "it"), "{:?}", house.errors);
        assert!(
            house.errors.iter().any(|(_, e)| e.contains("more than 60 s off this node's clock")),
            "{wrong}"
        );
        assert_eq!(
            house.phase("deaths"),
            Some(Phase::AwaitingGates { missing: vec!["it".into()] }),
            "{wrong}: the others' record goes on"
        );
        assert!(house.node("gb").watermark() > size && house.node("it").size() <= size + 1, "{wrong}");
        let said = house.said("gate.receipt@1");
        assert!(said.iter().all(|s| s.issuer != "it"), "{wrong}: it has said nothing");
        assert_eq!(house.contributions_of("it"), 0);
        // With the right time it goes on where it was, without being started again.
        house.errors.clear();
        house.settle();
        house.no_errors();
        house.approve("deaths", &SIX);
        house.settle();
        assert!(house.released("deaths"), "{wrong}: {:?}", house.phase("deaths"));
    }
}

/// A run in which `it` has its permit and has not answered, and everyone else stands still.
fn permitted(mut house: House) -> House {
    house.ask_and_approve("deaths", &count("deaths"));
    house.until("the contributors fixed", |h| {
        SIX.iter().all(|id| {
            let run = h.node(id).state().studies["deaths"].runs.get(&1);
            run.is_some_and(|r| r.sealed.is_some())
        })
    });
    house.asleep.insert("it".into());
    house.settle();
    assert_eq!((house.contributions_of("it"), house.contributions_of("gb")), (0, 2));
    house
}

#[test]
fn a_clock_that_jumps_ahead_in_a_run_keeps_the_node_from_answering() {
    let mut house = permitted(House::eight());
    off(&mut house, HOUR, 20);
    assert_eq!(house.contributions_of("it"), 0, "its watermark looks an hour old");
    assert!(house.frames("opening").is_empty());
    let mut house = permitted(House::eight());
    off(&mut house, 0, 60);
    house.settle();
    assert!(house.released("deaths"), "the control, by the same way");
}

#[test]
fn a_clock_an_hour_behind_stretches_a_nodes_own_lease_and_no_aggregator_opens_on_it() {
    for lease_hours in [1, 24] {
        let mut house = permitted(Setup { lease_hours, ..Setup::eight() }.build());
        house.asleep = house.ids().into_iter().collect();
        house.cut.insert("it".into());
        house.now += 61 * MINUTE;
        house.refresh();
        house.cut.clear();
        off(&mut house, -HOUR, 5);
        assert_eq!(house.contributions_of("it"), 2, "what is gained: shares that leave after the lease");
        // The others wake with the right time, as if they had been started again, so that no run has stood still.
        for id in house.ids() {
            house.restart(&id);
        }
        house.refresh();
        house.asleep.clear();
        house.settle_or(60);
        let live = lease_hours > 1;
        assert_eq!(!house.frames("opening").is_empty(), live, "with a longer lease it opens: the control");
        assert_eq!(house.released("deaths"), live);
    }
}
