//! What a call did so far: a row an effect, folded where it may be, until it is
//! handed over with the answer of the call, or before in chunks.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::io::Errno;

use crate::domain::effect::{Effect, EffectId};
use crate::domain::fold::{Fold, Folds, RowId};

use super::journal::Noted;
use super::reconcile::tells;

/// After so many effects of one call they are handed over before it ends.
pub(super) const CHUNK: usize = 1000;

/// So many rows are kept back for a removal that would fold them.
const KEPT_BACK: usize = 16;

/// An effect, and the places in the journal that it keeps until the database has
/// it: its own, and those of what was folded into it, one a segment.
#[derive(Debug)]
pub struct Recorded {
    /// The effect.
    pub effect: Effect,
    pub(super) noted: Vec<Noted>,
}

impl Recorded {
    /// The effect for the database, and what is to be settled when that has it.
    #[must_use]
    pub fn part(self) -> (Effect, Vec<Noted>) {
        (self.effect, self.noted)
    }

    /// Takes another into this one.
    fn absorb(&mut self, other: Self) {
        self.effect.absorb(&other.effect);
        for noted in other.noted {
            if self.noted.iter().any(|known| known.is_of_the_same_segment(&noted)) {
                // That one keeps the segment.
                noted.settle();
            } else {
                self.noted.push(noted);
            }
        }
    }
}

/// What a call did so far.
#[derive(Debug, Default)]
pub(super) struct Deeds {
    /// Boxed: most calls do one thing, and a node of the map has room for eleven.
    pub(super) rows: BTreeMap<RowId, Box<Row>>,
    last: RowId,
    /// Those that go on: writes to open files.
    pub(super) going_on: Vec<(RowId, Arc<Writes>)>,
    pub(super) folds: Folds,
    /// Effects that ended since rows were handed over.
    pub(super) ended: usize,
}

/// An effect of the call.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) recorded: Recorded,
    /// Whether all of it was handed over: it is here for what may be folded into
    /// it.
    pub(super) is_told: bool,
}

impl Deeds {
    pub(super) fn add(&mut self, recorded: Recorded) -> RowId {
        self.last += 1;
        self.rows.insert(self.last, Box::new(Row { recorded, is_told: false }));
        self.last
    }

    /// Folds one row into another, and answers the sum.
    pub(super) fn fold(&mut self, Fold { row, into }: Fold) -> Option<(EffectId, &Effect)> {
        if !self.rows.contains_key(&into) {
            return None;
        }
        let gone = self.rows.remove(&row)?.recorded;
        let (id, sum) = (gone.effect.id, self.rows.get_mut(&into)?);
        sum.recorded.absorb(gone);
        sum.is_told = false;
        Some((id, &sum.recorded.effect))
    }

    /// What may be handed over before the call ends. What goes on stays, and what
    /// is likely to be folded soon; what later effects may add to is told, and
    /// stays as well.
    pub(super) fn chunk(&mut self) -> Vec<Recorded> {
        let mut stay: HashSet<_> = self.folds.open_rows().collect();
        if stay.len() > KEPT_BACK {
            self.folds.forget_lives();
            stay.clear();
        }
        stay.extend(self.going_on.iter().map(|(row, _)| *row));
        if self.folds.is_full() {
            self.folds = Folds::default();
        }
        let sums: HashSet<_> = self.folds.sums().collect();
        let mut chunk = Vec::new();
        for (id, mut row) in std::mem::take(&mut self.rows) {
            if !stay.contains(&id) {
                if sums.contains(&id) {
                    let (effect, noted) = (row.recorded.effect.clone(), std::mem::take(&mut row.recorded.noted));
                    if !std::mem::replace(&mut row.is_told, true) {
                        chunk.push(Recorded { effect, noted });
                    }
                } else {
                    if !row.is_told {
                        chunk.push(row.recorded);
                    }
                    continue;
                }
            }
            self.rows.insert(id, row);
        }
        self.ended = 0;
        chunk
    }
}

/// The writes of one call to one open file: one effect.
#[derive(Debug, Default)]
pub(super) struct Writes {
    begun: AtomicBool,
    /// Something may have been written that nobody was told of.
    perhaps: AtomicBool,
    written: AtomicU64,
}

impl Writes {
    /// So many bytes were written.
    pub(super) fn add(&self, bytes: u64) {
        self.begun.store(true, Ordering::Relaxed);
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A part of it was answered with this: where that does not tell, something
    /// may have been written.
    pub(super) fn failed(&self, error: &std::io::Error) {
        if !Errno::from_io_error(error).is_some_and(tells) {
            self.perhaps.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn is_perhaps(&self) -> bool {
        self.perhaps.load(Ordering::Relaxed)
    }

    /// How many bytes were written; none where nothing was.
    pub(super) fn written(&self) -> Option<u64> {
        self.begun.load(Ordering::Relaxed).then(|| self.written.load(Ordering::Relaxed))
    }
}
