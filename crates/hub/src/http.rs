//! The hub's answers. Every handler knows its caller by TLS key; bodies are never logged.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Path, Request, State as Held};
use axum::response::Response;
use axum::routing::{get, post, put};
use axum::{Extension, Router};
use record::tree::{TileKind, TilePath, entry_bundle};
use record::{Digest, canon};
use serde::Serialize;
use tokio::sync::oneshot;
use wire::api::{self, Have, Posted, Refusal, Stored, parameter};
use wire::{MAX_FRAME_BODY, Peer};

use crate::calls::{self, member, stopping};
use crate::ledger::{self, Done, Order};
use crate::public::end_within;
use crate::writer::Job;
use crate::{Shared, store};

type Answer = Result<Response, Refusal>;
// Bodies are read before a caller's allowance is looked at: a refusal sent while the caller still writes would reach it
// as a broken connection.

/// How long a caller may take to send its body.
const BODY: Duration = Duration::from_secs(60);

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route(api::SUBMIT, post(submit))
        .route(api::SYNC, get(sync))
        .route(api::ENTRIES, get(entries))
        .route(api::COSIGN, post(cosign))
        .route(api::BLOB, put(put_blob))
        .route(&format!("{}/{{digest}}", api::BLOB), get(get_blob))
        .route(api::MAIL, post(post_mail).get(get_mail))
        .route(api::SEALS, get(seals))
        .route(api::AHEAD, post(ahead))
        .route(api::CHECKPOINT, get(checkpoint))
        .route(&format!("{}/{{statement}}", crate::RECEIPT), get(receipt))
        .route("/tile/{*path}", get(tile))
        .fallback(nothing_here)
        .method_not_allowed_fallback(nothing_here)
        .with_state(shared)
}

async fn nothing_here(request: Request) -> Refusal {
    Refusal::new(
        404,
        "no such call",
        format!("{} {}", request.method(), request.uri().path()),
        "a call of this protocol",
    )
}

async fn submit(Held(hub): Held<Arc<Shared>>, Extension(peer): Extension<Peer>, request: Request) -> Answer {
    let body = body(request, api::MAX_STATEMENT).await?;
    hub.charge(&peer, false)?;
    hub.charge(&peer, true)?;
    calls::may_enter(&hub.read())?;
    json(&hub.enter(&peer, &body).await?)
}

async fn sync(Held(hub): Held<Arc<Shared>>, Extension(peer): Extension<Peer>, request: Request) -> Answer {
    hub.charge(&peer, false)?;
    let query = request.uri().query().unwrap_or_default();
    let number = |name| parameter(query, name).ok_or_else(|| missing(name, query));
    let term = parameter(query, "term").and_then(|t| u32::try_from(t).ok()).unwrap_or(0);
    let have = Have { size: number("size")?, sealed: number("sealed")?, mail: number("mail")?, term };
    let wait = Duration::from_millis(number("wait")?.min(api::MAX_WAIT));
    let party = peer.party.as_deref();
    let deadline = tokio::time::sleep(wait);
    tokio::pin!(deadline);
    // Subscribed before looking, so that nothing falls between.
    let (mut news, mut stop) = (hub.news.subscribe(), hub.stop.subscribe());
    while !*stop.borrow_and_update() && !hub.read().has_news(party, &have) {
        tokio::select! {
            _ = deadline.as_mut() => break,
            changed = news.changed() => if changed.is_err() { break },
            changed = stop.changed() => if changed.is_err() { break },
        }
    }
    let answer = hub.read().sync(party);
    json(&answer)
}

async fn entries(Held(hub): Held<Arc<Shared>>, Extension(peer): Extension<Peer>, request: Request) -> Answer {
    hub.charge(&peer, false)?;
    member(&peer)?;
    let query = request.uri().query().unwrap_or_default();
    let number = |name| parameter(query, name).ok_or_else(|| missing(name, query));
    let (from, to) = (number("from")?, number("to")?);
    calls::range(&hub.read(), from, to)?;
    let found = hub.read_store(move |c| store::entries(c, from, to)).await?;
    Ok(Response::new(Body::from(api::pack(found.iter().map(Vec::as_slice)))))
}

async fn cosign(Held(hub): Held<Arc<Shared>>, Extension(peer): Extension<Peer>, request: Request) -> Answer {
    let party = member(&peer)?.to_owned();
    let body = body(request, api::MAX_COSIGN).await?;
    hub.charge(&peer, false)?;
    let (message, cosignature) = calls::cosignature(&party, &body)?;
    let counting = calls::count(&mut hub.write(), message, cosignature)?;
    if counting.sealed {
        wire::point::point("quorum counted, not told", "");
        hub.publish();
        hub.tell();
    }
    for order in counting.keep {
        hub.queue(Job { order, reply: None })?;
    }
    Ok(Response::new(Body::from("{}")))
}

async fn seals(Held(hub): Held<Arc<Shared>>, Extension(peer): Extension<Peer>, request: Request) -> Answer {
    hub.charge(&peer, false)?;
    member(&peer)?;
    let query = request.uri().query().unwrap_or_default();
    let after = parameter(query, "after").ok_or_else(|| missing("after", query))?;
    let found = hub.read_store(move |c| store::seals(c, after)).await?;
    Ok(Response::new(Body::from(api::pack(found.iter().map(String::as_bytes)))))
}

async fn ahead(Held(hub): Held<Arc<Shared>>, Extension(peer): Extension<Peer>, request: Request) -> Answer {
    let body = body(request, api::MAX_ANSWER).await?;
    hub.charge(&peer, false)?;
    let order = calls::ahead(&mut hub.write(), &hub.key, &peer, &body)?;
    if let Some(order) = order {
        hub.queue(Job { order, reply: None })?;
    }
    Ok(Response::new(Body::from("{}")))
}

async fn put_blob(
    Held(hub): Held<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer {
    let owner = member(&peer)?.to_owned();
    let _room = hub.large.acquire().await.map_err(|_| stopping())?;
    let body = body(request, api::MAX_BLOB).await?;
    hub.charge(&peer, false)?;
    let digest = Digest::of(&body);
    hub.write_order(Order::Blob { digest, owner, bytes: body }).await?;
    json(&Stored { digest })
}

async fn get_blob(
    Held(hub): Held<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Path(digest): Path<String>,
) -> Answer {
    hub.charge(&peer, false)?;
    member(&peer)?;
    let digest: Digest = digest.parse().map_err(|_| {
        Refusal::new(
            400,
            "this is not a digest",
            digest.chars().take(80).collect::<String>(),
            "64 lower-case hex characters",
        )
    })?;
    match hub.read_store(move |c| store::blob(c, &digest)).await? {
        Some(bytes) => Ok(Response::new(Body::from(bytes))),
        None => Err(Refusal::new(
            404,
            "there is no such blob",
            digest.to_string(),
            "the digest of a blob put here",
        )),
    }
}

async fn post_mail(
    Held(hub): Held<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer {
    member(&peer)?;
    let _room = hub.large.acquire().await.map_err(|_| stopping())?;
    // Signature line and header besides the body.
    let body = body(request, MAX_FRAME_BODY + (8 << 10)).await?;
    hub.charge(&peer, false)?;
    let frame = calls::decoded(&body)?;
    let (id, order) = calls::frame(&hub.read(), &peer, &frame, body)?;
    drop(frame);
    hub.write_order(order).await?;
    json(&Posted { id })
}

async fn get_mail(
    Held(hub): Held<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer {
    hub.charge(&peer, false)?;
    let party = member(&peer)?.to_owned();
    let query = request.uri().query().unwrap_or_default();
    let after = parameter(query, "after").ok_or_else(|| missing("after", query))?;
    if let Some(order) = calls::read_up_to(&party, after) {
        hub.queue(Job { order, reply: None })?;
    }
    let found = hub.read_store(move |c| store::mail(c, &party, after)).await?;
    Ok(Response::new(Body::from(api::pack_mail(&found))))
}

async fn checkpoint(Held(hub): Held<Arc<Shared>>, Extension(peer): Extension<Peer>) -> Answer {
    hub.charge(&peer, false)?;
    let latest = hub.read().latest();
    match latest {
        Some(note) => Ok(Response::new(Body::from(note))),
        None => Err(Refusal::new(404, "there is no checkpoint yet", "an empty log", "at least one entry")),
    }
}

/// The COSE receipt of a statement, over the largest tree that a quorum cosigned.
async fn receipt(
    Held(hub): Held<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Path(statement): Path<String>,
) -> Answer {
    hub.charge(&peer, false)?;
    member(&peer)?;
    let bytes = calls::receipt(&hub.read(), &hub.key, &statement)?;
    let mut answer = Response::new(Body::from(bytes));
    let content_type = axum::http::HeaderValue::from_static(record::cose::CONTENT_TYPE);
    answer.headers_mut().insert(axum::http::header::CONTENT_TYPE, content_type);
    Ok(answer)
}

async fn tile(
    Held(hub): Held<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Path(path): Path<String>,
) -> Answer {
    hub.charge(&peer, false)?;
    member(&peer)?;
    let unknown = |found: String| {
        Refusal::new(
            404,
            "there is no such tile",
            found,
            "a path of C2SP tlog-tiles within the latest checkpoint",
        )
    };
    let path: TilePath =
        format!("tile/{path}").parse().map_err(|e: record::TreeError| unknown(e.to_string()))?;
    let bytes = match path.kind {
        TileKind::Hashes(_) => hub.read().hash_tile(&path).ok_or_else(|| unknown(path.to_string()))?,
        TileKind::Entries => {
            let size = hub.read().published();
            let end = end_within(&path, 0, size).ok_or_else(|| unknown(path.to_string()))?;
            let start = end - u64::from(path.width);
            let mut found: Vec<Vec<u8>> = Vec::new();
            while (found.len() as u64) < end - start {
                let from = start + found.len() as u64;
                let more = hub.read_store(move |c| store::entries(c, from, end)).await?;
                if more.is_empty() {
                    return Err(unknown(path.to_string()));
                }
                found.extend(more);
            }
            entry_bundle(found.iter().map(Vec::as_slice)).map_err(|e| unknown(e.to_string()))?
        }
    };
    Ok(Response::new(Body::from(bytes)))
}

impl Shared {
    /// Enters a statement. Its signatures are checked here, by as many threads as there are callers; the one writer then
    /// knows them.
    pub(crate) async fn enter(&self, peer: &Peer, body: &[u8]) -> Result<api::Receipt, Refusal> {
        let order = calls::statement(peer, body)?;
        if let Order::Statement { signed, .. } = &order {
            // One that does not hold is refused by the writer, with the reason.
            let _ = signed.verify();
        }
        match self.write_order(order).await? {
            Done::Entered(entered) => entered.receipt(&self.origin, &self.key),
            Done::Written => Err(stopping()),
        }
    }

    /// Takes one call, or one statement, from the caller's allowance.
    fn charge(&self, peer: &Peer, statement: bool) -> Result<(), Refusal> {
        let mut allowance = self.allowance.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        allowance.charge(peer, statement, self.up())
    }

    pub(crate) fn queue(&self, job: Job) -> Result<(), Refusal> {
        let jobs = self.jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let sent = jobs.as_ref().map(|jobs| jobs.try_send(job).is_ok());
        match sent {
            Some(true) => Ok(()),
            Some(false) => Err(Refusal::new(503, "the hub is busy", "a full queue", "a later try")),
            None => Err(stopping()),
        }
    }

    async fn write_order(&self, order: Order) -> ledger::Answer {
        let (reply, answer) = oneshot::channel();
        self.queue(Job { order, reply: Some(reply) })?;
        answer.await.map_err(|_| stopping())?
    }

    async fn read_store<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let shared = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            read(&shared.reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
        });
        match done.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(e)) => Err(calls::unreadable(&e)),
            Err(_) => Err(stopping()),
        }
    }
}

async fn body(request: Request, limit: usize) -> Result<Bytes, Refusal> {
    let too_large = || {
        Refusal::new(
            413,
            "the body is too large",
            format!("more than {limit} bytes"),
            format!("at most {limit} bytes"),
        )
    };
    let announced =
        request.headers().get("content-length").and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|n| n > limit as u64) {
        let _ = tokio::time::timeout(BODY, waste(request.into_body())).await;
        return Err(too_large());
    }
    match tokio::time::timeout(BODY, axum::body::to_bytes(request.into_body(), limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(too_large()),
        Err(_) => Err(Refusal::new(
            408,
            "the body took too long",
            "an unfinished body",
            "all of it within a minute",
        )),
    }
}

/// Reads some of a body and keeps nothing, so that its sender gets to the point of hearing no.
async fn waste(mut body: Body) {
    let mut left = 2 * MAX_FRAME_BODY;
    while left > 0 {
        let next = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let Some(Ok(frame)) = next else { return };
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
    }
}

fn missing(name: &str, query: &str) -> Refusal {
    Refusal::new(
        400,
        "the query is incomplete",
        query.chars().take(200).collect::<String>(),
        format!("a whole number for `{name}`"),
    )
}

fn json<T: Serialize>(message: &T) -> Answer {
    match canon::to_bytes(message) {
        Ok(bytes) => Ok(Response::new(Body::from(bytes))),
        Err(e) => Err(Refusal::new(
            500,
            "the answer could not be written",
            e.to_string(),
            "an answer; tell the hub's operator",
        )),
    }
}
