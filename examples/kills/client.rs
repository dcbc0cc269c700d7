//! One who submits statements in the members' names and keeps the receipts.

use crate::command::soon;
use record::{HubInfo, Receipt, SecretKey, SignedStatement, Statement};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use wire::{HubClient, TlsIdentity};

/// Between two statements, and before a statement is handed in again.
const PAUSE: Duration = Duration::from_millis(4);
/// As many as come.
const STEADY: u64 = u64::MAX;

/// A member's two keys on this line.
#[derive(Clone)]
pub struct Identity {
    pub id: &'static str,
    sign: [u8; 32],
    tls: [u8; 32],
}

impl Identity {
    pub fn of(id: &'static str, node: PathBuf) -> Identity {
        let keys = node::keys::NodeKeys::open(&node.join("node.key")).unwrap();
        Identity { id, sign: *keys.derive("sign"), tls: *keys.tls_seed() }
    }

    pub fn line(&self, address: &str, hub: &HubInfo) -> HubClient {
        HubClient::new(&TlsIdentity::from_seed(&self.tls).unwrap(), address, hub.tls).unwrap()
    }

    fn says(&self, number: u64) -> SignedStatement {
        let body = charter::body::NodeResume { reason: format!("statement {number}") };
        let said = Statement::new("node.resume@1", "node", self.id, "operator", &body).unwrap();
        SignedStatement::sign(said, &SecretKey::from_seed(self.sign)).unwrap()
    }
}

/// A receipt, and the statement that it is for.
#[derive(Clone)]
pub struct Kept {
    pub receipt: Receipt,
    pub bytes: Vec<u8>,
}

struct Shared {
    wanted: AtomicU64,
    over: AtomicBool,
    /// Where the hub is, who it is, and how often that has changed.
    to: Mutex<(String, HubInfo, u64)>,
    kept: Mutex<Vec<Kept>>,
}

pub struct Client {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Client {
    pub fn start(identities: Vec<Identity>, address: &str, hub: &HubInfo) -> Client {
        let shared = Arc::new(Shared {
            wanted: AtomicU64::new(0),
            over: AtomicBool::new(false),
            to: Mutex::new((address.to_string(), hub.clone(), 0)),
            kept: Mutex::default(),
        });
        let its = shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(submit(&its, &identities));
        });
        Client { shared, thread: Some(thread) }
    }

    pub fn steady(&self) {
        self.shared.wanted.store(STEADY, Ordering::SeqCst);
    }

    pub fn halt(&self) {
        self.shared.wanted.store(0, Ordering::SeqCst);
    }

    /// Submits one more, and waits for its receipt.
    pub fn one(&self) -> Receipt {
        let before = self.kept(0).len();
        self.shared.wanted.store(1, Ordering::SeqCst);
        let receipt = soon("a receipt", || Some(self.kept(before).last()?.receipt.clone()));
        self.halt();
        receipt
    }

    /// The receipts from this one on.
    pub fn kept(&self, from: usize) -> Vec<Kept> {
        self.shared.kept.lock().unwrap().get(from..).unwrap_or_default().to_vec()
    }

    pub fn count(&self) -> usize {
        self.shared.kept.lock().unwrap().len()
    }

    /// Another hub serves.
    pub fn turn(&self, address: &str, hub: &HubInfo) {
        let mut to = self.shared.to.lock().unwrap();
        *to = (address.to_string(), hub.clone(), to.2 + 1);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

async fn submit(shared: &Shared, identities: &[Identity]) {
    let mut number = 0;
    let mut lines: (u64, BTreeMap<usize, HubClient>) = (u64::MAX, BTreeMap::new());
    let mut open: Option<(usize, SignedStatement)> = None;
    while !shared.over.load(Ordering::SeqCst) {
        if shared.wanted.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        let (address, hub, turn) = shared.to.lock().unwrap().clone();
        if lines.0 != turn {
            lines = (turn, BTreeMap::new());
        }
        // What has no receipt is handed in again, verbatim.
        let (who, said) = open.take().unwrap_or_else(|| {
            number += 1;
            let who = number as usize % identities.len();
            (who, identities[who].says(number))
        });
        let line = lines.1.entry(who).or_insert_with(|| identities[who].line(&address, &hub));
        match line.submit(&said).await {
            Ok(receipt) => {
                receipt.verify(&hub.key).expect("a receipt is signed by its hub");
                assert_eq!(receipt.id, said.id(), "a receipt is for what was submitted");
                shared.kept.lock().unwrap().push(Kept { receipt, bytes: said.to_bytes() });
                let less = |n: u64| (n != STEADY).then_some(n.saturating_sub(1));
                let _ = shared.wanted.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
            }
            Err(e) if e.is_transient() => {
                open = Some((who, said));
            }
            Err(e) => panic!("a statement was refused: {e}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
