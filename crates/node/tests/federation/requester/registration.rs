//! A5: a registration as a way out. What a site says of itself must be the same whoever its patients are.

use super::*;
use charter::body::DatasetRegister;
use node::control::Command;
use record::Digest;

fn registrations(house: &House) -> BTreeMap<String, DatasetRegister> {
    house.said(DatasetRegister::TYPE).into_iter().map(|s| (s.issuer.clone(), s.body_as().unwrap())).collect()
}

/// The first patients of a site alone.
fn only(rows: &Rows, site: &str, patients: usize) -> Rows {
    let mut rows = rows.clone();
    let csv = rows.get_mut(site).unwrap();
    let kept: Vec<&str> = csv.lines().take(patients + 1).collect();
    *csv = kept.join("\n") + "\n";
    rows
}

fn attack(rows: Rows) {
    let one_less = without(&rows, "pl", 0);
    let (alone, nobody) = (only(&rows, "pl", 1), only(&rows, "pl", 0));
    let worlds = [&rows, &one_less, &alone, &nobody, &rows].map(|rows| setup(rows).build());
    let said = worlds.each_ref().map(registrations);
    let mut mappings: Vec<Digest> = Vec::new();
    for world in &said {
        for (site, own) in world {
            let mut first = said[0][site].clone();
            first.mapping = own.mapping;
            assert_eq!(&first, own, "{site}");
            mappings.push(own.mapping);
        }
    }
    // All sites use one mapping, two worlds have the same rows, and no two digests are equal: they tell nothing.
    let distinct: BTreeSet<&Digest> = mappings.iter().collect();
    assert_eq!((mappings.len(), distinct.len()), (30, 30));
    assert!(!distinct.contains(&Digest::of(crate::house::MAPPING.as_bytes())));
    // All that `gb` can read before a study is asked is the same too.
    let [first, rest @ ..] = worlds;
    let mut first = first;
    let expected = first.visible(&[]);
    for mut world in rest {
        let found = world.visible(&[]);
        let off = expected.lines().zip(found.lines()).find(|(a, b)| a != b);
        assert_eq!((off, found.len()), (None, expected.len()));
    }
}

#[test]
fn a_site_registers_alike_with_a_patient_without_and_with_nobody_else() {
    attack(generated());
}

#[test]
fn a_site_registers_alike_with_a_patient_of_the_real_trial_without_and_with_nobody_else() {
    if let Some(rows) =
        real("a_site_registers_alike_with_a_patient_of_the_real_trial_without_and_with_nobody_else")
    {
        attack(rows);
    }
}

#[test]
fn the_count_of_rows_is_told_to_a_sites_own_people_alone() {
    let mut house = setup(&generated()).build();
    let file = house.folder("pl").join("data").join("again.toml");
    let text = "name = \"again\"\ntitle = \"Rows\"\nsource = \"ist.csv\"\nmapping = \"mapping.toml\"\n\
        dictionary = \"dictionary.toml\"\nlegal_basis = \"research\"\npurposes = [\"stroke-research\"]\n\
        retention = \"2031-12-31\"\nprovenance = \"here\"\nspecial_category = true\n";
    let command = Command::DatasetAdd { file: file.display().to_string(), text: text.into() };
    let reply = house.must("pl", command);
    let rows = reply.data["rows_here"].as_u64().unwrap();
    assert!(rows > 400, "the node counts them: {rows}");
    house.settle();
    let shown = house.must("gb", Command::DatasetShow { name: "again@pl".into() });
    assert!(!format!("{} {}", shown.text, shown.data).contains(&rows.to_string()));
    let all = house.visible(&[]);
    assert!(
        all.contains("again") && !all.contains(&format!(" {rows} ")) && !all.contains(&format!(":{rows},"))
    );
}
