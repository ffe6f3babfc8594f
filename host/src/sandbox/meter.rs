//! Counts what a job takes away against its budget, before it is taken.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::budget::{Budget, OverBudget, Period, Spent};
use crate::domain::time::Timestamp;

/// An hour in the slots in which it is counted.
const SLOTS: u64 = 60;
const SLOT: u64 = 60_000;

/// The meter of one job on this node.
#[derive(Debug)]
pub struct Meter {
    budget: Budget,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sweep: Spent,
    /// What this node took away in the last hour, by minute.
    hour: VecDeque<Minute>,
    /// What other nodes, and earlier lives of this one, took away in it.
    others: Spent,
    /// Files in the job's mounts, where they were counted.
    files: Option<u64>,
    /// Files that are gone for good since the sweep began.
    gone: u64,
    /// This sweep may go over.
    exempt: bool,
    /// Why the sweep must end.
    over: Option<OverBudget>,
}

/// What was done in one minute.
#[derive(Debug, Default)]
struct Minute {
    at: u64,
    spent: Spent,
    /// Files that are gone for good.
    gone: u64,
}

impl Meter {
    pub(super) fn new(budget: Budget) -> Self {
        Self { budget, state: Mutex::default() }
    }

    /// A sweep begins. `others` is what was taken away in the last hour by
    /// anybody but this life of this node; `exempt` lets the sweep go over the
    /// budget.
    pub fn begin_sweep(&self, others: Spent, exempt: bool) {
        let mut state = self.state();
        (state.sweep, state.others, state.exempt, state.over) = (Spent::default(), others, exempt, None);
        state.gone = 0;
    }

    /// Why something was refused since the sweep began, if it was.
    #[must_use]
    pub fn over(&self) -> Option<OverBudget> {
        self.state().over.clone()
    }

    /// What this sweep has taken away so far.
    #[must_use]
    pub fn spent(&self) -> Spent {
        self.state().sweep
    }

    /// The mounts were found to hold so many files.
    pub fn counted(&self, files: u64) {
        self.state().files = Some(files);
    }

    /// What was taken away in the last hour, by anybody as far as it is known.
    #[must_use]
    pub fn in_hour(&self, now: Timestamp) -> Spent {
        self.state().in_hour(now)
    }

    /// How many files the mounts hold, where they were counted.
    #[must_use]
    pub fn files(&self) -> Option<u64> {
        self.state().files
    }

    /// Whether the sweep may begin: a share of files needs their number.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.budget.needs_count() || self.state().files.is_some()
    }

    /// A file was made.
    pub fn made(&self) {
        if let Some(files) = &mut self.state().files {
            *files += 1;
        }
    }

    /// Takes `cost` off the budget, or says why not.
    pub(super) fn take(&self, cost: Spent, now: Timestamp) -> Result<(), OverBudget> {
        let mut state = self.state();
        let sweep = state.sweep.plus(cost);
        if !self.budget.is_none() && !state.exempt {
            let hour = state.in_hour(now).plus(cost);
            // A share is one of what was there before: of the hour of other lives,
            // not all that was taken is gone, so nothing is added for it.
            let in_hour: u64 = state.hour.iter().map(|minute| minute.gone).sum();
            let before = |gone: u64| state.files.map(|files| files.saturating_add(gone));
            let checked = self
                .budget
                .sweep
                .check(Period::Sweep, sweep, before(state.gone))
                .and_then(|()| self.budget.hour.check(Period::Hour, hour, before(in_hour)));
            if let Err(over) = checked {
                state.over.get_or_insert_with(|| over.clone());
                return Err(over);
            }
        }
        state.sweep = sweep;
        let minute = now.0 / SLOT;
        match state.hour.back_mut().filter(|last| last.at == minute) {
            Some(last) => last.spent = last.spent.plus(cost),
            None => state.hour.push_back(Minute { at: minute, spent: cost, gone: 0 }),
        }
        Ok(())
    }

    /// It was not taken after all.
    pub(super) fn give_back(&self, cost: Spent) {
        let mut state = self.state();
        let less = |spent: &mut Spent| {
            spent.files = spent.files.saturating_sub(cost.files);
            spent.bytes = spent.bytes.saturating_sub(cost.bytes);
        };
        less(&mut state.sweep);
        if let Some(last) = state.hour.back_mut() {
            less(&mut last.spent);
        }
    }

    /// So many files are gone for good.
    pub(super) fn gone(&self, files: u64) {
        let mut state = self.state();
        state.gone += files;
        if let Some(last) = state.hour.back_mut() {
            last.gone += files;
        }
        if let Some(known) = &mut state.files {
            *known = known.saturating_sub(files);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn in_hour(&mut self, now: Timestamp) -> Spent {
        let oldest = (now.0 / SLOT).saturating_sub(SLOTS);
        while self.hour.front().is_some_and(|minute| minute.at < oldest) {
            self.hour.pop_front();
        }
        self.hour.iter().fold(self.others, |all, minute| all.plus(minute.spent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::budget::{Allowance, Share};

    const ONE: Spent = Spent { files: 1, bytes: 100 };

    fn meter(sweep: u64, hour: u64) -> Meter {
        let files = |files| Allowance { files: Some(files), ..Allowance::default() };
        Meter::new(Budget { sweep: files(sweep), hour: files(hour) })
    }

    #[test]
    fn a_sweep_and_an_hour_have_bounds_of_their_own() {
        let meter = meter(2, 3);
        let now = Timestamp(7 * SLOT);
        meter.begin_sweep(Spent::default(), false);
        assert_eq!((meter.take(ONE, now), meter.take(ONE, now)), (Ok(()), Ok(())));
        assert_eq!(meter.take(ONE, now), Err(OverBudget::Files { period: Period::Sweep, allowed: 2 }));
        assert!(meter.over().is_some());
        meter.begin_sweep(Spent::default(), false);
        assert_eq!((meter.over(), meter.take(ONE, now)), (None, Ok(())));
        assert_eq!(meter.take(ONE, now), Err(OverBudget::Files { period: Period::Hour, allowed: 3 }));
        let later = Timestamp(now.0 + (SLOTS + 1) * SLOT);
        assert_eq!(meter.take(ONE, later), Ok(()));
    }

    #[test]
    fn what_others_took_counts_and_what_failed_does_not() {
        let meter = meter(10, 3);
        let now = Timestamp(SLOT);
        meter.begin_sweep(Spent { files: 2, bytes: 0 }, false);
        assert_eq!(meter.take(ONE, now), Ok(()));
        assert!(meter.take(ONE, now).is_err());
        meter.give_back(ONE);
        assert_eq!(meter.take(ONE, now), Ok(()));
        assert_eq!(meter.spent(), ONE);
    }

    #[test]
    fn an_exempt_sweep_is_counted_and_not_stopped() {
        let meter = meter(1, 1);
        meter.begin_sweep(Spent::default(), true);
        for _ in 0..5 {
            assert_eq!(meter.take(ONE, Timestamp(0)), Ok(()));
        }
        meter.begin_sweep(Spent::default(), false);
        assert!(meter.take(ONE, Timestamp(0)).is_err(), "the hour remembers");
    }

    #[test]
    fn a_share_follows_the_count() {
        let half = Allowance { share: Some(Share(500_000)), ..Allowance::default() };
        let meter = Meter::new(Budget { sweep: half, hour: Allowance::default() });
        meter.begin_sweep(Spent::default(), false);
        assert!(!meter.is_ready());
        assert_eq!(meter.take(ONE, Timestamp(0)), Err(OverBudget::NotCounted));
        meter.counted(4);
        assert!(meter.is_ready());
        meter.begin_sweep(Spent::default(), false);
        assert_eq!((meter.take(ONE, Timestamp(0)), meter.take(ONE, Timestamp(0))), (Ok(()), Ok(())));
        assert!(meter.take(ONE, Timestamp(0)).is_err());
        meter.made();
        meter.made();
        assert_eq!(meter.take(ONE, Timestamp(0)), Ok(()));
    }

    #[test]
    fn a_share_is_one_of_what_was_there_before() {
        let half = Allowance { share: Some(Share(500_000)), ..Allowance::default() };
        let take_all = |meter: &Meter| {
            let mut taken = 0;
            while meter.take(ONE, Timestamp(0)).is_ok() {
                meter.gone(1);
                taken += 1;
            }
            taken
        };
        let meter = Meter::new(Budget { sweep: half, hour: Allowance::default() });
        meter.counted(10);
        meter.begin_sweep(Spent::default(), false);
        assert_eq!(take_all(&meter), 5);
        assert_eq!(meter.over(), Some(OverBudget::Share { period: Period::Sweep, share: Share(500_000), all: 10 }));
        meter.begin_sweep(Spent::default(), false);
        assert_eq!(take_all(&meter), 2, "half of the five that are left");
        let meter = Meter::new(Budget { sweep: Allowance::default(), hour: half });
        meter.counted(10);
        meter.begin_sweep(Spent::default(), false);
        assert_eq!(take_all(&meter), 5);
        meter.begin_sweep(Spent::default(), false);
        assert_eq!(take_all(&meter), 0, "the hour goes on");
    }
}
