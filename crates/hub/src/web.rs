//! Plain web, both ways: what is served to, and asked of, those who have no key in the charter.
//!
//! **Threats.** Anybody may connect to a plain listener: connections, the time for headers and the life of a connection
//! are bounded, so that a slow client costs a place for a minute at most, and never a place of a member's. Whoever is
//! asked may answer anything: answers are bounded in bytes and time, and no redirect is followed.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use wire::line::{self, Dial, Fault, Line, Pool, prompt};

use crate::error::HubError;

/// Connections of a plain listener that are open at once.
const MAX_CONNECTIONS: usize = 256;
/// How long a client may take for the head of a request; also how long a connection may idle.
const HEAD: Duration = Duration::from_secs(10);
/// How long a connection lives, whatever is under way.
const LIFE: Duration = Duration::from_secs(60);
/// How long a stop waits for answers under way.
const DRAIN: Duration = Duration::from_secs(2);
/// How long a connection that nobody uses is kept, and how many to one server.
const IDLE: Duration = Duration::from_secs(5);
const MAX_IDLE: usize = 16;
/// Where systems keep the certificates of public authorities, if `SSL_CERT_FILE` does not say.
const ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// An answer that is whole.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Answers plain HTTP/1.1 on `listener` until `stop` is true.
pub(crate) async fn serve<A, F>(listener: TcpListener, mut stop: watch::Receiver<bool>, answer: A)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|now| *now) => break,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let Ok((tcp, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            tracing::debug!(limit = MAX_CONNECTIONS, "a plain connection was dropped, too many are open");
            continue;
        };
        let answer = answer.clone();
        open.spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let serving = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(16 << 10)
                .serve_connection(TokioIo::new(tcp), service);
            let _ = tokio::time::timeout(LIFE, serving).await;
            drop(place);
        });
    }
    drop(listener);
    // Idle connections do not end by themselves.
    tokio::time::timeout(DRAIN, async { while open.join_next().await.is_some() {} }).await.ok();
}

/// An answer of a status, a content type and bytes.
pub(crate) fn answer(status: u16, content_type: &'static str, bytes: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(bytes.into()));
    *answer.status_mut() =
        hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    set(&mut answer, "content-type", content_type);
    set(&mut answer, "x-content-type-options", "nosniff");
    answer
}

/// Sets a header of an answer.
pub(crate) fn set(answer: &mut Answer, name: &'static str, value: &'static str) {
    answer
        .headers_mut()
        .insert(hyper::header::HeaderName::from_static(name), hyper::header::HeaderValue::from_static(value));
}

/// Why a call got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebError {
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("an answer of more than {0} bytes")]
    TooLong(usize),
    #[error("no connection: {0}")]
    Connect(String),
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// Calls servers of the public web, by HTTP or by HTTPS under the certificates of public authorities. Cheap to clone.
#[derive(Clone)]
pub struct Web {
    pool: Pool<Anywhere>,
}

impl std::fmt::Debug for Web {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Web")
    }
}

impl Web {
    /// A caller that trusts the authorities in the file `roots` (PEM); without it those of `SSL_CERT_FILE`, or of the
    /// system. Where there are none, only plain HTTP can be called.
    ///
    /// # Errors
    /// When a file that was named cannot be read.
    pub fn new(roots: Option<&Path>) -> Result<Self, HubError> {
        let named =
            roots.map(Path::to_owned).or_else(|| std::env::var_os("SSL_CERT_FILE").map(PathBuf::from));
        let (found, must) = match named {
            Some(path) => (Some(path), true),
            None => (ROOTS.iter().map(PathBuf::from).find(|path| path.exists()), false),
        };
        let mut store = rustls::RootCertStore::empty();
        if let Some(path) = found {
            let read = CertificateDer::pem_file_iter(&path).map(Iterator::flatten);
            match read {
                Ok(certificates) => drop(store.add_parsable_certificates(certificates)),
                Err(e) if must => {
                    let source = io::Error::other(e.to_string());
                    return Err(HubError::File { what: "read the certificates in", path, source });
                }
                Err(_) => {}
            }
        }
        let tls = match store.is_empty() {
            true => None,
            false => {
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                let config = rustls::ClientConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()
                    .map_err(|e| HubError::Web(e.to_string()))?
                    .with_root_certificates(store)
                    .with_no_client_auth();
                Some(TlsConnector::from(Arc::new(config)))
            }
        };
        Ok(Self { pool: line::pool(Anywhere { tls }, IDLE, MAX_IDLE) })
    }

    /// One call: at most `limit` bytes of answer, all of it `within`.
    pub(crate) async fn call(
        &self,
        request: Request<Full<Bytes>>,
        limit: usize,
        within: Duration,
    ) -> Result<Response<Bytes>, WebError> {
        let once = async {
            let response = self.pool.request(request).await.map_err(|e| match e.is_connect() {
                true => WebError::Connect(deepest(&e)),
                false => WebError::Broken(deepest(&e)),
            })?;
            let (head, body) = response.into_parts();
            match Limited::new(body, limit).collect().await {
                Ok(body) => Ok(Response::from_parts(head, body.to_bytes())),
                Err(e) if e.is::<LengthLimitError>() => Err(WebError::TooLong(limit)),
                Err(e) => Err(WebError::Broken(e.to_string())),
            }
        };
        tokio::time::timeout(within, once).await.unwrap_or(Err(WebError::Timeout(within)))
    }
}

fn deepest(error: &dyn StdError) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(e) = next {
        (text, next) = (e.to_string(), e.source());
    }
    text
}

/// Opens connections to wherever an address says.
#[derive(Clone)]
struct Anywhere {
    tls: Option<TlsConnector>,
}

impl Dial for Anywhere {
    async fn open(&self, uri: Uri) -> Result<Line, Fault> {
        open(self.tls.as_ref(), uri).await
    }

    fn late(&self) -> Fault {
        io::Error::from(io::ErrorKind::TimedOut).into()
    }
}

async fn open(tls: Option<&TlsConnector>, uri: Uri) -> Result<Line, Fault> {
    let secure = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err("an address of `http:` or `https:` is expected".into()),
    };
    let host = uri.host().ok_or("an address with a host is expected")?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host).to_owned();
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let tcp = TcpStream::connect((host.as_str(), port)).await?;
    prompt(&tcp)?;
    if !secure {
        return Ok(Line::new(tcp));
    }
    let tls = tls.ok_or("no certificates of public authorities were found on this machine")?;
    let stream = tls.connect(ServerName::try_from(host)?, tcp).await?;
    Ok(Line::new(stream))
}
