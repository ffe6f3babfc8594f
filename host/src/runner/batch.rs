//! What travels between the feeder of a sweep, the executor threads and the
//! write-back.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::domain::node::NodeId;
use crate::domain::outcome::{Ending, Progress};
use crate::domain::task::{ClaimedTask, Fence};
use crate::domain::time::Timestamp;
use crate::plugin::Generation;
use crate::sandbox::{Gate, Recorded};

use super::job::Job;

/// What all tasks of one batch share. It holds its generation: no task moves
/// to other code.
pub(super) struct Batch {
    pub(super) job: Arc<Job>,
    pub(super) fence: Fence,
    /// The life that claimed it.
    pub(super) node: NodeId,
    pub(super) generation: Arc<Generation>,
    pub(super) gate: Arc<Gate>,
    /// Set once the plugin could not be started, and why: the rest is not tried.
    pub(super) not_started: OnceLock<String>,
    /// Never full: it has room for as many messages as tasks may be in flight.
    pub(super) completions: mpsc::Sender<Completions>,
}

/// One task for an executor thread.
pub(super) struct Work {
    pub(super) task: ClaimedTask,
    pub(super) batch: Arc<Batch>,
}

/// How one task ended.
pub(super) struct Completion {
    pub(super) task: ClaimedTask,
    pub(super) fence: Fence,
    pub(super) node: NodeId,
    pub(super) generation: Arc<Generation>,
    pub(super) ending: Ending,
    /// What it did to files, as far as that is not in the database.
    pub(super) effects: Vec<Recorded>,
    /// All that it did, also what is in the database already.
    pub(super) progress: Progress,
    pub(super) started: Timestamp,
    pub(super) ended: Timestamp,
}

/// What one executor thread hands over at once.
pub(super) struct Completions {
    pub(super) tasks: Vec<Completion>,
    /// Time spent on them, for the measure of how much to claim.
    pub(super) busy: Duration,
}
