//! The map of the state: complete, in order, and nothing about it can be shown that is not so.

use crate::federation::*;
use crate::golden::corpus;
use crate::scenario::attested;
use charter::map::{Map, MapProof};
use charter::snapshot;
use proptest::prelude::*;
use record::Digest;
use std::collections::BTreeMap;
use std::sync::LazyLock;

static MAP: LazyLock<Map> = LazyLock::new(|| attested().state.map().unwrap());

fn small(keys: &[&str]) -> Map {
    Map::new(keys.iter().map(|k| (k.to_string(), k.as_bytes().to_vec())).collect())
}

#[test]
fn every_change_of_the_state_changes_the_root() {
    // After each entry of every frozen record: another digest of the state is another root, and the same the same.
    for (name, entries) in corpus() {
        let mut state = charter::State::new();
        let mut roots = BTreeMap::new();
        for entry in &entries {
            state.apply(entry);
            let (digest, root) = (state.digest().unwrap(), state.map().unwrap().root());
            assert_eq!(*roots.entry(root).or_insert(digest), digest, "{name}: two states, one root");
        }
        assert_eq!(roots.len(), entries.len());
    }
}

#[test]
fn each_part_of_a_state_has_its_key() {
    let kinds: std::collections::BTreeSet<&str> =
        MAP.leaves().keys().map(|k| k.split('/').next().unwrap()).collect();
    let expected = [
        "asked",
        "attest",
        "charter",
        "dataset",
        "dictionary",
        "record",
        "roster",
        "run-order",
        "seen",
        "status",
        "study",
    ];
    assert_eq!(kinds, expected.into());
    assert_eq!(Digest::of(MAP.value("charter").unwrap()), attested().state.charter_digest.unwrap());
    assert!(MAP.value("study/seen/run/1").is_some() && MAP.value("study/seen/run/1/keys").is_some());
    assert!(MAP.value("study/seen/run/1").unwrap().len() < 16_000, "a run is shown without its keys");
}

#[test]
fn what_is_in_the_map_is_shown_with_its_value_and_what_is_not_is_shown_absent() {
    for map in [small(&[]), small(&["b"]), small(&["b", "d"]), small(&["b", "d", "f", "h", "j"])] {
        let root = map.root();
        for key in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", ""] {
            let proof = map.prove(key);
            let found = proof.verify(key, &root).unwrap();
            assert_eq!(found, map.value(key).map(Digest::of), "{key}");
            assert!(proof.verify(key, &small(&["z"]).root()).is_err());
        }
    }
    let root = MAP.root();
    for (key, value) in MAP.leaves() {
        MAP.prove(key).verify_value(key, value, &root).unwrap();
        assert!(MAP.prove(key).verify_value(key, b"other", &root).is_err());
    }
    assert_eq!(MAP.prove("stopped/it").verify("stopped/it", &root), Ok(None));
}

#[test]
fn a_key_that_is_there_cannot_be_shown_absent_by_any_neighbours() {
    let map = small(&["a", "b", "c", "d", "e", "f", "g"]);
    let root = map.root();
    let leaf = |key: &str| map.prove(key).found.remove(0);
    let with = |found, leaves| MapProof { found, leaves, ..map.prove("a") };
    let keys = ["a", "b", "c", "e", "f", "g"];
    for left in keys {
        assert!(with(vec![leaf(left)], 7).verify("d", &root).is_err(), "{left}");
        for right in keys {
            // The true number of leaves, and one that would make other leaves neighbours.
            for leaves in [6, 7, 8] {
                assert!(with(vec![leaf(left), leaf(right)], leaves).verify("d", &root).is_err());
            }
            let (mut l, mut r) = (leaf(left), leaf(right));
            r.index = l.index + 1;
            assert!(with(vec![l.clone(), r.clone()], 7).verify("d", &root).is_err());
            l.index = r.index;
            assert!(with(vec![l, r], 7).verify("d", &root).is_err());
        }
    }
    assert!(with(Vec::new(), 7).verify("d", &root).is_err());
    assert!(with(Vec::new(), 0).verify("d", &root).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_map_shows_of_any_key_whether_it_is_there(
        keys in proptest::collection::btree_set("[a-d]{0,4}", 0..24),
        asked in "[a-d]{0,4}",
    ) {
        let map = Map::new(keys.iter().map(|k| (k.clone(), k.clone().into_bytes())).collect());
        let found = map.prove(&asked).verify(&asked, &map.root()).unwrap();
        prop_assert_eq!(found.is_some(), keys.contains(&asked));
    }

    #[test]
    fn a_map_of_other_leaves_has_another_root(
        a in proptest::collection::btree_map("[a-c]{0,3}", "[x-z]{0,2}", 0..8),
        b in proptest::collection::btree_map("[a-c]{0,3}", "[x-z]{0,2}", 0..8),
    ) {
        let map = |m: &BTreeMap<String, String>| {
            Map::new(m.iter().map(|(k, v)| (k.clone(), v.clone().into_bytes())).collect())
        };
        prop_assert_eq!(map(&a).root() == map(&b).root(), a == b);
    }
}

#[test]
fn a_snapshot_names_a_key_that_no_state_has() {
    let mut leaves = MAP.leaves().clone();
    leaves.insert("veto/it".into(), b"true".to_vec());
    let bytes = crate::snapshots::bytes_of(&leaves);
    let fault = snapshot::read(&bytes).err().unwrap().to_string();
    assert!(fault.contains("`veto/it`"), "{fault}");
    let f = Federation::agreed();
    assert!(f.state.map().unwrap().value("floor").is_none());
}
