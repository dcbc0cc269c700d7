//! The hub's side of C2SP tlog-witness: it asks witnesses outside the federation to cosign its checkpoints.
//!
//! **Threats.** A witness may answer anything, late or never: answers are bounded, only a line under the key that was
//! named is taken, one that tells changing sizes is asked again a few times and then left alone for a while, and each is
//! asked by a task of its own, so that none holds up another. Who stands between can drop and delay, no more. A witness
//! that knows of a larger tree than this hub has says that this hub lost entries or that there are two: that is told
//! loudly.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use http_body_util::Full;
use hyper::Request;
use record::witness::{MAX_ANSWER, SIZE_TYPE, add_checkpoint, cosignature_in};
use record::{Cosignature, PublicKey, Roster, SignedCheckpoint, Tree};
use tokio::task::AbortHandle;
use wire::api::Cosign;

use crate::web::Web;
use crate::writer::Job;
use crate::{Hub, Shared, calls};

/// Between two checkpoints for one witness.
const PACE: Duration = Duration::from_millis(100);
/// After this long the same checkpoint is cosigned again. Its cosignatures say how old the watermark is, and where a
/// witness is needed a log in which nobody says anything would else look like one that its hub starves.
const REFRESH: Duration = Duration::from_secs(30);
/// How long one call may take.
const CALL: Duration = Duration::from_secs(10);
/// Waits after failures: doubled up to the longest.
const RETRY: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(60);
/// How often in a row a witness may name another size.
const CORRECTIONS: u32 = 3;

/// A witness outside the federation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutsideWitness {
    /// the name on its cosignatures
    pub name: String,
    /// its submission prefix, `https://...`; `/add-checkpoint` is put behind it
    pub url: String,
    /// the key that its cosignatures verify under
    pub key: PublicKey,
}

/// Who is given each valid cosignature line, with the size that it is for.
pub type Take = Arc<dyn Fn(u64, &str) + Send + Sync>;

impl Hub {
    /// Asks the witnesses that `list` names, which is asked again whenever the log grows, to cosign each latest
    /// checkpoint, and hands their lines to `take`. Until [`Hub::stop`].
    pub async fn ask_witnesses(
        &self,
        web: &Web,
        list: impl Fn(&Roster) -> Vec<OutsideWitness> + Send,
        take: Take,
    ) {
        let (mut news, mut stop) = (self.shared.news.subscribe(), self.shared.stop.subscribe());
        let mut asked: BTreeMap<OutsideWitness, Ended> = BTreeMap::new();
        while !*stop.borrow_and_update() {
            news.mark_unchanged();
            let named = list(&self.shared.read().roster);
            asked.retain(|witness, _| named.contains(witness));
            for witness in named {
                asked.entry(witness.clone()).or_insert_with(|| {
                    let asker = Asker {
                        shared: Arc::clone(&self.shared),
                        web: web.clone(),
                        take: Arc::clone(&take),
                        asking: Asking::new(witness),
                    };
                    Ended(tokio::spawn(asker.run()).abort_handle())
                });
            }
            tokio::select! {
                biased;
                _ = stop.changed() => {}
                changed = news.changed() => if changed.is_err() { break },
            }
        }
    }

    /// Counts a cosignature line of a witness as one of a member is counted. One that does not hold, or by a name that
    /// the roster does not know, changes nothing.
    pub fn count_line(&self, size: u64, line: &str) {
        let shared = &self.shared;
        let Ok(cosignature) = Cosignature::from_line(line) else { return };
        let name = cosignature.name().to_owned();
        let message = Cosign { size, line: line.to_owned() };
        let counted = calls::count(&mut shared.write(), message, cosignature);
        match counted {
            Ok(counting) => {
                if counting.sealed {
                    shared.publish();
                    shared.tell();
                }
                let kept = counting.keep.into_iter().map(|order| shared.queue(Job { order, reply: None }));
                for refusal in kept.filter_map(Result::err).collect::<Vec<_>>() {
                    tracing::warn!(%name, size, error = refusal.error, "a witness's cosignature was not kept");
                }
            }
            Err(refusal) => {
                tracing::debug!(%name, size, error = refusal.error, "a witness's cosignature is not counted");
            }
        }
    }
}

/// Ends its task when it goes.
struct Ended(AbortHandle);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Asker {
    shared: Arc<Shared>,
    web: Web,
    take: Take,
    asking: Asking,
}

impl Asker {
    async fn run(mut self) {
        let mut news = self.shared.news.subscribe();
        let mut wait = RETRY;
        loop {
            news.mark_unchanged();
            let latest = self.shared.read().latest_signed();
            let left = latest.as_ref().map(|signed| self.asking.due_in(signed, Instant::now()));
            let Some(signed) = latest.filter(|_| left == Some(Duration::ZERO)) else {
                tokio::select! {
                    changed = news.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(left.unwrap_or(REFRESH)) => {}
                }
                continue;
            };
            match self.ask(&signed).await {
                Heard::Cosigned(line) => {
                    (self.take)(signed.checkpoint().size(), &line);
                    wait = RETRY;
                    tokio::time::sleep(PACE).await;
                }
                Heard::Again => {}
                Heard::No(reason) => {
                    tracing::warn!(witness = self.asking.witness.name, %reason, "a witness did not cosign");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST);
                }
            }
        }
    }

    async fn ask(&mut self, signed: &SignedCheckpoint) -> Heard {
        let (body, size) = {
            let state = self.shared.read();
            (self.asking.body(signed, &state.tree), state.tree.size())
        };
        let Some(body) = body else {
            let known = self.asking.known;
            if known > size {
                tracing::error!(
                    witness = self.asking.witness.name,
                    known,
                    size,
                    "a witness cosigned a larger tree than this hub has; were entries lost, or are there two hubs?"
                );
            }
            // Told anew each time, so that a witness that lied or was mended is heard again.
            self.asking.known = 0;
            return Heard::No(format!("it knows {known} entries, this hub has {size}"));
        };
        let url = format!("{}/add-checkpoint", self.asking.witness.url.trim_end_matches('/'));
        let request = Request::post(url).header("content-type", "text/plain; charset=utf-8");
        let request = match request.body(Full::new(Bytes::from(body))) {
            Ok(request) => request,
            Err(e) => return Heard::No(e.to_string()),
        };
        match self.web.call(request, MAX_ANSWER, CALL).await {
            Ok(answer) => {
                let kind = answer.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or("");
                self.asking.hear(signed, answer.status().as_u16(), kind, answer.body())
            }
            Err(e) => Heard::No(e.to_string()),
        }
    }
}

/// What came of asking.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// a line that holds
    Cosigned(String),
    /// it goes on from another size; to be asked again at once
    Again,
    /// nothing, and why
    No(String),
}

/// What is known of one witness.
struct Asking {
    witness: OutsideWitness,
    /// size of the tree that it cosigned last, as far as is known
    known: u64,
    /// the largest size for which its line was taken in this run
    cosigned: u64,
    /// when it was
    at: Option<Instant>,
    corrections: u32,
}

impl Asking {
    fn new(witness: OutsideWitness) -> Self {
        Self { witness, known: 0, cosigned: 0, at: None, corrections: 0 }
    }

    /// How long until it is to be asked about this checkpoint: at once for a larger one, after a while for the same.
    fn due_in(&self, signed: &SignedCheckpoint, now: Instant) -> Duration {
        match self.at {
            Some(at) if signed.checkpoint().size() <= self.cosigned => {
                REFRESH.saturating_sub(now.saturating_duration_since(at))
            }
            _ => Duration::ZERO,
        }
    }

    /// The request; `None` if the witness knows a larger tree than this checkpoint's.
    fn body(&self, signed: &SignedCheckpoint, tree: &Tree) -> Option<String> {
        add_checkpoint(self.known, signed, tree).ok()
    }

    fn hear(&mut self, signed: &SignedCheckpoint, status: u16, kind: &str, body: &[u8]) -> Heard {
        let size = signed.checkpoint().size();
        let text = std::str::from_utf8(body).unwrap_or("");
        if status == 200 {
            self.corrections = 0;
            return match cosignature_in(text, signed, &self.witness.name, &self.witness.key) {
                Ok(cosignature) => {
                    (self.known, self.cosigned, self.at) = (size, size, Some(Instant::now()));
                    Heard::Cosigned(cosignature.to_line())
                }
                Err(e) => Heard::No(e.to_string()),
            };
        }
        let told = (status == 409 && kind == SIZE_TYPE)
            .then(|| text.strip_suffix('\n')?.parse::<u64>().ok().filter(|n| format!("{n}\n") == text))
            .flatten();
        match told {
            Some(told) if told != self.known && self.corrections < CORRECTIONS => {
                self.corrections += 1;
                self.known = told;
                Heard::Again
            }
            Some(told) => {
                self.corrections = 0;
                Heard::No(format!("it was asked to go on from {} and says {told}", self.known))
            }
            None => {
                let said: String = text.chars().filter(|c| !c.is_control()).take(120).collect();
                Heard::No(format!("status {status}: {said}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use record::witness::{AddCheckpoint, Seen, Witness};
    use record::{Checkpoint, SecretKey};

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed([seed; 32])
    }

    fn asking() -> Asking {
        let (name, url) = ("w.example".to_owned(), "http://w.example".to_owned());
        Asking::new(OutsideWitness { name, url, key: key(7).public() })
    }

    fn log(size: u64) -> (Tree, SignedCheckpoint) {
        let mut tree = Tree::new();
        (0..size).for_each(|n| {
            tree.append(&n.to_be_bytes());
        });
        let signed = Checkpoint::new("comity/t", size, tree.root()).unwrap().sign(&key(1));
        (tree, signed)
    }

    fn line(body: &str, seen: Option<Seen>) -> String {
        let request = AddCheckpoint::parse(body.as_bytes()).unwrap();
        let witness = Witness::new("w.example", key(7)).unwrap();
        witness.consider(&request, Some(&key(1).public()), seen, 5).unwrap().kept()
    }

    #[test]
    fn a_witness_that_tells_its_size_is_asked_from_there() {
        let (tree, signed) = log(9);
        let mut asking = asking();
        assert!(asking.body(&signed, &tree).unwrap().starts_with("old 0\n\n"));
        assert_eq!(asking.hear(&signed, 409, SIZE_TYPE, b"4\n"), Heard::Again);
        let body = asking.body(&signed, &tree).unwrap();
        let seen = Seen { size: 4, root: tree.root_at(4).unwrap() };
        let line = line(&body, Some(seen));
        assert_eq!(asking.hear(&signed, 200, "", line.as_bytes()), Heard::Cosigned(line.clone()));
        assert_eq!((asking.known, asking.cosigned), (9, 9));
    }

    #[test]
    fn a_log_that_stands_still_is_cosigned_again_every_half_minute_and_one_that_grew_at_once() {
        let (tree, signed) = log(9);
        let mut asking = asking();
        let now = Instant::now();
        assert_eq!(asking.due_in(&signed, now), Duration::ZERO, "never cosigned");
        let first = line(&asking.body(&signed, &tree).unwrap(), None);
        assert!(matches!(asking.hear(&signed, 200, "", first.as_bytes()), Heard::Cosigned(_)));
        let at = asking.at.unwrap();
        assert_eq!(asking.due_in(&signed, at), REFRESH);
        assert_eq!(asking.due_in(&signed, at + Duration::from_secs(29)), Duration::from_secs(1));
        assert_eq!(asking.due_in(&log(10).1, at), Duration::ZERO, "it grew");
        assert_eq!(asking.due_in(&signed, at + REFRESH), Duration::ZERO);
        // The witness has that very tree already: the request goes on from it with an empty proof, and is cosigned.
        let body = asking.body(&signed, &tree).unwrap();
        assert!(body.starts_with("old 9\n\n"));
        let again = line(&body, Some(Seen { size: 9, root: tree.root() }));
        assert!(matches!(asking.hear(&signed, 200, "", again.as_bytes()), Heard::Cosigned(_)));
        assert!(asking.at.unwrap() >= at);
    }

    #[test]
    fn what_is_no_answer_of_the_protocol_moves_nothing() {
        let (tree, signed) = log(9);
        let mut asking = asking();
        let good = line(&asking.body(&signed, &tree).unwrap(), None);
        let (_, other) = log(8);
        let answers: [(u16, &str, &[u8]); 9] = [
            (409, "text/plain", b"4\n"),
            (409, SIZE_TYPE, b"4"),
            (409, SIZE_TYPE, b"04\n"),
            (409, SIZE_TYPE, b"-1\n"),
            (409, SIZE_TYPE, b"\xff\n"),
            (200, "", b""),
            (200, "", b"nonsense"),
            (500, SIZE_TYPE, b"4\n"),
            (302, "", b""),
        ];
        for (status, kind, body) in answers {
            assert!(matches!(asking.hear(&signed, status, kind, body), Heard::No(_)), "{status} {body:?}");
            assert_eq!((asking.known, asking.cosigned), (0, 0));
        }
        assert!(matches!(asking.hear(&other, 200, "", good.as_bytes()), Heard::No(_)), "of another tree");
    }

    #[test]
    fn a_witness_that_changes_its_size_for_ever_is_left_alone() {
        let (_, signed) = log(9);
        let mut asking = asking();
        let heard: Vec<Heard> =
            (1..=4u64).map(|n| asking.hear(&signed, 409, SIZE_TYPE, format!("{n}\n").as_bytes())).collect();
        assert!(matches!(heard.as_slice(), [Heard::Again, Heard::Again, Heard::Again, Heard::No(_)]));
    }

    #[test]
    fn a_witness_ahead_of_the_log_gets_no_request() {
        let (tree, signed) = log(9);
        let mut asking = asking();
        assert_eq!(asking.hear(&signed, 409, SIZE_TYPE, b"18446744073709551615\n"), Heard::Again);
        assert!(asking.body(&signed, &tree).is_none());
    }
}
