//! The way out through an HTTP proxy: a real tunnel on loopback, and proxies that refuse, lie, babble or hang up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::routing::{get, post};
use axum::{Extension, Router};
use record::keys::PublicKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use wire::{Admit, Client, Peer, Proxy, TlsIdentity, WireError, serve};

/// Nothing here takes longer, however a proxy behaves.
const SOON: Duration = Duration::from_secs(30);
const CANARY: &str = "CANARY-of-a-sealed-body-4711";

fn member() -> TlsIdentity {
    TlsIdentity::from_seed(&[1; 32]).unwrap()
}

/// A peer that admits the member alone; its address and key. It answers until the sender is dropped.
async fn peer(seed: u8) -> (String, PublicKey, watch::Sender<bool>) {
    let identity = TlsIdentity::from_seed(&[seed; 32]).unwrap();
    let key = identity.public_key();
    let known = member().public_key();
    let admit: Admit =
        Arc::new(move |key| (*key == known).then(|| Peer { key: *key, party: Some("gb".into()) }));
    let router = Router::new()
        .route("/who", get(|Extension(peer): Extension<Peer>| async move { peer.key.to_string() }))
        .route("/echo", post(|body: Bytes| async move { body }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move { serve(listener, &identity, admit, router, stopped).await });
    (addr, key, stop)
}

/// What a proxy of these tests saw.
#[derive(Default)]
struct Seen {
    /// the heads of the requests
    heads: Vec<String>,
    /// everything that crossed it, both ways, heads included
    bytes: Vec<u8>,
}

/// What a proxy of these tests does when it has read a CONNECT.
#[derive(Clone)]
enum Way {
    /// connects, to the address given instead of the one asked for if there is one, after saying this
    Tunnel(&'static str, Option<String>),
    /// says this and hangs up
    Says(Vec<u8>),
    /// says this and goes on listening, without an end
    SaysAndWaits(Vec<u8>),
    /// says this again and again
    SaysForEver(Vec<u8>),
}

const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

async fn head(tcp: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = tcp.read_u8().await else { break };
        head.push(byte);
    }
    head
}

async fn copy(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    seen: Arc<Mutex<Seen>>,
) {
    let mut buffer = vec![0u8; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        seen.lock().unwrap().bytes.extend_from_slice(&buffer[..read]);
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

async fn proxy(way: Way) -> (String, Arc<Mutex<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let kept = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let (way, seen) = (way.clone(), Arc::clone(&kept));
            tokio::spawn(async move {
                let head = head(&mut tcp).await;
                let text = String::from_utf8(head.clone()).unwrap();
                let asked = text.split(' ').nth(1).unwrap_or_default().to_owned();
                {
                    let mut seen = seen.lock().unwrap();
                    seen.bytes.extend_from_slice(&head);
                    seen.heads.push(text);
                }
                match way {
                    Way::Tunnel(says, instead) => {
                        let there = TcpStream::connect(instead.unwrap_or(asked)).await.unwrap();
                        tcp.write_all(says.as_bytes()).await.unwrap();
                        let ((a, b), (c, d)) = (tcp.into_split(), there.into_split());
                        tokio::join!(copy(a, d, Arc::clone(&seen)), copy(c, b, seen));
                    }
                    Way::Says(bytes) => {
                        let _ = tcp.write_all(&bytes).await;
                    }
                    Way::SaysAndWaits(bytes) => {
                        let _ = tcp.write_all(&bytes).await;
                        while let Ok(1..) = tcp.read(&mut [0u8; 1024]).await {}
                    }
                    Way::SaysForEver(bytes) => while tcp.write_all(&bytes).await.is_ok() {},
                }
            });
        }
    });
    (addr, seen)
}

fn through(addr: &str, proxy: &str, key: PublicKey) -> Client {
    let proxy = Proxy::parse(&format!("http://{proxy}")).unwrap();
    Client::through(&member(), addr, key, Some(&proxy)).unwrap()
}

/// The error of a call through a proxy that behaves so; the peer is up and would answer.
async fn fault(way: Way) -> WireError {
    fault_of(way, "").await
}

async fn fault_of(way: Way, credentials: &str) -> WireError {
    let (addr, key, _stop) = peer(9).await;
    let (proxy, _) = proxy(way).await;
    let client = through(&addr, &format!("{credentials}{proxy}"), key);
    let answer = tokio::time::timeout(SOON, client.get("/who", 1000)).await.expect("a call that hangs");
    let error = answer.unwrap_err();
    if let WireError::Proxy { proxy: named, addr: to, .. } = &error {
        assert_eq!((named, to), (&proxy, &addr));
    }
    error
}

/// Whether it is a fault of the proxy whose words hold all of these.
#[track_caller]
fn says(error: &WireError, words: &[&str]) {
    assert!(matches!(error, WireError::Proxy { .. }), "{error:?}");
    assert!(error.is_transient(), "what waits to be said would be given up: {error}");
    let shown = error.to_string();
    for word in words {
        assert!(shown.contains(word), "`{word}` is not in: {shown}");
    }
}

#[tokio::test]
async fn a_peer_is_reached_through_a_proxy_and_knows_the_member_by_its_key() {
    for established in [
        ESTABLISHED,
        "HTTP/1.0 200 OK\r\nProxy-agent: old\r\n\r\n",
        "HTTP/1.1 201 Fine\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        let (addr, key, _stop) = peer(9).await;
        let (proxy, seen) = proxy(Way::Tunnel(established, None)).await;
        let client = through(&addr, &proxy, key);
        assert_eq!(client.get("/who", 1000).await.unwrap(), member().public_key().to_string());
        let sent = vec![7u8; 1 << 20];
        assert_eq!(client.post("/echo", sent.clone(), 2 << 20).await.unwrap(), sent);
        assert_eq!(client.traffic().connections, 1);
        let seen = seen.lock().unwrap();
        assert_eq!(
            client.traffic().sent + client.traffic().received - established.len() as u64,
            seen.bytes.len() as u64
        );
        let request = &seen.heads[0];
        assert!(request.starts_with(&format!("CONNECT {addr} HTTP/1.1\r\n")), "{request}");
        assert!(request.to_lowercase().contains(&format!("host: {addr}\r\n")), "{request}");
        assert!(!request.to_lowercase().contains("authorization"), "{request}");
    }
}

#[tokio::test]
async fn a_proxy_sees_host_and_port_and_no_plaintext() {
    let (addr, key, _stop) = peer(9).await;
    let (proxy, seen) = proxy(Way::Tunnel(ESTABLISHED, None)).await;
    let client = through(&addr, &proxy, key);
    let body = CANARY.repeat(100);
    assert_eq!(client.post("/echo", body.clone(), 10_000).await.unwrap(), body);
    client.get("/who?study=CANARY-in-a-path", 1000).await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.heads.len(), 1);
    let after = &seen.bytes[seen.heads[0].len()..];
    assert!(after.len() > 2 * body.len());
    let key = hex(key.as_bytes());
    for word in ["CANARY", "HTTP/1.1", "/echo", "comity", key.as_str()] {
        assert!(!contains(after, word.as_bytes()), "`{word}` crossed the proxy in clear");
    }
    let mine = member().public_key();
    assert!(!contains(after, mine.as_bytes()), "the member's key crossed the proxy in clear");
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_proxy_that_connects_to_another_server_is_caught_by_the_pinned_key() {
    let (addr, key, _stop) = peer(9).await;
    let (elsewhere, other, _other_stop) = peer(8).await;
    let (proxy, _) = proxy(Way::Tunnel(ESTABLISHED, Some(elsewhere))).await;
    let error = through(&addr, &proxy, key).post("/echo", CANARY, 1000).await.unwrap_err();
    match &error {
        WireError::WrongPeer { found, expected, .. } => {
            assert_eq!((found, expected), (&other.to_string(), &key.to_string()));
        }
        other => panic!("{other:?}"),
    }
    assert!(error.to_string().contains(&format!("{addr} through proxy {proxy}")), "{error}");
    assert!(error.is_transient(), "a proxy's mischief would make a node give up what it has to say");
}

#[tokio::test]
async fn a_login_is_sent_to_the_proxy_alone_and_as_configured() {
    let (addr, key, _stop) = peer(9).await;
    let (proxy, seen) = proxy(Way::Tunnel(ESTABLISHED, None)).await;
    // "node gb" and "p@ss:w%rd", encoded where they must be.
    let client = through(&addr, &format!("node%20gb:p%40ss:w%25rd@{proxy}"), key);
    client.post("/echo", CANARY, 1000).await.unwrap();
    let seen = seen.lock().unwrap();
    // printf 'node gb:p@ss:w%%rd' | base64
    assert!(seen.heads[0].contains(": Basic bm9kZSBnYjpwQHNzOnclcmQ=\r\n"), "{}", seen.heads[0]);
}

#[tokio::test]
async fn a_proxy_that_wants_a_login_is_named_with_what_to_do() {
    let wants = |how: &str| {
        let head = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: ";
        Way::Says(format!("{head}{how}\r\nContent-Length: 2\r\n\r\nno").into_bytes())
    };
    says(&fault(wants("Basic realm=\"site\"")).await, &["status 407", "asks for a user", "USER:PASSWORD"]);
    let error = fault_of(wants("Negotiate, Basic realm=\"site\""), "node:SECRET@").await;
    says(&error, &["status 407", "does not take the configured user and password"]);
    assert!(!format!("{error} {error:?}").contains("SECRET"));
    says(&fault_of(wants("Negotiate"), "node:SECRET@").await, &["status 407", "other than Basic"]);
}

#[tokio::test]
async fn a_proxy_that_refuses_or_cannot_reach_the_peer_is_named_with_what_to_do() {
    let answers = |status: &str| Way::Says(format!("HTTP/1.1 {status}\r\n\r\n<h1>SQUID</h1>").into_bytes());
    let refused = fault(answers("403 Forbidden")).await;
    says(&refused, &["status 403", "refuses", "allow CONNECT"]);
    assert!(!refused.to_string().contains("SQUID"), "words of the proxy are repeated");
    for status in ["502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"] {
        says(&fault(answers(status)).await, &[&status[..3], "cannot reach the peer", "peer's address"]);
    }
    says(&fault(answers("405 Method Not Allowed")).await, &["405", "does not understand CONNECT"]);
    says(&fault(answers("302 Found")).await, &["302", "opens no tunnel"]);
    // A body without an end does not hold up the answer.
    let endless = "HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let begun = Instant::now();
    says(&fault(Way::SaysAndWaits(endless.into())).await, &["403"]);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named() {
    let (addr, key, _stop) = peer(9).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let error = through(&addr, &free, key).get("/who", 1000).await.unwrap_err();
    says(&error, &["cannot be reached", &free, &addr]);
}

#[tokio::test]
async fn a_proxy_that_answers_garbage_gives_a_clear_error() {
    for garbage in [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(),
        b"HTTP/1.1 2000 OK\r\n\r\n".to_vec(),
        b"HTTP/3.7 200 OK\r\n\r\n".to_vec(),
        b"\x15\x03\x01\x00\x02\x02\x46".to_vec(),
        vec![0u8; 4096],
        vec![0xff; 4096],
    ] {
        says(&fault(Way::SaysAndWaits(garbage.clone())).await, &["not HTTP"]);
        says(&fault(Way::Says(garbage)).await, &["not HTTP"]);
    }
}

#[tokio::test]
async fn an_endless_head_is_read_up_to_its_limit() {
    let begun = Instant::now();
    let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
    head.extend(b"x-filler: ".iter().chain(&[b'a'; 20_000]));
    says(&fault(Way::SaysAndWaits(head)).await, &["larger than 8 KiB"]);
    let error =
        fault(Way::SaysForEver(b"HTTP/1.1 200 OK\r\n".iter().chain(&[b'a'; 9_000]).copied().collect())).await;
    assert!(matches!(error, WireError::Proxy { .. }), "{error:?}");
    let error = fault(Way::SaysForEver(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec())).await;
    says(&error, &["no answer within 8 s"]);
    assert!(begun.elapsed() < SOON);
}

#[tokio::test]
async fn a_proxy_that_hangs_up_or_says_nothing_gives_a_clear_error() {
    says(&fault(Way::Says(Vec::new())).await, &["cut the connection before it had answered"]);
    says(&fault(Way::Says(b"HTTP/1.1 200 O".to_vec())).await, &["cut the connection before it had answered"]);
    says(&fault(Way::SaysAndWaits(Vec::new())).await, &["no answer within 8 s"]);
    says(&fault(Way::Says(ESTABLISHED.into())).await, &["cut it in the TLS handshake"]);
}

#[tokio::test]
async fn bytes_of_the_proxy_in_the_tunnel_are_not_taken_for_the_peers() {
    let mut mixed = ESTABLISHED.as_bytes().to_vec();
    mixed.extend(b"<html>Welcome to the hotel's network</html>");
    let error = fault(Way::SaysAndWaits(mixed)).await;
    // In one segment they are seen before TLS begins, else TLS refuses them.
    assert!(matches!(error, WireError::Proxy { .. } | WireError::Tls { .. }), "{error:?}");
    assert!(error.to_string().contains("proxy"), "{error}");
}

#[tokio::test]
async fn a_tunnel_that_breaks_is_made_anew() {
    let (addr, key, _stop) = peer(9).await;
    let (proxy, seen) = proxy(Way::Tunnel(ESTABLISHED, None)).await;
    let client = through(&addr, &proxy, key);
    client.get("/who", 1000).await.unwrap();
    // Two members' worth of calls share the one tunnel; when it ends, the next call opens another.
    client.get("/who", 1000).await.unwrap();
    assert_eq!(seen.lock().unwrap().heads.len(), 1);
    let (proxy, seen) = once_each(addr.clone()).await;
    let client = through(&addr, &proxy, key);
    for _ in 0..3 {
        client.get("/who", 1000).await.unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert_eq!(*seen.lock().unwrap(), 3);
}

/// A proxy that cuts each tunnel a moment after it was opened.
async fn once_each(to: String) -> (String, Arc<Mutex<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Mutex::new(0));
    let kept = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            *kept.lock().unwrap() += 1;
            let to = to.clone();
            tokio::spawn(async move {
                head(&mut tcp).await;
                let mut there = TcpStream::connect(to).await.unwrap();
                tcp.write_all(ESTABLISHED.as_bytes()).await.unwrap();
                let both = tokio::io::copy_bidirectional(&mut tcp, &mut there);
                let _ = tokio::time::timeout(Duration::from_millis(200), both).await;
            });
        }
    });
    (addr, seen)
}

#[test]
fn a_proxy_is_read_as_people_write_it_and_anything_else_is_refused() {
    for (text, addr) in [
        ("http://proxy.example:3128", "proxy.example:3128"),
        ("http://proxy.example:3128/", "proxy.example:3128"),
        ("http://node:secret@proxy.example:3128", "proxy.example:3128"),
        ("http://node@10.0.0.1:80", "10.0.0.1:80"),
        ("http://n:p@ss@[::1]:8080", "[::1]:8080"),
    ] {
        let proxy = Proxy::parse(text).unwrap();
        assert_eq!(proxy.addr(), addr);
        assert_eq!(Proxy::parse(&proxy.written()).unwrap(), proxy);
    }
    for text in [
        "",
        "proxy.example:3128",
        "https://CANARY:CANARY@proxy.example:3128",
        "socks5://proxy.example:1080",
        "http://",
        "http://proxy.example",
        "http://:3128",
        "http://proxy.example:99999",
        "http://proxy.example:3128/path",
        "http://CANARY:CANARY%4@proxy.example:3128",
        "http://CANARY:CANARY%zz@proxy.example:3128",
        "http://CANARY:CANARY%0d%0aX:y@proxy.example:3128",
        "http://CANARY:CANARY%ff@proxy.example:3128",
        "http://:CANARY@proxy.example:3128",
        "http://CANARY%3a:CANARY@proxy.example:3128",
        "http://CANARY:CANARY@",
        "http://proxy.example:3128\r\nX: y",
    ] {
        let error = Proxy::parse(text).unwrap_err();
        assert!(matches!(error, WireError::ProxyAddress { .. }), "{text}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
    }
}

#[test]
fn a_proxys_password_is_shown_nowhere() {
    let proxy = Proxy::parse("http://node:CANARY@proxy.example:3128").unwrap();
    assert_eq!(format!("{proxy} {proxy:?}"), "proxy.example:3128 Proxy(\"proxy.example:3128\")");
}

#[test]
fn an_address_that_no_proxy_could_be_asked_for_is_refused_before_any_call() {
    let proxy = Proxy::parse("http://proxy.example:3128").unwrap();
    for addr in
        ["localhost", ":443", "host:", "host:99999", "user@host:1", "host/x:1", "ho st:1", "host\r\n:1"]
    {
        let error = Client::through(&member(), addr, member().public_key(), Some(&proxy)).err();
        assert!(matches!(error, Some(WireError::Address { .. })), "{addr:?}");
    }
}
