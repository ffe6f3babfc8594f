//! The HTTP side of a host: routes, one file a resource, and the server that
//! bounds what a client may use.
//!
//! A request passes `server` (connections, heads), `admission` (who may ask,
//! how many at a time, how long, panics) and the router; `error` alone turns
//! what went wrong into a response, and says nothing of the inside. This module
//! decides nothing about tasks: it asks a [`HostApi`].
//!
//! All points in time are numbers, in milliseconds since 1970 in UTC; a request
//! may also give them in RFC 3339.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{MethodRouter, any, delete, get, post};
use tokio::sync::Semaphore;

use crate::domain::intervention::Action;
use crate::runner::TrashAction;

mod admission;
mod body;
mod effects;
mod enqueue;
mod error;
mod health;
mod holds;
mod host;
pub mod instant;
mod interventions;
mod jobs;
mod json;
mod legacy;
mod mounts;
pub mod ndjson;
mod new_tasks;
mod nodes;
mod object;
mod options;
mod plugin;
mod server;
mod starting;
mod stream;
mod tasks;
mod trash;

pub use host::HostApi;
pub use options::ServerOptions;
pub use server::{bind, serve};
pub use starting::answer_until;

/// Everything that a handler may use.
struct App<H> {
    host: H,
    options: ServerOptions,
    /// Whether only this machine can reach the server.
    local: bool,
    /// One permit a request; a request without one is refused at once.
    requests: Semaphore,
    /// One permit a KiB of request body; a body without is refused at once.
    bodies: Semaphore,
}

impl<H: HostApi> App<H> {
    fn new(host: H, options: ServerOptions, local: bool) -> Arc<Self> {
        let requests = Semaphore::new(options.max_requests);
        let bodies = Semaphore::new(body::BODIES * body::permits(options.max_body));
        Arc::new(Self { host, options, local, requests, bodies })
    }
}

fn router<H: HostApi>(app: &Arc<App<H>>) -> Router {
    let mut router = Router::new();
    for action in Action::ALL {
        router = router
            .route(
                &format!("/v1/tasks/{action}"),
                post(move |State(app): State<Arc<App<H>>>, request| interventions::many(action, app, request)),
            )
            .route(
                &format!("/v1/tasks/{{id}}/{action}"),
                post(move |State(app): State<Arc<App<H>>>, id, request| interventions::one(action, app, id, request)),
            );
    }
    router
        .route("/video-delete-record", any(legacy::delete_video::<H>))
        .route("/video-delete-record/", any(legacy::delete_video::<H>))
        .route("/video-delete-record/{*id}", any(legacy::delete_video::<H>))
        .route("/v1/jobs", get(jobs::list::<H>))
        .route("/v1/jobs/{job}", get(jobs::show::<H>))
        .route("/v1/jobs/{job}/tasks", post(enqueue::enqueue::<H>))
        .route("/v1/jobs/{job}/sweep", post(jobs::sweep::<H>))
        .route("/v1/jobs/{job}/pause", post(jobs::pause::<H>))
        .route("/v1/jobs/{job}/resume", post(jobs::resume::<H>))
        .route("/v1/jobs/{job}/plugin", get(plugin::show::<H>))
        .route("/v1/jobs/{job}/plugin/rollback", post(plugin::rollback::<H>))
        .route("/v1/jobs/{job}/plugin/pin", post(plugin::pin::<H>))
        .route("/v1/jobs/{job}/plugin/unpin", post(plugin::unpin::<H>))
        .route("/v1/jobs/{job}/holds", get(holds::list::<H>).post(holds::add::<H>))
        .route("/v1/jobs/{job}/holds/{id}", delete(holds::remove::<H>))
        .route("/v1/jobs/{job}/mounts", get(mounts::list::<H>))
        .route("/v1/jobs/{job}/mounts/accept", post(mounts::accept::<H>))
        .route("/v1/jobs/{job}/trash", get(trash::list::<H>))
        .route("/v1/jobs/{job}/trash/restore", taking_out(TrashAction::Restore))
        .route("/v1/jobs/{job}/trash/purge", taking_out(TrashAction::Purge))
        .route("/v1/effects", get(effects::list::<H>))
        .route("/v1/nodes", get(nodes::list::<H>))
        .route("/v1/tasks", get(tasks::list::<H>))
        .route("/v1/tasks/{id}", get(tasks::show::<H>))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready::<H>))
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::method_not_allowed)
        .with_state(Arc::clone(app))
}

fn taking_out<H: HostApi>(action: TrashAction) -> MethodRouter<Arc<App<H>>> {
    post(move |State(app): State<Arc<App<H>>>, job, request| trash::take_out(action, app, job, request))
}

#[cfg(test)]
mod tests;
