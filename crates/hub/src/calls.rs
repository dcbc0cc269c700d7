//! What a caller may ask: bodies to orders, and every check that needs no writing. No thread, socket or clock.

use axum::body::Bytes;
use record::{Cosignature, Digest, SecretKey, SignedCheckpoint, SignedStatement, canon};
use wire::api::{Cosign, Refusal};
use wire::{Peer, SignedFrame};

use crate::ledger::Order;
use crate::state::{Counted, State};

/// A statement to be entered.
pub(crate) fn statement(peer: &Peer, body: &[u8]) -> Result<Order, Refusal> {
    let signed = SignedStatement::from_bytes(body).map_err(|e| {
        Refusal::new(400, "this is not a signed statement", e.to_string(), "its canonical bytes")
    })?;
    Ok(Order::Statement { signed: Box::new(signed), caller: peer.key })
}

/// Whether entries `from..to` may be read.
pub(crate) fn range(state: &State, from: u64, to: u64) -> Result<(), Refusal> {
    let size = state.published();
    if from >= to || to > size {
        return Err(Refusal::new(
            404,
            "there are no such entries",
            format!("{from} to {to}"),
            format!("a range within 0 to {size}"),
        ));
    }
    Ok(())
}

/// A member's cosignature that may be counted.
pub(crate) fn cosignature(party: &str, body: &[u8]) -> Result<(Cosign, Cosignature), Refusal> {
    let message: Cosign = canon::from_bytes(body).map_err(|e| {
        Refusal::new(
            400,
            "this is not a cosignature message",
            e.to_string(),
            "canonical JSON of size and line",
        )
    })?;
    let cosignature = Cosignature::from_line(&message.line).map_err(|e| {
        Refusal::new(400, "this is not a cosignature line", e.to_string(), "a line of C2SP tlog-cosignature")
    })?;
    if cosignature.name() != party {
        return Err(Refusal::new(403, "a member hands in its own cosignatures", cosignature.name(), party));
    }
    Ok((message, cosignature))
}

/// What counting a cosignature leads to.
#[derive(Default)]
pub(crate) struct Counting {
    /// to be kept, without an answer
    pub(crate) keep: Vec<Order>,
    /// it completed a quorum: publish what waits, and tell
    pub(crate) sealed: bool,
}

/// Counts a cosignature.
pub(crate) fn count(
    state: &mut State,
    message: Cosign,
    cosignature: Cosignature,
) -> Result<Counting, Refusal> {
    let slot = cosignature.slot();
    let counted = state.count(message.size, cosignature).map_err(|e| {
        Refusal::new(
            422,
            "this cosignature does not hold",
            e.to_string(),
            "one by the member's `cosign` key on this hub's checkpoint",
        )
    })?;
    match counted {
        Counted::Kept { sealed, change } => {
            let seal = change.map(|note| Order::Seal { size: message.size, note });
            let line = Order::Cosignature { size: message.size, name: slot, line: message.line };
            Ok(Counting { keep: seal.into_iter().chain([line]).collect(), sealed })
        }
        Counted::Old => Ok(Counting::default()),
        Counted::Unknown => Err(Refusal::new(
            409,
            "no cosignatures are collected for this checkpoint",
            format!("size {}", message.size),
            format!("size {}", state.published()),
        )),
    }
}

/// The COSE receipt of the statement with the id `text`, once a quorum has cosigned a tree that holds it.
pub(crate) fn receipt(state: &State, key: &record::SecretKey, text: &str) -> Result<Vec<u8>, Refusal> {
    let shown = || text.chars().take(80).collect::<String>();
    let id: Digest = text.parse().map_err(|_| {
        Refusal::new(400, "this is not a statement's id", shown(), "64 lower-case hex characters")
    })?;
    let size = state.sealed();
    let none = || {
        Refusal::new(
            404,
            "there is no receipt of this statement",
            shown(),
            format!("a statement in the tree of {size} entries that a quorum cosigned"),
        )
    };
    let index = state.ids.get(&id).map(|(index, _)| *index).filter(|index| *index < size).ok_or_else(none)?;
    // INVARIANT: the root of a checkpoint that this key signed, so a receipt shows no second history.
    record::CoseReceipt::issue(state.origin(), &state.tree, size, (index, id), key).map_err(|_| none())
}

/// A checkpoint that shows that this hub's store went back in time, and what to keep of it.
pub(crate) fn ahead(
    state: &mut State,
    key: &SecretKey,
    peer: &Peer,
    body: &[u8],
) -> Result<Option<Order>, Refusal> {
    member(peer)?;
    let note = std::str::from_utf8(body).ok().and_then(|text| SignedCheckpoint::parse(text).ok());
    let note = note.filter(|note| state.is_behind(note, key)).ok_or_else(|| {
        Refusal::new(
            422,
            "this shows nothing",
            "a note",
            "a checkpoint by this hub's key that is not of its entries",
        )
    })?;
    if state.silent.is_some() {
        return Ok(None);
    }
    let size = note.checkpoint().size();
    let why = behind(state.tree.size(), size);
    tracing::error!("{why}");
    state.silent = Some(why);
    Ok(Some(Order::Behind { size }))
}

/// Why a hub whose store went back in time does nothing any more.
pub(crate) fn behind(have: u64, signed: u64) -> String {
    format!(
        "this hub's store is behind what members have (it has {have} entries and has signed a checkpoint of {signed}): \
         let another hub take over from a member's copy (`comity hub handover`)"
    )
}

/// Whether anything may be entered.
pub(crate) fn may_enter(state: &State) -> Result<(), Refusal> {
    match &state.silent {
        None => Ok(()),
        Some(why) => Err(Refusal::new(503, why.clone(), "a call", "a later try")),
    }
}

/// A frame as it came; it may be large, so this is done before anything is looked up.
pub(crate) fn decoded(body: &[u8]) -> Result<SignedFrame, Refusal> {
    SignedFrame::decode(body).map_err(|e| {
        Refusal::new(400, "this frame is not acceptable", e.to_string(), "a frame as its sender signed it")
    })
}

/// A member's frame for another member's mailbox, and its id.
pub(crate) fn frame(
    state: &State,
    peer: &Peer,
    frame: &SignedFrame,
    body: Bytes,
) -> Result<(Digest, Order), Refusal> {
    let party = member(peer)?;
    let said = frame.frame();
    if said.from != party {
        return Err(Refusal::new(
            403,
            "a member sends its own frames",
            format!("from `{}`", said.from),
            format!("from `{party}`"),
        ));
    }
    if state.roster.charter_digest != Some(said.federation) {
        return Err(Refusal::new(
            422,
            "this frame belongs to another federation",
            said.federation.to_string(),
            "the charter's digest",
        ));
    }
    if !state.roster.members.contains_key(&said.to) {
        return Err(Refusal::new(
            404,
            "there is no such member",
            format!("to `{}`", said.to),
            "a member's id",
        ));
    }
    let sign = state.roster.members.get(party).map(|keys| keys.sign);
    let key = sign.ok_or_else(|| forbidden(peer))?;
    frame.verify(&key).map_err(|e| {
        Refusal::new(422, "this frame is not acceptable", e.to_string(), "a frame signed by its sender")
    })?;
    let (id, to) = (frame.id(), said.to.clone());
    Ok((id, Order::Mail { to, from: party.to_owned(), id, bytes: body }))
}

/// What a caller has read may be forgotten.
pub(crate) fn read_up_to(party: &str, after: u64) -> Option<Order> {
    (after > 0).then(|| Order::DropMail { party: party.to_owned(), up_to: after })
}

/// The caller, if it is a member.
pub(crate) fn member(peer: &Peer) -> Result<&str, Refusal> {
    peer.party.as_deref().ok_or_else(|| forbidden(peer))
}

fn forbidden(peer: &Peer) -> Refusal {
    Refusal::new(
        403,
        "this call is for members",
        format!("TLS key {}", peer.key),
        "a TLS key that the charter gives to a member",
    )
}

/// The hub ends, or its store failed.
pub(crate) fn stopping() -> Refusal {
    Refusal::new(503, "the hub is stopping", "a call", "a later try")
}

/// The store could not be read.
pub(crate) fn unreadable(error: &rusqlite::Error) -> Refusal {
    tracing::error!(%error, "the store could not be read");
    Refusal::new(
        500,
        "the hub's store could not be read",
        "a fault of the hub",
        "an answer; tell its operator",
    )
}
