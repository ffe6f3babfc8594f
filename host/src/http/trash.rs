//! The trash of a job: listed, restored, purged.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::Request;
use serde::{Deserialize, Serialize};

use crate::domain::effect::{EffectId, EffectPlace, EffectView};
use crate::domain::task::TaskId;
use crate::runner::{TakenOut, TrashAction, TrashAsk, TrashPick};

use super::effects::{bounded, moment, next, place};
use super::error::{FieldError, Problem};
use super::instant::Written;
use super::jobs::{JobPath, named};
use super::json::Json;
use super::{App, HostApi, body};

/// Most ids in one body.
const MAX_IDS: usize = 10_000;

/// Which files to list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    path: Option<String>,
    since: Option<String>,
    before: Option<String>,
    task: Option<u64>,
    limit: Option<u32>,
    after: Option<String>,
}

/// One page of files in the trash.
#[derive(Serialize)]
pub(super) struct Page {
    files: Vec<EffectView>,
    /// The `after` of the next page; null on the last.
    next: Option<String>,
}

/// `GET /v1/jobs/{job}/trash?path=&since=&before=&task=&limit=&after=`, latest
/// first.
pub(super) async fn list<H: HostApi>(
    State(app): State<Arc<App<H>>>,
    job: JobPath,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Page>, Problem> {
    let job = named(job)?;
    let Query(query) = query.map_err(|rejection| Problem::query(&rejection))?;
    let limit = bounded(query.limit)?;
    let pick = TrashPick {
        path: query.path,
        since: moment("since", query.since)?,
        before: moment("before", query.before)?,
        task: query.task.map(TaskId),
    };
    let files = app.host.trash(&job, pick, place(query.after)?, limit).await?;
    let next = next(&files, limit);
    Ok(Json(Page { files, next }))
}

/// Which files.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskBody {
    ids: Option<Vec<String>>,
    #[serde(default)]
    all: bool,
    path: Option<String>,
    since: Option<Written>,
    before: Option<Written>,
    task: Option<TaskId>,
    after: Option<String>,
}

/// What came of it.
#[derive(Serialize)]
pub(super) struct Done {
    results: Vec<TakenOut>,
    /// The `after` of the next request, where the time was not enough; null
    /// when it is done.
    next: Option<String>,
}

/// `POST /v1/jobs/{job}/trash/restore` and `…/purge`, with `{"ids"}`, `{"all":
/// true}`, or `{"path", "since", "before", "task"}`; the last two with the
/// `after` of the answer before.
pub(super) async fn take_out<H: HostApi>(
    action: TrashAction,
    app: Arc<App<H>>,
    job: JobPath,
    request: Request<Body>,
) -> Result<Json<Done>, Problem> {
    let job = named(job)?;
    let asked: AskBody = body::parsed(&app, request).await?.unwrap_or_default();
    let instant = |name: &str, written: Option<Written>| {
        let read = written.map(Written::read).transpose();
        read.map_err(|error| Problem::invalid_field(name, error))
    };
    if asked.path.as_deref() == Some("") {
        return Err(Problem::empty("path"));
    }
    let pick = TrashPick {
        path: asked.path,
        since: instant("since", asked.since)?,
        before: instant("before", asked.before)?,
        task: asked.task,
    };
    let has_filter = pick != TrashPick::default();
    let ids = match asked.ids {
        Some(ids) if !has_filter && !asked.all && asked.after.is_none() => Some(parsed(&ids)?),
        None if has_filter != asked.all => None,
        _ => {
            let detail = "send either `ids`, or `all`, or some of `path`, `since`, `before` and `task`";
            return Err(Problem::malformed(detail));
        }
    };
    let ask = TrashAsk { action, job, ids, pick, after: place(asked.after)? };
    let (results, next) = app.host.take_out(ask, app.options.patience() / 2).await?;
    Ok(Json(Done { results, next: next.as_ref().map(EffectPlace::to_string) }))
}

fn parsed(ids: &[String]) -> Result<Vec<EffectId>, Problem> {
    if ids.is_empty() {
        return Err(Problem::empty("ids"));
    }
    if ids.len() > MAX_IDS {
        return Err(Problem::too_many("ids", Some("ids"), ids.len(), MAX_IDS));
    }
    let (mut good, mut errors) = (Vec::with_capacity(ids.len()), Vec::new());
    for (index, id) in ids.iter().enumerate() {
        match id.parse::<EffectId>() {
            Ok(id) => good.push(id),
            Err(error) => {
                let (field, detail) = (Some("ids".to_owned()), error.to_string());
                errors.push(FieldError { index: Some(index), line: None, field, detail });
            }
        }
    }
    if errors.is_empty() { Ok(good) } else { Err(Problem::invalid("not all of the ids are names of effects", errors)) }
}
