//! Licences, bans and sources of all dependencies, and advisories about them
//! where their database can be had. The rules are in deny.toml.

use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::files::Lock;
use crate::process::{self, is_there};
use crate::repo;

/// Which cargo-deny is built where the user has none.
const VERSION: &str = "0.20.2";

/// How long the database of advisories may take before it counts as out of reach.
const DATABASE_LIMIT: Duration = Duration::from_mins(1);

/// Checks the dependencies.
pub(super) fn check() -> Result<()> {
    let deny = Deny::find()?;
    deny.run(&["licenses", "bans", "sources"])?;
    match deny.fetch_advisories() {
        Ok(()) => deny.run(&["--disable-fetch", "advisories"]),
        Err(error) if has_advisories() => {
            eprintln!("tidy: WARNING: advisories are as of the last fetch ({error:#})");
            deny.run(&["--disable-fetch", "advisories"])
        }
        Err(error) => {
            eprintln!(
                "tidy: WARNING: ADVISORIES WERE NOT CHECKED: \
                 their database cannot be had ({error:#}). \
                 Run `cargo deny check advisories` where it can."
            );
            Ok(())
        }
    }
}

/// Whether some database was fetched before.
fn has_advisories() -> bool {
    let databases = repo::cargo_home().map(|home| home.join("advisory-dbs"));
    // Beside a database there is its lock, which alone is none.
    databases
        .and_then(|folder| fs::read_dir(folder).ok())
        .is_some_and(|entries| entries.flatten().any(|entry| entry.path().join(".git").exists()))
}

/// A cargo-deny.
struct Deny {
    program: OsString,
}

impl Deny {
    /// The user's, or one of our own in `target/tools`.
    fn find() -> Result<Self> {
        let mut program = OsString::from("cargo-deny");
        if !is_there("cargo-deny", "--version") {
            program = install()?;
        }
        Ok(Self { program })
    }

    fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        command.args(["--workspace", "--all-features"]);
        command.current_dir(repo::root());
        command
    }

    fn run(&self, checks: &[&str]) -> Result<()> {
        let mut command = self.command();
        command.args(["--log-level", "warn", "check", "--hide-inclusion-graph"]);
        process::run(command.args(checks)).context("see deny.toml")
    }

    fn fetch_advisories(&self) -> Result<()> {
        let mut command = self.command();
        process::run_within(DATABASE_LIMIT, command.args(["fetch", "db"]))
    }
}

/// Builds cargo-deny, unoptimised: it is built for longer than it ever runs.
fn install() -> Result<OsString> {
    let tools = repo::at("target/tools");
    let _lock = Lock::take(&tools.join(".lock"))?;
    let program = tools.join("bin/cargo-deny");
    let wanted = tools.join(format!(".cargo-deny-{VERSION}"));
    if program.is_file() && wanted.is_file() {
        return Ok(program.into());
    }
    eprintln!("tidy: building cargo-deny {VERSION} into target/tools: about 1 min, once");
    let build = tools.join("build");
    let mut cargo = process::cargo();
    cargo.args(["install", "--quiet", "--locked", "--debug", "--force"]);
    cargo.args(["cargo-deny", "--version", VERSION]);
    cargo.arg("--root").arg(&tools);
    cargo.arg("--target-dir").arg(&build);
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "0");
    process::run(&mut cargo).context("cannot build cargo-deny")?;
    fs::write(&wanted, "")?;
    // Only the program is wanted again.
    let _ = fs::remove_dir_all(&build);
    Ok(program.into())
}
