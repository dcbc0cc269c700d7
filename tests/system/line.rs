//! The hub's line: mutual TLS or nothing; and the nodes listen nowhere.

use crate::federation::Federation;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use wire::{Client, TlsIdentity, WireError};

const REQUEST: &[u8] = b"GET /checkpoint HTTP/1.1\r\nhost: comity\r\nconnection: close\r\n\r\n";

/// A client that believes any server, as somebody would who only wants to look.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

fn dial(address: &str) -> TcpStream {
    let line = TcpStream::connect(address).unwrap();
    // Only so that a hub that keeps silent for ever does not hold up the test.
    line.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    line
}

#[test]
fn the_hub_tells_nothing_to_whoever_has_no_member_s_certificate() {
    let it = Federation::agree(&[("gb", "GB"), ("ch", "CH"), ("se", "SE")]);

    // Plain TCP: at most a TLS alert comes back, never an answer.
    let mut plain = dial(&it.address);
    plain.write_all(REQUEST).unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(answer.len() <= 7, "plain TCP got {answer:?}");
    assert!(answer.is_empty() || answer[0] == 21, "a TLS alert: {answer:?}");

    // TLS without a certificate.
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_no_client_auth();
    let mut tls = ClientConnection::new(Arc::new(config), ServerName::try_from("comity").unwrap()).unwrap();
    let mut line = dial(&it.address);
    let mut stream = rustls::Stream::new(&mut tls, &mut line);
    let sent = stream.write_all(REQUEST);
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    assert!(sent.is_err() || read.is_err(), "the hub ends the line with an alert");
    assert!(answer.is_empty(), "TLS without a certificate got {}", String::from_utf8_lossy(&answer));

    // With a certificate: a member's key is answered, a stranger's is not, and the hub must be the charter's.
    let charter =
        charter::Charter::parse("charter.toml", &std::fs::read_to_string(it.path("charter.toml")).unwrap())
            .unwrap();
    let key = it.path("gb").join("node.key");
    let member = TlsIdentity::from_seed(&node::keys::NodeKeys::open(&key).unwrap().tls_seed()).unwrap();
    let stranger = TlsIdentity::from_seed(&[7; 32]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let get = async |identity: &TlsIdentity, hub| {
            Client::new(identity, &it.address, hub).unwrap().get("/checkpoint", 1 << 20).await
        };
        let note = get(&member, charter.hub.tls).await.unwrap();
        assert!(note.starts_with(b"comity/tested\n"));
        let refused = get(&stranger, charter.hub.tls).await.unwrap_err();
        assert!(matches!(refused, WireError::NotAdmitted { .. }), "{refused}");
        let refused = get(&member, charter.hub.key).await.unwrap_err();
        assert!(matches!(refused, WireError::WrongPeer { .. }), "{refused}");
    });
}

/// Inodes of sockets that listen for TCP on this machine, of any address family.
fn listening() -> Vec<String> {
    let mut inodes = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in std::fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields[3] == "0A" {
                inodes.push(format!("socket:[{}]", fields[9]));
            }
        }
    }
    inodes
}

fn listens(process: u32) -> bool {
    let all = listening();
    std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().any(|fd| {
        let target = std::fs::read_link(fd.unwrap().path()).unwrap_or_default();
        all.contains(&target.display().to_string())
    })
}

#[test]
fn nodes_only_call_out() {
    if !std::path::Path::new("/proc/net/tcp").exists() {
        println!("skipped for lack of /proc/net/tcp: nodes_only_call_out");
        return;
    }
    let it = Federation::agree(&[("gb", "GB"), ("ch", "CH"), ("se", "SE")]);
    assert!(listens(it.hub.as_ref().unwrap().id()), "the hub listens, so this test can see it");
    for (id, node) in &it.nodes {
        assert!(!listens(node.id()), "{id} listens on a port");
    }
}
