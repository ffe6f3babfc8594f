//! What was measured: lines of a table and of `target/bench.json`.

use std::path::PathBuf;

use serde::Serialize;

/// All measures of a run.
#[derive(Default)]
pub(crate) struct Report(Vec<Measure>);

/// One line.
#[derive(Serialize)]
struct Measure {
    name: String,
    value: f64,
    unit: &'static str,
    goal: f64,
    /// Whether the value must be at least the goal, or at most.
    at_least: bool,
    reached: bool,
    detail: String,
}

impl Report {
    /// A value that should be at least `goal`.
    pub(crate) fn at_least(&mut self, name: &str, value: f64, goal: f64, unit: &'static str, detail: String) {
        let reached = value >= goal;
        eprintln!("  {name}: {} (goal at least {}); {detail}", show(value, unit), show(goal, unit));
        self.0.push(Measure { name: name.to_owned(), value, unit, goal, at_least: true, reached, detail });
    }

    /// A value that should be at most `goal`.
    pub(crate) fn at_most(&mut self, name: &str, value: f64, goal: f64, unit: &'static str, detail: String) {
        let reached = value <= goal;
        eprintln!("  {name}: {} (goal at most {}); {detail}", show(value, unit), show(goal, unit));
        self.0.push(Measure { name: name.to_owned(), value, unit, goal, at_least: false, reached, detail });
    }

    /// The table, on standard output.
    pub(crate) fn print(&self) {
        println!("{:<52} {:>12} {:>14}  {:<8} detail", "measure", "value", "goal", "reached");
        for Measure { name, value, unit, goal, at_least, reached, detail } in &self.0 {
            let sign = if *at_least { "≥" } else { "≤" };
            let reached = if *reached { "yes" } else { "NO" };
            println!(
                "{name:<52} {:>12} {:>14}  {reached:<8} {detail}",
                show(*value, unit),
                format!("{sign} {}", show(*goal, unit))
            );
        }
    }

    /// `target/bench.json`.
    pub(crate) fn write(&self) -> std::io::Result<PathBuf> {
        let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench.json"));
        std::fs::write(&path, serde_json::to_vec_pretty(&self.0)?)?;
        path.canonicalize()
    }
}

fn show(value: f64, unit: &str) -> String {
    match unit {
        "ratio" => format!("{value:.2}"),
        "/s" => format!("{value:.0}/s"),
        unit => format!("{value:.1} {unit}"),
    }
}

/// The middle one of the values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
