//! What is asked of a store whose clock was set back.

use crate::domain::clock::{TOLERANCE, is_ahead};
use crate::domain::time::Timestamp;

/// What was drawn in: times that lay in the future though the store's own clock,
/// or a node's, had given them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrawnIn {
    /// Due times of live tasks, and of successors.
    pub tasks: u64,
    /// Jobs whose schedule had been scanned in the future.
    pub schedules: u64,
    /// Leases that would have lasted longer than they are.
    pub leases: u64,
    /// Effects, by when they happened or since when a trash keeps their files.
    pub effects: u64,
    /// Ended tasks, requests that named themselves, lives, batches and holds.
    pub records: u64,
    /// The latest of these times, as far as it was looked at.
    pub latest: Option<Timestamp>,
    /// Whether the limit was reached: there may be more.
    pub more: bool,
}

impl DrawnIn {
    /// Whether nothing lay in the future.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.tasks + self.schedules + self.leases + self.effects + self.records == 0
    }

    /// This and what another call did.
    #[must_use]
    pub fn and(self, later: Self) -> Self {
        Self {
            tasks: self.tasks + later.tasks,
            schedules: self.schedules + later.schedules,
            leases: self.leases + later.leases,
            effects: self.effects + later.effects,
            records: self.records + later.records,
            latest: self.latest.max(later.latest),
            more: later.more,
        }
    }

    /// A time, as a column has it, was looked at before it was drawn in.
    pub(in crate::store) fn saw(&mut self, time: Option<i64>, now: Timestamp) {
        let time = time.and_then(|time| u64::try_from(time).ok()).map(Timestamp);
        self.latest = self.latest.max(time.filter(|time| is_ahead(*time, now)));
    }
}

/// The times between which effects from the future are put, as columns have
/// them: within the ten seconds that end at the beginning of the tolerance, in
/// the order in which they were, as far as a millisecond holds several. What is done from now on comes after them, and what
/// was written at an earlier time comes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Squeezed {
    /// The first time that is put elsewhere.
    pub(in crate::store) edge: i64,
    /// Where that comes to lie.
    pub(in crate::store) to: i64,
}

impl Squeezed {
    /// How long the part is that they are put into.
    pub(in crate::store) const ROOM: i64 = 10_000;

    pub(in crate::store) fn at(now: Timestamp) -> Self {
        let tolerance = i64::try_from(TOLERANCE.as_millis()).unwrap_or(i64::MAX);
        let now = i64::try_from(now.0).unwrap_or(i64::MAX);
        Self { edge: now.saturating_add(tolerance), to: now.saturating_sub(tolerance + Self::ROOM) }
    }
}
