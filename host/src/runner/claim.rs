//! Claiming a batch, and what is to be done where the answer of a claim was
//! lost.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::node::NodeId;
use crate::domain::outcome::{Attempt, Disposition, Finish};
use crate::domain::task::{ClaimedTask, Fence};
use crate::domain::time::Timestamp;
use crate::faults::{self, Mutant};
use crate::store::{At, Claim, ClaimDue, StoreError, WriteBack};

use super::job::Job;
use super::sweep::Sweep;
use super::write_back::{Flow, stored};

/// Between two tries to put back what a claim may have taken.
const AGAIN: Duration = Duration::from_millis(500);

/// How long after a lost answer its claim may still be committed.
const LATE: Duration = Duration::from_mins(2);

/// Whether a claim without an answer may still turn up.
#[derive(Debug, Default)]
pub(super) struct Unsure(Mutex<Option<Instant>>);

impl Unsure {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|noted| noted.elapsed() < LATE)
    }
}

impl Sweep<'_> {
    /// The next batch of what was due at the horizon.
    pub(super) async fn claim(
        &self,
        horizon: Timestamp,
        limit: u32,
        lowest_first: bool,
        suspects: bool,
    ) -> Result<Option<Claim>, StoreError> {
        let claim = ClaimDue { job: self.job.id, node: self.job.node.id(), horizon, limit, lowest_first, suspects };
        let mut claim = match self.job.store.claim_due(claim).await {
            Err(error @ StoreError::Unknown(_)) if !faults::is(Mutant::UnknownIsLost) => {
                self.job.unsure.note();
                self.release_unheld(claim.node).await;
                return Err(error);
            }
            claimed => claimed?,
        };
        if let Some(Claim { fence, tasks }) = &mut claim {
            let excess = self.job.fit.excess(tasks);
            if !excess.is_empty() {
                self.release(None, excess).await;
            }
            self.flow.report(|report| {
                report.batches += 1;
                report.claimed += tasks.len() as u64;
            });
            if bury_the_spent(self.job, self.flow, *fence, tasks).await {
                claim = Some(Claim { fence: *fence, tasks: Vec::new() });
            }
        }
        Ok(claim)
    }

    /// The claim may be stored without anybody knowing its tasks: they would
    /// run for ever. Tried until it is done, or the lease does it.
    pub(super) async fn release_unheld(&self, node: NodeId) {
        let job = self.job;
        while self.gate.is_open() && !job.phase.is_halted() {
            let held = self.flow.open();
            match job.store.release_unheld(node, job.id, &held, At::Server).await {
                Ok(0) => return,
                Ok(tasks) => {
                    return tracing::warn!(job = %job.spec.name, tasks, "put back what a claim without an answer had taken");
                }
                Err(error) => {
                    tracing::warn!(job = %job.spec.name, "what a claim may have taken could not be put back, trying again: {error}");
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// A claim whose answer was lost may be committed later still. Called while
    /// nothing runs.
    pub(super) async fn release_late_claims(&self) {
        if self.job.unsure.is() {
            self.release_unheld(self.job.node.id()).await;
        }
    }
}

/// A task whose last attempts ended with a lost node comes back with more
/// attempts than it has: it is buried unrun, alone as it was claimed. Answers
/// whether that closed the batch.
async fn bury_the_spent(job: &Job, flow: &Flow, fence: Fence, tasks: &[ClaimedTask]) -> bool {
    let [task] = tasks else { return false };
    if task.losses == 0 || task.attempt <= job.spec.retry.max_attempts {
        return false;
    }
    let now = job.clock.now();
    let why = format!("the host was lost {} times while it held this task", task.losses);
    tracing::error!(job = %job.spec.name, task = task.id.0, key = %task.key, "buried: {why}");
    let finish = Finish {
        id: task.id,
        fence,
        disposition: Disposition::Bury(why),
        attempt: Attempt {
            number: task.attempt - 1,
            node: job.node.id(),
            started: now,
            ended: now,
            digest: None,
            removed: 0,
        },
    };
    stored(job, flow, WriteBack { finishes: vec![finish], closed: vec![fence], effects: Vec::new() }).await;
    true
}
