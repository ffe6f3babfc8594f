//! The gate through which every mutation of a file passes.
//!
//! ```text
//!   open ──close()──▶ closed      (for good: a resumed job gets a new gate)
//! ```
//! Check and system call run under a [`Permit`]. `close` lets no further permit
//! out at once; `drain` returns when none is held any more. Single tasks are
//! shut out by [`Gate::shut_out`], while the others go on.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::Notify;

use super::deadline::BootTime;
use crate::domain::task::TaskId;
use crate::faults::{KeyLock, Mutation};

/// When the right of this node to change files ends, in boot time; all gates of
/// a host share one.
#[derive(Debug)]
pub struct Lease(AtomicU64);

impl Lease {
    /// A lease that ends then.
    #[must_use]
    pub fn until(end: BootTime) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(end.as_nanos())))
    }

    /// A lease that does not end, for what no other node could take over.
    #[must_use]
    pub fn endless() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(u64::MAX)))
    }

    /// The lease was extended.
    pub fn extend(&self, end: BootTime) {
        self.0.store(end.as_nanos(), Ordering::SeqCst);
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.is_held_at(BootTime::now())
    }

    fn is_held_at(&self, now: BootTime) -> bool {
        now.as_nanos() < self.0.load(Ordering::SeqCst)
    }
}

/// Open while a job may change files: until a pause, a stop, or the end of the
/// node's lease.
#[derive(Debug)]
pub struct Gate {
    open: AtomicBool,
    lease: Arc<Lease>,
    held: RwLock<()>,
    /// Told when the gate closes, or somebody is shut out.
    changed: Notify,
    /// Whether anybody is shut out: asked at every permit, so without a lock.
    any_out: AtomicBool,
    out: Mutex<HashSet<TaskId>>,
}

/// The right to make one mutation.
pub struct Permit<'gate> {
    #[allow(dead_code, reason = "held, not read: dropping it is its use")]
    traced: Option<KeyLock>,
    #[allow(dead_code, reason = "held, not read: dropping it is its use")]
    held: RwLockReadGuard<'gate, ()>,
    /// When it was given.
    pub(super) at: BootTime,
}

impl Permit<'_> {
    /// The same, with the mutation in the trace where there is one.
    pub(super) fn traced(self, mutation: Mutation) -> Self {
        Self { traced: mutation.permitted(), ..self }
    }
}

impl Gate {
    /// An open gate under this lease.
    #[must_use]
    pub fn new(lease: Arc<Lease>) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicBool::new(true),
            lease,
            held: RwLock::new(()),
            changed: Notify::new(),
            any_out: AtomicBool::new(false),
            out: Mutex::default(),
        })
    }

    /// Whether permits are given.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst) && self.lease.is_held()
    }

    /// A permit, or `None` once the gate is closed or the lease has ended.
    #[must_use]
    pub fn enter(&self) -> Option<Permit<'_>> {
        // The lock comes first: whoever passes the check after `close` would
        // otherwise not be waited for.
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let at = BootTime::now();
        let is_open = self.open.load(Ordering::SeqCst) && self.lease.is_held_at(at);
        is_open.then_some(Permit { traced: None, held, at })
    }

    /// Lets nobody in any more, and wakes what waits inside a guest.
    pub fn close(&self) {
        self.open.store(false, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Lets a task in no more, and wakes it where it waits inside a guest: a
    /// person wants it to end.
    pub fn shut_out(&self, task: TaskId) {
        let mut out = self.out();
        out.insert(task);
        self.any_out.store(true, Ordering::SeqCst);
        drop(out);
        self.changed.notify_waiters();
    }

    /// Whether that task is shut out.
    #[must_use]
    pub fn is_out(&self, task: TaskId) -> bool {
        self.any_out.load(Ordering::SeqCst) && self.out().contains(&task)
    }

    /// The task has ended: its number never comes again.
    pub fn forget(&self, task: TaskId) {
        if self.any_out.load(Ordering::SeqCst) {
            let mut out = self.out();
            out.remove(&task);
            self.any_out.store(!out.is_empty(), Ordering::SeqCst);
        }
    }

    fn out(&self) -> MutexGuard<'_, HashSet<TaskId>> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no permit is held. Blocks the thread: a system call that
    /// hangs in the kernel is waited for.
    pub fn drain(&self) {
        drop(self.held.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Completes when the gate is closed, or the task is shut out. Cancel safe.
    pub async fn closed_for(&self, task: Option<TaskId>) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Before the look: what happens between the two is not missed.
            changed.as_mut().enable();
            if !self.open.load(Ordering::SeqCst) || task.is_some_and(|task| self.is_out(task)) {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn no_permit_after_close_or_lease() {
        let gate = Gate::new(Lease::endless());
        let permit = gate.enter();
        assert!(permit.is_some());
        gate.close();
        assert!(gate.enter().is_none());
        drop(permit);
        gate.drain();

        let lease = Lease::until(BootTime::now());
        let gate = Gate::new(Arc::clone(&lease));
        assert!(gate.enter().is_none());
        lease.extend(BootTime::now().after(Duration::from_mins(1)));
        assert!(gate.enter().is_some());
    }

    #[test]
    fn drain_waits_for_permits() {
        let gate = Gate::new(Lease::endless());
        let (entered, done) = (std::sync::Barrier::new(2), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _permit = gate.enter().expect("the gate is open");
                entered.wait();
                std::thread::yield_now();
                done.store(true, Ordering::SeqCst);
            });
            entered.wait();
            gate.close();
            gate.drain();
            assert!(done.load(Ordering::SeqCst));
        });
    }
}
