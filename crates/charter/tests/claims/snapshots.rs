//! Snapshots: a fold that goes on from one is the fold that began at the first entry.

use crate::federation::*;
use crate::golden::corpus;
use crate::scenario::whole;
use charter::{State, snapshot};
use proptest::prelude::*;
use record::Entry;
use std::collections::BTreeMap;
use std::sync::LazyLock;

static WHOLE: LazyLock<Federation> = LazyLock::new(whole);

/// The bytes of a snapshot with these leaves.
pub fn bytes_of(leaves: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut bytes = b"comity-state/1\n".to_vec();
    bytes.extend((leaves.len() as u64).to_be_bytes());
    for part in leaves.iter().flat_map(|(k, v)| [k.as_bytes(), v]) {
        bytes.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
        bytes.extend(part);
    }
    bytes
}

fn again(state: &State) -> State {
    let bytes = snapshot::write(state).unwrap();
    let read = snapshot::read(&bytes).unwrap();
    assert_eq!(snapshot::write(&read).unwrap(), bytes);
    assert_eq!(read.digest().unwrap(), state.digest().unwrap());
    assert_eq!(read.map().unwrap().root(), state.map().unwrap().root());
    assert_eq!(bytes_of(state.map().unwrap().leaves()), bytes);
    read
}

#[test]
fn every_frozen_record_is_folded_on_from_a_snapshot_at_every_entry() {
    for (name, entries) in corpus() {
        let whole = fold(&entries);
        let mut state = State::new();
        // A new snapshot before each entry: what one step forgets, a later one misses.
        for (index, entry) in entries.iter().enumerate() {
            state = again(&state);
            assert_eq!(state.apply(entry), &whole.statuses[index], "{name}: entry {index}");
        }
        assert_eq!(state.digest().unwrap(), whole.digest().unwrap(), "{name}");
        // And the rest of the record from one place, for places all over it.
        for size in (0..entries.len()).step_by(7) {
            let mut state = again(&fold(&entries[..size]));
            entries[size..].iter().for_each(|e| drop(state.apply(e).clone()));
            assert_eq!(state.digest().unwrap(), whole.digest().unwrap(), "{name} from {size}");
        }
    }
}

#[test]
fn a_snapshot_with_any_byte_changed_is_another_state_or_none() {
    let state = Federation::agreed().state;
    let bytes = snapshot::write(&state).unwrap();
    let root = state.map().unwrap().root();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        if let Ok(read) = snapshot::read(&changed) {
            assert_ne!(read.map().unwrap().root(), root, "byte {at}");
        }
    }
    for cut in [0, 10, 20, bytes.len() - 1] {
        assert!(snapshot::read(&bytes[..cut]).is_err());
    }
    assert!(snapshot::read(&[bytes.as_slice(), b"\n"].concat()).is_err());
}

#[test]
fn a_snapshot_whose_lengths_lie_is_refused_and_takes_no_memory() {
    for lie in [u64::MAX, 1 << 40] {
        let mut bytes = b"comity-state/1\n".to_vec();
        bytes.extend(lie.to_be_bytes());
        let fault = snapshot::read(&bytes).err().unwrap().to_string();
        assert!(fault.contains("byte 23"), "{fault}");
    }
    let mut bytes = b"comity-state/1\n".to_vec();
    bytes.extend(1_u64.to_be_bytes());
    bytes.extend(u32::MAX.to_be_bytes());
    assert!(snapshot::read(&bytes).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_random_record_is_folded_on_from_a_snapshot(
        order in proptest::collection::vec(any::<prop::sample::Index>(), 20..60),
        cut in any::<prop::sample::Index>(),
    ) {
        // Entries of a real record, left out, repeated and out of order: valid ones, void ones, repeats.
        let mut entries: Vec<Entry> = WHOLE.entries[..30].to_vec();
        entries.extend(order.iter().map(|i| WHOLE.entries[i.index(WHOLE.entries.len())].clone()));
        let cut = cut.index(entries.len());
        let mut state = again(&fold(&entries[..cut]));
        entries[cut..].iter().for_each(|e| drop(state.apply(e).clone()));
        prop_assert_eq!(state.digest().unwrap(), fold(&entries).digest().unwrap());
    }
}
