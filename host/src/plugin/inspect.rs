//! Looks at a component file for people: what it is, and whether this host
//! would take it.

use std::path::Path;

use wasmtime::component::Component;

use crate::domain::digest::Digest;

use super::engine::{Engine, EngineOptions};
use super::generation::{LoadError, Plugin};

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
    /// It cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The engine could not be started.
    #[error(transparent)]
    Engine(#[from] super::engine::EngineError),
}

/// Reads, compiles and checks the file; nothing of it is run.
pub fn inspect(path: &Path) -> Result<Inspection, InspectError> {
    let bytes =
        std::fs::read(path).map_err(|source| InspectError::Read { path: path.display().to_string(), source })?;
    let engine = Engine::new(&EngineOptions::default())?;
    let mut inspection = Inspection {
        size: bytes.len() as u64,
        digest: Digest::of(&bytes),
        kind: kind_of(&bytes).to_owned(),
        world: None,
        imports: Vec::new(),
        exports: Vec::new(),
        refused: None,
    };
    match Component::from_binary(&engine.wasmtime, &bytes) {
        Err(error) => {
            let why = LoadError::NotAComponent(super::generation::in_one_line(&error));
            inspection.refused = Some(why.to_string());
        }
        Ok(component) => {
            inspection.imports = import_names(&engine, &component);
            inspection.exports = export_names(&engine, &component);
            match Plugin::load(&engine, &bytes) {
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
