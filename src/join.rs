//! Setting up: hubs, charters, joining.

use charter::Charter;
use node::control::Reply;
use node::{Config, NodeError};
use serde_json::json;
use std::path::Path;

/// Reads a charter and prints its digest.
pub fn charter_check(file: &Path) -> Result<Reply, NodeError> {
    let text = std::fs::read_to_string(file).map_err(|e| NodeError::io(file, e))?;
    let charter = Charter::parse(&file.display().to_string(), &text)?;
    let digest = charter.digest()?;
    let text = format!(
        "{}: {} members, sunset {}\ndigest {digest}",
        charter.federation,
        charter.members.len(),
        charter.sunset
    );
    Ok(Reply::yes(text, json!({ "federation": charter.federation, "digest": digest.to_string() })))
}

/// The country schedule that ships for a node's regime.
pub fn shipped_schedule(dir: &Path) -> Result<(String, String), NodeError> {
    let config = Config::read(dir)?;
    let library = policy::Library::embedded()?;
    let regime = library.regime(&config.jurisdiction).unwrap_or_default();
    let text = policy::schedule(regime).ok_or_else(|| {
        NodeError::Input(format!(
            "no schedule ships for `{}`; write one (see policies/README.md) and give its file",
            config.jurisdiction
        ))
    })?;
    Ok((format!("policies/schedules/{regime}.toml"), text.to_string()))
}

/// Makes a hub's folder; returns its part of the charter.
pub fn hub_init(
    dir: &Path,
    federation: &str,
    operator: &str,
    jurisdiction: &str,
) -> Result<Reply, NodeError> {
    let config = hub::HubConfig {
        federation: federation.to_string(),
        operator: operator.to_string(),
        jurisdiction: jurisdiction.to_string(),
    };
    let hub = hub::Hub::create(dir, &config).map_err(|e| NodeError::Input(e.to_string()))?;
    let info = hub.info();
    let quoted = serde_json::to_string(operator).unwrap_or_default();
    let part = format!(
        "[hub]\noperator = {quoted}\njurisdiction = \"{jurisdiction}\"\nkey = \"{}\"\ntls = \"{}\"\n",
        info.key, info.tls
    );
    let path = dir.join("hub.toml");
    std::fs::write(&path, &part).map_err(|e| NodeError::io(&path, e))?;
    Ok(Reply::yes(part.clone(), json!({ "charter_part": part })))
}

/// Serves a hub until interrupted. Prints where it listens.
pub async fn hub_serve(dir: &Path, listen: &str) -> Result<(), NodeError> {
    let hub = hub::Hub::open(dir).map_err(|e| NodeError::Input(e.to_string()))?;
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .map_err(|e| NodeError::Input(format!("cannot listen on `{listen}`: {e}")))?;
    let addr = listener.local_addr().map_err(|e| NodeError::Input(e.to_string()))?;
    {
        use std::io::Write;
        let mut out = std::io::stdout();
        let _ = writeln!(out, "hub {} listens on {addr}", hub.origin());
        let _ = out.flush();
    }
    let stopper = hub.clone();
    tokio::spawn(async move {
        interrupted().await;
        stopper.stop();
    });
    hub.serve(listener).await.map_err(|e| NodeError::Input(e.to_string()))
}

/// Resolves on interrupt or termination.
pub async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
    }
}

/// Signs a charter: keeps it as this node's root of trust; the signature goes on the record when the node is served.
pub fn node_join(
    dir: &Path,
    charter: &Path,
    hub: &str,
    proxy: Option<&str>,
    proposed: bool,
) -> Result<Reply, NodeError> {
    let mut config = Config::read(dir)?;
    let proxy = proxy.map(wire::Proxy::parse).transpose()?;
    let text = std::fs::read_to_string(charter).map_err(|e| NodeError::io(charter, e))?;
    let parsed = Charter::parse(&charter.display().to_string(), &text)?;
    let part = if proposed { own_part(dir)? } else { parsed.member(&config.id).cloned() };
    let Some(member) = part else {
        return Err(NodeError::Input(format!("{}: names no member `{}`", charter.display(), config.id)));
    };
    let keys = node::keys::NodeKeys::open(&dir.join("node.key"))?;
    let (sign, cosign, tls) = keys.public()?;
    if (member.sign, member.cosign, member.tls) != (sign, cosign, tls) {
        return Err(NodeError::Input(format!(
            "{}: found other keys for `{}` than this node's; its part of the charter is in {}",
            charter.display(),
            config.id,
            dir.join("member.toml").display()
        )));
    }
    if member.jurisdiction != config.jurisdiction {
        return Err(NodeError::Input(format!(
            "{}: found jurisdiction `{}` for `{}`, expected `{}`",
            charter.display(),
            member.jurisdiction,
            config.id,
            config.jurisdiction
        )));
    }
    let kept = dir.join("charter.toml");
    if kept.exists() && std::fs::read_to_string(&kept).map_err(|e| NodeError::io(&kept, e))? != text {
        return Err(NodeError::Input(format!(
            "`{}` has joined under another charter; nothing was changed",
            dir.display()
        )));
    }
    let digest = parsed.digest()?;
    std::fs::write(&kept, &text).map_err(|e| NodeError::io(&kept, e))?;
    config.hub = Some(hub.to_string());
    let way =
        proxy.as_ref().map(|proxy| format!("\nit calls {hub} through the proxy {proxy}")).unwrap_or_default();
    let through = proxy.as_ref().map(ToString::to_string);
    config.proxy = proxy;
    config.write(dir)?;
    if proposed {
        let text = format!(
            "{} follows federation {} under charter {digest} once its members have accepted it{way}",
            config.id, parsed.federation
        );
        let data = json!({ "charter": digest.to_string(), "federation": parsed.federation, "hub": hub });
        return Ok(Reply::yes(text, data));
    }
    let text = format!(
        "{} signs charter {digest} of federation {}; the signature is recorded when the node is served{way}",
        config.id, parsed.federation
    );
    Ok(Reply::yes(
        text,
        json!({ "charter": digest.to_string(), "federation": parsed.federation, "hub": hub, "proxy": through }),
    ))
}

/// This node's part of a charter, as it was printed.
fn own_part(dir: &Path) -> Result<Option<charter::document::Member>, NodeError> {
    let document = node::members::Document::of(dir, &record::Digest::of(b""))?;
    Ok(record::canon::from_value(document.member).ok())
}

/// Writes this node's member document with its consent.
pub fn member_document(dir: &Path, charter: &Path, out: &Path) -> Result<Reply, NodeError> {
    let text = std::fs::read_to_string(charter).map_err(|e| NodeError::io(charter, e))?;
    let digest = Charter::parse(&charter.display().to_string(), &text)?.digest()?;
    let document = node::members::Document::of(dir, &digest)?;
    let bytes = record::canon::to_bytes(&document)?;
    std::fs::write(out, bytes).map_err(|e| NodeError::io(out, e))?;
    let text =
        format!("{}: for a member that proposes it (`comity member propose join FILE`)", out.display());
    Ok(Reply::yes(text, json!({ "document": out.display().to_string(), "charter": digest.to_string() })))
}

/// Reads a member document.
pub fn read_document(file: &Path) -> Result<node::members::Document, NodeError> {
    let bytes = std::fs::read(file).map_err(|e| NodeError::io(file, e))?;
    record::canon::from_bytes(&bytes).map_err(|e| NodeError::Input(format!("{}: {e}", file.display())))
}

/// A change in canonical form.
pub fn change_text(change: &record::Change) -> Result<String, NodeError> {
    String::from_utf8(record::canon::to_bytes(change)?).map_err(|e| NodeError::Input(e.to_string()))
}

/// Draws the key that comes next.
pub fn next_key(out: &Path) -> Result<Reply, NodeError> {
    let digest = node::keys::NodeKeys::draw_next(out)?;
    let text = format!(
        "next = \"{digest}\"\nkeep {} away from the node: with it alone this member can change its keys",
        out.display()
    );
    Ok(Reply::yes(text, json!({ "next": digest.to_string(), "file": out.display().to_string() })))
}
