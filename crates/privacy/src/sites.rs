//! How many sites a sum really hides, and which sets of sites may be summed after one another (A2).

use std::collections::BTreeSet;

/// Contributing sites that stay hidden from a viewer: contributors that are neither collector, nor aggregator,
/// nor recipient, nor the viewer. Those are left out because they know more of their own terms or of the sum;
/// a contributor that replays the steps can subtract its own term, so from its side it does not count either.
pub fn hidden_sites(
    contributors: &[String],
    aggregators: &[String],
    collector: &str,
    recipients: &[String],
    viewer: Option<&str>,
) -> u32 {
    let hidden: BTreeSet<&String> = contributors
        .iter()
        .filter(|c| {
            c.as_str() != collector
                && !aggregators.contains(c)
                && !recipients.contains(c)
                && viewer != Some(c.as_str())
        })
        .collect();
    u32::try_from(hidden.len()).unwrap_or(u32::MAX)
}

/// The least of [`hidden_sites`] over all viewers: somebody outside, and each contributor.
pub fn hidden_sites_for_all(
    contributors: &[String],
    aggregators: &[String],
    collector: &str,
    recipients: &[String],
) -> u32 {
    let from = |viewer| hidden_sites(contributors, aggregators, collector, recipients, viewer);
    contributors.iter().map(|c| from(Some(c.as_str()))).fold(from(None), u32::min)
}

/// Whether a set of contributors may be summed after earlier ones over shared columns: no pair and no triple
/// of sums, each taken once with either sign, leaves the terms of fewer than `k` sites but some.
///
/// Equal sets leave nobody. A pair `{a,b,c,d}`, `{a,b,c}` leaves `d`. Of `{a..f}`, `{a,b,c}`, `{d,e}` each pair
/// differs by at least three sites, yet the first less the other two is the term of `f`; so triples count too.
/// Longer combinations are not looked for. Work: the square of the number of distinct earlier sets.
pub fn sets_compatible(earlier: &[BTreeSet<String>], now: &BTreeSet<String>, k: u32) -> bool {
    let earlier: BTreeSet<&BTreeSet<String>> = earlier.iter().filter(|set| *set != now).collect();
    let earlier: Vec<&BTreeSet<String>> = earlier.into_iter().collect();
    let pairs = earlier.iter().all(|e| enough(&[(now, 1), (e, -1)], k));
    let triples = earlier.iter().enumerate().all(|(i, a)| {
        earlier.iter().skip(i + 1).all(|b| {
            // All ways to weigh three sums with +1 and -1, up to one common sign.
            enough(&[(now, 1), (a, -1), (b, -1)], k)
                && enough(&[(now, -1), (a, 1), (b, -1)], k)
                && enough(&[(now, -1), (a, -1), (b, 1)], k)
        })
    });
    pairs && triples
}

/// Whether a weighted combination leaves nobody's term or at least `k` sites' terms.
fn enough(combination: &[(&BTreeSet<String>, i32)], k: u32) -> bool {
    let everyone: BTreeSet<&String> = combination.iter().flat_map(|(set, _)| set.iter()).collect();
    let left = everyone
        .into_iter()
        .filter(|site| {
            combination.iter().map(|(set, sign)| if set.contains(*site) { *sign } else { 0 }).sum::<i32>()
                != 0
        })
        .count();
    left == 0 || u32::try_from(left).unwrap_or(u32::MAX) >= k
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn list(names: &str) -> Vec<String> {
        names.split_whitespace().map(str::to_owned).collect()
    }

    fn set(names: &str) -> BTreeSet<String> {
        list(names).into_iter().collect()
    }

    #[test]
    fn collector_aggregators_recipients_and_the_viewer_hide_nobody() {
        let nine = list("gb it pl nl se no ch au ar");
        let hidden = |viewer| hidden_sites(&nine, &list("ch se"), "no", &list("gb"), viewer);
        assert_eq!(hidden(None), 5);
        assert_eq!(hidden(Some("it")), 4);
        assert_eq!(hidden(Some("no")), 5);
        assert_eq!(hidden_sites_for_all(&nine, &list("ch se"), "no", &list("gb")), 4);
    }

    #[test]
    fn three_members_with_one_collecting_hide_two_sites() {
        let three = list("a b c");
        assert_eq!(hidden_sites(&three, &[], "c", &[], None), 2);
        assert_eq!(hidden_sites_for_all(&three, &list("a b"), "c", &[]), 0);
    }

    #[test]
    fn naming_a_site_twice_does_not_hide_it_twice() {
        assert_eq!(hidden_sites(&list("a a a b"), &[], "z", &[], None), 2);
    }

    #[test]
    fn dropping_one_site_is_refused() {
        let all = set("a b c d e f");
        assert!(sets_compatible(&[], &all, 3));
        assert!(sets_compatible(std::slice::from_ref(&all), &all, 3));
        assert!(!sets_compatible(std::slice::from_ref(&all), &set("a b c d e"), 3));
        assert!(!sets_compatible(std::slice::from_ref(&all), &set("a b c d"), 3));
        assert!(sets_compatible(std::slice::from_ref(&all), &set("a b c"), 3));
        // Swapping one site for another leaves the difference of two.
        assert!(!sets_compatible(&[set("a b c d")], &set("a b c e"), 3));
    }

    #[test]
    fn a_triple_that_leaves_one_site_is_refused_although_every_pair_is_wide() {
        let (all, abc, de) = (set("a b c d e f"), set("a b c"), set("d e"));
        for (x, y) in [(&all, &abc), (&all, &de), (&abc, &de)] {
            assert!(sets_compatible(std::slice::from_ref(x), y, 3));
        }
        assert!(!sets_compatible(&[abc.clone(), de.clone()], &all, 3));
        assert!(!sets_compatible(&[all.clone(), de.clone()], &abc, 3));
        assert!(!sets_compatible(&[all, abc], &de, 3));
    }

    proptest! {
        #[test]
        fn order_and_repetition_of_the_past_do_not_matter(
            sets in proptest::collection::vec(proptest::collection::btree_set("[a-h]", 1..8), 1..5),
            now in proptest::collection::btree_set("[a-h]", 1..8), k in 1u32..5,
        ) {
            let verdict = sets_compatible(&sets, &now, k);
            let mut other: Vec<_> = sets.iter().rev().cloned().collect();
            other.extend(sets.iter().cloned());
            prop_assert_eq!(verdict, sets_compatible(&other, &now, k));
            // A stricter minimum never loosens.
            prop_assert!(verdict || !sets_compatible(&sets, &now, k + 1));
        }
    }
}
