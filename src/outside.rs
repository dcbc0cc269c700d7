//! The record seen from outside: witnesses of our own, receipts for readers of COSE, and files that a stranger verifies.

use std::path::Path;

use charter::Charter;
use node::control::Reply;
use node::{Config, NodeError};
use record::CoseReceipt;
use serde_json::json;

use crate::join;

fn input(e: impl ToString) -> NodeError {
    NodeError::Input(e.to_string())
}

/// Makes a witness's folder and key; prints what logs are told of it.
pub fn witness_init(dir: &Path, name: &str) -> Result<Reply, NodeError> {
    let (verifier, key) = hub::witness::init(dir, name).map_err(input)?;
    let text = format!("witness {name}\nkey {key}\nverifier key {verifier}");
    Ok(Reply::yes(text, json!({ "name": name, "key": key.to_string(), "verifier_key": verifier })))
}

/// Makes a log known to a witness, or the key of its next hub.
pub fn witness_add_log(dir: &Path, origin: &str, key: &str, base: Option<u64>) -> Result<Reply, NodeError> {
    let hub::witness::Followed { key, from, left } =
        hub::witness::add_log(dir, origin, key, base).map_err(input)?;
    let verifier = record::witness::log_verifier_key(origin, &key);
    let mut text = format!("log {origin} is known, key {key}; it goes on from {from} entries");
    if let Some(left) = left {
        text.push_str(&format!(
            "\nup to {left} were cosigned under a key before; what was above {from} is not gone on from"
        ));
    }
    let data = json!({
        "origin": origin, "key": key.to_string(), "verifier_key": verifier, "from": from, "left": left,
    });
    Ok(Reply::yes(text, data))
}

/// Serves a witness until interrupted. Prints where it listens.
pub async fn witness_serve(dir: &Path, listen: &str) -> Result<(), NodeError> {
    let witness = hub::witness::WitnessHouse::open(dir).map_err(input)?;
    let (listener, addr) = join::listen(listen).await?;
    join::told(&format!("witness {} listens on {addr}", witness.name()));
    let (stopper, stop) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        join::interrupted().await;
        stopper.send_replace(true);
    });
    witness.serve(listener, stop).await;
    Ok(())
}

/// Asks the hub for the COSE receipt of a statement, checks it, and writes it to `out`, with the entry that it is of
/// beside it.
pub async fn receipt_export(node: &Path, statement: &str, out: &Path) -> Result<Reply, NodeError> {
    let expected = "expected a statement's id, 64 hexadecimal characters";
    let id: record::Digest =
        statement.parse().map_err(|_| input(format!("--statement: found `{statement}`, {expected}")))?;
    let config = Config::read(node)?;
    let path = node.join("charter.toml");
    let text = std::fs::read_to_string(&path).map_err(|e| NodeError::io(&path, e))?;
    let charter = Charter::parse("charter.toml", &text)?;
    let (address, hub) = node::hub_of(node)?;
    let keys = node::keys::NodeKeys::open(&node.join("node.key"))?;
    let identity = wire::TlsIdentity::from_seed(&keys.tls_seed())?;
    let client = wire::HubClient::through(&identity, &address, hub.tls, config.proxy.as_ref())?;
    let asked = format!("{}/{id}", hub::RECEIPT);
    let bytes = client.client().get(&asked, record::cose::MAX_RECEIPT).await?;
    let receipt = CoseReceipt::read(&bytes).map_err(input)?;
    let origin = format!("comity/{}", charter.federation);
    if receipt.origin() != origin || receipt.statement() != id {
        return Err(input("the hub gave a receipt of another log or statement than was asked for"));
    }
    let index = receipt.index();
    let entries = client.entries(index, index.saturating_add(1)).await?;
    let entry = entries.first().ok_or_else(|| input("the hub gave no entry to its receipt"))?;
    let root = receipt.verify(entry, &hub.key).map_err(input)?;
    let beside = std::path::PathBuf::from(format!("{}.entry", out.display()));
    std::fs::write(out, &bytes).map_err(|e| NodeError::io(out, e))?;
    std::fs::write(&beside, entry).map_err(|e| NodeError::io(&beside, e))?;
    let text = format!(
        "{}: entry {index} of {origin}, in the tree of {} entries with root {root}\n{}: the entry",
        out.display(),
        receipt.size(),
        beside.display()
    );
    Ok(Reply::yes(text, described(&receipt, &root)))
}

/// Checks a COSE receipt against an entry and a log's key, offline.
pub fn receipt_verify(file: &Path, entry: &Path, key: &str) -> Result<Reply, NodeError> {
    let read = |path: &Path| {
        let length = std::fs::metadata(path).map_err(|e| NodeError::io(path, e))?.len();
        if length > 1 << 20 {
            return Err(input(format!("{}: found {length} bytes, expected at most 1048576", path.display())));
        }
        std::fs::read(path).map_err(|e| NodeError::io(path, e))
    };
    let receipt = CoseReceipt::read(&read(file)?).map_err(|e| input(format!("{}: {e}", file.display())))?;
    let key = record::witness::log_key(receipt.origin(), key).map_err(|e| input(format!("--key: {e}")))?;
    Ok(match receipt.verify(&read(entry)?, &key) {
        Ok(root) => {
            let text = format!(
                "valid: statement {} is entry {} of {}, in the tree of {} entries with root {root}, \
                 signed by {key}",
                receipt.statement(),
                receipt.index(),
                receipt.origin(),
                receipt.size()
            );
            Reply::yes(text, described(&receipt, &root))
        }
        Err(e) => Reply::no(format!("not valid: {e}"), json!({ "valid": false, "why": e.to_string() })),
    })
}

fn described(receipt: &CoseReceipt, root: &record::Digest) -> serde_json::Value {
    json!({
        "valid": true,
        "origin": receipt.origin(),
        "statement": receipt.statement().to_string(),
        "index": receipt.index(),
        "size": receipt.size(),
        "root": root.to_string(),
    })
}

/// Verifies a file of evidence, offline. Another kind of file is no evidence that fails, but a mistake of who asks.
pub fn evidence_verify(file: &Path, pin: Option<record::Digest>) -> Result<Reply, NodeError> {
    let bytes = std::fs::read(file).map_err(|e| NodeError::io(file, e))?;
    let named = |format: &str| bytes.windows(format.len()).any(|w| w == format.as_bytes());
    if bytes.first() != Some(&b'{') || !named(record::evidence::FORMAT) {
        return Err(another_kind(file, "comity evidence export"));
    }
    Ok(node::peers::matter::verify_evidence(&bytes, pin))
}

/// Verifies a snapshot, offline.
pub fn snapshot_verify(file: &Path, pin: Option<record::Digest>) -> Result<Reply, NodeError> {
    let bytes = std::fs::read(file).map_err(|e| NodeError::io(file, e))?;
    if !charter::snapshot::is_snapshot(&bytes) {
        return Err(another_kind(file, "comity record snapshot"));
    }
    Ok(node::attest::check_snapshot(&bytes, pin))
}

fn another_kind(file: &Path, made_by: &str) -> NodeError {
    input(format!("{}: found another kind of file, expected one that `{made_by}` wrote", file.display()))
}
