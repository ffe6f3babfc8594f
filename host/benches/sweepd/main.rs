//! sweepd's numbers: ratios of two things measured in one run, printed as a
//! table and written to `target/bench.json`.
//!
//! `cargo xtask bench` builds the plugins and runs all; `cargo xtask bench tax
//! http` runs some, and `--quick` shows in a minute or two that each still works. The machines are shared and noisy: each measure is the
//! median of interleaved rounds.

#![allow(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^52")]
#![allow(clippy::disallowed_methods, reason = "benchmarks wait for the threads that they start")]

mod end_to_end;
mod enqueue;
mod guard;
mod idle;
mod instances;
mod plain;
mod queue;
mod report;
#[path = "../../tests/it/support/mod.rs"]
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
mod support;
mod swap;
mod tax;
mod world;

use std::process::ExitCode;

use report::Report;

/// Only when it is asked for by name: it fills three databases with ten million
/// rows, twice.
const ON_REQUEST: &str = "size";

/// A group of measures.
type Group = fn(&mut Report);

const GROUPS: [(&str, Group); 10] = [
    ("tax", tax::measure),
    ("guard", guard::measure),
    ("plan", guard::measure_plan),
    ("instances", instances::measure),
    ("swap", swap::measure),
    ("end-to-end", end_to_end::measure),
    ("http", enqueue::measure),
    ("idle", idle::measure),
    ("queue", queue::measure),
    ("size", queue::size::measure),
];

fn main() -> ExitCode {
    // `cargo bench` adds flags of its own.
    if std::env::args().any(|arg| arg == "--quick") {
        world::be_quick();
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if let Some(unknown) = wanted.iter().find(|name| !GROUPS.iter().any(|(group, _)| group == name)) {
        let names: Vec<_> = GROUPS.iter().map(|(name, _)| *name).collect();
        eprintln!("there is no group `{unknown}`: choose of {}", names.join(", "));
        return ExitCode::from(2);
    }
    let mut report = Report::default();
    for (name, measure) in GROUPS {
        if (wanted.is_empty() && (name != ON_REQUEST || world::is_quick()))
            || wanted.iter().any(|wanted| wanted == name)
        {
            eprintln!("measuring {name} …");
            measure(&mut report);
        }
    }
    report.print();
    if world::is_quick() {
        println!("all at its smallest, to see that it works: the numbers mean nothing, and are not written down");
        return ExitCode::SUCCESS;
    }
    match report.write() {
        Ok(path) => {
            println!("written to {}", path.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("the report could not be written: {error}");
            ExitCode::FAILURE
        }
    }
}
