//! Tiles and checkpoint as files or objects, so that a web server, a bucket or a mirror can answer for the log.
//!
//! The hub's own store stays the truth; this is a copy that may lag and may never differ. Tiles are written once: a
//! tile that is there with other bytes is another log or a tree that was rewritten, and publishing stops until a person
//! has looked. The checkpoint is replaced only in place of the very one that was read, and only by one that goes on
//! from it, so that two hubs started on copies of one folder do not publish over one another.
//!
//! **Threats.** Who controls the storage can withhold, and serve old or wrong bytes; readers verify everything against
//! the signatures in the checkpoint, so it gains no more than that. Entries are never written here (A13).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::future::Future;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::{
    Attribute, Attributes, GetOptions, ObjectStore, PutMode, PutOptions, UpdateVersion, path::Path as Key,
};
use record::tree::{TileKind, TilePath};
use record::{Digest, SignedCheckpoint};
use tokio::task::JoinSet;

use crate::error::HubError;
use crate::public::end_within;
use crate::{Hub, Shared};

/// The checkpoint's path.
const CHECKPOINT: &str = "checkpoint";
/// Puts under way at once.
const AT_ONCE: usize = 16;
/// Between one checkpoint and the next; what was published stays for a moment, so that caches and readers keep up.
const PACE: Duration = Duration::from_millis(500);
/// Waits after failures: doubled up to the longest.
const RETRY: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(60);

/// Which bytes a path held when it was read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    tag: Option<String>,
    version: Option<String>,
}

/// What storage answers when it does not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreFault {
    /// Something else is there already, where nothing may ever change.
    #[error("`{path}` is there already and holds other bytes")]
    Differs {
        /// where
        path: String,
    },
    /// Not what was read before is there now.
    #[error("`{path}` was changed by somebody else")]
    Conflict {
        /// where
        path: String,
    },
    /// It could not be done; whether it was done is unknown.
    #[error("`{path}`: {reason}")]
    Unavailable {
        /// where
        path: String,
        /// what was said
        reason: String,
    },
}

/// Storage for tiles and checkpoints, by the paths of C2SP tlog-tiles.
///
/// When a call returns well, its bytes are durable. Calls for different paths may be made at once. After
/// [`StoreFault::Unavailable`] the same call may be made again, whether or not it was done.
pub trait TileStore: Send + Sync + 'static {
    /// Stores `bytes` if nothing is at `path`; well if these very bytes are there.
    fn put_new(&self, path: &str, bytes: Vec<u8>) -> impl Future<Output = Result<(), StoreFault>> + Send;

    /// What is at `path`.
    fn get(&self, path: &str) -> impl Future<Output = Result<Option<(Vec<u8>, Version)>, StoreFault>> + Send;

    /// Stores `bytes` in place of version `old`, or of nothing; well if these very bytes are there.
    fn replace(
        &self,
        path: &str,
        bytes: Vec<u8>,
        old: Option<&Version>,
    ) -> impl Future<Output = Result<Version, StoreFault>> + Send;

    /// How people call it.
    fn place(&self) -> String;
}

/// Files in a folder, which any web server can serve as it is. One process at a time writes them.
pub struct Files {
    inner: Arc<Folder>,
}

struct Folder {
    root: PathBuf,
    next: AtomicU64,
    /// held while the checkpoint is looked at and replaced
    replacing: Mutex<()>,
    /// folders that survive a loss of power
    durable: Mutex<BTreeSet<PathBuf>>,
    _lock: File,
}

impl Files {
    /// Opens the folder, and makes it if need be.
    ///
    /// # Errors
    /// When it cannot be made, or another process writes in it.
    pub fn open(root: &Path) -> Result<Self, HubError> {
        let fault = |what| move |source| HubError::File { what, path: root.to_owned(), source };
        // As it is whatever becomes the working folder, and with a folder above it to make it durable in.
        let whole = std::path::absolute(root).map_err(fault("find"))?;
        let tmp = whole.join(".tmp");
        fs::create_dir_all(&tmp).map_err(fault("make"))?;
        for above in whole.ancestors().take(2) {
            File::open(above).and_then(|folder| folder.sync_all()).map_err(fault("make durable"))?;
        }
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(tmp.join("lock"))
            .map_err(fault("open the lock of"))?;
        lock.try_lock().map_err(|_| HubError::InUse(root.to_owned()))?;
        // What a killed process left half written.
        for left in fs::read_dir(&tmp).map_err(fault("list"))?.flatten() {
            if left.file_name() != "lock" {
                let _ = fs::remove_file(left.path());
            }
        }
        let inner = Folder {
            root: whole,
            next: AtomicU64::new(0),
            replacing: Mutex::new(()),
            durable: Mutex::default(),
            _lock: lock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    async fn work<T: Send + 'static>(
        &self,
        path: &str,
        work: impl FnOnce(&Folder, &str) -> Result<T, StoreFault> + Send + 'static,
    ) -> Result<T, StoreFault> {
        let (folder, path) = (Arc::clone(&self.inner), path.to_owned());
        let name = path.clone();
        let done = tokio::task::spawn_blocking(move || work(&folder, &path)).await;
        done.unwrap_or_else(|e| Err(StoreFault::Unavailable { path: name, reason: e.to_string() }))
    }
}

impl Folder {
    /// Writes a file beside its place, durable but not yet visible.
    fn staged(&self, bytes: &[u8]) -> io::Result<PathBuf> {
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let path = self.root.join(".tmp").join(name);
        let mut file = File::create(&path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(path)
    }

    /// The folder of a path, made and durable up to the root.
    fn folder_of(&self, target: &Path) -> io::Result<PathBuf> {
        let parent = target.parent().unwrap_or(&self.root).to_owned();
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if !durable.contains(&parent) {
            fs::create_dir_all(&parent)?;
            for above in parent.ancestors().skip(1).take_while(|above| above.starts_with(&self.root)) {
                File::open(above)?.sync_all()?;
            }
            durable.insert(parent.clone());
        }
        Ok(parent)
    }

    fn put_new(&self, path: &str, bytes: &[u8]) -> io::Result<bool> {
        let target = self.root.join(path);
        let parent = self.folder_of(&target)?;
        if !target.exists() {
            let staged = self.staged(bytes)?;
            // A link, since a rename would replace what has come there meanwhile.
            let linked = fs::hard_link(&staged, &target);
            fs::remove_file(&staged)?;
            linked.or_else(|e| if e.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(e) })?;
        }
        if fs::read(&target)? != bytes {
            return Ok(false);
        }
        // Also if it was there: who put it there may have died before this.
        File::open(parent)?.sync_all()?;
        Ok(true)
    }

    fn get(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.root.join(path)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn replace(&self, path: &str, bytes: &[u8], old: Option<&Version>) -> io::Result<bool> {
        let _one = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.get(path)?;
        let target = self.root.join(path);
        let parent = self.folder_of(&target)?;
        if now.as_deref() != Some(bytes) {
            if now.as_deref().map(version_of).as_ref() != old {
                return Ok(false);
            }
            fs::rename(self.staged(bytes)?, &target)?;
        }
        File::open(parent)?.sync_all()?;
        Ok(true)
    }
}

fn version_of(bytes: &[u8]) -> Version {
    Version { tag: Some(Digest::of(bytes).to_string()), version: None }
}

fn refused(path: &str) -> impl FnOnce(io::Error) -> StoreFault {
    let path = path.to_owned();
    move |e| StoreFault::Unavailable { path, reason: e.to_string() }
}

impl TileStore for Files {
    async fn put_new(&self, path: &str, bytes: Vec<u8>) -> Result<(), StoreFault> {
        self.work(path, move |folder, path| match folder.put_new(path, &bytes).map_err(refused(path))? {
            true => Ok(()),
            false => Err(StoreFault::Differs { path: path.to_owned() }),
        })
        .await
    }

    async fn get(&self, path: &str) -> Result<Option<(Vec<u8>, Version)>, StoreFault> {
        let found = self.work(path, |folder, path| folder.get(path).map_err(refused(path))).await?;
        Ok(found.map(|bytes| {
            let version = version_of(&bytes);
            (bytes, version)
        }))
    }

    async fn replace(
        &self,
        path: &str,
        bytes: Vec<u8>,
        old: Option<&Version>,
    ) -> Result<Version, StoreFault> {
        let old = old.cloned();
        self.work(path, move |folder, path| {
            match folder.replace(path, &bytes, old.as_ref()).map_err(refused(path))? {
                true => Ok(version_of(&bytes)),
                false => Err(StoreFault::Conflict { path: path.to_owned() }),
            }
        })
        .await
    }

    fn place(&self) -> String {
        self.inner.root.display().to_string()
    }
}

/// Objects in a bucket, by conditional puts.
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: Key,
    place: String,
    headers: bool,
    /// for stores that cannot replace on a condition: one writer looks and writes, one after another
    sole: Option<tokio::sync::Mutex<()>>,
}

impl Objects {
    /// Objects under `prefix`, in a store that can put on a condition. `place` is how people call it.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str, place: &str) -> Self {
        Self { store, prefix: Key::from(prefix), place: place.to_owned(), headers: false, sole: None }
    }

    /// The same in a store that can create, but not replace, on a condition. Nobody else may write there: the
    /// condition is then only looked at before the write.
    pub fn of_sole_writer(store: Arc<dyn ObjectStore>, prefix: &str, place: &str) -> Self {
        Self { sole: Some(tokio::sync::Mutex::new(())), ..Self::new(store, prefix, place) }
    }

    /// With content types and cache times, for a bucket that is read by browsers and caches.
    pub(crate) fn with_headers(self) -> Self {
        Self { headers: true, ..self }
    }

    fn key(&self, path: &str) -> Key {
        self.prefix.parts().chain(Key::from(path).parts()).collect()
    }

    async fn put(&self, path: &str, bytes: Vec<u8>, mode: PutMode) -> object_store::Result<Version> {
        let mut attributes = Attributes::new();
        if self.headers && path == CHECKPOINT {
            attributes.insert(Attribute::ContentType, "text/plain; charset=utf-8".into());
            attributes.insert(Attribute::CacheControl, "public, max-age=2".into());
        } else if self.headers {
            attributes.insert(Attribute::ContentType, "application/octet-stream".into());
            attributes.insert(Attribute::CacheControl, "public, max-age=31536000, immutable".into());
        }
        let options = PutOptions { mode, attributes, ..PutOptions::default() };
        let done = self.store.put_opts(&self.key(path), bytes.into(), options).await?;
        Ok(Version { tag: done.e_tag, version: done.version })
    }

    /// After a put that failed or whose condition did not hold: if these very bytes are there, an earlier try was ours.
    async fn ours(&self, path: &str, bytes: &[u8]) -> Result<Option<Version>, StoreFault> {
        let found = self.get(path).await?;
        Ok(found.filter(|(there, _)| there == bytes).map(|(_, version)| version))
    }
}

fn unavailable(path: &str, e: &object_store::Error) -> StoreFault {
    StoreFault::Unavailable { path: path.to_owned(), reason: e.to_string() }
}

impl TileStore for Objects {
    async fn put_new(&self, path: &str, bytes: Vec<u8>) -> Result<(), StoreFault> {
        match self.put(path, bytes.clone(), PutMode::Create).await {
            Ok(_) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. }) => match self.ours(path, &bytes).await? {
                Some(_) => Ok(()),
                None => Err(StoreFault::Differs { path: path.to_owned() }),
            },
            Err(e) => Err(unavailable(path, &e)),
        }
    }

    async fn get(&self, path: &str) -> Result<Option<(Vec<u8>, Version)>, StoreFault> {
        let found = match self.store.get_opts(&self.key(path), GetOptions::default()).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(unavailable(path, &e)),
        };
        let version = Version { tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        let bytes = found.bytes().await.map_err(|e| unavailable(path, &e))?;
        Ok(Some((bytes.to_vec(), version)))
    }

    async fn replace(
        &self,
        path: &str,
        bytes: Vec<u8>,
        old: Option<&Version>,
    ) -> Result<Version, StoreFault> {
        let mode = match (&self.sole, old) {
            (_, None) => PutMode::Create,
            (None, Some(v)) => {
                PutMode::Update(UpdateVersion { e_tag: v.tag.clone(), version: v.version.clone() })
            }
            (Some(sole), Some(old)) => {
                let _one = sole.lock().await;
                return match self.get(path).await? {
                    Some((there, version)) if there == bytes => Ok(version),
                    Some((_, version)) if version == *old => {
                        self.put(path, bytes, PutMode::Overwrite).await.map_err(|e| unavailable(path, &e))
                    }
                    _ => Err(StoreFault::Conflict { path: path.to_owned() }),
                };
            }
        };
        match self.put(path, bytes.clone(), mode).await {
            Ok(version) => Ok(version),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                match self.ours(path, &bytes).await? {
                    Some(version) => Ok(version),
                    None => Err(StoreFault::Conflict { path: path.to_owned() }),
                }
            }
            Err(e) => Err(unavailable(path, &e)),
        }
    }

    fn place(&self) -> String {
        self.place.clone()
    }
}

/// What is in the storage as this hub left it.
struct Published {
    size: u64,
    note: String,
    version: Version,
}

/// Why a step of publishing failed.
enum Trouble {
    /// again later
    Later(String),
    /// what is there is not this log
    Fatal(String),
}

impl From<StoreFault> for Trouble {
    fn from(fault: StoreFault) -> Self {
        match fault {
            StoreFault::Differs { .. } => Trouble::Fatal(fault.to_string()),
            StoreFault::Conflict { .. } | StoreFault::Unavailable { .. } => Trouble::Later(fault.to_string()),
        }
    }
}

impl Hub {
    /// Publishes tiles and checkpoints to `store` until [`Hub::stop`]: each checkpoint with a quorum, or the latest of
    /// those that came in between, after the tiles that it needs. Begins where the storage is.
    ///
    /// # Errors
    /// [`HubError::Publishing`] when the storage holds another log, another history of this one, or more than this hub
    /// has. Whatever else fails is tried again.
    pub async fn publish_tiles<S: TileStore>(&self, store: S) -> Result<(), HubError> {
        let (mut news, mut stop) = (self.shared.news.subscribe(), self.shared.stop.subscribe());
        let store = Arc::new(store);
        let (mut published, mut wait) = (None, RETRY);
        while !*stop.borrow_and_update() {
            let pause = match step(&self.shared, &store, &mut published).await {
                Ok(true) => {
                    wait = RETRY;
                    Some(PACE)
                }
                Ok(false) => None,
                Err(Trouble::Later(reason)) => {
                    tracing::warn!(place = store.place(), %reason, "tiles are not published; trying again");
                    // What was there may have changed; look again.
                    published = None;
                    wait = (wait * 2).min(LONGEST);
                    Some(wait)
                }
                Err(Trouble::Fatal(reason)) => {
                    tracing::error!(place = store.place(), %reason, "publishing tiles has stopped");
                    return Err(HubError::Publishing { place: store.place(), reason });
                }
            };
            tokio::select! {
                biased;
                _ = stop.changed() => {}
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
                changed = news.changed(), if pause.is_none() => if changed.is_err() { break },
            }
        }
        Ok(())
    }
}

/// Publishes the latest sealed checkpoint if it is not there yet; gives whether it did.
async fn step<S: TileStore>(
    shared: &Arc<Shared>,
    store: &Arc<S>,
    published: &mut Option<Published>,
) -> Result<bool, Trouble> {
    let (note, size) = {
        let state = shared.read();
        let Some(note) = state.sealed_note() else { return Ok(false) };
        (note, state.sealed())
    };
    if published.as_ref().is_some_and(|p| p.note == note) {
        return Ok(false);
    }
    if published.is_none() {
        *published = found(shared, store).await?;
    }
    let done = published.as_ref().map_or(0, |p| p.size);
    if size < done {
        // Cosignatures are kept lazily: a hub that was killed may have to collect those of its last checkpoint anew.
        return Ok(false);
    }
    // INVARIANT: a checkpoint is there only after all tiles of its tree.
    let mut puts = JoinSet::new();
    for path in TilePath::of_tree(size).into_iter().filter(|path| !covers(done, path)) {
        let bytes = shared.read().tree.tile(&path).map_err(|e| Trouble::Later(e.to_string()))?;
        if puts.len() >= AT_ONCE
            && let Some(done) = puts.join_next().await
        {
            done.map_err(|e| Trouble::Later(e.to_string()))??;
        }
        let store = Arc::clone(store);
        puts.spawn(async move { store.put_new(&path.to_string(), bytes).await });
    }
    while let Some(done) = puts.join_next().await {
        done.map_err(|e| Trouble::Later(e.to_string()))??;
    }
    let old = published.as_ref().map(|p| &p.version);
    let version = store.replace(CHECKPOINT, note.clone().into_bytes(), old).await?;
    *published = Some(Published { size, note, version });
    Ok(true)
}

/// Whether the tiles of a tree of `size` entries have this tile among them, which is one of a tree at least as large.
fn covers(size: u64, path: &TilePath) -> bool {
    let TileKind::Hashes(level) = path.kind else { return false };
    end_within(path, level, size).is_some()
}

/// What an earlier run left there, if it is a beginning of what this hub has.
async fn found<S: TileStore>(shared: &Arc<Shared>, store: &Arc<S>) -> Result<Option<Published>, Trouble> {
    let Some((bytes, version)) = store.get(CHECKPOINT).await? else { return Ok(None) };
    let fatal = |reason: String| Trouble::Fatal(reason);
    let note = String::from_utf8(bytes).map_err(|e| fatal(format!("`{CHECKPOINT}`: {e}")))?;
    let read = SignedCheckpoint::parse(&note).map_err(|e| fatal(format!("`{CHECKPOINT}`: {e}")))?;
    let there = read.checkpoint();
    let (origin, size, root) = {
        let state = shared.read();
        (state.origin().to_owned(), state.tree.size(), state.tree.root_at(there.size()))
    };
    if there.origin() != origin {
        return Err(fatal(format!("it holds the log `{}`, expected `{origin}`", there.origin())));
    }
    read.verify_hub(&shared.key.public()).map_err(|e| fatal(e.to_string()))?;
    if root != Ok(there.root()) {
        return Err(fatal(format!(
            "the checkpoint of {} entries there is no beginning of this hub's {size} entries; was this hub restored \
             from an older copy, or is there a second one?",
            there.size()
        )));
    }
    Ok(Some(Published { size: there.size(), note, version }))
}
