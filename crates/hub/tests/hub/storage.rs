//! Tiles as files and as objects: one suite of promises for all, and publishing on top.

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use hub::tiles::{Files, Objects, StoreFault, TileStore};
use hub::{Hub, HubError, Web};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use record::Digest;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::members::*;
use crate::outside::{fill, rebuilt, seal};

/// The promises of `TileStore`.
async fn keeps_its_promises<S: TileStore>(store: S) {
    let (tile, partial) = ("tile/0/x001/234", "tile/0/x001/234.p/17");
    assert_eq!(store.get(tile).await.unwrap(), None);
    store.put_new(tile, vec![1; 8192]).await.unwrap();
    store.put_new(partial, vec![1; 17 * 32]).await.unwrap();
    store.put_new(tile, vec![1; 8192]).await.unwrap();
    let other = store.put_new(tile, vec![2; 8192]).await.unwrap_err();
    assert_eq!(other, StoreFault::Differs { path: tile.to_owned() });
    assert_eq!(store.get(tile).await.unwrap().unwrap().0, vec![1; 8192], "never overwritten");
    assert_eq!(store.get(partial).await.unwrap().unwrap().0.len(), 17 * 32);

    let conflict = StoreFault::Conflict { path: "checkpoint".to_owned() };
    let first = store.replace("checkpoint", b"one".to_vec(), None).await.unwrap();
    assert_eq!(store.get("checkpoint").await.unwrap().unwrap(), (b"one".to_vec(), first.clone()));
    assert_eq!(store.replace("checkpoint", b"two".to_vec(), None).await.unwrap_err(), conflict);
    let second = store.replace("checkpoint", b"two".to_vec(), Some(&first)).await.unwrap();
    assert_eq!(store.replace("checkpoint", b"three".to_vec(), Some(&first)).await.unwrap_err(), conflict);
    assert_eq!(store.get("checkpoint").await.unwrap().unwrap(), (b"two".to_vec(), second.clone()));
    // Said again after it was done: done.
    store.replace("checkpoint", b"two".to_vec(), Some(&first)).await.unwrap();
    assert_eq!(
        store.replace("nothing", b"x".to_vec(), Some(&second)).await.unwrap_err(),
        StoreFault::Conflict { path: "nothing".to_owned() }
    );

    // Of many at once on one path, one wins, and the others hear of it unless they said the same.
    let store = Arc::new(store);
    let mut racing = tokio::task::JoinSet::new();
    for n in 0..16u8 {
        let store = Arc::clone(&store);
        racing.spawn(async move { (n, store.put_new("tile/1/000", vec![n / 2; 64]).await) });
    }
    let mut won = Vec::new();
    while let Some(done) = racing.join_next().await {
        let (n, outcome) = done.unwrap();
        match outcome {
            Ok(()) => won.push(n / 2),
            Err(fault) => assert_eq!(fault, StoreFault::Differs { path: "tile/1/000".to_owned() }),
        }
    }
    assert_eq!(won.len(), 2, "{won:?}");
    assert_eq!(store.get("tile/1/000").await.unwrap().unwrap().0, vec![won[0]; 64]);
    let mut racing = tokio::task::JoinSet::new();
    for n in 0..8u8 {
        let (store, second) = (Arc::clone(&store), second.clone());
        racing.spawn(async move { store.replace("checkpoint", vec![n], Some(&second)).await.is_ok() });
    }
    let mut replaced = 0;
    while let Some(done) = racing.join_next().await {
        replaced += usize::from(done.unwrap());
    }
    assert_eq!(replaced, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_keep_the_promises_of_tile_storage() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("made/by/it");
    keeps_its_promises(Files::open(&root).unwrap()).await;
    assert_eq!(std::fs::read_dir(root.join(".tmp")).unwrap().count(), 1, "only the lock is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_at_a_time_writes_a_folder_and_half_written_files_go() {
    let dir = tempfile::tempdir().unwrap();
    let first = Files::open(dir.path()).unwrap();
    assert!(matches!(Files::open(dir.path()), Err(HubError::InUse(_))));
    drop(first);
    std::fs::write(dir.path().join(".tmp/7"), b"half").unwrap();
    let again = Files::open(dir.path()).unwrap();
    assert!(!dir.path().join(".tmp/7").exists());
    again.put_new("tile/0/000", vec![0; 8]).await.unwrap();
    assert_eq!(std::fs::metadata(dir.path().join("tile/0/000")).unwrap().nlink(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_in_memory_keep_the_promises_of_tile_storage() {
    keeps_its_promises(Objects::new(Arc::new(InMemory::new()), "some/where", "memory")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_a_store_without_conditional_replacement_keep_the_promises_for_one_writer() {
    let dir = tempfile::tempdir().unwrap();
    let local = LocalFileSystem::new_with_prefix(dir.path()).unwrap();
    keeps_its_promises(Objects::of_sole_writer(Arc::new(local), "", "local")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_in_a_bucket_keep_the_promises_of_tile_storage() {
    let bucket = Bucket::default();
    keeps_its_promises(bucket.open().await).await;
    let seen = bucket.inner.lock().unwrap();
    assert!(seen.objects.keys().all(|key| key.starts_with("/tiles/log/")), "{:?}", seen.objects.keys());
    assert!(seen.signed > 0 && seen.unsigned == 0);
    assert_eq!(seen.kinds["/tiles/log/checkpoint"], "text/plain; charset=utf-8");
    assert_eq!(seen.kinds["/tiles/log/tile/0/x001/234"], "application/octet-stream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_stored_and_said_it_failed_is_believed_after_a_look() {
    let bucket = Bucket::default();
    let store = bucket.open().await;
    for fault in [Fault::After, Fault::Before, Fault::HangUp] {
        bucket.faults([fault, Fault::None, fault]);
        let path = format!("tile/0/{}", fault as u8);
        let mut tries = 0;
        while let Err(fault) = store.put_new(&path, vec![7; 64]).await {
            assert!(matches!(fault, StoreFault::Unavailable { .. }), "{fault}");
            tries += 1;
            assert!(tries < 3);
        }
        assert_eq!(store.get(&path).await.unwrap().unwrap().0, vec![7; 64]);
        bucket.faults([]);
    }
    let mut version = None;
    for (n, fault) in [Fault::After, Fault::Before, Fault::After].into_iter().enumerate() {
        bucket.faults([fault]);
        version = Some(store.replace("checkpoint", vec![n as u8], version.as_ref()).await.unwrap());
    }
    // Refused outright, with its reason.
    bucket.faults([Fault::Denied]);
    let denied = store.put_new("tile/0/009", vec![1]).await.unwrap_err();
    assert!(
        matches!(&denied, StoreFault::Unavailable { reason, .. } if reason.contains("AccessDenied")),
        "{denied}"
    );
}

#[test]
fn an_address_that_names_no_bucket_is_refused() {
    let web = Web::new(None).unwrap();
    for url in ["s3://", "s3:///x", "http://x", ""] {
        assert!(Objects::s3_with(url, &web, []).is_err(), "{url}");
    }
}

fn publishing<S: TileStore>(hub: &Hub, store: S) -> JoinHandle<Result<(), HubError>> {
    let hub = hub.clone();
    tokio::spawn(async move { hub.publish_tiles(store).await })
}

/// Waits until a checkpoint of `size` is at the place.
async fn published(size: u64, read: impl Fn() -> Option<Vec<u8>>) -> String {
    soon(async {
        loop {
            let note = read().map(|bytes| String::from_utf8(bytes).unwrap());
            if let Some(note) = note.filter(|note| note.starts_with(&format!("comity/stroke\n{size}\n"))) {
                return note;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await
}

fn in_folder(root: &Path) -> impl Fn(&str) -> Vec<u8> {
    move |path| std::fs::read(root.join(path)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn published_files_prove_the_log_and_a_hub_that_starts_again_catches_up() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut members = pair();
    let (served, _) = federation(dir.path(), &mut members).await;
    let task = publishing(&served.hub, Files::open(out.path()).unwrap());
    fill(&served, &members[0], "first", 20).await;
    let size = seal(&served, &mut members).await;
    let at = out.path().join("checkpoint");
    let note = published(size, || std::fs::read(&at).ok()).await;
    let entries = members[0].client(&served).entries(0, size).await.unwrap();
    rebuilt(&note, &entries, in_folder(out.path()));
    assert!(!out.path().join("tile/entries").exists(), "no entry is published");
    served.hub.stop();
    soon(task).await.unwrap().unwrap();
    soon(served.task).await.unwrap().unwrap();
    drop(served.hub);

    // Grows while nothing is published.
    let served = serve(Hub::open(dir.path()).unwrap()).await;
    fill(&served, &members[0], "second", 270).await;
    let size = seal(&served, &mut members).await;
    let task = publishing(&served.hub, Files::open(out.path()).unwrap());
    let note = published(size, || std::fs::read(&at).ok()).await;
    let entries = members[0].client(&served).entries(0, size).await.unwrap();
    rebuilt(&note, &entries, in_folder(out.path()));
    served.hub.stop();
    soon(task).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_died_before_it_kept_a_quorum_takes_no_published_checkpoint_back() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut members = pair();
    let (served, _) = federation(dir.path(), &mut members).await;
    let task = publishing(&served.hub, Files::open(out.path()).unwrap());
    let size = seal(&served, &mut members).await;
    let at = out.path().join("checkpoint");
    let note = published(size, || std::fs::read(&at).ok()).await;
    served.hub.stop();
    soon(task).await.unwrap().unwrap();
    soon(served.task).await.unwrap().unwrap();
    drop(served.hub);
    let store = rusqlite::Connection::open(dir.path().join("hub.db")).unwrap();
    store.execute("delete from cosignature", []).unwrap();
    drop(store);

    let served = serve(Hub::open(dir.path()).unwrap()).await;
    let task = publishing(&served.hub, Files::open(out.path()).unwrap());
    members[0].client(&served).submit(&members[0].note("next")).await.unwrap();
    assert_eq!(std::fs::read_to_string(&at).unwrap(), note);
    let size = seal(&served, &mut members).await;
    published(size, || std::fs::read(&at).ok()).await;
    served.hub.stop();
    soon(task).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_to_a_bucket_that_fails_now_and_then_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, _) = federation(dir.path(), &mut members).await;
    let bucket = Bucket::default();
    let store = bucket.open().await;
    bucket.faults([Fault::Before, Fault::After, Fault::Denied, Fault::After, Fault::HangUp, Fault::After]);
    let task = publishing(&served.hub, store);
    fill(&served, &members[0], "first", 5).await;
    let size = seal(&served, &mut members).await;
    let object =
        |path: &str| bucket.inner.lock().unwrap().objects.get(&format!("/tiles/log/{path}")).cloned();
    let note = published(size, || object("checkpoint")).await;
    let entries = members[0].client(&served).entries(0, size).await.unwrap();
    rebuilt(&note, &entries, |path| object(path).unwrap());
    served.hub.stop();
    soon(task).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_holds_something_else_stops_publishing_and_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, _) = federation(dir.path(), &mut members).await;
    let size = seal(&served, &mut members).await;
    let stops = |store: InMemory| {
        let store = Arc::new(store);
        let kept = Arc::clone(&store);
        let task = publishing(&served.hub, Objects::new(store, "", "memory"));
        async move {
            let stopped = soon(task).await.unwrap().unwrap_err();
            assert!(matches!(stopped, HubError::Publishing { .. }), "{stopped}");
            (Objects::new(kept, "", "memory"), stopped.to_string())
        }
    };
    // A tile with other bytes.
    let store = InMemory::new();
    let path = format!("tile/0/000.p/{size}");
    put(&store, &path, vec![9; 96]).await;
    let (kept, why) = stops(store).await;
    assert!(why.contains("other bytes"), "{why}");
    assert_eq!(kept.get(&path).await.unwrap().unwrap().0, vec![9; 96]);
    assert_eq!(kept.get("checkpoint").await.unwrap(), None);
    // Another log's checkpoint, one that nobody signed, one beside this log, and one of more than this hub has.
    let key = record::SecretKey::from_seed([1; 32]);
    let sign =
        |origin: &str, size, root| record::Checkpoint::new(origin, size, root).unwrap().sign(&key).to_note();
    let root = members[0].log.tree().root();
    let other = [
        sign("comity/other", size, root),
        sign("comity/stroke", size, root),
        "no note".to_owned(),
        beside(dir.path(), size, Digest::of(b"other")),
        beside(dir.path(), size + 5, root),
    ];
    for note in other {
        let store = InMemory::new();
        put(&store, "checkpoint", note.clone().into_bytes()).await;
        let (kept, _) = stops(store).await;
        assert_eq!(kept.get("checkpoint").await.unwrap().unwrap().0, note.into_bytes());
    }
    // The hub itself goes on.
    members[0].client(&served).submit(&members[0].note("still here")).await.unwrap();
}

async fn put(store: &InMemory, path: &str, bytes: Vec<u8>) {
    use object_store::ObjectStoreExt;
    store.put(&path.into(), bytes.into()).await.unwrap();
}

/// A checkpoint by the hub's own key, read from its folder, as a second hub on a copy would sign it.
fn beside(dir: &Path, size: u64, root: Digest) -> String {
    let text = std::fs::read_to_string(dir.join("hub.key")).unwrap();
    let seed = text.lines().find_map(|line| line.strip_prefix("sign ")).unwrap();
    let seed: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&seed[2 * i..2 * i + 2], 16).unwrap()).collect();
    let key = record::SecretKey::from_seed(seed.try_into().unwrap());
    record::Checkpoint::new("comity/stroke", size, root).unwrap().sign(&key).to_note()
}

/// What a bucket does to a put.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    Before,
    After,
    HangUp,
    Denied,
}

#[derive(Default)]
struct Inside {
    objects: BTreeMap<String, Vec<u8>>,
    kinds: BTreeMap<String, String>,
    faults: VecDeque<Fault>,
    signed: usize,
    unsigned: usize,
}

/// A server that speaks as much of S3 as tile storage needs: conditional puts, tags, errors in XML; path style.
#[derive(Clone, Default)]
struct Bucket {
    inner: Arc<Mutex<Inside>>,
}

impl Bucket {
    async fn open(&self) -> Objects {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(s3).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let settings = [
            ("AWS_ENDPOINT", endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "eu-central-2"),
        ];
        Objects::s3_with("s3://tiles/log", &Web::new(None).unwrap(), settings).unwrap()
    }

    fn faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.inner.lock().unwrap().faults = faults.into_iter().collect();
    }
}

fn xml(status: StatusCode, code: &str) -> Response {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{code}</Message></Error>");
    (status, [("content-type", "application/xml")], body).into_response()
}

fn tag(bytes: &[u8]) -> String {
    format!("\"{}\"", &Digest::of(bytes).to_string()[..32])
}

async fn s3(State(bucket): State<Bucket>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let mut inside = bucket.inner.lock().unwrap();
    let header = |headers: &HeaderMap, name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned());
    let signed = header(&head.headers, "authorization").is_some_and(|a| a.starts_with("AWS4-HMAC-SHA256 "));
    *(if signed { &mut inside.signed } else { &mut inside.unsigned }) += 1;
    let key = head.uri.path().to_owned();
    let there = inside.objects.get(&key).cloned();
    if head.method == "GET" {
        return match there {
            Some(bytes) => {
                let modified = "Wed, 21 Oct 2026 07:28:00 GMT".to_owned();
                ([("etag", tag(&bytes)), ("last-modified", modified)], bytes).into_response()
            }
            None => xml(StatusCode::NOT_FOUND, "NoSuchKey"),
        };
    }
    assert_eq!(head.method, "PUT");
    let fault = inside.faults.pop_front().unwrap_or(Fault::None);
    match fault {
        Fault::Before => return xml(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
        Fault::Denied => return xml(StatusCode::FORBIDDEN, "AccessDenied"),
        _ => {}
    }
    let none_match = header(&head.headers, "if-none-match");
    let matches = header(&head.headers, "if-match");
    if none_match.as_deref() == Some("*") && there.is_some() {
        return xml(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
    }
    if let Some(expected) = matches {
        match &there {
            None => return xml(StatusCode::NOT_FOUND, "NoSuchKey"),
            Some(bytes) if tag(bytes) != expected => {
                return xml(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
            }
            Some(_) => {}
        }
    }
    inside.kinds.insert(key.clone(), header(&head.headers, "content-type").unwrap_or_default());
    inside.objects.insert(key, body.to_vec());
    match fault {
        Fault::After => xml(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        // The connection breaks under the caller.
        Fault::HangUp => {
            drop(inside);
            panic!("hangs up, as it is told to")
        }
        _ => ([("etag", tag(&body))], "").into_response(),
    }
}
