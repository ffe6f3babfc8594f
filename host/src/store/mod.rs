//! The queue in SQL: one trait, one implementation a database.
//!
//! Every method is one sentence about tasks, applies as a whole or not at all,
//! and answers with a value that says what happened. The store knows nothing of
//! plugins, files or HTTP. Its invariant: at most one live row exists for a
//! (job, key), and a write-back applies only under the fence of its claim.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::digest::Digest;
use crate::domain::job::{JobId, JobName};
use crate::domain::outcome::{Finish, Finished};
use crate::domain::status::Backlog;
use crate::domain::task::{ClaimedTask, Enqueued, Fence, NewTask, TaskId, TaskState, TaskView};
use crate::domain::time::Timestamp;

pub mod sqlite;

/// Whose clock a statement goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The database server's, read in the statement: nodes with wrong clocks
    /// steal nothing. For an embedded database it is this machine's.
    Server,
    /// This one; for tests.
    Fixed(Timestamp),
}

/// Why a store did not do as asked, by what the caller can do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing was written; the same call may succeed later.
    #[error("the database cannot be used now: {0}")]
    Unavailable(String),
    /// The commit's answer was lost: it may be stored. Every method may be
    /// repeated safely.
    #[error("the database did not confirm the commit: {0}")]
    Unknown(String),
    /// This call can never succeed; nothing was written.
    #[error("the database refused the call: {0}")]
    Rejected(String),
    /// The database is not one that this version can use.
    #[error("the database cannot be used by this version: {0}")]
    Incompatible(String),
}

/// The store's number for a node incarnation; it rises with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub i64);

/// One life of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incarnation {
    /// Its number.
    pub node: NodeId,
    /// Tasks that earlier lives left running and that are pending again.
    pub recovered: u64,
}

/// Whether the lease still is this incarnation's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// It is, for another lease from now.
    Held,
    /// It expired and the node was reaped: everything it holds is another's.
    Lost,
}

/// What a claim asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimDue {
    /// Of this job.
    pub job: JobId,
    /// For this incarnation.
    pub node: NodeId,
    /// Due by this time: the horizon of the sweep.
    pub horizon: Timestamp,
    /// At most so many.
    pub limit: u32,
    /// Lowest priority first, so that it is not starved (one claim in ten).
    pub lowest_first: bool,
    /// Whether a task with losses may be claimed: only while the node runs
    /// nothing else of the job, for from then on its loss is an attempt.
    pub suspects: bool,
}

/// What a claim got: nothing, or a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The fence of all its tasks, by which the batch is closed.
    pub fence: Fence,
    /// The tasks, most urgent and oldest first. A task with losses comes
    /// alone.
    pub tasks: Vec<ClaimedTask>,
}

/// A write-back of any part of one or more batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBack {
    /// The tasks, each with what becomes of it.
    pub finishes: Vec<Finish>,
    /// Batches of which nothing is left after this.
    pub closed: Vec<Fence>,
}

/// What an accepted plan writes, in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyPlan {
    /// The job.
    pub job: JobId,
    /// Tasks of the batch that are not executed now.
    pub finishes: Vec<Finish>,
    /// Work that the policy found.
    pub discoveries: Vec<NewTask>,
    /// The scan's place; `None` leaves it.
    pub cursor: Option<CursorUpdate>,
}

/// Where a scan stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorUpdate {
    /// The component that wrote it: another one starts anew.
    pub digest: Digest,
    /// `None` ends the scan.
    pub cursor: Option<String>,
}

/// What applying a plan did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanApplied {
    /// One a finish, in order.
    pub finished: Vec<Finished>,
    /// One a discovery, in order.
    pub enqueued: Vec<Enqueued>,
}

/// Which tasks to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// Only of this job.
    pub job: Option<JobId>,
    /// Only in this state; `None` lists all, live and ended.
    pub state: Option<TaskState>,
    /// Only after this one, in ascending order of ids.
    pub after: Option<TaskId>,
    /// At most so many.
    pub limit: u32,
}

/// A job's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRow {
    /// Its number.
    pub id: JobId,
    /// Why it is paused; `None` while it runs.
    pub paused: Option<String>,
}

/// The queue. All methods are cancel safe in this sense: a dropped future
/// takes back nothing that was already handed to the database, and what it was
/// about to write is written whole or not at all.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The store's clock.
    async fn now(&self, at: At) -> Result<Timestamp, StoreError>;

    /// Whether the store can be read and written now.
    async fn check(&self) -> Result<(), StoreError>;

    /// Begins a life of the node `name` with a lease of this length, after
    /// fencing every earlier life of it; what those left running is pending
    /// again with one more loss.
    async fn begin_incarnation(&self, name: &str, lease: Duration, at: At) -> Result<Incarnation, StoreError>;

    /// Extends the lease.
    async fn heartbeat(&self, node: NodeId, lease: Duration, at: At) -> Result<Heartbeat, StoreError>;

    /// Ends a life in good order: what it still held is released, without a
    /// loss.
    async fn end_incarnation(&self, node: NodeId, at: At) -> Result<(), StoreError>;

    /// The job's row, made where there is none.
    async fn register_job(&self, name: &JobName) -> Result<JobRow, StoreError>;

    /// Pauses a job, with the reason, or resumes it with `None`. It stays so
    /// through restarts.
    async fn set_paused(&self, job: JobId, reason: Option<&str>) -> Result<(), StoreError>;

    /// Queues tasks; durable when it answers. One answer a task, in order. A
    /// key that occurs twice in `tasks` is answered twice with the same task.
    async fn enqueue(&self, job: JobId, tasks: Vec<NewTask>, at: At) -> Result<Vec<Enqueued>, StoreError>;

    /// Claims due tasks under a new fence; `None` where nothing is due.
    async fn claim_due(&self, claim: ClaimDue) -> Result<Option<Claim>, StoreError>;

    /// Writes back what became of claimed tasks, each under its fence. One
    /// answer a finish, in order. Repeated, it answers the same.
    async fn finish(&self, write_back: WriteBack, at: At) -> Result<Vec<Finished>, StoreError>;

    /// Applies an accepted plan in one transaction.
    async fn apply_plan(&self, plan: ApplyPlan, at: At) -> Result<PlanApplied, StoreError>;

    /// Where the scan of `job` by the component `digest` stands; `None` at its
    /// start.
    async fn cursor(&self, job: JobId, digest: Digest) -> Result<Option<String>, StoreError>;

    /// How much waits, by this clock.
    async fn backlog(&self, job: JobId, at: At) -> Result<Backlog, StoreError>;

    /// Tasks by filter, ascending by id.
    async fn tasks(&self, filter: TaskFilter) -> Result<Vec<TaskView>, StoreError>;

    /// One task, live or ended.
    async fn task(&self, id: TaskId) -> Result<Option<TaskView>, StoreError>;

    /// When the first pending task of the job is due, if any is pending.
    async fn next_due(&self, job: JobId) -> Result<Option<Timestamp>, StoreError>;

    /// Writes out what is buffered and closes; later calls are `Unavailable`.
    async fn close(&self);
}

/// A store that any part of the host may hold.
pub type SharedStore = Arc<dyn Store>;
