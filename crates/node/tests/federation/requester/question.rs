//! A1: the chosen question. Requester and collector want coefficients at which one patient outweighs all others.

use super::*;
use analysis::Step;
use record::Digest;
use study::Layout;
use wire::{Frame as WireFrame, SignedFrame};

const FORMULA: &str = "dead_dep_6m ~ age + sbp + sex";
const COLUMNS: [&str; 4] = ["dead_dep_6m", "age", "sbp", "sex"];
/// The information's row of the intercept: weights, and weighted means of the terms.
const TERMS: usize = 4;
/// `analysis::logistic::REACH`, less a little for rounding and for [`APART`].
const REACH: f64 = 61.9;
/// How far the intercepts of a pair of questions lie to both sides of the aim.
const APART: f64 = 2.0;

fn text(id: &str) -> String {
    crate::house::study(
        id,
        &COLUMNS,
        &format!(
            "[[analysis]]\nid = \"fit\"\nmethod = \"logistic\"\nformula = \"{FORMULA}\"\nevent = \"yes\"\n\
             max_rounds = 12\ngrid = 40\n"
        ),
    )
}

/// Shares by the question that they answer.
type Shares = BTreeMap<String, BTreeSet<Vec<u8>>>;

/// A patient as the attack wants to know them: age, pressure, male.
type Known = (i64, i64, bool);

/// The rows that the oracle of the attack has: who, their terms scaled as the model scales them, and what they are.
struct Row {
    who: Patient,
    u: [f64; TERMS],
    known: Known,
}

/// Scale and centre of each term, as the plan gives them.
fn scales() -> [(f64, f64); TERMS] {
    let dictionary = pooled::dictionary();
    let fit = analysis::logistic::Logistic::new("fit", FORMULA, "yes", 12, 40, &dictionary).unwrap();
    let all: Vec<(f64, f64)> = fit.design.terms.iter().map(|t| t.scale_and_centre()).collect();
    all.try_into().unwrap()
}

fn everybody(frames: &BTreeMap<String, Frame>) -> Vec<Row> {
    let scales = scales();
    let mut rows = Vec::new();
    for (site, frame) in frames {
        for row in pooled::complete(frame, &COLUMNS) {
            let (age, sbp) = (integer(frame, "age", row).unwrap(), integer(frame, "sbp", row).unwrap());
            let male = pooled::is(frame, "sex", "male", row) == Some(1.0);
            let scaled = |x: f64, at: usize| (x - scales[at].1) / scales[at].0;
            let u = [1.0, scaled(age as f64, 1), scaled(sbp as f64, 2), f64::from(u8::from(male))];
            rows.push(Row { who: (site.clone(), row), u, known: (age, sbp, male) });
        }
    }
    rows
}

fn weight(u: &[f64; TERMS], b: &[f64; TERMS]) -> f64 {
    let e = (-u.iter().zip(b).map(|(u, b)| u * b).sum::<f64>().abs()).exp();
    e / ((1.0 + e) * (1.0 + e))
}

/// Coefficients at which `target` has the middle probability and everybody else one as extreme as they go.
fn aimed(direction: [f64; 3], target: &Row, reach: f64) -> [f64; TERMS] {
    let at: f64 = (0..3).map(|j| direction[j] * target.u[j + 1]).sum();
    let k = reach / (direction.iter().map(|d| d.abs()).sum::<f64>() + at.abs());
    [-k * at, k * direction[0], k * direction[1], k * direction[2]]
}

/// Share of the heaviest patient in the weights of a question, and who it is.
fn heaviest(rows: &[Row], b: &[f64; TERMS]) -> (f64, usize) {
    let weights: Vec<f64> = rows.iter().map(|r| weight(&r.u, b)).collect();
    let total: f64 = weights.iter().sum();
    let at = (0..rows.len()).max_by(|i, j| weights[*i].total_cmp(&weights[*j])).unwrap();
    (weights[at] / total, at)
}

/// The best direction of many, and whom it isolates: what an attacker would find by a few adaptive rounds.
fn best(rows: &[Row]) -> ([f64; 3], usize) {
    let mut found = (0.0, [0.0; 3], 0);
    for i in 0..360 {
        let angle = f64::from(i).to_radians();
        for sex in [-1.0, -0.3, 0.0, 0.3, 1.0] {
            let direction = [angle.cos(), angle.sin(), sex];
            let along = |r: &Row| (0..3).map(|j| direction[j] * r.u[j + 1]).sum::<f64>();
            let outermost =
                (0..rows.len()).max_by(|i, j| along(&rows[*i]).total_cmp(&along(&rows[*j]))).unwrap();
            let (share, who) = heaviest(rows, &aimed(direction, &rows[outermost], REACH));
            if share > found.0 && who == outermost {
                found = (share, direction, who);
            }
        }
    }
    (found.1, found.2)
}

/// The pair of questions that the program asks. The patient aimed at weighs the same in both; everybody else, far on
/// one side, weighs `e^(2 APART)` times as much in the second.
fn pair(b: &[f64; TERMS]) -> [[f64; TERMS]; 2] {
    [-APART, APART].map(|d| [b[0] + d, b[1], b[2], b[3]])
}

/// The program's guess from two opened sums: everybody else taken out, then the weighted means of the terms, as if
/// one patient were all that is left.
fn guess([low, high]: [&Sums; 2]) -> Known {
    let scales = scales();
    let left = |at: usize| APART.exp() * low.values[at] - (-APART).exp() * high.values[at];
    let mean = |at: usize| left(at) / left(0) * scales[at].0 + scales[at].1;
    (mean(1).round() as i64, mean(2).round() as i64, mean(3) > 0.5)
}

fn question(study: &Study, round: u32, b: &[f64; TERMS]) -> Question {
    let beta = b.iter().map(|b| (b * (1u64 << 40) as f64).round() as i64).collect();
    Question { study: study.id.clone(), stage: 1, round, beta }
}

/// Questions and sums of the plan, as the collector and every contributor see them.
fn of_the_plan(study: &Study, plan: &Plan, frames: &BTreeMap<String, Frame>) -> Vec<(Question, Sums)> {
    let dictionary = pooled::dictionary();
    let mut question = Question::start(study, &dictionary, plan, 1).unwrap();
    let mut all = Vec::new();
    loop {
        let sums = sum(study, plan, &question, frames);
        let step = analysis::step(study, &dictionary, plan, 1, &question, &sums);
        all.push((question.clone(), sums));
        match step {
            Step::Ask(next) => question = next,
            _ => return all,
        }
    }
}

/// Frames in which collector and requester ask their own question, under every kind that there is.
fn bent(house: &House, like: &WireFrame, question: &Question) -> Vec<(String, Vec<u8>)> {
    let body = record::canon::to_bytes(question).unwrap();
    let digest = Digest::of(&[b"comity-question/1\n".as_slice(), &body].concat());
    let with_digest = [digest.as_bytes().as_slice(), &body].concat();
    let mut out = Vec::new();
    for from in ["no", "gb"] {
        for to in ["it", "pl", "nl", "be", "ch", "se"] {
            for kind in ["question", "opening", "contribution", "aggregate-1", "output"] {
                // gb contributes: its own second answer is another lie, told elsewhere.
                if (from, kind) == ("gb", "contribution") {
                    continue;
                }
                let body = if kind == "contribution" { with_digest.clone() } else { body.clone() };
                out.push((to.to_string(), house.frame_as(from, from, to, kind, like, body)));
            }
        }
    }
    out
}

fn attack(rows: Rows) {
    let frames = frames(&rows);
    let all = everybody(&frames);
    let (study, plan) = planned(&text("fit"));
    let (direction, at) = best(&all);
    let target = &all[at];
    let chosen = aimed(direction, target, REACH);

    // With the rule off: two chosen questions, and what is left of the sums is that patient.
    let (share, _) = heaviest(&all, &chosen);
    assert!(share > 0.5, "{share}");
    let opened = pair(&chosen).map(|b| sum(&study, &plan, &question(&study, 1, &b), &frames));
    assert_eq!(guess(opened.each_ref()), target.known, "with the rule off it does");

    // What the plan asks weighs everybody: no patient is a hundredth of any sum, and no guess is the patient.
    let seen = of_the_plan(&study, &plan, &frames);
    assert!(seen.len() > 3, "{} rounds", seen.len());
    for (question, sums) in &seen {
        let b: Vec<f64> = question.beta.iter().map(|b| *b as f64 / (1u64 << 40) as f64).collect();
        let (share, _) = heaviest(&all, &b.try_into().unwrap());
        assert!(share < 0.01, "{share}");
        for (_, other) in &seen {
            assert_ne!(guess([sums, other]), target.known);
        }
    }

    // In the federation they ask it anyway, at every step. Nobody answers it, and whoever gets it keeps it.
    let mut house = setup(&rows).build();
    house.ask_and_approve("fit", &text("fit"));
    house.until("a contribution", |h| !h.frames("contribution").is_empty());
    let mut posted = 0;
    for _ in 0..40 {
        let last = house.frames("contribution").into_iter().max_by_key(|f| f.place.clone()).unwrap();
        if last.place.stage == 1 {
            let asked = question(&study, last.place.round, &chosen);
            for (to, frame) in bent(&house, &last, &asked) {
                house.hub.post(&to, frame);
                posted += 1;
            }
        }
        house.step();
    }
    house.settle();
    assert!(posted > 100 && house.released("fit"), "{posted}, {:?}", house.phase("fit"));
    let mut slots: BTreeMap<(u32, u32), Shares> = BTreeMap::new();
    for f in house.frames("contribution") {
        let place = slots.entry((f.place.stage, f.place.round)).or_default();
        place
            .entry(f.body[..32].to_vec().iter().map(|b| format!("{b:02x}")).collect())
            .or_default()
            .insert(f.body);
    }
    assert_eq!(slots.len(), 1 + seen.len(), "a round of the guard, and those of the plan");
    assert!(slots.values().all(|q| q.len() == 1 && q.values().all(|shares| shares.len() == 12)));
    let start = [b"comity-question/1\n".as_slice(), &record::canon::to_bytes(&seen[0].0).unwrap()].concat();
    assert_eq!(slots[&(1, 0)].keys().next(), Some(&Digest::of(&start).to_string()), "the plan's own start");
    for id in ["it", "pl", "nl", "be"] {
        assert!(house.holds_against(id, "no", "a frame `question`"), "{id}: {:?}", house.evidence(id));
    }
    let kept: Vec<WireFrame> =
        house.relayed.iter().map(|b| SignedFrame::decode(b).unwrap().into_frame()).collect();
    assert!(kept.iter().all(|f| f.kind != "question"), "no honest node speaks of questions");
}

#[test]
fn requester_and_collector_cannot_choose_a_question() {
    attack(generated());
}

#[test]
fn requester_and_collector_cannot_choose_a_question_to_a_patient_of_the_real_trial() {
    let test = "requester_and_collector_cannot_choose_a_question_to_a_patient_of_the_real_trial";
    if let Some(rows) = real(test) {
        attack(rows);
    }
}

/// The site's own last word, should somebody bend a question all the same (an aggregator that shifts a sum).
fn bending(rows: Rows) {
    let frames = frames(&rows);
    let all = everybody(&frames);
    let (study, plan) = planned(&text("fit"));
    let (direction, at) = best(&all);
    let target = &all[at];
    let dictionary = pooled::dictionary();
    let answered = |b: &[f64; TERMS]| {
        study.contributors.iter().all(|site| {
            let asked = question(&study, 1, b);
            let vector = analysis::site(site, &study, &dictionary, &plan, 1, &asked, &frames[site]).unwrap();
            let rules = privacy::LocalRules {
                rows_read: vector.rows_read,
                max_rows: dictionary.max_rows,
                effective_units: vector.effective_units,
                min_effective_units: u32::try_from(vector.analysed / 8).unwrap(),
                ..privacy::LocalRules::default()
            };
            let layout: &Layout = &plan.stages[1].layout;
            privacy::Contribution::check(layout, &vector.values, Digest::of(b""), &rules).is_ok()
        })
    };
    assert!(!answered(&aimed(direction, target, REACH)), "{:?} would be weighed alone", target.who);
    // The sharpest aim that every site still answers.
    let (mut low, mut high) = (0.0, REACH);
    for _ in 0..30 {
        let middle = (low + high) / 2.0;
        if answered(&aimed(direction, target, middle)) { low = middle } else { high = middle }
    }
    let blunt = aimed(direction, target, low);
    let (share, _) = heaviest(&all, &blunt);
    println!("reach {low:.2} of {REACH}, heaviest share {share:.4}");
    assert!(low > 1.0 && share < 0.02, "reach {low}, share {share}");
    let opened = pair(&blunt).map(|b| sum(&study, &plan, &question(&study, 1, &b), &frames));
    assert_ne!(guess(opened.each_ref()), target.known);
}

#[test]
fn a_bent_question_that_sites_still_answer_weighs_no_patient_much() {
    bending(generated());
}

#[test]
fn a_bent_question_that_sites_still_answer_weighs_no_patient_of_the_real_trial_much() {
    if let Some(rows) =
        real("a_bent_question_that_sites_still_answer_weighs_no_patient_of_the_real_trial_much")
    {
        bending(rows);
    }
}
