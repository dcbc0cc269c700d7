//! Another hub takes over: prepared, signed off by members, opened from any member's mirror, followed by the rest.

use node::control::{Command, Reply};
use node::term::{Folder, Next};
use node::{Config, NodeError};
use serde_json::json;
use std::path::Path;
use wire::point::point;

/// Writes a file whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<(), NodeError> {
    let fail = |e| NodeError::io(path, e);
    let new = path.with_extension("new");
    let mut file = std::fs::File::create(&new).map_err(fail)?;
    std::io::Write::write_all(&mut file, bytes).and_then(|()| file.sync_all()).map_err(fail)?;
    std::fs::rename(&new, path).map_err(fail)
}

/// Writes who comes next.
pub fn prepare(dir: &Path, address: &str, out: &Path) -> Result<Reply, NodeError> {
    if !record::roster::is_endpoint(address) {
        return Err(NodeError::Input(format!("--address: found `{address}`, expected `host:port`")));
    }
    let hub = hub::Hub::open(dir).map_err(|e| NodeError::Input(e.to_string()))?;
    let federation = hub.config().federation.clone();
    let next = Next { federation, hub: hub.info(), address: address.to_owned() };
    let text = serde_json::to_string_pretty(&next).map_err(|e| NodeError::Input(e.to_string()))?;
    write(out, text.as_bytes())?;
    let said = format!(
        "the next hub of {}: run by {} under {}, at {address}\n  signs with {}\n  TLS key    {}\n\
         give {} to the members; at enough of them: `comity hub handover signoff NODE_DIR --next {} --out ID.signoff`",
        next.federation,
        next.hub.operator,
        next.hub.jurisdiction,
        next.hub.key,
        next.hub.tls,
        out.display(),
        out.display()
    );
    Ok(Reply::yes(said, json!({ "next": out.display().to_string(), "key": next.hub.key.to_string() })))
}

/// Signs off the present term at one member, after asking.
pub fn sign_off(dir: &Path, next: &Path, out: &Path, yes: bool, instead: bool) -> Result<Reply, NodeError> {
    let id = Config::read(dir)?.id;
    let next = Next::read(next)?;
    if !yes && !confirmed(dir, &id, &next)? {
        return Ok(Reply::no("nothing was done", json!({ "signed_off": false })));
    }
    let reply = node::service::call(dir, Command::SignOff { next, instead })?;
    if reply.exit != 0 {
        return Ok(reply);
    }
    let statement = reply.data.get("statement").and_then(|s| s.as_str()).unwrap_or_default();
    point("sign-off handed out, not written", "");
    write(out, statement.as_bytes())?;
    let text = format!(
        "{}; {} is for whoever opens the next hub. This node goes on to answer its people, and calls the next hub until that serves",
        reply.text,
        out.display()
    );
    Ok(Reply::yes(
        text,
        json!({ "signed_off": true, "term": reply.data["term"], "file": out.display().to_string() }),
    ))
}

fn confirmed(dir: &Path, id: &str, next: &Next) -> Result<bool, NodeError> {
    let folder = Folder::open(dir)?;
    let roster = folder.member.log.roster();
    let old = roster.hub.as_ref().map(|h| format!("{} under {}, key {}", h.operator, h.jurisdiction, h.key));
    eprintln!(
        "{id} signs off term {} of {}\n  the hub now   {}\n  the next hub  {} under {}, key {}, at {}\n\
         From now on {id} cosigns nothing that the hub of now shows, so nothing more is put in force there once enough members have done so.\n\
         Compare the next hub's key with its operator by another way. Type `yes` to go on:",
        roster.term,
        folder.federation,
        old.unwrap_or_else(|| "none".to_owned()),
        next.hub.operator,
        next.hub.jurisdiction,
        next.hub.key,
        next.address
    );
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(|e| NodeError::Input(format!("no answer: {e}")))?;
    Ok(line.trim() == "yes")
}

/// Fills the next hub from a member's mirror and begins its term.
pub fn open(dir: &Path, from: &Path, files: &[std::path::PathBuf]) -> Result<Reply, NodeError> {
    let mut signoffs = Vec::new();
    for file in files {
        let bytes = std::fs::read(file).map_err(|e| NodeError::io(file, e))?;
        record::SignedStatement::from_bytes(&bytes)
            .map_err(|e| NodeError::Input(format!("{}: {e}", file.display())))?;
        signoffs.push(bytes);
    }
    let folder = Folder::open(from)?;
    let begun = folder.begin(&signoffs)?;
    let base = begun.opening.base;
    let entries: Vec<Vec<u8>> =
        folder.entries.iter().take(usize::try_from(base).unwrap_or(usize::MAX)).cloned().collect();
    let takeover = hub::Takeover { entries, opening: begun.statement, seals: folder.seals() };
    point("term put together, not filled in", "");
    let now = hub::Hub::take_over(dir, &takeover).map_err(|e| NodeError::Input(e.to_string()))?;
    let claims: Vec<String> = begun
        .claims
        .iter()
        .map(|(id, at)| match at {
            Some((_, size)) => format!("{id} has cosigned up to {size}"),
            None => format!("{id} has cosigned nothing"),
        })
        .collect();
    let text = format!(
        "{} term {} begins at entry {base}: {}. All that could be in force at any member is below it and stays.\n\
         {} entries above it in the mirror of {} go back to pending and are handed in again by members.\n\
         Serve it at {}: `comity hub serve --dir {} --listen ...`. Members that did not sign off: `comity hub handover follow NODE_DIR --next next.json`.",
        if now { "opened:" } else { "was opened before:" },
        begun.opening.term,
        claims.join(", "),
        begun.cut,
        folder.member.party,
        begun.opening.address,
        dir.display()
    );
    Ok(Reply::yes(text, json!({ "term": begun.opening.term, "base": base, "cut": begun.cut, "opened": now })))
}

/// Points a node to the next hub.
pub fn follow(dir: &Path, next: &Path) -> Result<Reply, NodeError> {
    node::service::call(dir, Command::Follow { next: Next::read(next)? })
}
