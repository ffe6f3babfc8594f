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

/// A job's right to scan, at this node.
pub(super) struct Scans {
    job: Arc<Job>,
    /// The life that holds the scan.
    held_by: Option<NodeId>,
    /// The last time of the schedule that was scanned, at any node.
    scheduled: Timestamp,
    /// The time of the schedule for which the present sweep scans.
    for_time: Option<Timestamp>,
    /// How many sweeps by the clock pass without a scan, now and after the next
    /// one that fails.
    pass: u32,
    pass_next: u32,
}

impl Scans {
    pub(super) fn new(job: Arc<Job>) -> Self {
        let scheduled = job.scheduled;
        Self { job, held_by: None, scheduled, for_time: None, pass: 0, pass_next: 1 }
    }

    /// Whether a sweep that begins now may scan.
    pub(super) async fn may(&mut self, why: Why) -> bool {
        self.for_time = None;
        if why == Why::Tick && self.pass > 0 {
            self.pass -= 1;
            return false;
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
        (self.pass, self.pass_next) = (0, 1);
        let Some(scheduled) = self.for_time.take() else { return };
        let (job, name) = (self.job.id, &self.job.spec.name);
        let Some(node) = self.held_by else { return };
        match self.job.store.end_scan(EndScan { job, node, scheduled }).await {
            Ok(ScanEnded::Recorded) => self.scheduled = scheduled,
            Ok(ScanEnded::Fenced) => tracing::warn!(job = %name, "another node scans what was scanned here"),
            Err(error) => {
                tracing::warn!(job = %name, "that it was scanned could not be stored, it is scanned again: {error}")
            }
        }
    }

    /// It did not: it is tried again, and less often the oftener it fails.
    pub(super) fn failed(&mut self) {
        self.for_time = None;
        self.pass = self.pass_next;
        self.pass_next = (self.pass_next * 2).min(PASSED_AT_MOST);
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
