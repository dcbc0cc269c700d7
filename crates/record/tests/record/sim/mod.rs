//! The record in storms: honest and lying hubs, members on disks that fail, outside witnesses and a bad network, all
//! drawn from one seed. Every party is a state machine and time is a number, so a seed is a matter of milliseconds and
//! the same each time. The rules of a member are [`record::Member`]'s own; nothing of the record room is simulated.

// The tests and the example use different parts of it.
#![allow(dead_code)]

pub mod charter;
pub mod hub;
pub mod journal;
pub mod member;
pub mod network;
pub mod shelf;
pub mod storm;
pub mod watch;
pub mod withheld;
pub mod witness;
pub mod world;

pub use world::{Outcome, run};

/// A rule that is turned off, to see that its loss is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The disk says that what was cosigned is kept, and does not keep it.
    ForgetsCosigned,
    /// Sign-offs claim what is known to be in force, not what was cosigned.
    BaseByNotes,
    /// Members cosign terms that they have signed off.
    NoFence,
    /// A change of members is sealed by the new set alone.
    OldEraIgnored,
    /// A copy that is an old one does not ask the others.
    RestoredDoesNotAsk,
    /// Members do not tell each other what is to be in the record.
    NoExchange,
    /// What a new term cuts off is not handed in again.
    DropsCut,
    /// Messages leave before what they say is durable.
    SendsBeforeFlush,
    /// The hub gives receipts before it has written.
    ReceiptFirst,
    /// The hub's stamps follow its clock back.
    StampsBack,
    /// Members go on cosigning past what is withheld.
    CosignsOverdue,
}

impl Sabotage {
    pub const ALL: [Sabotage; 11] = [
        Sabotage::ForgetsCosigned,
        Sabotage::BaseByNotes,
        Sabotage::NoFence,
        Sabotage::OldEraIgnored,
        Sabotage::RestoredDoesNotAsk,
        Sabotage::NoExchange,
        Sabotage::DropsCut,
        Sabotage::SendsBeforeFlush,
        Sabotage::ReceiptFirst,
        Sabotage::StampsBack,
        Sabotage::CosignsOverdue,
    ];

    pub fn named(name: &str) -> Option<Sabotage> {
        Self::ALL.into_iter().find(|s| format!("{s:?}") == name)
    }
}
