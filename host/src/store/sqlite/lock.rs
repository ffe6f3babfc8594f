//! One host a file: a lock beside the database, held for as long as the host
//! lives and let go by the kernel when it dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::store::StoreError;

/// The right to be the database's one host.
#[derive(Debug)]
pub(super) struct HostLock {
    path: PathBuf,
    file: File,
}

impl HostLock {
    /// Takes the lock beside `database`, or says who has it.
    pub(super) fn take(database: &Path) -> Result<Self, StoreError> {
        let path = beside(database);
        let failed = |error: std::io::Error| {
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
                return Ok(Self { path, file });
            }
        }
        Err(StoreError::Unavailable(format!("{}: somebody keeps removing it", path.display())))
    }

    /// Whether the lock's file still stands at its place.
    pub(super) fn stands(&self) -> bool {
        is_at(&self.file, &self.path)
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
