//! What people want to serve at a running host.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use crate::domain::plugin_history::Steer;
use crate::domain::status::PluginStatus;
use crate::plugin::{Kept, SteerError};

use super::error::{HostError, elsewhere};
use super::host::Host;
use super::job::Control;

impl Host {
    /// The plugin of a job: what serves, and what did.
    pub async fn plugin(&self, name: &str) -> Result<PluginStatus, HostError> {
        let seat = self.seat(name)?;
        let kept = Kept::of(&self.state, name);
        let history = in_background(move || {
            let history = kept.history().map_err(SteerError::State)?;
            Ok(kept.listed(history))
        })
        .await?;
        Ok(PluginStatus { job: name.to_owned(), slot: seat.job.slot.status(), history })
    }

    /// Lets another component serve, at this node. After a rollback or a pin
    /// nothing runs under the one before any more: what did is queued again.
    /// Answers the plugin as it is then; false beside it where that took longer
    /// than `patience`, and goes on. It stays so through restarts. Dropped, it
    /// may have done it.
    pub async fn steer(&self, name: &str, ask: Steer, patience: Duration) -> Result<(PluginStatus, bool), HostError> {
        let seat = self.seat(name)?;
        if seat.control.is_none() {
            return Err(elsewhere(&seat.job.spec));
        }
        let serving = || seat.job.slot.status().generation.map(|generation| generation.digest);
        let (kept, now, before) = (Kept::of(&self.state, name), seat.job.clock.now(), serving());
        let end = Instant::now() + patience;
        let steered = in_background(move || kept.steer(&ask, now)).await?;
        let asked = seat.job.slot.look_again();
        let mut settled = timeout_at(end, seat.job.slot.settled(asked)).await.is_ok();
        if settled && steered.serves.is_some() && serving() != before {
            let (answer, done) = oneshot::channel();
            self.ask(seat, Control::Restart(answer)).await?;
            settled = match timeout_at(end, done).await {
                Ok(answered) => answered.map(|()| true).map_err(|_| self.unanswered())?,
                Err(_) => false,
            };
        }
        let status = self.plugin(name).await?;
        let serves = status.slot.generation.as_ref().map(|generation| generation.digest);
        if settled && steered.serves.is_some_and(|wanted| serves != Some(wanted)) {
            let error = status.slot.error.map(|error| error.message);
            let why = error.unwrap_or_else(|| "something else was asked for meanwhile".to_owned());
            return Err(HostError::CannotServe { job: name.to_owned(), why });
        }
        Ok((status, settled))
    }
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SteerError> + Send + 'static,
) -> Result<T, HostError> {
    match spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
