//! The gate through which every mutation of a file passes.
//!
//! ```text
//!   open ──close()──▶ closed      (for good: a resumed job gets a new gate)
//! ```
//! Check and system call run under a [`Permit`]. `close` lets no further permit
//! out at once. `drained` completes when every permit that was out has come back:
//! whoever changes what is checked under a permit, a closed gate, a task that is
//! shut out, a hold, and then drains, knows that no mutation goes by the old
//! state any more. Permits that are given meanwhile are not held up. Single
//! tasks are shut out by [`Gate::shut_out`], while the others go on.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedMutexGuard};

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
    /// The permits that are out, of this gate and those before and after it.
    out_now: Arc<PermitsOut>,
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
    counted: Counted<'gate>,
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
        Self::with(lease, Arc::default())
    }

    /// The open gate that takes the place of this one. Draining either of them
    /// waits for the permits of both.
    #[must_use]
    pub fn successor(&self) -> Arc<Self> {
        Self::with(Arc::clone(&self.lease), Arc::clone(&self.out_now))
    }

    fn with(lease: Arc<Lease>, out_now: Arc<PermitsOut>) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicBool::new(true),
            lease,
            out_now,
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
        // Counted first: whoever passes the check after `close` would otherwise
        // not be waited for.
        let counted = self.out_now.count();
        let at = BootTime::now();
        let is_open = self.open.load(Ordering::SeqCst) && self.lease.is_held_at(at);
        is_open.then_some(Permit { traced: None, counted, at })
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

    /// Waits until every permit that is out now has come back; later ones are
    /// neither waited for nor held up. A system call that hangs in the kernel is
    /// waited for, by a thread of its own: however many ask, one thread waits for
    /// the permits of a job at a time. Dropped, the thread waits on.
    pub async fn drained(self: Arc<Self>) {
        let turn = Arc::clone(&self.out_now.turn).lock_owned().await;
        let waits = move || self.out_now.wait(&turn);
        let _ = tokio::task::spawn_blocking(waits).await;
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

/// Counts the permits that are out, on two sides: new ones are counted on the
/// side that is not waited for.
///
/// Whoever waits has changed something before. A permit is counted before the
/// state is looked at. So one that is counted after the wait began sees the new
/// state, and all others are on either side when that is waited for. All of it
/// goes in one order (`SeqCst`).
#[derive(Debug, Default)]
struct PermitsOut {
    side: AtomicUsize,
    counts: [AtomicUsize; 2],
    /// Somebody waits; whoever brings a count to zero looks here.
    is_awaited: AtomicBool,
    /// Held by who waits, one at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
    zero: Mutex<()>,
    told: Condvar,
}

/// A permit in the count.
struct Counted<'a> {
    all: &'a PermitsOut,
    side: usize,
}

impl PermitsOut {
    fn count(&self) -> Counted<'_> {
        let side = self.side.load(Ordering::SeqCst);
        self.counts[side].fetch_add(1, Ordering::SeqCst);
        Counted { all: self, side }
    }

    /// Blocks until all that are out have come back. The turn is held meanwhile:
    /// two that wait at once would turn the sides under each other.
    fn wait(&self, _turn: &OwnedMutexGuard<()>) {
        self.is_awaited.store(true, Ordering::SeqCst);
        for _ in 0..2 {
            let side = self.side.fetch_xor(1, Ordering::SeqCst);
            let mut zero = self.zero.lock().unwrap_or_else(PoisonError::into_inner);
            while self.counts[side].load(Ordering::SeqCst) > 0 {
                zero = self.told.wait(zero).unwrap_or_else(PoisonError::into_inner);
            }
        }
        self.is_awaited.store(false, Ordering::SeqCst);
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let was_last = self.all.counts[self.side].fetch_sub(1, Ordering::SeqCst) == 1;
        if was_last && self.all.is_awaited.load(Ordering::SeqCst) {
            // Who waits has looked at the count already, or looks after this.
            drop(self.all.zero.lock().unwrap_or_else(PoisonError::into_inner));
            self.all.told.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    impl Gate {
        fn drain(&self) {
            self.out_now.wait(&Arc::clone(&self.out_now.turn).blocking_lock_owned());
        }
    }

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

    #[test]
    fn drain_waits_for_the_permits_of_earlier_gates_and_holds_up_no_later_one() {
        let gate = Gate::new(Lease::endless());
        let next = gate.successor();
        let permit = gate.enter().expect("the gate is open");
        gate.close();
        let drained = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                next.drain();
                drained.store(true, Ordering::SeqCst);
            });
            // As many as it takes until it waits, and then some.
            while !next.out_now.is_awaited.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            for _ in 0..1000 {
                drop(next.enter().expect("the gate is open"));
            }
            assert!(!drained.load(Ordering::SeqCst), "one is out yet");
            drop(permit);
        });
        assert!(drained.load(Ordering::SeqCst));
    }

    /// What is changed before a drain is seen by all that begins after it.
    #[test]
    fn no_permit_goes_by_the_old_state_after_a_drain() {
        let gate = Gate::new(Lease::endless());
        let (state, done) = (AtomicU64::new(0), AtomicU64::new(0));
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(Ordering::SeqCst) {
                        let permit = gate.enter().expect("the gate is open");
                        let seen = state.load(Ordering::SeqCst);
                        std::hint::spin_loop();
                        let drained = done.load(Ordering::SeqCst);
                        drop(permit);
                        assert!(drained <= seen, "a permit for state {seen} is out after {drained} was drained");
                    }
                });
            }
            for round in 1..=2000 {
                state.store(round, Ordering::SeqCst);
                gate.drain();
                done.store(round, Ordering::SeqCst);
            }
            stop.store(true, Ordering::SeqCst);
        });
    }

    #[test]
    fn however_many_wait_one_thread_does() {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).max_blocking_threads(2).enable_time().build().unwrap();
        let gate = Gate::new(Lease::endless());
        let permit = gate.enter().unwrap();
        runtime.block_on(async {
            for _ in 0..10 {
                let asked = tokio::time::timeout(Duration::from_millis(5), Arc::clone(&gate).drained()).await;
                assert!(asked.is_err(), "a permit is out");
            }
            let other = tokio::time::timeout(Duration::from_mins(1), tokio::task::spawn_blocking(|| 7)).await;
            assert_eq!(other.expect("a thread is left for others").unwrap(), 7);
            drop(permit);
            Arc::clone(&gate).drained().await;
        });
    }
}
