//! One verified round of 1,000 entries of 32 bits with nine contributors and two aggregators, through the state
//! machines, against bare Prio3 over the same vectors in the same process.
//!
//! `cargo run --release -p comity-rounds --example bench_round`
//!
//! Prints the median processor time of several runs of each, on one thread, and their ratio. The machines add sealing with
//! X-Wing, encoding and decoding of every message, digests and commitments.

use prio::vdaf::prio3::{Prio3, optimal_chunk_length};
use prio::vdaf::{Aggregator as _, Client, Collector, VerifyTransition};
use privacy::{Contribution, LocalRules};
use record::Digest;
use rounds::{Aggregator, KemPublic, KemSecret, Opening, RoundContext, RoundSeed, contribute};
use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;
use study::{Cell, Layout};

const ENTRIES: usize = 1_000;
const BITS: u8 = 32;
const RUNS: usize = 7;
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Processor time of this thread where the system tells it, so that a busy machine does not blur the ratio.
fn clock() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = stat.and_then(|s| s.split_whitespace().next()?.parse().ok());
    nanoseconds
        .map(Duration::from_nanos)
        .unwrap_or_else(|| STARTED.get_or_init(std::time::Instant::now).elapsed())
}

static STARTED: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();

fn names(list: &str) -> Vec<String> {
    list.split_whitespace().map(str::to_owned).collect()
}

fn value(site: usize, entry: usize) -> u64 {
    (site as u64 * 1_000_003 + entry as u64 * 97) % (1 << BITS)
}

/// The round through the machines; returns the time and the bytes that one contributor sends.
fn machines(ctx: &RoundContext) -> Result<(Duration, usize, Vec<u128>)> {
    let everyone: Vec<String> =
        ctx.contributors.iter().chain(&ctx.aggregators).chain([&ctx.collector]).cloned().collect();
    let secrets: BTreeMap<String, KemSecret> =
        everyone.into_iter().map(|p| (p, KemSecret::generate())).collect();
    let keys = |parties: &[String]| -> Vec<(String, KemPublic)> {
        parties.iter().filter_map(|p| Some((p.clone(), secrets.get(p)?.public()))).collect()
    };
    let secret = |party: &str| secrets.get(party).cloned().ok_or("no key");
    let start = clock();

    let mut aggregators = BTreeMap::new();
    let mut mail = Vec::new();
    for me in &ctx.aggregators {
        let others: Vec<String> = ctx.aggregators.iter().filter(|a| *a != me).cloned().collect();
        let machine = Aggregator::new(ctx.clone(), me, secret(me)?, &keys(&others), &RoundSeed::generate()?)?;
        mail.extend(machine.begin()?.into_iter().map(|m| (me.clone(), m)));
        aggregators.insert(me.clone(), machine);
    }
    let rules = LocalRules { rows_read: 1, max_rows: 8192, ..LocalRules::default() };
    let mut sent = 0;
    for (site, me) in ctx.contributors.iter().enumerate() {
        let values: Vec<f64> = (0..ENTRIES).map(|e| value(site, e) as f64).collect();
        let contribution = Contribution::check(&ctx.layout, &values, ctx.plan, &rules)?;
        let sealed = contribute(ctx, me, contribution, &keys(&ctx.aggregators))?;
        sent = sealed.iter().map(|s| s.bytes().len()).sum();
        for share in sealed {
            let machine = aggregators.get_mut(share.to()).ok_or("no such aggregator")?;
            let out = machine.on_contribution(me, share.bytes())?;
            mail.extend(out.into_iter().map(|m| (share.to().to_owned(), m)));
        }
    }
    while let Some((from, message)) = mail.pop() {
        let machine = aggregators.get_mut(&message.to).ok_or("no such aggregator")?;
        let out = machine.on_message(&from, &message.bytes)?;
        mail.extend(out.into_iter().map(|m| (message.to.clone(), m)));
    }
    let mut opening = Opening::new(ctx.clone(), &ctx.collector, secret(&ctx.collector)?)?;
    for (me, machine) in &mut aggregators {
        machine.ready_to_open().ok_or("not ready")?;
        for message in machine.open(&keys(&ctx.readers()))? {
            opening.on_message(me, &message.bytes)?;
        }
    }
    let sum = opening.sum().ok_or("no sum")?.to_vec();
    Ok((clock().saturating_sub(start), sent, sum))
}

/// The same with Prio3 alone: share, verify, add up, unshare; nothing encoded, nothing sealed.
fn bare(sites: usize) -> Result<(Duration, Vec<u128>)> {
    let vdaf =
        Prio3::new_sum_vec(2, (1 << BITS) - 1, ENTRIES, optimal_chunk_length(ENTRIES * usize::from(BITS)))?;
    let (ctx, key) = (b"bench", [7; 32]);
    let start = clock();
    let mut outputs = [Vec::new(), Vec::new()];
    for site in 0..sites {
        let values: Vec<u128> = (0..ENTRIES).map(|e| u128::from(value(site, e))).collect();
        let nonce = [site as u8; 16];
        let (public, inputs) = vdaf.shard(ctx, &values, &nonce)?;
        let mut states = Vec::new();
        let mut shares = Vec::new();
        for (id, input) in inputs.iter().enumerate() {
            let (state, share) = vdaf.verify_init(&key, ctx, id, &(), &nonce, &public, input)?;
            states.push(state);
            shares.push(share);
        }
        let message = vdaf.verifier_shares_to_message(ctx, &(), shares)?;
        for (state, outputs) in states.into_iter().zip(&mut outputs) {
            if let VerifyTransition::Finish(output) = vdaf.verify_next(ctx, state, message.clone())? {
                outputs.push(output);
            }
        }
    }
    let totals: std::result::Result<Vec<_>, _> =
        outputs.into_iter().map(|o| vdaf.aggregate(&(), o)).collect();
    let sum = vdaf.unshard(&(), totals?, sites)?;
    Ok((clock().saturating_sub(start), sum))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn main() -> Result<()> {
    let cell = |i| Cell { name: format!("entry {i}"), lo: 0, shift: 0, bits: BITS };
    let ctx = RoundContext {
        federation: Digest::of(b"charter"),
        study: "bench".into(),
        run: 1,
        stage: 0,
        round: 0,
        contributors: names("ar au ch gb it nl no pl se"),
        aggregators: names("ch se"),
        collector: "no".into(),
        replayed: false,
        plan: Digest::of(b"plan"),
        question: Digest::of(b"question"),
        layout: Layout { cells: (0..ENTRIES).map(cell).collect() },
    };
    let (mut ours, mut prio, mut sent) = (Vec::new(), Vec::new(), 0);
    for _ in 0..RUNS {
        let (time, bytes, sum) = machines(&ctx)?;
        let (bare_time, bare_sum) = bare(ctx.contributors.len())?;
        if sum != bare_sum {
            return Err("the two sums differ".into());
        }
        ours.push(time);
        prio.push(bare_time);
        sent = bytes;
    }
    let (ours, prio) = (median(ours), median(prio));
    println!(
        "one round, 9 contributors, 2 aggregators, {ENTRIES} entries of {BITS} bits, processor time, median of {RUNS}"
    );
    println!("  through the machines  {:8.1} ms", ours.as_secs_f64() * 1e3);
    println!("  bare Prio3            {:8.1} ms", prio.as_secs_f64() * 1e3);
    println!("  ratio                 {:8.2}", ours.as_secs_f64() / prio.as_secs_f64());
    println!("  sent by a contributor {:8} bytes", sent);
    Ok(())
}
