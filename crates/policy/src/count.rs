//! What the policy language cannot count: sites, hidden sites, numbers, sets that come too close.

use crate::input::{EarlierRun, GateInput};
use std::collections::BTreeSet;

/// Fewest hidden sites under any agreement: the floor's own choice.
pub const LEAST_HIDDEN_SITES: u32 = 3;

/// Rows, by the dictionary's public maximum, for each number that may be opened: the floor's own choice.
pub const ROWS_PER_NUMBER: u64 = 10;

impl GateInput {
    /// The sites that are summed: the run's set, or before a run those asked for.
    pub fn contributors(&self) -> &BTreeSet<String> {
        self.run.as_ref().map_or(&self.study.contributors, |r| &r.contributors)
    }

    /// Members that see sums or hold shares, and so do not count as hidden (A2).
    pub fn seers(&self) -> BTreeSet<&str> {
        let mut seers: BTreeSet<&str> = self.study.aggregators.iter().map(String::as_str).collect();
        seers.insert(self.study.collector.as_str());
        seers.extend(self.study.recipients.iter().filter(|r| r.outside.is_none()).map(|r| r.name.as_str()));
        seers
    }

    /// Sites hidden from whoever sees most. Where sums go back for replay, a hidden site sees them too and
    /// subtracts its own, so one fewer is hidden from it.
    pub fn hidden_sites(&self) -> u32 {
        let seers = self.seers();
        let hidden = self.contributors().iter().filter(|c| !seers.contains(c.as_str())).count();
        let hidden = if self.plan.replayed { hidden.saturating_sub(1) } else { hidden };
        u32::try_from(hidden).unwrap_or(u32::MAX)
    }

    /// Fewest hidden sites that a study must promise here.
    pub fn hidden_sites_required(&self) -> u32 {
        self.charter.min_hidden_sites.max(LEAST_HIDDEN_SITES)
    }

    /// Most numbers that the study may open: rows by the dictionary's public maximum over [`ROWS_PER_NUMBER`].
    pub fn numbers_allowed(&self) -> u64 {
        let sites = self.contributors().len() as u64;
        sites.saturating_mul(u64::from(self.plan.max_rows)) / ROWS_PER_NUMBER
    }

    /// Earlier runs over shared columns whose set of sites differs from this one by too few hidden sites.
    pub fn close_sets(&self) -> Vec<String> {
        let (seers, now) = (self.seers(), self.contributors());
        let close = |r: &&EarlierRun| {
            let differs = r.contributors.symmetric_difference(now);
            let hidden = differs.clone().filter(|c| !seers.contains(c.as_str())).count();
            r.shared_columns && r.contributors != *now && hidden < self.hidden_sites_required() as usize
        };
        self.earlier.iter().filter(close).map(|r| format!("{} run {}", r.study, r.run)).collect()
    }
}
