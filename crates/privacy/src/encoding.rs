//! Values to whole numbers and back: `k = round((x - lo) * 2^shift)`, decoded from sums exactly.
//!
//! The arithmetic is exact save for one rounding each way. `x * 2^shift` only moves a floating-point exponent,
//! rounding to a whole number is half to even on every processor, and everything after that is integers. So
//! two honest sites never part over the encoding, and the error of a sum over `n` sites is at most
//! `n * 2^-(shift+1)` plus half a unit in the last place of the decoded number.

use record::{Digest, canon};
use study::{Cell, Layout};

/// Most cells of one layout.
pub const MAX_CELLS: usize = 65_536;
/// Most bits of one layout, all cells together: 16 bytes a bit make an aggregator's share of 8 MiB.
pub const MAX_BITS: usize = 1 << 19;
/// Most binary places after the point.
pub const MAX_SHIFT: u8 = 62;
/// Most sites in one sum, so that no sum of 64-bit entries comes near the field's modulus (about 2^128).
pub const MAX_SITES: u32 = 65_536;

/// A layout or a vector of sums that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutFault {
    /// No cell, or too many.
    #[error("the layout has {found} cells, expected 1 to {MAX_CELLS}: split the study")]
    Cells {
        /// Cells found.
        found: usize,
    },
    /// Too many bits.
    #[error(
        "the layout has {found} bits, expected at most {MAX_BITS}: lower the resolution or split the study"
    )]
    Bits {
        /// Bits found.
        found: usize,
    },
    /// A cell whose width or resolution is out of range.
    #[error(
        "cell {index} `{name}` has {bits} bits and {shift} binary places, expected 1 to 64 bits and at most \
         {MAX_SHIFT} places: narrow its bounds or lower its resolution"
    )]
    Cell {
        /// Index in the layout.
        index: usize,
        /// Its name.
        name: String,
        /// Its width.
        bits: u8,
        /// Its binary places.
        shift: u8,
    },
    /// A lower bound that canonical JSON cannot hold.
    #[error("cell {index} has the lower bound {lo}, expected one within 2^53-1 of zero")]
    Bound {
        /// Index in the layout.
        index: usize,
        /// Its lower bound.
        lo: i64,
    },
    /// A vector of sums of the wrong length.
    #[error("found {found} sums, expected {expected}, one for each cell of the layout")]
    Sums {
        /// Sums found.
        found: usize,
        /// Cells of the layout.
        expected: usize,
    },
    /// A sum that no `n` sites within bounds can make.
    #[error(
        "the sum of cell {index} is not one that {sites} sites within bounds can make: an aggregator lied or erred"
    )]
    OutOfRange {
        /// Index in the layout.
        index: usize,
        /// Sites in the sum.
        sites: u32,
    },
    /// Number of sites out of range.
    #[error("found {found} sites, expected 1 to {MAX_SITES}")]
    Sites {
        /// Sites found.
        found: u32,
    },
}

/// Checks that a layout can be encoded, shared and digested.
pub fn check_layout(layout: &Layout) -> Result<(), LayoutFault> {
    let found = layout.cells.len();
    if found == 0 || found > MAX_CELLS {
        return Err(LayoutFault::Cells { found });
    }
    for (index, Cell { name, lo, shift, bits }) in layout.cells.iter().enumerate() {
        if *bits == 0 || *bits > 64 || *shift > MAX_SHIFT {
            return Err(LayoutFault::Cell { index, name: name.clone(), bits: *bits, shift: *shift });
        }
        if lo.unsigned_abs() >= 1 << 53 {
            return Err(LayoutFault::Bound { index, lo: *lo });
        }
    }
    let found = layout.cells.iter().map(|c| usize::from(c.bits)).sum();
    if found > MAX_BITS {
        return Err(LayoutFault::Bits { found });
    }
    Ok(())
}

/// Digest of a layout's canonical JSON form; checks it first, so that it always has one.
pub fn layout_digest(layout: &Layout) -> Result<Digest, LayoutFault> {
    check_layout(layout)?;
    let bytes = canon::to_bytes(layout).map_err(|_| LayoutFault::Cells { found: layout.cells.len() })?;
    Ok(Digest::of(&bytes))
}

/// Greatest encoded value of a cell: `2^bits - 1`. The cell has passed [`check_layout`].
pub(crate) fn top(cell: &Cell) -> u64 {
    if cell.bits >= 64 { u64::MAX } else { (1 << cell.bits) - 1 }
}

/// `2^exponent`, exact for the exponents of a checked cell.
fn power_of_two(exponent: i32) -> f64 {
    2f64.powi(exponent)
}

/// One value as its whole number, or `None` if it is not finite or not within the cell's bounds.
pub(crate) fn encode(cell: &Cell, value: f64) -> Option<u64> {
    let scaled = (value * power_of_two(i32::from(cell.shift))).round_ties_even();
    // Beyond 2^120 nothing can be in bounds, and below it the conversion is exact. False for NaN too.
    if scaled.is_finite() && scaled.abs() < power_of_two(120) {
        let offset = i128::from(cell.lo) << cell.shift;
        let k = u64::try_from(scaled as i128 - offset).ok()?;
        (k <= top(cell)).then_some(k)
    } else {
        None
    }
}

/// Sums over `sites` sites as numbers: `n * lo + sum * 2^-shift`, rounded once.
pub fn decode(layout: &Layout, sums: &[u128], sites: u32) -> Result<Vec<f64>, LayoutFault> {
    check_layout(layout)?;
    if sites == 0 || sites > MAX_SITES {
        return Err(LayoutFault::Sites { found: sites });
    }
    if sums.len() != layout.cells.len() {
        return Err(LayoutFault::Sums { found: sums.len(), expected: layout.cells.len() });
    }
    let mut values = Vec::with_capacity(sums.len());
    for (index, (cell, &sum)) in layout.cells.iter().zip(sums).enumerate() {
        if sum > u128::from(top(cell)) * u128::from(sites) {
            return Err(LayoutFault::OutOfRange { index, sites });
        }
        // At most 2^80 + 2^(53+16+62): too wide only for the widest shift with the greatest bound.
        let offset = (i128::from(cell.lo) << cell.shift).checked_mul(i128::from(sites));
        let total = offset.and_then(|o| i128::try_from(sum).ok()?.checked_add(o));
        let total = total.ok_or(LayoutFault::OutOfRange { index, sites })?;
        values.push(total as f64 * power_of_two(-i32::from(cell.shift)));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn cell(lo: i64, shift: u8, bits: u8) -> Cell {
        Cell { name: "x".into(), lo, shift, bits }
    }

    #[test]
    fn values_outside_bounds_have_no_encoding() {
        let c = cell(-4, 2, 5); // -4 to 3.75
        assert_eq!(encode(&c, -4.0), Some(0));
        assert_eq!(encode(&c, 3.75), Some(31));
        for bad in [-4.25, 4.0, 1e300, -1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(encode(&c, bad), None, "{bad}");
        }
    }

    #[test]
    fn halves_round_to_even_so_that_all_processors_agree() {
        let c = cell(0, 0, 8);
        assert_eq!([0.5, 1.5, 2.5, 3.5].map(|x| encode(&c, x)), [Some(0), Some(2), Some(2), Some(4)]);
    }

    #[test]
    fn the_widest_cell_keeps_its_ends() {
        let c = cell(0, 0, 64);
        assert_eq!(encode(&c, 0.0), Some(0));
        assert_eq!(encode(&c, 2f64.powi(64)), None);
        assert_eq!(encode(&c, 2f64.powi(64) - 2048.0), Some(u64::MAX - 2047));
    }

    #[test]
    fn a_sum_that_no_sites_can_make_is_refused() {
        let layout = Layout { cells: vec![cell(0, 0, 4)] };
        assert!(decode(&layout, &[45], 3).is_ok());
        assert_eq!(decode(&layout, &[46], 3), Err(LayoutFault::OutOfRange { index: 0, sites: 3 }));
        assert!(decode(&layout, &[u128::MAX], 3).is_err());
        assert_eq!(decode(&layout, &[1, 1], 3), Err(LayoutFault::Sums { found: 2, expected: 1 }));
        assert_eq!(decode(&layout, &[0], 0), Err(LayoutFault::Sites { found: 0 }));
    }

    #[test]
    fn layouts_that_cannot_be_shared_are_refused() {
        assert_eq!(check_layout(&Layout::default()), Err(LayoutFault::Cells { found: 0 }));
        for (lo, shift, bits) in [(0, 0, 0), (0, 0, 65), (0, 63, 4), (i64::MIN, 0, 4)] {
            assert!(check_layout(&Layout { cells: vec![cell(lo, shift, bits)] }).is_err());
        }
        let wide = Layout { cells: vec![cell(0, 0, 64); MAX_BITS / 64 + 1] };
        assert_eq!(check_layout(&wide), Err(LayoutFault::Bits { found: MAX_BITS + 64 }));
    }

    proptest! {
        #[test]
        fn sums_decode_to_the_sum_of_values_within_the_resolution(
            lo in -1000i64..1000, shift in 0u8..40, values in proptest::collection::vec(0f64..1000.0, 1..40),
        ) {
            let c = Cell::spanning("x", lo, lo + 1000, shift);
            let layout = Layout { cells: vec![c.clone()] };
            let n = values.len() as u32;
            let xs: Vec<f64> = values.iter().map(|v| v + lo as f64).collect();
            let sum: u128 = xs.iter().map(|x| u128::from(encode(&c, *x).unwrap())).sum();
            let got = decode(&layout, &[sum], n).unwrap()[0];
            let exact: f64 = xs.iter().sum();
            let error = f64::from(n) * 2f64.powi(-i32::from(shift) - 1) + 1e-9;
            prop_assert!((got - exact).abs() <= error, "{got} {exact}");
        }

        #[test]
        fn whole_numbers_survive_exactly(lo in -100i64..100, steps in 0u64..1000, shift in 0u8..20) {
            let c = Cell::spanning("x", lo, lo + 1000, shift);
            let value = lo as f64 + steps as f64 * 2f64.powi(-i32::from(shift));
            prop_assert_eq!(encode(&c, value), Some(steps));
        }
    }
}
