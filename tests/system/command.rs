//! The one binary, run as people run it.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The command. Examples, for whom cargo does not name it, find it beside themselves, or where `COMITY` says.
pub fn binary() -> PathBuf {
    if let Some(path) = option_env!("CARGO_BIN_EXE_comity") {
        return path.into();
    }
    if let Some(path) = std::env::var_os("COMITY") {
        return path.into();
    }
    let example = std::env::current_exe().unwrap();
    example.ancestors().nth(2).unwrap().join("comity")
}

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
    let mut command = Command::new(binary());
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
        Process::start_in(args, (out, err), &[("COMITY_LOG", "debug".as_ref())])
    }

    pub fn start_in(args: &[&str], to: (&Path, &Path), environment: &[(&str, &Path)]) -> Process {
        Process::start_at(Path::new("."), args, to, environment)
    }

    /// As [`start_in`](Self::start_in), with another working folder.
    pub fn start_at(
        folder: &Path,
        args: &[&str],
        (out, err): (&Path, &Path),
        environment: &[(&str, &Path)],
    ) -> Process {
        let append = |path: &Path| std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        let child = Command::new(binary())
            .current_dir(folder)
            .args(args)
            .envs(environment.iter().copied())
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

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.0.try_wait().unwrap()
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
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    looks(what, Duration::from_millis(40), look)
}

/// The same for what costs little to look at and comes soon.
pub fn soon<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    looks(what, Duration::from_millis(2), look)
}

fn looks<T>(what: &str, pause: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(150), "waited in vain for {what}");
        std::thread::sleep(pause);
    }
}

/// A port that was free a moment ago, below those that systems give to whoever calls out: it must still be free when
/// a process that was killed is started again.
pub fn address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    loop {
        let port = 12_000 + first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let address = format!("127.0.0.1:{port}");
        if std::net::TcpListener::bind(&address).is_ok() {
            return address;
        }
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
