//! Commands and their arguments.

use crate::{handover, join, outside};
use clap::{Args, Parser, Subcommand};
use node::control::{Command, Reply};
use node::{Config, NodeError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a command waits for its statement to be in force.
const IN_FORCE: Duration = Duration::from_secs(20);

/// Joint answers from data that may not be moved, under an agreement that everyone can verify.
#[derive(Parser)]
#[command(name = "comity", version, disable_help_subcommand = true)]
pub struct Cli {
    /// Print data for machines.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    noun: Noun,
}

#[derive(Subcommand)]
enum Noun {
    /// A running federation of nine countries, a study answered, a study refused, both proved.
    Demo(crate::demo::Options),
    /// The sequencer and relay.
    #[command(subcommand)]
    Hub(HubVerb),
    /// This organisation's node.
    #[command(subcommand)]
    Node(NodeVerb),
    /// The agreement.
    #[command(subcommand)]
    Charter(CharterVerb),
    /// Country schedules and the floor.
    #[command(subcommand)]
    Policy(PolicyVerb),
    /// Datasets.
    #[command(subcommand)]
    Dataset(DatasetVerb),
    /// Studies.
    #[command(subcommand)]
    Study(StudyVerb),
    /// Data access decisions.
    #[command(subcommand)]
    Decide(DecideVerb),
    /// Members: who joins, leaves, is suspended.
    #[command(subcommand)]
    Member(MemberVerb),
    /// This member's keys.
    #[command(subcommand)]
    Key(KeyVerb),
    /// The record.
    #[command(subcommand)]
    Record(RecordVerb),
    /// A study's file for an auditor.
    #[command(subcommand)]
    Bundle(BundleVerb),
    /// An outside witness: it cosigns that a log only grew, and reads no entry.
    #[command(subcommand)]
    Witness(WitnessVerb),
    /// Proofs that the hub or a member broke its word.
    #[command(subcommand)]
    Evidence(EvidenceVerb),
}

#[derive(Subcommand)]
enum WitnessVerb {
    /// Makes a witness's folder and key; prints what logs are told of it.
    Init {
        /// The folder.
        dir: PathBuf,
        /// The name on its cosignatures, for example `regulator.example/w1`.
        #[arg(long)]
        name: String,
    },
    /// Makes a log known.
    AddLog {
        /// The folder.
        dir: PathBuf,
        /// The log's origin, for example `comity/stroke`.
        #[arg(long)]
        origin: String,
        /// The log's key: 64 hexadecimal characters, or a verifier key.
        #[arg(long)]
        key: String,
    },
    /// Serves it until interrupted.
    Serve {
        /// The folder.
        dir: PathBuf,
        /// Where to listen, plain HTTP.
        #[arg(long, default_value = "127.0.0.1:7500")]
        listen: String,
    },
}

#[derive(Args)]
struct At {
    /// The node's folder.
    #[arg(long, env = "COMITY_NODE", value_name = "DIR")]
    node: PathBuf,
}

#[derive(Subcommand)]
enum HubVerb {
    /// Makes a hub's folder and keys; prints its part of the charter.
    Init {
        /// The folder.
        #[arg(long)]
        dir: PathBuf,
        /// Short name of the federation.
        #[arg(long)]
        federation: String,
        /// Who runs it: a member's id, or the name of somebody outside.
        #[arg(long)]
        operator: String,
        /// Where it is hosted, for example `NL`.
        #[arg(long)]
        jurisdiction: String,
    },
    /// Serves it until interrupted.
    Serve {
        /// The folder.
        #[arg(long)]
        dir: PathBuf,
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:7400")]
        listen: String,
        /// Where anybody may read checkpoints and hash tiles, plain HTTP; nowhere by default.
        #[arg(long, value_name = "ADDR")]
        public: Option<String>,
        /// Where tiles are published too: a folder, by default `tiles` in the hub's, or `s3://BUCKET/PREFIX`.
        #[arg(long, value_name = "DIR|s3://BUCKET/PREFIX", num_args = 0..=1, default_missing_value = "")]
        tiles: Option<String>,
        /// The certificates of the authorities that a bucket is known by, in PEM; by default the system's.
        #[arg(long, value_name = "FILE", requires = "tiles")]
        roots: Option<PathBuf>,
    },
    /// Another hub takes over.
    #[command(subcommand)]
    Handover(HandoverVerb),
}

/// Another hub takes over, whether the old one is alive or not.
#[derive(Subcommand)]
enum HandoverVerb {
    /// Writes who comes next, for the members.
    Prepare {
        /// The next hub's folder, made by `comity hub init`.
        dir: PathBuf,
        /// Where it will answer, `host:port`.
        #[arg(long)]
        address: String,
        /// The file.
        #[arg(long, default_value = "next.json")]
        out: PathBuf,
    },
    /// Ends the present hub's term at one member; its node may be served or not.
    Signoff {
        /// The node's folder.
        node: PathBuf,
        /// Who comes next.
        #[arg(long)]
        next: PathBuf,
        /// The sign-off, for whoever opens the next hub.
        #[arg(long)]
        out: PathBuf,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        /// Though this member has signed off for another hub before.
        #[arg(long)]
        instead: bool,
    },
    /// Fills the next hub from a member's copy of the record and begins its term.
    Open {
        /// The next hub's folder.
        dir: PathBuf,
        /// A member's folder.
        #[arg(long)]
        from: PathBuf,
        /// The sign-offs.
        #[arg(long, num_args = 1.., required = true)]
        signoffs: Vec<PathBuf>,
    },
    /// Points a node that did not sign off to the next hub.
    Follow {
        /// The node's folder.
        node: PathBuf,
        /// Who comes next.
        #[arg(long)]
        next: PathBuf,
    },
}

#[derive(Subcommand)]
enum MemberVerb {
    /// Lists members and what is proposed.
    List {
        #[command(flatten)]
        at: At,
    },
    /// Writes this node's member document with its consent, for a member that proposes it.
    Document {
        #[command(flatten)]
        at: At,
        /// The charter of the federation.
        #[arg(long)]
        charter: PathBuf,
        /// The file.
        #[arg(long)]
        out: PathBuf,
    },
    /// Proposes a change; a quorum of the others accepts it.
    Propose {
        #[command(flatten)]
        at: At,
        #[command(subcommand)]
        change: ChangeVerb,
    },
    /// Accepts a proposed change.
    Accept {
        #[command(flatten)]
        at: At,
        /// The proposal.
        id: String,
    },
    /// This member leaves.
    Leave {
        #[command(flatten)]
        at: At,
    },
}

#[derive(Subcommand)]
enum ChangeVerb {
    /// Somebody joins.
    Join {
        /// Its document.
        document: PathBuf,
    },
    /// A member counts no more until it is reinstated; only its protective statements are heard.
    Suspend {
        /// Its id.
        member: String,
    },
    /// A suspended member counts again.
    Reinstate {
        /// Its id.
        member: String,
    },
    /// A member is none any more.
    Expel {
        /// Its id.
        member: String,
    },
    /// A member that lost its last key gets those in a new document.
    Rekey {
        /// Its new document, under its old id.
        document: PathBuf,
        /// Index from which its old key may have been another's.
        #[arg(long)]
        compromised_since: Option<u64>,
    },
}

#[derive(Subcommand)]
enum KeyVerb {
    /// Draws the `sign` key that comes next into a file to be kept elsewhere; prints its digest.
    Next {
        /// The file.
        #[arg(long)]
        out: PathBuf,
    },
    /// Puts the key that was committed to in place, and commits to another.
    Rotate {
        #[command(flatten)]
        at: At,
        /// The file that `key next` wrote.
        #[arg(long)]
        next_key: PathBuf,
        /// A file for the one after it, kept elsewhere.
        #[arg(long)]
        new_next: PathBuf,
        /// Index from which the old key may have been another's: what it said since is contested.
        #[arg(long)]
        compromised_since: Option<u64>,
        /// Cosign and TLS keys too.
        #[arg(long)]
        all: bool,
    },
    /// Stands by contested statements.
    Reaffirm {
        #[command(flatten)]
        at: At,
        /// Their indices.
        #[arg(required = true)]
        entries: Vec<u64>,
    },
}

#[derive(Subcommand)]
enum NodeVerb {
    /// Makes a node's folder and keys; prints its part of the charter.
    Init {
        #[command(flatten)]
        at: At,
        /// Short id of the member, for example `gb`.
        #[arg(long)]
        id: String,
        /// Name of the organisation.
        #[arg(long)]
        name: String,
        /// Its jurisdiction, for example `GB`.
        #[arg(long)]
        jurisdiction: String,
        /// Who controls and hosts it; the name by default.
        #[arg(long)]
        control: Option<String>,
        /// A file for the `sign` key that comes next, to be kept elsewhere; the charter commits to it.
        #[arg(long, value_name = "FILE")]
        next_key: Option<PathBuf>,
        /// Where other members reach it without the hub, `host:port`.
        #[arg(long)]
        endpoint: Option<String>,
        /// Cosigns with ML-DSA-44 too.
        #[arg(long)]
        post_quantum: bool,
    },
    /// Signs a charter and joins its federation.
    Join {
        #[command(flatten)]
        at: At,
        /// The charter.
        #[arg(long)]
        charter: PathBuf,
        /// Where the hub answers, `host:port`.
        #[arg(long)]
        hub: String,
        /// The HTTP proxy on the way there, `http://[USER:PASSWORD@]HOST:PORT`; without it the node connects directly.
        #[arg(long, value_name = "URL")]
        proxy: Option<String>,
        /// A snapshot to begin from, as `comity record snapshot` writes it: to be read at once, while the record is
        /// fetched and verified.
        #[arg(long, value_name = "FILE")]
        snapshot: Option<PathBuf>,
        /// The charter does not name it, or not with these keys: the members have accepted it, or will.
        #[arg(long)]
        proposed: bool,
    },
    /// Serves the node until interrupted.
    Serve {
        #[command(flatten)]
        at: At,
        /// Where other members reach this node, `host:port` to listen on; as in the node's configuration if not given.
        #[arg(long, value_name = "ADDR")]
        peer_listen: Option<String>,
        /// Its store was put back from a backup: nothing is cosigned until others have said how far they are.
        #[arg(long)]
        restored: bool,
    },
    /// How the node stands.
    Status {
        #[command(flatten)]
        at: At,
    },
    /// Stops everything that leaves the node, at once, in running rounds too.
    Stop {
        #[command(flatten)]
        at: At,
    },
    /// Starts a stopped node again.
    Resume {
        #[command(flatten)]
        at: At,
    },
    /// What exactly left this site.
    Egress {
        #[command(flatten)]
        at: At,
        /// From this day on, `YYYY-MM-DD`.
        #[arg(long, default_value = "1970-01-01")]
        since: String,
    },
}

#[derive(Subcommand)]
enum CharterVerb {
    /// Checks a charter and prints its digest.
    Check {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Subcommand)]
enum PolicyVerb {
    /// Checks a country schedule: only forbids, words and basis for each, tests pass.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Adopts a schedule for this member's own data; without a file the shipped one of its regime.
    Adopt {
        #[command(flatten)]
        at: At,
        /// The file.
        file: Option<PathBuf>,
    },
    /// Confirms the adopted schedule as counsel.
    Confirm {
        #[command(flatten)]
        at: At,
        /// The counsel's seat, for example `gb-counsel`.
        #[arg(long)]
        seat: String,
    },
    /// Shows the floor and this member's schedule.
    Show {
        #[command(flatten)]
        at: At,
    },
}

#[derive(Subcommand)]
enum DatasetVerb {
    /// Maps and tests a dataset here, then registers it.
    Add {
        #[command(flatten)]
        at: At,
        /// Its description.
        file: PathBuf,
    },
    /// Lists the datasets of all members.
    List {
        #[command(flatten)]
        at: At,
    },
    /// Shows one.
    Show {
        #[command(flatten)]
        at: At,
        /// `name`, or `name@member`.
        name: String,
    },
    /// Takes one out of use at once, in running rounds too.
    Pause {
        #[command(flatten)]
        at: At,
        /// Its name.
        name: String,
    },
    /// Puts it back into use.
    Resume {
        #[command(flatten)]
        at: At,
        /// Its name.
        name: String,
    },
}

#[derive(Subcommand)]
enum StudyVerb {
    /// Says, dry, what every node would decide, what would leave and what is still needed.
    Check {
        #[command(flatten)]
        at: At,
        /// The study.
        file: PathBuf,
    },
    /// Asks a study.
    Submit {
        #[command(flatten)]
        at: At,
        /// The study.
        file: PathBuf,
    },
    /// Lists studies.
    List {
        #[command(flatten)]
        at: At,
    },
    /// Shows one: gates, votes, runs.
    Show {
        #[command(flatten)]
        at: At,
        /// Its id.
        id: String,
    },
    /// The output, if this member received it.
    Result {
        #[command(flatten)]
        at: At,
        /// Its id.
        id: String,
    },
}

#[derive(Args)]
struct Because {
    /// Why, as a sealed note that can be erased; it stays here unless `--to` names who may read it.
    #[arg(long, value_name = "TEXT")]
    because: Option<String>,
    /// Members that may read why.
    #[arg(long, value_name = "MEMBER", num_args = 1.., requires = "because")]
    to: Vec<String>,
}

#[derive(Subcommand)]
enum DecideVerb {
    /// Lists what waits for this member's steward.
    List {
        #[command(flatten)]
        at: At,
    },
    /// Says yes for this member's dataset.
    Approve {
        #[command(flatten)]
        at: At,
        /// The study.
        study: String,
        #[command(flatten)]
        why: Because,
    },
    /// Says no, or takes a yes back.
    Refuse {
        #[command(flatten)]
        at: At,
        /// The study.
        study: String,
        #[command(flatten)]
        why: Because,
    },
}

#[derive(Subcommand)]
enum RecordVerb {
    /// Lists entries.
    List {
        #[command(flatten)]
        at: At,
        /// From this index.
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
    /// Shows one entry.
    Show {
        #[command(flatten)]
        at: At,
        /// Its index.
        index: u64,
    },
    /// Attaches a sealed remark to a statement: the record holds commitments, the text stays at members and can be erased.
    Note {
        #[command(flatten)]
        at: At,
        /// The statement's id, as `comity record show` prints it.
        #[arg(long, value_name = "STATEMENT_ID")]
        about: String,
        /// What it says.
        #[arg(long)]
        text: String,
        /// Members that may read it; without any it stays here.
        #[arg(long, value_name = "MEMBER", num_args = 1..)]
        to: Vec<String>,
    },
    /// Has every member destroy what a note of this member says. Nobody can bring it back.
    Erase {
        #[command(flatten)]
        at: At,
        /// The note's id.
        #[arg(value_name = "STATEMENT_ID")]
        statement: String,
        /// Without it nothing is done.
        #[arg(long)]
        yes: bool,
    },
    /// Recomputes everything that this node holds of it; with a file, verifies that one, offline.
    Verify {
        /// A study's file, small or whole.
        file: Option<PathBuf>,
        /// The charter's digest, from a source that you trust.
        #[arg(long, requires = "file")]
        charter: Option<String>,
        /// The node's folder.
        #[arg(long, env = "COMITY_NODE", value_name = "DIR", required_unless_present = "file")]
        node: Option<PathBuf>,
    },
    /// Writes a study's small file: what a quorum attests of it.
    Prove {
        #[command(flatten)]
        at: At,
        /// The study.
        #[arg(long)]
        study: String,
        /// The file; `STUDY.proof` by default.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Writes a snapshot of the state that a quorum attests.
    Snapshot {
        #[command(flatten)]
        at: At,
        /// The file.
        #[arg(long, default_value = "comity.snapshot")]
        out: PathBuf,
    },
    /// Verifies a snapshot, offline.
    CheckSnapshot {
        /// The file.
        file: PathBuf,
        /// The charter's digest, from a source that you trust.
        #[arg(long)]
        charter: Option<String>,
    },
    /// Writes the receipt of a statement, for readers that speak COSE; the entry goes beside it, in `FILE.entry`.
    #[command(subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
    Receipt {
        #[command(subcommand)]
        verb: Option<ReceiptVerb>,
        /// The node's folder.
        #[arg(long, env = "COMITY_NODE", value_name = "DIR", required = true)]
        node: Option<PathBuf>,
        /// As a COSE receipt (RFC 9942), which is the one form there is.
        #[arg(long)]
        cose: bool,
        /// The statement's id.
        #[arg(long, value_name = "ID", required = true)]
        statement: Option<String>,
        /// The file.
        #[arg(long, value_name = "FILE", required = true)]
        out: Option<PathBuf>,
    },
    /// Checks the stored copy in a folder that no process serves, and names what is damaged: exit 0 clean, 1 damaged,
    /// 2 could not look.
    Fsck {
        /// The folder of a node or a hub.
        dir: PathBuf,
        /// Another copy that names the exact byte: a node's or hub's folder, or a bundle.
        #[arg(long, value_name = "DIR|BUNDLE")]
        against: Option<PathBuf>,
        /// Makes a damaged copy good again; what was cosigned, keys and what waits are never touched.
        #[arg(long, requires = "from")]
        rebuild: bool,
        /// From which copy: a node's folder, a bundle, or `hub` for the hub that this node calls.
        #[arg(long, requires = "rebuild", value_name = "DIR|BUNDLE|hub")]
        from: Option<String>,
        /// Where this hub publishes tiles, if not in `tiles` in its folder.
        #[arg(long, value_name = "DIR")]
        tiles: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum ReceiptVerb {
    /// Verifies a receipt, offline.
    Verify {
        /// The receipt.
        file: PathBuf,
        /// The entry with the statement.
        #[arg(long, value_name = "FILE")]
        statement: PathBuf,
        /// The log's key, from a source that you trust: 64 hexadecimal characters, or a verifier key.
        #[arg(long)]
        key: String,
    },
}

#[derive(Subcommand)]
enum EvidenceVerb {
    /// Lists what this node holds.
    List {
        #[command(flatten)]
        at: At,
    },
    /// Writes one as a file that convicts before anyone.
    Export {
        #[command(flatten)]
        at: At,
        /// The beginning of its id.
        id: String,
        /// The file; `ID.evidence` by default.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Verifies a file, offline.
    Verify {
        /// The file.
        file: PathBuf,
        /// The charter's digest, from a source that you trust.
        #[arg(long)]
        charter: Option<String>,
    },
}

#[derive(Subcommand)]
enum BundleVerb {
    /// Writes a study's file.
    Export {
        #[command(flatten)]
        at: At,
        /// The study.
        study: String,
        /// The file; `STUDY.bundle` by default.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Verifies a file, offline.
    Verify {
        /// The file.
        file: PathBuf,
        /// The charter's digest, from a source that you trust.
        #[arg(long)]
        charter: Option<String>,
    },
}

/// Runs a command and gives its exit code.
pub fn run(cli: Cli) -> u8 {
    let json = cli.json;
    let reply = match dispatch(cli.noun, json) {
        Ok(Some(reply)) => reply,
        Ok(None) => return 0,
        Err(e) => Reply::could_not(&e),
    };
    show(&reply, json);
    reply.exit
}

fn show(reply: &Reply, json: bool) {
    use std::io::Write;
    // A reader that went away (a closed pipe) is no fault of the command.
    if json {
        let text = serde_json::to_string_pretty(&reply.data).unwrap_or_default();
        let _ = writeln!(std::io::stdout(), "{text}");
    } else if reply.exit == 2 {
        let report = miette::Report::msg(reply.text.clone());
        let _ = writeln!(std::io::stderr(), "error: {report}");
    } else {
        let _ = writeln!(std::io::stdout(), "{}", reply.text.trim_end());
    }
}

/// A file's text with its absolute name.
fn text_of(file: &Path) -> Result<(String, String), NodeError> {
    let full = std::fs::canonicalize(file).map_err(|e| NodeError::io(file, e))?;
    let bytes = std::fs::read(&full).map_err(|e| NodeError::io(file, e))?;
    let text = String::from_utf8(bytes).map_err(|_| {
        NodeError::Input(format!("{}: found bytes that are no text, expected UTF-8", file.display()))
    })?;
    Ok((full.display().to_string(), text))
}

fn dispatch(noun: Noun, json: bool) -> Result<Option<Reply>, NodeError> {
    let reply = match noun {
        Noun::Demo(options) => return crate::demo::run(&options, json).map(Some),
        Noun::Hub(verb) => return hub_verb(verb),
        Noun::Node(verb) => return node_verb(verb),
        Noun::Charter(CharterVerb::Check { file }) => join::charter_check(&file)?,
        Noun::Policy(verb) => match verb {
            PolicyVerb::Check { file } => {
                let (file, text) = text_of(&file)?;
                node::views::policy_check(&file, &text)?
            }
            PolicyVerb::Adopt { at, file } => {
                let (file, text) = match file {
                    Some(file) => text_of(&file)?,
                    None => join::shipped_schedule(&at.node)?,
                };
                call(&at.node, Command::PolicyAdopt { file, text })?
            }
            PolicyVerb::Confirm { at, seat } => call(&at.node, Command::PolicyConfirm { seat })?,
            PolicyVerb::Show { at } => call(&at.node, Command::PolicyShow)?,
        },
        Noun::Dataset(verb) => match verb {
            DatasetVerb::Add { at, file } => {
                let (file, text) = text_of(&file)?;
                call(&at.node, Command::DatasetAdd { file, text })?
            }
            DatasetVerb::List { at } => call(&at.node, Command::DatasetList)?,
            DatasetVerb::Show { at, name } => call(&at.node, Command::DatasetShow { name })?,
            DatasetVerb::Pause { at, name } => node::service::call(&at.node, Command::DatasetPause { name })?,
            DatasetVerb::Resume { at, name } => call(&at.node, Command::DatasetResume { name })?,
        },
        Noun::Study(verb) => match verb {
            StudyVerb::Check { at, file } => {
                let (file, text) = text_of(&file)?;
                call(&at.node, Command::StudyCheck { file, text })?
            }
            StudyVerb::Submit { at, file } => {
                let (file, text) = text_of(&file)?;
                call(&at.node, Command::StudySubmit { file, text })?
            }
            StudyVerb::List { at } => call(&at.node, Command::StudyList)?,
            StudyVerb::Show { at, id } => call(&at.node, Command::StudyShow { id })?,
            StudyVerb::Result { at, id } => call(&at.node, Command::StudyResult { id })?,
        },
        Noun::Decide(verb) => match verb {
            DecideVerb::List { at } => call(&at.node, Command::DecideList)?,
            DecideVerb::Approve { at, study, why } => {
                because(&at.node, call(&at.node, Command::DecideApprove { study })?, why)?
            }
            DecideVerb::Refuse { at, study, why } => {
                because(&at.node, call(&at.node, Command::DecideRefuse { study })?, why)?
            }
        },
        Noun::Member(verb) => match verb {
            MemberVerb::List { at } => call(&at.node, Command::MemberList)?,
            MemberVerb::Document { at, charter, out } => join::member_document(&at.node, &charter, &out)?,
            MemberVerb::Propose { at, change } => {
                let change = join::change_text(&change_of(change)?)?;
                call(&at.node, Command::MemberPropose { change })?
            }
            MemberVerb::Accept { at, id } => call(&at.node, Command::MemberAccept { id })?,
            MemberVerb::Leave { at } => call(&at.node, Command::MemberLeave)?,
        },
        Noun::Key(verb) => match verb {
            KeyVerb::Next { out } => join::next_key(&out)?,
            KeyVerb::Rotate { at, next_key, new_next, compromised_since, all } => {
                let next_key = std::path::absolute(&next_key).map_err(|e| NodeError::io(&next_key, e))?;
                let new_next = node::keys::NodeKeys::draw_next(&new_next)?;
                let next_key = next_key.display().to_string();
                let rotation = node::members::Rotation { next_key, new_next, compromised_since, all };
                call(&at.node, Command::KeyRotate(rotation))?
            }
            KeyVerb::Reaffirm { at, entries } => call(&at.node, Command::KeyReaffirm { entries })?,
        },
        Noun::Record(verb) => match verb {
            RecordVerb::List { at, from } => call(&at.node, Command::RecordList { from })?,
            RecordVerb::Show { at, index } => call(&at.node, Command::RecordShow { index })?,
            RecordVerb::Note { at, about, text, to } => {
                call(&at.node, Command::RecordNote { about, text, to })?
            }
            RecordVerb::Erase { at, statement, yes: sure } => {
                call(&at.node, Command::RecordErase { statement, sure })?
            }
            RecordVerb::Receipt { verb: Some(ReceiptVerb::Verify { file, statement, key }), .. } => {
                outside::receipt_verify(&file, &statement, &key)?
            }
            RecordVerb::Receipt { node: Some(node), statement: Some(statement), out: Some(out), .. } => {
                runtime()?.block_on(outside::receipt_export(&node, &statement, &out))?
            }
            RecordVerb::Receipt { .. } => {
                return Err(NodeError::Input("expected --node, --statement and --out".to_string()));
            }
            RecordVerb::Verify { file: Some(file), charter, .. } => file_verify(&file, charter.as_deref())?,
            RecordVerb::Verify { node: Some(node), .. } => call(&node, Command::RecordVerify)?,
            RecordVerb::Verify { .. } => {
                return Err(NodeError::Input("name a file, or a node with --node".into()));
            }
            RecordVerb::Prove { at, study, out } => {
                let out = absolute(&out.unwrap_or_else(|| PathBuf::from(format!("{study}.proof"))))?;
                call(&at.node, Command::RecordProve { study, out })?
            }
            RecordVerb::Snapshot { at, out } => {
                call(&at.node, Command::RecordSnapshot { out: absolute(&out)? })?
            }
            RecordVerb::CheckSnapshot { file, charter } => {
                let pin = pin(charter.as_deref())?;
                let bytes = std::fs::read(&file).map_err(|e| NodeError::io(&file, e))?;
                node::attest::check_snapshot(&bytes, pin)
            }
            RecordVerb::Fsck { dir, against, rebuild: _, from, tiles } => match from {
                Some(from) => crate::fsck::rebuild(&dir, tiles.as_deref(), &from)?,
                None => crate::fsck::check(&dir, tiles.as_deref(), against.as_deref())?,
            },
        },
        Noun::Bundle(verb) => match verb {
            BundleVerb::Export { at, study, out } => {
                let out = out.unwrap_or_else(|| PathBuf::from(format!("{study}.bundle")));
                let out =
                    std::path::absolute(&out).map_err(|e| NodeError::io(&out, e))?.display().to_string();
                call(&at.node, Command::BundleExport { study, out })?
            }
            BundleVerb::Verify { file, charter } => bundle_verify(&file, charter.as_deref())?,
        },
        Noun::Witness(verb) => match verb {
            WitnessVerb::Init { dir, name } => outside::witness_init(&dir, &name)?,
            WitnessVerb::AddLog { dir, origin, key } => outside::witness_add_log(&dir, &origin, &key)?,
            WitnessVerb::Serve { dir, listen } => {
                runtime()?.block_on(outside::witness_serve(&dir, &listen))?;
                return Ok(None);
            }
        },
        Noun::Evidence(verb) => match verb {
            EvidenceVerb::List { at } => call(&at.node, Command::EvidenceList)?,
            EvidenceVerb::Export { at, id, out } => {
                let out = out.unwrap_or_else(|| PathBuf::from(format!("{id}.evidence")));
                let out =
                    std::path::absolute(&out).map_err(|e| NodeError::io(&out, e))?.display().to_string();
                call(&at.node, Command::EvidenceExport { id, out })?
            }
            EvidenceVerb::Verify { file, charter } => {
                let pin = pin(charter.as_deref())?;
                let bytes = std::fs::read(&file).map_err(|e| NodeError::io(&file, e))?;
                node::peers::matter::verify_evidence(&bytes, pin)
            }
        },
    };
    Ok(Some(reply))
}

fn change_of(verb: ChangeVerb) -> Result<record::Change, NodeError> {
    use record::Change;
    Ok(match verb {
        ChangeVerb::Join { document } => {
            let node::members::Document { member, consent } = join::read_document(&document)?;
            Change::Join { member, consent }
        }
        ChangeVerb::Suspend { member } => Change::Suspend { member },
        ChangeVerb::Reinstate { member } => Change::Reinstate { member },
        ChangeVerb::Expel { member } => Change::Expel { member },
        ChangeVerb::Rekey { document, compromised_since } => {
            let node::members::Document { member, consent } = join::read_document(&document)?;
            Change::Rekey { member, consent, compromised_since }
        }
    })
}

/// Attaches the reason to the vote that was just said.
fn because(dir: &Path, mut vote: Reply, why: Because) -> Result<Reply, NodeError> {
    let about = vote.data.get("statement").and_then(|v| v.as_str()).map(str::to_owned);
    let (Some(text), Some(about), 0) = (why.because, about, vote.exit) else { return Ok(vote) };
    let note = call(dir, Command::RecordNote { about, text, to: why.to })?;
    vote.exit = note.exit;
    vote.text = format!("{}\n{}", vote.text, note.text);
    if let Some(data) = vote.data.as_object_mut() {
        data.insert("note".into(), note.data);
    }
    Ok(vote)
}

fn absolute(file: &Path) -> Result<String, NodeError> {
    Ok(std::path::absolute(file).map_err(|e| NodeError::io(file, e))?.display().to_string())
}

/// Verifies a study's file, whichever of the two it is.
fn file_verify(file: &Path, charter: Option<&str>) -> Result<Reply, NodeError> {
    let bytes = std::fs::read(file).map_err(|e| NodeError::io(file, e))?;
    if charter::proof::is_study_proof(&bytes) {
        return Ok(node::attest::verify_proof(&bytes, pin(charter)?));
    }
    let begins = |format: &str| bytes.windows(format.len()).any(|w| w == format.as_bytes());
    if bytes.first() == Some(&b'{') && bytes.len() < (1 << 24) && begins(record::evidence::FORMAT) {
        return Ok(node::peers::matter::verify_evidence(&bytes, pin(charter)?));
    }
    bundle_verify(file, charter)
}

/// The charter's digest as given from outside.
fn pin(charter: Option<&str>) -> Result<Option<record::Digest>, NodeError> {
    let Some(text) = charter else { return Ok(None) };
    // A file that holds the digest, or the charter itself, does as well, so that it need not be typed.
    let text = match std::fs::read_to_string(text) {
        Ok(content) => content.trim().to_string(),
        Err(_) => text.to_string(),
    };
    if let Ok(charter) = charter::Charter::parse("--charter", &text) {
        return Ok(Some(charter.digest()?));
    }
    let expected = "expected 64 hexadecimal characters, or a file that holds them or the charter";
    let digest = text.parse::<record::Digest>();
    digest.map(Some).map_err(|_| {
        let found: String = text.chars().take(80).collect();
        NodeError::Input(format!("--charter: found `{found}`, {expected}"))
    })
}

fn bundle_verify(file: &Path, charter: Option<&str>) -> Result<Reply, NodeError> {
    let pin = pin(charter)?;
    let bytes = std::fs::read(file).map_err(|e| NodeError::io(file, e))?;
    if bytes.first() != Some(&b'{') {
        let start: String = String::from_utf8_lossy(&bytes).chars().take(16).collect();
        return Err(NodeError::Input(format!(
            "{}: byte 0: found `{}`, expected a bundle, which begins with `{{`",
            file.display(),
            start.escape_debug()
        )));
    }
    Ok(node::verify::verify_bundle(&bytes, pin))
}

fn hub_verb(verb: HubVerb) -> Result<Option<Reply>, NodeError> {
    match verb {
        HubVerb::Init { dir, federation, operator, jurisdiction } => {
            join::hub_init(&dir, &federation, &operator, &jurisdiction).map(Some)
        }
        HubVerb::Serve { dir, listen, public, tiles, roots } => {
            let outside = join::Outside { public, tiles, roots };
            runtime()?.block_on(join::hub_serve(&dir, &listen, &outside))?;
            Ok(None)
        }
        HubVerb::Handover(verb) => match verb {
            HandoverVerb::Prepare { dir, address, out } => handover::prepare(&dir, &address, &out),
            HandoverVerb::Signoff { node, next, out, yes, instead } => {
                handover::sign_off(&node, &next, &out, yes, instead)
            }
            HandoverVerb::Open { dir, from, signoffs } => handover::open(&dir, &from, &signoffs),
            HandoverVerb::Follow { node, next } => handover::follow(&node, &next),
        }
        .map(Some),
    }
}

fn node_verb(verb: NodeVerb) -> Result<Option<Reply>, NodeError> {
    let reply = match verb {
        NodeVerb::Init { at, id, name, jurisdiction, control, next_key, endpoint, post_quantum } => {
            let control = control.unwrap_or_else(|| name.clone());
            let config =
                Config { id, name, jurisdiction, control, hub: None, peer_listen: None, proxy: None };
            let extras = node::config::Extras { next_key, endpoint, post_quantum };
            let fragment = node::config::init_with(&at.node, &config, &extras)?;
            Reply::yes(fragment.clone(), serde_json::json!({ "member": config.id, "charter_part": fragment }))
        }
        NodeVerb::Join { at, charter, hub, proxy, snapshot, proposed } => {
            let from = snapshot.map(|file| join::snapshot(&charter, &file)).transpose()?;
            let reply = join::node_join(&at.node, &charter, &hub, proxy.as_deref(), proposed)?;
            join::keep_snapshot(&at.node, from, reply)?
        }
        NodeVerb::Serve { at, peer_listen, restored } => {
            if restored {
                node::service::mark_restored(&at.node)?;
            }
            let serving = node::service::serve_on(&at.node, peer_listen.as_deref(), join::interrupted());
            runtime()?.block_on(serving)?;
            return Ok(None);
        }
        NodeVerb::Status { at } => call(&at.node, Command::Status)?,
        // A stop acts here and now; nobody waits for the record to have it.
        NodeVerb::Stop { at } => node::service::call(&at.node, Command::Stop)?,
        NodeVerb::Resume { at } => call(&at.node, Command::Resume)?,
        NodeVerb::Egress { at, since } => {
            let day = charter::document::end_of_day(&since)
                .ok_or_else(|| NodeError::Input(format!("--since: found `{since}`, expected YYYY-MM-DD")))?;
            call(&at.node, Command::Egress { since: day - 86_400_000 })?
        }
    };
    Ok(Some(reply))
}

fn runtime() -> Result<tokio::runtime::Runtime, NodeError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| NodeError::Input(format!("no runtime: {e}")))
}

/// Sends a command to a node and waits until what it said is in force, or void.
pub fn call(dir: &Path, command: Command) -> Result<Reply, NodeError> {
    let mut reply = node::service::call(dir, command)?;
    let begun = Instant::now();
    for id in reply.statements.clone() {
        loop {
            let seen = node::service::call(dir, Command::Statement { id: id.clone() })?;
            if let Some(why) = seen.data.get("void").and_then(|v| v.as_str()) {
                return Ok(Reply::no(
                    format!("recorded and void: {why}"),
                    serde_json::json!({ "void": why }),
                ));
            }
            if seen.data.get("in_force").and_then(serde_json::Value::as_bool) == Some(true) {
                break;
            }
            if begun.elapsed() > IN_FORCE {
                reply.text.push_str("\nnot in force yet; it is kept and will be: see `comity node status`");
                return Ok(reply);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(reply)
}
