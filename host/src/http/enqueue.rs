//! Queueing tasks: one or an array of them, all or none, and at most once
//! where the request names itself. A stream of them is
//! [`stream`](super::stream)'s.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use crate::domain::digest::Digest;
use crate::domain::task::{Enqueued, TaskId, TaskState};
use crate::store::{Once, RequestKey};

use super::error::Problem;
use super::jobs::{JobPath, named};
use super::json::Json;
use super::new_tasks::{NewTasks, parse};
use super::{App, HostApi, body, stream};

/// By which a request names itself.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Says that the answer is that of an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Longest name of a request, in bytes.
const LONGEST_KEY: usize = 255;

/// What became of one item.
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
/// where any is new, else 200. With `Idempotency-Key` it is done at most once,
/// and a repeat is 200 with the answers of the first time.
pub(super) async fn enqueue<H: HostApi>(
    State(app): State<Arc<App<H>>>,
    job: JobPath,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let job = named(job)?;
    let key = request_key(request.headers())?;
    if stream::is_stream(&request) {
        return match key {
            None => stream::enqueue(&app, &job, request.into_body()).await,
            Some(_) => Err(Problem::malformed(
                "a stream takes no Idempotency-Key: its beginning is queued before its end is known; \
                 repeat it without, a key that is pending is not queued twice",
            )),
        };
    }
    let read = body::json(&app, request).await?;
    let Some(read) = read else { return Err(Problem::malformed("send a task or an array of tasks as JSON")) };
    let (tasks, single) = match parse(&read.bytes)? {
        NewTasks::One(task) => (vec![task], true),
        NewTasks::Many(tasks) => (tasks, false),
    };
    let Some(key) = key else {
        let queued = if tasks.is_empty() { Vec::new() } else { app.host.enqueue(&job, tasks).await? };
        return Ok(answer(queued, single));
    };
    let request = RequestKey { key, digest: Digest::of_parts(&[job.as_bytes(), &read.bytes]) };
    match app.host.enqueue_once(&job, request, tasks).await? {
        Once::Queued(queued) => Ok(answer(queued, single)),
        Once::Repeated(queued) => {
            let replayed = [(REPLAYED, HeaderValue::from_static("true"))];
            Ok((StatusCode::OK, replayed, document(queued, single)).into_response())
        }
        Once::Mismatch => Err(Problem::key_reused()),
    }
}

fn answer(queued: Vec<Enqueued>, single: bool) -> Response {
    let new = queued.iter().any(|task| matches!(task, Enqueued::New(_)));
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    (status, document(queued, single)).into_response()
}

fn document(queued: Vec<Enqueued>, single: bool) -> Response {
    let mut tasks: Vec<Queued> = queued.into_iter().map(Queued::from).collect();
    match tasks.pop() {
        Some(task) if single => Json(task).into_response(),
        last => {
            tasks.extend(last);
            Json(QueuedAll { tasks }).into_response()
        }
    }
}

/// The name that a request gives itself, if it does.
fn request_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut keys = headers.get_all(&KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let bytes = key.as_bytes();
    let visible = (1..=LONGEST_KEY).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    match key.to_str() {
        Ok(key) if visible && keys.next().is_none() => Ok(Some(key.to_owned())),
        _ => Err(Problem::malformed(format!(
            "send one Idempotency-Key of 1 to {LONGEST_KEY} visible ASCII characters, such as a UUID"
        ))),
    }
}
