//! The relay is not trusted: neither with what it carries nor with the record that it writes.

use crate::house::{House, MINUTE, SIX, Setup, count};
use crate::hub::Hub;
use crate::pooled;
use record::keys::SecretKey;
use record::{Digest, Entry, SignedStatement, Statement, Tree};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use study::Study;
use wire::SignedFrame;

/// Whose mailbox, and what goes into it.
type Post = (String, Vec<u8>);

fn is(frame: &SignedFrame, kind: &str, from: &str, to: &str) -> bool {
    let f = frame.frame();
    (f.kind.as_str(), f.from.as_str(), f.to.as_str()) == (kind, from, to)
}

fn run(house: &mut House) {
    house.ask_and_approve("deaths", &count("deaths"));
    house.settle();
    house.no_errors();
}

/// Delivers a changed copy of each share from `gb` to `ch`, before the true one.
fn with_copies(change: impl Fn(&SignedFrame) -> Vec<u8> + 'static) -> House {
    let mut house = House::eight();
    house.relay = Box::new(move |frame| {
        let mut out = Vec::new();
        if is(frame, "contribution", "gb", "ch") {
            out.push(("ch".to_string(), change(frame)));
        }
        out.push((frame.frame().to.clone(), frame.bytes().to_vec()));
        out
    });
    run(&mut house);
    house
}

#[test]
fn an_altered_frame_is_refused_and_named_and_does_not_take_the_place_of_the_true_one() {
    let mut house = with_copies(|frame| {
        let mut bytes = frame.bytes().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    });
    assert!(house.holds_against("ch", "hub", "was altered: its body"), "{:?}", house.evidence("ch"));
    assert!(house.released("deaths"));
}

#[test]
fn an_altered_header_is_refused_and_named() {
    let mut house = with_copies(|frame| {
        // The place says round 1 instead of 0: canonical, and not what was signed.
        let text = frame.bytes().to_vec();
        let at = text.windows(10).position(|w| w == b"\"round\":0,").unwrap();
        let mut bytes = text.clone();
        bytes[at + 8] = b'1';
        bytes
    });
    assert!(house.holds_against("ch", "gb", "was altered: its header"), "{:?}", house.evidence("ch"));
    assert!(house.released("deaths"));
}

#[test]
fn a_frame_that_is_no_frame_is_refused_and_named() {
    let mut house = with_copies(|_| b"comity-frame/1\nnothing of the kind".to_vec());
    assert!(house.holds_against("ch", "hub", "malformed"), "{:?}", house.evidence("ch"));
    assert!(house.released("deaths"));
}

#[test]
fn a_forged_frame_is_refused_and_named() {
    let mut house = House::eight();
    let body = house.nodes["it"].keys().sign();
    house.relay = Box::new(move |frame| {
        let mut out = Vec::new();
        if is(frame, "contribution", "gb", "ch") {
            out.push(("ch".to_string(), frame.frame().clone().sign(&body).unwrap().bytes().to_vec()));
        }
        out.push((frame.frame().to.clone(), frame.bytes().to_vec()));
        out
    });
    run(&mut house);
    assert!(house.holds_against("ch", "gb", "it is forged"), "{:?}", house.evidence("ch"));
    assert!(house.released("deaths"));
}

#[test]
fn a_frame_of_somebody_who_is_no_member_is_refused_and_named() {
    let outsider = SecretKey::from_seed([9; 32]);
    let mut house = with_copies(move |frame| {
        let mut f = frame.frame().clone();
        f.from = "zz".into();
        f.sign(&outsider).unwrap().bytes().to_vec()
    });
    assert!(
        house.holds_against("ch", "hub", "a frame from `zz`, who is no member"),
        "{:?}",
        house.evidence("ch")
    );
    assert!(house.released("deaths"));
}

#[test]
fn a_misdirected_frame_is_refused_and_named() {
    let mut house = House::eight();
    house.relay = Box::new(|frame| {
        let bytes = frame.bytes().to_vec();
        let mut out = vec![(frame.frame().to.clone(), bytes.clone())];
        if is(frame, "contribution", "gb", "ch") {
            out.push(("se".to_string(), bytes));
        }
        out
    });
    run(&mut house);
    assert!(
        house.holds_against("se", "gb", "misdirected: its recipient is `ch`"),
        "{:?}",
        house.evidence("se")
    );
    assert!(house.evidence("ch").is_empty());
    assert!(house.released("deaths"));
}

#[test]
fn a_frame_of_another_federation_is_refused_and_named() {
    let mut house = House::eight();
    let key = house.nodes["gb"].keys().sign();
    house.relay = Box::new(move |frame| {
        let mut out = vec![(frame.frame().to.clone(), frame.bytes().to_vec())];
        if is(frame, "contribution", "gb", "ch") {
            let mut f = frame.frame().clone();
            f.federation = Digest::of(b"another charter");
            out.insert(0, ("ch".to_string(), f.sign(&key).unwrap().bytes().to_vec()));
        }
        out
    });
    run(&mut house);
    assert!(house.holds_against("ch", "gb", "misdirected: its federation"), "{:?}", house.evidence("ch"));
    assert!(house.released("deaths"));
}

#[test]
fn frames_repeated_word_for_word_change_nothing() {
    let mut house = House::eight();
    house.relay = Box::new(|frame| vec![(frame.frame().to.clone(), frame.bytes().to_vec()); 3]);
    run(&mut house);
    for id in house.ids() {
        assert!(house.evidence(&id).is_empty(), "{id}: {:?}", house.evidence(&id));
    }
    assert!(house.released("deaths"));
    let mut plain = House::eight();
    run(&mut plain);
    assert_eq!(house.output("deaths")["results"], plain.output("deaths")["results"]);
}

#[test]
fn frames_out_of_order_change_nothing() {
    let mut house = House::eight();
    let held: Rc<RefCell<Vec<Post>>> = Rc::default();
    let keep = held.clone();
    house.relay = Box::new(move |frame| {
        let mut held = keep.borrow_mut();
        held.push((frame.frame().to.clone(), frame.bytes().to_vec()));
        Vec::new()
    });
    house.ask_and_approve("deaths", &count("deaths"));
    for _ in 0..200 {
        if !house.step() && !held.borrow().is_empty() {
            // Everything that waits comes at once, the last first.
            for (to, frame) in held.borrow_mut().drain(..).rev() {
                house.hub.post(&to, frame);
            }
        }
    }
    house.no_errors();
    assert!(house.released("deaths"));
}

#[test]
fn frames_held_back_until_their_run_is_given_up_are_of_no_use() {
    let mut house = House::eight();
    let held: Rc<RefCell<Vec<Post>>> = Rc::default();
    let keep = held.clone();
    house.relay = Box::new(move |frame| {
        let on = (frame.frame().to.clone(), frame.bytes().to_vec());
        if frame.frame().place.run == 1 {
            keep.borrow_mut().push(on);
            return Vec::new();
        }
        vec![on]
    });
    run(&mut house);
    assert!(house.frames("opening").is_empty() && held.borrow().len() == 12);
    house.now += 2 * MINUTE;
    house.refresh();
    house.settle();
    let runs = &house.node("gb").state().studies["deaths"].runs;
    assert_eq!(runs[&1].lost.as_deref(), Some("no progress"));
    assert!(runs[&2].release.is_some());
    let before = house.relayed.len();
    for (to, frame) in held.borrow_mut().drain(..) {
        house.hub.post(&to, frame);
    }
    house.settle();
    assert_eq!(house.relayed.len(), before, "nothing follows from them");
    assert!(house.frames("opening").iter().all(|f| f.place.run == 2));
}

#[test]
fn a_statement_that_was_promised_and_left_out_costs_the_relay_its_authors_cosignature() {
    for promised in [false, true] {
        let mut house = House::eight();
        house.keep_out = Box::new(|id, _| id == "it");
        house.must("it", node::Command::DatasetPause { name: "ist".into() });
        let now = house.now;
        let it = house.nodes.get_mut("it").unwrap();
        let (name, _) = it.queued(now).unwrap().pop().unwrap();
        // It is handed in again every ten seconds, and promised anew each time.
        for again in (0..60_000).step_by(12_000).filter(|_| promised) {
            assert!(it.queued(now + again).unwrap().iter().any(|(other, _)| *other == name));
            it.answered(&name, None, now + again).unwrap();
        }
        house.now += 61_000;
        let (entry, now) = (next(&house, "ist", house.now), house.now);
        let note = extended(&house, std::slice::from_ref(&entry));
        let it = house.nodes.get_mut("it").unwrap();
        it.extend(&note, std::slice::from_ref(&entry), now).unwrap();
        assert_eq!(it.take_cosignatures().unwrap().is_empty(), promised);
        assert_eq!(house.holds_against("it", "hub", "was promised and is not in the record"), promised);
    }
}

#[test]
fn a_swallowed_share_ends_the_run_without_an_opening_and_the_next_run_succeeds() {
    let mut house = House::eight();
    let swallowed = Rc::new(Cell::new(false));
    let flag = swallowed.clone();
    house.relay = Box::new(move |frame| {
        if is(frame, "contribution", "gb", "ch") && !flag.replace(true) {
            return Vec::new();
        }
        vec![(frame.frame().to.clone(), frame.bytes().to_vec())]
    });
    run(&mut house);
    assert!(swallowed.get() && house.frames("opening").is_empty());
    house.now += 2 * MINUTE;
    house.refresh();
    house.settle();
    let runs = &house.node("gb").state().studies["deaths"].runs;
    assert_eq!(runs[&1].lost.as_deref(), Some("no progress"));
    assert!(runs[&2].release.is_some());
    assert!(house.frames("opening").iter().all(|f| f.place.run == 2));
}

#[test]
fn what_the_relay_stores_holds_no_term_of_any_site_in_clear() {
    let mut house = House::eight();
    run(&mut house);
    let dictionary = pooled::dictionary();
    let study = Study::parse("study.toml", &count("deaths")).unwrap();
    let plan = analysis::plan(&study, &dictionary, Vec::new()).unwrap();
    let stored: Vec<&Vec<u8>> = house.relayed.iter().chain(&house.hub.entries).collect();
    let holds = |needle: &[u8]| stored.iter().any(|b| b.windows(needle.len()).any(|w| w == needle));
    assert!(holds(b"comity-frame/1"), "the search finds what is there");
    let dir = tempfile::tempdir().unwrap();
    let (mut searched, mut digits) = (0, 0);
    for (id, _, country) in crate::house::EIGHT.iter().filter(|(_, _, c)| c.is_some()) {
        let path = dir.path().join(id);
        std::fs::write(&path, engine::generate::ist(&[country.unwrap()], 1991)).unwrap();
        let frame = pooled::rows(&path);
        for stage in 0..plan.stages.len() {
            let question = analysis::Question::start(&study, &dictionary, &plan, stage).unwrap();
            let vector = analysis::site(id, &study, &dictionary, &plan, stage, &question, &frame).unwrap();
            for value in vector.values.iter().filter(|v| **v >= 2.0) {
                let k = *value as u64;
                assert!(!holds(&k.to_le_bytes()) && !holds(&k.to_be_bytes()), "{id}: {k}");
                assert!(!holds(&value.to_be_bytes()) && !holds(&value.to_le_bytes()), "{id}: {value}");
                searched += 1;
                if k > 99 {
                    assert!(
                        !holds(format!("\":{k},").as_bytes()) && !holds(format!(" {k} ").as_bytes()),
                        "{id}: {k}"
                    );
                    digits += 1;
                }
            }
        }
    }
    assert!(searched > 30 && digits > 10, "{searched}, {digits}");
}

/// A statement that the relay could sequence next, and the entry that holds it.
fn next(house: &House, subject: &str, time: i64) -> Vec<u8> {
    let body = std::collections::BTreeMap::from([("name", subject)]);
    let mut statement = Statement::new("dataset.pause@1", subject, "gb", "operator", &body).unwrap();
    statement.valid_from = Some(house.now);
    let signed = SignedStatement::sign(statement, &house.node("gb").keys().sign()).unwrap();
    Entry::new(time, signed).to_bytes()
}

/// Shows `it` one more history and says whether it took it, cosigned it or folded it.
fn taken(house: &mut House, note: &str, entries: &[Vec<u8>]) -> bool {
    let now = house.now;
    let node = house.nodes.get_mut("it").unwrap();
    let before = (node.size(), node.watermark(), node.state().digest().unwrap());
    let answer = node.extend(note, entries, now);
    let cosigned = !node.take_cosignatures().unwrap().is_empty();
    let after = (node.size(), node.watermark(), node.state().digest().unwrap());
    assert_eq!(answer.is_ok(), before.0 != after.0, "{answer:?}");
    assert_eq!(answer.is_ok(), cosigned, "{answer:?}");
    assert_eq!((before.1, before.2), (after.1, after.2), "nothing is folded before a quorum");
    answer.is_ok()
}

/// The relay's log with these entries after it, and the note over both.
fn extended(house: &House, entries: &[Vec<u8>]) -> String {
    let mut hub = house.hub.clone();
    entries.iter().for_each(|e| hub.enter(e));
    hub.note()
}

#[test]
fn the_next_entry_of_an_honest_relay_is_taken_and_cosigned() {
    let mut house = House::eight();
    let entry = next(&house, "ist", house.now);
    let note = extended(&house, std::slice::from_ref(&entry));
    assert!(taken(&mut house, &note, &[entry]), "the control of the tests below");
}

#[test]
fn an_altered_entry_is_neither_cosigned_nor_folded() {
    let mut house = House::eight();
    let entry = next(&house, "ist", house.now);
    let note = extended(&house, std::slice::from_ref(&entry));
    let other = next(&house, "ist-of-somebody-else", house.now);
    assert!(!taken(&mut house, &note, &[other]));
    let mut cut = entry.clone();
    cut.pop();
    assert!(!taken(&mut house, &note, &[cut]));
    assert!(taken(&mut house, &note, &[entry]), "the true one is still taken");
}

#[test]
fn a_checkpoint_with_another_root_or_another_key_is_not_cosigned() {
    let mut house = House::eight();
    let entry = next(&house, "ist", house.now);
    let size = house.hub.size() + 1;
    let lie = house.hub.signed(size, Digest::of(b"another history")).to_note();
    assert!(!taken(&mut house, &lie, std::slice::from_ref(&entry)));
    let mut tree: Tree = house.hub.tree.clone();
    tree.append(&entry);
    let forged = record::Checkpoint::new("comity/house", size, tree.root()).unwrap();
    let forged = forged.sign(&SecretKey::from_seed([1; 32])).to_note();
    assert!(!taken(&mut house, &forged, std::slice::from_ref(&entry)));
    let other =
        record::Checkpoint::new("comity/another", size, tree.root()).unwrap().sign(&Hub::key()).to_note();
    assert!(!taken(&mut house, &other, std::slice::from_ref(&entry)));
}

#[test]
fn a_statement_forged_by_the_relay_is_void_at_every_node() {
    let mut house = House::eight();
    let body = std::collections::BTreeMap::from([("name", "ist"), ("reason", "")]);
    let mut statement = Statement::new("dataset.pause@1", "ist", "gb", "operator", &body).unwrap();
    statement.valid_from = Some(house.now);
    let signed = SignedStatement::sign(statement, &SecretKey::from_seed([3; 32])).unwrap();
    let id = house.hub.take(&signed.to_bytes(), house.now);
    house.settle();
    assert_eq!(house.void(id).as_deref(), Some("not_signed"));
    assert!(!house.node("gb").state().dataset("ist", "gb").unwrap().paused);
}

#[test]
fn two_histories_for_two_halves_put_neither_in_force() {
    let mut house = House::eight();
    let before = house.node("gb").watermark();
    let (a, b) = (next(&house, "ist", house.now), next(&house, "another", house.now));
    let halves = [(&a, ["gb", "it", "pl", "nl"]), (&b, ["be", "se", "ch", "no"])];
    let now = house.now;
    for (entry, half) in halves {
        let note = extended(&house, std::slice::from_ref(entry));
        let mut side = house.hub.clone();
        side.enter(entry);
        for id in half {
            house.nodes.get_mut(id).unwrap().extend(&note, std::slice::from_ref(entry), now).unwrap();
            for (size, line) in house.nodes.get_mut(id).unwrap().take_cosignatures().unwrap() {
                side.cosign(size, &line);
            }
        }
        assert_eq!(side.cosigners(), 4);
        assert_eq!(side.sealed(), house.hub.clone().sealed(), "four of eight are no quorum");
    }
    assert!(house.nodes.values().all(|n| n.watermark() == before));
}

#[test]
fn a_stamp_that_goes_backwards_is_not_cosigned() {
    let mut house = House::eight();
    let entry = next(&house, "ist", house.now - 30_000);
    let note = extended(&house, std::slice::from_ref(&entry));
    let last = Entry::from_bytes(house.hub.entries.last().unwrap()).unwrap().time;
    assert!(house.now - 30_000 < last, "it goes backwards, though by less than a clock may be off");
    assert!(!taken(&mut house, &note, &[entry]));
}

#[test]
fn a_stamp_an_hour_ahead_is_not_cosigned() {
    let mut house = House::eight();
    for count in [1, 2] {
        let entries: Vec<_> =
            (0..count).map(|i| next(&house, &format!("ist-{i}"), house.now + 60 * MINUTE)).collect();
        let note = extended(&house, &entries);
        assert!(!taken(&mut house, &note, &entries), "{count} entries");
    }
}

#[test]
fn a_stamp_an_hour_back_is_not_cosigned_however_many_entries_come_together() {
    for count in [1, 2] {
        let mut house = House::eight();
        // An hour in which nothing is recorded, with the relay in reach all the time.
        for _ in 0..60 {
            house.now += MINUTE;
            house.refresh();
        }
        let entries: Vec<_> =
            (0..count).map(|i| next(&house, &format!("ist-{i}"), house.now - 59 * MINUTE)).collect();
        let note = extended(&house, &entries);
        assert!(!taken(&mut house, &note, &entries), "{count} entries");
    }
}

#[test]
fn a_member_that_was_away_catches_up_on_one_entry_as_on_many() {
    for count in [1, 2] {
        let mut house = House::eight();
        house.cut.insert("it".into());
        for i in 0..count {
            let entry = next(&house, &format!("ist-{i}"), house.now);
            house.hub.enter(&entry);
        }
        house.settle();
        for _ in 0..5 {
            house.now += MINUTE;
            house.refresh();
        }
        house.cut.clear();
        house.settle();
        house.no_errors();
        assert_eq!(house.node("it").watermark(), house.hub.size(), "{count} entries");
    }
}

#[test]
fn an_entry_that_no_quorum_saw_in_time_does_not_stop_the_record_for_ever() {
    let mut house = Setup::eight().build();
    // The relay takes an entry while half of the members are away for five minutes.
    for id in ["it", "pl", "nl", "be"] {
        house.cut.insert(id.into());
    }
    let entry = next(&house, "ist", house.now);
    house.hub.enter(&entry);
    house.settle();
    assert!(house.node("gb").watermark() < house.hub.size());
    house.now += 5 * MINUTE;
    house.cut.clear();
    house.settle();
    house.no_errors();
    for id in SIX {
        assert_eq!(house.node(id).watermark(), house.hub.size(), "{id}");
    }
}
