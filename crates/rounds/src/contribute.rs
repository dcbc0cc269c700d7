//! A contributor's part: one checked vector, split and sealed to the aggregators.

use crate::context::RoundContext;
use crate::envelope::{Binding, Kind};
use crate::error::RoundError;
use crate::groups::{Groups, NONCE};
use crate::kem::KemPublic;
use prio::codec::Encode;
use prio::vdaf::Client;
use privacy::Contribution;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// One aggregator's shares of one contribution, sealed to it. Keep the bytes before sending them, and resend
/// only those bytes: sharing the same vector again under the same round would be refused (A9).
///
/// Made by [`contribute`] alone, from a [`Contribution`] alone:
///
/// ```compile_fail,E0451
/// let sealed = rounds::Sealed { to: "ch".to_owned(), bytes: b"rows".to_vec() };
/// ```
///
/// ```compile_fail,E0308
/// fn smuggle(ctx: &rounds::RoundContext, rows: Vec<u64>, keys: &[(String, rounds::KemPublic)]) {
///     let _ = rounds::contribute(ctx, "gb", rows, keys);
/// }
/// ```
///
/// ```compile_fail,E0382
/// // A contribution is used up: it cannot answer two rounds.
/// fn twice(a: &rounds::RoundContext, b: &rounds::RoundContext, c: privacy::Contribution) {
///     let _ = rounds::contribute(a, "gb", c, &[]);
///     let _ = rounds::contribute(b, "gb", c, &[]);
/// }
/// ```
pub struct Sealed {
    to: String,
    bytes: Vec<u8>,
}

impl Sealed {
    /// The aggregator that it is for.
    pub fn to(&self) -> &str {
        &self.to
    }

    /// The bytes to keep and to send.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Receiver and bytes.
    pub fn into_parts(self) -> (String, Vec<u8>) {
        (self.to, self.bytes)
    }
}

/// Splits a contribution into one share for each aggregator, with a proof that every entry is in bounds, and
/// seals each. `keys` names each aggregator of the round once, with its key of this run.
///
/// Seeds and nonces are fresh from the operating system each time (A9).
pub fn contribute(
    ctx: &RoundContext,
    me: &str,
    contribution: Contribution,
    keys: &[(String, KemPublic)],
) -> Result<Vec<Sealed>, RoundError> {
    let binding = Binding::new(ctx)?;
    if !ctx.contributors.iter().any(|c| c == me) {
        return Err(RoundError::Party { party: me.to_owned(), expected: "a contributor" });
    }
    if contribution.plan() != ctx.plan {
        return Err(RoundError::Contribution { what: "plan" });
    }
    if contribution.layout() != binding.layout {
        return Err(RoundError::Contribution { what: "layout" });
    }
    let keys = key_of_each(&ctx.aggregators, keys)?;
    let groups = Groups::new(&ctx.layout, ctx.aggregators.len(), &binding)?;
    let mut plain: Vec<Zeroizing<Vec<u8>>> = (0..ctx.aggregators.len())
        .map(|i| Zeroizing::new(Vec::with_capacity(groups.share_bytes(i))))
        .collect();
    for group in &groups.0 {
        let entry = |i: &usize| contribution.encoded().get(*i).map(|k| u128::from(*k));
        let values: Option<Vec<u128>> = group.cells.iter().map(entry).collect();
        let values = Zeroizing::new(values.ok_or(RoundError::Contribution { what: "layout" })?);
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|_| RoundError::Crypto { what: "system randomness" })?;
        let failed = RoundError::Crypto { what: "sharing" };
        let (public, inputs) = group.vdaf.shard(&group.ctx, &values, &nonce).map_err(|_| failed.clone())?;
        let public = public.get_encoded().map_err(|_| failed.clone())?;
        for (plain, input) in plain.iter_mut().zip(&inputs) {
            plain.extend_from_slice(&nonce);
            plain.extend_from_slice(&public);
            // INVARIANT: the buffer has room for all of it, so no copy of a share is left behind unwiped.
            input.encode(plain).map_err(|_| failed.clone())?;
        }
    }
    ctx.aggregators
        .iter()
        .zip(keys)
        .zip(plain)
        .map(|((to, key), plain)| {
            let bytes = binding.seal(Kind::Share, me, to, key, &plain)?;
            Ok(Sealed { to: to.clone(), bytes })
        })
        .collect()
}

/// The key of each party, in the parties' order; each named once and nobody else.
pub(crate) fn key_of_each<'a>(
    parties: &[String],
    keys: &'a [(String, KemPublic)],
) -> Result<Vec<&'a KemPublic>, RoundError> {
    let map: BTreeMap<&String, &KemPublic> = keys.iter().map(|(party, key)| (party, key)).collect();
    if let Some((party, _)) = keys.iter().find(|(party, _)| !parties.contains(party)) {
        return Err(RoundError::Party { party: party.clone(), expected: "a party that needs a key" });
    }
    if map.len() != keys.len() {
        let twice = keys.iter().map(|(p, _)| p).find(|p| keys.iter().filter(|(q, _)| q == *p).count() > 1);
        let party = twice.cloned().unwrap_or_default();
        return Err(RoundError::Party { party, expected: "named once with its key" });
    }
    parties
        .iter()
        .map(|party| {
            let missing = || RoundError::Party { party: party.clone(), expected: "named with its key" };
            map.get(party).copied().ok_or_else(missing)
        })
        .collect()
}
