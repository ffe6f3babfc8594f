//! The direction of imports in the host: the arrows of ARCHITECTURE.md.
//!
//! [`MODULES`] is the rule, and the only place to edit it. A module that is not
//! in it is refused, so that a new one gets its place among the others.

use std::path::{Component, Path};

use anyhow::Result;

use super::Finding;
use super::source::{self, Import};
use crate::{files, repo};

/// One module of `host/src`.
struct Module {
    name: &'static str,
    /// The others that it may use.
    uses: &'static [&'static str],
    /// Crates that it must not use.
    without: &'static [&'static str],
}

const SQL: [&str; 2] = ["sqlx", "rusqlite"];
const WASM: [&str; 3] = ["wasmtime", "wasmtime_wasi", "wasmtime_wasi_io"];

const MODULES: &[Module] = &[
    Module { name: "domain", uses: &[], without: &["tokio", SQL[0], SQL[1], "axum", WASM[0], WASM[1], WASM[2]] },
    Module { name: "disk", uses: &[], without: &["tokio", "axum", SQL[0], SQL[1], WASM[0], WASM[1], WASM[2]] },
    Module { name: "limits", uses: &[], without: &["tokio", "axum", SQL[0], SQL[1], WASM[0], WASM[1], WASM[2]] },
    Module { name: "stop", uses: &[], without: &["axum", SQL[0], SQL[1], WASM[0], WASM[1], WASM[2]] },
    Module {
        name: "faults",
        uses: &["domain"],
        without: &["tokio", "axum", SQL[0], SQL[1], WASM[0], WASM[1], WASM[2]],
    },
    Module {
        name: "supervise",
        uses: &["domain", "faults", "stop"],
        without: &["axum", SQL[0], SQL[1], WASM[0], WASM[1], WASM[2]],
    },
    Module { name: "answers", uses: &["supervise"], without: &["axum", SQL[0], SQL[1], WASM[0], WASM[1], WASM[2]] },
    Module {
        name: "config",
        uses: &["domain", "faults", "supervise"],
        without: &["axum", SQL[0], SQL[1], WASM[0], WASM[1], WASM[2]],
    },
    Module {
        name: "store",
        uses: &["disk", "domain", "faults", "limits", "stop", "supervise"],
        without: &["axum", WASM[0], WASM[1], WASM[2]],
    },
    Module { name: "legacy", uses: &["domain"], without: &["axum", SQL[1], WASM[0], WASM[1], WASM[2]] },
    Module { name: "sandbox", uses: &["disk", "domain", "faults", "supervise"], without: &["axum", SQL[0], SQL[1]] },
    Module {
        name: "plugin",
        uses: &["answers", "config", "domain", "faults", "sandbox", "stop", "supervise"],
        without: &["axum", SQL[0], SQL[1]],
    },
    Module {
        name: "runner",
        uses: &["answers", "domain", "faults", "plugin", "sandbox", "stop", "store", "supervise"],
        without: &["axum", SQL[0], SQL[1]],
    },
    Module {
        name: "http",
        uses: &["config", "domain", "plugin", "runner", "stop", "store", "supervise"],
        without: &[SQL[0], SQL[1], WASM[0], WASM[1], WASM[2]],
    },
    Module {
        name: "cli",
        uses: &[
            "config",
            "domain",
            "faults",
            "http",
            "legacy",
            "limits",
            "plugin",
            "runner",
            "sandbox",
            "stop",
            "store",
            "supervise",
        ],
        without: &["axum", SQL[0], SQL[1], WASM[0], WASM[1], WASM[2]],
    },
];

/// The crate's own roots, which put the others together.
const ROOTS: [&str; 2] = ["main", "lib"];

/// Every import against the arrows.
pub(super) fn check() -> Result<Vec<Finding>> {
    let src = repo::at("host/src");
    let mut findings = Vec::new();
    for path in files::rust_below(&src)? {
        let inside = path.strip_prefix(&src).unwrap_or(&path);
        let (name, depth) = place(inside);
        if ROOTS.contains(&name.as_str()) {
            continue;
        }
        let Some(module) = MODULES.iter().find(|module| module.name == name) else {
            let advice = format!(
                "module `{name}` has no place among the others: \
                 give it one in xtask/src/tidy/arrows.rs"
            );
            findings.push(Finding::new(&path, 1, advice));
            continue;
        };
        let text = source::read(&path)?;
        for import in source::imports(&text, depth) {
            findings.extend(module.refuses(&import).map(|advice| Finding::new(&path, import.line, advice)));
        }
    }
    Ok(findings)
}

impl Module {
    /// What is wrong with an import, if something is.
    fn refuses(&self, import: &Import) -> Option<String> {
        let name = import.name.as_str();
        if !import.is_ours {
            return self.without.contains(&name).then(|| {
                format!(
                    "`{}` does without the crate `{name}`: put this where the crate is used, \
                     and hand over types of ours",
                    self.name
                )
            });
        }
        let is_module = MODULES.iter().any(|module| module.name == name);
        if !is_module || name == self.name || self.uses.contains(&name) {
            return None;
        }
        let allowed = match self.uses {
            [] => "no other module".to_owned(),
            uses => uses.join(", "),
        };
        Some(format!(
            "`{}` must not use `{name}` (it may use {allowed}): \
             move what is shared to the left of both, or have it handed in",
            self.name
        ))
    }
}

/// The top module that a file belongs to, and how many `super` lead from the
/// file to the crate's root.
fn place(inside: &Path) -> (String, usize) {
    let mut parts: Vec<String> = inside
        .with_extension("")
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        })
        .collect();
    if parts.len() > 1 && parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    let depth = parts.len();
    (parts.into_iter().next().unwrap_or_default(), depth)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(module: &str, text: &str) -> Vec<String> {
        let (name, depth) = place(Path::new(module));
        let module = MODULES.iter().find(|module| module.name == name);
        let module = module.expect("a module in the table");
        source::imports(&source::plain(text), depth).iter().filter_map(|import| module.refuses(import)).collect()
    }

    #[test]
    fn an_import_against_the_arrows_is_refused() {
        for (file, text) in [
            ("domain/task.rs", "use crate::store::Store;"),
            ("domain/task.rs", "use tokio::time;"),
            ("domain.rs", "use super::store::Store;"),
            ("store/mod.rs", "fn f() { crate::plugin::load() }"),
            ("store/sqlite/mod.rs", "use super::super::http;"),
            ("http/tasks.rs", "use crate::{domain::Task, cli};"),
            ("runner/host.rs", "pub(crate) use crate::{\n    domain,\n    http::{self, serve},\n};"),
            ("store/mod.rs", "type E = ::wasmtime::Engine;"),
        ] {
            assert_eq!(refused(file, text).len(), 1, "{file}: {text}");
        }
    }

    #[test]
    fn an_import_along_the_arrows_is_not() {
        for (file, text) in [
            ("store/sqlite.rs", "use crate::domain::Task;"),
            ("store/sqlite.rs", "use super::Store; use rusqlite::Connection;"),
            ("runner/mod.rs", "use crate::{store::{Store, plugin}, domain};"),
            ("domain/task.rs", "// crate::store is not known here"),
            ("domain/task.rs", "const A: &str = \"crate::store\";"),
            ("domain/task.rs", "/// As [`crate::store`] says.\nuse std::fmt;"),
            ("domain/task.rs", "use self::wasmtime::Fake;"),
        ] {
            assert_eq!(refused(file, text), Vec::<String>::new(), "{file}: {text}");
        }
    }

    #[test]
    fn a_file_has_its_place() {
        for (file, name, depth) in [
            ("main.rs", "main", 1),
            ("domain.rs", "domain", 1),
            ("domain/mod.rs", "domain", 1),
            ("domain/task.rs", "domain", 2),
            ("store/sqlite/claim.rs", "store", 3),
        ] {
            assert_eq!(place(Path::new(file)), (name.to_owned(), depth));
        }
    }
}
