//! `cargo xtask tidy`: what has to hold before a change goes in.
//!
//! Every check runs, whatever the others found, the quick ones first; at the end
//! it says which failed. The project's own rules are one module each, with their
//! data at the top.

mod arrows;
mod deny;
mod fixtures;
mod length;
mod source;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};

use crate::{process, repo};

/// Where a rule is broken, and what to do about it.
struct Finding {
    /// In the repository.
    path: PathBuf,
    /// From 1.
    line: usize,
    advice: String,
}

impl Finding {
    fn new(path: &Path, line: usize, advice: impl Into<String>) -> Self {
        Self { path: path.strip_prefix(repo::root()).unwrap_or(path).to_owned(), line, advice: advice.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.advice)
    }
}

/// A check and its name.
type Check = (&'static str, fn() -> Result<()>);

/// Which checks to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Names of checks; all of them without one.
    #[arg(value_parser = ["format", "arrows", "length", "fixtures", "dependencies", "lints", "docs"])]
    checks: Vec<String>,
}

/// Runs the checks.
pub(crate) fn tidy(args: &Args) -> Result<()> {
    let checks: [Check; 7] = [
        ("format", format),
        ("arrows", || none(&arrows::check()?)),
        ("length", || none(&length::check()?)),
        ("fixtures", || none(&fixtures::check()?)),
        ("dependencies", deny::check),
        ("lints", lints),
        ("docs", docs),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        if !args.checks.is_empty() && !args.checks.iter().any(|wanted| wanted == name) {
            continue;
        }
        let start = Instant::now();
        let result = check();
        let took = start.elapsed().as_secs_f32();
        match result {
            Ok(()) => eprintln!("tidy: {name}: ok ({took:.1} s)"),
            Err(error) => {
                eprintln!("tidy: {name}: {error:#} ({took:.1} s)");
                failed.push(name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("not tidy: {}", failed.join(", "));
    }
    Ok(())
}

fn none(findings: &[Finding]) -> Result<()> {
    for finding in findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        count => bail!("{count} to mend, see above"),
    }
}

fn format() -> Result<()> {
    let mut cargo = process::cargo();
    process::run(cargo.args(["fmt", "--all", "--check"])).map_err(|error| error.context("run `cargo fmt --all`"))
}

fn lints() -> Result<()> {
    process::cargo_for_all("clippy", &[], |cargo| cargo.args(["--all-targets", "--", "-D", "warnings"]))
}

fn docs() -> Result<()> {
    process::cargo_for_all("doc", &[], |cargo| cargo.arg("--no-deps").env("RUSTDOCFLAGS", "-D warnings"))
}
