//! A server without connections over a host that is made up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, Response};
use serde_json::Value;
use tokio::sync::{Mutex, oneshot};

use crate::domain::digest::Digest;
use crate::domain::effect::{Effect, EffectId, EffectPlace, EffectResult, EffectView, Fate, Operation};
use crate::domain::hold::{HeldNow, Hold, HoldId, Pattern, PlacedHold};
use crate::domain::intervention::{Intervened, Tally};
use crate::domain::job::{JobId, JobName};
use crate::domain::node::{NodeId, NodeView};
use crate::domain::plugin_history::{Refused, Steer};
use crate::domain::readiness::{CannotWork, HostReason, JobNotReady, JobReason, NotReady};
use crate::domain::status::{Backlog, HostStatus, JobStatus, PluginStatus, SlotStatus, SweepReport, TakenStatus};
use crate::domain::task::{AttemptView, Enqueued, NewTask, Priority, TaskId, TaskState, TaskView};
use crate::domain::time::Timestamp;
use crate::domain::wall::{Enforced, WallPolicy, WallStatus};
use crate::plugin::SteerError;
use crate::runner::{
    ByFilter, EffectQuery, HostError, MountView, TakenOut, TaskQuery, TrashAsk, TrashPick, TrashResult,
};
use crate::store::{Intervene, Once, RequestKey, StoreError};

use super::*;

use self::fake::Fake;

mod by_hand;
mod connections;
mod fake;
mod guarding;
mod once;
mod plugins;
mod routes;
mod stream;

fn options() -> ServerOptions {
    ServerOptions {
        video_delete_record: Some("videos".to_owned()),
        hosts: Vec::new(),
        max_body: 4096,
        header_timeout: Duration::from_millis(300),
        request_timeout: Duration::from_secs(2),
        max_requests: 8,
        max_connections: 8,
        grace: Duration::from_secs(2),
    }
}

/// A server without connections.
struct Server {
    app: Arc<App<Fake>>,
    router: Router,
}

impl Server {
    fn new(options: ServerOptions) -> Self {
        let app = App::new(Fake::default(), options, true);
        Self { router: router(&app), app }
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        admission::admit(&self.app, self.router.clone(), request).await
    }

    /// Method, path, body; the status and the body of the answer.
    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut request = Request::builder().method(method).uri(path);
        if !body.is_empty() {
            request = request.header("content-type", "application/json; charset=utf-8");
        }
        let answer = self.send(request.body(Body::from(body.to_owned())).expect("a request")).await;
        let status = answer.status().as_u16();
        let type_is_problem =
            answer.headers().get("content-type").is_some_and(|kind| kind == "application/problem+json");
        let legacy = path.starts_with(legacy::PREFIX);
        assert!(status < 400 || legacy || type_is_problem, "{method} {path}: {status} is no problem document");
        let bytes = to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
        (status, String::from_utf8(bytes.to_vec()).expect("text"))
    }

    async fn ask_json(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, body) = self.ask(method, path, body).await;
        (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
    }
}
