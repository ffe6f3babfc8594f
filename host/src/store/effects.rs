//! Effects as the columns of a table, the same in every database.
//!
//! Numbers are signed, as databases have them: an inode keeps its bits, all
//! others are far below the bound. What may happen to a row is
//! [`domain::recorded`](crate::domain::recorded)'s.

use std::cmp::Ordering;

use super::EffectFilter;
use crate::domain::digest::Digest;
use crate::domain::effect::{Effect, EffectId, EffectResult, EffectView, Fate, Operation};
use crate::domain::job::JobId;
use crate::domain::recorded::{first_fate, replaces};
use crate::domain::task::TaskId;
use crate::domain::time::Timestamp;

/// [`EffectResult::Unknown`] as its column has it.
pub(super) const UNKNOWN: i16 = 2;
/// [`Fate::Kept`] as its column has it.
pub(super) const KEPT: i16 = 0;

/// About what a row takes of the disk besides its texts, in bytes, with its part
/// of the indexes: some 200 in SQLite, some 400 in the servers' databases.
const ROW: usize = 300;

/// A row of a new effect.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewRow<'a> {
    pub(super) journal: i64,
    pub(super) number: i64,
    pub(super) job: i64,
    pub(super) task: i64,
    pub(super) attempt: i64,
    pub(super) digest: &'a [u8],
    pub(super) operation: i16,
    pub(super) mount: &'a str,
    pub(super) path: &'a str,
    pub(super) to: Option<&'a str>,
    pub(super) to_mount: Option<&'a str>,
    pub(super) size: i64,
    pub(super) modified: i64,
    pub(super) inode: i64,
    pub(super) at: i64,
    pub(super) result: i16,
    pub(super) error: Option<&'a str>,
    pub(super) trashed: bool,
    pub(super) spent_files: i64,
    pub(super) spent_bytes: i64,
    pub(super) made: i64,
    pub(super) written: i64,
    pub(super) times: i64,
    pub(super) weight: i64,
    pub(super) fate: Option<i16>,
    pub(super) fate_at: Option<i64>,
}

impl<'a> NewRow<'a> {
    /// Of an effect that is put on record at `now`.
    pub(super) fn of(effect: &'a Effect, now: Timestamp) -> Self {
        let (result, error) = match &effect.result {
            EffectResult::Done => (0, None),
            EffectResult::Failed(error) => (1, Some(error.as_str())),
            EffectResult::Unknown => (UNKNOWN, None),
        };
        let (cost, fate) = (effect.cost(), first_fate(effect));
        Self {
            journal: integer(effect.id.journal),
            number: integer(effect.id.number),
            job: effect.job.0,
            task: integer(effect.task.0),
            attempt: i64::from(effect.attempt),
            digest: effect.digest.as_bytes(),
            operation: operation(effect.operation),
            mount: &effect.mount,
            path: &effect.path,
            to: effect.to.as_deref(),
            to_mount: effect.to_mount.as_deref(),
            size: integer(effect.size),
            modified: integer(effect.modified.0),
            inode: effect.inode.cast_signed(),
            at: integer(effect.at.0),
            result,
            error,
            trashed: effect.trashed,
            spent_files: integer(cost.files),
            spent_bytes: integer(cost.bytes),
            made: integer(cost.made),
            written: integer(cost.written),
            times: integer(effect.times),
            weight: weight([
                Some(&*effect.mount),
                Some(&effect.path),
                effect.to.as_deref(),
                effect.to_mount.as_deref(),
                error,
            ]),
            fate: fate.map(fate_number),
            fate_at: fate.map(|_| integer(now.0)),
        }
    }
}

/// About what a row with these texts takes of the disk, in bytes.
fn weight(texts: [Option<&str>; 5]) -> i64 {
    let texts: usize = texts.into_iter().flatten().map(str::len).sum();
    i64::try_from(ROW + texts).unwrap_or(i64::MAX)
}

/// The name of an effect, after when it was, and its weight.
pub(super) type Weighed = (i64, i64, i64, i64);

/// Of the oldest effects of each job, so many of the oldest of all that together
/// have this weight. Answers their names in order, and their weight.
pub(super) fn oldest_of(mut found: Vec<Weighed>, weight: u64, limit: u32) -> (Vec<(i64, i64)>, u64) {
    found.sort_unstable();
    let (mut names, mut sum) = (Vec::new(), 0_u64);
    for (_, journal, number, weighs) in found.into_iter().take(limit as usize) {
        if sum >= weight {
            break;
        }
        names.push((journal, number));
        sum = sum.saturating_add(natural(weighs));
    }
    names.sort_unstable();
    (names, sum)
}

/// Each effect once, as it stands after all that is told of it, in the order of
/// their names: whoever writes several does so in this order.
pub(super) fn distinct(effects: &[Effect]) -> Vec<&Effect> {
    let mut sorted: Vec<&Effect> = effects.iter().collect();
    // Stable: of two accounts of one effect the first comes first.
    sorted.sort_by_key(|effect| effect.id);
    let mut distinct: Vec<&Effect> = Vec::with_capacity(sorted.len());
    for effect in sorted {
        match distinct.last_mut() {
            Some(last) if last.id == effect.id => {
                if replaces(last, effect) {
                    *last = effect;
                }
            }
            _ => distinct.push(effect),
        }
    }
    distinct
}

/// A row as it is read.
#[derive(Clone, Debug)]
pub(super) struct StoredRow {
    pub(super) journal: i64,
    pub(super) number: i64,
    pub(super) job: i64,
    pub(super) job_name: String,
    pub(super) task: i64,
    pub(super) attempt: i64,
    pub(super) digest: Vec<u8>,
    pub(super) operation: i16,
    pub(super) mount: String,
    pub(super) path: String,
    pub(super) to: Option<String>,
    pub(super) to_mount: Option<String>,
    pub(super) size: i64,
    pub(super) modified: i64,
    pub(super) inode: i64,
    pub(super) at: i64,
    pub(super) result: i16,
    pub(super) error: Option<String>,
    pub(super) trashed: bool,
    pub(super) times: i64,
    pub(super) written: i64,
    /// What it took off a budget, or its size where it took nothing.
    pub(super) allocated: i64,
    pub(super) fate: Option<i16>,
    pub(super) fate_at: Option<i64>,
}

/// The row holds what no sweepd writes.
#[derive(Debug, thiserror::Error)]
#[error("the effect {id} in the database cannot be read: {what} is unknown")]
pub(super) struct Unreadable {
    id: EffectId,
    what: &'static str,
}

impl StoredRow {
    /// As people see it.
    pub(super) fn view(self) -> Result<EffectView, Unreadable> {
        let id = EffectId { journal: natural(self.journal), number: natural(self.number) };
        let unreadable = |what| Unreadable { id, what };
        let result = match self.result {
            0 => EffectResult::Done,
            1 => EffectResult::Failed(self.error.unwrap_or_default()),
            UNKNOWN => EffectResult::Unknown,
            _ => return Err(unreadable("its result")),
        };
        let operation = usize::try_from(self.operation).ok().and_then(|number| Operation::ALL.get(number).copied());
        let fate = match self.fate {
            None => None,
            Some(KEPT) => Some(Fate::Kept),
            Some(1) => Some(Fate::Restored),
            Some(2) => Some(Fate::Purged),
            Some(_) => return Err(unreadable("its fate")),
        };
        let effect = Effect {
            id,
            job: JobId(self.job),
            task: TaskId(natural(self.task)),
            attempt: u32::try_from(self.attempt).unwrap_or_default(),
            digest: Digest::from_bytes(&self.digest).ok_or_else(|| unreadable("its digest"))?,
            operation: operation.ok_or_else(|| unreadable("its operation"))?,
            mount: self.mount.into(),
            path: self.path,
            to: self.to,
            to_mount: self.to_mount.map(Into::into),
            size: natural(self.size),
            allocated: natural(self.allocated),
            modified: Timestamp(natural(self.modified)),
            inode: self.inode.cast_unsigned(),
            at: Timestamp(natural(self.at)),
            result,
            trashed: self.trashed,
            times: natural(self.times),
            written: natural(self.written),
        };
        let fate_at = self.fate_at.map(|at| Timestamp(natural(at)));
        Ok(EffectView { effect, job_name: self.job_name, fate, fate_at })
    }
}

/// A place in the order of effects: when, journal, number.
pub(super) type Place = (i64, i64, i64);

fn place(at: Timestamp, id: EffectId) -> Place {
    (integer(at.0), integer(id.journal), integer(id.number))
}

/// Between which places a page lies, without either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) above: Place,
    pub(super) below: Place,
}

impl Span {
    /// What is left of what the filter asks for.
    pub(super) fn of(filter: &EffectFilter) -> Self {
        let since = filter.since.map_or(0, |since| integer(since.0));
        let mut span = Self {
            above: (since - 1, i64::MAX, i64::MAX),
            below: filter.until.map_or((i64::MAX, i64::MAX, i64::MAX), |until| (integer(until.0), -1, -1)),
        };
        if let Some((at, id)) = filter.after {
            if filter.oldest_first {
                span.above = span.above.max(place(at, id));
            } else {
                span.below = span.below.min(place(at, id));
            }
        }
        span
    }
}

/// Which of the indexes leads to a page; where it is none of a task's, job by
/// job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    Task(i64),
    Trash(i16),
    Times,
}

impl Walk {
    pub(super) fn of(filter: &EffectFilter) -> Self {
        match (filter.task, filter.fate) {
            (Some(task), _) => Self::Task(integer(task.0)),
            (None, Some(fate)) => Self::Trash(fate_number(fate)),
            (None, None) => Self::Times,
        }
    }
}

/// The page that the filter asks for, of pages of several jobs.
pub(super) fn merged(mut views: Vec<EffectView>, filter: &EffectFilter) -> Vec<EffectView> {
    let order = |one: &EffectView, other: &EffectView| -> Ordering {
        let rising = (one.effect.at, one.effect.id).cmp(&(other.effect.at, other.effect.id));
        if filter.oldest_first { rising } else { rising.reverse() }
    };
    views.sort_by(order);
    views.truncate(filter.limit as usize);
    views
}

pub(super) fn operation(operation: Operation) -> i16 {
    operation as i16
}

pub(super) fn fate_number(fate: Fate) -> i16 {
    match fate {
        Fate::Kept => KEPT,
        Fate::Restored => 1,
        Fate::Purged => 2,
    }
}

/// The name of an effect as its columns have it.
pub(super) fn key(id: EffectId) -> (i64, i64) {
    (integer(id.journal), integer(id.number))
}

/// What is wrong with settling files as `fate`, if anything.
pub(super) fn refusal(fate: Fate) -> Option<String> {
    let why = "a file that left the trash does not go back to being kept; tell what became of it";
    (fate == Fate::Kept).then(|| why.to_owned())
}

/// The most that a column holds.
fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn natural(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}
