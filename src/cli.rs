//! Commands and their arguments: what all nouns share. Each noun with its verbs is a file beside.

mod bundle;
mod charter;
mod dataset;
mod decide;
mod evidence;
mod hub;
mod key;
mod member;
mod node;
mod policy;
mod record;
mod study;
mod witness;

use ::node::NodeError;
use ::node::control::{Command, Reply};
use clap::{Args, Parser, Subcommand};
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
    Hub(hub::HubVerb),
    /// This organisation's node.
    #[command(subcommand)]
    Node(node::NodeVerb),
    /// The agreement.
    #[command(subcommand)]
    Charter(charter::CharterVerb),
    /// Country schedules and the floor.
    #[command(subcommand)]
    Policy(policy::PolicyVerb),
    /// Datasets.
    #[command(subcommand)]
    Dataset(dataset::DatasetVerb),
    /// Studies.
    #[command(subcommand)]
    Study(study::StudyVerb),
    /// Data access decisions.
    #[command(subcommand)]
    Decide(decide::DecideVerb),
    /// Members: who joins, leaves, is suspended.
    #[command(subcommand)]
    Member(member::MemberVerb),
    /// This member's keys.
    #[command(subcommand)]
    Key(key::KeyVerb),
    /// The record.
    #[command(subcommand)]
    Record(record::RecordVerb),
    /// A study's file for an auditor.
    #[command(subcommand)]
    Bundle(bundle::BundleVerb),
    /// An outside witness: it cosigns that a log only grew, and reads no entry.
    #[command(subcommand)]
    Witness(witness::WitnessVerb),
    /// Proofs that the hub or a member broke its word.
    #[command(subcommand)]
    Evidence(evidence::EvidenceVerb),
}

#[derive(Args)]
struct At {
    /// The node's folder.
    #[arg(long, env = "COMITY_NODE", value_name = "DIR")]
    node: PathBuf,
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
        Noun::Hub(verb) => return hub::run(verb),
        Noun::Node(verb) => return node::run(verb),
        Noun::Charter(verb) => charter::run(verb)?,
        Noun::Policy(verb) => policy::run(verb)?,
        Noun::Dataset(verb) => dataset::run(verb)?,
        Noun::Study(verb) => study::run(verb)?,
        Noun::Decide(verb) => decide::run(verb)?,
        Noun::Member(verb) => member::run(verb)?,
        Noun::Key(verb) => key::run(verb)?,
        Noun::Record(verb) => record::run(verb)?,
        Noun::Bundle(verb) => bundle::run(verb)?,
        Noun::Witness(verb) => return witness::run(verb),
        Noun::Evidence(verb) => evidence::run(verb)?,
    };
    Ok(Some(reply))
}

fn absolute(file: &Path) -> Result<String, NodeError> {
    Ok(std::path::absolute(file).map_err(|e| NodeError::io(file, e))?.display().to_string())
}

/// The charter's digest as given from outside.
fn pin(charter: Option<&str>) -> Result<Option<::record::Digest>, NodeError> {
    let Some(text) = charter else { return Ok(None) };
    // A file that holds the digest, or the charter itself, does as well, so that it need not be typed.
    let text = match std::fs::read_to_string(text) {
        Ok(content) => content.trim().to_string(),
        Err(_) => text.to_string(),
    };
    if let Ok(charter) = ::charter::Charter::parse("--charter", &text) {
        return Ok(Some(charter.digest()?));
    }
    let expected = "expected 64 hexadecimal characters, or a file that holds them or the charter";
    let digest = text.parse::<::record::Digest>();
    digest.map(Some).map_err(|_| {
        let found: String = text.chars().take(80).collect();
        NodeError::Input(format!("--charter: found `{found}`, {expected}"))
    })
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
    let mut reply = ::node::service::call(dir, command)?;
    let begun = Instant::now();
    for id in reply.statements.clone() {
        loop {
            let seen = ::node::service::call(dir, Command::Statement { id: id.clone() })?;
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
