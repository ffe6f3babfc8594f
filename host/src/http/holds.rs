//! Holds: what no plugin of a job may touch.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{Request, StatusCode};
use serde::{Deserialize, Serialize};

use crate::domain::hold::{Hold, HoldId, Pattern, PlacedHold};
use crate::domain::outcome::cut;

use super::error::Problem;
use super::instant::Written;
use super::jobs::{JobPath, named};
use super::json::Json;
use super::{App, HostApi, body};

/// The holds of a job.
#[derive(Serialize)]
pub(super) struct Listed {
    holds: Vec<Hold>,
}

/// `GET /v1/jobs/{job}/holds`.
pub(super) async fn list<H: HostApi>(State(app): State<Arc<App<H>>>, job: JobPath) -> Result<Json<Listed>, Problem> {
    Ok(Json(Listed { holds: app.host.holds(&named(job)?).await? }))
}

/// What is to be held.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewBody {
    pattern: String,
    until: Option<Written>,
    why: String,
}

/// `POST /v1/jobs/{job}/holds`, with `{"pattern", "why"}` and perhaps `"until"`.
pub(super) async fn add<H: HostApi>(
    State(app): State<Arc<App<H>>>,
    job: JobPath,
    request: Request<Body>,
) -> Result<(StatusCode, Json<PlacedHold>), Problem> {
    let job = named(job)?;
    let Some(NewBody { pattern, until, why }) = body::parsed(&app, request).await? else {
        return Err(Problem::malformed("send a `pattern`, and `why` it is held"));
    };
    let pattern = Pattern::new(pattern).map_err(|error| Problem::invalid_field("pattern", error.to_string()))?;
    let until = until.map(Written::read).transpose().map_err(|error| Problem::invalid_field("until", error))?;
    if why.trim().is_empty() {
        return Err(Problem::invalid_field("why", "is empty: whoever meets the hold wants to know"));
    }
    Ok((StatusCode::CREATED, Json(app.host.add_hold(&job, pattern, until, cut(why)).await?)))
}

/// A hold that holds nothing any more.
#[derive(Serialize)]
pub(super) struct Removed {
    removed: Hold,
}

/// `DELETE /v1/jobs/{job}/holds/{id}`.
pub(super) async fn remove<H: HostApi>(
    State(app): State<Arc<App<H>>>,
    path: Result<Path<(String, i64)>, PathRejection>,
) -> Result<Json<Removed>, Problem> {
    let Path((job, id)) = path.map_err(|_| Problem::malformed("a hold's id is a number"))?;
    Ok(Json(Removed { removed: app.host.remove_hold(&job, HoldId(id)).await? }))
}
