//! Retry, cancel and bury: one, some, all that match.

use serde_json::json;

use crate::domain::intervention::Action;

use super::*;

#[tokio::test]
async fn one_task_is_taken_in_hand() {
    let server = Server::new(options());
    for action in Action::ALL {
        let path = |id: &str| format!("/v1/tasks/{id}/{action}");
        let applied = (200, json!({ "task": 11, "result": "applied" }));
        assert_eq!(server.ask_json("POST", &path("1"), r#"{"why":"as Ada asked"}"#).await, applied);
        let interrupting = (200, json!({ "task": 2, "result": "interrupting" }));
        assert_eq!(server.ask_json("POST", &path("2"), "").await, interrupting);
        let (status, problem) = server.ask_json("POST", &path("3"), "{}").await;
        assert_eq!((status, &problem["type"]), (409, &json!("urn:problem-type:sweepd:refused-state")));
        let detail = problem["detail"].as_str().expect("words");
        assert!(detail.starts_with(&format!("task 3 is done; to {action} a task makes sense while")), "{detail}");
        let (status, problem) = server.ask_json("POST", &path("4"), "").await;
        assert_eq!((status, &problem["type"]), (404, &json!("urn:problem-type:sweepd:unknown-task")));
        for (id, body) in [("x", ""), ("1", r#"{"wy":"typo"}"#), ("1", "[]")] {
            assert_eq!(server.ask("POST", &path(id), body).await.0, 400, "{id} {body}");
        }
        assert_eq!(server.ask("GET", &path("1"), "").await.0, 405);
    }
    let asked = server.app.host.0.interventions.lock().await;
    let words: Vec<_> = asked.iter().take(2).map(|ask| (ask.action, ask.why.as_str())).collect();
    assert_eq!(words, [(Action::Retry, "as Ada asked"), (Action::Retry, "by request")]);
}

#[tokio::test]
async fn many_tasks_are_taken_in_hand() {
    let server = Server::new(ServerOptions { max_body: 1 << 20, ..options() });
    let (status, done) = server.ask_json("POST", "/v1/tasks/cancel", r#"{"ids":[1,2,3,4,4]}"#).await;
    let counted = json!({ "applied": 1, "interrupting": 1, "refused": 1, "unknown": 2, "next": null });
    assert_eq!((status, done), (200, counted));
    let ids: Vec<u64> = (5..5 + 10_000).collect();
    let (status, done) = server.ask_json("POST", "/v1/tasks/bury", &json!({ "ids": ids }).to_string()).await;
    assert_eq!((status, &done["unknown"]), (200, &json!(10_000)));
    let asked = server.app.host.0.interventions.lock().await.iter().map(|ask| ask.ids.len()).max();
    assert_eq!(asked, Some(500), "no transaction is long");

    let (status, done) = server.ask_json("POST", "/v1/tasks/retry", r#"{"job":"videos"}"#).await;
    assert_eq!((status, &done["applied"], &done["next"]), (200, &json!(500), &json!(500)));
    let body = r#"{"job":"videos","state":"running","after":500,"why":"w"}"#;
    assert_eq!(server.ask_json("POST", "/v1/tasks/cancel", body).await.1["next"], Value::Null);
    let filters = server.app.host.0.filters.lock().await.clone();
    assert_eq!((filters[0].state, filters[0].why.as_str()), (TaskState::Dead, "by request"));
    assert_eq!((filters[1].state, filters[1].after), (TaskState::Running, Some(TaskId(500))));

    let many: Vec<u64> = (0..10_001).collect();
    for (action, body, status) in [
        ("retry", json!({ "job": "video" }), 404),
        ("retry", json!({ "job": "videos", "state": "done" }), 422),
        ("bury", json!({ "job": "videos", "state": "dead" }), 422),
        ("bury", json!({ "ids": many }), 422),
        ("bury", json!({ "ids": [] }), 422),
        ("retry", json!({ "ids": [] }), 422),
        ("cancel", json!({ "ids": [] }), 422),
        ("cancel", json!({ "ids": null }), 400),
        ("cancel", json!({ "job": "" }), 404),
        ("cancel", json!([null, "videos", null, null, null]), 400),
        ("bury", json!({ "state": "pending" }), 400),
        ("bury", json!({ "ids": [1], "job": "videos" }), 400),
        ("bury", json!({ "ids": [1], "state": "pending" }), 400),
        ("bury", json!({ "job": "videos", "sate": "pending" }), 400),
        ("bury", json!({}), 400),
    ] {
        let path = format!("/v1/tasks/{action}");
        let (got, problem) = server.ask_json("POST", &path, &body.to_string()).await;
        assert_eq!(got, status, "{action} {body}");
        assert_eq!(problem["errors"].is_array(), got == 422, "{action} {body}: {problem}");
    }
    assert_eq!(server.ask("POST", "/v1/tasks/bury", "").await.0, 400);
    assert_eq!(server.app.host.0.filters.lock().await.len(), 2, "what was refused was not asked for");
}
