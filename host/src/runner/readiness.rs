//! Whether this host serves requests, and whether its jobs can work: two
//! questions, and a job that cannot work leaves the host ready.

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::domain::budget::Spent;
use crate::domain::readiness::{CannotWork, HostReason, JobFacts, JobNotReady, NotReady};
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
        let not_ready = |seat: &Seat| {
            let why = cannot_work(seat, unwritable.as_deref())?;
            Some(JobNotReady { job: seat.job.spec.name.to_string(), why })
        };
        Ok(asked.into_iter().filter_map(not_ready).collect())
    }

    /// Why no change of a file could be written down now, by any job. A disk that
    /// does not answer is such a reason, and holds up nobody who asks.
    pub(super) async fn cannot_write_down(&self) -> Option<String> {
        let Writable { asking, found } = &self.writable;
        // One looks at a time: the others are told what was found before.
        if let Ok(turn) = Arc::clone(asking).try_lock_owned() {
            let (journal, found) = (self.journal.clone(), Arc::clone(found));
            let look = spawn_blocking(move || {
                let _turn = turn;
                found.tell(journal.check().err().map(|error| unwritable(&error)));
            });
            match timeout(PATIENCE, look).await {
                Ok(looked) => joined(looked),
                // Whoever looks is at it yet, or has told something better just now.
                Err(_) if asking.try_lock().is_err() => self.writable.found.tell(Some(SILENT.to_owned())),
                Err(_) => {}
            }
        }
        found.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How long the disk of the state folder may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

const SILENT: &str = "no change of a file can be written down: the disk of the state folder does not answer";

/// Whether changes of files can be written down, as far as anybody looked.
#[derive(Debug, Default)]
pub(super) struct Writable {
    /// Held by whoever looks, for as long as the disk takes.
    asking: Arc<tokio::sync::Mutex<()>>,
    found: Arc<Found>,
}

/// Why not, when somebody looked last.
#[derive(Debug, Default)]
struct Found(Mutex<Option<String>>);

impl Found {
    /// Notes it; what is new is logged.
    fn tell(&self, why: Option<String>) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *found != why {
            if let Some(why) = &why {
                tracing::warn!("jobs cannot work: {why}");
            } else {
                tracing::info!("changes of files can be written down again");
            }
        }
        *found = why;
    }
}

/// In words that name no file: anybody may ask.
fn unwritable(error: &io::Error) -> String {
    tracing::debug!("the journal cannot be written: {error}");
    let why = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "the disk of the state folder is full",
        ErrorKind::FileTooLarge => "the host may write no file as large (ulimit -f)",
        _ => "the journal in the state folder cannot be written",
    };
    format!("no change of a file can be written down: {why}")
}

/// What keeps the job from its work; `unwritable` keeps all jobs of the host from
/// changing files.
fn cannot_work(seat: &Seat, unwritable: Option<&str>) -> Option<CannotWork> {
    let (job, view) = (&seat.job, seat.job.view());
    let lack = job.slot.current().and_then(|generation| generation.lack());
    let labels: Vec<_> = job.spec.labels.iter().map(ToString::to_string).collect();
    let labels = labels.join(", ");
    let slot = job.slot.status();
    JobFacts {
        elsewhere: seat.control.is_none().then_some(labels.as_str()),
        paused: view.paused.as_deref(),
        plugin: slot.plugin(),
        waiting: view.waiting.as_deref(),
        lack: lack.as_deref(),
        hindered: view.hindered.as_deref().or(unwritable),
        failing: view.failing.as_deref(),
    }
    .cannot_work()
}

/// What status shows of a job.
pub(super) async fn status_of(seat: &Seat, unwritable: Option<&str>) -> Result<JobStatus, HostError> {
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
        cannot_work: cannot_work(seat, unwritable),
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
