//! A3: asking the refusal. Two federations that differ by one patient; whatever tells them apart is an answer.

use super::*;
use charter::Phase;
use node::control::Command;

/// One federation with the patient and one without; and the pressure that only this patient has.
fn pair(rows: &Rows) -> ([House; 2], i64) {
    let all = frames(rows);
    let by = by_number(&all, "sbp");
    let alone = |least: i64| by.iter().find(|(v, who)| **v >= least && who.len() == 1);
    let (v, who) = alone(170).unwrap();
    let (site, row) = &who[0];
    ([setup(rows).build(), setup(&without(rows, site, *row)).build()], *v)
}

/// Populations that are everybody, everybody but the patient, the patient alone, and the patient's neighbours.
fn probes(v: i64) -> [(&'static str, String); 4] {
    [
        ("everybody", String::new()),
        ("all-below", pressure(None, Some(v - 1))),
        ("one", pressure(Some(v), Some(v))),
        ("few", pressure(Some(v), Some(v + 1))),
    ]
}

fn same(houses: &mut [House; 2], studies: &[&str]) {
    let [a, b] = houses;
    let (a, b) = (a.visible(studies), b.visible(studies));
    let off = a.lines().zip(b.lines()).find(|(a, b)| a != b);
    assert_eq!(off, None);
    assert_eq!(a.len(), b.len());
}

fn dry_checks(rows: Rows) {
    let (mut houses, v) = pair(&rows);
    same(&mut houses, &[]);
    for (id, conditions) in probes(v) {
        let said: Vec<String> = houses
            .iter_mut()
            .map(|house| {
                let command = Command::StudyCheck { file: "s".into(), text: counts(id, &conditions) };
                let reply = house.cmd("gb", command);
                assert_eq!(reply.exit, 0, "{}", reply.text);
                bare(&format!("{} {}", reply.text, reply.data))
            })
            .collect();
        assert_eq!(said[0], said[1], "{id}");
    }
    // Dry still, after one answer that both give: what the check measures is the record, which is the same.
    for house in &mut houses {
        house.asked_of("everybody", &counts("everybody", ""), &SIX);
        assert!(house.released("everybody"));
        let reply = house.cmd("gb", Command::StudyResult { id: "everybody".into() });
        assert!(reply.data["output"].is_object());
    }
    let said = houses.each_mut().map(|house| {
        let (id, conditions) = &probes(v)[1];
        let command = Command::StudyCheck { file: "s".into(), text: counts(id, conditions) };
        let reply = house.cmd("gb", command);
        bare(&format!("{} {}", reply.text, reply.data))
    });
    assert_eq!(said[0], said[1]);
}

#[test]
fn a_dry_check_answers_alike_with_a_patient_and_without() {
    dry_checks(generated());
}

#[test]
fn a_dry_check_answers_alike_with_a_patient_of_the_real_trial_and_without() {
    if let Some(rows) = real("a_dry_check_answers_alike_with_a_patient_of_the_real_trial_and_without") {
        dry_checks(rows);
    }
}

/// Populations of one patient or nobody, and of a few: run, and withheld in the same words at the same places.
fn withheld(rows: Rows) {
    let (mut houses, v) = pair(&rows);
    let probes = probes(v);
    for (id, conditions) in &probes[2..] {
        for house in &mut houses {
            house.asked_of(id, &counts(id, conditions), &SIX);
            assert_eq!(house.phase(id), Some(Phase::Withheld), "{id}");
        }
        same(&mut houses, &[id]);
    }
    let evidence = houses.each_mut().map(|house| house.evidence("gb"));
    assert_eq!(evidence[0], evidence[1]);
}

#[test]
fn a_population_of_one_patient_is_withheld_as_a_population_of_nobody_is() {
    withheld(generated());
}

#[test]
fn a_population_of_one_patient_of_the_real_trial_is_withheld_as_one_of_nobody_is() {
    if let Some(rows) = real("a_population_of_one_patient_of_the_real_trial_is_withheld_as_one_of_nobody_is")
    {
        withheld(rows);
    }
}

/// What is still gained: six stewards allow `all but pressure v` after `up to pressure v`, and the word *withheld*
/// tells that somebody has pressure v. One bit for a study that everyone sees; nothing else differs, and the study
/// that was withheld counts against the next as an answer does.
fn one_bit(rows: Rows) {
    let (mut houses, v) = pair(&rows);
    let counted = |house: &House, id: &str| {
        let s = &house.node("gb").state().studies[id];
        house.node("gb").state().earlier_populations("next", "ist", s.runs[&1].first + 1000).len()
    };
    for house in &mut houses {
        house.asked_of("up-to", &counts("up-to", &pressure(None, Some(v))), &SIX);
        assert!(house.released("up-to"));
        house.asked_of("below", &counts("below", &pressure(None, Some(v - 1))), &SIX);
        assert_eq!(counted(house, "below"), 2, "in the history whether withheld or not");
    }
    let phases = houses.each_ref().map(|house| house.phase("below").unwrap());
    assert_eq!(phases, [Phase::Withheld, Phase::Released { run: 1 }]);
    // Up to the verdict the record is the same, and after it the one with the patient only closes.
    let records = houses.each_mut().map(|house| {
        let entries = house.must("gb", Command::RecordList { from: 0 }).data;
        let list = entries.as_array().unwrap().clone();
        let study = |e: &Value| e["subject"] == "below";
        let kinds: Vec<String> =
            list.iter().filter(|e| study(e)).map(|e| format!("{} {}", e["type"], e["issuer"])).collect();
        kinds
    });
    let verdict = |kinds: &[String]| kinds.iter().position(|k| k.contains("run.verdict")).unwrap();
    let at = verdict(&records[0]);
    assert_eq!((records[0][..=at]), (records[1][..=at]));
    assert!(records[0][at + 1..].iter().all(|k| k.contains("run.close")), "{:?}", &records[0][at + 1..]);
    let [with, _] = &mut houses;
    let reply = with.cmd("gb", Command::StudyResult { id: "below".into() });
    assert_eq!((reply.exit, reply.text.as_str()), (1, "withheld by disclosure control"));
}

#[test]
fn an_approved_study_gives_one_bit_and_that_is_all_of_a_patient() {
    one_bit(generated());
}

#[test]
fn an_approved_study_gives_one_bit_and_that_is_all_of_a_patient_of_the_real_trial() {
    if let Some(rows) = real("an_approved_study_gives_one_bit_and_that_is_all_of_a_patient_of_the_real_trial")
    {
        one_bit(rows);
    }
}

#[test]
fn what_is_compared_would_show_one_number() {
    let rows = generated();
    let (mut houses, _) = pair(&rows);
    for house in &mut houses {
        house.asked_of("everybody", &counts("everybody", ""), &SIX);
    }
    let [a, b] = houses.each_mut().map(|house| house.visible(&["everybody"]));
    assert_ne!(a, b, "the released counts differ by one, and the comparison of these tests sees it");
}
