//! Stores in which a bit fell: it is named, and the copy is made good again from another one.

use crate::command::{Process, Said, comity, scratch, until};
use crate::demo::{copy, demo};
use rusqlite::{Connection, params};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Copies of folders of the demo.
fn copies(names: &[&str]) -> (TempDir, Vec<PathBuf>) {
    let dir = scratch();
    let folders = names.iter().map(|name| dir.path().join(name)).collect::<Vec<_>>();
    for (name, folder) in names.iter().zip(&folders) {
        copy(&demo().node(name), folder);
    }
    (dir, folders)
}

fn fsck(dir: &Path, rest: &[&str]) -> Said {
    let dir = dir.display().to_string();
    comity(["record", "fsck", &dir].iter().chain(rest))
}

/// Flips a bit of an entry in a store; gives how long the entry is.
fn flip(store: &Path, table: &str, index: i64, byte: usize) -> usize {
    let db = Connection::open(store).unwrap();
    let select = format!("select bytes from {table} where idx = ?1");
    let mut bytes: Vec<u8> = db.query_row(&select, [index], |row| row.get(0)).unwrap();
    bytes[byte] ^= 1;
    db.execute(&format!("update {table} set bytes = ?1 where idx = ?2"), params![bytes, index]).unwrap();
    bytes.len()
}

fn cosigned(node: &Path) -> String {
    let db = Connection::open(node.join("store.db")).unwrap();
    let read =
        db.query_row("select value from meta where key = 'cosigned'", [], |row| row.get::<_, Vec<u8>>(0));
    String::from_utf8(read.unwrap()).unwrap()
}

fn set_cosigned(node: &Path, note: &str) {
    let db = Connection::open(node.join("store.db")).unwrap();
    db.execute("update meta set value = ?1 where key = 'cosigned'", [note.as_bytes()]).unwrap();
}

#[test]
fn a_members_copy_that_fell_is_named_to_the_byte_and_rebuilt_from_a_member_or_a_bundle() {
    let (_dir, folders) = copies(&["gb", "it"]);
    let (gb, it) = (&folders[0], &folders[1]);
    fsck(gb, &[]).exits(0).says("CLEAN");
    let whole = fsck(gb, &["--json"]).exits(0).json();
    let before = cosigned(gb);

    // A byte of a statement, the last digit but one of a stamp, the note.
    for (byte, source) in [(300, it.clone()), (31, demo().bundle()), (32, it.clone())] {
        let length = flip(&gb.join("store.db"), "entries", 7, byte);
        let said = fsck(gb, &[]).exits(1).says(&format!("DAMAGED entry 7, byte {byte} of {length}"));
        assert_eq!(said.out.matches("DAMAGED").count(), 1, "{}", said.out);
        let against = fsck(gb, &["--json", "--against", &source.display().to_string()]).exits(1).json();
        assert_eq!(against["findings"][0]["byte"], byte);
        fsck(gb, &["--rebuild", "--from", &source.display().to_string()]).exits(0).says("CLEAN");
        assert_eq!(fsck(gb, &["--json"]).exits(0).json(), whole, "from {}", source.display());
        assert_eq!(cosigned(gb), before);
    }
    for number in 1..=3 {
        assert!(gb.join(format!("store.db.damaged-{number}")).exists());
    }
    fsck(gb, &["--rebuild", "--from", &it.display().to_string()]).exits(0).says("nothing is damaged");

    // Notes and entries that are gone.
    let db = Connection::open(gb.join("store.db")).unwrap();
    db.execute("update meta set value = substr(value, 1, 40) where key = 'checkpoint'", []).unwrap();
    db.execute("delete from entries where idx in (4, 9)", []).unwrap();
    drop(db);
    fsck(gb, &[])
        .exits(1)
        .says("DAMAGED entry 4: missing")
        .says("entry 9: missing")
        .says("note `checkpoint`");
    fsck(gb, &["--rebuild", "--from", &it.display().to_string()]).exits(0).says("CLEAN");
    assert_eq!(fsck(gb, &["--json"]).exits(0).json()["root"], whole["root"]);
    let verified = crate::command::at(gb, "record verify", &["--json"]).exits(0).json();
    assert_eq!(verified["valid"], true);
}

#[test]
fn a_rebuild_that_cannot_reach_what_was_cosigned_is_refused_and_changes_nothing() {
    let (_dir, folders) = copies(&["gb", "it"]);
    let (gb, it) = (&folders[0], folders[1].display().to_string());
    let sound = cosigned(gb);
    let words: Vec<&str> = sound.lines().next().unwrap().split(' ').collect();
    let (size, root) = (words[0], words[1]);
    let more = format!("{} {root}", size.parse::<u64>().unwrap() + 3);
    let other = format!("{size} {}", "ab".repeat(32));
    for (note, words) in [(more, "a fork must be looked at"), (other, "two histories")] {
        set_cosigned(gb, &note);
        fsck(gb, &[]).exits(1).says("DAMAGED");
        flip(&gb.join("store.db"), "entries", 5, 200);
        let said = fsck(gb, &["--rebuild", "--from", &it]).exits(1).says(words);
        assert!(said.out.contains("the store is as it was"), "{}", said.out);
        assert_eq!(cosigned(gb), note);
        fsck(gb, &[]).exits(1).says("DAMAGED entry 5");
        flip(&gb.join("store.db"), "entries", 5, 200);
    }
    // One that cannot be read at all can come from a backup alone.
    set_cosigned(gb, "nothing");
    fsck(gb, &["--rebuild", "--from", &it]).exits(2).says("restore this node from its backup");
    set_cosigned(gb, &sound);
    fsck(gb, &[]).exits(0);
}

#[test]
fn a_hub_and_a_member_are_rebuilt_from_one_another_and_a_folder_in_use_is_not_looked_at() {
    let (dir, folders) = copies(&["hub", "gb"]);
    let (hub, gb) = (&folders[0], &folders[1]);
    fsck(hub, &[]).exits(0).says("CLEAN");
    let length = flip(&hub.join("hub.db"), "entry", 11, 250);
    fsck(hub, &[]).exits(1).says(&format!("DAMAGED entry 11, byte 250 of {length}"));
    fsck(hub, &["--rebuild", "--from", &gb.display().to_string()]).exits(0).says("CLEAN");
    assert!(hub.join("hub.db.damaged-1").exists());
    fsck(hub, &["--rebuild", "--from", "hub"]).exits(2).says("a hub is rebuilt from a member's folder");

    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    let folder = hub.display().to_string();
    let mut served =
        Process::start(&["hub", "serve", "--dir", &folder, "--listen", "127.0.0.1:0"], &out, &err);
    let address = until("the hub", || {
        let said = std::fs::read_to_string(&out).ok()?;
        said.trim_end().rsplit_once("listens on ").map(|(_, address)| address.to_string())
    });
    fsck(hub, &[]).exits(2).says("in use");
    let config = std::fs::read_to_string(gb.join("node.toml")).unwrap();
    let config: Vec<String> = config
        .lines()
        .map(|l| if l.starts_with("hub = ") { format!("hub = \"{address}\"") } else { l.to_string() })
        .collect();
    std::fs::write(gb.join("node.toml"), config.join("\n")).unwrap();
    flip(&gb.join("store.db"), "entries", 0, 700);
    fsck(gb, &[]).exits(1).says("DAMAGED entry 0, byte 700");
    fsck(gb, &["--rebuild", "--from", "hub"]).exits(0).says("CLEAN");
    served.kill();
    fsck(gb, &[]).exits(0);
}

#[test]
fn a_page_of_the_store_that_fell_is_named_and_what_no_other_copy_has_is_kept() {
    let (_dir, folders) = copies(&["gb", "it"]);
    let (gb, it) = (&folders[0], folders[1].display().to_string());
    let store = gb.join("store.db");
    let db = Connection::open(&store).unwrap();
    db.execute_batch("pragma wal_checkpoint(truncate)").unwrap();
    let said_before: i64 = db.query_row("select count(*) from said", [], |r| r.get(0)).unwrap();
    // The first leaf page of the entries: its count of cells is made wrong.
    let root: i64 =
        db.query_row("select rootpage from sqlite_schema where name = 'entries'", [], |r| r.get(0)).unwrap();
    drop(db);
    let mut bytes = std::fs::read(&store).unwrap();
    let page = &mut bytes[(root as usize - 1) * 4096..];
    let child = u32::from_be_bytes(page[8..12].try_into().unwrap()) as usize;
    let child = if page[0] == 5 { child } else { root as usize };
    bytes[(child - 1) * 4096] = 0xff;
    std::fs::write(&store, bytes).unwrap();
    fsck(gb, &[]).exits(1).says("DAMAGED store:");
    fsck(gb, &["--rebuild", "--from", &it]).exits(0).says("CLEAN");
    let db = Connection::open(&store).unwrap();
    let said: i64 = db.query_row("select count(*) from said", [], |r| r.get(0)).unwrap();
    assert_eq!(said, said_before);
    // What is no node's and no hub's folder is not looked at.
    let empty = scratch();
    fsck(empty.path(), &[]).exits(2).says("is not a node's folder");
}

#[test]
fn a_kept_root_of_the_state_that_the_entries_do_not_give_is_named_and_computed_again() {
    let (_dir, folders) = copies(&["gb", "it"]);
    let (gb, it) = (&folders[0], folders[1].display().to_string());
    let verified = crate::command::at(gb, "record verify", &["--json"]).exits(0).json();
    let state = fsck(gb, &["--json"]).exits(0).json()["state"].clone();
    assert_eq!(state, verified["state"], "all is in force, so both fold the same");
    assert_eq!(state, fsck(Path::new(&it), &["--json"]).exits(0).json()["state"]);
    // As this build would have kept it at that size.
    let name = format!("root/{}/100", env!("CARGO_PKG_VERSION"));
    let put = |name: &str, value: &str| {
        let db = Connection::open(gb.join("store.db")).unwrap();
        db.execute("insert or replace into meta values(?1, ?2)", params![name, value.as_bytes()]).unwrap();
    };
    for (name, value) in [(name.as_str(), "ab".repeat(32)), ("cosigned-lines", "12\nno line\n".to_owned())] {
        put(name, &value);
        fsck(gb, &[]).exits(1).says("DAMAGED").says(name);
        fsck(gb, &["--rebuild", "--from", &it]).exits(0).says("CLEAN");
    }
    fsck(gb, &[]).exits(0).says(&format!("they fold to state {}", state.as_str().unwrap()));
}

#[test]
fn published_tiles_in_which_a_bit_fell_are_named_wherever_they_are_and_written_again() {
    let (dir, folders) = copies(&["hub", "gb"]);
    let (hub, gb) = (&folders[0], folders[1].display().to_string());
    let publish = |tiles: &[&str], published: &Path| {
        let (out, err) = (dir.path().join("out"), dir.path().join("err"));
        let folder = hub.display().to_string();
        let serve = ["hub", "serve", "--dir", &folder, "--listen", "127.0.0.1:0"];
        let mut served =
            Process::start_at(dir.path(), &[serve.as_slice(), tiles].concat(), (&out, &err), &[]);
        let note = until("the tiles", || std::fs::read_to_string(published.join("checkpoint")).ok());
        served.kill();
        note
    };
    // In the hub's own folder, and in one that is named from where the process runs.
    let (own, named) = (hub.join("tiles"), dir.path().join("public/tiles"));
    let note = publish(&["--tiles"], &own);
    assert_eq!(publish(&["--tiles", "public/tiles"], &named), note);
    for (published, option) in [(&own, vec![]), (&named, vec!["--tiles", named.to_str().unwrap()])] {
        fsck(hub, &option).exits(0).says("CLEAN");
        let tile = crate::command::files(&published.join("tile/0"))
            .into_iter()
            .map(|file| published.join("tile/0").join(file))
            .find(|file| file.display().to_string().contains(".p/"))
            .unwrap();
        let mut bytes = std::fs::read(&tile).unwrap();
        bytes[33] ^= 4;
        std::fs::write(&tile, bytes).unwrap();
        fsck(hub, &option).exits(1).says("DAMAGED").says("tile/0/000.p/").says("byte 33");
        let rebuild = [option.as_slice(), &["--rebuild", "--from", &gb]].concat();
        fsck(hub, &rebuild).exits(0).says("CLEAN");
        assert!(!tile.exists(), "a tile is written again by the hub that publishes it");
    }
    publish(&["--tiles"], &own);
    fsck(hub, &["--tiles", "no-such-folder"]).exits(2).says("no-such-folder");
    fsck(Path::new(&gb), &["--tiles", "public"]).exits(2).says("a node publishes none");
}
