//! An aggregator that gives its half away, swaps a share, or sums fewer than all: what others then hold.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::RoundError;
use crate::envelope::{Binding, Kind};
use crate::groups::{ELEMENT, Groups, NONCE};
use crate::opening::commitment;
use crate::tests::{Desk, all_mail, context, honest, names, run, vector};
use prio::codec::{Decode, Encode};
use prio::field::Field128;
use prio::flp::gadgets::{Mul, ParallelSum};
use prio::flp::types::SumVec;
use prio::flp::{Flp, Type};
use prio::vdaf::prio3::optimal_chunk_length;
use record::Digest;

/// What an opening holds: the half, its salt, the commitments of both.
struct Leak {
    half: Vec<Field128>,
    salt: [u8; 32],
    commitments: Vec<Digest>,
}

fn elements(bytes: &[u8]) -> Vec<Field128> {
    bytes.chunks_exact(ELEMENT).map(|b| Field128::get_decoded(b).unwrap()).collect()
}

/// What `from` opens to `to`, read with `to`'s key: what it tells a party that it should not tell.
fn leaked(desk: &Desk, from: &str, to: &str, bytes: &[u8]) -> Leak {
    let binding = Binding::new(&desk.ctx).unwrap();
    let share = Groups::new(&desk.ctx.layout, 2, &binding).unwrap().aggregate_bytes();
    let plain = binding.open(Kind::Opening, from, to, &desk.secret(to), bytes, share + 96).unwrap();
    let digest = |at: usize| Digest::from_bytes(plain[at..at + 32].try_into().unwrap());
    Leak {
        half: elements(&plain[..share]),
        salt: plain[share..share + 32].try_into().unwrap(),
        commitments: vec![digest(share + 32), digest(share + 64)],
    }
}

fn bytes(half: &[Field128]) -> Vec<u8> {
    half.iter().flat_map(|e| e.get_encoded().unwrap()).collect()
}

/// Cells in the order in which halves hold them: by rising width.
fn order(desk: &Desk) -> Vec<usize> {
    let binding = Binding::new(&desk.ctx).unwrap();
    Groups::new(&desk.ctx.layout, 2, &binding).unwrap().0.iter().flat_map(|g| g.cells.clone()).collect()
}

/// Puts two halves together under fitting commitments and gives the sum that a reader would take for true.
fn put_together(desk: &Desk, ch: &[Field128], se: &[Field128]) -> Result<Vec<u128>, RoundError> {
    let binding = Binding::new(&desk.ctx).unwrap();
    let salts = [[1; 32], [2; 32]];
    let fitting: Vec<Digest> = [("ch", &salts[0], ch), ("se", &salts[1], se)]
        .map(|(a, salt, half)| commitment(&binding.context, a, salt, &bytes(half)))
        .into();
    let mut machine = desk.opening("no");
    for (from, salt, half) in [("ch", salts[0], ch), ("se", salts[1], se)] {
        let mut plain = [bytes(half).as_slice(), &salt].concat();
        fitting.iter().for_each(|d| plain.extend(d.as_bytes()));
        machine.on_message(from, &desk.forge(Kind::Opening, from, "no", &plain))?;
    }
    Ok(machine.sum().unwrap().to_vec())
}

#[test]
fn one_half_of_a_sum_fits_every_other_sum_as_well() {
    let desk = Desk::new(context(false));
    let (_, openings) = honest(&desk);
    let ch = leaked(&desk, "ch", "no", &openings[0].1.bytes);
    let se = leaked(&desk, "se", "no", &openings[1].1.bytes);
    let truth = put_together(&desk, &ch.half, &se.half).unwrap();
    // Whoever has `ch`'s half alone can complete it to any sum that there could be: it excludes none.
    let order = order(&desk);
    let others =
        [vec![0, 0, 0, 0], vec![1, 2, 3, 4], vec![4 * 8191, 0, 17, u128::from(u64::MAX)], truth.clone()];
    for other in others {
        let rest: Vec<Field128> =
            order.iter().zip(&ch.half).map(|(cell, h)| Field128::from(other[*cell]) - *h).collect();
        assert_eq!(put_together(&desk, &ch.half, &rest).unwrap(), other);
        assert_eq!(rest == se.half, other == truth);
    }
}

#[test]
fn one_half_with_the_others_commitment_confirms_no_guess_of_the_sum() {
    let desk = Desk::new(context(false));
    let (_, openings) = honest(&desk);
    let binding = Binding::new(&desk.ctx).unwrap();
    let ch = leaked(&desk, "ch", "no", &openings[0].1.bytes);
    let order = order(&desk);
    // `ch` gives away its half, its salt and `se`'s commitment to a party that knows all but one count of the sum.
    let truth = {
        let se = leaked(&desk, "se", "no", &openings[1].1.bytes);
        put_together(&desk, &ch.half, &se.half).unwrap()
    };
    let confirmed = |salt: &[u8; 32]| -> Vec<u128> {
        (0..8192)
            .filter(|guess| {
                let mut sum = truth.clone();
                sum[0] = *guess;
                let rest: Vec<Field128> =
                    order.iter().zip(&ch.half).map(|(c, h)| Field128::from(sum[*c]) - *h).collect();
                commitment(&binding.context, "se", salt, &bytes(&rest)) == ch.commitments[1]
            })
            .collect()
    };
    for salt in [[0; 32], ch.salt, *ch.commitments[0].as_bytes(), *ch.commitments[1].as_bytes()] {
        assert_eq!(confirmed(&salt), Vec::<u128>::new());
    }
    // With `se`'s salt, which only readers of both openings get, the same search finds the count at once.
    let salt = leaked(&desk, "se", "no", &openings[1].1.bytes).salt;
    assert_eq!(confirmed(&salt), [truth[0]]);
}

/// The first aggregator's share of one site's contribution, summed to cells.
fn share_of(desk: &Desk, site: &str, sealed: &[u8]) -> Vec<Field128> {
    let binding = Binding::new(&desk.ctx).unwrap();
    let groups = Groups::new(&desk.ctx.layout, 2, &binding).unwrap();
    let secret = desk.secret("ch");
    let plain = binding.open(Kind::Share, site, "ch", &secret, sealed, groups.share_bytes(0)).unwrap();
    let (mut at, mut out) = (0, Vec::new());
    for group in &groups.0 {
        let bits = desk.ctx.layout.cells[group.cells[0]].bits;
        let chunk = optimal_chunk_length(usize::from(bits) * group.cells.len());
        let flp =
            SumVec::<Field128, ParallelSum<Field128, Mul>>::new((1 << bits) - 1, group.cells.len(), chunk);
        let flp = flp.unwrap();
        let from = at + NONCE + group.public_bytes;
        out.extend(flp.truncate(elements(&plain[from..from + flp.input_len() * ELEMENT])).unwrap());
        at = from + group.input_bytes(0);
    }
    out
}

#[test]
fn an_aggregator_that_sums_fewer_than_all_opens_nothing_and_learns_nobodys_term() {
    let desk = Desk::new(context(false));
    let mut machines = desk.aggregators();
    let mail = all_mail(&desk, &machines);
    let to_ch: Vec<_> = mail.iter().filter(|(_, to, _, share)| *share && to == "ch").cloned().collect();
    run(&mut machines, mail, &mut |_| 0).unwrap();
    let readers = desk.keys(&desk.ctx.readers());
    let open = |m: &mut crate::Aggregator| m.open(&readers).unwrap().remove(0).bytes;
    let ch = leaked(&desk, "ch", "no", &open(machines.get_mut("ch").unwrap()));
    let se = leaked(&desk, "se", "no", &open(machines.get_mut("se").unwrap()));
    // What it holds of each site adds up to its half: the control.
    let mut all = vec![Field128::from(0); ch.half.len()];
    for (from, _, bytes, _) in &to_ch {
        all.iter_mut().zip(share_of(&desk, from, bytes)).for_each(|(a, s)| *a += s);
    }
    assert_eq!(all, ch.half);
    assert!(put_together(&desk, &ch.half, &se.half).is_ok());
    // `ch` and the collector together: all of `se`, all but one site of `ch`, for every site. Nothing is in range.
    for (from, _, bytes, _) in &to_ch {
        let own = share_of(&desk, from, bytes);
        let fewer: Vec<Field128> = ch.half.iter().zip(own).map(|(h, s)| *h - s).collect();
        let refused = put_together(&desk, &fewer, &se.half);
        assert!(matches!(refused, Err(RoundError::Layout(_))), "without {from}: {refused:?}");
    }
}

#[test]
fn what_one_aggregator_holds_of_a_site_is_spread_alike_whatever_the_site_said() {
    let desk = Desk::new(context(false));
    for site in [0, 3] {
        let mut bins = [0u32; 16];
        for _ in 0..400 {
            let shares = desk.share("it", &vector(site));
            for element in share_of(&desk, "it", shares[0].bytes()) {
                bins[usize::from(element.get_encoded().unwrap()[ELEMENT - 1] >> 4)] += 1;
            }
        }
        // Chi-square of 15 degrees of freedom: beyond 80 once in more than ten thousand million times.
        let expected = 400.0 * 4.0 / 16.0;
        let chi: f64 = bins.iter().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum();
        assert!(chi < 80.0, "{chi}: {bins:?}");
    }
}

#[test]
fn an_aggregator_that_swaps_a_share_opens_nothing_and_the_site_is_named_for_it() {
    // What the aggregators cannot tell apart: a site that sent shares which do not fit, and an aggregator that
    // checked another share than it was sent. Nothing opens; the name in the evidence is the site's.
    let desk = Desk::new(context(false));
    let mut machines = desk.aggregators();
    let mut mail = all_mail(&desk, &machines);
    let zeros = desk.share("pl", &[0.0; 4]);
    for (from, to, bytes, share) in &mut mail {
        if *share && from == "pl" && to == "ch" {
            *bytes = zeros[0].bytes().to_vec();
        }
    }
    assert_eq!(run(&mut machines, mail, &mut |_| 0), Err(RoundError::Proof { contributor: "pl".into() }));
    for machine in machines.values_mut() {
        assert!(machine.open(&desk.keys(&names("no"))).is_err());
    }
}
