//! The vector that leaves a site in one round: cell by cell, with bounds and resolution.

use serde::{Deserialize, Serialize};

/// One entry of a contribution. A value `x` is encoded as `k = round((x - lo) * 2^shift)` and must satisfy
/// `0 <= k < 2^bits`; the sum over sites is decoded as `n * lo + (sum of k) * 2^-shift`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// What it is, in words that a steward reads, for example `aspirin=yes, death14=yes: patients`.
    pub name: String,
    /// Lower bound of the value.
    pub lo: i64,
    /// Binary places kept after the point: the resolution is `2^-shift`.
    pub shift: u8,
    /// Width in bits, 1 to 64: the proof shows `0 <= k < 2^bits`.
    pub bits: u8,
}

/// All entries of one round, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// The entries.
    pub cells: Vec<Cell>,
}

impl Cell {
    /// A cell for values in `[lo, hi]` at resolution `2^-shift`; the width is the least multiple of four bits
    /// that holds the range, so that few widths and so few proofs are needed.
    pub fn spanning(name: impl Into<String>, lo: i64, hi: i64, shift: u8) -> Cell {
        let steps: u128 = (hi.abs_diff(lo) as u128) << shift;
        let need = (u128::BITS - steps.leading_zeros()).max(1);
        let bits = need.div_ceil(4) * 4;
        Cell { name: name.into(), lo, shift, bits: bits.min(255) as u8 }
    }

    /// A count of rows, at most `max_rows`.
    pub fn count(name: impl Into<String>, max_rows: u32) -> Cell {
        Cell::spanning(name, 0, i64::from(max_rows), 0)
    }
}
