//! What a change of policies would do: which rules it loosens, and which past answers would differ.

use crate::input::GateInput;
use crate::lint;
use crate::schedule::Schedule;
use crate::set::PolicySet;
use record::Digest;
use std::collections::BTreeMap;
use study::DocumentError;

/// A past request whose answer would differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    /// Digest of its input.
    pub input: Digest,
    /// Member whose gate it was.
    pub node: String,
    /// The study.
    pub study: String,
    /// Whether it was allowed.
    pub was: bool,
    /// Whether it would be.
    pub now: bool,
}

/// Rules of `old` that `new` drops or words otherwise in what they enforce. Each may loosen, so a change with any
/// is a decision and shown as a loosening (A12); a change with none only adds and takes effect by itself.
pub fn loosenings(old: &Schedule, new: Option<&Schedule>) -> Result<Vec<String>, DocumentError> {
    let schema = lint::schema()?;
    let enforced = |schedule: &Schedule| -> Result<BTreeMap<String, String>, DocumentError> {
        let rules = schedule.rules(&schema)?;
        Ok(rules.into_iter().map(|r| (r.id.clone(), r.enforced())).collect())
    };
    let after = match new {
        Some(new) if new.jurisdiction() == old.jurisdiction() => enforced(new)?,
        _ => BTreeMap::new(),
    };
    let before = enforced(old)?;
    Ok(before.into_iter().filter(|(id, text)| after.get(id) != Some(text)).map(|(id, _)| id).collect())
}

/// Past requests whose answer would differ under `new`. Inputs name the policies of their time, so only the rules
/// are compared here, not whether they are those on the record.
pub fn flips(old: &PolicySet, new: &PolicySet, inputs: &[GateInput]) -> Vec<Flip> {
    let flip = |input: &GateInput| {
        let (was, now) = (old.rules_allow(input), new.rules_allow(input));
        let bytes = record::canon::to_bytes(input).unwrap_or_default();
        let (input, node, study) = (Digest::of(&bytes), input.node.clone(), input.study.id.clone());
        (was != now).then_some(Flip { input, node, study, was, now })
    };
    inputs.iter().filter_map(flip).collect()
}
