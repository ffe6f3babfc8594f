//! The queue in SQL: one trait, one implementation a database.
//!
//! Every method is one sentence about tasks, applies as a whole or not at all,
//! and answers with a value that says what happened. The store knows nothing of
//! plugins, files or HTTP. Its invariant: at most one live row exists for a
//! (job, key), and a write-back applies only under the fence of its claim.
//! What may happen to a row is written down once, in
//! [`domain::live`](crate::domain::live); the SQL of every store keeps to it.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::digest::Digest;
use crate::domain::intervention::Intervened;
use crate::domain::job::{JobId, JobName};
use crate::domain::node::{LeaseTerm, NewNode, NodeId, NodeView};
use crate::domain::outcome::Finished;
use crate::domain::status::Backlog;
use crate::domain::task::{AttemptView, Enqueued, Fence, NewTask, TaskId, TaskView};
use crate::domain::time::Timestamp;

mod asks;
mod by_filter;
mod group;
pub mod mysql;
pub mod postgres;
pub mod sqlite;

pub use asks::{
    ApplyPlan, Cancellation, Claim, ClaimDue, CursorUpdate, EnqueueOnce, Heartbeat, Incarnation, Intervene, JobRow,
    Once, PlanApplied, Prune, Pruned, Reaped, RequestKey, ScanLease, TakeScan, TaskFilter, WriteBack,
};
pub use by_filter::{InterveneAll, Progress, intervene_page};

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

/// The queue. All methods are cancel safe in this sense: a dropped future
/// takes back nothing that was already handed to the database, and what it was
/// about to write is written whole or not at all.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The store's clock.
    async fn now(&self, at: At) -> Result<Timestamp, StoreError>;

    /// Whether the store can be read and written now.
    async fn check(&self) -> Result<(), StoreError>;

    /// Begins a life of a node. Where the database has one host, every earlier
    /// life is over: what those left running is pending again with one more
    /// loss. Where nodes share it, that is [`Self::reap`]'s.
    async fn begin_incarnation(&self, node: NewNode, at: At) -> Result<Incarnation, StoreError>;

    /// Extends the lease.
    async fn heartbeat(&self, node: NodeId, lease: LeaseTerm, at: At) -> Result<Heartbeat, StoreError>;

    /// Ends a life in good order: what it still held is released, without a
    /// loss.
    async fn end_incarnation(&self, node: NodeId, at: At) -> Result<(), StoreError>;

    /// Takes over from nodes whose lease has ended: fences them first, then
    /// puts their tasks back with one more loss. Any node may call it at any
    /// time.
    async fn reap(&self, at: At) -> Result<Reaped, StoreError>;

    /// Puts back, without a loss, the batches of `job` that the node holds in
    /// the store and that are not among `held`: claims whose answer was lost.
    /// Answers how many tasks those were.
    async fn release_unheld(&self, node: NodeId, job: JobId, held: &[Fence], at: At) -> Result<u64, StoreError>;

    /// The running tasks of a node that a person wants to end.
    async fn cancellations(&self, node: NodeId) -> Result<Vec<Cancellation>, StoreError>;

    /// The lives that have not ended, oldest first.
    async fn nodes(&self, at: At) -> Result<Vec<NodeView>, StoreError>;

    /// The job's row, made where there is none.
    async fn register_job(&self, name: &JobName) -> Result<JobRow, StoreError>;

    /// All jobs ever registered.
    async fn jobs(&self) -> Result<Vec<JobRow>, StoreError>;

    /// Pauses a job on all nodes, with the reason, or resumes it with `None`.
    /// It stays so through restarts.
    async fn set_paused(&self, job: JobId, reason: Option<&str>) -> Result<(), StoreError>;

    /// Makes the node the one that scans for a job, unless another living node
    /// is. It stays so until it gives that up or its life ends.
    async fn take_scan(&self, take: TakeScan, at: At) -> Result<ScanLease, StoreError>;

    /// Lets another node scan.
    async fn give_up_scan(&self, job: JobId, node: NodeId) -> Result<(), StoreError>;

    /// Queues tasks; durable when it answers. One answer a task, in order. A
    /// key that occurs twice in `tasks` is answered twice with the same task.
    async fn enqueue(&self, job: JobId, tasks: Vec<NewTask>, at: At) -> Result<Vec<Enqueued>, StoreError>;

    /// Queues tasks unless the same request did so before.
    async fn enqueue_once(&self, ask: EnqueueOnce, at: At) -> Result<Once, StoreError>;

    /// Claims due tasks under a new fence; `None` where nothing is due or the
    /// job is paused. [`StoreError::Rejected`] where the node's life has
    /// ended. After [`StoreError::Unknown`] the batch may be held:
    /// [`Self::release_unheld`].
    async fn claim_due(&self, claim: ClaimDue) -> Result<Option<Claim>, StoreError>;

    /// Writes back what became of claimed tasks, each under its fence. One
    /// answer a finish, in order. Repeated, it answers the same.
    async fn finish(&self, write_back: WriteBack, at: At) -> Result<Vec<Finished>, StoreError>;

    /// Applies an accepted plan in one transaction. Discoveries and a cursor
    /// are [`StoreError::Rejected`] from a node that does not hold the scan.
    async fn apply_plan(&self, plan: ApplyPlan, at: At) -> Result<PlanApplied, StoreError>;

    /// Where the scan of `job` by the component `digest` stands; `None` at its
    /// start.
    async fn cursor(&self, job: JobId, digest: Digest) -> Result<Option<String>, StoreError>;

    /// Does to tasks what a person asks for; one answer an id, in order. It is
    /// on record with the reason.
    async fn intervene(&self, ask: Intervene, at: At) -> Result<Vec<Intervened>, StoreError>;

    /// How much waits, by this clock.
    async fn backlog(&self, job: JobId, at: At) -> Result<Backlog, StoreError>;

    /// Tasks by filter, ascending by id.
    async fn tasks(&self, filter: TaskFilter) -> Result<Vec<TaskView>, StoreError>;

    /// One task, live or ended.
    async fn task(&self, id: TaskId) -> Result<Option<TaskView>, StoreError>;

    /// The attempts of a task, in order.
    async fn attempts(&self, id: TaskId) -> Result<Vec<AttemptView>, StoreError>;

    /// When the first pending task of the job is due, if any is pending.
    async fn next_due(&self, job: JobId) -> Result<Option<Timestamp>, StoreError>;

    /// Forgets a small number of what ended long ago, and gives space back.
    async fn prune(&self, prune: Prune, at: At) -> Result<Pruned, StoreError>;

    /// Completes when somebody else (another node, a command beside the host)
    /// has queued something; never where the store cannot tell, so that its
    /// callers poll. One waiter at a time. Cancel safe: nothing is missed
    /// between two calls.
    async fn woken(&self);

    /// Writes out what is buffered and closes; later calls are `Unavailable`.
    async fn close(&self);
}

/// A store that any part of the host may hold.
pub type SharedStore = Arc<dyn Store>;
