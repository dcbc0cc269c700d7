//! Long records that together hold a statement of every type, valid ones and void ones.

use crate::federation::*;
use crate::reports::{bare, fork, report, wrong_entry};
use charter::body::*;
use charter::{Stage, VoteChoice};
use record::Digest;

/// All statement types of this version.
pub const TYPES: [&str; 29] = [
    CharterPropose::TYPE,
    CharterSign::TYPE,
    PolicyFloor::TYPE,
    ScheduleAdopt::TYPE,
    ScheduleConfirm::TYPE,
    DictionaryRegister::TYPE,
    DatasetRegister::TYPE,
    DatasetPause::TYPE,
    DatasetResume::TYPE,
    NodeStop::TYPE,
    NodeResume::TYPE,
    StudySubmit::TYPE,
    GateReceipt::TYPE,
    DecisionVote::TYPE,
    DecisionRevoke::TYPE,
    RunSet::TYPE,
    RunReady::TYPE,
    RunJoin::TYPE,
    RoundCommit::TYPE,
    RunVerdict::TYPE,
    ReleasePublish::TYPE,
    RunLost::TYPE,
    RunClose::TYPE,
    StateAttest::TYPE,
    ProtocolActivate::TYPE,
    NoteAttach::TYPE,
    RecordErase::TYPE,
    RecordErased::TYPE,
    EvidenceReport::TYPE,
];

/// A charter, nine datasets, a study released after a run that was lost, one withheld, one taken back, one refused.
pub fn whole() -> Federation {
    let mut f = Federation::ready();
    valid(f.node("it", PolicyFloor::TYPE, &PolicyFloor { text: FLOOR.into() }));
    let text = "forbid (principal, action, resource);".to_string();
    let schedule = Digest::of(text.as_bytes());
    let adopt = ScheduleAdopt { regime: "EU".into(), as_of: "2025-12-01".into(), text };
    valid(f.node("it", ScheduleAdopt::TYPE, &adopt));
    void(f.node("it", ScheduleAdopt::TYPE, &adopt), "replacing a schedule needs a decision");
    valid(f.seat("it", "counsel", ScheduleConfirm::TYPE, &ScheduleConfirm { schedule }));
    valid(f.pause("pl"));
    valid(f.seat("pl", "steward", DatasetResume::TYPE, &DatasetResume { name: "ist".into() }));
    valid(f.node("se", NodeStop::TYPE, &NodeStop { reason: "drill".into() }));
    valid(f.node("se", NodeResume::TYPE, &NodeResume { reason: "drill".into() }));
    void(f.node("se", "study.forget@1", &NodeStop { reason: "".into() }), "unknown type");

    valid(f.submit(named("old")));
    f.all_gates("old");
    f.all_yes("old");
    void(f.vote("it", "old", VoteChoice::No), "voted before");
    valid(f.set("ch", "old", 1, everyone()));
    valid(f.set("se", "old", 1, everyone()));
    for reader in ["no", "gb"] {
        let kem = kem(reader);
        valid(f.node(reader, RunJoin::TYPE, &RunJoin { study: "old".into(), run: 1, kem }));
    }
    f.all_contribute("old");
    void(f.publish("no", "old"), "the guard has not passed");
    valid(f.commit("no", "old", 0, 0));
    valid(f.verdict("no", "old", true));
    valid(f.release_gate("no", "old", true));
    valid(f.publish("no", "old"));
    valid(f.close("it", "old"));

    valid(f.submit(aged("young", 60)));
    f.all_gates("young");
    f.all_yes("young");
    valid(f.set("se", "young", 1, everyone()));
    valid(f.set("ch", "young", 1, everyone()));
    f.all_contribute("young");
    valid(f.commit("no", "young", 0, 0));
    valid(f.verdict("no", "young", true));
    valid(f.verdict("no", "young", false));
    valid(f.lose("it", "young", 1));

    valid(f.submit(study::Study { id: "taken-back".into(), ..aspirin() }));
    f.all_gates("taken-back");
    f.all_yes("taken-back");
    valid(f.revoke("nl", "taken-back"));
    void(f.set("ch", "taken-back", 1, everyone()), "the study is not approved");

    valid(f.submit(study::Study { id: "refused".into(), ..aspirin() }));
    valid(f.gate("au", "refused", Stage::Propose, false));
    void(f.vote("au", "refused", VoteChoice::Yes), "the issuer's own gate refuses; no vote can override it");
    f
}

/// A study released without a contributor that was lost before the contributors were fixed.
pub fn left_out() -> Federation {
    let mut f = Federation::approved(named("lossy"));
    void(f.set("ch", "lossy", 1, without("pl")), "not the members whose stewards said yes");
    for member in without("pl") {
        valid(f.ready_for(&member, "lossy", 1));
    }
    void(f.ready_for("it", "lossy", 1), "ready before");
    void(f.ready_for("pl", "lossy", 2), "not the next run");
    valid(f.set("ch", "lossy", 1, without("pl")));
    void(f.ready_for("it", "lossy", 1), "ready before");
    valid(f.set("se", "lossy", 1, without("pl")));
    void(f.ready_for("pl", "lossy", 1), "the study is not approved");
    for reader in ["no", "gb"] {
        let kem = kem(reader);
        valid(f.node(reader, RunJoin::TYPE, &RunJoin { study: "lossy".into(), run: 1, kem }));
    }
    for member in without("pl") {
        valid(f.gate(&member, "lossy", Stage::Contribute, true));
    }
    valid(f.commit("no", "lossy", 0, 0));
    valid(f.verdict("no", "lossy", true));
    valid(f.release_gate("no", "lossy", true));
    let output = ReleasePublish { contributors: without("pl"), ..f.output("lossy") };
    valid(f.node("no", ReleasePublish::TYPE, &output));
    f
}

/// A study released, the state attested by all but a liar, a version of the protocol asked for by too few.
pub fn attested() -> Federation {
    let mut f = Federation::released_and_attesting(named("seen"));
    let root = f.root_at(36);
    void(f.attest("gb", 35, root), "not a size at which the state is attested");
    void(f.attest("gb", 0, root), "not a size at which the state is attested");
    void(f.attest("gb", 72, root), "attests a state that was not there yet");
    let later = StateAttest { size: 36, root, version: 2 };
    void(f.node("gb", StateAttest::TYPE, &later), "of a protocol version that was not active");
    for member in ["gb", "it", "pl", "nl", "se"] {
        valid(f.attest(member, 36, root));
    }
    void(f.attest("se", 36, root), "attested before");
    valid(f.attest("ar", 36, Digest::of(b"another state")));
    void(f.attest("ar", 36, root), "attested before");
    f.fill(72);
    let root = f.root_at(72);
    for member in MEMBERS {
        valid(f.attest(member, 72, root));
    }
    valid(f.ask_version("it", 2));
    void(f.ask_version("it", 2), "asked before");
    void(f.ask_version("pl", 1), "not the next protocol version");
    void(f.ask_version("pl", 3), "not the next protocol version");
    valid(f.ask_version("pl", 2));
    f
}

/// Remarks about a vote: one that stands, one that its author has everyone destroy, and what does not count of it.
pub fn notes() -> Federation {
    let mut f = Federation::gated(aspirin());
    let ballot = f.ballot("aspirin", VoteChoice::No);
    let vote = f.seat_id("it", "it-steward", DecisionVote::TYPE, &ballot);
    let kept = f.attach("it", vote, "the cells are too small");
    let gone = f.attach("it", vote, "a name that should not be here");
    let nowhere = Digest::of(b"said by nobody");
    void(f.node("it", NoteAttach::TYPE, &note(nowhere, "a word")), "no such statement");
    let bare = NoteAttach { sealed: note(vote, "a word").sealed[..3].to_vec(), about: vote };
    void(f.node("it", NoteAttach::TYPE, &bare), "commitments that are not padded");
    void(f.erased("it", gone), "nobody asked to erase it");
    void(f.erase("gb", gone), "issuer did not attach the note");
    void(f.erase("it", vote), "no such note");
    valid(f.erase("it", gone));
    void(f.erase("it", gone), "asked before");
    for member in ["it", "gb"] {
        valid(f.erased(member, gone));
    }
    void(f.erased("gb", gone), "said before");
    void(f.erased("gb", kept), "nobody asked to erase it");
    void(f.erased("gb", nowhere), "no such note");
    f
}

/// Reports of broken words: a hub that forked, a member that signed a wrong entry, and what convicts nobody.
pub fn reports() -> Federation {
    let mut f = Federation::ready();
    let one = fork("one", "hub");
    valid(f.node("it", EvidenceReport::TYPE, &report(&one)));
    void(f.node("gb", EvidenceReport::TYPE, &report(&one)), "reported before");
    void(f.node("gb", EvidenceReport::TYPE, &bare(&one)), "reported before");
    let forged = fork("forged", "it");
    void(f.node("gb", EvidenceReport::TYPE, &report(&forged)), "the evidence convicts nobody");
    let other = fork("other", "hub");
    let swapped = EvidenceReport { file: report(&other).file, ..report(&forged) };
    void(f.node("gb", EvidenceReport::TYPE, &swapped), "evidence does not match its digest");
    // By its digest first, and whole by whoever has the file.
    valid(f.node("pl", EvidenceReport::TYPE, &bare(&other)));
    void(f.node("pl", EvidenceReport::TYPE, &bare(&other)), "reported before");
    valid(f.node("nl", EvidenceReport::TYPE, &report(&other)));
    valid(f.node("gb", EvidenceReport::TYPE, &report(&wrong_entry("ch"))));
    f
}
