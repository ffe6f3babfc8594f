//! Queueing a stream of tasks, one JSON object a line: in constant memory, and
//! for as long as it lasts.
//!
//! A stream is queued chunk by chunk while it arrives, so it is not all or
//! none: what its answer says of a line holds for that line alone. Nothing that
//! was read waits longer than [`LINGER`] for what comes after it.

use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Request};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use tokio::time::{Instant, timeout, timeout_at};

use crate::domain::chunk::Chunk;
use crate::domain::task::{Enqueued, NewTask};

use super::error::{FieldError, Problem};
use super::json::Json;
use super::ndjson::{self, Line, Lines};
use super::{App, HostApi, body};

/// How long a chunk that is not full waits for more of the stream.
const LINGER: Duration = Duration::from_millis(250);

/// Most wrong lines that an answer names; it counts all of them.
const MAX_ERRORS: usize = 100;

/// What one stream holds in memory: a chunk, the line that is being read, and
/// what arrived with it.
const HELD: usize = Chunk::BYTES + 2 * ndjson::LONGEST;

/// What became of a stream.
#[derive(Debug, Default, Serialize)]
struct Summary {
    /// Lines that were not empty.
    lines: u64,
    /// Those of them that are queued.
    queued: u64,
    /// Of these: as new tasks,
    new: u64,
    /// by a task that was pending,
    pending: u64,
    /// to follow one that was running.
    successors: u64,
    /// Lines that are no task.
    wrong: u64,
    /// The first of those.
    errors: Vec<WrongLine>,
}

/// What is wrong with a line.
#[derive(Debug, Serialize)]
struct WrongLine {
    line: u64,
    detail: String,
}

/// Whether a request is a stream of tasks: it may take as long as it likes, and
/// bounds its own steps.
pub(super) fn is_stream(request: &Request<Body>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    let path = request.uri().path();
    request.method() == Method::POST
        && path.starts_with("/v1/jobs/")
        && path.ends_with("/tasks")
        && essence.eq_ignore_ascii_case("application/x-ndjson")
}

/// `POST /v1/jobs/{job}/tasks` with a stream: 200 and what became of the lines,
/// 400 where every one is wrong. An error says from which line on it holds.
pub(super) async fn enqueue<H: HostApi>(app: &App<H>, job: &str, body: Body) -> Result<Response, Problem> {
    let all = body::BODIES * body::permits(app.options.max_body);
    let permits = u32::try_from(body::permits(HELD).min(all)).unwrap_or(u32::MAX);
    let Ok(_permit) = app.bodies.try_acquire_many(permits) else {
        return Err(Problem::busy("the bodies under way take all the memory that they may"));
    };
    let mut stream = Stream {
        app,
        job,
        chunk: Chunk::default(),
        began: Instant::now(),
        summary: Summary::default(),
        last: 0,
        stored: 0,
    };
    // A job that is not there is told before anything is read.
    stream.queue(Vec::new(), 0).await?;
    match stream.read(body).await {
        Ok(()) => stream.summary.answer(),
        Err(problem) => Err(problem.since_line(stream.stored + 1)),
    }
}

/// A stream under way.
struct Stream<'a, H> {
    app: &'a App<H>,
    job: &'a str,
    chunk: Chunk,
    /// When something first waited in the chunk.
    began: Instant,
    summary: Summary,
    /// The last line that was read.
    last: u64,
    /// The last line before which nothing waits to be queued.
    stored: u64,
}

impl<H: HostApi> Stream<'_, H> {
    async fn read(&mut self, mut body: Body) -> Result<(), Problem> {
        let mut lines = Lines::default();
        loop {
            let waits = !self.chunk.is_empty();
            let until = if waits { self.began + LINGER } else { Instant::now() + self.app.options.patience() };
            let bytes = match timeout_at(until, next(&mut body)).await {
                Ok(Some(bytes)) => bytes?,
                Ok(None) => break,
                Err(_) if waits => {
                    self.flush().await?;
                    continue;
                }
                Err(_) => return Err(Problem::slow_stream()),
            };
            if !waits {
                self.began = Instant::now();
            }
            let mut rest = &bytes[..];
            while let Some(line) = lines.next(&mut rest) {
                self.take(line).await?;
            }
        }
        if let Some(line) = lines.end() {
            self.take(line).await?;
        }
        self.flush().await
    }

    async fn take(&mut self, line: Line) -> Result<(), Problem> {
        self.summary.lines += 1;
        let before = std::mem::replace(&mut self.last, line.number);
        match line.task {
            Ok(task) => {
                if let Some(tasks) = self.chunk.push(task) {
                    let stored = if self.chunk.is_empty() { line.number } else { before };
                    self.queue(tasks, stored).await?;
                }
            }
            Err(detail) => {
                self.summary.wrong += 1;
                if self.summary.errors.len() < MAX_ERRORS {
                    self.summary.errors.push(WrongLine { line: line.number, detail });
                }
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Problem> {
        let tasks = self.chunk.take();
        if tasks.is_empty() { Ok(()) } else { self.queue(tasks, self.last).await }
    }

    /// Queues a chunk; all lines up to `stored` are done with then.
    async fn queue(&mut self, tasks: Vec<NewTask>, stored: u64) -> Result<(), Problem> {
        let limit = self.app.options.request_timeout;
        let queued = timeout(limit, self.app.host.enqueue(self.job, tasks));
        for enqueued in queued.await.map_err(|_| Problem::too_slow(limit))?? {
            *match enqueued {
                Enqueued::New(_) => &mut self.summary.new,
                Enqueued::Pending(_) => &mut self.summary.pending,
                Enqueued::Successor(_) => &mut self.summary.successors,
            } += 1;
            self.summary.queued += 1;
        }
        self.stored = stored;
        self.began = Instant::now();
        Ok(())
    }
}

impl Summary {
    fn answer(self) -> Result<Response, Problem> {
        if self.queued > 0 || self.wrong == 0 {
            return Ok(Json(self).into_response());
        }
        let errors = self.errors.into_iter().map(|wrong| FieldError::of_line(wrong.line, wrong.detail)).collect();
        Err(Problem::no_task(self.wrong, errors))
    }
}

/// The next bytes of the stream; `None` at its end. Cancel safe.
async fn next(body: &mut Body) -> Option<Result<Bytes, Problem>> {
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
        match frame {
            // What is no data is trailers, which say nothing here.
            Ok(frame) => {
                if let Ok(bytes) = frame.into_data() {
                    return Some(Ok(bytes));
                }
            }
            Err(_) => return Some(Err(Problem::cut_body())),
        }
    }
}
