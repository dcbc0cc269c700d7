//! Sign-offs go from member to member, so that one whose store was put back is told that it has ended a term.
//!
//! A sign-off travels beside the log, in files that people carry to whoever begins the next term; and with the
//! compared checkpoints, from each member to the others. Each keeps those that it has seen of the present term and of
//! the one before, and shows them to all, above all to their authors: what bears a member's own signature it believes,
//! and so neither cosigns in a term that it has signed off nor signs it off in other words.
//!
//! **Who can lie.** A sign-off counts only under its author's key, so nobody makes one up; it can be kept back, by
//! members and by the hub that carries an answer. What nobody tells that is asked stays forgotten: such a member counts
//! among the f. Whoever stole a member's `sign` key can have it stop cosigning, as it can speak for it in all else.

use crate::NodeError;
use crate::core::Node;
use crate::mirror::OnStore;
use crate::term::Next;
use record::term::{Claim, SignedOff};
use record::{Digest, SignedStatement};
use wire::api;

impl Node {
    /// Sign-offs that were seen here, for another member.
    ///
    /// # Errors
    /// When the store fails.
    pub fn peer_signoffs(&self) -> Result<Vec<Vec<u8>>, NodeError> {
        self.store.flush()?;
        let mut room = api::MAX_BATCH;
        let mut all = self.store.signoffs()?;
        all.retain(|bytes| {
            let fits = bytes.len() <= room;
            room = room.saturating_sub(if fits { bytes.len() } else { 0 });
            fits
        });
        Ok(all)
    }

    /// Sign-offs that a member has not, as it shows, to be handed to it.
    ///
    /// # Errors
    /// When the store fails.
    pub fn signoffs_for(&self, peer: &str, shown: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, NodeError> {
        let mut all = self.peer_signoffs()?;
        let told = |bytes: &[u8]| {
            self.peers.told_off.get(peer).is_some_and(|told| told.contains(&Digest::of(bytes)))
        };
        all.retain(|bytes| !shown.contains(bytes) && !told(bytes));
        Ok(all)
    }

    /// The member has this sign-off, or wants none such.
    pub fn signoff_told(&mut self, peer: &str, sign_off: Digest) {
        self.peers.told_off.entry(peer.to_owned()).or_default().insert(sign_off);
    }

    /// Takes a member's sign-off of the present term, or this member's own that it has forgotten.
    ///
    /// # Errors
    /// Why it is not taken, for who gave it; or the store failed.
    pub fn take_signoff(&mut self, bytes: &[u8]) -> Result<Result<Digest, String>, NodeError> {
        let id = match SignedStatement::from_bytes(bytes) {
            Ok(signed) => signed.id(),
            Err(e) => return Ok(Err(e.to_string())),
        };
        if self.store.has_signoff(&id.to_string())? {
            return Ok(Ok(id));
        }
        // A change of keys that is mirrored may not be in force yet.
        let read = Claim::read(bytes, self.member.log.roster());
        let claim = match read.or_else(|e| Claim::read(bytes, &self.state.roster).map_err(|_| e)) {
            Ok(claim) => claim,
            Err(e) => return Ok(Err(e.to_string())),
        };
        self.store.add_signoff(&id.to_string(), claim.said.term, &claim.issuer, bytes)?;
        if claim.issuer == self.me() {
            self.recall(&claim, bytes)?;
        }
        Ok(Ok(id))
    }

    /// A sign-off of this member's own that comes from elsewhere: if it does not remember it, its store is an old copy.
    fn recall(&mut self, claim: &Claim, bytes: &[u8]) -> Result<(), NodeError> {
        if self.member.signed_off >= claim.said.term {
            return Ok(());
        }
        let term = claim.said.term;
        tracing::error!(
            term,
            "a sign-off of this member that it does not remember: its store is an old copy"
        );
        if self.member.restored.is_none() {
            self.restored()?;
        }
        self.member.remember(bytes, &mut OnStore(&self.store))?;
        let (hub, address) = (claim.said.next.clone(), claim.said.address.clone());
        self.keep_sign_off(bytes, &Next { federation: self.charter.federation.clone(), hub, address })?;
        self.store.flush()
    }

    /// What a term began with was signed by members, and one of them may not remember.
    pub(crate) fn keep_signoffs(&self, term: u32, signoffs: &[SignedOff]) -> Result<(), NodeError> {
        for said in signoffs {
            let Ok(signed) = SignedStatement::from_bytes(said.statement.as_bytes()) else { continue };
            let issuer = &signed.statement().issuer;
            self.store.add_signoff(&signed.id().to_string(), term, issuer, said.statement.as_bytes())?;
        }
        Ok(())
    }
}
