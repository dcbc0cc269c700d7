//! Sealed remarks: free text about a statement, on the record as commitments alone, at members with value and salt, and
//! destroyed there when its author asks.
//!
//! | step | who | durable before the next |
//! | --- | --- | --- |
//! | value and salt are kept, sealed at rest; `note.attach` is said | the author | yes, in one group |
//! | a member that the author named asks for them, over the line between the two | the author, that member | |
//! | `record.erase` is said; nothing is given to anybody any more | the author | yes |
//! | once that is in force, value and salt are overwritten, deleted and cut out of the store's log | every member | yes |
//! | `record.erased` is said | every member | |
//!
//! The last two begin again until the record has the acknowledgement: after a crash between them, and at a node that was
//! away. A store that was restored from a backup destroys again what came back with it.
//!
//! # Who can lie
//!
//! The hub sees commitments and nothing else: values travel between members only, each line pinned to the keys of the
//! charter. Whoever asks for a value and was not named learns not even whether there is one here. The author cannot
//! give two members different values, since both are compared with the commitment. A member that was given a value can
//! keep a copy and acknowledge all the same; the acknowledgement is a signed word that can be held against it, no proof.

use crate::NodeError;
use crate::control::Reply;
use crate::core::Node;
use crate::store::Store;
use charter::body::{NoteAttach, RecordErase, RecordErased};
use charter::{Note, State};
use record::canon::{self, Value};
use record::{Digest, Disclosure, sealed};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;
use wire::peer::{Disclosed, MAX_DISCLOSED};
use zeroize::Zeroizing;

/// The field of a remark.
pub const TEXT: &str = "note/text";
/// Longest remark, bytes.
pub const MAX_TEXT: usize = 8 << 10;
/// A member that did not give a remark is asked again after this long, milliseconds.
const AGAIN: i64 = 10 * 60_000;
/// Remarks asked of one member in one round.
const MAX_ASKED: usize = 8;

/// When this node last asked for what it does not hold. Found again after a restart, so nothing of it is kept.
pub(crate) type Asked = BTreeMap<Digest, i64>;

fn draw<const N: usize>() -> Result<[u8; N], NodeError> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).map_err(|_| NodeError::Randomness)?;
    Ok(bytes)
}

fn label(statement: &Digest) -> String {
    format!("sealed/{statement}")
}

impl Node {
    /// Attaches a sealed remark to a statement that is on the record, for these members to ask for.
    pub(crate) fn note(
        &mut self,
        about: &str,
        text: &str,
        to: &[String],
        now: i64,
    ) -> Result<Reply, NodeError> {
        let about = self.recorded_statement(about)?;
        if text.trim().is_empty() || text.len() > MAX_TEXT {
            let found = text.len();
            return Err(NodeError::Input(format!("found a text of {found} bytes, expected 1 to {MAX_TEXT}")));
        }
        let roster = self.member.log.roster();
        if let Some(other) = to.iter().find(|id| !roster.members.contains_key(*id) || *id == self.me()) {
            return Err(NodeError::Input(format!("--to: found `{other}`, expected another member's id")));
        }
        let said = Disclosure::new(TEXT, draw()?, Value::Str(text.to_owned()));
        let own = vec![said.commitment()?];
        let more: Vec<[u8; 32]> =
            (0..sealed::padding(own.len())).map(|_| draw()).collect::<Result<_, _>>()?;
        let body = NoteAttach { about, sealed: sealed::pad(own, more) };
        let id = self.say(NoteAttach::TYPE, "note", "operator", &body, now)?;
        // In one group with the statement: what the record will hold a commitment to is here, or was never said.
        self.keep_disclosures(&id, &[said])?;
        let name = id.to_string();
        for member in to {
            self.store.entitle(&name, member)?;
        }
        let whom = if to.is_empty() { "nobody else".into() } else { to.join(", ") };
        let text = format!(
            "note {name}\nattached to {about}: the record holds commitments; the text is here and for {whom} to read"
        );
        let data = json!({ "note": name, "about": about.to_string(), "to": to });
        Ok(Reply::yes(text, data).waiting_for(name))
    }

    /// A statement that is in the record here, or that this node has said and that waits for it.
    fn recorded_statement(&self, id: &str) -> Result<Digest, NodeError> {
        let found = id.parse::<Digest>().ok();
        let known = |d: &Digest| -> Result<bool, NodeError> {
            let recorded = || self.member.log.entries().iter().any(|e| e.id() == *d);
            Ok(self.state.seen.contains(d) || self.store.keeps(&d.to_string())? || recorded())
        };
        match found {
            Some(digest) if known(&digest)? => Ok(digest),
            _ => Err(NodeError::Input(format!(
                "found `{}`, expected the id of a statement on the record; `comity record show` prints it",
                id.chars().take(80).collect::<String>().escape_debug()
            ))),
        }
    }

    fn keep_disclosures(&self, statement: &Digest, disclosures: &[Disclosure]) -> Result<(), NodeError> {
        let bytes = Zeroizing::new(canon::to_bytes(disclosures)?);
        let sealed = self.keys.seal(&label(statement), &bytes)?;
        self.store.add_sealed(&statement.to_string(), &sealed)
    }

    /// What is held here of a statement's sealed fields.
    pub(crate) fn disclosures(&self, statement: &Digest) -> Result<Option<Vec<Disclosure>>, NodeError> {
        let Some(body) = self.store.sealed(&statement.to_string())? else { return Ok(None) };
        let bytes = self.keys.unseal(&label(statement), &body)?;
        Ok(Some(canon::from_bytes(&bytes)?))
    }

    /// Asks everyone to destroy what a note of this member says.
    pub(crate) fn erase(&mut self, statement: &str, sure: bool, now: i64) -> Result<Reply, NodeError> {
        let unknown = || {
            NodeError::Input(format!(
                "found `{}`, expected the id of a note that this member attached and that is in force",
                statement.chars().take(80).collect::<String>().escape_debug()
            ))
        };
        let id: Digest = statement.parse().map_err(|_| unknown())?;
        if self.state.notes.get(&id).ok_or_else(unknown)?.by != self.me() {
            return Err(unknown());
        }
        if let Some(asked) = self.state.notes.get(&id).and_then(|n| n.erase) {
            return Ok(Reply::no(format!("asked before, in entry {asked}"), json!({ "asked": asked })));
        }
        if !sure {
            let text = "every member will destroy value and salt of this note, and nobody can bring them back; say it again with --yes";
            return Ok(Reply::no(text, json!({ "asked": null })));
        }
        // From here on nobody is given it, whenever the record has the statement.
        self.store.disentitle(&id.to_string())?;
        let said = self.say(RecordErase::TYPE, "note", "operator", &RecordErase { statement: id }, now)?;
        let text = format!(
            "every member is asked to destroy what note {id} says; `comity record show` tells who has"
        );
        Ok(Reply::yes(text, json!({ "erased": id.to_string() })).waiting_for(said.to_string()))
    }

    /// Destroys what the record asks to be destroyed, and says so once that is durable. Begins again until the record
    /// has it; what came back with a backup is destroyed again.
    pub(crate) fn destroy_erased(&mut self, now: i64) -> Result<(), NodeError> {
        let erased = |note: &Note| note.erase.is_some();
        if self.state.notes.values().any(erased) {
            for statement in self.store.sealed_statements()? {
                let id = statement.parse::<Digest>().ok();
                if id.and_then(|id| self.state.notes.get(&id)).is_some_and(erased) {
                    wire::point::point("erasure in force, not destroyed", "");
                    self.store.erase_sealed(&statement)?;
                    self.store.flush()?;
                    wire::point::point("destroyed, not acknowledged", "");
                }
            }
        }
        // Not while a copy may be in the log beside the store: another reader of the file holds it up.
        if self.store.is_erasing() || self.member.halted.is_some() {
            return Ok(());
        }
        let me = self.me();
        let open = self.state.notes.iter().filter(|(_, note)| erased(note) && !note.erased.contains_key(me));
        let open: Vec<Digest> = open.map(|(id, _)| *id).collect();
        for statement in open {
            let key = format!("erased/{statement}");
            self.say_once(key, RecordErased::TYPE, "note", &RecordErased { statement }, now)?;
        }
        Ok(())
    }

    /// What a member is given that asks for a note: nothing, unless this member attached it and named the one that asks.
    ///
    /// # Errors
    /// When the store fails.
    pub fn peer_sealed(
        &mut self,
        asker: &str,
        statement: &Digest,
        now: i64,
    ) -> Result<Option<Disclosed>, NodeError> {
        // Only its author names anybody; the asker may have the note in force before the author has.
        let erased = self.state.notes.get(statement).is_some_and(|n| n.erase.is_some());
        let name = statement.to_string();
        let named = self.store.entitled(&name)?.iter().any(|(member, _)| member == asker);
        if erased || !named || self.stopped || self.member.halted.is_some() {
            return Ok(None);
        }
        let Some(fields) = self.disclosures(statement)? else { return Ok(None) };
        // INVARIANT: noted as given before the asker can have it.
        self.store.note_given(&name, asker, now)?;
        self.store.flush()?;
        Ok(Some(Disclosed { fields }))
    }

    /// Notes of a member that this node does not hold and has not asked for lately; they count as asked for now.
    pub fn wanted_notes(&mut self, author: &str, now: i64) -> Result<Vec<Digest>, NodeError> {
        let due = |id: &Digest| {
            self.notes_asked.get(id).is_none_or(|at| *at > now || now.saturating_sub(*at) >= AGAIN)
        };
        let notes = self.state.notes.iter();
        let of_author = notes.filter(|(id, n)| n.by == author && n.erase.is_none() && due(id));
        let mut wanted = Vec::new();
        for (id, _) in of_author {
            if wanted.len() < MAX_ASKED && self.store.sealed(&id.to_string())?.is_none() {
                wanted.push(*id);
            }
        }
        self.notes_asked.extend(wanted.iter().map(|id| (*id, now)));
        Ok(wanted)
    }

    /// Keeps what a member gave of its note, if that is what it committed to and nobody asked to erase it.
    ///
    /// # Errors
    /// When the store fails; what is wrong with the answer is kept as evidence, not returned.
    pub fn take_sealed(
        &mut self,
        from: &str,
        statement: &Digest,
        given: &Disclosed,
        now: i64,
    ) -> Result<bool, NodeError> {
        let Some(note) = self.state.notes.get(statement).filter(|n| n.by == from && n.erase.is_none()) else {
            return Ok(false);
        };
        let opens = |d: &Disclosure| note.sealed.iter().any(|c| c.opens(d));
        if given.fields.is_empty() || given.fields.len() > MAX_DISCLOSED || !given.fields.iter().all(opens) {
            let what = format!("it gave what note {statement} does not commit to");
            self.keep_evidence(from, &what, &[], now)?;
            return Ok(false);
        }
        self.keep_disclosures(statement, &given.fields)?;
        Ok(true)
    }

    /// What can be said of the note that a statement attached: words, and data.
    pub(crate) fn note_words(&self, id: &Digest) -> Result<Option<(String, serde_json::Value)>, NodeError> {
        let Some(note) = self.state.notes.get(id) else { return Ok(None) };
        let mut data = json!({
            "id": id.to_string(), "about": note.about.to_string(), "by": note.by, "erase_asked": note.erase,
            "destroyed_by": note.erased.keys().collect::<Vec<_>>(),
        });
        if let Some(asked) = note.erase {
            let roster = &self.state.roster;
            let all = roster.members.keys().chain(roster.suspended.keys());
            let open: Vec<&String> = all.filter(|m| !note.erased.contains_key(*m)).collect();
            let by: Vec<&str> = note.erased.keys().map(String::as_str).collect();
            let mut text = format!("erased (asked at {asked}");
            if !by.is_empty() {
                let _ = write!(text, ", destroyed by {}", by.join(", "));
            }
            if !open.is_empty() {
                let open: Vec<&str> = open.iter().map(|m| m.as_str()).collect();
                let _ = write!(text, "; not yet {}", open.join(", "));
            }
            set(&mut data, "not_yet", json!(open));
            return Ok(Some((text + ")", data)));
        }
        // Shown is only what the record's own commitment opens to.
        let held = self.disclosures(id)?.unwrap_or_default();
        let opened = held.iter().filter(|d| note.sealed.iter().any(|c| c.opens(d)));
        let text = opened.filter(|d| d.field == TEXT).find_map(|d| d.value.as_str());
        let entitled: BTreeMap<String, i64> = self.store.entitled(&id.to_string())?.into_iter().collect();
        let mut words = match text {
            // Another member's words: nothing of them acts on a terminal.
            Some(text) => format!("\"{}\"", text.escape_debug()),
            None => "sealed, and not held here".into(),
        };
        if !entitled.is_empty() {
            let given =
                entitled.iter().map(|(m, at)| format!("{m}{}", if *at > 0 { "" } else { " (not yet)" }));
            let _ = write!(words, ", given to {}", given.collect::<Vec<_>>().join(", "));
        }
        set(&mut data, "text", json!(text));
        set(&mut data, "given", json!(entitled));
        Ok(Some((words, data)))
    }

    /// Notes about a statement, each with its words.
    pub(crate) fn notes_about(
        &mut self,
        about: &Digest,
    ) -> Result<Vec<(Digest, String, serde_json::Value)>, NodeError> {
        let notes = self.state.notes.iter().filter(|(id, n)| n.about == *about || *id == about);
        let ids: Vec<Digest> = notes.map(|(id, _)| *id).collect();
        let mut all = Vec::new();
        for id in ids {
            // Somebody wants to read it: whoever wrote it is asked with the next round.
            self.notes_asked.remove(&id);
            all.extend(self.note_words(&id)?.map(|(words, data)| (id, words, data)));
        }
        Ok(all)
    }
}

/// Destroys what was sealed for a note that the record found void: nobody could ask to erase it.
pub(crate) fn drop_void(store: &Store, state: &State, statement: &Digest) -> Result<(), NodeError> {
    let name = statement.to_string();
    if !state.notes.contains_key(statement) && store.sealed(&name)?.is_some() {
        store.erase_sealed(&name)?;
    }
    Ok(())
}

fn set(data: &mut serde_json::Value, key: &str, value: serde_json::Value) {
    if let Some(map) = data.as_object_mut() {
        map.insert(key.to_owned(), value);
    }
}
