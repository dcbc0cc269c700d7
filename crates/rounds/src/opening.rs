//! A reader's part: put the aggregate shares together, once each is the one that was committed to.

use crate::context::RoundContext;
use crate::envelope::{Binding, Kind, kind_of};
use crate::error::RoundError;
use crate::groups::{Groups, Reader};
use crate::kem::KemSecret;
use prio::codec::ParameterizedDecode;
use prio::vdaf::prio3::Prio3SumVec;
use prio::vdaf::{Collector as _, Vdaf};
use record::Digest;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

type AggregateShare = <Prio3SumVec as Vdaf>::AggregateShare;

/// The commitment to an aggregate share. The salt keeps a sum that is easy to guess from being confirmed by
/// its commitment when the other shares are known.
pub(crate) fn commitment(context: &Digest, aggregator: &str, salt: &[u8; 32], share: &[u8]) -> Digest {
    let mut bytes = Zeroizing::new(Vec::with_capacity(128 + share.len()));
    bytes.extend_from_slice(b"comity/1 aggregate share ");
    bytes.extend_from_slice(context.as_bytes());
    bytes.extend_from_slice(&(aggregator.len() as u64).to_be_bytes());
    bytes.extend_from_slice(aggregator.as_bytes());
    bytes.extend_from_slice(salt);
    bytes.extend_from_slice(share);
    Digest::of(&bytes)
}

/// The state of one reader of one round's sum: the collector, or a contributor that replays the step.
///
/// Callers authenticate `from`: frames are signed by keys in the record.
pub struct Opening {
    ctx: RoundContext,
    binding: Binding,
    me: String,
    secret: KemSecret,
    groups: Groups,
    seen: BTreeMap<String, Digest>,
    shares: BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// All aggregators' commitments, as the first opening told them.
    commitments: Option<Vec<Digest>>,
    sum: Option<Vec<u128>>,
    /// Every aggregator's salt of its commitment: known to the readers of this sum together, to nobody else.
    salts: BTreeMap<String, Zeroizing<[u8; 32]>>,
    lost: bool,
}

impl Opening {
    /// A machine for one reader of one round.
    pub fn new(ctx: RoundContext, me: &str, secret: KemSecret) -> Result<Opening, RoundError> {
        let binding = Binding::new(&ctx)?;
        if !ctx.reads(me) {
            return Err(RoundError::Party { party: me.to_owned(), expected: "a reader of the sum" });
        }
        let groups = Groups::new(&ctx.layout, ctx.aggregators.len(), &binding)?;
        Ok(Opening {
            me: me.to_owned(),
            ctx,
            binding,
            secret,
            groups,
            seen: BTreeMap::new(),
            shares: BTreeMap::new(),
            commitments: None,
            sum: None,
            salts: BTreeMap::new(),
            lost: false,
        })
    }

    /// An aggregator's opening. A verbatim repeat is ignored.
    pub fn on_message(&mut self, from: &str, bytes: &[u8]) -> Result<(), RoundError> {
        if self.lost {
            return Err(RoundError::Lost);
        }
        let kind = Kind::Opening;
        let Some(index) = self.ctx.aggregators.iter().position(|a| a == from) else {
            return Err(RoundError::Party { party: from.to_owned(), expected: "an aggregator" });
        };
        match kind_of(bytes) {
            Some(found) if found != kind => {
                return Err(RoundError::Kind { from: from.to_owned(), found, expected: "an opening" });
            }
            _ => {}
        }
        let digest = Digest::of(bytes);
        if self.seen.get(from) == Some(&digest) {
            return Ok(());
        }
        let length = self.groups.aggregate_bytes() + 32 + 32 * self.ctx.aggregators.len();
        let plain = self.binding.open(kind, from, &self.me, &self.secret, bytes, length)?;
        if self.seen.contains_key(from) {
            return Err(RoundError::Conflict { from: from.to_owned(), kind });
        }
        let (share, commitments) = self.parse(from, index, &plain)?;
        self.seen.insert(from.to_owned(), digest);
        if *self.commitments.get_or_insert_with(|| commitments.clone()) != commitments {
            self.lose();
            return Err(RoundError::Disagreement { aggregator: from.to_owned() });
        }
        self.shares.insert(from.to_owned(), share);
        if self.shares.len() == self.ctx.aggregators.len() {
            self.unshard()?;
        }
        Ok(())
    }

    /// The sum of all contributions' encoded entries, in the layout's order, once every aggregator has opened;
    /// `privacy::decode` makes numbers of it.
    pub fn sum(&self) -> Option<&[u128]> {
        self.sum.as_deref()
    }

    /// A secret that the readers of this sum share once it is open, and that no aggregator alone, no hub and no
    /// reader of the record knows: a digest over the aggregators' salts. It salts what follows from the sum (A4).
    pub fn shared_secret(&self) -> Option<Digest> {
        self.sum.as_ref()?;
        let mut bytes = b"comity-opening-secret/1".to_vec();
        bytes.extend_from_slice(self.binding.context.as_bytes());
        for salt in self.salts.values() {
            bytes.extend_from_slice(salt.as_slice());
        }
        Some(Digest::of(&bytes))
    }

    /// Aggregators whose openings are not here yet.
    pub fn missing(&self) -> Vec<String> {
        self.ctx.aggregators.iter().filter(|a| !self.seen.contains_key(*a)).cloned().collect()
    }

    #[allow(clippy::type_complexity)] // taken apart at once
    fn parse(
        &mut self,
        from: &str,
        index: usize,
        plain: &[u8],
    ) -> Result<(Zeroizing<Vec<u8>>, Vec<Digest>), RoundError> {
        let malformed = || RoundError::Malformed { from: from.to_owned(), kind: Kind::Opening };
        let mut reader = Reader(plain);
        let share = reader.take(self.groups.aggregate_bytes()).ok_or_else(malformed)?;
        let salt = reader.array::<32>().ok_or_else(malformed)?;
        let mut commitments = Vec::with_capacity(self.ctx.aggregators.len());
        for _ in &self.ctx.aggregators {
            commitments.push(Digest::from_bytes(reader.array().ok_or_else(malformed)?));
        }
        if commitments.get(index) != Some(&commitment(&self.binding.context, from, &salt, share)) {
            self.lose();
            return Err(RoundError::Commitment { aggregator: from.to_owned() });
        }
        self.salts.insert(from.to_owned(), Zeroizing::new(salt));
        Ok((Zeroizing::new(share.to_vec()), commitments))
    }

    fn lose(&mut self) {
        self.lost = true;
        self.shares.clear();
    }

    fn unshard(&mut self) -> Result<(), RoundError> {
        let mut sum = vec![0; self.ctx.layout.cells.len()];
        let mut at = 0;
        for group in &self.groups.0 {
            let next = at + group.aggregate_bytes();
            let mut parts = Vec::with_capacity(self.shares.len());
            for (aggregator, share) in &self.shares {
                let malformed = RoundError::Malformed { from: aggregator.clone(), kind: Kind::Opening };
                let bytes = share.get(at..next).ok_or_else(|| malformed.clone())?;
                parts.push(
                    AggregateShare::get_decoded_with_param(&(&group.vdaf, &()), bytes)
                        .map_err(|_| malformed)?,
                );
            }
            let failed = |_| RoundError::Crypto { what: "adding up" };
            let totals = group.vdaf.unshard(&(), parts, self.ctx.contributors.len()).map_err(failed)?;
            for (cell, total) in group.cells.iter().zip(totals) {
                if let Some(place) = sum.get_mut(*cell) {
                    *place = total;
                }
            }
            at = next;
        }
        self.shares.clear();
        // A share that is not a sum of verified shares is nearly always far out of range.
        let sites = u32::try_from(self.ctx.contributors.len()).unwrap_or(u32::MAX);
        if let Err(fault) = privacy::decode(&self.ctx.layout, &sum, sites) {
            self.lose();
            return Err(fault.into());
        }
        self.sum = Some(sum);
        Ok(())
    }
}
