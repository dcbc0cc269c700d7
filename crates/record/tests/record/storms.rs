//! The record in storms: see [`crate::sim`]. The seeds here are few; `examples/storms.rs` runs as many as there is time
//! for.

use std::rc::Rc;

use record::Digest;

use crate::sim::journal::{frame, read, torn};
use crate::sim::shelf::Write;
use crate::sim::{Outcome, Sabotage, run};

fn holds(seed: u64) -> Outcome {
    let outcome = run(seed, None, false);
    assert!(outcome.faults.is_empty(), "seed {seed}: {:?}", outcome.faults);
    outcome
}

/// Whether the watch finds the loss of a rule within some hundred seeds.
fn is_found(sabotage: Sabotage) -> bool {
    record::keys::verify_once();
    (0..500).any(|seed| !run(seed, Some(sabotage), false).faults.is_empty())
}

#[test]
fn nothing_in_force_is_undone_in_three_hundred_storms() {
    record::keys::verify_once();
    let half = |first: u64| (first..300).step_by(2).map(holds).collect::<Vec<_>>();
    let (even, odd) = std::thread::scope(|scope| {
        let odd = scope.spawn(|| half(1));
        (half(0), odd.join().unwrap())
    });
    let all: Vec<Outcome> = even.into_iter().chain(odd).collect();
    let with = |what: &dyn Fn(&Outcome) -> u64| all.iter().map(what).sum::<u64>();
    assert!(with(&|o| o.handovers) > 100 && with(&|o| o.crashes) > 300 && with(&|o| o.restores) > 30);
    assert!(with(&|o| u64::from(o.forked)) > 30 && with(&|o| o.liars.min(1)) > 30);
    assert!(with(&|o| u64::from(o.for_people)) < 30, "few hand-overs wait for people");
    assert!(with(&|o| o.torn) > 20, "groups were torn, and nothing of them counted");
    // Several in a hundred end with something withheld that everyone must see.
    assert!(with(&|o| o.withheld.min(1)) > 9 && with(&|o| o.held_back.min(1)) > 9);
    assert!(with(&|o| o.overdue.min(1)) > 9, "members that may not cosign were looked at while they may not");
}

#[test]
fn a_seed_is_the_same_each_time() {
    for seed in [3, 17, 170] {
        assert_eq!(holds(seed).trace, holds(seed).trace);
    }
}

#[test]
fn a_member_that_was_shown_a_history_left_behind_follows_the_next_term() {
    [153, 179].into_iter().for_each(|seed| drop(holds(seed)));
}

#[test]
fn a_seal_of_a_term_that_was_signed_off_is_learned_in_the_next() {
    [305, 626].into_iter().for_each(|seed| drop(holds(seed)));
}

#[test]
fn a_restored_member_signs_off_with_what_it_was_told() {
    holds(132);
}

#[test]
fn a_restored_member_remembers_that_it_signed_off() {
    [130, 1072].into_iter().for_each(|seed| drop(holds(seed)));
}

#[test]
fn what_was_in_force_before_two_histories_parted_stays() {
    holds(7971);
}

/// Found by a storm: a restored member remembered its own sign-off, and with it a claim to an entry that nobody but the old
/// hub had any more; it asked the next hub alone, which could not begin without it.
#[test]
fn a_restored_member_gets_what_it_cosigned_from_the_hub_that_has_it() {
    let outcome = holds(9613);
    assert_eq!((outcome.restores, outcome.handovers), (1, 1), "the storm is another one: find it again");
}

#[test]
fn a_member_whose_new_key_is_not_in_force_yet_signs_off_with_both() {
    [1646, 3075, 5286].into_iter().for_each(|seed| drop(holds(seed)));
}

#[test]
fn a_member_whose_suspension_is_not_in_force_signs_off() {
    assert!(holds(1806).for_people, "two histories could be in force");
}

#[test]
fn a_member_that_fell_still_shows_others_what_it_cosigned() {
    holds(3617);
}

#[test]
fn a_disk_that_says_no_writes_a_group_as_a_whole() {
    holds(7099);
}

#[test]
fn a_member_restored_on_the_other_side_of_a_fork_waits_for_people() {
    assert!(holds(6806).for_people);
}

#[test]
fn a_group_of_writes_of_which_any_part_is_missing_counts_for_nothing() {
    let id = Digest::of(b"a statement");
    let group = [
        Write::Cut(3),
        Write::Entries(3, vec![b"one".to_vec(), Vec::new()], "note".into()),
        Write::Note("cosigned".into(), String::new()),
        Write::Queue(id, Rc::from(b"bytes".as_slice())),
        Write::Dequeue(id),
    ];
    let whole = frame(&group);
    assert_eq!(frame(&read(&whole)), whole);
    for cut in 0..whole.len() {
        assert!(read(&whole[..cut]).is_empty(), "the first {cut} bytes");
        let mut late = whole.clone();
        late[..=cut].fill(0);
        assert!(late == whole || read(&late).is_empty(), "all but the first {cut} bytes");
    }
    for n in 0..100 {
        let group = [Write::Note(format!("{n}"), "text".into())];
        assert!(read(&torn(frame(&group))).is_empty(), "{n}");
    }
}

#[test]
fn a_disk_that_forgets_what_was_cosigned_is_found() {
    assert!(is_found(Sabotage::ForgetsCosigned));
}

#[test]
fn a_base_that_follows_from_notes_is_found() {
    assert!(is_found(Sabotage::BaseByNotes));
}

#[test]
fn cosigning_after_a_sign_off_is_found() {
    assert!(is_found(Sabotage::NoFence));
}

#[test]
fn a_change_that_the_old_set_has_not_sealed_is_found() {
    assert!(is_found(Sabotage::OldEraIgnored));
}

#[test]
fn an_old_copy_that_does_not_ask_is_found() {
    assert!(is_found(Sabotage::RestoredDoesNotAsk));
}

#[test]
fn members_that_do_not_tell_each_other_what_waits_are_found() {
    assert!(is_found(Sabotage::NoExchange));
}

#[test]
fn statements_that_a_new_term_loses_are_found() {
    assert!(is_found(Sabotage::DropsCut));
}

#[test]
fn messages_that_leave_before_the_disk_has_them_are_found() {
    assert!(is_found(Sabotage::SendsBeforeFlush));
}

#[test]
fn receipts_before_the_disk_has_them_are_found() {
    assert!(is_found(Sabotage::ReceiptFirst));
}

#[test]
fn stamps_that_go_back_are_found() {
    assert!(is_found(Sabotage::StampsBack));
}

#[test]
fn cosigning_past_what_is_withheld_is_found() {
    assert!(is_found(Sabotage::CosignsOverdue));
}
