//! `cargo xtask bench`: a benchmark of the host, with the plugins built.

use anyhow::Result;

use crate::{plugins, process};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The benchmark in host/benches.
    #[arg(default_value = "main")]
    name: String,
    /// Passed on to it.
    #[arg(last = true)]
    args: Vec<String>,
}

/// Runs the benchmark.
pub(crate) fn bench(args: &Args) -> Result<()> {
    plugins::build()?;
    let mut cargo = process::cargo();
    cargo.args(["bench", "--package", "sweepd", "--bench", &args.name]);
    cargo.arg("--").args(&args.args);
    process::run(&mut cargo)
}
