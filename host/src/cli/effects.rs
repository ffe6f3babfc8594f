//! `sweepd effects`: what plugins did to files.

use std::process::ExitCode;

use clap::Args;

use crate::config::Config;
use crate::domain::effect::{Effect, EffectPlace, EffectResult, EffectView, Fate, Operation};
use crate::domain::task::TaskId;
use crate::store::{At, EffectFilter, Store};

use super::error::CliError;
use super::screen::{self, Screen};
use super::words::{self, Moment, moment, prefix};
use super::{space, store, table};

/// How many are shown where --limit is not given.
const SHOWN: u64 = 100;
/// How many are read at a time.
const PAGE: u32 = 1000;

/// Which effects.
#[derive(Debug, Args)]
#[command(after_long_help = "\
An effect is one change that a plugin made to a file: it is on record before it is
made, and kept for database.effects. The table shows the latest 100; --json prints
all that match, latest first, one object a line.

Examples:
  sweepd effects --job video-clear --since 2h
  sweepd effects --path /srv/videos/2024/ --operation remove
  sweepd effects --since 2026-01-01T00:00:00Z --json > audit.ndjson")]
pub(super) struct EffectsArgs {
    /// Only of this job
    #[arg(long)]
    job: Option<String>,

    /// Only of this task
    #[arg(long, value_name = "ID", value_parser = words::number)]
    task: Option<u64>,

    /// Only at this time or later: RFC 3339, or how long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Moment>,

    /// Only before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Moment>,

    /// Only where the path on this machine, or the new one, begins so
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    path: Option<String>,

    /// Only these: remove, remove-folder, rename, create, create-folder, link, write, truncate, set-times
    #[arg(long, value_parser = str::parse::<Operation>)]
    operation: Option<Operation>,

    /// At most so many
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,

    /// Print one JSON object a line, all of them
    #[arg(long)]
    json: bool,
}

/// Lists them.
pub(super) async fn effects(config: Config, args: EffectsArgs) -> Result<ExitCode, CliError> {
    let store = store::open_existing(&config).await?;
    let listed = list(&config, &*store, args).await;
    store.close().await;
    listed
}

async fn list(config: &Config, store: &dyn Store, args: EffectsArgs) -> Result<ExitCode, CliError> {
    let job = match &args.job {
        Some(name) => Some(words::job(config, store, name).await?.0),
        None => None,
    };
    let now = store.now(At::Server).await?;
    let filter = EffectFilter {
        job,
        task: args.task.map(TaskId),
        since: args.since.map(|since| since.before(now)),
        until: args.until.map(|until| until.before(now)),
        path_prefix: args.path,
        operation: args.operation,
        ..EffectFilter::default()
    };
    if args.json {
        return as_lines(store, filter, args.limit.unwrap_or(u64::MAX)).await;
    }
    let limit = args.limit.unwrap_or(SHOWN);
    let (mut views, mut pages) = (Vec::new(), Pages::new(filter, limit));
    while let Some(page) = pages.next(store).await? {
        views.extend(page);
    }
    let headers = ["TIME", "JOB", "TASK", "OPERATION", "SIZE", "RESULT", "PATH"];
    table::print(headers, &[2, 4], views.iter().map(row))?;
    if views.len() as u64 == limit {
        super::logging::say("there may be more: --limit N, or --json for all");
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints all that match, one object a line.
pub(super) async fn as_lines(store: &dyn Store, filter: EffectFilter, limit: u64) -> Result<ExitCode, CliError> {
    let mut pages = Pages::new(filter, limit);
    let (mut out, is_watched) = (Screen::stdout(), screen::is_terminal());
    while let Some(page) = pages.next(store).await? {
        for view in &page {
            out.json(view)?;
        }
        if is_watched {
            out.flush()?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// All that match, page by page.
pub(super) struct Pages {
    filter: EffectFilter,
    left: u64,
}

impl Pages {
    /// At most `limit` of them together.
    pub(super) fn new(filter: EffectFilter, limit: u64) -> Self {
        Self { filter, left: limit }
    }

    /// The next page, if there is one.
    pub(super) async fn next(&mut self, store: &dyn Store) -> Result<Option<Vec<EffectView>>, CliError> {
        let limit = PAGE.min(u32::try_from(self.left).unwrap_or(PAGE));
        if limit == 0 {
            return Ok(None);
        }
        let page = store.effects(EffectFilter { limit, ..self.filter.clone() }).await?;
        self.left = if page.len() < limit as usize { 0 } else { self.left - u64::from(limit) };
        self.filter.after = page.last().map(EffectView::place).map(|EffectPlace(at, id)| (at, id));
        Ok(Some(page).filter(|page| !page.is_empty()))
    }
}

fn row(view: &EffectView) -> [String; 7] {
    let effect = &view.effect;
    let path = effect.full_path().display().to_string();
    let path = match effect.full_to() {
        Some(to) => format!("{path} -> {}", to.display()),
        None => path,
    };
    [
        effect.at.to_string(),
        view.job_name.clone(),
        effect.task.to_string(),
        operation(effect),
        space::of(effect.size, effect.differing_allocation()),
        result(view),
        path,
    ]
}

/// What was done, and how often.
fn operation(effect: &Effect) -> String {
    match effect.times {
        1 => effect.operation.to_string(),
        times => format!("{} x{times}", effect.operation),
    }
}

/// How it ended, and what became of the file since.
fn result(view: &EffectView) -> String {
    let result = match &view.effect.result {
        EffectResult::Failed(error) => return format!("failed: {error}"),
        result => result.name(),
    };
    match view.fate {
        None => result.to_owned(),
        Some(Fate::Kept) => format!("{result}, in the trash"),
        Some(Fate::Restored) => format!("{result}, restored"),
        Some(Fate::Purged) => format!("{result}, purged"),
    }
}
