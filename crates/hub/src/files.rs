//! The hub's folder: `hub.key` (secret seeds), `hub.db` (everything else), `hub.lock`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::HubError;

const KEY_HEADER: &str = "comity-hub-key/1";

/// The two seeds of a hub. Wiped on drop; no `Debug`.
pub(crate) struct Seeds {
    pub(crate) sign: Zeroizing<[u8; 32]>,
    pub(crate) tls: Zeroizing<[u8; 32]>,
}

impl Seeds {
    pub(crate) fn generate() -> Result<Self, HubError> {
        let mut seeds = Self { sign: Zeroizing::new([0; 32]), tls: Zeroizing::new([0; 32]) };
        getrandom::fill(seeds.sign.as_mut_slice()).map_err(HubError::Random)?;
        getrandom::fill(seeds.tls.as_mut_slice()).map_err(HubError::Random)?;
        Ok(seeds)
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<(), HubError> {
        let path = dir.join("hub.key");
        let text = Zeroizing::new(format!(
            "{KEY_HEADER}\nsign {}\ntls {}\n",
            Zeroizing::new(hex::encode(self.sign.as_slice())).as_str(),
            Zeroizing::new(hex::encode(self.tls.as_slice())).as_str(),
        ));
        let mut file = private(&path, true)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        written.map_err(|source| HubError::File { what: "write", path, source })
    }

    pub(crate) fn read(dir: &Path) -> Result<Self, HubError> {
        let path = dir.join("hub.key");
        let text = fs::read_to_string(&path).map(Zeroizing::new).map_err(|source| HubError::File {
            what: "read",
            path: path.clone(),
            source,
        })?;
        let mut lines = text.lines();
        let header = lines.next() == Some(KEY_HEADER);
        let mut seed = |name: &str| {
            let hex = lines.next()?.strip_prefix(name)?.strip_prefix(' ')?;
            let mut seed = Zeroizing::new([0u8; 32]);
            hex::decode_to_slice(hex, seed.as_mut_slice()).ok()?;
            Some(seed)
        };
        match (header, seed("sign"), seed("tls")) {
            (true, Some(sign), Some(tls)) => Ok(Self { sign, tls }),
            _ => Err(HubError::Damaged { path, reason: "it is not a hub's key file".to_owned() }),
        }
    }
}

/// A file that only its owner reads; `fresh` refuses one that exists.
pub(crate) fn private(path: &Path, fresh: bool) -> Result<File, HubError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    if fresh {
        options.create_new(true);
    } else {
        options.create(true).truncate(false);
    }
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|source| HubError::File { what: "open", path: path.to_owned(), source })
}

/// Makes the folder, for its owner alone.
pub(crate) fn folder(dir: &Path) -> Result<(), HubError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|source| HubError::File { what: "make", path: dir.to_owned(), source })
}

/// Held as long as the hub runs; the operating system lets go of it when the process dies, however it dies.
pub(crate) fn lock(dir: &Path) -> Result<File, HubError> {
    let path = dir.join("hub.lock");
    let file = private(&path, false)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(HubError::InUse(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(HubError::File { what: "lock", path, source }),
    }
}

pub(crate) fn database(dir: &Path) -> PathBuf {
    dir.join("hub.db")
}
