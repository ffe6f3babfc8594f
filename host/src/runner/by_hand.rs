//! What people do to tasks at a running host.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::intervention::{Action, Intervened, Tally};
use crate::domain::task::{TaskId, TaskState};
use crate::store::{At, Intervene, InterveneAll, Progress, StoreError, intervene_page};

use super::error::HostError;
use super::host::Host;
use super::job::drain;
use super::pulse::shut_out;

/// What is to be done to all tasks that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByFilter {
    /// What.
    pub action: Action,
    /// To tasks of this job.
    pub job: String,
    /// In this state.
    pub state: TaskState,
    /// Only after this one, in ascending order of ids.
    pub after: Option<TaskId>,
    /// Why, for the record.
    pub why: String,
}

impl Host {
    /// Does to tasks what a person asks for, one answer an id. Running ones
    /// are interrupted: at this node they change no file any more when this
    /// answers, at another one from its next heartbeat on.
    pub async fn intervene(&self, ask: Intervene) -> Result<Vec<Intervened>, HostError> {
        let intervened = self.store.intervene(ask, At::Server).await?;
        self.heed(intervened.contains(&Intervened::Interrupting)).await?;
        Ok(intervened)
    }

    /// The same for all tasks that match and were queued by now, a page at a
    /// time. Where there is no time left for another page, it also answers
    /// after which task to go on. Dropped, it may have done it to some.
    pub async fn intervene_where(&self, ask: ByFilter, time: Duration) -> Result<(Tally, Option<TaskId>), HostError> {
        let ByFilter { action, job, state, after, why } = ask;
        let end = Instant::now() + time;
        let ask = InterveneAll { action, job: self.seat(&job)?.job.id, state, why };
        let mut place = Some(Progress::begin(&*self.store, after).await?);
        let mut tally = Tally::default();
        while let Some(progress) = place.filter(|_| Instant::now() < end) {
            let (page, next) = intervene_page(&*self.store, &ask, progress).await?;
            self.heed(page.interrupting > 0).await?;
            tally.add(page);
            place = next;
        }
        Ok((tally, place.map(|progress| progress.after)))
    }

    /// Something was asked for: of running tasks where `interrupting`, or of
    /// pending ones.
    async fn heed(&self, interrupting: bool) -> Result<(), HostError> {
        self.asked.notify_one();
        self.jobs.iter().for_each(|seat| seat.job.wake());
        if interrupting {
            // It was asked for, and the next heartbeat hears of it in any case.
            let unheard = |error: StoreError| StoreError::Unknown(error.to_string());
            for gate in shut_out(&*self.store, &self.node, &self.jobs).await.map_err(unheard)? {
                drain(gate).await;
            }
        }
        Ok(())
    }
}
