//! How each peer is set: the values found to serve it best. README.md says why.

use clap::Args;
use serde::Serialize;

use crate::cli::{Measure, Peer};
use crate::scratch::Kind;

/// What of the settings the command line may replace, to look for better ones.
#[derive(Args)]
pub(crate) struct Overrides {
    /// Jobs fetched at once
    #[arg(long)]
    batch: Option<u32>,
    /// Jobs that one worker runs at once
    #[arg(long)]
    concurrency: Option<u32>,
    /// Workers in the process
    #[arg(long)]
    workers: Option<u32>,
    /// Connections in the peer's pool
    #[arg(long)]
    connections: Option<u32>,
    /// Milliseconds between polls
    #[arg(long)]
    poll_ms: Option<u64>,
}

/// The settings of a run, as the report has them. What a peer has no such setting for is left out.
#[derive(Clone, Serialize)]
pub(crate) struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) batch: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) concurrency: Option<u32>,
    pub(crate) workers: u32,
    pub(crate) connections: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) poll_ms: Option<u64>,
    pub(crate) wake: Wake,
}

/// How a worker learns of a new job.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Wake {
    /// It looks every `poll_ms`.
    Poll,
    /// The client that enqueues tells its own workers, which also look every `poll_ms`.
    Local,
    /// PostgreSQL's LISTEN/NOTIFY, and a look every `poll_ms`.
    Listen,
    /// SQLite's update hook, within the process, and a look every `poll_ms`.
    Hook,
}

impl Settings {
    /// The best settings that were found for the peer, with what the command line replaces.
    pub(crate) fn tuned(peer: Peer, kind: Kind, measure: Measure, overrides: &Overrides) -> Self {
        let best = best(peer, kind, measure);
        Self {
            batch: best.batch.map(|batch| overrides.batch.unwrap_or(batch)),
            concurrency: best.concurrency.map(|concurrency| overrides.concurrency.unwrap_or(concurrency)),
            workers: overrides.workers.unwrap_or(best.workers),
            connections: overrides.connections.unwrap_or(best.connections),
            poll_ms: overrides.poll_ms.or(best.poll_ms),
            wake: best.wake,
        }
    }
}

fn best(peer: Peer, kind: Kind, measure: Measure) -> Settings {
    let of = |batch, concurrency, workers, connections, poll_ms, wake| Settings {
        batch,
        concurrency,
        workers,
        connections,
        poll_ms,
        wake,
    };
    match (peer, kind, measure) {
        (Peer::River, Kind::PostgreSql, Measure::BurnDown) => of(None, Some(5_000), 1, 20, Some(1), Wake::Listen),
        (Peer::River, Kind::PostgreSql, Measure::Latency) => of(None, Some(100), 1, 20, Some(1), Wake::Listen),
        (Peer::River, Kind::Sqlite, Measure::BurnDown) => of(None, Some(10_000), 1, 5, Some(1), Wake::Local),
        (Peer::River, Kind::Sqlite, Measure::Latency) => of(None, Some(100), 1, 5, Some(1), Wake::Local),
        (Peer::Apalis, Kind::PostgreSql, Measure::BurnDown) => of(Some(5_000), None, 2, 10, Some(1), Wake::Poll),
        (Peer::Apalis, Kind::PostgreSql, Measure::Latency) => of(Some(10), None, 1, 10, Some(5), Wake::Listen),
        (Peer::Apalis, Kind::Sqlite, Measure::BurnDown) => of(Some(50), None, 1_000, 1, Some(20), Wake::Poll),
        (Peer::Apalis, Kind::Sqlite, Measure::Latency) => of(Some(10), None, 1, 10, Some(20), Wake::Hook),
        (Peer::GraphileWorker, _, Measure::BurnDown) => of(Some(5_000), Some(1_000), 1, 10, Some(2_000), Wake::Listen),
        (Peer::GraphileWorker, _, Measure::Latency) => of(None, Some(1), 1, 10, Some(2_000), Wake::Listen),
    }
}
