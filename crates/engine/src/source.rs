//! A site's own table.

use crate::EngineError;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A table at a site. Its text goes no further than this room.
pub struct Source {
    path: PathBuf,
    header: Vec<String>,
    reader: csv::Reader<File>,
}

/// One row with the line on which it starts.
pub(crate) struct Row {
    pub(crate) line: u64,
    pub(crate) fields: csv::StringRecord,
}

impl Source {
    /// Opens a CSV file (RFC 4180, UTF-8, a first line that names each column once).
    pub fn csv(path: &Path) -> Result<Source, EngineError> {
        let unreadable =
            |error: std::io::Error| EngineError::Unreadable { path: path.into(), kind: error.kind() };
        let file = File::open(path).map_err(unreadable)?;
        let mut reader = csv::ReaderBuilder::new().has_headers(true).flexible(false).from_reader(file);
        let names = reader.headers().map_err(|error| malformed(path, error))?.clone();
        let mut header: Vec<String> = Vec::new();
        for name in &names {
            if header.iter().any(|earlier| earlier == name) {
                let found = format!("the column {} twice", study::document::quoted(name));
                return Err(EngineError::Header {
                    path: path.into(),
                    found,
                    expected: "each name once".into(),
                });
            }
            header.push(name.to_string());
        }
        if header.is_empty() {
            let expected = "a first line that names the columns".into();
            return Err(EngineError::Header { path: path.into(), found: "an empty file".into(), expected });
        }
        Ok(Source { path: path.into(), header, reader })
    }

    /// The names of its columns, in order.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next row.
    pub(crate) fn next_row(&mut self) -> Option<Result<Row, EngineError>> {
        let mut fields = csv::StringRecord::new();
        match self.reader.read_record(&mut fields) {
            Ok(false) => None,
            Ok(true) => Some(Ok(Row { line: fields.position().map_or(0, csv::Position::line), fields })),
            Err(error) => Some(Err(malformed(&self.path, error))),
        }
    }
}

pub(crate) fn malformed(path: &Path, error: csv::Error) -> EngineError {
    let line = error.position().map_or(0, csv::Position::line);
    let (found, expected) = match error.kind() {
        csv::ErrorKind::Io(error) => {
            return EngineError::Unreadable { path: path.into(), kind: error.kind() };
        }
        csv::ErrorKind::Utf8 { err, .. } => {
            (format!("field {} that is not UTF-8", err.field() + 1), "a file saved as UTF-8".to_string())
        }
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            (format!("{len} fields"), format!("{expected_len}, as many as the first line names"))
        }
        _ => ("something else than CSV".into(), "comma-separated values with quotes as in RFC 4180".into()),
    };
    EngineError::Malformed { path: path.into(), line, found, expected }
}
