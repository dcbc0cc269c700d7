//! A model of the hand-over from one hub to the next, for the checker of `stateright`.
//!
//! Members cosign what the hub of their term shows them, each time at most one history a term. A checkpoint with a
//! quorum of cosignatures is in force, whoever knows it. To change hubs, members sign off the old term and name the
//! highest checkpoint that they have cosigned; a [`Rule`] makes the base of the next term from a quorum of sign-offs.
//!
//! Messages are not modelled one by one. Whatever was signed can reach anyone at any later time, in any order, or
//! never: that is delay, reordering, repetition and loss at once. A hub that equivocates shows each member what it
//! likes. A liar cosigns everything and signs off with whatever the hubs have signed. Whoever cosigned a checkpoint
//! counts as having cosigned every shorter one of the same term, which gives the adversary more than it has.

use std::fmt;
use std::hash::{Hash, Hasher};

use stateright::{Model, Property};

/// Terms in the model: two hand-overs.
pub const TERMS: usize = 3;
const BITS: u32 = 4;
const FIRST_OPENING: u32 = 8;

/// A log: entries 1 to 7, and the openings of terms, each in four bits, the first entry lowest. A checkpoint is the
/// same thing, since its root commits to all of the log.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct History(u32);

impl History {
    /// A log of these entries in term 1.
    pub fn of(entries: &[u32]) -> Self {
        entries.iter().fold(History(0), |log, e| log.push(*e))
    }

    fn size(self) -> u32 {
        (u32::BITS - self.0.leading_zeros()).div_ceil(BITS)
    }

    fn push(self, symbol: u32) -> Self {
        History(self.0 | symbol << (BITS * self.size()))
    }

    /// With the entry that opens a term by one of two hubs.
    fn open(self, term: usize, hub: u32) -> Self {
        self.push(FIRST_OPENING + 2 * (term as u32 - 2) + hub)
    }

    fn symbols(self) -> impl DoubleEndedIterator<Item = u32> {
        (0..self.size()).map(move |i| self.0 >> (BITS * i) & 0xf)
    }

    fn entries(self) -> impl Iterator<Item = u32> {
        self.symbols().filter(|s| *s < FIRST_OPENING)
    }

    /// The term whose hub signed this checkpoint.
    pub fn term(self) -> usize {
        self.symbols()
            .rev()
            .find(|s| *s >= FIRST_OPENING)
            .map_or(1, |s| ((s - FIRST_OPENING) / 2 + 2) as usize)
    }

    fn first(self, size: u32) -> Self {
        if size == 0 { History(0) } else { History(self.0 & u32::MAX >> (u32::BITS - BITS * size)) }
    }

    /// Whether this is the other, or has more behind it.
    pub fn extends(self, other: History) -> bool {
        self.size() >= other.size() && self.first(other.size()) == other
    }

    fn agrees(self, other: History) -> bool {
        self.extends(other) || other.extends(self)
    }

    fn has(self, entry: u32) -> bool {
        self.symbols().any(|s| s == entry)
    }

    fn has_twice(self) -> bool {
        (1..FIRST_OPENING).any(|e| self.entries().filter(|s| *s == e).count() > 1)
    }

    /// Every checkpoint of the same term on the way here, the shortest first, without the empty one.
    fn way(self) -> impl DoubleEndedIterator<Item = History> {
        let term = self.term();
        (1..=self.size()).map(move |size| self.first(size)).filter(move |h| h.term() == term)
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for symbol in self.symbols() {
            match symbol.checked_sub(FIRST_OPENING) {
                None => write!(f, "{}", (b'a' + symbol as u8 - 1) as char)?,
                Some(opening) => {
                    write!(f, "<{}{}>", opening / 2 + 2, if opening % 2 == 0 { "" } else { "'" })?
                }
            }
        }
        f.write_str("]")
    }
}

/// How the base of the next term follows from sign-offs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The largest checkpoint with a quorum of cosignatures that any sign-off holds.
    LargestNote,
    /// When all claims are on one chain, the (f + 1)-th largest.
    FaultsPlusFirst,
    /// The largest claim of the highest term, on whatever fork.
    LargestClaim,
    /// The largest claim of whatever term.
    LargestClaimOfAnyTerm,
    /// The largest checkpoint that could be in force; nothing while two forks could.
    CouldBeInForce,
    /// The same, but with an answer of everyone and no note the fork with more claims is taken.
    EveryoneAnswered,
}

/// What a member is made to do wrong, so that the claims can be seen to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    None,
    /// Goes on cosigning a term that it signed off.
    CosignsAfterSigningOff,
    /// Cosigns a log that holds an entry twice.
    TakesEntriesTwice,
    /// Takes a note of the old term in force after it signed off.
    ActsAfterSigningOff,
}

/// The size of the world, and who is bad in it.
#[derive(Clone, Debug)]
pub struct Handover {
    pub members: usize,
    /// How many members lie.
    pub liars: usize,
    /// How many liars the members reckon with.
    pub faults: usize,
    /// Entries that are submitted.
    pub entries: u32,
    /// Sign-offs of one term after the other.
    pub handovers: usize,
    pub old_hub_lies: bool,
    pub new_hubs_lie: bool,
    /// Would-be hubs of each later term.
    pub new_hubs: u32,
    /// Members that can stop for good.
    pub crashes: usize,
    /// Members that can be restored from an old backup without knowing.
    pub restores: usize,
    /// Whether members learn what is in force, and present it when they sign off.
    pub notes: bool,
    /// Whether a member refuses a base below what it holds in force.
    pub members_guard: bool,
    pub rule: Rule,
    pub flaw: Flaw,
    /// The one claim to check, so that the checker stops at the shortest way to break it; otherwise all.
    pub only: Option<&'static str>,
}

impl Default for Handover {
    /// One hand-over between honest hubs among four members, of whom one may lie and none does.
    fn default() -> Self {
        Handover {
            members: 4,
            liars: 0,
            faults: 1,
            entries: 2,
            handovers: 1,
            old_hub_lies: false,
            new_hubs_lie: false,
            new_hubs: 1,
            crashes: 0,
            restores: 0,
            notes: true,
            members_guard: true,
            rule: Rule::CouldBeInForce,
            flaw: Flaw::None,
            only: None,
        }
    }
}

/// What a member said when it signed off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignOff {
    next_hub: u32,
    answer: Answer,
}

/// The part of a sign-off that the rule reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Answer {
    /// The highest checkpoint that it cosigned.
    pub claim: History,
    /// The highest that it holds in force; the empty log where there is none.
    pub note: History,
}

/// An honest member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    crashed: bool,
    /// The highest checkpoint cosigned in each term.
    tips: [History; TERMS],
    /// The same as it was when an old backup was restored.
    forgotten: Option<[History; TERMS]>,
    signed_off: [Option<SignOff>; TERMS - 1],
    held: History,
}

impl Member {
    fn term(&self) -> usize {
        (1..TERMS).rev().find(|t| self.tips[*t] != History(0)).map_or(1, |t| t + 1)
    }

    fn tip(&self) -> History {
        self.tips[self.term() - 1]
    }

    /// The last term that it signed off.
    fn left(&self) -> usize {
        self.signed_off.iter().rposition(Option::is_some).map_or(0, |l| l + 1)
    }

    fn frozen(&self) -> bool {
        self.term() <= self.left()
    }

    fn cosigned(&self, checkpoint: History) -> bool {
        let term = checkpoint.term() - 1;
        self.tips[term].extends(checkpoint)
            || self.forgotten.is_some_and(|tips| tips[term].extends(checkpoint))
    }

    fn all_tips(&self) -> impl Iterator<Item = History> {
        self.tips.into_iter().chain(self.forgotten.into_iter().flatten())
    }
}

/// All honest members, and the openings that were made. Which member is which makes no difference to the checker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub members: Vec<Member>,
    /// The first checkpoint of each term that was opened.
    pub openings: Vec<History>,
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let mut members = self.members.clone();
        members.sort_unstable();
        members.hash(hasher);
        self.openings.hash(hasher);
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Cosign { member: usize, checkpoint: History },
    HoldInForce { member: usize, checkpoint: History },
    SignOff { member: usize, term: usize, next_hub: u32 },
    Open { term: usize, hub: u32, base: History, honest: Vec<usize>, lies: Vec<Answer> },
    Follow { member: usize, opening: History },
    Crash { member: usize },
    Restore { member: usize, size: u32 },
}

impl Handover {
    /// Cosignatures that put a checkpoint in force, and sign-offs that open a term.
    pub fn quorum(&self) -> usize {
        (self.members + self.faults) / 2 + 1
    }

    /// The base that the rule makes of these sign-offs, if it makes one.
    pub fn base(&self, answers: &[Answer]) -> Option<History> {
        let claims: Vec<History> = answers.iter().map(|a| a.claim).collect();
        match self.rule {
            Rule::LargestNote => answers.iter().map(|a| a.note).max_by_key(|h| (h.term(), h.size())),
            Rule::FaultsPlusFirst => {
                let mut sorted = claims.clone();
                sorted.sort_unstable_by_key(|h| std::cmp::Reverse((h.term(), h.size())));
                is_chain(&claims).then(|| sorted[self.faults])
            }
            Rule::LargestClaim => claims.into_iter().max_by_key(|h| (h.term(), h.size())),
            Rule::LargestClaimOfAnyTerm => claims.into_iter().max_by_key(|h| h.size()),
            Rule::CouldBeInForce => self.largest_that_could_be(answers),
            Rule::EveryoneAnswered => self.largest_that_could_be(answers).or_else(|| {
                let notes: Vec<History> = answers.iter().map(|a| a.note).collect();
                let everyone = answers.len() == self.members && is_chain(&notes);
                let claimed = |h: &History| claims.iter().filter(|c| c.extends(*h)).count();
                let claim = claims.iter().copied().filter(|h| notes.iter().all(|n| h.extends(*n)));
                if everyone { claim.max_by_key(|h| (h.term(), claimed(h), h.size(), h.0)) } else { None }
            }),
        }
    }

    /// A checkpoint could be in force if those who claim it, those who have not answered and as many liars among the
    /// others as may lie make a quorum. The base must hold all that could be; so it is the largest of them, and there
    /// is none while two could be that conflict. A note shows that what conflicts with it is not in force. Claims of
    /// earlier terms need not be looked at: the opening of the last term was made from such claims.
    fn largest_that_could_be(&self, answers: &[Answer]) -> Option<History> {
        let term = answers.iter().map(|a| a.claim.term().max(a.note.term())).max()?;
        let of_term = |h: &History| h.term() == term;
        let claims: Vec<History> = answers.iter().map(|a| a.claim).filter(of_term).collect();
        let notes: Vec<History> = answers.iter().map(|a| a.note).filter(of_term).collect();
        let missing = self.members - answers.len();
        let could_be = |checkpoint: &History| {
            let claimed = claims.iter().filter(|c| c.extends(*checkpoint)).count();
            claimed + missing + self.faults.min(answers.len() - claimed) >= self.quorum()
        };
        let mut candidates: Vec<History> = claims.iter().flat_map(|c| c.way()).filter(could_be).collect();
        candidates.retain(|c| notes.iter().all(|n| c.agrees(*n)));
        candidates.extend(&notes);
        if !is_chain(&candidates) {
            return None;
        }
        let largest = candidates.into_iter().max_by_key(|h| h.size()).filter(|h| h.size() > 0);
        largest.or_else(|| claims.into_iter().reduce(common))
    }

    /// What the hub of this term may show next to whoever is here.
    fn next(&self, tip: History) -> Vec<History> {
        let lies = if tip.term() == 1 { self.old_hub_lies } else { self.new_hubs_lie };
        let fresh = (1..=self.entries).filter(|e| !tip.has(*e));
        let mut next: Vec<History> = fresh.take(if lies { 2 } else { 1 }).map(|e| tip.push(e)).collect();
        if lies && self.flaw == Flaw::TakesEntriesTwice && !tip.has_twice() {
            next.extend(tip.entries().last().map(|e| tip.push(e)));
        }
        next
    }

    /// All checkpoints that hubs of terms up to this one may have signed.
    fn signed(&self, state: &State, last: usize) -> Vec<History> {
        let openings = state.openings.iter().copied().filter(|o| o.term() <= last);
        let mut signed: Vec<History> = std::iter::once(History(0)).chain(openings).collect();
        let mut done = 0;
        while let Some(tip) = signed.get(done).copied() {
            signed.extend(self.next(tip));
            done += 1;
        }
        signed
    }

    /// The largest checkpoint in force on the way to each tip.
    pub fn in_force(&self, state: &State) -> Vec<History> {
        let quorate = |checkpoint: &History| {
            let honest = state.members.iter().filter(|m| m.cosigned(*checkpoint)).count();
            honest + self.liars >= self.quorum()
        };
        let tips = state.members.iter().flat_map(Member::all_tips);
        let mut found: Vec<History> = tips.filter_map(|tip| tip.way().rev().find(quorate)).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Every base that sign-offs of the term before can make for a hub, with the sign-offs; also whether there were
    /// sign-offs that made none.
    fn openings(&self, state: &State, term: usize, hub: u32) -> (Vec<Action>, bool) {
        let signed_off = |m: &Member| m.signed_off[term - 2].filter(|s| s.next_hub == hub).map(|s| s.answer);
        let honest: Vec<(usize, Answer)> =
            state.members.iter().enumerate().filter_map(|(i, m)| Some((i, signed_off(m)?))).collect();
        let mut found: Vec<Action> = Vec::new();
        let mut bases = Vec::new();
        let mut stuck = false;
        if honest.len() + self.liars < self.quorum() {
            return (found, stuck);
        }
        let all_lies = self.lies(state, term - 1);
        for chosen in 0..1_u32 << honest.len() {
            let who: Vec<&(usize, Answer)> =
                honest.iter().enumerate().filter(|(i, _)| chosen >> i & 1 == 1).map(|(_, h)| h).collect();
            for lies in all_lies.iter().filter(|lies| who.len() + lies.len() >= self.quorum()) {
                let answers: Vec<Answer> = who.iter().map(|(_, a)| *a).chain(lies.iter().copied()).collect();
                match self.base(&answers) {
                    None => stuck = true,
                    Some(base) if bases.contains(&base) => {}
                    Some(base) => {
                        bases.push(base);
                        let honest = who.iter().map(|(i, _)| *i).collect();
                        found.push(Action::Open { term, hub, base, honest, lies: lies.clone() });
                    }
                }
            }
        }
        (found, stuck)
    }

    /// What liars may answer: nothing, or a claim each that some hub signed, with or without a note that is in force.
    fn lies(&self, state: &State, last: usize) -> Vec<Vec<Answer>> {
        let mut notes: Vec<History> = vec![History(0)];
        if self.notes {
            notes.extend(self.in_force(state).iter().flat_map(|h| h.way()).filter(|h| h.term() <= last));
            notes.sort_unstable();
            notes.dedup();
        }
        let claims = self.signed(state, last);
        let mut all = vec![Vec::new()];
        for _ in 0..self.liars {
            let mut more = all.clone();
            for lies in &all {
                for claim in &claims {
                    for note in &notes {
                        let mut lies = lies.clone();
                        lies.push(Answer { claim: *claim, note: *note });
                        more.push(lies);
                    }
                }
            }
            all = more;
        }
        all
    }

    fn member_actions(&self, state: &State, i: usize, in_force: &[History], actions: &mut Vec<Action>) {
        let member = &state.members[i];
        let careless = self.flaw == Flaw::CosignsAfterSigningOff;
        if !member.frozen() || careless {
            actions.extend(
                self.next(member.tip())
                    .into_iter()
                    .map(|checkpoint| Action::Cosign { member: i, checkpoint }),
            );
        }
        if self.notes && (!member.frozen() || self.flaw == Flaw::ActsAfterSigningOff) {
            let known = in_force.iter().flat_map(|h| h.way());
            let new =
                known.filter(|h| *h != member.held && h.extends(member.held) && member.tip().extends(*h));
            let mut new: Vec<History> = new.collect();
            new.sort_unstable();
            new.dedup();
            actions.extend(new.into_iter().map(|checkpoint| Action::HoldInForce { member: i, checkpoint }));
        }
        for term in member.term().max(member.left() + 1)..=self.handovers {
            actions.extend((0..self.new_hubs).map(|next_hub| Action::SignOff { member: i, term, next_hub }));
        }
        for opening in state.openings.iter().copied() {
            let newer = opening.term() > member.term().max(member.left());
            let keeps = opening.extends(member.held) || !self.members_guard;
            if newer && keeps {
                actions.push(Action::Follow { member: i, opening });
            }
        }
        if state.members.iter().filter(|m| m.crashed).count() < self.crashes {
            actions.push(Action::Crash { member: i });
        }
        if member.tip().size() > 0
            && state.members.iter().filter(|m| m.forgotten.is_some()).count() < self.restores
        {
            actions.extend((0..member.tips[0].size()).map(|size| Action::Restore { member: i, size }));
        }
    }
}

/// Whether of any two one extends the other.
fn is_chain(histories: &[History]) -> bool {
    histories.iter().enumerate().all(|(i, a)| histories[i..].iter().all(|b| a.agrees(*b)))
}

fn common(a: History, b: History) -> History {
    (0..=a.size()).rev().map(|size| a.first(size)).find(|h| b.extends(*h)).unwrap_or_default()
}

pub const NO_CONFLICT: &str = "no two checkpoints in force conflict";
pub const BASE_HOLDS: &str = "every base extends all that is in force of earlier terms";
pub const NOTHING_HELD_UNDONE: &str = "nothing that a member held in force is undone";
pub const ONE_HISTORY: &str = "a member cosigns one history a term, and none after it signed off";
pub const ENTERED_ONCE: &str = "no entry in force is entered twice";
pub const COMPLETES: &str = "the new term gets something in force";
pub const COMPLETES_AFTER_CRASH: &str = "the new term gets something in force after a member crashed";
pub const ENTERED_AGAIN: &str = "an entry above the base is entered again";
pub const ALWAYS_A_BASE: &str = "any quorum of sign-offs makes a base";

fn no_conflict(model: &Handover, state: &State) -> bool {
    is_chain(&model.in_force(state))
}

fn base_holds(model: &Handover, state: &State) -> bool {
    let in_force = model.in_force(state);
    state.openings.iter().all(|o| in_force.iter().filter(|h| h.term() < o.term()).all(|h| o.extends(*h)))
}

fn nothing_held_undone(model: &Handover, state: &State) -> bool {
    let in_force = model.in_force(state);
    let later = |held: History| in_force.iter().copied().filter(move |h| h.term() > held.term());
    state.members.iter().all(|m| later(m.held).all(|h| h.extends(m.held)))
}

fn one_history(_: &Handover, state: &State) -> bool {
    state.members.iter().all(|m| {
        let one = m.forgotten.is_none_or(|old| old.iter().zip(m.tips).all(|(a, b)| a.agrees(b)));
        let signed_off = m.signed_off.iter().enumerate().filter_map(|(l, s)| Some((l, s.as_ref()?)));
        one && signed_off.into_iter().all(|(l, s)| {
            let claim = s.answer.claim;
            m.tips[..=l].iter().all(|tip| tip.term() < claim.term() || claim.extends(*tip))
        })
    })
}

fn entered_once(model: &Handover, state: &State) -> bool {
    model.in_force(state).iter().all(|h| !h.has_twice())
}

fn completes(model: &Handover, state: &State) -> bool {
    model.in_force(state).iter().any(|h| h.term() == model.handovers + 1)
}

fn completes_after_crash(model: &Handover, state: &State) -> bool {
    state.members.iter().any(|m| m.crashed) && completes(model, state)
}

fn entered_again(model: &Handover, state: &State) -> bool {
    let in_force = model.in_force(state);
    let later: Vec<History> = in_force.into_iter().filter(|h| h.term() > 1).collect();
    later.iter().any(|h| {
        let base = h.way().next().map_or(0, |opening| opening.size());
        let above = |tip: History| tip.entries().find(|e| h.has(*e) && !h.first(base).has(*e));
        state.members.iter().any(|m| above(m.tips[0]).is_some())
    })
}

fn always_a_base(model: &Handover, state: &State) -> bool {
    (2..=model.handovers + 1).all(|term| (0..model.new_hubs).all(|hub| !model.openings(state, term, hub).1))
}

impl Model for Handover {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State { members: vec![Member::default(); self.members - self.liars], openings: Vec::new() }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let in_force = self.in_force(state);
        for (i, _) in state.members.iter().enumerate().filter(|(_, m)| !m.crashed) {
            self.member_actions(state, i, &in_force, actions);
        }
        for term in 2..=self.handovers + 1 {
            for hub in 0..self.new_hubs {
                let opened = |o: &History| *o == o.first(o.size() - 1).open(term, hub);
                if self.new_hubs_lie || !state.openings.iter().any(opened) {
                    actions.extend(self.openings(state, term, hub).0);
                }
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Cosign { member, checkpoint } => {
                state.members[member].tips[checkpoint.term() - 1] = checkpoint
            }
            Action::HoldInForce { member, checkpoint } => state.members[member].held = checkpoint,
            Action::SignOff { member, term, next_hub } => {
                let member = &mut state.members[member];
                let answer = Answer { claim: member.tip(), note: member.held };
                member.signed_off[term - 1] = Some(SignOff { next_hub, answer });
            }
            Action::Open { term, hub, base, .. } => {
                let opening = base.open(term, hub);
                if state.openings.contains(&opening) {
                    return None;
                }
                state.openings.push(opening);
                state.openings.sort_unstable();
            }
            Action::Follow { member, opening } => state.members[member].tips[opening.term() - 1] = opening,
            Action::Crash { member } => state.members[member].crashed = true,
            Action::Restore { member, size } => {
                let member = &mut state.members[member];
                let backup = member.tips[0].first(size);
                let held = if backup.extends(member.held) { member.held } else { History(0) };
                let mut tips = [History(0); TERMS];
                tips[0] = backup;
                *member = Member { tips, forgotten: Some(member.tips), held, ..Member::default() };
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(NO_CONFLICT, no_conflict),
            Property::always(BASE_HOLDS, base_holds),
            Property::always(NOTHING_HELD_UNDONE, nothing_held_undone),
            Property::always(ONE_HISTORY, one_history),
            Property::always(ENTERED_ONCE, entered_once),
            Property::sometimes(COMPLETES, completes),
            Property::sometimes(ENTERED_AGAIN, entered_again),
        ];
        if self.crashes > 0 && self.liars == 0 {
            properties.push(Property::sometimes(COMPLETES_AFTER_CRASH, completes_after_crash));
        }
        if !self.old_hub_lies && !self.new_hubs_lie && self.new_hubs == 1 {
            properties.push(Property::always(ALWAYS_A_BASE, always_a_base));
        }
        properties.retain(|p| self.only.is_none_or(|only| only == p.name));
        properties
    }
}
