//! The hand-over from one hub to the next, checked state by state: which rule for the base of the next term is safe.
//! Four members, of whom one may lie, and a quorum of three. `examples/handover_model.rs` checks larger worlds.

mod exhaustive;
mod model;

use stateright::{Checker, Model};

use self::model::{
    ALWAYS_A_BASE, Action, Answer, BASE_HOLDS, COMPLETES_AFTER_CRASH, ENTERED_ONCE, Flaw, Handover, History,
    NO_CONFLICT, NOTHING_HELD_UNDONE, ONE_HISTORY, Rule,
};

fn holds(model: Handover) {
    model.checker().spawn_bfs().join().assert_properties();
}

/// The shortest way to break a claim, and what is in force at its end.
fn breaks(model: Handover, claim: &'static str) -> (Vec<Action>, Vec<History>) {
    let only = Handover { only: Some(claim), ..model.clone() };
    let path = only.checker().spawn_bfs().join().assert_any_discovery(claim);
    let in_force = model.in_force(path.last_state());
    (path.into_actions(), in_force)
}

fn base_in(actions: &[Action]) -> Option<History> {
    actions.iter().find_map(|a| if let Action::Open { base, .. } = a { Some(*base) } else { None })
}

fn with_liar() -> Handover {
    Handover { liars: 1, ..Handover::default() }
}

fn with_liar_and_equivocating_hub() -> Handover {
    Handover { old_hub_lies: true, ..with_liar() }
}

#[test]
fn a_hand_over_between_honest_hubs_completes_after_a_crash_from_any_quorum_of_sign_offs() {
    let model = Handover { crashes: 1, entries: 1, ..Handover::default() };
    let names: Vec<_> = model.properties().iter().map(|p| p.name).collect();
    assert!(names.contains(&COMPLETES_AFTER_CRASH) && names.contains(&ALWAYS_A_BASE));
    holds(model);
}

#[test]
fn a_liar_neither_undoes_nor_holds_up_a_hand_over_between_honest_hubs() {
    holds(with_liar());
    holds(Handover { crashes: 1, ..with_liar() });
}

#[test]
fn a_hub_that_equivocates_with_a_liar_undoes_nothing_in_force() {
    holds(with_liar_and_equivocating_hub());
    holds(Handover { members_guard: false, ..with_liar_and_equivocating_hub() });
}

#[test]
fn two_would_be_hubs_that_equivocate_undo_nothing_in_force() {
    holds(Handover { new_hubs: 2, new_hubs_lie: true, notes: false, ..with_liar_and_equivocating_hub() });
}

#[test]
fn two_hand_overs_one_after_the_other_undo_nothing_in_force() {
    holds(Handover { handovers: 2, entries: 1, notes: false, ..with_liar() });
}

#[test]
fn among_five_with_one_liar_and_seven_with_two_nothing_in_force_is_undone() {
    let hub = Handover { notes: false, ..with_liar_and_equivocating_hub() };
    holds(Handover { members: 5, ..hub.clone() });
    holds(Handover { members: 7, faults: 2, liars: 2, ..hub });
}

#[test]
fn the_largest_note_among_the_sign_offs_is_no_safe_base() {
    let (way, in_force) =
        breaks(Handover { rule: Rule::LargestNote, liars: 1, ..Handover::default() }, NO_CONFLICT);
    assert_eq!(base_in(&way), Some(History::of(&[])));
    assert!(in_force.contains(&History::of(&[1])), "{way:?}");
}

#[test]
fn the_second_largest_of_three_claims_is_no_safe_base() {
    let (way, in_force) = breaks(Handover { rule: Rule::FaultsPlusFirst, ..with_liar() }, NO_CONFLICT);
    assert_eq!(base_in(&way), Some(History::of(&[])));
    assert!(in_force.contains(&History::of(&[1])), "{way:?}");
}

#[test]
fn the_largest_claim_on_whatever_fork_is_no_safe_base() {
    let model = Handover { rule: Rule::LargestClaim, ..with_liar_and_equivocating_hub() };
    breaks(model, NO_CONFLICT);
    holds(Handover { rule: Rule::LargestClaim, ..with_liar() });
}

#[test]
fn the_largest_claim_of_whatever_term_is_no_safe_base() {
    let model = Handover { rule: Rule::LargestClaimOfAnyTerm, handovers: 2, notes: false, ..with_liar() };
    breaks(model, BASE_HOLDS);
}

#[test]
fn answers_of_everyone_protect_what_members_hold_but_not_a_note_that_a_liar_keeps() {
    let model = Handover { rule: Rule::EveryoneAnswered, ..with_liar_and_equivocating_hub() };
    breaks(model.clone(), NO_CONFLICT);
    let held = Handover { only: Some(NOTHING_HELD_UNDONE), ..model.clone() };
    holds(held.clone());
    breaks(Handover { flaw: Flaw::ActsAfterSigningOff, ..held }, NOTHING_HELD_UNDONE);
}

#[test]
fn more_liars_than_reckoned_with_break_the_rule() {
    breaks(Handover { liars: 2, entries: 1, ..Handover::default() }, BASE_HOLDS);
}

#[test]
fn a_member_restored_from_an_old_backup_counts_as_a_liar() {
    let restored = Handover { restores: 1, notes: false, entries: 1, ..Handover::default() };
    holds(restored.clone());
    breaks(Handover { liars: 1, ..restored.clone() }, BASE_HOLDS);
    let forked = Handover { old_hub_lies: true, entries: 2, ..restored };
    breaks(forked.clone(), ONE_HISTORY);
    holds(Handover { only: Some(NO_CONFLICT), ..forked });
}

#[test]
fn a_member_that_cosigns_after_it_signed_off_breaks_the_fence() {
    let model = Handover { flaw: Flaw::CosignsAfterSigningOff, ..with_liar() };
    breaks(model.clone(), ONE_HISTORY);
    breaks(model, NO_CONFLICT);
}

#[test]
fn members_that_take_an_entry_twice_let_it_come_in_force_twice() {
    let model = Handover { flaw: Flaw::TakesEntriesTwice, ..with_liar_and_equivocating_hub() };
    breaks(model, ENTERED_ONCE);
}

/// The rule by hand: sizes of claims on one chain, and the size of the base.
#[test]
fn the_base_is_the_largest_of_three_claims_and_the_second_largest_of_four() {
    let model = Handover::default();
    let chain = |size: u32| History::of(&(1..=size).collect::<Vec<_>>());
    let base = |sizes: &[u32]| {
        let answers: Vec<Answer> =
            sizes.iter().map(|s| Answer { claim: chain(*s), note: History::default() }).collect();
        model.base(&answers)
    };
    assert_eq!(base(&[0, 1, 3]), Some(chain(3)));
    assert_eq!(base(&[0, 1, 2, 3]), Some(chain(2)));
    assert_eq!(base(&[0, 0, 0, 3]), Some(chain(0)));
}

#[test]
fn two_forks_that_could_both_be_in_force_wait_for_the_last_sign_off_or_a_note() {
    let model = Handover::default();
    let claim = |entries: &[u32]| Answer { claim: History::of(entries), note: History::default() };
    let (a, b) = (claim(&[1]), claim(&[2]));
    let presents_a = Answer { note: a.claim, ..a };
    assert_eq!(model.base(&[a, a, b]), None);
    assert_eq!(model.base(&[a, a, a, b]), Some(a.claim));
    assert_eq!(model.base(&[a, a, b, claim(&[])]), Some(a.claim));
    assert_eq!(model.base(&[a, a, b, b]), None);
    assert_eq!(model.base(&[presents_a, b, b]), Some(a.claim));
    let presents_b = Answer { note: b.claim, ..b };
    assert_eq!(model.base(&[presents_a, presents_b, a, b]), None);
}
