//! Tasks on their way from a command into the queue: chunk by chunk, so that
//! memory does not grow with their number, and again where the store says that
//! it may succeed later.

use std::time::Duration;

use indicatif::ProgressBar;

use crate::domain::chunk::Chunk;
use crate::domain::job::JobId;
use crate::domain::task::{Enqueued, NewTask};
use crate::store::{At, SharedStore, StoreError};

use super::progress;

/// How often a chunk is tried, and the pause before the second time.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(200);

/// What became of what was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// New tasks.
    pub(super) new: u64,
    /// Keys that were pending.
    pub(super) pending: u64,
    /// Keys that were running: they follow.
    pub(super) successors: u64,
    /// What is no task.
    pub(super) bad: u64,
}

impl Counts {
    /// All that is queued.
    pub(super) fn queued(&self) -> u64 {
        self.new + self.pending + self.successors
    }
}

/// In words.
impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { new, pending, successors, bad } = self;
        write!(f, "{new} new, {pending} already pending, {successors} to follow a running one")?;
        if *bad > 0 { write!(f, ", {bad} wrong") } else { Ok(()) }
    }
}

/// The way into the queue of one job.
pub(super) struct Queue {
    store: SharedStore,
    job: JobId,
    chunk: Chunk,
    pub(super) counts: Counts,
    pub(super) bar: ProgressBar,
}

impl Queue {
    pub(super) fn new(store: SharedStore, job: JobId, bar: ProgressBar) -> Self {
        Self { store, job, chunk: Chunk::default(), counts: Counts::default(), bar }
    }

    /// Takes one task; queues a chunk when it is full.
    pub(super) async fn push(&mut self, task: NewTask) -> Result<(), StoreError> {
        match self.chunk.push(task) {
            Some(tasks) => self.queue(tasks).await,
            None => Ok(()),
        }
    }

    /// Counts and tells what is no task.
    pub(super) fn wrong(&mut self, what: &str) {
        self.counts.bad += 1;
        progress::tell(&self.bar, what);
    }

    /// Queues what is left; durable when it answers.
    pub(super) async fn flush(&mut self) -> Result<(), StoreError> {
        let tasks = self.chunk.take();
        if tasks.is_empty() { Ok(()) } else { self.queue(tasks).await }
    }

    async fn queue(&mut self, tasks: Vec<NewTask>) -> Result<(), StoreError> {
        for enqueued in self.patiently(tasks).await? {
            *match enqueued {
                Enqueued::New(_) => &mut self.counts.new,
                Enqueued::Pending(_) => &mut self.counts.pending,
                Enqueued::Successor(_) => &mut self.counts.successors,
            } += 1;
        }
        self.bar.set_message(format!("{} queued", self.counts.queued()));
        Ok(())
    }

    async fn patiently(&self, tasks: Vec<NewTask>) -> Result<Vec<Enqueued>, StoreError> {
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match self.store.enqueue(self.job, tasks.clone(), At::Server).await {
                Err(StoreError::Unavailable(why) | StoreError::Busy(why) | StoreError::Unknown(why)) => {
                    tracing::warn!(why, "trying again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                answer => return answer,
            }
        }
        self.store.enqueue(self.job, tasks, At::Server).await
    }
}
