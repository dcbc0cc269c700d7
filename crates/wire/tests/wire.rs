//! Two ends over real TLS on loopback, and frames under attack.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::routing::{get, post};
use axum::{Extension, Router};
use proptest::prelude::*;
use record::Digest;
use record::keys::{PublicKey, SecretKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use wire::{
    Admit, Client, Frame, FrameFault, Ledger, Peer, Place, Repeat, SignedFrame, TlsIdentity, WireError, serve,
};

type Allowed = Arc<Mutex<BTreeSet<PublicKey>>>;

struct Running {
    addr: String,
    key: PublicKey,
    allowed: Allowed,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<Result<(), WireError>>,
}

async fn start(seed: u8, members: &[PublicKey]) -> Running {
    let identity = TlsIdentity::from_seed(&[seed; 32]).unwrap();
    let allowed: Allowed = Arc::new(Mutex::new(members.iter().copied().collect()));
    let list = Arc::clone(&allowed);
    let admit: Admit = Arc::new(move |key| {
        list.lock().unwrap().contains(key).then(|| Peer { key: *key, party: Some("gb".into()) })
    });
    let router =
        Router::new()
            .route(
                "/who",
                get(|Extension(peer): Extension<Peer>| async move {
                    format!("{} {}", peer.party.unwrap(), peer.key)
                }),
            )
            .route("/echo", post(|body: Bytes| async move { body }))
            .route(
                "/slow",
                get(|| async {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    "done"
                }),
            );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = watch::channel(false);
    let key = identity.public_key();
    let task = tokio::spawn(async move { serve(listener, &identity, admit, router, stopped).await });
    Running { addr, key, allowed, stop, task }
}

fn member() -> TlsIdentity {
    TlsIdentity::from_seed(&[1; 32]).unwrap()
}

#[tokio::test]
async fn a_member_is_known_to_the_handler_by_its_key() {
    let hub = start(9, &[member().public_key()]).await;
    let client = Client::new(&member(), &hub.addr, hub.key).unwrap();
    let answer = client.get("/who", 1000).await.unwrap();
    assert_eq!(answer, format!("gb {}", member().public_key()));
    assert_eq!(member().public_key(), SecretKey::from_seed([1; 32]).public());
}

#[tokio::test]
async fn a_peer_with_another_key_than_the_pinned_one_is_refused_and_both_keys_are_named() {
    let hub = start(9, &[member().public_key()]).await;
    let other = SecretKey::from_seed([8; 32]).public();
    let error = Client::new(&member(), &hub.addr, other).unwrap().get("/who", 1000).await.unwrap_err();
    match error {
        WireError::WrongPeer { found, expected, .. } => {
            assert_eq!((found, expected), (hub.key.to_string(), other.to_string()));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_key_that_the_charter_does_not_name_is_refused_in_the_handshake() {
    let hub = start(9, &[member().public_key()]).await;
    let stranger = TlsIdentity::from_seed(&[2; 32]).unwrap();
    let client = Client::new(&stranger, &hub.addr, hub.key).unwrap();
    let error = client.post("/echo", vec![0u8; 200_000], 1000).await.unwrap_err();
    assert!(matches!(error, WireError::NotAdmitted { key, .. } if key == stranger.public_key()), "{error:?}");
}

#[tokio::test]
async fn no_client_certificate_no_connection() {
    #[derive(Debug)]
    struct Anyone;
    impl rustls::client::danger::ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &[rustls::pki_types::CertificateDer<'_>],
            _: &rustls::pki_types::ServerName<'_>,
            _: &[u8],
            _: rustls::pki_types::UnixTime,
        ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
            Ok(rustls::client::danger::ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            vec![rustls::SignatureScheme::ED25519]
        }
    }
    let hub = start(9, &[member().public_key()]).await;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_protocol_versions(&[version])
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anyone))
                .with_no_client_auth();
        let tcp = TcpStream::connect(&hub.addr).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = rustls::pki_types::ServerName::try_from("comity").unwrap();
        let outcome = async {
            let mut tls = connector.connect(name, tcp).await?;
            tls.write_all(b"GET /who HTTP/1.1\r\nhost: comity\r\n\r\n").await?;
            let mut answer = vec![0u8; 100];
            let read = tls.read(&mut answer).await?;
            Ok::<_, std::io::Error>(read)
        }
        .await;
        assert!(outcome.is_err(), "{version:?} {outcome:?}");
    }
}

#[tokio::test]
async fn a_membership_that_ends_ends_on_open_connections_too() {
    let hub = start(9, &[member().public_key()]).await;
    let client = Client::new(&member(), &hub.addr, hub.key).unwrap();
    client.get("/who", 1000).await.unwrap();
    hub.allowed.lock().unwrap().clear();
    let error = client.get("/who", 1000).await.unwrap_err();
    assert!(matches!(error, WireError::Refused { status: 403, .. }), "{error:?}");
    assert_eq!(client.traffic().connections, 1);
}

#[tokio::test]
async fn calls_one_after_another_share_a_connection_and_every_byte_is_counted() {
    let hub = start(9, &[member().public_key()]).await;
    let client = Client::new(&member(), &hub.addr, hub.key).unwrap();
    client.get("/who", 1000).await.unwrap();
    let before = client.traffic();
    for _ in 0..20 {
        let echoed = client.post("/echo", vec![7u8; 10_000], 20_000).await.unwrap();
        assert_eq!(echoed.len(), 10_000);
    }
    let after = client.clone().traffic();
    assert_eq!(after.connections, 1);
    for (a, b) in [(after.sent, before.sent), (after.received, before.received)] {
        let moved = a - b;
        assert!((200_000..220_000).contains(&moved), "{moved}");
    }
}

#[tokio::test]
async fn a_stop_finishes_the_answer_under_way_and_then_nobody_answers() {
    let hub = start(9, &[member().public_key()]).await;
    let client = Client::new(&member(), &hub.addr, hub.key).unwrap();
    let slow = {
        let client = client.clone();
        tokio::spawn(async move { client.get("/slow", 1000).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    hub.stop.send(true).unwrap();
    assert_eq!(slow.await.unwrap().unwrap(), "done");
    hub.task.await.unwrap().unwrap();
    let error = client.get("/who", 1000).await.unwrap_err();
    assert!(matches!(error, WireError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_client_finds_a_restarted_peer_again() {
    let hub = start(9, &[member().public_key()]).await;
    let client = Client::new(&member(), &hub.addr, hub.key).unwrap();
    client.get("/who", 1000).await.unwrap();
    let addr = hub.addr.clone();
    hub.stop.send(true).unwrap();
    hub.task.await.unwrap().unwrap();
    let identity = TlsIdentity::from_seed(&[9; 32]).unwrap();
    let listener = TcpListener::bind(&addr).await.unwrap();
    let (_stop, stopped) = watch::channel(false);
    let admit: Admit = Arc::new(|key| Some(Peer { key: *key, party: None }));
    tokio::spawn(async move {
        serve(listener, &identity, admit, Router::new().route("/who", get(|| async { "again" })), stopped)
            .await
    });
    assert_eq!(client.get("/who", 1000).await.unwrap(), "again");
}

#[tokio::test]
async fn an_answer_beyond_its_limit_is_not_read() {
    let hub = start(9, &[member().public_key()]).await;
    let client = Client::new(&member(), &hub.addr, hub.key).unwrap();
    let error = client.post("/echo", vec![0u8; 5000], 4999).await.unwrap_err();
    assert!(matches!(error, WireError::Malformed { .. }), "{error:?}");
}

#[test]
fn an_identity_does_not_show_its_secret() {
    let seed = [0x5a; 32];
    let shown = format!("{:?}", TlsIdentity::from_seed(&seed).unwrap());
    assert!(!shown.contains("5a5a") && !shown.contains("90, 90"), "{shown}");
}

#[test]
fn an_address_without_a_port_is_refused_before_any_call() {
    for addr in ["localhost", ":443", "host:", "host:99999", ""] {
        let error = Client::new(&member(), addr, member().public_key()).err();
        assert!(matches!(error, Some(WireError::Address { .. })), "{addr}");
    }
}

// Frames

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn place() -> Place {
    Place { study: "aspirin".into(), run: 1, stage: 2, round: 3 }
}

fn frame(body: &[u8]) -> Frame {
    Frame::new("gb", "ch", "share", Digest::of(b"charter"), place(), Digest::of(b"round"), body.to_vec())
}

#[test]
fn a_frame_survives_the_wire_and_says_who_sent_it() {
    let sent = frame(b"ciphertext\n\nwith\nlines").sign(&key(1)).unwrap();
    let seen = SignedFrame::decode(sent.bytes()).unwrap();
    seen.verify(&key(1).public()).unwrap();
    assert_eq!(seen.frame(), sent.frame());
    assert_eq!(seen.id(), sent.id());
    seen.frame().directed_to("ch", &Digest::of(b"charter")).unwrap();
    seen.frame().belongs(&place(), &Digest::of(b"round")).unwrap();
}

#[test]
fn an_altered_body_is_named_altered() {
    let sent = frame(b"ciphertext").sign(&key(1)).unwrap();
    let mut bytes = sent.bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    assert!(matches!(SignedFrame::decode(&bytes), Err(FrameFault::Altered { part: "body", .. })));
}

#[test]
fn an_altered_header_is_named_altered() {
    let sent = frame(b"ciphertext").sign(&key(1)).unwrap();
    let text = String::from_utf8(sent.bytes().to_vec()).unwrap().replace("\"to\":\"ch\"", "\"to\":\"se\"");
    let seen = SignedFrame::decode(text.as_bytes()).unwrap();
    assert_eq!(seen.frame().to, "se");
    let fault = seen.verify(&key(1).public()).unwrap_err();
    assert!(matches!(fault, FrameFault::Altered { part: "header", .. }), "{fault}");
}

#[test]
fn a_frame_signed_by_another_key_is_named_forged() {
    let sent = frame(b"zeros").sign(&key(2)).unwrap();
    let fault = SignedFrame::decode(sent.bytes()).unwrap().verify(&key(1).public()).unwrap_err();
    assert!(
        matches!(fault, FrameFault::Forged { ref from, found, .. } if from == "gb" && found == key(2).public()),
        "{fault}"
    );
}

#[test]
fn a_frame_for_somebody_or_something_else_is_named_misdirected() {
    let frame = frame(b"x");
    let part = |r: Result<(), FrameFault>| match r {
        Err(FrameFault::Misdirected { part, .. }) => part,
        other => panic!("{other:?}"),
    };
    assert_eq!(part(frame.directed_to("se", &Digest::of(b"charter"))), "recipient");
    assert_eq!(part(frame.directed_to("ch", &Digest::of(b"other"))), "federation");
    assert_eq!(
        part(frame.belongs(&Place { study: "other".into(), ..place() }, &Digest::of(b"round"))),
        "study"
    );
    for wrong in [Place { run: 2, ..place() }, Place { stage: 1, ..place() }, Place { round: 4, ..place() }] {
        assert_eq!(part(frame.belongs(&wrong, &Digest::of(b"round"))), "round");
    }
    assert_eq!(part(frame.belongs(&place(), &Digest::of(b"fewer contributors"))), "context");
}

#[test]
fn a_frame_repeated_verbatim_is_harmless_and_one_with_other_bytes_is_named_repeated() {
    let mut ledger = Ledger::default();
    let first = frame(b"one").sign(&key(1)).unwrap();
    let second = frame(b"two").sign(&key(1)).unwrap();
    assert_eq!(ledger.accept(&first), Ok(Repeat::Fresh));
    assert_eq!(ledger.accept(&first), Ok(Repeat::Verbatim));
    let fault = ledger.accept(&second).unwrap_err();
    assert!(
        matches!(fault, FrameFault::Repeated { first: a, second: b, .. } if a == first.id() && b == second.id())
    );
    let mut other_round = frame(b"two");
    other_round.place.round = 4;
    assert_eq!(ledger.accept(&other_round.sign(&key(1)).unwrap()), Ok(Repeat::Fresh));
}

#[test]
fn a_frame_shows_no_body_in_debug_or_errors() {
    let sent = frame(b"CANARY-1234").sign(&key(1)).unwrap();
    assert!(!format!("{sent:?}").contains("CANARY"));
    let mut bytes = sent.bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let fault = SignedFrame::decode(&bytes).unwrap_err();
    assert!(!format!("{fault} {fault:?}").contains("CANARY"));
}

#[test]
fn a_body_beyond_the_limit_is_not_signed() {
    let fault = frame(&vec![0; wire::MAX_FRAME_BODY + 1]).sign(&key(1)).unwrap_err();
    assert!(matches!(fault, FrameFault::TooLarge { .. }));
}

proptest! {
    #[test]
    fn a_flipped_bit_anywhere_in_a_frame_is_found(at in 0usize..10_000, bit in 0u8..8) {
        let sent = frame(b"some sealed bytes").sign(&key(1)).unwrap();
        let mut bytes = sent.bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let accepted = SignedFrame::decode(&bytes).and_then(|f| f.verify(&key(1).public()));
        prop_assert!(accepted.is_err());
    }

    #[test]
    fn no_bytes_crash_the_frame_reader(bytes in proptest::collection::vec(any::<u8>(), 0..400), keep in 0usize..300) {
        let sent = frame(b"some sealed bytes").sign(&key(1)).unwrap();
        let mut mixed = sent.bytes().iter().take(keep).copied().collect::<Vec<_>>();
        mixed.extend(bytes);
        if let Ok(read) = SignedFrame::decode(&mixed) {
            prop_assert_eq!(read.bytes(), mixed.as_slice());
        }
    }

    #[test]
    fn packed_lists_come_back(items in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..8), cut in 1usize..20) {
        let packed = wire::api::pack(items.iter().map(Vec::as_slice));
        prop_assert_eq!(wire::api::unpack(&packed), Some(items.clone()));
        let mail: Vec<_> = items.into_iter().zip(1u64..).map(|(frame, seq)| wire::api::Mail { seq, frame }).collect();
        let packed = wire::api::pack_mail(&mail);
        prop_assert_eq!(wire::api::unpack_mail(&packed), Some(mail.clone()));
        if packed.len() > cut {
            prop_assert_ne!(wire::api::unpack_mail(&packed[..packed.len() - cut]), Some(mail));
        }
    }
}

#[test]
fn a_receipt_holds_for_its_hub_and_its_words_alone() {
    let receipt = wire::api::Receipt::sign(Digest::of(b"s"), 4, "comity/x", 1_000, &key(9)).unwrap();
    receipt.verify(&key(9).public()).unwrap();
    assert_eq!(receipt.promised_by, 61_000);
    assert!(receipt.verify(&key(8).public()).is_err());
    let changes: [fn(&mut wire::api::Receipt); 4] =
        [|r| r.index = 5, |r| r.time += 1, |r| r.promised_by += 1, |r| r.origin.push('y')];
    for change in changes {
        let mut other = receipt.clone();
        change(&mut other);
        assert!(other.verify(&key(9).public()).is_err());
    }
}
