//! What anybody may read, and what a reader makes of it with nothing of ours.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{InclusionProof, RootHash};
use hub::Hub;
use record::{CoseReceipt, SignedCheckpoint};
use sha2::Sha256;
use std::io::Write;
use tlog_tiles::{HashReader, Tile, TileHashReader, TileReader};
use tokio::net::TcpListener;
use wire::api::{Have, Sync};

use crate::members::*;
use crate::plain::{get, raw};

pub async fn public(hub: &Hub) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let hub = hub.clone();
    tokio::spawn(async move { hub.serve_public(listener).await });
    addr
}

/// Until all entries have a quorum of both members.
pub async fn seal(served: &Served, members: &mut [Member]) -> u64 {
    let clients: Vec<_> = members.iter().map(|m| m.client(served)).collect();
    loop {
        let sync: Sync = soon(clients[0].sync(Have::default(), SOON)).await.unwrap();
        if sync.size < served.hub.size() {
            soon(clients[0].sync(Have { size: sync.size, sealed: u64::MAX, mail: u64::MAX, term: 0 }, SOON))
                .await
                .unwrap();
            continue;
        }
        for (member, client) in members.iter_mut().zip(&clients) {
            if member.cosigned.is_none_or(|c| c.size < sync.size) {
                member.follow(client, &sync).await;
            }
        }
        let sync: Sync = soon(clients[0].sync(Have::default(), SOON)).await.unwrap();
        if sync.sealed == served.hub.size() {
            return sync.sealed;
        }
    }
}

pub async fn fill(served: &Served, member: &Member, name: &str, count: usize) {
    let client = member.client(served);
    let mut all = tokio::task::JoinSet::new();
    for n in 0..count {
        let (client, note) = (client.clone(), member.note(&format!("{name} {n}")));
        all.spawn(async move { client.submit(&note).await.unwrap() });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
}

/// Reads tiles from anywhere by their C2SP paths; the crate's own have the height in front.
pub struct Reader<F: Fn(&str) -> Vec<u8>>(pub F);

impl<F: Fn(&str) -> Vec<u8>> TileReader for Reader<F> {
    fn height(&self) -> u8 {
        8
    }
    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        Ok(tiles.iter().map(|tile| (self.0)(&tile.path().replacen("tile/8/", "tile/", 1))).collect())
    }
    fn save_tiles(&self, _tiles: &[Tile], _data: &[Vec<u8>]) {}
}

/// Rebuilds root and inclusion proofs from tiles alone, and compares them with a second Merkle tree over the entries.
pub fn rebuilt(note: &str, entries: &[Vec<u8>], read: impl Fn(&str) -> Vec<u8>) {
    let checkpoint =
        tlog_tiles::Checkpoint::from_bytes(format!("{}\n", note.split("\n\n").next().unwrap()).as_bytes());
    let checkpoint = checkpoint.unwrap();
    let (size, root) = (checkpoint.size(), *checkpoint.hash());
    assert_eq!(size, entries.len() as u64);
    let mut oracle = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    entries.iter().for_each(|e| oracle.push(e.clone()));
    assert_eq!(oracle.root().as_bytes().as_slice(), root.0);
    let reader = Reader(read);
    let hashes = TileHashReader::new(size, root, &reader);
    assert_eq!(tlog_tiles::tree_hash(size, &hashes).unwrap().0, root.0);
    for index in [0, 1, 255, 256, 257, size / 2, size - 1].into_iter().filter(|i| *i < size) {
        let proof = tlog_tiles::prove_record(size, index, &hashes).unwrap();
        let entry = &entries[usize::try_from(index).unwrap()];
        let leaf = tlog_tiles::record_hash(entry);
        assert_eq!(hashes.read_hashes(&[tlog_tiles::stored_hash_index(0, index)]).unwrap()[0].0, leaf.0);
        tlog_tiles::check_record(&proof, size, root, index, leaf).unwrap();
        let bytes: Vec<u8> = proof.iter().flat_map(|h| h.0).collect();
        let root = RootHash::<Sha256>::new(root.0.into(), size);
        root.verify_inclusion(entry, index, &InclusionProof::from_bytes(bytes)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn anybody_rebuilds_root_and_proofs_from_the_public_tiles_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, _) = federation(dir.path(), &mut members).await;
    let addr = public(&served.hub).await;
    fill(&served, &members[0], "first", 299).await;
    let size = seal(&served, &mut members).await;
    // Later entries are not in what has a quorum.
    members[0].client(&served).submit(&members[0].note("later")).await.unwrap();
    let entries = members[0].client(&served).entries(0, size).await.unwrap();
    let key = served.info.key;
    tokio::task::spawn_blocking(move || {
        let heard = get(&addr, "/checkpoint");
        assert_eq!(heard.status, 200);
        assert!(heard.head.contains("content-type: text/plain; charset=utf-8"), "{}", heard.head);
        assert!(heard.head.contains("max-age=2"), "{}", heard.head);
        let note = String::from_utf8(heard.body).unwrap();
        let signed = SignedCheckpoint::parse(&note).unwrap();
        signed.verify_hub(&key).unwrap();
        assert_eq!(signed.checkpoint().size(), size);
        assert_eq!(
            note.lines().filter(|line| line.starts_with('\u{2014}')).count(),
            3,
            "both members' lines"
        );
        rebuilt(&note, &entries, |path| {
            let heard = get(&addr, &format!("/{path}"));
            assert_eq!(heard.status, 200, "{path}");
            assert!(heard.head.contains("content-type: application/octet-stream"), "{}", heard.head);
            let cache = if path.contains(".p/") { "max-age=86400" } else { "max-age=31536000, immutable" };
            assert!(heard.head.contains(cache), "{path}: {}", heard.head);
            heard.body
        });
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_public_gets_no_entry_and_no_call_and_no_request_stops_the_answers() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, _) = federation(dir.path(), &mut members).await;
    let addr = public(&served.hub).await;
    seal(&served, &mut members).await;
    tokio::task::spawn_blocking(move || {
        assert_eq!(get(&addr, "/tile/0/000.p/3").status, 200);
        let huge = "9".repeat(9000);
        let unknown = [
            "/",
            "",
            "//checkpoint",
            "/checkpoint/",
            "/checkpoint.",
            "/Checkpoint",
            "/tile",
            "/tile/",
            "/tile/0",
            "/tile/entries/000",
            "/tile/entries/000.p/3",
            "/tile/data/000",
            "/v1/sync?size=0&sealed=0&mail=0&wait=0",
            "/v1/entries?from=0&to=3",
            "/v1/submit",
            "/v1/receipt/00",
            "/tile/0/000",
            "/tile/0/000.p/4",
            "/tile/0/000.p/0",
            "/tile/0/000.p/256",
            "/tile/0/000.p/-1",
            "/tile/0/000.p/03",
            "/tile/0/000.p/3/",
            "/tile/0/x-1",
            "/tile/0/x000/000.p/3",
            "/tile/0/001.p/3",
            "/tile/1/000.p/1",
            "/tile/63/000",
            "/tile/64/000",
            "/tile/00/000.p/3",
            "/tile/-1/000",
            "/tile/0/../0/000.p/3",
            "/../hub.key",
            "/tile/0/%2e%2e/000.p/3",
            "/tile/0/x999/x999/x999/x999/x999/x999/999",
            "/tile/0/x18446744073709551615/000",
            "/tile/8/x018/x446/x744/x073/x709/x551/615",
            "/tile/0/000.p/3%00",
            "/tile/0/000.p/18446744073709551616",
        ];
        for path in unknown {
            let heard = get(&addr, path);
            assert!(matches!(heard.status, 400 | 404), "{path}: {}", heard.status);
        }
        let long = get(&addr, &format!("/tile/0/{huge}"));
        assert!((400..500).contains(&long.status), "{}", long.status);
        for method in ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "CONNECT", "PATCH", "BREW"] {
            let request = format!("{method} /checkpoint HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            let status = raw(&addr, request.as_bytes()).status;
            assert!(matches!(status, 400 | 405), "{method}: {status}");
        }
        let odd: [&[u8]; 6] = [
            b"",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET /checkpoint HTTP/9.9\r\n\r\n",
            b"GET /checkpoint HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
            b"GET \xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ];
        for request in odd {
            // Closed at once where it can be no request; one that says nothing is left open and given up here.
            if !request.is_empty() {
                assert_ne!(raw(&addr, request).status, 200);
            }
        }
        let many = format!("GET /checkpoint HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(5000));
        assert!(raw(&addr, many.as_bytes()).status >= 400);
        // Clients that begin and say no more hold up nobody.
        let mut silent: Vec<std::net::TcpStream> = Vec::new();
        for _ in 0..100 {
            let mut tcp = std::net::TcpStream::connect(&addr).unwrap();
            tcp.write_all(b"GET /check").unwrap();
            silent.push(tcp);
        }
        assert_eq!(get(&addr, "/checkpoint").status, 200);
    })
    .await
    .unwrap();
    // And members notice nothing.
    members[0].client(&served).submit(&members[0].note("still here")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_there_is_an_entry_the_public_finds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(Hub::create(dir.path(), &config()).unwrap()).await;
    let addr = public(&served.hub).await;
    let heard =
        tokio::task::spawn_blocking(move || (get(&addr, "/checkpoint"), get(&addr, "/tile/0/000.p/1")));
    let (checkpoint, tile) = heard.await.unwrap();
    assert_eq!((checkpoint.status, tile.status), (404, 404));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_gets_the_cose_receipt_of_what_has_a_quorum_and_nobody_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, _) = federation(dir.path(), &mut members).await;
    let client = members[0].client(&served);
    let note = members[0].note("to be proved");
    let place = client.submit(&note).await.unwrap();
    let path = format!("{}/{}", hub::RECEIPT, note.id());
    let early = refused(client.client().get(&path, 8192).await);
    assert_eq!(early.0, 404, "no quorum yet");
    let size = seal(&served, &mut members).await;
    let receipt = CoseReceipt::read(&client.client().get(&path, 8192).await.unwrap()).unwrap();
    assert_eq!((receipt.origin(), receipt.index(), receipt.size()), ("comity/stroke", place.index, size));
    let entry = client.entries(place.index, place.index + 1).await.unwrap().remove(0);
    let root = receipt.verify(&entry, &served.info.key).unwrap();
    assert_eq!(root, members[0].log.tree().root());
    for (wrong, status) in [("xyz".to_owned(), 400), ("0".repeat(64), 404), ("A".repeat(64), 400)] {
        let path = format!("{}/{wrong}", hub::RECEIPT);
        assert_eq!(refused(client.client().get(&path, 8192).await).0, status, "{wrong}");
    }
    let stranger = Member::new("xx", 90).client(&served);
    assert!(stranger.client().get(&path, 8192).await.is_err());
}
