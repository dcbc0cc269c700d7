//! What parties say to each other, and a network that loses, repeats, delays and reorders it.

use std::collections::BTreeMap;
use std::rc::Rc;

use record::Digest;

/// Whoever sends and receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    Hub(usize),
    Member(usize),
    Witness(usize),
}

/// What a hub shows to a member that has asked for more.
#[derive(Debug)]
pub struct Show {
    /// Index of the first of the entries.
    pub first: u64,
    pub leaves: Vec<Vec<u8>>,
    /// The checkpoint after them.
    pub note: String,
    /// Checkpoints that are in force, as the hub says: first those that sealed a change of members.
    pub sealed: Vec<String>,
}

/// What members tell each other.
#[derive(Debug, Default)]
pub struct Word {
    /// The highest checkpoint that the member has cosigned, if it can say so; nothing inside if it has cosigned none.
    pub claim: Option<Option<String>>,
    /// Checkpoints in force, as in [`Show`].
    pub in_force: Vec<String>,
    /// Statements that are to be in the record and are not in the sender's copy.
    pub held: Vec<(Digest, Rc<[u8]>)>,
    /// Sign-offs of the present term.
    pub signoffs: Vec<Rc<[u8]>>,
    /// Number of the latest hub that the sender follows.
    pub hub: usize,
    /// Whether it asks for such a word in return.
    pub asks: bool,
}

/// What is said.
#[derive(Clone, Debug)]
pub enum Message {
    /// A statement for the record.
    Submit(Digest, Rc<[u8]>),
    /// It is in the record, or will be.
    Receipt(Digest, u64),
    /// It would be void.
    Refused(Digest),
    /// What a member has; the hub answers when it has more, another member at once.
    Sync {
        size: u64,
        root: Digest,
        sealed: u64,
        waits: bool,
    },
    Show(Rc<Show>),
    /// Cosignatures of the checkpoint of a size.
    Cosign(u64, Rc<[String]>),
    /// Checkpoints in force, for a hub that may not know them.
    InForce(Rc<[String]>),
    /// A checkpoint for a witness, which is believed to have seen the size `old`.
    Seek {
        note: Rc<str>,
        old: u64,
        proof: Rc<[Digest]>,
    },
    /// A witness has seen another size.
    Seen(u64),
    Word(Rc<Word>),
    /// Everything that another hub needs to begin its term.
    Opened {
        leaves: Rc<[Vec<u8>]>,
        opening: Rc<[u8]>,
        sealed: Rc<[String]>,
    },
}

impl Message {
    pub fn name(&self) -> &'static str {
        match self {
            Message::Submit(..) => "submit",
            Message::Receipt(..) => "receipt",
            Message::Refused(..) => "refused",
            Message::Sync { .. } => "sync",
            Message::Show(..) => "show",
            Message::Cosign(..) => "cosign",
            Message::InForce(..) => "in force",
            Message::Seek { .. } => "seek",
            Message::Seen(..) => "seen",
            Message::Word(..) => "word",
            Message::Opened { .. } => "opened",
        }
    }
}

/// What happens at a moment.
#[derive(Debug)]
pub enum Event {
    Deliver(Party, Party, Message),
    Tick(Party),
    Wake(Party),
    Fault(usize),
}

/// Events in the order of their times.
#[derive(Default)]
pub struct Queue {
    events: BTreeMap<(i64, u64), Event>,
    count: u64,
}

impl Queue {
    pub fn at(&mut self, time: i64, event: Event) {
        self.count += 1;
        self.events.insert((time, self.count), event);
    }

    pub fn pop(&mut self) -> Option<(i64, Event)> {
        self.events.pop_first().map(|((time, _), event)| (time, event))
    }
}

/// The lines between parties.
pub struct Network {
    /// In thousandths.
    pub drops: u32,
    pub repeats: u32,
    pub delays: u32,
    /// Which side of a partition each party is on, until when.
    pub parted: Vec<(BTreeMap<Party, bool>, i64)>,
    pub calm: bool,
}

impl Network {
    /// When copies of a message arrive, after how many milliseconds.
    pub fn arrivals(
        &mut self,
        from: Party,
        to: Party,
        now: i64,
        rng: &mut fastrand::Rng,
    ) -> [Option<i64>; 2] {
        if self.calm {
            return [Some(rng.i64(1..15)), None];
        }
        self.parted.retain(|(_, until)| *until > now);
        let apart = |(sides, _): &(BTreeMap<Party, bool>, i64)| sides.get(&from) != sides.get(&to);
        if self.parted.iter().any(apart) || rng.u32(0..1000) < self.drops {
            return [None, None];
        }
        let delay = if rng.u32(0..1000) < self.delays { rng.i64(100..8000) } else { rng.i64(1..60) };
        let again = (rng.u32(0..1000) < self.repeats).then(|| rng.i64(1..12_000));
        [Some(delay), again]
    }
}
