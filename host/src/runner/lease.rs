//! The life of this node in the store: its number, and the heartbeat that
//! extends its lease.
//!
//! The node's own deadline counts from when its last heartbeat was *sent*, less
//! a margin: the database counts from when it arrived.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::faults;
use crate::sandbox::{BootTime, Lease};
use crate::stop::told;
use crate::store::{At, Heartbeat, NodeId, SharedStore, StoreError};

/// This node, alive.
pub(super) struct Node {
    name: String,
    length: Duration,
    store: SharedStore,
    number: AtomicI64,
    lease: Arc<Lease>,
}

impl Node {
    /// Begins an incarnation.
    pub(super) async fn begin(name: String, length: Duration, store: SharedStore) -> Result<Arc<Self>, StoreError> {
        let sent = BootTime::now();
        let incarnation = store.begin_incarnation(&name, length, At::Server).await?;
        if incarnation.recovered > 0 {
            tracing::warn!(tasks = incarnation.recovered, "tasks that an earlier run left unfinished are queued again");
        }
        let lease = Lease::until(sent.after(own_part(length)));
        Ok(Arc::new(Self { name, length, store, number: AtomicI64::new(incarnation.node.0), lease }))
    }

    /// The present incarnation.
    pub(super) fn id(&self) -> NodeId {
        NodeId(self.number.load(Ordering::SeqCst))
    }

    /// The lease under which all gates of this host stand.
    pub(super) fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    /// Extends the lease three times in its length until `stop` becomes true.
    /// Where it was lost, `lost` closes what still runs under it, and a new
    /// incarnation begins.
    pub(super) async fn keep(self: Arc<Self>, mut stop: watch::Receiver<bool>, lost: impl Fn()) {
        let mut beat = tokio::time::interval(self.length / 3);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = told(&mut stop) => return,
                _ = beat.tick() => {}
            }
            if let Err(error) = self.beat(&lost).await {
                tracing::warn!("the heartbeat was not stored, the lease runs out: {error}");
            }
        }
    }

    async fn beat(&self, lost: &impl Fn()) -> Result<(), StoreError> {
        let sent = BootTime::now();
        match self.store.heartbeat(self.id(), self.length, At::Server).await? {
            Heartbeat::Held => {}
            Heartbeat::Lost => {
                faults::lease_lost();
                tracing::error!("the lease was lost: all running tasks are stopped, their results are void");
                lost();
                let incarnation = self.store.begin_incarnation(&self.name, self.length, At::Server).await?;
                self.number.store(incarnation.node.0, Ordering::SeqCst);
            }
        }
        self.lease.extend(sent.after(own_part(self.length)));
        Ok(())
    }

    /// Ends the incarnation in good order.
    pub(super) async fn end(&self) -> Result<(), StoreError> {
        self.store.end_incarnation(self.id(), At::Server).await
    }
}

/// What the node may use of a lease of this length: the rest is margin for
/// clocks that run at other speeds.
fn own_part(length: Duration) -> Duration {
    length.mul_f64(0.9)
}
