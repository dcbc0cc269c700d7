//! What can go wrong in a round, with the party that it is about.

use crate::envelope::Kind;
use privacy::LayoutFault;

/// A fault of a round. Names parties, never values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoundError {
    /// The description of the round is not one.
    #[error("the round cannot be run: {0}")]
    Context(ContextFault),
    /// The layout cannot be used.
    #[error(transparent)]
    Layout(#[from] LayoutFault),
    /// A key that is no key.
    #[error("found {found} bytes that are no X-Wing key, expected {expected} bytes of a valid one")]
    Key {
        /// Bytes found.
        found: usize,
        /// Bytes expected.
        expected: usize,
    },
    /// A party without a part in the round, or with another one.
    #[error("`{party}` is not {expected} in this round: use the parties that the round's statement names")]
    Party {
        /// The party.
        party: String,
        /// What it would have to be, for example `a contributor`.
        expected: &'static str,
    },
    /// A contribution to another plan or layout.
    #[error("the contribution answers another {what} than the round's: it was made for another round")]
    Contribution {
        /// `plan` or `layout`.
        what: &'static str,
    },
    /// Bytes that are no message of this protocol.
    #[error(
        "found bytes from `{from}` that are no round message of format 1, VDAF draft 18: ask for its version"
    )]
    Format {
        /// The sender.
        from: String,
    },
    /// A message of a kind that has no business here.
    #[error("found a {found} from `{from}`, expected {expected}")]
    Kind {
        /// The sender.
        from: String,
        /// Its kind.
        found: Kind,
        /// What may come.
        expected: &'static str,
    },
    /// A message of the wrong length.
    #[error(
        "found a {kind} of {found} bytes from `{from}`, expected {expected}: it was made for another layout"
    )]
    Length {
        /// The sender.
        from: String,
        /// The kind of message.
        kind: Kind,
        /// Bytes found.
        found: usize,
        /// Bytes expected.
        expected: usize,
    },
    /// A message of another round.
    #[error(
        "found a {kind} from `{from}` for another study, run, stage or round: it was repeated or misdelivered"
    )]
    OtherRound {
        /// The sender.
        from: String,
        /// The kind of message.
        kind: Kind,
    },
    /// A message that does not open.
    #[error(
        "a {kind} from `{from}` does not open: it was altered, misdirected, or made for another set of \
         contributors, aggregators, layout or question"
    )]
    Unopenable {
        /// The sender.
        from: String,
        /// The kind of message.
        kind: Kind,
    },
    /// A message that opens to something that is not in the field or group.
    #[error("a {kind} from `{from}` opens to bytes that are not one: its sender erred or lied")]
    Malformed {
        /// The sender.
        from: String,
        /// The kind of message.
        kind: Kind,
    },
    /// Two different messages where one is due.
    #[error(
        "found a second, different {kind} from `{from}`: only the first counts, and it is resent verbatim"
    )]
    Conflict {
        /// The sender.
        from: String,
        /// The kind of message.
        kind: Kind,
    },
    /// A nonce that was used before.
    #[error(
        "`{from}` used a nonce that this round has seen: its randomness is broken or the share is copied"
    )]
    Nonce {
        /// The sender.
        from: String,
    },
    /// A contribution whose proof failed.
    #[error(
        "the proof of `{contributor}` failed: its vector is out of bounds, its shares do not fit together, or an \
         aggregator lied; the round is lost"
    )]
    Proof {
        /// The contributor.
        contributor: String,
    },
    /// A round that is lost.
    #[error("this round is lost and opens nothing: start a new run")]
    Lost,
    /// Opening before all is in.
    #[error("the round is not ready to open: {waiting_for}")]
    NotReady {
        /// What is missing.
        waiting_for: String,
    },
    /// Opening twice.
    #[error("this round was opened; each aggregator opens a round once")]
    Opened,
    /// An opening that is not what its aggregator committed to.
    #[error(
        "the aggregate share of `{aggregator}` is not the one it committed to: it lied or erred; the round is lost"
    )]
    Commitment {
        /// The aggregator.
        aggregator: String,
    },
    /// Aggregators that tell of different commitments.
    #[error(
        "`{aggregator}` tells of other commitments than the aggregators before it: one of them lied; the round is lost"
    )]
    Disagreement {
        /// The aggregator.
        aggregator: String,
    },
    /// A sealed release that is none.
    #[error(
        "the release from `{from}` does not open: it was altered, misdirected or is of another study or run"
    )]
    Release {
        /// The sender.
        from: String,
    },
    /// The cryptography failed where it should not have.
    #[error("the {what} failed; try again, and report it if it does not pass")]
    Crypto {
        /// Which part.
        what: &'static str,
    },
}

/// Why a round's description is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextFault {
    /// A name that is no party id.
    #[error("`{party}` is no party id, expected lower-case letters, digits and `-`")]
    Name {
        /// The name.
        party: String,
    },
    /// Too few or too many aggregators, or one twice.
    #[error("found {found} aggregators, expected 2 to 8, each once")]
    Aggregators {
        /// Aggregators found.
        found: usize,
    },
    /// Too few or too many contributors, or not in order.
    #[error("found {found} contributors, expected at least 3, sorted, each once")]
    Contributors {
        /// Contributors found.
        found: usize,
    },
    /// A collector that aggregates.
    #[error("`{party}` collects and aggregates, expected two parties")]
    Collector {
        /// The party.
        party: String,
    },
    /// A description without a canonical form.
    #[error("it has no canonical form: shorten its names")]
    Canonical,
}

impl From<ContextFault> for RoundError {
    fn from(fault: ContextFault) -> RoundError {
        RoundError::Context(fault)
    }
}
