//! `cargo xtask run`: from a fresh clone to the example that clears videos.
//!
//! Says what each step takes before it starts. What the user changed in the
//! example's folder stays as it is.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{files, plugins, process, repo};

const EXAMPLE: &str = "examples/video-clear";
const PLUGIN: &str = "video-clear";

/// What the example's folder of videos has at the start: a file, and a tree of
/// segments as streaming servers keep it.
const VIDEOS: [(&str, &str); 5] = [
    ("holiday.mp4", "not really a video\n"),
    ("concert/master.m3u8", "#EXTM3U\n720p/index.m3u8\n"),
    ("concert/720p/index.m3u8", "#EXTM3U\n0.ts\n1.ts\n"),
    ("concert/720p/0.ts", "a segment\n"),
    ("concert/720p/1.ts", "a segment\n"),
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Passed on to `sweepd run`.
    #[arg(last = true)]
    args: Vec<String>,
}

/// Builds, prepares and becomes the host.
pub(crate) fn run(args: &Args) -> Result<()> {
    eprintln!(
        "1/3 plugins: about 2 min the first time, seconds after a change; \
         where rustup has no target for wasm, a compiler of 140 MB is fetched first"
    );
    plugins::build()?;
    eprintln!("2/3 host: about 5 min the first time, and 100 MB of sources; skipped when built");
    process::run(process::cargo().args(["build", "--release", "--package", "sweepd"]))?;
    eprintln!("3/3 {EXAMPLE}: starts at once");
    put_plugin()?;
    put_videos()?;
    let mut sweepd = Command::new(repo::target().join("release/sweepd"));
    sweepd.args(["run", "--config"]).arg(format!("{EXAMPLE}/sweepd.toml")).args(&args.args).current_dir(repo::root());
    become_it(&mut sweepd)
}

/// Puts the plugin into the example, unless the one there is the user's own.
fn put_plugin() -> Result<()> {
    let built = fs::read(plugins::path(PLUGIN)).context("cannot read the plugin that was built")?;
    let there = repo::at(EXAMPLE).join(format!("plugins/{PLUGIN}.wasm"));
    // What this command put there last: another one is the user's.
    let ours = repo::at("target/plugins/.in-example");
    let found = files::read(&there)?;
    if found.is_some() && found != files::read(&ours)? && found.as_ref() != Some(&built) {
        eprintln!(
            "{} is not what this command put there, so it stays; \
             remove it to have the built one",
            there.strip_prefix(repo::root()).unwrap_or(&there).display()
        );
        return Ok(());
    }
    files::put(&there, &built)?;
    files::put(&ours, &built)?;
    Ok(())
}

/// Makes the folder of videos, if there is none. Removed ones do not come back.
fn put_videos() -> Result<()> {
    let folder = repo::at(EXAMPLE).join("videos");
    if folder.exists() {
        return Ok(());
    }
    for (name, content) in VIDEOS {
        files::put(&folder.join(Path::new(name)), content.as_bytes())?;
    }
    Ok(())
}

/// Hands the process over, so that signals and the exit code are the host's.
#[cfg(unix)]
fn become_it(command: &mut Command) -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start `{}`", process::shown(command)))
}

#[cfg(not(unix))]
fn become_it(command: &mut Command) -> Result<()> {
    process::run(command)
}
