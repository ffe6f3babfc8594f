//! Looks at a component file for people: what it is, and whether this host
//! would take it.

use std::path::Path;
use std::sync::Arc;

use wasmtime::component::Component;

use crate::domain::digest::Digest;

use super::compile::{CompileError, Compiler};
use super::engine::Engine;
use super::generation::Plugin;

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
    /// It could not be compiled now, whatever it is.
    #[error("{path}: {source}")]
    Compile {
        /// The file.
        path: String,
        /// Why.
        source: CompileError,
    },
}

/// Reads, compiles and checks the file; nothing of it is run. Dropped, it
/// leaves nothing behind.
pub async fn inspect(compiler: &Compiler, path: &Path) -> Result<Inspection, InspectError> {
    let shown = || path.display().to_string();
    let bytes = std::fs::read(path).map_err(|source| InspectError::Read { path: shown(), source })?;
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
            inspection.imports = import_names(&engine, &component);
            inspection.exports = export_names(&engine, &component);
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
