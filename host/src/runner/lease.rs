//! The life of this node in the store: its number, and the heartbeat that
//! extends its lease.
//!
//! The node's own deadline counts from when its last heartbeat was *sent*, less
//! a margin: the database counts from when it arrived.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::domain::node::{NewNode, NodeId};
use crate::faults;
use crate::sandbox::{BootTime, Lease};
use crate::store::{At, Heartbeat, SharedStore, StoreError};

/// This node, alive.
pub(super) struct Node {
    about: NewNode,
    store: SharedStore,
    number: AtomicI64,
    lease: Arc<Lease>,
}

/// What a heartbeat brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// The lease is extended; so often was asked for a running task to end.
    Held { asked: u64 },
    /// The lease was lost, and a new life has begun: what ran under the old one
    /// is another's.
    Anew,
}

impl Node {
    /// Begins an incarnation.
    pub(super) async fn begin(about: NewNode, store: SharedStore) -> Result<Arc<Self>, StoreError> {
        let sent = BootTime::now();
        let incarnation = store.begin_incarnation(about.clone(), At::Server).await?;
        if incarnation.recovered > 0 {
            tracing::warn!(tasks = incarnation.recovered, "tasks that an earlier run left unfinished are queued again");
        }
        let lease = Lease::until(sent.after(about.lease.own_part()));
        Ok(Arc::new(Self { about, store, number: AtomicI64::new(incarnation.node.0), lease }))
    }

    /// The present incarnation.
    pub(super) fn id(&self) -> NodeId {
        NodeId(self.number.load(Ordering::SeqCst))
    }

    /// What the node says of itself.
    pub(super) fn about(&self) -> &NewNode {
        &self.about
    }

    /// How often to beat.
    pub(super) fn interval(&self) -> Duration {
        self.about.lease.heartbeat()
    }

    /// The lease under which all gates of this host stand.
    pub(super) fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    /// Extends the lease. Where it was lost, `lost` stops what still runs under
    /// it before a new life begins.
    pub(super) async fn beat(&self, lost: impl FnOnce()) -> Result<Beat, StoreError> {
        let sent = BootTime::now();
        let beat = match self.store.heartbeat(self.id(), self.about.lease, At::Server).await? {
            Heartbeat::Held { asked } => Beat::Held { asked },
            Heartbeat::Lost => {
                faults::lease_lost();
                tracing::error!("the lease was lost: all running tasks are stopped, their results are void");
                lost();
                let incarnation = self.store.begin_incarnation(self.about.clone(), At::Server).await?;
                self.number.store(incarnation.node.0, Ordering::SeqCst);
                Beat::Anew
            }
        };
        self.lease.extend(sent.after(self.about.lease.own_part()));
        Ok(beat)
    }

    /// Ends the incarnation in good order.
    pub(super) async fn end(&self) -> Result<(), StoreError> {
        self.store.end_incarnation(self.id(), At::Server).await
    }
}
