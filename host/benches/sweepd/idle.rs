//! The memory of an idle host with one job.

use std::time::Duration;

use super::report::Report;
use super::support::{Site, plugin};
use super::world;

pub(crate) fn measure(report: &mut Report) {
    let site = Site::with_job(&plugin("video-clear"), "");
    let host = site.start();
    host.serving("clear");
    host.enqueue("clear", &["one", "two"]);
    host.drained("clear");
    std::thread::sleep(world::sized(Duration::from_secs(5), Duration::ZERO));
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.pid())).expect("Linux");
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok())
        .expect("a number");
    report.at_most("idle host with one job, resident", kib / 1024.0, 40.0, "MiB", "after two tasks".to_owned());
}
