//! Mounts: whether the right directories stand there, and saying that they do.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use serde::{Deserialize, Serialize};

use crate::runner::MountView;

use super::error::Problem;
use super::jobs::{JobPath, named};
use super::json::Json;
use super::{App, HostApi, body};

/// The mounts of a job.
#[derive(Serialize)]
pub(super) struct Listed {
    mounts: Vec<MountView>,
}

/// `GET /v1/jobs/{job}/mounts`.
pub(super) async fn list<H: HostApi>(State(app): State<Arc<App<H>>>, job: JobPath) -> Result<Json<Listed>, Problem> {
    Ok(Json(Listed { mounts: app.host.mounts(&named(job)?).await? }))
}

/// Which mount.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptBody {
    at: Option<String>,
}

/// `POST /v1/jobs/{job}/mounts/accept`, with `{"at"}` or, for all of them,
/// without a body.
pub(super) async fn accept<H: HostApi>(
    State(app): State<Arc<App<H>>>,
    job: JobPath,
    request: Request<Body>,
) -> Result<Json<Listed>, Problem> {
    let job = named(job)?;
    let AcceptBody { at } = body::parsed(&app, request).await?.unwrap_or_default();
    Ok(Json(Listed { mounts: app.host.accept_mounts(&job, at.as_deref()).await? }))
}
