//! What went wrong, as `application/problem+json` (RFC 9457).
//!
//! This type alone turns errors into responses. What a client may know is in
//! the response; what only the operator may know (words of the database, paths)
//! goes into the log.

use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::domain::intervention::Action;
use crate::domain::plugin_history::Refused;
use crate::domain::readiness::{HostReason, JobNotReady, NotReady};
use crate::domain::task::{TaskId, TaskState};
use crate::plugin::SteerError;
use crate::runner::HostError;
use crate::store::StoreError;

/// Most entries in `errors`; the detail says how many there are.
const MAX_ERRORS: usize = 100;

/// One thing that is wrong with a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct FieldError {
    /// The place in the array, from 0; none where a single object was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) index: Option<usize>,
    /// The line of a stream, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<u64>,
    /// The field; none where the element as a whole is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) field: Option<String>,
    /// What is wrong with it.
    pub(super) detail: String,
}

impl FieldError {
    /// A line of a stream is wrong.
    pub(super) fn of_line(line: u64, detail: String) -> Self {
        Self { index: None, line: Some(line), field: None, detail }
    }
}

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    /// Why the host is not ready, for machines.
    reason: Option<HostReason>,
    /// The jobs that cannot work.
    jobs: Vec<JobNotReady>,
    extra: Extra,
}

/// A header beside the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extra {
    None,
    /// `Retry-After`.
    Retry,
    /// `Connection: close`: the rest of the request will not be read.
    Close,
    /// `Allow`, where the router does not set it.
    AllowLegacy,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<HostReason>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    jobs: &'a [JobNotReady],
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        let (errors, jobs) = (Vec::new(), Vec::new());
        Self { status, kind, title, detail: detail.into(), errors, reason: None, jobs, extra: Extra::None }
    }

    fn with(self, extra: Extra) -> Self {
        Self { extra, ..self }
    }

    fn try_later(kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, title, detail).with(Extra::Retry)
    }

    pub(super) fn no_legacy_job() -> Self {
        let detail = "no job is configured for this route: set server.video_delete_record";
        Self::new(StatusCode::NOT_FOUND, "no-such-route", "No such route", detail)
    }

    pub(super) fn legacy_method(method: &Method) -> Self {
        Self::method(method).with(Extra::AllowLegacy)
    }

    fn method(method: &Method) -> Self {
        let detail = format!("{method} is not allowed here; see the Allow header");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed", detail)
    }

    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", "Malformed request", detail)
    }

    /// What stands behind the `?` cannot be read.
    pub(super) fn query(rejection: &QueryRejection) -> Self {
        let text = rejection.body_text();
        let why = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
        Self::malformed(format!("the query: {why}"))
    }

    /// The content is wrong, and this is all that is: never empty.
    pub(super) fn invalid(detail: impl Into<String>, mut errors: Vec<FieldError>) -> Self {
        debug_assert!(!errors.is_empty(), "a client reads in `errors` what is wrong");
        errors.truncate(MAX_ERRORS);
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Invalid content", detail) }
    }

    /// One field of an object is wrong.
    pub(super) fn invalid_field(field: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let error = FieldError { index: None, line: None, field: Some(field.to_owned()), detail: detail.clone() };
        let told =
            if detail.starts_with("is ") { format!("`{field}` {detail}") } else { format!("`{field}`: {detail}") };
        Self::invalid(told, vec![error])
    }

    /// What is to be selected by `field` is nothing: nobody means that, and it
    /// must not come to mean everything.
    pub(super) fn empty(field: &str) -> Self {
        Self::invalid_field(field, "is empty, and selects nothing; nothing was done")
    }

    /// There are more elements than the `most` that are allowed: the first that
    /// is one too many is named.
    pub(super) fn too_many(what: &str, field: Option<&str>, sent: usize, most: usize) -> Self {
        let detail = format!("{sent} {what} were sent, at most {most} are allowed at a time");
        let field = field.map(str::to_owned);
        let error = FieldError { index: Some(most), line: None, field, detail: "is one too many".to_owned() };
        Self::invalid(detail, vec![error])
    }

    /// None of the lines of a stream could be queued.
    pub(super) fn no_task(lines: u64, errors: Vec<FieldError>) -> Self {
        let detail = format!("none of the {lines} lines is a task; nothing was queued");
        Self { errors, ..Self::malformed(detail) }
    }

    pub(super) fn key_reused() -> Self {
        let detail = "this Idempotency-Key was sent within the last 24 hours with another body; \
                      nothing was queued: send the same body, or another key";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "key-reused", "Idempotency-Key reused", detail)
    }

    pub(super) fn refused(action: Action, id: TaskId, state: TaskState) -> Self {
        let states: Vec<_> = action.states().map(TaskState::as_str).collect();
        let detail =
            format!("task {id} is {state}; to {action} a task makes sense while it is {}", states.join(" or "));
        Self::new(StatusCode::CONFLICT, "refused-state", "Not in this state", detail)
    }

    pub(super) fn not_json() -> Self {
        let detail = "send the body with content-type: application/json";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "Unsupported media type", detail)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let detail = format!("the body is longer than server.max_body ({limit} bytes); send it in parts");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Body too large", detail).with(Extra::Close)
    }

    pub(super) fn slow_body() -> Self {
        let detail = "the body did not arrive in time; nothing was done";
        Self::new(StatusCode::REQUEST_TIMEOUT, "slow-body", "Request timeout", detail).with(Extra::Close)
    }

    pub(super) fn slow_stream() -> Self {
        let detail = "nothing more of the body arrived in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, "slow-body", "Request timeout", detail).with(Extra::Close)
    }

    /// It came up in the middle of a stream: what was read before that line is
    /// queued.
    pub(super) fn since_line(self, line: u64) -> Self {
        if line <= 1 {
            return self;
        }
        let detail = format!(
            "from line {line} on: {}. What is right in the lines before is queued; repeating them is safe",
            self.detail
        );
        // The rest of the stream is not read.
        Self { detail, ..self }.with(Extra::Close)
    }

    pub(super) fn cut_body() -> Self {
        Self::malformed("the body ended before it was complete").with(Extra::Close)
    }

    pub(super) fn unknown_host(host: &str) -> Self {
        let detail =
            format!("this server is not called `{host}`: call it by its address, or add the name to server.hosts");
        Self::new(StatusCode::FORBIDDEN, "unknown-host", "Unknown host", detail)
    }

    pub(super) fn cross_origin() -> Self {
        let detail = "a browser sent this for a page of another origin; such requests may change nothing here";
        Self::new(StatusCode::FORBIDDEN, "cross-origin", "Cross-origin request", detail)
    }

    pub(super) fn busy(detail: &str) -> Self {
        Self::try_later("busy", "Too busy", format!("{detail}; nothing was done, try again"))
    }

    pub(super) fn not_ready(not: &NotReady) -> Self {
        Self { reason: Some(not.reason), ..Self::try_later("not-ready", "Not ready", not.detail.as_str()) }
    }

    /// The host is ready, and these jobs of it are not.
    pub(super) fn jobs_not_ready(jobs: Vec<JobNotReady>) -> Self {
        let each = jobs.iter().map(|JobNotReady { job, why }| format!("{job}: {}: {}", why.reason.word(), why.detail));
        let detail = each.collect::<Vec<_>>().join("; ");
        Self { jobs, ..Self::try_later("jobs-not-ready", "Jobs cannot work", detail) }
    }

    fn cannot_serve(detail: String) -> Self {
        Self::new(StatusCode::CONFLICT, "cannot-serve", "It cannot serve", detail)
    }

    pub(super) fn stopping() -> Self {
        Self::try_later("stopping", "Shutting down", "the host is shutting down; nothing was done")
    }

    pub(super) fn too_slow(limit: Duration) -> Self {
        let detail = format!("no answer within {limit:?}; it may have been carried out, and is safe to repeat");
        Self::try_later("too-slow", "No answer in time", detail)
    }

    /// New tasks are refused while there is only room for finishing others.
    fn storage_full() -> Self {
        let detail = "the disk that holds the queue is full: nothing was stored; what is queued already is not lost, \
                      try again when there is room";
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "storage-full", "Insufficient storage", detail).with(Extra::Retry)
    }

    pub(super) fn internal() -> Self {
        let detail = "the host could not do this; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal server error", detail)
    }

    /// The answer of the one route whose failures are all the same plain text;
    /// the log has the words.
    pub(super) fn plain(error: HostError) -> Response {
        drop(Self::from(error));
        (StatusCode::INTERNAL_SERVER_ERROR, "Internal server error").into_response()
    }
}

impl From<HostError> for Problem {
    fn from(error: HostError) -> Self {
        match error {
            HostError::UnknownJob { .. } => {
                Self::new(StatusCode::NOT_FOUND, "unknown-job", "Unknown job", error.to_string())
            }
            HostError::UnknownTask(_) => {
                Self::new(StatusCode::NOT_FOUND, "unknown-task", "Unknown task", error.to_string())
            }
            HostError::UnknownHold(_) => {
                Self::new(StatusCode::NOT_FOUND, "unknown-hold", "Unknown hold", error.to_string())
            }
            HostError::UnknownMount { .. } => {
                Self::new(StatusCode::NOT_FOUND, "unknown-mount", "Unknown mount", error.to_string())
            }
            HostError::Mount(_) => {
                Self::new(StatusCode::CONFLICT, "mount", "The mount cannot be used", error.to_string())
            }
            HostError::NoHold(_) => Self::invalid_field("pattern", error.to_string()),
            HostError::Paused { .. } => Self::new(StatusCode::CONFLICT, "paused", "Job is paused", error.to_string()),
            HostError::Elsewhere { .. } => {
                Self::new(StatusCode::CONFLICT, "elsewhere", "Job runs on other nodes", error.to_string())
            }
            HostError::NoPlugin { .. } => Self::new(StatusCode::CONFLICT, "no-plugin", "No plugin", error.to_string()),
            HostError::Steer(error) => Self::from(error),
            HostError::CannotServe { .. } => Self::cannot_serve(error.to_string()),
            HostError::Stopping => Self::stopping(),
            HostError::Store(error) => Self::from(error),
        }
    }
}

impl From<SteerError> for Problem {
    fn from(error: SteerError) -> Self {
        match error {
            SteerError::Refused(Refused::Unknown(_)) => {
                Self::new(StatusCode::NOT_FOUND, "unknown-component", "Unknown component", error.to_string())
            }
            SteerError::Refused(_) => Self::cannot_serve(error.to_string()),
            SteerError::Unreadable { digest, .. } => {
                tracing::error!("{error}");
                let detail = format!(
                    "the kept copy of {} is missing or damaged, the log says why: put its file in place as the \
                     plugin to mend it, or name another component",
                    digest.short()
                );
                Self::cannot_serve(detail)
            }
            SteerError::State(_) => {
                tracing::error!("{error}");
                Self::internal()
            }
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store failed a request");
        match error {
            StoreError::Unavailable(_) | StoreError::Busy(_) => {
                let detail = "the queue cannot be used now; nothing was stored, try again";
                Self::try_later("store-unavailable", "Queue unavailable", detail)
            }
            StoreError::Full(_) => Self::storage_full(),
            StoreError::Unknown(_) => {
                let detail = "the queue did not confirm: this may be stored, and is safe to repeat";
                Self::try_later("unconfirmed", "Not confirmed", detail)
            }
            StoreError::Rejected(_) | StoreError::Incompatible(_) => Self::internal(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            r#type: format!("urn:problem-type:sweepd:{}", self.kind),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            errors: &self.errors,
            reason: self.reason,
            jobs: &self.jobs,
        };
        let body = super::json::text(&document).unwrap_or_default();
        let content_type = HeaderValue::from_static("application/problem+json");
        let mut response = (self.status, [(CONTENT_TYPE, content_type)], body).into_response();
        let (name, value) = match self.extra {
            Extra::None => return response,
            Extra::Retry => (RETRY_AFTER, "1"),
            Extra::Close => (CONNECTION, "close"),
            Extra::AllowLegacy => (ALLOW, "GET, POST, DELETE"),
        };
        response.headers_mut().insert(name, HeaderValue::from_static(value));
        response
    }
}

pub(super) async fn no_such_route(uri: Uri) -> Problem {
    let detail = format!("there is nothing at {}", uri.path());
    Problem::new(StatusCode::NOT_FOUND, "no-such-route", "No such route", detail)
}

pub(super) async fn method_not_allowed(method: Method) -> Problem {
    Problem::method(&method)
}
