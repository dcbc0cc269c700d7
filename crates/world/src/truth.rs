//! The pooled truth: all rows in one place, plain loops, other algebra than the rooms use (Cholesky, Newton from the
//! mean).

use analysis::{Data, Frame};
use study::{Dictionary, Kind};

/// All rows of the federation, as its sites read them.
pub struct Truth {
    sites: Vec<Frame>,
    dictionary: Dictionary,
}

impl Truth {
    /// Over these sites.
    pub fn new(sites: Vec<Frame>, dictionary: Dictionary) -> Truth {
        Truth { sites, dictionary }
    }

    fn value(frame: &Frame, column: &str, row: usize) -> Option<f64> {
        match frame.columns.get(column)? {
            Data::Integer(v) => v.get(row).copied().flatten().map(|x| x as f64),
            Data::Factor(v) => v.get(row).copied().flatten().map(f64::from),
        }
    }

    fn levels(&self, column: &str) -> Vec<String> {
        match self.dictionary.column(column).map(|c| &c.kind) {
            Some(Kind::Factor { levels, .. }) => levels.iter().map(|l| l.code.clone()).collect(),
            _ => Vec::new(),
        }
    }

    fn rows<'a>(&'a self, complete: &'a [&str]) -> impl Iterator<Item = (&'a Frame, usize)> {
        self.sites.iter().flat_map(move |frame| {
            let whole = move |row: &usize| complete.iter().all(|c| Truth::value(frame, c, *row).is_some());
            (0..frame.rows).filter(whole).map(move |row| (frame, row))
        })
    }

    /// Counts by the levels of these columns, the last varying fastest, over rows with all of `complete` known.
    pub fn counts(&self, by: &[&str], complete: &[&str]) -> Vec<u64> {
        let sizes: Vec<usize> = by.iter().map(|c| self.levels(c).len()).collect();
        let mut counts = vec![0u64; sizes.iter().product()];
        for (frame, row) in self.rows(complete) {
            let mut cell = 0;
            for (column, size) in by.iter().zip(&sizes) {
                cell = cell * size + Truth::value(frame, column, row).unwrap_or(0.0) as usize;
            }
            if let Some(count) = counts.get_mut(cell) {
                *count += 1;
            }
        }
        counts
    }

    /// Logistic regression of `event` of `outcome` on an integer and a factor of two levels: coefficients and errors.
    pub fn logistic(&self, outcome: &str, event: &str, terms: [&str; 2]) -> (Vec<f64>, Vec<f64>) {
        let complete = [outcome, terms[0], terms[1]];
        let place = |column: &str, code: &str| {
            self.levels(column).iter().position(|l| l == code).map_or(-1.0, |at| at as f64)
        };
        let wanted = place(outcome, event);
        let is = |found: f64, level: f64| if (found - level).abs() < 0.5 { 1.0 } else { 0.0 };
        let row = |(frame, row): (&Frame, usize)| {
            let value = |column: &str| Truth::value(frame, column, row).unwrap_or(0.0);
            let reference = self.reference(terms[1]);
            let other = 1.0 - is(value(terms[1]), reference);
            ([1.0, value(terms[0]), other], is(value(outcome), wanted))
        };
        newton(&self.rows(&complete).map(row).collect::<Vec<_>>())
    }

    fn reference(&self, column: &str) -> f64 {
        match self.dictionary.column(column).map(|c| &c.kind) {
            Some(Kind::Factor { levels, reference: Some(code) }) => {
                levels.iter().position(|l| l.code == *code).map_or(0.0, |at| at as f64)
            }
            _ => 0.0,
        }
    }
}

fn newton(rows: &[([f64; 3], f64)]) -> (Vec<f64>, Vec<f64>) {
    let rate = rows.iter().map(|r| r.1).sum::<f64>() / rows.len().max(1) as f64;
    let mut beta = [(rate / (1.0 - rate)).ln(), 0.0, 0.0];
    for _ in 0..100 {
        let (mut g, mut h) = ([0.0; 3], [[0.0; 3]; 3]);
        for (x, y) in rows {
            let eta: f64 = (0..3).map(|j| x[j] * beta[j]).sum();
            let mu = 1.0 / (1.0 + (-eta).exp());
            for j in 0..3 {
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
            let unit = |j: usize| std::array::from_fn(|k| if k == j { 1.0 } else { 0.0 });
            let se = (0..3).map(|j| solve(&lower, &unit(j))[j].sqrt()).collect();
            return (beta.to_vec(), se);
        }
    }
    (Vec::new(), Vec::new())
}

fn cholesky(h: &[[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let mut l = [[0.0; 3]; 3];
    for i in 0..3 {
        for j in 0..=i {
            let s: f64 = (0..j).map(|k| l[i][k] * l[j][k]).sum();
            l[i][j] = if i == j { (h[i][i] - s).sqrt() } else { (h[i][j] - s) / l[j][j] };
        }
    }
    l
}

fn solve(l: &[[f64; 3]; 3], b: &[f64; 3]) -> [f64; 3] {
    let (mut y, mut x) = ([0.0; 3], [0.0; 3]);
    for i in 0..3 {
        y[i] = (b[i] - (0..i).map(|k| l[i][k] * y[k]).sum::<f64>()) / l[i][i];
    }
    for i in (0..3).rev() {
        x[i] = (y[i] - (i + 1..3).map(|k| l[k][i] * x[k]).sum::<f64>()) / l[i][i];
    }
    x
}
