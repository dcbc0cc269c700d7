//! From a gate's input to the facts that rules read, and to the words that a refusal shows.
//!
//! The policy language cannot count, so sets are counted here, the same way at every node and in an auditor's
//! hands. Whatever was not asserted gets the value that denies.

use crate::input::{GateInput, Stage, Start, Vote};
use crate::transfer::{TransferFact, TransferRole};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Topics that a rule may name in `@shows`; a refusal prints the facts of its topic.
pub const TOPICS: [&str; 26] = [
    "aggregators",
    "by_site",
    "charter",
    "collector",
    "columns",
    "contributors",
    "dataset",
    "decision",
    "hidden_sites",
    "history",
    "lease",
    "min_cell",
    "numbers",
    "purpose",
    "recipients",
    "release",
    "retention",
    "run",
    "schedule",
    "tables",
    "transfer_aggregator",
    "transfer_collector",
    "transfer_contributor",
    "transfer_hub",
    "transfer_recipient",
    "watermark",
];

/// Topics beside [`TOPICS`] that stay without words on purpose, or have one line.
pub(crate) const OTHER_TOPICS: [&str; 4] = ["impact", "localisation", "until", "withheld"];

/// A time so far off that whatever needs it to be near denies; small enough for every canonical form.
const NEVER_MS: i64 = 9_000_000_000_000_000;

/// Facts for rules, and facts for people by topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The context that rules read, in the form of `policies/schema.cedarschema`.
    pub context: Value,
    /// Sentences by topic.
    pub topics: BTreeMap<String, Vec<String>>,
}

/// Computes all facts of an input.
pub fn derive(input: &GateInput) -> Facts {
    let mut words = Words::default();
    let context = json!({
        "charter": charter(input, &mut words),
        "schedule": schedule(input, &mut words),
        "study": study(input, &mut words),
        "aggregators": aggregators(input, &mut words),
        "collector": collector(input, &mut words),
        "hub": { "regime": input.charter.hub.regime },
        "plan": plan(input, &mut words),
        "transfers": transfers(input, &mut words),
        "dataset": dataset(input, &mut words),
        "decision": decision(input, &mut words),
        "history": history(input, &mut words),
        "run": run(input, &mut words),
        "release": release(input, &mut words),
    });
    Facts { context, topics: words.0 }
}

#[derive(Default)]
struct Words(BTreeMap<String, Vec<String>>);

impl Words {
    fn say(&mut self, topic: &str, sentence: String) {
        self.0.entry(topic.to_string()).or_default().push(sentence);
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX).min(NEVER_MS)
}

fn list<'a>(items: impl IntoIterator<Item = &'a String>) -> String {
    let items: Vec<&str> = items.into_iter().map(String::as_str).collect();
    if items.is_empty() { "none".into() } else { items.join(", ") }
}

fn day(ms: i64) -> String {
    // A last day is kept as the first instant after it.
    crate::library::date_of(ms.saturating_sub(1))
}

fn charter(input: &GateInput, words: &mut Words) -> Value {
    let c = &input.charter;
    if !c.in_force {
        words.say("charter", format!("signatures missing: {}", list(&c.unsigned)));
    }
    words.say("charter", format!("last day of the agreement: {}", day(c.sunset)));
    json!({ "in_force": c.in_force, "sunset_passed": input.now >= c.sunset })
}

fn schedule(input: &GateInput, words: &mut Words) -> Value {
    let s = &input.schedule;
    let text = match (&s.digest, &s.confirmed_by) {
        (None, _) => format!("{} has adopted no country schedule", input.node),
        (Some(d), None) => format!(
            "the schedule of {} (as of {}, digest {d}) is confirmed by nobody at {}",
            s.regime, s.as_of, input.node
        ),
        (Some(_), Some(seat)) => {
            format!("the schedule of {} (as of {}) is confirmed by {seat}", s.regime, s.as_of)
        }
    };
    words.say("schedule", text);
    json!({ "confirmed": s.digest.is_some() && s.confirmed_by.is_some(), "regime": s.regime })
}

fn study(input: &GateInput, words: &mut Words) -> Value {
    let s = &input.study;
    words.say("purpose", format!("the study's purpose is {}", s.purpose));
    words.say("purpose", format!("purposes of the agreement: {}", list(&input.charter.purposes)));
    if let Some(d) = &input.dataset {
        words.say(
            "purpose",
            format!("purposes of dataset {} at {}: {}", d.name, input.node, list(&d.purposes)),
        );
    }
    words.say("until", format!("last day of study {}: {}", s.id, day(s.until)));
    let contributors = input.contributors();
    words.say(
        "contributors",
        format!(
            "{} sites ({}), the study declares at least {}",
            contributors.len(),
            list(contributors),
            s.minimum_contributors
        ),
    );
    words.say("min_cell", format!("study {} asks for a least cell of {}", s.id, s.min_cell));
    words.say(
        "hidden_sites",
        format!(
            "{} of {} sites are hidden from whoever sees most; the study promises {}, the agreement asks for {}",
            input.hidden_sites(),
            contributors.len(),
            s.min_hidden_sites,
            input.hidden_sites_required()
        ),
    );
    let outside: Vec<_> = s.recipients.iter().filter_map(|r| r.outside.as_ref().map(|o| (r, o))).collect();
    for r in &s.recipients {
        let place = match &r.outside {
            Some(o) => format!("outside the federation, {o}"),
            None => {
                format!("member, {}", if r.regime.is_empty() { "jurisdiction unknown" } else { &r.regime })
            }
        };
        words.say("recipients", format!("{} ({place})", r.name));
    }
    let regimes: BTreeSet<&String> = s.recipients.iter().map(|r| &r.regime).collect();
    json!({
        "purpose": s.purpose,
        "purpose_in_charter": input.charter.purposes.contains(&s.purpose),
        "domain": s.domain,
        "expired": input.now >= s.until,
        "contributors": count(contributors.len()),
        "minimum_contributors": s.minimum_contributors,
        "min_cell": s.min_cell,
        "hidden_sites": input.hidden_sites(),
        "hidden_sites_declared": s.min_hidden_sites,
        "hidden_sites_required": input.hidden_sites_required(),
        "outside_recipients": count(outside.len()),
        "recipient_regimes": regimes,
    })
}

fn aggregators(input: &GateInput, words: &mut Words) -> Value {
    let s = &input.study;
    let named: BTreeSet<&String> = s.aggregators.iter().collect();
    words.say("aggregators", format!("named: {}", list(&s.aggregators)));
    let strangers: Vec<&String> =
        named.iter().copied().filter(|a| !input.charter.aggregator_pool.contains(*a)).collect();
    if !strangers.is_empty() {
        words.say(
            "aggregators",
            format!(
                "not in the pool ({}): {}",
                list(&input.charter.aggregator_pool),
                list(strangers.clone())
            ),
        );
    }
    let mut interested = 0;
    for a in &named {
        let mut parts = Vec::new();
        if **a == s.requester {
            parts.push("requester");
        }
        if **a == s.collector {
            parts.push("collector");
        }
        if s.recipients.iter().any(|r| r.name == **a) {
            parts.push("recipient");
        }
        if **a == input.charter.hub.operator {
            parts.push("hub operator");
        }
        if !parts.is_empty() {
            interested += 1;
            words.say("aggregators", format!("{a} is also {}", parts.join(" and ")));
        }
    }
    let members: Vec<_> = named.iter().filter_map(|a| input.parties.get(*a).map(|p| (*a, p))).collect();
    let mut same_control = 0;
    for (i, (a, x)) in members.iter().enumerate() {
        for (b, y) in members.iter().skip(i + 1) {
            if x.control == y.control {
                same_control += 1;
                words.say("aggregators", format!("{a} and {b} are both under {}", x.control));
            }
        }
    }
    // An aggregator whose place nobody knows adds no legal order: absent means deny.
    let orders: BTreeSet<&String> =
        members.iter().map(|(_, p)| &p.legal_order).filter(|order| !order.is_empty()).collect();
    words.say("aggregators", format!("legal orders: {}", list(orders.iter().copied())));
    let regimes: BTreeSet<&String> = members.iter().map(|(_, p)| &p.regime).collect();
    json!({
        "count": count(named.len()),
        "outside_pool": count(strangers.len()),
        "interested": interested,
        "same_control": same_control,
        "order_regimes": count(orders.len()),
        "regimes": regimes,
    })
}

fn collector(input: &GateInput, words: &mut Words) -> Value {
    let s = &input.study;
    let mut interested = 0;
    if s.collector == s.requester {
        interested += 1;
        words.say("collector", format!("{} also asks", s.collector));
    }
    if s.recipients.iter().any(|r| r.name == s.collector) {
        interested += 1;
        words.say("collector", format!("{} also receives the output", s.collector));
    }
    json!({ "interested": interested })
}

fn plan(input: &GateInput, words: &mut Words) -> Value {
    use study::Role;
    let p = &input.plan;
    let of = |role: Role| p.columns.iter().filter(move |(_, c)| c.role == role).map(|(name, _)| name);
    let identifiers: Vec<&String> = of(Role::Identifier).collect();
    if !identifiers.is_empty() {
        words.say("columns", format!("columns that name a person: {}", list(identifiers.clone())));
    }
    let mut value_axes = 0;
    let mut widest = 0;
    let mut by_site = false;
    for t in &p.tables {
        widest = widest.max(t.columns.len());
        if !t.single_values.is_empty() {
            value_axes += 1;
        }
        let single = if t.single_values.is_empty() {
            String::new()
        } else {
            format!("; by every single value of {}", list(&t.single_values))
        };
        let each = if t.by_site { ", one table a site" } else { "" };
        words.say(
            "tables",
            format!("{}: {} cells by {}{each}{single}", t.analysis, t.cells, list(&t.columns)),
        );
        if t.by_site {
            by_site = true;
            words.say("by_site", format!("{}: output by site", t.analysis));
        }
    }
    if let (true, Some(d)) = (by_site, &input.dataset) {
        let yes = if d.by_site { "allows" } else { "does not allow" };
        words.say("by_site", format!("dataset {} at {} {yes} output by site", d.name, input.node));
    }
    words.say(
        "numbers",
        format!(
            "{} numbers would be opened; {} sites of at most {} rows allow {}",
            p.numbers_opened,
            input.contributors().len(),
            p.max_rows,
            input.numbers_allowed()
        ),
    );
    let long = |n: u64| i64::try_from(n).unwrap_or(NEVER_MS).min(NEVER_MS);
    json!({
        "identifier_columns": count(identifiers.len()),
        "quasi_identifiers": count(of(Role::QuasiIdentifier).count()),
        "sensitive_columns": count(of(Role::Sensitive).count()),
        "value_axes": value_axes,
        "widest_table": count(widest),
        "by_site": by_site,
        "numbers_opened": long(p.numbers_opened),
        "numbers_allowed": long(input.numbers_allowed()),
        "replayed": p.replayed,
        "methods": p.methods,
    })
}

fn transfers(input: &GateInput, words: &mut Words) -> Value {
    let (_, routes) = input.routes();
    let mut without: BTreeMap<TransferRole, i64> = BTreeMap::new();
    let mut unrecognised = 0;
    let mut on_instrument = 0;
    for (role, to) in &routes {
        // A pair that was not looked up has no basis.
        let fact = input.transfers.iter().find(|f| {
            f.role == *role && f.to_party == to.name && f.from_party == input.node && f.outside == to.outside
        });
        let topic = format!("transfer_{}", role.as_str());
        match fact {
            Some(f) if f.has_basis() => on_instrument += i64::from(f.instrument.is_some()),
            Some(f) => {
                *without.entry(*role).or_default() += 1;
                words.say(&topic, missing(f));
            }
            None => {
                *without.entry(*role).or_default() += 1;
                words.say(&topic, format!("{} to {}: no transfer basis was looked up", input.node, to.name));
            }
        }
        if *role == TransferRole::Recipient && !fact.is_some_and(TransferFact::recognised) {
            unrecognised += 1;
            words.say(
                "recipients",
                format!("{}: not recognised in full by the law of {}", to.name, input.schedule.regime),
            );
        }
    }
    let of = |role| without.get(&role).copied().unwrap_or(0);
    json!({
        "aggregator_without_basis": of(TransferRole::Aggregator),
        "collector_without_basis": of(TransferRole::Collector),
        "hub_without_basis": of(TransferRole::Hub),
        "recipient_without_basis": of(TransferRole::Recipient),
        "contributor_without_basis": of(TransferRole::Contributor),
        "recipient_without_adequacy": unrecognised,
        "on_instrument": on_instrument,
    })
}

/// What a pair without a basis lacks, with the source.
fn missing(f: &TransferFact) -> String {
    let to = if f.outside {
        format!("{} (outside, {})", f.to_party, f.to)
    } else {
        format!("{} ({})", f.to_party, f.to)
    };
    let needs = match (&f.otherwise, f.mechanism.as_str()) {
        (_, "unknown") => return format!("{} ({}) to {to}: {}", f.from_party, f.from, f.source),
        (Some(o), m) => format!("{m}, or else {o}"),
        (None, m) => m.to_string(),
    };
    let condition = f.condition.as_ref().map(|c| format!(" ({c})")).unwrap_or_default();
    format!(
        "{} ({}) to {to}, {}: needs {needs}{condition}, and no instrument for it is on the record; {}, {}, as of {}",
        f.from_party,
        f.from,
        f.role.what(),
        f.source,
        f.verified,
        f.as_of
    )
}

fn dataset(input: &GateInput, words: &mut Words) -> Value {
    let node = &input.node;
    let Some(d) = &input.dataset else {
        words.say("dataset", format!("{node} has registered no dataset for this study"));
        return json!({
            "registered": false, "legal_basis_stated": false, "purpose_allowed": false, "paused": true,
            "retention_passed": true, "mapping_tested": false, "unmapped_columns": count(input.plan.columns.len()),
            "by_site_allowed": false, "special_category": true, "impact_assessed": false,
        });
    };
    let basis = d.legal_basis.trim();
    let stated = if basis.is_empty() { "none stated" } else { basis };
    words.say("dataset", format!("dataset {} at {node}, legal basis: {stated}", d.name));
    if d.paused {
        words.say("dataset", format!("dataset {} at {node} is paused", d.name));
    }
    if !d.mapping_tested {
        words.say("dataset", format!("the mapping of dataset {} at {node} has not passed its tests", d.name));
    }
    words.say("retention", format!("dataset {} at {node} may be kept until {}", d.name, day(d.retention)));
    let unmapped: Vec<&String> = input.plan.columns.keys().filter(|c| !d.mapped.contains(*c)).collect();
    if !unmapped.is_empty() {
        words.say("columns", format!("not mapped at {node}: {}", list(unmapped.clone())));
    }
    let assessed = d.impact_assessment.as_ref().is_some_and(|r| !r.trim().is_empty());
    let reference = d.impact_assessment.as_deref().filter(|_| assessed).unwrap_or("none on the record");
    words.say("impact", format!("impact assessment of dataset {} at {node}: {reference}", d.name));
    json!({
        "registered": true,
        "legal_basis_stated": !basis.is_empty(),
        "purpose_allowed": d.purposes.contains(&input.study.purpose),
        "paused": d.paused,
        "retention_passed": input.now >= d.retention,
        "mapping_tested": d.mapping_tested,
        "unmapped_columns": count(unmapped.len()),
        "by_site_allowed": d.by_site,
        "special_category": d.special_category,
        "impact_assessed": assessed,
    })
}

fn decision(input: &GateInput, words: &mut Words) -> Value {
    let d = &input.decision;
    let yes = |party: &String| matches!(d.votes.get(party), Some(Vote::Yes { until }) if input.now < *until);
    let describe = |party: &String| match d.votes.get(party) {
        None => "has not voted".to_string(),
        Some(Vote::No) => "voted no".to_string(),
        Some(Vote::Revoked) => "took its yes back".to_string(),
        Some(Vote::Yes { until }) => format!("said yes, which ended on {}", day(*until)),
    };
    let missing: Vec<&String> = input.contributors().iter().filter(|c| !yes(c)).collect();
    for party in &missing {
        words.say("decision", format!("{party} {}", describe(party)));
    }
    words.say("decision", format!("{} stewards have voted, {} must have", d.votes.len(), d.quorum));
    json!({
        "own_yes": yes(&input.node),
        "votes": count(d.votes.len()),
        "quorum": d.quorum,
        "contributors_without_yes": count(missing.len()),
    })
}

fn history(input: &GateInput, words: &mut Words) -> Value {
    let close = input.close_sets();
    for run in &close {
        words.say(
            "history",
            format!(
                "sites of {run}: differ from this set by fewer than {} hidden sites",
                input.hidden_sites_required()
            ),
        );
    }
    let unguarded: BTreeSet<&String> = input
        .earlier
        .iter()
        .filter(|r| r.study != input.study.id && !r.same_population && !input.plan.guards.contains(&r.study))
        .map(|r| &r.study)
        .collect();
    for study in &unguarded {
        words.say("history", format!(
                "the plan does not measure its population against that of {study} (between datasets it cannot)"
            ));
    }
    words.say("history", format!("{} earlier runs opened sums over this dataset", input.earlier.len()));
    json!({
        "close_sets": count(close.len()),
        "unguarded": count(unguarded.len()),
        "exact_outputs": count(input.earlier.len()),
    })
}

fn run(input: &GateInput, words: &mut Words) -> Value {
    let limit = input.charter.watermark_limit_ms;
    if input.stopped {
        words.say("run", format!("{} is stopped", input.node));
    }
    let Some(r) = &input.run else {
        if input.stage != Stage::Propose {
            words.say("run", "no run is set".into());
        }
        return json!({
            "names_this_node": false, "unsigned_aggregators": count(input.study.aggregators.len().max(1)),
            "stopped": input.stopped, "watermark_age_ms": NEVER_MS, "watermark_limit_ms": limit,
            "lease_live": false, "receipt_logged": false, "question_replayed": false,
        });
    };
    let unsigned: Vec<&String> =
        input.study.aggregators.iter().filter(|a| !r.signed_by.contains(*a)).collect();
    if !unsigned.is_empty() {
        words.say("run", format!("run {}: set of sites not signed by {}", r.run, list(unsigned.clone())));
    }
    if !r.contributors.contains(&input.node) {
        words.say(
            "run",
            format!("run {} does not name {}: its sites are {}", r.run, input.node, list(&r.contributors)),
        );
    }
    let age = r.watermark_age_ms.filter(|age| *age >= 0).unwrap_or(NEVER_MS);
    let old = if age >= NEVER_MS { "none".to_string() } else { format!("{} s old", age / 1000) };
    words.say(
        "watermark",
        format!("the newest checkpoint with a quorum is {old}, at most {} s allowed", limit / 1000),
    );
    let (lease, logged, replayed) = match r.start {
        Start::Permit => (true, true, true),
        Start::Round { lease_until, receipt_logged, question_replayed, stage, round } => {
            if !question_replayed {
                words.say(
                    "run",
                    format!("stage {stage} round {round}: the question is not the one replayed here"),
                );
            }
            let live = input.now < lease_until;
            words.say("lease", format!("the lease {}", if live { "is live" } else { "has run out" }));
            let on = if receipt_logged { "is" } else { "is not" };
            words.say("lease", format!("the permit's receipt {on} on the record"));
            (live, receipt_logged, question_replayed)
        }
    };
    json!({
        "names_this_node": r.contributors.contains(&input.node),
        "unsigned_aggregators": count(unsigned.len()),
        "stopped": input.stopped,
        "watermark_age_ms": age.min(NEVER_MS),
        "watermark_limit_ms": limit.min(NEVER_MS),
        "lease_live": lease,
        "receipt_logged": logged,
        "question_replayed": replayed,
    })
}

fn release(input: &GateInput, words: &mut Words) -> Value {
    let contributors = input.contributors();
    let Some(r) = &input.release else {
        return json!({
            "receipts_missing": count(contributors.len().max(1)), "guard_passed": false, "check_passed": false,
        });
    };
    let missing: Vec<&String> = contributors.iter().filter(|c| !r.receipts.contains(*c)).collect();
    if !missing.is_empty() {
        words.say("release", format!("no permit on the record from {}", list(missing.clone())));
    }
    if !(r.guard_passed && r.check_passed) {
        // One sentence for every cause (A3).
        words.say("withheld", "withheld by disclosure control".into());
    }
    json!({
        "receipts_missing": count(missing.len()),
        "guard_passed": r.guard_passed,
        "check_passed": r.check_passed,
    })
}
