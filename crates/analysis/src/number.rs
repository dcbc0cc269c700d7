//! Numbers as text: canonical JSON holds no floats, so a result carries decimal strings.

use crate::Failure;
use serde::{Deserialize, Serialize};
use statrs::function::erf::erfc;
use std::fmt;

/// A finite number as a decimal string of 17 significant digits, for example `9.5402417438299470e-1`: enough to
/// give back the same IEEE 754 double (Steele & White 1990).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Number(String);

impl Number {
    /// The number, unless it is not finite. Negative zero becomes zero.
    pub fn new(x: f64) -> Result<Number, Failure> {
        if !x.is_finite() {
            return Err(Failure::NotFinite);
        }
        Ok(Number(format!("{:.16e}", x + 0.0)))
    }

    /// The double that it stands for; `NaN` if the text came from elsewhere and is no number.
    pub fn to_f64(&self) -> f64 {
        self.0.parse().unwrap_or(f64::NAN)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The 0.975 quantile of the standard normal distribution.
pub const Z_975: f64 = 1.959_963_984_540_054;

/// Two-sided p of a standard normal statistic: `P(|Z| >= |z|) = erfc(|z| / sqrt 2)`
/// (Abramowitz & Stegun 1964, 7.1.2 and 26.2.29), to a relative error of about 1e-9.
pub fn p_two_sided(z: f64) -> f64 {
    erfc(z.abs() / std::f64::consts::SQRT_2)
}

/// Upper tail of chi-squared with one degree of freedom: the square of a standard normal.
pub fn p_chi2_1(chi2: f64) -> f64 {
    erfc((chi2.max(0.0) / 2.0).sqrt())
}

/// A sum of counts: a whole number within `0..=2^53`, else the sums are not what honest sites give.
pub(crate) fn count(x: f64) -> Result<u64, Failure> {
    let r = x.round();
    if x.is_finite() && (x - r).abs() < 1e-6 && (0.0..=9_007_199_254_740_992.0).contains(&r) {
        Ok(r as u64)
    } else {
        Err(Failure::Malformed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tails_match_tables() {
        // Abramowitz & Stegun 1964, table 26.1 and R's 2*pnorm(-z), pchisq(x, 1, lower=FALSE).
        let p = p_two_sided(Z_975);
        assert!((p / 0.05 - 1.0).abs() < 1e-9, "{p:e}");
        assert!((p_two_sided(-3.5065732761294353) / 0.00045391643826471744 - 1.0).abs() < 1e-9);
        assert!((p_chi2_1(0.8918680508063995) / 0.344971585467144 - 1.0).abs() < 1e-9);
        assert!((p_two_sided(34.999419851365985) / 2.2960090585367468e-268 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_no_count_is_refused() {
        for x in [f64::NAN, f64::INFINITY, -1.0, 0.5, 1e300, -f64::INFINITY] {
            assert_eq!(count(x), Err(Failure::Malformed), "{x}");
        }
        assert_eq!(count(-0.0), Ok(0));
        assert_eq!(count(19433.0), Ok(19433));
    }

    proptest! {
        #[test]
        fn a_number_gives_back_its_double(x in proptest::num::f64::NORMAL | proptest::num::f64::ZERO) {
            prop_assert_eq!(Number::new(x).unwrap().to_f64().to_bits(), (x + 0.0).to_bits());
        }
    }

    #[test]
    fn only_finite_numbers_are_numbers() {
        assert!(Number::new(f64::NAN).is_err());
        assert!(Number::new(f64::INFINITY).is_err());
        assert_eq!(Number::new(-0.0).unwrap().as_str(), "0.0000000000000000e0");
    }
}
