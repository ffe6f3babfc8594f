//! Tasks: queued, listed, shown.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};

use crate::domain::task::{Enqueued, TaskId, TaskState, TaskView};
use crate::runner::TaskQuery;

use super::error::Problem;
use super::jobs::{JobPath, named};
use super::new_tasks::{NewTasks, parse};
use super::{App, HostApi, body};

/// `limit` where none is given, and the highest.
const LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;

/// What became of one item of an enqueue.
#[derive(Serialize)]
struct Queued {
    id: TaskId,
    new: bool,
    state: TaskState,
    successor: bool,
}

impl From<Enqueued> for Queued {
    fn from(enqueued: Enqueued) -> Self {
        let successor = matches!(enqueued, Enqueued::Successor(_));
        Self {
            id: enqueued.id(),
            new: matches!(enqueued, Enqueued::New(_)),
            state: if successor { TaskState::Running } else { TaskState::Pending },
            successor,
        }
    }
}

/// What became of all items, in their order.
#[derive(Serialize)]
struct QueuedAll {
    tasks: Vec<Queued>,
}

/// `POST /v1/jobs/{job}/tasks`: one task or an array of them, all or none; 201
/// where any is new, else 200.
pub(super) async fn enqueue<H: HostApi>(
    State(app): State<Arc<App<H>>>,
    job: JobPath,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let job = named(job)?;
    let read = body::json(&app, request).await?;
    let Some(read) = read else { return Err(Problem::malformed("send a task or an array of tasks as JSON")) };
    let (tasks, single) = match parse(&read.bytes)? {
        NewTasks::One(task) => (vec![task], true),
        NewTasks::Many(tasks) => (tasks, false),
    };
    let queued = if tasks.is_empty() { Vec::new() } else { app.host.enqueue(&job, tasks).await? };
    let mut queued: Vec<Queued> = queued.into_iter().map(Queued::from).collect();
    let status = if queued.iter().any(|task| task.new) { StatusCode::CREATED } else { StatusCode::OK };
    match queued.pop() {
        Some(task) if single => Ok((status, Json(task)).into_response()),
        last => {
            queued.extend(last);
            Ok((status, Json(QueuedAll { tasks: queued })).into_response())
        }
    }
}

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
    let Query(query) = query.map_err(|rejection| Problem::malformed(rejection.body_text()))?;
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

/// `GET /v1/tasks/{id}`.
pub(super) async fn show<H: HostApi>(
    State(app): State<Arc<App<H>>>,
    id: Result<Path<u64>, PathRejection>,
) -> Result<Json<TaskView>, Problem> {
    let Path(id) = id.map_err(|_| Problem::malformed("a task's id is a number"))?;
    Ok(Json(app.host.task(TaskId(id)).await?))
}
