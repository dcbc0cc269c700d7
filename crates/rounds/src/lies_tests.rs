//! Contributors and aggregators who lie with valid envelopes: only proofs and commitments stand against them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::envelope::{Binding, Kind};
use crate::groups::{Groups, NONCE};
use crate::tests::{Desk, all_mail, context, honest, names, run, vector};
use crate::{Aggregator, Message, RoundError};
use prio::codec::Encode;
use prio::field::Field128;
use prio::flp::gadgets::{Mul, ParallelSum};
use prio::flp::types::SumVec;
use prio::flp::{Flp, FlpError, Gadget, Type};
use prio::vdaf::Client;
use prio::vdaf::prio3::{Prio3, optimal_chunk_length};
use prio::vdaf::xof::XofTurboShake128;
use std::collections::BTreeMap;

/// A contributor who lies: a SumVec whose entries are what it says, with an otherwise honest proof.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lying {
    inner: SumVec<Field128, ParallelSum<Field128, Mul>>,
    first: u128,
}

impl Flp for Lying {
    type Field = Field128;
    fn gadget(&self) -> Vec<Box<dyn Gadget<Field128>>> {
        self.inner.gadget()
    }
    fn num_gadgets(&self) -> usize {
        self.inner.num_gadgets()
    }
    fn valid(
        &self,
        g: &mut Vec<Box<dyn Gadget<Field128>>>,
        input: &[Field128],
        joint: &[Field128],
        shares: usize,
    ) -> Result<Vec<Field128>, FlpError> {
        self.inner.valid(g, input, joint, shares)
    }
    fn input_len(&self) -> usize {
        self.inner.input_len()
    }
    fn proof_len(&self) -> usize {
        self.inner.proof_len()
    }
    fn verifier_len(&self) -> usize {
        self.inner.verifier_len()
    }
    fn joint_rand_len(&self) -> usize {
        self.inner.joint_rand_len()
    }
    fn eval_output_len(&self) -> usize {
        self.inner.eval_output_len()
    }
    fn prove_rand_len(&self) -> usize {
        self.inner.prove_rand_len()
    }
}

impl Type for Lying {
    type Measurement = Vec<u128>;
    type AggregateResult = Vec<u128>;
    fn encode_measurement(&self, measurement: &Vec<u128>) -> Result<Vec<Field128>, FlpError> {
        let mut bits = self.inner.encode_measurement(measurement)?;
        bits[0] = Field128::from(self.first); // the lowest bit of the first entry
        Ok(bits)
    }
    fn truncate(&self, input: Vec<Field128>) -> Result<Vec<Field128>, FlpError> {
        self.inner.truncate(input)
    }
    fn decode_result(&self, data: &[Field128], n: usize) -> Result<Vec<u128>, FlpError> {
        self.inner.decode_result(data, n)
    }
    fn output_len(&self) -> usize {
        self.inner.output_len()
    }
}

/// Shares of a vector whose first entry of each width is `first` instead of its lowest bit.
fn lie(desk: &Desk, me: &str, first: u128) -> Vec<(String, Vec<u8>)> {
    let binding = Binding::new(&desk.ctx).unwrap();
    let groups = Groups::new(&desk.ctx.layout, 2, &binding).unwrap();
    let mut plain = [Vec::new(), Vec::new()];
    for group in &groups.0 {
        let bits = desk.ctx.layout.cells[group.cells[0]].bits;
        let len = group.cells.len();
        let chunk = optimal_chunk_length(usize::from(bits) * len);
        let inner = SumVec::new((1u128 << bits) - 1, len, chunk).unwrap();
        let vdaf: Prio3<Lying, XofTurboShake128, 32> = Prio3::new(2, 1, 3, Lying { inner, first }).unwrap();
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).unwrap();
        let (public, inputs) = vdaf.shard(&group.ctx, &vec![0; len], &nonce).unwrap();
        for (plain, input) in plain.iter_mut().zip(inputs) {
            plain.extend_from_slice(&nonce);
            plain.extend_from_slice(&public.get_encoded().unwrap());
            plain.extend_from_slice(&input.get_encoded().unwrap());
        }
    }
    let to = |(i, plain): (usize, &Vec<u8>)| {
        let to = desk.ctx.aggregators[i].clone();
        let bytes = desk.forge(Kind::Share, me, &to, plain);
        (to, bytes)
    };
    plain.iter().enumerate().map(to).collect()
}

fn run_with_lie(first: u128) -> (Result<(), RoundError>, BTreeMap<String, Aggregator>, Desk) {
    let desk = Desk::new(context(false));
    let mut machines = desk.aggregators();
    let mut mail = all_mail(&desk, &machines);
    mail.retain(|(from, _, _, share)| !(*share && from == "pl"));
    mail.extend(lie(&desk, "pl", first).into_iter().map(|(to, bytes)| ("pl".to_owned(), to, bytes, true)));
    let result = run(&mut machines, mail, &mut |_| 0);
    (result, machines, desk)
}

#[test]
fn a_vector_out_of_bounds_is_caught_by_its_proof() {
    // The same path with a vector in bounds passes: what is caught is the bound.
    assert_eq!(run_with_lie(1).0, Ok(()));
    for first in [2, 1 << 20, u64::MAX as u128 * 3] {
        let (result, mut machines, desk) = run_with_lie(first);
        assert_eq!(result, Err(RoundError::Proof { contributor: "pl".into() }));
        // The aggregator that found it opens nothing, not even the others' sum.
        let lost =
            machines.values_mut().filter_map(|m| m.open(&desk.keys(&names("no"))).err()).collect::<Vec<_>>();
        assert_eq!(lost.len(), 2);
        assert!(lost.contains(&RoundError::Lost));
    }
}

#[test]
fn shares_that_do_not_fit_together_are_caught() {
    let desk = Desk::new(context(false));
    let mut machines = desk.aggregators();
    let mut mail = all_mail(&desk, &machines);
    // `pl` sends one aggregator the share of another vector.
    let second = desk.share("pl", &vector(7));
    for (from, to, bytes, share) in &mut mail {
        if *share && from == "pl" && to == "se" {
            *bytes = second[1].bytes().to_vec();
        }
    }
    let result = run(&mut machines, mail, &mut |_| 0);
    assert_eq!(result, Err(RoundError::Proof { contributor: "pl".into() }));
}

/// What an opening holds, taken apart so that a lying aggregator can change it.
fn reopen(desk: &Desk, from: &str, message: &Message, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let binding = Binding::new(&desk.ctx).unwrap();
    let groups = Groups::new(&desk.ctx.layout, 2, &binding).unwrap();
    let length = groups.aggregate_bytes() + 32 + 64;
    let secret = desk.secret(&message.to);
    let plain = binding.open(Kind::Opening, from, &message.to, &secret, &message.bytes, length).unwrap();
    let mut plain = plain.to_vec();
    change(&mut plain);
    desk.forge(Kind::Opening, from, &message.to, &plain)
}

#[test]
fn an_aggregator_that_opens_another_share_than_it_committed_to_is_named() {
    let desk = Desk::new(context(false));
    let (_, openings) = honest(&desk);
    let mut machine = desk.opening("no");
    let shifted = reopen(&desk, "ch", &openings[0].1, |plain| plain[0] ^= 1);
    assert_eq!(machine.on_message("ch", &shifted), Err(RoundError::Commitment { aggregator: "ch".into() }));
    assert_eq!(machine.on_message("se", &openings[1].1.bytes), Err(RoundError::Lost));
    assert!(machine.sum().is_none());
}

#[test]
fn an_aggregator_that_waits_for_the_others_share_cannot_change_its_own() {
    // `se` reads `ch`'s opening, picks a share that makes the sum what it likes, and a fitting commitment: but
    // `ch` tells of the commitment that `se` made before.
    let desk = Desk::new(context(false));
    let (_, openings) = honest(&desk);
    let binding = Binding::new(&desk.ctx).unwrap();
    let chosen = reopen(&desk, "se", &openings[1].1, |plain| {
        let share = plain.len() - 96;
        plain[0] ^= 1;
        let salt: [u8; 32] = plain[share..share + 32].try_into().unwrap();
        let commitment = crate::opening::commitment(&binding.context, "se", &salt, &plain[..share]);
        plain[share + 64..].copy_from_slice(commitment.as_bytes());
    });
    let mut machine = desk.opening("no");
    machine.on_message("ch", &openings[0].1.bytes).unwrap();
    assert_eq!(machine.on_message("se", &chosen), Err(RoundError::Disagreement { aggregator: "se".into() }));
    assert!(machine.sum().is_none());
}

#[test]
fn a_committed_share_that_is_no_sum_of_verified_shares_is_out_of_range() {
    // `se` commits to nonsense from the start: every commitment holds, the sum does not.
    let desk = Desk::new(context(false));
    let (_, openings) = honest(&desk);
    let binding = Binding::new(&desk.ctx).unwrap();
    let mut nonsense = None;
    let lying = reopen(&desk, "se", &openings[1].1, |plain| {
        let share = plain.len() - 96;
        plain[10] ^= 0x55;
        let salt: [u8; 32] = plain[share..share + 32].try_into().unwrap();
        let commitment = crate::opening::commitment(&binding.context, "se", &salt, &plain[..share]);
        plain[share + 64..].copy_from_slice(commitment.as_bytes());
        nonsense = Some(commitment);
    });
    let honest = reopen(&desk, "ch", &openings[0].1, |plain| {
        let at = plain.len() - 32;
        plain[at..].copy_from_slice(nonsense.unwrap().as_bytes());
    });
    let mut machine = desk.opening("no");
    machine.on_message("ch", &honest).unwrap();
    assert!(matches!(machine.on_message("se", &lying), Err(RoundError::Layout(_))));
    assert!(machine.sum().is_none());
}
