//! What people do to tasks by hand: retry, cancel, bury; one of them, some by
//! their ids, or all that match.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::domain::intervention::{Action, Intervened, Tally};
use crate::domain::outcome::cut;
use crate::domain::task::{TaskId, TaskState};
use crate::runner::{ByFilter, HostError};
use crate::store::Intervene;

use super::error::Problem;
use super::json::Json;
use super::tasks::{IdPath, numbered};
use super::{App, HostApi, body};

/// Most ids in one body.
const MAX_IDS: usize = 10_000;

/// Most ids in one transaction.
const PAGE: usize = 500;

/// Why it is done.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct OneBody {
    why: Option<String>,
}

/// `POST /v1/tasks/{id}/{action}`, with `{"why"}` or without a body: 200, or
/// 409 where the task's state does not allow it.
pub(super) async fn one<H: HostApi>(
    action: Action,
    app: Arc<App<H>>,
    id: IdPath,
    request: Request<Body>,
) -> Result<Json<Value>, Problem> {
    let id = numbered(id)?;
    let OneBody { why } = body::parsed(&app, request).await?.unwrap_or_default();
    let ask = Intervene { action, ids: vec![id], why: reason(why) };
    let task = match app.host.intervene(ask).await?.first().copied() {
        Some(Intervened::Applied { task }) => return Ok(Json(json!({ "task": task, "result": "applied" }))),
        Some(Intervened::Interrupting) => id,
        Some(Intervened::Refused { state }) => return Err(Problem::refused(action, id, state)),
        Some(Intervened::Unknown) | None => return Err(HostError::UnknownTask(id).into()),
    };
    Ok(Json(json!({ "task": task, "result": "interrupting" })))
}

/// Which tasks.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManyBody {
    ids: Option<Vec<TaskId>>,
    job: Option<String>,
    state: Option<TaskState>,
    after: Option<TaskId>,
    why: Option<String>,
}

/// What came of it.
#[derive(Serialize)]
pub(super) struct Done {
    #[serde(flatten)]
    tally: Tally,
    /// The `after` of the next request, where the time was not enough; null
    /// when it is done.
    next: Option<TaskId>,
}

/// `POST /v1/tasks/{action}`, with `{"ids"}` or `{"job", "state", "after"}`.
pub(super) async fn many<H: HostApi>(
    action: Action,
    app: Arc<App<H>>,
    request: Request<Body>,
) -> Result<Json<Done>, Problem> {
    let Some(asked) = body::parsed::<ManyBody, _>(&app, request).await? else {
        return Err(Problem::malformed("send the `ids` of tasks, or a `job` and perhaps a `state`"));
    };
    let why = reason(asked.why);
    match (asked.ids, asked.job) {
        (Some(ids), None) if asked.state.is_none() && asked.after.is_none() => {
            Ok(Json(Done { tally: by_ids(&app, action, ids, why).await?, next: None }))
        }
        (None, Some(job)) => {
            let state = asked.state.unwrap_or_else(|| action.natural_state());
            if !action.states().any(|takes| takes == state) {
                let states: Vec<_> = action.states().map(TaskState::as_str).collect();
                let detail = format!("to {action} tasks that are {state} makes no sense; send {}", states.join(" or "));
                return Err(Problem::invalid_field("state", detail));
            }
            let ask = ByFilter { action, job, state, after: asked.after, why };
            let (tally, next) = app.host.intervene_where(ask, app.options.patience() / 2).await?;
            Ok(Json(Done { tally, next }))
        }
        _ => Err(Problem::malformed("send either `ids`, or a `job` with perhaps a `state` and `after`")),
    }
}

async fn by_ids<H: HostApi>(app: &App<H>, action: Action, ids: Vec<TaskId>, why: String) -> Result<Tally, Problem> {
    if ids.is_empty() {
        return Err(Problem::empty("ids"));
    }
    if ids.len() > MAX_IDS {
        return Err(Problem::too_many("ids", Some("ids"), ids.len(), MAX_IDS));
    }
    let mut tally = Tally::default();
    for ids in ids.chunks(PAGE) {
        let ask = Intervene { action, ids: ids.to_vec(), why: why.clone() };
        app.host.intervene(ask).await?.into_iter().for_each(|one| tally.count(one));
    }
    Ok(tally)
}

/// What goes on record.
fn reason(why: Option<String>) -> String {
    cut(why.filter(|why| !why.is_empty()).unwrap_or_else(|| "by request".to_owned()))
}
