//! Files that have their space on the disk and are no segments yet. They keep a
//! journal going on a full disk: a segment whose effects the database has becomes
//! the next one, instead of being removed.
//!
//! ```text
//!  made ─▶ spare ─▶ segment ─▶ the database has it ─▶ spare, where one is lacking
//!                                                  └▶ removed
//! ```
//! A spare file outlives its host, so that a restart on a full disk finds one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::segment::SIZE;
use crate::disk;

pub(super) const SUFFIX: &str = "spare";

/// Sizes of a segment where the disk has no room for a whole one: the first
/// deletions make room for that.
const SMALL: [u64; 2] = [1 << 20, 256 << 10];

/// So many are kept while the host runs.
const KEPT: usize = 1;
/// And so many when it begins: the first becomes its segment.
pub(super) const KEPT_AT_REST: usize = 2;

/// The spare files of one journal.
#[derive(Debug)]
pub(super) struct Spares {
    folder: PathBuf,
    idle: Mutex<Vec<Spare>>,
    /// How many files are segments now.
    segments: AtomicU64,
    /// Whether it was said that there is none.
    lacking: AtomicBool,
}

#[derive(Debug)]
struct Spare {
    path: PathBuf,
    /// Locked while its host lives.
    file: File,
    /// Bytes of it.
    size: u64,
    /// Whether it may hold anything but zeros.
    used: bool,
}

impl Spares {
    /// Takes over what earlier hosts left in `folder`, which is made where there
    /// is none.
    pub(super) fn adopt(folder: &Path) -> io::Result<Self> {
        let mut idle = Vec::new();
        let entries = match fs::create_dir_all(folder).and_then(|()| fs::read_dir(folder)) {
            Ok(entries) => Some(entries),
            // It is made with the first segment.
            Err(error) if disk::is_full(&error) => None,
            Err(error) => return Err(error),
        };
        for entry in entries.into_iter().flatten() {
            let path = entry?.path();
            if path.extension().is_none_or(|suffix| suffix != SUFFIX) {
                continue;
            }
            let Ok(file) = File::options().read(true).write(true).open(&path) else { continue };
            if file.try_lock().is_err() {
                continue;
            }
            if idle.len() < KEPT_AT_REST {
                let size = file.metadata()?.len();
                idle.push(Spare { path, file, size, used: true });
            } else {
                remove(&path);
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            idle: Mutex::new(idle),
            segments: AtomicU64::new(0),
            lacking: AtomicBool::new(false),
        })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// How many files are segments of the journal now.
    pub(super) fn segments(&self) -> u64 {
        self.segments.load(Ordering::Relaxed)
    }

    pub(super) fn one_more(&self) {
        self.segments.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn one_less(&self) {
        self.segments.fetch_sub(1, Ordering::Relaxed);
    }

    /// A file of zeros at `path` with the space of a segment, and how much that
    /// is: on a disk that is nearly full a small one is better than none.
    pub(super) fn take(&self, path: &Path) -> io::Result<(File, u64)> {
        while let Some(spare) = self.pop() {
            match spare.serve_as(path) {
                Ok(taken) => return Ok(taken),
                Err(error) => {
                    tracing::warn!("{} cannot be used: {error}", spare.path.display());
                    remove(&spare.path);
                }
            }
        }
        match make(path, SIZE) {
            Ok(file) => Ok((file, SIZE)),
            Err(error) if disk::is_full(&error) => {
                let small = SMALL.into_iter().find_map(|size| make(path, size).ok().map(|file| (file, size)));
                small.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// A segment of which nothing is needed any more: it is kept where a spare
    /// file is lacking.
    pub(super) fn keep(&self, path: &Path, file: &File, size: u64) {
        let mut idle = self.idle();
        if idle.len() < KEPT
            && let Ok(file) = file.try_clone()
        {
            let spare = path.with_extension(SUFFIX);
            if fs::rename(path, &spare).is_ok() {
                idle.push(Spare { path: spare, file, size, used: true });
                self.lacking.store(false, Ordering::Relaxed);
                return;
            }
        }
        drop(idle);
        remove(path);
    }

    /// Makes a spare file where there is none, if the disk has room; answers
    /// whether there is one.
    pub(super) fn refill(&self) -> bool {
        if self.idle().len() >= KEPT {
            return true;
        }
        let path = self.folder.join(format!("{:016x}.{SUFFIX}", fastrand::u64(..)));
        match make(&path, SIZE) {
            Ok(file) => {
                self.idle().push(Spare { path, file, size: SIZE, used: false });
                self.lacking.store(false, Ordering::Relaxed);
                true
            }
            Err(error) => {
                if !self.lacking.swap(true, Ordering::Relaxed) {
                    let folder = self.folder.display();
                    tracing::warn!("{folder}: no room for a spare file of the journal, which goes on without: {error}");
                }
                false
            }
        }
    }

    /// The lock ends with it: to make zeros of a file may take a while.
    fn pop(&self) -> Option<Spare> {
        self.idle().pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Spare>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spare {
    fn serve_as(&self, path: &Path) -> io::Result<(File, u64)> {
        let size = self.blank()?;
        fs::rename(&self.path, path)?;
        Ok((self.file.try_clone()?, size))
    }

    /// Makes it zeros, of the size of a segment where that is possible. Answers
    /// its size.
    fn blank(&self) -> io::Result<u64> {
        if !self.used {
            return Ok(self.size);
        }
        match disk::blank(&self.file, SIZE) {
            Err(error) if disk::is_full(&error) && SMALL.contains(&self.size) => {
                disk::blank(&self.file, self.size).map(|()| self.size)
            }
            blank => blank.map(|()| SIZE),
        }
    }
}

/// Makes a file with so much space, locked.
fn make(path: &Path, size: u64) -> io::Result<File> {
    let create = || OpenOptions::new().read(true).write(true).create_new(true).open(path);
    let file = match (create(), path.parent()) {
        // Somebody removed the folder.
        (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(folder)?;
            create()?
        }
        (file, _) => file?,
    };
    let made = file.try_lock().map_err(io::Error::from).and_then(|()| disk::allocate(&file, size));
    made.inspect_err(|_| remove(path)).map(|()| file)
}

pub(super) fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!("{} could not be removed: {error}", path.display());
    }
}
