//! `sweepd hold`: what no plugin of a job may touch. It works on the queue
//! itself; running hosts take it up at their next heartbeat.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::config::Config;
use crate::domain::hold::{HeldNow, Hold, HoldId, Pattern, PlacedHold};
use crate::domain::outcome::cut;
use crate::runner::{HostError, put_hold};
use crate::sandbox::held_now;
use crate::store::{At, HoldRemoved, NewHold, Store};

use super::error::CliError;
use super::screen::{self, Screen};
use super::words::{self, Moment, moment};
use super::{store, table};

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum HoldCommand {
    /// Hold files: no plugin of the job removes, moves or writes them
    Add(AddArgs),

    /// List the holds of a job
    List(ListArgs),

    /// End a hold
    Remove(RemoveArgs),
}

/// What is to be held.
#[derive(Debug, Args)]
#[command(after_long_help = "\
In a pattern * matches any characters but /, ? one of them, and ** any number of
folders; every other character means itself. It is matched against the path
within the mount, or, where it begins with /, the path on the machine. What
matches a folder holds all that is in it. A task that meets a hold is postponed
and says so. The answer says what the hold holds now, and warns if that is
nothing.

Examples:
  sweepd hold add video-clear '2024/**' --why 'legal: case 17'
  sweepd hold add video-clear '**/*.raw' --until 30d --why 'not archived yet'
  sweepd hold add video-clear /srv/videos/holiday.mp4 --why 'Ada asked'")]
pub(super) struct AddArgs {
    /// The job, as the configuration names it
    job: String,

    /// Which files, quoted, so that the shell leaves it as it is
    #[arg(value_parser = |text: &str| Pattern::new(text))]
    pattern: Pattern,

    /// Until then: RFC 3339, or how long from now (30d) [default: until it is removed]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Moment>,

    /// Why, for whoever asks
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    why: String,
}

/// Whose holds.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// The job, as the configuration names it
    job: String,

    /// Print one JSON object, as GET /v1/jobs/{job}/holds answers
    #[arg(long)]
    json: bool,
}

/// Which one.
#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    /// The job, as the configuration names it
    job: String,

    /// The hold's id, as `sweepd hold list` shows it
    #[arg(value_parser = words::number)]
    id: u64,
}

/// Does it.
pub(super) async fn hold(mut config: Config, command: HoldCommand) -> Result<ExitCode, CliError> {
    if let HoldCommand::Add(args) = &command
        && args.pattern.as_str().starts_with('/')
    {
        config.look(|job| job.name.as_str() == args.job);
    }
    let store = match command {
        // A hold may be there before the first file is.
        HoldCommand::Add(_) => store::open(&config).await?,
        _ => store::open_existing(&config).await?,
    };
    let done = match command {
        HoldCommand::Add(args) => add(&config, &*store, args).await,
        HoldCommand::List(args) => list(&config, &*store, args).await,
        HoldCommand::Remove(args) => remove(&config, &*store, args).await,
    };
    store.close().await;
    done
}

async fn add(config: &Config, store: &dyn Store, args: AddArgs) -> Result<ExitCode, CliError> {
    let (job, spec) = words::job(config, store, &args.job).await?;
    let until = match args.until {
        Some(until) => Some(until.after(store.now(At::Server).await?)?),
        None => None,
    };
    let hold = put_hold(store, spec, NewHold { job, pattern: args.pattern, until, why: cut(args.why) }).await;
    let hold = hold.map_err(|error| match error {
        HostError::Store(error) => CliError::Store(error),
        error => CliError::Refused(error.to_string()),
    })?;
    let until = hold.until.map_or_else(String::new, |until| format!(" until {until}"));
    let heard = words::heard(config);
    screen::print(&format!("{}: hold {} on {}{until}; {heard}", spec.name, hold.id, hold.pattern))?;
    let placed = PlacedHold::new(hold.clone(), held_now(spec, &hold.pattern).await);
    screen::print(&held(&placed.now))?;
    if let Some(warning) = placed.warning {
        super::logging::say(&format!("warning: {warning}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// What a hold holds, in words.
fn held(now: &HeldNow) -> String {
    let HeldNow { files, complete, example, error } = now;
    let at_least = if *complete { "" } else { "at least " };
    let files = if *files == 1 { "1 file".to_owned() } else { format!("{files} files") };
    let example = example.as_ref().map_or_else(String::new, |path| format!(", such as {path}"));
    let why = match (complete, error) {
        (true, _) => String::new(),
        (false, Some(error)) => format!(" (not all could be looked at: {error})"),
        (false, None) => " (there was no time to look at all)".to_owned(),
    };
    format!("it holds {at_least}{files} now{example}{why}")
}

async fn list(config: &Config, store: &dyn Store, args: ListArgs) -> Result<ExitCode, CliError> {
    let (job, _) = words::job(config, store, &args.job).await?;
    let holds = store.holds(job, At::Server).await?;
    if args.json {
        let mut out = Screen::stdout();
        out.pretty_json(&json!({ "holds": holds }))?;
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |hold: &Hold| {
        let until = hold.until.map_or_else(|| "-".to_owned(), |until| until.to_string());
        [hold.id.to_string(), hold.pattern.to_string(), hold.since.to_string(), until, hold.why.clone()]
    };
    table::print(["ID", "PATTERN", "SINCE", "UNTIL", "WHY"], &[0], holds.iter().map(row))?;
    Ok(ExitCode::SUCCESS)
}

async fn remove(config: &Config, store: &dyn Store, args: RemoveArgs) -> Result<ExitCode, CliError> {
    let (job, spec) = words::job(config, store, &args.job).await?;
    match store.remove_hold(job, HoldId(i64::try_from(args.id).unwrap_or(i64::MAX)), At::Server).await? {
        HoldRemoved::Removed(hold) => {
            let heard = words::heard(config);
            screen::print(&format!("{}: {} is held no more by {}; {heard}", spec.name, hold.pattern, hold.id))?;
            Ok(ExitCode::SUCCESS)
        }
        HoldRemoved::NotThere => Err(CliError::Refused(format!(
            "there is no hold {0} of {1}; see: sweepd hold list {1}",
            args.id, spec.name
        ))),
    }
}
