//! Counts what a job takes away and makes against its budget, before it is done:
//! the job's [`Ledger`], shared by all threads of this node.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::budget::{Budget, Changed, OverBudget, Spent};
use crate::domain::ledger::{Ledger, Others};
use crate::domain::time::Timestamp;

/// The meter of one job on this node.
#[derive(Debug)]
pub struct Meter {
    ledger: Mutex<Ledger>,
    /// When the counting of the files began that is known.
    counted_at: AtomicU64,
}

impl Meter {
    pub(super) fn new(budget: Budget) -> Self {
        Self { ledger: Mutex::new(Ledger::new(budget)), counted_at: AtomicU64::new(0) }
    }

    /// A sweep begins. `exempt` lets it go over the budget.
    pub fn begin_sweep(&self, others: Others, exempt: bool) {
        self.ledger().begin_sweep(others, exempt);
    }

    /// Goes on from where `other` stands: a simulation is judged as the sweep
    /// that it simulates would be.
    pub fn go_on_from(&self, other: &Self) {
        let ledger = other.ledger().clone();
        *self.ledger() = ledger;
    }

    /// Why something was refused since the sweep began, if it was.
    #[must_use]
    pub fn over(&self) -> Option<OverBudget> {
        self.ledger().over().cloned()
    }

    /// What the sweep would go over, or has gone over: also where it may.
    #[must_use]
    pub fn would_be_over(&self) -> Option<OverBudget> {
        self.ledger().would_be_over().cloned()
    }

    /// What this sweep has taken away so far.
    #[must_use]
    pub fn spent(&self) -> Spent {
        self.ledger().in_sweep()
    }

    /// The mounts were found to hold so many files, by a count that began `at`.
    pub fn counted(&self, files: u64, at: Timestamp) {
        self.ledger().counted(files);
        self.counted_at.store(at.0, Ordering::Relaxed);
    }

    /// When the count began that is known; zero where there is none.
    #[must_use]
    pub fn counted_at(&self) -> Timestamp {
        Timestamp(self.counted_at.load(Ordering::Relaxed))
    }

    /// What was taken away in the last hour, by anybody as far as it is known.
    #[must_use]
    pub fn in_hour(&self, now: Timestamp) -> Spent {
        self.ledger().in_hour(now)
    }

    /// Whether the sweep may begin: a share of files needs their number.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ledger().is_ready()
    }

    /// A file was made.
    pub fn made(&self, now: Timestamp) {
        self.ledger().changed(Changed { removed: 0, made: 1 }, now);
    }

    /// Takes `cost` off the budget, or says why not.
    pub(super) fn take(&self, cost: Spent, now: Timestamp) -> Result<(), OverBudget> {
        self.ledger().take(cost, now)
    }

    /// It was not taken after all.
    pub(super) fn give_back(&self, cost: Spent) {
        self.ledger().give_back(cost);
    }

    /// A file is gone for good.
    pub(super) fn gone(&self, now: Timestamp) {
        self.ledger().changed(Changed { removed: 1, made: 0 }, now);
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
