//! What was said, and proof of it: statements, Merkle log, checkpoints, cosignatures, roster, bundles.
//!
//! Everything that the members of a federation agree and do is a [`Statement`]: signed, stamped, and a leaf of one
//! append-only Merkle log (RFC 6962 hashes, C2SP tiles, checkpoints and cosignatures). State is a fold of the log. The
//! fold in this room is the [`Roster`]: who the members are and with which keys they speak. It knows nothing of what
//! they do together. This room does no I/O, reads no clock and draws no randomness; seeds and times are handed in.
//!
//! # The key decision: bytes, not meanings
//!
//! What is signed is bytes, what is stored is those same bytes, and nothing is ever encoded again to be checked. The
//! usual way, to parse a document and sign or hash a re-encoding of it, makes every difference between two encoders a
//! forgery or a fork. So each form here has exactly one spelling, and a reader accepts bytes **if and only if** writing
//! what it read gives those bytes back: canonical JSON ([`canon`]), signed statements, entries, checkpoints, tile
//! paths, bundles. Signatures are verified strictly, so that no two members can disagree on one.
//!
//! The second decision: *in the log* and *in force* are different types. The hub that sequences the log is trusted for
//! neither secrecy nor truth. Members mirror it, check every entry and cosign; [`InForce`] is the evidence that a quorum
//! of them did, made by one function ([`log::watermark`]) from the entries themselves. [`Pending`] has no way to it.
//!
//! | to know | see |
//! | --- | --- |
//! | what a statement is and how it is signed | [`statement`], [`keys`] |
//! | how entries become a tree, proofs and tiles | [`entry`], [`tree`] |
//! | what the hub and the members sign | [`checkpoint`] |
//! | who counts, and how many must | [`roster`] |
//! | when something may take effect | [`log`] |
//! | how an outsider checks it years later | [`bundle`] |
//! | how a witness outside sees that it only grew | [`witness`] |
//! | what a reader of COSE is shown | [`cose`] |
//! | how a few entries are proved without the others | [`proof`] |
//! | how a stored copy is checked, and where it is damaged | [`fsck`] |
//! | how free text stays off the record, and can be erased | [`sealed`] |
//! | who broke a signed word, provable to anyone | [`evidence`], [`receipt`] |
//!
//! # Example: two members, one charter, one proof
//!
//! ```
//! use std::collections::BTreeMap;
//! use record::{Bundle, Checkpoint, Digest, Entry, Log, Pin, SecretKey, SignedStatement, Standing, Statement, canon};
//!
//! // Seeds come from the operating system; constants here so that the example is the same each time.
//! let key = |n: u8| SecretKey::from_seed([n; 32]);
//! let member = |id: &str, n: u8| canon::to_value(&BTreeMap::from([
//!     ("id", id.to_owned()),
//!     ("sign", key(n).public().to_string()),
//!     ("cosign", key(n + 1).public().to_string()),
//!     ("tls", key(n + 2).public().to_string()),
//! ]));
//! let hub = BTreeMap::from([
//!     ("operator", "Example Trust".to_owned()),
//!     ("jurisdiction", "CH".to_owned()),
//!     ("key", key(1).public().to_string()),
//!     ("tls", key(2).public().to_string()),
//! ]);
//! let charter = canon::to_value(&BTreeMap::from([
//!     ("federation", canon::to_value("example")?),
//!     ("hub", canon::to_value(&hub)?),
//!     ("members", canon::Value::List(vec![member("gb", 10)?, member("it", 20)?])),
//! ]))?;
//! let digest = Digest::of(&charter.to_bytes()?);
//!
//! // The hub stamps statements; every member appends the same entries to its own log.
//! let mut log = Log::new();
//! let mut leaves = Vec::new();
//! let mut say = |log: &mut Log, time, statement: Statement, by: &SecretKey| -> Result<(), Box<dyn std::error::Error>> {
//!     let leaf = Entry::new(time, SignedStatement::sign(statement, by)?).to_bytes();
//!     log.append(&leaf, None)?;
//!     leaves.push(leaf);
//!     Ok(())
//! };
//! let propose = BTreeMap::from([("charter", charter)]);
//! let sign = BTreeMap::from([("charter", digest)]);
//! say(&mut log, 1000, Statement::new("charter.propose@1", "example", "gb", "director", &propose)?, &key(10))?;
//! say(&mut log, 2000, Statement::new("charter.sign@1", "example", "gb", "director", &sign)?, &key(10))?;
//! assert!(!log.roster().in_force(), "one of two signed");
//! say(&mut log, 3000, Statement::new("charter.sign@1", "example", "it", "director", &sign)?, &key(20))?;
//! assert!(log.roster().in_force());
//!
//! // The hub signs the root; it is pending until a quorum has checked the entries and cosigned.
//! let mut checkpoint = Checkpoint::new(&log.roster().origin, log.size(), log.tree().root())?.sign(&key(1));
//! assert!(matches!(log.standing(&checkpoint)?, Standing::Pending(_)));
//! for (party, cosign) in [("gb", key(11)), ("it", key(21))] {
//!     let (cosignatures, _keep_this_first) = log.cosign(&checkpoint, party, &cosign, 4000, None)?;
//!     for cosignature in cosignatures {
//!         checkpoint.add(cosignature, log.roster())?;
//!     }
//! }
//! let Standing::InForce(evidence) = log.standing(&checkpoint)? else { panic!("a quorum cosigned") };
//! assert_eq!(evidence.size(), 3);
//!
//! // One file proves it to someone who knows the charter's digest, and to nobody else.
//! let bundle = Bundle::export("example", leaves, &checkpoint, BTreeMap::new(), "it", 5000, &key(20))?;
//! let read = Bundle::read(&bundle.write()?)?;
//! assert_eq!(read.verify_container(Some(digest)).map_err(|f| format!("{f:?}"))?.pin, Pin::Pinned);
//! assert_eq!(read.verify_container(None).map_err(|f| format!("{f:?}"))?.pin, Pin::Unpinned);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod bundle;
pub mod canon;
pub mod checkpoint;
pub mod cose;
pub mod digest;
pub mod electorate;
pub mod entry;
pub mod evidence;
pub mod fsck;
pub mod keys;
pub mod log;
pub mod member;
pub mod names;
pub mod postquantum;
pub mod proof;
pub mod receipt;
pub mod roster;
pub mod sealed;
pub mod statement;
pub mod term;
pub mod tree;
pub mod witness;

pub use bundle::{Bundle, BundleError, BundleReport, Finding, Pin};
pub use canon::{CanonError, Value};
pub use checkpoint::{Checkpoint, CheckpointError, CosignKeys, Cosignature, SignedCheckpoint};
pub use cose::{CoseReceipt, ReceiptError};
pub use digest::{Digest, DigestError, salted};
pub use electorate::{Electorate, Group, Scheme};
pub use entry::{Entry, EntryBytes, EntryError};
pub use evidence::{Claim, Evidence, EvidenceError, Guilt};
pub use keys::{KeyError, PublicKey, SecretKey, Signature};
pub use log::{InForce, Log, LogError, Pending, Standing};
pub use member::{Member, MemberError, Shelf};
pub use names::is_party_id;
pub use postquantum::{MlPublicKey, MlSecretKey};
pub use proof::{Included, Proof, ProofError, Proved};
pub use receipt::Receipt;
pub use roster::{Change, HubInfo, MemberKeys, Roster, Rotate, Why, WitnessInfo};
pub use sealed::{Commitment, Disclosure};
pub use statement::{SignedStatement, Statement, StatementError, StatementSignature};
pub use term::{Opening, SignOff, TermError};
pub use tree::{Tree, TreeError};
