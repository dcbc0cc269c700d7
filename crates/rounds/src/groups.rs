//! A layout's cells by width, one Prio3 instance each (VDAF draft 18, section 7.4.3: Prio3SumVec).

use crate::envelope::Binding;
use crate::error::RoundError;
use prio::field::Field128;
use prio::flp::Flp;
use prio::flp::gadgets::{Mul, ParallelSum};
use prio::flp::types::SumVec;
use prio::vdaf::prio3::{Prio3, Prio3SumVec, optimal_chunk_length};
use std::collections::BTreeMap;
use study::Layout;

/// Bytes of a seed, of a verify key and of a field element of Prio3SumVec.
pub(crate) const SEED: usize = 32;
pub(crate) const NONCE: usize = 16;
pub(crate) const ELEMENT: usize = 16;

/// The cells of one width.
pub(crate) struct Group {
    /// Indices in the layout.
    pub cells: Vec<usize>,
    pub vdaf: Prio3SumVec,
    /// Prio3's context string: the round and the width.
    pub ctx: Vec<u8>,
    /// Bytes of the public share.
    pub public_bytes: usize,
    /// Bytes of the first aggregator's input share.
    leader_bytes: usize,
    /// Bytes of a verifier share.
    pub verifier_bytes: usize,
}

impl Group {
    /// Bytes of the input share of the aggregator at `index`.
    pub fn input_bytes(&self, index: usize) -> usize {
        if index == 0 { self.leader_bytes } else { 2 * SEED }
    }

    /// Bytes of an aggregate share.
    pub fn aggregate_bytes(&self) -> usize {
        self.cells.len() * ELEMENT
    }
}

/// All groups of a layout, by rising width.
pub(crate) struct Groups(pub Vec<Group>);

impl Groups {
    pub fn new(layout: &Layout, aggregators: usize, binding: &Binding) -> Result<Groups, RoundError> {
        let mut widths: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
        for (index, cell) in layout.cells.iter().enumerate() {
            widths.entry(cell.bits).or_default().push(index);
        }
        let failed = |_| RoundError::Crypto { what: "setting up of Prio3" };
        let shares =
            u8::try_from(aggregators).map_err(|_| RoundError::Crypto { what: "setting up of Prio3" })?;
        let mut groups = Vec::with_capacity(widths.len());
        for (bits, cells) in widths {
            let most = (1u128 << bits) - 1;
            let chunk = optimal_chunk_length(usize::from(bits) * cells.len());
            let vdaf = Prio3::new_sum_vec(shares, most, cells.len(), chunk).map_err(failed)?;
            let flp = SumVec::<Field128, ParallelSum<Field128, Mul>>::new(most, cells.len(), chunk)
                .map_err(|_| RoundError::Crypto { what: "setting up of Prio3" })?;
            let ctx = [b"comity/1 prio3 ".as_slice(), binding.context.as_bytes(), &[bits]].concat();
            groups.push(Group {
                vdaf,
                ctx,
                public_bytes: aggregators * SEED,
                leader_bytes: (flp.input_len() + flp.proof_len()) * ELEMENT + SEED,
                verifier_bytes: flp.verifier_len() * ELEMENT + SEED,
                cells,
            });
        }
        Ok(Groups(groups))
    }

    /// Bytes of a contribution's plaintext for the aggregator at `index`.
    pub fn share_bytes(&self, index: usize) -> usize {
        self.0.iter().map(|g| NONCE + g.public_bytes + g.input_bytes(index)).sum()
    }

    /// Bytes of one aggregator's verifier shares for one contribution.
    pub fn verifier_bytes(&self) -> usize {
        self.0.iter().map(|g| g.verifier_bytes).sum()
    }

    /// Bytes of an aggregate share.
    pub fn aggregate_bytes(&self) -> usize {
        self.0.iter().map(Group::aggregate_bytes).sum()
    }
}

/// Takes bytes off the front of a slice.
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
}
