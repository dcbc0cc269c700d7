//! A member's part when another hub takes over: it signs off the old one, remembers the next, and follows its term.
//!
//! Sign-off and next hub are kept together, before the sign-off leaves. From then on nothing of the old term is
//! cosigned, whatever the old hub shows; the node goes on to answer its people, and calls the next hub until that
//! answers. What the next hub says is followed only if the statement that begins its term holds
//! ([`record::Opening::check`]), so that a wrong address leads nowhere.
//!
//! Of what the old hub carried nothing is counted on: statements that it promised are handed in again, frames of runs
//! that are not over for everybody are sent again, verbatim (a receiver takes each once). So a run that is under way
//! goes on at the next hub if that serves within the run's own patience, and is given up by its own rules if not.

use crate::NodeError;
use crate::config::Config;
use crate::control::Reply;
use crate::core::Node;
use crate::keys::NodeKeys;
use crate::mirror::{OnStore, notes};
use crate::store::Store;
use charter::Charter;
use record::roster::OPEN;
use record::{EntryBytes, HubInfo, Member, Opening, SecretKey, SignOff, SignedStatement};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::Path;
use study::Recipient;
use wire::point::point;

/// Name of the value with the hub that this node was pointed to.
const NEXT: &str = "next-hub";
/// Name of the value with the last sign-off, verbatim.
const SIGN_OFF: &str = "sign-off";

/// Who comes next: `next.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Next {
    /// Name of the federation.
    pub federation: String,
    /// The hub.
    pub hub: HubInfo,
    /// Where it will be, `host:port`.
    pub address: String,
}

impl Next {
    /// Reads `next.json`.
    pub fn read(path: &Path) -> Result<Next, NodeError> {
        let text = std::fs::read_to_string(path).map_err(|e| NodeError::io(path, e))?;
        let next: Next = serde_json::from_str(&text).map_err(|e| {
            let expected = "expected what `comity hub handover prepare` wrote";
            NodeError::Input(format!("{}: found {e}, {expected}", path.display()))
        })?;
        if !record::roster::is_endpoint(&next.address) {
            let found = &next.address;
            let what = format!("{}: found address `{found}`, expected `host:port`", path.display());
            return Err(NodeError::Input(what));
        }
        Ok(next)
    }
}

/// The hub that a node's folder calls, and where: the last one that it was pointed to, or the charter's. Opens no store
/// for writing, so that it can be asked of a damaged one; what cannot be read there counts as not said.
///
/// # Errors
/// When the node has joined no federation.
pub fn hub_of(dir: &Path) -> Result<(String, HubInfo), NodeError> {
    let path = dir.join("charter.toml");
    let text = std::fs::read_to_string(&path).map_err(|e| NodeError::io(&path, e))?;
    let charter = Charter::parse("charter.toml", &text)?;
    if let Some(next) = crate::store::glance(dir, NEXT)
        && let Ok(next) = serde_json::from_slice::<Next>(&next)
        && next.federation == charter.federation
    {
        return Ok((next.address, next.hub));
    }
    let joined = Config::read(dir)?.hub;
    let address = joined.ok_or_else(|| {
        NodeError::Input("no hub address; run `comity node join` with `--hub HOST:PORT`".to_owned())
    })?;
    let charter::document::Hub { operator, jurisdiction, key, tls } = charter.hub;
    Ok((address, HubInfo { operator, jurisdiction, key, tls }))
}

impl Node {
    /// The hub that this node was pointed to, if it was since it joined.
    pub(crate) fn next_hub(&self) -> Result<Option<Next>, NodeError> {
        let Some(text) = self.store.meta_text(NEXT)? else { return Ok(None) };
        let damaged = |_| NodeError::Record("what this node kept of the next hub is damaged".into());
        serde_json::from_str(&text).map(Some).map_err(damaged)
    }

    fn keep_next(&self, next: &Next) -> Result<(), NodeError> {
        let text = serde_json::to_vec(next).map_err(|e| NodeError::Input(e.to_string()))?;
        self.store.set_meta(NEXT, &text)
    }

    /// Keeps a sign-off of this member's own, and the hub that it names.
    pub(crate) fn keep_sign_off(&self, bytes: &[u8], next: &Next) -> Result<(), NodeError> {
        self.store.set_meta(SIGN_OFF, bytes)?;
        self.keep_next(next)
    }

    fn of_this_federation(&self, next: &Next) -> Result<(), NodeError> {
        if next.federation == self.charter.federation {
            return Ok(());
        }
        let (found, expected) = (&next.federation, &self.charter.federation);
        Err(NodeError::Input(format!("found a hub of federation `{found}`, expected one of `{expected}`")))
    }

    /// The sign-off of the present term, if this member has said it.
    fn signed_off_for(&self) -> Result<Option<(Vec<u8>, SignOff)>, NodeError> {
        let Some(bytes) = self.store.meta(SIGN_OFF)? else { return Ok(None) };
        let said =
            SignedStatement::from_bytes(&bytes).ok().and_then(|s| s.statement().body_as::<SignOff>().ok());
        Ok(said.filter(|said| said.term == self.member.log.roster().term).map(|said| (bytes, said)))
    }

    /// Signs off the present term for the next hub. Said again it is the same, to the byte. For another hub than before
    /// only with `instead`: that undoes nothing, since nothing of this term was cosigned since.
    pub(crate) fn sign_off(&mut self, next: &Next, instead: bool) -> Result<Reply, NodeError> {
        self.of_this_federation(next)?;
        let before = self.signed_off_for()?;
        if let Some((bytes, said)) = &before {
            if said.next == next.hub && said.address == next.address {
                return Ok(signed_off(said.term, bytes));
            }
            if !instead {
                return Err(NodeError::Input(format!(
                    "this member has signed off term {} for the hub of {} at {}; all sign-offs must name one hub. If that one will never serve, say `--instead` at every member",
                    said.term, said.next.operator, said.address
                )));
            }
        }
        let actor = self.signatory();
        let key = self.my_sign();
        let mut signed =
            self.member.sign_off(&next.hub, &next.address, &actor, &key, &mut OnStore(&self.store))?;
        // The base may fall below a change of this key that is not in force: then the key before it is the one that counts.
        let in_force = self.state.roster.keys(self.me()).map(|k| k.sign).filter(|k| *k != key.public());
        if let Some(former) = in_force.and_then(|k| self.keys.sign_of(&k)) {
            signed.add_signature(&former).map_err(|e| NodeError::Record(e.to_string()))?;
        }
        point("signed off, not kept", "");
        let bytes = signed.to_bytes();
        self.keep_sign_off(&bytes, next)?;
        self.store.add_signoff(&signed.id().to_string(), self.member.signed_off, self.me(), &bytes)?;
        self.store.flush()?;
        point("signed off and kept, not handed out", "");
        Ok(signed_off(self.member.signed_off, &bytes))
    }

    /// Points this node to the next hub.
    pub(crate) fn follow(&mut self, next: &Next) -> Result<Reply, NodeError> {
        self.of_this_federation(next)?;
        self.keep_next(next)?;
        self.store.flush()?;
        point("next hub kept, not told", "");
        let text = format!(
            "this node calls the hub of {} at {} from now on, and follows it once its term is shown to hold",
            next.hub.operator, next.address
        );
        Ok(Reply::yes(text, json!({ "hub": next.address })))
    }

    /// After entries were taken in: if another term has begun, what the old hub carried is handed in again, and where
    /// its statement says the hub is, it is.
    pub(crate) fn follow_term(&mut self, before: u32) -> Result<(), NodeError> {
        let roster = self.member.log.roster();
        if roster.term == before || roster.term < 2 {
            return Ok(());
        }
        let mut entries = self.member.log.entries().iter().rev();
        let opening = entries.find_map(|e| {
            let entry = e.entry();
            let statement = entry.signed.statement();
            let opening = (statement.r#type == OPEN).then(|| statement.body_as::<Opening>().ok()).flatten();
            opening.filter(|o| o.term == roster.term)
        });
        if let Some(opening) = opening {
            let federation = self.charter.federation.clone();
            self.keep_signoffs(opening.term.saturating_sub(1), &opening.signoffs)?;
            self.keep_next(&Next { federation, hub: opening.hub, address: opening.address })?;
        }
        // Who joined later has handed nothing to anyone.
        if before > 0 {
            self.store.hand_in_again(&self.runs_not_over())?;
        }
        Ok(())
    }

    /// Runs that somebody with a part in them has not closed.
    fn runs_not_over(&self) -> Vec<(String, u32)> {
        let mut found = vec![(String::new(), 0)];
        for (id, s) in &self.state.studies {
            for (number, run) in &s.runs {
                let receives = s.study.recipients.iter().filter_map(|r| match r {
                    Recipient::Member(m) => Some(m),
                    _ => None,
                });
                let mut all = run.contributors.iter().chain(&s.study.aggregators).chain(receives);
                let over = all.all(|m| run.closed.contains(m)) && run.closed.contains(&s.study.collector);
                if !over {
                    found.push((id.clone(), *number));
                }
            }
        }
        found
    }

    /// The last checkpoint that came with entries.
    pub fn latest_note(&self) -> Result<Option<String>, NodeError> {
        self.store.meta_text("checkpoint")
    }

    /// Above which size this node needs the checkpoints that sealed changes, before one of `sealed` entries counts
    /// here.
    pub fn wants_seals(&self, sealed: u64) -> Option<u64> {
        let (watermark, have) = (self.watermark(), self.size());
        let eras = self.member.log.roster().electorates(watermark, sealed.min(have)).len();
        (sealed > watermark && eras > 1).then_some(watermark)
    }

    /// Words on what is out of the ordinary with this member's part in the record.
    pub(crate) fn standing_words(&self) -> String {
        use std::fmt::Write;
        let mut text = String::new();
        let roster = self.member.log.roster();
        let hub = self.hub().map(|(address, _)| address).unwrap_or_default();
        if roster.term > 1 {
            let _ = writeln!(text, "  hub          term {}, at {hub}", roster.term);
        }
        if self.member.signed_off > 0 && self.member.signed_off == roster.term {
            let _ = writeln!(
                text,
                "  SIGNED OFF   term {} has ended here; waiting for the hub at {hub}",
                roster.term
            );
        }
        if let Some(restored) = &self.member.restored {
            let told: Vec<_> = restored.told.keys().cloned().collect();
            let _ = writeln!(
                text,
                "  RESTORED     nothing is cosigned until others say how far they are; heard: {}",
                told.join(" ")
            );
        }
        for (id, p) in roster.proposals.iter().filter(|(_, p)| p.done.is_none()) {
            let _ = writeln!(text, "  proposal     {id}: {}", crate::members::words(&p.change));
        }
        for c in &roster.compromises {
            let _ = writeln!(
                text,
                "  contested    {} from entry {} to {}; stands by {}",
                c.member,
                c.since,
                c.until,
                c.reaffirmed.len()
            );
        }
        text
    }

    /// The same for machines.
    pub(crate) fn standing(&self) -> serde_json::Value {
        let roster = self.member.log.roster();
        let proposals: Vec<_> = roster.proposals.iter().filter(|(_, p)| p.done.is_none()).collect();
        let told = self.member.restored.as_ref().map(|r| r.told.keys().cloned().collect::<Vec<_>>());
        json!({
            "term": roster.term, "signed_off": self.member.signed_off, "restored": told,
            "suspended": roster.suspended.keys().collect::<Vec<_>>(),
            "proposals": proposals.iter().map(|(id, p)| json!({ "id": id.to_string(), "by": p.by,
                "about": p.change.about(), "accepted": p.accepted })).collect::<Vec<_>>(),
            "contested": roster.compromises.iter().map(|c| json!({ "member": c.member, "since": c.since,
                "until": c.until, "reaffirmed": c.reaffirmed })).collect::<Vec<_>>(),
        })
    }
}

fn signed_off(term: u32, bytes: &[u8]) -> Reply {
    let statement = String::from_utf8_lossy(bytes).into_owned();
    let text = format!("signed off: nothing of term {term} is cosigned here any more");
    Reply::yes(text, json!({ "term": term, "statement": statement }))
}

/// A member's folder as the next hub's operator reads it: mirror and key, whether its node is served or not.
pub struct Folder {
    /// Its part in the record.
    pub member: Member,
    /// The entries, verbatim.
    pub entries: Vec<Vec<u8>>,
    /// Its `sign` key.
    key: SecretKey,
    /// The federation.
    pub federation: String,
}

/// What a term would begin with.
pub struct Begun {
    /// The statement.
    pub statement: SignedStatement,
    /// What it says.
    pub opening: Opening,
    /// Entries of this mirror that go back to pending.
    pub cut: u64,
    /// Who has cosigned how far: member, term, size.
    pub claims: Vec<(String, Option<(u32, u64)>)>,
}

impl Folder {
    /// Reads a folder.
    pub fn open(dir: &Path) -> Result<Folder, NodeError> {
        let config = Config::read(dir)?;
        let keys = NodeKeys::open(&dir.join("node.key"))?;
        let path = dir.join("charter.toml");
        let text = std::fs::read_to_string(&path).map_err(|e| NodeError::io(&path, e))?;
        let charter = Charter::parse("charter.toml", &text)?;
        let store = Store::read(&dir.join("store.db"))?;
        let entries = store.entries()?;
        let member = Member::wake(&config.id, charter.digest()?, &entries, &notes(&store)?)
            .map_err(|e| NodeError::Record(format!("the copy in `{}` is damaged: {e}", dir.display())))?;
        let named = member.log.roster().keys(&config.id).and_then(|k| keys.sign_of(&k.sign));
        let key = named.unwrap_or_else(|| keys.sign());
        Ok(Folder { member, entries, key, federation: charter.federation })
    }

    /// Puts the opening together from sign-offs, with the reason where it cannot be.
    pub fn begin(&self, signoffs: &[Vec<u8>]) -> Result<Begun, NodeError> {
        let log = &self.member.log;
        let mut roster = log.roster().clone();
        let mut tries = 0;
        let (opening, claims) = loop {
            let claims = signoffs.iter().map(|bytes| record::term::Claim::read(bytes, &roster));
            let claims: Vec<_> =
                claims.collect::<Result<_, _>>().map_err(|e| NodeError::Record(e.to_string()))?;
            let opening = match Opening::make(signoffs, log.tree(), &roster) {
                Ok(opening) => opening,
                Err(record::TermError::Base { base: have, expected }) => {
                    let who = claims.iter().find(|c| c.at.is_some_and(|(_, size, _)| size >= expected));
                    let who = who.map_or("another member", |c| c.issuer.as_str());
                    return Err(NodeError::Input(format!(
                        "this member's mirror is too short: it has {have} entries, and member {who} has cosigned up to {expected}; bring its folder (`--from`)"
                    )));
                }
                Err(e) => return Err(NodeError::Record(e.to_string())),
            };
            // Members and keys as they are below the base decide, not as they would be after what is cut off.
            let below = usize::try_from(opening.base).ok().and_then(|base| log.entries().get(..base));
            let (at_base, _) = record::Roster::fold(below.unwrap_or(&[]).iter().map(EntryBytes::entry));
            tries += 1;
            if at_base == roster || tries > 4 {
                break (opening, claims);
            }
            roster = at_base;
        };
        let subject = roster.origin.trim_start_matches("comity/");
        let statement = record::Statement::new(OPEN, subject, &self.member.party, "operator", &opening);
        let signed = statement.and_then(|statement| SignedStatement::sign(statement, &self.key));
        let signed = signed.map_err(|e| NodeError::Record(format!("the opening cannot be written: {e}")))?;
        let claims =
            claims.iter().map(|c| (c.issuer.clone(), c.at.map(|(term, size, _)| (term, size)))).collect();
        let cut = log.size().saturating_sub(opening.base);
        Ok(Begun { statement: signed, opening, cut, claims })
    }

    /// Checkpoints that sealed changes, and the one in force.
    pub fn seals(&self) -> Vec<String> {
        let in_force = self.member.in_force.as_ref().map(|f| f.checkpoint().to_note());
        self.member.seals.values().cloned().chain(in_force).collect()
    }
}
