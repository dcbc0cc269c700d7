//! The front door: nine countries under five legal regimes answer one question, refuse another, and prove both.
//!
//! Ten processes of this binary on loopback, each with its own folder, keys and store; the demo does nothing that
//! a person could not do with the other commands, and uses the same control sockets.

use crate::{cli, join, pooled};
use clap::Args;
use node::control::{Command, Reply};
use node::{Config, NodeError};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Options of the demo.
#[derive(Args)]
pub struct Options {
    /// The folder to make; the other commands go on using it.
    #[arg(long, default_value = "comity-demo")]
    dir: PathBuf,
    /// The International Stroke Trial as CSV; without it rows are generated.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Keep the federation running until interrupted.
    #[arg(long)]
    serve: bool,
}

/// The nine members: id, country in the trial's data, jurisdiction, name.
const MEMBERS: [(&str, &str, &str, &str); 9] = [
    ("gb", "UK", "GB", "Stroke Unit, United Kingdom (demo)"),
    ("it", "ITAL", "IT", "Stroke Unit, Italy (demo)"),
    ("pl", "POLA", "PL", "Stroke Unit, Poland (demo)"),
    ("nl", "NETH", "NL", "Stroke Unit, Netherlands (demo)"),
    ("se", "SWED", "SE", "Stroke Unit, Sweden (demo)"),
    ("no", "NORW", "NO", "Stroke Unit, Norway (demo)"),
    ("ch", "SWIT", "CH", "Stroke Unit, Switzerland (demo)"),
    ("au", "AUSL", "AU", "Stroke Unit, Australia (demo)"),
    ("ar", "ARGE", "AR", "Stroke Unit, Argentina (demo)"),
];

/// Marks a folder as the demo's own.
const MARK: &str = ".comity-demo";

const DICTIONARY: &str = include_str!("../studies/ist/dictionary.toml");
const MAPPING: &str = include_str!("../studies/ist/mapping.toml");
const STUDIES: [(&str, &str); 4] = [
    ("aspirin", include_str!("../studies/ist/aspirin.toml")),
    ("too-fine", include_str!("../studies/ist/too-fine.toml")),
    ("near-miss", include_str!("../studies/ist/near-miss.toml")),
    ("near-miss-mended", include_str!("../studies/ist/near-miss-mended.toml")),
];
/// Purposes for which the demo's members let their data be used.
const PURPOSES: &[&str] = &["stroke-research"];

/// Processes that end with the demo.
struct Running {
    children: Vec<(String, Child)>,
}

impl Drop for Running {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Running {
    fn spawn(&mut self, name: &str, args: &[&str], log: &Path) -> Result<&mut Child, NodeError> {
        let exe = std::env::current_exe()
            .map_err(|e| NodeError::Input(format!("cannot find this program: {e}")))?;
        let errors = std::fs::File::create(log).map_err(|e| NodeError::io(log, e))?;
        let child = std::process::Command::new(exe)
            .args(args)
            .env("COMITY_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(|e| NodeError::Input(format!("cannot start {name}: {e}")))?;
        self.children.push((name.to_string(), child));
        self.children.last_mut().map(|(_, c)| c).ok_or_else(|| NodeError::Input("no process".into()))
    }
}

/// The story as it is told, and the facts for machines.
struct Story {
    quiet: bool,
    begun: Instant,
    facts: serde_json::Map<String, Value>,
}

impl Story {
    fn say(&self, text: impl AsRef<str>) {
        use std::io::Write;
        if !self.quiet {
            let _ = writeln!(std::io::stdout(), "{}", text.as_ref());
        }
    }

    fn chapter(&self, number: u32, title: &str) {
        self.say(format!("\n{number}. {title}  [{:.1} s]", self.begun.elapsed().as_secs_f64()));
    }
}

struct Demo {
    dir: PathBuf,
    running: Running,
    story: Story,
    transfers: Vec<Value>,
}

/// Runs the demo.
pub fn run(options: &Options, json: bool) -> Result<Reply, NodeError> {
    let dir = std::path::absolute(&options.dir).map_err(|e| NodeError::io(&options.dir, e))?;
    // Read the data before anything is made or removed: a wrong file changes nothing.
    let rows = rows(options.data.as_deref())?;
    if dir.exists() && std::fs::read_dir(&dir).map_err(|e| NodeError::io(&dir, e))?.next().is_some() {
        // Only a folder that this command made is made again: everything in it goes.
        if !dir.join(MARK).exists() {
            return Err(NodeError::Input(format!(
                "`{}` is not empty and holds no earlier demo; name another folder with --dir",
                dir.display()
            )));
        }
        std::fs::remove_dir_all(&dir).map_err(|e| NodeError::io(&dir, e))?;
    }
    std::fs::create_dir_all(&dir).map_err(|e| NodeError::io(&dir, e))?;
    let mark = dir.join(MARK);
    std::fs::write(&mark, "made by `comity demo`, and made anew by the next one\n")
        .map_err(|e| NodeError::io(&mark, e))?;
    let story = Story { quiet: json, begun: Instant::now(), facts: serde_json::Map::new() };
    let mut demo = Demo { dir, running: Running { children: Vec::new() }, story, transfers: Vec::new() };
    let label = if options.data.is_some() { "real" } else { "generated" };
    demo.tell(&rows, label)?;
    if options.serve {
        demo.story.say("\nThe federation keeps running; Ctrl-C ends it.");
        wait_for_interrupt()?;
    }
    let facts = Value::Object(std::mem::take(&mut demo.story.facts));
    Ok(Reply::yes("", facts))
}

fn wait_for_interrupt() -> Result<(), NodeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| NodeError::Input(e.to_string()))?;
    runtime.block_on(join::interrupted());
    Ok(())
}

/// Each member's rows as CSV, real or generated.
fn rows(data: Option<&Path>) -> Result<Vec<String>, NodeError> {
    match data {
        Some(path) => {
            let mut split = engine::split::by_column(path, "COUNTRY")?;
            MEMBERS
                .iter()
                .map(|(_, country, _, _)| {
                    split.remove(*country).ok_or_else(|| {
                        NodeError::Input(format!("{}: found no rows of COUNTRY `{country}`", path.display()))
                    })
                })
                .collect()
        }
        None => {
            Ok(MEMBERS.iter().map(|(_, country, _, _)| engine::generate::ist(&[country], 1991)).collect())
        }
    }
}

impl Demo {
    fn node(&self, id: &str) -> PathBuf {
        self.dir.join(id)
    }

    fn ask(&self, id: &str, command: Command) -> Result<Reply, NodeError> {
        cli::call(&self.node(id), command)
    }

    /// As `ask`, where anything but a yes ends the demo.
    fn must(&self, id: &str, command: Command) -> Result<Reply, NodeError> {
        let reply = self.ask(id, command)?;
        if reply.exit == 0 { Ok(reply) } else { Err(NodeError::Input(format!("{id}: {}", reply.text))) }
    }

    fn study_file(&self, name: &str) -> String {
        self.dir.join("studies").join(format!("{name}.toml")).display().to_string()
    }

    fn study(&self, name: &str) -> Result<(String, String), NodeError> {
        let file = self.study_file(name);
        let text = std::fs::read_to_string(&file).map_err(|e| NodeError::io(Path::new(&file), e))?;
        Ok((file, text))
    }

    fn tell(&mut self, rows: &[String], label: &str) -> Result<(), NodeError> {
        self.story.say(format!(
            "Comity demo: nine countries, five legal regimes, ten processes over mutual TLS on loopback.\n\
             Data: {} rows of the International Stroke Trial's shape ({label}). Votes are scripted; counsel is fictitious.",
            rows.iter().map(|r| r.lines().count().saturating_sub(1)).sum::<usize>()
        ));
        self.agree()?;
        self.register(rows, label)?;
        self.ask_and_decide()?;
        self.compute_and_release(label)?;
        self.refuse()?;
        self.prove()?;
        self.where_to_look();
        Ok(())
    }

    fn agree(&mut self) -> Result<(), NodeError> {
        self.story.chapter(1, "Agree");
        let hub_dir = self.dir.join("hub");
        let hub = join::hub_init(&hub_dir, "stroke-nine", "Relay Cooperative (fictitious)", "NL")?;
        let mut parts = String::new();
        for (id, _, jurisdiction, name) in MEMBERS {
            let config = Config {
                id: id.into(),
                name: name.into(),
                jurisdiction: jurisdiction.into(),
                control: format!("{name}, own premises"),
                hub: None,
                peer_listen: None,
                proxy: None,
            };
            parts.push_str(&node::config::init(&self.node(id), &config)?);
            parts.push('\n');
        }
        let floor = record::Digest::of(policy::FLOOR.as_bytes());
        let charter = format!("{}\n{}\n{parts}{INSTRUMENTS}", head(&floor), hub.text);
        let path = self.dir.join("charter.toml");
        std::fs::write(&path, &charter).map_err(|e| NodeError::io(&path, e))?;
        let digest = charter::Charter::parse("charter.toml", &charter)?.digest()?;
        let pin = self.dir.join("charter.digest");
        std::fs::write(&pin, format!("{digest}\n")).map_err(|e| NodeError::io(&pin, e))?;

        let addr = self.start_hub(&hub_dir)?;
        for (id, ..) in MEMBERS.iter().take(8) {
            join::node_join(&self.node(id), &path, &addr, None, false)?;
            self.start_node(id)?;
        }
        let eight = self.until("eight signatures", || {
            let status = self.ask("gb", Command::Status)?;
            let missing = status.data.get("unsigned").and_then(Value::as_array).cloned().unwrap_or_default();
            Ok((missing == [json!("ar")]).then_some(status))
        })?;
        let early = self.ask(
            "gb",
            Command::PolicyAdopt {
                file: "GB.toml".into(),
                text: policy::schedule("GB").unwrap_or_default().into(),
            },
        )?;
        self.story.say(format!(
            "   charter {digest}\n   signed by eight of nine: in force: {}. A statement made now: {}",
            eight.data.get("in_force").and_then(Value::as_bool).unwrap_or(true),
            early.text
        ));
        join::node_join(&self.node("ar"), &path, &addr, None, false)?;
        self.start_node("ar")?;
        self.until("the charter in force", || {
            let status = self.ask("gb", Command::Status)?;
            Ok((status.data.get("in_force").and_then(Value::as_bool) == Some(true)).then_some(()))
        })?;
        self.story.say("   ar signs: the agreement is in force, sealed by a quorum of 6 of 9 cosignatures.");
        self.story.facts.insert("charter".into(), json!(digest.to_string()));
        Ok(())
    }

    fn start_hub(&mut self, dir: &Path) -> Result<String, NodeError> {
        let log = self.dir.join("hub.log");
        let path = dir.display().to_string();
        let child =
            self.running.spawn("hub", &["hub", "serve", "--dir", &path, "--listen", "127.0.0.1:0"], &log)?;
        let out = child.stdout.take().ok_or_else(|| NodeError::Input("the hub gives no output".into()))?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).map_err(|e| NodeError::Input(e.to_string()))?;
        line.rsplit(' ')
            .next()
            .map(|a| a.trim().to_string())
            .filter(|a| !a.is_empty())
            .ok_or_else(|| NodeError::Input(format!("the hub did not start; see {}", log.display())))
    }

    fn start_node(&mut self, id: &str) -> Result<(), NodeError> {
        let log = self.dir.join(format!("{id}.log"));
        let path = self.node(id).display().to_string();
        self.running.spawn(id, &["node", "serve", "--node", &path], &log)?;
        let socket = node::service::socket(&self.node(id));
        self.until(&format!("node {id}"), || {
            Ok(std::os::unix::net::UnixStream::connect(&socket).is_ok().then_some(()))
        })
    }

    /// Polls until something is there; an end rather than a wait for ever.
    fn until<T>(
        &self,
        what: &str,
        mut look: impl FnMut() -> Result<Option<T>, NodeError>,
    ) -> Result<T, NodeError> {
        let begun = Instant::now();
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            if begun.elapsed() > Duration::from_secs(60) {
                return Err(NodeError::Input(format!(
                    "waited 60 s for {what}; the logs are in {}",
                    self.dir.display()
                )));
            }
            std::thread::sleep(Duration::from_millis(15));
        }
    }

    /// The same for all nine at once.
    fn all<T: Send>(&self, f: impl Fn(&str) -> Result<T, NodeError> + Sync) -> Result<Vec<T>, NodeError> {
        std::thread::scope(|scope| {
            let handles: Vec<_> = MEMBERS.iter().map(|(id, ..)| scope.spawn(|| f(id))).collect();
            handles
                .into_iter()
                .map(|h| {
                    h.join().unwrap_or_else(|_| Err(NodeError::Input("a thread of the demo broke".into())))
                })
                .collect()
        })
    }

    fn register(&mut self, rows: &[String], label: &str) -> Result<(), NodeError> {
        self.story.chapter(2, "Register");
        self.until("the floor", || {
            let shown = self.ask("gb", Command::PolicyShow)?;
            Ok((shown.data.get("published").and_then(Value::as_bool) == Some(true)).then_some(()))
        })?;
        self.all(|id| {
            let (file, text) = join::shipped_schedule(&self.node(id))?;
            self.must(id, Command::PolicyAdopt { file, text })
        })?;
        for ((id, country, ..), csv) in MEMBERS.iter().zip(rows) {
            let data = self.node(id).join("data");
            std::fs::create_dir_all(&data).map_err(|e| NodeError::io(&data, e))?;
            let write = |name: &str, text: &str| {
                let path = data.join(name);
                std::fs::write(&path, text).map_err(|e| NodeError::io(&path, e))?;
                node::private(&path)
            };
            write("ist.csv", csv)?;
            write("mapping.toml", MAPPING)?;
            write("dictionary.toml", DICTIONARY)?;
            write("dataset.toml", &dataset(country, label))?;
        }
        let studies = self.dir.join("studies");
        std::fs::create_dir_all(&studies).map_err(|e| NodeError::io(&studies, e))?;
        for (name, text) in STUDIES {
            let path = studies.join(format!("{name}.toml"));
            std::fs::write(&path, text).map_err(|e| NodeError::io(&path, e))?;
        }
        let add = |id: &str| {
            let path = self.node(id).join("data").join("dataset.toml");
            let text = std::fs::read_to_string(&path).map_err(|e| NodeError::io(&path, e))?;
            self.must(id, Command::DatasetAdd { file: path.display().to_string(), text })
        };
        add("gb")?;
        self.all(|id| if id == "gb" { Ok(()) } else { add(id).map(|_| ()) })?;
        self.synced()?;
        let (file, text) = self.study("aspirin")?;
        let before = self.ask("gb", Command::StudyCheck { file, text })?;
        self.story.say(format!(
            "   nine schedules adopted and nothing confirmed: dry check of aspirin says {}",
            if before.exit == 0 {
                "yes"
            } else {
                "no, at every node, because no counsel confirmed a schedule"
            }
        ));
        self.all(|id| self.must(id, Command::PolicyConfirm { seat: format!("{id}-counsel") }))?;
        let list = self.must("gb", Command::DatasetList)?;
        self.story.say("   nine counsel seats (fictitious) confirm; nine datasets are registered, each mapped and tested at home:");
        for line in list.text.lines() {
            self.story.say(format!("     {line}"));
        }
        Ok(())
    }

    /// Waits until every node has the same record in force.
    fn synced(&self) -> Result<(), NodeError> {
        self.until("all nodes to have one state", || {
            let all = self.all(|id| self.ask(id, Command::Status))?;
            let state = |r: &Reply| {
                let of = |k: &str| r.data.get(k).cloned().unwrap_or_default();
                (of("state"), of("watermark"), of("size"))
            };
            let first = all.first().map(state);
            let quiet = all.iter().all(|r| r.data.get("size") == r.data.get("watermark"));
            Ok((quiet && all.iter().all(|r| Some(state(r)) == first)).then_some(()))
        })
    }

    fn ask_and_decide(&mut self) -> Result<(), NodeError> {
        self.story.chapter(3, "Ask");
        self.synced()?;
        let (file, text) = self.study("aspirin")?;
        let check = self.must("gb", Command::StudyCheck { file: file.clone(), text: text.clone() })?;
        self.transfers = check.data.get("transfers").and_then(Value::as_array).cloned().unwrap_or_default();
        let path = self.dir.join("aspirin.check.txt");
        std::fs::write(&path, &check.text).map_err(|e| NodeError::io(&path, e))?;
        self.story.say(format!(
            "   dry check at all nine nodes: allow. Transfer basis of {} pairs and every cell that would leave: {}",
            check.data.get("transfers").and_then(Value::as_array).map_or(0, Vec::len),
            path.display()
        ));
        let pairs = check.text.lines().skip_while(|l| !l.starts_with("transfer basis")).skip(1);
        for line in pairs.take_while(|l| l.starts_with("  ")).take(6) {
            self.story.say(format!("     {}", line.trim()));
        }
        self.must("gb", Command::StudySubmit { file, text })?;
        self.story.say("   gb asks `aspirin`; no collects; ch and se aggregate; gb receives.");

        self.story.chapter(4, "Decide");
        self.phase("gb", "aspirin", "awaiting-votes")?;
        self.all(|id| {
            if id == "ar" {
                return Ok(());
            }
            self.phase(id, "aspirin", "awaiting-votes")?;
            self.must(id, Command::DecideApprove { study: "aspirin".into() }).map(|_| ())
        })?;
        let show = self.until("eight votes", || {
            let show = self.ask("gb", Command::StudyShow { id: "aspirin".into() })?;
            let yes = show.data.pointer("/phase/yes").and_then(Value::as_u64);
            Ok((yes == Some(8)).then_some(show))
        })?;
        let stands = show.text.lines().nth(1).unwrap_or("").trim().to_string();
        self.story.say(format!("   eight stewards vote yes (scripted). Blocked at eight of nine: {stands}"));
        self.must("ar", Command::DecideApprove { study: "aspirin".into() })?;
        self.story.say("   ar's steward votes yes (scripted): the run may start.");
        Ok(())
    }

    fn phase(&self, at: &str, study: &str, wanted: &str) -> Result<(), NodeError> {
        let wanted: Vec<&str> = wanted.split('|').collect();
        self.until(&format!("{study} to be {} at {at}", wanted.join(" or ")), || {
            let show = self.ask(at, Command::StudyShow { id: study.into() })?;
            let phase = show.data.pointer("/phase/phase").and_then(Value::as_str).unwrap_or("").to_string();
            Ok(wanted.contains(&phase.as_str()).then_some(()))
        })
    }

    fn result(&self, study: &str) -> Result<Reply, NodeError> {
        self.until(&format!("the output of {study}"), || {
            let reply = self.ask("gb", Command::StudyResult { id: study.into() })?;
            let phase = reply.data.pointer("/phase/phase").and_then(Value::as_str).unwrap_or("");
            if phase == "withheld" || phase == "refused" {
                return Err(NodeError::Input(format!("{study}: {}", reply.text)));
            }
            Ok((reply.exit == 0).then_some(reply))
        })
    }

    fn compute_and_release(&mut self, label: &str) -> Result<(), NodeError> {
        self.story.chapter(5, "Compute");
        let begun = Instant::now();
        let output = self.result("aspirin")?;
        let show = self.must("gb", Command::StudyShow { id: "aspirin".into() })?;
        for line in show.text.lines().filter(|l| l.trim_start().starts_with("run ")) {
            self.story.say(format!("   {}", line.trim()));
        }
        self.story.say(format!(
            "   guard, sums and the iterations of the regression in {:.1} s; no party saw another's numbers, ch and se each held shares",
            begun.elapsed().as_secs_f64()
        ));
        self.story.chapter(6, "Release");
        self.story.say(format!("   sealed to gb, opened at its node ({label} data):\n"));
        for line in output.text.lines() {
            self.story.say(format!("   {line}"));
        }
        self.beside(&output, label)?;
        self.story
            .facts
            .insert("aspirin".into(), output.data.pointer("/output").cloned().unwrap_or_default());
        self.egress("aspirin")
    }

    /// The pooled computation, outside the federation.
    fn beside(&mut self, output: &Reply, label: &str) -> Result<(), NodeError> {
        let dict = study::Dictionary::parse("dictionary", DICTIONARY)?;
        let mapping = study::Mapping::parse("mapping", MAPPING)?;
        let study = study::Study::parse("aspirin", STUDIES[0].1)?;
        let mut frames = Vec::new();
        for (id, ..) in MEMBERS {
            let path = self.node(id).join("data").join("ist.csv");
            frames.push(engine::Governed::open(&path, &mapping, &dict)?.into_frame());
        }
        let pooled = pooled::compute(&frames, &dict, &study.population.complete);
        let results: privacy::Released =
            serde_json::from_value(output.data.pointer("/output").cloned().unwrap_or_default())
                .map_err(|e| NodeError::Input(format!("the output cannot be read: {e}")))?;
        let mut pairs: Vec<(String, f64, f64)> = Vec::new();
        for value in &results.results {
            let result: analysis::AnalysisResult = record::canon::from_value(value.clone())?;
            match &result.table {
                analysis::Table::MantelHaenszel { log_odds_ratio, se, .. } => {
                    pairs.push(("log odds ratio".into(), log_odds_ratio.to_f64(), pooled.log_or.0));
                    pairs.push(("its SE".into(), se.to_f64(), pooled.log_or.1));
                }
                analysis::Table::Logistic { coefficients, deviance, .. } => {
                    if let Some(fit) = &pooled.fit {
                        for ((c, b), s) in coefficients.iter().zip(&fit.beta).zip(&fit.se) {
                            pairs.push((c.term.clone(), c.estimate.to_f64(), *b));
                            pairs.push((format!("  SE {}", c.term), c.se.to_f64(), *s));
                        }
                        pairs.push(("deviance".into(), deviance.to_f64(), fit.deviance));
                    }
                }
                analysis::Table::Describe { columns, .. } => {
                    for (d, (mean, sd)) in columns.iter().zip(&pooled.moments) {
                        pairs.push((format!("mean {}", d.column), d.mean.to_f64(), *mean));
                        pairs.push((format!("SD {}", d.column), d.sd.to_f64(), *sd));
                    }
                }
                analysis::Table::Crosstab { .. } => {}
            }
        }
        self.story.say(format!(
            "\n   beside it, pooled ({label} data): computed by the demo outside the federation; impossible in real use\n   \
             n analysed: federated {}, pooled {}",
            results.population.analysed, pooled.n
        ));
        let mut worst = 0.0f64;
        let mut table = String::from(
            "   quantity                         federated            pooled      relative difference\n",
        );
        for (name, a, b) in &pairs {
            let difference = ((a - b) / b).abs();
            worst = worst.max(difference);
            let _ = writeln!(table, "   {name:<24} {a:>17.12} {b:>17.12}      {difference:.1e}");
        }
        self.story.say(table.trim_end());
        if results.population.analysed != pooled.n as u64 || worst.is_nan() || worst > 1e-8 {
            return Err(NodeError::Input(format!(
                "federated and pooled differ by {worst:e}, more than 1e-8"
            )));
        }
        self.story.say(format!("   largest relative difference {worst:.1e} (limit 1e-8)"));
        self.story.facts.insert("largest_relative_difference".into(), json!(format!("{worst:e}")));
        Ok(())
    }

    fn egress(&mut self, study: &str) -> Result<(), NodeError> {
        let all = self.all(|id| Ok((id.to_string(), self.must(id, Command::Egress { since: 0 })?)))?;
        self.story
            .say(format!("\n   what left each site for `{study}`, bytes, all sealed, through the hub:"));
        self.story.say("   site   contribution   as aggregator   as collector   contribution goes to (basis of the transfer)");
        let mut facts = serde_json::Map::new();
        for (id, reply) in &all {
            let total = |kind: &str| {
                reply.data.pointer(&format!("/totals/{study}/{kind}")).and_then(Value::as_u64).unwrap_or(0)
            };
            let rows = reply.data.pointer("/rows").and_then(Value::as_array).cloned().unwrap_or_default();
            let mut to: Vec<String> = rows
                .iter()
                .filter(|r| r.get("study").and_then(Value::as_str) == Some(study))
                .filter(|r| r.get("kind").and_then(Value::as_str) == Some("contribution"))
                .filter_map(|r| r.get("to").and_then(Value::as_str).map(str::to_string))
                .collect();
            to.sort();
            to.dedup();
            self.story.say(format!(
                "   {id:<6} {:>12} {:>15} {:>14}   {}",
                total("contribution"),
                total("aggregate") + total("opening"),
                total("output"),
                if to.is_empty() { "nobody".to_string() } else { self.with_basis(id, &to) }
            ));
            facts.insert(id.clone(), json!(total("contribution")));
        }
        self.story.facts.insert(format!("egress_{study}"), Value::Object(facts));
        Ok(())
    }

    /// Receivers with the legal basis of each, as the dry check found it.
    fn with_basis(&self, from: &str, to: &[String]) -> String {
        let basis = |to: &String| {
            let found = self.transfers.iter().find(|t| {
                let is = |key: &str, value: &str| t.get(key).and_then(Value::as_str) == Some(value);
                is("from_party", from) && is("to_party", to) && is("role", "aggregator")
            });
            match found.and_then(|t| t.get("mechanism")).and_then(Value::as_str) {
                Some(mechanism) => format!("{to} ({mechanism})"),
                None if to == from => format!("{to} (itself)"),
                None => to.clone(),
            }
        };
        to.iter().map(basis).collect::<Vec<_>>().join(", ")
    }

    fn refuse(&mut self) -> Result<(), NodeError> {
        self.story.chapter(7, "Refuse");
        let (file, text) = self.study("too-fine")?;
        self.must("gb", Command::StudySubmit { file: file.clone(), text: text.clone() })?;
        self.phase("gb", "too-fine", "refused")?;
        self.until("all nine gates", || {
            let show = self.ask("gb", Command::StudyShow { id: "too-fine".into() })?;
            let spoken = show
                .data
                .pointer("/study/proposed")
                .and_then(Value::as_object)
                .map_or(0, serde_json::Map::len);
            Ok((spoken == MEMBERS.len()).then_some(()))
        })?;
        let check = self.ask("gb", Command::StudyCheck { file, text })?;
        self.story.say("   `too-fine`: outcome by country, sex, single year of age and stroke type, to an insurer abroad:");
        self.refusal("too-fine", &check.text)?;
        self.egress("too-fine")?;
        self.zero("too-fine")?;

        let (file, text) = self.study("near-miss")?;
        self.must("gb", Command::StudySubmit { file: file.clone(), text: text.clone() })?;
        self.phase("gb", "near-miss", "refused")?;
        let check = self.ask("gb", Command::StudyCheck { file, text })?;
        self.story.say("\n   `near-miss`: a sensible study with one fault:");
        self.refusal("near-miss", &check.text)?;
        self.zero("near-miss")?;
        self.story.say("   zero bytes left any site for it. Mended as the refusal says, it is asked again:");
        let (file, text) = self.study("near-miss-mended")?;
        self.must("gb", Command::StudySubmit { file, text })?;
        self.all(|id| {
            self.phase(id, "near-miss-mended", "awaiting-votes")?;
            self.must(id, Command::DecideApprove { study: "near-miss-mended".into() }).map(|_| ())
        })?;
        let output = self.result("near-miss-mended")?;
        for line in output.text.lines() {
            self.story.say(format!("   {line}"));
        }
        self.egress("near-miss-mended")
    }

    /// Tells a refusal in short, one fact for each rule; the whole text goes into a file beside it.
    fn refusal(&self, study: &str, text: &str) -> Result<(), NodeError> {
        let path = self.dir.join(format!("{study}.check.txt"));
        std::fs::write(&path, text).map_err(|e| NodeError::io(&path, e))?;
        let mut facts = 0;
        for line in text.lines().skip(1).take_while(|l| !l.starts_with("transfer basis")) {
            let short = line.trim_start();
            facts = if short.starts_with("here:") { facts + 1 } else { 0 };
            let dropped =
                short.starts_with("source:") || short.starts_with("rule:") || facts > 1 || short.is_empty();
            if !dropped {
                self.story.say(format!("     {line}"));
            }
        }
        self.story.say(format!("     in full, with sources and rule ids: {}", path.display()));
        Ok(())
    }

    /// Ends the demo if a refused study moved a byte of contribution.
    fn zero(&self, study: &str) -> Result<(), NodeError> {
        let all = self.all(|id| self.must(id, Command::Egress { since: 0 }))?;
        let moved: u64 = all
            .iter()
            .filter_map(|r| r.data.pointer(&format!("/totals/{study}/contribution")).and_then(Value::as_u64))
            .sum();
        if moved == 0 {
            Ok(())
        } else {
            Err(NodeError::Input(format!("{study}: {moved} bytes left although it was refused")))
        }
    }

    fn prove(&mut self) -> Result<(), NodeError> {
        self.story.chapter(8, "Prove");
        self.synced()?;
        let digest = std::fs::read_to_string(self.dir.join("charter.digest"))
            .map_err(|e| NodeError::io(&self.dir.join("charter.digest"), e))?;
        let pin: record::Digest =
            digest.trim().parse().map_err(|_| NodeError::Input("charter.digest is damaged".into()))?;
        for study in ["aspirin", "too-fine"] {
            let out = self.dir.join(format!("{study}.bundle"));
            self.must("au", Command::BundleExport { study: study.into(), out: out.display().to_string() })?;
            let bytes = std::fs::read(&out).map_err(|e| NodeError::io(&out, e))?;
            let verified = node::verify::verify_bundle(&bytes, Some(pin));
            self.story.say(format!(
                "   {study}.bundle, {} bytes, verified offline against the charter's digest:",
                bytes.len()
            ));
            for line in verified.text.lines() {
                self.story.say(format!("     {line}"));
            }
            if verified.exit != 0 {
                return Err(NodeError::Input(format!("{study}.bundle does not verify")));
            }
            if study == "aspirin" {
                self.break_it(&bytes, pin)?;
            }
        }
        Ok(())
    }

    fn break_it(&self, bytes: &[u8], pin: record::Digest) -> Result<(), NodeError> {
        let unpinned = node::verify::verify_bundle(bytes, None);
        self.story.say(format!(
            "     without --charter: exit {}, {}",
            unpinned.exit,
            unpinned.text.lines().last().unwrap_or("")
        ));
        let mut changed = bytes.to_vec();
        let at = changed.len() / 2;
        if let Some(byte) = changed.get_mut(at) {
            *byte ^= 1;
        }
        let broken = node::verify::verify_bundle(&changed, Some(pin));
        let why = broken.text.lines().nth(1).unwrap_or("").trim().to_string();
        self.story.say(format!("     one bit changed at byte {at}: exit {}, {why}", broken.exit));
        if broken.exit == 0 || unpinned.exit == 0 {
            return Err(NodeError::Input("a changed or unpinned bundle was accepted".into()));
        }
        Ok(())
    }

    fn where_to_look(&mut self) {
        let seconds = self.story.begun.elapsed().as_secs_f64();
        let dir = self.dir.display();
        self.story.say(format!(
            "\nDone in {seconds:.1} s. Everything is in {dir}. Where to look next:\n  \
             comity record list --node {dir}/au\n  \
             comity study check --node {dir}/gb {dir}/studies/near-miss.toml\n  \
             comity node egress --node {dir}/it --since 2026-01-01\n  \
             comity bundle verify {dir}/aspirin.bundle --charter {dir}/charter.digest"
        ));
        self.story.facts.insert("seconds".into(), json!(format!("{seconds:.1}")));
        self.story.facts.insert("dir".into(), json!(dir.to_string()));
    }
}

fn head(floor: &record::Digest) -> String {
    let purposes: Vec<String> = PURPOSES.iter().map(|p| format!("\"{p}\"")).collect();
    format!(
        "federation = \"stroke-nine\"\ntitle = \"Nine stroke units answer joint questions (demo)\"\nsunset = \"2031-12-31\"\n\
         floor = \"{floor}\"\npurposes = [{}]\naggregator_pool = [\"ch\", \"se\", \"ar\", \"au\"]\n\n\
         [data_access]\nquorum = 8\ndeadline_hours = 72\nvalid_days = 90\n\n\
         [limits]\nlease_hours = 24\nwatermark_minutes = 10\nmin_hidden_sites = 3\n",
        purposes.join(", ")
    )
}

/// Transfer instruments that the demo's members are supposed to have signed.
const INSTRUMENTS: &str = "[[instruments]]
id = \"consortium-clauses\"
mechanism = \"clauses\"
exporters = [\"EU\", \"GB\", \"CH\", \"AR\"]
importers = [\"AU\"]
reference = \"consortium agreement, annex 3: SCC 2021/914 with UK addendum, Swiss amendments and AAIP model clauses (fictitious)\"

[[instruments]]
id = \"consortium-accountability\"
mechanism = \"accountability\"
exporters = [\"AU\"]
importers = [\"EU\", \"GB\", \"CH\", \"AR\"]
reference = \"consortium agreement, annex 4: APP 8.1 undertaking (fictitious)\"
";

fn dataset(country: &str, label: &str) -> String {
    format!(
        "name = \"ist\"\ntitle = \"International Stroke Trial, rows of {country} ({label})\"\nsource = \"ist.csv\"\n\
         mapping = \"mapping.toml\"\ndictionary = \"dictionary.toml\"\n\
         legal_basis = \"scientific research under the member's own law (fictitious opinion of counsel)\"\n\
         purposes = [\"stroke-research\"]\nretention = \"2031-12-31\"\n\
         provenance = \"International Stroke Trial database version 2, doi 10.7488/ds/104 ({label})\"\n\
         special_category = true\nimpact_assessment = \"DPIA of the demo (fictitious)\"\noverlap = []\nby_site = false\n"
    )
}
