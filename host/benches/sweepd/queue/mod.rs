//! The queue: how fast it is burnt down, how soon a task starts, how it grows,
//! and how others fare with the same work in the same run.

mod bulk;
mod burn_down;
mod databases;
mod failover;
mod latency;
mod memory;
mod peers;
pub(crate) mod size;

use super::report::Report;

pub(crate) fn measure(report: &mut Report) {
    burn_down::measure(report);
    latency::measure(report);
    bulk::measure(report);
    failover::measure(report);
    memory::measure(report);
}
