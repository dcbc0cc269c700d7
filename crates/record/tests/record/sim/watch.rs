//! What must never happen, looked at after each step, and what must have happened at the end.

use std::collections::{BTreeMap, BTreeSet};

use record::{Digest, Log, Member, PublicKey, SignedCheckpoint};

use super::hub::Hub;
use super::member::{Actor, Fact};
use super::withheld::Withheld;

/// A statement that an honest member took on.
struct Said {
    by: usize,
    at: i64,
}

/// The watch.
#[derive(Default)]
pub struct Watch {
    /// What went wrong, in the order in which it was seen.
    pub faults: Vec<String>,
    /// The one history in force: leaf and status by index.
    chain: Vec<(Digest, Option<&'static str>)>,
    /// Statements in it.
    pub in_force: BTreeMap<Digest, u64>,
    /// What a state is after so many entries in force, in short.
    states: BTreeMap<u64, String>,
    said: BTreeMap<Digest, Said>,
    /// Statements that nobody need see in force.
    excused: BTreeSet<Digest>,
    /// By member and term: leaves under the highest checkpoint that left cosigned.
    cosigned: BTreeMap<(usize, u32), Vec<Digest>>,
    signed_off: BTreeSet<(usize, u32)>,
    /// By size and root: keys that cosigned.
    keys: BTreeMap<(u64, Digest), BTreeSet<(String, PublicKey)>>,
    /// What honest hubs signed: root by hub and size.
    roots: BTreeMap<(usize, u64), Digest>,
    /// Receipts of honest hubs.
    receipts: BTreeMap<(usize, u64), Digest>,
    /// What was in force at a member.
    watermarks: BTreeMap<usize, u64>,
    /// What members were told that others hold.
    pub withheld: Withheld,
}

impl Watch {
    fn fault(&mut self, what: String) {
        if self.faults.len() < 8 {
            self.faults.push(what);
        }
    }

    /// A step of an honest member is done and durable.
    pub fn step(&mut self, actor: &Actor, facts: &[Fact], liars: &BTreeSet<usize>, now: i64) {
        let Some(machine) = &actor.machine else { return };
        for fact in facts {
            match fact {
                Fact::Said(id) => drop(self.said.entry(*id).or_insert(Said { by: actor.index, at: now })),
                Fact::GivenUp(id) => drop(self.excused.insert(*id)),
                Fact::SignedOff(term) => drop(self.signed_off.insert((actor.index, *term))),
                Fact::Cosigned { size, term } => self.cosigned(actor, machine, *size, *term, liars),
            }
        }
        self.look_for_withheld(actor, machine, facts, now);
        let watermark = machine.watermark();
        if watermark > machine.log.size() {
            self.fault(format!("{} has cut off what was in force", actor.id));
        } else if self.watermarks.insert(actor.index, watermark) != Some(watermark) {
            self.hold(&actor.id, &machine.log, watermark);
            self.compare_states(&actor.id, &machine.log, watermark);
        }
        if let Some(why) = &machine.halted {
            self.fault(format!("{} has halted: {why}", actor.id));
        }
    }

    /// Nobody cosigns past what it was told is withheld.
    fn look_for_withheld(&mut self, actor: &Actor, machine: &Member, facts: &[Fact], now: i64) {
        let given_up: BTreeSet<Digest> =
            facts.iter().filter_map(|f| if let Fact::GivenUp(id) = f { Some(*id) } else { None }).collect();
        self.withheld.settled(actor.index, |id| given_up.contains(id) || actor.has_recorded(id));
        let Some(id) = self.withheld.overdue(actor.index, machine, now) else { return };
        self.withheld.looked += 1;
        if facts.iter().any(|fact| matches!(fact, Fact::Cosigned { .. })) {
            let what = id.short();
            self.fault(format!("{} cosigned while more than f hold {what}, which is withheld", actor.id));
        }
    }

    /// An older copy of a member's disk was put in its place.
    pub fn restored(&mut self, actor: &Actor) {
        self.watermarks.remove(&actor.index);
        // What only its old disk knew it cannot know until it is told.
        self.signed_off.retain(|(member, _)| *member != actor.index);
        let open = self.said.iter().filter(|(id, s)| s.by == actor.index && !self.in_force.contains_key(*id));
        self.excused.extend(open.map(|(id, _)| *id).collect::<Vec<_>>());
    }

    /// What a member has given up may be gone from its disk even if its process falls.
    pub fn given_up(&mut self, facts: &[Fact]) {
        let ids = facts.iter().filter_map(|f| if let Fact::GivenUp(id) = f { Some(*id) } else { None });
        self.excused.extend(ids);
    }

    pub fn excuse(&mut self, member: usize) {
        let open = self.said.iter().filter(|(id, s)| s.by == member && !self.in_force.contains_key(*id));
        self.excused.extend(open.map(|(id, _)| *id).collect::<Vec<_>>());
    }

    fn leaves(log: &Log, size: u64) -> Vec<Digest> {
        (0..size).filter_map(|i| log.tree().leaf(i)).collect()
    }

    fn cosigned(&mut self, actor: &Actor, machine: &Member, size: u64, term: u32, liars: &BTreeSet<usize>) {
        let leaves = Self::leaves(&machine.log, size);
        if self.signed_off.contains(&(actor.index, term)) {
            self.fault(format!("{} cosigned in term {term}, which it has signed off", actor.id));
        }
        let before = self.cosigned.entry((actor.index, term)).or_default();
        if !leaves.starts_with(before) {
            let was = before.len();
            self.fault(format!(
                "{} cosigned two histories in term {term}: {was} entries and {size}",
                actor.id
            ));
        } else {
            *before = leaves;
        }
        // Whoever collects these lines, with those of the liars, has it in force.
        let Ok(root) = machine.log.tree().root_at(size) else { return };
        let eras: Vec<_> = machine.log.roster().electorates(machine.watermark(), size);
        let keys = self.keys.entry((size, root)).or_default();
        for era in &eras {
            keys.extend(era.members.get(&actor.id).map(|c| (actor.id.clone(), c.key)));
        }
        let quorum = eras.iter().all(|era| {
            let counts =
                |(name, key): &&(String, PublicKey)| era.members.get(name).is_some_and(|c| c.key == *key);
            let mut names: BTreeSet<String> = keys.iter().filter(counts).map(|(n, _)| n.clone()).collect();
            names.extend(
                liars.iter().map(|l| super::charter::member_id(*l)).filter(|l| era.members.contains_key(l)),
            );
            era.suffices(&names)
        });
        if quorum {
            self.hold("a quorum", &machine.log, size);
        }
    }

    /// The first entries of this log are in force.
    fn hold(&mut self, who: &str, log: &Log, size: u64) {
        for index in 0..size {
            let Some(leaf) = log.tree().leaf(index) else { return };
            let status = log.voids().get(&index).map(record::Why::code);
            match self.chain.get(index as usize) {
                Some(known) if *known == (leaf, status) => {}
                Some((known, _)) if *known != leaf => {
                    return self.fault(format!("{who} has another entry {index} in force than others"));
                }
                Some(_) => {
                    return self.fault(format!("{who} has another status of entry {index} than others"));
                }
                None => {
                    self.chain.push((leaf, status));
                    if let Some(entry) = log.entries().get(index as usize) {
                        self.in_force.entry(entry.id()).or_insert(index);
                    }
                }
            }
        }
    }

    /// The roster after the same entries is the same at all.
    fn compare_states(&mut self, who: &str, log: &Log, size: u64) {
        if log.size() != size {
            return;
        }
        let r = log.roster();
        let keys: Vec<_> = r.members.values().map(|k| (k.sign, k.cosign)).collect();
        let done = r.proposals.values().filter(|p| p.done.is_some()).count();
        let state = format!("{} {} {} {done} {:?}", r.term, r.eras.len(), r.f, keys);
        if *self.states.entry(size).or_insert_with(|| state.clone()) != state {
            self.fault(format!("{who} has another roster after {size} entries than others"));
        }
    }

    /// An honest hub signed a checkpoint.
    pub fn hub_signed(&mut self, hub: usize, note: &SignedCheckpoint) {
        let (size, root) = (note.checkpoint().size(), note.checkpoint().root());
        if *self.roots.entry((hub, size)).or_insert(root) != root {
            self.fault(format!("hub{hub} signed two roots for size {size}"));
        }
    }

    /// An honest hub gave a receipt.
    pub fn receipt(&mut self, hub: usize, index: u64, id: Digest) {
        if *self.receipts.entry((hub, index)).or_insert(id) != id {
            self.fault(format!("hub{hub} gave receipts for two statements at {index}"));
        }
    }

    /// An honest hub is up again, or it is over: what it gave receipts for is there.
    pub fn check_receipts(&mut self, hub: &Hub) {
        let lost: Vec<_> =
            self.receipts.range((hub.index, 0)..(hub.index + 1, 0)).map(|(k, id)| (k.1, *id)).collect();
        for (index, id) in lost {
            if !hub.holds(index, &id) {
                self.fault(format!("hub{} has lost entry {index}, for which it gave a receipt", hub.index));
            }
        }
    }

    /// Statements of honest members that are to be in force and are not, said before a time.
    pub fn waiting(&self, before: i64) -> impl Iterator<Item = (&Digest, usize)> {
        let open = move |(id, s): &(&Digest, &Said)| {
            s.at < before && !self.in_force.contains_key(*id) && !self.excused.contains(*id)
        };
        self.said.iter().filter(open).map(|(id, s)| (id, s.by))
    }

    /// How many entries are in force.
    pub fn height(&self) -> u64 {
        self.chain.len() as u64
    }

    /// Everything said is in force, each once, and everyone has it.
    pub fn end(&mut self, actors: &[&Actor], complete: bool) {
        for actor in actors {
            let Some(machine) = &actor.machine else { continue };
            let ours = Self::leaves(&machine.log, machine.watermark());
            if !self.chain.iter().map(|(leaf, _)| leaf).take(ours.len()).eq(ours.iter()) {
                self.fault(format!("{} holds another history at the end", actor.id));
            }
            if complete && machine.watermark() != self.height() {
                let (has, all) = (machine.watermark(), self.height());
                self.fault(format!("{} has {has} of {all} entries in force at the end", actor.id));
            }
        }
        let waiting: Vec<usize> = self.waiting(i64::MAX).map(|(_, by)| by).collect();
        if complete && !waiting.is_empty() {
            self.fault(format!("statements of {waiting:?} are not in force at the end"));
        }
    }
}
