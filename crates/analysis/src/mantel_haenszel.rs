//! The common odds ratio of two yes/no factors, stratified by site.
//!
//! Mantel & Haenszel 1959 (J Natl Cancer Inst 22:719-748) for the estimate and the test, with Cochran 1954
//! (Biometrics 10:417-451); Robins, Breslow & Greenland 1986 (Biometrics 42:311-323) for the variance.
//!
//! A site is a stratum. With its table
//!
//! ```text
//!                outcome   none
//!     exposed       a        b        n = a + b + c + d
//!     not           c        d
//! ```
//!
//! its terms need nothing but `a, b, c, d`, and the pooled result needs nothing but the terms' sums. A site
//! without rows contributes zeros; so does, to `R` and `S`, one where nobody or everybody is exposed.

use crate::number::{Z_975, count, p_chi2_1, p_two_sided};
use crate::plan::{place, real};
use crate::result::{Interval, Table, Test};
use crate::select::{levels, missing};
use crate::{AnalysisError, Failure, Frame, Number, PlanError, Selection};
use study::guard::{column_level, yes_no_labels};
use study::{Cell, Dictionary, Kind};

/// A factor seen as yes or no: one level against all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YesNo {
    /// The column.
    pub column: String,
    /// Index of the level that means yes.
    pub yes: u16,
    /// Words for yes and no.
    pub labels: [String; 2],
}

impl YesNo {
    /// Reads `column=level`.
    pub fn parse(text: &str, dict: &Dictionary, place: &str) -> Result<YesNo, PlanError> {
        let (column, level) = column_level(text)
            .ok_or_else(|| PlanError::NotColumnLevel { place: place.to_owned(), found: text.to_owned() })?;
        YesNo::new(column, level, dict, place)
    }

    /// The level `level` of `column` against its others.
    pub fn new(column: &str, level: &str, dict: &Dictionary, place: &str) -> Result<YesNo, PlanError> {
        let place = place.to_owned();
        let Some(found) = dict.columns.iter().find(|c| c.name == column) else {
            return Err(PlanError::UnknownColumn { place, column: column.to_owned() });
        };
        let Kind::Factor { levels, .. } = &found.kind else {
            return Err(PlanError::WrongKind { place, column: column.to_owned(), expected: "a factor" });
        };
        let yes = levels.iter().position(|l| l.code == level).and_then(|i| u16::try_from(i).ok());
        match (yes, yes_no_labels(dict, column, level)) {
            (Some(yes), Some(labels)) => Ok(YesNo { column: column.to_owned(), yes, labels }),
            _ => Err(PlanError::UnknownLevel { place, column: column.to_owned(), level: level.to_owned() }),
        }
    }
}

/// The analysis as planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MantelHaenszel {
    /// Who is exposed.
    pub exposure: YesNo,
    /// Who has the outcome.
    pub outcome: YesNo,
}

/// Entries of the vector.
pub const CELLS: usize = 10;

impl MantelHaenszel {
    /// Reads the study's settings.
    pub fn new(id: &str, exposure: &str, outcome: &str, dict: &Dictionary) -> Result<Self, PlanError> {
        let place = place(id);
        let exposure = YesNo::parse(exposure, dict, &place)?;
        let outcome = YesNo::parse(outcome, dict, &place)?;
        if exposure.column == outcome.column {
            return Err(PlanError::Twice { place, name: exposure.column });
        }
        Ok(MantelHaenszel { exposure, outcome })
    }

    /// What leaves a site: the table and six terms. Every real term is at most `n / 4`, because `xy <= n^2 / 4`
    /// for any two disjoint parts `x`, `y` of `n`; the variance is at most `n / 8`.
    pub fn layout(&self, id: &str, max_rows: u32) -> Vec<Cell> {
        let quarter = i64::from(max_rows.div_ceil(4));
        let mut cells = Vec::with_capacity(CELLS);
        for row in &self.exposure.labels {
            for column in &self.outcome.labels {
                cells.push(Cell::count(format!("{id}: {row}, {column}: rows"), max_rows));
            }
        }
        for term in ["R = ad/n", "S = bc/n", "PR", "PS + QR", "QS", "variance of a"] {
            cells.push(real(format!("{id}: {term} of the site's table"), 0, quarter));
        }
        cells
    }

    /// One site's table and terms.
    pub fn site(
        &self,
        dict: &Dictionary,
        frame: &Frame,
        rows: &Selection,
    ) -> Result<Vec<f64>, AnalysisError> {
        let exposure = levels(dict, frame, &self.exposure.column)?;
        let outcome = levels(dict, frame, &self.outcome.column)?;
        let [mut a, mut b, mut c, mut d] = [0u64; 4];
        for i in rows.indices() {
            let exposed = exposure.get(i).copied().flatten().ok_or_else(|| missing(&self.exposure.column))?;
            let event = outcome.get(i).copied().flatten().ok_or_else(|| missing(&self.outcome.column))?;
            match (exposed == self.exposure.yes, event == self.outcome.yes) {
                (true, true) => a += 1,
                (true, false) => b += 1,
                (false, true) => c += 1,
                (false, false) => d += 1,
            }
        }
        Ok(terms([a, b, c, d]).to_vec())
    }

    /// The sums' result: `sums` are those of [`MantelHaenszel::layout`], over the sites.
    pub fn combine(&self, sums: &[f64]) -> Result<Table, Failure> {
        let &[a, b, c, d, r, s, pr, ps_qr, qs, variance] = sums else {
            return Err(Failure::Malformed);
        };
        let [a, b, c, d] = [count(a)?, count(b)?, count(c)?, count(d)?];
        if ![r, s, pr, ps_qr, qs, variance].iter().all(|x| x.is_finite()) {
            return Err(Failure::NotFinite);
        }
        if !(r > 0.0 && s > 0.0 && variance > 0.0) {
            return Err(Failure::Empty);
        }
        // Mantel & Haenszel 1959: the common odds ratio is sum(ad/n) / sum(bc/n).
        let odds_ratio = r / s;
        let log = odds_ratio.ln();
        // Robins, Breslow & Greenland 1986: with P = (a+d)/n, Q = (b+c)/n, R = ad/n, S = bc/n per stratum,
        // var(log OR) = sum(PR) / (2 R^2) + sum(PS + QR) / (2 R S) + sum(QS) / (2 S^2), R and S summed.
        let se = (pr / (2.0 * r * r) + ps_qr / (2.0 * r * s) + qs / (2.0 * s * s)).sqrt();
        // Mantel & Haenszel 1959, the summary chi-squared: (|sum(a - E a)| - 1/2)^2 / sum(var a). Within a
        // stratum a - E a = a - (a+b)(a+c)/n = (ad - bc)/n, so the sum is R - S. Cochran 1954 without the 1/2.
        let excess = (r - s).abs();
        let test = |excess: f64| -> Result<Test, Failure> {
            let chi2 = excess * excess / variance;
            Ok(Test { chi2: Number::new(chi2)?, df: 1, p: Number::new(p_chi2_1(chi2))? })
        };
        let z = log / se;
        Ok(Table::MantelHaenszel {
            exposure: self.exposure.labels.clone(),
            outcome: self.outcome.labels.clone(),
            counts: [[a, b], [c, d]],
            n: a + b + c + d,
            events: a + c,
            odds_ratio: Number::new(odds_ratio)?,
            odds_ratio_ci95: Interval {
                low: Number::new((log - Z_975 * se).exp())?,
                high: Number::new((log + Z_975 * se).exp())?,
            },
            log_odds_ratio: Number::new(log)?,
            se: Number::new(se)?,
            z: Number::new(z)?,
            p: Number::new(p_two_sided(z))?,
            cmh: test(excess)?,
            cmh_corrected: test((excess - 0.5).max(0.0))?,
        })
    }
}

/// The vector of one table `[a, b, c, d]`: the counts, then `R, S, PR, PS + QR, QS` and the hypergeometric
/// variance of `a`, `(a+b)(c+d)(a+c)(b+d) / (n^2 (n-1))` (Mantel & Haenszel 1959). Zeros without rows.
pub fn terms([a, b, c, d]: [u64; 4]) -> [f64; CELLS] {
    let [a, b, c, d] = [a as f64, b as f64, c as f64, d as f64];
    let n = a + b + c + d;
    if n == 0.0 {
        return [0.0; CELLS];
    }
    let (r, s) = (a * d / n, b * c / n);
    let (p, q) = ((a + d) / n, (b + c) / n);
    let variance = if n > 1.0 { ((a + b) * (c + d) / n) * ((a + c) * (b + d) / n) / (n - 1.0) } else { 0.0 };
    [a, b, c, d, r, s, p * r, p * s + q * r, q * s, variance]
}
