//! Room on the disk for the time when there is no other: two files beside the
//! database that hold nothing. On a full disk they are removed, and what was
//! theirs goes into the database and its log. Each also gives back an inode.
//!
//! ```text
//!  full ─▶ the second goes, for whatever is written
//!  full again ─▶ new tasks are refused, and the first goes, for all else
//!  room again ─▶ the first is made, then the second
//! ```
//! The invariant: while the first is gone, no new task is queued, so that the
//! room is there for what claims, finishes and effects of queued tasks need.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::place::with_suffix;
use crate::disk;

/// Bytes of a part: thousands of finished tasks.
const PART: u64 = 8 << 20;

/// A part takes no more than this share of a small file system.
const SHARE: u64 = 64;

/// How often it is looked whether there is room again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How much of it is left, as far as this process knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stock {
    Whole,
    /// One part, or none that was ever made.
    Part,
    /// The first part was given.
    Low,
}

/// The reserve of one database.
#[derive(Debug)]
pub(super) struct Reserve {
    parts: [PathBuf; 2],
    /// Only a host makes them; a tool beside it may have to remove them.
    keeps: bool,
    stock: Stock,
    looked: Option<Instant>,
    /// Whether it was said that there is no room for it.
    said: bool,
}

impl Reserve {
    /// That of the database at this path. Nothing is made yet.
    pub(super) fn of(database: &Path, keeps: bool) -> Self {
        let parts = [".reserve-1", ".reserve-2"].map(|suffix| with_suffix(database, suffix));
        Self { parts, keeps, stock: Stock::Part, looked: None, said: false }
    }

    /// Whether it is used up so far that no new task may be queued.
    pub(super) fn is_low(&self) -> bool {
        self.stock == Stock::Low
    }

    /// Whether both parts are there.
    pub(super) fn is_whole(&self) -> bool {
        self.stock == Stock::Whole
    }

    /// Gives the second part to whatever is written next. Answers whether
    /// anything was given.
    pub(super) fn give_second(&mut self) -> bool {
        self.give(1)
    }

    /// Gives the first part: from now on it is low.
    pub(super) fn give_first(&mut self) -> bool {
        let given = self.give(0);
        if self.keeps {
            self.stock = Stock::Low;
        }
        given
    }

    fn give(&mut self, part: usize) -> bool {
        if self.stock == Stock::Whole {
            self.stock = Stock::Part;
        }
        // There is no room now: it need not be looked for.
        self.looked = Some(Instant::now());
        let path = &self.parts[part];
        match fs::remove_file(path) {
            Ok(()) => {
                tracing::warn!("the disk is full: gave up {}, which was kept for that", path.display());
                true
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                tracing::warn!("{} could not be removed: {error}", path.display());
                false
            }
        }
    }

    /// Makes what is missing, where the disk has room for that and as much again.
    /// Does nothing when it is asked again soon.
    pub(super) fn regain(&mut self) {
        if !self.keeps || self.looked.is_some_and(|last| last.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked = Some(Instant::now());
        for number in 0..self.parts.len() {
            match make(&self.parts[number]) {
                Ok(()) if number == 0 && self.stock == Stock::Low => {
                    tracing::info!("the disk has room again: new tasks are queued");
                    self.stock = Stock::Part;
                }
                Ok(()) => {}
                Err(error) => {
                    if !std::mem::replace(&mut self.said, true) {
                        let path = self.parts[number].display();
                        tracing::warn!(
                            "{path}: no room is kept for the time when the disk is full: {error}; free space there"
                        );
                    }
                    return;
                }
            }
        }
        (self.stock, self.said) = (Stock::Whole, false);
    }
}

/// Makes a part unless it is there.
fn make(path: &Path) -> io::Result<()> {
    // A host that was killed while it made one leaves an empty file.
    if fs::metadata(path).is_ok_and(|there| there.len() > 0) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    let room = disk::room(folder)?;
    let size = PART.min(room.size / SHARE);
    if room.free < 2 * size {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let made = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    disk::allocate(&made, size).inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::disk::small::SmallDisk;

    fn look(reserve: &mut Reserve) -> (bool, bool) {
        reserve.looked = None;
        reserve.regain();
        (reserve.is_whole(), reserve.is_low())
    }

    #[test]
    fn it_is_made_given_and_made_again() {
        let disk = SmallDisk::new(64 << 20);
        let room = || disk::room(disk.path()).unwrap().free >> 20;
        let mut reserve = Reserve::of(&disk.path().join("q.db"), true);
        assert_eq!((look(&mut reserve), room()), ((true, false), 62), "two parts of a 64th");
        assert!(reserve.give_second() && !reserve.give_second());
        assert!(reserve.give_first() && !reserve.give_first());
        assert_eq!((reserve.is_low(), room()), (true, 64));
        let fill = File::create(disk.path().join("fill")).unwrap();
        disk::allocate(&fill, 63 << 20).unwrap();
        assert_eq!(look(&mut reserve), (false, true), "it would take all there is");
        fill.set_len(62 << 20).unwrap();
        assert_eq!(look(&mut reserve), (false, false), "the first part is there");
        fill.set_len(0).unwrap();
        assert_eq!((look(&mut reserve), room()), ((true, false), 62));
    }

    #[test]
    fn a_tool_beside_gives_and_makes_nothing() {
        let disk = SmallDisk::new(64 << 20);
        let database = disk.path().join("q.db");
        assert_eq!(look(&mut Reserve::of(&database, true)), (true, false));
        let mut beside = Reserve::of(&database, false);
        assert!(beside.give_second() && beside.give_first());
        assert_eq!(look(&mut beside), (false, false));
        assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
    }
}
