//! What people want to serve.

use serde_json::json;

use super::*;

#[tokio::test]
async fn the_plugin_of_a_job_is_shown() {
    let server = Server::new(options());
    let (status, body) = server.ask_json("GET", "/v1/jobs/videos/plugin", "").await;
    assert_eq!((status, &body["job"], &body["history"]), (200, &json!("videos"), &json!([])));
    assert_eq!(server.ask("GET", "/v1/jobs/other/plugin", "").await.0, 404);
    assert_eq!(server.ask("POST", "/v1/jobs/videos/plugin", "").await.0, 405);
}

#[tokio::test]
async fn what_is_asked_for_reaches_the_host() {
    let server = Server::new(options());
    let digest = |text: &str| text.to_owned();
    for (action, body, ask) in [
        ("rollback", "", Steer::Rollback { to: None, why: digest("by request") }),
        ("rollback", r#"{"why":""}"#, Steer::Rollback { to: None, why: digest("by request") }),
        (
            "rollback",
            r#"{"digest":"3f9a","why":"lunch"}"#,
            Steer::Rollback { to: Some(digest("3f9a")), why: digest("lunch") },
        ),
        ("pin", r#"{"digest":"3f9a"}"#, Steer::Pin { digest: digest("3f9a") }),
        ("pin", r#"{"digest":"3f9a","why":"lunch"}"#, Steer::Pin { digest: digest("3f9a") }),
        ("unpin", "", Steer::Unpin),
        ("unpin", "{}", Steer::Unpin),
    ] {
        let (status, answer) = server.ask_json("POST", &format!("/v1/jobs/videos/plugin/{action}"), body).await;
        assert_eq!((status, &answer["job"]), (200, &json!("videos")), "{action} {body}");
        assert_eq!(server.app.host.0.steered.lock().await.pop(), Some(ask), "{action} {body}");
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_said() {
    let server = Server::new(options());
    for (action, body, status, kind) in [
        ("rollback", r#"{"digest":"unknown"}"#, 404, "unknown-component"),
        ("rollback", r#"{"digest":"nothing"}"#, 409, "cannot-serve"),
        ("rollback", r#"{"digest":"broken"}"#, 409, "cannot-serve"),
        ("rollback", r#"{"digest":"gone"}"#, 409, "cannot-serve"),
        ("rollback", r#"{"digest":"disk"}"#, 500, "internal"),
        ("rollback", r#"{"digets":"a"}"#, 400, "malformed"),
        ("rollback", r#"{"digest":5}"#, 400, "malformed"),
        ("pin", "", 400, "malformed"),
        ("pin", r#"{"why":"lunch"}"#, 400, "malformed"),
        ("unpin", r#"{"digest":"a"}"#, 400, "malformed"),
    ] {
        let (answered, problem) = server.ask_json("POST", &format!("/v1/jobs/videos/plugin/{action}"), body).await;
        assert_eq!(answered, status, "{action} {body}: {problem}");
        assert_eq!(problem["type"], format!("urn:problem-type:sweepd:{kind}"), "{action} {body}");
        assert!(!problem.to_string().contains("secret"), "{problem}");
    }
    assert_eq!(server.ask("POST", "/v1/jobs/other/plugin/unpin", "").await.0, 404);
    let slow = server.ask("POST", "/v1/jobs/videos/plugin/pin", r#"{"digest":"slow"}"#).await;
    assert_eq!(slow.0, 202);
}
