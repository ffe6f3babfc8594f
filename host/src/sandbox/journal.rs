//! What plugins are about to do to files and what came of it, written down
//! before and after each mutation, so that it is on record also when the host is
//! killed in between.
//!
//! ```text
//!  intent ─▶ system call ─▶ result ─▶ …imported by the finish transaction ─▶ settled
//! ```
//! A journal is a folder of segments, written by `write(2)`: they survive the
//! death of the process, not that of the machine. A segment of which everything
//! is in the database is removed. What a dead host left is read back by
//! [`leftovers`]. The invariant: no mutation without its intent in a segment or
//! in the database.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::domain::effect::{Effect, EffectId, EffectResult};

/// A segment that is larger gets no more intents.
const SEGMENT: u64 = 4 << 20;

const SUFFIX: &str = "effects";

/// One line of a segment. The encoding is internal to one machine and version:
/// a record that cannot be read is reported, never guessed.
#[derive(Debug, Deserialize)]
enum Record {
    Intent(Effect),
    Result(EffectId, EffectResult),
}

/// The same, to be written.
#[derive(Debug, Serialize)]
enum Written<'a> {
    Intent(&'a Effect),
    Result(EffectId, &'a EffectResult),
}

/// The journal of one host. A clone is another handle.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: u64,
    folder: PathBuf,
    last: AtomicU64,
    writing: Mutex<Writing>,
}

#[derive(Debug)]
struct Writing {
    segment: Arc<Segment>,
    segments: u64,
    buffer: Vec<u8>,
}

/// One file. It is locked while its host lives.
#[derive(Debug)]
struct Segment {
    path: PathBuf,
    file: File,
    size: AtomicU64,
    /// Effects that are not in the database yet; one more while it is the
    /// segment that is written to.
    open: AtomicU64,
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
        let segment = Segment::create(folder, id, 0)?;
        let writing = Mutex::new(Writing { segment, segments: 1, buffer: Vec::with_capacity(512) });
        Ok(Self(Arc::new(Inner { id, folder: folder.to_owned(), last: AtomicU64::new(0), writing })))
    }

    /// Its number, of which the effects are named.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// A name for the next effect.
    pub(super) fn next(&self) -> EffectId {
        EffectId { journal: self.0.id, number: self.0.last.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    /// Writes down what is about to be done. Where this fails, it must not be
    /// done.
    pub(super) fn intend(&self, effect: &Effect) -> io::Result<Noted> {
        let mut writing = self.writing();
        if writing.segment.size.load(Ordering::Relaxed) > SEGMENT {
            let next = Segment::create(&self.0.folder, self.0.id, writing.segments)?;
            writing.segments += 1;
            std::mem::replace(&mut writing.segment, next).settle(1);
        }
        writing.append(&Written::Intent(effect))?;
        let segment = Arc::clone(&writing.segment);
        segment.open.fetch_add(1, Ordering::SeqCst);
        Ok(Noted(segment))
    }

    /// Writes down what came of it. A failure is not the guest's: what was done
    /// is done, and the database gets the result all the same.
    pub(super) fn conclude(&self, effect: &Effect) {
        let written = self.writing().append(&Written::Result(effect.id, &effect.result));
        if let Err(error) = written {
            tracing::error!("the result of an effect could not be written down: {error}");
        }
    }

    fn writing(&self) -> MutexGuard<'_, Writing> {
        self.0.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A host that ends well leaves nothing to read back.
        self.writing.get_mut().unwrap_or_else(PoisonError::into_inner).segment.settle(1);
    }
}

impl Noted {
    /// The database has the effect.
    pub fn settle(self) {
        self.0.settle(1);
    }
}

impl Writing {
    /// One `write` a record, so that a killed host leaves whole ones.
    fn append(&mut self, record: &Written<'_>) -> io::Result<()> {
        if self.segment.size.load(Ordering::Relaxed) == u64::MAX {
            return Err(io::Error::other("the segment ends with half a record"));
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(&[0; 8]);
        let buffer = std::mem::take(&mut self.buffer);
        self.buffer = postcard::to_extend(record, buffer).map_err(io::Error::other)?;
        let (head, body) = self.buffer.split_at_mut(8);
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        head[..4].copy_from_slice(&length.to_le_bytes());
        head[4..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        let segment = &self.segment;
        let before = segment.size.load(Ordering::Relaxed);
        if let Err(error) = (&segment.file).write_all(&self.buffer) {
            // Half a record would hide all that follow it.
            if segment.file.set_len(before).is_err() {
                segment.size.store(u64::MAX, Ordering::Relaxed);
            }
            return Err(error);
        }
        segment.size.store(before + self.buffer.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

impl Segment {
    fn create(folder: &Path, journal: u64, number: u64) -> io::Result<Arc<Self>> {
        let path = folder.join(format!("{journal:016x}-{number:010}.{SUFFIX}"));
        let file = OpenOptions::new().append(true).create_new(true).open(&path)?;
        file.try_lock().map_err(io::Error::from)?;
        Ok(Arc::new(Self { path, file, size: AtomicU64::new(0), open: AtomicU64::new(1) }))
    }

    fn settle(&self, effects: u64) {
        if self.open.fetch_sub(effects, Ordering::SeqCst) == effects
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!("{} could not be removed: {error}", self.path.display());
        }
    }
}

/// What dead hosts left in `folder`.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// Their effects, each once, in the order of each journal. Without a result
    /// they are `Unknown`.
    pub effects: Vec<Effect>,
    /// The files that they stand in.
    files: Vec<(PathBuf, File)>,
}

impl Leftovers {
    /// The database has them all.
    pub fn settle(self) {
        for (path, _) in &self.files {
            if let Err(error) = fs::remove_file(path) {
                tracing::warn!("{} could not be removed: {error}", path.display());
            }
        }
    }
}

/// Reads what dead hosts left. Files of living ones are passed over.
pub fn leftovers(folder: &Path) -> io::Result<Leftovers> {
    let mut names = Vec::new();
    match fs::read_dir(folder) {
        Ok(entries) => {
            for entry in entries {
                let path = entry?.path();
                if path.extension().is_some_and(|suffix| suffix == SUFFIX) {
                    names.push(path);
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    names.sort();
    let mut left = Leftovers::default();
    for path in names {
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if file.try_lock().is_err() {
            continue;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        read(&path, &bytes, &mut left.effects);
        left.files.push((path, file));
    }
    Ok(left)
}

fn read(path: &Path, mut bytes: &[u8], effects: &mut Vec<Effect>) {
    while !bytes.is_empty() {
        let Some((record, rest)) = read_record(bytes) else {
            tracing::error!(
                "{}: the last {} bytes cannot be read: what they tell of a file is lost",
                path.display(),
                bytes.len()
            );
            return;
        };
        bytes = rest;
        match record {
            Record::Intent(effect) => effects.push(effect),
            Record::Result(id, result) => {
                // The result follows its intent closely; where the database had
                // both already, the intent's segment may be gone.
                if let Some(effect) = effects.iter_mut().rev().find(|effect| effect.id == id) {
                    effect.result = result;
                }
            }
        }
    }
}

fn read_record(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (head, rest) = bytes.split_at_checked(8)?;
    let length = u32::from_le_bytes(head[..4].try_into().ok()?) as usize;
    let (body, rest) = rest.split_at_checked(length)?;
    let sum = u32::from_le_bytes(head[4..].try_into().ok()?);
    if crc32fast::hash(body) != sum {
        return None;
    }
    Some((postcard::from_bytes(body).ok()?, rest))
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
        for torn in [vec![1], vec![9, 0, 0, 0, 1, 2, 3, 4, 5], vec![0xff; 300]] {
            fs::write(&path, [whole.clone(), torn].concat()).unwrap();
            assert_eq!(leftovers(folder.path()).unwrap().effects.len(), 1);
        }
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
