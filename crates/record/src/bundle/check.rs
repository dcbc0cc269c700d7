//! What is checked of a bundle, one step each, and what can be found broken.

use std::collections::{BTreeMap, BTreeSet};

use super::{Bundle, PAYLOAD_TYPE};
use crate::canon;
use crate::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::digest::Digest;
use crate::entry::{Entry, EntryBytes, EntryError};
use crate::keys::pae;
use crate::log::{InForce, LogError, highest, opens_elsewhere, validate_next, watermark};
use crate::roster::{Roster, Why};
use crate::tree::{Tree, leaf_hash, verify_inclusion};

/// One thing that is broken in a bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Finding {
    /// An entry cannot be read.
    #[error("entry {index} is broken: {source}")]
    Entry {
        /// Its index.
        index: u64,
        /// What is wrong with it.
        source: EntryError,
    },
    /// An entry is not the one that its leaf hash stands for.
    #[error("entry {index} (`{kind}`) is not the one that was recorded: its hash differs from its leaf")]
    Altered {
        /// Its index.
        index: u64,
        /// Statement type, or `unreadable`.
        kind: String,
    },
    /// A signature under a statement fails in a record whose root fails too.
    #[error("statement in entry {index} (`{kind}`) fails: {why}")]
    Statement {
        /// Index of the entry.
        index: u64,
        /// Statement type.
        kind: String,
        /// Why it is void.
        why: Why,
    },
    /// Leaf hashes that do not go with the entries.
    #[error("bundle lists {leaves} leaf hashes for {entries} entries")]
    Leaves {
        /// Leaf hashes listed.
        leaves: u64,
        /// Entries in the bundle.
        entries: u64,
    },
    /// Entries are missing or too many.
    #[error("checkpoint covers {size} entries, but the bundle holds {entries}: it is not the whole record")]
    Size {
        /// Size of the checkpoint.
        size: u64,
        /// Entries in the bundle.
        entries: u64,
    },
    /// The entries do not hash to the checkpoint's root.
    #[error("entries have root {recomputed}, but the checkpoint says {claimed}")]
    Root {
        /// Root in the checkpoint.
        claimed: Digest,
        /// Root of the entries.
        recomputed: Digest,
    },
    /// An entry of the study is not proved to be in the checkpoint's tree.
    #[error("entry {index} of the study is not included in the checkpoint's tree")]
    Inclusion {
        /// Its index.
        index: u64,
    },
    /// The checkpoint, the hub's signature or a cosignature is broken.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Time goes backwards, or the checkpoint is of another log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Too few members cosigned.
    #[error("checkpoint has {have} valid cosignatures, expected at least {need}")]
    Quorum {
        /// Valid cosignatures.
        have: u32,
        /// Quorum.
        need: u32,
    },
    /// No charter in the record.
    #[error("no valid charter is proposed in the record, so no key in it can be trusted")]
    NoCharter,
    /// Not everyone signed the charter.
    #[error("charter is not in force: the signature of {} is missing", .missing.join(", "))]
    CharterNotInForce {
        /// Members who have not signed.
        missing: Vec<String>,
    },
    /// The record is another federation's, or made up.
    #[error("charter of the record is {found}, but the pinned digest is {pinned}")]
    OtherCharter {
        /// Digest handed in.
        pinned: Digest,
        /// Digest of the charter in the record.
        found: Digest,
    },
    /// A blob is not what its digest says.
    #[error("blob {digest} has other content than its digest says")]
    Blob {
        /// The digest that it is listed under.
        digest: Digest,
    },
    /// The exporter is no member or its signature fails.
    #[error(
        "bundle is not signed by `{exporter}`, who is named as exporter: something in the file was changed after the export"
    )]
    Exporter {
        /// The party named.
        exporter: String,
    },
    /// Nothing in the record is about the study.
    #[error("no entry of the record is about study `{study}`")]
    NoStudy {
        /// The study named in the bundle.
        study: String,
    },
}

/// Whether the charter's digest came from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// It did, and it is the one in the record.
    Pinned,
    /// It did not: the bundle is consistent, but may be consistently made up.
    Unpinned,
}

/// What a sound bundle was found to hold.
#[derive(Clone, Debug)]
pub struct BundleReport {
    /// Whether the charter was pinned from outside. Only a pinned bundle proves anything to its reader.
    pub pin: Pin,
    /// Digest of the charter in the record.
    pub charter: Digest,
    /// Checkpoint, cosigners and quorum: up to which index, and as of when, the bundle speaks.
    pub in_force: InForce,
    /// The roster that the entries fold to.
    pub roster: Roster,
    /// The entries.
    pub entries: Vec<EntryBytes>,
    /// Stamp of the last entry, milliseconds.
    pub last_time: i64,
    /// Entries that signatures or the roster make void, and why. They are part of the record and no fault of it.
    pub voids: BTreeMap<u64, Why>,
    /// Indices of the entries about the study, each with a verified inclusion proof.
    pub study_entries: Vec<u64>,
    /// Signatures under statements that were verified.
    pub signatures: u64,
}

impl Bundle {
    /// How many entries the checkpoints that seal changes of members put in force.
    fn sealed_by(&self, tree: &Tree, roster: &Roster) -> u64 {
        let seals: Vec<SignedCheckpoint> =
            self.seals.iter().filter_map(|note| SignedCheckpoint::parse(note).ok()).collect();
        highest(tree, &seals, roster).map_or(0, |evidence| evidence.size())
    }

    /// Checks everything that can be checked without knowing what statements mean: entries against leaf hashes, root,
    /// inclusion of the study's entries; the checkpoint's hub signature and quorum; every statement's signature; the
    /// charter against `pin`; blobs against their digests; the exporter's signature.
    ///
    /// # Errors
    /// Every broken thing that was found, each by its name. Never empty.
    pub fn verify_container(&self, pin: Option<Digest>) -> Result<BundleReport, Vec<Finding>> {
        let mut findings = Vec::new();
        let mut check = Check { bundle: self, findings: &mut findings };

        let (entries, tree) = check.entries();
        let mut roster = Roster::new();
        let voids: BTreeMap<u64, Why> =
            entries.iter().filter_map(|(i, e)| roster.apply(*i, e).err().map(|why| (*i, why))).collect();
        let Some(charter) = roster.charter_digest else {
            check.blobs();
            findings.push(Finding::NoCharter);
            return Err(findings);
        };
        let checkpoint = check.checkpoint(&tree, &roster, &entries, &voids);
        check.charter(&roster, charter, pin);
        let study_entries = check.study(&tree, checkpoint.as_ref(), &entries);
        check.blobs();
        check.exporter(&roster);

        let evidence = match checkpoint.map(|c| watermark(&tree, &c, &roster, self.sealed_by(&tree, &roster)))
        {
            Some(Ok(standing)) => standing.in_force(),
            // Each of its reasons is among the findings already.
            Some(Err(_)) | None => None,
        };
        match evidence {
            Some(in_force) if findings.is_empty() => Ok(BundleReport {
                pin: if pin.is_some() { Pin::Pinned } else { Pin::Unpinned },
                charter,
                in_force,
                last_time: entries.last().map_or(0, |(_, e)| e.time),
                signatures: entries.iter().map(|(_, e)| e.signed.signatures().len() as u64).sum(),
                entries: entries.iter().map(|(_, e)| EntryBytes::from(e)).collect(),
                roster,
                voids,
                study_entries,
            }),
            _ if findings.is_empty() => {
                // INVARIANT: no evidence, no report, even if no check above could say why.
                Err(vec![Finding::Quorum { have: 0, need: roster.quorum() }])
            }
            _ => Err(findings),
        }
    }
}

struct Check<'a> {
    bundle: &'a Bundle,
    findings: &'a mut Vec<Finding>,
}

impl Check<'_> {
    /// Entries by index, and their tree. An entry that cannot be read still counts in the tree, by its bytes.
    fn entries(&mut self) -> (Vec<(u64, Entry)>, Tree) {
        let mut entries: Vec<(u64, Entry)> = Vec::new();
        let mut tree = Tree::new();
        if self.bundle.leaves.len() != self.bundle.entries.len() {
            self.findings.push(Finding::Leaves {
                leaves: self.bundle.leaves.len() as u64,
                entries: self.bundle.entries.len() as u64,
            });
        }
        for (index, bytes) in (0_u64..).zip(&self.bundle.entries) {
            let parsed = Entry::from_bytes(bytes);
            if parsed.as_ref().is_ok_and(|entry| opens_elsewhere(entry, &tree)) {
                self.findings.push(LogError::Opening { index }.into());
            }
            tree.append(bytes);
            let recorded = usize::try_from(index).ok().and_then(|i| self.bundle.leaves.get(i));
            if recorded.is_some_and(|leaf| *leaf != leaf_hash(bytes)) {
                let kind =
                    parsed.as_ref().map_or("unreadable".to_owned(), |e| e.signed.statement().r#type.clone());
                self.findings.push(Finding::Altered { index, kind });
            }
            match parsed {
                Ok(entry) => {
                    let previous = entries.last().map(|(_, e)| e.time);
                    if let Err(fault) = validate_next(index, previous, entry.time, None) {
                        self.findings.push(fault.into());
                    }
                    entries.push((index, entry));
                }
                Err(source) => self.findings.push(Finding::Entry { index, source }),
            }
        }
        (entries, tree)
    }

    fn checkpoint(
        &mut self,
        tree: &Tree,
        roster: &Roster,
        entries: &[(u64, Entry)],
        voids: &BTreeMap<u64, Why>,
    ) -> Option<SignedCheckpoint> {
        let signed = match SignedCheckpoint::parse(&self.bundle.checkpoint) {
            Ok(signed) => signed,
            Err(fault) => {
                self.findings.push(fault.into());
                return None;
            }
        };
        let claimed = signed.checkpoint();
        if claimed.origin() != roster.origin {
            let (found, expected) = (claimed.origin().to_owned(), roster.origin.clone());
            self.findings.push(LogError::Origin { found, expected }.into());
        }
        if claimed.size() != tree.size() {
            self.findings.push(Finding::Size { size: claimed.size(), entries: tree.size() });
        }
        let recomputed = tree.root();
        if claimed.root() != recomputed {
            self.findings.push(Finding::Root { claimed: claimed.root(), recomputed });
            // A void statement is part of a sound record; in a changed one it is where the change may be.
            for (index, why) in voids {
                let entry = entries.iter().find(|(i, _)| i == index);
                let kind = entry.map_or(String::new(), |(_, e)| e.signed.statement().r#type.clone());
                self.findings.push(Finding::Statement { index: *index, kind, why: why.clone() });
            }
        }
        if let Some(electorate) = roster.electorate_at(claimed.size())
            && let Err(fault) = signed.verify_hub(&electorate.hub.key)
        {
            self.findings.push(fault.into());
        }
        self.findings.extend(signed.faults(roster).into_iter().map(Finding::from));
        let above = self.bundle.sealed_by(tree, roster);
        if !crate::log::is_sealed(&signed, roster, above) {
            let (have, need) = (signed.cosigners(roster).len() as u32, roster.quorum());
            self.findings.push(Finding::Quorum { have, need });
        }
        Some(signed)
    }

    fn charter(&mut self, roster: &Roster, found: Digest, pin: Option<Digest>) {
        if let Some(pinned) = pin.filter(|p| *p != found) {
            self.findings.push(Finding::OtherCharter { pinned, found });
        }
        let missing: BTreeSet<String> = roster.unsigned();
        if !missing.is_empty() {
            self.findings.push(Finding::CharterNotInForce { missing: missing.into_iter().collect() });
        }
    }

    fn study(
        &mut self,
        tree: &Tree,
        checkpoint: Option<&SignedCheckpoint>,
        entries: &[(u64, Entry)],
    ) -> Vec<u64> {
        let study = &self.bundle.study;
        let about = |e: &Entry| e.signed.statement().concerns(study);
        let indices: Vec<u64> = entries.iter().filter(|(_, e)| about(e)).map(|(i, _)| *i).collect();
        if indices.is_empty() {
            self.findings.push(Finding::NoStudy { study: study.clone() });
        }
        if let Some(claimed) = checkpoint.map(SignedCheckpoint::checkpoint) {
            for &index in &indices {
                let proved = tree.leaf(index).is_some_and(|leaf| {
                    tree.prove_inclusion(index, claimed.size())
                        .and_then(|proof| {
                            verify_inclusion(&leaf, index, claimed.size(), &claimed.root(), &proof)
                        })
                        .is_ok()
                });
                if !proved {
                    self.findings.push(Finding::Inclusion { index });
                }
            }
        }
        indices
    }

    fn blobs(&mut self) {
        for (digest, bytes) in &self.bundle.blobs {
            if Digest::of(bytes) != *digest {
                self.findings.push(Finding::Blob { digest: *digest });
            }
        }
    }

    fn exporter(&mut self, roster: &Roster) {
        let exporter = &self.bundle.exported_by;
        let sound = roster.members.get(exporter).is_some_and(|member| {
            canon::to_bytes(&self.bundle.file(None)).is_ok_and(|bytes| {
                member.sign.verify_strict(&pae(PAYLOAD_TYPE, &bytes), &self.bundle.signature).is_ok()
            })
        });
        if !sound {
            self.findings.push(Finding::Exporter { exporter: exporter.clone() });
        }
    }
}
