//! Small counts in a table, and the counts that must be hidden with them.
//!
//! Hiding one small count is not enough when a line's total is known: the total less the rest gives it back.
//! Every line total along every axis is taken as known here, since another analysis of the same study may show
//! it (events by arm, n by group), and lower totals follow from those. Hidden cells are chosen line by line and
//! then audited exactly: what is hidden may not be a solution of the totals (Hundepool et al., Statistical
//! Disclosure Control, 2012, chapter 4: primary and secondary suppression, and the audit of the pattern).

use crate::guard::Withheld;

/// Most cells of a table.
pub const MAX_TABLE: usize = 16_384;
/// Most cells that may be hidden: the audit's work grows with their cube. A table with more says little.
pub const MAX_HIDDEN: usize = 512;

/// Counts with the small ones hidden, in the same order: `None` for a count between 1 and `min_cell - 1` and
/// for each complement that keeps it from being computed. A hidden small count and a hidden complement look
/// alike. `shape` gives the number of levels of each axis, the last axis varying fastest.
///
/// Withheld as a whole if no choice of complements protects the small counts.
pub fn suppress(shape: &[usize], counts: &[u64], min_cell: u32) -> Result<Vec<Option<u64>>, Withheld> {
    let cells = shape.iter().try_fold(1usize, |n, s| n.checked_mul(*s));
    if shape.is_empty() || counts.is_empty() || counts.len() > MAX_TABLE || cells != Some(counts.len()) {
        return Err(Withheld);
    }
    let k = u64::from(min_cell);
    let mut hidden: Vec<bool> = counts.iter().map(|&n| n > 0 && n < k).collect();
    let lines = lines(shape);
    loop {
        if hidden.iter().filter(|h| **h).count() > MAX_HIDDEN {
            return Err(Withheld);
        }
        if let Some(cell) = lines.iter().find_map(|line| exposed_in(line, &hidden, counts, k)) {
            let partner = partner_for(cell, &lines, &hidden, counts, k)?;
            set(&mut hidden, partner);
            continue;
        }
        // Every line is protected by itself; now all lines together.
        match determined(&lines, &hidden) {
            None => break,
            Some(cell) => {
                let partner = partner_for(cell, &lines, &hidden, counts, k)?;
                set(&mut hidden, partner);
            }
        }
    }
    Ok(counts.iter().zip(&hidden).map(|(n, h)| (!h).then_some(*n)).collect())
}

fn set(hidden: &mut [bool], cell: usize) {
    if let Some(h) = hidden.get_mut(cell) {
        *h = true;
    }
}

fn count(counts: &[u64], cell: usize) -> u64 {
    counts.get(cell).copied().unwrap_or(0)
}

fn is_hidden(hidden: &[bool], cell: usize) -> bool {
    hidden.get(cell).copied().unwrap_or(false)
}

/// The lines of a table along every axis, each as the indices of its cells.
fn lines(shape: &[usize]) -> Vec<Vec<usize>> {
    let total: usize = shape.iter().product();
    let mut lines = Vec::new();
    let mut stride = total;
    for &levels in shape {
        stride /= levels.max(1);
        for start in 0..total {
            if levels > 0 && (start / stride.max(1)).is_multiple_of(levels) {
                lines.push((0..levels).map(|i| start + i * stride).collect());
            }
        }
    }
    lines
}

/// A hidden cell that its own line gives away: it is the only hidden one, or the hidden ones together are
/// fewer than `k` people, so that each is known to be small.
fn exposed_in(line: &[usize], hidden: &[bool], counts: &[u64], k: u64) -> Option<usize> {
    let inside: Vec<usize> = line.iter().copied().filter(|c| is_hidden(hidden, *c)).collect();
    let sum: u64 = inside.iter().map(|c| count(counts, *c)).fold(0, u64::saturating_add);
    match inside.as_slice() {
        [] => None,
        [one] => Some(*one),
        [first, ..] => (sum < k).then_some(*first),
    }
}

/// The complement for a cell: the least shown count of at least `k` in one of the cell's lines, the first of
/// equals. A zero is no complement: the totals would give the small count back as theirs.
fn partner_for(
    cell: usize,
    lines: &[Vec<usize>],
    hidden: &[bool],
    counts: &[u64],
    k: u64,
) -> Result<usize, Withheld> {
    let candidates = |line: &Vec<usize>| {
        line.iter()
            .copied()
            .filter(|c| !is_hidden(hidden, *c) && count(counts, *c) >= k.max(1))
            .collect::<Vec<_>>()
    };
    // The lines that give the cell away come first; then any line through it.
    let through = lines.iter().filter(|l| l.contains(&cell));
    let (urgent, others): (Vec<_>, Vec<_>) =
        through.partition(|l| exposed_in(l, hidden, counts, k).is_some());
    let pick =
        |set: Vec<&Vec<usize>>| set.into_iter().flat_map(candidates).min_by_key(|c| (count(counts, *c), *c));
    if urgent.is_empty() { pick(others).ok_or(Withheld) } else { pick(urgent).ok_or(Withheld) }
}

/// A hidden cell whose count follows from all line totals together, if there is one: the cell's unit vector is
/// in the row space of the lines over the hidden cells. Elimination modulo the prime 2^61-1, where the 0/1
/// matrices of tables of this size have the same rank as over the rationals unless the prime divides a minor.
fn determined(lines: &[Vec<usize>], hidden: &[bool]) -> Option<usize> {
    let columns: Vec<usize> = (0..hidden.len()).filter(|c| is_hidden(hidden, *c)).collect();
    let mut rows: Vec<Vec<u64>> = lines
        .iter()
        .map(|line| columns.iter().map(|c| u64::from(line.contains(c))).collect::<Vec<u64>>())
        .filter(|row| row.iter().any(|x| *x != 0))
        .collect();
    rows.sort();
    rows.dedup();
    // Reduced row echelon form; a reduced row with one entry determines its cell, and none other does.
    let mut done: Vec<Vec<u64>> = Vec::new();
    while let Some(row) = rows.pop() {
        let Some(pivot) = row.iter().position(|x| *x != 0) else {
            continue;
        };
        let scale = inverse(row.get(pivot).copied().unwrap_or(1));
        let row: Vec<u64> = row.iter().map(|x| mul(*x, scale)).collect();
        for other in rows.iter_mut().chain(done.iter_mut()) {
            let factor = other.get(pivot).copied().unwrap_or(0);
            if factor != 0 {
                for (o, r) in other.iter_mut().zip(&row) {
                    *o = sub(*o, mul(factor, *r));
                }
            }
        }
        done.push(row);
    }
    done.iter()
        .filter(|row| row.iter().filter(|x| **x != 0).count() == 1)
        .filter_map(|row| row.iter().position(|x| *x != 0))
        .filter_map(|i| columns.get(i).copied())
        .min()
}

const PRIME: u64 = (1 << 61) - 1;

fn mul(a: u64, b: u64) -> u64 {
    (u128::from(a) * u128::from(b) % u128::from(PRIME)) as u64
}

fn sub(a: u64, b: u64) -> u64 {
    if a >= b { a - b } else { a + PRIME - b }
}

/// Inverse by Fermat's theorem.
fn inverse(a: u64) -> u64 {
    let (mut base, mut exponent, mut result) = (a, PRIME - 2, 1);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = mul(result, base);
        }
        base = mul(base, base);
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn large_counts_and_zeros_are_shown() {
        assert_eq!(
            suppress(&[2, 2], &[0, 40, 12, 300], 11),
            Ok(vec![Some(0), Some(40), Some(12), Some(300)])
        );
    }

    #[test]
    fn one_small_count_takes_a_rectangle_with_it() {
        let got = suppress(&[3, 3], &[3, 40, 50, 60, 70, 80, 90, 95, 99], 11).unwrap();
        assert_eq!(got, [None, None, Some(50), None, None, Some(80), Some(90), Some(95), Some(99)]);
    }

    #[test]
    fn a_two_by_two_with_one_small_count_hides_all_four() {
        assert_eq!(suppress(&[2, 2], &[5, 100, 200, 300], 11), Ok(vec![None; 4]));
    }

    #[test]
    fn a_small_count_without_a_complement_withholds_the_table() {
        assert_eq!(suppress(&[2], &[3, 0], 11), Err(Withheld));
        assert_eq!(suppress(&[2, 2], &[3, 0, 0, 300], 11), Err(Withheld));
        assert_eq!(suppress(&[1], &[3], 11), Err(Withheld));
    }

    #[test]
    fn two_small_counts_in_a_line_need_a_third() {
        // 2 + 3 = 5 would say that both are below 11.
        assert_eq!(suppress(&[3], &[2, 3, 50], 11), Ok(vec![None, None, None]));
        assert_eq!(suppress(&[4], &[2, 9, 50, 60], 11), Ok(vec![None, None, Some(50), Some(60)]));
    }

    #[test]
    fn a_pattern_that_all_lines_together_solve_is_found() {
        // Two 2x2 blocks joined by one hidden cell: no line has fewer than two, but the joint is determined.
        let shape = [4, 4];
        let hidden: Vec<bool> =
            [1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 0, 0, 1, 1].iter().map(|x| *x == 1).collect();
        assert_eq!(determined(&lines(&shape), &hidden), Some(6));
        let blocks: Vec<bool> =
            [1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1].iter().map(|x| *x == 1).collect();
        assert_eq!(determined(&lines(&shape), &blocks), None);
    }

    #[test]
    fn a_table_of_another_shape_is_withheld() {
        for (shape, counts) in [(vec![2, 2], vec![1, 2, 3]), (vec![], vec![]), (vec![0], vec![])] {
            assert_eq!(suppress(&shape, &counts, 11), Err(Withheld));
        }
        assert_eq!(suppress(&[usize::MAX, 2], &[1, 2], 11), Err(Withheld));
    }

    /// A second tableau, by whole numbers: can the hidden cells be something else with all totals the same?
    fn another_table(shape: [usize; 2], shown: &[Option<u64>], truth: &[u64], cell: usize) -> bool {
        // Search alternating cycles through `cell` in the bipartite graph of hidden cells: moving one person
        // around a cycle keeps every total. Depth-first, rows and columns alternating.
        fn walk(
            at: usize,
            end: usize,
            row_move: bool,
            w: usize,
            hidden: &[usize],
            seen: &mut Vec<usize>,
        ) -> bool {
            hidden.iter().any(|&next| {
                let same = if row_move { next / w == at / w } else { next % w == at % w };
                if !same || next == at {
                    return false;
                }
                if next == end {
                    return !row_move && seen.len() >= 4;
                }
                if seen.contains(&next) {
                    return false;
                }
                seen.push(next);
                let found = walk(next, end, !row_move, w, hidden, seen);
                seen.pop();
                found
            })
        }
        let hidden: Vec<usize> = (0..truth.len()).filter(|c| shown[*c].is_none()).collect();
        walk(cell, cell, true, shape[1], &hidden, &mut vec![cell])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn nothing_small_is_shown_and_nothing_hidden_is_determined(
            rows in 2usize..5, columns in 2usize..5, raw in proptest::collection::vec(0u64..40, 16), k in 2u32..12,
        ) {
            let counts = &raw[..rows * columns];
            if let Ok(shown) = suppress(&[rows, columns], counts, k) {
                for (cell, s) in shown.iter().enumerate() {
                    match s {
                        Some(n) => prop_assert!(*n == counts[cell] && (*n == 0 || *n >= u64::from(k))),
                        None => prop_assert!(another_table([rows, columns], &shown, counts, cell)),
                    }
                }
                if counts.iter().all(|n| *n == 0 || *n >= u64::from(k)) {
                    prop_assert!(shown.iter().all(Option::is_some));
                }
            }
        }
    }
}
