//! Hearing of what others queued: PostgreSQL's LISTEN, on a connection of its
//! own.
//!
//! It only saves waiting for the next tick. What was said while the connection
//! was lost is not heard, so that whoever waits is woken once when it is back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Shared;
use super::pool::PATIENCE;
use crate::supervise;

/// Between two tries to connect.
const PAUSE: Duration = Duration::from_secs(1);

/// After so long without a word the connection is looked at.
const SILENCE: Duration = Duration::from_secs(5);

/// Listens from the first wait on.
#[derive(Default)]
pub(super) struct Ears {
    heard: Arc<Notify>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Ears {
    /// Completes when somebody else queued something since the last time.
    /// Cancel safe.
    pub(super) async fn wait(&self, shared: &Arc<Shared>) {
        if !shared.server.ears.is_closed() {
            let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
            listening.get_or_insert_with(|| {
                // Kept: whoever waits is woken when the connection is there again.
                let (shared, heard) = (Arc::clone(shared), Arc::clone(&self.heard));
                supervise::keep_until_done("listener", move || listen(Arc::clone(&shared), Arc::clone(&heard)))
            });
        }
        self.heard.notified().await;
    }

    /// Stops listening.
    pub(super) fn close(&self) {
        if let Some(task) = self.listening.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

impl Drop for Ears {
    fn drop(&mut self) {
        self.close();
    }
}

async fn listen(shared: Arc<Shared>, heard: Arc<Notify>) {
    let mut told = false;
    loop {
        let (listened, failed) = hear(&shared, &heard).await;
        if shared.server.ears.is_closed() {
            return;
        }
        // A session that may not listen, as on a standby, is given up with the rest.
        let failed = shared.server.tell(failed);
        told &= !listened;
        if !told {
            tracing::warn!(error = %failed, "what other nodes queue is not heard now, and found at the next tick");
        }
        told = true;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Until the connection is lost for good; whether there was one, and why it
/// was lost.
async fn hear(shared: &Shared, heard: &Notify) -> (bool, sqlx::Error) {
    let began = Instant::now();
    let listener = async {
        let mut listener = PgListener::connect_with(&shared.server.ears).await?;
        listener.listen("sweepd").await?;
        Ok::<_, sqlx::Error>(listener)
    };
    let mut listener = match listener.await {
        Ok(listener) => listener,
        Err(error) => return (false, error),
    };
    // Something may have been said before.
    heard.notify_one();
    loop {
        let Ok(said) = timeout(SILENCE, listener.try_recv()).await else {
            // Nobody speaks, or the server is another one by now and nobody said so.
            match still_listens(shared, &mut listener, began).await {
                Ok(()) => continue,
                Err(error) => return (true, error),
            }
        };
        match said {
            Ok(Some(said)) if said.payload() == shared.voice => {}
            // A reconnection, after which something may have been missed.
            Ok(Some(_) | None) => heard.notify_one(),
            Err(error) => return (true, error),
        }
    }
}

/// Whether the server still answers on the connection that listens, and no
/// other session was found in a wrong state since `began`.
async fn still_listens(shared: &Shared, listener: &mut PgListener, began: Instant) -> Result<(), sqlx::Error> {
    let lost = |why: &str| sqlx::Error::Io(std::io::Error::other(why.to_owned()));
    if !shared.server.sessions.keep(began.elapsed()) {
        return Err(lost("the server's other sessions were in a wrong state"));
    }
    let asked = sqlx::query("SELECT 1").execute(listener);
    timeout(PATIENCE, asked).await.map_err(|_| lost("the server does not answer"))?.map(drop)
}
