//! What grows how with the number of members: `cargo run --release -p comity-world --example growth [SIZES]`.
//!
//! Each size runs in a child process of this one, so that peaks of memory do not mix. All members and the hub are in one
//! process and one thread, so times are processor time of the whole federation, and a member's is that divided by
//! their number. Ratios are what to look at: between two sizes, how much more a member has to do.

use privacy::{Contribution, LocalRules};
use record::Digest;
use rounds::{Aggregator, KemPublic, KemSecret, Opening, RoundContext, RoundSeed, contribute};
use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};
use study::{Cell, Layout};
use world::{Federation, Question, Setup};

const ENTRIES: usize = 200;
const BITS: u8 = 32;
const STATEMENTS: usize = 3;
/// A charter takes no more members.
const MOST: usize = 128;
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Processor time of this thread where the system tells it.
fn clock() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = stat.and_then(|s| s.split_whitespace().next()?.parse().ok());
    nanoseconds.map(Duration::from_nanos).unwrap_or_else(|| STARTED.get_or_init(Instant::now).elapsed())
}

static STARTED: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();

/// One verified round through the machines; the time, and the bytes that one contributor sends.
fn round(members: usize) -> Result<(f64, usize)> {
    let cell = |i| Cell { name: format!("entry {i}"), lo: 0, shift: 0, bits: BITS };
    let ctx = RoundContext {
        federation: Digest::of(b"charter"),
        study: "growth".into(),
        run: 1,
        stage: 0,
        round: 0,
        contributors: (0..members).map(|i| format!("m{i:03}")).collect(),
        aggregators: vec!["a".into(), "b".into()],
        collector: "c".into(),
        replayed: false,
        plan: Digest::of(b"plan"),
        question: Digest::of(b"question"),
        layout: Layout { cells: (0..ENTRIES).map(cell).collect() },
    };
    let everyone = ctx.contributors.iter().chain(&ctx.aggregators).chain([&ctx.collector]).cloned();
    let secrets: BTreeMap<String, KemSecret> = everyone.map(|p| (p, KemSecret::generate())).collect();
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
        let values: Vec<f64> = (0..ENTRIES).map(|e| (site * 1009 + e * 97) as f64).collect();
        let contribution = Contribution::check(&ctx.layout, &values, ctx.plan, &rules)?;
        let sealed = contribute(&ctx, me, contribution, &keys(&ctx.aggregators))?;
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
    opening.sum().ok_or("no sum")?;
    Ok(((clock().saturating_sub(start)).as_secs_f64() * 1e3, sent))
}

fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// One size; prints numbers for the parent.
fn measure(members: usize) -> Result<()> {
    let (round_ms, round_bytes) = round(members)?;
    if members > MOST {
        println!("RESULT 0 {round_ms} 0 0 0 {} {round_bytes} 0", peak());
        return Ok(());
    }
    let founding = clock();
    let federation = Federation::found(&Setup::of(members))?;
    let founded = clock().saturating_sub(founding).as_secs_f64() * 1e3;
    let mut world = federation.begin(7)?;
    if !world.until_in_force() {
        return Err("the federation does not wake".into());
    }
    world.rest("the morning")?;
    let mut times = Vec::new();
    for _ in 0..STATEMENTS {
        let start = clock();
        world.must(0, node::Command::Resume)?;
        // The statement is on its way; it is in force when the hub has one more and all watermarks cover it.
        world.until_entered();
        if !world.until_in_force() {
            return Err("a statement does not come into force".into());
        }
        times.push(clock().saturating_sub(start).as_secs_f64() * 1e3);
        world.rest("the statement")?;
    }
    times.sort_by(f64::total_cmp);
    let statement = times.get(STATEMENTS / 2).copied().unwrap_or_default();
    let before = world.traffic();
    let mut study = None;
    if federation.holders.len() >= 6 && members >= 8 {
        let ids = federation.ids();
        let holders: Vec<String> = federation.holders.iter().filter_map(|m| ids.get(*m).cloned()).collect();
        let text = Question::Count.text_for("growth", "gb", ["ch", "se"], "no", &holders);
        let start = clock();
        if !world.answer_study(&text, "growth", &federation.holders)? {
            return Err("the study is not released".into());
        }
        study = Some(clock().saturating_sub(start).as_secs_f64() * 1e3);
    }
    let after = world.traffic();
    let sites = after.iter().zip(&before).filter(|(a, _)| a.2 > 0);
    let bytes: Vec<(u64, u64)> = sites.map(|(a, b)| (a.2 - b.2, a.0 - b.0 + a.1 - b.1)).collect();
    let mean = |f: fn(&(u64, u64)) -> u64| bytes.iter().map(f).sum::<u64>() / (bytes.len() as u64).max(1);
    println!(
        "RESULT {statement} {round_ms} {} {} {} {} {} {founded}",
        study.unwrap_or(0.0),
        mean(|b| b.0),
        mean(|b| b.1),
        peak(),
        round_bytes
    );
    Ok(())
}

struct Row {
    members: usize,
    /// statement, round, study, contribution bytes, total bytes a site, peak, round bytes, founding
    numbers: Vec<f64>,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, size] = args.as_slice()
        && flag == "--one"
    {
        return measure(size.parse()?);
    }
    let sizes: Vec<usize> = if args.is_empty() {
        vec![3, 9, 36, 64, 100]
    } else {
        args.iter().map(|a| a.parse()).collect::<std::result::Result<_, _>>()?
    };
    println!(
        "processor time of all members and the hub together, in milliseconds; (a member's in brackets)\n"
    );
    println!(
        "members   submit to in force       one round    whole crosstab      bytes a site  of it contribution    peak memory     founding"
    );
    let mut rows: Vec<Row> = Vec::new();
    for members in sizes {
        let child = std::process::Command::new(std::env::current_exe()?)
            .args(["--one", &members.to_string()])
            .stderr(std::process::Stdio::inherit())
            .output()?;
        let text = String::from_utf8_lossy(&child.stdout);
        let Some(line) = text.lines().find_map(|l| l.strip_prefix("RESULT ")) else {
            println!("{members:>7}   failed: {text}");
            continue;
        };
        let numbers: Vec<f64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let [statement, round, study, contribution, total, peak, _, founded] = numbers[..] else {
            return Err("a child spoke nonsense".into());
        };
        let n = members as f64;
        if members > MOST {
            println!("{members:>7}   a charter takes {MOST} members at most; one round alone: {round:.1} ms");
            rows.push(Row { members, numbers: vec![0.0, round, 0.0, 0.0, 0.0, 0.0] });
            continue;
        }
        let whole =
            if study > 0.0 { format!("{study:>9.0} ({:>6.1})", study / n) } else { "none computes".into() };
        println!(
            "{members:>7}   {statement:>9.1} ({:>6.2})   {round:>10.1}  {whole:>17}   {:>11.1} KiB      {:>9.1} KiB  {:>9.1} MiB   {founded:>9.0}",
            statement / n,
            total / 1024.0,
            contribution / 1024.0,
            peak / 1024.0,
        );
        rows.push(Row { members, numbers });
    }
    println!(
        "\nFewer than eight members compute nothing: eight are the fewest of whom three sites stay hidden.\n"
    );
    judge(&rows);
    Ok(())
}

/// Where it stops being linear: the exponent between two sizes, and the term that makes it.
fn judge(rows: &[Row]) {
    let terms = [
        (0, "submit to in force", "each member checks every member's cosignature of a checkpoint"),
        (1, "one round", "each contribution is shared, proved and checked twice, once for each aggregator"),
        (
            2,
            "whole crosstab",
            "a receipt and a vote from each contributor, each cosigned and checked by everyone",
        ),
        (4, "bytes a site", "each member gets every receipt, vote and cosignature of all the others"),
        (
            5,
            "peak memory",
            "each member keeps every member's statements, and a copy of all is what the days start from",
        ),
    ];
    println!("between two sizes, the whole grows with the number of members to the power of (1 is linear):");
    for (at, name, term) in terms {
        let steps: Vec<String> = rows
            .windows(2)
            .filter_map(|pair| {
                let [a, b] = pair else { return None };
                let (x, y) = (*a.numbers.get(at)?, *b.numbers.get(at)?);
                if x <= 0.0 || y <= 0.0 {
                    return None;
                }
                let power = (y / x).ln() / (b.members as f64 / a.members as f64).ln();
                let mark = if power > 1.25 { " <- more than linear" } else { "" };
                Some(format!("{} to {}: {power:.2}{mark}", a.members, b.members))
            })
            .collect();
        println!("  {name:<19} {}\n  {:<19} {term}", steps.join("; "), "");
    }
}
