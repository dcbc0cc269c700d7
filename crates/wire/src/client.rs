//! One pooled, counted HTTP/1.1 client for one pinned peer.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{Method, Request, Uri};
use record::keys::PublicKey;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, Error as TlsError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::api::Refusal;
use crate::error::WireError;
use crate::line::{self, CONNECT, Dial, Fault, Line, Pool, prompt};
use crate::proxy::{self, Proxy};
use crate::tls::{NAME, TlsIdentity, Unpinned};

/// How long one call may take, beside any wait that it asks for.
pub(crate) const CALL: Duration = Duration::from_secs(15);
/// Shorter than the server's, so that the server is never the first to close an idle connection.
const IDLE: Duration = Duration::from_secs(45);
const MAX_IDLE: usize = 8;
/// Waits before the repeats of a call that the peer answered with "too many".
const PATIENCE: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(60),
    Duration::from_millis(200),
    Duration::from_millis(600),
];

/// Bytes on the socket since the client was made, TLS and HTTP framing included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// bytes written to sockets
    pub sent: u64,
    /// bytes read from sockets
    pub received: u64,
    /// connections opened
    pub connections: u64,
}

#[derive(Default)]
struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
    connections: AtomicU64,
}

/// Calls one peer over mutual TLS. Cheap to clone; clones share connections and counters.
///
/// Every call of the protocol may be repeated with the same effect, so a call whose connection broke is
/// tried once more, and one answered "too many" a few times.
#[derive(Clone)]
pub struct Client {
    pool: Pool<Way>,
    addr: Arc<str>,
    /// The address as errors name it, with the proxy on the way.
    shown: Arc<str>,
    me: PublicKey,
    counters: Arc<Counters>,
    alert: Alert,
}

/// The last fault of TLS that a connection was ended with. One that is refused by the peer is refused after it was
/// opened, and then the pool may say no more than that it was not ready.
type Alert = Arc<Mutex<Option<TlsError>>>;

impl Client {
    /// A client of the peer at `addr` (host:port) that must hold the TLS key `expected`. Opens nothing yet.
    pub fn new(identity: &TlsIdentity, addr: &str, expected: PublicKey) -> Result<Self, WireError> {
        Self::through(identity, addr, expected, None)
    }

    /// The same, through a proxy if there is one; the proxy is who looks up the peer's name. Nothing but the argument
    /// decides this: no environment variable is read.
    pub fn through(
        identity: &TlsIdentity,
        addr: &str,
        expected: PublicKey,
        proxy: Option<&Proxy>,
    ) -> Result<Self, WireError> {
        let port = addr.rsplit_once(':').map(|(host, port)| (!host.is_empty(), port.parse::<u16>()));
        let named = proxy.is_none() || proxy::authority(addr).is_some();
        if !matches!(port, Some((true, Ok(_)))) || !named {
            return Err(WireError::Address { found: addr.to_owned() });
        }
        let shown = proxy.map_or_else(|| addr.to_owned(), |proxy| format!("{addr} through proxy {proxy}"));
        let counters = Arc::new(Counters::default());
        let addr: Arc<str> = Arc::from(addr);
        let alert = Alert::default();
        let way = Way {
            alert: Arc::clone(&alert),
            tls: TlsConnector::from(Arc::new(identity.client_config(expected)?)),
            addr: Arc::clone(&addr),
            proxy: proxy.cloned(),
            counters: Arc::clone(&counters),
        };
        let pool = line::pool(way, IDLE, MAX_IDLE);
        Ok(Self { pool, addr, shown: Arc::from(shown), me: identity.public_key(), counters, alert })
    }

    /// host:port of the peer.
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// What crossed this client's sockets so far.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            sent: self.counters.sent.load(Ordering::Relaxed),
            received: self.counters.received.load(Ordering::Relaxed),
            connections: self.counters.connections.load(Ordering::Relaxed),
        }
    }

    /// GET `path` (with its query); at most `limit` bytes of answer.
    pub async fn get(&self, path: &str, limit: usize) -> Result<Bytes, WireError> {
        self.call(Method::GET, path, Bytes::new(), limit, CALL).await
    }

    /// POST `body` to `path`; at most `limit` bytes of answer.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>, limit: usize) -> Result<Bytes, WireError> {
        self.call(Method::POST, path, body.into(), limit, CALL).await
    }

    /// PUT `body` at `path`; at most `limit` bytes of answer.
    pub async fn put(&self, path: &str, body: impl Into<Bytes>, limit: usize) -> Result<Bytes, WireError> {
        self.call(Method::PUT, path, body.into(), limit, CALL).await
    }

    /// Any call, with its own time limit.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        limit: usize,
        within: Duration,
    ) -> Result<Bytes, WireError> {
        let mut broken = false;
        let mut patience = PATIENCE.iter();
        loop {
            let once = self.once(method.clone(), path, body.clone(), limit);
            let outcome = tokio::time::timeout(within, once).await.unwrap_or_else(|_| {
                Err(WireError::Timeout {
                    addr: self.shown.to_string(),
                    millis: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
                })
            });
            let alert = self.alert.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let (Err(WireError::Broken { .. }), Some(tls)) = (&outcome, alert) {
                return Err(tls_fault(&self.shown, self.me, &tls));
            }
            match outcome {
                Err(WireError::Broken { .. }) if !broken => broken = true,
                Err(WireError::Refused { status: 429, .. }) if !patience.as_slice().is_empty() => {
                    if let Some(pause) = patience.next() {
                        tokio::time::sleep(*pause).await;
                    }
                }
                done => return done,
            }
        }
    }

    async fn once(&self, method: Method, path: &str, body: Bytes, limit: usize) -> Result<Bytes, WireError> {
        let what = format!("{method} {}", path.split('?').next().unwrap_or(path));
        let malformed =
            |reason: String| WireError::Malformed { addr: self.addr.to_string(), what: what.clone(), reason };
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{NAME}{path}"))
            .body(Full::new(body))
            .map_err(|e| malformed(format!("the request itself cannot be written ({e})")))?;
        let response = self.pool.request(request).await.map_err(|e| self.explain(&e))?;
        let status = response.status();
        let limited = Limited::new(response.into_body(), limit);
        let bytes = match limited.collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(e) if e.is::<LengthLimitError>() => {
                return Err(malformed(format!("more than {limit} bytes")));
            }
            Err(e) => return Err(self.explain(e.as_ref())),
        };
        if status.is_success() {
            return Ok(bytes);
        }
        let refusal = Refusal::from_answer(status.as_u16(), &bytes);
        Err(WireError::Refused {
            status: refusal.status,
            error: refusal.error,
            found: refusal.found,
            expected: refusal.expected,
        })
    }

    /// Finds the reason in a chain of transport errors.
    fn explain(&self, error: &(dyn StdError + 'static)) -> WireError {
        let mut deepest = error.to_string();
        let mut next = Some(error);
        while let Some(e) = next {
            if let Some(known) = e.downcast_ref::<WireError>() {
                return known.clone();
            }
            // An io::Error hides its inner error from `source`, and this is where the TLS error sits.
            let tls = e
                .downcast_ref::<TlsError>()
                .or_else(|| e.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<TlsError>());
            if let Some(tls) = tls {
                return tls_fault(&self.shown, self.me, tls);
            }
            deepest = e.to_string();
            next = e.source();
        }
        WireError::Broken { addr: self.shown.to_string(), reason: deepest }
    }
}

fn tls_fault(addr: &str, me: PublicKey, error: &TlsError) -> WireError {
    match error {
        TlsError::InvalidCertificate(CertificateError::Other(other)) => {
            if let Some(unpinned) = other.0.downcast_ref::<Unpinned>() {
                return WireError::WrongPeer {
                    addr: addr.to_owned(),
                    found: unpinned.found.clone(),
                    expected: unpinned.expected.clone(),
                };
            }
        }
        TlsError::AlertReceived(
            AlertDescription::AccessDenied
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateUnknown,
        ) => {
            return WireError::NotAdmitted { addr: addr.to_owned(), key: me };
        }
        _ => {}
    }
    WireError::Tls { addr: addr.to_owned(), reason: error.to_string() }
}

/// Opens connections to the one address, whatever the URI says, through the proxy if there is one.
#[derive(Clone)]
struct Way {
    tls: TlsConnector,
    addr: Arc<str>,
    proxy: Option<Proxy>,
    counters: Arc<Counters>,
    alert: Alert,
}

impl Dial for Way {
    async fn open(&self, _uri: Uri) -> Result<Line, Fault> {
        let unreachable =
            |e: io::Error| WireError::Unreachable { addr: self.addr.to_string(), reason: e.to_string() };
        let socket = match &self.proxy {
            None => {
                let tcp = TcpStream::connect(&*self.addr).await.map_err(unreachable)?;
                self.counted(tcp).map_err(unreachable)?
            }
            Some(proxy) => proxy.open(&self.addr, |tcp| self.counted(tcp)).await?,
        };
        let name = ServerName::try_from(NAME)?;
        match (self.tls.connect(name, socket).await, &self.proxy) {
            (Ok(tls), _) => Ok(Line::new(Heard { tls, alert: Arc::clone(&self.alert) })),
            (Err(e), Some(proxy)) if e.get_ref().is_none_or(|inner| !inner.is::<TlsError>()) => {
                Err(proxy.cut(&self.addr, &e).into())
            }
            (Err(e), _) => Err(e.into()),
        }
    }

    fn late(&self) -> Fault {
        let reason = format!("no connection within {} s", CONNECT.as_secs());
        Box::new(WireError::Unreachable { addr: self.addr.to_string(), reason })
    }
}

impl Way {
    fn counted(&self, tcp: TcpStream) -> io::Result<Counted> {
        prompt(&tcp)?;
        self.counters.connections.fetch_add(1, Ordering::Relaxed);
        Ok(Counted { tcp, counters: Arc::clone(&self.counters) })
    }
}

/// A TLS stream that remembers why it was ended.
struct Heard {
    tls: TlsStream<Counted>,
    alert: Alert,
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.tls).poll_read(cx, buf);
        if let Poll::Ready(Err(e)) = &polled
            && let Some(tls) = e.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>())
        {
            *self.alert.lock().unwrap_or_else(PoisonError::into_inner) = Some(tls.clone());
        }
        polled
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}

/// A TCP stream that counts.
struct Counted {
    tcp: TcpStream,
    counters: Arc<Counters>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.tcp).poll_read(cx, buf);
        let read = buf.filled().len().saturating_sub(before);
        self.counters.received.fetch_add(read as u64, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.tcp).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = &polled {
            self.counters.sent.fetch_add(*written as u64, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
