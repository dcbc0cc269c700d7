//! A member's copy of the record, from which small proofs and snapshots are made.

use super::attested::deciding;
use super::{
    Place, ProofFault, STUDY, STUDY_CHANGED, Shown, StudyFile, attested, form, keys_of, magic, verify_study,
};
use crate::body::StateAttest;
use crate::map::{self, Map, MapError};
use crate::state::{State, Status};
use crate::{Charter, snapshot};
use record::checkpoint::SignedCheckpoint;
use record::proof::{Proof, pack};
use record::roster::{PROPOSE, SIGN};
use record::{Digest, Entry, EntryBytes, Roster, Tree, canon};
use std::collections::{BTreeMap, BTreeSet};

/// A member's copy of the record, from which proofs are made.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The state in force.
    pub state: &'a State,
    /// The entries in force.
    pub entries: &'a [EntryBytes],
    /// The tree over at least them.
    pub tree: &'a Tree,
    /// The checkpoint that covers them, with a quorum's cosignatures.
    pub checkpoint: &'a SignedCheckpoint,
    /// The notes that sealed changes of members, keys and hub, by size.
    pub seals: &'a BTreeMap<u64, String>,
}

impl Source<'_> {
    /// The entries that hold and are of such a type, with their indices.
    fn held<'s>(&'s self, kind: impl Fn(&str) -> bool + 's) -> impl Iterator<Item = (u64, Entry)> + 's {
        let held = (0_u64..).zip(self.entries.iter().zip(&self.state.statuses));
        held.filter(|(_, (_, status))| **status == Status::Valid).filter_map(move |(index, (entry, _))| {
            let entry = entry.entry();
            kind(&entry.signed.statement().r#type).then_some((index, entry))
        })
    }

    /// The largest size at which a quorum attested the state, the state and map there, and the proof of it.
    fn attests(&self) -> Result<(Proof, State, Map), ProofFault> {
        if let Some(why) = self.state.stopped_because() {
            return Err(ProofFault::Stopped(why));
        }
        let Some((size, root)) = self.state.attested() else {
            let quorum = deciding(&self.state.roster);
            let every = self.state.charter.as_ref().map_or(0, Charter::snapshot_every).max(1);
            let size = self.state.size;
            let next = (size / every).saturating_add(1).saturating_mul(every);
            return Err(ProofFault::NotAttested { quorum, next, size });
        };
        let (state, map) = self.at(size, root)?;
        let charter = self.held(|kind| kind == PROPOSE).next().map(|(index, _)| index);
        let charter = charter.ok_or(ProofFault::NotInForce { size })?;
        let changes: Vec<(u64, Entry)> =
            self.held(|kind| Roster::reads(kind) && kind != PROPOSE && kind != SIGN).collect();
        let indices = self.quorum(&state.roster, size, root, &changes);
        let mut proof = Proof::new(self.entries, self.tree, self.checkpoint, charter, &indices)?;
        if !changes.is_empty() {
            let seals = self.seals.values().filter_map(|note| SignedCheckpoint::parse(note).ok());
            let seals: Vec<SignedCheckpoint> = seals.collect();
            let changes: Vec<u64> = changes.iter().map(|(index, _)| *index).collect();
            proof = proof.with_changes(self.entries, self.tree, &self.state.roster, &changes, &seals)?;
        }
        Ok((proof, state, map))
    }

    /// The attests of that state up to the first with which a quorum of the organisations of that moment has said so:
    /// one of each, and no more than it takes. `roster` is that of the attested size.
    fn quorum(&self, roster: &Roster, size: u64, root: Digest, changes: &[(u64, Entry)]) -> Vec<u64> {
        let says = |e: &Entry| e.signed.statement().body_as::<StateAttest>().ok();
        let says = |e: &Entry| says(e).is_some_and(|b| b.size == size && b.root == root);
        let mut roster = roster.clone();
        let mut changes = changes.iter().skip_while(|(index, _)| *index < size).peekable();
        let mut said: Vec<(u64, Entry)> = Vec::new();
        for (index, entry) in self.held(|kind| kind == StateAttest::TYPE).filter(|(_, e)| says(e)) {
            while let Some((at, change)) = changes.next_if(|(at, _)| *at < index) {
                // It held, or it would not be among them.
                let _ = roster.apply(*at, change);
            }
            said.push((index, entry));
            let mut organisations = BTreeSet::new();
            // From the last on: at its index a quorum was reached.
            let counts = said.iter().rev().filter(|(_, e)| {
                let member = roster.members.get(&e.signed.statement().issuer);
                member.is_some_and(|m| organisations.insert(m.operator.clone()))
            });
            let quorum = deciding(&roster) as usize;
            let mut indices: Vec<u64> = counts.map(|(index, _)| *index).take(quorum).collect();
            if indices.len() == quorum {
                indices.reverse();
                return indices;
            }
        }
        said.into_iter().map(|(index, _)| index).collect()
    }

    /// The state at that size, folded again.
    fn at(&self, size: u64, attested: Digest) -> Result<(State, Map), ProofFault> {
        let mut state = State::new();
        for entry in self.entries.iter().take(usize::try_from(size).unwrap_or(usize::MAX)) {
            state.apply(&entry.entry());
        }
        let map = state.map().map_err(form)?;
        if map.root() != attested {
            return Err(ProofFault::Differs { size, own: map.root(), attested });
        }
        Ok((state, map))
    }

    /// The small proof of a study.
    ///
    /// # Errors
    /// When no quorum has attested a state with it, or the seals of changes since the charter are not all here.
    pub fn prove_study(&self, study: &str) -> Result<Vec<u8>, ProofFault> {
        let (proof, state, map) = self.attests()?;
        let Some(s) = state.studies.get(study) else {
            return Err(ProofFault::NoStudy { study: study.to_owned(), size: state.size });
        };
        let numbers: Vec<u32> = s.runs.keys().copied().collect();
        let first = magic(&proof, [STUDY, STUDY_CHANGED]);
        let leaf = |key: &str| map.prove(key).found.into_iter().find(|leaf| leaf.key == key);
        let changed = proof.has_changes().then(|| leaf(map::ROSTER_CHANGES)).flatten();
        let mut file = StudyFile {
            study: study.to_owned(),
            record: proof,
            leaves: map.leaves().len() as u64,
            tree: map.prove("record").tree,
            values: Vec::new(),
            roster: changed.map(|leaf| Place { index: leaf.index, path: leaf.path }),
        };
        for key in keys_of(study, &numbers) {
            let (Some(leaf), Some(value)) = (leaf(&key), map.value(&key)) else {
                return Err(MapError::Absent { key }.into());
            };
            let value = String::from_utf8_lossy(value).into_owned();
            file.values.push(Shown { key, value, index: leaf.index, path: leaf.path });
        }
        let bytes = pack(first, &canon::to_bytes(&file).map_err(form)?)?;
        // What would not be believed is not written.
        verify_study(&bytes, self.state.charter_digest)?;
        Ok(bytes)
    }

    /// A snapshot of the state, with the proof that a quorum attested it.
    ///
    /// # Errors
    /// When no quorum has, or the seals of changes since the charter are not all here.
    pub fn snapshot(&self) -> Result<Vec<u8>, ProofFault> {
        let (proof, _, map) = self.attests()?;
        let bytes = snapshot::write_file(&proof, &map)?;
        let attested = attested(&proof, self.state.charter_digest)?;
        attested.check(&map)?;
        Ok(bytes)
    }
}
