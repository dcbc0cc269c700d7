//! A2: the same question to everybody, and to everybody but one site that holds one patient.

use super::*;
use charter::Phase;
use node::control::Command;

/// The six and a site of one patient.
const SEVEN: [&str; 7] = ["gb", "it", "pl", "nl", "be", "se", "fr"];

/// The six as they are, and one patient of France at `fr`.
fn with_one(mut rows: Rows, france: &str) -> Rows {
    let one: Vec<&str> = france.lines().take(2).collect();
    rows.insert("fr".into(), one.join("\n") + "\n");
    rows
}

fn house(rows: &Rows) -> House {
    let mut setup = setup(rows);
    setup.members.push(("fr".into(), "FR".into(), rows.get("fr").cloned()));
    setup.build()
}

/// What the second of two runs may not do: sums of it open, a table of it come out.
fn nothing_of(house: &House, study: &str) {
    for kind in ["contribution", "aggregate", "opening", "output"] {
        assert!(house.frames(kind).iter().all(|f| f.place.study != study), "{kind} of {study}");
    }
}

/// Asks two studies one after another and gives their tables. `yes` are the stewards who say so to the second.
fn two(
    rows: &Rows,
    first: &[&str],
    second: &[&str],
    minimum: usize,
    yes: &[&str],
) -> (House, Vec<[Option<u64>; 4]>) {
    let mut house = house(rows);
    house.asked_of("first", &counts_of("first", first, first.len(), ""), first);
    assert!(house.released("first"), "{:?}", house.phase("first"));
    let mut tables = vec![table(&house.output("first"))];
    house.ask(&counts_of("second", second, minimum, ""));
    for id in second {
        // A steward may only say yes where its own gate does; the node says so, and the program tries on.
        let command = if yes.contains(id) {
            Command::DecideApprove { study: "second".into() }
        } else {
            Command::DecideRefuse { study: "second".into() }
        };
        house.cmd(id, command);
    }
    house.settle_or(200);
    // Those who have not voted by the deadline are left out.
    house.now += 73 * 3_600_000;
    house.refresh();
    house.settle_or(200);
    if house.released("second") {
        let output = house.output("second");
        tables.push(table(&output));
    }
    (house, tables)
}

fn attack(rows: Rows, france: &str) {
    let rows = with_one(rows, france);
    let all = frames(&rows);
    let patient = ("fr".to_string(), 0);
    let pooled = [&SEVEN[..], &SIX[..]].map(|who| unguarded(&counts_of("s", who, who.len(), ""), &all));
    assert_eq!(isolate(&pooled), Some(cell_of(&all, &patient)), "with the rule off it does");

    // The site is not named in the second study: it is not even asked.
    let (house, tables) = two(&rows, &SEVEN, &SIX, 6, &SIX);
    assert!(matches!(house.phase("second"), Some(Phase::Refused { .. })), "{:?}", house.phase("second"));
    assert_eq!(
        house.node("gb").state().studies["second"].proposed["it"].rules,
        ["floor/floor.contributor-sets"]
    );
    nothing_of(&house, "second");
    assert_eq!(isolate(&tables), None);

    // The site is named and says no, which the study is content with: the set of the run is then all but one.
    let (house, tables) = two(&rows, &SEVEN, &SEVEN, 6, &SIX);
    assert!(!house.released("second"));
    nothing_of(&house, "second");
    assert_eq!(isolate(&tables), None);

    // The other way round: first without it, then with it.
    let (house, tables) = two(&rows, &SIX, &SEVEN, 7, &SEVEN);
    assert!(matches!(house.phase("second"), Some(Phase::Refused { .. })), "{:?}", house.phase("second"));
    nothing_of(&house, "second");
    assert_eq!(isolate(&tables), None);
}

#[test]
fn leaving_out_the_site_of_one_patient_isolates_nobody() {
    attack(generated(), &engine::generate::ist(&["FRAN"], 1991));
}

#[test]
fn leaving_out_the_site_of_one_patient_of_the_real_trial_isolates_nobody() {
    let test = "leaving_out_the_site_of_one_patient_of_the_real_trial_isolates_nobody";
    if let (Some(rows), Some(csv)) = (real(test), shared("ist/ist_core.csv", test)) {
        let parts = engine::split::by_column(&csv, "COUNTRY").unwrap();
        attack(rows, &parts["FRAN"]);
    }
}

#[test]
fn the_same_seven_again_are_answered() {
    let rows = with_one(generated(), &engine::generate::ist(&["FRAN"], 1991));
    let (house, tables) = two(&rows, &SEVEN, &SEVEN, 7, &SEVEN);
    assert!(house.released("second"), "the control of the tests above: {:?}", house.phase("second"));
    assert_eq!((tables.len(), isolate(&tables)), (2, None));
}
