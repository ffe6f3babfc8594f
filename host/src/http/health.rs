//! Whether the process lives, whether it would serve, and whether its jobs can
//! work.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;

use super::error::Problem;
use super::{App, HostApi};

/// `GET /healthz`: the process answers.
pub(super) async fn alive() -> &'static str {
    "ok"
}

/// Whose readiness is asked for besides the host's own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadyQuery {
    job: Option<String>,
    jobs: Option<Jobs>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Jobs {
    All,
}

/// `GET /readyz?job=&jobs=all`: requests would be served, and that job, or all
/// that this node runs, can work. 503 says in words and in a sentence why not.
pub(super) async fn ready<H: HostApi>(
    State(app): State<Arc<App<H>>>,
    query: Result<Query<ReadyQuery>, QueryRejection>,
) -> Result<&'static str, Problem> {
    let Query(query) = query.map_err(|rejection| Problem::query(&rejection))?;
    app.host.ready().await.map_err(|not| Problem::not_ready(&not))?;
    let jobs = match query {
        ReadyQuery { job: None, jobs: None } => return Ok("ready"),
        ReadyQuery { job: Some(job), jobs: None } => app.host.jobs_not_ready(Some(&job)).await?,
        ReadyQuery { job: None, jobs: Some(Jobs::All) } => app.host.jobs_not_ready(None).await?,
        ReadyQuery { job: Some(_), jobs: Some(_) } => {
            return Err(Problem::malformed("ask for one `job`, or for `jobs=all`"));
        }
    };
    if jobs.is_empty() { Ok("ready") } else { Err(Problem::jobs_not_ready(jobs)) }
}
