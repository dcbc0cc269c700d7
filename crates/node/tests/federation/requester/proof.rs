//! A4: reading the proof. Every digest of the record is tried against every small count and every true result.

use super::*;
use analysis::Step;
use record::Digest;

/// Every run of 64 hexadecimal digits in the record.
fn digests(entries: &[Vec<u8>]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for bytes in entries {
        let text = String::from_utf8_lossy(bytes);
        for word in text.split(|c: char| !c.is_ascii_hexdigit()).filter(|w| w.len() == 64) {
            found.insert(word.to_string());
        }
    }
    found
}

/// The spellings in which a number or a list of them could have been hashed.
fn spellings(values: &[f64]) -> Vec<Vec<u8>> {
    let whole: Vec<i64> = values.iter().map(|v| *v as i64).collect();
    let join = |by: &str| whole.iter().map(i64::to_string).collect::<Vec<_>>().join(by).into_bytes();
    let bytes = |f: &dyn Fn(&f64) -> Vec<u8>| values.iter().flat_map(f).collect::<Vec<u8>>();
    let mut all = vec![
        join(","),
        join(" "),
        serde_json::to_vec(&whole).unwrap(),
        bytes(&|v| v.to_bits().to_be_bytes().to_vec()),
        bytes(&|v| v.to_bits().to_le_bytes().to_vec()),
        bytes(&|v| (*v as i64).to_be_bytes().to_vec()),
        bytes(&|v| (*v as i64).to_le_bytes().to_vec()),
        bytes(&|v| (*v as i32).to_be_bytes().to_vec()),
    ];
    if let [one] = whole.as_slice() {
        all.extend(
            ["n", "count", "rows", "rows_read", "analysed"]
                .map(|k| format!("{{\"{k}\":{one}}}").into_bytes()),
        );
    }
    all
}

/// The program: gives those of its candidates of which the record holds the digest, with no salt or with a salt that
/// anybody would try.
fn found(record: &BTreeSet<String>, candidates: &[Vec<u8>]) -> BTreeSet<Vec<u8>> {
    let domains =
        ["comity-sum/1", "comity-output/1", "comity-question/1", "comity-rows/1", "comity-mapping/1"];
    let mut found = BTreeSet::new();
    for bytes in candidates {
        let mut tries = vec![Digest::of(bytes), Digest::of(&[bytes.as_slice(), b"\n"].concat())];
        for domain in domains {
            tries.push(record::salted(domain, &[0; 16], bytes));
            tries.push(Digest::of(&[domain.as_bytes(), b"\n", bytes].concat()));
        }
        if tries.iter().any(|t| record.contains(&t.to_string())) {
            found.insert(bytes.clone());
        }
    }
    found
}

/// Every sum that the studies opened, and every question that followed from one: more than an attacker has.
fn truth(texts: &[String], frames: &BTreeMap<String, Frame>) -> (Vec<Vec<f64>>, Vec<Vec<u8>>) {
    let dictionary = pooled::dictionary();
    let (mut sums, mut questions) = (Vec::new(), Vec::new());
    for text in texts {
        let (study, plan) = planned(text);
        for stage in 0..plan.stages.len() {
            let mut question = Question::start(&study, &dictionary, &plan, stage).unwrap();
            loop {
                let opened = sum(&study, &plan, &question, frames);
                sums.push(opened.values.clone());
                match analysis::step(&study, &dictionary, &plan, stage, &question, &opened) {
                    Step::Ask(next) => {
                        questions.push(record::canon::to_bytes(&next).unwrap());
                        question = next;
                    }
                    _ => break,
                }
            }
        }
    }
    (sums, questions)
}

fn attack(rows: Rows) {
    let mut house = setup(&rows).build();
    let texts = [counts("deaths", ""), crate::house::regression("fit")];
    house.asked_of("deaths", &texts[0], &SIX);
    house.asked_of("fit", &texts[1], &SIX);
    house.asked_of("few", &counts("few", &pressure(Some(300), None)), &SIX);
    assert!(house.released("deaths") && house.released("fit") && !house.released("few"));
    let output = house.output("deaths");
    let frames = frames(&rows);
    let (sums, questions) = truth(&texts, &frames);
    assert!(sums.len() > 6 && questions.len() > 2, "{} sums, {} questions", sums.len(), questions.len());

    let mut record = digests(&house.hub.entries);
    assert!(record.len() > 60, "{} digests", record.len());
    let mut candidates: Vec<Vec<u8>> = (0..20_000).flat_map(|n| spellings(&[f64::from(n)])).collect();
    for values in &sums {
        candidates.extend(spellings(values));
        values.iter().for_each(|v| candidates.extend(spellings(&[*v])));
    }
    candidates.extend(questions);
    // The output less the salt that it carries, and its results alone.
    let mut unsalted = output.clone();
    unsalted.as_object_mut().unwrap().remove("salt");
    for value in [&unsalted, &output["results"], &output["results"][0], &output["population"]] {
        candidates.push(serde_json::to_vec(value).unwrap());
    }
    candidates.push(crate::house::MAPPING.as_bytes().to_vec());
    for frame in frames.values() {
        candidates.extend(spellings(&[frame.rows as f64]));
    }
    assert_eq!(found(&record, &candidates), BTreeSet::new());

    // The same program, were one of them not salted.
    record.insert(Digest::of(b"37").to_string());
    assert_eq!(found(&record, &candidates), BTreeSet::from([b"37".to_vec()]));
    let [.., last] = sums.as_slice() else { panic!("no sums") };
    let bytes = spellings(last).remove(3);
    record.insert(record::salted("comity-sum/1", &[0; 16], &bytes).to_string());
    assert!(found(&record, &candidates).contains(&bytes));
    // And the digest of the whole output is on the record, as its readers check it: with the salt it is found.
    let whole = Digest::of(
        &record::canon::to_bytes(&serde_json::from_value::<privacy::Released>(output).unwrap()).unwrap(),
    );
    assert!(record.contains(&whole.to_string()));
}

#[test]
fn no_digest_of_the_record_is_of_a_count_or_a_sum() {
    attack(generated());
}

#[test]
fn no_digest_of_the_record_is_of_a_count_or_a_sum_of_the_real_trial() {
    if let Some(rows) = real("no_digest_of_the_record_is_of_a_count_or_a_sum_of_the_real_trial") {
        attack(rows);
    }
}

#[test]
fn one_output_twice_has_two_digests_on_the_record() {
    let mut house = House::eight();
    for id in ["once", "twice"] {
        house.asked_of(id, &counts(id, ""), &SIX);
    }
    let (a, b) = (house.output("once"), house.output("twice"));
    assert_eq!(a["results"], b["results"]);
    let state = house.node("gb").state();
    let commits =
        |id: &str| state.studies[id].runs[&1].commits.values().copied().collect::<BTreeSet<Digest>>();
    assert!(commits("once").is_disjoint(&commits("twice")) && commits("once").len() == 2);
    let output = |id: &str| state.studies[id].runs[&1].release.as_ref().unwrap().0.output;
    assert_ne!(output("once"), output("twice"));
}
