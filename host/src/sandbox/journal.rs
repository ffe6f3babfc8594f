//! What plugins are about to do to files and what came of it, written down
//! before and after each mutation, so that it is on record also when the host is
//! killed in between.
//!
//! ```text
//!  intent ─▶ system call ─▶ result ─▶ …imported by the finish transaction ─▶ settled
//! ```
//! A journal is a folder of segments. What is in one survives the death of the
//! process, not that of the machine. A segment of which everything is in the
//! database becomes a spare file, or is removed. What a dead host left is read
//! back by [`leftovers`]. The invariant: no mutation without its intent in a
//! segment or in the database.
//!
//! An intent is written before its mutation. A result is written with the next
//! intent, or before the database is told of it, whichever comes first: one
//! system call a mutation instead of two. Where the host is killed before that,
//! the disk is asked for the result, as for that of a mutation that was under way.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::deadline::BootTime;
use crate::disk;
use crate::domain::effect::{Effect, EffectId};

mod leftovers;
mod record;
mod segment;
mod spare;

pub use self::leftovers::{Leftovers, leftovers};
use self::record::{Sum, Written};
use self::segment::{SIZE, Segment};
use self::spare::Spares;

/// Results that wait are written when they are so many bytes.
const WAITING: usize = 8 << 10;

/// While there is so much room in the segment, nothing is lacking.
const AHEAD: u64 = 64 << 10;

/// A journal of so many segments is long: the database does not keep up with
/// what is done.
const LONG: u64 = if cfg!(test) { 4 } else { 64 };

/// How often it is looked whether the segment is still what it was made.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The journal of one host. A clone is another handle.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: u64,
    last: AtomicU64,
    spares: Arc<Spares>,
    writing: Mutex<Writing>,
}

#[derive(Debug)]
struct Writing {
    /// None where the disk had no room for one.
    segment: Option<Arc<Segment>>,
    /// Where in it the next record goes.
    at: u64,
    /// Results that are not written yet; while an intent is written, that too.
    waiting: Vec<u8>,
    segments: u64,
    looked: BootTime,
}

/// An intent that was written down. Its effect is settled when the database has
/// it.
#[derive(Clone, Debug)]
pub struct Noted(Arc<Segment>);

impl Journal {
    /// Begins a journal in `folder`, which is made where there is none. On a full
    /// disk it begins without a segment: intents are refused until there is one.
    pub fn begin(folder: &Path) -> io::Result<Self> {
        let spares = Arc::new(Spares::adopt(folder)?);
        let id = fastrand::u64(1..1 << 63);
        let mut writing = Writing { segment: None, at: 0, waiting: Vec::new(), segments: 0, looked: BootTime::now() };
        match writing.go_on(&spares, id) {
            Ok(_) => {}
            Err(error) if disk::is_full(&error) => {
                tracing::error!("{}: the journal has no segment: {error}; free space there", folder.display());
            }
            Err(error) => return Err(error),
        }
        Ok(Self(Arc::new(Inner { id, last: AtomicU64::new(0), spares, writing: Mutex::new(writing) })))
    }

    /// Its number, of which the effects are named.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Whether so much waits for the database that nothing is to be added which
    /// need not be.
    pub(super) fn is_long(&self) -> bool {
        self.0.spares.segments() > LONG
    }

    /// A name for the next effect.
    pub(super) fn next(&self) -> EffectId {
        EffectId { journal: self.0.id, number: self.0.last.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    /// Writes down what is about to be done, `now`. Where this fails, it must not
    /// be done.
    pub(super) fn intend(&self, effect: &Effect, now: BootTime) -> io::Result<Noted> {
        let mut writing = self.writing();
        writing.look(&self.0.spares, self.0.id, now);
        let results = writing.waiting.len();
        let written = record::encode(&Written::intent(effect), &mut writing.waiting)
            .and_then(|()| writing.write(&self.0.spares, self.0.id));
        match written {
            Ok(segment) => {
                segment.opens();
                Ok(Noted(segment))
            }
            Err(error) => {
                // The results stay for the next time.
                writing.waiting.truncate(results);
                Err(error)
            }
        }
    }

    /// Whether intents can be written for a while. Takes space for that where it
    /// is lacking and the disk has some. Blocks on the disk.
    pub fn check(&self) -> io::Result<()> {
        let mut writing = self.writing();
        let Writing { segment, at, .. } = &*writing;
        match segment {
            None => writing.go_on(&self.0.spares, self.0.id).map(drop),
            Some(segment) if self.0.spares.refill() || segment.size().saturating_sub(*at) >= AHEAD => Ok(()),
            Some(_) => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    /// Notes what came of it, to be written with the next intent or by
    /// [`Self::flush`].
    pub(super) fn conclude(&self, effect: &Effect) {
        self.note(&match effect.written {
            0 => Written::Result(effect.id, &effect.result),
            written => Written::Wrote(effect.id, &effect.result, written),
        });
    }

    /// Notes that an effect became a part of `sum`, to be written like a result.
    pub(super) fn fold(&self, id: EffectId, sum: &Effect) {
        let Effect { at, times, size, written, .. } = *sum;
        self.note(&Written::Folded(id, &sum.result, Sum { id: sum.id, at, times, size, written }));
    }

    fn note(&self, result: &Written<'_>) {
        let mut writing = self.writing();
        if let Err(error) = record::encode(result, &mut writing.waiting) {
            tracing::error!("the result of an effect could not be written down: {error}");
        }
        if writing.waiting.len() > WAITING {
            self.flush_now(&mut writing);
        }
    }

    /// Writes down the results that wait. A failure is not the guest's: what was
    /// done is done, and the database gets the result all the same.
    pub(super) fn flush(&self) {
        self.flush_now(&mut self.writing());
    }

    fn flush_now(&self, writing: &mut Writing) {
        if !writing.waiting.is_empty()
            && let Err(error) = writing.write(&self.0.spares, self.0.id)
        {
            tracing::warn!("results of effects could not be written down: {error}");
            writing.waiting.clear();
        }
    }

    fn writing(&self) -> MutexGuard<'_, Writing> {
        self.0.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writing {
    /// Writes what waits, to the segment or to the next where it has no room.
    fn write(&mut self, spares: &Arc<Spares>, journal: u64) -> io::Result<Arc<Segment>> {
        let length = self.waiting.len() as u64;
        if length > SIZE {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is longer than a segment"));
        }
        let segment = match &self.segment {
            Some(segment) if self.at + length <= segment.size() => Arc::clone(segment),
            _ => self.go_on(spares, journal)?,
        };
        if length > segment.size() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        segment.write(&self.waiting, self.at)?;
        self.at += length;
        self.waiting.clear();
        Ok(segment)
    }

    /// Goes on with another segment, or, where the disk has no room for one, with
    /// the same where all of it is in the database.
    fn go_on(&mut self, spares: &Arc<Spares>, journal: u64) -> io::Result<Arc<Segment>> {
        let segment = match Segment::begin(spares, journal, self.segments) {
            Ok(next) => {
                self.segments += 1;
                if let Some(full) = self.segment.replace(Arc::clone(&next)) {
                    full.settle();
                }
                spares.refill();
                next
            }
            Err(error) => {
                let full = self.segment.clone().filter(|full| disk::is_full(&error) && full.stands());
                match full {
                    Some(full) if full.begin_anew()? => full,
                    _ => return Err(error),
                }
            }
        };
        self.at = 0;
        Ok(segment)
    }

    /// Now and then looks whether somebody cut or removed the segment: then what
    /// is in it is lost to a host that is killed, and another takes its place. A
    /// spare file that the disk had no room for is made as soon as it has.
    fn look(&mut self, spares: &Arc<Spares>, journal: u64, now: BootTime) {
        if now.since(self.looked) < LOOK_EVERY {
            return;
        }
        self.looked = now;
        spares.refill();
        let Some(segment) = self.segment.as_ref().filter(|segment| !segment.stands()) else { return };
        tracing::error!(
            "{} was cut or removed while in use: what stood in it is lost if this host is killed now; \
             keep other programs out of the state folder",
            segment.path().display()
        );
        if let Err(error) = self.go_on(spares, journal) {
            tracing::error!("the journal has no other segment: {error}");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let Self { id, spares, writing, .. } = self;
        let writing = writing.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !writing.waiting.is_empty() {
            // Without them the disk is asked.
            let _ = writing.write(spares, *id);
        }
        // A host that ends well leaves nothing to read back.
        if let Some(segment) = &writing.segment {
            segment.settle();
        }
    }
}

impl Noted {
    /// Whether one of the two is enough to keep the segment.
    pub(super) fn is_of_the_same_segment(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The database has the effect.
    pub fn settle(self) {
        self.0.settle();
    }
}

#[cfg(test)]
mod tests;
