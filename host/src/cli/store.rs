//! The queue that the configuration names, for the host or for a command beside
//! it. All that the command line knows of the kinds of database is here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Backend, Config};
use crate::store::mysql::{MySqlOptions, MySqlStore};
use crate::store::postgres::{PostgresOptions, PostgresStore};
use crate::store::sqlite::{SqliteOptions, SqliteStore};
use crate::store::{SharedStore, StoreError};

use super::error::CliError;

/// How long a host waits for another one's migration before it says so, and tries
/// again for as long as `database.wait` lets it.
const ONE_TRY: Duration = Duration::from_millis(900);

/// Connections that a command needs.
const FOR_A_COMMAND: u32 = 2;

/// Opens the queue for the host; it is made where there is none. Dropped, it
/// waits no longer.
pub(super) async fn open_host(config: &Config) -> Result<SharedStore, StoreError> {
    connect(config, SqliteOptions::host(), config.database.max_connections, ONE_TRY).await
}

/// Opens the queue beside a host that may be running; it is made where there is
/// none.
pub(super) async fn open(config: &Config) -> Result<SharedStore, StoreError> {
    connect(config, SqliteOptions::beside(), FOR_A_COMMAND, PostgresOptions::default().patience).await
}

async fn connect(
    config: &Config,
    sqlite: SqliteOptions,
    max_connections: u32,
    patience: Duration,
) -> Result<SharedStore, StoreError> {
    Ok(match &config.database.backend {
        Backend::Sqlite(file) => {
            let file = file.clone();
            // It may wait for a disk, or for whoever has a lock.
            let open = move || SqliteStore::open(&file, sqlite);
            let opened = tokio::task::spawn_blocking(open).await;
            Arc::new(
                opened
                    .map_err(|panic| StoreError::Unavailable(format!("opening the database ended early: {panic}")))??,
            )
        }
        Backend::Postgres(url) => {
            let options = PostgresOptions { max_connections, patience, ..PostgresOptions::default() };
            Arc::new(PostgresStore::open(url.expose(), options).await?)
        }
        Backend::MySql(url) => {
            let options = MySqlOptions { max_connections, patience, ..MySqlOptions::default() };
            Arc::new(MySqlStore::open(url.expose(), options).await?)
        }
    })
}

/// Opens the queue so that nothing can be changed in it; `None` where there is
/// none yet.
pub(super) async fn open_read_only(config: &Config) -> Result<Option<SharedStore>, StoreError> {
    if missing(config).is_some() {
        return Ok(None);
    }
    Ok(Some(match &config.database.backend {
        Backend::Sqlite(file) => Arc::new(SqliteStore::open(file, SqliteOptions::read_only())?),
        Backend::Postgres(url) => {
            let options = PostgresOptions {
                max_connections: FOR_A_COMMAND,
                migrate: false,
                read_only: true,
                ..PostgresOptions::default()
            };
            Arc::new(PostgresStore::open(url.expose(), options).await?)
        }
        Backend::MySql(url) => {
            let options = MySqlOptions {
                max_connections: FOR_A_COMMAND,
                migrate: false,
                read_only: true,
                ..MySqlOptions::default()
            };
            Arc::new(MySqlStore::open(url.expose(), options).await?)
        }
    }))
}

/// Opens the queue to look at what it has or to change that; where there is
/// none, none is made.
pub(super) async fn open_existing(config: &Config) -> Result<SharedStore, CliError> {
    match missing(config) {
        Some(queue) => Err(CliError::NoQueue { queue: queue.to_owned() }),
        None => Ok(open(config).await?),
    }
}

/// Where the queue is, for people.
pub(super) fn place(config: &Config) -> String {
    match &config.database.backend {
        Backend::Sqlite(file) => file.display().to_string(),
        Backend::Postgres(url) | Backend::MySql(url) => url.to_string(),
    }
}

/// The file where the queue would be, while it is not there yet. A server's
/// database always is.
pub(super) fn missing(config: &Config) -> Option<&Path> {
    match &config.database.backend {
        Backend::Sqlite(file) => (!file.exists()).then_some(file),
        Backend::Postgres(_) | Backend::MySql(_) => None,
    }
}

/// The steps that the schema of the queue lacks, in order; what is there is
/// not changed.
pub(super) async fn pending_migrations(config: &Config) -> Result<Vec<String>, StoreError> {
    match &config.database.backend {
        Backend::Sqlite(file) => SqliteStore::pending_migrations(file),
        Backend::Postgres(url) => PostgresStore::pending_migrations(url.expose()).await,
        Backend::MySql(url) => MySqlStore::pending_migrations(url.expose()).await,
    }
}

/// Brings the schema up to date, under the database's own lock.
pub(super) async fn migrate(config: &Config) -> Result<(), StoreError> {
    open(config).await?.close().await;
    Ok(())
}
