//! What a guest prints: whole lines into the log, with job, task and
//! generation; cut at a limit, never an error.
//!
//! Output belongs to the call that runs when it is written. A partial line is
//! flushed when the call ends. The last that a call wrote to standard error is
//! kept until the next one begins: it says what the call died of.

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

/// How much of the end of standard error is kept, in bytes, and how much of that
/// is told.
const TAIL: usize = 4 * LAST_WORDS;
const LAST_WORDS: usize = 500;

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
    /// The end of what the call wrote to standard error, whether or not it was
    /// within the limits.
    tail: Vec<u8>,
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
            tail: Vec::new(),
        })))
    }

    /// A call begins, for this task.
    pub(super) fn begin(&self, task: Option<TaskId>) {
        let mut streams = self.streams();
        streams.task = task;
        streams.left = streams.limit;
        streams.tail.clear();
    }

    /// The last lines that the call wrote to standard error, as one: at most
    /// [`LAST_WORDS`] bytes. `None` where there are none.
    pub(super) fn last_words(&self) -> Option<String> {
        last_words(&self.streams().tail)
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
        if let Stream::Stderr = stream {
            self.keep_end(bytes);
        }
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

    fn keep_end(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL)..]);
        if self.tail.len() > 2 * TAIL {
            self.tail.drain(..self.tail.len() - TAIL);
        }
    }

    fn log(&self, stream: Stream, line: &[u8]) {
        tracing::info!(
            target: "sweepd::guest", job = self.job, task = self.task.map(|task| task.0),
            generation = self.generation, stream = stream.name(),
            "{}", String::from_utf8_lossy(line).trim_end_matches('\r'),
        );
    }
}

/// The last lines of `tail` that fit, or the end of the last one. What a runtime
/// says of itself is left out.
fn last_words(tail: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(tail);
    let mut words = String::new();
    for line in text.lines().rev().map(str::trim).filter(|line| !line.is_empty() && !is_advice(line)) {
        let joint = match (words.is_empty(), line.ends_with(':')) {
            (true, _) => "",
            (false, true) => " ",
            (false, false) => " | ",
        };
        if line.len() + joint.len() + words.len() > LAST_WORDS {
            if words.is_empty() {
                line[line.ceil_char_boundary(line.len() - LAST_WORDS)..].clone_into(&mut words);
            }
            break;
        }
        words = format!("{line}{joint}{words}");
    }
    Some(words).filter(|words| !words.is_empty())
}

/// Rust's advice to set a variable, which no plugin has.
fn is_advice(line: &str) -> bool {
    line.starts_with("note: run with `RUST_BACKTRACE=")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_the_last_lines_that_fit() {
        let told = |text: &str| last_words(text.as_bytes());
        assert_eq!(told(""), None);
        assert_eq!(told("\n \r\n"), None);
        assert_eq!(
            told("\nthread 'main' panicked at src/lib.rs:9:5:\nno such luck\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n").as_deref(),
            Some("thread 'main' panicked at src/lib.rs:9:5: no such luck")
        );
        assert_eq!(
            told("Traceback (most recent call last):\r\n  File \"a.py\", line 3\n    f()\nValueError: no").as_deref(),
            Some("Traceback (most recent call last): File \"a.py\", line 3 | f() | ValueError: no")
        );
        let long = format!("{}\nfirst\n{}", "x".repeat(600), "y".repeat(490));
        assert_eq!(told(&long).map(|words| words.len()), Some(5 + 3 + 490));
        assert_eq!(told(&"影".repeat(600)), Some("影".repeat(166)));
    }

    #[test]
    fn the_end_of_a_flood_is_kept_in_little_memory() {
        let capture = Capture(Arc::new(Mutex::new(Streams {
            job: "flood".to_owned(),
            generation: 1,
            task: None,
            limit: 10,
            left: 10,
            rate: OutputRate::of("flood", 10),
            cut: 0,
            partial: [Vec::new(), Vec::new()],
            tail: Vec::new(),
        })));
        capture.begin(None);
        for number in 0..10_000 {
            capture.streams().write(Stream::Stderr, format!("line {number}\n").as_bytes());
            capture.streams().write(Stream::Stdout, b"not this\n");
        }
        let words = capture.last_words().expect("the last lines");
        assert!(words.ends_with("line 9998 | line 9999") && words.len() <= LAST_WORDS, "{words}");
        assert!(capture.streams().tail.capacity() < 32 * 1024);
        capture.begin(None);
        assert_eq!(capture.last_words(), None);
    }
}
