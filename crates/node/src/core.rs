//! The node itself: one owner of everything that a site knows.

use crate::NodeError;
use crate::config::Config;
use crate::keys::NodeKeys;
use crate::runner::RunLocal;
use crate::store::{Evidence, Store};
use charter::{Charter, State};
use record::log::InForce;
use record::{Digest, Member, SignedStatement, Statement};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use wire::point::point;

/// How long a statement of this node may stay out of the record before the node says it again, milliseconds.
const PATIENCE: i64 = 20_000;
/// After this long a statement that is not in the record is handed in again, milliseconds.
const RETRY: i64 = 10_000;

/// What a node wakes up with: everything that outlives its process.
pub struct Parts {
    /// Its folder.
    pub dir: PathBuf,
    /// Who it is.
    pub config: Config,
    /// Its secrets.
    pub keys: NodeKeys,
    /// The charter that it was joined with.
    pub charter: Charter,
    /// Its store.
    pub store: Store,
}

/// A member's node. Owned by one actor; every method runs to its end before the next event.
pub struct Node {
    /// Its folder.
    pub dir: PathBuf,
    /// Who it is.
    pub config: Config,
    /// Its secrets.
    pub(crate) keys: NodeKeys,
    /// Its store.
    pub(crate) store: Store,
    /// The charter that this node was joined with: its root of trust.
    pub(crate) charter: Charter,
    /// Its digest.
    pub(crate) charter_digest: Digest,
    /// This member's part in the record: mirror, watermark, what it cosigned.
    pub(crate) member: Member,
    /// What the entries in force add up to.
    pub(crate) state: State,
    /// Cosignature lines to hand to the hub.
    pub(crate) cosign_out: Vec<(u64, String)>,
    /// What this node has said and awaits in the record: logical key to statement and time.
    pub(crate) said: BTreeMap<String, (String, i64)>,
    /// Since when this node, as an aggregator, waits for contributors of a run that are not ready.
    pub(crate) waiting: BTreeMap<(String, u32), i64>,
    /// Runs that this node has a part in.
    pub(crate) runs: BTreeMap<(String, u32), RunLocal>,
    /// Members whose signed stop was heard before the record told it.
    pub(crate) heard_stops: BTreeMap<String, BTreeSet<Digest>>,
    /// Datasets paused here; acts before the record tells it.
    pub(crate) paused: BTreeSet<String>,
    /// Studies to which this member's yes was taken back; acts before the record tells it.
    pub(crate) revoked: BTreeSet<String>,
    /// Stopped by its own operator.
    pub(crate) stopped: bool,
    /// Attested states, and the snapshot that this node began with.
    pub(crate) attesting: crate::attest::Attesting,
    /// How often frames were withdrawn.
    withdrawals: u64,
    /// Digest of the state at a size.
    digest: std::cell::Cell<Option<(u64, Digest)>>,
    /// Policies and plans computed once.
    pub(crate) memo: crate::facts::Memo,
    /// The jurisdiction library.
    pub(crate) library: policy::Library,
    /// Frames accepted, so that a repeat is named.
    pub(crate) ledger: wire::Ledger,
    /// What other members show and say beside the record.
    pub(crate) peers: crate::peers::PeerState,
    /// Keys that members had before they changed them.
    pub(crate) former: std::cell::RefCell<BTreeMap<(String, u64), record::PublicKey>>,
    /// What a node whose store is an old copy asks of the others.
    pub(crate) asking: crate::restore::Asking,
    /// When notes were last asked for.
    pub(crate) notes_asked: crate::notes::Asked,
}

impl Node {
    /// Opens a node that has joined a federation.
    pub fn open(dir: &Path) -> Result<Node, NodeError> {
        let config = Config::read(dir)?;
        let keys = NodeKeys::open(&dir.join("node.key"))?;
        let path = dir.join("charter.toml");
        let text = std::fs::read_to_string(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => NodeError::Input(format!(
                "`{}` has joined no federation yet; run `comity node join` with its charter",
                dir.display()
            )),
            _ => NodeError::io(&path, e),
        })?;
        let charter = Charter::parse("charter.toml", &text)?;
        let store = Store::open(&dir.join("store.db"))?;
        let mut node = Node::wake(Parts { dir: dir.to_path_buf(), config, keys, charter, store })?;
        node.begin_pulse()?;
        Ok(node)
    }

    /// The node as its process dies: what was not durable is gone.
    pub fn fall(self) -> Result<Parts, NodeError> {
        let Node { dir, config, keys, charter, store, .. } = self;
        Ok(Parts { dir, config, keys, charter, store: store.fall()? })
    }

    /// A node from its lasting parts: [`Node::open`] without a file system.
    pub fn wake(parts: Parts) -> Result<Node, NodeError> {
        let Parts { dir, config, keys, charter, store } = parts;
        let charter_digest = charter.digest()?;
        let flag = |key: &str| -> Result<bool, NodeError> { Ok(store.meta(key)?.is_some_and(|v| v == b"1")) };
        let stopped = flag("stopped")?;
        let paused = store.meta_text("paused")?.unwrap_or_default();
        let paused = paused.split(' ').filter(|s| !s.is_empty()).map(str::to_string).collect();
        let revoked = store.meta_text("revoked")?.unwrap_or_default();
        let revoked = revoked.split(' ').filter(|s| !s.is_empty()).map(str::to_string).collect();
        let member = Member::new(&config.id, charter_digest);
        let mut node = Node {
            dir,
            config,
            keys,
            store,
            charter,
            charter_digest,
            member,
            state: State::new(),
            cosign_out: Vec::new(),
            said: BTreeMap::new(),
            waiting: BTreeMap::new(),
            runs: BTreeMap::new(),
            heard_stops: BTreeMap::new(),
            paused,
            revoked,
            stopped,
            attesting: Default::default(),
            withdrawals: 0,
            digest: Default::default(),
            memo: Default::default(),
            library: policy::Library::embedded()?,
            ledger: wire::Ledger::default(),
            peers: Default::default(),
            former: Default::default(),
            asking: Default::default(),
            notes_asked: Default::default(),
        };
        node.said = node.store.said()?.into_iter().map(|(name, id, time)| (name, (id, time))).collect();
        node.begin_from_snapshot()?;
        node.load()?;
        node.hear_held()?;
        Ok(node)
    }

    /// This member's id.
    pub fn me(&self) -> &str {
        &self.config.id
    }

    /// The agreement as it is in force, with the members and keys of now; before that, the one joined with.
    pub(crate) fn agreed(&self) -> &Charter {
        self.state.charter_in_force().unwrap_or(&self.charter)
    }

    /// The state in force.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The watermark: entries below it are in force.
    pub fn watermark(&self) -> u64 {
        self.member.in_force.as_ref().map_or(0, InForce::size)
    }

    /// When a quorum had cosigned it, milliseconds by the cosigners' clocks.
    pub(crate) fn watermark_time(&self) -> i64 {
        self.member
            .in_force
            .as_ref()
            .map_or(0, |f| i64::try_from(f.attested_at()).unwrap_or(0).saturating_mul(1000))
    }

    /// Entries mirrored, in force or not.
    pub fn size(&self) -> u64 {
        self.member.log.size()
    }

    /// Takes the cosignature lines that wait for the hub.
    pub fn take_cosignatures(&mut self) -> Result<Vec<(u64, String)>, NodeError> {
        let lines = std::mem::take(&mut self.cosign_out);
        if !lines.is_empty() {
            point("cosigned, not kept", "");
        }
        self.keep_lines(&lines)?;
        self.store.flush()?;
        if !lines.is_empty() {
            self.beat()?;
            point("cosigned and kept, not handed in", "");
        }
        Ok(lines)
    }

    /// Whether something new waits to be carried to the hub.
    pub fn take_outgoing(&self) -> bool {
        self.store.take_outgoing() || !self.cosign_out.is_empty()
    }

    /// How often frames were withdrawn: a carrier lets go of those that it took before the last time.
    pub fn withdrawals(&self) -> u64 {
        self.withdrawals
    }

    /// Statements to hand to the hub. One that is in the record is forgotten; one that is not is handed in again.
    pub fn queued(&self, now: i64) -> Result<Vec<(String, Vec<u8>)>, NodeError> {
        self.store.flush()?;
        let again = now.saturating_sub(RETRY);
        let mut queued = self.store.queued(again, now)?;
        queued.extend(self.store.held_queued(again, now)?);
        Ok(queued)
    }

    /// The hub has promised the statement, or refused it. A refused stop, pause or revocation is tried again for
    /// ever: the hub has no say in whether it is said.
    pub fn answered(&mut self, id: &str, refusal: Option<&str>, now: i64) -> Result<(), NodeError> {
        let Some(why) = refusal else {
            self.point_of(id, "promised, not noted");
            self.store.held_tried(id, now)?;
            return self.store.tried(id, true, now);
        };
        // What another said is handed in for it, once a hub has taken over: that it is void is nobody's fault.
        let waiting = self.store.waiting(id)?.and_then(|bytes| SignedStatement::from_bytes(&bytes).ok());
        if waiting.is_some_and(|signed| signed.statement().issuer != self.config.id) {
            return self.store.dequeue(id);
        }
        self.keep_evidence("hub", &format!("statement {id} refused: {why}"), &[], now)?;
        if self.protects(id)? || self.is_still_held(id, now)? {
            self.store.held_tried(id, now)?;
            self.store.tried(id, false, now)
        } else {
            self.store.dequeue(id)
        }
    }

    /// Whether a statement that waits is a stop, a pause, a yes taken back, an erasure or evidence.
    fn protects(&self, id: &str) -> Result<bool, NodeError> {
        use charter::body::{
            DatasetPause, DecisionRevoke, EvidenceReport, NodeStop, RecordErase, RecordErased,
        };
        let Some(bytes) = self.store.waiting(id)? else { return Ok(false) };
        let kind = SignedStatement::from_bytes(&bytes).map(|s| s.statement().r#type.clone());
        Ok(kind.is_ok_and(|k| {
            let stops = [NodeStop::TYPE, DatasetPause::TYPE, DecisionRevoke::TYPE];
            let more = [RecordErase::TYPE, RecordErased::TYPE, EvidenceReport::TYPE];
            stops.contains(&k.as_str()) || more.contains(&k.as_str())
        }))
    }

    /// Frames waiting for the hub.
    pub fn undelivered(&self) -> Result<Vec<(i64, Vec<u8>)>, NodeError> {
        self.store.flush()?;
        self.store.undelivered()
    }

    /// The hub has taken the frame.
    pub fn delivered(&mut self, row: i64) -> Result<(), NodeError> {
        self.store.delivered(row)
    }

    /// The node's key file, for its TLS identity.
    pub fn keys(&self) -> &NodeKeys {
        &self.keys
    }

    /// Whether a write failed: the process must end and begin again from what was kept.
    pub fn failed(&self) -> bool {
        self.store.failed()
    }

    /// Makes everything done so far durable.
    pub fn flush(&self) -> Result<(), NodeError> {
        self.store.flush()
    }

    /// Digest of the state in force.
    pub(crate) fn state_digest(&self) -> Result<Digest, NodeError> {
        if let Some((size, digest)) = self.digest.get()
            && size == self.state.size
        {
            return Ok(digest);
        }
        let digest = self.state.digest()?;
        self.digest.set(Some((self.state.size, digest)));
        Ok(digest)
    }

    /// The hub's address and TLS key.
    pub fn hub(&self) -> Result<(String, record::keys::PublicKey), NodeError> {
        if let Some(next) = self.next_hub()? {
            return Ok((next.address, next.hub.tls));
        }
        let addr = self.config.hub.clone().ok_or_else(|| {
            NodeError::Input("no hub address; run `comity node join` with `--hub HOST:PORT`".to_string())
        })?;
        Ok((addr, self.charter.hub.tls))
    }

    /// Signs a statement in this member's name, said at `now`, and queues it for the record; returns its id.
    pub(crate) fn say<T: Serialize>(
        &mut self,
        kind: &str,
        subject: &str,
        actor: &str,
        body: &T,
        now: i64,
    ) -> Result<Digest, NodeError> {
        let refused = |e: record::StatementError| NodeError::Input(format!("statement refused: {e}"));
        let mut statement = Statement::new(kind, subject, &self.config.id, actor, body).map_err(refused)?;
        // The time of saying also tells a thing said again from the same statement sent twice.
        statement.valid_from = Some(now);
        let signed = self.signed(statement).map_err(refused)?;
        let id = signed.id();
        self.store.queue(&id.to_string(), &signed.to_bytes(), now)?;
        point("said, not kept", kind);
        Ok(id)
    }

    /// A point named after the type of a statement that waits for the record.
    pub(crate) fn point_of(&self, id: &str, step: &str) {
        if wire::point::armed()
            && let Ok(Some(bytes)) = self.store.waiting(id)
            && let Ok(signed) = SignedStatement::from_bytes(&bytes)
        {
            point(step, &signed.statement().r#type);
        }
    }

    /// Says something once: `key` names it, so that ticks do not say it again while it is on its way.
    pub(crate) fn say_once<T: Serialize>(
        &mut self,
        key: String,
        kind: &str,
        subject: &str,
        body: &T,
        now: i64,
    ) -> Result<(), NodeError> {
        if self.has_said(&key, now) {
            return Ok(());
        }
        let id = self.say(kind, subject, "node", body, now)?.to_string();
        self.store.note_said(&key, &id, now)?;
        self.said.insert(key, (id, now));
        Ok(())
    }

    /// Whether that was said a short while ago, or still waits to be recorded.
    pub(crate) fn has_said(&self, key: &str, now: i64) -> bool {
        self.said.get(key).is_some_and(|(id, time)| {
            // A clock that was ahead when it was said is not waited for.
            let lately = *time <= now && now.saturating_sub(*time) < PATIENCE;
            lately || self.store.keeps(id).unwrap_or(true) || self.is_pending(id)
        })
    }

    /// Whether a statement is in the mirrored record and not in force yet: it need not be said again.
    fn is_pending(&self, id: &str) -> bool {
        let above = usize::try_from(self.state.size).unwrap_or(usize::MAX);
        self.member.log.entries().get(above..).is_some_and(|new| new.iter().any(|e| e.id().to_string() == id))
    }

    /// Keeps something wrong that another party sent.
    pub(crate) fn keep_evidence(
        &mut self,
        from: &str,
        what: &str,
        frame: &[u8],
        now: i64,
    ) -> Result<(), NodeError> {
        tracing::warn!(from, what, "kept as evidence");
        self.store
            .add_evidence(&Evidence { time: now, from: from.to_string(), what: what.to_string() }, frame)
    }

    /// Follows the record no further: nothing runs any more, and frames not yet handed over are withdrawn.
    pub(crate) fn halt(&mut self, why: String) -> Result<(), NodeError> {
        tracing::error!("halted: {why}");
        self.member.halted = Some(why);
        self.store.withdraw_undelivered()?;
        self.withdrawals += 1;
        Ok(())
    }

    /// Stops this node at once: nothing leaves any more, frames not yet handed over are withdrawn, the others are
    /// told, and the record later.
    pub fn stop(&mut self, now: i64) -> Result<Digest, NodeError> {
        self.stopped = true;
        self.store.set_meta("stopped", b"1")?;
        self.store.withdraw_undelivered()?;
        self.withdrawals += 1;
        let body = charter::body::NodeStop { reason: "operator".into() };
        let id = self.say(charter::body::NodeStop::TYPE, "node", "operator", &body, now)?;
        self.broadcast_stop(id, now)?;
        Ok(id)
    }

    /// Starts a stopped node again.
    pub fn resume(&mut self, now: i64) -> Result<Digest, NodeError> {
        self.stopped = false;
        self.store.set_meta("stopped", b"0")?;
        let body = charter::body::NodeResume { reason: "operator".into() };
        self.say(charter::body::NodeResume::TYPE, "node", "operator", &body, now)
    }

    /// Takes a dataset out of use at once, mid-round too.
    pub fn pause(&mut self, name: &str, now: i64) -> Result<Digest, NodeError> {
        self.paused.insert(name.to_string());
        self.write_paused()?;
        self.store.withdraw_undelivered()?;
        self.withdrawals += 1;
        let body = charter::body::DatasetPause { name: name.into(), reason: "operator".into() };
        let id = self.say(charter::body::DatasetPause::TYPE, name, "operator", &body, now)?;
        self.broadcast_stop(id, now)?;
        Ok(id)
    }

    /// Puts a dataset back into use.
    pub fn unpause(&mut self, name: &str, now: i64) -> Result<Digest, NodeError> {
        self.paused.remove(name);
        self.write_paused()?;
        let body = charter::body::DatasetResume { name: name.into() };
        let seat = self.seat(charter::SeatRole::Steward)?;
        self.say(charter::body::DatasetResume::TYPE, name, &seat, &body, now)
    }

    /// Takes this member's yes to a study back at once, in running rounds too.
    pub fn revoke(&mut self, study: &str, now: i64) -> Result<Digest, NodeError> {
        self.revoked.insert(study.to_string());
        let all: Vec<&str> = self.revoked.iter().map(String::as_str).collect();
        self.store.set_meta("revoked", all.join(" ").as_bytes())?;
        self.store.withdraw_undelivered()?;
        self.withdrawals += 1;
        let seat = self.seat(charter::SeatRole::Steward)?;
        let body = charter::body::DecisionRevoke { study: study.to_string() };
        let id = self.say(charter::body::DecisionRevoke::TYPE, study, &seat, &body, now)?;
        Ok(id)
    }

    fn write_paused(&self) -> Result<(), NodeError> {
        let all: Vec<&str> = self.paused.iter().map(String::as_str).collect();
        self.store.set_meta("paused", all.join(" ").as_bytes())
    }

    /// The seat of this member with that role, by the charter.
    pub(crate) fn seat(&self, role: charter::SeatRole) -> Result<String, NodeError> {
        self.agreed()
            .member(self.me())
            .and_then(|m| m.seats.iter().find(|s| s.role == role))
            .map(|s| s.id.clone())
            .ok_or_else(|| NodeError::Input(format!("this member has no {role:?} seat in the charter")))
    }
}
