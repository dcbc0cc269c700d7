//! Claims about rounds, with lying contributors, aggregators and relays as actors.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::contribute::Sealed;
use crate::envelope::{Binding, Kind};
use crate::groups::{Groups, NONCE};
use crate::{
    Aggregator, KemPublic, KemSecret, Message, Opening, RoundContext, RoundError, RoundSeed, contribute,
};
use privacy::{Contribution, LocalRules};
use proptest::prelude::*;
use record::Digest;
use std::collections::BTreeMap;
use study::{Cell, Layout};

pub(crate) fn names(list: &str) -> Vec<String> {
    list.split_whitespace().map(str::to_owned).collect()
}

/// Two widths, a lower bound below zero, fractions.
pub(crate) fn layout() -> Layout {
    let cells = vec![
        Cell::count("patients", 8191),
        Cell::spanning("score", -100, 100, 8),
        Cell::count("events", 8191),
        Cell { name: "wide".into(), lo: 0, shift: 0, bits: 64 },
    ];
    Layout { cells }
}

pub(crate) fn context(replayed: bool) -> RoundContext {
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

pub(crate) fn vector(site: usize) -> Vec<f64> {
    let i = site as f64;
    vec![10.0 * i, -3.5 + i, i, 1e18]
}

pub(crate) fn contribution(ctx: &RoundContext, values: &[f64]) -> Contribution {
    let rules = LocalRules { rows_read: 1, max_rows: 8192, ..LocalRules::default() };
    Contribution::check(&ctx.layout, values, ctx.plan, &rules).unwrap()
}

/// All parties of a round on one desk.
pub(crate) struct Desk {
    pub ctx: RoundContext,
    pub secrets: BTreeMap<String, KemSecret>,
}

impl Desk {
    pub fn new(ctx: RoundContext) -> Desk {
        let parties = ctx.contributors.iter().chain(&ctx.aggregators).chain([&ctx.collector]);
        let secrets = parties.map(|p| (p.clone(), KemSecret::generate())).collect();
        Desk { ctx, secrets }
    }

    pub fn secret(&self, party: &str) -> KemSecret {
        self.secrets[party].clone()
    }

    pub fn keys(&self, parties: &[String]) -> Vec<(String, KemPublic)> {
        parties.iter().map(|p| (p.clone(), self.secrets[p].public())).collect()
    }

    pub fn aggregator(&self, me: &str) -> Aggregator {
        self.aggregator_from(me, &RoundSeed::generate().unwrap())
    }

    pub fn aggregator_from(&self, me: &str, seed: &RoundSeed) -> Aggregator {
        let others: Vec<String> = self.ctx.aggregators.iter().filter(|a| *a != me).cloned().collect();
        Aggregator::new(self.ctx.clone(), me, self.secret(me), &self.keys(&others), seed).unwrap()
    }

    pub fn aggregators(&self) -> BTreeMap<String, Aggregator> {
        self.ctx.aggregators.iter().map(|a| (a.clone(), self.aggregator(a))).collect()
    }

    pub fn share(&self, me: &str, values: &[f64]) -> Vec<Sealed> {
        contribute(&self.ctx, me, contribution(&self.ctx, values), &self.keys(&self.ctx.aggregators)).unwrap()
    }

    pub fn opening(&self, me: &str) -> Opening {
        Opening::new(self.ctx.clone(), me, self.secret(me)).unwrap()
    }

    /// Seals bytes of a lying party's choice.
    pub fn forge(&self, kind: Kind, from: &str, to: &str, plain: &[u8]) -> Vec<u8> {
        let binding = Binding::new(&self.ctx).unwrap();
        binding.seal(kind, from, to, &self.secrets[to].public(), plain).unwrap()
    }
}

/// Delivers everything in the order given by `pick` until nothing is under way.
pub(crate) fn run(
    machines: &mut BTreeMap<String, Aggregator>,
    mut mail: Vec<(String, String, Vec<u8>, bool)>,
    pick: &mut dyn FnMut(usize) -> usize,
) -> Result<(), RoundError> {
    while !mail.is_empty() {
        let (from, to, bytes, share) = mail.swap_remove(pick(mail.len()));
        let machine = machines.get_mut(&to).unwrap();
        let out =
            if share { machine.on_contribution(&from, &bytes) } else { machine.on_message(&from, &bytes) }?;
        mail.extend(out.into_iter().map(|m| (to.clone(), m.to, m.bytes, false)));
    }
    Ok(())
}

pub(crate) fn all_mail(
    desk: &Desk,
    machines: &BTreeMap<String, Aggregator>,
) -> Vec<(String, String, Vec<u8>, bool)> {
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
pub(crate) fn honest(desk: &Desk) -> (BTreeMap<String, Aggregator>, Vec<(String, Message)>) {
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
        let out =
            if share { machine.on_contribution(&from, &bytes) } else { machine.on_message(&from, &bytes) };
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
    assert_eq!(
        contribute(&other_plan, "it", made, &keys).err(),
        Some(RoundError::Contribution { what: "plan" })
    );
    let mut other_layout = context(false);
    other_layout.layout.cells[1].shift = 9;
    let made = contribution(&desk.ctx, &vector(1));
    assert_eq!(
        contribute(&other_layout, "it", made, &keys).err(),
        Some(RoundError::Contribution { what: "layout" })
    );
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

#[test]
fn one_aggregators_view_of_a_contribution_is_independent_of_its_values() {
    // Lengths follow from the layout; the helper's share is a seed drawn before the values are looked at.
    let desk = Desk::new(context(false));
    let egress = desk.ctx.egress().unwrap();
    for values in [vector(0), vector(3)] {
        let sealed = desk.share("it", &values);
        let sizes: Vec<(String, usize)> =
            sealed.iter().map(|s| (s.to().to_owned(), s.bytes().len())).collect();
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

/// What `to` reads in a message.
fn content(desk: &Desk, from: &str, m: &Message, length: usize) -> Vec<u8> {
    let binding = Binding::new(&desk.ctx).unwrap();
    binding.open(m.kind, from, &m.to, &desk.secret(&m.to), &m.bytes, length).unwrap().to_vec()
}

#[test]
fn a_machine_made_again_from_its_seed_says_the_same_and_the_round_goes_on() {
    let desk = Desk::new(context(false));
    let seed = RoundSeed::generate().unwrap();
    let kept = RoundSeed::from_bytes(seed.expose().as_slice()).unwrap();
    let mut first = desk.aggregator_from("ch", &seed);
    let mut other = desk.aggregator("se");
    let length = |kind: Kind| {
        let groups = Groups::new(&desk.ctx.layout, 2, &Binding::new(&desk.ctx).unwrap()).unwrap();
        match kind {
            Kind::KeyPart | Kind::Commitment => 32,
            _ => groups.verifier_bytes() * desk.ctx.contributors.len(),
        }
    };
    let mut heard: Vec<(String, Vec<u8>, bool)> = Vec::new();
    let mut said = first.begin().unwrap();
    for m in other.begin().unwrap() {
        heard.push(("se".into(), m.bytes.clone(), false));
        said.extend(first.on_message("se", &m.bytes).unwrap());
    }
    for (i, site) in desk.ctx.contributors.clone().iter().enumerate() {
        for sealed in desk.share(site, &vector(i)) {
            let (to, bytes) = sealed.into_parts();
            if to == "ch" {
                said.extend(first.on_contribution(site, &bytes).unwrap());
                heard.push((site.clone(), bytes, true));
            } else {
                let due = other.on_contribution(site, &bytes).unwrap();
                assert!(due.is_empty(), "no key part of `ch` has come yet");
            }
        }
    }
    // Killed here: key part and verifier shares are out, the commitment is not.
    drop(first);
    let mut again = desk.aggregator_from("ch", &kept);
    let mut repeated = again.begin().unwrap();
    for (from, bytes, share) in &heard {
        let due = if *share { again.on_contribution(from, bytes) } else { again.on_message(from, bytes) };
        repeated.extend(due.unwrap());
    }
    let kinds: Vec<Kind> = said.iter().map(|m| m.kind).collect();
    assert_eq!(kinds, [Kind::KeyPart, Kind::Verifier]);
    for (a, b) in said.iter().zip(&repeated) {
        assert_eq!((a.kind, &a.to), (b.kind, &b.to));
        assert_ne!(a.bytes, b.bytes, "a fresh encapsulation");
        assert_eq!(content(&desk, "ch", a, length(a.kind)), content(&desk, "ch", b, length(b.kind)));
    }
    assert_eq!(said.len(), repeated.len());

    // The other hears what was said first, as a node resends it; both come to the same sum.
    let mut due: Vec<Message> = Vec::new();
    for m in &said {
        due.extend(other.on_message("ch", &m.bytes).unwrap());
    }
    let mut back: Vec<Message> = Vec::new();
    for m in &due {
        back.extend(again.on_message("se", &m.bytes).unwrap());
    }
    for m in &back {
        other.on_message("ch", &m.bytes).unwrap();
    }
    let readers = desk.keys(&desk.ctx.readers());
    let mut opening = desk.opening(&desk.ctx.collector);
    for (name, machine) in [("ch", &mut again), ("se", &mut other)] {
        assert!(machine.ready_to_open().is_some(), "{name}");
        for m in machine.open(&readers).unwrap() {
            if m.to == desk.ctx.collector {
                opening.on_message(name, &m.bytes).unwrap();
            }
        }
    }
    let n = desk.ctx.contributors.len();
    let mut sum = vec![0.0; vector(0).len()];
    for i in 0..n {
        sum.iter_mut().zip(vector(i)).for_each(|(s, v)| *s += v);
    }
    let values = privacy::decode(&desk.ctx.layout, opening.sum().unwrap(), n as u32).unwrap();
    assert_eq!(values, sum);

    // From another seed it would have said something else.
    let stranger = desk.aggregator("ch").begin().unwrap();
    let (a, b) = (said.first().unwrap(), stranger.first().unwrap());
    assert_ne!(content(&desk, "ch", a, 32), content(&desk, "ch", b, 32));
}
