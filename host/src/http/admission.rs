//! Before a request is routed: who may ask, how many at a time, how long; and
//! a panic is one answer, not the end.
//!
//! The API has no authentication; what it can refuse by itself is a browser
//! that acts for a foreign page. Two checks do that. A request that changes
//! something is refused where the browser says that another origin made it
//! (`Sec-Fetch-Site`, else `Origin`). And on a loopback address a request for a
//! name that is neither an address, `localhost` nor configured is refused,
//! because a page can point a name of its own at this machine and would be of
//! the same origin then.

use std::any::Any;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use axum::Router;
use axum::body::Body;
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Method, Request};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use tokio::time::timeout;
use tower::ServiceExt as _;

use super::error::Problem;
use super::{App, HostApi, legacy, stream};

/// The answer to one request, whatever happens.
pub(super) async fn answer<H: HostApi>(app: &Arc<App<H>>, router: Router, request: Request<Incoming>) -> Response {
    admit(app, router, request.map(Body::new)).await
}

/// [`answer`], with a body of any kind.
pub(super) async fn admit<H: HostApi>(app: &Arc<App<H>>, router: Router, request: Request<Body>) -> Response {
    if let Err(problem) = may_ask(app, &request) {
        return problem.into_response();
    }
    let Ok(_permit) = app.requests.try_acquire() else {
        return Problem::busy("as many requests as are allowed are under way").into_response();
    };
    let limit = app.options.request_timeout;
    let unbounded = stream::is_stream(&request);
    let answering = unpanicked(router.oneshot(request));
    let answered = if unbounded { Ok(answering.await) } else { timeout(limit, answering).await };
    match answered {
        Ok(Ok(Ok(response))) => response,
        Ok(Err(panic)) => {
            tracing::error!(message = panic_message(&*panic), "a request handler panicked");
            Problem::internal().into_response()
        }
        Err(_) => Problem::too_slow(limit).into_response(),
    }
}

fn may_ask<H>(app: &App<H>, request: &Request<Body>) -> Result<(), Problem> {
    let hosts = &app.options.hosts;
    let host = request.headers().get(HOST).map(|host| host.to_str().unwrap_or_default());
    if let Some(host) = host.filter(|_| app.local || !hosts.is_empty())
        && !is_our_name(host, hosts)
    {
        return Err(Problem::unknown_host(host));
    }
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
        || request.uri().path().starts_with(legacy::PREFIX);
    if changes && is_cross_origin(request.headers(), host, hosts) {
        return Err(Problem::cross_origin());
    }
    Ok(())
}

/// Whether a `Host` names this server in a way that no foreign page can bring
/// about.
fn is_our_name(host: &str, hosts: &[String]) -> bool {
    let name = without_port(host);
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether a browser says that a page of another origin made the request.
/// Programs send neither header.
fn is_cross_origin(headers: &HeaderMap, host: Option<&str>, hosts: &[String]) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let Some((_, origin)) = origin.to_str().ok().and_then(|origin| origin.split_once("://")) else { return true };
    let same = host.is_some_and(|host| host.eq_ignore_ascii_case(origin));
    let known = hosts.iter().any(|known| without_port(origin).eq_ignore_ascii_case(known));
    !(same || known)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// Runs a future; a panic in it comes back as an error. Nothing that a handler
/// could leave half-changed is used afterwards: it holds only shared state that
/// is whole between awaits.
async fn unpanicked<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_page_can_take() {
        let hosts = ["videos.example.org".to_owned()];
        for good in [
            "127.0.0.1:25601",
            "127.0.0.1",
            "10.1.2.3:80",
            "[::1]:25601",
            "[::1]",
            "localhost",
            "LOCALHOST:25601",
            "videos.example.org",
            "Videos.Example.Org:443",
        ] {
            assert!(is_our_name(good, &hosts), "{good}");
        }
        for bad in ["", "evil.example", "evil.example:25601", "127.0.0.1.evil.example", "localhost.evil.example:1"] {
            assert!(!is_our_name(bad, &hosts), "{bad}");
        }
    }

    #[test]
    fn other_origins() {
        let hosts = ["videos.example.org".to_owned()];
        let cases: [(&[(&'static str, &'static str)], bool); 10] = [
            (&[], false),
            (&[("origin", "http://127.0.0.1:25601")], false),
            (&[("origin", "https://videos.example.org")], false),
            (&[("origin", "http://127.0.0.1:8080")], true),
            (&[("origin", "null")], true),
            (&[("origin", "http://evil.example")], true),
            (&[("sec-fetch-site", "same-origin"), ("origin", "http://proxied.example")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("sec-fetch-site", "same-site")], true),
        ];
        for (headers, cross) in cases {
            let map: HeaderMap = headers
                .iter()
                .map(|(name, value)| ((*name).parse().expect("a name"), (*value).parse().expect("a value")))
                .collect();
            assert_eq!(is_cross_origin(&map, Some("127.0.0.1:25601"), &hosts), cross, "{headers:?}");
        }
    }
}
