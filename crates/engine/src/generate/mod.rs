//! A table that looks like the International Stroke Trial and is not: for machines without the data.
//!
//! Same 57 columns, the trial's rows per country, its margins (ages, pressures, delays, consciousness, stroke types,
//! deaths, outcomes) and its quirks (October's broken label, stray lower-case codes, the pilot's `H` for `M` and
//! its unasked questions, outcomes coded 0 and 9). No row is a patient's: each is drawn from published figures,
//! and the outcome depends on age, sex, pressure, delay, consciousness and aspirin with about the coefficients that
//! a regression on the trial gives. Whatever is computed from it must be labelled *generated*.
//!
//! Figures: International Stroke Trial Collaborative Group 1997, Lancet 349:1569-1581; Sandercock, Niewada,
//! Czlonkowska 2011, Trials 12:101, and tables made from its data set (doi 10.7488/ds/104, ODC-By 1.0).

mod patient;
mod random;

use random::Draws;

/// A country of the trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Country {
    /// Its abbreviation in the column COUNTRY.
    pub code: &'static str,
    /// Its number in the column CNTRYNUM.
    pub number: u32,
    /// Its patients in the trial.
    pub rows: u32,
    /// Patients of the pilot phase, per thousand.
    pilot: u32,
    /// Log odds of death or dependency at six months against the trial's, in hundredths, where there are enough
    /// patients to say.
    tilt: i32,
}

const fn country(code: &'static str, number: u32, rows: u32, pilot: u32, tilt: i32) -> Country {
    Country { code, number, rows, pilot, tilt }
}

/// The 36 countries of the trial.
pub const COUNTRIES: [Country; 36] = [
    country("ARGE", 29, 545, 0, -58),
    country("AUSL", 1, 597, 49, -25),
    country("AUST", 2, 230, 0, 20),
    country("BELG", 3, 305, 138, -25),
    country("BRAS", 4, 83, 0, -20),
    country("CANA", 5, 117, 0, -20),
    country("CHIL", 6, 65, 0, -20),
    country("CZEC", 7, 466, 75, -28),
    country("DENM", 8, 35, 0, -20),
    country("EIRE", 9, 58, 86, -20),
    country("FINL", 10, 85, 376, -20),
    country("FRAN", 11, 2, 0, -20),
    country("GREE", 31, 152, 0, -20),
    country("HONG", 30, 115, 0, -20),
    country("HUNG", 36, 105, 0, -20),
    country("INDI", 37, 229, 0, -20),
    country("ISRA", 13, 114, 0, -20),
    country("ITAL", 14, 3437, 95, -25),
    country("JAPA", 38, 9, 0, -20),
    country("NETH", 15, 728, 0, -35),
    country("NEW", 16, 453, 0, -45),
    country("NORW", 17, 526, 0, -15),
    country("POLA", 18, 759, 0, -30),
    country("PORT", 19, 415, 84, -25),
    country("ROMA", 33, 18, 0, -20),
    country("SING", 34, 140, 0, -20),
    country("SLOK", 44, 86, 0, -20),
    country("SLOV", 42, 53, 0, -20),
    country("SOUT", 21, 69, 0, -20),
    country("SPAI", 22, 478, 0, -60),
    country("SRI", 23, 20, 0, -20),
    country("SWED", 24, 636, 0, -95),
    country("SWIT", 25, 1631, 0, 10),
    country("TURK", 35, 286, 0, -20),
    country("UK", 27, 6257, 75, 75),
    country("USA", 28, 131, 84, -20),
];

/// The columns of the trial's core table.
pub const HEADER: &str = "HOSPNUM,COUNTRY,CNTRYNUM,RDELAY,RCONSC,SEX,AGE,RSLEEP,RATRIAL,RCT,RVISINF,RHEP24,RASP3,\
RSBP,RDEF1,RDEF2,RDEF3,RDEF4,RDEF5,RDEF6,RDEF7,RDEF8,STYPE,RDATE,RXASP,RXHEP,DASP14,DLH14,DMH14,ONDRUG,DDIAGISC,\
DDIAGHA,DRSISC,DRSH,DALIVE,DPLACE,FDEAD,FDEADC,FRECOVER,FDENNIS,FPLACE,EXPDD,EXPD6,EXPD14,SET14D,ID14,OCCODE,\
STRK14,ISC14,H14,HTI14,PE14,DVT14,TRAN14,NCB14,DIED,TD";

/// A table of generated patients of these countries, as CSV with the trial's columns. The rows of a country depend
/// on its code and the seed alone, not on which other countries are asked for. A code that the trial does not
/// have yields no row.
pub fn ist(country_codes: &[&str], seed: u64) -> String {
    let mut table = String::from(HEADER);
    table.push('\n');
    let wanted =
        country_codes.iter().filter_map(|code| COUNTRIES.iter().find(|country| country.code == *code));
    for country in wanted {
        let mut draws = Draws::new(seed, country.code);
        for _ in 0..country.rows {
            patient::write_row(&mut table, country, &mut draws);
        }
    }
    table
}
