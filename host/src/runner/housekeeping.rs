//! Forgets what ended long ago, a little at a time.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::domain::time::Timestamp;
use crate::stop::told;
use crate::store::{At, Prune, SharedStore, StoreError};

/// How often it is looked for what may go.
const EVERY: Duration = Duration::from_mins(1);

/// Tasks, and effects, that go in one transaction: a few milliseconds of work.
const AT_ONCE: u32 = 500;

/// Between two such transactions others have their turn.
const REST: Duration = Duration::from_millis(20);

/// How old things get.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ages {
    /// Ended tasks.
    pub(super) history: Duration,
    /// Effects.
    pub(super) effects: Duration,
}

/// Forgets what was kept for long enough, until `stop` becomes true.
pub(super) async fn keep_house(store: SharedStore, ages: Ages, mut stop: watch::Receiver<bool>) {
    loop {
        if let Err(error) = prune(&store, ages, &mut stop).await {
            tracing::warn!("what is old could not be pruned: {error}");
        }
        tokio::select! {
            () = told(&mut stop) => return,
            () = sleep(EVERY) => {}
        }
    }
}

async fn prune(store: &SharedStore, ages: Ages, stop: &mut watch::Receiver<bool>) -> Result<(), StoreError> {
    let now = store.now(At::Server).await?;
    let ago = |kept: Duration| Timestamp(now.0.saturating_sub(u64::try_from(kept.as_millis()).unwrap_or(u64::MAX)));
    let prune = Prune { ended_before: ago(ages.history), effects_before: ago(ages.effects), limit: AT_ONCE };
    let (mut tasks, mut effects) = (0, 0);
    while !*stop.borrow() {
        let pruned = store.prune(prune, At::Server).await?;
        (tasks, effects) = (tasks + pruned.tasks, effects + pruned.effects);
        if !pruned.more {
            break;
        }
        sleep(REST).await;
    }
    if tasks > 0 || effects > 0 {
        tracing::info!(tasks, effects, "pruned old history");
    }
    Ok(())
}
