//! Single bits of everything that is stored: no member cosigns over one, and a check of the copy says where it is.

use record::fsck::{Kept, Place, Report, Scan, first_difference};
use record::log::Cosigned;
use record::tree::{TileKind, TilePath, entry_bundle};
use record::{Log, SignedCheckpoint};

use crate::federation::{World, vote};

/// What a member or a hub keeps of a record.
#[derive(Clone)]
struct Stored {
    leaves: Vec<Vec<u8>>,
    note: Vec<u8>,
    tiles: Vec<(String, Vec<u8>)>,
    lines: Vec<(u64, String, String)>,
    cosigned: Option<Cosigned>,
}

impl Stored {
    fn of(world: &World) -> Stored {
        let checkpoint = world.cosigned(world.members.len());
        let size = world.log.size();
        let mut tiles: Vec<(String, Vec<u8>)> = TilePath::of_tree(size)
            .iter()
            .map(|path| (path.to_string(), world.log.tree().tile(path).unwrap()))
            .collect();
        for index in 0..size.div_ceil(256) {
            let width = (size - index * 256).min(256);
            let path = TilePath { kind: TileKind::Entries, index, width: width as u16 };
            let entries = &world.leaves[(index * 256) as usize..(index * 256 + width) as usize];
            tiles.push((path.to_string(), entry_bundle(entries.iter().map(Vec::as_slice)).unwrap()));
        }
        let note = checkpoint.to_note();
        let lines = note
            .lines()
            .skip(5)
            .map(|line| (size, line.split(' ').nth(1).unwrap().to_owned(), format!("{line}\n")))
            .collect();
        let cosigned = Some(Cosigned { size, root: world.log.tree().root(), term: 1 });
        Stored { leaves: world.leaves.clone(), note: note.into_bytes(), tiles, lines, cosigned }
    }

    fn kept(&self) -> Kept {
        Kept {
            notes: vec![("checkpoint".to_owned(), self.note.clone())],
            cosigned: self.cosigned,
            ..Kept::default()
        }
    }

    fn check(&self, kept: Kept, tiles: &[(String, Vec<u8>)], effort: u64) -> Report {
        let mut scan = Scan::new(kept).effort(effort);
        for (index, leaf) in (0..).zip(&self.leaves) {
            scan.entry(index, leaf);
        }
        let tiles = tiles.iter().map(|(path, bytes)| (path.clone(), bytes));
        scan.finish(tiles, &mut |index| self.leaves.get(index as usize).cloned())
    }
}

fn small() -> World {
    let mut world = World::new(&["gb", "it", "no"]);
    for number in 0..8 {
        world.say(vote(["gb", "it", "no"][number % 3], &format!("s{number}")));
    }
    world
}

fn flip(bytes: &mut [u8], bit: usize) {
    bytes[bit / 8] ^= 1 << (bit % 8);
}

/// Whether a member that has the entries before takes the rest and the checkpoint, and would cosign.
fn member_takes(before: &Log, rest: &[Vec<u8>], note: &[u8]) -> bool {
    let mut log = before.clone();
    let Ok(checkpoint) = SignedCheckpoint::parse(&String::from_utf8_lossy(note)) else { return false };
    rest.iter().all(|leaf| log.append(leaf, None).is_ok()) && log.standing(&checkpoint).is_ok()
}

fn stamp(leaf: &[u8]) -> std::ops::Range<usize> {
    20..20 + leaf[20..].iter().position(|b| *b == b'\n').unwrap()
}

#[test]
fn a_sound_copy_has_no_damage() {
    let world = small();
    let stored = Stored::of(&world);
    let mut kept = stored.kept();
    kept.cosignatures = stored.lines.clone();
    let report = stored.check(kept, &stored.tiles, 0);
    assert_eq!(report.damages, []);
    assert_eq!((report.size, report.confirmed), (world.log.size(), world.log.size()));
    assert_eq!(report.root, world.log.tree().root());
}

#[test]
fn every_flipped_bit_of_every_entry_is_refused_by_a_member_and_found_in_its_place() {
    record::keys::verify_once();
    let stored = Stored::of(&small());
    let mut count = 0_usize;
    let (mut before, mut scanned) = (Log::new(), Scan::new(stored.kept()));
    for index in 0..stored.leaves.len() {
        let mut copy = stored.clone();
        for bit in 0..stored.leaves[index].len() * 8 {
            flip(&mut copy.leaves[index], bit);
            assert!(!member_takes(&before, &copy.leaves[index..], &copy.note), "entry {index}, bit {bit}");
            // Finding the byte takes long; every stamp is sought, of the others every sixty-first.
            let sought = stamp(&stored.leaves[index]).contains(&(bit / 8)) || bit % 61 == 0;
            let mut scan = scanned.clone().effort(if sought { 10_000_000 } else { 0 });
            for (index, leaf) in (0..).zip(&copy.leaves).skip(index) {
                scan.entry(index, leaf);
            }
            let none: [(String, Vec<u8>); 0] = [];
            let report = scan.finish(none, &mut |index| copy.leaves.get(index as usize).cloned());
            let first = &report.damages[0];
            assert_eq!(report.first_bad_entry(), Some(index as u64), "bit {bit}: {:?}", report.damages);
            assert_eq!(first.place, Place::Entry(index as u64));
            if sought {
                assert_eq!(first.byte, Some(((bit / 8) as u64, stored.leaves[index].len() as u64)));
                assert_eq!(report.damages.len(), 1, "{:?}", report.damages);
            }
            flip(&mut copy.leaves[index], bit);
            count += 1;
        }
        before.append(&stored.leaves[index], None).unwrap();
        scanned.entry(index as u64, &stored.leaves[index]);
    }
    assert!(count > 30_000);
}

#[test]
fn every_flipped_bit_of_a_checkpoint_is_found_on_its_line() {
    record::keys::verify_once();
    let world = small();
    let stored = Stored::of(&world);
    let before = Log::new();
    let mut copy = stored.clone();
    for bit in 0..stored.note.len() * 8 {
        flip(&mut copy.note, bit);
        let line = 1 + stored.note[..bit / 8].iter().filter(|b| **b == b'\n').count() as u64;
        let report = copy.check(copy.kept(), &[], 0);
        let place = Place::Note { name: "checkpoint".to_owned(), line };
        assert_eq!(report.damages.len(), 1, "bit {bit}: {:?}", report.damages);
        assert_eq!(report.damages[0].place, place, "bit {bit}: {:?}", report.damages);
        // A cosignature that fell is not counted; everything above it is refused.
        if line <= 5 {
            assert!(!member_takes(&before, &copy.leaves, &copy.note), "bit {bit}");
        } else if let Ok(read) = SignedCheckpoint::parse(&String::from_utf8_lossy(&copy.note)) {
            assert_eq!(read.cosigners(world.log.roster()).len(), 2);
        }
        flip(&mut copy.note, bit);
    }
}

#[test]
fn every_flipped_bit_of_a_tile_is_found_at_its_byte() {
    let stored = Stored::of(&small());
    let mut copy = stored.clone();
    for tile in 0..stored.tiles.len() {
        let length = stored.tiles[tile].1.len();
        for bit in 0..length * 8 {
            flip(&mut copy.tiles[tile].1, bit);
            let report = copy.check(copy.kept(), &copy.tiles, 0);
            assert_eq!(report.damages.len(), 1, "bit {bit}: {:?}", report.damages);
            assert_eq!(report.damages[0].place, Place::Tile(stored.tiles[tile].0.clone()));
            assert_eq!(report.damages[0].byte, Some(((bit / 8) as u64, length as u64)), "bit {bit}");
            flip(&mut copy.tiles[tile].1, bit);
        }
    }
}

#[test]
fn every_flipped_bit_of_a_stored_cosignature_is_found_by_its_name() {
    let stored = Stored::of(&small());
    let mut copy = stored.clone();
    copy.cosigned = None;
    for line in 0..stored.lines.len() {
        for bit in 0..stored.lines[line].2.len() * 8 {
            let mut bytes = stored.lines[line].2.clone().into_bytes();
            flip(&mut bytes, bit);
            // A store of text gives text; a line that is none fails there.
            let Ok(text) = String::from_utf8(bytes) else { continue };
            copy.lines[line].2 = text;
            let kept = Kept { cosignatures: copy.lines.clone(), ..Kept::default() };
            let report = copy.check(kept, &[], 0);
            let (size, name, _) = stored.lines[line].clone();
            assert_eq!(report.damages.len(), 1, "bit {bit}: {:?}", report.damages);
            assert_eq!(report.damages[0].place, Place::Cosignature { size, name });
        }
        copy.lines[line] = stored.lines[line].clone();
    }
}

#[test]
fn a_stamp_that_fell_is_found_by_cosignatures_alone() {
    let stored = Stored::of(&small());
    let mut copy = stored.clone();
    copy.cosigned = None;
    flip(&mut copy.leaves[7], stamp(&stored.leaves[7]).end * 8 - 8);
    let kept = Kept { cosignatures: copy.lines.clone(), ..Kept::default() };
    let report = copy.check(kept, &[], 10_000_000);
    let byte = stamp(&stored.leaves[7]).end as u64 - 1;
    assert_eq!(report.first_bad_entry(), Some(7));
    assert_eq!(report.damages[0].byte, Some((byte, stored.leaves[7].len() as u64)));
}

#[test]
fn what_was_cosigned_beyond_or_beside_the_entries_is_found() {
    let mut stored = Stored::of(&small());
    stored.leaves.pop();
    let report = stored.check(stored.kept(), &[], 0);
    let size = stored.leaves.len() as u64;
    assert_eq!(report.damages[0].place, Place::Entries { from: size, to: size + 1 });

    let mut stored = Stored::of(&small());
    stored.cosigned = stored.cosigned.map(|c| Cosigned { size: c.size - 1, ..c });
    let report = stored.check(stored.kept(), &[], 0);
    assert_eq!(report.damages.len(), 1);
    assert_eq!(report.damages[0].place, Place::Kept("the note of what was cosigned".to_owned()));
}

#[test]
fn a_missing_entry_is_named_and_so_is_each_of_many_that_the_tiles_tell() {
    let stored = Stored::of(&small());
    let mut scan = Scan::new(stored.kept());
    for (index, leaf) in (0..).zip(&stored.leaves).filter(|(index, _)| *index != 5) {
        scan.entry(index, leaf);
    }
    let none: [(String, Vec<u8>); 0] = [];
    let report = scan.finish(none, &mut |_| None);
    assert_eq!(report.damages[0].place, Place::Entry(5));

    let mut copy = stored.clone();
    let bits = [(2, 163), (6, 2000), (7, 170), (9, 900)];
    bits.iter().for_each(|(index, bit)| flip(&mut copy.leaves[*index], *bit));
    let report = copy.check(copy.kept(), &stored.tiles[..1], 10_000_000);
    let found: Vec<_> = report.damages.iter().map(|d| (d.entry().unwrap(), d.byte.unwrap().0)).collect();
    assert_eq!(found, bits.map(|(index, bit)| (index as u64, bit as u64 / 8)));
}

#[test]
fn five_hundred_random_bits_of_a_large_log_are_refused_and_found() {
    record::keys::verify_once();
    let mut world = World::new(&["gb", "it", "no"]);
    for number in 0..2_000_u32 {
        world.say(vote(["gb", "it", "no"][number as usize % 3], &format!("s{number}")));
    }
    let stored = Stored::of(&world);
    let (size, root) = (world.log.size(), world.log.tree().root());
    let level: Vec<_> =
        stored.tiles.iter().filter(|(path, _)| path.starts_with("tile/0/")).cloned().collect();
    let mut draw = 0x1234_5678_9abc_def1_u64;
    let mut next = |below: usize| {
        draw ^= draw << 13;
        draw ^= draw >> 7;
        draw ^= draw << 17;
        (draw >> 11) as usize % below
    };
    for _ in 0..10 {
        let mut copy = stored.clone();
        let mut bits = std::collections::BTreeMap::new();
        while bits.len() < 50 {
            let index = next(stored.leaves.len());
            bits.entry(index).or_insert_with(|| next(stored.leaves[index].len() * 8));
        }
        for (&index, &bit) in &bits {
            flip(&mut copy.leaves[index], bit);
            // What a member computes of it is not the root that the hub signed.
            let leaf = record::tree::leaf_hash(&copy.leaves[index]);
            let proof = world.log.tree().prove_inclusion(index as u64, size).unwrap();
            record::tree::verify_inclusion(&leaf, index as u64, size, &root, &proof).unwrap_err();
            let at = first_difference(&copy.leaves[index], &stored.leaves[index]);
            assert_eq!(at, Some(bit / 8));
        }
        assert!(!member_takes(&Log::new(), &copy.leaves, &copy.note));
        let report = copy.check(copy.kept(), &level, u64::MAX);
        let found: Vec<_> = report.damages.iter().map(|d| (d.entry().unwrap(), d.byte.unwrap().0)).collect();
        let expected: Vec<_> = bits.iter().map(|(i, bit)| (*i as u64, *bit as u64 / 8)).collect();
        assert_eq!(found, expected);
    }
}
