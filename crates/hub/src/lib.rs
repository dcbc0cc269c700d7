//! The sequencer and relay, trusted for neither secrecy nor truth.
//!
//! A hub puts signed statements in one order, signs checkpoints over them, collects the members' cosignatures, and
//! carries sealed frames from member to member. Everything it says is checked by those it says it to: entries against
//! signatures and root, checkpoints against cosignatures, frames against their senders' keys. So its own checks are a
//! courtesy, and what remains to be trusted is only that it answers at all; a receipt ([`wire::api::Receipt`]) makes
//! refusing visible.
//!
//! What it promises, since others build on it:
//! - an answer to a submission, a blob or a frame means that it is on disk;
//! - a statement submitted twice stands once, and has one receipt;
//! - stamps never go backwards, even when the clock does;
//! - one root is ever signed for a size, whatever is killed when;
//! - a checkpoint is replaced by a larger one once it has its quorum or after 40 ms, so that members who cosign what
//!   they see cosign the same thing.
//!
//! What a hub decides is in functions that are handed bodies, time and a store ([`Desk`]); threads, sockets and clocks
//! are a shell around them, so that a simulated world runs the very rules that are served.
//!
//! Who gains what by controlling it: it sees who talks to whom, when, and how many bytes; it can delay and drop; it
//! cannot read a frame, forge one unnoticed, or show two histories to a quorum.

mod calls;
mod desk;
mod error;
mod files;
pub mod fsck;
mod http;
mod ledger;
mod limits;
mod public;
mod s3;
mod state;
mod store;
mod term;
pub mod tiles;
mod web;
pub mod witness;
mod witnesses;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use record::names::is_federation_name;
use record::{HubInfo, PublicKey, SecretKey};
use rusqlite::Connection;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use wire::api::{Receipt, Refusal};
use wire::{Admit, Peer, TlsIdentity};

pub use desk::{At, Books, Desk};
pub use error::HubError;
use files::Seeds;
use ledger::Ledger;
use limits::{Allowance, Mailbox};
use state::State;
pub use term::Takeover;
pub use web::Web;
pub use witnesses::{OutsideWitness, Take};
use writer::{Job, Writer};

/// Jobs that may wait for the writer; beyond it callers are told to come later.
const QUEUE: usize = 4096;
/// Frames and blobs that are being taken in at once; each has up to 8 MiB in memory.
const LARGE: usize = 32;
/// For how long a frame that was posted is known again, ms.
const REMEMBER: i64 = 7 * 24 * 3_600_000;

/// Where members ask for the COSE receipt of a statement: `GET`, with the statement's id behind it.
pub const RECEIPT: &str = "/v1/receipt";

/// Milliseconds since the epoch, UTC.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What a hub is made with. Its keys are drawn when it is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubConfig {
    /// name of the federation; the log's origin is `comity/<federation>`
    pub federation: String,
    /// the organisation that runs the hub
    pub operator: String,
    /// where it runs, e.g. `CH`
    pub jurisdiction: String,
}

impl HubConfig {
    fn meta(&self) -> [(&'static str, &str); 3] {
        [("federation", &self.federation), ("operator", &self.operator), ("jurisdiction", &self.jurisdiction)]
    }
}

/// What handlers, writer and owner share.
///
/// Locks: `state` is held for microseconds and never over an await; the writer alone changes tree, roster, ids and
/// mail counts, the cosign handler alone counts cosignatures, both publish.
pub(crate) struct Shared {
    /// the log's name
    origin: String,
    key: SecretKey,
    tls: TlsIdentity,
    clock: Clock,
    state: RwLock<State>,
    /// changes when there is anything to tell
    news: watch::Sender<u64>,
    stop: watch::Sender<bool>,
    /// `None` once the hub closes
    jobs: Mutex<Option<SyncSender<Job>>>,
    reader: Mutex<Connection>,
    /// large bodies in memory at once
    large: Semaphore,
    allowance: Mutex<Allowance>,
    /// when this hub was opened; pace and allowances count from it
    since: Instant,
    /// why the store failed, if it did
    failed: Mutex<Option<rusqlite::Error>>,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since this hub was opened.
    fn up(&self) -> Duration {
        self.since.elapsed()
    }

    /// Wakes all who wait in a sync; each looks whether the news is for it.
    fn tell(&self) {
        self.news.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn publish(&self) {
        let published = self.write().publish(&self.key, self.up());
        match published {
            Ok(true) => {
                wire::point::point("checkpoint signed, not told", "");
                self.tell();
            }
            Ok(false) => {}
            Err(e) => tracing::error!(error = %e, "no checkpoint could be written"),
        }
    }

    fn stop(&self) {
        self.stop.send_replace(true);
    }
}

/// A hub, open and ready to serve. Cheap to clone; closes when the last clone is gone.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
    _open: Arc<Open>,
    config: HubConfig,
    origin: String,
}

/// Ends the writer, then lets go of the folder.
struct Open {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    lock: File,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.stop();
        self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            tracing::error!("the hub's writer had died");
        }
        // Said aloud: closing alone would not do while a process forked a moment ago still holds the file.
        if let Err(e) = self.lock.unlock() {
            tracing::error!(error = %e, "the hub's folder could not be unlocked");
        }
    }
}

impl Hub {
    /// Makes a hub with fresh keys in `dir`, which may not hold one yet, and opens it.
    pub fn create(dir: &Path, config: &HubConfig) -> Result<Self, HubError> {
        check(config)?;
        files::folder(dir)?;
        let database = files::database(dir);
        if database.exists() || dir.join("hub.key").exists() {
            return Err(HubError::Exists(dir.to_owned()));
        }
        Seeds::generate()?.write(dir)?;
        drop(files::private(&database, true)?);
        store::create(&database, &config.meta())?;
        Self::open(dir)
    }

    /// Opens the hub in `dir` with the system's clock.
    pub fn open(dir: &Path) -> Result<Self, HubError> {
        Self::open_with(dir, Arc::new(system_clock))
    }

    /// Opens the hub in `dir` with another clock.
    pub fn open_with(dir: &Path, clock: Clock) -> Result<Self, HubError> {
        let path = files::database(dir);
        if !path.exists() {
            return Err(HubError::Absent(dir.to_owned()));
        }
        let lock = files::lock(dir)?;
        let seeds = Seeds::read(dir)?;
        let (key, tls) = (SecretKey::from_seed(*seeds.sign), TlsIdentity::from_seed(&seeds.tls)?);
        let (connection, reader) = (store::open(&path)?, store::open(&path)?);
        let config = HubConfig {
            federation: store::meta(&connection, &path, "federation")?,
            operator: store::meta(&connection, &path, "operator")?,
            jurisdiction: store::meta(&connection, &path, "jurisdiction")?,
        };
        check(&config)?;
        let at = At { now: clock(), up: Duration::ZERO };
        let (state, ledger) = open_books(&connection, &path, &config, (&seeds.sign, tls.public_key()), at)?;
        let (jobs, queue) = sync_channel(QUEUE);
        // The writer need not check again what a caller's task has checked.
        record::keys::verify_once();
        let origin = format!("comity/{}", config.federation);
        let shared = Arc::new(Shared {
            origin: origin.clone(),
            key,
            tls,
            clock,
            state: RwLock::new(state),
            news: watch::Sender::new(0),
            stop: watch::Sender::new(false),
            jobs: Mutex::new(Some(jobs)),
            reader: Mutex::new(reader),
            large: Semaphore::new(LARGE),
            allowance: Mutex::new(Allowance::new()),
            since: Instant::now(),
            failed: Mutex::new(None),
        });
        let writer = Writer { shared: Arc::clone(&shared), ledger };
        let writer = std::thread::Builder::new()
            .name("hub-writer".to_owned())
            .spawn(move || writer.run(connection, &queue))
            .map_err(|source| HubError::File { what: "start the writer of", path, source })?;
        let open = Open { shared: Arc::clone(&shared), writer: Mutex::new(Some(writer)), lock };
        Ok(Self { shared, _open: Arc::new(open), config, origin })
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What it was made with.
    pub fn config(&self) -> &HubConfig {
        &self.config
    }

    /// What a charter must say of this hub.
    pub fn info(&self) -> HubInfo {
        HubInfo {
            operator: self.config.operator.clone(),
            jurisdiction: self.config.jurisdiction.clone(),
            key: self.shared.key.public(),
            tls: self.shared.tls.public_key(),
        }
    }

    /// Entries on disk.
    pub fn size(&self) -> u64 {
        self.shared.read().tree.size()
    }

    /// Enters a signed statement of a caller in this process, by its bytes: what a submission over the wire does, without
    /// the wire and without an allowance. When it answers, the statement is on disk.
    pub async fn enter(&self, peer: &Peer, statement: &[u8]) -> Result<Receipt, Refusal> {
        self.shared.enter(peer, statement).await
    }

    /// Why this hub enters and publishes nothing any more, if it does not.
    pub fn silent(&self) -> Option<String> {
        self.shared.read().silent.clone()
    }

    /// Answers on `listener` until [`Hub::stop`], then finishes what is under way. An error if the store failed.
    pub async fn serve(&self, listener: TcpListener) -> Result<(), HubError> {
        let shared = Arc::clone(&self.shared);
        let admit: Admit = Arc::new(move |key| shared.read().admit(key));
        let router = http::router(Arc::clone(&self.shared));
        wire::serve(listener, &self.shared.tls, admit, router, self.shared.stop.subscribe()).await?;
        let failed = self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        failed.map_or(Ok(()), |e| Err(HubError::Store(e)))
    }

    /// Ends every [`Hub::serve`] gracefully: those who wait in a sync are answered at once. For good; open the hub
    /// again to serve again.
    pub fn stop(&self) {
        self.shared.stop();
    }
}

fn check(config: &HubConfig) -> Result<(), HubError> {
    let line = |text: &str, most: usize| {
        !text.is_empty() && text.chars().count() <= most && !text.chars().any(char::is_control)
    };
    let wrong = |field, found: &str, expected| {
        Err(HubError::Config { field, found: found.chars().take(80).collect(), expected })
    };
    if !is_federation_name(&config.federation) {
        return wrong(
            "federation",
            &config.federation,
            "1 to 63 of a-z, 0-9, `.` and `-`, beginning with a letter or digit",
        );
    }
    if !line(&config.operator, 256) {
        return wrong("operator", &config.operator, "one line of 1 to 256 characters");
    }
    if !line(&config.jurisdiction, 64) {
        return wrong("jurisdiction", &config.jurisdiction, "one line of 1 to 64 characters");
    }
    Ok(())
}

/// What a hub knows beyond its store, and its writer's copies of that. `keys` are its seed and its TLS key.
fn open_books(
    connection: &Connection,
    path: &Path,
    config: &HubConfig,
    (sign, tls): (&[u8; 32], PublicKey),
    at: At,
) -> Result<(State, Ledger), HubError> {
    store::forget_posted(connection, at.now.saturating_sub(REMEMBER))?;
    let key = SecretKey::from_seed(*sign);
    let (state, last_time) = restore(connection, path, config, &key, at.up)?;
    let mut boxes = BTreeMap::<String, Mailbox>::new();
    for (party, top) in store::mailbox_tops(connection)? {
        boxes.entry(party).or_default().top = top;
    }
    for (party, seq, sender, bytes) in store::waiting(connection)? {
        boxes.entry(party).or_default().add(seq, &sender, bytes);
    }
    let ledger = Ledger {
        origin: format!("comity/{}", config.federation),
        key,
        tls,
        roster: state.roster.clone(),
        size: state.tree.size(),
        last_time,
        boxes,
        blob_bytes: store::blob_bytes(connection)?.into_iter().collect(),
    };
    Ok((state, ledger))
}

/// Tree, roster and checkpoints from the stored entries, and the last stamp.
fn restore(
    connection: &Connection,
    path: &Path,
    config: &HubConfig,
    key: &SecretKey,
    up: Duration,
) -> Result<(State, i64), HubError> {
    let mut state = State::new(format!("comity/{}", config.federation), up);
    let mut last_time = i64::MIN;
    store::each_entry(connection, path, |index, id, bytes, entry| {
        if entry.time < last_time {
            return Err(format!("entry {index} is stamped before the one before it"));
        }
        last_time = entry.time;
        // What is void was admitted by an older version; it stays where it is.
        let _ = state.roster.apply(index, &entry);
        state.tree.append(bytes);
        state.ids.insert(id, (index, entry.time));
        Ok(())
    })?;
    state.mail = store::mailbox_tops(connection)?.into_iter().collect();
    let damaged = |reason: String| HubError::Damaged { path: path.to_owned(), reason };
    let mut after = 0;
    // In order, so that the last one stands; few, since each is a change of members, keys or hub.
    loop {
        let seals = store::seals(connection, after)?;
        let Some(last) = seals.last() else { break };
        let last = record::SignedCheckpoint::parse(last).map_err(|e| damaged(e.to_string()))?;
        after = last.checkpoint().size();
        state.resume(last);
    }
    if let Some(signed) = store::note(connection, "behind")? {
        let signed = signed.parse().map_err(|_| damaged("`behind` is no number".to_owned()))?;
        let why = calls::behind(state.tree.size(), signed);
        tracing::error!("{why}");
        state.silent = Some(why);
    }
    state
        .restore(store::cosignatures(connection)?, key)
        .map_err(|e| HubError::Damaged { path: path.to_owned(), reason: e.to_string() })?;
    Ok((state, last_time))
}

pub(crate) fn system_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
