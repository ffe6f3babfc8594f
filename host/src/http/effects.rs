//! What plugins did to files.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};

use crate::domain::effect::{EffectPlace, EffectView};
use crate::domain::task::TaskId;
use crate::domain::time::Timestamp;
use crate::runner::EffectQuery;

use super::error::Problem;
use super::json::Json;
use super::{App, HostApi, instant};

/// `limit` where none is given, and the highest.
const LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;

/// Which effects to list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    job: Option<String>,
    task: Option<u64>,
    since: Option<String>,
    until: Option<String>,
    path: Option<String>,
    operation: Option<String>,
    limit: Option<u32>,
    after: Option<String>,
}

/// One page of effects.
#[derive(Serialize)]
pub(super) struct Page {
    effects: Vec<EffectView>,
    /// The `after` of the next page; null on the last.
    next: Option<String>,
}

/// `GET /v1/effects?job=&task=&since=&until=&path=&operation=&limit=&after=`,
/// latest first.
pub(super) async fn list<H: HostApi>(
    State(app): State<Arc<App<H>>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Page>, Problem> {
    let Query(query) = query.map_err(|rejection| Problem::query(&rejection))?;
    let limit = bounded(query.limit)?;
    let operation = query.operation.map(|text| text.parse()).transpose();
    let effects = app
        .host
        .effects(EffectQuery {
            job: query.job,
            task: query.task.map(TaskId),
            since: moment("since", query.since)?,
            until: moment("until", query.until)?,
            path: query.path,
            operation: operation.map_err(|error| Problem::malformed(format!("`operation`: {error}")))?,
            after: place(query.after)?,
            limit,
        })
        .await?;
    let next = next(&effects, limit);
    Ok(Json(Page { effects, next }))
}

/// How many are asked for.
pub(super) fn bounded(limit: Option<u32>) -> Result<u32, Problem> {
    let limit = limit.unwrap_or(LIMIT);
    if (1..=MAX_LIMIT).contains(&limit) {
        return Ok(limit);
    }
    Err(Problem::malformed(format!("`limit` is {limit}; it must be from 1 to {MAX_LIMIT}")))
}

/// A time in a query.
pub(super) fn moment(name: &str, text: Option<String>) -> Result<Option<Timestamp>, Problem> {
    let read = text.map(|text| instant::parse(&text)).transpose();
    read.map_err(|error| Problem::malformed(format!("`{name}`: {error}")))
}

/// The place after which a page begins.
pub(super) fn place(text: Option<String>) -> Result<Option<EffectPlace>, Problem> {
    let read = text.map(|text| text.parse()).transpose();
    read.map_err(|error| Problem::malformed(format!("`after`: {error}")))
}

/// The `after` of the page that follows, if one may.
pub(super) fn next(page: &[EffectView], limit: u32) -> Option<String> {
    page.last().filter(|_| page.len() >= limit as usize).map(|last| last.place().to_string())
}
