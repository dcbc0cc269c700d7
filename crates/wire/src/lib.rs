//! What node and hub say to each other: envelopes, paths, limits, and mutual TLS with pinned keys.
//!
//! The one decision to know: there is no certificate authority. Both ends show a self-signed certificate
//! whose only meaningful content is an Ed25519 key, and each end compares that key with the one the charter
//! names ([`tls`]). A name, a date or an issuer in a certificate decides nothing, so there is nothing to
//! renew, nothing to revoke outside the record, and no third party who could vouch for a stranger.
//!
//! TLS proves who is at the other end of one connection. It proves nothing to whoever reads a message after
//! the hub has relayed it, so everything relayed travels in a [`Frame`], signed by its sender's key in the
//! record over its place in the study and its recipient; a hub that alters, forges, redirects or repeats one
//! is found out by the recipient, and the fault has a name ([`FrameFault`]).
//!
//! - [`Client`]: one pooled, counted HTTP/1.1 client for one peer, directly or through a [`Proxy`].
//! - [`serve`]: the listening half; handlers get an [`axum::Extension`] of [`Peer`].
//! - [`api`]: the hub's paths, limits and messages, in canonical JSON.
//! - [`HubClient`]: those messages as calls.
//!
//! ```
//! use record::keys::SecretKey;
//! use wire::{Frame, FrameFault, Place};
//!
//! let key = SecretKey::from_seed([7; 32]);
//! let place = Place { study: "aspirin".into(), run: 1, stage: 0, round: 0 };
//! let federation = record::Digest::of(b"the charter");
//! let context = record::Digest::of(b"contributors, layout, plan");
//! let sent = Frame::new("gb", "ch", "share", federation, place, context, b"ciphertext".to_vec())
//!     .sign(&key)?;
//! let seen = wire::SignedFrame::decode(sent.bytes())?;
//! seen.verify(&key.public())?;
//! assert!(matches!(seen.frame().directed_to("se", &federation), Err(FrameFault::Misdirected { .. })));
//! # Ok::<(), FrameFault>(())
//! ```

pub mod api;
mod client;
mod error;
mod frame;
mod hub_client;
pub mod line;
pub mod peer;
mod peer_client;
pub mod point;
mod proxy;
mod server;
pub mod tls;

pub use client::{Client, Traffic};
pub use error::WireError;
pub use frame::{Frame, FrameFault, Ledger, MAX_FRAME_BODY, Place, Repeat, SignedFrame};
pub use hub_client::HubClient;
pub use peer_client::PeerClient;
pub use proxy::Proxy;
pub use server::{Admit, Peer, serve, serve_as};
pub use tls::TlsIdentity;
