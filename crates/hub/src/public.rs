//! What anybody may read: checkpoints and hash tiles, by plain HTTP (C2SP tlog-tiles).
//!
//! **Threats.** The public learns sizes, times of growth and hashes of entries, each of which holds a signature and so
//! cannot be guessed. Entries are for members over mutual TLS (A13): `tile/entries/` is not found here, and neither is
//! anything else. Signatures are in what is served, so a reader needs no TLS to believe it; who reads must check that a
//! note has the cosignatures that it asks for, since before the first quorum the latest note has none.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request};
use record::tree::{TileKind, TilePath};
use tokio::net::TcpListener;

use crate::state::State;
use crate::web::{self, Answer};
use crate::{Hub, Shared};

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";
/// A tile never changes, a partial one neither; it is only of no use any more once it has grown.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
const PARTIAL: &str = "public, max-age=86400, immutable";
const MOMENT: &str = "public, max-age=2";
/// Longest path of a tile, and then some.
const MAX_PATH: usize = 128;

impl Hub {
    /// Answers the public on `listener` until [`Hub::stop`]: `GET /checkpoint` and `GET /tile/<L>/<N>[.p/<W>]`, nothing
    /// else.
    pub async fn serve_public(&self, listener: TcpListener) {
        let shared = Arc::clone(&self.shared);
        web::serve(listener, self.shared.stop.subscribe(), move |request| {
            let answer = answer(&shared, &request);
            async move { answer }
        })
        .await;
    }
}

fn answer(shared: &Shared, request: &Request<Incoming>) -> Answer {
    let path = request.uri().path();
    if request.method() != Method::GET {
        let mut no = web::answer(405, TEXT, "only GET is answered here\n");
        web::set(&mut no, "allow", "GET");
        return no;
    }
    let found = if path == "/checkpoint" {
        let note = shared.read().witnessed();
        note.map(|note| (web::answer(200, TEXT, note), MOMENT))
    } else {
        tile(shared, path)
    };
    match found {
        Some((mut yes, cache)) => {
            web::set(&mut yes, "cache-control", cache);
            yes
        }
        None => {
            let mut no = web::answer(404, TEXT, "there is no such thing here\n");
            web::set(&mut no, "cache-control", "no-store");
            no
        }
    }
}

fn tile(shared: &Shared, path: &str) -> Option<(Answer, &'static str)> {
    let path: TilePath = path.strip_prefix('/').filter(|path| path.len() < MAX_PATH)?.parse().ok()?;
    let bytes = shared.read().hash_tile(&path)?;
    let cache = if path.width == 256 { IMMUTABLE } else { PARTIAL };
    Some((web::answer(200, BYTES, bytes), cache))
}

impl State {
    /// The latest checkpoint that a quorum cosigned, with all cosignatures; before there is one, the latest.
    pub(crate) fn witnessed(&self) -> Option<String> {
        self.sealed_note().or_else(|| self.latest())
    }

    /// A tile of hashes within the latest checkpoint; `None` for entries, which are not this tree's.
    pub(crate) fn hash_tile(&self, path: &TilePath) -> Option<Vec<u8>> {
        let TileKind::Hashes(level) = path.kind else { return None };
        end_within(path, level, self.published())?;
        self.tree.tile(path).ok()
    }
}

/// The end of a tile on its level, if a tree of `size` entries has all of it.
pub(crate) fn end_within(path: &TilePath, level: u8, size: u64) -> Option<u64> {
    let end = path.index.checked_mul(256)?.checked_add(u64::from(path.width))?;
    let nodes = size.checked_shr(8 * u32::from(level)).unwrap_or(0);
    (nodes >= end).then_some(end)
}
