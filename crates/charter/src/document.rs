//! The charter (on pages: the agreement): members, seats, decision rules, aggregator pool, floor, sunset.

use record::Digest;
use record::MlPublicKey;
use record::keys::PublicKey;
use record::roster::{Cosigning, MAX_MEMBERS, WitnessInfo};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use study::DocumentError;
use study::document::{Document, Fault, quoted};

/// Longest charter as people write it, bytes: its canonical form must fit into one entry of the record.
pub const MAX_BYTES: usize = 65_536;
/// After how many entries members attest the state, where the charter does not say.
pub const SNAPSHOT_EVERY: u32 = 1024;

/// The agreement that every member signs. People write it as TOML; its digest is taken over canonical JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Charter {
    /// Short name; the record's origin is `comity/<federation>`.
    pub federation: String,
    /// What it is for, for people.
    pub title: String,
    /// Last day on which anything may be done under it, `YYYY-MM-DD`.
    pub sunset: String,
    /// Digest of the policy floor's text.
    pub floor: Digest,
    /// Purposes that studies may name.
    pub purposes: Vec<String>,
    /// Members that may aggregate; a study names two or more of them.
    pub aggregator_pool: Vec<String>,
    /// How many members may lie without the record being forked; by default floor((n-1)/3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<u32>,
    /// After how many entries members attest the state; by default 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_every: Option<u32>,
    /// The sequencer and relay.
    pub hub: Hub,
    /// Decision on access to data.
    pub data_access: DataAccess,
    /// Limits of time and size.
    pub limits: Limits,
    /// The members.
    pub members: Vec<Member>,
    /// Transfer instruments that the members have signed, each with its reference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instruments: Vec<Instrument>,
    /// Organisations outside that cosign checkpoints and see nothing else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub witnesses: Vec<WitnessInfo>,
    /// Which cosignatures count, beside the quorum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosigning: Option<Cosigning>,
}

/// Who runs the hub, where, and with which keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hub {
    /// The operator: a member's id, or the name of somebody outside.
    pub operator: String,
    /// Where it is hosted, for example `NL`.
    pub jurisdiction: String,
    /// Key that signs checkpoints and receipts.
    pub key: PublicKey,
    /// Key of its TLS certificate.
    pub tls: PublicKey,
}

/// A member organisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Short id, for example `gb`.
    pub id: String,
    /// The organisation's name.
    pub name: String,
    /// Its jurisdiction in the library, for example `GB`.
    pub jurisdiction: String,
    /// Who controls and hosts it; two members under one control may not both aggregate (A8).
    pub control: String,
    /// Key that signs statements.
    pub sign: PublicKey,
    /// Key that cosigns checkpoints.
    pub cosign: PublicKey,
    /// Key that cosigns checkpoints with ML-DSA-44, if the member has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosign_ml: Option<MlPublicKey>,
    /// Key of its TLS certificate.
    pub tls: PublicKey,
    /// Digest of the `sign` key that comes next, committed to in advance and kept elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Digest>,
    /// Where other members reach it without the hub, `host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Seats: who may decide what for this member.
    pub seats: Vec<Seat>,
}

/// A seat of a member, held by a person whose name stays at the member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seat {
    /// Random or role-like id, never a person's name, for example `gb-steward`.
    pub id: String,
    /// What it decides.
    pub role: SeatRole,
}

/// What a seat may decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeatRole {
    /// Says yes or no for the member's datasets.
    Steward,
    /// Confirms the country schedule.
    Counsel,
    /// Asks studies.
    Scientist,
    /// Signs the charter.
    Signatory,
}

/// How access to data is decided: each steward for their own dataset; a no needs no majority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataAccess {
    /// How many of the named stewards must have voted before the study may run.
    pub quorum: u32,
    /// Hours from submission in which votes count.
    pub deadline_hours: u32,
    /// Days for which a yes holds.
    pub valid_days: u32,
}

/// Limits of time and size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Hours for which a gate's allow holds.
    pub lease_hours: u32,
    /// A round starts only on a watermark younger than this many minutes.
    pub watermark_minutes: u32,
    /// Fewest hidden sites in any study, and by how many sites two contributor sets must differ if not equal.
    pub min_hidden_sites: u32,
}

/// A transfer instrument that the members have concluded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instrument {
    /// Short id.
    pub id: String,
    /// Mechanism key of the jurisdiction library, for example `clauses`.
    pub mechanism: String,
    /// Jurisdictions or blocs of the exporters.
    pub exporters: Vec<String>,
    /// Jurisdictions or blocs of the importers.
    pub importers: Vec<String>,
    /// Where it can be read.
    pub reference: String,
}

/// Whether `id` is a seat, dataset or purpose id: a lower-case letter, then at most 47 of `a-z`, `0-9`, `-`.
pub fn is_id(id: &str) -> bool {
    let mut chars = id.chars();
    chars.next().is_some_and(|c| c.is_ascii_lowercase())
        && id.len() <= 48
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// Milliseconds since the epoch of the end of a day `YYYY-MM-DD` in UTC (the first instant after it).
pub fn end_of_day(date: &str) -> Option<i64> {
    let day: jiff::civil::Date = date.parse().ok()?;
    if day.to_string() != date || day.year() < 1970 {
        return None;
    }
    let after = day.tomorrow().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(after.timestamp().as_millisecond())
}

impl Charter {
    /// Reads a charter written as TOML, naming the place of every fault.
    pub fn parse(name: &str, text: &str) -> Result<Charter, DocumentError> {
        if text.len() > MAX_BYTES {
            let found = format!("{} bytes", text.len());
            return Err(Fault::at(&[], found, format!("at most {MAX_BYTES} bytes")).unplaced(name));
        }
        let document = Document::parse(name, text)?;
        let charter: Charter = toml::from_str(text).map_err(|e| {
            let found = e.message().replace('\n', ", ");
            document.error(&e.span().unwrap_or(0..0), found, "a charter as the guide describes")
        })?;
        charter.fault().map_or(Ok(()), |fault| Err(document.place_fault(fault)))?;
        charter.of_record().map_or(Ok(()), |fault| Err(document.place_fault(fault)))?;
        Ok(charter)
    }

    /// What the record room refuses of it, whose rules are its own: else it would be void only when it is proposed.
    fn of_record(&self) -> Option<Fault> {
        let refused = match record::canon::to_value(self) {
            Ok(value) => record::Roster::of_charter(&value).err()?.to_string(),
            Err(e) => e.to_string(),
        };
        broken(&[], refused, "members, witnesses and groups that the record can count")
    }

    /// Checks the rules that a charter's parts owe each other; with the text that it was read from, places them.
    pub fn check(&self, name: &str, text: &str) -> Result<(), DocumentError> {
        let Some(fault) = self.fault() else { return Ok(()) };
        Err(match Document::parse(name, text) {
            Ok(document) if !text.is_empty() => document.place_fault(fault),
            _ => fault.unplaced(name),
        })
    }

    /// The first rule broken, in the order in which a charter is read.
    fn fault(&self) -> Option<Fault> {
        let line = |text: &str, most: usize| {
            !text.trim().is_empty() && text.chars().count() <= most && !text.chars().any(char::is_control)
        };
        // The federation names the log's origin, which the record room reads; seats and purposes are this room's.
        if !is_id(&self.federation) {
            return broken(&["federation"], quoted(&self.federation), "a short name of a-z, 0-9 and -");
        }
        if end_of_day(&self.sunset).is_none() {
            return broken(&["sunset"], quoted(&self.sunset), "a date YYYY-MM-DD");
        }
        let mut purposes = BTreeSet::new();
        for (at, purpose) in self.purposes.iter().enumerate() {
            if !is_id(purpose) || !purposes.insert(purpose) {
                let expected = "short names of a-z, 0-9 and -, each once";
                return broken(&["purposes", &at.to_string()], quoted(purpose), expected);
            }
        }
        if purposes.is_empty() {
            return broken(&["purposes"], "no purpose", "at least one purpose");
        }
        let ids: BTreeSet<&str> = self.members.iter().map(|m| m.id.as_str()).collect();
        let mut pool = BTreeSet::new();
        for (at, id) in self.aggregator_pool.iter().enumerate() {
            if !ids.contains(id.as_str()) || !pool.insert(id) {
                let at = at.to_string();
                return broken(&["aggregator_pool", &at], quoted(id), "members of this charter, each once");
            }
        }
        if pool.len() < 2 {
            return broken(&["aggregator_pool"], format!("{} aggregators", pool.len()), "two or more");
        }
        if !line(&self.hub.operator, 256) {
            return broken(&["hub", "operator"], quoted(&self.hub.operator), "one line of text");
        }
        if !line(&self.hub.jurisdiction, 64) {
            return broken(&["hub", "jurisdiction"], quoted(&self.hub.jurisdiction), "one line of text");
        }
        self.members_fault().or_else(|| self.numbers_fault())
    }

    fn members_fault(&self) -> Option<Fault> {
        if self.members.len() < 3 || self.members.len() > MAX_MEMBERS {
            let found = format!("{} members", self.members.len());
            return broken(&["members"], found, format!("3 to {MAX_MEMBERS} members"));
        }
        let (mut ids, mut seats) = (BTreeSet::new(), BTreeSet::new());
        let mut keys = BTreeSet::from([self.hub.key]);
        if !keys.insert(self.hub.tls) {
            return broken(&["hub", "tls"], "one key used twice", "a key of its own for each use");
        }
        for (at, member) in self.members.iter().enumerate() {
            let at = at.to_string();
            let here = |key| ["members", at.as_str(), key];
            if !record::is_party_id(&member.id) {
                let expected = "a letter, then at most 31 of a-z, 0-9 and -";
                return broken(&here("id"), format!("member id {}", quoted(&member.id)), expected);
            }
            if !ids.insert(member.id.as_str()) {
                return broken(&here("id"), format!("member `{}` twice", member.id), "each member once");
            }
            for (key, value) in [("sign", member.sign), ("cosign", member.cosign), ("tls", member.tls)] {
                if !keys.insert(value) {
                    let found = format!("a key of `{}` used twice", member.id);
                    return broken(&here(key), found, "a key of its own for each use");
                }
            }
            for (number, seat) in member.seats.iter().enumerate() {
                if !is_id(&seat.id) || !seats.insert(seat.id.as_str()) {
                    let path = ["members", at.as_str(), "seats", &number.to_string(), "id"];
                    let expected = "a seat id of a-z, 0-9 and - that is used once";
                    return broken(&path, format!("seat {}", quoted(&seat.id)), expected);
                }
            }
            for (role, word) in [(SeatRole::Steward, "steward"), (SeatRole::Counsel, "counsel")] {
                if !member.seats.iter().any(|s| s.role == role) {
                    let found = format!("no {word} seat at `{}`", member.id);
                    return broken(&here("seats"), found, "a steward and a counsel seat");
                }
            }
        }
        None
    }

    fn numbers_fault(&self) -> Option<Fault> {
        let n = self.members.len() as u32;
        let (access, limits) = (&self.data_access, &self.limits);
        let bounds = [
            ("data_access", "quorum", access.quorum, n),
            // A year and ten years: far beyond any use, far within what the canonical form can count.
            ("data_access", "deadline_hours", access.deadline_hours, 8_784),
            ("data_access", "valid_days", access.valid_days, 3_660),
            ("limits", "lease_hours", limits.lease_hours, 168),
            ("limits", "watermark_minutes", limits.watermark_minutes, 60),
            ("limits", "min_hidden_sites", limits.min_hidden_sites, n),
        ];
        for (table, key, value, most) in bounds {
            if !(1..=most).contains(&value) {
                return broken(&[table, key], format!("{key} `{value}`"), format!("1 to {most}"));
            }
        }
        if let Some(every) = self.snapshot_every {
            // Each time every member says one statement: closer together, they would go on for ever by themselves.
            let least = n.saturating_mul(4);
            if !(least..=1_048_576).contains(&every) {
                let expected = format!("{least} (four for each member) to 1048576");
                return broken(&["snapshot_every"], format!("snapshot_every `{every}`"), expected);
            }
        }
        match self.faults {
            Some(f) if f >= n.div_ceil(2) => {
                broken(&["faults"], format!("faults `{f}`"), "fewer than half of the members")
            }
            _ => None,
        }
    }

    /// After how many entries members attest the state.
    pub fn snapshot_every(&self) -> u64 {
        u64::from(self.snapshot_every.unwrap_or(SNAPSHOT_EVERY)).max(1)
    }

    /// The member with this id.
    pub fn member(&self, id: &str) -> Option<&Member> {
        self.members.iter().find(|m| m.id == id)
    }

    /// Whether `seat` is a seat of `member` with this role.
    pub fn has_seat(&self, member: &str, seat: &str, role: SeatRole) -> bool {
        self.member(member).is_some_and(|m| m.seats.iter().any(|s| s.id == seat && s.role == role))
    }

    /// Digest over canonical JSON: what every member signs and every auditor pins.
    pub fn digest(&self) -> Result<Digest, record::canon::CanonError> {
        Ok(Digest::of(&record::canon::to_bytes(self)?))
    }
}

fn broken(path: &[&str], found: impl Into<String>, expected: impl Into<String>) -> Option<Fault> {
    Some(Fault::at(path, found, expected))
}
