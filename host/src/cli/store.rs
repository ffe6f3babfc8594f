//! The queue, opened beside a host that may be running. All that the commands
//! know of the kind of database is here.

use std::path::Path;
use std::sync::Arc;

use crate::config::{Backend, Config};
use crate::store::sqlite::{SqliteOptions, SqliteStore};
use crate::store::{SharedStore, StoreError};

use super::error::CliError;

/// Opens the queue that the configuration names; it is made where there is
/// none. Blocks on the disk.
pub(super) fn open(config: &Config) -> Result<SharedStore, StoreError> {
    let Backend::Sqlite(file) = &config.database.backend;
    Ok(Arc::new(SqliteStore::open(file, SqliteOptions::beside())?))
}

/// Opens the queue to look at what it has or to change that; where there is
/// none, none is made.
pub(super) fn open_existing(config: &Config) -> Result<SharedStore, CliError> {
    match missing(config) {
        Some(queue) => Err(CliError::NoQueue { queue: queue.to_owned() }),
        None => Ok(open(config)?),
    }
}

/// The file where the queue would be, while it is not there yet. A server's
/// database always is.
pub(super) fn missing(config: &Config) -> Option<&Path> {
    let Backend::Sqlite(file) = &config.database.backend;
    (!file.exists()).then_some(file)
}

/// The steps that the schema of the queue lacks, in order; what is there is
/// not changed.
pub(super) fn pending_migrations(config: &Config) -> Result<Vec<String>, StoreError> {
    let Backend::Sqlite(file) = &config.database.backend;
    SqliteStore::pending_migrations(file)
}

/// Brings the schema up to date, under the database's own lock.
pub(super) async fn migrate(config: &Config) -> Result<(), StoreError> {
    open(config)?.close().await;
    Ok(())
}
