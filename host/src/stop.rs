//! How every part of the host is told to stop: a flag that is raised once.

use tokio::sync::watch;

/// Completes when the flag is raised, or when whoever could raise it is gone.
/// Cancel safe.
pub(crate) async fn told(stop: &mut watch::Receiver<bool>) {
    // The answer borrows the flag's lock, which must not be held across an await.
    drop(stop.wait_for(|stop| *stop).await);
}
