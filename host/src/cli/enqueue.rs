//! `sweepd enqueue`: tasks by hand or from a stream, straight into the queue,
//! whether or not a host is running.

use std::io::{self, BufRead, BufReader};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use indicatif::ProgressBar;

use crate::config::Config;
use crate::domain::task::{Key, NewTask, Payload, Priority};
use crate::domain::time::Timestamp;
use crate::http::{instant, ndjson};

use super::error::CliError;
use super::lines::{self, Line};
use super::queue::Queue;
use super::{progress, screen, store};

/// What to queue.
#[derive(Debug, Args)]
#[command(after_long_help = "\
A key that is queued already is not queued twice. A key that is wrong is told
with its line; the others are queued, and the exit code is 1. A running host
is woken.

Examples:
  sweepd enqueue video-clear holiday.mp4
  sweepd enqueue video-clear --run-at 2026-12-31T23:00:00Z --priority low -- -odd-name.mp4
  sweepd enqueue video-clear - < ids.txt
  jq -c '{key: .id}' videos.json | sweepd enqueue --ndjson video-clear -
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

    /// Standard input has tasks as JSON, one a line: `{"key": …, "payload": …, "run_at": …, "priority": …}`
    #[arg(long, conflicts_with_all = ["null", "payload", "run_at", "priority"])]
    ndjson: bool,
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
    if args.ndjson && args.keys != ["-"] {
        // A file's name given here would become a key, and its video removed.
        let what = "with --ndjson the tasks come from standard input: sweepd enqueue --ndjson JOB - < FILE";
        return Err(CliError::Usage(what.to_owned()));
    }

    let store = store::open(&config).await?;
    let id = store.register_job(&job.name).await?.id;
    let streams = args.keys.iter().any(|key| key == "-");
    let bar = if streams { progress::of_input() } else { ProgressBar::hidden() };
    let mut queue = Queue::new(Arc::clone(&store), id, bar);
    let fed = feed(&mut queue, &args).await;
    queue.bar.finish_and_clear();
    store.close().await;
    let told = screen::print(&format!("{}: {}", job.name, queue.counts));
    fed?;
    told?;
    Ok(if queue.counts.bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn feed(queue: &mut Queue, args: &EnqueueArgs) -> Result<(), CliError> {
    let task = |key| NewTask { key, payload: args.payload.clone(), run_at: args.run_at, priority: args.priority };
    for key in &args.keys {
        if key == "-" {
            let input = queue.bar.wrap_read(io::stdin().lock());
            let mut input = BufReader::with_capacity(1 << 16, input);
            if args.ndjson {
                tasks(queue, &mut input).await?;
            } else {
                let end = if args.null { 0 } else { b'\n' };
                keys(queue, &mut input, end, task).await?;
            }
            continue;
        }
        match Key::new(key) {
            Ok(key) => queue.push(task(key)).await?,
            Err(error) => queue.wrong(&format!("`{key}`: {error}")),
        }
    }
    Ok(queue.flush().await?)
}

/// Keys, one a line.
async fn keys(
    queue: &mut Queue,
    input: &mut impl BufRead,
    end: u8,
    task: impl Fn(Key) -> NewTask,
) -> Result<(), CliError> {
    let mut number: u64 = 0;
    while let Some(line) = lines::next(input, end).map_err(unreadable)? {
        number += 1;
        match line {
            Line::Key(key) => queue.push(task(key)).await?,
            Line::Empty => {}
            Line::Bad(why) => queue.wrong(&format!("line {number}: {why}")),
        }
    }
    Ok(())
}

/// Tasks as JSON, one a line.
async fn tasks(queue: &mut Queue, input: &mut impl BufRead) -> Result<(), CliError> {
    let mut lines = ndjson::Lines::default();
    loop {
        let read = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(unreadable)?,
        };
        let length = read.len();
        let mut rest = read;
        while let Some(line) = lines.next(&mut rest) {
            take(queue, line).await?;
        }
        if length == 0 {
            break;
        }
        input.consume(length);
    }
    match lines.end() {
        Some(line) => take(queue, line).await,
        None => Ok(()),
    }
}

async fn take(queue: &mut Queue, line: ndjson::Line) -> Result<(), CliError> {
    match line.task {
        Ok(task) => queue.push(task).await?,
        Err(why) => queue.wrong(&format!("line {}: {why}", line.number)),
    }
    Ok(())
}

fn unreadable(error: io::Error) -> CliError {
    CliError::Stream("reading standard input", error)
}

#[cfg(test)]
mod tests {
    use super::super::queue::Counts;
    use super::*;
    use crate::store::At;

    fn args(keys: &[&str]) -> EnqueueArgs {
        EnqueueArgs {
            job: "videos".to_owned(),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            payload: None,
            run_at: None,
            priority: Priority::Normal,
            null: false,
            ndjson: false,
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
        let store = store::open(&config).await.expect("a store");
        let id = store.register_job(&config.jobs[0].name).await.expect("a job").id;
        assert_eq!(store.backlog(id, At::Server).await.expect("a backlog").pending, 2);
        let unknown = EnqueueArgs { job: "video".to_owned(), ..args(&["a"]) };
        assert!(matches!(enqueue(config, unknown).await, Err(CliError::UnknownJob { .. })));
    }

    #[tokio::test]
    async fn a_stream_is_queued_in_chunks() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = config(folder.path());
        let store = store::open(&config).await.expect("a store");
        let id = store.register_job(&config.jobs[0].name).await.expect("a job").id;
        let mut queue = Queue::new(Arc::clone(&store), id, ProgressBar::hidden());
        let input = (0..2500).fold(String::new(), |text, number| text + "key-" + &number.to_string() + "\n\n");
        keys(&mut queue, &mut input.as_bytes(), b'\n', NewTask::now).await.expect("read");
        assert_eq!(queue.counts.new, 2000);
        keys(&mut queue, &mut &b"key-0\n\xff\nkey-9"[..], b'\n', NewTask::now).await.expect("read");
        let input = b"{\"key\":\"key-1\"}\n{}\n\n{\"key\":\"json\",\"priority\":\"low\"}";
        tasks(&mut queue, &mut BufReader::with_capacity(5, &input[..])).await.expect("read");
        queue.flush().await.expect("queued");
        assert_eq!(queue.counts, Counts { new: 2501, pending: 3, successors: 0, bad: 2 });
    }

    #[tokio::test]
    async fn a_file_is_not_taken_for_a_key() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ndjson = EnqueueArgs { ndjson: true, ..args(&["videos.ndjson"]) };
        assert!(matches!(enqueue(config(folder.path()), ndjson).await, Err(CliError::Usage(_))));
    }
}
