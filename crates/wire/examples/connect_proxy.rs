//! A small HTTP proxy that opens tunnels by CONNECT to the places on a list, and to nowhere else. It is there to try a
//! federation behind one (`scripts/three-hosts.sh`) without installing anything; a site will have its own.
//!
//! ```sh
//! connect_proxy LISTEN HOST:PORT...
//! ```
//!
//! `PROXY_LOGIN=user:password` in its environment makes it ask for that login. Each CONNECT is a line on standard
//! output: what was asked for, by whom, what came of it, and the bytes that crossed each way when it is over.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

const MAX_HEAD: usize = 8 * 1024;
const MAX_TUNNELS: usize = 256;
const PATIENCE: Duration = Duration::from_secs(5);

struct Rules {
    /// host:port, in lower case
    allowed: BTreeSet<String>,
    /// what a request must show, if anything
    login: Option<String>,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().unwrap_or_default();
    let allowed: BTreeSet<String> = arguments.map(|place| place.to_lowercase()).collect();
    if listen.is_empty() || allowed.is_empty() {
        return Err(std::io::Error::other("connect_proxy LISTEN HOST:PORT..."));
    }
    let login = std::env::var("PROXY_LOGIN").ok().map(|login| format!("Basic {}", STANDARD.encode(login)));
    let rules = Arc::new(Rules { allowed, login });
    let listener = TcpListener::bind(&listen).await?;
    log(&format!("listens on {}", listener.local_addr()?));
    let room = Arc::new(Semaphore::new(MAX_TUNNELS));
    loop {
        let Ok((tcp, from)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
        let rules = Arc::clone(&rules);
        tokio::spawn(async move {
            serve(tcp, &from.ip().to_string(), &rules).await;
            drop(place);
        });
    }
}

async fn serve(mut tcp: TcpStream, from: &str, rules: &Rules) {
    let Ok(Some(head)) = tokio::time::timeout(PATIENCE, head(&mut tcp)).await else { return };
    let mut words = head.split_ascii_whitespace();
    let (method, place) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().to_lowercase());
    if method != "CONNECT" {
        return say(&mut tcp, "405 Method Not Allowed", "").await;
    }
    // What was asked for is somebody else's text: kept to one line of what can be a host and a port.
    let shown: String = place.chars().filter(|c| c.is_ascii_graphic()).take(256).collect();
    let shows = |login: &String| {
        head.lines()
            .filter_map(|line| line.split_once(':'))
            .any(|(name, value)| name.eq_ignore_ascii_case("proxy-authorization") && value.trim() == login)
    };
    if !rules.login.as_ref().is_none_or(shows) {
        log(&format!("CONNECT {shown} from {from} refused: no login"));
        let how = "Proxy-Authenticate: Basic realm=\"proxy\"\r\n";
        return say(&mut tcp, "407 Proxy Authentication Required", how).await;
    }
    if !rules.allowed.contains(&place) {
        log(&format!("CONNECT {shown} from {from} refused: not on the list"));
        return say(&mut tcp, "403 Forbidden", "").await;
    }
    let Ok(Ok(mut there)) = tokio::time::timeout(PATIENCE, TcpStream::connect(&place)).await else {
        log(&format!("CONNECT {shown} from {from} failed: nobody answers"));
        return say(&mut tcp, "502 Bad Gateway", "").await;
    };
    let _ = (tcp.set_nodelay(true), there.set_nodelay(true));
    log(&format!("CONNECT {shown} from {from} opened"));
    if tcp.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_err() {
        return;
    }
    let crossed = tokio::io::copy_bidirectional(&mut tcp, &mut there).await;
    let crossed =
        crossed.map_or_else(|e| e.to_string(), |(out, back)| format!("{out} bytes out, {back} back"));
    log(&format!("CONNECT {shown} from {from} over: {crossed}"));
}

/// The head of a request, if it has an end within the limit. Read byte by byte: what follows is not the proxy's.
async fn head(tcp: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_HEAD {
            return None;
        }
        head.push(tcp.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

async fn say(tcp: &mut TcpStream, status: &str, header: &str) {
    let answer = format!("HTTP/1.1 {status}\r\n{header}Content-Length: 0\r\nConnection: close\r\n\r\n");
    let _ = tcp.write_all(answer.as_bytes()).await;
}

fn log(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
