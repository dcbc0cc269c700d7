//! Which round it is: everything that a share, a key and a sum are bound to.

use crate::envelope::{Binding, message_bytes};
use crate::error::{ContextFault, RoundError};
use crate::groups::Groups;
use record::{Digest, canon, is_party_id};
use serde::{Deserialize, Serialize};
use study::Layout;

/// Fewest contributors of a sum: with two, each reads the other's term off the sum (A18, small cohorts).
pub const MIN_CONTRIBUTORS: usize = 3;
/// Most contributors of a sum.
pub const MAX_CONTRIBUTORS: usize = 1024;
/// Most aggregators of a round.
pub const MAX_AGGREGATORS: usize = 8;

/// One round, as all its parties must see it. Its digest is the context string of every share, proof, verify
/// key and sealed message, so that parties who see different rounds cannot take part in one another's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundContext {
    /// Digest of the federation's charter.
    pub federation: Digest,
    /// The study's id.
    pub study: String,
    /// Number of the study's run.
    pub run: u32,
    /// Index of the stage in the plan.
    pub stage: u32,
    /// Number of the round in its stage.
    pub round: u32,
    /// Who contributes, sorted: all of them or the round opens nothing (A2).
    pub contributors: Vec<String>,
    /// Who aggregates, in the study's order; the first holds the long shares.
    pub aggregators: Vec<String>,
    /// Who collects.
    pub collector: String,
    /// Whether the contributors read the sum too, to replay the plan's next step (A1).
    pub replayed: bool,
    /// Digest of the plan.
    pub plan: Digest,
    /// Digest of the question that is answered.
    pub question: Digest,
    /// What each contributor's vector holds.
    pub layout: Layout,
}

/// What stays the same however a round's contributors, question or layout are changed: the key under which a
/// node keeps that it opened the round, so that it never opens it a second time for others.
#[derive(Serialize)]
struct Slot<'a> {
    federation: Digest,
    study: &'a str,
    run: u32,
    stage: u32,
    round: u32,
}

/// Everything that a round is bound to, layout and slot by their digests.
#[derive(Serialize)]
struct Terms<'a> {
    slot: Digest,
    contributors: &'a [String],
    aggregators: &'a [String],
    collector: &'a str,
    replayed: bool,
    plan: Digest,
    question: Digest,
    layout: Digest,
}

impl RoundContext {
    /// Checks that the round can be run at all.
    pub fn check(&self) -> Result<(), RoundError> {
        privacy::check_layout(&self.layout)?;
        let everyone = self.contributors.iter().chain(&self.aggregators).chain([&self.collector]);
        if let Some(party) = everyone.into_iter().find(|p| !is_party_id(p)) {
            return Err(ContextFault::Name { party: party.clone() }.into());
        }
        let found = self.aggregators.len();
        let twice = self
            .aggregators
            .iter()
            .enumerate()
            .any(|(i, a)| self.aggregators.iter().skip(i + 1).any(|b| a == b));
        if !(2..=MAX_AGGREGATORS).contains(&found) || twice {
            return Err(ContextFault::Aggregators { found }.into());
        }
        let found = self.contributors.len();
        let sorted = self.contributors.is_sorted_by(|a, b| a < b);
        if !(MIN_CONTRIBUTORS..=MAX_CONTRIBUTORS).contains(&found) || !sorted {
            return Err(ContextFault::Contributors { found }.into());
        }
        if self.aggregators.contains(&self.collector) {
            return Err(ContextFault::Collector { party: self.collector.clone() }.into());
        }
        Ok(())
    }

    /// Digest of all of it in canonical form, the layout by its own digest. Not for the record: it covers the
    /// question, which in an iterative stage follows from opened sums (A4).
    pub fn digest(&self) -> Result<Digest, RoundError> {
        self.digest_with(privacy::layout_digest(&self.layout)?)
    }

    pub(crate) fn digest_with(&self, layout: Digest) -> Result<Digest, RoundError> {
        let RoundContext { contributors, aggregators, collector, replayed, plan, question, .. } = self;
        let terms = Terms {
            slot: self.slot()?,
            contributors,
            aggregators,
            collector,
            replayed: *replayed,
            plan: *plan,
            question: *question,
            layout,
        };
        let bytes = canon::to_bytes(&terms).map_err(|_| ContextFault::Canonical)?;
        Ok(Digest::of(&bytes))
    }

    /// Digest of federation, study, run, stage and round alone: what is opened once, whoever contributes.
    pub fn slot(&self) -> Result<Digest, RoundError> {
        let RoundContext { federation, study, run, stage, round, .. } = self;
        let slot = Slot { federation: *federation, study, run: *run, stage: *stage, round: *round };
        let bytes = canon::to_bytes(&slot).map_err(|_| ContextFault::Canonical)?;
        Ok(Digest::of(&bytes))
    }

    /// Whether a party reads the sum: the collector, and the contributors of a replayed stage.
    pub fn reads(&self, party: &str) -> bool {
        party == self.collector || (self.replayed && self.contributors.iter().any(|c| c == party))
    }

    /// Bytes that each contributor sends in this round, by aggregator: known before a row is read.
    pub fn egress(&self) -> Result<Vec<(String, usize)>, RoundError> {
        let binding = Binding::new(self)?;
        let groups = Groups::new(&self.layout, self.aggregators.len(), &binding)?;
        let bytes = |(i, to): (usize, &String)| (to.clone(), message_bytes(groups.share_bytes(i)));
        Ok(self.aggregators.iter().enumerate().map(bytes).collect())
    }

    /// The parties that read the sum, sorted.
    pub fn readers(&self) -> Vec<String> {
        let mut readers = if self.replayed { self.contributors.clone() } else { Vec::new() };
        readers.push(self.collector.clone());
        readers.sort();
        readers.dedup();
        readers
    }
}
