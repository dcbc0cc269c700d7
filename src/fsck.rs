//! `comity record fsck`: checks a node's or a hub's folder, and rebuilds it from another copy.

use std::path::Path;

use node::NodeError;
use node::control::Reply;
use record::fsck::{Copy, Refilled, Report};
use serde_json::{Value, json};

fn hub_error(e: hub::HubError) -> NodeError {
    match e {
        hub::HubError::Refill(e) => NodeError::Refill(e),
        other => NodeError::Input(other.to_string()),
    }
}

fn is_hub(dir: &Path) -> bool {
    dir.join("hub.db").exists() || dir.join("hub.key").exists()
}

fn copy_at(path: &Path) -> Result<Box<dyn Copy>, NodeError> {
    if is_hub(path) {
        return Ok(Box::new(hub::fsck::Folder::open(path).map_err(hub_error)?));
    }
    node::fsck::copy_at(path)
}

fn no_tiles() -> NodeError {
    NodeError::Input("--tiles: a node publishes none; expected the folder of a hub".to_owned())
}

/// Checks a folder. `tiles` is where a hub publishes them, if not in its own folder.
pub fn check(dir: &Path, tiles: Option<&Path>, against: Option<&Path>) -> Result<Reply, NodeError> {
    let mut other = against.map(copy_at).transpose()?;
    let other = other.as_mut().map(|copy| &mut **copy as &mut dyn Copy);
    let report = if is_hub(dir) {
        hub::fsck::check(dir, tiles, other).map_err(hub_error)?
    } else if tiles.is_some() {
        return Err(no_tiles());
    } else {
        node::fsck::check(dir, other)?
    };
    let mut text = words(&report);
    if !report.is_clean() {
        text.push_str(
            "\nnothing was changed; `--rebuild --from` another copy makes the entries and checkpoints good again",
        );
    }
    Ok(reply(report.is_clean(), text, data(&report)))
}

/// Rebuilds a damaged folder from a node's folder, a bundle, or `hub`: the one that this node calls.
pub fn rebuild(dir: &Path, tiles: Option<&Path>, from: &str) -> Result<Reply, NodeError> {
    let hub = is_hub(dir);
    if !hub && tiles.is_some() {
        return Err(no_tiles());
    }
    let mut source: Box<dyn Copy> = match from {
        "hub" if hub => return Err(NodeError::Input("a hub is rebuilt from a member's folder".to_owned())),
        "hub" => Box::new(node::fsck::OverWire::open(dir)?),
        path => copy_at(Path::new(path))?,
    };
    let rebuilt = if hub {
        let rebuilt = hub::fsck::rebuild(dir, tiles, &mut *source).map_err(hub_error);
        rebuilt.map(|done| done.map(|d| (d.before, d.damaged, d.refilled, d.after)))
    } else {
        let rebuilt = node::fsck::rebuild(dir, &mut *source);
        rebuilt.map(|done| done.map(|d| (d.before, d.damaged, d.refilled, d.after)))
    };
    let (before, damaged, refilled, after) = match rebuilt {
        Ok(Some(done)) => done,
        Ok(None) => {
            return Ok(Reply::yes("nothing is damaged; nothing was changed", json!({ "clean": true })));
        }
        // Both copies could be read, and they do not make one.
        Err(NodeError::Refill(e)) => {
            let text = format!("the store is as it was: {e}");
            return Ok(Reply::no(text, json!({ "clean": false, "refused": e.to_string() })));
        }
        Err(e) => return Err(e),
    };
    let text = format!(
        "{}\nrebuilt from `{from}`: {} entries, {} of them written anew; the damaged store is kept in {}\n{}",
        list(&before),
        refilled.size,
        refilled.written,
        damaged.display(),
        words(&after)
    );
    let mut shown = data(&after);
    if let Some(map) = shown.as_object_mut() {
        map.insert("before".to_owned(), data(&before));
        map.insert("damaged_store".to_owned(), json!(damaged));
        map.insert("rebuilt".to_owned(), rebuilt_data(&refilled));
    }
    Ok(reply(after.is_clean(), text, shown))
}

fn reply(clean: bool, text: String, data: Value) -> Reply {
    if clean { Reply::yes(text, data) } else { Reply::no(text, data) }
}

fn rebuilt_data(refilled: &Refilled) -> Value {
    let in_force = refilled.in_force.as_ref().map(record::InForce::size);
    json!({ "size": refilled.size, "written": refilled.written, "in_force": in_force })
}

fn list(report: &Report) -> String {
    report.damages.iter().map(|d| format!("DAMAGED {d}")).collect::<Vec<_>>().join("\n")
}

fn words(report: &Report) -> String {
    let mut checked = format!(
        "{} entries, root {}, confirmed by checkpoints up to {}; {} signatures, notes, cosignatures and tiles checked",
        report.size, report.root, report.confirmed, report.checked
    );
    if let Some(state) = report.state {
        checked.push_str(&format!("; they fold to state {state}"));
    }
    if report.is_clean() { format!("CLEAN {checked}") } else { format!("{}\n{checked}", list(report)) }
}

fn data(report: &Report) -> Value {
    let finding = |d: &record::fsck::Damage| {
        json!({
            "place": d.place.to_string(),
            "entry": d.entry(),
            "byte": d.byte.map(|(at, _)| at),
            "of": d.byte.map(|(_, of)| of),
            "what": d.fault.to_string(),
        })
    };
    json!({
        "clean": report.is_clean(),
        "size": report.size,
        "root": report.root.to_string(),
        "charter": report.charter.map(|c| c.to_string()),
        "confirmed": report.confirmed,
        "state": report.state.map(|digest| digest.to_string()),
        "voids": report.voids,
        "checked": report.checked,
        "findings": report.damages.iter().map(finding).collect::<Vec<_>>(),
    })
}
