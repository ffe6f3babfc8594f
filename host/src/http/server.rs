//! Connections: accepted one by one, bounded in number, and closed in good
//! order.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::{App, HostApi, ServerOptions, admission, router};
use crate::supervise::Tasks;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 4096;

/// Longest head of a request, in bytes.
pub(super) const MAX_HEAD: usize = 64 * 1024;

/// Listens at `address`; an error where another process does.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // So that a restart need not wait for the connections of the last life.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `host` until `shutdown` is ready; then accepts no more, closes idle
/// connections, and lets running requests finish within the grace.
pub async fn serve(
    listener: TcpListener,
    host: impl HostApi,
    options: ServerOptions,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let local = listener.local_addr()?.ip().is_loopback();
    let grace = options.grace;
    let permits = Arc::new(Semaphore::new(options.max_connections));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(options.header_timeout).max_buf_size(MAX_HEAD);
    let app = App::new(host, options, local);
    let router = router(&app);

    let graceful = GracefulShutdown::new();
    let mut connections = Tasks::default();
    let mut shutdown = pin!(shutdown);
    loop {
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, accept(&listener).await)
        };
        let (permit, stream) = tokio::select! {
            () = &mut shutdown => break,
            next = next => next,
        };
        connections.tidy();
        // Answers are small; waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let (app, router) = (Arc::clone(&app), router.clone());
        let service = service_fn(move |request| {
            let (app, router) = (Arc::clone(&app), router.clone());
            async move { Ok::<_, Infallible>(admission::answer(&app, router, request).await) }
        });
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        connections.attended(async move {
            let _permit = permit;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    drop(listener);
    if timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests were cut off: they outlasted shutdown_grace");
    }
    connections.abort().await;
    Ok(())
}

/// The next connection. An error of the one that was to be accepted is its own;
/// any other (no more descriptors, no memory) passes, so it waits and goes on.
pub(super) async fn accept(listener: &TcpListener) -> TcpStream {
    let mut pause = Duration::from_millis(10);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections now");
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
}

fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
    )
}
