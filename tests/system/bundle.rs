//! What an auditor gets, and what becomes of it when somebody touched it.

use crate::command::{comity, scratch};
use crate::demo::demo;

#[test]
fn without_the_charters_digest_a_bundle_is_unpinned_and_not_accepted() {
    let file = demo().bundle().display().to_string();
    let said = comity(["bundle", "verify", &file]).exits(1).says("UNPINNED").says("consistent, but unpinned");
    assert!(!said.out.lines().any(|l| l.trim() == "VALID"));
    let said = comity(["bundle", "verify", &file, "--json"]).exits(1).json();
    assert_eq!(said["pinned"], false);
    let other = "0".repeat(64);
    comity(["bundle", "verify", &file, "--charter", &other])
        .exits(1)
        .says("BROKEN")
        .says(&format!("but the pinned digest is {other}"));
    comity(["bundle", "verify", &file, "--charter", "short"])
        .exits(2)
        .says("--charter: found `short`, expected 64");
}

/// A fixed sequence, so that a failure can be looked at again (splitmix64).
fn numbers(mut seed: u64) -> impl Iterator<Item = u64> {
    std::iter::repeat_with(move || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

#[test]
fn no_byte_of_a_bundle_can_be_changed_cut_off_or_added() {
    let sound = std::fs::read(demo().bundle()).unwrap();
    let pin = demo().pin();
    let dir = scratch();
    let file = dir.path().join("touched.bundle");
    let name = file.display().to_string();
    let refused = |bytes: &[u8], what: &str| {
        std::fs::write(&file, bytes).unwrap();
        let said = comity(["bundle", "verify", &name, "--charter", &pin]);
        assert_eq!(said.code, 1, "{what}: {}{}", said.out, said.err);
        let named = said.out.strip_prefix("BROKEN\n").unwrap_or_else(|| panic!("{what}: {}", said.out));
        let first = named.lines().next().unwrap_or("").trim();
        assert!(first.len() > 12 && first.contains(' '), "{what} names something: `{named}`");
    };
    // The ends, where the container's own parts are, and places all over the file.
    let edges = [1, 2, 9, 40, sound.len() / 2, sound.len() - 2, sound.len() - 1];
    let somewhere = numbers(1997).take(190).map(|n| (n % sound.len() as u64) as usize);
    for at in edges.into_iter().chain(somewhere) {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 7);
        refused(&bytes, &format!("byte {at} of {}", sound.len()));
    }
    for kept in [1, 1000, sound.len() / 2, sound.len() - 1] {
        refused(&sound[..kept], &format!("cut to {kept} bytes"));
    }
    for tail in [&b"\n"[..], b" ", b"{}", b"\0"] {
        refused(&[&sound, tail].concat(), "an appended tail");
    }
    comity(["bundle", "verify", &demo().bundle().display().to_string(), "--charter", &pin]).exits(0);
}

/// The files of a small federation, as its member wrote them.
fn small(name: &str) -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/charter/tests/proofs");
    folder.join(name).display().to_string()
}

#[test]
fn a_small_proof_is_verified_offline_and_says_up_to_where_it_speaks() {
    let (file, pin) = (small("attested.proof"), small("attested.digest"));
    let said = comity(["record", "verify", &file, "--charter", &pin]).exits(0);
    let said = said.says("speaks up to entry 71").says("attested by").says("released at entry");
    assert!(said.out.lines().any(|l| l.trim() == "VALID"), "{}", said.out);
    let said = comity(["record", "verify", &file]).exits(1).says("UNPINNED").says("consistent, but unpinned");
    assert!(!said.out.lines().any(|l| l.trim() == "VALID"));
    comity(["record", "verify", &file, "--charter", &"0".repeat(64)]).exits(1).says("BROKEN");
    let data = comity(["record", "verify", &file, "--charter", &pin, "--json"]).exits(0).json();
    assert_eq!((&data["form"], &data["size"], &data["votes_yes"]), (&"small".into(), &72.into(), &9.into()));
    let dir = scratch();
    let touched = dir.path().join("touched.proof").display().to_string();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[4000] ^= 1;
    std::fs::write(&touched, bytes).unwrap();
    comity(["record", "verify", &touched, "--charter", &pin])
        .exits(1)
        .says("the file was changed or cut off");
}

#[test]
fn one_command_verifies_a_studys_file_in_either_form_and_a_snapshot_has_its_own() {
    let bundle = demo().bundle().display().to_string();
    comity(["record", "verify", &bundle, "--charter", &demo().pin()]).exits(0).says("VALID");
    let (file, pin) = (small("attested.snapshot"), small("attested.digest"));
    comity(["record", "check-snapshot", &file, "--charter", &pin]).exits(0).says("speaks up to entry 71");
    comity(["record", "check-snapshot", &file]).exits(1).says("UNPINNED");
    comity(["record", "check-snapshot", &small("attested.proof")])
        .exits(2)
        .says("expected one that `comity record snapshot` wrote");
    comity(["evidence", "verify", &bundle]).exits(2).says("expected one that `comity evidence export` wrote");
    comity(["record", "verify", &file]).exits(2).says("expected a bundle, a proof or evidence");
}

/// What was proved stays proved: floor, schedules, jurisdiction facts and gates may change, and a change that makes an
/// honest bundle of before look broken fails here. A new form adds a file and changes none.
#[test]
fn a_bundle_of_an_earlier_version_stays_valid() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/golden");
    let file = |name: &str| golden.join(name).display().to_string();
    let said =
        comity(["bundle", "verify", &file("first.bundle"), "--charter", &file("first.digest")]).exits(0);
    assert!(said.out.lines().any(|l| l.trim() == "VALID"), "{}", said.out);
    let gates = said.out.lines().find(|l| l.trim_start().starts_with("gates")).unwrap();
    assert!(gates.contains("decided again from the record") && gates.contains("all as recorded"), "{gates}");
}
