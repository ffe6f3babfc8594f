//! The call that an instance is in: for which task, until when, and what it has
//! changed so far. Shared with the streams that the guest holds.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::digest::Digest;
use crate::domain::effect::Operation;
use crate::domain::hold::Hold;
use crate::domain::outcome::Progress;
use crate::domain::task::TaskId;
use crate::domain::time::Timestamp;
use crate::faults::{self, Mutation};

use super::custody::Custody;
use super::deadline::{BootTime, SharedDeadline};
use super::done::Deeds;
use super::gate::{Gate, Permit};
use super::guest::Role;
use super::trouble::Trouble;

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
    /// The host could not make the change, for no fault of the plugin's.
    #[error("interrupted: {0}")]
    Hindered(Hindrance),
    /// It asked for more changes than one call may.
    #[error("interrupted after {0} changes")]
    Changes(u32),
    /// It asked to write more bytes than one call may.
    #[error("interrupted before it wrote more than {0} bytes")]
    Written(u64),
}

/// What keeps the host from making a change that a plugin may make. The task is
/// not charged an attempt, and the job tries again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Hindrance {
    /// The journal has no room for the intent.
    #[error(
        "no change can be written down before it is made: the disk of the state folder is full; free space there, the \
         job goes on by itself"
    )]
    JournalFull,
    /// The journal could not be written for another reason.
    #[error("no change can be written down before it is made: the journal in the state folder fails; the log says why")]
    JournalFailed,
    /// The trash is on a full disk, and has no room for another name.
    #[error(
        "the trash of a mount has no room for another file: its disk is full; free space with sweepd trash purge, or \
         by trash_min_free"
    )]
    TrashFull,
    /// The file system has no room left to remove anything.
    #[error("the file system of a mount is so full that it refuses to remove files; free some space there by hand")]
    RemovalRefused,
    /// The file system is mounted read-only.
    #[error(
        "the file system of a mount is read-only: nothing there can be removed or changed; the kernel's log may say why; \
         the job goes on by itself when it is mounted for writing again"
    )]
    MountReadOnly,
    /// The file system, or a quota on it, has no room for what is made or written.
    #[error("the file system of a mount is full: free space there, the job goes on by itself")]
    MountFull,
    /// The file system as a whole answers with errors.
    #[error(
        "the file system of a mount answers with errors: look at the disk or the server behind it, and at the kernel's \
         log; the job goes on by itself when it answers again"
    )]
    MountBroken,
}

impl Hindrance {
    /// Whether it is the trouble of one mount, so that what is to be done in
    /// another one can be.
    #[must_use]
    pub fn is_of_a_mount(self) -> bool {
        !matches!(self, Self::JournalFull | Self::JournalFailed)
    }
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
    /// The last thing that was refused in this call. The first is logged: one
    /// line is enough.
    refused: Mutex<Option<String>>,
    /// Changes that the call has asked for.
    asked: AtomicU32,
    /// Bytes that it has asked to write.
    asked_bytes: AtomicU64,
    held: Mutex<Option<Held>>,
    /// What a look at a mount was answered with that may be the mount's own trouble.
    pub(super) trouble: Mutex<Trouble>,
    /// The oldest holds that something was found free of since the last change.
    pub(super) checked: AtomicU64,
    /// Changes that were made, and files that were removed and made by them.
    changes: AtomicU64,
    removed: AtomicU64,
    made: AtomicU64,
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
            refused: Mutex::default(),
            asked: AtomicU32::new(0),
            asked_bytes: AtomicU64::new(0),
            held: Mutex::default(),
            trouble: Mutex::default(),
            checked: AtomicU64::new(u64::MAX),
            changes: AtomicU64::new(0),
            removed: AtomicU64::new(0),
            made: AtomicU64::new(0),
            deeds: Mutex::default(),
        })
    }

    /// The next call of the instance begins.
    pub(super) fn renew(&self, task: Option<(TaskId, u32)>) {
        self.deadline.renew(self.limit);
        *locked(&self.refused) = None;
        for count in [&self.changes, &self.removed, &self.made] {
            count.store(0, Ordering::Relaxed);
        }
        self.asked.store(0, Ordering::Relaxed);
        self.asked_bytes.store(0, Ordering::Relaxed);
        *locked(&self.trouble) = None;
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

    /// Counts a change that was made.
    pub(super) fn has_changed(&self, operation: Operation) {
        self.changes.fetch_add(1, Ordering::Relaxed);
        match operation {
            Operation::Remove => self.removed.fetch_add(1, Ordering::Relaxed),
            Operation::Create | Operation::Link => self.made.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    /// How much it has changed so far.
    pub(super) fn progress(&self) -> Progress {
        let [changes, removed, made] =
            [&self.changes, &self.removed, &self.made].map(|count| count.load(Ordering::Relaxed));
        Progress { changes, removed: removed.saturating_sub(made) }
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
        let before = self.asked.fetch_add(1, Ordering::Relaxed);
        if before < limit { Ok(()) } else { Err(Interrupt::Changes(limit)) }
    }

    /// Counts so many more bytes against what the call may write.
    pub(super) fn count_written(&self, bytes: u64) -> Result<(), Interrupt> {
        let limit = self.custody.job.limits.written;
        let before = self.asked_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= limit { Ok(()) } else { Err(Interrupt::Written(limit)) }
    }

    /// The right to make one mutation now.
    pub(super) fn permit(&self) -> Result<Permit<'_>, Interrupt> {
        faults::before_permit();
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
        let told = format!("{what} refused: {why}");
        let is_first = locked(&self.refused).replace(told.clone()).is_none();
        if is_first {
            let (job, task) = (&self.custody.job.name, self.task().and_then(TaskId::in_queue));
            tracing::warn!(target: "sweepd::guest", %job, task = task.map(|task| task.0), "{told}");
        }
    }

    /// The last thing that was refused in this call, and why.
    pub(super) fn refusal(&self) -> Option<String> {
        locked(&self.refused).clone()
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
