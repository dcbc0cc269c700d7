//! The node's configuration file: who it is and where the hub is.

use crate::NodeError;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use wire::Proxy;

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
    /// Where other members reach this node, `host:port` to listen on; without it the node answers nobody but its own
    /// people. The charter says under which address they find it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_listen: Option<String>,
    /// The HTTP proxy on the way there, `http://host:port` or `http://user:password@host:port`; set by `node join`.
    /// Without it the node connects directly, whatever the environment says.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "proxy")]
    pub proxy: Option<Proxy>,
}

/// The proxy as the file holds it. Here alone it is written with its password, and no error quotes it.
mod proxy {
    use super::Proxy;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(proxy: &Option<Proxy>, to: S) -> Result<S::Ok, S::Error> {
        match proxy {
            Some(proxy) => to.serialize_str(&proxy.written()),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Proxy>, D::Error> {
        let text = zeroize::Zeroizing::new(String::deserialize(from)?);
        Proxy::parse(&text).map(Some).map_err(serde::de::Error::custom)
    }
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

    /// Writes it, whole or not at all, for its user alone: it may hold a proxy's password.
    pub fn write(&self, dir: &Path) -> Result<(), NodeError> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let path = Config::path(dir);
        let new = dir.join("node.toml.new");
        let text = toml::to_string(self).map_err(|e| NodeError::Input(e.to_string()))?;
        let text = zeroize::Zeroizing::new(text);
        let write = || {
            // One that was left behind may be readable by others.
            let _ = std::fs::remove_file(&new);
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &path)
        };
        write().map_err(|e| NodeError::io(&path, e))
    }
}

/// What a member's part of a charter may have besides.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// A file for the `sign` key that comes next.
    pub next_key: Option<PathBuf>,
    /// Where other members reach it without the hub.
    pub endpoint: Option<String>,
    /// A post-quantum cosignature key.
    pub post_quantum: bool,
}

/// Makes a node's folder with fresh keys; returns the lines that its charter needs.
pub fn init(dir: &Path, config: &Config) -> Result<String, NodeError> {
    init_with(dir, config, &Extras::default())
}

/// The same, with more in them.
pub fn init_with(dir: &Path, config: &Config, extras: &Extras) -> Result<String, NodeError> {
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
    if let Some(endpoint) = extras.endpoint.as_ref().filter(|e| !record::roster::is_endpoint(e)) {
        return Err(NodeError::Input(format!("--endpoint: found `{endpoint}`, expected `host:port`")));
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
    let mut more = String::new();
    if let Some(path) = &extras.next_key {
        more.push_str(&format!("next = \"{}\"\n", crate::keys::NodeKeys::draw_next(path)?));
    }
    if let Some(endpoint) = &extras.endpoint {
        more.push_str(&format!("endpoint = \"{endpoint}\"\n"));
    }
    if extras.post_quantum {
        more.push_str(&format!("cosign_ml = \"{}\"\n", keys.cosign_ml().public()));
    }
    let fragment = format!(
        "[[members]]\nid = {}\nname = {}\njurisdiction = {}\ncontrol = {}\nsign = \"{sign}\"\ncosign = \"{cosign}\"\n\
         tls = \"{tls}\"\n{more}seats = [\n  {{ id = \"{id}-steward\", role = \"steward\" }},\n  {{ id = \"{id}-counsel\", \
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn config(proxy: Option<&str>) -> Config {
        Config {
            id: "gb".into(),
            name: "Unit".into(),
            jurisdiction: "GB".into(),
            control: "Unit".into(),
            hub: Some("hub.example:7400".into()),
            peer_listen: None,
            proxy: proxy.map(|text| Proxy::parse(text).unwrap()),
        }
    }

    #[test]
    fn a_proxy_with_its_password_comes_back_from_a_file_that_its_user_alone_may_read() {
        let dir = tempfile::tempdir().unwrap();
        // A file from before proxies, open to others, is replaced by one that is not.
        std::fs::write(Config::path(dir.path()), "id = \"gb\"").unwrap();
        for written in
            [None, Some("http://proxy.example:3128"), Some("http://node:p%40ss@proxy.example:3128")]
        {
            let config = config(written);
            config.write(dir.path()).unwrap();
            assert_eq!(Config::read(dir.path()).unwrap(), config);
            let mode = std::fs::metadata(Config::path(dir.path())).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn neither_debug_nor_a_refused_file_shows_a_proxys_password() {
        let shown = format!("{:?}", config(Some("http://node:CANARY@proxy.example:3128")));
        assert!(shown.contains("proxy.example:3128") && !shown.contains("CANARY"), "{shown}");
        let dir = tempfile::tempdir().unwrap();
        let base = "id = \"gb\"\nname = \"U\"\njurisdiction = \"GB\"\ncontrol = \"U\"\n";
        for line in [
            "proxy = \"https://n:CANARY@p:1\"",
            "proxy = \"http://n:CANARY%@p:1\"",
            "proxy = \"http://n:CANARY@p:1",
        ] {
            std::fs::write(Config::path(dir.path()), format!("{base}{line}\n")).unwrap();
            let error = Config::read(dir.path()).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("CANARY"), "{shown}");
        }
    }
}
