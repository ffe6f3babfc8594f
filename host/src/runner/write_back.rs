//! The end of the flow: what became of executed tasks goes back to the store,
//! many in one transaction.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use crate::domain::outcome::{Attempt, Crash, Disposition, Ending, Finish, Finished, dispose};
use crate::domain::status::SweepReport;
use crate::domain::task::Fence;
use crate::sandbox::{Noted, Recorded};
use crate::store::{At, WriteBack};

use super::batch::{Completion, Completions};
use super::job::Job;

/// A write-back that failed is tried again after this time, then after twice.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_AT_MOST: Duration = Duration::from_secs(2);

/// The tasks in flight of one sweep, and its report.
pub(super) struct Flow {
    in_flight: AtomicUsize,
    freed: Notify,
    state: Mutex<State>,
}

struct State {
    /// How many of each batch have not been written back.
    open: HashMap<Fence, usize>,
    report: SweepReport,
    /// Whether the scan went to its end.
    scanned: bool,
}

impl Flow {
    pub(super) fn new(report: SweepReport) -> Self {
        let state = Mutex::new(State { open: HashMap::new(), report, scanned: false });
        Self { in_flight: AtomicUsize::new(0), freed: Notify::new(), state }
    }

    /// Waits until no more than `limit` tasks are in flight. Cancel safe.
    pub(super) async fn room_for(&self, limit: u32) {
        loop {
            let freed = self.freed.notified();
            if self.in_flight.load(Ordering::SeqCst) <= limit as usize {
                return;
            }
            freed.await;
        }
    }

    /// Whether nothing is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::SeqCst) == 0
    }

    /// So many tasks of a batch are handed to the executors.
    pub(super) fn begin(&self, fence: Fence, tasks: usize) {
        self.in_flight.fetch_add(tasks, Ordering::SeqCst);
        self.state().open.insert(fence, tasks);
    }

    /// Counts into the report.
    pub(super) fn report(&self, count: impl FnOnce(&mut SweepReport)) {
        count(&mut self.state().report);
    }

    /// The batches that have not been written back.
    pub(super) fn open(&self) -> Vec<Fence> {
        self.state().open.keys().copied().collect()
    }

    /// Whether the report has an error.
    pub(super) fn has_failed(&self) -> bool {
        self.state().report.error.is_some()
    }

    /// The scan went to its end, and what it found is stored.
    pub(super) fn end_scan(&self) {
        self.state().scanned = true;
    }

    /// What came of it, and whether the scan went to its end.
    pub(super) fn into_report(self) -> (SweepReport, bool) {
        let State { report, scanned, .. } = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        (report, scanned)
    }

    /// Tasks of these batches, one each, are about to be written back: answers
    /// which batches are closed with that. They stay open until it is stored, or
    /// a claim without an answer would take them for its own, and put back what
    /// is done.
    fn close(&self, tasks: impl Iterator<Item = Fence>) -> Vec<Fence> {
        let open = &mut self.state().open;
        let mut closed = Vec::new();
        for fence in tasks {
            if let Some(left) = open.get_mut(&fence) {
                *left -= 1;
                if *left == 0 {
                    closed.push(fence);
                }
            }
        }
        closed
    }

    /// So many tasks are written back, and with them these batches are over.
    fn end(&self, tasks: usize, closed: &[Fence]) {
        let mut state = self.state();
        for fence in closed {
            state.open.remove(fence);
        }
        drop(state);
        self.in_flight.fetch_sub(tasks, Ordering::SeqCst);
        self.freed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes back what completes, until every sender is gone. What completes
/// while one write is under way goes into the next.
pub(super) async fn write_back(job: &Job, flow: &Flow, mut completed: mpsc::Receiver<Completions>) {
    while let Some(Completions { mut tasks, mut busy }) = completed.recv().await {
        while let Ok(more) = completed.try_recv() {
            tasks.extend(more.tasks);
            busy += more.busy;
        }
        job.pace.measured(tasks.len(), busy);
        let count = tasks.len();
        let closed = flow.close(tasks.iter().map(|completion| completion.fence));
        let done = tasks.iter_mut().flat_map(|completion| std::mem::take(&mut completion.effects));
        let (effects, noted): (Vec<_>, Vec<_>) = done.map(Recorded::part).unzip();
        if !effects.is_empty() {
            job.custody.write_down_results();
        }
        let finishes = tasks.into_iter().map(|completion| finish_of(job, flow, completion)).collect();
        if stored(job, flow, WriteBack { finishes, closed: closed.clone(), effects }).await {
            noted.into_iter().flatten().for_each(Noted::settle);
        }
        flow.end(count, &closed);
        job.in_flight.fetch_sub(count, Ordering::SeqCst);
    }
}

fn finish_of(job: &Job, flow: &Flow, completion: Completion) -> Finish {
    let Completion { task, node, generation, ending, progress, started, ended, .. } = completion;
    job.gate().forget(task.id);
    let digest = Some(generation.plugin.digest);
    let not_started = match &ending {
        Ending::NotStarted(crash) => Some(crash.to_string()),
        Ending::Untried(why) => Some(why.clone()),
        _ => None,
    };
    if let Some(error) = not_started {
        job.say_error_of(&generation, error.clone());
        flow.report(|report| {
            report.error.get_or_insert(error);
        });
    }
    if let Ending::Crashed(crash) = &ending {
        say_crash(job, &task, generation.number, crash);
    }
    let disposition = dispose(ending, progress, &task, &job.spec, job.clock.now(), fastrand::f64());
    flow.report(|report| count(report, &disposition));
    match &disposition {
        Disposition::Bury(error) => {
            tracing::warn!(job = %job.spec.name, task = task.id.0, key = %task.key, "buried: {error}");
            job.say_error_of(&generation, format!("task {} ({}): {error}", task.id, task.key));
        }
        Disposition::Retry { after, error } => {
            tracing::debug!(job = %job.spec.name, task = task.id.0, key = %task.key, ?after, "failed: {error}");
            job.say_error_of(&generation, format!("task {} ({}): {error}", task.id, task.key));
        }
        _ => {}
    }
    let attempt = Attempt { number: task.attempt, node, started, ended, digest, removed: progress.removed };
    Finish { id: task.id, fence: task.fence, disposition, attempt }
}

fn say_crash(job: &Job, task: &crate::domain::task::ClaimedTask, generation: u64, crash: &Crash) {
    tracing::warn!(job = %job.spec.name, task = task.id.0, key = %task.key, generation, attempt = task.attempt, "{crash}");
}

fn count(report: &mut SweepReport, disposition: &Disposition) {
    match disposition {
        Disposition::Done(_) => report.done += 1,
        Disposition::Skipped(_) => report.skipped += 1,
        Disposition::Retry { .. } => report.retried += 1,
        Disposition::Postpone { .. } => report.postponed += 1,
        Disposition::Bury(_) => report.dead += 1,
        Disposition::Cancel(_) => report.discarded += 1,
        Disposition::Release { .. } => report.released += 1,
    }
}

/// Tries until it is stored: the files are gone, the records must follow. Only
/// a host that is told to end at once gives up; then the lease brings the tasks
/// back, and they find their work done. Answers whether it is stored.
pub(super) async fn stored(job: &Job, flow: &Flow, write_back: WriteBack) -> bool {
    let mut wait = RETRY;
    loop {
        match job.store.finish(write_back.clone(), At::Server).await {
            Ok(finished) => {
                let fenced = finished.iter().filter(|finished| **finished == Finished::Fenced).count();
                if fenced > 0 {
                    tracing::warn!(job = %job.spec.name, tasks = fenced, "results came too late: the tasks were another's by then");
                }
                flow.report(|report| report.fenced += fenced as u64);
                return true;
            }
            Err(error) => {
                tracing::error!(job = %job.spec.name, tasks = write_back.finishes.len(), "results could not be stored, trying again: {error}");
                job.say_error(error.to_string());
                if job.phase.is_halted() {
                    return false;
                }
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_AT_MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_open_until_its_results_are_stored() {
        let (flow, batch, next) = (Flow::new(SweepReport::default()), Fence(7), Fence(8));
        flow.begin(batch, 2);
        assert_eq!(flow.close([batch].into_iter()), []);
        assert_eq!(flow.close([batch].into_iter()), [batch]);
        flow.begin(next, 1);
        let mut open = flow.open();
        open.sort_unstable();
        assert_eq!(open, [batch, next], "its results are on their way: nobody may put its tasks back");
        flow.end(2, &[batch]);
        assert_eq!((flow.open(), flow.is_idle()), (vec![next], false));
    }
}
