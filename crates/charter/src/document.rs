//! The charter (on pages: the agreement): members, seats, decision rules, aggregator pool, floor, sunset.

use record::Digest;
use record::keys::PublicKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use study::{DocumentError, Place};

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
    /// Key of its TLS certificate.
    pub tls: PublicKey,
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

/// Whether `id` is a party, seat or study id: a lower-case letter, then at most 47 of `a-z`, `0-9`, `-`.
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
        if text.len() > 65_536 {
            return Err(fault(
                name,
                Place::default(),
                format!("{} bytes", text.len()),
                "at most 65536 bytes",
            ));
        }
        let charter: Charter = toml::from_str(text).map_err(|e| {
            let place = e.span().map_or(Place::default(), |s| place_of(text, s.start));
            fault(name, place, e.message().to_string(), "a charter as the guide describes")
        })?;
        charter.check(name, text)?;
        Ok(charter)
    }

    /// Checks the rules that a charter's parts owe each other.
    pub fn check(&self, name: &str, text: &str) -> Result<(), DocumentError> {
        let at = |needle: &str| text.find(needle).map_or(Place::default(), |offset| place_of(text, offset));
        let bad = |needle: &str, found: String, expected: &str| Err(fault(name, at(needle), found, expected));
        if !is_id(&self.federation) {
            return bad("federation", format!("`{}`", self.federation), "a short name of a-z, 0-9 and -");
        }
        if end_of_day(&self.sunset).is_none() {
            return bad("sunset", format!("`{}`", self.sunset), "a date YYYY-MM-DD");
        }
        if self.members.len() < 3 {
            return bad("members", format!("{} members", self.members.len()), "three or more members");
        }
        if self.members.len() > 200 {
            return bad("members", format!("{} members", self.members.len()), "at most 200 members");
        }
        let mut ids = BTreeSet::new();
        let mut keys = BTreeSet::new();
        let mut seats = BTreeSet::new();
        keys.insert(self.hub.key);
        if !keys.insert(self.hub.tls) {
            return bad("[hub]", "one key used twice".into(), "a key of its own for each use");
        }
        for member in &self.members {
            let here = format!("\"{}\"", member.id);
            if !is_id(&member.id) {
                return bad(&here, format!("member id `{}`", member.id), "a short name of a-z, 0-9 and -");
            }
            if !ids.insert(member.id.as_str()) {
                return bad(&here, format!("member `{}` twice", member.id), "each member once");
            }
            for key in [member.sign, member.cosign, member.tls] {
                if !keys.insert(key) {
                    return bad(
                        &here,
                        format!("a key of `{}` used twice", member.id),
                        "a key of its own for each use",
                    );
                }
            }
            for seat in &member.seats {
                if !is_id(&seat.id) || !seats.insert(seat.id.as_str()) {
                    let found = format!("seat `{}`", seat.id);
                    return bad(
                        &format!("\"{}\"", seat.id),
                        found,
                        "a seat id of a-z, 0-9 and - that is used once",
                    );
                }
            }
            for role in [SeatRole::Steward, SeatRole::Counsel] {
                if !member.seats.iter().any(|s| s.role == role) {
                    return bad(
                        &here,
                        format!("no {role:?} seat at `{}`", member.id),
                        "a steward and a counsel seat",
                    );
                }
            }
        }
        let mut pool = BTreeSet::new();
        for id in &self.aggregator_pool {
            if !ids.contains(id.as_str()) || !pool.insert(id) {
                return bad("aggregator_pool", format!("`{id}`"), "members of this charter, each once");
            }
        }
        if pool.len() < 2 {
            return bad("aggregator_pool", format!("{} aggregators", pool.len()), "two or more");
        }
        if self.purposes.is_empty() {
            return bad("purposes", "no purpose".into(), "at least one purpose");
        }
        let n = self.members.len() as u32;
        if self.data_access.quorum == 0 || self.data_access.quorum > n {
            return bad(
                "[data_access]",
                format!("quorum {}", self.data_access.quorum),
                "between 1 and the members",
            );
        }
        if self.data_access.deadline_hours == 0 || self.data_access.valid_days == 0 {
            return bad("[data_access]", "a period of 0".into(), "at least one hour and one day");
        }
        if self.limits.lease_hours == 0 || self.limits.lease_hours > 168 {
            return bad("[limits]", format!("lease_hours {}", self.limits.lease_hours), "1 to 168");
        }
        if self.limits.watermark_minutes == 0 || self.limits.watermark_minutes > 60 {
            return bad(
                "[limits]",
                format!("watermark_minutes {}", self.limits.watermark_minutes),
                "1 to 60",
            );
        }
        if self.limits.min_hidden_sites == 0 {
            return bad("[limits]", "min_hidden_sites 0".into(), "1 or more");
        }
        if let Some(f) = self.faults
            && f >= n.div_ceil(2)
        {
            return bad("faults", format!("faults {f}"), "fewer than half of the members");
        }
        Ok(())
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

fn fault(name: &str, place: Place, found: String, expected: &str) -> DocumentError {
    DocumentError { document: name.to_string(), place, found, expected: expected.to_string() }
}

fn place_of(text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    Place { line, column }
}
