//! What is asked of a store and what it answers: the words of the trait.

use crate::domain::digest::Digest;
use crate::domain::effect::Effect;
use crate::domain::intervention::Action;
use crate::domain::job::JobId;
use crate::domain::node::NodeId;
use crate::domain::outcome::{Finish, Finished};
use crate::domain::task::{ClaimedTask, Enqueued, Fence, NewTask, TaskId, TaskState};
use crate::domain::time::Timestamp;

mod clock;
mod guard;

pub use clock::DrawnIn;
pub(super) use clock::Squeezed;
pub use guard::{DuePlace, EffectFilter, HoldRemoved, NewHold, PeekDue, Peeked};

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
    Held {
        /// How often a person asked for a running task of this life to end:
        /// when it has risen, [`Store::cancellations`](super::Store) has
        /// news.
        asked: u64,
    },
    /// It ended and the node was reaped: everything it held is another's.
    Lost,
}

/// What was taken over from dead nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Lives that were ended.
    pub nodes: u64,
    /// Tasks that are pending again.
    pub tasks: u64,
}

/// A running task that a person wants to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancellation {
    /// Of this job.
    pub job: JobId,
    /// The task.
    pub task: TaskId,
    /// Its claim.
    pub fence: Fence,
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
    /// What was done to files meanwhile. It is put on record in any case, also
    /// where the finish of its task is refused: it happened.
    pub effects: Vec<Effect>,
}

/// What an accepted plan writes, in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyPlan {
    /// The job.
    pub job: JobId,
    /// The incarnation that scans.
    pub node: NodeId,
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

/// A wish to scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakeScan {
    /// For this job.
    pub job: JobId,
    /// By this incarnation.
    pub node: NodeId,
    /// For this time of the job's schedule, which counts as scanned when
    /// [`EndScan`] says so; `None` for a scan by the interval or by hand.
    pub scheduled: Option<Timestamp>,
}

/// A scan for a time of the job's schedule went to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndScan {
    /// Of this job.
    pub job: JobId,
    /// By this incarnation, which holds the scan.
    pub node: NodeId,
    /// That time. It and all earlier ones count as scanned from now on.
    pub scheduled: Timestamp,
}

/// Whether a time counts as scanned now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanEnded {
    /// It does, by this call or an earlier one.
    Recorded,
    /// The node does not hold the scan any more: whoever does scans again.
    Fenced,
}

/// Whether a node may scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanLease {
    /// It may, until it gives that up or its life ends.
    Taken,
    /// Another living node does.
    Anothers,
    /// That time of the schedule, or a later one, was scanned already.
    Past,
}

/// An enqueue that is done at most once, however often it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnqueueOnce {
    /// The job; requests of two jobs are two requests.
    pub job: JobId,
    /// Which request it is.
    pub request: RequestKey,
    /// What it queues.
    pub tasks: Vec<NewTask>,
}

/// By what a repeated request is known, for [`RequestKey::KEPT`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// The caller's name for it, 1 to 255 bytes.
    pub key: String,
    /// Of all that it asks for: the same name with another content is a
    /// mistake.
    pub digest: Digest,
}

impl RequestKey {
    /// How long a request is known.
    pub const KEPT: std::time::Duration = std::time::Duration::from_hours(24);
}

/// What became of an [`EnqueueOnce`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Once {
    /// It was done now.
    Queued(Vec<Enqueued>),
    /// It was done before, with these answers.
    Repeated(Vec<Enqueued>),
    /// The name was used for another content; nothing was done.
    Mismatch,
}

/// What a person asks to be done to tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intervene {
    /// What.
    pub action: Action,
    /// To which; at most 10,000.
    pub ids: Vec<TaskId>,
    /// Why, for the record.
    pub why: String,
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

/// What may be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prune {
    /// What ended before this time: tasks, and holds.
    pub ended_before: Timestamp,
    /// Effects from before this time, except those of what is still in a
    /// trash.
    pub effects_before: Timestamp,
    /// At most so many of each in this call, to keep its transaction short.
    pub limit: u32,
}

/// What was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Ended tasks, with their attempts.
    pub tasks: u64,
    /// Effects.
    pub effects: u64,
    /// Whether the limit was reached: there may be more.
    pub more: bool,
}

/// Effects that were forgotten before their time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// How many.
    pub effects: u64,
    /// About how many bytes they took of the disk together.
    pub weight: u64,
}

/// A job's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRow {
    /// Its number.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// Why it is paused; `None` while it runs.
    pub paused: Option<String>,
    /// The last time of its schedule that was scanned; for a job that never
    /// was, when it was registered.
    pub scheduled: Timestamp,
    /// Whether its next sweep may go over the budget.
    pub once_over_budget: bool,
}
