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

/// What of a hub is shown outside its federation.
pub struct Outside {
    /// where the public may read checkpoints and tiles
    pub public: Option<String>,
    /// where tiles are published: a folder or `s3://BUCKET/PREFIX`
    pub tiles: Option<String>,
    /// the authorities that are trusted when a bucket is called
    pub roots: Option<std::path::PathBuf>,
}

/// Serves a hub until interrupted. Prints where it listens.
pub async fn hub_serve(dir: &Path, at: &str, outside: &Outside) -> Result<(), NodeError> {
    let hub = hub::Hub::open(dir).map_err(|e| NodeError::Input(e.to_string()))?;
    let (listener, addr) = listen(at).await?;
    let public = match &outside.public {
        Some(at) => Some(listen(at).await?),
        None => None,
    };
    if let Some(place) = &outside.tiles {
        publish(&hub, dir, place, outside.roots.as_deref())?;
    }
    told(&format!("hub {} listens on {addr}", hub.origin()));
    if let Some((listener, addr)) = public {
        told(&format!("the public reads on {addr}"));
        let hub = hub.clone();
        tokio::spawn(async move { hub.serve_public(listener).await });
    }
    ask_witnesses(&hub, outside.roots.as_deref())?;
    let stopper = hub.clone();
    tokio::spawn(async move {
        interrupted().await;
        stopper.stop();
    });
    hub.serve(listener).await.map_err(|e| NodeError::Input(e.to_string()))
}

/// Asks the outside witnesses that the charter names for their cosignatures, beside serving.
fn ask_witnesses(hub: &hub::Hub, roots: Option<&Path>) -> Result<(), NodeError> {
    let web = hub::Web::new(roots).map_err(|e| NodeError::Input(e.to_string()))?;
    let (asker, counter) = (hub.clone(), hub.clone());
    let named = |roster: &record::Roster| {
        let outside = |w: &record::WitnessInfo| hub::OutsideWitness {
            name: w.name.clone(),
            url: w.url.clone(),
            key: w.key,
        };
        roster.witnesses.values().map(outside).collect()
    };
    tokio::spawn(async move {
        let take: hub::Take = std::sync::Arc::new(move |size, line| counter.count_line(size, line));
        asker.ask_witnesses(&web, named, take).await;
    });
    Ok(())
}

/// Publishes tiles beside serving. A place that holds something else stops that alone, and is told.
fn publish(hub: &hub::Hub, dir: &Path, place: &str, roots: Option<&Path>) -> Result<(), NodeError> {
    let fault = |e: hub::HubError| NodeError::Input(e.to_string());
    let hub = hub.clone();
    if place.starts_with("s3://") {
        let web = hub::Web::new(roots).map_err(fault)?;
        let objects = hub::tiles::Objects::s3(place, &web).map_err(fault)?;
        tokio::spawn(async move { stopped(hub.publish_tiles(objects).await) });
    } else {
        let folder = if place.is_empty() { dir.join(hub::fsck::TILES) } else { place.into() };
        let files = hub::tiles::Files::open(&folder).map_err(fault)?;
        tokio::spawn(async move { stopped(hub.publish_tiles(files).await) });
    }
    Ok(())
}

fn stopped(outcome: Result<(), hub::HubError>) {
    if let Err(e) = outcome {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "error: {e}");
    }
}

/// Opens a listener; gives where.
pub async fn listen(at: &str) -> Result<(tokio::net::TcpListener, std::net::SocketAddr), NodeError> {
    let listener = tokio::net::TcpListener::bind(at).await.map_err(|e| {
        NodeError::Input(format!("cannot listen on `{at}`, expected HOST:PORT of this machine: {e}"))
    })?;
    let addr = listener.local_addr().map_err(|e| NodeError::Input(e.to_string()))?;
    Ok((listener, addr))
}

/// Prints a line at once, for who waits for it.
pub fn told(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
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

/// Reads a snapshot that a quorum of this charter's members attested; gives its bytes and size.
pub fn snapshot(charter: &Path, file: &Path) -> Result<(Vec<u8>, u64), NodeError> {
    let text = std::fs::read_to_string(charter).map_err(|e| NodeError::io(charter, e))?;
    let digest = Charter::parse(&charter.display().to_string(), &text)?.digest()?;
    let bytes = std::fs::read(file).map_err(|e| NodeError::io(file, e))?;
    let (_, attested) = charter::snapshot::verify(&bytes, Some(digest))
        .map_err(|e| NodeError::Input(format!("{}: {e}", file.display())))?;
    Ok((bytes, attested.size))
}

/// Keeps the snapshot that a node begins from, once it has joined.
pub fn keep_snapshot(dir: &Path, from: Option<(Vec<u8>, u64)>, reply: Reply) -> Result<Reply, NodeError> {
    let Some((bytes, size)) = from else { return Ok(reply) };
    let path = dir.join(node::attest::SNAPSHOT);
    std::fs::write(&path, bytes).map_err(|e| NodeError::io(&path, e))?;
    let text = format!(
        "{}\nit begins from a snapshot after {size} entries; nothing runs before it has verified them itself",
        reply.text
    );
    Ok(Reply { text, ..reply })
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
