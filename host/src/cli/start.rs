//! What a host waits for before it can begin: its database. Every wait says
//! what it waits for, and ends when its future is dropped.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::config::{Backend, Config};
use crate::store::{SharedStore, StoreError};

use super::store;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// A try that takes longer is told.
const LONG: Duration = Duration::from_secs(2);

/// Opens the queue, and waits for it for as long as `database.wait` says. Each
/// time that the reason changes it is told, and at the end it is the error. What
/// does not pass by waiting is an error at once.
pub(super) async fn open(config: &Config) -> Result<SharedStore, StoreError> {
    let patience = config.database.wait;
    let until = Instant::now() + patience;
    let mut told = None;
    loop {
        let error = match attempt(config).await {
            Ok(store) => {
                if told.is_some() {
                    tracing::info!("the database is there");
                }
                return Ok(store);
            }
            Err(error) if may_pass(config, &error) => error,
            Err(error) => return Err(error),
        };
        if Instant::now() + PAUSE > until {
            return Err(error);
        }
        let why = error.to_string();
        if told.as_ref() != Some(&why) {
            tracing::warn!("waiting for the database, for {patience:?} at most (database.wait): {why}");
            told = Some(why);
        }
        sleep(PAUSE).await;
    }
}

/// Whether waiting may help: a server may come, and a lock may be let go. What is
/// wrong with a file stays so.
fn may_pass(config: &Config, error: &StoreError) -> bool {
    match error {
        StoreError::Busy(_) => true,
        StoreError::Unavailable(_) | StoreError::Unknown(_) => !matches!(config.database.backend, Backend::Sqlite(_)),
        StoreError::Full(_) | StoreError::Rejected(_) | StoreError::Incompatible(_) => false,
    }
}

async fn attempt(config: &Config) -> Result<SharedStore, StoreError> {
    let open = async {
        let store = store::open_host(config).await?;
        // One that only reads, such as a standby, or that somebody has locked, is of
        // no use yet.
        match store.check().await {
            // New tasks are refused; what is queued goes on.
            Ok(()) | Err(StoreError::Full(_)) => Ok(store),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    };
    let mut open = std::pin::pin!(open);
    if let Ok(opened) = timeout(LONG, &mut open).await {
        return opened;
    }
    tracing::warn!("the database has not answered for {LONG:?}, waiting: {}", store::place(config));
    open.await
}
