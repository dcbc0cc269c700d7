//! Splitting one table by a column, for demonstrations in which one trial plays all its sites.

use crate::EngineError;
use crate::source::malformed;
use std::collections::BTreeMap;
use std::path::Path;

/// The rows of a CSV file by their text in `column`, each part a CSV with the same first line and the rows in
/// their order.
pub fn by_column(path: &Path, column: &str) -> Result<BTreeMap<String, String>, EngineError> {
    let bytes = std::fs::read(path)
        .map_err(|error| EngineError::Unreadable { path: path.into(), kind: error.kind() })?;
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let header = reader.headers().map_err(|error| malformed(path, error))?.clone();
    let at = header.iter().position(|name| name == column).ok_or_else(|| EngineError::Header {
        path: path.into(),
        found: format!("no column {}", study::document::quoted(column)),
        expected: "the column to split by".into(),
    })?;
    let mut parts: BTreeMap<String, csv::Writer<Vec<u8>>> = BTreeMap::new();
    for row in reader.records() {
        let row = row.map_err(|error| malformed(path, error))?;
        let key = row.get(at).unwrap_or_default();
        if !parts.contains_key(key) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(&header).map_err(|error| malformed(path, error))?;
            parts.insert(key.to_string(), writer);
        }
        if let Some(writer) = parts.get_mut(key) {
            writer.write_record(&row).map_err(|error| malformed(path, error))?;
        }
    }
    parts
        .into_iter()
        .map(|(key, writer)| {
            let text = writer.into_inner().ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let text = text.ok_or_else(|| EngineError::Malformed {
                path: path.into(),
                line: 0,
                found: "a part that is not UTF-8".into(),
                expected: "a file saved as UTF-8".into(),
            })?;
            Ok((key, text))
        })
        .collect()
}
