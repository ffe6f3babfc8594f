//! The route of the service that sweepd replaces, for its callers: plain text,
//! and a `GET` that changes something.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use percent_encoding::percent_decode_str;

use crate::domain::task::{Key, NewTask};
use crate::domain::video;

use super::error::Problem;
use super::{App, HostApi};

/// Where the route begins.
pub(super) const PREFIX: &str = "/video-delete-record";

/// `GET`, `POST` and `DELETE /video-delete-record/{vid-id}`.
pub(super) async fn delete_video<H: HostApi>(State(app): State<Arc<App<H>>>, method: Method, uri: Uri) -> Response {
    // Not HEAD, which axum would take for a GET: whoever only looks must not
    // delete.
    if !matches!(method, Method::GET | Method::POST | Method::DELETE) {
        return Problem::legacy_method(&method).into_response();
    }
    let Some(job) = app.options.video_delete_record.as_deref() else {
        return Problem::no_legacy_job().into_response();
    };
    let Some(key) = video_id(uri.path()) else {
        return (StatusCode::BAD_REQUEST, "video id should not be empty!").into_response();
    };
    match app.host.enqueue(job, vec![NewTask::now(key)]).await {
        Ok(_) => "delete video successfully".into_response(),
        Err(error) => Problem::plain(error),
    }
}

/// The id in a path; `None` where it is no UTF-8 or can name no video.
fn video_id(path: &str) -> Option<Key> {
    let raw = path.strip_prefix(PREFIX)?.strip_prefix('/')?;
    video::key_of(&percent_decode_str(raw).decode_utf8().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        let long = "x".repeat(1024);
        for (raw, id) in [
            ("holiday.mp4", "holiday.mp4"),
            ("%E5%BD%B1", "影"),
            ("影", "影"),
            ("a%20b", "a b"),
            ("a+b", "a+b"),
            ("-rf", "-rf"),
            ("...", "..."),
            ("100%", "100%"),
            (long.as_str(), long.as_str()),
        ] {
            let key = video_id(&format!("{PREFIX}/{raw}"));
            assert_eq!(key.as_ref().map(Key::as_str), Some(id), "{raw}");
        }
        let too_long = "x".repeat(1025);
        for bad in [
            "", ".", "..", "%2e", "%2E%2e", ".%2e", "a/b", "a%2Fb", "/", "a/", "a%5Cb", "a\\b", "a%00b", "%0a", "%7f",
            "%C2%85", "%FF", &too_long,
        ] {
            assert_eq!(video_id(&format!("{PREFIX}/{bad}")), None, "{bad}");
        }
        assert_eq!(video_id(PREFIX), None);
    }
}
