//! Which effects of one call become one row of the record: what cancels out, and
//! what is done again and again.
//!
//! ```text
//!  made ─▶ written, stamped, moved ─▶ removed: the life of something that the call made itself
//!  a second life in the same place adds to the rows of the first, and so does a third
//! ```
//! The rows say how often it was done, so nothing goes off the record. Folded is
//! only what came to nothing (made and removed by the same call), what was done
//! to the same file in the same way before, and what failed in the same way
//! before. What was there before the call, what went into a trash, and what is
//! not known keep rows of their own. The last life of a place that is not over
//! keeps its rows, too.
//!
//! It knows neither journals nor databases: rows are numbers that the caller
//! gives.

use std::collections::HashMap;
use std::sync::Arc;

use super::effect::{Effect, EffectResult, Operation};

/// A row of a call's effects.
pub type RowId = u64;

/// So many ways of doing something are remembered; beyond that all are
/// forgotten, and what comes next begins new rows.
const MOST: usize = 1000;

/// An effect becomes a part of another row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fold {
    /// This row goes.
    pub row: RowId,
    /// And adds to this one.
    pub into: RowId,
}

/// What one call did so far, as far as it may be folded.
#[derive(Debug, Default)]
pub struct Folds {
    /// What the call made itself and what stands there now.
    lives: HashMap<Place, Life>,
    /// A life in whose place another was moved: its removal is told next.
    replaced: Option<(Place, Life)>,
    /// The rows of lives that are over, by what was done where.
    over: HashMap<Deed, RowId>,
    /// What was done that may be done again: the row that takes it, where there
    /// is one yet.
    again: HashMap<Again, Option<RowId>>,
    /// Rows that were folded while `again` names them, and into which.
    moved: HashMap<RowId, RowId>,
}

/// A path within a mount.
type Place = (Arc<str>, String);

/// Something that the call made: its rows, in order, and the number of the last
/// effect that put it where it is.
#[derive(Debug)]
struct Life {
    rows: Vec<(RowId, Deed)>,
    since: u64,
    is_folder: bool,
}

/// What was done where.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Deed {
    operation: Operation,
    place: Place,
    to: Option<Place>,
    /// Whether it counts as taking something away.
    takes: bool,
}

/// What was done to which file, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Again {
    deed: Deed,
    inode: u64,
    error: Option<String>,
}

impl Deed {
    fn of(effect: &Effect) -> Self {
        Self {
            operation: effect.operation,
            place: (Arc::clone(&effect.mount), effect.path.clone()),
            to: to(effect),
            takes: effect.cost().files > 0,
        }
    }

    /// Whether it may be done to the same file again. What makes or removes one
    /// is about another file each time.
    fn may_repeat(&self) -> bool {
        match self.operation {
            Operation::Write | Operation::Truncate | Operation::SetTimes | Operation::Rename => true,
            Operation::Remove
            | Operation::RemoveFolder
            | Operation::Create
            | Operation::CreateFolder
            | Operation::Link => false,
        }
    }
}

impl Folds {
    /// An effect has ended and stands in `row`. Answers which rows fold into
    /// which, in the order in which that is to be done.
    pub fn ended(&mut self, row: RowId, effect: &Effect) -> Vec<Fold> {
        if effect.trashed || effect.result == EffectResult::Unknown {
            // It is not known what stands there now, or it lies in the trash.
            self.forget_lives();
            return Vec::new();
        }
        let is_done = effect.result == EffectResult::Done;
        if is_done && self.lives.is_empty() && matches!(effect.operation, Operation::Remove | Operation::RemoveFolder) {
            // The most common of all: nothing of the call's own can be meant.
            return Vec::new();
        }
        let deed = Deed::of(effect);
        let into = self.repeats(row, effect, &deed);
        let mut folds: Vec<_> = into.map(|into| Fold { row, into }).into_iter().collect();
        if is_done {
            let row = into.is_none().then_some(row);
            self.lived(row, effect.id.number, deed, &mut folds);
        }
        folds
    }

    /// The rows of what the call made and what still stands: a removal would fold
    /// them.
    pub fn open_rows(&self) -> impl Iterator<Item = RowId> {
        self.lives.values().flat_map(|life| life.rows.iter().map(|(row, _)| *row))
    }

    /// The rows to which later effects may add.
    pub fn sums(&self) -> impl Iterator<Item = RowId> {
        self.over.values().copied().chain(self.again.values().flatten().map(|row| self.resolved(*row)))
    }

    /// What stands now keeps its rows, whatever becomes of it.
    pub fn forget_lives(&mut self) {
        self.lives.clear();
        self.replaced = None;
    }

    /// Whether so much is remembered that all is to be forgotten.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.over.len() + self.again.len() > MOST
    }

    /// The row that takes the same as this, where it was done before.
    fn repeats(&mut self, row: RowId, effect: &Effect, deed: &Deed) -> Option<RowId> {
        let error = match &effect.result {
            EffectResult::Failed(error) => Some(error.clone()),
            EffectResult::Done | EffectResult::Unknown => None,
        };
        if error.is_none() && !deed.may_repeat() {
            return None;
        }
        // The first keeps its row to itself: it has size and time of what was there
        // before. What failed changed nothing.
        let keeps_first = error.is_none();
        let again = Again { deed: deed.clone(), inode: effect.inode, error };
        match self.again.get(&again) {
            None => {
                self.again.insert(again, (!keeps_first).then_some(row));
                None
            }
            Some(None) => {
                self.again.insert(again, Some(row));
                None
            }
            Some(Some(into)) => Some(self.resolved(*into)),
        }
    }

    fn resolved(&self, mut row: RowId) -> RowId {
        while let Some(into) = self.moved.get(&row) {
            row = *into;
        }
        row
    }

    /// Follows what the call made. `row` is none where the effect was folded.
    fn lived(&mut self, row: Option<RowId>, number: u64, deed: Deed, folds: &mut Vec<Fold>) {
        let (place, to) = (deed.place.clone(), deed.to.clone());
        let operation = deed.operation;
        let rows: Vec<_> = row.map(|row| (row, deed)).into_iter().collect();
        match operation {
            Operation::Create | Operation::CreateFolder | Operation::Link => {
                let is_folder = operation == Operation::CreateFolder;
                self.lives.insert(to.unwrap_or(place), Life { rows, since: number, is_folder });
            }
            Operation::Write | Operation::Truncate | Operation::SetTimes => {
                if let Some(life) = self.lives.get_mut(&place) {
                    life.rows.extend(rows);
                }
            }
            Operation::Rename => match (self.lives.remove(&place), to) {
                (Some(mut life), Some(to)) if !life.is_folder => {
                    life.rows.extend(rows);
                    life.since = number;
                    self.replaced = self.lives.remove(&to).map(|replaced| (to.clone(), replaced));
                    self.lives.insert(to, life);
                }
                // What is in a folder moves along, and has other paths from now
                // on; and a file that was there may stand where one was made.
                _ => self.forget_lives(),
            },
            Operation::Remove | Operation::RemoveFolder => {
                // What was replaced by a move is told of after the move, by the
                // earlier number.
                let is_replaced = self.lives.get(&place).is_some_and(|life| number < life.since);
                let life = if is_replaced {
                    self.replaced.take().filter(|(replaced, _)| *replaced == place).map(|(_, life)| life)
                } else {
                    self.lives.remove(&place)
                };
                if let Some(life) = life {
                    self.is_over(life.rows.into_iter().chain(rows), folds);
                }
            }
        }
    }

    fn is_over(&mut self, rows: impl Iterator<Item = (RowId, Deed)>, folds: &mut Vec<Fold>) {
        for (row, deed) in rows {
            let may_repeat = deed.may_repeat();
            let into = *self.over.entry(deed).or_insert(row);
            // A row may stand in a life and take what is done again, too.
            if into != row && self.resolved(row) == row {
                folds.push(Fold { row, into });
                if may_repeat {
                    self.moved.insert(row, into);
                }
            }
        }
    }
}

fn to(effect: &Effect) -> Option<Place> {
    let mount = effect.to_mount.as_ref().unwrap_or(&effect.mount);
    effect.to.as_ref().map(|to| (Arc::clone(mount), to.clone()))
}

#[cfg(test)]
mod tests;
