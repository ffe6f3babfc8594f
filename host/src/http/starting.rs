//! What is answered while the host waits for something at its start: that it
//! lives, and that it is not ready.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower::ServiceExt as _;

use super::error::Problem;
use super::server::{MAX_HEAD, accept};
use super::{ServerOptions, health};
use crate::domain::readiness::{HostReason, NotReady};
use crate::supervise::Tasks;

/// For so long an answer that was begun may go on when the host has started.
const GRACE: Duration = Duration::from_millis(200);

/// Answers on `listener` until `begun` is there; then what was begun is answered,
/// and whoever comes later waits for the next server. One answer a connection.
pub async fn answer_until<T>(listener: &TcpListener, options: &ServerOptions, begun: impl Future<Output = T>) -> T {
    let router = Router::new().route("/healthz", get(health::alive)).fallback(not_yet);
    let permits = std::sync::Arc::new(Semaphore::new(options.max_connections));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(options.header_timeout).max_buf_size(MAX_HEAD).keep_alive(false);
    let graceful = GracefulShutdown::new();
    // Attended: whoever is at the other end of a connection hears of its end.
    let mut connections = Tasks::default();
    let mut begun = pin!(begun);
    let begun = loop {
        let next = async {
            let permit = std::sync::Arc::clone(&permits).acquire_owned().await;
            (permit, accept(listener).await)
        };
        let (permit, stream) = tokio::select! {
            begun = &mut begun => break begun,
            next = next => next,
        };
        connections.tidy();
        let router = router.clone();
        let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let router = router.clone();
            async move { Ok::<_, Infallible>(router.oneshot(request.map(Body::new)).await.unwrap_or_else(|e| match e {})) }
        });
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        connections.attended(async move {
            let _permit = permit;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    };
    let _ = timeout(GRACE, graceful.shutdown()).await;
    connections.abort().await;
    begun
}

async fn not_yet() -> Problem {
    let detail = "the host is starting: it waits for its database, the log says why; nothing was done".to_owned();
    Problem::not_ready(&NotReady { reason: HostReason::Starting, detail })
}
