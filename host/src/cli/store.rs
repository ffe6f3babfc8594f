//! The queue, opened beside a host that may be running.

use std::path::Path;

use crate::config::{Backend, Config};
use crate::store::sqlite::{SqliteOptions, SqliteStore};
use crate::store::{SharedStore, StoreError};

/// Opens the queue that the configuration names; it is made where there is
/// none. Blocks on the disk.
pub(super) fn open(config: &Config) -> Result<SharedStore, StoreError> {
    let file = file(config)?;
    Ok(std::sync::Arc::new(SqliteStore::open(file, SqliteOptions::beside())?))
}

/// The queue's file.
pub(super) fn file(config: &Config) -> Result<&Path, StoreError> {
    match &config.database.backend {
        Backend::Sqlite(file) => Ok(file),
        Backend::Postgres(url) | Backend::MySql(url) => {
            Err(StoreError::Incompatible(format!("{url} is not supported by this command yet")))
        }
    }
}
