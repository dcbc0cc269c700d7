//! The front door: one run on generated data, shared by all tests that only read what it left.

use crate::command::{self, Said, comity};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub const MEMBERS: [&str; 9] = ["gb", "it", "pl", "nl", "se", "no", "ch", "au", "ar"];

pub struct Demo {
    pub dir: PathBuf,
    pub said: Said,
}

/// Ran once; its folder stays until the next run of the tests.
pub fn demo() -> &'static Demo {
    static DEMO: OnceLock<Demo> = OnceLock::new();
    DEMO.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo");
        let _ = std::fs::remove_dir_all(&dir);
        let said = comity(["demo", "--dir", &dir.display().to_string()]).exits(0);
        Demo { dir, said }
    })
}

/// Copies a folder of the demo, for a test that changes things.
pub fn copy(from: &Path, to: &Path) {
    for file in command::files(from) {
        let target = to.join(&file);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(from.join(&file), target).unwrap();
    }
}

impl Demo {
    pub fn node(&self, id: &str) -> PathBuf {
        self.dir.join(id)
    }

    pub fn study(&self, name: &str) -> String {
        self.dir.join("studies").join(format!("{name}.toml")).display().to_string()
    }

    pub fn pin(&self) -> String {
        std::fs::read_to_string(self.dir.join("charter.digest")).unwrap().trim().to_string()
    }

    pub fn bundle(&self) -> PathBuf {
        self.dir.join("aspirin.bundle")
    }
}

/// The part of a story between two chapters.
fn between<'t>(text: &'t str, from: &str, to: &str) -> &'t str {
    let start = text.find(from).unwrap_or_else(|| panic!("the story has no `{from}`:\n{text}"));
    let rest = &text[start..];
    &rest[..rest.find(to).unwrap_or_else(|| panic!("the story has no `{to}` after `{from}`:\n{rest}"))]
}

/// Rows of an egress table: site and bytes of contribution.
fn contributions(text: &str, study: &str) -> Vec<(String, u64)> {
    let table = text.split(&format!("what left each site for `{study}`")).nth(1).unwrap();
    let rows = table.lines().skip(2).take(MEMBERS.len());
    rows.map(|row| {
        let mut words = row.split_whitespace();
        (words.next().unwrap().to_string(), words.next().unwrap().parse().unwrap())
    })
    .collect()
}

#[test]
fn the_demo_tells_how_nine_countries_answer_one_question_and_refuse_another() {
    let demo = demo();
    let story = &demo.said.out;
    assert!(!demo.bundle().metadata().unwrap().permissions().readonly());
    assert_eq!(demo.pin().len(), 64);
    assert!(story.contains(&demo.pin()), "the story names the charter that the file pins");

    let agree = between(story, "1. Agree", "2. Register");
    assert!(agree.contains("signed by eight of nine: in force: false"));
    assert!(agree.contains("in force, sealed by a quorum of 6 of 9"));

    let register = between(story, "2. Register", "3. Ask");
    assert!(register.contains("dry check of aspirin says no"), "nothing goes before counsel confirms");
    for id in MEMBERS {
        assert!(register.contains(&format!("ist@{id}")), "dataset of {id}");
    }

    let decide = between(story, "4. Decide", "5. Compute");
    assert!(
        decide.contains("Blocked at eight of nine: stands waits for the stewards of ar (8 yes of 9 needed)")
            || decide.contains("waits for the stewards of ar (8 yes of 9 needed)"),
        "{decide}"
    );

    let release = between(story, "6. Release", "7. Refuse");
    assert!(release.contains("(generated data)"), "generated numbers are labelled");
    assert!(release.contains("computed by the demo outside the federation; impossible in real use"));
    assert!(release.contains("limit 1e-8"));
    for (site, bytes) in contributions(release, "aspirin") {
        assert!(bytes > 0, "{site} contributed");
    }

    let refuse = between(story, "7. Refuse", "8. Prove");
    for id in MEMBERS {
        let line = format!("{id:<6} DENY");
        assert!(between(refuse, "`too-fine`", "`near-miss`").contains(&line), "{id} refuses too-fine");
    }
    let sites = contributions(refuse, "too-fine");
    assert_eq!(sites.len(), 9);
    assert!(sites.iter().all(|(_, bytes)| *bytes == 0), "zero bytes for too-fine: {sites:?}");
    let full = std::fs::read_to_string(demo.dir.join("too-fine.check.txt")).unwrap();
    for rule in ["floor.no-single-value-table", "floor.purpose-in-charter", "floor.transfer-recipient"] {
        assert!(full.contains(&format!("rule:   {rule}")), "{rule} is among the reasons");
    }
    let words = between(refuse, "`too-fine`", "`near-miss`");
    for part in ["floor of the agreement", "country schedule of AU", "basis:", "mend:", "who:"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    let near = between(refuse, "`near-miss`: a sensible study", "Mended as the refusal says");
    assert!(near.contains("au     DENY") && near.contains("country schedule of AU; at au"), "{near}");
    assert_eq!(near.matches(" DENY").count(), 1, "one country alone refuses: {near}");
    assert!(near.contains("zero bytes left any site for it"));
    for (site, bytes) in contributions(refuse, "near-miss-mended") {
        assert!(bytes > 0, "{site} contributed to the mended study");
    }

    let prove = &story[story.find("8. Prove").unwrap()..];
    assert_eq!(prove.lines().filter(|l| l.trim() == "VALID").count(), 2);
    assert!(prove.contains("without --charter: exit 1, consistent, but unpinned"));
    let changed = prove.lines().find(|l| l.contains("one bit changed")).unwrap();
    assert!(changed.contains("exit 1"), "{changed}");
    assert!(changed.rsplit("exit 1,").next().unwrap().trim().len() > 10, "it names something: {changed}");
    assert!(demo.said.err.is_empty(), "{}", demo.said.err);
}

#[test]
fn the_demo_leaves_a_folder_that_the_next_run_takes_over_and_gives_json() {
    let dir = command::scratch();
    let dir = dir.path().join("d");
    let demo = demo();
    copy(&demo.dir, &dir);
    let facts = comity(["--json", "demo", "--dir", &dir.display().to_string()]).exits(0).json();
    assert_ne!(facts["charter"].as_str().unwrap(), demo.pin(), "new keys, new charter");
    assert_eq!(std::fs::read_to_string(dir.join("charter.digest")).unwrap().trim(), facts["charter"]);
    let difference: f64 = facts["largest_relative_difference"].as_str().unwrap().parse().unwrap();
    assert!(difference < 1e-8);
    assert_eq!(facts["egress_aspirin"].as_object().unwrap().len(), 9);
    assert!(facts["egress_too-fine"].as_object().unwrap().values().all(|bytes| bytes == 0));
    assert!(facts["aspirin"]["population"]["analysed"].as_u64().unwrap() > 1000);
}

/// The shared data folder beside the repository.
fn shared(path: &str) -> Option<PathBuf> {
    let given = std::env::var_os("COMITY_SHARED").map(PathBuf::from);
    let up = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|dir| dir.join("shared"));
    given.into_iter().chain(up).map(|dir| dir.join(path)).find(|file| file.exists())
}

/// A plain count over the nine countries' rows: nothing of this workspace is used. Split at commas: the trial's file
/// has no quoted field in the columns that are read here.
struct Count {
    analysed: u64,
    read: u64,
    /// aspirin by death at 14 days: yes-yes, yes-no, no-yes, no-no
    deaths: [u64; 4],
    dead_or_dependent: u64,
    age: f64,
}

fn count(file: &Path) -> Count {
    let bytes = std::fs::read(file).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().trim_start_matches('\u{feff}').split(',').collect();
    let at = |name: &str| header.iter().position(|h| h.trim_matches('"') == name).unwrap();
    let column =
        ["COUNTRY", "AGE", "SET14D", "ID14", "OCCODE", "RXASP", "SEX", "RSBP", "RDELAY", "RCONSC", "ISC14"]
            .map(at);
    let countries = ["UK", "ITAL", "POLA", "NETH", "SWED", "NORW", "SWIT", "AUSL", "ARGE"];
    let mut c = Count { analysed: 0, read: 0, deaths: [0; 4], dead_or_dependent: 0, age: 0.0 };
    for line in lines {
        let fields: Vec<&str> = line.split(',').map(|f| f.trim_matches('"')).collect();
        let [country, age, set14, dead, outcome, aspirin, ..] = column.map(|i| fields[i]);
        if !countries.contains(&country) {
            continue;
        }
        c.read += 1;
        let six_months = matches!(outcome, "1" | "2" | "3" | "4");
        if set14 != "1" || !six_months {
            continue;
        }
        c.analysed += 1;
        let cell = match (aspirin, dead) {
            ("Y", "1") => 0,
            ("Y", "0") => 1,
            ("N", "1") => 2,
            ("N", "0") => 3,
            other => panic!("a row that the plain count does not know: {other:?}"),
        };
        c.deaths[cell] += 1;
        c.dead_or_dependent += u64::from(matches!(outcome, "1" | "2"));
        c.age += age.parse::<f64>().unwrap();
    }
    c
}

#[test]
fn the_demo_on_the_real_trial_gives_the_counts_of_a_plain_pooled_count() {
    let name = "the_demo_on_the_real_trial_gives_the_counts_of_a_plain_pooled_count";
    let Some(file) = shared("data/ist/ist_core.csv") else {
        println!("skipped for lack of the real data: {name}");
        return;
    };
    let dir = command::scratch();
    let dir = dir.path().join("d").display().to_string();
    let file_name = file.display().to_string();
    let facts = comity(["--json", "demo", "--dir", &dir, "--data", &file_name]).exits(0).json();
    let plain = count(&file);
    let output = &facts["aspirin"];
    assert_eq!(output["population"]["analysed"], plain.analysed);
    assert_eq!(output["population"]["rows_read"], plain.read);
    let results = output["results"].as_array().unwrap();
    let result = |id: &str| results.iter().find(|r| r["analysis"] == id).unwrap();
    let [a, b, c, d] = plain.deaths;
    assert_eq!(result("death")["counts"], serde_json::json!([[a, b], [c, d]]));
    assert_eq!(result("death")["n"], plain.analysed);
    assert_eq!(result("death")["events"], a + c);
    assert_eq!(result("dependency")["n"], plain.analysed);
    assert_eq!(result("dependency")["events"], plain.dead_or_dependent);
    let age = &result("baseline")["columns"][0];
    assert_eq!(age["n"], plain.analysed);
    let mean: f64 = age["mean"].as_str().unwrap().parse().unwrap();
    assert!((mean - plain.age / plain.analysed as f64).abs() < 1e-9, "{mean}");
}
