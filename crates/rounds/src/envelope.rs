//! The bytes of a round's messages: a clear header, then what is sealed to one party.
//!
//! ```text
//! "comity" 0x01 0x12  kind  slot(32)  encapsulated key(1120)  ciphertext  tag(16)
//!          |    `- VDAF draft 18
//!          `- format 1
//! ```
//!
//! The header's slot (federation, study, run, stage, round) lets a misdelivered message be named. The rest of
//! the round (contributors, aggregators, plan, question, layout) is in HPKE's `info`; header, sender and
//! receiver are its associated data. Lengths follow from the layout alone and say nothing about anyone.

use crate::context::RoundContext;
use crate::error::RoundError;
use crate::kem::{self, KemPublic, KemSecret, SEAL_BYTES};
use record::Digest;
use std::fmt;
use zeroize::Zeroizing;

/// Name, format and VDAF draft.
const MAGIC: [u8; 8] = *b"comity\x01\x12";
const HEADER: usize = MAGIC.len() + 1 + 32;

/// Kinds of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A contributor's shares for one aggregator.
    Share,
    /// An aggregator's part of the verify key, for another.
    KeyPart,
    /// An aggregator's verifier shares for all contributions, for another.
    Verifier,
    /// An aggregator's commitment to its aggregate share, for another.
    Commitment,
    /// An aggregator's aggregate share, for a reader of the sum.
    Opening,
}

impl Kind {
    /// What aggregators send one another.
    pub fn between_aggregators() -> impl Iterator<Item = Kind> {
        [Kind::KeyPart, Kind::Verifier, Kind::Commitment].into_iter()
    }

    /// Its number in a message's header.
    pub fn code(self) -> u8 {
        match self {
            Kind::Share => 1,
            Kind::KeyPart => 2,
            Kind::Verifier => 3,
            Kind::Commitment => 4,
            Kind::Opening => 5,
        }
    }

    fn of(code: u8) -> Option<Kind> {
        [Kind::Share, Kind::KeyPart, Kind::Verifier, Kind::Commitment, Kind::Opening]
            .into_iter()
            .find(|k| k.code() == code)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Share => "share",
            Kind::KeyPart => "key part",
            Kind::Verifier => "verifier message",
            Kind::Commitment => "commitment",
            Kind::Opening => "opening",
        })
    }
}

/// The kind that a message says it is of, for routing. Says nothing about whether it is genuine.
pub fn kind_of(bytes: &[u8]) -> Option<Kind> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    Kind::of(*rest.first()?)
}

/// A round's digests, from which seals are bound.
#[derive(Clone)]
pub(crate) struct Binding {
    pub context: Digest,
    pub layout: Digest,
    slot: Digest,
}

impl Binding {
    /// Checks the round and digests it.
    pub fn new(ctx: &RoundContext) -> Result<Binding, RoundError> {
        ctx.check()?;
        let layout = privacy::layout_digest(&ctx.layout)?;
        Ok(Binding { context: ctx.digest_with(layout)?, layout, slot: ctx.slot()? })
    }

    fn header(&self, kind: Kind) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(&MAGIC);
        header.push(kind.code());
        header.extend_from_slice(self.slot.as_bytes());
        header
    }

    fn info(&self) -> Vec<u8> {
        [b"comity/1 round ".as_slice(), self.context.as_bytes()].concat()
    }

    fn aad(header: &[u8], from: &str, to: &str) -> Vec<u8> {
        let mut aad = header.to_vec();
        for name in [from, to] {
            aad.extend_from_slice(&(name.len() as u64).to_be_bytes());
            aad.extend_from_slice(name.as_bytes());
        }
        aad
    }

    pub fn seal(
        &self,
        kind: Kind,
        from: &str,
        to: &str,
        key: &KemPublic,
        plain: &[u8],
    ) -> Result<Vec<u8>, RoundError> {
        let mut bytes = self.header(kind);
        let aad = Binding::aad(&bytes, from, to);
        bytes.extend_from_slice(&kem::seal(key, &self.info(), &aad, plain)?);
        Ok(bytes)
    }

    /// Opens a message of which the kind is known from [`kind_of`]; its plaintext has exactly `length` bytes.
    pub fn open(
        &self,
        kind: Kind,
        from: &str,
        to: &str,
        secret: &KemSecret,
        bytes: &[u8],
        length: usize,
    ) -> Result<Zeroizing<Vec<u8>>, RoundError> {
        if kind_of(bytes) != Some(kind) {
            return Err(RoundError::Format { from: from.to_owned() });
        }
        let header = self.header(kind);
        let Some(sealed) = bytes.strip_prefix(header.as_slice()) else {
            return Err(RoundError::OtherRound { from: from.to_owned(), kind });
        };
        let expected = HEADER + SEAL_BYTES + length;
        if bytes.len() != expected {
            return Err(RoundError::Length { from: from.to_owned(), kind, found: bytes.len(), expected });
        }
        kem::open(secret, &self.info(), &Binding::aad(&header, from, to), sealed)
            .ok_or_else(|| RoundError::Unopenable { from: from.to_owned(), kind })
    }
}

/// Bytes of a whole message whose sealed part has `plain` bytes.
pub(crate) fn message_bytes(plain: usize) -> usize {
    HEADER + SEAL_BYTES + plain
}
