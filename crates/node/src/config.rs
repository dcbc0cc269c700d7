//! The node's configuration file: who it is and where the hub is.

use crate::NodeError;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// `node.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The member's id, for example `gb`.
    pub id: String,
    /// The organisation's name.
    pub name: String,
    /// Its jurisdiction, for example `GB`.
    pub jurisdiction: String,
    /// Who controls and hosts it.
    pub control: String,
    /// Where the hub answers, `host:port`; set by `node join`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<String>,
}

impl Config {
    /// The file in a node's folder.
    pub fn path(dir: &Path) -> PathBuf {
        dir.join("node.toml")
    }

    /// Reads it.
    pub fn read(dir: &Path) -> Result<Config, NodeError> {
        let path = Config::path(dir);
        let text = std::fs::read_to_string(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => NodeError::Input(format!(
                "`{}` is not a node's folder: found no node.toml, expected one made by `comity node init`",
                dir.display()
            )),
            _ => NodeError::io(&path, e),
        })?;
        toml::from_str(&text).map_err(|e| NodeError::Input(format!("{}: {}", path.display(), e.message())))
    }

    /// Writes it.
    pub fn write(&self, dir: &Path) -> Result<(), NodeError> {
        let path = Config::path(dir);
        let text = toml::to_string(self).map_err(|e| NodeError::Input(e.to_string()))?;
        std::fs::write(&path, text).map_err(|e| NodeError::io(&path, e))
    }
}

/// Makes a node's folder with fresh keys; returns the lines that its charter needs.
pub fn init(dir: &Path, config: &Config) -> Result<String, NodeError> {
    if !charter::document::is_id(&config.id) {
        return Err(NodeError::Input(format!(
            "found member id `{}`, expected a short name of a-z, 0-9 and - that starts with a letter",
            config.id
        )));
    }
    if Config::path(dir).exists() {
        return Err(NodeError::Input(format!(
            "`{}` already holds a node; nothing was changed",
            dir.display()
        )));
    }
    std::fs::create_dir_all(dir).map_err(|e| NodeError::io(dir, e))?;
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
            .map_err(|e| NodeError::io(dir, e))?;
    }
    let keys = crate::keys::NodeKeys::create(&dir.join("node.key"))?;
    let (sign, cosign, tls) = keys.public()?;
    config.write(dir)?;
    let quote = |s: &str| toml::Value::String(s.to_string()).to_string();
    let id = &config.id;
    let fragment = format!(
        "[[members]]\nid = {}\nname = {}\njurisdiction = {}\ncontrol = {}\nsign = \"{sign}\"\ncosign = \"{cosign}\"\n\
         tls = \"{tls}\"\nseats = [\n  {{ id = \"{id}-steward\", role = \"steward\" }},\n  {{ id = \"{id}-counsel\", \
         role = \"counsel\" }},\n  {{ id = \"{id}-scientist\", role = \"scientist\" }},\n  {{ id = \"{id}-signatory\", \
         role = \"signatory\" }},\n]\n",
        quote(id),
        quote(&config.name),
        quote(&config.jurisdiction),
        quote(&config.control),
    );
    let path = dir.join("member.toml");
    std::fs::write(&path, &fragment).map_err(|e| NodeError::io(&path, e))?;
    Ok(fragment)
}
