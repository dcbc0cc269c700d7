//! What happened, in order: kinds, parties and sizes, nothing that depends on the randomness of keys.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// One event. `a` and `b` are sizes, indices or numbers of the event's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Line {
    /// Simulated milliseconds since the day began.
    pub at: i64,
    /// The member's index; [`HUB`] for the hub.
    pub who: u8,
    /// What happened.
    pub what: &'static str,
    /// Its first number.
    pub a: u64,
    /// Its second number.
    pub b: u64,
}

/// Stands for the hub in a [`Line`].
pub const HUB: u8 = u8::MAX;

/// The events of a day.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    lines: Vec<Line>,
    names: Vec<String>,
}

impl Trace {
    /// An empty trace over members of these names.
    pub(crate) fn new(names: Vec<String>) -> Trace {
        Trace { lines: Vec::new(), names }
    }

    pub(crate) fn add(&mut self, at: i64, who: usize, what: &'static str, a: u64, b: u64) {
        self.lines.push(Line { at, who: u8::try_from(who).unwrap_or(HUB), what, a, b });
    }

    /// All events.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// One number for the whole sequence.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.lines.hash(&mut hasher);
        hasher.finish()
    }

    /// The last events, a line each.
    pub fn last(&self, number: usize) -> Vec<String> {
        let from = self.lines.len().saturating_sub(number);
        self.lines.iter().skip(from).map(|line| self.words(line)).collect()
    }

    fn words(&self, line: &Line) -> String {
        let who = self.names.get(usize::from(line.who)).map_or("hub", String::as_str);
        format!("{:>9} ms  {who:<4} {} {} {}", line.at, line.what, line.a, line.b)
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{}", self.words(line)))
    }
}
