//! Logistic regression by iteratively reweighted least squares.
//!
//! McCullagh & Nelder 1989 (Generalized Linear Models, 2nd ed.), section 2.5 for the algorithm, 4.4 for binary
//! data. With `p_i = 1 / (1 + exp(-x_i'b))` and `W = diag(p_i (1 - p_i))`, one round sums over sites
//!
//! ```text
//!     information  A = X'WX        score  s = X'(y - p)        deviance  D = -2 log L
//! ```
//!
//! at the coefficients `b` that the question names, and the step is `b + A^-1 s`. The logit is the canonical
//! link, so this is Newton's method with observed and expected information the same.
//!
//! The rule of the rounds, the same for every study: start at zero; ask each next `b` rounded to the grid
//! `2^-grid` of the plan; stop when no coefficient (of the scaled model matrix, [`crate::design`]) would move by
//! more than `max(2^-30, 2^(10 - grid))`; then the estimate is `b` with that last step added, and the standard
//! errors are those of `A^-1`. The step's error after stopping is of the order of its square. Reaching the
//! plan's cap first is a failure, and so is a sum of `|b|` beyond [`REACH`]: the maximum lies at infinity.

use crate::design::Design;
use crate::linear::{Cholesky, Sum, upper};
use crate::number::{Z_975, count, p_two_sided};
use crate::plan::{place, real};
use crate::result::{Coefficient, Interval, Table};
use crate::{AnalysisError, Failure, Frame, Number, PlanError, Selection};
use study::{Cell, Dictionary};

/// Greatest sum of `|b|` that is asked, so the greatest `|x'b|`, since no entry of the scaled model matrix
/// exceeds one: odds beyond `e^64` are separation.
pub const REACH: f64 = 64.0;

/// Bound of one row's deviance within [`REACH`]: `2 log(1 + e^64) < 130`.
const ROW_DEVIANCE: i64 = 130;

/// The analysis as planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logistic {
    /// Outcome and model matrix.
    pub design: Design,
    /// Cap of rounds.
    pub max_rounds: u32,
    /// Binary places of the grid of coefficients.
    pub grid: u8,
}

/// What follows from one round's sums.
pub(crate) enum Next {
    /// Ask at these coefficients, on the grid.
    Ask(Vec<i64>),
    /// The fit.
    Done(Box<Table>),
}

impl Logistic {
    /// Reads the study's settings.
    pub fn new(
        id: &str,
        formula: &str,
        event: &str,
        max_rounds: u32,
        grid: u8,
        dict: &Dictionary,
    ) -> Result<Logistic, PlanError> {
        if !(2..=50).contains(&max_rounds) {
            let (setting, found) = ("max_rounds", u64::from(max_rounds));
            return Err(PlanError::Setting { place: place(id), setting, found, expected: "2 to 50" });
        }
        // Coarser, and the standard errors lose digits; finer, and `REACH` does not fit canonical JSON.
        if !(38..=46).contains(&grid) {
            let (setting, found) = ("grid", u64::from(grid));
            return Err(PlanError::Setting { place: place(id), setting, found, expected: "38 to 46" });
        }
        Ok(Logistic { design: Design::new(id, formula, event, dict)?, max_rounds, grid })
    }

    /// Entries of the vector: upper triangle of the information, score, deviance, rows, events.
    pub fn cells(&self) -> usize {
        let p = self.design.width();
        p * (p + 1) / 2 + p + 3
    }

    /// What leaves a site in each round. A weight `p (1 - p)` is at most 1/4 and an entry of the model matrix
    /// at most 1 in size.
    pub fn layout(&self, id: &str, max_rows: u32) -> Vec<Cell> {
        let terms = &self.design.terms;
        let quarter = i64::from(max_rows.div_ceil(4));
        let rows = i64::from(max_rows);
        let mut cells = Vec::with_capacity(self.cells());
        for (i, a) in terms.iter().enumerate() {
            for (j, b) in terms.iter().enumerate().skip(i) {
                let name = format!("{id}: information X'WX of {} and {}", a.scaled_name(), b.scaled_name());
                let positive = i == j || (a.is_indicator() && b.is_indicator());
                cells.push(real(name, if positive { 0 } else { -quarter }, quarter));
            }
        }
        for term in terms {
            cells.push(real(format!("{id}: score X'(y - p) of {}", term.scaled_name()), -rows, rows));
        }
        cells.push(real(format!("{id}: deviance"), 0, rows.saturating_mul(ROW_DEVIANCE)));
        cells.push(Cell::count(format!("{id}: rows"), max_rows));
        cells.push(Cell::count(format!("{id}: {}: rows", self.design.outcome.labels[0]), max_rows));
        cells
    }

    /// The start: zero, which is the method's own.
    pub fn start(&self) -> Vec<i64> {
        vec![0; self.design.width()]
    }

    /// The coefficients of a question, or `None` if no honest step asks for them.
    pub fn coefficients(&self, beta: &[i64]) -> Option<Vec<f64>> {
        let unit = (1u64 << self.grid) as f64;
        let within = |b: &i64| b.unsigned_abs() <= (REACH as u64) << self.grid;
        if beta.len() != self.design.width() || !beta.iter().all(within) {
            return None;
        }
        let b: Vec<f64> = beta.iter().map(|b| *b as f64 / unit).collect();
        (size(&b) <= REACH).then_some(b)
    }

    /// One site's vector at coefficients `b`, with its effective units `(sum w)^2 / sum w^2`.
    pub(crate) fn site(
        &self,
        b: &[f64],
        dict: &Dictionary,
        frame: &Frame,
        selection: &Selection,
    ) -> Result<(Vec<f64>, f64), AnalysisError> {
        let p = self.design.width();
        let rows = self.design.rows(dict, frame, selection)?;
        let mut information = vec![Sum::default(); p * (p + 1) / 2];
        let mut score = vec![Sum::default(); p];
        let (mut deviance, mut sum_w, mut sum_ww) = (Sum::default(), Sum::default(), Sum::default());
        let mut events = 0u64;
        for (x, y) in rows.u.chunks_exact(p).zip(&rows.y) {
            let eta: f64 = x.iter().zip(b).map(|(x, b)| x * b).sum();
            // Written in e = exp(-|eta|), which neither overflows nor cancels: with q = 1/(1+e),
            // p = q or e q by the sign of eta, p (1-p) = e q^2, -log p = log(1+e) + max(-eta, 0).
            let e = (-eta.abs()).exp();
            let q = 1.0 / (1.0 + e);
            let w = e * q * q;
            let minor = e * q;
            let (residual, loss) = match (*y, eta >= 0.0) {
                (true, true) => (minor, e.ln_1p()),
                (true, false) => (q, e.ln_1p() - eta),
                (false, true) => (-q, e.ln_1p() + eta),
                (false, false) => (-minor, e.ln_1p()),
            };
            let mut cell = information.iter_mut();
            for (i, xi) in x.iter().enumerate() {
                let wx = w * xi;
                for (a, xj) in cell.by_ref().take(p - i).zip(x.iter().skip(i)) {
                    a.add(wx * xj);
                }
            }
            for (s, xi) in score.iter_mut().zip(x) {
                s.add(residual * xi);
            }
            deviance.add(2.0 * loss);
            sum_w.add(w);
            sum_ww.add(w * w);
            events += u64::from(*y);
        }
        let (sum_w, sum_ww) = (sum_w.value(), sum_ww.value());
        let effective = if sum_ww > 0.0 { sum_w * sum_w / sum_ww } else { 0.0 };
        let mut values: Vec<f64> = information.into_iter().chain(score).map(Sum::value).collect();
        values.extend([deviance.value(), rows.y.len() as f64, events as f64]);
        Ok((values, effective))
    }

    /// The plan's step from the sums at coefficients `b` of round `round`, counted from 0.
    pub(crate) fn step(&self, b: &[f64], round: u32, sums: &[f64]) -> Result<Next, Failure> {
        let p = self.design.width();
        if sums.len() != self.cells() || b.len() != p {
            return Err(Failure::Malformed);
        }
        if !sums.iter().all(|x| x.is_finite()) {
            return Err(Failure::NotFinite);
        }
        let (information, rest) = sums.split_at(p * (p + 1) / 2);
        let (score, rest) = rest.split_at(p);
        let &[deviance, n, events] = rest else {
            return Err(Failure::Malformed);
        };
        let (n, events) = (count(n)?, count(events)?);
        if events > n || deviance < 0.0 {
            return Err(Failure::Malformed);
        }
        if events == 0 || events == n || n <= p as u64 {
            return Err(Failure::Empty);
        }
        let factor = Cholesky::of_upper(information, p).ok_or(Failure::Singular)?;
        let delta = factor.solve(score);
        let next: Vec<f64> = b.iter().zip(&delta).map(|(b, d)| b + d).collect();
        let reach = size(&next);
        if reach.is_nan() || reach > REACH {
            return Err(Failure::Separation);
        }
        let tolerance = 2f64.powi(10 - i32::from(self.grid)).max(2f64.powi(-30));
        if delta.iter().all(|d| d.abs() <= tolerance) {
            return self
                .fit(&next, &factor, deviance, [n, events], round + 1)
                .map(|table| Next::Done(Box::new(table)));
        }
        if round.saturating_add(1) >= self.max_rounds {
            return Err(Failure::NotConverged);
        }
        let unit = (1u64 << self.grid) as f64;
        let asked: Vec<i64> = next.iter().map(|b| (b * unit).round() as i64).collect();
        // Rounding may carry a sum at the very edge over it.
        if self.coefficients(&asked).is_none() {
            return Err(Failure::Separation);
        }
        Ok(Next::Ask(asked))
    }

    /// The result on the dictionary's scale: with `u = (x - c)/s` and scaled coefficients `g`,
    /// `b_j = g_j / s_j` and `b_0 = g_0 - sum(g_j c_j / s_j)`; variances follow from the same linear map.
    fn fit(
        &self,
        scaled: &[f64],
        factor: &Cholesky,
        deviance: f64,
        [n, events]: [u64; 2],
        rounds: u32,
    ) -> Result<Table, Failure> {
        let p = self.design.width();
        let mut coefficients = Vec::with_capacity(p);
        for (j, term) in self.design.terms.iter().enumerate() {
            let map: Vec<f64> = self
                .design
                .terms
                .iter()
                .enumerate()
                .map(|(k, other)| {
                    let (scale, centre) = other.scale_and_centre();
                    match (j, k) {
                        (0, 0) => 1.0,
                        (0, _) => -centre / scale,
                        _ if j == k => 1.0 / scale,
                        _ => 0.0,
                    }
                })
                .collect();
            let mut estimate = Sum::default();
            map.iter().zip(scaled).for_each(|(m, g)| estimate.add(m * g));
            let estimate = estimate.value();
            let se = factor.quadratic_inverse(&map).sqrt();
            let z = estimate / se;
            coefficients.push(Coefficient {
                term: term.name.clone(),
                per: term.unit.clone(),
                estimate: Number::new(estimate)?,
                se: Number::new(se)?,
                ci95: Interval {
                    low: Number::new(estimate - Z_975 * se)?,
                    high: Number::new(estimate + Z_975 * se)?,
                },
                z: Number::new(z)?,
                p: Number::new(p_two_sided(z))?,
                odds_ratio: Number::new(estimate.exp())?,
            });
        }
        let (n_f, e) = (n as f64, events as f64);
        // Intercept alone: every fitted probability is events / n.
        let null = -2.0 * (e * (e / n_f).ln() + (n_f - e) * ((n_f - e) / n_f).ln());
        Ok(Table::Logistic {
            outcome: self.design.outcome.column.clone(),
            event: self.design.event.clone(),
            n,
            events,
            rounds,
            coefficients,
            references: self.design.references.clone(),
            deviance: Number::new(deviance)?,
            null_deviance: Number::new(null)?,
            df_residual: n.saturating_sub(p as u64),
            aic: Number::new(deviance + 2.0 * p as f64)?,
        })
    }

    /// Index of an entry of the information in the vector, for tests and audits.
    pub fn information_index(&self, i: usize, j: usize) -> usize {
        upper(i.min(j), i.max(j), self.design.width())
    }
}

fn size(b: &[f64]) -> f64 {
    b.iter().map(|x| x.abs()).sum()
}
