//! One generated patient. Weights are counts of the trial's published tables unless said otherwise.

use super::Country;
use super::random::{Draws, logistic};

/// Quantiles of age at randomisation; those between the published ones (0.05, 0.1, 0.25 and so on) are set so that
/// mean and standard deviation are the trial's.
const AGE: [(f64, f64); 14] = [
    (0.0, 16.0),
    (0.002, 30.0),
    (0.01, 40.0),
    (0.03, 46.5),
    (0.05, 50.0),
    (0.10, 56.0),
    (0.175, 61.4),
    (0.25, 65.0),
    (0.50, 73.0),
    (0.75, 80.0),
    (0.90, 85.0),
    (0.95, 88.0),
    (0.99, 92.0),
    (1.0, 99.0),
];

/// Quantiles of hours from stroke to randomisation.
const DELAY: [(f64, f64); 9] = [
    (0.0, 1.0),
    (0.05, 4.0),
    (0.10, 5.0),
    (0.25, 9.0),
    (0.50, 19.0),
    (0.75, 29.0),
    (0.90, 38.0),
    (0.95, 44.0),
    (1.0, 48.0),
];

/// Months as the trial's table has them; October lost its last letter there.
const MONTHS: [&str; 12] =
    ["sty", "lut", "mar", "kwi", "maj", "cze", "lip", "sie", "wrz", "pa?", "lis", "gru"];

/// Deficits: yes, no, cannot be assessed.
const DEFICITS: [[f64; 3]; 8] = [
    [14099.0, 5089.0, 247.0],
    [16645.0, 2667.0, 123.0],
    [14678.0, 4502.0, 255.0],
    [8509.0, 10342.0, 584.0],
    [3096.0, 12394.0, 3945.0],
    [3178.0, 12809.0, 3448.0],
    [2139.0, 15704.0, 1592.0],
    [1219.0, 16967.0, 1249.0],
];

const PLACES: [(&str, f64); 5] = [("A", 7062.0), ("B", 276.0), ("C", 257.0), ("D", 534.0), ("E", 1577.0)];

/// Causes of death by code.
const CAUSES: [(&str, f64); 9] = [
    ("1", 1494.0),
    ("2", 558.0),
    ("3", 80.0),
    ("4", 861.0),
    ("5", 387.0),
    ("6", 174.0),
    ("7", 525.0),
    ("8", 259.0),
    ("0", 25.0),
];

#[derive(Clone, Copy, PartialEq)]
enum Consciousness {
    Alert,
    Drowsy,
    Unconscious,
}

/// State at randomisation and allocation.
struct Baseline {
    pilot: bool,
    delay: i64,
    consciousness: Consciousness,
    male: bool,
    age: i64,
    pressure: i64,
    aspirin: bool,
    heparin: &'static str,
}

/// What became of the patient.
struct Outcome {
    dead14: bool,
    dead14_expected: f64,
    dead_expected: f64,
    bad_expected: f64,
    /// OCCODE: 1 dead, 2 dependent, 3 not recovered, 4 recovered, 0 and 9 missing.
    code: u8,
}

/// Appends one row.
pub(super) fn write_row(table: &mut String, country: &Country, draws: &mut Draws) {
    let baseline = baseline(country, draws);
    let outcome = outcome(country, &baseline, draws);
    let mut fields: Vec<String> = Vec::with_capacity(57);
    baseline_fields(&mut fields, country, &baseline, draws);
    treatment_fields(&mut fields, &baseline, draws);
    let recurrence = draws.chance(if baseline.aspirin { 0.0157 } else { 0.0249 });
    discharge_fields(&mut fields, recurrence, &outcome, draws);
    let dead = follow_up_fields(&mut fields, &outcome, draws);
    event_fields(&mut fields, recurrence, &baseline, &outcome, draws);
    death_fields(&mut fields, dead, &outcome, draws);
    table.push_str(&fields.join(","));
    table.push('\n');
}

fn baseline(country: &Country, draws: &mut Draws) -> Baseline {
    let pilot = draws.chance(f64::from(country.pilot) / 1000.0);
    let delay = draws.quantile(&DELAY).round() as i64;
    // Hours are rounded by those who write them down: 6, 12, 24 and so on.
    let delay = if draws.chance(0.18) { ((delay + 3) / 6 * 6).clamp(1, 48) } else { delay };
    let age = draws.quantile(&AGE).round() as i64;
    let older = age as f64 - 71.7;
    let male = draws.chance(logistic(0.143 - 0.0345 * older));
    let severity = draws.normal() + 0.0145 * older;
    let consciousness = match severity {
        s if s > 2.245 => Consciousness::Unconscious,
        s if s > 0.74 => Consciousness::Drowsy,
        _ => Consciousness::Alert,
    };
    let spread = draws.normal();
    let pressure = 160.2 + 27.3 * spread + 1.8 * (spread * spread - 1.0) + if male { -1.6 } else { 1.8 };
    let step = draws.pick(&[(10.0, 0.83), (5.0, 0.09), (1.0, 0.08)]);
    let pressure = ((pressure / step).round() * step).clamp(70.0, 295.0) as i64;
    let aspirin = draws.chance(0.5);
    let heparin = draws.pick(&[("N", 0.5), ("L", 0.25), (if pilot { "H" } else { "M" }, 0.25)]);
    Baseline { pilot, delay, consciousness, male, age, pressure, aspirin, heparin }
}

fn outcome(country: &Country, b: &Baseline, draws: &mut Draws) -> Outcome {
    let tilt = f64::from(country.tilt) / 100.0;
    let older = b.age as f64 - 71.7;
    // Coefficients of death or dependency as in a regression on the trial.
    let state = match b.consciousness {
        Consciousness::Alert => 0.0,
        Consciousness::Drowsy => 1.73,
        Consciousness::Unconscious => 3.45,
    };
    let bad = -2.95 + 0.053 * b.age as f64
        - if b.male { 0.34 } else { 0.0 }
        - 0.0021 * b.pressure as f64
        - 0.0029 * b.delay as f64
        + state;
    let state = match b.consciousness {
        Consciousness::Alert => 0.0,
        Consciousness::Drowsy => 1.75,
        Consciousness::Unconscious => 3.35,
    };
    let early = -3.22 + 0.05 * older + state;
    let late = -1.25 + 0.04 * (older - 2.0) + if b.consciousness == Consciousness::Alert { 0.0 } else { 0.4 };
    let aspirin = if b.aspirin { 1.0 } else { 0.0 };
    let bad_here = logistic(bad + tilt - 0.0685 * aspirin);
    let early_here = logistic(early + tilt / 4.0 - 0.05 * aspirin);

    // Death within 14 days is a part of death or dependency at six months, so the second is drawn first.
    let dead_or_dependent = draws.chance(bad_here);
    let dead14 = dead_or_dependent && draws.chance(early_here / bad_here);
    let known = if dead14 { "k" } else { draws.pick(&[("k", 19285.0), ("0", 97.0), ("9", 53.0)]) };
    let dead = dead14 || draws.chance(logistic(late));
    let code = match (known, dead_or_dependent, dead) {
        ("0", ..) => 0,
        ("9", ..) => 9,
        (_, true, true) => 1,
        (_, true, false) => 2,
        (_, false, _) => draws.pick(&[(3, 3864.0), (4, 3296.0)]),
    };
    let (bad_expected, dead14_expected) = (logistic(bad), logistic(early));
    let dead_expected = dead14_expected + (bad_expected - dead14_expected).max(0.0) * logistic(late);
    Outcome { dead14, dead14_expected, dead_expected, bad_expected, code }
}

/// HOSPNUM to RDATE.
fn baseline_fields(fields: &mut Vec<String>, country: &Country, b: &Baseline, draws: &mut Draws) {
    let hospitals = i64::from(country.rows / 60 + 1);
    let hospital = i64::from(country.number) * 10 + draws.between(0, hospitals.min(9));
    fields.extend([
        hospital.to_string(),
        country.code.into(),
        country.number.to_string(),
        b.delay.to_string(),
    ]);
    let (consciousness, types): (&str, &[(&str, f64)]) = match b.consciousness {
        Consciousness::Alert => {
            ("F", &[("LACS", 4657.0), ("OTH", 54.0), ("PACS", 6134.0), ("POCS", 1813.0), ("TACS", 2263.0)])
        }
        Consciousness::Drowsy => ("D", &[("OTH", 3.0), ("PACS", 1595.0), ("POCS", 356.0), ("TACS", 2300.0)]),
        Consciousness::Unconscious => ("U", &[("PACS", 126.0), ("POCS", 59.0), ("TACS", 75.0)]),
    };
    fields.extend([consciousness, if b.male { "M" } else { "F" }].map(String::from));
    fields.push(b.age.to_string());
    let fibrillation = logistic(-1.67 + 0.0535 * (b.age as f64 - 71.7));
    let scanned = draws.chance(0.670);
    fields.push(yes_no(draws.chance(0.2925)));
    fields.push(if b.pilot { String::new() } else { yes_no(draws.chance(fibrillation)) });
    fields.push(yes_no(scanned));
    fields.push(yes_no(scanned && draws.chance(0.4925)));
    fields.push(if b.pilot && draws.chance(0.35) { String::new() } else { yes_no(draws.chance(0.0228)) });
    fields.push(if b.pilot { String::new() } else { yes_no(draws.chance(0.2135)) });
    fields.push(b.pressure.to_string());
    for [yes, no, unknown] in DEFICITS {
        // Who is not alert has more deficits, and more that cannot be assessed.
        let (more, unclear) = if b.consciousness == Consciousness::Alert { (0.95, 0.6) } else { (1.25, 2.3) };
        fields.push(draws.pick(&[("Y", yes * more), ("N", no), ("C", unknown * unclear)]).into());
    }
    fields.push(draws.pick(types).into());
    let (year, first, last) = if b.pilot {
        draws.pick(&[((91, 1, 12), 276.0), ((92, 1, 12), 578.0), ((93, 1, 2), 130.0)])
    } else {
        draws.pick(&[
            ((93, 3, 12), 3251.0),
            ((94, 1, 12), 5971.0),
            ((95, 1, 12), 6554.0),
            ((96, 1, 5), 2675.0),
        ])
    };
    let month = usize::try_from(draws.between(first, last) - 1).unwrap_or(0);
    fields.push(format!("{}-{year}", MONTHS.get(month).unwrap_or(&"sty")));
}

/// RXASP to ONDRUG.
fn treatment_fields(fields: &mut Vec<String>, b: &Baseline, draws: &mut Draws) {
    fields.extend([yes_no(b.aspirin), b.heparin.into()]);
    let given = draws.chance(if b.aspirin { 0.920 } else { 0.015 });
    let (yes, stray) = if given { ("Y", "y") } else { ("N", "n") };
    // Stray lower-case codes: 2 in the trial; more here, so that every larger site meets one.
    fields.push(draws.pick(&[(yes, 0.9972), (stray, 0.001), ("", 0.0011), ("U", 0.0007)]).into());
    let low = draws.chance(match b.heparin {
        "L" => 0.917,
        "N" => 0.003,
        _ => 0.013,
    });
    fields.push(draws.pick(&[(if low { "Y" } else { "N" }, 0.9983), ("", 0.0011), ("U", 0.0006)]).into());
    let medium = draws.chance(match b.heparin {
        "M" | "H" => 0.880,
        "L" => 0.005,
        _ => 0.002,
    });
    let medium = draws.pick(&[(if medium { "Y" } else { "N" }, 0.9981), ("", 0.0011), ("U", 0.0008)]);
    fields.push(if b.pilot { "" } else { medium }.into());
    fields.push(if draws.chance(0.525) { 14 } else { draws.between(0, 13) }.to_string());
}

/// DDIAGISC to DPLACE.
fn discharge_fields(fields: &mut Vec<String>, recurrence: bool, o: &Outcome, draws: &mut Draws) {
    let ischaemic = [("Y", 17398.0), ("N", 1995.0), ("", 23.0), ("U", 16.0), ("u", 10.0)];
    fields.push(draws.pick(&ischaemic).into());
    fields.push(draws.pick(&[("N", 18804.0), ("Y", 599.0), ("", 26.0), ("U", 6.0)]).into());
    let recurred = if recurrence { "Y" } else { draws.pick(&[("N", 19013.0), ("", 18.0), ("U", 9.0)]) };
    fields.push(recurred.into());
    fields.push(draws.pick(&[("N", 19314.0), ("Y", 97.0), ("", 15.0), ("U", 9.0)]).into());
    let alive = if o.dead14 {
        draws.pick(&[("N", 1700.0), ("Y", 71.0), ("", 9.0), ("U", 1.0)])
    } else {
        draws.pick(&[("Y", 10251.0), ("N", 7378.0), ("", 19.0), ("U", 6.0)])
    };
    let place = if alive == "Y" && draws.chance(0.94) { draws.pick(&PLACES) } else { "" };
    fields.extend([alive, place].map(String::from));
}

/// FDEAD to FPLACE; returns whether the patient is known to have died.
fn follow_up_fields(fields: &mut Vec<String>, o: &Outcome, draws: &mut Draws) -> bool {
    let dead = match o.code {
        1 => "Y",
        2 => draws.pick(&[("N", 7752.0), ("Y", 128.0)]),
        3 | 4 => "N",
        9 => "U",
        _ => "",
    };
    let cause = if dead == "Y" { draws.pick(&CAUSES) } else { "" };
    let recovered = match (o.code, dead) {
        (1, _) => draws.pick(&[("", 4166.0), ("U", 74.0)]),
        (2, "N") => draws.pick(&[("N", 7286.0), ("Y", 421.0), ("U", 50.0)]),
        (3, _) => draws.pick(&[("N", 3801.0), ("U", 63.0)]),
        (4, _) => "Y",
        (9, _) => draws.pick(&[("", 34.0), ("U", 19.0)]),
        _ => "",
    };
    let dependent = match (o.code, dead) {
        (2, "N") => draws.pick(&[("Y", 7727.0), ("U", 29.0)]),
        (3 | 4, _) => "N",
        (9, _) => draws.pick(&[("", 34.0), ("U", 19.0)]),
        _ => "",
    };
    let place = match (o.code, dead) {
        (2, "N") => {
            draws.pick(&[("A", 4991.0), ("B", 556.0), ("C", 492.0), ("D", 1279.0), ("E", 417.0), ("U", 19.0)])
        }
        (3 | 4, _) => {
            draws.pick(&[("A", 6616.0), ("B", 288.0), ("C", 168.0), ("D", 45.0), ("E", 38.0), ("U", 5.0)])
        }
        _ => "",
    };
    fields.extend([dead, cause, recovered, dependent, place].map(String::from));
    dead == "Y"
}

/// EXPDD to NCB14.
fn event_fields(fields: &mut Vec<String>, recurrence: bool, b: &Baseline, o: &Outcome, draws: &mut Draws) {
    fields.extend([o.bad_expected, o.dead_expected, o.dead14_expected].map(four_places));
    // ID14 is 0 where the status at 14 days is not known.
    let known = !(o.code == 0 && draws.chance(0.02));
    fields.extend([bit(known), bit(o.dead14), o.code.to_string()]);
    let bleeding = draws.chance(match b.heparin {
        "N" => 0.0042,
        "L" => 0.0072,
        _ => 0.0175,
    });
    let stroke = recurrence || bleeding || draws.chance(0.0135);
    fields.extend([stroke, recurrence, bleeding].map(bit));
    for probability in [0.0030, 0.0069, 0.0011, 0.0085, 0.0273] {
        fields.push(bit(draws.chance(probability)));
    }
}

/// DIED and TD.
fn death_fields(fields: &mut Vec<String>, dead: bool, o: &Outcome, draws: &mut Draws) {
    let days = match (o.dead14, dead) {
        (true, _) => draws.between(0, 14),
        (false, true) => draws.between(15, 182),
        (false, false) => 176 + draws.quantile(&[(0.0, 0.0), (0.6, 12.0), (0.9, 30.0), (1.0, 120.0)]) as i64,
    };
    let days = if draws.chance(0.0001) { String::new() } else { days.to_string() };
    fields.extend([bit(dead), days]);
}

fn yes_no(yes: bool) -> String {
    if yes { "Y" } else { "N" }.into()
}

fn bit(one: bool) -> String {
    if one { "1" } else { "0" }.into()
}

/// At most four decimals, as the trial's table has them.
fn four_places(probability: f64) -> String {
    format!("{probability:.4}").trim_end_matches('0').trim_end_matches('.').to_string()
}
