//! `sweepd tasks retry`, `cancel` and `bury`: by ids, or all that match.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{ArgGroup, Args};

use crate::config::Config;
use crate::domain::intervention::{Action, Intervened, Tally};
use crate::domain::outcome::cut;
use crate::domain::status::Backlog;
use crate::domain::task::{TaskId, TaskState};
use crate::store::{At, Intervene, InterveneAll, Progress, Store, StoreError, TaskFilter, intervene_page};

use super::super::{error::CliError, progress, screen, store, words};
use super::state;

/// Most ids in one transaction.
const PAGE: usize = 500;

/// Where counting by pages stops.
const COUNTED: u64 = 10_000;

/// Which tasks, and why.
#[derive(Debug, Args)]
#[command(after_long_help = "\
By filter, --state is dead for retry and pending for cancel and bury where it is
not given. More than one task is only taken with --yes, or when you agree at the
terminal. What was retried stays on record as what it was, so a second retry of
all that is dead queues it again.

Examples:
  sweepd tasks retry 17 18
  sweepd tasks retry --job video-clear --yes
  sweepd tasks cancel --job video-clear --state running --why 'wrong policy'
  sweepd tasks bury 17 --why 'the file is held by legal'")]
#[command(group(ArgGroup::new("which").required(true).args(["ids", "job"])))]
pub(in crate::cli) struct ByHandArgs {
    /// The tasks' ids
    #[arg(value_name = "ID", conflicts_with_all = ["job", "state"], value_parser = words::number)]
    ids: Vec<u64>,

    /// All tasks of this job
    #[arg(long)]
    job: Option<String>,

    /// In this state
    #[arg(long, requires = "job", value_parser = state)]
    state: Option<TaskState>,

    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "by hand", hide_default_value = true)]
    why: String,

    /// Do not ask, however many they are
    #[arg(long)]
    yes: bool,
}

/// Does it.
pub(super) async fn by_hand(config: Config, action: Action, args: ByHandArgs) -> Result<ExitCode, CliError> {
    let store = store::open_existing(&config).await?;
    let why = cut(args.why);
    let done = match &args.job {
        None => by_ids(&*store, action, &args.ids, &why).await.map(Some).map_err(CliError::Store),
        Some(name) => match words::job(&config, &*store, name).await {
            Err(error) => Err(error),
            Ok((job, _)) => {
                let state = args.state.unwrap_or_else(|| action.natural_state());
                by_filter(&*store, InterveneAll { action, job, state, why }, name, args.yes).await
            }
        },
    };
    store.close().await;
    let Some(Tally { applied, interrupting, refused, unknown }) = done? else {
        return Ok(ExitCode::FAILURE);
    };
    let mut text = format!("{action}: {applied} done");
    for (number, what) in
        [(interrupting, "to be interrupted"), (refused, "in a state that does not allow it"), (unknown, "unknown")]
    {
        if number > 0 {
            let _ = write!(text, ", {number} {what}");
        }
    }
    screen::print(&text)?;
    // What no longer matches a filter was not meant by it.
    let all = args.job.is_some() || refused + unknown == 0;
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn by_ids(store: &dyn Store, action: Action, ids: &[u64], why: &str) -> Result<Tally, StoreError> {
    let ids: Vec<_> = ids.iter().copied().map(TaskId).collect();
    let mut tally = Tally::default();
    for ids in ids.chunks(PAGE) {
        let ask = Intervene { action, ids: ids.to_vec(), why: why.to_owned() };
        for (id, intervened) in ids.iter().zip(store.intervene(ask, At::Server).await?) {
            tally.count(intervened);
            let told = match intervened {
                Intervened::Refused { state } => format!("task {id} is {state}: there is nothing to {action}"),
                Intervened::Unknown => format!("there is no task {id}"),
                Intervened::Applied { task } if task != *id => format!("task {id}: its key is queued as task {task}"),
                Intervened::Applied { .. } | Intervened::Interrupting => continue,
            };
            super::super::logging::say(&told);
        }
    }
    Ok(tally)
}

/// `None` where the person does not agree.
async fn by_filter(store: &dyn Store, ask: InterveneAll, name: &str, yes: bool) -> Result<Option<Tally>, CliError> {
    let InterveneAll { action, state, .. } = ask;
    if !action.states().any(|takes| takes == state) {
        let states: Vec<_> = action.states().map(TaskState::as_str).collect();
        let what = format!("to {action} tasks that are {state} makes no sense; --state is {}", states.join(" or "));
        return Err(CliError::Usage(what));
    }
    let (number, more) = count(store, &ask).await?;
    let what = format!("{number}{} {state} tasks of {name}", if more { " or more" } else { "" });
    if number > 1 && !yes && !words::agreed(action.as_str(), &what)? {
        return Ok(None);
    }
    let bar = progress::of(Some(number));
    bar.set_message(action.as_str());
    let mut tally = Tally::default();
    let mut place = Some(Progress::begin(store, None).await?);
    while let Some(progress) = place {
        let (page, next) = intervene_page(store, &ask, progress).await?;
        bar.inc(page.total());
        tally.add(page);
        place = next;
    }
    bar.finish_and_clear();
    Ok(Some(tally))
}

/// How many match, and whether counting stopped there.
async fn count(store: &dyn Store, ask: &InterveneAll) -> Result<(u64, bool), StoreError> {
    if ask.state != TaskState::Cancelled {
        let backlog = store.backlog(ask.job, At::Server).await?;
        let number = match ask.state {
            TaskState::Pending => backlog.pending,
            TaskState::Running => backlog.running,
            _ => backlog.dead,
        };
        return Ok((number, backlog.more && number >= Backlog::COUNTED));
    }
    let (mut number, mut after) = (0, None);
    while number < COUNTED {
        let limit = 500;
        let page = store.tasks(TaskFilter { job: Some(ask.job), state: Some(ask.state), after, limit }).await?;
        number += page.len() as u64;
        if page.len() < limit as usize {
            return Ok((number, false));
        }
        after = page.last().map(|task| task.id);
    }
    Ok((number, true))
}
