//! Reading rules: Cedar text into single rules with line, words and checks.
//!
//! Adoption is strict so that decisions are simple. A rule may read facts and compare them, and nothing else: no
//! arithmetic, no entities, no functions. Under strict validation what is left cannot err, because overflow,
//! missing attributes and extension functions are the only run-time errors of the language.

use crate::library::quote;
use crate::{SCHEMA, facts};
use cedar_policy::{
    ActionConstraint, Effect, EntityUid, Policy, PolicyId, PrincipalConstraint, ResourceConstraint, Schema,
    ValidationMode, Validator,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use study::{DocumentError, Place};

/// Actions that rules may name.
pub(crate) const ACTIONS: [&str; 3] = ["propose", "contribute", "release"];

/// Actions that protect people: no rule may name them (A12).
pub(crate) const PROTECTIVE: [&str; 9] =
    ["stop", "pause", "erase", "revoke", "withdraw", "report", "dispute", "appeal", "audit"];

/// Whose rules are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner<'a> {
    /// The floor: permits without condition, and forbids.
    Floor,
    /// A country schedule of this regime: forbids only.
    Schedule(&'a str),
}

/// One rule with its words.
pub(crate) struct Rule {
    pub id: String,
    pub line: usize,
    pub policy: Policy,
    pub says: String,
    pub fix: String,
    pub who: String,
    pub basis: String,
    pub source: Option<String>,
    pub shows: Option<String>,
}

impl Rule {
    /// What it enforces, without its words: actions and condition.
    pub fn enforced(&self) -> String {
        let est = self.policy.to_json().unwrap_or_default();
        let part = |key: &str| est.get(key).map(ToString::to_string).unwrap_or_default();
        format!("{} {} {}", part("effect"), part("action"), part("conditions"))
    }
}

/// The document being read, for errors.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub name: &'a str,
    /// Line of the document at which the text begins, from 1.
    pub first_line: usize,
    pub owner: Owner<'a>,
}

impl Reader<'_> {
    fn refuse(&self, line: usize, found: impl Into<String>, expected: impl Into<String>) -> DocumentError {
        DocumentError {
            document: self.name.to_string(),
            place: Place { line, column: 1 },
            found: found.into(),
            expected: expected.into(),
        }
    }

    /// Reads, lints and validates the rules of a text.
    pub fn read(&self, text: &str, schema: &Schema) -> Result<Vec<Rule>, DocumentError> {
        let mut rules = Vec::new();
        let mut ids = BTreeMap::new();
        for (line, statement) in self.split(text)? {
            let rule = self.rule(line, &statement)?;
            if let Some(before) = ids.insert(rule.id.clone(), line) {
                let found = format!("rule {} again (first on line {before})", quote(&rule.id));
                return Err(self.refuse(line, found, "each rule id once"));
            }
            rules.push(rule);
        }
        if self.owner == Owner::Floor {
            self.check_permits(&rules)?;
        }
        self.validate(&rules, schema)?;
        Ok(rules)
    }

    /// Splits a text into statements with the document's line on which each begins. Knows comments and strings.
    fn split(&self, text: &str) -> Result<Vec<(usize, String)>, DocumentError> {
        let mut out = Vec::new();
        let mut statement = String::new();
        let mut start = self.first_line;
        let mut line = self.first_line;
        let mut chars = text.chars().peekable();
        let mut in_string = false;
        while let Some(c) = chars.next() {
            if !in_string && c == '/' && chars.peek() == Some(&'/') {
                while chars.peek().is_some_and(|c| *c != '\n') {
                    chars.next();
                }
                continue;
            }
            if c == '\n' {
                line += 1;
            }
            if statement.is_empty() && c.is_whitespace() {
                continue;
            }
            if statement.is_empty() {
                start = line;
            }
            statement.push(c);
            match c {
                '"' => in_string = !in_string,
                '\\' if in_string => statement.extend(chars.next()),
                ';' if !in_string => out.push((start, std::mem::take(&mut statement))),
                _ => {}
            }
        }
        if statement.trim().is_empty() {
            Ok(out)
        } else {
            Err(self.refuse(start, quote(statement.trim()), "a rule that ends with `;`"))
        }
    }

    fn rule(&self, line: usize, text: &str) -> Result<Rule, DocumentError> {
        let first = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
        if matches!(first, "entity" | "action" | "type" | "namespace") {
            let expected = "rules only: the schema of facts and the entities are fixed and no policy text brings its own";
            return Err(self.refuse(line, format!("a schema declaration, {}", quote(text)), expected));
        }
        let policy = Policy::parse(None, text).map_err(|e| {
            let what = e.iter().next().map_or_else(|| e.to_string(), ToString::to_string);
            self.refuse(line, what.replace('\n', " "), "a rule that parses as a Cedar policy without slots")
        })?;
        if let Owner::Schedule(regime) = self.owner
            && policy.effect() == Effect::Permit
        {
            let found = format!("a `permit` in the country schedule of {regime}");
            let at = line + line_of_word(text, "permit");
            return Err(self.refuse(
                at,
                found,
                "`forbid` only: all permits are in the floor, a schedule can only tighten",
            ));
        }
        let word = |key: &str| policy.annotation(key).map(|w| w.trim().to_string()).filter(|w| !w.is_empty());
        let need = |key: &str| {
            word(key).ok_or_else(|| {
                self.refuse(line, format!("a rule without @{key}"), format!("@{key}(\"...\")"))
            })
        };
        let id = need("id")?;
        let prefix = match self.owner {
            Owner::Floor => "floor.".to_string(),
            Owner::Schedule(regime) => format!("{}.", regime.to_ascii_lowercase()),
        };
        let tail = id.strip_prefix(&prefix).unwrap_or_default();
        if tail.is_empty() || !tail.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        {
            let expected = format!("an id of `{prefix}` and lower-case letters, digits and `-`");
            return Err(self.refuse(line, format!("rule id {}", quote(&id)), expected));
        }
        let mut known = vec!["id"];
        let permit = policy.effect() == Effect::Permit;
        if !permit {
            known.extend(["says", "fix", "who", "basis", "shows"]);
            if self.owner == Owner::Floor {
                known.push("source");
            }
        }
        if let Some((key, _)) = policy.annotations().find(|(key, _)| !known.contains(key)) {
            let expected = format!("of annotations only @{}", known.join(", @"));
            return Err(self.refuse(line, format!("@{key}"), expected));
        }
        let shows = word("shows");
        if let Some(topic) = &shows
            && !facts::TOPICS.contains(&topic.as_str())
            && !facts::OTHER_TOPICS.contains(&topic.as_str())
        {
            let expected = format!("one of {}, {}", facts::TOPICS.join(", "), facts::OTHER_TOPICS.join(", "));
            return Err(self.refuse(line, format!("@shows({topic:?})"), expected));
        }
        self.check_scope(line, &policy)?;
        self.check_condition(line, &policy)?;
        let optional = |key: &str| if permit { Ok(String::new()) } else { need(key) };
        let source = if self.owner == Owner::Floor && !permit { Some(need("source")?) } else { None };
        Ok(Rule {
            line,
            says: optional("says")?,
            fix: optional("fix")?,
            who: optional("who")?,
            basis: optional("basis")?,
            source,
            shows,
            policy: policy.new_id(PolicyId::new(&id)),
            id,
        })
    }

    /// The scope names actions at most, and never a protective one.
    fn check_scope(&self, line: usize, policy: &Policy) -> Result<(), DocumentError> {
        let uids: Vec<EntityUid> = match policy.action_constraint() {
            ActionConstraint::Any => vec![],
            ActionConstraint::Eq(uid) => vec![uid],
            ActionConstraint::In(uids) => uids,
        };
        for uid in uids.iter().chain(&policy.entity_literals()) {
            let name: &str = uid.id().as_ref();
            if PROTECTIVE.contains(&name.to_ascii_lowercase().as_str()) {
                let expected = format!(
                    "one of {}: stopping, pausing, erasing, revoking, reporting, disputing and auditing are not \
                     for rules to forbid",
                    ACTIONS.join(", ")
                );
                return Err(self.refuse(line, format!("the protective action `{name}`"), expected));
            }
            if uid.type_name().basename() != "Action" || !ACTIONS.contains(&name) {
                let expected = format!("no entity but the actions {}", ACTIONS.join(", "));
                return Err(self.refuse(line, format!("the entity `{uid}`"), expected));
            }
        }
        let open = policy.principal_constraint() == PrincipalConstraint::Any
            && policy.resource_constraint() == ResourceConstraint::Any;
        if open {
            Ok(())
        } else {
            Err(self.refuse(
                line,
                "a rule for one party or study",
                "(principal, action ..., resource): rules bind by facts, not by name",
            ))
        }
    }

    /// One condition a rule, so that a refusal says which; and no operator that can err.
    fn check_condition(&self, line: usize, policy: &Policy) -> Result<(), DocumentError> {
        let est = policy.to_json().map_err(|e| self.refuse(line, e.to_string(), "a rule"))?;
        let conditions =
            est.get("conditions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if policy.effect() == Effect::Permit {
            return match (conditions, policy.action_constraint()) {
                ([], ActionConstraint::Eq(_)) => Ok(()),
                _ => Err(self.refuse(
                    line,
                    "a permit with a condition or for several actions",
                    "one permit for each action, on no condition: put the condition into a forbid of its own",
                )),
            };
        }
        let [condition] = conditions else {
            let found = format!("{} conditions", conditions.len());
            return Err(self.refuse(
                line,
                found,
                "exactly one `when { ... }` or `unless { ... }`: one condition a rule",
            ));
        };
        let positive = condition.get("kind").and_then(Value::as_str) == Some("when");
        let body = condition.get("body").unwrap_or(&Value::Null);
        self.check_expression(line, body, positive)
    }

    /// Walks an expression. `positive` is whether it must hold for the rule to say no.
    fn check_expression(&self, line: usize, expression: &Value, positive: bool) -> Result<(), DocumentError> {
        let Some((op, body)) = expression.as_object().and_then(|o| o.iter().next()) else {
            return Err(self.refuse(line, "an expression that is not understood", "comparisons of facts"));
        };
        let parts: Vec<&Value> = match op.as_str() {
            "Value" => return Ok(()),
            "Var" if body.as_str() == Some("context") => return Ok(()),
            "Var" => {
                let found = format!("`{}`", body.as_str().unwrap_or_default());
                return Err(self.refuse(
                    line,
                    found,
                    "`context` only: rules read facts, not parties or studies",
                ));
            }
            "." => body.get("left").into_iter().collect(),
            "Set" => body.as_array().map(|a| a.iter().collect()).unwrap_or_default(),
            "&&" if positive => sides(body),
            "!" => return body.get("arg").map_or(Ok(()), |arg| self.check_expression(line, arg, !positive)),
            "==" | "!=" | "<" | "<=" | ">" | ">=" | "contains" | "containsAll" | "containsAny" => sides(body),
            "like" => body.get("left").into_iter().collect(),
            "isEmpty" => body.get("arg").into_iter().collect(),
            "&&" | "||" | "if-then-else" => {
                let found = format!("`{op}`, by which the rule says no for more than one reason");
                return Err(self.refuse(line, found, "one condition a rule: write a rule for each reason"));
            }
            other => {
                let expected = "comparisons of facts only: no arithmetic, functions or entities, so that no rule can err";
                return Err(self.refuse(line, format!("`{other}`"), expected));
            }
        };
        parts.into_iter().try_for_each(|part| self.check_expression(line, part, positive))
    }

    /// The floor has exactly one permit for each action.
    fn check_permits(&self, rules: &[Rule]) -> Result<(), DocumentError> {
        let mut seen = BTreeSet::new();
        for rule in rules.iter().filter(|r| r.policy.effect() == Effect::Permit) {
            if let ActionConstraint::Eq(uid) = rule.policy.action_constraint() {
                let name: &str = uid.id().as_ref();
                if !seen.insert(name.to_string()) {
                    return Err(self.refuse(
                        rule.line,
                        format!("a second permit for `{name}`"),
                        "one permit for each action",
                    ));
                }
            }
        }
        match ACTIONS.iter().find(|a| !seen.contains(**a)) {
            Some(missing) => Err(self.refuse(
                self.first_line,
                format!("no permit for `{missing}`"),
                "one permit for each action",
            )),
            None => Ok(()),
        }
    }

    /// Strict validation against the schema; warnings are errors.
    fn validate(&self, rules: &[Rule], schema: &Schema) -> Result<(), DocumentError> {
        let set = cedar_policy::PolicySet::from_policies(rules.iter().map(|r| r.policy.clone()))
            .map_err(|e| self.refuse(self.first_line, e.to_string(), "rules that can stand together"))?;
        let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
        let errors = result.validation_errors().map(|e| (e.policy_id().clone(), e.to_string()));
        let warnings = result.validation_warnings().map(|w| (w.policy_id().clone(), w.to_string()));
        let mut all: Vec<_> = errors
            .chain(warnings)
            .map(|(id, text)| {
                let line = rules.iter().find(|r| *r.policy.id() == id).map_or(self.first_line, |r| r.line);
                (line, text)
            })
            .collect();
        all.sort();
        match all.into_iter().next() {
            None => Ok(()),
            Some((line, text)) => Err(self.refuse(
                line,
                text.replace('\n', " "),
                "facts by the names and types of policies/schema.cedarschema, in a rule that can apply",
            )),
        }
    }
}

fn sides(body: &Value) -> Vec<&Value> {
    body.get("left").into_iter().chain(body.get("right")).collect()
}

/// Lines between the start of a statement and the first `word` outside strings.
fn line_of_word(text: &str, word: &str) -> usize {
    let mut in_string = false;
    for (offset, line) in text.lines().enumerate() {
        let mut plain = String::new();
        let mut escaped = false;
        for c in line.chars() {
            match c {
                '"' if !escaped => in_string = !in_string,
                _ if !in_string => plain.push(c),
                _ => {}
            }
            escaped = in_string && c == '\\' && !escaped;
        }
        if plain.split(|c: char| !c.is_ascii_alphanumeric()).any(|w| w == word) {
            return offset;
        }
    }
    0
}

/// The schema of facts.
pub(crate) fn schema() -> Result<Schema, DocumentError> {
    let refuse = |found: String| DocumentError {
        document: "policies/schema.cedarschema".into(),
        place: Place::default(),
        found,
        expected: "a Cedar schema".into(),
    };
    let (schema, warnings) = Schema::from_cedarschema_str(SCHEMA).map_err(|e| refuse(e.to_string()))?;
    match warnings.map(|w| w.to_string()).next() {
        Some(warning) => Err(refuse(warning)),
        None => Ok(schema),
    }
}
