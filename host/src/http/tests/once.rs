//! Requests that name themselves.

use serde_json::json;

use super::*;

const PATH: &str = "/v1/jobs/videos/tasks";

async fn send(server: &Server, keys: &[&str], kind: &str, body: &str) -> (u16, bool, Value) {
    let mut request = Request::post(PATH).header("content-type", kind);
    for key in keys {
        request = request.header("idempotency-key", *key);
    }
    let answer = server.send(request.body(Body::from(body.to_owned())).expect("a request")).await;
    let status = answer.status().as_u16();
    let replayed = answer.headers().get("idempotency-replayed").is_some_and(|value| value == "true");
    let bytes = to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
    (status, replayed, serde_json::from_slice(&bytes).expect("JSON"))
}

#[tokio::test]
async fn a_repeat_is_answered_as_before() {
    let server = Server::new(options());
    let json = "application/json";
    let first = json!({ "id": 1, "new": true, "state": "pending", "successor": false });
    assert_eq!(send(&server, &["k1"], json, r#"{"key":"a"}"#).await, (201, false, first.clone()));
    assert_eq!(send(&server, &["k1"], json, r#"{"key":"a"}"#).await, (200, true, first.clone()));
    let many = send(&server, &["k2"], json, r#"[{"key":"a"},{"key":"b"}]"#).await;
    assert_eq!((many.0, many.1, &many.2["tasks"][1]["new"]), (201, false, &json!(true)));
    assert_eq!(send(&server, &["k2"], json, r#"[{"key":"a"},{"key":"b"}]"#).await, (200, true, many.2));
    assert_eq!(send(&server, &["k3"], json, "[]").await, (200, false, json!({ "tasks": [] })));
    // The bytes count, not what they mean.
    let (status, _, problem) = send(&server, &["k1"], json, r#"{"key": "a"}"#).await;
    assert_eq!((status, &problem["type"]), (422, &json!("urn:problem-type:sweepd:key-reused")));
    assert_eq!(server.app.host.0.queued.lock().await.len(), 3);
}

#[tokio::test]
async fn names_are_checked() {
    let server = Server::new(options());
    let long = "x".repeat(255);
    let longer = "x".repeat(256);
    for (keys, status) in [
        (&["\"8e03978e-40d5-43dd-bc93-6894a57f9324\""][..], 201),
        (&[&long], 200),
        (&[&longer], 400),
        (&[""], 400),
        (&["a b"], 400),
        (&["ümlaut"], 400),
        (&["a", "a"], 400),
    ] {
        assert_eq!(send(&server, keys, "application/json", r#"{"key":"a"}"#).await.0, status, "{keys:?}");
    }
    let (status, _, problem) = send(&server, &["k"], "application/x-ndjson", "{\"key\":\"b\"}\n").await;
    assert_eq!(status, 400);
    assert!(problem["detail"].as_str().is_some_and(|why| why.contains("stream")), "{problem}");
    assert_eq!(server.app.host.0.queued.lock().await.len(), 2);
}
