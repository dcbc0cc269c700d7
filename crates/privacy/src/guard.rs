//! The verdict on the guard round: pooled counts against the study's protection, before anything is shown.

use crate::sites::hidden_sites_for_all;
use std::collections::BTreeSet;
use study::{GuardCell, GuardRule, Plan, Recipient, Study};

/// Rows for each number opened. A regression's rule of thumb asks ten events for each coefficient; a plan
/// opens about `p^2/2` sums for `p` coefficients, every round, so ten rows for each *sum* is the stricter of
/// the two, and it keeps the sums far below the order of `n` exact answers with which `n` rows can be
/// reconstructed (Dinur and Nissim, PODS 2003). A logistic regression of eight coefficients over at most
/// twelve rounds opens some 600 numbers and so needs some 6,000 rows.
pub const ROWS_PER_NUMBER: u32 = 10;

/// The output is not shown. Carries nothing, on purpose: which rule failed would answer a question about rows
/// (A3). Separation, drop-out and time-outs of a run end in it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("withheld by disclosure control")]
pub struct Withheld;

/// The one bit that the guard round gives out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The study may go on.
    Pass,
    /// It may not, whichever rule failed.
    Withheld,
}

/// What the release check demands beside the study's own protection. It can only tighten: of two minimums the
/// greater counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseRules {
    /// Least count of persons in a released cell.
    pub min_cell: u32,
    /// Fewest hidden sites, from every viewer's side.
    pub min_hidden_sites: u32,
    /// Rows for each number opened, at least.
    pub rows_per_number: u32,
    /// Numbers that earlier studies opened on the same dataset, from the record.
    pub opened_before: u64,
}

impl ReleaseRules {
    /// The study's own protection with ten rows for each number and no earlier study.
    pub fn of(study: &Study) -> ReleaseRules {
        ReleaseRules {
            min_cell: study.protection.min_cell,
            min_hidden_sites: study.protection.min_hidden_sites,
            rows_per_number: ROWS_PER_NUMBER,
            opened_before: 0,
        }
    }

    /// The minimum cell in force: never less than one, which would show single persons as nobody.
    pub fn min_cell_for(&self, study: &Study) -> u32 {
        self.min_cell.max(study.protection.min_cell).max(1)
    }
}

/// What the guard counts say, once they are known to be counts that fit together.
pub(crate) struct Counts {
    pub rows_read: u64,
    pub excluded: Vec<(GuardCell, u64)>,
    pub analysed: u64,
}

/// The verdict on a study from its pooled guard counts. `cells` is `study::guard_cells` of the study, `values`
/// the decoded sums of the guard stage over `contributors`, in the same order.
///
/// Withheld unless: the counts are whole numbers that fit together; the contributors are the study's, enough
/// of them and enough of them hidden from every viewer; rows analysed reach the minimum cell; each table cell,
/// class and difference from earlier populations is zero or reaches it; and the numbers that the plan and the
/// studies before it open are few for that many rows.
pub fn guard_verdict(
    study: &Study,
    plan: &Plan,
    cells: &[GuardCell],
    contributors: &[String],
    values: &[f64],
    rules: &ReleaseRules,
) -> Verdict {
    match check(study, plan, cells, contributors, values, rules) {
        Ok(_) => Verdict::Pass,
        Err(Withheld) => Verdict::Withheld,
    }
}

pub(crate) fn check(
    study: &Study,
    plan: &Plan,
    cells: &[GuardCell],
    contributors: &[String],
    values: &[f64],
    rules: &ReleaseRules,
) -> Result<Counts, Withheld> {
    let k = u64::from(rules.min_cell_for(study));
    check_sites(study, contributors, rules)?;
    if plan.study != study.id || cells.len() != values.len() {
        return Err(Withheld);
    }
    let mut rows_read = None;
    let mut analysed = None;
    let mut excluded = Vec::new();
    for (cell, value) in cells.iter().zip(values) {
        let count = whole(*value).ok_or(Withheld)?;
        match cell.rule() {
            GuardRule::Shown | GuardRule::Suppressible => {}
            GuardRule::Enough if count >= k => {}
            GuardRule::NoneOrEnough if count == 0 || count >= k => {}
            GuardRule::Enough | GuardRule::NoneOrEnough => return Err(Withheld),
        }
        match cell {
            GuardCell::RowsRead => rows_read = Some(count),
            GuardCell::Analysed => analysed = Some(count),
            GuardCell::ExcludedConditions | GuardCell::ExcludedMissing { .. } => {
                excluded.push((cell.clone(), count))
            }
            // No more people in a part than in the whole; differences may reach into rows that were excluded.
            GuardCell::Table { .. } | GuardCell::Class { .. } if analysed.is_some_and(|n| count > n) => {
                return Err(Withheld);
            }
            _ => {}
        }
    }
    let (Some(rows_read), Some(analysed)) = (rows_read, analysed) else {
        return Err(Withheld);
    };
    if excluded.iter().map(|(_, n)| *n).fold(analysed, u64::saturating_add) != rows_read {
        return Err(Withheld);
    }
    let opened = plan.numbers_opened().saturating_add(rules.opened_before);
    if opened.saturating_mul(u64::from(rules.rows_per_number)) > analysed {
        return Err(Withheld);
    }
    Ok(Counts { rows_read, excluded, analysed })
}

/// Contributors of the study, each once, enough in number and enough hidden from every viewer (A2).
fn check_sites(study: &Study, contributors: &[String], rules: &ReleaseRules) -> Result<(), Withheld> {
    let distinct: BTreeSet<&String> = contributors.iter().collect();
    let known = distinct.iter().all(|c| study.contributors.contains(c));
    let enough = contributors.len() >= study.minimum_contributors as usize;
    let minimum = rules.min_hidden_sites.max(study.protection.min_hidden_sites);
    if known && enough && distinct.len() == contributors.len() && hidden(study, contributors) >= minimum {
        Ok(())
    } else {
        Err(Withheld)
    }
}

/// Hidden sites of a run of this study, from the side of the viewer who sees most.
pub(crate) fn hidden(study: &Study, contributors: &[String]) -> u32 {
    let recipients: Vec<String> = study
        .recipients
        .iter()
        .filter_map(|r| match r {
            Recipient::Member(id) => Some(id.clone()),
            Recipient::Outside(_) => None,
        })
        .collect();
    hidden_sites_for_all(contributors, &study.aggregators, &study.collector, &recipients)
}

/// A decoded sum as a count, if it is one.
fn whole(value: f64) -> Option<u64> {
    let is_count = (0.0..9_007_199_254_740_992.0).contains(&value) && value.fract() == 0.0;
    is_count.then_some(value as u64)
}
