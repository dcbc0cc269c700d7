//! The transfer basis of every pair: from the site whose data it is to everyone who handles a part of it (A16).

use crate::input::{GateInput, Instrument, Stage};
use crate::library::{Library, Transfer, date_of};
use serde::{Deserialize, Serialize};

/// What somebody receives, and so why a basis is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransferRole {
    /// A secret share of the contribution.
    Aggregator,
    /// Opened sums.
    Collector,
    /// Sealed messages, stored.
    Hub,
    /// The output.
    Recipient,
    /// Opened sums of intermediate rounds, for replay.
    Contributor,
}

impl TransferRole {
    /// Its name in facts and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            TransferRole::Aggregator => "aggregator",
            TransferRole::Collector => "collector",
            TransferRole::Hub => "hub",
            TransferRole::Recipient => "recipient",
            TransferRole::Contributor => "contributor",
        }
    }

    /// What travels, in words.
    pub fn what(self) -> &'static str {
        match self {
            TransferRole::Aggregator => "a secret share",
            TransferRole::Collector => "opened sums",
            TransferRole::Hub => "sealed messages",
            TransferRole::Recipient => "the output",
            TransferRole::Contributor => "opened sums of intermediate rounds",
        }
    }
}

/// Somebody in a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// A member's id, or the name of somebody outside.
    pub name: String,
    /// The jurisdiction, for example `IT`; empty if unknown.
    pub jurisdiction: String,
    /// Whether it is not a member and so not bound by the agreement.
    pub outside: bool,
}

/// One pair with its basis, as looked up; this is what the record keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferFact {
    /// What the receiver is.
    pub role: TransferRole,
    /// The exporter.
    pub from_party: String,
    /// The exporter's regime, for example `EU`.
    pub from: String,
    /// The receiver.
    pub to_party: String,
    /// The receiver's regime, or its jurisdiction if the library does not know it.
    pub to: String,
    /// Whether the receiver is not a member.
    pub outside: bool,
    /// The lightest lawful mechanism, or `unknown`.
    pub mechanism: String,
    /// What to use where a partial recognition does not cover the receiver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<String>,
    /// On which condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Law and article.
    pub source: String,
    /// How the source was verified: `search` or `memory`.
    pub verified: String,
    /// Newest material seen, `YYYY-MM-DD`.
    pub as_of: String,
    /// Whether a signed instrument is needed.
    pub needs_instrument: bool,
    /// The instrument that serves, with its reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instrument: Option<String>,
    /// Whether there is a basis.
    pub ok: bool,
}

impl TransferFact {
    /// Whether there is a basis, computed again from the fact's own parts: `ok` alone is not believed.
    pub fn has_basis(&self) -> bool {
        self.ok
            && self.mechanism != UNKNOWN
            && (!self.needs_instrument || self.instrument.is_some())
            && (!refuses(&self.mechanism) || self.instrument.is_some())
    }

    /// Whether the exporter's law recognises the receiver's country in full, or no border is crossed.
    pub fn recognised(&self) -> bool {
        matches!(self.mechanism.as_str(), "adequacy" | "domestic" | "free")
    }
}

pub(crate) const UNKNOWN: &str = "unknown";

/// Mechanisms that are none: the data may not leave, or only under an exemption.
fn refuses(mechanism: &str) -> bool {
    matches!(mechanism, "prohibited" | "localised" | "restricted")
}

/// Whether an instrument of mechanism `have` serves where `need` is needed.
fn serves(have: &str, need: &str) -> bool {
    if have == need {
        return true;
    }
    match need {
        "clauses" => matches!(have, "clauses_notified" | "bcr" | "certification" | "approval"),
        "clauses_notified" => matches!(have, "bcr" | "certification" | "approval"),
        "accountability" => matches!(have, "clauses" | "clauses_notified" | "bcr" | "certification"),
        "filing" => matches!(have, "certification" | "security_assessment"),
        "adequacy_partial" => matches!(have, "adequacy" | "certification"),
        "prohibited" | "localised" | "restricted" => matches!(have, "exemption" | "approval"),
        _ => false,
    }
}

/// The transfer basis of each pair, from one exporter to each receiver. A pair that the library does not know
/// gets the mechanism `unknown` and no basis. `now` in milliseconds since the epoch decides whether an adequacy
/// finding has ended.
///
/// An instrument serves a member when it names the regimes (or jurisdictions) of both; it serves somebody
/// outside only when its importers name them, because the agreement does not bind them.
pub fn transfer_pairs(
    library: &Library,
    from: &Location,
    to: &[(TransferRole, Location)],
    instruments: &[Instrument],
    special_category: bool,
    now: i64,
) -> Vec<TransferFact> {
    let date = date_of(now);
    to.iter()
        .map(|(role, to)| {
            let found = library.transfer_at(&from.jurisdiction, &to.jurisdiction, special_category, &date);
            pair(library, *role, from, to, found, instruments)
        })
        .collect()
}

fn pair(
    library: &Library,
    role: TransferRole,
    from: &Location,
    to: &Location,
    found: Option<Transfer>,
    instruments: &[Instrument],
) -> TransferFact {
    let regime = |code: &str| library.regime(code).unwrap_or(code).to_string();
    let mut fact = TransferFact {
        role,
        from_party: from.name.clone(),
        from: regime(&from.jurisdiction),
        to_party: to.name.clone(),
        to: regime(&to.jurisdiction),
        outside: to.outside,
        mechanism: UNKNOWN.into(),
        otherwise: None,
        condition: None,
        source: "the jurisdiction library knows nothing of this pair".into(),
        verified: "none".into(),
        as_of: "none".into(),
        needs_instrument: true,
        instrument: None,
        ok: false,
    };
    let Some(found) = found else { return fact };
    // The members' promise to each other is the agreement itself; somebody outside has promised nothing.
    let needs = found.needs_instrument || (to.outside && found.mechanism == "accountability");
    let covers = |listed: &[String], place: &Location| {
        listed.iter().any(|l| *l == place.jurisdiction || *l == regime(&place.jurisdiction))
    };
    let instrument = instruments.iter().find(|i| {
        let mechanism = serves(&i.mechanism, &found.mechanism)
            || found.otherwise.as_deref().is_some_and(|o| serves(&i.mechanism, o));
        let importer = if to.outside { i.importers.contains(&to.name) } else { covers(&i.importers, to) };
        mechanism && covers(&i.exporters, from) && importer
    });
    fact.needs_instrument = needs;
    fact.instrument = match (needs, instrument) {
        (true, Some(i)) => Some(format!("{} ({})", i.id, i.reference)),
        _ => None,
    };
    fact.ok = !needs || fact.instrument.is_some();
    fact.mechanism = found.mechanism;
    fact.otherwise = found.otherwise;
    fact.condition = found.condition;
    fact.source = found.source;
    fact.verified = found.verified;
    fact.as_of = found.as_of;
    fact
}

impl GateInput {
    /// This node as an exporter, and everyone to whom something of this study travels from it at this stage.
    /// Nobody is a receiver of their own.
    pub fn routes(&self) -> (Location, Vec<(TransferRole, Location)>) {
        let member = |id: &str| Location {
            name: id.to_string(),
            jurisdiction: self.parties.get(id).map(|p| p.jurisdiction.clone()).unwrap_or_default(),
            outside: false,
        };
        let mut routes = Vec::new();
        if self.stage != Stage::Release {
            routes.extend(self.study.aggregators.iter().map(|a| (TransferRole::Aggregator, member(a))));
            routes.push((TransferRole::Collector, member(&self.study.collector)));
        }
        let hub = &self.charter.hub;
        routes.push((
            TransferRole::Hub,
            Location {
                name: hub.operator.clone(),
                jurisdiction: hub.jurisdiction.clone(),
                // The hub's operator is bound by the agreement, which names it.
                outside: false,
            },
        ));
        routes.extend(self.study.recipients.iter().map(|r| {
            let place = match &r.outside {
                None => member(&r.name),
                Some(jurisdiction) => {
                    Location { name: r.name.clone(), jurisdiction: jurisdiction.clone(), outside: true }
                }
            };
            (TransferRole::Recipient, place)
        }));
        if self.stage != Stage::Release && self.plan.replayed {
            routes.extend(self.contributors().iter().map(|c| (TransferRole::Contributor, member(c))));
        }
        // A hub that this member operates abroad is still a host abroad; every other part played by the
        // member itself is no transfer.
        routes.retain(|(role, to)| *role == TransferRole::Hub || to.outside || to.name != self.node);
        (member(&self.node), routes)
    }

    /// Looks up what the library says of this input (regimes, legal orders, the transfer basis of every pair) and
    /// keeps it in the input, in place of what stood there. Call it last, when everything else is filled in.
    pub fn consult(&mut self, library: &Library) {
        let regime = |jurisdiction: &str| library.regime(jurisdiction).unwrap_or_default().to_string();
        for party in self.parties.values_mut() {
            party.regime = regime(&party.jurisdiction);
            party.legal_order = library.legal_order(&party.jurisdiction).unwrap_or_default().to_string();
        }
        self.charter.hub.regime = regime(&self.charter.hub.jurisdiction);
        for recipient in &mut self.study.recipients {
            recipient.regime = match &recipient.outside {
                Some(jurisdiction) => regime(jurisdiction),
                None => self.parties.get(&recipient.name).map(|p| p.regime.clone()).unwrap_or_default(),
            };
        }
        let (from, to) = self.routes();
        let special = self.dataset.as_ref().is_none_or(|d| d.special_category);
        self.transfers = transfer_pairs(library, &from, &to, &self.charter.instruments, special, self.now);
    }

    /// Whether what the input says of law is what this library says: for an auditor, who may hold a newer one.
    pub fn agrees_with(&self, library: &Library) -> bool {
        let mut again = self.clone();
        again.consult(library);
        again == *self
    }
}
