//! How much to claim at a time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::job::JobSpec;

/// How much to claim: as much as was measured to take a quarter of a second, so
/// that slow tasks are not hoarded; at least one a thread, at most the capacity.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Option<Duration>>);

/// How much work a batch should be.
const BATCH: Duration = Duration::from_millis(250);

impl Pace {
    /// Takes in that `tasks` took a thread so long.
    pub(super) fn measured(&self, tasks: usize, busy: Duration) {
        let Ok(tasks) = u32::try_from(tasks) else { return };
        if tasks == 0 {
            return;
        }
        let each = busy / tasks;
        let mut mean = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *mean = Some(mean.map_or(each, |mean| (mean * 3 + each) / 4));
    }

    /// Tasks for the next batch.
    pub(super) fn batch(&self, job: &JobSpec) -> u32 {
        let threads = u32::try_from(job.concurrency).unwrap_or(u32::MAX);
        let mean = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The first batch of a job is a guess: a few tasks each.
        let fitting = mean.map_or(4, |mean| (BATCH.as_nanos() / mean.as_nanos().max(1)).max(1));
        let fitting = u32::try_from(fitting).unwrap_or(u32::MAX).saturating_mul(threads);
        fitting.clamp(threads, job.capacity.max(threads))
    }
}
