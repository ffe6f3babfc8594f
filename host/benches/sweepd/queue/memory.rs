//! The host's memory while it burns down a million tasks.

use super::burn_down::ask;
use super::databases::{Kind, Place};
use crate::report::Report;
use crate::world;

fn tasks() -> usize {
    world::sized(1_000_000, 2000)
}

pub(super) fn measure(report: &mut Report) {
    for kind in Kind::ALL {
        let Some(place) = Place::fresh(kind, "noop", "capacity = 2000\nconcurrency = 2\n") else { continue };
        let host = place.site.start();
        host.serving("clear");
        ask(&host, "pause");
        for first in (0..tasks()).step_by(world::sized(100_000, 1000)) {
            let keys: Vec<_> =
                (first..first + world::sized(100_000, 1000)).map(|number| format!("video-{number:07}")).collect();
            host.enqueue("clear", &keys);
        }
        // The peak of filling is not the peak of burning down.
        let host = {
            drop(host);
            place.site.start()
        };
        host.serving("clear");
        ask(&host, "resume");
        let mut samples = Vec::new();
        host.wait("the queue is drained", || {
            std::thread::sleep(std::time::Duration::from_millis(100));
            samples.push(resident(host.pid(), "VmRSS:"));
            !host.has("clear", "pending") && !host.has("clear", "running")
        });
        let (early, late) = (samples[samples.len() / 4], samples[samples.len() * 9 / 10]);
        let detail = format!("{early:.0} MiB after a quarter, {late:.0} MiB near the end");
        let peak = resident(host.pid(), "VmHWM:");
        report.at_most(&format!("resident while a million burn, {}", kind.name()), peak, 80.0, "MiB", detail);
    }
}

/// MiB.
fn resident(pid: u32, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux");
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kib.expect("a number") / 1024.0
}
