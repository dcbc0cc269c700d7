//! Witnesses outside: one written from the words of C2SP tlog-witness alone, and our own.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post as on_post;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use ct_merkle::{ConsistencyProof, RootHash};
use hub::witness::{WitnessHouse, add_log, init};
use hub::{Hub, HubError, OutsideWitness, Web};
use record::{Checkpoint, Cosignature, PublicKey, SecretKey, SignedCheckpoint, Tree};
use sha2::{Digest as _, Sha256};
use signed_note::{Note, StandardVerifier, VerifierList};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::members::*;
use crate::outside::seal;
use crate::plain::{get, post, raw};

const NAME: &str = "witness.example/w1";

/// A witness of somebody else, after the specification: a strict reader with nothing of ours. Its log's key is a
/// verifier key as logs publish it.
#[derive(Clone)]
struct Strict {
    log: String,
    last: Arc<Mutex<(u64, [u8; 32])>>,
    refused: Arc<Mutex<Vec<u16>>>,
}

fn hash(line: &str) -> Option<[u8; 32]> {
    BASE64_STANDARD.decode(line).ok()?.try_into().ok()
}

impl Strict {
    fn of(log: &str) -> Self {
        let empty = <[u8; 32]>::from(Sha256::digest([]));
        Self { log: log.to_owned(), last: Arc::new(Mutex::new((0, empty))), refused: Arc::default() }
    }

    /// The answer's status and body.
    fn read(&self, body: &[u8]) -> Result<String, (u16, String)> {
        let bad = |what: &str| (400, what.to_owned());
        let text = std::str::from_utf8(body).map_err(|_| bad("text"))?;
        let (head, note) = text.split_once("\n\n").ok_or(bad("no empty line"))?;
        let mut head = head.split('\n');
        let old = head.next().and_then(|l| l.strip_prefix("old ")).ok_or(bad("old"))?;
        let old = old.parse::<u64>().ok().filter(|n| n.to_string() == old).ok_or(bad("old size"))?;
        let proof: Vec<[u8; 32]> = head.map(hash).collect::<Option<_>>().ok_or(bad("proof"))?;
        if proof.len() > 63 {
            return Err(bad("long proof"));
        }
        let note = Note::from_bytes(note.as_bytes()).map_err(|_| bad("note"))?;
        let body = String::from_utf8(note.text().to_vec()).unwrap();
        let mut lines = body.strip_suffix('\n').ok_or(bad("end"))?.split('\n');
        let (origin, size, root) = (lines.next(), lines.next(), lines.next());
        let root = root.and_then(hash).ok_or(bad("root"))?;
        let size: u64 = size.and_then(|s| s.parse().ok()).ok_or(bad("size"))?;
        if origin != Some(self.log.split('+').next().unwrap()) {
            return Err((404, "unknown log".to_owned()));
        }
        let key = StandardVerifier::new(&self.log).unwrap();
        let (valid, _) =
            note.verify(&VerifierList::new(vec![Box::new(key)])).map_err(|_| (403, "key".to_owned()))?;
        assert_eq!(valid.len(), 1);
        if old > size {
            return Err(bad("old above new"));
        }
        let mut last = self.last.lock().unwrap();
        if old != last.0 || (size == last.0 && root != last.1) {
            return Err((409, format!("{}\n", last.0)));
        }
        let no = |what: &str| (422, what.to_owned());
        if old == 0 || old == size {
            proof.is_empty().then_some(()).ok_or(no("not empty"))?;
        } else {
            let (from, to) = (RootHash::<Sha256>::new(last.1.into(), old), RootHash::new(root.into(), size));
            let proof = ConsistencyProof::try_from_bytes(proof.concat()).map_err(|_| no("form"))?;
            to.verify_consistency(&from, &proof).map_err(|_| no("proof"))?;
        }
        *last = (size, root);
        use ed25519_dalek::Signer;
        let signing = ed25519_dalek::SigningKey::from_bytes(&[77; 32]);
        let public = signing.verifying_key().to_bytes();
        let id = Sha256::new().chain_update(NAME).chain_update("\n\x04").chain_update(public).finalize();
        let signature = signing.sign(format!("cosignature/v1\ntime 1700000000\n{body}").as_bytes());
        let payload = [&id[..4], 1_700_000_000u64.to_be_bytes().as_slice(), &signature.to_bytes()].concat();
        Ok(format!(
            "\u{2014} other.example/w9 AAAAAAAA\n\u{2014} {NAME} {}\n",
            BASE64_STANDARD.encode(payload)
        ))
    }

    async fn serve(&self) -> String {
        async fn answer(State(strict): State<Strict>, body: Bytes) -> Response {
            match strict.read(&body) {
                Ok(lines) => lines.into_response(),
                Err((status, text)) => {
                    strict.refused.lock().unwrap().push(status);
                    let kind = if status == 409 { "text/x.tlog.size" } else { "text/plain" };
                    (StatusCode::from_u16(status).unwrap(), [("content-type", kind)], text).into_response()
                }
            }
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/prefix", listener.local_addr().unwrap());
        let router = Router::new().route("/prefix/add-checkpoint", on_post(answer)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }
}

type Lines = mpsc::UnboundedReceiver<(u64, String)>;

fn asking(hub: &Hub, witnesses: Vec<OutsideWitness>) -> (Lines, JoinHandle<()>) {
    let (lines, heard) = mpsc::unbounded_channel();
    let hub = hub.clone();
    let web = Web::new(None).unwrap();
    let task = tokio::spawn(async move {
        let take = move |size, line: &str| drop(lines.send((size, line.to_owned())));
        hub.ask_witnesses(&web, |_| witnesses.clone(), Arc::new(take)).await;
    });
    (heard, task)
}

/// The line for `size`; lines for others come before.
async fn line_for(lines: &mut Lines, size: u64) -> Cosignature {
    loop {
        let (of, line) = soon(lines.recv()).await.unwrap();
        if of == size {
            return Cosignature::from_line(&line).unwrap();
        }
    }
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

/// The checkpoint of all entries.
async fn latest(served: &Served, member: &Member) -> SignedCheckpoint {
    let mut sync = wire::api::Sync::default();
    while sync.size < served.hub.size() {
        let have = wire::api::Have { size: sync.size, sealed: u64::MAX, mail: u64::MAX, term: 0 };
        sync = soon(member.client(served).sync(have, SOON)).await.unwrap();
    }
    let note = member.client(served).checkpoint().await.unwrap().unwrap();
    SignedCheckpoint::parse(&note).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_reader_of_the_specification_cosigns_what_the_hub_sends_and_tells_its_size_when_asked_anew()
{
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, _) = federation(dir.path(), &mut members).await;
    let log = record::witness::log_verifier_key("comity/stroke", &served.info.key);
    let strict = Strict::of(&log);
    let witness = OutsideWitness { name: NAME.into(), url: strict.serve().await, key: key(77).public() };
    let (mut lines, task) = asking(&served.hub, vec![witness.clone()]);
    let gb = members[0].client(&served);
    let mut last = 3;
    line_for(&mut lines, last).await;
    for n in 0..5 {
        gb.submit(&members[0].note(&format!("note {n}"))).await.unwrap();
        last = seal(&served, &mut members).await;
        let line = line_for(&mut lines, last).await;
        let checkpoint = latest(&served, &members[0]).await;
        line.verify(checkpoint.checkpoint(), &key(77).public()).unwrap();
    }
    assert!(strict.refused.lock().unwrap().is_empty(), "{:?}", strict.refused);
    task.abort();

    // An asker that starts again knows nothing, and is told the size.
    gb.submit(&members[0].note("more")).await.unwrap();
    seal(&served, &mut members).await;
    let (mut lines, task) = asking(&served.hub, vec![witness.clone()]);
    line_for(&mut lines, last + 1).await;
    assert_eq!(*strict.refused.lock().unwrap(), [409]);
    served.hub.stop();
    soon(task).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_that_answers_nonsense_holds_up_no_other_and_its_lines_are_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, _) = federation(dir.path(), &mut members).await;
    let log = record::witness::log_verifier_key("comity/stroke", &served.info.key);
    let good = Strict::of(&log).serve().await;
    // Says yes with a line of nobody, for ever more bytes, and never.
    let router = Router::new()
        .route("/lies/add-checkpoint", on_post(|| async { format!("\u{2014} {NAME} AAAAAAAAAAAA\n") }))
        .route("/long/add-checkpoint", on_post(|| async { "x".repeat(1 << 20) }))
        .route("/never/add-checkpoint", on_post(|| async { std::future::pending::<()>().await }))
        .route("/moved/add-checkpoint", on_post(|| async { (StatusCode::FOUND, [("location", "/lies")]) }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bad = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let named = |name: &str, url: String| OutsideWitness { name: name.into(), url, key: key(77).public() };
    let mut all: Vec<_> =
        ["lies", "long", "never", "moved"].map(|p| named(NAME, format!("{bad}/{p}"))).into();
    all.push(named("nobody", "http://127.0.0.1:1".into()));
    all.push(named("no address", "not a url".into()));
    all.push(named("tls", bad.replace("http:", "https:")));
    // The right place, but another key than is named for it.
    let misnamed = Strict::of(&log).serve().await;
    all.push(OutsideWitness { name: NAME.into(), url: misnamed, key: key(78).public() });
    all.push(named(NAME, good));
    let (mut lines, _task) = asking(&served.hub, all);
    line_for(&mut lines, 3).await;
    members[0].client(&served).submit(&members[0].note("x")).await.unwrap();
    line_for(&mut lines, 4).await;
    assert!(lines.try_recv().is_err(), "one line a checkpoint, of the one that holds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_by_a_name_that_the_roster_does_not_know_is_counted_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, _) = federation(dir.path(), &mut members).await;
    let checkpoint = latest(&served, &members[0]).await;
    let line = |name: &str, key: &SecretKey| {
        Cosignature::sign(checkpoint.checkpoint(), name, 5, key).unwrap().to_line()
    };
    served.hub.count_line(3, &line(NAME, &key(77)));
    served.hub.count_line(3, &line("gb", &key(77)));
    served.hub.count_line(99, &line("gb", &members[0].key(1)));
    served.hub.count_line(3, "nonsense");
    assert_eq!(latest(&served, &members[0]).await, checkpoint);
    // A member's line that comes this way counts as if it had come the usual way.
    let own = line("gb", &members[0].key(1));
    served.hub.count_line(3, &own);
    assert_eq!(latest(&served, &members[0]).await.to_note(), format!("{}{own}", checkpoint.to_note()));
}

const ORIGIN: &str = "example.org/log";

fn tree(leaves: u64) -> Tree {
    let mut tree = Tree::new();
    (0..leaves).for_each(|n| {
        tree.append(&n.to_be_bytes());
    });
    tree
}

fn request(old: u64, size: u64) -> Vec<u8> {
    let tree = tree(size);
    let signed = Checkpoint::new(ORIGIN, size, tree.root()).unwrap().sign(&key(1));
    record::witness::add_checkpoint(old, &signed, &tree).unwrap().into_bytes()
}

async fn house(dir: &Path) -> (String, PublicKey, watch::Sender<bool>, JoinHandle<()>) {
    let witness = WitnessHouse::open(dir).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = watch::channel(false);
    let public = witness.key();
    let task = tokio::spawn(async move { witness.serve(listener, stopped).await });
    (addr, public, stop, task)
}

fn made(dir: &Path) {
    init(dir, NAME).unwrap();
    add_log(dir, ORIGIN, &key(1).public().to_string(), None).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn our_witness_answers_as_the_specification_says_and_remembers_across_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let (addr, public, stop, task) = house(dir.path()).await;
    let at = addr.clone();
    tokio::task::spawn_blocking(move || {
        let add = |body: &[u8]| post(&at, "/add-checkpoint", body);
        let first = add(&request(0, 5));
        assert_eq!(first.status, 200);
        let line = Cosignature::from_line(std::str::from_utf8(&first.body).unwrap()).unwrap();
        let checkpoint = Checkpoint::new(ORIGIN, 5, tree(5).root()).unwrap();
        line.verify(&checkpoint, &public).unwrap();
        for stale in [request(0, 5), request(0, 9), request(3, 9), request(3, 4)] {
            let conflict = add(&stale);
            assert_eq!((conflict.status, conflict.body.as_slice()), (409, b"5\n".as_slice()));
            assert!(conflict.head.contains("content-type: text/x.tlog.size"), "{}", conflict.head);
        }
        assert_eq!(add(&request(5, 5)).status, 200, "the same again");
        let text = String::from_utf8(request(5, 9)).unwrap();
        let proof = text.lines().nth(1).unwrap();
        let other = BASE64_STANDARD.encode([3; 32]);
        assert_eq!(add(text.replacen(proof, &other, 1).as_bytes()).status, 422);
        assert_eq!(add(text.replace(ORIGIN, "example.org/other").as_bytes()).status, 404);
        let forged = Checkpoint::new(ORIGIN, 9, tree(9).root()).unwrap().sign(&key(2));
        let forged = record::witness::add_checkpoint(5, &forged, &tree(9)).unwrap();
        assert_eq!(add(forged.as_bytes()).status, 403);
        assert_eq!(add(text.replace("old 5", "old 10").as_bytes()).status, 400);
        for nonsense in [b"".as_slice(), b"\xff", b"old 5", b"\n\n\n\n"] {
            assert_eq!(add(nonsense).status, 400);
        }
        assert_eq!(add(&vec![b'x'; 1 << 20]).status, 413);
        assert_eq!(get(&at, "/add-checkpoint").status, 405);
        assert_eq!(get(&at, "/").status, 404);
        assert_eq!(post(&at, "/checkpoint", b"x").status, 404);
        let broken =
            raw(&at, b"POST /add-checkpoint HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n");
        assert_ne!(broken.status, 200);
        assert_eq!(add(&request(5, 9)).status, 200);
    })
    .await
    .unwrap();
    assert!(WitnessHouse::open(dir.path()).is_err(), "one process serves it");
    stop.send_replace(true);
    soon(task).await.unwrap();

    let (addr, again, _stop, _task) = house(dir.path()).await;
    assert_eq!(again, public);
    tokio::task::spawn_blocking(move || {
        let known = post(&addr, "/add-checkpoint", &request(5, 12));
        assert_eq!((known.status, known.body.as_slice()), (409, b"9\n".as_slice()));
        assert_eq!(post(&addr, "/add-checkpoint", &request(9, 12)).status, 200);
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_histories_sent_at_once_our_witness_cosigns_one() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let (addr, _, _stop, _task) = house(dir.path()).await;
    let mut racing = tokio::task::JoinSet::new();
    for n in 0..24u64 {
        let addr = addr.clone();
        // Trees of different leaves, all signed by the log.
        let mut tree = Tree::new();
        (0..8).for_each(|leaf: u64| {
            tree.append(&(leaf + 100 * n).to_be_bytes());
        });
        let signed = Checkpoint::new(ORIGIN, 8, tree.root()).unwrap().sign(&key(1));
        let body = record::witness::add_checkpoint(0, &signed, &tree).unwrap();
        racing.spawn_blocking(move || post(&addr, "/add-checkpoint", body.as_bytes()).status);
    }
    let mut statuses = Vec::new();
    while let Some(status) = racing.join_next().await {
        statuses.push(status.unwrap());
    }
    assert_eq!(statuses.iter().filter(|s| **s == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|s| matches!(s, 200 | 409)), "{statuses:?}");
}

#[test]
fn a_witnesss_files_are_its_owners_alone_and_are_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("w");
    made(&dir);
    drop(WitnessHouse::open(&dir).unwrap());
    for file in std::fs::read_dir(&dir).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
    }
    assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    let before = std::fs::read(dir.join("witness.key")).unwrap();
    assert!(matches!(init(&dir, NAME), Err(HubError::Witness { .. })));
    assert_eq!(std::fs::read(dir.join("witness.key")).unwrap(), before);
    // A log's key stays.
    add_log(&dir, ORIGIN, &key(1).public().to_string(), None).unwrap();
    assert!(add_log(&dir, ORIGIN, &key(2).public().to_string(), None).is_err());
    assert!(add_log(&dir, "a b", &key(2).public().to_string(), None).is_err());
    assert!(add_log(&dir, "other", "nonsense", None).is_err());
    std::fs::set_permissions(dir.join("witness.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(WitnessHouse::open(&dir).is_err());
    assert!(WitnessHouse::open(&dir.join("none")).is_err());
    assert!(init(&dir.join("bad"), "a name").is_err());
    assert!(!dir.join("bad").exists());
}
