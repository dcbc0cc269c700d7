//! Members as the tests play them.

use std::path::Path;
use std::time::Duration;

use hub::{Hub, HubConfig, HubError};
use record::log::Cosigned;
use record::{Digest, HubInfo, Log, SecretKey, SignedCheckpoint, SignedStatement, Statement};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use wire::api::Sync;
use wire::{Frame, HubClient, Place, TlsIdentity, WireError};

pub const SOON: Duration = Duration::from_secs(10);

pub fn config() -> HubConfig {
    HubConfig {
        federation: "stroke".into(),
        operator: "Alpine Trust (fictitious)".into(),
        jurisdiction: "CH".into(),
    }
}

/// A member with its keys and its mirror of the log.
pub struct Member {
    pub id: &'static str,
    pub seed: u8,
    pub log: Log,
    pub cosigned: Option<Cosigned>,
}

impl Member {
    pub fn new(id: &'static str, seed: u8) -> Self {
        Self { id, seed, log: Log::new(), cosigned: None }
    }
    pub fn key(&self, use_: u8) -> SecretKey {
        SecretKey::from_seed([self.seed + use_; 32])
    }
    pub fn sign(&self) -> SecretKey {
        self.key(0)
    }
    pub fn tls(&self) -> TlsIdentity {
        TlsIdentity::from_seed(&[self.seed + 2; 32]).unwrap()
    }
    pub fn client(&self, hub: &Served) -> HubClient {
        HubClient::new(&self.tls(), &hub.addr, hub.info.tls).unwrap()
    }
    pub fn says<T: Serialize>(&self, kind: &str, subject: &str, body: &T) -> SignedStatement {
        SignedStatement::sign(Statement::new(kind, subject, self.id, "node", body).unwrap(), &self.sign())
            .unwrap()
    }
    pub fn note(&self, text: &str) -> SignedStatement {
        self.says("note.add@1", text, &serde_map(&[("text", text)]))
    }
    /// Mirrors, validates and cosigns what the hub shows, as a node does.
    pub async fn follow(&mut self, client: &HubClient, sync: &Sync) {
        for leaf in client.entries(self.log.size(), sync.size).await.unwrap() {
            self.log.append(&leaf, None).unwrap();
        }
        let checkpoint = SignedCheckpoint::parse(sync.checkpoint.as_ref().unwrap()).unwrap();
        let (lines, next) =
            self.log.cosign(&checkpoint, self.id, &self.key(1), 1_700_000_000_000, self.cosigned).unwrap();
        self.cosigned = Some(next);
        for line in lines {
            client.cosign(next.size, &line.to_line()).await.unwrap();
        }
    }
}

pub fn serde_map<'a>(pairs: &[(&'a str, &'a str)]) -> std::collections::BTreeMap<&'a str, &'a str> {
    pairs.iter().copied().collect()
}

#[derive(Serialize)]
pub struct CharterHub {
    operator: String,
    jurisdiction: String,
    key: record::PublicKey,
    tls: record::PublicKey,
}
#[derive(Serialize)]
pub struct CharterMember {
    pub id: String,
    sign: record::PublicKey,
    cosign: record::PublicKey,
    tls: record::PublicKey,
}
#[derive(Serialize)]
pub struct Charter {
    federation: String,
    pub hub: CharterHub,
    members: Vec<CharterMember>,
}
#[derive(Serialize)]
pub struct Propose {
    pub charter: Charter,
}
#[derive(Serialize)]
pub struct Sign {
    pub charter: Digest,
}

pub fn charter(info: &HubInfo, members: &[&Member]) -> Charter {
    Charter {
        federation: "stroke".into(),
        hub: CharterHub {
            operator: info.operator.clone(),
            jurisdiction: info.jurisdiction.clone(),
            key: info.key,
            tls: info.tls,
        },
        members: members
            .iter()
            .map(|m| CharterMember {
                id: m.id.into(),
                sign: m.sign().public(),
                cosign: m.key(1).public(),
                tls: m.key(2).public(),
            })
            .collect(),
    }
}

pub struct Served {
    pub hub: Hub,
    pub addr: String,
    pub info: HubInfo,
    pub task: JoinHandle<Result<(), HubError>>,
}

pub async fn serve(hub: Hub) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let (info, running) = (hub.info(), hub.clone());
    let task = tokio::spawn(async move { running.serve(listener).await });
    Served { hub, addr, info, task }
}

/// A hub with a charter of these members, signed by all.
pub async fn federation(dir: &Path, members: &mut [Member]) -> (Served, Digest) {
    let served = serve(Hub::create(dir, &config()).unwrap()).await;
    let digest = agree(&served, members).await;
    (served, digest)
}

pub async fn agree(served: &Served, members: &mut [Member]) -> Digest {
    let all: Vec<&Member> = members.iter().collect();
    let charter = charter(&served.info, &all);
    let digest = Digest::of(&record::canon::to_bytes(&charter).unwrap());
    let first = &members[0];
    first
        .client(served)
        .submit(&first.says("charter.propose@1", "charter", &Propose { charter }))
        .await
        .unwrap();
    for member in members.iter() {
        let signed = member.says("charter.sign@1", "charter", &Sign { charter: digest });
        member.client(served).submit(&signed).await.unwrap();
    }
    digest
}

pub fn pair() -> Vec<Member> {
    vec![Member::new("gb", 10), Member::new("ch", 20)]
}

pub fn refused(outcome: Result<impl std::fmt::Debug, WireError>) -> (u16, String) {
    match outcome {
        Err(WireError::Refused { status, error, found, expected }) => {
            assert!(!error.is_empty() && !found.is_empty() && !expected.is_empty());
            (status, format!("{error}: {found}"))
        }
        other => panic!("{other:?}"),
    }
}

pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("in time")
}

pub fn frame(charter: Digest, from: &Member, to: &str, body: &[u8]) -> wire::SignedFrame {
    let place = Place { study: "aspirin".into(), run: 1, stage: 0, round: 0 };
    Frame::new(from.id, to, "share", charter, place, Digest::of(b"ctx"), body.to_vec())
        .sign(&from.sign())
        .unwrap()
}
