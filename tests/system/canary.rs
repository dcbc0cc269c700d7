//! One way out: values planted in one site's data are in nothing that left its folder.

use crate::command::{files, until};
use crate::federation::{CROSSTAB, EIGHT, Federation, LOGISTIC};
use std::path::Path;

const COLUMN: &str = "Canary-In-An-Unmapped-Column";
const CODE: &str = "Canary-In-A-Mapped-Column";
const NAME: &str = "canary-in-a-file-name";
const LATE: &str = "Canary-That-No-Rule-Expects";

/// The ways in which bytes may hide in a file: as they are, in hexadecimal, in base64 at each of three offsets.
fn needles(text: &str) -> Vec<Vec<u8>> {
    let hex: String = text.bytes().map(|b| format!("{b:02x}")).collect();
    let mut all =
        vec![text.as_bytes().to_vec(), text.to_uppercase().into_bytes(), text.to_lowercase().into_bytes()];
    all.extend([hex.to_uppercase().into_bytes(), hex.into_bytes()]);
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for skip in 0..3 {
        let (groups, _) = text.as_bytes()[skip..].as_chunks::<3>();
        let coded = groups.iter().flat_map(|[a, b, c]| {
            let bits = u32::from_be_bytes([0, *a, *b, *c]);
            [18, 12, 6, 0].map(|shift| ALPHABET[(bits >> shift) as usize & 63])
        });
        all.push(coded.collect());
    }
    all
}

fn holds(bytes: &[u8], text: &str) -> bool {
    needles(text).iter().any(|n| bytes.windows(n.len()).any(|w| w == n.as_slice()))
}

/// Files under a folder that hold the text, in their content or name, except under `spare`.
fn found(dir: &Path, text: &str, spare: &str) -> Vec<String> {
    let spared = |file: &Path| !spare.is_empty() && file.starts_with(spare);
    files(dir)
        .into_iter()
        .filter(|file| !spared(file))
        .filter(|file| {
            let bytes = std::fs::read(dir.join(file)).unwrap_or_default();
            holds(&bytes, text) || holds(file.display().to_string().as_bytes(), text)
        })
        .map(|file| file.display().to_string())
        .collect()
}

/// Plants values in the rows, the mapping and the file names of one member.
fn plant(node: &Path) {
    let data = node.join("data");
    let read = |name: &str| std::fs::read_to_string(data.join(name)).unwrap();
    let csv = read("ist.csv");
    let mut lines = csv.lines();
    let header = lines.next().unwrap();
    let sex = header.split(',').position(|name| name == "SEX").unwrap();
    let mut planted = format!("{header},NOTE\n");
    for (number, line) in lines.enumerate() {
        let mut fields: Vec<&str> = line.split(',').collect();
        if fields[sex] == "M" && number % 2 == 0 {
            fields[sex] = CODE;
        }
        planted.push_str(&format!("{},{COLUMN}\n", fields.join(",")));
    }
    assert!(planted.contains(CODE));
    std::fs::write(data.join(format!("{NAME}.csv")), planted).unwrap();
    std::fs::remove_file(data.join("ist.csv")).unwrap();
    let mapping = read("mapping.toml");
    let rule = "recode = { F = \"female\", M = \"male\" }";
    assert!(mapping.contains(rule));
    let mapping =
        mapping.replace(rule, &format!("recode = {{ F = \"female\", M = \"male\", {CODE} = \"male\" }}"));
    std::fs::write(data.join(format!("{NAME}.toml")), mapping).unwrap();
    std::fs::remove_file(data.join("mapping.toml")).unwrap();
    let dataset = read("dataset.toml")
        .replace("source = \"ist.csv\"", &format!("source = \"{NAME}.csv\""))
        .replace("mapping = \"mapping.toml\"", &format!("mapping = \"{NAME}.toml\""));
    assert_eq!(dataset.matches(NAME).count(), 2);
    std::fs::write(data.join("dataset.toml"), dataset).unwrap();
}

/// Everything that other sites can be told by their own commands.
fn told(it: &Federation, study: &str) -> String {
    let mut all = String::new();
    for id in it.ids().into_iter().filter(|id| *id != "it") {
        let file = it.path(&format!("{study}.toml")).display().to_string();
        for (verb, rest) in [
            ("node status", vec![]),
            ("node egress", vec![]),
            ("record list", vec![]),
            ("record verify", vec![]),
            ("dataset list", vec![]),
            ("dataset show", vec!["ist@it"]),
            ("study show", vec![study]),
            ("study result", vec![study]),
            ("study check", vec![&file]),
            ("decide list", vec![]),
        ] {
            let rest: Vec<&str> = rest.into_iter().chain(["--json"]).collect();
            let said = it.at(id, verb, &rest);
            all.push_str(&said.out);
            all.push_str(&said.err);
        }
        if id == "gb" {
            let size = it.ask(id, "record list", &[]).as_array().unwrap().len();
            for index in 0..size {
                all.push_str(&it.at(id, "record show", &[&index.to_string()]).out);
            }
        }
    }
    all
}

fn nowhere(it: &Federation, told: &str, canaries: &[&str]) {
    for canary in canaries {
        assert!(
            !found(&it.path("it"), canary, "").is_empty(),
            "{canary} is at its own site, so the search works"
        );
        assert_eq!(found(it.root(), canary, "it"), Vec::<String>::new(), "{canary} outside of its site");
        assert_eq!(found(it.logs(), canary, ""), Vec::<String>::new(), "{canary} in a log");
        assert!(!holds(told.as_bytes(), canary), "{canary} was told at another site");
    }
}

#[test]
fn no_planted_value_leaves_its_site_and_a_source_that_stops_fitting_holds_up_nothing_else() {
    let it = Federation::ready_with(&EIGHT, |it| plant(&it.path("it")));
    it.submit("first", &format!("{CROSSTAB}\n{LOGISTIC}"));
    it.approve("first", it.ids());
    assert_eq!(it.result("first")["contributors"].as_array().unwrap().len(), 8);
    for id in ["gb", "it"] {
        let out = it.path(&format!("{id}.bundle")).display().to_string();
        it.at(id, "bundle export", &["first", "--out", &out]).exits(0);
    }
    // The search finds what is there: a public word, in the hub's files as it is and in a bundle in base64.
    let public = found(it.root(), "stroke-research", "it");
    assert!(public.iter().any(|f| f.starts_with("hub/")), "{public:?}");
    assert!(public.contains(&"it.bundle".to_string()), "{public:?}");
    let all = told(&it, "first");
    assert!(holds(all.as_bytes(), "ist@it"));
    nowhere(&it, &all, &[COLUMN, CODE, NAME]);

    // A value that no rule expects comes in after registration. The site fails its next study, says so in its own
    // log without the value, and goes on with everything else.
    let csv = it.path("it").join("data").join(format!("{NAME}.csv"));
    let text = std::fs::read_to_string(&csv).unwrap();
    std::fs::write(&csv, text.replace(CODE, LATE)).unwrap();
    it.submit("second", CROSSTAB);
    it.approve("second", it.ids());
    let log = it.logs().join("it.log");
    until("the site to say that its source does not fit", || {
        let said = std::fs::read_to_string(&log).unwrap();
        said.contains("the dataset's source does not fit its registered mapping").then_some(())
    });
    it.submit("third", CROSSTAB);
    assert_eq!(it.left("it", "second"), Vec::<serde_json::Value>::new(), "nothing of it left");
    let all = told(&it, "second");
    nowhere(&it, &all, &[COLUMN, NAME, LATE]);
}
