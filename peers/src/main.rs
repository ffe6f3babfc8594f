//! Measures other people's job queues the way `cargo xtask bench queue` measures ours, so that both stand in one run.
//!
//! `peers list` says which peers can run here; `peers run` measures one of them on a database of its own and prints one
//! line of JSON. What is timed, and why each peer is set as it is, stands in README.md.

mod apalis;
mod cli;
mod graphile;
mod measure;
mod report;
mod river;
mod scratch;
mod settings;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::List => cli::list(),
        Command::Run(asked) => Box::pin(cli::run(asked)).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}
