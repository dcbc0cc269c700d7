//! How a group of writes lies on a disk: in one frame with its length and its digest, so that one of which a part is
//! missing is known as such when the disk is read again, and counts as a whole for nothing.

use std::rc::Rc;

use record::Digest;

use super::shelf::Write;

/// Length of the content and its digest.
const HEADER: usize = 8 + 32;

fn put(out: &mut Vec<u8>, part: &[u8]) {
    out.extend((part.len() as u32).to_be_bytes());
    out.extend(part);
}

fn encoded(write: &Write) -> Vec<u8> {
    let mut out = Vec::new();
    match write {
        Write::Entries(first, leaves, note) => {
            out.push(b'e');
            out.extend(first.to_be_bytes());
            put(&mut out, note.as_bytes());
            leaves.iter().for_each(|leaf| put(&mut out, leaf));
        }
        Write::Cut(size) => {
            out.push(b'c');
            out.extend(size.to_be_bytes());
        }
        Write::Note(name, text) => {
            out.push(b'n');
            put(&mut out, name.as_bytes());
            put(&mut out, text.as_bytes());
        }
        Write::Queue(id, bytes) => {
            out.push(b'q');
            out.extend(id.as_bytes());
            put(&mut out, bytes);
        }
        Write::Dequeue(id) => {
            out.push(b'd');
            out.extend(id.as_bytes());
        }
    }
    out
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (part, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *rest = after;
    Some(part)
}

fn text(rest: &mut &[u8]) -> Option<String> {
    String::from_utf8(part(rest)?.to_vec()).ok()
}

fn decoded(bytes: &[u8]) -> Option<Write> {
    let (kind, mut rest) = bytes.split_first()?;
    let number = |rest: &mut &[u8]| {
        let (number, after) = rest.split_first_chunk::<8>()?;
        *rest = after;
        Some(u64::from_be_bytes(*number))
    };
    let id = |rest: &mut &[u8]| {
        let (id, after) = rest.split_first_chunk::<32>()?;
        *rest = after;
        Some(Digest::from_bytes(*id))
    };
    let write = match kind {
        b'e' => {
            let (first, note, mut leaves) = (number(&mut rest)?, text(&mut rest)?, Vec::new());
            while !rest.is_empty() {
                leaves.push(part(&mut rest)?.to_vec());
            }
            Write::Entries(first, leaves, note)
        }
        b'c' => Write::Cut(number(&mut rest)?),
        b'n' => Write::Note(text(&mut rest)?, text(&mut rest)?),
        b'q' => Write::Queue(id(&mut rest)?, Rc::from(part(&mut rest)?)),
        b'd' => Write::Dequeue(id(&mut rest)?),
        _ => return None,
    };
    rest.is_empty().then_some(write)
}

/// A group as it is written.
pub fn frame(group: &[Write]) -> Vec<u8> {
    let mut content = Vec::new();
    for write in group {
        put(&mut content, &encoded(write));
    }
    let digest = Digest::of(&content);
    [(content.len() as u64).to_be_bytes().as_slice(), digest.as_bytes(), &content].concat()
}

/// What is on the disk after a write that was cut short: the beginning, or, since blocks reach a disk in any order, all
/// but the beginning. Which part, and how much of it, follows from the bytes.
pub fn torn(mut frame: Vec<u8>) -> Vec<u8> {
    let drawn = Digest::of(&frame);
    let [which, high, low, ..] = *drawn.as_bytes();
    let length = frame.len() - HEADER;
    let cut = HEADER + 1 + usize::from(u16::from_be_bytes([high, low])) % length.max(2).saturating_sub(1);
    if which & 1 == 0 {
        frame.truncate(cut);
    } else {
        frame[HEADER..cut.max(HEADER + 5)].fill(0);
    }
    frame
}

/// The writes of the last group on a disk: all of them, or none if a part is missing.
pub fn read(frame: &[u8]) -> Vec<Write> {
    let whole = frame.split_at_checked(HEADER).is_some_and(|(header, content)| {
        header[..8] == (content.len() as u64).to_be_bytes() && header[8..] == *Digest::of(content).as_bytes()
    });
    if whole { writes(frame) } else { Vec::new() }
}

fn writes(frame: &[u8]) -> Vec<Write> {
    let mut rest = frame.get(HEADER..).unwrap_or(&[]);
    let mut all = Vec::new();
    while let Some(write) = part(&mut rest).and_then(decoded) {
        all.push(write);
    }
    all
}
