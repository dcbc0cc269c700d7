use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use record::Digest;
use record::tree::{
    TILE_WIDTH, TileKind, TilePath, Tree, TreeError, entry_bundle, leaf_hash, verify_consistency,
    verify_inclusion,
};
use sha2::{Digest as _, Sha256};

fn leaves(n: usize) -> Vec<Vec<u8>> {
    (0..n).map(|i| format!("leaf {i}").into_bytes()).collect()
}

fn tree(n: usize) -> Tree {
    let mut tree = Tree::new();
    for (i, leaf) in leaves(n).iter().enumerate() {
        assert_eq!(tree.append(leaf), i as u64);
    }
    tree
}

/// The definition in RFC 6962 section 2.1, word for word.
fn mth(leaves: &[Vec<u8>]) -> [u8; 32] {
    match leaves {
        [] => Sha256::digest(b"").into(),
        [one] => Sha256::digest([&[0][..], one].concat()).into(),
        many => {
            let k = many.len().next_power_of_two() / 2;
            Sha256::digest([&[1][..], &mth(&many[..k]), &mth(&many[k..])].concat()).into()
        }
    }
}

fn concat(proof: &[Digest]) -> Vec<u8> {
    proof.iter().flat_map(|d| *d.as_bytes()).collect()
}

#[test]
fn roots_are_those_of_rfc_6962() {
    let all = leaves(300);
    let grown = tree(300);
    for n in 0..=300 {
        assert_eq!(grown.root_at(n as u64).unwrap().as_bytes(), &mth(&all[..n]), "{n}");
    }
    assert_eq!(tree(0).root(), Digest::of(b""));
    assert!(matches!(grown.root_at(301), Err(TreeError::Outside { asked: 301, size: 300 })));
}

#[test]
fn roots_and_proofs_are_those_of_a_second_implementation() {
    let all = leaves(70);
    for n in 1..=70_usize {
        let ours = tree(n);
        let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        all[..n].iter().for_each(|l| theirs.push(l.clone()));
        assert_eq!(ours.root().as_bytes().as_slice(), theirs.root().as_bytes().as_slice());
        for i in 0..n {
            let proof = ours.prove_inclusion(i as u64, n as u64).unwrap();
            assert_eq!(concat(&proof), theirs.prove_inclusion(i).as_bytes());
        }
        for old in 1..n {
            let proof = ours.prove_consistency(old as u64, n as u64).unwrap();
            assert_eq!(concat(&proof), theirs.prove_consistency(n - old).as_bytes());
        }
    }
}

#[test]
fn a_tree_of_leaf_hashes_is_the_tree_of_the_leaves() {
    let grown = tree(77);
    let again = Tree::from_leaf_hashes(leaves(77).iter().map(|l| leaf_hash(l)));
    assert_eq!((again.root(), again.size()), (grown.root(), 77));
    assert_eq!(again.leaf(76), Some(leaf_hash(b"leaf 76")));
    assert_eq!(again.leaf(77), None);
}

#[test]
fn everything_begins_with_nothing_and_with_itself() {
    let grown = tree(5);
    let empty = Tree::new().root();
    assert!(grown.prove_consistency(0, 5).unwrap().is_empty());
    assert!(verify_consistency(0, &empty, 5, &grown.root(), &[]).is_ok());
    assert!(verify_consistency(5, &grown.root(), 5, &grown.root(), &[]).is_ok());
    assert!(verify_consistency(0, &grown.root(), 5, &grown.root(), &[]).is_err());
    assert!(verify_consistency(0, &empty, 0, &grown.root(), &[]).is_err());
    assert!(verify_consistency(6, &grown.root(), 5, &grown.root(), &[]).is_err());
    assert!(verify_consistency(5, &empty, 5, &grown.root(), &[]).is_err());
}

#[test]
fn a_foreign_proof_of_any_length_is_refused_without_a_panic() {
    let junk = vec![Digest::of(b"junk"); 70_000];
    let root = Digest::of(b"root");
    for size in [0, 1, 2, 3, 255, 256, u64::MAX - 1, u64::MAX] {
        for index in [0, 1, size / 2, size.saturating_sub(1), size] {
            for length in [0, 1, 2, 63, 64, 65, 66, 70_000] {
                assert!(verify_inclusion(&junk[0], index, size, &root, &junk[..length]).is_err());
                if index > 0 && !(index == size && length == 0) {
                    assert!(verify_consistency(index, &junk[0], size, &root, &junk[..length]).is_err());
                }
            }
        }
    }
}

#[test]
fn tiles_are_those_of_c2sp_tlog_tiles() {
    let size = 600_u64;
    let grown = tree(600);
    let all = leaves(600);
    let paths: Vec<String> = TilePath::of_tree(size).iter().map(ToString::to_string).collect();
    assert_eq!(paths, ["tile/0/000", "tile/0/001", "tile/0/002.p/88", "tile/1/000.p/2"]);
    for path in TilePath::of_tree(size) {
        let bytes = grown.tile(&path).unwrap();
        let TileKind::Hashes(level) = path.kind else { panic!("hash tiles only") };
        let span = TILE_WIDTH.pow(u32::from(level));
        // MTH(D[(n * 256 + i) * 256**l : (n * 256 + i + 1) * 256**l])
        let want: Vec<u8> = (0..u64::from(path.width))
            .flat_map(|i| {
                let start = (path.index * TILE_WIDTH + i) * span;
                mth(&all[start as usize..(start + span) as usize])
            })
            .collect();
        assert_eq!(bytes, want, "{path}");
    }
    for missing in [
        "tile/0/002",
        "tile/0/002.p/89",
        "tile/1/000.p/3",
        "tile/2/000.p/1",
        "tile/63/000",
        "tile/entries/000",
    ] {
        assert!(grown.tile(&missing.parse().unwrap()).is_err(), "{missing}");
    }
    // The sizes in the specification's own example.
    let paths = TilePath::of_tree(70_000);
    let partial: Vec<String> = paths.iter().filter(|p| p.width < 256).map(ToString::to_string).collect();
    assert_eq!(partial, ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]);
    assert_eq!(paths.len(), 273 + 1 + 1 + 1 + 1);
}

#[test]
fn a_tile_has_one_path() {
    for good in ["tile/0/000", "tile/63/x001/x234/067", "tile/entries/x999/000.p/255", "tile/0/000.p/1"] {
        assert_eq!(good.parse::<TilePath>().unwrap().to_string(), good);
    }
    for bad in [
        "",
        "tile",
        "tile/",
        "tile/0",
        "tile/0/",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/+1/000",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000/000",
        "tile/0/001/000",
        "tile/0/x001",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/8/0/000",
        "/tile/0/000",
        "tile/0/000/",
        "tile/0/+01",
        "tile/data/000",
        "tile/0/xé1/000",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
    ] {
        assert!(bad.parse::<TilePath>().is_err(), "{bad}");
    }
    let last = TilePath { kind: TileKind::Entries, index: u64::MAX, width: 256 };
    assert_eq!(last.to_string().parse::<TilePath>().unwrap(), last);
    assert!(tree(3).tile(&TilePath { kind: TileKind::Hashes(0), ..last }).is_err());
}

#[test]
fn entry_bundles_prefix_each_entry_with_its_length() {
    assert_eq!(entry_bundle([&b"ab"[..], b"", b"c"]).unwrap(), b"\0\x02ab\0\0\0\x01c");
    assert!(entry_bundle([vec![0; 65_536].as_slice()]).is_err());
}

proptest! {
    #[test]
    fn a_proof_holds_for_its_own_claim_and_no_other(n in 1..400_usize, a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>(), flip in 0..256_usize) {
        let grown = tree(n);
        let size = 1 + b.index(n) as u64;
        let index = a.index(size as usize) as u64;
        let root = grown.root_at(size).unwrap();
        let leaf = grown.leaf(index).unwrap();
        let proof = grown.prove_inclusion(index, size).unwrap();
        prop_assert!(verify_inclusion(&leaf, index, size, &root, &proof).is_ok());
        prop_assert!(verify_inclusion(&Digest::of(b"other"), index, size, &root, &proof).is_err());
        if index + 1 < size {
            prop_assert!(verify_inclusion(&leaf, index + 1, size, &root, &proof).is_err());
        }
        let mut longer = proof.clone();
        longer.push(root);
        prop_assert!(verify_inclusion(&leaf, index, size, &root, &longer).is_err());
        if let Some(first) = proof.first() {
            let mut bytes = *first.as_bytes();
            bytes[flip / 8] ^= 1 << (flip % 8);
            let mut changed = proof.clone();
            changed[0] = Digest::from_bytes(bytes);
            prop_assert!(verify_inclusion(&leaf, index, size, &root, &changed).is_err());
            prop_assert!(verify_inclusion(&leaf, index, size, &root, &proof[1..]).is_err());
        }
        let (old, new) = (index + 1, size);
        let old_root = grown.root_at(old).unwrap();
        let proof = grown.prove_consistency(old, new).unwrap();
        prop_assert!(verify_consistency(old, &old_root, new, &root, &proof).is_ok());
        prop_assert!(verify_consistency(old, &Digest::of(b"other"), new, &root, &proof).is_err());
        prop_assert!(verify_consistency(old, &old_root, new, &Digest::of(b"other"), &proof).is_err());
        if !proof.is_empty() {
            prop_assert!(verify_consistency(old, &old_root, new, &root, &proof[1..]).is_err());
        }
    }
}
