//! Whether the process lives, and whether it would serve.

use std::sync::Arc;

use axum::extract::State;

use super::error::Problem;
use super::{App, HostApi};

/// `GET /healthz`: the process answers.
pub(super) async fn alive() -> &'static str {
    "ok"
}

/// `GET /readyz`: requests would be served; 503 says what is missing.
pub(super) async fn ready<H: HostApi>(State(app): State<Arc<App<H>>>) -> Result<&'static str, Problem> {
    app.host.ready().await.map(|()| "ready").map_err(Problem::not_ready)
}
