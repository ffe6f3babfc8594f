//! Other job queues, by the harness in `peers/`: a program of its own that
//! prints a line of JSON for each measure. `cargo xtask bench queue` builds it
//! and names it in `SWEEPD_PEERS`.

use std::process::{Command, Stdio};

use serde::Deserialize;

use super::databases::Kind;
use crate::world;

const NAMES: [&str; 3] = ["river", "apalis", "graphile-worker"];

/// What a peer is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    BurnDown,
    Latency,
}

/// One line of the harness.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    pub(super) peer: String,
    /// Each measure has its own figures; the others are null.
    #[serde(deserialize_with = "figure")]
    pub(super) jobs_per_second: f64,
    #[serde(deserialize_with = "figure")]
    pub(super) p50_ms: f64,
    #[serde(deserialize_with = "figure")]
    pub(super) p99_ms: f64,
}

fn figure<'de, D: serde::Deserializer<'de>>(figure: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(figure)?.unwrap_or(f64::NAN))
}

/// Measures every peer that can run here.
pub(super) fn all(kind: Kind, measure: Measure, jobs: usize) -> Vec<Line> {
    let Some(program) = std::env::var_os("SWEEPD_PEERS") else {
        eprintln!("no peers are measured: run `cargo xtask bench queue`, which builds them");
        return Vec::new();
    };
    let folder = world::folder();
    let database = kind.server().unwrap_or_else(|| format!("sqlite:{}", folder.path().display()));
    let measure = if measure == Measure::BurnDown { "burn-down" } else { "latency" };
    let run = |peer: &&str| {
        let run = Command::new(&program)
            .args(["run", "--peer", peer, "--database", &database, "--measure", measure])
            .args(["--jobs", &jobs.to_string()])
            .stderr(Stdio::inherit())
            .output()
            .expect("the harness runs");
        let line = String::from_utf8_lossy(&run.stdout);
        serde_json::from_str(line.trim()).map_err(|error| eprintln!("{peer}, {measure}: {error}")).ok()
    };
    NAMES.iter().filter(|peer| kind == Kind::Postgres || **peer != "graphile-worker").filter_map(run).collect()
}

/// Their rates, for the detail of a line.
pub(super) fn rates(peers: &[Line]) -> String {
    let rates = peers.iter().map(|peer| format!("{} {:.0}/s", peer.peer, peer.jobs_per_second));
    rates.collect::<Vec<_>>().join(", ")
}

/// Their latencies, for the detail of a line.
pub(super) fn latencies(peers: &[Line]) -> String {
    let latencies = peers.iter().map(|peer| format!("{} {:.2}/{:.2} ms", peer.peer, peer.p50_ms, peer.p99_ms));
    latencies.collect::<Vec<_>>().join(", ")
}
