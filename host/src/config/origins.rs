//! Where each value was written: lines of the file, or environment variables.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use toml::Table;
use toml::de::{DeTable, DeValue};

use super::error::{Place, Problem};

/// Where each value was written, by its path (`job[0].limits.memory`).
#[derive(Debug)]
pub(super) struct Origins {
    file: PathBuf,
    places: HashMap<String, Place>,
}

impl Origins {
    /// The place of `path`, or of the innermost table around it.
    pub(super) fn place(&self, path: &str) -> Place {
        let mut inner = path;
        loop {
            if let Some(place) = self.places.get(inner) {
                return place.clone();
            }
            match inner.rfind(['.', '[']) {
                Some(end) => inner = &inner[..end],
                None => return Place::File { path: self.file.clone(), line: None, column: None },
            }
        }
    }

    /// `path` was set by this environment variable.
    pub(super) fn overridden(&mut self, path: String, variable: &str) {
        self.places.insert(path, Place::Env(variable.to_owned()));
    }
}

/// Reads the text of a file; errors of syntax come back all together.
pub(super) fn parse(file: &Path, text: &str) -> Result<(Table, Origins), Vec<Problem>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let lines = Lines::of(text);
    if !errors.is_empty() {
        return Err(errors.iter().map(|error| syntax(file, &lines, error)).collect());
    }
    let mut origins = Origins { file: file.to_owned(), places: HashMap::new() };
    note_places(document.get_ref(), "", &lines, &mut origins);
    let table = toml::from_str(text).map_err(|error| vec![syntax(file, &lines, &error)])?;
    Ok((table, origins))
}

fn syntax(file: &Path, lines: &Lines, error: &toml::de::Error) -> Problem {
    let at = error.span().map(|span| lines.find(span.start));
    Problem {
        place: Place::File { path: file.to_owned(), line: at.map(|at| at.0), column: at.map(|at| at.1) },
        key: String::new(),
        message: error.message().trim().replace('\n', ", "),
        help: None,
    }
}

/// Where each line of a text begins.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        Self { text, starts: std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect() }
    }

    /// Line and column of a byte, both from 1.
    fn find(&self, byte: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= byte);
        let start = self.starts[line - 1];
        (line, self.text.get(start..byte).map_or(1, |before| before.chars().count() + 1))
    }
}

fn note_places(table: &DeTable<'_>, prefix: &str, lines: &Lines, origins: &mut Origins) {
    for (key, value) in table {
        let path = format!("{prefix}{}", key.get_ref());
        let line = Some(lines.find(key.span().start).0);
        origins.places.insert(path.clone(), Place::File { path: origins.file.clone(), line, column: None });
        match value.get_ref() {
            DeValue::Table(inner) => note_places(inner, &format!("{path}."), lines, origins),
            DeValue::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    let place = format!("{path}[{index}]");
                    let line = Some(lines.find(element.span().start).0);
                    origins
                        .places
                        .insert(place.clone(), Place::File { path: origins.file.clone(), line, column: None });
                    if let DeValue::Table(inner) = element.get_ref() {
                        note_places(inner, &format!("{place}."), lines, origins);
                    }
                }
            }
            _ => {}
        }
    }
}
