//! One host a file: a lock beside the database and one on the database itself,
//! held for as long as the host lives and let go by the kernel when it dies. The
//! second knows the file by whatever name it is called: a bind mount, a link.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::fault::full_from_the_start;
use crate::disk;
use crate::store::StoreError;

/// The right to be the database's one host.
#[derive(Debug)]
pub(super) struct HostLock {
    path: PathBuf,
    file: File,
    /// The database. Closed after all connections to it: to close any descriptor
    /// of it lets go of all locks that SQLite has on it.
    database: Option<File>,
}

impl HostLock {
    /// Takes the lock beside `database`, or says who has it.
    pub(super) fn take(database: &Path) -> Result<Self, StoreError> {
        let path = beside(database);
        let failed = |error: std::io::Error| {
            if disk::is_full(&error) {
                return full_from_the_start(database);
            }
            StoreError::Unavailable(format!("{}: {error}; check the rights of its folder", path.display()))
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        // Again if the file was removed between opening and locking it: a lock
        // on a file without a name excludes nobody.
        for _ in 0..16 {
            let mut file = options.open(&path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(taken(database, &mut file)),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            if is_at(&file, &path) {
                // Who has it is for people; the lock stands without that, also on
                // a full disk. The old text is written over, so that its space
                // stays ours.
                let holder = std::process::id().to_string();
                if file.write_all_at(holder.as_bytes(), 0).is_ok() {
                    let _ = file.set_len(holder.len() as u64);
                }
                let mut lock = Self { path, file, database: None };
                // Where there is none yet, it is made anew and held then.
                if database.exists() {
                    lock.hold(database)?;
                }
                return Ok(lock);
            }
        }
        Err(StoreError::Unavailable(format!("{}: somebody keeps removing it", path.display())))
    }

    /// Takes the lock on the database itself: called while no connection of this
    /// process has it open.
    pub(super) fn hold(&mut self, database: &Path) -> Result<(), StoreError> {
        let failed = |error: std::io::Error| {
            StoreError::Unavailable(format!("{}: {error}; check the path and its rights", database.display()))
        };
        let file = File::open(database).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {
                if let Some(before) = self.database.replace(file) {
                    let _ = before.unlock();
                }
            }
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Unavailable(format!(
                    "{} is in use by another sweepd, under another name of the same file; stop that one or name another \
                     file: one host a file",
                    database.display()
                )));
            }
            // Not every file system has such locks; that beside it stands.
            Err(TryLockError::Error(error)) => {
                tracing::debug!("{} cannot be locked itself: {error}", database.display());
            }
        }
        Ok(())
    }

    /// Whether the lock's file still stands at its place.
    pub(super) fn stands(&self) -> bool {
        is_at(&self.file, &self.path)
    }
}

impl Drop for HostLock {
    /// Lets go by name, not by closing alone: a process that was just forked, and
    /// is about to become another program, has the same open files for a moment.
    fn drop(&mut self) {
        for file in self.database.iter().chain([&self.file]) {
            // Closing it does the same, later.
            let _ = file.unlock();
        }
    }
}

fn beside(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn taken(database: &Path, file: &mut File) -> StoreError {
    let mut holder = String::new();
    let process = match file.read_to_string(&mut holder) {
        Ok(_) if !holder.is_empty() => format!(" (process {})", holder.trim()),
        _ => String::new(),
    };
    StoreError::Unavailable(format!(
        "{} is in use by another sweepd{process}; stop that one or name another file: one host a file",
        database.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it is for a moment after every fork.
    #[test]
    fn a_lock_is_free_at_once_though_another_has_the_same_open_files() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("q.db");
        std::fs::write(&database, "").unwrap();
        for _ in 0..3 {
            let lock = HostLock::take(&database).unwrap();
            assert!(HostLock::take(&database).is_err(), "one host a file");
            let copies = [lock.file.try_clone().unwrap(), lock.database.as_ref().unwrap().try_clone().unwrap()];
            drop(lock);
            drop(HostLock::take(&database).unwrap());
            drop(copies);
        }
    }
}
