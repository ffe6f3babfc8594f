//! Forgets what ended long ago, and what is too much, a little at a time.

use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::stop::told;
use crate::store::{At, Prune, SharedStore, StoreError};

use super::clocks::Clocks;

/// How often it is looked for what may go.
const EVERY: Duration = Duration::from_mins(1);

/// Tasks, and effects, that go in one transaction: a few milliseconds of work.
const AT_ONCE: u32 = 500;

/// Between two such transactions others have their turn.
const REST: Duration = Duration::from_millis(20);

/// All effects are weighed so rarely that it takes no more than a hundredth of
/// the time.
const WEIGHED_AFTER: u32 = 100;

/// Where effects are too much, so much of their bound is made free at once: not
/// every minute brings a warning then.
const SLACK: u64 = 20;

/// How old things get, and how much they may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ages {
    /// Ended tasks.
    pub(super) history: Duration,
    /// Effects.
    pub(super) effects: Duration,
    /// About how many bytes of the disk effects may take.
    pub(super) effects_max: u64,
}

/// Forgets what was kept for long enough, until `stop` becomes true.
pub(super) async fn keep_house(store: SharedStore, clocks: Arc<Clocks>, ages: Ages, mut stop: watch::Receiver<bool>) {
    let mut weigh_at = Instant::now();
    loop {
        if let Err(error) = prune(&store, &clocks, ages, &mut stop).await {
            tracing::warn!("what is old could not be pruned: {error}");
        }
        if Instant::now() >= weigh_at {
            let began = Instant::now();
            let weighed = bound_effects(&store, ages.effects_max, &mut stop).await;
            // What takes too long is not tried again at once: it takes as long again.
            let weighing = weighed.as_ref().map_or_else(|_| began.elapsed(), |weighing| *weighing);
            weigh_at = Instant::now() + weighing * WEIGHED_AFTER;
            if let Err(error) = weighed {
                tracing::warn!("effects on record could not be held against database.effects_max: {error}");
            }
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

/// Forgets the oldest effects where all together are too much. Answers how long
/// it took to weigh them.
async fn bound_effects(
    store: &SharedStore,
    most: u64,
    stop: &mut watch::Receiver<bool>,
) -> Result<Duration, StoreError> {
    let began = Instant::now();
    let weight = store.effects_weight().await?;
    let weighing = began.elapsed();
    if weight <= most {
        return Ok(weighing);
    }
    let goal = weight - most + most / SLACK;
    let (mut effects, mut gone) = (0, 0);
    while gone < goal && !*stop.borrow() {
        let forgotten = store.forget_oldest(goal - gone, AT_ONCE).await?;
        if forgotten.effects == 0 {
            break;
        }
        (effects, gone) = (effects + forgotten.effects, gone + forgotten.weight);
        sleep(REST).await;
    }
    let (was, most) = (ByteSize(weight).display().iec(), ByteSize(most).display().iec());
    if effects > 0 {
        tracing::warn!(
            effects,
            "forgot the oldest effects before their time: all took about {was}, and database.effects_max is {most}"
        );
    } else {
        tracing::warn!(
            "effects on record take about {was}, more than database.effects_max ({most}), and none may be forgotten: \
             their files are in a trash"
        );
    }
    Ok(weighing)
}
