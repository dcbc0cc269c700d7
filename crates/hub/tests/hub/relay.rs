//! Frames and blobs.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use hub::Hub;
use record::Digest;
use wire::WireError;
use wire::api::Have;

use crate::members::*;

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
    // Over several pages of the store, so that not all of it is soon written over.
    let sent = frame(charter, &members[0], "ch", &canary.repeat(4000));
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
