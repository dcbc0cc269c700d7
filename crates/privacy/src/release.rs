//! What leaves the collector: pooled results whose small counts are hidden.

use crate::guard::{self, ReleaseRules, Withheld};
use crate::tables::suppress;
use record::canon::Value;
use record::{Digest, canon};
use serde::{Deserialize, Serialize};
use study::{GuardCell, Method, Plan, Study};

/// Most bytes of a released document.
pub const MAX_RELEASE: usize = 1 << 20;

/// The run that a release speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Number of the run of its study, from 1.
    pub number: u32,
    /// Digest of the plan's canonical form.
    pub plan: Digest,
    /// The contributors summed, sorted.
    pub contributors: Vec<String>,
    /// Fresh random bytes, so that the document's digest on the record tells nothing of it (A4).
    pub salt: [u8; 16],
}

/// The released document, as its recipients read it. Canonical JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Released {
    /// The study's id.
    pub study: String,
    /// Number of the run.
    pub run: u32,
    /// 16 random bytes in hexadecimal, which salt the document's digest on the record (A4).
    pub salt: String,
    /// Digest of the plan.
    pub plan: Digest,
    /// The contributors summed.
    pub contributors: Vec<String>,
    /// Contributors whose terms stay hidden from the viewer who sees most.
    pub hidden_sites: u32,
    /// Least count that is shown.
    pub min_cell: u32,
    /// How the population came about.
    pub population: Population,
    /// One result for each analysis of the study, in its order.
    pub results: Vec<Value>,
}

/// Rows read, excluded and analysed; a hidden count is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Population {
    /// Rows of all contributors' datasets; hidden where it would give a small excluded count back.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rows_read: Option<u64>,
    /// Rows left out, by the first reason that applied.
    pub excluded: Vec<Reason>,
    /// Rows analysed.
    pub analysed: u64,
}

/// Why rows were left out, and how many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// The reason in words.
    pub reason: String,
    /// Rows; absent if hidden.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rows: Option<u64>,
}

/// A checked output, the only thing that can be published or sealed to recipients.
///
/// Made by [`Release::check`] alone:
///
/// ```compile_fail,E0451
/// fn publish(document: privacy::Released, bytes: Vec<u8>) -> privacy::Release {
///     privacy::Release { document, bytes }
/// }
/// ```
///
/// ```compile_fail,E0308
/// fn publish(document: privacy::Released) -> privacy::Release {
///     privacy::Release::from(document)
/// }
/// ```
///
/// ```compile_fail,E0277
/// fn publish(bytes: &[u8]) -> privacy::Release {
///     record::canon::from_bytes(bytes).unwrap()
/// }
/// ```
pub struct Release {
    document: Released,
    bytes: Vec<u8>,
}

impl Release {
    /// Checks pooled results for release: [`crate::guard_verdict`] must pass, and every small count of the
    /// population and of each crosstab is hidden together with complements ([`suppress`]).
    ///
    /// `cells` is `study::guard_cells`, `guard` the decoded sums of the guard stage, `results` one canonical
    /// value for each analysis. A crosstab's value is a map with `shape` (levels of each axis) and `counts`
    /// (row-major, the last axis fastest, unsuppressed); this check replaces its small counts by `null`.
    pub fn check(
        study: &Study,
        plan: &Plan,
        run: &Run,
        cells: &[GuardCell],
        guard: &[f64],
        results: Vec<Value>,
        rules: &ReleaseRules,
    ) -> Result<Release, Withheld> {
        let counts = guard::check(study, plan, cells, &run.contributors, guard, rules)?;
        let min_cell = rules.min_cell_for(study);
        if results.len() != study.analyses.len() {
            return Err(Withheld);
        }
        let mut shown = Vec::with_capacity(results.len());
        for (analysis, result) in study.analyses.iter().zip(results) {
            shown.push(match analysis.method {
                Method::Crosstab { .. } => crosstab(result, counts.analysed, min_cell)?,
                _ if shows_small_count(&result, i64::from(min_cell)) => return Err(Withheld),
                _ => result,
            });
        }
        let document = Released {
            study: study.id.clone(),
            run: run.number,
            salt: run.salt.iter().map(|b| format!("{b:02x}")).collect(),
            plan: run.plan,
            contributors: run.contributors.clone(),
            hidden_sites: guard::hidden(study, &run.contributors),
            min_cell,
            population: population(study, &counts, min_cell),
            results: shown,
        };
        let bytes = canon::to_bytes(&document).map_err(|_| Withheld)?;
        if bytes.len() > MAX_RELEASE {
            return Err(Withheld);
        }
        Ok(Release { document, bytes })
    }

    /// The document.
    pub fn document(&self) -> &Released {
        &self.document
    }

    /// The document's canonical JSON form.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Whether a result holds a count of persons, under `n`, `events` or `counts`, that is too small to show. The
/// guard counts answer for these; this holds the result itself to the same.
fn shows_small_count(result: &Value, min_cell: i64) -> bool {
    fn small(value: &Value, min_cell: i64, is_count: bool) -> bool {
        match value {
            Value::Int(n) => is_count && *n > 0 && *n < min_cell,
            Value::List(list) => list.iter().any(|v| small(v, min_cell, is_count)),
            Value::Map(map) => map
                .iter()
                .any(|(key, v)| small(v, min_cell, matches!(key.as_str(), "n" | "events" | "counts"))),
            Value::Null | Value::Bool(_) | Value::Str(_) => false,
        }
    }
    small(result, min_cell, false)
}

/// A crosstab's value with its small counts hidden; withheld if it is not a table of everybody analysed.
fn crosstab(result: Value, analysed: u64, min_cell: u32) -> Result<Value, Withheld> {
    let numbers = |key: &str| -> Result<Vec<u64>, Withheld> {
        let list = result.get(key).and_then(Value::as_list).ok_or(Withheld)?;
        list.iter().map(|v| v.as_int().and_then(|i| u64::try_from(i).ok()).ok_or(Withheld)).collect()
    };
    let shape: Vec<usize> = numbers("shape")?
        .into_iter()
        .map(|n| usize::try_from(n).map_err(|_| Withheld))
        .collect::<Result<_, _>>()?;
    let counts = numbers("counts")?;
    if counts.iter().fold(0u64, |n, c| n.saturating_add(*c)) != analysed {
        return Err(Withheld);
    }
    let shown = suppress(&shape, &counts, min_cell)?;
    let shown: Vec<Value> = shown
        .into_iter()
        .map(|n| n.and_then(|n| i64::try_from(n).ok()).map_or(Value::Null, Value::Int))
        .collect();
    let Value::Map(mut map) = result else {
        return Err(Withheld);
    };
    map.insert("counts".to_owned(), Value::List(shown));
    Ok(Value::Map(map))
}

/// The population's counts with small ones hidden. The excluded rows together are rows read less rows
/// analysed, so they are a line of known total; where no complement protects a small reason, the total of
/// rows read is hidden instead, which helps as long as no other release of the same sites shows it.
fn population(study: &Study, counts: &guard::Counts, min_cell: u32) -> Population {
    let excluded: Vec<u64> = counts.excluded.iter().map(|(_, n)| *n).collect();
    let k = u64::from(min_cell);
    let (rows_read, shown) = if excluded.is_empty() {
        (Some(counts.rows_read), Vec::new())
    } else {
        match suppress(&[excluded.len()], &excluded, min_cell) {
            Ok(shown) => (Some(counts.rows_read), shown),
            Err(Withheld) => (None, excluded.iter().map(|n| (*n == 0 || *n >= k).then_some(*n)).collect()),
        }
    };
    let reasons = counts.excluded.iter().zip(shown);
    Population {
        rows_read,
        excluded: reasons.map(|((cell, _), rows)| Reason { reason: cell.name(study), rows }).collect(),
        analysed: counts.analysed,
    }
}
