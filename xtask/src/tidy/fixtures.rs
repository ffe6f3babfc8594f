//! Guests that no test of the host names: they cost time and show nothing.

use std::fs;

use anyhow::Result;

use super::Finding;
use crate::{files, plugins, repo, wasm};

/// Every guest without a test.
pub(super) fn check() -> Result<Vec<Finding>> {
    let mut tests = String::new();
    for path in files::rust_below(&repo::at("host/tests"))? {
        tests.push_str(&fs::read_to_string(&path)?);
    }
    let mut findings = Vec::new();
    let in_rust = plugins::guests()?.into_iter().map(|name| {
        let path = repo::at("plugins/guests/examples").join(format!("{name}.rs"));
        (name, path)
    });
    let foreign = wasm::all_foreign()?.into_iter().map(|guest| (guest.name, guest.source));
    for (name, path) in in_rust.chain(foreign) {
        let named = format!("\"{name}\"");
        if !tests.contains(&named) {
            let advice = format!("no test names {named}: add one in host/tests, or remove the guest");
            findings.push(Finding::new(&path, 1, advice));
        }
    }
    Ok(findings)
}
