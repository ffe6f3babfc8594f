//! What the guarded sandbox asks of a store: effects on record, holds, and
//! what is due, without taking it.

use crate::domain::effect::{EffectId, Fate, Operation};
use crate::domain::hold::{Hold, Pattern};
use crate::domain::job::JobId;
use crate::domain::task::{ClaimedTask, Priority, TaskId};
use crate::domain::time::Timestamp;

/// Which effects to list: those that are all of what is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EffectFilter {
    /// Only of this job.
    pub job: Option<JobId>,
    /// Only of this task.
    pub task: Option<TaskId>,
    /// Only at this time or later.
    pub since: Option<Timestamp>,
    /// Only before this time.
    pub until: Option<Timestamp>,
    /// Only where the path on the machine, or the new one of a rename or link,
    /// begins with this text, byte by byte.
    pub path_prefix: Option<String>,
    /// Only this.
    pub operation: Option<Operation>,
    /// Only what went into the trash and has this fate.
    pub fate: Option<Fate>,
    /// Oldest first, instead of latest first.
    pub oldest_first: bool,
    /// Only what comes after this one in that order: the last of the page
    /// before.
    pub after: Option<(Timestamp, EffectId)>,
    /// At most so many.
    pub limit: u32,
}

/// A hold to be put in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewHold {
    /// Whose plugins it stops.
    pub job: JobId,
    /// What it holds.
    pub pattern: Pattern,
    /// Until when; `None` for good.
    pub until: Option<Timestamp>,
    /// Why, for whoever asks.
    pub why: String,
}

impl NewHold {
    /// The most that a job may have at a time.
    pub const MOST: u32 = 1000;

    /// What is said to one more.
    pub(in crate::store) fn too_many() -> String {
        format!("the job has {} holds already, and may have no more; remove one, or hold folders", Self::MOST)
    }
}

/// What became of a hold that was to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldRemoved {
    /// It holds nothing any more.
    Removed(Hold),
    /// The job has no such hold (any more).
    NotThere,
}

/// What is due, to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeekDue {
    /// Of this job.
    pub job: JobId,
    /// Due by this time.
    pub horizon: Timestamp,
    /// Only what a claim would take after this one.
    pub after: Option<DuePlace>,
    /// At most so many.
    pub limit: u32,
}

impl PeekDue {
    /// After which due time and number it goes on within a priority, as
    /// columns have them; `None` where that is behind it.
    pub(in crate::store) fn above(&self, priority: Priority) -> Option<(i64, i64)> {
        let column = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        match self.after {
            Some(place) if place.priority > priority => None,
            Some(place) if place.priority == priority => Some((column(place.run_at.0), column(place.id.0))),
            _ => Some((-1, -1)),
        }
    }
}

/// A pending task's place in the order of claims: the most urgent first, of
/// those the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DuePlace {
    /// How urgent it is.
    pub priority: Priority,
    /// When it is due.
    pub run_at: Timestamp,
    /// Its number.
    pub id: TaskId,
}

/// What is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peeked {
    /// As a claim would answer with them, except that they are under no fence:
    /// 0. Those that a claim would take alone are among the others.
    pub tasks: Vec<ClaimedTask>,
    /// Where to go on; `None` where nothing more is due.
    pub next: Option<DuePlace>,
}
