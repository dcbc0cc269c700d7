//! What leaves a site: a vector that fits its declared layout and the site's own rules.

use crate::encoding::{self, LayoutFault};
use record::Digest;
use study::Layout;
use zeroize::Zeroizing;

/// What the site itself demands and measured, beside the layout. All of it stays at the site.
#[derive(Clone, PartialEq)]
pub struct LocalRules {
    /// Rows of the dataset that were read.
    pub rows_read: u64,
    /// Most rows that the dictionary allows: a power of two (A5).
    pub max_rows: u32,
    /// Effective units behind the vector, `(sum w)^2 / sum w^2` over the weights that the question gives to
    /// rows (A1); the number of rows for a count.
    pub effective_units: f64,
    /// Fewest effective units, for methods whose questions the contributors cannot replay; 0 where they are
    /// replayed or constants of the plan, so that a site of two patients can take part.
    pub min_effective_units: u32,
    /// Cells that are published for this site alone, by index: an output by site.
    pub by_site: Vec<usize>,
    /// Whether this site's own yes to output by site is on the record.
    pub own_yes: bool,
    /// Least count in a cell that is published for this site alone; zero counts pass.
    pub min_cell: u32,
}

impl Default for LocalRules {
    /// Nothing read, nothing allowed beyond it: a caller says what it measured.
    fn default() -> LocalRules {
        LocalRules {
            rows_read: 0,
            max_rows: 0,
            effective_units: 0.0,
            min_effective_units: 0,
            by_site: Vec::new(),
            own_yes: false,
            min_cell: u32::MAX,
        }
    }
}

/// Why a site does not contribute. For this site's own log: it names cells, never values (A3, A4).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The layout cannot be used.
    #[error(transparent)]
    Layout(#[from] LayoutFault),
    /// A vector of the wrong length.
    #[error("the vector has {found} entries, expected {expected}: the site half and the plan disagree")]
    Length {
        /// Entries found.
        found: usize,
        /// Cells of the layout.
        expected: usize,
    },
    /// An entry that is not a number within its cell's bounds.
    #[error(
        "entry {index} `{name}` is not within the bounds of its cell: check the mapping and the dictionary's bounds"
    )]
    Bounds {
        /// Index in the layout.
        index: usize,
        /// Name of the cell.
        name: String,
    },
    /// More rows than the dictionary allows.
    #[error(
        "the dataset has more rows than the dictionary's {max_rows}: raise `max_rows` to the next power of two"
    )]
    Rows {
        /// The dictionary's bound.
        max_rows: u32,
    },
    /// Withheld by this site's own disclosure rules, whichever it was.
    #[error("withheld by this site's disclosure rules")]
    Withheld,
}

/// A checked vector, the only thing that the rounds room can seal. Wiped when dropped.
///
/// Made by [`Contribution::check`] alone:
///
/// ```compile_fail,E0451
/// use privacy::Contribution;
/// use record::Digest;
/// // Fields are private: a vector that skipped its check is not a contribution.
/// let c = Contribution { encoded: vec![1].into(), layout: Digest::of(b"l"), plan: Digest::of(b"p") };
/// ```
///
/// ```compile_fail,E0277
/// let c: privacy::Contribution = Default::default();
/// ```
///
/// ```compile_fail,E0277
/// fn read(bytes: &[u8]) -> privacy::Contribution {
///     record::canon::from_bytes(bytes).unwrap()
/// }
/// ```
///
/// ```compile_fail,E0599
/// // Sent once: there is no second copy to seal under other randomness (A9).
/// fn twice(c: privacy::Contribution) -> (privacy::Contribution, privacy::Contribution) {
///     (c.clone(), c)
/// }
/// ```
///
/// ```compile_fail,E0277
/// // Rows have no way into a log line.
/// fn log(c: &privacy::Contribution) -> String {
///     format!("{c:?}")
/// }
/// ```
pub struct Contribution {
    encoded: Zeroizing<Vec<u64>>,
    layout: Digest,
    plan: Digest,
}

impl Contribution {
    /// Checks a site's vector: the layout usable, the length exact, every entry finite and in bounds, no more
    /// rows than the dictionary allows, and the site's own rules. Entries are rounded to the layout's grid.
    pub fn check(
        layout: &Layout,
        values: &[f64],
        plan_digest: Digest,
        rules: &LocalRules,
    ) -> Result<Contribution, Refused> {
        let layout_digest = encoding::layout_digest(layout)?;
        if values.len() != layout.cells.len() {
            return Err(Refused::Length { found: values.len(), expected: layout.cells.len() });
        }
        if rules.rows_read > u64::from(rules.max_rows) {
            return Err(Refused::Rows { max_rows: rules.max_rows });
        }
        let mut encoded = Zeroizing::new(Vec::with_capacity(values.len()));
        for (index, (cell, value)) in layout.cells.iter().zip(values).enumerate() {
            let k = encoding::encode(cell, *value)
                .ok_or_else(|| Refused::Bounds { index, name: cell.name.clone() })?;
            encoded.push(k);
        }
        check_local(layout, values, rules)?;
        Ok(Contribution { encoded, layout: layout_digest, plan: plan_digest })
    }

    /// The entries as whole numbers, in the layout's order; for the rounds room.
    pub fn encoded(&self) -> &[u64] {
        &self.encoded
    }

    /// Digest of the layout that it was checked against.
    pub fn layout(&self) -> Digest {
        self.layout
    }

    /// Digest of the plan that it answers.
    pub fn plan(&self) -> Digest {
        self.plan
    }
}

/// The site's own rules (A7). Fails closed: an effective size that is not a number is too small.
fn check_local(layout: &Layout, values: &[f64], rules: &LocalRules) -> Result<(), Refused> {
    let needed = f64::from(rules.min_effective_units);
    if needed > 0.0 && (rules.effective_units.is_nan() || rules.effective_units < needed) {
        return Err(Refused::Withheld);
    }
    if !rules.by_site.is_empty() && !rules.own_yes {
        return Err(Refused::Withheld);
    }
    for &index in &rules.by_site {
        let (Some(cell), Some(&value)) = (layout.cells.get(index), values.get(index)) else {
            return Err(Refused::Length { found: index, expected: layout.cells.len() });
        };
        // A count published alone: its unit is a person, so its resolution is one.
        let small = value > 0.0 && value < f64::from(rules.min_cell);
        if cell.shift != 0 || small {
            return Err(Refused::Withheld);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use study::Cell;

    fn layout() -> Layout {
        Layout { cells: vec![Cell::count("patients", 64), Cell::spanning("score", -8, 8, 3)] }
    }

    fn rules() -> LocalRules {
        LocalRules { rows_read: 10, max_rows: 64, ..LocalRules::default() }
    }

    fn check(values: &[f64], rules: &LocalRules) -> Result<Contribution, Refused> {
        Contribution::check(&layout(), values, Digest::of(b"plan"), rules)
    }

    fn refusal(values: &[f64], rules: &LocalRules) -> Refused {
        check(values, rules).err().expect("refused")
    }

    #[test]
    fn a_vector_of_another_shape_does_not_leave() {
        assert_eq!(refusal(&[1.0], &rules()), Refused::Length { found: 1, expected: 2 });
        assert_eq!(refusal(&[1.0, 0.0, 0.0], &rules()), Refused::Length { found: 3, expected: 2 });
    }

    #[test]
    fn an_entry_out_of_bounds_does_not_leave_and_its_value_is_not_named() {
        for bad in [-9.0, 31.625, f64::NAN, f64::INFINITY] {
            let refused = refusal(&[1.0, bad], &rules());
            assert_eq!(refused, Refused::Bounds { index: 1, name: "score".into() });
            assert!(!refused.to_string().contains(&bad.to_string()));
        }
    }

    #[test]
    fn more_rows_than_the_dictionary_allows_do_not_leave() {
        let rules = LocalRules { rows_read: 65, ..rules() };
        assert_eq!(refusal(&[1.0, 0.0], &rules), Refused::Rows { max_rows: 64 });
    }

    #[test]
    fn a_question_that_weighs_one_person_is_refused_where_it_cannot_be_replayed() {
        let chosen = LocalRules { min_effective_units: 11, effective_units: 1.2, ..rules() };
        assert_eq!(refusal(&[1.0, 0.0], &chosen), Refused::Withheld);
        let nan = LocalRules { effective_units: f64::NAN, ..chosen.clone() };
        assert_eq!(refusal(&[1.0, 0.0], &nan), Refused::Withheld);
        let wide = LocalRules { effective_units: 11.0, ..chosen };
        assert!(check(&[1.0, 0.0], &wide).is_ok());
    }

    #[test]
    fn two_patients_contribute_to_a_replayed_method() {
        let replayed = LocalRules { rows_read: 2, effective_units: 2.0, ..rules() };
        assert!(check(&[2.0, 0.5], &replayed).is_ok());
    }

    #[test]
    fn output_by_site_needs_the_sites_own_yes_and_its_own_minimum() {
        let alone = LocalRules { by_site: vec![0], min_cell: 11, own_yes: true, ..rules() };
        assert!(check(&[11.0, 0.0], &alone).is_ok());
        assert!(check(&[0.0, 0.0], &alone).is_ok());
        assert_eq!(refusal(&[10.0, 0.0], &alone), Refused::Withheld);
        assert_eq!(refusal(&[11.0, 0.0], &LocalRules { own_yes: false, ..alone.clone() }), Refused::Withheld);
        assert_eq!(
            refusal(&[11.0, 0.0], &LocalRules { by_site: vec![1], ..alone.clone() }),
            Refused::Withheld
        );
        assert!(check(&[11.0, 0.0], &LocalRules { by_site: vec![7], ..alone }).is_err());
    }
}
