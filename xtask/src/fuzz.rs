//! `cargo xtask fuzz`: the long form of the test that no path of a guest leads
//! astray.

use anyhow::Result;

use crate::{process, repo};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// For how long paths are tried.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
}

/// Runs it. What fails is printed as small as it could be made.
pub(crate) fn fuzz(args: &Args) -> Result<()> {
    let mut cargo = process::cargo();
    cargo.arg("test");
    // The whole group, or the host's dependencies are built with other features.
    for package in repo::PACKAGES[0] {
        cargo.args(["--package", package]);
    }
    cargo.args(["--lib", "--", "--exact", "sandbox::fuzz::long", "--ignored", "--nocapture"]);
    process::run(cargo.env("SWEEPD_FUZZ_MINUTES", args.minutes.to_string()))
}
