//! The queue in SQL: one trait, one implementation a database.
//!
//! Every method is one sentence about tasks, applies as a whole or not at all,
//! and answers with a value that says what happened. The store knows nothing of
//! plugins, files or HTTP. Its invariant: at most one live row exists for a
//! (job, key), and a write-back applies only under the fence of its claim.
//! What may happen to a row is written down once, in
//! [`domain::live`](crate::domain::live) and, of an effect,
//! [`domain::recorded`](crate::domain::recorded); the SQL of every store keeps
//! to it.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::budget::{Changed, Spent};
use crate::domain::digest::Digest;
use crate::domain::effect::{Effect, EffectId, EffectView, Fate};
use crate::domain::hold::{Hold, HoldId};
use crate::domain::intervention::Intervened;
use crate::domain::job::{JobId, JobName};
use crate::domain::node::{LeaseTerm, NewNode, NodeId, NodeView};
use crate::domain::outcome::Finished;
use crate::domain::status::Backlog;
use crate::domain::task::{AttemptView, Enqueued, Fence, NewTask, TaskId, TaskView};
use crate::domain::time::Timestamp;

mod asks;
mod by_filter;
mod effects;
mod group;
pub mod mysql;
pub mod postgres;
mod sessions;
pub mod sqlite;
mod turns;
mod unreached;

pub use asks::{
    ApplyPlan, Cancellation, Claim, ClaimDue, CursorUpdate, DrawnIn, DuePlace, EffectFilter, EndScan, EnqueueOnce,
    Forgotten, Heartbeat, HoldRemoved, Incarnation, Intervene, JobRow, NewHold, Once, PeekDue, Peeked, PlanApplied,
    Prune, Pruned, Reaped, RequestKey, ScanEnded, ScanLease, TakeScan, TaskFilter, WriteBack,
};
pub use by_filter::{InterveneAll, Progress, intervene_page};

/// Whose clock a statement goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The database server's, read in the statement: nodes with wrong clocks
    /// steal nothing. For an embedded database it is this machine's.
    Server,
    /// This one: the server's as it was read a moment ago, less what it may be
    /// ahead; or one of a test.
    Fixed(Timestamp),
}

/// Why a store did not do as asked, by what the caller can do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing was written; the same call may succeed later.
    #[error("the database cannot be used now: {0}")]
    Unavailable(String),
    /// Nothing was written: somebody else's transaction has locked the database.
    /// The same call may succeed later.
    #[error("the database cannot be used now: {0}")]
    Busy(String),
    /// Nothing was written: the disk of the database is full. The same call may
    /// succeed when there is room.
    #[error("the database has no room: {0}")]
    Full(String),
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

    /// Resumes a job on all nodes and, where asked, permits one sweep to go
    /// over its budget. The permission stands until [`Self::take_allowance`]
    /// takes it, also through a later pause.
    async fn resume(&self, job: JobId, once_over_budget: bool) -> Result<(), StoreError>;

    /// Takes the permission to go over the budget: true once, on one node. A
    /// repeated call whose first answer was lost may answer false.
    async fn take_allowance(&self, job: JobId) -> Result<bool, StoreError>;

    /// Makes the node the one that scans for a job, unless another living node
    /// is. It stays so until it gives that up or its life ends.
    async fn take_scan(&self, take: TakeScan, at: At) -> Result<ScanLease, StoreError>;

    /// Puts on record that the node's scan for a time of the schedule went to its
    /// end. Repeated, it answers the same.
    async fn end_scan(&self, end: EndScan) -> Result<ScanEnded, StoreError>;

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

    /// What a claim would take, in its order, page by page, also of a job that
    /// is paused. Nothing is changed.
    async fn peek_due(&self, peek: PeekDue) -> Result<Peeked, StoreError>;

    /// Writes back what became of claimed tasks, each under its fence, and puts
    /// effects on record as [`Self::record_effects`] does. One answer a finish,
    /// in order. Repeated, it answers the same.
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

    /// Puts effects on record, each once: told again, it changes nothing, except
    /// that one whose result was unknown takes a known one. `at` is when what
    /// went into the trash is kept from.
    async fn record_effects(&self, effects: Vec<Effect>, at: At) -> Result<(), StoreError>;

    /// Effects by filter, in the order of their times, then their names.
    async fn effects(&self, filter: EffectFilter) -> Result<Vec<EffectView>, StoreError>;

    /// What the effects of a job cost together, of those at `since` or later
    /// that are not of the journal `except`.
    async fn spent(&self, job: JobId, since: Timestamp, except: Option<u64>) -> Result<Spent, StoreError>;

    /// By how many files the mounts of a job changed through its effects from
    /// `since` on and before `until`, those of the journal `except` left out.
    async fn changed_files(
        &self,
        job: JobId,
        since: Timestamp,
        until: Timestamp,
        except: Option<u64>,
    ) -> Result<Changed, StoreError>;

    /// Says what became of files in the trash. Answers of how many: only those
    /// that are kept, each once. [`StoreError::Rejected`] for
    /// [`Fate::Kept`], which nothing goes back to. A repeated call whose first
    /// answer was lost counts less.
    async fn settle(&self, ids: &[EffectId], fate: Fate, at: At) -> Result<u64, StoreError>;

    /// Puts a hold in place, and answers with the one that is there where it is
    /// the same. [`StoreError::Rejected`] beyond [`NewHold::MOST`].
    async fn add_hold(&self, hold: NewHold, at: At) -> Result<Hold, StoreError>;

    /// The holds of a job that have not ended, by number.
    async fn holds(&self, job: JobId, at: At) -> Result<Vec<Hold>, StoreError>;

    /// Ends a hold now.
    async fn remove_hold(&self, job: JobId, hold: HoldId, at: At) -> Result<HoldRemoved, StoreError>;

    /// By what the directory is known that the job sees at the path `at`;
    /// `None` before it was ever told.
    async fn mount_id(&self, job: JobId, at: &str) -> Result<Option<String>, StoreError>;

    /// Whether any job of this database knows a directory by `id`.
    async fn knows_mount(&self, id: &str) -> Result<bool, StoreError>;

    /// By what that directory is known from now on.
    async fn set_mount_id(&self, job: JobId, at: &str, id: &str) -> Result<(), StoreError>;

    /// When the first pending task of the job is due, if any is pending.
    async fn next_due(&self, job: JobId) -> Result<Option<Timestamp>, StoreError>;

    /// Draws in times that lie in the future though this store's clock, or a
    /// node's, gave them, as they do when a clock was set back: what waits from
    /// such a time waits from now, and a schedule, a lease, a record, and a file
    /// in a trash count from now. A time that somebody named stays. Of tasks,
    /// effects and records, at most `limit` each, to keep its transaction short.
    /// Repeated, it does the rest.
    async fn draw_in(&self, limit: u32, at: At) -> Result<DrawnIn, StoreError>;

    /// Forgets a small number of what ended long ago, and gives space back.
    async fn prune(&self, prune: Prune, at: At) -> Result<Pruned, StoreError>;

    /// About how many bytes all effects on record take of the disk, with their
    /// indexes.
    async fn effects_weight(&self) -> Result<u64, StoreError>;

    /// Forgets the oldest effects, whatever their age, until together they have
    /// this weight, at most `limit` of them; none of what is still in a trash. A
    /// repeated call forgets the next.
    async fn forget_oldest(&self, weight: u64, limit: u32) -> Result<Forgotten, StoreError>;

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

/// What is answered to a change of a database that was opened to be looked at.
fn read_only(place: &dyn std::fmt::Display) -> StoreError {
    StoreError::Rejected(format!("{place} was opened to be read only: nothing is changed in it"))
}
