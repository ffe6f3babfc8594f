//! `sweepd enqueue`: tasks by hand or from a stream, straight into the queue,
//! whether or not a host is running.

use std::io::{self, BufRead, BufReader, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::config::Config;
use crate::domain::job::JobId;
use crate::domain::task::{Enqueued, Key, NewTask, Payload, Priority};
use crate::domain::time::Timestamp;
use crate::http::instant;
use crate::store::{At, SharedStore, StoreError};

use super::error::CliError;
use super::lines::{self, Line};
use super::store;

/// Most tasks, and most bytes, that are queued at a time.
const CHUNK: usize = 1000;
const CHUNK_BYTES: usize = 1 << 20;

/// How often a chunk is tried, and the pause before the second time.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(200);

/// What to queue.
#[derive(Debug, Args)]
#[command(after_long_help = "\
A key that is queued already is not queued twice. A key that is wrong is told
with its line; the others are queued, and the exit code is 1. A running host
finds the tasks at its next sweep.

Examples:
  sweepd enqueue video-clear holiday.mp4
  sweepd enqueue video-clear --run-at 2026-12-31T23:00:00Z --priority low -- -odd-name.mp4
  sweepd enqueue video-clear - < ids.txt
  find old/ -mindepth 1 -maxdepth 1 -printf '%f\\0' | sweepd enqueue --null video-clear -")]
pub(super) struct EnqueueArgs {
    /// The job, as the configuration names it
    job: String,

    /// What the tasks are about: for video-clear, ids of videos; - reads keys from standard input
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,

    /// Text for the plugin, the same with every task
    #[arg(long, value_name = "TEXT", value_parser = |text: &str| Payload::new(text))]
    payload: Option<Payload>,

    /// Not before this time: RFC 3339, or milliseconds since 1970
    #[arg(long, value_name = "TIME", value_parser = instant::parse)]
    run_at: Option<Timestamp>,

    /// Which goes first: urgent, high, normal, low
    #[arg(long, default_value = "normal", hide_default_value = true, value_parser = priority)]
    priority: Priority,

    /// Keys on standard input end with NUL instead of a line end
    #[arg(long, short = '0')]
    null: bool,
}

fn priority(text: &str) -> Result<Priority, String> {
    let wanted = serde_json::Value::String(text.to_owned());
    serde_json::from_value(wanted).map_err(|_| "use urgent, high, normal or low".to_owned())
}

/// Queues what the arguments and standard input name.
pub(super) async fn enqueue(config: Config, args: EnqueueArgs) -> Result<ExitCode, CliError> {
    let names = config.jobs.iter().map(|job| job.name.as_str());
    let job = config.jobs.iter().find(|job| job.name.as_str() == args.job);
    let Some(job) = job else { return Err(CliError::unknown_job(&args.job, names)) };

    let store = store::open(&config)?;
    let id = store.register_job(&job.name).await?.id;
    let mut queue = Queue::new(Arc::clone(&store), id, &args);
    let fed = feed(&mut queue, &args).await;
    queue.bar.finish_and_clear();
    store.close().await;
    let Counts { new, pending, successors, bad } = queue.counts;
    let mut out = io::stdout().lock();
    let told = writeln!(
        out,
        "{}: {new} new, {pending} already pending, {successors} to follow a running one{}",
        job.name,
        if bad == 0 { String::new() } else { format!(", {bad} wrong") }
    );
    fed?;
    told?;
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn feed(queue: &mut Queue, args: &EnqueueArgs) -> Result<(), CliError> {
    for key in &args.keys {
        if key == "-" {
            let end = if args.null { 0 } else { b'\n' };
            let input = queue.bar.wrap_read(io::stdin().lock());
            stream(queue, &mut BufReader::with_capacity(1 << 16, input), end).await?;
            continue;
        }
        match Key::new(key) {
            Ok(key) => queue.push(key).await?,
            Err(error) => queue.wrong(&format!("`{}`: {error}", key.escape_debug())),
        }
    }
    queue.flush().await
}

async fn stream(queue: &mut Queue, input: &mut impl BufRead, end: u8) -> Result<(), CliError> {
    let mut number: u64 = 0;
    let failed = |error| CliError::Stream("reading standard input", error);
    while let Some(line) = lines::next(input, end).map_err(failed)? {
        number += 1;
        match line {
            Line::Key(key) => queue.push(key).await?,
            Line::Empty => {}
            Line::Bad(why) => queue.wrong(&format!("line {number}: {why}")),
        }
    }
    Ok(())
}

/// What became of the keys.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    new: u64,
    pending: u64,
    successors: u64,
    bad: u64,
}

/// Keys on their way into the queue: at most one chunk is held, so the memory
/// does not grow with the input.
struct Queue {
    store: SharedStore,
    job: JobId,
    template: NewTask,
    chunk: Vec<NewTask>,
    bytes: usize,
    counts: Counts,
    bar: ProgressBar,
}

impl Queue {
    fn new(store: SharedStore, job: JobId, args: &EnqueueArgs) -> Self {
        let key = Key::new("-").expect("one byte is a key");
        let template = NewTask { payload: args.payload.clone(), run_at: args.run_at, priority: args.priority, key };
        let bar = if args.keys.iter().any(|key| key == "-") { progress() } else { ProgressBar::hidden() };
        Self { store, job, template, chunk: Vec::new(), bytes: 0, counts: Counts::default(), bar }
    }

    async fn push(&mut self, key: Key) -> Result<(), CliError> {
        let task = NewTask { key, ..self.template.clone() };
        self.bytes += task.key.as_str().len() + task.payload.as_ref().map_or(0, |payload| payload.as_str().len());
        self.chunk.push(task);
        if self.chunk.len() >= CHUNK || self.bytes >= CHUNK_BYTES { self.flush().await } else { Ok(()) }
    }

    fn wrong(&mut self, what: &str) {
        self.counts.bad += 1;
        self.bar.suspend(|| {
            // Where standard error is closed, the exit code still tells.
            let _ = writeln!(io::stderr(), "{what}");
        });
    }

    async fn flush(&mut self) -> Result<(), CliError> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.chunk);
        self.bytes = 0;
        for enqueued in patiently(&*self.store, self.job, chunk).await? {
            *match enqueued {
                Enqueued::New(_) => &mut self.counts.new,
                Enqueued::Pending(_) => &mut self.counts.pending,
                Enqueued::Successor(_) => &mut self.counts.successors,
            } += 1;
        }
        let Counts { new, pending, successors, .. } = self.counts;
        self.bar.set_message(format!("{} keys", new + pending + successors));
        Ok(())
    }
}

/// Queues a chunk, again where the store says that it may succeed later.
async fn patiently(
    store: &dyn crate::store::Store,
    job: JobId,
    chunk: Vec<NewTask>,
) -> Result<Vec<Enqueued>, StoreError> {
    let mut pause = PAUSE;
    for _ in 1..TRIES {
        match store.enqueue(job, chunk.clone(), At::Server).await {
            Err(StoreError::Unavailable(why) | StoreError::Unknown(why)) => {
                tracing::warn!(why, "trying again");
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            answer => return answer,
        }
    }
    store.enqueue(job, chunk, At::Server).await
}

/// A bar where standard input is a file, whose end is known; else a count.
fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let length = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .and_then(|input| std::fs::File::from(input).metadata())
        .ok()
        .filter(std::fs::Metadata::is_file)
        .map(|file| file.len());
    let (bar, style) = match length {
        Some(length) => (ProgressBar::new(length), "{bar:32} {percent}%  {msg}  {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}  {elapsed}"),
    };
    bar.with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(keys: &[&str]) -> EnqueueArgs {
        EnqueueArgs {
            job: "videos".to_owned(),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            payload: None,
            run_at: None,
            priority: Priority::Normal,
            null: false,
        }
    }

    fn config(folder: &std::path::Path) -> Config {
        let file = folder.join("sweepd.toml");
        std::fs::write(&file, "[[job]]\nname = \"videos\"\nplugin = \"videos.wasm\"\n").expect("written");
        Config::load(&file, std::iter::empty()).expect("a right configuration")
    }

    #[tokio::test]
    async fn what_is_right_is_queued_and_what_is_wrong_is_told() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = config(folder.path());
        let code = enqueue(config.clone(), args(&["a", "", "b", "a"])).await.expect("queued");
        assert_eq!(code, ExitCode::FAILURE);
        assert_eq!(enqueue(config.clone(), args(&["a"])).await.expect("queued"), ExitCode::SUCCESS);
        let store = store::open(&config).expect("a store");
        let id = store.register_job(&config.jobs[0].name).await.expect("a job").id;
        assert_eq!(store.backlog(id, At::Server).await.expect("a backlog").pending, 2);
        let unknown = EnqueueArgs { job: "video".to_owned(), ..args(&["a"]) };
        assert!(matches!(enqueue(config, unknown).await, Err(CliError::UnknownJob { .. })));
    }

    #[tokio::test]
    async fn a_stream_is_queued_in_chunks() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = config(folder.path());
        let store = store::open(&config).expect("a store");
        let id = store.register_job(&config.jobs[0].name).await.expect("a job").id;
        let mut queue = Queue::new(Arc::clone(&store), id, &args(&["x"]));
        let input = (0..2500).fold(String::new(), |text, number| text + "key-" + &number.to_string() + "\n\n");
        stream(&mut queue, &mut input.as_bytes(), b'\n').await.expect("read");
        assert_eq!((queue.counts.new, queue.chunk.len()), (2000, 500));
        stream(&mut queue, &mut &b"key-0\n\xff\nkey-9"[..], b'\n').await.expect("read");
        queue.flush().await.expect("queued");
        assert_eq!(queue.counts, Counts { new: 2500, pending: 2, successors: 0, bad: 1 });
    }
}
