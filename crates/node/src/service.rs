//! The shell around a node: one thread owns it, tasks carry statements, frames and commands to and from it.

use crate::control::{Command, Reply};
use crate::core::Node;
use crate::peers::line;
use crate::{NodeError, now_ms};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Notify, oneshot, watch};
use wire::point::point;
use wire::{HubClient, TlsIdentity, WireError};

/// Largest command or answer on the control socket, bytes.
const MAX_MESSAGE: usize = 64 << 20;
/// How long a command waits for a folder that another command has.
const BUSY: Duration = Duration::from_secs(10);
/// Clock ticks of a quiet node.
const TICK: Duration = Duration::from_millis(250);

type Job = Box<dyn FnOnce(&mut Node) + Send>;

/// A handle to the thread that owns the node.
#[derive(Clone)]
pub(crate) struct Actor {
    jobs: mpsc::Sender<Job>,
}

impl Actor {
    /// The thread ends when all handles are gone, or when the store failed; then `end` is told.
    fn start(
        mut node: Node,
        wake: Arc<Notify>,
        withdrawn: watch::Sender<u64>,
        end: oneshot::Sender<NodeError>,
    ) -> Result<Actor, NodeError> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let run = move || {
            loop {
                match inbox.recv_timeout(TICK) {
                    Ok(job) => {
                        job(&mut node);
                        // What came together is taken together, before the steps that follow from it.
                        while let Ok(job) = inbox.try_recv() {
                            job(&mut node);
                        }
                    }
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                }
                if let Err(e) = node.tick(now_ms()) {
                    tracing::error!("a step failed: {}", e.public());
                }
                let flushed = node.flush();
                if let Err(e) = flushed.and(if node.failed() { Err(NodeError::StoreFailed) } else { Ok(()) })
                {
                    // What is not on the disk is not done. Memory is ahead of it, so nothing goes on from here.
                    let _ = end.send(e);
                    return;
                }
                withdrawn.send_replace(node.withdrawals());
                // Only for something new: the carrier's own questions pass through here too.
                if node.take_outgoing() {
                    wake.notify_one();
                }
            }
        };
        std::thread::Builder::new()
            .name("node".into())
            .spawn(run)
            .map_err(|e| NodeError::Input(format!("no thread for the node: {e}")))?;
        Ok(Actor { jobs })
    }

    /// Runs a function on the node and gives its result.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Node) -> T + Send + 'static,
    ) -> Result<T, NodeError> {
        let (tx, rx) = oneshot::channel();
        let job: Job = Box::new(move |node| {
            let _ = tx.send(f(node));
        });
        let gone = || NodeError::Input("the node has shut down".into());
        self.jobs.send(job).map_err(|_| gone())?;
        rx.await.map_err(|_| gone())
    }
}

/// The way to the hub: another after a hand-over, or when this member's TLS key changes.
#[derive(Clone)]
struct Line {
    client: HubClient,
    to: (String, record::PublicKey),
    tls: record::PublicKey,
    proxy: Option<wire::Proxy>,
    /// Calls that failed since the last that did not; another TLS key that is held is tried then.
    failures: usize,
}

impl Line {
    fn new(node: &Node) -> Result<Line, NodeError> {
        let (to, proxy) = (node.hub()?, node.config.proxy.clone());
        let identity = TlsIdentity::from_seed(&node.tls_seed(0))?;
        let client = HubClient::through(&identity, &to.0, to.1, proxy.as_ref())?;
        Ok(Line { client, to, tls: identity.public_key(), proxy, failures: 0 })
    }

    async fn redial(&mut self, actor: &Actor) -> Result<(), NodeError> {
        let failures = self.failures;
        let (to, seed) = actor.ask(move |node| (node.hub(), node.tls_seed(failures))).await?;
        let (to, identity) = (to?, TlsIdentity::from_seed(&seed)?);
        if to != self.to || identity.public_key() != self.tls {
            self.client = HubClient::through(&identity, &to.0, to.1, self.proxy.as_ref())?;
            (self.to, self.tls) = (to, identity.public_key());
        }
        Ok(())
    }
}

/// The control socket in a node's folder.
pub fn socket(dir: &Path) -> PathBuf {
    dir.join("control.sock")
}

/// Takes the folder for one process; nothing when another has it.
pub(crate) fn lock(dir: &Path) -> Result<Option<std::fs::File>, NodeError> {
    // Before anything is made there: a folder that holds no node is left as it is.
    crate::Config::read(dir)?;
    let path = dir.join("node.lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| NodeError::io(&path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(e)) => Err(NodeError::io(&path, e)),
    }
}

pub(crate) fn in_use(dir: &Path) -> NodeError {
    NodeError::Input(format!("`{}` is in use by another process of this node", dir.display()))
}

/// Serves a node until `stop` resolves.
pub async fn serve(dir: &Path, stop: impl Future<Output = ()>) -> Result<(), NodeError> {
    serve_on(dir, None, stop).await
}

/// Serves a node until `stop` resolves. Other members reach it at `peers` (host:port to listen on), or where its
/// configuration says; else they do not.
pub async fn serve_on(
    dir: &Path,
    peers: Option<&str>,
    stop: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    let _lock = lock(dir)?.ok_or_else(|| in_use(dir))?;
    let mut node = Node::open(dir)?;
    let proxy = node.config.proxy.clone();
    let identity = TlsIdentity::from_seed(&node.tls_seed(0))?;
    let peers = match peers.map(str::to_owned).or_else(|| node.config.peer_listen.clone()) {
        Some(addr) => Some(listen(&addr).await?),
        None => None,
    };
    let line = Line::new(&node)?;
    node.reread_mail(now_ms())?;
    point("opened", "");

    let path = socket(dir);
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).map_err(|e| NodeError::io(&path, e))?;
    crate::private(&path)?;

    let wake = Arc::new(Notify::new());
    let (withdrawn, withdrawals) = watch::channel(0);
    let (end, ended) = oneshot::channel();
    let actor = Actor::start(node, wake.clone(), withdrawn, end)?;
    let control = tokio::spawn(control(listener, actor.clone()));
    let lines = line::Lines::new(proxy);
    let watching = tokio::spawn(line::watch(lines.clone(), actor.clone()));
    let telling = tokio::spawn(line::stops(lines, actor.clone(), withdrawals.clone()));
    let (ending, ended_peers) = watch::channel(false);
    let answering =
        peers.map(|listener| tokio::spawn(line::serve(listener, identity, actor.clone(), ended_peers)));
    let outbound = tokio::spawn(outbound(line.clone(), actor.clone(), wake, withdrawals));
    let inbound = tokio::spawn(inbound(line, actor.clone()));
    let result = tokio::select! {
        () = stop => Ok(()),
        failed = ended => Err(failed.unwrap_or(NodeError::StoreFailed)),
    };
    control.abort();
    outbound.abort();
    inbound.abort();
    watching.abort();
    telling.abort();
    ending.send_replace(true);
    if let Some(answering) = answering {
        answering.abort();
    }
    let _ = std::fs::remove_file(&path);
    result
}

/// Listens for other members, and says where.
async fn listen(addr: &str) -> Result<TcpListener, NodeError> {
    let failed = |e| NodeError::Input(format!("cannot listen for members on `{addr}`: {e}"));
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    tracing::info!("members reach this node on {}", listener.local_addr().map_err(failed)?);
    Ok(listener)
}

/// Says that the store in a folder was put back from a backup.
pub fn mark_restored(dir: &Path) -> Result<(), NodeError> {
    let _lock = lock(dir)?.ok_or_else(|| in_use(dir))?;
    Node::open(dir)?.restored()
}

async fn control(listener: UnixListener, actor: Actor) {
    while let Ok((stream, _)) = listener.accept().await {
        let actor = actor.clone();
        tokio::spawn(async move {
            if let Err(e) = answer(stream, actor).await {
                tracing::debug!("control: {e}");
            }
        });
    }
}

async fn answer(mut stream: UnixStream, actor: Actor) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    (&mut stream).take(MAX_MESSAGE as u64).read_to_end(&mut bytes).await?;
    let reply = match serde_json::from_slice::<Command>(&bytes) {
        // What people are told was done is durable before they are told.
        Ok(command) => match actor
            .ask(move |node| {
                let reply = node.handle(command, now_ms());
                node.flush().map(|()| reply)
            })
            .await
            .and_then(|reply| reply)
        {
            Ok(reply) => reply,
            Err(e) => Reply::could_not(&e),
        },
        Err(e) => {
            Reply::could_not(&NodeError::Input(format!("a command that this version does not know: {e}")))
        }
    };
    let bytes = serde_json::to_vec(&reply).unwrap_or_default();
    stream.write_all(&bytes).await?;
    stream.shutdown().await
}

/// Carries what the node has queued to the hub: cosignatures, statements in order, frames together.
async fn outbound(mut line: Line, actor: Actor, wake: Arc<Notify>, mut withdrawals: watch::Receiver<u64>) {
    let mut pause = Duration::from_millis(50);
    loop {
        tokio::select! {
            () = wake.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
        let done = match line.redial(&actor).await {
            Ok(()) => flush(&line.client, &actor, &mut withdrawals).await,
            Err(e) => Err(e),
        };
        match done {
            Ok(()) => pause = Duration::from_millis(50),
            Err(e) => {
                line.failures += 1;
                tracing::warn!("the hub was not reached: {e}");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
        }
    }
}

async fn flush(
    client: &HubClient,
    actor: &Actor,
    withdrawals: &mut watch::Receiver<u64>,
) -> Result<(), NodeError> {
    loop {
        let lines = actor.ask(Node::take_cosignatures).await??;
        for (size, line) in &lines {
            match client.cosign(*size, line).await {
                Err(e) if e.is_transient() => return Err(e.into()),
                Err(e) => tracing::warn!("a cosignature was refused: {e}"),
                Ok(()) => point("cosignature handed in", ""),
            }
        }
        let statements = actor.ask(|node| node.queued(now_ms())).await??;
        for (id, bytes) in &statements {
            if wire::point::armed() {
                let id = id.clone();
                actor.ask(move |node| node.point_of(&id, "kept, not handed in")).await?;
            }
            let refusal = match client.submit_bytes(bytes.clone()).await {
                Ok(receipt) => {
                    let id = id.clone();
                    actor.ask(move |node| node.promised(&id, &receipt, now_ms())).await??;
                    continue;
                }
                Err(WireError::Refused { status, .. }) if status == 429 || status >= 500 => {
                    return Err(NodeError::Input("the hub asks to wait".into()));
                }
                Err(e) if e.is_transient() => return Err(e.into()),
                Err(e) => e.to_string(),
            };
            let id = id.clone();
            actor.ask(move |node| node.answered(&id, Some(&refusal), now_ms())).await??;
        }
        let (before, frames) = actor.ask(|node| (node.withdrawals(), node.undelivered())).await?;
        let frames = frames?;
        let mut sending = tokio::task::JoinSet::new();
        let some = !frames.is_empty();
        let mut under_way: BTreeSet<i64> = frames.iter().map(|(row, _)| *row).collect();
        for (row, bytes) in frames {
            let client = client.clone();
            sending.spawn(async move {
                let kind = if wire::point::armed() { wire::SignedFrame::decode(&bytes).ok() } else { None };
                let kind = kind.map(|f| f.frame().kind.clone()).unwrap_or_default();
                point("frame kept, not handed in", &kind);
                let sent = client.send_mail_bytes(bytes).await;
                point("frame handed in, not noted", &kind);
                (row, sent)
            });
        }
        let mut failed = None;
        loop {
            tokio::select! {
                biased;
                // A stop lets go of what is on its way. The hub may have it already, so the report counts it.
                () = async { drop(withdrawals.wait_for(|now| *now > before).await) }, if !under_way.is_empty() => {
                    sending.abort_all();
                    for row in std::mem::take(&mut under_way) {
                        actor.ask(move |node| node.delivered(row)).await??;
                    }
                }
                done = sending.join_next() => match done {
                    None => break,
                    Some(Ok((row, Ok(())))) => {
                        under_way.remove(&row);
                        actor.ask(move |node| node.delivered(row)).await??;
                    }
                    // What a hub finds unacceptable it will never take: signed with a key that has changed since.
                    Some(Ok((row, Err(WireError::Refused { status: 422, error, .. })))) => {
                        tracing::warn!("a frame was refused for good: {error}");
                        under_way.remove(&row);
                        actor.ask(move |node| node.delivered(row)).await??;
                    }
                    Some(Ok((row, Err(e)))) => {
                        under_way.remove(&row);
                        failed = Some(e);
                    }
                    Some(Err(_)) => {}
                },
            }
        }
        if let Some(e) = failed {
            return Err(e.into());
        }
        if lines.is_empty() && statements.is_empty() && !some {
            return Ok(());
        }
    }
}

/// Fetches what is new: entries, cosignatures, mail.
async fn inbound(mut line: Line, actor: Actor) {
    let mut pause = Duration::from_millis(50);
    loop {
        let done = match line.redial(&actor).await {
            Ok(()) => fetch(&line.client, &actor).await,
            Err(e) => Err(e),
        };
        match done {
            Ok(()) => pause = Duration::from_millis(50),
            Err(e) => {
                line.failures += 1;
                tracing::warn!("sync: {}", e.public());
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
        }
    }
}

async fn fetch(client: &HubClient, actor: &Actor) -> Result<(), NodeError> {
    let have = actor.ask(|node| node.have()).await??;
    let news = client.sync(have, Duration::from_secs(10)).await?;
    if let Some(note) = news.checkpoint {
        if have.term > 0 && news.term > u64::from(have.term) {
            // From what is in force here: above it this node may have mirrored another history than the one that stays.
            let from = have.sealed;
            let entries = client.entries(from, news.size).await?;
            point("next term fetched, not followed", "");
            actor.ask(move |node| node.turn(from, &note, &entries, now_ms())).await??;
        } else if news.size < have.size && news.term.max(1) == u64::from(have.term) {
            // This hub has less than it has signed: it is shown so, and falls silent if that holds.
            let kept = actor.ask(|node| node.latest_note()).await??;
            if let Some(note) = kept {
                let _ = client.ahead(&note).await;
            }
            return Err(NodeError::Record("the hub has fewer entries than it has signed".into()));
        } else if news.size > have.size {
            let entries = client.entries(have.size, news.size).await?;
            actor.ask(move |node| taken(node, &note, &entries)).await??;
        } else {
            actor.ask(move |node| shown(node, &note)).await??;
        }
    }
    // What sealed changes of members, keys or hub comes first, in order, for who was away.
    while let Some(after) = actor.ask(move |node| node.wants_seals(news.sealed)).await? {
        let seals = client.seals(after).await?;
        for note in seals {
            actor.ask(move |node| node.sealed(&note, now_ms())).await??;
        }
        if actor.ask(|node| node.watermark()).await? <= after {
            break;
        }
    }
    if let Some(note) = news.sealed_checkpoint {
        actor.ask(move |node| shown(node, &note)).await??;
    }
    if news.mail > have.mail {
        // Mail that came after this answer may speak of what the record does not tell here yet: next time.
        let mails = client.fetch_mail(have.mail).await?.into_iter().filter(|m| m.seq <= news.mail);
        for mail in mails {
            actor.ask(move |node| node.mail(mail.seq, &mail.frame, now_ms())).await??;
        }
    }
    Ok(())
}

/// Takes in what the hub gives; what is refused is looked at for what it proves.
fn taken(node: &mut Node, note: &str, entries: &[Vec<u8>]) -> Result<(), NodeError> {
    let result = node.extend(note, entries, now_ms());
    if result.is_err() {
        node.examine(note, entries, now_ms())?;
    }
    result
}

/// Takes a checkpoint of what is here already, after a look at whether it is one.
fn shown(node: &mut Node, note: &str) -> Result<(), NodeError> {
    let result = node.sealed(note, now_ms());
    if result.is_err() {
        node.examine(note, &[], now_ms())?;
    }
    result
}

/// Sends a command to a running node; without one, opens the folder and answers from there. Another command that is
/// doing so, or a node that is about to answer, is waited for.
pub fn call(dir: &Path, command: Command) -> Result<Reply, NodeError> {
    let begun = std::time::Instant::now();
    loop {
        if let Ok(stream) = std::os::unix::net::UnixStream::connect(socket(dir)) {
            return converse(dir, stream, &command);
        }
        if let Some(_lock) = lock(dir)? {
            let mut node = Node::open(dir)?;
            let mut reply = node.handle(command, now_ms());
            node.flush()?;
            if !reply.statements.is_empty() {
                reply.text.push_str("\nthe node is not being served: what it said is kept and leaves with `comity node serve`");
                reply.statements.clear();
            }
            return Ok(reply);
        }
        if begun.elapsed() > BUSY {
            return Err(in_use(dir));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn converse(
    dir: &Path,
    mut stream: std::os::unix::net::UnixStream,
    command: &Command,
) -> Result<Reply, NodeError> {
    use std::io::{Read, Write};
    let path = socket(dir);
    let fail = |e| NodeError::io(&path, e);
    let bytes = serde_json::to_vec(command).map_err(|e| NodeError::Input(e.to_string()))?;
    stream.write_all(&bytes).map_err(fail)?;
    stream.shutdown(std::net::Shutdown::Write).map_err(fail)?;
    let mut answer = Vec::new();
    stream.take(MAX_MESSAGE as u64).read_to_end(&mut answer).map_err(fail)?;
    serde_json::from_slice(&answer)
        .map_err(|_| NodeError::Input("the node gave no answer; see its log".into()))
}
