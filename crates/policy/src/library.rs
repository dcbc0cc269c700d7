//! The jurisdiction library: what each country's law asks of data that leaves, with source and date.
//!
//! Facts are data, in `jurisdictions/`, one file a regime; here is only how they combine. A regime is a country,
//! or the European Economic Area as `EU`, in which no border counts. For a pair the exporter's file is read:
//! restriction first, then recognition of the importer, then the fallback, then what holds for special
//! categories. The importer's own rules are the importer's schedule. It is not legal advice.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use study::{DocumentError, Place};

/// The mechanism of one pair, with its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// `domestic`, `free`, `accountability`, `adequacy`, `adequacy_partial`, `assessment`, `clauses`, `consent`,
    /// `filing`, `approval`, `restricted`, `prohibited`, `localised` ...
    pub mechanism: String,
    /// What to use where a partial recognition does not cover the receiver.
    pub otherwise: Option<String>,
    /// On which condition, in words.
    pub condition: Option<String>,
    /// Law and article.
    pub source: String,
    /// `search` (a page saying so was read) or `memory` (to be checked).
    pub verified: String,
    /// Newest material seen, `YYYY-MM-DD`.
    pub as_of: String,
    /// Last day, where the recognition ends by itself.
    pub until: Option<String>,
    /// Whether a signed instrument must be on the record.
    pub needs_instrument: bool,
}

/// What is known of one regime, as far as this room reads it.
#[derive(Clone, Debug, Deserialize)]
pub struct Jurisdiction {
    /// Id, for example `GB` or `EU`.
    pub id: String,
    /// Name.
    pub name: String,
    /// Newest material seen, `YYYY-MM-DD`.
    pub as_of: String,
    /// Countries of a bloc.
    #[serde(default)]
    pub members: Vec<String>,
    transfer: TransferRules,
}

#[derive(Clone, Debug, Deserialize)]
struct TransferRules {
    source: String,
    verified: String,
    fallback: String,
    #[serde(default)]
    fallback_cond: Option<String>,
    #[serde(default)]
    sensitive_override: Option<Override>,
    #[serde(default)]
    recognised: Vec<Recognised>,
    #[serde(default)]
    restricted: Vec<Restricted>,
}

#[derive(Clone, Debug, Deserialize)]
struct Override {
    m: String,
    cond: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Recognised {
    to: Vec<String>,
    scope: String,
    #[serde(default)]
    cond: Option<String>,
    #[serde(default)]
    until: Option<String>,
    source: String,
    verified: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Restricted {
    to: Vec<String>,
    cond: String,
    source: String,
    verified: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Orders {
    #[serde(rename = "schema")]
    _schema: u32,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "as_of")]
    _as_of: String,
    #[serde(rename = "notice")]
    _notice: String,
    order: Vec<Order>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    id: String,
    regimes: Vec<String>,
    #[serde(rename = "text")]
    _text: String,
    #[serde(rename = "source")]
    _source: String,
    #[serde(rename = "verified")]
    _verified: String,
}

/// The library.
#[derive(Clone, Debug)]
pub struct Library {
    regimes: BTreeMap<String, Jurisdiction>,
    /// Country of a bloc to the bloc.
    blocs: BTreeMap<String, String>,
    /// Regime to legal order of compulsory access.
    orders: BTreeMap<String, String>,
}

macro_rules! files {
    ($($id:literal),* $(,)?) => { [$((concat!($id, ".toml"), include_str!(concat!("../../../jurisdictions/", $id, ".toml")))),*] };
}

/// The regime files as shipped.
const FILES: [(&str, &str); 30] = files![
    "AE", "AR", "AU", "BR", "CA", "CA-QC", "CH", "CL", "CN", "EU", "GB", "HK", "ID", "IL", "IN", "JP", "KE",
    "KR", "MY", "NG", "NZ", "RU", "SA", "SG", "TH", "TR", "US", "UY", "VN", "ZA",
];

/// Official least counts and other thresholds, as shipped: the source of numbers in schedules.
pub const THRESHOLDS: &str = include_str!("../../../jurisdictions/thresholds.toml");

const ORDERS: &str = include_str!("../../../jurisdictions/orders.toml");

impl Library {
    /// The library as shipped. Parsing takes milliseconds: keep it.
    pub fn embedded() -> Result<Library, DocumentError> {
        // Compiled in, so it is the same for everyone in a process.
        static READ: OnceLock<Result<Library, DocumentError>> = OnceLock::new();
        READ.get_or_init(|| Library::parse(&FILES, ("orders.toml", ORDERS))).clone()
    }

    /// A library from regime files and the file of legal orders, each with the name that errors call it.
    pub fn parse(files: &[(&str, &str)], orders: (&str, &str)) -> Result<Library, DocumentError> {
        let mut regimes = BTreeMap::new();
        let mut blocs = BTreeMap::new();
        for (name, text) in files {
            let jurisdiction: Jurisdiction = toml::from_str(text).map_err(|e| document(name, text, &e))?;
            for country in &jurisdiction.members {
                blocs.insert(country.clone(), jurisdiction.id.clone());
            }
            regimes.insert(jurisdiction.id.clone(), jurisdiction);
        }
        let list: Orders = toml::from_str(orders.1).map_err(|e| document(orders.0, orders.1, &e))?;
        let orders = list
            .order
            .into_iter()
            .flat_map(|o| o.regimes.into_iter().map(move |r| (r, o.id.clone())).collect::<Vec<_>>())
            .collect();
        Ok(Library { regimes, blocs, orders })
    }

    /// The regime of a jurisdiction: `IT` is in `EU`, `GB` is its own.
    pub fn regime(&self, jurisdiction: &str) -> Option<&str> {
        let bloc = self.blocs.get(jurisdiction).map(String::as_str);
        bloc.or_else(|| self.regimes.get_key_value(jurisdiction).map(|(id, _)| id.as_str()))
    }

    /// What is known of the regime of a jurisdiction.
    pub fn jurisdiction(&self, jurisdiction: &str) -> Option<&Jurisdiction> {
        self.regimes.get(self.regime(jurisdiction)?)
    }

    /// The legal order of compulsory access that reaches a jurisdiction. Two places in one order count as one
    /// for the choice of aggregators (A8).
    pub fn legal_order(&self, jurisdiction: &str) -> Option<&str> {
        let regime = self.regime(jurisdiction)?;
        Some(self.orders.get(regime).map_or(regime, String::as_str))
    }

    /// The lightest lawful mechanism from one jurisdiction to another; none if the library does not know one of
    /// the two, which a gate reads as no.
    pub fn transfer(&self, from: &str, to: &str, special_category: bool) -> Option<Transfer> {
        self.transfer_at(from, to, special_category, "")
    }

    /// As [`Library::transfer`] on a day `YYYY-MM-DD`, after which recognitions that have ended no longer count.
    pub fn transfer_at(&self, from: &str, to: &str, special_category: bool, day: &str) -> Option<Transfer> {
        let exporter = self.jurisdiction(from)?;
        let to = self.regime(to)?;
        let rules = &exporter.transfer;
        let make = |mechanism: &str, condition: &Option<String>, source: &str, verified: &str| Transfer {
            mechanism: mechanism.to_string(),
            otherwise: None,
            condition: condition.clone(),
            source: source.to_string(),
            verified: verified.to_string(),
            as_of: exporter.as_of.clone(),
            until: None,
            needs_instrument: !matches!(mechanism, "adequacy" | "free" | "accountability" | "domestic"),
        };
        if exporter.id == to {
            return Some(make("domestic", &None, "no border is crossed", "search"));
        }
        if let Some(r) = rules.restricted.iter().find(|r| r.to.iter().any(|t| t == to)) {
            return Some(make("restricted", &Some(r.cond.clone()), &r.source, &r.verified));
        }
        let recognised = rules
            .recognised
            .iter()
            .find(|r| r.to.iter().any(|t| t == to) && r.until.as_deref().is_none_or(|until| until >= day));
        let mut transfer = match recognised {
            Some(r) if r.scope == "full" => make("adequacy", &r.cond, &r.source, &r.verified),
            Some(r) => {
                let mut partial = make("adequacy_partial", &r.cond, &r.source, &r.verified);
                partial.otherwise = Some(rules.fallback.clone());
                partial
            }
            None => make(&rules.fallback, &rules.fallback_cond, &rules.source, &rules.verified),
        };
        transfer.until = recognised.and_then(|r| r.until.clone());
        if special_category
            && transfer.mechanism != "adequacy"
            && let Some(special) = &rules.sensitive_override
        {
            let source = format!("{} (special categories)", rules.source);
            transfer = make(&special.m, &Some(special.cond.clone()), &source, &rules.verified);
        }
        Some(transfer)
    }
}

/// The day `YYYY-MM-DD` in UTC of an instant in milliseconds since the epoch. Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms", civil_from_days.
pub(crate) fn date_of(ms: i64) -> String {
    let z = ms.div_euclid(86_400_000) + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

pub(crate) fn place_of(text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    Place { line, column }
}

pub(crate) fn document(name: &str, text: &str, error: &toml::de::Error) -> DocumentError {
    let place = error.span().map_or(Place::default(), |s| place_of(text, s.start));
    let message = error.message().replace('\n', ", ");
    let found = error
        .span()
        .and_then(|s| text.get(s))
        .and_then(|t| t.lines().next())
        .map_or_else(|| "something else".to_string(), quote);
    DocumentError { document: name.to_string(), place, found, expected: message }
}

/// User input in backticks, one line, shortened.
pub(crate) fn quote(text: &str) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control()).take(60).collect();
    format!("`{clean}`")
}
