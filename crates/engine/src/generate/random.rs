//! Draws that are the same on every machine. Not for secrets.
//!
//! Only sums, products and quotients of `f64` are used, which IEEE 754 fixes to the last bit; `exp` of a system's
//! library is not.

/// splitmix64 (Steele, Lea, Flood 2014, OOPSLA, figure 17).
pub(super) struct Draws(u64);

impl Draws {
    /// A stream for a seed and a label; streams of different labels are independent for our purpose.
    pub(super) fn new(seed: u64, label: &str) -> Draws {
        let mut draws = Draws(seed);
        for byte in label.bytes() {
            draws.0 = draws.next() ^ u64::from(byte);
        }
        draws
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with this probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Near to standard normal: twelve uniforms less six.
    pub(super) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// A whole number in `low..=high`.
    pub(super) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + (self.unit() * (high - low + 1) as f64) as i64
    }

    /// One of several by weight; the last where rounding leaves none.
    pub(super) fn pick<T: Copy + Default>(&mut self, choices: &[(T, f64)]) -> T {
        let mut left = self.unit() * choices.iter().map(|(_, weight)| weight).sum::<f64>();
        for (choice, weight) in choices {
            left -= weight;
            if left < 0.0 {
                return *choice;
            }
        }
        choices.last().map(|(choice, _)| *choice).unwrap_or_default()
    }

    /// A value from quantiles `(probability, value)` in order, straight lines between them.
    pub(super) fn quantile(&mut self, table: &[(f64, f64)]) -> f64 {
        let u = self.unit();
        for pair in table.windows(2) {
            if let [(p, x), (q, y)] = pair
                && u < *q
            {
                return x + (y - x) * (u - p) / (q - p);
            }
        }
        table.last().map_or(0.0, |(_, x)| *x)
    }
}

/// `e^x` for |x| <= 30 to about 1e-9 relative: the series at x/4096, squared twelve times.
fn exp(x: f64) -> f64 {
    let y = x.clamp(-30.0, 30.0) / 4096.0;
    let mut e = 1.0 + y * (1.0 + y / 2.0 * (1.0 + y / 3.0 * (1.0 + y / 4.0)));
    for _ in 0..12 {
        e *= e;
    }
    e
}

/// The inverse of the logit.
pub(super) fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        // First outputs of splitmix64 for the seed 1234567, from the reference implementation.
        let mut draws = Draws(1_234_567);
        assert_eq!(draws.next(), 6_457_827_717_110_365_317);
        assert_eq!(draws.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn the_exponential_is_close() {
        for x in [-20.0, -3.3, -0.1, 0.0, 0.7, 5.0, 20.0] {
            assert!((exp(x) / f64::exp(x) - 1.0).abs() < 1e-9, "{x}");
        }
    }
}
