//! The oracle: all rows in one place, plain loops, other algebra than the rooms use (Cholesky, Newton from the mean).

use analysis::{Data, Frame};
use study::{Dictionary, Kind, Mapping};

/// The rows of a site as its node reads them.
pub fn rows(csv: &std::path::Path) -> Frame {
    let dictionary = dictionary();
    let mapping = Mapping::parse("mapping.toml", crate::house::MAPPING).unwrap();
    engine::Governed::open(csv, &mapping, &dictionary).unwrap_or_else(|e| panic!("{e}")).into_frame()
}

pub fn dictionary() -> Dictionary {
    Dictionary::parse("dictionary.toml", crate::house::DICTIONARY).unwrap()
}

/// A cell as a number: a code's place for factors.
fn value(frame: &Frame, column: &str, row: usize) -> Option<f64> {
    match &frame.columns[column] {
        Data::Integer(v) => v[row].map(|x| x as f64),
        Data::Factor(v) => v[row].map(f64::from),
    }
}

/// 1 where the column has that level, 0 where it has another.
pub fn is(frame: &Frame, column: &str, level: &str, row: usize) -> Option<f64> {
    let dictionary = dictionary();
    let Kind::Factor { levels, .. } = &dictionary.column(column).unwrap().kind else { panic!("{column}") };
    let at = levels.iter().position(|l| l.code == level).unwrap();
    value(frame, column, row).map(|v| f64::from(u8::from(v as usize == at)))
}

/// Rows of the population: all these columns known.
pub fn complete(frame: &Frame, columns: &[&str]) -> Vec<usize> {
    (0..frame.rows).filter(|i| columns.iter().all(|c| value(frame, c, *i).is_some())).collect()
}

/// Mantel-Haenszel over sites: `(log odds ratio, its error, counts)`.
pub fn mantel_haenszel(sites: &[Frame], columns: &[&str]) -> (f64, f64, [[u64; 2]; 2]) {
    let mut terms = Vec::new();
    let mut counts = [[0u64; 2]; 2];
    for frame in sites {
        let mut t = [[0.0f64; 2]; 2];
        for i in complete(frame, columns) {
            let exposed = is(frame, "aspirin", "yes", i) == Some(1.0);
            let dead = is(frame, "death14", "yes", i) == Some(1.0);
            t[usize::from(!exposed)][usize::from(!dead)] += 1.0;
            counts[usize::from(!exposed)][usize::from(!dead)] += 1;
        }
        let [[a, b], [c, d]] = t;
        let n = a + b + c + d;
        if n > 0.0 {
            terms.push((a * d / n, b * c / n, (a + d) / n, (b + c) / n));
        }
    }
    let r: f64 = terms.iter().map(|t| t.0).sum();
    let s: f64 = terms.iter().map(|t| t.1).sum();
    // Robins, Breslow & Greenland 1986, in the form of their equation for the variance of the logarithm.
    let v = terms.iter().map(|(ri, si, p, q)| {
        p * ri / (2.0 * r * r) + (p * si + q * ri) / (2.0 * r * s) + q * si / (2.0 * s * s)
    });
    ((r / s).ln(), v.sum::<f64>().sqrt(), counts)
}

/// Logistic regression on rows of `(terms, outcome)`: `(coefficients, errors, deviance)`.
pub fn logistic(rows: &[(Vec<f64>, f64)]) -> (Vec<f64>, Vec<f64>, f64) {
    let p = rows[0].0.len();
    let rate = rows.iter().map(|r| r.1).sum::<f64>() / rows.len() as f64;
    let mut beta = vec![0.0; p];
    beta[0] = (rate / (1.0 - rate)).ln();
    loop {
        let (mut g, mut h, mut deviance) = (vec![0.0; p], vec![vec![0.0; p]; p], 0.0);
        for (x, y) in rows {
            let eta: f64 = (0..p).map(|j| x[j] * beta[j]).sum();
            let mu = 1.0 / (1.0 + (-eta).exp());
            deviance += 2.0 * ((1.0 + eta.exp()).ln() - y * eta);
            for j in 0..p {
                g[j] += x[j] * (y - mu);
                for k in 0..=j {
                    h[j][k] += x[j] * x[k] * mu * (1.0 - mu);
                }
            }
        }
        let lower = cholesky(&h);
        let step = solve(&lower, &g);
        let small = step.iter().zip(&beta).all(|(d, b)| d.abs() < 1e-13 * (1.0 + b.abs()));
        beta.iter_mut().zip(&step).for_each(|(b, d)| *b += d);
        if small {
            let unit = |j: usize| (0..p).map(|k| f64::from(u8::from(k == j))).collect::<Vec<_>>();
            let se = (0..p).map(|j| solve(&lower, &unit(j))[j].sqrt()).collect();
            return (beta, se, deviance);
        }
    }
}

fn cholesky(h: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let p = h.len();
    let mut l = vec![vec![0.0; p]; p];
    for i in 0..p {
        for j in 0..=i {
            let s: f64 = (0..j).map(|k| l[i][k] * l[j][k]).sum();
            l[i][j] = if i == j { (h[i][i] - s).sqrt() } else { (h[i][j] - s) / l[j][j] };
        }
    }
    l
}

fn solve(l: &[Vec<f64>], b: &[f64]) -> Vec<f64> {
    let p = b.len();
    let mut y = vec![0.0; p];
    for i in 0..p {
        y[i] = (b[i] - (0..i).map(|k| l[i][k] * y[k]).sum::<f64>()) / l[i][i];
    }
    let mut x = vec![0.0; p];
    for i in (0..p).rev() {
        x[i] = (y[i] - (i + 1..p).map(|k| l[k][i] * x[k]).sum::<f64>()) / l[i][i];
    }
    x
}
