//! What a job has taken away and made, held against its budget. A sweep, its preflight
//! and its plan keep the same ledger, so that they agree on what is too much.
//!
//! The invariant: a share is one of the files that the mounts held when its
//! period began. Neither removing files nor making them moves that bound.

use std::collections::VecDeque;

use super::budget::{Budget, Changed, OverBudget, Period, Spent};
use super::time::Timestamp;

/// An hour in the slots in which it is counted.
const SLOTS: u64 = 60;
const SLOT: u64 = 60_000;

/// What was done in the last hour by anybody but whoever keeps the ledger:
/// other nodes, and earlier lives of this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// What they took away.
    pub spent: Spent,
    /// What they changed before the files were counted. Later changes of theirs
    /// are not in the count yet.
    pub changed: Changed,
}

/// The account of one job: what it may take away, and what it took.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    budget: Budget,
    sweep: Spent,
    /// What was done under this ledger in the last hour, by minute.
    hour: VecDeque<Minute>,
    /// All of these but the last, added up: it is asked for at every change, and
    /// is another once a minute.
    earlier: Minute,
    others: Others,
    /// Files in the job's mounts now, where they were counted.
    files: Option<u64>,
    /// Files in them when the sweep began.
    at_begin: Option<u64>,
    /// This sweep may go over.
    exempt: bool,
    /// The first thing that went over in this sweep, or would have.
    over: Option<OverBudget>,
}

/// What was done in one minute.
#[derive(Clone, Copy, Debug, Default)]
struct Minute {
    at: u64,
    spent: Spent,
    changed: Changed,
}

impl Ledger {
    /// An empty one.
    #[must_use]
    pub fn new(budget: Budget) -> Self {
        Self { budget, ..Self::default() }
    }

    /// A sweep begins. `exempt` lets it go over the budget.
    pub fn begin_sweep(&mut self, others: Others, exempt: bool) {
        (self.sweep, self.others, self.exempt, self.over) = (Spent::default(), others, exempt, None);
        self.at_begin = self.files;
    }

    /// The mounts were found to hold so many files. For a sweep that has begun,
    /// the number of its beginning stands.
    pub fn counted(&mut self, files: u64) {
        self.files = Some(files);
        self.at_begin.get_or_insert(files);
    }

    /// Whether a sweep may begin: a share of files needs their number.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.budget.needs_count() || self.files.is_some()
    }

    /// Why the sweep must end, if it must.
    #[must_use]
    pub fn over(&self) -> Option<&OverBudget> {
        self.over.as_ref().filter(|_| !self.exempt)
    }

    /// What the sweep would go over, or has gone over: also where it may.
    #[must_use]
    pub fn would_be_over(&self) -> Option<&OverBudget> {
        self.over.as_ref()
    }

    /// What this sweep has taken away so far.
    #[must_use]
    pub fn in_sweep(&self) -> Spent {
        self.sweep
    }

    /// What was taken away in the last hour, by anybody as far as it is known.
    pub fn in_hour(&mut self, now: Timestamp) -> Spent {
        self.forget_before(now);
        self.others.spent.plus(self.earlier.spent).plus(self.last().spent)
    }

    /// Takes `cost` off the budget. An error is what it would go over; then
    /// nothing is taken.
    pub fn take(&mut self, cost: Spent, now: Timestamp) -> Result<(), OverBudget> {
        let sweep = self.sweep.plus(cost);
        if let Err(over) = self.check(sweep, cost, now) {
            self.over.get_or_insert_with(|| over.clone());
            if !self.exempt {
                return Err(over);
            }
        }
        self.sweep = sweep;
        let minute = self.minute(now);
        minute.spent = minute.spent.plus(cost);
        Ok(())
    }

    fn check(&mut self, sweep: Spent, cost: Spent, now: Timestamp) -> Result<(), OverBudget> {
        if self.budget.is_none() {
            return Ok(());
        }
        self.budget.sweep.check(Period::Sweep, sweep.asked_by(cost), self.at_begin)?;
        let hour = self.in_hour(now).plus(cost);
        self.budget.hour.check(Period::Hour, hour.asked_by(cost), self.an_hour_ago())
    }

    /// How many files there were before all that was done in the last hour.
    fn an_hour_ago(&self) -> Option<u64> {
        let changed = self.others.changed.plus(self.earlier.changed).plus(self.last().changed);
        self.files.map(|files| changed.undone(files))
    }

    /// `cost` was not taken after all.
    pub fn give_back(&mut self, cost: Spent) {
        self.sweep = self.sweep.less(cost);
        if let Some(last) = self.hour.back_mut() {
            last.spent = last.spent.less(cost);
        }
    }

    /// So many files were removed or made.
    pub fn changed(&mut self, changed: Changed, now: Timestamp) {
        if let Some(files) = &mut self.files {
            *files = files.saturating_add(changed.made).saturating_sub(changed.removed);
        }
        let minute = self.minute(now);
        minute.changed = minute.changed.plus(changed);
    }

    /// The minute that goes on. What began in an earlier one is counted in the
    /// last: it is remembered the longer.
    fn minute(&mut self, now: Timestamp) -> &mut Minute {
        let at = now.0 / SLOT;
        if self.hour.back().is_none_or(|last| last.at < at) {
            self.hour.push_back(Minute { at, ..Minute::default() });
            self.add_up();
        }
        self.hour.back_mut().expect("a minute was pushed where there was none")
    }

    fn last(&self) -> Minute {
        self.hour.back().copied().unwrap_or_default()
    }

    fn forget_before(&mut self, now: Timestamp) {
        let oldest = (now.0 / SLOT).saturating_sub(SLOTS);
        if self.hour.front().is_none_or(|minute| minute.at >= oldest) {
            return;
        }
        while self.hour.front().is_some_and(|minute| minute.at < oldest) {
            self.hour.pop_front();
        }
        self.add_up();
    }

    /// Whenever minutes come or go.
    fn add_up(&mut self) {
        let earlier = self.hour.iter().take(self.hour.len().saturating_sub(1));
        self.earlier = earlier.fold(Minute::default(), |all, minute| Minute {
            spent: all.spent.plus(minute.spent),
            changed: all.changed.plus(minute.changed),
            ..all
        });
    }
}

#[cfg(test)]
mod tests;
