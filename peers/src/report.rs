//! What a run says: one line of JSON.

use serde::Serialize;

use crate::cli::{Measure, Peer};
use crate::scratch::Kind;
use crate::settings::Settings;

/// What came out of a measurement.
pub(crate) enum Measured {
    /// Seconds from the start of the workers to the last job done.
    Seconds(f64),
    /// Milliseconds from before each enqueue to the start of its handler.
    Latencies(Vec<f64>),
}

/// The line of JSON that `peers run` prints.
#[derive(Serialize)]
pub(crate) struct Report {
    peer: Peer,
    version: &'static str,
    measure: Measure,
    database: Kind,
    jobs: u64,
    /// Only of a burn-down.
    jobs_per_second: Option<f64>,
    /// Only of a latency run, as is `p99_ms`.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    settings: Settings,
    durability: String,
}

impl Report {
    #[expect(clippy::cast_precision_loss, reason = "a count of jobs is far below 2^52")]
    pub(crate) fn new(
        peer: Peer,
        database: Kind,
        measure: Measure,
        jobs: u64,
        measured: &Measured,
        settings: Settings,
        durability: String,
    ) -> Self {
        let (jobs_per_second, p50_ms, p99_ms) = match measured {
            Measured::Seconds(seconds) => (Some(rounded(jobs as f64 / seconds)), None, None),
            Measured::Latencies(all) => (None, percentile(all, 50), percentile(all, 99)),
        };
        let version = peer.version();
        Self { peer, version, measure, database, jobs, jobs_per_second, p50_ms, p99_ms, settings, durability }
    }
}

/// The smallest value that `percent` of all values do not exceed; none of no values.
fn percentile(values: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().map(rounded)
}

/// Three digits after the point are more than the clock is good for.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn a_percentile_is_the_value_at_the_nearest_rank() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentile(&values, 50), Some(100.0));
        assert_eq!(percentile(&values, 99), Some(198.0));
        assert_eq!(percentile(&[7.0], 99), Some(7.0));
        assert_eq!(percentile(&[], 50), None);
    }
}
