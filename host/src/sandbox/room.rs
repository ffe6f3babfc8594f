//! Whether the state folder has room for guests to make anything. What is made
//! is put on record there, and may itself stand on the same disk: a full one
//! would stop the host. Removing is never asked about.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// An answer of the file system counts for so many milliseconds: a disk takes
/// some megabytes in that time.
const COUNTS_FOR: u64 = 10;

/// Watches the free space of one file system.
#[derive(Debug)]
pub struct Room {
    /// A folder of the file system; `None` where nothing is watched.
    folder: Option<File>,
    min_free: u64,
    since: Instant,
    /// Milliseconds since `since` until which there is room for all that is
    /// known; 0 where there is none, or nobody looked.
    fine_until: AtomicU64,
}

impl Room {
    /// Watches the file system of `folder`, on which `min_free` bytes are to stay
    /// free.
    pub fn of(folder: &Path, min_free: u64) -> io::Result<Self> {
        let folder = if min_free > 0 { Some(File::open(folder)?) } else { None };
        Ok(Self { folder, min_free, since: Instant::now(), fine_until: AtomicU64::new(0) })
    }

    /// Watches nothing: there is always room.
    #[must_use]
    pub fn endless() -> Self {
        Self { folder: None, min_free: 0, since: Instant::now(), fine_until: AtomicU64::new(0) }
    }

    /// Whether something may be made. Where the file system does not answer,
    /// nothing may.
    #[must_use]
    pub fn is_there(&self) -> bool {
        let Some(folder) = &self.folder else { return true };
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        if now < self.fine_until.load(Ordering::Relaxed) {
            return true;
        }
        let free = rustix::fs::fstatvfs(folder).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        let fine = free.is_ok_and(|free| free >= self.min_free);
        let until = if fine { now.saturating_add(COUNTS_FOR) } else { 0 };
        self.fine_until.store(until, Ordering::Relaxed);
        fine
    }
}

/// Why nothing may be made where there is none.
impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let min_free = bytesize::ByteSize(self.min_free).display().iec();
        write!(
            f,
            "the file system of the state folder has less than {min_free} free (state_min_free), so that guests may \
             remove and move files and make none"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_as_long_as_enough_is_free() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Room::endless().is_there());
        assert!(Room::of(folder.path(), 1).unwrap().is_there());
        assert!(!Room::of(folder.path(), u64::MAX).unwrap().is_there());
        // It is looked again: what is gone may come back.
        let room = Room { fine_until: AtomicU64::new(u64::MAX), ..Room::of(folder.path(), u64::MAX).unwrap() };
        assert!(room.is_there());
        room.fine_until.store(0, Ordering::Relaxed);
        assert!(!room.is_there());
    }
}
