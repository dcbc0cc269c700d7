//! Results as tables for people.

use crate::result::{AnalysisResult, Coefficient, Interval, Table};
use crate::{Failure, Number};
use privacy::release::Population;
use std::fmt::Write;

/// The result as a text table: estimate, standard error, 95 % interval, z, p, rows, events, references, units.
pub fn render(result: &AnalysisResult) -> String {
    let mut out = String::new();
    let title = result.title.as_deref().unwrap_or(&result.analysis);
    line(&mut out, title);
    match &result.table {
        Table::MantelHaenszel { .. } => mantel_haenszel(&mut out, result),
        Table::Logistic { .. } => logistic(&mut out, result),
        Table::Describe { columns } => {
            let mut rows = vec![["", "n", "mean", "SD", "unit"].map(str::to_owned).to_vec()];
            for c in columns {
                let unit = c.unit.clone().unwrap_or_default();
                rows.push(vec![c.label.clone(), c.n.to_string(), fixed(&c.mean, 4), fixed(&c.sd, 4), unit]);
            }
            grid(&mut out, &rows);
        }
        Table::Crosstab { by, levels, counts, .. } => crosstab(&mut out, by, levels, counts),
    }
    line(&mut out, &format!("  {} sites; rows are {}s", result.contributors, result.unit));
    out
}

/// The rows read, excluded with reasons, and analysed, as text.
pub fn render_population(population: &Population) -> String {
    let show = |n: Option<u64>| n.map_or("withheld".to_owned(), |n| n.to_string());
    let mut rows = vec![vec!["rows read".to_owned(), show(population.rows_read)]];
    for reason in &population.excluded {
        rows.push(vec![reason.reason.clone(), show(reason.rows)]);
    }
    rows.push(vec!["rows analysed".to_owned(), population.analysed.to_string()]);
    let mut out = String::new();
    grid(&mut out, &rows);
    out
}

/// A failed analysis in words: always the same ones.
pub fn render_failure(failure: &Failure) -> String {
    format!("{failure}\n")
}

fn mantel_haenszel(out: &mut String, result: &AnalysisResult) {
    let Table::MantelHaenszel {
        exposure,
        outcome,
        counts,
        n,
        events,
        odds_ratio,
        odds_ratio_ci95,
        log_odds_ratio,
        se,
        z,
        p,
        cmh,
        cmh_corrected,
    } = &result.table
    else {
        return;
    };
    let mut rows = vec![vec![String::new(), outcome[0].clone(), outcome[1].clone(), "risk".to_owned()]];
    for (name, [yes, no]) in exposure.iter().zip(counts) {
        let total = yes + no;
        let risk =
            if total == 0 { "-".to_owned() } else { format!("{:.2} %", 100.0 * *yes as f64 / total as f64) };
        rows.push(vec![name.clone(), yes.to_string(), no.to_string(), risk]);
    }
    grid(out, &rows);
    line(out, "");
    let mut rows = vec![["", "estimate", "SE", "95 % CI", "z", "p"].map(str::to_owned).to_vec()];
    rows.push(vec![
        "odds ratio (Mantel-Haenszel)".into(),
        fixed(odds_ratio, 4),
        String::new(),
        interval(odds_ratio_ci95, 4),
        String::new(),
        String::new(),
    ]);
    rows.push(vec![
        "log odds ratio".into(),
        fixed(log_odds_ratio, 5),
        fixed(se, 5),
        String::new(),
        fixed(z, 3),
        p_value(p),
    ]);
    grid(out, &rows);
    let test = |what: &str, t: &crate::Test| {
        format!(
            "  Cochran-Mantel-Haenszel{what}: chi-squared {}, {} df, p {}",
            fixed(&t.chi2, 4),
            t.df,
            p_value(&t.p)
        )
    };
    line(out, &test("", cmh));
    line(out, &test(" with continuity correction", cmh_corrected));
    line(out, &format!("  n {n}, events {events}; one stratum a site; SE by Robins, Breslow and Greenland"));
}

fn logistic(out: &mut String, result: &AnalysisResult) {
    let Table::Logistic {
        outcome,
        event,
        n,
        events,
        rounds,
        coefficients,
        references,
        deviance,
        null_deviance,
        df_residual,
        aic,
    } = &result.table
    else {
        return;
    };
    let head = ["", "estimate", "SE", "95 % CI", "z", "p", "odds ratio", "per"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for c in coefficients {
        let Coefficient { term, per, estimate, se, ci95, z, p, odds_ratio } = c;
        let intercept = term == "(intercept)";
        rows.push(vec![
            term.clone(),
            fixed(estimate, 5),
            fixed(se, 5),
            interval(ci95, 5),
            fixed(z, 3),
            p_value(p),
            if intercept { String::new() } else { fixed(odds_ratio, 4) },
            per.clone().unwrap_or_default(),
        ]);
    }
    grid(out, &rows);
    line(
        out,
        &format!(
            "  outcome {outcome}, event {event}: n {n}, events {events}, non-events {}",
            n.saturating_sub(*events)
        ),
    );
    if !references.is_empty() {
        let words: Vec<String> = references.iter().map(|r| format!("{} {}", r.column, r.level)).collect();
        line(out, &format!("  reference levels: {}", words.join(", ")));
    }
    let df_null = n.saturating_sub(1);
    line(
        out,
        &format!(
            "  null deviance {} on {df_null} df, residual deviance {} on {df_residual} df, AIC {}; {rounds} rounds",
            fixed(null_deviance, 3),
            fixed(deviance, 3),
            fixed(aic, 3)
        ),
    );
}

fn crosstab(out: &mut String, by: &[String], levels: &[Vec<String>], counts: &[Option<u64>]) {
    let mut rows = vec![by.iter().cloned().chain(["rows".to_owned()]).collect::<Vec<String>>()];
    for (cell, count) in counts.iter().enumerate() {
        let mut rest = cell;
        let mut names: Vec<String> = Vec::with_capacity(levels.len() + 1);
        for axis in levels.iter().rev() {
            let size = axis.len().max(1);
            names.push(axis.get(rest % size).cloned().unwrap_or_default());
            rest /= size;
        }
        names.reverse();
        names.push(count.map_or("withheld".to_owned(), |n| n.to_string()));
        rows.push(names);
    }
    grid(out, &rows);
}

fn line(out: &mut String, text: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{}", text.trim_end());
}

/// Rows of columns: the first to the left, the others to the right.
fn grid(out: &mut String, rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let mut text = String::new();
        for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            text.push_str("  ");
            text.push_str(&if i == 0 { format!("{cell}{pad}") } else { format!("{pad}{cell}") });
        }
        line(out, &text);
    }
}

fn fixed(x: &Number, places: usize) -> String {
    let x = x.to_f64();
    if x != 0.0 && (x.abs() >= 1e9 || x.abs() < 0.5 * 10f64.powi(-(places as i32))) {
        format!("{x:.3e}")
    } else {
        format!("{x:.places$}")
    }
}

fn interval(ci: &Interval, places: usize) -> String {
    format!("{} to {}", fixed(&ci.low, places), fixed(&ci.high, places))
}

fn p_value(p: &Number) -> String {
    let p = p.to_f64();
    if p < 1e-4 { "< 0.0001".to_owned() } else { format!("{p:.4}") }
}
