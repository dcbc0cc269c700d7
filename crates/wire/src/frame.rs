//! What travels from member to member through a relay that is not trusted.
//!
//! ```text
//! comity-frame/1
//! sig ed25519 <public key, hex> <signature, hex>
//!
//! {"body":"<digest>","context":"<digest>","federation":"<digest>","from":"gb",...}
//! <body, verbatim to the end>
//! ```
//!
//! The signature is over DSSE pre-authentication encoding of the header line, and the header holds the
//! body's digest: nothing can be moved, cut or swapped without one of the two failing.

use std::collections::BTreeMap;
use std::fmt;

use record::keys::{PublicKey, SecretKey, Signature, pae};
use record::{Digest, canon};
use serde::{Deserialize, Serialize};

const MAGIC: &[u8] = b"comity-frame/1\n";
const PAYLOAD_TYPE: &str = "application/vnd.comity.frame+json";
/// Largest body in bytes. A verified contribution of 10,000 entries of 32 bits has some 5 MB.
pub const MAX_FRAME_BODY: usize = 8 << 20;
const MAX_HEADER: usize = 4096;
/// Largest encoded frame in bytes.
pub(crate) const MAX_FRAME: usize = MAX_FRAME_BODY + MAX_HEADER + 512;

/// Where in a study a frame belongs. Frames outside any run use zeros.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// study id
    pub study: String,
    /// run of the study, counted from 1
    pub run: u32,
    /// stage of the plan, counted from 0
    pub stage: u32,
    /// round of the stage, counted from 0
    pub round: u32,
}

/// One message from one member to another. `Debug` shows the body's length, never the body.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// sender's party id
    pub from: String,
    /// recipient's party id
    pub to: String,
    /// what it is, e.g. `share`, `opening`, `stop`
    pub kind: String,
    /// digest of the charter under which it is sent
    pub federation: Digest,
    /// where it belongs
    pub place: Place,
    /// digest of what sender and recipient must agree on about the round: contributors, layout, plan
    pub context: Digest,
    /// the message, sealed by whoever made it
    pub body: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    body: Digest,
    context: Digest,
    federation: Digest,
    from: String,
    kind: String,
    place: Place,
    to: String,
}

/// Why a frame is not accepted. The names are those of the attacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameFault {
    /// Not a frame at all.
    #[error("frame is malformed: {reason}; its sender or the relay does not speak this protocol")]
    Malformed {
        /// where it departs from the form
        reason: String,
    },
    /// Larger than the protocol allows.
    #[error("frame body has {found} bytes, at most {limit} are allowed; send fewer cells")]
    TooLarge {
        /// bytes
        found: usize,
        /// bytes
        limit: usize,
    },
    /// Changed after it was signed.
    #[error(
        "frame `{kind}` from `{from}` was altered: its {part} does not fit what was signed; ask the sender to send again and tell the hub's operator"
    )]
    Altered {
        /// claimed sender
        from: String,
        /// claimed kind
        kind: String,
        /// `body` or `header`
        part: &'static str,
    },
    /// Signed by somebody else than the claimed sender.
    #[error(
        "frame `{kind}` claims to be from `{from}` but is signed by key `{found}`, expected `{expected}`; it is forged"
    )]
    Forged {
        /// claimed sender
        from: String,
        /// claimed kind
        kind: String,
        /// key that the frame names
        found: PublicKey,
        /// the sender's key in the record
        expected: PublicKey,
    },
    /// For somebody else, or for another federation, study or round.
    #[error("frame `{kind}` from `{from}` is misdirected: its {part} is `{found}`, expected `{expected}`")]
    Misdirected {
        /// claimed sender
        from: String,
        /// claimed kind
        kind: String,
        /// which part does not fit
        part: &'static str,
        /// what the frame says
        found: String,
        /// what it should say here
        expected: String,
    },
    /// A second, different frame where only one may be.
    #[error(
        "frame `{kind}` from `{from}` repeats its place with other bytes: first `{first}`, now `{second}`; nothing of it is used"
    )]
    Repeated {
        /// sender
        from: String,
        /// kind
        kind: String,
        /// id of the frame accepted before
        first: Digest,
        /// id of the frame refused now
        second: Digest,
    },
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("from", &self.from)
            .field("to", &self.to)
            .field("kind", &self.kind)
            .field("place", &self.place)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl Frame {
    /// A frame with these fields.
    pub fn new(
        from: &str,
        to: &str,
        kind: &str,
        federation: Digest,
        place: Place,
        context: Digest,
        body: Vec<u8>,
    ) -> Self {
        Self {
            from: from.to_owned(),
            to: to.to_owned(),
            kind: kind.to_owned(),
            federation,
            place,
            context,
            body,
        }
    }

    /// Signs with the sender's statement key. The same frame and key always give the same bytes.
    pub fn sign(self, key: &SecretKey) -> Result<SignedFrame, FrameFault> {
        if self.body.len() > MAX_FRAME_BODY {
            return Err(FrameFault::TooLarge { found: self.body.len(), limit: MAX_FRAME_BODY });
        }
        let header = canon::to_bytes(&Header {
            body: Digest::of(&self.body),
            context: self.context,
            federation: self.federation,
            from: self.from.clone(),
            kind: self.kind.clone(),
            place: self.place.clone(),
            to: self.to.clone(),
        })
        .map_err(|e| malformed(e.to_string()))?;
        if header.len() > MAX_HEADER {
            return Err(malformed(format!("header of {} bytes, at most {MAX_HEADER}", header.len())));
        }
        let signature = key.sign(&pae(PAYLOAD_TYPE, &header));
        let line = format!("sig ed25519 {} {}\n\n", key.public(), signature);
        let mut bytes = Vec::with_capacity(MAGIC.len() + line.len() + header.len() + 1 + self.body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(line.as_bytes());
        bytes.extend_from_slice(&header);
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.body);
        Ok(SignedFrame { id: Digest::of(&header), frame: self, header, key: key.public(), signature, bytes })
    }

    /// That it is for `me`, under the charter `federation`.
    pub fn directed_to(&self, me: &str, federation: &Digest) -> Result<(), FrameFault> {
        self.expect("recipient", &self.to, me)?;
        self.expect("federation", &self.federation.to_string(), &federation.to_string())
    }

    /// That it belongs exactly here, in the round that `context` describes.
    pub fn belongs(&self, place: &Place, context: &Digest) -> Result<(), FrameFault> {
        self.expect("study", &self.place.study, &place.study)?;
        let numbers = |p: &Place| format!("run {} stage {} round {}", p.run, p.stage, p.round);
        self.expect("round", &numbers(&self.place), &numbers(place))?;
        self.expect("context", &self.context.to_string(), &context.to_string())
    }

    fn expect(&self, part: &'static str, found: &str, expected: &str) -> Result<(), FrameFault> {
        if found == expected {
            return Ok(());
        }
        Err(FrameFault::Misdirected {
            from: self.from.clone(),
            kind: self.kind.clone(),
            part,
            found: found.to_owned(),
            expected: expected.to_owned(),
        })
    }
}

/// A frame with its signature and its verbatim bytes. Decoding checks the form and the body's digest; only
/// [`SignedFrame::verify`] says who sent it.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedFrame {
    frame: Frame,
    id: Digest,
    header: Vec<u8>,
    key: PublicKey,
    signature: Signature,
    bytes: Vec<u8>,
}

impl fmt::Debug for SignedFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedFrame")
            .field("id", &self.id)
            .field("frame", &self.frame)
            .finish_non_exhaustive()
    }
}

impl SignedFrame {
    /// Reads a frame, strictly: the bytes are accepted if and only if encoding gives them again.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameFault> {
        if bytes.len() > MAX_FRAME {
            return Err(FrameFault::TooLarge { found: bytes.len(), limit: MAX_FRAME });
        }
        let rest =
            bytes.strip_prefix(MAGIC).ok_or_else(|| malformed("it does not begin with `comity-frame/1`"))?;
        let (line, rest) = line(rest).ok_or_else(|| malformed("no signature line"))?;
        let (key, signature) = signature_line(line)?;
        let rest = rest.strip_prefix(b"\n").ok_or_else(|| malformed("no empty line after the signature"))?;
        let (header, body) = line_bytes(rest).ok_or_else(|| malformed("no header line"))?;
        if header.len() > MAX_HEADER {
            return Err(malformed(format!("header of {} bytes, at most {MAX_HEADER}", header.len())));
        }
        let fields: Header = canon::from_bytes(header).map_err(|e| malformed(e.to_string()))?;
        if Digest::of(body) != fields.body {
            return Err(FrameFault::Altered { from: fields.from, kind: fields.kind, part: "body" });
        }
        Ok(Self {
            id: Digest::of(header),
            header: header.to_vec(),
            key,
            signature,
            bytes: bytes.to_vec(),
            frame: Frame {
                from: fields.from,
                to: fields.to,
                kind: fields.kind,
                federation: fields.federation,
                place: fields.place,
                context: fields.context,
                body: body.to_vec(),
            },
        })
    }

    /// That the party whose key in the record is `sender` signed exactly this.
    pub fn verify(&self, sender: &PublicKey) -> Result<(), FrameFault> {
        if self.key != *sender {
            return Err(FrameFault::Forged {
                from: self.frame.from.clone(),
                kind: self.frame.kind.clone(),
                found: self.key,
                expected: *sender,
            });
        }
        sender.verify_strict(&pae(PAYLOAD_TYPE, &self.header), &self.signature).map_err(|_| {
            FrameFault::Altered {
                from: self.frame.from.clone(),
                kind: self.frame.kind.clone(),
                part: "header",
            }
        })
    }

    /// What it says.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// What it says, without a copy of the body.
    pub fn into_frame(self) -> Frame {
        self.frame
    }

    /// Digest of the header, and through it of the body: two frames with one id say the same.
    pub fn id(&self) -> Digest {
        self.id
    }

    /// The bytes as signed; what is stored, sent and, if need be, sent again.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// How a frame relates to those accepted before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// the first in its place
    Fresh,
    /// the same frame once more; harmless, nothing to do
    Verbatim,
}

/// Which frame was accepted in each place, for kinds of which a sender sends one a round. Fill it again
/// from the stored frames after a restart.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    accepted: BTreeMap<(Place, String, String), Digest>,
}

impl Ledger {
    /// Accepts a verified frame, knows it again, or names it [`FrameFault::Repeated`].
    pub fn accept(&mut self, signed: &SignedFrame) -> Result<Repeat, FrameFault> {
        let frame = &signed.frame;
        let slot = (frame.place.clone(), frame.from.clone(), frame.kind.clone());
        match self.accepted.get(&slot) {
            None => {
                self.accepted.insert(slot, signed.id);
                Ok(Repeat::Fresh)
            }
            Some(first) if *first == signed.id => Ok(Repeat::Verbatim),
            Some(first) => Err(FrameFault::Repeated {
                from: frame.from.clone(),
                kind: frame.kind.clone(),
                first: *first,
                second: signed.id,
            }),
        }
    }
}

fn malformed(reason: impl Into<String>) -> FrameFault {
    FrameFault::Malformed { reason: reason.into() }
}

fn line_bytes(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().take(MAX_HEADER + 1).position(|b| *b == b'\n')?;
    let (line, rest) = bytes.split_at(end);
    Some((line, rest.get(1..)?))
}

fn line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (line, rest) = line_bytes(bytes)?;
    Some((std::str::from_utf8(line).ok()?, rest))
}

fn signature_line(line: &str) -> Result<(PublicKey, Signature), FrameFault> {
    let fault = || malformed("the signature line is not `sig ed25519 <key> <signature>`");
    let (key, signature) =
        line.strip_prefix("sig ed25519 ").and_then(|rest| rest.split_once(' ')).ok_or_else(fault)?;
    Ok((key.parse().map_err(|_| fault())?, signature.parse().map_err(|_| fault())?))
}
