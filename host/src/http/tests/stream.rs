//! Streams of tasks.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};
use hyper::body::Frame;
use serde_json::json;
use tokio::sync::mpsc;

use super::*;

/// A body that arrives as the test sends it.
struct Arriving(mpsc::Receiver<Option<Bytes>>);

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(context).map(|bytes| {
            let cut = || Err(std::io::ErrorKind::ConnectionReset.into());
            bytes.map(|bytes| bytes.map_or_else(cut, |bytes| Ok(Frame::data(bytes))))
        })
    }
}

fn request(job: &str, body: Body) -> Request<Body> {
    let path = format!("/v1/jobs/{job}/tasks");
    Request::post(path).header("content-type", "application/x-ndjson; charset=utf-8").body(body).expect("a request")
}

async fn read(answer: Response<Body>) -> (u16, Value) {
    let status = answer.status().as_u16();
    let bytes = to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
    (status, serde_json::from_slice(&bytes).expect("JSON"))
}

async fn send(server: &Server, text: &str) -> (u16, Value) {
    read(server.send(request("videos", Body::from(text.to_owned()))).await).await
}

fn hasty() -> ServerOptions {
    ServerOptions { request_timeout: Duration::from_secs(1), ..options() }
}

/// Waits for what a task beside does.
async fn until(mut done: impl AsyncFnMut() -> bool) {
    while !done().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_is_right_is_queued_and_what_is_wrong_is_told() {
    let server = Server::new(options());
    let text = "{\"key\":\"a\"}\n\nno\n{\"key\":\"running\",\"priority\":\"high\"}\n{\"kye\":\"b\"}\n{\"key\":\"a\"}";
    let (status, summary) = send(&server, text).await;
    let wanted = json!({
        "lines": 5, "queued": 3, "new": 2, "pending": 0, "successors": 1, "wrong": 2,
        "errors": [
            { "line": 3, "detail": "no JSON: expected ident at column 2" },
            { "line": 5, "detail": "`key` is missing; `kye`: unknown field; did you mean `key`?" },
        ],
    });
    assert_eq!((status, summary), (200, wanted));
    assert_eq!(server.app.host.0.queued.lock().await[1].priority, Priority::High);

    let (status, summary) = send(&server, &"{}\n".repeat(150)).await;
    assert_eq!((status, &summary["type"]), (400, &json!("urn:problem-type:sweepd:malformed")));
    assert_eq!(summary["errors"].as_array().map(Vec::len), Some(100));
    assert_eq!(summary["errors"][99]["line"], 100);
    assert_eq!(send(&server, "").await.1["lines"], 0);
    let answer = server.send(request("video", Body::empty())).await;
    assert_eq!(read(answer).await.0, 404);
}

#[tokio::test]
async fn a_stream_longer_than_any_body_is_queued_in_chunks() {
    let server = Server::new(ServerOptions { max_body: 1024, ..options() });
    let lines: Vec<_> = (0..25_500).map(|number| format!("{{\"key\":\"key-{number}\"}}\n")).collect();
    let (status, summary) = send(&server, &lines.concat()).await;
    assert_eq!((status, &summary["queued"], &summary["lines"]), (200, &json!(25_500), &json!(25_500)));
    let chunks = server.app.host.0.chunks.lock().await.clone();
    assert_eq!((chunks.len(), chunks.iter().max()), (26, Some(&1000)), "{chunks:?}");
    assert_eq!(server.app.bodies.available_permits(), 16, "all are given back");
}

#[tokio::test]
async fn a_stream_may_last_and_what_it_brought_does_not_wait() {
    let server = Arc::new(Server::new(hasty()));
    let began = std::time::Instant::now();
    let (sender, receiver) = mpsc::channel(1);
    let under_way = {
        let server = Arc::clone(&server);
        tokio::spawn(async move { read(server.send(request("videos", Body::new(Arriving(receiver)))).await).await })
    };
    let host = server.app.host.clone();
    for number in 0..10 {
        let line = format!("{{\"key\":\"key-{number}\"}}\n{{\"key\":\"half-");
        let line = if number == 0 { line } else { format!("{number}\"}}\n{line}") };
        sender.send(Some(line.into())).await.expect("it is read");
        let queued = async || host.0.queued.lock().await.len();
        let wanted = if number == 0 { 1 } else { 2 * number + 1 };
        until(async || queued().await == wanted).await;
    }
    sender.send(Some("last\"}".into())).await.expect("it is read");
    drop(sender);
    let (status, summary) = under_way.await.expect("no panic");
    assert_eq!((status, &summary["queued"]), (200, &json!(20)));
    assert!(began.elapsed() > hasty().request_timeout, "no request of another kind may take as long");
}

#[tokio::test]
async fn a_stream_that_stops_short_says_how_far_it_came() {
    let server = Arc::new(Server::new(hasty()));
    let line = |key: &str| Some(Bytes::from(format!("{{\"key\":\"{key}\"}}\n")));
    let silence: Option<Option<Bytes>> = None;
    for (then, status, kind) in [
        (silence, 408, "slow-body"),
        (Some(None), 400, "malformed"),
        (Some(line("unavailable")), 503, "store-unavailable"),
        (Some(line("stopping")), 503, "stopping"),
        (Some(line("slow")), 503, "too-slow"),
    ] {
        let (sender, receiver) = mpsc::channel(1);
        let under_way = {
            let server = Arc::clone(&server);
            tokio::spawn(async move { server.send(request("videos", Body::new(Arriving(receiver)))).await })
        };
        let chunks = server.app.host.0.chunks.lock().await.len();
        sender.send(line("good")).await.expect("it is read");
        sender.send(line("good too")).await.expect("it is read");
        until(async || server.app.host.0.chunks.lock().await.len() > chunks).await;
        if let Some(then) = then {
            sender.send(then).await.expect("it is read");
        }
        let answer = under_way.await.expect("no panic");
        assert_eq!(answer.headers().get("connection").and_then(|value| value.to_str().ok()), Some("close"), "{kind}");
        let (got, problem) = read(answer).await;
        assert_eq!((got, &problem["type"]), (status, &json!(format!("urn:problem-type:sweepd:{kind}"))));
        let detail = problem["detail"].as_str().expect("words");
        assert!(detail.starts_with("from line 3 on: "), "{detail}");
    }
    assert_eq!(server.app.requests.available_permits(), 8);
}

#[tokio::test]
async fn only_enqueues_may_last() {
    let server = Server::new(ServerOptions { request_timeout: Duration::from_millis(20), ..options() });
    let (_sender, receiver) = mpsc::channel::<Option<Bytes>>(1);
    let body = Body::new(Arriving(receiver));
    let pause = Request::post("/v1/jobs/videos/pause").header("content-type", "application/x-ndjson").body(body);
    let answer = server.send(pause.expect("a request")).await;
    assert_eq!(answer.status(), 415);
}
