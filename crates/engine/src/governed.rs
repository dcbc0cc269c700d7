//! A site's rows in the dictionary's terms.

use crate::apply::{Maker, Unexpected, shown, written};
use crate::{EngineError, Misfit, Source};
use analysis::{Data, Frame};
use std::collections::BTreeMap;
use std::path::Path;
use study::document::quoted;
use study::{Dictionary, Kind, Mapping};

/// A site's table, read through its registered mapping: the columns that the dictionary names, without identifiers,
/// each value within its public domain, no more rows than the dictionary allows.
#[derive(Debug)]
pub struct Governed {
    frame: Frame,
}

impl Governed {
    /// Reads a CSV file: checks the mapping against the dictionary, runs the mapping's own examples, then maps
    /// every row. The first fault stops it; there is no frame of only the rows that fitted.
    pub fn open(path: &Path, mapping: &Mapping, dictionary: &Dictionary) -> Result<Governed, EngineError> {
        mapping.check(dictionary)?;
        run_examples(mapping, dictionary)?;
        Governed::read(Source::csv(path)?, mapping, dictionary)
    }

    /// The rows.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The rows, given up.
    pub fn into_frame(self) -> Frame {
        self.frame
    }

    fn read(mut source: Source, mapping: &Mapping, dictionary: &Dictionary) -> Result<Governed, EngineError> {
        let path = source.path().to_path_buf();
        let header = source.header().to_vec();
        let makers = makers(mapping, dictionary, &header).map_err(|name| EngineError::Header {
            path: path.clone(),
            found: format!("no column {}", quoted(&name)),
            expected: "every source column that the mapping reads".into(),
        })?;
        let mut values: Vec<Vec<Option<i64>>> = makers.iter().map(|_| Vec::new()).collect();
        let mut rows = 0usize;
        while let Some(row) = source.next_row() {
            let row = row?;
            if rows >= dictionary.max_rows as usize {
                return Err(EngineError::TooManyRows { path, max_rows: dictionary.max_rows });
            }
            for (maker, values) in makers.iter().zip(&mut values) {
                let value = maker.value(|at| row.fields.get(at).unwrap_or_default());
                values.push(value.map_err(|unexpected| {
                    let Unexpected { fields, found, expected } = unexpected;
                    let names: Vec<&str> =
                        fields.iter().filter_map(|at| header.get(*at)).map(String::as_str).collect();
                    EngineError::Value(Box::new(Misfit {
                        path: path.clone(),
                        line: row.line,
                        field: fields.first().map_or(0, |at| at + 1),
                        source: names.join(", "),
                        target: maker.column().name.clone(),
                        found,
                        expected,
                    }))
                })?);
            }
            rows += 1;
        }
        let columns = makers.iter().zip(values).map(|(maker, values)| {
            let data = match maker.column().kind {
                Kind::Integer { .. } => Data::Integer(values),
                Kind::Factor { .. } => Data::Factor(
                    values.into_iter().map(|v| v.and_then(|index| u16::try_from(index).ok())).collect(),
                ),
            };
            (maker.column().name.clone(), data)
        });
        Ok(Governed { frame: Frame { rows, columns: columns.collect() } })
    }
}

/// One maker per rule, in the dictionary's order; `Err` is a source column that the header lacks.
fn makers<'m>(
    mapping: &'m Mapping,
    dictionary: &'m Dictionary,
    header: &[String],
) -> Result<Vec<Maker<'m>>, String> {
    let rules =
        dictionary.columns.iter().filter_map(|column| Some((column, mapping.column.get(&column.name)?)));
    rules.map(|(column, rule)| Maker::new(column, rule, header)).collect()
}

/// Runs a mapping's own examples without any row; the first that does not hold is the error.
pub fn run_examples(mapping: &Mapping, dictionary: &Dictionary) -> Result<(), EngineError> {
    let header: Vec<String> = mapping.sources().into_iter().map(String::from).collect();
    // The header is made of what the rules read, so no maker lacks a column.
    let makers = makers(mapping, dictionary, &header).unwrap_or_default();
    let makers: BTreeMap<&str, Maker<'_>> =
        makers.into_iter().map(|m| (m.column().name.as_str(), m)).collect();
    for (at, example) in mapping.tests.iter().enumerate() {
        let row: Vec<&str> =
            header.iter().map(|name| example.row.get(name).map_or("", String::as_str)).collect();
        for (name, expected) in &example.expect {
            let fault = |found: String, expected: String| {
                Err(EngineError::Example { number: at + 1, column: name.clone(), found, expected })
            };
            let Some(maker) = makers.get(name.as_str()) else {
                return fault("no rule".into(), quoted(expected));
            };
            match maker.value(|at| row.get(at).copied().unwrap_or_default()) {
                Ok(value) if written(maker.column(), expected) == Some(value) => {}
                Ok(value) => return fault(quoted(&shown(maker.column(), value)), quoted(expected)),
                Err(misfit) => {
                    return fault(misfit.found, format!("{} from {}", quoted(expected), misfit.expected));
                }
            }
        }
    }
    Ok(())
}
