//! The queue, opened beside a host that may be running.

use crate::config::{Backend, Config};
use crate::store::sqlite::{SqliteOptions, SqliteStore};
use crate::store::{SharedStore, StoreError};

/// Opens the queue that the configuration names; it is made where there is
/// none. Blocks on the disk.
pub(super) fn open(config: &Config) -> Result<SharedStore, StoreError> {
    let Backend::Sqlite(file) = &config.database.backend;
    Ok(std::sync::Arc::new(SqliteStore::open(file, SqliteOptions::beside())?))
}
