//! `cargo xtask bench`: the benchmarks of the host, with the plugins built, and
//! other job queues beside it where the queue is measured.

use std::path::PathBuf;

use anyhow::Result;

use crate::{plugins, process, repo};

/// The group that is measured beside others.
const QUEUE: &str = "queue";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to measure: tax, guard, plan, instances, swap, end-to-end, http, idle, queue; all of these by default. And size, on request.
    groups: Vec<String>,

    /// Only shows that each still works, size among them: everything at its
    /// smallest, built as the tests are, without the peers.
    #[arg(long)]
    quick: bool,
}

/// Runs the benchmark.
pub(crate) fn bench(args: &Args) -> Result<()> {
    plugins::build()?;
    if args.quick {
        return quick(&args.groups);
    }
    let mut cargo = process::cargo();
    cargo.args(["bench", "--package", "sweepd", "--bench", "main", "--"]).args(&args.groups);
    if args.groups.is_empty() || args.groups.iter().any(|group| group == QUEUE) {
        match peers() {
            Ok(program) => drop(cargo.env("SWEEPD_PEERS", program)),
            Err(error) => eprintln!("xtask: the peers are not measured, they cannot be built: {error:#}"),
        }
    }
    process::run(&mut cargo)
}

/// With the packages of the tests and in their profile, so that nothing is built
/// for it but the benchmarks themselves.
fn quick(groups: &[String]) -> Result<()> {
    let mut cargo = process::cargo();
    cargo.arg("test");
    for package in repo::PACKAGES.iter().find(|group| group.contains(&"sweepd")).into_iter().flat_map(|group| *group) {
        if *package != "sweepd-guests" {
            cargo.args(["--package", package]);
        }
    }
    cargo.args(["--bench", "main", "--", "--quick"]).args(groups);
    process::run(&mut cargo)
}

/// Builds the harness of the peers, a workspace of its own.
fn peers() -> Result<PathBuf> {
    let folder = repo::at("peers");
    let mut cargo = process::cargo();
    cargo.args(["build", "--release", "--manifest-path"]).arg(folder.join("Cargo.toml"));
    process::run(&mut cargo)?;
    Ok(folder.join("target/release/peers"))
}
