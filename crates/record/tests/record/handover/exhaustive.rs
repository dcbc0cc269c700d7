//! [`record::term::base`] itself against every world of a few members: who may have cosigned what of two histories, who
//! lies, who has answered. What is in force in a world is counted in that world alone, by no formula of the rule.

use record::term::{Claim, SignOff, TermError, base};
use record::{Digest, HubInfo, Roster};

use crate::federation::{charter, public};

const IDS: [&str; 7] = ["au", "ch", "gb", "it", "nl", "no", "se"];

/// A checkpoint of one of two histories that part after `trunk` entries: its size, and on which side it is beyond that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    size: u64,
    side: u8,
}

/// Two histories: so many entries in both, and so many more in each.
#[derive(Clone, Copy, Debug)]
struct Fork {
    trunk: u64,
    more: [u64; 2],
}

impl Fork {
    /// Every checkpoint of both, the empty log first.
    fn points(self) -> Vec<Point> {
        let trunk = (0..=self.trunk).map(|size| Point { size, side: 0 });
        let side = |side: u8| {
            let beyond = self.trunk + 1..=self.trunk + self.more[usize::from(side)];
            beyond.map(move |size| Point { size, side })
        };
        trunk.chain(side(0)).chain(side(1)).collect()
    }

    /// Whether a checkpoint is of the history on this side.
    fn is_on(self, side: u8, point: Point) -> bool {
        point.size <= self.trunk || point.side == side
    }

    /// Whether who cosigned `last` last has cosigned `point`, or may have on its way there.
    fn reaches(self, last: Point, point: Point) -> bool {
        last.size >= point.size && self.is_on(last.side, point)
    }

    fn root(self, point: Point) -> Digest {
        let side = if point.size <= self.trunk { 0 } else { point.side };
        Digest::of(format!("{side} {}", point.size).as_bytes())
    }
}

/// Members, how many of them may lie, and a quorum; the quorum by hand.
#[derive(Clone, Copy, Debug)]
struct Size {
    members: usize,
    faults: u32,
    quorum: u32,
}

const FOUR: Size = Size { members: 4, faults: 1, quorum: 3 };
const FIVE: Size = Size { members: 5, faults: 1, quorum: 4 };
const SEVEN: Size = Size { members: 7, faults: 2, quorum: 5 };

type Rule<'a> = &'a dyn Fn(&[Point], Fork, u8) -> Result<u64, TermError>;

/// The room's own rule over these claims of the first members, for a log on this side.
struct Real {
    roster: Roster,
    said: SignOff,
}

impl Real {
    fn new(size: Size) -> Real {
        let roster = Roster::of_charter(&record::Value::Map(charter(&IDS[..size.members]))).unwrap();
        assert_eq!((roster.f, roster.quorum()), (size.faults, size.quorum));
        let hub = |usage| public("hub-2", usage);
        let next =
            HubInfo { operator: "b".into(), jurisdiction: "NO".into(), key: hub("key"), tls: hub("tls") };
        Real { roster, said: SignOff { term: 1, next, address: "b:1".into(), claim: None } }
    }

    fn base(&self, claims: &[Point], fork: Fork, side: u8) -> Result<u64, TermError> {
        let claim = |(id, point): (&&str, &Point)| Claim {
            issuer: (*id).to_owned(),
            said: self.said.clone(),
            at: (point.size > 0).then(|| (1, point.size, fork.root(*point))),
        };
        let all: Vec<Claim> = IDS.iter().zip(claims).map(claim).collect();
        let ours: Vec<(u64, Digest)> = fork
            .points()
            .into_iter()
            .filter(|p| fork.is_on(side, *p))
            .map(|p| (p.size, fork.root(p)))
            .collect();
        base(&all, &self.roster, &|size, root| ours.contains(&(size, *root)))
    }
}

/// Every way to draw `count` of these, in every order or in one.
fn draws(points: &[Point], count: usize, ordered: bool) -> Vec<Vec<Point>> {
    let mut all = vec![Vec::new()];
    for _ in 0..count {
        let longer = |draw: Vec<Point>| {
            let least = draw.last().filter(|_| !ordered).copied();
            let more: Vec<Point> =
                points.iter().filter(|p| least.is_none_or(|l| **p >= l)).copied().collect();
            more.into_iter().map(move |p| draw.iter().copied().chain([p]).collect::<Vec<Point>>())
        };
        all = all.into_iter().flat_map(longer).collect();
    }
    all
}

/// What is in force in a world: cosigned by a quorum, each liar under everything.
fn in_force(last: &[Point], liars: u32, size: Size, fork: Fork, points: &[Point]) -> Vec<Point> {
    let cosigned = |point: Point| {
        let by = last.iter().enumerate().filter(|(m, t)| liars >> m & 1 == 1 || fork.reaches(**t, point));
        by.count() as u32 >= size.quorum
    };
    points.iter().copied().filter(|p| p.size > 0 && cosigned(*p)).collect()
}

/// What the rule says in every world of a fork: how often it gave a base and how often it waited, or the first world in
/// which what it says is wrong. Members are alike, so the claims are taken in one order.
fn in_every_world(size: Size, fork: Fork, rule: Rule<'_>) -> Result<[u64; 3], String> {
    let points = fork.points();
    let mut seen = [0; 3];
    let lying: Vec<u32> = (0_u32..1 << size.members).filter(|l| l.count_ones() <= size.faults).collect();
    for answers in 0..=size.members {
        let silent = draws(&points, size.members - answers, true);
        for claims in draws(&points, answers, false) {
            for side in [0, 1] {
                let said = rule(&claims, fork, side);
                if matches!(said, Err(TermError::TooFew { .. })) {
                    seen[0] += 1;
                    continue;
                }
                // Whether in some world something of the other side is in force.
                let mut other = false;
                for rest in &silent {
                    let last: Vec<Point> = claims.iter().chain(rest).copied().collect();
                    for liars in &lying {
                        for point in in_force(&last, *liars, size, fork, &points) {
                            other |= !fork.is_on(side, point);
                            let kept = |base: u64| fork.is_on(side, point) && point.size <= base;
                            if let Ok(base) = said
                                && !kept(base)
                            {
                                return Err(format!(
                                    "{fork:?}, side {side}, claims {claims:?}, the others {rest:?}, liars {liars:b}: \
                                     {point:?} is in force and the base is {base}"
                                ));
                            }
                        }
                    }
                }
                match said {
                    Ok(_) => seen[1] += 1,
                    Err(TermError::Fork { .. }) if other => seen[2] += 1,
                    Err(why) => return Err(format!("{fork:?}, side {side}, claims {claims:?}: {why}")),
                }
            }
        }
    }
    Ok(seen)
}

const FORKS: [Fork; 5] = [
    Fork { trunk: 0, more: [1, 1] },
    Fork { trunk: 0, more: [2, 1] },
    Fork { trunk: 1, more: [2, 1] },
    Fork { trunk: 2, more: [1, 2] },
    Fork { trunk: 2, more: [2, 2] },
];

fn cuts_nothing(size: Size, forks: &[Fork]) {
    let real = Real::new(size);
    for fork in forks {
        let [few, based, waits] = in_every_world(size, *fork, &|c, f, s| real.base(c, f, s)).unwrap();
        assert!(few > 0 && based > 0 && waits > 0, "{fork:?}: {few} {based} {waits}");
    }
}

#[test]
fn the_base_cuts_nothing_that_is_in_force_in_any_world_of_four() {
    cuts_nothing(FOUR, &FORKS);
}

#[test]
fn the_base_cuts_nothing_that_is_in_force_in_any_world_of_five() {
    cuts_nothing(FIVE, &FORKS);
}

#[test]
fn the_base_cuts_nothing_that_is_in_force_in_any_world_of_seven_with_two_liars() {
    cuts_nothing(SEVEN, &FORKS[..4]);
}

#[test]
fn in_whatever_order_four_answer_the_base_is_the_same() {
    let real = Real::new(FOUR);
    for fork in FORKS {
        for claims in draws(&fork.points(), 4, true) {
            let mut sorted = claims.clone();
            sorted.sort();
            for side in [0, 1] {
                // Whose claim it is that contradicts the base does depend on the order.
                let base = |claims: &[Point]| real.base(claims, fork, side).map_err(|_| ());
                assert_eq!(base(&claims), base(&sorted), "{claims:?}");
            }
        }
    }
}

#[test]
fn with_one_history_and_a_quorum_of_answers_there_is_always_a_base_among_the_claims() {
    for size in [FOUR, FIVE, SEVEN] {
        let real = Real::new(size);
        let one = Fork { trunk: 4, more: [0, 0] };
        for answers in size.quorum as usize..=size.members {
            for claims in draws(&one.points(), answers, false) {
                let base = real.base(&claims, one, 0).unwrap();
                assert!(claims.iter().any(|claim| claim.size == base), "{claims:?}: {base}");
            }
        }
    }
}

#[test]
fn a_rule_that_believes_all_who_answer_is_found_to_undo_what_is_in_force() {
    let size = FOUR;
    let real = Real::new(size);
    // The largest claim that a quorum of those who answered stand behind.
    let trusting = |claims: &[Point], fork: Fork, side: u8| {
        real.base(claims, fork, side)?;
        let behind =
            |p: &Point| claims.iter().filter(|c| fork.reaches(**c, *p)).count() as u32 >= size.quorum;
        let points = fork.points();
        let ours = points.iter().filter(|p| fork.is_on(side, **p) && behind(p));
        Ok(ours.map(|p| p.size).max().unwrap_or(0))
    };
    assert!(in_every_world(size, FORKS[2], &trusting).is_err());
    // The largest claim on this side, whoever claims the other.
    let largest = |claims: &[Point], fork: Fork, side: u8| {
        if claims.len() < size.quorum as usize {
            return Err(TermError::TooFew { have: claims.len() as u32, need: size.quorum });
        }
        Ok(claims.iter().filter(|c| fork.is_on(side, **c)).map(|c| c.size).max().unwrap_or(0))
    };
    assert!(in_every_world(size, FORKS[2], &largest).is_err());
}
