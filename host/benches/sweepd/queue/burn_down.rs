//! Tasks that were queued before, through the real binary with a no-op executor
//! in WebAssembly, history kept, durable settings: from the resume of the job
//! until nothing is pending or running.

use std::time::Instant;

use super::databases::{Kind, Place};
use super::peers::{self, Measure};
use crate::report::{Report, median};
use crate::support::Sweepd;
use crate::world;

fn tasks() -> usize {
    world::sized(200_000, 4000)
}
fn rounds() -> usize {
    world::sized(3, 1)
}

pub(super) fn measure(report: &mut Report) {
    for kind in Kind::ALL {
        let (mut ours, mut random, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds() {
            let Some(rate) = rate(kind, |number| format!("video-{number:06}")) else { break };
            ours.push(rate);
            random.extend(self::rate(kind, |_| format!("{:032x}", fastrand::u128(..))));
            bare.extend(bare_loop(kind));
        }
        if ours.is_empty() {
            continue;
        }
        let (ours, random) = (median(ours), median(random));
        let detail = format!("{ours:.0}/s; random keys {random:.0}/s");
        let name = format!("burn-down on {}", kind.name());
        match kind {
            Kind::MariaDb => {
                let bare = median(bare);
                let detail = format!("{detail}; bare claim-and-finish loop {bare:.0}/s");
                report.at_least(&format!("{name} of a bare loop"), ours / bare, 0.6, "ratio", detail);
            }
            Kind::Postgres => {
                let peers = peers::all(kind, Measure::BurnDown, tasks());
                let best = peers.iter().map(|peer| peer.jobs_per_second).fold(f64::NAN, f64::max);
                let detail = format!("{detail}; {}", peers::rates(&peers));
                report.at_least(&format!("{name} of the best peer"), ours / best, 1.5, "ratio", detail);
            }
            Kind::Sqlite => {
                let peers = peers::all(kind, Measure::BurnDown, tasks() / 4);
                let river =
                    peers.iter().find(|peer| peer.peer == "river").map_or(f64::NAN, |peer| peer.jobs_per_second);
                let detail = format!("{detail}; {}", peers::rates(&peers));
                report.at_least(&format!("{name} of River"), ours / river, 8.0, "ratio", detail);
            }
        }
    }
}

/// Tasks a second.
fn rate(kind: Kind, key: impl Fn(usize) -> String) -> Option<f64> {
    let place = Place::fresh(kind, "noop", "capacity = 2000\nconcurrency = 2\n")?;
    let host = place.site.start();
    host.serving("clear");
    ask(&host, "pause");
    let keys: Vec<_> = (0..tasks()).map(key).collect();
    host.enqueue("clear", &keys);
    place.database.settle();
    let began = Instant::now();
    ask(&host, "resume");
    host.drained("clear");
    let took = began.elapsed().as_secs_f64();
    let status = host.get("/v1/jobs/clear");
    assert_eq!(status["backlog"]["dead"], 0, "no task may fail: {status}");
    Some(tasks() as f64 / took)
}

pub(super) fn ask(host: &Sweepd, what: &str) {
    let (status, body) = host.request("POST", &format!("/v1/jobs/clear/{what}"), None);
    assert!(status < 300, "{what}: {body}");
}

/// What the server does in the same time for a loop that only claims 500 rows
/// and deletes them into a history: for servers that no peer supports.
fn bare_loop(kind: Kind) -> Option<f64> {
    (kind == Kind::MariaDb).then(|| super::bulk::runtime().block_on(super::bulk::bare_mariadb_loop(tasks() / 4)))
}
