//! Files that are too long to be read at one go.

use std::fs;

use anyhow::Result;

use super::Finding;
use crate::{files, repo};

/// Lines that a file may have without a reason.
const MOST_LINES: usize = 400;

/// How a line with the reason begins.
const REASON: &str = "// length:";

const FOLDERS: [&str; 3] = ["host", "plugins", "xtask"];

/// Every file that is too long.
pub(super) fn check() -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for folder in FOLDERS {
        for path in files::rust_below(&repo::at(folder))? {
            let text = fs::read_to_string(&path)?;
            let lines = text.lines().count();
            let has_reason = text
                .lines()
                .filter_map(|line| line.trim_start().strip_prefix(REASON))
                .any(|reason| !reason.trim().is_empty());
            if lines > MOST_LINES && !has_reason {
                let advice = format!(
                    "{lines} lines are more than {MOST_LINES}: split it by concept, \
                     or say in a line `{REASON} …` why it is one"
                );
                findings.push(Finding::new(&path, MOST_LINES + 1, advice));
            }
        }
    }
    Ok(findings)
}
