//! Who may die where, and what must be done so that the point is passed.

use fastrand::Rng;

/// Who dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Hub,
    Member,
}

/// What is done meanwhile, beside submitting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stir {
    /// Nothing.
    Nothing,
    /// A member stops itself and resumes: the one that is to die, if it is a member.
    Stop,
    /// Another member does.
    Hear,
    /// It attaches a sealed note.
    Note,
    /// It has one of its notes erased.
    Erase,
    /// It is killed from outside, to die again when it starts.
    Start,
}

/// A point, or the points that begin with these words.
#[derive(Clone, Copy, Debug)]
pub struct Aim {
    pub who: Who,
    pub point: &'static str,
    pub stir: Stir,
    /// Dies at the latest the so-manieth time.
    pub most: u64,
}

const fn hub(point: &'static str, stir: Stir, most: u64) -> Aim {
    Aim { who: Who::Hub, point, stir, most }
}

const fn member(point: &'static str, stir: Stir, most: u64) -> Aim {
    Aim { who: Who::Member, point, stir, most }
}

/// Those of a federation in which nobody takes over.
const AIMS: &[Aim] = &[
    // Append.
    hub("taken, not written", Stir::Nothing, 6),
    hub("written, not shown", Stir::Nothing, 6),
    hub("written, not shown node.resume@1", Stir::Nothing, 4),
    hub("written, not shown cosignature", Stir::Nothing, 4),
    hub("shown, not answered", Stir::Nothing, 6),
    hub("taken, not written mail stop", Stir::Stop, 2),
    hub("written, not shown mail stop", Stir::Stop, 2),
    hub("shown, not answered mail stop", Stir::Stop, 2),
    hub("taken, not written note.attach@1", Stir::Note, 1),
    hub("written, not shown note.attach@1", Stir::Note, 1),
    hub("taken, not written record.erase@1", Stir::Erase, 1),
    hub("written, not shown record.erase@1", Stir::Erase, 1),
    hub("written, not shown record.erased@1", Stir::Erase, 2),
    hub("shown, not answered record.erased@1", Stir::Erase, 2),
    // Seal.
    hub("checkpoint signed, not told", Stir::Nothing, 4),
    hub("quorum counted, not told", Stir::Nothing, 3),
    // What a member says.
    member("said, not kept", Stir::Stop, 2),
    member("said, not kept", Stir::Note, 1),
    member("said, not kept record.erase@1", Stir::Erase, 1),
    member("kept, not handed in", Stir::Stop, 2),
    member("kept, not handed in", Stir::Note, 1),
    member("kept, not handed in record.erase@1", Stir::Erase, 1),
    member("promised, not noted", Stir::Stop, 2),
    member("promised, not noted", Stir::Note, 1),
    member("recorded, not noted", Stir::Stop, 2),
    member("recorded, not noted", Stir::Erase, 1),
    // Mirror and cosign.
    member("entries checked, not kept", Stir::Nothing, 4),
    member("cosigned, not kept", Stir::Nothing, 4),
    member("cosigned and kept, not handed in", Stir::Nothing, 4),
    member("cosignature handed in", Stir::Nothing, 4),
    member("watermark raised, not kept", Stir::Nothing, 4),
    member("opened", Stir::Start, 1),
    // Stops past the record, and erasure.
    member("frame kept, not handed in stop", Stir::Stop, 3),
    member("frame handed in, not noted stop", Stir::Stop, 3),
    member("frame heard, not kept stop", Stir::Hear, 1),
    member("frame read, not kept stop", Stir::Hear, 1),
    member("erasure in force, not destroyed", Stir::Erase, 1),
    member("destroyed, not acknowledged", Stir::Erase, 1),
];

/// An aim, and at which passing.
pub fn draw(rng: &mut Rng) -> (Aim, u64) {
    let aim = AIMS[rng.usize(..AIMS.len())];
    (aim, 1 + rng.u64(..aim.most))
}

/// Where the hub dies that another takes over from.
pub const LAST: [&str; 4] =
    ["taken, not written", "shown, not answered", "checkpoint signed, not told", "quorum counted, not told"];
/// Where a served node dies that signs off.
pub const SIGN_OFF: [&str; 2] = ["signed off, not kept", "signed off and kept, not handed out"];
/// Where the command dies that signs off.
pub const HAND_OUT: &str = "sign-off handed out, not written";
/// Where the command dies that opens the next hub.
pub const OPEN: [&str; 4] = [
    "term put together, not filled in",
    "term checked, not written",
    "term filled in, not written",
    "term written, not told",
];
/// Where a member dies that turns to the next hub.
pub const TURN: [&str; 4] = [
    "next term fetched, not followed",
    "term followed, not kept",
    "term followed, cut not queued",
    "term followed and queued, not cosigned",
];
/// Where the next hub dies while members turn to it.
pub const NEXT: [&str; 5] = [
    "taken, not written seal",
    "written, not shown seal",
    "taken, not written cosignature",
    "checkpoint signed, not told",
    "quorum counted, not told",
];
/// Where a member dies that is told of the next hub.
pub const FOLLOW: &str = "next hub kept, not told";

/// At how many places in the code these points are: their names without the detail of what was being done.
pub fn places<'a>(points: impl Iterator<Item = &'a str>) -> usize {
    let detail = |word: &str| word.contains('@') || ["cosignature", "seal", "stop", "mail"].contains(&word);
    let place = |point: &str| point.split(' ').filter(|word| !detail(word)).collect::<Vec<_>>().join(" ");
    points.map(place).collect::<std::collections::BTreeSet<_>>().len()
}
