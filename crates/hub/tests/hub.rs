//! A hub and its members over real TLS on loopback, honest and otherwise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use hub::{Hub, HubConfig, HubError};
use record::log::Cosigned;
use record::{
    Digest, Entry, HubInfo, Log, SecretKey, SignedCheckpoint, SignedStatement, Standing, Statement,
};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use wire::api::{Have, Receipt, Sync};
use wire::{Frame, HubClient, Place, TlsIdentity, WireError};

const SOON: Duration = Duration::from_secs(10);

fn config() -> HubConfig {
    HubConfig {
        federation: "stroke".into(),
        operator: "Alpine Trust (fictitious)".into(),
        jurisdiction: "CH".into(),
    }
}

/// A member with its keys and its mirror of the log.
struct Member {
    id: &'static str,
    seed: u8,
    log: Log,
    cosigned: Option<Cosigned>,
}

impl Member {
    fn new(id: &'static str, seed: u8) -> Self {
        Self { id, seed, log: Log::new(), cosigned: None }
    }
    fn key(&self, use_: u8) -> SecretKey {
        SecretKey::from_seed([self.seed + use_; 32])
    }
    fn sign(&self) -> SecretKey {
        self.key(0)
    }
    fn tls(&self) -> TlsIdentity {
        TlsIdentity::from_seed(&[self.seed + 2; 32]).unwrap()
    }
    fn client(&self, hub: &Served) -> HubClient {
        HubClient::new(&self.tls(), &hub.addr, hub.info.tls).unwrap()
    }
    fn says<T: Serialize>(&self, kind: &str, subject: &str, body: &T) -> SignedStatement {
        SignedStatement::sign(Statement::new(kind, subject, self.id, "node", body).unwrap(), &self.sign())
            .unwrap()
    }
    fn note(&self, text: &str) -> SignedStatement {
        self.says("note.add@1", text, &serde_map(&[("text", text)]))
    }
    /// Mirrors, validates and cosigns what the hub shows, as a node does.
    async fn follow(&mut self, client: &HubClient, sync: &Sync) {
        for leaf in client.entries(self.log.size(), sync.size).await.unwrap() {
            self.log.append(&leaf, None).unwrap();
        }
        let checkpoint = SignedCheckpoint::parse(sync.checkpoint.as_ref().unwrap()).unwrap();
        let (line, next) =
            self.log.cosign(&checkpoint, self.id, &self.key(1), 1_700_000_000_000, self.cosigned).unwrap();
        self.cosigned = Some(next);
        client.cosign(next.size, &line.to_line()).await.unwrap();
    }
}

fn serde_map<'a>(pairs: &[(&'a str, &'a str)]) -> std::collections::BTreeMap<&'a str, &'a str> {
    pairs.iter().copied().collect()
}

#[derive(Serialize)]
struct CharterHub {
    operator: String,
    jurisdiction: String,
    key: record::PublicKey,
    tls: record::PublicKey,
}
#[derive(Serialize)]
struct CharterMember {
    id: String,
    sign: record::PublicKey,
    cosign: record::PublicKey,
    tls: record::PublicKey,
}
#[derive(Serialize)]
struct Charter {
    federation: String,
    hub: CharterHub,
    members: Vec<CharterMember>,
}
#[derive(Serialize)]
struct Propose {
    charter: Charter,
}
#[derive(Serialize)]
struct Sign {
    charter: Digest,
}

fn charter(info: &HubInfo, members: &[&Member]) -> Charter {
    Charter {
        federation: "stroke".into(),
        hub: CharterHub {
            operator: info.operator.clone(),
            jurisdiction: info.jurisdiction.clone(),
            key: info.key,
            tls: info.tls,
        },
        members: members
            .iter()
            .map(|m| CharterMember {
                id: m.id.into(),
                sign: m.sign().public(),
                cosign: m.key(1).public(),
                tls: m.key(2).public(),
            })
            .collect(),
    }
}

struct Served {
    hub: Hub,
    addr: String,
    info: HubInfo,
    task: JoinHandle<Result<(), HubError>>,
}

async fn serve(hub: Hub) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let (info, running) = (hub.info(), hub.clone());
    let task = tokio::spawn(async move { running.serve(listener).await });
    Served { hub, addr, info, task }
}

/// A hub with a charter of these members, signed by all.
async fn federation(dir: &Path, members: &mut [Member]) -> (Served, Digest) {
    let served = serve(Hub::create(dir, &config()).unwrap()).await;
    let digest = agree(&served, members).await;
    (served, digest)
}

async fn agree(served: &Served, members: &mut [Member]) -> Digest {
    let all: Vec<&Member> = members.iter().collect();
    let charter = charter(&served.info, &all);
    let digest = Digest::of(&record::canon::to_bytes(&charter).unwrap());
    let first = &members[0];
    first
        .client(served)
        .submit(&first.says("charter.propose@1", "charter", &Propose { charter }))
        .await
        .unwrap();
    for member in members.iter() {
        let signed = member.says("charter.sign@1", "charter", &Sign { charter: digest });
        member.client(served).submit(&signed).await.unwrap();
    }
    digest
}

fn pair() -> Vec<Member> {
    vec![Member::new("gb", 10), Member::new("ch", 20)]
}

fn refused(outcome: Result<impl std::fmt::Debug, WireError>) -> (u16, String) {
    match outcome {
        Err(WireError::Refused { status, error, found, expected }) => {
            assert!(!error.is_empty() && !found.is_empty() && !expected.is_empty());
            (status, format!("{error}: {found}"))
        }
        other => panic!("{other:?}"),
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_members_say_comes_into_force_at_both() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, charter) = federation(dir.path(), &mut members).await;
    let (gb, ch) = (members[0].client(&served), members[1].client(&served));

    let receipt = gb.submit(&members[0].note("hello")).await.unwrap();
    receipt.verify(&served.info.key).unwrap();
    assert_eq!((receipt.index, receipt.origin.as_str()), (3, "comity/stroke"));

    let mut last = Sync::default();
    while last.size < 4 {
        last = soon(gb.sync(Have { size: last.size, ..Have::default() }, SOON)).await.unwrap();
    }
    // Held until the second cosignature makes the quorum.
    let have = Have { size: 4, ..Have::default() };
    let waiting = {
        let gb = gb.clone();
        tokio::spawn(async move { gb.sync(have, Duration::from_secs(20)).await })
    };
    members[0].follow(&gb, &last).await;
    assert_eq!(gb.sync(have, Duration::ZERO).await.unwrap().sealed, 0);
    members[1].follow(&ch, &last).await;
    let sealed = soon(waiting).await.unwrap().unwrap();
    assert_eq!((sealed.size, sealed.sealed, sealed.sealed_checkpoint), (4, 4, None));

    let checkpoint = SignedCheckpoint::parse(&sealed.checkpoint.unwrap()).unwrap();
    for member in &members {
        assert_eq!(member.log.roster().charter_digest, Some(charter));
        assert!(member.log.voids().is_empty() && member.log.roster().in_force());
        assert!(matches!(member.log.standing(&checkpoint).unwrap(), Standing::InForce(_)));
    }
    assert_eq!(gb.checkpoint().await.unwrap(), Some(checkpoint.to_note()));
    let tile = gb.client().get("/tile/0/000.p/4", 1000).await.unwrap();
    let leaves: Vec<u8> = (0..4).flat_map(|i| *members[0].log.tree().leaf(i).unwrap().as_bytes()).collect();
    assert_eq!(tile, leaves);
    let bundle = gb.client().get("/tile/entries/000.p/4", 100_000).await.unwrap();
    let entries: Vec<Vec<u8>> = members[0].log.entries().iter().map(Entry::to_bytes).collect();
    assert_eq!(bundle, record::tree::entry_bundle(entries.iter().map(Vec::as_slice)).unwrap());
    assert_eq!(refused(gb.client().get("/tile/0/000.p/5", 1000).await).0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_said_twice_stands_once_with_one_receipt_even_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, _) = federation(dir.path(), &mut members).await;
    let note = members[0].note("once");
    let (gb, ch) = (members[0].client(&served), members[1].client(&served));
    let both = tokio::join!(gb.submit(&note), ch.submit(&note));
    let first = both.0.unwrap();
    assert_eq!(first, both.1.unwrap());
    assert_eq!(served.hub.size(), 4);
    served.hub.stop();
    served.task.await.unwrap().unwrap();
    drop((gb, ch));
    drop(served.hub);
    let served = serve(Hub::open(dir.path()).unwrap()).await;
    assert_eq!(members[0].client(&served).submit(&note).await.unwrap(), first);
    assert_eq!(served.hub.size(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_get_an_index_each_under_one_root() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, _) = federation(dir.path(), &mut members).await;
    let gb = members[0].client(&served);
    let notes: Vec<_> = (0..200).map(|i| members[0].note(&format!("n{i}"))).collect();
    let tasks: Vec<_> = notes
        .into_iter()
        .map(|note| {
            let gb = gb.clone();
            tokio::spawn(async move { gb.submit(&note).await.unwrap() })
        })
        .collect();
    let mut indices = Vec::new();
    for task in tasks {
        indices.push(task.await.unwrap().index);
    }
    indices.sort_unstable();
    assert_eq!(indices, (3..203).collect::<Vec<_>>());
    let mut last = Sync::default();
    while last.size < 203 {
        last = soon(gb.sync(Have { size: last.size, ..Have::default() }, SOON)).await.unwrap();
    }
    members[0].follow(&gb, &last).await; // recomputes the root
    assert_eq!(members[0].log.size(), 203);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_a_charter_only_its_own_member_may_propose_it_and_only_for_this_hub() {
    let dir = tempfile::tempdir().unwrap();
    let members = pair();
    let served = serve(Hub::create(dir.path(), &config()).unwrap()).await;
    let outsider = Member::new("zz", 90);
    let all: Vec<&Member> = members.iter().collect();
    let proposal = |info: &HubInfo| {
        members[0].says("charter.propose@1", "charter", &Propose { charter: charter(info, &all) })
    };
    let honest = proposal(&served.info);

    let stranger = outsider.client(&served);
    assert_eq!(stranger.sync(Have::default(), Duration::ZERO).await.unwrap(), Sync::default());
    assert_eq!(refused(stranger.submit(&honest).await).0, 403);
    assert_eq!(refused(stranger.submit(&outsider.note("first")).await).0, 422);
    assert_eq!(refused(stranger.put_blob(b"x".to_vec()).await).0, 403);
    let elsewhere = HubInfo { key: SecretKey::from_seed([99; 32]).public(), ..served.info.clone() };
    assert_eq!(refused(members[0].client(&served).submit(&proposal(&elsewhere)).await).0, 422);
    assert_eq!(served.hub.size(), 0);

    members[0].client(&served).submit(&honest).await.unwrap();
    // From here on strangers are not even connected; the connection that was open answers no.
    assert_eq!(refused(stranger.sync(Have::default(), Duration::ZERO).await).0, 403);
    let again = outsider.client(&served).checkpoint().await.unwrap_err();
    assert!(matches!(again, WireError::NotAdmitted { .. }), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn void_malformed_and_oversized_statements_are_refused_with_reasons() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, charter) = federation(dir.path(), &mut members).await;
    let gb = members[0].client(&served);
    let forged = SignedStatement::sign(
        Statement::new("note.add@1", "x", "ch", "node", &serde_map(&[])).unwrap(),
        &members[0].sign(),
    )
    .unwrap();
    let (status, why) = refused(gb.submit(&forged).await);
    assert!(status == 422 && why.contains("`ch` is not signed"), "{why}");
    let outsider = Member::new("zz", 90);
    assert_eq!(refused(gb.submit(&outsider.note("x")).await).0, 422);
    let twice = members[0].says("charter.sign@1", "again", &Sign { charter });
    assert_eq!(refused(gb.submit(&twice).await).0, 422);
    let mut bytes = members[0].note("x").to_bytes();
    *bytes.last_mut().unwrap() = b' ';
    assert_eq!(refused(gb.submit_bytes(bytes).await).0, 400);
    assert_eq!(refused(gb.client().post("/v1/submit", vec![b'x'; 70_000], 9999).await).0, 413);
    assert_eq!(refused(gb.client().get("/v1/entries?from=0", 9999).await).0, 400);
    assert_eq!(refused(gb.client().get("/v1/entries?from=0&to=99", 9999).await).0, 404);
    assert_eq!(refused(gb.client().get("/v1/nothing", 9999).await).0, 404);
    assert_eq!(refused(gb.client().get("/v1/submit", 9999).await).0, 404);
    assert_eq!(served.hub.size(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cosignature_counts_only_by_its_member_for_a_checkpoint_of_this_hub() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, _) = federation(dir.path(), &mut members).await;
    let (gb, ch) = (members[0].client(&served), members[1].client(&served));
    let mut last = Sync::default();
    while last.size < 3 {
        last = soon(gb.sync(Have { size: last.size, ..Have::default() }, SOON)).await.unwrap();
    }
    members[0].follow(&gb, &last).await;
    let note = SignedCheckpoint::parse(&last.checkpoint.unwrap()).unwrap();
    let line = |key: &SecretKey, name: &str| {
        record::Cosignature::sign(note.checkpoint(), name, 1_700_000_001, key).unwrap().to_line()
    };
    let ch_key = members[1].key(1);
    assert_eq!(refused(gb.cosign(3, &line(&ch_key, "ch")).await).0, 403);
    assert_eq!(refused(ch.cosign(3, &line(&members[0].key(1), "ch")).await).0, 422);
    assert_eq!(refused(ch.cosign(9, &line(&ch_key, "ch")).await).0, 409);
    assert_eq!(refused(ch.cosign(3, "— ch nonsense\n").await).0, 400);
    assert_eq!(gb.sync(Have::default(), Duration::ZERO).await.unwrap().sealed, 0);
    ch.cosign(3, &line(&ch_key, "ch")).await.unwrap();
    assert_eq!(gb.sync(Have::default(), Duration::ZERO).await.unwrap().sealed, 3);
    // A later cosignature of the same checkpoint keeps the watermark young.
    let fresh = record::Cosignature::sign(note.checkpoint(), "ch", 1_700_000_900, &ch_key).unwrap().to_line();
    ch.cosign(3, &fresh).await.unwrap();
    assert!(gb.checkpoint().await.unwrap().unwrap().contains(fresh.trim_end()));
    // What was sealed is sealed after a restart.
    served.hub.stop();
    served.task.await.unwrap().unwrap();
    drop((gb, ch, served.hub));
    let served = serve(Hub::open(dir.path()).unwrap()).await;
    let restored = members[0].client(&served).sync(Have::default(), Duration::ZERO).await.unwrap();
    assert_eq!((restored.size, restored.sealed), (3, 3));
    assert!(restored.checkpoint.unwrap().contains(fresh.trim_end()));
}

fn frame(charter: Digest, from: &Member, to: &str, body: &[u8]) -> wire::SignedFrame {
    let place = Place { study: "aspirin".into(), run: 1, stage: 0, round: 0 };
    Frame::new(from.id, to, "share", charter, place, Digest::of(b"ctx"), body.to_vec())
        .sign(&from.sign())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_reaches_its_recipient_alone_once_and_is_gone_when_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, charter) = federation(dir.path(), &mut members).await;
    let (gb, ch) = (members[0].client(&served), members[1].client(&served));
    let have = Have { size: 99, ..Have::default() };
    let waiting = {
        let ch = ch.clone();
        tokio::spawn(async move { ch.sync(have, Duration::from_secs(20)).await })
    };
    let canary = b"CANARY-frame-body-7c1e";
    let sent = frame(charter, &members[0], "ch", canary);
    gb.send_mail(&sent).await.unwrap();
    gb.send_mail(&sent).await.unwrap();
    gb.send_mail(&frame(charter, &members[0], "ch", b"second")).await.unwrap();
    assert!(soon(waiting).await.unwrap().unwrap().mail >= 1);

    let got = ch.fetch_mail(0).await.unwrap();
    assert_eq!(got.iter().map(|m| m.seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(got[0].frame, sent.bytes());
    assert!(gb.fetch_mail(0).await.unwrap().is_empty());
    assert_eq!(ch.fetch_mail(0).await.unwrap().len(), 2, "kept until it is acknowledged");
    assert!(ch.fetch_mail(2).await.unwrap().is_empty());

    served.hub.stop();
    served.task.await.unwrap().unwrap();
    drop((gb, ch, served.hub));
    let served = serve(Hub::open(dir.path()).unwrap()).await;
    let (gb, ch) = (members[0].client(&served), members[1].client(&served));
    assert!(ch.fetch_mail(0).await.unwrap().is_empty(), "deleted for good");
    gb.send_mail(&sent).await.unwrap();
    assert!(ch.fetch_mail(0).await.unwrap().is_empty(), "a repeat of what was read is not delivered again");
    gb.send_mail(&frame(charter, &members[0], "ch", b"third")).await.unwrap();
    assert_eq!(ch.fetch_mail(0).await.unwrap()[0].seq, 3, "numbers go on after a restart");
    served.hub.stop();
    served.task.await.unwrap().unwrap();
    drop((gb, ch, served.hub));
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(canary.len()).any(|w| w == canary), "{path:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn altered_forged_and_misaddressed_frames_are_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, charter) = federation(dir.path(), &mut members).await;
    let (gb, ch) = (members[0].client(&served), members[1].client(&served));
    let good = frame(charter, &members[0], "ch", b"body");
    let (status, why) = refused(ch.send_mail(&good).await);
    assert!(status == 403 && why.contains("its own frames"), "{why}");
    let mut altered = good.bytes().to_vec();
    *altered.last_mut().unwrap() ^= 1;
    let (status, why) = refused(gb.send_mail_bytes(altered).await);
    assert!(status == 400 && why.contains("altered"), "{why}");
    let imposter = Member { seed: 40, ..Member::new("gb", 0) };
    let (status, why) = refused(gb.send_mail(&frame(charter, &imposter, "ch", b"zeros")).await);
    assert!(status == 422 && why.contains("forged"), "{why}");
    assert_eq!(refused(gb.send_mail(&frame(charter, &members[0], "xx", b"body")).await).0, 404);
    assert_eq!(refused(gb.send_mail(&frame(Digest::of(b"other"), &members[0], "ch", b"body")).await).0, 422);
    assert!(ch.fetch_mail(0).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_come_back_by_digest_for_members() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, _) = federation(dir.path(), &mut members).await;
    let (gb, ch) = (members[0].client(&served), members[1].client(&served));
    let policy = vec![b'p'; 300_000];
    let digest = gb.put_blob(policy.clone()).await.unwrap();
    assert_eq!(ch.put_blob(policy.clone()).await.unwrap(), digest);
    assert_eq!(ch.get_blob(&digest).await.unwrap(), Some(policy));
    assert_eq!(ch.get_blob(&Digest::of(b"nothing")).await.unwrap(), None);
    let large = gb.put_blob(vec![0; wire::api::MAX_BLOB + 1]).await.unwrap_err();
    assert!(matches!(large, WireError::TooLarge { .. }));
    assert_eq!(refused(gb.client().get("/v1/blob/xyz", 100).await).0, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stamps_never_go_backwards_though_the_clock_does() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    drop(Hub::create(dir.path(), &config()).unwrap());
    let clock = Arc::new(AtomicI64::new(1_000_000));
    let tick = |clock: &Arc<AtomicI64>| {
        let clock = Arc::clone(clock);
        Hub::open_with(dir.path(), Arc::new(move || clock.load(Ordering::SeqCst))).unwrap()
    };
    let served = serve(tick(&clock)).await;
    agree(&served, &mut members).await;
    let gb = members[0].client(&served);
    clock.store(2_000_000, Ordering::SeqCst);
    assert_eq!(gb.submit(&members[0].note("a")).await.unwrap().time, 2_000_000);
    clock.store(500_000, Ordering::SeqCst);
    assert_eq!(gb.submit(&members[0].note("b")).await.unwrap().time, 2_000_000);
    served.hub.stop();
    served.task.await.unwrap().unwrap();
    drop((gb, served.hub));
    let served = serve(tick(&clock)).await;
    let late = members[0].client(&served).submit(&members[0].note("c")).await.unwrap();
    assert_eq!((late.time, late.promised_by), (2_000_000, 2_060_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_answers_those_who_wait_and_then_lets_go_of_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, _) = federation(dir.path(), &mut members).await;
    let in_use = Hub::open(dir.path()).err();
    assert!(matches!(in_use, Some(HubError::InUse(_))), "{in_use:?}");
    let gb = members[0].client(&served);
    let waiting =
        tokio::spawn(
            async move { gb.sync(Have { size: 99, ..Have::default() }, Duration::from_secs(20)).await },
        );
    tokio::time::sleep(Duration::from_millis(100)).await;
    served.hub.stop();
    assert_eq!(soon(waiting).await.unwrap().unwrap().size, 3);
    soon(served.task).await.unwrap().unwrap();
    drop(served.hub);
    Hub::open(dir.path()).unwrap();
}

#[test]
fn a_hub_is_made_once_and_keeps_its_keys_to_itself() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Hub::open(dir.path()).err();
    assert!(matches!(missing, Some(HubError::Absent(_))), "{missing:?}");
    let hub = Hub::create(&dir.path().join("hub"), &config()).unwrap();
    let info = hub.info();
    drop(hub);
    let again = Hub::create(&dir.path().join("hub"), &config()).err();
    assert!(matches!(again, Some(HubError::Exists(_))), "{again:?}");
    assert_eq!(Hub::open(&dir.path().join("hub")).unwrap().info(), info);
    #[cfg(unix)]
    for file in std::fs::read_dir(dir.path().join("hub")).unwrap() {
        use std::os::unix::fs::PermissionsExt;
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
    let bad = HubConfig { federation: "Str oke".into(), ..config() };
    let bad = Hub::create(&dir.path().join("other"), &bad).err();
    assert!(matches!(bad, Some(HubError::Config { field: "federation", .. })), "{bad:?}");
}

/// Collects all that this test binary logs, at every level.
fn logged() -> Arc<Mutex<Vec<u8>>> {
    static LOG: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();
    #[derive(Clone)]
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = LOG.get_or_init(|| {
        let log = Arc::new(Mutex::new(Vec::new()));
        let sink = Sink(Arc::clone(&log));
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_writer(move || sink.clone())
            .init();
        log
    });
    Arc::clone(log)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_body_is_logged_or_quoted_in_a_refusal() {
    let log = logged();
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, charter) = federation(dir.path(), &mut members).await;
    let gb = members[0].client(&served);
    let canary = b"CANARY-in-a-body-55aa";
    let good = frame(charter, &members[0], "ch", canary);
    gb.send_mail(&good).await.unwrap();
    gb.put_blob(canary.to_vec()).await.unwrap();
    let mut broken = good.bytes().to_vec();
    broken.push(b'!');
    let mut said = refused(gb.send_mail_bytes(broken).await).1;
    said += &refused(gb.send_mail(&frame(charter, &members[0], "xx", canary)).await).1;
    // A handshake refused, so that there is certainly something in the log.
    let outsider = Member::new("zz", 90);
    let _ = outsider.client(&served).checkpoint().await;
    soon(async {
        while !String::from_utf8_lossy(&log.lock().unwrap()).contains("handshake was refused") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    said += &String::from_utf8_lossy(&log.lock().unwrap());
    assert!(!said.contains("CANARY"), "{said}");
}

const CHILD: &str = "COMITY_TEST_HUB_DIR";

/// Not a test of its own: the process that the next one kills.
#[test]
#[ignore = "run by a_killed_hub_keeps_every_answer_it_gave"]
fn child_that_serves_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let hub = Hub::open(Path::new(&dir)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        std::fs::write(Path::new(&dir).join("addr.tmp"), addr).unwrap();
        std::fs::rename(Path::new(&dir).join("addr.tmp"), Path::new(&dir).join("addr")).unwrap();
        hub.serve(listener).await.unwrap();
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_hub_keeps_every_answer_it_gave() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, charter) = federation(dir.path(), &mut members).await;
    let info = served.info.clone();
    served.hub.stop();
    served.task.await.unwrap().unwrap();
    drop(served.hub);

    let mut receipts: Vec<Receipt> = Vec::new();
    let mut posted = 0;
    for life in 0..4 {
        let _ = std::fs::remove_file(dir.path().join("addr"));
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_serves_until_it_is_killed", "--ignored"])
            .env(CHILD, dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let addr = soon(async {
            loop {
                match std::fs::read_to_string(dir.path().join("addr")) {
                    Ok(addr) => break addr,
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        })
        .await;
        let client = HubClient::new(&members[0].tls(), &addr, info.tls).unwrap();
        let tasks: Vec<_> = (0..60)
            .map(|i| {
                let (client, note) = (client.clone(), members[0].note(&format!("{life}-{i}")));
                let mail = frame(charter, &members[0], "ch", format!("{life}-{i}").as_bytes());
                tokio::spawn(async move {
                    (client.submit(&note).await.ok(), client.send_mail(&mail).await.is_ok())
                })
            })
            .collect();
        // At another point of the work in each life.
        tokio::time::sleep(Duration::from_millis(5 + 12 * life)).await;
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        for task in tasks {
            let (receipt, mailed) = task.await.unwrap();
            receipts.extend(receipt);
            posted += usize::from(mailed);
        }
    }
    assert!(!receipts.is_empty(), "the hub was always killed before its first answer");

    let served = serve(Hub::open(dir.path()).unwrap()).await;
    let ch = members[1].client(&served);
    let sync = ch.sync(Have::default(), Duration::ZERO).await.unwrap();
    assert_eq!(sync.size, served.hub.size());
    members[1].follow(&ch, &sync).await; // every entry and the root, as a member checks them
    for receipt in &receipts {
        receipt.verify(&info.key).unwrap();
        let entry = &members[1].log.entries()[usize::try_from(receipt.index).unwrap()];
        assert_eq!((entry.signed.id(), entry.time), (receipt.id, receipt.time));
    }
    let (mut mail, mut after) = (0, 0);
    loop {
        let some = ch.fetch_mail(after).await.unwrap();
        let Some(last) = some.last() else { break };
        after = last.seq;
        mail += some.len();
    }
    assert!(mail >= posted, "{mail} of {posted}");
}
