//! The bodies of the statements that this version of the protocol knows.
//!
//! Nothing derived from rows is in any of them (A4, A5): registrations say what the owner declares, receipts say
//! what a node decided on facts of the record, releases say a salted digest.

use record::Digest;
use record::canon::Value;
use serde::{Deserialize, Serialize};

macro_rules! body {
    ($(#[$doc:meta])* $name:ident, $type:literal { $($(#[$fdoc:meta])* $field:ident : $ty:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[$fdoc])* pub $field: $ty),* }
        impl $name {
            /// The statement type that carries this body.
            pub const TYPE: &'static str = $type;
        }
    };
}

body! {
    /// The charter as proposed.
    CharterPropose, "charter.propose@1" {
        /// The whole charter.
        charter: crate::Charter,
    }
}
body! {
    /// A member's signature under the charter.
    CharterSign, "charter.sign@1" {
        /// The charter's digest.
        charter: Digest,
    }
}
body! {
    /// The text of the policy floor, whose digest the charter holds.
    PolicyFloor, "policy.floor@1" {
        /// The text.
        text: String,
    }
}
body! {
    /// A country schedule adopted by a member for its own data and node.
    ScheduleAdopt, "schedule.adopt@1" {
        /// The regime, for example `EU`.
        regime: String,
        /// Newest material seen by who compiled it, `YYYY-MM-DD`.
        as_of: String,
        /// The text.
        text: String,
    }
}
body! {
    /// A counsel's confirmation of the schedule in force at their member.
    ScheduleConfirm, "schedule.confirm@1" {
        /// Digest of the schedule's text.
        schedule: Digest,
    }
}
body! {
    /// A data dictionary.
    DictionaryRegister, "dictionary.register@1" {
        /// The whole dictionary.
        dictionary: study::Dictionary,
    }
}
body! {
    /// A dataset: what its owner declares about it, nothing measured on it.
    DatasetRegister, "dataset.register@1" {
        /// Short name, for example `ist`.
        name: String,
        /// What it is, for people.
        title: String,
        /// The data dictionary it is mapped to.
        dictionary: String,
        /// Digest of that dictionary: another one under the same id is not what the owner meant.
        dictionary_digest: Digest,
        /// Digest of the mapping's text, salted with 16 bytes kept at the site.
        mapping: Digest,
        /// Whether the mapping's examples and the whole source passed at the site (asserted by the node).
        mapping_tested: bool,
        /// Legal basis of processing, in the owner's words.
        legal_basis: String,
        /// Purposes for which it may be used.
        purposes: Vec<String>,
        /// Last day on which it is kept, `YYYY-MM-DD`.
        retention: String,
        /// Where it comes from.
        provenance: String,
        /// Whether it holds a special category of personal data, for example health.
        special_category: bool,
        /// Reference of the impact assessment.
        impact_assessment: Option<String>,
        /// Dictionary columns that the mapping gives.
        columns: Vec<String>,
        /// Other members whose persons may also be in it (A17).
        overlap: Vec<String>,
        /// Whether output by site may be released for this dataset.
        by_site: bool,
    }
}
body! {
    /// A dataset taken out of use at once by its owner.
    DatasetPause, "dataset.pause@1" {
        /// Its name.
        name: String,
        /// Why, in a word from a fixed list or empty.
        reason: String,
    }
}
body! {
    /// A paused dataset put back into use by its steward.
    DatasetResume, "dataset.resume@1" {
        /// Its name.
        name: String,
    }
}
body! {
    /// A node stopped by its own operator: nothing leaves it.
    NodeStop, "node.stop@1" {
        /// Why, in a word or empty.
        reason: String,
    }
}
body! {
    /// A stopped node started again.
    NodeResume, "node.resume@1" {
        /// Why, in a word or empty.
        reason: String,
    }
}
body! {
    /// A study as asked.
    StudySubmit, "study.submit@1" {
        /// The whole study.
        study: study::Study,
        /// Digest of the plan as of this submission: what the stewards look at.
        plan: Digest,
    }
}
body! {
    /// A gate's verdict at a node, with the facts it was taken on.
    GateReceipt, "gate.receipt@1" {
        /// The study.
        study: String,
        /// The run; 0 at stage `propose`.
        run: u32,
        /// `propose`, `contribute` or `release`.
        stage: crate::Stage,
        /// The verdict.
        allow: bool,
        /// Ids of the determining rules with their levels, for example `schedule:AU/min-cell-10`.
        rules: Vec<String>,
        /// Digest of the policies evaluated.
        policy: Digest,
        /// Entries in force when the gate decided: the state that its input was taken from.
        as_of: u64,
        /// The gate's input, whole, so that anyone can evaluate it again.
        input: Value,
        /// Digest of the input.
        input_digest: Digest,
        /// Version of the policy engine.
        engine: String,
        /// End of the lease in milliseconds; 0 for a denial or at stage `propose`.
        lease_until: i64,
        /// At stage `contribute`: the key of this run to which opened sums are sealed for this node.
        kem: Option<String>,
    }
}
body! {
    /// A steward's vote on a study, for their own dataset.
    DecisionVote, "decision.vote@1" {
        /// The study.
        study: String,
        /// Digest of the study document voted on.
        study_digest: Digest,
        /// Yes or no.
        choice: crate::VoteChoice,
    }
}
body! {
    /// A yes taken back.
    DecisionRevoke, "decision.revoke@1" {
        /// The study.
        study: String,
    }
}
body! {
    /// An aggregator's signature under the contributor set of a run; the run stands when all have signed alike.
    RunSet, "run.set@1" {
        /// The study.
        study: String,
        /// The run, from 1.
        run: u32,
        /// The members summed, sorted.
        contributors: Vec<String>,
        /// Digest of the plan with the populations of all earlier runs.
        plan: Digest,
        /// This aggregator's key for this run.
        kem: String,
    }
}
body! {
    /// A contributor's node is there and would take part in the study's next run, so that one that is lost is left out
    /// before the contributors are fixed.
    RunReady, "run.ready@1" {
        /// The study.
        study: String,
        /// The next run.
        run: u32,
    }
}
body! {
    /// The key of this run of the collector or of a recipient.
    RunJoin, "run.join@1" {
        /// The study.
        study: String,
        /// The run.
        run: u32,
        /// Key to which sums or the output are sealed for this member.
        kem: String,
    }
}
body! {
    /// The collector's commitment to an opened sum, so that an auditor can replay later (A1).
    RoundCommit, "round.commit@1" {
        /// The study.
        study: String,
        /// The run.
        run: u32,
        /// Index of the stage in the plan.
        stage: u32,
        /// The round in the stage, from 0.
        round: u32,
        /// Salted digest of the opened sum.
        commitment: Digest,
    }
}
body! {
    /// The guard round's only output.
    RunVerdict, "run.verdict@1" {
        /// The study.
        study: String,
        /// The run.
        run: u32,
        /// Whether the run goes on; if not, the whole output is withheld by disclosure control.
        pass: bool,
    }
}
body! {
    /// The output, by salted digest, with its lineage.
    ReleasePublish, "release.publish@1" {
        /// The study.
        study: String,
        /// The run.
        run: u32,
        /// Salted digest of the output.
        output: Digest,
        /// Digest of the plan that ran.
        plan: Digest,
        /// Members whose rows were summed.
        contributors: Vec<String>,
        /// Who received it, sealed.
        recipients: Vec<String>,
        /// Digest of the sealed output sent.
        sealed: Vec<Digest>,
    }
}
body! {
    /// A run given up, with the part that broke.
    RunLost, "run.lost@1" {
        /// The study.
        study: String,
        /// The run.
        run: u32,
        /// A word from a fixed list.
        reason: String,
    }
}
body! {
    /// A party has erased its key of a run.
    RunClose, "run.close@1" {
        /// The study.
        study: String,
        /// The run.
        run: u32,
    }
}
body! {
    /// A member's node has folded the record up to a size and found this state: proofs and snapshots hang on it once a
    /// quorum has said the same.
    StateAttest, "state.attest@1" {
        /// Entries folded.
        size: u64,
        /// Root of the map of the state after them.
        root: Digest,
        /// Version of the protocol that was active then.
        version: u32,
    }
}
body! {
    /// A member asks for the next version of the protocol, and says thereby that its node knows it.
    ProtocolActivate, "protocol.activate@1" {
        /// The version, one more than the active one.
        version: u32,
    }
}

body! {
    /// A sealed remark about a statement that is on the record, for example the reason of a no. What it says is at
    /// members alone.
    NoteAttach, "note.attach@1" {
        /// The statement that it is about.
        about: Digest,
        /// Its fields as commitments, padded.
        sealed: Vec<record::Commitment>,
    }
}
body! {
    /// Whoever attached a note asks everyone to destroy what it says.
    RecordErase, "record.erase@1" {
        /// The statement with which it was attached.
        statement: Digest,
    }
}
body! {
    /// A member holds nothing any more of what a note said.
    RecordErased, "record.erased@1" {
        /// The statement with which it was attached.
        statement: Digest,
    }
}

body! {
    /// Somebody broke a signed word, and this proves it. Whoever holds the evidence may put it on the record.
    EvidenceReport, "evidence.report@1" {
        /// Digest of the file of evidence.
        file: Digest,
        /// The file itself ([`record::Evidence`]), as far as a statement has room for it. Without it the report is its
        /// issuer's word, until who has the file looks at it.
        evidence: Option<Value>,
    }
}

/// The latest version of the protocol that this build knows.
pub const KNOWN_VERSION: u32 = 1;

/// Every statement type that this build knows, with the version of the protocol that it belongs to: before that is
/// active, a statement of the type is void as one of an unknown type.
///
/// All types so far are of version 1, so that no federation has to activate anything to use them. A build from before
/// a type finds it unknown and void: members that run such builds and newer ones side by side attest different states,
/// and the fewer of them halt. A type that must not part them belongs to the next version.
pub const VERSIONS: &[(&str, u32)] = &[
    (CharterPropose::TYPE, 1),
    (CharterSign::TYPE, 1),
    (PolicyFloor::TYPE, 1),
    (ScheduleAdopt::TYPE, 1),
    (ScheduleConfirm::TYPE, 1),
    (DictionaryRegister::TYPE, 1),
    (DatasetRegister::TYPE, 1),
    (DatasetPause::TYPE, 1),
    (DatasetResume::TYPE, 1),
    (NodeStop::TYPE, 1),
    (NodeResume::TYPE, 1),
    (StudySubmit::TYPE, 1),
    (GateReceipt::TYPE, 1),
    (DecisionVote::TYPE, 1),
    (DecisionRevoke::TYPE, 1),
    (RunSet::TYPE, 1),
    (RunReady::TYPE, 1),
    (RunJoin::TYPE, 1),
    (RoundCommit::TYPE, 1),
    (RunVerdict::TYPE, 1),
    (ReleasePublish::TYPE, 1),
    (RunLost::TYPE, 1),
    (RunClose::TYPE, 1),
    (StateAttest::TYPE, 1),
    (ProtocolActivate::TYPE, 1),
    (NoteAttach::TYPE, 1),
    (RecordErase::TYPE, 1),
    (RecordErased::TYPE, 1),
    (EvidenceReport::TYPE, 1),
];

/// The version of the protocol that a statement type belongs to; a type that this build does not know belongs to none
/// that can be active here.
pub fn version_of(r#type: &str) -> u32 {
    VERSIONS.iter().find(|(known, _)| *known == r#type).map_or(u32::MAX, |(_, version)| *version)
}
