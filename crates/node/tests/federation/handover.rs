//! Another hub takes over while a study runs; what the first carried is gone.

use crate::house::{House, count};
use crate::restored::{back_up, put_back};
use node::control::Command;

fn but(house: &House, away: &[&str]) -> Vec<String> {
    house.ids().into_iter().filter(|id| !away.contains(&id.as_str())).collect()
}

#[test]
fn a_run_that_is_under_way_goes_on_at_the_next_hub_though_every_mailbox_is_lost() {
    let mut house = House::eight();
    house.ask_and_approve("deaths", &count("deaths"));
    // Some contributions are with the relay, and nobody has read them.
    house.relay = Box::new(|_| Vec::new());
    house.until("contributions to have left", |h| h.frames("contribution").len() >= 6);
    house.steps(3);
    house.relay = crate::house::honest();
    let all = house.ids();
    house.pass_on(&all);
    house.until("the release", |h| h.released("deaths"));
    house.settle();
    house.no_errors();
    assert_eq!(house.output("deaths")["study"], "deaths");
    for id in house.ids() {
        assert_eq!(house.evidence(&id), Vec::<String>::new(), "{id}");
        assert_eq!(house.node(&id).watermark(), house.hub.size(), "{id}");
    }
}

#[test]
fn what_the_first_hub_promised_and_never_showed_is_entered_once_at_the_next_and_held_against_nobody() {
    let mut house = House::eight();
    house.keep_out = Box::new(|_, _| false);
    house.must("it", Command::Stop);
    // Promised by the first hub, which dies before anyone sees it.
    let now = house.now;
    let waiting = house.nodes["it"].queued(now).unwrap();
    assert_eq!(waiting.len(), 1);
    house.nodes.get_mut("it").unwrap().answered(&waiting[0].0, None, now).unwrap();
    house.now += 300_000;
    let seven = but(&house, &["no"]);
    house.cut.insert("no".into());
    house.pass_on(&seven);
    house.settle();
    house.cut.clear();
    assert_eq!(house.said("node.stop@1").len(), 1);
    assert_eq!(house.evidence("it"), Vec::<String>::new());
    assert_eq!(house.node("it").watermark(), house.hub.size());
    // What the first hub says now is nothing to those who turned.
    let note = house.hub.signed(house.hub.size(), house.hub.tree.root());
    assert!(house.nodes.get_mut("it").unwrap().sealed(&note.to_note(), house.now).is_ok());
    house.hub.second = false;
    let old = house.hub.note();
    assert!(
        house.nodes.get_mut("it").unwrap().sealed(&old, house.now).is_err(),
        "signed by the hub of a past term"
    );
}

#[test]
fn a_member_with_more_in_force_than_the_next_term_keeps_halts_and_says_so() {
    let mut house = House::eight();
    // Six that have forgotten what they cosigned, more than any charter tolerates, sign off below what is in force.
    let six = ["it", "pl", "nl", "be", "se", "no"];
    let files: Vec<_> = six.iter().map(|id| back_up(&house, id)).collect();
    house.must("gb", Command::Stop);
    house.settle();
    let kept = house.node("gb").watermark();
    six.iter().zip(&files).for_each(|(id, files)| put_back(&mut house, id, files, true));
    let base = house.pass_on(&six.map(String::from));
    assert!(base < kept);
    for id in ["gb", "ch"] {
        let status = house.cmd(id, Command::Status);
        assert_eq!(status.exit, 1);
        let words = format!("a term that begins at {base} would undo what is in force here up to {kept}");
        assert!(status.data["halted"].as_str().unwrap().contains(&words), "{}", status.text);
        assert_eq!(house.node(id).watermark(), kept);
    }
}

#[test]
fn entries_that_begin_no_term_cut_nothing_off_and_halt_nobody() {
    let mut house = House::eight();
    let early = house.node("gb").watermark();
    house.must("it", Command::Stop);
    house.settle();
    assert!(house.node("gb").watermark() > early);
    let node = house.nodes.get_mut("gb").unwrap();
    let (entries, note) = (house.hub.entries[early as usize..].to_vec(), house.hub.note());
    let refused = node.turn(early, &note, &entries, house.now).unwrap_err().public();
    assert!(refused.contains("begins no later term"), "{refused}");
    assert!(house.must("gb", Command::Status).data["halted"].is_null(), "nobody but a quorum halts it");
    assert!(node_size(&house, "gb") == house.hub.size());
}

fn node_size(house: &House, id: &str) -> u64 {
    house.node(id).size()
}
