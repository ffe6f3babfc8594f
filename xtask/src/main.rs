//! The project's own tasks, one command a module: `cargo xtask --help`.
//!
//! Never depends on the host: it has to work where the host does not compile.

#![allow(clippy::disallowed_methods, reason = "its threads are waited for; the rule is the host's")]

mod bench;
mod files;
mod fuzz;
mod machine;
mod plugins;
mod process;
mod repo;
mod run;
mod servers;
mod test;
mod tidy;
mod torture;
mod wasi_testsuite;
mod wasm;

use std::process::ExitCode;

use clap::Parser;

/// The project's own tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Builds everything and runs the example that clears videos.
    Run(run::Args),
    /// Runs the tests of all packages, with the plugins built.
    Test(test::Args),
    /// Builds the plugins and the tests' guests into `target/plugins`.
    Plugins,
    /// Breaks nodes and databases for so many minutes, while nothing may be lost.
    Torture(torture::Args),
    /// Tries paths for so many minutes, none of which may lead out of its mount.
    Fuzz(fuzz::Args),
    /// Runs the public tests of WASI's file behaviour, through the guard and without.
    WasiTestsuite(wasi_testsuite::Args),
    /// Runs a benchmark of the host, with the plugins built.
    Bench(bench::Args),
    /// Checks format, lints, docs, dependencies and the project's own rules.
    Tidy(tidy::Args),
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Run(args) => run::run(&args),
        Task::Test(args) => test::test(&args),
        Task::Plugins => plugins::build(),
        Task::Torture(args) => torture::torture(&args),
        Task::Fuzz(args) => fuzz::fuzz(&args),
        Task::WasiTestsuite(args) => wasi_testsuite::run(&args),
        Task::Bench(args) => bench::bench(&args),
        Task::Tidy(args) => tidy::tidy(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What failed and why, in one breath; a backtrace of ours helps nobody.
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
