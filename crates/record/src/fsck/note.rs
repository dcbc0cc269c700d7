//! What is wrong with a stored note, line by line.

use super::Fault;
use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use crate::digest::Digest;
use crate::keys::SecretKey;
use crate::roster::Roster;
use crate::tree::Tree;

/// What is wrong with a note: the line, a byte of the note where one is known, and the fault.
pub(super) type NoteFault = (u64, Option<usize>, Fault);

/// Reads a note and checks every line of it. The note is given where its hub's signature holds, or no hub is known.
pub(super) fn note_faults(
    note: &[u8],
    roster: &Roster,
    tree: &Tree,
) -> (Option<SignedCheckpoint>, Vec<NoteFault>) {
    let line_of = |at: usize| 1 + note.iter().take(at).filter(|b| **b == b'\n').count() as u64;
    let text = match std::str::from_utf8(note) {
        Ok(text) => text,
        Err(e) => {
            let at = e.valid_up_to();
            return (None, vec![(line_of(at), Some(at), Fault::Malformed("UTF-8"))]);
        }
    };
    let signed = match SignedCheckpoint::parse(text) {
        Ok(signed) => signed,
        Err(fault) => return (None, vec![(unreadable_line(text, roster), None, fault.into())]),
    };
    let Some(era) = roster.electorate_at(signed.checkpoint().size()) else {
        return (Some(signed), Vec::new());
    };
    if let Err(fault) = signed.verify_hub(&era.hub.key) {
        let line = unsigned_line(&signed, roster, tree);
        return (None, vec![(line, None, fault.into())]);
    }
    let place = |fault: CheckpointError| {
        let name = match &fault {
            CheckpointError::Cosignature { name, .. } | CheckpointError::UnknownCosigner { name } => name,
            _ => "",
        };
        let prefix = format!("— {name} ");
        let line = text.lines().skip(HEAD).position(|l| l.starts_with(&prefix)).unwrap_or(0) + HEAD;
        (line as u64 + 1, None, fault.into())
    };
    let faults = signed.faults(roster).into_iter().map(place).collect();
    (Some(signed), faults)
}

/// Lines of a note before its cosignatures: origin, size, root, an empty one, the hub's.
const HEAD: usize = 5;

/// The line of a readable note that the hub did not sign so: origin, size, root, or the signature itself.
fn unsigned_line(signed: &SignedCheckpoint, roster: &Roster, tree: &Tree) -> u64 {
    let claimed = signed.checkpoint();
    if claimed.origin() != roster.origin {
        return 1;
    }
    match tree.root_at(claimed.size()) {
        Ok(root) if root == claimed.root() => 5,
        Err(_) => 2,
        // The root of another size: it is the size that fell.
        Ok(_) => {
            let near = (0..64_u32).map(|bit| claimed.size() ^ (1 << bit)).chain([tree.size()]);
            let other = near.into_iter().any(|size| tree.root_at(size) == Ok(claimed.root()));
            if other { 2 } else { 3 }
        }
    }
}

/// The first line with which a note cannot be read.
fn unreadable_line(text: &str, roster: &Roster) -> u64 {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let origin = if roster.origin.is_empty() {
        lines.first().map_or("", |line| line.trim_end())
    } else {
        roster.origin.as_str()
    };
    // A sound note of this log, each of whose lines is exchanged for the one in question.
    let sound = |origin: &str| {
        let checkpoint = Checkpoint::new(origin, 1, Digest::from_bytes([0; 32])).ok()?;
        // Any signature will do: reading verifies nothing.
        Some(checkpoint.sign(&SecretKey::from_seed([0; 32])).to_note())
    };
    let Some(sound) = sound(origin) else { return 1 };
    let sound: Vec<&str> = sound.split_inclusive('\n').collect();
    let readable = |lines: &[&str]| SignedCheckpoint::parse(&lines.concat()).is_ok();
    for at in 0..HEAD {
        let mut whole = sound.clone();
        if let (Some(slot), Some(line)) = (whole.get_mut(at), lines.get(at)) {
            *slot = line;
        }
        if lines.get(at).is_none() || !readable(&whole) {
            return at as u64 + 1;
        }
    }
    let mut before: Option<&str> = None;
    for (at, line) in lines.iter().enumerate().skip(HEAD) {
        let alone = readable(&[sound.as_slice(), &[line]].concat());
        let ordered = before.is_none_or(|before| readable(&[sound.as_slice(), &[before, line]].concat()));
        let name = line.split(' ').nth(1).unwrap_or("");
        let member = roster.members.is_empty() || roster.members.contains_key(name);
        if !alone || !ordered || !member {
            return at as u64 + 1;
        }
        before = Some(line);
    }
    lines.len() as u64
}
