//! Terms: how another hub takes over the log without undoing what is in force.
//!
//! The hub is one process, and it can die, or lie and be caught. The log belongs to the federation and not to a hub's
//! key, so a hub serves a *term*, and q members together end it. Each says, under its `sign` key ([`SignOff`]): I cosign
//! nothing of this term any more, this is the highest checkpoint that I have cosigned, and that is the hub that comes
//! next. The statement that begins the next term ([`Opening`]) carries these, and its place in the log is the *base*:
//! what is below it stays, what was above it goes back to pending and is handed in again.
//!
//! # The base
//!
//! A checkpoint is in force when q organisations have cosigned it, and that they did may be known to a single member
//! which has acted on it and is gone for good. So the base follows from what members have *cosigned*, not from the
//! quorums that they have seen. With n organisations, f of them liars, and a sign-offs, a checkpoint that `s` of them
//! claim (that one or one that extends it) could be in force if
//!
//! ```text
//! s + (n - a) + min(f, a - s) >= q
//! ```
//!
//! those who have not answered, and f who may have lied, could have cosigned it too. The base is the largest claim that
//! could be in force. If claims contradict one another, the hub has shown two histories; then each that contradicts the
//! base must be one that could not be in force, or nobody takes over until more members have answered: two forks that
//! could both be in force are for people to decide. A claim beside the base still counts for what was before the two
//! histories parted, which the opening does not show: it supports every claim on the base's side down to the next one
//! that is smaller than itself.
//!
//! Only claims of the term that ends count: a checkpoint of an older one says nothing about what came after this one
//! began, and its opening has settled what stays of before. So the base is never below that opening, also where nobody
//! has cosigned anything since: with as many sign-offs as it takes none of which claims anything of the term, nothing
//! of it can be in force. Each claim carries the hub's signature, so that no member can make one up.
//!
//! **Threat model.** The old hub may be alive, lie, and work with f members. It gains nothing: a member that signed off
//! cosigns nothing more of that term (kept before the sign-off leaves), so of q members that signed off and q whose
//! cosignatures the old hub would need, more than f would have to be both. A member restored from an old copy that does
//! not know it counts among the f. `tests/record/handover.rs` holds the model in which all this is checked.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::checkpoint::SignedCheckpoint;
use crate::digest::{Digest, excerpt};
use crate::names::is_line;
use crate::roster::{HubInfo, Roster, Why, is_endpoint};
use crate::statement::SignedStatement;
use crate::tree::{Tree, verify_consistency};

/// Statement type of a sign-off. It travels beside the log, since the hub that would record it is the one that ends.
pub const SIGN_OFF: &str = "term.signoff@1";

/// Why a term cannot end or begin like this.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum TermError {
    /// A sign-off that cannot be read.
    #[error("sign-off cannot be read: {0}")]
    Malformed(String),
    /// A sign-off that is not its issuer's.
    #[error("sign-off of `{issuer}` does not hold: {why}")]
    NotTheirs {
        /// Who is named as its issuer.
        issuer: String,
        /// What is wrong.
        why: String,
    },
    /// Signs off another term, or for another hub.
    #[error(
        "sign-off of `{issuer}` ends term {term} for another hub than this, or another term than {expected}"
    )]
    Other {
        /// Who said it.
        issuer: String,
        /// The term in it.
        term: u32,
        /// The present term.
        expected: u32,
    },
    /// The checkpoint that is claimed is not one that a hub of this log signed.
    #[error("sign-off of `{issuer}` claims a checkpoint that no hub of this log has signed")]
    Claim {
        /// Who said it.
        issuer: String,
    },
    /// Too few.
    #[error("{have} organisations have signed off, expected at least {need}")]
    TooFew {
        /// How many have.
        have: u32,
        /// How many must.
        need: u32,
    },
    /// The same member twice.
    #[error("`{0}` has signed off twice")]
    Twice(String),
    /// Claims that contradict the base and could be in force.
    #[error(
        "the hub has shown two histories and both could be in force (`{issuer}` cosigned another): wait for more sign-offs, or let people decide"
    )]
    Fork {
        /// One who claims the other history.
        issuer: String,
    },
    /// Another base than the claims give.
    #[error("the term begins at {base}, but what members have cosigned gives {expected}")]
    Base {
        /// What is claimed.
        base: u64,
        /// What follows from the sign-offs.
        expected: u64,
    },
    /// The statement does not stand at its base.
    #[error("the term begins at {base}, but the statement stands at {index}")]
    Place {
        /// The base in it.
        base: u64,
        /// Where it stands.
        index: u64,
    },
    /// Not the next term.
    #[error("found term {term}, expected {expected}")]
    Term {
        /// The term in it.
        term: u32,
        /// The next one.
        expected: u32,
    },
    /// The hub's description.
    #[error("hub cannot be used: {0}")]
    Hub(String),
}

/// Ends the present term for its issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignOff {
    /// The term that ends.
    pub term: u32,
    /// The hub that comes next.
    pub next: HubInfo,
    /// Where it will be, `host:port`.
    pub address: String,
    /// The highest checkpoint that the issuer has cosigned, as the hub signed it, without cosignatures. Nothing if it
    /// has cosigned none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
}

/// A sign-off as it stands in an opening.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedOff {
    /// The signed statement, verbatim.
    pub statement: String,
    /// RFC 6962 consistency proof between the checkpoint that it claims and the base, the smaller one first. Empty if
    /// there is none, because they contradict each other or because the claim is of an older term.
    pub proof: Vec<Digest>,
}

/// Begins a term.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// The new term.
    pub term: u32,
    /// Its hub.
    pub hub: HubInfo,
    /// Where it is, `host:port`.
    pub address: String,
    /// Entries that stay; the index of this very statement.
    pub base: u64,
    /// Root over them.
    pub root: Digest,
    /// The sign-offs of the term before.
    pub signoffs: Vec<SignedOff>,
}

/// A sign-off that was checked against a roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who signed off.
    pub issuer: String,
    /// What it said.
    pub said: SignOff,
    /// Term, size and root of what it has cosigned.
    pub at: Option<(u32, u64, Digest)>,
}

impl Claim {
    /// Reads a sign-off and checks it against the roster of the term that ends.
    ///
    /// # Errors
    /// When it is not a member's, not of this term, or claims what no hub signed.
    pub fn read(bytes: &[u8], roster: &Roster) -> Result<Claim, TermError> {
        let signed = SignedStatement::from_bytes(bytes).map_err(|e| TermError::Malformed(e.to_string()))?;
        let statement = signed.statement();
        let issuer = statement.issuer.clone();
        if statement.r#type != SIGN_OFF {
            return Err(TermError::Malformed(format!("found type `{}`", excerpt(&statement.r#type))));
        }
        let not_theirs = |why: Why| TermError::NotTheirs { issuer: issuer.clone(), why: why.to_string() };
        roster.authenticate(&signed).map_err(not_theirs)?;
        if !roster.members.contains_key(&issuer) {
            return Err(not_theirs(Why::NotAMember(issuer.clone())));
        }
        let said: SignOff = statement.body_as().map_err(|e| TermError::Malformed(e.to_string()))?;
        if said.term != roster.term {
            return Err(TermError::Other { issuer, term: said.term, expected: roster.term });
        }
        let at = match &said.claim {
            None => None,
            Some(note) => {
                let claim = || TermError::Claim { issuer: issuer.clone() };
                let note = SignedCheckpoint::parse(note).map_err(|_| claim())?;
                let checkpoint = note.checkpoint();
                if checkpoint.origin() != roster.origin || note.lines().next().is_some() {
                    return Err(claim());
                }
                let term = roster.term_of(&note).ok_or_else(claim)?;
                Some((term, checkpoint.size(), checkpoint.root()))
            }
        };
        Ok(Claim { issuer, said, at })
    }
}

/// What the claims give: how many entries stay, by the rule above.
///
/// `agrees` says whether a claimed checkpoint and the base that is asked about are of one history.
///
/// # Errors
/// Too few sign-offs, or two histories that could both be in force.
pub fn base(
    claims: &[Claim],
    roster: &Roster,
    agrees: &dyn Fn(u64, &Digest) -> bool,
) -> Result<u64, TermError> {
    let electorate = roster.electorate().ok_or(TermError::TooFew { have: 0, need: 1 })?;
    let (n, f, q) = (electorate.organisations(), electorate.f, electorate.quorum());
    let operator = |id: &str| electorate.members.get(id).map(|m| m.operator.as_str());
    let mut seen = BTreeSet::new();
    for claim in claims {
        if !seen.insert(claim.issuer.as_str()) {
            return Err(TermError::Twice(claim.issuer.clone()));
        }
    }
    // Of two seats of one operator the higher claim counts: it could have cosigned with either.
    let count = |of: &dyn Fn(&Claim) -> bool| {
        claims.iter().filter(|c| of(c)).filter_map(|c| operator(&c.issuer)).collect::<BTreeSet<_>>().len()
            as u32
    };
    let have = count(&|_| true);
    // Enough that whatever is in force is claimed by at least one that tells the truth, and a quorum of members.
    let members = electorate.member_organisations();
    let need =
        (n + f + 1).saturating_sub(q).max(crate::electorate::quorum(members, f.min(members.max(1) - 1)));
    if have < need {
        return Err(TermError::TooFew { have, need });
    }
    // A claim of an older term says nothing of this one, and what it could say of its own the opening of this one has
    // settled: that stays, whether anything was cosigned since or not.
    let term = roster.term;
    let began = roster.began(term);
    let highest = |c: &Claim| c.at.filter(|(t, ..)| *t == term).map(|(_, size, root)| (size, root));
    let could_be = |support: u32| support + (n - have.min(n)) + f.min(have - support) >= q;
    let on_chain = |c: &Claim| highest(c).filter(|(size, root)| agrees(*size, root)).map(|(size, _)| size);
    let beside = |c: &Claim| highest(c).filter(|(size, root)| !agrees(*size, root)).map(|(size, _)| size);
    for claim in claims {
        let Some(size) = beside(claim) else { continue };
        // Whether the others beside agree with this one is not asked: more support errs on the safe side.
        if could_be(count(&|c| beside(c).is_some_and(|s| s >= size))) {
            return Err(TermError::Fork { issuer: claim.issuer.clone() });
        }
    }
    let sizes: BTreeSet<u64> = claims.iter().filter_map(on_chain).collect();
    // INVARIANT: a claim beside the base supports what was before the two parted, and where that was is not known here.
    // So it counts for each size down to the next smaller claim: to keep too much is safe, to cut too much is not.
    let supports = |c: &Claim, size: u64| {
        let below = sizes.range(..size).next_back().copied().unwrap_or(0);
        on_chain(c).is_some_and(|s| s >= size) || beside(c).is_some_and(|s| s > below)
    };
    let largest = sizes.iter().rev().find(|size| could_be(count(&|c| supports(c, **size))));
    Ok(largest.or(sizes.first()).copied().unwrap_or(0).max(began))
}

impl Opening {
    /// Puts an opening together from sign-offs and the log that the next hub starts from.
    ///
    /// # Errors
    /// When the sign-offs do not suffice, or the log here does not reach the base that they give: some member has
    /// cosigned entries that are to be fetched first.
    pub fn make(signoffs: &[Vec<u8>], tree: &Tree, roster: &Roster) -> Result<Opening, TermError> {
        let mut claims = Vec::new();
        for bytes in signoffs {
            claims.push(Claim::read(bytes, roster)?);
        }
        let first = claims.first().ok_or(TermError::TooFew { have: 0, need: roster.quorum() })?.said.clone();
        // A claim beyond this log cannot be compared with it; it is taken to agree, and the base says whether its
        // entries are needed.
        let agrees = |size: u64, root: &Digest| tree.root_at(size).map_or(true, |ours| ours == *root);
        let base = base(&claims, roster, &agrees)?;
        let root = tree.root_at(base).map_err(|_| TermError::Base { base: tree.size(), expected: base })?;
        let mut all = Vec::new();
        for (bytes, claim) in signoffs.iter().zip(&claims) {
            let proof = match claim.at {
                Some((_, size, _)) if size.max(base) <= tree.size() && agrees(size, &claim.root()) => {
                    tree.prove_consistency(size.min(base), size.max(base)).unwrap_or_default()
                }
                _ => Vec::new(),
            };
            let statement =
                String::from_utf8(bytes.clone()).map_err(|e| TermError::Malformed(e.to_string()))?;
            all.push(SignedOff { statement, proof });
        }
        let opening = Opening {
            term: roster.term + 1,
            hub: first.next,
            address: first.address,
            base,
            root,
            signoffs: all,
        };
        opening.check(base, roster)?;
        Ok(opening)
    }

    /// Checks everything but that [`root`](Self::root) is that of the entries before `index`, which is for whoever has
    /// their tree ([`crate::log::Log::append`]).
    ///
    /// # Errors
    /// When it does not begin the next term at `index`.
    pub fn check(&self, index: u64, roster: &Roster) -> Result<(), TermError> {
        if self.term != roster.term + 1 {
            return Err(TermError::Term { term: self.term, expected: roster.term + 1 });
        }
        if self.base != index {
            return Err(TermError::Place { base: self.base, index });
        }
        if !is_line(&self.hub.operator, 256)
            || !is_line(&self.hub.jurisdiction, 64)
            || !is_endpoint(&self.address)
        {
            return Err(TermError::Hub(
                "it needs an operator, a jurisdiction and an address `host:port`".to_owned(),
            ));
        }
        if self.hub.key == self.hub.tls {
            return Err(TermError::Hub("one key used twice".to_owned()));
        }
        let mut claims = Vec::new();
        let mut agreeing: BTreeSet<(u64, Digest)> = BTreeSet::new();
        for signed_off in &self.signoffs {
            let claim = Claim::read(signed_off.statement.as_bytes(), roster)?;
            if claim.said.next != self.hub || claim.said.address != self.address {
                return Err(TermError::Other {
                    issuer: claim.issuer,
                    term: claim.said.term,
                    expected: roster.term,
                });
            }
            if let Some((_, size, root)) = claim.at
                && consistent((size, root), (self.base, self.root), &signed_off.proof)
            {
                agreeing.insert((size, root));
            }
            claims.push(claim);
        }
        let agrees = |size: u64, root: &Digest| agreeing.contains(&(size, *root));
        let expected = base(&claims, roster, &agrees)?;
        if expected != self.base {
            return Err(TermError::Base { base: self.base, expected });
        }
        Ok(())
    }
}

impl Claim {
    fn root(&self) -> Digest {
        self.at.map_or_else(|| Tree::new().root(), |(_, _, root)| root)
    }
}

/// Whether the proof shows that the smaller of two trees is the beginning of the larger.
fn consistent(a: (u64, Digest), b: (u64, Digest), proof: &[Digest]) -> bool {
    let ((old, old_root), (new, new_root)) = if a.0 <= b.0 { (a, b) } else { (b, a) };
    if old == 0 {
        return proof.is_empty() && old_root == Tree::new().root();
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    verify_consistency(old, &old_root, new, &new_root, proof).is_ok()
}

impl Roster {
    /// The smallest size of a checkpoint of this term: its opening is in it. 0 for the first.
    fn began(&self, term: u32) -> u64 {
        self.eras.iter().find(|era| era.electorate.term == term).map_or(0, |era| era.from)
    }

    /// The term of the hub that signed this checkpoint; nothing if none of this log did.
    pub fn term_of(&self, note: &SignedCheckpoint) -> Option<u32> {
        self.eras
            .iter()
            .rev()
            .find(|era| note.verify_hub(&era.electorate.hub.key).is_ok())
            .map(|era| era.electorate.term)
    }
}

/// The claim of a sign-off: a checkpoint as its hub signed it.
pub fn bare(note: &SignedCheckpoint) -> String {
    note.without_cosignatures().to_note()
}
