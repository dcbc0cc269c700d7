//! A member's part in the record, as a machine: mirror, cosigner, watchman.
//!
//! Takes in what a hub shows, checks it, says what must be kept and cosigns. It does no I/O: whatever must survive goes
//! to a [`Shelf`] before anything that follows from it is given out, and a machine is made again from what the shelf
//! held ([`Member::wake`]). The node puts it on its own store; the simulation on one that fails as disks do.
//!
//! **What it promises**, whatever the hub, up to f other members and its own crashes do:
//! - it cosigns one history in each term, and nothing of a term that it has signed off;
//! - what it once held in force it never lets go of: a term that begins below that is refused, loudly;
//! - it acts on nothing that is not in force;
//! - restored from an old copy and told so, it cosigns nothing until a quorum of the other organisations have said how
//!   far they are.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::{CheckpointError, CosignKeys, Cosignature, SignedCheckpoint};
use crate::digest::Digest;
use crate::entry::Entry;
use crate::keys::SecretKey;
use crate::log::{Cosigned, InForce, Log, LogError, Standing};
use crate::roster::{HubInfo, OPEN};
use crate::statement::{SignedStatement, Statement};
use crate::term::{Claim, SIGN_OFF, SignOff, bare};

/// How far stamps may be from this member's clock, milliseconds.
const SKEW: i64 = crate::log::MAX_SKEW_MS;
/// Cosign again when the last cosignature is older than this, so that the watermark stays young, milliseconds.
const REFRESH: i64 = 30_000;

/// Where a member keeps what must survive. Each call is durable, or is before anything that follows from it leaves:
/// that is the owner's to see to.
pub trait Shelf {
    /// What goes wrong here.
    type Error;
    /// Keeps entries from index `first` on, with the checkpoint that proves them.
    ///
    /// # Errors
    /// When it could not, or may not have.
    fn keep_entries(&mut self, first: u64, leaves: &[Vec<u8>], note: &str) -> Result<(), Self::Error>;
    /// Lets go of the entries from index `size` on.
    ///
    /// # Errors
    /// As above.
    fn cut_entries(&mut self, size: u64) -> Result<(), Self::Error>;
    /// Keeps a short text under a name, in place of what was there.
    ///
    /// # Errors
    /// As above.
    fn keep_note(&mut self, name: &str, text: &str) -> Result<(), Self::Error>;
}

/// Name of the note of what was cosigned.
pub const COSIGNED: &str = "cosigned";
/// Name of the note with the checkpoint in force.
pub const IN_FORCE: &str = "in-force";
/// Name of the note of the last term that was signed off.
pub const SIGNED_OFF: &str = "signed-off";
/// Name of the note that this copy is an old one.
pub const RESTORED: &str = "restored";
/// Beginning of the names of the notes that sealed a change of members, keys or hub; the size follows.
pub const SEAL: &str = "seal/";

/// Why a machine refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The log does not hold.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Another federation's record.
    #[error("the record began with charter {found}, this member was joined with charter {joined}")]
    OtherCharter {
        /// In the record.
        found: Digest,
        /// Joined with.
        joined: Digest,
    },
    /// A stamp that is off.
    #[error("stamp {0} is more than 60 s off this node's clock")]
    Skewed(i64),
    /// What was kept cannot be read.
    #[error("what this member kept as `{0}` is damaged")]
    Kept(String),
    /// A term that would undo what is in force.
    #[error(
        "a term that begins at {base} would undo what is in force here up to {in_force}: compare with other members, do not follow"
    )]
    Undone {
        /// Where it begins.
        base: u64,
        /// What is in force here.
        in_force: u64,
    },
    /// Entries that open no later term.
    #[error("the entry at {0} begins no later term")]
    NoTerm(u64),
    /// Not cosigned, and why.
    #[error("not cosigned: {0}")]
    NotCosigned(String),
}

/// Why a call did not do what it says.
#[derive(Debug)]
pub enum MemberError<E> {
    /// The machine refuses; nothing changed.
    Refused(Refused),
    /// The shelf failed: memory and shelf may differ, so the machine must be made again.
    Shelf(E),
}

impl<E> From<Refused> for MemberError<E> {
    fn from(refused: Refused) -> Self {
        MemberError::Refused(refused)
    }
}

impl<E> From<LogError> for MemberError<E> {
    fn from(error: LogError) -> Self {
        MemberError::Refused(error.into())
    }
}

/// A member's part in the record. See the module.
pub struct Member {
    /// Its party id.
    pub party: String,
    /// Digest of the charter that it joined with: its root of trust.
    pub charter: Digest,
    /// The mirrored record, in force or not.
    pub log: Log,
    /// The largest size for which it holds a quorum of cosignatures, with the evidence.
    pub in_force: Option<InForce>,
    /// Checkpoints that sealed a change of members, keys or hub, by size.
    pub seals: BTreeMap<u64, String>,
    /// What it cosigned last.
    pub cosigned: Option<Cosigned>,
    /// When, milliseconds.
    pub cosigned_at: i64,
    /// That checkpoint as the hub signed it.
    claim: Option<String>,
    /// The last term that it signed off; 0 for none.
    pub signed_off: u32,
    /// When it last knew that it had all that the hub admits to have, milliseconds.
    pub head_at: i64,
    /// If this copy is an old one: organisations that have said how far they are, and the highest that was said.
    pub restored: Option<Restored>,
    /// Set when the record cannot be followed any further.
    pub halted: Option<String>,
}

/// What a member that was restored from an old copy has been told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// By party: term, size and root of the highest checkpoint that it has cosigned.
    pub told: BTreeMap<String, (u32, u64, Digest)>,
    /// These checkpoints as their hubs signed them.
    claims: BTreeMap<(u32, u64, Digest), String>,
}

impl Member {
    /// A machine that has nothing yet.
    pub fn new(party: &str, charter: Digest) -> Member {
        Member {
            party: party.to_owned(),
            charter,
            log: Log::new(),
            in_force: None,
            seals: BTreeMap::new(),
            cosigned: None,
            cosigned_at: 0,
            claim: None,
            signed_off: 0,
            head_at: 0,
            restored: None,
            halted: None,
        }
    }

    /// A machine from what the shelf held.
    ///
    /// # Errors
    /// When that is damaged.
    pub fn wake(
        party: &str,
        charter: Digest,
        leaves: impl IntoIterator<Item = impl AsRef<[u8]>>,
        notes: &BTreeMap<String, String>,
    ) -> Result<Member, Refused> {
        let mut member = Member::new(party, charter);
        for leaf in leaves {
            member.log.append(leaf.as_ref(), None)?;
        }
        let damaged = |name: &str| Refused::Kept(name.to_owned());
        if let Some(text) = notes.get(COSIGNED) {
            let (cosigned, claim) = read_cosigned(text).ok_or_else(|| damaged(COSIGNED))?;
            (member.cosigned, member.claim) = (Some(cosigned), claim);
        }
        if let Some(text) = notes.get(SIGNED_OFF) {
            member.signed_off = text.parse().map_err(|_| damaged(SIGNED_OFF))?;
        }
        if notes.get(RESTORED).is_some_and(|text| !text.is_empty()) {
            member.restored = Some(Restored::default());
        }
        for (name, note) in notes.range(SEAL.to_owned()..) {
            let Some(size) = name.strip_prefix(SEAL) else { break };
            member.seals.insert(size.parse().map_err(|_| damaged(name))?, note.clone());
        }
        let in_force = notes.get(IN_FORCE).cloned();
        for note in member.seals.values().cloned().chain(in_force).collect::<Vec<_>>() {
            let note = SignedCheckpoint::parse(&note)?;
            if let Standing::InForce(evidence) = member.log.standing_above(&note, member.watermark())? {
                member.in_force = Some(evidence);
            }
        }
        if notes.contains_key(IN_FORCE) && member.in_force.is_none() {
            return Err(damaged(IN_FORCE));
        }
        member.check_charter();
        Ok(member)
    }

    /// Entries below it are in force.
    pub fn watermark(&self) -> u64 {
        self.in_force.as_ref().map_or(0, InForce::size)
    }

    /// Takes in entries that follow those mirrored, with the checkpoint that proves them, and keeps them. Cosigns
    /// nothing; see [`cosign`](Self::cosign). Gives where the new entries begin.
    ///
    /// # Errors
    /// When no honest hub would show them; the machine is then as it was.
    pub fn extend<S: Shelf>(
        &mut self,
        note: &str,
        leaves: &[Vec<u8>],
        now: i64,
        shelf: &mut S,
    ) -> Result<u64, MemberError<S::Error>> {
        let first = self.log.size();
        let mark = self.log.mark();
        if let Err(refused) = self.check_extension(note, leaves, now) {
            self.log.roll_back(mark);
            return Err(refused.into());
        }
        shelf.keep_entries(first, leaves, note).map_err(MemberError::Shelf)?;
        self.head_at = now;
        Ok(first)
    }

    fn check_extension(&mut self, note: &str, leaves: &[Vec<u8>], now: i64) -> Result<(), Refused> {
        let checkpoint = SignedCheckpoint::parse(note)?;
        let first = self.log.size();
        for leaf in leaves {
            self.log.append(leaf, None)?;
        }
        // Old entries are being caught up on; but what is new since this member last had all there was cannot have
        // been stamped before that, and nothing is stamped in the future. So a hub cannot hold time back.
        let new = self.log.entries().get(usize::try_from(first).unwrap_or(usize::MAX)..).unwrap_or(&[]);
        // A clock that was ahead and has been set right does not hold its node back: what it said is forgotten.
        if self.head_at > now.saturating_add(SKEW) {
            self.head_at = 0;
        }
        let since = self.head_at.min(now).saturating_sub(SKEW);
        if let Some(e) = new.iter().find(|e| e.time < since || e.time > now.saturating_add(SKEW)) {
            return Err(Refused::Skewed(e.time));
        }
        if let Some(found) = self.other_charter() {
            self.check_charter();
            return Err(Refused::OtherCharter { found, joined: self.charter });
        }
        // Checks origin, root over these very entries and the hub's signature.
        self.log.standing_above(&checkpoint, self.watermark())?;
        Ok(())
    }

    fn other_charter(&self) -> Option<Digest> {
        self.log.roster().charter_digest.filter(|found| *found != self.charter)
    }

    /// A record that began with another charter than the one that this member signed is not followed.
    fn check_charter(&mut self) {
        if let Some(found) = self.other_charter() {
            self.halted = Some(Refused::OtherCharter { found, joined: self.charter }.to_string());
        }
    }

    /// Whether this member cosigns at all now.
    ///
    /// # Errors
    /// Why not.
    pub fn may_cosign(&self) -> Result<(), Refused> {
        let no = |why: String| Err(Refused::NotCosigned(why));
        if let Some(why) = &self.halted {
            return no(why.clone());
        }
        if let Some(restored) = &self.restored {
            return no(format!(
                "this copy is an old one; {} of the other organisations have said how far they are",
                restored.told.len()
            ));
        }
        Ok(())
    }

    /// Cosigns a checkpoint whose every entry is mirrored, unless that was done less than 30 s ago. What was cosigned
    /// is on the shelf when this returns.
    ///
    /// # Errors
    /// When it is not genuine, not of this history, of a term that was signed off, or nothing may be cosigned.
    pub fn cosign<'k, S: Shelf>(
        &mut self,
        checkpoint: &SignedCheckpoint,
        keys: impl Into<CosignKeys<'k>>,
        now: i64,
        shelf: &mut S,
    ) -> Result<Vec<Cosignature>, MemberError<S::Error>> {
        self.may_cosign()?;
        let size = checkpoint.checkpoint().size();
        let again = self.cosigned.is_some_and(|c| c.size == size);
        if again && self.cosigned_at <= now && now.saturating_sub(self.cosigned_at) < REFRESH {
            return Ok(Vec::new());
        }
        let party = self.party.clone();
        let (cosignatures, next) = self.log.cosign(checkpoint, &party, keys, now, self.cosigned)?;
        if next.term <= self.signed_off {
            return Err(Refused::NotCosigned(format!("term {} was signed off", next.term)).into());
        }
        // INVARIANT: what was cosigned is kept before the cosignature leaves.
        let claim = bare(checkpoint);
        let note = format!("{} {} {}\n{claim}", next.size, next.root, next.term);
        shelf.keep_note(COSIGNED, &note).map_err(MemberError::Shelf)?;
        (self.cosigned, self.claim) = (Some(next), Some(claim));
        self.cosigned_at = now;
        Ok(cosignatures)
    }

    /// Raises the watermark if the checkpoint proves more, or the same more recently. Gives whether it did.
    ///
    /// # Errors
    /// When the checkpoint is not of this log.
    pub fn raise<S: Shelf>(
        &mut self,
        checkpoint: &SignedCheckpoint,
        shelf: &mut S,
    ) -> Result<bool, MemberError<S::Error>> {
        let above = self.watermark();
        let standing = self.log.standing_above(checkpoint, above)?;
        let Standing::InForce(evidence) = standing else { return Ok(false) };
        let better = self
            .in_force
            .as_ref()
            .is_none_or(|now| (evidence.size(), evidence.attested_at()) > (now.size(), now.attested_at()));
        let of_term = self.log.roster().electorate_at(evidence.size()).map_or(0, |e| e.term);
        // What is signed off takes no more in force until the next hub has begun from what was said. After that what
        // was below its base may: the seal of a change in it is still needed.
        let ended = of_term <= self.signed_off && self.log.roster().term <= self.signed_off;
        if !better || evidence.size() > above && ended {
            return Ok(false);
        }
        let note = evidence.checkpoint().to_note();
        let size = evidence.size();
        // A change of who counts was sealed by this very checkpoint: whoever checks later needs it.
        if self.log.roster().electorates(above, size).len() > 1 {
            shelf.keep_note(&format!("{SEAL}{size}"), &note).map_err(MemberError::Shelf)?;
            self.seals.insert(size, note.clone());
        }
        shelf.keep_note(IN_FORCE, &note).map_err(MemberError::Shelf)?;
        self.in_force = Some(evidence);
        Ok(true)
    }

    /// Follows a log in which another term has begun: `leaves` are its entries from `from` on, the first that differs from
    /// what is mirrored here, and one of them begins the term. That one may stand further on, if the hub before had shown
    /// this member a history that the term leaves behind. What was mirrored from `from` on is cut off and given back: it
    /// is pending again.
    ///
    /// # Errors
    /// When they do not begin a later term with the sign-offs that it takes, or would undo what is in force here: then
    /// the machine halts.
    pub fn turn<S: Shelf>(
        &mut self,
        from: u64,
        note: &str,
        leaves: &[Vec<u8>],
        now: i64,
        shelf: &mut S,
    ) -> Result<Vec<Entry>, MemberError<S::Error>> {
        if !leaves.iter().any(|leaf| opens(leaf)) || from > self.log.size() {
            return Err(Refused::NoTerm(from).into());
        }
        let before = self.log.clone();
        let cut = self.log.truncate(from);
        // Its stamps follow those of the base and are not compared with what the old hub said last.
        let head_at = std::mem::replace(&mut self.head_at, 0);
        if let Err(refused) = self.check_turn(note, leaves, now, from, before.roster().term) {
            (self.log, self.head_at) = (before, head_at);
            if let Refused::Undone { .. } = refused {
                self.halted = Some(refused.to_string());
            }
            return Err(refused.into());
        }
        shelf.cut_entries(from).map_err(MemberError::Shelf)?;
        shelf.keep_entries(from, leaves, note).map_err(MemberError::Shelf)?;
        self.head_at = now;
        Ok(cut)
    }

    fn check_turn(
        &mut self,
        note: &str,
        leaves: &[Vec<u8>],
        now: i64,
        from: u64,
        term: u32,
    ) -> Result<(), Refused> {
        let in_force = self.watermark();
        let undone = from < in_force;
        if undone {
            for leaf in leaves {
                self.log.append(leaf, None)?;
            }
        } else {
            self.check_extension(note, leaves, now)?;
        }
        // INVARIANT: the opening holds before anything is said of it, so that nobody but a quorum halts this member.
        if self.log.roster().term <= term {
            return Err(Refused::NoTerm(from));
        }
        if undone { Err(Refused::Undone { base: from, in_force }) } else { Ok(()) }
    }

    /// Says that this copy is an old one: nothing is cosigned until the others have said how far they are.
    ///
    /// # Errors
    /// When that could not be kept.
    pub fn restore<S: Shelf>(&mut self, shelf: &mut S) -> Result<(), MemberError<S::Error>> {
        shelf.keep_note(RESTORED, "1").map_err(MemberError::Shelf)?;
        self.restored = Some(Restored::default());
        Ok(())
    }

    /// Takes in the highest checkpoint that another member has cosigned, as the hub signed it; nothing if it has
    /// cosigned none. Once a quorum of the *other* organisations have said so and this copy has all that they have, it
    /// counts as whole, and cosigns nothing smaller. (A quorum less one would do if nobody lied: whatever this member
    /// has forgotten in a quorum was cosigned by that quorum less itself, and only q others are sure to have an honest
    /// one of them among them.)
    ///
    /// # Errors
    /// When the checkpoint is not of this log, or that this copy is whole could not be kept.
    pub fn told<S: Shelf>(
        &mut self,
        party: &str,
        claim: Option<&SignedCheckpoint>,
        shelf: &mut S,
    ) -> Result<(), MemberError<S::Error>> {
        let roster = self.log.roster();
        let Some(restored) = &mut self.restored else { return Ok(()) };
        if party == self.party || !roster.members.contains_key(party) {
            return Ok(());
        }
        let at = match claim {
            None => (0, 0, self.log.tree().root_at(0).map_err(LogError::from)?),
            Some(note) => {
                let said = note.checkpoint();
                // What no hub signed was made up: it would hold this member back for ever.
                let term = roster.term_of(note).ok_or(LogError::NoCharter)?;
                (term, said.size(), said.root())
            }
        };
        if let Some(note) = claim {
            restored.claims.insert(at, bare(note));
        }
        restored.told.insert(party.to_owned(), at);
        let told: BTreeSet<String> = restored.told.keys().cloned().collect();
        let enough = roster.electorate().is_some_and(|e| e.decides(&told, Some(&self.party)));
        let highest = restored.told.values().max().copied().unwrap_or(at);
        // What is claimed of an older term need not be here: the opening of the one after has settled what stays of it,
        // and a hub whose term has ended can still sign any size.
        let short = |(term, size, _): &(u32, u64, Digest)| *term == roster.term && *size > self.log.size();
        if !enough || restored.told.values().any(short) {
            return Ok(());
        }
        // Of an older term it may be of a history that a later one has left behind.
        for (_, size, root) in restored.told.values().filter(|(term, ..)| *term == roster.term) {
            let recomputed = self.log.tree().root_at(*size).map_err(LogError::from)?;
            if recomputed != *root {
                return Err(LogError::Fork { size: *size, claimed: *root, recomputed }.into());
            }
        }
        let (term, size, root) = highest;
        if let Some(claim) = restored.claims.remove(&highest)
            && self.cosigned.is_none_or(|c| (c.term, c.size) < (term, size))
        {
            // It may have cosigned that, so a sign-off claims it: too much is safe, too little is not.
            shelf
                .keep_note(COSIGNED, &format!("{size} {root} {term}\n{claim}"))
                .map_err(MemberError::Shelf)?;
            (self.cosigned, self.claim) = (Some(Cosigned { size, root, term }), Some(claim));
        }
        shelf.keep_note(RESTORED, "").map_err(MemberError::Shelf)?;
        self.restored = None;
        Ok(())
    }

    /// Takes in a sign-off of its own that another has kept: a copy that was restored may not know it. Gives whether it
    /// is one. Whoever restores a member asks all others for it; if only liars have it, this member counts among the f.
    ///
    /// # Errors
    /// When it could not be kept.
    pub fn remember<S: Shelf>(
        &mut self,
        sign_off: &[u8],
        shelf: &mut S,
    ) -> Result<bool, MemberError<S::Error>> {
        let Ok(claim) = Claim::read(sign_off, self.log.roster()) else { return Ok(false) };
        if claim.issuer != self.party {
            return Ok(false);
        }
        if claim.said.term > self.signed_off {
            shelf.keep_note(SIGNED_OFF, &claim.said.term.to_string()).map_err(MemberError::Shelf)?;
            self.signed_off = claim.said.term;
        }
        Ok(true)
    }

    /// Signs off the present term for the hub that comes next. From now on nothing of it is cosigned; that is on the
    /// shelf when this returns.
    ///
    /// # Errors
    /// When there is no term, the statement cannot be written, or this copy is an old one.
    pub fn sign_off<S: Shelf>(
        &mut self,
        next: &HubInfo,
        address: &str,
        actor: &str,
        key: &SecretKey,
        shelf: &mut S,
    ) -> Result<SignedStatement, MemberError<S::Error>> {
        // An old copy does not know what it cosigned, so it may not say.
        self.may_cosign()?;
        let term = self.log.roster().term;
        let wrong = |why: String| Refused::NotCosigned(why);
        if term == 0 {
            return Err(wrong("no charter is proposed yet".to_owned()).into());
        }
        if self.cosigned.is_some() && self.claim.is_none() {
            return Err(wrong("what was cosigned is not kept with the hub's signature yet".to_owned()).into());
        }
        let claim = self.claim.clone();
        let body = SignOff { term, next: next.clone(), address: address.to_owned(), claim };
        let subject = self.log.roster().origin.trim_start_matches("comity/").to_owned();
        let statement = Statement::new(SIGN_OFF, &subject, &self.party, actor, &body)
            .map_err(|e| wrong(e.to_string()))?;
        let signed = SignedStatement::sign(statement, key).map_err(|e| wrong(e.to_string()))?;
        // INVARIANT: kept before the sign-off leaves.
        shelf.keep_note(SIGNED_OFF, &term.to_string()).map_err(MemberError::Shelf)?;
        self.signed_off = term;
        Ok(signed)
    }
}

/// Whether an entry says that it begins a term.
fn opens(leaf: &[u8]) -> bool {
    Entry::from_bytes(leaf).is_ok_and(|e| e.signed.statement().r#type == OPEN)
}

/// Reads the note [`COSIGNED`]: size, root and term on the first line, then the checkpoint as the hub signed it. Notes
/// of before there were terms have neither.
pub fn read_cosigned(text: &str) -> Option<(Cosigned, Option<String>)> {
    let (line, claim) =
        text.split_once('\n').map_or((text, None), |(line, note)| (line, Some(note.to_owned())));
    let mut words = line.split(' ');
    let (size, root) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let term = words.next().map_or(Some(1), |t| t.parse().ok())?;
    let cosigned = Cosigned { size, root, term };
    // One meaning, one spelling: else a damaged note could pass for another.
    let short = term == 1 && claim.is_none() && line == format!("{size} {root}");
    let whole = line == format!("{size} {root} {term}");
    let of_it = claim.as_ref().is_none_or(|note| {
        SignedCheckpoint::parse(note)
            .is_ok_and(|n| (n.checkpoint().size(), n.checkpoint().root()) == (size, root))
    });
    ((short || whole) && of_it).then_some((cosigned, claim))
}
