//! What can go wrong: before rows are read, at the site, and after opening.

use std::fmt;

/// A study for which no plan can be made. Read from the study and the dictionary alone, never from rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A column that the dictionary lacks.
    #[error("{place}: the data dictionary has no column `{column}`; use one that it has")]
    UnknownColumn {
        /// Which part of the study.
        place: String,
        /// The column.
        column: String,
    },
    /// A column of the wrong type.
    #[error("{place}: column `{column}` is not {expected}; name one that is")]
    WrongKind {
        /// Which part of the study.
        place: String,
        /// The column.
        column: String,
        /// `a factor` or `a whole number`.
        expected: &'static str,
    },
    /// A level that the column lacks.
    #[error("{place}: column `{column}` has no level `{level}`; use one of the data dictionary's levels")]
    UnknownLevel {
        /// Which part of the study.
        place: String,
        /// The column.
        column: String,
        /// The level.
        level: String,
    },
    /// A column of an analysis that the population does not require to be known (A6).
    #[error(
        "{place}: column `{column}` may be missing; add it to `complete` of the population, which all analyses share"
    )]
    NotComplete {
        /// Which part of the study.
        place: String,
        /// The column.
        column: String,
    },
    /// A column that names persons.
    #[error("{place}: column `{column}` is an identifier; leave it out")]
    Identifier {
        /// Which part of the study.
        place: String,
        /// The column.
        column: String,
    },
    /// Text that is not `column=level`.
    #[error("{place}: found `{found}`, expected `column=level`")]
    NotColumnLevel {
        /// Which part of the study.
        place: String,
        /// What stood there.
        found: String,
    },
    /// A formula that does not parse.
    #[error("{place}: {why}")]
    Formula {
        /// Which part of the study.
        place: String,
        /// What the parser says.
        why: String,
    },
    /// A name that stands twice.
    #[error("{place}: `{name}` stands twice; name it once")]
    Twice {
        /// Which part of the study.
        place: String,
        /// The name.
        name: String,
    },
    /// A setting out of its range.
    #[error("{place}: found {setting} = {found}, expected {expected}")]
    Setting {
        /// Which part of the study.
        place: String,
        /// The setting.
        setting: &'static str,
        /// What stood there.
        found: u64,
        /// What may.
        expected: &'static str,
    },
    /// A list that must not be empty.
    #[error("{place}: nothing is named; name at least one")]
    Empty {
        /// Which part of the study.
        place: String,
    },
    /// A sum that would not fit, or not exactly.
    #[error("{place}: the bounds of `{column}` in the data dictionary are too wide to sum; narrow them")]
    TooWide {
        /// Which part of the study.
        place: String,
        /// The column.
        column: String,
    },
    /// More numbers than a round may hold.
    #[error("{place}: {cells} numbers would leave each site, at most {most} may; ask for less detail")]
    TooManyCells {
        /// Which part of the study.
        place: String,
        /// How many it would be.
        cells: u64,
        /// How many may be.
        most: u64,
    },
    /// A study or dictionary that cannot be put into canonical form.
    #[error("cannot take the digest of the {what}: {why}")]
    Digest {
        /// `study` or `data dictionary`.
        what: &'static str,
        /// What the encoder says.
        why: String,
    },
}

/// A site half that could not be computed. Stays at the site; names columns, never values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnalysisError {
    /// The study does not plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The plan is not the one that study and dictionary give.
    #[error("stage {stage} of the plan is not what this study and data dictionary give; make the plan anew")]
    NotThePlan {
        /// The stage.
        stage: usize,
    },
    /// The question is not one that this stage can be asked.
    #[error("the question does not belong to stage {stage} of this plan: {why}")]
    Question {
        /// The stage.
        stage: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The rows lack a column.
    #[error("the rows have no column `{column}`; add it to the mapping")]
    NoColumn {
        /// The column.
        column: String,
    },
    /// A column that is not as the dictionary says.
    #[error("column `{column}` is not as the data dictionary says: {why}; correct the mapping")]
    BadColumn {
        /// The column.
        column: String,
        /// In which way.
        why: &'static str,
    },
    /// More rows than the dictionary allows.
    #[error("the dataset has more rows than the data dictionary's `max_rows`")]
    TooManyRows,
    /// An output by site, asked of somebody whose site is not in it.
    #[error("`{party}` is not among the study's contributors")]
    NotContributor {
        /// The party.
        party: String,
    },
}

/// No result. All variants say the same words, in `Debug` too, because the reason is an answer about rows (A3);
/// the reason itself is for tests.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The sums do not have the shape or the values that honest sites give.
    #[error("withheld by disclosure control")]
    Malformed,
    /// Study, plan, question and stage do not belong together.
    #[error("withheld by disclosure control")]
    NotThePlan,
    /// Nothing to compute from: no row, no event, no discordant stratum.
    #[error("withheld by disclosure control")]
    Empty,
    /// The information matrix cannot be inverted.
    #[error("withheld by disclosure control")]
    Singular,
    /// Coefficients run away: a term separates events from non-events.
    #[error("withheld by disclosure control")]
    Separation,
    /// The cap of rounds was reached.
    #[error("withheld by disclosure control")]
    NotConverged,
    /// A number is not finite.
    #[error("withheld by disclosure control")]
    NotFinite,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
