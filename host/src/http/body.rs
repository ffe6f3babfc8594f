//! Bodies: bounded each, bounded together, JSON.

use std::pin::Pin;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::Request;
use axum::http::header::CONTENT_TYPE;
use serde::Deserialize;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use super::App;
use super::error::Problem;
use super::object::Object;

/// So many of the longest bodies fit into memory at a time.
pub(super) const BODIES: usize = 16;

/// A body and its share of the memory for bodies.
pub(super) struct Read<'a> {
    pub(super) bytes: Bytes,
    _permit: SemaphorePermit<'a>,
}

/// Reads the JSON of a request; `None` where no body was sent.
pub(super) async fn json<H>(app: &App<H>, request: Request<Body>) -> Result<Option<Read<'_>>, Problem> {
    let (head, body) = request.into_parts();
    if body.is_end_stream() {
        return Ok(None);
    }
    let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content_type.is_some_and(is_json) {
        return read(app, body).await.map(Some);
    }
    // Some clients send an empty body in chunks, without saying what it is.
    let undeclared = content_type.is_none() && read(app, body).await?.bytes.is_empty();
    if undeclared { Ok(None) } else { Err(Problem::not_json()) }
}

/// What the JSON of a request says; `None` where no body was sent.
pub(super) async fn parsed<T: for<'de> Deserialize<'de>, H>(
    app: &App<H>,
    request: Request<Body>,
) -> Result<Option<T>, Problem> {
    let Some(read) = json(app, request).await? else { return Ok(None) };
    let parsed = serde_json::from_slice(&read.bytes).map(|Object(parsed)| Some(parsed));
    parsed.map_err(|error| Problem::malformed(format!("the body: {error}")))
}

async fn read<H>(app: &App<H>, mut body: Body) -> Result<Read<'_>, Problem> {
    let limit = app.options.max_body;
    let announced = body.size_hint();
    if announced.lower() > limit as u64 {
        return Err(Problem::too_large(limit));
    }
    let expected = announced.exact().map_or(limit, |length| usize::try_from(length).unwrap_or(limit));
    let permits = u32::try_from(permits(expected)).unwrap_or(u32::MAX);
    let Ok(permit) = app.bodies.try_acquire_many(permits) else {
        return Err(Problem::busy("the bodies under way take all the memory that they may"));
    };
    let reading = collect(&mut body, limit);
    let bytes = timeout(app.options.patience(), reading).await.map_err(|_| Problem::slow_body())??;
    Ok(Read { bytes, _permit: permit })
}

async fn collect(body: &mut Body, limit: usize) -> Result<Bytes, Problem> {
    let mut first = Bytes::new();
    let mut joined = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        let Ok(data) = frame.map_err(|_| Problem::cut_body())?.into_data() else { continue };
        if first.len() + joined.len() + data.len() > limit {
            return Err(Problem::too_large(limit));
        }
        if first.is_empty() && joined.is_empty() {
            first = data;
            continue;
        }
        if joined.is_empty() {
            joined.extend_from_slice(&std::mem::take(&mut first));
        }
        joined.extend_from_slice(&data);
    }
    Ok(if joined.is_empty() { first } else { joined.into() })
}

/// Permits for a body: one a KiB.
pub(super) fn permits(bytes: usize) -> usize {
    bytes.div_ceil(1024)
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}
