//! What plugins are about to do to files and what came of it, written down
//! before and after each mutation, so that it is on record also when the host is
//! killed in between.
//!
//! ```text
//!  intent ─▶ system call ─▶ result ─▶ …imported by the finish transaction ─▶ settled
//! ```
//! A journal is a folder of segments. What is in one survives the death of the
//! process, not that of the machine. A segment of which everything is in the
//! database is removed. What a dead host left is read back by [`leftovers`]. The
//! invariant: no mutation without its intent in a segment or in the database.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::domain::effect::{Effect, EffectId, EffectResult};
use crate::domain::time::Timestamp;

mod leftovers;
mod segment;

pub use self::leftovers::{Leftovers, leftovers};
use self::segment::{Pages, Segment};

/// A journal of so many segments is long: the database does not keep up with
/// what is done.
const LONG: u64 = if cfg!(test) { 4 } else { 64 };

/// One record of a segment. The encoding is internal to one machine and version:
/// a record that cannot be read is reported, never guessed.
#[derive(Debug, Deserialize)]
enum Record {
    Intent(Effect),
    Result(EffectId, EffectResult),
    /// The result of something that wrote so many bytes.
    Wrote(EffectId, EffectResult, u64),
    /// The result of something that became a part of another effect.
    Folded(EffectId, EffectResult, Sum),
}

/// An effect into which others were folded, as far as it differs from them.
#[derive(Debug, Deserialize, Serialize)]
struct Sum {
    id: EffectId,
    at: Timestamp,
    times: u64,
    size: u64,
    written: u64,
}

/// The same, to be written.
#[derive(Debug, Serialize)]
enum Written<'a> {
    Intent(&'a Effect),
    Result(EffectId, &'a EffectResult),
    Wrote(EffectId, &'a EffectResult, u64),
    Folded(EffectId, &'a EffectResult, Sum),
}

/// The journal of one host. A clone is another handle.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: u64,
    folder: PathBuf,
    last: AtomicU64,
    /// How many segments there are.
    segments: Arc<AtomicU64>,
    writing: Mutex<Writing>,
}

#[derive(Debug)]
struct Writing {
    segment: Arc<Segment>,
    pages: Pages,
    segments: u64,
}

/// An intent that was written down. Its effect is settled when the database has
/// it.
#[derive(Clone, Debug)]
pub struct Noted(Arc<Segment>);

impl Journal {
    /// Begins a journal in `folder`, which is made where there is none.
    pub fn begin(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let id = fastrand::u64(1..1 << 63);
        let segments = Arc::new(AtomicU64::new(0));
        let (segment, pages) = Segment::create(folder, id, 0, &segments)?;
        let writing = Mutex::new(Writing { segment, pages, segments: 1 });
        Ok(Self(Arc::new(Inner { id, folder: folder.to_owned(), last: AtomicU64::new(0), segments, writing })))
    }

    /// Its number, of which the effects are named.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Whether so much waits for the database that nothing is to be added which
    /// need not be.
    pub(super) fn is_long(&self) -> bool {
        self.0.segments.load(Ordering::Relaxed) > LONG
    }

    /// A name for the next effect.
    pub(super) fn next(&self) -> EffectId {
        EffectId { journal: self.0.id, number: self.0.last.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    /// Writes down what is about to be done. Where this fails, it must not be
    /// done.
    pub(super) fn intend(&self, effect: &Effect) -> io::Result<Noted> {
        let mut writing = self.writing();
        self.append(&mut writing, &Written::Intent(effect))?;
        let segment = Arc::clone(&writing.segment);
        segment.opens();
        Ok(Noted(segment))
    }

    /// Writes down what came of it. A failure is not the guest's: what was done
    /// is done, and the database gets the result all the same.
    pub(super) fn conclude(&self, effect: &Effect) {
        let record = match effect.written {
            0 => Written::Result(effect.id, &effect.result),
            written => Written::Wrote(effect.id, &effect.result, written),
        };
        if let Err(error) = self.append(&mut self.writing(), &record) {
            tracing::error!("the result of an effect could not be written down: {error}");
        }
    }

    /// Writes down that an effect became a part of `sum`.
    pub(super) fn fold(&self, id: EffectId, sum: &Effect) {
        let Effect { at, times, size, written, .. } = *sum;
        let record = Written::Folded(id, &sum.result, Sum { id: sum.id, at, times, size, written });
        if let Err(error) = self.append(&mut self.writing(), &record) {
            tracing::error!("the result of an effect could not be written down: {error}");
        }
    }

    /// Writes a record to the segment, or to the next where it has no room.
    fn append(&self, writing: &mut Writing, record: &Written<'_>) -> io::Result<()> {
        let Writing { segment, pages, segments } = writing;
        if pages.append(record)? {
            return Ok(());
        }
        let next = Segment::create(&self.0.folder, self.0.id, *segments, &self.0.segments)?;
        *segments += 1;
        *pages = next.1;
        std::mem::replace(segment, next.0).settle();
        let fits = pages.append(record)?;
        if fits { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "it is longer than a segment")) }
    }

    fn writing(&self) -> MutexGuard<'_, Writing> {
        self.0.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A host that ends well leaves nothing to read back.
        self.writing.get_mut().unwrap_or_else(PoisonError::into_inner).segment.settle();
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
mod tests {
    use super::*;
    use crate::domain::digest::Digest;
    use crate::domain::effect::Operation;
    use crate::domain::job::JobId;
    use crate::domain::task::TaskId;
    use crate::domain::time::Timestamp;

    fn effect(journal: &Journal, path: &str) -> Effect {
        Effect {
            id: journal.next(),
            job: JobId(1),
            task: TaskId(2),
            attempt: 1,
            digest: Digest::of(b"x"),
            operation: Operation::Remove,
            mount: "/srv".into(),
            path: path.to_owned(),
            to: None,
            to_mount: None,
            size: 3,
            modified: Timestamp(4),
            inode: 5,
            at: Timestamp(6),
            result: EffectResult::Unknown,
            trashed: false,
            times: 1,
            written: 0,
        }
    }

    fn segments(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn what_a_dead_host_left_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::begin(folder.path()).unwrap();
        let (a, b) = (effect(&journal, "a"), effect(&journal, "b"));
        journal.intend(&a).unwrap();
        journal.intend(&b).unwrap();
        let a = Effect { result: EffectResult::Done, ..a };
        journal.conclude(&a);
        assert!(leftovers(folder.path()).unwrap().effects.is_empty(), "its host lives");
        drop(journal);
        let left = leftovers(folder.path()).unwrap();
        assert_eq!(left.effects, [a, b]);
        left.settle();
        assert_eq!(segments(folder.path()), 0);
    }

    #[test]
    fn a_torn_end_loses_nothing_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::begin(folder.path()).unwrap();
        journal.intend(&effect(&journal, "a")).unwrap();
        let path = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        drop(journal);
        let whole = fs::read(&path).unwrap();
        let length = u32::from_le_bytes(whole[..4].try_into().unwrap()) as usize;
        for torn in [vec![1], vec![9, 0, 0, 0, 1, 2, 3, 4, 5], vec![0xff; 300]] {
            let mut bytes = whole.clone();
            bytes[segment::HEAD + length..][..torn.len()].copy_from_slice(&torn);
            // As it stands in the pages, and as the disk may have it.
            for end in [bytes.len(), segment::HEAD + length + torn.len()] {
                fs::write(&path, &bytes[..end]).unwrap();
                assert_eq!(leftovers(folder.path()).unwrap().effects.len(), 1);
            }
        }
    }

    #[test]
    fn what_is_written_is_in_the_file_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::begin(folder.path()).unwrap();
        let path = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let long = "x".repeat(4000);
        let mut effects = Vec::new();
        // More than the pages that are made ready at a time.
        for _ in 0..300 {
            let effect = effect(&journal, &long);
            let _noted = journal.intend(&effect).unwrap();
            effects.push(effect);
        }
        let mut read = Vec::new();
        leftovers::read(&path, &fs::read(&path).unwrap(), &mut read);
        assert_eq!(read, effects);
    }

    #[test]
    fn a_record_that_no_segment_holds_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::begin(folder.path()).unwrap();
        let endless = "x".repeat(8 << 20);
        assert!(journal.intend(&effect(&journal, &endless)).is_err());
        journal.intend(&effect(&journal, "a")).unwrap().settle();
    }

    #[test]
    fn what_was_folded_is_read_back_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::begin(folder.path()).unwrap();
        let [first, second, third] = ["a", "a", "a"].map(|path| effect(&journal, path));
        let mut sum = Effect { result: EffectResult::Done, ..first.clone() };
        journal.intend(&first).unwrap();
        journal.conclude(&sum);
        for other in [&second, &third] {
            journal.intend(other).unwrap();
            sum.absorb(&Effect { result: EffectResult::Done, size: 7, ..other.clone() });
            journal.fold(other.id, &sum);
        }
        drop(journal);
        assert_eq!(leftovers(folder.path()).unwrap().effects, [sum.clone()]);
        assert_eq!((sum.times, sum.size), (3, first.size + 14));

        // The sum is in the database already, and what was added since stands alone.
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::begin(folder.path()).unwrap();
        let more = effect(&journal, "a");
        journal.intend(&more).unwrap();
        sum.absorb(&more);
        journal.fold(more.id, &sum);
        drop(journal);
        assert_eq!(leftovers(folder.path()).unwrap().effects, [sum]);
    }

    #[test]
    fn what_was_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::begin(folder.path()).unwrap();
        let written = Effect { operation: Operation::Write, ..effect(&journal, "a") };
        journal.intend(&written).unwrap();
        let written = Effect { result: EffectResult::Done, written: 4096, ..written };
        journal.conclude(&written);
        drop(journal);
        assert_eq!(leftovers(folder.path()).unwrap().effects, [written]);
    }

    #[test]
    fn it_is_long_while_the_database_takes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::begin(folder.path()).unwrap();
        let (mut noted, long) = (Vec::new(), "x".repeat(64 << 10));
        while !journal.is_long() {
            noted.push(journal.intend(&effect(&journal, &long)).unwrap());
        }
        assert_eq!(segments(folder.path()) as u64, LONG + 1);
        noted.into_iter().for_each(Noted::settle);
        assert!(!journal.is_long());
    }

    #[test]
    fn a_segment_goes_when_the_database_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::begin(folder.path()).unwrap();
        let mut noted = Vec::new();
        let long = "x".repeat(4000);
        while segments(folder.path()) < 3 {
            noted.push(journal.intend(&effect(&journal, &long)).unwrap());
        }
        for noted in noted {
            noted.settle();
        }
        assert_eq!(segments(folder.path()), 1, "the one that is written to");
    }
}
