//! What plugins did, what is held and what is in the trash, over HTTP.

use serde_json::json;

use super::*;

#[tokio::test]
async fn effects_are_listed_by_what_is_asked() {
    let server = Server::new(options());
    let path = "/v1/effects?job=videos&task=7&since=1970-01-01T00:00:01Z&until=2000&path=/srv/&operation=remove\
                &limit=1&after=9-4000000000000000-3";
    let (status, page) = server.ask_json("GET", path, "").await;
    assert_eq!(status, 200, "{page}");
    let effect = &page["effects"][0];
    assert_eq!((&effect["id"], &effect["path"]), (&json!("4000000000000000-3"), &json!("/srv/a")), "{page}");
    assert_eq!(
        (&effect["job"], &effect["result"], &effect["fate"]),
        (&json!("videos"), &json!("done"), &json!("kept"))
    );
    assert_eq!(page["next"], "9-4000000000000000-3");
    let asked = server.app.host.0.effects.lock().await.pop().expect("a question");
    let wanted = EffectQuery {
        job: Some("videos".to_owned()),
        task: Some(TaskId(7)),
        since: Some(Timestamp(1000)),
        until: Some(Timestamp(2000)),
        path: Some("/srv/".to_owned()),
        operation: Some(Operation::Remove),
        after: Some(EffectPlace(Timestamp(9), EffectId { journal: 1 << 62, number: 3 })),
        limit: 1,
    };
    assert_eq!(asked, wanted);
    for wrong in ["operation=fly", "since=soon", "after=9", "limit=0", "limit=1001", "task=x", "colour=red"] {
        assert_eq!(server.ask("GET", &format!("/v1/effects?{wrong}"), "").await.0, 400, "{wrong}");
    }
    assert_eq!(server.ask("GET", "/v1/effects?job=other", "").await.0, 404);
}

#[tokio::test]
async fn holds_come_and_go() {
    let server = Server::new(options());
    let new = json!({ "pattern": "2024/**", "until": "1970-01-01T00:00:01Z", "why": "legal" }).to_string();
    let (status, hold) = server.ask_json("POST", "/v1/jobs/videos/holds", &new).await;
    assert_eq!((status, &hold["id"], &hold["until"]), (201, &json!(1), &json!(1000)), "{hold}");
    assert_eq!(hold["now"], json!({ "files": 0, "complete": true }), "{hold}");
    assert!(hold["warning"].as_str().is_some_and(|warning| warning.contains("check the pattern")), "{hold}");
    let (_, listed) = server.ask_json("GET", "/v1/jobs/videos/holds", "").await;
    for field in ["id", "pattern", "until", "why", "since"] {
        assert_eq!(listed["holds"][0][field], hold[field], "{field}");
    }
    let (_, removed) = server.ask_json("DELETE", "/v1/jobs/videos/holds/1", "").await;
    assert_eq!(removed["removed"], listed["holds"][0]);
    for (body, wanted) in [
        (json!({ "pattern": "a" }), 400),
        (json!({ "pattern": "a", "why": "x", "colour": 1 }), 400),
        (json!({ "pattern": "a", "why": "x", "until": [1] }), 400),
        (json!(["a", null, "x"]), 400),
    ] {
        assert_eq!(server.ask("POST", "/v1/jobs/videos/holds", &body.to_string()).await.0, wanted, "{body}");
    }
    for (body, field) in [
        (json!({ "pattern": "", "why": "x" }), "pattern"),
        (json!({ "pattern": "a/../b", "why": "x" }), "pattern"),
        (json!({ "pattern": "a", "why": " " }), "why"),
        (json!({ "pattern": "a", "why": "x", "until": "soon" }), "until"),
    ] {
        let (status, problem) = server.ask_json("POST", "/v1/jobs/videos/holds", &body.to_string()).await;
        let errors = problem["errors"].as_array().expect("errors");
        assert_eq!((status, errors.len(), &errors[0]["field"]), (422, 1, &json!(field)), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(field)), "{problem}");
    }
    assert_eq!(server.ask("POST", "/v1/jobs/videos/holds", "").await.0, 400);
    assert_eq!(server.ask("DELETE", "/v1/jobs/videos/holds/9", "").await.0, 404);
    assert_eq!(server.ask("DELETE", "/v1/jobs/videos/holds/x", "").await.0, 400);
    assert_eq!(server.ask("GET", "/v1/jobs/other/holds", "").await.0, 404);
}

#[tokio::test]
async fn the_trash_is_asked_by_ids_or_filters() {
    let server = Server::new(options());
    let (status, page) = server.ask_json("GET", "/v1/jobs/videos/trash?path=/srv&task=7", "").await;
    assert_eq!((status, &page["files"][0]["fate"]), (200, &json!("kept")), "{page}");
    let id = "4000000000000000-3";
    let ids = json!({ "ids": [id] }).to_string();
    let (status, done) = server.ask_json("POST", "/v1/jobs/videos/trash/restore", &ids).await;
    assert_eq!(status, 200, "{done}");
    assert_eq!(done, json!({ "results": [{ "id": id, "result": "restored" }], "next": null }));
    let all = json!({ "all": true, "after": format!("9-{id}") }).to_string();
    let (status, done) = server.ask_json("POST", "/v1/jobs/videos/trash/purge", &all).await;
    assert_eq!((status, &done["next"]), (200, &json!(format!("9-{id}"))), "{done}");
    let taken = server.app.host.0.taken.lock().await.clone();
    assert_eq!(taken.iter().map(|ask| ask.action).collect::<Vec<_>>(), [TrashAction::Restore, TrashAction::Purge]);
    for (body, wanted) in [
        (json!({}), 400),
        (json!({ "ids": [id], "all": true }), 400),
        (json!({ "ids": [id], "path": "/" }), 400),
        (json!({ "all": true, "path": "/" }), 400),
        (json!({ "all": true, "path": "" }), 422),
        (json!({ "ids": ["7"] }), 422),
        (json!({ "before": "soon" }), 422),
        // Nothing comes to mean everything.
        (json!({ "path": "" }), 422),
        (json!({ "path": "", "since": "2026-01-01T00:00:00Z" }), 422),
        (json!({ "ids": [] }), 422),
        (json!({ "ids": null }), 400),
        (json!({ "path": null, "all": false }), 400),
        (json!([null, true, null, null, null, null, null]), 400),
    ] {
        for action in ["purge", "restore"] {
            let path = format!("/v1/jobs/videos/trash/{action}");
            let (status, problem) = server.ask_json("POST", &path, &body.to_string()).await;
            assert_eq!(status, wanted, "{action} {body}");
            assert_eq!(problem["errors"].is_array(), status == 422, "{action} {body}: {problem}");
        }
    }
    assert_eq!(server.app.host.0.taken.lock().await.len(), 2, "what was refused was not asked for");
    let (_, problem) = server.ask_json("POST", "/v1/jobs/videos/trash/purge", r#"{"al":true}"#).await;
    let detail = problem["detail"].as_str().expect("words");
    assert!(detail.starts_with("the body: unknown field `al`") && detail.ends_with("at line 1 column 5"), "{detail}");
}

#[tokio::test]
async fn mounts_are_accepted() {
    let server = Server::new(options());
    assert_eq!(server.ask_json("GET", "/v1/jobs/videos/mounts", "").await, (200, json!({ "mounts": [] })));
    assert_eq!(server.ask("POST", "/v1/jobs/videos/mounts/accept", "").await.0, 200);
    assert_eq!(server.ask("POST", "/v1/jobs/videos/mounts/accept", r#"{"at":"/"}"#).await.0, 200);
    assert_eq!(server.ask("POST", "/v1/jobs/videos/mounts/accept", r#"{"at":"/x"}"#).await.0, 404);
}
