//! What every HTTP client here has in common, whoever is at the other end: connections are opened by a [`Dial`] within a
//! time, are TLS or plain alike to the [`Pool`] that keeps them, and send small writes at once.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::Full;
use hyper::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How long a connection may take to open, TLS included.
pub const CONNECT: Duration = Duration::from_secs(10);

/// Why a connection was not opened.
pub type Fault = Box<dyn StdError + Send + Sync>;

/// Connections that are used again.
pub type Pool<D> = Client<Dialing<D>, Full<Bytes>>;

/// Whoever opens connections for a pool.
pub trait Dial: Clone + Send + 'static {
    /// Opens one for this address.
    fn open(&self, uri: Uri) -> impl Future<Output = Result<Line, Fault>> + Send;

    /// What is said when that took longer than [`CONNECT`].
    fn late(&self) -> Fault;
}

/// A pool that lets a connection idle for so long, and so many of one peer.
pub fn pool<D: Dial>(dial: D, idle: Duration, most: usize) -> Pool<D> {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(idle)
        .pool_max_idle_per_host(most)
        .build(Dialing(dial))
}

/// A [`Dial`] as the pool calls it.
#[derive(Clone)]
pub struct Dialing<D>(D);

impl<D: Dial> tower::Service<Uri> for Dialing<D> {
    type Response = TokioIo<Line>;
    type Error = Fault;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dial = self.0.clone();
        Box::pin(async move {
            match tokio::time::timeout(CONNECT, dial.open(uri)).await {
                Ok(opened) => opened.map(TokioIo::new),
                Err(_) => Err(dial.late()),
            }
        })
    }
}

/// Sends small writes at once. Off by default in the operating system, and then a small call waits some 40 ms for a
/// delayed acknowledgement.
pub fn prompt(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection, with or without TLS.
pub struct Line(Box<dyn Stream>);

impl Line {
    /// A line over an open connection.
    pub fn new(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self(Box::new(stream))
    }
}

impl Connection for Line {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[tokio::test]
    async fn small_writes_do_not_wait_for_acknowledgements() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(!tcp.nodelay().unwrap());
        prompt(&tcp).unwrap();
        assert!(tcp.nodelay().unwrap());
    }
}
