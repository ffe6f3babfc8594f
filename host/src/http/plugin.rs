//! The plugin of a job: what serves and what did, and what people want to serve
//! instead.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use serde::Deserialize;

use crate::domain::outcome::cut;
use crate::domain::plugin_history::Steer;
use crate::domain::status::PluginStatus;

use super::error::Problem;
use super::jobs::{JobPath, named};
use super::json::Json;
use super::{App, HostApi, body};

/// What came of an ask: 202 where it takes longer than a request may.
pub(super) type Answer = Result<(StatusCode, Json<PluginStatus>), Problem>;

/// `GET /v1/jobs/{job}/plugin`.
pub(super) async fn show<H: HostApi>(
    State(app): State<Arc<App<H>>>,
    job: JobPath,
) -> Result<Json<PluginStatus>, Problem> {
    Ok(Json(app.host.plugin(&named(job)?).await?))
}

/// Which component, by the beginning of its digest, and why.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    digest: Option<String>,
    why: Option<String>,
}

/// `POST /v1/jobs/{job}/plugin/rollback`, with `{"digest", "why"}`, either or
/// neither.
pub(super) async fn rollback<H: HostApi>(
    State(app): State<Arc<App<H>>>,
    job: JobPath,
    request: Request<Body>,
) -> Answer {
    let Asked { digest, why } = asked(&app, request).await?;
    let why = cut(why.filter(|why| !why.is_empty()).unwrap_or_else(|| "by request".to_owned()));
    steer(&app, job, Steer::Rollback { to: digest, why }).await
}

/// `POST /v1/jobs/{job}/plugin/pin`, with `{"digest"}`.
pub(super) async fn pin<H: HostApi>(State(app): State<Arc<App<H>>>, job: JobPath, request: Request<Body>) -> Answer {
    let Some(digest) = asked(&app, request).await?.digest else {
        return Err(Problem::malformed("send the `digest` of the component, or its beginning"));
    };
    steer(&app, job, Steer::Pin { digest }).await
}

/// `POST /v1/jobs/{job}/plugin/unpin`.
pub(super) async fn unpin<H: HostApi>(State(app): State<Arc<App<H>>>, job: JobPath, request: Request<Body>) -> Answer {
    if asked(&app, request).await?.digest.is_some() {
        return Err(Problem::malformed("send no `digest`: there is at most one that is pinned"));
    }
    steer(&app, job, Steer::Unpin).await
}

async fn steer<H: HostApi>(app: &App<H>, job: JobPath, ask: Steer) -> Answer {
    let (status, settled) = app.host.steer(&named(job)?, ask, app.options.patience()).await?;
    Ok((if settled { StatusCode::OK } else { StatusCode::ACCEPTED }, Json(status)))
}

async fn asked<H>(app: &App<H>, request: Request<Body>) -> Result<Asked, Problem> {
    Ok(body::parsed(app, request).await?.unwrap_or_default())
}
