//! What members know to be withheld, worked out from the words that reached them: once more than f organisations have
//! told a member that they hold a statement, and the bound has passed, it may cosign nothing without it.

use std::collections::{BTreeMap, BTreeSet};

use record::{Digest, Entry, Member, SignedStatement};

use super::member::OVERDUE;

/// How long after it was told a member may take to look, milliseconds: it looks at each of its ticks.
const LOOKS: i64 = 4000;

/// What one member was told.
#[derive(Default)]
struct Told {
    /// Who holds a statement, and since when this member knows.
    holders: BTreeMap<Digest, BTreeMap<String, i64>>,
    /// Since when nothing has happened that begins the bound anew: its process, its clock, who its members are.
    steady: i64,
    /// How often its members had changed then.
    eras: usize,
}

/// What each member was told.
#[derive(Default)]
pub struct Withheld {
    members: BTreeMap<usize, Told>,
    statements: BTreeMap<Digest, SignedStatement>,
    /// How often a member was about to cosign and had been told of a statement that it lacks for longer than the bound.
    pub looked: u64,
}

impl Withheld {
    /// A member fell, was restored, or its clock was set: what it was told it may have forgotten.
    pub fn anew(&mut self, member: usize, now: i64) {
        self.members.insert(member, Told { steady: now, ..Told::default() });
    }

    /// A word with a statement that `holder` holds reached a member that can read it, lacks it, and could record it.
    pub fn told(
        &mut self,
        member: usize,
        machine: &Member,
        holder: &str,
        (id, bytes): (Digest, &[u8]),
        now: i64,
    ) {
        let Ok(signed) = SignedStatement::from_bytes(bytes) else { return };
        if signed.id() != id || is_void(machine, &signed) {
            return;
        }
        self.statements.entry(id).or_insert(signed);
        let told = self.members.entry(member).or_default();
        let holders = told.holders.entry(id).or_default();
        for who in [holder, &machine.party] {
            holders.entry(who.to_owned()).or_insert(now);
        }
    }

    /// The statement is in a member's record, or can never be.
    pub fn settled(&mut self, member: usize, settled: impl Fn(&Digest) -> bool) {
        if let Some(told) = self.members.get_mut(&member) {
            told.holders.retain(|id, _| !settled(id));
        }
    }

    /// A member has done a step: gives a statement that it should see to be withheld.
    pub fn overdue(&mut self, member: usize, machine: &Member, now: i64) -> Option<Digest> {
        let roster = machine.log.roster();
        let told = self.members.get_mut(&member)?;
        if told.eras != roster.eras.len() {
            (told.eras, told.steady) = (roster.eras.len(), now);
        }
        let need = roster.f as usize + 1;
        let late = |holders: &BTreeMap<String, i64>| {
            let known =
                |(who, since): (&String, &i64)| Some((*since, roster.members.get(who)?.operator.clone()));
            let mut since: Vec<(i64, String)> = holders.iter().filter_map(known).collect();
            since.sort();
            let mut operators = BTreeSet::new();
            let enough = since.into_iter().find(|(_, operator)| {
                operators.insert(operator.clone());
                operators.len() >= need
            });
            enough.is_some_and(|(at, _)| at.max(told.steady) + OVERDUE + LOOKS < now)
        };
        let late = told.holders.iter().filter(|(_, holders)| late(holders)).map(|(id, _)| *id);
        late.into_iter().find(|id| self.statements.get(id).is_some_and(|signed| !is_void(machine, signed)))
    }
}

/// Whether a statement would be void by now at this member.
fn is_void(machine: &Member, signed: &SignedStatement) -> bool {
    machine.log.roster().after(machine.log.size(), &Entry::new(0, signed.clone())).is_err()
}
