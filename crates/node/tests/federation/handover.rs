//! Another hub takes over while a study runs; what the first carried is gone.

use crate::house::{House, count, next};
use crate::restored::{back_up, put_back};
use node::control::Command;
use record::SignedStatement;

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

#[test]
fn what_is_cut_off_with_a_change_of_its_authors_key_is_signed_off_under_the_key_before_it_too() {
    let mut house = House::eight();
    let early = house.hub.size();
    // `it` changes its key; only `gb` and itself see that, so it is not in force and the next hub begins below it.
    house.cut = but(&house, &["gb", "it"]).into_iter().collect();
    let rotation = crate::changes::rotation(&house, "it", false, None);
    house.must("it", Command::KeyRotate(rotation));
    house.settle();
    assert!(house.node("it").size() > early && house.node("gb").size() > early);
    let before = house.node("it").state().roster.keys("it").unwrap().sign;
    let said = SignedStatement::from_bytes(&house.sign_off("it", &next(9), false)).unwrap();
    let by: Vec<_> = said.signatures().iter().map(|s| s.key).collect();
    assert_eq!(by, [house.node("it").keys().sign().public(), before]);
    house.cut.clear();
    let all = house.ids();
    assert_eq!(house.pass_on(&all), early, "else this test shows nothing");
    house.settle();
    house.no_errors();
    // The change is entered once more, and counts.
    let after = house.node("gb").state().roster.keys("it").unwrap().sign;
    assert_eq!(after, house.node("it").keys().sign().public());
    assert_ne!(after, before);
    assert_eq!(house.node("it").watermark(), house.hub.size());
}

#[test]
fn a_sign_off_for_a_second_would_be_hub_is_said_on_purpose_alone_and_never_mixed_with_the_first() {
    let mut house = House::eight();
    let (all, never) = (house.ids(), next(20));
    let first: Vec<Vec<u8>> = all.iter().map(|id| house.sign_off(id, &never, false)).collect();
    assert_eq!(first[0], house.sign_off(&all[0], &never, false), "said again it is the same");
    // What the old hub still shows is cosigned for nobody.
    house.must("it", Command::Stop);
    house.steps(20);
    assert_eq!(house.hub.cosigners(), 0);
    for id in &all {
        let refused = house.cmd(id, Command::SignOff { next: next(9), instead: false });
        assert!(refused.exit == 2 && refused.text.contains("`--instead`"), "{}", refused.text);
    }
    let second: Vec<Vec<u8>> = all.iter().map(|id| house.sign_off(id, &next(9), true)).collect();
    house.node("gb").flush().unwrap();
    let folder = node::term::Folder::open(&house.folder("gb")).unwrap();
    let mixed = [&first[..2], &second[2..]].concat();
    assert!(folder.begin(&mixed).is_err(), "all must name one hub");
    let both = [&first[..], &second[..1]].concat();
    assert!(folder.begin(&both).is_err(), "and each member counts once");
    // Both say the same of what was cosigned: that undoes nothing.
    let claim = |bytes: &[u8]| {
        let signed = SignedStatement::from_bytes(bytes).unwrap();
        signed.statement().body_as::<record::SignOff>().unwrap().claim
    };
    first.iter().zip(&second).for_each(|(one, other)| assert_eq!(claim(one), claim(other)));
    house.pass_on_with(&second);
    house.settle();
    assert_eq!(house.node("gb").state().roster.term, 2);
    assert_eq!(house.node("it").watermark(), house.hub.size());
    // The first can begin nothing any more.
    let folder = node::term::Folder::open(&house.folder("gb")).unwrap();
    assert!(folder.begin(&first).is_err());
    assert!(house.said("node.stop@1").len() == 1, "what was cut off is entered again");
}
