//! From SQLite's errors to the store's: sorted by what the caller can do, and
//! told with the file's name.

use std::path::Path;

use rusqlite::ErrorCode;

use super::place::Place;
use crate::store::StoreError;

/// Why a command was not applied, before anybody knows which file it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// SQLite said no.
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    /// The command makes no sense, whatever the state of the disk.
    #[error("{0}")]
    Refused(String),
}

impl Fault {
    /// Whether the command itself is at fault, so that others in its group
    /// need not suffer.
    pub(super) fn is_the_commands(&self) -> bool {
        match self {
            Self::Sql(rusqlite::Error::SqliteFailure(error, _)) => {
                matches!(error.code, ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch)
            }
            // Of rusqlite's own errors: rows or arguments that do not fit.
            Self::Refused(_) | Self::Sql(_) => true,
        }
    }

    /// Whether the disk of the database at `path`, or a quota on it, is full.
    /// SQLite tells that only of the simplest case.
    pub(super) fn is_full(&self, path: &Path) -> bool {
        let Self::Sql(error) = self else { return false };
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => true,
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => Place::is_full(path),
            _ => false,
        }
    }

    /// As the store's error about the database at `path`.
    pub(super) fn about(&self, about: &Path) -> StoreError {
        if self.is_the_commands() {
            return StoreError::Rejected(self.to_string());
        }
        let Self::Sql(error) = self else {
            return StoreError::Rejected(self.to_string());
        };
        let path = about.display();
        match error.sqlite_error_code() {
            _ if self.is_full(about) => full(about),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Unavailable(format!(
                "{path}: another process holds its write lock; end what keeps a transaction open there"
            )),
            Some(ErrorCode::NotADatabase) => StoreError::Incompatible(format!(
                "{path} is no SQLite database; name another file or move this one away"
            )),
            Some(ErrorCode::DatabaseCorrupt) => {
                StoreError::Unavailable(format!("{path} is damaged ({error}); stop sweepd and restore a backup"))
            }
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => StoreError::Unavailable(
                format!("{path} cannot be opened for writing ({error}); check the rights of the file and its folder"),
            ),
            _ => StoreError::Unavailable(format!("{path}: {error}; check the disk that holds it")),
        }
    }
}

/// The disk of the database at `path` is full.
pub(super) fn full(path: &Path) -> StoreError {
    StoreError::Full(format!("{}: the disk or its quota is full; free space there", path.display()))
}
