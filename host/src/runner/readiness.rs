//! Whether this host serves requests, and whether its jobs can work: two
//! questions, and a job that cannot work leaves the host ready.

use std::io::ErrorKind;

use tokio::task::spawn_blocking;

use crate::domain::budget::Spent;
use crate::domain::readiness::{CannotWork, HostReason, JobFacts, JobNotReady, JobReason, NotReady};
use crate::domain::status::{JobStatus, TakenStatus};
use crate::store::{At, StoreError};
use crate::supervise;

use super::error::HostError;
use super::files::joined;
use super::host::{Host, Seat};

impl Host {
    /// `Ok` where requests would be served: the store answers, and every part of
    /// the host runs. Cancel safe.
    pub async fn ready(&self) -> Result<(), NotReady> {
        let not = |reason, detail: &str| Err(NotReady { reason, detail: detail.to_owned() });
        if self.phase.is_stopping() {
            return not(HostReason::Stopping, &HostError::Stopping.to_string());
        }
        let down: Vec<_> = supervise::fallen().into_iter().filter(|part| part.down).map(|part| part.name).collect();
        if !down.is_empty() {
            let detail = format!("these parts of the host are down: {}", down.join(", "));
            return not(HostReason::PartDown, &detail);
        }
        if let Err(error) = self.store.check().await {
            // The text may name files: it is for the log, not for whoever asks.
            tracing::warn!("not ready: {error}");
            return match error {
                StoreError::Full(_) => {
                    not(HostReason::QueueFull, "the disk that holds the queue is full: new tasks are refused")
                }
                _ => not(HostReason::QueueUnavailable, "the queue cannot be used now"),
            };
        }
        Ok(())
    }

    /// The jobs that cannot work: of one where it is named, also where it is
    /// bound to other nodes; else of all that this node runs. Cancel safe.
    pub async fn jobs_not_ready(&self, only: Option<&str>) -> Result<Vec<JobNotReady>, HostError> {
        let asked: Vec<&Seat> = match only {
            Some(name) => vec![self.seat(name)?],
            None => self.jobs.iter().filter(|seat| seat.control.is_some()).collect(),
        };
        let unwritable = self.cannot_write_down().await;
        let why = |seat: &Seat| {
            let detail = |detail: &String| CannotWork { reason: JobReason::CannotChangeFiles, detail: detail.clone() };
            self.cannot_work(seat).or_else(|| unwritable.as_ref().map(detail))
        };
        let not_ready = |seat: &Seat| Some(JobNotReady { job: seat.job.spec.name.to_string(), why: why(seat)? });
        Ok(asked.into_iter().filter_map(not_ready).collect())
    }

    /// Why no change of a file could be written down now, by any job.
    async fn cannot_write_down(&self) -> Option<String> {
        let journal = self.journal.clone();
        let error = joined(spawn_blocking(move || journal.check()).await).err()?;
        tracing::warn!("not ready: the journal cannot be written: {error}");
        // The text may name files: it is for the log.
        let why = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "the disk of the state folder is full",
            ErrorKind::FileTooLarge => "the host may write no file as large (ulimit -f)",
            _ => "the journal in the state folder cannot be written",
        };
        Some(format!("no change of a file can be written down: {why}"))
    }

    fn cannot_work(&self, seat: &Seat) -> Option<CannotWork> {
        let (job, view) = (&seat.job, seat.job.view());
        let lack = self.compiler.lack();
        let labels: Vec<_> = job.spec.labels.iter().map(ToString::to_string).collect();
        let labels = labels.join(", ");
        JobFacts {
            elsewhere: seat.control.is_none().then_some(labels.as_str()),
            paused: view.paused.as_deref(),
            slot: &job.slot.status(),
            waiting: view.waiting.as_deref(),
            lack: lack.as_deref(),
            hindered: view.hindered.as_deref(),
            failing: view.failing.as_deref(),
        }
        .cannot_work()
    }

    /// What status shows of a job.
    pub(super) async fn status_of(&self, seat: &Seat) -> Result<JobStatus, HostError> {
        let job = &seat.job;
        let backlog = job.store.backlog(job.id, At::Server).await?;
        let view = job.view();
        let meter = &job.custody.meter;
        let budget = Some(job.spec.budget).filter(|budget| !budget.is_none());
        let now = meter.spent();
        let sweep = if now == Spent::default() { view.last_taken } else { now };
        let taken = TakenStatus { sweep, hour: meter.in_hour(job.custody.metered_now()), budget };
        Ok(JobStatus {
            name: job.spec.name.to_string(),
            labels: job.spec.labels.iter().map(ToString::to_string).collect(),
            cannot_work: self.cannot_work(seat),
            paused: view.paused,
            waiting: view.waiting,
            backlog,
            slot: job.slot.status(),
            taken,
            holds: job.custody.holds.load().standing_at(job.clock.careful()),
            last_sweep: view.last_sweep,
            hindered: view.hindered,
            under_way: view.under_way,
            last_error: view.last_error,
        })
    }
}
