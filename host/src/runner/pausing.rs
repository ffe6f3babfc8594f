//! Pausing and resuming a job at a running host. A system call that hangs holds up
//! neither what is promised of a pause nor its answer.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::store::StoreError;

use super::error::HostError;
use super::host::{Host, Seat};
use super::job::Control;

impl Host {
    /// Pauses a job: from now on it begins nothing, at this node; other nodes follow
    /// at their next heartbeat. Answers true when nothing of it runs here any more,
    /// and what did is queued again; false where that took longer than `patience`:
    /// a system call that hangs is still under way. It stays paused through
    /// restarts. Dropped, it may have been paused.
    pub async fn pause(&self, job: &str, reason: &str, patience: Duration) -> Result<bool, HostError> {
        let seat = self.seat(job)?;
        // Stored and shown before anything is waited for, which may be for ever.
        self.store.set_paused(seat.job.id, Some(reason)).await?;
        seat.job.note_paused(Some(reason.to_owned()));
        if seat.control.is_none() {
            // Its nodes hear of it at their next heartbeat.
            return Ok(true);
        }
        let (answer, done) = oneshot::channel();
        let paused = self.asked(seat, Control::Pause(reason.to_owned(), answer), done, patience).await?;
        if !paused {
            tracing::warn!(
                job,
                "paused, and begins nothing any more, but a system call of it that was under way hangs: {reason}"
            );
        }
        Ok(paused)
    }

    /// Resumes a job; where asked, one sweep may go over its budget. Answers false
    /// where that waits for longer than `patience` for a system call that hangs: it
    /// goes on after that. Dropped, it may have been resumed.
    pub async fn resume(&self, job: &str, once_over_budget: bool, patience: Duration) -> Result<bool, HostError> {
        let (answer, done) = oneshot::channel();
        let seat = self.seat(job)?;
        if seat.control.is_none() {
            self.store.resume(seat.job.id, once_over_budget).await?;
            seat.job.note_paused(None);
            return Ok(true);
        }
        self.asked(seat, Control::Resume(once_over_budget, answer), done, patience).await
    }

    /// Whether the job's loop did it in time.
    async fn asked(
        &self,
        seat: &Seat,
        control: Control,
        done: oneshot::Receiver<Result<(), StoreError>>,
        patience: Duration,
    ) -> Result<bool, HostError> {
        let asked = async {
            self.ask(seat, control).await?;
            done.await.map_err(|_| self.unanswered())??;
            Ok::<_, HostError>(())
        };
        timeout(patience, asked).await.map_or(Ok(false), |done| done.map(|()| true))
    }
}
