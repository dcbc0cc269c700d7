//! Who counts when a checkpoint is cosigned: organisations, outside witnesses, and how many of them must.
//!
//! An electorate is fixed for a range of sizes of the log, an *era*. A change of members or keys ends one and begins the
//! next; the checkpoint that first covers the change counts only if it has the quorum of both, so that what the old set
//! had put in force is never undone by a new one (compare joint consensus of Raft, section 6 of the Raft paper).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::keys::PublicKey;
use crate::postquantum::MlPublicKey;
use crate::roster::HubInfo;

/// Deepest nesting of groups, and most names in all of them.
const MAX_DEPTH: usize = 4;
const MAX_NAMES: usize = 256;

/// Whose cosignature it is, and under which keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cosigner {
    /// Ed25519 key of its cosignatures.
    pub key: PublicKey,
    /// ML-DSA-44 key of its cosignatures, if it has one.
    pub ml: Option<MlPublicKey>,
    /// Who runs it: seats of one operator count once.
    pub operator: String,
}

/// Which kinds of cosignature count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// Ed25519 alone; a post-quantum line is welcome and counts for nothing.
    #[default]
    Ed25519,
    /// Of members both an Ed25519 and an ML-DSA-44 cosignature. Outside witnesses count by what they have.
    Hybrid,
}

/// `need` of these must cosign: members, witnesses, or groups of them (compare C2SP tlog-policy).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// How many.
    pub need: u32,
    /// Of these.
    pub of: Vec<Part>,
}

/// A name or a group within a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Part {
    /// A member's id or a witness's name.
    One(String),
    /// A group within the group.
    Group(Group),
}

impl Group {
    /// Whether these names suffice.
    pub fn holds(&self, names: &BTreeSet<String>) -> bool {
        let have = self.of.iter().filter(|part| match part {
            Part::One(name) => names.contains(name),
            Part::Group(group) => group.holds(names),
        });
        have.count() >= self.need as usize
    }

    /// What is wrong with it: a number that cannot be reached, a name that nobody has or that stands twice, too deep.
    pub fn fault(&self, known: &dyn Fn(&str) -> bool) -> Option<String> {
        self.fault_within(known, 1, &mut BTreeSet::new())
    }

    fn fault_within(
        &self,
        known: &dyn Fn(&str) -> bool,
        depth: usize,
        names: &mut BTreeSet<String>,
    ) -> Option<String> {
        if depth > MAX_DEPTH {
            return Some(format!("groups nested deeper than {MAX_DEPTH}"));
        }
        if self.need == 0 || self.need as usize > self.of.len() {
            return Some(format!("a group that needs {} of {}", self.need, self.of.len()));
        }
        self.of.iter().find_map(|part| match part {
            Part::Group(group) => group.fault_within(known, depth + 1, names),
            Part::One(name) if !known(name) => Some("a name that is no member and no witness".to_owned()),
            Part::One(name) if !names.insert(name.clone()) => Some(format!("`{name}` twice")),
            Part::One(_) if names.len() > MAX_NAMES => Some(format!("more than {MAX_NAMES} names")),
            Part::One(_) => None,
        })
    }
}

/// Who counts over a range of sizes, and whose signature makes a checkpoint there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Electorate {
    /// Members by party id. Suspended ones are not among them.
    pub members: BTreeMap<String, Cosigner>,
    /// Outside witnesses by name: they count for checkpoints alone.
    pub witnesses: BTreeMap<String, Cosigner>,
    /// How many organisations may sign anything at all without two conflicting checkpoints reaching quorum.
    pub f: u32,
    /// Which cosignatures count.
    pub scheme: Scheme,
    /// A further condition of the charter.
    pub groups: Option<Group>,
    /// The hub of this term.
    pub hub: HubInfo,
    /// Its term, from 1.
    pub term: u32,
}

impl Electorate {
    /// Organisations: members and witnesses, each operator once.
    pub fn organisations(&self) -> u32 {
        self.operators(self.members.keys().chain(self.witnesses.keys()))
    }

    fn operators<'a>(&'a self, names: impl Iterator<Item = &'a String>) -> u32 {
        let operator = |name: &String| self.cosigner(name).map(|c| c.operator.as_str());
        names.filter_map(operator).collect::<BTreeSet<_>>().len() as u32
    }

    /// Organisations of members alone.
    pub fn member_organisations(&self) -> u32 {
        self.operators(self.members.keys())
    }

    /// The cosigner of this name.
    pub fn cosigner(&self, name: &str) -> Option<&Cosigner> {
        self.members.get(name).or_else(|| self.witnesses.get(name))
    }

    /// Organisations whose cosignatures put a checkpoint in force: floor((n + f) / 2) + 1, so that two conflicting
    /// checkpoints would need more than f organisations to sign both. Never more than n, since f is below n.
    pub fn quorum(&self) -> u32 {
        quorum(self.organisations(), self.f)
    }

    /// Whether the cosignatures of these names put a checkpoint in force: a quorum of organisations, more than half
    /// of the members' among them (witnesses see no entries), and the charter's groups.
    pub fn suffices(&self, names: &BTreeSet<String>) -> bool {
        let members = self.operators(names.iter().filter(|n| self.members.contains_key(*n)));
        self.operators(names.iter()) >= self.quorum()
            && members > self.member_organisations() / 2
            && self.groups.as_ref().is_none_or(|g| g.holds(names))
    }

    /// Organisations of members that decide among themselves: a quorum as for checkpoints, without witnesses.
    pub fn deciding(&self) -> u32 {
        let members = self.member_organisations();
        quorum(members, self.f.min(members.max(1) - 1)).min(members)
    }

    /// Whether these members can decide on members and keys: a quorum as for checkpoints, of members alone. Whoever is
    /// decided about has no say; if fewer are left than the quorum, all of them must.
    pub fn decides(&self, accepted: &BTreeSet<String>, about: Option<&str>) -> bool {
        let is_about = |name: &&String| Some(name.as_str()) == about;
        let others = self.operators(self.members.keys().filter(|n| !is_about(n)));
        let need = self.deciding().min(others);
        let have = self.operators(accepted.iter().filter(|n| self.members.contains_key(*n) && !is_about(n)));
        need > 0 && have >= need
    }
}

/// floor((n + f) / 2) + 1; zero when there is nobody.
pub fn quorum(n: u32, f: u32) -> u32 {
    if n == 0 { 0 } else { (n + f) / 2 + 1 }
}

/// floor((n - 1) / 3): what a charter tolerates that names no other number.
pub fn default_faults(n: u32) -> u32 {
    n.saturating_sub(1) / 3
}
