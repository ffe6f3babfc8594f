//! Runs other programs: what failed, and with what, is in the error.

use std::env;
use std::ffi::OsString;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::repo;

/// Cargo, the one that runs us, in the repository.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    cargo.current_dir(repo::root());
    // What `cargo run` says of this package is not for the packages built below:
    // build scripts that listen to it would run again whenever somebody calls
    // cargo by hand in between, and minutes of compiling with them.
    for (name, _) in env::vars_os() {
        let shown = name.to_string_lossy();
        if shown.starts_with("CARGO_PKG_") || shown.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// A command as one would type it, for messages.
pub(crate) fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let mut text = program.rsplit('/').next().unwrap_or(&program).to_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

/// Runs to the end, with our outputs.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", shown(command)))?;
    check(command, status)
}

/// Runs to the end and gives what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start `{}`", shown(command)))?;
    check(command, output.status)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// After so long without a word it is told that a program still runs.
const MOVES: Duration = Duration::from_secs(10);

/// Runs to the end, but no longer than `limit`: then it is killed. Of a program
/// that says nothing itself, it is told that it still runs.
pub(crate) fn run_within(limit: Duration, command: &mut Command) -> Result<()> {
    let mut child =
        command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot start `{}`", shown(command)))?;
    let began = Instant::now();
    let (end, mut next) = (began + limit, began + MOVES);
    loop {
        if let Some(status) = child.try_wait()? {
            return check(command, status);
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            bail!("`{}` took more than {} s", shown(command), limit.as_secs());
        }
        if Instant::now() >= next {
            let program = command.get_program().to_string_lossy();
            eprintln!("  … {program} is at work, for {} s by now", began.elapsed().as_secs());
            next += MOVES;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Whether a program is there and starts.
pub(crate) fn is_there(program: &str, probe: &str) -> bool {
    Command::new(program)
        .arg(probe)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn check(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs a subcommand of cargo for every group of packages but those in
/// `without`, also where one fails; `rest` adds its further arguments.
pub(crate) fn cargo_for_all(
    subcommand: &str,
    without: &[&str],
    rest: impl Fn(&mut Command) -> &mut Command,
) -> Result<()> {
    let mut result = Ok(());
    for group in repo::PACKAGES {
        let mut cargo = cargo();
        cargo.arg(subcommand);
        for package in group.iter().filter(|package| !without.contains(package)) {
            cargo.args(["--package", package]);
        }
        if let Err(error) = run(rest(&mut cargo)) {
            result = Err(error);
        }
    }
    result
}
