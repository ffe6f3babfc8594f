//! `sweepd trash`: what plugins removed and is still there. It works on the
//! queue and the mounts themselves, whether or not a host is running.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{ArgGroup, Args, Subcommand};

use crate::config::Config;
use crate::domain::effect::{EffectId, EffectView, Fate};
use crate::domain::task::TaskId;
use crate::runner::{TakenOut, Throttle, TrashAction, TrashOf, TrashPick, TrashResult};
use crate::store::{At, EffectFilter, SharedStore, Store};

use super::effects::{Pages, as_lines};
use super::error::CliError;
use super::words::{self, Moment, moment, prefix};
use super::{progress, screen, space, store, table};

/// How many are shown where --limit is not given.
const SHOWN: u64 = 100;
/// Where counting stops.
const COUNTED: usize = 10_000;

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum TrashCommand {
    /// List what is in the trash, latest first
    List(ListArgs),

    /// Put files back into their places; nothing is overwritten
    Restore(RestoreArgs),

    /// Remove files for good, as fast as the job's `purge_rate`
    Purge(PurgeArgs),
}

/// Which files.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  sweepd trash list video-clear --since 1h
  sweepd trash list --path /srv/videos/2024/ --json | jq -r .path")]
pub(super) struct ListArgs {
    /// Only of this job
    job: Option<String>,

    /// Only where the path on this machine begins so
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    path: Option<String>,

    /// Only what was removed at this time or later: RFC 3339, or how long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Moment>,

    /// At most so many
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,

    /// Print one JSON object a line, all of them
    #[arg(long)]
    json: bool,
}

/// Which files.
#[derive(Debug, Args)]
#[command(after_long_help = "\
A file goes back to the path at which it stood; folders that are gone are made
again. Where something stands there now, the file stays in the trash. Of several
that stood at one path the latest goes back.

Examples:
  sweepd trash restore video-clear 0123456789abcdef-42
  sweepd trash restore video-clear --since 2h
  sweepd trash restore video-clear --path /srv/videos/2024/ --since 2h
  sweepd trash restore video-clear --task 17
  sweepd trash restore video-clear --all")]
#[command(override_usage = "sweepd trash restore [OPTIONS] <JOB> <ID>...
       sweepd trash restore [OPTIONS] <JOB> <--all|--path <PREFIX>|--since <TIME>|--task <ID>>")]
#[command(group(ArgGroup::new("which").required(true).multiple(true).args(["ids", "all", "path", "since", "task"])))]
pub(super) struct RestoreArgs {
    /// The job, as the configuration names it
    job: String,

    /// The files' ids, as `sweepd trash list` shows them
    #[arg(value_name = "ID", conflicts_with_all = ["all", "path", "since", "task"])]
    ids: Vec<EffectId>,

    /// All that is in the job's trash
    #[arg(long, conflicts_with_all = ["path", "since", "task"])]
    all: bool,

    /// All whose path on this machine begins so
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    path: Option<String>,

    /// Only what was removed at this time or later: RFC 3339, or how long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Moment>,

    /// All that this task removed
    #[arg(long, value_name = "ID", value_parser = words::number)]
    task: Option<u64>,
}

/// Which files.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  sweepd trash purge video-clear 0123456789abcdef-42
  sweepd trash purge video-clear --older-than 12h
  sweepd trash purge video-clear --all --yes")]
#[command(override_usage = "sweepd trash purge [OPTIONS] <JOB> <ID>...
       sweepd trash purge [OPTIONS] <JOB> <--all|--older-than <DURATION>>")]
#[command(group(ArgGroup::new("which").required(true).args(["ids", "all", "older_than"])))]
pub(super) struct PurgeArgs {
    /// The job, as the configuration names it
    job: String,

    /// The files' ids, as `sweepd trash list` shows them
    #[arg(value_name = "ID", conflicts_with_all = ["all", "older_than"])]
    ids: Vec<EffectId>,

    /// All that is in the job's trash
    #[arg(long, conflicts_with = "older_than")]
    all: bool,

    /// All that was removed longer ago than this
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,

    /// Do not ask, however many they are
    #[arg(long)]
    yes: bool,
}

/// Does it.
pub(super) async fn trash(mut config: Config, command: TrashCommand) -> Result<ExitCode, CliError> {
    let touched = match &command {
        TrashCommand::List(_) => None,
        TrashCommand::Restore(args) => Some(&args.job),
        TrashCommand::Purge(args) => Some(&args.job),
    };
    config.look(|job| touched.is_some_and(|touched| touched == job.name.as_str()));
    let store = store::open_existing(&config).await?;
    let done = match command {
        TrashCommand::List(args) => list(&config, &*store, args).await,
        TrashCommand::Restore(args) => restore(&config, &store, args).await,
        TrashCommand::Purge(args) => purge(&config, &store, args).await,
    };
    store.close().await;
    done
}

async fn list(config: &Config, store: &dyn Store, args: ListArgs) -> Result<ExitCode, CliError> {
    let job = match &args.job {
        Some(name) => Some(words::job(config, store, name).await?.0),
        None => None,
    };
    let now = store.now(At::Server).await?;
    let since = args.since.map(|since| since.before(now));
    let filter = EffectFilter { job, since, path_prefix: args.path, fate: Some(Fate::Kept), ..EffectFilter::default() };
    if args.json {
        return as_lines(store, filter, args.limit.unwrap_or(u64::MAX)).await;
    }
    let limit = args.limit.unwrap_or(SHOWN);
    let (mut views, mut pages) = (Vec::new(), Pages::new(filter, limit));
    while let Some(page) = pages.next(store).await? {
        views.extend(page);
    }
    let row = |view: &EffectView| {
        let effect = &view.effect;
        let path = effect.full_path().to_string_lossy().into_owned();
        let (id, task) = (effect.id.to_string(), effect.task.to_string());
        [
            id,
            effect.at.to_string(),
            view.job_name.clone(),
            task,
            space::of(effect.size, effect.differing_allocation()),
            path,
        ]
    };
    table::print(["ID", "REMOVED", "JOB", "TASK", "SIZE", "PATH"], &[3, 4], views.iter().map(row))?;
    if views.len() as u64 == limit {
        super::logging::say("there may be more: --limit N, or --json for all");
    }
    Ok(ExitCode::SUCCESS)
}

async fn restore(config: &Config, store: &SharedStore, args: RestoreArgs) -> Result<ExitCode, CliError> {
    let of = of_job(config, store, &args.job).await?;
    let now = store.now(At::Server).await?;
    let since = args.since.map(|since| since.before(now));
    let pick = TrashPick { path: args.path, since, task: args.task.map(TaskId), before: None };
    take_out(&of, TrashAction::Restore, &args.ids, args.all, &pick).await
}

async fn purge(config: &Config, store: &SharedStore, args: PurgeArgs) -> Result<ExitCode, CliError> {
    let of = of_job(config, store, &args.job).await?;
    let now = store.now(At::Server).await?;
    let before = args.older_than.map(|age| Moment::Away(age).before(now));
    let pick = TrashPick { before, ..TrashPick::default() };
    if args.all && !args.yes {
        let (files, more) = count(&of, &pick).await?;
        let what = format!("{files}{} files in the trash of {}", if more { " or more" } else { "" }, args.job);
        if files > 0 && !words::agreed("purge", &what)? {
            return Ok(ExitCode::FAILURE);
        }
    }
    take_out(&of, TrashAction::Purge, &args.ids, args.all, &pick).await
}

async fn of_job(config: &Config, store: &SharedStore, name: &str) -> Result<TrashOf, CliError> {
    let (id, spec) = words::job(config, &**store, name).await?;
    Ok(TrashOf::new(Arc::clone(store), id, Arc::new(spec.clone())))
}

/// How many match, and whether counting stopped there.
async fn count(of: &TrashOf, pick: &TrashPick) -> Result<(usize, bool), CliError> {
    let (mut files, mut after) = (0, None);
    while files < COUNTED {
        let page = of.page(TrashAction::Purge, pick, after, 1000).await?;
        files += page.len();
        after = page.last().map(EffectView::place);
        if page.len() < 1000 {
            return Ok((files, false));
        }
    }
    Ok((files, true))
}

/// Takes out these, or all that match where none are named; all that there is
/// only where that was asked for.
async fn take_out(
    of: &TrashOf,
    action: TrashAction,
    ids: &[EffectId],
    all: bool,
    pick: &TrashPick,
) -> Result<ExitCode, CliError> {
    if ids.is_empty() && !all && *pick == TrashPick::default() {
        return Err(CliError::Usage("nothing is selected: name files, or say --all".to_owned()));
    }
    let (mut tally, mut later) = (Tally::default(), Vec::new());
    let mut throttle = of.throttle(None);
    let bar = progress::of(None);
    if ids.is_empty() {
        let (limit, mut after) = (of.at_once(), None);
        loop {
            let page = of.page(action, pick, after, u32::try_from(limit).unwrap_or(u32::MAX)).await?;
            let is_last = page.len() < limit;
            after = page.last().map(EffectView::place);
            throttle = take_out_some(of, action, page, throttle, &bar, &mut tally, &mut later).await?;
            if is_last {
                break;
            }
        }
    } else {
        let (found, not_there) = of.find(ids).await?;
        tally.count(&bar, &not_there);
        for files in found.chunks(of.at_once()) {
            throttle = take_out_some(of, action, files.to_vec(), throttle, &bar, &mut tally, &mut later).await?;
        }
    }
    // What takes long comes last, and goes on call by call.
    while !later.is_empty() {
        let files = std::mem::take(&mut later);
        throttle = take_out_some(of, action, files, throttle, &bar, &mut tally, &mut later).await?;
    }
    bar.finish_and_clear();
    tally.tell(action)
}

/// Takes these out, as far as they go in one call; the others are `later`.
async fn take_out_some(
    of: &TrashOf,
    action: TrashAction,
    files: Vec<EffectView>,
    throttle: Throttle,
    bar: &indicatif::ProgressBar,
    tally: &mut Tally,
    later: &mut Vec<EffectView>,
) -> Result<Throttle, CliError> {
    let (done, throttle) = of.take_out(action, files.clone(), throttle).await?;
    let (put_off, done): (Vec<_>, Vec<_>) = done.into_iter().partition(|one| one.result == TrashResult::Later);
    later.extend(files.into_iter().filter(|view| put_off.iter().any(|one| one.id == view.effect.id)));
    tally.count(bar, &done);
    tally.show(bar, &throttle);
    Ok(throttle)
}

/// How often it is said how far it is, where nobody sees a bar.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// What became of the files.
#[derive(Default)]
struct Tally {
    restored: u64,
    purged: u64,
    not_there: u64,
    refused: u64,
    /// When it was last said how far it is.
    said: Option<Instant>,
}

impl Tally {
    fn count(&mut self, bar: &indicatif::ProgressBar, done: &[TakenOut]) {
        for TakenOut { id, path, result, detail } in done {
            *match result {
                TrashResult::Restored => &mut self.restored,
                TrashResult::Purged => &mut self.purged,
                TrashResult::NotThere => &mut self.not_there,
                TrashResult::Refused | TrashResult::Later => &mut self.refused,
            } += 1;
            let what = path.as_ref().map_or_else(String::new, |path| format!(" ({})", path.display()));
            match (result, detail) {
                (_, Some(why)) => progress::tell(bar, &format!("{id}{what}: {why}")),
                (TrashResult::NotThere, None) => {
                    progress::tell(bar, &format!("{id} is not in the trash of this job"));
                }
                _ => {}
            }
        }
    }

    /// Shows how far it is, on the bar or, where there is none, in a line now and
    /// then.
    fn show(&mut self, bar: &indicatif::ProgressBar, throttle: &Throttle) {
        let given_back = match throttle.given_back() {
            0 => String::new(),
            bytes => format!(", {} given back", table::size(bytes)),
        };
        let done = format!("{} done{given_back}", self.restored + self.purged);
        if !bar.is_hidden() {
            return bar.set_message(done);
        }
        let said = self.said.get_or_insert_with(Instant::now);
        if said.elapsed() >= SAY_EVERY {
            *said = Instant::now();
            super::logging::say(&format!("going on: {done}"));
        }
    }

    /// A file that is not there was not restored; one that is purged twice is
    /// purged.
    fn tell(self, action: TrashAction) -> Result<ExitCode, CliError> {
        let Self { restored, purged, not_there, refused, .. } = self;
        let mut parts = match action {
            TrashAction::Restore => vec![format!("{restored} restored")],
            TrashAction::Purge => vec![format!("{purged} purged")],
        };
        let other = match action {
            TrashAction::Restore => (purged, "gone"),
            TrashAction::Purge => (restored, "restored meanwhile"),
        };
        for (number, what) in [other, (not_there, "not in the trash"), (refused, "refused")] {
            if number > 0 {
                parts.push(format!("{number} {what}"));
            }
        }
        screen::print(&parts.join(", "))?;
        Ok(if not_there + refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
