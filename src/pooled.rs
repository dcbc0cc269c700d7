//! The pooled computation that the demo shows beside the federated one: all rows in one place, plain loops, another
//! way through the algebra. It stands outside the federation; in real use nobody could run it.

use analysis::{Data, Frame};
use study::{Dictionary, Kind};

/// A fit of the pooled logistic regression.
pub struct Fit {
    /// Coefficients, intercept first.
    pub beta: Vec<f64>,
    /// Standard errors.
    pub se: Vec<f64>,
    /// Deviance.
    pub deviance: f64,
}

/// What the demo compares.
pub struct Pooled {
    /// Rows analysed.
    pub n: usize,
    /// Logarithm of the Mantel-Haenszel odds ratio and its standard error.
    pub log_or: (f64, f64),
    /// The regression.
    pub fit: Option<Fit>,
    /// Mean and standard deviation of age and of systolic pressure.
    pub moments: Vec<(f64, f64)>,
}

fn level(frame: &Frame, dict: &Dictionary, column: &str, code: &str) -> Vec<Option<bool>> {
    let at = dict.column(column).and_then(|c| match &c.kind {
        Kind::Factor { levels, .. } => levels.iter().position(|l| l.code == code),
        Kind::Integer { .. } => None,
    });
    match (frame.columns.get(column), at) {
        (Some(Data::Factor(values)), Some(at)) => {
            values.iter().map(|v| v.map(|v| usize::from(v) == at)).collect()
        }
        _ => vec![None; frame.rows],
    }
}

fn number(frame: &Frame, column: &str) -> Vec<Option<f64>> {
    match frame.columns.get(column) {
        Some(Data::Integer(values)) => values.iter().map(|v| v.map(|v| v as f64)).collect(),
        _ => vec![None; frame.rows],
    }
}

/// Computes everything from all sites' rows, complete on `complete`.
pub fn compute(frames: &[Frame], dict: &Dictionary, complete: &[String]) -> Pooled {
    let mut n = 0;
    let (mut r, mut s, mut pr, mut pq, mut qs) = (0.0, 0.0, 0.0, 0.0, 0.0);
    let mut rows: Vec<(Vec<f64>, f64)> = Vec::new();
    let mut kept: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    for frame in frames {
        let known = |i: usize| {
            complete.iter().all(|c| match frame.columns.get(c) {
                Some(Data::Integer(v)) => v.get(i).is_some_and(Option::is_some),
                Some(Data::Factor(v)) => v.get(i).is_some_and(Option::is_some),
                None => false,
            })
        };
        let flag = |c: &str, l: &str| level(frame, dict, c, l);
        let (aspirin, dead) = (flag("aspirin", "yes"), flag("death14", "yes"));
        let (male, drowsy, out) =
            (flag("sex", "male"), flag("consciousness", "drowsy"), flag("consciousness", "unconscious"));
        let bad = flag("dead_dep_6m", "yes");
        let (age, sbp, delay) = (number(frame, "age"), number(frame, "sbp"), number(frame, "delay"));
        let mut t = [[0.0f64; 2]; 2];
        for i in (0..frame.rows).filter(|i| known(*i)) {
            n += 1;
            let bit = |v: &[Option<bool>]| f64::from(u8::from(v.get(i).copied().flatten() == Some(true)));
            let num = |v: &[Option<f64>]| v.get(i).copied().flatten().unwrap_or(0.0);
            t[usize::from(bit(&aspirin) < 0.5)][usize::from(bit(&dead) < 0.5)] += 1.0;
            kept[0].push(num(&age));
            kept[1].push(num(&sbp));
            let x = vec![
                1.0,
                num(&age),
                bit(&male),
                num(&sbp),
                num(&delay),
                bit(&drowsy),
                bit(&out),
                bit(&aspirin),
            ];
            rows.push((x, bit(&bad)));
        }
        let [[a, b], [c, d]] = t;
        let m = a + b + c + d;
        if m > 0.0 {
            let (ri, si, p, q) = (a * d / m, b * c / m, (a + d) / m, (b + c) / m);
            r += ri;
            s += si;
            pr += p * ri;
            pq += p * si + q * ri;
            qs += q * si;
        }
    }
    let variance = pr / (2.0 * r * r) + pq / (2.0 * r * s) + qs / (2.0 * s * s);
    let moments = kept
        .iter()
        .map(|v| {
            let mean = v.iter().sum::<f64>() / v.len() as f64;
            let ss = v.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>();
            (mean, (ss / (v.len() as f64 - 1.0)).sqrt())
        })
        .collect();
    Pooled { n, log_or: ((r / s).ln(), variance.sqrt()), fit: logistic(&rows), moments }
}

/// Newton's method on the log-likelihood with Gauss-Jordan elimination.
fn logistic(rows: &[(Vec<f64>, f64)]) -> Option<Fit> {
    let p = rows.first()?.0.len();
    let mut beta = vec![0.0; p];
    for _ in 0..50 {
        let mut g = vec![0.0; p];
        let mut h = vec![vec![0.0; p]; p];
        let mut deviance = 0.0;
        for (x, y) in rows {
            let eta: f64 = x.iter().zip(&beta).map(|(a, b)| a * b).sum();
            let mu = 1.0 / (1.0 + (-eta).exp());
            deviance -= 2.0 * if *y > 0.5 { mu.ln() } else { (1.0 - mu).ln() };
            let w = mu * (1.0 - mu);
            for ((xi, gi), hi) in x.iter().zip(&mut g).zip(&mut h) {
                *gi += xi * (y - mu);
                for (xj, hij) in x.iter().zip(hi.iter_mut()) {
                    *hij += w * xi * xj;
                }
            }
        }
        let inverse = invert(h)?;
        let step: Vec<f64> = inverse.iter().map(|row| row.iter().zip(&g).map(|(a, b)| a * b).sum()).collect();
        if step.iter().zip(&beta).all(|(d, b)| d.abs() <= 1e-12 * (1.0 + b.abs())) {
            let se = inverse
                .iter()
                .enumerate()
                .map(|(i, row)| row.get(i).copied().unwrap_or(0.0).sqrt())
                .collect();
            return Some(Fit { beta, se, deviance });
        }
        beta.iter_mut().zip(&step).for_each(|(b, d)| *b += d);
    }
    None
}

fn invert(mut m: Vec<Vec<f64>>) -> Option<Vec<Vec<f64>>> {
    let p = m.len();
    for (i, row) in m.iter_mut().enumerate() {
        row.extend((0..p).map(|j| f64::from(u8::from(i == j))));
    }
    for i in 0..p {
        let pivot = (i..p).max_by(|a, b| m[*a][i].abs().total_cmp(&m[*b][i].abs()))?;
        m.swap(i, pivot);
        let lead = m[i][i];
        if lead.abs() < 1e-300 {
            return None;
        }
        m[i].iter_mut().for_each(|v| *v /= lead);
        let base = m[i].clone();
        for (k, row) in m.iter_mut().enumerate() {
            if k != i {
                let f = row[i];
                row.iter_mut().zip(&base).for_each(|(v, b)| *v -= f * b);
            }
        }
    }
    Some(m.into_iter().map(|row| row.into_iter().skip(p).collect()).collect())
}
