//! Clocks, stops, restarts, kills.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use hub::{Hub, HubConfig, HubError};
use tokio::net::TcpListener;
use wire::HubClient;
use wire::api::{Have, Receipt};

use crate::members::*;

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

const CHILD: &str = "COMITY_TEST_HUB_DIR";

/// The process that the next test kills; without that test's word it does nothing.
#[test]
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
    // At another point of the work in each life.
    for (life, answers) in [1, 10, 40, 80].into_iter().enumerate() {
        let _ = std::fs::remove_file(dir.path().join("addr"));
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "life::child_that_serves_until_it_is_killed"])
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
        let answered = Arc::new(AtomicI64::new(0));
        let tasks: Vec<_> = (0..60)
            .map(|i| {
                let (client, note) = (client.clone(), members[0].note(&format!("{life}-{i}")));
                let mail = frame(charter, &members[0], "ch", format!("{life}-{i}").as_bytes());
                let answered = Arc::clone(&answered);
                tokio::spawn(async move {
                    let receipt = client.submit(&note).await.ok();
                    answered.fetch_add(i64::from(receipt.is_some()), Ordering::SeqCst);
                    let mailed = client.send_mail(&mail).await.is_ok();
                    answered.fetch_add(i64::from(mailed), Ordering::SeqCst);
                    (receipt, mailed)
                })
            })
            .collect();
        soon(async {
            while answered.load(Ordering::SeqCst) < answers {
                tokio::task::yield_now().await;
            }
        })
        .await;
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        for task in tasks {
            let (receipt, mailed) = task.await.unwrap();
            receipts.extend(receipt);
            posted += usize::from(mailed);
        }
    }
    assert!(receipts.len() + posted >= 131);

    let served = serve(Hub::open(dir.path()).unwrap()).await;
    let ch = members[1].client(&served);
    let sync = ch.sync(Have::default(), Duration::ZERO).await.unwrap();
    assert_eq!(sync.size, served.hub.size());
    members[1].follow(&ch, &sync).await; // every entry and the root, as a member checks them
    for receipt in &receipts {
        receipt.verify(&info.key).unwrap();
        let entry = &members[1].log.entries()[usize::try_from(receipt.index).unwrap()];
        assert_eq!((entry.id(), entry.time()), (receipt.id, receipt.time));
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
