//! A job's loop that panicked begins again, where nothing of it is on its way.
//!
//! What a panic leaves behind is a claim that nobody works on any more, and an
//! open gate. Both are put right before the loop goes on. What it must not leave
//! behind is a task with an executor: its result would reach nobody, and its
//! effects would be on record only when the journal is read, which a start does.
//! Then the process ends instead.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::sleep;

use crate::store::At;
use crate::supervise::{self, Tasks};

use super::job::{Control, Job, JobRunner, drain};

/// Between two tries to put back what the loop had claimed.
const AGAIN: Duration = Duration::from_millis(500);

/// Keeps the loop of `job` going until `stop` becomes true.
pub(super) fn keep_job(
    runners: &mut Tasks,
    job: &Arc<Job>,
    requests: mpsc::Receiver<Control>,
    stop: watch::Receiver<bool>,
) {
    let (job, requests) = (Arc::clone(job), Arc::new(Mutex::new(requests)));
    let (name, mut is_first, told) = (format!("job {}", job.spec.name), true, stop.clone());
    runners.keep(name.clone(), stop, move || {
        let was_first = std::mem::replace(&mut is_first, false);
        let (job, requests, stop, name) = (Arc::clone(&job), Arc::clone(&requests), told.clone(), name.clone());
        async move {
            if !was_first && !put_right(&job, &name).await {
                // The process ends for it.
                std::future::pending::<()>().await;
            }
            match JobRunner::new(job, requests.lock_owned().await) {
                Ok(runner) => runner.run(stop).await,
                Err(error) => panic!("its threads could not be started: {error}"),
            }
        }
    });
}

/// Whether the loop may go on.
async fn put_right(job: &Job, name: &str) -> bool {
    let in_flight = job.in_flight.load(Ordering::SeqCst);
    if in_flight > 0 {
        supervise::give_up(
            name,
            &format!("it panicked while {in_flight} tasks were under way; they are put right at the next start"),
        );
        return false;
    }
    drain(job.close_gate()).await;
    while let Err(error) = job.store.release_unheld(job.node.id(), job.id, &[], At::Server).await {
        tracing::warn!(job = %job.spec.name, "what its loop had claimed could not be put back, trying again: {error}");
        sleep(AGAIN).await;
    }
    true
}
