//! A member's disk: groups of writes that are durable together at a flush, and the ways in which a disk fails.

use std::collections::BTreeMap;
use std::rc::Rc;

use record::{Digest, Shelf};

use super::journal;

/// What goes wrong at one of the points that a process passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The process dies here.
    Crash,
    /// The disk says no, and nothing was written.
    Failed,
    /// The disk says no, and all was written.
    FailedButWritten,
    /// The process dies within the write of a group, of which the disk has a part.
    Short,
    /// No space, until somebody makes some.
    Full,
}

/// The process cannot go on and must be begun again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Down(pub Trouble);

/// What is on a disk.
#[derive(Clone, Default)]
pub struct Kept {
    pub leaves: Vec<Vec<u8>>,
    /// The checkpoint that proves them, with its size.
    pub head: Option<(u64, String)>,
    pub notes: BTreeMap<String, String>,
    /// Statements that are to be in the record and are not yet.
    pub outbox: BTreeMap<Digest, Rc<[u8]>>,
    /// The last group as it was written, when nobody has seen yet whether it is whole.
    tail: Vec<u8>,
}

/// A write of a group.
pub enum Write {
    Entries(u64, Vec<Vec<u8>>, String),
    Cut(u64),
    Note(String, String),
    Queue(Digest, Rc<[u8]>),
    Dequeue(Digest),
}

impl Kept {
    fn apply(&mut self, write: Write) {
        match write {
            Write::Entries(first, leaves, note) => {
                self.leaves.truncate(usize::try_from(first).unwrap());
                self.leaves.extend(leaves);
                self.head = Some((self.leaves.len() as u64, note));
            }
            Write::Cut(size) => {
                self.leaves.truncate(usize::try_from(size).unwrap());
                self.head = None;
            }
            Write::Note(name, text) => drop(self.notes.insert(name, text)),
            Write::Queue(id, bytes) => drop(self.outbox.insert(id, bytes)),
            Write::Dequeue(id) => drop(self.outbox.remove(&id)),
        }
    }
}

/// What a disk does wrong by design, in tests that want to see it found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flaws {
    /// Says that what was cosigned is kept, and keeps it at the end of the day.
    pub forgets_cosigned: bool,
}

/// A disk.
#[derive(Default)]
pub struct Disk {
    pub kept: Kept,
    group: Vec<Write>,
    /// After how many points something goes wrong, and what.
    fuse: Option<(u32, Trouble)>,
    pub full: bool,
    pub flaws: Flaws,
    /// How many groups were found torn.
    pub torn: u64,
}

impl Disk {
    /// Something will go wrong after this many points.
    pub fn arm(&mut self, points: u32, trouble: Trouble) {
        self.fuse = Some((points, trouble));
    }

    /// The process passes a point.
    ///
    /// # Errors
    /// When something goes wrong here.
    pub fn point(&mut self) -> Result<(), Down> {
        match &mut self.fuse {
            Some((0, trouble)) => {
                let trouble = *trouble;
                self.fuse = None;
                Err(Down(trouble))
            }
            Some((points, _)) => {
                *points -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn write(&mut self, write: Write) -> Result<(), Down> {
        if self.full {
            return Err(Down(Trouble::Full));
        }
        match self.point() {
            Ok(()) => self.group.push(write),
            Err(Down(Trouble::FailedButWritten)) => {
                // A group is durable as a whole or not at all: the disk says no at its flush.
                self.group.push(write);
                self.arm(0, Trouble::FailedButWritten);
            }
            Err(Down(Trouble::Full)) => {
                self.full = true;
                return Err(Down(Trouble::Full));
            }
            Err(Down(Trouble::Short)) => {
                self.group.push(write);
                self.tear();
                return Err(Down(Trouble::Short));
            }
            Err(down) => return Err(down),
        }
        Ok(())
    }

    fn take_group(&mut self) {
        for write in self.group.drain(..) {
            self.kept.apply(write);
        }
    }

    /// The process dies within the write of the group.
    fn tear(&mut self) {
        self.kept.tail = journal::torn(journal::frame(&self.group));
    }

    /// The disk is read again: the last group counts as a whole or not at all.
    pub fn recover(&mut self) {
        let tail = std::mem::take(&mut self.kept.tail);
        if tail.is_empty() {
            return;
        }
        let whole = journal::read(&tail);
        self.torn += u64::from(whole.is_empty());
        for write in whole {
            self.kept.apply(write);
        }
    }

    /// Makes the group durable.
    ///
    /// # Errors
    /// When it did not, or says so.
    pub fn flush(&mut self) -> Result<(), Down> {
        if self.group.is_empty() {
            return Ok(());
        }
        match self.point() {
            Ok(()) => {
                self.take_group();
                Ok(())
            }
            Err(down) => {
                match down.0 {
                    Trouble::FailedButWritten => self.kept.tail = journal::frame(&self.group),
                    Trouble::Short => self.tear(),
                    Trouble::Full => self.full = true,
                    _ => {}
                }
                Err(down)
            }
        }
    }

    /// The process is gone, and with it what was not flushed.
    pub fn fall(&mut self) {
        self.group.clear();
        self.fuse = None;
    }

    /// A statement that is to be in the record.
    ///
    /// # Errors
    /// As the disk's.
    pub fn queue(&mut self, id: Digest, bytes: Rc<[u8]>) -> Result<(), Down> {
        self.write(Write::Queue(id, bytes))
    }

    /// A statement that is in the record.
    ///
    /// # Errors
    /// As the disk's.
    pub fn dequeue(&mut self, id: Digest) -> Result<(), Down> {
        if self.kept.outbox.contains_key(&id) { self.write(Write::Dequeue(id)) } else { Ok(()) }
    }
}

impl Shelf for Disk {
    type Error = Down;

    fn keep_entries(&mut self, first: u64, leaves: &[Vec<u8>], note: &str) -> Result<(), Down> {
        self.write(Write::Entries(first, leaves.to_vec(), note.to_owned()))
    }

    fn cut_entries(&mut self, size: u64) -> Result<(), Down> {
        self.write(Write::Cut(size))
    }

    fn keep_note(&mut self, name: &str, text: &str) -> Result<(), Down> {
        if self.flaws.forgets_cosigned && name == record::member::COSIGNED {
            return Ok(());
        }
        self.write(Write::Note(name.to_owned(), text.to_owned()))
    }
}
