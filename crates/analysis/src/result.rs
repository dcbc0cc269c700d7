//! Results: what a recipient reads, in a form that canonical JSON holds.

use crate::Number;
use serde::{Deserialize, Serialize};

/// The result of one analysis. In canonical JSON the table's fields stand beside these.
///
/// What `step` and `combine_once` return has not passed the release check: it is for [`privacy::Release::check`]
/// and nobody else to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnalysisResult {
    /// The analysis' short name.
    pub analysis: String,
    /// Its index in the study.
    pub index: usize,
    /// What it is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What one row stands for, for example `patient`.
    pub unit: String,
    /// Sites whose rows are in it.
    pub contributors: u32,
    /// The numbers.
    #[serde(flatten)]
    pub table: Table,
}

/// The numbers of one method. A study has a handful of them, so their size does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case")]
pub enum Table {
    /// See [`crate::mantel_haenszel`].
    MantelHaenszel {
        /// Labels of exposed and not exposed.
        exposure: [String; 2],
        /// Labels of outcome and no outcome.
        outcome: [String; 2],
        /// Pooled counts `[[a, b], [c, d]]`: exposed with and without outcome, then not exposed.
        counts: [[u64; 2]; 2],
        /// Rows in the table.
        n: u64,
        /// Rows with the outcome.
        events: u64,
        /// The common odds ratio.
        odds_ratio: Number,
        /// Its 95 % interval, `exp(log_odds_ratio ± 1.96 se)`.
        odds_ratio_ci95: Interval,
        /// Natural logarithm of the odds ratio.
        log_odds_ratio: Number,
        /// Standard error of the logarithm (Robins, Breslow & Greenland 1986).
        se: Number,
        /// `log_odds_ratio / se`.
        z: Number,
        /// Two-sided p of `z`.
        p: Number,
        /// Cochran-Mantel-Haenszel test without continuity correction.
        cmh: Test,
        /// The same with continuity correction.
        cmh_corrected: Test,
    },
    /// See [`crate::logistic`].
    Logistic {
        /// The outcome's column.
        outcome: String,
        /// The level that is the event.
        event: String,
        /// Rows in the model.
        n: u64,
        /// Rows with the event.
        events: u64,
        /// Rounds that were asked.
        rounds: u32,
        /// Intercept first, then the terms in the formula's order, each factor's levels in the dictionary's.
        coefficients: Vec<Coefficient>,
        /// What each factor's levels are compared with.
        references: Vec<Reference>,
        /// Residual deviance, `-2 log L`.
        deviance: Number,
        /// Deviance of the model of the intercept alone.
        null_deviance: Number,
        /// Rows less coefficients.
        df_residual: u64,
        /// `deviance + 2 * coefficients` (Akaike 1974).
        aic: Number,
    },
    /// See [`crate::describe`].
    Describe {
        /// One per column.
        columns: Vec<Description>,
    },
    /// See [`crate::crosstab`].
    Crosstab {
        /// The columns, the last varying fastest; `site` comes first if the table is split by site.
        by: Vec<String>,
        /// The levels of each column.
        levels: Vec<Vec<String>>,
        /// Number of levels of each column.
        shape: Vec<usize>,
        /// Rows, cell by cell; nothing where the release check has withheld a count.
        counts: Vec<Option<u64>>,
    },
}

/// A 95 % interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// Lower end.
    pub low: Number,
    /// Upper end.
    pub high: Number,
}

/// A chi-squared test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// The statistic.
    pub chi2: Number,
    /// Degrees of freedom.
    pub df: u32,
    /// Upper tail.
    pub p: Number,
}

/// One coefficient of a regression, on the scale of the dictionary's units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coefficient {
    /// `(intercept)`, a column, or `column=level`.
    pub term: String,
    /// Unit that the estimate is per, if the column has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<String>,
    /// The estimate, a log odds ratio save for the intercept.
    pub estimate: Number,
    /// Standard error from the inverse of the expected information.
    pub se: Number,
    /// Its 95 % interval, `estimate ± 1.96 se`.
    pub ci95: Interval,
    /// `estimate / se`.
    pub z: Number,
    /// Two-sided p.
    pub p: Number,
    /// `exp(estimate)`.
    pub odds_ratio: Number,
}

/// What a factor's levels are compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// The factor.
    pub column: String,
    /// Its reference level.
    pub level: String,
}

/// Mean and spread of one column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The column.
    pub column: String,
    /// Words for it.
    pub label: String,
    /// Its unit of measurement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Rows.
    pub n: u64,
    /// Arithmetic mean.
    pub mean: Number,
    /// Standard deviation with `n - 1`.
    pub sd: Number,
}
