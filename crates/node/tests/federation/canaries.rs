//! Canaries planted in a dataset: found in nothing that leaves the node, in no log line, in no error for a log.

use crate::house::{House, MINUTE, Setup, count};
use std::io::Write;
use std::sync::{Arc, Mutex};
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

/// A text that stands in a column which no mapping reads, one that no rule of the mapping expects, and one that is
/// part of the path.
const SILENT: &str = "canary-in-an-unread-column";
const UNMAPPED: &str = "canary-that-no-rule-expects";
const FOLDER: &str = "canary-in-the-path";

/// Puts a text into the first row's field of that column.
fn plant(csv: &str, column: &str, text: &str) -> String {
    let mut lines: Vec<String> = csv.lines().map(str::to_string).collect();
    let at = lines[0].split(',').position(|c| c == column).unwrap();
    let mut fields: Vec<&str> = lines[1].split(',').collect();
    fields[at] = text;
    lines[1] = fields.join(",");
    lines.join("\n") + "\n"
}

fn planted() -> House {
    let mut setup = Setup { folder: FOLDER.into(), ..Setup::eight() };
    for (_, _, rows) in &mut setup.members {
        *rows = rows.as_ref().map(|csv| plant(csv, "HOSPNUM", SILENT));
    }
    setup.build()
}

fn search(house: &House, lines: &Lines) {
    let log = String::from_utf8_lossy(&lines.0.lock().unwrap()).to_string();
    assert!(log.contains("house-log-works"), "the log is captured");
    for canary in [SILENT, UNMAPPED, FOLDER] {
        let needle = canary.as_bytes();
        let holds = |bytes: &[u8]| bytes.windows(needle.len()).any(|w| w == needle);
        assert!(house.relayed.iter().all(|f| !holds(f)), "{canary} in a frame");
        assert!(house.hub.entries.iter().all(|e| !holds(e)), "{canary} in a statement");
        assert!(!log.contains(canary), "{canary} in the log");
        assert!(house.errors.iter().all(|(_, e)| !e.contains(canary)), "{canary} in {:?}", house.errors);
    }
}

/// That the node told its own log what is wrong, in these words.
fn told(house: &House, lines: &Lines, words: &str) {
    let log = String::from_utf8_lossy(&lines.0.lock().unwrap()).to_string();
    assert!(log.contains(words) || house.errors.iter().any(|(_, e)| e.contains(words)), "{:?}", house.errors);
}

fn logged<T>(f: impl FnOnce() -> T) -> (T, Lines) {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(lines.clone())
        .finish();
    let value = tracing::subscriber::with_default(subscriber, || {
        tracing::info!("house-log-works");
        f()
    });
    (value, lines)
}

#[test]
fn nothing_that_leaves_holds_what_an_answered_study_did_not_ask() {
    let (house, lines) = logged(|| {
        let mut house = planted();
        house.ask_and_approve("deaths", &count("deaths"));
        house.settle();
        house
    });
    house.no_errors();
    assert!(house.released("deaths"));
    search(&house, &lines);
}

#[test]
fn a_source_that_no_longer_fits_ends_the_run_and_quotes_nothing() {
    let (house, lines) = logged(|| {
        let mut house = planted();
        let file = house.folder("it").join(FOLDER).join("ist.csv");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, plant(&text, "SEX", UNMAPPED)).unwrap();
        house.ask_and_approve("deaths", &count("deaths"));
        house.steps(60);
        house.now += 2 * MINUTE;
        house.refresh();
        house.settle_or(200);
        house
    });
    told(&house, &lines, "does not fit");
    assert_eq!(house.contributions_of("it"), 0);
    assert!(house.frames("opening").is_empty());
    assert!(house.node("gb").state().studies["deaths"].runs[&1].lost.is_some(), "the run is given up");
    search(&house, &lines);
}

#[test]
fn a_source_that_is_gone_ends_the_run_and_names_no_path() {
    let (house, lines) = logged(|| {
        let mut house = planted();
        std::fs::remove_file(house.folder("it").join(FOLDER).join("ist.csv")).unwrap();
        house.ask_and_approve("deaths", &count("deaths"));
        house.steps(60);
        house.now += 2 * MINUTE;
        house.refresh();
        house.settle_or(200);
        house
    });
    told(&house, &lines, "cannot be read");
    assert!(house.node("gb").state().studies["deaths"].runs[&1].lost.is_some(), "the run is given up");
    search(&house, &lines);
}
