//! Three members and a hub over real lines: mutual TLS, ports from the system, the services as they are run.

use hub::{Hub, HubConfig};
use node::control::{Command, Reply};
use node::{Config, service};
use record::tree::verify_consistency;
use record::{Digest, PublicKey, SecretKey, SignedCheckpoint};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use wire::{PeerClient, TlsIdentity, WireError};

const IDS: [&str; 3] = ["gb", "it", "pl"];

/// A port that is free now.
fn port() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

async fn ask(dir: &Path, command: Command) -> Reply {
    let dir = dir.to_path_buf();
    tokio::task::spawn_blocking(move || service::call(&dir, command).unwrap()).await.unwrap()
}

/// Asks for the status until it is so. The limit is only there so that a broken system fails instead of hanging.
async fn until(what: &str, dir: &Path, so: impl Fn(&Reply) -> bool) -> Reply {
    let begun = Instant::now();
    loop {
        let status = ask(dir, Command::Status).await;
        if so(&status) {
            return status;
        }
        assert!(begun.elapsed() < Duration::from_secs(150), "waited in vain for {what}: {}", status.text);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

struct Lines {
    dir: TempDir,
    endpoints: Vec<String>,
    hub: Hub,
    pin: Digest,
}

impl Lines {
    fn folder(&self, id: &str) -> PathBuf {
        self.dir.path().join(id)
    }

    /// Keys, charter, hub and both nodes served.
    async fn serve() -> Lines {
        let dir = tempfile::Builder::new().prefix("comity-").tempdir().unwrap();
        let config = HubConfig {
            federation: "lines".into(),
            operator: "A relay (fictitious)".into(),
            jurisdiction: "NL".into(),
        };
        let hub = Hub::create(&dir.path().join("hub"), &config).unwrap();
        let info = hub.info();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = hub.clone();
        tokio::spawn(async move { serving.serve(listener).await.unwrap() });
        let mut text = format!(
            "federation = \"lines\"\ntitle = \"Three\"\nsunset = \"2031-12-31\"\nfloor = \"{}\"\n\
             purposes = [\"stroke-research\"]\naggregator_pool = [\"gb\", \"it\"]\n\n[hub]\n\
             operator = \"A relay (fictitious)\"\njurisdiction = \"NL\"\nkey = \"{}\"\ntls = \"{}\"\n\n\
             [data_access]\nquorum = 2\ndeadline_hours = 72\nvalid_days = 90\n\n\
             [limits]\nlease_hours = 24\nwatermark_minutes = 10\nmin_hidden_sites = 3\n\n",
            Digest::of(policy::FLOOR.as_bytes()),
            info.key,
            info.tls,
        );
        let endpoints = vec![port(), port(), port()];
        for (id, endpoint) in IDS.iter().zip(&endpoints) {
            let config = Config {
                id: id.to_string(),
                name: format!("Member {id} (fictitious)"),
                jurisdiction: id.to_uppercase(),
                control: format!("{id}, own premises"),
                hub: None,
                peer_listen: None,
                proxy: None,
            };
            let next_key = Some(dir.path().join(format!("{id}.next")));
            let extras = node::config::Extras { next_key, ..Default::default() };
            text.push_str(&node::config::init_with(&dir.path().join(id), &config, &extras).unwrap());
            text.push_str(&format!("endpoint = \"{endpoint}\"\n\n"));
        }
        let pin = charter::Charter::parse("charter.toml", &text).unwrap().digest().unwrap();
        for (id, endpoint) in IDS.iter().zip(&endpoints) {
            let folder = dir.path().join(id);
            std::fs::write(folder.join("charter.toml"), &text).unwrap();
            let mut config = Config::read(&folder).unwrap();
            config.hub = Some(address.clone());
            config.write(&folder).unwrap();
            let endpoint = endpoint.clone();
            tokio::spawn(async move {
                service::serve_on(&folder, Some(&endpoint), std::future::pending()).await.unwrap();
            });
        }
        let lines = Lines { dir, endpoints, hub, pin };
        for id in IDS {
            let socket = service::socket(&lines.folder(id));
            while !socket.exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        lines
    }

    fn keys(&self, id: &str) -> node::keys::NodeKeys {
        node::keys::NodeKeys::open(&self.folder(id).join("node.key")).unwrap()
    }

    /// A line to `it` by whoever holds this TLS seed.
    fn to_it(&self, seed: &[u8; 32]) -> PeerClient {
        let (_, _, tls) = self.keys("it").public().unwrap();
        self.to("it", tls, seed)
    }

    /// A line to a member that is to show this TLS key.
    fn to(&self, id: &str, tls: PublicKey, seed: &[u8; 32]) -> PeerClient {
        let at = IDS.iter().position(|other| *other == id).unwrap();
        let identity = TlsIdentity::from_seed(seed).unwrap();
        PeerClient::through(&identity, &self.endpoints[at], tls, None).unwrap()
    }

    /// Two roots for one size, signed by the hub: its key is in its folder, and here it is a liar's.
    fn two_roots(&self) -> Vec<u8> {
        let text = std::fs::read_to_string(self.dir.path().join("hub/hub.key")).unwrap();
        let seeds =
            text.split_whitespace().filter_map(|word| <[u8; 32]>::try_from(hex::decode(word).ok()?).ok());
        let key = seeds.map(SecretKey::from_seed).find(|key| key.public() == self.hub.info().key).unwrap();
        let note = |root: &[u8]| {
            record::Checkpoint::new("comity/lines", 3, Digest::of(root)).unwrap().sign(&key).to_note()
        };
        let charter = std::fs::read_to_string(self.folder("gb").join("charter.toml")).unwrap();
        let charter = charter::Charter::parse("charter.toml", &charter).unwrap();
        let claim = record::Claim::TwoRoots { one: note(b"one"), other: note(b"other") };
        record::Evidence::new(record::canon::to_value(&charter).unwrap(), claim).write().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_compare_and_stop_each_other_over_their_own_lines() {
    let lines = Lines::serve().await;
    for (id, other) in [("gb", "it"), ("it", "gb")] {
        let dir = lines.folder(id);
        let status =
            until("the other", &dir, |s| s.data["in_force"] == true && s.data["watched_with"] == other);
        let status = status.await;
        assert_eq!((&status.data["unwatched"], &status.data["watched"]), (&false.into(), &true.into()));
    }
    let gb = lines.to_it(&lines.keys("gb").tls_seed());
    let roster = record::Roster::of_charter(
        &record::canon::to_value(
            &charter::Charter::parse(
                "charter.toml",
                &std::fs::read_to_string(lines.folder("gb").join("charter.toml")).unwrap(),
            )
            .unwrap(),
        )
        .unwrap(),
    )
    .unwrap();
    assert_eq!(roster.charter_digest, Some(lines.pin));
    let shown = gb.checkpoints().await.unwrap();
    let note = SignedCheckpoint::parse(&shown.cosigned.unwrap()).unwrap();
    note.verify_hub(&lines.hub.info().key).unwrap();
    assert!(note.cosigners(&roster).contains("it"));
    let sealed = SignedCheckpoint::parse(&shown.in_force.unwrap()).unwrap();
    assert!(sealed.cosigners(&roster).len() >= 2);
    let (size, root) = (note.checkpoint().size(), note.checkpoint().root());
    let proof = gb.consistency(1, size).await.unwrap();
    verify_consistency(1, &proof.root, size, &root, &proof.proof).unwrap();
    let (answer, entries) = gb.entries(0, size).await.unwrap();
    let (sign, ..) = lines.keys("it").public().unwrap();
    answer.verify(&sign).unwrap();
    assert_eq!(entries.len() as u64, size);
    let nonce = Digest::of(b"asked now");
    let highest = gb.highest(&nonce).await.unwrap();
    highest.verify(&sign, &nonce).unwrap();
    gb.pending().await.unwrap();
    let refused =
        |e: WireError, status: u16| matches!(e, WireError::Refused { status: s, .. } if s == status);
    assert!(refused(gb.consistency(1, size + 100).await.unwrap_err(), 404));
    assert!(refused(gb.entries(5, 5).await.unwrap_err(), 404));
    assert!(refused(gb.submit(b"no statement".to_vec()).await.unwrap_err(), 422));
    assert!(refused(gb.stop(b"no frame".to_vec()).await.unwrap_err(), 422));
    assert!(refused(gb.stop(vec![0; 64 << 10]).await.unwrap_err(), 413));
    // Nobody but members is let in.
    let stranger = lines.to_it(&[9; 32]).checkpoints().await.unwrap_err();
    assert!(matches!(stranger, WireError::NotAdmitted { .. }), "{stranger}");
    // The hub is gone, and a stop is heard all the same.
    lines.hub.stop();
    ask(&lines.folder("gb"), Command::Stop).await;
    let heard = until("the stop", &lines.folder("it"), |s| s.data["heard_stops"][0] == "gb").await;
    assert!(heard.text.contains("heard of gb"), "{}", heard.text);
}

/// Waits until an entry's first note is shown so.
async fn shown(dir: &Path, index: u64, so: impl Fn(&serde_json::Value) -> bool) {
    let begun = Instant::now();
    loop {
        let entry = ask(dir, Command::RecordShow { index }).await;
        if so(&entry.data["notes"][0]) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(150), "waited in vain for the note: {}", entry.text);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_notes_say_goes_over_the_line_to_whom_its_author_named_and_is_destroyed_at_both() {
    let lines = Lines::serve().await;
    let dir = lines.folder("it");
    until("the agreement", &dir, |s| s.data["in_force"] == true).await;
    let about = ask(&dir, Command::RecordShow { index: 0 }).await.data["id"].as_str().unwrap().to_string();
    let (text, to) = ("a word for gb".to_string(), vec!["gb".to_string()]);
    let note = ask(&dir, Command::RecordNote { about, text: text.clone(), to }).await;
    let statement = note.data["note"].as_str().unwrap().to_string();
    // The node of `gb` fetches it by itself.
    shown(&lines.folder("gb"), 0, |n| n["text"] == text.as_str()).await;
    shown(&lines.folder("pl"), 0, |n| n["text"].is_null() && n["by"] == "it").await;
    let id: Digest = statement.parse().unwrap();
    let gb = lines.to_it(&lines.keys("gb").tls_seed());
    assert_eq!(gb.sealed(&id).await.unwrap().fields[0].value.as_str(), Some(text.as_str()));
    let nothing = |e: WireError| matches!(e, WireError::Refused { status: 404, .. });
    // The same answer for what is not for the caller and for what is nowhere.
    assert!(nothing(lines.to_it(&lines.keys("pl").tls_seed()).sealed(&id).await.unwrap_err()));
    assert!(nothing(gb.sealed(&Digest::of(b"nowhere")).await.unwrap_err()));
    ask(&dir, Command::RecordErase { statement, sure: true }).await;
    for id in IDS {
        let all = |n: &serde_json::Value| n["destroyed_by"] == serde_json::json!(IDS) && n["text"].is_null();
        shown(&lines.folder(id), 0, all).await;
    }
    assert!(nothing(gb.sealed(&id).await.unwrap_err()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_goes_over_the_lines_to_all_though_the_hub_is_gone_and_forged_evidence_to_nobody() {
    let lines = Lines::serve().await;
    for id in IDS {
        until("the agreement", &lines.folder(id), |s| s.data["in_force"] == true).await;
    }
    lines.hub.stop();
    let file = lines.two_roots();
    let gb = lines.to_it(&lines.keys("gb").tls_seed());
    let refused =
        |e: WireError, status: u16| matches!(e, WireError::Refused { status: s, .. } if s == status);
    let mut forged = file.clone();
    let at = forged.len() / 2;
    forged[at] ^= 1;
    assert!(refused(gb.convict(forged).await.unwrap_err(), 422));
    assert!(refused(gb.convict(vec![b' '; wire::peer::MAX_PROOF + 1]).await.unwrap_err(), 413));
    assert!(refused(gb.proof(&Digest::of(&file)).await.unwrap_err(), 404));
    assert!(gb.proofs().await.unwrap().files.is_empty());
    gb.convict(file.clone()).await.unwrap();
    assert_eq!(gb.proofs().await.unwrap().files, [Digest::of(&file)]);
    assert_eq!(gb.proof(&Digest::of(&file)).await.unwrap(), file);
    assert!(gb.signoffs().await.unwrap().is_empty());
    assert!(refused(gb.signoff(b"no statement".to_vec()).await.unwrap_err(), 422));
    for id in IDS {
        let stopped =
            |s: &Reply| s.data["not_cosigning"].as_str().is_some_and(|w| w.starts_with("the hub signed"));
        until("the proof", &lines.folder(id), stopped).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_changes_its_tls_key_is_reached_and_admitted_under_the_new_one_without_a_restart() {
    let lines = Lines::serve().await;
    let dir = lines.folder("gb");
    for id in IDS {
        until("the agreement", &lines.folder(id), |s| s.data["in_force"] == true).await;
    }
    let old = lines.keys("gb").public().unwrap().2;
    // Both ways were open under the old key.
    for (id, other) in [("gb", "it"), ("it", "gb")] {
        until("the other", &lines.folder(id), |s| s.data["watched_with"] == other).await;
    }
    let new_next = node::keys::NodeKeys::draw_next(&dir.join("after.key")).unwrap();
    let rotation = node::members::Rotation {
        next_key: lines.dir.path().join("gb.next").display().to_string(),
        new_next,
        compromised_since: None,
        all: true,
    };
    let said = ask(&dir, Command::KeyRotate(rotation)).await;
    assert_eq!(said.exit, 0, "{}", said.text);
    let new = lines.keys("gb").public().unwrap().2;
    assert_ne!(new, old);
    let statement = said.statements[0].clone();
    let begun = Instant::now();
    for id in IDS {
        // Mirrored by everyone, and in force.
        loop {
            let statement = ask(&lines.folder(id), Command::Statement { id: statement.clone() }).await;
            if statement.data["in_force"] == true {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(150), "waited in vain: {}", statement.text);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    // As a server it shows the new key to new connections, and not the old one.
    let seed = lines.keys("it").tls_seed();
    loop {
        match lines.to("gb", new, &seed).checkpoints().await {
            Ok(_) => break,
            Err(e) => assert!(begun.elapsed() < Duration::from_secs(150), "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let wrong = lines.to("gb", old, &seed).checkpoints().await.unwrap_err();
    assert!(matches!(wrong, WireError::WrongPeer { .. }), "{wrong}");
    // As a caller it is admitted under the new one, and nobody is under the old.
    let former = node::keys::NodeKeys::open(&dir.join("node.key")).unwrap().tls_seeds().pop().unwrap();
    loop {
        match lines.to_it(&former).checkpoints().await {
            Err(WireError::NotAdmitted { .. }) => break,
            other => assert!(begun.elapsed() < Duration::from_secs(150), "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let now = node::now_ms();
    until("gb to look at others", &dir, |s| s.data["watched_at"].as_i64().is_some_and(|at| at > now)).await;
    // With the hub gone the members hear each other still.
    lines.hub.stop();
    ask(&dir, Command::Stop).await;
    until("the stop of gb", &lines.folder("it"), |s| s.data["heard_stops"][0] == "gb").await;
}
