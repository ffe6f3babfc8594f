//! Interventions on all tasks that match a filter: a page at a time, so that no
//! transaction grows with their number.

use super::{At, Intervene, Store, StoreError, TaskFilter};
use crate::domain::intervention::{Action, Tally};
use crate::domain::job::JobId;
use crate::domain::task::{TaskId, TaskState};
use crate::domain::time::Timestamp;

/// Most tasks of a page. It is one transaction, and a page with the longest
/// payloads must fit into memory.
const PAGE: u32 = 500;

/// What is to be done, to which tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterveneAll {
    /// What.
    pub action: Action,
    /// To tasks of this job.
    pub job: JobId,
    /// In this state.
    pub state: TaskState,
    /// Why, for the record.
    pub why: String,
}

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Only tasks after this one are still to come.
    pub after: TaskId,
    /// Only tasks that were queued by then: what is retried may match again at
    /// once, and would be met for ever.
    pub queued_by: Timestamp,
}

impl Progress {
    /// All that is queued by now, after `after`.
    pub async fn begin(store: &dyn Store, after: Option<TaskId>) -> Result<Self, StoreError> {
        Ok(Self { after: after.unwrap_or(TaskId(0)), queued_by: store.now(At::Server).await? })
    }
}

/// Does it to the next page of tasks. Answers what came of them and where to go
/// on; `None` at the end. Dropped, it may have done it: every page may be
/// repeated.
pub async fn intervene_page(
    store: &dyn Store,
    ask: &InterveneAll,
    progress: Progress,
) -> Result<(Tally, Option<Progress>), StoreError> {
    let filter = TaskFilter { job: Some(ask.job), state: Some(ask.state), after: Some(progress.after), limit: PAGE };
    let page = store.tasks(filter).await?;
    let next = page.last().filter(|_| page.len() >= PAGE as usize).map(|last| Progress { after: last.id, ..progress });
    let ids: Vec<_> = page.iter().filter(|task| task.enqueued_at <= progress.queued_by).map(|task| task.id).collect();
    if ids.is_empty() {
        return Ok((Tally::default(), next));
    }
    let intervened = store.intervene(Intervene { action: ask.action, ids, why: ask.why.clone() }, At::Server).await?;
    Ok((intervened.into_iter().collect(), next))
}
