//! Jobs: what they are, and the ways to steer them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::domain::outcome::cut;
use crate::domain::status::{HostStatus, JobStatus};

use super::error::Problem;
use super::json::Json;
use super::{App, HostApi, body};

/// A job's name in a route.
pub(super) type JobPath = Result<Path<String>, PathRejection>;

/// `GET /v1/jobs`.
pub(super) async fn list<H: HostApi>(State(app): State<Arc<App<H>>>) -> Result<Json<HostStatus>, Problem> {
    Ok(Json(app.host.status().await?))
}

/// `GET /v1/jobs/{job}`.
pub(super) async fn show<H: HostApi>(State(app): State<Arc<App<H>>>, job: JobPath) -> Result<Json<JobStatus>, Problem> {
    Ok(Json(app.host.job(&named(job)?).await?))
}

/// How to ask for a sweep.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SweepQuery {
    #[serde(default)]
    wait: bool,
}

/// `POST /v1/jobs/{job}/sweep`: 202, or with `?wait=true` 200 and the report.
/// A sweep that outlasts the request is 202 too: it goes on.
pub(super) async fn sweep<H: HostApi>(
    State(app): State<Arc<App<H>>>,
    job: JobPath,
    query: Result<Query<SweepQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let job = named(job)?;
    let Query(SweepQuery { wait }) = query.map_err(|rejection| Problem::query(&rejection))?;
    let report = app.host.sweep(&job).await?;
    if wait && let Ok(report) = timeout(app.options.patience(), report).await {
        return Ok(Json(report.map_err(|_| Problem::stopping())?).into_response());
    }
    Ok((StatusCode::ACCEPTED, Json(Asked { job })).into_response())
}

/// A sweep that was asked for.
#[derive(Serialize)]
struct Asked {
    job: String,
}

/// How long a sweep may take to end after a pause before the answer says that it
/// has not. Guests are interrupted at once; what takes longer is a system call.
const PAUSE: Duration = Duration::from_secs(5);

/// Whether a job is paused, and why.
#[derive(Serialize)]
#[allow(clippy::struct_field_names, reason = "the field's name is the one that clients read")]
pub(super) struct Paused {
    job: String,
    paused: Option<String>,
    /// What is waited for still; absent where nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    under_way: Option<&'static str>,
}

impl Paused {
    /// 200, or 202 where something is under way still.
    fn answer(job: String, paused: Option<String>, under_way: Option<&'static str>) -> (StatusCode, Json<Self>) {
        let status = if under_way.is_none() { StatusCode::OK } else { StatusCode::ACCEPTED };
        (status, Json(Self { job, paused, under_way }))
    }
}

/// Why a job is to be paused.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PauseBody {
    reason: Option<String>,
}

/// `POST /v1/jobs/{job}/pause`, with `{"reason"}` or without a body: 200, or 202
/// where a system call hangs that began before.
pub(super) async fn pause<H: HostApi>(
    State(app): State<Arc<App<H>>>,
    job: JobPath,
    request: Request<Body>,
) -> Result<(StatusCode, Json<Paused>), Problem> {
    let job = named(job)?;
    let asked: PauseBody = body::parsed(&app, request).await?.unwrap_or_default();
    let reason = cut(asked.reason.filter(|reason| !reason.is_empty()).unwrap_or_else(|| "by request".to_owned()));
    let has_ended = app.host.pause(&job, &reason, PAUSE.min(app.options.patience())).await?;
    let under_way = "a system call that was under way hangs and may complete; no other begins, and what runs is queued \
                     again when it has come back";
    Ok(Paused::answer(job, Some(reason), (!has_ended).then_some(under_way)))
}

/// How a job is to be resumed.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResumeBody {
    #[serde(default)]
    once_over_budget: bool,
}

/// `POST /v1/jobs/{job}/resume`, with `{"once_over_budget"}` or without a body: 200,
/// or 202 where it waits for a system call that hangs.
pub(super) async fn resume<H: HostApi>(
    State(app): State<Arc<App<H>>>,
    job: JobPath,
    request: Request<Body>,
) -> Result<(StatusCode, Json<Paused>), Problem> {
    let job = named(job)?;
    let asked: ResumeBody = body::parsed(&app, request).await?.unwrap_or_default();
    let goes_on = app.host.resume(&job, asked.once_over_budget, PAUSE.min(app.options.patience())).await?;
    let under_way = "a system call that was under way hangs; the job goes on when it has come back";
    Ok(Paused::answer(job, None, (!goes_on).then_some(under_way)))
}

/// The job's name, decoded.
pub(super) fn named(job: JobPath) -> Result<String, Problem> {
    let Path(job) = job.map_err(|rejection| Problem::malformed(rejection.body_text()))?;
    Ok(job)
}
