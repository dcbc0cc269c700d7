//! Proofs: a few entries of the record with what shows that they are in it, for a reader who has nothing else.
//!
//! A [`Bundle`](crate::Bundle) holds the whole record, because a selection could leave out a veto (A11). A proof is a
//! selection and shows *presence* alone: these entries are in the record that a quorum cosigned. What the absence of
//! others means is for whoever proves against a root of the state that a quorum has attested in those entries.
//!
//! Threat model: whoever made the file is a liar, and so may be the hub and at most `f` members. The charter's digest
//! comes from elsewhere. What then holds: the entries were said by who they name, and are in a record of which a
//! quorum of that charter's members cosigned the root. A record that is made up has another charter, and a proof that
//! is read without its digest says so ([`Pin::Unpinned`]).
//!
//! The keys are those of the charter. Where the members or their keys have changed since, the whole record is needed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bundle::Pin;
use crate::canon::Value;
use crate::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::digest::{Digest, excerpt};
use crate::entry::{Entry, EntryError};
use crate::roster::{PROPOSE, Roster, Why};
use crate::tree::{Tree, TreeError, leaf_hash, verify_inclusion};

/// Most entries in a proof beside the charter's.
pub const MAX_ENTRIES: usize = 256;

/// Why a proof cannot be made or read, or does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// Another kind of file.
    #[error("found a file that begins with `{found}`, expected `{expected}`")]
    Magic {
        /// Its first line.
        found: String,
        /// The line expected.
        expected: String,
    },
    /// The file's bytes are not those that were written.
    #[error("the file was changed or cut off: its content does not have the digest that it begins with")]
    Changed,
    /// The content is longer than its reader allows, or not what its length says.
    #[error("the file's content cannot be unpacked: expected one stream of at most {limit} bytes")]
    Packed {
        /// Longest content allowed, bytes.
        limit: usize,
    },
    /// An entry cannot be read.
    #[error("entry {index} is broken: {source}")]
    Entry {
        /// Its index.
        index: u64,
        /// What is wrong with it.
        source: EntryError,
    },
    /// An entry is not where the proof says.
    #[error("entry {index} (`{kind}`) is not included under the checkpoint's root")]
    Inclusion {
        /// Its index.
        index: u64,
        /// Its type.
        kind: String,
    },
    /// Entries that are not in the order of their indices, or too many.
    #[error("entries of the proof are not in the order of their indices, each once, at most {MAX_ENTRIES}")]
    Order,
    /// The entry that should be the charter is none.
    #[error("entry {index} is `{kind}`, expected the proposal of the charter")]
    NoCharter {
        /// Its index.
        index: u64,
        /// Its type.
        kind: String,
    },
    /// The charter cannot be used, or a statement is not its issuer's.
    #[error("entry {index} (`{kind}`): {why}")]
    Statement {
        /// Its index.
        index: u64,
        /// Its type.
        kind: String,
        /// What is wrong.
        why: Why,
    },
    /// The proof is of another federation, or made up.
    #[error("charter of the proof is {found}, but the pinned digest is {pinned}")]
    OtherCharter {
        /// Digest handed in.
        pinned: Digest,
        /// Digest of the charter in the proof.
        found: Digest,
    },
    /// The checkpoint or a signature on it is broken.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint is another log's.
    #[error("checkpoint is of `{found}`, expected the log `{expected}`")]
    Origin {
        /// Its origin.
        found: String,
        /// The charter's.
        expected: String,
    },
    /// Too few members cosigned.
    #[error("checkpoint has {have} valid cosignatures, expected at least {need}")]
    Quorum {
        /// Valid cosignatures.
        have: u32,
        /// Quorum.
        need: u32,
    },
    /// A proof of what is not in the record.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// An entry with its place and the proof of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Included {
    /// Its index.
    pub index: u64,
    /// Its bytes, which are text.
    pub entry: String,
    /// The inclusion proof (RFC 6962, 2.1.1) in the checkpoint's tree.
    pub path: Vec<Digest>,
}

/// The charter and some entries, with a checkpoint that includes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// The entry that proposed the charter: members, keys and quorum.
    pub charter: Included,
    /// The signed note with its cosignatures.
    pub checkpoint: String,
    /// The entries proved, in the order of their indices.
    pub entries: Vec<Included>,
}

/// What a proof was found to show.
#[derive(Clone, Debug)]
pub struct Proved {
    /// Whether the charter was pinned from outside. Only a pinned proof proves anything to its reader.
    pub pin: Pin,
    /// Digest of the charter.
    pub charter: Digest,
    /// The charter itself.
    pub document: Value,
    /// Members and keys as the charter names them; who signed it is not known here.
    pub roster: Roster,
    /// Entries that the checkpoint covers.
    pub size: u64,
    /// Who cosigned it, and when, seconds since the epoch.
    pub cosigned: BTreeMap<String, u64>,
    /// The entries by index, each said by whom it names.
    pub entries: Vec<(u64, Entry)>,
}

impl Proof {
    /// The proof that these entries are in the record: `charter` and `indices` are places in `entries`, which are all
    /// that the checkpoint covers.
    ///
    /// # Errors
    /// When one of them is not covered.
    pub fn new(
        entries: &[Entry],
        tree: &Tree,
        checkpoint: &SignedCheckpoint,
        charter: u64,
        indices: &[u64],
    ) -> Result<Proof, ProofError> {
        let size = checkpoint.checkpoint().size();
        let include = |index: u64| {
            let outside = TreeError::Outside { asked: index, size };
            let entry = usize::try_from(index).ok().and_then(|i| entries.get(i)).ok_or(outside)?;
            let text = String::from_utf8_lossy(&entry.to_bytes()).into_owned();
            Ok::<_, ProofError>(Included { index, entry: text, path: tree.prove_inclusion(index, size)? })
        };
        Ok(Proof {
            charter: include(charter)?,
            checkpoint: checkpoint.to_note(),
            entries: indices.iter().map(|i| include(*i)).collect::<Result<_, _>>()?,
        })
    }

    /// Checks everything that can be checked without knowing what the entries mean: the charter against `pin`, the
    /// checkpoint's signatures and quorum under the charter's keys, each entry's inclusion and its issuer's signature.
    ///
    /// # Errors
    /// The first thing that is broken.
    pub fn verify(&self, pin: Option<Digest>) -> Result<Proved, ProofError> {
        let (document, roster) = self.roster()?;
        let found = Digest::of(&document.to_bytes().map_err(|e| self.charter_fault(&e.to_string()))?);
        if let Some(pinned) = pin.filter(|p| *p != found) {
            return Err(ProofError::OtherCharter { pinned, found });
        }
        let checkpoint = SignedCheckpoint::parse(&self.checkpoint)?;
        let cosigned = cosigned(&checkpoint, &roster)?;
        let claimed = checkpoint.checkpoint();
        included(&self.charter, claimed.size(), &claimed.root())?;
        if self.entries.len() > MAX_ENTRIES || !self.entries.is_sorted_by(|a, b| a.index < b.index) {
            return Err(ProofError::Order);
        }
        let mut entries = Vec::with_capacity(self.entries.len());
        for one in &self.entries {
            let entry = included(one, claimed.size(), &claimed.root())?;
            roster.authenticate(&entry.signed).map_err(|why| statement_fault(one.index, &entry, why))?;
            entries.push((one.index, entry));
        }
        Ok(Proved {
            pin: if pin.is_some() { Pin::Pinned } else { Pin::Unpinned },
            charter: found,
            document,
            roster,
            size: claimed.size(),
            cosigned,
            entries,
        })
    }

    /// The charter and the roster that it begins.
    fn roster(&self) -> Result<(Value, Roster), ProofError> {
        let index = self.charter.index;
        let entry = read(&self.charter)?;
        let statement = entry.signed.statement();
        let kind = statement.r#type.clone();
        if kind != PROPOSE {
            return Err(ProofError::NoCharter { index, kind });
        }
        let document = statement.body.get("charter").cloned().ok_or(ProofError::NoCharter { index, kind })?;
        let roster = Roster::of_charter(&document).map_err(|why| statement_fault(index, &entry, why))?;
        roster.authenticate(&entry.signed).map_err(|why| statement_fault(index, &entry, why))?;
        Ok((document, roster))
    }

    fn charter_fault(&self, what: &str) -> ProofError {
        let why = Why::Charter(what.to_owned());
        ProofError::Statement { index: self.charter.index, kind: PROPOSE.to_owned(), why }
    }
}

fn statement_fault(index: u64, entry: &Entry, why: Why) -> ProofError {
    ProofError::Statement { index, kind: entry.signed.statement().r#type.clone(), why }
}

fn read(one: &Included) -> Result<Entry, ProofError> {
    Entry::from_bytes(one.entry.as_bytes()).map_err(|source| ProofError::Entry { index: one.index, source })
}

fn included(one: &Included, size: u64, root: &Digest) -> Result<Entry, ProofError> {
    let entry = read(one)?;
    let leaf = leaf_hash(one.entry.as_bytes());
    verify_inclusion(&leaf, one.index, size, root, &one.path).map_err(|_| ProofError::Inclusion {
        index: one.index,
        kind: entry.signed.statement().r#type.clone(),
    })?;
    Ok(entry)
}

/// The members of the roster that cosigned, if they are a quorum and nothing on the note is false.
fn cosigned(checkpoint: &SignedCheckpoint, roster: &Roster) -> Result<BTreeMap<String, u64>, ProofError> {
    let found = checkpoint.checkpoint().origin();
    if found != roster.origin {
        return Err(ProofError::Origin { found: found.to_owned(), expected: roster.origin.clone() });
    }
    if let Some(hub) = &roster.hub {
        checkpoint.verify_hub(&hub.key)?;
    }
    if let Some(fault) = checkpoint.faults(roster).into_iter().next() {
        return Err(fault.into());
    }
    let cosigned = checkpoint.cosignatures(roster);
    let (have, need) = (cosigned.len() as u32, roster.quorum());
    if !roster.watermark_ready() || have < need {
        return Err(ProofError::Quorum { have, need });
    }
    Ok(cosigned)
}

/// Packs a file's content: the line `magic`, SHA-256 of what follows it, the content's length as 4 bytes big-endian,
/// the content deflated (RFC 1951). The digest shows a damaged copy at once; it proves nothing.
///
/// # Errors
/// When the content is longer than four gigabytes.
pub fn pack(magic: &str, content: &[u8]) -> Result<Vec<u8>, ProofError> {
    let length = u32::try_from(content.len()).map_err(|_| ProofError::Packed { limit: u32::MAX as usize })?;
    let mut rest = length.to_be_bytes().to_vec();
    rest.extend(miniz_oxide::deflate::compress_to_vec(content, 9));
    Ok([magic.as_bytes(), b"\n", Digest::of(&rest).as_bytes().as_slice(), &rest].concat())
}

/// Whether a file begins with the line `magic`.
pub fn is_packed(magic: &str, bytes: &[u8]) -> bool {
    bytes.strip_prefix(magic.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'\n'))
}

/// Unpacks what [`pack`] wrote; takes no more memory than `limit` bytes of content.
///
/// # Errors
/// When it is another kind of file, was changed, or holds more than `limit` bytes.
pub fn unpack(magic: &str, bytes: &[u8], limit: usize) -> Result<Vec<u8>, ProofError> {
    use miniz_oxide::inflate::TINFLStatus;
    use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
    if !is_packed(magic, bytes) {
        let start = bytes.split(|b| *b == b'\n').next().unwrap_or(bytes);
        let start = String::from_utf8_lossy(start.get(..start.len().min(40)).unwrap_or(start));
        return Err(ProofError::Magic { found: excerpt(&start), expected: magic.to_owned() });
    }
    let rest = bytes.get(magic.len() + 1..).unwrap_or(&[]);
    let (digest, rest) = rest.split_first_chunk::<32>().ok_or(ProofError::Changed)?;
    if Digest::of(rest) != Digest::from_bytes(*digest) {
        return Err(ProofError::Changed);
    }
    let wrong = || ProofError::Packed { limit };
    let (length, deflated) = rest.split_first_chunk::<4>().ok_or_else(wrong)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| wrong())?;
    // Deflate makes at most 1032 bytes of one: a length that cannot be true takes no memory.
    if length > limit || length / 1032 > deflated.len() {
        return Err(wrong());
    }
    let mut content = vec![0; length];
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let mut machine = Box::<DecompressorOxide>::default();
    let (status, taken, given) = decompress(&mut machine, deflated, &mut content, 0, flags);
    if status != TINFLStatus::Done || taken != deflated.len() || given != length {
        return Err(wrong());
    }
    Ok(content)
}
