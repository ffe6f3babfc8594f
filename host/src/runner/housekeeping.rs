//! Forgets what ended long ago, a little at a time.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::domain::time::Timestamp;
use crate::stop::told;
use crate::store::{At, Prune, SharedStore, StoreError};

/// How often it is looked for what may go.
const EVERY: Duration = Duration::from_mins(1);

/// Tasks that go in one transaction: a few milliseconds of work.
const AT_ONCE: u32 = 500;

/// Between two such transactions others have their turn.
const REST: Duration = Duration::from_millis(20);

/// Keeps ended tasks for `kept`, until `stop` becomes true.
pub(super) async fn keep_house(store: SharedStore, kept: Duration, mut stop: watch::Receiver<bool>) {
    loop {
        if let Err(error) = prune(&store, kept, &mut stop).await {
            tracing::warn!("old history could not be pruned: {error}");
        }
        tokio::select! {
            () = told(&mut stop) => return,
            () = sleep(EVERY) => {}
        }
    }
}

async fn prune(store: &SharedStore, kept: Duration, stop: &mut watch::Receiver<bool>) -> Result<(), StoreError> {
    let now = store.now(At::Server).await?;
    let kept = u64::try_from(kept.as_millis()).unwrap_or(u64::MAX);
    let prune = Prune { ended_before: Timestamp(now.0.saturating_sub(kept)), limit: AT_ONCE };
    let mut tasks = 0;
    while !*stop.borrow() {
        let pruned = store.prune(prune, At::Server).await?;
        tasks += pruned.tasks;
        if !pruned.more {
            break;
        }
        sleep(REST).await;
    }
    if tasks > 0 {
        tracing::info!(tasks, "pruned old history");
    }
    Ok(())
}
