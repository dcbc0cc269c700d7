//! Country schedules (annexes): what a jurisdiction adds to the floor, adopted only if it can only tighten.

use crate::FLOOR;
use crate::input::GateInput;
use crate::library::{Library, document, place_of, quote};
use crate::lint::{self, Owner, Reader, Rule};
use crate::set::{PolicyError, PolicySet, decide};
use cedar_policy::Schema;
use record::Digest;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use study::{DocumentError, Place};
use toml::Spanned;

/// The case in which everything is in order, from which schedule tests depart.
const SOUND: &str = include_str!("../../../policies/sound.toml");

/// A country schedule that was adopted: forbids only, each with words and basis, and its own tests passed.
#[derive(Clone, Debug)]
pub struct Schedule {
    name: String,
    jurisdiction: String,
    title: String,
    as_of: String,
    prose: String,
    rules: String,
    first_line: usize,
    marks: Vec<Mark>,
    tests: usize,
    digest: Digest,
}

/// Where a basis comes from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// The basis, in the words that rules quote.
    pub basis: String,
    /// Law and article, guidance, or `own choice`.
    pub source: String,
    /// How it was verified.
    pub verified: Verified,
    /// Where in the jurisdiction library, for example `thresholds:au_abs_datalab` or `GB:transfer`.
    #[serde(default)]
    pub library: Option<String>,
    /// Anything that counsel should know.
    #[serde(default)]
    pub note: Option<String>,
}

/// How a source was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verified {
    /// A page saying so was read.
    Search,
    /// Written from memory: to be checked.
    Memory,
    /// Not law: chosen by whoever wrote the schedule.
    OwnChoice,
}

impl Verified {
    /// Its words in a refusal.
    pub fn as_str(self) -> &'static str {
        match self {
            Verified::Search => "read when compiled",
            Verified::Memory => "from memory, to be confirmed by counsel",
            Verified::OwnChoice => "own choice, not law",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    jurisdiction: Spanned<String>,
    title: String,
    as_of: Spanned<String>,
    prose: String,
    rules: Spanned<String>,
    #[serde(default)]
    mark: Vec<Spanned<Mark>>,
    #[serde(default)]
    test: Vec<Spanned<Test>>,
    // Named so that they are refused in words that say why.
    #[serde(default)]
    schema: Option<Spanned<toml::Value>>,
    #[serde(default)]
    entities: Option<Spanned<toml::Value>>,
    #[serde(default)]
    entity: Option<Spanned<toml::Value>>,
    #[serde(default)]
    actions: Option<Spanned<toml::Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    name: String,
    #[serde(default)]
    set: BTreeMap<String, toml::Value>,
    /// Ids of all rules that must say no; none means that the case must be allowed.
    refused_by: Vec<String>,
}

impl Schedule {
    /// Reads a schedule and adopts it under the shipped floor; `name` is what errors call it, usually a path.
    pub fn adopt(name: &str, text: &str) -> Result<Schedule, DocumentError> {
        Schedule::adopt_under(name, text, FLOOR)
    }

    /// Reads a schedule and adopts it under a floor: rules that can only forbid, one condition each, words and
    /// basis for each, strict validation without warnings, every basis marked, every rule tested.
    pub fn adopt_under(name: &str, text: &str, floor: &str) -> Result<Schedule, DocumentError> {
        let at = |start: usize, found: String, expected: &str| DocumentError {
            document: name.to_string(),
            place: place_of(text, start),
            found,
            expected: expected.to_string(),
        };
        if text.len() > 65_536 {
            return Err(at(0, format!("{} bytes", text.len()), "at most 65536 bytes"));
        }
        let raw: Raw = toml::from_str(text).map_err(|e| document(name, text, &e))?;
        for (key, value) in [
            ("schema", &raw.schema),
            ("entities", &raw.entities),
            ("entity", &raw.entity),
            ("actions", &raw.actions),
        ] {
            if let Some(value) = value {
                let expected = "rules only: facts and who asserts them are fixed, a country schedule brings no schema \
                                and no entities";
                return Err(at(value.span().start, format!("`{key}`"), expected));
            }
        }
        let jurisdiction = raw.jurisdiction.get_ref().clone();
        let library = Library::embedded()?;
        if library.regime(&jurisdiction) != Some(jurisdiction.as_str()) {
            let expected = "a regime of the jurisdiction library, for example `EU` or `GB`";
            return Err(at(raw.jurisdiction.span().start, quote(&jurisdiction), expected));
        }
        if !is_day(raw.as_of.get_ref()) {
            return Err(at(raw.as_of.span().start, quote(raw.as_of.get_ref()), "a date YYYY-MM-DD"));
        }
        let span = raw.rules.span();
        if !text.get(span.start..).is_some_and(|t| t.starts_with("'''")) {
            return Err(at(span.start, "rules in other quotes".into(), "rules between ''' and '''"));
        }
        // The line after the opening quotes, if the text begins on it.
        let newline =
            text.get(span.start + 3..).is_some_and(|t| t.starts_with('\n') || t.starts_with("\r\n"));
        let schedule = Schedule {
            name: name.to_string(),
            title: raw.title,
            as_of: raw.as_of.get_ref().clone(),
            prose: raw.prose,
            rules: raw.rules.get_ref().clone(),
            first_line: place_of(text, span.start).line + usize::from(newline),
            marks: raw.mark.iter().map(|m| m.get_ref().clone()).collect(),
            tests: raw.test.len(),
            digest: Digest::of(text.as_bytes()),
            jurisdiction,
        };
        let schema = lint::schema()?;
        let rules = schedule.rules(&schema)?;
        let unmarked = |line: usize, found: String, expected: &str| DocumentError {
            document: name.to_string(),
            place: Place { line, column: 1 },
            found,
            expected: expected.to_string(),
        };
        for rule in &rules {
            if !schedule.marks.iter().any(|m| m.basis == rule.basis) {
                let found = format!("basis {} of rule {}", quote(&rule.basis), rule.id);
                return Err(unmarked(
                    rule.line,
                    found,
                    "a [[mark]] with the same basis, its source and how it was verified",
                ));
            }
            if !raw.test.iter().any(|t| t.get_ref().refused_by.contains(&rule.id)) {
                return Err(unmarked(
                    rule.line,
                    format!("no test refused by {}", rule.id),
                    "a [[test]] for every rule",
                ));
            }
        }
        if let Some(mark) = raw.mark.iter().find(|m| !rules.iter().any(|r| r.basis == m.get_ref().basis)) {
            let found = format!("mark {}", quote(&mark.get_ref().basis));
            return Err(at(mark.span().start, found, "a basis that a rule quotes"));
        }
        if !raw.test.iter().any(|t| t.get_ref().refused_by.is_empty()) {
            let expected = "a [[test]] with refused_by = [], so that something is shown to be allowed";
            return Err(at(0, "no test that allows".into(), expected));
        }
        let set = PolicySet::load(floor, Some(&schedule)).map_err(|e| match e {
            PolicyError::Document(e) => e,
            other => at(0, other.to_string(), "rule ids of its own"),
        })?;
        let sound = GateInput::sound(&set)?;
        for test in &raw.test {
            run_test(&set, &library, &sound, test.get_ref())
                .map_err(|(found, expected)| at(test.span().start, found, &expected))?;
        }
        Ok(schedule)
    }

    /// Its rules, read again.
    pub(crate) fn rules(&self, schema: &Schema) -> Result<Vec<Rule>, DocumentError> {
        let owner = Owner::Schedule(&self.jurisdiction);
        Reader { name: &self.name, first_line: self.first_line, owner }.read(&self.rules, schema)
    }

    /// Where a basis comes from, in words.
    pub(crate) fn source_of(&self, basis: &str) -> String {
        match self.marks.iter().find(|m| m.basis == basis) {
            Some(m) => format!("{}; {}; schedule as of {}", m.source, m.verified.as_str(), self.as_of),
            None => format!("unmarked; schedule as of {}", self.as_of),
        }
    }

    /// Its regime, for example `AU`.
    pub fn jurisdiction(&self) -> &str {
        &self.jurisdiction
    }

    /// Its title.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Newest material that its compiler saw, `YYYY-MM-DD`.
    pub fn as_of(&self) -> &str {
        &self.as_of
    }

    /// What it says, for people.
    pub fn prose(&self) -> &str {
        &self.prose
    }

    /// Where each basis comes from.
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// How many tests it brought, all of which passed.
    pub fn tests(&self) -> usize {
        self.tests
    }

    /// Digest of its text: what a counsel confirms.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// Departs from the sound case as the test says and compares who refuses; found and expected if it differs.
fn run_test(
    set: &PolicySet,
    library: &Library,
    sound: &GateInput,
    test: &Test,
) -> Result<(), (String, String)> {
    let of = |what: String| format!("test {}: {what}", quote(&test.name));
    let mut value = serde_json::to_value(sound).map_err(|e| (of(e.to_string()), "a case".to_string()))?;
    for (path, new) in &test.set {
        let new = serde_json::to_value(new).map_err(|e| (of(e.to_string()), "a value".to_string()))?;
        let (parents, last) = path.rsplit_once('.').map_or(("", path.as_str()), |(p, l)| (p, l));
        let mut place = &mut value;
        for step in parents.split('.').filter(|s| !s.is_empty()) {
            place = match place {
                serde_json::Value::Array(items) => step.parse::<usize>().ok().and_then(|i| items.get_mut(i)),
                other => other.get_mut(step),
            }
            .ok_or_else(|| {
                (of(format!("no `{path}`")), "a path of the sound case, policies/sound.toml".to_string())
            })?;
        }
        match place {
            serde_json::Value::Object(map) => {
                map.insert(last.to_string(), new);
            }
            serde_json::Value::Array(items) => {
                let slot = last.parse::<usize>().ok().and_then(|i| items.get_mut(i));
                *slot
                    .ok_or_else(|| (of(format!("no `{path}`")), "a path of the sound case".to_string()))? =
                    new;
            }
            _ => return Err((of(format!("no `{path}`")), "a path of the sound case".to_string())),
        }
    }
    let mut input: GateInput = serde_json::from_value(value)
        .map_err(|e| (of(e.to_string()), "values of the kinds in policies/sound.toml".to_string()))?;
    input.consult(library);
    let verdict = decide(set, &input);
    let found: BTreeSet<&str> = verdict.determining.iter().map(|d| d.id.as_str()).collect();
    let expected: BTreeSet<&str> = test.refused_by.iter().map(String::as_str).collect();
    let words = |ids: &BTreeSet<&str>| {
        if ids.is_empty() {
            "allowed".to_string()
        } else {
            ids.iter().copied().collect::<Vec<_>>().join(", ")
        }
    };
    if let Some(fault) = verdict.faults.first() {
        return Err((of(fault.clone()), "a decision without fault".into()));
    }
    if found == expected { Ok(()) } else { Err((of(words(&found)), words(&expected))) }
}

impl GateInput {
    /// The case of `policies/sound.toml`, in which everything is in order, moved to the regime of these policies:
    /// a contribution that every rule allows. For tests and for reading.
    pub fn sound(set: &PolicySet) -> Result<GateInput, DocumentError> {
        let mut input: GateInput =
            toml::from_str(SOUND).map_err(|e| document("policies/sound.toml", SOUND, &e))?;
        let library = Library::embedded()?;
        input.charter.floor = set.floor_digest();
        if let Some((regime, digest)) = set.schedule() {
            input.schedule.regime = regime.to_string();
            input.schedule.digest = Some(digest);
            let home = |jurisdiction: &str| library.regime(jurisdiction) == Some(regime);
            let ours =
                home(input.parties.get(&input.node).map(|p| p.jurisdiction.as_str()).unwrap_or_default());
            if !ours {
                let found =
                    input.parties.iter().find(|(_, p)| home(&p.jurisdiction)).map(|(id, _)| id.clone());
                match found {
                    Some(id) => input.node = id,
                    None => {
                        if let Some(party) = input.parties.get_mut(&input.node) {
                            party.jurisdiction = regime.to_string();
                        }
                        for instrument in &mut input.charter.instruments {
                            instrument.exporters.push(regime.to_string());
                        }
                    }
                }
            }
        }
        input.consult(&library);
        Ok(input)
    }
}

fn is_day(text: &str) -> bool {
    let b = text.as_bytes();
    b.len() == 10
        && b.iter().enumerate().all(|(i, c)| if i == 4 || i == 7 { *c == b'-' } else { c.is_ascii_digit() })
}
