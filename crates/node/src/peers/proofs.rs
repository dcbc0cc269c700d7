//! Proofs go from member to member, and onto the record.
//!
//! In each round two members tell each other by digest which evidence they hold, and each gets what it lacks. So what
//! one member has proved against the hub soon stops every reachable member's cosigning in that term, whatever the hub
//! carries. A node that holds a proof also says so to the record ([`EvidenceReport`]): the statement waits like any
//! other, is withheld like any other if the hub leaves it out, and is at the latest entered by the next hub.
//!
//! # Who can lie
//!
//! A file that comes from a member is a stranger's: it is verified against the charter that this node joined with, and
//! its key must be one that the record here names, and where members' clocks convict, of more organisations than may lie
//! by the record's own count. What does not hold convicts nobody, is kept against who gave it, and
//! is not looked at again; whoever gave many such is not listened to until the next start. Of true proofs the store
//! keeps a few against each party in each term, and takes a few from each member.

use crate::NodeError;
use crate::core::Node;
use crate::store::Proof;
use charter::State;
use charter::body::EvidenceReport;
use record::evidence::HUB;
use record::{Digest, EntryBytes, Evidence, Guilt, SignedStatement, Statement};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use wire::peer::{MAX_PROOF, MAX_PROOFS, Proofs};

/// Files of one member that were of no use, after which none of it is looked at.
const MAX_USELESS: usize = 64;
/// Files of one member that are kept.
const MAX_GIVEN: usize = 32;
/// Files that are asked for, and that are handed over, in one round.
const MAX_ROUND: usize = 4;
/// A member waits so much longer than the one named before it, so that few report the same, milliseconds.
const TURN: i64 = 2_000;
/// How often it is looked whether something is to be reported, milliseconds.
const LOOK: i64 = 1_000;

/// What was given and told. In memory alone: after a restart it is looked at once more.
#[derive(Default)]
pub(crate) struct Exchanged {
    /// By giver: files that were of no use, for ever or until the record here is longer than so.
    useless: BTreeMap<String, BTreeMap<Digest, Option<u64>>>,
    /// By giver: files that were kept.
    given: BTreeMap<String, usize>,
    /// By receiver: files that were handed to it.
    told: BTreeMap<String, BTreeSet<Digest>>,
    /// Since when a proof is to be reported.
    since: BTreeMap<String, i64>,
    looked: Option<i64>,
}

impl Node {
    /// What evidence is held here, the newest first, for another member.
    ///
    /// # Errors
    /// When the store fails.
    pub fn peer_proofs(&self) -> Result<Proofs, NodeError> {
        self.store.flush()?;
        let ids = self.store.proofs()?.into_iter().rev().filter_map(|p| p.id.parse().ok());
        Ok(Proofs { files: ids.take(MAX_PROOFS).collect() })
    }

    /// A file of evidence that is held here.
    ///
    /// # Errors
    /// When the store fails.
    pub fn peer_proof(&self, file: &Digest) -> Result<Option<Vec<u8>>, NodeError> {
        self.store.flush()?;
        Ok(self.store.proof(&file.to_string())?.filter(|body| body.len() <= MAX_PROOF))
    }

    /// Which of the files that a member holds are to be asked of it.
    ///
    /// # Errors
    /// When the store fails.
    pub fn wanted_proofs(&self, peer: &str, listed: &Proofs) -> Result<Vec<Digest>, NodeError> {
        let mut wanted = Vec::new();
        for file in listed.files.iter().take(MAX_PROOFS) {
            if wanted.len() < MAX_ROUND
                && self.listens(peer, file).is_ok()
                && self.store.proof(&file.to_string())?.is_none()
            {
                wanted.push(*file);
            }
        }
        Ok(wanted)
    }

    /// Files that a member does not hold, to be handed to it.
    ///
    /// # Errors
    /// When the store fails.
    pub fn proofs_for(&self, peer: &str, listed: &Proofs) -> Result<Vec<Vec<u8>>, NodeError> {
        let mut files = Vec::new();
        for file in self.peer_proofs()?.files {
            let told = self.peers.proofs.told.get(peer).is_some_and(|told| told.contains(&file));
            if files.len() >= MAX_ROUND || told || listed.files.contains(&file) {
                continue;
            }
            if let Some(body) = self.peer_proof(&file)? {
                files.push(body);
            }
        }
        Ok(files)
    }

    /// The member has this file, or wants none such.
    pub fn proof_told(&mut self, peer: &str, file: Digest) {
        self.peers.proofs.told.entry(peer.to_owned()).or_default().insert(file);
    }

    /// Whether a file of this member is looked at.
    fn listens(&self, peer: &str, file: &Digest) -> Result<(), String> {
        let exchanged = &self.peers.proofs;
        if exchanged.given.get(peer).is_some_and(|given| *given >= MAX_GIVEN) {
            return Err(format!("{MAX_GIVEN} files of `{peer}` are kept, no more are"));
        }
        let Some(useless) = exchanged.useless.get(peer) else { return Ok(()) };
        match useless.get(file) {
            Some(Some(size)) if *size < self.size() => Ok(()),
            Some(_) => Err("this file was looked at and was of no use".into()),
            None if useless.len() >= MAX_USELESS => Err(format!("`{peer}` gave too much that was of no use")),
            None => Ok(()),
        }
    }

    /// Takes a file of evidence from a member.
    ///
    /// # Errors
    /// Why it is not taken, for who gave it; or the store failed.
    pub fn take_proof(
        &mut self,
        from: &str,
        bytes: &[u8],
        now: i64,
    ) -> Result<Result<Digest, String>, NodeError> {
        if bytes.len() > MAX_PROOF {
            return Ok(Err(format!("found {} bytes, expected at most {MAX_PROOF}", bytes.len())));
        }
        let file = Digest::of(bytes);
        if self.store.proof(&file.to_string())?.is_some() {
            return Ok(Ok(file));
        }
        if let Err(why) = self.listens(from, &file) {
            return Ok(Err(why));
        }
        let judged =
            Evidence::read(bytes).and_then(|e| e.verify(Some(self.charter_digest)).map(|guilt| (e, guilt)));
        let guilt = match judged {
            Ok((evidence, guilt)) if evidence.stands_in(&guilt, self.member.log.roster()) => guilt,
            // It may be of a change that is not mirrored here yet.
            Ok(_) => {
                let why = "it does not hold by the keys and members that the record here names".to_owned();
                self.of_no_use(from, file, Some(self.size()));
                return Ok(Err(why));
            }
            Err(why) => {
                self.of_no_use(from, file, None);
                self.keep_evidence(
                    from,
                    &format!("a file of evidence that proves nothing: {why}"),
                    &[],
                    now,
                )?;
                return Ok(Err(why.to_string()));
            }
        };
        self.keep_proof(guilt, bytes, now)?;
        if self.store.proof(&file.to_string())?.is_some() {
            tracing::warn!(from, "evidence came from a member");
            *self.peers.proofs.given.entry(from.to_owned()).or_default() += 1;
        } else {
            // The same is proved here by another file, or enough is.
            self.of_no_use(from, file, None);
        }
        Ok(Ok(file))
    }

    fn of_no_use(&mut self, from: &str, file: Digest, until: Option<u64>) {
        self.peers.proofs.useless.entry(from.to_owned()).or_default().insert(file, until);
    }

    /// The evidence in a report is looked at, wherever the report is met.
    pub(crate) fn hear_report(&mut self, signed: &SignedStatement, now: i64) -> Result<(), NodeError> {
        let statement = signed.statement();
        let Some((_, bytes)) = reported(signed) else { return Ok(()) };
        if let Err(why) = self.take_proof(&statement.issuer, &bytes, now)? {
            tracing::debug!(why, "the evidence in a report was not taken");
        }
        Ok(())
    }

    /// Reports what is proved here and not on the record, nor on its way there from anyone.
    pub(crate) fn report_proofs(&mut self, now: i64) -> Result<(), NodeError> {
        let looked = self.peers.proofs.looked;
        if looked.is_some_and(|at| at <= now && now.saturating_sub(at) < LOOK) {
            return Ok(());
        }
        self.peers.proofs.looked = Some(now);
        let proofs = self.store.proofs()?;
        if proofs.iter().all(|proof| self.is_reported(proof)) {
            return Ok(());
        }
        let waiting = self.waiting_reports()?;
        let rank = self.member.log.roster().members.keys().position(|id| id == self.me()).unwrap_or(0);
        let turn = i64::try_from(rank).unwrap_or(0).saturating_mul(TURN);
        for proof in proofs {
            let same = |guilt: &Guilt| guilt.who == proof.who && u64::from(guilt.term) == proof.term;
            let key = format!("report/{}/{}", proof.who, proof.term);
            let since = *self.peers.proofs.since.entry(key.clone()).or_insert(now);
            let said = self.said.get(&key).and_then(|(id, _)| id.parse().ok());
            // What stands there and was void would be void again.
            let void = said.is_some_and(|id: Digest| self.state.seen.contains(&id));
            let known = self.is_reported(&proof) || void || waiting.iter().any(same);
            if known || now.saturating_sub(since) < turn || self.has_said(&key, now) {
                continue;
            }
            if let Some(report) = self.report_of(&proof)? {
                self.say_once(key, EvidenceReport::TYPE, &proof.who, &report, now)?;
            }
        }
        Ok(())
    }

    /// Whether the record in force has a report of the same, or of this very file.
    fn is_reported(&self, proof: &Proof) -> bool {
        self.state.reports.iter().any(|(file, report)| {
            let same = |c: &charter::Convicted| c.who == proof.who && u64::from(c.term) == proof.term;
            report.convicts.as_ref().map_or_else(|| file.to_string() == proof.id, same)
        })
    }

    /// Whom reports convict that are mirrored and not in force yet, or held for the record.
    fn waiting_reports(&self) -> Result<Vec<Guilt>, NodeError> {
        let above = usize::try_from(self.state.size).unwrap_or(usize::MAX);
        let mirrored = self.member.log.entries().get(above..).unwrap_or(&[]).iter().map(|e| e.entry().signed);
        let held = self.store.all_held()?.into_iter();
        let held = held.filter_map(|row| SignedStatement::from_bytes(&row.bytes).ok());
        let all = mirrored.chain(held).filter_map(|signed| reported(&signed));
        Ok(all.filter_map(|(evidence, _)| evidence.verify(Some(self.charter_digest)).ok()).collect())
    }

    /// The report of a proof: with the file, with the file as short as it still convicts, or by its digest.
    fn report_of(&self, proof: &Proof) -> Result<Option<EvidenceReport>, NodeError> {
        let Some(body) = self.store.proof(&proof.id)? else { return Ok(None) };
        let Ok(evidence) = Evidence::read(&body) else { return Ok(None) };
        for evidence in [evidence.clone(), evidence.short()] {
            let Ok(bytes) = evidence.write() else { continue };
            let value = record::canon::to_value(&evidence)?;
            let report = EvidenceReport { file: Digest::of(&bytes), evidence: Some(value) };
            let statement = Statement::new(EvidenceReport::TYPE, &proof.who, self.me(), "node", &report);
            if statement.and_then(|s| self.signed(s)).is_ok_and(|s| s.to_bytes().len() < LONGEST) {
                return Ok(Some(report));
            }
        }
        Ok(Some(EvidenceReport { file: Digest::of(&body), evidence: None }))
    }
}

/// A report's statement is shorter than the longest by what its time adds.
const LONGEST: usize = record::statement::MAX_SIGNED_BYTES - 64;

/// The evidence in a report, with its bytes.
fn reported(signed: &SignedStatement) -> Option<(Evidence, Vec<u8>)> {
    let statement = signed.statement();
    if statement.r#type != EvidenceReport::TYPE {
        return None;
    }
    let report: EvidenceReport = statement.body_as().ok()?;
    let bytes = report.evidence?.to_bytes().ok()?;
    Some((Evidence::read(&bytes).ok()?, bytes))
}

/// What the record says of a report.
pub(crate) struct Recorded {
    /// Words for people, one line.
    pub words: String,
    /// The same for machines.
    pub data: serde_json::Value,
}

/// The reports that stand on a record, in its order. What is proved is read again from the evidence itself.
pub(crate) fn recorded(entries: &[EntryBytes], state: &State) -> Vec<Recorded> {
    let mut reports: Vec<_> = state.reports.iter().collect();
    reports.sort_by_key(|(_, report)| report.index);
    let of = |(file, report): (&Digest, &charter::Report)| {
        let entry = usize::try_from(report.index).ok().and_then(|at| entries.get(at));
        let evidence = entry.and_then(|e| reported(&e.entry().signed)).map(|(evidence, _)| evidence);
        let what = evidence.and_then(|e| e.verify(state.charter_digest).ok()).map(|guilt| guilt.what);
        let (by, index, file) = (&report.by, report.index, file.to_string());
        let words = match &report.convicts {
            Some(convicted) => {
                let who = convicted_words(convicted, state);
                let what = what.as_deref().unwrap_or(&convicted.kind);
                format!("{who} {what}; reported by {by} in entry {index}")
            }
            None => {
                format!("{by} reports evidence {file} in entry {index}, which is not on the record itself")
            }
        };
        let convicted = report.convicts.as_ref();
        let data = json!({
            "file": file, "by": by, "index": index, "what": what, "who": convicted.map(|c| &c.who),
            "term": convicted.map(|c| c.term), "key": convicted.map(|c| c.key.to_string()),
        });
        Recorded { words, data }
    };
    reports.into_iter().map(of).collect()
}

/// Who is convicted, in words.
fn convicted_words(convicted: &charter::Convicted, state: &State) -> String {
    if convicted.who != HUB {
        return format!("member {}", convicted.who);
    }
    let eras = state.roster.eras.iter().map(|era| &era.electorate);
    let operator = eras.filter(|e| e.term == convicted.term).map(|e| e.hub.operator.as_str()).next();
    format!("the hub of term {} ({})", convicted.term, operator.unwrap_or("unknown"))
}
