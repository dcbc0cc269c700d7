//! The member's machine by hand: what the storms found, each as small as it is.

use std::convert::Infallible;

use record::member::Refused;
use record::term::{Claim, SignOff, base};
use record::{Digest, Entry, Member, Shelf};

use crate::federation::{World, signed, text, vote};

/// A shelf that keeps nothing.
pub struct Nowhere;

impl Shelf for Nowhere {
    type Error = Infallible;
    fn keep_entries(&mut self, _: u64, _: &[Vec<u8>], _: &str) -> Result<(), Infallible> {
        Ok(())
    }
    fn cut_entries(&mut self, _: u64) -> Result<(), Infallible> {
        Ok(())
    }
    fn keep_note(&mut self, _: &str, _: &str) -> Result<(), Infallible> {
        Ok(())
    }
}

fn mirrored(now: impl Fn(&World) -> i64) -> (World, Member) {
    let world = World::new(&["gb", "it", "ch"]);
    let mut member = Member::new("gb", world.charter_digest());
    let note = world.cosigned(3);
    member.extend(&note.to_note(), &world.leaves, now(&world), &mut Nowhere).unwrap();
    assert!(member.raise(&note, &mut Nowhere).unwrap());
    (world, member)
}

#[test]
fn an_opening_without_sign_offs_halts_nobody() {
    let (world, mut member) = mirrored(|world| world.clock);
    let opening = signed("term.open@1", "stroke", "it", text(&[]));
    let leaf = Entry::new(world.clock, opening).to_bytes();
    let refused = member.turn(1, &world.checkpoint().to_note(), &[leaf], world.clock, &mut Nowhere);
    assert!(matches!(refused, Err(record::MemberError::Refused(Refused::NoTerm(1)))));
    assert_eq!(member.halted, None);
    assert_eq!(member.log.size(), world.log.size(), "it is as it was");
}

#[test]
fn a_clock_that_was_far_ahead_and_is_set_right_holds_nobody_back() {
    let (mut world, mut member) = mirrored(|world| world.clock + 600_000);
    let first = world.leaves.len();
    world.say(vote("it", "aspirin"));
    // The entry came while the clock was wrong, longer ago than stamps may be off.
    let now = world.clock + 90_000;
    member.extend(&world.checkpoint().to_note(), &world.leaves[first..], now, &mut Nowhere).unwrap();
    assert_eq!(member.log.size(), world.log.size());
}

/// Of five, one may lie. Four have cosigned 8 entries, which are in force; then the hub showed two histories.
#[test]
fn a_claim_beside_the_base_supports_what_was_before_the_histories_parted() {
    let world = World::new(&["a", "b", "c", "d", "e"]);
    let roster = world.log.roster();
    let electorate = roster.electorate().unwrap();
    assert_eq!((electorate.organisations(), electorate.f, electorate.quorum()), (5, 1, 4));
    let (here, beside) = (Digest::of(b"here"), Digest::of(b"beside"));
    let claim = |issuer: &str, size: u64, root: Digest| {
        let next = roster.hub.clone().unwrap();
        let said = SignOff { term: 1, next, address: "hub.example:1".to_owned(), claim: None };
        Claim { issuer: issuer.to_owned(), said, at: Some((1, size, root)) }
    };
    let claims = [
        claim("a", 9, here),
        claim("b", 10, here),
        claim("c", 9, beside),
        claim("d", 9, beside),
        claim("e", 7, here),
    ];
    assert_eq!(base(&claims, roster, &|_, root| *root == here), Ok(9));
}

#[test]
fn a_member_believes_its_own_sign_off_and_what_it_claims_in_it_and_nobody_elses() {
    let (world, mut member) = mirrored(|world| world.clock);
    let next = world.log.roster().hub.clone().unwrap();
    let claim = Some(world.checkpoint().to_note());
    let said = SignOff { term: 1, next, address: "hub.example:1".to_owned(), claim };
    let said = record::canon::to_value(&said).unwrap();
    let by = |who: &str| signed("term.signoff@1", "stroke", who, said.clone()).to_bytes();
    assert!(!member.remember(&by("it"), &mut Nowhere).unwrap());
    assert_eq!((member.signed_off, member.cosigned), (0, None));
    assert!(member.remember(&by("gb"), &mut Nowhere).unwrap());
    assert_eq!(member.signed_off, 1);
    let cosigned = member.cosigned.unwrap();
    assert_eq!((cosigned.term, cosigned.size), (1, world.log.size()));
    assert_eq!(cosigned.root, world.log.tree().root());
}
