//! Hand-overs by hand, with members' own machines: what happens between two of them.

use record::roster::OPEN;
use record::{
    Checkpoint, Entry, HubInfo, Log, Member, Opening, SecretKey, SignedCheckpoint, SignedStatement, Tree,
};

use crate::federation::{HUB, World, key, public, statement, vote};
use crate::members::Nowhere;

const FOUR: [&str; 4] = ["gb", "it", "ch", "se"];

fn hub(name: &str) -> HubInfo {
    HubInfo {
        operator: name.to_owned(),
        jurisdiction: "CH".to_owned(),
        key: public(name, "key"),
        tls: public(name, "tls"),
    }
}

fn note(leaves: &[Vec<u8>], by: &SecretKey) -> SignedCheckpoint {
    let mut tree = Tree::new();
    leaves.iter().for_each(|leaf| {
        tree.append(leaf);
    });
    Checkpoint::new("comity/stroke", tree.size(), tree.root()).unwrap().sign(by)
}

fn sign_offs(members: &mut [Member], next: &str) -> Vec<Vec<u8>> {
    let say = |m: &mut Member| {
        let by = key(&m.party, "sign");
        m.sign_off(&hub(next), "next.example:1", "director", &by, &mut Nowhere).unwrap().to_bytes()
    };
    members.iter_mut().map(say).collect()
}

/// The entry that begins the next term, with those before it.
fn opened(log: &Log, leaves: &[Vec<u8>], said: &[Vec<u8>], now: i64) -> Vec<Vec<u8>> {
    let opening = Opening::make(said, log.tree(), log.roster()).unwrap();
    let body = record::canon::to_value(&opening).unwrap();
    let signed = SignedStatement::sign(statement(OPEN, "stroke", "gb", body), &key("gb", "sign")).unwrap();
    let mut all = leaves[..opening.base as usize].to_vec();
    all.push(Entry::new(now, signed).to_bytes());
    all
}

/// Four members that have all cosigned what is there; `se` has cosigned one entry more, which nobody else has.
fn four() -> (World, Vec<Member>) {
    let mut world = World::new(&FOUR);
    let note = world.cosigned(4);
    let mut members: Vec<Member> = FOUR.iter().map(|id| Member::new(id, world.charter_digest())).collect();
    for m in &mut members {
        m.extend(&note.to_note(), &world.leaves, world.clock, &mut Nowhere).unwrap();
        m.cosign(&note, &key(&m.party, "cosign"), world.clock, &mut Nowhere).unwrap();
        m.raise(&note, &mut Nowhere).unwrap();
    }
    let (first, before) = (world.leaves.len(), world.clone());
    world.say(vote("se", "aspirin"));
    let more = world.checkpoint();
    let se = members.last_mut().unwrap();
    se.extend(&more.to_note(), &world.leaves[first..], world.clock, &mut Nowhere).unwrap();
    se.cosign(&more, &key("se", "cosign"), world.clock, &mut Nowhere).unwrap();
    (before, members)
}

/// The second hub has begun, everybody has followed it, and nobody has cosigned anything of its term.
fn second() -> (Vec<Vec<u8>>, Vec<Member>, i64) {
    let (world, mut members) = four();
    let said = sign_offs(&mut members[..3], "second");
    let leaves = opened(&members[0].log, &world.leaves, &said, world.clock + 1);
    let base = leaves.len() - 1;
    assert_eq!(base, world.leaves.len());
    let shown = note(&leaves, &key("second", "key")).to_note();
    for m in &mut members {
        m.turn(base as u64, &shown, &leaves[base..], world.clock + 2, &mut Nowhere).unwrap();
        assert_eq!(m.log.roster().term, 2);
    }
    (leaves, members, world.clock)
}

#[test]
fn a_term_of_which_nothing_was_cosigned_is_followed_by_the_next_all_the_same() {
    // All claims are of the first term; that of `se` is of what the second has left behind.
    for who in [0..3, 1..4] {
        let (before, mut members, clock) = second();
        let said = sign_offs(&mut members[who], "third");
        let leaves = opened(&members[0].log, &before, &said, clock + 3);
        assert!(leaves[..leaves.len() - 1] == before, "what began the second term stays");
        let (from, shown) = (before.len(), note(&leaves, &key("third", "key")));
        for m in &mut members {
            m.turn(from as u64, &shown.to_note(), &leaves[from..], clock + 4, &mut Nowhere).unwrap();
            assert_eq!(m.log.roster().term, 3);
            let lines = m.cosign(&shown, &key(&m.party, "cosign"), clock + 5, &mut Nowhere).unwrap();
            assert_eq!(lines.len(), 1);
        }
    }
}

#[test]
fn what_a_hub_signs_after_its_term_holds_no_restored_member_back() {
    let (leaves, mut members, _) = second();
    let latest = note(&leaves, &key("second", "key"));
    let made_up = Checkpoint::new("comity/stroke", 1 << 40, latest.checkpoint().root()).unwrap();
    let made_up = made_up.sign(&key(HUB, "key"));
    let gb = &mut members[0];
    gb.restore(&mut Nowhere).unwrap();
    gb.told("se", Some(&made_up), &mut Nowhere).unwrap();
    gb.told("it", Some(&latest), &mut Nowhere).unwrap();
    assert!(gb.restored.is_some(), "two of three");
    gb.told("ch", Some(&latest), &mut Nowhere).unwrap();
    assert_eq!(gb.restored, None);
    assert_eq!(gb.cosigned.map(|c| (c.term, c.size)), Some((2, leaves.len() as u64)));
}
