//! Named points at which a process under test dies: between two steps, by SIGKILL, once at each.
//!
//! A process whose environment names a file in `COMITY_DIE_ONCE` kills itself at each point that it passes and that
//! the file does not name yet, after it has written the name there. So a supervisor that starts it again and again
//! sees it die once at every point on its way, and then no more. Nobody gains by it: who sets the environment of a
//! process can kill it anyway. Without the variable a point costs one load.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

/// The variable that names the file.
pub const VARIABLE: &str = "COMITY_DIE_ONCE";

fn file() -> Option<&'static PathBuf> {
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    FILE.get_or_init(|| std::env::var_os(VARIABLE).map(PathBuf::from)).as_ref()
}

/// Whether this process is to die at points; spares work for names that nobody asks for.
pub fn armed() -> bool {
    file().is_some()
}

/// Dies here, if this process is to and has not yet at this point: `step` names the place in the code, `what` the
/// statement type, kind of frame or other detail of what is being done, empty if there is none.
pub fn point(step: &str, what: &str) {
    /// One thread dies at a time, so that each death has one name.
    static DYING: Mutex<()> = Mutex::new(());
    let Some(path) = file() else { return };
    let _dying = DYING.lock();
    let name = if what.is_empty() { step.to_string() } else { format!("{step} {what}") };
    let known = std::fs::read_to_string(path).unwrap_or_default();
    if known.lines().any(|line| line == name) {
        return;
    }
    let noted = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| writeln!(file, "{name}").and_then(|()| file.sync_all()));
    // A death that cannot be noted would come again for ever.
    if noted.is_ok() {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // The signal is on its way; nothing more is done here.
        loop {
            std::thread::park();
        }
    }
}
