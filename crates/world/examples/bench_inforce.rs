//! From handing in a statement to its being in force at its own node, over a line with a round trip.
//!
//! `cargo run --release -p comity-world --example bench_inforce -- [--statements N] [--round-trip MS]`
//!
//! Four nodes and a hub, each as it is served, over mutual TLS on loopback; between each node and the hub a relay holds
//! every byte for half the round trip. One node says that it is started again, a hundred times, one after the other; the
//! time runs until its own state has it, which takes entry, checkpoint, the cosignatures of three and their return. How
//! often the command asks adds up to two milliseconds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hub::{Hub, HubConfig};
use node::{Command, Config};
use record::Digest;

const MEMBERS: [&str; 4] = ["gb", "it", "no", "ch"];

/// Carries bytes one way, each as much later as `delay` says.
fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (held, due) = mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        for (at, bytes) in due {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if held.send((Instant::now() + delay, buffer[..length].to_vec())).is_err() {
                return;
            }
        }
    });
}

/// A relay to `target` that holds every byte for `delay`; its address.
fn relay(target: String, delay: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (Ok(near), Ok(far)) = (near, TcpStream::connect(&target)) else { return };
            near.set_nodelay(true).unwrap();
            far.set_nodelay(true).unwrap();
            carry(near.try_clone().unwrap(), far.try_clone().unwrap(), delay);
            carry(far, near, delay);
        }
    });
    addr
}

fn head(hub: &Hub) -> String {
    let info = hub.info();
    format!(
        "federation = \"bench\"\ntitle = \"Four\"\nsunset = \"2099-12-31\"\nfloor = \"{}\"\npurposes = \
         [\"stroke-research\"]\naggregator_pool = [\"it\", \"no\"]\n\n[hub]\noperator = \"Example Trust\"\njurisdiction \
         = \"NL\"\nkey = \"{}\"\ntls = \"{}\"\n\n[data_access]\nquorum = 3\ndeadline_hours = 72\nvalid_days = \
         90\n\n[limits]\nlease_hours = 24\nwatermark_minutes = 10\nmin_hidden_sites = 3\n\n",
        Digest::of(policy::FLOOR.as_bytes()),
        info.key,
        info.tls
    )
}

/// Runs a command that says something and waits until it is in force.
fn say(dir: &Path, command: Command) -> Duration {
    let begun = Instant::now();
    let reply = node::service::call(dir, command).unwrap();
    assert_eq!(reply.exit, 0, "{}", reply.text);
    for id in reply.statements {
        loop {
            let seen = node::service::call(dir, Command::Statement { id: id.clone() }).unwrap();
            assert!(seen.data.get("void").is_none_or(|why| why.is_null()), "{}", seen.data);
            if seen.data.get("in_force").and_then(serde_json::Value::as_bool) == Some(true) {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "not in force: {}", seen.data);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    begun.elapsed()
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let option = |name: &str, default: u64| {
        let at = words.iter().position(|w| w == name);
        at.and_then(|at| words.get(at + 1)).map_or(default, |n| n.parse().expect("a number"))
    };
    let (count, trip) = (option("--statements", 20), option("--round-trip", 20));
    let dir = tempfile::Builder::new().prefix("comity-").tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config =
        HubConfig { federation: "bench".into(), operator: "Example Trust".into(), jurisdiction: "NL".into() };
    let hub = Hub::create(&dir.path().join("hub"), &config).unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut charter = head(&hub);
    let served = hub.clone();
    runtime.spawn(async move { served.serve(listener).await });
    let mut configs = Vec::new();
    for id in MEMBERS {
        let through = relay(address.clone(), Duration::from_micros(trip * 500));
        let config = Config {
            id: id.into(),
            name: format!("Unit {id}"),
            jurisdiction: id.to_uppercase(),
            control: format!("unit-{id}"),
            hub: Some(through),
            peer_listen: None,
            proxy: None,
        };
        charter.push_str(&node::config::init(&dir.path().join(id), &config).unwrap());
        charter.push('\n');
        configs.push(config);
    }
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for id in MEMBERS {
        let folder = dir.path().join(id);
        std::fs::write(folder.join("charter.toml"), &charter).unwrap();
        let mut stopped = stopped.clone();
        runtime.spawn(async move {
            let stop = async move { drop(stopped.wait_for(|stop| *stop).await) };
            if let Err(e) = node::service::serve(&folder, stop).await {
                eprintln!("{e}");
            }
        });
    }
    let gb = dir.path().join("gb");
    let begun = Instant::now();
    // A command to a node that does not answer yet would open its folder in its place.
    while !node::service::socket(&gb).exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no node in a minute");
        std::thread::sleep(Duration::from_millis(50));
    }
    while node::service::call(&gb, Command::PolicyShow).is_ok_and(|r| r.data["published"] != true) {
        assert!(begun.elapsed() < Duration::from_secs(60), "no floor in a minute");
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut times: Vec<Duration> = (0..count).map(|_| say(&gb, Command::Resume)).collect();
    times.sort_unstable();
    let at =
        |part: f64| times[((times.len() as f64 * part) as usize).min(times.len() - 1)].as_secs_f64() * 1e3;
    println!("{count} statements, {} members, round trip {trip} ms injected", MEMBERS.len());
    println!("{:<8}{:>12}{:>20}", "", "ms", "of the round trip");
    for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
        println!("{name:<8}{:>12.0}{:>20.1}", at(part), at(part) / trip as f64);
    }
    stop.send_replace(true);
    hub.stop();
    runtime.shutdown_timeout(Duration::from_secs(5));
}
