//! `sweepd import-legacy`: the rows of the replaced service's table as tasks.

use std::collections::HashSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::Config;
use crate::domain::task::NewTask;
use crate::domain::video;
use crate::legacy::{LegacyError, LegacyTable, LegacyUrl, TableName};
use crate::stop::told;
use crate::store::StoreError;
use crate::supervise;

use super::error::CliError;
use super::queue::Queue;
use super::{progress, screen, store};

/// How often `--follow` looks for new rows.
const PAUSE: Duration = Duration::from_secs(1);

/// Ids that are remembered as told; beyond them some are told again.
const REMEMBERED: usize = 10_000;

/// From where to where.
#[derive(Args)]
#[command(after_long_help = "\
Every row becomes a task that is due at once; an id that is pending already is
not queued twice. Ids are taken byte by byte: A1 and a1 are two videos. An id
that names no video (empty, . or .., with /, \\ or a control character) is told
and left in place, and the exit code is 1.

Without --follow the rows stay, and the command may be repeated: what was done
meanwhile is queued again, which harms nothing, for its video is gone. With
--follow a row is removed once its task is durable, new rows are taken every
second while old writers are still about, and ctrl-c or SIGTERM ends it.

The password is best given by the environment: arguments can be seen by others.

Examples:
  export SWEEPD_LEGACY_URL=mysql://sweeper:PASSWORD@db.example/videos
  sweepd import-legacy --job video-clear
  sweepd import-legacy --job video-clear --follow")]
pub(super) struct ImportArgs {
    /// The old database: mysql://USER:PASSWORD@HOST:PORT/DATABASE
    // Not parsed here: a refused value would be shown, password and all.
    #[arg(long, value_name = "URL", env = "SWEEPD_LEGACY_URL", hide_env_values = true)]
    url: String,

    /// Its table, with the one column `video_id`
    #[arg(long, value_name = "NAME", default_value = "video_del_rec")]
    table: TableName,

    /// The job to queue for, as the configuration names it
    #[arg(long)]
    job: String,

    /// Go on taking new rows, and remove each once its task is durable
    #[arg(long)]
    follow: bool,
}

/// Without the URL, which has a password.
impl std::fmt::Debug for ImportArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImportArgs").field("table", &self.table).field("job", &self.job).finish_non_exhaustive()
    }
}

/// Imports.
pub(super) async fn import(config: Config, args: ImportArgs) -> Result<ExitCode, CliError> {
    let names = config.jobs.iter().map(|job| job.name.as_str());
    let job = config.jobs.iter().find(|job| job.name.as_str() == args.job);
    let Some(job) = job else { return Err(CliError::unknown_job(&args.job, names)) };
    let table = LegacyTable::open(&LegacyUrl::parse(&args.url)?, &args.table).await?;
    let bar = progress::of(if args.follow { None } else { Some(table.rows().await?) });

    let store = store::open(&config).await?;
    let id = store.register_job(&job.name).await?.id;
    let queue = Queue::new(Arc::clone(&store), id, bar);
    let mut import = Import { table, queue, follow: args.follow, told: HashSet::new(), removed: 0 };
    let imported = if args.follow { import.follow(stopped()?).await } else { import.pass(|| false).await };
    import.queue.bar.finish_and_clear();
    store.close().await;
    let removed = if args.follow { format!(", {} rows removed", import.removed) } else { String::new() };
    let told = screen::print(&format!("{}: {}{removed}", job.name, import.queue.counts));
    imported?;
    told?;
    Ok(if import.queue.counts.bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An import under way.
struct Import {
    table: LegacyTable,
    queue: Queue,
    follow: bool,
    /// Ids that name no video and were told.
    told: HashSet<String>,
    removed: u64,
}

impl Import {
    /// Takes all rows again and again until it is told to stop.
    async fn follow(&mut self, mut stop: watch::Receiver<bool>) -> Result<(), CliError> {
        loop {
            let flag = stop.clone();
            match self.pass(|| *flag.borrow()).await {
                Err(error) if passes(&error) => tracing::warn!("trying again: {error}"),
                passed => passed?,
            }
            tokio::select! {
                () = told(&mut stop) => return Ok(()),
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Takes all rows once, or some where it is to stop.
    async fn pass(&mut self, stop: impl Fn() -> bool) -> Result<(), CliError> {
        let mut after: Option<String> = None;
        while !stop() {
            let page = self.table.page(after.as_deref()).await?;
            let full = page.len() >= LegacyTable::PAGE;
            after = page.last().cloned();
            self.take(page).await?;
            if !full {
                break;
            }
        }
        Ok(())
    }

    async fn take(&mut self, page: Vec<String>) -> Result<(), CliError> {
        let (rows, mut taken) = (page.len(), Vec::with_capacity(page.len()));
        for id in page {
            match video::key_of(&id) {
                Some(key) => {
                    self.queue.push(NewTask::now(key)).await?;
                    taken.push(id);
                }
                None => self.leave(id),
            }
        }
        // From here on their tasks are durable.
        self.queue.flush().await?;
        if self.follow {
            self.removed += self.table.remove(&taken).await?;
        }
        self.queue.bar.inc(rows as u64);
        Ok(())
    }

    fn leave(&mut self, id: String) {
        if self.told.contains(&id) {
            return;
        }
        self.queue.wrong(&format!("`{id}` names no video: its row is left in place"));
        if self.told.len() < REMEMBERED {
            self.told.insert(id);
        }
    }
}

/// Whether the same may succeed later.
fn passes(error: &CliError) -> bool {
    matches!(
        error,
        CliError::Legacy(LegacyError::Unavailable { .. })
            | CliError::Store(StoreError::Unavailable(_) | StoreError::Busy(_) | StoreError::Unknown(_))
    )
}

/// Becomes true at ctrl-c or SIGTERM.
fn stopped() -> Result<watch::Receiver<bool>, CliError> {
    let failed = |error| CliError::Stream("installing signal handlers", error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let (sender, receiver) = watch::channel(false);
    // Where it panics, its end of the channel is dropped: that counts as a signal.
    supervise::attended("signals", async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        sender.send_replace(true);
        // Held, so that nobody takes its end for a signal.
        sender.closed().await;
    });
    Ok(receiver)
}
