//! A witness of ours when the hub of a log is replaced: the same origin, another key, and a beginning that may lie below
//! what the witness cosigned last.

use std::path::Path;

use hub::witness::{Followed, WitnessHouse, add_log, init};
use record::witness::{SIZE_TYPE, add_checkpoint};
use record::{Checkpoint, Cosignature, SecretKey, Tree};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::plain::post;

const ORIGIN: &str = "comity/stroke";
const OLD: u8 = 1;
const NEXT: u8 = 2;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn hex(seed: u8) -> String {
    key(seed).public().to_string()
}

/// A log of `size` leaves; from `parts` on they are of another history.
fn tree(size: u64, parts: u64) -> Tree {
    let mut tree = Tree::new();
    (0..size).for_each(|n| {
        tree.append(format!("leaf {n}{}", if n < parts { "" } else { " beside" }).as_bytes());
    });
    tree
}

/// What a hub with the key `by` asks.
fn request(by: u8, old: u64, tree: &Tree) -> Vec<u8> {
    let signed = Checkpoint::new(ORIGIN, tree.size(), tree.root()).unwrap().sign(&key(by));
    add_checkpoint(old, &signed, tree).unwrap().into_bytes()
}

struct Served {
    addr: String,
    stop: watch::Sender<bool>,
}

impl Served {
    async fn of(dir: &Path) -> Served {
        let witness = WitnessHouse::open(dir).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(async move { witness.serve(listener, stopped).await });
        Served { addr, stop }
    }

    /// The status, and the size in a conflict.
    async fn ask(&self, body: Vec<u8>) -> (u16, Option<u64>) {
        let addr = self.addr.clone();
        let heard = tokio::task::spawn_blocking(move || post(&addr, "/add-checkpoint", &body)).await.unwrap();
        let text = String::from_utf8(heard.body).unwrap();
        if heard.status == 200 {
            Cosignature::from_line(&text).unwrap();
        }
        let size = heard.head.contains(&format!("content-type: {SIZE_TYPE}"));
        (heard.status, size.then(|| text.trim().parse().unwrap()))
    }
}

fn made(dir: &Path) {
    init(dir, "w.example/w1").unwrap();
    add_log(dir, ORIGIN, &hex(OLD), None).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_next_hub_goes_on_below_what_was_cosigned_last_and_the_one_before_it_gets_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let served = Served::of(dir.path()).await;
    let old = tree(12, 12);
    for (from, to) in [(0, 5), (5, 8), (8, 12)] {
        assert_eq!(served.ask(request(OLD, from, &tree(to, to))).await, (200, None));
    }
    // The term begins at 10: the old hub's last two entries go back to pending and are entered elsewhere.
    let next = tree(13, 10);
    assert_eq!(served.ask(request(NEXT, 0, &next)).await.0, 403, "nobody said that there is another hub");
    assert!(add_log(dir.path(), ORIGIN, &hex(NEXT), None).is_err(), "not without saying where it begins");
    let followed = add_log(dir.path(), ORIGIN, &hex(NEXT), Some(10)).unwrap();
    assert_eq!(followed, Followed { key: key(NEXT).public(), from: 8, left: Some(12) });
    // The old hub is cosigned no more: neither what it showed, nor more of it, nor at the next hub's size.
    for body in [request(OLD, 12, &old), request(OLD, 12, &tree(14, 14)), request(OLD, 8, &tree(9, 9))] {
        assert_eq!(served.ask(body).await, (403, None));
    }
    // The next hub is held to what was cosigned below its beginning, and told where that is.
    assert_eq!(served.ask(request(NEXT, 0, &next)).await, (409, Some(8)));
    assert_eq!(served.ask(request(NEXT, 8, &tree(13, 7))).await, (422, None), "another history below it");
    assert_eq!(served.ask(request(NEXT, 8, &tree(8, 7))).await, (409, Some(8)));
    assert_eq!(served.ask(request(NEXT, 8, &next)).await, (200, None));
    // From here on it only grows, as under any key; and that is so after a restart.
    served.stop.send_replace(true);
    drop(served);
    let served = loop {
        if WitnessHouse::open(dir.path()).is_ok() {
            break Served::of(dir.path()).await;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(served.ask(request(NEXT, 8, &tree(14, 9))).await, (409, Some(13)));
    assert_eq!(served.ask(request(NEXT, 13, &tree(14, 9))).await, (422, None));
    assert_eq!(served.ask(request(NEXT, 13, &next)).await, (200, None), "the same again");
    assert_eq!(served.ask(request(NEXT, 13, &tree(15, 10))).await, (200, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_typed_wrong_can_be_said_again_until_something_was_cosigned_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    init(dir, "w.example/w1").unwrap();
    assert!(add_log(dir, ORIGIN, &hex(NEXT), Some(3)).is_err(), "nothing to go on from");
    add_log(dir, ORIGIN, &hex(OLD), None).unwrap();
    let served = Served::of(dir).await;
    for (from, to) in [(0, 4), (4, 9)] {
        served.ask(request(OLD, from, &tree(to, to))).await;
    }
    // Another key, another base: each stands for the one said before.
    assert_eq!(add_log(dir, ORIGIN, &hex(3), Some(9)).unwrap().from, 9);
    assert_eq!(add_log(dir, ORIGIN, &hex(NEXT), Some(2)).unwrap().from, 0);
    assert_eq!(add_log(dir, ORIGIN, &hex(NEXT), Some(u64::MAX)).unwrap().from, 9);
    assert_eq!(served.ask(request(3, 9, &tree(10, 10))).await.0, 403);
    // Taken back, the old key goes on from all that it had, and no history beside that.
    assert_eq!(
        add_log(dir, ORIGIN, &hex(OLD), Some(4)).unwrap(),
        Followed { key: key(OLD).public(), from: 9, left: None }
    );
    assert_eq!(served.ask(request(OLD, 4, &tree(9, 5))).await, (409, Some(9)));
    assert_eq!(served.ask(request(OLD, 9, &tree(10, 10))).await, (200, None));
    assert!(add_log(dir, ORIGIN, &hex(OLD), Some(4)).is_err(), "a first key does not begin elsewhere");

    assert_eq!(add_log(dir, ORIGIN, &hex(NEXT), Some(9)).unwrap().from, 9);
    assert_eq!(served.ask(request(NEXT, 9, &tree(11, 9))).await, (200, None));
    // Now it stands, as often as the same is said.
    assert_eq!(add_log(dir, ORIGIN, &hex(NEXT), Some(9)).unwrap().from, 11);
    assert_eq!(add_log(dir, ORIGIN, &hex(NEXT), None).unwrap().from, 11);
    assert!(add_log(dir, ORIGIN, &hex(NEXT), Some(4)).is_err());
    for base in [None, Some(0), Some(9), Some(11)] {
        assert!(add_log(dir, ORIGIN, &hex(OLD), base).is_err(), "a hub that was followed stays so");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_hub_is_held_to_what_lies_below_every_beginning() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let served = Served::of(dir.path()).await;
    for (from, to) in [(0, 4), (4, 9)] {
        assert_eq!(served.ask(request(OLD, from, &tree(to, to))).await, (200, None));
    }
    add_log(dir.path(), ORIGIN, &hex(NEXT), Some(6)).unwrap();
    assert_eq!(served.ask(request(NEXT, 4, &tree(12, 6))).await, (200, None));
    // It begins above the second's beginning but below all that was cosigned of it: the first hub's end up to 9 is of
    // neither history.
    assert_eq!(add_log(dir.path(), ORIGIN, &hex(3), Some(10)).unwrap().from, 4);
    assert_eq!(served.ask(request(3, 4, &tree(13, 3))).await, (422, None));
    assert_eq!(served.ask(request(3, 4, &tree(13, 6))).await, (200, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_thousands_of_checkpoints_a_next_hub_is_held_to_one_near_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let served = Served::of(dir.path()).await;
    // Written as the witness writes them: one for every entry, pruned as it goes.
    let mut whole = Tree::new();
    let mut from = 0;
    for n in 0..3000u64 {
        whole.append(format!("leaf {n}").as_bytes());
        if n % 2 == 0 {
            assert_eq!(served.ask(request(OLD, from, &whole)).await.0, 200);
            from = whole.size();
        }
    }
    let near = |base: u64| add_log(dir.path(), ORIGIN, &hex(NEXT), Some(base)).unwrap().from;
    assert_eq!(near(2998), 2997);
    assert_eq!(near(1501), 1501);
    // Older ones are kept thinly.
    let far = near(900);
    assert!((1..=900).contains(&far), "{far}");
    assert_eq!(near(0), 0);
    let kept = rusqlite::Connection::open(dir.path().join("witness.db")).unwrap();
    let kept: i64 = kept.query_row("select count(*) from seen", [], |row| row.get(0)).unwrap();
    assert!((1024..1030).contains(&kept), "{kept}");
}

#[test]
fn a_store_of_the_first_form_goes_on_with_what_it_had_cosigned() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let root = tree(7, 7).root();
    let store = rusqlite::Connection::open(dir.path().join("witness.db")).unwrap();
    store
        .execute_batch(
            "drop table term; drop table seen; pragma user_version = 1;
             create table log (origin text primary key, key text not null, size integer not null,
                root blob not null) strict;",
        )
        .unwrap();
    let row = rusqlite::params![ORIGIN, hex(OLD), 7i64, root.as_bytes()];
    store.execute("insert into log values (?1, ?2, ?3, ?4)", row).unwrap();
    drop(store);
    assert_eq!(add_log(dir.path(), ORIGIN, &hex(OLD), None).unwrap().from, 7);
    assert!(add_log(dir.path(), ORIGIN, &hex(NEXT), None).is_err());
    assert_eq!(add_log(dir.path(), ORIGIN, &hex(NEXT), Some(8)).unwrap().from, 7);
    let store = rusqlite::Connection::open(dir.path().join("witness.db")).unwrap();
    store.execute_batch("pragma user_version = 9").unwrap();
    drop(store);
    assert!(WitnessHouse::open(dir.path()).is_err(), "of a later version");
}
