//! What a seed draws: who there is, who lies, what is wanted and what goes wrong, and when.

use std::collections::BTreeSet;

use super::hub::Lies;
use super::member::Wish;
use super::network::Party;
use super::shelf::Trouble;

/// When a storm begins, milliseconds.
pub const START: i64 = 1_700_000_000_000;

/// What happens to somebody.
#[derive(Clone, Debug)]
pub enum Fault {
    /// After so many points of its next steps.
    Trouble(Party, u32, Trouble),
    /// Its clock is off from now on.
    Clock(Party, i64),
    /// These are cut off from the others for so long.
    Parted(BTreeSet<Party>, i64),
    /// A copy of its disk is put aside.
    Copy(usize),
    /// The copy is put in place of its disk.
    Restore(usize),
    /// The hub begins to show two histories.
    Fork(usize),
    Wish(usize, Wish),
    /// It loses all of its keys, and another asks for new ones.
    Loss(usize, usize),
    /// The people of all members decide that this hub takes over.
    Decide(usize),
    /// The storm is over.
    Calm,
}

/// Everything that a seed decides beforehand.
#[derive(Clone, Debug)]
pub struct Storm {
    pub members: usize,
    pub witnesses: usize,
    /// Members that work with a lying hub.
    pub liars: BTreeSet<usize>,
    pub lies: Lies,
    /// How many hubs follow one another.
    pub hubs: usize,
    pub drops: u32,
    pub repeats: u32,
    pub delays: u32,
    /// With their times, milliseconds after [`START`].
    pub faults: Vec<(i64, Fault)>,
    pub length: i64,
}

fn trouble(rng: &mut fastrand::Rng) -> Trouble {
    match rng.u32(0..10) {
        0 => Trouble::Failed,
        1 => Trouble::FailedButWritten,
        2 | 3 => Trouble::Short,
        4 => Trouble::Full,
        _ => Trouble::Crash,
    }
}

impl Storm {
    /// The storm of a seed.
    pub fn of(rng: &mut fastrand::Rng) -> Storm {
        let members = 3 + [0, 1, 1, 1, 2, 2, 3, 4][rng.usize(0..8)];
        let witnesses = [0, 0, 0, 1, 1, 2][rng.usize(0..6)];
        let length = rng.i64(25_000..60_000);
        let mut storm = Storm {
            members,
            witnesses,
            liars: BTreeSet::new(),
            lies: Lies::default(),
            hubs: 1,
            drops: [0, 10, 50, 200][rng.usize(0..4)],
            repeats: [0, 20, 100][rng.usize(0..3)],
            delays: [0, 50, 200][rng.usize(0..3)],
            faults: Vec::new(),
            length,
        };
        let changes = rng.u32(0..2);
        storm.draw_liars(rng, changes > 0);
        storm.draw_hubs(rng);
        for n in 0..rng.u64(4..14) {
            let by = rng.usize(0..members);
            storm.at(rng, Fault::Wish(by, Wish::Say(n)));
        }
        for _ in 0..changes {
            storm.draw_change(rng);
        }
        storm.draw_faults(rng);
        storm.faults.push((length, Fault::Calm));
        storm
    }

    /// Of the storms with one honest hub some get one that withholds what a member says. Drawn from another stream, so
    /// that every other storm stays what it was.
    pub fn withhold_more(&mut self, seed: u64) {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x7769_7468_686f_6c64);
        let drawn = rng.bool();
        if self.hubs > 1 || self.lies.any() || !self.liars.is_empty() || !drawn {
            return;
        }
        let says = |(time, fault): &(i64, Fault)| match fault {
            Fault::Wish(by, Wish::Say(_)) if *time < self.length - 15_000 => Some(*by),
            _ => None,
        };
        let early: Vec<usize> = self.faults.iter().filter_map(says).collect();
        if !early.is_empty() {
            self.lies.withholds = Some(early[rng.usize(0..early.len())]);
        }
    }

    fn at(&mut self, rng: &mut fastrand::Rng, fault: Fault) {
        self.faults.push((rng.i64(1000..self.length), fault));
    }

    fn draw_liars(&mut self, rng: &mut fastrand::Rng, changes: bool) {
        // One fewer may be there after a change.
        let organisations = self.members + self.witnesses - usize::from(changes);
        let most = (organisations - 1) / 3;
        let count = rng.usize(0..=most).min(rng.usize(0..=2));
        while self.liars.len() < count {
            self.liars.insert(rng.usize(0..self.members));
        }
        if self.liars.is_empty() && rng.u32(0..3) > 0 {
            return;
        }
        let member = rng.usize(0..self.members);
        match rng.u32(0..10) {
            0..5 => {
                self.lies.forks = Some(rng.u8(1..=255));
                self.at(rng, Fault::Fork(0));
            }
            5 => self.lies.withholds = Some(member),
            6 => self.lies.stale = Some(member),
            7 => self.lies.off = [-150_000, 150_000][rng.usize(0..2)],
            8 => self.lies.replays = true,
            _ => self.lies.tampers = Some(member),
        }
    }

    fn draw_hubs(&mut self, rng: &mut fastrand::Rng) {
        self.hubs = 1 + [0, 0, 1, 1, 1, 2][rng.usize(0..6)];
        // Nobody waits for ever on one that lies; that it withholds must be seen without another, though.
        if self.lies.any() && self.lies.withholds.is_none() {
            self.hubs = self.hubs.max(2);
        }
        let mut time = 8000;
        for hub in 1..self.hubs {
            time += rng.i64(2000..self.length / 2);
            self.faults.push((time.min(self.length + 1000 * hub as i64), Fault::Decide(hub)));
        }
    }

    fn draw_change(&mut self, rng: &mut fastrand::Rng) {
        let honest: Vec<usize> = (0..self.members).filter(|m| !self.liars.contains(m)).collect();
        let by = honest[rng.usize(0..honest.len())];
        let about = rng.usize(0..self.members);
        // Of three members one that lies would be half when another is gone.
        let from = if self.members < 4 && !self.liars.is_empty() { 4 } else { 0 };
        let wish = match rng.u32(from..8) {
            0 => Wish::Suspend(about),
            1 => Wish::Expel(about),
            2 => Wish::Join(self.members),
            3 => Wish::Leave,
            4 => {
                let other = honest[rng.usize(0..honest.len())];
                // Who lost its keys counts among those that may fail.
                if other != by && !self.lies.any() && self.liars.is_empty() {
                    self.at(rng, Fault::Loss(other, by));
                }
                return;
            }
            _ => Wish::Rotate,
        };
        let time = rng.i64(1000..self.length);
        self.faults.push((time, Fault::Wish(by, wish.clone())));
        if let Wish::Suspend(about) = wish {
            self.faults.push((time + rng.i64(3000..20_000), Fault::Wish(by, Wish::Reinstate(about))));
        }
    }

    fn party(&self, rng: &mut fastrand::Rng) -> Party {
        match rng.usize(0..self.members + self.hubs) {
            i if i < self.members => Party::Member(i),
            i => Party::Hub(i - self.members),
        }
    }

    fn draw_faults(&mut self, rng: &mut fastrand::Rng) {
        for _ in 0..rng.u32(0..8) {
            let fault = Fault::Trouble(self.party(rng), rng.u32(0..12), trouble(rng));
            self.at(rng, fault);
        }
        for _ in 0..rng.u32(0..3) {
            let party = self.party(rng);
            let off = match party {
                Party::Member(_) if rng.bool() => rng.i64(-900_000..900_000),
                _ => rng.i64(-29_000..29_000),
            };
            self.at(rng, Fault::Clock(party, off));
        }
        for _ in 0..rng.u32(0..3) {
            let mut all: Vec<Party> = (0..self.members).map(Party::Member).collect();
            all.extend((0..self.hubs).map(Party::Hub));
            let side = all.into_iter().filter(|_| rng.bool()).collect();
            let length = rng.i64(1000..20_000);
            self.at(rng, Fault::Parted(side, length));
        }
        if rng.u32(0..3) == 0 {
            let member = rng.usize(0..self.members);
            let time = rng.i64(1000..self.length - 1000);
            let later = rng.i64(time + 100..self.length);
            self.faults.push((time, Fault::Copy(member)));
            self.faults.push((later, Fault::Restore(member)));
        }
    }
}
