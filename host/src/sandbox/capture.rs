//! What a guest prints: whole lines into the log, with job, task and
//! generation; cut at a limit, never an error.
//!
//! Output belongs to the call that runs when it is written. A partial line is
//! flushed when the call ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::domain::job::Limits;
use crate::domain::task::TaskId;

use super::output_rate::OutputRate;

/// Longest line that is kept together, in bytes.
const MAX_LINE: usize = 8 * 1024;

/// What a line costs of the limit beside its bytes: time, job, task.
const RECORD: u64 = 128;

/// Both streams of one instance.
#[derive(Clone, Debug)]
pub(super) struct Capture(Arc<Mutex<Streams>>);

#[derive(Debug)]
struct Streams {
    job: String,
    generation: u64,
    task: Option<TaskId>,
    limit: u64,
    left: u64,
    rate: Arc<OutputRate>,
    cut: u64,
    partial: [Vec<u8>; 2],
}

/// Which of the two a line came by.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl Capture {
    pub(super) fn new(job: String, generation: u64, limits: &Limits) -> Self {
        Self(Arc::new(Mutex::new(Streams {
            rate: OutputRate::of(&job, limits.output_rate),
            job,
            generation,
            task: None,
            limit: limits.output,
            left: limits.output,
            cut: 0,
            partial: [Vec::new(), Vec::new()],
        })))
    }

    /// A call begins, for this task.
    pub(super) fn begin(&self, task: Option<TaskId>) {
        let mut streams = self.streams();
        streams.task = task;
        streams.left = streams.limit;
    }

    /// The call has ended: partial lines and what was cut are logged.
    pub(super) fn end(&self) {
        let mut streams = self.streams();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(&mut streams.partial[stream as usize]);
            if !rest.is_empty() {
                streams.log(stream, &rest);
            }
        }
        let cut = std::mem::take(&mut streams.cut);
        if cut > 0 {
            tracing::warn!(
                target: "sweepd::guest", job = streams.job, task = streams.task.map(|task| task.0),
                generation = streams.generation,
                "output cut: {cut} bytes over the limits of {} a call (job.limits.output) and {} a second (job.limits.output_rate)",
                streams.limit, streams.rate.rate(),
            );
        }
    }

    /// One of the two streams, for a guest.
    pub(super) fn stream(&self, stream: Stream) -> CaptureStream {
        CaptureStream { capture: self.clone(), stream }
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Streams {
    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let now = Instant::now();
        let kept = self.rate.take(self.left.min(bytes.len() as u64), now);
        self.left -= kept;
        self.cut += bytes.len() as u64 - kept;
        let mut rest = &bytes[..usize::try_from(kept).unwrap_or(bytes.len())];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let mut line = std::mem::take(&mut self.partial[stream as usize]);
            line.extend_from_slice(&rest[..end]);
            self.log(stream, &line);
            // An empty line is a record in the log all the same.
            self.left = self.left.saturating_sub(RECORD);
            self.rate.take(RECORD, now);
            rest = &rest[end + 1..];
            if self.left == 0 {
                self.cut += rest.len() as u64;
                return;
            }
        }
        let partial = &mut self.partial[stream as usize];
        partial.extend_from_slice(rest);
        if partial.len() > MAX_LINE {
            let line = std::mem::take(partial);
            self.log(stream, &line);
        }
    }

    fn log(&self, stream: Stream, line: &[u8]) {
        tracing::info!(
            target: "sweepd::guest", job = self.job, task = self.task.map(|task| task.0),
            generation = self.generation, stream = stream.name(),
            "{}", printable(line),
        );
    }
}

/// The line without what could steer a terminal.
fn printable(line: &[u8]) -> String {
    String::from_utf8_lossy(line)
        .trim_end_matches('\r')
        .chars()
        .map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c })
        .collect()
}

/// A stream as WASI wants it.
pub(super) struct CaptureStream {
    capture: Capture,
    stream: Stream,
}

impl IsTerminal for CaptureStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for CaptureStream {
    // Only WASI 0.3 asks for it, which is not linked.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.capture.stream(self.stream))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for CaptureStream {
    async fn ready(&mut self) {}
}

impl OutputStream for CaptureStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.capture.streams().write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 * 1024)
    }
}
