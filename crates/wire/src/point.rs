//! Named points at which a process under test dies: between two steps, by SIGKILL.
//!
//! Two variables of the environment arm a process; each names a file, and nobody gains by either: who sets the
//! environment of a process can kill it anyway. Without them a point costs one load.
//!
//! - [`VARIABLE`]: it kills itself at each point that it passes and that the file does not name yet, after it has
//!   written the name there. So a supervisor that starts it again and again sees it die once at every point on its way,
//!   and then no more.
//! - [`AIM`]: it dies once, where the file says: `PASSING NAME`, for example `3 written, not shown`. Names that begin
//!   with the words count, and so many of them are passed alive. The file may be written while the process runs; the
//!   death is noted in it as `died NAME`, so that the next start lives.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

/// The variable that names the file of points died at.
pub const VARIABLE: &str = "COMITY_DIE_ONCE";
/// The variable that names the file with the one point to die at.
pub const AIM: &str = "COMITY_DIE_AT";
/// What a noted death begins with, in the file that [`AIM`] names.
pub const DIED: &str = "died ";

enum Armed {
    Once(PathBuf),
    Aimed(PathBuf),
}

fn how() -> Option<&'static Armed> {
    static HOW: OnceLock<Option<Armed>> = OnceLock::new();
    let read = || {
        let file = |name| std::env::var_os(name).map(PathBuf::from);
        file(VARIABLE).map(Armed::Once).or_else(|| file(AIM).map(Armed::Aimed))
    };
    HOW.get_or_init(read).as_ref()
}

/// Whether this process is to die at points; spares work for names that nobody asks for.
pub fn armed() -> bool {
    how().is_some()
}

/// Dies here, if this process is to: `step` names the place in the code, `what` the statement type, kind of frame or
/// other detail of what is being done, empty if there is none.
pub fn point(step: &str, what: &str) {
    /// One thread dies at a time, so that each death has one name. Holds how often the aim was passed.
    static DYING: Mutex<u64> = Mutex::new(0);
    let Some(how) = how() else { return };
    let mut passed = DYING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let name = if what.is_empty() { step.to_string() } else { format!("{step} {what}") };
    let noted = match how {
        Armed::Once(path) => once(path, &name),
        Armed::Aimed(path) => aimed(path, &name, &mut passed),
    };
    // A death that cannot be noted would come again for ever.
    if noted {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // The signal is on its way; nothing more is done here.
        loop {
            std::thread::park();
        }
    }
}

/// Notes a death at a point that the file does not name yet.
fn once(path: &Path, name: &str) -> bool {
    let known = std::fs::read_to_string(path).unwrap_or_default();
    if known.lines().any(|line| line == name) {
        return false;
    }
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| writeln!(file, "{name}").and_then(|()| file.sync_all())).is_ok()
}

/// Notes a death where the file says, the so-manieth time.
fn aimed(path: &Path, name: &str, passed: &mut u64) -> bool {
    let Ok(text) = std::fs::read_to_string(path) else { return false };
    let Some(passing) = hits(text.trim_end(), name) else { return false };
    *passed += 1;
    *passed >= passing && std::fs::write(path, format!("{DIED}{name}\n")).is_ok()
}

/// At which passing to die, if the aim is at this point.
fn hits(aim: &str, name: &str) -> Option<u64> {
    let (passing, words) = aim.split_once(' ')?;
    let rest = name.strip_prefix(words)?;
    let whole = rest.is_empty() || rest.starts_with(' ');
    passing.parse().ok().filter(|_| whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_names_a_point_by_its_whole_words_and_a_noted_death_is_no_aim() {
        assert_eq!(hits("3 written, not shown", "written, not shown node.stop@1"), Some(3));
        assert_eq!(hits("1 written, not shown node.stop@1", "written, not shown node.stop@1"), Some(1));
        assert_eq!(hits("1 written, not", "written, nothing"), None);
        assert_eq!(hits("1 written, not shown node.stop@1", "written, not shown"), None);
        for aim in ["", "written, not shown", "died written, not shown", "-1 opened"] {
            assert_eq!(hits(aim, aim.split_once(' ').map_or("", |(_, rest)| rest)), None, "{aim}");
        }
    }
}
