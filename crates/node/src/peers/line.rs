//! The lines between members: the endpoint that answers them, and the rounds in which this node calls them.
//!
//! The endpoint reads, and asks the node's actor for everything else, so that nothing waits on a disk or a lock here.
//! Each caller has an allowance of calls, all of them together few places, and every body a limit.

use super::Next;
use super::places::{Place, Places};
use crate::core::Node;
use crate::service::Actor;
use crate::{NodeError, now_ms};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use record::evidence::Attested;
use record::{Digest, PublicKey, canon};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use wire::api::{self, Posted, Refusal, parameter};
use wire::{Admit, Peer, PeerClient, Proxy, TlsIdentity, WireError, peer};

/// Between two rounds of watching; up to half as much again is drawn.
const ROUND: Duration = Duration::from_secs(5);
/// After this long a stop that a member was not told of is told again.
const AGAIN: Duration = Duration::from_secs(5);
/// How often the list of those admitted is looked at.
const ADMITTED: Duration = Duration::from_secs(1);
/// How long a caller may take to send its body.
const BODY: Duration = Duration::from_secs(20);
/// Files of evidence that are taken at once, of all members.
const PROVING: usize = 4;
/// Calls a second of one member, and at once.
const PACE: (f64, f64) = (20.0, 100.0);
/// Most bytes of entries that are fetched in one round.
const MAX_FETCH: usize = 64 << 20;
/// Own statements handed to one member in one round.
const MAX_HANDED: usize = 16;

type Answer = Result<Response, Refusal>;

/// What the handlers share.
struct Line {
    actor: Actor,
    admitted: RwLock<BTreeMap<PublicKey, String>>,
    allowance: Mutex<BTreeMap<String, (f64, Instant)>>,
    places: Places,
    proving: Semaphore,
}

/// Answers other members on `listener` until `stop` becomes true. Only members are admitted, and each new connection is
/// answered with the TLS key that the record names for this member then.
pub(crate) async fn serve(
    listener: TcpListener,
    identity: TlsIdentity,
    actor: Actor,
    stop: watch::Receiver<bool>,
) -> Result<(), NodeError> {
    let line = Arc::new(Line {
        admitted: RwLock::new(actor.ask(|node| node.admitted()).await?),
        actor,
        allowance: Mutex::default(),
        places: Places::new(),
        proving: Semaphore::new(PROVING),
    });
    let (named, identity) = watch::channel(identity);
    let known = Arc::clone(&line);
    let admit: Admit = Arc::new(move |key| {
        let admitted = known.admitted.read().unwrap_or_else(PoisonError::into_inner);
        admitted.get(key).map(|party| Peer { key: *key, party: Some(party.clone()) })
    });
    let served = wire::serve_as(listener, identity, admit, router(Arc::clone(&line)), stop);
    // A member that is none any more is asked to leave within a moment.
    let refreshed = async {
        loop {
            tokio::time::sleep(ADMITTED).await;
            let asked = line.actor.ask(|node| (node.admitted(), node.tls_seed(0))).await;
            let Ok((now, seed)) = asked else { break };
            *line.admitted.write().unwrap_or_else(PoisonError::into_inner) = now;
            match TlsIdentity::from_seed(&seed) {
                Ok(now) if now.public_key() != named.borrow().public_key() => drop(named.send_replace(now)),
                Ok(_) => {}
                Err(e) => tracing::error!("the TLS key cannot be used: {e}"),
            }
        }
    };
    tokio::select! {
        result = served => result.map_err(NodeError::from),
        () = refreshed => Ok(()),
    }
}

fn router(line: Arc<Line>) -> Router {
    Router::new()
        .route(peer::CHECKPOINT, get(checkpoint))
        .route(peer::CONSISTENCY, get(consistency))
        .route(peer::ENTRIES, get(entries))
        .route(peer::HIGHEST, get(highest))
        .route(peer::SUBMIT, post(submit))
        .route(peer::PENDING, get(pending))
        .route(peer::SEALED, get(sealed))
        .route(peer::FRAME, post(frame))
        .route(peer::EVIDENCE, get(evidence).post(convict))
        .route(peer::PROOF, get(proof))
        .route(peer::SIGNOFFS, get(signoffs))
        .route(peer::SIGNOFF, post(signoff))
        .fallback(nothing_here)
        .method_not_allowed_fallback(nothing_here)
        .with_state(line)
}

async fn nothing_here(request: Request) -> Refusal {
    let found = format!("{} {}", request.method(), request.uri().path());
    Refusal::new(404, "no such call", found, "a call between members")
}

impl Line {
    /// Takes one call from the caller's allowance, and a place.
    fn enter(&self, peer: &Peer) -> Result<Place<'_>, Refusal> {
        let party = peer.party.as_deref().unwrap_or_default();
        {
            let mut allowance = self.allowance.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            // Callers are members, so the map stays small.
            let (left, at) = allowance.entry(party.to_owned()).or_insert((PACE.1, now));
            *left = (*left + now.saturating_duration_since(*at).as_secs_f64() * PACE.0).min(PACE.1);
            *at = now;
            if *left < 1.0 {
                let found = format!("more than the allowance of `{party}`");
                return Err(Refusal::new(429, "too many calls, wait a little", found, "fewer a second"));
            }
            *left -= 1.0;
        }
        let busy = || Refusal::new(503, "this node is busy", "no place left", "a later try");
        self.places.take(party).ok_or_else(busy)
    }

    async fn ask<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Node) -> Result<T, NodeError> + Send + 'static,
    ) -> Result<T, Refusal> {
        // Errors of the store are its own people's to read.
        let stopping = |_: NodeError| {
            Refusal::new(503, "this node is stopping", "a call", "a call after its next start")
        };
        self.actor.ask(f).await.map_err(stopping)?.map_err(stopping)
    }
}

async fn checkpoint(State(line): State<Arc<Line>>, Extension(peer): Extension<Peer>) -> Answer {
    let _place = line.enter(&peer)?;
    json(&line.ask(|node| node.peer_checkpoints()).await?)
}

async fn consistency(
    State(line): State<Arc<Line>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer {
    let _place = line.enter(&peer)?;
    let (from, to) = range(&request)?;
    let answer = line.ask(move |node| Ok(node.peer_consistency(from, to))).await?;
    json(&answer.ok_or_else(|| outside(from, to))?)
}

async fn entries(
    State(line): State<Arc<Line>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer {
    let _place = line.enter(&peer)?;
    let (from, to) = range(&request)?;
    let answer = line.ask(move |node| node.peer_entries(from, to)).await?;
    let (attested, entries) = answer.ok_or_else(|| outside(from, to))?;
    packed(peer::pack_entries(&attested, &entries))
}

async fn highest(
    State(line): State<Arc<Line>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer {
    let _place = line.enter(&peer)?;
    let query = request.uri().query().unwrap_or_default();
    let nonce = peer::nonce(query).ok_or_else(|| {
        let found: String = query.chars().take(100).collect();
        Refusal::new(400, "the query is incomplete", found, "`nonce=` with 64 hexadecimal characters")
    })?;
    json(&line.ask(move |node| node.peer_highest(nonce)).await?)
}

async fn submit(State(line): State<Arc<Line>>, Extension(peer): Extension<Peer>, request: Request) -> Answer {
    let _place = line.enter(&peer)?;
    let body = body(request, api::MAX_STATEMENT).await?;
    let held = line.ask(move |node| node.hold(&body, now_ms())).await?;
    json(&held.map_err(|why| {
        Refusal::new(422, "this statement is not held", why, "a statement of a member, and few of them")
    })?)
}

async fn pending(State(line): State<Arc<Line>>, Extension(peer): Extension<Peer>) -> Answer {
    let _place = line.enter(&peer)?;
    let (listed, statements) = line.ask(|node| node.peer_pending()).await?;
    packed(peer::pack_pending(&listed, &statements))
}

async fn sealed(State(line): State<Arc<Line>>, Extension(peer): Extension<Peer>, request: Request) -> Answer {
    let _place = line.enter(&peer)?;
    let query = request.uri().query().unwrap_or_default();
    let found: String = query.chars().take(100).collect();
    let statement = peer::digest(query, "statement").ok_or_else(|| {
        let expected = "`statement=` with 64 hexadecimal characters";
        Refusal::new(400, "the query is incomplete", found.clone(), expected)
    })?;
    let asker = peer.party.clone().unwrap_or_default();
    let given = line.ask(move |node| node.peer_sealed(&asker, &statement, now_ms())).await?;
    // One answer for what is not here and for what is not for the caller.
    json(&given.ok_or_else(|| {
        Refusal::new(404, "there is nothing for you here", found, "a note whose author named you")
    })?)
}

async fn frame(State(line): State<Arc<Line>>, Extension(peer): Extension<Peer>, request: Request) -> Answer {
    let _place = line.enter(&peer)?;
    let body = body(request, peer::MAX_STOP).await?;
    let heard = line.ask(move |node| node.peer_stop(&body, now_ms())).await?;
    let id = heard.map_err(|why| {
        Refusal::new(422, "this frame is not taken", why, "a member's signed stop, for this node")
    })?;
    json(&Posted { id })
}

async fn evidence(State(line): State<Arc<Line>>, Extension(peer): Extension<Peer>) -> Answer {
    let _place = line.enter(&peer)?;
    json(&line.ask(|node| node.peer_proofs()).await?)
}

async fn proof(State(line): State<Arc<Line>>, Extension(peer): Extension<Peer>, request: Request) -> Answer {
    let _place = line.enter(&peer)?;
    let query = request.uri().query().unwrap_or_default();
    let found: String = query.chars().take(100).collect();
    let file = peer::digest(query, "file").ok_or_else(|| {
        let expected = "`file=` with 64 hexadecimal characters";
        Refusal::new(400, "the query is incomplete", found.clone(), expected)
    })?;
    let body = line.ask(move |node| node.peer_proof(&file)).await?;
    let none = || Refusal::new(404, "there is no such evidence here", found, "a file that this node lists");
    Ok(Response::new(Body::from(body.ok_or_else(none)?)))
}

async fn convict(
    State(line): State<Arc<Line>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer {
    let _place = line.enter(&peer)?;
    // Long ones, of all members, have few places.
    let busy = |_| Refusal::new(503, "this node is busy", "no place left", "a later try");
    let _proving = line.proving.try_acquire().map_err(busy)?;
    let body = body(request, peer::MAX_PROOF).await?;
    let from = peer.party.clone().unwrap_or_default();
    let taken = line.ask(move |node| node.take_proof(&from, &body, now_ms())).await?;
    let id = taken.map_err(|why| {
        Refusal::new(422, "this evidence is not taken", why, "a file that convicts the hub or a member")
    })?;
    json(&Posted { id })
}

async fn signoffs(State(line): State<Arc<Line>>, Extension(peer): Extension<Peer>) -> Answer {
    let _place = line.enter(&peer)?;
    let all = line.ask(|node| node.peer_signoffs()).await?;
    packed(Ok(api::pack(all.iter().map(Vec::as_slice))))
}

async fn signoff(
    State(line): State<Arc<Line>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer {
    let _place = line.enter(&peer)?;
    let body = body(request, api::MAX_STATEMENT).await?;
    let taken = line.ask(move |node| node.take_signoff(&body)).await?;
    let id = taken.map_err(|why| {
        Refusal::new(422, "this sign-off is not taken", why, "a member's, of the present term")
    })?;
    json(&Posted { id })
}

fn range(request: &Request) -> Result<(u64, u64), Refusal> {
    let query = request.uri().query().unwrap_or_default();
    let found = || query.chars().take(100).collect::<String>();
    match (parameter(query, "from"), parameter(query, "to")) {
        (Some(from), Some(to)) => Ok((from, to)),
        _ => Err(Refusal::new(400, "the query is incomplete", found(), "whole numbers for `from` and `to`")),
    }
}

fn outside(from: u64, to: u64) -> Refusal {
    Refusal::new(
        404,
        "there is no such range here",
        format!("{from} to {to}"),
        "a range of this node's record",
    )
}

async fn body(request: Request, limit: usize) -> Result<Bytes, Refusal> {
    let read = tokio::time::timeout(BODY, axum::body::to_bytes(request.into_body(), limit)).await;
    match read {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => {
            let (found, most) = (format!("more than {limit} bytes"), format!("at most {limit} bytes"));
            Err(Refusal::new(413, "the body is too large", found, most))
        }
        Err(_) => Err(Refusal::new(408, "the body took too long", "an unfinished body", "all of it soon")),
    }
}

fn json<T: Serialize>(message: &T) -> Answer {
    packed(canon::to_bytes(message))
}

fn packed(bytes: Result<Vec<u8>, canon::CanonError>) -> Answer {
    match bytes {
        Ok(bytes) => Ok(Response::new(Body::from(bytes))),
        Err(e) => Err(Refusal::new(500, "the answer could not be written", e.to_string(), "an answer")),
    }
}

/// Where a member answers, and the key that it must show.
type At = (String, PublicKey);

/// A line, with the TLS key of this node under which it was made.
struct Open {
    client: PeerClient,
    tls: PublicKey,
}

/// This node's lines to the others, made when they are needed, and made anew when its TLS key changes.
#[derive(Clone)]
pub(crate) struct Lines {
    proxy: Option<Proxy>,
    open: Arc<Mutex<BTreeMap<At, Open>>>,
    /// How often a member did not admit this node since it last did: it may know of a change of keys before or after
    /// this node does, so another key that is held is tried.
    shut: Arc<Mutex<BTreeMap<At, usize>>>,
}

impl Lines {
    pub(crate) fn new(proxy: Option<Proxy>) -> Lines {
        Lines { proxy, open: Arc::default(), shut: Arc::default() }
    }

    /// The line to a member, under the TLS key that the record names for this node now.
    async fn to(&self, actor: &Actor, at: &At) -> Result<PeerClient, NodeError> {
        let shut = |lines: &Lines| {
            lines.shut.lock().unwrap_or_else(PoisonError::into_inner).get(at).copied().unwrap_or(0)
        };
        let failures = shut(self);
        let seed = actor.ask(move |node| node.tls_seed(failures)).await?;
        let identity = TlsIdentity::from_seed(&seed)?;
        let tls = identity.public_key();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = open.get(at).filter(|line| line.tls == tls) {
            return Ok(line.client.clone());
        }
        let client = PeerClient::through(&identity, &at.0, at.1, self.proxy.as_ref())?;
        open.insert(at.clone(), Open { client: client.clone(), tls });
        Ok(client)
    }

    /// Notes whether the member let this node in.
    fn went(&self, at: &At, error: Option<&WireError>) {
        let mut shut = self.shut.lock().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(WireError::NotAdmitted { .. } | WireError::Refused { status: 403, .. }) => {
                *shut.entry(at.clone()).or_default() += 1;
            }
            Some(_) => {}
            None => drop(shut.remove(at)),
        }
    }
}

/// Compares with one member after another, for as long as the node lives.
pub(crate) async fn watch(lines: Lines, actor: Actor) {
    let mut last = String::new();
    let mut pause = Duration::from_millis(500);
    loop {
        tokio::time::sleep(pause).await;
        pause = ROUND + jitter();
        let Ok(others) = actor.ask(|node| node.watchable()).await else { return };
        let next = others.range(last.clone()..).find(|(id, _)| **id != last).or_else(|| others.iter().next());
        let Some((id, at)) = next else { continue };
        last.clone_from(id);
        let round = async {
            let client = lines.to(&actor, at).await?;
            // Each of its own: one that fails does not hold up the other.
            let compared = compare(&client, id, &actor).await;
            let read = notes(&client, id, &actor).await;
            let proved = proofs(&client, id, &actor).await;
            let signed = sign_offs(&client, id, &actor).await;
            exchange(&client, id, &actor).await.and(compared).and(read).and(proved).and(signed)
        };
        let done: Result<(), NodeError> = round.await;
        match &done {
            Ok(()) => lines.went(at, None),
            Err(NodeError::Wire(e)) => lines.went(at, Some(e)),
            Err(_) => {}
        }
        if let Err(e) = done {
            // Whoever is not reached is no evidence.
            tracing::info!(member = id, "not watched with: {}", e.public());
        }
    }
}

/// Up to half a round.
fn jitter() -> Duration {
    let mut draw = [0u8; 4];
    let _ = getrandom::fill(&mut draw);
    ROUND.mul_f64(f64::from(u32::from_be_bytes(draw)) / f64::from(u32::MAX) / 2.0)
}

async fn compare(client: &PeerClient, id: &str, actor: &Actor) -> Result<(), NodeError> {
    let shown = client.checkpoints().await?;
    let peer = id.to_owned();
    let mut next = actor.ask(move |node| node.watch(&peer, &shown, now_ms())).await??;
    if let Next::Consistency(from, to) = next {
        let answer = client.consistency(from, to).await?;
        let peer = id.to_owned();
        next = actor.ask(move |node| node.watch_consistency(&peer, &answer, now_ms())).await??;
    }
    let (from, to) = match next {
        Next::Entries(from, to) => (from, to),
        Next::Audit(index) => (index, index.saturating_add(1)),
        Next::Done | Next::Consistency(..) => return Ok(()),
    };
    let (answers, entries) = fetch(client, from, to).await?;
    let peer = id.to_owned();
    actor.ask(move |node| node.watch_entries(&peer, from, &answers, &entries, now_ms())).await?
}

async fn fetch(client: &PeerClient, from: u64, to: u64) -> Result<(Vec<Attested>, Vec<Vec<u8>>), NodeError> {
    let (mut answers, mut entries, mut bytes, mut next) = (Vec::new(), Vec::new(), 0usize, from);
    while next < to && bytes < MAX_FETCH {
        let (answer, batch) = client.entries(next, to).await?;
        if batch.is_empty() {
            break;
        }
        next = next.saturating_add(batch.len() as u64);
        bytes += batch.iter().map(Vec::len).sum::<usize>();
        answers.push(answer);
        entries.extend(batch);
    }
    Ok((answers, entries))
}

/// Takes over what the member holds for the record, and hands it what this node has said and nobody recorded.
async fn exchange(client: &PeerClient, id: &str, actor: &Actor) -> Result<(), NodeError> {
    let (listed, statements) = client.pending().await?;
    let peer = id.to_owned();
    actor.ask(move |node| node.take_pending(&peer, &listed, &statements, now_ms())).await??;
    let waiting = actor.ask(|node| node.unrecorded(now_ms())).await??;
    for bytes in waiting.into_iter().take(MAX_HANDED) {
        match client.submit(bytes).await {
            // It has no more room for this author, or another roster: its pending list shows what it has.
            Ok(_) | Err(WireError::Refused { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Asks the member for what its notes say.
async fn notes(client: &PeerClient, id: &str, actor: &Actor) -> Result<(), NodeError> {
    let author = id.to_owned();
    let wanted = actor.ask(move |node| node.wanted_notes(&author, now_ms())).await??;
    for statement in wanted {
        let given = match client.sealed(&statement).await {
            Ok(given) => given,
            // Not for this member, or another build.
            Err(WireError::Refused { .. }) => continue,
            Err(e) => return Err(e.into()),
        };
        let author = id.to_owned();
        actor.ask(move |node| node.take_sealed(&author, &statement, &given, now_ms())).await??;
    }
    Ok(())
}

/// Gets the evidence that the member holds and this node does not, and hands it what it lacks.
async fn proofs(client: &PeerClient, id: &str, actor: &Actor) -> Result<(), NodeError> {
    let listed = client.proofs().await?;
    let (peer, of) = (id.to_owned(), listed.clone());
    let wanted = actor.ask(move |node| node.wanted_proofs(&peer, &of)).await??;
    for file in wanted {
        let body = match client.proof(&file).await {
            Ok(body) => body,
            // It has let go of it since.
            Err(WireError::Refused { .. }) => continue,
            Err(e) => return Err(e.into()),
        };
        let peer = id.to_owned();
        if let Err(why) = actor.ask(move |node| node.take_proof(&peer, &body, now_ms())).await?? {
            tracing::debug!(member = id, why, "evidence was not taken");
        }
    }
    let peer = id.to_owned();
    let lacking = actor.ask(move |node| node.proofs_for(&peer, &listed)).await??;
    for body in lacking {
        let file = Digest::of(&body);
        match client.convict(body).await {
            // It knows the same by another file, or has enough.
            Ok(()) | Err(WireError::Refused { status: 422, .. }) => {}
            Err(e) => return Err(e.into()),
        }
        let peer = id.to_owned();
        actor.ask(move |node| node.proof_told(&peer, file)).await?;
    }
    Ok(())
}

/// Takes over the sign-offs that the member has seen, and hands it those that it has not.
async fn sign_offs(client: &PeerClient, id: &str, actor: &Actor) -> Result<(), NodeError> {
    let shown = client.signoffs().await?;
    let seen = shown.clone();
    let taken = move |node: &mut Node| -> Result<(), NodeError> {
        for bytes in &seen {
            if let Err(why) = node.take_signoff(bytes)? {
                tracing::debug!(why, "a sign-off was not taken");
            }
        }
        Ok(())
    };
    actor.ask(taken).await??;
    let peer = id.to_owned();
    let lacking = actor.ask(move |node| node.signoffs_for(&peer, &shown)).await??;
    for bytes in lacking {
        let sign_off = Digest::of(&bytes);
        match client.signoff(bytes).await {
            // Of a term that is over there.
            Ok(()) | Err(WireError::Refused { status: 422, .. }) => {}
            Err(e) => return Err(e.into()),
        }
        let peer = id.to_owned();
        actor.ask(move |node| node.signoff_told(&peer, sign_off)).await?;
    }
    Ok(())
}

/// Tells members of this node's stops directly, at once and until they know.
pub(crate) async fn stops(lines: Lines, actor: Actor, mut withdrawals: watch::Receiver<u64>) {
    let mut before = 0;
    loop {
        let _ = tokio::time::timeout(AGAIN, withdrawals.wait_for(|now| *now > before)).await;
        before = *withdrawals.borrow();
        let asked = actor.ask(|node| (node.stops_to_tell(), node.others())).await;
        let Ok((open, others)) = asked else { return };
        let mut telling = JoinSet::new();
        for (to, id, frame) in open.unwrap_or_default() {
            let Some(at) = others.get(&to).cloned() else { continue };
            let Ok(client) = lines.to(&actor, &at).await else { continue };
            telling.spawn(async move { (to, id, at, client.stop(frame).await) });
        }
        while let Some(told) = telling.join_next().await {
            let Ok((to, id, at, told)) = told else { continue };
            lines.went(&at, told.as_ref().err());
            match told {
                Err(e) if e.is_transient() || matches!(e, WireError::Refused { status: 403, .. }) => {
                    tracing::info!(to, "not told of a stop yet: {e}");
                }
                _ => {
                    if actor.ask(move |node| node.stop_told(&to, &id)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
