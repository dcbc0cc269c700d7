//! A6: populations that overlap but for one patient, in pairs, in threes, and in fours.

use super::*;
use charter::Phase;

/// A pressure that exactly one patient has, with as many others as can be below and above.
fn alone(frames: &BTreeMap<String, Frame>) -> (i64, Patient, i64) {
    let all = by_number(frames, "sbp");
    let rows: Vec<i64> = all.iter().flat_map(|(v, who)| std::iter::repeat_n(*v, who.len())).collect();
    let sides = |v: i64| {
        let below = rows.iter().filter(|x| **x < v).count();
        below.min(rows.len() - below - 1)
    };
    let (v, who) = all.iter().filter(|(_, who)| who.len() == 1).max_by_key(|(v, _)| sides(**v)).unwrap();
    assert!(sides(*v) >= 900, "{} on the smaller side of {v}", sides(*v));
    // Where the larger side is cut in two, for a chain of four.
    let (first, last) =
        if rows.iter().filter(|x| *x < v).count() * 2 > rows.len() { (40, *v) } else { (*v + 1, 321) };
    let larger: Vec<i64> = rows.iter().copied().filter(|x| (first..last).contains(x)).collect();
    (*v, who[0].clone(), larger[larger.len() / 2])
}

/// Asks these populations one after another, whole ones for nothing, and gives the tables that came out.
fn chain(rows: &Rows, populations: &[String]) -> (House, Vec<[Option<u64>; 4]>) {
    let mut house = setup(rows).build();
    let mut tables = Vec::new();
    for (i, conditions) in populations.iter().enumerate() {
        let id = format!("part-{i}");
        house.asked_of(&id, &counts(&id, conditions), &SIX);
        if house.released(&id) {
            let output = house.output(&id);
            tables.push(table(&output));
        }
    }
    house.no_errors();
    (house, tables)
}

/// The same with no rule before it.
fn unruled(rows: &Rows, populations: &[String]) -> Vec<[Option<u64>; 4]> {
    let frames = frames(rows);
    populations.iter().map(|conditions| unguarded(&counts("part", conditions), &frames)).collect()
}

fn a_pair(rows: Rows) {
    let all = frames(&rows);
    let (v, target, _) = alone(&all);
    let populations = [pressure(None, Some(v)), pressure(None, Some(v - 1))];
    assert_eq!(
        isolate(&unruled(&rows, &populations)),
        Some(cell_of(&all, &target)),
        "with the rule off it does"
    );
    let (house, tables) = chain(&rows, &populations);
    assert_eq!(tables.len(), 1, "the first is answered");
    assert_eq!(house.phase("part-1"), Some(Phase::Withheld));
    assert_eq!(isolate(&tables), None);
    assert!(house.frames("opening").iter().all(|f| f.place.study == "part-0" || f.place.stage == 0));
}

#[test]
fn two_populations_that_differ_by_one_patient_isolate_nobody() {
    a_pair(generated());
}

#[test]
fn two_populations_that_differ_by_one_patient_of_the_real_trial_isolate_nobody() {
    if let Some(rows) = real("two_populations_that_differ_by_one_patient_of_the_real_trial_isolate_nobody") {
        a_pair(rows);
    }
}

fn a_chain_of_three(rows: Rows) {
    let all = frames(&rows);
    let (v, target, _) = alone(&all);
    let populations = [pressure(None, Some(v - 1)), pressure(Some(v + 1), None), String::new()];
    assert_eq!(
        isolate(&unruled(&rows, &populations)),
        Some(cell_of(&all, &target)),
        "with the rule off it does"
    );
    let (house, tables) = chain(&rows, &populations);
    assert_eq!(tables.len(), 2, "no pair is too close");
    assert_eq!(house.phase("part-2"), Some(Phase::Withheld));
    assert_eq!(isolate(&tables), None);
}

#[test]
fn three_populations_that_leave_one_patient_isolate_nobody() {
    a_chain_of_three(generated());
}

#[test]
fn three_populations_that_leave_one_patient_of_the_real_trial_isolate_nobody() {
    if let Some(rows) = real("three_populations_that_leave_one_patient_of_the_real_trial_isolate_nobody") {
        a_chain_of_three(rows);
    }
}

/// What is not claimed. Four studies, each of them read and allowed by six stewards: the guard looks at pairs and
/// triples, so one patient is left by the four. If this ever fails, SECURITY.md may claim more.
fn a_chain_of_four(rows: Rows) {
    let all = frames(&rows);
    let (v, target, cut) = alone(&all);
    let populations = if cut < v {
        [
            pressure(None, Some(cut - 1)),
            pressure(Some(cut), Some(v - 1)),
            pressure(Some(v + 1), None),
            String::new(),
        ]
    } else {
        [
            pressure(None, Some(v - 1)),
            pressure(Some(v + 1), Some(cut)),
            pressure(Some(cut + 1), None),
            String::new(),
        ]
    };
    let (_, tables) = chain(&rows, &populations);
    assert_eq!(tables.len(), 4);
    assert_eq!(isolate(&tables[..3]), None);
    assert_eq!(
        isolate(&tables),
        Some(cell_of(&all, &target)),
        "pairs and triples are all that is looked for"
    );
}

#[test]
fn four_approved_populations_still_isolate_a_patient_which_is_not_claimed_otherwise() {
    a_chain_of_four(generated());
}

#[test]
fn four_approved_populations_still_isolate_a_patient_of_the_real_trial() {
    if let Some(rows) = real("four_approved_populations_still_isolate_a_patient_of_the_real_trial") {
        a_chain_of_four(rows);
    }
}

#[test]
fn two_populations_in_one_study_cannot_be_written() {
    let mut house = House::eight();
    let text = counts("two", "") + "\n[analysis.population]\nwhere = [{ column = \"sbp\", max = 200 }]\n";
    let reply = house.cmd("gb", node::Command::StudySubmit { file: "study.toml".into(), text });
    assert_eq!(reply.exit, 2, "{}", reply.text);
    assert!(reply.text.contains("population"), "{}", reply.text);
}

/// Differences are measured between populations of one dataset. Where a patient has withdrawn and all sites register
/// their rows again, the sum over the new dataset less that over the old one is the patient: so what was summed once is
/// not summed again under another name.
fn registered_again(rows: Rows) {
    let all = frames(&rows);
    let (_, target, _) = alone(&all);
    let fewer = without(&rows, &target.0, target.1);
    let mut house = setup(&rows).build();
    house.asked_of("old", &counts("old", ""), &SIX);
    let first = table(&house.output("old"));
    for id in SIX {
        let data = house.folder(id).join("data");
        std::fs::write(data.join("again.csv"), &fewer[id]).unwrap();
        let text = "name = \"again\"\ntitle = \"Rows\"\nsource = \"again.csv\"\nmapping = \"mapping.toml\"\n\
            dictionary = \"dictionary.toml\"\nlegal_basis = \"research (fictitious opinion)\"\n\
            purposes = [\"stroke-research\"]\nretention = \"2031-12-31\"\nprovenance = \"the trial\"\n\
            special_category = true\nimpact_assessment = \"fictitious\"\n";
        let file = data.join("again.toml").display().to_string();
        house.must(id, node::Command::DatasetAdd { file, text: text.into() });
    }
    house.settle();
    let text = counts("new", "").replace("dataset = \"ist\"", "dataset = \"again\"");
    house.ask(&text);
    assert!(matches!(house.phase("new"), Some(charter::Phase::Refused { .. })), "{:?}", house.phase("new"));
    for id in SIX {
        let rules = &house.node("gb").state().studies["new"].proposed[id].rules;
        assert_eq!(rules, &["floor/floor.differences-guarded"], "{id}");
    }
    // The same program with the rule off: the two tables as the sites' rows give them.
    let second = unguarded(&text, &frames(&fewer));
    assert_eq!(first, unguarded(&text, &all));
    assert_eq!(isolate(&[first, second]), Some(cell_of(&all, &target)), "what it would have given");
}

#[test]
fn rows_registered_again_without_a_patient_are_not_summed_again() {
    registered_again(generated());
}

#[test]
fn rows_registered_again_without_a_patient_of_the_real_trial_are_not_summed_again() {
    if let Some(rows) = real("rows_registered_again_without_a_patient_of_the_real_trial_are_not_summed_again")
    {
        registered_again(rows);
    }
}

#[test]
fn a_population_asked_twice_does_not_stand_in_the_way_of_another() {
    let rows = generated();
    let populations = [String::new(), String::new(), pressure(None, Some(160))];
    let (house, tables) = chain(&rows, &populations);
    assert_eq!(tables.len(), 3, "{:?}", house.phase("part-2"));
    assert_eq!(tables[0], tables[1]);
    assert_ne!(tables[0], tables[2]);
}
