//! The hub without threads: the same answers, and what was answered outlives it.

use std::time::Duration;

use hub::{At, Books, Desk};
use record::Digest;
use wire::Peer;
use wire::api::{Cosign, Have};

use crate::members::*;

fn at(ms: u64) -> At {
    At { now: 1_000_000 + ms as i64, up: Duration::from_millis(ms) }
}

fn desk() -> Desk {
    Books::in_memory(&config(), [1; 32], [2; 32]).unwrap().wake(at(0)).unwrap()
}

/// A desk whose charter both have signed, and its two callers.
fn agreed(members: &[Member]) -> (Desk, Vec<Peer>) {
    let mut desk = desk();
    let all: Vec<&Member> = members.iter().collect();
    let charter = charter(&desk.info(), &all);
    let digest = Digest::of(&record::canon::to_bytes(&charter).unwrap());
    let proposer = desk.admit(&members[0].key(2).public()).unwrap();
    let propose = members[0].says("charter.propose@1", "charter", &Propose { charter });
    desk.submit(&proposer, &propose.to_bytes(), at(1)).unwrap();
    let peers: Vec<Peer> = members.iter().map(|m| desk.admit(&m.key(2).public()).unwrap()).collect();
    for (member, peer) in members.iter().zip(&peers) {
        let sign = member.says("charter.sign@1", "charter", &Sign { charter: digest });
        desk.submit(peer, &sign.to_bytes(), at(2)).unwrap();
    }
    (desk, peers)
}

#[test]
fn what_a_desk_promised_is_there_when_it_wakes() {
    let members = pair();
    let (mut desk, peers) = agreed(&members);
    desk.tick(at(5));
    let note = members[0].note("a").to_bytes();
    let receipt = desk.submit(&peers[0], &note, at(10)).unwrap();
    let mut desk = desk.fall().wake(at(5_000)).unwrap();
    desk.tick(at(5_000));
    assert_eq!(desk.size(), 4);
    assert_eq!(desk.submit(&peers[0], &note, at(5_001)).unwrap(), receipt, "the same statement stands once");
    assert_eq!(desk.place_of(&receipt.id), Some(receipt.index));
    let entries = desk.entries(&peers[1], 0, 4, at(5_002)).unwrap();
    assert_eq!(entries.len(), 4);
    assert_eq!(desk.mail(&peers[1], 0, at(5_003)).unwrap(), []);
}

#[test]
fn a_desk_whose_disk_is_full_answers_nothing_more_until_it_is_opened_again() {
    let members = pair();
    let (desk, peers) = agreed(&members);
    let books = desk.fall();
    books.limit(Some(0)).unwrap();
    let mut desk = books.wake(at(10)).unwrap();
    let long = "x".repeat(30_000);
    let long = || members[0].says("note.add@1", "long", &serde_map(&[("text", long.as_str())])).to_bytes();
    assert_eq!(desk.submit(&peers[0], &long(), at(11)).unwrap_err().status, 503);
    assert!(desk.has_failed());
    assert_eq!(desk.sync(&peers[0], at(12)).unwrap_err().status, 503);
    let books = desk.fall();
    books.limit(None).unwrap();
    let mut desk = books.wake(at(20)).unwrap();
    assert_eq!(desk.size(), 3, "what was not answered is not there");
    desk.submit(&peers[0], &long(), at(21)).unwrap();
}

#[test]
fn a_stranger_is_told_nothing_once_there_is_a_charter() {
    let members = pair();
    let (mut desk, peers) = agreed(&members);
    desk.tick(at(5));
    let stranger = Peer { key: record::SecretKey::from_seed([99; 32]).public(), party: None };
    assert_eq!(desk.admit(&stranger.key), None);
    assert_eq!(desk.entries(&stranger, 0, 1, at(9)).unwrap_err().status, 403);
    let wrong = Cosign { size: 3, line: "no line".into() };
    assert_eq!(desk.cosign(&peers[0], &wrong, at(9)).unwrap_err().status, 400);
    assert!(desk.has_news(&peers[0], &Have::default()));
}

#[test]
fn a_hub_whose_store_went_back_is_shown_so_by_a_member_and_enters_nothing_more_after_a_restart_either() {
    let members = pair();
    let (mut desk, peers) = agreed(&members);
    desk.tick(at(5));
    let old = desk.books().copy().unwrap();
    desk.submit(&peers[0], &members[0].note("a").to_bytes(), at(100)).unwrap();
    desk.tick(at(200));
    let ahead = desk.sync(&peers[0], at(201)).unwrap().checkpoint.unwrap();
    // Of a hub that has all that it signed it shows nothing, and a note by another key shows nothing either.
    assert_eq!(desk.ahead(&peers[0], &ahead, at(202)).unwrap_err().status, 422);

    let mut desk = old.wake(at(300)).unwrap();
    let root = Digest::of(b"made up");
    let forged =
        record::Checkpoint::new("comity/stroke", 99, root).unwrap().sign(&members[1].key(0)).to_note();
    assert_eq!(desk.ahead(&peers[1], &forged, at(301)).unwrap_err().status, 422);
    desk.submit(&peers[1], &members[1].note("b").to_bytes(), at(302)).unwrap();
    desk.tick(at(303));
    // Now it has as many entries as it signed, and others: that shows it as well.
    desk.ahead(&peers[0], &ahead, at(304)).unwrap();
    let refused = desk.submit(&peers[1], &members[1].note("c").to_bytes(), at(305)).unwrap_err();
    assert_eq!(refused.status, 503);
    assert!(refused.error.contains("this hub's store is behind what members have"), "{}", refused.error);
    desk.tick(at(5_000));
    let mut desk = desk.fall().wake(at(6_000)).unwrap();
    assert_eq!(desk.submit(&peers[1], &members[1].note("c").to_bytes(), at(6_001)).unwrap_err().status, 503);
}
