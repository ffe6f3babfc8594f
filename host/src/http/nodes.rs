//! The nodes that share the queue.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;

use crate::domain::node::NodeView;

use super::error::Problem;
use super::json::Json;
use super::{App, HostApi};

/// All nodes that live.
#[derive(Serialize)]
pub(super) struct Nodes {
    nodes: Vec<NodeView>,
}

/// `GET /v1/nodes`.
pub(super) async fn list<H: HostApi>(State(app): State<Arc<App<H>>>) -> Result<Json<Nodes>, Problem> {
    Ok(Json(Nodes { nodes: app.host.nodes().await? }))
}
