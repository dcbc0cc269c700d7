//! A requester who wants one patient, with whoever helps: attacks A1 to A6 as programs. Each is given more than it
//! would have (who the patient is, where the rows lie), computes its best guess from what it gets, and the same
//! program is run on sums taken with the rule off, so that the test can fail.

mod contributors;
mod overlaps;
mod proof;
mod question;
mod refusal;
mod registration;

use crate::house::{EIGHT, House, SIX, Setup, shared};
use crate::pooled;
use analysis::{AnalysisResult, Data, Frame, Question, Sums, Table};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use study::{Plan, Study};

/// Rows of each site, as CSV.
pub type Rows = BTreeMap<String, String>;

/// The generated trial, as the eight hold it.
pub fn generated() -> Rows {
    let of = |(id, _, country): &(&str, &str, Option<&str>)| {
        Some((id.to_string(), engine::generate::ist(&[(*country)?], 1991)))
    };
    EIGHT.iter().filter_map(of).collect()
}

/// The same countries of the real trial.
pub fn real(test: &str) -> Option<Rows> {
    let mut parts = engine::split::by_column(&shared("ist/ist_core.csv", test)?, "COUNTRY").unwrap();
    let of =
        |(id, _, country): &(&str, &str, Option<&str>)| Some((id.to_string(), parts.remove((*country)?)?));
    Some(EIGHT.iter().filter_map(of).collect())
}

/// The eight over these rows.
pub fn setup(rows: &Rows) -> Setup {
    let mut setup = Setup::eight();
    for (id, _, csv) in &mut setup.members {
        *csv = rows.get(id).cloned();
    }
    setup
}

/// Each site's rows as its node reads them.
pub fn frames(rows: &Rows) -> BTreeMap<String, Frame> {
    let dir = tempfile::tempdir().unwrap();
    let of = |(id, csv): (&String, &String)| {
        let path = dir.path().join(id);
        std::fs::write(&path, csv).unwrap();
        (id.clone(), pooled::rows(&path))
    };
    rows.iter().map(of).collect()
}

/// The rows of a site less one.
pub fn without(rows: &Rows, site: &str, row: usize) -> Rows {
    let mut rows = rows.clone();
    let csv = rows.get_mut(site).unwrap();
    let kept: Vec<&str> = csv.lines().enumerate().filter(|(i, _)| *i != row + 1).map(|(_, l)| l).collect();
    *csv = kept.join("\n") + "\n";
    rows
}

/// A whole number of a row, if it is known.
pub fn integer(frame: &Frame, column: &str, row: usize) -> Option<i64> {
    match &frame.columns[column] {
        Data::Integer(values) => values[row],
        Data::Factor(_) => panic!("{column} is a factor"),
    }
}

/// The columns of every count below.
pub const COUNTED: [&str; 2] = ["death14", "aspirin"];

/// A patient: site and row.
pub type Patient = (String, usize);

/// Everybody whose death and aspirin are known, by a number.
pub fn by_number(frames: &BTreeMap<String, Frame>, column: &str) -> BTreeMap<i64, Vec<Patient>> {
    let mut found: BTreeMap<i64, Vec<Patient>> = BTreeMap::new();
    for (site, frame) in frames {
        for row in pooled::complete(frame, &[COUNTED[0], COUNTED[1], column]) {
            found.entry(integer(frame, column, row).unwrap()).or_default().push((site.clone(), row));
        }
    }
    found
}

/// Where the patient stands in the table that [`counts`] asks: death first, then aspirin, the last fastest.
pub fn cell_of(frames: &BTreeMap<String, Frame>, (site, row): &Patient) -> usize {
    let frame = &frames[site];
    let at = |column: &str| usize::from(pooled::is(frame, column, "yes", *row) == Some(1.0));
    2 * at("death14") + at("aspirin")
}

/// A study of `gb` that counts deaths by aspirin where the conditions hold, over these contributors.
pub fn counts_of(id: &str, contributors: &[&str], minimum: usize, conditions: &str) -> String {
    let complete: BTreeSet<&str> =
        COUNTED.into_iter().chain(conditions.contains("sbp").then_some("sbp")).collect();
    let complete: Vec<String> = complete.iter().map(|c| format!("\"{c}\"")).collect();
    let named: Vec<String> = contributors.iter().map(|c| format!("\"{c}\"")).collect();
    format!(
        "id = \"{id}\"\ntitle = \"A question\"\npurpose = \"stroke-research\"\ndomain = \"health\"\n\
         requester = \"gb\"\ncollector = \"no\"\naggregators = [\"ch\", \"se\"]\nrecipients = [\"gb\"]\n\
         dataset = \"ist\"\ncontributors = [{}]\nminimum_contributors = {minimum}\n\
         dictionary = \"ist-core/1\"\nuntil = \"2030-12-31\"\n\n[protection]\nmin_cell = 11\n\
         min_hidden_sites = 3\n\n[population]\ncomplete = [{}]\nwhere = [{conditions}]\n\n[[analysis]]\n\
         id = \"deaths\"\nmethod = \"crosstab\"\nby = [\"death14\", \"aspirin\"]\n",
        named.join(", "),
        complete.join(", ")
    )
}

/// The same over all six.
pub fn counts(id: &str, conditions: &str) -> String {
    counts_of(id, &SIX, 6, conditions)
}

/// The conditions of a range of pressures.
pub fn pressure(least: Option<i64>, most: Option<i64>) -> String {
    let of = |key: &str, bound: Option<i64>| bound.map_or(String::new(), |b| format!(", {key} = {b}"));
    format!("{{ column = \"sbp\"{}{} }}", of("min", least), of("max", most))
}

/// A released table of death by aspirin.
pub fn table(output: &Value) -> [Option<u64>; 4] {
    let results: Vec<AnalysisResult> = serde_json::from_value(output["results"].clone()).unwrap();
    of_result(&results[0])
}

pub fn of_result(result: &AnalysisResult) -> [Option<u64>; 4] {
    let Table::Crosstab { counts, .. } = &result.table else { panic!("not a table of counts") };
    counts.clone().try_into().unwrap()
}

/// A study read and planned as if nothing had been asked before it.
pub fn planned(text: &str) -> (Study, Plan) {
    let study = Study::parse("study.toml", text).unwrap();
    let plan = analysis::plan(&study, &pooled::dictionary(), Vec::new()).unwrap();
    (study, plan)
}

/// The sum that a round gives over these sites: what a reader would hold if no rule stood before it.
pub fn sum(study: &Study, plan: &Plan, question: &Question, frames: &BTreeMap<String, Frame>) -> Sums {
    let stage = question.stage as usize;
    let mut values = vec![0.0; plan.stages[stage].layout.cells.len()];
    for site in &study.contributors {
        let vector =
            analysis::site(site, study, &pooled::dictionary(), plan, stage, question, &frames[site]).unwrap();
        values.iter_mut().zip(&vector.values).for_each(|(sum, v)| *sum += v);
    }
    Sums { contributors: study.contributors.len() as u32, values }
}

/// The table of [`counts_of`] with no rule before it.
pub fn unguarded(text: &str, frames: &BTreeMap<String, Frame>) -> [Option<u64>; 4] {
    let (study, plan) = planned(text);
    let question = Question::start(&study, &pooled::dictionary(), &plan, 1).unwrap();
    let sums = sum(&study, &plan, &question, frames);
    of_result(&analysis::combine_once(&study, &pooled::dictionary(), &plan, &sums).unwrap()[0])
}

/// The program of A2 and A6: weighs all tables that it was given with 1, -1 or not at all, and names the cell of the
/// one patient whom some such combination leaves.
pub fn isolate(tables: &[[Option<u64>; 4]]) -> Option<usize> {
    let known: Vec<[i64; 4]> = tables
        .iter()
        .filter_map(|t| Some([t[0]? as i64, t[1]? as i64, t[2]? as i64, t[3]? as i64]))
        .collect();
    for weights in 1..3usize.pow(known.len() as u32) {
        let mut left = [0i64; 4];
        for (i, table) in known.iter().enumerate() {
            let weight = [0, 1, -1][weights / 3usize.pow(i as u32) % 3];
            left.iter_mut().zip(table).for_each(|(l, t)| *l += weight * t);
        }
        let one = left.iter().map(|l| l.abs()).sum::<i64>() == 1;
        if let (true, Some(cell)) = (one, left.iter().position(|l| *l == 1)) {
            return Some(cell);
        }
    }
    None
}

impl House {
    /// Asks, lets these stewards say yes, and lets the run come to its end.
    fn asked_of(&mut self, id: &str, text: &str, stewards: &[&str]) {
        self.ask(text);
        self.approve(id, stewards);
        self.settle();
    }

    /// What `gb`'s people can read of the record and of a study, in one text without digests, keys and times.
    fn visible(&mut self, studies: &[&str]) -> String {
        use node::control::Command;
        let mut text = String::new();
        let mut commands = vec![Command::RecordList { from: 0 }, Command::StudyList, Command::DatasetList];
        commands.push(Command::DecideList);
        for id in studies {
            commands.push(Command::StudyShow { id: id.to_string() });
            commands.push(Command::StudyResult { id: id.to_string() });
        }
        commands.extend((0..self.hub.size()).map(|index| Command::RecordShow { index }));
        for command in commands {
            let reply = self.cmd("gb", command);
            text.push_str(&format!("{} {}\n{}\n", reply.exit, reply.text, reply.data));
        }
        bare(&text)
    }
}

/// A text without what differs between any two federations: runs of twelve or more hexadecimal digits (digests, keys,
/// salts, times in milliseconds), signatures, and the age of the watermark.
pub fn bare(text: &str) -> String {
    let mut out = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && !"+/=".contains(c)) {
        let letters: String = word.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        let digits =
            letters.len() >= 8 && letters.chars().all(|c| c.is_ascii_hexdigit() && !c.is_uppercase());
        if digits || letters.len() >= 40 {
            out.push('#');
            out.extend(word.chars().last().filter(|c| !c.is_ascii_alphanumeric()));
        } else {
            out.push_str(word);
        }
    }
    out
}
