//! How far a host is on its way out: what all its jobs ask before they begin
//! anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// How far the host is on its way out.
#[derive(Clone, Debug, Default)]
pub(super) struct Phase(Arc<AtomicU8>);

impl Phase {
    const STOPPING: u8 = 1;
    const HALTED: u8 = 2;

    /// No task is begun any more; those that run may end.
    pub(super) fn stop(&self) {
        self.0.fetch_max(Self::STOPPING, Ordering::SeqCst);
    }

    /// What still runs is interrupted, and nothing is waited for.
    pub(super) fn halt(&self) {
        self.0.fetch_max(Self::HALTED, Ordering::SeqCst);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.0.load(Ordering::SeqCst) >= Self::STOPPING
    }

    pub(super) fn is_halted(&self) -> bool {
        self.0.load(Ordering::SeqCst) >= Self::HALTED
    }
}
