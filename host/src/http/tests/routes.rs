//! Every route and its answers, right and wrong.

use std::time::Duration;

use serde_json::json;

use super::*;

#[tokio::test]
async fn the_replaced_route_answers_as_it_did() {
    let server = Server::new(options());
    let done = (200, "delete video successfully".to_owned());
    let empty = (400, "video id should not be empty!".to_owned());
    for method in ["GET", "POST", "DELETE"] {
        assert_eq!(server.ask(method, "/video-delete-record/a.mp4", "").await, done);
        for path in ["", "/", "/..", "/.", "/%2e%2e", "/a%00b", "/a/b", "/a/"] {
            assert_eq!(server.ask(method, &format!("/video-delete-record{path}"), "").await, empty, "{path}");
        }
    }
    assert_eq!(server.ask("GET", "/video-delete-record/%E5%BD%B1?x=1", "").await, done);
    let keys: Vec<_> = server.app.host.0.queued.lock().await.iter().map(|task| task.key.to_string()).collect();
    assert_eq!(keys, ["a.mp4", "a.mp4", "a.mp4", "影"]);
    for broken in ["unavailable", "full", "unknown", "rejected"] {
        let path = format!("/video-delete-record/{broken}");
        assert_eq!(server.ask("GET", &path, "").await, (500, "Internal server error".to_owned()));
    }
    let head = server.ask("HEAD", "/video-delete-record/b.mp4", "").await;
    assert_eq!(head.0, 405);
    assert_eq!(server.app.host.0.queued.lock().await.len(), 4);
    let without = Server::new(ServerOptions { video_delete_record: None, ..options() });
    assert_eq!(without.ask("GET", "/video-delete-record/a", "").await.0, 404);
}

#[tokio::test]
async fn one_task_or_many() {
    let server = Server::new(options());
    let path = "/v1/jobs/videos/tasks";
    let one = r#"{"key":"a","payload":"p","run_at":"2026-01-01T00:00:00Z","priority":"high"}"#;
    let (status, body) = server.ask_json("POST", path, one).await;
    assert_eq!((status, body), (201, json!({"id": 1, "new": true, "state": "pending", "successor": false})));
    assert_eq!(server.ask_json("POST", path, one).await.0, 200);
    let task = server.app.host.0.queued.lock().await[0].clone();
    assert_eq!((task.run_at, task.priority), (Some(Timestamp(1_767_225_600_000)), Priority::High));
    let (status, body) = server.ask_json("POST", path, r#" [{"key":"running"},{"key":"b","run_at":5}]"#).await;
    assert_eq!(status, 201);
    assert_eq!(body["tasks"][0], json!({"id": 7, "new": false, "state": "running", "successor": true}));
    assert_eq!(body["tasks"][1]["new"], json!(true));
    assert_eq!(server.ask_json("POST", path, "[]").await, (200, json!({"tasks": []})));
    assert_eq!(server.ask_json("POST", path, r#"[{"key":"a"}]"#).await.0, 200);
}

#[tokio::test]
async fn all_that_is_wrong_is_named_and_nothing_is_queued() {
    let server = Server::new(ServerOptions { max_body: 1 << 20, ..options() });
    let path = "/v1/jobs/videos/tasks";
    let body = r#"[{"key":"good"},{"key":"","payload":5},{"kye":"a"},7,{"key":"a","run_at":"soon","priority":"top"}]"#;
    let (status, problem) = server.ask_json("POST", path, body).await;
    assert_eq!(status, 422);
    assert_eq!(problem["type"], json!("urn:problem-type:sweepd:invalid"));
    assert_eq!(problem["status"], json!(422));
    assert_eq!(problem["detail"], json!("4 of 5 tasks cannot be queued; none was"));
    let errors: Vec<_> = problem["errors"].as_array().expect("errors").iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            r#"{"detail":"the key is empty","field":"key","index":1}"#,
            r#"{"detail":"must be a string; send JSON as text","field":"payload","index":1}"#,
            r#"{"detail":"is missing","field":"key","index":2}"#,
            r#"{"detail":"unknown field; did you mean `key`?","field":"kye","index":2}"#,
            r#"{"detail":"a task is an object with a `key`","index":3}"#,
            r#"{"detail":"must be \"urgent\", \"high\", \"normal\" or \"low\"","field":"priority","index":4}"#,
            r#"{"detail":"`soon` is no time: write RFC 3339 (2026-01-31T12:00:00Z) or milliseconds since 1970","field":"run_at","index":4}"#,
        ]
    );
    for (body, wanted) in [
        ("{", 400),
        ("", 400),
        (r#"{"key":"a","key":"b"}"#, 400),
        (r#"{"key":5}"#, 422),
        (r#"{"key":"a","run_at":-5}"#, 422),
        (r#"{"key":"a","run_at":999999999999999}"#, 422),
        (r#""a""#, 422),
    ] {
        assert_eq!(server.ask("POST", path, body).await.0, wanted, "{body}");
    }
    // What serde says is said as it is, and where.
    for (body, detail) in [
        (r#"{"key":"a","key":"b"}"#, "duplicate field `key` at line 1 column 16"),
        (
            "[{\"key\":\"a\"},\n {\"key\":\"b\",\"payload\":\"p\",\"payload\":\"q\"}]",
            "duplicate field `payload` at line 2 column 35",
        ),
        (r#"[["a",null,null,null]]"#, "1 of 1 tasks cannot be queued; none was"),
        (r#"["a",null,null,null]"#, "4 of 4 tasks cannot be queued; none was"),
    ] {
        let (_, problem) = server.ask_json("POST", path, body).await;
        assert_eq!(problem["detail"], json!(detail), "{body}");
    }
    let item = r#"{"key":"a"},"#;
    let many = format!("[{}]", item.repeat(10_001).trim_end_matches(','));
    let (status, problem) = server.ask_json("POST", path, &many).await;
    assert_eq!(
        (status, problem["detail"].clone()),
        (422, json!("10001 tasks were sent, at most 10000 are allowed at a time"))
    );
    assert_eq!(problem["errors"], json!([{ "index": 10_000, "detail": "is one too many" }]));
    assert!(server.app.host.0.queued.lock().await.is_empty());
    let exactly = format!("[{}]", item.repeat(10_000).trim_end_matches(','));
    assert_eq!(server.ask("POST", path, &exactly).await.0, 201);
}

#[tokio::test]
async fn failures_say_what_to_do_and_nothing_of_the_inside() {
    let server = Server::new(options());
    for (key, status, kind) in [
        ("unavailable", 503, "store-unavailable"),
        ("full", 507, "storage-full"),
        ("unknown", 503, "unconfirmed"),
        ("rejected", 500, "internal"),
        ("stopping", 503, "stopping"),
        ("panic", 500, "internal"),
    ] {
        let (got, problem) = server.ask_json("POST", "/v1/jobs/videos/tasks", &format!(r#"{{"key":"{key}"}}"#)).await;
        assert_eq!((got, problem["type"].clone()), (status, json!(format!("urn:problem-type:sweepd:{kind}"))));
        assert!(!problem.to_string().to_lowercase().contains("secret"), "{problem}");
    }
    let (status, problem) = server.ask_json("POST", "/v1/jobs/video/tasks", r#"{"key":"a"}"#).await;
    assert_eq!(status, 404);
    assert_eq!(problem["detail"], json!("there is no job `video`; did you mean `videos`?"));
}

#[tokio::test]
async fn what_takes_too_long_is_answered() {
    let server = Server::new(ServerOptions { request_timeout: Duration::from_millis(20), ..options() });
    let (status, problem) = server.ask_json("POST", "/v1/jobs/videos/tasks", r#"{"key":"slow"}"#).await;
    assert_eq!((status, problem["type"].clone()), (503, json!("urn:problem-type:sweepd:too-slow")));
    assert_eq!(server.app.requests.available_permits(), 8);
}

#[tokio::test]
async fn bounds_hold() {
    let server = Server::new(options());
    let all = server.app.requests.acquire_many(8).await.expect("permits");
    let answer = server.send(Request::get("/healthz").body(Body::empty()).expect("a request")).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (503, &"1".parse().expect("a value")));
    drop(all);
    let long = format!(r#"{{"key":"{}"}}"#, "x".repeat(5000));
    let path = "/v1/jobs/videos/tasks";
    assert_eq!(server.ask("POST", path, &long).await.0, 413);
    let bodies = server.app.bodies.acquire_many(64).await.expect("permits");
    assert_eq!(server.ask_json("POST", path, r#"{"key":"a"}"#).await.1["type"], json!("urn:problem-type:sweepd:busy"));
    drop(bodies);
    assert_eq!(server.ask("POST", path, r#"{"key":"a"}"#).await.0, 201);
    assert_eq!(server.app.bodies.available_permits(), 64);
    let plain = Request::post(path).header("content-type", "text/plain").body(Body::from("{}")).expect("a request");
    assert_eq!(server.send(plain).await.status(), 415);
}

#[tokio::test]
async fn routes_that_are_not() {
    let server = Server::new(options());
    assert_eq!(server.ask("GET", "/v2", "").await.0, 404);
    assert_eq!(server.ask("GET", "/v1/jobs/video", "").await.0, 404);
    assert_eq!(server.ask("GET", "/v1/jobs/%FF", "").await.0, 400);
    let wrong = server.send(Request::delete("/v1/jobs").body(Body::empty()).expect("a request")).await;
    assert_eq!((wrong.status().as_u16(), &wrong.headers()["allow"]), (405, &"GET,HEAD".parse().expect("a value")));
    assert_eq!(wrong.headers()["content-type"], "application/problem+json");
}

#[tokio::test]
async fn tasks_come_in_pages() {
    let server = Server::new(options());
    let (status, page) = server.ask_json("GET", "/v1/tasks?job=videos&state=pending&limit=4", "").await;
    assert_eq!((status, page["tasks"].as_array().map(Vec::len), page["next"].clone()), (200, Some(4), json!(4)));
    assert!(page["tasks"][0].get("payload").is_none());
    let (_, page) = server.ask_json("GET", "/v1/tasks?limit=4&after=8", "").await;
    assert_eq!((page["tasks"][0]["id"].clone(), page["next"].clone()), (json!(9), Value::Null));
    for bad in ["limit=0", "limit=1001", "state=odd", "stat=done", "after=x"] {
        assert_eq!(server.ask("GET", &format!("/v1/tasks?{bad}"), "").await.0, 400, "{bad}");
    }
    let (_, task) = server.ask_json("GET", "/v1/tasks/1", "").await;
    assert_eq!(
        (&task["payload"], &task["attempts"], &task["attempt_log"][1]["number"]),
        (&json!("p"), &json!(0), &json!(2))
    );
    assert_eq!(server.ask("GET", "/v1/tasks/2", "").await.0, 404);
    assert_eq!(server.ask("GET", "/v1/tasks/x", "").await.0, 400);
}

#[tokio::test]
async fn jobs_are_steered() {
    let server = Server::new(options());
    assert_eq!(server.ask_json("GET", "/v1/jobs", "").await.1["jobs"][0]["name"], json!("videos"));
    assert_eq!(server.ask_json("GET", "/v1/nodes", "").await.1["nodes"][0]["labels"], json!(["ssd"]));
    assert_eq!(server.ask("POST", "/v1/jobs/videos/sweep", "").await, (202, r#"{"job":"videos"}"#.to_owned()));
    let (status, report) = server.ask_json("POST", "/v1/jobs/videos/sweep?wait=true", "").await;
    assert_eq!((status, report["claimed"].clone()), (200, json!(3)));
    assert_eq!(server.ask("GET", "/readyz", "").await, (200, "ready".to_owned()));
    let (status, paused) = server.ask_json("POST", "/v1/jobs/videos/pause", r#"{"reason":"lunch"}"#).await;
    assert_eq!((status, paused), (200, json!({"job": "videos", "paused": "lunch"})));
    assert_eq!(server.ask("GET", "/readyz", "").await.0, 200, "a paused job is no reason to ask another host");
    let (status, document) = server.ask_json("GET", "/readyz?jobs=all", "").await;
    let paused = json!([{ "job": "videos", "reason": "paused", "detail": "lunch" }]);
    assert_eq!((status, &document["jobs"], &document["reason"]), (503, &paused, &Value::Null));
    let detail = "something is missing".to_owned();
    *server.app.host.0.not_ready.lock().await = Some(NotReady { reason: HostReason::QueueFull, detail });
    for asked in ["/readyz", "/readyz?job=videos"] {
        let (status, document) = server.ask_json("GET", asked, "").await;
        assert_eq!((status, &document["reason"]), (503, &json!("queue-full")), "{asked}");
        assert_eq!(document["detail"], json!("something is missing"));
    }
    assert_eq!(server.ask_json("GET", "/v1/jobs/videos", "").await.1["paused"], json!("lunch"));
    assert_eq!(server.ask("POST", "/v1/jobs/videos/pause", r#"{"reasn":"lunch"}"#).await.0, 400);
    assert_eq!(server.ask_json("POST", "/v1/jobs/videos/resume", "").await.1["paused"], Value::Null);
    // What hangs in the kernel is said, not waited for.
    let (status, paused) = server.ask_json("POST", "/v1/jobs/videos/pause", r#"{"reason":"hangs"}"#).await;
    assert!(status == 202 && paused["paused"] == "hangs", "{status} {paused}");
    assert!(paused["under_way"].as_str().is_some_and(|why| why.contains("system call")), "{paused}");
    let (status, resumed) = server.ask_json("POST", "/v1/jobs/videos/resume", "").await;
    assert!(status == 202 && resumed["under_way"].is_string(), "{status} {resumed}");
    assert_eq!(server.ask("GET", "/healthz", "").await, (200, "ok".to_owned()));
}

#[tokio::test]
async fn foreign_pages_change_nothing() {
    let server = Server::new(options());
    for (path, method, name, value, wanted) in [
        ("/video-delete-record/a", "GET", "sec-fetch-site", "cross-site", 403),
        ("/video-delete-record/a", "GET", "origin", "http://evil.example", 403),
        ("/v1/jobs/videos/sweep", "POST", "origin", "null", 403),
        ("/v1/jobs/videos/sweep", "POST", "host", "evil.example", 403),
        ("/v1/jobs", "GET", "host", "evil.example", 403),
        ("/v1/jobs", "GET", "origin", "http://evil.example", 200),
        ("/video-delete-record/a", "GET", "host", "localhost:25601", 200),
        ("/video-delete-record/a", "GET", "sec-fetch-site", "none", 200),
    ] {
        let request = Request::builder().method(method).uri(path).header(name, value).body(Body::empty());
        let answer = server.send(request.expect("a request")).await;
        assert_eq!(answer.status().as_u16(), wanted, "{method} {path} {name}: {value}");
    }
    assert_eq!(server.app.host.0.queued.lock().await.len(), 2);
}
