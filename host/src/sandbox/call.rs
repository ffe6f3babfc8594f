//! The call that an instance is in: for which task, until when, and what it has
//! changed so far. Shared with the streams that the guest holds.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::digest::Digest;
use crate::domain::hold::Hold;
use crate::domain::task::TaskId;
use crate::domain::time::Timestamp;
use crate::faults::Mutation;

use super::custody::Custody;
use super::deadline::{BootTime, SharedDeadline};
use super::done::Deeds;
use super::gate::{Gate, Permit};
use super::guest::Role;

/// Why the host interrupted a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Interrupt {
    /// Its deadline has passed.
    #[error("interrupted at its deadline of {0:?}")]
    Deadline(Duration),
    /// The gate was closed: a pause, a stop, or the end of the lease.
    #[error("interrupted by the host")]
    Stopped,
    /// A person wants the task to end.
    #[error("interrupted by hand")]
    Asked,
    /// It would have gone over the job's budget.
    #[error("interrupted before it went over the budget")]
    OverBudget,
    /// It asked for more changes than one call may.
    #[error("interrupted after {0} changes")]
    Changes(u32),
    /// It asked to write more bytes than one call may.
    #[error("interrupted before it wrote more than {0} bytes")]
    Written(u64),
}

/// A hold that a call met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What was held, and why, in words.
    pub reason: String,
    /// When the hold ends, if it does.
    pub until: Option<Timestamp>,
}

/// The call that an instance is in.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) role: Role,
    pub(super) digest: Digest,
    pub(super) custody: Arc<Custody>,
    gate: Arc<Gate>,
    deadline: SharedDeadline,
    limit: Duration,
    /// The task; 0 for none.
    task: AtomicU64,
    attempt: AtomicU32,
    /// Counts the calls of the instance.
    number: AtomicU64,
    /// Whether a refused change was logged in this call: one line is enough.
    refused: AtomicBool,
    /// Changes that the call has asked for.
    changes: AtomicU32,
    /// Bytes that it has asked to write.
    written: AtomicU64,
    held: Mutex<Option<Held>>,
    pub(super) deeds: Mutex<Deeds>,
}

impl Call {
    /// A call that ends after `limit`.
    pub(super) fn new(
        role: Role,
        digest: Digest,
        custody: Arc<Custody>,
        gate: Arc<Gate>,
        limit: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            role,
            digest,
            custody,
            gate,
            deadline: SharedDeadline::within(limit),
            limit,
            task: AtomicU64::new(0),
            attempt: AtomicU32::new(0),
            number: AtomicU64::new(1),
            refused: AtomicBool::new(false),
            changes: AtomicU32::new(0),
            written: AtomicU64::new(0),
            held: Mutex::default(),
            deeds: Mutex::default(),
        })
    }

    /// The next call of the instance begins.
    pub(super) fn renew(&self, task: Option<(TaskId, u32)>) {
        self.deadline.renew(self.limit);
        self.refused.store(false, Ordering::Relaxed);
        self.changes.store(0, Ordering::Relaxed);
        self.written.store(0, Ordering::Relaxed);
        let (task, attempt) = task.map_or((0, 0), |(task, attempt)| (task.0, attempt));
        self.task.store(task, Ordering::Relaxed);
        self.attempt.store(attempt, Ordering::Relaxed);
        self.number.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// The time until its deadline.
    pub(super) fn left(&self) -> Duration {
        self.deadline.left()
    }

    pub(super) fn task(&self) -> Option<TaskId> {
        Some(TaskId(self.task.load(Ordering::Relaxed))).filter(|task| task.0 > 0)
    }

    pub(super) fn attempt(&self) -> u32 {
        self.attempt.load(Ordering::Relaxed)
    }

    /// Which call of the instance this is, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    /// Whether it may go on.
    pub(super) fn check(&self) -> Result<(), Interrupt> {
        if !self.gate.is_open() {
            return Err(Interrupt::Stopped);
        }
        self.check_itself(BootTime::now())
    }

    /// The same behind an open gate.
    fn check_itself(&self, now: BootTime) -> Result<(), Interrupt> {
        if self.deadline.has_passed(now) {
            return Err(Interrupt::Deadline(self.limit));
        }
        if self.task().is_some_and(|task| self.gate.is_out(task)) {
            return Err(Interrupt::Asked);
        }
        Ok(())
    }

    /// Counts one more change against what the call may ask for.
    pub(super) fn count_change(&self) -> Result<(), Interrupt> {
        let limit = self.custody.job.limits.changes;
        let before = self.changes.fetch_add(1, Ordering::Relaxed);
        if before < limit { Ok(()) } else { Err(Interrupt::Changes(limit)) }
    }

    /// Counts so many more bytes against what the call may write.
    pub(super) fn count_written(&self, bytes: u64) -> Result<(), Interrupt> {
        let limit = self.custody.job.limits.written;
        let before = self.written.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= limit { Ok(()) } else { Err(Interrupt::Written(limit)) }
    }

    /// The right to make one mutation now.
    pub(super) fn permit(&self) -> Result<Permit<'_>, Interrupt> {
        let mutation = Mutation::asks();
        let permit = self.gate.enter().ok_or(Interrupt::Stopped)?;
        self.check_itself(permit.at)?;
        Ok(permit.traced(mutation))
    }

    /// Runs `wait` until it completes, the deadline passes or the gate closes.
    pub(super) async fn bounded<T>(&self, wait: impl Future<Output = T>) -> Result<T, Interrupt> {
        tokio::select! {
            biased;
            done = wait => Ok(done),
            () = self.gate.closed_for(self.task()) => Err(self.check().err().unwrap_or(Interrupt::Stopped)),
            () = tokio::time::sleep(self.deadline.left()) => Err(Interrupt::Deadline(self.limit)),
        }
    }

    /// Tells the operator, once a call: a guest that tries in a loop must not
    /// fill the log.
    pub(super) fn say_refused(&self, what: &str, why: &str) {
        if !self.refused.swap(true, Ordering::Relaxed) {
            let job = &self.custody.job.name;
            tracing::warn!(target: "sweepd::guest", %job, task = self.task().map(|task| task.0), "{what} refused: {why}");
        }
    }

    /// Notes that a hold was met.
    pub(super) fn meet(&self, hold: &Hold, path: &str) {
        let reason = format!("held: {path} by hold {} on {}: {}", hold.id, hold.pattern, hold.why);
        self.say_refused("a change", &reason);
        locked(&self.held).get_or_insert(Held { reason, until: hold.until });
    }

    /// The hold that was met since this was last asked, if any.
    pub(super) fn take_held(&self) -> Option<Held> {
        locked(&self.held).take()
    }

    pub(super) fn deeds(&self) -> MutexGuard<'_, Deeds> {
        locked(&self.deeds)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
