//! The way out through an HTTP proxy: one CONNECT, then a tunnel.
//!
//! The proxy learns host and port of the peer, when and how many bytes. TLS runs inside the tunnel from end to end,
//! and the peer's key is pinned, so that a proxy that connects to somebody else, or puts itself in between, is found
//! out like any other stranger. A proxy is used where it was configured and nowhere else: no environment variable is
//! read.
//!
//! hyper-util has a `Tunnel` for this. It is not used because it says *unsuccessful* to a refusal, to a peer that is
//! down and to noise alike, and an operator behind somebody else's proxy needs to know which. hyper's own client,
//! which is here anyway, writes the same request, reads the answer within a limit, and gives the status.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use crate::error::WireError;

/// Largest head of a proxy's answer that is read, bytes. Also the least that hyper takes.
const MAX_HEAD: usize = 8 * 1024;
/// How long connecting to the proxy and its answer may take together; shorter than the whole connection, so that the
/// error names the proxy.
const OPEN: Duration = Duration::from_secs(8);

/// An HTTP proxy: `http://host:port`, or `http://user:password@host:port` with what is special percent-encoded.
///
/// `Debug` and `Display` show host and port alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    addr: Arc<str>,
    /// `user:password` as configured.
    credentials: Option<Arc<Zeroizing<String>>>,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.addr)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Proxy").field(&self.addr).finish()
    }
}

impl Proxy {
    /// Reads it as people write it. The error never quotes it, for it may hold a password.
    pub fn parse(text: &str) -> Result<Self, WireError> {
        let wrong = |reason| WireError::ProxyAddress { reason };
        let Some(rest) = text.strip_prefix("http://") else {
            return Err(wrong(
                "it must begin with `http://`; proxies that speak TLS themselves are not supported",
            ));
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, addr) = match rest.rsplit_once('@') {
            Some((credentials, addr)) => (Some(credentials), addr),
            None => (None, rest),
        };
        if authority(addr).is_none() {
            return Err(wrong("found no host and port after `http://`, or something after the port"));
        }
        let credentials = credentials.map(|text| Arc::new(Zeroizing::new(text.to_owned())));
        let proxy = Self { addr: Arc::from(addr), credentials };
        proxy.basic().map_err(wrong)?;
        Ok(proxy)
    }

    /// As [`Proxy::parse`] reads it, with the password: for a file that its user alone may read.
    pub fn written(&self) -> Zeroizing<String> {
        Zeroizing::new(match &self.credentials {
            Some(credentials) => format!("http://{}@{}", credentials.as_str(), self.addr),
            None => format!("http://{}", self.addr),
        })
    }

    /// Host and port.
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// The header's value for Basic authentication (RFC 7617).
    fn basic(&self) -> Result<Option<HeaderValue>, &'static str> {
        let Some(credentials) = &self.credentials else { return Ok(None) };
        let (user, password) = credentials.split_once(':').unwrap_or((credentials.as_str(), ""));
        let strange = "the user or the password holds a `%` that begins no encoded byte of UTF-8, or a control character";
        let user = decoded(user).ok_or(strange)?;
        let password = decoded(password).ok_or(strange)?;
        if user.is_empty() || user.contains(':') {
            return Err("the user is empty or holds a colon, which Basic authentication cannot carry");
        }
        let pair = Zeroizing::new(format!("{}:{}", user.as_str(), password.as_str()));
        let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
        let mut value = HeaderValue::from_str(&text).map_err(|_| strange)?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// Connects to the proxy and has it connect to `target`; `wrap` is put around the socket before a byte crosses it.
    pub(crate) async fn open<T>(
        &self,
        target: &str,
        wrap: impl FnOnce(TcpStream) -> io::Result<T>,
    ) -> Result<T, WireError>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let opening = async {
            let unreachable = |e: io::Error| {
                self.fault(
                    target,
                    format!("it cannot be reached ({e})"),
                    "check its address and that it is running",
                )
            };
            let tcp = TcpStream::connect(&*self.addr).await.map_err(unreachable)?;
            self.connect(target, wrap(tcp).map_err(unreachable)?).await
        };
        match tokio::time::timeout(OPEN, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(self.fault(
                target,
                format!("no answer within {} s", OPEN.as_secs()),
                "check its address, and that it can reach the peer",
            )),
        }
    }

    async fn connect<T>(&self, target: &str, socket: T) -> Result<T, WireError>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let to = authority(target).ok_or_else(|| WireError::Address { found: target.to_owned() })?;
        let unwritten = |_| WireError::Address { found: target.to_owned() };
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .header(HOST, to.as_str())
            .uri(Uri::from(to))
            .body(Empty::<Bytes>::new())
            .map_err(unwritten)?;
        if let Some(basic) = self.basic().map_err(|reason| WireError::ProxyAddress { reason })? {
            request.headers_mut().insert(PROXY_AUTHORIZATION, basic);
        }
        let failed = |e: hyper::Error| self.unanswered(target, &e);
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake::<_, Empty<Bytes>>(TokioIo::new(socket))
            .await
            .map_err(failed)?;
        let mut asked = std::pin::pin!(sender.send_request(request));
        let mut connection = std::pin::pin!(connection.without_shutdown());
        // The answer and the end of HTTP on this connection come in either order.
        let parts = tokio::select! {
            biased;
            answer = &mut asked => {
                self.check(target, &answer.map_err(failed)?)?;
                connection.await.map_err(failed)?
            }
            parts = &mut connection => {
                let parts = parts.map_err(failed)?;
                self.check(target, &asked.await.map_err(failed)?)?;
                parts
            }
        };
        if !parts.read_buf.is_empty() {
            // The peer waits for us to speak first, so these are not its bytes.
            let reason = "it sent bytes of its own into the tunnel".to_owned();
            return Err(self.fault(target, reason, "check that its address is that of an HTTP proxy"));
        }
        Ok(parts.io.into_inner())
    }

    /// What an answer means. Its words are not repeated: they are not ours, and may be anything.
    fn check(&self, target: &str, answer: &Response<Incoming>) -> Result<(), WireError> {
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let basic = answer
            .headers()
            .get_all(PROXY_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split([',', ' ']))
            .any(|word| word.eq_ignore_ascii_case("basic"));
        let (meaning, mend) = match (status.as_u16(), &self.credentials) {
            (407, _) if !basic => (
                "it asks for a login other than Basic, the only one known here",
                "ask whoever runs it for Basic, or for letting this machine pass to the peer without a login",
            ),
            (407, None) => {
                ("it asks for a user and a password", "configure it as http://USER:PASSWORD@HOST:PORT")
            }
            (407, Some(_)) => (
                "it does not take the configured user and password",
                "correct them; what is special in them is percent-encoded, `@` as %40",
            ),
            (401 | 403, _) => {
                ("it refuses", "ask whoever runs it to allow CONNECT to the peer's host and port")
            }
            (502..=504, _) => (
                "it cannot reach the peer itself",
                "check the peer's address, that it is running, and that the proxy may connect to it",
            ),
            (400 | 404 | 405 | 501, _) => {
                ("it does not understand CONNECT", "check that its address is that of an HTTP proxy")
            }
            _ => ("it opens no tunnel", "look in its log, or ask whoever runs it"),
        };
        Err(self.fault(target, format!("{meaning} (status {})", status.as_u16()), mend))
    }

    fn unanswered(&self, target: &str, error: &hyper::Error) -> WireError {
        let check = "check that its address is that of an HTTP proxy";
        let (reason, mend) = if error.is_parse_too_large() {
            ("the head of its answer is larger than 8 KiB", check)
        } else if error.is_parse() {
            ("its answer is not HTTP", check)
        } else {
            ("it cut the connection before it had answered", "look in its log, or ask whoever runs it")
        };
        self.fault(target, reason.to_owned(), mend)
    }

    /// The tunnel was open and ended before the peer had proved who it is.
    pub(crate) fn cut(&self, target: &str, error: &io::Error) -> WireError {
        let reason = format!("it opened the tunnel and cut it in the TLS handshake ({error})");
        self.fault(target, reason, "check that the peer is running, and look in the proxy's log")
    }

    fn fault(&self, target: &str, reason: String, mend: &'static str) -> WireError {
        WireError::Proxy { proxy: self.addr.to_string(), addr: target.to_owned(), reason, mend }
    }
}

/// host:port and nothing else.
pub(crate) fn authority(text: &str) -> Option<Authority> {
    let authority: Authority = text.parse().ok()?;
    (!text.contains('@') && !authority.host().is_empty() && authority.port_u16().is_some())
        .then_some(authority)
}

/// Percent-decoding (RFC 3986 section 2.1) of text without control characters.
fn decoded(text: &str) -> Option<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    let text = Zeroizing::new(std::str::from_utf8(&bytes).ok()?.to_owned());
    (!text.chars().any(char::is_control)).then_some(text)
}
