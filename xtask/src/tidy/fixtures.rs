//! Guests that no test of the host names: they cost time and show nothing.

use std::fs;

use anyhow::Result;

use super::Finding;
use crate::{files, plugins, repo};

/// Every guest without a test.
pub(super) fn check() -> Result<Vec<Finding>> {
    let mut tests = String::new();
    for path in files::rust_below(&repo::at("host/tests"))? {
        tests.push_str(&fs::read_to_string(&path)?);
    }
    let mut findings = Vec::new();
    for name in plugins::guests()? {
        let named = format!("\"{name}\"");
        if !tests.contains(&named) {
            let path = repo::at("plugins/guests/examples").join(format!("{name}.rs"));
            let advice = format!("no test names {named}: add one in host/tests, or remove the guest");
            findings.push(Finding::new(&path, 1, advice));
        }
    }
    Ok(findings)
}
