//! Promises of the hub, proofs against whoever broke a word, and what follows: a node that holds a proof against the
//! hub cosigns nothing more in that term, and the matter stays open until another hub is in its place.

use crate::NodeError;
use crate::control::Reply;
use crate::core::Node;
use crate::store::Proof;
use record::evidence::{Changed, HUB, cleaned, faults, late_cosigners};
use record::log::MAX_SKEW_MS;
use record::{Claim, Digest, EntryBytes, Evidence, Guilt, Pin, Receipt, Roster};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use wire::api::PROMISE;
use wire::peer::MAX_PROOF;

impl Node {
    /// The hub's term, in which its word counts.
    pub(crate) fn term(&self) -> u64 {
        u64::from(self.member.log.roster().term)
    }

    /// Takes the hub's receipt for a statement. One that does not hold is no promise, and is kept against it.
    ///
    /// # Errors
    /// When the store fails.
    pub fn promised(&mut self, id: &str, receipt: &Receipt, now: i64) -> Result<(), NodeError> {
        if let Err(why) = self.is_promise(id, receipt, now) {
            self.keep_evidence(
                "hub",
                &format!("a receipt for statement {id} that is none: {why}"),
                &[],
                now,
            )?;
            self.store.held_tried(id, now)?;
            return self.store.tried(id, false, now);
        }
        self.store.keep_receipt(
            id,
            receipt.index,
            receipt.promised_by,
            &record::canon::to_bytes(receipt)?,
        )?;
        self.answered(id, None, now)
    }

    fn is_promise(&self, id: &str, receipt: &Receipt, now: i64) -> Result<(), String> {
        if receipt.id.to_string() != id {
            return Err("it is for another statement".into());
        }
        if receipt.origin != format!("comity/{}", self.charter.federation) {
            return Err("it is of another log".into());
        }
        receipt.verify(&self.hub_key()).map_err(|e| e.to_string())?;
        let latest = receipt.time.saturating_add(PROMISE);
        if receipt.promised_by > latest || receipt.time > now.saturating_add(MAX_SKEW_MS) {
            return Err("it promises no time that counts".into());
        }
        Ok(())
    }

    /// Whether this node may cosign the record of `size` entries, all of which it has.
    ///
    /// # Errors
    /// Why it may not, in words for people.
    pub fn may_cosign(&self, size: u64, now: i64) -> Result<(), String> {
        let failed = |e: NodeError| e.public();
        self.check_promises(size, now).map_err(failed)??;
        if let Some(proof) = self.matters().map_err(failed)?.into_iter().find(|p| p.who == HUB) {
            return Err(format!("the hub {}", proof.what));
        }
        if let Some(held) = self.withheld(now).map_err(failed)?.first() {
            let with = held.with.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(format!(
                "statement {} (`{}` of {}) is withheld: held here{} for more than {} s and not in the record",
                held.id,
                held.kind,
                held.author,
                if with.is_empty() { String::new() } else { format!(" and by {with}") },
                PROMISE / 1000
            ));
        }
        Ok(())
    }

    /// Looks at every open promise: kept, broken or overdue.
    fn check_promises(&self, size: u64, now: i64) -> Result<Result<(), String>, NodeError> {
        let mut late = Ok(());
        for bytes in self.store.open_receipts()? {
            let Ok(receipt) = record::canon::from_bytes::<Receipt>(&bytes) else { continue };
            if receipt.verify(&self.hub_key()).is_err() {
                // What the hub of an earlier term promised does not bind this one; the statement is handed in again.
                self.store.drop_receipt(&receipt.id.to_string(), receipt.index)?;
                continue;
            }
            let entry = usize::try_from(receipt.index).ok().and_then(|i| self.member.log.entries().get(i));
            match entry.filter(|_| receipt.index < size) {
                Some(e) if e.id() == receipt.id && e.time() == receipt.time => {
                    self.store.receipt_kept(&receipt.id.to_string(), receipt.index)?;
                }
                Some(e) => self.broken(&receipt, e, now)?,
                None if now > receipt.promised_by.saturating_add(MAX_SKEW_MS) => {
                    self.overdue(&receipt, now)?;
                    late = Err(format!("statement {} was promised and is not in the record", receipt.id));
                }
                None => {}
            }
        }
        Ok(late)
    }

    /// Something else stands where a statement was promised.
    fn broken(&self, receipt: &Receipt, entry: &EntryBytes, now: i64) -> Result<(), NodeError> {
        let Some(note) = self.own_note()? else { return Ok(()) };
        let wrong = |e: record::TreeError| NodeError::Record(e.to_string());
        let size = note.checkpoint().size();
        if size <= receipt.index {
            return Ok(());
        }
        let claim = Claim::BrokenPromise {
            receipt: receipt.clone(),
            checkpoint: self.clean(&note),
            found: String::from_utf8(entry.to_bytes()).unwrap_or_default(),
            proof: self.member.log.tree().prove_inclusion(receipt.index, size).map_err(wrong)?,
        };
        self.convict(claim, now)
    }

    /// The promised time has passed: a proof, once more than f members have cosigned the log without it since.
    fn overdue(&self, receipt: &Receipt, now: i64) -> Result<(), NodeError> {
        let Some(note) = self.own_note()? else { return Ok(()) };
        let (roster, size) = (self.member.log.roster(), note.checkpoint().size());
        let enough = late_cosigners(&note, receipt, roster).len() > faults(roster, size);
        if !enough || size > receipt.index {
            return Ok(());
        }
        let claim = Claim::Overdue { receipt: receipt.clone(), checkpoint: self.clean(&note) };
        self.convict(claim, now)
    }

    fn clean(&self, note: &record::SignedCheckpoint) -> String {
        cleaned(note, self.member.log.roster()).to_note()
    }

    /// What changed members, keys or the hub since the charter.
    fn changes(&self) -> Vec<Changed> {
        let entries = (0u64..).zip(self.member.log.entries()).filter(|(index, e)| {
            let entry = e.entry();
            let kind = entry.signed.statement().r#type.as_str();
            Roster::reads(kind)
                && kind != record::roster::PROPOSE
                && !self.member.log.voids().contains_key(index)
        });
        let text = |e: &EntryBytes| String::from_utf8(e.to_bytes()).unwrap_or_default();
        entries.map(|(index, e)| Changed { entry: text(e), index }).collect()
    }

    /// Keeps a proof, if it is one.
    pub(crate) fn convict(&self, claim: Claim, now: i64) -> Result<(), NodeError> {
        let mut evidence = Evidence::new(record::canon::to_value(&self.charter)?, claim);
        let mut verdict = evidence.verify(Some(self.charter_digest));
        if verdict.is_err() {
            // The keys may be newer than the charter.
            evidence = evidence.with(self.changes());
            verdict = evidence.verify(Some(self.charter_digest));
        }
        let guilt = match verdict {
            Ok(guilt) => guilt,
            Err(e) => {
                tracing::warn!("what looked like a broken word convicts nobody: {e}");
                return Ok(());
            }
        };
        let mut body = evidence.write().map_err(|e| NodeError::Record(e.to_string()))?;
        if body.len() > MAX_PROOF {
            // Others must be able to take it.
            body = evidence.short().write().map_err(|e| NodeError::Record(e.to_string()))?;
        }
        self.keep_proof(guilt, &body, now)
    }

    /// Keeps a file of evidence that was found to convict.
    pub(crate) fn keep_proof(&self, guilt: Guilt, body: &[u8], now: i64) -> Result<(), NodeError> {
        let id = Digest::of(body).to_string();
        let proof = Proof { id, time: now, term: u64::from(guilt.term), who: guilt.who, what: guilt.what };
        if self.store.add_proof(&proof, body)? {
            tracing::error!(who = proof.who, what = proof.what, "a matter is open: this is proved");
        }
        Ok(())
    }

    /// Matters that are open: proofs against the hub of this term, and against those who are members.
    pub(crate) fn matters(&self) -> Result<Vec<Proof>, NodeError> {
        Ok(self.store.proofs()?.into_iter().filter(|p| self.is_open(p)).collect())
    }

    fn is_open(&self, proof: &Proof) -> bool {
        if proof.who == "hub" {
            proof.term == self.term()
        } else {
            self.member.log.roster().keys(&proof.who).is_some()
        }
    }

    /// What a status says of matters, withheld statements and the watch: words, and data under their names.
    pub(crate) fn peer_status(&self, now: i64) -> Result<(String, Value), NodeError> {
        let mut text = String::new();
        let (words, watched) = self.watch_words(now);
        let _ = writeln!(text, "  watch        {words}");
        if let Some(who) = self.starved(now) {
            let _ = writeln!(text, "  watch        the hub hides entries that {who} has");
        }
        let matters = self.matters()?;
        for proof in &matters {
            let who =
                if proof.who == "hub" { "the hub".to_string() } else { format!("member {}", proof.who) };
            let _ = writeln!(
                text,
                "  matter       {who} {}; proved by evidence {}",
                proof.what,
                proof.id.get(..8).unwrap_or_default()
            );
        }
        let may = self.may_cosign(self.size(), now);
        if let Err(why) = &may {
            let _ = writeln!(text, "  NOT COSIGNING: {why}");
        }
        let heard: Vec<&String> = self.heard_stops.keys().collect();
        if !heard.is_empty() {
            let names = heard.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(", ");
            let _ = writeln!(text, "  stops        heard of {names}, not in the record yet");
        }
        let (kept, open) = self.store.receipts()?;
        let data = json!({
            "unwatched": self.unwatched(), "watched": watched,
            "watched_at": self.watched().map(|(at, _)| at), "watched_with": self.watched().map(|(_, who)| who),
            "starved_of": self.starved(now), "matters": matters, "not_cosigning": may.err(),
            "withheld": self.withheld(now)?, "held": self.store.all_held()?.len(),
            "promises": { "kept": kept, "open": open }, "heard_stops": heard,
        });
        Ok((text, data))
    }

    /// Lists proofs.
    pub(crate) fn evidence_list(&self) -> Result<Reply, NodeError> {
        let proofs = self.store.proofs()?;
        let mut text = String::new();
        for p in &proofs {
            let state = if self.is_open(p) { "open" } else { "closed: another is in its place" };
            let _ = writeln!(
                text,
                "{}  {} {}: {} ({state})",
                p.id.get(..8).unwrap_or(&p.id),
                p.time,
                p.who,
                p.what
            );
        }
        if proofs.is_empty() {
            text.push_str("nobody's word was found broken");
        }
        Ok(Reply::yes(text, json!({ "evidence": proofs })))
    }

    /// Writes a proof as a file.
    pub(crate) fn evidence_export(&self, id: &str, out: &Path) -> Result<Reply, NodeError> {
        let found: Vec<Proof> = self.store.proofs()?.into_iter().filter(|p| p.id.starts_with(id)).collect();
        let [proof] = found.as_slice() else {
            return Err(NodeError::Input(format!(
                "found {} pieces of evidence whose id begins with `{id}`, expected one; `comity evidence list` shows them",
                found.len()
            )));
        };
        let body = self.store.proof(&proof.id)?.unwrap_or_default();
        std::fs::write(out, &body).map_err(|e| NodeError::io(out, e))?;
        let text =
            format!("{}: {} bytes; verify it with `comity evidence verify`", out.display(), body.len());
        Ok(Reply::yes(
            text,
            json!({ "file": out.display().to_string(), "bytes": body.len(), "id": proof.id }),
        ))
    }

    /// The files of all proofs, for a bundle.
    pub(crate) fn evidence_blobs(&self) -> Result<BTreeMap<Digest, Vec<u8>>, NodeError> {
        let mut blobs = BTreeMap::new();
        for proof in self.store.proofs()? {
            if let Some(body) = self.store.proof(&proof.id)? {
                blobs.insert(Digest::of(&body), body);
            }
        }
        Ok(blobs)
    }
}

/// Verifies a file of evidence. Exit 0 only if it convicts somebody and the charter was pinned from outside.
pub fn verify_evidence(bytes: &[u8], pin: Option<Digest>) -> Reply {
    let guilt = match Evidence::read(bytes).and_then(|e| e.verify(pin)) {
        Ok(guilt) => guilt,
        Err(e) => {
            return Reply::no(
                format!("PROVES NOTHING\n  {e}\n"),
                json!({ "proved": false, "why": e.to_string() }),
            );
        }
    };
    let pinned = guilt.pin == Pin::Pinned;
    let who = if guilt.who == "hub" { "the hub".to_string() } else { format!("member {}", guilt.who) };
    let mut text = format!(
        "{who} {}\n  key          {}\n  agreement    {}{}\n",
        guilt.what,
        guilt.key,
        guilt.charter,
        if pinned { ", as you gave it" } else { ", UNPINNED: give --charter DIGEST from a source you trust" }
    );
    for other in &guilt.accomplices {
        let _ = writeln!(text, "  with         {other}, whose cosignature is under both");
    }
    let data = json!({
        "proved": true, "pinned": pinned, "who": guilt.who, "key": guilt.key.to_string(), "what": guilt.what,
        "charter": guilt.charter.to_string(), "accomplices": guilt.accomplices,
    });
    if pinned {
        text.push_str("PROVED\n");
        Reply::yes(text, data)
    } else {
        text.push_str("it hangs together, but unpinned: it may be made up as a whole\n");
        Reply::no(text, data)
    }
}
