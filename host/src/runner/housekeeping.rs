//! Forgets what ended long ago, a little at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::stop::told;
use crate::store::{At, Prune, SharedStore, StoreError};

use super::clocks::Clocks;

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
pub(super) async fn keep_house(store: SharedStore, clocks: Arc<Clocks>, ages: Ages, mut stop: watch::Receiver<bool>) {
    loop {
        if let Err(error) = prune(&store, &clocks, ages, &mut stop).await {
            tracing::warn!("what is old could not be pruned: {error}");
        }
        tokio::select! {
            () = told(&mut stop) => return,
            () = sleep(EVERY) => {}
        }
    }
}

async fn prune(
    store: &SharedStore,
    clocks: &Clocks,
    ages: Ages,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), StoreError> {
    // A clock that is ahead makes everything old.
    let now = clocks.careful_now().await?;
    let (ended_before, effects_before) = (now.before(ages.history), now.before(ages.effects));
    let prune = Prune { ended_before, effects_before, limit: AT_ONCE };
    let (mut tasks, mut effects) = (0, 0);
    while !*stop.borrow() {
        let pruned = store.prune(prune, At::Fixed(now)).await?;
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
