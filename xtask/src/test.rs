//! `cargo xtask test`: the tests of all packages, with the plugins built.

use anyhow::Result;

use crate::{machine, plugins, process, servers};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Part of the names of the tests to run; after `--`, options for them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    filter: Vec<String>,
}

/// Runs the tests.
pub(crate) fn test(args: &Args) -> Result<()> {
    let missing = servers::missing()?;
    machine::make_ready();
    plugins::build()?;
    // The guests are built for wasm, above; natively they would only be linked.
    process::cargo_for_all("test", &["sweepd-guests"], |cargo| cargo.args(&args.filter))?;
    servers::say(&missing);
    Ok(())
}
