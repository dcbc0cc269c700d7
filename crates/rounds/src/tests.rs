//! Claims about rounds, with lying contributors, aggregators and relays as actors.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::contribute::Sealed;
use crate::envelope::{Binding, Kind};
use crate::groups::{Groups, NONCE};
use crate::{Aggregator, KemPublic, KemSecret, Message, Opening, RoundContext, RoundError, contribute};
use prio::codec::Encode;
use prio::field::Field128;
use prio::flp::gadgets::{Mul, ParallelSum};
use prio::flp::types::SumVec;
use prio::flp::{Flp, FlpError, Gadget, Type};
use prio::vdaf::Client;
use prio::vdaf::prio3::{Prio3, optimal_chunk_length};
use prio::vdaf::xof::XofTurboShake128;
use privacy::{Contribution, LocalRules};
use proptest::prelude::*;
use record::Digest;
use std::collections::BTreeMap;
use study::{Cell, Layout};

pub(crate) fn names(list: &str) -> Vec<String> {
    list.split_whitespace().map(str::to_owned).collect()
}

/// Two widths, a lower bound below zero, fractions.
fn layout() -> Layout {
    let cells = vec![
        Cell::count("patients", 8191),
        Cell::spanning("score", -100, 100, 8),
        Cell::count("events", 8191),
        Cell { name: "wide".into(), lo: 0, shift: 0, bits: 64 },
    ];
    Layout { cells }
}

fn context(replayed: bool) -> RoundContext {
    RoundContext {
        federation: Digest::of(b"charter"),
        study: "aspirin".into(),
        run: 1,
        stage: 2,
        round: 3,
        contributors: names("ar ch it pl"),
        aggregators: names("ch se"),
        collector: "no".into(),
        replayed,
        plan: Digest::of(b"plan"),
        question: Digest::of(b"question"),
        layout: layout(),
    }
}

fn vector(site: usize) -> Vec<f64> {
    let i = site as f64;
    vec![10.0 * i, -3.5 + i, i, 1e18]
}

fn contribution(ctx: &RoundContext, values: &[f64]) -> Contribution {
    let rules = LocalRules { rows_read: 1, max_rows: 8192, ..LocalRules::default() };
    Contribution::check(&ctx.layout, values, ctx.plan, &rules).unwrap()
}

/// All parties of a round on one desk.
struct Desk {
    ctx: RoundContext,
    secrets: BTreeMap<String, KemSecret>,
}

impl Desk {
    fn new(ctx: RoundContext) -> Desk {
        let parties = ctx.contributors.iter().chain(&ctx.aggregators).chain([&ctx.collector]);
        let secrets = parties.map(|p| (p.clone(), KemSecret::generate())).collect();
        Desk { ctx, secrets }
    }

    fn secret(&self, party: &str) -> KemSecret {
        self.secrets[party].clone()
    }

    fn keys(&self, parties: &[String]) -> Vec<(String, KemPublic)> {
        parties.iter().map(|p| (p.clone(), self.secrets[p].public())).collect()
    }

    fn aggregator(&self, me: &str) -> Aggregator {
        let others: Vec<String> = self.ctx.aggregators.iter().filter(|a| *a != me).cloned().collect();
        Aggregator::new(self.ctx.clone(), me, self.secret(me), &self.keys(&others)).unwrap()
    }

    fn aggregators(&self) -> BTreeMap<String, Aggregator> {
        self.ctx.aggregators.iter().map(|a| (a.clone(), self.aggregator(a))).collect()
    }

    fn share(&self, me: &str, values: &[f64]) -> Vec<Sealed> {
        contribute(&self.ctx, me, contribution(&self.ctx, values), &self.keys(&self.ctx.aggregators)).unwrap()
    }

    fn opening(&self, me: &str) -> Opening {
        Opening::new(self.ctx.clone(), me, self.secret(me)).unwrap()
    }

    /// Seals bytes of a lying party's choice.
    fn forge(&self, kind: Kind, from: &str, to: &str, plain: &[u8]) -> Vec<u8> {
        let binding = Binding::new(&self.ctx).unwrap();
        binding.seal(kind, from, to, &self.secrets[to].public(), plain).unwrap()
    }
}

/// Delivers everything in the order given by `pick` until nothing is under way.
fn run(
    machines: &mut BTreeMap<String, Aggregator>,
    mut mail: Vec<(String, String, Vec<u8>, bool)>,
    pick: &mut dyn FnMut(usize) -> usize,
) -> Result<(), RoundError> {
    while !mail.is_empty() {
        let (from, to, bytes, share) = mail.swap_remove(pick(mail.len()));
        let machine = machines.get_mut(&to).unwrap();
        let out = if share { machine.on_contribution(&from, &bytes) } else { machine.on_message(&from, &bytes) }?;
        mail.extend(out.into_iter().map(|m| (to.clone(), m.to, m.bytes, false)));
    }
    Ok(())
}

fn all_mail(desk: &Desk, machines: &BTreeMap<String, Aggregator>) -> Vec<(String, String, Vec<u8>, bool)> {
    let mut mail = Vec::new();
    for (name, machine) in machines {
        mail.extend(machine.begin().unwrap().into_iter().map(|m| (name.clone(), m.to, m.bytes, false)));
    }
    for (i, site) in desk.ctx.contributors.iter().enumerate() {
        for sealed in desk.share(site, &vector(i)) {
            let (to, bytes) = sealed.into_parts();
            mail.push((site.clone(), to, bytes, true));
        }
    }
    mail
}

/// Runs a round of honest parties up to the openings.
fn honest(desk: &Desk) -> (BTreeMap<String, Aggregator>, Vec<(String, Message)>) {
    let mut machines = desk.aggregators();
    let mail = all_mail(desk, &machines);
    run(&mut machines, mail, &mut |_| 0).unwrap();
    let readers = desk.keys(&desk.ctx.readers());
    let mut openings = Vec::new();
    for (name, machine) in &mut machines {
        assert!(machine.ready_to_open().is_some());
        openings.extend(machine.open(&readers).unwrap().into_iter().map(|m| (name.clone(), m)));
    }
    (machines, openings)
}

fn expected() -> Vec<f64> {
    // Sites 0 to 3: 0+10+20+30; 4 * -3.5 + 6; 6; 4e18.
    vec![60.0, -8.0, 6.0, 4e18]
}

#[test]
fn every_reader_reads_the_sum_and_nobody_else_is_a_reader() {
    for replayed in [false, true] {
        let desk = Desk::new(context(replayed));
        let (_, openings) = honest(&desk);
        let readers = if replayed { names("ar ch it no pl") } else { names("no") };
        assert_eq!(openings.len(), 2 * readers.len());
        for reader in &readers {
            let mut machine = desk.opening(reader);
            for (from, message) in openings.iter().filter(|(_, m)| m.to == *reader) {
                assert!(machine.sum().is_none());
                machine.on_message(from, &message.bytes).unwrap();
                machine.on_message(from, &message.bytes).unwrap(); // a repeat changes nothing
            }
            let values = privacy::decode(&desk.ctx.layout, machine.sum().unwrap(), 4).unwrap();
            assert_eq!(values, expected());
        }
        for other in names(if replayed { "se" } else { "se ch it" }) {
            let refused = Opening::new(desk.ctx.clone(), &other, desk.secret(&other)).err().unwrap();
            assert_eq!(refused, RoundError::Party { party: other, expected: "a reader of the sum" });
        }
    }
}

#[test]
fn three_aggregators_agree_too() {
    let desk = Desk::new(RoundContext { aggregators: names("ch se gb"), ..context(false) });
    let (_, openings) = honest(&desk);
    let mut machine = desk.opening("no");
    for (from, message) in &openings {
        machine.on_message(from, &message.bytes).unwrap();
    }
    assert_eq!(privacy::decode(&desk.ctx.layout, machine.sum().unwrap(), 4).unwrap(), expected());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn order_and_repetition_of_delivery_do_not_matter(seed in any::<u64>()) {
        let desk = Desk::new(context(false));
        let mut machines = desk.aggregators();
        let mut mail = all_mail(&desk, &machines);
        mail.extend(mail.clone());
        let mut state = seed;
        let mut pick = |n: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % n
        };
        run(&mut machines, mail, &mut pick).unwrap();
        for machine in machines.values() {
            prop_assert!(machine.ready_to_open().is_some());
            prop_assert!(machine.missing().is_empty());
        }
    }
}

#[test]
fn an_aggregator_opens_once() {
    let desk = Desk::new(context(true));
    let (mut machines, _) = honest(&desk);
    let readers = desk.keys(&desk.ctx.readers());
    for machine in machines.values_mut() {
        assert_eq!(machine.open(&readers), Err(RoundError::Opened));
        assert_eq!(machine.ready_to_open(), None);
    }
}

#[test]
fn a_round_opens_to_its_readers_and_to_nobody_else() {
    let desk = Desk::new(context(false));
    let mut machines = desk.aggregators();
    let mail = all_mail(&desk, &machines);
    run(&mut machines, mail, &mut |_| 0).unwrap();
    let machine = machines.get_mut("ch").unwrap();
    for wrong in ["no it", "it", "no no", ""] {
        let refused = machine.open(&desk.keys(&names(wrong)));
        assert!(matches!(refused, Err(RoundError::Party { .. })), "{wrong}");
    }
    // Asking wrongly spends nothing.
    assert_eq!(machine.open(&desk.keys(&names("no"))).unwrap().len(), 1);
}

#[test]
fn nothing_opens_before_everybody_contributed_and_every_aggregator_committed() {
    let desk = Desk::new(context(false));
    let mut machines = desk.aggregators();
    let mut mail = all_mail(&desk, &machines);
    mail.retain(|(from, _, _, share)| !(*share && from == "pl"));
    run(&mut machines, mail, &mut |_| 0).unwrap();
    let machine = machines.get_mut("se").unwrap();
    assert_eq!(machine.missing(), ["pl"]);
    assert_eq!(machine.ready_to_open(), None);
    let refused = machine.open(&desk.keys(&names("no")));
    assert_eq!(refused, Err(RoundError::NotReady { waiting_for: "shares of pl".into() }));

    // All but the other's commitment.
    let mut machines = desk.aggregators();
    let mail = all_mail(&desk, &machines);
    let (mut ch, mut se) = (machines.remove("ch").unwrap(), machines.remove("se").unwrap());
    let mut to_se = Vec::new();
    for (from, to, bytes, share) in mail {
        let machine = if to == "ch" { &mut ch } else { &mut se };
        let out = if share { machine.on_contribution(&from, &bytes) } else { machine.on_message(&from, &bytes) };
        to_se.extend(out.unwrap().into_iter().map(|m| (to.clone(), m)));
    }
    let commitment = to_se.into_iter().fold(Vec::new(), |mut late, (from, m)| {
        let machine = if from == "ch" { &mut se } else { &mut ch };
        late.extend(machine.on_message(&from, &m.bytes).unwrap());
        late
    });
    assert_eq!(commitment.len(), 2);
    let refused = ch.open(&desk.keys(&names("no")));
    assert_eq!(refused, Err(RoundError::NotReady { waiting_for: "the commitment of `se`".into() }));
    for m in &commitment {
        let (from, machine) = if m.to == "ch" { ("se", &mut ch) } else { ("ch", &mut se) };
        machine.on_message(from, &m.bytes).unwrap();
    }
    assert!(ch.open(&desk.keys(&names("no"))).is_ok());
}

#[test]
fn a_second_different_contribution_is_refused_and_named() {
    let desk = Desk::new(context(false));
    let mut machine = desk.aggregator("ch");
    let (first, second) = (desk.share("it", &vector(1)), desk.share("it", &vector(2)));
    assert!(machine.on_contribution("it", first[0].bytes()).is_ok());
    assert!(machine.on_contribution("it", first[0].bytes()).unwrap().is_empty());
    let conflict = RoundError::Conflict { from: "it".into(), kind: Kind::Share };
    assert_eq!(machine.on_contribution("it", second[0].bytes()), Err(conflict));
}

#[test]
fn sharing_twice_draws_fresh_randomness() {
    let desk = Desk::new(context(false));
    let open = |sealed: &Sealed| {
        let binding = Binding::new(&desk.ctx).unwrap();
        let groups = Groups::new(&desk.ctx.layout, 2, &binding).unwrap();
        let length = groups.share_bytes(1);
        binding.open(Kind::Share, "it", "se", &desk.secret("se"), sealed.bytes(), length).unwrap()
    };
    let (a, b) = (open(&desk.share("it", &vector(1))[1]), open(&desk.share("it", &vector(1))[1]));
    assert_ne!(a[..NONCE], b[..NONCE]);
    assert_ne!(a, b);
}

#[test]
fn altered_misdirected_forged_and_foreign_shares_are_refused_and_named() {
    let desk = Desk::new(context(false));
    let mut machine = desk.aggregator("ch");
    let shares = desk.share("it", &vector(1));
    let bytes = shares[0].bytes();
    let unopenable = |from: &str| Err(RoundError::Unopenable { from: from.into(), kind: Kind::Share });

    // Altered anywhere: header, key, ciphertext, tag.
    for at in [0, 7, 8, 9, 40, 41, 500, 1161, 2000, bytes.len() - 1] {
        let mut altered = bytes.to_vec();
        altered[at] ^= 1;
        assert!(machine.on_contribution("it", &altered).is_err(), "{at}");
    }
    for length in [0, 8, 9, 41, 1000, bytes.len() - 1] {
        assert!(machine.on_contribution("it", &bytes[..length]).is_err(), "{length}");
    }
    let longer = [bytes, b"!".as_slice()].concat();
    assert!(matches!(machine.on_contribution("it", &longer), Err(RoundError::Length { .. })));

    // Under another contributor's name, and the other aggregator's share.
    assert_eq!(machine.on_contribution("pl", bytes), unopenable("pl"));
    assert!(machine.on_contribution("it", shares[1].bytes()).is_err());
    let others = desk.aggregator("se").on_contribution("it", bytes);
    assert!(matches!(others, Err(RoundError::Length { .. })), "{others:?}");

    // From somebody who does not contribute.
    let outsider = machine.on_contribution("gb", bytes);
    assert_eq!(outsider, Err(RoundError::Party { party: "gb".into(), expected: "a contributor" }));

    // None of it stood in the way of the genuine share.
    assert!(machine.on_contribution("it", bytes).is_ok());
}

#[test]
fn a_share_for_another_round_is_refused() {
    let desk = Desk::new(context(false));
    let bytes = desk.share("it", &vector(1))[0].bytes().to_vec();
    let of = |ctx: RoundContext| {
        let other = Desk { ctx, secrets: desk.secrets.clone() };
        other.aggregator("ch").on_contribution("it", &bytes).unwrap_err()
    };
    // Repeated in another run or round: named from the header.
    for ctx in [
        RoundContext { run: 2, ..context(false) },
        RoundContext { round: 4, ..context(false) },
        RoundContext { stage: 1, ..context(false) },
        RoundContext { study: "near-miss".into(), ..context(false) },
        RoundContext { federation: Digest::of(b"other"), ..context(false) },
    ] {
        assert_eq!(of(ctx), RoundError::OtherRound { from: "it".into(), kind: Kind::Share });
    }
    // Same slot, other terms: A2 (fewer contributors) and A1 (another question) among them.
    for ctx in [
        RoundContext { contributors: names("ar it pl"), ..context(false) },
        RoundContext { question: Digest::of(b"chosen"), ..context(false) },
        RoundContext { plan: Digest::of(b"other"), ..context(false) },
        RoundContext { collector: "gb".into(), ..context(false) },
        context(true),
    ] {
        let desk_ctx = ctx.clone();
        assert_eq!(of(ctx), RoundError::Unopenable { from: "it".into(), kind: Kind::Share }, "{desk_ctx:?}");
    }
    // Another layout of the same shape, and of another shape.
    let mut same_shape = context(false);
    same_shape.layout.cells[0].name = "deaths".into();
    assert_eq!(of(same_shape), RoundError::Unopenable { from: "it".into(), kind: Kind::Share });
    let mut wider = context(false);
    wider.layout.cells.push(Cell::count("more", 8191));
    assert!(matches!(of(wider), RoundError::Length { .. }));
}

#[test]
fn a_contribution_to_another_plan_or_layout_is_not_sealed() {
    let desk = Desk::new(context(false));
    let keys = desk.keys(&desk.ctx.aggregators);
    let other_plan = RoundContext { plan: Digest::of(b"other"), ..context(false) };
    let made = contribution(&desk.ctx, &vector(1));
    assert_eq!(contribute(&other_plan, "it", made, &keys).err(), Some(RoundError::Contribution { what: "plan" }));
    let mut other_layout = context(false);
    other_layout.layout.cells[1].shift = 9;
    let made = contribution(&desk.ctx, &vector(1));
    assert_eq!(contribute(&other_layout, "it", made, &keys).err(), Some(RoundError::Contribution { what: "layout" }));
    let made = contribution(&desk.ctx, &vector(1));
    assert!(matches!(contribute(&desk.ctx, "gb", made, &keys), Err(RoundError::Party { .. })));
    let made = contribution(&desk.ctx, &vector(1));
    assert!(matches!(contribute(&desk.ctx, "it", made, &keys[..1]), Err(RoundError::Party { .. })));
}

#[test]
fn rounds_that_hide_nothing_are_no_rounds() {
    let refused = |ctx: RoundContext| ctx.check().expect_err("refused");
    refused(RoundContext { contributors: names("it pl"), ..context(false) });
    refused(RoundContext { contributors: names("it ar pl"), ..context(false) });
    refused(RoundContext { contributors: names("ar ar it"), ..context(false) });
    refused(RoundContext { aggregators: names("ch"), ..context(false) });
    refused(RoundContext { aggregators: names("ch ch"), ..context(false) });
    refused(RoundContext { collector: "ch".into(), ..context(false) });
    refused(RoundContext { collector: "No".into(), ..context(false) });
    refused(RoundContext { layout: Layout::default(), ..context(false) });
}

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
        let lost = machines.values_mut().filter_map(|m| m.open(&desk.keys(&names("no"))).err()).collect::<Vec<_>>();
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

#[test]
fn a_copied_share_under_another_name_is_refused() {
    // A contributor that learns another's plaintext shares (as an aggregator would) and sends them as its own.
    let desk = Desk::new(context(false));
    let binding = Binding::new(&desk.ctx).unwrap();
    let length = Groups::new(&desk.ctx.layout, 2, &binding).unwrap().share_bytes(0);
    let mut machine = desk.aggregator("ch");
    let shares = desk.share("it", &vector(1));
    let plain = binding.open(Kind::Share, "it", "ch", &desk.secret("ch"), shares[0].bytes(), length).unwrap();
    machine.on_contribution("it", shares[0].bytes()).unwrap();
    let copy = desk.forge(Kind::Share, "pl", "ch", &plain);
    assert_eq!(machine.on_contribution("pl", &copy), Err(RoundError::Nonce { from: "pl".into() }));
}

#[test]
fn sealed_garbage_is_refused_and_does_not_bring_a_machine_down() {
    let desk = Desk::new(context(false));
    let binding = Binding::new(&desk.ctx).unwrap();
    let groups = Groups::new(&desk.ctx.layout, 2, &binding).unwrap();
    let (mut ch, mut se) = (desk.aggregator("ch"), desk.aggregator("se"));
    // Elements beyond the modulus.
    let garbage = desk.forge(Kind::Share, "it", "ch", &vec![0xff; groups.share_bytes(0)]);
    let malformed = RoundError::Malformed { from: "it".into(), kind: Kind::Share };
    assert_eq!(ch.on_contribution("it", &garbage), Err(malformed));
    // A lying aggregator's verifier message: the round is lost, named, and opens nothing.
    let mut out = Vec::new();
    for (i, site) in desk.ctx.contributors.iter().enumerate() {
        out.extend(ch.on_contribution(site, desk.share(site, &vector(i))[0].bytes()).unwrap());
    }
    out.extend(ch.on_message("se", &se.begin().unwrap()[0].bytes).unwrap());
    assert_eq!(out.len(), 1);
    let length = groups.verifier_bytes() * 4;
    let verifier = desk.forge(Kind::Verifier, "se", "ch", &vec![0xff; length]);
    let malformed = RoundError::Malformed { from: "se".into(), kind: Kind::Verifier };
    assert_eq!(ch.on_message("se", &verifier), Err(malformed));
    assert_eq!(ch.open(&desk.keys(&names("no"))), Err(RoundError::Lost));
    // Kinds and parties in the wrong place.
    let opening = desk.forge(Kind::Opening, "ch", "se", &[0; 32]);
    assert!(matches!(se.on_message("ch", &opening), Err(RoundError::Kind { found: Kind::Opening, .. })));
    let part = desk.forge(Kind::KeyPart, "it", "se", &[0; 32]);
    assert!(matches!(se.on_message("it", &part), Err(RoundError::Party { .. })));
    assert!(matches!(se.on_contribution("it", &part), Err(RoundError::Kind { .. })));
    assert!(matches!(se.on_message("ch", b"hello"), Err(RoundError::Format { .. })));
}

#[test]
fn a_relay_cannot_contribute_for_others() {
    // A9: zeros "from" everyone, sealed to the right keys for the right round, but under the relay's own name:
    // names are bound into the seal and frames are signed, so the caller's `from` is the relay's.
    let desk = Desk::new(context(false));
    let zeros = desk.share("it", &[0.0, 0.0, 0.0, 0.0]);
    let mut machine = desk.aggregator("ch");
    assert!(matches!(machine.on_contribution("hub", zeros[0].bytes()), Err(RoundError::Party { .. })));
    assert!(machine.on_contribution("ar", zeros[0].bytes()).is_err());
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

#[test]
fn one_aggregators_view_of_a_contribution_is_independent_of_its_values() {
    // Lengths follow from the layout; the helper's share is a seed drawn before the values are looked at.
    let desk = Desk::new(context(false));
    let egress = desk.ctx.egress().unwrap();
    for values in [vector(0), vector(3)] {
        let sealed = desk.share("it", &values);
        let sizes: Vec<(String, usize)> = sealed.iter().map(|s| (s.to().to_owned(), s.bytes().len())).collect();
        assert_eq!(sizes, egress);
    }
}

#[test]
fn the_mark_names_the_slot_whoever_contributes() {
    let desk = Desk::new(context(false));
    let (_, _) = honest(&desk);
    let fewer = RoundContext { contributors: names("ar it pl"), ..context(false) };
    assert_eq!(desk.ctx.slot().unwrap(), fewer.slot().unwrap());
    assert_ne!(desk.ctx.digest().unwrap(), fewer.digest().unwrap());
    let next = RoundContext { round: 4, ..context(false) };
    assert_ne!(desk.ctx.slot().unwrap(), next.slot().unwrap());
}

#[test]
fn keys_survive_their_text_form_and_nothing_else_is_a_key() {
    let secret = KemSecret::generate();
    let public = secret.public();
    let json = record::canon::to_bytes(&public).unwrap();
    let again: KemPublic = record::canon::from_bytes(&json).unwrap();
    assert_eq!(again, public);
    assert!(KemSecret::from_bytes(&secret.expose()).unwrap().public() == public);
    assert!(KemSecret::from_bytes(&[0; 31]).is_err());
    assert!(KemPublic::from_bytes(&[0; 1215]).is_err());
    assert!(KemPublic::from_bytes(&[0xff; 1216]).is_err());
    let upper = record::canon::to_bytes(&public.to_string().to_uppercase()).unwrap();
    assert!(record::canon::from_bytes::<KemPublic>(&upper).is_err());
    let debug = format!("{public:?}");
    assert!(debug.len() < 64, "{debug}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..3000), code in 0u8..8) {
        let desk = Desk::new(context(false));
        let mut machine = desk.aggregator("ch");
        let mut opening = desk.opening("no");
        for framed in [false, true] {
            if framed {
                let mut head = desk.forge(Kind::KeyPart, "se", "ch", &[0; 32])[..41].to_vec();
                head[8] = code;
                head.append(&mut bytes);
                bytes = head;
            }
            prop_assert!(machine.on_contribution("it", &bytes).is_err());
            prop_assert!(machine.on_message("se", &bytes).is_err());
            prop_assert!(opening.on_message("se", &bytes).is_err());
        }
    }
}
