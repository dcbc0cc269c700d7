//! What people get wrong: the file, the place, what was found and what was expected; exit 2; and nothing changed.

use crate::command::{Said, at, comity, files, scratch};
use crate::demo::{copy, demo};
use crate::federation::Federation;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Contents of all files of a folder save those that a running process writes by itself.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let own = |file: &PathBuf| {
        let name = file.file_name().unwrap().to_string_lossy().to_string();
        !(name.starts_with("store.db") || name.starts_with("hub.db"))
    };
    files(dir).into_iter().filter(own).map(|f| (f.clone(), std::fs::read(dir.join(&f)).unwrap())).collect()
}

/// Exit 2, nothing on standard output, and the message has all its parts.
fn refused(said: Said, parts: &[&str]) {
    let mut said = said.exits(2);
    assert_eq!(said.out, "");
    for part in parts.iter().chain(&["found ", "expected "]) {
        said = said.says(part);
    }
}

/// A place in a text: `line:column` of the first time that it holds `what`.
fn place(text: &str, what: &str) -> String {
    let before = &text[..text.find(what).unwrap()];
    format!(
        ":{}:{}: ",
        before.matches('\n').count() + 1,
        before.rsplit('\n').next().unwrap().chars().count() + 1
    )
}

fn line(text: &str, what: &str) -> String {
    format!(":{}: ", text[..text.find(what).unwrap()].matches('\n').count() + 1)
}

struct House {
    it: Federation,
    before: Option<(serde_json::Value, serde_json::Value, BTreeMap<PathBuf, Vec<u8>>)>,
}

impl House {
    fn state(&self) -> (serde_json::Value, serde_json::Value, BTreeMap<PathBuf, Vec<u8>>) {
        let status = self.it.ask("se", "node status", &[]);
        let lists = ["dataset list", "study list", "policy show"].map(|verb| self.it.ask("se", verb, &[]));
        (status["size"].clone(), serde_json::json!(lists), contents(&self.it.path("se")))
    }

    /// Where text is written for a command of `se`, outside of its folder.
    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.it.path(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    fn refuses(&mut self, verb: &str, rest: &[&str], parts: &[&str]) {
        let before = self.before.take().unwrap_or_else(|| self.state());
        refused(self.it.at("se", verb, rest), parts);
        let now = self.state();
        assert_eq!(now, before, "`{verb}` changed something");
        self.before = Some(now);
    }
}

fn read(path: PathBuf) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_served_node_refuses_what_is_malformed_with_its_place_and_changes_nothing() {
    let it = Federation::agree(&[("gb", "GB"), ("ch", "CH"), ("se", "SE")]);
    copy(&demo().node("gb").join("data"), &it.path("gb").join("data"));
    copy(&demo().node("se").join("data"), &it.path("good"));
    it.at("gb", "dataset add", &[&it.path("gb").join("data/dataset.toml").display().to_string()]).exits(0);
    crate::command::until("the dictionary at se", || {
        (!it.ask("se", "dataset list", &[]).as_array().unwrap().is_empty()).then_some(())
    });
    let mut house = House { it, before: None };

    // Studies.
    let study =
        read(demo().dir.join("studies/aspirin.toml")).replace("requester = \"gb\"", "requester = \"se\"");
    let studies = [
        ("no TOML", study.replace("[protection]", "[protection"), None, "[protection"),
        ("an unknown key", study.replace("purpose =", "weather = \"fine\"\npurpose ="), None, "weather"),
        ("a number as text", study.replace("min_cell = 11", "min_cell = \"11\""), None, "\"11\""),
        (
            "a formula",
            study.replace("age + sex + sbp + delay", "age + + sbp + delay"),
            Some("expected a term"),
            "+ sbp + delay",
        ),
        (
            "an unknown column",
            study.replace("columns = [\"age\", \"sbp\"]", "columns = [\"age\", \"weight\"]"),
            None,
            "\"weight\"",
        ),
        ("an unknown level", study.replace("aspirin=yes", "aspirin=always"), None, "\"aspirin=always\""),
    ];
    for (what, text, words, wrong) in &studies {
        assert_ne!(text, &study, "{what}");
        let file = house.file("bad-study.toml", text);
        for verb in ["study check", "study submit"] {
            let place = format!("bad-study.toml:{}", place(text, wrong).split(':').nth(1).unwrap());
            house.refuses(verb, &[&file], &[&place, words.unwrap_or("found")]);
        }
    }
    let bytes = [study.as_bytes(), b"# \xff\n"].concat();
    let file = house.file("bad-study.toml", bytes);
    house.refuses(
        "study submit",
        &[&file],
        &["bad-study.toml: found bytes that are no text, expected UTF-8"],
    );
    let other = house.file("other.toml", read(demo().dir.join("studies/aspirin.toml")));
    house.refuses("study submit", &[&other], &["other.toml: found requester `gb`, expected `se`"]);
    let other = house.file("other.toml", study.replace("ist-core/1", "ist-core/7"));
    house.refuses("study check", &[&other], &["other.toml: found dictionary `ist-core/7`"]);

    // Datasets: description, dictionary, mapping, rows.
    let bad = house.it.path("bad");
    let mut case = |name: &str, from: &str, to: &str, wanted: &dyn Fn(&str) -> String, words: &str| {
        let _ = std::fs::remove_dir_all(&bad);
        copy(&house.it.path("good"), &bad);
        let text = read(bad.join(name));
        assert!(text.contains(from), "{name} has `{from}`");
        let text = text.replacen(from, to, 1);
        std::fs::write(bad.join(name), &text).unwrap();
        let wanted = format!("{name}{}", wanted(&text));
        let description = bad.join("dataset.toml").display().to_string();
        house.refuses("dataset add", &[&description], &[&wanted, words]);
    };
    case(
        "dataset.toml",
        "legal_basis",
        "lawful_basis",
        &|t| line(t, "lawful_basis"),
        "unknown field `lawful_basis`",
    );
    case("dataset.toml", "2031-12-31", "31 December", &|_| ": ".into(), "found retention `31 December`");
    case(
        "dictionary.toml",
        "max = 120",
        "max = -1",
        &|t| place(t, "-1\n"),
        "found `max = -1` below `min = 0`",
    );
    case("dictionary.toml", "max_rows = 8192", "max_rows = 8000", &|t| place(t, "8000"), "`8000`");
    case("mapping.toml", "F = \"female\"", "F = \"femme\"", &|t| place(t, "\"femme\""), "`femme`");
    case(
        "mapping.toml",
        "[column.sex]",
        "[column.gender]\nfrom = \"SEX\"\n\n[column.sex]",
        &|t| line(t, "[column.gender]").trim_end().into(),
        "`gender`",
    );
    case(
        "mapping.toml",
        "age = \"81\" }",
        "age = \"18\" }",
        &|_| ": example 1".into(),
        "found `81`, expected `18`",
    );

    let csv = read(house.it.path("good").join("ist.csv"));
    let rows: Vec<&str> = csv.lines().collect();
    let mut source = |bytes: Vec<u8>, parts: &[&str]| {
        let _ = std::fs::remove_dir_all(&bad);
        copy(&house.it.path("good"), &bad);
        std::fs::write(bad.join("ist.csv"), bytes).unwrap();
        let description = bad.join("dataset.toml").display().to_string();
        house.refuses("dataset add", &[&description], parts);
    };
    let with = |at: usize, row: String| -> Vec<u8> {
        let mut rows: Vec<String> = rows.iter().map(|r| r.to_string()).collect();
        rows[at] = row;
        (rows.join("\n") + "\n").into_bytes()
    };
    let fields = rows[0].split(',').count();
    let short = rows[4].rsplit_once(',').unwrap().0.to_string();
    source(with(4, short), &["ist.csv:5: ", &format!("found {} fields, expected {fields}", fields - 1)]);
    let mut bytes = with(2, rows[2].to_string());
    let third = rows[0].len() + rows[1].len() + 2;
    bytes[third] = 0xff;
    source(bytes, &["ist.csv:3: ", "found field 1 that is not UTF-8"]);
    let sex = rows[0].split(',').position(|f| f == "SEX").unwrap();
    let mut unmapped: Vec<&str> = rows[7].split(',').collect();
    unmapped[sex] = "X";
    let field = format!("field {} (SEX) for `sex`: found `X`", sex + 1);
    source(with(7, unmapped.join(",")), &["ist.csv:8: ", &field]);
    source(with(0, rows[0].replace("SEX", "GENDER")), &["ist.csv:1: ", "found no column `SEX`"]);

    // Schedules.
    let schedule = read(Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/schedules/EU.toml"));
    let at_rules = schedule.find("rules = '''\n").unwrap() + "rules = '''\n".len();
    let permit = "@id(\"eu.all\")\npermit (principal, action, resource);\n";
    let text = format!("{}{permit}{}", &schedule[..at_rules], &schedule[at_rules..]);
    let file = house.file("permit.toml", &text);
    let wanted = format!("permit.toml:{}", place(&text, "permit (principal").split(':').nth(1).unwrap());
    house.refuses("policy adopt", &[&file], &[&wanted, "permit"]);
    refused(comity(["policy", "check", &file]), &[&wanted, "permit"]);
    let other = house
        .file("other.toml", read(Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/schedules/AU.toml")));
    house.refuses(
        "policy adopt",
        &[&other],
        &["other.toml: found a schedule for `AU`, expected one for `EU`"],
    );
    house.refuses(
        "policy confirm",
        &["--seat", "se-steward"],
        &["found seat `se-steward`, expected a counsel seat"],
    );

    // Ids that nobody gave.
    for verb in ["study show", "study result", "decide approve", "decide refuse"] {
        let before = house.state();
        house.it.at("se", verb, &["nothing"]).exits(2).says("found no study `nothing` on the record");
        assert_eq!(house.state(), before, "{verb}");
    }
    let before = house.state();
    house.it.at("se", "dataset pause", &["nothing"]).exits(2).says("found no dataset `nothing`");
    house.it.at("se", "bundle export", &["nothing"]).exits(2).says("found no study `nothing`");
    assert_eq!(house.state(), before);

    // And what was refused bars nothing: the sound dataset goes in.
    let good = house.it.path("good").join("dataset.toml").display().to_string();
    house.it.at("se", "dataset add", &[&good]).exits(0);
}

#[test]
fn a_malformed_or_foreign_charter_is_refused_with_its_place_and_joins_nobody() {
    let dir = scratch();
    let node = dir.path().join("gb");
    at(&node, "node init", &["--id", "gb", "--name", "Tested", "--jurisdiction", "GB"]).exits(0);
    let sound = read(demo().dir.join("charter.toml"));
    let file = dir.path().join("charter.toml");
    let name = file.display().to_string();
    let before = contents(dir.path());
    let same = || {
        let mut now = contents(dir.path());
        now.remove(Path::new("charter.toml"));
        assert_eq!(now, before);
    };
    let cases = [
        (sound.replace("sunset = \"2031-12-31\"", "sunset = \"2031-12-32\""), "sunset", "`2031-12-32`"),
        (sound.replace("quorum = 8", "quorum = 10"), "quorum", "found quorum `10`, expected 1 to 9"),
        (sound.replace("id = \"pl\"", "id = \"Poland\""), "\"Poland\"", "`Poland`"),
        (sound.replace("title = ", "titel = "), "titel", "unknown field `titel`"),
        (sound.replacen("sign = \"", "sign = \"zz", 1), "\"zz", ""),
        (sound.replace("[limits]", "[limits"), "[limits", ""),
    ];
    for (text, wrong, words) in cases {
        assert_ne!(text, sound);
        std::fs::write(&file, &text).unwrap();
        let place = if wrong.is_empty() {
            "charter.toml:".into()
        } else {
            format!("charter.toml{}", line(&text, wrong).trim_end())
        };
        refused(comity(["charter", "check", &name]), &[&place, words]);
        refused(at(&node, "node join", &["--charter", &name, "--hub", "127.0.0.1:1"]), &[&place, words]);
        same();
    }
    // Sound, but another's keys stand in it for this member.
    std::fs::write(&file, &sound).unwrap();
    let said = at(&node, "node join", &["--charter", &name, "--hub", "127.0.0.1:1"]);
    said.exits(2).says("charter.toml: found other keys for `gb` than this node's").says("member.toml");
    same();
    let stranger = dir.path().join("xx");
    at(&stranger, "node init", &["--id", "xx", "--name", "Tested", "--jurisdiction", "GB"]).exits(0);
    let said = at(&stranger, "node join", &["--charter", &name, "--hub", "127.0.0.1:1"]);
    said.exits(2).says("names no member `xx`");
    assert!(!stranger.join("charter.toml").exists());
}

#[test]
fn a_folder_that_holds_something_else_is_left_as_it_is() {
    let dir = scratch();
    let foreign = dir.path().join("photographs");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("cat.txt"), "miaow").unwrap();
    let name = foreign.display().to_string();
    let before = contents(dir.path());
    let same = || assert_eq!(contents(dir.path()), before);

    comity(["demo", "--dir", &name]).exits(2).says("is not empty and holds no earlier demo");
    same();
    // A federation made by hand looks much like a demo, and is somebody's.
    for file in ["charter.toml", "aspirin.bundle"] {
        std::fs::write(foreign.join(file), "by hand").unwrap();
    }
    let by_hand = contents(dir.path());
    comity(["demo", "--dir", &name]).exits(2).says("holds no earlier demo");
    assert_eq!(contents(dir.path()), by_hand);
    for file in ["charter.toml", "aspirin.bundle"] {
        std::fs::remove_file(foreign.join(file)).unwrap();
    }
    for verb in ["node status", "node serve", "node stop", "record verify", "study list"] {
        at(&foreign, verb, &[])
            .exits(2)
            .says("is not a node's folder: found no node.toml, expected one made by");
        same();
    }
    let none = dir.path().join("none");
    at(&none, "node status", &[]).exits(2).says("is not a node's folder");
    for dir in [&foreign, &none] {
        comity(["hub", "serve", "--dir", &dir.display().to_string(), "--listen", "127.0.0.1:0"]).exits(2);
    }
    same();
    let missing = dir.path().join("missing.csv").display().to_string();
    comity(["demo", "--dir", &none.display().to_string(), "--data", &missing]).exits(2).says("missing.csv");
    same();

    // A member's folder and a hub's folder are not made twice.
    let node = dir.path().join("gb");
    let init = || at(&node, "node init", &["--id", "gb", "--name", "Tested", "--jurisdiction", "GB"]);
    init().exits(0);
    let hub = dir.path().join("hub").display().to_string();
    let hub_init = || {
        comity(["hub", "init", "--dir", &hub, "--federation", "f", "--operator", "o", "--jurisdiction", "NL"])
    };
    hub_init().exits(0);
    let before = contents(dir.path());
    init().exits(2).says("already holds a node; nothing was changed");
    hub_init().exits(2);
    at(&node, "node status", &[]).exits(2).says("has joined no federation yet; run `comity node join`");
    at(&dir.path().join("Gb"), "node init", &["--id", "Gb", "--name", "T", "--jurisdiction", "GB"])
        .exits(2)
        .says("found member id `Gb`, expected a short name");
    let mut now = contents(dir.path());
    now.remove(Path::new("gb/node.lock"));
    assert_eq!(now, before);
}

#[test]
fn a_file_that_is_no_bundle_is_not_called_a_broken_one() {
    let dir = scratch();
    let file = dir.path().join("letter.bundle");
    let name = file.display().to_string();
    for bytes in [&b"Dear auditor,\n"[..], b"", b"\x00\xff\x12"] {
        std::fs::write(&file, bytes).unwrap();
        refused(
            comity(["bundle", "verify", &name, "--charter", &demo().pin()]),
            &["letter.bundle: byte 0: "],
        );
        assert_eq!(std::fs::read(&file).unwrap(), bytes);
    }
    let none = dir.path().join("none").display().to_string();
    comity(["bundle", "verify", &none, "--charter", &demo().pin()]).exits(2).says("none");
    // Errors are data for machines too.
    let said = comity(["bundle", "verify", &name, "--json"]).exits(2).json();
    assert!(said["error"].as_str().unwrap().contains("letter.bundle"));
}
