//! The little linear algebra that the methods need, written out so that it is the same on every processor.
//!
//! A library would choose instructions at run time (fused multiply-add here, not there), and two honest nodes
//! could then differ in the last bit. Only `+ - * / sqrt` in a fixed order are used here: IEEE 754 fixes those.

/// A running sum with its rounding error carried along (Neumaier 1974, algorithm IV); the error no longer grows
/// with the number of rows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    total: f64,
    carry: f64,
}

impl Sum {
    pub(crate) fn add(&mut self, x: f64) {
        let t = self.total + x;
        if self.total.abs() >= x.abs() {
            self.carry += (self.total - t) + x;
        } else {
            self.carry += (x - t) + self.total;
        }
        self.total = t;
    }

    pub(crate) fn value(self) -> f64 {
        self.total + self.carry
    }
}

/// Index of `(i, j)`, `i <= j < p`, in an upper triangle stored row by row.
pub(crate) fn upper(i: usize, j: usize, p: usize) -> usize {
    i * p - i * (i + 1) / 2 + j
}

/// Lower Cholesky factor of a symmetric positive definite matrix (Golub & Van Loan 2013, section 4.2).
pub(crate) struct Cholesky {
    p: usize,
    l: Vec<f64>,
}

/// A pivot below this part of its diagonal entry means that a column is a combination of those before it to
/// working precision.
const PIVOT: f64 = 1e-11;

impl Cholesky {
    /// Factors the matrix whose upper triangle is given row by row; `None` unless it is safely positive
    /// definite and finite.
    pub(crate) fn of_upper(a: &[f64], p: usize) -> Option<Cholesky> {
        if a.len() != p * (p + 1) / 2 || a.iter().any(|x| !x.is_finite()) {
            return None;
        }
        let mut l = vec![0.0; p * p];
        for j in 0..p {
            let diagonal = a[upper(j, j, p)];
            let mut d = diagonal;
            for k in 0..j {
                d -= l[j * p + k] * l[j * p + k];
            }
            // Written so that a NaN fails.
            if !(diagonal > 0.0 && d > PIVOT * diagonal) {
                return None;
            }
            let d = d.sqrt();
            l[j * p + j] = d;
            for i in j + 1..p {
                let mut s = a[upper(j, i, p)];
                for k in 0..j {
                    s -= l[i * p + k] * l[j * p + k];
                }
                l[i * p + j] = s / d;
            }
        }
        l.iter().all(|x| x.is_finite()).then_some(Cholesky { p, l })
    }

    /// Solves `A x = b`; a `b` of fewer than `p` entries counts as filled up with zeros.
    #[allow(clippy::needless_range_loop)] // the substitutions read as in the book
    pub(crate) fn solve(&self, b: &[f64]) -> Vec<f64> {
        let p = self.p;
        let mut x: Vec<f64> = b.iter().copied().chain(std::iter::repeat(0.0)).take(p).collect();
        for i in 0..p {
            let mut s = x[i];
            for k in 0..i {
                s -= self.l[i * p + k] * x[k];
            }
            x[i] = s / self.l[i * p + i];
        }
        for i in (0..p).rev() {
            let mut s = x[i];
            for k in i + 1..p {
                s -= self.l[k * p + i] * x[k];
            }
            x[i] = s / self.l[i * p + i];
        }
        x
    }

    /// `t' A^-1 t`.
    pub(crate) fn quadratic_inverse(&self, t: &[f64]) -> f64 {
        let mut q = Sum::default();
        for (a, b) in self.solve(t).iter().zip(t) {
            q.add(a * b);
        }
        q.value()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn solves_as_a_second_implementation_does(rows in prop::collection::vec(prop::collection::vec(-1.0f64..1.0, 4), 6..30),
                                                  b in prop::collection::vec(-5.0f64..5.0, 4)) {
            let x = nalgebra::DMatrix::from_fn(rows.len(), 4, |i, j| rows[i][j]);
            let a = x.transpose() * &x + nalgebra::DMatrix::identity(4, 4);
            let packed: Vec<f64> = (0..4).flat_map(|i| (i..4).map(move |j| (i, j))).map(|ij| a[ij]).collect();
            let chol = Cholesky::of_upper(&packed, 4).unwrap();
            let expected = a.clone().lu().solve(&nalgebra::DVector::from_vec(b.clone())).unwrap();
            for (u, v) in chol.solve(&b).iter().zip(expected.iter()) {
                prop_assert!((u - v).abs() < 1e-11 * (1.0 + v.abs()));
            }
        }

        #[test]
        fn the_carried_sum_is_right_to_the_last_bits(mut xs in prop::collection::vec(-1000i64..1000, 1..500)) {
            // In units of 2^-10 every partial sum is exact, so shuffled huge terms must cancel without trace.
            let exact: i64 = xs.iter().sum();
            xs.push(1 << 40);
            xs.insert(0, -(1 << 40));
            let mut s = Sum::default();
            xs.iter().for_each(|x| s.add(*x as f64 / 1024.0 + 0.0));
            prop_assert_eq!(s.value(), exact as f64 / 1024.0);
        }
    }

    #[test]
    fn a_singular_or_hostile_matrix_has_no_factor() {
        assert!(Cholesky::of_upper(&[1.0, 1.0, 1.0], 2).is_none());
        assert!(Cholesky::of_upper(&[1.0, 2.0, 1.0], 2).is_none());
        assert!(Cholesky::of_upper(&[0.0, 0.0, 1.0], 2).is_none());
        assert!(Cholesky::of_upper(&[f64::NAN, 0.0, 1.0], 2).is_none());
        assert!(Cholesky::of_upper(&[1.0, f64::INFINITY, 1.0], 2).is_none());
        assert!(Cholesky::of_upper(&[1.0, 0.0], 2).is_none());
    }

    #[test]
    fn carries_what_a_plain_sum_loses() {
        let mut s = Sum::default();
        for x in [1.0, 1e100, 1.0, -1e100] {
            s.add(x);
        }
        assert_eq!(s.value(), 2.0);
    }
}
