//! Where the log goes and how it looks.
//!
//! The log never fails and never blocks whoever logs: a line is handed to a
//! thread ([`lines`]), which writes it to standard error when that takes it. So
//! is whatever else a host writes on its way. Nothing of the host writes to
//! standard error or standard output by itself while it runs.
//!
//! An event, and whatever a command says, is one line, in which all that could
//! steer a terminal is escaped ([`people`], [`say`]); JSON is escaped where an
//! event is handed over ([`Event`]).

use std::backtrace::{Backtrace, BacktraceStatus};
use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Stderr, Write as _};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::error::CliError;
use super::screen::Screen;
use crate::domain::printable::{printable, printable_json};
use crate::domain::time::Clock;
use crate::supervise;
use lines::Lines;

mod lines;
mod people;

/// How long the end of a process waits for its last lines.
const AT_THE_END: Duration = Duration::from_secs(1);

/// How long a command waits for a slow reader before it goes on without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// How the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// Lines for people.
    Human,
    /// One object a line.
    Json,
}

/// Whether lines of the host's own are for people.
static HUMAN: AtomicBool = AtomicBool::new(true);
/// The thread for standard error was asked for.
static STARTED: AtomicBool = AtomicBool::new(false);

/// Sends the log to standard error, by this filter, and panics, too. Once a
/// process. Nothing is written before [`start`].
pub(super) fn init(filter: &str, format: Format) -> Result<(), CliError> {
    let parsed = EnvFilter::try_new(filter).map_err(|source| CliError::Log { filter: filter.to_owned(), source })?;
    let terminal = is_watched();
    let builder = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(ToErrors);
    let human = format == Format::Human || (format == Format::Auto && terminal);
    HUMAN.store(human, Ordering::SeqCst);
    if human {
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        builder.with_ansi(colours).event_format(people::ForPeople).init();
    } else {
        builder.json().flatten_event(true).init();
    }
    std::panic::set_hook(Box::new(|panic| errors().send(told(panic))));
    Ok(())
}

/// Starts the thread that writes the log: after the wall, which binds only
/// threads that are started behind it.
pub(super) fn start() {
    if STARTED.swap(true, Ordering::SeqCst) {
        return;
    }
    // Without it the lines are lost, and the work goes on.
    let _ = errors().start("sweepd-log", Box::new(|bytes| rustix::io::write(stderr(), bytes)));
}

/// Says something on standard error, on one line. Waits a little for a slow
/// reader, once; what a reader that stalls does not take is lost and counted.
pub(super) fn say(text: &str) {
    static STALLED: AtomicBool = AtomicBool::new(false);
    if !STALLED.load(Ordering::SeqCst) && !errors().wait_for_room(PATIENCE) {
        STALLED.store(true, Ordering::SeqCst);
    }
    errors().send(format!("{}\n", printable(text)).into_bytes());
}

/// Asks the person at the terminal, and leaves the line open for the answer.
pub(super) fn ask(question: &str) -> io::Result<()> {
    errors().flush(AT_THE_END);
    let mut asked = stderr().lock();
    write!(asked, "{} ", printable(question))?;
    asked.flush()
}

/// Whether somebody looks at standard error.
pub(super) fn is_watched() -> bool {
    stderr().is_terminal()
}

/// Prints what a host says on standard output when it is up.
pub(super) fn print(text: Screen<Vec<u8>>) {
    output().send(text.into_bytes());
}

#[allow(clippy::disallowed_methods, reason = "all that is written to it is escaped here")]
fn stderr() -> Stderr {
    io::stderr()
}

#[allow(clippy::disallowed_methods, reason = "only what a screen took is written to it")]
fn stdout() -> io::Stdout {
    io::stdout()
}

/// Waits a short time until all lines are written: the last thing of a process.
pub(super) fn end() {
    if !errors().is_idle() {
        // What failed before there was a thread is to be told as well.
        start();
        errors().flush(AT_THE_END);
    }
    if let Some(output) = OUTPUT.get() {
        output.flush(AT_THE_END);
    }
}

static OUTPUT: OnceLock<Lines> = OnceLock::new();

fn output() -> &'static Lines {
    OUTPUT.get_or_init(|| {
        let lines = Lines::new(|_, _| Vec::new(), |_| {});
        let _ = lines.start("sweepd-output", Box::new(|bytes| rustix::io::write(stdout(), bytes)));
        lines
    })
}

fn errors() -> &'static Lines {
    static ERRORS: OnceLock<Lines> = OnceLock::new();
    ERRORS.get_or_init(|| Lines::new(lost, |why| why.map_or_else(supervise::log_goes_on, supervise::log_lost)))
}

fn lost(lines: u64, why: &str) -> Vec<u8> {
    let message = format!("{lines} lines of the log were lost, for standard error did not take them: {why}");
    own_line("WARN", &message, &[("lost", json!(lines))])
}

/// A panic, on one line or several.
fn told(panic: &PanicHookInfo<'_>) -> Vec<u8> {
    let thread = std::thread::current();
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let place = panic.location().map_or_else(String::new, |place| format!(" at {place}"));
    let name = thread.name().unwrap_or("?");
    let message = format!("thread `{name}` panicked{place}: {}", text.unwrap_or("?"));
    let trace = Backtrace::capture();
    let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
    match trace {
        None => own_line("ERROR", &message, &[]),
        // The names of the program's own functions, one a line, each indented.
        Some(trace) if HUMAN.load(Ordering::SeqCst) => {
            let frames = trace.lines().flat_map(|frame| format!("  {}\n", printable(frame)).into_bytes());
            own_line("ERROR", &message, &[]).into_iter().chain(frames).collect()
        }
        Some(trace) => own_line("ERROR", &message, &[("backtrace", json!(trace))]),
    }
}

/// A line of the log that does not come by way of `tracing`.
fn own_line(level: &str, message: &str, more: &[(&str, Value)]) -> Vec<u8> {
    let at = Clock::system().now();
    let text = if HUMAN.load(Ordering::SeqCst) {
        format!("{at} {level:>5} {}", printable(message))
    } else {
        let mut line =
            json!({ "timestamp": at.to_string(), "level": level, "message": message, "target": "sweepd::log" });
        for (name, value) in more {
            line[*name] = value.clone();
        }
        printable_json(&line.to_string()).into_owned()
    };
    format!("{text}\n").into_bytes()
}

fn escaped_json(line: Vec<u8>) -> Vec<u8> {
    let escaped = match std::str::from_utf8(&line).map(printable_json) {
        Ok(Cow::Owned(escaped)) => Some(escaped.into_bytes()),
        Ok(Cow::Borrowed(_)) | Err(_) => None,
    };
    escaped.unwrap_or(line)
}

/// Gives `tracing` a writer for each event.
struct ToErrors;

impl<'a> MakeWriter<'a> for ToErrors {
    type Writer = Event;

    fn make_writer(&'a self) -> Event {
        Event(Vec::new())
    }
}

/// One event on its way: it is one line, however it is written.
struct Event(Vec<u8>);

impl io::Write for Event {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.0.is_empty() {
            return;
        }
        let line = std::mem::take(&mut self.0);
        // What is for people has the formatter's own colours in it, and was escaped before.
        errors().send(if HUMAN.load(Ordering::SeqCst) { line } else { escaped_json(line) });
    }
}
