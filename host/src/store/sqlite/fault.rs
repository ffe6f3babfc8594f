//! From SQLite's errors to the store's: sorted by what the caller can do, and
//! told with the file's name.

use std::ffi::c_int;
use std::io;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, ffi};
use rustix::io::Errno;

use super::errno;
use super::place::Place;
use crate::disk;
use crate::limits;
use crate::store::StoreError;

/// Why a command was not applied, before anybody knows which file it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// SQLite said no.
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    /// SQLite said no, for the system did.
    #[error("{error}: {}", io::Error::from(*errno))]
    System {
        /// SQLite's words.
        error: rusqlite::Error,
        /// The system's.
        errno: Errno,
    },
    /// The command makes no sense, whatever the state of the disk.
    #[error("{0}")]
    Refused(String),
}

impl Fault {
    /// With what the system said of it; right after it happened on `conn`.
    pub(super) fn on(self, conn: &Connection) -> Self {
        match self {
            Self::Sql(error) => match errno::behind(conn, &error) {
                Some(errno) => Self::System { error, errno },
                None => Self::Sql(error),
            },
            other => other,
        }
    }

    fn sql(&self) -> Option<&rusqlite::Error> {
        match self {
            Self::Sql(error) | Self::System { error, .. } => Some(error),
            Self::Refused(_) => None,
        }
    }

    fn errno(&self) -> Option<Errno> {
        if let Self::System { errno, .. } = self { Some(*errno) } else { None }
    }

    /// SQLite's word for it, if it is one of SQLite's.
    pub(super) fn code(&self) -> Option<ErrorCode> {
        self.sql()?.sqlite_error_code()
    }

    /// Whether the command itself is at fault, so that others in its group
    /// need not suffer.
    pub(super) fn is_the_commands(&self) -> bool {
        match self {
            Self::Sql(rusqlite::Error::SqliteFailure(error, _)) => {
                matches!(error.code, ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch)
            }
            Self::System { .. } => false,
            // Of rusqlite's own errors: rows or arguments that do not fit.
            Self::Refused(_) | Self::Sql(_) => true,
        }
    }

    /// Whether the disk of the database at `path`, or a quota on it, is full.
    /// SQLite tells that only of the simplest case.
    pub(super) fn is_full(&self, path: &Path) -> bool {
        if self.errno().is_some_and(|errno| disk::is_full(&errno.into())) {
            return true;
        }
        match self.code() {
            Some(ErrorCode::DiskFull) => true,
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => {
                Place::is_full(path) || Place::largest(path).is_some()
            }
            _ => false,
        }
    }

    /// As the store's error about the database at `path`.
    pub(super) fn about(&self, about: &Path) -> StoreError {
        if self.is_the_commands() {
            return StoreError::Rejected(self.to_string());
        }
        let Some(error) = self.sql() else {
            return StoreError::Rejected(self.to_string());
        };
        let path = about.display();
        match error.sqlite_error_code() {
            _ if self.errno() == Some(Errno::FBIG) => at_limit(about, limits::file_size().unwrap_or(u64::MAX)),
            _ if self.is_full(about) => full(about),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy(format!(
                "{path}: another process holds its write lock; end what keeps a transaction open there"
            )),
            Some(ErrorCode::SystemIoFailure) => disk_failed(about, deed(error), self.errno()),
            // The disk did not answer, and SQLite takes that for damage.
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) if self.errno() == Some(Errno::IO) => {
                disk_failed(about, "reading", self.errno())
            }
            Some(ErrorCode::NotADatabase) => StoreError::Incompatible(format!(
                "{path} is no SQLite database; name another file or move this one away"
            )),
            Some(ErrorCode::DatabaseCorrupt) => StoreError::Unavailable(format!(
                "what was read from {path} or its log is no sound database ({error}): its disk gave back something else \
                 than was written, for now or for good. Replace nothing yet: look at the kernel's log (dmesg), stop \
                 sweepd, copy {path} and {path}-wal away, and ask the copy: `sqlite3 COPY 'PRAGMA integrity_check'`"
            )),
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => StoreError::Unavailable(
                format!("{path} cannot be opened for writing ({self}); check the rights of the file and its folder"),
            ),
            _ => StoreError::Unavailable(format!("{path}: {self}; check the disk that holds it")),
        }
    }
}

/// What was being done to the file or its log, by SQLite's more exact word.
fn deed(error: &rusqlite::Error) -> &'static str {
    let rusqlite::Error::SqliteFailure(ffi::Error { extended_code, .. }, _) = error else { return "using" };
    deed_of(*extended_code)
}

fn deed_of(extended: c_int) -> &'static str {
    match extended {
        ffi::SQLITE_IOERR_READ
        | ffi::SQLITE_IOERR_SHORT_READ
        | ffi::SQLITE_IOERR_DATA
        | ffi::SQLITE_IOERR_CORRUPTFS => "reading",
        ffi::SQLITE_IOERR_WRITE => "writing",
        ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC => "syncing",
        ffi::SQLITE_IOERR_TRUNCATE => "cutting",
        ffi::SQLITE_IOERR_LOCK | ffi::SQLITE_IOERR_RDLOCK | ffi::SQLITE_IOERR_UNLOCK | ffi::SQLITE_IOERR_SHMLOCK => {
            "locking"
        }
        ffi::SQLITE_IOERR_SHMOPEN | ffi::SQLITE_IOERR_SHMSIZE | ffi::SQLITE_IOERR_SHMMAP => {
            "mapping the log's index of"
        }
        ffi::SQLITE_IOERR_FSTAT | ffi::SQLITE_IOERR_ACCESS => "looking at",
        ffi::SQLITE_IOERR_DELETE => "removing the log of",
        _ => "using",
    }
}

/// The disk of the database at `path` did not do it: nothing is known to be wrong
/// with the database.
fn disk_failed(path: &Path, deed: &str, errno: Option<Errno>) -> StoreError {
    let why = errno.map_or_else(|| "an input/output error".to_owned(), |errno| io::Error::from(errno).to_string());
    StoreError::Unavailable(format!(
        "{deed} {} or its log failed: {why}. That is its disk, or the way to it: look at the kernel's log (dmesg) and \
         mend the disk first. The database may be whole: replace nothing until the disk answers",
        path.display()
    ))
}

/// The disk of the database at `path` is full.
pub(super) fn full(path: &Path) -> StoreError {
    if let Some(most) = Place::largest(path) {
        return at_limit(path, most);
    }
    StoreError::Full(format!("{}: the disk or its quota is full; free space there", path.display()))
}

/// The database at `path`, or its log, may become no larger.
pub(super) fn at_limit(path: &Path, most: u64) -> StoreError {
    StoreError::Full(format!(
        "{}: it and its log may not become larger than {most} bytes each (ulimit -f of this process); raise that and \
         start the host again",
        path.display()
    ))
}

/// The disk of the database at `path` is full, and what opens it has to end for
/// that.
pub(super) fn full_from_the_start(path: &Path) -> StoreError {
    StoreError::Full(format!(
        "{}: the disk or its quota is full, and nothing is kept there for that; free 8 MiB there, then start this again",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: c_int, errno: Option<Errno>) -> String {
        let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        let fault = match errno {
            Some(errno) => Fault::System { error, errno },
            None => Fault::Sql(error),
        };
        let folder = tempfile::tempdir().unwrap();
        fault.about(&folder.path().join("q.db")).to_string()
    }

    #[test]
    fn a_disk_that_fails_is_told_from_a_damaged_database() {
        for (code, errno, words) in [
            (ffi::SQLITE_IOERR_READ, Some(Errno::IO), &["reading", "os error 5", "dmesg"][..]),
            (ffi::SQLITE_IOERR_WRITE, Some(Errno::NODEV), &["writing", "os error 19"]),
            (ffi::SQLITE_IOERR_FSYNC, None, &["syncing", "input/output"]),
            // As SQLite tells of a read that failed.
            (ffi::SQLITE_CORRUPT, Some(Errno::IO), &["reading", "os error 5", "may be whole"]),
            (ffi::SQLITE_CORRUPT, None, &["no sound database", "integrity_check"]),
            (ffi::SQLITE_IOERR_WRITE, Some(Errno::DQUOT), &["quota is full"]),
        ] {
            let told = told(code, errno);
            assert!(words.iter().all(|word| told.contains(word)), "{told}");
            assert!(!told.contains("restore"), "nothing that loses data: {told}");
        }
    }
}
