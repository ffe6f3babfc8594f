//! Deadlines on a clock that counts the time a machine was suspended: a lease
//! runs out on the other nodes' clocks meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Time since the machine was started, suspension included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(Duration);

impl BootTime {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        #[cfg(target_os = "linux")]
        let clock = rustix::time::ClockId::Boottime;
        // Elsewhere the monotonic clock is the nearest; only Linux runs in production.
        #[cfg(not(target_os = "linux"))]
        let clock = rustix::time::ClockId::Monotonic;
        let now = rustix::time::clock_gettime(clock);
        Self(Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0)))
    }

    /// This point and `delay` more.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(delay))
    }

    /// How long before `self` the point `earlier` was; zero if it was not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// How long the machine has been running.
    #[must_use]
    pub fn running(self) -> Duration {
        self.0
    }

    /// Nanoseconds since the start of the machine, for an atomic.
    #[must_use]
    pub fn as_nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The point after which a call is interrupted, shared by all that the call
/// holds open.
#[derive(Clone, Debug)]
pub(super) struct SharedDeadline(Arc<AtomicU64>);

impl SharedDeadline {
    /// So long from now.
    pub(super) fn within(limit: Duration) -> Self {
        let deadline = Self(Arc::new(AtomicU64::new(0)));
        deadline.renew(limit);
        deadline
    }

    /// Moves it to so long from now.
    pub(super) fn renew(&self, limit: Duration) {
        self.0.store(BootTime::now().after(limit).as_nanos(), Ordering::SeqCst);
    }

    /// Whether it has passed by `now`.
    pub(super) fn has_passed(&self, now: BootTime) -> bool {
        now.as_nanos() >= self.0.load(Ordering::SeqCst)
    }

    /// What is left; zero once it has passed.
    pub(super) fn left(&self) -> Duration {
        let ends = self.0.load(Ordering::SeqCst);
        Duration::from_nanos(ends.saturating_sub(BootTime::now().as_nanos()))
    }
}
