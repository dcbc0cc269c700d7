//! The one binary, run as people run it.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const BINARY: &str = env!("CARGO_BIN_EXE_comity");

/// What a command said.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
    what: String,
}

impl Said {
    /// The same, if it ended with this code.
    pub fn exits(self, code: i32) -> Said {
        assert_eq!(self.code, code, "{}\n--- out\n{}\n--- err\n{}", self.what, self.out, self.err);
        self
    }

    /// The same, if it says this on either stream. Long errors are wrapped, so white space is taken as one.
    pub fn says(self, words: &str) -> Said {
        assert!(
            self.text().contains(words),
            "{} does not say `{words}`\n--- out\n{}\n--- err\n{}",
            self.what,
            self.out,
            self.err
        );
        self
    }

    /// Both streams on one line, without the frame that errors are printed in.
    pub fn text(&self) -> String {
        let all = format!("{}\n{}", self.out, self.err);
        all.split_whitespace().filter(|w| *w != "│").collect::<Vec<_>>().join(" ")
    }

    /// The JSON on standard output.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|e| panic!("{}: {e}\n--- out\n{}\n--- err\n{}", self.what, self.out, self.err))
    }
}

/// Runs a command to its end.
pub fn comity<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Said {
    let mut command = Command::new(BINARY);
    command.args(args).env("COLUMNS", "100").env("NO_COLOR", "1").stdin(Stdio::null());
    finished(command)
}

pub fn finished(mut command: Command) -> Said {
    let what = format!("{command:?}");
    let output = command.output().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
        what,
    }
}

/// `comity VERB... --node DIR REST...`
pub fn at(node: &Path, verb: &str, rest: &[&str]) -> Said {
    let node = node.display().to_string();
    let mut args: Vec<&str> = verb.split(' ').collect();
    args.extend(["--node", &node]);
    args.extend(rest);
    comity(args)
}

/// A process that ends with the test, however the test ends.
pub struct Process(Child);

impl Process {
    pub fn start(args: &[&str], out: &Path, err: &Path) -> Process {
        Process::start_in(Path::new("."), args, out, err)
    }

    /// As [`start`](Self::start), with another working folder.
    pub fn start_in(folder: &Path, args: &[&str], out: &Path, err: &Path) -> Process {
        let append = |path: &Path| std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        let child = Command::new(BINARY)
            .current_dir(folder)
            .args(args)
            .env("COMITY_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(append(out))
            .stderr(append(err))
            .spawn()
            .unwrap();
        Process(child)
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// SIGKILL, and gone.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Sends a signal by name, for example `STOP`.
    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Looks until there is something. The limit is only there so that a broken system fails instead of hanging.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(150), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(40));
    }
}

/// A fresh folder with a short name (sockets have short paths), gone with the test.
pub fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("comity-").tempdir().unwrap()
}

/// All files under a folder, by path relative to it.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                found.push(path.strip_prefix(dir).unwrap().to_path_buf());
            }
        }
    }
    found.sort();
    found
}
