//! `sweepd pause` and `sweepd resume`: on the queue itself; running hosts follow
//! at their next heartbeat.

use std::process::ExitCode;

use clap::Args;

use crate::config::Config;
use crate::domain::outcome::cut;

use super::error::CliError;
use super::{screen, store, words};

/// Which job, and why.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The job stays paused through restarts, on all nodes, until it is resumed. What is
queued waits.

Examples:
  sweepd pause video-clear --why 'the archive is being moved'")]
pub(super) struct PauseArgs {
    /// The job, as the configuration names it
    job: String,

    /// Why, for whoever asks
    #[arg(long, value_name = "TEXT", default_value = "by hand", hide_default_value = true)]
    why: String,
}

/// Which job.
#[derive(Debug, Args)]
#[command(after_long_help = "\
A job that paused itself because it asked for more than its budget pauses again
where it still does. With --once-over-budget its next sweep, and only that, may go
over; look first at what it would do.

Examples:
  sweepd resume video-clear
  sweepd resume video-clear --once-over-budget")]
pub(super) struct ResumeArgs {
    /// The job, as the configuration names it
    job: String,

    /// Let one sweep go over the budget
    #[arg(long)]
    once_over_budget: bool,
}

/// Pauses.
pub(super) async fn pause(config: Config, args: PauseArgs) -> Result<ExitCode, CliError> {
    let store = store::open(&config).await?;
    let why = cut(args.why);
    let done = async {
        let (id, spec) = words::job(&config, &*store, &args.job).await?;
        store.set_paused(id, Some(&why)).await?;
        Ok::<_, CliError>(spec)
    };
    let done = done.await;
    store.close().await;
    screen::print(&format!("{} is paused: {why}; {}", done?.name, words::heard(&config)))?;
    Ok(ExitCode::SUCCESS)
}

/// Resumes.
pub(super) async fn resume(config: Config, args: ResumeArgs) -> Result<ExitCode, CliError> {
    let store = store::open_existing(&config).await?;
    let done = async {
        let (id, spec) = words::job(&config, &*store, &args.job).await?;
        let paused = store.register_job(&spec.name).await?.paused;
        store.resume(id, args.once_over_budget).await?;
        Ok::<_, CliError>((spec, paused))
    };
    let done = done.await;
    store.close().await;
    let (spec, paused) = done?;
    let name = &spec.name;
    let was = match paused {
        Some(why) => format!("{name} is resumed; it was paused: {why}"),
        None => format!("{name} was not paused"),
    };
    let once = if args.once_over_budget { "; its next sweep may go over the budget" } else { "" };
    screen::print(&format!("{was}{once}; {}", words::heard(&config)))?;
    Ok(ExitCode::SUCCESS)
}
