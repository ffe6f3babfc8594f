//! When a job may scan, look for work of its own: at its interval, or at the
//! times of its schedule; on one node of the cluster.
//!
//! The node that took the scan keeps it while it lives and its sweeps go well,
//! so that an interval is one scan, however many nodes there are.
//!
//! ```text
//!  due ─▶ taken ─▶ scanned ─▶ on record
//!   ▲       └─ failed, or the node is lost
//!   └───────┘
//! ```
//! A time of the schedule counts as scanned when its scan went to its end. A scan
//! that fails is tried again, less and less often: the sweeps in between do not
//! scan, so that it holds up no task that is due.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::clock::is_ahead;
use crate::domain::node::NodeId;
use crate::domain::schedule::Schedule;
use crate::domain::time::Timestamp;
use crate::store::{At, EndScan, ScanEnded, ScanLease, StoreError, TakeScan};

use super::job::Job;

/// Why a sweep begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Its time has come.
    Tick,
    /// Something was queued: no reason to scan.
    Wake,
    /// Somebody asked for it.
    Asked,
}

/// After scans that failed, at most so many sweeps by the clock do not scan.
const PASSED_AT_MOST: u32 = 64;

/// How many sweeps by the clock pass without a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Passes {
    /// Until the next one that scans.
    left: u32,
    /// After the next scan that fails.
    next: u32,
    /// The time of the schedule for which the last one failed.
    failed_for: Option<Timestamp>,
}

impl Passes {
    const NONE: Self = Self { left: 0, next: 1, failed_for: None };

    /// Whether this sweep is one of them.
    fn take(&mut self) -> bool {
        let takes = self.left > 0;
        self.left = self.left.saturating_sub(1);
        takes
    }

    fn failed(&mut self, failed_for: Option<Timestamp>) {
        *self = Self { left: self.next, next: (self.next * 2).min(PASSED_AT_MOST), failed_for };
    }

    /// None passes over a time of the schedule that has come since the one that
    /// failed.
    fn end_where_another_is_due(&mut self, schedule: Option<&Schedule>, now: Timestamp) {
        let is_due = |(schedule, failed): (&Schedule, Timestamp)| schedule.due(failed, now).is_some();
        if schedule.zip(self.failed_for).is_some_and(is_due) {
            *self = Self::NONE;
        }
    }
}

/// A job's right to scan, at this node.
pub(super) struct Scans {
    job: Arc<Job>,
    /// The life that holds the scan.
    held_by: Option<NodeId>,
    /// The last time of the schedule that was scanned, at any node.
    scheduled: Timestamp,
    /// The time of the schedule for which the present sweep scans.
    for_time: Option<Timestamp>,
    passes: Passes,
}

impl Scans {
    pub(super) fn new(job: Arc<Job>) -> Self {
        let scheduled = job.scheduled;
        Self { job, held_by: None, scheduled, for_time: None, passes: Passes::NONE }
    }

    /// Whether a sweep that begins now may scan.
    pub(super) async fn may(&mut self, why: Why) -> bool {
        self.for_time = None;
        if why == Why::Tick {
            // By this node's clock: whether it is due, the store's says.
            self.passes.end_where_another_is_due(self.job.spec.schedule.as_ref(), self.job.clock.now());
            if self.passes.take() {
                return false;
            }
        }
        let taken = match (why, &self.job.spec.schedule) {
            (Why::Wake, _) => return false,
            (Why::Tick, Some(_)) => self.take_scheduled().await,
            (Why::Tick, None) | (Why::Asked, _) => self.take(None).await,
        };
        taken.unwrap_or_else(|error| {
            tracing::warn!(job = %self.job.spec.name, "whether it may scan could not be asked: {error}");
            false
        })
    }

    /// However many times of the schedule were missed, they are one scan.
    async fn take_scheduled(&mut self) -> Result<bool, StoreError> {
        let now = self.job.store.now(At::Server).await?;
        if is_ahead(self.scheduled, now) {
            // Here and in the store, or the next time would count as scanned.
            self.job.clocks.draw_in().await?;
            self.scheduled = now;
        }
        let due = self.job.spec.schedule.as_ref().and_then(|schedule| schedule.due(self.scheduled, now));
        match due {
            Some(due) => self.take(Some(due)).await,
            None => Ok(false),
        }
    }

    async fn take(&mut self, scheduled: Option<Timestamp>) -> Result<bool, StoreError> {
        let node = self.job.node.id();
        if scheduled.is_none() && self.held_by == Some(node) {
            return Ok(true);
        }
        let lease = self.job.store.take_scan(TakeScan { job: self.job.id, node, scheduled }, At::Server).await?;
        match (lease, scheduled) {
            (ScanLease::Taken, time) => self.for_time = time,
            (ScanLease::Past, Some(time)) => self.scheduled = time,
            (ScanLease::Past | ScanLease::Anothers, _) => {}
        }
        self.held_by = (lease == ScanLease::Taken).then_some(node);
        Ok(lease == ScanLease::Taken)
    }

    /// The scan that [`Self::may`] allowed went to its end.
    pub(super) async fn ended(&mut self) {
        self.forget();
        let Some(scheduled) = self.for_time.take() else { return };
        let (job, name) = (self.job.id, &self.job.spec.name);
        let Some(node) = self.held_by else { return };
        match self.job.store.end_scan(EndScan { job, node, scheduled }).await {
            Ok(ScanEnded::Recorded) => self.scheduled = scheduled,
            Ok(ScanEnded::Fenced) => tracing::warn!(job = %name, "another node scans what was scanned here"),
            Err(error) => {
                tracing::warn!(job = %name, "that it was scanned could not be stored, it is scanned again: {error}");
            }
        }
    }

    /// It did not: it is tried again, and less often the oftener it fails.
    pub(super) fn failed(&mut self) {
        self.passes.failed(self.for_time.take());
    }

    /// What failed may do so no longer: the next sweep by the clock scans.
    pub(super) fn forget(&mut self) {
        self.passes = Passes::NONE;
    }

    /// Lets another node scan.
    pub(super) async fn give_up(&mut self) {
        let Some(node) = self.held_by.take() else { return };
        if let Err(error) = self.job.store.give_up_scan(self.job.id, node).await {
            tracing::debug!(job = %self.job.spec.name, "the scan stays this node's: {error}");
        }
    }

    /// How long until the next sweep by the clock: the interval, or less where
    /// the schedule's next time comes sooner.
    pub(super) fn until_tick(&self) -> Duration {
        let (job, now) = (&self.job, self.job.clock.now());
        let next = job.spec.schedule.as_ref().and_then(|schedule| schedule.next_after(now));
        next.map_or(job.spec.interval, |next| job.spec.interval.min(next.since(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_that_fail_are_tried_less_and_less_often() {
        let mut passes = Passes::NONE;
        let mut until_the_next = || {
            passes.failed(None);
            std::iter::from_fn(|| passes.take().then_some(())).count()
        };
        let waits: Vec<_> = (0..9).map(|_| until_the_next()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        let mut none = Passes::NONE;
        assert!(!none.take(), "the first is not passed");
    }

    #[test]
    fn a_new_time_of_the_schedule_is_not_passed_over() {
        const HOUR: u64 = 3_600_000;
        let hourly = Schedule::new("0 * * * *", "UTC").expect("a schedule");
        let failed = || {
            let mut passes = Passes::NONE;
            for _ in 0..5 {
                passes.failed(Some(Timestamp(5 * HOUR)));
            }
            passes
        };
        let (mut before, mut after) = (failed(), failed());
        before.end_where_another_is_due(Some(&hourly), Timestamp(6 * HOUR - 1));
        assert_eq!(before, failed());
        after.end_where_another_is_due(Some(&hourly), Timestamp(6 * HOUR));
        assert_eq!(after, Passes::NONE);
        // Without a schedule there is no such time.
        before.end_where_another_is_due(None, Timestamp(9 * HOUR));
        assert_eq!(before, failed());
    }
}
