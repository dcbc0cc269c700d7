//! What a member's own people can tell their node, over a socket in its folder that only its user may open.

use serde::{Deserialize, Serialize};

/// A command.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// How the node stands.
    Status,
    /// Whether a statement is in the record and in force.
    Statement {
        /// Its id.
        id: String,
    },
    /// Adopts a country schedule for this member's own data.
    PolicyAdopt {
        /// The file's name.
        file: String,
        /// Its text.
        text: String,
    },
    /// Confirms the adopted schedule as counsel.
    PolicyConfirm {
        /// The counsel's seat.
        seat: String,
    },
    /// Checks a schedule without adopting it.
    PolicyCheck {
        /// The file's name.
        file: String,
        /// Its text.
        text: String,
    },
    /// Shows the floor and this member's schedule.
    PolicyShow,
    /// Registers a dataset after mapping and testing it here.
    DatasetAdd {
        /// The description's file name.
        file: String,
        /// The description's text.
        text: String,
    },
    /// Lists datasets of all members.
    DatasetList,
    /// Shows one dataset of this member or, as `name@member`, of another.
    DatasetShow {
        /// The dataset.
        name: String,
    },
    /// Takes a dataset out of use at once.
    DatasetPause {
        /// The dataset.
        name: String,
    },
    /// Puts it back into use.
    DatasetResume {
        /// The dataset.
        name: String,
    },
    /// Says, dry, what every node would decide on a study and what would leave.
    StudyCheck {
        /// The file's name.
        file: String,
        /// Its text.
        text: String,
    },
    /// Asks a study.
    StudySubmit {
        /// The file's name.
        file: String,
        /// Its text.
        text: String,
    },
    /// Lists studies.
    StudyList,
    /// Shows one study: gates, votes, runs.
    StudyShow {
        /// Its id.
        id: String,
    },
    /// The output, if this member received it.
    StudyResult {
        /// Its id.
        id: String,
    },
    /// Lists what waits for this member's steward.
    DecideList,
    /// Says yes for this member's dataset.
    DecideApprove {
        /// The study.
        study: String,
    },
    /// Says no, or takes a yes back.
    DecideRefuse {
        /// The study.
        study: String,
    },
    /// Lists entries of the record.
    RecordList {
        /// From this index.
        from: u64,
    },
    /// Shows one entry.
    RecordShow {
        /// Its index.
        index: u64,
    },
    /// Attaches a sealed remark to a statement.
    RecordNote {
        /// The statement's id.
        about: String,
        /// What it says.
        text: String,
        /// Members that may ask for it.
        to: Vec<String>,
    },
    /// Asks everyone to destroy what a note of this member says.
    RecordErase {
        /// The note's id.
        statement: String,
        /// Whether this was confirmed.
        sure: bool,
    },
    /// Recomputes everything that this node holds of the record.
    RecordVerify,
    /// A study's small proof.
    RecordProve {
        /// The study.
        study: String,
        /// Where to write it.
        out: String,
    },
    /// A snapshot of the attested state.
    RecordSnapshot {
        /// Where to write it.
        out: String,
    },
    /// Proofs that a party broke its word.
    EvidenceList,
    /// One of them, as a file.
    EvidenceExport {
        /// The beginning of its id.
        id: String,
        /// Where to write it.
        out: String,
    },
    /// The study's bundle.
    BundleExport {
        /// The study.
        study: String,
        /// Where to write it.
        out: String,
    },
    /// Ends the present term for this member: the next hub, as `comity hub handover prepare` described it.
    SignOff {
        /// Who comes next.
        next: crate::term::Next,
        /// In place of another hub that was signed off for before.
        instead: bool,
    },
    /// Points this node to the next hub.
    Follow {
        /// Who comes next.
        next: crate::term::Next,
    },
    /// Lists members and what is proposed of them.
    MemberList,
    /// Proposes a change of members or keys: [`record::Change`] in canonical form.
    MemberPropose {
        /// The change.
        change: String,
    },
    /// Accepts one.
    MemberAccept {
        /// Id of the statement that proposed it.
        id: String,
    },
    /// This member leaves.
    MemberLeave,
    /// Changes this member's keys.
    KeyRotate(crate::members::Rotation),
    /// Stands by contested statements.
    KeyReaffirm {
        /// Their indices.
        entries: Vec<u64>,
    },
    /// What exactly left this site.
    Egress {
        /// Milliseconds since the epoch.
        since: i64,
    },
    /// Stops the node: nothing leaves any more.
    Stop,
    /// Starts a stopped node again.
    Resume,
}

/// The answer: words for people, data for machines, and the exit code of the command.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Reply {
    /// 0 yes, 1 no, 2 could not.
    pub exit: u8,
    /// Words.
    pub text: String,
    /// Data.
    pub data: serde_json::Value,
    /// Statements sent by this command; the caller may wait until they are in force.
    #[serde(default)]
    pub statements: Vec<String>,
}

impl Reply {
    /// Yes, with words and data.
    pub fn yes(text: impl Into<String>, data: serde_json::Value) -> Reply {
        Reply { exit: 0, text: text.into(), data, statements: Vec::new() }
    }

    /// No, with the reason.
    pub fn no(text: impl Into<String>, data: serde_json::Value) -> Reply {
        Reply { exit: 1, text: text.into(), data, statements: Vec::new() }
    }

    /// Could not.
    pub fn could_not(error: &crate::NodeError) -> Reply {
        let text = error.to_string();
        Reply { exit: 2, data: serde_json::json!({ "error": text.clone() }), text, statements: Vec::new() }
    }

    /// The same reply with the statement to wait for.
    pub fn waiting_for(mut self, id: String) -> Reply {
        self.statements.push(id);
        self
    }
}
