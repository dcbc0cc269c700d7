//! The study: purpose, who asks, who receives, which analyses, which protection, until when.

use crate::document::{Document, Fault, Item, Table, quoted};
use crate::formula::Formula;
use crate::guard::column_level;
use crate::{Dictionary, DocumentError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most rounds of an iteration.
pub const MAX_ITERATIONS: u32 = 50;
/// Fewest rounds of an iteration: one to start, one to see that it has converged.
pub const MIN_ITERATIONS: u32 = 2;

/// Fewest binary places of the grid of coefficients: coarser ones stop above the error that methods promise.
pub const MIN_GRID: u8 = 38;

/// Most binary places of the grid of coefficients: finer ones are below the precision of the arithmetic.
pub const MAX_GRID: u8 = 46;

/// A study as people write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// Short name, unique in the federation: lower-case letters, digits, `-`.
    pub id: String,
    /// What is asked, for people.
    pub title: String,
    /// The purpose, one of the charter's purposes, for example `stroke-research`.
    pub purpose: String,
    /// The domain, for example `health`.
    pub domain: String,
    /// The member that asks.
    pub requester: String,
    /// The member that collects: neither asks nor receives.
    pub collector: String,
    /// Members that aggregate, from the charter's pool, in order.
    pub aggregators: Vec<String>,
    /// Who reads the output.
    pub recipients: Vec<Recipient>,
    /// The dataset's name at every member, for example `ist`.
    pub dataset: String,
    /// Members whose rows are asked for.
    pub contributors: Vec<String>,
    /// Fewest contributors with which the study may run.
    pub minimum_contributors: u32,
    /// The data dictionary, for example `ist-core/1`.
    pub dictionary: String,
    /// Last day on which it may run, `YYYY-MM-DD`.
    pub until: String,
    /// Protection of the output.
    pub protection: Protection,
    /// The one analysis population.
    pub population: Population,
    /// The analyses, in order.
    #[serde(rename = "analysis")]
    pub analyses: Vec<Analysis>,
}

/// Who reads the output: a member by id, or somebody outside with a name and a jurisdiction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Recipient {
    /// A member.
    Member(String),
    /// Somebody outside the federation.
    Outside(Outsider),
}

/// Somebody outside the federation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outsider {
    /// The name of the organisation.
    pub name: String,
    /// Its jurisdiction in the library, for example `US`.
    pub jurisdiction: String,
}

/// Protection of the output by disclosure control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protection {
    /// Least count of persons in any released cell; smaller ones are withheld.
    pub min_cell: u32,
    /// Fewest contributing sites that stay hidden from each viewer.
    pub min_hidden_sites: u32,
}

/// The rows that the study is about. All analyses share it (A6).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Population {
    /// Columns that must be known; a row with one missing is excluded and counted by the first such column.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub complete: Vec<String>,
    /// Conditions that must all hold; checked before `complete`.
    #[serde(default, rename = "where", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A condition on one column. A row whose value is missing does not meet it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The column.
    pub column: String,
    /// For factors: the levels allowed.
    #[serde(default, rename = "in", skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<String>,
    /// For numbers: least value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    /// For numbers: greatest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
}

/// One analysis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "FlatAnalysis")]
pub struct Analysis {
    /// Short name, unique in the study.
    pub id: String,
    /// What it is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The method with its settings.
    #[serde(flatten)]
    pub method: Method,
}

/// The methods. Formulas live in the analysis room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case")]
pub enum Method {
    /// Common odds ratio of two factors, each a level against the rest, stratified by site.
    MantelHaenszel {
        /// Exposure as `column=level`.
        exposure: String,
        /// Outcome as `column=level`.
        outcome: String,
    },
    /// Logistic regression by iteratively reweighted least squares.
    Logistic {
        /// For example `dead_dep_6m ~ age + sex + sbp`.
        formula: String,
        /// Which level of the outcome is the event.
        event: String,
        /// Most rounds; the plan's cap.
        max_rounds: u32,
        /// Binary places of the grid on which coefficients are asked, so that all sites ask the same.
        grid: u8,
    },
    /// n, mean and standard deviation of numbers.
    Describe {
        /// The columns.
        columns: Vec<String>,
    },
    /// Counts by the levels of factors; whole numbers count by single value.
    Crosstab {
        /// The columns.
        by: Vec<String>,
        /// Whether the table is also split by site, which needs each site's own yes.
        #[serde(default)]
        by_site: bool,
    },
}

/// An analysis as it stands in a document. Serde can either flatten or refuse unknown keys, so this lists all keys
/// and [`Analysis`] is made from it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlatAnalysis {
    id: String,
    title: Option<String>,
    method: String,
    exposure: Option<String>,
    outcome: Option<String>,
    formula: Option<String>,
    event: Option<String>,
    max_rounds: Option<u32>,
    grid: Option<u8>,
    columns: Option<Vec<String>>,
    by: Option<Vec<String>>,
    by_site: Option<bool>,
}

impl TryFrom<FlatAnalysis> for Analysis {
    type Error = String;

    fn try_from(flat: FlatAnalysis) -> Result<Analysis, String> {
        let FlatAnalysis { id, title, method, .. } = flat;
        let of_table = flat.exposure.is_some() || flat.outcome.is_some();
        let of_model = flat.formula.is_some()
            || flat.event.is_some()
            || flat.max_rounds.is_some()
            || flat.grid.is_some();
        let of_describe = flat.columns.is_some();
        let of_crosstab = flat.by.is_some() || flat.by_site.is_some();
        let foreign = match method.as_str() {
            "mantel-haenszel" => of_model || of_describe || of_crosstab,
            "logistic" => of_table || of_describe || of_crosstab,
            "describe" => of_table || of_model || of_crosstab,
            "crosstab" => of_table || of_model || of_describe,
            _ => return Err(format!("analysis `{id}` has the unknown method `{method}`")),
        };
        let made = match (method.as_str(), foreign) {
            ("mantel-haenszel", false) => flat
                .exposure
                .zip(flat.outcome)
                .map(|(exposure, outcome)| Method::MantelHaenszel { exposure, outcome }),
            ("logistic", false) => flat.formula.zip(flat.event).zip(flat.max_rounds.zip(flat.grid)).map(
                |((formula, event), (max_rounds, grid))| Method::Logistic {
                    formula,
                    event,
                    max_rounds,
                    grid,
                },
            ),
            ("describe", false) => flat.columns.map(|columns| Method::Describe { columns }),
            ("crosstab", false) => {
                flat.by.map(|by| Method::Crosstab { by, by_site: flat.by_site.unwrap_or_default() })
            }
            _ => None,
        };
        let method =
            made.ok_or_else(|| format!("analysis `{id}` lacks a key of `{method}` or has one of another"))?;
        Ok(Analysis { id, title, method })
    }
}

impl Study {
    /// Reads a study and checks all that can be said without its dictionary; `name` is what errors call it.
    pub fn parse(name: &str, text: &str) -> Result<Study, DocumentError> {
        let (document, study) = Study::read(name, text)?;
        first(study.faults(), |fault| document.place_fault(fault))?;
        Ok(study)
    }

    /// Reads a study and checks it against its dictionary too, so that every fault has its place.
    pub fn parse_with(name: &str, text: &str, dictionary: &Dictionary) -> Result<Study, DocumentError> {
        let (document, study) = Study::read(name, text)?;
        first(study.faults(), |fault| document.place_fault(fault))?;
        first(study.faults_against(dictionary), |fault| document.place_fault(fault))?;
        Ok(study)
    }

    /// The checks of [`Study::parse_with`] for a study that came in canonical form; first fault, without a place.
    pub fn check(&self, dictionary: &Dictionary) -> Result<(), DocumentError> {
        let document = format!("study {}", quoted(&self.id));
        first(self.faults(), |fault| fault.unplaced(&document))?;
        first(self.faults_against(dictionary), |fault| fault.unplaced(&document))
    }

    /// All columns that the study reads: those of its population and of its analyses.
    pub fn columns(&self) -> BTreeSet<String> {
        let mut columns: BTreeSet<String> = self.population.columns().into_iter().map(String::from).collect();
        columns.extend(self.analyses.iter().flat_map(|analysis| analysis.method.columns()));
        columns
    }

    fn read<'t>(name: &'t str, text: &'t str) -> Result<(Document<'t>, Study), DocumentError> {
        let document = Document::parse(name, text)?;
        let root = document.root();
        let recipients = root.need("recipients")?.items()?;
        let study = Study {
            id: root.text("id")?,
            title: root.text("title")?,
            purpose: root.text("purpose")?,
            domain: root.text("domain")?,
            requester: root.text("requester")?,
            collector: root.text("collector")?,
            aggregators: root.texts("aggregators")?,
            recipients: recipients.into_iter().map(Recipient::read).collect::<Result<_, _>>()?,
            dataset: root.text("dataset")?,
            contributors: root.texts("contributors")?,
            minimum_contributors: root.number("minimum_contributors", 1, 10_000)?,
            dictionary: root.text("dictionary")?,
            until: root.text("until")?,
            protection: Protection::read(root.need("protection")?.table()?)?,
            population: root
                .get("population")
                .map_or(Ok(Population::default()), |p| Population::read(p.table()?))?,
            analyses: root.tables("analysis")?.into_iter().map(Analysis::read).collect::<Result<_, _>>()?,
        };
        root.finish()?;
        Ok((document, study))
    }
}

fn first(faults: Vec<Fault>, place: impl FnOnce(Fault) -> DocumentError) -> Result<(), DocumentError> {
    faults.into_iter().next().map_or(Ok(()), |fault| Err(place(fault)))
}

impl Recipient {
    fn read(item: Item<'_, '_>) -> Result<Recipient, DocumentError> {
        if item.is_text() {
            return Ok(Recipient::Member(item.text()?));
        }
        let table = item.table()?;
        let outsider = Outsider { name: table.text("name")?, jurisdiction: table.text("jurisdiction")? };
        table.finish()?;
        Ok(Recipient::Outside(outsider))
    }
}

impl Protection {
    fn read(table: Table<'_, '_>) -> Result<Protection, DocumentError> {
        let protection = Protection {
            min_cell: table.number("min_cell", 1, 1_000_000)?,
            min_hidden_sites: table.number("min_hidden_sites", 1, 10_000)?,
        };
        table.finish()?;
        Ok(protection)
    }
}

impl Population {
    /// The columns that decide who belongs to it.
    pub fn columns(&self) -> BTreeSet<&str> {
        let conditions = self.conditions.iter().map(|condition| condition.column.as_str());
        self.complete.iter().map(String::as_str).chain(conditions).collect()
    }

    fn read(table: Table<'_, '_>) -> Result<Population, DocumentError> {
        let conditions = table.tables("where")?.into_iter().map(Condition::read).collect::<Result<_, _>>()?;
        let population = Population { complete: table.texts("complete")?, conditions };
        table.finish()?;
        Ok(population)
    }
}

impl Condition {
    fn read(table: Table<'_, '_>) -> Result<Condition, DocumentError> {
        let condition = Condition {
            column: table.text("column")?,
            levels: table.texts("in")?,
            min: table.optional_integer("min")?,
            max: table.optional_integer("max")?,
        };
        table.finish()?;
        Ok(condition)
    }
}

impl Analysis {
    fn read(table: Table<'_, '_>) -> Result<Analysis, DocumentError> {
        let (id, title, method) = (table.text("id")?, table.optional_text("title")?, table.need("method")?);
        let method = match method.text()?.as_str() {
            "mantel-haenszel" => {
                Method::MantelHaenszel { exposure: table.text("exposure")?, outcome: table.text("outcome")? }
            }
            "logistic" => Method::Logistic {
                formula: table.text("formula")?,
                event: table.text("event")?,
                max_rounds: table.number("max_rounds", MIN_ITERATIONS, MAX_ITERATIONS)?,
                grid: table.number("grid", u32::from(MIN_GRID), u32::from(MAX_GRID))? as u8,
            },
            "describe" => Method::Describe { columns: table.texts("columns")? },
            "crosstab" => Method::Crosstab { by: table.texts("by")?, by_site: table.flag("by_site")? },
            other => {
                let expected = "`mantel-haenszel`, `logistic`, `describe` or `crosstab`";
                return Err(method.fault(quoted(other), expected));
            }
        };
        table.finish()?;
        Ok(Analysis { id, title, method })
    }
}

impl Method {
    /// The method's name in documents.
    pub fn name(&self) -> &'static str {
        match self {
            Method::MantelHaenszel { .. } => "mantel-haenszel",
            Method::Logistic { .. } => "logistic",
            Method::Describe { .. } => "describe",
            Method::Crosstab { .. } => "crosstab",
        }
    }

    /// The columns that it reads, as far as they can be read from what is written.
    pub fn columns(&self) -> Vec<String> {
        match self {
            Method::MantelHaenszel { exposure, outcome } => [exposure, outcome]
                .into_iter()
                .filter_map(|text| Some(column_level(text)?.0.to_string()))
                .collect(),
            Method::Logistic { formula, .. } => Formula::parse(formula)
                .map_or(Vec::new(), |formula| formula.columns().map(String::from).collect()),
            Method::Describe { columns } => columns.clone(),
            Method::Crosstab { by, .. } => by.clone(),
        }
    }
}
