//! How much of the queue a dispatcher can take at a time.
//!
//! A claim may be more than the guest's memory or its deadline admits. After a
//! dispatch that crashed the next claims are smaller, in tasks and in bytes, until
//! one is decided; after some that were they grow again. Its invariant: a claim
//! that crashed a dispatcher is not made again at the same size by the next sweep.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::digest::Digest;
use crate::domain::task::{ClaimedTask, Payload};

/// A crash makes the next claim so many times smaller: from the largest capacity
/// to one task before the breaker takes the plugin for broken.
const SMALLER: u64 = 8;

/// So many dispatches that went well double the bound, and so many where that
/// reaches what failed.
const BELOW: u32 = 4;
const AT_THE_MARK: u32 = 64;

/// How much was claimed: tasks, and the bytes of their keys and payloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    tasks: u64,
    bytes: u64,
}

impl Size {
    /// Of these tasks together.
    pub(super) fn of(tasks: &[ClaimedTask]) -> Self {
        Self { tasks: tasks.len() as u64, bytes: tasks.iter().map(bytes).sum() }
    }

    fn map(self, change: impl Fn(u64) -> u64) -> Self {
        Self { tasks: change(self.tasks), bytes: change(self.bytes) }
    }
}

fn bytes(task: &ClaimedTask) -> u64 {
    (task.key.as_str().len() + task.payload.as_ref().map_or(0, |payload| Payload::as_str(payload).len())) as u64
}

/// The bound of one job at this node; none until a dispatch crashes.
#[derive(Debug, Default)]
pub(super) struct Fit(Mutex<Option<Bound>>);

#[derive(Clone, Copy, Debug)]
struct Bound {
    /// Another component may have more room.
    component: Digest,
    most: Size,
    /// What failed last.
    failed: Size,
    /// Dispatches that went well since the bound was changed.
    went_well: u32,
}

impl Fit {
    /// How many tasks to claim instead of `wanted`.
    pub(super) fn tasks(&self, wanted: u32) -> u32 {
        let most = self.locked().map_or(u64::MAX, |bound| bound.most.tasks.max(1));
        wanted.min(u32::try_from(most).unwrap_or(u32::MAX))
    }

    /// Takes out what is beyond the bound's bytes; the first task stays always.
    pub(super) fn excess(&self, tasks: &mut Vec<ClaimedTask>) -> Vec<ClaimedTask> {
        let Some(Bound { most, .. }) = *self.locked() else { return Vec::new() };
        let mut sum = 0;
        let fitting = tasks.iter().take_while(|task| {
            sum += bytes(task);
            sum <= most.bytes
        });
        let fitting = fitting.count().max(1);
        tasks.split_off(fitting.min(tasks.len()))
    }

    /// The dispatcher of this component crashed over so much.
    pub(super) fn crashed(&self, component: Digest, size: Size) {
        if size.tasks > 0 {
            let most = size.map(|value| (value / SMALLER).max(1));
            *self.locked() = Some(Bound { component, most, failed: size, went_well: 0 });
        }
    }

    /// The dispatcher of this component decided about so much. What is far below the
    /// bound says nothing of it.
    pub(super) fn decided(&self, component: Digest, size: Size, capacity: u32) {
        let mut bound = self.locked();
        let Some(Bound { component: bounded, most, failed, went_well }) = bound.as_mut() else { return };
        if *bounded != component {
            *bound = None;
            return;
        }
        if size.tasks * 2 < most.tasks && size.bytes * 2 < most.bytes {
            return;
        }
        let twice = most.map(|value| value.saturating_mul(2));
        let needed = if twice.tasks < failed.tasks && twice.bytes < failed.bytes { BELOW } else { AT_THE_MARK };
        *went_well += 1;
        if *went_well < needed {
            return;
        }
        (*most, *went_well) = (twice, 0);
        if most.tasks >= u64::from(capacity) && most.bytes > failed.bytes {
            *bound = None;
        }
    }

    fn locked(&self) -> MutexGuard<'_, Option<Bound>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::task::{Fence, Key, TaskId};
    use crate::domain::time::Timestamp;

    use super::*;

    fn claimed(count: u64, payload: usize) -> Vec<ClaimedTask> {
        let task = |number| ClaimedTask {
            id: TaskId(number),
            key: Key::new("k").unwrap(),
            payload: Some(Payload::new("x".repeat(payload)).unwrap()),
            attempt: 1,
            losses: 0,
            enqueued_at: Timestamp(1),
            postponed_since: None,
            fence: Fence(1),
            removed: 0,
        };
        (0..count).map(task).collect()
    }

    #[test]
    fn a_claim_that_crashed_comes_smaller_until_it_fits_and_grows_again() {
        let (fit, component) = (Fit::default(), Digest::of(b"a"));
        assert_eq!(fit.tasks(2000), 2000);
        let mut crashes = 0;
        // It has room for a hundred tasks.
        let mut dispatch = |fit: &Fit| {
            let size = Size { tasks: u64::from(fit.tasks(2000)), bytes: 0 };
            if size.tasks > 100 {
                fit.crashed(component, size);
                crashes += 1;
            } else {
                fit.decided(component, size, 2000);
            }
            size.tasks
        };
        assert_eq!([(); 3].map(|()| dispatch(&fit)), [2000, 250, 31]);
        let sizes: Vec<_> = (0..300).map(|_| dispatch(&fit)).collect();
        assert!(sizes.contains(&62), "it grows: {sizes:?}");
        assert!(crashes < 10, "and meets its bound rarely: {crashes}");
        // Another component may have more room.
        fit.decided(Digest::of(b"b"), Size::default(), 2000);
        assert_eq!(fit.tasks(2000), 2000);
        fit.crashed(component, Size { tasks: 2, bytes: 2 });
        fit.decided(component, Size::default(), 2000);
        for _ in 0..1000 {
            fit.decided(component, Size { tasks: u64::from(fit.tasks(2000)), bytes: 1 }, 2000);
        }
        assert_eq!(fit.tasks(2000), 2000, "it goes when it is of no use");
    }

    #[test]
    fn bytes_are_bounded_too_and_one_task_goes_always() {
        let (fit, component) = (Fit::default(), Digest::of(b"a"));
        let mut tasks = claimed(64, 1000);
        assert!(fit.excess(&mut tasks).is_empty());
        fit.crashed(component, Size::of(&tasks));
        let excess = fit.excess(&mut tasks);
        assert_eq!((tasks.len(), excess.len(), excess[0].id), (8, 56, TaskId(8)));
        let mut large = claimed(3, 60_000);
        assert_eq!(fit.excess(&mut large).len(), 2);
        assert!(fit.excess(&mut Vec::new()).is_empty());
    }
}
