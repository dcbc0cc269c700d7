//! A witness of our own, for any log of C2SP tlog-witness: a folder, a key, and one call, `POST /add-checkpoint`.
//!
//! The folder has `witness.key` (name and secret seed), `witness.db` (logs, their keys, and what was cosigned of each) and
//! `witness.lock`. All are for their owner alone. What it does when a log's hub is replaced is in `witness/logs.rs`.
//!
//! What it promises, since logs build on it: the tree that it cosigns is on disk before the cosignature leaves, in one
//! transaction with the look at the one before it; so neither two requests at once nor a death at any moment makes it
//! cosign two histories. Restoring the folder from a backup would: it then has forgotten. Make a new witness instead.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request};
use record::witness::{AddCheckpoint, MAX_REQUEST, SIZE_TYPE, Witness, WitnessError};
use record::{PublicKey, SecretKey};
use rusqlite::{Connection, TransactionBehavior};
use tokio::net::TcpListener;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::error::HubError;
use crate::files;
use crate::web::{self, Answer};
use crate::{Clock, system_clock};

mod logs;

pub use logs::{Followed, add_log};
use logs::{StoreFault, connect};

const KEY_HEADER: &str = "comity-witness-key/1";
const TEXT: &str = "text/plain; charset=utf-8";
/// How long a caller may take to send its request.
const BODY: Duration = Duration::from_secs(10);
/// A witness, open and alone in its folder. Cheap to clone.
#[derive(Clone)]
pub struct WitnessHouse {
    inner: Arc<Inner>,
}

struct Inner {
    witness: Witness,
    store: Mutex<Connection>,
    clock: Clock,
    _lock: File,
}

fn wrong(path: &Path, reason: impl ToString) -> HubError {
    HubError::Witness { path: path.to_owned(), reason: reason.to_string() }
}

/// Makes a witness's folder and key; gives its public half.
///
/// # Errors
/// When there is one already, the name cannot be used, or the folder cannot be written.
pub fn init(dir: &Path, name: &str) -> Result<(String, PublicKey), HubError> {
    let mut seed = Zeroizing::new([0u8; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(HubError::Random)?;
    let witness = Witness::new(name, SecretKey::from_seed(*seed)).map_err(|e| wrong(dir, e))?;
    files::folder(dir)?;
    let path = dir.join("witness.key");
    if path.exists() || dir.join("witness.db").exists() {
        return Err(wrong(dir, "there is a witness here already; serve that one, or choose an empty folder"));
    }
    let secret = Zeroizing::new(hex::encode(seed.as_slice()));
    let text = Zeroizing::new(format!("{KEY_HEADER}\nname {name}\nsign {}\n", secret.as_str()));
    let mut file = files::private(&path, true)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|source| HubError::File { what: "write", path, source })?;
    drop(files::private(&dir.join("witness.db"), true)?);
    connect(dir)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| HubError::File {
        what: "write",
        path: dir.to_owned(),
        source,
    })?;
    Ok((witness.verifier_key(), witness.key()))
}

fn read_key(path: PathBuf) -> Result<Witness, HubError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let open = fs::metadata(&path).map(|meta| meta.mode() & 0o077 != 0).unwrap_or(false);
        if open {
            return Err(wrong(&path, "others than its owner may read the key; run `chmod 600` on it"));
        }
    }
    let text = fs::read_to_string(&path).map(Zeroizing::new);
    let text = text.map_err(|source| HubError::File { what: "read", path: path.clone(), source })?;
    let mut lines = text.lines();
    let header = lines.next() == Some(KEY_HEADER);
    let name = lines.next().and_then(|line| line.strip_prefix("name "));
    let mut seed = Zeroizing::new([0u8; 32]);
    let sign = lines.next().and_then(|line| line.strip_prefix("sign "));
    let sign = sign.and_then(|hex| hex::decode_to_slice(hex, seed.as_mut_slice()).ok());
    match (header, name, sign) {
        (true, Some(name), Some(())) => {
            Witness::new(name, SecretKey::from_seed(*seed)).map_err(|e| wrong(&path, e))
        }
        _ => Err(wrong(&path, "it is not a witness's key file")),
    }
}

impl WitnessHouse {
    /// Opens the witness in `dir`.
    ///
    /// # Errors
    /// When there is none, another process serves it, or it cannot be read.
    pub fn open(dir: &Path) -> Result<Self, HubError> {
        Self::open_with(dir, Arc::new(system_clock))
    }

    /// The same with another clock.
    ///
    /// # Errors
    /// As [`WitnessHouse::open`].
    pub fn open_with(dir: &Path, clock: Clock) -> Result<Self, HubError> {
        let store = connect(dir)?;
        let lock = files::private(&dir.join("witness.lock"), false)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(wrong(dir, "another process serves it")),
            Err(TryLockError::Error(e)) => return Err(wrong(dir, e)),
        }
        let witness = read_key(dir.join("witness.key"))?;
        Ok(Self { inner: Arc::new(Inner { witness, store: Mutex::new(store), clock, _lock: lock }) })
    }

    /// The name on its cosignatures.
    pub fn name(&self) -> &str {
        self.inner.witness.name()
    }

    /// The key that its cosignatures verify under.
    pub fn key(&self) -> PublicKey {
        self.inner.witness.key()
    }

    /// The key as logs are told it.
    pub fn verifier_key(&self) -> String {
        self.inner.witness.verifier_key()
    }

    /// Answers on `listener` until `stop` is true.
    pub async fn serve(&self, listener: TcpListener, stop: watch::Receiver<bool>) {
        let inner = Arc::clone(&self.inner);
        web::serve(listener, stop, move |request| {
            let inner = Arc::clone(&inner);
            async move { answer(inner, request).await }
        })
        .await;
    }
}

async fn answer(inner: Arc<Inner>, request: Request<Incoming>) -> Answer {
    if request.uri().path() != "/add-checkpoint" {
        return web::answer(404, TEXT, "there is no such call\n");
    }
    if request.method() != Method::POST {
        let mut no = web::answer(405, TEXT, "only POST is answered here\n");
        web::set(&mut no, "allow", "POST");
        return no;
    }
    let body = Limited::new(request.into_body(), MAX_REQUEST).collect();
    let body = match tokio::time::timeout(BODY, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(e)) if e.is::<LengthLimitError>() => {
            return web::answer(413, TEXT, "the request is too large\n");
        }
        Ok(Err(_)) => return web::answer(400, TEXT, "the request broke off\n"),
        Err(_) => return web::answer(408, TEXT, "the request took too long\n"),
    };
    match tokio::task::spawn_blocking(move || inner.cosign(&body)).await {
        Ok(Ok(line)) => web::answer(200, TEXT, line),
        Ok(Err(Fault::Refused(e))) => {
            // Only what the log's own key signed comes this far.
            if matches!(e, WitnessError::TwoRoots { .. } | WitnessError::Proof(_)) {
                tracing::error!(reason = %e, "a log signed what does not go on from what was cosigned here");
            }
            match e.known_size() {
                Some(size) => web::answer(e.status(), SIZE_TYPE, format!("{size}\n")),
                None => web::answer(e.status(), TEXT, format!("{e}\n")),
            }
        }
        Ok(Err(Fault::Store(error))) => {
            tracing::error!(%error, "the witness's store failed; nothing was cosigned");
            web::answer(500, TEXT, "a fault of the witness\n")
        }
        Err(_) => web::answer(500, TEXT, "a fault of the witness\n"),
    }
}

enum Fault {
    Refused(WitnessError),
    Store(StoreFault),
}

impl<E: Into<StoreFault>> From<E> for Fault {
    fn from(e: E) -> Self {
        Fault::Store(e.into())
    }
}

impl Inner {
    /// Reads, decides and keeps in one transaction; the line comes out when that is on disk.
    fn cosign(&self, body: &[u8]) -> Result<String, Fault> {
        let request = AddCheckpoint::parse(body).map_err(Fault::Refused)?;
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let tx = store.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let time = u64::try_from((self.clock)() / 1000).unwrap_or(0);
        let (key, seen) = logs::last(&tx, request.origin())?.unzip();
        let seen = seen.flatten();
        let advance = self.witness.consider(&request, key.as_ref(), seen, time).map_err(Fault::Refused)?;
        let next = advance.next();
        // The same again changes nothing on disk, so that who repeats a request costs no write.
        if seen != Some(next) {
            logs::keep(&tx, request.origin(), next)?;
        }
        wire::point::point("witness decided, not kept", "");
        tx.commit()?;
        wire::point::point("witness kept, not answered", "");
        Ok(advance.kept())
    }
}
