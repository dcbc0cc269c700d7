//! The policies in force at one node, and the decision.

use crate::input::{GateInput, OLDEST, Stage, VERSION};
use crate::lint::{self, Owner, Reader};
use crate::schedule::Schedule;
use crate::verdict::{Determining, Verdict};
use crate::{ENGINE, SCHEMA, facts};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityId, EntityTypeName, EntityUid, Request, Schema,
};
use record::Digest;
use std::collections::BTreeMap;
use std::str::FromStr;
use study::DocumentError;

/// Policies that were refused.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A policy text, with its place.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Two rules that cannot stand beside each other.
    #[error("rule `{id}` is in the floor and in the schedule of {regime}: each rule id stands once")]
    Twice {
        /// The rule.
        id: String,
        /// The schedule's regime.
        regime: String,
    },
}

/// The floor and, where there is one, a country schedule: what one node decides by.
#[derive(Clone)]
pub struct PolicySet {
    schema: Schema,
    policies: cedar_policy::PolicySet,
    /// Words by rule id, with the rule's position.
    words: BTreeMap<String, (usize, Words)>,
    floor: Digest,
    schedule: Option<(String, Digest)>,
    digest: Digest,
}

/// What a refusal by one rule says.
#[derive(Clone)]
struct Words {
    level: String,
    basis: String,
    source: String,
    says: String,
    fix: String,
    who: String,
    shows: Option<String>,
}

impl PolicySet {
    /// Reads the floor and puts the schedule beside it. Without a schedule the set is complete and refuses,
    /// because the floor asks for a confirmed one.
    pub fn load(floor: &str, schedule: Option<&Schedule>) -> Result<PolicySet, PolicyError> {
        let schema = lint::schema()?;
        let rules =
            Reader { name: "floor.cedar", first_line: 1, owner: Owner::Floor }.read(floor, &schema)?;
        let mut set = PolicySet {
            schema,
            policies: cedar_policy::PolicySet::new(),
            words: BTreeMap::new(),
            floor: Digest::of(floor.as_bytes()),
            schedule: schedule.map(|s| (s.jurisdiction().to_string(), s.digest())),
            digest: Digest::of(b""),
        };
        for rule in rules {
            let source = rule.source.clone().unwrap_or_default();
            set.add(rule, "floor", source, "none")?;
        }
        if let Some(schedule) = schedule {
            let level = format!("schedule:{}", schedule.jurisdiction());
            for rule in schedule.rules(&set.schema)? {
                let source = schedule.source_of(&rule.basis);
                set.add(rule, &level, source, schedule.jurisdiction())?;
            }
        }
        let beside =
            set.schedule.as_ref().map_or("none".to_string(), |(regime, digest)| format!("{regime} {digest}"));
        let schema = Digest::of(SCHEMA.as_bytes());
        let text = format!("comity-policy/1\nschema {schema}\nfloor {}\nschedule {beside}\n", set.floor);
        set.digest = Digest::of(text.as_bytes());
        Ok(set)
    }

    fn add(
        &mut self,
        rule: lint::Rule,
        level: &str,
        source: String,
        regime: &str,
    ) -> Result<(), PolicyError> {
        let twice = || PolicyError::Twice { id: rule.id.clone(), regime: regime.to_string() };
        self.policies.add(rule.policy.clone()).map_err(|_| twice())?;
        let words = Words {
            level: level.to_string(),
            basis: rule.basis.clone(),
            source,
            says: rule.says.clone(),
            fix: rule.fix.clone(),
            who: rule.who.clone(),
            shows: rule.shows.clone(),
        };
        let position = self.words.len();
        self.words.insert(rule.id.clone(), (position, words));
        Ok(())
    }

    /// Digest over schema, floor and schedule: what receipts name.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Digest of the floor's text: what the charter names.
    pub fn floor_digest(&self) -> Digest {
        self.floor
    }

    /// Regime and digest of the schedule.
    pub fn schedule(&self) -> Option<(&str, Digest)> {
        self.schedule.as_ref().map(|(regime, digest)| (regime.as_str(), *digest))
    }

    /// Ids of all rules with their level, in the order of the texts.
    pub fn rule_ids(&self) -> Vec<(String, String)> {
        let mut ids: Vec<_> =
            self.words.iter().map(|(id, (n, w))| (n, w.level.clone(), id.clone())).collect();
        ids.sort();
        ids.into_iter().map(|(_, level, id)| (level, id)).collect()
    }

    /// Whether the rules alone allow a request, whatever the record has in force.
    pub(crate) fn rules_allow(&self, input: &GateInput) -> bool {
        let outcome = self.evaluate(input, &facts::derive(input));
        outcome.is_ok_and(|(allowed, reasons, faults)| allowed && reasons.is_empty() && faults.is_empty())
    }

    /// Whether these are the policies that the record has in force, in words if not.
    fn mismatches(&self, input: &GateInput) -> Vec<String> {
        let mut faults = Vec::new();
        if !(OLDEST..=VERSION).contains(&input.version) {
            faults.push(format!("gate input of version {}, this engine reads {VERSION}", input.version));
        }
        if input.charter.floor != self.floor {
            faults
                .push(format!("the agreement names floor {}, loaded is {}", input.charter.floor, self.floor));
        }
        match (&input.schedule.digest, &self.schedule) {
            (None, None) => {}
            (Some(recorded), Some((regime, loaded)))
                if recorded == loaded && *regime == input.schedule.regime => {}
            (recorded, loaded) => {
                let recorded =
                    recorded.map_or("none".to_string(), |d| format!("{} {d}", input.schedule.regime));
                let loaded = loaded.as_ref().map_or("none".to_string(), |(r, d)| format!("{r} {d}"));
                faults.push(format!("the record has country schedule {recorded}, loaded is {loaded}"));
            }
        }
        if let Some(party) = input.parties.get(&input.node)
            && let Some((regime, _)) = &self.schedule
            && party.regime != *regime
        {
            faults.push(format!("{} is in {}, its schedule is for {regime}", input.node, party.regime));
        }
        faults
    }

    /// The rules as Cedar, from input to what they said: allowed by rules, rules that forbid, faults.
    fn evaluate(
        &self,
        input: &GateInput,
        facts: &facts::Facts,
    ) -> Result<(bool, Vec<String>, Vec<String>), String> {
        let uid = |kind: &str, id: &str| -> Result<EntityUid, String> {
            let kind = EntityTypeName::from_str(kind).map_err(|e| e.to_string())?;
            Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
        };
        let action = uid("Action", input.stage.as_str())?;
        let context = Context::from_json_value(facts.context.clone(), Some((&self.schema, &action)))
            .map_err(|e| format!("facts do not fit the schema: {e}"))?;
        let (principal, resource) = (uid("Party", &input.node)?, uid("Study", &input.study.id)?);
        let request = Request::new(principal, action, resource, context, Some(&self.schema))
            .map_err(|e| format!("facts do not fit the schema: {e}"))?;
        let response = Authorizer::new().is_authorized(&request, &self.policies, &Entities::empty());
        let name = |id: &cedar_policy::PolicyId| {
            let id: &str = id.as_ref();
            id.to_string()
        };
        let mut faults: Vec<String> =
            response.diagnostics().errors().map(|e| format!("a rule erred: {e}")).collect();
        faults.sort();
        let reasons: Vec<String> = response.diagnostics().reason().map(name).collect();
        Ok(match response.decision() {
            Decision::Allow => (true, Vec::new(), faults),
            Decision::Deny => {
                if reasons.is_empty() && faults.is_empty() {
                    faults.push("no rule decided: the request was denied for want of a permit".into());
                }
                (false, reasons, faults)
            }
        })
    }
}

/// Decides. Allowed is only what a permit allows, no rule forbids, and nothing went wrong about: a rule that
/// errs, facts that do not fit, policies other than those on the record, and a default deny are faults, and a
/// fault is a no.
pub fn decide(set: &PolicySet, input: &GateInput) -> Verdict {
    let facts = facts::derive(input);
    let mut faults = set.mismatches(input);
    let digest = match record::canon::to_bytes(input) {
        Ok(bytes) => Digest::of(&bytes),
        Err(e) => {
            faults.push(format!("the input has no canonical form: {e}"));
            Digest::of(b"")
        }
    };
    let (allowed, mut reasons, more) =
        set.evaluate(input, &facts).unwrap_or_else(|e| (false, vec![], vec![e]));
    faults.extend(more);
    reasons.sort_by_key(|id| set.words.get(id).map_or(usize::MAX, |(n, _)| *n));
    let determining = reasons.iter().filter_map(|id| set.determining(id, &facts)).collect();
    Verdict {
        stage: input.stage,
        node: input.node.clone(),
        study: input.study.id.clone(),
        // INVARIANT: nothing but this line makes a verdict that allows.
        allow: allowed && reasons.is_empty() && faults.is_empty(),
        determining,
        faults,
        policy: set.digest,
        input: digest,
        engine: ENGINE.to_string(),
    }
}

impl PolicySet {
    fn determining(&self, id: &str, facts: &facts::Facts) -> Option<Determining> {
        let (_, w) = self.words.get(id)?;
        let shown = w.shows.as_ref().and_then(|topic| facts.topics.get(topic)).cloned().unwrap_or_default();
        Some(Determining {
            id: id.to_string(),
            level: w.level.clone(),
            basis: w.basis.clone(),
            source: w.source.clone(),
            says: w.says.clone(),
            fix: w.fix.clone(),
            who: w.who.clone(),
            facts: shown,
        })
    }
}

/// For a dry check: what would still be needed, beyond what already refuses the proposal, before this node
/// could contribute. Before a run is set, what only a run can bring is left out.
pub fn still_needed(set: &PolicySet, input: &GateInput) -> Vec<Determining> {
    let mut later = input.clone();
    later.stage = Stage::Contribute;
    let now = decide(set, input).rules();
    let of_run = |d: &Determining| {
        let shows = set.words.get(&d.id).and_then(|(_, w)| w.shows.as_deref());
        input.run.is_none() && matches!(shows, Some("run" | "watermark" | "lease"))
    };
    let later = decide(set, &later).determining;
    later.into_iter().filter(|d| !now.contains(&format!("{}/{}", d.level, d.id)) && !of_run(d)).collect()
}

#[cfg(test)]
impl PolicySet {
    /// A set with one more policy that no adoption has seen.
    pub(crate) fn with_unchecked(mut self, text: &str) -> PolicySet {
        #![allow(clippy::unwrap_used)]
        let policy =
            cedar_policy::Policy::parse(Some(cedar_policy::PolicyId::new("unchecked")), text).unwrap();
        self.policies.add(policy).unwrap();
        self
    }

    /// A set without one of its policies.
    pub(crate) fn without(mut self, id: &str) -> PolicySet {
        #![allow(clippy::unwrap_used)]
        self.policies.remove_static(cedar_policy::PolicyId::new(id)).unwrap();
        self
    }
}
