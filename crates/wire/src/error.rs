//! What can go wrong between two peers.

use record::keys::PublicKey;

/// A call that did not succeed, with what to do about it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// No connection could be made.
    #[error("cannot reach `{addr}`: {reason}; check the address and that the peer is running")]
    Unreachable {
        /// host:port as configured
        addr: String,
        /// the operating system's words
        reason: String,
    },
    /// The proxy on the way opened no tunnel to the peer, or cut it before the peer had proved who it is.
    #[error("no way to `{addr}` through proxy `{proxy}`: {reason}; {mend}")]
    Proxy {
        /// host:port of the proxy
        proxy: String,
        /// host:port of the peer, as configured
        addr: String,
        /// what it answered, or did not
        reason: String,
        /// what can be done
        mend: &'static str,
    },
    /// A proxy that cannot be read. What was written is not quoted: it may hold a password.
    #[error("not a proxy: {reason}; write http://HOST:PORT or http://USER:PASSWORD@HOST:PORT")]
    ProxyAddress {
        /// where it departs from that
        reason: &'static str,
    },
    /// The peer holds another TLS key than the pinned one.
    #[error(
        "`{addr}` shows TLS key `{found}`, expected `{expected}`; someone else may be answering, ask its operator before going on"
    )]
    WrongPeer {
        /// host:port as configured
        addr: String,
        /// the key in the peer's certificate, hex, or why there is none
        found: String,
        /// the pinned key, hex
        expected: String,
    },
    /// The peer refused this identity in the handshake.
    #[error("`{addr}` does not admit TLS key `{key}`; only keys that the charter names are let in")]
    NotAdmitted {
        /// host:port as configured
        addr: String,
        /// the key that this side showed
        key: PublicKey,
    },
    /// The handshake failed for another reason.
    #[error("TLS with `{addr}` failed: {reason}; both ends need TLS 1.3 and an Ed25519 certificate")]
    Tls {
        /// host:port as configured
        addr: String,
        /// the TLS library's words
        reason: String,
    },
    /// The connection broke after it was made.
    #[error("connection with `{addr}` broke: {reason}; the call may be repeated")]
    Broken {
        /// host:port as configured
        addr: String,
        /// what the transport reported
        reason: String,
    },
    /// No answer in time.
    #[error("`{addr}` did not answer within {millis} ms; the call may be repeated")]
    Timeout {
        /// host:port as configured
        addr: String,
        /// how long this side waited
        millis: u64,
    },
    /// The peer answered no, and said why.
    #[error("{error}: found {found}, expected {expected}")]
    Refused {
        /// HTTP status, 4xx or 5xx
        status: u16,
        /// what is wrong
        error: String,
        /// what the peer saw
        found: String,
        /// what it would have taken
        expected: String,
    },
    /// The peer answered in a form that is not in the protocol.
    #[error("answer of `{addr}` to `{what}` is malformed: {reason}; the peer may run another version")]
    Malformed {
        /// host:port as configured
        addr: String,
        /// the call
        what: String,
        /// where the answer departs from the protocol
        reason: String,
    },
    /// A message exceeds its limit; it was not sent, or not read to its end.
    #[error("{what} has {found} bytes, at most {limit} are allowed")]
    TooLarge {
        /// the message
        what: String,
        /// its size in bytes
        found: u64,
        /// the limit in bytes
        limit: u64,
    },
    /// The identity's certificate could not be made.
    #[error("cannot make a TLS certificate: {reason}")]
    Identity {
        /// the library's words; never key material
        reason: String,
    },
    /// An address that cannot be parsed.
    #[error("`{found}` is not an address; write host:port")]
    Address {
        /// as configured
        found: String,
    },
}

impl WireError {
    /// Whether the peer has not judged the call, so that the same bytes may be sent again. Somebody in between who
    /// shows another key, or lets nothing pass, is no word of the peer's: what waits to be said goes on waiting.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Proxy { .. }
            | Self::WrongPeer { .. }
            | Self::NotAdmitted { .. }
            | Self::Tls { .. }
            | Self::Broken { .. }
            | Self::Malformed { .. }
            | Self::Timeout { .. } => true,
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }
}
