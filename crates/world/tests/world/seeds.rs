//! Days on which something was found, by name. Each once failed; none may again.

use world::run;

#[track_caller]
fn holds(seed: u64) {
    let report = run(seed).unwrap();
    let last = report.trace.last(20).join("\n");
    assert_eq!(report.broken, None, "seed {seed}\n{last}");
}

/// A hub whose disk was full kept its members waiting; they came back to it by themselves.
#[test]
fn a_hub_with_a_full_disk_and_an_aggregator_cut_off() {
    holds(22);
}

/// Two histories, a disk that fills, and a second study: those who were shown the other history stay behind, the
/// others go on.
#[test]
fn two_histories_and_a_full_disk() {
    holds(32);
}

/// A yes was taken back when all permits were in and nothing was opened yet: nobody started the run, nobody gave it up,
/// and its keys stayed.
#[test]
fn a_yes_taken_back_between_the_last_permit_and_the_first_share() {
    for seed in [1132, 1168, 1211, 1386, 1425] {
        holds(seed);
    }
}

/// Shown a second history, a member could write and not read: it said the same again every twenty seconds, and the
/// record grew for as long as anyone looked.
#[test]
fn a_member_that_writes_and_does_not_read() {
    holds(1911);
}
