//! Looks at a component file for people: what it is, and whether this host
//! would take it.

use std::path::Path;
use std::sync::Arc;

use wasmtime::component::Component;

use crate::domain::digest::Digest;
use crate::domain::outcome::{MAX_NAME, cut_to};

use super::compile::{CompileError, Compiler};
use super::engine::Engine;
use super::file::{Unreadable, read_component};
use super::generation::Plugin;

/// So many names of imports or exports are listed.
const NAMES: usize = 100;

/// What a file holds.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Inspection {
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// `component`, `core module`, `component text`, or what else it looks
    /// like.
    pub kind: String,
    /// The world it implements, where this host would take it.
    pub world: Option<&'static str>,
    /// The interfaces it imports.
    pub imports: Vec<String>,
    /// The interfaces it exports.
    pub exports: Vec<String>,
    /// Why this host would not take it; `None` where it would.
    pub refused: Option<String>,
}

/// A file could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It cannot be read, or the host would not read it.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: Unreadable,
    },
    /// It could not be compiled now, whatever it is.
    #[error("{path}: {source}")]
    Compile {
        /// The file.
        path: String,
        /// Why.
        source: CompileError,
    },
}

/// Reads, compiles and checks the file by the code that the host loads it with;
/// nothing of it is run. Dropped, it leaves at most a thread that waits for a
/// server.
pub async fn inspect(compiler: &Compiler, path: &Path) -> Result<Inspection, InspectError> {
    let shown = || path.display().to_string();
    let bytes = read_component(path).await.map_err(|source| InspectError::Read { path: shown(), source })?;
    let bytes = Arc::new(bytes);
    let mut inspection = Inspection {
        size: bytes.len() as u64,
        digest: Digest::of(&bytes),
        kind: kind_of(&bytes).to_owned(),
        world: None,
        imports: Vec::new(),
        exports: Vec::new(),
        refused: None,
    };
    match compiler.compile_any(&bytes).await {
        Err(source @ CompileError::Unavailable(_)) => return Err(InspectError::Compile { path: shown(), source }),
        Err(why) => inspection.refused = Some(why.to_string()),
        Ok((engine, component)) => {
            inspection.imports = listed(import_names(&engine, &component));
            inspection.exports = listed(export_names(&engine, &component));
            match Plugin::check(&engine, &component, inspection.digest, inspection.size) {
                Ok(plugin) => inspection.world = Some(plugin.world().name()),
                Err(why) => inspection.refused = Some(why.to_string()),
            }
        }
    }
    Ok(inspection)
}

/// The names of what a component exports.
pub(super) fn export_names(engine: &Engine, component: &Component) -> Vec<String> {
    component.component_type().exports(&engine.wasmtime).map(|(name, _)| name.to_owned()).collect()
}

/// The names for people: as many as anybody reads, each as long.
fn listed(mut names: Vec<String>) -> Vec<String> {
    let more = names.len().saturating_sub(NAMES);
    names.truncate(NAMES);
    let mut names: Vec<_> = names.into_iter().map(|name| cut_to(name, MAX_NAME)).collect();
    if more > 0 {
        names.push(format!("… and {more} more"));
    }
    names
}

fn import_names(engine: &Engine, component: &Component) -> Vec<String> {
    component.component_type().imports(&engine.wasmtime).map(|(name, _)| name.to_owned()).collect()
}

/// A guess by the first bytes, for the error message.
fn kind_of(bytes: &[u8]) -> &'static str {
    match bytes {
        [] => "empty file",
        [0, b'a', b's', b'm', 0x01, 0, 0, 0, ..] => "core module (not a component)",
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => "component",
        [0, b'a', b's', b'm', ..] => "WebAssembly of an unknown version",
        [b'(', ..] => "WebAssembly text",
        _ if std::str::from_utf8(bytes).is_ok() => "text",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_component_are_listed_as_far_as_anybody_reads() {
        let names = listed(vec!["x".repeat(20_000); 500]);
        assert_eq!(names.len(), NAMES + 1);
        assert!(names[..NAMES].iter().all(|name| name.len() <= MAX_NAME && name.ends_with('…')));
        assert_eq!(names[NAMES], "… and 400 more");
        assert_eq!(listed(vec!["a".to_owned()]), ["a"]);
    }
}
