//! Tasks: listed, shown.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};

use crate::domain::task::{AttemptView, TaskId, TaskState, TaskView};
use crate::runner::TaskQuery;

use super::error::Problem;
use super::json::Json;
use super::{App, HostApi};

/// `limit` where none is given, and the highest.
const LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;

/// Which tasks to list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    job: Option<String>,
    state: Option<TaskState>,
    limit: Option<u32>,
    after: Option<TaskId>,
}

/// One page of tasks.
#[derive(Serialize)]
pub(super) struct Page {
    tasks: Vec<TaskView>,
    /// The `after` of the next page; null on the last.
    next: Option<TaskId>,
}

/// `GET /v1/tasks?job=&state=&limit=&after=`. Payloads are left out: with them
/// a page could have 64 MiB.
pub(super) async fn list<H: HostApi>(
    State(app): State<Arc<App<H>>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Page>, Problem> {
    let Query(query) = query.map_err(|rejection| Problem::query(&rejection))?;
    let limit = query.limit.unwrap_or(LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::malformed(format!("`limit` is {limit}; it must be from 1 to {MAX_LIMIT}")));
    }
    let query = TaskQuery { job: query.job, state: query.state, after: query.after, limit };
    let mut tasks = app.host.tasks(query).await?;
    for task in &mut tasks {
        task.payload = None;
    }
    let next = tasks.last().filter(|_| tasks.len() >= limit as usize).map(|task| task.id);
    Ok(Json(Page { tasks, next }))
}

/// A task and its attempts.
#[derive(Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    task: TaskView,
    /// `attempts` counts them, and is a field of the task already.
    #[serde(rename = "attempt_log")]
    attempts: Vec<AttemptView>,
}

/// A task's id in a route.
pub(super) type IdPath = Result<Path<u64>, PathRejection>;

/// `GET /v1/tasks/{id}`.
pub(super) async fn show<H: HostApi>(State(app): State<Arc<App<H>>>, id: IdPath) -> Result<Json<Shown>, Problem> {
    let id = numbered(id)?;
    let task = app.host.task(id).await?;
    Ok(Json(Shown { task, attempts: app.host.attempts(id).await? }))
}

/// The task's id, read.
pub(super) fn numbered(id: IdPath) -> Result<TaskId, Problem> {
    let Path(id) = id.map_err(|_| Problem::malformed("a task's id is a number"))?;
    Ok(TaskId(id))
}
