//! The listening half: TLS, admission by key, one HTTP/1.1 connection a task, graceful stop.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use record::keys::PublicKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::api::Refusal;
use crate::error::WireError;
use crate::line::prompt;
use crate::tls::{TlsIdentity, key_of};

/// Connections open at once. A federation has tens of members, each with a handful.
const MAX_CONNECTIONS: usize = 1024;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Also how long an idle connection is kept; longer than the client keeps it, so that the client closes.
const HEADERS: Duration = Duration::from_secs(75);
/// How long a stop waits for answers under way.
const DRAIN: Duration = Duration::from_secs(5);

/// Who is at the other end, by the key it proved to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// the key of its TLS certificate
    pub key: PublicKey,
    /// the member that the record names for this key; `None` while no charter names it
    pub party: Option<String>,
}

/// Who is let in, decided by key; asked in the handshake and again at every request.
pub type Admit = Arc<dyn Fn(&PublicKey) -> Option<Peer> + Send + Sync>;

/// Answers on `listener` until `stop` becomes true (or its sender is gone), then finishes the answers under
/// way within a few seconds. Handlers find the caller as `Extension<Peer>`. They must bound the bodies that
/// they read.
pub async fn serve(
    listener: TcpListener,
    identity: &TlsIdentity,
    admit: Admit,
    router: Router,
    stop: watch::Receiver<bool>,
) -> Result<(), WireError> {
    let (_kept, identity) = watch::channel(identity.clone());
    serve_as(listener, identity, admit, router, stop).await
}

/// The same under an identity that may change: each new connection is answered as the one there is then, and those that
/// are open stay open.
pub async fn serve_as(
    listener: TcpListener,
    mut identity: watch::Receiver<TlsIdentity>,
    admit: Admit,
    router: Router,
    mut stop: watch::Receiver<bool>,
) -> Result<(), WireError> {
    let acceptor_of = |identity: &TlsIdentity| -> Result<TlsAcceptor, WireError> {
        Ok(TlsAcceptor::from(Arc::new(identity.server_config(Arc::clone(&admit))?)))
    };
    let first = identity.borrow_and_update().clone();
    let mut acceptor = acceptor_of(&first)?;
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopped(&mut stop) => break,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let tcp = match accepted {
            Ok((tcp, _)) => tcp,
            Err(e) => {
                // Out of descriptors, or the peer gave up: neither is a reason to stop serving the others.
                tracing::warn!(error = %e, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            tracing::warn!(limit = MAX_CONNECTIONS, "a connection was dropped, too many are open");
            continue;
        };
        if identity.has_changed().unwrap_or(false) {
            let now = identity.borrow_and_update().clone();
            match acceptor_of(&now) {
                Ok(new) => acceptor = new,
                Err(e) => tracing::warn!("the new TLS key cannot be used, the old one goes on: {e}"),
            }
        }
        let (acceptor, admit, router) = (acceptor.clone(), Arc::clone(&admit), router.clone());
        let stop = stop.clone();
        open.spawn(async move {
            connection(tcp, acceptor, admit, router, stop).await;
            drop(place);
        });
    }
    drop(listener);
    let drained = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("connections were still busy at the end of the drain and are cut");
    }
    Ok(())
}

/// Returns when `stop` is true or nobody is left who could make it so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|now| *now).await;
}

async fn connection(
    tcp: TcpStream,
    acceptor: TlsAcceptor,
    admit: Admit,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    if let Err(e) = prompt(&tcp) {
        tracing::debug!(error = %e, "no TCP_NODELAY on an accepted socket");
    }
    let handshake = acceptor.accept(tcp).into_fallible();
    let tls = match tokio::time::timeout(HANDSHAKE, handshake).await {
        Ok(Ok(tls)) => tls,
        Ok(Err((e, tcp))) => {
            tracing::info!(error = %e, "a TLS handshake was refused");
            hang_up(tcp).await;
            return;
        }
        Err(_) => {
            tracing::info!("a TLS handshake took too long");
            return;
        }
    };
    let key = tls
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first)
        .and_then(|certificate| key_of(certificate).ok());
    let Some(key) = key else {
        return; // INVARIANT: the verifier saw this key; kept as a refusal, not a panic
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let (peer, router) = ((admit)(&key), router.clone());
        async move { Ok::<Response<Body>, Infallible>(answer(peer, router, request).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .serve_connection(TokioIo::new(tls), service);
    let mut serving = std::pin::pin!(serving);
    let mut stopping = false;
    let ended = loop {
        tokio::select! {
            ended = serving.as_mut() => break ended,
            _ = stopped(&mut stop), if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(e) = ended {
        tracing::debug!(error = %e, "a connection ended early");
    }
}

async fn answer(peer: Option<Peer>, router: Router, request: Request<Incoming>) -> Response<Body> {
    let Some(peer) = peer else {
        return Refusal::new(
            403,
            "this TLS key is no longer admitted",
            "a key outside the charter",
            "a member's TLS key",
        )
        .into_response();
    };
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(peer);
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Lets the refusal's alert reach the peer: closing with unread bytes would reset the connection, and the
/// peer would see a broken line in place of the reason.
async fn hang_up(mut tcp: TcpStream) {
    let _ = tokio::time::timeout(Duration::from_millis(500), async {
        tcp.shutdown().await?;
        let mut waste = [0u8; 1024];
        let mut left = 64usize;
        while left > 0 && tcp.read(&mut waste).await? > 0 {
            left -= 1;
        }
        Ok::<(), std::io::Error>(())
    })
    .await;
}
