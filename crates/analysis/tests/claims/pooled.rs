//! The pooled computation written a second time, from the rows, by other algebra: the oracle.

use crate::federation::Row;
use nalgebra::{DMatrix, DVector};

pub struct Fit {
    pub coefficients: Vec<f64>,
    pub se: Vec<f64>,
    pub deviance: f64,
}

/// `dead_dep_6m ~ age + sex + sbp + consciousness + aspirin` on the raw scale, each step a weighted least
/// squares problem solved by QR of the working matrix (no normal equations); `None` without a finite maximum.
pub fn logistic(rows: &[&Row]) -> Option<Fit> {
    let x = DMatrix::from_fn(rows.len(), 7, |i, j| {
        let r = rows[i];
        let is = |v: Option<u16>, level| if v == Some(level) { 1.0 } else { 0.0 };
        match j {
            0 => 1.0,
            1 => r.age.unwrap() as f64,
            2 => is(r.sex, 1),
            3 => r.sbp.unwrap() as f64,
            4 => is(r.consciousness, 1),
            5 => is(r.consciousness, 2),
            _ => is(r.aspirin, 1),
        }
    });
    let y = DVector::from_fn(rows.len(), |i, _| f64::from(rows[i].dead_dep_6m.unwrap()));
    let mut b = DVector::zeros(7);
    for _ in 0..60 {
        let p = (&x * &b).map(|eta: f64| 1.0 / (1.0 + (-eta).exp()));
        let root = p.map(|p| (p * (1.0 - p)).sqrt());
        if root.iter().any(|w| *w < 1e-6) {
            return None;
        }
        let working = DMatrix::from_fn(rows.len(), 7, |i, j| root[i] * x[(i, j)]);
        let residual = DVector::from_fn(rows.len(), |i, _| (y[i] - p[i]) / root[i]);
        let qr = working.qr();
        let r = qr.r();
        if (0..7).any(|j| r[(j, j)].abs() < 1e-7 * r.column(j).norm()) {
            return None;
        }
        let delta = r.solve_upper_triangular(&(qr.q().transpose() * residual))?;
        b += &delta;
        if b.iter().any(|x| !x.is_finite() || x.abs() > 1e3) {
            return None;
        }
        if delta.norm() < 1e-11 {
            let inverse = r.solve_upper_triangular(&DMatrix::identity(7, 7))?;
            let p = (&x * &b).map(|eta: f64| 1.0 / (1.0 + (-eta).exp()));
            let loss = |i: usize| {
                if y[i] == 1.0 { p[i].ln() } else { (1.0 - p[i]).ln() }
            };
            return Some(Fit {
                coefficients: b.iter().copied().collect(),
                se: (0..7).map(|i| inverse.row(i).norm()).collect(),
                deviance: -2.0 * (0..rows.len()).map(loss).sum::<f64>(),
            });
        }
    }
    None
}

pub struct Odds {
    pub odds_ratio: f64,
    pub se: f64,
    pub cmh: f64,
}

/// Mantel-Haenszel from the strata's tables, with the variance in the form that Robins, Breslow and Greenland
/// derive first: `sum(P_i R_i) / 2 R^2 + ...` rewritten over whole numbers and one division a stratum.
pub fn mantel_haenszel(tables: &[[f64; 4]]) -> Odds {
    let tables: Vec<_> = tables.iter().filter(|t| t.iter().sum::<f64>() > 0.0).collect();
    let sum = |f: &dyn Fn(&[f64; 4], f64) -> f64| tables.iter().map(|t| f(t, t.iter().sum())).sum::<f64>();
    let r = sum(&|[a, _, _, d], n| a * d / n);
    let s = sum(&|[_, b, c, _], n| b * c / n);
    let pr = sum(&|[a, _, _, d], n| (a + d) * a * d / (n * n));
    let mixed = sum(&|[a, b, c, d], n| ((a + d) * b * c + (b + c) * a * d) / (n * n));
    let qs = sum(&|[_, b, c, _], n| (b + c) * b * c / (n * n));
    let excess = sum(&|[a, b, c, _], n| a - (a + b) * (a + c) / n);
    let variance = sum(&|[a, b, c, d], n| {
        if n < 2.0 { 0.0 } else { (a + b) * (c + d) * (a + c) * (b + d) / (n * n * (n - 1.0)) }
    });
    Odds {
        odds_ratio: r / s,
        se: (pr / (2.0 * r * r) + mixed / (2.0 * r * s) + qs / (2.0 * s * s)).sqrt(),
        cmh: excess * excess / variance,
    }
}

/// Mean and standard deviation in two passes.
pub fn mean_sd(xs: &[i64]) -> (f64, f64) {
    let n = xs.len() as f64;
    let mean = xs.iter().map(|x| *x as f64).sum::<f64>() / n;
    let squares = xs.iter().map(|x| (*x as f64 - mean).powi(2)).sum::<f64>();
    (mean, (squares / (n - 1.0)).sqrt())
}
