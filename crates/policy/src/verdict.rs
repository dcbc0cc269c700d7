//! The answer of a gate, and its words.

use crate::input::Stage;
use record::Digest;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// The answer of a gate. With the policies and the input that its digests name, anyone can take it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// The step asked about.
    pub stage: Stage,
    /// The member whose gate it is.
    pub node: String,
    /// The study.
    pub study: String,
    /// Yes or no.
    pub allow: bool,
    /// Every rule that says no, floor first, in the order of the texts.
    pub determining: Vec<Determining>,
    /// What went wrong in deciding, in words. Any fault is a no; it is a matter to be opened, not a refusal.
    pub faults: Vec<String>,
    /// Digest of the policies.
    pub policy: Digest,
    /// Digest of the canonical input.
    pub input: Digest,
    /// The engine that decided.
    pub engine: String,
}

/// A rule that says no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Determining {
    /// The rule's id, for example `au.min-cell-10`.
    pub id: String,
    /// Whose rule: `floor`, or `schedule:` and the regime, for example `schedule:AU`.
    pub level: String,
    /// Its basis in law or agreement.
    pub basis: String,
    /// Where the basis comes from, how it was verified and as of when.
    pub source: String,
    /// The rule as a sentence.
    pub says: String,
    /// What would change the answer.
    pub fix: String,
    /// Who can grant that.
    pub who: String,
    /// What in this case offends, for example each pair without a transfer basis.
    pub facts: Vec<String>,
}

impl Verdict {
    /// Ids of the rules that say no, with their level, as receipts hold them: `schedule:AU/au.min-cell-10`.
    pub fn rules(&self) -> Vec<String> {
        self.determining.iter().map(|d| format!("{}/{}", d.level, d.id)).collect()
    }
}

/// A verdict for people: one paragraph a rule.
pub fn explain(verdict: &Verdict) -> String {
    let mut out = String::new();
    let (study, node, stage) = (&verdict.study, &verdict.node, verdict.stage.as_str());
    if verdict.allow {
        let _ = writeln!(out, "Allowed: study {study} at {node}, step {stage}. No rule forbids it.");
        return out;
    }
    let count = verdict.determining.len();
    let rules = if count == 1 { "rule says" } else { "rules say" };
    let _ = writeln!(out, "Refused: study {study} at {node}, step {stage}. {count} {rules} no.");
    for fault in &verdict.faults {
        let _ = writeln!(out, "\n  Fault (a matter to be opened): {fault}");
    }
    for (index, rule) in verdict.determining.iter().enumerate() {
        let level = match rule.level.strip_prefix("schedule:") {
            Some(regime) => format!("country schedule of {regime}"),
            None => "floor of the agreement".to_string(),
        };
        let _ = writeln!(out, "\n  {}. {} ({level})", index + 1, rule.says);
        for fact in &rule.facts {
            let _ = writeln!(out, "     here:   {fact}");
        }
        let _ = writeln!(out, "     basis:  {}", rule.basis);
        let _ = writeln!(out, "     source: {}", rule.source);
        let _ = writeln!(out, "     mend:   {}", rule.fix);
        let _ = writeln!(out, "     who:    {}", rule.who);
        let _ = writeln!(out, "     rule:   {}", rule.id);
    }
    out
}
