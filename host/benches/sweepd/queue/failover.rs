//! A node is killed with -9; how long until all its tasks run elsewhere, with
//! the default lease.

use std::time::Instant;

use super::databases::{Kind, Place};
use crate::report::{Report, median};
use crate::world;

fn rounds() -> usize {
    world::sized(3, 1)
}

pub(super) fn measure(report: &mut Report) {
    for kind in [Kind::Postgres, Kind::MariaDb] {
        let mut seconds = Vec::new();
        for _ in 0..rounds() {
            seconds.extend(failover(kind));
        }
        if !seconds.is_empty() {
            let worst = seconds.iter().copied().fold(0.0, f64::max);
            let detail = format!("median {:.1} s; default lease", median(seconds));
            report.at_most(&format!("kill -9 to its tasks elsewhere, {}", kind.name()), worst, 10.0, "s", detail);
        }
    }
}

fn failover(kind: Kind) -> Option<f64> {
    // Each task sleeps for a minute: what the first node holds is not done soon.
    let place = Place::fresh(kind, "sleeps", "concurrency = 2\n[job.limits]\ntask_deadline = \"2m\"\n")?;
    let first = place.site.start();
    first.serving("clear");
    first.enqueue("clear", &["a", "b"]);
    first.wait("it runs", || first.tasks("clear", "running").len() == 2);
    let second = place.site.start();
    second.serving("clear");
    let began = Instant::now();
    first.kill();
    second.wait("its tasks run elsewhere", || {
        let running = second.tasks("clear", "running");
        // Tasks with losses are claimed alone: one after the other.
        running.iter().any(|task| task["losses"] == 1)
    });
    Some(began.elapsed().as_secs_f64())
}
